"""What killed a worker: from the agent's report to the error of the task that was running."""

from __future__ import annotations

import socket
from typing import Any

import msgpack  # type: ignore[import-untyped, unused-ignore]

from scoop.errors import TaskCrashed, WorkerLost


def pack_loss(report: dict[str, Any]) -> bytes:
    """Encode the agent's report of a death for the task's owner."""
    running = report.get("running") or [[0, 0, 0, 0, b"", 0]]
    data: bytes = msgpack.packb(
        {
            "host": socket.gethostname(),
            "pid": report["pid"],
            "signal": report.get("signal"),
            "exitcode": report.get("exitcode"),
            "oom": bool(report.get("oom")),
            "attempts": int(running[-1][3]) + 1,
        }
    )
    return data


def explain_loss(data: bytes, task: str) -> BaseException:
    """The error for a task whose workers died too often. `data` is what `pack_loss` made, or empty."""
    if not data:
        return WorkerLost(f"{task} was lost again and again with the workers that held it")
    report = msgpack.unpackb(data)
    return TaskCrashed(
        task=task,
        host=report["host"],
        pid=report["pid"],
        signal=report["signal"],
        exitcode=report["exitcode"],
        attempts=report["attempts"],
        reason="out of memory" if report["oom"] else "",
    )


def blamed(running: list[list[Any]], dead: int) -> tuple[int, int]:
    """The owner and number of the task to blame for a death: the innermost that another process owns.

    (0, 0) if there is none.
    """
    for owner, task, *_ in reversed(running):
        if owner != dead:
            return owner, task
    return 0, 0
