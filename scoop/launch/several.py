"""``scoop-run`` on the hosts of its command line or of a batch job: from the options to a running job."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

from scoop.errors import StartupFailed
from scoop.launch import plan
from scoop.launch.hosts import Host, HostListError, parse_hostfile, parse_words
from scoop.launch.keyring import KeyringError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from scoop.config import Config
    from scoop.launch.launchers import Launcher
    from scoop.launch.plan import Share
    from scoop.launch.remote import Way
    from scoop.launch.schedulers import Allocation, Rank

SCONTROL_S = 10.0
CORES_GIVEN = {"slurm": "SLURM_JOB_CPUS_PER_NODE", "pbs": "NCPUS"}
"""Where a batch system says how many cores a single process was given."""

log = logging.getLogger("scoop")


def hosts_of(words: Sequence[str], options: Mapping[str, str]) -> list[Host]:
    """The hosts of the command line and of its host file; none if they are left to the batch system.

    Raises:
        HostListError: a host is written in a way that makes no sense, or the file cannot be read.
    """
    found = parse_words(words) if words else []
    path = options.get("--hostfile")
    if path is not None:
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                found += parse_hostfile(file.read(), path)
        except OSError as error:
            raise HostListError(f"--hostfile {path}: {error.strerror}") from None
        if not found:
            raise HostListError(f"--hostfile {path}: there are no hosts in it")
    return found


def allocation() -> Allocation | None:
    """What a batch system gave to this job, if this is one. May ask scontrol, which blocks for up to 10 s.

    Raises:
        HostListError: what is told about its hosts is missing or broken.
    """
    from scoop.launch import schedulers

    return schedulers.find(os.environ, scontrol=_scontrol)


def _scontrol(nodes: str) -> str:
    command = ["scontrol", "show", "hostnames", nodes]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SCONTROL_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""  # the list is refused then, in words that say more
    return done.stdout


def workers_alone(given: Allocation, environ: Mapping[str, str]) -> int | None:
    """Processes for a batch job of one host, this one; None for as many as it has cores.

    A job of one process that was given several cores is a job for as many workers.
    """
    count = given.hosts[0].count
    cores = environ.get(CORES_GIVEN.get(given.scheduler, ""), "")
    return int(cores) if count == 1 and cores.isdigit() and int(cores) else count


def _whole(options: Mapping[str, str], flag: str, least: int) -> int:
    text = options.get(flag, "0")
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number < least:
        raise HostListError(f"{flag} must be a whole number, at least {least}, not {text!r}")
    return number


def begin(words: Sequence[str], options: Mapping[str, str]) -> bool:
    """Start a job on several hosts and make it that of this process; False if it was refused, with the reason
    on standard error. Blocks until all hosts are there. Workers on this host alone are left to start with the
    program's first call.

    Args:
        words: the hosts of the command line.
        options: those of `cli.LAUNCH` that were given.
    """
    from scoop import current
    from scoop.launch.origin import set_up_log

    config = current.settings()
    set_up_log(config)
    try:
        hosts, given = hosts_of(words, options), None
        if not hosts and (given := allocation()) is not None:
            hosts = list(given.hosts)
            log.info("job %s of %s: %d hosts from %s", given.job, given.scheduler, len(hosts), given.source)
        shares = plan.make(hosts, config.workers, plan.names_of_this_host()) if hosts else []
        if "--join-file" in options and not shares:
            shares = plan.make([Host("127.0.0.1")], config.workers, plan.names_of_this_host())
        if len(shares) < 2 and "--join-file" not in options:
            _begin_here(shares, given, config, options)
        else:
            _begin_on(shares, given, config, options)
    except (HostListError, StartupFailed) as error:
        print(f"scoop-run: {error}", file=sys.stderr)
        return False
    return True


def _begin_here(
    shares: Sequence[Share], given: Allocation | None, config: Config, options: Mapping[str, str]
) -> None:
    """Prepare for workers on this host alone, which need no job of several hosts."""
    from scoop import current

    executable = options.get("--python-executable", sys.executable)
    if not os.path.exists(executable) or not os.path.samefile(executable, sys.executable):
        raise HostListError(
            f"--python-executable {executable}: on this host alone, workers run the Python that runs "
            f"scoop-run, {sys.executable}; start it with the other one"
        )
    os.nice(_whole(options, "--nice", 0))
    if "--pythonpath" in options:
        sys.path.insert(0, os.path.abspath(options["--pythonpath"]))
    if shares and config.workers is None:
        count = shares[0].count if given is None else workers_alone(given, os.environ)
        current.preset({"workers": count})


def way_of(options: Mapping[str, str], launcher: Launcher | None = None) -> Way:
    """How to start something elsewhere, as the options say.

    Raises:
        HostListError: one of them makes no sense.
    """
    from scoop.launch import remote
    from scoop.launch.tunnel import Tunnel

    way = remote.Way(
        executable=options.get("--python-executable", ""),
        ssh=options.get("--ssh-executable", ""),
        prolog=options.get("--prolog", ""),
        nice=_whole(options, "--nice", 0),
        folder=options.get("--path", ""),
        pythonpath=options.get("--pythonpath", ""),
        launcher=launcher,
    )
    if "--tunnel" in options:
        way.tunnel = Tunnel(way.ssh)
    return way


def _begin_on(
    shares: list[Share], given: Allocation | None, config: Config, options: Mapping[str, str]
) -> None:
    from scoop import current
    from scoop.launch import launchers
    from scoop.launch.hostlink import ANY, FIRST
    from scoop.launch.invitation import Invitation
    from scoop.launch.job import Job

    if "--tunnel" in options and "--broker-hostname" in options:
        raise HostListError("with --tunnel nobody asks for this host's name: leave --broker-hostname out")
    launcher = None
    if given is not None and not {"--ssh-executable", "--tunnel"} & set(options):
        launcher = launchers.find(given, os.environ)
    log.info("starting %d hosts by %s", len(shares) - 1, launcher.name if launcher else "ssh")
    way = way_of(options, launcher)
    missing = _whole(options, "--allow-missing", 0)
    brokers = _whole(options, "--brokers", 1) if "--brokers" in options else 0
    if brokers > len(shares):
        raise HostListError(f"-b {brokers}: there are {len(shares)} hosts, and one broker on each is enough")
    if brokers and way.tunnel is not None:
        raise HostListError("-b lets workers go to other hosts' brokers, and --tunnel opens no port for them")
    path = options.get("--join-file")
    if path is not None and way.tunnel is not None:
        raise HostListError("--join-file needs a port that others reach, and --tunnel opens none")
    # Where nothing says from where others will come, they may come from anywhere.
    bind = ANY if path is not None and len(shares) < 2 else ""
    job = Job(shares, way, config, options.get("--broker-hostname", ""), missing, bind=bind, brokers=brokers)
    if path is not None:
        job.admit(Invitation(path, FIRST))
    current.begin_with(job)


def check(words: Sequence[str], options: Mapping[str, str]) -> int:
    """Look at the hosts that a job would run on; returns the exit status. Blocks for up to 20 s."""
    from scoop.launch import check as checking
    from scoop.launch import launchers

    try:
        hosts, given = hosts_of(words, options), None
        if not hosts:
            given = allocation()
        hosts = hosts or (list(given.hosts) if given is not None else [Host("127.0.0.1")])
        launcher = launchers.find(given, os.environ) if given is not None else None
        shares = plan.make(hosts, None, plan.names_of_this_host())
        way = way_of(options, launcher if "--ssh-executable" not in options else None)
    except (HostListError, StartupFailed) as error:
        print(f"scoop-run: {error}", file=sys.stderr)
        return 1
    return 0 if checking.check(shares, way, options.get("--broker-hostname", "")) else 1


def take_rank(words: Sequence[str], options: Mapping[str, str]) -> int | None:
    """If mpiexec, mpirun or srun has started this process beside others: take part in their job.

    Returns:
        None for rank 0, whose job has been started, and for a process that is no rank: both go on with the
        program. An exit status for the others when the job is over, and for a rank that cannot take part.
        Blocks.
    """
    from scoop.launch.schedulers import find_rank

    try:
        rank = find_rank(os.environ)
        if rank is not None and rank.size is None:
            rank = _sized(rank)
        if rank is None or rank.size == 1:
            return None
        if "--tunnel" in options:
            raise HostListError(
                "--tunnel goes through ssh, but the launcher has started these ranks without it"
            )
        if "--join-file" in options:
            raise HostListError("--join-file: nobody can join a job whose ranks mpiexec or srun has started")
        if words or "--hostfile" in options:
            raise HostListError(
                f"this is rank {rank.rank} of {rank.size} (from {rank.source}), so its hosts are the "
                "launcher's: leave --hosts and --hostfile out, or the launcher"
            )
        return _serve_rank(rank, options)
    except (HostListError, StartupFailed, KeyringError) as error:
        print(f"scoop-run: {error}", file=sys.stderr)
        return 1


def _sized(rank: Rank) -> Rank:
    """The rank with the number of ranks, where the launcher tells it in its own way only."""
    from dataclasses import replace

    size = os.environ.get("SLURM_STEP_NUM_TASKS", "")
    if not size.isdigit():
        raise HostListError(
            f"{rank.source} says that this is rank {rank.rank}, but nothing says of how many; "
            "name the hosts with --hosts"
        )
    return replace(rank, size=int(size))


def _serve_rank(rank: Rank, options: Mapping[str, str]) -> int | None:
    from scoop import current
    from scoop.launch import ranks
    from scoop.launch.origin import set_up_log

    config = current.settings()
    set_up_log(config)
    way = way_of(options)
    if rank.rank:
        return ranks.follow(rank, way)
    log.info("rank 0 of %s (from %s)", rank.size, rank.source)
    current.begin_with(ranks.lead(rank, way, config, options.get("--broker-hostname", "")))
    return None
