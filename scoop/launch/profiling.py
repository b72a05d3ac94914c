"""``scoop-run --profile FOLDER``: what each process spends its time on, in a file of its own for `pstats`."""

from __future__ import annotations

import atexit
import itertools
import marshal
import os
import socket
import sys

from scoop._core.profiler import Profiler
from scoop.config import ConfigError

SUFFIX = ".prof"

_pools = itertools.count(1)


class Recording:
    """What the main thread of this process does from now on.

    Args:
        path: file to write at the end.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._pid = os.getpid()
        self._profiler = Profiler()
        self._profiler.start()

    def stop(self) -> None:
        """Record no more; harmless when that has been done."""
        self._profiler.stop()

    def write(self) -> None:
        """Write the file, whole or not at all; what prevents it is said on standard error.

        A child forked by the program leaves its parent's file alone.
        """
        if os.getpid() != self._pid:
            return
        self.stop()
        new = f"{self._path}.{self._pid}"
        try:
            os.makedirs(os.path.dirname(self._path), exist_ok=True)
            with open(new, "wb") as file:
                marshal.dump(self._profiler.stats(), file)
            os.replace(new, self._path)
        except OSError as error:
            print(f"scoop: a profile is lost: {self._path}: {error.strerror}", file=sys.stderr)


def prepare(folder: str) -> str:
    """The path of the folder for all processes of the job; made if it is not there.

    Raises:
        ConfigError: it cannot be made, or nothing can be written there.
    """
    path = os.path.abspath(folder)
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--profile: the folder cannot be made: {path}: {error.strerror}") from None
    if not os.access(path, os.W_OK | os.X_OK):
        raise ConfigError(f"--profile: nothing can be written there: {path}")
    return path


def place(folder: str, host: str = "") -> str:
    """How the paths of the files of a pool's workers begin.

    Args:
        folder: from `prepare`.
        host: of the workers; this one if empty. Further pools of this process (executors) get a number.
    """
    here = socket.gethostname()
    if host and host != here:
        return os.path.join(folder, host)
    number = next(_pools)
    return os.path.join(folder, here + (f"-{number}" if number > 1 else ""))


def begin_worker(place: str, index: int) -> Recording:
    """Record worker `index` of the pool with this place."""
    return Recording(f"{place}-w{index}{SUFFIX}")


def begin_program(folder: str) -> None:
    """Record the process of the program until it ends, calls that run after its last line included."""
    recording = Recording(os.path.join(folder, f"{socket.gethostname()}-origin{SUFFIX}"))
    atexit.register(recording.write)
