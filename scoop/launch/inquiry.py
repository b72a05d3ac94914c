"""Where `scoop-run --explain` asks: a Unix socket of the agent, in the private directory of its job.

The agent passes the question on to the program, which knows its calls and asks the agents of all hosts. A
program that does not answer (it is stopped, or native code holds its interpreter) is left out: what the agent
itself sees of its workers is told all the same.
"""

from __future__ import annotations

import os
import struct
import time

from scoop.launch.link import encode
from scoop.launch.lookout import look_at

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from typing import Any

    from scoop.launch.lookout import Lookout
    from scoop.launch.loop import Loop

NAME = "status"
"""Of the socket."""

ORIGIN_S = 1.5
"""How long the program may take; it gives the agents of other hosts a second."""

WRITE_S = 5.0
PENDING_MAX = 16
_AGAIN_S = 0.01
_CREDENTIALS = struct.Struct("iII")  # process, user, group


def process_and_user(connection: _socket.socket) -> tuple[int, int]:
    """Who has made the other end of a connection of this host: process id and user id."""
    import _socket

    found = connection.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, _CREDENTIALS.size)
    process, user, _ = _CREDENTIALS.unpack(found)
    return process, user


def listen_at(listener: _socket.socket, path: str) -> None:
    """Let a socket listen at `path`; raises OSError if that is not possible."""
    if os.path.lexists(path):
        os.unlink(path)  # of an agent before, which was killed
    listener.bind(path)
    listener.listen(PENDING_MAX)


class Asker:
    """One connection that waits for its answer."""

    __slots__ = ("connection", "job", "over", "workers")

    def __init__(self, connection: int) -> None:
        self.connection = connection
        self.workers: list[dict[str, Any]] | None = None
        self.job: dict[str, Any] | None = None
        self.over = False


class Inquiries:
    """The socket of an agent, and who asks there.

    Args:
        loop: the agent.
        lookout: what it sees of its workers.
        folder: the private directory in which the socket is made.
        origin: process id of the program if it is on this host, else 0.
    """

    def __init__(self, loop: Loop, lookout: Lookout, folder: str, origin: int) -> None:
        self._loop = loop
        self._lookout = lookout
        self._origin = origin
        self._askers: dict[int, Asker] = {}
        self._number = 0
        self._path = os.path.join(folder, NAME)

    def open(self) -> None:
        """Listen; raises OSError if that is not possible."""
        import _socket  # what is above it takes the agent milliseconds to import

        self._listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_NONBLOCK)
        listen_at(self._listener, self._path)
        self._loop._watch(self._listener.fileno(), self._on_connection)

    def told(self, message: dict[str, Any]) -> None:
        """The program has answered."""
        asker = self._askers.get(message["number"])
        if asker is not None:
            asker.job = message["job"]
            self._settle(message["number"])

    def _on_connection(self) -> None:
        import _socket

        try:
            descriptor, _ = self._listener._accept()  # type: ignore[attr-defined]
        except OSError:
            return
        peer = _socket.socket(fileno=descriptor)
        _, user = process_and_user(peer)
        peer.setblocking(False)
        peer.detach()
        if user != os.getuid() or len(self._askers) >= PENDING_MAX:
            os.close(descriptor)
            return
        self._number += 1
        number = self._number
        self._askers[number] = Asker(descriptor)
        self._loop._watch(descriptor, lambda: self._close(number))  # nobody says anything: it is the end
        self._loop.send({"op": "asked", "number": number})
        self._lookout.look(lambda workers: self._looked(number, workers))
        self._loop._after(ORIGIN_S, lambda: self._settle(number, True))

    def _looked(self, number: int, workers: list[dict[str, Any]]) -> None:
        if number in self._askers:
            self._askers[number].workers = workers
            self._settle(number)

    def _settle(self, number: int, late: bool = False) -> None:
        asker = self._askers.get(number)
        if asker is None or asker.over or asker.workers is None or (asker.job is None and not late):
            return
        asker.over = True
        stat = look_at(self._origin) if self._origin else None
        answer = {
            "host": os.uname().nodename,
            "origin": self._origin,
            "letter": stat.letter if stat is not None else "",
            "workers": asker.workers,
            "job": asker.job,
        }
        self._write(number, memoryview(encode(answer)), time.monotonic() + WRITE_S)

    def _write(self, number: int, data: memoryview, deadline: float) -> None:
        asker = self._askers.get(number)
        if asker is None:
            return
        try:
            data = data[os.write(asker.connection, data) :]
        except BlockingIOError:
            pass
        except OSError:
            data = data[:0]
        if data and time.monotonic() < deadline:
            self._loop._after(_AGAIN_S, lambda: self._write(number, data, deadline))
        else:
            self._close(number)

    def _close(self, number: int) -> None:
        asker = self._askers.pop(number, None)
        if asker is not None:
            self._loop._unwatch(asker.connection)
