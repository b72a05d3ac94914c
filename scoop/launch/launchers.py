"""How a command is started on another host of a batch job: by the batch system's own launcher, if it has one.

What such a launcher starts belongs to the job: the batch system counts it, limits it and ends it. Each of
them carries standard input and output as they are, which is all that an agent needs. PBS has none that does
(pbsdsh and pbs_tmrsh leave standard input out), so ssh starts what runs there.
"""

from __future__ import annotations

import shutil

from scoop.launch.hosts import HostListError, expand

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from scoop.launch.hosts import Host
    from scoop.launch.schedulers import Allocation

# What srun would take from the job's environment instead of our options: it is to start one process.
SRUN_DROPS = (
    "SLURM_HOSTFILE",
    "SLURM_DISTRIBUTION",
    "SLURM_NTASKS_PER_NODE",
    "SLURM_CPU_BIND",
    "SLURM_ARRAY_INX",
)


class Launcher:
    """A batch system's own way to start a command on one of its job's hosts.

    Attributes:
        name: of its command, for messages.
    """

    def __init__(self, name: str, words: Callable[[Host], list[str]], drops: tuple[str, ...] = ()) -> None:
        self.name = name
        self._words = words
        self._drops = drops

    def command(self, host: Host, line: str) -> list[str]:
        """What starts a line of shell on a host; its standard streams are those of what is started."""
        unset = [word for name in self._drops for word in ("-u", name)]
        return [*(["env", *unset] if unset else []), *self._words(host), line]


def find(
    allocation: Allocation, environ: Mapping[str, str], which: Callable[[str], str | None] = shutil.which
) -> Launcher | None:
    """The launcher of a batch system; None if it has none, or none is installed here: ssh is left then.

    Args:
        allocation: of the job.
        environ: its environment.
        which: finds a command.
    """
    if allocation.scheduler == "slurm" and which("srun"):
        groups = _slurm_groups(environ)
        return Launcher("srun", lambda host: _srun(host, groups), SRUN_DROPS)
    if allocation.scheduler == "sge" and which("qrsh"):
        return Launcher("qrsh", lambda host: ["qrsh", "-inherit", host.name])
    if allocation.scheduler == "lsf" and which("blaunch"):
        return Launcher("blaunch", lambda host: ["blaunch", host.name])
    return None


def _srun(host: Host, groups: Mapping[str, int]) -> list[str]:
    # Without --overlap it waits until no other step holds a CPU there; without --unbuffered it keeps what is
    # written until a line ends. The workers bind themselves, or not at all.
    options = ["--overlap", "--unbuffered", "--nodes=1", "--ntasks=1", f"--nodelist={host.name}"]
    options += ["--cpu-bind=none", "--mpi=none", "--kill-on-bad-exit=1", "--input=all"]
    group = groups.get(host.name)
    if group is not None:
        options.append(f"--het-group={group}")
    # srun starts no line of shell, but a program.
    return ["srun", *options, "/bin/sh", "-c"]


def _slurm_groups(environ: Mapping[str, str]) -> dict[str, int]:
    """The component of each node of a heterogeneous job; empty for any other."""
    found: dict[str, int] = {}
    size = environ.get("SLURM_HET_SIZE", "")
    for group in range(int(size) if size.isdigit() else 0):
        name = f"SLURM_JOB_NODELIST_HET_GROUP_{group}"
        try:
            nodes = expand(environ.get(name, ""), name)
        except HostListError:  # a list that only scontrol understands
            continue
        for node in nodes:
            found.setdefault(node, group)
    return found
