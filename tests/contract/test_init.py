"""Initializers of workers."""

from __future__ import annotations

import concurrent.futures as cf
from typing import Any

import pytest

import scoop


def remember(value: object) -> None:
    import builtins

    builtins.scoop_test_value = value  # type: ignore[attr-defined]


def recall(_: Any = None) -> Any:
    import builtins

    return builtins.scoop_test_value  # type: ignore[attr-defined]


def refuse() -> None:
    raise ValueError("this worker cannot be used")


def test_initializer(nothing_left: str) -> None:
    with scoop.Executor(2, initializer=remember, initargs=("set",)) as executor:
        assert list(executor.map(recall, range(20), chunksize=1)) == ["set"] * 20


def test_initializer_may_be_a_closure(nothing_left: str) -> None:
    value = ["captured"]
    with scoop.Executor(1, initializer=lambda: remember(value)) as executor:
        assert executor.submit(recall).result() == ["captured"]


def test_initializer_that_fails_breaks_the_executor(nothing_left: str) -> None:
    with scoop.Executor(2, initializer=refuse) as executor:
        try:
            future = executor.submit(recall)
        except cf.BrokenExecutor:
            pass  # it was broken before
        else:
            with pytest.raises(cf.BrokenExecutor):
                future.result(timeout=30)
        with pytest.raises(cf.BrokenExecutor):
            executor.submit(recall).result(timeout=30)


def test_initializer_that_cannot_be_sent(nothing_left: str) -> None:
    import threading

    with pytest.raises(TypeError, match="lock"):
        scoop.Executor(1, initializer=remember, initargs=(threading.Lock(),))
