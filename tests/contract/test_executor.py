"""submit and map behave as those of concurrent.futures, with the signatures of Python 3.14."""

from __future__ import annotations

import concurrent.futures as cf
import gc
import itertools
import sys
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import scoop
from scoop import futures


def capture(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
    return args, kwargs


def divide(a: int, b: int) -> int:
    return a // b


def touch(folder: str, number: int) -> int:
    Path(folder, str(number)).touch()
    return number


def test_submit_passes_everything(executor: cf.Executor) -> None:
    assert executor.submit(capture).result() == ((), {})
    assert executor.submit(capture, 1, fn=2, self=3).result() == ((1,), {"fn": 2, "self": 3})
    with pytest.raises(TypeError):
        executor.submit()  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        executor.submit(fn=capture)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="not callable"):
        executor.submit(3)  # type: ignore[arg-type]


def test_map_is_in_order(executor: cf.Executor) -> None:
    assert list(executor.map(pow, range(10), range(10))) == list(map(pow, range(10), range(10)))
    assert list(executor.map(pow, range(10), [2])) == [0]
    assert list(executor.map(pow, range(10), [])) == []
    assert list(executor.map(str, range(40), chunksize=3)) == list(map(str, range(40)))
    assert list(executor.map(str, range(40), chunksize=40)) == list(map(str, range(40)))
    assert list(executor.map(str, range(40), chunksize=50)) == list(map(str, range(40)))


@pytest.mark.parametrize("count", [0, 1, 7, 100, 20_000])
@pytest.mark.parametrize("kind", [range, list, tuple, set, iter, "generator", dict.fromkeys])
def test_map_of_any_iterable(nothing_left: str, count: int, kind: Any) -> None:
    scoop.configure(workers=2)
    try:
        if kind == "generator":
            items: Any = (number for number in range(count))
        else:
            items = range(count) if kind is range else kind(range(count))
        assert list(futures.map(abs, items)) == list(range(count))
    finally:
        futures.shutdown()


def test_map_exception_after_the_results_before_it(executor: cf.Executor) -> None:
    results = executor.map(divide, [1, 1, 1, 1], [2, 1, 0, 5])
    assert next(results) == 0
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert next(results, "over") == "over"


@pytest.mark.parametrize("chunksize", [None, 1, 4])
def test_map_exception_in_pieces(executor: cf.Executor, chunksize: int | None) -> None:
    results = executor.map(divide, range(100), [1] * 50 + [0] * 50, chunksize=chunksize)  # type: ignore[arg-type]
    seen: list[int] = []
    with pytest.raises(ZeroDivisionError):
        seen.extend(results)
    assert seen == list(range(50))


def test_map_item_source_that_raises(executor: cf.Executor) -> None:
    def items() -> Iterator[int]:
        yield from range(3)
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        list(executor.map(abs, items()))


def test_map_timeout(elsewhere: cf.Executor, gate: Any) -> None:
    results = elsewhere.map(gate, [1, 2], timeout=0.05)
    with pytest.raises(cf.TimeoutError):
        next(results)
    gate.open()
    assert list(elsewhere.map(gate, [1, 2], timeout=30)) == [1, 2]
    assert elsewhere.submit(pow, 2, 3).result() == 8


@pytest.mark.parametrize("name", ["chunksize", "buffersize"])
def test_map_refuses(executor: cf.Executor, name: str) -> None:
    for bad in (0, -1):
        with pytest.raises(ValueError, match=name):
            executor.map(abs, [1], **{name: bad})
    for nonsense in ("1", 1.5):
        with pytest.raises(TypeError, match=name):
            executor.map(abs, [1], **{name: nonsense})


@pytest.mark.parametrize("buffersize", [1, 4, 100])
def test_map_buffersize(executor: cf.Executor, buffersize: int) -> None:
    drawn: list[int] = []

    def items() -> Iterator[int]:
        for number in itertools.count():
            drawn.append(number)
            yield number

    results = executor.map(str, items(), buffersize=buffersize)  # type: ignore[call-arg]
    assert len(drawn) == buffersize, "so many are drawn at the call"
    for taken in range(1, 300):
        assert next(results) == str(taken - 1)
        assert len(drawn) <= taken + buffersize
        if buffersize < 5:
            assert len(drawn) == taken + buffersize, "each result that is taken makes room for an item"
    results.close()  # type: ignore[attr-defined]
    assert len(drawn) <= taken + buffersize


def test_map_of_an_endless_iterable(nothing_left: str) -> None:
    scoop.configure(workers=2)
    try:
        results = futures.map(abs, itertools.count())
        assert list(itertools.islice(results, 5000)) == list(range(5000))
        results.close()
        assert next(results, None) is None
        assert list(itertools.islice(futures.map(pow, itertools.count(), itertools.repeat(2)), 5)) == [
            0,
            1,
            4,
            9,
            16,
        ]
    finally:
        futures.shutdown()


@pytest.mark.parametrize("how", ["close", "del", "break", "error"])
def test_an_abandoned_map_cancels(nothing_left: str, tmp_path: Path, how: str) -> None:
    scoop.configure(workers=1)
    try:
        results = futures.map(touch, [str(tmp_path)] * 1000, range(1000))
        assert next(results) == 0
        if how == "close":
            results.close()
        elif how == "break":
            for _ in results:
                break
            del _
        elif how == "error":
            with pytest.raises(RuntimeError):
                results.throw(RuntimeError())
        del results
        gc.collect()
        # What was left would run at the end, for this process is the only worker.
        futures.shutdown()
        assert len(list(tmp_path.iterdir())) < 1000
    finally:
        futures.shutdown()


def test_an_eager_map_needs_no_consumer(tmp_path: Path, nothing_left: str) -> None:
    with scoop.Executor(2) as executor:
        executor.map(touch, [str(tmp_path)] * 300, range(300))
    assert len(list(tmp_path.iterdir())) == 300


def test_results_of_an_eager_map_after_shutdown(nothing_left: str) -> None:
    with scoop.Executor(2) as executor:
        results = executor.map(abs, range(30_000))
    assert list(results) == list(range(30_000))


def test_map_submits_on_while_the_consumer_is_busy(
    elsewhere: cf.Executor, tmp_path: Path, until: Any
) -> None:
    results = elsewhere.map(touch, [str(tmp_path)] * 200, range(200))
    # Nobody takes a result; the worker must not run dry after the first few.
    until(lambda: len(list(tmp_path.iterdir())) == 200, "all items have run")
    assert list(results) == list(range(200))


def test_map_sees_the_items_as_they_were(nothing_left: str) -> None:
    scoop.configure(workers=1)
    try:
        items = [[n] for n in range(50)]
        results = futures.map(sum, items)
        items.clear()
        assert list(results) == list(range(50))
    finally:
        futures.shutdown()


def test_invalid_numbers_of_workers(nothing_left: str) -> None:
    for bad in (0, -1):
        with pytest.raises(ValueError, match="max_workers"):
            scoop.Executor(bad)
    with pytest.raises(TypeError, match="callable"):
        scoop.Executor(1, initializer=5)  # type: ignore[arg-type]


class Thing:
    def method(self) -> int:
        return 5


def test_arguments_and_results_are_let_go(executor: cf.Executor, until: Any) -> None:
    thing = Thing()
    seen = weakref.ref(thing)
    assert executor.submit(thing.method).result() == 5
    del thing
    for future in cf.as_completed([executor.submit(capture, Thing()) for _ in range(3)]):
        result = weakref.ref(future.result()[0][0])
        del future
    gc.collect()
    until(lambda: seen() is None and result() is None, "nothing holds them")


def test_from_threads(executor: cf.Executor) -> None:
    def many(base: int) -> int:
        return sum(f.result() for f in [executor.submit(pow, base, 2) for _ in range(50)])

    with cf.ThreadPoolExecutor(4) as threads:
        assert list(threads.map(many, range(8))) == [50 * n * n for n in range(8)]
        assert list(threads.map(lambda n: list(executor.map(abs, range(n))), range(8))) == [
            list(range(n)) for n in range(8)
        ]


def test_an_executor_runs_nothing_here(nothing_left: str) -> None:
    import os

    with scoop.Executor(2) as executor:
        assert os.getpid() not in set(executor.map(lambda _: os.getpid(), range(50)))


def deeper(n: int) -> int:
    return 0 if n == 0 else 1 + futures.submit(deeper, n - 1).result()


def test_nested_deeper_than_the_recursion_limit(executor: cf.Executor) -> None:
    depth = 2 * sys.getrecursionlimit()
    assert executor.submit(deeper, depth).result() == depth


def spread(n: int) -> int:
    return sum(futures.map(spread, [n - 1] * 3)) if n else 1


def test_nested_maps(executor: cf.Executor) -> None:
    began = time.monotonic()
    assert executor.submit(spread, 5).result() == 243
    assert time.monotonic() - began < 60
