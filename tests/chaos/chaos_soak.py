"""Leak soak: many tasks, cancelled calls and failures; do memory and descriptors stay what they were?

`chaos_soak.py TASKS`: for each hundred tasks ten cancelled calls and one failure. Prints a line per process;
exit status 1 if anything grew.
"""

from __future__ import annotations

import os
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import scoop

BATCH = 1000  # tasks; a tenth as many cancelled, a hundredth failed
SAMPLES = 60
WARM_SHARE = 0.3  # of the run: caches fill, the allocator finds its size
GROWTH_BYTES_MAX = 1 << 20  # beside which growth per task is not to be told from noise
BYTES_PER_TASK_MAX = 1.0
WORKERS = 2

Sample = tuple[int, int, int, int]  # tasks done, bytes, descriptors, threads


def nothing(x: int) -> int:
    return x


def wait_a_little(x: int) -> int:
    time.sleep(0.001)
    return x


def fail(x: int) -> int:
    raise ValueError(x)


def batch(ex: scoop.Executor, begin: int) -> tuple[int, int]:
    """Submit and gather one batch, all answers checked; returns how many were cancelled, how many failed."""
    busy = [ex.submit(wait_a_little, x) for x in range(2 * WORKERS)]
    doomed = [ex.submit(nothing, x) for x in range(BATCH // 10)]
    cancelled = sum(future.cancel() for future in reversed(doomed))
    failing = [ex.submit(fail, x) for x in range(BATCH // 100)]
    futures = [ex.submit(nothing, begin + x) for x in range(BATCH)]
    assert [future.result() for future in futures] == list(range(begin, begin + BATCH))
    assert [str(future.exception()) for future in failing] == list(map(str, range(BATCH // 100)))
    assert all(future.cancelled() or future.result() == x for x, future in enumerate(doomed))
    assert [future.result() for future in busy] == list(range(2 * WORKERS))
    return cancelled, len(failing)


def look(pid: int, done: int) -> Sample:
    """What a process holds: its own memory and its share of what it shares, descriptors, threads."""
    folder = Path("/proc", str(pid))
    pss = next(
        int(line.split()[1]) << 10
        for line in (folder / "smaps_rollup").read_text().splitlines()
        if line.startswith("Pss:")
    )
    return done, pss, len(os.listdir(folder / "fd")), len(os.listdir(folder / "task"))


def family() -> dict[int, str]:
    """This process, its agent, and the workers."""
    found = {os.getpid(): "program"}
    for parent in (os.getpid(), None):
        for pid in [parent] if parent else list(found):
            for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
                found[int(child)] = Path(f"/proc/{child}/comm").read_text().strip()
    return found


def slope(samples: list[Sample]) -> float:
    """Bytes for each task, by least squares."""
    count = len(samples)
    x_mean = sum(sample[0] for sample in samples) / count
    y_mean = sum(sample[1] for sample in samples) / count
    spread = sum((sample[0] - x_mean) ** 2 for sample in samples)
    return sum((sample[0] - x_mean) * (sample[1] - y_mean) for sample in samples) / spread


def judge(name: str, samples: list[Sample]) -> bool:
    """Print what became of a process; True if nothing grew."""
    warm = samples[int(len(samples) * WARM_SHARE) :]
    each = slope(warm)
    growth = each * (warm[-1][0] - warm[0][0])
    # A descriptor that is open for a moment (a directory that is read) is no leak.
    least = [
        (min(s[i] for s in part) for i in (2, 3)) for part in (warm[: len(warm) // 2], warm[len(warm) // 2 :])
    ]
    (files, threads), (files_then, threads_then) = map(tuple, least)
    sound = (
        (growth <= GROWTH_BYTES_MAX or each <= BYTES_PER_TASK_MAX)
        and files_then <= files
        and threads_then <= threads
    )
    print(
        f"{name}: {warm[0][1] / 2**20:.2f} -> {warm[-1][1] / 2**20:.2f} MiB ({each:+.3f} bytes/task), "
        f"descriptors {files} -> {files_then}, threads {threads} -> {threads_then}"
        f"{'' if sound else '  GREW'}",
        flush=True,
    )
    return sound


def soak(tasks: int) -> int:
    """Run so many tasks; returns the exit status."""
    samples: dict[tuple[int, str], list[Sample]] = defaultdict(list)
    cancelled = failed = done = 0
    began = time.monotonic()
    with scoop.Executor(WORKERS) as ex:
        assert ex.submit(nothing, 1).result() == 1
        while done < tasks:
            more: tuple[int, int] = batch(ex, done)
            cancelled, failed, done = cancelled + more[0], failed + more[1], done + BATCH
            if done * SAMPLES // tasks > (done - BATCH) * SAMPLES // tasks:
                for process in family().items():
                    samples[process].append(look(process[0], done))
    took = time.monotonic() - began
    print(f"{done} tasks, {cancelled} cancelled, {failed} failed in {took:.1f} s", flush=True)
    assert len(samples) == WORKERS + 2, f"processes came and went: {list(samples)}"
    verdicts: list[Any] = [judge(name, seen) for (_, name), seen in samples.items()]
    return 0 if all(verdicts) else 1


if __name__ == "__main__":
    sys.exit(soak(int(sys.argv[1])))
