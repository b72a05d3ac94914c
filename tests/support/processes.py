"""Ends processes that tests have started."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable


def end_all(processes: Iterable[subprocess.Popen[str]]) -> None:
    """Kill what still runs, wait for all, close their pipes."""
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
