"""``--tunnel``: all that goes between hosts goes through the ssh connections that start them.

No broker listens at a port: its sockets are Unix sockets in its host's private directory. ssh forwards them:
from a directory of the origin to each host, and from each host's directory to that one. What two other hosts
say to each other goes through the origin's, so its connection carries it twice. CURVE stays on, end to end.
"""

from __future__ import annotations

import functools
import os
import re
import socket
import time

from scoop.errors import StartupFailed
from scoop.launch import rundir

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from scoop.launch.hostlink import HostLink

FORWARD_S = 5.0
"""How long ssh may take to forward what a host needs."""

ENDS = {"door": "address", "meta": "meta"}
"""The two sockets of a broker, as files, and where messages have their addresses."""

CONTROL_BYTES = 28  # "ssh-" and a number, and what ssh appends to it for a moment
SAFE = re.compile(r"[\w./+=@,-]+", re.ASCII)
REMEDY = "--tunnel needs OpenSSH here, and AllowStreamLocalForwarding and AllowTcpForwarding in its sshd"
_CHATTER = re.compile(rb"(?m)^(?:connect to \S+ port -2 failed|channel \d+: open failed)[^\n]*\n?")


def listening(folder: str) -> tuple[str, str]:
    """Where a broker listens for tasks and for subscribers, in its host's directory."""
    return f"ipc://{folder}/door", f"ipc://{folder}/meta"


def without_chatter(said: bytes) -> bytes:
    """What an ssh of ours has written to standard error, without its news of forwarded connections.

    That the other side of one has closed, brokers notice themselves.
    """
    return _CHATTER.sub(b"", said)


def _path(endpoint: str) -> str:
    return endpoint.removeprefix("ipc://")


class Tunnel:
    """The forwardings of a job, in the origin.

    Args:
        ssh: the command in place of ``ssh``, with its own arguments.
    """

    def __init__(self, ssh: Sequence[str]) -> None:
        self._ssh = list(ssh)

    @functools.cached_property
    def folder(self) -> str:
        """Where ssh and this host have their sockets; made at the first look.

        Raises:
            StartupFailed: there is no safe place for it.
        """
        try:
            folder = rundir.make_run_dir(longest_name=CONTROL_BYTES)
        except (OSError, rundir.RunDirError) as error:
            raise StartupFailed(str(error)) from None
        if not SAFE.fullmatch(folder):
            rundir.remove_run_dir(folder)
            raise StartupFailed(
                f"--tunnel: {folder!r} holds a character that ssh would not take as it is; set "
                "XDG_RUNTIME_DIR to a directory of yours with letters, digits and ._-+=@, only"
            )
        return folder

    def options(self, number: int) -> list[str]:
        """What ssh needs for the host of that number, so that forwardings can be added later.

        Raises:
            StartupFailed: see `folder`.
        """
        options = (
            "LogLevel=ERROR",
            "ControlMaster=yes",
            "ControlPersist=no",
            f"ControlPath={self._control(number)}",
            # Those of the user's configuration, which may open ports.
            "ClearAllForwardings=yes",
            "ForwardX11=no",
        )
        return [word for option in options for word in ("-o", option)]

    def _control(self, number: int) -> str:
        return os.path.join(self.folder, f"ssh-{number}")

    def _here(self, number: int, end: str) -> str:
        return os.path.join(self.folder, f"{number}-{end}")

    def join(self, host: HostLink, broker: dict[str, Any], numbers: Iterable[int]) -> str:
        """Connect a host whose broker listens. Blocks for up to 5 s.

        Args:
            host: this one, or one that ssh has connected.
            broker: what its broker has said.
            numbers: of all hosts of the job.

        Returns:
            Why that cannot be done; empty if it is.
        """
        sockets = {end: _path(broker[key]) for end, key in ENDS.items()}
        if host.share.local:
            for end, path in sockets.items():
                os.symlink(path, self._here(host.number, end))
            return ""
        folder = os.path.dirname(sockets["door"])
        if not SAFE.fullmatch(folder):
            return f"{folder!r} holds a character that ssh would not take as it is; set XDG_RUNTIME_DIR there"
        if not os.path.exists(self._control(host.number)):
            return f"{self._ssh[0]} has made no control socket. {REMEDY}"
        words = [f"-L{self._here(host.number, end)}:{path}" for end, path in sockets.items()]
        words += [
            f"-R{folder}/{other}-{end}:{self._here(other, end)}"
            for other in numbers
            if other != host.number
            for end in ENDS
        ]
        deadline = time.monotonic() + FORWARD_S
        problem = self._forward(host, words) or self._knock(host.number, deadline)
        return f"ssh does not forward Unix sockets: {problem}. {REMEDY}" if problem else ""

    def _forward(self, host: HostLink, words: Sequence[str]) -> str:
        import subprocess  # brokers have this module too, and no need for that one

        # The user's configuration has had its say: what it forwards is not to be asked for once more.
        command = [*self._ssh, "-F", "none", "-o", f"ControlPath={self._control(host.number)}"]
        try:
            done = subprocess.run(
                [*command, "-O", "forward", *words, host.share.host.target],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=FORWARD_S,
                check=False,
                start_new_session=True,
            )
        except subprocess.TimeoutExpired:
            return f"no answer within {FORWARD_S:g} s"
        except OSError as error:
            return str(error)
        if not done.returncode:
            return ""
        return (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[0]

    def _knock(self, number: int, deadline: float) -> str:
        # What its sshd thinks of the way there shows only when it is used. The door speaks first.
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.settimeout(max(0.1, deadline - time.monotonic()))
                probe.connect(self._here(number, "door"))
                if probe.recv(1):
                    return ""
            except TimeoutError:
                return "its broker does not answer through it"
            except OSError as error:
                return f"its broker cannot be reached through it ({error.strerror})"
        return "its sshd closed the way to its broker"

    def seen_from(self, host: HostLink, peers: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Brokers with the addresses under which a host reaches them; its own as it is."""
        assert host.broker is not None
        folder = self.folder if host.share.local else os.path.dirname(_path(host.broker["address"]))
        return [
            peer
            if peer["number"] == host.number
            else {**peer, **{key: f"ipc://{folder}/{peer['number']}-{end}" for end, key in ENDS.items()}}
            for peer in peers
        ]

    def close(self) -> None:
        """Remove what is left of the sockets."""
        if "folder" in self.__dict__:
            rundir.remove_run_dir(self.folder)
