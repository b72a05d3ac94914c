"""Programs that fork: the child sees a closed library that says so, the parent does not notice."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(60)

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Living = Callable[[], dict[int, str]]

REFUSAL = """\
import os, sys, time
import scoop
from scoop import futures
from scoop.errors import ForkedProcess
def square(x): return x * x
def slow(x): time.sleep(0.2); return x
def refused(call):
    try: call()
    except ForkedProcess: return 1
    return 0
def in_child(action):
    pid = os.fork()
    if pid == 0:
        status = 1
        try: status = 0 if action() else 2
        finally: os._exit(status)
    return os.waitpid(pid, 0)[1]
"""


def test_the_child_is_refused_and_the_parent_goes_on(run: Run) -> None:
    source = (
        REFUSAL
        + """\
if __name__ == "__main__":
    fs = [futures.submit(slow, i) for i in range(4)]
    fs[0].running()
    assert in_child(lambda: refused(lambda: futures.submit(square, 2))) == 0
    assert in_child(lambda: futures.shutdown() is None) == 0
    assert [f.result() for f in fs] == [0, 1, 2, 3]
    assert futures.submit(square, 3).result() == 9
    print("ok")
"""
    )
    assert run(source).stdout == "ok\n"


def test_waiting_in_a_child_is_refused(run: Run) -> None:
    source = (
        REFUSAL
        + """\
if __name__ == "__main__":
    with scoop.Executor(1) as ex:
        done = ex.submit(square, 3)
        assert done.result() == 9
        future = ex.submit(slow, 1)
        assert in_child(lambda: done.result() == 9) == 0
        assert in_child(lambda: refused(lambda: future.result())) == 0
        assert in_child(lambda: refused(lambda: future.result(timeout=5))) == 0
        assert in_child(lambda: refused(lambda: ex.submit(square, 1))) == 0
        assert in_child(lambda: refused(lambda: scoop.Executor(1))) == 0
        assert future.result() == 1
    print("ok")
"""
    )
    assert run(source, limit_s=20).stdout == "ok\n"


def test_a_child_that_ends_as_a_program_does(run: Run) -> None:
    """Its exit hooks run, and end nothing of the parent's."""
    source = (
        REFUSAL
        + """\
if __name__ == "__main__":
    fs = [futures.submit(slow, i) for i in range(4)]
    fs[0].running()
    pid = os.fork()
    if pid == 0:
        del fs
        sys.exit(6)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 6
    assert [f.result() for f in fs] == [0, 1, 2, 3]
    print("ok")
"""
    )
    assert run(source).stdout == "ok\n"


def test_multiprocessing_with_fork(run: Run) -> None:
    source = (
        REFUSAL
        + """\
import multiprocessing
def use_pool(n):
    with multiprocessing.get_context("fork").Pool(2) as pool:
        return sum(pool.map(abs, range(n)))
if __name__ == "__main__":
    fs = [futures.submit(slow, i) for i in range(4)]
    assert use_pool(10) == 45
    with scoop.Executor(1) as ex:
        assert ex.submit(use_pool, 10).result() == 45, "in a task"
    assert [f.result() for f in fs] == [0, 1, 2, 3]
    print("ok")
"""
    )
    assert run(source).stdout == "ok\n"


def test_fork_inside_a_task(run: Run) -> None:
    source = (
        REFUSAL
        + """\
def task():
    return in_child(lambda: refused(lambda: futures.submit(square, 2))), futures.submit(square, 5).result()
if __name__ == "__main__":
    with scoop.Executor(1) as ex:
        assert ex.submit(task).result() == (0, 25)
        assert ex.submit(square, 3).result() == 9
    print("ok")
"""
    )
    assert run(source).stdout == "ok\n"


def test_subprocess_in_tasks(run: Run) -> None:
    source = (
        REFUSAL
        + """\
import subprocess
def echo(i):
    return subprocess.run(["sh", "-c", f"read x; echo {i}$x"], stdout=subprocess.PIPE, text=True).stdout
if __name__ == "__main__":
    with scoop.Executor(2) as ex:
        assert [f.result() for f in [ex.submit(echo, i) for i in range(20)]] == [f"{i}\\n" for i in range(20)]
        assert "/dev/null" in ex.submit(os.readlink, "/proc/self/fd/0").result()
    print("ok")
"""
    )
    assert run(source, stdin=subprocess.PIPE).stdout == "ok\n"


def test_background_processes_of_tasks_end_with_the_job(
    run: Run, living: Living, until: Callable[..., Any]
) -> None:
    source = (
        REFUSAL
        + """\
import subprocess
def leave():
    subprocess.Popen(["sleep", "1000"])
    subprocess.run(["sh", "-c", "setsid sleep 1001 >/dev/null 2>&1 &"])
    return os.getpid()
if __name__ == "__main__":
    with scoop.Executor(1) as ex:
        ex.submit(leave).result()
    print("ok")
"""
    )
    assert run(source).stdout == "ok\n"
    until(lambda: not living(), "no sleep is left", 5)


def test_a_scoop_program_started_by_a_task(run: Run) -> None:
    source = (
        REFUSAL
        + """\
import subprocess
INNER = "from scoop import futures; print(sum(futures.submit(pow, 2, i).result() for i in range(5)))"
def start_inner():
    return subprocess.run([sys.executable, "-c", INNER], capture_output=True, text=True).stdout
if __name__ == "__main__":
    with scoop.Executor(1) as ex:
        assert ex.submit(start_inner).result() == "31\\n"
    print("ok")
"""
    )
    assert run(source).stdout == "ok\n"


OUT_OF_THE_TASK = """\
import os, sys
from scoop import Executor
def forks(how):
    pid = os.fork()
    if pid == 0:
        if how == "return":
            return "child"
        if how == "exit":
            sys.exit(7)
        raise ValueError("in the child")
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
if __name__ == "__main__":
    with Executor(1) as executor:
        print([executor.submit(forks, how).result(20) for how in ("return", "exit", "raise")])
"""


def test_a_child_that_comes_out_of_its_task_ends(run: Run) -> None:
    done = run(OUT_OF_THE_TASK)
    assert done.stdout == "[0, 7, 1]\n"
    assert "a process that a task has forked returned from the task; it ends" in done.stderr
    assert "ValueError: in the child" in done.stderr
