"""The exceptions of scoop, ordered by fault and remedy.

::

    ScoopError                  everything scoop raises by itself
     +- UsageError              the caller's code must change
     |   +- NotPicklableError   an argument or function cannot travel (also a PicklingError and a TypeError)
     |   +- ForkedProcess       scoop was used in a child made by os.fork()
     +- ResultNotPicklable      a task has worked, what it returned cannot travel
     +- RemoteError             stands in for a task's exception that cannot travel
     +- MissingGlobal           a pickle names something that does not exist in this process
     +- CheckpointError         a checkpoint file is refused, or cannot be read
     +- ProtocolError           a peer sent something that makes no sense
     +- TransportError          a socket or the network failed (also an OSError)
     +- BrokenPool              processes were lost (also a concurrent.futures BrokenExecutor)
         +- TaskCrashed         this task killed its worker, repeatedly
         +- WorkerLost          the worker that ran it is gone
         +- PoolLost            no worker is left, or the broker is gone
         +- StartupFailed       the workers could not be started

Every one of them survives pickling with its attributes.
"""

from __future__ import annotations

import pickle
import signal as _signal
from concurrent.futures._base import BrokenExecutor
from typing import Any

__all__ = [
    "BrokenPool",
    "CheckpointError",
    "ForkedProcess",
    "MissingGlobal",
    "NotPicklableError",
    "PoolLost",
    "ProtocolError",
    "RemoteError",
    "RemoteTraceback",
    "ResultNotPicklable",
    "ScoopError",
    "StartupFailed",
    "TaskCrashed",
    "TransportError",
    "UsageError",
    "WorkerLost",
]


def _rebuild(cls: type[BaseException], args: tuple[Any, ...], state: dict[str, Any]) -> BaseException:
    """Make the error without its constructor, whose parameters differ from class to class."""
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class ScoopError(Exception):
    """Base of every exception that scoop raises by itself.

    Example::

        try:
            future.result()
        except scoop.ScoopError as error:
            print("the library, not the task, has failed:", error)
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, dict(self.__dict__))


class UsageError(ScoopError):
    """scoop was used in a way that cannot work; the calling code must change."""


class NotPicklableError(UsageError, pickle.PicklingError, TypeError):
    """A function or an argument cannot be sent to another process.

    It is a ``pickle.PicklingError`` and a ``TypeError`` as well, which are what code written for other
    executors catches.

    Attributes:
        what: which value was to be sent, e.g. ``"train: argument 1"``.
        path: the way from that value to the part at fault, e.g. ``".model.layers[3].lock"``; may be empty.
        reason: why that part cannot be pickled.

    Example::

        >>> print(NotPicklableError("argument 1", ".lock", "cannot pickle '_thread.lock' object"))
        argument 1: .lock: cannot pickle '_thread.lock' object
    """

    def __init__(self, what: str, path: str = "", reason: str = "it cannot be pickled") -> None:
        super().__init__(": ".join(part for part in (what, path, reason) if part))
        self.what = what
        self.path = path
        self.reason = reason


class ForkedProcess(UsageError):
    """scoop was used in a child process made by ``os.fork()``, where its threads and sockets do not exist.

    Use the parent process, or start a fresh interpreter (``subprocess``, ``multiprocessing`` with "spawn").
    """


class ResultNotPicklable(ScoopError):
    """A task has run to its end, but what it returned cannot be sent back.

    Attributes:
        task: name of the function.
        type_name: qualified name of the result's type.
        text: short ``repr`` of the result.
        path: the way from the result to the part at fault; may be empty.
        reason: why that part cannot be pickled.
    """

    def __init__(self, task: str, type_name: str, text: str, path: str = "", reason: str = "") -> None:
        where = f"{path}: " if path else ""
        why = reason or "it cannot be pickled"
        super().__init__(
            f"the result of {task} cannot be sent back: {where}{why} (result: {type_name}, {text})"
        )
        self.task = task
        self.type_name = type_name
        self.text = text
        self.path = path
        self.reason = reason


class RemoteError(ScoopError):
    """Stands in for an exception of a task that could not travel as itself.

    The traceback of the other process is its ``__cause__``, a `RemoteTraceback`.

    Attributes:
        class_name: qualified name of the exception's class, e.g. ``"solver.Diverged"``.
        text: its message.
        why: why the exception itself could not be brought here.
    """

    def __init__(self, class_name: str, text: str = "", why: str = "") -> None:
        super().__init__(f"{class_name}: {text}" if text else class_name)
        self.class_name = class_name
        self.text = text
        self.why = why


class RemoteTraceback(Exception):
    """Carries the traceback of another process as text; it is the ``__cause__`` of a task's exception.

    Attributes:
        text: the traceback, headed by a line with host, process and task.
    """

    def __init__(self, text: str = "") -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        # The leading newline separates it from "scoop.errors.RemoteTraceback:" in a printed traceback.
        return f"\n{self.text}"


class MissingGlobal(ScoopError):
    """A pickle refers to a function, class or module that cannot be found in this process.

    The process that made the pickle can send it by value instead, see `scoop.pickling.by_value`.

    Attributes:
        module: name of the module.
        qualname: qualified name inside the module; empty if the module itself cannot be imported.
    """

    def __init__(self, module: str, qualname: str = "") -> None:
        missing = f"{module}.{qualname}" if qualname else f"the module {module}"
        super().__init__(f"{missing} does not exist in this process")
        self.module = module
        self.qualname = qualname


class CheckpointError(ScoopError):
    """A checkpoint file cannot be used.

    Others could have written it, another process uses it, or it is something else. A full disk is no such
    error: the map returns its results, and two lines of the log tell that some of them are not in the file.

    Attributes:
        path: of the file or directory at fault.
        reason: what is wrong with it, and what to do.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class ProtocolError(ScoopError):
    """A peer sent a message that makes no sense: another version of scoop, or not scoop at all."""


class TransportError(ScoopError, OSError):
    """A socket or the network failed. With two arguments, ``errno`` and ``strerror`` are set as in OSError.

    Example::

        >>> TransportError(111, "Connection refused").errno
        111
    """

    def __reduce__(self) -> tuple[Any, ...]:
        # OSError takes its arguments apart and puts them together again by itself.
        return OSError.__reduce__(self)  # type: ignore[return-value]


class BrokenPool(BrokenExecutor, ScoopError):
    """Processes were lost, and this call with them."""


class TaskCrashed(BrokenPool):
    """The process that ran this task died, and the task is not tried again. The pool stays usable.

    Attributes:
        task: name of the function.
        host: host on which the last attempt died.
        pid: process that ran it.
        signal: number of the signal that killed it, or None.
        exitcode: its exit status, or None.
        attempts: how many times the task was tried.
        reason: more about it if known, e.g. ``"out of memory: it had 1.90 GiB, ..."``; may be empty.

    Example::

        >>> print(TaskCrashed("solve", host="n12", pid=4711, signal=9, attempts=3))  # doctest: +ELLIPSIS
        solve killed its process with SIGKILL on n12 (pid 4711), in each of 3 attempts. ...
    """

    def __init__(
        self,
        task: str,
        host: str = "",
        pid: int = 0,
        signal: int | None = None,
        exitcode: int | None = None,
        attempts: int = 1,
        reason: str = "",
    ) -> None:
        self.task = task
        self.host = host
        self.pid = pid
        self.signal = signal
        self.exitcode = exitcode
        self.attempts = attempts
        self.reason = reason
        super().__init__(self._message())

    def _message(self) -> str:
        if self.signal is not None:
            how = f"killed its process with {_signal_name(self.signal)}"
        elif self.exitcode is not None:
            how = f"ended its process with exit status {self.exitcode}"
        else:
            how = "took its process down"
        tries = f"in each of {self.attempts} attempts" if self.attempts > 1 else "in its only attempt"
        because = f": {self.reason}" if self.reason else ""
        where = f" on {self.host or 'an unknown host'} (pid {self.pid})"
        return f"{self.task} {how}{where}, {tries}{because}. {_advice(self.signal, self.reason)}"


def _signal_name(number: int) -> str:
    try:
        return _signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _advice(number: int | None, reason: str) -> str:
    """What to do about a crash, from what causes it, or usually does."""
    if reason.startswith("out of memory"):
        return "Use fewer workers per host, smaller tasks, or a larger limit."
    if number is None:
        return "Look for os._exit() or a library that ends the process; run the call alone to see its output."
    if number == _signal.SIGKILL:
        return "Usually memory ran out: use fewer workers per host or smaller tasks; see the kernel's log."
    if number in (_signal.SIGSEGV, _signal.SIGABRT, _signal.SIGBUS, _signal.SIGILL, _signal.SIGFPE):
        return "A native library failed: run the call alone with python -X faulthandler."
    return "Somebody sent that signal: look for a batch system's limit, or kill in the program."


class WorkerLost(BrokenPool):
    """The worker that ran this task is gone, through no fault of the task, and it could not be run again."""


class PoolLost(BrokenPool):
    """No worker is left, or the link to all of them: everything that was not finished is lost."""


class StartupFailed(BrokenPool):
    """The workers could not be started; the message says which host and why."""
