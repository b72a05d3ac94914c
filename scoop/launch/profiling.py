"""``scoop-run --profile FOLDER``: where each process spent its time, a file for each (of `cProfile`).

The profile of a process is that of its main thread, where tasks run. A task that waits lets others run on the
same thread; their time is in the cumulative time of its wait too. `tottime` is each function's own.
"""

from __future__ import annotations

import marshal
import os
import socket
from contextlib import contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:
    import cProfile
    from collections.abc import Iterator
    from typing import Any

    _Place = tuple[str, int, str]
    _Row = tuple[int, int, float, float, dict[tuple[str, int, str], tuple[int, int, float, float]]]

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
        with open(os.path.join(folder, f"{socket.gethostname()}-{name}{SUFFIX}"), "wb") as file:
            marshal.dump(_summed(profile), file)


def _summed(profile: cProfile.Profile) -> dict[_Place, _Row]:
    """The statistics as `pstats` reads them.

    `Profile.dump_stats` keeps one of several code objects that came from the same place; a function that was
    received twice is two.
    """
    rows: dict[_Place, _Row] = {}
    for entry in profile.getstats():
        _add(rows, _place(entry.code), entry, {})
    for entry in profile.getstats():
        for call in entry.calls or ():
            _add(rows[_place(call.code)][4], _place(entry.code), call)
    return rows


def _add(rows: dict[_Place, Any], place: _Place, entry: Any, *more: Any) -> None:
    # All calls, those that are no recursion, own time, time with what was called.
    counts = (entry.callcount - entry.reccallcount, entry.callcount)
    if not more:  # of a caller; pstats has these two the other way round
        counts = counts[::-1]
    row: Any = (*counts, entry.inlinetime, entry.totaltime)
    before = rows.get(place)
    if before is not None:
        row = tuple(map(sum, zip(before, row, strict=False)))
        more = before[4:]
    rows[place] = (*row, *more)


def _place(code: Any) -> _Place:
    if isinstance(code, str):  # a function written in C
        return ("~", 0, code)
    return (code.co_filename, code.co_firstlineno, code.co_name)
