"""`--profile`: a file for each process, with every call of every task in one of them."""

from __future__ import annotations

import pstats
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(120)

Run = Callable[..., "subprocess.CompletedProcess[str]"]
GRACE = {"SCOOP_STOP_GRACE": "30"}  # a worker that is killed because the machine is busy has no file
HERE = socket.gethostname()

PROGRAM = """\
import os, sys, time
from scoop import futures

def leaf(x):
    time.sleep(0.002)
    return x

def tree(depth):
    if depth == 0:
        return leaf(1)
    return sum(part.result() for part in [futures.submit(tree, depth - 1) for _ in range(3)])

if __name__ == "__main__":
    print(futures.submit(tree, 4).result(), sum(futures.map(leaf, [1] * 200)), flush=True)
"""
LEAVES = 3**4 + 200
TREES = (3**5 - 1) // 2


def calls(folder: Path, name: str, *files: str) -> int:
    """How often a function was called, in these files, or in all of the folder."""
    paths = [folder / file for file in files] or list(folder.iterdir())
    found = pstats.Stats(*map(str, paths)).stats.items()  # type: ignore[attr-defined]
    return sum(counts[1] for (_, _, called), counts in found if called == name)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_one_host(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "profiles" / "of today"
    done = run(PROGRAM, via=("-m", "scoop", "-n", "3", "--profile", str(folder)), env=GRACE)
    assert (done.stdout, done.stderr) == (f"81 {LEAVES - 81}\n", "")
    assert names(folder) == [f"{HERE}-origin.prof", f"{HERE}-w0.prof", f"{HERE}-w1.prof"]
    assert calls(folder, "leaf") == LEAVES
    assert calls(folder, "tree") == TREES
    assert calls(folder, "<module>", f"{HERE}-origin.prof") >= 1


def test_workers_alone_compute(run: Run, tmp_path: Path) -> None:
    run(PROGRAM, via=("-m", "scoop", "-n", "3", "--origin-idle", f"--profile={tmp_path / 'p'}"), env=GRACE)
    assert calls(tmp_path / "p", "leaf", f"{HERE}-origin.prof") == 0
    assert calls(tmp_path / "p", "leaf") == LEAVES
    worker = pstats.Stats(str(tmp_path / "p" / f"{HERE}-w0.prof")).get_stats_profile()
    leaf = worker.func_profiles["leaf"]
    assert leaf.cumtime >= 0.002 * int(leaf.ncalls.partition("/")[0])


def test_tasks_that_go_to_fresh_stacks(run: Run, tmp_path: Path) -> None:
    source = """\
import time
from scoop import futures

began = time.monotonic()

def chain(n):
    time.sleep(0.001)
    return 1 + futures.submit(chain, n - 1).result() if n else 0

if __name__ == "__main__":
    print(futures.submit(chain, 299).result())
    print(time.monotonic() - began)
"""
    done = run(source, via=("-m", "scoop", "-n", "1", "--profile", str(tmp_path / "p")))
    read = pstats.Stats(str(tmp_path / "p" / f"{HERE}-origin.prof")).get_stats_profile()
    chain = read.func_profiles["chain"]
    assert chain.ncalls.partition("/")[0] == "300"
    assert 0.3 <= chain.cumtime <= float(done.stdout.split()[1])


def test_executors_have_files_of_their_own(run: Run, tmp_path: Path) -> None:
    source = """\
import os
import scoop
from scoop import futures

def square(x):
    return x * x

if __name__ == "__main__":
    print(futures.submit(square, 2).result())
    with scoop.Executor(1) as executor:
        print(executor.submit(square, 3).result())
    os.chdir("/")
"""
    done = run(source, via=("-m", "scoop", "--profile", "p"), cwd=tmp_path, env=GRACE)
    assert done.stdout == "4\n9\n"
    assert names(tmp_path / "p") == [f"{HERE}-2-w0.prof", f"{HERE}-origin.prof", f"{HERE}-w0.prof"]
    assert calls(tmp_path / "p", "square", f"{HERE}-2-w0.prof") == 1


def test_a_program_that_fails_has_its_files_and_its_status(run: Run, tmp_path: Path) -> None:
    source = PROGRAM + "    sys.exit(5)\n"
    run(source, via=("-m", "scoop", "-n", "2", "--profile", str(tmp_path / "p")), status=5, env=GRACE)
    assert calls(tmp_path / "p", "leaf") == LEAVES


def test_what_runs_after_the_program_counts(run: Run, tmp_path: Path) -> None:
    source = PROGRAM.partition("if __name__")[0] + "futures.submit(tree, 2)\n"
    run(source, via=("-m", "scoop", "-n", "1", "--profile", str(tmp_path / "p")))
    assert calls(tmp_path / "p", "leaf") == 9


def test_a_forked_child_leaves_the_file_to_its_parent(run: Run, tmp_path: Path) -> None:
    source = """\
import os, sys
from scoop import futures
print(futures.submit(abs, -1).result(), flush=True)
child = os.fork()
if child == 0:
    sys.exit(0)
os.waitpid(child, 0)
open("seen", "w").write(" ".join(os.listdir("p")))
"""
    run(source, via=("-m", "scoop", "-n", "1", "--profile", "p"), cwd=tmp_path)
    assert (tmp_path / "seen").read_text() == ""
    assert names(tmp_path / "p") == [f"{HERE}-origin.prof"]


def test_a_folder_that_cannot_be(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    where = str(tmp_path / "file" / "p")
    done = run(PROGRAM, via=("-m", "scoop", "--profile", where), status=2)
    assert done.stdout == ""
    assert f"--profile: the folder cannot be made: {where}: Not a directory" in done.stderr


def test_a_folder_that_goes_away_costs_the_files_only(run: Run, tmp_path: Path) -> None:
    source = PROGRAM + "    os.rmdir(sys.argv[1]); open(sys.argv[1], 'w').close()\n"
    where = tmp_path / "p"
    done = run(source, str(where), via=("-m", "scoop", "-n", "2", "--profile", str(where)), env=GRACE)
    lines = done.stderr.splitlines()
    assert [line.partition(f"{where}/")[0] for line in lines] == ["scoop: a profile is lost: "] * 2


def test_several_hosts(run: Run, tmp_path: Path) -> None:
    ssh = tmp_path / "ssh"
    ssh.write_text('#!/bin/sh\nfor word; do :; done\nexec /bin/sh -c "$word"\n')
    ssh.chmod(0o755)
    hosts = ("--hosts", "127.0.0.1", "far1", "far2", "--ssh-executable", str(ssh), "-n", "4")
    done = run(
        PROGRAM,
        via=("-m", "scoop", *hosts, "--profile", "p"),
        cwd=tmp_path,
        env={"SCOOP_WORKERS": "", **GRACE},
    )
    assert done.stdout == f"81 {LEAVES - 81}\n"
    expected = ["far1-w0", "far2-w0", f"{HERE}-origin", f"{HERE}-w0"]
    assert names(tmp_path / "p") == sorted(f"{name}.prof" for name in expected)
    assert calls(tmp_path / "p", "leaf") == LEAVES
    assert calls(tmp_path / "p", "tree") == TREES


def test_without_it_nothing_is_written(run: Run, tmp_path: Path) -> None:
    run(PROGRAM, via=("-m", "scoop", "-n", "2"), cwd=tmp_path)
    assert not list(tmp_path.rglob("*.prof"))


def test_rsh_is_refused_and_says_why(run: Run) -> None:
    assert "--ssh-executable" in run(PROGRAM, via=("-m", "scoop", "--rsh"), status=2).stderr
