"""Jobs on several hosts: real sshd on hosts made of network namespaces (the testbed beside the checkout)."""

from __future__ import annotations

import os
import pstats
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from testbed import TESTBED, ended, left, pids, pids_of_origin

ROOT = Path(__file__).resolve().parents[2]
END_S = 60

pytestmark = [pytest.mark.root, pytest.mark.timeout(180)]


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


@pytest.mark.parametrize("brokers", ["1", "2"])
def test_fewer_brokers_than_hosts(launch, until, brokers):
    options = ("--hosts", "127.0.0.1", "node2", "node3", "node4", "-n", "8", "-b", brokers)
    process = launch(*options, arguments=("1500",))
    assert process.stdout.readline() == "go\n"
    found = until(
        lambda: len(pids("node4", "scoop-w0")) == 1 and pids("node4", "scoop-w1"), "workers on node4"
    )
    assert [bool(pids(f"node{n}", "scoop-broker")) for n in (1, 2, 3, 4)] == [
        True,
        brokers == "2",
        False,
        False,
    ]
    os.kill(found[0], signal.SIGKILL)  # its successor is let in by the broker elsewhere
    until(lambda: pids("node4", "scoop-w2"), "its successor")
    status, out, err = ended(process)
    assert (status, out) == (0, "node1 node2 node3 node4 1500 1024\n"), err
    assert "worker node4-1" in err


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


def test_a_lost_host_costs_time_only(launch, until):
    process = launch("--hosts", "127.0.0.1", "node2", "node3", "-n", "6", arguments=("1500",))
    assert process.stdout.readline() == "go\n"
    found = until(lambda: pids("node3", "scoop-agent"), "the agent on node3")
    time.sleep(0.3)
    os.kill(found[0], signal.SIGKILL)
    status, out, err = ended(process)
    assert status == 0, err
    assert out.split()[-2:] == ["1500", "1024"]
    assert "host node3 is gone" in err
    until(lambda: not pids("node3", "scoop-w0"), "nothing left on node3")


@pytest.mark.parametrize("host", ["node1", "node3"])
def test_a_broker_that_dies_is_followed_by_another_one(launch, until, host):
    process = launch("--hosts", "127.0.0.1", "node2", "node3", "-n", "6", arguments=("1500",))
    assert process.stdout.readline() == "go\n"
    for _ in range(2):
        found = until(lambda: pids(host, "scoop-broker"), f"the broker on {host}")
        time.sleep(0.3)  # tasks are on their way, or not: either must end well
        os.kill(found[0], signal.SIGKILL)
        until(lambda before=found: pids(host, "scoop-broker") not in ([], before), "its successor")
    status, out, err = ended(process)
    assert (status, out) == (0, "node1 node2 node3 1500 1024\n"), err
    assert err.count("ended with signal 9; it is started again") == 2
    assert "is gone" not in err


def test_the_agent_of_the_first_host_is_followed_by_another_one(launch, until):
    process = launch("--hosts", "127.0.0.1", "node2", "-n", "4", arguments=("1500",))
    assert process.stdout.readline() == "go\n"
    found = until(lambda: pids("node1", "scoop-agent"), "the agent")
    time.sleep(0.3)  # tasks are on their way, or not: either must end well
    os.kill(found[0], signal.SIGKILL)
    until(lambda: pids("node1", "scoop-agent") not in ([], found), "its successor")
    status, out, err = ended(process)
    assert (status, out) == (0, "node1 node2 1500 1024\n"), err
    assert "the agent of this host is started again" in err


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


def test_a_killed_origin_leaves_nothing(launch, until):
    process = launch("--hosts", "127.0.0.1", "node2", "node3", "-n", "6", arguments=("100000",))
    assert process.stdout.readline() == "go\n"
    for pid in pids_of_origin():
        os.kill(pid, signal.SIGKILL)
    until(lambda: not left(), "nothing is left anywhere", 10.0)
    process.communicate(timeout=END_S)


def test_what_check_says_of_real_hosts(launch):
    status, out, err = ended(launch("--check", "--hosts", "127.0.0.1", "node2", "node3"))
    assert (status, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()] == ["host", "127.0.0.1", "node2", "node3"]
    assert all(line.endswith("ok") for line in out.splitlines()[1:])
    status, out, err = ended(launch("--check", "--hosts", "node2", "node99"))
    assert (status, err) == (1, "")
    assert "node99: ssh: Could not resolve hostname" in out
    assert "correct its name" in out


def test_a_profile_of_each_process_of_each_host(launch, tmp_path):
    folder = tmp_path / "profiles"
    hosts = ("--hosts", "127.0.0.1", "node2", "node3")
    status, out, err = ended(launch(*hosts, "-n", "6", "--profile", "profiles"))
    assert (status, out, err) == (0, "go\nnode1 node2 node3 600 1024\n", "")
    names = {f"{host}-{name}.prof" for host in ("node2", "node3") for name in ("w0", "w1")}
    assert {path.name for path in folder.iterdir()} == {"node1-origin.prof", "node1-w0.prof", *names}
    found = pstats.Stats(*(str(path) for path in folder.iterdir())).stats.items()
    assert sum(counts[1] for (_, _, name), counts in found if name == "where") == 600


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
    (("--hosts", "127.0.0.1", "node2", "-b", "3"), "-b 3: there are 2 hosts"),
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


HELD = """\
import os, sys, time
from scoop import futures

def hold(folder):
    while not os.path.exists(os.path.join(folder, "go")):
        time.sleep(0.01)

if __name__ == "__main__":
    print("go", flush=True)
    list(futures.map(hold, [sys.argv[1]] * 6))
"""


def test_a_job_that_is_asked_what_it_does(launch, environment, until, tmp_path):
    options = ("--hosts", "127.0.0.1*2", "node2*2", "--origin-idle")
    said = {"SCOOP_STOPPED_AFTER": "0.2"}
    process = launch(*options, source=HELD, arguments=(str(tmp_path),), env=said)
    assert process.stdout.readline() == "go\n"

    def shown(*texts, times=1):
        command = [TESTBED / "on-host", "node1", sys.executable, "-m", "scoop", "--explain"]
        done = subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False
        )
        return done.stdout if all(done.stdout.count(text) >= times for text in texts) else ""

    report = until(lambda: shown("hold for ", times=3), "tasks on both hosts")
    assert report.count("\n  host 127.0.0.1: 1 worker\n") == 1, report  # though two agents can be asked here
    assert "\n  host node2: 2 workers\n" in report
    assert "3 calls wait for a free worker: all 3 are in use" in report, report
    worker = pids("node2", "scoop-w1")[0]
    os.kill(worker, signal.SIGSTOP)
    assert process.stderr.readline().startswith("worker node2-1 (process ")
    os.kill(worker, signal.SIGCONT)
    assert "goes on, after " in process.stderr.readline()
    agent, broker = pids("node2", "scoop-agent")[0], pids("node2", "scoop-broker")[0]
    os.kill(broker, signal.SIGSTOP)
    until(lambda: shown("the broker of node2 (process "), "the stopped broker")
    os.kill(broker, signal.SIGCONT)
    os.kill(agent, signal.SIGSTOP)
    until(lambda: shown("host node2: its agent has not answered for 1 s"), "the silent agent")
    os.kill(agent, signal.SIGCONT)
    (tmp_path / "go").touch()
    status, _, err = ended(process)
    assert status == 0, err
