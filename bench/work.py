"""The tasks of all benchmarks: small, importable, free of imports that would weigh on a worker."""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Callable
from typing import Any


def nothing() -> None:
    """A call that does nothing at all."""


def whoami() -> int:
    """The no-op: its result tells which process ran it."""
    return os.getpid()


_place = 0


def place() -> int:
    """:func:`whoami` on several hosts, whose process ids may be the same."""
    global _place
    if not _place:
        _place = zlib.crc32(os.uname().nodename.encode()) << 32 | os.getpid()
    return _place


def whoami_of(_item: object) -> int:
    """The no-op for ``map``."""
    return os.getpid()


def nap(seconds: float) -> int:
    """Sleep, so that a warm-up reaches every worker."""
    time.sleep(seconds)
    return os.getpid()


def nap_there(seconds: float) -> int:
    """:func:`nap` on several hosts."""
    time.sleep(seconds)
    return place()


def burn(loops: int) -> int:
    """Burn a fixed amount of work, not of time: what others take of the CPU shows as time lost."""
    for _ in range(loops):
        pass
    return os.getpid()


def throws(tries: int) -> tuple[int, int]:
    """Random points in the unit square that fall into the quarter circle, and the process that threw them."""
    from math import hypot
    from random import random

    return sum(hypot(random(), random()) < 1 for _ in range(tries)), os.getpid()


def throws_of(item: tuple[int, int]) -> tuple[int, int]:
    """:func:`throws` for ``map``: the item is (number of the task, tries)."""
    return throws(item[1])


def echo(data: Any) -> tuple[int, Any]:
    """Give the argument back."""
    return os.getpid(), data


def length(data: Any) -> tuple[int, int]:
    """Take a large argument, return a small result."""
    return os.getpid(), len(data)


def shared_length(name: str) -> tuple[int, int]:
    """The same for a value that was shared before."""
    from scoop import shared

    return os.getpid(), len(shared.getConst(name, timeout=30.0))


def fresh(value: int) -> Callable[[], int]:
    """A new function at each call: it cannot be pickled by name and captures its own value."""
    return lambda: value


def calibrate(seconds: float = 0.02, rounds: int = 15) -> float:
    """Loops of :func:`burn` in a millisecond of CPU time: the fastest round, which had the core alone."""
    loops = 100_000
    while _cpu_of(loops) < seconds:
        loops *= 2
    return loops / (min(_cpu_of(loops) for _ in range(rounds)) * 1000)


def _cpu_of(loops: int) -> float:
    begin = time.thread_time()
    burn(loops)
    return time.thread_time() - begin
