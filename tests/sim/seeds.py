"""One seed is one run: it chooses program, machines and faults (swarm style: a random subset of each)."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import programs

Plan = dict[str, Any]
SEVERAL = 1_000_000
"""Seeds from here on have a job on several hosts."""

MANY_FAULTS = 2_000_000
"""And seeds from here on longer programs and more faults."""


SUCCESSIONS = 3_000_000
"""And seeds from here on brokers that die and are followed by others."""


ONCE = 4_000_000
"""And seeds from here on tasks that run at most once: one host, several, brokers that die, by turns."""


RESETS = 5_000_000
"""And seeds from here on connections between brokers that are reset, and lose what is in them."""


DURATIONS = ("tiny", "short", "mixed", "skewed", "long")
EVEN = ("tiny", "short", "long")
"""Kinds whose mean is a good estimate."""


def _durations(dice: random.Random) -> tuple[str, Callable[[], int]]:
    kind = dice.choice(DURATIONS)
    return kind, _duration(dice, kind)


def _duration(dice: random.Random, kind: str) -> Callable[[], int]:
    if kind == "tiny":
        return lambda: dice.randint(0, 20)
    if kind == "short":
        return lambda: dice.randint(50, 500)
    if kind == "mixed":
        return lambda: int(10 ** dice.uniform(0, 4))
    if kind == "skewed":
        return lambda: 20000 if dice.random() < 0.02 else 400
    return lambda: dice.randint(3000, 30000)


def _program(dice: random.Random, faulty: bool) -> tuple[programs.Program, bool]:
    """A program, and whether estimates of its tasks' run times are good ones."""
    shape = dice.choice(("flat", "tree", "chain", "grown", "grown", "grown", "grown"))
    kind, duration = _durations(dice)
    program = _shaped(dice, shape, duration, faulty)
    return program, shape != "grown" and kind in EVEN


def _shaped(dice: random.Random, shape: str, duration: Callable[[], int], faulty: bool) -> programs.Program:
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


def _large_program(dice: random.Random, faulty: bool, times: int) -> tuple[programs.Program, bool]:
    """The same for several hosts."""
    shape = dice.choice(("flat", "tree", "grown", "grown", "grown"))
    kind, duration = _durations(dice)
    program = _large(dice, shape, duration, faulty, times)
    return program, shape != "grown" and kind in EVEN


def _large(
    dice: random.Random, shape: str, duration: Callable[[], int], faulty: bool, times: int
) -> programs.Program:
    if shape == "flat":
        count = times * dice.choice((30, 300, 1000))
        return programs.flat([duration() for _ in range(count)], waits=dice.random() < 0.8)
    if shape == "tree":
        fan = dice.choice((2, 2, 3, 8))
        depth = {2: times - 1 + dice.randint(2, 9), 3: dice.randint(2, 6), 8: dice.randint(1, 3)}[fan]
        return programs.tree(depth, fan, duration(), inner_us=duration() if dice.random() < 0.3 else 0)
    grower = programs.Grower(
        dice,
        times * dice.choice((30, 200, 600, 1000)),
        duration,
        cancels=dice.choice((0, 0, 0.05, 0.3)),
        poison=dice.choice((0, 0, 0, 0.01)) if faulty else 0.0,
        abandon=dice.choice((0, 0, 0.1)),
        fails=dice.choice((0, 0, 0.05)),
        fan_max=dice.choice((2, 4, 12, 40)),
        leafy=dice.choice((0.3, 0.6, 0.9)),
    )
    return grower.grow()


def _between(dice: random.Random, hosts: int) -> int:
    one = dice.randrange(hosts)
    return one * 16 + (one + dice.randint(1, hosts - 1)) % hosts


def _many_faults(
    dice: random.Random, hosts: list[int], program: programs.Program, many: bool
) -> list[tuple[int, str, int, int]]:
    """Faults spread over about the time that the program takes."""
    work_us = sum(us for one in program for kind, us in one["ops"] if kind == programs.RUN)
    about_us = 2000 + 3 * work_us // (1 + sum(hosts))
    kinds = [("die", 8), ("host", 1), ("silent", 1), ("pause", 2), ("broker", 1), ("cut", 3), ("slow", 1)]
    kinds = [kind for kind in kinds if dice.random() < 0.7] or kinds
    faults: list[tuple[int, str, int, int]] = []
    for _ in range(dice.choice((5, 10, 20, 40, 60) if many else (1, 2, 5, 10, 20, 40))):
        at_us = dice.randrange(about_us)
        kind = dice.choices([name for name, _ in kinds], [weight for _, weight in kinds])[0]
        if many and kind in ("die", "pause"):
            # Whoever lives then.
            us = int(10 ** dice.uniform(2, 5))
            faults.append((at_us, "kill" if kind == "die" else "stop", dice.randrange(1000), us))
        elif kind == "die":
            faults.append((at_us, kind, dice.randint(1, sum(hosts) + 3 + len(faults)), 0))
        elif kind in ("host", "silent"):
            lives_us = dice.choice((-1, -1, -1, 0, 300, 3000, 30000))
            faults.append((at_us, kind, dice.randrange(1, len(hosts)), lives_us))
        elif kind == "pause":
            faults.append((at_us, kind, dice.randint(0, sum(hosts)), int(10 ** dice.uniform(2, 5))))
        elif kind == "broker":
            faults.append((at_us, "pause", -dice.randint(1, len(hosts)), int(10 ** dice.uniform(2, 5))))
        elif kind == "cut":
            faults.append(
                (
                    at_us,
                    dice.choice(("cut", "one-way")),
                    _between(dice, len(hosts)),
                    int(10 ** dice.uniform(2, 5)),
                )
            )
        else:
            faults.append((at_us, kind, _between(dice, len(hosts)), int(10 ** dice.uniform(2, 4))))
    return faults


def _several(dice: random.Random, many: bool) -> tuple[programs.Program, Plan]:
    faulty = dice.random() < 0.8
    program, even = _large_program(dice, faulty, 2 if many else 1)
    # Tasks that have crashed a worker need one, so the host that is never lost has one.
    hosts = [dice.randint(1, 3)] + [dice.choice((0, 1, 1, 2, 3)) for _ in range(dice.randint(1, 3))]
    plan: Plan = {
        "even": even,
        "hosts": hosts,
        "remote_only": dice.random() < 0.15,
        "delay_us": dice.choice((0, 5, 40, 40, 500)),
        "far_delay_us": dice.choice((0, 50, 50, 500, 5000)),
        "jitter_us": dice.choice((0, 20, 20, 300, 3000)),
        "broker_us": dice.choice((0, 0, 10, 100)),
        "hint_delay_us": dice.choice((0, 0, 1000, 50000)),
        "hint_loss": dice.choice((0, 0, 100, 500, 1000)),
        "start_us": dice.choice((0, 0, 3000)),
        "slowness": [dice.choice((1.0, 1.0, 1.0, 3.0, 20.0)) for _ in range(sum(hosts))]
        if dice.random() < 0.3
        else [],
        "suspended_max": dice.choice((0, 1, 2, 4, 64, 64, 64)),
        "depth_max": dice.choice((1, 3, 64, 64)),
        "report_us": dice.choice((0, 500, 5000)),
        "respawn_us": dice.choice((500, 8000, 30000)),
        "faults": _many_faults(dice, hosts, program, many) if faulty else [],
    }
    return program, plan


def _reset_some(dice: random.Random, plan: Plan) -> None:
    # Only plans with several hosts have brokers between which there are connections.
    hosts = len(plan.get("hosts", ()))
    last_us = max([10_000, *(at_us for at_us, *_ in plan["faults"])])
    for _ in range(dice.randint(1, 20) if hosts else 0):
        down_us = int(10 ** dice.uniform(0, 5.5))
        plan["faults"].append((dice.randrange(last_us), "reset", _between(dice, hosts), down_us))


def make(seed: int) -> tuple[programs.Program, Plan]:
    """The program and the plan of a seed: one host, or several from `SEVERAL` on."""
    dice = random.Random(seed)
    if seed >= RESETS:
        program, plan = make(seed - RESETS + dice.choice((MANY_FAULTS, SUCCESSIONS, ONCE)))
        _reset_some(dice, plan)
        return program, plan
    if seed >= ONCE:
        program, plan = make(seed // 3 + (0, MANY_FAULTS, SUCCESSIONS)[seed % 3] - ONCE // 3)
        for one in program[1:]:
            one["once"] = dice.random() < 0.3
        return program, plan
    if seed >= SUCCESSIONS:
        program, plan = _several(dice, many=dice.random() < 0.5)
        last_us = max([10_000, *(at_us for at_us, *_ in plan["faults"])])
        plan["faults"] += [
            (
                dice.randrange(last_us),
                "broker-dies",
                dice.randrange(len(plan["hosts"])),
                dice.choice((0, 3000, 300_000)),
            )
            for _ in range(dice.randint(1, 4))
        ]
        return program, plan
    if seed >= SEVERAL:
        return _several(dice, seed >= MANY_FAULTS)
    workers = dice.choice((0, 1, 1, 2, 2, 3, 4, 7))
    faulty = workers > 0 and dice.random() < 0.5
    program, even = _program(dice, faulty)
    plan: Plan = {
        "even": even,
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
