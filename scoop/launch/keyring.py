"""Keys of brokers and workers that are started by hand: files that only their user can read or write.

A broker leaves a card in a private directory: its number, its addresses and its public key. Workers of the
same user on the host, or with the same home, find it there by the broker's address, and leave their own
public key beside it before they connect: that is the broker's allow-list. Elsewhere a key file, carried there
by its user, does the same. Nobody else can write there, so nobody else can connect; no secret leaves the
process that made it, except into a key file that the user asks for.
"""

from __future__ import annotations

import json
import os
import socket
import stat
import sys
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from scoop._core.curve import Keys
from scoop.launch.boot import HOME_SHIFT

_LIMIT = 64 << 10


class KeyringError(RuntimeError):
    """A key is missing, or its file is not safe. The text says which, and what to do."""


class Card:
    """What a broker tells of itself.

    Attributes:
        number: of the broker.
        name: of the broker, for messages.
        address, meta: where it listens for tasks and for subscribers.
        public: its public key.
        allow: directory for the public keys of those who want to connect; empty in a key file.
        keys: key pair with which others are let in (`invitation`); None where each leaves its key in `allow`.
        incarnation: the block of names that goes with `keys`; 0 without.
        seed: of the job, 16 bytes; random where the card says nothing of it.
        host, pid: the broker's host name, and its process there.
        versions: of Python and scoop there.
        path: the file that it was read from.
    """

    def __init__(self, held: dict[str, Any], path: str) -> None:
        self.path = path
        try:
            self.number = int(held["number"])
            self.name = str(held.get("name", ""))
            self.address = str(held["address"])
            self.meta = str(held["meta"])
            self.public = str(held["public"]).encode()
            self.host = str(held.get("host", ""))
            self.pid = int(held.get("pid", 0))
            self.seed = bytes.fromhex(str(held.get("seed", ""))) or os.urandom(16)
            self.allow = str(held.get("allow", ""))
            self.versions = {str(name): str(value) for name, value in held.get("versions", {}).items()}
            secret = held.get("client_secret")
            self.keys = Keys(str(held["client_public"]).encode(), str(secret).encode()) if secret else None
            self.incarnation = int(held.get("incarnation", 0))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise KeyringError(f"{path} is no key file of scoop: {type(error).__name__}: {error}") from None

    def is_stale(self) -> bool:
        """Whether the broker was on this host and its process is gone."""
        if self.host != socket.gethostname() or not self.pid:
            return False
        try:
            os.kill(self.pid, 0)
        except OSError:
            return True  # or somebody else's by now
        return False


def directory(kind: str = "brokers", environ: dict[str, str] | os._Environ[str] = os.environ) -> str:
    """The private directory of cards, one of each kind; made if it is not there.

    Raises:
        KeyringError: it cannot be made, or others could write into it.
    """
    home = environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    above = os.path.join(home, "scoop")
    path = os.path.join(above, kind)
    try:
        # One by one: `makedirs` gives its mode to the last one only.
        for each in (above, path):
            os.makedirs(each, mode=0o700, exist_ok=True)
            _check_directory(each)
    except OSError as error:
        raise KeyringError(f"no place for the keys of brokers: {path}: {error.strerror}") from None
    return path


def _check_directory(path: str) -> None:
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise KeyringError(
            f"{path} must be a directory of your own that nobody else can use (chmod 700 {path}): whoever "
            "can write there can run code as you"
        )


def read_private(path: str) -> str:
    """The text of a file that belongs to this user and that nobody else can read or write.

    Raises:
        KeyringError: it is not such a file.
    """
    try:
        # Without waiting: it may be a pipe that nobody writes to.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise KeyringError(f"key file {path}: {error.strerror}") from None
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        os.close(descriptor)
        raise KeyringError(
            f"key file {path} must be yours alone (chmod 600 {path}): whoever reads it can join the job"
        )
    with open(descriptor, encoding="utf-8") as file:
        return file.read(_LIMIT)


def write_private(path: str, text: str) -> None:
    """Write a file of mode 0600, whole or not at all.

    Raises:
        KeyringError: it cannot be written.
    """
    beside = f"{path}.{os.getpid()}.new"
    try:
        descriptor = os.open(
            beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )
        with open(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(descriptor, 0o600)
            file.write(text)
        os.replace(beside, path)
    except OSError as error:
        raise KeyringError(f"key file {path}: {error.strerror}") from None


# --- the broker's side -----------------------------------------------------------------------------------


class Shown:
    """The card of a broker of this process, shown until `withdraw`."""

    def __init__(
        self, number: int, address: str, meta: str, keys: Keys, folder: str | None = None, name: str = ""
    ) -> None:
        folder = directory() if folder is None else folder
        file_name = _file_name(address)
        self.path = os.path.join(folder, f"{file_name}.card")
        self.allow = os.path.join(folder, f"{file_name}.allow")
        self.card: dict[str, Any] = {
            "number": number,
            "name": unique_name(name, folder, address) if name else "",
            "address": address,
            "meta": meta,
            "public": keys.public.decode(),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "allow": self.allow,
            "versions": versions(),
        }
        self._empty()
        os.makedirs(self.allow, mode=0o700, exist_ok=True)
        _check_directory(self.allow)
        write_private(self.path, json.dumps(self.card))

    def lookup(self, key: str) -> int | None:
        """The name that goes with a public key (64 hex digits) on the allow-list; None if it is not there."""
        if len(key) != 64 or not key.isalnum():
            return None
        try:
            return int(read_private(os.path.join(self.allow, key)))
        except (KeyringError, ValueError):
            return None

    def withdraw(self) -> None:
        """Remove the card and the allow-list."""
        try:
            if json.loads(read_private(self.path)).get("pid") == os.getpid():
                os.unlink(self.path)
        except (KeyringError, OSError, ValueError):
            pass
        self._empty()
        try:
            os.rmdir(self.allow)
        except OSError:
            pass

    def _empty(self) -> None:
        try:
            for name in os.listdir(self.allow):
                os.unlink(os.path.join(self.allow, name))
        except OSError:
            pass


def unique_name(wanted: str, folder: str, address: str) -> str:
    """The name, or with a number behind it if another broker whose card is in `folder` has it and is alive.

    Args:
        wanted: what it is to be.
        folder: of cards.
        address: where the broker listens: a card for it is an older one.
    """
    taken = {card.name for card in _cards(folder) if card.address != address and not card.is_stale()}
    name, number = wanted, 1
    while name in taken:
        number += 1
        name = f"{wanted}-{number}"
    return name


def _file_name(address: str) -> str:
    return address.removeprefix("tcp://").replace("/", "_").replace("[", "").replace("]", "")


# --- the worker's side -----------------------------------------------------------------------------------


def find(address: str, folder: str | None = None) -> Card:
    """The card of the broker that listens at `address`, as this user's directory knows it.

    Raises:
        KeyringError: there is none; the text names those that there are.
    """
    folder = directory() if folder is None else folder
    cards = _cards(folder)
    found = match(cards, address)
    if found is not None:
        return found
    known = ", ".join(card.address for card in cards) or "none"
    raise KeyringError(
        f"no key for the broker at {address}: {folder} knows {known}. Start the broker first; on a host that "
        "does not share your home, name a key file in SCOOP_KEY_FILE"
    )


def match(cards: Sequence[Card], address: str) -> Card | None:
    """The card of the broker that listens at `address`, which may have several names."""
    for card in cards:
        if card.address == address:
            return card
    wanted = urlsplit(address)
    for card in cards:
        if urlsplit(card.address).port == wanted.port and _same_host(wanted.hostname or "", card):
            return card
    return None


def _cards(folder: str) -> list[Card]:
    cards = []
    for name in sorted(os.listdir(folder)):
        if name.endswith(".card"):
            path = os.path.join(folder, name)
            try:
                cards.append(Card(json.loads(read_private(path)), path))
            except (KeyringError, ValueError):
                continue
    return cards


def _same_host(host: str, card: Card) -> bool:
    there = urlsplit(card.address).hostname or ""
    here = card.host == socket.gethostname()
    if host in (there, card.host, card.host.partition(".")[0]):
        return True
    local = host in ("127.0.0.1", "::1", "localhost", socket.gethostname())
    return local and here and there in ("0.0.0.0", "::", "*", "127.0.0.1", "::1", "localhost", card.host)


def read_card(path: str) -> Card:
    """The card in a key file.

    Raises:
        KeyringError: it cannot be read, is not private, or is no key file.
    """
    try:
        held = json.loads(read_private(path))
    except ValueError:
        held = None
    if not isinstance(held, dict):
        raise KeyringError(f"{path} is no key file of scoop")
    return Card(held, path)


def versions() -> dict[str, str]:
    """The versions that both sides of a connection must share."""
    from scoop import __version__

    return {"Python": f"{sys.version_info[0]}.{sys.version_info[1]}", "scoop": __version__}


def differing(there: dict[str, str]) -> str:
    """What differs between the versions of another host and ours, in words; empty if nothing does."""
    ours = versions()
    for what, version in there.items():
        if ours.get(what) != version:
            return f"it has {what} {version}, this host has {what} {ours.get(what)}"
    return ""


def libzmq_version() -> str:
    """That of the libzmq in use."""
    from scoop._core.net import LIBZMQ_VERSION

    return ".".join(map(str, LIBZMQ_VERSION))


def new_incarnation(number: int) -> int:
    """A random name for a process of the broker `number`."""
    return number << HOME_SHIFT | int.from_bytes(os.urandom(8), "little") >> (64 - HOME_SHIFT) | 1


def allow_key(allow: str, keys: Keys, incarnation: int) -> None:
    """Put a public key on an allow-list, for one name."""
    from scoop._core.curve import to_hex

    _check_directory(allow)
    write_private(os.path.join(allow, to_hex(keys.public)), str(incarnation))
