"""Which processes of a job exist, found by a variable that all that a job starts inherits.

Neither parents nor sessions nor process groups tell: a task's child may leave them all.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

JOB = "SCOOP_JOB"
"""Stands in the environment of agents, brokers, workers, and whatever a task starts."""

HERE = os.readlink("/proc/self/ns/pid")


def carriers(variable: str, value: str | None = None) -> dict[int, str]:
    """Process id and command of all living processes with this variable in their environment, but this one.

    Args:
        variable: its name.
        value: what it has to be; anything if None.
    """
    wanted = f"{variable}=".encode() + (b"" if value is None else value.encode())
    found = {}
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            environ = Path("/proc", name, "environ").read_bytes()
            # Most processes end here: looking for the bytes is cheaper than taking them apart.
            if wanted not in environ:
                continue
            words = environ.split(b"\0")
            if not any(word == wanted or (value is None and word.startswith(wanted)) for word in words):
                continue
            command = (
                Path("/proc", name, "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            )
            state = Path("/proc", name, "stat").read_text().rpartition(")")[2].split()[0]
            comm = Path("/proc", name, "comm").read_text().strip()
        except OSError:
            continue
        if state not in "ZX":
            found[int(name)] = f"{comm}: {command[:200]}"
    return found


def namespace(pid: int) -> str:
    """The space of process numbers of a process, one for each host of the testbed; empty if it is gone."""
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return ""


def on_other_hosts() -> dict[int, str]:
    """All processes of any job on the testbed's hosts, as numbered here."""
    return {pid: command for pid, command in carriers(JOB).items() if namespace(pid) not in ("", HERE)}


def kill(pid: int) -> None:
    """SIGKILL, if it is still there."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
