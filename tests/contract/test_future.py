"""Futures of every kind of executor behave as PEP 3148 says."""

from __future__ import annotations

import asyncio
import concurrent.futures as cf
import logging
import pickle
import threading
from collections.abc import Callable
from typing import Any

import pytest

import scoop


def fail(error: BaseException) -> None:
    raise error


class Falsy(Exception):
    def __bool__(self) -> bool:
        return False

    def __len__(self) -> int:
        return 0


def test_is_a_future(executor: cf.Executor) -> None:
    future = executor.submit(pow, 2, 10)
    assert isinstance(future, cf.Future)
    assert isinstance(future, scoop.Future)
    assert future.result() == 1024
    assert future.exception() is None
    assert future.done()
    assert not future.running()
    assert not future.cancelled()
    assert "finished" in repr(future)


def test_result_again_and_from_threads(executor: cf.Executor) -> None:
    future = executor.submit(sorted, [3, 1, 2])
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(future.result())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == [[1, 2, 3]] * 4
    assert future.result(timeout=0) is future.result()


def test_exception(executor: cf.Executor) -> None:
    future = executor.submit(fail, LookupError("here", 7))
    with pytest.raises(LookupError) as caught:
        future.result()
    assert caught.value.args == ("here", 7)
    assert future.exception() is caught.value
    assert future.done()
    assert not future.cancelled()


def test_exception_whose_truth_is_false(executor: cf.Executor) -> None:
    future = executor.submit(fail, Falsy())
    assert isinstance(future.exception(), Falsy)
    with pytest.raises(Falsy):
        future.result()


def test_exception_as_result_is_not_raised(executor: cf.Executor) -> None:
    assert repr(executor.submit(ValueError, "made").result()) == "ValueError('made')"


@pytest.mark.parametrize("method", ["result", "exception"])
def test_timeout(elsewhere: cf.Executor, gate: Any, method: str) -> None:
    future = elsewhere.submit(gate, 5)
    with pytest.raises(cf.TimeoutError):
        getattr(future, method)(timeout=0)
    with pytest.raises(cf.TimeoutError):
        getattr(future, method)(timeout=0.02)
    gate.open()
    assert getattr(future, method)(timeout=30) == (5 if method == "result" else None)


@pytest.mark.parametrize("method", ["result", "exception"])
def test_a_time_that_is_over(elsewhere: cf.Executor, gate: Any, method: str) -> None:
    future = elsewhere.submit(gate, 5)
    for timeout in (0, -0.001, -1):
        with pytest.raises(cf.TimeoutError):
            getattr(future, method)(timeout)
        assert cf.wait([future], timeout).not_done == {future}
    gate.open()


def test_timeout_is_long_enough(executor: cf.Executor) -> None:
    # Nobody calls anything of scoop's that could run it meanwhile.
    assert executor.submit(pow, 2, 3).result(timeout=30) == 8


def test_cancel(elsewhere: cf.Executor, gate: Any, until: Callable[..., Any]) -> None:
    running = elsewhere.submit(gate, 1)
    until(gate.begun, "the first task runs")
    waiting = elsewhere.submit(gate, 2)
    assert waiting.cancel()
    assert waiting.cancel()
    assert waiting.cancelled()
    assert waiting.done()
    assert not waiting.running()
    with pytest.raises(cf.CancelledError):
        waiting.result()
    with pytest.raises(cf.CancelledError):
        waiting.exception(timeout=1)
    assert running.running()
    assert not running.cancel()
    gate.open()
    assert running.result() == 1
    assert not running.cancel()
    assert not running.cancelled()
    assert gate.begun() == 1


def test_cancel_wakes_a_waiting_thread(elsewhere: cf.Executor, gate: Any, until: Callable[..., Any]) -> None:
    elsewhere.submit(gate)
    until(gate.begun, "the first task runs")
    waiting = elsewhere.submit(gate)
    seen: list[BaseException | None] = []

    def wait() -> None:
        try:
            waiting.result(timeout=60)
        except cf.CancelledError as error:
            seen.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    assert waiting.cancel()
    thread.join(30)
    assert len(seen) == 1


def test_callbacks_in_order_with_the_future(executor: cf.Executor, until: Callable[..., Any]) -> None:
    future = executor.submit(pow, 2, 3)
    seen: list[tuple[int, Any]] = []
    for number in range(3):
        future.add_done_callback(lambda done, number=number: seen.append((number, done.result())))  # type: ignore[misc]
    until(lambda: len(seen) == 3, "all callbacks")
    assert seen == [(0, 8), (1, 8), (2, 8)]
    future.add_done_callback(lambda done: seen.append((9, done.result())))
    assert seen[-1] == (9, 8), "a callback of a future that is done is called at once"


def test_callback_of_failed_and_cancelled(
    elsewhere: cf.Executor, gate: Any, until: Callable[..., Any]
) -> None:
    failed = elsewhere.submit(fail, KeyError(1))
    seen: list[Any] = []
    failed.add_done_callback(lambda future: seen.append(future.exception()))
    until(lambda: seen, "the callback of a failed call")
    assert isinstance(seen.pop(), KeyError)
    elsewhere.submit(gate)
    until(gate.begun, "the gate holds the worker")
    waiting = elsewhere.submit(pow, 1, 1)
    waiting.add_done_callback(lambda future: seen.append(future.cancelled()))
    assert waiting.cancel()
    until(lambda: seen, "the callback of a cancelled call")
    assert seen == [True]


def test_callback_that_fails_is_logged(
    executor: cf.Executor, caplog: pytest.LogCaptureFixture, until: Callable[..., Any]
) -> None:
    seen: list[int] = []

    def bad(future: Any) -> None:
        raise ZeroDivisionError("in a callback")

    future = executor.submit(pow, 2, 3)
    with caplog.at_level(logging.ERROR):
        future.add_done_callback(bad)
        future.add_done_callback(lambda done: seen.append(1))
        until(lambda: seen, "the callback after the bad one")
        future.add_done_callback(bad)
    assert caplog.text.count("ZeroDivisionError: in a callback") == 2
    assert future.result() == 8


def test_callback_without_a_wait(executor: cf.Executor) -> None:
    told = threading.Event()
    executor.submit(pow, 2, 3).add_done_callback(lambda future: told.set())
    assert told.wait(30)


def test_polling_done_makes_progress(executor: cf.Executor, until: Callable[..., Any]) -> None:
    future = executor.submit(pow, 2, 3)
    until(future.done, "done() turns true")


def test_futures_are_completed_by_scoop_alone(executor: cf.Executor) -> None:
    future = executor.submit(pow, 2, 3)
    for call in (
        lambda: future.set_result(1),
        lambda: future.set_exception(KeyError()),
        future.set_running_or_notify_cancel,
    ):
        with pytest.raises(RuntimeError):
            call()
    assert future.result() == 8


def test_future_as_argument_and_as_result(executor: cf.Executor) -> None:
    first = executor.submit(pow, 2, 3)
    assert executor.submit(pow, first, 2).result() == 64
    assert executor.submit(divmod, first, executor.submit(int, 5)).result() == (1, 3)
    failed = executor.submit(fail, KeyError("needed"))
    with pytest.raises(KeyError, match="needed"):
        executor.submit(str, failed).result()


def test_pickled_future_is_its_value(executor: cf.Executor) -> None:
    assert pickle.loads(pickle.dumps(executor.submit(pow, 2, 3))) == 8


def test_asyncio(executor: cf.Executor) -> None:
    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        one = asyncio.wrap_future(executor.submit(pow, 2, 3))
        two = loop.run_in_executor(executor, pow, 2, 4)
        return list(await asyncio.wait_for(asyncio.gather(one, two), 30))

    assert asyncio.run(main()) == [8, 16]
