"""``python -m scoop.broker``: the broker as a process of its own, started by hand.

At a TCP address it is a broker of a federation: workers and other brokers come to it, always with keys. At a
Unix socket it is the loop that a program otherwise runs as a thread, and nothing else.
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

DEFAULT_ADDRESS = "tcp://127.0.0.1:5555"
_USAGE = f"""\
usage: python -m scoop.broker [options]

Dispatches tasks between the processes that connect to it, until SIGTERM, SIGINT or the end of the job.

  --address A      where to listen [BROKER_ADDRESS]; default {DEFAULT_ADDRESS}; tcp://*:5555
                   for all hosts, or ipc:///directory/socket in a directory that only you can use
  --meta A         where to tell other brokers of its load [META_ADDRESS]; default: the port after it
  --peers A,B      task sockets of the other brokers [BROKER_ADDRESSES]
  --meta-peers A,B their meta sockets [META_ADDRESSES]; default: the ports after those
  --name N         its name in messages [BROKER_NAME]; default: broker
  --join-file F    write a file for those who do not share your home, to be carried there: workers and
                   brokers name it in SCOOP_KEY_FILE; scoop-worker --join F. Also called --key-file
  --peer-key-file F,G  such files of other brokers [SCOOP_KEY_FILE]
  -v, --verbose
  -h, --help

Processes of yours that share your home find the broker's key by themselves. The variables may
have the prefix SCOOP_, which wins.
"""


class AddressError(ValueError):
    """The broker cannot listen there; the text says why."""


def check_address(address: str) -> str:
    """The path of an ipc address where a broker may listen.

    Raises:
        AddressError: it is of another kind, somebody else could reach it, or a broker listens there already.
    """
    kind, _, path = address.partition("://")
    if kind != "ipc" or not path.startswith("/"):
        raise AddressError(
            f"{address!r} is no address for a broker; use tcp://host:port or ipc:///directory/name"
        )
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


def next_port(address: str) -> str:
    """The same TCP address with the port after it.

    Raises:
        AddressError: it is no TCP address with a port.
    """
    head, _, port = address.rpartition(":")
    if not head.startswith("tcp://") or not port.isdigit() or not 0 < int(port) < 65535:
        raise AddressError(
            f"{address!r} is no address for a broker; use tcp://host:port or ipc:///directory/name"
        )
    return f"{head}:{int(port) + 1}"


def serve_tcp(given: dict[str, str]) -> None:
    """Be a broker of a federation until the end of the job. Blocks; the main thread only.

    Args:
        given: the options of the command line by name; empty where not given.

    Raises:
        AddressError: an address makes no sense.
        ConfigError: SCOOP_LEASE has a value that it cannot have.
        TransportError: an address cannot be bound. Also what `Standing` raises.
    """
    from scoop.config import Config
    from scoop.launch import keyring
    from scoop.launch.standing import Standing

    address = given["address"]
    meta = given["meta"] or next_port(address)
    cards = [keyring.read_card(path) for path in _words(given["peer_key_file"])]
    peers = _words(given["peers"]) or [card.address for card in cards]
    metas = _words(given["meta_peers"]) or [""] * len(peers)
    if len(metas) != len(peers):
        raise AddressError(
            f"{len(peers)} brokers but {len(metas)} meta sockets: there is one for each, in order"
        )
    for each in (meta, *peers, *filter(None, metas)):
        next_port(each)
    lease_s = Config.load().lease
    name = given["name"] or "broker"
    pairs = list(zip(peers, metas, strict=True))
    standing = Standing(address, meta, pairs, given["join_file"], lease_s, name, cards)
    try:
        standing.take_signals()
        print(f"scoop {standing.name} (process {os.getpid()}) listens at {standing.address}", flush=True)
        standing.serve()
    finally:
        standing.close()


def _words(text: str) -> list[str]:
    return text.replace(",", " ").split()


def _from_environment(name: str) -> str:
    plain, ours = os.environ.pop(name, ""), os.environ.pop("SCOOP_" + name, "")
    return ours or plain


def _parse(rest: list[str]) -> dict[str, str] | str:
    """What was given; or, as text, what is wrong ("" for help)."""
    given = {
        "address": _from_environment("BROKER_ADDRESS"),
        "meta": _from_environment("META_ADDRESS"),
        "peers": _from_environment("BROKER_ADDRESSES"),
        "meta_peers": _from_environment("META_ADDRESSES"),
        "name": _from_environment("BROKER_NAME"),
        "peer_key_file": os.environ.pop("SCOOP_KEY_FILE", ""),
        "join_file": "",
        "verbose": "",
    }
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        key = name.removeprefix("--").replace("-", "_")
        key = "join_file" if key == "key_file" else key
        if name in ("-h", "--help"):
            return ""
        if name in ("-v", "--verbose"):
            given["verbose"] += "v"
        elif not name.startswith("--") or key not in given or not (equals or rest):
            return f"{word}: unknown, or without a value"
        else:
            given[key] = value if equals else rest.pop(0)
    given["address"] = given["address"] or DEFAULT_ADDRESS
    return given


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    given = _parse(list(sys.argv[1:] if argv is None else argv))
    if isinstance(given, str):
        if given:
            print(f"scoop.broker: {given}\n{_USAGE}", file=sys.stderr, end="")
            return 2
        print(_USAGE, end="")
        return 0
    if given["verbose"]:
        import logging

        logging.basicConfig(
            level=logging.INFO if given["verbose"] == "v" else logging.DEBUG, format="%(message)s"
        )
    try:
        if given["address"].startswith("tcp:"):
            serve_tcp(given)
        else:
            serve(given["address"])
    except (ValueError, OSError, RuntimeError) as error:
        print(f"scoop.broker: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
