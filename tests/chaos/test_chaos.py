"""Chaos on four hosts with real processes: nothing lost, wrong, hanging or left behind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import chaos_hosts
import chaos_run
import pytest
import testbed

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]

SEED = int(os.environ.get("CHAOS_SEED", "1"))


@pytest.fixture(scope="module")
def hosts() -> Iterator[list[str]]:
    """Four hosts; taken down at the end, whatever happens."""
    testbed.install("hosts")
    yield chaos_hosts.up(4)
    chaos_hosts.down()


def explain(outcome: chaos_run.Outcome) -> str:
    return "\n".join([str(outcome), *outcome.report, *outcome.left, outcome.errors[-4000:]])


def test_chaos(hosts: list[str], tmp_path: Path) -> None:
    """To repeat it: python -m tests.chaos run --seed SEED."""
    outcome = chaos_run.play(chaos_run.Plan(SEED), hosts, tmp_path)
    assert outcome.sound, explain(outcome)
    assert outcome.done >= 20_000
    assert outcome.kills == 60
    assert len(outcome.faults) >= 4, "other faults were tried"


@pytest.mark.parametrize("fault", ["silent", "break", "ssh", "first-agent"])
def test_links_that_end_without_a_word(hosts: list[str], tmp_path: Path, fault: str) -> None:
    plan = chaos_run.Plan(2, tasks=2000, kills=0, others=6, faults=(fault,), kinds="fctmbr")
    outcome = chaos_run.play(plan, hosts, tmp_path)
    assert outcome.sound, explain(outcome)
    assert outcome.faults


def test_brokers_that_die_one_after_the_other(hosts: list[str], tmp_path: Path) -> None:
    plan = chaos_run.Plan(1, tasks=4000, kills=0, others=6, faults=("first", "broker"), kinds="fctmbr")
    outcome = chaos_run.play(plan, hosts, tmp_path)
    assert outcome.sound, explain(outcome)
    assert sum(outcome.faults.values()) == 6
