"""What another user of the host, or a stranger on the network, can do: nothing (docs/operations.md)."""

from __future__ import annotations

import json
import os
import re
import resource
import select
import socket
import subprocess
import sys
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import testbed
import zmq
from processes import end_all, free_ports
from zmq.utils import z85

from scoop._core.curve import MESSAGE_BYTES_MAX, Keys
from scoop._core.gateway import Gateway
from scoop._core.net import Context
from scoop.launch import keyring
from scoop.launch.keyring import KeyringError

PROGRAMS = Path(__file__).parent / "programs"
SOMEBODY = 64321
END_S = 90
FOREVER_S = 1e9
GREETING_BYTES = 64
HALF_OPEN = 500  # at each of a broker's two doors
NAMES = ("scoop-agent", "scoop-w0", "scoop-w1")
Z85 = rb"[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{}@%$#]"
Start = Callable[..., "subprocess.Popen[str]"]

pytestmark = pytest.mark.timeout(240)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


# ------------------------------------------------------------------------------------------ the strangers


@pytest.fixture
def stranger(environment: dict[str, str]) -> Iterator[Start]:
    """Starts one, as another user: `stranger(order, *arguments, host="")`; a host is one of the testbed."""
    running: list[subprocess.Popen[str]] = []

    def begin(order: str, *arguments: object, host: str = "") -> subprocess.Popen[str]:
        where = [str(testbed.TESTBED / "on-host"), host] if host else []
        process = subprocess.Popen(
            [
                *where,
                sys.executable,
                str(PROGRAMS / "stranger.py"),
                str(SOMEBODY),
                order,
                *map(str, arguments),
            ],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=many_descriptors,
        )
        running.append(process)
        return process

    yield begin
    end_all(running)


def many_descriptors() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def answer(process: subprocess.Popen[str]) -> Any:
    """What a stranger, or a program, has said last."""
    out, err = process.communicate(timeout=END_S)
    assert process.returncode == 0, err
    return json.loads(out.splitlines()[-1])


def check_attack(found: dict[str, Any]) -> None:
    """Nothing was heard but greetings."""
    assert found["tries"] > 0
    assert found["heard"] == 0
    assert found["raw"]["silence"] > 0  # it was really libzmq that the stranger has spoken to
    assert {name: size for name, size in found["raw"].items() if size > GREETING_BYTES} == {}


# -------------------------------------------------------------------------------------------- jobs by hand


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home for keys of this test alone."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "scoop" / "brokers"


class Siege:
    """A job by hand on this host: a broker, two workers, the program."""

    def __init__(self, start: Start, state: Path, folder: Path) -> None:
        self.stop = folder / "stop"
        self.mark = folder / "unpickled"
        self.key_file = folder / "carried"
        env = {"XDG_STATE_HOME": os.environ["XDG_STATE_HOME"]}
        program = "from scoop.broker import main\nraise SystemExit(main())\n"
        address = f"tcp://127.0.0.1:{free_ports()}"
        self.broker = start(
            program, "--address", address, "--key-file", str(self.key_file), "-v", "-v", env=env
        )
        assert self.broker.stdout is not None
        line = self.broker.stdout.readline()
        assert "listens at" in line, line
        env["BROKER_ADDRESS"] = address
        self.card = keyring.find(address, str(state))
        self.doors = (self.card.address, self.card.meta)
        self.workers = [start("besieged.py", str(self.stop), env={**env, "IS_ORIGIN": "0"}) for _ in range(2)]
        self.origin = start(
            "besieged.py", str(self.stop), env={**env, "IS_ORIGIN": "1", "SCOOP_VERBOSE": "2"}
        )
        assert self.origin.stdout is not None
        assert self.origin.stdout.readline() == "go\n"

    def end(self) -> list[str]:
        """End the job, which was right and has unpickled nothing strange; what all processes said."""
        self.stop.touch()
        texts = []
        out, err = self.origin.communicate(timeout=END_S)
        assert self.origin.returncode == 0, err
        said = json.loads(out.splitlines()[-1])
        assert said["rounds"] > 0
        assert said["found"] == []
        assert not self.mark.exists()
        texts += [out, err]
        for process in (*self.workers, self.broker):
            texts += process.communicate(timeout=END_S)
            assert process.returncode == 0
        return texts


@pytest.fixture
def siege(start: Start, state: Path, tmp_path: Path) -> Siege:
    """See `Siege`."""
    return Siege(start, state, tmp_path)


@needs_root
def test_another_user_finds_no_way_in_over_tcp(siege, stranger):
    # It even knows the broker's public key, which is no secret.
    check_attack(answer(stranger("attack", siege.mark, siege.card.public.decode(), *siege.doors)))
    siege.end()


@needs_root
def test_half_open_connections_and_scans_do_not_stop_a_job(siege, stranger):
    holder = stranger("hold", HALF_OPEN, *siege.doors)
    assert holder.stdout.readline() == f"{2 * HALF_OPEN}\n"
    ports = [int(door.rpartition(":")[2]) for door in siege.doors]
    near = range(max(1, min(ports) - 200), min(65535, max(ports) + 200))
    tried = sorted({*ports, *near[:200], *near[-200:]})
    assert set(ports) <= set(answer(stranger("scan", "127.0.0.1", *tried)))
    siege.end()
    holder.communicate(timeout=END_S)


@needs_root
def test_secrets_are_in_memory_only(siege, living, tmp_path):
    running = [siege.broker, siege.origin, *siege.workers]
    public = {siege.card.public, *(zmq_text(path.name) for path in Path(siege.card.allow).iterdir())}
    secrets = {process.pid: secrets_of(process.pid, public) for process in running}
    assert all(secrets.values()), "the test does not find the keys that it is to look for"
    told = told_by(living(), tmp_path, Path(os.environ["XDG_RUNTIME_DIR"]))
    carried = told.pop(str(siege.key_file))  # the one place where its user has asked for one
    assert siege.card.path in told
    told.update({f"output {index}": text.encode() for index, text in enumerate(siege.end())})
    every = set().union(*secrets.values())
    assert where_told(every, told) == []
    # Not even there is one of a process, but only the pair that was made for the file.
    every.discard(json.loads(carried)["client_secret"].encode())
    assert where_told(every, {"carried": carried}) == []


def told_by(pids: Any, *folders: Path) -> dict[str, bytes]:
    """What everybody sees of some processes, and the files in some folders."""
    told = {}
    for pid in pids:
        for what in ("cmdline", "environ"):
            told[f"{what} of {pid}"] = Path("/proc", str(pid), what).read_bytes()
    for folder in folders:
        told.update({str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()})
    return told


def zmq_text(digits: str) -> bytes:
    """A key as 40 characters, from its 64 hex digits."""
    return z85.encode(bytes.fromhex(digits))


def secrets_of(pid: int, public: set[bytes]) -> set[bytes]:
    """Secret keys in the memory of a process that belong to one of some public keys, or to one there."""
    found = set()
    for line in Path("/proc", str(pid), "maps").read_text().splitlines():
        place, rights, *_ = line.split()
        if not rights.startswith("rw") or "[v" in line:
            continue
        low, high = (int(number, 16) for number in place.split("-"))
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
            memory.seek(low)
            try:
                held = memory.read(high - low)
            except OSError:
                continue
        found |= {match[-41:-1] for match in re.findall(Z85 + rb"{40,}\0", held)}
        for key in public:  # libzmq keeps the secret half behind the public one
            found |= {
                z85.encode(match) for match in re.findall(re.escape(z85.decode(key)) + b"(?s:(.{32}))", held)
            }
    return {key for key in found if public_of(key) in public | found}


def public_of(secret: bytes) -> bytes:
    """The public key of what may be a secret key; empty if it is none."""
    try:
        return zmq.curve_public(secret)
    except zmq.ZMQError:
        return b""


def where_told(secrets: set[bytes], told: dict[str, bytes]) -> list[str]:
    """Names of the texts that hold a secret key, in any of its spellings."""
    spellings = {
        spelt
        for key in secrets
        for raw in [z85.decode(key)]
        for spelt in (key, raw, raw.hex().encode(), b64encode(raw)[:42])
    }
    return [name for name, text in told.items() if any(spelt in text for spelt in spellings)]


def test_a_broker_takes_as_many_descriptors_as_it_may(start, state):
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft = min(64, hard)
    program = "from scoop.broker import main\nraise SystemExit(main())\n"
    broker = start(
        program,
        *("--address", f"tcp://127.0.0.1:{free_ports()}"),
        env={"XDG_STATE_HOME": os.environ["XDG_STATE_HOME"]},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard)),
    )
    assert "listens at" in broker.stdout.readline()
    assert resource.prlimit(broker.pid, resource.RLIMIT_NOFILE) == (hard, hard)


# -------------------------------------------------------------------------------------- one broker, closely


class Served:
    """A broker of a federation in this process, and what it has counted."""

    def __init__(self) -> None:
        self.context, self.keys = Context(), Keys()
        self.gateway = Gateway(None, 7)
        self.doors = self.gateway.open(self.context, self.keys, "tcp://127.0.0.1:0", "tcp://127.0.0.1:0")
        self._stop, self._stop_end = os.pipe()
        self._thread = threading.Thread(target=self.gateway.run, args=(self._stop, FOREVER_S))
        self._thread.start()

    def counted(self) -> dict[str, int]:
        """The counters of what has come over TCP."""
        names = ("messages", "malformed", "strangers", "granted", "denied", "sent_away")
        counters = self.gateway.statistics()
        return {name: counters[name] for name in names}

    def close(self) -> None:
        """End it."""
        os.write(self._stop_end, b"x")
        self._thread.join(END_S)
        self.gateway.close()
        self.context.close()
        os.close(self._stop)
        os.close(self._stop_end)


@pytest.fixture
def served() -> Iterator[Served]:
    """See `Served`."""
    made = Served()
    yield made
    made.close()


@needs_root
def test_nothing_that_a_stranger_sends_reaches_the_broker(served, stranger, tmp_path):
    mark = tmp_path / "unpickled"
    check_attack(answer(stranger("attack", mark, served.keys.public.decode(), *served.doors)))
    counted = served.counted()
    assert counted.pop("denied") > 0  # those who knew the public key were asked for theirs
    assert set(counted.values()) == {0}
    assert not mark.exists()


def connected(door: str) -> socket.socket:
    host, _, port = door.removeprefix("tcp://").rpartition(":")
    return socket.create_connection((host, int(port)), timeout=END_S)


def closed(peer: socket.socket) -> bool:
    """Wait until the other side has closed; True."""
    try:
        while peer.recv(65536):
            pass
    except ConnectionError:
        pass
    return True


CURVE_GREETING = bytes([0xFF, *[0] * 8, 0x7F, 3, 0]) + b"CURVE".ljust(20, b"\0") + bytes(32)


def test_whoever_proves_no_key_is_cut_off(served):
    said = (b"", b"\xff", CURVE_GREETING[:11], CURVE_GREETING, CURVE_GREETING + b"\4\x7f")
    peers = [(connected(door), text) for door in served.doors for text in said]
    for peer, text in peers:
        peer.sendall(text)
    assert all(closed(peer) for peer, _ in peers)
    for peer, _ in peers:
        peer.close()
    assert set(served.counted().values()) == {0}


def test_messages_have_a_greatest_size(served):
    with connected(served.doors[0]) as largest, connected(served.doors[0]) as larger:
        for peer, size in ((largest, MESSAGE_BYTES_MAX), (larger, MESSAGE_BYTES_MAX + 1)):
            peer.sendall(CURVE_GREETING + b"\6" + size.to_bytes(8, "big"))
        assert closed(larger)
        largest.recv(GREETING_BYTES)
        assert not select.select([largest], [], [], 0)[0]  # it has some seconds left to send so much


def test_without_descriptors_left_a_broker_neither_spins_nor_shuts_out_its_own():
    done = subprocess.run(
        [sys.executable, str(PROGRAMS / "few_descriptors.py")],
        capture_output=True,
        text=True,
        timeout=END_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["sent_away"] > 0
    assert said["welcomed"]
    assert said["cpu_s"] < 0.25 * said["wall_s"]  # a thread that spins takes nearly all of it


# ------------------------------------------------------------------------------------------------ on a host


@needs_root
def test_another_user_finds_no_way_into_a_host(start, stranger, living, tmp_path):
    # Even where everybody may look into the directory above.
    above = Path(os.environ["XDG_RUNTIME_DIR"])
    above.chmod(0o1777)
    stop = tmp_path / "stop"
    origin = start("besieged.py", str(stop), env={"SCOOP_WORKERS": "3"})
    assert origin.stdout.readline() == "go\n"
    (run_dir,) = above.glob("scoop-*")
    assert (run_dir / "broker").is_socket()
    paths = [run_dir, run_dir / "broker", run_dir / "lock", *Path("/dev/shm").glob(f"scoop-{os.getuid()}-*")]
    for pid in living():
        paths += [Path("/proc", str(pid), name) for name in ("mem", "environ", "fd", "cwd", "map_files")]
    assert len(living()) >= 4
    tried = answer(stranger("reach", *paths))
    assert [each for each in tried if not each.startswith("list /proc") or "/fd" in each] == []
    assert listening(living()) == []
    assert abstract(living()) == []
    stop.touch()
    assert answer(origin)["found"] == []


def sockets_of(pids: Any) -> set[str]:
    """Inodes of all sockets of some processes."""
    found = set()
    for pid in pids:
        for entry in Path("/proc", str(pid), "fd").iterdir():
            try:
                target = os.readlink(entry)
            except OSError:
                continue
            if target.startswith("socket:["):
                found.add(target[8:-1])
    return found


def listening(pids: Any) -> list[str]:
    """TCP addresses (in hex) at which some processes listen, in the network of the first of them."""
    own = sockets_of(pids)
    found = []
    for name in ("tcp", "tcp6"):
        for line in Path("/proc", str(next(iter(pids))), "net", name).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in own:
                found.append(fields[1])
    return found


def abstract(pids: Any) -> list[str]:
    """Names without a file, to which everybody may connect, of Unix sockets of some processes."""
    own = sockets_of(pids)
    lines = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
    return [line[7] for line in lines if line[6] in own and len(line) > 7 and line[7].startswith("@")]


@needs_root
@pytest.mark.parametrize("how", ["wide open", "foreign", "above foreign", "link to a foreign one", "a file"])
def test_run_directories_that_others_could_replace_are_avoided(run, tmp_path, how):
    bad = tmp_path / "bad"
    bad.mkdir(mode=0o700)
    place = bad
    if how == "wide open":
        bad.chmod(0o777)
    elif how == "above foreign":
        place = bad / "own"
        place.mkdir(mode=0o700)
        os.chown(bad, SOMEBODY, -1)
    elif how == "a file":
        place = bad / "file"
        place.touch()
    else:
        os.chown(bad, SOMEBODY, -1)
    if how.startswith("link"):
        place = tmp_path / "link"
        place.symlink_to(bad)
    good = os.environ["XDG_RUNTIME_DIR"]
    source = """
import glob, os, sys
from scoop import futures
print(futures.submit(abs, -3).result(), len(glob.glob(os.path.join(sys.argv[1], "scoop-*"))))
"""
    done = run(source, good, env={"XDG_RUNTIME_DIR": str(place), "TMPDIR": good})
    assert done.stdout == "3 1\n"
    assert [path for path in bad.rglob("*") if path.name not in ("own", "file")] == []


# ------------------------------------------------------------------------------------------ on the network


@pytest.mark.root
def test_strangers_on_the_network(launch, stranger, living, until, tmp_path):
    stop, mark = tmp_path / "stop", tmp_path / "unpickled"
    hosts = ("node1", "node2", "node3")
    job = launch(
        *("--hosts", "127.0.0.1", "node2", "node3", "-N", "6", "-v", "-v"),
        source=(PROGRAMS / "besieged.py").read_text(),
        arguments=(str(stop),),
    )
    assert job.stdout.readline() == "go\n"
    brokers = {host: until(lambda host=host: testbed.pids(host, "scoop-broker"), host)[0] for host in hosts}
    doors = []
    for number, (host, pid) in enumerate(brokers.items(), 1):
        addresses = [address_of(text) for text in listening([pid])]
        assert [address for address, _ in addresses] == [f"10.77.0.{number}"] * 2  # one network, no wildcard
        doors += [f"tcp://{address}:{port}" for address, port in addresses]
        others = {each for name in NAMES for each in testbed.pids(host, name)}
        assert len(others) == 3 - (host == "node1")
        assert listening(others) == []
        assert abstract(others | {pid}) == []
        assert (
            resource.prlimit(pid, resource.RLIMIT_NOFILE)[0]
            == resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]
        )
    secrets = [secrets_of(pid, set()) for pid in brokers.values()]
    assert all(secrets), "the test does not find the keys that it is to look for"
    every = living() | testbed.left()
    told = told_by(every, tmp_path, *Path("/tmp").glob(f"scoop-{os.getuid()}-*"))

    check_attack(answer(stranger("attack", mark, "", *doors, host="node4")))
    holder = stranger("hold", HALF_OPEN, *doors, host="node4")
    assert holder.stdout.readline() == f"{len(doors) * HALF_OPEN}\n"
    for number in range(1, 4):
        ports = {int(door.rpartition(":")[2]) for door in doors if f".{number}:" in door}
        near = range(max(1, min(ports) - 50), min(65535, min(ports) + 50))
        assert (
            set(answer(stranger("scan", f"10.77.0.{number}", *sorted({*near, *ports}), host="node4")))
            == ports
        )
    assert not mark.exists()
    stop.touch()
    out, err = job.communicate(timeout=END_S)
    assert job.returncode == 0, err
    assert json.loads(out.splitlines()[-1])["found"] == []
    told.update({"output": out.encode(), "log": err.encode()})
    assert where_told(set().union(*secrets), told) == []
    holder.communicate(timeout=END_S)


def address_of(text: str) -> tuple[str, int]:
    """An IPv4 address and port as the kernel writes them."""
    address, _, port = text.partition(":")
    return socket.inet_ntoa(bytes.fromhex(address)[::-1]), int(port, 16)


# ----------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o640, 0o620, 0o601, 0o660, 0o666])
def test_key_files_that_others_can_use_are_refused(tmp_path, mode):
    path = tmp_path / "key"
    keyring.write_private(str(path), "text")
    assert keyring.read_private(str(path)) == "text"
    path.chmod(mode)
    with pytest.raises(KeyringError, match=f"chmod 600 {path}"):
        keyring.read_private(str(path))


@needs_root
def test_key_files_of_somebody_else_are_refused(tmp_path):
    path = tmp_path / "key"
    keyring.write_private(str(path), "text")
    os.chown(path, SOMEBODY, -1)
    with pytest.raises(KeyringError, match="must be yours alone"):
        keyring.read_private(str(path))


def test_only_files_are_key_files(tmp_path):
    keyring.write_private(str(tmp_path / "key"), "text")
    (tmp_path / "link").symlink_to(tmp_path / "key")
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "folder").mkdir(mode=0o700)
    for name in ("link", "pipe", "folder", "none"):
        with pytest.raises(KeyringError, match=name):
            keyring.read_private(str(tmp_path / name))


def test_a_key_is_never_written_through_a_link(tmp_path):
    (tmp_path / "other").write_text("precious")
    (tmp_path / "key").symlink_to(tmp_path / "other")
    keyring.write_private(str(tmp_path / "key"), "text")
    assert (tmp_path / "other").read_text() == "precious"
    assert oct((tmp_path / "key").lstat().st_mode & 0o777) == "0o600"


@pytest.mark.parametrize("which", ["scoop", "scoop/brokers"])
@pytest.mark.parametrize("how", ["wide open", "readable", "link", "foreign"])
def test_places_for_cards_that_others_can_use_are_refused(tmp_path, which, how):
    if how == "foreign" and os.geteuid() != 0:
        pytest.skip("only root can give a directory away")
    environ = {"XDG_STATE_HOME": str(tmp_path)}
    assert keyring.directory(environ=environ) == str(tmp_path / "scoop" / "brokers")
    place = tmp_path / which
    if how == "link":
        place.rename(tmp_path / "elsewhere")
        place.symlink_to(tmp_path / "elsewhere")
    elif how == "foreign":
        os.chown(place, SOMEBODY, -1)
    else:
        place.chmod(0o777 if how == "wide open" else 0o755)
    with pytest.raises(KeyringError, match=str(place)):
        keyring.directory(environ=environ)


def test_an_odd_umask_opens_nothing(tmp_path):
    before = os.umask(0)
    try:
        folder = Path(keyring.directory(environ={"XDG_STATE_HOME": str(tmp_path)}))
        keyring.write_private(str(folder / "key"), "text")
    finally:
        os.umask(before)
    modes = [oct(path.stat().st_mode & 0o777) for path in (folder.parent, folder, folder / "key")]
    assert modes == ["0o700", "0o700", "0o600"]
