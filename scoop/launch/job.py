"""A job on several hosts, in the origin: an agent and a broker on each; this process is a node of the first.

All hosts are started at once, by one thread each, which later reads what its agent says. A host that cannot
be started is named with the reason, and unless so many may be missing nothing is left running.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
import time
from typing import Any

from scoop.errors import PoolLost, StartupFailed
from scoop.launch import exits, orders, survey
from scoop.launch.hostlink import ANY, FIRST, HostLink, end_all, own_address, tell_loss
from scoop.launch.keyring import differing, new_incarnation
from scoop.launch.origin import Origin, how_it_died, random_incarnation, set_up_log
from scoop.launch.output import Output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from scoop.config import Config
    from scoop.launch import remote
    from scoop.launch.invitation import Invitation
    from scoop.launch.plan import Share
    from scoop.launch.spawn import AgentHandle

START_S = 30.0
"""How long all hosts together may take to start."""

WORKERS_PER_HOST = 100_000  # numbers of workers in messages: host times this, plus the worker's own

log = logging.getLogger("scoop")


class Job(Origin):
    """A pool on several hosts.

    Args:
        shares: the hosts, this one first, and how many workers each has.
        way: how to start something there.
        config: options; its `workers` is not looked at.
        name: under which other hosts reach this one; found out if empty.
        missing_max: so many hosts may fail to start.
        links: makes the link to a host from its number and share.
        bind: where this host's broker listens; found out if empty.
        brokers: so many hosts have one; the workers of others go to those. 0: each host.

    Raises:
        StartupFailed: a host cannot be started; the text names it and says why.
    """

    def __init__(
        self,
        shares: list[Share],
        way: remote.Way,
        config: Config,
        name: str = "",
        missing_max: int = 0,
        links: Callable[[int, Share], HostLink] = HostLink,
        bind: str = "",
        brokers: int = 0,
    ) -> None:
        super().__init__(0, total=1, config=config)
        set_up_log(config)
        self._way = way
        self._bind = bind or own_address([share.host.name for share in shares if not share.local])
        self._name = name or (socket.gethostname() if self._bind == ANY else self._bind)
        self._missing_max = missing_max
        self._brokers = brokers
        self._id = os.urandom(8).hex()
        self._overlay_seed = int.from_bytes(os.urandom(4), "little")
        self._hosts = [links(number, share) for number, share in enumerate(shares, FIRST)]
        self._changed = threading.Condition()
        self._running = False
        self._restarts = 0
        self._invitation: Invitation | None = None
        self._output = Output()
        self._context: Any = None
        self._socket: Any = None
        exits.register(self)
        try:
            self._start_hosts()
            self._connect()
        except BaseException:
            exits.forget(self)
            self._finished.set()
            self._end_hosts(0.0)
            self._output.close()
            self._close_tunnel()
            raise

    # --------------------------------------------------------------------------------------- starting

    def _start_hosts(self) -> None:
        for host in self._hosts:
            try:
                host.start(self._way, self._id)
            except OSError as error:
                host.failure = str(error)
        readers = [
            threading.Thread(target=self._attend, args=(host,), name="scoop-supervisor", daemon=True)
            for host in self._hosts
            if host.handle is not None
        ]
        for reader in readers:
            reader.start()
        deadline = time.monotonic() + START_S
        with self._changed:
            while not all(host.is_up() or host.failure for host in self._hosts):
                if self._hosts[0].failure or self._too_many_failed():
                    break
                if not self._changed.wait(deadline - time.monotonic()):
                    break
        for host in self._hosts:
            if not host.is_up() and not host.failure and not self._too_many_failed():
                host.failure = f"no answer within {START_S:g} s ({host.last_words()})"
        failed = [host for host in self._hosts if host.failure]
        if self._hosts[0].failure or self._too_many_failed():
            raise StartupFailed("\n".join(f"host {host.name}: {host.failure}" for host in failed))
        for host in failed:
            log.warning("host %s is missing: %s", host.name, host.failure)
            if host.handle is not None:
                host.handle.close(0.0)
        self._hosts = [host for host in self._hosts if not host.failure]
        self._introduce(deadline)

    def _too_many_failed(self) -> bool:
        return sum(bool(host.failure) for host in self._hosts) > self._missing_max

    def _introduce(self, deadline: float) -> None:
        # Nobody is sent to a gate that does not know him yet: libzmq does not try again after a refusal.
        keys = ("number", "address", "meta", "public")
        peers = [{key: host.broker[key] for key in keys} for host in self._hosts if host.broker]
        leaders = [host for host in self._hosts if host.leads]
        for host in leaders:
            host.send({"op": "allow", "peers": peers})
        with self._changed:
            while not all(host.ready or host.failure for host in leaders):
                if not self._changed.wait(deadline - time.monotonic()):
                    break
        lost = [host.name for host in self._hosts if host.failure or (host.leads and not host.ready)]
        if lost:
            raise StartupFailed(f"lost while the job was starting: {', '.join(lost)}")
        for host in leaders:
            seen = peers if self._way.tunnel is None else self._way.tunnel.seen_from(host, peers)
            host.send({"op": "peers", "peers": seen})

    def admit(self, invitation: Invitation) -> None:
        """Let processes elsewhere join; raises StartupFailed if that is not possible. Blocks."""
        self._invitation = invitation
        self.notes.append(survey.JOINED)
        invitation.open(self._hosts[0], self._changed, self.seed)

    def _connect(self) -> None:
        from scoop import current
        from scoop._core.desk import Desk
        from scoop._core.net import Context, Socket
        from scoop._core.node import Node

        here = self._hosts[0]
        assert here.broker is not None
        self.workers = sum(host.workers for host in self._hosts)
        self._total = self.workers + 1
        incarnation = new_incarnation(here.number)
        self._context = Context()
        self._socket = Socket(self._context, "dealer", incarnation.to_bytes(8, sys.byteorder), 1000)
        self._socket.connect(here.broker["local"])
        desk = Desk(incarnation, self.config.origin_idle, self.config.crash_limit)
        self._open(Node(desk, None, self._socket))
        self.node.hello(2, "origin")
        current.size = self._total
        self._running = True
        log.info("%d workers on %d hosts", self._total, sum(host.leads for host in self._hosts))

    # ----------------------------------------------------------------------------------- supervising

    def _attend(self, host: HostLink) -> None:
        """Body of a host's thread: reads what its agent says."""
        self._hear(host)
        while self._running and not self._ending() and host.reach_again(self._way, self._id):
            log.warning("host %s: its connection has ended; another one is tried", host.name)
            self._hear(host)
        self._on_gone(host)

    def _hear(self, host: HostLink) -> None:
        assert host.handle is not None
        while True:
            try:
                messages = host.handle.receive()
            except ValueError as error:
                messages = []
                host.failure = host.failure or f"it does not speak as an agent does: {error}"
            if not messages:
                break
            for message in messages:
                try:
                    self._on_message(host, message)
                except Exception as error:
                    if self._running:
                        log.exception("a message of host %s could not be handled", host.name)
                    else:
                        self._fail(host, f"it cannot be started: {type(error).__name__}: {error}")

    def _on_message(self, host: HostLink, message: dict[str, Any]) -> None:
        op = message["op"]
        if op == "hello":
            self._on_hello(host, message)
        elif op == "broker":
            if self._way.tunnel is not None:
                problem = self._way.tunnel.join(host, message, [other.number for other in self._hosts])
                if problem:
                    self._fail(host, problem)
                    return
            with self._changed:
                host.broker = message
                followers = [other for other in self._hosts if other.leader is host and other is not host]
                self._changed.notify_all()
            for other in followers:
                if other.hello is not None:
                    other.send(self._start_order(other))
        elif op == "allowed":
            with self._changed:
                host.ready = True
                self._changed.notify_all()
        elif op == "output":
            worker = host.number * WORKERS_PER_HOST + message["worker"]
            prefix = b"" if host.share.local else f"{host.name}: ".encode()
            self._output.put(worker, message["stream"], message["data"], prefix)
        elif op == "started":
            host.alive.add(message["worker"])
        elif op == "died":
            self._on_death(host, message)
        elif op == "lost":
            host.leader.send(message)
        elif op == "guests":
            host.leader.send({**message, "host": host.number})
        elif op == "admitted":
            for other in self._hosts:
                if other.number == message["host"]:
                    other.send({"op": "admitted"})
        elif op == "silent":
            self._on_silent(message)
        elif op == "succession" and not self._ending():
            log.warning("host %s: %s; it is started again", host.name, message["how"])
        elif op == "again":
            host.is_reached_again(message, [other.number for other in self._hosts if other.gone])
            log.warning("host %s is connected again", host.name)
        elif op == "leaving":
            host.leaving = True
            log.info("host %s leaves: it was told to by a signal", host.name)
        elif op == "failed":
            self._fail(host, message["error"].strip())
        else:
            self._on_news(host.number, message, f"{host.name}-")

    def links(self) -> list[survey.Link]:
        """The agents of all hosts."""
        return survey.links_of(self._hosts)

    def _on_death(self, host: HostLink, message: dict[str, Any]) -> None:
        host.alive.discard(message["worker"])
        self._output.worker_ended(host.number * WORKERS_PER_HOST + message["worker"])
        self._note_death(message)
        if not message.get("planned") and not self._ending():
            which = f"{host.name}-{message['worker']}"
            log.warning("worker %s (process %d) died: %s", which, message["pid"], how_it_died(message))

    def _on_hello(self, host: HostLink, message: dict[str, Any]) -> None:
        unequal = differing(message["versions"])
        if unequal:
            self._fail(host, f"{unequal}: use the same")
            return
        count = host.share.count if host.share.count is not None else message["cores"]
        host.workers = count - 1 if host.share.local else count
        host.base = random_incarnation()
        with self._changed:
            host.greet(message)
            host.leader = self._leader_of(host)
            can_start = host.leads or host.leader.broker is not None
            self._changed.notify_all()
        if can_start:
            host.send(self._start_order(host))

    def _leader_of(self, host: HostLink) -> HostLink:
        """Whose broker a host's workers connect to; the first hosts, or all, have one of their own."""
        if self._brokers and host.number > self._brokers:
            return self._hosts[(host.number - FIRST) % self._brokers]
        return host

    def _start_order(self, host: HostLink) -> dict[str, Any]:
        broker = {"bind": self._bind, "name": self._name, "origin": self._name, "seed": self._overlay_seed}
        job = {"seed": self.seed, "copy": self._copy, "size": sum(h.share.count or 1 for h in self._hosts)}
        return orders.start(host, self._way, self.config, broker, job)

    def _fail(self, host: HostLink, reason: str) -> None:
        missing = f"its broker is that of host {host.name}, which is missing"
        with self._changed:
            host.failure = host.failure or reason
            for other in self._hosts:
                if other.leader is host and other is not host and not self._running:
                    other.failure = other.failure or missing
            self._changed.notify_all()
        if self._running and not self._finished.is_set():
            log.error("host %s: %s", host.name, reason)
            self._nobody_left(StartupFailed(f"no host has workers any more; host {host.name}: {reason}"))

    def _nobody_left(self, failure: BaseException) -> None:
        # A program that runs tasks itself goes on alone.
        left = [host for host in self._hosts if not (host.gone or host.failure) and host.workers]
        if self.config.origin_idle and not left:
            self._break(failure)

    def _on_silent(self, message: dict[str, Any]) -> None:
        """The kernel of a host does not answer: its agent's link would take long to notice."""
        for host in self._hosts:
            if host.number == message["number"] and not host.gone and host.handle is not None:
                log.warning("host %s: %s", host.name, message["how"])
                host.silent = True
                host.handle.give_up()

    def _on_gone(self, host: HostLink) -> None:
        """Its agent is gone, and everything of this job on that host with it."""
        host.gone = True
        if not self._running:
            self._fail(host, host.last_words() if host.hello is None else "its agent ended")
            return
        if self._ending():
            return
        if host.leaving:
            log.info("host %s has left", host.name)
        else:
            log.warning("host %s is gone, and its workers with it", host.name)
        if host.share.local:
            self._follow(host)
            return
        tell_loss(host, self._hosts)
        self._nobody_left(PoolLost(f"host {host.name} was the last one with workers, and it is gone"))

    def _follow(self, host: HostLink) -> None:
        """Start this host's agent again, and with it its workers and the broker of the program."""
        for index in host.alive:
            self._output.worker_ended(host.number * WORKERS_PER_HOST + index)
        self._restarts += 1
        if host.leaving or self._restarts > self.config.agent_restarts:
            self._break(PoolLost("the agent of this host is gone"))
            return
        log.warning("the agent of this host is started again")
        try:
            host.start_again(self._way, self._id)
        except OSError as error:
            self._break(PoolLost(f"the agent of this host is gone, and cannot be started again: {error}"))
            return
        self._attend(host)

    # ----------------------------------------------------------------------------------------- ending

    def forget(self) -> None:
        """In a forked child: let go of what belongs to the parent, changing nothing of it."""
        for host in self._hosts:
            if host.handle is not None:
                host.handle.forget()
        super().forget()

    def _last_handles(self) -> list[AgentHandle]:
        return [handle for host in self._hosts if (handle := host.last_handle()) is not None]

    def _kill(self) -> None:
        for handle in self._last_handles():
            handle.stop(0.0)

    def _give_up(self) -> None:
        for handle in self._last_handles():
            handle.give_up()

    def _stop(self, grace_s: float) -> None:
        if grace_s:
            self.node.stop_others()
        self._end_hosts(grace_s)

    def _end_hosts(self, grace_s: float) -> None:
        end_all(self._hosts, grace_s, self._on_message)

    def _clean(self) -> None:
        if self._invitation is not None:
            self._invitation.withdraw()
        self._socket.close()
        self._context.close()
        self._output.close()
        self._close_tunnel()

    def _close_tunnel(self) -> None:
        if self._way.tunnel is not None:
            self._way.tunnel.close()
