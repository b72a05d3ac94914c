"""Private directories: where, how safe, and what becomes of those whose owner died."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scoop.launch import rundir
from scoop.launch.rundir import RunDirError, make_run_dir, make_segment_dir, remove_run_dir, sweep_stale


@pytest.fixture
def parent() -> Iterator[Path]:
    """A directory with a short path, as XDG_RUNTIME_DIR has."""
    path = Path("/tmp", f"sc{os.urandom(4).hex()}")
    path.mkdir(mode=0o700)
    yield path
    for made in [*path.glob("scoop-*")]:
        remove_run_dir(str(made))
    rundir._remove_contents(str(path))
    assert not path.exists()


def mode(path: str | Path) -> int:
    return stat.S_IMODE(os.lstat(path).st_mode)


def test_first_choice(parent: Path) -> None:
    made = make_run_dir(environ={"XDG_RUNTIME_DIR": str(parent), "TMPDIR": "/tmp"})
    assert Path(made).parent == parent
    assert Path(made).name.startswith(f"scoop-{os.getuid()}-")
    assert mode(made) == 0o700
    assert [entry.name for entry in parent.iterdir()] == [Path(made).name]


def test_odd_umask(parent: Path) -> None:
    before = os.umask(0o277)
    try:
        made = make_run_dir(environ={"XDG_RUNTIME_DIR": str(parent)})
    finally:
        os.umask(before)
    assert mode(made) == 0o700


@pytest.mark.parametrize("environ", [{}, {"XDG_RUNTIME_DIR": "/nonexistent"}, {"TMPDIR": "relative"}])
def test_last_choice(environ: dict[str, str]) -> None:
    made = make_run_dir(environ=environ)
    try:
        assert os.path.dirname(made) == "/tmp"
    finally:
        assert remove_run_dir(made)


def test_parent_that_others_may_write_is_refused(parent: Path) -> None:
    parent.chmod(0o777)
    made = make_run_dir(environ={"XDG_RUNTIME_DIR": str(parent)})
    try:
        assert os.path.dirname(made) == "/tmp"
    finally:
        assert remove_run_dir(made)
    with pytest.raises(RunDirError, match="sticky"):
        make_segment_dir(str(parent))
    parent.chmod(0o1777)
    assert os.path.dirname(make_segment_dir(str(parent))) == str(parent)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a directory away")
def test_parent_of_somebody_else_is_refused(parent: Path) -> None:
    os.chown(parent, 12345, -1)
    with pytest.raises(RunDirError, match="12345"):
        make_segment_dir(str(parent))
    os.chown(parent, 0, -1)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a directory away")
@pytest.mark.parametrize(("owner", "mode", "reason"), [(12345, 0o700, "12345"), (0, 0o777, "sticky")])
def test_who_may_rename_the_parent_is_refused_too(parent: Path, owner: int, mode: int, reason: str) -> None:
    below = parent / "below"
    below.mkdir(mode=0o700)
    parent.chmod(mode)
    os.chown(parent, owner, -1)
    with pytest.raises(RunDirError, match=f"{parent} above it .*{reason}"):
        make_segment_dir(str(below))
    os.chown(parent, 0, -1)
    assert os.listdir(below) == []


def test_long_path_falls_back(parent: Path) -> None:
    deep = parent / ("d" * 80)
    deep.mkdir(mode=0o700)
    made = make_run_dir(environ={"XDG_RUNTIME_DIR": str(deep), "TMPDIR": str(parent)})
    assert os.path.dirname(made) == str(parent)
    assert len(made) + 1 + rundir.LONGEST_NAME <= rundir.SOCKET_PATH_LIMIT


def test_nowhere_is_short_enough() -> None:
    with pytest.raises(RunDirError, match=r"(?s)/tmp: too long.*TMPDIR"):
        make_run_dir(environ={}, longest_name=100)


def test_link_as_parent_is_resolved(parent: Path) -> None:
    real = parent / "real"
    real.mkdir(mode=0o700)
    (parent / "link").symlink_to(real)
    made = make_run_dir(environ={"XDG_RUNTIME_DIR": str(parent / "link")})
    assert os.path.dirname(made) == str(real)
    assert remove_run_dir(made)


def test_segments_live_in_memory() -> None:
    made = make_segment_dir()
    try:
        assert os.path.dirname(made) == "/dev/shm"
        assert mode(made) == 0o700
    finally:
        assert remove_run_dir(made)


def test_segments_without_a_place(parent: Path) -> None:
    with pytest.raises(RunDirError, match=r"shared memory: .*none.*--shm-size"):
        make_segment_dir(str(parent / "none"))


def test_removal_takes_all_but_follows_no_link(parent: Path) -> None:
    precious = parent / "precious"
    precious.mkdir()
    (precious / "file").write_text("x")
    made = Path(make_segment_dir(str(parent)))
    (made / "sub" / "sub").mkdir(parents=True)
    (made / "sub" / "file").write_text("x")
    (made / "link").symlink_to(precious)
    os.mkfifo(made / "fifo")
    assert remove_run_dir(str(made))
    assert (precious / "file").exists()
    assert not made.exists()
    assert remove_run_dir(str(made))


def test_only_directories_of_ours_are_removed(parent: Path) -> None:
    (parent / "other").mkdir()
    assert not remove_run_dir(str(parent / "other"))
    ours = parent / f"scoop-{os.getuid()}-0badcafe"
    ours.symlink_to(parent / "other")
    assert not remove_run_dir(str(ours))
    assert (parent / "other").is_dir()
    assert ours.is_symlink()
    ours.unlink()


def owner(parent: Path, then: str) -> subprocess.Popen[str]:
    """Another process that makes a directory, says its name and does `then`."""
    program = f"""
import sys; sys.path[:] = {sys.path!r}
import os
from scoop.launch.rundir import make_segment_dir
print(make_segment_dir({str(parent)!r}), flush=True)
{then}
"""
    return subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_sweep_spares_the_living(parent: Path) -> None:
    mine = make_segment_dir(str(parent))
    process = owner(parent, "sys.stdin.read()")
    try:
        assert process.stdout is not None
        theirs = process.stdout.readline().strip()
        assert sweep_stale(str(parent)) == []
        process.kill()
        process.wait(10)
        assert sweep_stale(str(parent)) == [theirs]
    finally:
        process.kill()
        process.communicate(timeout=10)
    assert os.path.isdir(mine)


def test_child_of_a_dead_owner_does_not_keep_its_directory(parent: Path) -> None:
    forking = "if os.fork(): os._exit(0)\nprint('child', flush=True)\nsys.stdin.read()"
    process = owner(parent, forking)
    try:
        assert process.stdout is not None
        theirs = process.stdout.readline().strip()
        assert process.stdout.readline() == "child\n"
        process.wait(10)
        assert sweep_stale(str(parent)) == [theirs]
    finally:
        process.communicate(timeout=10)  # end of input ends the child


def test_sweep_leaves_what_it_does_not_know(parent: Path) -> None:
    unlocked = parent / f"scoop-{os.getuid()}-0badcafe"
    unlocked.mkdir()
    (parent / f"scoop-{os.getuid()}-file").write_text("x")
    assert sweep_stale(str(parent)) == []
    assert unlocked.is_dir()
    assert sweep_stale(str(parent / "none")) == []
