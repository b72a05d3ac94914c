"""One seed is one run: it chooses program, machines and faults (swarm style: a random subset of each)."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import programs

Plan = dict[str, Any]


def _durations(dice: random.Random) -> Callable[[], int]:
    kind = dice.choice(("tiny", "short", "mixed", "skewed", "long"))
    if kind == "tiny":
        return lambda: dice.randint(0, 20)
    if kind == "short":
        return lambda: dice.randint(50, 500)
    if kind == "mixed":
        return lambda: int(10 ** dice.uniform(0, 4))
    if kind == "skewed":
        return lambda: 20000 if dice.random() < 0.02 else 400
    return lambda: dice.randint(3000, 30000)


def _program(dice: random.Random, faulty: bool) -> programs.Program:
    shape = dice.choice(("flat", "tree", "chain", "grown", "grown", "grown", "grown"))
    duration = _durations(dice)
    if shape == "flat":
        return programs.flat([duration() for _ in range(dice.randint(1, 300))], waits=dice.random() < 0.8)
    if shape == "tree":
        fan = dice.randint(2, 6)
        depth = dice.randint(1, 3 if fan > 3 else 5)
        return programs.tree(depth, fan, duration(), inner_us=duration() if dice.random() < 0.3 else 0)
    if shape == "chain":
        return programs.chain(dice.randint(1, 200), min(duration(), 500))
    grower = programs.Grower(
        dice,
        dice.randint(5, 300),
        duration,
        cancels=dice.choice((0, 0, 0.05, 0.4)),
        poison=dice.choice((0, 0, 0, 0.03)) if faulty else 0.0,
        abandon=dice.choice((0, 0, 0.1)),
        fan_max=dice.choice((2, 4, 12)),
        leafy=dice.choice((0.3, 0.6, 0.9)),
    )
    return grower.grow()


def _at_us(dice: random.Random) -> int:
    return int(10 ** dice.uniform(1, 5))


def _faults(dice: random.Random, workers: int) -> list[tuple[int, str, int, int]]:
    faults: list[tuple[int, str, int, int]] = []
    if dice.random() < 0.7:
        deaths = dice.choice((1, 1, 2, 3, 6))
        faults += [(_at_us(dice), "die", dice.randint(1, workers + 2), 0) for _ in range(deaths)]
    if dice.random() < 0.3:
        pauses = dice.randint(1, 3)
        faults += [
            (_at_us(dice), "pause", dice.randint(0, workers), int(10 ** dice.uniform(2, 5)))
            for _ in range(pauses)
        ]
    return faults


def make(seed: int) -> tuple[programs.Program, Plan]:
    """The program and the plan of a seed."""
    dice = random.Random(seed)
    workers = dice.choice((0, 1, 1, 2, 2, 3, 4, 7))
    faulty = workers > 0 and dice.random() < 0.5
    program = _program(dice, faulty)
    plan: Plan = {
        "workers": workers,
        "remote_only": workers > 0 and dice.random() < 0.15,
        "delay_us": dice.choice((0, 5, 40, 40, 500)),
        "jitter_us": dice.choice((0, 20, 20, 300, 3000)),
        "start_us": dice.choice((0, 0, 3000)),
        "slowness": [dice.choice((1.0, 1.0, 1.0, 3.0, 20.0)) for _ in range(workers)]
        if dice.random() < 0.3
        else [],
        "suspended_max": dice.choice((0, 1, 2, 4, 64, 64, 64)),
        "depth_max": dice.choice((1, 3, 64, 64)),
        "report_us": dice.choice((0, 500, 5000)),
        "respawn_us": dice.choice((500, 8000, 30000)),
        "faults": _faults(dice, workers) if faulty else [],
    }
    return program, plan
