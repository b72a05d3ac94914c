"""No-ops: round trips, many at once, and in bulk. Every no-op returns the process that ran it."""

from __future__ import annotations

import collections
import time
from typing import Any

from bench import stats
from bench.cases.common import origin_share, warm
from bench.work import place, whoami, whoami_of


def roundtrip(peer: Any, params: dict[str, Any], workers: int) -> dict[str, Any]:
    """One outstanding no-op at a time, ``n`` of them or as many as ``seconds`` allow; microseconds.

    With ``pause``, each waits that many seconds first: what a sleeping machine costs.
    ``hosts``: on several hosts, where processes are told apart by their host too.
    """
    hosts = params.get("hosts", False)
    warm(peer, workers, hosts)
    task = place if hosts else whoami
    submit, result, clock = peer.submit, peer.result, time.perf_counter_ns
    for _ in range(params["warmup"]):
        result(submit(task))
    pause = params.get("pause", 0.0)
    limit = clock() + int(params["seconds"] * 1e9)
    sample, pids = [], []
    for _ in range(params["n"]):
        if pause:
            time.sleep(pause)
        begin = clock()
        pid = result(submit(task))
        end = clock()
        sample.append(end - begin)
        pids.append(pid)
        if end > limit:
            break
    return {**stats.latency(sample), "origin_share": origin_share(pids, task())}


def throughput(peer: Any, params: dict[str, Any], workers: int) -> dict[str, Any]:
    """Submit all, then gather; tasks per second. ``hosts`` as of :func:`roundtrip`."""
    hosts = params.get("hosts", False)
    seen = warm(peer, workers, hosts)
    n, task = params["n"], place if hosts else whoami
    begin = time.perf_counter()
    handles = [peer.submit(task) for _ in range(n)]
    submitted = time.perf_counter()
    pids = peer.gather(handles)
    end = time.perf_counter()
    by_host = collections.Counter(pid >> 32 for pid in pids)
    return {
        "n": n,
        "rate": n / (end - begin),
        "submit_rate": n / (submitted - begin),
        "seconds": end - begin,
        "origin_share": origin_share(pids, task()),
        "hosts": len(by_host),
        "least_share": min(by_host.values()) / n,
        "processes": len(set(pids)),
        "processes_warm": len(seen),
    }


def bulk_map(peer: Any, params: dict[str, Any], workers: int) -> dict[str, Any]:
    """The library's own map over a range, with a chunk size or with its default; tasks per second."""
    warm(peer, workers)
    n = params["n"]
    begin = time.perf_counter()
    pids = peer.map(whoami_of, range(n), params.get("chunk"))
    end = time.perf_counter()
    if len(pids) != n:
        raise RuntimeError(f"map of {n} items gave {len(pids)} results")
    return {
        "n": n,
        "chunk": params.get("chunk"),
        "rate": n / (end - begin),
        "seconds": end - begin,
        "origin_share": origin_share(pids),
    }


def stages(peer: Any, params: dict[str, Any], workers: int) -> dict[str, Any]:
    """Where the time of a round trip goes, from scoop's own clock marks; None where a build has none."""
    try:
        from scoop import metrics

        read = metrics.stages
    except (ImportError, AttributeError):
        return {"stages": None}
    import scoop

    with scoop.Executor(1) as executor:
        measured = read(executor, params["n"])
    trip = roundtrip(peer, params, workers)
    return {"stages": measured, "p50": trip["p50"], "origin_share": trip["origin_share"]}
