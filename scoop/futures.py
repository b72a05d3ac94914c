"""What programs call: calls that run in parallel, and their results.

The functions have the meaning of `concurrent.futures`; the names in camel case are those of SCOOP 0.7. The
workers start at the first call and end with the program. Every function may be called from every task, as
deep as one likes: a task that waits for others runs them, so it cannot deadlock.

Example::

    from scoop import futures

    def size(tree):
        children = [futures.submit(size, child) for child in tree]
        return 1 + sum(child.result() for child in children)

    if __name__ == "__main__":
        print(futures.submit(size, [[], [[], []]]).result())        # 5
"""

from __future__ import annotations

from scoop import current
from scoop.waiting import ALL_COMPLETED, as_completed, join, join_all, wait, wait_all, wait_any

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from concurrent.futures import BrokenExecutor, CancelledError, TimeoutError
    from concurrent.futures import Future as _Future
    from os import PathLike
    from typing import Any, Literal, ParamSpec, TypeVar

    from scoop.future import Future

    P = ParamSpec("P")
    T = TypeVar("T")
    U = TypeVar("U")

__all__ = [
    "ALL_COMPLETED",
    "FIRST_COMPLETED",
    "FIRST_EXCEPTION",
    "BrokenExecutor",
    "CancelledError",
    "Future",
    "TimeoutError",
    "as_completed",
    "join",
    "joinAll",
    "join_all",
    "map",
    "mapJoin",
    "mapReduce",
    "mapScan",
    "mapWait",
    "map_as_completed",
    "map_join",
    "map_reduce",
    "map_scan",
    "map_wait",
    "shutdown",
    "startup",
    "submit",
    "submit_once",
    "wait",
    "waitAll",
    "waitAny",
    "wait_all",
    "wait_any",
]

FIRST_COMPLETED = "FIRST_COMPLETED"
"""For `wait`: return when any future has ended."""
FIRST_EXCEPTION = "FIRST_EXCEPTION"
"""For `wait`: return when any future has raised, or all have ended."""
_ABSENT: Any = object()  # no initial value; None can be one


# What importing takes time is imported when it is first needed: a program's workers start meanwhile.
def __getattr__(name: str) -> Any:
    if name in ("BrokenExecutor", "CancelledError", "TimeoutError"):
        import concurrent.futures as module
    elif name == "Future":
        from scoop import future as module  # type: ignore[no-redef]
    else:
        raise AttributeError(f"module 'scoop.futures' has no attribute {name!r}")
    value = globals()[name] = getattr(module, name)
    return value


# ---------------------------------------------------------------------------------------------- calls


def submit(fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> _Future[T]:
    """Let `fn(*args, **kwargs)` run in this or another worker, and return its future. Does not block.

    The call runs in a worker that has nothing else to do, or here when its result is awaited. It sees
    copies of mutable arguments wherever it runs. A future among the arguments is replaced by its result
    before.

    Args:
        fn: any callable that can be pickled, or a lambda, a closure, a function of ``__main__``.
        args, kwargs: its arguments.

    Returns:
        A future; a `concurrent.futures.Future` of class `scoop.Future`.

    Raises:
        NotPicklableError: the function or an argument cannot be sent to another process; it names the
            attribute.
        TypeError: `fn` is not callable.

    Example:
        >>> future = futures.submit(pow, 2, 10)
        >>> future.result()
        1024
    """
    return (current.session or current.get()).submit(fn, args, kwargs)  # type: ignore[no-any-return]


def submit_once(fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> _Future[T]:
    """Like `submit`, for a call that must not begin twice: one that sends a letter or pays a bill.

    Before another worker begins with it, it asks this process, which grants that once; that costs a round
    trip. Until then the call may move freely. If what had been granted is lost, with a worker or its host,
    the future fails: the call may have run, or a part of it. What this process submits again, because its
    own task is run again, is another call; `scoop.attempt` says so.

    Args:
        fn, args, kwargs: see `submit`.

    Returns:
        A future.

    Raises:
        NotPicklableError, TypeError: as `submit`. The future itself may raise `WorkerLost` or `TaskCrashed`.

    Example:
        >>> futures.submit_once(pow, 2, 10).result()
        1024
    """
    from scoop._core.wire import ONCE

    return (current.session or current.get()).submit(fn, args, kwargs, ONCE)  # type: ignore[no-any-return]


def map(
    fn: Callable[..., T],
    /,
    *iterables: Iterable[Any],
    timeout: float | None = None,
    chunksize: int | None = None,
    buffersize: int | None = None,
    checkpoint: str | PathLike[str] | Literal[False] | None = None,
) -> Generator[T, None, None]:
    """Apply `fn` to the items of the iterables in parallel; return an iterator of the results, in their
    order.

    The items may be as many and as short as they come: short ones are sent in pieces whose size follows
        from their
    measured run time. Work begins at the call. Iterables whose length is known are collected at the call;
    from others, which may be endless, items are drawn some way ahead of the results that are taken. An
    iterator that is closed or thrown away cancels what has not started.

    Args:
        fn: called with one item of each iterable.
        iterables: they end with the shortest.
        timeout: seconds from this call until a result must be there; None, the default, for no limit.
        chunksize: items that travel and run together; None, the default, chooses.
        buffersize: at most so many items are drawn and their results not yet taken; None for no such limit.
        checkpoint: a file of the user's that keeps finished results, within 1 s of their arrival: a later map
            with the same file computes only what is not there, or has changed. None, the default, for the
            directory of ``scoop-run --checkpoint``, if there is one; False for none in any case.

    Returns:
        A generator. Taking its next result may block; the thread runs calls meanwhile, unless there is a
        `timeout`. It raises what `fn` raises, after the results before that.

    Raises:
        concurrent.futures.TimeoutError: from the iterator, when a result is late.
        NotPicklableError: an item cannot be sent; at the call or from the iterator.
        ValueError: `chunksize` or `buffersize` is less than 1.
        CheckpointError: the file is no checkpoint, others could have written it, or it is in use.
        UsageError: `checkpoint` was given in a task; only the program itself can keep results.

    Example:
        >>> list(futures.map(pow, [2, 3, 4], [5, 2, 3]))
        [32, 9, 64]
    """
    from scoop.mapping import run_map

    carver = _carver(fn, checkpoint)
    return run_map(current.get(), fn, iterables, timeout, chunksize, buffersize, eager=False, carver=carver)


def map_as_completed(
    fn: Callable[..., T],
    /,
    *iterables: Iterable[Any],
    timeout: float | None = None,
    checkpoint: str | PathLike[str] | Literal[False] | None = None,
) -> Iterator[T]:
    """Apply `fn` to the items in parallel; return an iterator of the results in the order in which they come.

    Args:
        fn: called with one item of each iterable.
        iterables: as for `map`.
        timeout: seconds from this call until all results must be there; None for no limit.
        checkpoint: as for `map`; results that are there already come first.

    Returns:
        An iterator, whose next may block. It raises what `fn` raises at once.

    Raises:
        concurrent.futures.TimeoutError: from the iterator, when a result is late.
        CheckpointError, UsageError: as for `map`.

    Example:
        >>> sorted(futures.map_as_completed(abs, [-3, 2, -1]))
        [1, 2, 3]
    """
    from scoop.mapping import run_map_as_completed

    return run_map_as_completed(current.get(), fn, iterables, timeout, _carver(fn, checkpoint))


def _carver(fn: Callable[..., Any], checkpoint: Any) -> Callable[..., Any]:
    # What cuts a map into pieces; one that also keeps results is imported only when it is wanted.
    session = current.get()
    if checkpoint is None and current.checkpoints is None:
        from scoop.carver import Carver

        return Carver
    from scoop.resuming import carver_for

    return carver_for(session, fn, checkpoint)


def map_reduce(
    map_fn: Callable[..., T],
    reduction: Callable[[T, T], T],
    /,
    *iterables: Iterable[Any],
    timeout: float | None = None,
    initial: T = _ABSENT,
) -> T:
    """Apply `map_fn` to the items in parallel and reduce the results to one. Blocks.

    Neighbouring results are reduced where they were made, and those values by a tree of tasks, always in
    the order of
    the items: `reduction` has to be associative, it need not be commutative.

    Args:
        map_fn: called with one item of each iterable.
        reduction: takes two results, makes one.
        iterables: as for `map`; they must end.
        timeout: seconds until the result must be there; None for no limit.
        initial: reduced in front of all results, and the result if there are none.

    Raises:
        TypeError: there are no items and no `initial`, as for `functools.reduce`.
        concurrent.futures.TimeoutError: it took too long.

    Example:
        >>> futures.map_reduce(len, max, ["spam", "knights", "ni"])
        7
    """
    from scoop.reductions import map_reduce as run

    before = () if initial is _ABSENT else (initial,)
    return run(map_fn, reduction, iterables, timeout, before)  # type: ignore[no-any-return]


def map_scan(
    map_fn: Callable[..., T],
    reduction: Callable[[T, T], T],
    /,
    *iterables: Iterable[Any],
    timeout: float | None = None,
    initial: T = _ABSENT,
) -> list[T]:
    """Apply `map_fn` to the items in parallel; return the running reductions of the results. Blocks.

    The list is that of ``itertools.accumulate(map(map_fn, *iterables), reduction)``; `reduction` has to be
    associative.

    Args:
        map_fn: called with one item of each iterable.
        reduction: takes two results, makes one.
        iterables: as for `map`; they must end.
        timeout: seconds until the result must be there; None for no limit.
        initial: comes first in the list, and is reduced in front of all results.

    Raises:
        TypeError: there are no items and no `initial`, as for `functools.reduce`.
        concurrent.futures.TimeoutError: it took too long.

    Example:
        >>> import operator
        >>> futures.map_scan(abs, operator.add, [1, -2, 3, -4])
        [1, 3, 6, 10]
    """
    from scoop.reductions import map_scan as run

    return run(map_fn, reduction, iterables, timeout, () if initial is _ABSENT else (initial,))


def map_join(fn: Callable[..., T], /, *iterables: Iterable[Any]) -> list[T]:
    """Apply `fn` to the items in parallel and return the list of the results. Blocks; as ``list(map(...))``.

    Example:
        >>> futures.map_join(abs, [-1, 2])
        [1, 2]
    """
    return list(map(fn, *iterables))


def map_wait(fn: Callable[..., T], /, *iterables: Iterable[Any]) -> Iterator[_Future[T]]:
    """Submit a call for each item; return an iterator of their futures in order, each when it has ended.

    Example:
        >>> [future.result() for future in futures.map_wait(abs, [-1, 2])]
        [1, 2]
    """
    return wait_all(*[submit(fn, *items) for items in zip(*iterables, strict=False)])


# ------------------------------------------------------------------------------------ start and end


def startup(main: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T | None:
    """Run a program's main function and end the workers afterwards. Blocks.

    It is not needed: the workers start at the first call and end with the program anyway.

    Args:
        main: the main function.
        args, kwargs: its arguments.

    Returns:
        What `main` returns. In a worker that has loaded the program, where it is not for it to run, None.

    Raises:
        BaseException: what `main` raises; calls that have not started are cancelled then.

    Example:
        >>> futures.startup(futures.map_join, abs, [-1, 2])
        [1, 2]
    """
    if not current.is_origin or current.serve_by_hand():
        return None
    try:
        result = main(*args, **kwargs)
    except BaseException:
        shutdown(cancel_futures=True)
        raise
    shutdown()
    return result


def shutdown(wait: bool = True, *, cancel_futures: bool = False) -> None:
    """End the workers. A later call starts new ones. In a task it does nothing.

    Calls that were submitted finish first. Items of a `map` that have not been submitted yet, because
    nobody takes its results, are dropped.

    Args:
        wait: return when all is over; otherwise at once.
        cancel_futures: cancel the calls that have not started.

    Example:
        >>> futures.shutdown()
    """
    if current.is_origin:
        current.shutdown(wait=wait, cancel=cancel_futures)


mapReduce = map_reduce
mapScan = map_scan
joinAll = join_all
waitAny = wait_any
waitAll = wait_all
mapJoin = map_join
mapWait = map_wait
