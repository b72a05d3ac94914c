"""Hosts made of network namespaces, from the testbed beside the checkout; and what runs on them."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator

from bench import launch
from bench.harness import Param

FOLDER = launch.ROOT.parent / "shared" / "testbed"
HOSTS = Param(4, 17)
NETWORK = "10.77.0"


class Missing(Exception):
    """There can be no testbed here; the text says why."""


@contextlib.contextmanager
def up(count: int) -> Iterator[None]:
    """Bring hosts up, and down again at the end, whatever happens.

    Raises:
        Missing: that is not possible.
    """
    if os.geteuid() != 0:
        raise Missing("hosts are made of network namespaces, which need root")
    if not (FOLDER / "hosts-up").exists():
        raise Missing(f"there is no testbed at {FOLDER}")
    try:
        for words in (["deps", "hosts"], ["hosts-up", str(count)]):
            done = subprocess.run(
                [FOLDER / words[0], *words[1:]], capture_output=True, text=True, timeout=300, check=False
            )
            if done.returncode:
                raise Missing(f"{words[0]}: {done.stderr.strip()[-300:]}")
        yield
    finally:
        subprocess.run([FOLDER / "hosts-down"], capture_output=True, timeout=60, check=False)


def on(host: int, *command: str) -> list[str]:
    """The command that runs another one on a host."""
    return [str(FOLDER / "on-host"), name(host), *command]


def name(host: int) -> str:
    """A host's name."""
    return f"node{host}"


def address(host: int) -> str:
    """A host's address."""
    return f"{NETWORK}.{host}"


def namespace(host: int) -> str:
    """The file of a host's network namespace."""
    return f"/run/netns/{name(host)}"


def doors(host: int) -> list[int]:
    """The ports at which the broker of a host listens."""
    # Of all that listens there only sshd is not ours.
    found = subprocess.run(
        on(host, "cat", "/proc/net/tcp"), capture_output=True, text=True, check=True
    ).stdout
    fields = [line.split() for line in found.splitlines()[1:]]
    return sorted({int(field[1].partition(":")[2], 16) for field in fields if field[3] == "0A"} - {22})
