"""``python -m bench.federation``: the federation's rule in simulated time, with what is asked of it."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from bench.federation.cases import EVENTS_MIN, HINTS_MAX, HUNGRY_US_MAX, cases, run, smoke

COLUMNS = (
    "case",
    "efficiency",
    "hints/s",
    "asks/task",
    "moves/task",
    "origin's broker, messages/s",
    "hungry p99, us",
    "events/s",
    "wall, s",
    "missed",
)


def _row(result: dict[str, Any]) -> list[str]:
    """One line of the table; a bar stands behind its value."""
    missed = [name for name, met in result["met"].items() if not met]
    hungry = "-" if result["fed_p99_us"] is None else f"{result['fed_p99_us']:.0f}"
    return [
        result["case"],
        f"{result['efficiency']:.3f} (>= {result['efficiency_min']:g})",
        f"{result['hints_per_s']:.0f} (<= {HINTS_MAX})",
        f"{result['asks_per_task']:.2f}",
        f"{result['moves_per_task']:.2f}",
        f"{result['origin_messages_s']:.0f}",
        f"{hungry} (<= {HUNGRY_US_MAX})",
        f"{result['events_s'] / 1e6:.2f}M (>= {EVENTS_MIN / 1e6:g}M)",
        f"{result['wall_s']:.1f}",
        ", ".join(missed) or "-",
    ]


def _say(*cells: str) -> None:
    print("| " + " | ".join(cells) + " |", flush=True)


def _draw(results: list[dict[str, Any]], folder: Path) -> None:
    """How busy the workers were over the time of each run, one PNG; nothing without matplotlib."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError:
        print("no plots: matplotlib is not installed")
        return
    folder.mkdir(parents=True, exist_ok=True)
    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    for result in results:
        width = 1 / max(1, len(result["busy"]))
        axes.plot([i * width for i in range(len(result["busy"]))], result["busy"], label=result["case"])
    axes.set_xlabel("part of the run")
    axes.set_ylabel("work begun, as a part of what the workers can do")
    axes.legend(fontsize="small")
    target = folder / "federation-busy.png"
    figure.savefig(target, dpi=110)
    pyplot.close(figure)
    print(f"plot written: {target.name}")


def main(argv: list[str] | None = None) -> int:
    """Run what is asked for; 1 if a task was not over exactly once, else 0."""
    parser = argparse.ArgumentParser(prog="python -m bench.federation", description=__doc__)
    parser.add_argument("--brokers", default="10,100,1000", help="how many, separated by commas")
    parser.add_argument("--tree", action="store_true", help="a fork-join tree instead of tasks of one origin")
    parser.add_argument("--lost", action="store_true", help="one broker in ten dies in the middle")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="draw how busy the workers were")
    parser.add_argument("--smoke", action="store_true", help="small runs of every kind")
    options = parser.parse_args(argv)
    brokers = [int(part) for part in options.brokers.split(",")]
    results = []
    _say(*COLUMNS)
    _say(*("---" for _ in COLUMNS))
    for case in smoke() if options.smoke else cases(brokers, options.tree, options.lost):
        results.append(run(case))
        _say(*_row(results[-1]))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    if options.plots:
        _draw(results, options.plots)
    return 0 if all(result["complete"] for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
