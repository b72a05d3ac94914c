"""Command line of the benchmarks."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench import bars, launch, plots, testbed
from bench.harness import Session
from bench.rows import BENCHMARKS, ROWS

BUSY_LOAD = 0.5


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line; a name that is not known ends the program with a list of those that are."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Benchmarks of scoop.")
    parser.add_argument("name", choices=sorted(BENCHMARKS), help="which benchmark")
    parser.add_argument(
        "--smoke", action="store_true", help="tiny sizes: shows that it runs, measures nothing"
    )
    parser.add_argument("--repeats", type=int, help="how often each case runs (5; 1 with --smoke)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="append one JSON line per result to FILE")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="write PNG plots (needs matplotlib)")
    parser.add_argument("--rows", type=_names, metavar="A,B", help="only these rows of the benchmark")
    parser.add_argument("--peers", type=_names, metavar="A,B", help="only these libraries")
    parser.add_argument("--quiet", action="store_true", help="no line per case")
    options = parser.parse_args(arguments)
    if options.repeats is not None and options.repeats < 1:
        parser.error("--repeats must be at least 1")
    rows = BENCHMARKS[options.name]
    for row in options.rows or ():
        if row not in rows:
            parser.error(f"no row {row!r} in {options.name}; there are: {', '.join(rows)}")
    for peer in options.peers or ():
        if peer not in launch.PEERS:
            parser.error(f"no peer {peer!r}; there are: {', '.join(launch.PEERS)}")
    return options


def show_stages(session: Session) -> None:
    """The time of each stage of a round trip, if the build measures it."""
    results = session.results.get(("stages", "scoop-executor"))
    if not results:
        return
    stages = results[-1]["stages"]
    if stages is None:
        session.say("stage times not available in this build")
        return
    session.say("\nStages of a round trip, as scoop.metrics.stages() gives them")
    for name, value in stages.items():
        session.say(f"  {name:12} {value}")


def warn_if_busy(session: Session) -> None:
    """Say so if others use the machine: the bare processes cannot shift work off a core that is taken."""
    load = os.getloadavg()[0]
    if not session.smoke and load > BUSY_LOAD:
        session.say(f"note: load average {load:.2f} at the start; on a busy machine the bars mean little")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one benchmark; 1 if a case of scoop, of the bare processes or of the ping failed."""
    options = parse(arguments)
    # As an exception, so that the case that is running is ended too: it has a session of its own.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    rows = options.rows or BENCHMARKS[options.name]
    if options.json is not None:
        options.json = options.json.resolve()
        options.json.parent.mkdir(parents=True, exist_ok=True)
    # A short path: libraries make sockets beneath the working directory.
    with contextlib.ExitStack() as kept:
        folder = kept.enter_context(tempfile.TemporaryDirectory(prefix="bench"))
        session = Session(
            options.name,
            Path(folder),
            options.smoke,
            options.repeats,
            options.json,
            options.peers,
            options.quiet,
        )
        if options.name == "hosts":
            try:
                kept.enter_context(testbed.up(session.pick(testbed.HOSTS)))
            except testbed.Missing as error:
                session.say(f"python -m bench hosts: {error}")
                return 2
        warn_if_busy(session)
        for row in (ROWS[name] for name in rows):
            repeats = min(session.repeats, row.most or session.repeats)
            session.run(row.select(session), repeats)
            if session.names(row.name):
                session.table(row.name, row.title, row.metrics)
        show_stages(session)
        bars.report(session, rows)
        for peer, reason in session.missing.items():
            session.say(f"not measured: {peer}: {reason}")
        if options.plots is not None:
            plots.draw(session, rows, options.plots)
    own = (*launch.OURS, *launch.ON_REQUEST, "bare", "ping")
    failed = [
        name
        for (_, name), reason in session.failures.items()
        if name.split("/")[0] in own and "unsupported" not in reason
    ]
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
