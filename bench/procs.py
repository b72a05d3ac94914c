"""What the kernel says of processes: family, memory, CPU time. Linux; reads ``/proc`` only."""

from __future__ import annotations

import os
import signal
from pathlib import Path

PROC = Path("/proc")
PAGE = os.sysconf("SC_PAGE_SIZE")


def parent(pid: int) -> int | None:
    """The parent of a process, None if it is gone. The name in ``stat`` may hold blanks and brackets."""
    try:
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return int(fields[1])


def descendants(root: int) -> list[int]:
    """All children of a process and their children, whichever session they put themselves in."""
    children: dict[int, list[int]] = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            above = parent(int(entry.name))
            if above is not None:
                children.setdefault(above, []).append(int(entry.name))
    found: list[int] = []
    waiting = [root]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def kill_family(root: int) -> None:
    """Kill a process that we started and everything beneath it, parents first."""
    for pid in [root, *descendants(root)]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def pss_bytes(pid: int) -> int | None:
    """Proportional set size: shared pages count in parts, so that the sum over processes is true."""
    try:
        text = (PROC / str(pid) / "smaps_rollup").read_text()
    except OSError:
        return None
    for line in text.splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return None


def rss_bytes(pid: int | str = "self") -> int | None:
    """Resident set size, None if the process is gone."""
    try:
        return int((PROC / str(pid) / "statm").read_text().split()[1]) * PAGE
    except OSError:
        return None


def cpu_ns(pid: int) -> int | None:
    """CPU time of all threads; the scheduler's own count, since clock ticks of 10 ms hide an idle beat."""
    total = 0
    try:
        for task in (PROC / str(pid) / "task").iterdir():
            total += int((task / "schedstat").read_text().split()[0])
    except (OSError, IndexError):
        return None
    return total


def command_name(pid: int) -> str:
    """The short name that the kernel keeps of a process."""
    try:
        return (PROC / str(pid) / "comm").read_text().strip()
    except OSError:
        return "gone"
