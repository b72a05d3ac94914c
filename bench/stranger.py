"""Somebody on the network who disturbs: `stranger.py REPORT N SCAN_PER_S HOST:PORT...`.

Keeps N connections open to each address, half of them with a byte, and opens those again that are closed;
looks for open ports on the hosts meanwhile. Says in the file REPORT, once a second, what it has done. Runs
until it is killed.
"""

from __future__ import annotations

import json
import os
import resource
import selectors
import socket
import sys
import time

Address = tuple[str, int]


class Stranger:
    """See the module."""

    def __init__(self, count: int, addresses: list[Address]) -> None:
        self._count = count
        self._selector = selectors.DefaultSelector()
        self._held = dict.fromkeys(addresses, 0)
        self.counts = {"held": 0, "opened": 0, "scanned": 0, "open_ports": 0}
        self._hosts = sorted({host for host, _ in addresses})

    def fill(self) -> None:
        """Open what is missing."""
        for address in self._held:
            while self._held[address] < self._count:
                peer = socket.create_connection(address, timeout=30)
                peer.setblocking(False)
                self.counts["opened"] += 1
                if self.counts["opened"] % 2:
                    peer.send(b"\xff")
                self._selector.register(peer, selectors.EVENT_READ, address)
                self._held[address] += 1
        self.counts["held"] = sum(self._held.values())

    def wait(self, seconds: float) -> None:
        """Notice what the other sides do for a while."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            for key, _ in self._selector.select(left):
                self._on_news(key)

    def _on_news(self, key: selectors.SelectorKey) -> None:
        peer = key.fileobj
        assert isinstance(peer, socket.socket)
        try:
            data = peer.recv(4096)
        except OSError:
            data = b""
        if not data:
            self._selector.unregister(peer)
            peer.close()
            self._held[key.data] -= 1

    def scan(self, ports: int) -> None:
        """Try the next ports on each host."""
        first = self.counts["scanned"]
        for port in range(first, first + ports):
            for host in self._hosts:
                with socket.socket() as peer:
                    peer.settimeout(1.0)
                    self.counts["open_ports"] += peer.connect_ex((host, 1 + port % 65535)) == 0
        self.counts["scanned"] += ports


def main() -> None:
    """Disturb for ever."""
    report, count, per_s, *words = sys.argv[1:]
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    addresses = [(host, int(port)) for host, _, port in (word.partition(":") for word in words)]
    stranger = Stranger(int(count), addresses)
    while True:
        stranger.fill()
        with open(report + ".new", "w", encoding="utf-8") as file:
            json.dump(stranger.counts, file)
        os.replace(report + ".new", report)
        for _ in range(10):
            stranger.scan(int(per_s) // 10)
            stranger.wait(0.1)


if __name__ == "__main__":
    main()
