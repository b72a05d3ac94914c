"""The broker of one host of a job, as its agent starts it."""

from __future__ import annotations

import os
import socket
from typing import Any

from scoop._core.curve import Keys
from scoop._core.gateway import Gateway
from scoop._core.net import Context, Socket
from scoop.launch import tunnel
from scoop.launch.link import Decoder, encode
from scoop.launch.overlay import neighbours
from scoop.launch.standing import ROLE_BROKER, self_test
from scoop.launch.vigil import LOOK_S, Vigil

ROOT = 1
"""Number of the broker on the origin's host."""

SILENCE_S = 15.0
"""A host whose kernel has not answered for so long counts as lost."""


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
        self._local.bind(spec["socket"])
        self._gateway = Gateway(self._local, spec["number"])
        self._vigil = Vigil(self._gateway, SILENCE_S if spec["number"] == ROOT else spec["lease"])
        # Each host has a connection with the origin's, and only with that one at once.
        self._gateway.greets = ROOT
        self._told: set[int] = set()
        self._keys = Keys()
        self._address, self._meta = self._open_tunnelled(spec) if spec["tunnel"] else self._open(spec)

    def _open(self, spec: dict[str, Any]) -> tuple[str, str]:
        """Listen at TCP ports; returns the addresses under which other hosts reach them."""
        bind = spec["bind"] or route_to(spec["origin"])
        address, meta = self._gateway.open(self._context, self._keys, endpoint(bind, 0), endpoint(bind, 0))
        self_test(self._gateway, self._context, address, self._link.fileno())
        name = spec["name"] or bind
        near = endpoint(name, int(address.rpartition(":")[2])), endpoint(name, int(meta.rpartition(":")[2]))
        self._gateway.introduce(*near)
        return near

    def _open_tunnelled(self, spec: dict[str, Any]) -> tuple[str, str]:
        address, meta = tunnel.listening(os.path.dirname(spec["socket"].removeprefix("ipc://")))
        self._gateway.open(self._context, self._keys, address, meta)
        self_test(self._gateway, self._context, address, self._link.fileno())
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
                while not self._gateway.step(descriptor, 1.0):
                    pass
            self._look_for_losses()
            if not self._hear():
                break
        if self._gateway.number == ROOT:
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
            if message["op"] == "allow":
                for peer in message["peers"]:
                    if peer["number"] != self._gateway.number:
                        self._gateway.gate.allow(peer["public"], peer["number"])
                self._link.sendall(encode({"op": "allowed"}))
            elif message["op"] == "admit":
                self._gateway.gate.allow_block(message["public"], message["base"])
                self._link.sendall(encode({"op": "allowed"}))
            elif message["op"] == "guests":
                for name, public in message["guests"]:
                    self._gateway.gate.allow(public, name)
                self._link.sendall(encode({"op": "admitted", "host": message["host"]}))
            elif message["op"] == "peers":
                self._meet(message["peers"])
            elif message["op"] == "gone":
                self._gateway.remove_peer(message["number"])
            elif message["op"] == "lost":
                self._gateway.report_lost(
                    message["node"], message["owner"], message["task"], message["detail"]
                )
        return True

    def _meet(self, peers: list[dict[str, Any]]) -> None:
        peers.sort(key=lambda peer: int(peer["number"]))
        numbers = [peer["number"] for peer in peers]
        near = {numbers[i] for i in neighbours(len(peers), self._seed)[numbers.index(self._gateway.number)]}
        for peer in peers:
            if peer["number"] != self._gateway.number:
                self._gateway.add_peer(
                    peer["number"], peer["address"], peer["meta"], peer["public"], peer["number"] in near
                )
