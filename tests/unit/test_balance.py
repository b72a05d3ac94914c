"""A broker's load-balancing queue, event by event; after each test the machine checks itself."""

from __future__ import annotations

import random

import pytest

ORIGIN, FIRST, SECOND, THIRD = 1000, 1001, 1002, 1003  # incarnations
LONG = 10**9


class World:
    """A Balance with an origin (node 0, which owns the tasks unless said otherwise) and workers 1, 2, ..."""

    def __init__(self, machines, workers=2):
        self.machines = machines
        self.balance = machines.BalanceHarness()
        self.origin = self.balance.hello(ORIGIN, source=True)
        self.workers = [self.balance.hello(FIRST + i) for i in range(workers)]

    def __getattr__(self, name):
        event = getattr(self.balance, name)

        def checked(*args, **kwargs):
            answer = event(*args, **kwargs)
            self.balance.validate()
            return answer

        return checked

    def submit(self, *ids, node=None, owner=ORIGIN, **fields):
        """Tasks whose slot is their number."""
        node = self.origin if node is None else node
        for id in ids:
            assert self.task(node, owner, id, slot=id, **fields) == 0

    def matched(self):
        """Match, and return what was decided since the last look."""
        self.balance.match()
        self.balance.validate()
        return self.drain()

    def match(self):
        """Match, and do as it says without a look."""
        self.matched()

    def sent(self):
        """Match, and return the slots that were sent to each node."""
        found = {}
        for name, node, slot, *_ in self.matched():
            if name == "send":
                found.setdefault(node, []).append(slot)
        return found

    def wants(self):
        """Match, and return (work, idle) that each node was asked for."""
        return {node: (a, b) for name, node, _, a, b, *_ in self.matched() if name == "want"}


@pytest.fixture
def world(machines):
    made = World(machines)
    yield made
    made.balance.validate()


# ------------------------------------------------------------------------------------------------- nodes


def test_nodes_get_slots_in_order(world):
    assert [world.origin, *world.workers] == [0, 1, 2]
    assert [world.slot_of(name) for name in (ORIGIN, FIRST, SECOND, THIRD)] == [0, 1, 2, -1]
    assert world.node(0)["source"]
    assert not world.node(1)["source"]


def test_hello_twice_is_the_same_node(world):
    assert world.hello(FIRST) == 1
    assert world.statistics()["nodes"] == 3


def test_incarnation_0_is_nobody(world):
    assert world.hello(0) == -1


def test_as_many_nodes_as_there_are_slots(machines):
    balance = machines.BalanceHarness()
    assert [balance.hello(i) for i in range(1, machines.MAX_NODES + 1)] == list(range(machines.MAX_NODES))
    assert balance.hello(machines.MAX_NODES + 1) == -1
    balance.validate()


def test_the_slot_of_a_dead_node_is_not_used_again(world):
    world.lost(1)
    assert world.hello(THIRD) == 3
    assert world.slot_of(FIRST) == 1
    assert world.hello(FIRST) == 1  # fenced: the same incarnation stays dead
    assert not world.node(1)["alive"]


# ---------------------------------------------------------------------------------------------- matching


def test_nothing_is_sent_to_nodes_that_did_not_ask(world):
    world.submit(1, 2)
    assert world.sent() == {}
    assert world.statistics()["queued"] == 2


def test_one_node_is_filled_before_the_next(world):
    # Tasks for one destination travel together.
    world.submit(1, 2, 3, 4, 5, est_us=40)
    world.request(1, 100)
    world.request(2, 100)
    assert world.sent() == {1: [1, 2, 3], 2: [4, 5]}


def test_the_next_round_goes_on_with_the_node_that_was_being_filled(world):
    world.submit(1, est_us=40)
    world.request(1, 100)
    world.request(2, 100)
    assert world.sent() == {1: [1]}
    world.submit(2, 3, est_us=40)
    assert world.sent() == {1: [2, 3]}
    world.submit(4, est_us=40)
    assert world.sent() == {2: [4]}


def test_credits_are_time(world):
    # Long tasks: one is enough, however small the credit; many short ones fill it.
    world.submit(1, 2, est_us=LONG)
    world.request(1, 1)
    assert world.sent() == {1: [1]}
    assert world.node(1)["room_us"] == 1 - LONG
    world.request(1, 1000)
    world.submit(*range(3, 103), est_us=5)
    assert world.sent() == {1: [2]}
    world.request(1, 100)
    assert world.sent() == {1: list(range(3, 23))}


def test_tasks_of_unknown_length_use_up_credit_too(world):
    world.submit(*range(1, 11), est_us=0)
    world.request(1, 4)
    assert world.sent() == {1: [1, 2, 3, 4]}


def test_a_request_replaces_the_one_before(world):
    world.submit(1, 2, 3, est_us=10)
    world.request(1, 30)
    world.request(1, 0)
    assert world.sent() == {}
    world.request(1, 10)
    assert world.sent() == {1: [1]}


def test_oldest_first(world):
    world.submit(3, 1, 2, est_us=1)
    world.request(1, 2)
    assert world.sent() == {1: [3, 1]}


def test_never_to_a_dead_node(world):
    world.submit(1)
    world.request(1, 100)
    world.lost(1)
    assert world.sent() == {}
    world.request(1, 100)  # a message that was under way when it died
    assert world.sent() == {}
    world.request(2, 100)
    assert world.sent() == {2: [1]}


def test_a_task_that_goes_home_is_forgotten(world):
    world.submit(1)
    world.request(0, 100)
    assert world.sent() == {}, "a busy owner that asks for work gets its own task back"
    world.request(0, 100, idle=True)
    assert world.sent() == {0: [1]}
    assert world.statistics()["known"] == 0
    assert world.node(0)["given"] == 0


def test_the_result_frees_its_node(world):
    world.submit(1)
    world.request(1, 100)
    world.match()
    assert (world.node(1)["given"], world.statistics()["known"]) == (1, 1)
    assert world.result(1, ORIGIN, 1) == 0
    assert (world.node(1)["given"], world.statistics()["known"]) == (0, 0)


def test_a_second_result_is_not_passed_on(world):
    world.submit(1)
    world.request(1, 100)
    world.match()
    assert world.result(1, ORIGIN, 1) == 0
    assert world.result(1, ORIGIN, 1) == -1


def test_the_result_of_an_earlier_holder_leaves_the_task_with_its_holder(world):
    world.submit(1)
    world.request(1, 100)
    world.match()
    world.submit(1, attempt=1)  # issued again; the old holder is slow, not dead
    world.request(2, 100)
    world.request(1, 0)
    assert world.sent() == {2: [1]}
    assert world.result(1, ORIGIN, 1) == -1
    assert world.node(2)["given"] == 1


def test_a_result_for_a_dead_or_unknown_owner_goes_nowhere(world):
    world.submit(1, node=1, owner=FIRST)
    world.request(2, 100)
    world.match()
    world.lost(1)
    assert world.result(2, FIRST, 1) == -1
    assert world.result(2, 77, 1) == -1


def test_tasks_of_a_dead_or_unknown_owner_are_refused(world):
    world.lost(1)
    assert world.task(2, FIRST, 1, slot=9) == -1
    assert world.task(2, 77, 1, slot=9) == -1
    assert world.statistics()["dropped"] == 2
    assert [action for action in world.matched() if action[0] != "want"] == []


def test_a_newer_attempt_replaces_the_one_that_is_queued(world):
    world.submit(1)
    assert world.task(0, ORIGIN, 1, attempt=1, slot=11) == 0
    assert world.drain() == [("drop", 0, 1, 0, 0, 0, 0)]
    world.request(1, 100)
    assert world.sent() == {1: [11]}


def test_a_newer_attempt_in_the_queue_brings_its_flags(world):
    # Told twice by the owner, the second time because its worker crashed: it must not run in the origin.
    world.submit(1)
    world.submit(1, attempt=1, flags=world.machines.RETRIED)
    world.request(0, 100)
    assert world.sent() == {}


def test_an_older_attempt_does_not_replace_a_newer_one(world):
    world.submit(1, attempt=2, est_us=7)
    assert world.task(0, ORIGIN, 1, attempt=1, slot=11) == -1
    assert world.drain() == []
    world.request(1, 100)
    assert world.sent() == {1: [1]}


def test_a_task_given_away_by_its_holder_is_queued_again(world):
    world.submit(1)
    world.request(1, 100)
    world.match()
    world.drain()
    assert world.task(1, ORIGIN, 1, slot=12) == 0
    assert world.node(1)["given"] == 0
    world.request(2, 100)
    world.request(1, 0)
    assert world.sent() == {2: [12]}


def test_equal_numbers_of_two_owners_are_two_tasks(world):
    world.submit(7)
    assert world.task(1, FIRST, 7, slot=70) == 0
    world.request(2, 100)
    assert world.sent() == {2: [7, 70]}
    assert world.result(2, FIRST, 7) == 1
    assert world.statistics()["known"] == 1


# ------------------------------------------------------------------- tasks that crashed a worker before


def test_a_crashed_task_runs_alone_on_an_empty_worker(world):
    retried = world.machines.RETRIED
    world.submit(1, est_us=1)
    world.request(1, 100)
    assert world.sent() == {1: [1]}
    world.submit(2, est_us=1, flags=retried)
    world.submit(3, est_us=1)
    # Worker 1 runs something, the origin never takes it: it waits, and lets the others pass.
    world.request(0, 1)
    assert world.sent() == {1: [3]}
    world.request(2, 100)
    assert world.sent() == {2: [2]}
    assert world.node(2)["probation"]
    # Nothing beside it, though there is room.
    world.submit(4, est_us=1)
    world.request(1, 0)
    world.request(0, 0)
    assert world.sent() == {}
    world.result(2, ORIGIN, 2)
    assert not world.node(2)["probation"]
    assert world.sent() == {2: [4]}


def test_a_crashed_task_that_waits_lets_others_in(world):
    # Its worker asks again because it has nothing to run: the task may be waiting for one of these.
    world.submit(1, flags=world.machines.RETRIED)
    world.request(1, 100)
    assert world.sent() == {1: [1]}
    world.submit(2, est_us=1)
    assert world.sent() == {}
    world.request(1, 100, idle=True)
    assert world.sent() == {1: [2]}


def test_a_crashed_task_never_goes_to_the_origin(world):
    world.submit(1, flags=world.machines.RETRIED)
    world.request(0, 100)
    assert world.sent() == {}


def test_it_waits_until_a_worker_is_empty(world):
    world.submit(1)
    world.request(1, 100)
    world.match()
    world.submit(2, flags=world.machines.RETRIED)
    assert world.sent() == {}
    world.result(1, ORIGIN, 1)
    assert world.sent() == {1: [2]}


def test_two_crashed_tasks_need_two_workers(world):
    world.submit(1, 2, flags=world.machines.RETRIED)
    world.request(1, 100)
    (first,) = world.sent()[1]
    world.request(2, 100)
    (second,) = world.sent()[2]
    assert {first, second} == {1, 2}


def test_a_crashed_task_gets_the_first_empty_worker(world):
    # Otherwise those who wait for it could fill every worker.
    world.submit(1, 2, 3, est_us=1)
    world.submit(4, flags=world.machines.RETRIED)
    world.request(1, 1)
    assert world.sent() == {1: [4]}


def test_a_crashed_task_does_not_go_to_its_owner(world):
    world.submit(1, node=1, owner=FIRST, flags=world.machines.RETRIED)
    world.request(1, 100)
    assert world.sent() == {}
    world.request(2, 100)
    assert world.sent() == {2: [1]}


def test_the_end_of_a_worker_ends_its_probation(world):
    world.submit(1, flags=world.machines.RETRIED)
    world.request(1, 100)
    world.match()
    world.lost(1, ORIGIN, 1)
    assert not world.node(1)["probation"]
    assert world.statistics()["known"] == 0


def test_crashed_tasks_in_the_middle_of_the_queue(world):
    retried = world.machines.RETRIED
    world.submit(1, est_us=1)
    world.request(2, 1)
    world.match()  # worker 2 is not empty
    world.drain()
    world.submit(2, est_us=1)
    world.submit(3, est_us=1, flags=retried)
    world.submit(4, est_us=1)
    world.submit(5, est_us=1, flags=retried)
    world.request(2, 10)
    assert world.sent() == {2: [2, 4]}
    world.submit(6, est_us=1)  # the tail is a waiting one: the queue goes on behind it
    assert world.sent() == {2: [6]}
    world.request(1, 10)
    (first,) = world.sent()[1]
    for id in (1, 2, 4, 6):
        world.result(2, ORIGIN, id)
    (second,) = world.sent()[2]
    assert {first, second} == {3, 5}
    assert world.statistics()["queued"] == 0


# ---------------------------------------------------------------------------------------- cancel, recall


def test_cancel_in_the_queue(world):
    world.submit(1, 2, 3)
    world.cancel(0, ORIGIN, 2, attempt=0, mode=1)
    assert world.drain() == [("answer", 0, 0, 2, 0, world.machines.NOT_STARTED, 1)]
    world.request(1, 100)
    actions = [action for action in world.matched() if action[0] != "want"]
    assert [(name, slot) for name, _, slot, *_ in actions] == [("send", 1), ("drop", 2), ("send", 3)]
    assert world.statistics() == {
        "nodes": 3,
        "queued": 0,
        "known": 2,
        "dispatched": 2,
        "dropped": 0,
        "moved": 0,
    }


def test_cancelled_tasks_are_freed_without_any_room(world):
    world.submit(1, 2)
    world.cancel(0, ORIGIN, 1)
    world.cancel(0, ORIGIN, 2)
    world.drain()
    assert [(name, slot) for name, _, slot, *_ in world.matched()] == [("drop", 1), ("drop", 2)]
    assert world.statistics()["queued"] == 0
    world.submit(3)
    world.request(1, 1)
    assert world.sent() == {1: [3]}


def test_cancelled_and_submitted_again_before_the_queue_moved(world):
    world.submit(1)
    world.cancel(0, ORIGIN, 1)
    assert world.task(0, ORIGIN, 1, attempt=1, slot=11) == 0
    world.request(1, 100)
    assert world.sent() == {1: [11]}
    assert world.result(1, ORIGIN, 1) == 0
    assert world.statistics()["known"] == 0


def test_cancel_at_a_holder_is_passed_on(world):
    world.submit(1)
    world.request(2, 100)
    world.match()
    world.drain()
    world.cancel(0, ORIGIN, 1, attempt=3, mode=1)
    assert world.drain() == [("cancel", 2, 0, ORIGIN, 1, 3, 1)]
    started, not_started = world.machines.STARTED, world.machines.NOT_STARTED
    assert world.answer(2, ORIGIN, 1, started) == (0, started)
    assert world.node(2)["given"] == 1
    assert world.answer(2, ORIGIN, 1, not_started) == (0, not_started)
    assert (world.node(2)["given"], world.statistics()["known"]) == (0, 0)


def test_started_from_a_node_that_gave_the_task_away_is_unknown(world):
    world.submit(1)
    world.request(1, 100)
    world.match()
    world.cancel(0, ORIGIN, 1)
    world.drain()
    assert world.task(1, ORIGIN, 1, slot=2) == 0  # it crosses the cancel, which finds nothing there
    started, unknown = world.machines.STARTED, world.machines.UNKNOWN
    assert world.answer(1, ORIGIN, 1, started) == (0, unknown)
    world.request(1, 0)
    world.request(2, 100)
    assert world.sent() == {2: [2]}
    assert world.answer(1, ORIGIN, 1, started) == (0, unknown)
    assert world.answer(2, ORIGIN, 1, started) == (0, started)


def test_an_answer_for_an_unknown_owner_goes_nowhere(world):
    assert world.answer(1, 77, 1, world.machines.STARTED) == (-1, world.machines.STARTED)


def test_cancel_of_an_unknown_task(world):
    world.cancel(0, ORIGIN, 5, attempt=2, mode=0)
    assert world.drain() == [("answer", 0, 0, 5, 2, world.machines.UNKNOWN, 0)]
    world.cancel(0, 77, 5, attempt=2, mode=0)
    assert world.drain() == [], "nobody is there to be told"


def test_cancel_of_an_earlier_attempt_leaves_the_later_one(world):
    world.submit(1, attempt=3)
    world.cancel(0, ORIGIN, 1, attempt=2)
    assert world.drain() == [("answer", 0, 0, 1, 2, world.machines.UNKNOWN, 0)]
    assert world.statistics()["known"] == 1


def test_an_answer_about_an_earlier_attempt_leaves_the_later_one(world):
    world.submit(1, attempt=3)
    world.request(1, 100)
    assert world.sent() == {1: [1]}
    not_started = world.machines.NOT_STARTED
    assert world.answer(1, ORIGIN, 1, not_started, attempt=2) == (0, not_started)
    assert world.statistics()["known"] == 1
    assert world.answer(1, ORIGIN, 1, not_started, attempt=3) == (0, not_started)
    assert world.statistics()["known"] == 0


def test_cancel_crosses_the_result(world):
    world.submit(1)
    world.request(1, 100)
    world.match()
    world.drain()
    world.result(1, ORIGIN, 1)
    world.cancel(0, ORIGIN, 1)
    assert world.drain() == [("answer", 0, 0, 1, 0, world.machines.UNKNOWN, 0)]


# ------------------------------------------------------------------------------------------------ losses


def test_a_lost_node_tells_each_owner_and_blames_exactly_one(world):
    world.submit(1, 2, attempt=5, est_us=1)
    assert world.task(2, SECOND, 1, slot=9, attempt=6, est_us=1) == 0
    world.request(1, 100)
    assert world.sent() == {1: [1, 2, 9]}
    world.lost(1, ORIGIN, 2, cause=8)
    assert sorted(world.drain()) == [
        ("lost", 0, 0, 1, 5, 8, 0),
        ("lost", 0, 0, 2, 5, 8, 1),
        ("lost", 2, 0, 1, 6, 8, 0),
    ]
    assert world.statistics()["known"] == 0
    assert world.node(1)["given"] == 0


def test_nobody_is_blamed_for_a_node_that_ran_nothing(world):
    world.submit(1)
    world.request(1, 100)
    world.match()
    world.drain()
    world.lost(1)
    assert world.drain() == [("lost", 0, 0, 1, 0, 1, 0)]


def test_lost_twice_is_lost_once(world):
    world.submit(1)
    world.request(1, 100)
    world.match()
    world.lost(1)
    world.drain()
    world.lost(1)
    assert world.drain() == []


def test_queued_tasks_of_others_survive(world):
    world.submit(1, 2)
    world.request(1, 100)
    assert world.sent() == {1: [1, 2]}
    world.submit(2, node=1)  # passed on by worker 1, owned by the origin
    world.lost(1)
    assert [(name, slot, id) for name, _, slot, id, *_ in world.drain()] == [("lost", 0, 1)]
    world.request(2, 100)
    assert world.sent() == {2: [2]}


def test_a_node_speaks_for_its_own_tasks_and_for_those_that_it_holds(world):
    world.submit(1, 2)
    world.request(1, 1)
    assert world.sent() == {1: [1]}
    # Worker 2 holds none of them.
    for id in (1, 2, 3):
        assert world.task(2, ORIGIN, id, slot=9) == -1, "it cannot put another in its place"
        assert world.result(2, ORIGIN, id) == -1
        world.cancel(2, ORIGIN, id)
    assert world.answer(2, ORIGIN, 1, world.machines.NOT_STARTED)[0] == -1
    assert world.drain() == []
    assert world.statistics()["dropped"] == 10
    assert world.result(1, ORIGIN, 1) == 0


def test_the_tasks_of_a_dead_owner_are_dropped(world):
    world.submit(1, 2, node=1, owner=FIRST, attempt=3, est_us=100)
    world.request(2, 50)
    assert world.sent() == {2: [1]}
    world.lost(1)
    # What runs elsewhere is called off there, what is queued here is never sent.
    assert world.drain() == [("cancel", 2, 0, FIRST, 1, 3, world.machines.ORPHAN)]
    assert world.node(2)["given"] == 0
    world.request(2, 100)
    assert [(name, slot) for name, _, slot, *_ in world.matched() if name != "want"] == [("drop", 2)]
    assert world.statistics()["known"] == 0


def test_many_tasks_of_a_lost_node_are_all_found(world):
    # Removals move the cells of the table while it is walked.
    dice = random.Random(1)
    ids = dice.sample(range(1, 2**40), 3000)
    world.submit(*ids[:2000])
    world.submit(*ids[2000:], node=1, owner=FIRST)
    world.request(1, 700)
    world.match()
    world.request(1, 0)
    world.request(2, 10**6)
    world.match()
    world.drain()
    # Worker 1 held 700 of the origin's; worker 2 holds 1,000 of worker 1's.
    world.lost(1)
    actions = world.drain()
    assert {a for name, _, _, a, *_ in actions if name == "lost"} == set(ids[:700])
    assert {b for name, _, _, _, b, *_ in actions if name == "cancel"} == set(ids[2000:])
    assert len(actions) == 1700
    assert world.statistics()["known"] == 1300


# ------------------------------------------------------------------------------------------------- asking


def test_the_source_is_always_asked(world):
    world.request(1, 1000, idle=True)
    assert world.wants() == {0: (1000, 1)}
    assert world.wants() == {}  # once


def test_a_node_with_tasks_of_others_is_asked_when_nobody_has_surplus(world):
    world.submit(1)
    world.request(1, 1)
    world.match()
    world.drain()
    world.request(2, 500, idle=True)
    assert world.wants() == {0: (500, 1), 1: (500, 1)}


def test_who_has_surplus_is_asked_and_the_source_and_nobody_else(machines):
    world = World(machines, workers=4)
    world.submit(1, 2, 3, est_us=1)
    for node in (1, 2, 3):
        world.request(node, 1)
    assert world.sent() == {1: [1], 2: [2], 3: [3]}
    world.surplus(2, 5)
    world.surplus(3, 50)
    world.request(4, 1000, idle=True)
    assert world.wants() == {0: (1000, 1), 3: (1000, 1)}


def test_nobody_is_asked_to_fill_itself(world):
    world.request(0, 1000, idle=True)
    assert world.wants() == {}
    world.request(1, 300, idle=True)
    assert world.wants() == {0: (300, 2)}


def test_nobody_is_asked_while_tasks_are_queued_here(world):
    world.submit(1, 2, est_us=1)
    world.request(1, 1)
    assert world.wants() == {}


def test_a_task_that_waits_for_others_than_the_hungry_does_not_stop_the_asking(world):
    world.submit(1, est_us=1, node=1, owner=FIRST)  # it goes to its owner only if that has nothing to do
    world.request(1, 1000)
    assert world.wants() == {0: (1000, 0)}


def test_a_surplus_that_was_told_may_be_used_up_by_half(world):
    world.surplus(1, 8, 800)
    world.surplus(2, 6, 600)
    world.request(0, 500, idle=True)
    assert world.wants() == {1: (500, 1), 2: (100, 1)}


def test_what_is_about_to_be_needed_is_counted_in_whole_tasks(machines):
    world = World(machines, workers=9)
    assert world.ahead() == 0, "nothing is known of tasks"
    world.submit(1, est_us=4000)
    assert world.ahead() == 12_000, "ten nodes need 15 ms in 1.5 ms"
    for node in range(1, 9):
        world.lost(node)
    assert world.ahead() == 0


def test_a_wish_is_withdrawn_when_it_is_satisfied(world):
    world.request(1, 1000, idle=True)
    assert world.wants() == {0: (1000, 1)}
    world.submit(1, est_us=1, node=2, owner=SECOND)  # from elsewhere
    world.request(1, 0)
    assert world.wants() == {0: (0, 0)}
    assert world.wants() == {}


def test_what_arrives_counts_against_the_wish(world):
    world.request(1, 1000, idle=True)
    world.match()
    world.submit(1, est_us=600)
    assert world.node(0)["want_us"] == 400
    world.submit(2, est_us=600)
    assert world.node(0)["want_us"] == 0
    world.match()
    assert world.wants() == {}  # filled by 1,200 of 1,000: nothing to ask, nothing to withdraw


def test_a_wish_is_repeated_when_it_more_than_doubles(world):
    world.request(1, 1000)
    assert world.wants() == {0: (1000, 0)}
    world.request(1, 1500)
    assert world.wants() == {}
    world.request(1, 2001)
    assert world.wants() == {0: (2001, 0)}


def test_a_wish_is_repeated_for_one_more_idle_node(world):
    world.request(1, 1000, idle=True)
    assert world.wants() == {0: (1000, 1)}
    world.request(2, 500, idle=True)
    assert world.wants() == {0: (1500, 2)}


def test_a_dead_node_neither_asks_nor_is_asked(world):
    world.request(1, 1000, idle=True)
    world.surplus(2, 10)
    world.lost(1)
    world.lost(2)
    assert world.wants() == {}


@pytest.mark.parametrize(("idle", "asked"), [(True, 8), (False, 20)])
def test_at_most_eight_are_asked_for_what_they_surely_run(machines, idle, asked):
    world = World(machines, workers=20)
    for node in range(1, 20):
        world.submit(node, est_us=1)
        world.request(node, 1, idle=idle)
        world.match()
    world.drain()
    world.request(20, 1000, idle=True)
    assert len(world.wants()) == asked, "what was given to one that ran something else may wait there"


def test_who_asks_again_runs_what_it_was_given(machines):
    world = World(machines, workers=20)
    for node in range(1, 20):
        world.submit(node, est_us=1)
        world.request(node, 1)
        world.match()
        world.request(node, 0)
    world.drain()
    world.request(20, 1000, idle=True)
    assert len(world.wants()) == 8


def test_who_asked_before_a_task_had_arrived_may_have_the_next_one_behind_it(machines):
    world = World(machines, workers=20)
    for node in range(1, 20):
        world.submit(node, est_us=1)
        world.request(node, 1)
        world.match()
        world.request(node, 1, idle=True)  # on its way when the task left
        world.submit(200 + node, node=node, owner=ORIGIN + node, est_us=1)  # which comes home
        world.match()
    world.drain()
    world.request(20, 1000, idle=True)
    assert len(world.wants()) == 20


def test_all_that_hold_a_second_task_are_asked(machines):
    world = World(machines, workers=20)
    for node in range(1, 20):
        world.submit(node, 100 + node, est_us=1)
        world.request(node, 2)
        world.match()
    world.drain()
    world.request(20, 1000, idle=True)
    assert len(world.wants()) == 20, "and the source"


# -------------------------------------------------------------------------------------------- any order


@pytest.mark.parametrize("seed", range(25))
def test_any_order_of_events(machines, seed):
    """No slot is lost or used twice, nothing goes to the dead, and cancelling everything leaves nothing."""
    dice = random.Random(seed)
    world = World(machines, workers=4)
    names = [ORIGIN, FIRST, SECOND, THIRD, THIRD + 1]
    open_slots = {}  # what the driver would have in memory
    next_slot = 0

    def obey():
        for name, node, slot, *_ in world.drain():
            if name == "send":
                del open_slots[slot]
                assert world.node(node)["alive"]
            elif name == "drop":
                del open_slots[slot]
            else:
                assert world.node(node)["alive"], name

    weights = {
        "task": 60,
        "request": 40,
        "result": 30,
        "match": 40,
        "surplus": 10,
        "cancel": 10,
        "answer": 10,
        "lost": 1,
    }
    for event in dice.choices(list(weights), list(weights.values()), k=400):
        node = dice.randrange(len(names))
        owner = names[node]
        if event == "task":
            next_slot += 1
            flags = machines.RETRIED if dice.random() < 0.1 else 0
            if (
                world.task(node, owner, dice.randint(1, 60), 0, dice.choice([0, 1, 50]), flags, next_slot)
                == 0
            ):
                open_slots[next_slot] = owner
        elif event == "request":
            world.request(node, dice.choice([0, 1, 100, 1000]), dice.random() < 0.5)
        elif event == "surplus":
            world.surplus(node, dice.choice([0, 1, 10]))
        elif event in ("result", "answer"):
            holder = dice.randrange(len(names))
            if event == "result":
                world.result(holder, owner, dice.randint(1, 60))
            else:
                world.answer(holder, owner, dice.randint(1, 60), dice.randint(0, 2))
        elif event == "cancel":
            if world.node(node)["alive"]:
                world.cancel(node, owner, dice.randint(1, 60), 0, dice.randint(0, 1))
        elif event == "lost":
            if node:
                world.lost(node, owner, dice.randint(1, 60))
                names.append(max(names) + 1)
                world.hello(names[-1])
        else:
            world.balance.match()
            world.validate()
        obey()
    for node, owner in enumerate(names):
        for id in range(1, 61):
            world.cancel(node, owner, id)
            world.drain()
        if world.node(node)["alive"]:
            world.request(node, 0)
    for name, _, slot, *_ in world.matched():
        assert name in ("drop", "want")
        if name == "drop":
            del open_slots[slot]
    assert not open_slots
    assert world.statistics()["queued"] == 0


def test_a_task_whose_place_is_taken_is_refused(world):
    # Numbers beyond 44 bits come from no owner of ours, but anybody may send them.
    assert world.task(0, ORIGIN, 5, slot=1) == 0
    assert world.task(0, ORIGIN, 5 + (1 << 44), slot=2) == -1
    world.request(1, 100)
    assert world.sent() == {1: [1]}
    assert world.statistics()["dropped"] == 1
