"""A broker of a federation as a process of its own, started by hand.

It listens at a TCP address with CURVE, shows its card to processes of the same user, and finds other brokers
by their cards. Who is not on its allow-list cannot connect; that this is so is tried at every start.
"""

from __future__ import annotations

import hashlib
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

from scoop._core.curve import Keys
from scoop._core.gateway import Gateway
from scoop._core.net import Context, Socket
from scoop.launch import keyring, process
from scoop.launch.invitation import Agency, Invitation
from scoop.launch.vigil import ROLE_BROKER, Vigil

LOOK_S = 0.5
"""How often brokers that have not been found are looked for, and those that are gone."""

ROLE_ORIGIN = 2

SELF_TEST_S = 3.0
ANSWER_S = 5.0
NUMBER_BITS = 20

log = logging.getLogger("scoop")


class GateOpen(RuntimeError):
    """A stranger's key was not refused: the broker does not serve."""


def number_of(public: bytes) -> int:
    """The number of a broker that nobody has given one: from its public key."""
    digest = hashlib.sha256(public).digest()
    return int.from_bytes(digest[:4], "little") % ((1 << NUMBER_BITS) - 1) + 1


def reachable(address: str) -> str:
    """The address under which others reach a bound one: the host's name in place of a wildcard."""
    parts = urlsplit(address)
    if parts.hostname in ("0.0.0.0", "::", "*"):
        return f"tcp://{socket.gethostname()}:{parts.port}"
    return address


def local(address: str) -> str:
    """The address of a bound socket on this host."""
    parts = urlsplit(address)
    if parts.hostname in ("0.0.0.0", "::", "*"):
        return f"tcp://127.0.0.1:{parts.port}"
    return address


def self_test(gateway: Gateway, context: Context, address: str, fd: int) -> None:
    """Knock with a stranger's key.

    Raises:
        GateOpen: it was not refused.
    """
    stranger = Socket(context, "dealer", os.urandom(8), 0)
    Keys().secure(stranger, gateway.keys.public)
    stranger.connect(local(address))
    deadline = time.monotonic() + SELF_TEST_S
    while gateway.gate.denied == 0 and gateway.gate.granted == 0 and time.monotonic() < deadline:
        gateway.step(fd, 0.05)
    refused = gateway.gate.denied > 0 and gateway.gate.granted == 0
    stranger.close()
    if not refused:
        raise GateOpen(f"{address}: a stranger's key was not refused; scoop does not serve like this")


def meta_of(card: keyring.Card, address: str) -> str:
    """Where the broker of a card tells of its load: at the host of `address`."""
    return f"{address.rpartition(':')[0]}:{urlsplit(card.meta).port}"


class Meeting:
    """A broker that is to be known, under the addresses by which we reach it."""

    def __init__(self, card: keyring.Card, address: str, meta: str) -> None:
        self.card = card
        self.address = address
        self.meta = meta
        self.failure = ""
        self.over = False

    def begin(self, number: int, public: bytes) -> None:
        """Tell it our key, by its join file; a thread does, for it may be waiting for us meanwhile."""
        threading.Thread(target=self._tell, args=(number, public), name="scoop-meeting", daemon=True).start()

    def _tell(self, number: int, public: bytes) -> None:
        try:
            Agency(self.card, [(number, public)], time.monotonic() + ANSWER_S, self.address).close()
        except Exception as error:
            self.failure = str(error)
        self.over = True


class Standing:
    """A broker process that was started by hand.

    Args:
        address, meta: where to listen for tasks and for subscribers, ``tcp://host:port``.
        peers: addresses of other brokers, and of their meta sockets.
        lease_s: how long a host may be silent, its kernel included, before it counts as lost.
        name: its name in messages; made unique.
        join_file: a path to write a file to, for processes on hosts that do not share this home.
        cards: of brokers that do not share it.

    Raises:
        TransportError: an address cannot be bound.
        KeyringError: there is no safe place for the keys.
        GateOpen: strangers are not refused.
    """

    def __init__(
        self,
        address: str,
        meta: str,
        peers: Sequence[tuple[str, str]] = (),
        join_file: str = "",
        lease_s: float = 60.0,
        name: str = "broker",
        cards: Sequence[keyring.Card] = (),
    ) -> None:
        process.raise_descriptor_limit()  # strangers, who cost one each, are not to keep workers out
        self._keys = Keys()
        self._context = Context()
        self.gateway = Gateway(None, number_of(self._keys.public))
        self._vigil = Vigil(self.gateway, lease_s)
        self._stop, self._stop_end = os.pipe()
        os.set_blocking(self._stop_end, False)
        self._wanted = list(peers)
        self._cards = list(cards)
        self._meetings: list[Meeting] = []
        self._invitation: Invitation | None = None
        self._missed: set[str] = set()
        self.address, self.meta = self.gateway.open(
            self._context, self._keys, address, meta, self._unknown_key
        )
        self._shown: keyring.Shown | None = None
        try:
            self_test(self.gateway, self._context, self.address, self._stop)
            self._shown = keyring.Shown(self.gateway.number, self.address, self.meta, self._keys, name=name)
            self.name = str(self._shown.card["name"])
            if self.name != name:
                log.warning("there is a broker %s already: this one is %s", name, self.name)
            self.gateway.introduce(reachable(self.address), reachable(self.meta))
            if join_file:
                self._invite(join_file)
        except BaseException:
            self.close()
            raise

    def _invite(self, path: str) -> None:
        assert self._shown is not None
        self._invitation = Invitation(path, self.gateway.number)
        self.gateway.gate.allow_block(self._invitation.keys.public, self._invitation.base)
        near = {"address": reachable(self.address), "meta": reachable(self.meta)}
        self._invitation.write({**self._shown.card, **near})

    def _unknown_key(self, key: str) -> None:
        name = self._shown.lookup(key) if self._shown is not None else None
        if name is not None:
            self.gateway.gate.allow(bytes.fromhex(key), name)

    def take_signals(self) -> None:
        """From now on SIGTERM and SIGINT end `serve`, also one that is yet to begin; the main thread only."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(self._stop_end, warn_on_full_buffer=False)

    def serve(self) -> None:
        """Dispatch until SIGTERM, SIGINT (see `take_signals`), or the end of the job. Blocks."""
        try:
            while not self.gateway.stopped:
                self._look_for_peers()
                self._look_for_losses()
                until = time.monotonic() + LOOK_S
                while time.monotonic() < until and not self.gateway.stopped:
                    if self.gateway.step(self._stop, max(0.0, until - time.monotonic())):
                        return
        finally:
            signal.set_wakeup_fd(-1)

    def _look_for_peers(self) -> None:
        for address, meta in list(self._wanted):
            try:
                card = keyring.match(self._cards, address) or keyring.find(address)
            except keyring.KeyringError as error:
                self._wait(address, str(error))
                continue
            self._wanted.remove((address, meta))
            meeting = Meeting(card, address, meta or meta_of(card, address))
            if card.keys is None:
                keyring.allow_key(card.allow, self._keys, self.gateway.number)
                self._meet(meeting)
            else:
                meeting.begin(self.gateway.number, self._keys.public)
                self._meetings.append(meeting)
        for meeting in [one for one in self._meetings if one.over]:
            self._meetings.remove(meeting)
            if meeting.failure:
                self._wait(meeting.address, meeting.failure)
                self._wanted.append((meeting.address, meeting.meta))
            else:
                self._meet(meeting)

    def _wait(self, address: str, reason: str) -> None:
        if address not in self._missed:
            self._missed.add(address)
            print(f"scoop.broker: waiting: {reason}", file=sys.stderr, flush=True)

    def _meet(self, meeting: Meeting) -> None:
        card = meeting.card
        if card.name == self.name:  # one that does not share our home
            self.name = f"{self.name}-{self.gateway.number}"
            log.warning("there is a broker %s already: this one is %s", card.name, self.name)
        self.gateway.add_peer(card.number, meeting.address, meeting.meta, card.public, True)
        log.info("%s knows the broker %s at %s", self.name, card.name, meeting.address)

    def _look_for_losses(self) -> None:
        for number, role, how in self._vigil.gone():
            if role == ROLE_ORIGIN or (role == ROLE_BROKER and number == self.gateway.origin_at):
                what = "the program" if role == ROLE_ORIGIN else "the program's broker"
                print(f"scoop.broker: {what} is gone ({how}): the job ends", file=sys.stderr, flush=True)
                self.gateway.end()
            elif role == ROLE_BROKER:
                log.warning("broker %d is gone (%s), and its workers with it", number, how)
                self.gateway.remove_peer(number)
            else:
                if how:
                    log.warning("a worker is gone (%s); its tasks are run again elsewhere", how)
                self.gateway.report_lost(number, 0, 0, b"")

    def close(self) -> None:
        """Close everything; what was sent goes out within a second."""
        self.gateway.close()
        if self._shown is not None:
            self._shown.withdraw()
        if self._invitation is not None:
            self._invitation.withdraw()
        self._context.close()
        os.close(self._stop)
        os.close(self._stop_end)
