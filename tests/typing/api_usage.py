"""What users write has to pass mypy --strict; nothing here is run."""

from __future__ import annotations

import concurrent.futures
import random
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import scoop
from scoop import futures, shared

if TYPE_CHECKING:
    from typing_extensions import assert_type


def area(width: int, height: float = 1.0) -> float:
    return width * height


def longer(a: str, b: str) -> str:
    return a if len(a) > len(b) else b


def calls() -> None:
    future = futures.submit(area, 3, height=2.0)
    assert_type(future, concurrent.futures.Future[float])
    assert_type(future.result(timeout=1), float)
    futures.submit(area, "3")  # type: ignore[arg-type]
    futures.submit(area)  # type: ignore[call-arg]
    for value in futures.map(area, [1, 2], (1.0, 2.0), timeout=3, chunksize=4, buffersize=None):
        assert_type(value, float)
    results = futures.map(str, range(3))
    results.close()
    assert_type(futures.map_as_completed(str, range(3), timeout=1.5), Iterator[str])
    assert_type(list(futures.map(str, range(3), checkpoint=Path("run.ckpt"))), list[str])


def reductions() -> None:
    assert_type(futures.map_reduce(str, longer, range(3), timeout=3), str)
    assert_type(futures.map_reduce(str, longer, range(3), initial=""), str)
    assert_type(futures.mapReduce(str, longer, range(3)), str)
    assert_type(futures.map_scan(str, longer, range(3), initial=""), list[str])


def waiting() -> None:
    fs = [futures.submit(str, n) for n in range(3)]
    done, not_done = futures.wait(fs, timeout=3, return_when=futures.FIRST_COMPLETED)
    assert_type(done, set[concurrent.futures.Future[str]])
    assert_type(not_done, set[concurrent.futures.Future[str]])
    for future in futures.as_completed(fs):
        assert_type(future.result(), str)
    assert_type(futures.join(fs[0]), str)
    assert_type(futures.join_all(*fs), list[str])
    assert_type(futures.map_join(area, [1]), list[float])
    for future in futures.wait_any(*fs):
        assert_type(future.result(), str)
    for future in futures.map_wait(str, [1]):
        assert_type(future.result(), str)


def errors() -> None:
    try:
        futures.submit(str, 1).result()
    except (futures.CancelledError, futures.TimeoutError, futures.BrokenExecutor, scoop.ScoopError):
        pass


def executor() -> None:
    with scoop.Executor(2, initializer=print, initargs=("ready",)) as pool:
        assert_type(pool.submit(area, 3).result(), float)
        assert_type(list(pool.map(area, [1, 2], chunksize=2)), list[float])
        generic: concurrent.futures.Executor = pool
        generic.shutdown(wait=False, cancel_futures=True)
    with scoop.Executor(max_workers=None):
        pass


def rest() -> None:
    scoop.configure(workers=4, seed=1, copy=False)
    shared.set_const(limit=3)
    limit: int = shared.get_const("limit", timeout=None)
    assert_type(limit, int)
    assert_type(scoop.rng(), random.Random)
    scoop.rng(numpy=True).normal(size=3)
    scoop.numpy_rng().normal(size=3)
    assert_type(scoop.attempt(), int)
    scoop.logger.info("%s %s", scoop.worker, scoop.SIZE)
    with scoop.no_switch():
        assert_type(scoop.IS_ORIGIN or scoop.IS_RUNNING, bool)
    assert_type(futures.startup(area, 3), float | None)
    futures.shutdown(wait=True, cancel_futures=False)


def of_any(value: scoop.Future | None) -> object:
    return None if value is None else value.result()
