"""The composition root: the only place that knows every part.

`worker_main` is what the agent calls in each worker it has forked; `scoop.launch.pool` puts together the
origin's side of one host.
"""

from __future__ import annotations

import contextvars
import faulthandler
import functools
import os
import signal
import sys
import threading
import time
from typing import Any, NoReturn

from scoop._core.curve import Keys
from scoop._core.desk import Desk
from scoop._core.net import Context, Socket
from scoop._core.node import Node
from scoop._core.session import Session
from scoop.launch.vigil import Lifeline
from scoop.launch.watched import EXIT_LEFT, mark_ready

ENTRY = "scoop.launch.boot:worker_main"
WELCOME_S = 10.0
_MASK = (1 << 64) - 1
HOME_SHIFT = 44  # of balance.pxd: an incarnation's bits from here on are the number of its broker


def incarnation_of(base: int, index: int, home: int = 0) -> int:
    """The incarnation of worker `index` of a job: odd multiples of the job's base never meet.

    Args:
        base: random, of the host's agent.
        index: number of the worker.
        home: number of its broker, whose nodes' incarnations begin with it; 0 for a broker without peers.
    """
    name = (base + (index + 1) * 0x9E3779B97F4A7C15) & _MASK or 1
    return name if home == 0 else home << HOME_SHIFT | name >> (64 - HOME_SHIFT) | 1


def start_driver(node: Node, name: str) -> threading.Thread:
    """Start the thread that leads `node` whenever the main thread does not."""
    thread = threading.Thread(target=node.drive, name=name, daemon=True)
    thread.start()
    return thread


def leave_on_sigterm(node: Node) -> None:
    """Let SIGTERM mean: give back what has not started, finish what runs, and end. The main thread only.

    A process that a task forks ends by it as ever. The signal is held back meanwhile: one that came between
    the fork and the first step of the child would be forgotten by the interpreter.
    """
    held: list[set[int]] = []

    def before() -> None:
        held.append(signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM}))

    def after() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, held.pop())

    def in_child() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        after()

    signal.signal(signal.SIGTERM, lambda *_: node.leave())
    os.register_at_fork(before=before, after_in_parent=after, after_in_child=in_child)


def leave_fork(error: BaseException | None) -> NoReturn:
    """End a process that a task has forked and that has come out of the task: it is no worker."""
    status = 0
    try:
        if isinstance(error, SystemExit):
            status = error.code if isinstance(error.code, int) else int(error.code is not None)
        elif error is not None:
            status = 1
            sys.excepthook(type(error), error, error.__traceback__)
        else:
            print("scoop: a process that a task has forked returned from the task; it ends", file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status & 255)


def worker_main(spec: dict[str, Any], index: int) -> int:
    """Be worker `index`: connect to the broker, run tasks until it says STOP. Returns the exit status.

    Args:
        spec: base, home and broker: of its name, and where to go; seed, copy, argv, size, level, levels,
            host, initializer; door, if the broker is on another host: its public key, keys (what ours derive
            from), lease_s and grace_s; _page and _log.
        index: its number.
    """
    from scoop import current
    from scoop.future import Future

    faulthandler.enable()
    if spec.get("argv"):
        sys.argv[:] = [os.fsdecode(argument) for argument in spec["argv"]]
    if spec.get("levels") is not None:
        from scoop.launch import logs

        logs.install(spec["levels"], spec["_log"])
    incarnation = incarnation_of(spec["base"], index, spec.get("home", 0))
    context = Context()
    socket = Socket(context, "dealer", incarnation.to_bytes(8, sys.byteorder), 1000)
    door = spec.pop("door", None)
    if door is not None:
        Keys.derived(door["keys"], index).secure(socket, door["public"])
    socket.connect(spec["broker"])
    node = Node(Desk(incarnation), None, socket)
    node.watched = door is not None
    session = Session(node, contextvars.copy_context(), False, Future, spec["seed"])
    session.show_on(spec["_page"])
    session.copy = spec["copy"]
    if spec.get("host"):
        spec["name"] = f"{spec['host']}-{index}"
    current.enter_worker(session, spec, index)
    recording = None
    if spec.get("profile"):
        from scoop.launch import profiling

        recording = profiling.begin_worker(spec["profile"], index)
    if spec.get("initializer"):
        current.initialize(spec["initializer"])
    driver = start_driver(node, "scoop-driver")
    node.hello(1, spec.get("name") or f"worker-{index}")
    os.register_at_fork(after_in_child=functools.partial(setattr, session, "leave_fork", leave_fork))
    leave_on_sigterm(node)
    lifeline = hold_on(node, spec["broker"], door) if door is not None else None
    mark_ready(spec["_page"])
    session.serve()
    if recording is not None:
        recording.stop()
    if lifeline is not None:
        lifeline.over.set()
    session.closed = True
    exits = sys.modules.get("scoop.launch.exits")
    if exits is not None:
        exits.end()
    node.stop()
    driver.join(1.0)
    node.flush()
    if recording is not None:
        recording.write()
    socket.close()
    context.close()
    return 1 if lifeline is not None and lifeline.lost else EXIT_LEFT if node.left else 0


def hold_on(node: Node, address: str, door: dict[str, Any]) -> Lifeline:
    """Wait for the answer of a broker on another host, and watch over it from then on.

    Raises:
        SystemExit: there is no answer.
    """
    deadline = time.monotonic() + WELCOME_S
    while not node.welcomed:
        if time.monotonic() > deadline:
            raise SystemExit(f"the broker at {address} does not take this worker")
        time.sleep(0.002)
    return Lifeline(node, address, door["lease_s"], door["grace_s"], door.get("looks", 2))


def broker_main(spec: dict[str, Any], _: int) -> int:
    """Be the broker of a host of a job; returns the exit status when its agent's end of the link is closed.

    Args:
        spec: number; bind and name, the address to listen at and the one that others are told; socket, where
            this host's processes connect; seed of the hints' overlay; _link, a socket to the agent.
    """
    from scoop.launch.hosted import HostBroker

    return HostBroker(spec).serve()
