"""A process's own queue: what runs first, what is given away first, and what is asked for."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

ROOM_US = 1000


@pytest.fixture
def queue(machines):
    return machines.QueueHarness()


def own(queue, machines, *ids):
    calls = [machines.Call(id) for id in ids]
    for call in calls:
        queue.put_own(call)
    return calls


def foreign(queue, machines, *ids, owner=9, **fields):
    calls = [machines.Call(id, owner, **fields) for id in ids]
    for call in calls:
        queue.put_foreign(call)
    return calls


def drain(take):
    found = []
    while (call := take()) is not None:
        found.append(call)
    return found


def test_empty(queue):
    for take in (queue.newest_own, queue.oldest_own, queue.next_foreign, queue.give, queue.pop_stale):
        assert take() is None
    assert queue.find_foreign(1, 1) is None
    assert queue.counts == (0, 0, 0)


def test_own_calls_run_newest_first(queue, machines):
    calls = own(queue, machines, 1, 2, 3)
    assert [call.state for call in calls] == ["queued"] * 3
    assert drain(queue.newest_own) == calls[::-1]
    assert queue.counts == (0, 0, 0)


def test_own_calls_are_given_away_oldest_first(queue, machines):
    calls = own(queue, machines, 1, 2, 3)
    assert drain(queue.give) == calls


def test_both_ends_meet(queue, machines):
    calls = own(queue, machines, *range(1, 8))
    assert queue.newest_own() is calls[6]
    assert queue.give() is calls[0]
    late = own(queue, machines, 8)
    assert queue.newest_own() is late[0]
    assert drain(queue.oldest_own) == calls[1:6]


def test_foreign_tasks_run_in_order_and_are_given_from_the_end(queue, machines):
    tasks = foreign(queue, machines, 1, 2, 3, 4, est_us=10)
    assert queue.counts == (0, 4, 40)
    assert queue.next_foreign() is tasks[0]
    assert queue.give() is tasks[3]
    assert queue.counts == (0, 2, 20)
    assert drain(queue.next_foreign) == tasks[1:3]


def test_foreign_tasks_are_given_before_own_calls(queue, machines):
    (call,) = own(queue, machines, 1)
    (task,) = foreign(queue, machines, 2)
    assert [queue.give(), queue.give(), queue.give()] == [task, call, None]


def test_own_calls_only_on_request(queue, machines):
    (call,) = own(queue, machines, 1)
    (task,) = foreign(queue, machines, 2)
    assert [queue.give(own_only=True), queue.give(own_only=True)] == [call, None]
    assert queue.next_foreign() is task


@pytest.mark.parametrize(("hops", "moves"), [(0, True), (15, True), (16, False), (200, False)])
def test_a_task_does_not_move_for_ever(queue, machines, hops, moves):
    (call,) = own(queue, machines, 1)
    (task,) = foreign(queue, machines, 2, hops=hops)
    assert queue.give() is (task if moves else call)
    assert queue.counts[:2] == ((1, 0) if moves else (0, 1))


def test_many_calls_wrap_around(queue, machines):
    # More than the first size of the ring, with its head in the middle.
    first = own(queue, machines, *range(1, 51))
    for _ in range(40):
        queue.give()
    second = own(queue, machines, *range(51, 300))
    assert drain(queue.give) == first[40:] + second


def test_taken_from_an_end_leaves_nothing(queue, machines):
    calls = own(queue, machines, 1, 2, 3)
    assert queue.take(calls[2]) == 1
    assert queue.take(calls[0]) == 1
    assert queue.take(calls[1]) == 1
    assert [call.state for call in calls] == ["running"] * 3
    assert queue.counts[0] == 0
    assert queue.entries == (0, 0, 0)


def test_taken_from_the_middle_leaves_an_entry_that_is_reported_once(queue, machines):
    calls = own(queue, machines, 1, 2, 3)
    assert queue.take(calls[1]) == 2
    assert queue.counts[0] == 2
    assert queue.pop_stale() is None
    assert queue.newest_own() is calls[2]
    assert queue.newest_own() is calls[0]
    assert queue.newest_own() is None
    assert drain(queue.pop_stale) == [calls[1]]


def test_gathering_in_order_of_submission_leaves_nothing_behind(queue, machines):
    # The usual loop `[f.result() for f in futures]`: the front is trimmed as it goes.
    calls = own(queue, machines, *range(1, 101))
    for call in calls:
        assert queue.take(call) == 1
    assert queue.entries == (0, 0, 0)


def test_a_stale_front_is_trimmed_at_the_next_take(queue, machines):
    calls = own(queue, machines, 1, 2, 3, 4, 5)
    assert queue.take(calls[1]) == 2
    assert queue.take(calls[0]) == 1
    assert queue.take(calls[3]) == 2  # now the front, which is stale, is trimmed
    assert drain(queue.pop_stale) == [calls[1]]
    assert queue.counts[0] == 2
    assert drain(queue.oldest_own) == [calls[2], calls[4]]
    assert drain(queue.pop_stale) == [calls[3]]


def test_a_call_taken_from_the_middle_and_queued_again_is_found_once(queue, machines):
    calls = own(queue, machines, 1, 2, 3)
    queue.take(calls[1])
    queue.put_own(calls[1])
    assert queue.counts[0] == 3
    found = []
    while (call := queue.newest_own()) is not None:
        call.state = "running"
        found.append(call)
    assert sorted(call.id for call in found) == [1, 2, 3]
    # Two entries had a reference each: one went with the call, one is told here.
    assert drain(queue.pop_stale) == [calls[1]]


def test_find_a_foreign_task(queue, machines):
    tasks = foreign(queue, machines, 1, 2, 3, est_us=5)
    other = foreign(queue, machines, 2, owner=8, est_us=7)
    assert queue.find_foreign(8, 3) is None
    assert queue.find_foreign(9, 2) is tasks[1]
    assert queue.find_foreign(9, 2) is None
    assert queue.counts == (0, 3, 17)
    assert drain(queue.next_foreign) == [tasks[0], tasks[2], *other]


def test_a_later_attempt_is_not_found(queue, machines):
    # A cancel that was long on its way: what came after it is not meant.
    (task,) = foreign(queue, machines, 1, attempt=3)
    assert queue.find_foreign(9, 1, 2) is None
    assert queue.find_foreign(9, 1, 3) is task


def test_parked_tasks_are_neither_run_nor_given_away(queue, machines):
    # Their function is on its way.
    parked = [machines.Call(id, 9, fn=fn, est_us=5) for id, fn in ((1, 7), (2, 8), (3, 7))]
    for task in parked:
        queue.park(task)
    assert queue.counts == (0, 0, 0)
    assert queue.give() is None
    assert queue.next_foreign() is None
    queue.unpark(8, 7)
    queue.unpark(9, 6)
    assert queue.counts == (0, 0, 0)
    queue.unpark(9, 7)
    assert queue.counts == (0, 2, 10)
    assert drain(queue.next_foreign) == [parked[0], parked[2]]
    queue.unpark(9, 8)
    assert queue.next_foreign() is parked[1]


def test_a_parked_task_is_found(queue, machines):
    parked = [machines.Call(id, 9, fn=7, est_us=5) for id in (1, 2, 3)]
    for task in parked:
        queue.park(task)
    assert queue.find_foreign(9, 2) is parked[1]
    assert queue.find_foreign(9, 2) is None
    queue.unpark(9, 7)
    assert drain(queue.next_foreign) == [parked[0], parked[2]]


def test_an_idle_process_asks_for_room_once(queue):
    assert queue.hunger(idle=True) == ROOM_US
    assert queue.hunger(idle=True) == 0
    queue.granted(ROOM_US)
    assert queue.hunger(idle=True) == ROOM_US


def test_whoever_waits_for_a_function_does_not_collect_tasks_meanwhile(queue, machines):
    queue.park(machines.Call(1, 9, fn=7, est_us=5))
    assert queue.hunger(idle=True) == 0
    queue.lose_patience()
    assert queue.hunger(idle=True) == ROOM_US
    queue.granted(ROOM_US)
    queue.park(machines.Call(2, 9, fn=7, est_us=5))
    assert queue.hunger(idle=True) == 0
    queue.unpark(9, 7)
    assert drain(queue.next_foreign) != []
    assert queue.hunger(idle=True) == ROOM_US


def test_a_busy_process_asks_when_half_is_left(queue, machines):
    # It is about to run the first one, so what stays behind that counts.
    foreign(queue, machines, 1, 2, 3, est_us=300)
    assert queue.hunger() == 0
    queue.next_foreign()
    assert queue.hunger() == ROOM_US - 600
    # What is on its way counts as here.
    assert queue.hunger() == 0


def test_what_was_asked_for_while_busy_is_asked_for_once_more_when_idle(queue):
    # For an idle process others give up what waits for them.
    assert queue.hunger() == ROOM_US
    assert queue.hunger() == 0
    assert queue.hunger(idle=True) == ROOM_US
    assert queue.hunger(idle=True) == 0


def test_an_idle_process_with_tasks_waits_for_what_it_asked(queue, machines):
    assert queue.hunger() == ROOM_US
    foreign(queue, machines, 1, est_us=10)
    assert queue.hunger(idle=True) == 0


def test_own_calls_come_before_hunger(queue, machines):
    own(queue, machines, 1)
    assert queue.hunger(idle=True) == 0
    queue.newest_own()
    assert queue.hunger(idle=True) == ROOM_US


def test_grants_are_counted_down_and_never_below_nothing(queue):
    queue.hunger(idle=True)
    queue.granted(300)
    assert queue.room_us == ROOM_US - 300
    queue.granted(5000)
    assert queue.room_us == 0


def test_tasks_of_unknown_length_do_not_fill_the_room(queue, machines):
    foreign(queue, machines, 1, est_us=0)
    assert queue.hunger() == ROOM_US


def make_against_lists(machines):
    class AgainstLists(RuleBasedStateMachine):
        """Any order of operations: every call leaves exactly once, in the right order."""

        def __init__(self):
            super().__init__()
            self.queue = machines.QueueHarness()
            self.own = []
            self.foreign = []
            self.stale = set()
            self.next_id = 1

        def call(self, **fields):
            self.next_id += 1
            return machines.Call(self.next_id, **fields)

        def check(self):
            assert self.queue.counts == (len(self.own), len(self.foreign), 3 * len(self.foreign))
            while (call := self.queue.pop_stale()) is not None:
                self.stale.remove(call.id)

        def leaves(self, call, expected):
            assert call is expected
            if call is not None:
                call.state = "running"
            self.check()

        @rule(count=st.integers(1, 5))
        def put_own(self, count):
            for _ in range(count):
                self.own.append(self.call())
                self.queue.put_own(self.own[-1])
            self.check()

        @rule(hops=st.integers(14, 17))
        def put_foreign(self, hops):
            self.foreign.append(self.call(owner=9, est_us=3, hops=hops))
            self.queue.put_foreign(self.foreign[-1])
            self.check()

        @rule()
        def newest(self):
            self.leaves(self.queue.newest_own(), self.own.pop() if self.own else None)

        @rule()
        def oldest(self):
            self.leaves(self.queue.oldest_own(), self.own.pop(0) if self.own else None)

        @rule()
        def next_foreign(self):
            self.leaves(self.queue.next_foreign(), self.foreign.pop(0) if self.foreign else None)

        @rule(own_only=st.booleans())
        def give(self, own_only):
            hops = self.queue_hops()
            if self.foreign and not own_only and hops < 16:
                expected = self.foreign.pop()
            else:
                expected = self.own.pop(0) if self.own else None
            self.leaves(self.queue.give(own_only), expected)

        def queue_hops(self):
            return self.foreign[-1].hops if self.foreign else 0

        @rule(data=st.data())
        def take(self, data):
            if self.own:
                call = self.own.pop(data.draw(st.integers(0, len(self.own) - 1)))
                self.stale.add(call.id)
                if self.queue.take(call) == 1:
                    self.stale.remove(call.id)
                self.check()

        @rule(data=st.data())
        def find(self, data):
            if self.foreign:
                call = self.foreign.pop(data.draw(st.integers(0, len(self.foreign) - 1)))
                self.leaves(self.queue.find_foreign(9, call.id), call)

        def teardown(self):
            assert drain(self.queue.oldest_own) == self.own
            assert drain(self.queue.next_foreign) == self.foreign
            self.own, self.foreign = [], []
            self.check()
            assert not self.stale

    return AgainstLists


def test_against_lists(machines):
    run_state_machine_as_test(
        make_against_lists(machines),
        settings=settings(max_examples=60, stateful_step_count=50, deadline=None),
    )
