"""The hosts that a batch system gave to this job, and the rank that an MPI launcher gave to this process.

Both are read from environment variables, and from files that these name. Nothing is started or asked over the
network. A job whose data is missing or makes no sense is an error, never a guess: a program that quietly runs
on one of its hundred hosts, or on somebody else's, is worse than one that does not start.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from scoop.launch.hosts import (
    COUNT_MAX,
    NAMES_MAX,
    Host,
    HostListError,
    check_name,
    expand,
    merge,
    number,
    parse_hostfile,
    refuse,
    shown,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import NoReturn

_FILE_CHARS_MAX = 1 << 23
REMEDY = "Name the hosts yourself with --hosts or --hostfile; --hosts 127.0.0.1 means this host alone."
RANK_REMEDY = "Unset the variable if this process is not one of those that mpiexec, mpirun or srun started."

# Slurm numbers a batch script, an interactive shell and the like from here on; they are no ranks.
_SPECIAL_STEP = 0xFFFFFFF0
_REPEATED = re.compile(r"([0-9]{1,9})(?:\(x([0-9]{1,9})\))?")


@dataclass(frozen=True)
class Allocation:
    """What a batch system gave to a job.

    Attributes:
        scheduler: "slurm", "sge" (any Grid Engine), "pbs" (also TORQUE) or "lsf".
        hosts: each host once, in the order of the batch system; `count` is the number of processes there.
        source: the variables that it was read from, for messages.
        job: its id as the batch system's own commands take it; empty if the environment does not tell.
    """

    scheduler: str
    hosts: tuple[Host, ...]
    source: str
    job: str


@dataclass(frozen=True)
class Rank:
    """Which one of the processes that a launcher started this is.

    Attributes:
        rank: its number, from 0.
        size: how many there are; None if the launcher does not tell.
        source: the variables that it was read from, for messages.
    """

    rank: int
    size: int | None
    source: str


def _read_file(path: str) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read(_FILE_CHARS_MAX)


def find(
    environ: Mapping[str, str],
    *,
    read_text: Callable[[str], str] = _read_file,
    scontrol: Callable[[str], str] | None = None,
) -> Allocation | None:
    """The hosts of the batch job that this process belongs to.

    In a Slurm step they are still those of the whole job; the counts are the step's if it is on all of them.

    Args:
        environ: environment variables.
        read_text: gives the text of a file that a variable names; an OSError if it cannot be read.
        scontrol: gives the names for a node list of Slurm, one a line, as `scontrol show hostnames` does, or
            nothing if it cannot. Only asked for lists that `expand` does not understand.

    Returns:
        None outside of a job. Does not block, except in what it is given.

    Raises:
        HostListError: there is a job, but what is told about its hosts is missing or broken.
    """
    told = _Told(environ, read_text)
    try:
        return _slurm(told, scontrol) or _grid_engine(told) or _pbs(told) or _lsf(told)
    except HostListError as error:
        raise HostListError(f"{error}. {REMEDY}") from None


def find_rank(environ: Mapping[str, str]) -> Rank | None:
    """The rank of this process among those that mpiexec, mpirun or srun started.

    Where srun has started the daemons of mpiexec, the environment has their ranks too. So the innermost comes
    first: Open MPI, what speaks PMI (MPICH, Intel MPI, srun --mpi=pmi2), PMIx, srun. A batch script is no
    rank, although Slurm sets SLURM_PROCID there. A step of one process is rank 0 of 1.

    Returns:
        None if nothing says so. Does not block.

    Raises:
        HostListError: a variable that decides has a value that it cannot have.
    """
    told = _Told(environ, _read_file)
    pairs = [("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"), ("PMI_RANK", "PMI_SIZE"), ("PMIX_RANK", "")]
    try:
        if not told.first(*(name for name, _ in pairs)) and _in_step(told):
            pairs = [("SLURM_PROCID", "SLURM_STEP_NUM_TASKS")]
        return next((_rank(told, *pair) for pair in pairs if told.value(pair[0])), None)
    except HostListError as error:
        raise HostListError(f"{error}. {RANK_REMEDY}") from None


def _rank(told: _Told, rank_name: str, size_name: str) -> Rank:
    rank = told.number(rank_name, "a rank", least=0)
    if not told.value(size_name):
        return Rank(rank, None, rank_name)
    size = told.number(size_name, "the number of ranks")
    if rank >= size:
        refuse(str(rank), f"a rank is less than {size_name}, which is {size}", rank_name)
    return Rank(rank, size, f"{rank_name}, {size_name}")


class _Told:
    """What this process is told: variables, and the files that they name."""

    def __init__(self, environ: Mapping[str, str], read_text: Callable[[str], str]) -> None:
        self._environ = environ
        self._read_text = read_text

    def value(self, name: str) -> str:
        """The variable without blanks around; an empty one counts as not set."""
        return self._environ.get(name, "").strip()

    def first(self, *names: str) -> str:
        """The first of these variables that is set; empty if none is."""
        return next((name for name in names if self.value(name)), "")

    def number(self, name: str, what: str, *, least: int = 1, most: int = COUNT_MAX) -> int:
        return number(self.value(name), what, name, least=least, most=most)

    def refuse(self, name: str, what: str) -> NoReturn:
        refuse(self.value(name), what, name)

    def require(self, name: str, seen: str, scheduler: str) -> None:
        """Refuse a job, which shows in the variable `seen`, that lacks another one."""
        if not self.value(name):
            found = f"{seen} is {shown(self.value(seen))}"
            raise HostListError(f"this is a job of {scheduler}, as {found}, but {name} is not set")

    def text(self, name: str) -> str:
        """Text of the file that the variable names."""
        try:
            text = self._read_text(self.value(name))
        except (OSError, ValueError) as error:  # ValueError: a path with a zero byte
            self.refuse(name, f"{getattr(error, 'strerror', None) or error}, on this host")
        if len(text) >= _FILE_CHARS_MAX:
            self.refuse(name, "the file is too large for a list of hosts")
        return text

    def lines(self, name: str) -> Iterator[tuple[list[str], str]]:
        """The words of each line of the file that the variable names, and where; blank lines left out."""
        for at, line in enumerate(self.text(name).split("\n"), start=1):
            words = line.split()
            if words:
                yield words, f"{name} ({shown(self.value(name))}), line {at}"

    def named(self, name: str) -> list[Host]:
        """The hosts of a file that has a line for each slot."""
        hosts: list[Host] = []
        for words, where in self.lines(name):
            if len(words) != 1:
                refuse(" ".join(words), "a line of this file is one host name", where)
            hosts.append(Host(check_name(words[0], where), 1))
        return hosts


# ----------------------------------------------------------------------------------------------------- Slurm


def _slurm(told: _Told, scontrol: Callable[[str], str] | None) -> Allocation | None:
    seen = told.first("SLURM_JOB_ID", "SLURM_JOBID", "SLURM_JOB_NODELIST", "SLURM_NODELIST")
    if not seen:
        return None
    hosts: list[Host] = []
    sources: list[str] = []
    for suffix in _slurm_components(told):
        list_name = told.first(f"SLURM_JOB_NODELIST{suffix}", f"SLURM_NODELIST{suffix}")
        told.require(list_name or f"SLURM_JOB_NODELIST{suffix}", seen, "Slurm")
        nodes = _slurm_nodes(told, list_name, scontrol)
        counts, names = _slurm_counts(told, suffix, list_name, len(nodes))
        hosts += [Host(node, count) for node, count in zip(nodes, counts, strict=True) if count]
        sources += [list_name, *names]
        if not 0 < len(hosts) <= NAMES_MAX:
            told.refuse(sources[-1], f"it makes {len(hosts)} hosts, possible are 1 to {NAMES_MAX}")
    if placed := _slurm_hostfile(told, {host.name for host in hosts}):
        hosts, sources = placed, ["SLURM_HOSTFILE"]
    job = told.value(told.first("SLURM_JOB_ID", "SLURM_JOBID"))
    return Allocation("slurm", tuple(merge(hosts)), ", ".join(sources), job)


def _slurm_components(told: _Told) -> Iterator[str]:
    """What ends the names of the variables of each component; a job that is not heterogeneous has one, "".

    Only the size tells: Slurm 22 sets variables ..._PACK_GROUP_0 in steps of any job.
    """
    for kind in ("HET", "PACK"):  # since Slurm 20.02, and before
        if told.value(f"SLURM_{kind}_SIZE"):
            size = told.number(f"SLURM_{kind}_SIZE", "the number of components", most=NAMES_MAX)
            yield from (f"_{kind}_GROUP_{group}" for group in range(size))
            return
    yield ""


def _slurm_nodes(told: _Told, name: str, scontrol: Callable[[str], str] | None) -> list[str]:
    try:
        return expand(told.value(name), name)
    except HostListError:
        nodes = scontrol(told.value(name)).split() if scontrol else []
        if not nodes:
            raise
    return [check_name(node, f"{name} as scontrol tells it") for node in nodes]


def _in_step(told: _Told) -> bool:
    """Whether srun has started this process, beside others or alone."""
    name = "SLURM_STEP_ID"
    return bool(told.value(name)) and told.number(name, "a step", least=0, most=1 << 32) < _SPECIAL_STEP


def _slurm_counts(told: _Told, suffix: str, list_name: str, nodes: int) -> tuple[list[int], list[str]]:
    """Processes on each node, and the variables that say so."""
    tasks_name, cpus_name = f"SLURM_TASKS_PER_NODE{suffix}", f"SLURM_JOB_CPUS_PER_NODE{suffix}"
    # In a step the numbers of tasks are the step's, but the nodes and the CPUs are the job's.
    step = _in_step(told)
    counts = _repeated(told, tasks_name)
    if len(counts) == nodes:
        return counts, [tasks_name]
    if counts and not step:
        told.refuse(tasks_name, f"it tells of {len(counts)} nodes, {list_name} of {nodes}")
    rooms = _repeated(told, cpus_name)
    if len(rooms) not in (0, nodes):
        told.refuse(cpus_name, f"it tells of {len(rooms)} nodes, {list_name} of {nodes}")
    names = [cpus_name] if rooms else []
    each_name = f"SLURM_CPUS_PER_TASK{suffix}"
    if rooms and told.value(each_name):
        each = told.number(each_name, "the CPUs of a process")
        rooms = [max(1, room // each) for room in rooms]
        names.append(each_name)
    total_name = told.first(f"SLURM_NTASKS{suffix}", f"SLURM_NPROCS{suffix}")
    if total_name and not step:
        total = told.number(total_name, "the number of processes")
        return _dealt(total, rooms, nodes), [total_name, *names]
    return rooms or [1] * nodes, names


def _repeated(told: _Told, name: str) -> list[int]:
    """The numbers of a list like 2(x3),1; empty if the variable is not set."""
    text = told.value(name)
    numbers: list[int] = []
    for item in text.split(",") if text else []:
        match = _REPEATED.fullmatch(item)
        if match is None:
            refuse(text, f"{shown(item)} is neither a count nor a repeated one like 2(x3)", name)
        times = int(match[2] or 1)
        if not 0 < times <= NAMES_MAX - len(numbers):
            refuse(text, f"it tells of no node, or of more than {NAMES_MAX}", name)
        numbers += [number(match[1], "a count", name, least=0)] * times
    return numbers


def _dealt(total: int, rooms: list[int], nodes: int) -> list[int]:
    """`total` processes on nodes with so much room; evenly where the room is not known or not enough.

    As Slurm does it: one on each node first, then node by node up to its room.
    """
    counts = [int(index < total) for index in range(nodes)]
    left = total - sum(counts)
    for index, room in enumerate(rooms):
        more = min(left, max(0, room - counts[index]))
        counts[index] += more
        left -= more
    each, odd = divmod(left, nodes)
    return [count + each + (index < odd) for index, count in enumerate(counts)]


def _slurm_hostfile(told: _Told, nodes: set[str]) -> list[Host]:
    """The hosts of SLURM_HOSTFILE, a process for each line; they are `nodes` of the job. Empty without it."""
    name = "SLURM_HOSTFILE"
    if not told.value(name):
        return []
    try:
        text = told.text(name)
    except HostListError:
        # Where Slurm has placed processes by that file, its other variables say the same. The file's name may
        # mean something on the submitting host only.
        if told.value("SLURM_DISTRIBUTION") == "arbitrary":
            return []
        raise
    where = f"{name} ({shown(told.value(name))})"
    hosts = parse_hostfile(text, where)
    for host in hosts:
        if host.name not in nodes:
            refuse(host.name, f"it is not a host of the job; correct or unset {name}", where)
    return [Host(host.name, host.count or 1) for host in hosts]


# ---------------------------------------------------------------------------------- Grid Engine, PBS and LSF


def _grid_engine(told: _Told) -> Allocation | None:
    # JOB_ID alone is anybody's, and SGE_ROOT is set wherever Grid Engine's commands are.
    job, task = told.value("JOB_ID"), told.value("SGE_TASK_ID")
    seen = told.first("PE_HOSTFILE", "SGE_TASK_ID", "SGE_JOB_SPOOL_DIR")
    if not seen or not (job or seen == "PE_HOSTFILE"):
        return None
    if job and task.isdigit():  # "undefined" if it is no array job
        job = f"{job}.{task}"
    if seen != "PE_HOSTFILE":
        return Allocation("sge", (_grid_engine_single(told),), "HOSTNAME, NSLOTS", job)
    hosts: list[Host] = []
    for words, where in told.lines("PE_HOSTFILE"):
        if len(words) < 2:
            refuse(words[0], "the line is cut off; it is HOST SLOTS QUEUE BINDING", where)
        hosts.append(Host(check_name(words[0], where), number(words[1], "the number of slots", where)))
    return Allocation("sge", _complete(told, hosts, "PE_HOSTFILE", "NSLOTS"), "PE_HOSTFILE", job)


def _grid_engine_single(told: _Told) -> Host:
    """This host: of a job without a parallel environment, or of what `qrsh -inherit` started here."""
    if told.value("NHOSTS") != "1" and told.first("NHOSTS", "PE"):
        # What qrsh starts on the job's own first host is told how many hosts there are, but not which.
        told.require("PE_HOSTFILE", "JOB_ID", "Grid Engine")
    told.require("HOSTNAME", "JOB_ID", "Grid Engine")
    slots = told.number("NSLOTS", "the number of slots") if told.value("NSLOTS") else 1
    return Host(check_name(told.value("HOSTNAME"), "HOSTNAME"), slots)


def _pbs(told: _Told) -> Allocation | None:
    seen = told.first("PBS_JOBID", "PBS_NODEFILE")
    if not seen:
        return None
    told.require("PBS_NODEFILE", seen, "PBS")
    # TORQUE tells the number of slots a second time, PBS Professional does not.
    hosts = _complete(told, told.named("PBS_NODEFILE"), "PBS_NODEFILE", "PBS_NP")
    return Allocation("pbs", hosts, "PBS_NODEFILE", told.value("PBS_JOBID"))


def _lsf(told: _Told) -> Allocation | None:
    source = told.first("LSB_MCPU_HOSTS", "LSB_DJOB_HOSTFILE", "LSB_HOSTS")
    if not source:
        if told.value("LSB_JOBID"):
            told.require("LSB_MCPU_HOSTS", "LSB_JOBID", "LSF")
        return None
    words = told.value(source).split()
    if source == "LSB_DJOB_HOSTFILE":
        hosts = told.named(source)
    elif source == "LSB_HOSTS":
        hosts = [Host(check_name(word, source), 1) for word in words]
    elif len(words) % 2:
        told.refuse(source, "the list is cut off; it is pairs of a host and its slots")
    else:
        pairs = zip(words[::2], words[1::2], strict=True)
        hosts = [
            Host(check_name(name, source), number(n, "the number of slots", source)) for name, n in pairs
        ]
    job, index = told.value("LSB_JOBID"), told.value("LSB_JOBINDEX")
    if job and index not in ("", "0"):
        job = f"{job}[{index}]"
    return Allocation("lsf", _complete(told, hosts, source, "LSB_DJOB_NUMPROC"), source, job)


def _complete(told: _Told, hosts: list[Host], name: str, slots_name: str) -> tuple[Host, ...]:
    """Each host once, if they have not less slots than the job."""
    # More are right: in what Grid Engine starts on another host, NSLOTS is the number of slots there.
    slots = sum(host.count or 1 for host in hosts)
    if not 0 < slots <= COUNT_MAX:
        told.refuse(name, f"{slots or 'no'} slots are named there, possible are 1 to {COUNT_MAX}")
    if told.value(slots_name):
        wanted = told.number(slots_name, "the number of slots")
        if slots < wanted:
            told.refuse(name, f"{slots} slots are named there, but {slots_name} is {wanted}: it is cut off")
    return tuple(merge(hosts))
