"""The agent of one host of a job on several: it starts that host's broker too.

It is reached by standard input and output, which the launcher's ssh (or scheduler's command) connects with
the origin; whatever else is printed here goes to standard error. Beside the messages of `Agent` it hears
those for its broker and passes them on; the broker's news goes to the origin, and the broker is told of each
dead worker.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time

from scoop.launch import process
from scoop.launch.agent import Agent, serve
from scoop.launch.cores import available_cores
from scoop.launch.link import TO_BROKER, Decoder, encode
from scoop.launch.lookout import HELD, look_at
from scoop.launch.loop import SIGNALS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from scoop.launch.link import Message
    from scoop.launch.relink import Relink

BROKER_ENTRY = "scoop.launch.boot:broker_main"
AHEAD = 16
"""So many workers at least are let in by a broker elsewhere before they start: a refused one is lost."""

READ_SIZE = 64 << 10
LOOKS_PER_LEASE = 6
BROKER_END_S = 2.0
QUICK_S, QUICK_LIMIT = 1.0, 5  # a broker that dies so soon after its start, so often in a row, is given up
_IN, _OUT = 3, 4


class HostAgent(Agent):
    """See the module."""

    def __init__(self, link: int, out: int, origin: int) -> None:
        super().__init__(link, out, origin)
        self._broker_pid = 0
        self._broker: socket.socket | None = None
        self._broker_decoder = Decoder()
        self._run_dir = ""
        self._waiting: Message | None = None  # for the broker of another host
        self._told_broker: list[Message] = []  # what one that follows it is to hear too
        self._bound: list[str] | None = None
        self._broker_started = 0.0
        self._broker_deaths = 0  # in a row, each soon after its start
        self._let_in = 0
        self._admits = False
        self._relink: Relink | None = None
        self._over = False  # the job, as its processes have been told
        from scoop.launch.keyring import libzmq_version, versions

        self.send(
            {
                "op": "hello",
                "host": socket.gethostname(),
                "cores": available_cores(),
                "versions": versions(),
                "libzmq": libzmq_version(),
            }
        )

    def handle(self, message: Message) -> None:
        """One message from the origin: those of `Agent`, and what the broker is to hear."""
        if message.get("op") in TO_BROKER:
            self._admits = self._admits or message["op"] == "admit"
            self._tell_broker(message)
        elif message.get("op") == "admitted":
            waiting, self._waiting = self._waiting, None
            if waiting is not None:
                super()._on_start(waiting)
        elif message.get("op") == "ping":
            self.send({"op": "pong", "clock": time.time(), "folder": os.path.isdir(message["folder"])})
        elif message.get("op") == "reach":
            self._reach(message["name"], message["port"])
        else:
            super().handle(message)

    def _reach(self, name: str, port: int) -> None:
        """Tell whether TCP gets to the origin, and open a port where a broker would listen."""
        from scoop.launch import reach
        from scoop.launch.hosted import route_to

        answer = {"op": "reached", "why": reach.why_not(name, port)}
        try:
            server = reach.open_port(route_to(name))
        except OSError as error:
            answer["why"] = answer["why"] or str(error)
        else:
            address = server.getsockname()
            answer.update(name=address[0], port=address[1])
            server.detach()  # open as long as this process is
        self.send(answer)

    def _on_start(self, message: Message) -> None:
        if message["spec"].get("door") is not None:
            # The keys never leave this host: only their public halves are told.
            message["spec"]["door"]["keys"] = os.urandom(32)
            self._waiting = message
            self._invite(message, message["count"] + AHEAD)
            return
        if message["broker"] is not None:
            if not self._prepare_broker(message):
                return
            self._start_broker(message)
            if message["broker"]["tunnel"] and not self._origin:
                self._watch_ssh(message["broker"]["lease"])
            if message["broker"]["again"]:
                from scoop.launch.relink import Relink

                self._relink = Relink(self, self._run_dir, message["broker"]["lease"])
        super()._on_start(message)

    def _link_ended(self) -> None:
        if self._relink is None or self._stopping:
            super()._link_ended()
        else:
            self._relink.link_ended()

    def end_if_over(self) -> None:
        """The origin has said to all workers that the job is over: without a link it cannot say so here."""
        if self._over and not self.linked and not self._stopping:
            self._stop(BROKER_END_S)

    def relink(self, link: int, out: int) -> None:
        """Go on with another link, and say who is there."""
        super().relink(link, out)
        self.send({"op": "again", "alive": [worker.index for worker in self._workers.values()]})

    def _watch_ssh(self, lease_s: float) -> None:
        from scoop.launch.sshlink import SshLink

        link = SshLink(lease_s)

        def look() -> None:
            if link.is_silent(time.monotonic()):
                self._cut(f"its host has not answered for {lease_s:g} s")
                return
            self.send({"op": "alive"})
            self._after(lease_s / LOOKS_PER_LEASE, look)

        look()

    def _invite(self, message: Message, upto: int) -> None:
        """Have the broker of another host let workers in, before they start."""
        from scoop._core.curve import Keys
        from scoop.launch.boot import incarnation_of

        spec = message["spec"]
        guests = [
            [
                incarnation_of(spec["base"], index, spec["home"]),
                Keys.derived(spec["door"]["keys"], index).public,
            ]
            for index in range(self._let_in, upto)
        ]
        self._let_in = upto
        self.send({"op": "guests", "guests": guests})

    def _fork(self) -> None:
        super()._fork()
        if self._start is not None and self._let_in and self._next_index + AHEAD > self._let_in:
            self._invite(self._start, self._next_index + 2 * AHEAD)

    def _prepare_broker(self, message: Message) -> bool:
        from scoop.launch import rundir

        try:
            before = message["broker"]["before"]
            if before is None:
                self._run_dir = rundir.make_run_dir()
            else:
                self._run_dir = rundir.adopt_run_dir(before["folder"])
                self._bound, self._told_broker = before["bound"], before["told"]
        except (OSError, rundir.RunDirError) as error:
            self._fail(str(error))
            return False
        rundir.sweep_stale(os.path.dirname(self._run_dir))
        spec = message["spec"]
        spec["broker"] = f"ipc://{self._run_dir}/broker"
        spec["run_dirs"] = [*spec["run_dirs"], self._run_dir]
        return True

    # ------------------------------------------------------------------------------------ the broker

    def _start_broker(self, message: Message) -> None:
        sys.path[:] = message["sys_path"]
        message["broker"].setdefault("keys", os.urandom(32))  # they never leave this host
        self._broker_started = time.monotonic()
        ours, theirs = socket.socketpair()
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            pid = os.fork()
            if pid == 0:
                ours.close()
                self._be_broker(theirs, message)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        theirs.close()
        ours.setblocking(False)
        self._broker_pid, self._broker = pid, ours
        self._kept.add(pid)
        self._watch(ours.fileno(), self._on_broker)

    def _be_broker(self, link: socket.socket, message: Message) -> NoReturn:
        """The rest of the broker's life, in the forked process."""
        try:
            process.default_signals(SIGNALS)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a batch system tells all; its agent ends it
            os.setsid()
            self._set_death_signal(signal.SIGKILL)
            if os.getppid() != self._pid:
                os._exit(1)
            process.set_name("scoop-broker")
            for descriptor in self._own_descriptors():
                os.close(descriptor)
            self._epoll.close()
            before = {"bound": self._bound, "told": self._told_broker} if self._bound is not None else None
            spec = {
                **message["broker"],
                "socket": message["spec"]["broker"],
                "_link": link,
                "before": before,
            }
            process.run_entry(BROKER_ENTRY, spec, 0)
        finally:
            os._exit(1)

    def _broker_state(self) -> Message | None:
        stat = look_at(self._broker_pid) if self._broker_pid else None
        if stat is None:
            return None
        return {"pid": self._broker_pid, "state": HELD.get(stat.letter, "")}

    def _tell_broker(self, message: Message) -> None:
        if message["op"] == "lost":  # a successor is to know who is dead, no more: it does not know the task
            self._told_broker.append({**message, "owner": 0, "task": 0, "detail": b""})
        else:
            self._told_broker.append(message)
        if self._broker is None:
            return
        self._broker.setblocking(True)  # it reads in each turn
        try:
            self._broker.sendall(encode(message))
        except OSError:
            pass  # its end is told by the kernel
        finally:
            self._broker.setblocking(False)

    def _on_broker(self) -> None:
        assert self._broker is not None
        try:
            data = self._broker.recv(READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop_broker()
            return
        for message in self._broker_decoder.feed(data):
            if message["op"] == "cut":
                self._cut(message["how"])
            elif message["op"] == "over":
                self._over = True
                self.end_if_over()
            elif message["op"] != "broker" or self._bound is None:  # a successor says nothing new
                self._bound = message.get("bound", self._bound)
                self.send(message)

    def _drop_broker(self) -> None:
        if self._broker is not None:
            descriptor = self._broker.detach()
            self._broker = None
            self._unwatch(descriptor)

    def _cut(self, how: str) -> None:
        if self._stopping:  # at the end of a job everybody goes
            return
        print(f"scoop: the host of the program is gone: {how}", file=sys.stderr, flush=True)
        self._stop(0.0)

    def _report(self, death: Message) -> None:
        super()._report(death)
        from scoop.launch.boot import incarnation_of
        from scoop.losses import blamed, pack_loss

        assert self._start is not None
        spec = self._start["spec"]
        incarnation = incarnation_of(spec["base"], death["worker"], spec["home"])
        owner, task = blamed(death.get("running") or [], incarnation)
        detail = pack_loss(death) if task else b""
        loss = {"op": "lost", "node": incarnation, "owner": owner, "task": task, "detail": detail}
        if self._start["broker"] is not None:
            self._tell_broker(loss)
        else:
            self.send(loss)  # the origin passes it on to the broker, which another agent has started

    # ---------------------------------------------------------------------------------------- leaving

    def _on_signal(self) -> None:
        numbers = set(os.read(self._wake, 4096))
        self._reap()
        if self._origin or self._leaving or signal.SIGHUP in numbers:
            self._told_to_end(numbers)
        elif signal.SIGTERM in numbers:
            self._leave()

    def _leave(self) -> None:
        if not self._leaving:
            self.send({"op": "leaving"})
        super()._leave()

    def _other_ended(self, pid: int, status: int) -> None:
        if pid != self._broker_pid or self._stopping:
            return
        code = os.waitstatus_to_exitcode(status)
        how = f"exit status {code}" if code >= 0 else f"signal {-code}"
        how = f"the broker of this host (process {pid}) ended with {how}"
        quick = time.monotonic() < self._broker_started + QUICK_S
        self._broker_deaths = self._broker_deaths + 1 if quick else 1
        if self._bound is None or self._start is None or self._broker_deaths > QUICK_LIMIT:
            self._fail(how)
            self._stop(0.0)
            return
        # Another one with its number, keys and addresses; see failover.pyx for what is lost.
        self._drop_broker()
        self._broker_decoder = Decoder()
        self._kept.discard(pid)
        self.send({"op": "succession", "how": how})
        self._start_broker(self._start)

    # -------------------------------------------------------------------------------------------- end

    def _finish(self) -> None:
        if self._admits and not self._done:
            self._let_broker_end()
        super()._finish()
        if self._run_dir:
            from scoop.launch import rundir

            rundir.remove_run_dir(self._run_dir)

    def _let_broker_end(self) -> None:
        """Wait until the broker has told those who have joined, whom no agent of this job ends."""
        if self._broker is None:
            return
        self._tell_broker({"op": "end"})
        self._broker.shutdown(socket.SHUT_WR)
        deadline = time.monotonic() + BROKER_END_S
        while time.monotonic() < deadline:
            try:
                if os.waitid(os.P_PID, self._broker_pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                    return
            except ChildProcessError:
                return
            time.sleep(0.005)


def main(origin: int) -> NoReturn:
    """Run as the agent of this host; `origin` is the origin's process id if it is on this host, else 0."""
    os.dup2(0, _IN)
    os.dup2(1, _OUT)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    os.set_inheritable(_IN, False)
    os.set_inheritable(_OUT, False)
    process.become_agent(_OUT)
    serve(HostAgent(_IN, _OUT, origin))
