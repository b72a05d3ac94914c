"""The testbed's hosts as a chaos run sees them: their processes, and how to break them."""

from __future__ import annotations

import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

import census
import testbed

TESTBED = Path(os.environ.get("SCOOP_TESTBED", testbed.TESTBED))
STATE = Path(os.environ.get("TB_STATE", "/run/testbed"))
SCRIPT_S = 60


@dataclass(frozen=True)
class Process:
    """A process on a host: its number and its parent's here, its command's name, and its name in the logs."""

    pid: int
    parent: int
    comm: str
    name: str


def script(name: str, *arguments: str) -> str:
    """Run a script of the testbed; returns what it said. Raises RuntimeError if it fails."""
    environ = {key: value for key, value in os.environ.items() if key != "SCOOP_TEST_MARKER"}
    done = subprocess.run(
        [TESTBED / name, *arguments],
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SCRIPT_S,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{name} {' '.join(arguments)}: {done.stdout[-500:]}")
    return done.stdout


def up(count: int) -> list[str]:
    """Bring up so many hosts; returns their names."""
    script("hosts-up", str(count))
    return [f"node{number}" for number in range(1, count + 1)]


def down() -> None:
    """Take all hosts down, with all that runs there."""
    script("hosts-down")


def processes(host: str) -> list[Process]:
    """What runs on a host, zombies excluded."""
    try:
        space = census.namespace(int((STATE / f"{host}.pid").read_text()))
    except (OSError, ValueError):
        return []
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        if space and census.namespace(int(entry)) == space:
            process = _look(host, int(entry))
            if process is not None:
                found.append(process)
    return found


def _look(host: str, pid: int) -> Process | None:
    try:
        head, _, tail = Path("/proc", str(pid), "stat").read_text().rpartition(")")
        status = Path("/proc", str(pid), "status").read_text()
    except OSError:
        return None
    fields = tail.split()
    if fields[0] in "ZX":
        return None
    inner = next(line.split()[-1] for line in status.splitlines() if line.startswith("NSpid:"))
    return Process(pid, int(fields[1]), head.partition("(")[2], f"{host}:{inner}:{fields[19]}")


def named(host: str, *prefixes: str) -> list[Process]:
    """Those whose command's name begins with one of these."""
    return [process for process in processes(host) if process.comm.startswith(prefixes)]


def workers(host: str) -> list[Process]:
    """The workers: what a task has just forked has the same name, but another parent."""
    there = processes(host)
    agents = {process.pid for process in there if process.comm == "scoop-agent"}
    return [process for process in there if process.comm.startswith("scoop-w") and process.parent in agents]


def ssh_to(host: str, origin: str) -> list[Process]:
    """The ssh commands on the origin's host that connect it with another one."""
    found = []
    for process in named(origin, "ssh"):
        try:
            words = Path("/proc", str(process.pid), "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if process.comm == "ssh" and host.encode() in words:
            found.append(process)
    return found


def send(process: Process, number: signal.Signals) -> bool:
    """Send a signal; False if it was gone already."""
    try:
        os.kill(process.pid, number)
    except ProcessLookupError:
        return False
    return True
