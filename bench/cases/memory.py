"""Memory and idle CPU of every process, and how both behave over many tasks."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from bench import procs
from bench.cases.common import origin_share, warm
from bench.work import fresh, whoami

MAX_SAMPLES = 240
SPARE_BYTES = 1 << 20
SPARE_SHARE = 0.02


def idle(peer: Any, params: dict[str, Any], workers: int) -> dict[str, Any]:
    """PSS and CPU of workers that have run a few no-ops and then wait.

    A worker is a process that ran a task; agents, managers and brokers are the other children.
    """
    here = os.getpid()
    pids = sorted(warm(peer, workers) - {here})
    share = origin_share(peer.gather([peer.submit(whoami) for _ in range(50)]))
    time.sleep(params["settle"])
    family = procs.descendants(here)
    others = [pid for pid in family if pid not in pids]
    before = {pid: procs.cpu_ns(pid) for pid in {here, *family, *pids}}
    begin = time.perf_counter()
    time.sleep(params["seconds"])
    took = time.perf_counter() - begin

    def cores(pid: int) -> float:
        after, first = procs.cpu_ns(pid), before[pid]
        return 0.0 if after is None or first is None else (after - first) / 1e9 / took

    sizes = [procs.pss_bytes(pid) or 0 for pid in pids]
    if not sizes:
        raise RuntimeError("no task ran outside of the client")
    return {
        "workers": len(sizes),
        "worker_pss_mb": max(sizes) / 1e6,
        "worker_pss_all_mb": [s / 1e6 for s in sizes],
        "client_pss_mb": (procs.pss_bytes(here) or 0) / 1e6,
        "others": len(others),
        "others_pss_mb": sum(procs.pss_bytes(pid) or 0 for pid in others) / 1e6,
        "worker_cpu_cores": max(cores(pid) for pid in pids),
        "all_cpu_cores": sum(map(cores, before)),
        "origin_share": share,
    }


def hold(path: str) -> int:
    """Occupy a worker until a file appears, without using the CPU."""
    while not os.path.exists(path):
        time.sleep(0.02)
    return os.getpid()


def queued(peer: Any, params: dict[str, Any], workers: int) -> dict[str, Any]:
    """Bytes that a task costs while it waits, over all processes, its future included.

    All workers are held; what grows then are owner, broker and futures together. With the weight of a future
    taken off (workload ``local``) this is an upper bound for the broker.
    """
    n = params["n"]
    warm(peer, workers)
    with tempfile.TemporaryDirectory() as folder:
        gate = Path(folder, "open")
        held = [peer.submit(hold, str(gate)) for _ in range(workers)]
        try:
            time.sleep(params["settle"])
            handles: list[Any] = [0] * n
            before = _family_rss()
            for i in range(n):
                handles[i] = peer.submit(whoami)
            time.sleep(params["settle"])
            after = _family_rss()
        finally:
            gate.touch()
        pids = peer.gather(handles)
        peer.gather(held)
    total = sum(after.values()) - sum(before.get(pid, 0) for pid in after)
    client = after[os.getpid()] - before[os.getpid()]
    return {
        "n": n,
        "bytes_per_task": total / n,
        "client_bytes_per_task": client / n,
        "origin_share": origin_share(pids),
    }


def _family_rss() -> dict[int, int]:
    here = os.getpid()
    return {pid: procs.rss_bytes(pid) or 0 for pid in [here, *procs.descendants(here)]}


class Watch:
    """Resident memory of every process over the run, with a bounded number of samples."""

    def __init__(self, interval: float) -> None:
        self.interval = interval
        self.begin = time.perf_counter()
        self.next = self.begin
        self.samples: list[tuple[float, int, dict[int, int]]] = []

    def look(self, done: int, force: bool = False) -> None:
        """Take a sample if it is time; when there are too many, drop every other and look half as often."""
        now = time.perf_counter()
        if now < self.next and not force:
            return
        self.samples.append((now - self.begin, done, _family_rss()))
        if len(self.samples) > MAX_SAMPLES:
            del self.samples[1::2]
            self.interval *= 2
        self.next = now + self.interval

    def growth(self, total: int) -> dict[int, dict[str, float]]:
        """Per process: bytes between 25..40 % of the tasks and the last 15 %, and whether that is flat.

        The first quarter is left out: caches and arenas fill once.
        """
        result = {}
        for pid in self.samples[-1][2]:
            early = [rss[pid] for _, done, rss in self.samples if pid in rss and 0.25 <= done / total <= 0.40]
            late = [rss[pid] for _, done, rss in self.samples if pid in rss and done / total >= 0.85]
            if early and late:
                base = statistics.median(early)
                more = statistics.median(late) - base
                result[pid] = {"bytes": more, "flat": more <= SPARE_BYTES + SPARE_SHARE * base}
        return result


def soak(peer: Any, params: dict[str, Any], workers: int) -> dict[str, Any]:
    """Many tasks in batches, every second one a new lambda; resident memory of every process over time."""
    total, batch = params["n"], params["batch"]
    submit, result = peer.submit, peer.result
    roles = dict.fromkeys(warm(peer, workers), "worker")
    roles[os.getpid()] = "client"
    watch = Watch(params["interval"])
    elsewhere = wrong = 0
    here = os.getpid()
    begin = time.perf_counter()
    for first in range(0, total, batch):
        numbers = range(first, min(first + batch, total))
        handles = [submit(fresh(i)) if i & 1 else submit(whoami) for i in numbers]
        for i, handle in zip(numbers, handles, strict=True):
            got = result(handle)
            if i & 1:
                wrong += got != i
            else:
                elsewhere += got != here
        watch.look(numbers.stop, force=numbers.stop == total)
    seconds = time.perf_counter() - begin
    if wrong:
        raise RuntimeError(f"{wrong} lambdas gave the result of another")
    growth = watch.growth(total)
    return {
        "n": total,
        "rate": total / seconds,
        "seconds": seconds,
        "origin_share": 1 - elsewhere / (total - total // 2),
        "processes": {str(pid): roles.get(pid, procs.command_name(pid)) for pid in watch.samples[-1][2]},
        "series": [
            [round(t, 2), done, {str(p): rss for p, rss in sizes.items()}] for t, done, sizes in watch.samples
        ],
        "growth": {str(pid): entry for pid, entry in growth.items()},
        "max_growth_mb": max((entry["bytes"] for entry in growth.values()), default=0.0) / 1e6,
        "judged": len(growth),
        "flat": all(entry["flat"] for entry in growth.values()) if growth else None,
    }
