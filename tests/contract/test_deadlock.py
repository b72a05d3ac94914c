"""Whatever goes wrong in a call harms that call alone, and nobody waits for ever."""

from __future__ import annotations

import concurrent.futures as cf
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

import scoop
from scoop import current, futures, outcomes
from scoop._core import session
from scoop.errors import ResultNotPicklable, UsageError

LIMIT_S = 30


class Explosive:
    """Does something when it is pickled, or when it is unpickled."""

    def __init__(self, out: Callable[[], Any] | None = None, back: Callable[[], Any] | None = None) -> None:
        self.out = out
        self.back = back

    def __reduce__(self) -> Any:
        if self.out is not None:
            self.out()
        return (Explosive, ()) if self.back is None else (self.back, ())


def raise_memory() -> None:
    raise MemoryError("full")


def raise_value() -> None:
    raise ValueError("broken")


def leave() -> None:
    sys.exit(3)


def vanish() -> None:
    os._exit(3)


def crash() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def identity(value: Any = None) -> Any:
    return value


def give(out: Callable[[], Any] | None, back: Callable[[], Any] | None) -> Any:
    return Explosive(out, back)


def works(executor: cf.Executor) -> None:
    assert executor.submit(pow, 2, 3).result(LIMIT_S) == 8
    assert list(executor.map(abs, range(100), timeout=LIMIT_S)) == list(range(100))


def test_arguments_that_cannot_be_pickled(executor: cf.Executor) -> None:
    for bad in (threading.Lock(), {"deep": [threading.Lock()]}, Explosive(out=raise_value)):
        with pytest.raises((TypeError, ValueError)):
            executor.submit(identity, bad).result(LIMIT_S)
        with pytest.raises((TypeError, ValueError)):
            list(executor.map(identity, [1, bad], timeout=LIMIT_S))
    works(executor)


def test_results_that_cannot_be_pickled(executor: cf.Executor) -> None:
    with pytest.raises(scoop.ScoopError, match=r"lock"):
        executor.submit(threading.Lock).result(LIMIT_S)
    with pytest.raises(Exception, match="broken"):
        executor.submit(give, raise_value, None).result(LIMIT_S)
    works(executor)


def test_result_that_cannot_be_pickled_in_a_piece(executor: cf.Executor) -> None:
    def work(n: int) -> Any:
        return threading.Lock() if n == 5 else n

    seen: list[int] = []
    with pytest.raises(scoop.ScoopError, match="lock"):
        seen.extend(executor.map(work, range(10), chunksize=10))
    assert seen == [0, 1, 2, 3, 4]
    works(executor)


def test_arguments_and_results_that_cannot_be_unpickled(executor: cf.Executor) -> None:
    for action, error in ((raise_value, ValueError), (raise_memory, MemoryError)):
        with pytest.raises(error):
            executor.submit(identity, Explosive(back=action)).result(LIMIT_S)
        with pytest.raises(error):
            executor.submit(give, None, action).result(LIMIT_S)
    works(executor)


def test_exit_in_a_task(executor: cf.Executor) -> None:
    with pytest.raises(SystemExit) as caught:
        executor.submit(leave).result(LIMIT_S)
    assert caught.value.code == 3
    works(executor)


class Unfriendly(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")
        self.lock = threading.Lock()


def raise_unfriendly() -> None:
    raise Unfriendly(1, 2)


def test_exception_that_cannot_travel(executor: cf.Executor) -> None:
    with pytest.raises(Exception, match="1 and 2"):
        executor.submit(raise_unfriendly).result(LIMIT_S)
    works(executor)


@pytest.mark.parametrize("end", [vanish, crash])
def test_task_that_ends_its_process(nothing_left: str, end: Callable[[], None]) -> None:
    with scoop.Executor(2) as executor:
        innocent = [executor.submit(pow, 2, n) for n in range(50)]
        with pytest.raises(cf.BrokenExecutor) as caught:
            executor.submit(end).result(LIMIT_S)
        assert isinstance(caught.value, scoop.errors.TaskCrashed)
        assert caught.value.attempts == 3
        assert [future.result(LIMIT_S) for future in innocent] == [2**n for n in range(50)]
        works(executor)


@pytest.mark.parametrize("action", [vanish, crash])
def test_argument_that_ends_the_process(nothing_left: str, action: Callable[[], None]) -> None:
    with scoop.Executor(1) as executor:
        with pytest.raises(cf.BrokenExecutor):
            executor.submit(identity, Explosive(back=action)).result(LIMIT_S)
        works(executor)


def test_worker_killed_from_outside(nothing_left: str, gate: Any, until: Callable[..., Any]) -> None:
    with scoop.Executor(1) as executor:
        pid = executor.submit(os.getpid).result(LIMIT_S)
        held = executor.submit(gate, 5)
        until(gate.begun, "the worker is busy")
        os.kill(pid, signal.SIGKILL)
        until(lambda: gate.begun() == 2, "it runs again in another worker")
        gate.open()
        assert held.result(LIMIT_S) == 5
        works(executor)


def test_many_large_arguments_and_results(executor: cf.Executor) -> None:
    data = bytes(3_000_000)
    fs = [executor.submit(identity, data) for _ in range(10)]
    assert all(future.result(LIMIT_S) == data for future in fs)


def test_a_flood_of_submits_is_slowed_down(executor: cf.Executor) -> None:
    executor.submit(abs, 0).result(LIMIT_S)
    pool = executor._pool if isinstance(executor, scoop.Executor) else current.pool
    assert pool is not None
    pool.session.queue_bytes_max = 10_000
    fs = [executor.submit(len, ["x" * 1000]) for _ in range(1000)]
    assert sum(not future.done() for future in fs) < 500  # all that is not in the queue is with workers
    assert [future.result(LIMIT_S) for future in fs] == [1] * 1000


def test_what_is_too_large_for_one_message(executor: cf.Executor, monkeypatch: pytest.MonkeyPatch) -> None:
    # The limit of 4 GiB, lowered in the process that meets it.
    def make() -> list[bytes]:
        outcomes.PAYLOAD_BYTES_MAX = 1000
        return [bytes(2000)]

    monkeypatch.setattr(session, "PAYLOAD_BYTES_MAX", 1000)
    if isinstance(executor, scoop.Executor):
        with pytest.raises(UsageError, match=r"take \d+ bytes, more than the limit of 1000 for one call"):
            executor.submit(len, [bytes(2000)])
        with pytest.raises(ResultNotPicklable, match="more than the limit of 1000 bytes for one result"):
            executor.submit(make).result(LIMIT_S)
        works(executor)


def test_callback_that_submits(executor: cf.Executor) -> None:
    told = threading.Event()

    def more(future: Any) -> None:
        executor.submit(pow, 2, 3).add_done_callback(lambda _: told.set())

    executor.submit(pow, 2, 3).add_done_callback(more)
    assert told.wait(LIMIT_S)


def test_wait_for_everything_from_inside(executor: cf.Executor) -> None:
    def parent(n: int) -> int:
        return sum(futures.join_all(*[futures.submit(pow, n, 2) for _ in range(n)]))

    fs = [executor.submit(parent, n) for n in range(20)]
    assert [future.result(LIMIT_S) for future in fs] == [n**3 for n in range(20)]
