"""The origin's handle on its agent: starts it, talks to it, ends it.

It is needed at a program's first call, so that only cheap modules are imported at the top.
"""

from __future__ import annotations

import os
import select
import sys
import time

import msgpack  # type: ignore[import-untyped, unused-ignore]

from scoop.launch.link import AGENT_SOCKET, JOB_VARIABLE, Decoder, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from scoop.launch.link import Message

_READ_SIZE = 256 << 10
_KILL_AFTER_S = 6.0  # the agent gives up on processes that do not die after 5 s
_REAP_S = 2.0
DEFAULT_SIGNALS = [number for number in range(1, 32) if number not in (9, 19)]  # not KILL, not STOP
_PROGRAM = (
    "import sys;sys.path[:]=list(filter(None,sys.path))+sys.argv[2:];"
    "from scoop.launch.agent import main;main(int(sys.argv[1]))"
)


class AgentLost(ConnectionError):
    """The agent of this pool is gone: it was killed or has stopped. Its workers died with it."""


class AgentHandle:
    """The origin's end: one agent process, its workers behind it.

    `send` may be called from any thread. `receive` is for one thread at a time. A handle belongs to the
    process that made it; a forked child calls `forget`.
    """

    def __init__(self, pid: int, link: int, job: str) -> None:
        import threading

        self.pid = pid
        self.job = job
        self._link = link
        self._send_lock = threading.Lock()
        self._read_lock = threading.Lock()
        self._decoder = Decoder()
        self._end = False
        self._stopped = False
        self._reaped = False
        self._status: int | None = None  # how the process ended, as of os.waitpid, if that was seen

    @classmethod
    def start(
        cls,
        count: int,
        entry: str,
        *,
        preload: Iterable[str] = (),
        spec: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
        sys_path: Iterable[str] | None = None,
        cwd: str | None = None,
        job: str | None = None,
        executable: str | None = None,
    ) -> AgentHandle:
        """Start an agent and ask it for workers. Returns at once; the agent reports what comes of it.

        Args:
            count: workers to start with.
            entry: what each worker calls, "module:function", with the spec and its index.
            preload: modules that the agent imports, so that workers have them.
            spec: handed to every worker; anything msgpack can carry. "run_dirs" names directories to remove
                if this process dies.
            env: variables to add for the workers, set before `preload` is imported.
            sys_path: their module search path; that of this process if None.
            cwd: their working directory; that of this process if None.
            job: hex id in the environment of all of them; random if None.
            executable: Python to use; the one that runs this process if None.

        Raises:
            OSError: the process cannot be started.
        """
        handle = cls.spawn(job=job, executable=executable)
        try:
            handle.begin(count, entry, preload=preload, spec=spec, env=env, sys_path=sys_path, cwd=cwd)
        except BaseException:
            handle.close(0.0)
            raise
        return handle

    @classmethod
    def spawn(cls, *, job: str | None = None, executable: str | None = None) -> AgentHandle:
        """Start an agent that waits for `begin`: it boots while the caller prepares the rest.

        Raises:
            OSError: the process cannot be started.
        """
        job = job or os.urandom(8).hex()
        link, pid = _spawn_agent(job, executable or sys.executable)
        return cls(pid, link, job)

    def begin(
        self,
        count: int,
        entry: str,
        *,
        preload: Iterable[str] = (),
        spec: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
        sys_path: Iterable[str] | None = None,
        cwd: str | None = None,
    ) -> None:
        """Ask a spawned agent for its first workers; see `start`. Once only."""
        self.send(
            {
                "op": "start",
                "count": count,
                "entry": entry,
                "preload": list(preload),
                "spec": dict(spec or {}),
                "env": dict(env or {}),
                "sys_path": list(sys.path if sys_path is None else sys_path),
                "cwd": os.getcwd() if cwd is None else cwd,
            }
        )

    def fileno(self) -> int:
        """Descriptor to poll for reading before `receive`; -1 after `close`."""
        return self._link

    def send(self, message: Message) -> None:
        """Send one message, whole. Blocks only while the agent has not read earlier ones.

        Raises:
            AgentLost: there is no agent any more.
        """
        data = memoryview(encode(message))
        with self._send_lock:
            while data:
                if self._link < 0:
                    raise AgentLost(f"the agent of job {self.job} was closed")
                try:
                    data = data[os.write(self._link, data) :]
                except (BrokenPipeError, ConnectionResetError) as error:
                    raise AgentLost(f"the agent of job {self.job} (process {self.pid}) is gone") from error

    def receive(self) -> list[Message]:
        """Wait for messages. An empty list means that the agent is gone.

        Raises:
            ValueError: what came is not from an agent.
        """
        with self._read_lock:
            return self._receive()

    def _receive(self) -> list[Message]:
        while not self._end:
            try:
                data = os.read(self._link, _READ_SIZE)
            except ConnectionResetError:
                data = b""
            if not data:
                self._end = True
                break
            messages = self._decoder.feed(data)
            for message in messages:
                if message.get("op") == "stopped":
                    self._stopped = True
                    self._tell_stuck(message.get("stuck") or [])
            if messages:
                return messages
        return []

    def _tell_stuck(self, pids: list[int]) -> None:
        if pids:
            print(
                f"scoop: job {self.job} leaves processes behind that not even SIGKILL ends: {sorted(pids)}; "
                "the kernel holds them, often for a file system that does not answer",
                file=sys.stderr,
                flush=True,
            )

    def close(self, grace_s: float) -> list[Message]:
        """Stop workers and agent, and wait until they are gone: at most `grace_s` and some 8 s more.

        Another thread may sit in `receive`: it gets the last messages then, and the empty list.

        Args:
            grace_s: time that workers have to leave before they are killed.

        Returns:
            Messages that came meanwhile and that no `receive` has returned.
        """
        rest: list[Message] = []
        deadline = time.monotonic() + grace_s + _KILL_AFTER_S
        self.stop(grace_s)
        while not self._end and (left := deadline - time.monotonic()) > 0:
            if not self._read_lock.acquire(timeout=min(left, 0.05)):
                continue
            try:
                if not self._end and _ready(self._link, select.POLLIN, min(left, 0.5)):
                    rest += self._receive()
            except ValueError:
                break
            finally:
                self._read_lock.release()
        if not self._end:
            self._kill()
        self._reap(_REAP_S)
        if not self._stopped:
            # It did not come to its own end: what had left its workers' sessions is still there.
            from scoop.launch.process import sweep_job

            sweep_job(self.job)
        # Whoever is in `receive` has seen the end by now: the agent's process is gone.
        with self._read_lock:
            self.forget()
        return rest

    def stop(self, grace_s: float) -> None:
        """Ask the agent to stop within some seconds, unless that would block. Does not wait; see `close`."""
        if not self._send_lock.acquire(timeout=1.0):
            return
        try:
            if self._link >= 0 and _ready(self._link, select.POLLOUT, 1.0):
                os.write(self._link, encode({"op": "stop", "grace_s": grace_s}))
        except OSError:
            pass
        finally:
            self._send_lock.release()

    def forget(self) -> None:
        """Close this end without a word: for a forked child. The agent takes it for our death elsewhere."""
        link, self._link, self._end = self._link, -1, True
        if link >= 0:
            os.close(link)

    def drop(self) -> int | None:
        """Let go of a link whose end `receive` has told, and wait for its process.

        Returns:
            How that process ended, as of `os.waitpid`; None if somebody else has waited for it. Blocks for
            2 s at most, and then kills it.
        """
        self._reap(_REAP_S)
        with self._read_lock, self._send_lock:
            self.forget()
        return self._status

    def give_up(self) -> None:
        """Kill what connects us with the agent, unreachable now: `receive` comes to its end."""
        self._kill()

    def _kill(self) -> None:
        """Kill the agent; the kernel kills its workers with it."""
        # Only while it is our child is the number surely its own: the program may have waited for any child.
        if not self._waited():
            os.kill(self.pid, 9)

    def _waited(self) -> bool:
        """True once the agent's process is gone and waited for."""
        if not self._reaped:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid:
                    self._reaped, self._status = True, status
            except ChildProcessError:  # the program ignores SIGCHLD, or has waited for any child
                self._reaped = True
        return self._reaped

    def _reap(self, limit_s: float) -> None:
        """Wait for the agent's end; kill it if it does not come."""
        deadline = time.monotonic() + limit_s
        pause = 0.0005
        while not self._waited():
            if time.monotonic() > deadline:
                self._kill()
                deadline += limit_s
            time.sleep(pause)
            pause = min(2 * pause, 0.02)


def _ready(descriptor: int, event: int, timeout_s: float) -> bool:
    poll = select.poll()
    poll.register(descriptor, event)
    return bool(poll.poll(timeout_s * 1000))


def _spawn_agent(job: str, executable: str) -> tuple[int, int]:
    """Start the agent's process in a session of its own; return our end of the link and its process id.

    Not `subprocess`: it costs an import of 14 ms, and a spawn copies nothing of a large program.
    """
    import fcntl
    from _socket import socketpair

    if not executable:
        raise OSError("sys.executable is empty: scoop does not know which Python to start; set it")
    ours, theirs = (end.detach() for end in socketpair())
    try:
        # Above the number it gets in the child, where a copy onto itself might stay close-on-exec.
        high = fcntl.fcntl(theirs, fcntl.F_DUPFD_CLOEXEC, AGENT_SOCKET + 1)
        os.close(theirs)
        theirs = high
        pid = os.posix_spawn(
            executable,
            [executable, *interpreter_flags(), "-c", _PROGRAM, str(os.getpid()), *roots()],
            {**os.environ, JOB_VARIABLE: job},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                (os.POSIX_SPAWN_DUP2, theirs, AGENT_SOCKET),
            ],
            setsid=True,
            setsigmask=(),
            setsigdef=DEFAULT_SIGNALS,
        )
    except BaseException:
        os.close(ours)
        raise
    finally:
        os.close(theirs)
    return ours, pid


def roots() -> list[str]:
    """Directories from which the agent can import scoop and msgpack before it knows our search path."""
    here = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    there = os.path.dirname(os.path.dirname(os.path.abspath(msgpack.__file__)))
    return list(dict.fromkeys([here, there]))


def interpreter_flags() -> list[str]:
    """Options of this interpreter that its workers must share: with -O, say, `assert` differs."""
    flags = sys.flags
    letters = (
        ("O", flags.optimize),
        ("B", flags.dont_write_bytecode),
        ("s", flags.no_user_site),
        ("S", flags.no_site),
        ("E", flags.ignore_environment),
        ("I", flags.isolated),
        ("b", flags.bytes_warning),
    )
    options = ["-" + letter * int(times) for letter, times in letters if times]
    options += ["-W" + warning for warning in sys.warnoptions]
    for name, value in sys._xoptions.items():
        options.append(f"-X{name}" if value is True else f"-X{name}={value}")
    return options
