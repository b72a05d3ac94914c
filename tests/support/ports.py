"""Ports for tests that have to name one."""

from __future__ import annotations

import socket


def free_ports() -> int:
    """A port, with the one after it free too."""
    while True:
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", 0))
            port: int = one.getsockname()[1]
            try:
                other.bind(("127.0.0.1", port + 1))
            except (OSError, OverflowError):
                continue
            return port
