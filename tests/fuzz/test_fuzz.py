"""A little fuzzing in every test run; FUZZ_SECONDS says how much of all of it together."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fuzz_live
import pytest
import sanitized
from processes import end_all

HERE = Path(__file__).parent
FUZZ = HERE / "fuzz_wire.py"
LIVE = HERE / "fuzz_live.py"
SECONDS = float(os.environ.get("FUZZ_SECONDS", "12")) / 7
BUILD_SECONDS = 110
END_SECONDS = 90


def fuzz(target: str, progress: Path, *options: str) -> None:
    # In a process of its own, so that a crash is a failure and not the end of the tests.
    done = subprocess.run(
        [sys.executable, str(FUZZ), target, "--seconds", str(SECONDS), "--progress", str(progress), *options],
        capture_output=True,
        text=True,
        timeout=SECONDS + 3 * BUILD_SECONDS,
        check=False,
    )
    last = progress.read_text().strip() if progress.exists() else "none"
    assert done.returncode == 0, (
        f"exit status {done.returncode} in round {last}\n{done.stdout}\n{done.stderr[-3000:]}"
    )
    assert "rounds of seed 1" in done.stdout


@pytest.mark.timeout(SECONDS + 4 * BUILD_SECONDS)
@pytest.mark.parametrize("target", ["codec", "broker", "gateway", "desk"])
def test_any_bytes_with_sanitizers(target, tmp_path):
    lacks = sanitized.missing()
    if lacks:
        pytest.skip(lacks)
    fuzz(target, tmp_path / "round", "--sanitized")


@pytest.mark.timeout(SECONDS + 4 * BUILD_SECONDS)
def test_any_bytes(tmp_path):
    fuzz("broker", tmp_path / "round")


@pytest.mark.timeout(SECONDS + 2 * END_SECONDS)
def test_a_mad_node_beside_a_job():
    done = subprocess.run(
        [sys.executable, str(LIVE), "job", "--seconds", str(SECONDS)],
        capture_output=True,
        text=True,
        timeout=SECONDS + END_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-3000:]}"
    assert "all answers right" in done.stdout


@pytest.fixture
def running() -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that end with the test."""
    started: list[subprocess.Popen[str]] = []
    yield started
    end_all(started)


@pytest.mark.timeout(SECONDS + 2 * END_SECONDS)
def test_a_mad_node_with_a_key_at_a_broker_started_by_hand(tmp_path, running):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state"), "BROKER_ADDRESS": address}

    def begin(*command: str, **more: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, *command],
            env={**environment, **more},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        return process

    broker = begin("-m", "scoop.broker", "--address", address)
    assert broker.stdout is not None
    assert "listens at" in broker.stdout.readline()
    before = fuzz_live.resident_bytes(broker.pid)
    job = (str(LIVE), "job", "--seconds", str(SECONDS), "--address", address)
    for _ in range(2):
        begin(*job, IS_ORIGIN="0")
    origin = begin(*job, IS_ORIGIN="1", SCOOP_FUZZ_BROKER=str(broker.pid))
    out, err = origin.communicate(timeout=SECONDS + END_SECONDS)
    assert origin.returncode == 0, f"{out}\n{err[-3000:]}"
    assert "all answers right" in out
    grown = int(out.rpartition("broker ")[2].split()[0]) - before
    assert grown < fuzz_live.GROWN_BYTES_MAX, f"the broker has {grown >> 20} MB more than before"
    assert broker.wait(END_SECONDS) == 0, "the job is over"
