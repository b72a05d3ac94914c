"""User code type-checks against scoop, strictly."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import scoop

USAGE = Path(__file__).with_name("api_usage.py")


def test_usage_passes_mypy_strict(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    environment = {**os.environ, "MYPYPATH": str(Path(str(scoop.__file__)).parents[1])}
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--cache-dir={tmp_path}", str(USAGE)],
        capture_output=True,
        text=True,
        timeout=110,
        env=environment,
        cwd=tmp_path,
    )
    relevant = [line for line in done.stdout.splitlines() if USAGE.name in line]
    assert not relevant, "\n".join(relevant)
