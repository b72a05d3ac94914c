"""One host of a job on several, as the origin sees it."""

from __future__ import annotations

import os
import sys
import threading
import time

from scoop.launch import remote
from scoop.launch.hosted import route_to
from scoop.launch.link import TO_BROKER
from scoop.launch.spawn import AgentLost
from scoop.launch.tunnel import without_chatter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from scoop.launch.link import Message
    from scoop.launch.plan import Share
    from scoop.launch.spawn import AgentHandle

TAIL_BYTES = 4096
ANY = "*"
FIRST = 1
"""Number of this host's broker."""

TRIES, PAUSE_S = 3, 1.0
"""How often in a row another ssh is tried for a host, and how long after the one before."""

SSH_FAILED = 255
"""Exit status of an ssh that has lost its connection, or gets none."""


class HostLink:
    """An agent of the job, and what has come of it.

    Attributes:
        number: of its broker, and in messages of its own.
        name: as it was given; of its workers and their output too.
        base: random, of its workers' incarnations.
        leader: the one whose broker its workers connect to; mostly itself.
        broker, hello: what that one has said; None so far.
        failure: why it cannot take part; empty if it can.
        ready: its broker knows the keys of all others.
        workers: how many processes compute there, this one not counted.
        gone, leaving: it has ended; it will when its tasks are over.
        silent: its kernel does not answer.
        by_ssh: it is reached by ssh, and by nothing else: another one can follow.
        alive: numbers of the workers that run.
    """

    def __init__(self, number: int, share: Share) -> None:
        self.number = number
        self.share = share
        self.name = share.host.name
        self.base = 0
        self.handle: AgentHandle | None = None
        self.leader: HostLink = self
        self.broker: dict[str, Any] | None = None
        self.hello: dict[str, Any] | None = None
        self.failure = ""
        self.ready = False
        self.gone = False
        self.leaving = False
        self.silent = False
        self.by_ssh = False
        self.workers = 0
        self.alive: set[int] = set()
        self.keys = os.urandom(32)  # of this host's broker: one that follows it has the same
        self._told: list[Message] = []
        self._tail = b""
        self._tries = 0  # of another ssh, in a row
        self._lock = threading.Lock()  # no handle follows the last one
        self._over = False

    @property
    def leads(self) -> bool:
        """Whether it has a broker of its own."""
        return self.leader is self

    @property
    def far(self) -> bool:
        """Whether the broker that its workers connect to is on another host."""
        if self.leads or self.hello is None or self.leader.hello is None:
            return False
        return bool(self.hello["host"] != self.leader.hello["host"])

    def greet(self, hello: Message) -> None:
        """Take what its agent says first."""
        self.hello = hello

    def is_up(self) -> bool:
        """Whether its workers can be, or have been, started."""
        return self.hello is not None and self.leader.broker is not None

    def start(self, way: remote.Way, job: str) -> None:
        """Start its agent's command. Raises OSError if that cannot be done."""
        job = f"{job}-{self.number}"  # what it leaves is swept, and nothing of another on the same host
        command = way.agent(os.getpid()) if self.share.local else way.to(self.share.host, job, self.number)
        self.by_ssh = not self.share.local and way.launcher is None and way.tunnel is None
        self._connect(command, job, way)

    def _connect(self, command: list[str], job: str, way: remote.Way) -> None:
        self.handle, errors = remote.connect(command, job)
        shown = without_chatter if way.tunnel is not None else bytes
        threading.Thread(
            target=self._read_errors, args=(errors, shown), name="scoop-errors", daemon=True
        ).start()

    def start_again(self, way: remote.Way, job: str) -> None:
        """The same after its agent has died; its broker will have the keys and addresses that it had."""
        from scoop.launch.boot import incarnation_of

        if self.handle is not None:
            self.handle.close(0.0)
        for index in self.alive:
            node = incarnation_of(self.base, index, self.number)
            self._told.append({"op": "lost", "node": node, "owner": 0, "task": 0, "detail": b""})
        self.alive.clear()
        self.hello, self.gone = None, False
        self.start(way, job)

    def reach_again(self, way: remote.Way, job: str) -> bool:
        """After the link's end: connect with an agent that may be there all the same.

        Returns:
            Whether that makes sense and has been begun; the agent says "again" if it is there. May block for
            some seconds.
        """
        assert self.handle is not None
        if not (self.by_ssh and self.leads and self.broker is not None) or self.silent or self.leaving:
            return False
        status = self.handle.drop()
        if status is not None and os.WIFEXITED(status) and os.WEXITSTATUS(status) != SSH_FAILED:
            return False  # the command itself has ended, so the agent has
        if self._tries == TRIES:
            return False
        if self._tries:
            time.sleep(PAUSE_S)
        self._tries += 1
        with self._lock:
            if self._over:
                return False
            try:
                self._connect(way.again(self.share.host, self._run_dir()), f"{job}-{self.number}", way)
            except OSError:
                return False
        return True

    def is_reached_again(self, message: Message, gone: list[int]) -> None:
        """Its agent has another link, and has said so; it hears which hosts have gone meanwhile."""
        self._tries = 0
        self.alive = set(message["alive"])
        for number in gone:
            self.send({"op": "gone", "number": number})

    def last_handle(self) -> AgentHandle | None:
        """The handle, after which none follows."""
        with self._lock:
            self._over = True
            return self.handle

    def before(self) -> Message | None:
        """What a broker that follows another one has to know, None if there was none; see `hosted`."""
        if self.broker is None or not self.leads:
            return None
        return {"bound": self.broker["bound"], "told": self._told, "folder": self._run_dir()}

    def _run_dir(self) -> str:
        assert self.broker is not None
        return os.path.dirname(str(self.broker["local"]).removeprefix("ipc://"))

    def send(self, message: Message) -> None:
        """Send its agent a message, unless that is gone."""
        if message["op"] in TO_BROKER and self.share.local:
            self._told.append(message)
        try:
            if self.handle is not None and not self.gone:
                self.handle.send(message)
        except AgentLost:
            pass  # the thread that reads from it tells

    def _read_errors(self, errors: int, shown: Callable[[bytes], bytes]) -> None:
        # What the command itself says: why it has failed, and warnings of the login there.
        while True:
            data = os.read(errors, TAIL_BYTES)
            if not data:
                os.close(errors)
                return
            data = shown(data)
            self._tail = (self._tail + data)[-TAIL_BYTES:]
            if self.broker is not None:
                sys.stderr.write(data.decode(errors="replace"))

    def last_words(self) -> str:
        """The end of what its command wrote to standard error."""
        time.sleep(0.05)  # the thread that reads it may be a moment behind
        lines = self._tail.decode(errors="replace").strip().splitlines()
        return "; ".join(line.strip() for line in lines[-4:]) or "its command ended without a word"


def own_address(others: list[str]) -> str:
    """Where this host's broker listens: its address on the way to the first other whose name it knows.

    Names that only ssh knows, or that nobody knows, say nothing; if there is no other kind, all addresses.
    """
    for name in others:
        try:
            return route_to(name)
        except OSError:
            continue
    return ANY if others else "127.0.0.1"


def tell_loss(host: HostLink, hosts: list[HostLink]) -> None:
    """Let the brokers know that a host is gone."""
    from scoop.launch.boot import incarnation_of

    if host.leads:
        for other in hosts:
            if other.leader is host and other is not host and other.handle is not None:
                other.handle.stop(0.0)  # its workers have lost their broker
            elif other.leads and other is not host:
                other.send({"op": "gone", "number": host.number})
    else:
        for index in sorted(host.alive):
            node = incarnation_of(host.base, index, host.leader.number)
            host.leader.send({"op": "lost", "node": node, "owner": 0, "task": 0, "detail": b""})


def end_all(hosts: list[HostLink], grace_s: float, take: Callable[[HostLink, Message], None]) -> None:
    """Stop all agents at once, and wait; what their workers still have said goes to `take`."""

    def end(host: HostLink) -> None:
        handle = host.last_handle()
        assert handle is not None
        for message in handle.close(grace_s):
            if message.get("op") == "output":
                take(host, message)

    enders = [
        threading.Thread(target=end, args=(host,), name="scoop-finish")
        for host in hosts
        if host.handle is not None
    ]
    for ender in enders:
        ender.start()
    for ender in enders:
        ender.join()
