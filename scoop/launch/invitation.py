"""Files with which processes elsewhere can join a job: who holds one may let others in.

A file has the broker's address and public key and a key pair made for it. Whoever reads it makes keys of his
own, one pair for each process, and tells the broker their public halves over a connection with the file's
pair, which can do nothing else (`Agency`). So no process shares a key with another one.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time

from scoop._core.curve import Keys
from scoop.errors import StartupFailed
from scoop.launch import keyring

TYPE_CHECKING = False
if TYPE_CHECKING:
    import threading
    from collections.abc import Iterable
    from typing import Any

    from scoop.launch.hostlink import HostLink
    from scoop.launch.keyring import Card

BLOCK_BITS = 32  # of curve.pyx: agents that use the same file differ in these
ROLE_AGENT = 4
ANSWER_S = 5.0


class Invitation:
    """A file for those who shall join.

    Args:
        path: where to write it.
        number: of the broker that they come to.
    """

    def __init__(self, path: str, number: int) -> None:
        self.path = os.path.abspath(path)
        self.keys = Keys()
        self.base = keyring.new_incarnation(number) >> BLOCK_BITS << BLOCK_BITS
        self._text = ""

    def open(self, host: HostLink, changed: threading.Condition, seed: bytes) -> None:
        """Let the broker of a host of a job take those who have the file, and write it. Blocks.

        Args:
            host: the one whose broker they come to.
            changed: is notified when its agent has said something.
            seed: of the job.

        Raises:
            StartupFailed: the file cannot be written, or the broker does not answer.
        """
        assert host.broker is not None
        host.ready = False
        host.send({"op": "admit", "public": self.keys.public, "base": self.base})
        with changed:
            if not changed.wait_for(lambda: host.ready or host.failure or host.gone, ANSWER_S):
                raise StartupFailed(f"the broker of host {host.name} does not answer")
        card = {"number": host.number, "seed": seed.hex()}
        for key in ("address", "meta", "public"):
            value = host.broker[key]
            card[key] = value.decode() if isinstance(value, bytes) else value
        try:
            self.write(card)
        except keyring.KeyringError as error:
            raise StartupFailed(str(error)) from None

    def write(self, card: dict[str, Any]) -> None:
        """Write the file, mode 0600; `card` as of `keyring.Card`.

        Raises:
            KeyringError: it cannot be written.
        """
        held = {
            "host": socket.gethostname(),
            "versions": keyring.versions(),
            **card,
            "allow": "",
            "incarnation": self.base,
            "client_public": self.keys.public.decode(),
            "client_secret": self.keys.secret.decode(),
        }
        self._text = json.dumps(held)
        keyring.write_private(self.path, self._text)

    def withdraw(self) -> None:
        """Remove the file, unless it is somebody else's by now."""
        try:
            if self._text and keyring.read_private(self.path) == self._text:
                os.unlink(self.path)
        except (keyring.KeyringError, OSError):
            pass


class Agency:
    """A connection to a broker by which this process lets others in.

    Args:
        card: from the file.
        guests: whom to let in: name and public key of each.
        deadline: of the monotonic clock, for the broker's answer; then all of them are let in.
        address: where to reach the broker, if not where its card says.

    Raises:
        StartupFailed: there is no answer.
    """

    def __init__(
        self, card: Card, guests: Iterable[tuple[int, bytes]], deadline: float, address: str = ""
    ) -> None:
        from scoop._core.desk import Desk
        from scoop._core.net import Context, Socket
        from scoop._core.node import Node
        from scoop.launch import boot

        assert card.keys is not None
        low = int.from_bytes(os.urandom(BLOCK_BITS // 8), "little") | 1
        incarnation = card.incarnation | low
        self._context = Context()
        self._socket = Socket(self._context, "dealer", incarnation.to_bytes(8, sys.byteorder), 1000)
        card.keys.secure(self._socket, card.public)
        self._socket.connect(address or card.address)
        self.node = Node(Desk(incarnation, True), None, self._socket)
        self.node.watched = True
        self.node.hello(ROLE_AGENT, f"agent of {socket.gethostname()}")
        for name, public in guests:
            self.node.let_in(name, public, False)  # behind the hello: its answer is one to all
        self._driver = boot.start_driver(self.node, "scoop-driver")
        while not self.node.welcomed:
            if time.monotonic() > deadline:
                self.close()
                raise StartupFailed(
                    f"the broker at {card.address} does not take this process: {card.path} is of another "
                    "job, or of one that is over, or the broker has been started again since"
                )
            time.sleep(0.002)

    def close(self) -> None:
        """Close it; what was sent goes out within a second."""
        self.node.stop()
        self._driver.join(1.0)
        self._socket.close()
        self._context.close()
        if not self._driver.is_alive():
            self.node.close()
