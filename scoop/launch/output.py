"""What workers print, shown by the origin: whole lines, in order per worker, by a thread of its own.

A reader of the origin's output that is slow (a pager, say) must stop neither a worker nor the thread that
hears of dead workers. So lines wait here; beyond `HELD_BYTES_MAX` the oldest are dropped, and a line says so.
"""

from __future__ import annotations

import codecs
import sys
import threading
from collections import deque

from scoop.launch import logs
from scoop.launch.watched import LOG

HELD_BYTES_MAX = 8 << 20
LINE_BYTES_MAX = 64 << 10  # a longer line is shown in parts
PATIENCE_S = 0.5  # a line that has no end for so long is shown as far as it goes


class Output:
    """Takes bytes from any thread and writes text to what `sys.stdout` and `sys.stderr` are at that time."""

    def __init__(self) -> None:
        self._lock = threading.Condition()
        self._lines: deque[tuple[int, bytes]] = deque()  # stream, data
        self._tails: dict[tuple[int, int], bytes] = {}  # worker, stream
        self._prefixes: dict[int, bytes] = {}  # by worker
        self._decoders: dict[int, codecs.IncrementalDecoder] = {}
        self._held = 0
        self._dropped = 0
        self._writing = False
        self._closing = False
        self._thread: threading.Thread | None = None

    def put(self, worker: int, stream: int, data: bytes, prefix: bytes = b"") -> None:
        """Add what a worker wrote: to standard output (stream 1), standard error (2) or its log.

        `prefix` is put before each line, and is always the same for a worker.
        """
        with self._lock:
            if prefix:
                self._prefixes[worker] = prefix
            data = self._tails.pop((worker, stream), b"") + data
            end = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
            if len(data) - end > LINE_BYTES_MAX and stream != LOG:
                end = len(data)
            if end < len(data):
                self._tails[worker, stream] = data[end:]
            self._add(stream, self._prefixed(worker, stream, data[:end]))
            if self._thread is None:
                self._thread = self._start()
            self._lock.notify_all()

    def _start(self) -> threading.Thread | None:
        thread = threading.Thread(target=self._write, name="scoop-output", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            return None  # from Python 3.12 on, no thread starts while the interpreter ends: `close` writes
        return thread

    def worker_ended(self, worker: int) -> None:
        """Its last line will not become longer."""
        with self._lock:
            self._tails.pop((worker, LOG), None)
            for stream in (1, 2):
                tail = self._tails.pop((worker, stream), b"")
                if tail:
                    self._add(stream, self._prefixed(worker, stream, tail + b"\n"))
            self._lock.notify_all()

    def close(self) -> None:
        """Return when everything is written. Blocks as long as the reader of the output does."""
        with self._lock:
            self._release_tails()
            self._closing = True
            self._lock.notify_all()
            thread = self._thread
            while thread is not None and thread.is_alive() and (self._lines or self._writing):
                self._lock.wait(0.1)
        if thread is None:
            self._write()

    def _prefixed(self, worker: int, stream: int, data: bytes) -> bytes:
        prefix = self._prefixes.get(worker)
        if not prefix or stream == LOG:
            return data
        return b"".join(prefix + line for line in data.splitlines(keepends=True))

    def _add(self, stream: int, data: bytes) -> None:
        if not data:
            return
        self._lines.append((stream, data))
        self._held += len(data)
        while self._held > HELD_BYTES_MAX and len(self._lines) > 1:
            _, old = self._lines.popleft()
            self._held -= len(old)
            self._dropped += len(old)

    def _release_tails(self) -> None:
        for worker, stream in [key for key in self._tails if key[1] != LOG]:
            self._add(stream, self._prefixed(worker, stream, self._tails.pop((worker, stream))))

    def _write(self) -> None:
        while True:
            with self._lock:
                self._writing = False
                self._lock.notify_all()
                while not self._lines:
                    if self._closing:
                        return
                    if not self._lock.wait(PATIENCE_S if self._tails else None):
                        self._release_tails()
                stream, data = self._lines.popleft()
                while self._lines and self._lines[0][0] == stream and len(data) < LINE_BYTES_MAX:
                    data += self._lines.popleft()[1]
                self._held -= len(data)
                dropped, self._dropped = self._dropped, 0
                self._writing = True
            if dropped:
                self._show(2, f"[scoop: {dropped} bytes of output dropped]\n")
            if stream == LOG:
                for line in data.splitlines():
                    logs.replay(line)
            else:
                self._show(stream, self._decode(stream, data))

    def _decode(self, stream: int, data: bytes) -> str:
        decoder = self._decoders.get(stream)
        if decoder is None:
            decoder = self._decoders[stream] = codecs.getincrementaldecoder("utf-8")("replace")
        return decoder.decode(data)

    def _show(self, stream: int, text: str) -> None:
        file = sys.stdout if stream == 1 else sys.stderr
        if file is None:
            return
        try:
            try:
                file.write(text)
            except UnicodeEncodeError:
                encoding = getattr(file, "encoding", None) or "ascii"
                file.write(text.encode(encoding, "backslashreplace").decode(encoding))
            file.flush()
        except (OSError, ValueError):  # closed, or nobody reads it: the program's own prints will tell
            pass
