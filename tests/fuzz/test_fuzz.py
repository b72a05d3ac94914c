"""A little fuzzing in every test run; FUZZ_SECONDS says how much of each target."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FUZZ = Path(__file__).with_name("fuzz_wire.py")
SECONDS = float(os.environ.get("FUZZ_SECONDS", "3"))
BUILD_SECONDS = 90


@pytest.mark.timeout(SECONDS + 2 * BUILD_SECONDS)
@pytest.mark.parametrize("target", ["codec", "broker", "desk"])
def test_any_bytes(target, tmp_path):
    # In a process of its own, so that a crash is a failure and not the end of the tests.
    progress = tmp_path / "round"
    done = subprocess.run(
        [sys.executable, str(FUZZ), target, "--seconds", str(SECONDS), "--progress", str(progress)],
        capture_output=True,
        text=True,
        timeout=SECONDS + BUILD_SECONDS,
        check=False,
    )
    last = progress.read_text().strip() if progress.exists() else "none"
    assert done.returncode == 0, (
        f"exit status {done.returncode} in round {last}\n{done.stdout}\n{done.stderr[-3000:]}"
    )
    assert "rounds of seed 1" in done.stdout
