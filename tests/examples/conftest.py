"""Runs programs as a user would, and sees that nothing of them is left."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import scoop

ROOT = Path(__file__).resolve().parents[2]
MARK = "TEST_PROGRAM_MARK"
GONE_WITHIN_S = 10.0


def environment(run_dir: str, mark: str, workers: int) -> dict[str, str]:
    """What a program finds: nothing of ours but where scoop is, where files may be put, and a mark."""
    own = ("SCOOP_", "WORKER_", "BROKER_", "META_", "IS_ORIGIN", "PYTHONPATH")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    source = str(Path(scoop.__file__).resolve().parents[1])
    return {
        **clean,
        "PYTHONPATH": source,
        "PYTHONUNBUFFERED": "1",
        "XDG_RUNTIME_DIR": run_dir,
        "TMPDIR": run_dir,
        "SCOOP_WORKERS": str(workers),
        "MPLBACKEND": "Agg",
        MARK: mark,
    }


def marked(mark: str) -> list[str]:
    """Processes that carry the mark in their environment, with their command names."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append(f"{folder.name} {(folder / 'comm').read_text().strip()}")
        except OSError:
            continue
    return found


@pytest.fixture
def run_program(tmp_path: Path) -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """Run `python <arguments>` in an empty directory; fails the test if a process or file outlives it."""
    run_dir = tempfile.mkdtemp(prefix="run-", dir="/tmp")  # short: a socket's path has 107 bytes
    marks = []

    def run(
        *arguments: object, workers: int = 2, timeout_s: float = 60.0
    ) -> subprocess.CompletedProcess[str]:
        marks.append(uuid.uuid4().hex)
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=tmp_path,
            env=environment(run_dir, marks[-1], workers),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )

    yield run
    deadline = time.monotonic() + GONE_WITHIN_S
    while (left := [process for mark in marks for process in marked(mark)]) and time.monotonic() < deadline:
        time.sleep(0.02)
    files = [name for name in os.listdir(run_dir) if "scoop" in name]
    shutil.rmtree(run_dir)
    assert not left, f"processes are left: {left}"
    assert not files, f"files are left in the run directory: {files}"
