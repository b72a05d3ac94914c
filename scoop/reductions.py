"""Reductions and prefix sums in parallel: pieces are mapped and folded where they run, then put together.

The operands keep their order, so an operation that is associative gives the right answer, commutative or
not. How the items are grouped depends on run times: floating-point sums may differ in the last digits from
run to run.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any

from scoop import current
from scoop.carver import Carver
from scoop.mapping import run_map

__all__ = ["map_reduce", "map_scan"]

TREE_NS = 2_000_000  # putting the pieces together here may take so long; above that it is work for tasks


class _Fold:
    """Maps and folds a piece; what it returns says also how long an item took, in ns."""

    def __init__(
        self, map_fn: Callable[..., Any], reduction: Callable[[Any, Any], Any], star: bool, scan: bool
    ) -> None:
        self.map_fn = map_fn
        self.reduction = reduction
        self.star = star
        self.scan = scan
        self.__name__ = self.__qualname__ = getattr(map_fn, "__qualname__", type(map_fn).__qualname__)

    def __call__(self, piece: tuple[int, bytes, tuple[Any, ...]]) -> tuple[Any, int]:
        began = time.perf_counter_ns()
        results = self._mapped(*piece)
        value: Any = next(results)
        if self.scan:
            value = list(itertools.accumulate(itertools.chain([value], results), self.reduction))
        else:
            for result in results:
                value = self.reduction(value, result)
        return value, (time.perf_counter_ns() - began) // len(piece[2]) + 1

    def _mapped(self, start: int, lineage: bytes, items: tuple[Any, ...]) -> Any:
        # Each item is known by its number in the whole map, so its random numbers do not depend on the
        # pieces.
        session = current.get()
        for index, item in enumerate(items, start):
            if lineage:
                session.at_item(lineage, index)
            value = self.map_fn(*item) if self.star else self.map_fn(item)
            while isinstance(value, Future):
                value = value.result()
            yield value


class _Folder(Carver):
    """A carver whose pieces are folded."""

    def __init__(
        self,
        map_fn: Callable[..., Any],
        reduction: Callable[[Any, Any], Any],
        iterables: tuple[Iterable[Any], ...],
        scan: bool,
    ) -> None:
        self._item_ns = 0
        fold = _Fold(map_fn, reduction, len(iterables) != 1, scan)
        super().__init__(current.get(), fold, iterables, None, None, False)

    def estimate_ns(self) -> int:
        """What the pieces have said."""
        return self._item_ns

    def learn(self, future: Future[Any]) -> None:
        """Note how long the items of a piece have taken."""
        if not future.cancelled() and future.exception() is None:
            results, _ = future.result()
            if results:
                self._item_ns = results[0][1]

    def send(self, start: int, items: tuple[Any, ...]) -> Future[Any]:
        """Submit a piece as one item: it becomes one value."""
        future: Future[Any] = self.session.submit_chunk(
            self.form, start, False, ((start, self.lineage, items),), self.lineage
        )
        return future

    def values(self, deadline: float | None) -> list[Any]:
        """The value of each piece, in order."""
        values = []
        try:
            while (piece := self.take(deadline)) is not None:
                if piece[1] is not None:
                    raise piece[1]
                values.append(piece[0][0][0])
        finally:
            piece = None
            self.cancel()
        return values


def map_reduce(
    map_fn: Callable[..., Any],
    reduction: Callable[[Any, Any], Any],
    iterables: tuple[Iterable[Any], ...],
    timeout: float | None,
    initial: tuple[Any, ...],
) -> Any:
    """As `scoop.futures.map_reduce`; `initial` holds that value, or nothing."""
    deadline = None if timeout is None else time.monotonic() + timeout
    values = [*initial, *_Folder(map_fn, reduction, iterables, False).values(deadline)]
    if not values:
        raise TypeError("map_reduce() of empty iterable with no initial value")
    return _combine(reduction, values, deadline)


def _combine(reduction: Callable[[Any, Any], Any], values: list[Any], deadline: float | None) -> Any:
    """Fold the values, here if that is quick, else in tasks that fold a group of neighbours each."""
    value = values[0]
    began = time.perf_counter_ns()
    for index in range(1, len(values)):
        value = reduction(value, values[index])
        left = len(values) - index - 1
        if left < 2 or (time.perf_counter_ns() - began) // index * left < TREE_NS:
            continue
        groups = _groups(values[index + 1 :], 2 * current.size)
        if len(groups) < 2:
            continue
        fold = _Fold(_itself, reduction, False, False)
        pieces = ((0, b"", group) for group in groups)
        timeout = None if deadline is None else max(0.0, deadline - time.monotonic())
        folded = run_map(current.get(), fold, (list(pieces),), timeout, 1, None, eager=False)
        return _combine(reduction, [value, *(part for part, _ in folded)], deadline)
    return value


def _groups(values: list[Any], count: int) -> list[tuple[Any, ...]]:
    """Cut into at most `count` groups of at least two neighbours."""
    size = max(2, -(-len(values) // count))
    return [tuple(values[at : at + size]) for at in range(0, len(values), size)]


def _itself(value: Any) -> Any:
    return value


class _Shift:
    """Puts what came before in front of the running values of a piece."""

    def __init__(self, reduction: Callable[[Any, Any], Any]) -> None:
        self.reduction = reduction

    def __call__(self, before: Any, values: list[Any]) -> list[Any]:
        reduction = self.reduction
        return [reduction(before, value) for value in values]


def map_scan(
    map_fn: Callable[..., Any],
    reduction: Callable[[Any, Any], Any],
    iterables: tuple[Iterable[Any], ...],
    timeout: float | None,
    initial: tuple[Any, ...],
) -> list[Any]:
    """As `scoop.futures.map_scan`; `initial` holds that value, or nothing."""
    deadline = None if timeout is None else time.monotonic() + timeout
    parts: list[list[Any]] = _Folder(map_fn, reduction, iterables, True).values(deadline)
    if initial:
        parts.insert(0, list(initial))
    if not parts:
        raise TypeError("map_scan() of empty iterable with no initial value")
    # What comes before each piece: the last running value of the piece before it, with what came before that.
    befores = [parts[0][-1]]
    began = time.perf_counter_ns()
    for part in parts[1:-1]:
        befores.append(reduction(befores[-1], part[-1]))
    took = (time.perf_counter_ns() - began) // max(1, len(parts) - 2)
    shift = _Shift(reduction)
    rest: Iterable[list[Any]] = map(shift, befores, parts[1:])
    if took * sum(map(len, parts)) > TREE_NS:
        timeout = None if deadline is None else max(0.0, deadline - time.monotonic())
        rest = run_map(current.get(), shift, (befores, parts[1:]), timeout, None, None, eager=False)
    return list(itertools.chain(parts[0], *rest))
