"""The tasks of a chaos run. Each says in a log that it runs; who submits one says so and how it ended.

What is logged, and what a task's name means, stands in `check_history.py`, which shares no code with this.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import zlib
from collections.abc import Iterable
from typing import Any

from scoop import futures
from scoop.errors import TaskCrashed, WorkerLost

FOLDER = os.getcwd()  # of the program, and so of all workers
SPIN_SHARE = 8  # one task in so many computes instead of sleeping
TASK_S = (0.001, 0.05)
LEFT_S = 600
BIG_BYTES = (1 << 20, 3 << 20)


class _Process:
    """This process in the log; made anew after a fork."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        with open("/proc/self/stat") as file:
            born = file.read().rpartition(")")[2].split()[19]
        self.name = f"{socket.gethostname()}:{self.pid}:{born}"
        self.count = 0
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self.files = {
            kind: os.open(f"{FOLDER}/{kind}-{socket.gethostname()}", flags, 0o600)
            for kind in ("client", "ledger")
        }

    def log(self, kind: str, *words: object) -> None:
        # One small write: whole lines, also where many processes write and some of them die.
        os.write(self.files[kind], (" ".join(map(str, words)) + "\n").encode())

    def next(self) -> str:
        self.count += 1
        return f"{self.name}/{self.count}"


_process: _Process | None = None


def process() -> _Process:
    global _process
    if _process is None or _process.pid != os.getpid():
        _process = _Process()
    return _process


# ----------------------------------------------------------------------------------------------- owners


def invoke(task: str, by: str) -> str:
    """Say that a task is submitted now; returns the submit's name."""
    here = process()
    name = here.next()
    here.log("client", "invoke", name, task, by)
    return name


def submit(task: str, by: str) -> tuple[str, str, Any]:
    """Submit a task; returns the submit's name, the task, the future."""
    name = invoke(task, by)
    return name, task, futures.submit(run, name, task)


def note(name: str, outcome: tuple[str, Any]) -> int:
    """Say that a value is in; returns its digest."""
    source, value = outcome
    digest = zlib.crc32(value) if isinstance(value, bytes) else value
    process().log("client", "ok", name, source, digest)
    return int(digest)


def value(name: str, task: str, future: Any, by: str) -> int:
    """Wait for a submit, say how it ended, and return its digest.

    One that random kills have hit too often is submitted again.
    """
    while True:
        try:
            outcome = future.result()
        except (TaskCrashed, WorkerLost) as error:
            process().log("client", "error", name, type(error).__name__)
            if kind(task) == "p":
                raise
            name, _, future = submit(task, by)
        except futures.CancelledError:
            process().log("client", "late", name)
            raise
        except Exception as error:
            process().log("client", "error", name, type(error).__name__)
            raise
        else:
            return note(name, outcome)


def values(tasks: Iterable[str], by: str) -> int:
    """The sum of the values of a map."""
    pairs = [(invoke(task, by), task) for task in tasks]
    total, done = 0, 0
    try:
        for outcome in futures.map(run, *zip(*pairs, strict=True)):
            total += note(pairs[done][0], outcome)
            done += 1
    except (TaskCrashed, WorkerLost) as error:
        rest = pairs[done:]
        for name, _ in rest:
            process().log("client", "error", name, type(error).__name__)
        total += sum(value(*submit(task, by), by) for _, task in rest)
    return total


# ------------------------------------------------------------------------------------------------ tasks


def kind(task: str) -> str:
    """The letter that says what a task is."""
    if task[0] == "q" and "." in task:
        return "p" if task.endswith(".p") else "f"
    return "f" if task[0] == "m" and "." in task else task[0]


def run(submitted: str, task: str) -> tuple[str, Any]:
    """Run a task; returns the run's name and the value."""
    here = process()
    name = here.next()
    here.log("ledger", "start", submitted, name, task, "-", f"{time.time():.6f}")
    try:
        found = BODIES[kind(task)](task, name)
    except Exception as error:
        here.log("ledger", "raise", submitted, name, type(error).__name__, f"{time.time():.6f}")
        raise
    digest = zlib.crc32(found) if isinstance(found, bytes) else found
    here.log("ledger", "end", submitted, name, digest, f"{time.time():.6f}")
    return name, found


def _own(task: str) -> int:
    return zlib.crc32(task.encode())


def _work(task: str) -> int:
    """Take 1 to 50 ms, the same for the same task, most of them short."""
    number = _own(task)
    share = (number >> 8) % 1024 / 1024
    seconds = TASK_S[0] * (TASK_S[1] / TASK_S[0]) ** share
    if number % SPIN_SHARE == 0:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            pass
    else:
        time.sleep(seconds)
    return number


def _flat(task: str, name: str) -> int:
    return _work(task)


def _big(task: str, name: str) -> bytes:
    word = task.encode()
    size = BIG_BYTES[0] + _own(task) % BIG_BYTES[1]
    return (word * (size // len(word) + 1))[:size]


def _raises(task: str, name: str) -> int:
    raise ValueError(task)


def _poison(task: str, name: str) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def _leaves(task: str, name: str) -> int:
    """Leave a grandchild with a session of its own behind."""
    subprocess.run(
        ["sh", "-c", f"setsid sleep {LEFT_S} </dev/null >/dev/null 2>&1 &"], check=True, timeout=30
    )
    return _work(task)


def _tree(task: str, name: str) -> int:
    root, *path = task.split(".")
    depth, fan = map(int, root.partition("-")[2].split("x"))
    if len(path) == depth:
        return _work(task)
    children = [submit(f"{task}.{i}", name) for i in range(fan)]
    return (_own(task) + sum(value(*child, name) for child in children)) % 2**32


def _map(task: str, name: str) -> int:
    items = int(task.partition("-")[2])
    return (_own(task) + values([f"{task}.{i}" for i in range(items)], name)) % 2**32


def _with_poison(task: str, name: str) -> int:
    poison, flat = submit(f"{task}.p", name), submit(f"{task}.0", name)
    total = _own(task) + value(*flat, name)
    try:
        value(*poison, name)
    except TaskCrashed:
        total += 1
    return total % 2**32


BODIES = {
    "f": _flat, "c": _flat, "b": _big, "r": _raises, "p": _poison, "d": _leaves, "t": _tree, "m": _map,
    "q": _with_poison,
}  # fmt: skip
