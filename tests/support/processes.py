"""What tests need to start processes and to end them."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterable
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Write a program whole: a process that starts from it just then would find a part, and end well."""
    written = path.with_suffix(".new")
    written.write_text(text)
    written.replace(path)


def end_all(processes: Iterable[subprocess.Popen[str]]) -> None:
    """Kill what still runs, wait for all, close their pipes."""
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


_given: set[int] = set()


def free_ports() -> int:
    """A port, with the one after it free too; none is given twice, for whoever asked may not listen yet."""
    while True:
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", 0))
            port: int = one.getsockname()[1]
            try:
                other.bind(("127.0.0.1", port + 1))
            except (OSError, OverflowError):
                continue
            if _given.isdisjoint((port, port + 1)):
                _given.update((port, port + 1))
                return port
