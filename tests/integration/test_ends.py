"""How programs end: by themselves, by Ctrl-C, by a signal; nothing is left, lost, or hangs."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(60)

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Start = Callable[..., "subprocess.Popen[str]"]
Living = Callable[[], dict[int, str]]
Until = Callable[..., Any]

GONE_S = 2.0  # what users are promised
SLACK_S = 3.0  # a loaded machine

BUSY = """\
import sys, time
import scoop
from scoop import futures
def slow(x):
    time.sleep(0.05)
    return x
def spin(x):
    end = time.monotonic() + 0.05
    while time.monotonic() < end: pass
    return x
def deep(n):
    return x if n == 0 else futures.submit(deep, n - 1).result()
def main():
    fs = [futures.submit(slow, i) for i in range(20)] + [futures.submit(time.sleep, 100) for _ in range(3)]
    fs[3].result()
    print("go", flush=True)
    for f in fs: f.result()
if __name__ == "__main__":
    how = sys.argv[1]
    if how == "startup":
        futures.startup(main)
    if how == "with":
        with scoop.Executor(2) as ex:
            fs = [ex.submit(slow, i) for i in range(20)] + [ex.submit(time.sleep, 100) for _ in range(3)]
            fs[3].result()
            print("go", flush=True)
            for f in fs: f.result()
    if how == "executor":
        ex = scoop.Executor(2)
        fs = [ex.submit(slow, i) for i in range(2000)]
    else:
        fs = [futures.submit(spin if how == "spin" else slow, i) for i in range(2000)]
    fs[3].result()
    print("go", flush=True)
    print(sum(f.result(timeout=500) if how == "timeout" else f.result() for f in fs))
"""


@pytest.mark.parametrize("how", ["sleep", "spin", "timeout", "executor", "with", "startup"])
@pytest.mark.parametrize("via", [(), ("-m", "scoop")], ids=["python", "scoop"])
def test_ctrl_c_once(start: Start, living: Living, until: Until, how: str, via: tuple[str, ...]) -> None:
    process = start(BUSY, how, via=via)
    assert process.stdout is not None
    assert process.stdout.readline() == "go\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    # The process ends by the signal itself: that is what a shell shows as 130.
    assert process.returncode == -signal.SIGINT, err
    assert (out, err) == ("", "Interrupted\n")
    until(lambda: not living(), "everything is gone", GONE_S + SLACK_S)


def test_a_shell_sees_130(start: Start, environment: dict[str, str], tmp_path: Path) -> None:
    import sys

    (tmp_path / "program.py").write_text(BUSY)
    script = f"trap : INT; {sys.executable} {tmp_path}/program.py sleep; echo status $?"
    shell = subprocess.Popen(
        ["bash", "-c", script],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert shell.stdout is not None
    assert shell.stdout.readline() == "go\n"
    import os

    os.killpg(shell.pid, signal.SIGINT)  # as a terminal does
    out, _ = shell.communicate(timeout=20)
    assert out == "status 130\n"


def test_ctrl_c_twice(start: Start, living: Living, until: Until) -> None:
    process = start(BUSY, "sleep")
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == -signal.SIGINT
    until(lambda: not living(), "everything is gone", GONE_S + SLACK_S)


def test_ctrl_c_while_the_program_ends(start: Start, living: Living, until: Until) -> None:
    """The calls that finish after the last line of the program can be interrupted, at once with two."""
    source = """\
import time
import scoop
def slow(x): time.sleep(30)
if __name__ == "__main__":
    ex = scoop.Executor(2)
    fs = [ex.submit(slow, i) for i in range(8)]
    while not fs[0].running(): time.sleep(0.001)
    print("go", flush=True)
"""
    process = start(source)
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == -signal.SIGINT, err
    assert err == "Interrupted\n"
    until(lambda: not living(), "everything is gone", GONE_S + SLACK_S)


def test_ctrl_c_after_a_shutdown_that_does_not_wait(start: Start, living: Living, until: Until) -> None:
    source = """\
import time
import scoop
if __name__ == "__main__":
    ex = scoop.Executor(2)
    fs = [ex.submit(time.sleep, 100) for i in range(8)]
    while not fs[0].running(): time.sleep(0.001)
    ex.shutdown(wait=False)
    print("go", flush=True)
    fs[0].result()
"""
    process = start(source)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (-signal.SIGINT, "Interrupted\n")
    until(lambda: not living(), "everything is gone", GONE_S + SLACK_S)


def test_a_program_may_catch_ctrl_c_and_go_on(start: Start) -> None:
    source = """\
import time
from scoop import futures
def slow(x): time.sleep(0.02); return x
if __name__ == "__main__":
    fs = [futures.submit(slow, i) for i in range(100)]
    fs[2].result()
    try:
        print("go", flush=True)
        for f in fs: f.result()
        print("too fast")
    except KeyboardInterrupt:
        print("caught")
    print(sum(f.result() for f in fs))
    print(futures.submit(slow, 5).result())
"""
    process = start(source)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, "caught\n4950\n5\n", "")


def test_a_handler_of_the_programs_own_is_kept(start: Start) -> None:
    source = """\
import signal, time
from scoop import futures
def slow(x): time.sleep(0.01); return x
if __name__ == "__main__":
    signal.signal(signal.SIGINT, lambda *_: print("mine", flush=True))
    fs = [futures.submit(slow, i) for i in range(100)]
    fs[2].result()
    print("go", flush=True)
    print(sum(f.result() for f in fs))
"""
    process = start(source)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, "mine\n4950\n", "")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("how", ["sleep", "executor"])
def test_the_origin_is_killed(
    start: Start, living: Living, until: Until, how: str, number: signal.Signals
) -> None:
    process = start(BUSY, how)
    assert process.stdout is not None
    process.stdout.readline()
    until(lambda: len(living()) >= 3, "agent and worker are there")
    process.send_signal(number)
    assert process.wait(10) == -number
    until(lambda: not living(), "everything is gone", GONE_S + SLACK_S)


OUTSTANDING = """\
import os, sys, time
import scoop
from scoop import futures
folder = sys.argv[1]
def touch(i):
    time.sleep(0.005)
    open(os.path.join(folder, str(i)), "w").close()
    return i
def parent(i):
    return futures.submit(touch, i).result()
if __name__ == "__main__":
    if sys.argv[2] == "executor":
        ex = scoop.Executor(2)
        for i in range(20): ex.submit(parent, i)
    else:
        for i in range(20): futures.submit(parent, i)
    {end}
"""


@pytest.mark.parametrize(("end", "status"), [("pass", 0), ("sys.exit(4)", 4), ("1 / 0", 1)])
@pytest.mark.parametrize("how", ["module", "executor"])
def test_outstanding_calls_finish(run: Run, tmp_path: Path, how: str, end: str, status: int) -> None:
    folder = tmp_path / "done"
    folder.mkdir()
    run(OUTSTANDING.format(end=end), str(folder), how, status=status)
    assert len(list(folder.iterdir())) == 20


def test_a_shutdown_that_does_not_wait_loses_nothing(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "done"
    folder.mkdir()
    run(OUTSTANDING.format(end="ex.shutdown(wait=False)"), str(folder), "executor")
    assert len(list(folder.iterdir())) == 20


def test_os_exit_leaves_nothing(run: Run, living: Living, until: Until, tmp_path: Path) -> None:
    run(OUTSTANDING.format(end="os._exit(3)"), str(tmp_path), "module", status=3)
    until(lambda: not living(), "everything is gone", GONE_S + SLACK_S)


def test_threads_that_outlive_the_main_thread(run: Run) -> None:
    source = """\
import threading, time
from concurrent.futures import ThreadPoolExecutor
import scoop
from scoop import futures
def square(x): time.sleep(0.001); return x * x
ended = threading.Event()
def later():
    ended.wait()
    time.sleep(0.1)
    print(sum(f.result() for f in [futures.submit(square, i) for i in range(50)]), flush=True)
def pooled():
    time.sleep(0.2)
    print(futures.submit(square, 9).result(), flush=True)
if __name__ == "__main__":
    futures.submit(square, 1).result()
    threading.Thread(target=later).start()
    ThreadPoolExecutor(1).submit(pooled)
    ended.set()
"""
    assert sorted(run(source).stdout.split()) == ["40425", "81"]


def test_thread_that_starts_scoop_first(run: Run) -> None:
    source = """\
import threading
from scoop import futures
def square(x): return x * x
def work(): print(futures.submit(square, 3).result())
if __name__ == "__main__":
    thread = threading.Thread(target=work)
    thread.start(); thread.join()
    print(futures.submit(square, 4).result())
"""
    assert run(source).stdout == "9\n16\n"


def test_fifty_starts_and_shutdowns_leave_nothing(run: Run) -> None:
    source = """\
import os, threading
import scoop
from scoop import futures
def f(): return 1
def census():
    children = open(f"/proc/self/task/{os.getpid()}/children").read().split()
    tasks = len(os.listdir("/proc/self/task"))
    return len(os.listdir("/proc/self/fd")), threading.active_count(), tasks, children
if __name__ == "__main__":
    futures.submit(f).result()
    futures.shutdown()
    before = census()
    for i in range(50):
        if i % 2: futures.submit(f).result()
        else: scoop.Executor(1).submit(f)
        futures.shutdown()
        if not i % 2:
            from scoop.launch import exits
            while exits.pools: exits.pools[0].finish()
    after = census()
    assert before == after, (before, after)
    print("ok")
"""
    assert run(source).stdout == "ok\n"
