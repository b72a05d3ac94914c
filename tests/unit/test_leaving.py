"""A node that leaves: what it gives back, when it is done, and what its broker does meanwhile."""

from __future__ import annotations

from scoop._core import wire

NUMBERS = {name: number for number, (name, _, _) in wire.TABLE.items()}
TASK, REQUEST, ANSWER = (NUMBERS[name] for name in ("TASK", "REQUEST", "ANSWER"))
LEAVE, STOP = (NUMBERS[name] for name in ("LEAVE", "STOP"))
OWNER, WORKER, OTHER = 11, 22, 33
NOT_STARTED, RECALL, RETRIED = 0, 1, 16


def task(number: int, flags: int = 0) -> bytes:
    return wire.encode(TASK, OWNER, number, 0, 1, flags, 5, 100, bytes(16), b"", b"payload")


def names(frame: bytes) -> list[str]:
    return [wire.TABLE[record[0]][0] for record in wire.decode(frame)]


def test_what_has_not_started_goes_back_to_its_owner(drivers):
    node = drivers.DeskHarness(WORKER)
    node.handle(task(1) + task(2))
    node.said()
    node.leave()
    answers = [(ANSWER, OWNER, number, 0, NOT_STARTED, RECALL) for number in (1, 2)]
    assert wire.decode(node.said()) == [(LEAVE, 0), *answers, (LEAVE, 1)]


def test_what_arrives_later_goes_back_too(drivers):
    node = drivers.DeskHarness(WORKER)
    node.leave()
    node.said()
    node.handle(task(3))
    assert wire.decode(node.said()) == [(ANSWER, OWNER, 3, 0, NOT_STARTED, RECALL)]


def test_a_task_that_crashed_a_worker_goes_to_the_broker(drivers):
    node = drivers.DeskHarness(WORKER)
    node.handle(task(4, RETRIED))
    node.said()
    node.leave()
    assert names(node.said()) == ["LEAVE", "TASK", "LEAVE"]


def test_it_says_once_that_it_is_done(drivers):
    node = drivers.DeskHarness(WORKER)
    node.leave()
    node.leave()
    assert wire.decode(node.said()) == [(LEAVE, 0), (LEAVE, 1)]


def test_a_broker_gives_it_nothing_more(drivers):
    broker = drivers.BrokerHarness()
    owner, leaving, other = (broker.hello(number) for number in (OWNER, WORKER, OTHER))
    room = wire.encode(REQUEST, 1000, 1)
    broker.feed(leaving, room + wire.encode(LEAVE, 0) + room)
    broker.feed(owner, task(1))
    broker.settle()
    assert broker.heard(leaving) == b""
    broker.feed(other, room)
    broker.settle()
    assert "TASK" in names(broker.heard(other))
    broker.validate()


def test_a_broker_lets_it_go_when_all_is_read(drivers):
    broker = drivers.BrokerHarness()
    leaving = broker.hello(WORKER)
    broker.feed(leaving, wire.encode(LEAVE, 0))
    broker.settle()
    assert broker.heard(leaving) == b""
    broker.feed(leaving, wire.encode(LEAVE, 1))
    broker.settle()
    assert wire.decode(broker.heard(leaving)) == [(STOP, 0)]
