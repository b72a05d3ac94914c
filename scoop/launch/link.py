"""What the two ends of the link between origin and agent share: framing, and the agent's bounded backlog.

A message is a msgpack map behind its length (4 bytes, big-endian) on a Unix stream socket pair.
"""

from __future__ import annotations

from collections import deque

import msgpack  # type: ignore[import-untyped, unused-ignore]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Message = dict[str, Any]

JOB_VARIABLE = "SCOOP_JOB"
"""Names the pool in the environment of its agent, its workers and all that they start."""

TO_BROKER = ("allow", "peers", "admit", "guests", "gone", "lost")
"""Messages to the agent of a host that it passes on to its broker."""

AGENT_SOCKET = 3
"""Descriptor on which the agent finds its end of the link."""

MESSAGE_LIMIT = 64 << 20
BACKLOG_LIMIT = 8 << 20


def encode(message: Message) -> bytes:
    """A message as it travels.

    Raises:
        ValueError: it is too large. TypeError: it holds something that msgpack cannot carry.
    """
    body: bytes = msgpack.packb(message, unicode_errors="surrogateescape")
    if len(body) > MESSAGE_LIMIT - 4:
        raise ValueError(f"a message of {len(body)} bytes for the agent's link; the limit is {MESSAGE_LIMIT}")
    return len(body).to_bytes(4, "big") + body


class Decoder:
    """Cuts a stream of bytes into messages."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """Take what was read; return the messages that are complete now.

        Raises:
            ValueError: the bytes are no messages; the link is of no use any more.
        """
        buffer = self._buffer
        buffer += data
        messages = []
        start = 0
        while len(buffer) - start >= 4:
            end = start + 4 + int.from_bytes(buffer[start : start + 4], "big")
            if end - start > MESSAGE_LIMIT:
                raise ValueError(
                    f"{end - start} bytes announced on the agent's link; the limit is {MESSAGE_LIMIT}"
                )
            if len(buffer) < end:
                break
            message = msgpack.unpackb(buffer[start + 4 : end], unicode_errors="surrogateescape")
            if not isinstance(message, dict):
                raise ValueError(f"a {type(message).__name__} instead of a message on the agent's link")
            messages.append(message)
            start = end
        del buffer[:start]
        return messages


class Backlog:
    """What the agent has not written yet: reports, all kept, and output of workers, the oldest dropped.

    Both leave in the order in which they came.
    """

    def __init__(self, limit: int = BACKLOG_LIMIT) -> None:
        self._limit = limit
        self._count = 0
        self._reports: deque[tuple[int, Message]] = deque()
        self._output: deque[tuple[int, Message]] = deque()
        self._held = 0
        self._dropped = 0
        self._gap: Message = {}
        self._mid_line = False

    def report(self, message: Message) -> None:
        """Add a message that must arrive."""
        self._count += 1
        self._reports.append((self._count, message))

    def output(self, worker: int, pid: int, stream: int, data: bytes) -> None:
        """Add output of a worker; drops the oldest output beyond the limit."""
        self._count += 1
        message = {"op": "output", "worker": worker, "pid": pid, "stream": stream, "data": data}
        self._output.append((self._count, message))
        self._held += len(data)
        while self._held > self._limit:
            _, self._gap = self._output.popleft()
            size = len(self._gap["data"])
            self._held -= size
            self._dropped += size

    def pop(self) -> bytes | None:
        """The next message, encoded; None if there is none."""
        if self._dropped:
            line = f"[scoop: {self._dropped} bytes of output dropped]\n"
            data = ("\n" + line if self._mid_line else line).encode()
            self._dropped = 0
            self._mid_line = False
            return encode({**self._gap, "stream": 2, "data": data})
        reports, output = self._reports, self._output
        if reports and (not output or reports[0][0] < output[0][0]):
            return encode(reports.popleft()[1])
        if not output:
            return None
        message = output.popleft()[1]
        self._held -= len(message["data"])
        self._mid_line = not message["data"].endswith(b"\n")
        return encode(message)
