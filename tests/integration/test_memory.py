"""The kernel kills a worker for lack of memory: a real cgroup with a real limit."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(90)

LIMIT_BYTES = 256 << 20
ROOT = Path("/sys/fs/cgroup")
PROGRAM = """\
import sys
import scoop.errors

def hog(x):
    return len(bytearray(b"x") * (2 << 30))

def square(x):
    return x * x

if __name__ == "__main__":
    with scoop.Executor(2) as executor:
        hogs = executor.submit(hog, 1)
        assert list(executor.map(square, range(200))) == [x * x for x in range(200)]
        try:
            hogs.result()
        except scoop.errors.TaskCrashed as error:
            print(error.reason, error.attempts, flush=True)
        assert executor.submit(square, 3).result() == 9
"""


@pytest.fixture
def limited() -> Iterator[Path]:
    """A cgroup of its own, with the file that takes process ids."""
    if os.geteuid() != 0:
        pytest.skip("only root may make a cgroup")
    old = (ROOT / "memory").is_dir()
    folder = (ROOT / "memory" if old else ROOT) / f"scoop-test-{os.getpid()}"
    try:
        folder.mkdir()
        limit = folder / ("memory.limit_in_bytes" if old else "memory.max")
        limit.write_text(str(LIMIT_BYTES))
        if not old:
            (folder / "memory.swap.max").write_text("0")
    except OSError as error:
        if folder.is_dir():
            folder.rmdir()
        pytest.skip(f"no memory cgroup can be made here: {error}")
    yield folder / "cgroup.procs"
    folder.rmdir()


def test_peak_and_limit_are_told(
    run: Callable[..., subprocess.CompletedProcess[str]], limited: Path, tmp_path: Path
) -> None:
    program = tmp_path / "hog.py"
    program.write_text(f"import os\nopen({str(limited)!r}, 'w').write(str(os.getpid()))\n{PROGRAM}")
    done = run(str(program))
    reason, _, attempts = done.stdout.strip().rpartition(" ")
    assert attempts == "3"
    assert reason.startswith("out of memory: it had 0.")
    assert reason.endswith("its cgroup may have 0.25 GiB")
    assert done.stderr.count("signal 9, out of memory: it had") == 3
