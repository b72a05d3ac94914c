"""Random seeds: each chooses a program, machines and faults. Failing ones are kept in failed_seeds.txt."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from types import ModuleType

import oracle
import pytest

SEEDS = int(os.environ.get("SCOOP_SIM_SEEDS", "2000"))
BLOCK = 250

# What is rare and must not stay untried: how often it has to happen in 2,000 seeds.
MUST_HAPPEN = {
    "deaths": 500,
    "blamed": 100,
    "failures": 20,
    "reissued": 500,
    "pauses": 200,
    "suspends": 5000,
    "other_stack": 3000,
    "fetched_forms": 1000,
    "cancel_here": 500,
    "cancel_there": 20,
    "cancel_late": 50,
}

totals: Counter[str] = Counter()
tried: set[int] = set()


def kept_seeds() -> list[int]:
    lines = Path(__file__).with_name("failed_seeds.txt").read_text().splitlines()
    return [int(line.split()[0]) for line in lines if line.strip() and not line.startswith("#")]


@pytest.mark.parametrize("seed", kept_seeds())
def test_seeds_that_once_failed(sim: ModuleType, seed: int) -> None:
    _, why = oracle.run_seed(sim, seed)
    assert not why, why


@pytest.mark.parametrize("first", range(0, SEEDS, BLOCK))
def test_seeds(sim: ModuleType, first: int) -> None:
    failed = []
    for seed in range(first, min(first + BLOCK, SEEDS)):
        counters, why = oracle.run_seed(sim, seed)
        if why:
            failed.append(why)
        if seed not in tried:
            tried.add(seed)
            totals.update({key: value for key, value in counters.items() if isinstance(value, int)})
    assert not failed, f"{len(failed)} seeds failed:\n" + "\n".join(failed)


def test_rare_things_were_tried() -> None:
    if len(tried) < 2000:
        pytest.skip(f"only {len(tried)} of 2,000 seeds were run")
    missing = {key: totals[key] for key, least in MUST_HAPPEN.items() if totals[key] < least}
    assert not missing, f"happened too seldom in {len(tried)} seeds: {missing}"
