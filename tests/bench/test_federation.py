"""The federation's benchmark at a small size: every task over exactly once, and no policy that starves."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEADLINE = 400  # of which nearly all is for the compiler, once per content


@pytest.mark.timeout(DEADLINE)
def test_small_federations_do_everything_once(tmp_path):
    out = tmp_path / "out.json"
    # Beside the checkout's benchmarks, but not beside its scoop, which need not be compiled.
    (tmp_path / "bench").symlink_to(ROOT / "bench")
    done = subprocess.run(
        [sys.executable, "-m", "bench.federation", "--smoke", "--json", str(out)],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=DEADLINE - 20,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads(out.read_text())
    assert [("tree" in r["case"], "lost" in r["case"]) for r in results] == [
        (False, False),
        (True, False),
        (False, True),
        (True, True),
    ]
    for result in results:
        assert result["finished"]
        assert result["over"] == result["target"]
        assert result["open"] == 0
        assert "lost" in result["case"] or result["duplicates"] == 0
        assert 0.5 <= result["efficiency"] <= 1.0, result["case"]
        assert result["hints_per_s"] <= 100
        assert result["case"] in done.stdout
