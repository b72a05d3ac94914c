"""Random seeds: each chooses a program, machines and faults. Failing ones are kept in failed_seeds.txt."""

from __future__ import annotations

import os
from collections import Counter
from types import ModuleType

import oracle
import pytest
import seeds

ONE_HOST = int(os.environ.get("SCOOP_SIM_SEEDS", "700"))
SEVERAL_HOSTS = int(os.environ.get("SCOOP_SIM_SEEDS", "2300"))
SUCCESSIONS = int(os.environ.get("SCOOP_SIM_SEEDS", "500"))
BLOCK = 250

# What is rare and must not stay untried: how often it has to happen in these seeds.
MUST_HAPPEN = {
    "deaths": 8000,
    "deaths_with_host": 1500,
    "hosts_lost": 800,
    "lost_moving": 1000,
    "successions": 500,
    "resets": 3000,
    "once_failed": 10,
    "cuts": 3000,
    "pauses": 2000,
    "blamed": 3000,
    "failures": 100,
    "errors": 2000,
    "reissued": 20000,
    "suspends": 50000,
    "other_stack": 20000,
    "fetched_forms": 10000,
    "cancel_here": 2000,
    "cancel_there": 100,
    "cancel_late": 200,
    "moved": 50000,
    "holds": 2000,
    "asks": 50000,
    "refusals": 20000,
    "parked": 20000,
    "unparked": 1000,
    "hints": 2000,
    "hints_heard": 2000,
    "at_limit": 50,
    "came_back": 20000,
    "orphans": 100,
    "dropped": 10,
}
EVENTS = 10_000_000
FAULTS = 30_000

totals: Counter[str] = Counter()
tried: set[int] = set()


@pytest.mark.parametrize("seed", oracle.kept_seeds())
def test_seeds_that_once_failed(sim: ModuleType, seed: int) -> None:
    _, why = oracle.run_seed(sim, seed)
    assert not why, why


def run_block(sim: ModuleType, first: int, end: int) -> None:
    failed = []
    for seed in range(first, end):
        counters, why = oracle.run_seed(sim, seed)
        if why:
            failed.append(why)
        if seed not in tried:
            tried.add(seed)
            totals.update({key: value for key, value in counters.items() if isinstance(value, int)})
    assert not failed, f"{len(failed)} seeds failed:\n" + "\n".join(failed)


@pytest.mark.parametrize("first", range(0, ONE_HOST, BLOCK))
def test_seeds_of_one_host(sim: ModuleType, first: int) -> None:
    run_block(sim, first, min(first + BLOCK, ONE_HOST))


@pytest.mark.parametrize("first", range(0, SEVERAL_HOSTS, BLOCK))
def test_seeds_of_several_hosts(sim: ModuleType, first: int) -> None:
    run_block(sim, seeds.MANY_FAULTS + first, seeds.MANY_FAULTS + min(first + BLOCK, SEVERAL_HOSTS))


@pytest.mark.parametrize("first", range(0, SUCCESSIONS, BLOCK))
def test_seeds_with_tasks_that_run_at_most_once(sim: ModuleType, first: int) -> None:
    run_block(sim, seeds.ONCE + first, seeds.ONCE + min(first + BLOCK, SUCCESSIONS))


@pytest.mark.parametrize("first", range(0, SUCCESSIONS, BLOCK))
def test_seeds_with_brokers_that_die(sim: ModuleType, first: int) -> None:
    run_block(sim, seeds.SUCCESSIONS + first, seeds.SUCCESSIONS + min(first + BLOCK, SUCCESSIONS))


@pytest.mark.parametrize("first", range(0, SUCCESSIONS, BLOCK))
def test_seeds_with_connections_that_are_reset(sim: ModuleType, first: int) -> None:
    run_block(sim, seeds.RESETS + first, seeds.RESETS + min(first + BLOCK, SUCCESSIONS))


def test_rare_things_were_tried() -> None:
    if len(tried) < 3000:
        pytest.skip(f"only {len(tried)} of 3,000 seeds were run")
    print(f"{len(tried)} seeds, {totals['events']} events, {totals['faults']} faults: {dict(totals)}")
    missing = {key: totals[key] for key, least in MUST_HAPPEN.items() if totals[key] < least}
    assert not missing, f"happened too seldom in {len(tried)} seeds: {missing}"
    assert totals["events"] >= EVENTS
    assert totals["faults"] >= FAULTS
