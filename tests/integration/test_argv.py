"""What a task sees in `sys.argv`: the program's, wherever it runs."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

pytestmark = pytest.mark.timeout(60)

PROGRAM = """\
import os, sys, time
from scoop import Executor
def seen(): return sys.argv[1:], os.getpid()
if __name__ == "__main__":
    with Executor(1) as executor:
        argv, pid = executor.submit(seen).result(20)
    assert pid != os.getpid()
    print(argv == sys.argv[1:], *map(os.fsencode, argv))
"""


def test_arguments_of_the_program_in_a_worker(run: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = run(PROGRAM, "0.01", "two words", "ü")
    assert done.stdout == f"True {b'0.01'} {b'two words'} {'ü'.encode()}\n"
