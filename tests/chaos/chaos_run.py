"""One round of chaos: a job on several hosts, faults while it runs, then census and history checker."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import census
import chaos_hosts
from chaos_faults import NOW, Faults

HERE = Path(__file__).resolve().parent
KINDS = "fctmbrdp"
"""Kinds of tasks, as `check_history.py` names them."""

SWEPT_LATER = {"agent", "power", "silent"}
LATE_MAX = 0
"""Calls that are cancelled after `cancel` has said no."""

LEFT_S = 10.0
STACKS_S = 3.0


@dataclass
class Plan:
    """What one round does.

    Args:
        seed: of tasks and faults.
        tasks: at least so many.
        kills: workers that are killed.
        others: other faults.
        faults: their kinds.
        kinds: kinds of tasks.
        workers: of all hosts.
        hung_s: so long without any task done is a hang.
    """

    seed: int
    tasks: int = 20_000
    kills: int = 60
    others: int = 12
    faults: tuple[str, ...] = NOW
    kinds: str = KINDS
    workers: int = 12
    hung_s: float = 60.0


@dataclass
class Outcome:
    """How a round went."""

    folder: Path
    seconds: float = 0.0
    done: int = 0
    kills: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    hung: bool = False
    report: list[str] = field(default_factory=list)
    errors: str = ""
    sound: bool = False

    def __str__(self) -> str:
        others = " ".join(f"{kind} {count}" for kind, count in sorted(self.faults.items()))
        return (
            f"{self.done} tasks in {self.seconds:.0f} s, {self.kills} kills, {others or 'no other faults'}; "
            f"{'HUNG, ' if self.hung else ''}{len(self.left)} left; {self.report[-1] if self.report else '-'}"
        )


class Round:
    """See `play`."""

    def __init__(self, plan: Plan, hosts: list[str], folder: Path) -> None:
        self._plan = plan
        self._hosts = hosts
        self._folder = folder
        self._done = 0
        self._moved = time.monotonic()
        self._outcome = Outcome(folder)
        self._process: subprocess.Popen[str] | None = None

    def play(self) -> Outcome:
        """Run it all; returns how it went. Everything that was broken is mended then, and nothing runs."""
        began = time.monotonic()
        dice = random.Random(self._plan.seed)
        faults = Faults(self._hosts, dice, self._folder / "faults")
        faults.say("limit", "crashes", 3)
        faults.say("limit", "losses", 10)
        faults.say("limit", "late", LATE_MAX)
        errors = self._start(dice)
        try:
            self._watch(faults, dice)
            faults.mend()
            status = self._end()
        finally:
            faults.mend()
            if self._process is not None and self._process.poll() is None:
                self._process.kill()
        errors.seek(0)
        outcome = self._outcome
        outcome.errors = errors.read()
        outcome.kills, outcome.faults, outcome.lost = faults.kills, faults.counts, faults.lost
        outcome.left = self._census()
        for what in outcome.left:
            faults.say("left", what)
        if outcome.hung:
            faults.say("fault", "hung")
        else:
            faults.say("ended", status)
        outcome.seconds, outcome.done = time.monotonic() - began, self._done
        self._check()
        return outcome

    # --------------------------------------------------------------------------------------- the job

    def _start(self, dice: random.Random):  # type: ignore[no-untyped-def]
        # What kills its process must not run in the program's.
        idle = ["--origin-idle"] if "p" in self._plan.kinds or dice.random() < 0.5 else []
        scratch = self._folder / "run"
        scratch.mkdir(mode=0o700)
        import scoop

        assert scoop.__file__ is not None
        roots = [str(Path(scoop.__file__).parent.parent), str(HERE)]
        environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("SCOOP_")},
            **{name: os.environ[name] for name in ("SCOOP_TEST_MARKER",) if name in os.environ},
            "PYTHONPATH": os.pathsep.join(roots),
            "PYTHONFAULTHANDLER": "1",
            "XDG_RUNTIME_DIR": str(scratch),
        }
        errors = open(self._folder / "errors", "w+")  # noqa: SIM115
        program = [
            str(HERE / "chaos_program.py"),
            str(self._plan.tasks),
            str(self._plan.seed),
            self._plan.kinds,
        ]
        self._process = subprocess.Popen(
            [
                chaos_hosts.TESTBED / "on-host", self._hosts[0], sys.executable, "-m", "scoop",
                "--hosts", "127.0.0.1", *self._hosts[1:], "-n", str(self._plan.workers), *idle,
                "--prolog", f"export XDG_RUNTIME_DIR={scratch}", *program,
            ],
            env=environ,
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        )  # fmt: skip
        threading.Thread(target=self._read, daemon=True).start()
        return errors

    def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        for line in self._process.stdout:
            word, _, number = line.strip().partition(" ")
            self._moved = time.monotonic()
            if word in ("done", "end"):
                self._done = int(number)

    def _watch(self, faults: Faults, dice: random.Random) -> None:
        """Break things as the program gets on, so that a slow machine sees as many faults as a fast one."""
        assert self._process is not None
        plan = self._plan
        due = [(dice.uniform(0.01, 0.95) * plan.tasks, "kill") for _ in range(plan.kills)]
        if plan.faults:
            due += [
                (dice.uniform(0.05, 0.9) * plan.tasks, dice.choice(plan.faults)) for _ in range(plan.others)
            ]
        due.sort(reverse=True)
        while self._process.poll() is None:
            now = time.monotonic()
            faults.mend(now)
            if due and self._done >= due[-1][0]:
                _, kind = due.pop()
                if kind == "kill":
                    if not faults.kill_worker():
                        due.append((self._done, kind))  # none is there at this moment
                else:
                    faults.inject(kind)
            if now - self._moved > plan.hung_s:
                self._outcome.hung = True
                return
            time.sleep(0.01)

    def _end(self) -> int:
        """The program's exit status; one that hangs shows its stacks first."""
        assert self._process is not None
        if self._outcome.hung:
            for host in self._hosts:
                for process in chaos_hosts.named(host, "scoop-w", "python"):
                    chaos_hosts.send(process, signal.SIGABRT)
            time.sleep(STACKS_S)
        try:
            return self._process.wait(LEFT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def _census(self) -> list[str]:
        """What is left on any host after some seconds; it is killed."""
        deadline = time.monotonic() + LEFT_S
        while census.on_other_hosts() and time.monotonic() < deadline:
            time.sleep(0.05)
        left = []
        for pid, command in census.on_other_hosts().items():
            left.append(f"process {pid} {command}")
            census.kill(pid)
        # Nobody is there to remove the directory of an agent that was killed; the next job sweeps it.
        if not SWEPT_LATER & set(self._outcome.faults):
            left += [f"directory {name}" for name in os.listdir(self._folder / "run")]
        return left

    def _check(self) -> None:
        done = subprocess.run(
            [sys.executable, "-S", "-I", str(HERE / "check_history.py"), str(self._folder)],
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        self._outcome.report = (done.stdout + done.stderr).splitlines()
        self._outcome.sound = done.returncode == 0 and not self._outcome.hung


def play(plan: Plan, hosts: list[str], keep: Path | None = None) -> Outcome:
    """Play one round on hosts that are up. Its folder is kept below `keep`, else removed if it was sound."""
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"chaos-{plan.seed}-", dir=keep))
    outcome = Round(plan, hosts, folder).play()
    if keep is None and outcome.sound:
        shutil.rmtree(folder, ignore_errors=True)
    return outcome
