"""The broker as a process: a worker and an origin that connect to it by themselves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(60)

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="sb-", dir="/tmp") as name:
        yield Path(name)


def broker(environment: dict[str, str], *arguments: str, **env: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "scoop.broker", *arguments],
        env={**environment, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def refusal(environment: dict[str, str], *arguments: str, **env: str) -> str:
    process = broker(environment, *arguments, **env)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (2, "")
    return err


def test_a_job_by_hand(environment: dict[str, str], start: Start, folder: Path) -> None:
    address = f"ipc://{folder}/b"
    process = broker(environment, BROKER_ADDRESS=address)
    try:
        assert process.stdout is not None
        assert "listens at" in process.stdout.readline()
        workers = [start("by_hand.py", "worker", address)]
        origin = start("by_hand.py", "origin", address)
        out, err = origin.communicate(timeout=40)
        assert (origin.returncode, out) == (0, "1\n"), err
        assert f"{address}: another broker listens there" in refusal(environment, "--address", address)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
        assert process.returncode == 0
        assert os.listdir(folder) == []
        for worker in workers:
            worker.kill()
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def test_tcp_addresses_that_make_no_sense_are_refused(environment: dict[str, str]) -> None:
    assert "no address for a broker" in refusal(environment, "--address", "tcp://127.0.0.1")
    assert "there is one for each" in refusal(
        environment, "--peers=tcp://a:1,tcp://b:1", "--meta-peers=tcp://a:2"
    )


def test_places_that_others_can_reach_are_refused(environment: dict[str, str], folder: Path) -> None:
    folder.chmod(0o755)
    assert "nobody else can use" in refusal(environment, f"--address=ipc://{folder}/b")
    assert "No such file" in refusal(environment, f"--address=ipc://{folder}/none/b")
    assert "no address for a broker" in refusal(environment, "--address=inproc://x")


def test_limits_of_the_address(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    from scoop.broker import AddressError, check_address

    assert check_address(f"ipc://{folder}/b") == f"{folder}/b"
    with pytest.raises(AddressError, match="107 bytes"):
        check_address(f"ipc://{folder}/{'b' * 100}")
    other: Any = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: other)
    with pytest.raises(AddressError, match="of your own"):
        check_address(f"ipc://{folder}/b")
