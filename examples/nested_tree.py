"""Integrates a difficult function: a task halves its interval and submits the halves, as deep as needed.

Nobody knows beforehand where the function is difficult, so the tree of tasks grows as it is computed. Tasks
wait for their children; a worker that waits runs other tasks meanwhile, so a single worker never gets stuck.
"""

import argparse
import math

from scoop import futures


def wiggle(x):
    """Oscillates faster and faster towards zero."""
    return math.sin(1.0 / x)


def simpson(a, b):
    """Simpson's rule on one interval."""
    return (b - a) / 6.0 * (wiggle(a) + 4.0 * wiggle((a + b) / 2.0) + wiggle(b))


def integrate(a, b, tolerance):
    """Return the integral, and how many tasks and levels it took."""
    middle = (a + b) / 2.0
    coarse, left, right = simpson(a, b), simpson(a, middle), simpson(middle, b)
    error = left + right - coarse
    if abs(error) <= 15.0 * tolerance:
        return left + right + error / 15.0, 1, 1

    halves = [
        futures.submit(integrate, a, middle, tolerance / 2.0),
        futures.submit(integrate, middle, b, tolerance / 2.0),
    ]
    values, tasks, levels = zip(*[half.result() for half in halves], strict=True)
    return sum(values), 1 + sum(tasks), 1 + max(levels)


def main():
    parser = argparse.ArgumentParser(description="adaptive integration of sin(1/x)")
    parser.add_argument("--start", type=float, default=0.001, help="left end, above 0 (default: %(default)s)")
    parser.add_argument("--tolerance", type=float, default=1e-9, help="error allowed (default: %(default)s)")
    options = parser.parse_args()

    value, tasks, levels = futures.submit(integrate, options.start, 1.0, options.tolerance).result()
    print(f"the integral of sin(1/x) from {options.start:g} to 1 is {value:.8f}")
    print(f"{tasks:,} tasks, {levels} levels deep")


if __name__ == "__main__":
    main()
