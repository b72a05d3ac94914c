"""A program for processes that are started by hand: an answer, and who has worked for it."""

import os
import time

import scoop
from scoop import futures


def square(x):
    time.sleep(0.002)
    return x * x, os.getpid()


def tree(depth):
    if depth == 0:
        return 1
    left, right = (futures.submit(tree, depth - 1) for _ in range(2))
    return left.result() + right.result()


def main():
    scoop.shared.setConst(shift=1000)
    answers = list(futures.map(square, range(400)))
    assert [value for value, _ in answers] == [x * x for x in range(400)]
    assert list(futures.map(lambda x: x + scoop.shared.getConst("shift"), range(3))) == [1000, 1001, 1002]
    assert futures.submit(tree, 8).result() == 256
    assert not {"IS_ORIGIN", "BROKER_ADDRESS", "SCOOP_BROKER_ADDRESS"} & set(os.environ)
    print("ok", os.getpid(), *sorted({pid for _, pid in answers}))


if __name__ == "__main__":
    futures.startup(main)
