"""A million tasks, a hundred thousand cancelled calls, ten thousand failures: nothing grows."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(300)

SOAK = Path(__file__).resolve().parent / "chaos_soak.py"


def test_nothing_grows(run: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = run(str(SOAK), "1000000", status=None, limit_s=240)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("1000000 tasks, ")
    assert "10000 failed" in done.stdout
