"""What programs contain, sent to another process: an Executor runs nothing here."""

import collections
import dataclasses
import enum
import functools
import os
import sys

import scoop


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


@dataclasses.dataclass(frozen=True)
class Point:
    x: int
    y: int = 0

    def norm(self):
        return self.x * self.x + self.y * self.y


Pair = collections.namedtuple("Pair", "left right")


class Odd(Exception):
    def __init__(self, code, *, why):
        super().__init__(f"{code}: {why}")
        self.code = code
        self.why = why


class Adder:
    def __init__(self, n):
        self.n = n

    def __call__(self, x):
        return self.n + x

    def add(self, x):
        return self.n + x

    @classmethod
    def make(cls, n):
        return cls(n)

    @staticmethod
    def twice(x):
        return 2 * x


def swap(pair):
    return Pair(pair.right, pair.left)


def other(colour):
    return Colour.BLUE if colour is Colour.RED else Colour.RED


def fail(code):
    raise Odd(code, why="it must")


def gcd(a, b):
    return a if b == 0 else gcd(b, a % b)


def where():
    return os.getpid()


def main():
    factor = 7

    def scale(x):
        return factor * x

    class Local:
        def __init__(self, v):
            self.v = v

    with scoop.Executor(2) as ex:
        assert ex.submit(where).result() != os.getpid()
        assert ex.submit(lambda x: x + 1, 1).result() == 2
        assert ex.submit(scale, 6).result() == 42
        factor = 8
        assert ex.submit(scale, 6).result() == 48
        assert ex.submit(functools.partial(gcd, 12), 18).result() == 6
        assert ex.submit(other, Colour.RED).result() is Colour.BLUE
        assert ex.submit(Point, 3, y=4).result() == Point(3, 4)
        assert ex.submit(Point(3, 4).norm).result() == 25
        swapped = ex.submit(swap, Pair(1, 2)).result()
        assert swapped == Pair(2, 1)
        assert type(swapped) is Pair
        assert ex.submit(Adder(5), 1).result() == 6
        assert ex.submit(Adder(5).add, 1).result() == 6
        assert ex.submit(Adder.make, 4).result().n == 4
        assert ex.submit(Adder.twice, 4).result() == 8
        assert ex.submit(Local, 3).result().v == 3
        error = ex.submit(fail, 17).exception()
        assert type(error) is Odd, repr(error)
        assert (error.code, error.why) == (17, "it must")
        assert "fail" in str(error.__cause__)
        assert sorted(f.result() for f in [ex.submit(abs, x) for x in (i - 3 for i in range(5))]) == [
            0,
            1,
            1,
            2,
            3,
        ]
    print("ok", *sys.argv[1:])


if __name__ == "__main__":
    main()
