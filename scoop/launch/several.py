"""``scoop-run`` with hosts: from the options to a running job, before the program begins."""

from __future__ import annotations

import sys

from scoop.errors import StartupFailed
from scoop.launch import plan
from scoop.launch.hosts import Host, HostListError, parse_hostfile, parse_words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def hosts_of(words: Sequence[str], options: Mapping[str, str]) -> list[Host]:
    """The hosts of the command line and of its host file.

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
        raise HostListError("there are no hosts: give --hosts or --hostfile")
    return found


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
    on standard error. Blocks until all hosts are there.

    Args:
        words: the hosts of the command line.
        options: those of `cli.LAUNCH` that were given.
    """
    from scoop import current
    from scoop.launch import remote
    from scoop.launch.job import Job

    config = current.settings()
    try:
        shares = plan.make(hosts_of(words, options), config.workers, plan.names_of_this_host())
        way = remote.Way(
            executable=options.get("--python-executable", ""),
            ssh=options.get("--ssh-executable", ""),
            prolog=options.get("--prolog", ""),
            nice=_whole(options, "--nice", 0),
            folder=options.get("--path", ""),
            pythonpath=options.get("--pythonpath", ""),
        )
        job = Job(
            shares, way, config, options.get("--broker-hostname", ""), _whole(options, "--allow-missing", 0)
        )
    except (HostListError, StartupFailed) as error:
        print(f"scoop-run: {error}", file=sys.stderr)
        return False
    current.begin_with(job)
    return True
