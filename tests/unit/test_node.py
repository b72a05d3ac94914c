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


def test_a_wait_that_looks_in_vain_soon_sleeps_at_once(drivers, node):
    if not node.spins:
        pytest.skip("this process may use one core only, where no wait spins")
    skips, misses = [], []
    for _ in range(4):
        assert node.spin_skip == 0
        drivers.wait_after_signal(node, 0, 2000)  # longer than a wait spins
        skips.append(node.spin_skip)
        misses.append(node.spin_misses)
        for left in range(node.spin_skip, 0, -1):
            assert node.spin_skip == left
            drivers.wait_after_signal(node, 0, 1)
    assert skips == [1, 3, 7, 15]
    assert misses == [1, 2, 3, 4]
    drivers.wait_after_signal(node, 0, 1)  # a short one: looking pays again
    assert (node.spin_skip, node.spin_misses) == (0, 0)
