"""The profiler: what it counts, and that greenlets do not spoil each other's times."""

from __future__ import annotations

import marshal
import pstats
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import greenlet as greenlets
import pytest
from greenlet import getcurrent, greenlet

from scoop._core.profiler import Profiler

Counts = tuple[int, int, float, float, dict[Any, Any]]


@pytest.fixture
def profiler() -> Iterator[Profiler]:
    made = Profiler()
    yield made
    made.stop()


def of(profiler: Profiler, name: str) -> Counts:
    """What was counted of the one function that is called so."""
    (found,) = (counts for (_, _, called), counts in profiler.stats().items() if called == name)
    return found


def callers(profiler: Profiler, name: str) -> dict[str, tuple[int, int]]:
    return {caller[2]: counts[:2] for caller, counts in of(profiler, name)[4].items()}


def nothing() -> None:
    pass


def fails() -> None:
    nothing()
    raise ValueError


def numbers() -> Iterator[int]:
    yield 1
    yield 2


def down(n: int) -> int:
    return n and down(n - 1)


def test_calls_repeats_and_callers(profiler: Profiler) -> None:
    def everything() -> None:
        nothing()
        with pytest.raises(ValueError):
            fails()
        down(5)
        for _ in numbers():
            [].append(1)
        sorted([2, 1], key=abs)

    profiler.start()
    everything()
    profiler.stop()
    assert of(profiler, "nothing")[:2] == (2, 2)
    assert callers(profiler, "nothing") == {"everything": (1, 1), "fails": (1, 1)}
    assert of(profiler, "down")[:2] == (1, 6)
    assert callers(profiler, "down") == {"everything": (1, 1), "down": (5, 1)}
    assert of(profiler, "numbers")[:2] == (3, 3)  # each time it goes on is a call, as for cProfile
    assert callers(profiler, "<method 'append' of 'list' objects>") == {"everything": (2, 2)}
    assert callers(profiler, "<built-in method builtins.sorted>") == {"everything": (1, 1)}
    assert callers(profiler, "everything") == {}


def test_what_it_writes_is_what_pstats_reads(profiler: Profiler, tmp_path: Path) -> None:
    profiler.start()
    down(5)
    profiler.stop()
    with open(tmp_path / "x.prof", "wb") as file:
        marshal.dump(profiler.stats(), file)
    read = pstats.Stats(str(tmp_path / "x.prof"), str(tmp_path / "x.prof"))
    found = read.get_stats_profile().func_profiles["down"]
    assert (found.ncalls, found.file_name) == ("12/2", __file__)


def test_greenlets_that_take_turns_have_their_own_times(profiler: Profiler) -> None:
    main = getcurrent()

    def sleeps(seconds: float) -> None:
        time.sleep(seconds)
        main.switch()
        time.sleep(seconds)

    def first() -> None:
        sleeps(0.02)

    def second() -> None:
        sleeps(0.04)

    began = time.monotonic()
    profiler.start()
    both = [greenlet(first), greenlet(second)]
    for g in both + both:
        g.switch()
    profiler.stop()
    elapsed_s = time.monotonic() - began
    assert of(profiler, "first")[3] >= 0.04
    assert of(profiler, "second")[3] >= 0.08
    # Had either also had what the other did meanwhile, they would come to more than there was.
    assert of(profiler, "first")[3] + of(profiler, "second")[3] <= elapsed_s
    assert sum(counts[2] for counts in profiler.stats().values()) <= elapsed_s
    assert callers(profiler, "sleeps") == {"first": (1, 1), "second": (1, 1)}
    assert callers(profiler, "<built-in method time.sleep>") == {"sleeps": (4, 4)}


def test_a_greenlet_that_is_killed_ends_its_calls(profiler: Profiler) -> None:
    main = getcurrent()

    def waits() -> None:
        main.switch()

    profiler.start()
    g = greenlet(waits)
    g.switch()
    g.throw()
    nothing()
    profiler.stop()
    assert of(profiler, "waits")[:2] == (1, 1)
    assert "waits" not in callers(profiler, "nothing")


def test_many_greenlets_are_kept_no_longer_than_they_live(profiler: Profiler) -> None:
    class Counted(greenlet):
        alive = 0

        def __init__(self) -> None:
            super().__init__(nothing)
            Counted.alive += 1

        def __del__(self) -> None:
            Counted.alive -= 1

    profiler.start()
    for _ in range(500):
        Counted().switch()
    kept = Counted.alive
    profiler.stop()
    assert of(profiler, "nothing")[:2] == (500, 500)
    assert kept <= 64


def test_calls_that_are_open_end_with_it(profiler: Profiler) -> None:
    def outer() -> None:
        inner()

    def inner() -> None:
        profiler.stop()
        nothing()

    profiler.start()
    outer()
    assert of(profiler, "outer")[:2] == of(profiler, "inner")[:2] == (1, 1)
    assert of(profiler, "outer")[3] >= of(profiler, "inner")[3]
    assert "nothing" not in {name for _, _, name in profiler.stats()}


def test_it_may_go_on(profiler: Profiler) -> None:
    for _ in range(2):
        profiler.start()
        nothing()
        profiler.stop()
    assert of(profiler, "nothing")[:2] == (2, 2)


def test_a_thread_of_its_own(profiler: Profiler) -> None:
    caught: list[BaseException] = []

    def elsewhere() -> None:
        down(3)
        try:
            profiler.stop()
        except RuntimeError as error:
            caught.append(error)

    profiler.start()
    with pytest.raises(RuntimeError, match="at work already"):
        profiler.start()
    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    profiler.stop()
    profiler.stop()
    assert [str(error) for error in caught] == ["a profiler is stopped by the thread that has started it"]
    assert "down" not in {name for _, _, name in profiler.stats()}


def test_who_was_told_of_switches_before_is_told_on(profiler: Profiler) -> None:
    told: list[str] = []

    def hook(event: str, args: object) -> None:
        told.append(event)

    before = greenlets.settrace(hook)
    try:
        profiler.start()
        greenlet(nothing).switch()
        profiler.stop()
        assert told == ["switch", "switch"]
        assert greenlets.gettrace() is hook
    finally:
        greenlets.settrace(before)
