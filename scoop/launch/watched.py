"""A worker as its agent sees it: pipes, page, cause of death; and when to replace one that died too soon.

The page is shared memory in which a worker keeps what it is running, so that its agent can tell after its
death, and meanwhile if somebody asks. Level k of the running calls is in entry k modulo `PAGE_LEVELS`; the
worker writes the entry first and then the number of levels. Behind the entries are names of functions. Who
reads the page of a living worker may see half of a change: for a report that is good enough.
"""

from __future__ import annotations

import mmap
import os
import struct
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LOG = 3
"""The stream, beside 1 and 2 for standard output and standard error, that carries log records."""

EXIT_LEFT = 75
"""Exit status of a worker that was told to leave and held nothing any more (EX_TEMPFAIL of sysexits.h)."""

EXIT_CUT_OFF = 71
"""Exit status of a worker whose descriptors a task has closed (EX_OSERR); lead.pyx has the same number."""

PAGE_SIZE = 8192
PAGE_HEAD = struct.Struct("=QQ")  # running levels, progress counter
PAGE_ENTRY = struct.Struct("=QQII16sQ")  # owner, task, function, attempt, lineage, map item
PAGE_LEVELS = 64
PAGE_ENTRIES_AT = 64
PAGE_TIMES = struct.Struct("=QQQQ")  # when the innermost call and its task began (ns), calls that wait, ready
PAGE_TIMES_AT = 16
PAGE_NAME = struct.Struct("=QI52s")  # owner, function, its name; account.pyx has the same numbers
PAGE_NAMES_AT = 4096
PAGE_NAMES = 64

QUICK_S = 1.0
QUICK_LIMIT = 3
BACKOFF_S = (0.1, 5.0)
CALM_S = 30.0  # without a quick death for so long, the back-off starts again

READ_SIZE = 64 << 10
PIPE_SIZE = 256 << 10
PIPE_BUDGET = 16 << 20  # the kernel's limit per user is 64 MiB: beyond it new pipes shrink to a page
TAIL_SIZE = 4096
_F_SETPIPE_SZ = 1031


def read_running(page: mmap.mmap) -> list[list[Any]]:
    """What a worker was running: [owner, task, function, attempt, lineage, item] each, innermost last."""
    depth = PAGE_HEAD.unpack_from(page, 0)[0]
    levels = range(max(0, depth - PAGE_LEVELS), depth)
    return [
        list(PAGE_ENTRY.unpack_from(page, PAGE_ENTRIES_AT + level % PAGE_LEVELS * PAGE_ENTRY.size))
        for level in levels
    ]


def read_times(page: mmap.mmap) -> tuple[float | None, float | None, int, bool]:
    """More of what it is running: see `PAGE_TIMES`, in seconds of the monotonic clock; None: not known."""
    innermost, task, waiting, ready = PAGE_TIMES.unpack_from(page, PAGE_TIMES_AT)
    return innermost / 1e9 if innermost else None, task / 1e9 if task else None, waiting, bool(ready)


def read_name(page: mmap.mmap, owner: int, function: int) -> str:
    """The name of a function that it has run; empty if so many others have come since that it is gone."""
    for slot in range(PAGE_NAMES):
        found = PAGE_NAME.unpack_from(page, PAGE_NAMES_AT + slot * PAGE_NAME.size)
        if found[:2] == (owner, function):
            return bytes(found[2]).rstrip(b"\0").decode(errors="replace")
    return ""


def mark_ready(page: mmap.mmap) -> None:
    """In the worker: from now on it takes tasks."""
    struct.pack_into("=Q", page, PAGE_TIMES_AT + PAGE_TIMES.size - 8, 1)


class Worker:
    """One worker."""

    __slots__ = ("index", "page", "pid", "pipes", "planned", "started", "tail")

    def __init__(self, index: int, page: mmap.mmap, pipes: dict[int, int]) -> None:
        self.index = index
        self.page = page
        self.pid = 0
        self.pipes = pipes  # read ends, each with the stream it carries: 1, 2 or LOG
        self.planned = False
        self.started = time.monotonic()
        self.tail = b""

    def started_well(self, now: float) -> bool:
        """It has lived for a while or has done something."""
        return now - self.started >= QUICK_S or PAGE_HEAD.unpack_from(self.page, 0) != (0, 0)

    def read(self, descriptor: int) -> bytes | None:
        """Some of its output; empty at the end of that pipe, None if there is none now."""
        try:
            data = os.read(descriptor, READ_SIZE)
        except BlockingIOError:
            return None
        if self.pipes[descriptor] == 2:
            self.tail = (self.tail + data)[-TAIL_SIZE:]
        return data

    def last_words(self, code: int) -> str:
        """How it ended (`code` as from `os.waitstatus_to_exitcode`) and the end of its standard error."""
        how = f"exit status {code}" if code >= 0 else f"signal {-code}"
        lines = self.tail.decode(errors="replace").strip().splitlines()[-10:]
        said = "\n".join(["Its last words:", *lines]) if lines else "It wrote nothing to standard error."
        return f"The last one, worker {self.index} (process {self.pid}), ended with {how}. {said}"

    def death(self, code: int) -> dict[str, Any]:
        """What to report about its end, and what it was running."""
        running = read_running(self.page)
        if code == EXIT_CUT_OFF and not running:
            # What was over a moment ago has done it: its result could not be sent any more.
            running = [list(PAGE_ENTRY.unpack_from(self.page, PAGE_ENTRIES_AT))]
        return {
            "op": "died",
            "worker": self.index,
            "pid": self.pid,
            "exitcode": code if code >= 0 else None,
            "signal": -code if code < 0 else None,
            "running": running,
        }


def prepare(index: int, workers: int) -> tuple[Worker, tuple[int, int, int]]:
    """The record of a worker that is about to be forked, and the write ends of its pipes.

    Args:
        index: its number.
        workers: how many there are already.

    Raises:
        OSError: out of descriptors or memory; nothing is left open.
    """
    size = PIPE_SIZE if 3 * PIPE_SIZE * (workers + 1) <= PIPE_BUDGET else 0
    ends: list[int] = []
    try:
        for _ in range(3):
            read_end, write_end = os.pipe()
            ends += (read_end, write_end)
            os.set_blocking(read_end, False)
            _enlarge(read_end, size)
        page = mmap.mmap(-1, PAGE_SIZE)
    except OSError:
        for descriptor in ends:
            os.close(descriptor)
        raise
    return Worker(index, page, {ends[0]: 1, ends[2]: 2, ends[4]: LOG}), (ends[1], ends[3], ends[5])


def _enlarge(pipe: int, size: int) -> None:
    """Let a worker write that much before it has to wait for its agent, if the kernel allows."""
    if size:
        import fcntl

        try:
            fcntl.fcntl(pipe, _F_SETPIPE_SZ, size)
        except OSError:
            pass


class Restarts:
    """When to replace a worker that died before it did anything: later each time, then never."""

    __slots__ = ("_delay", "_last", "_row", "since")

    def __init__(self) -> None:
        self.since = float("-inf")  # start of the last worker that died so
        self._row = 0
        self._delay = BACKOFF_S[0]
        self._last = float("-inf")

    @property
    def in_a_row(self) -> int:
        """How many have died so since one has started well."""
        return self._row

    def success(self) -> None:
        """A worker has started well."""
        self._row = 0

    def quick_death(self, started: float, now: float) -> float | None:
        """Seconds to wait before the next try; None if there shall be none."""
        if now - self._last > CALM_S:
            self._delay = BACKOFF_S[0]
        self._last = now
        self.since = started
        self._row += 1
        if self._row >= QUICK_LIMIT:
            return None
        delay, self._delay = self._delay, min(2 * self._delay, BACKOFF_S[1])
        return delay
