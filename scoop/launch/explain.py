"""``scoop-run --explain``: what the running jobs of this user do on this host, what waits, and why.

A job is found by the private directory of its sockets, and asked at a socket there, where its agent answers.
Only processes of the same user are asked, and answer.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from scoop.launch import rundir
from scoop.launch.inquiry import NAME, process_and_user
from scoop.launch.link import Decoder
from scoop.launch.survey import PROGRAM_CHARACTERS
from scoop.launch.telling import text_of
from scoop.reports import reasons

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

ANSWER_S = 3.0
"""How long a job may take; its agent gives up on the program after 1.5 s."""

ASKED_AT_ONCE = 16
_READ_SIZE = 64 << 10


def main(wanted: str) -> int:
    """Print what goes on.

    Args:
        wanted: process id of the program or of an agent, empty for all jobs.

    Returns:
        The exit status: 0, or 1 if there is no such job or it does not answer.
    """
    with ThreadPoolExecutor(ASKED_AT_ONCE) as asking:
        asked = [answer for answer in asking.map(ask, paths()) if answer is not None]
    shown = 0
    programs = set()
    for pid, answer in sorted(asked, key=lambda found: found[0]):
        if wanted and wanted != str(pid) and (answer is None or wanted != str(program_of(answer))):
            continue
        if answer is None:
            print(f"scoop-run: the agent {pid} of a job does not answer: is it stopped?", file=sys.stderr)
            continue
        report = completed(answer)
        program = (report["host"], report["pid"])
        if report["pid"] and program in programs:
            continue  # a job may have two agents here
        programs.add(program)
        sys.stdout.write(("\n" if shown else "") + text_of(report))
        shown += 1
    if shown:
        return 0
    which = f"process {wanted} has no job" if wanted else "there is no job of yours"
    print(
        f"scoop-run: {which} on this host that could be asked and answers. A program without workers on this "
        "host, or one that was started by hand, has scoop.status()",
        file=sys.stderr,
    )
    return 1


def paths() -> list[str]:
    """Where the jobs of this user may be asked."""
    environs = [dict(os.environ), *_environs_of_agents()]
    places = [os.path.join(folder, NAME) for folder in rundir.own_dirs(environs)]
    return [path for path in places if os.path.lexists(path)]


def _environs_of_agents() -> Iterator[dict[str, str]]:
    # Their directories may be in places that this shell's variables do not name.
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/comm", encoding="utf-8") as file:
                if file.read().strip() != "scoop-agent":
                    continue
            with open(f"/proc/{name}/environ", "rb") as raw:
                pairs = [os.fsdecode(word).partition("=") for word in raw.read().split(b"\0")]
        except OSError:
            continue
        yield {key: value for key, _, value in pairs}


def _connect(path: str) -> tuple[socket.socket, int] | None:
    """A connection to a socket of this user's, and the process that made it; None if there is nobody."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(ANSWER_S)
    try:
        connection.connect(path)
        pid, user = process_and_user(connection)
    except OSError:
        connection.close()
        return None
    if user != os.getuid():
        connection.close()
        return None
    return connection, pid


def ask(path: str) -> tuple[int, dict[str, Any] | None] | None:
    """The agent at a socket: its process, and what it answers (None: nothing). None if there is nobody.

    Blocks for `ANSWER_S` at most.
    """
    made = _connect(path)
    if made is None:
        return None
    connection, pid = made
    deadline = time.monotonic() + ANSWER_S
    decoder = Decoder()
    with connection:
        try:
            while (left := deadline - time.monotonic()) > 0:
                connection.settimeout(left)
                data = connection.recv(_READ_SIZE)
                messages = decoder.feed(data)
                if messages:
                    return pid, messages[0]
                if not data:
                    break
        except (OSError, ValueError):
            pass
    return pid, None


def program_of(answer: dict[str, Any]) -> int:
    """The process id of the program that an agent belongs to; 0 if that is not known here."""
    job = answer["job"]
    return int(answer["origin"] or (job["pid"] if job is not None else 0))


def completed(answer: dict[str, Any]) -> dict[str, Any]:
    """A report from an agent's answer: the program's own, or what can be said without it."""
    report: dict[str, Any] | None = answer["job"]
    if report is not None:
        return report
    host = {
        "host": answer["host"],
        "silence": "",
        "expected": len(answer["workers"]),
        "failing": 0,
        "broker": None,
        "workers": answer["workers"],
    }
    state = {
        "T": f"it is stopped; `kill -CONT {answer['origin']}` lets it go on",
        "t": "a debugger holds it",
        "R": "it computes in native code that holds its interpreter",
        "": "it is on another host",
    }.get(answer["letter"], "it hangs in native code that holds its interpreter")
    report = {
        "running": True,
        "pid": answer["origin"],
        "host": answer["host"],
        "program": _arguments_of(answer["origin"]),
        "seconds": None,
        "origin": None,
        "hosts": [host],
        "notes": [
            f"the program does not answer: {state}. So its calls, and other hosts, are not known",
        ],
    }
    report["why"] = reasons(report)
    return report


def _arguments_of(pid: int) -> str:
    """The program that a process runs, as far as this user may see; empty if it is on another host."""
    try:
        with open(f"/proc/{pid or None}/cmdline", "rb") as file:
            words = os.fsdecode(file.read()).rstrip("\0").split("\0")
    except OSError:
        return ""
    return " ".join(words[1:])[:PROGRAM_CHARACTERS]
