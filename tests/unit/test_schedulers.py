"""Hosts and ranks from the environment of batch jobs.

The environments were recorded in jobs of a real Slurm 22.05 and Grid Engine, with Open MPI 4.1.4 and MPICH
4.0.2; those of PBS and LSF are written by hand, and MPICH has placed processes by them. What does not belong
to a job (PATH, HOME and the like) has been left out of the recordings.
"""

from __future__ import annotations

import contextlib
import errno
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoop.launch.hosts import COUNT_MAX, NAMES_MAX, Host, HostListError, check_name
from scoop.launch.schedulers import Allocation, Rank, find, find_rank

DATA = Path(__file__).with_name("data") / "schedulers"
SLURM = sorted((DATA / "slurm").glob("*.env"))
SLURM_TASKS = [path for path in SLURM if ".task" in path.name]
SGE = [path for path in sorted((DATA / "sge").glob("*.env")) if ".inherit." not in path.name]
SGE_INHERIT = sorted((DATA / "sge").glob("*.inherit.env"))
MPI = sorted((DATA / "mpi").glob("*.env"))
BY_HAND = [DATA / "pbs" / "job.env", DATA / "lsf" / "job.env"]
Environ = dict[str, str]


def label(path: Path) -> str:
    return path.name.removesuffix(".env")


def load(path: Path) -> Environ:
    return dict(line.split("=", 1) for line in path.read_text().splitlines())


def no_file(path: str) -> str:
    raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)


def gives(text: str) -> Callable[[str], str]:
    return lambda path: text


def reader(path: Path) -> Callable[[str], str]:
    """Reads what the variables of a recorded environment name, from beside it."""
    job = path.name.partition(".")[0]
    beside = {
        "pe_hostfile": path.with_name(f"{job}.pe_hostfile"),
        "arbitrary.hostfile.txt": path.with_name("arbitrary.hostfile.txt"),
        "nodefile": path.with_name("nodefile"),
        "hostfile": path.with_name("hostfile"),
    }

    def read(name: str) -> str:
        return beside[name.rpartition("/")[2]].read_text()

    return read


def counts(found: Allocation | None) -> list[tuple[str, int | None]]:
    assert found is not None
    assert all(host.user is None and host.port is None for host in found.hosts)
    return [(host.name, host.count) for host in found.hosts]


def refused(environ: Environ, read_text: Callable[[str], str] = no_file) -> str:
    with pytest.raises(HostListError) as caught:
        find(environ, read_text=read_text)
    text = str(caught.value)
    assert text.endswith(
        ". Name the hosts yourself with --hosts or --hostfile; --hosts 127.0.0.1 means this host alone."
    )
    return text


# ------------------------------------------------------------------------------------------------ recordings

# What the tasks do not show: jobs that have more processes than their step, and one without a step.
BATCH = {
    "N2only": {"node1": 2, "node2": 2},  # no -n: a process for each CPU, while srun started one on each node
    "overlap": {"node1": 2, "node2": 2, "node3": 2},
    "salloc": {"node1": 2, "node2": 1},
}


def placed(name: str) -> Counter[str]:
    """Where the tasks of a recorded step really ran."""
    return Counter(load(path)["SLURMD_NODENAME"] for path in SLURM_TASKS if path.name.startswith(f"{name}."))


@pytest.mark.parametrize("path", SLURM, ids=label)
def test_slurm_recordings(path: Path) -> None:
    name, where = path.name.split(".")[:2]
    environ = load(path)
    found = find(environ, read_text=reader(path))
    expected = placed(name) if where.startswith("task") else Counter(BATCH.get(name) or placed(name))
    assert Counter(dict(counts(found))) == expected
    assert found is not None
    assert (found.scheduler, found.job) == ("slurm", environ["SLURM_JOB_ID"])
    hostnames = path.with_name(f"{name}.hostnames.txt")
    if hostnames.exists():
        told = hostnames.read_text().split()
        # Of a heterogeneous job scontrol was given the list of the first component only.
        assert [host.name for host in found.hosts][: len(told)] == told
        assert len(told) == (1 if name == "het" else len(found.hosts))
    if where == "batch" and name not in ("het", "N2only"):
        assert sum(expected.values()) == int(environ["SLURM_NTASKS"])


def test_the_recordings_are_there() -> None:
    assert (len(SLURM), len(SGE), len(SGE_INHERIT), len(MPI)) == (70, 8, 7, 28)
    assert {label(path) for path in SLURM} >= {"N3n5.batch", "het.batch", "salloc.salloc", "arbitrary.task0"}


@pytest.mark.parametrize("path", SLURM, ids=label)
def test_ranks_of_slurm(path: Path) -> None:
    name, where = path.name.split(".")[:2]
    found = find_rank(load(path))
    if not where.startswith("task"):
        assert found is None  # SLURM_PROCID and SLURM_NTASKS are there, and would say rank 0 of all
        return
    size = sum(placed(name).values())
    source = {"pmi2": "PMI_RANK, PMI_SIZE", "pmix": "PMIX_RANK"}.get(
        name, "SLURM_PROCID, SLURM_STEP_NUM_TASKS"
    )
    assert found == Rank(int(where.removeprefix("task")), None if name == "pmix" else size, source)


def test_sources() -> None:
    def source(name: str) -> str:
        found = find(load(DATA / name), read_text=reader(DATA / name))
        assert found is not None
        return found.source

    assert source("slurm/N3n5.batch.env") == "SLURM_JOB_NODELIST, SLURM_TASKS_PER_NODE"
    assert source("slurm/het.batch.env") == (
        "SLURM_JOB_NODELIST_HET_GROUP_0, SLURM_TASKS_PER_NODE_HET_GROUP_0, "
        "SLURM_JOB_NODELIST_HET_GROUP_1, SLURM_TASKS_PER_NODE_HET_GROUP_1"
    )
    assert source("slurm/arbitrary.task0.env") == "SLURM_HOSTFILE"
    assert source("sge/rr5.env") == "PE_HOSTFILE"
    assert source("sge/serial.env") == "HOSTNAME, NSLOTS"
    assert source("pbs/job.env") == "PBS_NODEFILE"
    assert source("lsf/job.env") == "LSB_MCPU_HOSTS"


def test_all_components_of_a_heterogeneous_job() -> None:
    environ = load(DATA / "slurm" / "het.batch.env")
    assert environ["SLURM_JOB_NODELIST"] == "node1"  # of the first component
    assert counts(find(environ)) == [("node1", 1), ("node2", 2), ("node3", 2)]
    before_slurm_20 = {name: value for name, value in environ.items() if "_HET_" not in name}
    assert counts(find(before_slurm_20)) == counts(find(environ))


def test_a_distribution_by_file_keeps_its_order() -> None:
    path = DATA / "slurm" / "arbitrary.task1.env"
    assert counts(find(load(path), read_text=reader(path))) == [("node4", 2), ("node2", 1)]
    # The file's name is relative: elsewhere it cannot be read, but Slurm has told the same by its list.
    assert counts(find(load(path), read_text=no_file)) == [("node2", 1), ("node4", 2)]


@pytest.mark.parametrize("path", SGE, ids=label)
def test_grid_engine_recordings(path: Path) -> None:
    environ = load(path)
    found = find(environ, read_text=reader(path))
    if "PE" in environ:
        lines = [line.split() for line in path.with_suffix(".pe_hostfile").read_text().splitlines()]
        assert counts(found) == [(line[0], int(line[1])) for line in lines]
    else:
        assert counts(found) == [(environ["HOSTNAME"], 1)]
    assert found is not None
    assert found.scheduler == "sge"
    assert found.job == ("8.2" if label(path) == "array" else environ["JOB_ID"])
    assert sum(host.count or 0 for host in found.hosts) == int(environ["NSLOTS"])
    assert len(found.hosts) == int(environ["NHOSTS"])
    assert find_rank(environ) is None


@pytest.mark.parametrize("path", SGE_INHERIT, ids=label)
def test_what_qrsh_starts_on_another_host(path: Path) -> None:
    environ = load(path)
    job, host = path.name.split(".")[:2]
    lines = (line.split() for line in path.with_name(f"{job}.pe_hostfile").read_text().splitlines())
    slots = {line[0]: int(line[1]) for line in lines}
    if int(environ["NHOSTS"]) > 1:  # on the job's own first host
        assert next(iter(slots)) == host
        said = (
            f"this is a job of Grid Engine, as JOB_ID is '{environ['JOB_ID']}', but PE_HOSTFILE is not set."
        )
        assert refused(environ).startswith(said)
    else:
        assert counts(find(environ, read_text=no_file)) == [(host, slots[host])]


@pytest.mark.parametrize("path", MPI, ids=label)
def test_ranks_of_mpi(path: Path) -> None:
    job, task = path.name.split(".")[:2]
    found = find_rank(load(path))
    assert found is not None
    assert found.rank == int(task.removeprefix("task"))
    assert found.size == len(list(path.parent.glob(f"{job}.task*.env")))
    name = "OMPI_COMM_WORLD_RANK, OMPI_COMM_WORLD_SIZE" if job.startswith("openmpi") else "PMI_RANK, PMI_SIZE"
    assert found.source == name


@pytest.mark.parametrize("path", MPI, ids=label)
def test_jobs_of_mpi(path: Path) -> None:
    environ = load(path)
    if "in-sge" in path.name:  # the file is on the job's first host
        assert "PE_HOSTFILE: cannot use '/run/" in refused(environ)
        assert "No such file or directory, on this host" in refused(environ)
    elif "in-slurm" in path.name:
        # mpiexec of MPICH runs in a step of its daemons, one on each node. That of Open MPI has one on node2
        # only: the step's counts do not fit the job's hosts, its CPUs do.
        second = 1 if path.name.startswith("mpich") else 2
        assert counts(find(environ)) == [("node1", second), ("node2", 1)]
    else:
        assert find(environ) is None


@pytest.mark.parametrize("path", BY_HAND, ids=lambda path: path.parent.name)
def test_pbs_and_lsf(path: Path) -> None:
    found = find(load(path), read_text=reader(path))
    assert counts(found) == [("node1", 1), ("node2", 2), ("node3", 1)]
    assert found is not None
    assert (found.scheduler, found.job) == (
        path.parent.name,
        {"pbs": "1.node1", "lsf": "1"}[path.parent.name],
    )


# ------------------------------------------------------------------------------------------------- no job


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"HOME": "/home/me", "PATH": "/usr/bin", "HOSTNAME": "login1", "JOB_ID": "7", "ENVIRONMENT": "BATCH"},
        {
            "SLURM_CONF": "/etc/slurm/slurm.conf",
            "SLURM_CLUSTER_NAME": "c",
            "SLURM_JOB_ID": "",
            "SLURM_NODELIST": " ",
        },
        {
            "SLURM_PROCID": "0",
            "SLURM_NTASKS": "4",
            "SLURM_HOSTFILE": "hosts.txt",
            "SLURM_TASKS_PER_NODE": "4",
        },
        {
            "SGE_ROOT": "/usr/share/gridengine",
            "SGE_CELL": "default",
            "SGE_CLUSTER_NAME": "c",
            "NSLOTS": "4",
            "PE_HOSTFILE": "",
        },
        {"PBS_EXEC": "/usr/pbs", "PBS_SERVER": "s", "PBS_DEFAULT": "s", "PBS_NP": "4"},
        {"LSF_ENVDIR": "/etc", "LSF_BINDIR": "/usr/bin", "LSB_DJOB_NUMPROC": "4"},
    ],
)
def test_a_login_shell_is_no_job(environ: Environ) -> None:
    assert find(environ, read_text=no_file) is None
    assert find_rank(environ) is None


def test_slurm_comes_first_where_it_imitates_pbs() -> None:
    environ = load(DATA / "slurm" / "gap.batch.env") | load(DATA / "pbs" / "job.env")
    found = find(environ, read_text=no_file)
    assert counts(found) == [("node1", 1), ("node3", 1), ("node4", 1)]


def test_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "nodes").write_bytes(b"n1\nn1\r\n\nn2")
    assert counts(find({"PBS_NODEFILE": str(tmp_path / "nodes")})) == [("n1", 2), ("n2", 1)]
    (tmp_path / "nodes").write_bytes(b"n\xff\n")
    with pytest.raises(HostListError, match=r"line 1: cannot use .* cannot be in a host name"):
        find({"PBS_NODEFILE": str(tmp_path / "nodes")})
    with pytest.raises(HostListError, match="Is a directory, on this host"):
        find({"PBS_NODEFILE": str(tmp_path)})
    with pytest.raises(HostListError, match="the file is too large"):
        find({"PBS_NODEFILE": "/dev/zero"})


# ------------------------------------------------------------------------------------------------- Slurm


def slurm(nodes: str, **more: str) -> Environ:
    return {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": nodes} | {
        f"SLURM_{name}": text for name, text in more.items()
    }


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        pytest.param(slurm("n[1-4]", TASKS_PER_NODE="2(x3),1"), [2, 2, 2, 1], id="repeated"),
        pytest.param(slurm("n[1-4]", TASKS_PER_NODE="2(x1),1(x2),5"), [2, 1, 1, 5], id="repeated, mixed"),
        pytest.param(slurm("n[1-3]", TASKS_PER_NODE="2,0,1"), [2, 0, 1], id="nothing on one of them"),
        pytest.param(slurm("n[1-3]"), [1, 1, 1], id="nothing said"),
        pytest.param(slurm("n[1-3]", NTASKS="7"), [3, 2, 2], id="total"),
        pytest.param(slurm("n[1-3]", NPROCS="7"), [3, 2, 2], id="total, old name"),
        pytest.param(slurm("n[1-3]", NTASKS="2"), [1, 1, 0], id="total, less than nodes"),
        pytest.param(slurm("n[1-3]", JOB_CPUS_PER_NODE="4(x2),2"), [4, 4, 2], id="cpus"),
        pytest.param(
            slurm("n[1-3]", JOB_CPUS_PER_NODE="4(x2),1", CPUS_PER_TASK="2"), [2, 2, 1], id="cpus of a task"
        ),
        pytest.param(slurm("n[1-3]", JOB_CPUS_PER_NODE="4(x3)", NTASKS="6"), [4, 1, 1], id="total and cpus"),
        pytest.param(
            slurm("n[1-3]", JOB_CPUS_PER_NODE="4(x3)", NTASKS="5", CPUS_PER_TASK="2"),
            [2, 2, 1],
            id="all three",
        ),
        pytest.param(slurm("n[1-3]", JOB_CPUS_PER_NODE="1(x3)", NTASKS="8"), [3, 3, 2], id="more than cpus"),
        pytest.param(
            slurm("n[1-3]", TASKS_PER_NODE="2(x3)", JOB_CPUS_PER_NODE="?", NTASKS="?"),
            [2, 2, 2],
            id="not looked at",
        ),
        pytest.param(
            slurm("n[1-3]", TASKS_PER_NODE="2", STEP_ID="0", NTASKS="2", JOB_CPUS_PER_NODE="4(x3)"),
            [4, 4, 4],
            id="step on one of them",
        ),
        pytest.param(slurm("n[1-3]", TASKS_PER_NODE="2", STEP_ID="0"), [1, 1, 1], id="step, no cpus"),
        pytest.param(
            slurm("n[1-3]", TASKS_PER_NODE="2(x3)", STEP_ID="4294967290"), [2, 2, 2], id="interactive"
        ),
    ],
)
def test_slurm_counts(environ: Environ, expected: list[int]) -> None:
    hosts = [(f"n{number}", count) for number, count in enumerate(expected, start=1) if count]
    assert counts(find(environ)) == hosts


def test_slurm_by_its_old_names() -> None:
    found = find({"SLURM_JOBID": "7", "SLURM_NODELIST": "n[1-2]", "SLURM_TASKS_PER_NODE": "3(x2)"})
    assert found == Allocation(
        "slurm", (Host("n1", 3), Host("n2", 3)), "SLURM_NODELIST, SLURM_TASKS_PER_NODE", "7"
    )
    alone = find({"SLURM_JOB_NODELIST": "n1"})
    assert alone == Allocation("slurm", (Host("n1", 1),), "SLURM_JOB_NODELIST", "")


def test_components_may_share_a_host() -> None:
    environ = {
        "SLURM_JOB_ID": "7",
        "SLURM_HET_SIZE": "2",
        "SLURM_JOB_NODELIST_HET_GROUP_0": "n1",
        "SLURM_JOB_NODELIST_HET_GROUP_1": "n[1-2]",
        "SLURM_JOB_CPUS_PER_NODE_HET_GROUP_1": "8(x2)",
        "SLURM_CPUS_PER_TASK_HET_GROUP_1": "4",
    }
    assert counts(find(environ)) == [("n1", 3), ("n2", 2)]


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        (
            {"SLURM_JOB_ID": "7"},
            "this is a job of Slurm, as SLURM_JOB_ID is '7', but SLURM_JOB_NODELIST is not set.",
        ),
        (slurm("(null)"), "SLURM_JOB_NODELIST: cannot use '(null)': '(' cannot be in a host name"),
        (slurm("node[1-"), "SLURM_JOB_NODELIST: cannot use 'node[1-': a '[' has no ']'"),
        (
            slurm("n[1-3]", TASKS_PER_NODE="2(x2)"),
            "SLURM_TASKS_PER_NODE: cannot use '2(x2)': it tells of 2 nodes, SLURM_JOB_NODELIST of 3.",
        ),
        (slurm("n1", TASKS_PER_NODE="2(x"), "'2(x' is neither a count nor a repeated one like 2(x3)"),
        (slurm("n1", TASKS_PER_NODE="2,"), "SLURM_TASKS_PER_NODE: cannot use '2,': '' is neither"),
        (slurm("n1", TASKS_PER_NODE="2(x0)"), "it tells of no node"),
        (slurm("n1", TASKS_PER_NODE="2(x100001)"), "or of more than 100000"),
        (slurm("n1", TASKS_PER_NODE="1(x60000),1(x60000)"), "or of more than 100000"),
        (slurm("n1", TASKS_PER_NODE="99999999"), "a count is a whole number from 0 to 1000000"),
        (slurm("n[1-2]", TASKS_PER_NODE="0(x2)"), "it makes 0 hosts"),
        (slurm("n[1-2]", JOB_CPUS_PER_NODE="4"), "it tells of 1 nodes, SLURM_JOB_NODELIST of 2"),
        (slurm("n1", JOB_CPUS_PER_NODE="4", CPUS_PER_TASK="0"), "SLURM_CPUS_PER_TASK: cannot use '0'"),
        (
            slurm("n1", NTASKS="many"),
            "SLURM_NTASKS: cannot use 'many': the number of processes is a whole number",
        ),
        (slurm("n1", STEP_ID="x"), "SLURM_STEP_ID: cannot use 'x'"),
        (slurm("n1", HET_SIZE="0"), "SLURM_HET_SIZE: cannot use '0'"),
        (slurm("n1", HET_SIZE="2"), "but SLURM_JOB_NODELIST_HET_GROUP_0 is not set."),
        (
            slurm("n1", HET_SIZE="99999", JOB_NODELIST_HET_GROUP_0="n1"),
            "but SLURM_JOB_NODELIST_HET_GROUP_1 is not",
        ),
        (
            slurm("n1", HOSTFILE="hosts.txt"),
            "SLURM_HOSTFILE: cannot use 'hosts.txt': No such file or directory",
        ),
    ],
)
def test_slurm_is_refused(environ: Environ, said: str) -> None:
    assert said in refused(environ)


def test_a_long_value_is_shortened() -> None:
    text = refused(slurm("n[1-3]", TASKS_PER_NODE="2(x2)," * 1000))
    assert len(text) < 400
    assert "SLURM_TASKS_PER_NODE: cannot use '2(x2),2(x2)," in text
    assert "...'" in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("n2\nn1\nn2\n", [("n2", 2), ("n1", 1)]),
        ("# mine\nn2,n1\nn2", [("n2", 2), ("n1", 1)]),
        ("n[1-2]\nn2*3", [("n1", 1), ("n2", 4)]),
    ],
)
def test_slurm_hostfile(text: str, expected: list[tuple[str, int]]) -> None:
    environ = slurm("n[1-2]", TASKS_PER_NODE="2(x2)", HOSTFILE="hosts.txt")
    assert counts(find(environ, read_text=gives(text))) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "n1\nn9\n",
            "SLURM_HOSTFILE ('hosts.txt'): cannot use 'n9': it is not a host of the job; correct or unset",
        ),
        ("n1\nn[\n", "SLURM_HOSTFILE ('hosts.txt'), line 2: cannot use 'n['"),
        ("", "SLURM_HOSTFILE ('hosts.txt') names no host"),
    ],
)
def test_slurm_hostfile_is_refused(text: str, said: str) -> None:
    assert said in refused(slurm("n[1-2]", HOSTFILE="hosts.txt"), gives(text))


def test_scontrol_is_asked_for_lists_that_nobody_else_understands() -> None:
    asked = []

    def scontrol(text: str) -> str:
        asked.append(text)
        return "bg000\nbg001\n"

    assert counts(find(slurm("n[1-2]"), scontrol=scontrol)) == [("n1", 1), ("n2", 1)]
    assert not asked
    environ = slurm("bg[000x001]", TASKS_PER_NODE="2(x2)")
    assert counts(find(environ, scontrol=scontrol)) == [("bg000", 2), ("bg001", 2)]
    assert asked == ["bg[000x001]"]
    with pytest.raises(HostListError, match="'000x001' is neither a number nor a range"):
        find(environ, scontrol=lambda text: "")
    with pytest.raises(HostListError, match="SLURM_JOB_NODELIST as scontrol tells it: cannot use '-x'"):
        find(environ, scontrol=lambda text: "-x\nn2")


# ----------------------------------------------------------------------------------- Grid Engine, PBS, LSF


SGE_JOB = {
    "JOB_ID": "3",
    "SGE_TASK_ID": "undefined",
    "PE": "mpi",
    "PE_HOSTFILE": "/spool/pe_hostfile",
    "NSLOTS": "3",
}


def test_a_host_with_two_queues() -> None:
    text = "n1 2 long@n1 UNDEFINED\nn2 1 long@n2 <NULL>\nn1 1 short@n1 0,0:0,1\n"
    assert counts(find(SGE_JOB, read_text=gives(text))) == [("n1", 3), ("n2", 1)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "PE_HOSTFILE: cannot use '/spool/pe_hostfile': no slots are named there"),
        (
            "n1 2 q@n1 UNDEFINED\nn2",
            "PE_HOSTFILE ('/spool/pe_hostfile'), line 2: cannot use 'n2': the line is cut off",
        ),
        ("n1 2 q@n1 UNDEFINED\n", "2 slots are named there, but NSLOTS is 3: it is cut off"),
        ("n1 two q@n1 UNDEFINED\n", "line 1: cannot use 'two': the number of slots is a whole number"),
        ("n1 0 q@n1 UNDEFINED\n", "line 1: cannot use '0'"),
        ("-n1 3 q@n1 UNDEFINED\n", "line 1: cannot use '-n1'"),
        ("n1 1000000\nn2 1\n", f"1000001 slots are named there, possible are 1 to {COUNT_MAX}"),
    ],
)
def test_grid_engine_is_refused(text: str, said: str) -> None:
    assert said in refused(SGE_JOB, gives(text))


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"JOB_ID": "3", "SGE_TASK_ID": "1"}, "as JOB_ID is '3', but HOSTNAME is not set"),
        ({"JOB_ID": "3", "SGE_TASK_ID": "1", "PE": "mpi", "HOSTNAME": "n1"}, "but PE_HOSTFILE is not set"),
        ({"JOB_ID": "3", "SGE_TASK_ID": "1", "NHOSTS": "2", "HOSTNAME": "n1"}, "but PE_HOSTFILE is not set"),
        ({"JOB_ID": "3", "SGE_TASK_ID": "1", "HOSTNAME": "n 1"}, "HOSTNAME: cannot use 'n 1'"),
        ({"JOB_ID": "3", "SGE_TASK_ID": "1", "HOSTNAME": "n1", "NSLOTS": "x"}, "NSLOTS: cannot use 'x'"),
    ],
)
def test_grid_engine_alone_is_refused(environ: Environ, said: str) -> None:
    assert said in refused(environ)


PBS_JOB = {"PBS_JOBID": "5[1].server", "PBS_NODEFILE": "/spool/5", "PBS_NP": "3"}


@pytest.mark.parametrize(
    ("environ", "text", "said"),
    [
        ({"PBS_JOBID": "5"}, "", "this is a job of PBS, as PBS_JOBID is '5', but PBS_NODEFILE is not set."),
        (PBS_JOB, "", "PBS_NODEFILE: cannot use '/spool/5': no slots are named there"),
        (PBS_JOB, "n1\nn1\n", "2 slots are named there, but PBS_NP is 3: it is cut off"),
        (
            PBS_JOB,
            "n1\nn2 n3\nn4",
            "PBS_NODEFILE ('/spool/5'), line 2: cannot use 'n2 n3': a line of this file",
        ),
        (PBS_JOB, "n1\nn\0", "line 2: cannot use 'n\\x00'"),
        (PBS_JOB | {"PBS_NP": "x"}, "n1\n", "PBS_NP: cannot use 'x'"),
    ],
)
def test_pbs_is_refused(environ: Environ, text: str, said: str) -> None:
    assert said in refused(environ, gives(text))


def test_pbs_job() -> None:
    found = find(PBS_JOB, read_text=gives("n1\nn2\nn1\n"))
    assert found == Allocation("pbs", (Host("n1", 2), Host("n2", 1)), "PBS_NODEFILE", "5[1].server")


@pytest.mark.parametrize(
    ("name", "value"),
    [("LSB_MCPU_HOSTS", "n1 2 n2 1"), ("LSB_DJOB_HOSTFILE", "/spool/5"), ("LSB_HOSTS", "n1 n1 n2")],
)
def test_each_list_of_lsf(name: str, value: str) -> None:
    environ = {"LSB_JOBID": "5", "LSB_JOBINDEX": "2", "LSB_DJOB_NUMPROC": "3", name: value}
    found = find(environ, read_text=gives("n1\nn1\nn2\n"))
    assert found == Allocation("lsf", (Host("n1", 2), Host("n2", 1)), name, "5[2]")


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"LSB_JOBID": "5"}, "this is a job of LSF, as LSB_JOBID is '5', but LSB_MCPU_HOSTS is not set."),
        ({"LSB_MCPU_HOSTS": "n1 2 n2"}, "LSB_MCPU_HOSTS: cannot use 'n1 2 n2': the list is cut off"),
        ({"LSB_MCPU_HOSTS": "n1 n2"}, "LSB_MCPU_HOSTS: cannot use 'n2': the number of slots"),
        ({"LSB_MCPU_HOSTS": "n1 2", "LSB_DJOB_NUMPROC": "3"}, "but LSB_DJOB_NUMPROC is 3: it is cut off"),
        ({"LSB_HOSTS": "n1 -x"}, "LSB_HOSTS: cannot use '-x'"),
        ({"LSB_DJOB_HOSTFILE": "/spool/5"}, "LSB_DJOB_HOSTFILE: cannot use '/spool/5': No such file"),
    ],
)
def test_lsf_is_refused(environ: Environ, said: str) -> None:
    assert said in refused(environ)


# ------------------------------------------------------------------------------------------------- ranks

STEP = {"SLURM_PROCID": "2", "SLURM_STEP_NUM_TASKS": "4"}


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"OMPI_COMM_WORLD_RANK": "1"}, Rank(1, None, "OMPI_COMM_WORLD_RANK")),
        ({"PMI_RANK": "0", "PMI_SIZE": "1"}, Rank(0, 1, "PMI_RANK, PMI_SIZE")),
        ({"PMIX_RANK": "5"}, Rank(5, None, "PMIX_RANK")),
        (STEP, None),
        (STEP | {"SLURM_STEP_ID": ""}, None),
        (STEP | {"SLURM_STEP_ID": "0"}, Rank(2, 4, "SLURM_PROCID, SLURM_STEP_NUM_TASKS")),
        (STEP | {"SLURM_STEP_ID": "4294967291"}, None),  # batch script
        (STEP | {"SLURM_STEP_ID": "4294967290"}, None),  # interactive shell of salloc
        ({"SLURM_STEP_ID": "0"}, None),
        ({"SLURM_STEP_ID": "x", "PMI_RANK": "1"}, Rank(1, None, "PMI_RANK")),
        ({"PMI_SIZE": "4", "OMPI_COMM_WORLD_SIZE": "4"}, None),
    ],
)
def test_ranks(environ: Environ, expected: Rank | None) -> None:
    assert find_rank(environ) == expected


def test_the_innermost_launcher_comes_first() -> None:
    environ = STEP | {"SLURM_STEP_ID": "0"}
    launchers = {
        "PMIX_RANK": "PMIX_SIZE",
        "PMI_RANK": "PMI_SIZE",
        "OMPI_COMM_WORLD_RANK": "OMPI_COMM_WORLD_SIZE",
    }
    for name, size in launchers.items():
        environ |= {name: "1", size: "3"}
        found = find_rank(environ)
        assert found is not None
        assert found.source.startswith(name)


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"PMI_RANK": "-1"}, "PMI_RANK: cannot use '-1': a rank is a whole number from 0"),
        ({"PMI_RANK": "x"}, "PMI_RANK: cannot use 'x'"),
        (
            {"PMI_RANK": "4", "PMI_SIZE": "4"},
            "PMI_RANK: cannot use '4': a rank is less than PMI_SIZE, which is 4",
        ),
        ({"PMI_RANK": "0", "PMI_SIZE": "0"}, "PMI_SIZE: cannot use '0'"),
        (STEP | {"SLURM_STEP_ID": "x"}, "SLURM_STEP_ID: cannot use 'x'"),
    ],
)
def test_ranks_are_refused(environ: Environ, said: str) -> None:
    with pytest.raises(HostListError) as caught:
        find_rank(environ)
    assert said in str(caught.value)
    assert "Unset the variable if this process is not one of" in str(caught.value)


# ----------------------------------------------------------------------------------------- hostile variants

RECORDED = [*SLURM, *SGE, *SGE_INHERIT, *MPI, *BY_HAND]
FOREIGN = st.sampled_from(
    ["\0", "\n", " ", "-", ";", "$(x)", "[", "]", ",", "*", "@", ":", "\u0663", "\udcff", "(x9)"]
)


def mutated(text: str, draw: st.DrawFn) -> str:
    """Cut off, doubled, with something foreign in it, with a huge number, empty, or anything at all."""
    at = draw(st.integers(0, len(text)))
    kind = draw(st.integers(0, 6))
    if kind == 0:
        return text[:at]
    if kind == 1:
        return text + draw(st.sampled_from(["", ",", " ", "\n"])) + text
    if kind == 2:
        return text[:at] + draw(FOREIGN) + text[at:]
    if kind == 3:
        return text[:at] + draw(st.sampled_from(["9" * 6, "9" * 30, "9" * 5000, "0", "-1"])) + text[at:]
    if kind == 4:
        return draw(st.text(max_size=20))
    return "" if kind == 5 else text[at:]


@st.composite
def hostile(draw: st.DrawFn) -> tuple[Environ, str | None]:
    """A recorded environment with some variables, and the file that it names, made wrong."""
    path = draw(st.sampled_from(RECORDED))
    environ = load(path)
    # Those that are looked at more often than others.
    important = [
        name for name in environ if "NODE" in name or "TASK" in name or "HOST" in name or "SIZE" in name
    ]
    for name in draw(st.lists(st.sampled_from([*important, *environ]), min_size=1, max_size=4)):
        if draw(st.booleans()) and name in environ:
            environ[name] = mutated(environ[name], draw)
        else:
            environ.pop(name, None)
    texts = [
        each.read_text() for each in path.parent.iterdir() if each.suffix in ("", ".pe_hostfile", ".txt")
    ]
    file = draw(st.none() | st.sampled_from(sorted(texts))) if texts else None
    return environ, mutated(file, draw) if file is not None else None


@given(hostile())
def test_a_hostile_environment_is_read_or_refused(given_: tuple[Environ, str | None]) -> None:
    environ, text = given_
    with contextlib.suppress(HostListError):
        found = find(environ, read_text=no_file if text is None else gives(text))
        if found is not None:
            assert 1 <= len(found.hosts) <= NAMES_MAX
            assert len({(host.target, host.port) for host in found.hosts}) == len(found.hosts)
            for host in found.hosts:
                assert check_name(host.name, "x") == host.name
                assert not host.target.startswith("-")
                assert host.count is not None
                assert host.count >= 1
    with contextlib.suppress(HostListError):
        rank = find_rank(environ)
        if rank is not None:
            assert 0 <= rank.rank < (rank.size or COUNT_MAX + 1)


@given(st.text(max_size=60), st.sampled_from(["PE_HOSTFILE", "PBS_NODEFILE", "LSB_DJOB_HOSTFILE"]))
def test_any_file_is_read_or_refused(text: str, name: str) -> None:
    with contextlib.suppress(HostListError):
        find({name: "x", "JOB_ID": "1"}, read_text=gives(text))
