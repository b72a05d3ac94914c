"""The agent: a small process beside the origin that forks workers, watches them and leaves nothing behind.

It is single-threaded and imports little: every worker starts as a copy of it. A message, a signal or the end
of the origin ends it and all that it has started. The origin is watched through a pidfd too: the link's other
end may be held open by processes that the user's program forked. Killed itself, it takes its workers along:
the kernel sees to that.

Messages are described in `Agent.handle` (from the origin) and `Agent.send` (to the origin).
"""

from __future__ import annotations

import gc
import os
import select
import signal
import sys
import time

from scoop.launch import process
from scoop.launch.cores import OomCounter
from scoop.launch.link import AGENT_SOCKET, JOB_VARIABLE, Backlog, Decoder
from scoop.launch.rundir import remove_run_dir, sweep_stale
from scoop.launch.watched import QUICK_LIMIT, Restarts, Worker, prepare

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from scoop.launch.link import Message

READ_SIZE = 64 << 10
DRAIN_READS = 128  # a full pipe may hold as many short writes as it has pages
STUCK_S = 5.0
FLUSH_S = 2.0
SWEEP_S = 0.02
_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)


class Agent:
    """The agent's state and its loop. Times are of the monotonic clock."""

    def __init__(self, link: int, origin: int) -> None:
        self._link = link
        self._origin = origin
        self._pid = os.getpid()
        self._job = os.environ.get(JOB_VARIABLE, "")
        self._decoder = Decoder()
        self._backlog = Backlog()
        self._unsent = memoryview(b"")
        self._origin_gone = False
        self._epoll = select.epoll()
        self._readers: dict[int, Callable[[], None]] = {}
        self._timers: list[tuple[float, Callable[[], None]]] = []
        self._workers: dict[int, Worker] = {}  # by process id
        self._next_index = 0
        self._start: Message | None = None
        self._restarts = Restarts()
        self._sweep_until = 0.0
        self._stopping = False
        self._done = False
        self._set_death_signal, adopt_orphans = process.process_calls()
        adopt_orphans()
        self._oom = OomCounter()

    def run(self) -> None:
        """Serve until the end; everything that was started is gone then."""
        os.set_blocking(self._link, False)
        self._watch_signals()
        self._watch(self._link, self._on_link)
        self._watch_origin()
        while not self._done:
            timeout = min((due for due, _ in self._timers), default=None)
            wait = -1.0 if timeout is None else max(0.0, timeout - time.monotonic())
            for descriptor, _ in self._epoll.poll(wait):
                reader = self._readers.get(descriptor)  # an earlier one may have closed it
                if reader is not None:
                    reader()
            now = time.monotonic()
            due = [timer for timer in self._timers if timer[0] <= now]
            for timer in due:
                self._timers.remove(timer)
                timer[1]()
            self._flush()
            if self._origin_gone and not self._done:
                self._end_after_origin()

    def _watch(self, descriptor: int, reader: Callable[[], None]) -> None:
        self._readers[descriptor] = reader
        self._epoll.register(descriptor, select.EPOLLIN)

    def _unwatch(self, descriptor: int) -> None:
        del self._readers[descriptor]
        self._epoll.unregister(descriptor)
        os.close(descriptor)

    def _after(self, delay_s: float, action: Callable[[], None]) -> None:
        self._timers.append((time.monotonic() + delay_s, action))

    def _watch_signals(self) -> None:
        self._wake, self._wake_end = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(self._wake_end, False)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for number in _SIGNALS:
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(self._wake_end, warn_on_full_buffer=False)
        self._watch(self._wake, self._on_signal)

    def _watch_origin(self) -> None:
        try:
            watched = os.pidfd_open(self._origin)
        except ProcessLookupError:
            self._origin_gone = True
        except OSError:  # an old kernel, or a container that forbids the call
            self._poll_origin()
        else:
            self._watch(watched, self._on_origin_end)
            # It may have died before, and its number may have been given to another.
            self._origin_gone = os.getppid() != self._origin

    def _poll_origin(self) -> None:
        self._origin_gone = self._origin_gone or os.getppid() != self._origin
        self._after(0.25, self._poll_origin)

    def _on_origin_end(self) -> None:
        self._origin_gone = True

    def _on_signal(self) -> None:
        numbers = set(os.read(self._wake, 4096))
        self._reap()
        if numbers & {signal.SIGTERM, signal.SIGHUP}:
            self._fail(f"the agent (process {self._pid}) was told to end by a signal")
            self._stop(0.0)

    def _on_link(self) -> None:
        try:
            data = os.read(self._link, READ_SIZE)
            messages = self._decoder.feed(data)
        except BlockingIOError:
            return
        except (OSError, ValueError):  # broken: as good as closed
            data = b""
        if not data:
            self._origin_gone = True
            return
        for message in messages:
            self.handle(message)

    def handle(self, message: Message) -> None:
        """One message from the origin: start, add (count), kill (worker) or stop (grace_s)."""
        op = message.get("op")
        if op == "start" and self._start is None:
            self._on_start(message)
        elif op == "add" and self._start is not None:
            self._restarts.success()
            for _ in range(message["count"]):
                self._fork()
        elif op == "kill":
            for worker in self._workers.values():
                if worker.index == message["worker"]:
                    worker.planned = True
                    process.kill_group(worker.pid)
        elif op == "stop":
            self._stop(message["grace_s"])
        else:
            self._fail(f"the agent does not expect {op!r} now")

    def send(self, message: Message) -> None:
        """Report to the origin: started, died, stopped or failed. (Output has its own way.)"""
        self._backlog.report(message)

    def _fail(self, error: str) -> None:
        self.send({"op": "failed", "error": error})

    def _flush(self) -> None:
        """Write what the origin takes without waiting for it."""
        while not self._origin_gone:
            if not self._unsent:
                self._unsent = memoryview(self._backlog.pop() or b"")
                if not self._unsent:
                    break
            try:
                self._unsent = self._unsent[os.write(self._link, self._unsent) :]
            except BlockingIOError:
                break
            except OSError:
                self._origin_gone = True
        if self._link in self._readers:
            self._epoll.modify(self._link, select.EPOLLIN | (select.EPOLLOUT if self._unsent else 0))

    def _on_start(self, message: Message) -> None:
        self._start = message
        try:
            os.chdir(message["cwd"])
            os.environ.update(message["env"])
            sys.path[:] = message["sys_path"]
            for name in message["preload"]:
                __import__(name)
        except BaseException:
            import traceback

            self._fail(f"the agent cannot prepare workers:\n{traceback.format_exc()}")
            return
        gc.freeze()  # a collection in a worker shall not touch, and so copy, the pages shared with the agent
        self._oom.moved()
        for _ in range(message["count"]):
            self._fork()

    def _fork(self) -> None:
        """Start one worker."""
        if self._stopping or self._done:
            return
        index = self._next_index
        self._next_index += 1
        try:
            worker, outputs = prepare(index, len(self._workers))
            signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # a child shall not write to our wake-up pipe
            try:
                pid = os.fork()
                if pid == 0:
                    self._child(worker, outputs)
            finally:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
                for output in outputs:
                    os.close(output)
        except OSError as error:
            self._retry(time.monotonic(), f"Worker {index} cannot be started: {error}")
            return
        worker.pid = pid
        self._workers[pid] = worker
        for descriptor in worker.pipes:
            self._watch(descriptor, self._reader(worker, descriptor))
        self.send({"op": "started", "worker": index, "pid": pid})

    def _child(self, worker: Worker, outputs: tuple[int, int, int]) -> NoReturn:
        """The rest of a worker's life, in the forked process."""
        assert self._start is not None
        try:
            process.default_signals(_SIGNALS)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            marker = f"{self._job}.{worker.index}"
            process.become_worker(worker.index, self._pid, outputs[:2], marker, self._set_death_signal)
            for descriptor in (*self._readers, *worker.pipes, self._wake_end):
                os.close(descriptor)
            self._epoll.close()
            for other in self._workers.values():
                other.page.close()
            spec = {**self._start["spec"], "_page": worker.page, "_log": outputs[2]}
            process.run_entry(self._start["entry"], spec, worker.index)
        finally:
            os._exit(1)

    def _retry(self, started: float, reason: str) -> None:
        """A worker died before it did anything: try again later, or give up."""
        delay = self._restarts.quick_death(started, time.monotonic())
        if delay is None:
            self._fail(f"{QUICK_LIMIT} workers in a row died at their start. {reason}")
        else:
            self._after(delay, self._fork)

    def _reader(self, worker: Worker, descriptor: int) -> Callable[[], None]:
        return lambda: self._read(worker, descriptor)

    def _read(self, worker: Worker, descriptor: int) -> None:
        """Pass on some output of a worker."""
        data = worker.read(descriptor)
        if data:
            self._backlog.output(worker.index, worker.pid, worker.pipes[descriptor], data)
        elif data is not None:
            del worker.pipes[descriptor]
            self._unwatch(descriptor)

    def _drain(self, worker: Worker) -> None:
        """Pass on what is in a dead worker's pipes: no more than that, for somebody may still be writing."""
        for descriptor, stream in worker.pipes.items():
            for _ in range(DRAIN_READS):
                data = worker.read(descriptor)
                if not data:
                    break
                self._backlog.output(worker.index, worker.pid, stream, data)

    def _reap(self) -> None:
        """Wait for all children that have ended: workers, and orphans that fell to us."""
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            worker = self._workers.get(ended.si_pid)
            if worker is None:
                os.waitpid(ended.si_pid, 0)
            else:
                self._bury(worker)

    def _bury(self, worker: Worker) -> None:
        """A worker has ended: kill what it leaves, pass on its last output, report, replace."""
        self._drain(worker)
        process.kill_group(worker.pid)
        status = os.waitpid(worker.pid, 0)[1]
        del self._workers[worker.pid]
        self._sweep_until = time.monotonic() + STUCK_S
        self._sweep()
        self._drain(worker)
        for descriptor in list(worker.pipes):
            self._unwatch(descriptor)
        code = os.waitstatus_to_exitcode(status)
        death = worker.death(code)
        now = time.monotonic()
        started_well = worker.started_well(now)
        worker.page.close()
        planned = worker.planned or self._stopping or (code == 0 and not death["running"])
        oom = code == -signal.SIGKILL and not worker.planned and self._oom.moved()
        self.send({**death, "oom": oom, "planned": planned})
        if not planned:
            since = self._restarts.since
            if started_well or any(w.started > since and w.started_well(now) for w in self._workers.values()):
                self._restarts.success()
            if started_well:
                self._fork()
            else:
                self._retry(worker.started, worker.last_words(code))
        if self._stopping and not self._workers:
            self._after(0.0, self._finish)

    def _sweep(self) -> None:
        """Kill the orphans that fell to us unless they certainly belong to a living worker."""
        living = [(w.pid, w.index, f"{self._job}.{w.index}") for w in self._workers.values()]
        victims = [
            pid
            for pid in process.children()
            if pid not in self._workers and not any(process.came_from(pid, *mark) for mark in living)
        ]
        for pid in victims:
            process.kill(pid)
        if victims and time.monotonic() < self._sweep_until:
            self._after(SWEEP_S, self._sweep)  # their children fall to us in turn

    def _stop(self, grace_s: float) -> None:
        self._stopping = True
        self._after(grace_s if self._workers else 0.0, self._finish)

    def _finish(self) -> None:
        """Stop on request: kill what is left, deliver the last output, say so."""
        if self._done:
            return
        self._done = True
        stuck = self._kill_all()
        self.send({"op": "stopped", **({"stuck": stuck} if stuck else {})})
        deadline = time.monotonic() + FLUSH_S
        self._flush()
        while self._unsent and not self._origin_gone and time.monotonic() < deadline:
            self._epoll.poll(0.1)
            self._flush()
        if self._origin_gone:
            self._end_after_origin()

    def _end_after_origin(self) -> None:
        """The origin is gone: leave nothing of it."""
        self._done = True
        self._kill_all()
        spec = self._start["spec"] if self._start else {}
        for path in spec.get("run_dirs", ()):
            remove_run_dir(path)
            sweep_stale(os.path.dirname(path))  # a task may have had workers of its own

    def _kill_all(self) -> list[int]:
        """Kill all workers and all orphans. Returns those that do not die (held by a dead disk, say)."""
        self._stopping = True
        deadline = time.monotonic() + STUCK_S
        while True:
            for worker in self._workers.values():
                process.kill_group(worker.pid)
            left = process.children()
            for pid in left:
                process.kill(pid)
            self._reap()
            if not left or time.monotonic() > deadline:
                return left
            time.sleep(0.002)


def main(origin: int) -> NoReturn:
    """Run as the agent of the process `origin`."""
    process.become_agent(AGENT_SOCKET)
    agent = Agent(AGENT_SOCKET, origin)
    status = 1
    try:
        agent.run()
        status = 0
    finally:
        if status:
            import traceback

            traceback.print_exc()
            agent._kill_all()
        os._exit(status)
