"""What all workloads share: the warm-up and the share of tasks that never left the origin."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from typing import Any

from bench.work import nap, nap_there

WARM_SECONDS = 30.0


def warm(peer: Any, workers: int, hosts: bool = False) -> set[int]:
    """Run naps until every worker has run one; the numbers of the processes (`hosts`: places) that were seen.

    Bounded in time: a library may start its workers as late as it likes, or keep all work in the client.
    """
    seen: set[int] = set()
    task = nap_there if hosts else nap
    begin = time.monotonic()
    for _ in range(10):
        seen.update(peer.gather([peer.submit(task, 0.01) for _ in range(2 * workers)]))
        if len(seen) >= workers or time.monotonic() - begin > WARM_SECONDS:
            break
    return seen


def origin_share(pids: Iterable[int], here: int | None = None) -> float:
    """The part of the tasks that this process ran itself; `here` is what they return then."""
    ran = list(pids)
    here = os.getpid() if here is None else here
    return sum(pid == here for pid in ran) / len(ran)
