"""Merge sort with nested futures: sort the left half elsewhere, the right half here, merge.

For numbers in memory `sorted` alone is faster, and the program says so: moving data costs more than comparing
it. This is the shape of every divide-and-conquer algorithm, and it pays as soon as the leaves have real work.
"""

import argparse
import heapq
import random
import time

from scoop import futures


def merge_sort(items, leaf):
    """Return the items in order; pieces of at most `leaf` items are sorted as they are."""
    if len(items) <= leaf:
        return sorted(items)
    middle = len(items) // 2
    left = futures.submit(merge_sort, items[:middle], leaf)
    right = merge_sort(items[middle:], leaf)
    return list(heapq.merge(left.result(), right))


def main():
    parser = argparse.ArgumentParser(description="parallel merge sort")
    parser.add_argument("--items", type=int, default=400_000, help="numbers to sort (default: %(default)s)")
    parser.add_argument("--leaf", type=int, default=50_000, help="piece not divided (default: %(default)s)")
    options = parser.parse_args()
    items = random.Random(7).choices(range(options.items), k=options.items)

    start = time.perf_counter()
    ordered = merge_sort(items, options.leaf)
    parallel_s = time.perf_counter() - start

    start = time.perf_counter()
    expected = sorted(items)
    serial_s = time.perf_counter() - start

    assert ordered == expected
    print(f"{options.items:,} numbers in order: merge sort {parallel_s:.2f} s, sorted() {serial_s:.2f} s")


if __name__ == "__main__":
    main()
