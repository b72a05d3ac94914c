"""A running job is asked what it does: from another process, and by itself."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(60)

HOLD = """\
import json, os, sys, time
import scoop
from scoop import futures

def hold(folder):
    while not os.path.exists(os.path.join(folder, "go")):
        time.sleep(0.01)

def spin(folder):
    while not os.path.exists(os.path.join(folder, "go")):
        pass

def outer(folder):
    return futures.submit(hold, folder).result()

if __name__ == "__main__":
    task = {"hold": hold, "spin": spin, "outer": outer}[sys.argv[2]]
    calls = [futures.submit(task, sys.argv[1]) for _ in range(int(sys.argv[3]))]
    last = futures.submit(max, calls[-1], 1)
    print("go", flush=True)
    for call in calls:
        call.result()
"""


@pytest.fixture
def explain(environment: dict[str, str]) -> Callable[..., tuple[int, str, str]]:
    """Runs `scoop-run --explain`; status, output and errors."""

    def ask(*words: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, "-m", "scoop", "--explain", *words],
            env=environment,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    return ask


@pytest.fixture
def shown(explain: Callable[..., tuple[int, str, str]], until: Callable[..., Any]) -> Callable[..., str]:
    """Waits until the report of a process has a text so many times; returns the report."""

    def wait(pid: int, text: str, times: int = 1) -> str:
        def look() -> str:
            _, out, _ = explain(str(pid))
            return out if out.count(text) >= times else ""

        return str(until(look, f"{text!r} in the report"))

    return wait


def finish(process: subprocess.Popen[str], folder: Path) -> None:
    (folder / "go").touch()
    process.communicate(timeout=30)
    assert process.returncode == 0


def test_what_runs_and_what_waits(start, shown, explain, tmp_path):
    options = {"SCOOP_WORKERS": "3", "SCOOP_ORIGIN_IDLE": "1"}
    process = start(HOLD, str(tmp_path), "hold", "9", env=options)
    assert process.stdout.readline() == "go\n"
    report = shown(process.pid, "no processor  ", 2)
    assert f"process {process.pid} on {os.uname().nodename}" in report.splitlines()[0]
    assert report.splitlines()[0].endswith(": 2 workers")
    assert "the program: waits for the result of hold (program.py:" in report
    assert report.count("  hold for ") == 2
    # How many of those that wait have been handed out already is the broker's business.
    counted = re.findall(
        r"(\d+) calls (?:queued in the program|given away, with no result yet) \(hold", report
    )
    assert sum(map(int, counted)) == 9, report
    assert "* 7 calls wait for a free worker: all 2 are in use" in report
    assert "1 call waits for results of others among their arguments" in report
    # Without a number all jobs are shown; a process that is none has none.
    assert f"process {process.pid} " in explain()[1]
    status, out, err = explain("1")
    assert (status, out) == (1, "")
    assert "process 1 has no job on this host" in err
    assert "scoop.status()" in err
    finish(process, tmp_path)
    status, out, err = explain()
    assert (status, f"process {process.pid} " in out) in ((1, False), (0, False))


def test_tasks_that_wait_for_their_own_calls(start, shown, tmp_path):
    options = {"SCOOP_WORKERS": "3", "SCOOP_ORIGIN_IDLE": "1"}
    process = start(HOLD, str(tmp_path), "outer", "1", env=options)
    assert process.stdout.readline() == "go\n"
    # It runs in the worker that has submitted it or in the other one, as their timing wants.
    report = shown(process.pid, "hold for ")
    assert "the program: waits for the result of outer (program.py:" in report
    assert "the program waits for the result of outer, at program.py:" in report
    finish(process, tmp_path)


def test_a_stopped_worker_is_named_and_warned_of(start, shown, until, tmp_path):
    said = tmp_path / "said"
    with open(said, "w") as errors:
        process = start(
            HOLD,
            str(tmp_path),
            "hold",
            "3",
            env={"SCOOP_WORKERS": "2", "SCOOP_STOPPED_AFTER": "0.2"},
            stderr=errors,
        )
        assert process.stdout.readline() == "go\n"
        report = shown(process.pid, "no processor  ")
        assert "the program: runs hold for " in report
        assert "helper threads run 1 hold" in report
        row = next(line.split() for line in report.splitlines() if "no processor" in line)
        pid = int(row[1])
        os.kill(pid, signal.SIGSTOP)
        until(lambda: "has been stopped for" in said.read_text(), "the warning")
        assert f"worker 0 (process {pid}) has been stopped for 0.2" in said.read_text()
        assert f"`kill -CONT {pid}` lets it go on" in said.read_text()
        report = shown(process.pid, "STOPPED")
        assert f"worker 0 of {os.uname().nodename} (process {pid}) is stopped" in report
        os.kill(pid, signal.SIGCONT)
        until(lambda: "goes on" in said.read_text(), "that it goes on")
        finish(process, tmp_path)
    assert said.read_text().count("has been stopped") == said.read_text().count("goes on") == 1


def test_a_program_that_is_stopped_is_answered_for_by_its_agent(start, shown, tmp_path):
    process = start(HOLD, str(tmp_path), "spin", "3")
    assert process.stdout.readline() == "go\n"
    assert "spin for " in shown(process.pid, "  busy  ")
    os.kill(process.pid, signal.SIGSTOP)
    try:
        report = shown(process.pid, "the program does not answer")
    finally:
        os.kill(process.pid, signal.SIGCONT)
    assert f"it is stopped; `kill -CONT {process.pid}` lets it go on" in " ".join(report.split())
    assert "spin for " in report
    finish(process, tmp_path)


STATUS = """\
import json, time
import scoop
from scoop import futures

def ask(_):
    try:
        scoop.status()
    except scoop.errors.UsageError as error:
        return str(error)

if __name__ == "__main__":
    assert scoop.status() == {"running": False}
    futures.submit(abs, -1).result()
    deadline = time.monotonic() + 20
    while True:
        found = scoop.status()
        states = {worker["state"] for host in found["hosts"] for worker in host["workers"]}
        if states == {"idle"} or time.monotonic() > deadline:
            break
    print(json.dumps(found))
    with scoop.Executor(1) as executor:
        print(executor.submit(ask, 0).result())
    futures.shutdown()
    assert scoop.status() == {"running": False}
"""


def test_a_program_asks_itself(run):
    lines = run(STATUS, env={"SCOOP_WORKERS": "3"}).stdout.splitlines()
    found = json.loads(lines[0])
    assert [worker["worker"] for worker in found["hosts"][0]["workers"]] == [0, 1]
    assert all(worker["function"] == "" for worker in found["hosts"][0]["workers"])
    assert all(worker["rss_bytes"] > 1 << 20 for worker in found["hosts"][0]["workers"])
    assert found["why"] == []
    assert found["origin"]["queued"] == found["origin"]["out"] == found["origin"]["needing"] == 0
    assert found["origin"]["at"].startswith("program.py:")
    assert "is for the program itself" in lines[1]
