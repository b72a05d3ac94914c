"""`scoop-run --tunnel`: everything through ssh, on real hosts (the testbed beside the checkout)."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
from testbed import TESTBED, ended, left, pids, pids_of_origin

pytestmark = [pytest.mark.root, pytest.mark.timeout(180)]

ALL = ("--tunnel", "--hosts", "127.0.0.1", "node2", "node3", "node4", "-n", "8")
LISTEN = "0A"


def listening(host: str) -> list[int]:
    """The TCP ports on which somebody listens in a host."""
    pid = Path(f"/run/testbed/{host}.pid").read_text().strip()
    rows = [
        line.split()
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]
    ]
    return sorted({int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == LISTEN})


def masters() -> list[int]:
    """Processes of ssh that hold a tunnel."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if b"ControlMaster=yes" in Path("/proc", name, "cmdline").read_bytes().split(b"\0"):
                found.append(int(name))
        except OSError:
            continue
    return found


def test_all_hosts_work_and_no_port_is_open(launch, until, hosts):
    process = launch(*ALL, arguments=("2000",))
    assert process.stdout.readline() == "go\n"
    until(lambda: pids("node4", "scoop-broker"), "a broker on node4")
    assert {port for host in hosts for port in listening(host)} == {22}, "only sshd listens"
    status, out, err = ended(process)
    assert (status, out, err) == (0, "node1 node2 node3 node4 2000 1024\n", "")
    assert not masters()


def test_a_lost_tunnel_costs_time_only(launch, until):
    process = launch(*ALL, arguments=("2500",))
    assert process.stdout.readline() == "go\n"
    until(lambda: len(masters()) == 3, "three tunnels")
    os.kill(masters()[1], signal.SIGKILL)
    status, out, err = ended(process)
    assert status == 0, err
    assert out.split()[-2:] == ["2500", "1024"]
    assert "is gone, and its workers with it" in err


def test_a_killed_origin_leaves_nothing(launch, until):
    process = launch(*ALL, arguments=("100000",))
    assert process.stdout.readline() == "go\n"
    for pid in pids_of_origin():
        os.kill(pid, signal.SIGKILL)
    until(lambda: not left() and not masters(), "no process is left", 15.0)
    ended(process)


def test_a_command_that_is_no_ssh_is_refused(launch):
    status, out, err = ended(launch(*ALL, "--ssh-executable", "/bin/false"))
    assert status == 1
    assert out == ""
    assert "host node2: " in err


def test_an_sshd_that_does_not_forward_is_named(launch, hosts):
    config = Path("/etc/netns/node2/ssh/sshd_config")
    before = config.read_text()
    try:
        config.write_text("AllowStreamLocalForwarding no\n" + before)
        subprocess.run([TESTBED / "on-host", "node2", "kill", "-HUP", "1"], check=True, timeout=20)
        status, out, err = ended(launch(*ALL))
    finally:
        config.write_text(before)
        subprocess.run([TESTBED / "on-host", "node2", "kill", "-HUP", "1"], check=True, timeout=20)
    assert (status, out) == (1, "")
    assert "host node2: ssh does not forward Unix sockets" in err
    assert "AllowStreamLocalForwarding" in err
