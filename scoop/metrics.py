"""Where the time of a round trip goes, and counters of this process."""

from __future__ import annotations

import itertools
import statistics as _statistics
import time
from typing import Any

STAGES = (
    "encode",
    "broker",
    "send",
    "receive",
    "wake",
    "decode",
    "call",
    "encode_result",
    "return",
    "arrive",
    "open",
)
"""The stages in order.

In the owner: encode (from the call of `submit`), broker, send. Between the processes: receive. In the
worker: wake (its main thread begins), decode, call, encode_result, return (the result is with libzmq).
Between the processes: arrive. In the owner: open (the waiting thread has the value).
"""

_ENCODED, _ROUTED, _SENT, _RECEIVED, _OPENED, _CALLED, _RETURNED, _POSTED, _ANSWERED, _ARRIVED = range(10)


def _trace_here(on: bool) -> list[int]:
    """Runs in a worker: switches tracing; returns its moments so far, then those of the call before."""
    from scoop import current

    desk = current.get().desk_of()
    moments: list[int] = desk.moments()
    desk.tracing = on
    return moments


def stages(executor: Any, rounds: int = 300) -> dict[str, dict[str, float]]:
    """Measure the stages of a no-op's round trip to a worker. Blocks for `rounds` round trips.

    Args:
        executor: a `scoop.Executor` of one worker that has nothing else to do.
        rounds: how many round trips are measured after 20 that are not.

    Returns:
        For each of `STAGES` the percentiles "p50", "p90" and "p99" in microseconds.

    Example:
        >>> with scoop.Executor(1) as executor:
        ...     sorted(scoop.metrics.stages(executor, 50)["call"])
        ['p50', 'p90', 'p99']
    """
    desk = executor._pool.session.desk_of()
    desk.tracing = True
    rows: list[list[int]] = []
    try:
        for round_ in range(rounds + 20):
            began = time.monotonic_ns()
            before = executor.submit(_trace_here, True).result()
            ended = time.monotonic_ns()
            ours = desk.moments()
            # How the call ended in the worker is told by the one after it.
            after = executor.submit(_trace_here, True).result()
            if round_ >= 20:
                rows.append(_row(began, ours, before, after, ended))
    finally:
        desk.tracing = False
        executor.submit(_trace_here, False).result()
    return {name: _percentiles([row[index] / 1000 for row in rows]) for index, name in enumerate(STAGES)}


def _row(began: int, ours: list[int], before: list[int], after: list[int], ended: int) -> list[int]:
    moments = [began, ours[_ENCODED], ours[_ROUTED], ours[_SENT]]
    moments += [before[_RECEIVED], before[_OPENED], before[_CALLED]]
    moments += [after[_RETURNED], after[_POSTED], after[_ANSWERED], ours[_ARRIVED], ended]
    return [max(0, later - earlier) for earlier, later in itertools.pairwise(moments)]


def _percentiles(values: list[float]) -> dict[str, float]:
    cuts = _statistics.quantiles(values, n=100, method="inclusive")
    return {"p50": cuts[49], "p90": cuts[89], "p99": cuts[98]}
