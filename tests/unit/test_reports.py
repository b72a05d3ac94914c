"""What is said of a job: why something waits, and the text that shows it for two workers or a thousand."""

from __future__ import annotations

import json
import mmap
import struct
from typing import Any

import pytest

from scoop.launch import cli, telling, watched
from scoop.launch.lookout import Stat, state_of
from scoop.reports import reasons


def worker(number: int = 0, state: str = "idle", function: str = "", age_s: float | None = None, **more: Any):
    return {
        "worker": number,
        "pid": 100 + number,
        "state": state,
        "seconds": 60.0,
        "rss_bytes": 20 << 20,
        "cpu_s": 1.0,
        "waiting": 0,
        "function": function,
        "age_s": age_s,
        "at_least": False,
        "task_age_s": age_s,
        "attempt": 1 if function else 0,
        **more,
    }


def host(
    name: str, *workers: dict[str, Any], silence: str = "", failing: int = 0, expected: int = 1, broker=None
):
    return {
        "host": name,
        "silence": silence,
        "expected": expected,
        "failing": failing,
        "broker": broker,
        "workers": list(workers),
    }


def report(*hosts: dict[str, Any], notes: list[str] | None = None, **origin: Any) -> dict[str, Any]:
    made: dict[str, Any] = {
        "running": True,
        "pid": 4711,
        "host": "node1",
        "program": "fib.py 30",
        "seconds": 312.0,
        "origin": {
            "queued": 0,
            "out": 0,
            "started": 0,
            "retried": 0,
            "needing": 0,
            "parked": 0,
            "functions": {},
            "function": "",
            "age_s": None,
            "awaited": None,
            "helped": [],
            "at": "",
            "idle": False,
            "failure": "",
            **origin,
        },
        "hosts": list(hosts),
        "notes": notes or [],
    }
    made["why"] = reasons(made)
    return made


BUSY = worker(0, "busy", "fib", 12.3)
WHY = {
    "nothing waits": (report(host("node1", worker())), []),
    "all workers are in use": (
        report(host("node1", BUSY, worker(1, "busy", "fib", 1.0)), queued=7, out=5),
        ["10 calls wait for a free worker: all 2 are in use"],
    ),
    "the only worker": (
        report(host("node1", BUSY), queued=1, out=1),
        ["1 call waits for a free worker: the only one is in use"],
    ),
    "some hosts are silent": (
        report(host("node1", BUSY, BUSY), host("node2", silence="it is gone"), queued=1, out=2),
        [
            "host node2: it is gone; what it runs is not known",
            "1 call waits for a free worker: all that are seen are in use",
        ],
    ),
    "by hand": (
        report(notes=["workers that were started by hand are not seen from here"], queued=4, out=1),
        ["5 calls wait for workers that are not seen from here, or for the program itself"],
    ),
    "nobody has started": (
        report(host("node1"), queued=3),
        [
            "host node1: no worker has started yet",
            "3 calls wait for the program's own process, which is the only one that works",
        ],
    ),
    "workers are starting": (
        report(host("node1", worker(0, "starting"))),
        ["host node1: 1 worker is still starting"],
    ),
    "workers cannot start": (
        report(host("node1", failing=2)),
        ["host node1: the last 2 workers died while starting", "host node1: no worker has started yet"],
    ),
    "the pool is broken": (report(failure="the agent died"), ["the agent died"]),
    "queued beside idle ones": (
        report(host("node1", worker()), queued=2),
        [
            "2 calls are queued in the program although 1 worker is idle: calls of microseconds stay there, "
            "others are about to be sent"
        ],
    ),
    "a broker is stopped": (
        report(host("node2", worker(), broker={"pid": 7, "state": "stopped"})),
        ["the broker of node2 (process 7) is stopped: `kill -CONT 7` there lets it go on"],
    ),
    "a broker is well": (report(host("node2", worker(), broker={"pid": 7, "state": ""})), []),
    "one is stopped": (
        report(host("node1", worker(3, "stopped", "fib", 9.0))),
        ["worker 3 of node1 (process 103) is stopped: `kill -CONT 103` there lets it go on"],
    ),
    "one waits for its calls": (
        report(host("node1", worker(0, "waits", "fib", 9.0, waiting=2))),
        ["1 worker has tasks that wait for results of calls they have submitted"],
    ),
    "futures among arguments": (
        report(host("node1", worker()), needing=1),
        ["1 call waits for results of others among their arguments"],
    ),
    "a deadly call": (
        report(host("node1", worker()), retried=1),
        [
            "1 call has cost a worker its life: such a call runs again alone, on a worker that has nothing "
            "else"
        ],
    ),
    "the program waits": (
        report(host("node1", worker()), awaited="fib", at="fib.py:9 in main"),
        ["the program waits for the result of fib, at fib.py:9 in main"],
    ),
}


@pytest.mark.parametrize("case", WHY)
def test_why_something_waits(case):
    made, expected = WHY[case]
    assert made["why"] == expected
    assert json.loads(json.dumps(made)) == made


def test_few_workers_are_listed():
    waits = worker(1, "waits", "tree", 0.2, waiting=1, task_age_s=61.0, attempt=2)
    text = telling.text_of(
        report(
            host("node1", BUSY, waits),
            queued=120,
            out=3,
            started=1,
            functions={"fib": {"queued": 100, "out": 3}, "": {"queued": 20, "out": 0}},
            function="fib",
            age_s=2.0,
            helped=["tree", "tree"],
            at="fib.py:4 in fib",
        )
    )
    assert (
        text
        == """\
fib.py 30, process 4711 on node1, for 5 min 12 s: 2 workers

what runs
  the program: runs fib for 2.0 s, helper threads run 2 tree (fib.py:4 in fib)
  host node1: 2 workers
    worker  process  state  memory  runs
         0      100  busy   20 MiB  fib for 12 s
         1      101  waits  20 MiB  tree for 0.2 s, in a task of 1 min 1 s, try 2, 1 call waits for results

what waits
  120 calls queued in the program (fib 100, unknown 20)
    3 calls given away, with no result yet (fib 3); 1 of them are known to run

why
  * 1 worker has tasks that wait for results of calls they have submitted
  * 121 calls wait for a free worker: all 2 are in use
"""
    )


def test_a_thousand_workers_are_summarised():
    hosts = []
    for number in range(16):
        many = [worker(n, "busy", "fib", 0.5 + n / 100) for n in range(60)]
        hosts.append(host(f"node{number}", *many, *(worker(60 + n) for n in range(4))))
    hosts[3]["workers"][7] = worker(7, "stopped", "fib", 31.0)
    text = telling.text_of(report(*hosts))
    assert "  host node2: 64 workers, 1280 MiB: 60 run fib (up to 1.1 s), 4 idle\n" in text
    assert "  host node3: 64 workers, 1280 MiB: 59 run fib (up to 1.1 s), 4 idle, 1 STOPPED in fib" in text
    assert "         7      107  STOPPED  20 MiB  fib for 31 s\n" in text
    assert len(text.splitlines()) < 40
    assert max(map(len, text.splitlines())) <= telling.WIDTH


def test_many_functions_and_many_stopped_workers_are_cut():
    many = [worker(n, "busy", f"task{n % 20}", 1.0) for n in range(80)]
    many += [worker(100 + n, "stopped", "fib", 31.0) for n in range(30)]
    lines = telling.text_of(report(host("node1", *many))).splitlines()
    assert "    and 22 more of these" in lines
    assert "  * 30 workers of node1 are stopped: `kill -CONT PID` there lets it go on" in lines
    assert any(line.endswith("others") for line in lines)


def test_a_program_that_does_not_answer():
    made = report(host("node1", BUSY))
    made.update(origin=None, seconds=None, program="", notes=["the program does not answer: it is stopped"])
    made["why"] = reasons(made)
    text = telling.text_of(made)
    assert text.startswith("a program, process 4711 on node1: 1 worker\n")
    assert "not seen\n  * the program does not answer: it is stopped\n" in text
    assert "what waits" not in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.6, "1 min 0 s"), (3600.0, "1 h 0 min")],
)
def test_durations(seconds, text):
    assert telling.duration(seconds) == text


@pytest.mark.parametrize(
    ("before", "now", "runs", "waiting", "ready", "state"),
    [
        (Stat("S", 1.0, 0), Stat("S", 1.0, 0), False, 0, True, "idle"),
        (Stat("R", 0.0, 0), Stat("R", 0.1, 0), False, 0, False, "starting"),
        (Stat("S", 1.0, 0), Stat("R", 1.0, 0), True, 0, True, "busy"),
        (Stat("S", 1.0, 0), Stat("S", 1.01, 0), True, 0, True, "busy"),
        (Stat("S", 1.0, 0), Stat("S", 1.0, 0), True, 0, True, "sleeps"),
        (Stat("S", 1.0, 0), Stat("S", 1.0, 0), True, 1, True, "waits"),
        (Stat("S", 1.0, 0), Stat("S", 1.0, 0), False, 3, True, "waits"),
        (Stat("R", 1.0, 0), Stat("T", 1.0, 0), True, 0, True, "stopped"),
        (Stat("R", 1.0, 0), Stat("t", 1.0, 0), True, 0, True, "traced"),
        (Stat("D", 1.0, 0), Stat("D", 1.0, 0), True, 0, True, "kernel"),
        (Stat("S", 1.0, 0), Stat("D", 1.0, 0), True, 0, True, "sleeps"),
    ],
)
def test_the_state_of_a_process(before, now, runs, waiting, ready, state):
    assert state_of(before, now, runs, waiting, ready) == state


def test_times_and_names_on_a_page():
    with mmap.mmap(-1, watched.PAGE_SIZE) as page:
        assert watched.read_times(page) == (None, None, 0, False)
        struct.pack_into("=QQQ", page, 16, 2_500_000_000, 1_000_000_000, 2)
        watched.mark_ready(page)
        assert watched.read_times(page) == (2.5, 1.0, 2, True)
        watched.PAGE_NAME.pack_into(page, watched.PAGE_NAMES_AT + 63 * 64, 7, 5, "größer".encode())
        assert watched.read_name(page, 7, 5) == "größer"
        assert watched.read_name(page, 7, 6) == ""
        assert watched.PAGE_NAMES_AT + watched.PAGE_NAMES * watched.PAGE_NAME.size <= watched.PAGE_SIZE
        assert watched.PAGE_TIMES_AT + watched.PAGE_TIMES.size <= watched.PAGE_ENTRIES_AT


@pytest.mark.parametrize(
    ("words", "explain"), [(["--explain"], ""), (["--explain", "123"], "123"), (["--explain=123"], "123")]
)
def test_the_command(words, explain):
    assert cli.parse(words).explain == explain
    assert cli.parse(["program.py", *words]).explain is None


def test_the_command_runs_no_program():
    with pytest.raises(cli.CommandError, match="--explain runs no program"):
        cli.parse(["--explain", "program.py"])
