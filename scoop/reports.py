"""What a job does, and why something waits: `scoop.status`, and the words for it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

UNUSED = ("idle", "starting")
"""States of workers that run nothing."""

HELD = {
    "stopped": ("stopped", ": `kill -CONT {pid}` there lets it go on"),
    "traced": ("held by a debugger", ""),
    "kernel": ("held by the kernel", ": often for a disk or a file system that does not answer"),
}
NAMED_MAX = 8
"""So many workers of a host are named in such a case; more are counted."""


def status() -> dict[str, Any]:
    """What this program's workers do now, what waits, and why.

    It asks the agent of each host, which looks at its workers from outside: they do nothing for it, and may
    be stopped or hang. It starts no workers. ``scoop-run --explain`` shows the same of a job from another
    terminal.

    Returns:
        Plain values, fit for `json.dumps`. ``{"running": False}`` if there are no workers yet, or no longer.
        Otherwise:

        running: True.
        pid, host, program: of the program: process id, host name, arguments.
        seconds: since when there have been workers.
        origin: the program's own part: how many calls are "queued" in its process, "out" at others, of these
            surely "started" and "retried" because a worker died (both at least so many), "needing" results of
            others among their arguments; "functions": the numbers queued and out by name, of the first
            thousand each; "function" and "age_s": what its main thread runs, and for how many seconds (None:
            not known, calls of microseconds are not timed); "awaited": whose result it waits for, or None;
            "helped": the functions that helper threads run in it, for waiters that cannot;
            "at": the line of the program where it is; "parked": calls in it that wait while others run;
            "idle": whether it runs no tasks; "failure": what has broken the pool, or kept workers from
            starting.
        hosts: for each "host" its name, how many workers it was "expected" to have, how many in a row are
            "failing" to start, "silence": why nothing is known of it (empty: it has answered), its "broker"
            (None, or "pid" and "state": "stopped", "traced" or empty) and "workers".
        hosts[i]["workers"]: "worker" (its number), "pid", "state", "seconds" (its age), "rss_bytes", "cpu_s",
            "waiting" (calls in it that wait for results of others), "function" (empty: runs nothing, or not
            known), "age_s" (how long that call has run, or at least so long if "at_least"), "task_age_s" (the
            task of another process that it is part of; None: not known), "attempt" (1: the first).
            The state is "idle", "starting", "busy" (uses the processor), "waits" (for results of calls),
            "sleeps" (its task waits for something else), "stopped", "traced" or "kernel".
        notes: what cannot be seen from here.
        why: sentences that say why something waits.

    Blocks for a tenth of a second; for one second if an agent does not answer.

    Raises:
        UsageError: it is called in a worker, which does not know its job.

    The workers of a `scoop.Executor` are not shown here; ``scoop-run --explain`` shows them.

    Example:
        >>> calls = [futures.submit(pow, 2, n) for n in range(4)]
        >>> scoop.status()["running"]
        True
    """
    from scoop import current
    from scoop.errors import UsageError

    if not current.is_origin:
        raise UsageError("scoop.status() is for the program itself: a worker does not know what others do")
    pool = current.pool
    if pool is None or pool.is_over():
        return {"running": False}
    return pool.report()


def reasons(report: dict[str, Any]) -> list[str]:
    """Why something waits in the job of a report: sentences, the most important first."""
    origin, hosts = report["origin"], report["hosts"]
    found = []
    if origin and origin["failure"]:
        found.append(origin["failure"])
    found += _of_hosts(hosts)
    workers = [worker for host in hosts for worker in host["workers"]]
    found += _of_workers(hosts)
    if origin:
        found += _of_calls(origin, workers, bool(report["notes"]) or any(host["silence"] for host in hosts))
    return found


def _of_hosts(hosts: list[dict[str, Any]]) -> list[str]:
    found = []
    for host in hosts:
        name = host["host"]
        if host["silence"]:
            found.append(f"host {name}: {host['silence']}; what it runs is not known")
        elif host["failing"]:
            found.append(f"host {name}: the last {_count(host['failing'], 'worker')} died while starting")
        broker = host["broker"]
        if broker and broker["state"]:
            how, remedy = HELD[broker["state"]]
            which = f"the broker of {name} (process {broker['pid']})"
            found.append(f"{which} is {how}{remedy.format(pid=broker['pid'])}")
        if host["silence"] or not host["expected"]:
            continue
        starting = sum(worker["state"] == "starting" for worker in host["workers"])
        if not host["workers"]:
            found.append(f"host {name}: no worker has started yet")
        elif starting:
            found.append(f"host {name}: {_are(starting, 'worker')} still starting")
    return found


def _of_workers(hosts: list[dict[str, Any]]) -> list[str]:
    found = []
    for host in hosts:
        for state, (how, remedy) in HELD.items():
            held = [worker for worker in host["workers"] if worker["state"] == state]
            if len(held) > NAMED_MAX:
                found.append(f"{len(held)} workers of {host['host']} are {how}{remedy.format(pid='PID')}")
                continue
            for worker in held:
                pid = worker["pid"]
                which = f"worker {worker['worker']} of {host['host']} (process {pid})"
                found.append(f"{which} is {how}{remedy.format(pid=pid)}")
    workers = [worker for host in hosts for worker in host["workers"]]
    waits = sum(worker["state"] == "waits" for worker in workers)
    sleeps = sum(worker["state"] == "sleeps" for worker in workers)
    if waits:
        found.append(f"{_has(waits, 'worker')} tasks that wait for results of calls they have submitted")
    if sleeps:
        found.append(
            f"{_has(sleeps, 'worker')} a task that uses no processor: it waits for something outside of "
            "scoop (a file, the network, a lock, sleep)"
        )
    return found


def _of_calls(origin: dict[str, Any], workers: list[dict[str, Any]], unseen: bool) -> list[str]:
    found = []
    used = sum(worker["state"] not in UNUSED for worker in workers)
    unused = sum(worker["state"] == "idle" for worker in workers)
    waiting = origin["queued"] + max(0, origin["out"] - max(used, origin["started"]))
    if waiting and used and not unused:
        what = "all that are seen are" if unseen else f"all {used} are" if used > 1 else "the only one is"
        found.append(f"{_wait(waiting, 'call')} for a free worker: {what} in use")
    elif origin["queued"] and unused:
        found.append(
            f"{_are(origin['queued'], 'call')} queued in the program although {_are(unused, 'worker')} idle: "
            "calls of microseconds stay there, others are about to be sent"
        )
    elif waiting and not workers and unseen:
        found.append(
            f"{_wait(waiting, 'call')} for workers that are not seen from here, or for the program itself"
        )
    elif waiting and not workers and not origin["idle"]:
        found.append(
            f"{_wait(waiting, 'call')} for the program's own process, which is the only one that works"
        )
    if origin["retried"]:
        found.append(
            f"{_has(origin['retried'], 'call')} cost a worker its life: such a call runs again alone, on a "
            "worker that has nothing else"
        )
    if origin["needing"]:
        found.append(f"{_wait(origin['needing'], 'call')} for results of others among their arguments")
    place = f", at {origin['at']}" if origin["at"] else ""
    if origin["awaited"] is not None:
        found.append(f"the program waits for the result of {origin['awaited'] or 'a call'}{place}")
    return found


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _are(number: int, what: str) -> str:
    return f"{_count(number, what)} {'is' if number == 1 else 'are'}"


def _has(number: int, what: str) -> str:
    return f"{_count(number, what)} {'has' if number == 1 else 'have'}"


def _wait(number: int, what: str) -> str:
    return f"{_count(number, what)} {'waits' if number == 1 else 'wait'}"
