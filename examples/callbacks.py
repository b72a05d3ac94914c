"""Three ways to hear of results as they come: a callback, `as_completed`, and `wait` for the first."""

import argparse
import threading

from scoop import futures


def steps_to_one(number):
    """Return how many steps the Collatz sequence takes from a number down to 1."""
    steps = 0
    while number != 1:
        number = 3 * number + 1 if number % 2 else number // 2
        steps += 1
    return steps


def longest(start, stop):
    """Return the longest sequence in a range, and where it starts."""
    return max((steps_to_one(number), number) for number in range(start, stop))


def main():
    parser = argparse.ArgumentParser(description="longest Collatz sequence below a limit")
    parser.add_argument("--limit", type=int, default=300_000, help="(default: %(default)s)")
    parser.add_argument("--tasks", type=int, default=30, help="(default: %(default)s)")
    options = parser.parse_args()
    size = -(-options.limit // options.tasks)
    ranges = [(max(1, low), min(low + size, options.limit)) for low in range(0, options.limit, size)]

    # A callback is called once, in this process, in whichever thread learns of the result.
    finished, lock = [], threading.Lock()

    def note(future):
        with lock:
            finished.append(future.result())

    calls = [futures.submit(longest, low, high) for low, high in ranges]
    for call in calls:
        call.add_done_callback(note)

    first = futures.wait(calls, return_when=futures.FIRST_COMPLETED)
    print(f"{len(first.done)} of {len(calls)} ranges were done when wait() returned")

    best = (0, 0)
    for call in futures.as_completed(calls):
        if call.result() > best:
            best = call.result()
            print(f"so far: {best[0]} steps from {best[1]:,}")

    futures.wait(calls)
    assert max(finished) == best
    print(f"the longest sequence below {options.limit:,} has {best[0]} steps and starts at {best[1]:,}")


if __name__ == "__main__":
    main()
