"""Who notices that a broker, or a process that came to it over TCP, is gone where no agent tells.

The kernel of each host is asked, once a second, whether the connections still stand (`scoop._core.links`).
One that has ended is never taken up again: what was on its way is lost, so its other end counts as lost too.
"""

from __future__ import annotations

import os
import sys
import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from scoop._core.gateway import Gateway
    from scoop._core.node import Node

LOOK_S = 1.0
ENDED_LOOKS = 5
"""A broker that its agent started may be followed by another one, in less time than so many looks."""

STANDS, SILENT, ENDED = 1, 2, 3
ROLE_BROKER = 3


class Vigil:
    """A broker's watch over those who came to it over TCP.

    Args:
        gateway: the broker.
        lease_s: how long a host may be silent, kernel included.
        looks: in so many looks in a row the connection of a broker must be seen ended.
    """

    def __init__(self, gateway: Gateway, lease_s: float, looks: int = 2) -> None:
        self._gateway = gateway
        self._lease_s = lease_s
        self._due = 0.0
        self._ending: dict[int, int] = {}  # who was seen ended, and how often in a row
        self._looks = looks
        gateway.watching = True

    def gone(self) -> list[tuple[int, int, str]]:
        """Who is gone, as (incarnation or broker's number, role, how); looks at most once a second.

        `how` is empty for one who had said that it would leave.

        A connection must be seen ended twice at least: an agent, who knows more of how its worker died, comes
        first.
        """
        now = time.monotonic()
        if now < self._due:
            return []
        self._due = now + LOOK_S
        found = self._gateway.ended_links(self._lease_s)
        self._ending = {number: self._ending.get(number, 0) + 1 for number, _, ended, _ in found if ended}
        return [
            (number, role, "" if leaving else how(ended, self._lease_s))
            for number, role, ended, leaving in found
            if not ended or self._ending[number] >= (self._looks if role == ROLE_BROKER else 2)
        ]


def how(ended: bool, lease_s: float) -> str:
    """What has become of a connection, in words."""
    return "its connection has ended" if ended else f"its host has not answered for {lease_s:g} s"


def watch_broker(node: Node, lease_s: float, over: threading.Event, looks: int = 2) -> str:
    """Block until the broker is gone, and return how; nothing if it has said STOP, or it is `over`."""
    ended = 0
    while not over.wait(LOOK_S) and not node.stopped:
        state = node.link_state(lease_s)
        ended = ended + 1 if state == ENDED else 0
        if state == SILENT or ended >= looks:
            return "" if node.stopped else how(state == ENDED, lease_s)
    return ""


class Lifeline:
    """Ends a worker with its job or with its broker, in the middle of a task if need be.

    Args:
        node: of this process; with its link watched.
        address: of the broker, for messages.
        lease_s: see `Vigil`.
        grace_s: time to leave for the task that runs.
        looks: in so many looks in a row the connection must be seen ended.

    Attributes:
        lost: what happened to the broker; empty while it is there.
        over: to be set when the worker serves no more.
    """

    def __init__(self, node: Node, address: str, lease_s: float, grace_s: float, looks: int = 2) -> None:
        self.lost = ""
        self.over = threading.Event()
        self._node = node
        self._address = address
        self._lease_s = lease_s
        self._grace_s = grace_s
        self._looks = looks
        threading.Thread(target=self._watch, name="scoop-vigil", daemon=True).start()

    def _watch(self) -> None:
        gone = watch_broker(self._node, self._lease_s, self.over, self._looks)
        if gone:
            self.lost = f"the broker at {self._address} is gone: {gone}"
            self._node.stop()
        if not self.over.wait(self._grace_s):
            if self.lost:
                print(f"scoop: {self.lost}", file=sys.stderr, flush=True)
            os._exit(1 if self.lost else 0)
