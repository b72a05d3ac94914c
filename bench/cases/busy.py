"""Tasks that burn CPU time: lists of them, Monte-Carlo throws, and fork-join trees."""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path
from typing import Any

from bench.cases.common import origin_share, warm
from bench.work import burn, throws_of

ROUNDS = 9
ENOUGH_SECONDS = 0.5


WORD_SECONDS = 60.0


def mix(params: dict[str, Any]) -> list[int]:
    """Loops of each task, in order: ``count`` tasks, the middle one of every ``every`` longer."""
    count, loops, every = params["count"], params["loops"], params.get("every")
    if not every:
        return [loops] * count
    return [params["long_loops"] if i % every == every // 2 else loops for i in range(count)]


def burned(peer: Any, params: dict[str, Any], workers: int) -> dict[str, Any]:
    """Submit a list of tasks that burn, wait for all; tasks per second and the time it took."""
    work = mix(params)
    warm(peer, workers)
    begin = time.perf_counter()
    pids = peer.gather([peer.submit(burn, loops) for loops in work])
    seconds = time.perf_counter() - begin
    return {"rate": len(work) / seconds, "seconds": seconds, "origin_share": origin_share(pids)}


def burned_on_word(peer: Any, params: dict[str, Any], workers: int) -> dict[str, Any]:
    """:func:`burned`, but say by a file when it may begin, and wait for another one."""
    warm(peer, workers, hosts=True)
    Path(params["ready"]).touch()
    deadline = time.monotonic() + WORD_SECONDS
    while not Path(params["go"]).exists():
        if time.monotonic() > deadline:
            raise RuntimeError(f"no word within {WORD_SECONDS:g} s")
        time.sleep(0.05)
    return burned(peer, params, workers)


def thrown(peer: Any, params: dict[str, Any], workers: int) -> dict[str, Any]:
    """Estimate pi by map over tasks of ``tries`` throws each, nothing tuned."""
    count, tries = params["count"], params["tries"]
    items = [(i, tries) for i in range(count)]
    warm(peer, workers)
    begin = time.perf_counter()
    answers = peer.map(throws_of, items, None)
    seconds = time.perf_counter() - begin
    pi = 4 * sum(hits for hits, _ in answers) / (count * tries)
    return {
        "rate": count / seconds,
        "seconds": seconds,
        "pi": pi,
        "origin_share": origin_share(pid for _, pid in answers),
    }


def tree(peer: Any, params: dict[str, Any], workers: int) -> dict[str, Any]:
    """A fork-join tree; every node waits for its two children. Tasks per second, median of some rounds.

    No-op trees of scoop are timed with a function that carries nothing but the depth; where the nodes ran
    is counted in a pass of its own, since counting would be a large part of such a task.
    """
    depth, loops = params["depth"], params["loops"]
    if peer.tree is None:
        raise RuntimeError("unsupported: its pool cannot be reached from inside a task")
    nodes = 2 ** (depth + 1) - 1
    counted = (peer.tree, depth, loops, os.getpid())
    plain = _plain(peer, depth) if not loops else None
    warm(peer, workers)
    rates: list[float] = []
    spent = 0.0
    while len(rates) < ROUNDS and spent < ENOUGH_SECONDS:
        begin = time.perf_counter()
        got = peer.result(peer.submit(*(plain or counted)))
        took = time.perf_counter() - begin
        if (got if plain else got[0]) != nodes:
            raise RuntimeError(f"a tree of {nodes} nodes counted {got}")
        rates.append(nodes / took)
        spent += took
    _, at_home = peer.result(peer.submit(*counted)) if plain else got
    rate = statistics.median(rates)
    return {
        "n": nodes,
        "rate": rate,
        "seconds": nodes / rate,
        "rounds": len(rates),
        "origin_share": at_home / nodes,
    }


def _plain(peer: Any, depth: int) -> tuple[Any, int] | None:
    if not peer.counts_client:
        return None
    from bench.trees_scoop import plain_tree

    return plain_tree, depth
