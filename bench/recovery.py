"""What recovery costs: without a fault, beside another build of scoop, and with one.

    python -m bench.recovery [--before FOLDER] [--repeats N] [--smoke]

Prints how much longer 1,000 tasks of 10 ms take on two workers when one of them is killed in the middle.
With `--before`, the folder of another checkout with its compiled modules, it also runs the same programs with
that scoop and with this one by turns, and prints this one's median divided by that one's.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

LIMIT_S = 120
TASK_S = 0.01
SMOKE = "BENCH_RECOVERY_SMOKE"
SMALL = SMOKE in os.environ
TASKS = 50 if SMALL else 1000
ROUND_TRIPS, NOOPS, ITEMS, DEPTH = (30, 200, 2000, 4) if SMALL else (3000, 200_000, 200_000, 12)


def nothing(x: int = 0) -> int:
    """A task that costs nothing."""
    return x


def sleepy(x: int) -> int:
    """A task of 10 ms."""
    time.sleep(TASK_S)
    return x


def tree(depth: int) -> int:
    """A binary tree of calls."""
    from scoop import futures

    if depth == 0:
        return 1
    return sum(future.result() for future in [futures.submit(tree, depth - 1) for _ in range(2)])


def round_trip() -> float:
    """Median of a no-op's way to a worker and back, in microseconds."""
    import scoop

    with scoop.Executor(1) as executor:
        for _ in range(300):
            executor.submit(nothing).result()
        took = []
        for _ in range(ROUND_TRIPS):
            began = time.perf_counter()
            executor.submit(nothing).result()
            took.append(time.perf_counter() - began)
    return 1e6 * statistics.median(took)


def no_ops() -> float:
    """Microseconds for each of 200,000 no-ops on two workers."""
    import scoop

    with scoop.Executor(2) as executor:
        list(executor.map(nothing, range(1000)))
        began = time.perf_counter()
        for future in [executor.submit(nothing, i) for i in range(NOOPS)]:
            future.result()
        return 1e6 * (time.perf_counter() - began) / NOOPS


def items() -> float:
    """Nanoseconds for each item of a map over 200,000."""
    from scoop import futures

    list(futures.map(nothing, range(10_000)))
    began = time.perf_counter()
    for _ in futures.map(nothing, range(ITEMS)):
        pass
    return 1e9 * (time.perf_counter() - began) / ITEMS


def nested() -> float:
    """Nanoseconds for each call of a binary tree of depth 12."""
    tree(8)
    began = time.perf_counter()
    tree(DEPTH)
    return 1e9 * (time.perf_counter() - began) / (2 ** (DEPTH + 1) - 1)


def tasks(kill: bool) -> float:
    """Seconds for 1,000 tasks of 10 ms on two workers, of which one is killed after a third of them."""
    import signal

    import scoop

    with scoop.Executor(2) as executor:
        victim = executor.submit(os.getpid).result()
        list(executor.map(sleepy, range(20)))
        began = time.perf_counter()
        futures = [executor.submit(sleepy, i) for i in range(TASKS)]
        if kill:
            futures[TASKS // 3].result()
            os.kill(victim, signal.SIGKILL)
        assert [future.result() for future in futures] == list(range(TASKS))
        return time.perf_counter() - began


CASES: dict[str, tuple[str, Callable[[], float]]] = {
    "round trip": ("us", round_trip),
    "no-ops": ("us", no_ops),
    "map": ("ns", items),
    "tree": ("ns", nested),
}


def measured(name: str, folder: Path) -> float:
    """One case in a process of its own, with the scoop of a folder."""
    environment = {**os.environ, "PYTHONPATH": str(folder), **({SMOKE: "1"} if SMALL else {})}
    command = [sys.executable, str(Path(__file__).resolve()), "--case", name]
    done = subprocess.run(
        command, env=environment, cwd="/", capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{name} with the scoop of {folder} failed:\n{done.stderr}")
    return float(json.loads(done.stdout.splitlines()[-1]))


def pair(name: str, before: Path, now: Path, turn: int) -> tuple[float, float]:
    """One case with both, by turns in this order and in the other one."""
    if turn % 2:
        return measured(name, before), measured(name, now)
    last = measured(name, now)
    return measured(name, before), last


def main() -> None:
    """Read the command line and print a table."""
    parser = argparse.ArgumentParser(prog="python -m bench.recovery", description=__doc__.splitlines()[0])
    parser.add_argument("--before", type=Path, help="folder of the checkout to compare with")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--smoke", action="store_true", help="tiny sizes: shows that it runs")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.smoke and not SMALL:
        os.environ[SMOKE] = "1"
        os.execv(sys.executable, [sys.executable, "-m", "bench.recovery", *sys.argv[1:]])
    if options.case:
        run = CASES[options.case][1] if options.case in CASES else lambda: tasks(options.case == "killed")
        print(json.dumps(run()))
        return
    import scoop

    here = Path(scoop.__file__).resolve().parents[1]
    if options.before is not None:
        folder = options.before.resolve()
        print("| case | before | now | ratio |\n|---|---|---|---|")
        for name, (unit, _) in CASES.items():
            pairs = [pair(name, folder, here, turn) for turn in range(options.repeats)]
            before, now = (statistics.median(side) for side in zip(*pairs, strict=True))
            print(f"| {name} | {before:.4g} {unit} | {now:.4g} {unit} | {now / before:.3f} |", flush=True)
    pairs = [(measured("whole", here), measured("killed", here)) for _ in range(options.repeats)]
    whole, killed = (statistics.median(side) for side in zip(*pairs, strict=True))
    print(f"{TASKS} tasks of {TASK_S * 1e3:g} ms on two workers: {whole:.2f} s; one killed: {killed:.2f} s")


if __name__ == "__main__":
    main()
