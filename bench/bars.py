"""The bars: what scoop has to reach, as ratios to references that were measured in the same run.

A bar may be reached by the module-level futures or by the executor; each is a line of its own, with the
share of its tasks that ran in the origin. Where a bar is about work in *other* processes, a line only counts
if enough of its tasks were there. A line that was not measured says so and is not met.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from bench import stats
from bench.harness import Session, print_table
from bench.launch import ON_REQUEST, OURS

ELSEWHERE = 0.45
FUTURES, EXECUTOR = OURS
IDLE_CORES = 0.002
"""Two milliseconds in a second are taken for none: less than a clock tick, more than the count's noise."""


@dataclasses.dataclass(frozen=True)
class Bar:
    """``metric`` of ours against the best of ``reference``, or against ``needed`` itself if there is none.

    ``reference`` lists cases of the row; ``*`` stands for all that are not ours, a name that ends with ``/``
    for all its variants, and ``{}`` for our own case up to its slash. ``needed`` bounds the ratio.
    ``minus`` is a field (row, case, metric) that is taken off ours first.
    """

    row: str
    title: str
    metric: str
    sense: str
    needed: float
    reference: tuple[str, ...] = ()
    ours: tuple[str, ...] = OURS
    elsewhere: float = 0.0
    minus: tuple[str, str, str] | None = None


def _local(title: str, metric: str, needed: float) -> Bar:
    return Bar("local", title, metric, "<=", needed, ours=(FUTURES,))


BARS = (
    Bar(
        "roundtrip",
        "round trip p50 / ProcessPoolExecutor(fork)",
        "p50",
        "<=",
        0.6,
        ("ppe-fork",),
        elsewhere=ELSEWHERE,
    ),
    Bar("roundtrip", "round trip p50 / bare ping", "p50", "<=", 1.4, ("ping",), elsewhere=ELSEWHERE),
    Bar("roundtrip", "round trip p99 / bare ping", "p99", "<=", 2.2, ("ping",), elsewhere=ELSEWHERE),
    Bar(
        "throughput",
        "submit all, gather / ProcessPoolExecutor",
        "rate",
        ">=",
        20,
        ("ppe-fork", "ppe-forkserver"),
        elsewhere=ELSEWHERE,
    ),
    Bar(
        "throughput",
        "submit all, gather / multiprocessing.Pool",
        "rate",
        ">=",
        5,
        ("mp-pool",),
        elsewhere=ELSEWHERE,
    ),
    Bar(
        "map",
        "map, nothing tuned / ProcessPoolExecutor, best chunk",
        "rate",
        ">=",
        1.0,
        ("ppe-fork/",),
        elsewhere=ELSEWHERE,
    ),
    Bar("tree", "tree of no-ops, tasks/s", "rate", ">=", 1_000_000, ours=(FUTURES,)),
    Bar("tree", "tree of no-ops / best peer", "rate", ">=", 150, ("*",), ours=(FUTURES,)),
    Bar(
        "tree_1ms",
        "tree with 1 ms leaves / two bare processes",
        "rate",
        ">=",
        0.93,
        ("bare",),
        ours=(FUTURES,),
    ),
    _local("run where submitted: submit, ns", "submit_ns", 1000),
    _local("run where submitted: result, ns", "result_ns", 1000),
    _local("the same, many alive: submit, ns", "submit_alive_ns", 1000),
    _local("the same, many alive: result, ns", "result_alive_ns", 1000),
    _local("bytes per future", "bytes", 350),
    Bar("ms1", "2,000 x 1 ms / two bare processes", "rate", ">=", 0.96, ("bare",)),
    Bar("ms5", "400 x 5 ms / two bare processes", "rate", ">=", 0.98, ("bare",)),
    Bar("skew", "skewed mix / greedy list schedule", "rate", ">=", 0.98, ("bare",)),
    Bar("hypot", "3,000 x hypot by map / two bare processes", "rate", ">=", 0.96, ("bare",)),
    Bar(
        "startup",
        "one-task program / ProcessPoolExecutor(forkserver)",
        "seconds",
        "<=",
        1.6,
        ("ppe-forkserver",),
        ours=(EXECUTOR,),
        elsewhere=1.0,
    ),
    Bar("idle", "idle worker, MB PSS", "worker_pss_mb", "<=", 12),
    Bar("idle", "idle worker, cores", "worker_cpu_cores", "<=", IDLE_CORES),
    Bar(
        "queued",
        "bytes per queued task, futures taken off (upper bound)",
        "bytes_per_task",
        "<=",
        300,
        ours=(EXECUTOR,),
        minus=("local", FUTURES, "bytes_pending"),
    ),
    Bar(
        "scale",
        "most workers / two workers",
        "rate",
        ">=",
        0.7,
        ("{}/2",),
        ours=("scoop/", "scoop-executor/"),
    ),
    Bar("between", "between hosts p50 / bare CURVE ping", "p50", "<=", 2.0, ("ping-curve",), ("two-hosts",)),
    Bar(
        "federation",
        "four brokers on four hosts / one broker",
        "rate",
        ">=",
        0.5,
        ("one-broker/",),
        ("four-brokers",),
    ),
    Bar(
        "federation",
        "four brokers / dask on the same hosts",
        "rate",
        ">=",
        10,
        ("dask-hosts",),
        ("four-brokers",),
    ),
    Bar("start", "start over ssh / bare processes", "seconds", "<=", 1.5, ("bare-start",), ("job-start",)),
    Bar("siege", "under siege / in peace", "rate", ">=", 0.9, ("peace",), ("siege",)),
    Bar("soak", "memory flat over all tasks (1 = flat)", "flat", ">=", 1),
)


@dataclasses.dataclass
class Line:
    """One variant of ours at one bar."""

    bar: Bar
    name: str
    value: float | None = None
    reference: str = ""
    reference_value: float | None = None
    ratio: float | None = None
    ratios: list[float] = dataclasses.field(default_factory=list)
    share: float | None = None
    note: str = ""

    @property
    def judged(self) -> float | None:
        """The number that is held against the bar."""
        return self.ratio if self.bar.reference else self.value

    @property
    def counts(self) -> bool:
        """Whether enough of the tasks ran in another process."""
        if not self.bar.elsewhere:
            return True
        return self.share is not None and 1 - self.share >= self.bar.elsewhere

    @property
    def met(self) -> bool | None:
        """None if it was not measured."""
        judged = self.judged
        if judged is None:
            return None
        reached = judged >= self.bar.needed if self.bar.sense == ">=" else judged <= self.bar.needed
        return reached and self.counts


def _expand(session: Session, row: str, patterns: tuple[str, ...], own: str = "") -> list[str]:
    found = []
    for pattern in patterns:
        wanted = pattern.format(own)
        for name in session.names(row):
            ours = name.split("/")[0] in (*OURS, *ON_REQUEST)
            if (
                name == wanted
                or (wanted == "*" and not ours)
                or (wanted.endswith("/") and name.startswith(wanted))
            ):
                found.append(name)
    return found


def _ours(session: Session, bar: Bar) -> list[str]:
    """The cases of ours: of a scaled row the one with the most workers."""
    names = []
    for pattern in bar.ours:
        matching = _expand(session, bar.row, (pattern,))
        names.append(matching[-1] if matching else pattern)
    return names


def judge(session: Session, bar: Bar) -> list[Line]:
    """One line for each variant of ours, measured or not."""
    lines = []
    for name in _ours(session, bar):
        line = Line(bar, name, session.median(bar.row, name, bar.metric))
        line.share = session.median(bar.row, name, "origin_share")
        if line.value is None:
            line.note = session.failures.get((bar.row, name), "not measured")
        if line.value is not None and bar.minus is not None:
            less = session.median(*bar.minus)
            line.note = "row local not measured" if less is None else f"{stats.number(less)} taken off"
            line.value = None if less is None else line.value - less
        if bar.reference:
            _compare(session, line)
        if line.value is not None and not line.counts:
            line.note = "does not count: too few tasks elsewhere"
        lines.append(line)
    return lines


def _compare(session: Session, line: Line) -> None:
    bar = line.bar
    names = _expand(session, bar.row, bar.reference, line.name.split("/")[0])
    medians = {name: session.median(bar.row, name, bar.metric) for name in names}
    measured = {name: value for name, value in medians.items() if value}
    if not measured:
        line.note = line.note or "its reference was not measured"
        return
    best = max if bar.sense == ">=" else min
    line.reference = best(measured, key=measured.__getitem__)
    line.reference_value = measured[line.reference]
    if line.value is None:
        return
    line.ratio = line.value / line.reference_value
    pairs = zip(
        session.values(bar.row, line.name, bar.metric),
        session.values(bar.row, line.reference, bar.metric),
        strict=False,
    )
    line.ratios = [ours / other for ours, other in pairs if other]


def report(session: Session, rows: tuple[str, ...]) -> list[Line]:
    """Print and record all lines of the bars of some rows, then one verdict for each bar."""
    table, all_lines = [], []
    verdicts: list[bool | None] = []
    for bar in BARS:
        if bar.row not in rows:
            continue
        lines = judge(session, bar)
        for line in lines:
            table.append(_cells(line))
            session.emit("bar", **_fields(line))
        judged = [line.met for line in lines if line.met is not None]
        verdict = any(judged) if judged else None
        verdicts.append(verdict)
        session.emit("verdict", row=bar.row, bar=bar.title, met=verdict)
        all_lines += lines
    if table:
        header = ["bar", "case", "ours", "reference", "", "ratio", "pairs", "in origin", "needed", "met", ""]
        print_table("Bars (a bar is met if one of its lines is)", header, table)
        counts = [
            sum(v is True for v in verdicts),
            sum(v is False for v in verdicts),
            sum(v is None for v in verdicts),
        ]
        session.say("\n{} bars met, {} not met, {} not measured".format(*counts))
        if session.smoke:
            session.say("smoke sizes: this shows that it runs, and measures nothing")
    return all_lines


def _cells(line: Line) -> list[str]:
    met = {True: "yes", False: "NO", None: "-"}[line.met]
    pairs = (
        f"{stats.number(min(line.ratios))}..{stats.number(max(line.ratios))}" if len(line.ratios) > 1 else ""
    )
    return [
        line.bar.title,
        line.name,
        stats.number(line.value),
        line.reference,
        stats.number(line.reference_value) if line.reference else "",
        stats.number(line.ratio) if line.bar.reference else "",
        pairs,
        stats.number(line.share),
        f"{line.bar.sense} {stats.number(line.bar.needed)}",
        met,
        line.note,
    ]


def _fields(line: Line) -> dict[str, Any]:
    return {
        "row": line.bar.row,
        "bar": line.bar.title,
        "case": line.name,
        "metric": line.bar.metric,
        "ours": line.value,
        "reference": line.reference or None,
        "reference_value": line.reference_value,
        "ratio": line.ratio,
        "pair_ratios": line.ratios,
        "needed": f"{line.bar.sense} {line.bar.needed}",
        "origin_share": line.share,
        "counts": line.counts,
        "met": line.met,
        "note": line.note,
    }
