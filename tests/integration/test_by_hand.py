"""Brokers and workers that are started by hand, with the variables of the environment."""

from __future__ import annotations

import json
import os
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

Start = Callable[..., "subprocess.Popen[str]"]
END_S = 60


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home for keys of this test alone."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "scoop" / "brokers"


@pytest.fixture
def broker(environment: dict[str, str], state: Path) -> Iterator[Callable[..., Any]]:
    """Starts brokers: `broker(port, env={})` returns the process when it listens."""
    running: list[subprocess.Popen[str]] = []

    def begin(port: int, *options: str, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "scoop.broker", "--address", f"tcp://127.0.0.1:{port}", *options],
            env={**environment, "XDG_STATE_HOME": os.environ["XDG_STATE_HOME"], **(env or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert "listens at" in line, line + (process.stderr.read() if process.stderr else "")
        return process

    yield begin
    end_all(running)


@pytest.fixture
def hand(start: Start, state: Path) -> Callable[..., subprocess.Popen[str]]:
    """Starts one process of the job by hand."""

    def begin(port: int, origin: bool, prefix: str = "", **env: str) -> subprocess.Popen[str]:
        place = {"IS_ORIGIN": str(int(origin)), "BROKER_ADDRESS": f"tcp://127.0.0.1:{port}"}
        variables = {prefix + name: value for name, value in place.items()}
        keys = {"XDG_STATE_HOME": os.environ["XDG_STATE_HOME"]}
        return start("hand.py", env={**keys, **variables, **env})

    return begin


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=END_S)
    return process.returncode, out, err


def test_one_broker_and_its_workers(broker, hand):
    port = free_ports()
    standing = broker(port)
    workers = [hand(port, False) for _ in range(2)]
    status, out, err = ended(hand(port, True))
    assert (status, err) == (0, ""), err
    word, _, *pids = out.split()
    assert word == "ok"
    assert {int(pid) for pid in pids} & {worker.pid for worker in workers}
    assert [ended(worker)[0] for worker in workers] == [0, 0]
    assert standing.wait(END_S) == 0  # the job is over


def test_two_brokers_federate(broker, hand):
    first, second = free_ports(), free_ports()
    broker(first)
    broker(second, env={"BROKER_ADDRESSES": f"tcp://127.0.0.1:{first}"})
    workers = [hand(second, False) for _ in range(2)]
    status, out, err = ended(hand(first, True))
    assert (status, err) == (0, ""), err
    # The workers of one broker get what was submitted at the other.
    assert {int(pid) for pid in out.split()[2:]} & {worker.pid for worker in workers}
    assert [ended(worker)[0] for worker in workers] == [0, 0]


def test_no_worker_at_all_is_allowed(broker, hand):
    port = free_ports()
    broker(port)
    status, out, _ = ended(hand(port, True, prefix="SCOOP_"))
    assert status == 0
    assert len(out.split()) == 3  # it did everything itself


NAMES = """\
import logging, sys, time
import scoop
from scoop import futures

def name(_):
    time.sleep(0.005)  # or one process has done them all before another one has asked
    return scoop.worker

def main():
    logging.basicConfig()
    found = set()
    while len(found) < int(sys.argv[1]):
        found |= set(futures.map(name, range(200)))
    print(*sorted(found))

if __name__ == "__main__":
    futures.startup(main)
"""


def place(port: int, origin: str, name: str) -> dict[str, str]:
    return {"IS_ORIGIN": origin, "WORKER_NAME": name, "BROKER_ADDRESS": f"tcp://127.0.0.1:{port}"}


def test_names_that_collide_are_made_unique(broker, start, state):
    first, second = free_ports(), free_ports()
    brokers = [broker(first), broker(second, env={"BROKER_ADDRESSES": f"tcp://127.0.0.1:{first}"})]
    cards = [json.loads((state / f"127.0.0.1:{port}.card").read_text()) for port in (first, second)]
    assert [card["name"] for card in cards] == ["broker", "broker-2"]

    def named(name: str, port: int, origin: str) -> subprocess.Popen[str]:
        home = {"XDG_STATE_HOME": os.environ["XDG_STATE_HOME"]}
        return start(NAMES, "4", env={**place(port, origin, name), **home})

    workers = [named("mill", first, "0") for _ in range(2)]
    elsewhere = named("far", second, "0")
    status, out, err = ended(named("mill", first, "1"))
    assert (status, out) == (0, "far mill mill-2 mill-3\n"), err
    assert ended(elsewhere)[0] == 0
    said = [ended(worker)[2] for worker in workers] + [err]
    assert sorted(text.count("there is a mill at this broker already") for text in said) == [0, 1, 1]
    assert "there is a broker broker already: this one is broker-2" in ended(brokers[1])[2]


def test_keys_are_private(broker, state):
    port = free_ports()
    standing = broker(port, "--key-file", str(state.parent / "carried"))
    card = json.loads((state / f"127.0.0.1:{port}.card").read_text())
    assert "secret" not in json.dumps(card)
    for path in (state, state / f"127.0.0.1:{port}.allow"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    for path in (state / f"127.0.0.1:{port}.card", state.parent / "carried"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    standing.terminate()
    assert standing.wait(END_S) == 0
    assert os.listdir(state) == []


def test_a_key_file_for_a_host_that_does_not_share_the_home(broker, hand, state, tmp_path):
    port = free_ports()
    carried = tmp_path / "carried"
    broker(port, "--key-file", str(carried))
    elsewhere = str(tmp_path / "elsewhere")
    worker = hand(port, False, XDG_STATE_HOME=elsewhere, SCOOP_KEY_FILE=str(carried))
    status, out, err = ended(hand(port, True))
    assert (status, err) == (0, ""), err
    assert str(worker.pid) in out.split()[2:]
    assert ended(worker)[0] == 0


def test_meta_sockets_elsewhere(broker, hand, state):
    first, second, meta = (free_ports() for _ in range(3))
    broker(first, env={"META_ADDRESS": f"tcp://127.0.0.1:{meta}"})
    card = keyring.find(f"tcp://127.0.0.1:{first}", str(state))
    assert card.meta == f"tcp://127.0.0.1:{meta}"
    peers = {"BROKER_ADDRESSES": f"tcp://127.0.0.1:{first}", "META_ADDRESSES": f"tcp://127.0.0.1:{meta}"}
    broker(second, env=peers)
    workers = [hand(second, False, META_ADDRESS=f"tcp://127.0.0.1:{second + 1}") for _ in range(2)]
    status, out, err = ended(hand(first, True))
    assert (status, err) == (0, "")
    assert {int(pid) for pid in out.split()[2:]} & {worker.pid for worker in workers}
    assert [ended(worker)[0] for worker in workers] == [0, 0]


def test_a_meta_socket_for_each_broker(environment):
    peers = "tcp://127.0.0.1:1,tcp://127.0.0.1:3"
    done = subprocess.run(
        [sys.executable, "-m", "scoop.broker", "--peers", peers, "--meta-peers", "tcp://127.0.0.1:2"],
        env=environment, capture_output=True, text=True, timeout=END_S, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "2 brokers but 1 meta sockets" in done.stderr


@pytest.mark.parametrize("option", [True, False])
def test_brokers_that_do_not_share_a_home_federate(broker, start, tmp_path, option):
    # One file lets both others in; they make one for each other.
    ports = [free_ports() for _ in range(3)]
    homes = [{"XDG_STATE_HOME": str(tmp_path / f"home{number}")} for number in range(3)]
    files = [tmp_path / f"carried{number}" for number in range(2)]

    def knows(*known: Path) -> tuple[list[str], dict[str, str]]:
        names = ",".join(str(path) for path in known)
        return (["--peer-key-file", names], {}) if option else ([], {"SCOOP_KEY_FILE": names})

    brokers = [broker(ports[0], "--join-file", str(files[0]), env=homes[0])]
    words, env = knows(files[0])
    brokers.append(broker(ports[1], "--join-file", str(files[1]), *words, env={**homes[1], **env}))
    words, env = knows(files[0], files[1])
    if not option:
        env["BROKER_ADDRESSES"] = ",".join(f"tcp://127.0.0.1:{port}" for port in ports[:2])
    brokers.append(broker(ports[2], *words, env={**homes[2], **env}))
    workers = [
        start(NAMES, "3", env={**place(port, "0", name), **home})
        for port, name, home in zip(ports[1:], "bc", homes[1:], strict=True)
    ]
    status, out, err = ended(start(NAMES, "3", env={**place(ports[0], "1", "a"), **homes[0]}))
    assert (status, out, err) == (0, "a b c\n", "")
    assert [ended(worker)[0] for worker in workers] == [0, 0]
    done = [ended(process) for process in brokers]
    assert [status for status, _, _ in done] == [0, 0, 0], done


def test_a_broker_does_not_take_a_file_that_others_can_read(broker, environment, tmp_path):
    carried = tmp_path / "carried"
    broker(free_ports(), "--join-file", str(carried))
    carried.chmod(0o604)
    done = subprocess.run(
        [sys.executable, "-m", "scoop.broker", "--address", "tcp://127.0.0.1:1", "--peer-key-file", carried],
        env=environment, capture_output=True, text=True, timeout=END_S, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert f"chmod 600 {carried}" in done.stderr


# --------------------------------------------------------------------------------- when somebody is killed

# Tasks that go on for ever, which say so, and at the end one that does not.
LONG = """\
import pathlib, os, sys, time
from scoop import futures

def task(folder):
    pathlib.Path(folder, str(os.getpid())).touch()
    while not pathlib.Path(folder, "enough").exists():
        time.sleep(0.05)
    return os.getpid()

def main():
    calls = [futures.submit(task, sys.argv[1]) for _ in range(int(sys.argv[2]))]
    print("ok", *sorted({call.result() for call in calls}))

if __name__ == "__main__":
    futures.startup(main)
"""


@pytest.fixture
def long(start: Start, state: Path, tmp_path: Path, until: Callable[..., Any]) -> Callable[..., Any]:
    """Starts processes whose tasks last: `long(port, origin)`, and `long.running(n)` waits for n tasks."""
    folder = tmp_path / "tasks"
    folder.mkdir()

    # More than there are processes: one may wait behind a task that lasts, where nobody takes it away.
    def begin(port: int, origin: bool, tasks: int = 8) -> subprocess.Popen[str]:
        env = {
            "IS_ORIGIN": str(int(origin)),
            "BROKER_ADDRESS": f"tcp://127.0.0.1:{port}",
            "XDG_STATE_HOME": os.environ["XDG_STATE_HOME"],
        }
        return start(LONG, str(folder), str(tasks), env=env)

    begin.running = lambda count: until(  # type: ignore[attr-defined]
        lambda: len(list(folder.iterdir())) >= count, f"{count} tasks run", 60
    )
    begin.enough = (folder / "enough").touch  # type: ignore[attr-defined]
    return begin


def test_a_killed_program_ends_brokers_and_workers(broker, long):
    first, second = free_ports(), free_ports()
    brokers = [broker(first), broker(second, env={"BROKER_ADDRESSES": f"tcp://127.0.0.1:{first}"})]
    workers = [long(first, False), long(second, False)]
    origin = long(first, True)
    long.running(3)
    origin.kill()
    done = [ended(process) for process in (*brokers, *workers)]
    assert [status for status, _, _ in done] == [0, 0, 0, 0], done
    assert "the program is gone (its connection has ended): the job ends" in done[0][2]


def test_a_killed_broker_ends_its_program_and_its_workers(broker, long):
    port = free_ports()
    standing = broker(port)
    worker, origin = long(port, False), long(port, True)
    long.running(2)
    standing.kill()
    long.enough()  # so that the program's own task ends, and it waits for those of the worker
    for process in (origin, worker):
        status, _, err = ended(process)
        assert status == 1
        assert f"the broker at tcp://127.0.0.1:{port} is gone: its connection has ended" in err


def test_a_killed_broker_of_the_program_ends_the_others(broker, long):
    first, second = free_ports(), free_ports()
    standing = broker(first)
    other = broker(second, env={"BROKER_ADDRESSES": f"tcp://127.0.0.1:{first}"})
    worker, origin = long(second, False), long(first, True)
    long.running(2)
    standing.kill()
    status, _, err = ended(other)
    assert status == 0
    assert "the program's broker is gone" in err
    assert ended(worker)[0] == 0
    long.enough()
    assert ended(origin)[0] == 1


@pytest.mark.parametrize("which", ["worker", "broker"])
def test_tasks_of_the_killed_are_run_again(broker, long, which):
    first, second = free_ports(), free_ports()
    broker(first)
    other = broker(second, env={"BROKER_ADDRESSES": f"tcp://127.0.0.1:{first}"})
    workers = [long(first, False), long(second, False)]
    origin = long(first, True)
    long.running(3)
    (workers[1] if which == "worker" else other).kill()
    ended(workers[1])
    long.enough()
    status, out, err = ended(origin)
    assert (status, err) == (0, "")
    assert str(workers[1].pid) not in out
    assert ended(workers[0])[0] == 0


# ---------------------------------------------------------------------------------------------- refusals


def test_no_broker(hand):
    port = free_ports()
    status, _, err = ended(hand(port, True))
    assert status == 1
    assert f"no broker answers at tcp://127.0.0.1:{port}" in err


def test_a_name_that_cannot_be_resolved(hand):
    status, _, err = ended(hand(1, True, BROKER_ADDRESS="tcp://no-such-host.invalid:5555"))
    assert status == 1
    assert "'no-such-host.invalid' cannot be resolved" in err


def test_no_key(broker, hand, tmp_path):
    port = free_ports()
    broker(port)
    status, _, err = ended(hand(port, True, XDG_STATE_HOME=str(tmp_path / "other")))
    assert status == 1
    assert f"no key for the broker at tcp://127.0.0.1:{port}" in err
    assert "SCOOP_KEY_FILE" in err


def test_a_wrong_key(broker, hand, state, tmp_path):
    port = free_ports()
    broker(port)
    held = json.loads((state / f"127.0.0.1:{port}.card").read_text())
    stranger = Keys()
    held.update(client_public=stranger.public.decode(), client_secret=stranger.secret.decode(), incarnation=5)
    keyring.write_private(str(tmp_path / "wrong"), json.dumps(held))
    status, _, err = ended(hand(port, False, SCOOP_KEY_FILE=str(tmp_path / "wrong")))
    assert status == 1
    assert "does not take this process" in err


def test_a_key_file_that_others_can_read(broker, hand, tmp_path):
    port = free_ports()
    carried = tmp_path / "carried"
    broker(port, "--key-file", str(carried))
    carried.chmod(0o644)
    status, _, err = ended(hand(port, False, SCOOP_KEY_FILE=str(carried)))
    assert status == 1
    assert f"chmod 600 {carried}" in err


def test_another_version(broker, hand, state):
    port = free_ports()
    broker(port)
    path = state / f"127.0.0.1:{port}.card"
    held = json.loads(path.read_text())
    held["versions"]["Python"] = "3.9"
    path.write_text(json.dumps(held))
    status, _, err = ended(hand(port, False))
    assert status == 1
    assert "Python 3.9 at the broker" in err


def test_a_port_in_use(broker, environment):
    port = free_ports()
    broker(port)
    done = subprocess.run(
        [sys.executable, "-m", "scoop.broker", "--address", f"tcp://127.0.0.1:{port}"],
        env={**environment, "XDG_STATE_HOME": os.environ["XDG_STATE_HOME"]},
        capture_output=True,
        text=True,
        timeout=END_S,
        check=False,
    )
    assert done.returncode == 2
    assert f"bind tcp://127.0.0.1:{port}: Address already in use" in done.stderr


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"IS_ORIGIN": "yes"}, "IS_ORIGIN='yes'"),
        ({"BROKER_ADDRESS": "localhost"}, "'localhost' is no address of a broker"),
        ({"META_ADDRESS": "tcp://localhost"}, "'tcp://localhost' is no address of a broker"),
    ],
)
def test_variables_that_make_no_sense(hand, env, words):
    status, _, err = ended(hand(1, True, **env))
    assert status == 1
    assert words in err


@pytest.fixture
def knock() -> Iterator[Callable[..., zmq.Socket[bytes]]]:
    """Connects to a broker with keys of one's own: `knock(card, keys, name)`, and says hello as `name`."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    context.linger = 0

    def connect(card: keyring.Card, keys: Keys, name: int) -> zmq.Socket[bytes]:
        peer = context.socket(zmq.DEALER)
        peer.routing_id = name.to_bytes(8, "little")
        peer.curve_serverkey = card.public
        peer.curve_publickey, peer.curve_secretkey = keys.public, keys.secret
        peer.connect(card.address)
        peer.send(wire.encode(1, name, wire.VERSION, 1, 1, b"somebody"))
        return peer

    yield connect
    context.destroy()


def test_a_stranger_with_the_public_key_gets_nowhere(broker, hand, state, knock):
    port = free_ports()
    broker(port)
    card = keyring.find(f"tcp://127.0.0.1:{port}", str(state))
    stranger = knock(card, Keys(), card.number << 44 | 7)
    status, _, err = ended(hand(port, True))  # a job meanwhile is not disturbed
    assert (status, err) == (0, "")
    assert stranger.poll(0) == 0


def test_nobody_takes_anothers_address(broker, state, knock):
    # A key on the allow-list is good for one name only.
    port = free_ports()
    broker(port)
    card = keyring.find(f"tcp://127.0.0.1:{port}", str(state))
    keys, mine, other = Keys(), card.number << 44 | 7, card.number << 44 | 9
    keyring.allow_key(card.allow, keys, mine)
    thief = knock(card, keys, other)
    honest = knock(card, keys, mine)
    assert honest.poll(END_S * 1000)
    assert wire.decode(honest.recv())[0][0] == 2  # WELCOME
    assert thief.poll(500) == 0
