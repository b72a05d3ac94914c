"""Log records of workers travel to the origin and pass through the loggers and handlers of the program there.

A record is one line of JSON in a pipe of its own, so that what is lost when nobody reads for long is whole
records. Its text is made in the worker. Where the program has set up no handler, nothing is installed: then a
task may set up its own, and what it logs without any goes to standard error, as always.
"""

from __future__ import annotations

import json
import logging
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_KEPT = (
    "levelno",
    "pathname",
    "lineno",
    "funcName",
    "created",
    "process",
    "processName",
    "thread",
    "threadName",
)
_SIMPLE = (str, int, float, bool, type(None))
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


def describe() -> dict[str, int] | None:
    """The levels of loggers that have one, the root's under the empty name; None without any handler."""
    root = logging.getLogger()
    named = {name: one for name, one in root.manager.loggerDict.items() if isinstance(one, logging.Logger)}
    if not root.handlers and not any(one.handlers for name, one in named.items() if name != "scoop"):
        return None
    return {"": root.level, **{name: one.level for name, one in named.items() if one.level}}


def install(levels: dict[str, int], pipe: int) -> None:
    """In a worker: send what is logged there through `pipe`."""
    for name, level in levels.items():
        logging.getLogger(name or None).setLevel(level)
    logging.getLogger().addHandler(_Sender(pipe))


class _Sender(logging.Handler):
    def __init__(self, pipe: int) -> None:
        super().__init__()
        self._pipe = pipe
        self._formatter = logging.Formatter()
        self._pid = os.getpid()

    def emit(self, record: logging.LogRecord) -> None:
        if os.getpid() != self._pid:  # a forked child would mix its lines with ours
            if logging.lastResort is not None:
                logging.lastResort.handle(record)
            return
        try:
            line = memoryview(json.dumps(self._fields(record)).encode() + b"\n")
            while line:
                line = line[os.write(self._pipe, line) :]
        except Exception:
            self.handleError(record)

    def _fields(self, record: logging.LogRecord) -> dict[str, Any]:
        fields: dict[str, Any] = {name: getattr(record, name, None) for name in _KEPT}
        fields.update(name=record.name, levelname=record.levelname, msg=record.getMessage())
        if record.exc_info and record.exc_info[0] is not None:
            fields["exc_text"] = record.exc_text or self._formatter.formatException(record.exc_info)
        if record.stack_info:
            fields["stack_info"] = record.stack_info
        extra = ((name, value) for name, value in vars(record).items() if name not in _STANDARD)
        fields.update((name, value) for name, value in extra if isinstance(value, _SIMPLE))
        return fields


def replay(line: bytes) -> None:
    """In the origin: let a worker's record pass through its logger. A line that makes no sense is skipped."""
    try:
        record = logging.makeLogRecord(json.loads(line))
        logger = logging.getLogger(record.name)
        if logger.isEnabledFor(record.levelno):
            logger.handle(record)
    except Exception:  # half a record, or a handler of the program that fails
        pass
