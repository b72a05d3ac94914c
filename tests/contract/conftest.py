"""What the contract tests run against: an Executor, and `scoop.futures` with and without workers."""

from __future__ import annotations

import concurrent.futures as cf
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import scoop
from scoop import futures


class Module(cf.Executor):
    """The functions of `scoop.futures` in the shape of an executor."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> cf.Future[Any]:
        return futures.submit(fn, *args, **kwargs)

    def map(self, fn: Callable[..., Any], *iterables: Any, **options: Any) -> Iterator[Any]:  # type: ignore[override]
        return futures.map(fn, *iterables, **options)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        futures.shutdown(wait, cancel_futures=cancel_futures)


@pytest.fixture(params=["executor-2", "executor-1", "module-2", "module-1"])
def executor(request: pytest.FixtureRequest, nothing_left: str) -> Iterator[cf.Executor]:
    """Each kind of executor, with two workers and with one (which for the module is this process alone)."""
    kind, count = request.param.split("-")
    if kind == "module":
        scoop.configure(workers=int(count))
        made: cf.Executor = Module()
    else:
        made = scoop.Executor(int(count))
    yield made
    made.shutdown(cancel_futures=True)


@pytest.fixture
def elsewhere(nothing_left: str) -> Iterator[scoop.Executor]:
    """One worker that is another process: what it runs, nobody else can."""
    with scoop.Executor(1) as made:
        yield made


class Gate:
    """Holds tasks until it is opened; works between processes."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __call__(self, result: Any = None) -> Any:
        """Be a task that begins, and ends when the gate is open."""
        import os
        import time

        open(f"{self.folder}/begun-{os.urandom(8).hex()}", "w").close()
        limit = time.monotonic() + 60
        while not os.path.exists(f"{self.folder}/open"):
            assert time.monotonic() < limit, "nobody has opened the gate"
            time.sleep(0.002)
        return result

    def begun(self) -> int:
        """How many tasks have begun."""
        return len(list(Path(self.folder).glob("begun-*")))

    def open(self) -> None:
        """Let all go."""
        Path(self.folder, "open").touch()


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    """A gate that is open at the end, whatever happens."""
    made = Gate(str(tmp_path))
    yield made
    made.open()
