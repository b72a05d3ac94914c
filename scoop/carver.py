"""How a map is cut into calls: many items in one call when they are short, one when they are long.

A `Carver` holds the items that have not been submitted and the pieces that have been. Without a chunk size
it goes in rounds: single items until the first run time is known, a few short pieces to know it well, then
pieces of some milliseconds, smaller towards the end so that all workers finish together. The generators
of `scoop.mapping` take the pieces in order; whoever notices that a piece has ended - the generator, or a
callback while the consumer is busy with an item itself - carves more.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sized
from concurrent.futures import Future
from itertools import islice
from typing import Any

from scoop import current, pickling
from scoop.joins import FINISHED

__all__ = ["Carver", "carve_rest"]

PIECE_NS = 4_000_000  # estimated work of a piece when the run time is known
SAMPLE_NS = 200_000  # and of the pieces that measure it
FIRST_PIECES = 4  # pieces per worker in each of the two measuring rounds
SHORTEST_NS = 50_000  # pieces get smaller towards the end, but not smaller than this
LAST_SHARES = 8  # a piece is at most this fraction of a worker's share of what is left
PIECE_ITEMS_MAX = 50_000
AHEAD_PIECES = 4096  # submitted and not taken, when all items are known
MARK_PIECES = 1024  # one in so many calls back, so that an eager map goes on without its consumer
AHEAD_NS = 100_000_000  # work per worker submitted ahead, when the items come from an iterator
AHEAD_ITEMS_MAX = 200_000

_active: weakref.WeakSet[Carver] = weakref.WeakSet()


class Carver:
    """Submits the items of one map in pieces, in order.

    Args:
        source: the session, or a pool that has it as `session`.
        fn: called with each item, or with several if there are several iterables.
        iterables: where the items come from.
        chunksize: items in a piece; None chooses.
        buffersize: at most so many items are submitted and not yet taken; None for no such limit.
        eager: collect all items now, and go on submitting even if nobody takes results.
    """

    def __init__(
        self,
        source: Any,
        fn: Callable[..., Any],
        iterables: tuple[Iterable[Any], ...],
        chunksize: int | None,
        buffersize: int | None,
        eager: bool,
    ) -> None:
        failure = getattr(source, "failure", None)
        if failure is not None:
            raise failure
        self.session = getattr(source, "session", source)
        self.workers: int = max(1, getattr(source, "workers", None) or current.size)
        self.star = len(iterables) != 1
        self.chunksize = chunksize
        self.buffersize = buffersize
        self.eager = eager
        self.pending: deque[tuple[int, int, Future[Any]]] = deque()  # index and items of a piece, its future
        self.error: Any = None  # what drawing or sending items has raised
        self.more = True
        self.outstanding = 0  # items submitted and not taken
        self._lock = threading.Lock()
        self._at = 0  # number of the next item
        self._carved = 0  # pieces submitted
        self._passed = 0  # pieces that need not count as ahead any more
        self._sample = -1  # first piece of the round that measures; it ends when one of them is over
        self._measured = False
        self._began_ns = time.monotonic_ns()
        self._items_taken = 0
        self._collected: Any = None  # what can be cut, or
        self._items: Iterator[Any] = iter(())  # what must be drawn
        self._collect(iterables)
        self.form = self.session.prepare(fn)  # one for the whole map: all items see the same state of it
        self.lineage: bytes = self.session.new_lineage()
        self.carve()
        self._raise_early()
        if eager and self.more:
            _active.add(self)

    def _raise_early(self) -> None:
        if self.error is not None:
            self.cancel()
            raise self.error

    def _collect(self, iterables: tuple[Iterable[Any], ...]) -> None:
        known = self.eager or all(isinstance(iterable, Sized) for iterable in iterables)
        first: Iterable[Any] = iterables[0] if len(iterables) == 1 else zip(*iterables, strict=False)
        if self.buffersize is None and known:
            # What nobody can change is cut as it is; a range of any length costs nothing then.
            self._collected = first if type(first) in (range, tuple) else list(first)
            self.more = bool(self._collected)
        else:
            self._items = iter(first)

    # --------------------------------------------------------------------------------------- carving

    def carve(self, *, force: bool = False, rest: bool = False) -> None:
        """Submit as much as is useful now. Any thread may call it; if another one is at it, that is enough.

        Args:
            force: at least one piece, for nothing is pending.
            rest: everything.
        """
        if not self._lock.acquire(blocking=force or rest):
            return
        try:
            while self.more:
                size = self._size_of_next(rest)
                if size <= 0 and not force:
                    break
                self._submit(max(1, size))
                force = False
        except BaseException as error:
            # Raised behind the results of what was submitted before.
            self.error = error
            self.more = False
        finally:
            self._lock.release()

    def _size_of_next(self, rest: bool) -> int:
        """Items of the next piece; 0 if there is no use for one now."""
        if self._collected is None:
            return self._size_drawn()
        if self._carved - self._passed >= AHEAD_PIECES and not rest:
            return 0
        if self.chunksize is not None:
            return self.chunksize
        estimate = self._estimate()
        left = len(self._collected) - self._at
        first = FIRST_PIECES * self.workers
        share = left // (LAST_SHARES * self.workers)
        if not estimate:
            return share + 1 if rest else int(self._carved < first)
        if estimate < SAMPLE_NS and left > first and not self._measured and not rest:
            if self._sample < 0:
                self._sample = self._carved
            if self._carved - self._sample >= first:
                return 0
            return max(1, min(SAMPLE_NS // estimate, left // first))
        return max(1, min(PIECE_NS // estimate, max(share, SHORTEST_NS // estimate), PIECE_ITEMS_MAX))

    def _size_drawn(self) -> int:
        # The items come from an iterator, which may never end.
        estimate = self._estimate()
        first = FIRST_PIECES * self.workers
        size = self.chunksize or 1
        if self.buffersize is not None:
            ahead = self.buffersize
        elif estimate:
            ahead = max(first * size, min(self.workers * AHEAD_NS // estimate, AHEAD_ITEMS_MAX))
        else:
            ahead = first * size
        if self.chunksize is None and estimate:
            size = max(1, min(PIECE_NS // estimate, ahead // first, PIECE_ITEMS_MAX))
        size = min(size, ahead)
        return size if ahead - self.outstanding >= size else 0

    def _estimate(self) -> int:
        """Mean run time of an item in ns; 0 when nothing is known."""
        estimate: int = self.estimate_ns()
        if not estimate and self._items_taken:
            estimate = (time.monotonic_ns() - self._began_ns) * self.workers // self._items_taken + 1
        return estimate

    def estimate_ns(self) -> int:
        """What the session has measured, in ns per item; 0 when nothing is known."""
        estimate: int = self.session.estimate_ns(self.form)
        return estimate

    def _submit(self, size: int) -> None:
        items = self._draw(size)
        if not items:
            return
        size = len(items)
        future = self.send(self._at, items)
        self._at += size
        self.outstanding += size
        index = self._carved
        self._carved += 1
        self.pending.append((index, size, future))
        if self._collected is None:
            return
        if not self._measured or (self.eager and index % MARK_PIECES == 0):
            self._mark(index, future)

    def _draw(self, size: int) -> tuple[Any, ...]:
        if self._collected is None:
            items = tuple(islice(self._items, size))
            self.more = len(items) == size
            return items
        end = self._at + size
        items = tuple(self._collected[self._at : end])
        if end >= len(self._collected):
            self.more = False
            self._collected = ()
        return items

    def send(self, start: int, items: tuple[Any, ...]) -> Future[Any]:
        """Submit one piece whose first item has number `start`."""
        future: Future[Any] = self.session.submit_chunk(self.form, start, self.star, items, self.lineage)
        return future

    # ------------------------------------------------------------------------------------------ over

    def _mark(self, index: int, future: Future[Any]) -> None:
        # Not add_done_callback: that would let a helper thread run the piece beside the consumer.
        def over(future: Future[Any]) -> None:
            if self.more:
                self.learn(future)
                self.passed(index)
                self.carve()

        future._done_callbacks.append(over)  # type: ignore[attr-defined]
        if future._state in FINISHED:
            # The loop in `carve` is going on: only note it.
            self.passed(index)

    def passed(self, index: int) -> None:
        """Piece `index` is over."""
        if 0 <= self._sample <= index:
            self._measured = True
        if self.eager and index >= self._passed:
            self._passed = index + 1

    def learn(self, future: Future[Any]) -> None:
        """Look at a piece that is over, for its run time. The session knows that already."""

    def take(self, deadline: float | None) -> tuple[Any, Any] | None:
        """Wait for the next piece: its results, and the exception that ended it early; None at the end.

        Raises:
            TimeoutError: `deadline`, in seconds of the monotonic clock, has passed.
            BaseException: what drawing an item has raised, or what befell the whole piece.
        """
        if not self.refill():
            return None
        index, size, future = self.pending.popleft()
        try:
            timeout = None if deadline is None else max(0.0, deadline - time.monotonic())
            values, error = self.open(index, future, timeout)
            self.took(index, size, future)
        finally:
            del future
        return values, pickling.loads_exception(error) if type(error) is bytes else error

    def open(self, index: int, future: Future[Any], timeout: float | None = None) -> tuple[Any, Any]:
        """Wait for piece `index`, which has this future: its results, and what ended it early."""
        values, error = future.result(timeout)
        return values, error

    def refill(self) -> bool:
        """Carve; returns whether something is pending, and raises what drawing an item has raised if not."""
        if self.more:
            self.carve()
            while self.more and not self.pending:
                self.carve(force=True)
        if not self.pending and self.error is not None:
            raise self.error
        return bool(self.pending)

    def took(self, index: int, size: int, future: Future[Any]) -> None:
        """Piece `index` has been taken."""
        self.learn(future)
        self._items_taken += size
        self._passed = max(self._passed, index + 1)
        self.passed(index)
        if self.buffersize is None:
            self.outstanding -= size
            if self.more:
                self.carve()

    def cancel(self, others: Iterable[Future[Any]] = ()) -> None:
        """Submit no more, and cancel the pieces, and `others`, that have not started."""
        with self._lock:
            self.more = False
            self._collected = ()
            self._items = iter(())
            futures = [*others, *[future for _, _, future in self.pending]]
            self.pending.clear()
        futures.reverse()  # the oldest are being exported
        self.session.drop(futures)


def carve_rest(session: Any) -> None:
    """Submit what eager maps of `session` have not submitted yet; before its pool ends."""
    for carver in list(_active):
        if carver.session is session and carver.more:
            carver.carve(rest=True)
