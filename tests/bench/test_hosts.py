"""The benchmark between hosts runs at its smallest size; it takes the testbed up and down itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import testbed

ROOT = Path(__file__).resolve().parents[2]
DEADLINE = 240
CASES = {
    "between": {"ping-curve", "two-hosts"},
    "federation": {"one-broker/2", "one-broker/4", "four-brokers", "dask-hosts"},
    "start": {"bare-start", "job-start"},
    "siege": {"peace", "siege"},
}


def run_bench(*arguments, **more):
    return subprocess.run(
        [sys.executable, "-m", "bench", "hosts", "--smoke", *arguments],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=DEADLINE - 20,
        check=False,
        **more,
    )


@pytest.mark.root
@pytest.mark.timeout(DEADLINE)
def test_hosts_run(tmp_path):
    testbed.install("hosts")
    out = tmp_path / "out.jsonl"
    done = run_bench("--json", str(out))
    assert done.returncode == 0, done.stdout + done.stderr
    records = [json.loads(line) for line in out.read_text().splitlines()]
    cases = [record for record in records if record["kind"] == "case"]
    missing = {record["peer"] for record in records if record["kind"] == "missing"}
    for row, names in CASES.items():
        ran = {case["case"] for case in cases if case["row"] == row and case["ok"]}
        assert ran == names - ({"dask-hosts"} if "dask" in missing else set()), done.stdout
    results = {case["case"]: case["result"] for case in cases}
    for name in ("two-hosts", "four-brokers", "one-broker/4", "job-start"):
        assert results[name]["origin_share"] == 0
    assert results["one-broker/4"]["hosts"] == 1
    assert results["job-start"]["hosts"] == 2
    assert results["siege"]["held"] > 0
    assert not Path("/run/testbed/node1.pid").exists()
    assert {record["row"] for record in records if record["kind"] == "bar"} == set(CASES)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_without_root_it_says_so(tmp_path):
    # Everything that it needs is loaded while it still may.
    program = (
        "import os, sys; sys.path.insert(0, sys.argv.pop()); import bench.__main__ as bench, scoop\n"
        "os.setgid(64321); os.setuid(64321)\n"
        "sys.exit(bench.main(['hosts', '--smoke']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(ROOT)],
        cwd="/",
        env={**os.environ, "TMPDIR": "/tmp"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "need root" in done.stdout
