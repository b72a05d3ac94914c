#!/usr/bin/env python3
"""Says whether the logs of a run keep what is promised. Standard library only; knows nothing of scoop.

    python check_history.py FOLDER                   complaints, one a line; exit status 1 if there are any

A folder holds text files; their lines are words separated by single spaces, each line one write.

    client-*    invoke SUBMIT TASK BY           a process submits a task, in the run BY, - for the program
                ok SUBMIT RUN DIGEST            its value is in, made by that run
                again SUBMIT RUN DIGEST         the value, read once more
                error SUBMIT TYPE               it ended with an exception
                cancelled SUBMIT                cancel() said so
                late SUBMIT                     cancel() said no, and it is cancelled all the same
    ledger-*    start SUBMIT RUN TASK ATTEMPT TIME   a run begins; ATTEMPT is - where it is not known
                end SUBMIT RUN DIGEST TIME      it returns
                raise SUBMIT RUN TYPE TIME      it raises
    faults      limit crashes|losses N          what one task may cost
                limit late N                    so many lates are no complaint
                kill PROCESS                    the driver has killed it
                lost HOST                       ... all of a host
                broken HOST HOST                connections, or a broker: what was in it may run again
                fault ANYTHING                  faults that end no process
                left ANYTHING                   found after the end: process, directory, segment
                ended STATUS                    of the program; last line

PROCESS is HOST:PID:BORN; a SUBMIT or RUN is PROCESS/NUMBER, the process that made it. No clock is compared.
A TASK says by its name what it is, so that its value can be worked out here, see `Values`.
"""

from __future__ import annotations

import sys
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

BIG_BYTES_MIN = 1 << 20
BIG_BYTES_SPAN = 3 << 20
WORDS = {
    "invoke": 4, "ok": 4, "again": 4, "error": 3, "cancelled": 2, "late": 2, "start": 6, "end": 5, "raise": 5,
    "limit": 3, "kill": 2, "lost": 2, "ended": 2, "broken": 3,
}  # fmt: skip
FREE = ("fault", "left")
CRASHED, LOST = "TaskCrashed", "WorkerLost"


class Values:
    """What a task has to return, from its name.

    The name's letter is its kind: f (flat), c (flat, somebody tries to cancel it), d (leaves a process
    behind), b (a large result), r (raises ValueError), p (kills its process), t (tree: `t7-3x2` is depth 3,
    fan 2; its nodes are `t7-3x2.0`, `t7-3x2.0.1` ...), m (map inside a task: `m4-20` has 20 items), q (one
    flat child and one that kills its process). A value is the CRC-32 of the name, of a large result that of
    its bytes, plus the values of the children, modulo 2**32; a child that failed counts 1.
    """

    def __init__(self) -> None:
        self._known: dict[str, int] = {}

    @staticmethod
    def kind(task: str) -> str:
        """The letter of the task; an item of q's or of another parent's has its own."""
        letter = task[0]
        if letter == "q" and "." in task:
            return "p" if task.endswith(".p") else "f"
        if letter == "m" and "." in task:
            return "f"
        return letter

    def of(self, task: str) -> int:
        """The digest of the value."""
        kind = self.kind(task)
        own = zlib.crc32(task.encode())
        if kind == "b":
            return zlib.crc32(self.large(task))
        if kind == "t":
            return self._tree(task)
        if kind == "m":
            items = int(task.partition("-")[2])
            return (own + sum(zlib.crc32(f"{task}.{i}".encode()) for i in range(items))) % 2**32
        if kind == "q":
            return (own + zlib.crc32(f"{task}.0".encode()) + 1) % 2**32
        return own

    @staticmethod
    def large(task: str) -> bytes:
        """The bytes of a large result."""
        name = task.encode()
        size = BIG_BYTES_MIN + zlib.crc32(name) % BIG_BYTES_SPAN
        return (name * (size // len(name) + 1))[:size]

    def _tree(self, task: str) -> int:
        known = self._known.get(task)
        if known is None:
            root, *path = task.split(".")
            depth, fan = map(int, root.partition("-")[2].split("x"))
            below = fan if len(path) < depth else 0
            known = (zlib.crc32(task.encode()) + sum(self._tree(f"{task}.{i}") for i in range(below))) % 2**32
            if len(self._known) < 100_000:
                self._known[task] = known
        return known


def process_of(name: str) -> str:
    """The process that made a submit or a run."""
    return name.rpartition("/")[0]


class Submit:
    """One submit: its ends, and the runs it had."""

    __slots__ = ("again", "by", "ends", "runs", "task")

    def __init__(self, task: str, by: str) -> None:
        self.task = task
        self.by = by
        self.ends: list[tuple[str, ...]] = []  # ("ok", run, digest), ("error", type), ("cancelled",)
        self.again: list[tuple[str, str]] = []
        self.runs: dict[str, tuple[str, ...] | None] = {}  # each with how it ended, None if it did not


class History:
    """All logs of one run. Complaints begin with the invariant that is broken."""

    def __init__(self) -> None:
        self.submits: dict[str, Submit] = {}
        self.killed: set[str] = set()
        self.lost: set[str] = set()
        self.broken = 0
        self.left: list[str] = []
        self.late: list[str] = []
        self.limits = {"crashes": 3, "losses": 10, "late": 0}
        self.ended: str | None = None
        self.complaints: list[str] = []
        self._values = Values()
        self._run_of: dict[str, str] = {}
        self._poisoned: set[str] = set()
        self._unended: Counter[str] = Counter()  # runs without an end, of each task

    # ---------------------------------------------------------------------------------------- reading

    def read(self, folder: Path) -> None:
        """Read a folder. Client logs come first: a run may be logged on another host than its submit."""
        files = [*sorted(folder.glob("client-*")), *sorted(folder.glob("ledger-*")), folder / "faults"]
        for path in files:
            if not path.exists():
                self.complain("log", f"there is no {path.name}")
                continue
            with path.open(encoding="utf-8", errors="replace") as lines:
                self.take(lines, path.name)
        if not self.submits:
            self.complain("log", "nothing was submitted")

    def take(self, lines: Iterable[str], where: str = "log") -> None:
        """Read the lines of one file."""
        for number, line in enumerate(lines, 1):
            words = line.rstrip("\n").split(" ")
            if words[0] not in FREE and WORDS.get(words[0]) != len(words):
                self.complain("log", f"{where} line {number} makes no sense: {line[:100].rstrip()!r}")
                continue
            getattr(self, f"_on_{words[0]}")(*(words[1:] if words[0] not in FREE else [line[5:].strip()]))

    def complain(self, what: str, text: str) -> None:
        """Keep a complaint."""
        self.complaints.append(f"{what}: {text}")

    def _on_invoke(self, submit: str, task: str, by: str) -> None:
        if submit in self.submits:
            self.complain("log", f"{submit} is submitted twice")
        else:
            self.submits[submit] = Submit(task, by)

    def _known(self, submit: str, event: str) -> Submit | None:
        known = self.submits.get(submit)
        if known is None:
            self.complain("S3", f"{event} of {submit}, which nobody has submitted")
        return known

    def _on_ok(self, submit: str, run: str, digest: str) -> None:
        known = self._known(submit, "a value")
        if known is not None:
            known.ends.append(("ok", run, digest))

    def _on_again(self, submit: str, run: str, digest: str) -> None:
        known = self._known(submit, "a value")
        if known is not None:
            known.again.append((run, digest))

    def _on_error(self, submit: str, kind: str) -> None:
        known = self._known(submit, "an error")
        if known is not None:
            known.ends.append(("error", kind))

    def _on_cancelled(self, submit: str) -> None:
        known = self._known(submit, "a cancellation")
        if known is not None:
            known.ends.append(("cancelled",))

    def _on_late(self, submit: str) -> None:
        known = self._known(submit, "a cancellation")
        if known is not None:
            known.ends.append(("cancelled",))
            self.late.append(submit)

    def _on_start(self, submit: str, run: str, task: str, attempt: str, time: str) -> None:
        known = self._known(submit, "a run")
        if run in self._run_of:
            self.complain("log", f"run {run} begins twice")
        elif known is not None:
            self._run_of[run] = submit
            known.runs[run] = None
            if task != known.task:
                self.complain("S3", f"{submit} is {known.task}, run {run} is of {task}")

    def _on_end(self, submit: str, run: str, digest: str, time: str) -> None:
        self._run_ends(submit, run, ("end", digest))

    def _on_raise(self, submit: str, run: str, kind: str, time: str) -> None:
        self._run_ends(submit, run, ("raise", kind))

    def _run_ends(self, submit: str, run: str, how: tuple[str, ...]) -> None:
        if self._run_of.get(run) != submit:
            self.complain("S3", f"run {run} of {submit} ends and has not begun")
        elif self.submits[submit].runs[run] is not None:
            self.complain("log", f"run {run} ends twice")
        else:
            self.submits[submit].runs[run] = how

    def _on_limit(self, name: str, number: str) -> None:
        self.limits[name] = int(number)

    def _on_kill(self, process: str) -> None:
        self.killed.add(process)

    def _on_lost(self, host: str) -> None:
        self.lost.add(host)

    def _on_broken(self, one: str, two: str) -> None:
        self.broken += 1

    def _on_fault(self, text: str) -> None:
        pass

    def _on_left(self, text: str) -> None:
        self.left.append(text)

    def _on_ended(self, status: str) -> None:
        self.ended = status

    # --------------------------------------------------------------------------------------- checking

    def dead(self, name: str) -> bool:
        """The process that made this submit or run was killed, by us or by a task, or its host was lost."""
        process = process_of(name)
        return process in self.killed or process in self._poisoned or process.partition(":")[0] in self.lost

    def excused(self, name: str) -> bool:
        """Nobody waits for this submit any more: its owner is dead, or the run that made it was given up."""
        if self.dead(name):
            return True
        above = self._run_of.get(self.submits[name].by)
        if above is None or self.submits[above].runs[self.submits[name].by] is not None:
            return False
        return bool(self.submits[above].ends) or self.excused(above)

    def check(self) -> list[str]:
        """All complaints."""
        if self.ended is None:
            self.complain("L1", "the program did not end")
        elif self.ended != "0":
            self.complain("L1", f"the program ended with {self.ended}")
        if len(self.late) > self.limits["late"]:
            for submit in self.late:
                self.complain("S6", f"{submit} was cancelled after cancel() had said no")
        for what in self.left:
            self.complain("R3", f"left behind: {what}")
        deaths: dict[str, int] = {}
        self._unended.clear()
        for submit in self.submits.values():
            self._unended[submit.task] += sum(how is None for how in submit.runs.values())
            if self._values.kind(submit.task) == "p":
                self._poisoned |= {process_of(run) for run, how in submit.runs.items() if how is None}
        for name, submit in self.submits.items():
            self._check_ends(name, submit)
            self._check_runs(name, submit, deaths)
        # A task that was issued again because a link or a host was lost may run at two places at once.
        limit = self.limits["crashes"] + (1 if self.broken or self.lost else 0)
        for task, count in deaths.items():
            if count > limit:
                self.complain("S8", f"{task} took {count} processes with it, the limit is {limit}")
        return self.complaints

    def _check_ends(self, name: str, submit: Submit) -> None:
        if not submit.ends:
            if not self.excused(name):
                self.complain("S1", f"{name} ({submit.task}) never ended")
            return
        if len(submit.ends) > 1:
            kinds = [end[0] for end in submit.ends]
            if "cancelled" in kinds and "ok" in kinds:
                self.complain("S6", f"{name} ({submit.task}) was cancelled and has a value")
            else:
                self.complain("S1", f"{name} ({submit.task}) ended {len(kinds)} times: {', '.join(kinds)}")
            return
        end = submit.ends[0]
        if end[0] == "ok":
            self._check_value(name, submit, end[1], end[2])
        elif end[0] == "error":
            self._check_error(name, submit, end[1])
        elif self._values.kind(submit.task) not in "cf":
            self.complain("S6", f"{name} ({submit.task}) was cancelled, which nobody asked for")
        for again in submit.again:
            if end != ("ok", *again):
                self.complain("S2", f"{name} ({submit.task}) was {' '.join(end)} and later {' '.join(again)}")

    def _check_value(self, name: str, submit: Submit, run: str, digest: str) -> None:
        kind = self._values.kind(submit.task)
        if kind in "pr":
            self.complain("S3", f"{name} ({submit.task}) has a value and should have failed")
            return
        if digest != str(self._values.of(submit.task)):
            self.complain("S3", f"{name} ({submit.task}) is {digest}, not {self._values.of(submit.task)}")
        source = self._run_of.get(run)
        if source is None:
            self.complain("S3", f"{name} ({submit.task}) has a value of run {run}, which nobody has begun")
        elif source != name:
            self.complain("S7", f"{name} ({submit.task}) has a value of run {run}, which is of {source}")
        elif submit.runs[run] != ("end", digest):
            self.complain("S3", f"{name} ({submit.task}) has a value that run {run} did not return")

    def _check_error(self, name: str, submit: Submit, error: str) -> None:
        kind = self._values.kind(submit.task)
        if error == CRASHED:
            # By all who have submitted it: a parent that runs again does. One may have been killed after it
            # took the task and before it could note so.
            unended = self._unended[submit.task]
            if unended + bool(self.killed) < self.limits["crashes"]:
                self.complain("S1", f"{name} ({submit.task}) is {error} after {unended} deaths")
        elif error == LOST:
            if not self.lost and len(submit.runs) <= self.limits["losses"]:
                self.complain("S1", f"{name} ({submit.task}) is {error} after {len(submit.runs)} runs")
        elif kind != "r" or error != "ValueError":
            self.complain("S1", f"{name} ({submit.task}) ended with {error}, which it does not raise")
        elif not any(how == ("raise", error) for how in submit.runs.values()):
            self.complain("S3", f"{name} ({submit.task}) ended with {error}, which no run raised")

    def _check_runs(self, name: str, submit: Submit, deaths: dict[str, int]) -> None:
        kind = self._values.kind(submit.task)
        if kind == "p":
            deaths[submit.task] = deaths.get(submit.task, 0) + sum(
                how is None and process_of(run) not in self.killed for run, how in submit.runs.items()
            )
            without_cause = [run for run, how in submit.runs.items() if how is not None]
        else:
            # A host that is lost may have passed a task on before it could say so; a result may have been in
            # a connection that broke.
            alive = [run for run in submit.runs if not self.dead(run)]
            without_cause = alive if len(alive) > 1 + len(self.lost) + self.broken else []
            for run in alive:
                if submit.runs[run] is None and not submit.ends and not self.excused(name):
                    self.complain("S1", f"run {run} of {name} ({submit.task}) never ended, its process lives")
        if without_cause:
            self.complain(
                "S4",
                f"{name} ({submit.task}) ran {len(submit.runs)} times, {len(without_cause)} without a death",
            )
        budget = 1 + self.limits["crashes"] + self.limits["losses"]
        if len(submit.runs) > budget:
            self.complain(
                "S4", f"{name} ({submit.task}) ran {len(submit.runs)} times, the budget is {budget}"
            )
        if submit.ends == [("cancelled",)] and any(not self.dead(run) for run in submit.runs):
            self.complain("S6", f"{name} ({submit.task}) was cancelled and ran")

    # ---------------------------------------------------------------------------------------- figures

    def figures(self) -> Iterator[str]:
        """What was seen, for the report."""
        runs = sum(len(submit.runs) for submit in self.submits.values())
        ends = [end[0] for submit in self.submits.values() for end in submit.ends]
        errors = [end[1] for submit in self.submits.values() for end in submit.ends if end[0] == "error"]
        yield f"{len(self.submits)} submits, {runs} runs ({runs / max(1, len(self.submits)):.3f} each)"
        yield f"{ends.count('ok')} values, {ends.count('error')} errors, {ends.count('cancelled')} cancelled"
        yield f"{errors.count(CRASHED)} crashed, {errors.count(LOST)} given up after losses"
        yield f"{len(self.late)} cancelled after all"
        yield f"{len(self.killed)} processes killed, {len(self.lost)} hosts lost"


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    history = History()
    history.read(Path(arguments[0]))
    complaints = history.check()
    print(*history.figures(), sep="\n")
    for complaint in complaints[:100]:
        print(complaint)
    if len(complaints) > 100:
        print(f"... and {len(complaints) - 100} more")
    print(f"{len(complaints)} complaints")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
