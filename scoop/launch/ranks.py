"""One of the processes that mpiexec, mpirun or srun has started: rank 0 runs the program, others serve it.

They find each other through a private directory in the user's state directory, which all hosts must share.
Its name comes from what the launcher tells all its processes alike.
"""

from __future__ import annotations

import logging
import os
import select
import shutil
import socket
import sys
import threading
import time

from scoop.errors import StartupFailed
from scoop.launch import keyring, plan, remote
from scoop.launch.hostlink import ANY, HostLink
from scoop.launch.hosts import Host
from scoop.launch.job import START_S, Job
from scoop.launch.plan import Share
from scoop.launch.switchboard import Relay, Switchboard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from scoop.config import Config
    from scoop.launch.link import Message
    from scoop.launch.schedulers import Rank

log = logging.getLogger("scoop")

PMI_ANSWER_S = 5.0
LOOK_S = 0.05
LOCAL_SIZES = ("OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS")
WHERE = "XDG_STATE_HOME names another place for it"


# ------------------------------------------------------------------------------------ which launch it is


def launch_name(rank: Rank, environ: Mapping[str, str]) -> str:
    """What all processes of one launch, and no others, call it; a name for a file.

    Raises:
        StartupFailed: the launcher tells nothing that they have in common.
    """
    source = rank.source.partition(",")[0]
    name = ""
    if source == "PMI_RANK":
        name = environ.get("PMI_JOBID", "") or _kvs_name(environ.get("PMI_FD", ""))
    elif source in ("OMPI_COMM_WORLD_RANK", "PMIX_RANK"):
        name = environ.get("PMIX_NAMESPACE", "")
        name += environ.get("OMPI_MCA_orte_precondition_transports", "") if name else ""
    if not name and environ.get("SLURM_STEP_ID"):
        name = ".".join(
            environ.get(key, "") for key in ("SLURM_CLUSTER_NAME", "SLURM_JOB_ID", "SLURM_STEP_ID")
        )
    if not name:
        raise StartupFailed(
            f"rank {rank.rank} of {rank.size} (from {rank.source}): the launcher does not tell its processes "
            "what they have in common; name the hosts with --hosts instead"
        )
    return source.partition("_")[0].lower() + "-" + "".join(c if c.isalnum() else "-" for c in name)


def _kvs_name(descriptor: str) -> str:
    """Ask the process manager of MPICH and its relatives for the name of this launch (PMI version 1).

    Returns:
        Empty if it does not answer so.
    """
    if not descriptor.isdigit():
        return ""
    answers = {}
    for request, key in (
        ("init pmi_version=1 pmi_subversion=1", "rc"),
        ("get_my_kvsname", "kvsname"),
        ("finalize", "rc"),
    ):
        try:
            answers[key] = _pmi(int(descriptor), request).get(key, "")
        except OSError:
            break
    return answers.get("kvsname", "")


def _pmi(descriptor: int, request: str) -> dict[str, str]:
    os.write(descriptor, f"cmd={request}\n".encode())
    line = b""
    while not line.endswith(b"\n"):
        if not select.select([descriptor], [], [], PMI_ANSWER_S)[0]:
            raise TimeoutError
        byte = os.read(descriptor, 1)
        if not byte:
            raise BrokenPipeError
        line += byte
    return dict(word.partition("=")[::2] for word in line.decode("ascii", "replace").split())


def folder_of(name: str) -> str:
    """The private directory of a launch; made if it is not there.

    Raises:
        KeyringError: it cannot be made, or others could write into it.
    """
    path = os.path.join(keyring.directory("launches"), name)
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
    except OSError as error:
        raise keyring.KeyringError(f"{path}: {error.strerror}; {WHERE}") from None
    return path


def _on_one_host(rank: Rank, environ: Mapping[str, str]) -> bool:
    if rank.source.startswith("SLURM"):
        return environ.get("SLURM_STEP_NUM_NODES") == "1"
    return any(environ.get(name) == str(rank.size) for name in LOCAL_SIZES)


# ---------------------------------------------------------------------------------------------- rank 0


class RankLink(HostLink):
    """A rank that comes by itself; those on one host share a broker."""

    def __init__(self, number: int, share: Share, switchboard: Switchboard) -> None:
        super().__init__(number, share)
        self._switchboard = switchboard

    def start(self, way: remote.Way, job: str) -> None:
        """Wait for nothing: its agent comes, or does not."""
        self.handle = self._switchboard.handle(self.number - 1, job)

    def greet(self, hello: Message) -> None:
        """Take what its agent says first."""
        super().greet(hello)
        self.name = f"{hello['host']}-r{self.number - 1}"

    def last_words(self) -> str:
        """Why it may not have come."""
        return (
            "it did not come, or was ended; all ranks must find the same "
            f"{keyring.directory('launches')} ({WHERE}), and reach this host"
        )


class RankJob(Job):
    """A job whose agents are started by the other ranks of its launch.

    Args:
        shares, way, config: as of `Job`.
        place: name of this host for the others, address to bind, and the directory of the launch.
        board: to which the others come.

    Raises:
        StartupFailed: a rank does not come, or cannot take part; the text names it and says why.
    """

    def __init__(
        self,
        shares: list[Share],
        way: remote.Way,
        config: Config,
        place: tuple[str, str, str],
        board: Switchboard,
    ) -> None:
        name, bind, self._folder = place
        self._switchboard = board

        def link(number: int, share: Share) -> HostLink:
            return HostLink(number, share) if share.local else RankLink(number, share, board)

        super().__init__(shares, way, config, name, links=link, bind=bind)

    def _leader_of(self, host: HostLink) -> HostLink:
        if host.share.local:
            return host
        assert host.hello is not None
        there = host.hello["host"]
        if there == socket.gethostname():
            return self._hosts[0]
        same = (other for other in self._hosts if other.hello is not None and other.hello["host"] == there)
        return next((other for other in same if other is not host and other.leads), host)

    def _clean(self) -> None:
        super()._clean()
        self._switchboard.close()
        _remove(self._folder)


def lead(rank: Rank, way: remote.Way, config: Config, name: str) -> Job:
    """Be rank 0: wait for the others and make a job of them. Blocks.

    Args:
        rank: of this process.
        way: how agents are to be started on this host.
        config: options; `workers` are dealt out over the ranks, one each without it.
        name: under which the others reach this host; its own name if empty.

    Raises:
        StartupFailed: not all come, or one cannot take part. KeyringError: there is no safe place for keys.
    """
    assert rank.size is not None
    _sweep()
    folder = folder_of(launch_name(rank, os.environ))
    bind = "127.0.0.1" if _on_one_host(rank, os.environ) else ANY
    name = name or (bind if bind != ANY else socket.gethostname())
    counts = None if config.workers else 1
    shares = [Share(Host("127.0.0.1"), True, counts)]
    shares += [Share(Host(f"rank {k}"), False, counts) for k in range(1, rank.size)]
    if config.workers:
        plan.deal(shares, config.workers)
    board = Switchboard(folder, bind, name, rank.size)
    try:
        return RankJob(shares, way, config, (name, bind, folder), board)
    except BaseException:
        board.close()
        _remove(folder)
        raise


def _remove(folder: str) -> None:
    """Remove the directory of a launch that is over."""
    shutil.rmtree(folder, ignore_errors=True)


def _sweep() -> None:
    """Remove the directories of launches whose rank 0 was killed, and all others with it."""
    parent = keyring.directory("launches")
    for name in os.listdir(parent):
        folder = os.path.join(parent, name)
        for path in _cards(folder):
            try:
                card = keyring.read_card(path)
            except keyring.KeyringError:
                continue
            if card.host == socket.gethostname() and not os.path.exists(f"/proc/{card.pid}"):
                _remove(folder)


# ------------------------------------------------------------------------------------------ other ranks


def follow(rank: Rank, way: remote.Way) -> int:
    """Be another rank: start an agent for this host and carry its link to rank 0 until the job ends. Blocks.

    Returns:
        The exit status: 0, or 1 if rank 0 went away without a word.

    Raises:
        StartupFailed: there is no rank 0, or it is another version. KeyringError: the directory is not safe.
    """
    folder = folder_of(launch_name(rank, os.environ))
    card = _await_card(folder, rank)
    ours = keyring.versions()
    for what, there in card.versions.items():
        if ours.get(what) != there:
            raise StartupFailed(
                f"rank {rank.rank} on {socket.gethostname()} has {what} {ours.get(what)}, rank 0 on "
                f"{card.host} has {what} {there}: use the same"
            )
    handle, errors = remote.connect(way.agent(os.getpid()), os.urandom(8).hex())
    threading.Thread(target=_show, args=(errors,), name="scoop-errors", daemon=True).start()
    relay = Relay(card, rank.rank, handle.fileno())
    try:
        ended = relay.carry(START_S)
    finally:
        handle.close(0.0)
        relay.close()
    if not ended:
        _remove(folder)  # rank 0 cannot any more
        print(f"scoop-run: rank {rank.rank} has lost rank 0 on {card.host}", file=sys.stderr)
    return 0 if ended else 1


def _await_card(folder: str, rank: Rank) -> keyring.Card:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        for path in sorted(_cards(folder), key=_changed_s, reverse=True):
            try:
                return keyring.read_card(path)
            except keyring.KeyringError:
                continue  # of an earlier launch of that name, just removed
        time.sleep(LOOK_S)
    raise StartupFailed(
        f"rank {rank.rank} on {socket.gethostname()} finds no rank 0: nothing in {folder} for {START_S:g} s. "
        f"All hosts must share that directory; {WHERE}"
    )


def _cards(folder: str) -> list[str]:
    try:
        return [os.path.join(folder, name) for name in os.listdir(folder) if name.endswith(".card")]
    except OSError:
        return []  # removed meanwhile


def _changed_s(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0


def _show(descriptor: int) -> None:
    while data := os.read(descriptor, 4096):
        sys.stderr.write(data.decode(errors="replace"))
    os.close(descriptor)
