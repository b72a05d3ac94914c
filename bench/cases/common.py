"""What all workloads share: the warm-up and the share of tasks that never left the origin."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from typing import Any

from bench.work import nap

WARM_SECONDS = 30.0


def warm(peer: Any, workers: int) -> set[int]:
    """Run naps until every worker has run one; the process numbers that were seen.

    Bounded in time: a library may start its workers as late as it likes, or keep all work in the client.
    """
    seen: set[int] = set()
    begin = time.monotonic()
    for _ in range(10):
        seen.update(peer.gather([peer.submit(nap, 0.01) for _ in range(2 * workers)]))
        if len(seen) >= workers or time.monotonic() - begin > WARM_SECONDS:
            break
    return seen


def origin_share(pids: Iterable[int]) -> float:
    """The part of the tasks that this process ran itself."""
    ran = list(pids)
    here = os.getpid()
    return sum(pid == here for pid in ran) / len(ran)
