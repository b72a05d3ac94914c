"""Runs cases in turn, each in a fresh process, and keeps what they said.

A *case* is one workload on one library. Cases of a row are interleaved (A B C A B C ...), so that a
slow minute of the machine hits all of them alike; what is compared are medians.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import IO, Any

from bench import launch, procs, stats, work

Result = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Param:
    """A setting of a benchmark: a small value that shows that it runs, and the one that counts."""

    smoke: Any
    real: Any


@dataclasses.dataclass(frozen=True)
class Case:
    """One workload on one library.

    ``label`` tells cases of one library in a row apart; ``runner`` replaces the case program where the
    measured thing is another program.
    """

    row: str
    peer: str
    workload: str
    params: dict[str, Any] = dataclasses.field(default_factory=dict)
    label: str = ""
    workers: int = 2
    deadline: float = 180.0
    runner: Callable[[Case, Session], Result] | None = None

    @property
    def name(self) -> str:
        """What tables and bars call it."""
        return self.label or self.peer


class Session:
    """One invocation: its settings, its scratch directory, and everything measured so far."""

    def __init__(
        self,
        benchmark: str,
        scratch: Path,
        smoke: bool,
        repeats: int | None = None,
        out: Path | None = None,
        peers: Sequence[str] | None = None,
        quiet: bool = False,
    ) -> None:
        self.benchmark = benchmark
        self.scratch = scratch
        self.smoke = smoke
        self.repeats = repeats or (1 if smoke else 5)
        self.peers = tuple(peers) if peers else None
        self.quiet = quiet
        self.results: dict[tuple[str, str], list[Result]] = {}
        self.failures: dict[tuple[str, str], str] = {}
        self.missing: dict[str, str] = {}
        self._tried: dict[tuple[str, str], None] = {}
        self._out = out
        self._loops_per_ms: float | None = None
        self._facts = machine_facts()

    def pick(self, param: Param) -> Any:
        """The value of a setting at this scale."""
        return param.smoke if self.smoke else param.real

    @property
    def loops_per_ms(self) -> float:
        """Calibrated once, here, so that all cases burn exactly the same work."""
        if self._loops_per_ms is None:
            self._loops_per_ms = work.calibrate(*((0.005, 3) if self.smoke else (0.02, 15)))
            self.emit("calibration", loops_per_ms=self._loops_per_ms)
        return self._loops_per_ms

    def emit(self, kind: str, **fields: Any) -> None:
        """Append one JSON line, self-contained: who measured what, when, where, on which commit."""
        if self._out is None:
            return
        stamp = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds")
        line = {
            "kind": kind,
            "benchmark": self.benchmark,
            "scale": "smoke" if self.smoke else "real",
            "repeats": self.repeats,
            "timestamp": stamp,
            **self._facts,
            **fields,
        }
        with self._out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def say(self, text: str = "") -> None:
        """Print at once: a long run is watched."""
        print(text, flush=True)

    def wants(self, peer: str) -> bool:
        """Whether a library can be used here; one that cannot is named once, with the reason."""
        reason = launch.unavailable(peer, self.scratch)
        if reason is not None and peer not in self.missing:
            self.missing[peer] = reason
            self.emit("missing", peer=peer, reason=reason)
            self.say(f"not measured: {peer}: {reason}")
        return reason is None

    def run(self, cases: Iterable[Case], repeats: int | None = None) -> None:
        """Run the cases that can be run, in turn, ``repeats`` times. One that failed is not tried again."""
        ready = [case for case in cases if case.peer == "ping" or self.wants(case.peer)]
        for repeat in range(repeats or self.repeats):
            for case in ready:
                key = (case.row, case.name)
                if key not in self.failures:
                    self._run_one(case, key, repeat)

    def _run_one(self, case: Case, key: tuple[str, str], repeat: int) -> None:
        self._tried[key] = None
        begin = time.perf_counter()
        try:
            result = (case.runner or run_case)(case, self)
        except (CaseError, OSError) as error:
            result = {}
            self.failures[key] = str(error)
        else:
            self.results.setdefault(key, []).append(result)
        took = time.perf_counter() - begin
        self.emit(
            "case",
            row=case.row,
            peer=case.peer,
            case=case.name,
            workload=case.workload,
            repeat=repeat,
            workers=case.workers,
            settings=case.params,
            ok=bool(result),
            error=self.failures.get(key),
            seconds=round(took, 3),
            result=result,
        )
        if not self.quiet:
            said = f"failed: {self.failures[key]}" if not result else f"{took:.1f} s"
            self.say(f"  {case.row:14} {case.name:22} {repeat + 1}: {said}")

    def values(self, row: str, name: str, metric: str) -> list[float]:
        """A field of every repeat of a case; nested fields are written ``a/b``."""
        found = []
        for result in self.results.get((row, name), []):
            value: Any = result
            for part in metric.split("/"):
                value = value.get(part) if isinstance(value, dict) else None
            if value is not None:
                found.append(float(value))
        return found

    def median(self, row: str, name: str, metric: str) -> float | None:
        """The median over the repeats of a case, None if it was not measured."""
        return stats.median(self.values(row, name, metric))

    def names(self, row: str) -> list[str]:
        """The cases of a row that were tried, in order."""
        return [name for tried, name in self._tried if tried == row]

    def table(self, row: str, title: str, metrics: dict[str, str]) -> None:
        """Print ``median [min..max]`` for all cases of a row; ``metrics`` maps headings to fields."""
        lines = []
        for name in self.names(row):
            failure = self.failures.get((row, name))
            cells = [stats.spread(self.values(row, name, field)) for field in metrics.values()]
            lines.append([name, *cells, f"failed: {failure}" if failure else ""])
        print_table(title, ["case", *metrics, ""], lines)
        for name in self.names(row):
            medians = {field: self.median(row, name, field) for field in metrics.values()}
            self.emit("summary", row=row, case=name, medians=medians)


class CaseError(Exception):
    """A case program that did not deliver; the text says why."""


def machine_facts() -> dict[str, Any]:
    """What a reader of the numbers has to know; no names of hosts or people."""
    model = platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    return {
        "commit": commit(),
        "machine": {
            "cpu": model,
            "cores": os.cpu_count(),
            "usable_cores": len(os.sched_getaffinity(0)),
            "system": f"{platform.system()} {platform.release()}",
            "load": round(os.getloadavg()[0], 2),
        },
        "python": f"{platform.python_implementation()} {platform.python_version()}",
    }


def commit() -> str:
    """The commit of the checkout, with ``+`` behind it if files differ; ``unknown`` outside of one."""
    git = ["git", "-C", str(launch.ROOT)]
    try:
        head = subprocess.run(
            [*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True
        )
        state = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + ("+" if state.stdout.strip() else "")


def run_program(argv: Sequence[str], peer: str, scratch: Path, deadline: float) -> tuple[str, str, float]:
    """Run a program to its end: (standard output, standard error, seconds from start to exit).

    At the deadline it is killed with everything that it started, in whichever session that is.
    """
    begin = time.perf_counter()
    with _capture() as out, _capture() as err:
        # Files, not pipes: a process that outlives the program would hold a pipe open.
        child = subprocess.Popen(
            argv,
            env=launch.environment(peer),
            cwd=scratch,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
        try:
            status: int | None = child.wait(deadline)
        except BaseException as error:
            procs.kill_family(child.pid)
            child.wait()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            status = None
        took = time.perf_counter() - begin
        _end_session(child.pid)
        out.seek(0)
        err.seek(0)
        said, complaint = out.read(), err.read()
    if status is None:
        raise CaseError(f"not finished after {deadline:g} s. {_last_line(complaint)}")
    if status != 0:
        raise CaseError(f"exit status {status}. {_last_line(complaint)}")
    return said, complaint, took


def _capture() -> IO[str]:
    return tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")


def _end_session(leader: int) -> None:
    # What the program left behind in its session would burn the time of the next case.
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _last_line(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1].strip()[:300] if lines else ""


def last_json(text: str) -> Result | None:
    """The last line that is a JSON object: launchers print lines of their own around it."""
    for line in reversed(text.splitlines()):
        start = line.find("{")
        if start >= 0:
            try:
                found = json.loads(line[start:])
            except ValueError:
                continue
            if isinstance(found, dict):
                return found
    return None


def run_case(case: Case, session: Session) -> Result:
    """Run the case program of a library and return what it measured."""
    order = {"peer": case.peer, "workload": case.workload, "workers": case.workers, "params": case.params}
    argv = launch.command(case.peer, case.workers, [json.dumps(order)])
    said, complaint, took = run_program(argv, case.peer, session.scratch, case.deadline)
    answer = last_json(said)
    if answer is None:
        raise CaseError(f"no result in its output. {_last_line(complaint)}")
    if not answer.get("ok"):
        raise CaseError(str(answer.get("error")))
    result: Result = answer["result"]
    result["program_seconds"] = took
    return result


def print_table(title: str, header: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    """Aligned columns under a title; empty last columns cost nothing."""
    widths = [max(len(line[i]) for line in [header, *lines]) for i in range(len(header))]
    print(f"\n{title}", flush=True)
    for line in [header, ["-" * width for width in widths], *lines]:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    sys.stdout.flush()
