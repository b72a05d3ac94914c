"""What runs between hosts: round trips, a federation of four brokers, the start of 64 workers, a siege.

The hosts are network namespaces on this machine, so all of them share its cores.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench import launch, ping, procs, testbed
from bench.harness import Case, CaseError, Param, Result, Session, last_json, run_program

ROUND_TRIPS = Param(50, 5000)
WARM_TRIPS = Param(10, 300)
NO_OPS = Param(300, 20_000)
DASK_NO_OPS = Param(100, 2000)
START_HOSTS = Param(2, 16)
PER_HOST = 4
FEDERATION = 4
BESIEGED = 3
HALF_OPEN = Param(20, 1000)
"""Connections to each broker, which say nothing or one byte."""
SCAN_PER_S = 500
"""Ports a second on each host: all of them in two minutes."""
SIEGE_TASKS = Param(40, 6000)
DASK_PORT = 8786
SSH = ("ssh", "-T", "-o", "BatchMode=yes")
STRANGER = Path(__file__).with_name("stranger.py")

_FIRST = """\
import json, os, sys, time
from scoop import futures


def place():
    return os.uname().nodename, os.getpid()


def nap():
    time.sleep(0.05)
    return place()


if __name__ == "__main__":
    begin, workers = float(sys.argv[1]), int(sys.argv[2])
    host, pid = futures.submit(place).result()
    first = time.monotonic() - begin
    seen = set()
    while len(seen) < workers and time.monotonic() - begin < 60:
        seen.update(call.result() for call in [futures.submit(nap) for _ in range(2 * workers)])
    answer = {"seconds": first, "all_seconds": time.monotonic() - begin, "workers": len(seen)}
    answer["hosts"] = len({host for host, _ in seen})
    answer["origin_share"] = float((host, pid) == place())
    print(json.dumps(answer))
"""


def _run(case: Case, session: Session, command: list[str], answer: bool = True) -> Result:
    said, _, took = run_program(command, "scoop-run", session.scratch, case.deadline)
    found = last_json(said) if answer else {"seconds": took}
    if found is None:
        raise CaseError("no result in its output")
    return found


def _order(case: Case, session: Session, options: list[str]) -> Result:
    """Run the case program as a job that starts on the first host."""
    order = {"peer": "scoop-run", "workload": case.workload, "workers": case.workers, "params": case.params}
    scoop = [sys.executable, "-m", "scoop", *options, "--origin-idle", str(launch.CASE), json.dumps(order)]
    found = _run(case, session, testbed.on(1, *scoop))
    if not found.get("ok"):
        raise CaseError(str(found.get("error")))
    result: Result = found["result"]
    return result


# ------------------------------------------------------------------------------------------- round trip


def _ping(case: Case, session: Session) -> Result:
    # The broker is on the client's host, as scoop's first broker is.
    places = [testbed.namespace(host) for host in (1, 1, 2)]
    numbers = [str(case.params["n"]), str(case.params["warmup"])]
    program = str(ping.program(session.scratch))
    address = f"tcp://{testbed.address(1)}:5999"
    said, _, _ = run_program(
        [program, ping.library(), address, *numbers, *places], "bare", session.scratch, case.deadline
    )
    result: Result = json.loads(said)
    return result


def _trip(case: Case, session: Session) -> Result:
    return _order(case, session, ["--hosts", "127.0.0.1*1", f"{testbed.name(2)}*1"])


def round_trips(session: Session) -> list[Case]:
    """The only worker is on the second host; both hosts have a broker."""
    n, warmup = session.pick(ROUND_TRIPS), session.pick(WARM_TRIPS)
    params = {"n": n, "warmup": warmup, "seconds": 10.0, "hosts": True}
    return [
        Case("between", "ping", "ping", params, label="ping-curve", runner=_ping),
        Case("between", "scoop-run", "roundtrip", params, label="two-hosts", workers=1, runner=_trip),
    ]


# ------------------------------------------------------------------------------------------- throughput


def _one_broker(case: Case, session: Session) -> Result:
    return _order(case, session, ["-n", str(case.workers + 1)])


def _four_brokers(case: Case, session: Session) -> Result:
    # The program itself counts as one of its host, but takes no task.
    others = [testbed.name(host) for host in range(2, FEDERATION + 1)]
    return _order(case, session, ["--hosts", "127.0.0.1*2", *(f"{name}*1" for name in others)])


def _dask(case: Case, session: Session) -> Result:
    scheduler = f"tcp://{testbed.address(1)}:{DASK_PORT}"
    python = [sys.executable, "-W", "ignore", "-m"]
    start = ["distributed.cli.dask_scheduler", "--host", testbed.address(1), "--port", str(DASK_PORT)]
    commands = [testbed.on(1, *python, *start, "--no-dashboard")]
    for host in range(1, FEDERATION + 1):
        start = ["distributed.cli.dask_worker", scheduler, "--host", testbed.address(host)]
        commands += [testbed.on(host, *python, *start, "--nthreads", "1", "--no-nanny", "--no-dashboard")]
    order = {"peer": "dask", "workload": case.workload, "workers": case.workers, "params": case.params}
    with _running(commands, session):
        command = [
            "env",
            f"BENCH_DASK_SCHEDULER={scheduler}",
            *launch.command("dask", 0, [json.dumps(order)]),
        ]
        found = _run(case, session, testbed.on(1, *command))
    if not found.get("ok"):
        raise CaseError(str(found.get("error")))
    result: Result = found["result"]
    return result


@contextlib.contextmanager
def _running(commands: list[list[str]], session: Session) -> Iterator[None]:
    """Keep some programs running beside a case."""
    running: list[subprocess.Popen[bytes]] = []
    try:
        for command in commands:
            process = subprocess.Popen(
                command,
                env=launch.environment("dask"),
                cwd=session.scratch,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            running += [process]
        yield
    finally:
        for process in running:
            procs.kill_family(process.pid)
            process.wait()


def throughput(session: Session) -> list[Case]:
    """One worker on each of four hosts; beside it as many, and two, behind one broker of one host."""
    params = {"n": session.pick(NO_OPS), "hosts": True}
    fewer = {"n": session.pick(DASK_NO_OPS), "hosts": True}
    return [
        Case("federation", "scoop-run", "throughput", params, "one-broker/2", 2, runner=_one_broker),
        Case("federation", "scoop-run", "throughput", params, "one-broker/4", FEDERATION, runner=_one_broker),
        Case(
            "federation", "scoop-run", "throughput", params, "four-brokers", FEDERATION, runner=_four_brokers
        ),
        Case("federation", "dask", "throughput", fewer, "dask-hosts", FEDERATION, runner=_dask),
    ]


# ------------------------------------------------------------------------------------------------ start


def _bare_start(case: Case, session: Session) -> Result:
    one = f"{shlex.quote(sys.executable)} -c 'import zmq' & "
    there = shlex.quote(one * PER_HOST + "wait")
    hosts = range(2, case.params["hosts"] + 2)
    all_of_them = " ".join(f"{shlex.join(SSH)} {testbed.name(host)} {there} &" for host in hosts)
    return _run(case, session, testbed.on(1, "sh", "-c", f"{all_of_them} wait"), answer=False)


def _job_start(case: Case, session: Session) -> Result:
    program = session.scratch / "first_result.py"
    program.write_text(_FIRST)
    hosts = [f"{testbed.name(host)}*{PER_HOST}" for host in range(2, case.params["hosts"] + 2)]
    options = ["--hosts", "127.0.0.1*1", *hosts, "--origin-idle"]
    scoop = [sys.executable, "-m", "scoop", *options, str(program)]
    begin = time.monotonic()
    found = _run(case, session, testbed.on(1, *scoop, str(begin), str(case.workers)))
    if found["workers"] < case.workers:
        raise CaseError(f"only {found['workers']} of {case.workers} workers have answered")
    return found


def starts(session: Session) -> list[Case]:
    """Four processes on each of sixteen hosts, started from one more."""
    hosts = session.pick(START_HOSTS)
    params, workers = {"hosts": hosts}, hosts * PER_HOST
    return [
        Case("start", "bare", "start", params, "bare-start", workers, runner=_bare_start),
        Case("start", "scoop-run", "start", params, "job-start", workers, runner=_job_start),
    ]


# ------------------------------------------------------------------------------------------------ siege


def _besieged(case: Case, session: Session, go: Path) -> Result:
    others = [f"{testbed.name(host)}*1" for host in range(2, BESIEGED + 1)]
    params = {**case.params, "ready": str(session.scratch / "ready"), "go": str(go)}
    return _order(dataclasses.replace(case, params=params), session, ["--hosts", "127.0.0.1*2", *others])


def _in_peace(case: Case, session: Session) -> Result:
    (session.scratch / "ready").unlink(missing_ok=True)
    return _besieged(case, session, session.scratch)


def _under_siege(case: Case, session: Session) -> Result:
    # The job says when it is ready and waits for the word; the strangers come in between.
    report, go = session.scratch / "strangers", session.scratch / "go"
    for path in (report, go, session.scratch / "ready"):
        path.unlink(missing_ok=True)
    siege = _Siege(session, report, go)
    siege.start()
    try:
        result = _besieged(case, session, go)
    finally:
        siege.end()
    if not siege.counts.get("held"):
        raise CaseError(f"the strangers have not come: {siege.failure}")
    return {**result, **siege.counts}


class _Siege(threading.Thread):
    """Brings strangers to the brokers' doors when a job is ready, then gives it the word."""

    def __init__(self, session: Session, report: Path, go: Path) -> None:
        super().__init__(daemon=True)
        self.counts: dict[str, int] = {}
        self.failure = "the job was not ready"
        self._session, self._report, self._go = session, report, go
        self._over = threading.Event()

    def run(self) -> None:
        """Body of the thread."""
        ready = self._session.scratch / "ready"
        while not ready.exists():
            if self._over.wait(0.05):
                return
        doors = [f"{testbed.address(h)}:{port}" for h in range(1, BESIEGED + 1) for port in testbed.doors(h)]
        each = self._session.pick(HALF_OPEN) // 2
        command = [sys.executable, str(STRANGER), str(self._report), str(each), str(SCAN_PER_S), *doors]
        with _running([testbed.on(BESIEGED + 1, *command)], self._session):
            while not self._report.exists():
                if self._over.wait(0.05):
                    self.failure = f"no connections to {', '.join(doors)}"
                    return
            self._go.touch()
            self._over.wait()
            self.counts = json.loads(self._report.read_text())

    def end(self) -> None:
        """The job is over."""
        self._over.set()
        self.join()


def sieges(session: Session) -> list[Case]:
    """The same job in peace and under siege."""
    loops = int(session.loops_per_ms * (0.1 if session.smoke else 1.0))
    params: dict[str, Any] = {"count": session.pick(SIEGE_TASKS), "loops": loops}
    return [
        Case("siege", "scoop-run", "burned_on_word", params, "peace", BESIEGED, runner=_in_peace),
        Case("siege", "scoop-run", "burned_on_word", params, "siege", BESIEGED, runner=_under_siege),
    ]
