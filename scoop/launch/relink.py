"""Another link to an agent whose ssh has ended while its host is well.

The agent tells two ends of its link apart: the origin's, after which its output still can be written
somewhere, and that of the connection between, after which it cannot. After the second it goes on without a
link, waits at a socket in its run directory, and ends by its broker's word, or when nobody has come for the
job's lease. The origin has another ssh start `main` there, which hands that socket its own standard input and
output: the agent's new link. What was on its way is lost: output, and news that the brokers have themselves.
"""

from __future__ import annotations

import os
import select
import socket
import sys

from scoop.launch.inquiry import listen_at, process_and_user

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from scoop.launch.hostagent import HostAgent

NAME = "link"
"""Of the socket."""

JUDGE_S = 0.1
"""sshd may close its two ends one after the other."""

CONNECT_S = 5.0
EXIT_NOBODY = 4


class Relink:
    """The agent's side.

    Args:
        agent: whose link it is.
        folder: private directory in which the socket is made.
        lease_s: so long it goes on without a link.

    Raises:
        OSError: the socket cannot be made.
    """

    def __init__(self, agent: HostAgent, folder: str, lease_s: float) -> None:
        self._agent = agent
        self._lease_s = lease_s
        self._links = 0  # that have come to their end, or been followed by another one
        self._carrier: socket.socket | None = None  # whose end ends the command that brought the link
        self._listener = socket.socket(socket.AF_UNIX)
        listen_at(self._listener, os.path.join(folder, NAME))
        self._listener.setblocking(False)
        agent._watch(self._listener.fileno(), self._on_connection)

    def link_ended(self) -> None:
        """The agent's link has come to an end: find out which."""
        self._links += 1
        number = self._links
        ends = self._agent.unlink()
        self._agent._after(JUDGE_S, lambda: self._judge(number, ends))

    def _judge(self, number: int, ends: tuple[int, int]) -> None:
        poll = select.poll()
        poll.register(ends[1], 0)
        broken = any(events & (select.POLLHUP | select.POLLERR) for _, events in poll.poll(0))
        for descriptor in set(ends):
            os.close(descriptor)
        if self._links != number:
            return
        self._drop_carrier()
        if not broken:
            self._agent.origin_is_gone()
            return
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 1)
        os.dup2(null, 2)  # it led to the same connection
        os.close(null)
        self._agent._after(self._lease_s, lambda: self._expire(number))
        self._agent.end_if_over()

    def _expire(self, number: int) -> None:
        if self._links == number:
            self._agent._cut(f"nobody has made another connection within {self._lease_s:g} s")

    def _on_connection(self) -> None:
        try:
            carrier, _ = self._listener.accept()
            carrier.settimeout(CONNECT_S)  # it sends at once
            _, user = process_and_user(carrier)
            ends = socket.recv_fds(carrier, 1, 2)[1] if user == os.getuid() else []
        except OSError:
            return
        if len(ends) != 2:
            carrier.close()
            return
        self._links += 1
        if self._agent.linked:
            for descriptor in set(self._agent.unlink()):
                os.close(descriptor)
        self._drop_carrier()
        self._carrier = carrier
        self._agent.relink(ends[0], ends[1])

    def _drop_carrier(self) -> None:
        if self._carrier is not None:
            self._carrier.shutdown(socket.SHUT_RDWR)  # workers that were forked meanwhile have copies
            self._carrier.close()
            self._carrier = None


def main(folder: str) -> NoReturn:
    """Hand this process's standard input and output to the agent in `folder`; ends with its link."""
    try:
        with socket.socket(socket.AF_UNIX) as carrier:
            carrier.settimeout(CONNECT_S)
            carrier.connect(os.path.join(folder, NAME))
            socket.send_fds(carrier, [b"\0"], [0, 1])
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, 0)
            os.dup2(null, 1)
            carrier.settimeout(None)
            carrier.recv(1)
    except OSError as error:
        print(f"scoop: no agent of this job is there any more: {error}", file=sys.stderr)
        os._exit(EXIT_NOBODY)
    os._exit(0)
