"""Private directories of one pool: one for its sockets, one for its shared memory.

Each is ours alone (mode 0700) and holds a lock file that its owner keeps locked, so that whatever a dead
owner left behind can be recognised and removed. A directory gets its public name only once the lock is held:
under that name there is never one whose owner has not locked it yet.
"""

from __future__ import annotations

import fcntl
import os
import stat
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SOCKET_PATH_LIMIT = 107
"""Longest path of a Unix socket in bytes: sun_path without its final zero."""

LONGEST_NAME = 24
"""Bytes kept free for the name of a socket in a run directory."""

ADOPT_S = 5.0
"""How long what a dead process has left may take to end and let go of its directory."""

SEGMENT_PARENT = "/dev/shm"
_LOCK = "lock"
_held: dict[str, int] = {}


class RunDirError(RuntimeError):
    """No safe place for the files of a pool. The text says what was tried and why it was refused."""


def make_run_dir(*, longest_name: int = LONGEST_NAME, environ: Mapping[str, str] = os.environ) -> str:
    """Make a private directory for sockets: in $XDG_RUNTIME_DIR, else the temporary directory, else /tmp.

    Args:
        longest_name: bytes of the longest socket name that will be used in it.
        environ: where XDG_RUNTIME_DIR and TMPDIR are looked up.

    Returns:
        Absolute path, `<parent>/scoop-<uid>-<8 hex digits>`. It is locked until `remove_run_dir` or the end
        of this process.

    Raises:
        RunDirError: no parent is safe, writable and short enough for a socket.
    """
    refused: list[str] = []
    for parent in _parents(environ):
        length = len(os.fsencode(os.path.join(parent, _name("0" * 8)))) + 1 + longest_name
        if length > SOCKET_PATH_LIMIT:
            refused.append(
                f"{parent}: too long, a socket's path would be {length} bytes of {SOCKET_PATH_LIMIT}"
            )
            continue
        try:
            return _make(parent)
        except (OSError, RunDirError) as error:
            refused.append(f"{parent}: {_reason(error)}")
    raise RunDirError(
        "no place for the sockets of this pool:\n  "
        + "\n  ".join(refused)
        + "\nSet XDG_RUNTIME_DIR or TMPDIR to a directory with a short path that only you can write."
    )


def adopt_run_dir(path: str) -> str:
    """Take over the directory of a process that has died; returns its path. Blocks until nobody locks it.

    Raises:
        RunDirError: it is gone, or somebody still holds it after `ADOPT_S`.
    """
    try:
        _check_own(path)
        lock = os.open(os.path.join(path, _LOCK), os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise RunDirError(f"{path} cannot be taken over: {_reason(error)}") from error
    deadline = time.monotonic() + ADOPT_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() > deadline:
                os.close(lock)
                raise RunDirError(f"{path} is still in use by what it was made for") from None
            time.sleep(0.005)
        else:
            _held[path] = lock
            return path


def make_segment_dir(parent: str = SEGMENT_PARENT) -> str:
    """Make a private directory for shared memory segments, locked like a run directory.

    Raises:
        RunDirError: the directory cannot be made there or would not be safe.
    """
    try:
        return _make(parent)
    except (OSError, RunDirError) as error:
        raise RunDirError(
            f"no place for shared memory: {parent}: {_reason(error)}. Mount a tmpfs there (a container may "
            "need a larger --shm-size) or free some of it."
        ) from error


def remove_run_dir(path: str) -> bool:
    """Remove a directory made here, and let go of its lock. True if it is gone afterwards.

    Only a real directory of this user with a name of ours is touched. Links in it are removed, not followed.
    """
    gone = _remove_tree(path)
    lock = _held.pop(path, None)
    if lock is not None:
        os.close(lock)
    return gone


def sweep_stale(parent: str) -> list[str]:
    """Remove the directories of ours in `parent` whose owner is dead.

    Returns:
        The paths that were removed. Whatever cannot be read, locked or removed is left alone.
    """
    removed = []
    prefix = _name("")
    try:
        names = sorted(name for name in os.listdir(parent) if name.startswith(prefix))
    except OSError:
        return []
    for name in names:
        path = os.path.join(parent, name)
        if path in _held or not _is_ours(path):
            continue
        try:
            lock = os.open(os.path.join(path, _LOCK), os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # the owner lives, or somebody else is sweeping
            pass
        else:
            if _remove_tree(path):
                removed.append(path)
        finally:
            os.close(lock)
    return removed


def own_dirs(environs: Iterable[Mapping[str, str]]) -> list[str]:
    """The directories of this user, as `make_run_dir` makes them, where the environments say."""
    parents = {parent: None for environ in environs for parent in _parents(environ)}
    found = []
    for parent in [*parents, f"/run/user/{os.getuid()}"]:
        try:
            names = sorted(name for name in os.listdir(parent) if name.startswith(_name("")))
        except OSError:
            continue
        found += [path for name in names if _is_ours(path := os.path.join(parent, name))]
    return list(dict.fromkeys(found))


def _parents(environ: Mapping[str, str]) -> list[str]:
    """Candidate parents, best first. Links are resolved: what is checked is what will be used."""
    named = [environ.get(name) for name in ("XDG_RUNTIME_DIR", "TMPDIR", "TEMP", "TMP")]
    paths = [os.path.realpath(path) for path in named if path and os.path.isabs(path)]
    return list(dict.fromkeys([*paths, "/tmp"]))


def _name(suffix: str) -> str:
    return f"scoop-{os.getuid()}-{suffix}"


def _make(parent: str) -> str:
    """Make, lock and publish a directory in `parent`."""
    _check_parent(parent)
    while True:
        path = os.path.join(parent, _name(os.urandom(4).hex()))
        hidden = os.path.join(parent, "." + os.path.basename(path))
        try:
            os.mkdir(hidden, 0o700)
        except FileExistsError:
            continue
        try:
            return _lock_and_publish(hidden, path)
        except FileExistsError:
            continue


def _lock_and_publish(hidden: str, path: str) -> str:
    lock = -1
    try:
        os.chmod(hidden, 0o700)  # an odd umask may have taken bits away
        _check_own(hidden)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        lock = os.open(os.path.join(hidden, _LOCK), flags, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.lexists(path):
            raise FileExistsError(path)
        os.rename(hidden, path)
    except BaseException:
        if lock >= 0:
            os.close(lock)
        _remove_contents(hidden)
        raise
    _held[path] = lock
    return path


def _check_parent(parent: str) -> None:
    """Refuse a directory in which another user could replace what is ours; an absolute path without links.

    Raises:
        RunDirError: somebody else could, there or above; the text says where and why.
        OSError: it cannot be looked at.
    """
    if not stat.S_ISDIR(os.lstat(parent).st_mode):
        raise RunDirError("is not a directory")
    path = parent
    while True:
        where = "" if path == parent else f"{path} above it "
        found = os.lstat(path)
        if found.st_uid not in (0, os.getuid()):
            raise RunDirError(f"{where}belongs to user {found.st_uid}, not to you ({os.getuid()}) or root")
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not found.st_mode & stat.S_ISVTX:
            mode = stat.S_IMODE(found.st_mode)
            raise RunDirError(
                f"{where}lets others rename files in it (mode {mode:04o}, no sticky bit); chmod it"
            )
        if path == os.path.dirname(path):
            return
        path = os.path.dirname(path)


def _check_own(path: str) -> None:
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise RunDirError(f"{path} was replaced by somebody else while it was made")
    if stat.S_IMODE(found.st_mode) & 0o077:
        raise RunDirError(f"the file system gave mode {stat.S_IMODE(found.st_mode):04o} instead of 0700")


def _is_ours(path: str) -> bool:
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()


def _remove_tree(path: str) -> bool:
    """Remove a directory of ours; True if nothing is left at that path."""
    if os.path.basename(path).startswith(_name("")) and _is_ours(path):
        _remove_contents(path)
    return not os.path.lexists(path)


def _remove_contents(path: str) -> None:
    """Remove a directory and all in it, as far as possible.

    The lock goes with the rest although its owner may be removing too: whoever finds nothing is content.
    """
    try:
        for _, directories, files, handle in os.fwalk(path, topdown=False, follow_symlinks=False):
            for name in files + directories:
                _remove_entry(name, handle)
        os.rmdir(path)
    except OSError:
        pass


def _remove_entry(name: str, directory: int) -> None:
    """Remove a file, a link or an empty directory. (`fwalk` lists links to directories among directories.)"""
    try:
        os.unlink(name, dir_fd=directory)
    except IsADirectoryError:
        os.rmdir(name, dir_fd=directory)
    except FileNotFoundError:
        pass


def _reason(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


def _after_fork() -> None:
    """A forked child owns nothing: its copies of the locks would make a dead owner look alive."""
    for lock in _held.values():
        os.close(lock)
    _held.clear()


os.register_at_fork(after_in_child=_after_fork)
