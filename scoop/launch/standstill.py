"""Workers that somebody has stopped: the kernel tells their parent, so nobody has to look for them.

One that stays stopped is named in the log of the program once, and once more when it goes on. What it holds
waits with it: a stopped process is not a dead one.
"""

from __future__ import annotations

import os
import time

from scoop.launch.lookout import look_at

TYPE_CHECKING = False
if TYPE_CHECKING:
    from scoop.launch.loop import Loop
    from scoop.launch.watched import Worker


class Standstill:
    """The workers of an agent that are stopped.

    Args:
        loop: the agent, for its timers and its messages.
        workers: those that live, by process id.
        after_s: how long one has to be stopped before that is told.
    """

    def __init__(self, loop: Loop, workers: dict[int, Worker], after_s: float) -> None:
        self._loop = loop
        self._workers = workers
        self.after_s = after_s
        self._since: dict[int, float] = {}
        self._told: set[int] = set()

    def take_notice(self) -> None:
        """Ask the kernel whose child has been stopped or goes on. Does not block."""
        while True:
            try:
                found = os.waitid(os.P_ALL, 0, os.WSTOPPED | os.WCONTINUED | os.WNOHANG)
            except ChildProcessError:
                return
            if found is None:
                return
            if found.si_pid not in self._workers:
                continue
            if found.si_code == os.CLD_CONTINUED:
                self._goes_on(found.si_pid)
            elif found.si_pid not in self._since:
                self._stopped(found.si_pid)

    def forget(self, pid: int) -> None:
        """A worker has ended."""
        self._since.pop(pid, None)
        self._told.discard(pid)

    def _stopped(self, pid: int) -> None:
        since = self._since[pid] = time.monotonic()

        def tell() -> None:
            # This process may have been stopped too, and that one let go first.
            now = look_at(pid)
            if self._since.get(pid) == since and now is not None and now.letter == "T":
                self._told.add(pid)
                self._say("halted", pid, since)

        self._loop._after(self.after_s, tell)

    def _goes_on(self, pid: int) -> None:
        since = self._since.pop(pid, None)
        if pid in self._told and since is not None:
            self._told.discard(pid)
            self._say("resumed", pid, since)

    def _say(self, op: str, pid: int, since: float) -> None:
        seconds = time.monotonic() - since
        self._loop.send({"op": op, "worker": self._workers[pid].index, "pid": pid, "seconds": seconds})
