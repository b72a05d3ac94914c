"""Faults of a chaos run: what is broken, how long, and how it is mended. All of it drawn from one seed."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import chaos_hosts
from chaos_hosts import Process

Undo = Callable[[], None]

NOW = (
    "stop",
    "agent",
    "broker",
    "first",
    "first-agent",
    "power",
    "silent",
    "break",
    "ssh",
    "cut",
    "loss",
    "rate",
    "delay",
)
"""What this version survives, beside killed workers."""

LONG = ("long-cut", "isolate")
"""What costs so much time that it is only for long runs: the job waits until the link is mended."""

ENDS_A_HOST = ("agent", "power", "silent")
KEPT_HOSTS = 2  # so many are never lost


class Faults:
    """Breaks things and remembers how to mend them.

    Args:
        hosts: the first is the origin's.
        dice: the only source of chance.
        log: the file of faults, see `check_history.py`.
    """

    def __init__(self, hosts: list[str], dice: random.Random, log: Path) -> None:
        self.hosts = hosts
        self.lost: list[str] = []
        self.kills = 0
        self.counts: dict[str, int] = {}
        self._dice = dice
        self._log = log
        self._undo: list[tuple[float, Undo]] = []

    def say(self, *words: object) -> None:
        """Write a line of the log."""
        with self._log.open("a") as file:
            file.write(" ".join(map(str, words)) + "\n")

    def kill_worker(self) -> bool:
        """Kill -9 one worker of any host; False if there is none now."""
        alive = [process for host in self._living() for process in chaos_hosts.workers(host)]
        if not alive:
            return False
        victim = self._dice.choice(alive)
        self.say("kill", victim.name)  # first: the log must not be behind
        chaos_hosts.send(victim, signal.SIGKILL)
        self.kills += 1
        return True

    def inject(self, kind: str) -> bool:
        """Do one fault; False if there is nothing left that it could hit."""
        if kind in ENDS_A_HOST and len(self.lost) >= len(self.hosts) - KEPT_HOSTS:
            return False
        done: bool = getattr(self, f"_{kind.replace('-', '_')}")()
        if done:
            self.counts[kind] = self.counts.get(kind, 0) + 1
        return done

    def mend(self, now: float = float("inf")) -> None:
        """Mend what is due."""
        due = [undo for at, undo in self._undo if at <= now]
        self._undo = [each for each in self._undo if each[0] > now]
        for undo in due:
            undo()

    # ------------------------------------------------------------------------------------- helpers

    def _living(self) -> list[str]:
        return [host for host in self.hosts if host not in self.lost]

    def _remote(self) -> str:
        return self._dice.choice([host for host in self.hosts[1:] if host not in self.lost])

    def _later(self, low_s: float, high_s: float, undo: Undo) -> float:
        seconds = self._dice.uniform(low_s, high_s)
        self._undo.append((time.monotonic() + seconds, undo))
        return seconds

    def _lose(self, host: str, how: str) -> None:
        self.say("lost", host)
        self.say("fault", how, host)
        self.lost.append(host)

    def _kill_all(self, victims: list[Process]) -> bool:
        return sum(chaos_hosts.send(victim, signal.SIGKILL) for victim in victims) > 0

    def _link(self, command: str, value: str, low_s: float, high_s: float) -> bool:
        host = self._dice.choice(self._living())
        chaos_hosts.script("net-fault", command, host, value)
        seconds = self._later(
            low_s, high_s, lambda: void(chaos_hosts.script("net-fault", command, host, "0"))
        )
        self.say("fault", command, host, value, f"{seconds:.1f}")
        return True

    # -------------------------------------------------------------------------------------- faults

    def _stop(self) -> bool:
        """SIGSTOP of a worker, or of an agent or broker, the origin's host included."""
        alive = [process for host in self._living() for process in chaos_hosts.named(host, "scoop-")]
        if not alive:
            return False
        victim = self._dice.choice(alive)
        chaos_hosts.send(victim, signal.SIGSTOP)
        seconds = self._later(0.5, 4.0, lambda: void(chaos_hosts.send(victim, signal.SIGCONT)))
        self.say("fault", "stop", victim.name, victim.comm, f"{seconds:.1f}")
        return True

    def _agent(self) -> bool:
        host = self._remote()
        victims = chaos_hosts.named(host, "scoop-agent")
        self._lose(host, "agent")
        return self._kill_all(victims)

    def _broker(self) -> bool:
        """Another one takes its place; what was on its way through it is run again."""
        return self._succeeded("broker", self._remote())

    def _power(self) -> bool:
        """All processes of a host end at once; its connections are closed. It is up again at the end."""
        host = self._remote()
        self._lose(host, "power")
        chaos_hosts.script("net-fault", "crash", host)
        self._undo.append((float("inf"), lambda: void(chaos_hosts.script("host-boot", host))))
        return True

    def _silent(self) -> bool:
        """The same, and nobody is told: packets are dropped first."""
        host = self._remote()
        chaos_hosts.script("net-fault", "isolate", host)
        self._undo.append((float("inf"), lambda: void(chaos_hosts.script("net-fault", "heal", host))))
        return self._power_of(host)

    def _power_of(self, host: str) -> bool:
        self._lose(host, "silent")
        chaos_hosts.script("net-fault", "crash", host)
        self._undo.append((float("inf"), lambda: void(chaos_hosts.script("host-boot", host))))
        return True

    def _ssh(self) -> bool:
        """The ssh command that connects the origin with a host is killed; another one takes its place."""
        host = self._remote()
        self.say("fault", "ssh", host)
        return self._kill_all(chaos_hosts.ssh_to(host, self.hosts[0]))

    def _cut_for(self, low_s: float, high_s: float) -> bool:
        one, two = self._dice.sample(self.hosts, 2)
        chaos_hosts.script("net-fault", "cut", one, two)
        seconds = self._later(low_s, high_s, lambda: void(chaos_hosts.script("net-fault", "heal", one, two)))
        self.say("fault", "cut", one, two, f"{seconds:.1f}")
        return True

    def _cut(self) -> bool:
        """A cut that TCP sits out."""
        return self._cut_for(0.3, 3.0)

    def _long_cut(self) -> bool:
        return self._cut_for(10.0, 40.0)

    def _isolate(self) -> bool:
        host = self._remote()
        self.say("fault", "isolate", host)
        chaos_hosts.script("net-fault", "isolate", host)
        self._later(20.0, 40.0, lambda: void(chaos_hosts.script("net-fault", "heal", host)))
        return True

    def _break(self) -> bool:
        """All TCP connections between two hosts are reset; new ones work. What was in them is run again."""
        one, two = self._dice.sample(self._living(), 2)
        self.say("broken", one, two)
        chaos_hosts.script("net-fault", "break", one, two)
        self.say("fault", "break", one, two)
        return True

    def _first(self) -> bool:
        """The broker of the origin's host."""
        return self._succeeded("first", self.hosts[0])

    def _succeeded(self, how: str, host: str) -> bool:
        victims = chaos_hosts.named(host, "scoop-broker")
        self._say_broken(host)
        self.say("fault", how, host)
        return self._kill_all(victims)

    def _say_broken(self, host: str) -> None:
        for _ in range(2):  # its owner may issue a task again, and a broker that had given it there too
            self.say("broken", host, host)

    def _first_agent(self) -> bool:
        """The agent of the origin's host, and with it that host's broker and workers."""
        if self.counts.get("first-agent", 0) == 3:
            return False  # it is given up then
        for victim in chaos_hosts.workers(self.hosts[0]):
            self.say("kill", victim.name)
        self._say_broken(self.hosts[0])
        self.say("fault", "first-agent")
        return self._kill_all(chaos_hosts.named(self.hosts[0], "scoop-agent"))

    def _loss(self) -> bool:
        return self._link("loss", "5", 1.0, 4.0)

    def _rate(self) -> bool:
        return self._link("rate", "20mbit", 1.0, 4.0)

    def _delay(self) -> bool:
        return self._link("delay", "50", 1.0, 4.0)


def void(_: object) -> None:
    """For what is called for its effect."""
