"""``scoop-run --check``: whether a program could run on these hosts, and what to mend where it could not."""

from __future__ import annotations

import os
import re
import select
import shlex
import socket
import sys
import threading
import time

from scoop.launch import reach, remote
from scoop.launch.hostlink import ANY, own_address
from scoop.launch.keyring import differing
from scoop.launch.spawn import AgentLost

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from scoop.launch.link import Message
    from scoop.launch.plan import Share
    from scoop.launch.spawn import AgentHandle

CHECK_S = 15.0
"""How long a host has for all of its answers."""

PINGS = 5
CLOCK_S = 1.0
"""Clocks that differ by more are worth a word; scoop does not need them to agree."""

REMEDIES: Sequence[tuple[str, str]] = (
    (
        r"does not get",
        "does a firewall block TCP between the hosts? --broker-hostname gives this one another name, "
        "--tunnel sends everything through ssh",
    ),
    (r"Could not resolve hostname", "correct its name, or give it in ~/.ssh/config or /etc/hosts"),
    (r"Host key verification failed", "log in once by hand and confirm its key: ssh {target}"),
    (r"Permission denied", "let ssh log in without a password: ssh-copy-id {target}"),
    (r"Connection refused", "start sshd there, or give its port: {name}:PORT"),
    (r"timed out|No route to host|unreachable", "is it up, and does a firewall let ssh through?"),
    (
        r"No module named '?(scoop|msgpack|greenlet|zmq|cloudpickle)",
        "install scoop there for that Python: "
        "{python} -m pip install scoop; or name another with --python-executable",
    ),
    (
        r"No such file or directory|not found",
        "there is no such program on it: see --python-executable, and "
        "--prolog for what has to be loaded before",
    ),
    (
        r"scoop .* this host has|Python .* this host has",
        "use the same versions: --python-executable names one",
    ),
)


class Finding:
    """What is known of one host.

    Attributes:
        name: as it was given.
        hello: what its agent has said; None if it has said nothing.
        round_trip_s, clock_s: the shortest exchange with it, and by how much its clock is ahead of this one.
        problem: why nothing could run there; empty if all is well.
        missing: things it lacks that a program may need: the working folder.
    """

    def __init__(self, share: Share) -> None:
        self.share = share
        self.name = share.host.name
        self.hello: Message | None = None
        self.round_trip_s = self.clock_s = 0.0
        self.problem = ""
        self.missing: list[str] = []

    def ask(self, way: remote.Way, door: tuple[str, int] | None) -> None:
        """Start an agent there, ask it, end it. Blocks for up to 15 s.

        Args:
            way: how it is started.
            door: name and port of this host to which brokers must get; None if none of them has to.
        """
        job = os.urandom(8).hex()
        command = way.agent(os.getpid()) if self.share.local else way.to(self.share.host, job)
        try:
            handle, errors = remote.connect(command, job)
        except OSError as error:
            self.problem = str(error)
            return
        deadline = time.monotonic() + CHECK_S
        lost = False
        try:
            self._greet(handle, deadline)
            if not self.problem:
                self._measure(handle, way.folder, deadline)
            if not self.problem and door is not None and not self.share.local:
                self._reach(handle, door, deadline)
        except TimeoutError:
            self.problem = f"no answer within {CHECK_S:g} s"
        except (AgentLost, ValueError) as error:
            self.problem = str(error)
            lost = True
        finally:
            handle.close(0.0)
            said = _tail(errors)
        if self.problem and (lost or self.hello is None):
            self.problem = said or self.problem

    def _greet(self, handle: AgentHandle, deadline: float) -> None:
        self.hello = _answer(handle, "hello", deadline)
        self.problem = differing(self.hello["versions"]) or self.problem

    def _measure(self, handle: AgentHandle, folder: str, deadline: float) -> None:
        best = None
        for _ in range(PINGS):
            before, clock = time.monotonic(), time.time()
            handle.send({"op": "ping", "folder": folder})
            pong = _answer(handle, "pong", deadline)
            took = time.monotonic() - before
            if best is None or took < best:
                best = took
                self.round_trip_s, self.clock_s = took, pong["clock"] - clock - took / 2
        if not pong["folder"]:
            self.missing.append(f"no folder {folder}: programs start in / there; see --path")

    def _reach(self, handle: AgentHandle, door: tuple[str, int], deadline: float) -> None:
        """See whether brokers could connect both ways; other hosts among each other are not tried."""
        name, port = door
        handle.send({"op": "reach", "name": name, "port": port})
        answer = _answer(handle, "reached", deadline)
        if answer["why"]:
            self.problem = (
                f"TCP does not get from there to {name}:{port}, a port of this host: {answer['why']}"
            )
        elif why := reach.why_not(answer["name"], answer["port"]):
            self.problem = (
                f"TCP does not get from here to {answer['name']}:{answer['port']}, a port there: {why}"
            )

    def remedy(self, python: str) -> str:
        """What to do about its problem; empty if nobody knows."""
        for pattern, text in REMEDIES:
            if re.search(pattern, self.problem):
                return text.format(target=self.share.host.target, name=self.name, python=shlex.quote(python))
        return ""


def _answer(handle: AgentHandle, op: str, deadline: float) -> Message:
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([handle.fileno()], [], [], left)[0]:
            raise TimeoutError
        messages = handle.receive()
        if not messages:
            raise AgentLost("its command ended without a word")
        for message in messages:
            if message["op"] == op:
                return message


def _tail(descriptor: int) -> str:
    """The last lines of what a command that has ended wrote to standard error."""
    data = b""
    os.set_blocking(descriptor, False)
    try:
        while chunk := os.read(descriptor, 4096):
            data = (data + chunk)[-4096:]
    except BlockingIOError:
        pass  # something it has started still has the other end
    finally:
        os.close(descriptor)
    lines = data.decode(errors="replace").strip().splitlines()
    return "; ".join(line.strip() for line in lines[-2:])


def check(
    shares: Sequence[Share],
    way: remote.Way,
    name: str = "",
    write: Callable[[str], object] = sys.stdout.write,
) -> bool:
    """Ask all hosts at once, and write a line for each. Blocks for up to 20 s; nothing is left running.

    Args:
        shares: the hosts.
        way: how a job would start something there.
        name: under which other hosts reach this one; found out if empty.
        write: where the lines go.

    Returns:
        Whether a job could start on all of them.
    """
    findings = [Finding(share) for share in shares]
    others = [finding.name for finding in findings if not finding.share.local]
    server, door = None, None
    if others and way.tunnel is None:
        address = own_address(others)
        name = name or (socket.gethostname() if address == ANY else address)
        server = reach.open_port("" if address == ANY else address)
        door = (name, int(server.getsockname()[1]))
    threads = [threading.Thread(target=finding.ask, args=(way, door)) for finding in findings]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if server is not None:
        server.close()
    rows: list[tuple[str, ...]] = [("host", "Python", "scoop", "libzmq", "cores", "round trip", "clock", "")]
    rows += [_row(finding) for finding in findings]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        write(("  ".join([*cells, row[-1]])).rstrip() + "\n")
    for finding in findings:
        if finding.problem:
            remedy = finding.remedy(way.executable)
            write(f"\n{finding.name}: {finding.problem}\n" + (f"  {remedy}\n" if remedy else ""))
        for text in finding.missing:
            write(f"\n{finding.name}: {text}\n")
        if abs(finding.clock_s) > CLOCK_S:
            write(f"\n{finding.name}: its clock differs; scoop does not mind, times in logs will\n")
    return not any(finding.problem for finding in findings)


def _row(finding: Finding) -> tuple[str, ...]:
    hello = finding.hello
    if hello is None:
        return (finding.name, "-", "-", "-", "-", "-", "-", "not reached")
    there = hello["versions"]
    return (
        finding.name,
        there.get("Python", "?"),
        there.get("scoop", "?"),
        hello.get("libzmq", "?"),
        str(hello["cores"]),
        f"{finding.round_trip_s * 1000:.1f} ms" if finding.round_trip_s else "-",
        f"{finding.clock_s:+.3f} s" if finding.round_trip_s else "-",
        "to mend" if finding.problem else "ok",
    )
