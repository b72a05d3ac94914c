"""Planted bugs: one line of a machine is changed, the machine compiled, and the simulator has to notice."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import simbuild

SOURCES = simbuild.HERE.parents[1] / "scoop" / "_core"
RUN_SECONDS_MAX = 100


@dataclass(frozen=True)
class Mutant:
    """A planted bug: in `module`, the only `old` becomes `new`."""

    name: str
    module: str
    old: str
    new: str


MUTANTS = (
    # ------------------------------------------------------------------------------------------- ledger
    Mutant(
        "a loss is not issued again",
        "ledger",
        "return R_REISSUE\n\n    cdef ruling_t on_answer",
        "return R_IGNORE\n\n    cdef ruling_t on_answer",
    ),
    Mutant("a crash is not counted", "ledger", "call.crashes += 1", "call.crashes += 0"),
    Mutant("a call that came home is dropped", "ledger", "== NULL else R_REQUEUE", "== NULL else R_IGNORE"),
    Mutant(
        "an attempt is not counted",
        "ledger",
        "call.attempt += 1\n        if blamed:",
        "call.attempt += 0\n        if blamed:",
    ),
    Mutant(
        "a second result counts too",
        "ledger",
        "found[0] = <call_t *>table_pop(&self.open, id)\n        if found[0] == NULL:",
        "found[0] = <call_t *>table_get(&self.open, id)\n        if found[0] == NULL:",
    ),
    Mutant(
        "one crash more than the limit",
        "ledger",
        "call.crashes >= self.crash_limit",
        "call.crashes > self.crash_limit",
    ),
    # ------------------------------------------------------------------------------------- local queue
    Mutant(
        "a process gives away what has moved enough",
        "localq",
        ".hops < self.hops_max",
        ".hops <= self.hops_max",
    ),
    Mutant(
        "a function has come and its calls stay parked",
        "localq",
        "if call.owner == owner and call.fn == fn:\n                self.put",
        "if call.owner == owner and call.fn != fn:\n                self.put",
    ),
    Mutant(
        "a call that is taken stays counted",
        "localq",
        "call.state = S_RUNNING\n        self.own_count -= 1",
        "call.state = S_RUNNING",
    ),
    Mutant(
        "a task that was claimed is issued again",
        "ledger",
        "        if call.claimer:\n            return self._fail(call) ",
        "        if False:\n            return self._fail(call) ",
    ),
    Mutant(
        "a task that nobody knows is issued again though it was claimed",
        "ledger",
        "if call.claimer or call.attempt >",
        "if call.attempt >",
    ),
    # ----------------------------------------------------------------------------------------- balance
    Mutant(
        "the owner is not told of a loss",
        "balance",
        "        if to >= 0:\n            self.out.put(A_LOST,",
        "        if to < 0:\n            self.out.put(A_LOST,",
    ),
    Mutant(
        "a cancel is not passed on",
        "balance",
        "self.out.put(A_CANCEL, task.node, NULL, owner, id, attempt, mode)",
        "pass",
    ),
    Mutant("a task that is given is not counted", "balance", "node.given += 1\n", "node.given += 0\n"),
    Mutant("a dead node gets tasks", "balance", "dead.alive = 0", "dead.alive = 1"),
    Mutant(
        "a task that crashed a worker goes to the program's process",
        "balance",
        "(node.source or slot == task.owner_slot)",
        "(slot == task.owner_slot)",
    ),
    Mutant(
        "a task moves once too often between brokers",
        "balance",
        "task.hops >= self.hops_max",
        "task.hops > self.hops_max",
    ),
    Mutant(
        "the owner's broker is not told who has its task",
        "balance",
        "self.out.put(A_HOLD, to, <void *>self.nodes[node].incarnation, owner, id, attempt, hops)",
        "pass",
    ),
    Mutant(
        "the giver of a task is not told that it is known elsewhere",
        "balance",
        "self.out.put(A_HOLD, at, NULL, owner, id, attempt, hops)",
        "pass",
    ),
    Mutant(
        "a broker forgets a task as soon as it has passed it on",
        "balance",
        "            return                      # until the peer",
        "            if task.owner_slot < 0:\n                self._forget(task)\n            return  # the",
    ),
    Mutant(
        "a loss elsewhere is not passed on to the owner",
        "balance",
        "where it is now\n        return self.way_to(owner)",
        "where it is now\n        return -1",
    ),
    Mutant(
        "the tasks of a dead owner are not called off",
        "balance",
        "self.out.put(A_CANCEL, task.node, NULL, task.owner, task.id, task.attempt, CANCEL_ORPHAN)",
        "pass",
    ),
    Mutant(
        "a task whose result is in stays known",
        "balance",
        "self.nodes[node].peer)):\n            self._forget(task)",
        "self.nodes[node].peer)):\n            pass",
    ),
    Mutant(
        "a task that was called off in the queue is given away",
        "balance",
        "task.cancelled = 1\n            table_pop(&self.tasks, self._key(owner, id))\n            if",
        "table_pop(&self.tasks, self._key(owner, id))\n            if",
    ),
    # -------------------------------------------------------------------------------------- federation
    Mutant(
        "a dead broker stays parked",
        "federation",
        "            far.parked_until = 0\n            self.parked -= 1\n        if",
        "            self.parked -= 1\n        if",
    ),
    Mutant(
        "a dead broker is waited for",
        "federation",
        "if self.asked >= 0 and &self.far[self.asked] == far:\n            self.asked = -1\n\n",
        "pass\n\n",
    ),
    Mutant("an asker is granted nothing", "federation", "(max(1, wanted) * mean)", "(0 * mean)"),
    Mutant("who has asked once never asks again", "federation", "now >= self.asked_until:", "now < 0:"),
    # ---------------------------------------------------------------------------------------- failover
    Mutant("a successor's nodes do not ask for work again", "desk", "self.queue.forget_request()", "pass"),
    Mutant(
        "what was lost with a broker is not issued again", "failover", "b._lose(task, 1, False)", "i += 1"
    ),
    Mutant("owners do not ask a successor", "store", "self.looks_left = LOOKS", "self.looks_left = 0"),
    Mutant(
        "only calls that somebody waits for are looked for",
        "store",
        "        if renew:\n",
        "        if renew and self.draining:\n",
    ),
    # ---------------------------------------------------------------- what joins the machines: drivers
    Mutant(
        "a death before the hello is forgotten",
        "broker",
        "self.balance.on_hello(lost.incarnation, False)",
        "self.balance.slot_of(lost.incarnation)",
    ),
    Mutant(
        "a result is sent twice",
        "broker",
        "self._forward(to, r)\n        elif r.kind == K_REQUEST",
        "self._forward(to, r)\n            self._forward(to, r)\n        elif r.kind == K_REQUEST",
    ),
    Mutant(
        "a cancel is not answered",
        "desk",
        "put_record(&self.out, K_ANSWER, 5, numbers)\n\n    cdef void _on_answer",
        "pass\n\n    cdef void _on_answer",
    ),
    Mutant(
        "a function that is needed is not sent",
        "desk",
        "put_blob(&self.out, K_FORM, 3, numbers, blob)",
        "pass",
    ),
    Mutant("a wait does not see what comes to be run", "node", "reason |= W_WORK", "reason |= 0"),
    Mutant("a process collects tasks while it waits for a function", "localq", "self.patient = True", "pass"),
    Mutant(
        "a call is given away and not noted",
        "store",
        "            self.ledger.export(call)\n",
        "            pass\n",
    ),
    Mutant("a death is not passed on to the broker", "lead", "self.broker.lost = self.posted", "pass"),
    Mutant("a task's journey is not counted", "gateway", "r.num[F_TASK_HOPS] + 1", "r.num[F_TASK_HOPS]"),
    Mutant("a lost broker's tasks are not given up", "peers", "self.balance.on_lost(slot, 0, 0, 1)", "pass"),
)


def plant(mutant: Mutant) -> Path:
    """Return a folder to import the changed scoop from, compiled if it is not kept yet."""
    source = (SOURCES / f"{mutant.module}.pyx").read_text()
    if source.count(mutant.old) != 1:
        raise ValueError(
            f"{mutant.name}: {mutant.old!r} stands {source.count(mutant.old)} times in {mutant.module}"
        )
    return simbuild.rebuilt({mutant.module: source.replace(mutant.old, mutant.new)}, ["-O0"])


def seeds_until_found(mutant: Mutant, seeds_max: int) -> int | None:
    """How many seeds it takes to find the bug, None if `seeds_max` do not."""
    folders = [str(plant(mutant)), str(simbuild.build()), str(simbuild.HERE)]
    done = subprocess.run(
        [sys.executable, str(simbuild.HERE / "mutants.py"), str(seeds_max), *folders],
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS_MAX,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(folders)},
    )
    if done.returncode < 0:
        return 1  # it crashed the process: found, if not gently
    if done.returncode:
        raise RuntimeError(done.stderr[-4000:])
    found = int(done.stdout.split()[-1])
    return found or None


def _search(seeds_max: int, folders: list[str]) -> int:
    sys.path[:0] = folders
    from scoop_sim import job

    from scoop._core import ledger

    assert ledger.__file__.startswith(folders[0])
    import oracle
    import seeds

    # Whether work is shared at all; what once failed; then the kinds of seeds, by turns.
    why = oracle.sharing(job)
    starts = (0, seeds.MANY_FAULTS, seeds.SUCCESSIONS, seeds.ONCE, seeds.RESETS)
    order = [*oracle.kept_seeds(), *(i // 5 + starts[i % 5] for i in range(seeds_max))]
    for tried, seed in enumerate(order):
        if why:
            print(why, file=sys.stderr)
            return tried + 1
        why = oracle.run_seed(job, seed)[1]
    return 0


if __name__ == "__main__":
    print(_search(int(sys.argv[1]), sys.argv[2:]))
