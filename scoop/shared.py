"""Constants that every process of the job can read.

A constant is set once, by any task or by the program, and from then on read by all. It is sent to each
process once, ahead of every task that is submitted after it, so it is the way to give many tasks the same
large value.

Example::

    from scoop import futures, shared

    def price(item):
        return shared.get_const("prices")[item]

    shared.set_const(prices={"egg": 3, "spam": 5})
    print(list(futures.map(price, ["egg", "spam"])))        # [3, 5]

Constants live as long as the workers: `scoop.futures.shutdown` forgets them. They belong to the program and
the workers of `scoop.futures`; the workers of a `scoop.Executor` have constants of their own, set by its
tasks.
"""

from __future__ import annotations

import concurrent.futures as _cf
import logging
import threading
import time
from typing import Any

from scoop import current, pickling

__all__ = ["getConst", "get_const", "setConst", "set_const"]

_POLL_S = 0.005  # nobody else may be there to look at what has arrived

_changed = threading.Condition()
_sent: dict[str, bytes] = {}  # as they travel
_values: dict[str, Any] = {}  # as they are here; made when somebody asks
_job: Any = None  # the session that they belong to


class ConstantMissing(_cf.TimeoutError, KeyError):
    """There is no constant of that name, or it has not arrived in time. A TimeoutError and a KeyError.

    Attributes:
        name: of the constant.
    """

    def __init__(self, name: str, timeout: float = 0.0) -> None:
        super().__init__(f"no shared constant named {name!r} has arrived within {timeout} s")
        self.name = name

    def __str__(self) -> str:
        return str(self.args[0])

    def __reduce__(self) -> tuple[Any, ...]:
        return _missing, (self.name, self.args[0])


def _missing(name: str, text: str) -> ConstantMissing:
    error = ConstantMissing(name)
    error.args = (text,)
    return error


def set_const(**constants: Any) -> None:
    """Give every process of the job, also those that join later, the values of some constants.

    A task that is submitted afterwards sees them. Functions, lambdas included, can be constants. Does not
    wait for anybody to receive them.

    Args:
        constants: names and values; each process gets a copy, this one too.

    Raises:
        TypeError: a constant of that name exists; none of `constants` is set then.
        NotPicklableError: a value cannot be sent.

    Two processes that set the same name at the same time are not told: each process keeps the value that
        came first
    and logs an error for the second one.

    Example:
        >>> shared.set_const(limit=10, double=lambda x: 2 * x)
        >>> futures.submit(lambda: shared.get_const("double")(shared.get_const("limit"))).result()
        20
    """
    session = current.get()
    _poll(session)
    data = {name: pickling.dumps(value, f"the constant {name!r}") for name, value in constants.items()}
    with _changed:
        for name in constants:
            if name in _sent:
                raise TypeError(f"the constant {name!r} exists already: constants are set once")
        _sent.update(data)
        _changed.notify_all()
    for name, value in data.items():
        session.send_constant(name, value)


def get_const(name: str, timeout: float | None = 0.1) -> Any:
    """Return the value of a constant; waits for it.

    Every call in one process returns the same object: do not change it.

    Args:
        name: the name that it was set with.
        timeout: seconds to wait at most, 0.1 by default; None waits as long as it takes. A constant that
            was set before this task was submitted is there already.

    Raises:
        ConstantMissing: it did not arrive in time (a TimeoutError and a KeyError).

    Example:
        >>> shared.set_const(answer=42)
        >>> shared.get_const("answer")
        42
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        _poll(current.session)
        with _changed:
            if name in _values:
                return _values[name]
            data = _sent.get(name)
            if data is None:
                left = _POLL_S if deadline is None else min(_POLL_S, deadline - time.monotonic())
                if left <= 0:
                    raise ConstantMissing(name, timeout or 0.0)
                _changed.wait(left)
                continue
        # Outside of the lock: what a pickle runs may ask for another constant.
        value = pickling.loads(data)
        with _changed:
            return _values.setdefault(name, value)


def setConst(**constants: Any) -> None:
    """As `set_const`: its name in SCOOP 0.7."""
    set_const(**constants)


def getConst(name: str, timeout: float = 0.1) -> Any:
    """As `get_const`, but returns None for a constant that does not arrive in time, as SCOOP 0.7 does."""
    try:
        return get_const(name, timeout)
    except ConstantMissing:
        return None


def _arrived(name: str, data: bytes) -> None:
    """Called by the core, in any thread, when a constant arrives."""
    with _changed:
        _same_job(current.session)
        if name in _sent:
            logging.getLogger("scoop").error("the constant %r was set twice at the same time", name)
            return
        _sent[name] = data
        _changed.notify_all()


def _poll(session: Any) -> None:
    with _changed:
        _same_job(session)
    if session is not None:
        session.poll_parcels()


def _same_job(session: Any) -> None:
    # Constants go with the workers; a new set of workers knows none of them.
    global _job
    if session is not _job:
        if _job is not None:
            _sent.clear()
            _values.clear()
        _job = session
