"""Maps that keep their results in a file, and take from it what a run before has left there.

A `KeepingCarver` is a `Carver` that knows some results already: their items are not submitted, and their
place among the pieces is taken by one that is over. Each other piece is recorded when it is over, by the
thread that writes or by the one that takes it, whichever is first: before the program can change a result.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import threading
from array import array
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any

from scoop import current, pickling
from scoop.carver import Carver
from scoop.checkpoint import open_log
from scoop.errors import CheckpointError, UsageError
from scoop.joins import FINISHED
from scoop.logs import logger
from scoop.pickling.keys import function_name
from scoop.pickling.lasting import dumps_lasting, lasting_digest, lasting_function_digest
from scoop.segments import Key

__all__ = ["KeepingCarver", "carver_for"]

KNOWN = -1  # the number of a piece that nobody had to compute
AHEAD_KNOWN = 1024  # items with a known result that are drawn ahead, when the items come from an iterator
_NAME_MAX = 100
_NO_BRACKETS = str.maketrans("", "", "<>")

_maps: Counter[str] = Counter()  # how many of each function this program has called, by name of their files


def carver_for(session: Any, fn: Callable[..., Any], checkpoint: Any) -> Callable[..., Carver]:
    """What cuts a map of `fn` into pieces.

    Args:
        session: of this process.
        fn: the function.
        checkpoint: as of `scoop.futures.map`.

    Raises:
        UsageError: a file is named in a task.
    """
    if checkpoint is False:
        return Carver
    if not current.is_origin or session.in_task():
        if checkpoint is None:
            return Carver
        raise UsageError(
            f"checkpoint={checkpoint!r} in a task: only maps that the program itself calls can keep their "
            "results; keep those of the map that this task is an item of"
        )
    if checkpoint is not None:
        return functools.partial(KeepingCarver, os.fsdecode(checkpoint))
    name = function_name(fn).replace("<locals>.", "")
    name = re.sub(r"[^\w.]+", "_", name.translate(_NO_BRACKETS), flags=re.ASCII)[:_NAME_MAX]
    _maps[name] += 1
    return functools.partial(
        KeepingCarver, os.path.join(str(current.checkpoints), f"{name}-{_maps[name]}.ckpt")
    )


class _Kept(Future):  # type: ignore[type-arg]
    """A piece whose results were known. They are loaded one by one, when they are taken."""

    def __init__(self, values: Iterator[Any]) -> None:
        super().__init__()
        self.set_result((values, None))

    def see_to(self) -> None:
        """Nobody has to run it."""


class _Piece:
    """What is needed to record a piece.

    Attributes:
        start: number of its first item.
        digests: of its items; empty when it has been recorded.
    """

    __slots__ = ("digests", "lock", "start")

    def __init__(self, start: int, digests: list[bytes]) -> None:
        self.start = start
        self.digests = digests
        self.lock = threading.Lock()


class KeepingCarver(Carver):
    """A carver that keeps results in the file at `path`; the other arguments are those of `Carver`.

    Raises:
        CheckpointError: the file cannot be used.
    """

    def __init__(
        self,
        path: str,
        source: Any,
        fn: Callable[..., Any],
        iterables: tuple[Iterable[Any], ...],
        chunksize: int | None,
        buffersize: int | None,
        eager: bool,
    ) -> None:
        name = function_name(fn)
        self._run = hashlib.blake2b(name.encode(), digest_size=8).digest()
        # A seed that was given decides about results too.
        self._function = lasting_function_digest(fn, len(iterables) != 1, current.settings().seed)
        self._drawn = 0  # items
        self._next: tuple[int, Any, bytes, int | None] | None = (
            None  # one that was drawn and has no piece yet
        )
        self._digests: list[bytes] = []  # of the items drawn last
        self._pieces: dict[int, _Piece] = {}
        self._taken = 0  # results that were known
        self._changed = 0  # items that are not what they were
        self._over = False
        self._log = open_log(path)
        try:
            others = self._log.file.of_others(self._run, self._function)
            if others:
                logger.warning(
                    "%s: %s has changed (its code, what it uses, or the seed): %d results of before "
                    "do not count, their items run again",
                    self._log.path,
                    name,
                    others,
                )
            super().__init__(source, fn, iterables, chunksize, buffersize, eager)
        except BaseException:
            self._end()
            raise

    # --------------------------------------------------------------------------------------- drawing

    def _collect(self, iterables: tuple[Iterable[Any], ...]) -> None:
        super()._collect(iterables)
        if self._collected is not None:
            self._items = iter(self._collected)

    def _draw(self, size: int) -> tuple[Any, ...]:
        """The next items whose results are not known, all neighbours; known ones before them are pending."""
        windowed = self._collected is None
        room = max(size, (self.buffersize or AHEAD_KNOWN) - self.outstanding) if windowed else 0
        known = array("Q")  # where the results are; the items are neighbours
        first = 0
        items: list[Any] = []
        self._digests = []
        while len(items) < size and not (windowed and len(known) + len(items) >= room):
            if self._next is None and not self._look():
                break
            assert self._next is not None
            number, item, digest, offset = self._next
            if offset is not None:
                if items:
                    break
                first = first if known else number
                known.append(offset)
            else:
                if not items:
                    self._at = number
                items.append(item)
                self._digests.append(digest)
            self._next = None
        if known:
            self.pending.append((KNOWN, len(known), _Kept(self._load(first, known))))
            self.outstanding += len(known)
        return tuple(items)

    def _look(self) -> bool:
        """Draw one item and look for its result; False at the end."""
        for item in self._items:
            number, digest = self._drawn, lasting_digest(item)
            self._drawn += 1
            offset = None
            there = self._log.file.at(self._run, number)
            if there is not None:
                same = there[1] == Key(self._run, number, self._function, digest)
                offset = there[0] if same else None
                self._changed += not same and there[1].function == self._function
            self._next = number, item, digest, offset
            return True
        self.more = False
        if self._collected is not None:
            self._collected = ()
        return False

    def _load(self, first: int, known: array[int]) -> Iterator[Any]:
        for number, offset in enumerate(known, first):
            payload = self._log.file.payload(offset)
            try:
                value = pickling.loads(payload)
            except Exception as error:
                raise CheckpointError(
                    self._log.path, f"the result of item {number} cannot be loaded: {error}; remove the file"
                ) from error
            self._taken += 1
            yield value

    # ------------------------------------------------------------------------------------- recording

    def send(self, start: int, items: tuple[Any, ...]) -> Future[Any]:
        """Submit one piece, to be recorded when it is over."""
        future = super().send(start, items)
        piece = self._pieces[self._carved] = _Piece(start, self._digests)

        def over(future: Future[Any]) -> None:
            if piece.digests:
                self._log.soon(len(piece.digests), functools.partial(self._record_over, piece, future))

        # Not add_done_callback: that would let a helper thread run the piece beside the consumer.
        future._done_callbacks.append(over)  # type: ignore[attr-defined]
        if future._state in FINISHED:
            over(future)
        return future

    def _record_over(self, piece: _Piece, future: Future[Any]) -> None:
        try:
            values, _ = future.result()
            self._record(piece, values)
        except BaseException:  # whoever takes it will hear of it; here it must not end the writing thread
            return

    def _record(self, piece: _Piece, values: tuple[Any, ...]) -> None:
        with piece.lock:
            # Fewer values than digests: an exception has ended it early.
            for at, (digest, value) in enumerate(zip(piece.digests, values, strict=False)):
                try:
                    payload = dumps_lasting(value)
                except Exception as error:
                    self._log.skip(error)
                else:
                    self._log.append(Key(self._run, piece.start + at, self._function, digest), payload)
            piece.digests = []

    def open(self, index: int, future: Future[Any], timeout: float | None = None) -> tuple[Any, Any]:
        """As of `Carver`; what comes out of it has been recorded."""
        values, error = super().open(index, future, timeout)
        if index != KNOWN:
            self._record(self._pieces.pop(index), values)
        return values, error

    def took(self, index: int, size: int, future: Future[Any]) -> None:
        """As of `Carver`; a piece that was known says nothing about run times."""
        if index != KNOWN:
            super().took(index, size, future)
        elif self.buffersize is None:
            self.outstanding -= size
            if self.more:
                self.carve()

    # --------------------------------------------------------------------------------------- the end

    def cancel(self, others: Iterable[Future[Any]] = ()) -> None:
        """As of `Carver`; then what has been recorded is written."""
        with self._lock:
            self.pending = deque(entry for entry in self.pending if entry[0] != KNOWN)
        super().cancel([future for future in others if type(future) is not _Kept])
        self._end()

    def _end(self) -> None:
        if self._over:
            return
        self._over = True
        if self._changed:
            logger.warning("%s: items that have changed and ran again: %d", self._log.path, self._changed)
        if self._taken:
            logger.info("%s: results that were there already: %d", self._log.path, self._taken)
        self._log.close()
