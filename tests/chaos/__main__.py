"""Chaos on real processes, and the leak soak.

python -m tests.chaos run [--seed N] [--rounds N] [--tasks N] [--kills N] [--faults a,b] [--kinds fctm...]
python -m tests.chaos soak [--tasks N]

`run` needs root and the testbed; it takes the hosts up and down itself. Exit status 1 if a round was not
sound; its folder is kept then.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "support")]

import chaos_faults  # noqa: E402
import chaos_hosts  # noqa: E402
import chaos_run  # noqa: E402
import chaos_soak  # noqa: E402


def run(args: argparse.Namespace) -> int:
    """Play rounds, each with the next seed."""
    hosts = chaos_hosts.up(args.hosts)
    failed = tasks = kills = 0
    try:
        for seed in range(args.seed, args.seed + args.rounds):
            plan = chaos_run.Plan(
                seed, args.tasks, args.kills, args.others, tuple(filter(None, args.faults.split(","))),
                args.kinds, args.workers,
            )  # fmt: skip
            outcome = chaos_run.play(plan, hosts, args.keep)
            print(f"seed {seed}: {outcome}", flush=True)
            tasks, kills = tasks + outcome.done, kills + outcome.kills
            if not outcome.sound:
                failed += 1
                print(*outcome.report, f"see {outcome.folder}", sep="\n", flush=True)
    finally:
        chaos_hosts.down()
    print(f"{args.rounds} rounds, {failed} failed, {tasks} tasks, {kills} kills")
    return 1 if failed else 0


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("run", help="chaos on several hosts")
    one.add_argument("--seed", type=int, default=1)
    one.add_argument("--rounds", type=int, default=1)
    one.add_argument("--tasks", type=int, default=20_000, help="of each round")
    one.add_argument("--kills", type=int, default=60, help="of each round")
    one.add_argument("--others", type=int, default=12, help="other faults of each round")
    known = ", ".join((*chaos_faults.NOW, *chaos_faults.LONG))
    one.add_argument("--faults", default=",".join(chaos_faults.NOW), help=f"kinds of other faults: {known}")
    one.add_argument("--kinds", default=chaos_run.KINDS, help="kinds of tasks, see check_history.py")
    one.add_argument("--hosts", type=int, default=4)
    one.add_argument("--workers", type=int, default=12)
    one.add_argument("--keep", type=Path, help="keep the logs of every round in this folder")
    one.set_defaults(action=run)
    other = commands.add_parser("soak", help="memory and descriptors under many tasks, on this host")
    other.add_argument("--tasks", type=int, default=1_000_000)
    other.set_defaults(action=lambda args: chaos_soak.soak(args.tasks))
    args = parser.parse_args()
    return int(args.action(args))


if __name__ == "__main__":
    sys.exit(main())
