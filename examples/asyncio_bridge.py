"""Calls of scoop in an asyncio program: `asyncio.wrap_future` makes them awaitable.

While the tasks compute in other processes the event loop stays free for everything else, here for a clock.
"""

import argparse
import asyncio

from scoop import futures


def largest_prime_factor(number):
    """Divide until nothing is left to divide."""
    factor = 2
    while factor * factor <= number:
        if number % factor:
            factor += 1
        else:
            number //= factor
    return number


async def clock(period_s):
    """Count how often the event loop came by."""
    ticks = 0
    try:
        while True:
            await asyncio.sleep(period_s)
            ticks += 1
    except asyncio.CancelledError:
        return ticks


async def main():
    parser = argparse.ArgumentParser(description="scoop and asyncio")
    parser.add_argument("--numbers", type=int, default=12, help="to factorize (default: %(default)s)")
    parser.add_argument("--size", type=int, default=10**12, help="of the numbers (default: %(default)s)")
    options = parser.parse_args()

    ticking = asyncio.create_task(clock(0.01))
    numbers = range(options.size, options.size + options.numbers)
    calls = [asyncio.wrap_future(futures.submit(largest_prime_factor, number)) for number in numbers]
    factors = await asyncio.gather(*calls)
    ticking.cancel()

    for number, factor in zip(numbers, factors, strict=True):
        print(f"largest prime factor of {number}: {factor}")
    print(f"the event loop ticked {await ticking} times meanwhile")


if __name__ == "__main__":
    asyncio.run(main())
