"""Run as `-m pkg.inside`: imports its neighbour relatively, also inside a task."""

import os
import sys

from scoop import futures

from .near import shift


def task(x):
    from . import near

    return near.shift(x), os.getpid()


if __name__ == "__main__":
    answers = [f.result() for f in [futures.submit(task, x) for x in range(200)]]
    assert [value for value, _ in answers] == [shift(x) for x in range(200)]
    print(__package__, __spec__.name, sys.argv[1:])
