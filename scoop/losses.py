"""What killed a worker: from the agent's report to the error of the task that was running."""

from __future__ import annotations

import socket
from typing import Any

import msgpack  # type: ignore[import-untyped, unused-ignore]

from scoop.errors import TaskCrashed, WorkerLost

LINEAGES_MAX = 10_000


class Deaths:
    """How many workers have died in each call of the job, wherever and by whomever it was submitted.

    A call is known by its lineage, its place in the tree of calls, which is the same when a parent that was
    lost with its process runs again and submits it anew.

    Args:
        limit: deaths from which on a call is deadly.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._counts: dict[bytes, int] = {}

    def note(self, report: dict[str, Any]) -> tuple[bytes, bytes] | None:
        """Count one death by its agent's report; returns lineage and `pack_loss` of a call now deadly."""
        running = report.get("running")
        lineage = running[-1][4] if running else b""
        if report.get("planned") or not any(lineage):
            return None
        count = self._counts.pop(lineage, 0) + 1
        self._counts[lineage] = count
        if len(self._counts) > LINEAGES_MAX:
            del self._counts[next(iter(self._counts))]
        return (lineage, pack_loss(report, count)) if count == self._limit else None


def pack_loss(report: dict[str, Any], attempts: int = 0) -> bytes:
    """Encode the agent's report of a death for the task's owner; `attempts` if more is known than it says."""
    running = report.get("running") or [[0, 0, 0, 0, b"", 0]]
    data: bytes = msgpack.packb(
        {
            "host": socket.gethostname(),
            "pid": report["pid"],
            "signal": report.get("signal"),
            "exitcode": report.get("exitcode"),
            "oom": bool(report.get("oom")),
            "memory": report.get("memory") or [],
            "attempts": attempts or int(running[-1][3]) + 1,
        }
    )
    return data


def explain_loss(data: bytes, task: str, once: bool = False, crashes: int = 0) -> BaseException:
    """The error for a task whose workers died too often. `data` is what `pack_loss` made, or empty.

    `once`: it was to run at most once, and its owner had granted that it begins. `crashes`: deaths that
    its owner has heard of: a worker that dies just after its task has ended is reported without the task.
    """
    if not data and once:
        return WorkerLost(
            f"{task} was lost with the worker that was to run it: it may have run, or a part of it"
        )
    if not data:
        return WorkerLost(f"{task} was lost again and again with the workers that held it")
    report = msgpack.unpackb(data)
    return TaskCrashed(
        task=task,
        host=report["host"],
        pid=report["pid"],
        signal=report["signal"],
        exitcode=report["exitcode"],
        attempts=max(report["attempts"], crashes),
        reason=out_of_memory(report["memory"]) if report["oom"] else "",
    )


def out_of_memory(memory: list[int]) -> str:
    """What is known of a death for lack of memory.

    Args:
        memory: the dead one's peak and its cgroup's limit (0: none), in bytes; empty if not known.
    """
    if not memory:
        return "out of memory"
    peak, limit = (f"{size / 2**30:.2f} GiB" for size in memory)
    most = f"its cgroup may have {limit}" if memory[1] else "the host has no more"
    return f"out of memory: it had {peak}, {most}"


def blamed(running: list[list[Any]], dead: int) -> tuple[int, int]:
    """The owner and number of the task to blame for a death: the innermost that another process owns.

    (0, 0) if there is none.
    """
    for owner, task, *_ in reversed(running):
        if owner != dead:
            return owner, task
    return 0, 0
