"""What keeps the results of a map on disk while it runs.

A `Log` is a `SegmentFile` with a thread that writes what has finished, about twice a second; the maps of a
process that name the same file share it. A full disk costs the checkpoint, never the results: it is said
once, tried again from time to time, and said once more at the end if something is missing.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable

from scoop import segments
from scoop.errors import CheckpointError
from scoop.logs import logger
from scoop.segmentfile import SegmentFile, open_folder

__all__ = ["Log", "check_folder", "open_log"]

FLUSH_S = 0.5  # what is finished is written so often,
FLUSH_ITEMS = 1000  # or when there are so many of them
RETRY_S = 5.0  # after a failure
WAITING_BYTES_MAX = 64 << 20  # not yet written; more of it waits for the disk, or is dropped if that fails

_Place = tuple[int, int, str]  # device and inode of the directory, name in it

_open_logs: dict[_Place, Log] = {}
_lock = threading.RLock()


def open_log(path: str) -> Log:
    """Open or make the checkpoint file at `path`; each user calls `Log.close`. Blocks: it is read once.

    Raises:
        CheckpointError: it is no checkpoint, others could have written it, or another process uses it.
    """
    path = os.path.abspath(path)
    while True:
        log = _open_or_share(path)
        if log.users:
            return log
        log.closed.wait()  # another thread is closing it: then it can be opened again


def check_folder(folder: str) -> None:
    """See whether checkpoints can be kept in `folder`, which is made if only that is missing.

    Raises:
        CheckpointError: they cannot; the text says why.
    """
    folder = os.path.abspath(folder)
    try:
        os.close(open_folder(folder))
    except OSError as error:
        raise CheckpointError(folder, f"cannot be used: {error.strerror or error}") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise CheckpointError(folder, "cannot be written by you")


def _open_or_share(path: str) -> Log:
    folder, name = os.path.split(path)
    with _lock:
        try:
            directory = open_folder(folder)
            found = os.fstat(directory)
            place = found.st_dev, found.st_ino, name
            log = _open_logs.get(place)
            if log is None:
                log = _open_logs[place] = Log(SegmentFile(path, directory), place)
            else:
                os.close(directory)
                log.users += log.users > 0
            return log
        except OSError as error:
            raise CheckpointError(path, f"cannot be used: {error.strerror or error}") from error


class Log:
    """One open checkpoint file; made by `open_log`.

    Attributes:
        file: the file; for what was there when it was opened.
        path: its path, absolute.
        users: maps that use it now; 0 when it is being closed.
        closed: set when it is.
    """

    def __init__(self, file: SegmentFile, place: _Place) -> None:
        self.file = file
        self.path = file.path
        self.users = 1
        self.closed = threading.Event()
        self._place = place
        self._changed = threading.Condition()
        self._writing = threading.Lock()
        self._thread: threading.Thread | None = None
        self._due: list[tuple[int, Callable[[], None]]] = []
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._closing = False
        self._warned = False
        self._failure = ""  # why it could not be written the last time
        self._dropped = 0

    def soon(self, items: int, record: Callable[[], None]) -> None:
        """Let the writing thread call `record`, which appends so many results, in time. Does not block."""
        with self._changed:
            if not self._closing:
                self._due.append((items, record))
                self._wake()

    def append(self, key: segments.Key, payload: bytes) -> None:
        """Put down a result, to be on disk soon. Blocks while too much waits for the disk."""
        record = segments.encode(key, payload)
        with self._changed:
            full = self._waiting_bytes + len(record) > WAITING_BYTES_MAX
            if full and self._failure:
                self._dropped += 1
                return
            self._waiting.append(record)
            self._waiting_bytes += len(record)
            self._wake()
        if full:
            self.flush()

    def skip(self, error: Exception) -> None:
        """Note that a result cannot be put down."""
        with self._changed:
            self._dropped += 1
        self._warn(str(error))

    def _wake(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._write, name="scoop-checkpoint", daemon=True)
            self._thread.start()
        self._changed.notify_all()

    def _ready(self) -> bool:
        items = len(self._waiting) + sum(items for items, _ in self._due)
        return self._closing or (not self._failure and items >= FLUSH_ITEMS)

    def _write(self) -> None:
        """Body of the writing thread."""
        while True:
            with self._changed:
                while not (self._due or self._waiting or self._closing):
                    self._changed.wait()
                self._changed.wait_for(self._ready, RETRY_S if self._failure else FLUSH_S)
                closing, due, self._due = self._closing, self._due, []
            for _, record in due:
                record()
            self.flush()
            if closing:
                self._end()
                return

    def flush(self) -> None:
        """Write what waits, and have it on disk. Blocks; a failure is told once and tried again later."""
        with self._writing:
            with self._changed:
                batch, self._waiting, self._waiting_bytes = self._waiting, [], 0
            if not batch:
                return
            try:
                self.file.append(batch)
                self._failure = ""
            except OSError as error:
                self._failure = error.strerror or str(error)
                with self._changed:
                    self._waiting[:0] = batch
                    self._waiting_bytes += sum(map(len, batch))
                self._warn(self._failure)

    def _warn(self, reason: str) -> None:
        if not self._warned:
            self._warned = True
            logger.warning(
                "%s: results cannot be kept: %s; the map goes on and returns them all", self.path, reason
            )

    def close(self) -> None:
        """One map less uses it. The last one waits until what it has is written, and the file closed."""
        with _lock:
            self.users -= 1
            if self.users:
                return
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            thread = self._thread
        # Outside the lock: the collector may make the thread close the iterator of another map, which takes
        # it. If that is its own, or this wait is interrupted, the thread ends the same way without us.
        if thread is None:
            self._end()
        elif thread is not threading.current_thread():
            thread.join()

    def _end(self) -> None:
        lost = len(self._waiting) + self._dropped
        if lost:
            logger.error(
                "%s: results that are not in it: %d%s; their items run again the next time",
                self.path,
                lost,
                f" ({self._failure})" if self._failure else "",
            )
        self.file.close()
        with _lock:
            _open_logs.pop(self._place, None)
        self.closed.set()


def _close_all() -> None:
    """At the end of the program: iterators that nobody has finished are still alive."""
    with _lock:
        left = [log for log in _open_logs.values() if log.users]
    for log in left:
        log.users = 1
        log.close()


def _after_fork() -> None:
    global _lock
    _lock = threading.RLock()
    for log in _open_logs.values():
        log.users = 0  # closing it does nothing any more
        log.file.leave()
    _open_logs.clear()


atexit.register(_close_all)
os.register_at_fork(after_in_child=_after_fork)
