"""The generators behind the maps: they take the pieces that a `Carver` submits."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from typing import Any

from scoop import pickling
from scoop.carver import Carver, carve_rest
from scoop.joins import Finishers

__all__ = ["carve_rest", "run_map", "run_map_as_completed"]


def check_limits(chunksize: int | None, buffersize: int | None) -> None:
    """Raise TypeError or ValueError unless both are None or positive integers."""
    for name, value in (("chunksize", chunksize), ("buffersize", buffersize)):
        if value is not None and not isinstance(value, int):
            raise TypeError(f"{name} must be an integer or None")
        if value is not None and value < 1:
            raise ValueError(f"{name} must be None or >= 1")


def run_map(
    source: Any,
    fn: Callable[..., Any],
    iterables: tuple[Iterable[Any], ...],
    timeout: float | None,
    chunksize: int | None,
    buffersize: int | None,
    *,
    eager: bool,
    carver: Callable[..., Carver] = Carver,
) -> Generator[Any, None, None]:
    """Start a map and return the generator of its results.

    Args:
        source: the session, or a pool that has it as `session`.
        fn, iterables, timeout, chunksize, buffersize: as of `scoop.futures.map`.
        eager: as of `concurrent.futures`: all items are collected now, and a generator that is thrown away
            before it was begun cancels nothing.
        carver: makes the carver, with the arguments of `Carver`.
    """
    check_limits(chunksize, buffersize)
    deadline = None if timeout is None else time.monotonic() + timeout
    body = _in_order if buffersize is None else _in_buffer
    results = body(carver(source, fn, iterables, chunksize, buffersize, eager), deadline, not eager)
    if not eager:
        next(results)  # only a generator that has begun notices that it is closed or thrown away
    return results


def _in_order(carver: Carver, deadline: float | None, begin: bool) -> Generator[Any, None, None]:
    piece = None
    try:
        if begin:
            yield None
        while (piece := carver.take(deadline)) is not None:
            yield from piece[0]
            if piece[1] is not None:
                raise piece[1]
    finally:
        piece = None
        carver.cancel()


def _in_buffer(carver: Carver, deadline: float | None, begin: bool) -> Generator[Any, None, None]:
    # The same, but each item makes room for another one.
    piece = None
    try:
        if begin:
            yield None
        while (piece := carver.take(deadline)) is not None:
            for value in piece[0]:
                carver.outstanding -= 1
                if carver.more:
                    carver.carve()
                yield value
            if piece[1] is not None:
                raise piece[1]
    finally:
        piece = None
        carver.cancel()


def run_map_as_completed(
    source: Any,
    fn: Callable[..., Any],
    iterables: tuple[Iterable[Any], ...],
    timeout: float | None,
    carver: Callable[..., Carver] = Carver,
) -> Generator[Any, None, None]:
    """Start a map and return the generator of its results in the order in which they come."""
    deadline = None if timeout is None else time.monotonic() + timeout
    results = _as_they_come(carver(source, fn, iterables, None, None, False), deadline)
    next(results)
    return results


def _as_they_come(carver: Carver, deadline: float | None) -> Generator[Any, None, None]:
    finishers = Finishers(carver.session)
    known: dict[Future[Any], tuple[int, int]] = {}
    error: Any = None
    try:
        yield None
        while finishers or carver.refill():
            if carver.more:
                carver.carve()
            while carver.pending:
                index, size, future = carver.pending.popleft()
                known[future] = index, size
                finishers.watch(future)
            future = finishers.next(deadline)
            index, size = known.pop(future)
            values, error = carver.open(index, future)
            carver.took(index, size, future)
            del future
            yield from values
            if error is not None:
                raise pickling.loads_exception(error) if type(error) is bytes else error
        if carver.error is not None:
            raise carver.error
    finally:
        error = None
        carver.cancel(known)
