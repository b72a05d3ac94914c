"""`scoop-run --check`: what it says of hosts that are well, and of those that are not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from scoop import __version__
from scoop.launch.check import Finding
from scoop.launch.hosts import Host
from scoop.launch.plan import Share

pytestmark = pytest.mark.timeout(90)

Check = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def check(environment: dict[str, str], tmp_path: Path) -> Check:
    """Runs `scoop-run --check` with options, and with a program in place of ssh if one is given."""

    def run(*options: str, ssh: str = "") -> subprocess.CompletedProcess[str]:
        if ssh:
            script = tmp_path / "ssh"
            script.write_text("#!/bin/sh\n" + ssh)
            script.chmod(0o755)
            options = (*options, "--ssh-executable", str(script))
        command = [sys.executable, "-m", "scoop", "--check", *options]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=60, check=False
        )

    return run


RUN_THE_LAST_WORD = 'for word; do :; done\nexec /bin/sh -c "$word"\n'


def test_this_host(check: Check) -> None:
    done = check()
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["host", "Python", "scoop", "libzmq", "cores", "round", "trip", "clock"]
    assert lines[1].split()[:3] == ["127.0.0.1", f"3.{sys.version_info[1]}", __version__]
    assert lines[1].endswith("ok")


def test_other_hosts_in_their_order(check: Check) -> None:
    done = check("--hosts", "far1", "far2", "127.0.0.1", ssh=RUN_THE_LAST_WORD)
    assert done.returncode == 0, done.stdout
    names = [line.split()[0] for line in done.stdout.splitlines()]
    assert names == ["host", "127.0.0.1", "far1", "far2"]


def test_what_ssh_says_comes_with_a_remedy(check: Check) -> None:
    done = check("--hosts", "far", ssh='echo "me@far: Permission denied (publickey)." >&2\nexit 255\n')
    assert done.returncode == 1
    assert "far: me@far: Permission denied (publickey)." in done.stdout
    assert "ssh-copy-id far" in done.stdout


def test_a_folder_that_is_missing_there_is_told(check: Check) -> None:
    done = check("--hosts", "far", "--path", "/no/such/folder", ssh=RUN_THE_LAST_WORD)
    assert done.returncode == 0
    assert "far: no folder /no/such/folder" in done.stdout


def test_a_python_that_is_missing_there(check: Check) -> None:
    done = check("--hosts", "far", "--python-executable", "/no/python", ssh=RUN_THE_LAST_WORD)
    assert done.returncode == 1
    assert "far: env:" in done.stdout
    assert "--python-executable" in done.stdout


def test_a_name_that_others_cannot_reach(check: Check) -> None:
    done = check("--hosts", "far", "--broker-hostname", "no.such.invalid", ssh=RUN_THE_LAST_WORD)
    assert done.returncode == 1
    assert "far: TCP does not get from there to no.such.invalid:" in done.stdout
    assert "--tunnel" in done.stdout
    tunnel = check(
        "--hosts", "far", "--broker-hostname", "no.such.invalid", "--tunnel", ssh=RUN_THE_LAST_WORD
    )
    assert tunnel.returncode == 0, tunnel.stdout  # everything goes through ssh then


def test_hosts_that_make_no_sense(check: Check) -> None:
    done = check("--hosts", "node[1-")
    assert (done.returncode, done.stdout) == (1, "")
    assert "node[1-" in done.stderr


PROBLEMS = [
    ("it has scoop 0.9, this host has scoop 1.0", "same versions"),
    ("ModuleNotFoundError: No module named 'scoop'", "pip install scoop"),
    ("ssh: connect to host x port 22: Connection refused", "start sshd"),
    ("Host key verification failed.", "ssh me@far"),
    ("TCP does not get from there to a:1, a port of this host: timed out", "--tunnel"),
    ("something else", ""),
]


@pytest.mark.parametrize(("problem", "words"), PROBLEMS)
def test_remedies(problem: str, words: str) -> None:
    finding = Finding(Share(Host("far", user="me"), False, None))
    finding.problem = problem
    remedy = finding.remedy("/usr/bin/python3")
    assert words in remedy
    assert bool(remedy) == bool(words)
