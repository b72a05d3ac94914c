"""Scripted runs, one story each: the real machines and drivers, in simulated time."""

from __future__ import annotations

from types import ModuleType
from typing import Any

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


# ------------------------------------------------------------------------------------------ several hosts


def several(*hosts: int, **more: object) -> seeds.Plan:
    return {"hosts": list(hosts), **more}


@pytest.mark.parametrize("hosts", [(1, 1), (3, 3), (0, 2, 2), (1, 2, 2, 2)])
def test_brokers_share_a_flat_program(sim: ModuleType, hosts: tuple[int, ...]) -> None:
    counters = oracle.run(sim, programs.flat([2000] * 1000), several(*hosts))
    assert counters["started"] == 1001
    assert counters["moved"] > 100
    assert counters["finished_s"] <= 1.15 * 2.0 / (1 + sum(hosts))


def test_brokers_share_with_hints_and_without(sim: ModuleType) -> None:
    assert not oracle.sharing(sim)


def test_brokers_share_a_tree(sim: ModuleType) -> None:
    counters = oracle.run(sim, programs.tree(9, 2, 2000), several(1, 2, 2))
    assert counters["moved"] > 10
    assert counters["finished_s"] <= 1.6 * counters["work_s"] / 6


@pytest.mark.parametrize("kind", ["host", "silent"])
@pytest.mark.parametrize("lives_us", [-1, 0, 5000])
def test_a_host_is_lost(sim: ModuleType, kind: str, lives_us: int) -> None:
    lost = 0
    for at_us in range(1000, 40000, 3000):
        plan = several(1, 2, 2, faults=[(at_us, kind, 1, lives_us)])
        for program in (programs.flat([1000] * 200), programs.tree(7, 2, 1000)):
            counters = oracle.run(sim, program, plan, at_us)
            assert counters["failures"] == 0
            lost += counters["lost_moving"]
    assert lost > 50


def test_all_other_hosts_are_lost_one_after_the_other(sim: ModuleType) -> None:
    faults = [(4000 * host, "host", host, -1) for host in (1, 2, 3)]
    counters = oracle.run(sim, programs.tree(7, 2, 1000), several(1, 2, 2, 2, faults=faults))
    assert counters["hosts_lost"] == 3


@pytest.mark.parametrize("kind", ["cut", "one-way"])
def test_a_way_that_is_cut_for_a_while_costs_time_only(sim: ModuleType, kind: str) -> None:
    faults = [(3000, kind, 0 * 16 + 1, 500000), (9000, kind, 1 * 16 + 2, 500000)]
    counters = oracle.run(sim, programs.flat([1000] * 300), several(1, 2, 2, faults=faults))
    assert counters["started"] == 301
    assert counters["reissued"] == 0


def test_a_stopped_broker_is_not_a_dead_one(sim: ModuleType) -> None:
    faults = [(3000, "pause", -2, 1000000)]
    counters = oracle.run(sim, programs.flat([1000] * 300), several(1, 2, 2, faults=faults))
    assert counters["started"] == 301
    assert counters["reissued"] == 0


def test_a_broker_dies_that_has_just_taken_a_task(sim: ModuleType) -> None:
    # The task went from the first to the second and on to the third, which is cut off from the first: that
    # one never hears where it is.
    lost = 0
    for at_us in range(2000, 30000, 700):
        faults = [(at_us - 1500, "cut", 0 * 16 + 2, 60000), (at_us, "silent", 2, -1)]
        plan = several(1, 1, 3, faults=faults, report_us=3000)
        counters = oracle.run(sim, programs.flat([1000] * 300), plan, at_us)
        lost += counters["holds"]
    assert lost > 20


@pytest.mark.parametrize("depth", [0, 3])
def test_poison_on_several_hosts(sim: ModuleType, depth: int) -> None:
    program = [task([(SUBMIT, i + 1) for i in range(51)] + [(RUN, 5000)] + [(WAIT, i) for i in range(51)])]
    program += [task([(RUN, 1000)]) for _ in range(50)]
    for level in range(depth):
        program.append(task([(SUBMIT, 52 + level), (WAIT, 0)]))
    program.append(task([(RUN, 300), (CRASH, 0)], 2))
    counters = oracle.run(sim, program, several(1, 2, 1, remote_only=True))
    assert counters["failures"] >= 1
    assert counters["deaths"] <= 3 * (depth + 1)


# ------------------------------------------------------------------------------------------------ memory


def below_a_chain(sim: ModuleType, parents: int, rounds: int) -> dict[str, Any]:
    """Each parent waits on its own stack for the next; below all of them 100 tasks at a time come and go."""
    program = programs.chain(parents, 1)
    first = len(program)
    ops = []
    for i in range(rounds):
        ops += [(SUBMIT, first + 100 * i + k) for k in range(100)] + [(WAIT, 100 * i + k) for k in range(100)]
    program[-1] = task(ops, 1)
    program += [task([(RUN, 10)], 2) for _ in range(100 * rounds)]
    plan = {"workers": 2, "depth_max": 0, "suspended_max": 1 << 30}
    counters = oracle.run(sim, program, plan, check_every=0)
    assert counters["most_suspended"] >= parents * 0.9
    return counters


def test_a_hundred_thousand_suspended_parents(sim: ModuleType) -> None:
    few = below_a_chain(sim, 1000, 10)["most_bytes"]
    many = below_a_chain(sim, 100_000, 10)["most_bytes"]
    busy = below_a_chain(sim, 100_000, 1000)["most_bytes"]
    assert (many - few) / 100_000 <= 64, "bytes of the machines for each parent, besides the call itself"
    assert busy <= many + 65536, "a hundred thousand tasks below them leave nothing behind"


@pytest.mark.parametrize("host", [0, 1])
@pytest.mark.parametrize("at_us", [20_000, 150_000])
def test_a_broker_dies_and_all_is_found_out_within_seconds(sim: ModuleType, host: int, at_us: int) -> None:
    # 10,000 tasks are outstanding; which of them were on their way through it nobody knows at first.
    plan: seeds.Plan = {"hosts": [2, 2, 2], "faults": [(at_us, "broker-dies", host, 400_000)]}
    counters = oracle.run(sim, programs.flat([100] * 10_000), plan)
    assert counters["successions"] == 1
    assert counters["finished_s"] < (at_us + 400_000) / 1e6 + 5.0
    assert counters["started"] < 10_001 + 1_000  # what ran, or runs, is seldom run again


def test_nothing_runs_again_that_a_broker_did_not_take_with_it(sim: ModuleType) -> None:
    # Long tasks run when it dies, nothing is on its way: the workers say what they hold.
    plan: seeds.Plan = {
        "hosts": [1, 2, 2],
        "remote_only": True,
        "faults": [(500_000, "broker-dies", 0, 300_000)],
    }
    counters = oracle.run(sim, programs.flat([3_000_000] * 4), plan)
    assert counters["started"] == 5
    assert counters["reissued"] == 0


@pytest.mark.parametrize("host", [0, 1])
def test_results_that_a_broker_takes_with_it_are_sent_again(sim: ModuleType, host: int) -> None:
    # Each message is with a broker for 20 ms, so that for some of these moments the results of all tasks are
    # with the one that dies.
    for at_us in range(500_000, 680_000, 5000):
        plan: seeds.Plan = {
            "hosts": [2, 2],
            "remote_only": True,
            "broker_us": 20_000,
            "faults": [(at_us, "broker-dies", host, 300_000)],
        }
        counters = oracle.run(sim, programs.flat([500_000] * 4), plan)
        assert counters["started"] == 5, at_us
        assert counters["finished_s"] < 4.0


@pytest.mark.parametrize("remote_only", [False, True])
@pytest.mark.parametrize("probes", [True, False])
def test_what_a_reset_loses_is_found_out_at_once(sim: ModuleType, remote_only: bool, probes: bool) -> None:
    # Tasks and results are in the connection between the first two brokers; without the empty frame that
    # opens the next one only the owner can find out, after a while without any result.
    lost = 0
    for at_us in range(20_000, 160_000, 10_000):
        plan: seeds.Plan = {
            "hosts": [2, 2, 2],
            "remote_only": remote_only,
            "no_probes": not probes,
            "faults": [(at_us, "reset", 0 * 16 + 1, 1000)],
        }
        counters = oracle.run(sim, programs.flat([100] * 10_000), plan, at_us)
        assert counters["resets"] == 1
        assert counters["finished_s"] < (2.0 if probes else 20.0), at_us
        lost += counters["reissued"] + counters["duplicates"]
    assert lost
