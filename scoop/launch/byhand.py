"""Processes that are started by hand: variables of the environment say which broker they belong to.

``python -m scoop.broker`` first; then the program, on as many hosts as one likes, once with IS_ORIGIN=1 and
else with IS_ORIGIN=0. docs/operations.md has the table of variables; each may have the prefix ``SCOOP_``,
which wins.
"""

from __future__ import annotations

import contextvars
import logging
import os
import socket
import sys
import time
from urllib.parse import urlsplit

from scoop.errors import PoolLost, StartupFailed
from scoop.launch import keyring, vigil
from scoop.launch.invitation import Agency
from scoop.launch.origin import Origin, daemon, set_up_log
from scoop.launch.survey import BY_HAND

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from scoop._core.net import Context, Socket
    from scoop._core.node import Node
    from scoop.config import Config

ANSWER_S = 5.0
"""How long the broker may take to answer."""

KEY_FILE = "SCOOP_KEY_FILE"
ROLE_WORKER, ROLE_ORIGIN = 1, 2
DEFAULTS = {
    "IS_ORIGIN": "1",
    "WORKER_NAME": "",
    "BROKER_NAME": "broker",
    "BROKER_ADDRESS": "tcp://127.0.0.1:5555",
    "META_ADDRESS": "",
}

log = logging.getLogger("scoop")


class Place:
    """What the variables say; they leave the environment, so that what a task starts is not caught by them.

    Raises:
        StartupFailed: one has a value that makes no sense.
    """

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        found = dict(DEFAULTS)
        self.trigger = ""
        for name in DEFAULTS:
            for variable in (name, "SCOOP_" + name):
                if variable in environ:
                    found[name] = environ.pop(variable)
                    if variable not in ("WORKER_NAME", "BROKER_NAME", "META_ADDRESS"):
                        self.trigger = variable
        self.key_file = environ.pop(KEY_FILE, "")
        if found["IS_ORIGIN"] not in ("0", "1"):
            raise StartupFailed(
                f"IS_ORIGIN={found['IS_ORIGIN']!r}: it is 1 on the worker that runs the program, else 0"
            )
        self.is_origin = found["IS_ORIGIN"] == "1"
        self.name = found["WORKER_NAME"] or ("origin" if self.is_origin else f"worker-{os.getpid()}")
        self.broker = found["BROKER_NAME"]
        self.address = found["BROKER_ADDRESS"]
        if found["META_ADDRESS"]:
            host_and_port(found["META_ADDRESS"])  # what is told there, a worker can do without


_place: Place | None = None


def place() -> Place:
    """Where this process belongs; read once."""
    global _place
    if _place is None:
        _place = Place(os.environ)
        log.info("started by hand: %s is set", _place.trigger)
    return _place


class Link:
    """A connection to a broker, with the process's node and session behind it.

    Args:
        where: which broker.
        config: options.

    Raises:
        StartupFailed: the broker cannot be found, does not answer, or does not take this process.
    """

    def __init__(self, where: Place, config: Config) -> None:
        from scoop._core.curve import Keys
        from scoop._core.desk import Desk
        from scoop._core.net import Context, Socket
        from scoop._core.node import Node

        deadline = time.monotonic() + ANSWER_S
        reach(where.address, deadline)
        card = find_card(where, deadline)
        check_versions(card, where.address)
        where.broker = card.name or where.broker
        keys, incarnation = Keys(), keyring.new_incarnation(card.number)
        if card.keys is not None:
            Agency(card, [(incarnation, keys.public)], deadline, where.address).close()
        else:
            keyring.allow_key(card.allow, keys, incarnation)
        self.context: Context = Context()
        self.socket: Socket = Socket(self.context, "dealer", incarnation.to_bytes(8, sys.byteorder), 1000)
        keys.secure(self.socket, card.public)
        self.socket.connect(where.address)
        remote_only = where.is_origin and config.origin_idle
        self.node: Node = Node(Desk(incarnation, remote_only, config.crash_limit), None, self.socket)
        self.node.watched = True

    def greet(self, role: int, where: Place) -> None:
        """Say hello and wait for the answer; makes the name unique if another process has it.

        Raises:
            StartupFailed: there is none.
        """
        self.node.hello(role, where.name)
        deadline = time.monotonic() + ANSWER_S
        while not self.node.welcomed:
            if time.monotonic() > deadline:
                raise StartupFailed(
                    f"the broker at {where.address} does not take this process: its key is refused, the "
                    "broker was started again since its key was read, or it is another version of scoop. "
                    f"Start the broker first, then this; with {KEY_FILE} use a file that this broker has made"
                )
            time.sleep(0.002)
        if self.node.desk.namesake:
            taken, where.name = where.name, f"{where.name}-{self.node.desk.namesake}"
            log.warning("there is a %s at this broker already: this one is %s", taken, where.name)

    def close(self) -> None:
        """Close socket and context."""
        self.socket.close()
        self.context.close()


def find_card(where: Place, deadline: float) -> keyring.Card:
    """The card of the broker; waits for one that is just starting.

    Raises:
        StartupFailed: there is none.
    """
    while True:
        try:
            return keyring.read_card(where.key_file) if where.key_file else keyring.find(where.address)
        except keyring.KeyringError as error:
            if where.key_file or time.monotonic() > deadline:
                raise StartupFailed(str(error)) from None
        time.sleep(0.02)


def host_and_port(address: str) -> tuple[str, int]:
    """The parts of a TCP address; raises StartupFailed if it is none."""
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if host and port and parts.scheme == "tcp":
        return host, port
    raise StartupFailed(f"{address!r} is no address of a broker: it is tcp://host:port")


def reach(address: str, deadline: float, advice: str = "Start it: python -m scoop.broker") -> None:
    """Return when somebody listens at a TCP address; `advice` ends the error's text.

    Raises:
        StartupFailed: it is no such address, its name cannot be resolved, or nobody answers.
    """
    host, port = host_and_port(address)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise StartupFailed(f"the broker's host {host!r} cannot be resolved: {error.strerror}") from None
    while True:
        reason = ""
        for family, kind, protocol, _, there in found:
            with socket.socket(family, kind, protocol) as probe:
                probe.settimeout(max(0.1, deadline - time.monotonic()))
                try:
                    probe.connect(there)
                    return
                except OSError as error:
                    reason = error.strerror or str(error)
        if time.monotonic() > deadline:
            raise StartupFailed(f"no broker answers at {address}: {reason}. {advice}")
        time.sleep(0.05)


def check_versions(card: keyring.Card, address: str) -> None:
    """Raise StartupFailed unless the broker runs this Python's minor version and this version of scoop."""
    ours = keyring.versions()
    for name, there in card.versions.items():
        if name in ours and ours[name] != there:
            raise StartupFailed(
                f"{name} {ours[name]} here, {name} {there} at the broker {address} on {card.host}: use the "
                "same on both sides"
            )


class ByHand(Origin):
    """The origin of a job whose other processes were started by hand."""

    def __init__(self, where: Place, config: Config) -> None:
        from scoop import current
        from scoop.launch import cores, exits

        # How many others there are, or will be, is not known; maps are cut as for the cores here.
        self.total = config.workers or cores.available_cores()
        super().__init__(max(1, self.total - 1), total=self.total, config=config)
        set_up_log(config)
        self.notes.append(BY_HAND)
        self._link = Link(where, config)
        try:
            exits.register(self)
            self._open(self._link.node)
            self._link.greet(ROLE_ORIGIN, where)
            current.worker_name = where.name
            daemon(lambda: self._watch(where), "scoop-supervisor")
        except BaseException:
            exits.forget(self)
            if self._threads:
                self.node.stop()
            self._link.close()
            raise

    def _watch(self, where: Place) -> None:
        gone = vigil.watch_broker(self.node, self.config.lease, self._finished)
        if gone and not self._finished.is_set():
            self.failure = PoolLost(f"the broker at {where.address} is gone: {gone}")
            self.session.fail_all(self.failure)

    def _kill(self) -> None:
        self.node.stop_others()

    def _stop(self, grace_s: float) -> None:
        self.node.stop_others()

    def _clean(self) -> None:
        self._link.close()


def join_as_origin(config: Config) -> ByHand:
    """Connect the program of this process to its broker.

    Raises:
        StartupFailed: that is not possible, or this process is a worker.
    """
    where = place()
    if not where.is_origin:
        raise StartupFailed(
            "IS_ORIGIN=0 makes this process a worker, but it has called scoop.futures before "
            "scoop.futures.startup(main), which serves tasks in a worker: put the program into main"
        )
    return ByHand(where, config)


def serve() -> bool:
    """Serve tasks until the job is over, if this process is a worker; returns whether it is. Blocks.

    Raises:
        StartupFailed: the broker cannot be reached or does not take this process.
        PoolLost: the broker is gone.
    """
    from scoop import current

    where = place()
    if where.is_origin:
        return False
    from scoop._core.session import Session
    from scoop.future import Future
    from scoop.launch import boot

    config = current.settings()
    set_up_log(config)
    link = Link(where, config)
    session = Session(link.node, contextvars.copy_context(), False, Future, os.urandom(16))
    session.copy = config.copy
    driver = boot.start_driver(link.node, "scoop-driver")
    lifeline: vigil.Lifeline | None = None
    try:
        link.greet(ROLE_WORKER, where)
        current.enter_worker(session, {"size": config.workers or 1, "name": where.name}, 0)
        log.info("%s serves %s at %s", where.name, where.broker, where.address)
        boot.leave_on_sigterm(link.node)
        lifeline = vigil.Lifeline(link.node, where.address, config.lease, config.stop_grace)
        session.serve()
        if lifeline.lost:
            raise PoolLost(lifeline.lost)
    finally:
        session.closed = True
        if lifeline is not None:
            lifeline.over.set()
        link.node.stop()
        driver.join(1.0)
        link.node.flush()
        link.close()
    return True
