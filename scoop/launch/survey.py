"""What the program says of its job: its own calls, and what the agents of all hosts see of their workers."""

from __future__ import annotations

import os
import sys
import threading
import time

from scoop.launch.spawn import AgentLost

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import FrameType
    from typing import Any

    from scoop.launch.hostlink import HostLink
    from scoop.launch.link import Message
    from scoop.launch.origin import Origin

ANSWER_S = 1.0
"""How long the agents may take."""

PROGRAM_CHARACTERS = 200

JOINED = (
    "workers that have joined with scoop-worker are not seen from here: each of their hosts has its own log"
)
BY_HAND = "workers that were started by hand are not seen from here: no agent watches them"


class Link:
    """An agent that can be asked.

    Attributes:
        key: names it among those of a pool.
        name: of its host.
        workers: how many it was told to start.
        send: sends it a message; None if it is known to be gone.
    """

    __slots__ = ("key", "name", "send", "workers")

    def __init__(self, key: int, name: str, workers: int, send: Callable[[Message], None] | None) -> None:
        self.key = key
        self.name = name
        self.workers = workers
        self.send = send


def links_of(hosts: Iterable[HostLink]) -> list[Link]:
    """The agents of a job on several hosts; one that has left is no part of it any more."""
    return [
        Link(host.number, host.name, host.workers, None if host.gone or host.failure else host.send)
        for host in hosts
        if not (host.gone and host.leaving)
    ]


class Survey:
    """Asks agents what their workers do. Any thread may; answers come in by `take`."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._number = 0
        self._answers: dict[int, dict[int, Message]] = {}

    def ask(self, links: list[Link]) -> dict[int, Message]:
        """The answers by the links' keys. Blocks until all are in, `ANSWER_S` at most."""
        with self._changed:
            self._number += 1
            number = self._number
            answers = self._answers[number] = {}
        asked = 0
        for link in links:
            try:
                if link.send is not None:
                    link.send({"op": "status", "number": number})
                    asked += 1
            except AgentLost:
                pass
        deadline = time.monotonic() + ANSWER_S
        with self._changed:
            while len(answers) < asked and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(left)
            del self._answers[number]
            return dict(answers)

    def take(self, key: int, message: Message) -> None:
        """An agent has answered."""
        with self._changed:
            if message["number"] in self._answers:
                self._answers[message["number"]][key] = message
                self._changed.notify_all()


def report_of(pool: Origin) -> dict[str, Any]:
    """What goes on in a pool, as `scoop.status` returns it. Blocks for a second at most."""
    from scoop.reports import reasons

    links = pool.links()
    answers = pool.survey.ask(links)
    report: dict[str, Any] = {
        "running": True,
        "pid": os.getpid(),
        "host": os.uname().nodename,
        "program": " ".join(sys.argv)[:PROGRAM_CHARACTERS],
        "seconds": time.monotonic() - pool.began,
        "origin": _own_part(pool),
        "hosts": [_host(link, answers.get(link.key)) for link in links],
        "notes": list(pool.notes),
    }
    report["why"] = reasons(report)
    return report


def _host(link: Link, answer: Message | None) -> dict[str, Any]:
    silence = ""
    if link.send is None:
        silence = "it is gone"
    elif answer is None:
        silence = f"its agent has not answered for {ANSWER_S:g} s"
    return {
        "host": link.name,
        "silence": silence,
        "expected": link.workers,
        "failing": answer["failing"] if answer is not None else 0,
        "broker": answer["broker"] if answer is not None else None,
        "workers": answer["workers"] if answer is not None else [],
    }


def _own_part(pool: Origin) -> dict[str, Any]:
    account = pool.session.account()
    functions: dict[str, dict[str, int]] = {}
    for name, queued, out in account["functions"]:
        counts = functions.setdefault(name, {"queued": 0, "out": 0})
        counts["queued"] += queued
        counts["out"] += out
    running = account["running"]
    return {
        "queued": account["queued"],
        "out": account["out"],
        "started": account["started"],
        "retried": account["retried"],
        "needing": account["needing"],
        "parked": account["parked"],
        "functions": functions,
        "function": running[0] if running else "",
        "age_s": running[1] if running and running[1] >= 0 else None,
        "awaited": account["awaited"],
        "helped": account["helped"],
        "at": _place(pool.session.program_frame()),
        "idle": pool.config.origin_idle or pool.node.desk.remote_only,
        "failure": str(pool.failure) if pool.failure is not None else pool.trouble,
    }


def _place(frame: FrameType | None) -> str:
    """Where the main thread is in the user's own code: "file:line in function"; empty if nowhere."""
    if frame is None:
        frame = sys._current_frames().get(threading.main_thread().ident or 0)
    ours = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
    library = os.path.dirname(threading.__file__) + os.sep
    nearest = ""
    while frame is not None:
        path = frame.f_code.co_filename
        place = f"{os.path.basename(path)}:{frame.f_lineno} in {frame.f_code.co_name}"
        if not path.startswith((ours, "<frozen")):
            if not path.startswith(library):
                return place
            nearest = nearest or place
        frame = frame.f_back
    return nearest
