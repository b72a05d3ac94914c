"""The file behind a map with a checkpoint: opened with care, read once, then only appended to.

It holds pickles, so whoever can write it can run code as its reader. Therefore it is refused unless it and
its directory belong to the user and nobody else may write them, which is looked at on the opened descriptors.
One process at a time has it, by a `LockFile` beside it.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterable
from typing import Any

from scoop import segments
from scoop.errors import CheckpointError
from scoop.lockfile import LockFile, LockHeld
from scoop.logs import logger

__all__ = ["SegmentFile", "open_folder"]

_BLOCK_BYTES = 1 << 18
_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC


def open_folder(folder: str) -> int:
    """Open the directory of a checkpoint, which is made if only that is missing; returns its descriptor.

    Raises:
        CheckpointError: it is not the user's, or others may write it.
        OSError: it cannot be made or opened.
    """
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        pass
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _refuse_shared(folder, os.fstat(directory))
    except BaseException:
        os.close(directory)
        raise
    return directory


def _refuse_shared(path: str, found: os.stat_result) -> None:
    """Raise unless only this user can have written what `found` tells of."""
    why = "a checkpoint holds pickles, so nobody else may be able to write it or its directory"
    if found.st_uid != os.geteuid():
        raise CheckpointError(
            path, f"belongs to user {found.st_uid}, not to you ({os.geteuid()}); {why}: use one of your own"
        )
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        mode = stat.S_IMODE(found.st_mode)
        raise CheckpointError(path, f"others may write it (mode {mode:04o}); {why}: chmod go-w {path}")


class SegmentFile:
    """An open file of records that this process alone writes.

    Args:
        path: of the file, absolute; it is made if it is missing.
        directory: descriptor of its directory, which is closed with the file, and when this fails.

    Raises:
        CheckpointError: it is no checkpoint, others could have written it, or another process uses it.
        OSError: it cannot be opened or read.
    """

    def __init__(self, path: str, directory: int) -> None:
        self.path = path
        self._name = os.path.basename(path)
        self._directory = directory
        self._file = -1
        self._end = 0  # what is behind it does not count
        self._found: dict[bytes, dict[int, int]] = {}  # run -> item -> offset, as it was when it was opened
        self._functions: Counter[tuple[bytes, bytes]] = Counter()  # how many of them, by run and function
        self._lock: LockFile | None = None
        try:
            self._lock = LockFile(directory, f"{self._name}.lock", f"{path}.lock")
            self._open()
        except LockHeld as error:
            self.close()
            raise CheckpointError(path, str(error)) from None
        except BaseException:
            self.close()
            raise

    # --------------------------------------------------------------------------------------- opening

    def _open(self) -> None:
        try:
            self._file = os.open(self._name, _FLAGS | os.O_CREAT, 0o600, dir_fd=self._directory)
        except OSError as error:
            if os.path.islink(self.path):
                raise CheckpointError(self.path, "is a symbolic link: name the file itself") from error
            raise
        found = os.fstat(self._file)
        if not stat.S_ISREG(found.st_mode):
            raise CheckpointError(self.path, "is not a file")
        _refuse_shared(self.path, found)
        mark = segments.MAGIC
        start = os.pread(self._file, len(mark), 0)
        if start == mark:
            self._end = len(mark)
            self._read(found.st_size)
        elif not mark.startswith(start) or found.st_size > len(start):
            raise CheckpointError(self.path, "is not a checkpoint of this version of scoop: use another file")

    def _read(self, size: int) -> None:
        """Learn what is there; what was cut off, replaced or damaged goes."""
        damaged = replaced = 0
        for record in segments.scan(_Blocks(self._file).read, size):
            self._end = record.end
            if record.key is None:
                damaged += 1
                continue
            run, number, function, _ = record.key
            offsets = self._found.setdefault(run, {})
            if number in offsets:
                replaced += 1
                self._functions[run, self._key_at(offsets[number])[1].function] -= 1
            offsets[number] = record.offset
            self._functions[run, function] += 1
        if damaged:
            logger.warning("%s: damaged results, whose items run again: %d", self.path, damaged)
        try:
            if damaged or replaced:
                self._compact()
            elif self._end < size:
                os.ftruncate(self._file, self._end)
        except OSError as error:  # a full disk, for instance; it can be used as it is
            logger.info("%s cannot be made smaller: %s", self.path, error.strerror)

    def _key_at(self, offset: int) -> tuple[int, segments.Key]:
        known = segments.read_key(os.pread(self._file, segments.HEADER_BYTES, offset))
        if known is None:
            raise CheckpointError(self.path, "was cut while it was in use")
        return known

    def _compact(self) -> None:
        """Write what counts to a new file, and put that in the place of the old one."""
        hidden = f".{self._name}.new"
        try:
            os.unlink(hidden, dir_fd=self._directory)  # of a process that died in here
        except FileNotFoundError:
            pass
        new = os.open(hidden, _FLAGS | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=self._directory)
        try:
            end = _write_at(new, segments.MAGIC, 0)
            moved: dict[bytes, dict[int, int]] = {run: {} for run in self._found}
            kept = [(at, run, n) for run, offsets in self._found.items() for n, at in offsets.items()]
            for offset, run, number in sorted(kept):
                moved[run][number] = end
                at, stop = offset, offset + self._key_at(offset)[0]
                while at < stop:
                    part = os.pread(self._file, min(_BLOCK_BYTES, stop - at), at)
                    end = _write_at(new, part, end)
                    at += len(part)
            os.fsync(new)
            os.rename(hidden, self._name, src_dir_fd=self._directory, dst_dir_fd=self._directory)
        except BaseException:
            os.close(new)
            os.unlink(hidden, dir_fd=self._directory)
            raise
        os.close(self._file)
        self._file, self._end, self._found = new, end, moved
        os.fsync(self._directory)

    # --------------------------------------------------------------------------------------- reading

    def at(self, run: bytes, number: int) -> tuple[int, segments.Key] | None:
        """Where the result of an item was when the file was opened, and its key; None if it was not there."""
        offset = self._found.get(run, {}).get(number)
        return None if offset is None else (offset, self._key_at(offset)[1])

    def of_others(self, run: bytes, function: bytes) -> int:
        """How many results of a run there were of functions other than `function`."""
        return sum(n for (of, fn), n in self._functions.items() if of == run and fn != function)

    def payload(self, offset: int) -> bytes:
        """Read the payload of the record that begins there.

        Raises:
            CheckpointError: the file has changed, or cannot be read.
        """
        try:
            record = segments.decode(self._bytes(offset, self._key_at(offset)[0]))
        except OSError as error:
            raise CheckpointError(self.path, f"cannot be read: {error.strerror}") from error
        if record is None:
            raise CheckpointError(self.path, "was changed while it was in use")
        return record[1]

    def _bytes(self, offset: int, size: int) -> bytes:
        data = os.pread(self._file, size, offset)
        while len(data) < size:  # the kernel gives 2 GiB at most
            more = os.pread(self._file, size - len(data), offset + len(data))
            if not more:
                break
            data += more
        return data

    # --------------------------------------------------------------------------------------- writing

    def append(self, records: Iterable[bytes]) -> None:
        """Write records behind the others, and have them on disk. Blocks.

        Raises:
            OSError: they cannot be written; then it is as if nothing had been tried.
        """
        first = not self._end
        try:
            end = _write_at(self._file, segments.MAGIC, 0) if first else self._end
            end = _write_at(self._file, b"".join(records), end)
            os.fdatasync(self._file)
            if first:
                os.fsync(self._directory)
        except OSError:
            try:
                os.ftruncate(self._file, self._end)  # half a record takes room, otherwise it does no harm
            except OSError:
                pass
            raise
        self._end = end

    def close(self) -> None:
        """Close it and let others have it. Safe to call twice."""
        if self._lock is not None:
            self._lock.release()
        self._close_files()

    def leave(self) -> None:
        """Close it in a child made by fork, whose parent still has it."""
        if self._lock is not None:
            self._lock.forget()
        self._close_files()

    def _close_files(self) -> None:
        for file in (self._file, self._directory):
            if file >= 0:
                os.close(file)
        self._file = self._directory = -1


class _Blocks:
    """Reads a file in large blocks."""

    def __init__(self, file: int) -> None:
        self._file = file
        self._block = b""
        self._start = 0

    def read(self, offset: int, size: int) -> bytes:
        """At most `size` bytes from `offset` on; fewer only at the end of the file."""
        if size > _BLOCK_BYTES:
            return os.pread(self._file, size, offset)
        at = offset - self._start
        if at < 0 or at + size > len(self._block):
            self._block, self._start, at = os.pread(self._file, _BLOCK_BYTES, offset), offset, 0
        return self._block[at : at + size]


def _write_at(file: int, data: bytes, offset: int) -> int:
    """Write all of it; returns the offset behind it."""
    view: Any = memoryview(data)
    while view:
        written = os.pwrite(file, view, offset)
        offset += written
        view = view[written:]
    return offset
