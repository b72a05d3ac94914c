"""Random numbers that depend on the job's seed and on the task, not on who runs it or when.

Every call has a place in the tree of calls: the program is the root, its first submitted call or map item
is a child of it, and so on. `rng` derives a generator from the seed of the job
(`scoop.configure(seed=...)`), that place, and the number of generators that the task has asked for before.
So a program gives the same numbers on 1 worker and on 1,000, and a task that is run again after a crash
draws the same numbers again.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Literal, overload

from scoop import current

if TYPE_CHECKING:
    import random

    import numpy as np

__all__ = ["numpy_rng", "rng"]


@overload
def rng(numpy: Literal[False] = False) -> random.Random: ...
@overload
def rng(numpy: Literal[True]) -> np.random.Generator: ...
def rng(numpy: bool = False) -> random.Random | np.random.Generator:
    """Make a random generator for this task.

    The first call in a task, or in one item of a map, gives stream 0, the second stream 1 and so on; they are
    independent of each other and of those of all other tasks. Keep the generator: making it costs some
    microseconds. In the program itself it starts the workers, if they are not there, for the seed is the
    job's.

    Args:
        numpy: make a `numpy.random.Generator` (PCG64) instead of a `random.Random`.

    Returns:
        The generator. It may be pickled, and then goes on where it was.

    Example:
        >>> def tries(n):
        ...     random = scoop.rng()
        ...     return sum(random.random() ** 2 + random.random() ** 2 < 1 for _ in range(n))
        >>> 4 * sum(futures.map(tries, [1000] * 100)) / 100_000            # the same in every run
        3.14...
    """
    digest = _stream()
    if numpy:
        from numpy.random import PCG64, Generator, SeedSequence

        return Generator(PCG64(SeedSequence(int.from_bytes(digest, "little"))))
    from random import Random

    return Random(int.from_bytes(digest, "little"))


def numpy_rng() -> np.random.Generator:
    """Make a `numpy.random.Generator` for this task, as ``rng(numpy=True)``."""
    return rng(numpy=True)


def _stream() -> bytes:
    """32 bytes for the next generator of the running task."""
    session = current.get()
    name = b"%b%d" % (session.current_lineage(), session.next_stream())
    return hashlib.blake2b(name, digest_size=32, person=b"scoop rng").digest()
