"""The smallest whole program of each library: one no-op in another process.

The harness times it from start to exit. The programs import nothing but their library.
"""

from __future__ import annotations

from pathlib import Path

from bench import launch
from bench.harness import Case, CaseError, Result, Session, last_json, run_program

_PROGRAM = """\
import os
{imports}


def task():
    return os.getpid()


if __name__ == "__main__":
{body}
    print('{{"elsewhere": %s}}' % ("true" if pid != os.getpid() else "false"))
"""

_EXECUTOR = """\
    with {executor} as executor:
        pid = executor.submit(task).result()
"""

_FUTURES = "from concurrent.futures import ProcessPoolExecutor\nfrom multiprocessing import get_context"
_SOURCES = {
    "scoop-executor": ("import scoop", _EXECUTOR.format(executor="scoop.Executor(max_workers=2)")),
    "scoop-run": ("from scoop import futures", "    pid = futures.submit(task).result()\n"),
    "ppe-fork": (
        _FUTURES,
        _EXECUTOR.format(executor='ProcessPoolExecutor(2, mp_context=get_context("fork"))'),
    ),
    "ppe-forkserver": (
        _FUTURES,
        _EXECUTOR.format(executor='ProcessPoolExecutor(2, mp_context=get_context("forkserver"))'),
    ),
    "mp-pool": (
        "from multiprocessing import get_context",
        '    with get_context("fork").Pool(2) as pool:\n        pid = pool.apply_async(task).get()\n',
    ),
    "loky": (
        "from loky import ProcessPoolExecutor",
        _EXECUTOR.format(executor="ProcessPoolExecutor(max_workers=2)"),
    ),
    "scoop07": ("from scoop import futures", "    pid = futures.submit(task).result()\n"),
    "dask": (
        "from distributed import Client",
        "    with Client(n_workers=2, threads_per_worker=1, dashboard_address=None) as client:\n"
        "        pid = client.submit(task).result()\n",
    ),
    "ray": (
        "import ray",
        '    ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)\n'
        "    pid = ray.get(ray.remote(task).remote())\n    ray.shutdown()\n",
    ),
    "mpi4py": (
        "from mpi4py.futures import MPIPoolExecutor",
        _EXECUTOR.format(executor="MPIPoolExecutor()"),
    ),
}


def run_startup(case: Case, session: Session) -> Result:
    """Write the program, run it, and take the time from its start to its exit."""
    folder = session.scratch / "startup"
    folder.mkdir(exist_ok=True)
    program = Path(folder, case.peer.replace("-", "_") + "_program.py")
    imports, body = _SOURCES[case.peer]
    program.write_text(_PROGRAM.format(imports=imports, body=body.rstrip("\n")))
    argv = launch.command(case.peer, case.workers, [], program)
    said, _, seconds = run_program(argv, case.peer, session.scratch, case.deadline)
    answer = last_json(said)
    if answer is None:
        raise CaseError("the program printed no result")
    return {"seconds": seconds, "origin_share": 0.0 if answer["elsewhere"] else 1.0}


def cases(session: Session) -> list[Case]:
    """One case per library. Under a launcher the only task may run in the origin, which its share shows."""
    return [Case("startup", peer, "startup", runner=run_startup, deadline=60) for peer in _SOURCES]
