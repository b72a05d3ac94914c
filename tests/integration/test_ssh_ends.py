"""ssh to a host ends while the host is well: another one takes its place, and the job does not notice."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from testbed import ended, left, namespace_of, pids, pids_of_origin

pytestmark = [pytest.mark.root, pytest.mark.timeout(240)]

OPTIONS = ("--hosts", "127.0.0.1", "node2", "node3", "-n", "6")
FEWER = """\
#!/bin/sh
[ -e {flag} ] && exit 255
exec ssh "$@"
"""


def connections(side: str) -> list[int]:
    """The commands that connect node1 with node3: ssh on the one side, sshd's process for it on the other."""
    host, comm = {"ssh": ("node1", b"ssh"), "sshd": ("node3", b"sshd")}[side]
    space = namespace_of(host)
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path("/proc", entry, "cmdline").read_bytes()
            name = Path("/proc", entry, "comm").read_bytes().strip()
            here = os.readlink(f"/proc/{entry}/ns/pid") == space
        except OSError:
            continue
        if here and name.startswith(comm) and (b"@notty" in words if side == "sshd" else b"node3" in words):
            found.append(int(entry))
    return found


def kill(side: str, until) -> None:
    for pid in until(lambda: connections(side), f"{side} to node3"):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:  # the other one's end was its end
            pass


@pytest.fixture
def unreliable(tmp_path: Path) -> tuple[Path, Path]:
    """An ssh, and the file that keeps it from working as long as it exists."""
    flag, ssh = tmp_path / "down", tmp_path / "ssh-that-fails"
    ssh.write_text(FEWER.format(flag=flag))
    ssh.chmod(0o755)
    return ssh, flag


@pytest.mark.parametrize("side", ["ssh", "sshd"])
def test_another_one_takes_its_place(launch, until, side):
    process = launch(*OPTIONS, arguments=("2000",))
    assert process.stdout.readline() == "go\n"
    workers = until(lambda: pids("node3", "scoop-w1"), "a worker on node3")
    heard: list[str] = []
    for _ in range(2):
        kill(side, until)
        while not heard or "connected again" not in heard[-1]:
            heard.append(process.stderr.readline())
            assert heard[-1], heard
        heard.append("")
    assert pids("node3", "scoop-w1") == workers
    status, out, err = ended(process)
    assert (status, out) == (0, "node1 node2 node3 2000 1024\n"), err
    assert "is gone" not in err + "".join(heard)
    until(lambda: not left(), "nothing is left")


def test_what_happened_meanwhile_is_made_up_for(launch, until, unreliable):
    """A worker dies and a host goes while there is no ssh."""
    ssh, flag = unreliable
    process = launch(*OPTIONS, "--ssh-executable", str(ssh), arguments=("2000",))
    assert process.stdout.readline() == "go\n"
    (worker,) = until(lambda: pids("node3", "scoop-w1"), "a worker on node3")
    (agent,) = pids("node2", "scoop-agent")
    (mine,) = pids("node3", "scoop-agent")
    flag.touch()
    kill("ssh", until)
    until(lambda: "has ended" in process.stderr.readline(), "the loss of the connection")
    os.kill(worker, signal.SIGKILL)
    os.kill(agent, signal.SIGKILL)
    until(lambda: pids("node3", "scoop-w2"), "the dead worker's successor")
    flag.unlink()
    status, out, err = ended(process)
    assert status == 0, err
    assert out.split()[-2:] == ["2000", "1024"]
    assert "host node2 is gone" in err
    assert "host node3 is connected again" in err
    assert mine not in left()
    until(lambda: not left(), "nothing is left")


def test_a_host_that_cannot_be_reached_again_is_lost_and_ends(launch, until, unreliable):
    ssh, flag = unreliable
    process = launch(*OPTIONS, "--ssh-executable", str(ssh), arguments=("2000",), env={"SCOOP_LEASE": "20"})
    assert process.stdout.readline() == "go\n"
    until(lambda: pids("node3", "scoop-w1"), "a worker on node3")
    flag.touch()
    kill("ssh", until)
    status, out, err = ended(process)
    assert status == 0, err
    assert out.split()[-2:] == ["2000", "1024"]
    assert "host node3 is gone" in err
    until(lambda: not left(), "nothing is left on node3", 35.0)


def test_the_program_is_killed_with_its_ssh(launch, until):
    process = launch(*OPTIONS, arguments=("100000",))
    assert process.stdout.readline() == "go\n"
    until(lambda: pids("node3", "scoop-w1"), "a worker on node3")
    for pid in [*connections("ssh"), *pids_of_origin()]:
        os.kill(pid, signal.SIGKILL)
    until(lambda: not left(), "nothing is left", 20.0)
    process.communicate(timeout=10)
