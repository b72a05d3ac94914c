"""Jobs on several hosts: real sshd on hosts made of network namespaces (the testbed beside the checkout)."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import end_all

ROOT = Path(__file__).resolve().parents[2]
TESTBED = ROOT.parent / "shared" / "testbed"
HOSTS = ("node1", "node2", "node3", "node4")
END_S = 60
# What agents, brokers and workers are called; the programs of these tests have other names.
OURS = "scoop-"

pytestmark = [pytest.mark.root, pytest.mark.timeout(180)]

WHERE = """\
import os, socket, sys, time
from collections import Counter
from scoop import futures

def where(x):
    time.sleep(0.01)
    return socket.gethostname()

def tree(depth):
    if depth == 0:
        return 1
    left, right = (futures.submit(tree, depth - 1) for _ in range(2))
    return left.result() + right.result()

if __name__ == "__main__":
    print("go", flush=True)
    hosts = Counter(futures.map(where, range(int(sys.argv[1]) if len(sys.argv) > 1 else 600)))
    print(*sorted(hosts), sum(hosts.values()), futures.submit(tree, 10).result(), flush=True)
"""


def _missing() -> str:
    if os.geteuid() != 0:
        return "network namespaces need root"
    if not (TESTBED / "hosts-up").exists():
        return f"there is no testbed at {TESTBED}"
    return ""


@pytest.fixture(scope="module")
def hosts() -> Iterator[tuple[str, ...]]:
    """Four hosts with sshd; taken down at the end, whatever happens."""
    reason = _missing()
    if reason:
        pytest.skip(reason)
    for command in (["deps", "hosts"], ["hosts-up", str(len(HOSTS))]):
        done = subprocess.run(
            [TESTBED / command[0], *command[1:]], capture_output=True, text=True, timeout=170, check=False
        )
        if done.returncode and command[0] == "deps":
            pytest.skip(f"the testbed's packages cannot be installed: {done.stderr[-300:]}")
        assert done.returncode == 0, done.stderr
    yield HOSTS
    subprocess.run([TESTBED / "hosts-down"], capture_output=True, timeout=60, check=True)


def left() -> dict[int, str]:
    """Processes of scoop on any host; all of them are visible from outside."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                comm = Path("/proc", name, "comm").read_text().strip()
                state = Path("/proc", name, "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if comm.startswith(OURS) and state not in "ZX":
                found[int(name)] = comm
    return found


@pytest.fixture
def launch(
    hosts: tuple[str, ...], environment: dict[str, str], tmp_path: Path
) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts `scoop-run` on node1: `launch(options, source=WHERE, arguments=())`."""
    running: list[subprocess.Popen[str]] = []
    environ = {name: value for name, value in environment.items() if name != "SCOOP_WORKERS"}

    def begin(*options: str, source: str = WHERE, arguments: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        program = tmp_path / "program.py"
        program.write_text(source)
        process = subprocess.Popen(
            [TESTBED / "on-host", "node1", sys.executable, "-m", "scoop", *options, str(program), *arguments],
            env=environ,
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        running.append(process)
        return process

    yield begin
    end_all(running)
    deadline = time.monotonic() + 10
    while left() and time.monotonic() < deadline:
        time.sleep(0.02)
    remains = left()
    for pid in remains:
        os.kill(pid, signal.SIGKILL)
    assert not remains, f"processes are left: {remains}"


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=END_S)
    return process.returncode, out, err


def pids(host: str, name: str) -> list[int]:
    """Processes called `name` in a host, as numbered outside."""
    mark = os.readlink(f"/proc/{Path('/run/testbed', f'{host}.pid').read_text().strip()}/ns/pid")
    found = []
    for pid, comm in left().items():
        try:
            if comm == name and os.readlink(f"/proc/{pid}/ns/pid") == mark:
                found.append(pid)
        except OSError:
            continue
    return found


def test_all_hosts_work(launch):
    status, out, err = ended(launch("--hosts", "127.0.0.1", "node2", "node3", "node4", "-N", "12"))
    assert (status, err) == (0, "")
    assert out == "go\nnode1 node2 node3 node4 600 1024\n"


def test_a_host_file_and_counts(launch, tmp_path):
    (tmp_path / "hosts").write_text("node1 2   # this one\nnode[2-3] 1\n")
    source = (
        "import scoop\nfrom scoop import futures\nprint(futures.submit(max, 1, 2).result(), scoop.SIZE)\n"
    )
    status, out, err = ended(launch("--hostfile", str(tmp_path / "hosts"), source=source))
    assert (status, out, err) == (0, "2 4\n", "")


def test_this_host_need_not_be_among_them(launch):
    status, out, err = ended(launch("--hosts", "node2*2", "node3*2", "--origin-idle"))
    assert (status, err) == (0, "")
    assert out == "go\nnode2 node3 600 1024\n"


def test_exit_status_and_arguments_pass_through(launch):
    source = "import sys, scoop\nscoop.futures.submit(abs, -1).result()\nsys.exit(int(sys.argv[1]))\n"
    assert ended(launch("--hosts", "node1", "node2", "-n", "3", source=source, arguments=("7",))) == (
        7,
        "",
        "",
    )


def test_output_arrives_with_the_name_of_the_host(launch):
    source = """\
import socket, time
from scoop import futures

def speak(x):
    print("x" * 99, x)
    time.sleep(0.002)
    return socket.gethostname()

hosts = list(futures.map(speak, range(4000)))
print("ends", hosts.count("node2"))
"""
    status, out, err = ended(launch("--hosts", "node1", "node2", "-n", "3", "--origin-idle", source=source))
    assert (status, err) == (0, "")
    lines = out.splitlines()
    far = [line for line in lines if line.startswith("node2: ")]
    assert far
    assert f"ends {len(far)}" in lines
    assert sorted(int(line.rpartition(" ")[2]) for line in lines if "xxx" in line) == list(range(4000))


def test_a_constant_reaches_all_hosts(launch):
    source = """\
import time
from scoop import futures, shared

def read(x):
    time.sleep(0.005)
    return shared.getConst("base", timeout=20) + x

shared.setConst(base=100)
print(sum(futures.map(read, range(300))))
"""
    status, out, err = ended(launch("--hosts", "127.0.0.1", "node2", "node3", "-n", "6", source=source))
    assert (status, out, err) == (0, f"{300 * 100 + sum(range(300))}\n", "")


# ------------------------------------------------------------------------------------------------ faults


def test_a_dead_worker_elsewhere_is_replaced_and_its_task_runs_again(launch, until):
    process = launch("--hosts", "127.0.0.1", "node2", "-n", "4", arguments=("1500",))
    assert process.stdout.readline() == "go\n"
    before = until(lambda: pids("node2", "scoop-w1"), "a worker on node2")
    time.sleep(0.3)  # it is at work then, or not: either must end well
    os.kill(before[0], signal.SIGKILL)
    until(lambda: pids("node2", "scoop-w2"), "its successor")
    status, out, err = ended(process)
    assert (status, out) == (0, "node1 node2 1500 1024\n"), err
    assert "worker node2-1" in err
    assert "died: signal 9" in err


@pytest.mark.parametrize("victim", ["scoop-agent", "scoop-broker"])
def test_a_lost_host_costs_time_only(launch, until, victim):
    process = launch("--hosts", "127.0.0.1", "node2", "node3", "-n", "6", arguments=("1500",))
    assert process.stdout.readline() == "go\n"
    found = until(lambda: pids("node3", victim), f"{victim} on node3")
    time.sleep(0.3)
    os.kill(found[0], signal.SIGKILL)
    status, out, err = ended(process)
    assert status == 0, err
    assert out.split()[-2:] == ["1500", "1024"]
    assert "host node3 is gone" in err
    until(lambda: not pids("node3", "scoop-w0"), "nothing left on node3")


COUNTED = """\
import os, socket, sys, time
from scoop import futures

def work(x):
    with open(LEDGER, "a") as file:
        file.write(f"{x} {socket.gethostname()}\\n")
    time.sleep(0.02)
    return x

def parent(x):
    return sum(futures.map(work, range(10 * x, 10 * x + 10)))

if __name__ == "__main__":
    print("go", flush=True)
    print(sum(futures.map(parent, range(100))), flush=True)
"""


def test_a_host_that_is_told_to_leave_finishes_what_it_runs(launch, until, tmp_path):
    ledger = tmp_path / "ledger"
    options = ("--hosts", "127.0.0.1", "node2", "node3", "-n", "6", "-v")
    process = launch(*options, source=COUNTED.replace("LEDGER", repr(str(ledger))))
    assert process.stdout.readline() == "go\n"
    until(lambda: ledger.exists() and "node3" in ledger.read_text(), "work on node3")
    os.kill(pids("node3", "scoop-agent")[0], signal.SIGTERM)
    status, out, err = ended(process)
    assert (status, out) == (0, f"{sum(range(1000))}\n"), err
    assert "host node3 has left" in err
    assert "node3-" not in err, "no worker there counts as dead"
    lines = ledger.read_text().splitlines()
    assert sorted(int(line.split()[0]) for line in lines) == list(range(1000)), "each task ran once"


def test_ctrl_c(launch, until):
    process = launch("--hosts", "127.0.0.1", "node2", "-n", "4", arguments=("100000",))
    assert process.stdout.readline() == "go\n"
    time.sleep(0.3)
    children = until(lambda: pids_of_origin(), "the origin's process")
    os.kill(children[0], signal.SIGINT)
    _, out, err = ended(process)
    assert (out, err) == ("", "Interrupted\n")
    until(lambda: not left(), "nothing is left anywhere")


def pids_of_origin() -> list[int]:
    """The program's own process: the Python that runs scoop-run in node1."""
    mark = os.readlink(f"/proc/{Path('/run/testbed/node1.pid').read_text().strip()}/ns/pid")
    found = []
    for name in os.listdir("/proc"):
        try:
            words = Path("/proc", name, "cmdline").read_bytes().split(b"\0")
            if b"scoop" in words and b"-m" in words and os.readlink(f"/proc/{name}/ns/pid") == mark:
                found.append(int(name))
        except (OSError, ValueError):
            continue
    return found


def test_a_killed_origin_leaves_nothing(launch, until):
    process = launch("--hosts", "127.0.0.1", "node2", "node3", "-n", "6", arguments=("100000",))
    assert process.stdout.readline() == "go\n"
    for pid in pids_of_origin():
        os.kill(pid, signal.SIGKILL)
    until(lambda: not left(), "nothing is left anywhere", 10.0)
    process.communicate(timeout=END_S)


# ---------------------------------------------------------------------------------------------- refusals

REFUSALS: list[tuple[tuple[str, ...], str]] = [
    (("--hosts", "127.0.0.1", "node99"), "host node99: ssh: Could not resolve hostname"),
    (("--hosts", "127.0.0.1", "10.77.0.77"), "host 10.77.0.77: ssh: connect to host 10.77.0.77"),
    (
        ("--hosts", "127.0.0.1", "node2", "--ssh-executable", "ssh -o GlobalKnownHostsFile=/dev/null"),
        "Host key verification failed",
    ),
    (
        ("--hosts", "127.0.0.1", "node2", "--ssh-executable", "ssh -o PubkeyAuthentication=no"),
        "Permission denied",
    ),
    (
        ("--hosts", "127.0.0.1", "node2", "--ssh-executable", "/no/such/ssh"),
        "host node2: [Errno 2] /no/such/ssh",
    ),
    (("--hosts", "127.0.0.1", "node2", "--python-executable", "/no/python"), "/no/python"),
    (("--hosts", "127.0.0.1", "node2", "-n", "1"), "1 workers for 2 hosts"),
    (("--hosts", "node[2-"), "node[2-"),
    (("--hostfile", "/no/such/file"), "--hostfile /no/such/file: No such file"),
    (("--hosts", "127.0.0.1", "--nice", "much"), "--nice must be a whole number"),
    (("--hosts", "127.0.0.1", "--tunnel"), "--tunnel is not in this version yet"),
]


@pytest.mark.parametrize(("options", "words"), REFUSALS, ids=[str(i) for i in range(len(REFUSALS))])
def test_refusals_name_the_host_and_the_reason(launch, options, words):
    begin = time.monotonic()
    status, out, err = ended(launch(*options, source="raise SystemExit('the program must not run')\n"))
    assert status in (1, 2)
    assert out == ""
    assert words in err
    assert "must not run" not in err
    assert time.monotonic() - begin < 30


@pytest.mark.parametrize("words", [("node2", "node99"), ("node99", "node2")])
def test_missing_hosts_may_be_allowed(launch, words):
    options = ("--hosts", "127.0.0.1", *words, "--allow-missing", "1", "-n", "6")
    status, out, err = ended(launch(*options))
    assert (status, out) == (0, "go\nnode1 node2 600 1024\n")
    assert "host node99 is missing" in err


@pytest.mark.parametrize("example", ["nested_tree.py", "word_count.py", "deap_onemax.py"])
def test_examples_on_many_hosts(hosts, environment, tmp_path, example):
    if example == "deap_onemax.py":
        pytest.importorskip("deap")
    shutil.copy(ROOT / "examples" / example, tmp_path)
    environ: dict[str, Any] = {k: v for k, v in environment.items() if k != "SCOOP_WORKERS"}
    alone, many = (
        subprocess.run(
            [TESTBED / "on-host", "node1", sys.executable, "-m", "scoop", *options, str(tmp_path / example)],
            env=environ,
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=END_S,
            check=False,
        )
        for options in (
            ["--seed", "1", "-n", "2"],
            ["--seed", "1", "--hosts", "127.0.0.1", "node2", "node3", "node4", "-N", "8"],
        )
    )
    assert (alone.returncode, many.returncode) == (0, 0), alone.stderr + many.stderr
    assert many.stdout
    deadline = time.monotonic() + 10
    while left() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not left()
