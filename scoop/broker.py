"""``python -m scoop.broker``: the broker as a process of its own.

It is the loop that a program otherwise runs as a thread, and opens nothing but one Unix socket. On several
hosts brokers will speak TCP to each other, always with keys; until then a TCP address is refused.
"""

from __future__ import annotations

import os
import signal
import socket
import stat
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

ADDRESS_VARIABLE = "BROKER_ADDRESS"
_USAGE = f"""\
usage: python -m scoop.broker --address ipc:///directory/socket

Dispatches tasks between the processes that connect to the address, until SIGTERM or SIGINT.

  --address A   a Unix socket in a directory that only you can use (mode 0700) [{ADDRESS_VARIABLE}]
  -h, --help
"""


class AddressError(ValueError):
    """The broker cannot listen there; the text says why."""


def check_address(address: str) -> str:
    """The path of an ipc address where a broker may listen.

    Raises:
        AddressError: it is of another kind, somebody else could reach it, or a broker listens there already.
    """
    kind, separator, path = address.partition("://")
    if separator and kind == "tcp":
        raise AddressError(
            f"{address}: TCP needs keys, which come with the federation of several hosts; "
            "use ipc:///directory/name"
        )
    if kind != "ipc" or not path.startswith("/"):
        raise AddressError(f"{address!r} is no address for a broker; use ipc:///directory/name")
    if len(os.fsencode(path)) > 107:
        raise AddressError(f"{address}: the path of a Unix socket has at most 107 bytes")
    folder = os.path.dirname(path)
    try:
        found = os.stat(folder)
    except OSError as error:
        raise AddressError(f"{address}: {folder}: {error.strerror}") from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise AddressError(
            f"{address}: {folder} must be a directory of your own that nobody else can use (chmod 700): "
            "whoever reaches the socket can run code as you"
        )
    if _answers(path):
        raise AddressError(f"{address}: another broker listens there")
    return path


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except OSError:
            return False
        return True


def serve(address: str) -> None:
    """Listen at an ipc address and dispatch until SIGTERM or SIGINT. Blocks; the main thread only.

    Raises:
        AddressError: see `check_address`.
        TransportError: the socket cannot be opened.
    """
    from scoop._core.broker import Broker
    from scoop._core.net import Context, Socket

    path = check_address(address)
    stop, stop_end = os.pipe()
    os.set_blocking(stop_end, False)
    context = Context()
    door = Socket(context, "router")
    try:
        door.bind(address)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(stop_end, warn_on_full_buffer=False)
        print(f"scoop broker (process {os.getpid()}) listens at {address}", flush=True)
        Broker(door).serve(stop)
    finally:
        signal.set_wakeup_fd(-1)
        door.close()
        context.close()
        if os.path.exists(path):
            os.unlink(path)
        os.close(stop)
        os.close(stop_end)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    rest = list(sys.argv[1:] if argv is None else argv)
    address = os.environ.pop(ADDRESS_VARIABLE, "")
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if name in ("-h", "--help"):
            print(_USAGE, end="")
            return 0
        if name != "--address" or not (equals or rest):
            print(f"scoop.broker: {word}: unknown, or without a value\n{_USAGE}", file=sys.stderr, end="")
            return 2
        address = value if equals else rest.pop(0)
    if not address:
        print(f"scoop.broker: no address is given\n{_USAGE}", file=sys.stderr, end="")
        return 2
    try:
        serve(address)
    except (AddressError, OSError) as error:
        print(f"scoop.broker: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
