"""What an agent says of its living workers: it reads their pages and /proc, only when somebody asks.

A worker is looked at twice, a moment apart: whether it uses the processor shows in between. It need not do
anything for that, so it costs a job nothing, and works for a worker that is stopped or holds its GIL.
"""

from __future__ import annotations

import os
import time

from scoop.launch.watched import read_name, read_running, read_times

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from scoop.launch.loop import Loop
    from scoop.launch.watched import Worker

LOOK_S = 0.1
"""Between the two looks; the kernel counts processor time in steps of 10 ms."""

HELD = {"T": "stopped", "t": "traced"}
"""What the kernel's letters mean for a process that cannot go on by itself."""

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Stat:
    """One look at a process: its state as a letter, processor time in seconds, resident memory in bytes."""

    __slots__ = ("cpu_s", "letter", "rss_bytes")

    def __init__(self, letter: str, cpu_s: float, rss_bytes: int) -> None:
        self.letter = letter
        self.cpu_s = cpu_s
        self.rss_bytes = rss_bytes


def look_at(pid: int) -> Stat | None:
    """What the kernel says of a process; None if it is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    return Stat(fields[0], (int(fields[11]) + int(fields[12])) / _TICKS, int(fields[21]) * _PAGE_BYTES)


class Lookout:
    """Looks at the workers of an agent.

    Args:
        loop: the agent, for its timers.
        workers: those that live, by process id.
    """

    def __init__(self, loop: Loop, workers: dict[int, Worker]) -> None:
        self._loop = loop
        self._workers = workers
        self._seen: dict[int, tuple[tuple[int, int], float]] = {}
        self._waiting: list[Callable[[list[dict[str, Any]]], None]] = []

    def look(self, then: Callable[[list[dict[str, Any]]], None]) -> None:
        """Call `then` after `LOOK_S` with what there is to say of each worker. Does not block."""
        self._waiting.append(then)
        if len(self._waiting) > 1:
            return  # those who ask meanwhile get the same
        before = {pid: look_at(pid) for pid in self._workers}

        def again() -> None:
            found = self._describe_all(before)
            waiting, self._waiting = self._waiting, []
            for told in waiting:
                told(found)

        self._loop._after(LOOK_S, again)

    def _describe_all(self, before: dict[int, Stat | None]) -> list[dict[str, Any]]:
        self._seen = {pid: seen for pid, seen in self._seen.items() if pid in self._workers}
        found = []
        for worker in list(self._workers.values()):
            now = look_at(worker.pid)
            if now is not None:
                found.append(self._describe(worker, before.get(worker.pid) or now, now))
        return found

    def _describe(self, worker: Worker, before: Stat, now: Stat) -> dict[str, Any]:
        running = read_running(worker.page)
        began, task_began, waiting, ready = read_times(worker.page)
        clock = time.monotonic()
        said: dict[str, Any] = {
            "worker": worker.index,
            "pid": worker.pid,
            "state": state_of(before, now, bool(running), waiting, ready),
            "seconds": clock - worker.started,
            "rss_bytes": now.rss_bytes,
            "cpu_s": now.cpu_s,
            "waiting": waiting,
            "function": "",
            "age_s": None,
            "at_least": False,
            "task_age_s": None,
            "attempt": 0,
        }
        if running:
            owner, call, function, attempt = running[-1][:4]
            said["function"] = read_name(worker.page, owner, function)
            said["attempt"] = attempt + 1
            if began is None:
                # So short a call, as a rule, that nobody looks at the clock: since somebody has asked, then.
                key, first = self._seen.get(worker.pid, ((0, 0), clock))
                if key != (owner, call):
                    first = clock
                    self._seen[worker.pid] = (owner, call), first
                began = first
                said["at_least"] = True
            said["age_s"] = max(0.0, clock - began)
            said["task_age_s"] = None if task_began is None else max(0.0, clock - task_began)
        return said


def state_of(before: Stat, now: Stat, runs: bool, waiting: int, ready: bool) -> str:
    """What a process does, in a word, from two looks at it.

    Returns:
        "stopped" (by a signal), "traced" (by a debugger), "kernel" (in a system call that cannot be
        interrupted), "starting", "idle", "busy" (uses the processor), "waits" (for results of calls that its
        tasks have submitted) or "sleeps" (its task waits for something else).
    """
    if now.letter in HELD:
        return HELD[now.letter]
    if now.letter == before.letter == "D":
        return "kernel"
    if not runs and not waiting:
        return "idle" if ready else "starting"
    if runs and (now.letter == "R" or now.cpu_s > before.cpu_s):
        return "busy"
    return "waits" if waiting else "sleeps"
