"""SIGTERM to a worker: what has not started goes back, what runs is finished, nothing runs twice."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(90)

PROGRAM = """\
import os, sys, time
import scoop

def work(x):
    with open(LEDGER, "a") as file:
        file.write(f"{x} {os.getpid()}\\n")
    time.sleep(0.01)
    return x

def parent(x):
    children = [scoop.futures.submit(work, 10 * x + i) for i in range(10)]
    return sum(child.result() for child in children)

if __name__ == "__main__":
    with scoop.Executor(2) as pool:
        print("go", flush=True)
        print(sum(pool.map(CALL)), flush=True)
"""


def ran(ledger: Path) -> list[tuple[int, int]]:
    """Task and process of each execution so far."""
    text = ledger.read_text() if ledger.exists() else ""
    return [(int(x), int(pid)) for x, pid in (line.split() for line in text.splitlines())]


@pytest.mark.parametrize(
    ("call", "times"), [("work, range(400)", 1), ("work, range(400)", 3), ("parent, range(40)", 1)]
)
def test_a_worker_leaves_and_is_replaced(
    start: Callable[..., Any], until: Callable[..., Any], tmp_path: Path, call: str, times: int
) -> None:
    ledger = tmp_path / "ledger"
    process = start(PROGRAM.replace("LEDGER", repr(str(ledger))).replace("CALL", call))
    assert process.stdout.readline() == "go\n"
    gone: set[int] = set()
    for _ in range(times):
        pid = until(lambda: [pid for _, pid in ran(ledger)[-1:] if pid not in gone], "a worker at work")[0]
        os.kill(pid, signal.SIGTERM)
        gone.add(pid)
        until(lambda pid=pid: not Path("/proc", str(pid)).exists(), "its end")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, f"{sum(range(400))}\n", "")
    assert sorted(x for x, _ in ran(ledger)) == list(range(400)), "each task ran once"
    if call.startswith("work"):  # a parent that has begun keeps its worker until its children are done
        assert len({pid for _, pid in ran(ledger)}) >= 2 + times, "each was replaced"


def test_a_process_that_a_task_forked_ends_by_sigterm(run: Callable[..., Any]) -> None:
    source = """\
import os, signal, time
import scoop

def task():
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    os.kill(child, signal.SIGTERM)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

with scoop.Executor(1) as pool:
    print(pool.submit(task).result(), pool.submit(abs, -2).result())
"""
    assert run(source).stdout == "-15 2\n"
