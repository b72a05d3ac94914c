"""Scripted runs, one story each: the real machines and drivers, in simulated time."""

from __future__ import annotations

from types import ModuleType

import oracle
import programs
import pytest
import seeds
from programs import CANCEL, CRASH, RUN, SUBMIT, WAIT, task


@pytest.mark.parametrize("workers", [1, 3, 7])
def test_flat_program_keeps_all_busy(sim: ModuleType, workers: int) -> None:
    plan: seeds.Plan = {"workers": workers}
    counters = oracle.run(sim, programs.flat([1000] * 2000), plan)
    assert counters["started"] == 2001  # the program itself is one
    assert oracle.efficiency(counters, plan) >= 0.96


@pytest.mark.parametrize("workers", [1, 3, 7])
def test_tree_keeps_all_busy(sim: ModuleType, workers: int) -> None:
    plan: seeds.Plan = {"workers": workers}
    counters = oracle.run(sim, programs.tree(10, 2, 1000), plan)
    assert oracle.efficiency(counters, plan) >= (0.85 if workers == 7 else 0.93)


def test_a_slow_worker_does_not_hold_up_the_fast_ones(sim: ModuleType) -> None:
    plan: seeds.Plan = {"workers": 3, "slowness": [10.0]}
    counters = oracle.run(sim, programs.flat([1000] * 2000), plan)
    ideal_s = 2.0 / 3.1
    assert counters["finished_s"] <= ideal_s + 0.030  # two of its tasks


def test_long_tasks_are_not_hoarded(sim: ModuleType) -> None:
    # One task in 50 is 50 times longer; whoever runs one must give away what waits behind it.
    durations = [50000 if i % 50 == 7 else 1000 for i in range(500)]
    plan: seeds.Plan = {"workers": 3}
    counters = oracle.run(sim, programs.flat(durations), plan)
    assert oracle.efficiency(counters, plan) >= 0.85


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("remote_only", [False, True])
def test_nested_deeper_than_workers(sim: ModuleType, workers: int, remote_only: bool) -> None:
    if remote_only and not workers:
        pytest.skip("nobody could run anything")
    for suspended_max in (0, 1, 64):
        plan = {"workers": workers, "remote_only": remote_only, "suspended_max": suspended_max}
        counters = oracle.run(sim, programs.chain(500, 10), plan)
        assert counters["started"] == 501


@pytest.mark.parametrize("seed", range(20))
def test_worker_dies_holding_tasks(sim: ModuleType, seed: int) -> None:
    faults = [(5000 + 713 * seed, "die", 1, 0)]
    counters = oracle.run(sim, programs.flat([1000] * 200), {"workers": 3, "faults": faults}, seed)
    assert counters["deaths"] == 1
    assert counters["failures"] == 0


def test_all_workers_die_at_once(sim: ModuleType) -> None:
    faults = [(8000, "die", worker, 0) for worker in (1, 2, 3)]
    counters = oracle.run(sim, programs.tree(6, 2, 1000), {"workers": 3, "faults": faults})
    assert counters["deaths"] == 3


def test_result_overtakes_the_loss_notice(sim: ModuleType) -> None:
    # All that the dead worker sent arrives; the notice comes 5 ms later: what was delivered is not run again.
    for at_us in range(3000, 9000, 500):
        plan = {
            "workers": 1, "report_us": 5000, "report_jitter": False, "lose_sent": False,
            "faults": [(at_us, "die", 1, 0)],
        }  # fmt: skip
        counters = oracle.run(sim, programs.flat([700] * 60), plan)
        assert counters["duplicates"] == 0


def test_loss_notice_overtakes_the_result(sim: ModuleType) -> None:
    # The notice comes first, so the task is issued again; what the dead process had sent is ignored.
    reissued = 0
    for at_us in range(3000, 30000, 300):
        plan = {
            "workers": 2, "delay_us": 2000, "report_us": 0, "lose_sent": False,
            "faults": [(at_us, "die", 1, 0)],
        }  # fmt: skip
        counters = oracle.run(sim, programs.flat([700] * 200), plan)
        reissued += counters["reissued"]
        assert counters["duplicates"] == 0
    assert reissued > 0


def test_death_is_told_before_the_hello_is_read(sim: ModuleType) -> None:
    plan = {
        "workers": 2, "delay_us": 500, "report_us": 0, "lose_sent": False, "faults": [(200, "die", 1, 0)],
    }  # fmt: skip
    counters = oracle.run(sim, programs.flat([1000] * 100), plan)
    assert counters["deaths"] == 1


def test_cancel_crosses_the_start(sim: ModuleType) -> None:
    # The program waits a little longer each time before it cancels: some tasks have started, some have not.
    taken_back = too_late = 0
    for pause_us in range(0, 15000, 250):
        count = 60
        ops = [(SUBMIT, i + 1) for i in range(count)] + [(RUN, pause_us)]
        ops += [op for i in reversed(range(count)) for op in ((CANCEL, i), (WAIT, i))]
        program = [task(ops), *(task([(RUN, 400)], may_cancel=True) for _ in range(count))]
        counters = oracle.run(sim, program, {"workers": 2, "delay_us": 300, "remote_only": True}, pause_us)
        taken_back += counters["cancel_there"]
        too_late += counters["cancel_late"]
    assert taken_back > 0
    assert too_late > 0


@pytest.mark.parametrize("depth", [0, 1, 5])
def test_poison_ends_with_an_error_and_the_rest_finishes(sim: ModuleType, depth: int) -> None:
    # A leaf that kills its worker whenever it runs in one, beside 50 innocent tasks.
    program = [task([(SUBMIT, i + 1) for i in range(51)] + [(RUN, 5000)] + [(WAIT, i) for i in range(51)])]
    program += [task([(RUN, 1000)]) for _ in range(50)]
    for level in range(depth):
        program.append(task([(SUBMIT, 52 + level), (WAIT, 0)]))
    program.append(task([(RUN, 300), (CRASH, 0)], 2))
    plan = {"workers": 2, "remote_only": True}
    counters = oracle.run(sim, program, plan)
    assert counters["failures"] >= 1
    assert counters["deaths"] <= 3 * (depth + 1)


@pytest.mark.parametrize("who", [0, 1, 2])
def test_a_stopped_process_is_not_a_dead_one(sim: ModuleType, who: int) -> None:
    faults = [(3000, "pause", who, 2000000)]
    counters = oracle.run(sim, programs.flat([1000] * 300), {"workers": 2, "faults": faults})
    assert counters["started"] == 301
    assert counters["reissued"] == 0


def test_whole_pool_stopped(sim: ModuleType) -> None:
    faults = [(3000, "pause", who, 5000000) for who in range(4)]
    counters = oracle.run(sim, programs.tree(6, 3, 1000), {"workers": 3, "faults": faults})
    assert counters["reissued"] == 0


def test_program_ends_before_its_tasks(sim: ModuleType) -> None:
    counters = oracle.run(sim, programs.flat([1000] * 100, waits=False), {"workers": 2})
    assert counters["started"] == 101


def test_a_seed_repeats_itself(sim: ModuleType) -> None:
    program, plan = seeds.make(7)
    assert oracle.run(sim, program, plan, 7) == oracle.run(sim, program, plan, 7)


def test_a_story_is_told(sim: ModuleType) -> None:
    job = sim.Job(programs.flat([1000] * 4), {"workers": 1}, 1, True)
    job.run()
    story = "\n".join(job.tale(2))
    job.close()
    assert "submitted" in story
    assert "has the result" in story
