"""Started by hand on several hosts, and joining a job of several hosts: the testbed beside the checkout."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import testbed
from processes import end_all

pytestmark = [pytest.mark.root, pytest.mark.timeout(240)]

END_S = 120
LEASE_S = "20"
LONG = """\
import os, pathlib, sys, time
from scoop import futures

def task(folder, number):
    pathlib.Path(folder, str(number)).touch()
    while not pathlib.Path(folder, "enough").exists():
        time.sleep(0.05)
    return number

def main():
    calls = [futures.submit(task, sys.argv[1], number) for number in range(2)]
    print("ok", sum(call.result() for call in calls))

if __name__ == "__main__":
    futures.startup(main)
"""


@pytest.fixture
def on_host(
    hosts: tuple[str, ...], environment: dict[str, str], tmp_path: Path
) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts Python on a host: `on_host(host, *arguments, env={})`. All faults are healed at the end."""
    running: list[subprocess.Popen[str]] = []
    common = {"XDG_STATE_HOME": str(tmp_path / "state"), "SCOOP_LEASE": LEASE_S}
    known = {name: value for name, value in environment.items() if name != "SCOOP_WORKERS"}

    def begin(host: str, *arguments: str, **env: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [testbed.TESTBED / "on-host", host, sys.executable, *arguments],
            env={**known, **common, **env},
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
    testbed.run("net-fault", "heal")
    end_all(running)


@pytest.fixture
def job(
    on_host: Callable[..., subprocess.Popen[str]], tmp_path: Path, until: Callable[..., Any]
) -> Callable[..., tuple[list[subprocess.Popen[str]], Path]]:
    """A job by hand: broker and worker on node1, the program on another host. Returns them when tasks run."""
    program = tmp_path / "long_program.py"
    program.write_text(LONG)

    def begin(port: int, host: str) -> tuple[list[subprocess.Popen[str]], Path]:
        folder = tmp_path / str(port)
        folder.mkdir()
        broker = on_host("node1", "-m", "scoop.broker", "--address", f"tcp://*:{port}")
        assert broker.stdout is not None
        assert "listens at" in broker.stdout.readline()
        there = {"BROKER_ADDRESS": f"tcp://node1:{port}"}
        worker = on_host("node1", str(program), str(folder), IS_ORIGIN="0", **there)
        origin = on_host(host, str(program), str(folder), IS_ORIGIN="1", **there)
        until(lambda: len(list(folder.iterdir())) == 2, "both tasks run", 60)
        return [broker, worker, origin], folder

    return begin


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=END_S)
    return process.returncode, out, err


def test_a_program_that_is_cut_off_is_gone_and_one_that_is_stopped_is_not(job):
    stopped, folder = job(5601, "node2")
    cut, cut_folder = job(5701, "node3")
    testbed.run("net-fault", "freeze", "node2")
    try:
        testbed.run("net-fault", "isolate", "node3")
        status, _, err = ended(cut[0])
        assert status == 0
        assert f"the program is gone (its host has not answered for {LEASE_S} s): the job ends" in err
        assert ended(cut[1])[0] == 0
        (cut_folder / "enough").touch()  # the task that it runs itself
        status, _, err = ended(cut[2])
        assert status == 1
        assert "its host has not answered" in err
        # The other has been silent for as long, but its host has answered.
        assert [process.poll() for process in stopped] == [None] * 3
    finally:
        testbed.run("net-fault", "thaw", "node2")
    (folder / "enough").touch()
    assert ended(stopped[2])[:2] == (0, "ok 1\n")
    assert [ended(process)[0] for process in stopped[:2]] == [0, 0]


SPREAD = """\
import pathlib, socket, sys, time
from scoop import futures
from beside import where

def tree(depth):
    if depth == 0:
        return 1
    left, right = (futures.submit(tree, depth - 1) for _ in range(2))
    return left.result() + right.result()

if __name__ == "__main__":
    seen = set()
    while not pathlib.Path(sys.argv[1]).exists():
        seen |= set(futures.map(where, range(100)))
        pathlib.Path(sys.argv[1] + ".seen").write_text(" ".join(seen))
    print(*sorted(seen), futures.submit(tree, 8).result())
"""
BESIDE = """\
import socket, time

def where(_):
    time.sleep(0.005)
    return socket.gethostname()
"""


def test_a_host_joins_a_job_of_two_and_leaves_it(on_host, tmp_path, until, living):
    enough, file, seen = tmp_path / "enough", tmp_path / "job.join", tmp_path / "enough.seen"
    (tmp_path / "spread_program.py").write_text(SPREAD)
    (tmp_path / "beside.py").write_text(BESIDE)
    hosts = ("--hosts", "127.0.0.1", "node2", "-n", "3", "--join-file", str(file))
    job = on_host("node1", "-m", "scoop", *hosts, "spread_program.py", str(enough))
    until(seen.exists, "the job runs", 60)
    joined = on_host("node3", "-m", "scoop.launch.joining", "--join", str(file), "-n", "2")
    until(lambda: "node3" in seen.read_text(), "a task runs on the third host", 60)
    for pid, text in living().items():
        if text.startswith("python") and f"joining --join {file}" in text:
            os.kill(pid, signal.SIGTERM)
    status, out, err = ended(joined)
    assert (status, err) == (0, "")
    assert "2 workers for the job at tcp://" in out
    again = on_host("node3", "-m", "scoop.launch.joining", "--join", str(file), "-n", "2")
    assert again.stdout is not None
    assert "2 workers" in again.stdout.readline()
    enough.touch()
    status, out, err = ended(job)
    assert (status, out, err) == (0, "node1 node2 node3 256\n", "")
    assert ended(again) == (0, "", "")
