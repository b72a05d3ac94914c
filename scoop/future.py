"""The Future: its compiled half and the standard library's class."""

from __future__ import annotations

import concurrent.futures as _cf

from scoop._core.future import CallFuture

__all__ = ["Future"]


class Future(CallFuture, _cf.Future):  # type: ignore[type-arg]
    """The handle of a call; a `concurrent.futures.Future` whose `result` lets the waiting thread work.

    Futures are made by `scoop.futures.submit` and `scoop.Executor.submit`, never by hand.
    """

    __slots__ = ()
