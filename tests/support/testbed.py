"""The testbed's hosts, and what of scoop runs on them; the testbed lies beside the checkout."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

TESTBED = Path(__file__).resolve().parents[3] / "shared" / "testbed"
# What agents, brokers and workers are called; the programs of the tests have other names.
OURS = "scoop-"
HOSTS = ("node1", "node2", "node3", "node4")
END_S = 60


def missing() -> str:
    """Why there can be no testbed here; empty if there can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if not (TESTBED / "hosts-up").exists():
        return f"there is no testbed at {TESTBED}"
    return ""


def install(*parts: str) -> None:
    """Install Debian packages for parts of the testbed; skips the test where that is not possible."""
    reason = missing()
    if reason:
        pytest.skip(reason)
    done = subprocess.run(
        [TESTBED / "deps", *parts], capture_output=True, text=True, timeout=300, check=False
    )
    if done.returncode:
        pytest.skip(f"the testbed's packages cannot be installed: {done.stderr[-300:]}")


def run(script: str, *arguments: str, timeout_s: float = 170) -> None:
    """Run one of its scripts; it has to succeed. What it starts does not count as left by a test."""
    environ = {name: value for name, value in os.environ.items() if name != "SCOOP_TEST_MARKER"}
    done = subprocess.run(
        [TESTBED / script, *arguments],
        env=environ,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, f"{script}: {done.stdout[-500:]}{done.stderr[-1000:]}"


def left() -> dict[int, str]:
    """Processes of scoop on any of its hosts, as numbered outside."""
    found = {}
    here = os.readlink("/proc/self/ns/pid")
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            comm = Path("/proc", name, "comm").read_text().strip()
            state = Path("/proc", name, "stat").read_text().rpartition(")")[2].split()[0]
            if comm.startswith(OURS) and state not in "ZX" and os.readlink(f"/proc/{name}/ns/pid") != here:
                found[int(name)] = comm
        except OSError:
            continue
    return found


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Status and output of a program, when it has ended."""
    out, err = process.communicate(timeout=END_S)
    return process.returncode, out, err


def namespace_of(host: str) -> str:
    """What /proc says of the process ids of a host."""
    return os.readlink(f"/proc/{Path('/run/testbed', f'{host}.pid').read_text().strip()}/ns/pid")


def pids(host: str, name: str) -> list[int]:
    """Processes called `name` in a host, as numbered outside."""
    mark = namespace_of(host)
    found = []
    for pid, comm in left().items():
        try:
            if comm == name and os.readlink(f"/proc/{pid}/ns/pid") == mark:
                found.append(pid)
        except OSError:
            continue
    return found


def pids_of_origin() -> list[int]:
    """The program's own process: the Python that runs scoop-run in node1."""
    mark = namespace_of("node1")
    found = []
    for name in os.listdir("/proc"):
        try:
            words = Path("/proc", name, "cmdline").read_bytes().split(b"\0")
            if b"scoop" in words and b"-m" in words and os.readlink(f"/proc/{name}/ns/pid") == mark:
                found.append(int(name))
        except (OSError, ValueError):
            continue
    return found
