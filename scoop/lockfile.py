"""A lock file that says who holds it: host, process and incarnation.

On one host the kernel's lock on the file decides, and, where a file system has none, whether the process
still lives: what a dead process left is taken over. Of another host nothing can be known, so its lock stands
until somebody removes the file. It gets its name only when it is locked and written: nobody sees half of it.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["LockFile", "LockHeld"]

_TRIES = 100  # to take a lock that others take and release at the same time
_CONTENT_BYTES = 4096


class LockHeld(Exception):
    """Somebody else holds the lock; the text says who, and what can be done."""


class LockFile:
    """A lock that this process holds until `release`.

    Args:
        folder: descriptor of the directory.
        name: of the file in it.
        path: the whole path, for messages.

    Raises:
        LockHeld: another process has it, or may have it.
        OSError: the file cannot be made.
    """

    def __init__(self, folder: int, name: str, path: str) -> None:
        self.incarnation = os.urandom(8).hex()
        self._folder, self._name, self._path = folder, name, path
        hidden = f".{name}.{self.incarnation}"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = os.open(hidden, flags, 0o600, dir_fd=folder)
        try:
            os.write(self._file, self._content())
            _try_lock(self._file)
            self._publish(hidden)
        except BaseException:
            self.forget()
            raise
        finally:
            os.unlink(hidden, dir_fd=folder)

    def _content(self) -> bytes:
        pid = os.getpid()
        holder = {
            "host": socket.gethostname(),
            "pid": pid,
            "started": _start_of(pid),
            "incarnation": self.incarnation,
        }
        return json.dumps(holder).encode() + b"\n"

    def _publish(self, hidden: str) -> None:
        for _ in range(_TRIES):
            try:
                os.link(hidden, self._name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
                return
            except FileExistsError:
                self._remove_stale()
        raise LockHeld(f"others take and release {self._path} again and again: try later")

    def _remove_stale(self) -> None:
        """Remove the file of a dead process of this host; raises LockHeld for any other."""
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            file = os.open(self._name, flags, dir_fd=self._folder)
        except FileNotFoundError:  # released meanwhile
            return
        try:
            free = _try_lock(file)
            holder = _holder(os.pread(file, _CONTENT_BYTES, 0))
            if not self._is_current(file):
                return
            self._refuse_unless_dead(free, holder)
            os.unlink(self._name, dir_fd=self._folder)
        finally:
            os.close(file)

    def _is_current(self, file: int) -> bool:
        try:
            named = os.stat(self._name, dir_fd=self._folder, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return os.path.samestat(named, os.fstat(file))

    def _refuse_unless_dead(self, free: bool, holder: dict[str, Any] | None) -> None:
        remedy = f"If you are sure that nobody uses it, remove {self._path}"
        if holder is None:
            raise LockHeld(f"its lock file says nothing that makes sense. {remedy}")
        host, pid = holder["host"], holder["pid"]
        if host != socket.gethostname():
            raise LockHeld(f"it is in use by process {pid} on host {host}. {remedy}")
        if not free or _start_of(pid) == holder["started"] != 0:
            raise LockHeld(
                f"it is in use by process {pid} on this host: wait for its end, or use another file"
            )

    def release(self) -> None:
        """Remove the file, if it is still ours. Safe to call twice."""
        if self._file < 0:
            return
        try:
            if self._is_current(self._file):
                os.unlink(self._name, dir_fd=self._folder)
        except OSError:  # a directory that nobody can write any more; the process's end makes the lock stale
            pass
        self.forget()

    def forget(self) -> None:
        """Close it only: for a child made by fork, whose parent has the lock."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _try_lock(file: int) -> bool:
    """Take the kernel's lock; False if another process has it. A file system without locks says yes."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _holder(content: bytes) -> dict[str, Any] | None:
    """Who a lock file names; None if it names nobody."""
    try:
        holder = json.loads(content)
        return {
            "host": str(holder["host"]),
            "pid": int(holder["pid"]),
            "started": int(holder["started"]),
        }
    except (ValueError, KeyError, TypeError):
        return None


def _start_of(pid: int) -> int:
    """When a living process of this host started, in clock ticks since boot; 0 if there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            state, *fields = file.read().rpartition(b")")[2].split()
        return 0 if state in (b"Z", b"X") else int(fields[18])
    except (OSError, ValueError, IndexError):
        return 0
