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

from scoop.config import Config
from scoop.errors import PoolLost, StartupFailed
from scoop.launch import exits, logs, remote
from scoop.launch.hosted import route_to
from scoop.launch.keyring import new_incarnation, versions
from scoop.launch.origin import Origin, how_it_died, random_incarnation, set_up_log
from scoop.launch.output import Output
from scoop.launch.plan import Share
from scoop.launch.spawn import AgentHandle, AgentLost

PRELOAD = ("scoop.launch.boot", "scoop.future", "scoop.current")
START_S = 30.0
"""How long all hosts together may take to start."""

TAIL_BYTES = 4096
ANY = "*"
WORKERS_PER_HOST = 100_000  # numbers of workers in messages: host times this, plus the worker's own

log = logging.getLogger("scoop")


class HostLink:
    """One host of the job, as the origin sees it."""

    def __init__(self, number: int, share: Share) -> None:
        self.number = number
        self.share = share
        self.name = share.host.name
        self.handle: AgentHandle | None = None
        self.broker: dict[str, Any] | None = None
        self.hello: dict[str, Any] | None = None
        self.failure = ""
        self.ready = False
        self.gone = False
        self.workers = 0
        self._tail = b""
        self._errors = -1

    def start(self, way: remote.Way, job: str) -> None:
        """Start its agent's command. Raises OSError if that cannot be done."""
        job = f"{job}-{self.number}"  # what it leaves is swept, and nothing of another on the same host
        if self.share.local:
            command = way.agent(os.getpid())
        else:
            command = way.by_ssh(self.share.host, job)
        self.handle, self._errors = remote.connect(command, job)
        threading.Thread(target=self._read_errors, name="scoop-errors", daemon=True).start()

    def _read_errors(self) -> None:
        # What the command itself says: why it has failed, and warnings of the login there.
        while True:
            data = os.read(self._errors, TAIL_BYTES)
            if not data:
                os.close(self._errors)
                return
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


class Job(Origin):
    """A pool on several hosts.

    Args:
        shares: the hosts, this one first, and how many workers each has.
        way: how to start something there.
        config: options; its `workers` is not looked at.
        name: under which other hosts reach this one; found out if empty.
        missing_max: so many hosts may fail to start.

    Raises:
        StartupFailed: a host cannot be started; the text names it and says why.
    """

    def __init__(
        self, shares: list[Share], way: remote.Way, config: Config, name: str = "", missing_max: int = 0
    ) -> None:
        super().__init__(0, total=1, config=config)
        set_up_log(config)
        self._way = way
        self._bind = own_address([share.host.name for share in shares if not share.local])
        self._name = name or (socket.gethostname() if self._bind == ANY else self._bind)
        self._missing_max = missing_max
        self._id = os.urandom(8).hex()
        self._overlay_seed = int.from_bytes(os.urandom(4), "little")
        self._hosts = [HostLink(number, share) for number, share in enumerate(shares, 1)]
        self._changed = threading.Condition()
        self._running = False
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
            while not all(host.broker or host.failure for host in self._hosts):
                if self._hosts[0].failure or self._too_many_failed():
                    break
                if not self._changed.wait(deadline - time.monotonic()):
                    break
        for host in self._hosts:
            if not host.broker and not host.failure and not self._too_many_failed():
                host.failure = f"no answer within {START_S:g} s ({host.last_words()})"
        failed = [host for host in self._hosts if host.failure]
        if self._hosts[0].failure or self._too_many_failed():
            raise StartupFailed("\n".join(f"host {host.name}: {host.failure}" for host in failed))
        for host in failed:
            log.warning("host %s is missing: %s", host.name, host.failure)
            self._drop(host)
        self._hosts = [host for host in self._hosts if not host.failure]
        self._introduce(deadline)

    def _too_many_failed(self) -> bool:
        return sum(bool(host.failure) for host in self._hosts) > self._missing_max

    def _introduce(self, deadline: float) -> None:
        # Nobody is sent to a gate that does not know him yet: libzmq does not try again after a refusal.
        keys = ("number", "address", "meta", "public")
        peers = [{key: host.broker[key] for key in keys} for host in self._hosts if host.broker]
        for host in self._hosts:
            self._send(host, {"op": "allow", "peers": peers})
        with self._changed:
            while not all(host.ready or host.failure for host in self._hosts):
                if not self._changed.wait(deadline - time.monotonic()):
                    break
        lost = [host.name for host in self._hosts if not host.ready]
        if lost:
            raise StartupFailed(f"lost while the job was starting: {', '.join(lost)}")
        for host in self._hosts:
            self._send(host, {"op": "peers", "peers": peers})

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
        log.info("%d workers on %d hosts", self._total, len(self._hosts))

    # ----------------------------------------------------------------------------------- supervising

    def _attend(self, host: HostLink) -> None:
        """Body of a host's thread: reads what its agent says."""
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
        self._on_gone(host)

    def _on_message(self, host: HostLink, message: dict[str, Any]) -> None:
        op = message["op"]
        if op == "hello":
            self._on_hello(host, message)
        elif op == "broker":
            with self._changed:
                host.broker = message
                self._changed.notify_all()
        elif op == "allowed":
            with self._changed:
                host.ready = True
                self._changed.notify_all()
        elif op == "output":
            worker = host.number * WORKERS_PER_HOST + message["worker"]
            prefix = b"" if host.share.local else f"{host.name}: ".encode()
            self._output.put(worker, message["stream"], message["data"], prefix)
        elif op == "died":
            self._output.worker_ended(host.number * WORKERS_PER_HOST + message["worker"])
            if not message.get("planned") and not self._finished.is_set():
                which = f"{host.name}-{message['worker']}"
                log.warning("worker %s (process %d) died: %s", which, message["pid"], how_it_died(message))
        elif op == "failed":
            self._fail(host, message["error"].strip())

    def _on_hello(self, host: HostLink, message: dict[str, Any]) -> None:
        ours = versions()
        for name, there in message["versions"].items():
            if ours.get(name) != there:
                self._fail(
                    host, f"it has {name} {there}, this host has {name} {ours.get(name)}: use the same"
                )
                return
        host.hello = message
        count = host.share.count if host.share.count is not None else message["cores"]
        host.workers = count - 1 if host.share.local else count
        base = random_incarnation()
        host.handle.send(self._start_message(host, base))  # type: ignore[union-attr]

    def _start_message(self, host: HostLink, base: int) -> dict[str, Any]:
        from scoop.launch import boot, cores

        local = host.share.local
        assert host.hello is not None
        processes = host.workers + (1 if local else 0)
        caps = cores.thread_caps(
            max(processes, 1), host.hello["cores"], os.environ, threads=self.config.threads
        )
        return {
            "op": "start",
            "count": host.workers,
            "entry": boot.ENTRY,
            "preload": list(PRELOAD),
            "env": caps,
            "sys_path": [*filter(None, [self._way.pythonpath]), *sys.path],
            "cwd": self._way.folder,
            "broker": {
                "number": host.number,
                "bind": self._bind if local else "",
                "name": self._name if local else "",
                "origin": self._name,
                "seed": self._overlay_seed,
            },
            "spec": {
                "base": base,
                "home": host.number,
                "seed": self.seed,
                "copy": self._copy,
                "initializer": b"",
                "size": sum(other.share.count or 1 for other in self._hosts),
                "level": log.getEffectiveLevel(),
                "levels": logs.describe(),
            },
        }

    def _fail(self, host: HostLink, reason: str) -> None:
        with self._changed:
            host.failure = host.failure or reason
            self._changed.notify_all()
        if self._running and not self._finished.is_set():
            log.error("host %s: %s", host.name, reason)
            self._nobody_left(StartupFailed(f"no host has workers any more; host {host.name}: {reason}"))

    def _nobody_left(self, failure: BaseException) -> None:
        # A program that runs tasks itself goes on alone.
        if self.config.origin_idle and all(
            host.gone or host.failure or not host.workers for host in self._hosts
        ):
            self._break(failure)

    def _on_gone(self, host: HostLink) -> None:
        """Its agent is gone, and everything of this job on that host with it."""
        host.gone = True
        if not self._running:
            self._fail(host, host.last_words() if host.hello is None else "its agent ended")
            return
        if self._finished.is_set():
            return
        log.warning("host %s is gone, and its workers with it", host.name)
        if host.share.local:
            self._break(PoolLost("the agent of this host is gone"))
            return
        for other in self._hosts:
            if other is not host:
                self._send(other, {"op": "gone", "number": host.number})
        self._nobody_left(PoolLost(f"host {host.name} was the last one with workers, and it is gone"))

    def _send(self, host: HostLink, message: dict[str, Any]) -> None:
        try:
            if host.handle is not None and not host.gone:
                host.handle.send(message)
        except AgentLost:
            pass  # its thread tells

    # ----------------------------------------------------------------------------------------- ending

    def forget(self) -> None:
        """In a forked child: let go of what belongs to the parent, changing nothing of it."""
        for host in self._hosts:
            if host.handle is not None:
                host.handle.forget()
        super().forget()

    def _kill(self) -> None:
        for host in self._hosts:
            if host.handle is not None:
                host.handle.stop(0.0)

    def _stop(self, grace_s: float) -> None:
        if grace_s:
            self.node.stop_others()
        self._end_hosts(grace_s)

    def _end_hosts(self, grace_s: float) -> None:
        enders = [
            threading.Thread(target=self._end_host, args=(host, grace_s), name="scoop-finish")
            for host in self._hosts
            if host.handle is not None
        ]
        for ender in enders:
            ender.start()
        for ender in enders:
            ender.join()

    def _end_host(self, host: HostLink, grace_s: float) -> None:
        assert host.handle is not None
        for message in host.handle.close(grace_s):
            if message.get("op") == "output":
                self._on_message(host, message)

    def _drop(self, host: HostLink) -> None:
        if host.handle is not None:
            host.handle.close(0.0)

    def _clean(self) -> None:
        self._socket.close()
        self._context.close()
        self._output.close()
