"""The workers of one host and what the origin needs to use them.

The agent is started before anything else is imported here: it boots while this process prepares the rest.
"""

from __future__ import annotations

import logging
import os
import sys
import threading

from scoop.config import Config
from scoop.launch import exits
from scoop.launch.spawn import AgentHandle, AgentLost

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from scoop._core.net import Context, Socket

_PRELOAD = ("scoop.launch.boot", "scoop.future", "scoop.current")

log = logging.getLogger("scoop")


class Pool:
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
        if config is None:
            from scoop.current import settings

            config = settings()
        self.config = config
        self.workers = workers
        self.seed = seed if seed is not None else _seed_bytes(config.seed)
        self.failure: BaseException | None = None
        self._total = total if total is not None else workers + (0 if remote_only else 1)
        self._copy = config.copy if copy is None else copy
        self._pid = os.getpid()
        self._agents_started = 0
        self._alive: dict[int, int] = {}
        self._abandoned = False
        self._deaths = 0
        self._finished = threading.Event()
        self._finish_lock = threading.RLock()
        self._run_dir = ""
        self._context: Context | None = None
        self._socket: Socket | None = None
        self._threads: list[threading.Thread] = []
        exits.register(self)
        self._agent = AgentHandle.spawn() if workers else None
        try:
            self._build(remote_only, initializer, initargs)
        except BaseException:
            exits.forget(self)
            if self._agent is not None:
                self._agent.close(0.0)
            self._remove_files()
            raise

    def _build(
        self, remote_only: bool, initializer: Callable[..., object] | None, initargs: tuple[Any, ...]
    ) -> None:
        import contextvars

        from scoop import current
        from scoop._core.broker import Broker
        from scoop._core.desk import Desk
        from scoop._core.net import Context, Socket
        from scoop._core.node import Node
        from scoop._core.session import Session
        from scoop.future import Future
        from scoop.launch import boot, rundir
        from scoop.launch.output import Output

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
        self._output = Output()
        desk = Desk(_random_incarnation(), remote_only, self.config.crash_limit)
        self.node = Node(desk, Broker(self._socket))
        self.session = Session(self.node, contextvars.copy_context(), True, Future, self.seed)
        self.session.copy = self._copy
        if not remote_only:
            self._cap_own_threads()
        self._threads = [boot.start_driver(self.node, "scoop-driver")]
        self.session.start_notifier()
        self.node.start_leading()
        if self.workers:
            self._threads.append(_daemon(self._supervise, "scoop-supervisor"))

    def _begin_agent(self) -> None:
        """Tell the agent what to start."""
        from scoop.launch import boot, logs

        assert self._agent is not None
        self._base = _random_incarnation()
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
                "initializer": self._setup,
                "size": self._total,
                "run_dirs": [self._run_dir],
                "level": log.getEffectiveLevel(),
                "levels": logs.describe(),
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

    def _on_died(self, message: dict[str, Any]) -> None:
        from scoop.launch.boot import incarnation_of
        from scoop.losses import blamed, pack_loss

        index = message["worker"]
        self._output.worker_ended(index)
        self._alive.pop(index, None)
        self._deaths += message.get("exitcode") != 0
        incarnation = incarnation_of(self._base, index)
        running = message.get("running") or []
        if self._finished.is_set() or (message.get("planned") and not running):
            self.node.report_lost(incarnation, 0, 0, b"")
            return
        owner, task = blamed(running, incarnation)
        log.warning(
            "worker %d (process %d) died: %s%s",
            index,
            message["pid"],
            f"signal {message['signal']}" if message.get("signal") else f"status {message.get('exitcode')}",
            "; its task is run again elsewhere" if task else "",
        )
        self.node.report_lost(incarnation, owner, task, pack_loss(message) if task else b"")

    def _on_failed(self, text: str) -> None:
        from scoop.errors import StartupFailed

        failure = StartupFailed(f"the workers of scoop cannot be started: {text.strip()}")
        if self.node.desk.remote_only:
            self.failure = failure
            self.session.fail_all(failure)
        else:
            # This process can do all of the work itself, so the program goes on.
            log.error("%s; the program goes on without them", failure)

    def _agent_lost(self) -> bool:
        """The agent died, and its workers with it. Start another one, unless that keeps happening."""
        from scoop.launch.boot import incarnation_of

        for index in list(self._alive):
            self.node.report_lost(incarnation_of(self._base, index), 0, 0, b"")
            self._output.worker_ended(index)
        self._alive.clear()
        with self._finish_lock:
            if self._finished.is_set() or self._abandoned:
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

    def settle(self) -> None:
        """Run what is outstanding, and return when nothing is. The pool stays open."""
        if self._pid == os.getpid() and self.failure is None and not self._finished.is_set():
            self._submit_rest()
            self.session.drain()

    def _submit_rest(self) -> None:
        """Submit what maps of the eager kind hold back, as if they had submitted all at once."""
        mapping = sys.modules.get("scoop.mapping")
        if mapping is not None and self.failure is None:
            mapping.carve_rest(self.session)

    def finish(self, *, wait: bool = True, cancel: bool = False) -> None:
        """End the pool: calls that are outstanding finish first, or are cancelled. Safe to call twice.

        Args:
            wait: return when all is over; otherwise a thread does the same.
            cancel: cancel calls that have not started.
        """
        if self._pid != os.getpid():
            return
        if not wait:
            threading.Thread(target=self.finish, kwargs={"cancel": cancel}, name="scoop-finish").start()
            return
        with self._finish_lock:
            if self._finished.is_set():
                return
            if self.session.interrupted and isinstance(sys.exc_info()[1], KeyboardInterrupt):
                # On the way out of a `with` or of `futures.startup`: nobody wants to wait for anything.
                self.abandon("the program was interrupted")
                return
            if cancel:
                self.session.cancel_queued()
            try:
                if not cancel:
                    self._submit_rest()
                if self.failure is None:
                    self.session.drain()
            except Exception:
                log.exception("not all calls could be finished")
            self._close(self.config.stop_grace)

    def join(self) -> None:
        """Wait until a `finish` elsewhere is over."""
        with self._finish_lock:
            pass

    def abandon(self, reason: str) -> None:
        """End everything now; outstanding futures fail with PoolLost."""
        from scoop.errors import PoolLost

        if self._pid != os.getpid():
            return
        if not self._finished.is_set():
            # Before the lock: a `finish` of another thread holds it while it waits for these calls.
            self._abandoned = True
            self.session.closed = True
            self.session.fail_all(PoolLost(reason))
            if self._agent is not None:
                self._agent.stop(0.0)
        with self._finish_lock:
            if not self._finished.is_set():
                self._close(0.0)

    def forget(self) -> None:
        """In a forked child: let go of what belongs to the parent, changing nothing of it."""
        if self._agent is not None:
            self._agent.forget()
        self._finished = threading.Event()
        self._finished.set()
        self._finish_lock = threading.RLock()

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
        self.session.close_helpers()
        for thread in (*self._threads, self.session.notifier):
            if thread is not None and thread is not threading.current_thread():
                thread.join(2.0)
        if not self._threads[0].is_alive():  # the driver uses the node's descriptors
            self.node.close()
        self._remove_files()
        exits.forget(self)
        self._output.close()
        log.info("the workers of process %d have ended", self._pid)

    def _remove_files(self) -> None:
        if self._socket is not None:
            self._socket.close()
        if self._context is not None:
            self._context.close()
        if self._run_dir:
            from scoop.launch import rundir

            rundir.remove_run_dir(self._run_dir)
            if self._deaths:  # a task that took its worker down may have had workers of its own
                rundir.sweep_stale(os.path.dirname(self._run_dir))


def set_up_log(config: Config) -> None:
    """Let the log say as much as the options want; handlers that the program has installed are kept."""
    if config.quiet:
        log.setLevel(logging.ERROR)
    elif config.verbose:
        log.setLevel(logging.INFO if config.verbose == 1 else logging.DEBUG)
        if not log.hasHandlers():
            handler = logging.StreamHandler()
            handler.setFormatter(logging.Formatter("scoop: %(message)s"))
            log.addHandler(handler)


def _seed_bytes(seed: int | None) -> bytes:
    return os.urandom(16) if seed is None else seed.to_bytes(16, "little", signed=True)


def _random_incarnation() -> int:
    return int.from_bytes(os.urandom(8), "little") | 1


def _daemon(target: Callable[[], None], name: str) -> threading.Thread:
    thread = threading.Thread(target=target, name=name, daemon=True)
    thread.start()
    return thread
