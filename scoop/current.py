"""The session of this process: made at the first call in the origin, given by the agent in a worker."""

from __future__ import annotations

import os
import sys
import threading

from scoop.config import Config

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from scoop._core.session import Session
    from scoop.launch.origin import Origin

session: Session | None = None
"""The session of this process, None until there is one."""

pool: Origin | None = None
"""In the origin, what belongs to the session."""

is_origin = True
size = 1
worker_name = "origin"
log_level = 30
"""In a worker, the level of the origin's logger when it started its workers (30: logging.WARNING)."""

profile_folder = ""
"""Where each process of this job writes its profile; empty: nowhere."""

checkpoints: str | None = None
"""In the origin, once there is a session: the directory for checkpoints of every map; None for none."""

_PLACE_VARIABLES = ("IS_ORIGIN", "WORKER_NAME", "BROKER_NAME", "BROKER_ADDRESS", "META_ADDRESS")
_launched = False
_by_hand: bool | None = None  # looked up once: the variables leave the environment
_given: dict[str, Any] = {}  # by the command line and `configure`, above the environment
_lock = threading.RLock()


def settings() -> Config:
    """The options of this process: defaults, environment, command line, `configure`, later ones first.

    Raises:
        ConfigError: an environment variable has a value that its option cannot have (a ValueError).
    """
    return Config.load().with_values(**_given)


def preset(values: Mapping[str, object]) -> Config:
    """Take what the command line says; returns what holds then, raises ConfigError for what cannot be."""
    config = settings().with_values(**values)
    _given.update(values)
    return config


def configure(
    *,
    workers: int | None = None,
    seed: int | None = None,
    copy: bool | None = None,
    origin_idle: bool | None = None,
    threads: int | None = None,
) -> None:
    """Set how the workers of this program are started; before the first call of `scoop.futures`.

    Args:
        workers: how many processes compute, the origin included; None takes the cores this process may use.
        seed: what all generators of `scoop.rng` derive from; None takes a random one.
        copy: whether a call that runs in this process sees copies of mutable arguments, as others do.
        origin_idle: whether this process runs no task itself.
        threads: threads that numerical libraries may start in each process.

    Under ``scoop-run`` with hosts, the workers have been started when the program begins: then only `seed`
    and `copy` are taken, the rest is what its command line says.

    Raises:
        RuntimeError: the workers have been started by an earlier call.
        ConfigError: a value is out of bounds; it is a ValueError.

    Example:
        >>> scoop.configure(workers=4)
    """
    values = {"workers": workers, "seed": seed, "copy": copy, "origin_idle": origin_idle, "threads": threads}
    given = {name: value for name, value in values.items() if value is not None}
    if session is not None and not _launched:
        raise RuntimeError(
            "scoop.configure() comes too late: the workers have been started by an earlier call"
        )
    preset(given)
    if session is not None and pool is not None:
        # Started by scoop-run before the program: where and how many is its command's business.
        try:
            pool.reconfigure(settings())
        except RuntimeError as error:
            raise RuntimeError(f"scoop.configure() comes too late: {error}") from None


def get() -> Session:
    """The session of this process; starts the workers if there is none. Blocks for some milliseconds then."""
    return session if session is not None else _start()


def _start() -> Session:
    global session, pool, size, checkpoints
    with _lock:
        if session is not None:
            return session
        if pool is not None and pool.failure is not None:
            raise pool.failure
        checkpoints = settings().checkpoint
        if started_by_hand():
            from scoop.launch import byhand

            pool = byhand.join_as_origin(settings())
            size = pool.total
            session = pool.session
            return session
        from scoop.launch.pool import Pool

        config = settings()
        count = config.workers or max(_default_workers(), 2 if config.origin_idle else 1)
        if config.origin_idle and count < 2:
            raise ValueError("with origin_idle somebody else must compute: it takes 2 workers at least")
        pool = Pool(count - 1, remote_only=config.origin_idle, total=count, config=config)
        size = count
        session = pool.session
        return session


def begin_with(job: Origin) -> None:
    """Make a pool that was started elsewhere that of this process; before its first call."""
    global session, pool, _launched, checkpoints
    session, pool, _launched, checkpoints = job.session, job, True, settings().checkpoint


def broken(own: Origin) -> None:
    """Let later calls raise the failure of this process's pool, until `shutdown`. Nothing for other pools."""
    global session
    if pool is own:
        session = None


def started_by_hand() -> bool:
    """Whether variables of the environment say which broker this process belongs to."""
    global _by_hand
    if _by_hand is None:
        # Looked at without an import, for nearly every program has none of them.
        names = ["IS_ORIGIN", "BROKER_ADDRESS", *("SCOOP_" + name for name in _PLACE_VARIABLES)]
        _by_hand = any(name in os.environ for name in names)
    return _by_hand


def serve_by_hand() -> bool:
    """Serve tasks if this process was started by hand as a worker; returns whether it was. Blocks.

    Raises:
        StartupFailed: the broker does not answer, or does not take this process.
    """
    if not started_by_hand():
        return False
    from scoop.launch import byhand

    return byhand.serve()


def _default_workers() -> int:
    from scoop.launch import cores

    return cores.available_cores()


def shutdown(*, wait: bool = True, cancel: bool = False) -> None:
    """End the workers of this program, if there are any. A later call starts new ones.

    Args:
        wait: return when all is over; otherwise a thread sees to it.
        cancel: cancel calls that have not started; otherwise they finish first.
    """
    global session, pool
    with _lock:
        ending, pool, session = pool, None, None
    if ending is not None:
        ending.finish(wait=wait, cancel=cancel)


def argv_for_workers() -> list[bytes]:
    """What `sys.argv` is to be in workers: that of the program."""
    return [os.fsencode(argument) for argument in sys.argv]


def enter_worker(own: Session, spec: dict[str, Any], index: int) -> None:
    """Make this process worker `index`; called once by its boot code."""
    global session, is_origin, size, worker_name, log_level
    session, is_origin, size = own, False, spec["size"]
    worker_name = spec.get("name") or f"worker-{index}"
    log_level = spec.get("level", log_level)


def pack_initializer(initializer: Callable[..., object], initargs: tuple[Any, ...]) -> bytes:
    """Encode an executor's initializer for its workers; raises NotPicklableError if it cannot travel."""
    from scoop import pickling
    from scoop.pickling.rules import is_findable

    # A worker that lacks its module cannot ask for it yet.
    module = getattr(initializer, "__module__", None) or "__main__"
    if module != "__main__" and not is_findable(module):
        pickling.by_value(module)
    return pickling.dumps_args((initializer, *initargs), None, "initializer")


def initialize(data: bytes) -> None:
    """Run an executor's initializer in this worker."""
    from scoop import pickling

    (initializer, *initargs), _ = pickling.loads_args(data)
    initializer(*initargs)


def attempt() -> int:
    """Which try of the running task this is. Does not block.

    A task whose process dies, or whose host is lost, is run again: what it did outside of its process may be
    there already. A task that must not do that twice looks here first.

    Returns:
        1 for the first; more if an earlier one was lost, or may have been. A task that a task submits
        begins with 1, also if that runs again; items of a map share the number of their piece. 1 in the
        program itself.

    Example:
        >>> import scoop
        >>> scoop.attempt()
        1
    """
    return session.current_attempt() + 1 if session is not None else 1
