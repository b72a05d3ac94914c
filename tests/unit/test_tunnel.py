"""What `--tunnel` asks of ssh, and how a host that is cut off is told by its kernel's tables."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest

from scoop.errors import StartupFailed
from scoop.launch.hosts import Host
from scoop.launch.sshlink import SshLink, _hex
from scoop.launch.tunnel import Tunnel, listening, without_chatter


@pytest.fixture
def tunnel():
    made = Tunnel(["ssh"])
    yield made
    made.close()


def a_host(number: int, local: bool = False, folder: str = "/run/there"):
    address, meta = listening(folder)
    share = SimpleNamespace(host=Host(f"node{number}"), local=local)
    return SimpleNamespace(
        number=number, share=share, broker={"number": number, "address": address, "meta": meta}
    )


# ---------------------------------------------------------------------------------------------- the tunnel


def test_nothing_is_made_before_it_is_needed():
    tunnel = Tunnel(["ssh"])
    tunnel.close()
    assert not os.listdir(os.environ["XDG_RUNTIME_DIR"])


def test_each_host_sees_the_others_in_its_own_folder(tunnel):
    peers = [a_host(1, True, "/run/here").broker, a_host(2).broker, a_host(3).broker]
    seen = tunnel.seen_from(a_host(2, folder="/run/two"), peers)
    assert [peer["address"] for peer in seen] == [
        "ipc:///run/two/1-door",
        "ipc:///run/there/door",
        "ipc:///run/two/3-door",
    ]
    assert seen[2]["meta"] == "ipc:///run/two/3-meta"
    here = tunnel.seen_from(a_host(1, True, "/run/here"), peers)
    assert here[0]["address"] == "ipc:///run/here/door"
    assert here[1]["address"] == f"ipc://{tunnel.folder}/2-door"


def test_this_host_needs_no_ssh(tunnel):
    here = a_host(1, True, "/run/here")
    assert tunnel.join(here, here.broker, [1, 2]) == ""
    assert os.readlink(f"{tunnel.folder}/1-door") == "/run/here/door"


@pytest.mark.parametrize("name", ["a:b", "a b", "a%b", "\N{LATIN SMALL LETTER A WITH DIAERESIS}"])
def test_a_folder_that_ssh_would_misread_is_refused(name, monkeypatch):
    parent = os.path.join(os.environ["XDG_RUNTIME_DIR"], name)
    os.mkdir(parent, 0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", parent)
    with pytest.raises(StartupFailed, match="set XDG_RUNTIME_DIR"):
        Tunnel(["ssh"]).options(2)
    os.rmdir(parent)  # it is empty


def test_so_is_one_on_another_host(tunnel):
    there = a_host(2, folder="/run/a b")
    assert "set XDG_RUNTIME_DIR there" in tunnel.join(there, there.broker, [1, 2])


def test_a_command_without_a_control_socket_is_no_ssh(tunnel):
    there = a_host(2)
    assert tunnel.join(there, there.broker, [1, 2]).startswith("ssh has made no control socket")


def test_only_what_ssh_says_of_forwarded_connections_is_dropped():
    chatter = b"connect to /run/x/3-meta port -2 failed: Connection refused\r\n"
    other = b"channel 7: open failed: connect failed: open failed\r\n"
    said = b"node2: connect to the printer\nTraceback\n"
    assert without_chatter(chatter + said + other + chatter) == said


# ----------------------------------------------------------------------------------- the connection to a host

V4 = {"SSH_CONNECTION": "10.77.0.1 40000 10.77.0.3 22"}
LEASE_S = 20.0


def row(here: str, there: str, repeats: int) -> str:
    return f"  3: {here} {there} 01 00000040:00000000 01:00000014 {repeats:08X}     0        0 4711 2 0\n"


def ends(environ: dict[str, str], which: int = 0) -> tuple[str, str]:
    there, its_port, here, port = environ["SSH_CONNECTION"].split()
    return f"{_hex(here)[which]}:{int(port):04X}", f"{_hex(there)[which]}:{int(its_port):04X}"


@pytest.mark.parametrize(
    ("connection", "which"),
    [
        ("10.77.0.1 40000 10.77.0.3 22", 0),
        ("10.77.0.1 40000 10.77.0.3 22", 1),
        ("fe80::1%eth0 40000 fe80::2%eth0 22", 0),
    ],
    ids=["v4", "v4 on a v6 socket", "v6"],
)
def test_a_host_is_silent_when_the_kernel_has_repeated_itself_for_the_lease(connection, which):
    environ = {"SSH_CONNECTION": connection}
    link = SshLink(LEASE_S, environ)
    repeating = row(*ends(environ, which), 3)
    assert not link.is_silent(100.0, iter([repeating]))
    assert not link.is_silent(100.0 + LEASE_S - 1, iter([repeating]))
    assert link.is_silent(100.0 + LEASE_S, iter([repeating]))


def test_an_answer_begins_the_lease_again():
    link = SshLink(LEASE_S, V4)
    assert not link.is_silent(0.0, iter([row(*ends(V4), 5)]))
    assert not link.is_silent(15.0, iter([row(*ends(V4), 1)]))
    assert not link.is_silent(25.0, iter([row(*ends(V4), 5)]))
    assert not link.is_silent(40.0, iter([row(*ends(V4), 6)]))
    assert link.is_silent(45.0, iter([row(*ends(V4), 6)]))


@pytest.mark.parametrize("said", ["", "10.77.0.1 40000", "node1 40000 node3 22", "10.77.0.1 x 10.77.0.3 22"])
def test_without_word_of_the_connection_nothing_is_found(said):
    link = SshLink(0.0, {"SSH_CONNECTION": said})
    assert not link.is_silent(0.0, iter([row(*ends(V4), 9)]))


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_the_kernel_writes_its_tables_so(family):
    address = "127.0.0.1" if family == socket.AF_INET else "::1"
    with socket.socket(family) as listener:
        try:
            listener.bind((address, 0))
        except OSError:
            pytest.skip(f"this host has no {address}")
        listener.listen()
        with socket.create_connection(listener.getsockname()[:2]) as there, listener.accept()[0] as here:
            mine = f"{address} {there.getsockname()[1]} {address} {here.getsockname()[1]}"
            link = SshLink(0.0, {"SSH_CONNECTION": mine})
            tables = [
                line.split()
                for name in ("tcp", "tcp6")
                for line in Path("/proc/net", name).read_text().splitlines()[1:]
            ]
            assert [words for words in tables if (words[1], words[2]) in link._ends]
            assert not link.is_silent(0.0)
