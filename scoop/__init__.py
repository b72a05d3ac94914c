"""Scalable COncurrent Operations in Python.

A program that computes with `scoop.futures` uses all cores of this machine when it is started as it is, and
all machines of a job when it is started with ``scoop-run``::

    from scoop import futures

    def square(x):
        return x * x

    if __name__ == "__main__":
        print(sum(futures.map(square, range(1000))))

Attributes:
    futures: the functions: `submit`, `map` and others.
    shared: constants that all workers can read.
    logger: a `logging.Logger`; what workers log arrives on the standard error of the program.
    worker: name of the worker that this process is; ``"origin"`` in the program itself.
    IS_ORIGIN: whether this process runs the program itself.
    IS_RUNNING: whether the workers have been started and not been shut down.
    SIZE: how many processes compute, the origin included.
"""

import sys

__version__ = "1.0.0.dev1"

__all__ = [
    "IS_ORIGIN",
    "IS_RUNNING",
    "SIZE",
    "Executor",
    "Future",
    "ScoopError",
    "__version__",
    "attempt",
    "configure",
    "errors",
    "futures",
    "logger",
    "no_switch",
    "numpy_rng",
    "rng",
    "shared",
    "status",
    "worker",
]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any

    from scoop import errors, futures, shared
    from scoop.current import attempt, configure
    from scoop.errors import ScoopError
    from scoop.executor import Executor
    from scoop.future import Future
    from scoop.logs import logger
    from scoop.reports import status
    from scoop.streams import numpy_rng, rng

    IS_ORIGIN: bool
    IS_RUNNING: bool
    SIZE: int
    worker: str


def _check_interpreter() -> None:
    if "t" in getattr(sys, "abiflags", "") or not getattr(sys, "_is_gil_enabled", lambda: True)():
        raise ImportError(
            "scoop has not been tested without the global interpreter lock: use an ordinary CPython"
        )
    try:
        if sys.version_info >= (3, 13):
            import _interpreters as interpreters
        else:
            import _xxsubinterpreters as interpreters  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        return
    current, main = interpreters.get_current(), interpreters.get_main()
    # From 3.13 on each is a tuple that begins with the number.
    if current != main and (not isinstance(current, tuple) or current[0] != main[0]):
        raise ImportError(
            "scoop cannot be imported in a subinterpreter: its threads and sockets are the process's"
        )


_check_interpreter()


class no_switch:
    """Keep this thread with this task: while inside, waiting runs no other task here.

    A task that waits lets others run in its thread meanwhile. Inside this context they do not, so that
    thread-local state, an `threading.RLock` or a library that is not reentrant stays the task's own. What
    is awaited is still run on the spot if nobody has begun it.

    Example:
        >>> with scoop.no_switch():
        ...     total = sum(f.result() for f in children)
    """

    __slots__ = ("_before", "_session")

    def __enter__(self) -> None:
        from scoop import current

        self._session = current.get()
        self._before = self._session.pin(True)

    def __exit__(
        self, kind: "type[BaseException] | None", error: "BaseException | None", trace: "TracebackType | None"
    ) -> None:
        self._session.pin(self._before)


# What is imported when it is first asked for: this module is in every process of a job, most of it is not
# needed there.
_LAZY = {
    "Executor": "scoop.executor",
    "Future": "scoop.future",
    "ScoopError": "scoop.errors",
    "attempt": "scoop.current",
    "configure": "scoop.current",
    "logger": "scoop.logs",
    "numpy_rng": "scoop.streams",
    "rng": "scoop.streams",
    "status": "scoop.reports",
}
_MODULES = ("errors", "futures", "shared")


_LIVE: "dict[str, Callable[[Any], object]]" = {
    "IS_ORIGIN": lambda current: current.is_origin,
    "IS_RUNNING": lambda current: current.session is not None,
    "SIZE": lambda current: current.size,
    "worker": lambda current: current.worker_name,
}


def __getattr__(name: str) -> "Any":
    from importlib import import_module

    if name in _LIVE:
        return _LIVE[name](import_module("scoop.current"))
    if name in _MODULES:
        return import_module(f"scoop.{name}")
    if name in _LAZY:
        value = getattr(import_module(_LAZY[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'scoop' has no attribute {name!r}")


def __dir__() -> "list[str]":
    return sorted({*globals(), *__all__})
