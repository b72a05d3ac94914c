"""Every row of every benchmark: which workload, at which size, on which libraries.

A row is a set of cases that are compared with each other and therefore interleaved. Sizes are pairs: the
small one shows that a row runs, the other one counts. Libraries that are slower by orders of magnitude get
fewer tasks (``CAPS``); what they got stands beside the result.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from bench import hosts, ping, startup
from bench.harness import Case, Param, Session
from bench.launch import ON_REQUEST, OURS, PEERS

CAPS = {"scoop07": 5000, "dask": 2000, "ray": 4000}
TREE_CAPS = {"dask": 7, "ray": 4}
MAP_CHUNKS = {"loky": (10_000,), "mpi4py": (10_000,), "mp-pool": (None,)}

ROUND_TRIPS = Param(100, 5000)
WARM_TRIPS = Param(10, 300)
TRIP_SECONDS = Param(2.0, 5.0)
NO_OPS = Param(300, 20_000)
SWEEP = Param((50, 100), (500, 2000, 5000, 10_000, 20_000))
MAP_ITEMS = Param(2000, 1_000_000)
PPE_CHUNKS = Param((10, 100), (1000, 10_000, 50_000, 125_000))
DEPTH = Param(4, 12)
LEAF_MS = Param(0.1, 1.0)
SCALE = Param((2, 4), (2, 8, 32, 64))


@dataclasses.dataclass(frozen=True)
class Row:
    """Cases to compare; ``metrics`` maps a heading to a field; ``most`` bounds the repeats of a long row."""

    name: str
    title: str
    cases: Callable[[Session], list[Case]]
    metrics: dict[str, str]
    most: int | None = None
    context: tuple[str, ...] = ()
    """The libraries that a benchmark shows beside ours unless ``--peers`` selects others."""

    def select(self, session: Session) -> list[Case]:
        """The cases for this session: all libraries in ``versus``, ours and the context otherwise."""
        cases = self.cases(session)
        if session.peers is not None:
            chosen: set[str] = {*session.peers, "bare", "ping"}
        elif session.benchmark == "versus":
            return [case for case in cases if case.peer not in ON_REQUEST]
        else:
            chosen = {*OURS, *self.context, "bare", "ping"}
        return [case for case in cases if case.peer in chosen]


def _round_trips(session: Session) -> list[Case]:
    n, warmup = session.pick(ROUND_TRIPS), session.pick(WARM_TRIPS)
    params = {"n": n, "warmup": warmup, "seconds": session.pick(TRIP_SECONDS)}
    floor = ping.case("roundtrip", n, warmup)
    return [floor, *(Case("roundtrip", peer, "roundtrip", params) for peer in PEERS)]


def _paused_trips(session: Session) -> list[Case]:
    params = {"n": session.pick(Param(10, 200)), "warmup": 10, "seconds": 30.0, "pause": 0.02}
    return [Case("paused", peer, "roundtrip", params) for peer in PEERS]


def _stages(session: Session) -> list[Case]:
    params = {"n": session.pick(ROUND_TRIPS), "warmup": session.pick(WARM_TRIPS), "seconds": 10.0}
    return [Case("stages", "scoop-executor", "stages", params)]


def _throughput(session: Session) -> list[Case]:
    n = session.pick(NO_OPS)
    return [Case("throughput", peer, "throughput", {"n": min(n, CAPS.get(peer, n))}) for peer in PEERS]


def _sweep(session: Session) -> list[Case]:
    return [
        Case("sweep", peer, "throughput", {"n": n}, label=f"{peer}/{n}", deadline=300)
        for n in session.pick(SWEEP)
        for peer in PEERS
        if n <= CAPS.get(peer, n)
    ]


def _map(session: Session) -> list[Case]:
    n = session.pick(MAP_ITEMS)
    cases = []
    for peer in PEERS:
        untuned: tuple[int | None, ...] = (None,)
        chunks = session.pick(PPE_CHUNKS) if peer == "ppe-fork" else MAP_CHUNKS.get(peer, untuned)
        if peer == "ppe-forkserver":
            continue
        for chunk in chunks:
            params = {"n": min(n, CAPS.get(peer, n)), "chunk": chunk}
            label = peer if chunk is None else f"{peer}/{chunk}"
            cases.append(Case("map", peer, "bulk_map", params, label=label))
    return cases


def _tree(session: Session) -> list[Case]:
    depth = session.pick(DEPTH)
    return [
        Case("tree", peer, "tree", {"depth": min(depth, TREE_CAPS.get(peer, depth)), "loops": 0})
        for peer in PEERS
        if peer != "scoop-executor"
    ]


def _tree_ms(session: Session) -> list[Case]:
    loops = int(session.pick(LEAF_MS) * session.loops_per_ms)
    params = {"depth": session.pick(DEPTH), "loops": loops}
    return [Case("tree_1ms", peer, "tree", params) for peer in ("bare", "scoop", "scoop07")]


def _burns(
    name: str, count: Param, ms: float, long_ms: float = 0.0, every: int = 0
) -> Callable[..., list[Case]]:
    def cases(session: Session) -> list[Case]:
        per_ms = session.loops_per_ms * (0.1 if session.smoke else 1.0)
        params: dict[str, Any] = {"count": session.pick(count), "loops": int(ms * per_ms)}
        if every:
            params.update(every=every, long_loops=int(long_ms * per_ms))
        return [Case(name, peer, "burned", params) for peer in ("bare", *PEERS)]

    return cases


def _hypot(session: Session) -> list[Case]:
    params = {"count": session.pick(Param(30, 3000)), "tries": session.pick(Param(200, 5000))}
    return [Case("hypot", peer, "thrown", params) for peer in ("bare", *PEERS)]


def _echo(name: str, size: Param, count: Param) -> Callable[[Session], list[Case]]:
    def cases(session: Session) -> list[Case]:
        params = {"size": session.pick(size), "count": session.pick(count)}
        return [Case(name, peer, "echoed", params) for peer in PEERS]

    return cases


def _sent(session: Session) -> list[Case]:
    params = {"size": session.pick(Param(100_000, 16_000_000)), "count": session.pick(Param(4, 32))}
    return [Case("sent_16mb", peer, "sent", params) for peer in PEERS]


def _shared(session: Session) -> list[Case]:
    params = {"size": session.pick(Param(100_000, 16_000_000)), "count": session.pick(Param(4, 200))}
    return [Case("shared_16mb", peer, "shared", params) for peer in ("scoop", "scoop07")]


def _idle(session: Session) -> list[Case]:
    params = {"settle": session.pick(Param(0.2, 2.0)), "seconds": session.pick(Param(0.3, 5.0))}
    return [Case("idle", peer, "idle", params) for peer in PEERS]


def _queued(session: Session) -> list[Case]:
    params = {"n": session.pick(Param(1000, 100_000)), "settle": session.pick(Param(0.2, 1.0))}
    return [Case("queued", "scoop-executor", "queued", params, workers=1)]


def _soak(session: Session) -> list[Case]:
    params = {
        "n": session.pick(Param(10_000, 10_000_000)),
        "batch": session.pick(Param(200, 2000)),
        "interval": session.pick(Param(0.02, 1.0)),
    }
    return [Case("soak", peer, "soak", params, deadline=session.pick(Param(120, 3600))) for peer in OURS]


def _scale(session: Session) -> list[Case]:
    numbers = session.pick(SCALE)
    if session.benchmark == "versus":
        numbers = (numbers[0], numbers[-1])
    return [
        Case(
            "scale",
            peer,
            "throughput",
            {"n": session.pick(NO_OPS)},
            label=f"{peer}/{workers}",
            workers=workers,
        )
        for workers in numbers
        for peer in (*OURS, "ppe-fork", "mp-pool", "loky")
    ]


def _local(session: Session) -> list[Case]:
    params = {"n": session.pick(Param(3000, 300_000)), "alive": session.pick(Param(10_000, 1_000_000))}
    return [Case("local", "scoop", "local", params, workers=1)]


_RATE = {"tasks/s": "rate", "in origin": "origin_share"}
_TRIP = {
    "p50 us": "p50",
    "p90": "p90",
    "p99": "p99",
    "p99.9": "p99.9",
    "in origin": "origin_share",
}
_BUSY = {"tasks/s": "rate", "seconds": "seconds", "in origin": "origin_share"}
_ECHO = {"MB/s": "mb_per_s", "in origin": "origin_share"}
_STANDARD = ("ppe-fork", "mp-pool")

_ALL = (
    Row("roundtrip", "Round trip of a no-op, one outstanding", _round_trips, _TRIP, context=("ppe-fork",)),
    Row("paused", "The same after 20 ms of silence", _paused_trips, _TRIP, context=("ppe-fork",)),
    Row("stages", "Round trip while stages are timed", _stages, {"p50 us": "p50"}, most=1),
    Row(
        "throughput",
        "No-ops, submit all and gather",
        _throughput,
        {"tasks/s": "rate", "submits/s": "submit_rate", "tasks": "n", "in origin": "origin_share"},
        context=_STANDARD,
    ),
    Row("sweep", "No-ops by the number submitted at once", _sweep, _RATE, most=3, context=("ppe-fork",)),
    Row(
        "map",
        "Map of no-ops",
        _map,
        {"tasks/s": "rate", "tasks": "n", "in origin": "origin_share"},
        context=_STANDARD,
    ),
    Row(
        "tree",
        "Fork-join tree of no-ops",
        _tree,
        {"tasks/s": "rate", "tasks": "n", "in origin": "origin_share"},
        context=("scoop07",),
    ),
    Row("tree_1ms", "Fork-join tree with 1 ms leaves", _tree_ms, _BUSY),
    Row("ms1", "2,000 x 1 ms", _burns("ms1", Param(20, 2000), 1.0), _BUSY, context=_STANDARD),
    Row("ms5", "400 x 5 ms", _burns("ms5", Param(10, 400), 5.0), _BUSY, context=_STANDARD),
    Row(
        "skew",
        "392 x 2 ms and 8 x 100 ms",
        _burns("skew", Param(50, 400), 2.0, 100.0, 50),
        _BUSY,
        context=_STANDARD,
    ),
    Row("hypot", "3,000 x 5,000 throws by map", _hypot, _BUSY, context=_STANDARD),
    Row(
        "echo_1mb",
        "Echo 1 MB",
        _echo("echo_1mb", Param(100_000, 1_000_000), Param(2, 100)),
        _ECHO,
        context=_STANDARD,
    ),
    Row(
        "echo_64mb",
        "Echo 64 MB",
        _echo("echo_64mb", Param(500_000, 64_000_000), Param(1, 5)),
        _ECHO,
        context=_STANDARD,
    ),
    Row("sent_16mb", "16 MB to each task", _sent, _RATE, context=_STANDARD),
    Row("shared_16mb", "One 16 MB value for all tasks, sharing included", _shared, _RATE),
    Row(
        "startup",
        "A program that runs one no-op elsewhere, start to exit",
        startup.cases,
        {"seconds": "seconds", "in origin": "origin_share"},
        context=("ppe-fork", "ppe-forkserver"),
    ),
    Row(
        "idle",
        "Idle workers",
        _idle,
        {
            "MB PSS/worker": "worker_pss_mb",
            "cores/worker": "worker_cpu_cores",
            "client MB": "client_pss_mb",
            "others": "others",
            "others MB": "others_pss_mb",
            "cores, all": "all_cpu_cores",
        },
        context=_STANDARD,
    ),
    Row(
        "queued",
        "Bytes per waiting task, future included",
        _queued,
        {"all processes": "bytes_per_task", "client": "client_bytes_per_task", "in origin": "origin_share"},
        most=3,
    ),
    Row(
        "soak",
        "Many tasks, every second one a new lambda",
        _soak,
        {"tasks/s": "rate", "growth MB": "max_growth_mb", "flat": "flat", "in origin": "origin_share"},
        most=1,
    ),
    Row("scale", "No-ops by the number of workers", _scale, _RATE, most=5, context=_STANDARD),
    Row(
        "local",
        "Futures that run where they were submitted",
        _local,
        {
            "submit ns": "submit_ns",
            "result ns": "result_ns",
            "submit, many alive": "submit_alive_ns",
            "result, many alive": "result_alive_ns",
            "bytes": "bytes",
            "in origin": "origin_share",
        },
    ),
    Row(
        "between",
        "Round trip of a no-op between two hosts, CURVE",
        hosts.round_trips,
        _TRIP,
        context=("scoop-run",),
    ),
    Row(
        "federation",
        "No-ops through one broker and through four of them on four hosts",
        hosts.throughput,
        {**_RATE, "tasks": "n", "hosts": "hosts", "least share of one": "least_share"},
        context=("scoop-run", "dask"),
    ),
    Row(
        "start",
        "Start of workers on hosts over ssh, to the first result",
        hosts.starts,
        {"seconds": "seconds", "all workers": "all_seconds", "in origin": "origin_share"},
        context=("scoop-run",),
    ),
    Row(
        "siege",
        "1 ms tasks on three hosts, in peace and under a port scan and silent connections",
        hosts.sieges,
        {"tasks/s": "rate", "connections": "held", "opened": "opened", "ports": "scanned"},
        context=("scoop-run",),
    ),
)

ROWS = {row.name: row for row in _ALL}

BENCHMARKS = {
    "latency": ("roundtrip", "paused", "stages"),
    "throughput": ("throughput", "map", "sweep"),
    "tree": ("tree", "tree_1ms"),
    "efficiency": ("ms1", "ms5", "skew", "hypot"),
    "payload": ("echo_1mb", "echo_64mb", "sent_16mb", "shared_16mb"),
    "startup": ("startup",),
    "memory": ("idle", "queued", "local", "soak"),
    "scale": ("scale",),
    "local": ("local",),
    "hosts": ("between", "federation", "start", "siege"),
    "versus": (
        "roundtrip",
        "throughput",
        "map",
        "tree",
        "tree_1ms",
        "local",
        "ms1",
        "ms5",
        "skew",
        "hypot",
        "startup",
        "idle",
        "queued",
        "scale",
        "soak",
    ),
}
