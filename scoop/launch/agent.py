"""The agent: a small process beside the origin that forks workers, watches them and leaves nothing behind.

It is single-threaded and imports little: every worker starts as a copy of it. A message, a signal or the end
of the origin ends it and all that it has started. The origin is watched through a pidfd too: the link's other
end may be held open by processes that the user's program forked. Killed itself, it takes its workers along:
the kernel sees to that.

Messages are described in `Agent.handle` (from the origin) and `Loop.send` (to the origin).
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import time

from scoop.launch import process
from scoop.launch.cores import OomCounter
from scoop.launch.inquiry import Inquiries
from scoop.launch.link import AGENT_SOCKET, JOB_VARIABLE
from scoop.launch.lookout import Lookout
from scoop.launch.loop import SIGNALS, Loop
from scoop.launch.rundir import remove_run_dir, sweep_stale
from scoop.launch.standstill import Standstill
from scoop.launch.watched import EXIT_LEFT, QUICK_LIMIT, Restarts, Worker, prepare

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from scoop.launch.link import Message

DRAIN_READS = 128  # a full pipe may hold as many short writes as it has pages
STUCK_S = 5.0
SWEEP_S = 0.02
STOPPED_S = 30.0  # unless the origin says otherwise


class Agent(Loop):
    """The agent's state and its loop. Times are of the monotonic clock."""

    def __init__(self, link: int, out: int, origin: int) -> None:
        super().__init__(link, out, origin)
        self._job = os.environ.get(JOB_VARIABLE, "")
        self._workers: dict[int, Worker] = {}  # by process id
        self._next_index = 0
        self._start: Message | None = None
        self._restarts = Restarts()
        self._sweep_until = 0.0
        self._stopping = False
        self._leaving = False
        self._kept: set[int] = set()  # children that are no workers, and no orphans
        self._set_death_signal, adopt_orphans = process.process_calls()
        adopt_orphans()
        self._oom = OomCounter()
        self._lookout = Lookout(self, self._workers)
        self._standstill = Standstill(self, self._workers, STOPPED_S)
        self._inquiries: Inquiries | None = None

    def handle(self, message: Message) -> None:
        """One message from the origin.

        start, add (count), kill (worker), leave, stop (grace_s), status (number), told (number, job).
        """
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
        elif op == "leave":
            self._leave()
        elif op == "stop":
            self._stop(message["grace_s"])
        elif op == "status":
            self._tell_status(message["number"])
        elif op == "told":
            if self._inquiries is not None:
                self._inquiries.told(message)
        else:
            self._fail(f"the agent does not expect {op!r} now")

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
        self._listen(message["spec"])
        gc.freeze()  # a collection in a worker shall not touch, and so copy, the pages shared with the agent
        self._oom.moved()
        for _ in range(message["count"]):
            self._fork()

    def _listen(self, spec: Message) -> None:
        """Let others of this user ask what goes on, if this agent's job has a directory here."""
        folder = os.path.dirname(str(spec.get("broker", "")).removeprefix("ipc://"))
        self._standstill.after_s = spec.get("stopped_after", STOPPED_S)
        if folder not in spec.get("run_dirs", ()):
            return
        self._inquiries = Inquiries(self, self._lookout, folder, self._origin)
        try:
            self._inquiries.open()
        except OSError as error:  # a job runs as well if nobody can ask
            print(f"scoop: nobody can ask what this job does: {error}", file=sys.stderr, flush=True)

    def _tell_status(self, number: int) -> None:
        self._lookout.look(
            lambda workers: self.send(
                {
                    "op": "status",
                    "number": number,
                    "workers": workers,
                    "failing": self._restarts.in_a_row,
                    "broker": self._broker_state(),
                }
            )
        )

    def _broker_state(self) -> Message | None:
        """Process id and state of the broker that this agent has started, if it has."""
        return None

    def _fork(self) -> None:
        """Start one worker."""
        if self._stopping or self._leaving or self._done:
            return
        index = self._next_index
        self._next_index += 1
        try:
            worker, outputs = prepare(index, len(self._workers))
            signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # a child shall not write to our wake-up pipe
            try:
                pid = os.fork()
                if pid == 0:
                    self._child(worker, outputs)
            finally:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
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
            process.default_signals(SIGNALS)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            marker = f"{self._job}.{worker.index}"
            process.become_worker(worker.index, self._pid, outputs[:2], marker, self._set_death_signal)
            for descriptor in self._own_descriptors() | set(worker.pipes):
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
        self._standstill.take_notice()
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            worker = self._workers.get(ended.si_pid)
            if worker is None:
                self._other_ended(ended.si_pid, os.waitpid(ended.si_pid, 0)[1])
            else:
                self._bury(worker)

    def _other_ended(self, pid: int, status: int) -> None:
        """An orphan that fell to us has ended: nobody waits for it."""

    def _bury(self, worker: Worker) -> None:
        """A worker has ended: kill what it leaves, pass on its last output, report, replace."""
        self._drain(worker)
        process.kill_group(worker.pid)
        _, status, usage = os.wait4(worker.pid, 0)
        del self._workers[worker.pid]
        self._standstill.forget(worker.pid)
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
        left = code == EXIT_LEFT and not death["running"]
        planned = worker.planned or self._stopping or left or (code == 0 and not death["running"])
        oom = code == -signal.SIGKILL and not worker.planned and self._oom.moved()
        memory = [usage.ru_maxrss << 10, self._oom.limit_bytes()] if oom else []
        self._report({**death, "oom": oom, "memory": memory, "planned": planned})
        if left and not worker.planned:
            self._fork()  # somebody wanted this one to go, not the pool to shrink
        elif not planned:
            since = self._restarts.since
            if started_well or any(w.started > since and w.started_well(now) for w in self._workers.values()):
                self._restarts.success()
            if started_well:
                self._fork()
            else:
                self._retry(worker.started, worker.last_words(code))
        if self._stopping and not self._workers:
            self._after(0.0, self._finish)
        self._left()

    def _report(self, death: Message) -> None:
        self.send(death)

    def _sweep(self) -> None:
        """Kill the orphans that fell to us unless they certainly belong to a living worker."""
        living = [(w.pid, w.index, f"{self._job}.{w.index}") for w in self._workers.values()]
        victims = [
            pid
            for pid in process.children()
            if pid not in self._workers
            and pid not in self._kept
            and not any(process.came_from(pid, *mark) for mark in living)
        ]
        for pid in victims:
            process.kill(pid)
        if victims and time.monotonic() < self._sweep_until:
            self._after(SWEEP_S, self._sweep)  # their children fall to us in turn

    def _leave(self) -> None:
        """All workers give back what has not started, and finish what runs; then this ends."""
        self._leaving = True
        for worker in self._workers.values():
            worker.planned = True
            process.kill(worker.pid, signal.SIGTERM)
        self._left()

    def _left(self) -> None:
        if self._leaving and not self._workers and not self._stopping:
            self._stop(0.0)

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
        self._deliver()
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
    serve(Agent(AGENT_SOCKET, AGENT_SOCKET, origin))


def serve(agent: Agent) -> NoReturn:
    """Run an agent and end this process."""
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
