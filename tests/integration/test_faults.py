"""What tasks do to their own processes, and processes that stand still for a while."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(90)

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.mark.parametrize("case", ["exceptions", "signals", "held_lock"])
def test_a_task_that_behaves_badly_harms_itself_alone(run: Run, case: str) -> None:
    done = run("faults.py", case)
    assert (done.stdout, done.stderr) == ("ok\n", "")


@pytest.mark.parametrize("who", ["one", "workers", "all"])
def test_a_process_that_stands_still_is_not_dead(run: Run, tmp_path: Path, who: str) -> None:
    done = run("faults.py", "paused", str(tmp_path / "log"), who)
    assert (done.stdout, done.stderr) == ("ok\n", "")


def test_a_task_that_closes_all_descriptors(run: Run) -> None:
    assert run("faults.py", "descriptors", limit_s=15).stdout == "ok\n"


def test_a_program_that_closes_all_descriptors_ends(run: Run) -> None:
    # libzmq aborts if the thread that polls looks at its sockets before the process is gone.
    done = run("faults.py", "own_descriptors", status=None, limit_s=15)
    assert done.returncode in (0, -signal.SIGABRT)
    assert "the program has closed all descriptors" in done.stderr or done.returncode
    done = run("faults.py", "own_descriptors_and_goes_on", status=None, limit_s=15)
    assert done.returncode in (os.EX_OSERR, -signal.SIGABRT)


def test_cancel_does_not_change_its_mind(run: Run) -> None:
    assert run("faults.py", "late_answer").stderr == "4 asked in vain\n"


@pytest.mark.parametrize(("depth", "pause"), [(0, 0), (3, 0), (3, 0.05), (5, 0.05)])
def test_a_deadly_leaf_takes_no_more_than_the_crash_limit(run: Run, depth: int, pause: float) -> None:
    done = run("faults.py", "poison", str(depth), str(pause))
    assert done.stdout == "ok\n"
    # The limit is 3; in each of the other three workers another copy may be under way by then.
    assert done.stderr.count("died: signal 9") <= 6


def test_a_call_that_is_not_to_begin_twice(run: Run, tmp_path: Path) -> None:
    done = run("faults.py", "once", str(tmp_path / "log"), env={"SCOOP_ORIGIN_IDLE": "1"})
    assert done.stdout == "ok\n"
    assert done.stderr.count("died: signal 9") == 3


def test_a_task_knows_its_attempt(run: Run) -> None:
    assert run("faults.py", "attempts").stdout == "ok\n"
