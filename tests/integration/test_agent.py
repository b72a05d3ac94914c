"""The agent on real processes: workers, their output, their deaths, and that nothing is left of them."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from scoop.launch import spawn
from scoop.launch.link import Backlog, Decoder, encode
from scoop.launch.rundir import make_segment_dir, remove_run_dir
from scoop.launch.spawn import AgentHandle, AgentLost
from scoop.launch.watched import PAGE_ENTRIES_AT, PAGE_ENTRY, PAGE_HEAD, PAGE_LEVELS, QUICK_LIMIT, Restarts

pytestmark = pytest.mark.timeout(60)

DEADLINE_S = 20.0

ENTRIES = '''
import os, signal, struct, subprocess, sys, time

def say(*words):
    os.write(2, (" ".join(map(str, words)) + "\\n").encode())

def idle(spec, index):
    say("ready")
    while True:
        time.sleep(60)

def obey(spec, index):
    """Do what the spec says for this index, then idle."""
    exec(spec["do"].get(str(index), spec["do"].get("else", "")), {**globals(), "spec": spec, "index": index})
    idle(spec, index)

def busy(page, levels, progress=0):
    for level in range(levels):
        entry = 7, 100 + level, 3, 1, b"%16d" % level, level
        struct.pack_into("=QQII16sQ", page, 64 + level % 64 * 48, *entry)
    struct.pack_into("=QQ", page, 0, levels, progress)

def daemon(*command):
    """A grandchild with a session of its own whose parent has gone."""
    subprocess.run(["sh", "-c", "setsid " + " ".join(command) + " </dev/null >/dev/null 2>&1 &"])

def bare_daemon():
    """The same without any exec."""
    if os.fork() == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        while True:
            time.sleep(60)
'''


def census(job: str) -> list[psutil.Process]:
    """All processes that carry the mark of a pool, zombies excluded."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("SCOOP_JOB") == job and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            pass
    return found


def until(condition: Callable[[], Any], what: str, limit_s: float = DEADLINE_S) -> Any:
    """The first true value of the condition."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.005)
    raise AssertionError(f"not within {limit_s} s: {what}")


class Pool:
    """An agent, and all that it has reported so far."""

    def __init__(self, handle: AgentHandle) -> None:
        self.handle = handle
        self.messages: list[dict[str, Any]] = []
        self.ended = False

    def of(self, op: str, **fields: Any) -> list[dict[str, Any]]:
        return [
            message
            for message in self.messages
            if message["op"] == op and all(message[name] == value for name, value in fields.items())
        ]

    def output(self, worker: int, stream: int) -> bytes:
        return b"".join(message["data"] for message in self.of("output", worker=worker, stream=stream))

    def wait(self, condition: Callable[[], Any], limit_s: float = DEADLINE_S) -> Any:
        """Read reports until the condition holds."""
        deadline = time.monotonic() + limit_s
        while not (value := condition()):
            left = deadline - time.monotonic()
            assert left > 0, f"not within {limit_s} s; reports: {self.messages}"
            assert not self.ended, f"the agent ended; reports: {self.messages}"
            if select.select([self.handle], [], [], left)[0]:
                messages = self.handle.receive()
                self.ended = not messages
                self.messages += messages
        return value

    def ready(self, *workers: int) -> None:
        """Wait until these workers sit in their idle loop."""
        self.wait(lambda: all(b"ready\n" in self.output(worker, 2) for worker in workers))

    def pid(self, worker: int) -> int:
        return int(self.of("started", worker=worker)[0]["pid"])

    def close(self, grace_s: float = 0.0) -> None:
        self.messages += self.handle.close(grace_s)


@pytest.fixture
def entries(tmp_path: Path) -> list[str]:
    (tmp_path / "entries.py").write_text(ENTRIES)
    return [str(tmp_path), *sys.path]


@pytest.fixture
def start(entries: list[str]) -> Iterator[Callable[..., Pool]]:
    """Starts pools; at the end closes them and looks for what they left."""
    pools: list[Pool] = []

    def start_pool(
        count: int = 1, entry: str = "obey", do: dict[str, str] | None = None, **more: Any
    ) -> Pool:
        spec = {"do": do or {}, **more.pop("spec", {})}
        more.setdefault("preload", ["entries"])
        pools.append(Pool(AgentHandle.start(count, f"entries:{entry}", spec=spec, sys_path=entries, **more)))
        return pools[-1]

    yield start_pool
    for pool in pools:
        pool.close()
        with pytest.raises(ChildProcessError):
            os.waitpid(pool.handle.pid, os.WNOHANG)
        until(lambda pool=pool: not census(pool.handle.job), "no process is left", 2.0)  # type: ignore[misc]


def test_workers_start_and_stop(start: Callable[..., Pool]) -> None:
    pool = start(2, "idle")
    pool.ready(0, 1)
    assert len(census(pool.handle.job)) == 3
    pool.close()
    assert [message["op"] for message in pool.messages][-1] == "stopped"
    deaths = pool.of("died", planned=True, signal=9)
    assert sorted(message["worker"] for message in deaths) == [0, 1]


def test_what_a_worker_is_given(start: Callable[..., Pool], tmp_path: Path) -> None:
    look = """
import json, resource
say(json.dumps({
    "sid": os.getsid(0), "pid": os.getpid(), "spec": spec["given"], "index": index, "cwd": os.getcwd(),
    "variable": os.environ["SOME_NUM_THREADS"], "worker": os.environ["SCOOP_WORKER"],
    "core": resource.getrlimit(resource.RLIMIT_CORE)[0], "page": len(spec["_page"]), "path": sys.path[0],
    "oom": int(open("/proc/self/oom_score_adj").read()), "stdin": os.readlink("/proc/self/fd/0"),
    "sigint": signal.getsignal(signal.SIGINT) is signal.SIG_IGN,
    "sigterm": signal.getsignal(signal.SIGTERM) is signal.SIG_DFL, "preloaded": "entries" in sys.modules,
    "mask": len(signal.pthread_sigmask(signal.SIG_BLOCK, [])), "fds": len(os.listdir("/proc/self/fd")),
    "pages": open("/proc/self/maps").read().count("/dev/zero"),
}))
"""
    pool = start(2, do={"1": look}, spec={"given": [1]}, env={"SOME_NUM_THREADS": "3"}, cwd=str(tmp_path))
    pool.ready(0, 1)
    seen = json.loads(pool.output(1, 2).splitlines()[0])
    pid = pool.pid(1)
    assert (seen["pid"], seen["sid"], seen["index"]) == (pid, pid, 1)
    assert (seen["spec"], seen["variable"], seen["cwd"]) == ([1], "3", str(tmp_path))
    assert seen["worker"] == f"{pool.handle.job}.1"
    assert (seen["core"], seen["page"], seen["path"], seen["stdin"]) == (0, 8192, str(tmp_path), "/dev/null")
    assert seen["oom"] >= 500
    assert seen["sigint"]
    assert seen["sigterm"]
    assert seen["preloaded"]
    assert seen["mask"] == 0
    assert seen["fds"] == 5, "standard streams, the log and the directory being read"
    assert seen["pages"] == 1, "not those of the others"


def test_more_workers_and_fewer(start: Callable[..., Pool]) -> None:
    pool = start(1, "idle")
    pool.handle.send({"op": "add", "count": 2})
    pool.ready(0, 1, 2)
    pool.handle.send({"op": "kill", "worker": 1})
    death = pool.wait(lambda: pool.of("died"))[0]
    assert (death["worker"], death["planned"], death["signal"], death["oom"]) == (1, True, 9, False)
    pool.handle.send({"op": "add", "count": 1})
    pool.ready(3)
    assert [message["worker"] for message in pool.of("started")] == [0, 1, 2, 3]


def test_dead_worker_is_replaced_under_a_new_number(start: Callable[..., Pool]) -> None:
    pool = start(2, do={"0": "busy(spec['_page'], 0, progress=1)"})
    pool.ready(0, 1)
    os.kill(pool.pid(0), signal.SIGSEGV)
    death = pool.wait(lambda: pool.of("died"))[0]
    assert (death["worker"], death["signal"], death["exitcode"]) == (0, signal.SIGSEGV, None)
    assert (death["planned"], death["oom"], death["running"]) == (False, False, [])
    pool.ready(2)


def test_out_of_memory(start: Callable[..., Pool], tmp_path: Path) -> None:
    kills = tmp_path / "kills"
    (tmp_path / "counting.py").write_text(f"""
from scoop.launch.cores import OomCounter
OomCounter.read = lambda self: int(open({str(kills)!r}).read())
""")
    kills.write_text("3")
    pool = start(1, preload=["entries", "counting"], do={"else": "busy(spec['_page'], 0, 1)"})
    pool.ready(0)
    kills.write_text("4")
    os.kill(pool.pid(0), signal.SIGKILL)
    pool.ready(1)
    os.kill(pool.pid(1), signal.SIGKILL)
    pool.ready(2)
    assert [death["oom"] for death in pool.of("died")] == [True, False]


@pytest.mark.parametrize("levels", [1, 3, PAGE_LEVELS, PAGE_LEVELS + 6])
def test_blame(start: Callable[..., Pool], levels: int) -> None:
    pool = start(1, do={"0": f"busy(spec['_page'], {levels}); os._exit(0)"})
    pool.ready(1)
    death = pool.of("died")[0]
    assert (death["exitcode"], death["signal"], death["planned"]) == (0, None, False)
    assert len(death["running"]) == min(levels, PAGE_LEVELS)
    assert death["running"][-1] == [7, 99 + levels, 3, 1, b"%16d" % (levels - 1), levels - 1]
    assert death["running"][0][1] == 100 + max(0, levels - PAGE_LEVELS)


def test_layout_of_the_page() -> None:
    assert (PAGE_HEAD.size, PAGE_ENTRY.size, PAGE_ENTRIES_AT) == (16, 48, 64)


@pytest.mark.parametrize(
    ("do", "exitcode", "said"),
    [
        ("sys.exit(3)", 3, b""),
        ("sys.exit('no licence')", 1, b"no licence"),
        ("1 / 0", 1, b"ZeroDivisionError"),
        ("busy(spec['_page'], 0, 1); sys.stdout.write('no newline'); sys.exit(4)", 4, b""),
    ],
)
def test_exit_status(start: Callable[..., Pool], do: str, exitcode: int, said: bytes) -> None:
    pool = start(1, do={"0": do})
    death = pool.wait(lambda: pool.of("died"))[0]
    assert death["exitcode"] == exitcode
    assert said in pool.output(0, 2)
    assert (pool.output(0, 1) == b"no newline") == ("no newline" in do)


def test_worker_that_leaves_is_not_replaced(start: Callable[..., Pool]) -> None:
    pool = start(2, do={"0": "sys.exit()"})
    death = pool.wait(lambda: pool.of("died"))[0]
    assert death["planned"]
    pool.ready(1)
    pool.close()
    assert len(pool.of("started")) == 2


def test_workers_that_cannot_start(start: Callable[..., Pool]) -> None:
    pool = start(1, do={"else": "say('no such library'); os._exit(5)"})
    failed = pool.wait(lambda: pool.of("failed"))[0]
    assert "exit status 5" in failed["error"]
    assert "no such library" in failed["error"]
    assert len(pool.of("died", exitcode=5)) == QUICK_LIMIT
    assert not pool.wait(lambda: pool.of("died"))[0]["planned"]


def test_poison_does_not_look_like_a_bad_start(start: Callable[..., Pool]) -> None:
    crash = "busy(spec['_page'], 1); os.abort()"
    pool = start(1, do={str(index): crash for index in range(5)})
    pool.ready(5)
    assert not pool.of("failed")


def test_preload_that_fails(start: Callable[..., Pool]) -> None:
    pool = start(1, preload=["entries", "no_such_module_of_scoop"])
    failed = pool.wait(lambda: pool.of("failed"))[0]
    assert "ModuleNotFoundError" in failed["error"]
    assert "no_such_module_of_scoop" in failed["error"]
    assert not pool.of("started")


def test_unknown_message_is_answered(start: Callable[..., Pool]) -> None:
    pool = start(1, "idle")
    pool.handle.send({"op": "dance"})
    assert "dance" in pool.wait(lambda: pool.of("failed"))[0]["error"]
    pool.ready(0)


def test_restarts_back_off_and_give_up() -> None:
    restarts = Restarts()
    assert restarts.quick_death(0.0, 1.0) == 0.1
    assert restarts.quick_death(0.0, 2.0) == 0.2
    assert restarts.quick_death(0.0, 3.0) is None
    for expected in (0.4, 0.8, 1.6, 3.2, 5.0, 5.0):
        restarts.success()
        assert restarts.quick_death(0.0, 4.0) == expected
    restarts.success()
    assert restarts.quick_death(0.0, 100.0) == 0.1, "long calm"


def test_output_in_order(start: Callable[..., Pool]) -> None:
    lines = 3000
    pool = start(
        2, do={"else": f"for n in range({lines}): print(index, n)\nfor n in range(9): say(index, n)"}
    )
    pool.ready(0, 1)
    pool.wait(lambda: all(pool.output(worker, 1).count(b"\n") == lines for worker in (0, 1)))
    for worker in (0, 1):
        assert pool.output(worker, 1).splitlines() == [b"%d %d" % (worker, n) for n in range(lines)]
        assert pool.output(worker, 2).splitlines()[:9] == [b"%d %d" % (worker, n) for n in range(9)]
        assert pool.of("output", worker=worker)[0]["pid"] == pool.pid(worker)


def test_last_words_come_before_the_report_of_death(start: Callable[..., Pool], tmp_path: Path) -> None:
    flag = tmp_path / "die"
    die = f"""
busy(spec['_page'], 1)
say('here')
while not os.path.exists({str(flag)!r}):
    time.sleep(0.01)
os.write(1, b'x' * 200_000 + b'end')
os._exit(1)
"""
    pool = start(1, do={"0": die})
    pool.wait(lambda: pool.output(0, 2) == b"here\n")
    agent, worker = psutil.Process(pool.handle.pid), psutil.Process(pool.pid(0))
    agent.suspend()
    flag.touch()
    until(lambda: worker.status() == psutil.STATUS_ZOMBIE, "its output and its end meet the agent at once")
    agent.resume()
    pool.wait(lambda: pool.of("died"))
    assert pool.output(0, 1) == b"x" * 200_000 + b"end"
    assert pool.messages.index(pool.of("died")[0]) > pool.messages.index(pool.of("output", stream=1)[-1])


def test_origin_that_does_not_read_blocks_nobody(start: Callable[..., Pool], tmp_path: Path) -> None:
    done = tmp_path / "done"
    write = f"""
for n in range(160):
    os.write(1, b'%07d\\n' % n * 12800)
os.write(1, b'the end')
open({str(done)!r}, 'w').close()
"""
    pool = start(1, do={"0": write})
    until(done.exists, "the worker has written all of its 16 MB")
    pool.wait(lambda: pool.output(0, 1).endswith(b"the end"))
    received = len(pool.output(0, 1))
    marks = [line for line in pool.output(0, 2).splitlines() if line.startswith(b"[scoop: ")]
    assert 8 << 20 <= received < 10 << 20
    assert sum(int(mark.split()[1]) for mark in marks) + received == 160 * 8 * 12800 + len("the end")
    assert all(mark.endswith(b" bytes of output dropped]") for mark in marks)


def drain(backlog: Backlog) -> list[dict[str, Any]]:
    decoder = Decoder()
    messages = []
    while (data := backlog.pop()) is not None:
        messages += decoder.feed(data)
    return messages


def test_backlog_keeps_order_and_reports() -> None:
    backlog = Backlog(limit=10)
    backlog.output(0, 1, 1, b"aaaa")
    backlog.report({"op": "died"})
    backlog.output(0, 1, 1, b"bbbb")
    assert [message.get("data") for message in drain(backlog)] == [b"aaaa", None, b"bbbb"]
    for letter in (b"c", b"d", b"e"):
        backlog.output(0, 1, 1, letter * 4)
        backlog.report({"op": "died"})
    data = [message.get("data") for message in drain(backlog)]
    assert data == [b"\n[scoop: 4 bytes of output dropped]\n", None, b"dddd", None, b"eeee", None]


def test_decoder_takes_any_cut() -> None:
    stream = b"".join(encode({"op": "x", "n": n, "path": "\udcff"}) for n in range(5))
    for size in (1, 3, 7, len(stream)):
        decoder = Decoder()
        pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
        messages = [message for piece in pieces for message in decoder.feed(piece)]
        assert [message["n"] for message in messages] == list(range(5))
        assert messages[0]["path"] == "\udcff"


@pytest.mark.parametrize("data", [b"\xff\xff\xff\xff", b"\0\0\0\1\x01"])
def test_decoder_refuses_garbage(data: bytes) -> None:
    with pytest.raises(ValueError, match="agent's link"):
        Decoder().feed(data)


def test_stop_waits_for_workers_that_leave(start: Callable[..., Pool], tmp_path: Path) -> None:
    flag = tmp_path / "leave"
    leave = f"""
say('ready')
while not os.path.exists({str(flag)!r}):
    time.sleep(0.01)
print('bye')
sys.exit(7)
"""
    pool = start(1, do={"0": leave})
    pool.ready(0)
    pool.handle.send({"op": "stop", "grace_s": 15.0})
    flag.touch()
    pool.wait(lambda: pool.of("stopped"), 10.0)
    assert pool.of("died")[0]["exitcode"] == 7
    assert pool.of("died")[0]["planned"]
    assert pool.output(0, 1) == b"bye\n"
    assert len(pool.of("started")) == 1


@pytest.mark.parametrize("grace_s", [0.0, 0.3])
def test_stop_kills_what_does_not_listen(start: Callable[..., Pool], grace_s: float) -> None:
    deaf = "for number in (signal.SIGTERM, signal.SIGHUP): signal.signal(number, signal.SIG_IGN)"
    pool = start(2, do={"else": deaf})
    pool.ready(0, 1)
    os.kill(pool.pid(1), signal.SIGSTOP)
    before = time.monotonic()
    pool.close(grace_s)
    assert grace_s <= time.monotonic() - before < grace_s + 2.0
    assert len(pool.of("died", signal=9, planned=True)) == 2
    assert pool.of("stopped") == [{"op": "stopped"}]


def test_grandchildren_die_with_their_worker_only(start: Callable[..., Pool]) -> None:
    brood = (
        "subprocess.Popen(['sleep', '701']); daemon('sleep', '702'); bare_daemon(); busy(spec['_page'], 0, 1)"
    )
    pool = start(2, do={"0": brood, "1": brood})
    pool.ready(0, 1)
    family = 1 + 2 * 4  # agent; per worker: itself, child, daemon, bare daemon
    until(lambda: len(census(pool.handle.job)) == family, "all have started and the middle ones are gone")
    os.kill(pool.pid(0), signal.SIGKILL)
    pool.ready(2)
    until(
        lambda: len(census(pool.handle.job)) == family - 3, "the brood of worker 0 is gone, worker 2 is there"
    )
    sleepers = [p for p in census(pool.handle.job) if p.cmdline()[-1:] in (["701"], ["702"])]
    assert {p.environ()["SCOOP_WORKER"] for p in sleepers} == {f"{pool.handle.job}.1"}
    pool.close()
    assert not census(pool.handle.job)


def test_killed_agent_takes_its_workers_along(start: Callable[..., Pool]) -> None:
    pool = start(2, "idle")
    pool.ready(0, 1)
    os.kill(pool.handle.pid, signal.SIGKILL)
    until(lambda: not census(pool.handle.job), "agent and workers are gone", 2.0)
    with pytest.raises(AgentLost):
        until(lambda: pool.handle.send({"op": "add", "count": 1}), "the link is seen to be broken")
    while messages := pool.handle.receive():
        assert not any(message["op"] == "stopped" for message in messages)


def test_what_left_its_worker_does_not_outlive_a_killed_agent(start: Callable[..., Pool]) -> None:
    pool = start(1, do={"0": "subprocess.Popen(['sleep', '704']); daemon('sleep', '705'); bare_daemon()"})
    pool.ready(0)
    until(lambda: len(census(pool.handle.job)) == 5, "all have started")
    os.kill(pool.handle.pid, signal.SIGKILL)
    while pool.handle.receive():
        pass
    pool.close()
    assert not census(pool.handle.job)


def test_terminated_agent_says_so(start: Callable[..., Pool]) -> None:
    pool = start(1, do={"0": "daemon('sleep', '703')"})
    pool.ready(0)
    os.kill(pool.handle.pid, signal.SIGINT)
    os.kill(pool.handle.pid, signal.SIGTERM)
    pool.wait(lambda: pool.of("stopped"))
    assert "signal" in pool.of("failed")[0]["error"]


def test_agent_that_does_not_answer_is_killed(
    start: Callable[..., Pool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spawn, "_KILL_AFTER_S", 0.2)
    pool = start(2, "idle")
    pool.ready(0, 1)
    os.kill(pool.handle.pid, signal.SIGSTOP)
    before = time.monotonic()
    pool.close()
    assert 0.2 <= time.monotonic() - before < 2.0
    assert not pool.of("stopped")


def test_another_thread_reads_while_it_closes(start: Callable[..., Pool]) -> None:
    pool = start(1, "idle")
    pool.ready(0)
    read: list[dict[str, Any]] = []

    def reader() -> None:
        while messages := pool.handle.receive():
            read.extend(messages)

    thread = threading.Thread(target=reader)
    thread.start()
    before = time.monotonic()
    pool.close()
    thread.join(DEADLINE_S)
    assert time.monotonic() - before < 2.0
    assert not thread.is_alive()
    assert [message["op"] for message in read + pool.messages[-2:]].count("stopped") == 1
    assert pool.handle.fileno() == -1


def test_closing_twice_and_without_workers(start: Callable[..., Pool]) -> None:
    pool = start(0)
    pool.close()
    assert pool.of("stopped")
    assert pool.handle.close(0.0) == []
    with pytest.raises(AgentLost):
        pool.handle.send({"op": "add", "count": 1})


def test_program_that_ignores_the_end_of_children(start: Callable[..., Pool]) -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        pool = start(1, "idle")
        pool.ready(0)
        pool.close()
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert pool.of("stopped")


ORIGIN = """
import sys; sys.path[:] = {path!r}
import os, time
from scoop.launch.spawn import AgentHandle
do = {{"0": "daemon('sleep', '704'); bare_daemon()", "else": "signal.signal(signal.SIGTERM, signal.SIG_IGN)"}}
handle = AgentHandle.start(3, "entries:obey", preload=["entries"], job={job!r},
                           spec={{"do": do, "run_dirs": {run_dirs!r}}})
ready = 0
while ready < 3:
    ready += sum(message.get("data") == b"ready\\n" for message in handle.receive())
if os.fork() == 0:
    while True: time.sleep(60)  # holds the link open
print("up", flush=True)
while True: time.sleep(60)
"""


def test_killed_origin_leaves_nothing(entries: list[str], tmp_path: Path) -> None:
    job = os.urandom(8).hex()
    run_dir = make_segment_dir()
    (Path(run_dir) / "socket").touch()
    stranger = tmp_path / "not-ours"
    stranger.mkdir()
    program = ORIGIN.format(
        path=entries, job=job, run_dirs=[run_dir, str(stranger), "/nonexistent/scoop-0-x"]
    )
    origin = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    child: list[psutil.Process] = []
    try:
        assert origin.stdout is not None
        assert origin.stdout.readline() == "up\n"
        until(lambda: len(census(job)) == 1 + 3 + 2, "agent, workers, daemons")
        child = [p for p in psutil.Process(origin.pid).children() if p.environ().get("SCOOP_JOB") != job]
        assert len(child) == 1
        origin.kill()
        before = time.monotonic()
        until(lambda: not census(job), "all are gone within a second", 1.0)
        assert time.monotonic() - before < 1.0
        assert child[0].is_running(), "so it was not the end of the link that told"
        assert not os.path.exists(run_dir)
        assert stranger.is_dir()
    finally:
        origin.kill()
        for process in [*child, *census(job)]:
            process.kill()
        origin.communicate(timeout=10)
        remove_run_dir(run_dir)


def test_ctrl_c_reaches_neither_agent_nor_workers(start: Callable[..., Pool]) -> None:
    pool = start(1, "idle")
    pool.ready(0)
    sessions = {os.getsid(process.pid) for process in census(pool.handle.job)}
    assert len(sessions) == 2
    assert os.getsid(0) not in sessions
    os.kill(pool.pid(0), signal.SIGINT)
    pool.handle.send({"op": "add", "count": 1})
    pool.ready(1)
    assert not pool.of("died")
