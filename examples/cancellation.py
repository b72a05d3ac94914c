"""Searches in parallel, takes the first hit, and calls off what has not started.

The puzzle: find a number that, written after a text, gives a SHA-256 that begins with zeros. Tasks that are
queued, here or elsewhere, can be cancelled; a task that has begun runs to its end.
"""

import argparse
import hashlib

from scoop import futures


def search(text, zeros, start, stop):
    """Return the first number in the range that solves the puzzle, or None."""
    target = "0" * zeros
    for number in range(start, stop):
        if hashlib.sha256(f"{text}{number}".encode()).hexdigest().startswith(target):
            return number
    return None


def main():
    parser = argparse.ArgumentParser(description="the first solution of a hash puzzle")
    parser.add_argument("--text", default="scoop", help="(default: %(default)s)")
    parser.add_argument("--zeros", type=int, default=4, help="leading zero digits (default: %(default)s)")
    parser.add_argument("--tasks", type=int, default=400, help="(default: %(default)s)")
    parser.add_argument("--numbers", type=int, default=10_000, help="tried by a task (default: %(default)s)")
    options = parser.parse_args()

    calls = [
        futures.submit(search, options.text, options.zeros, i * options.numbers, (i + 1) * options.numbers)
        for i in range(options.tasks)
    ]
    hits = (call.result() for call in futures.as_completed(calls) if call.result() is not None)
    number = next(hits, None)
    cancelled = sum(call.cancel() for call in calls)

    if number is None:
        print("no solution in the range that was searched")
        return
    digest = hashlib.sha256(f"{options.text}{number}".encode()).hexdigest()
    print(f"sha256({options.text}{number}) = {digest[:24]}...")
    print(f"{cancelled} of {len(calls)} tasks were called off")


if __name__ == "__main__":
    main()
