"""The loop of an agent: descriptors, timers, signals, and the link to the origin. Single-threaded."""

from __future__ import annotations

import os
import select
import signal
import time

from scoop.launch.link import Backlog, Decoder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from scoop.launch.link import Message

READ_SIZE = 64 << 10
FLUSH_S = 2.0
SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)


class Loop:
    """What every agent does, whatever it starts. Times are of the monotonic clock.

    Args:
        link: descriptor on which the origin's messages arrive.
        out: descriptor for those to the origin; may be the same.
        origin: process id of the origin if it is on this host, to be watched; 0 if it is not.
    """

    def __init__(self, link: int, out: int, origin: int) -> None:
        self._link = link
        self._out = out
        self._origin = origin
        self._pid = os.getpid()
        self._decoder = Decoder()
        self._backlog = Backlog()
        self._message = b""  # that is being sent, whole
        self._unsent = memoryview(b"")
        self._origin_gone = False
        self._epoll = select.epoll()
        self._readers: dict[int, Callable[[], None]] = {}
        self._timers: list[tuple[float, Callable[[], None]]] = []
        self._waiting_out = False
        self._done = False

    def run(self) -> None:
        """Serve until the end; everything that was started is gone then."""
        os.set_blocking(self._link, False)
        os.set_blocking(self._out, False)
        self._watch_signals()
        self._watch(self._link, self._on_link)
        if self._origin:
            self._watch_origin()
        self._flush()
        while not self._done:
            timeout = min((due for due, _ in self._timers), default=None)
            wait = -1.0 if timeout is None else max(0.0, timeout - time.monotonic())
            for descriptor, _ in self._epoll.poll(wait):
                reader = self._readers.get(descriptor)  # an earlier one may have closed it
                if reader is not None:
                    reader()
            now = time.monotonic()
            due = [timer for timer in self._timers if timer[0] <= now]
            for timer in due:
                self._timers.remove(timer)
                timer[1]()
            self._flush()
            if self._origin_gone and not self._done:
                self._end_after_origin()

    def _watch(self, descriptor: int, reader: Callable[[], None]) -> None:
        self._readers[descriptor] = reader
        self._epoll.register(descriptor, select.EPOLLIN)

    def _unwatch(self, descriptor: int) -> None:
        del self._readers[descriptor]
        self._epoll.unregister(descriptor)
        os.close(descriptor)

    def _after(self, delay_s: float, action: Callable[[], None]) -> None:
        self._timers.append((time.monotonic() + delay_s, action))

    def _watch_signals(self) -> None:
        self._wake, self._wake_end = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(self._wake_end, False)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for number in SIGNALS:
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(self._wake_end, warn_on_full_buffer=False)
        self._watch(self._wake, self._on_signal)

    def _watch_origin(self) -> None:
        try:
            watched = os.pidfd_open(self._origin)
        except ProcessLookupError:
            self._origin_gone = True
        except OSError:  # an old kernel, or a container that forbids the call
            self._poll_origin()
        else:
            self._watch(watched, self._on_origin_end)
            # It may have died before, and its number may have been given to another.
            self._origin_gone = os.getppid() != self._origin

    def _poll_origin(self) -> None:
        self._origin_gone = self._origin_gone or os.getppid() != self._origin
        self._after(0.25, self._poll_origin)

    def _on_origin_end(self) -> None:
        self._origin_gone = True

    def _on_signal(self) -> None:
        numbers = set(os.read(self._wake, 4096))
        self._reap()
        self._told_to_end(numbers)

    def _told_to_end(self, numbers: set[int]) -> None:
        if numbers & {signal.SIGTERM, signal.SIGHUP}:
            self._fail(f"the agent (process {self._pid}) was told to end by a signal")
            self._stop(0.0)

    def _on_link(self) -> None:
        try:
            data = os.read(self._link, READ_SIZE)
            messages = self._decoder.feed(data)
        except BlockingIOError:
            return
        except (OSError, ValueError):  # broken: as good as closed
            data = b""
        if not data:
            self._link_ended()
            return
        for message in messages:
            self.handle(message)

    def _link_ended(self) -> None:
        """There is nobody at the other end of the link any more."""
        self.origin_is_gone()

    def origin_is_gone(self) -> None:
        """End in this turn, and leave nothing of it."""
        self._origin_gone = True

    @property
    def linked(self) -> bool:
        """Whether there is a link to the origin."""
        return self._link >= 0

    def unlink(self) -> tuple[int, int]:
        """Go on without a link, and return its descriptors, to be closed.

        A message that has not left whole stays to be sent.
        """
        ends = self._link, self._out
        self._wait_for_room(False)
        del self._readers[self._link]
        self._epoll.unregister(self._link)
        self._link = self._out = -1
        self._unsent = memoryview(self._message)
        return ends

    def _own_descriptors(self) -> set[int]:
        """What a forked child has to close."""
        return {*self._readers, self._out, self._wake_end} - {-1}

    def relink(self, link: int, out: int) -> None:
        """Go on with another link."""
        self._link, self._out = link, out
        self._decoder = Decoder()
        os.set_blocking(link, False)
        os.set_blocking(out, False)
        self._watch(link, self._on_link)

    def send(self, message: Message) -> None:
        """Report to the origin: started, died, stopped or failed. (Output has its own way.)"""
        self._backlog.report(message)

    def _fail(self, error: str) -> None:
        self.send({"op": "failed", "error": error})

    def _flush(self) -> None:
        """Write what the origin takes without waiting for it."""
        while self.linked and not self._origin_gone:
            if not self._unsent:
                self._message = self._backlog.pop() or b""
                self._unsent = memoryview(self._message)
                if not self._unsent:
                    break
            try:
                self._unsent = self._unsent[os.write(self._out, self._unsent) :]
            except BlockingIOError:
                break
            except OSError:
                self._link_ended()
        self._wait_for_room(bool(self._unsent))

    def _wait_for_room(self, wanted: bool) -> None:
        if wanted == self._waiting_out or self._link not in self._readers:
            return
        self._waiting_out = wanted
        if self._out == self._link:
            self._epoll.modify(self._link, select.EPOLLIN | (select.EPOLLOUT if wanted else 0))
        elif wanted:
            self._epoll.register(self._out, select.EPOLLOUT)
        else:
            self._epoll.unregister(self._out)

    def _deliver(self) -> None:
        """Write what is left, as long as the origin reads, for at most two seconds."""
        deadline = time.monotonic() + FLUSH_S
        self._flush()
        while self._unsent and self.linked and not self._origin_gone and time.monotonic() < deadline:
            self._epoll.poll(0.1)
            self._flush()

    def handle(self, message: Message) -> None:
        """One message from the origin."""
        raise NotImplementedError

    def _reap(self) -> None:
        """Some child has ended."""
        raise NotImplementedError

    def _stop(self, grace_s: float) -> None:
        """End soon."""
        raise NotImplementedError

    def _end_after_origin(self) -> None:
        """The origin is gone: leave nothing of it."""
        raise NotImplementedError
