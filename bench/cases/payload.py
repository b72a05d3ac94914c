"""Large arguments and results. Every task returns the process that ran it beside its answer."""

from __future__ import annotations

import time
from typing import Any

from bench.cases.common import origin_share, warm
from bench.work import echo, length, shared_length

MB = 1_000_000


def _data(size: int, mark: int = 0) -> bytes:
    # Different in every task, so that nothing can be recognised as sent before.
    return mark.to_bytes(8, "little") + b"\x5a" * (size - 8)


def echoed(peer: Any, params: dict[str, Any], workers: int) -> dict[str, Any]:
    """One task at a time takes ``size`` bytes and gives them back; MB/s counts them once."""
    size, count = params["size"], params["count"]
    warm(peer, workers)
    pids = []
    begin = time.perf_counter()
    for mark in range(count):
        data = _data(size, mark)
        pid, back = peer.result(peer.submit(echo, data))
        if len(back) != size or back[:8] != data[:8]:
            raise RuntimeError("the echo is not what was sent")
        pids.append(pid)
    seconds = time.perf_counter() - begin
    return {
        "size": size,
        "count": count,
        "mb_per_s": size * count / MB / seconds,
        "origin_share": origin_share(pids),
    }


def sent(peer: Any, params: dict[str, Any], workers: int) -> dict[str, Any]:
    """``size`` bytes to each of ``count`` tasks, all submitted at once; tasks per second."""
    size, count = params["size"], params["count"]
    warm(peer, workers)
    blocks = [_data(size, mark) for mark in range(count)]
    begin = time.perf_counter()
    answers = peer.gather([peer.submit(length, block) for block in blocks])
    seconds = time.perf_counter() - begin
    return _tasks(answers, size, count, seconds)


def shared(peer: Any, params: dict[str, Any], workers: int) -> dict[str, Any]:
    """One value shared with all tasks; tasks per second, sharing included."""
    try:
        from scoop import shared as library
    except ImportError:
        raise RuntimeError("unsupported: this build has no shared constants") from None

    size, count = params["size"], params["count"]
    warm(peer, workers)
    data = _data(size)
    begin = time.perf_counter()
    library.setConst(bench_block=data)
    answers = peer.gather([peer.submit(shared_length, "bench_block") for _ in range(count)])
    seconds = time.perf_counter() - begin
    return _tasks(answers, size, count, seconds)


def _tasks(answers: list[tuple[int, int]], size: int, count: int, seconds: float) -> dict[str, Any]:
    if {got for _, got in answers} != {size}:
        raise RuntimeError("a task got another size than was sent")
    share = origin_share(pid for pid, _ in answers)
    return {"size": size, "count": count, "rate": count / seconds, "origin_share": share}
