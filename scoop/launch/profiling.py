"""``scoop-run --profile FOLDER``: where each process spent its time, a file for each (of `cProfile`).

The profile of a process is that of its main thread, where tasks run. A task that waits lets others run on the
same thread; their time is in the cumulative time of its wait too. `tottime` is each function's own.
"""

from __future__ import annotations

import os
import socket
from contextlib import contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

SUFFIX = ".prof"


@contextmanager
def profiled(folder: str, name: str) -> Iterator[None]:
    """Profile what runs inside, and write it to `<folder>/<host>-<name>.prof` whatever ends it.

    Args:
        folder: made if it is not there; empty: nothing is profiled.
        name: of the process among those of its host.
    """
    if not folder:
        yield
        return
    import cProfile

    profile = cProfile.Profile()
    profile.enable()
    try:
        yield
    finally:
        profile.disable()
        os.makedirs(folder, exist_ok=True)
        profile.dump_stats(os.path.join(folder, f"{socket.gethostname()}-{name}{SUFFIX}"))
