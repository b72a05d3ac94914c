"""Jobs on several hosts: what their tests share."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from processes import end_all, write_whole
from testbed import HOSTS, TESTBED, install, left, run

WHERE = """\
import os, socket, sys, time
from collections import Counter
from scoop import futures

def where(x):
    time.sleep(0.01)
    return socket.gethostname()

def tree(depth):
    if depth == 0:
        return 1
    left, right = (futures.submit(tree, depth - 1) for _ in range(2))
    return left.result() + right.result()

if __name__ == "__main__":
    print("go", flush=True)
    hosts = Counter(futures.map(where, range(int(sys.argv[1]) if len(sys.argv) > 1 else 600)))
    print(*sorted(hosts), sum(hosts.values()), futures.submit(tree, 10).result(), flush=True)
"""


@pytest.fixture(scope="module")
def hosts() -> Iterator[tuple[str, ...]]:
    """Four hosts with sshd; taken down at the end, whatever happens."""
    install("hosts")
    run("hosts-up", str(len(HOSTS)))
    yield HOSTS
    subprocess.run([TESTBED / "hosts-down"], capture_output=True, timeout=60, check=True)


@pytest.fixture
def launch(
    hosts: tuple[str, ...], environment: dict[str, str], tmp_path: Path
) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts `scoop-run` on node1: `launch(options, source=WHERE, arguments=())`."""
    running: list[subprocess.Popen[str]] = []
    environ = {name: value for name, value in environment.items() if name != "SCOOP_WORKERS"}

    def begin(
        *options: str, source: str = WHERE, arguments: tuple[str, ...] = (), env: dict[str, str] | None = None
    ) -> subprocess.Popen[str]:
        program = tmp_path / "program.py"
        write_whole(program, source)
        process = subprocess.Popen(
            [TESTBED / "on-host", "node1", sys.executable, "-m", "scoop", *options, str(program), *arguments],
            env={**environ, **(env or {})},
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        running.append(process)
        return process

    yield begin
    end_all(running)
    deadline = time.monotonic() + 10
    while left() and time.monotonic() < deadline:
        time.sleep(0.02)
    remains = left()
    for pid in remains:
        os.kill(pid, signal.SIGKILL)
    assert not remains, f"processes are left: {remains}"
