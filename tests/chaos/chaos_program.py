"""The program of a chaos run: `chaos_program.py TASKS SEED KINDS`. Prints how many tasks are done."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator

import chaos_tasks

from scoop import futures
from scoop.errors import TaskCrashed

NOBODY = "-"
WINDOW = 1000  # tasks of a batch

Batch = list[tuple[str, int]]


def names(seed: int, kinds: str) -> Iterator[tuple[str, int]]:
    """Tasks without end, each with how many it stands for. Flat maps are separate, see `main`."""
    dice = random.Random(seed)
    number = 0
    # So much of each hundred tasks is nested, large, failing.
    shares = {"t": 8, "m": 4, "b": 5, "r": 4, "c": 15, "d": 1, "p": 0.3, "q": 0.3, "f": 40}
    letters = [letter for letter in kinds if letter in shares]
    while True:
        letter = dice.choices(letters, [shares[each] for each in letters])[0]
        number += 1
        if letter == "t":
            depth, fan = dice.choice([(1, 6), (2, 3), (2, 4), (3, 2), (4, 2)])
            yield f"t{number}-{depth}x{fan}", sum(fan**level for level in range(depth + 1))
        elif letter == "m":
            items = dice.randint(2, 20)
            yield f"m{number}-{items}", items + 1
        elif letter == "q":
            yield f"q{number}", 3
        else:
            yield f"{letter}{number}", 1


def batches(tasks: int, seed: int, kinds: str) -> Iterator[Batch]:
    """Tasks in lots that together stand for at least `tasks`."""
    left, source = tasks, names(seed, kinds)
    while left > 0:
        batch: Batch = []
        size = min(WINDOW, left)
        while size > 0:
            batch.append(next(source))
            size -= batch[-1][1]
            left -= batch[-1][1]
        yield batch


class Progress:
    """Says now and then how many tasks are done."""

    def __init__(self) -> None:
        self.done = self.said = 0

    def add(self, count: int) -> None:
        self.done += count
        if self.done - self.said >= 50:
            self.said = self.done
            print("done", self.done, flush=True)


def run_batch(batch: Batch, dice: random.Random, progress: Progress) -> None:
    """Submit what is in it at once, half of the flat ones as a map, and wait in one of several ways."""
    flat = [task for task, _ in batch if task[0] == "f"]
    mapped = set(flat[: len(flat) // 2])
    weights = dict(batch)
    open_ = [chaos_tasks.submit(task, NOBODY) for task, _ in batch if task not in mapped]
    dice.shuffle(open_)
    left = [submitted for submitted in open_ if not cancelled(submitted, dice)]
    progress.add(len(open_) - len(left))
    if mapped:
        chaos_tasks.values(sorted(mapped), NOBODY)
        progress.add(len(mapped))
    by_future = {submitted[2]: submitted for submitted in left}
    way = dice.randrange(3)
    if way == 0:
        ordered = iter(left)
    elif way == 1:
        ordered = (by_future[future] for future in futures.as_completed(by_future))
    else:
        futures.wait(by_future)
        ordered = iter(left)
    for submitted in ordered:
        gather(submitted, dice)
        progress.add(weights[submitted[1]])


def cancelled(submitted: tuple[str, str, futures.Future], dice: random.Random) -> bool:
    """Try to cancel it, if it is of that kind."""
    name, task, future = submitted
    if task[0] != "c" or dice.random() < 0.3 or not future.cancel():
        return False
    chaos_tasks.process().log("client", "cancelled", name)
    return True


def gather(submitted: tuple[str, str, futures.Future], dice: random.Random) -> None:
    """Wait for one; read some of them again."""
    name, task, future = submitted
    try:
        chaos_tasks.value(name, task, future, NOBODY)
    except (ValueError, TaskCrashed, futures.CancelledError):
        return
    if dice.random() < 0.1 and future.exception() is None:
        source, digest = future.result()
        if not isinstance(digest, bytes):
            chaos_tasks.process().log("client", "again", name, source, digest)


def main() -> None:
    tasks, seed, kinds = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    dice, progress = random.Random(seed + 1), Progress()
    print("begin", flush=True)
    for batch in batches(tasks, seed, kinds):
        run_batch(batch, dice, progress)
    print("end", progress.done, flush=True)


if __name__ == "__main__":
    main()
