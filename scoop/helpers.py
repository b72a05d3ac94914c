"""Threads that run calls for whoever waits in a way that cannot run them.

A wait with a time limit, a callback or polling `done()` must make progress although the waiting thread runs
nothing. One thread is enough for that, unless the call that it runs waits in the same way for another one.
So a foreman looks: while calls are pending and no helper has used the processor for a moment, all of them
must be waiting, and one more is started.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scoop._core.session import Session

LOOK_S = 0.005
"""How long all helpers must have been without progress before there is one more."""


class Helpers:
    """The helper threads of one session; none is started before the first call needs it."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._pending: deque[Any] = deque()
        self._changed = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._foreman: threading.Thread | None = None
        self._watched: list[Any] = []
        self._helped: dict[int, Any] = {}
        self._idle = 0
        self._picked = 0
        self._closed = False

    def promote(self, future: Any) -> None:
        """See that `future` is run here unless somebody else begins it first. Does not block."""
        with self._changed:
            self._pending.append(future)
            if not self._threads:
                self._start_helper()
            elif not self._idle:
                self._start_foreman()
            self._changed.notify_all()

    def helped(self) -> list[Any]:
        """The futures whose calls run in these threads now. Does not block."""
        return list(self._helped.values())

    def close(self) -> None:
        """Let the threads end when the call that they run is over. Does not wait."""
        with self._changed:
            self._closed = True
            self._pending.clear()
            self._changed.notify_all()

    def _start_helper(self) -> None:
        thread = threading.Thread(target=self._help, name="scoop-helper", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _help(self) -> None:
        while True:
            with self._changed:
                self._idle += 1
                while not self._pending and not self._closed:
                    self._changed.wait()
                self._idle -= 1
                if self._closed:
                    return
                future = self._pending.popleft()
                self._picked += 1
            self._helped[threading.get_ident()] = future
            self._session.help_with(future)
            del self._helped[threading.get_ident()]
            if self._session.whereabouts(future) == "elsewhere":
                self._keep_watch(future)
            del future

    def _keep_watch(self, future: Any) -> None:
        with self._changed:
            self._watched.append(future)

    def look_again(self) -> None:
        """Calls have come back from other processes: run those that somebody waits for. Does not block."""
        with self._changed:
            places = [(future, self._session.whereabouts(future)) for future in self._watched]
            self._watched = [future for future, place in places if place == "elsewhere"]
        for future, place in places:
            if place == "here":
                self.promote(future)

    def _start_foreman(self) -> None:
        if self._foreman is None:
            self._foreman = threading.Thread(target=self._watch, name="scoop-foreman", daemon=True)
            self._foreman.start()

    def _watch(self) -> None:
        """Body of the foreman."""
        while True:
            with self._changed:
                while not self._closed and not (self._pending and self._idle == 0):
                    self._changed.wait()
                if self._closed:
                    return
                picked, used = self._picked, self._processor_time_s()
            # The more helpers there are, the less one more of them can do.
            time.sleep(LOOK_S * max(1, len(self._threads) // 8))
            with self._changed:
                still = self._pending and self._idle == 0 and picked == self._picked
                if still and self._processor_time_s() - used < LOOK_S / 10 and not self._closed:
                    self._start_helper()

    def _processor_time_s(self) -> float:
        total = 0.0
        for thread in self._threads:
            if thread.ident is not None and thread.is_alive():
                total += time.clock_gettime(time.pthread_getcpuclockid(thread.ident))
        return total
