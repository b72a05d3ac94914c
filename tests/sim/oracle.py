"""Runs one simulation and says whether it kept what is promised; shared by the tests and the command line."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import programs
import seeds

MESSAGES_PER_TASK_MAX = 30
"""Above this, and a start for each process, messages travel for nothing."""


def kept_seeds() -> list[int]:
    """The seeds that once failed."""
    lines = Path(__file__).with_name("failed_seeds.txt").read_text().splitlines()
    return [int(line.split()[0]) for line in lines if line.strip() and not line.startswith("#")]


def run(
    sim: ModuleType, program: programs.Program, plan: seeds.Plan, seed: int = 1, *, check_every: int = 64
) -> dict[str, Any]:
    """Run a program under a plan; returns the counters and raises `sim.Violation`."""
    job = sim.Job(program, plan, seed)
    try:
        job.run(check_every=check_every)
        counters: dict[str, Any] = job.counters()
        counters["finished_s"] = job.finished_s
    finally:
        job.close()
    # Each death may send every task on its way again; each process says that it is hungry now and then.
    tasks = counters["submitted"] + counters["reissued"]
    allowed = MESSAGES_PER_TASK_MAX * tasks + 100 * counters["processes"]
    if counters["messages"] > allowed:
        raise sim.Violation(f"{counters['messages']} messages for {counters['submitted']} tasks: a livelock")
    return counters


def efficiency(counters: dict[str, Any], plan: seeds.Plan) -> float:
    """The time that the work takes when nobody ever waits, as a part of the time it took."""
    slowness = list(plan.get("slowness", ()))
    slowness += [1.0] * (plan["workers"] - len(slowness))
    speed = 1.0 + sum(1.0 / factor for factor in slowness)
    return float(counters["work_s"] / speed / counters["finished_s"])


def run_seed(sim: ModuleType, seed: int) -> tuple[dict[str, Any], str]:
    """Run one seed; returns its counters and, when it failed, one line that says why and how to repeat it."""
    program, plan = seeds.make(seed)
    try:
        return run(sim, program, plan, seed), ""
    except sim.Violation as error:
        return {}, f"seed {seed}: {error}; repeat: python -m tests.sim {seed} -v"


def sharing(sim: ModuleType) -> str:
    """Whether the workers of several hosts all get work, with hints and without; says in a line why not."""
    for hints_lost, slower in ((0, 1.15), (1000, 1.3)):
        plan: seeds.Plan = {"hosts": [1, 3, 3], "hint_loss": hints_lost}
        try:
            counters = run(sim, programs.flat([2000] * 1000), plan)
        except sim.Violation as error:
            return f"sharing: {error}"
        if counters["finished_s"] > slower * 2.0 / 8:
            return f"2 s of work on 8 processes took {counters['finished_s']:.3f} s"
    return ""
