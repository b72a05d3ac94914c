"""Pictures of what was measured, if matplotlib is installed. Never needs a display."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench import stats
from bench.harness import Session
from bench.rows import ROWS, Row

PERCENT_FIELDS = ("p50", "p90", "p99", "p99.9")


def draw(session: Session, rows: tuple[str, ...], folder: Path) -> list[Path]:
    """One PNG for each row that was measured; the list of files, empty without matplotlib."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError:
        session.say("no plots: matplotlib is not installed")
        return []
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for row in (ROWS[name] for name in rows):
        names = [name for name in session.names(row.name) if session.results.get((row.name, name))]
        if not names:
            continue
        figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
        if row.name == "soak":
            _over_time(session, axes, names)
        elif row.name in ("roundtrip", "paused"):
            _percentiles(session, axes, row, names)
        elif row.name in ("sweep", "scale"):
            _curves(session, axes, row, names)
        else:
            _bars(session, axes, row, names)
        axes.set_title(row.title)
        target = folder / f"{session.benchmark}-{row.name}.png"
        figure.savefig(target, dpi=110)
        pyplot.close(figure)
        made.append(target)
    session.say(f"\n{len(made)} plots written")
    return made


def _bars(session: Session, axes: Any, row: Row, names: list[str]) -> None:
    """The first metric of the row: medians, with the range over the repeats."""
    heading, field = next(iter(row.metrics.items()))
    samples = [session.values(row.name, name, field) or [0.0] for name in names]
    middles = [stats.median(sample) or 0.0 for sample in samples]
    below = [max(0.0, middle - min(sample)) for middle, sample in zip(middles, samples, strict=True)]
    above = [max(0.0, max(sample) - middle) for middle, sample in zip(middles, samples, strict=True)]
    axes.barh(names, middles, xerr=[below, above], capsize=3)
    axes.invert_yaxis()
    axes.set_xlabel(heading)
    if min(middles) > 0 and max(middles) / min(middles) > 50:
        axes.set_xscale("log")


def _percentiles(session: Session, axes: Any, row: Row, names: list[str]) -> None:
    for name in names:
        values = [session.median(row.name, name, field) for field in PERCENT_FIELDS]
        axes.plot(PERCENT_FIELDS, values, marker="o", label=name)
    axes.set_yscale("log")
    axes.set_ylabel("microseconds")
    axes.legend()


def _curves(session: Session, axes: Any, row: Row, names: list[str]) -> None:
    """Cases are named ``library/number``."""
    series: dict[str, list[tuple[int, float]]] = {}
    for name in names:
        library, _, size = name.rpartition("/")
        value = session.median(row.name, name, "rate")
        if value is not None:
            series.setdefault(library, []).append((int(size), value))
    for library, points in series.items():
        axes.plot(*zip(*sorted(points), strict=True), marker="o", label=library)
    sizes = sorted({size for points in series.values() for size, _ in points})
    axes.set_xscale("log")
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.minorticks_off()
    axes.set_yscale("log")
    axes.set_xlabel("workers" if row.name == "scale" else "tasks submitted at once")
    axes.set_ylabel("tasks/s")
    axes.legend()


def _over_time(session: Session, axes: Any, names: list[str]) -> None:
    for name in names:
        result = session.results["soak", name][-1]
        for pid, role in result["processes"].items():
            points = [(at, sizes[pid] / 1e6) for at, _, sizes in result["series"] if pid in sizes]
            if points:
                axes.plot(*zip(*points, strict=True), label=f"{name}: {role} {pid}")
    axes.set_xlabel("seconds")
    axes.set_ylabel("MB resident")
    axes.legend(fontsize="small")
