"""The logger of scoop: what a worker logs arrives on the origin's standard error, with the worker's name.

Example::

    import scoop

    def work(n):
        scoop.logger.warning("item %d", n)         # "2031-05-01 10:00:00,000 worker-1 WARNING item 3"
"""

from __future__ import annotations

import logging
import sys

from scoop import current

__all__ = ["enter_worker", "logger"]

FORMAT = "%(asctime)s {name} %(levelname)s %(message)s"

logger = logging.getLogger("scoop")
"""In the origin an ordinary logger, without a handler of its own: the program decides what becomes of it."""


class _ToStderr(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to what `sys.stderr` is now; a task may have put something else there."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> object:
        return sys.stderr


def enter_worker(name: str, level: int) -> None:
    """Let this worker's records go to its standard error, which the origin shows.

    Args:
        name: of the worker.
        level: the level of the origin's logger when it started its workers.
    """
    for handler in logger.handlers:
        if isinstance(handler, _ToStderr):
            return
    handler = _ToStderr()
    handler.setFormatter(logging.Formatter(FORMAT.format(name=name)))
    logger.addHandler(handler)
    logger.setLevel(level)
    logger.propagate = False


if not current.is_origin:
    # Imported by a task: the core has no need of the logger.
    enter_worker(current.worker_name, current.log_level)
