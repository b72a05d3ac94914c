"""`scoop-run --profile`: a file for each process, in which the program's own functions stand."""

from __future__ import annotations

import pstats
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(90)

Run = Callable[..., "subprocess.CompletedProcess[str]"]
PROGRAM = """\
import sys, time
import scoop

def leaf(x):
    end = time.perf_counter() + 0.005
    while time.perf_counter() < end:
        pass
    return x

def parent(x):
    return sum(f.result() for f in [scoop.futures.submit(leaf, i) for i in range(4)])

if __name__ == "__main__":
    print(sum(scoop.futures.map(parent, range(40))), len(scoop.futures.__all__) > 0)
    sys.exit(int(sys.argv[1]))
"""


def calls(path: Path, name: str) -> tuple[int, float]:
    """How often a function was called, and the time spent in itself."""
    found = [row for (_, _, function), row in pstats.Stats(str(path)).stats.items() if function == name]  # type: ignore[attr-defined]
    return sum(row[1] for row in found), sum(row[2] for row in found)


@pytest.mark.parametrize("status", [0, 3])
def test_each_process_writes_one(run: Run, tmp_path: Path, status: int) -> None:
    folder = tmp_path / "prof"
    via = ("-m", "scoop", "-n", "3", "--profile", str(folder))
    done = run(PROGRAM, str(status), via=via, status=status)
    assert done.stdout == f"{40 * 6} True\n"
    files = sorted(folder.iterdir())
    names = sorted(path.name.rpartition("-")[2] for path in files)
    assert names == ["origin.prof", "w0.prof", "w1.prof"]
    count = sum(calls(path, "leaf")[0] for path in files)
    own_s = sum(calls(path, "leaf")[1] for path in files)
    assert count == 160, "every call is in one of them"
    assert own_s > 160 * 0.005 * 0.2


def test_without_it_nothing_is_written(run: Run, tmp_path: Path) -> None:
    run(PROGRAM, "0", via=("-m", "scoop", "-n", "2"))
    assert not list(tmp_path.rglob("*.prof"))


def test_rsh_is_refused_and_says_why(run: Run) -> None:
    done = run(PROGRAM, "0", via=("-m", "scoop", "--rsh"), status=2)
    assert "--ssh-executable" in done.stderr
