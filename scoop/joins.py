"""Waiting for several futures at once, in a way that lets the waiting thread work.

`concurrent.futures.wait` and `as_completed` know nothing of scoop and block their thread. The functions
here do the same for futures of scoop, but the thread runs queued calls meanwhile. With a time limit they
leave it to the standard library, for a thread that has to be back in time must not begin anything.
"""

from __future__ import annotations

import concurrent.futures as _cf
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures._base import DoneAndNotDoneFutures
from typing import Any, TypeVar

from scoop._core.future import CallFuture

__all__ = ["Finishers", "as_completed", "wait"]

T = TypeVar("T")

FINISHED = ("FINISHED", "CANCELLED_AND_NOTIFIED")


class Finishers:
    """Futures in the order in which they end.

    Args:
        session: the session of the waiting process.

    Example::

        finishers = Finishers(current.get())
        for future in futures:
            finishers.watch(future)
        while finishers:
            print(finishers.next().result())
    """

    def __init__(self, session: Any) -> None:
        self._session = session
        self._watched: set[_cf.Future[Any]] = set()
        self._waiting: deque[_cf.Future[Any]] = deque()
        self._ended: deque[_cf.Future[Any]] = deque()
        self._bell: _cf.Future[Any] | None = None
        self._count = 0

    def __len__(self) -> int:
        """How many futures have been watched and not been returned by `next`."""
        return self._count

    def watch(self, future: _cf.Future[Any]) -> None:
        """Add a future, in any state; a future that is watched already is not added twice."""
        if future in self._watched:
            return
        self._count += 1
        self._watched.add(future)
        self._waiting.append(future)
        # Not add_done_callback: a helper thread would begin what this thread can run as well.
        future._done_callbacks.append(self._on_end)  # type: ignore[attr-defined]
        if future._state in FINISHED:
            self._on_end(future)

    def _on_end(self, future: _cf.Future[Any]) -> None:
        try:
            self._watched.remove(future)
        except KeyError:  # told twice: by its thread and by `watch`
            return
        self._ended.append(future)
        bell = self._bell
        if bell is not None:
            self._session.ring(bell)

    def next(self, deadline: float | None = None) -> _cf.Future[Any]:
        """Wait until one has ended, and return it; each one once.

        Args:
            deadline: in seconds of the monotonic clock. With None, this thread runs queued calls meanwhile.

        Raises:
            TimeoutError: the deadline has passed.
        """
        while not self._ended:
            self._sleep(deadline)
        while self._waiting and self._waiting[0] not in self._watched:
            self._waiting.popleft()
        self._count -= 1
        return self._ended.popleft()

    def _sleep(self, deadline: float | None) -> None:
        session = self._session
        if deadline is not None or not session.helps():
            # This thread will run nothing, so somebody else has to.
            while self._waiting:
                self._waiting.popleft().see_to()  # type: ignore[attr-defined]
        self._bell = bell = session.bell()
        try:
            if not self._ended:
                bell.result(None if deadline is None else max(0.0, deadline - time.monotonic()))
        finally:
            self._bell = None


def _settle(future: _cf.Future[Any]) -> None:
    # Wait for its end, whichever it is.
    try:
        future.exception()
    except _cf.CancelledError:
        pass


def wait(fs: Iterable[_cf.Future[T]], timeout: float | None, return_when: str) -> DoneAndNotDoneFutures[T]:
    """As `scoop.futures.wait`, with None for no limit."""
    futures = set(fs)
    if return_when != _cf.ALL_COMPLETED or timeout is not None or not _all_ours(futures):
        # Its waiters get an event that helps, see `scoop.waiters`.
        return _cf.wait(futures, timeout, return_when)
    for future in futures:
        _settle(future)
    return DoneAndNotDoneFutures(futures, set())


def as_completed(fs: Iterable[_cf.Future[T]], timeout: float | None) -> Iterator[_cf.Future[T]]:
    """As `scoop.futures.as_completed`."""
    futures = list(dict.fromkeys(fs))
    if timeout is not None or not futures or not _all_ours(futures):
        return _cf.as_completed(futures, timeout)
    return _one_by_one(futures)


def _one_by_one(futures: list[_cf.Future[T]]) -> Iterator[_cf.Future[T]]:
    finishers = Finishers(futures[0].session)  # type: ignore[attr-defined]
    for future in futures:
        finishers.watch(future)
    futures.clear()
    del future
    while finishers:
        # No reference may stay here while the caller works with it: its result may be large.
        yield finishers.next()


def _all_ours(futures: Iterable[_cf.Future[Any]]) -> bool:
    return all(isinstance(future, CallFuture) for future in futures)
