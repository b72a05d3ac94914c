"""Workers that join a running job with its file: `scoop-worker --join`."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
from processes import end_all, free_ports

from scoop._core import wire
from scoop._core.curve import Keys
from scoop.launch import keyring

END_S = 60
WELCOME, GUEST = 2, 20
AGENT, WORKER = 4, 1

# Goes on until a file appears; says who has worked.
LASTING = """\
import pathlib, sys, time
import scoop
from scoop import futures
from beside import slowly

def tree(depth):
    if depth == 0:
        return 1
    left, right = (futures.submit(tree, depth - 1) for _ in range(2))
    return left.result() + right.result()

def main():
    workers = set()
    print("go", flush=True)
    while not pathlib.Path(sys.argv[1]).exists():
        workers |= set(futures.map(slowly, range(50)))
        pathlib.Path(sys.argv[1] + ".seen").write_text(" ".join(workers))
    print(futures.submit(tree, 8).result(), *sorted(workers))

if __name__ == "__main__":
    futures.startup(main)
"""
BESIDE = """\
import time
import scoop

def slowly(_):
    time.sleep(0.002)
    return scoop.worker
"""
CRASHING = """\
import os, signal
from scoop import futures
from scoop.errors import TaskCrashed

def deadly():
    os.kill(os.getpid(), signal.SIGKILL)

def main():
    try:
        futures.submit(deadly).result()
    except TaskCrashed as error:
        print(type(error).__name__, futures.submit(abs, -3).result())

if __name__ == "__main__":
    futures.startup(main)
"""
ONE_TASK = """\
import os, pathlib, sys, time
from scoop import futures

def task(folder):
    pathlib.Path(folder, str(os.getpid())).touch()
    while not pathlib.Path(folder, "enough").exists():
        time.sleep(0.05)
    return os.getpid()

def main():
    print(futures.submit(task, sys.argv[1]).result())

if __name__ == "__main__":
    futures.startup(main)
"""


class Jobs:
    """Starts jobs that can be joined, and processes that join them.

    Attributes:
        file: the job's.
        enough: to be made for LASTING to end; beside it is who has worked so far.
    """

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder / "job"
        self.folder.mkdir()
        (self.folder / "beside.py").write_text(BESIDE)
        self.elsewhere = folder / "elsewhere"
        self.elsewhere.mkdir()
        self.file = self.folder / "join"
        self.enough = self.folder / "enough"
        self.running: list[subprocess.Popen[str]] = []
        self._environment = {**environment, "XDG_STATE_HOME": str(folder / "state")}
        self._programs = 0

    def start(self, *arguments: str, cwd: Path | None = None, **env: str) -> subprocess.Popen[str]:
        """Start Python in the job's folder."""
        process = subprocess.Popen(
            [sys.executable, *arguments],
            env={**self._environment, **env},
            cwd=cwd or self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.running.append(process)
        return process

    def program(self, text: str) -> str:
        """The path of a program."""
        self._programs += 1
        path = self.folder / f"program{self._programs}.py"
        path.write_text(text)
        return str(path)

    def broker(self) -> subprocess.Popen[str]:
        """A broker that was started by hand."""
        process = self.start(
            "-m", "scoop.broker", "--address", f"tcp://127.0.0.1:{free_ports()}",
            "--join-file", str(self.file),
        )  # fmt: skip
        assert process.stdout is not None
        line = process.stdout.readline()
        assert "listens at" in line, line + (process.stderr.read() if process.stderr else "")
        return process

    def origin(self, text: str, *arguments: str, **env: str) -> subprocess.Popen[str]:
        """The program of that broker."""
        address = json.loads(self.file.read_text())["address"]
        return self.start(self.program(text), *arguments, IS_ORIGIN="1", BROKER_ADDRESS=address, **env)

    def join(
        self, *options: str, file: Path | None = None, listen: bool = True, **env: str
    ) -> subprocess.Popen[str]:
        """Two workers that join, from another folder; returns when they are taken."""
        process = self.start(
            "-m", "scoop.launch.joining", "--join", str(file or self.file), "-n", "2",
            "--path", str(self.folder), *options, cwd=self.elsewhere, **env,
        )  # fmt: skip
        if listen:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert "2 workers for the job at" in line, line or ended(process)
        return process

    def seen(self) -> set[str]:
        """Who has worked for LASTING."""
        path = Path(f"{self.enough}.seen")
        return set(path.read_text().split()) if path.exists() else set()


@pytest.fixture
def jobs(tmp_path: Path, environment: dict[str, str]) -> Iterator[Jobs]:
    jobs = Jobs(tmp_path, environment)
    yield jobs
    end_all(jobs.running)


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=END_S)
    return process.returncode, out, err


def joined(process: subprocess.Popen[str], seen: Callable[[], set[str]]) -> Callable[[], bool]:
    """Whether both workers of a process that has joined have worked."""
    return lambda: sum(f".{process.pid}-" in name for name in seen()) >= 2


def test_workers_join_a_job_by_hand_and_end_with_it(jobs, until):
    broker = jobs.broker()
    assert stat.S_IMODE(jobs.file.stat().st_mode) == 0o600
    origin = jobs.origin(LASTING, str(jobs.enough))
    workers = jobs.join()
    until(joined(workers, jobs.seen), "both work", 60)
    jobs.enough.touch()
    status, out, err = ended(origin)
    assert (status, err) == (0, "")
    assert out.split()[:2] == ["go", "256"]
    assert ended(workers) == (0, "", "")
    assert ended(broker)[0] == 0
    assert not jobs.file.exists()


def test_workers_join_a_job_of_scoop_run_while_it_runs(jobs, until):
    job = jobs.start(
        "-m", "scoop", "-n", "1", "--join-file", str(jobs.file), "--broker-hostname", "127.0.0.1",
        jobs.program(LASTING), str(jobs.enough),
    )  # fmt: skip
    until(jobs.seen, "the job runs", 60)
    several = [jobs.join(), jobs.join()]  # the same file for several hosts
    for workers in several:
        until(joined(workers, jobs.seen), "both work", 60)
    jobs.enough.touch()
    status, out, err = ended(job)
    assert (status, err) == (0, "")
    assert "\n256 " in out
    assert [ended(workers) for workers in several] == [(0, "", "")] * 2
    assert not jobs.file.exists()


def test_a_task_that_kills_its_workers_is_blamed(jobs):
    jobs.broker()
    workers = jobs.join()
    status, out, err = ended(jobs.origin(CRASHING, SCOOP_ORIGIN_IDLE="1"))
    assert (status, out) == (0, "TaskCrashed 3\n"), err
    status, _, err = ended(workers)
    assert status == 0
    assert err.count("died: signal 9") == 3


def test_sigterm_lets_them_finish_what_runs(jobs, until):
    jobs.broker()
    workers = jobs.join()
    folder = jobs.folder / "tasks"
    folder.mkdir()
    origin = jobs.origin(ONE_TASK, str(folder), SCOOP_ORIGIN_IDLE="1")
    runs = until(lambda: list(folder.iterdir()), "the task runs", 60)
    workers.terminate()
    others = jobs.join()  # they find nothing to do: the task is not run again
    (folder / "enough").touch()
    status, out, err = ended(origin)
    assert (status, out, err) == (0, f"{runs[0].name}\n", "")
    assert ended(workers)[0] == 0
    assert ended(others)[0] == 0
    assert sorted(path.name for path in folder.iterdir()) == sorted([runs[0].name, "enough"])


@pytest.mark.parametrize("which", ["it", "its agent"])
def test_killed(jobs, until, living, which):
    jobs.broker()
    workers = jobs.join()
    folder = jobs.folder / "tasks"
    folder.mkdir()
    origin = jobs.origin(ONE_TASK, str(folder), SCOOP_ORIGIN_IDLE="1")
    first = until(lambda: list(folder.iterdir()), "the task runs", 60)[0]
    agents = [pid for pid, text in living().items() if text.startswith("scoop-agent")]
    if which == "it":
        workers.kill()
        jobs.join()
    else:
        os.kill(agents[0], signal.SIGKILL)
    until(lambda: len(list(folder.iterdir())) == 2, "the task runs again elsewhere", 60)
    (folder / "enough").touch()
    status, out, err = ended(origin)
    assert (status, err) == (0, "")
    assert out.strip() != first.name
    ended(workers)


def test_a_killed_broker_ends_them(jobs):
    broker = jobs.broker()
    workers = jobs.join()
    broker.kill()
    status, _, err = ended(workers)
    assert status == 1
    assert "the job's broker" in err
    assert "is gone: its connection has ended" in err


# ---------------------------------------------------------------------------------------------- refusals


def refused(jobs: Jobs, file: Path, *options: str) -> str:
    status, out, err = ended(jobs.join(*options, file=file, listen=False))
    assert (status, out) == (1, "")
    return err


def changed(jobs: Jobs, **values: Any) -> Path:
    path = jobs.folder / "changed"
    keyring.write_private(str(path), json.dumps({**json.loads(jobs.file.read_text()), **values}))
    return path


def test_no_file(jobs):
    assert f"{jobs.file}: No such file" in refused(jobs, jobs.file)


def test_no_such_folder(jobs):
    jobs.broker()
    assert "--path /nowhere: No such file or directory" in refused(jobs, jobs.file, "--path", "/nowhere")


def test_a_file_that_is_none(jobs):
    keyring.write_private(str(jobs.file), "something")
    assert "is no key file of scoop" in refused(jobs, jobs.file)


def test_a_file_that_others_can_read(jobs):
    jobs.broker()
    jobs.file.chmod(0o640)
    assert f"chmod 600 {jobs.file}" in refused(jobs, jobs.file)


def test_a_job_that_is_over(jobs):
    broker = jobs.broker()
    copy = changed(jobs)
    broker.terminate()
    broker.wait(END_S)
    assert f"{copy} is of a job that is over" in refused(jobs, copy)


def test_a_file_of_another_job(jobs):
    jobs.broker()
    copy = changed(jobs, public=Keys().public.decode())
    assert f"{copy} is of another job" in refused(jobs, copy)


@pytest.mark.parametrize(("name", "there"), [("Python", "3.9"), ("scoop", "0.7")])
def test_another_version(jobs, name, there):
    jobs.broker()
    ours = keyring.versions()
    err = refused(jobs, changed(jobs, versions={**ours, name: there}))
    assert f"{name} {ours[name]} here, {name} {there} at the broker" in err


def test_a_file_that_cannot_be_written(jobs):
    job = jobs.start("-m", "scoop", "--join-file", "/nowhere/join", "-n", "1", jobs.program("print(1)\n"))
    status, out, err = ended(job)
    assert (status, out) == (1, "")
    assert "/nowhere/join: No such file or directory" in err


# ---------------------------------------------------------------------------------------------- security


@pytest.fixture
def knock(jobs: Jobs) -> Iterator[Callable[..., zmq.Socket[bytes]]]:
    """Connects to the job's broker: `knock(keys, name, role, *more)`; says hello as `name`, and more."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    context.linger = 0

    def connect(keys: Keys, name: int, role: int, *more: bytes) -> zmq.Socket[bytes]:
        card = keyring.read_card(str(jobs.file))
        peer = context.socket(zmq.DEALER)
        peer.routing_id = name.to_bytes(8, "little")
        peer.curve_serverkey = card.public
        peer.curve_publickey, peer.curve_secretkey = keys.public, keys.secret
        peer.connect(card.address)
        peer.send(wire.encode(1, name, wire.VERSION, role, 1, b"somebody") + b"".join(more))
        return peer

    yield connect
    context.destroy()


def test_the_key_of_the_file_only_lets_others_in(jobs, knock):
    jobs.broker()
    card = keyring.read_card(str(jobs.file))
    ours, theirs = Keys(), Keys()
    worker, other = card.number << 44 | 7, (card.number + 1) << 44 | 7
    as_worker = knock(card.keys, card.incarnation | 1, WORKER)
    foreign = knock(card.keys, card.incarnation ^ (1 << 40), AGENT)
    early = knock(ours, worker, WORKER)
    guests = [wire.encode(GUEST, worker, ours.public), wire.encode(GUEST, other, theirs.public)]
    agent = knock(card.keys, card.incarnation | 3, AGENT, *guests)
    assert agent.poll(END_S * 1000)
    assert wire.decode(agent.recv())[0][0] == WELCOME
    late = knock(ours, worker, WORKER)
    assert late.poll(END_S * 1000)
    refused = [as_worker, foreign, early, knock(theirs, other, WORKER), knock(ours, worker | 8, WORKER)]
    # One more that is answered: by then the others would have been, too.
    assert knock(card.keys, card.incarnation | 5, AGENT).poll(END_S * 1000)
    assert [peer.poll(0) for peer in refused] == [0] * len(refused)
