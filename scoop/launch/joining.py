"""``scoop-worker --join FILE``: workers of this host for a job that runs elsewhere.

This process has an agent, as a program has, and a connection to the job's broker by which it lets its workers
in and tells of those that die. The workers go to the broker themselves, each with keys of its own.
"""

from __future__ import annotations

import contextvars
import logging
import os
import signal
import socket
import sys
import threading
import time
from typing import Any

from scoop.config import Config, ConfigError
from scoop.errors import StartupFailed
from scoop.launch import boot, cores, keyring, logs, vigil
from scoop.launch.byhand import check_versions, reach
from scoop.launch.invitation import Agency
from scoop.launch.orders import PRELOAD
from scoop.launch.origin import daemon, how_it_died, random_incarnation, set_up_log, tell_standstill
from scoop.launch.output import Output
from scoop.launch.spawn import AgentHandle, AgentLost

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

ANSWER_S = 4.0
"""How long the job's broker may take to answer."""

AHEAD = 16
"""So many workers at least are let in before they are started: one that is refused does not try again."""

log = logging.getLogger("scoop")


class Joined:
    """This host's part in a job that runs elsewhere.

    Args:
        card: from the job's file.
        count: workers.
        folder: their working directory.
        config: options.

    Raises:
        StartupFailed: the job is not there, or does not take this host.
    """

    def __init__(self, card: keyring.Card, count: int, folder: str, config: Config) -> None:
        self._card = card
        self._count = count
        self._folder = folder
        self._config = config
        self._ahead = max(AHEAD, count) + count
        self._over = threading.Event()
        self._leaving = False
        self._agents_started = 0
        self._alive: set[int] = set()
        self.failure = ""
        deadline = time.monotonic() + ANSWER_S
        advice = f"{card.path} is of a job that is over, or that this host does not reach"
        reach(card.address, min(deadline, time.monotonic() + 1.0), advice)
        self._names()
        self._agency = Agency(card, self._guests(0, self._ahead), deadline)
        self._node = self._agency.node
        self._output = Output()
        try:
            self._agent = AgentHandle.spawn()
            self._begin_agent()
        except BaseException:
            self._agency.close()
            raise

    def serve(self) -> int:
        """Take part until the job is over or this host has left it; returns the exit status. Blocks; the main
        thread only. SIGTERM and SIGINT let this host leave, a second one at once.
        """
        from scoop._core.session import Session
        from scoop.future import Future

        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: self.leave())
        session = Session(self._node, contextvars.copy_context(), False, Future, self._card.seed)
        threads = [daemon(self._supervise, "scoop-supervisor"), daemon(self._watch, "scoop-vigil")]
        print(f"scoop-worker: {self._count} workers for the job at {self._card.address}", flush=True)
        try:
            session.serve()
            session.closed = True
        finally:
            self._over.set()
            try:
                rest = self._agent.close(0.0 if self.failure else self._config.stop_grace)
            except AgentLost:
                rest = []
            threads[0].join(1.0)
            for message in rest:
                self._on_message(message)
            self._agency.close()
            self._output.close()
        if self.failure:
            print(f"scoop-worker: {self.failure}", file=sys.stderr)
        return 1 if self.failure else 0

    def leave(self) -> None:
        """Leave the job: workers give back what has not started and finish what runs. Told twice, at once."""
        again, self._leaving = self._leaving, True
        try:
            if again:
                self._agent.stop(0.0)
            else:
                log.info("this host leaves the job")
                self._agent.send({"op": "leave"})
        except AgentLost:
            self._node.stop()

    # ----------------------------------------------------------------------------------------- workers

    def _names(self) -> None:
        """New names and keys for the workers of an agent: those of an earlier one are used up."""
        self._base = random_incarnation()
        self._keys = os.urandom(32)
        self._let_in = self._ahead

    def _guests(self, first: int, last: int) -> list[tuple[int, bytes]]:
        from scoop._core.curve import Keys

        home = self._card.number
        return [
            (boot.incarnation_of(self._base, index, home), Keys.derived(self._keys, index).public)
            for index in range(first, last)
        ]

    def _begin_agent(self) -> None:
        self._agents_started += 1
        self._agent.begin(
            self._count,
            boot.ENTRY,
            preload=PRELOAD,
            cwd=self._folder,
            sys_path=[self._folder, *sys.path],
            env=cores.thread_caps(
                self._count, cores.available_cores(), os.environ, threads=self._config.threads
            ),
            spec={
                "base": self._base,
                "home": self._card.number,
                "broker": self._card.address,
                "door": {
                    "public": self._card.public,
                    "keys": self._keys,
                    "lease_s": self._config.lease,
                    "grace_s": self._config.stop_grace,
                },
                "host": f"{socket.gethostname()}.{os.getpid()}",  # no other worker of the job is called so
                "seed": self._card.seed,
                "copy": self._config.copy,
                "initializer": b"",
                "size": self._count,
                "level": log.getEffectiveLevel(),
                "levels": logs.describe(),
                "stopped_after": self._config.stopped_after,
                "profile": "",
            },
        )

    def _supervise(self) -> None:
        while True:
            messages = self._agent.receive()
            if not messages and (self._over.is_set() or not self._agent_lost()):
                return
            for message in messages:
                try:
                    self._on_message(message)
                except Exception:
                    log.exception("a message of the agent could not be handled: %r", message)

    def _on_message(self, message: dict[str, Any]) -> None:
        op = message["op"]
        if op == "output":
            self._output.put(message["worker"], message["stream"], message["data"])
        elif op == "started":
            self._on_started(message["worker"])
        elif op == "died":
            self._on_died(message)
        elif op == "failed" and not self._over.is_set():
            self.failure = f"the workers cannot be started: {message['error'].strip()}"
            self._node.stop()
        else:
            tell_standstill(message)

    def _on_started(self, index: int) -> None:
        self._alive.add(index)
        if index + self._ahead > self._let_in:
            for name, public in self._guests(self._let_in, index + self._ahead):
                self._node.let_in(name, public)
            self._let_in = index + self._ahead

    def _on_died(self, message: dict[str, Any]) -> None:
        from scoop.losses import blamed, pack_loss

        index = message["worker"]
        self._alive.discard(index)
        self._output.worker_ended(index)
        incarnation = boot.incarnation_of(self._base, index, self._card.number)
        owner, task = blamed(message.get("running") or [], incarnation)
        self._node.report_lost(incarnation, owner, task, pack_loss(message) if task else b"")
        if not message.get("planned") and not self._over.is_set():
            log.warning("worker %d (process %d) died: %s", index, message["pid"], how_it_died(message))

    def _agent_lost(self) -> bool:
        """The agent is gone. If this host has not left, it was killed, with its workers: start another."""
        for index in sorted(self._alive):
            name = boot.incarnation_of(self._base, index, self._card.number)
            self._node.report_lost(name, 0, 0, b"")
            self._output.worker_ended(index)
        self._alive.clear()
        if not self._leaving and self._agents_started <= self._config.agent_restarts:
            log.warning("the agent of this host died and its workers with it; starting them again")
            self._agent.close(0.0)
            self._names()
            for name, public in self._guests(0, self._ahead):
                self._node.let_in(name, public)
            self._agent = AgentHandle.spawn()
            self._begin_agent()
            return True
        if not self._leaving:
            self.failure = "the agent of this host died again and again"
        self._node.stop()
        return False

    def _watch(self) -> None:
        gone = vigil.watch_broker(self._node, self._config.lease, self._over)
        if gone:
            self.failure = f"the job's broker at {self._card.address} is gone: {gone}"
            self._node.stop()


def join(path: str, folder: str, config: Config) -> int:
    """Add workers of this host to the job whose file is `path`; returns the exit status. Blocks.

    Raises:
        StartupFailed: the job is not there, or does not take this host.
        KeyringError: the file cannot be read, is no such file, or others could read it.
    """
    card = keyring.read_card(path)
    if card.keys is None:
        raise StartupFailed(f"{path} is no file to join a job with: scoop-run --join-file writes one")
    check_versions(card, card.address)
    try:
        os.chdir(folder)
    except OSError as error:
        raise StartupFailed(f"--path {folder}: {error.strerror}") from None
    return Joined(card, config.workers or cores.available_cores(), os.getcwd(), config).serve()


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    import argparse

    from scoop import __version__

    parser = argparse.ArgumentParser(
        prog="scoop-worker",
        description="Adds workers of this host to a job that runs, started by scoop-run --join-file FILE or "
        "with python -m scoop.broker --join-file FILE. SIGTERM or Ctrl-C lets this host leave again.",
    )
    add = parser.add_argument
    add("--join", metavar="FILE", required=True, help="the job's file, in its place or carried here")
    add("-n", "--workers", type=int, help="how many [SCOOP_WORKERS]; default: one for each core")
    add("--path", metavar="FOLDER", default=".", help="where the program's modules are; default: here")
    add("-v", "--verbose", action="count", help="say more; twice for more [SCOOP_VERBOSE]")
    add("-q", "--quiet", action="store_true", default=None, help="only errors [SCOOP_QUIET]")
    add("--version", action="version", version=f"scoop {__version__}")
    given = vars(parser.parse_args(argv))
    path, folder = given.pop("join"), given.pop("path")
    try:
        config = Config.load().with_values(**{name: v for name, v in given.items() if v is not None})
        set_up_log(config)
        return join(path, folder, config)
    except (StartupFailed, keyring.KeyringError, OSError) as error:
        print(f"scoop-worker: {error}", file=sys.stderr)
        return 1
    except ConfigError as error:
        print(f"scoop-worker: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
