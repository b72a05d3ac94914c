"""Estimates pi by throwing darts: on all workers, then on one core for comparison.

The answer depends on the seed alone, not on the number of workers: `scoop.rng()` gives every task a random
generator of its own, derived from the seed and from the place of the task in the program.

    python examples/pi.py
    scoop-run -n 4 examples/pi.py --tries 100000000
"""

import argparse
import time

import scoop
from scoop import futures


def throw(darts):
    """Throw darts at the unit square and count those that hit the quarter circle."""
    random = scoop.rng().random
    return sum(random() ** 2 + random() ** 2 < 1.0 for _ in range(darts))


def estimate(mapper, tasks, darts):
    """Return pi and the seconds it took, with the `map` that is given."""
    start = time.perf_counter()
    hits = sum(mapper(throw, [darts] * tasks))
    return 4.0 * hits / (tasks * darts), time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description="Monte Carlo estimate of pi")
    parser.add_argument("--tries", type=int, default=20_000_000, help="darts in all (default: %(default)s)")
    parser.add_argument("--tasks", type=int, default=1_000, help="calls of throw() (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=42, help="of all random numbers (default: %(default)s)")
    options = parser.parse_args()
    darts = max(1, options.tries // options.tasks)

    scoop.configure(seed=options.seed)
    pi, parallel_s = estimate(futures.map, options.tasks, darts)
    _, serial_s = estimate(map, options.tasks, darts)

    print(f"pi is about {pi:.6f}, from {options.tasks * darts:,} darts in {options.tasks:,} tasks")
    print(f"{scoop.SIZE} workers {parallel_s:7.2f} s")
    print(f"serial    {serial_s:7.2f} s")
    print(f"speed-up  {serial_s / parallel_s:7.2f}")


if __name__ == "__main__":
    main()
