"""Simulated user programs: lists of tasks, each a list of operations. Task 0 is the program itself."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

RUN, SUBMIT, WAIT, CANCEL, CRASH, FAIL = 1, 2, 3, 4, 5, 6

LEVELS_MAX = 310  # Python recurses while a program grows

Task = dict[str, Any]
Program = list[Task]


def task(ops: list[tuple[int, int]], form: int = 0, **more: Any) -> Task:
    """A task: its operations and the number of the function that it calls."""
    return {"ops": ops, "form": form, **more}


def flat(durations_us: list[int], *, form: int = 0, waits: bool = True) -> Program:
    """The program submits all, then waits for all in order."""
    count = len(durations_us)
    ops = [(SUBMIT, i + 1) for i in range(count)]
    if waits:
        ops += [(WAIT, i) for i in range(count)]
    return [task(ops), *(task([(RUN, us)], form) for us in durations_us)]


def tree(depth: int, fan: int, leaf_us: int, *, inner_us: int = 0) -> Program:
    """Fork and join: every inner task submits `fan` children and waits for them in order."""
    program: Program = []

    def grow(level: int) -> int:
        here = len(program)
        program.append(task([]))
        if level == 0:
            program[here] = task([(RUN, leaf_us)], 1)
            return here
        children = [grow(level - 1) for _ in range(fan)]
        ops = [(RUN, inner_us)] if inner_us else []
        ops += [(SUBMIT, child) for child in children]
        ops += [(WAIT, i) for i in range(fan)]
        program[here] = task(ops)
        return here

    root = grow(depth)
    assert root == 0
    return program


def chain(length: int, step_us: int) -> Program:
    """Each task waits for the one it submits: nested deeper than there are workers."""
    program = [task([(RUN, step_us), (SUBMIT, i + 1), (WAIT, 0)]) for i in range(length)]
    return [*program, task([(RUN, step_us)])]


class Grower:
    """A random program of at most `tasks` tasks.

    Args:
        dice: the only source of chance.
        tasks: how many at most.
        duration_us: draws a task's time.
        cancels, poison, abandon, fails: per child, how likely it is cancelled, crashes its worker,
            is never waited for, raises an exception.
    """

    def __init__(
        self,
        dice: random.Random,
        tasks: int,
        duration_us: Callable[[], int],
        *,
        cancels: float = 0.0,
        poison: float = 0.0,
        abandon: float = 0.0,
        fails: float = 0.0,
        fan_max: int = 8,
        leafy: float = 0.6,
        forms: int = 3,
    ) -> None:
        self.dice = dice
        self.left = tasks
        self.duration_us = duration_us
        self.cancels, self.poison, self.abandon, self.fails = cancels, poison, abandon, fails
        self.fan_max, self.leafy, self.forms = fan_max, leafy, forms
        self.program: Program = []

    def grow(self) -> Program:
        """Make the program."""
        self._task(0, False)
        return self.program

    def _task(self, level: int, may_cancel: bool) -> int:
        dice = self.dice
        here = len(self.program)
        self.program.append(task([]))
        ops: list[tuple[int, int]] = []
        form = dice.randrange(self.forms)
        inner = level == 0 or (self.left > 1 and level < LEVELS_MAX and dice.random() > self.leafy)
        if inner:
            ops = self._inner(level)
        else:
            ops.append((RUN, self.duration_us()))
            if level and dice.random() < self.poison:
                ops.append((CRASH, 0))
        if level and self.fails and dice.random() < self.fails:
            ops.append((FAIL, 0))
        self.program[here] = task(ops, form, may_cancel=may_cancel)
        return here

    def _inner(self, level: int) -> list[tuple[int, int]]:
        dice = self.dice
        fan = self.left if level == 0 and dice.random() < 0.3 else dice.randint(1, self.fan_max)
        ops: list[tuple[int, int]] = []
        open_: list[int] = []
        for made in range(min(fan, self.left)):
            if self.left <= 0:
                break
            self.left -= 1
            cancelled = dice.random() < self.cancels
            if dice.random() < 0.2:
                ops.append((RUN, self.duration_us()))
            ops.append((SUBMIT, self._task(level + 1, cancelled)))
            if cancelled:
                open_.append(-made - 1)
            elif dice.random() >= self.abandon:
                open_.append(made)
            if open_ and dice.random() < 0.1:
                ops += self._wait(open_.pop(dice.randrange(len(open_))))
        if dice.random() < 0.3:
            ops.append((RUN, self.duration_us()))
        if dice.random() < 0.5:
            dice.shuffle(open_)
        for which in open_:
            ops += self._wait(which)
        return ops

    def _wait(self, which: int) -> list[tuple[int, int]]:
        if which >= 0:
            return [(WAIT, which)]
        which = -which - 1
        return [(CANCEL, which), (WAIT, which)]
