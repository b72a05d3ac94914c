"""Counts the words of the Python language reference with `map_reduce`.

The text ships with Python: it is what `help("for")` shows. Every topic is counted for itself, and the counts
are added in a tree, by the workers too.
"""

import argparse
import operator
import re
from collections import Counter
from pathlib import Path

from scoop import futures


def count_words(text):
    """Return how often each word occurs in a text."""
    return Counter(re.findall(r"[a-z]+(?:'[a-z]+)?", text.lower()))


def read_texts(paths):
    """Return the texts to count: the files given, otherwise the topics of Python's own documentation."""
    if paths:
        return [path.read_text(encoding="utf-8", errors="replace") for path in paths]
    from pydoc_data.topics import topics

    return list(topics.values())


def main():
    parser = argparse.ArgumentParser(description="the most frequent words of some texts")
    parser.add_argument("files", nargs="*", type=Path, help="text files (default: Python's documentation)")
    parser.add_argument("--top", type=int, default=10, help="how many words to show (default: %(default)s)")
    options = parser.parse_args()

    texts = read_texts(options.files)
    counts = futures.map_reduce(count_words, operator.add, texts)

    print(f"{counts.total():,} words in {len(texts)} texts, {len(counts):,} of them different")
    for word, count in counts.most_common(options.top):
        print(f"{count:7,}  {word}")


if __name__ == "__main__":
    main()
