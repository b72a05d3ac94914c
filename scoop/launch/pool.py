"""The workers of one host and what the origin needs to use them."""

from __future__ import annotations

import contextvars
import logging
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

from scoop import pickling
from scoop._core.broker import Broker
from scoop._core.desk import Desk
from scoop._core.net import Context, Socket
from scoop._core.node import Node
from scoop._core.session import Session
from scoop.errors import PoolLost, StartupFailed
from scoop.executor import Future
from scoop.launch import cores, rundir
from scoop.launch.boot import ENTRY, incarnation_of, start_driver
from scoop.launch.spawn import AgentHandle, AgentLost
from scoop.losses import pack_loss

_GRACE_S = 2.0
_AGENT_RESTARTS_MAX = 3

log = logging.getLogger("scoop")


class Pool:
    """A broker in this process, workers behind it, and the session that submits to them.

    Args:
        workers: worker processes beside this one; 0 is allowed unless `remote_only`.
        remote_only: calls never run in this process (an Executor).
        initializer, initargs: called once in each worker before its first task.
        seed: 16 bytes that all random generators of the job derive from; random if None.
        copy: a call that runs here sees copies of its arguments, as one that runs elsewhere does.
    """

    def __init__(
        self,
        workers: int,
        *,
        remote_only: bool = False,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        seed: bytes | None = None,
        copy: bool = True,
    ) -> None:
        self.workers = workers
        self.seed = seed if seed is not None else os.urandom(16)
        self.failure: BaseException | None = None
        self._setup = pickling.dumps_args((initializer, *initargs), None, "initializer") if initializer else b""
        self._copy = copy
        self._agent: AgentHandle | None = None
        self._agents_started = 0
        self._alive: dict[int, int] = {}
        self._finished = threading.Event()
        self._finish_lock = threading.Lock()
        self._run_dir = rundir.make_run_dir() if workers else ""
        self._context = Context() if workers else None
        self._socket = self._bind() if workers else None
        self.node = Node(Desk(_random_incarnation(), remote_only), Broker(self._socket))
        self.session = Session(self.node, contextvars.copy_context(), True, Future, self.seed)
        self.session.copy = copy
        self._threads = [start_driver(self.node, "scoop-driver")]
        self._threads.append(_daemon(self.session.tell_noticed, "scoop-notifier"))
        self.node.start_leading()
        if workers:
            self._start_agent()
            self._threads.append(_daemon(self._supervise, "scoop-supervisor"))

    def _bind(self) -> Socket:
        socket = Socket(self._context, "router")
        socket.bind(f"ipc://{self._run_dir}/broker")
        return socket

    def _start_agent(self) -> None:
        self._base = _random_incarnation()
        self._agents_started += 1
        available = cores.available_cores()
        total = self.workers + (0 if self.node.desk.remote_only else 1)
        self._agent = AgentHandle.start(
            self.workers,
            ENTRY,
            preload=["scoop.launch.boot", "scoop.executor", "scoop.current"],
            spec={
                "base": self._base,
                "broker": f"ipc://{self._run_dir}/broker",
                "seed": self.seed,
                "copy": self._copy,
                "initializer": self._setup,
                "size": total,
                "run_dirs": [self._run_dir],
                "level": log.getEffectiveLevel(),
                "main": getattr(sys.modules.get("__main__"), "__file__", None) or "",
            },
            env=cores.thread_caps(max(total, 1), available, os.environ),
        )

    # ------------------------------------------------------------------------------------ submitting

    def submit(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Make the future of a call; raises what broke the pool, if something did."""
        if self.failure is not None:
            raise self.failure
        return self.session.submit(fn, args, kwargs)

    # ----------------------------------------------------------------------------------- supervising

    def _supervise(self) -> None:
        # One thread reads what the agent says; it sleeps in read() otherwise.
        while not self._finished.is_set():
            agent = self._agent
            messages = agent.receive() if agent is not None else []
            if not messages:
                if self._finished.is_set() or not self._agent_lost():
                    return
            for message in messages:
                try:
                    self._on_message(message)
                except Exception:
                    log.exception("a message of the agent could not be handled: %r", message)

    def _on_message(self, message: dict[str, Any]) -> None:
        op = message["op"]
        if op == "output":
            stream = sys.stdout if message["stream"] == 1 else sys.stderr
            stream.write(message["data"].decode(errors="replace"))
            stream.flush()
        elif op == "started":
            self._alive[message["worker"]] = message["pid"]
        elif op == "died":
            self._on_died(message)
        elif op == "failed":
            self._on_failed(message["error"])

    def _on_died(self, message: dict[str, Any]) -> None:
        index = message["worker"]
        self._alive.pop(index, None)
        incarnation = incarnation_of(self._base, index)
        if self._finished.is_set() or (message.get("planned") and not message.get("running")):
            self.node.report_lost(incarnation, 0, 0, b"")
            return
        owner, task = _blamed(message.get("running") or [], incarnation)
        how = f"signal {message['signal']}" if message.get("signal") else f"exit status {message.get('exitcode')}"
        log.warning("worker %d (pid %d) died: %s%s", index, message["pid"], how,
                    "; its task is run again elsewhere" if task else "")
        self.node.report_lost(incarnation, owner, task, pack_loss(message) if task else b"")

    def _on_failed(self, text: str) -> None:
        self.failure = StartupFailed(f"the workers of scoop cannot be started: {text.strip()}")
        if self.node.desk.remote_only:
            self.session.fail_all(self.failure)
        else:
            # This process can do all of the work itself, so the program goes on.
            log.error("%s; the program goes on without workers", self.failure)
            self.failure = None

    def _agent_lost(self) -> bool:
        """The agent died, and its workers with it. Start another one, unless that keeps happening."""
        for index in list(self._alive):
            self.node.report_lost(incarnation_of(self._base, index), 0, 0, b"")
        self._alive.clear()
        if self._agents_started <= _AGENT_RESTARTS_MAX:
            log.warning("the agent of this host died and its workers with it; starting them again")
            self._start_agent()
            return True
        self._on_failed("the agent of this host died again and again")
        return False

    # ---------------------------------------------------------------------------------------- ending

    def finish(self, *, wait: bool = True, cancel: bool = False) -> None:
        """End the pool: calls that are outstanding finish first, or are cancelled. Safe to call twice.

        Args:
            wait: return when all is over; otherwise a thread does the same.
            cancel: cancel calls that have not started.
        """
        if not wait:
            threading.Thread(target=self.finish, kwargs={"cancel": cancel}, name="scoop-finish").start()
            return
        with self._finish_lock:
            if self._finished.is_set():
                return
            try:
                if cancel:
                    self.session.cancel_queued()
                if self.failure is None:
                    self.session.drain()
            finally:
                self._close(_GRACE_S)

    def join(self) -> None:
        """Wait until a `finish` elsewhere is over."""
        with self._finish_lock:
            pass

    def abandon(self, reason: str) -> None:
        """End everything now; outstanding futures fail with PoolLost."""
        with self._finish_lock:
            if not self._finished.is_set():
                self.session.fail_all(PoolLost(reason))
                self._close(0.0)

    def _close(self, grace_s: float) -> None:
        self._finished.set()
        self.session.closed = True
        if self._agent is not None:
            try:
                if grace_s:
                    self.node.stop_others()
                for message in self._agent.close(grace_s):
                    if message.get("op") == "output":
                        self._on_message(message)
            except AgentLost:
                pass
        self.node.stop()
        self.session.wake_helper()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(2.0)
        if self._socket is not None and self._context is not None:
            self._socket.close()
            self._context.close()
        if self._run_dir:
            rundir.remove_run_dir(self._run_dir)


def _blamed(running: list[list[Any]], dead: int) -> tuple[int, int]:
    """The task to blame for a death: the innermost that another process owns."""
    for owner, task, *_ in reversed(running):
        if owner != dead:
            return owner, task
    return 0, 0


def _random_incarnation() -> int:
    return int.from_bytes(os.urandom(8), "little") | 1


def _daemon(target: Callable[[], None], name: str) -> threading.Thread:
    thread = threading.Thread(target=target, name=name, daemon=True)
    thread.start()
    return thread
