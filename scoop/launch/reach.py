"""Whether TCP gets from one host to another, for `scoop-run --check`: one opens a port, one connects."""

from __future__ import annotations

import socket

LIMIT_S = 3.0


def open_port(address: str) -> socket.socket:
    """A socket that listens at an address of this host, on a port that the kernel chooses.

    Args:
        address: as numbers; empty for all of this host.

    Raises:
        OSError: this host has no such address, or no port is free.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.create_server((address, 0), family=family)


def why_not(name: str, port: int) -> str:
    """Connect to a port of another host; the reason if that fails, else empty. Blocks for some 3 s."""
    try:
        socket.create_connection((name, port), LIMIT_S).close()
    except OSError as error:
        return error.strerror or str(error)
    return ""
