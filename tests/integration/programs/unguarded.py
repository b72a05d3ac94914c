"""No guard around the calls: the workers do not run the program."""

import argparse

from scoop import futures

parser = argparse.ArgumentParser()
parser.add_argument("--count", type=int, required=True)
parser.add_argument("-n", action="store_true")
given = parser.parse_args()


def square(x):
    return x * x


print("once", sum(f.result() for f in [futures.submit(square, x) for x in range(given.count)]), given.n)
