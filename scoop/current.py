"""The session of this process: made at the first call in the origin, given by the agent in a worker."""

from __future__ import annotations

import os
import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scoop._core.session import Session
    from scoop.launch.pool import Pool

session: Session | None = None
"""The session of this process, None until there is one."""

pool: Pool | None = None
"""In the origin, what belongs to the session."""

is_origin = True
size = 1
worker_name = "origin"

_settings: dict[str, Any] = {"workers": None, "seed": None, "copy": True}
_lock = threading.RLock()


def configure(*, workers: int | None = None, seed: int | bytes | None = None, copy: bool | None = None) -> None:
    """Set how the workers of this program are started; before the first call of `scoop.futures`.

    Args:
        workers: how many processes compute, the origin included; None takes the cores this process may use.
        seed: what all generators of `scoop.rng` derive from; None takes a random one.
        copy: whether a call that runs in this process sees copies of mutable arguments, as calls elsewhere do.

    Raises:
        RuntimeError: the workers have been started.
        ValueError: `workers` is not positive.

    Example:
        >>> scoop.configure(workers=4)
    """
    if session is not None:
        raise RuntimeError("scoop.configure() comes too late: the workers have been started by an earlier call")
    if workers is not None and workers < 1:
        raise ValueError(f"workers counts the origin too and is at least 1, not {workers}")
    for name, value in (("workers", workers), ("seed", seed), ("copy", copy)):
        if value is not None:
            _settings[name] = value


def get() -> Session:
    """The session of this process; starts the workers if there is none. Blocks for some milliseconds then."""
    return session if session is not None else _start()


def _start() -> Session:
    global session, pool, size
    with _lock:
        if session is not None:
            return session
        from scoop.launch import cores
        from scoop.launch.pool import Pool

        count = _settings["workers"] or int(os.environ.get("SCOOP_WORKERS") or 0) or cores.available_cores()
        seed = _settings["seed"]
        if isinstance(seed, int):
            seed = seed.to_bytes(32, "little", signed=True)[:16]
        pool = Pool(count - 1, seed=seed, copy=_settings["copy"])
        size = count
        session = pool.session
        threading._register_atexit(_at_exit)  # type: ignore[attr-defined]
        return session


def _at_exit() -> None:
    """While the interpreter is whole: submitted calls finish, as in the standard library."""
    shutdown(cancel=sys.exc_info()[0] is not None)


def shutdown(*, wait: bool = True, cancel: bool = False) -> None:
    """End the workers of this program, if there are any. A later call starts new ones."""
    global session, pool
    with _lock:
        ending, pool, session = pool, None, None
    if ending is not None:
        ending.finish(wait=wait, cancel=cancel)


def enter_worker(own: Session, spec: dict[str, Any], index: int) -> None:
    """Make this process worker `index`; called once by its boot code."""
    global session, is_origin, size, worker_name
    session, is_origin, size, worker_name = own, False, spec["size"], f"worker-{index}"


def initialize(data: bytes) -> None:
    """Run an executor's initializer in this worker."""
    from scoop import pickling

    (initializer, *initargs), _ = pickling.loads_args(data)
    initializer(*initargs)
