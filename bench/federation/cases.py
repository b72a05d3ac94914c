"""The runs of the federation's benchmark, and what is asked of each."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from bench.federation.build import load
from scoop.launch.overlay import neighbours

HINTS_MAX = 100
"""Hints that a broker may have to hear in a second."""

HUNGRY_US_MAX = 900
"""Three round trips to a node of another broker: how long who asks a loaded broker may wait, p99."""

EVENTS_MIN = 1_000_000
"""Events of the model in a second of real time."""


@dataclass(frozen=True)
class Case:
    """One run: `brokers` with `workers` each; a tree's leaves or tasks of `mean_us`; and its bar."""

    brokers: int
    workers: int
    tasks: int
    mean_us: int
    tree: bool
    efficiency_min: float
    lost: bool = False
    seed: int = 3

    @property
    def name(self) -> str:
        """For the table."""
        kind = "tree" if self.tree else "flat"
        lost = ", lost" if self.lost else ""
        return f"{kind} {self.brokers} x {self.workers}, {self.mean_us / 1000:g} ms{lost}"

    @property
    def dead(self) -> list[int]:
        """The brokers that are lost: one in ten, never the origin's."""
        return [i for i in range(1, self.brokers) if i % 10 == 5] if self.lost else []


FLAT_BARS = {10: 0.99, 100: 0.99, 1000: 0.97}
TREE_BARS = {100: 0.98, 1000: 0.94}
LOST_BAR = 0.85
SMOKE_BAR = 0.5


def cases(brokers: list[int], tree: bool, lost: bool) -> list[Case]:
    """The runs of full size for these numbers of brokers."""
    made = []
    for count in brokers:
        if tree:
            bar = LOST_BAR if lost else TREE_BARS.get(count, 0.0)
            made.append(Case(count, 64, 10**6, 10_000, True, bar, lost))
        else:
            mean_us = 1_000_000 if count >= 1000 else 100_000
            bar = LOST_BAR if lost else FLAT_BARS.get(count, 0.0)
            made.append(Case(count, 64, 10**6, mean_us, False, bar, lost))
    return made


def smoke() -> list[Case]:
    """The same at a size that takes a moment."""
    return [
        Case(10, 8, 4000, 10_000, False, SMOKE_BAR),
        Case(10, 8, 4000, 10_000, True, SMOKE_BAR),
        Case(10, 8, 4000, 10_000, False, SMOKE_BAR, lost=True),
        Case(10, 8, 4000, 10_000, True, SMOKE_BAR, lost=True),
    ]


def run(case: Case) -> dict[str, Any]:
    """Run it; returns what was measured. Seconds are simulated ones unless they are called wall time."""
    module = load()
    began = time.perf_counter()
    model = module.Model(
        case.brokers,
        case.workers,
        case.tasks,
        case.mean_us,
        case.tree,
        neighbours(case.brokers, 7),
        case.seed,
    )
    built = time.perf_counter()
    expected_s = case.tasks * case.mean_us / 1e6 / (case.brokers * case.workers)
    model.slice_ns = max(1, int(expected_s * 1e9 / 50))
    # A run that does not end stops at ten times its time.
    result: dict[str, Any] = model.run(case.dead, expected_s / 2, 10 * expected_s + 1)
    result["wall_s"] = time.perf_counter() - began
    result["events_s"] = result["events"] / (time.perf_counter() - built)
    result["case"] = case.name
    result["efficiency_min"] = case.efficiency_min
    # After a loss a task may run twice, and its second result is ignored; without one there is none.
    result["complete"] = bool(
        result["finished"] and not result["open"] and (case.lost or not result["duplicates"])
    )
    result["met"] = {
        "complete": result["complete"],
        "efficiency": result["efficiency"] >= case.efficiency_min,
        "hints": result["hints_per_s"] <= HINTS_MAX,
        "hungry": (result["fed_p99_us"] or 0) <= HUNGRY_US_MAX,
        "events": result["events_s"] >= EVENTS_MIN,
    }
    return result
