"""The program's side of a pool, wherever its workers are: submitting, and how it ends."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time

from scoop.config import Config
from scoop.launch import exits
from scoop.launch.survey import Survey, report_of
from scoop.losses import Deaths, out_of_memory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from scoop._core.node import Node
    from scoop._core.session import Session
    from scoop.launch.survey import Link

log = logging.getLogger("scoop")


class Origin:
    """What the process of the program holds of a pool; the classes below know where its workers come from.

    Args:
        workers: processes that compute beside this one.
        seed: 16 bytes that all random generators of the job derive from; that of the options if None.
        copy: a call that runs here sees copies of its arguments; as the options say if None.
        total: what `scoop.SIZE` says.
        config: options; those of the process if None.
    """

    node: Node
    session: Session

    def __init__(
        self,
        workers: int,
        *,
        seed: bytes | None = None,
        copy: bool | None = None,
        total: int,
        config: Config | None = None,
    ) -> None:
        if config is None:
            from scoop.current import settings

            config = settings()
        self.config = config
        self.workers = workers
        self.seed = seed if seed is not None else seed_bytes(config.seed)
        self.failure: BaseException | None = None
        self.trouble = ""
        self.began = time.monotonic()
        self.survey = Survey()
        self.notes: list[str] = []  # what a report cannot show
        self._total = total
        self._copy = config.copy if copy is None else copy
        self._pid = os.getpid()
        self._deaths_by_call = Deaths(config.crash_limit)
        self._abandoned = False
        self._finished = threading.Event()
        self._finish_lock = threading.RLock()
        self._threads: list[threading.Thread] = []

    # ------------------------------------------------------------------------------------ submitting

    def submit(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Make the future of a call; raises what broke the pool, if something did."""
        if self.failure is not None:
            raise self.failure
        return self.session.submit(fn, args, kwargs)

    # ---------------------------------------------------------------------------------------- ending

    def settle(self) -> None:
        """Run what is outstanding, and return when nothing is. The pool stays open."""
        if (
            self._pid == os.getpid()
            and self.failure is None
            and not (self._finished.is_set() or self._is_cut_off())
        ):
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
            if self._is_cut_off():
                self._leave_all()
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
        if not self._finished.is_set() and self._is_cut_off():
            self._leave_all()
        elif not self._finished.is_set():
            # Before the lock: a `finish` of another thread holds it while it waits for these calls.
            self._abandoned = True
            self.session.closed = True
            self.session.fail_all(PoolLost(reason))
            self._kill()
        with self._finish_lock:
            if not self._finished.is_set():
                self._close(0.0)

    def _is_cut_off(self) -> bool:
        """Whether the program has closed the descriptors that connect this process and its workers."""
        return bool(self.workers) and self.node.cut_off

    def _leave_all(self) -> None:
        """Nobody hears this process any more: kill what it has started by number, and close nothing."""
        from scoop._core.net import leave_open
        from scoop.errors import PoolLost

        leave_open()
        self._finished.set()
        self.session.closed = True
        desk = self.node.desk
        lost = len(desk.ledger) + desk.queue.own_count
        self._give_up()
        text = "the program has closed all descriptors, those of scoop too"
        self.session.fail_all(PoolLost(text))
        exits.forget(self)
        log.error("%s: its workers are killed; calls that are lost: %d", text, lost)

    def _break(self, failure: BaseException) -> None:
        """Nobody is left to run a call: what is outstanding fails, what is submitted later is refused."""
        from scoop import current

        self.failure = failure
        current.broken(self)
        self.session.fail_all(failure)

    def reconfigure(self, config: Config) -> None:
        """Take seed and copying from other options; raises RuntimeError after the first call."""
        if config.seed is not None and config.seed != self.config.seed:
            self.session.reseed(seed_bytes(config.seed))
        self.session.copy = self._copy = config.copy
        self.session.queue_bytes_max = config.queue_bytes_max
        self.config = config

    def _open(self, node: Node) -> None:
        """Make the session of this process on its node, and start the threads that serve it."""
        import contextvars

        from scoop._core.session import Session
        from scoop.future import Future
        from scoop.launch import boot

        self.node = node
        self.session = Session(node, contextvars.copy_context(), True, Future, self.seed)
        self.session.copy = self._copy
        self.session.queue_bytes_max = self.config.queue_bytes_max
        self._threads = [boot.start_driver(node, "scoop-driver")]
        self.session.start_notifier()

    def forget(self) -> None:
        """In a forked child: let go of what belongs to the parent, changing nothing of it."""
        self._finished = threading.Event()
        self._finished.set()
        self._finish_lock = threading.RLock()

    def _ending(self) -> bool:
        """Whether the pool is at its end: that its processes go is no news then."""
        return self._abandoned or self._finished.is_set()

    def _kill(self) -> None:
        """Let the processes of this pool end now. Does not wait."""
        raise NotImplementedError

    def _give_up(self) -> None:
        """Kill the processes of this pool without any descriptor of it. Does not wait."""
        raise NotImplementedError

    def _stop(self, grace_s: float) -> None:
        """End the processes of this pool, with so much time to leave; returns when they are gone."""
        raise NotImplementedError

    def _clean(self) -> None:
        """Give back what this process holds of the pool: sockets, files."""
        raise NotImplementedError

    def _close(self, grace_s: float) -> None:
        self._finished.set()
        self.session.closed = True
        self._stop(grace_s)
        self.node.stop()
        self.session.close_helpers()
        for thread in (*self._threads, self.session.notifier):
            if thread is not None and thread is not threading.current_thread():
                thread.join(2.0)
        if not self._threads[0].is_alive():  # the driver uses the node's descriptors
            self.node.close()
        self._clean()
        exits.forget(self)
        log.info("the workers of process %d have ended", self._pid)

    # ---------------------------------------------------------------------------------------- reports

    def is_over(self) -> bool:
        """Whether the pool has been closed."""
        return self._finished.is_set()

    def report(self) -> dict[str, Any]:
        """What goes on in this pool, see `scoop.status`. Blocks for a second at most."""
        return report_of(self)

    def links(self) -> list[Link]:
        """The agents that can be asked of their workers."""
        return []

    def _on_news(self, key: int, message: dict[str, Any], prefix: str = "") -> None:
        """What the agent `key` says besides deaths and output; `prefix` goes before a worker's number."""
        op = message["op"]
        if op == "status":
            self.survey.take(key, message)
        elif op == "asked":
            daemon(lambda: self._answer(key, message["number"]), "scoop-status")
        else:
            tell_standstill(message, prefix)

    def _answer(self, key: int, number: int) -> None:
        """Somebody has asked the agent `key` what goes on."""
        try:
            job = self.report()
        except Exception:  # the pool may be at its end meanwhile; whoever asks is told that nobody answers
            log.debug("a question could not be answered", exc_info=True)
            return
        for link in self.links():
            if link.key == key and link.send is not None:
                try:
                    link.send({"op": "told", "number": number, "job": job})
                except OSError:  # it is gone
                    pass

    def _note_death(self, report: dict[str, Any]) -> None:
        """Count a worker's death for the call that it ran; from the limit on nobody runs that call again."""
        deadly = self._deaths_by_call.note(report)
        if deadly is not None:
            self.session.send_deadly(*deadly)


def tell_standstill(message: dict[str, Any], prefix: str = "") -> None:
    """Log that a worker has been stopped for long, or goes on, if that is what its agent says."""
    if message["op"] not in ("halted", "resumed"):
        return
    which = f"worker {prefix}{message['worker']} (process {message['pid']})"
    if message["op"] == "halted":
        text = "%s has been stopped for %.3g s; `kill -CONT %d` lets it go on"
        log.warning(text, which, message["seconds"], message["pid"])
    else:
        log.warning("%s goes on, after %.3g s", which, message["seconds"])


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


def place_of_profiles(host: str = "") -> str:
    """Where a pool's workers on `host` (this one if empty) write their profiles; empty: nowhere."""
    from scoop import current

    if not current.profile_folder:
        return ""
    from scoop.launch import profiling

    return profiling.place(current.profile_folder, host)


def how_it_died(report: dict[str, Any]) -> str:
    """A worker's death in words, from its agent's report."""
    how = f"signal {report['signal']}" if report.get("signal") else f"status {report.get('exitcode')}"
    return f"{how}, {out_of_memory(report['memory'])}" if report.get("oom") else how


def seed_bytes(seed: int | None) -> bytes:
    """The 16 bytes of a job's seed; random ones for None."""
    return os.urandom(16) if seed is None else seed.to_bytes(16, "little", signed=True)


def random_incarnation() -> int:
    """A name for a process that nobody else has; odd, so that multiples of it never meet."""
    return int.from_bytes(os.urandom(8), "little") | 1


def daemon(target: Callable[[], None], name: str) -> threading.Thread:
    """Start a thread that does not keep the program from ending."""
    thread = threading.Thread(target=target, name=name, daemon=True)
    thread.start()
    return thread
