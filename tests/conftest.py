"""What all tests share: nothing is left behind, nothing takes for ever, programs run as a user runs them."""

from __future__ import annotations

import faulthandler
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import census
import pytest
from processes import end_all, write_whole

MARKER = "SCOOP_TEST_MARKER"
GONE_S = 5.0
PROGRAM_S = 60.0
SESSION_S = float(os.environ.get("SCOOP_TEST_DEADLINE_S", "1800"))
PROGRAMS = Path(__file__).parent / "integration" / "programs"


def pytest_configure(config: pytest.Config) -> None:
    """Start the clock of the whole run, and listen to Ctrl-C even where a shell has it ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # What is ignored here would be ignored by every program that a test starts.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    over = threading.Timer(SESSION_S, _too_long)
    over.daemon = True
    over.start()


def _too_long() -> None:
    """The run as a whole hangs: show every stack and end it, with all that the current test has started."""
    stream = sys.__stderr__
    if stream is not None:
        print(f"\nThe test run has taken {SESSION_S:.0f} s: ending it. Stacks:", file=stream, flush=True)
        faulthandler.dump_traceback(stream, all_threads=True)
    marker = os.environ.get(MARKER)
    if marker:
        for pid in marked(marker):
            census.kill(pid)
    os._exit(3)


def marked(marker: str) -> dict[int, str]:
    """Process id and command of all living processes with our marker in their environment, but this one."""
    return census.carriers(MARKER, marker)


def segments() -> set[str]:
    """Directories of ours in shared memory whose owner is dead, or is this process."""
    from scoop.launch import rundir

    found = set()
    for path in Path("/dev/shm").glob(f"scoop-{os.getuid()}-*"):
        try:
            with open(path / "lock") as lock:
                if str(path) not in rundir._held:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, FileNotFoundError):
            continue
        found.add(str(path))
    return found


@pytest.fixture(autouse=True)
def nothing_left(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[str]:
    """After each test: no process, no run directory and no shared memory of it exists any more.

    A test with the mark `root` uses hosts of its own, and the marker does not travel through ssh: there
    nothing of any job may be left. The value is the marker in the environment of all processes of the test.
    """
    marker = os.urandom(8).hex()
    before = segments()
    folder = tempfile.mkdtemp(prefix="st-", dir="/tmp")
    monkeypatch.setenv(MARKER, marker)
    monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
    hosts = request.node.get_closest_marker("root") is not None

    def alive() -> dict[int, str]:
        return {**marked(marker), **(census.on_other_hosts() if hosts else {})}

    yield marker
    deadline = time.monotonic() + GONE_S
    while time.monotonic() < deadline and (alive() or os.listdir(folder) or segments() - before):
        time.sleep(0.01)
    processes, files, memory = alive(), os.listdir(folder), segments() - before
    for pid in processes:
        census.kill(pid)
    shutil.rmtree(folder, ignore_errors=True)
    assert not processes, f"processes are left: {processes}"
    assert not files, f"run directories are left: {files}"
    assert not memory, f"shared memory is left: {memory}"


@pytest.fixture
def living(nothing_left: str) -> Callable[[], dict[int, str]]:
    """Tells which processes of this test are alive: process id and command."""
    return lambda: marked(nothing_left)


@pytest.fixture(scope="session")
def until() -> Callable[..., Any]:
    """Waits for a condition: `until(condition, what, limit_s=20)` returns its first true value."""

    def wait(condition: Callable[[], Any], what: str, limit_s: float = 20.0) -> Any:
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            value = condition()
            if value:
                return value
            time.sleep(0.005)
        raise AssertionError(f"not within {limit_s} s: {what}")

    return wait


@pytest.fixture
def environment(nothing_left: str, tmp_path: Path) -> dict[str, str]:
    """Environment for programs: they find this scoop, and show their stacks on SIGABRT."""
    import scoop

    assert scoop.__file__ is not None
    root = str(Path(scoop.__file__).parent.parent)
    known = {
        name: value
        for name, value in os.environ.items()
        if not (name.startswith("SCOOP_") or name.endswith("_NUM_THREADS")) or name == MARKER
    }
    return {**known, "PYTHONPATH": root, "PYTHONFAULTHANDLER": "1", "SCOOP_WORKERS": "2"}


@pytest.fixture
def start(environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts programs: `start(program, *arguments, via=(), env={}, ...)`, in a session of their own.

    `program` is the name of one under `integration/programs`, or its text. `via` goes between interpreter
    and program, e.g. ("-m", "scoop").
    """
    running: list[subprocess.Popen[str]] = []

    def begin(program: str, *arguments: str, via: tuple[str, ...] = (), **more: Any) -> subprocess.Popen[str]:
        if "\n" in program:
            path = tmp_path / "program.py"
            write_whole(path, program)
        else:
            path = PROGRAMS / program
        more.setdefault("stdout", subprocess.PIPE)
        more.setdefault("stderr", subprocess.PIPE)
        more.setdefault("stdin", subprocess.DEVNULL)
        process = subprocess.Popen(
            [sys.executable, *via, str(path), *arguments],
            text=True,
            env={**environment, **more.pop("env", {})},
            start_new_session=True,
            **more,
        )
        running.append(process)
        return process

    yield begin
    end_all(running)


@pytest.fixture
def run(start: Callable[..., subprocess.Popen[str]]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a program to its end, see `start`; one that does not end within `limit_s` shows its stacks."""

    def run_program(
        program: str, *arguments: str, status: int | None = 0, limit_s: float = PROGRAM_S, **more: Any
    ) -> subprocess.CompletedProcess[str]:
        process = start(program, *arguments, **more)
        try:
            out, err = process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGABRT)
            try:
                out, err = process.communicate(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                out, err = process.communicate()
            raise AssertionError(f"no end within {limit_s} s\n--- out\n{out}\n--- err\n{err}") from None
        done = subprocess.CompletedProcess(process.args, process.returncode, out, err)
        if status is not None:
            assert done.returncode == status, f"status {done.returncode}\n--- out\n{out}\n--- err\n{err}"
        return done

    return run_program
