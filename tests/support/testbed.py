"""The testbed's hosts, and what of scoop runs on them; the testbed lies beside the checkout."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

TESTBED = Path(__file__).resolve().parents[3] / "shared" / "testbed"
# What agents, brokers and workers are called; the programs of the tests have other names.
OURS = "scoop-"


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
