"""Looks for a short round trip through many cities; the map is shared with all workers once.

`shared.set_const` sends a value to every process of the job, also to those that start later. A task then
carries one small number, the city to start from, instead of the whole map.
"""

import argparse
import random
from math import dist

from scoop import futures, shared


def round_trip(first):
    """Always go to the nearest city not seen yet; return the length of the trip, and where it began."""
    cities = shared.get_const("cities")
    left = set(range(len(cities))) - {first}
    here, length = first, 0.0
    while left:
        nearest = min(left, key=lambda city: dist(cities[here], cities[city]))
        length += dist(cities[here], cities[nearest])
        left.remove(nearest)
        here = nearest
    return length + dist(cities[here], cities[first]), first


def main():
    parser = argparse.ArgumentParser(description="nearest-neighbour round trips from every city")
    parser.add_argument("--cities", type=int, default=200, help="how many there are (default: %(default)s)")
    options = parser.parse_args()

    chance = random.Random(1)
    shared.set_const(cities=[(chance.random(), chance.random()) for _ in range(options.cities)])

    trips = list(futures.map(round_trip, range(options.cities)))
    shortest, best = min(trips)
    longest, worst = max(trips)
    print(f"{options.cities} cities, a round trip from each")
    print(f"shortest {shortest:.3f} from city {best}, longest {longest:.3f} from city {worst}")


if __name__ == "__main__":
    main()
