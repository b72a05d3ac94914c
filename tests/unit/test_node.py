"""How a thread waits in a process."""

from __future__ import annotations

import signal

import pytest

from scoop._core.desk import Desk
from scoop._core.node import Node

DEADLINE_US = 20 * 10**6


@pytest.fixture
def node():
    node = Node(Desk(1))
    yield node
    node.close()


def test_a_signal_that_comes_just_before_the_wait_ends_it(drivers, node):
    seen = []
    before = signal.signal(signal.SIGUSR1, lambda *_: seen.append(1))
    try:
        # The handler in C runs while no system call can be interrupted: only a look at the clock can find it.
        assert drivers.wait_after_signal(node, signal.SIGUSR1, DEADLINE_US) == "signal"
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert seen == [1]


def test_a_wait_without_a_signal_goes_on_after_a_look(drivers, node):
    seen = []
    before = signal.signal(signal.SIGUSR1, lambda *_: seen.append(1))
    try:
        reasons = [drivers.wait_after_signal(node, signal.SIGUSR1, DEADLINE_US) for _ in range(2)]
        assert reasons == ["signal", "signal"]
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert drivers.wait_after_signal(node, 0, 10_000) == "timeout"
