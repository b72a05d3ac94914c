"""`scoop-run --tunnel`: everything through ssh, on real hosts (the testbed beside the checkout)."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from testbed import TESTBED, ended, left, pids, pids_of_origin

pytestmark = [pytest.mark.root, pytest.mark.timeout(180)]

ALL = ("--tunnel", "--hosts", "127.0.0.1", "node2", "node3", "node4", "-n", "8")
LISTEN = "0A"


def table(host: str, name: str) -> list[list[str]]:
    """A table of the kernel of a host about its sockets, without the line with the columns' names."""
    pid = Path(f"/run/testbed/{host}.pid").read_text().strip()
    return [line.split() for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]]


def listening(host: str) -> list[int]:
    """The TCP ports on which somebody listens in a host."""
    rows = [*table(host, "tcp"), *table(host, "tcp6")]
    return sorted({int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == LISTEN})


def folders(hosts: tuple[str, ...]) -> set[Path]:
    """The folders of the Unix sockets that scoop has on the hosts, ssh's included."""
    paths = [Path(row[7]) for host in hosts for row in table(host, "unix") if len(row) > 7]
    return {path.parent for path in paths if path.parent.name.startswith("scoop-")}


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


def is_clean(used: set[Path]) -> bool:
    """Whether neither a process nor a folder is left anywhere."""
    return not left() and not masters() and not any(path.exists() for path in used)


@pytest.fixture
def sshd(hosts: tuple[str, ...]) -> Iterator[Callable[[str], None]]:
    """`sshd("AllowTcpForwarding no")`: node2's has this line in its configuration until the test ends."""
    config = Path("/etc/netns/node2/ssh/sshd_config")
    before = config.read_text()

    def take(text: str) -> None:
        config.write_text(text)
        subprocess.run([TESTBED / "on-host", "node2", "kill", "-HUP", "1"], check=True, timeout=20)

    yield lambda line: take(f"{line}\n{before}")
    take(before)


def test_all_hosts_work_and_no_port_is_open(launch, until, hosts):
    process = launch(*ALL, arguments=("2000",))
    assert process.stdout.readline() == "go\n"
    until(lambda: pids("node4", "scoop-broker"), "a broker on node4")
    assert {port for host in hosts for port in listening(host)} == {22}, "only sshd listens"
    used = folders(hosts)
    assert len(used) == 5, "one on each host, and ssh's here"
    assert {path.stat().st_mode & 0o777 for path in used} == {0o700}
    status, out, err = ended(process)
    assert (status, out, err) == (0, "node1 node2 node3 node4 2000 1024\n", "")
    assert is_clean(used)


# ------------------------------------------------------------------------------------------------- faults


def test_a_lost_tunnel_costs_time_only(launch, until):
    process = launch(*ALL, arguments=("2500",))
    assert process.stdout.readline() == "go\n"
    until(lambda: len(masters()) == 3, "three tunnels")
    os.kill(masters()[1], signal.SIGKILL)
    status, out, err = ended(process)
    assert status == 0, err
    assert out.split()[-2:] == ["2500", "1024"]
    assert "is gone, and its workers with it" in err


def test_a_lost_agent_is_noticed_and_ssh_does_not_chatter(launch, until):
    process = launch(*ALL, arguments=("2500",))
    assert process.stdout.readline() == "go\n"
    os.kill(until(lambda: pids("node3", "scoop-agent"), "the agent of node3")[0], signal.SIGKILL)
    until(lambda: len(masters()) == 2, "its tunnel ends with it")
    status, out, err = ended(process)
    assert status == 0, err
    # The shell there has its say, too.
    assert err.replace("Killed\n", "") == "host node3 is gone, and its workers with it\n"
    assert out.split()[-2:] == ["2500", "1024"]


def test_ctrl_c(launch, until, hosts):
    process = launch(*ALL, arguments=("100000",))
    assert process.stdout.readline() == "go\n"
    until(lambda: pids("node4", "scoop-w1"), "a worker on node4")
    used = folders(hosts)
    os.kill(pids_of_origin()[0], signal.SIGINT)
    _, out, err = ended(process)
    assert (out, err) == ("", "Interrupted\n")
    until(lambda: is_clean(used), "nothing is left")


def test_a_killed_origin_leaves_nothing(launch, until, hosts):
    process = launch(*ALL, arguments=("100000",))
    assert process.stdout.readline() == "go\n"
    used = folders(hosts)
    for pid in pids_of_origin():
        os.kill(pid, signal.SIGKILL)
    until(lambda: is_clean(used), "nothing is left", 15.0)
    ended(process)


# ----------------------------------------------------------------------------------------------- refusals

NO_SSH = """\
#!/bin/sh
for word; do last=$word; done
exec /bin/sh -c "$last"
"""


def test_a_command_that_fails_is_named(launch):
    status, out, err = ended(launch(*ALL, "--ssh-executable", "/bin/false"))
    assert (status, out) == (1, "")
    assert "host node2: " in err


def test_a_command_that_starts_agents_but_is_no_ssh_is_refused(launch, tmp_path):
    command = tmp_path / "no-ssh"
    command.write_text(NO_SSH)
    command.chmod(0o755)
    status, out, err = ended(
        launch("--tunnel", "--hosts", "127.0.0.1", "node2", "--ssh-executable", str(command))
    )
    assert (status, out) == (1, "")
    assert f"host node2: {command} has made no control socket" in err


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("AllowStreamLocalForwarding no", "remote port forwarding failed"),
        ("AllowTcpForwarding no", "remote port forwarding failed"),
        ("AllowStreamLocalForwarding remote", "its sshd closed the way to its broker"),
    ],
)
def test_an_sshd_that_does_not_forward_is_named(launch, sshd, line, why):
    sshd(line)
    status, out, err = ended(launch(*ALL))
    assert (status, out) == (1, "")
    assert err.startswith("scoop-run: host node2: ssh does not forward Unix sockets: ")
    assert why in err
    assert len(err.splitlines()) == 1
    assert "AllowStreamLocalForwarding and AllowTcpForwarding" in err
    assert not masters()


def test_a_host_that_does_not_forward_may_be_missing(launch, sshd):
    sshd("AllowStreamLocalForwarding no")
    status, out, err = ended(
        launch("--tunnel", "--hosts", "127.0.0.1", "node2", "node3", "-n", "6", "--allow-missing", "1")
    )
    assert (status, out) == (0, "go\nnode1 node3 600 1024\n")
    assert "host node2 is missing: ssh does not forward Unix sockets" in err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--broker-hostname", "me"), "leave --broker-hostname out"),
        (("-b", "2"), "--tunnel opens no port"),
        (("--allow-missing", "much"), "--allow-missing must be a whole number"),
    ],
)
def test_what_makes_no_sense_with_it_leaves_nothing(launch, options, words):
    status, out, err = ended(launch(*ALL, *options))
    assert (status, out) == (1, "")
    assert words in err


def test_check_asks_nothing_of_the_ports_between_the_hosts(launch):
    status, out, err = ended(launch(*ALL, "--check"))
    assert (status, err) == (0, "")
    assert [line.split()[-1] for line in out.splitlines()[1:]] == ["ok"] * 4
