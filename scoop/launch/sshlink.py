"""Whether the host of the program still answers this one's ssh connection, as the kernel knows it.

With ``--tunnel`` there is no other connection between the hosts, and sshd itself asks nothing. The agent
speaks now and then, so that the kernel has something to be answered. Processes there may be busy or stopped:
their kernel answers.
"""

from __future__ import annotations

import os
import socket
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

TABLES = ("/proc/net/tcp", "/proc/net/tcp6")
REPEATED = 2  # one packet that is repeated may be on its way


def _hex(address: str) -> list[str]:
    """An address as the kernel's tables may have it: each word in this machine's order."""
    if ":" in address:
        return [_words(socket.inet_pton(socket.AF_INET6, address.partition("%")[0]))]
    packed = socket.inet_pton(socket.AF_INET, address)
    return [_words(packed), _words(bytes(10) + b"\xff\xff" + packed)]


def _words(packed: bytes) -> str:
    return "".join(
        f"{int.from_bytes(packed[i : i + 4], sys.byteorder):08X}" for i in range(0, len(packed), 4)
    )


class SshLink:
    """The TCP connection by which ssh has brought this process.

    Args:
        lease_s: how long it may be unanswered.
        environ: where sshd says which it is (SSH_CONNECTION); without that nothing is ever found.
    """

    def __init__(self, lease_s: float, environ: Mapping[str, str] = os.environ) -> None:
        self._lease_s = lease_s
        self._since: float | None = None
        self._ends: set[tuple[str, str]] = set()
        try:
            there, its_port, here, port = environ.get("SSH_CONNECTION", "").split()
            self._ends = {
                (f"{one}:{int(port):04X}", f"{other}:{int(its_port):04X}")
                for one in _hex(here)
                for other in _hex(there)
            }
        except (ValueError, OSError):
            pass

    def is_silent(self, now: float, rows: Iterator[str] | None = None) -> bool:
        """Whether the kernel has repeated itself for the whole lease without an answer.

        Args:
            now: seconds, of a clock that does not jump.
            rows: of the kernel's tables; read now if None.
        """
        if not any(self._repeats(row) for row in (_rows() if rows is None else rows)):
            self._since = None
            return False
        if self._since is None:
            self._since = now
        return now - self._since >= self._lease_s

    def _repeats(self, row: str) -> bool:
        words = row.split()
        return len(words) > 6 and (words[1], words[2]) in self._ends and int(words[6], 16) >= REPEATED


def _rows() -> Iterator[str]:
    for path in TABLES:
        try:
            with open(path, encoding="ascii") as table:
                next(table, "")  # names of the columns
                yield from table
        except OSError:
            continue
