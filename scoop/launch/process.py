"""Processes for the agent: how a forked child becomes a worker, whose child a process is, how to kill it.

A child that loses its parent falls to the agent (the "child subreaper"), which must know which worker it came
from: killing with one dead worker what another one started would be wrong. Three marks tell: the session
survives everything but `setsid`; the environment survives `exec`; the command name survives `fork`.
"""

from __future__ import annotations

import os
import signal
import sys
import time

from scoop.launch.link import JOB_VARIABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

WORKER_VARIABLE = "SCOOP_WORKER"
"""Names the pool and the worker in the environment of all that a worker starts."""

OOM_SCORE = 500
"""Least oom_score_adj of a worker: the kernel shall take it rather than the agent or the origin."""

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def process_calls() -> tuple[Callable[[int], object], Callable[[], object]]:
    """The calls to get a signal when the parent dies (argument: its number) and to adopt orphans."""
    try:
        from scoop._core import proc  # type: ignore[attr-defined, import-not-found, unused-ignore]

        return proc.set_parent_death_signal, proc.set_child_subreaper
    except (ImportError, AttributeError):
        import ctypes

        prctl = ctypes.CDLL(None, use_errno=True).prctl

    def call(option: int, argument: int) -> None:
        if prctl(option, ctypes.c_ulong(argument), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)):
            number = ctypes.get_errno()
            raise OSError(number, f"prctl({option}): {os.strerror(number)}")

    return lambda number: call(_PR_SET_PDEATHSIG, number), lambda: call(_PR_SET_CHILD_SUBREAPER, 1)


def set_name(name: str) -> None:
    """Name that `ps` and `top` show for this process; at most 15 bytes count."""
    _write("/proc/self/comm", name)


def close_above(highest: int) -> None:
    """Close all descriptors above one: what the program left inheritable would be held open by the agent."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > highest:
            try:
                os.close(int(name))
            except OSError:  # the one that listed them
                pass


def become_agent(highest: int) -> None:
    """Prepare this process for many workers; only descriptors up to `highest` stay open."""
    global _soft_limit
    close_above(highest)
    set_name("scoop-agent")
    # Three pipes per worker; what programs expect is given back to the workers.
    _soft_limit = raise_descriptor_limit()


def raise_descriptor_limit() -> int:
    """Let this process open as many files as it may; returns the limit before."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return soft


_soft_limit: int | None = None


def worker_name(index: int) -> str:
    """Command name of a worker."""
    return f"scoop-w{index}"


def kill_group(pid: int) -> None:
    """SIGKILL to a child that has not been waited for and to its process group.

    As long as it is not waited for, the number cannot belong to anybody else. Both calls are needed: a child
    that was just forked may not lead its group yet.
    """
    for call in (os.kill, os.killpg):
        try:
            call(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    """A signal, SIGKILL by default, to a child that has not been waited for."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):  # the latter: it runs a set-user-id program
        pass


def sweep_job(job: str, limit_s: float = 2.0) -> None:
    """SIGKILL to all on this host that carries the mark of an agent's pool, wherever it has gone.

    For after an agent that was killed: what had left its worker's session outlives both. Blocks until nothing
    is found, at most `limit_s`.
    """
    mark = f"{JOB_VARIABLE}={job}".encode()
    deadline = time.monotonic() + limit_s
    found = True
    while found and time.monotonic() < deadline:
        found = False
        for name in os.listdir("/proc"):
            if name.isdigit() and int(name) != os.getpid() and mark in _environment(int(name)):
                kill(int(name))
                found = True
        if found:
            time.sleep(0.01)


def _environment(pid: int) -> list[bytes]:
    """The environment that a process was started with; empty if it is gone, or somebody else's."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read().split(b"\0")
    except OSError:
        return []


def children() -> list[int]:
    """Process ids of the children of this (single-threaded) process, zombies included."""
    me = os.getpid()
    try:
        with open(f"/proc/self/task/{me}/children", "rb") as file:
            return [int(pid) for pid in file.read().split()]
    except OSError:  # a kernel without that file
        numbers = [int(name) for name in os.listdir("/proc") if name.isdigit()]
        return [pid for pid in numbers if (found := _status(pid)) and found[1] == me]


def came_from(pid: int, worker_pid: int, index: int, marker: str) -> bool:
    """True if a process certainly descends from the given worker; `marker` is its WORKER_VARIABLE."""
    found = _status(pid)
    if found is None:
        return False
    name, _, session = found
    if session == worker_pid or name == worker_name(index):
        return True
    return f"{WORKER_VARIABLE}={marker}".encode() in _environment(pid)


def _status(pid: int) -> tuple[str, int, int] | None:
    """Command name, parent and session of a process; None if it is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            head, _, tail = file.read().rpartition(")")
    except OSError:
        return None
    fields = tail.split()
    return head.partition("(")[2], int(fields[1]), int(fields[3])


def become_worker(
    index: int, parent: int, outputs: tuple[int, int], marker: str, set_death_signal: Callable[[int], object]
) -> None:
    """Make a worker of a process that the agent `parent` has just forked.

    Args:
        index: its number.
        parent: process id of the agent.
        outputs: descriptors that become standard output and standard error; both are closed.
        marker: value of WORKER_VARIABLE.
        set_death_signal: from `process_calls`.
    """
    os.setsid()
    set_death_signal(signal.SIGKILL)
    if os.getppid() != parent:  # it died before the kernel knew our wish
        os._exit(1)
    for stream, output in enumerate(outputs, 1):
        os.dup2(output, stream)
        os.close(output)
    os.environ[WORKER_VARIABLE] = marker
    set_name(worker_name(index))
    _prefer_for_oom()
    import resource

    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    if _soft_limit is not None:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (_soft_limit, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
        )
    for file in (sys.stdout, sys.stderr):
        # The agent's own output is no terminal: without this, lines would wait for a full buffer.
        if file is not None and hasattr(file, "reconfigure"):
            file.reconfigure(line_buffering=True)


def default_signals(numbers: tuple[int, ...]) -> None:
    """Undo the agent's signal handling in a worker. Ctrl-C stays ignored: it is the origin's business."""
    signal.set_wakeup_fd(-1)
    for number in numbers:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def run_entry(entry: str, spec: dict[str, Any], index: int) -> NoReturn:
    """Call "module:function" with the spec and the index, and end this process with the status it returns.

    Ends without the interpreter's clean-up: that would run the exit handlers of what the agent imported.
    """
    status = 1
    try:
        module, _, name = entry.partition(":")
        __import__(module)
        function = getattr(sys.modules[module], name)
        status = _exit_status(function(spec, index))
    except SystemExit as error:
        status = _exit_status(error.code)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        for file in (sys.stdout, sys.stderr):
            try:
                file.flush()
            except (OSError, ValueError, AttributeError):
                pass
        os._exit(status)


def _exit_status(code: object) -> int:
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    print(code, file=sys.stderr)
    return 1


def _prefer_for_oom() -> None:
    path = "/proc/self/oom_score_adj"
    try:
        with open(path, encoding="ascii") as file:
            current = int(file.read())
    except (OSError, ValueError):
        return
    if current < OOM_SCORE:
        _write(path, str(OOM_SCORE))


def _write(path: str, text: str) -> None:
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError:
        pass
