"""``--tunnel``: all that goes between hosts goes through the ssh connections that start them.

No broker listens at a port: its sockets are Unix sockets in its host's private directory. ssh forwards them:
from a directory of the origin to each host, and from each host's directory to that one. What two other hosts
say to each other goes through the origin's, so its connection carries it twice. CURVE stays on, end to end.
"""

from __future__ import annotations

import os
import subprocess
import threading

from scoop.errors import StartupFailed
from scoop.launch import rundir

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from scoop.launch.hostlink import HostLink
    from scoop.launch.remote import Way

FORWARD_S = 5.0
"""How long ssh may take to accept the forwardings of a host."""

ENDS = ("door", "meta")


def listening(folder: str) -> tuple[str, str]:
    """Where a broker listens for tasks and for subscribers, in its host's directory."""
    return f"ipc://{folder}/door", f"ipc://{folder}/meta"


def _path(endpoint: str) -> str:
    return endpoint.removeprefix("ipc://")


class Tunnel:
    """The forwardings of a job, in the origin.

    Raises:
        StartupFailed: there is no safe place for the sockets.
    """

    def __init__(self) -> None:
        try:
            self.folder = rundir.make_run_dir()
        except (OSError, rundir.RunDirError) as error:
            raise StartupFailed(str(error)) from None

    def options(self, number: int) -> list[str]:
        """What ssh needs for the host of that number, so that forwardings can be added later."""
        # That one side of a connection has closed it is nothing to be told of.
        options = (
            "LogLevel=ERROR",
            "ControlMaster=yes",
            "ControlPersist=no",
            f"ControlPath={self._control(number)}",
        )
        return [word for option in options for word in ("-o", option)]

    def _control(self, number: int) -> str:
        return os.path.join(self.folder, f"ssh-{number}")

    def _here(self, number: int, end: str) -> str:
        return os.path.join(self.folder, f"{number}-{end}")

    def open(self, hosts: Sequence[HostLink], way: Way) -> None:
        """Let ssh forward from and to all hosts. Blocks until it does.

        Raises:
            StartupFailed: it refuses to; the text names the host.
        """
        far = [host for host in hosts if not host.share.local]
        threads = [threading.Thread(target=self._forward, args=(host, hosts, way)) for host in far]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        failed = [f"host {host.name}: {host.failure}" for host in far if host.failure]
        if failed:
            raise StartupFailed("\n".join(failed))

    def _forward(self, host: HostLink, hosts: Sequence[HostLink], way: Way) -> None:
        assert host.broker is not None
        folder = os.path.dirname(_path(host.broker["address"]))
        words = [*way.ssh, "-O", "forward", "-o", f"ControlPath={self._control(host.number)}"]
        for end, endpoint in zip(ENDS, (host.broker["address"], host.broker["meta"]), strict=True):
            words += ["-L", f"{self._here(host.number, end)}:{_path(endpoint)}"]
        for other in hosts:
            if other is host or other.broker is None:
                continue
            for end, endpoint in zip(ENDS, (other.broker["address"], other.broker["meta"]), strict=True):
                target = _path(endpoint) if other.share.local else self._here(other.number, end)
                words += ["-R", f"{folder}/{other.number}-{end}:{target}"]
        try:
            done = subprocess.run(
                [*words, host.share.host.target],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=FORWARD_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            host.failure = f"ssh does not forward Unix sockets ({error})"
            return
        said = "; ".join(line.strip() for line in done.stderr.splitlines() if "multiplexing" not in line)
        if done.returncode or "failed" in said:
            host.failure = (
                f"ssh does not forward Unix sockets: {said or f'status {done.returncode}'}. --tunnel needs "
                "OpenSSH here, and AllowStreamLocalForwarding in its sshd"
            )

    def seen_from(self, host: HostLink, peers: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Brokers with the addresses under which a host reaches them; its own as it is."""
        assert host.broker is not None
        folder = self.folder if host.share.local else os.path.dirname(_path(host.broker["address"]))
        seen = []
        for peer in peers:
            if peer["number"] != host.number:
                near = {
                    "address" if end == "door" else end: f"ipc://{folder}/{peer['number']}-{end}"
                    for end in ENDS
                }
                peer = {**peer, **near}
            seen.append(peer)
        return seen

    def close(self) -> None:
        """Remove what is left of the sockets."""
        rundir.remove_run_dir(self.folder)
