"""Commands that batch systems start processes with, and what the ranks of a launch have in common."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from scoop.errors import StartupFailed
from scoop.launch import launchers
from scoop.launch.hosts import Host
from scoop.launch.ranks import launch_name
from scoop.launch.schedulers import Allocation, Rank, find_rank

RECORDED = Path(__file__).parent / "data" / "schedulers"


def environment(kind: str, name: str) -> dict[str, str]:
    text = (RECORDED / kind / f"{name}.env").read_text()
    return dict(line.partition("=")[::2] for line in text.splitlines() if "=" in line)


def allocation(scheduler: str) -> Allocation:
    return Allocation(scheduler, (Host("node1", 1), Host("node2", 1)), "", "7")


def everywhere(command: str) -> str:
    return f"/usr/bin/{command}"


@pytest.mark.parametrize(("scheduler", "name"), [("slurm", "srun"), ("sge", "qrsh"), ("lsf", "blaunch")])
def test_each_batch_system_has_its_launcher(scheduler, name):
    found = launchers.find(allocation(scheduler), {}, everywhere)
    assert found is not None
    assert found.name == name
    command = found.command(Host("node2"), "a line; of shell")
    assert name in command
    assert command[-1] == "a line; of shell"
    assert any(word.endswith("node2") for word in command)


@pytest.mark.parametrize("scheduler", ["slurm", "sge", "lsf", "pbs"])
def test_ssh_is_left_where_there_is_none(scheduler):
    assert launchers.find(allocation(scheduler), {}, lambda _: None) is None


def test_pbs_has_none_that_carries_standard_input():
    assert launchers.find(allocation("pbs"), {}, everywhere) is None


def test_a_node_is_looked_for_in_its_component():
    environ = environment("slurm", "het.batch")
    found = launchers.find(allocation("slurm"), environ, everywhere)
    assert found is not None
    assert "--het-group=0" in found.command(Host("node1"), "")
    assert "--het-group=1" in found.command(Host("node3"), "")
    found = launchers.find(allocation("slurm"), environment("slurm", "N3n6.batch"), everywhere)
    assert found is not None
    assert not any("het" in word for word in found.command(Host("node1"), ""))


def test_what_the_job_asked_for_does_not_reach_srun():
    found = launchers.find(allocation("slurm"), {}, everywhere)
    assert found is not None
    command = found.command(Host("node2"), "x")
    assert command[0] == "env"
    assert "SLURM_HOSTFILE" in command[: command.index("srun")]


# --------------------------------------------------------------------------------------------- ranks

SAME = [
    ("mpi", "openmpi-ssh", 4),
    ("mpi", "openmpi-in-slurm", 3),
    ("mpi", "openmpi-in-sge", 3),
    ("slurm", "N3n6", 6),
    ("slurm", "pmi2", 3),
]


@pytest.mark.parametrize(("kind", "name", "size"), SAME)
def test_all_ranks_of_a_launch_have_one_name(kind, name, size):
    names = set()
    for task in range(size):
        environ = environment(kind, f"{name}.task{task}")
        rank = find_rank(environ)
        assert rank is not None
        assert rank.size == size
        names.add(launch_name(rank, environ))
    assert len(names) == 1
    assert names.pop().replace("-", "").isalnum()


def test_launches_have_different_names():
    found = set()
    for kind, name, _ in SAME:
        environ = environment(kind, f"{name}.task0")
        rank = find_rank(environ)
        assert rank is not None
        found.add(launch_name(rank, environ))
    assert len(found) == len(SAME)


def serve_pmi(end: socket.socket, kvs: str) -> list[str]:
    """What MPICH's process manager answers, line by line."""
    heard = []
    with end, end.makefile("rw") as lines:
        for line in lines:
            heard.append(line.strip())
            answer = {
                "cmd=init pmi_version=1 pmi_subversion=1": "cmd=response_to_init pmi_version=1 rc=0",
                "cmd=get_my_kvsname": f"cmd=my_kvsname kvsname={kvs}",
                "cmd=finalize": "cmd=finalize_ack rc=0",
            }[line.strip()]
            lines.write(answer + "\n")
            lines.flush()
            if "finalize" in answer:
                return heard
    return heard


def test_the_process_manager_of_mpich_is_asked():
    ours, theirs = socket.socketpair()
    manager = threading.Thread(target=serve_pmi, args=(theirs, "kvs_12_0_99_node1"))
    manager.start()
    with ours:
        name = launch_name(Rank(1, 4, "PMI_RANK, PMI_SIZE"), {"PMI_FD": str(ours.fileno())})
    manager.join(10)
    assert not manager.is_alive()
    assert name == "pmi-kvs-12-0-99-node1"


@pytest.mark.parametrize("environ", [{}, {"PMI_FD": "x"}, {"PMI_FD": "9999"}])
def test_without_anything_in_common_the_rank_is_refused(environ):
    with pytest.raises(StartupFailed, match="rank 1 of 4"):
        launch_name(Rank(1, 4, "PMI_RANK, PMI_SIZE"), environ)


def test_a_process_manager_that_hangs_up():
    ours, theirs = socket.socketpair()
    theirs.close()
    with ours, pytest.raises(StartupFailed, match="--hosts"):
        launch_name(Rank(1, 4, "PMI_RANK, PMI_SIZE"), {"PMI_FD": str(ours.fileno())})
