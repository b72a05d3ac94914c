"""Whose calls no process survives."""

from __future__ import annotations

import pytest

from scoop import losses

LEAF, OTHER = b"leaf" * 4, b"other" * 3 + b"."


def death(lineage, **more):
    running = [[1, 2, 0, 0, bytes(16), 0], [3, 4, 5, 0, lineage, 0]]
    return {"pid": 11, "signal": 9, "exitcode": None, "running": running, **more}


def test_a_call_is_deadly_from_the_limit_on_and_said_to_be_so_once():
    deaths = losses.Deaths(3)
    assert [deaths.note(death(lineage)) for lineage in (LEAF, OTHER, LEAF, OTHER)] == [None] * 4
    lineage, loss = deaths.note(death(LEAF))
    assert lineage == LEAF
    error = losses.explain_loss(loss, "solve")
    assert (error.task, error.pid, error.signal, error.attempts) == ("solve", 11, 9, 3)
    assert deaths.note(death(LEAF)) is None


@pytest.mark.parametrize(
    "report",
    [
        {"pid": 11, "signal": 9, "running": []},
        {"pid": 11, "signal": 9},
        death(LEAF, planned=True),
        death(bytes(16)),  # which call it was is not known
    ],
)
def test_what_says_nothing_of_a_call_does_not_count(report):
    deaths = losses.Deaths(1)
    assert deaths.note(report) is None


def test_not_all_calls_are_remembered_for_ever(monkeypatch):
    monkeypatch.setattr(losses, "LINEAGES_MAX", 10)
    deaths = losses.Deaths(2)
    for number in range(10):
        assert deaths.note(death(bytes([number + 1]) * 16)) is None
    assert deaths.note(death(bytes([1]) * 16)) is not None, "it was remembered, and is the latest now"
    for number in range(20, 29):
        deaths.note(death(bytes([number]) * 16))
    assert deaths.note(death(bytes([2]) * 16)) is None, "the oldest is forgotten"


@pytest.mark.parametrize(
    ("memory", "words"),
    [
        ([3 << 30, 4 << 30], "out of memory: it had 3.00 GiB, its cgroup may have 4.00 GiB"),
        ([3 << 30, 0], "out of memory: it had 3.00 GiB, the host has no more"),
        ([], "out of memory"),
    ],
)
def test_a_death_for_lack_of_memory_says_how_much_there_was(memory, words):
    error = losses.explain_loss(losses.pack_loss(death(LEAF, oom=True, memory=memory)), "solve")
    assert error.reason == words
    assert words in str(error)
