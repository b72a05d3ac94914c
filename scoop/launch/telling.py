"""A report as text: readable for two workers, and for a thousand."""

from __future__ import annotations

import textwrap
from collections import Counter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

WIDTH = 100
LISTED_MAX = 16
"""So many workers are listed one by one; of more, equal ones are counted."""

NAMED_MAX = 8
"""So many functions, or workers that are out of the ordinary, are named."""

STATES = {
    "busy": "busy",
    "sleeps": "no processor",
    "waits": "waits",
    "stopped": "STOPPED",
    "traced": "in a debugger",
    "kernel": "in the kernel",
    "idle": "idle",
    "starting": "starting",
}
ODD = ("stopped", "traced", "kernel")


def text_of(report: dict[str, Any]) -> str:
    """What `scoop-run --explain` prints of a job."""
    hosts = report["hosts"]
    count = sum(len(host["workers"]) for host in hosts)
    which = report["program"] or "a program"
    where = f", process {report['pid']}" if report["pid"] else ""
    since = f", for {duration(report['seconds'])}" if report["seconds"] is not None else ""
    lines = [f"{which}{where} on {report['host']}{since}: {_number(count, 'worker')}"]
    if len(hosts) > 1:
        lines[0] += f" on {len(hosts)} hosts"
    lines += ["", "what runs"]
    if report["origin"]:
        lines.append(f"  the program: {_program(report['origin'])}")
    for host in hosts:
        lines += _host(host, count <= LISTED_MAX)
    if report["origin"]:
        lines += ["", "what waits", *_calls(report["origin"])]
    lines += ["", "why", *_wrapped(report["why"] or ["nothing waits"])]
    if report["notes"]:
        lines += ["", "not seen", *_wrapped(report["notes"])]
    return "\n".join(lines) + "\n"


def _wrapped(sentences: list[str]) -> list[str]:
    lines = []
    for sentence in sentences:
        lines += textwrap.wrap(
            sentence,
            WIDTH,
            initial_indent="  * ",
            subsequent_indent="    ",
            break_on_hyphens=False,
            break_long_words=False,
        )
    return lines


def _program(origin: dict[str, Any]) -> str:
    place = f" ({origin['at']})" if origin["at"] else ""
    parts = []
    if origin["function"]:
        age = f" for {duration(origin['age_s'])}" if origin["age_s"] is not None else ""
        parts.append(f"runs {origin['function']}{age}")
    if origin["awaited"] is not None:
        parts.append(f"waits for the result of {origin['awaited'] or 'a call'}")
    if origin["helped"]:
        counts = Counter(origin["helped"]).most_common(NAMED_MAX)
        parts.append("helper threads run " + ", ".join(f"{number} {name}" for name, number in counts))
    if origin["parked"]:
        what = "call in it waits" if origin["parked"] == 1 else "calls in it wait"
        parts.append(f"{origin['parked']} {what} meanwhile")
    return (", ".join(parts) or "runs its own code") + place


def _host(host: dict[str, Any], listed: bool) -> list[str]:
    head = f"  host {host['host']}: "
    if host["silence"]:
        return [f"{head}{host['silence']}"]
    workers = host["workers"]
    if not workers:
        return [f"{head}no workers"]
    if listed:
        return [f"{head}{_number(len(workers), 'worker')}", *_table(workers)]
    lines = textwrap.wrap(
        f"{head}{_number(len(workers), 'worker')}, {size(sum(w['rss_bytes'] for w in workers))}: "
        + ", ".join(_groups(workers)),
        WIDTH,
        subsequent_indent="      ",
        break_on_hyphens=False,
    )
    odd = [worker for worker in workers if worker["state"] in ODD]
    lines += _table(odd[:NAMED_MAX]) if odd else []
    if len(odd) > NAMED_MAX:
        lines.append(f"    and {len(odd) - NAMED_MAX} more of these")
    return lines


def _table(workers: list[dict[str, Any]]) -> list[str]:
    rows = [("worker", "process", "state", "memory", "runs")]
    rows += [
        (
            str(worker["worker"]),
            str(worker["pid"]),
            STATES[worker["state"]],
            size(worker["rss_bytes"]),
            _task(worker),
        )
        for worker in workers
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    right = (0, 1, 3)
    return [
        (
            "    "
            + "  ".join(
                row[column].rjust(widths[column]) if column in right else row[column].ljust(widths[column])
                for column in range(4)
            )
            + "  "
            + row[4]
        ).rstrip()
        for row in rows
    ]


def _task(worker: dict[str, Any]) -> str:
    parts = []
    if worker["age_s"] is not None:
        least = "at least " if worker["at_least"] else ""
        parts.append(f"{worker['function'] or 'a call'} for {least}{duration(worker['age_s'])}")
        task = worker["task_age_s"]
        if task is not None and task - worker["age_s"] > 0.05:
            parts.append(f"in a task of {duration(task)}")
        if worker["attempt"] > 1:
            parts.append(f"try {worker['attempt']}")
    if worker["waiting"]:
        what = "call waits" if worker["waiting"] == 1 else "calls wait"
        parts.append(f"{worker['waiting']} {what} for results")
    return ", ".join(parts)


def _groups(workers: list[dict[str, Any]]) -> list[str]:
    """Equal workers, the largest group first: "60 run fib (up to 1.2 s)"."""
    groups: Counter[tuple[str, str]] = Counter()
    oldest: dict[tuple[str, str], float] = {}
    for worker in workers:
        runs = worker["age_s"] is not None
        key = (worker["state"], (worker["function"] or "a call") if runs else "")
        groups[key] += 1
        oldest[key] = max(oldest.get(key, 0.0), worker["age_s"] or 0.0)
    said = []
    for key, number in groups.most_common(NAMED_MAX):
        state, function = key
        if function and state == "busy":
            text = f"{number} {'runs' if number == 1 else 'run'} {function} (up to {duration(oldest[key])})"
        elif function:
            text = f"{number} {STATES[state]} in {function} (up to {duration(oldest[key])})"
        else:
            text = f"{number} {STATES[state]}"
        said.append(text)
    rest = sum(groups.values()) - sum(number for _, number in groups.most_common(NAMED_MAX))
    return [*said, f"{rest} others"] if rest else said


def _calls(origin: dict[str, Any]) -> list[str]:
    rows = []
    queued = _named(origin["functions"], "queued")
    out = _named(origin["functions"], "out")
    if origin["queued"]:
        rows.append((origin["queued"], "queued in the program" + queued))
    if origin["out"]:
        known = f"; {origin['started']} of them are known to run" if origin["started"] else ""
        rows.append((origin["out"], f"given away, with no result yet{out}{known}"))
    if origin["needing"]:
        rows.append((origin["needing"], "waiting for results of others"))
    if not rows:
        return ["  no calls of the program"]
    width = max(len(str(number)) for number, _ in rows)
    return [f"  {number:{width}} {'call' if number == 1 else 'calls'} {text}" for number, text in rows]


def _named(functions: dict[str, dict[str, int]], what: str) -> str:
    counts = Counter({name or "unknown": found[what] for name, found in functions.items() if found[what]})
    if not counts:
        return ""
    named = [f"{name} {number}" for name, number in counts.most_common(NAMED_MAX)]
    more = ", ..." if len(counts) > NAMED_MAX else ""
    return f" ({', '.join(named)}{more})"


def _number(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def duration(seconds: float) -> str:
    """A time as one reads it: 0.3 s, 12 s, 5 min 12 s, 3 h 20 min."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def size(count: int) -> str:
    """Bytes in MiB or GiB."""
    mib = count / (1 << 20)
    return f"{mib:.0f} MiB" if mib < 10_000 else f"{mib / 1024:.1f} GiB"
