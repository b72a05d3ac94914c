"""The broker of one host of a job, as its agent starts it.

If it dies its agent starts another one in its place, with the same number, keys and addresses, that is told
all that this one was told. Processes and other brokers connect again by themselves; what they then do is in
`_core/failover.pyx`.
"""

from __future__ import annotations

import os
import socket
import time
from typing import Any

from scoop._core.curve import Keys
from scoop._core.gateway import Gateway
from scoop._core.net import Context, Socket
from scoop.launch import tunnel
from scoop.launch.link import Decoder, encode
from scoop.launch.overlay import neighbours
from scoop.launch.standing import self_test
from scoop.launch.vigil import ENDED_LOOKS, LOOK_S, ROLE_BROKER, Vigil

ROOT = 1
"""Number of the broker on the origin's host."""

SILENCE_S = 15.0
"""A host whose kernel has not answered for so long counts as lost."""


SETTLE_S = 0.25
"""A successor first lets this host's processes connect: what it got for one that has not would be lost."""

SUCCESSION_S = 10.0
"""For so long those who knew the one before it may tell a successor what they hold."""

GATE = ("allow", "admit", "guests")
"""Messages that say who may connect: a successor must know before anybody can, since nobody knocks twice."""


def route_to(host: str) -> str:
    """The address of this host on the way to another one; nothing is sent.

    Raises:
        OSError: there is no way.
    """
    family, _, _, _, there = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect(there)
        return str(probe.getsockname()[0])


def endpoint(host: str, port: int) -> str:
    """A TCP endpoint of libzmq."""
    return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"


class HostBroker:
    """See the module; `spec` as of `boot.broker_main`."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self._link: socket.socket = spec["_link"]
        self._decoder = Decoder()
        self._seed = spec["seed"]
        self._context = Context()
        self._local = Socket(self._context, "router")
        self._local.announce()
        self._local.bind(spec["socket"])
        self._gateway = Gateway(self._local, spec["number"])
        lease = SILENCE_S if spec["number"] == ROOT else spec["lease"]
        self._vigil = Vigil(self._gateway, lease, ENDED_LOOKS)
        self._before: dict[str, Any] | None = spec["before"]
        self._until = time.monotonic() + SUCCESSION_S
        self._gateway.successor = self._before is not None
        # Each host has a connection with the origin's, and only with that one at once.
        self._gateway.greets = ROOT
        self._told: set[int] = set()
        self._over = False  # the agent has said so: its link ends also when it is killed, and is followed
        self._keys = Keys.derived(spec["keys"], 0)
        self._address, self._meta = self._open_tunnelled(spec) if spec["tunnel"] else self._open(spec)
        if self._before is not None:
            self._succeed(self._before["told"])

    def _listen(self, address: str, meta: str) -> tuple[str, str]:
        """Open the sockets, where those of the one before were if there was one; returns the endpoints."""
        if self._before is None:
            self._bound = self._gateway.open(self._context, self._keys, address, meta, announce=True)
            self_test(self._gateway, self._context, self._bound[0], self._link.fileno())
            return self._bound
        address, meta = self._before["bound"]
        self._bound = self._gateway.open(self._context, self._keys, address, meta, announce=True)
        for message in self._before["told"]:
            if message["op"] in GATE:
                self._obey(message)
        return self._bound

    def _open(self, spec: dict[str, Any]) -> tuple[str, str]:
        """Listen at TCP ports; returns the addresses under which other hosts reach them."""
        bind = spec["bind"] or route_to(spec["origin"])
        address, meta = self._listen(endpoint(bind, 0), endpoint(bind, 0))
        name = spec["name"] or bind
        near = endpoint(name, int(address.rpartition(":")[2])), endpoint(name, int(meta.rpartition(":")[2]))
        self._gateway.introduce(*near)
        return near

    def _open_tunnelled(self, spec: dict[str, Any]) -> tuple[str, str]:
        address, meta = tunnel.listening(os.path.dirname(spec["socket"].removeprefix("ipc://")))
        self._listen(address, meta)
        self._gateway.introduce("", "")  # each host has another name for it; the origin tells them
        return address, meta

    def serve(self) -> int:
        """Say where it listens, and dispatch until the agent closes the link. Blocks."""
        self._link.sendall(
            encode(
                {
                    "op": "broker",
                    "number": self._gateway.number,
                    "address": self._address,
                    "meta": self._meta,
                    "bound": list(self._bound),
                    "public": self._keys.public,
                    "local": self._local.endpoint,
                }
            )
        )
        descriptor = self._link.fileno()
        self._link.setblocking(False)
        while True:
            if not self._gateway.run(descriptor, LOOK_S) and self._gateway.stopped:
                # The job is over; the agent ends this process when the workers are gone.
                self._link.sendall(encode({"op": "over"}))
                while not self._gateway.step(descriptor, 1.0):
                    pass
            self._look_for_losses()
            if self._gateway.successor and time.monotonic() > self._until:
                self._gateway.successor = False
            if not self._hear():
                break
        if self._gateway.number == ROOT and self._over:
            self._gateway.end()  # the job is over; those who have joined have nobody else who tells them
        self._gateway.close()
        self._local.close()
        self._context.close()
        return 0

    def _look_for_losses(self) -> None:
        # Its agent's link may be silent for long without an end: what is between the hosts says more.
        for number, role, how in self._vigil.gone():
            if role != ROLE_BROKER:
                self._gateway.report_lost(number, 0, 0, b"")  # it had joined from elsewhere
                continue
            if number in self._told:
                continue
            self._told.add(number)
            if self._gateway.number == ROOT:
                self._link.sendall(encode({"op": "silent", "number": number, "how": how}))
            elif number == ROOT:
                self._link.sendall(encode({"op": "cut", "how": how}))

    def _hear(self) -> bool:
        try:
            data = self._link.recv(64 << 10)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if not data:
            return False
        for message in self._decoder.feed(data):
            answer = self._obey(message)
            if answer is not None:
                self._link.sendall(encode(answer))
        return True

    def _obey(self, message: dict[str, Any]) -> dict[str, Any] | None:
        """Do what the agent says; returns what it is to hear."""
        if message["op"] == "allow":
            for peer in message["peers"]:
                if peer["number"] != self._gateway.number:
                    self._gateway.gate.allow(peer["public"], peer["number"])
            return {"op": "allowed"}
        if message["op"] == "admit":
            self._gateway.gate.allow_block(message["public"], message["base"])
            return {"op": "allowed"}
        if message["op"] == "guests":
            for name, public in message["guests"]:
                self._gateway.gate.allow(public, name)
            return {"op": "admitted", "host": message["host"]}
        if message["op"] == "peers":
            self._meet(message["peers"])
        elif message["op"] == "end":
            self._over = True
        elif message["op"] == "gone":
            self._gateway.remove_peer(message["number"])
        elif message["op"] == "lost":
            self._gateway.report_lost(message["node"], message["owner"], message["task"], message["detail"])
        return None

    def _succeed(self, told: list[dict[str, Any]]) -> None:
        """Take up the work of the one before, of what the agent had told it."""
        for message in told:
            if message["op"] not in GATE:
                self._obey(message)
        time.sleep(SETTLE_S)
        self._gateway.call_all()

    def _meet(self, peers: list[dict[str, Any]]) -> None:
        peers.sort(key=lambda peer: int(peer["number"]))
        numbers = [peer["number"] for peer in peers]
        near = {numbers[i] for i in neighbours(len(peers), self._seed)[numbers.index(self._gateway.number)]}
        for peer in peers:
            if peer["number"] != self._gateway.number:
                self._gateway.add_peer(
                    peer["number"], peer["address"], peer["meta"], peer["public"], peer["number"] in near
                )
