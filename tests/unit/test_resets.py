"""What two brokers do when the connection between them is another one than before: the frames, one by one."""

from __future__ import annotations

from types import ModuleType

import pytest

from scoop._core import wire

NUMBERS = {row[0]: kind for kind, row in wire.TABLE.items()}
HOME_SHIFT = 44
OWNER = (1 << HOME_SHIFT) + 1
ELSEWHERE = (2 << HOME_SHIFT) + 1
SECONDS = 1_000_000


class Side:
    """One of two brokers, with one node."""

    def __init__(self, drivers: ModuleType, number: int, other: int, node: int) -> None:
        self.harness = drivers.GatewayHarness(number)
        self.peer = self.harness.add_peer(other)
        self.node = self.harness.hello(node)
        self.said()

    def hears(self, frame: bytes) -> None:
        assert self.harness.feed(self.peer, frame) == 0
        self.harness.settle()
        self.harness.validate()

    def says(self) -> bytes:
        return bytes(self.harness.heard(self.peer))

    def said(self) -> list[str]:
        """The kinds of what it has for the other side."""
        return [wire.TABLE[record[0]][0] for record in wire.decode(self.says())]

    def told(self) -> list[tuple[int | bytes | str, ...]]:
        """What it has for its node."""
        records = wire.decode(self.harness.heard(self.node))
        return [(wire.TABLE[kind][0], *fields) for kind, *fields in records]


@pytest.fixture
def sides(drivers):
    """Two that have heard each other."""
    one, two = Side(drivers, 1, 2, OWNER), Side(drivers, 2, 1, ELSEWHERE)
    one.hears(two.says() or wire.encode(NUMBERS["LOAD"], 0))
    two.hears(one.says() or wire.encode(NUMBERS["LOAD"], 0))
    one.said()
    two.said()
    return one, two


def give(one: Side, two: Side) -> bytes:
    """The frame in which a task of the first one's node goes to the second."""
    one.hears(wire.encode(NUMBERS["ASK"], 5000, 1))
    task = wire.encode(NUMBERS["TASK"], OWNER, 7, 0, 1, 0, 3, 1000, b"l" * 16, b"", b"payload")
    one.harness.feed(one.node, task)
    one.harness.settle()
    frame = one.says()
    assert "TASK" in [wire.TABLE[record[0]][0] for record in wire.decode(frame)]
    return frame


def meet_again(one: Side, two: Side) -> None:
    one.hears(b"")
    two.hears(one.says())
    one.hears(two.says())
    two.hears(one.says())


def test_the_first_connection_is_not_another_one(drivers):
    one = Side(drivers, 1, 2, OWNER)
    one.hears(b"")
    assert one.said() == []
    one.hears(b"")
    assert one.said() == ["RESET"], "but the second is, whether or not anything has come by the first"


def test_three_steps_and_then_silence(sides):
    one, two = sides
    one.hears(b"")
    for side, other, step in ((one, two, 0), (two, one, 1), (one, two, 2)):
        frame = side.says()
        assert wire.decode(frame)[0] == (NUMBERS["RESET"], step)
        other.hears(frame)
    assert two.said() == []


def test_a_step_that_does_not_exist_is_not_answered(sides):
    one, _ = sides
    one.hears(wire.encode(NUMBERS["RESET"], 3))
    assert one.said() == []


def test_a_task_that_was_lost_is_said_to_be_lost(sides):
    one, two = sides
    give(one, two)
    meet_again(one, two)
    one.harness.wait(SECONDS)
    assert one.told() == []
    one.harness.wait(SECONDS)
    assert [(record[0], record[2]) for record in one.told()] == [("LOST", 7)]


def test_a_task_that_has_arrived_is_not(sides):
    one, two = sides
    two.hears(give(one, two))
    meet_again(one, two)
    one.hears(two.says())
    one.harness.wait(10 * SECONDS)
    assert one.told() == []


def test_nothing_is_lost_before_the_other_side_has_begun_to_say_what_it_holds(sides):
    # Its answer may wait for a connection of its own.
    one, two = sides
    two.hears(give(one, two))
    one.hears(b"")
    two.hears(one.says())
    one.harness.wait(100 * SECONDS)
    assert one.told() == []
    one.hears(two.says())
    one.harness.wait(10 * SECONDS)
    assert one.told() == []


def test_a_constant_that_was_lost_is_offered_again_and_comes_once(sides):
    one, two = sides
    one.harness.feed(one.node, wire.encode(NUMBERS["CONST"], OWNER, b"name", b"value"))
    one.harness.settle()
    assert one.said() == ["CONST"]  # and lost
    meet_again(one, two)
    assert [record[0] for record in two.told()] == ["CONST"]
    meet_again(one, two)
    assert two.told() == []


def test_the_last_results_are_sent_once_more_but_not_that_something_is_missing(sides):
    one, two = sides
    for id in (7, 8):
        outcome = {7: 0, 8: 3}[id]  # a value; a function that could not be imported
        two.harness.feed(two.node, wire.encode(NUMBERS["RESULT"], OWNER, id, 0, outcome, 1, b"payload"))
    two.harness.settle()
    meet_again(one, two)
    told = [record[2] for record in one.told() if record[0] == "RESULT"]
    assert told == [7]
