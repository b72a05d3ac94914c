"""wait and as_completed: those of scoop and those of the standard library do the same."""

from __future__ import annotations

import concurrent.futures as cf
from collections.abc import Callable
from typing import Any

import pytest

from scoop import futures

WAITS = pytest.mark.parametrize("wait", [futures.wait, cf.wait], ids=["scoop", "stdlib"])
COMPLETES = pytest.mark.parametrize(
    "as_completed", [futures.as_completed, cf.as_completed], ids=["scoop", "stdlib"]
)


def fail(error: BaseException) -> None:
    raise error


@WAITS
@pytest.mark.parametrize("timeout", [None, 30])
def test_all(executor: cf.Executor, wait: Any, timeout: float | None) -> None:
    fs = [executor.submit(pow, 2, n) for n in range(20)] + [executor.submit(fail, KeyError(1))]
    result = wait(fs, timeout=timeout)
    assert type(result).__name__ == "DoneAndNotDoneFutures"
    assert result == (set(fs), set())
    assert result.done == set(fs)
    assert result.not_done == set()
    assert wait(fs, return_when=cf.FIRST_COMPLETED).done == set(fs)


@WAITS
def test_nothing_and_duplicates(executor: cf.Executor, wait: Any) -> None:
    assert wait([]) == (set(), set())
    future = executor.submit(pow, 2, 3)
    assert wait([future, future]) == ({future}, set())
    assert wait(iter([future])).done == {future}


@WAITS
def test_bad_condition(executor: cf.Executor, wait: Any) -> None:
    with pytest.raises(ValueError, match="NEVER"):
        wait([executor.submit(pow, 2, 3)], return_when="NEVER")


@WAITS
@pytest.mark.parametrize("timeout", [None, 30])
def test_first_completed(elsewhere: cf.Executor, gate: Any, wait: Any, timeout: float | None) -> None:
    quick = elsewhere.submit(pow, 2, 3)
    held = elsewhere.submit(gate)
    done, not_done = wait([held, quick], timeout=timeout, return_when=cf.FIRST_COMPLETED)
    assert done == {quick}
    assert not_done == {held}


@WAITS
def test_first_completed_when_cancelled(
    elsewhere: cf.Executor, gate: Any, wait: Any, until: Callable[..., Any]
) -> None:
    held = elsewhere.submit(gate)
    until(gate.begun, "the worker is busy")
    cancelled = elsewhere.submit(gate)
    assert cancelled.cancel()
    assert wait([held, cancelled], return_when=cf.FIRST_COMPLETED) == ({cancelled}, {held})


@WAITS
@pytest.mark.parametrize("timeout", [None, 30])
def test_first_exception(elsewhere: cf.Executor, gate: Any, wait: Any, timeout: float | None) -> None:
    fs = [elsewhere.submit(pow, 2, 3), elsewhere.submit(fail, KeyError(1)), elsewhere.submit(gate)]
    done, not_done = wait(fs, timeout=timeout, return_when=cf.FIRST_EXCEPTION)
    assert done == set(fs[:2])
    assert not_done == {fs[2]}
    gate.open()
    fs = [elsewhere.submit(pow, 2, n) for n in range(3)]
    assert wait(fs, timeout=timeout, return_when=cf.FIRST_EXCEPTION) == (set(fs), set())


@WAITS
def test_timeout(elsewhere: cf.Executor, gate: Any, wait: Any, until: Callable[..., Any]) -> None:
    quick = elsewhere.submit(pow, 2, 3)
    assert quick.result() == 8
    held = elsewhere.submit(gate)
    assert wait([quick, held], timeout=0.02) == ({quick}, {held})
    assert wait([quick, held], timeout=0) == ({quick}, {held})


def test_minus_one_is_no_limit(executor: cf.Executor) -> None:
    fs = [executor.submit(pow, 2, n) for n in range(3)]
    assert futures.wait(fs, -1).done == set(fs)


@COMPLETES
@pytest.mark.parametrize("timeout", [None, 30])
def test_as_completed(executor: cf.Executor, as_completed: Any, timeout: float | None) -> None:
    fs = [executor.submit(pow, 2, n) for n in range(50)]
    seen = list(as_completed([*fs, fs[0]], timeout=timeout))
    assert len(seen) == 50
    assert set(seen) == set(fs)
    assert list(as_completed(fs)) != []


@COMPLETES
def test_as_completed_gives_what_is_done_first(elsewhere: cf.Executor, gate: Any, as_completed: Any) -> None:
    quick = elsewhere.submit(pow, 2, 3)
    held = elsewhere.submit(gate)
    iterator = as_completed([held, quick])
    assert next(iterator) is quick
    gate.open()
    assert next(iterator) is held
    assert next(iterator, None) is None


@COMPLETES
def test_as_completed_timeout(elsewhere: cf.Executor, gate: Any, as_completed: Any) -> None:
    quick = elsewhere.submit(pow, 2, 3)
    assert quick.result() == 8
    held = elsewhere.submit(gate)
    seen: list[Any] = []
    with pytest.raises(cf.TimeoutError):
        seen.extend(as_completed([held, quick], timeout=0.05))
    assert seen == [quick]


@COMPLETES
def test_as_completed_nothing(nothing_left: str, as_completed: Any) -> None:
    assert list(as_completed([])) == []


def test_with_futures_of_another_executor(executor: cf.Executor) -> None:
    with cf.ThreadPoolExecutor(1) as threads:
        fs = [executor.submit(pow, 2, 3), threads.submit(pow, 2, 4)]
        assert futures.wait(fs).done == set(fs)
        assert set(futures.as_completed(fs)) == set(fs)


def test_wait_from_a_thread_while_the_main_thread_is_busy(
    executor: cf.Executor, until: Callable[..., Any]
) -> None:
    fs = [executor.submit(pow, 2, n) for n in range(10)]
    with cf.ThreadPoolExecutor(2) as threads:
        # The main thread blocks outside of scoop: the two threads have to see to it.
        one = threads.submit(futures.wait, fs, None, cf.FIRST_COMPLETED)
        two = threads.submit(lambda: list(futures.as_completed(fs)))
        assert one.result(30).done
        assert set(two.result(30)) == set(fs)


def nested(depth: int, how: str) -> int:
    if depth == 0:
        return 1
    children = [futures.submit(nested, depth - 1, how) for _ in range(2)]
    if how == "wait":
        done = futures.wait(children).done
    elif how == "first":
        rest, done = set(children), set()
        while rest:
            ended, rest = futures.wait(rest, return_when=futures.FIRST_COMPLETED)
            done |= ended
    elif how == "stdlib":
        done = cf.wait(children).done
    elif how == "timeout":
        done = futures.wait(children, timeout=60).done
    else:
        done = set(futures.as_completed(children))
    return sum(child.result() for child in done)


@pytest.mark.parametrize("how", ["wait", "first", "as_completed", "timeout", "stdlib"])
def test_nested_waits_cannot_deadlock(executor: cf.Executor, how: str) -> None:
    assert executor.submit(nested, 5, how).result() == 32
