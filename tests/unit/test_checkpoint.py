"""Checkpoint files: what is refused, who may have one, what is left after cuts, damage and a full disk."""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import scoop
from scoop.checkpoint import Log, open_log
from scoop.errors import CheckpointError
from scoop.segmentfile import SegmentFile, open_folder
from scoop.segments import MAGIC, Key, encode

RUN, FUNCTION, OTHER = b"r" * 8, b"f" * 16, b"o" * 16


def key(number: int, function: bytes = FUNCTION, arguments: bytes = b"a") -> Key:
    return Key(RUN, number, function, arguments * 16)


def record(number: int, payload: bytes = b"payload", **more: bytes) -> bytes:
    return encode(key(number, **more), payload)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.ckpt"


@contextmanager
def opened(path: Path) -> Iterator[SegmentFile]:
    file = SegmentFile(str(path), open_folder(str(path.parent)))
    try:
        yield file
    finally:
        file.close()


def stored(path: Path, count: int = 10) -> dict[int, tuple[Key, bytes]]:
    """What a next run finds."""
    with opened(path) as file:
        there = {number: file.at(RUN, number) for number in range(count)}
        return {n: (at[1], file.payload(at[0])) for n, at in there.items() if at is not None}


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


# ------------------------------------------------------------------------------------------------- file


def test_what_is_appended_is_there_next_time(path: Path) -> None:
    with opened(path) as file:
        file.append([record(0, b"zero"), record(1, b"one")])
        file.append([record(2, b"")])
        assert names(path.parent) == ["run.ckpt", "run.ckpt.lock"]
    assert stored(path) == {0: (key(0), b"zero"), 1: (key(1), b"one"), 2: (key(2), b"")}
    assert names(path.parent) == ["run.ckpt"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_cut_at_any_byte_is_survived_and_gone_on_from(path: Path) -> None:
    records = [record(0, b"zero"), record(1, b"one" * 10)]
    whole = MAGIC + b"".join(records)
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        path.chmod(0o600)
        before = stored(path)
        assert list(before) == list(range(sum(size >= end for end in (8 + len(records[0]), len(whole)))))
        with opened(path) as file:
            file.append([record(5, b"new")])
        assert stored(path) == {**before, 5: (key(5), b"new")}, size


def test_replaced_and_damaged_results_go_at_the_next_open(path: Path, caplog: Any) -> None:
    with opened(path) as file:
        file.append([record(n, b"old" * 100) for n in range(4)])
        file.append([record(1, b"new", arguments=b"b"), record(2, b"new", function=OTHER)])
    data = bytearray(path.read_bytes())
    data[data.index(b"oldold")] ^= 1
    path.write_bytes(data)
    expected = {1: (key(1, arguments=b"b"), b"new"), 2: (key(2, OTHER), b"new"), 3: (key(3), b"old" * 100)}
    assert stored(path) == expected
    assert "damaged results, whose items run again: 1" in caplog.text
    live = (
        MAGIC
        + record(3, b"old" * 100)
        + record(1, b"new", arguments=b"b")
        + record(2, b"new", function=OTHER)
    )
    assert path.read_bytes() == live
    with opened(path) as file:
        assert file.of_others(RUN, FUNCTION) == 1
        assert file.of_others(RUN, OTHER) == 2
        assert file.of_others(b"x" * 8, OTHER) == 0
    assert names(path.parent) == ["run.ckpt"]


def test_what_a_dead_compaction_left_is_in_nobodys_way(path: Path) -> None:
    with opened(path) as file:
        file.append([record(1, b"old"), record(1, b"new")])
    (path.parent / ".run.ckpt.new").write_bytes(b"half")
    assert stored(path) == {1: (key(1), b"new")}
    assert names(path.parent) == ["run.ckpt"]


def test_a_file_that_changes_while_it_is_open_is_noticed(path: Path) -> None:
    with opened(path) as file:
        file.append([record(1, b"x" * 100)])
    with opened(path) as file:
        at = file.at(RUN, 1)
        assert at is not None
        os.truncate(path, 100)
        with pytest.raises(CheckpointError, match="was changed while it was in use"):
            file.payload(at[0])


# --------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("content", [b"my thesis", b"scoop", MAGIC[:-1] + b"2" + b"\0" * 100])
def test_another_file_is_refused_and_left_alone(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(0o600)
    if MAGIC.startswith(content):
        assert stored(path) == {}
        return
    with pytest.raises(CheckpointError, match="is not a checkpoint"):
        stored(path)
    assert path.read_bytes() == content
    assert names(path.parent) == ["run.ckpt"]


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_may_write_is_refused(path: Path, mode: int) -> None:
    with opened(path) as file:
        file.append([record(1)])
    path.chmod(mode)
    with pytest.raises(CheckpointError, match=rf"others may write it \(mode 0{mode:o}\).*chmod go-w {path}"):
        stored(path)
    path.chmod(0o644)  # reading is another matter
    assert list(stored(path)) == [1]


@pytest.mark.parametrize("mode", [0o770, 0o703, 0o1777])
def test_a_directory_that_others_may_write_is_refused(path: Path, mode: int) -> None:
    path.parent.chmod(mode)
    with pytest.raises(CheckpointError, match=f"chmod go-w {path.parent}$"):
        stored(path)
    assert names(path.parent) == []
    path.parent.chmod(0o700)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("what", ["file", "directory"])
def test_what_belongs_to_somebody_else_is_refused(path: Path, what: str) -> None:
    path.write_bytes(MAGIC)
    path.chmod(0o600)
    os.chown(path if what == "file" else path.parent, 12345, -1)
    with pytest.raises(CheckpointError, match="belongs to user 12345, not to you"):
        stored(path)


def test_links_and_odd_files_are_refused(path: Path, tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(MAGIC)
    path.symlink_to(tmp_path / "real")
    with pytest.raises(CheckpointError, match="symbolic link"):
        stored(path)
    path.unlink()
    os.mkfifo(path, 0o600)
    with pytest.raises(CheckpointError, match="is not a file"):
        stored(path)


def test_missing_directories(tmp_path: Path) -> None:
    log = open_log(str(tmp_path / "new" / "run.ckpt"))
    log.close()
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
    with pytest.raises(CheckpointError, match="cannot be used: No such file"):
        open_log(str(tmp_path / "a" / "b" / "run.ckpt"))
    with pytest.raises(CheckpointError, match=r"cannot be used: (File exists|Not a directory)"):
        open_log(str(tmp_path / "new" / "run.ckpt" / "x"))
    with pytest.raises(CheckpointError, match="cannot be used: Is a directory"):
        open_log(str(tmp_path / "new"))
    assert names(tmp_path) == ["new"]


# ------------------------------------------------------------------------------------------------- lock

HOLDER = """
import sys, time
from scoop.checkpoint import open_log
log = open_log(sys.argv[1])
print("open", flush=True)
time.sleep(600)
"""


@pytest.fixture
def holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the file open."""
    root = str(Path(scoop.__file__).parent.parent)
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": root},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_second_process_is_refused_until_the_first_is_dead(
    path: Path, holder: subprocess.Popen[str], until: Callable[..., Any]
) -> None:
    with pytest.raises(CheckpointError, match=rf"in use by process {holder.pid} on this host"):
        open_log(str(path))
    os.kill(holder.pid, signal.SIGSTOP)  # stopped is not dead
    with pytest.raises(CheckpointError, match="in use"):
        open_log(str(path))
    os.kill(holder.pid, signal.SIGKILL)
    stat = Path(f"/proc/{holder.pid}/stat")
    until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "Z", "it is dead, and nobody has noticed")
    assert names(path.parent) == ["run.ckpt", "run.ckpt.lock"]
    open_log(str(path)).close()
    assert names(path.parent) == ["run.ckpt"]


def write_lock(path: Path, **fields: Any) -> Path:
    lock = path.with_name("run.ckpt.lock")
    lock.write_text(json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "started": 1, **fields}))
    return lock


def test_a_lock_of_another_host_stands_until_it_is_removed(path: Path) -> None:
    lock = write_lock(path, host="node7", pid=123)
    with pytest.raises(CheckpointError, match=rf"process 123 on host node7.*remove {lock}$"):
        open_log(str(path))
    lock.unlink()
    open_log(str(path)).close()


def test_a_process_id_that_was_used_again_is_no_holder(path: Path) -> None:
    write_lock(path)  # this process, but not its start
    open_log(str(path)).close()
    write_lock(path, pid=1 << 30)
    open_log(str(path)).close()
    assert names(path.parent) == ["run.ckpt"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"host": 1}', '{"host": "a", "pid": "x", "started": 0}'])
def test_a_lock_that_says_nothing_is_refused(path: Path, content: str) -> None:
    path.with_name("run.ckpt.lock").write_text(content)
    with pytest.raises(CheckpointError, match=r"says nothing that makes sense.*remove .*lock$"):
        open_log(str(path))


def test_maps_of_one_process_share_a_file(path: Path) -> None:
    first, second = open_log(str(path)), open_log(str(path.parent / "." / path.name))
    assert first is second
    first.append(key(1), b"one")
    first.close()
    assert path.with_name("run.ckpt.lock").exists()
    second.append(key(2), b"two")
    second.close()
    assert stored(path) == {1: (key(1), b"one"), 2: (key(2), b"two")}


def test_a_forked_child_neither_writes_nor_unlocks(path: Path) -> None:
    log = open_log(str(path))
    log.append(key(1), b"one")
    child = os.fork()
    if not child:
        try:
            log.close()
            os._exit(0 if path.with_name("run.ckpt.lock").exists() else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    log.append(key(2), b"two")
    log.close()
    assert list(stored(path)) == [1, 2]


# -------------------------------------------------------------------------------------------------- log


def test_it_is_on_disk_without_being_asked_for(path: Path, until: Callable[..., Any]) -> None:
    log = open_log(str(path))
    log.append(key(1), b"one")
    until(lambda: path.read_bytes() == MAGIC + record(1, b"one"), "the first result is in the file")
    log.soon(1, lambda: log.append(key(2), b"two"))
    until(lambda: path.read_bytes().endswith(record(2, b"two")), "the second too")
    log.soon(1, lambda: log.append(key(3), b"three"))
    log.close()  # at once
    assert list(stored(path)) == [1, 2, 3]


def test_the_writing_thread_may_be_the_one_that_closes(path: Path) -> None:
    # The collector calls destructors in any thread, and an iterator's destructor closes its log.
    log = open_log(str(path))
    log.soon(1, lambda: log.append(key(1), b"one"))
    log.soon(1, log.close)
    assert log.closed.wait(20)
    assert list(stored(path)) == [1]


def test_threads_that_open_and_close_the_same_file(path: Path) -> None:
    def work(first: int) -> None:
        for number in range(first, 40, 4):
            log = open_log(str(path))
            log.append(key(number), b"x")
            log.close()

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(4)))
    assert sorted(stored(path, 40)) == list(range(40))
    assert names(path.parent) == ["run.ckpt"]


@contextmanager
def at_most(size: int) -> Iterator[None]:
    """Files of this process end at `size` bytes: as a full disk, but one's own."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def told(caplog: Any) -> list[tuple[int, str]]:
    return [(entry.levelno, entry.getMessage()) for entry in caplog.records]


def fill(log: Log) -> None:
    log.append(key(1), b"small")
    log.flush()
    log.append(key(2), b"x" * 5000)
    for _ in range(3):
        log.flush()


def test_a_full_disk_is_told_twice_and_leaves_what_was_there(path: Path, caplog: Any) -> None:
    with at_most(4096):
        log = open_log(str(path))
        fill(log)
        log.append(key(3), b"more")
        log.close()
    (first, warning), (second, error) = told(caplog)
    assert (first, second) == (logging.WARNING, logging.ERROR)
    assert "results cannot be kept: File too large; the map goes on and returns them all" in warning
    assert "results that are not in it: 2 (File too large)" in error
    assert path.read_bytes() == MAGIC + record(1, b"small")
    assert list(stored(path)) == [1]


def test_when_there_is_room_again_everything_is_written(path: Path, caplog: Any) -> None:
    log = open_log(str(path))
    with at_most(4096):
        fill(log)
    log.append(key(3), b"more")
    log.close()
    assert [level for level, _ in told(caplog)] == [logging.WARNING]
    assert list(stored(path)) == [1, 2, 3]


def test_what_waits_for_a_full_disk_is_bounded(path: Path, caplog: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("scoop.checkpoint.WAITING_BYTES_MAX", 20_000)
    log = open_log(str(path))
    with at_most(4096):
        fill(log)
        for number in range(3, 10):
            log.append(key(number), b"x" * 5000)
    log.close()
    assert "results that are not in it: 5;" in told(caplog)[-1][1]
    assert list(stored(path)) == [1, 2, 3, 4]


def test_a_disk_that_is_slow_only_holds_up_whoever_is_too_fast(path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("scoop.checkpoint.WAITING_BYTES_MAX", 1000)
    log = open_log(str(path))
    for number in range(10):
        log.append(key(number), b"x" * 600)
        assert log._waiting_bytes <= 1000
    log.close()
    assert list(stored(path)) == list(range(10))


def test_compaction_without_room_keeps_the_old_file(path: Path) -> None:
    with opened(path) as file:
        file.append([record(1, b"x" * 3000), record(1, b"y" * 3000), record(2, b"z" * 3000)])
    with at_most(4096):
        assert list(stored(path)) == [1, 2]
    assert path.stat().st_size > 9000
    assert stored(path)[1][1] == b"y" * 3000
    assert path.stat().st_size < 9000
    assert names(path.parent) == ["run.ckpt"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a file system")
def test_a_file_system_that_is_full(tmp_path: Path, caplog: Any) -> None:
    folder = tmp_path / "small"
    folder.mkdir(mode=0o700)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "none", str(folder)],
        check=False,
        capture_output=True,
    )
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted: {mounted.stderr.decode().strip()}")
    try:
        log = open_log(str(folder / "run.ckpt"))
        log.append(key(1), b"small")
        log.flush()
        log.append(key(2), b"x" * 100_000)
        log.close()
        assert "No space left on device" in told(caplog)[0][1]
        assert list(stored(folder / "run.ckpt")) == [1]
    finally:
        subprocess.run(["umount", str(folder)], check=True)
