"""Which hosts a job runs on, and how many workers each gets."""

from __future__ import annotations

import os
import socket

from scoop.launch.hosts import Host, HostListError, merge

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

LOCAL_NAMES = ("127.0.0.1", "::1", "localhost")


class Share:
    """One host of a job.

    Attributes:
        host: as it was named.
        local: whether it is this one.
        count: processes that compute there, the origin included; None: one for each core.
    """

    __slots__ = ("count", "host", "local")

    def __init__(self, host: Host, local: bool, count: int | None) -> None:
        self.host = host
        self.local = local
        self.count = count

    def __repr__(self) -> str:
        return f"Share({self.host.name!r}, local={self.local}, count={self.count})"


def is_local(host: Host, own_names: Sequence[str]) -> bool:
    """Whether a host is the one of this process; one with a user or a port is reached by ssh all the same."""
    if host.user or host.port:
        return False
    if host.name in LOCAL_NAMES or host.name in own_names:
        return True
    # Batch systems name hosts with their domain or without, whatever the host itself does.
    short, _, domain = host.name.partition(".")
    return any(own.partition(".")[0] == short and not (domain and "." in own) for own in own_names)


def names_of_this_host() -> list[str]:
    """The host's name, and what Slurm calls it in a job."""
    names = [socket.gethostname(), os.environ.get("SLURMD_NODENAME", "")]
    return list(dict.fromkeys(filter(None, names)))


def make(hosts: Sequence[Host], workers: int | None, own_names: Sequence[str]) -> list[Share]:
    """Deal out the workers.

    Args:
        hosts: with or without counts; a host that is named twice has the sum.
        workers: how many in all, the origin included; None: as the hosts' counts say, else one for each core.
        own_names: of this host.

    Returns:
        A share for each host, this one first; it has one even if it is not among the hosts, for the origin's
        broker is here: then its count is 1, the origin alone.

    Raises:
        HostListError: there are fewer workers than hosts.
    """
    merged = merge(hosts)
    counts: list[int | None] = [host.count for host in merged]
    shares = [
        Share(host, is_local(host, own_names), count) for host, count in zip(merged, counts, strict=True)
    ]
    here = [share for share in shares if share.local]
    if len(here) > 1:
        here[0].count = None if any(x.count is None for x in here) else sum(x.count or 0 for x in here)
    rest = [share for share in shares if not share.local]
    if workers is not None:
        taking = [*here[:1], *rest]
        left = workers if here else workers - 1
        if left < len(taking):
            raise HostListError(
                f"{workers} workers for {len(taking)} hosts: each host needs one at least, this one too"
            )
        deal(taking, left)
    first = here[0] if here else Share(Host("127.0.0.1"), True, 1)
    return [first, *rest]


def deal(shares: Sequence[Share], workers: int) -> None:
    """Give each share its part: evenly, but no more than its count while others have room."""
    caps = [share.count for share in shares]
    given = [0] * len(shares)
    while workers:
        open_ = [i for i, cap in enumerate(caps) if cap is None or given[i] < cap]
        for i in open_ or range(len(shares)):
            if workers:
                given[i] += 1
                workers -= 1
    for share, count in zip(shares, given, strict=True):
        share.count = count
