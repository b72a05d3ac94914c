"""The reference of every efficiency: plain processes that burn the same work at the same time.

They know no library, start together, and each works off its own list; the greedy list schedule decides who
gets what. What the machine takes away from a library in these seconds, it takes from them as well.
"""

from __future__ import annotations

import heapq
import os
import struct
import time
from collections.abc import Callable
from typing import Any

from bench.cases.busy import mix
from bench.work import burn, throws

Job = tuple[Callable[..., Any], tuple[Any, ...]]
_STAMP = struct.Struct("d")


def greedy(costs: list[int], workers: int) -> list[list[int]]:
    """Numbers of the tasks per worker, each given in order to the worker that is free first."""
    lists: list[list[int]] = [[] for _ in range(workers)]
    free = [(0, worker) for worker in range(workers)]
    for index, cost in enumerate(costs):
        at, worker = heapq.heappop(free)
        lists[worker].append(index)
        heapq.heappush(free, (at + cost, worker))
    return lists


def jobs_of(workload: str, params: dict[str, Any], workers: int) -> list[list[Job]]:
    """The work of a workload, dealt out."""
    if workload == "thrown":
        every: list[Job] = [(throws, (params["tries"],))] * params["count"]
        costs = [1] * params["count"]
    else:
        costs = [params["loops"]] * 2 ** params["depth"] if workload == "tree" else mix(params)
        every = [(burn, (loops,)) for loops in costs]
    return [[every[index] for index in share] for share in greedy(costs, workers)]


def measure(workload: str, params: dict[str, Any], workers: int) -> dict[str, Any]:
    """Seconds from the common start to the end of the last process, and the rate in the workload's tasks."""
    lists = jobs_of(workload, params, workers)
    tasks = 2 ** (params["depth"] + 1) - 1 if workload == "tree" else sum(map(len, lists))
    go_read, go_write = os.pipe()
    done_read, done_write = os.pipe()
    children = [_start(jobs, go_read, go_write, done_write) for jobs in lists]
    os.close(done_write)
    time.sleep(0.05)
    begin = time.perf_counter()
    os.close(go_write)
    ends = [_STAMP.unpack(os.read(done_read, _STAMP.size))[0] for _ in children]
    for child in children:
        os.waitpid(child, 0)
    seconds = max(ends) - begin
    return {"rate": tasks / seconds, "seconds": seconds, "each": [end - begin for end in sorted(ends)]}


def _start(jobs: list[Job], go_read: int, go_write: int, done_write: int) -> int:
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        os.close(go_write)
        os.read(go_read, 1)
        for function, arguments in jobs:
            function(*arguments)
        # The clock is the machine's monotonic one: the parent reads the same.
        os.write(done_write, _STAMP.pack(time.perf_counter()))
        status = 0
    finally:
        os._exit(status)
