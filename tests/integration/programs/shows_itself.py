"""Prints what a program sees of itself."""

import json
import sys

import neighbour

from scoop import futures


def square(x):
    return x * x


def who():
    return __name__


if __name__ == "__main__":
    assert sys.modules["__main__"].square is square
    seen = {
        "argv": sys.argv[1:],
        "argv0": sys.argv[0],
        "path0": sys.path[0],
        "file": __file__,
        "spec": repr(__spec__),
        "package": repr(__package__),
        "doc": __doc__,
        "squares": [f.result() for f in [futures.submit(square, x) for x in range(5)]],
        "triple": futures.submit(neighbour.triple, 2).result(),
        "name": futures.submit(who).result(),
    }
    print(json.dumps(seen))
