"""The list of actions: order, growth, emptying, and its bound."""

from __future__ import annotations


def test_order_and_fields(machines):
    outbox = machines.OutboxHarness()
    assert outbox.put(1, 5, 77, 1, 2, 3, 2**64 - 1) == 0
    assert outbox.put(2, -1, 0, 0, 0, 0, 0) == 0
    assert outbox.out.drain() == [(1, 5, 77, 1, 2, 3, 2**64 - 1), (2, -1, 0, 0, 0, 0, 0)]
    assert outbox.out.drain() == []


def test_grows_beyond_its_first_size(machines):
    outbox = machines.OutboxHarness()
    assert outbox.fill(1000) == 1000
    assert [action[3] for action in outbox.out.drain()] == list(range(1000))
    assert outbox.fill(3) == 3
    assert len(outbox.out.drain()) == 3


def test_a_bound_that_only_a_bug_can_reach(machines):
    outbox = machines.OutboxHarness()
    assert outbox.fill(2**22 + 1) == 2**22
    assert outbox.put(1, 0, 0, 0, 0, 0, 0) == -1
    assert len(outbox.out.drain()) == 2**22
    assert outbox.put(1, 0, 0, 0, 0, 0, 0) == 0
