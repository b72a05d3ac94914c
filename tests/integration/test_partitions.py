"""Hosts that lose power or are cut off, on real hosts: nothing hangs, nothing is left, answers stay right."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator

import pytest
from testbed import TESTBED, ended, left, pids, run

pytestmark = [pytest.mark.root, pytest.mark.timeout(240)]

OPTIONS = ("--hosts", "127.0.0.1", "node2", "node3", "-n", "6")
# sshd and scoop of a host that lost power are gone at once; one that is cut off has to find out by itself.
LEASE_S = "20"


@pytest.fixture
def fault(hosts) -> Iterator[object]:
    """`fault("isolate", "node3")`; healed at the end."""

    def inject(*words: str) -> None:
        subprocess.run([TESTBED / "net-fault", *words], check=True, timeout=30, capture_output=True)

    yield inject
    inject("heal")


def test_power_off(launch, until, fault):
    process = launch(*OPTIONS, arguments=("2500",))
    assert process.stdout.readline() == "go\n"
    until(lambda: pids("node3", "scoop-w1"), "a worker on node3")
    time.sleep(0.5)  # it is at work then, or not: either must end well
    fault("crash", "node3")
    try:
        status, out, err = ended(process)
        assert status == 0, err
        assert out.split()[-2:] == ["2500", "1024"]
        assert "host node3" in err
    finally:
        run("host-boot", "node3")


def deafen(host: str) -> None:
    """What is sent to a host is dropped in the switch, what it sends arrives; `net-fault heal` ends it."""
    rules = f"""\
add table netdev fault
add chain netdev fault {host} {{ type filter hook egress device "{host}" priority 0; }}
add rule netdev fault {host} meta protocol ip drop comment "{host}"
"""
    command = ["ip", "netns", "exec", "tbswitch", "nft", "-f", "-"]
    subprocess.run(command, input=rules, text=True, check=True, timeout=30, capture_output=True)


@pytest.mark.parametrize(
    ("way", "one_way"),
    [((), False), (("--tunnel",), False), ((), True)],
    ids=["tcp", "tunnel", "one-way"],
)
def test_a_host_that_is_cut_off(launch, until, fault, way, one_way):
    process = launch(*way, *OPTIONS, "-v", arguments=("2500",), env={"SCOOP_LEASE": LEASE_S})
    assert process.stdout.readline() == "go\n"
    until(lambda: pids("node3", "scoop-w1"), "a worker on node3")
    time.sleep(0.5)
    begin = time.monotonic()
    if one_way:
        deafen("node3")
    else:
        fault("isolate", "node3")
    status, out, err = ended(process)
    assert status == 0, err
    assert out.split()[-2:] == ["2500", "1024"]
    assert "host node3" in err
    # The other side ends by itself, with nobody who could tell it to.
    until(lambda: not left(), "nothing is left on node3", 60.0)
    assert time.monotonic() - begin < 90
