"""How the program of a case is started for each library, and why a library cannot be.

Nothing here imports the libraries: each is probed in a process of its own, with the environment that its
cases will get. All cases run in a scratch directory, because the working directory is on the import path
and would decide which ``scoop`` is meant.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CASE = Path(__file__).resolve().parent / "case.py"
SCOOP07_PATH = "BENCH_SCOOP07_PATH"

_PROBES = {
    "scoop": "import scoop; from scoop import futures; scoop.configure, futures.submit",
    "scoop-executor": "import scoop; scoop.Executor",
    "scoop-run": "from scoop import futures; from scoop.launch import cli; cli.main, futures.submit",
    "ppe-fork": "import multiprocessing as m; m.get_context('fork')",
    "ppe-forkserver": "import multiprocessing as m; m.get_context('forkserver')",
    "mp-pool": "import multiprocessing as m; m.get_context('fork')",
    "loky": "import loky",
    "scoop07": "import importlib.metadata as m, scoop.launcher; assert m.version('scoop').startswith('0.7')",
    "dask": "import distributed",
    "ray": "import ray",
    "mpi4py": "import mpi4py.futures; from mpi4py import MPI",
    "bare": "import os; os.fork",
}
PEERS = tuple(name for name in _PROBES if name != "bare")
OURS = ("scoop", "scoop-executor")
ON_REQUEST = ("scoop-run",)
"""Ours too, but the same library under its launcher: measured where ``--peers`` asks for it."""
_reasons: dict[str, str | None] = {}


def scoop_folder() -> str:
    """The folder of the first ``scoop`` on the path that is compiled; that of a checkout may not be."""
    for folder in sys.path:
        if any(Path(folder, "scoop", "_core").glob("wire.*.so")):
            return str(Path(folder).resolve())
    return str(ROOT)


def environment(peer: str) -> dict[str, str]:
    """The environment of a case: a compiled scoop first, except where another ``scoop`` is asked for."""
    env = dict(os.environ)
    paths = [scoop_folder(), str(ROOT)]
    if peer == "scoop07" and env.get(SCOOP07_PATH):
        paths.insert(0, str(Path(env[SCOOP07_PATH]).resolve()))
    inherited = env.get("PYTHONPATH")
    if inherited:
        paths.append(inherited)
    env["PYTHONPATH"] = os.pathsep.join(paths)
    env["PYTHONUNBUFFERED"] = "1"
    if peer == "ray":
        env.update(RAY_USAGE_STATS_ENABLED="0", RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0")
    if peer == "mpi4py":
        # The scratch directory's path would be too long for the sockets that the launcher makes in it.
        env.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    return env


def mpirun() -> str | None:
    """The MPI launcher: from the search path, or beside this interpreter, where wheels put it."""
    return shutil.which("mpirun") or shutil.which("mpirun", path=str(Path(sys.prefix) / "bin"))


def command(peer: str, workers: int, arguments: Sequence[str], program: Path | None = None) -> list[str]:
    """The command line of a case program, or of another program for the same library."""
    target = [str(program)] if program else ["-m", "bench.case"]
    if peer in ("scoop07", "scoop-run"):
        # These launchers take a path. With ``-m`` the search path alone decides which ``scoop`` it is.
        quiet = ["-q"] if peer == "scoop07" else []
        return [sys.executable, "-m", "scoop", *quiet, "-n", str(workers), str(program or CASE), *arguments]
    if peer == "mpi4py":
        launcher = mpirun() or "mpirun"
        return [
            launcher,
            "--oversubscribe",
            "-n",
            str(workers + 1),
            sys.executable,
            "-m",
            "mpi4py.futures",
            *target,
            *arguments,
        ]
    return [sys.executable, *target, *arguments]


def unavailable(peer: str, scratch: Path) -> str | None:
    """None if the library can be used here, otherwise why not, in a few words."""
    if peer not in _reasons:
        _reasons[peer] = _probe(peer, scratch)
    return _reasons[peer]


def _probe(peer: str, scratch: Path) -> str | None:
    if peer not in _PROBES:
        return "no such library is known here"
    if peer == "scoop07" and not os.environ.get(SCOOP07_PATH):
        return f"{SCOOP07_PATH} does not name a directory that holds SCOOP 0.7"
    if peer == "mpi4py" and mpirun() is None:
        return "mpirun is not installed"
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROBES[peer]],
            env=environment(peer),
            cwd=scratch,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "importing it takes more than 60 s"
    if done.returncode == 0:
        return None
    lines = done.stderr.strip().splitlines()
    return lines[-1][:200] if lines else f"its import ends with status {done.returncode}"
