"""Builds and runs ``ping.c`` against the libzmq that pyzmq brought along."""

from __future__ import annotations

import functools
import importlib.util
import json
import shutil
import subprocess
import tempfile
from pathlib import Path

from bench.harness import Case, CaseError, Result, Session, run_program

SOURCE = Path(__file__).resolve().parent / "ping.c"


@functools.cache
def library() -> str:
    """The libzmq in pyzmq's wheel; a pyzmq built on the system's library is asked for its link."""
    spec = importlib.util.find_spec("zmq")
    if spec is None or spec.origin is None:
        raise CaseError("pyzmq is not installed")
    package = Path(spec.origin).resolve().parent
    bundled = sorted((package.parent / "pyzmq.libs").glob("libzmq-*.so*"))
    if bundled:
        return str(bundled[0])
    for extension in (package / "backend" / "cython").glob("_zmq*.so"):
        listing = subprocess.run(["ldd", str(extension)], capture_output=True, text=True, check=False).stdout
        for line in listing.splitlines():
            name, _, target = line.strip().partition(" => ")
            if name.startswith("libzmq"):
                return target.split()[0]
    raise CaseError("no libzmq found beside pyzmq")


@functools.cache
def program(scratch: Path) -> Path:
    """The compiled ping, made once per run."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise CaseError("no C compiler")
    target = scratch / "ping"
    built = subprocess.run(
        [compiler, "-O2", "-std=c11", "-Wall", "-o", str(target), str(SOURCE), "-ldl"],
        capture_output=True,
        text=True,
        check=False,
    )
    if built.returncode:
        raise CaseError(f"ping.c does not compile: {built.stderr.strip()[:300]}")
    return target


def run_ping(case: Case, session: Session) -> Result:
    """One run of the floor; percentiles in microseconds."""
    # A directory of its own with a short name: a socket's path has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="ping") as folder:
        arguments = [library(), folder, str(case.params["n"]), str(case.params["warmup"])]
        said, _, _ = run_program(
            [str(program(session.scratch)), *arguments], "bare", session.scratch, case.deadline
        )
    result: Result = json.loads(said)
    return result


def case(row: str, n: int, warmup: int) -> Case:
    """The floor as a case of a row."""
    return Case(row, "ping", "ping", {"n": n, "warmup": warmup}, deadline=60, runner=run_ping)
