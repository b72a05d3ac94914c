"""Futures that run where they were submitted: what a call costs, and what a future weighs."""

from __future__ import annotations

import gc
import statistics
import time
from typing import Any

from bench import procs
from bench.work import nothing

BATCH = 1000


def local(peer: Any, params: dict[str, Any], workers: int) -> dict[str, Any]:
    """Nanoseconds of a submit and of a result, with few and with ``alive`` futures alive, the collector on.

    Needs one worker, the origin: nobody else is there to run the calls.
    """
    few = _few(peer.submit, params["n"])
    many = _many(peer.submit, params["alive"])
    return {**few, **many, "gc": gc.isenabled(), "origin_share": _share(peer)}


def _few(submit: Any, n: int) -> dict[str, Any]:
    """Batches of a thousand; medians over the batches, so that a preempted one does not count."""
    submits, results = [], []
    clock = time.perf_counter_ns
    for _ in range(max(3, n // BATCH)):
        begin = clock()
        futures = [submit(nothing) for _ in range(BATCH)]
        middle = clock()
        for future in futures:
            future.result()
        end = clock()
        submits.append((middle - begin) / BATCH)
        results.append((end - middle) / BATCH)
    return {"submit_ns": statistics.median(submits), "result_ns": statistics.median(results)}


def _many(submit: Any, alive: int) -> dict[str, Any]:
    """All submitted before the first is asked for, all alive until the last has answered."""
    clock = time.perf_counter_ns
    futures: list[Any] = [0] * alive
    gc.collect()
    before = procs.rss_bytes() or 0
    begin = clock()
    for i in range(alive):
        futures[i] = submit(nothing)
    middle = clock()
    pending = procs.rss_bytes() or 0
    resume = clock()
    for future in futures:
        future.result()
    end = clock()
    done = procs.rss_bytes() or 0
    return {
        "alive": alive,
        "submit_alive_ns": (middle - begin) / alive,
        "result_alive_ns": (end - resume) / alive,
        "bytes_pending": (pending - before) / alive,
        "bytes_done": (done - before) / alive,
        "bytes": max(pending - before, done - before) / alive,
    }


def _share(peer: Any) -> float:
    from bench.cases.common import origin_share
    from bench.work import whoami

    return origin_share(peer.gather([peer.submit(whoami) for _ in range(100)]))
