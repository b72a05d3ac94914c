"""Waiting for futures: what `scoop.futures` offers of it. Light to import; the work is in `scoop.joins`."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from concurrent.futures import Future
    from concurrent.futures._base import DoneAndNotDoneFutures
    from typing import TypeVar

    T = TypeVar("T")

ALL_COMPLETED = "ALL_COMPLETED"
"""For `wait`: return when all futures have ended."""


def wait(
    fs: Iterable[Future[T]],
    timeout: float | None = None,
    return_when: str = ALL_COMPLETED,
) -> DoneAndNotDoneFutures[T]:
    """Wait until some futures have ended. Blocks; without a time limit this thread runs calls meanwhile.

    Args:
        fs: futures, each counts once; of scoop or of any other executor.
        timeout: seconds to wait at most; None, the default, or -1, which is that of SCOOP 0.7, for no limit.
        return_when: FIRST_COMPLETED, FIRST_EXCEPTION or ALL_COMPLETED.

    Returns:
        A named tuple of two sets, `done` and `not_done`.

    Raises:
        ValueError: `return_when` is none of the three.

    Example:
        >>> fs = [futures.submit(abs, -n) for n in range(3)]
        >>> done, not_done = futures.wait(fs)
        >>> len(done), len(not_done)
        (3, 0)
    """
    from scoop import joins

    return joins.wait(fs, None if timeout == -1 else timeout, return_when)


def as_completed(fs: Iterable[Future[T]], timeout: float | None = None) -> Iterator[Future[T]]:
    """Return an iterator of the futures in the order in which they end; each comes once.

    Args:
        fs: futures of scoop or of any other executor.
        timeout: seconds from this call until all must have ended; None for no limit, and then this
            thread runs calls while it waits for the next one.

    Raises:
        concurrent.futures.TimeoutError: from the iterator, when time is over.

    Example:
        >>> sorted(f.result() for f in futures.as_completed([futures.submit(abs, n) for n in (-1, -2)]))
        [1, 2]
    """
    from scoop import joins

    return joins.as_completed(fs, timeout)


def join(future: Future[T], /) -> T:
    """Wait for one future and return its result; the same as ``future.result()``.

    Example:
        >>> futures.join(futures.submit(abs, -1))
        1
    """
    return future.result()


def join_all(*futures: Future[T]) -> list[T]:
    """Wait for all futures and return the list of their results, in the order of the arguments. Blocks.

    Raises:
        BaseException: what the first of them that has failed, in the order of the arguments, has raised.

    Example:
        >>> futures.join_all(futures.submit(abs, -1), futures.submit(abs, -2))
        [1, 2]
    """
    return [future.result() for future in futures]


def wait_any(*futures: Future[T]) -> Iterator[Future[T]]:
    """Return an iterator of the futures in the order in which they end, which raises what one of them has
    raised.

    Example:
        >>> next(futures.wait_any(futures.submit(abs, -1))).result()
        1
    """
    for future in as_completed(futures):
        future.result()
        yield future


def wait_all(*futures: Future[T]) -> Iterator[Future[T]]:
    """Return an iterator of the futures in the order of the arguments, each when it has ended.

    It raises what one of them has raised. See `join_all` for the results.

    Example:
        >>> [future.result() for future in futures.wait_all(futures.submit(abs, -1), futures.submit(abs, -2))]
        [1, 2]
    """
    for future in futures:
        future.result()
        yield future
