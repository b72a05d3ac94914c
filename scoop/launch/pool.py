"""The workers of one host and what the origin needs to use them.

The agent is started before anything else is imported here: it boots while this process prepares the rest.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys

from scoop.config import Config
from scoop.launch import exits
from scoop.launch.origin import (
    Origin,
    daemon,
    how_it_died,
    place_of_profiles,
    random_incarnation,
    set_up_log,
)
from scoop.launch.spawn import AgentHandle, AgentLost
from scoop.launch.survey import Link

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from scoop._core.net import Context, Socket

_PRELOAD = ("scoop.launch.boot", "scoop.future", "scoop.current")

log = logging.getLogger("scoop")


class Pool(Origin):
    """A broker in this process, workers behind it, and the session that submits to them.

    Args:
        workers: worker processes beside this one; 0 is allowed unless `remote_only`.
        remote_only: calls never run in this process (an Executor).
        initializer, initargs: called once in each worker before its first task.
        seed: 16 bytes that all random generators of the job derive from; that of the options if None.
        copy: a call that runs here sees copies of its arguments; as the options say if None.
        total: what `scoop.SIZE` says; counted if None.
        config: options; those of the process if None.

    Raises:
        RuntimeError: the program is ending.
        OSError, RunDirError: there is no place for the sockets, or no process can be started.
    """

    def __init__(
        self,
        workers: int,
        *,
        remote_only: bool = False,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        seed: bytes | None = None,
        copy: bool | None = None,
        total: int | None = None,
        config: Config | None = None,
    ) -> None:
        total = total if total is not None else workers + (0 if remote_only else 1)
        super().__init__(workers, seed=seed, copy=copy, total=total, config=config)
        self._agents_started = 0
        self._alive: dict[int, int] = {}
        self._deaths = 0
        self._run_dir = ""
        self._context: Context | None = None
        self._socket: Socket | None = None
        exits.register(self)
        self._agent = AgentHandle.spawn() if workers else None
        from scoop.launch.output import Output

        self._output = Output()
        try:
            self._build(remote_only, initializer, initargs)
        except BaseException:
            exits.forget(self)
            if self._agent is not None:
                self._agent.close(0.0)
            self._clean()
            raise

    def _build(
        self, remote_only: bool, initializer: Callable[..., object] | None, initargs: tuple[Any, ...]
    ) -> None:
        from scoop import current
        from scoop._core.broker import Broker
        from scoop._core.desk import Desk
        from scoop._core.net import Context, Socket
        from scoop._core.node import Node
        from scoop.launch import rundir

        set_up_log(self.config)
        self._setup = b""
        if initializer is not None:
            self._setup = current.pack_initializer(initializer, initargs)
        if self.workers:
            self._run_dir = rundir.make_run_dir()
            rundir.sweep_stale(os.path.dirname(self._run_dir))
            self._context = Context()
            self._socket = Socket(self._context, "router")
            self._socket.bind(f"ipc://{self._run_dir}/broker")
            self._begin_agent()
        desk = Desk(random_incarnation(), remote_only, self.config.crash_limit)
        if not remote_only:
            self._cap_own_threads()
        self._open(Node(desk, Broker(self._socket)))
        self.node.start_leading()
        if self.workers:
            self._threads.append(daemon(self._supervise, "scoop-supervisor"))

    def _begin_agent(self) -> None:
        """Tell the agent what to start."""
        from scoop import current
        from scoop.launch import boot, logs

        assert self._agent is not None
        self._base = random_incarnation()
        self._agents_started += 1
        self._agent.begin(
            self.workers,
            boot.ENTRY,
            preload=_PRELOAD,
            spec={
                "base": self._base,
                "broker": f"ipc://{self._run_dir}/broker",
                "seed": self.seed,
                "copy": self._copy,
                "argv": current.argv_for_workers(),
                "initializer": self._setup,
                "size": self._total,
                "run_dirs": [self._run_dir],
                "level": log.getEffectiveLevel(),
                "levels": logs.describe(),
                "stopped_after": self.config.stopped_after,
                "profile": place_of_profiles(),
            },
            env=self._thread_caps(),
        )
        log.info("process %d starts %d others", self._pid, self.workers)

    def _thread_caps(self) -> dict[str, str]:
        from scoop.launch import cores

        return cores.thread_caps(
            max(self._total, 1), cores.available_cores(), os.environ, threads=self.config.threads
        )

    def _cap_own_threads(self) -> None:
        """This process computes too: its libraries must leave the other workers their share."""
        from scoop.launch import cores

        if self._total == 1 and self.config.threads is None:
            return
        caps = self._thread_caps()
        if caps and "numpy" in sys.modules:
            warning = cores.cap_loaded_libraries(int(next(iter(caps.values()))))
            if warning:
                log.warning("%s", warning)
        # Libraries that come later read it, as those of the workers do.
        os.environ.update(caps)

    # ----------------------------------------------------------------------------------- supervising

    def _supervise(self) -> None:
        # One thread reads what the agent says; it sleeps in read() otherwise.
        while not self._finished.is_set():
            agent = self._agent
            messages = agent.receive() if agent is not None else []
            if not messages and (self._finished.is_set() or not self._agent_lost()):
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
            self._alive[message["worker"]] = message["pid"]
            log.debug("worker %d is process %d", message["worker"], message["pid"])
        elif op == "died":
            self._on_died(message)
        elif op == "failed":
            self._on_failed(message["error"])
        else:
            self._on_news(0, message)

    def links(self) -> list[Link]:
        """The agent, if there is one."""
        agent = self._agent
        return [] if agent is None else [Link(0, os.uname().nodename, self.workers, agent.send)]

    def _on_died(self, message: dict[str, Any]) -> None:
        from scoop.launch.boot import incarnation_of
        from scoop.losses import blamed, pack_loss

        index = message["worker"]
        self._output.worker_ended(index)
        self._alive.pop(index, None)
        self._deaths += message.get("exitcode") != 0
        incarnation = incarnation_of(self._base, index)
        running = message.get("running") or []
        if self._ending() or (message.get("planned") and not running):
            self.node.report_lost(incarnation, 0, 0, b"")
            return
        owner, task = blamed(running, incarnation)
        self._note_death(message)
        log.warning(
            "worker %d (process %d) died: %s%s",
            index,
            message["pid"],
            how_it_died(message),
            "; its task is run again elsewhere, if it may be" if task else "",
        )
        self.node.report_lost(incarnation, owner, task, pack_loss(message) if task else b"")

    def _on_failed(self, text: str) -> None:
        from scoop.errors import StartupFailed

        failure = StartupFailed(f"the workers of scoop cannot be started: {text.strip()}")
        if self.node.desk.remote_only:
            self._break(failure)
        else:
            # This process can do all of the work itself, so the program goes on.
            self.trouble = str(failure)
            log.error("%s; the program goes on without them", failure)

    def _agent_lost(self) -> bool:
        """The agent died, and its workers with it. Start another one, unless that keeps happening."""
        from scoop.launch.boot import incarnation_of

        for index in list(self._alive):
            self.node.report_lost(incarnation_of(self._base, index), 0, 0, b"")
            self._output.worker_ended(index)
        self._alive.clear()
        with self._finish_lock:
            if self._ending():
                return False
            if self._agents_started <= self.config.agent_restarts:
                log.warning("the agent of this host died and its workers with it; starting them again")
                if self._agent is not None:
                    self._agent.close(0.0)
                self._agent = AgentHandle.spawn()
                self._begin_agent()
                return True
        self._on_failed("the agent of this host died again and again")
        return False

    # ---------------------------------------------------------------------------------------- ending

    def forget(self) -> None:
        """In a forked child: let go of what belongs to the parent, changing nothing of it."""
        if self._agent is not None:
            self._agent.forget()
        super().forget()

    def _kill(self) -> None:
        if self._agent is not None:
            self._agent.stop(0.0)

    def _give_up(self) -> None:
        from scoop.launch import rundir
        from scoop.launch.process import sweep_job

        # The directory first: should libzmq abort meanwhile, the agent does the rest.
        with contextlib.suppress(OSError):  # its lock is one of the descriptors
            rundir.remove_run_dir(self._run_dir)
        if self._agent is not None:
            self._agent.give_up()
            sweep_job(self._agent.job)

    def _stop(self, grace_s: float) -> None:
        if self._agent is None:
            return
        try:
            if grace_s:
                self.node.stop_others()
            for message in self._agent.close(grace_s):
                if message.get("op") == "output":
                    self._on_message(message)
        except AgentLost:
            pass

    def _clean(self) -> None:
        if self._socket is not None:
            self._socket.close()
        if self._context is not None:
            self._context.close()
        if self._run_dir:
            from scoop.launch import rundir

            rundir.remove_run_dir(self._run_dir)
            if self._deaths:  # a task that took its worker down may have had workers of its own
                rundir.sweep_stale(os.path.dirname(self._run_dir))
        self._output.close()
