"""The benchmark of recovery at a small size: it runs, with this scoop in the place of the other one, too."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import scoop

ROOT = Path(__file__).resolve().parents[2]
DEADLINE = 60


@pytest.mark.timeout(DEADLINE)
def test_recovery(tmp_path: Path) -> None:
    # Beside the checkout's benchmarks, but not beside its scoop, which need not be compiled.
    (tmp_path / "bench").symlink_to(ROOT / "bench")
    before = str(Path(scoop.__file__).parents[1])
    command = [sys.executable, "-m", "bench.recovery", "--smoke", "--repeats", "1", "--before", before]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=DEADLINE - 5,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.findall(r"^\| ([\w -]+) \| [\d.]+", done.stdout, re.MULTILINE) == [
        "round trip",
        "no-ops",
        "map",
        "tree",
    ]
    assert re.search(
        r"50 tasks of 10 ms on two workers: [\d.]+ s; one killed: [\d.]+ s$", done.stdout.strip()
    )
