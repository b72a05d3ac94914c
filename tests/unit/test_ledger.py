"""The owner's view of exported calls: what each event means for a call, by each rule of the ledger."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule


@pytest.fixture
def ledger(machines):
    made = machines.LedgerHarness()
    yield made
    made.ledger.validate()


def exported(ledger, machines, id=1, **fields):
    call = machines.Call(id, **fields)
    ledger.export(call)
    ledger.ledger.validate()
    return call


def test_export_and_find(ledger, machines):
    call = exported(ledger, machines, 5)
    assert call.state == "exported"
    assert ledger.find(5) is call
    assert ledger.find(6) is None
    assert len(ledger) == 1


def test_the_result_completes_once_and_the_second_is_a_duplicate(ledger, machines):
    call = exported(ledger, machines)
    assert ledger.on_result(1) == ("complete", call)
    assert ledger.on_result(1) == ("ignore", None)
    assert ledger.ledger.statistics() == {"open": 0, "duplicates": 1, "reissued": 0}


def test_a_result_that_overtakes_the_loss_notice_wins(ledger, machines):
    call = exported(ledger, machines)
    assert ledger.on_result(1) == ("complete", call)
    assert ledger.on_lost(1, 0) == ("ignore", None)


def test_the_result_of_an_earlier_attempt_wins_too(ledger, machines):
    call = exported(ledger, machines)
    assert ledger.on_lost(1, 0) == ("reissue", call)
    assert ledger.on_result(1) == ("complete", call)
    assert ledger.on_result(1) == ("ignore", None)


def test_a_loss_makes_a_new_attempt(ledger, machines):
    call = exported(ledger, machines)
    assert ledger.on_lost(1, 0) == ("reissue", call)
    assert (call.attempt, call.crashes, call.crashed) == (1, 0, False)
    assert call.flags & machines.RETRIED == 0
    assert ledger.ledger.reissued == 1


def test_the_loss_of_another_attempt_is_ignored(ledger, machines):
    call = exported(ledger, machines, attempt=3)
    for attempt in (0, 2, 4, 2**16 + 3, 2**64 - 1):
        assert ledger.on_lost(1, attempt, blamed=True) == ("ignore", call)
    assert (call.attempt, call.crashes) == (3, 0)


def test_the_same_loss_told_twice_counts_once(ledger, machines):
    call = exported(ledger, machines)
    assert ledger.on_lost(1, 0, blamed=True)[0] == "reissue"
    assert ledger.on_lost(1, 0, blamed=True)[0] == "ignore"
    assert call.crashes == 1


def test_a_crash_marks_the_call_for_a_run_alone(ledger, machines):
    call = exported(ledger, machines)
    ledger.on_lost(1, 0, blamed=True)
    assert call.crashed
    assert call.flags & machines.RETRIED


@pytest.mark.parametrize("limit", [1, 2, 3, 5])
def test_the_crash_limit(machines, limit):
    ledger = machines.LedgerHarness(limit)
    call = exported(ledger, machines)
    for crash in range(1, limit + 1):
        ruling = ledger.on_lost(1, crash - 1, blamed=True)
        ledger.ledger.validate()
        assert ruling == ("fail" if crash == limit else "reissue", call)
        assert call.crashes == crash
    assert len(ledger) == 0
    assert ledger.on_result(1) == ("ignore", None)


@pytest.mark.parametrize(("crash_limit", "loss_limit"), [(3, 10), (1, 0), (2, 3)])
def test_the_loss_limit(machines, crash_limit, loss_limit):
    ledger = machines.LedgerHarness(crash_limit, loss_limit)
    call = exported(ledger, machines)
    for attempt in range(crash_limit + loss_limit):
        assert ledger.on_lost(1, attempt) == ("reissue", call)
        ledger.ledger.validate()
    assert ledger.on_lost(1, crash_limit + loss_limit) == ("fail", call)
    assert call.crashes == 0
    assert len(ledger) == 0


def test_innocent_losses_do_not_count_as_crashes(ledger, machines):
    call = exported(ledger, machines)
    for attempt in range(5):
        assert ledger.on_lost(1, attempt) == ("reissue", call)
    assert ledger.on_lost(1, 5, blamed=True) == ("reissue", call)
    assert ledger.on_lost(1, 6, blamed=True) == ("reissue", call)
    assert ledger.on_lost(1, 7, blamed=True) == ("fail", call)


def test_a_call_that_came_home_unstarted(ledger, machines):
    call = exported(ledger, machines)
    assert ledger.on_returned(1) == ("requeue", call)
    assert ledger.on_returned(1) == ("ignore", None)
    assert len(ledger) == 0


@pytest.mark.parametrize(("mode", "ruling"), [("DROP", "cancelled"), ("RECALL", "requeue")])
def test_a_holder_that_had_not_started(ledger, machines, mode, ruling):
    call = exported(ledger, machines)
    assert ledger.on_answer(1, 0, machines.NOT_STARTED, getattr(machines, mode)) == (ruling, call)
    assert len(ledger) == 0
    assert ledger.on_result(1) == ("ignore", None)


@pytest.mark.parametrize("mode", ["DROP", "RECALL"])
def test_a_holder_that_runs_it_keeps_it(ledger, machines, mode):
    call = exported(ledger, machines)
    assert ledger.on_answer(1, 0, machines.STARTED, getattr(machines, mode)) == ("started", call)
    assert ledger.on_result(1) == ("complete", call)


@pytest.mark.parametrize("verdict", [2, 3, 99])
def test_a_broker_that_does_not_know_it_changes_nothing(ledger, machines, verdict):
    call = exported(ledger, machines)
    assert ledger.on_answer(1, 0, verdict, machines.RECALL) == ("ignore", call)
    assert ledger.find(1) is call


def test_an_answer_about_another_attempt_is_ignored(ledger, machines):
    # The cancel crossed the loss: attempt 0 was taken back, attempt 1 is on its way.
    call = exported(ledger, machines)
    ledger.on_lost(1, 0)
    assert ledger.on_answer(1, 0, machines.NOT_STARTED, machines.DROP) == ("ignore", call)
    assert ledger.on_answer(1, 0, machines.STARTED, machines.DROP) == ("ignore", call)
    assert ledger.on_answer(1, 1, machines.NOT_STARTED, machines.DROP) == ("cancelled", call)


def test_an_answer_after_the_result_is_ignored(ledger, machines):
    exported(ledger, machines)
    ledger.on_result(1)
    assert ledger.on_answer(1, 0, machines.NOT_STARTED, machines.RECALL) == ("ignore", None)


def test_events_of_unknown_calls(ledger, machines):
    assert ledger.on_result(9) == ("ignore", None)
    assert ledger.on_returned(9) == ("ignore", None)
    assert ledger.on_lost(9, 0, blamed=True) == ("ignore", None)
    assert ledger.on_answer(9, 0, machines.STARTED, machines.DROP) == ("ignore", None)
    assert ledger.on_result(0) == ("ignore", None)


def test_pop_any_empties_it(ledger, machines):
    calls = [exported(ledger, machines, id) for id in range(1, 200)]
    found = [ledger.pop_any() for _ in calls]
    assert {call.id for call in found} == {call.id for call in calls}
    assert ledger.pop_any() is None
    assert len(ledger) == 0


def test_validate_sees_a_wrong_state(machines):
    ledger = machines.LedgerHarness()
    call = exported(ledger, machines)
    call.state = "running"
    with pytest.raises(AssertionError, match="state"):
        ledger.ledger.validate()


def make_random_events(machines):
    class RandomEvents(RuleBasedStateMachine):
        """Any order of events: each call ends at most once, and never is lost without an end."""

        IDS = st.integers(1, 6)

        def __init__(self):
            super().__init__()
            self.ledger = machines.LedgerHarness()
            self.open = {}
            self.next_id = 1

        def settle(self, id, ruling, call):
            assert (call is not None) == (id in self.open)
            if ruling in ("complete", "fail", "requeue", "cancelled"):
                assert self.open.pop(id) is call
            assert len(self.ledger) == len(self.open)
            self.ledger.ledger.validate()

        @precondition(lambda self: self.next_id <= 6)
        @rule()
        def export(self):
            self.open[self.next_id] = call = machines.Call(self.next_id)
            self.ledger.export(call)
            self.next_id += 1

        @rule(id=IDS)
        def result(self, id):
            self.settle(id, *self.ledger.on_result(id))

        @rule(id=IDS, attempt=st.integers(0, 4), blamed=st.booleans())
        def lost(self, id, attempt, blamed):
            self.settle(id, *self.ledger.on_lost(id, attempt, blamed))

        @rule(id=IDS, attempt=st.integers(0, 4), verdict=st.integers(0, 3), mode=st.integers(0, 1))
        def answer(self, id, attempt, verdict, mode):
            self.settle(id, *self.ledger.on_answer(id, attempt, verdict, mode))

        @rule(id=IDS)
        def returned(self, id):
            self.settle(id, *self.ledger.on_returned(id))

    return RandomEvents


def test_random_events(machines):
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(
        make_random_events(machines),
        settings=settings(max_examples=60, stateful_step_count=30, deadline=None),
    )


def test_what_nobody_knows_for_long_is_issued_again(machines, ledger):
    call = machines.Call(1)
    ledger.export(call)
    for now_s in (10, 12, 17):
        assert ledger.on_answer(1, 0, machines.UNKNOWN, machines.RECALL, now_s) == ("ignore", call)
    assert ledger.on_answer(1, 0, machines.UNKNOWN, machines.RECALL, 18) == ("reissue", call)
    assert call.attempt == 1
    assert call.crashes == 0
    assert ledger.on_answer(1, 0, machines.UNKNOWN, machines.RECALL, 40) == ("ignore", call)


def test_a_sign_of_it_in_between_starts_the_clock_again(machines, ledger):
    call = machines.Call(1)
    ledger.export(call)
    assert ledger.on_answer(1, 0, machines.UNKNOWN, machines.RECALL, 10) == ("ignore", call)
    assert ledger.on_answer(1, 0, machines.STARTED, machines.RECALL, 15) == ("started", call)
    assert ledger.on_answer(1, 0, machines.UNKNOWN, machines.RECALL, 20) == ("ignore", call)
    assert ledger.on_answer(1, 0, machines.UNKNOWN, machines.RECALL, 27) == ("ignore", call)
    assert ledger.on_answer(1, 0, machines.UNKNOWN, machines.RECALL, 28) == ("reissue", call)
