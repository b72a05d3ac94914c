"""Real Slurm, Grid Engine, MPICH and Open MPI on the testbed's hosts: where jobs run, and how they end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import end_all
from testbed import TESTBED, install, left, run

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]

ROOT = Path(__file__).resolve().parents[2]
END_S = 90
SLOTS = "4"  # of each host, whatever this machine has

WHERE = """\
import socket, sys, time
from collections import Counter
import scoop
from scoop import futures

def where(x):
    time.sleep(0.01)
    return socket.gethostname()

def tree(depth):
    if depth == 0:
        return 1
    left, right = (futures.submit(tree, depth - 1) for _ in range(2))
    return left.result() + right.result()

if __name__ == "__main__":
    print("go", flush=True)
    hosts = Counter(futures.map(where, range(int(sys.argv[1]) if len(sys.argv) > 1 else 400)))
    print(scoop.SIZE, *sorted(hosts), sum(hosts.values()), futures.submit(tree, 8).result(), flush=True)
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Callable[[str], None]]:
    """Four hosts; brings up "slurm" or "sge" on them when asked, one at a time. All down at the end."""
    install("hosts")
    up: list[str] = []

    def bring(system: str) -> None:
        if up and up[-1] != system:
            run(f"{up.pop()}-down")
        if system not in up:
            install(system)
            os.environ["TB_SLURM_CPUS"] = os.environ["TB_SGE_SLOTS"] = SLOTS
            run(f"{system}-up", "4")
            up.append(system)

    run("hosts-up", "4")
    try:
        yield bring
    finally:
        for name in ("TB_SLURM_CPUS", "TB_SGE_SLOTS"):
            os.environ.pop(name, None)
        for system in up:
            subprocess.run([TESTBED / f"{system}-down"], capture_output=True, timeout=60, check=False)
        subprocess.run([TESTBED / "hosts-down"], capture_output=True, timeout=60, check=True)


@pytest.fixture
def on_node1(
    cluster: Callable[[str], None], environment: dict[str, str], tmp_path: Path
) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a command on node1 as somebody who is logged in there; {scoop} in it stands for scoop-run."""
    running: list[subprocess.Popen[str]] = []
    environ: dict[str, Any] = {k: v for k, v in environment.items() if k != "SCOOP_WORKERS"}
    environ.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    environ["XDG_STATE_HOME"] = str(tmp_path / "state")
    (tmp_path / "program.py").write_text(WHERE)

    def begin(*words: str, program: str = "program.py", arguments: tuple[str, ...] = ()) -> Any:
        scoop_run = [sys.executable, "-m", "scoop"]
        command = [part for word in words for part in (scoop_run if word == "{scoop}" else [word])]
        process = subprocess.Popen(
            [TESTBED / "on-host", "node1", *command, str(tmp_path / program), *arguments],
            env=environ,
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        running.append(process)
        return process

    yield begin
    end_all(running)
    deadline = time.monotonic() + 15
    while left() and time.monotonic() < deadline:
        time.sleep(0.02)
    remains = left()
    for pid in remains:
        os.kill(pid, signal.SIGKILL)
    assert not remains, f"processes are left: {remains}"
    launches = tmp_path / "state" / "scoop" / "launches"
    assert not launches.exists() or not list(launches.iterdir()), "directories of launches are left"


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=END_S)
    return process.returncode, out, err


def lines(out: str) -> list[str]:
    """What the program printed, without what the launchers say."""
    return [line for line in out.splitlines() if line == "go" or line[:1].isdigit()]


# --------------------------------------------------------------------------------------------- Slurm

ALLOCATIONS = [
    (("-N", "3", "-n", "6"), "6 node1 node2 node3 400 256"),
    (("-N", "2", "--ntasks-per-node", "2"), "4 node1 node2 400 256"),
    (("-N", "1", "-n", "1", "-c", "3"), "3 node1 400 256"),
    (("-N", "1", "-n", "1", ":", "-N", "2", "-n", "4"), "5 node1 node2 node3 400 256"),
]


@pytest.mark.parametrize(("options", "line"), ALLOCATIONS, ids=["nodes", "per-node", "cpus", "heterogeneous"])
def test_inside_a_slurm_allocation(cluster, on_node1, options, line):
    cluster("slurm")
    status, out, err = ended(on_node1("salloc", "-Q", *options, "{scoop}"))
    assert status == 0, err
    assert lines(out) == ["go", line]


def test_n_wins_over_the_allocation(cluster, on_node1):
    cluster("slurm")
    status, out, err = ended(on_node1("salloc", "-Q", "-N", "2", "-n", "2", "{scoop}", "-n", "5"))
    assert status == 0, err
    assert lines(out) == ["go", "5 node1 node2 400 256"]


def test_a_slurm_batch_script(cluster, on_node1, tmp_path, until):
    cluster("slurm")
    script = tmp_path / "job.sh"
    script.write_text(f"#!/bin/sh\n{sys.executable} -m scoop -v {tmp_path}/program.py\n")
    out = tmp_path / "job.out"
    words = ["sbatch", "-W", "-N", "3", "--ntasks-per-node", "2", "-o", str(out), str(script)]
    status, _, err = ended(on_node1(*words))
    text = until(lambda: out.exists() and "ended" in out.read_text() and out.read_text(), "the job's output")
    assert status == 0, err + text
    assert lines(text) == ["go", "6 node1 node2 node3 400 256"]
    assert "starting 2 hosts by srun" in text


def test_ssh_in_a_slurm_job_when_asked(cluster, on_node1):
    cluster("slurm")
    words = ["salloc", "-Q", "-N", "2", "-n", "2", "{scoop}", "-v", "--ssh-executable", "ssh"]
    status, out, err = ended(on_node1(*words))
    assert status == 0, err
    assert lines(out) == ["go", "2 node1 node2 400 256"]
    assert "by ssh" in err


def test_a_cancelled_slurm_job_leaves_nothing(cluster, on_node1, until):
    cluster("slurm")
    process = on_node1("salloc", "-Q", "-K", "-N", "2", "-n", "4", "{scoop}", arguments=("100000",))
    assert process.stdout.readline() == "go\n"
    subprocess.run([TESTBED / "on-host", "node1", "scancel", "--user=root"], check=True, timeout=30)
    ended(process)
    until(lambda: not left(), "nothing is left anywhere", 20.0)


# --------------------------------------------------------------------------------------- Grid Engine


@pytest.mark.parametrize(
    ("environment_options", "line"),
    [(("-pe", "rr", "6"), "6 node1 node2 node3 node4 400 256"), (("-pe", "two", "4"), "4 "), ((), "1 ")],
    ids=["round-robin", "two-each", "serial"],
)
def test_inside_a_grid_engine_job(cluster, on_node1, tmp_path, until, environment_options, line):
    cluster("sge")
    script = tmp_path / "job.sh"
    script.write_text(f"#!/bin/sh\ncd {tmp_path}\n{sys.executable} -m scoop -v {tmp_path}/program.py\n")
    out = tmp_path / "job.out"
    words = ["qsub", "-sync", "y", "-j", "y", "-V", "-o", str(out), *environment_options, "-cwd", str(script)]
    status, said, err = ended(on_node1(*words))
    text = until(lambda: out.exists() and "ended" in out.read_text() and out.read_text(), "the job's output")
    assert status == 0, said + err + text
    assert lines(text)[1].startswith(line), text
    assert lines(text)[1].endswith(" 400 256"), text
    assert (" by qrsh" in text) == bool(environment_options)


# ----------------------------------------------------------------------------------- ranks of launchers

SLURM_RANKS = [
    (("srun", "-N", "3", "-n", "6", "{scoop}"), "6 node1 node2 node3 400 256"),
    (("srun", "-N", "1", "-n", "3", "{scoop}"), "3 node1 400 256"),
    (("srun", "--mpi=pmi2", "-N", "2", "-n", "4", "{scoop}"), "4 node1 node2 400 256"),
    (("srun", "-N", "2", "-n", "2", "{scoop}", "-n", "6"), "6 node1 node2 400 256"),
]


@pytest.mark.parametrize(("words", "line"), SLURM_RANKS, ids=["hosts", "one-host", "pmi2", "n"])
def test_ranks_of_srun(cluster, on_node1, words, line):
    cluster("slurm")
    status, out, err = ended(on_node1(*words))
    assert status == 0, err
    assert lines(out) == ["go", line]


HYDRA = ("mpiexec.hydra", "-hosts", "node1,node2,node3", "-ppn", "2", "-n", "6", "{scoop}")
OPEN_MPI = ("mpirun.openmpi", "--oversubscribe", "--host", "node1:2,node2:2,node3:2")
OPEN_MPI += ("-x", "PYTHONPATH", "-x", "PATH", "-x", "XDG_STATE_HOME", "-n", "6", "{scoop}")


@pytest.mark.parametrize(
    ("part", "words"), [("mpich", HYDRA), ("openmpi", OPEN_MPI)], ids=["mpich", "openmpi"]
)
def test_ranks_of_mpi(on_node1, part, words):
    install(part)
    status, out, err = ended(on_node1(*words))
    assert status == 0, err
    assert lines(out) == ["go", "6 node1 node2 node3 400 256"]


def test_the_status_of_the_program_is_that_of_its_ranks(on_node1, tmp_path):
    install("mpich")
    (tmp_path / "ends.py").write_text(
        "import scoop, sys\nprint(scoop.futures.submit(abs, -1).result())\nsys.exit(7)\n"
    )
    status, out, _ = ended(on_node1("mpiexec.hydra", "-n", "3", "{scoop}", program="ends.py"))
    assert (status, out.splitlines()[0]) == (7, "1")


def test_ranks_and_hosts_together_are_refused(on_node1):
    install("mpich")
    status, out, err = ended(on_node1("mpiexec.hydra", "-n", "2", "{scoop}", "--hosts", "node2"))
    assert status != 0
    assert "go" not in out
    assert "leave --hosts and --hostfile out" in err + out


def process_of(rank: int) -> int:
    """The process of one rank of srun, as numbered outside."""
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path("/proc", name, "cmdline").read_bytes().split(b"\0")
            variables = Path("/proc", name, "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"-m" in words and b"scoop" in words and f"SLURM_PROCID={rank}".encode() in variables:
            return int(name)
    raise AssertionError(f"there is no rank {rank}")


def test_a_killed_rank_0_leaves_nothing(cluster, on_node1, until):
    cluster("slurm")
    process = on_node1("srun", "-N", "2", "-n", "4", "{scoop}", arguments=("100000",))
    assert process.stdout.readline() == "go\n"
    os.kill(process_of(0), signal.SIGKILL)
    status, _, err = ended(process)
    assert status != 0
    assert "has lost rank 0" in err
    until(lambda: not left(), "nothing is left anywhere", 20.0)


def test_a_killed_rank_costs_time_only(cluster, on_node1):
    cluster("slurm")
    process = on_node1("srun", "-N", "2", "-n", "4", "{scoop}", arguments=("2000",))
    assert process.stdout.readline() == "go\n"
    os.kill(process_of(3), signal.SIGKILL)
    _, out, err = ended(process)
    assert lines(out)[-1].split()[-2:] == ["2000", "256"], err
    assert "is gone, and its workers with it" in err


@pytest.mark.parametrize("example", ["nested_tree.py", "word_count.py", "deap_onemax.py"])
@pytest.mark.parametrize("launcher", ["salloc", "srun"])
def test_examples(cluster, on_node1, environment, tmp_path, example, launcher):
    if example == "deap_onemax.py":
        pytest.importorskip("deap")
    cluster("slurm")
    shutil.copy(ROOT / "examples" / example, tmp_path)
    alone = subprocess.run(
        [sys.executable, str(tmp_path / example)], env=environment, capture_output=True, text=True,
        timeout=END_S, check=True,
    )  # fmt: skip
    status, out, err = ended(on_node1(launcher, "-Q", "-N", "3", "-n", "6", "{scoop}", program=example))
    assert status == 0, err
    assert out == alone.stdout
