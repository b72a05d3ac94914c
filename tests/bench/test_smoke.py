"""Every benchmark runs at its smallest size and says what it should; no time is ever asserted."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEADLINE = 100
PEERS = "scoop,scoop-executor,ppe-fork,ppe-forkserver"
BENCHMARKS = ("latency", "throughput", "tree", "efficiency", "payload", "startup", "memory", "scale", "local")
# The two halves keep each test well below its deadline on a busy machine.
VERSUS = (
    "roundtrip,throughput,map,tree,tree_1ms,local,ms1",
    "ms5,skew,hypot,startup,idle,queued,scale,soak",
)
FIELDS = {"kind", "benchmark", "scale", "repeats", "timestamp", "commit", "machine", "python"}
CASE_FIELDS = FIELDS | {
    "row",
    "peer",
    "case",
    "workload",
    "repeat",
    "workers",
    "settings",
    "ok",
    "error",
    "result",
}
BAR_FIELDS = FIELDS | {"row", "bar", "case", "ours", "reference", "ratio", "needed", "origin_share", "met"}


def run_bench(tmp_path, *arguments):
    """Run ``python -m bench`` with ``--smoke``; its records and its output."""
    out = tmp_path / "out.jsonl"
    argv = [sys.executable, "-m", "bench", *arguments, "--smoke", "--json", str(out)]
    child = subprocess.Popen(
        argv,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    try:
        said, _ = child.communicate(timeout=DEADLINE)
    except subprocess.TimeoutExpired:
        # Not a kill: the harness has to end the case that it is running, which has a session of its own.
        child.terminate()
        said, _ = child.communicate(timeout=15)
        pytest.fail(f"not finished after {DEADLINE} s:\n{said}")
    assert child.returncode == 0, said
    return [json.loads(line) for line in out.read_text().splitlines()], said


def check_records(records, benchmark):
    assert records
    for record in records:
        assert record.keys() >= FIELDS
        assert record["benchmark"] == benchmark
        assert record["scale"] == "smoke"
    cases = [record for record in records if record["kind"] == "case"]
    assert cases
    for case in cases:
        assert case.keys() >= CASE_FIELDS
        assert case["ok"] or "unsupported" in case["error"]
    ours = [case for case in cases if case["peer"] in ("scoop", "scoop-executor")]
    assert any(case["ok"] for case in ours)
    for case in ours:
        if case["ok"] and case["workload"] != "stages":
            assert 0 <= case["result"]["origin_share"] <= 1
    bars = [record for record in records if record["kind"] == "bar"]
    for bar in bars:
        assert bar.keys() >= BAR_FIELDS
        assert bar["met"] in (True, False, None)
    return cases, bars


@pytest.mark.parametrize("name", BENCHMARKS)
def test_benchmark_runs(tmp_path, name):
    records, said = run_bench(tmp_path, name, "--peers", PEERS)
    check_records(records, name)
    assert "case" in said


@pytest.mark.parametrize("rows", VERSUS, ids=("first rows", "last rows"))
def test_versus_runs(tmp_path, rows):
    records, said = run_bench(tmp_path, "versus", "--rows", rows, "--peers", PEERS)
    cases, bars = check_records(records, "versus")
    assert {case["row"] for case in cases} == set(rows.split(","))
    assert {bar["row"] for bar in bars} == set(rows.split(","))
    assert [record for record in records if record["kind"] == "verdict"]
    assert "Bars" in said


def test_executor_never_runs_tasks_in_the_caller(tmp_path):
    records, _ = run_bench(tmp_path, "versus", "--rows", "roundtrip,throughput", "--peers", "scoop-executor")
    shares = [
        record["result"]["origin_share"]
        for record in records
        if record["kind"] == "case" and record["peer"] == "scoop-executor"
    ]
    assert shares == [0.0, 0.0]


def test_what_is_missing_is_named_with_its_reason(tmp_path, monkeypatch):
    monkeypatch.delenv("BENCH_SCOOP07_PATH", raising=False)
    records, said = run_bench(tmp_path, "versus", "--rows", "roundtrip", "--peers", "scoop-executor,scoop07")
    missing = {record["peer"]: record["reason"] for record in records if record["kind"] == "missing"}
    assert "BENCH_SCOOP07_PATH" in missing["scoop07"]
    assert "not measured: scoop07" in said


def test_plots_are_written_if_they_can_be(tmp_path):
    pytest.importorskip("matplotlib")
    run_bench(tmp_path, "startup", "--plots", str(tmp_path / "plots"))
    assert [file.name for file in (tmp_path / "plots").iterdir()] == ["startup-startup.png"]


@pytest.mark.parametrize(
    "arguments", [["nothing"], ["versus", "--rows", "nothing"], ["tree", "--peers", "nobody"]]
)
def test_unknown_names_are_refused(arguments):
    done = subprocess.run(
        [sys.executable, "-m", "bench", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "nothing" in done.stderr or "nobody" in done.stderr
