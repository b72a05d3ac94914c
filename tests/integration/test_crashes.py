"""Workers that die: the task is tried again elsewhere, then fails with all that is known."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(90)

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.mark.parametrize("how", ["kill", "segfault", "exit"])
def test_a_task_that_always_kills_its_worker(run: Run, how: str) -> None:
    done = run("crashes.py", "executor_case", how)
    assert done.stdout == "ok\n"
    assert done.stderr.count("died: ") == 3
    if how == "segfault":
        assert "Fatal Python error: Segmentation fault" in done.stderr
        assert "crashes.py" in done.stderr, "the task's stack is shown"


@pytest.mark.parametrize(
    "case", ["once_case", "memory_case", "many_module", "many_executor", "nested_case", "nested_module"]
)
def test_results_are_right_all_the_same(run: Run, case: str, tmp_path: Path) -> None:
    arguments = [str(tmp_path)] if case in ("once_case", "nested_case", "nested_module") else []
    assert run("crashes.py", case, *arguments).stdout == "ok\n"


def test_a_task_that_crashed_never_runs_in_the_origin(run: Run, tmp_path: Path) -> None:
    assert run("crashes.py", "never_in_the_origin", str(tmp_path)).stdout == "ok\n"


def test_a_crash_in_the_origin_is_the_programs_end(run: Run) -> None:
    source = """\
import os, signal
from scoop import futures
def die(): os.kill(os.getpid(), signal.SIGKILL)
if __name__ == "__main__":
    futures.submit(die).result()
"""
    run(source, status=-9, env={"SCOOP_WORKERS": "1"})


def test_the_agent_is_started_again(run: Run) -> None:
    source = """\
import os, signal, time
import scoop
def where(): return os.getppid()
def square(x): time.sleep(0.001); return x * x
if __name__ == "__main__":
    with scoop.Executor(2) as ex:
        agent = ex.submit(where).result()
        fs = [ex.submit(square, x) for x in range(300)]
        os.kill(agent, signal.SIGKILL)
        assert [f.result(timeout=30) for f in fs] == [x * x for x in range(300)]
        assert ex.submit(where).result(timeout=30) != agent
"""
    done = run(source)
    assert "the agent of this host died" in done.stderr


def test_workers_that_cannot_start_break_the_executor_not_the_program(run: Run) -> None:
    source = """\
import scoop
from scoop.errors import StartupFailed
def broken(): raise RuntimeError("no licence")
def f(): return 1
if __name__ == "__main__":
    ex = scoop.Executor(1, initializer=broken)
    error = ex.submit(f).exception(timeout=30)
    assert isinstance(error, StartupFailed) and "no licence" in str(error), repr(error)
    try:
        ex.submit(f)
    except StartupFailed:
        print("ok")
    ex.shutdown()
"""
    assert run(source).stdout == "ok\n"


NOBODY = """\
import os, signal, time
import psutil
from scoop import current, futures
from scoop.errors import StartupFailed
def f(x): return x
if __name__ == "__main__":
    current.get()
    while current.pool.failure is None:
        for child in psutil.Process().children(recursive=True):
            try:
                if child.name().startswith("scoop-w"): child.kill()
            except psutil.NoSuchProcess: pass
        time.sleep(0.01)
    for call in (lambda: futures.submit(f, 1).result(), lambda: list(futures.map(f, range(9)))):
        try: call()
        except StartupFailed as error: assert "died at their start" in str(error), error
        else: raise AssertionError("somebody has run it")
    print("ok")
"""


@pytest.mark.parametrize("hosts", [(), ("--hosts", "127.0.0.1")], ids=["here", "hosts"])
def test_without_any_worker_calls_are_refused(run: Run, hosts: tuple[str, ...]) -> None:
    """Where the program runs no task itself nobody would ever run them."""
    assert run(NOBODY, via=("-m", "scoop", *hosts, "-n", "2", "--origin-idle")).stdout == "ok\n"
