"""The end of an executor and of a program."""

from __future__ import annotations

import concurrent.futures as cf
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import scoop
from scoop import futures

PROGRAM = """
import sys, time
import scoop
from scoop import futures

def late(text):
    time.sleep(0.2)
    print(text, flush=True)
    return text

if __name__ == "__main__":
    {body}
"""


def touch(path: str) -> None:
    Path(path).touch()


def test_submit_after_shutdown(nothing_left: str) -> None:
    executor = scoop.Executor(1)
    assert executor.submit(pow, 2, 3).result() == 8
    executor.shutdown()
    executor.shutdown()
    with pytest.raises(RuntimeError, match="shutdown"):
        executor.submit(pow, 2, 3)
    with pytest.raises(RuntimeError, match="shutdown"):
        executor.map(abs, [1])


def test_module_starts_again(nothing_left: str) -> None:
    for _ in range(3):
        scoop.configure(workers=2)
        assert futures.submit(pow, 2, 3).result() == 8
        assert scoop.IS_RUNNING
        futures.shutdown()
        assert not scoop.IS_RUNNING


def test_shutdown_without_a_call(nothing_left: str) -> None:
    futures.shutdown()
    scoop.Executor(1).shutdown()


def test_shutdown_lets_submitted_calls_finish(executor: cf.Executor, tmp_path: Path) -> None:
    fs = [executor.submit(touch, str(tmp_path / str(n))) for n in range(20)]
    executor.shutdown()
    assert len(list(tmp_path.iterdir())) == 20
    assert all(future.done() for future in fs)
    assert [future.result() for future in fs] == [None] * 20


def test_context_manager(nothing_left: str) -> None:
    with scoop.Executor(2) as executor:
        fs = [executor.submit(pow, 2, n) for n in range(20)]
    assert [future.result() for future in fs] == [2**n for n in range(20)]


def test_cancel_futures(nothing_left: str, gate: Any, until: Callable[..., Any]) -> None:
    executor = scoop.Executor(1)
    held = executor.submit(gate, 7)
    until(gate.begun, "the worker is busy")
    waiting = [executor.submit(pow, 2, n) for n in range(50)]
    executor.shutdown(wait=False, cancel_futures=True)
    until(lambda: all(future.cancelled() for future in waiting), "all that have not begun are cancelled")
    gate.open()
    assert held.result(30) == 7
    executor.shutdown()


def test_shutdown_without_waiting(nothing_left: str, gate: Any, until: Callable[..., Any]) -> None:
    executor = scoop.Executor(1)
    fs = [executor.submit(gate, n) for n in range(3)]
    executor.shutdown(wait=False)
    assert not fs[0].done()
    with pytest.raises(RuntimeError):
        executor.submit(pow, 1, 1)
    gate.open()
    assert [future.result(30) for future in fs] == [0, 1, 2]
    executor.shutdown()


def test_shutdown_in_a_task_is_harmless(nothing_left: str) -> None:
    scoop.configure(workers=2)
    try:
        with scoop.Executor(1) as executor:
            executor.submit(futures.shutdown).result()
            assert executor.submit(lambda: futures.submit(pow, 2, 3).result()).result() == 8
    finally:
        futures.shutdown()


@pytest.mark.parametrize(
    "body",
    [
        "future = futures.submit(late, 'apple')",
        "executor = scoop.Executor(1); future = executor.submit(late, 'apple')",
        "executor = scoop.Executor(1); executor.submit(late, 'apple'); executor.shutdown(wait=False)",
        "futures.startup(lambda: futures.submit(late, 'apple') and None)",
    ],
)
def test_calls_finish_before_the_program_ends(run: Callable[..., Any], body: str) -> None:
    done = run(PROGRAM.format(body=body))
    assert done.stdout.strip() == "apple"
    assert done.stderr == ""


def test_startup(run: Callable[..., Any]) -> None:
    done = run(PROGRAM.format(body="print(futures.startup(pow, 2, exp=5), scoop.IS_RUNNING)"))
    assert done.stdout.strip() == "32 False"
    done = run(PROGRAM.format(body="futures.startup(sys.exit, 7)"), status=7)
    assert done.stderr == ""


@pytest.mark.parametrize("how", ["terminate_workers", "kill_workers"])
def test_forced_end(nothing_left: str, gate: Any, until: Callable[..., Any], how: str) -> None:
    executor = scoop.Executor(2)
    fs = [executor.submit(gate) for _ in range(3)]
    until(gate.begun, "a task runs")
    getattr(executor, how)()
    for future in fs:
        with pytest.raises(cf.BrokenExecutor):
            future.result(30)
    with pytest.raises(RuntimeError):
        executor.submit(pow, 2, 3)
