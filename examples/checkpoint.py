"""Counts primes in blocks, and keeps what is done: interrupted, it continues with the block where it was.

Press Ctrl-C, kill it with `kill -9`, or let it stop by itself, and start it again. Change the function
`primes`, and it computes everything anew and says so. Remove the directory `kept` to begin from the start.

    python examples/checkpoint.py --stop-after 50
    python examples/checkpoint.py
    scoop-run --checkpoint kept-by-scoop-run examples/pi.py     # every map of a program, without changing it
"""

import argparse
import time
from itertools import islice

from scoop import futures


def primes(start, stop):
    """Return how many primes there are from `start` to `stop`, and when that was found out."""
    count = 0
    for number in range(max(start, 2), stop):
        divisor = 2
        while divisor * divisor <= number and number % divisor:
            divisor += 1
        count += divisor * divisor > number
    return count, time.time()


def main():
    parser = argparse.ArgumentParser(description="A computation that can be interrupted and continued")
    parser.add_argument("--blocks", type=int, default=200, help="default: %(default)s")
    parser.add_argument("--size", type=int, default=2_000, help="numbers in a block (default: %(default)s)")
    parser.add_argument("--stop-after", type=int, help="stop after so many blocks")
    parser.add_argument("--file", default="kept/primes.ckpt", help="default: %(default)s")
    options = parser.parse_args()

    began = time.time()
    starts = range(0, options.blocks * options.size, options.size)
    stops = [start + options.size for start in starts]
    results = futures.map(primes, starts, stops, checkpoint=options.file)
    found = list(islice(results, options.stop_after))
    results.close()  # writes what has been computed

    there = sum(when < began for _, when in found)
    print(f"{len(found)} blocks, {there} of them were there already")
    if len(found) == options.blocks:
        print(f"{sum(count for count, _ in found):,} primes below {stops[-1]:,}")
    else:
        print("stopped: start it again without --stop-after")


if __name__ == "__main__":
    main()
