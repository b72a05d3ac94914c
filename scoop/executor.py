"""The Executor on the class of the standard library."""

from __future__ import annotations

import concurrent.futures as _cf
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from scoop.launch.pool import Pool

__all__ = ["Executor"]

P = ParamSpec("P")
T = TypeVar("T")


class Executor(_cf.Executor):
    """Runs calls in worker processes of its own, never in the process that made it.

    It has the interface of `concurrent.futures.ProcessPoolExecutor` of Python 3.14, may be used from any
    thread, and its tasks may use `scoop.futures` for calls of their own.

    Args:
        max_workers: number of worker processes; None takes the cores this process may use.
        initializer: called once in each worker before its first task; a worker in which it fails is
            not used, and the executor is broken then.
        initargs: its arguments.

    Example:
        >>> with scoop.Executor(2) as executor:
        ...     executor.submit(pow, 2, 10).result()
        1024
    """

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
    ) -> None:
        from scoop.launch.cores import available_cores
        from scoop.launch.pool import Pool

        if max_workers is None:
            max_workers = available_cores()
        if not isinstance(max_workers, int) or max_workers <= 0:
            raise ValueError(f"max_workers must be a positive number of processes, not {max_workers!r}")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be callable")
        self._max_workers = max_workers
        self._lock = threading.Lock()
        self._down = False
        self._pool: Pool = Pool(max_workers, remote_only=True, initializer=initializer, initargs=initargs)
        # An executor that is dropped without `shutdown` ends its workers, as in the standard library.
        self._finalizer = weakref.finalize(self, self._pool.finish, wait=False)
        self._finalizer.atexit = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> _cf.Future[T]:
        """Send `fn(*args, **kwargs)` to a worker and return its future. Does not block.

        Raises:
            RuntimeError: the executor has been shut down.
            BrokenPool: its workers cannot be started.
            NotPicklableError: the function or an argument cannot be sent; names the attribute.
        """
        if self._down:
            raise RuntimeError("cannot schedule new futures after shutdown")
        return self._pool.submit(fn, args, kwargs)  # type: ignore[no-any-return]

    def map(
        self,
        fn: Callable[..., T],
        /,
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """Apply `fn` to the items of the iterables in parallel; yield the results in their order.

        Args:
            fn: called with one item of each iterable.
            iterables: collected at once, unless `buffersize` is given.
            timeout: seconds from this call until a result must be there; None for no limit.
            chunksize: items that travel together; None, the default, chooses from measured run times.
            buffersize: at most so many items are submitted and not yet yielded.

        Raises:
            TimeoutError: from the iterator, when a result is late.
        """
        from scoop.mapping import run_map

        if self._down:
            raise RuntimeError("cannot schedule new futures after shutdown")
        return run_map(self._pool, fn, iterables, timeout, chunksize, buffersize, eager=buffersize is None)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the executor. Safe to call twice.

        Args:
            wait: return only when all calls are final and the workers are gone.
            cancel_futures: cancel the calls that have not started.
        """
        with self._lock:
            first = not self._down
            self._down = True
        if first:
            self._pool.finish(wait=wait, cancel=cancel_futures)
        elif wait:
            self._pool.join()

    def terminate_workers(self) -> None:
        """End the workers with SIGTERM at once; outstanding futures fail with BrokenPool."""
        self._down = True
        self._pool.abandon("the workers were terminated by terminate_workers()")

    def kill_workers(self) -> None:
        """End the workers with SIGKILL at once; outstanding futures fail with BrokenPool."""
        self._down = True
        self._pool.abandon("the workers were killed by kill_workers()")
