"""Makes `concurrent.futures.wait` and `as_completed` wait the way `Future.result` does.

They put a waiter with an event into each future's list and sleep on the event. A thread that sleeps there
runs nothing, and a task that does so on top of suspended tasks could wait for one of them for ever. So the
list, which is ours, gives the waiter an event whose `wait` lets the thread work.
"""

from __future__ import annotations

import threading
from typing import Any


class Waiters(list[Any]):
    """The waiters of one future; gives each of them an event that helps."""

    def __init__(self, future: Any) -> None:
        super().__init__()
        self._future = future

    def append(self, waiter: Any) -> None:
        """Install a waiter of the standard library."""
        if type(waiter.event) is threading.Event:
            waiter.event = HelpfulEvent(self._future.session)
        if isinstance(waiter.event, HelpfulEvent):
            waiter.event.futures.append(self._future)
        super().append(waiter)


class HelpfulEvent(threading.Event):
    """An event; a thread that waits for it without a limit runs other calls meanwhile."""

    def __init__(self, session: Any) -> None:
        super().__init__()
        self.futures: list[Any] = []
        self._session = session
        self._bell: Any = None

    def set(self) -> None:
        """Set the event and wake who waits."""
        super().set()
        bell = self._bell
        if bell is not None:
            self._session.ring(bell)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the event is set, at most `timeout` seconds; returns whether it is."""
        if self.is_set():
            return True
        helps = self._session.helps()
        if timeout is not None or not helps:
            for future in self.futures:
                future.see_to()
        if not helps:
            return super().wait(timeout)
        self._bell = bell = self._session.bell()
        if not self.is_set():
            try:
                bell.result(timeout)
            except TimeoutError:
                pass
            except Exception as error:  # before Python 3.11 the time-out of futures is a class of its own
                if type(error).__name__ != "TimeoutError":
                    raise
        return self.is_set()
