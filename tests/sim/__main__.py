"""Repeat a seed, run many, or measure.

python -m tests.sim SEED [-v] [--task N]      one seed; -v tells its story, of one task with --task
python -m tests.sim --seeds FROM TO           many; the failing ones are printed, exit status 1
                                              0 and on: one host; 1000000 and on: several; 2000000 and on:
                                              longer programs and more faults; 3000000 and on: brokers that
                                              die; 4000000 and on: tasks that run at most once;
                                              5000000 and on: connections that are reset
python -m tests.sim --speed                   events per second of the bare queue and of a whole run
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import oracle
import programs
import seeds
import simbuild


def tell(seed: int, task: int, verbose: bool) -> int:
    """Run one seed and print what happened."""
    sim = simbuild.load()
    program, plan = seeds.make(seed)
    print(f"seed {seed}: {len(program)} tasks, {plan}")
    job = sim.Job(program, plan, seed, verbose)
    try:
        job.run(check_every=1)
    except sim.Violation as error:
        print(*job.tale(task), sep="\n")
        print(f"VIOLATION: {error}")
        return 1
    if verbose:
        print(*job.tale(task), sep="\n")
    print(job.counters())
    return 0


def many(first: int, end: int) -> int:
    """Run seeds `first` to `end` - 1 and print the failing ones."""
    sim = simbuild.load()
    began = time.monotonic()
    events = faults = failed = 0
    for seed in range(first, end):
        counters, why = oracle.run_seed(sim, seed)
        events += counters.get("events", 0)
        faults += counters.get("faults", 0)
        if why:
            failed += 1
            print(why)
    took = time.monotonic() - began
    print(
        f"{end - first} seeds, {failed} failed, {events} events, {faults} faults, "
        f"{took:.0f} s, {(end - first) / took:.0f} seeds/s"
    )
    return 1 if failed else 0


def speed() -> int:
    """Measure the event queue, and a run with all machines in it."""
    sim = simbuild.load()
    from scoop_sim import events

    began = time.monotonic()
    events.churn(10000, 2000000)
    print(f"queue of 10,000: {2.0 / (time.monotonic() - began):.1f} million events/s")
    began = time.monotonic()
    counters = oracle.run(sim, programs.flat([1000] * 100000), {"workers": 7}, check_every=0)
    took = time.monotonic() - began
    print(f"100,000 tasks on 8 processes: {counters['events'] / took / 1e6:.2f} million events/s")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("seed", type=int, nargs="?")
    parser.add_argument("-v", "--verbose", action="store_true")
    parser.add_argument("--task", type=int, default=-1)
    parser.add_argument("--seeds", type=int, nargs=2, metavar=("FROM", "TO"))
    parser.add_argument("--speed", action="store_true")
    args = parser.parse_args()
    if args.speed:
        return speed()
    if args.seeds:
        return many(*args.seeds)
    if args.seed is None:
        parser.error("name a seed, --seeds or --speed")
    return tell(args.seed, args.task, args.verbose)


if __name__ == "__main__":
    sys.exit(main())
