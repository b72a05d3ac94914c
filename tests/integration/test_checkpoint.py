"""Maps that keep their results: programs that are killed, changed, run again, and what they compute."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scoop import segments

pytestmark = pytest.mark.timeout(120)

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Start = Callable[..., "subprocess.Popen[str]"]
Until = Callable[..., Any]

# Every call leaves its item in the file "effects", so that a test can count what has been computed.
HEAD = """\
import os, sys, time
from dataclasses import dataclass
from pathlib import Path
import scoop
from scoop import futures

folder = Path(sys.argv[1])
NOTE = str(folder / "effects")

def note(item):
    file = os.open(NOTE, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(file, f"{item}\\n".encode())
    os.close(file)

@dataclass
class Result:
    item: int
    draw: float

def work(item, gate=str(folder / "gate")):
    note(item)
    while item == 30 and not os.path.exists(gate):
        time.sleep(0.01)
    return Result(item, scoop.rng().random())

def square(item):
    note(item)
    return item * item
"""
KILLED = (
    HEAD
    + """
scoop.configure(seed=5)
for result in futures.map(work, range(60), chunksize=1, checkpoint=folder / "run.ckpt"):
    assert type(result) is Result
    print(result.item, result.draw)
"""
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "kept"
    made.mkdir(mode=0o700)
    return made


def effects(folder: Path) -> list[str]:
    """The items that have been computed since the last question."""
    path = folder / "effects"
    found = path.read_text().split() if path.exists() else []
    path.unlink(missing_ok=True)
    return found


def kept(folder: Path, name: str = "run.ckpt") -> list[int]:
    """The items whose results are on disk."""
    path = folder / name
    data = path.read_bytes() if path.exists() else b""
    records = segments.scan(lambda offset, size: data[offset : offset + size], len(data))
    return [record.key.number for record in records if record.key is not None]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_killed_run_is_continued(start: Start, run: Run, until: Until, folder: Path, how: int) -> None:
    process = start(KILLED, str(folder))
    # The last ones may be in a piece with one that waits for the gate: only whole pieces are kept.
    until(lambda: len(set(range(30)) & set(kept(folder))) >= 15, "what could finish is on disk")
    process.send_signal(how)
    process.communicate(timeout=30)
    before = kept(folder)
    assert 30 not in before
    effects(folder)
    (folder / "gate").touch()
    second = run(KILLED, str(folder))
    computed = effects(folder)
    assert sorted(map(int, computed)) == [item for item in range(60) if item not in before]
    # The random numbers are those of a run that nobody has killed.
    (folder / "run.ckpt").unlink()
    assert run(KILLED, str(folder)).stdout == second.stdout
    effects(folder)
    assert run(KILLED, str(folder)).stdout == second.stdout
    assert effects(folder) == []


SQUARES = HEAD + "\nprint(list(futures.map(square, [1, 2, 3, 4], checkpoint=str(folder / 'run.ckpt'))))\n"


def test_a_changed_function_runs_again_and_says_so(run: Run, folder: Path) -> None:
    assert run(SQUARES, str(folder)).stdout == "[1, 4, 9, 16]\n"
    moved = run(SQUARES.replace("def square", "# moved\n\ndef square"), str(folder))
    assert (moved.stdout, moved.stderr) == ("[1, 4, 9, 16]\n", "")
    assert sorted(effects(folder)) == ["1", "2", "3", "4"]
    cubes = run(SQUARES.replace("item * item", "item ** 3"), str(folder))
    assert cubes.stdout == "[1, 8, 27, 64]\n"
    (line,) = cubes.stderr.splitlines()
    assert f"{folder}/run.ckpt: square has changed" in line
    assert ": 4 results of before do not count, their items run again" in line
    assert sorted(effects(folder)) == ["1", "2", "3", "4"]
    again = run(SQUARES.replace("item * item", "item ** 3"), str(folder))
    assert (again.stdout, again.stderr, effects(folder)) == ("[1, 8, 27, 64]\n", "", [])
    helper = run(SQUARES.replace('f"{item}', 'f" {item}').replace("* item", "** 3"), str(folder))
    assert "square has changed" in helper.stderr


def test_changed_items_run_again_and_others_do_not(run: Run, folder: Path) -> None:
    run(SQUARES, str(folder))
    effects(folder)
    done = run(SQUARES.replace("[1, 2, 3, 4]", "[1, 20, 3, 4, 5]"), str(folder))
    assert done.stdout == "[1, 400, 9, 16, 25]\n"
    assert done.stderr.rstrip().endswith("run.ckpt: items that have changed and ran again: 1")
    assert sorted(effects(folder)) == ["20", "5"]
    assert run(SQUARES.replace("[1, 2, 3, 4]", "(1, 20)"), str(folder)).stdout == "[1, 400]\n"
    assert effects(folder) == []


def test_another_seed_is_a_change(run: Run, folder: Path) -> None:
    run(KILLED.replace("item == 30", "False"), str(folder))
    effects(folder)
    run(KILLED.replace("item == 30", "False").replace("seed=5", "seed=6"), str(folder))
    assert len(effects(folder)) == 60


SHAPES = (
    HEAD
    + """
from itertools import count, islice
def add(a, b):
    note(a)
    return a + b
def check(name, make, expected):
    before = Path(NOTE).read_text().count("\\n") if Path(NOTE).exists() else 0
    got = make(folder / f"{name}.ckpt")
    assert got == expected, (name, got)
    return Path(NOTE).read_text().count("\\n") - before

def endless(path):
    results = futures.map(square, count(), checkpoint=path)
    first = list(islice(results, 300))
    results.close()
    return first

shapes = {
    "list": (lambda path: list(futures.map(square, list(range(500)), checkpoint=path)), 500),
    "chunks": (lambda path: list(futures.map(square, range(500), chunksize=7, checkpoint=path)), 500),
    "buffer": (lambda path: list(futures.map(square, range(500), buffersize=5, checkpoint=path)), 500),
    "iterator": (lambda path: list(futures.map(square, iter(range(500)), checkpoint=path)), 500),
    "both": (lambda path: list(
        futures.map(square, iter(range(500)), chunksize=3, buffersize=10, checkpoint=path)), 500),
    "as completed": (lambda path: sorted(futures.map_as_completed(square, range(500), checkpoint=path)), 500),
    "endless": (endless, 300),
}
two = lambda path: list(futures.map(add, range(100), iter(range(5, 300)), checkpoint=path))
assert check("two", two, [2 * n + 5 for n in range(100)]) == 100
assert check("two", two, [2 * n + 5 for n in range(100)]) == 0
for name, (make, length) in shapes.items():
    expected = [n * n for n in range(length)]
    assert check(name, make, expected) >= length
    again = check(name, make, expected)
    assert again == 0 or name == "endless", (name, again)
print("good")
"""
)


def test_every_shape_of_map(run: Run, folder: Path) -> None:
    assert run(SHAPES, str(folder)).stdout == "good\n"


HOLES = (
    HEAD
    + """
def some(item):
    note(item)
    if item % 7 == int(os.environ.get("FAILS", "-1")):
        raise ValueError(item)
    return item, scoop.rng().random()
scoop.configure(seed=1)
def one(item):
    return futures.submit(some, item).result()
source = range(100) if sys.argv[2] == "sized" else iter(range(100))
results = futures.map(one, source, checkpoint=folder / "run.ckpt", buffersize=int(sys.argv[3]) or None)
try:
    for item, (number, draw) in enumerate(results):
        assert item == number
        print(item, draw)
except ValueError as error:
    print("failed", error)
"""
)


@pytest.mark.parametrize("source", ["sized", "iterator"])
@pytest.mark.parametrize("buffersize", ["0", "8"])
def test_holes_are_filled_and_the_order_stays(run: Run, folder: Path, source: str, buffersize: str) -> None:
    # Every third result is taken out of a whole file: the rest is known, in many pieces.
    arguments = (str(folder), source, buffersize)
    whole = run(HOLES, *arguments).stdout
    data = (folder / "run.ckpt").read_bytes()
    records = list(segments.scan(lambda offset, size: data[offset : offset + size], len(data)))
    lost = {record.key.number for record in records if record.key is not None and record.key.number % 3 == 1}
    left = [data[r.offset : r.end] for r in records if r.key is not None and r.key.number not in lost]
    (folder / "run.ckpt").write_bytes(segments.MAGIC + b"".join(left))
    effects(folder)
    assert run(HOLES, *arguments).stdout == whole
    assert sorted(map(int, effects(folder))) == sorted(lost)


def test_what_failed_runs_again(run: Run, folder: Path) -> None:
    arguments = (str(folder), "sized", "0")
    failed = run(HOLES, *arguments, env={"FAILS": "5"})
    assert failed.stdout.splitlines()[-1] == "failed 5"
    assert 5 not in kept(folder)
    assert set(range(5)) <= set(kept(folder))
    effects(folder)
    done = run(HOLES, *arguments)
    assert len(done.stdout.splitlines()) == 100
    assert "5" in effects(folder)


def test_a_result_is_kept_as_it_came(run: Run, folder: Path) -> None:
    # What the program does with a result afterwards is not in the file; what has no name is there by value.
    source = (
        HEAD
        + """
def make(n):
    class Local: pass
    value = Local()
    value.n = n
    return [value, lambda: n, {"a", "b"}]
for value in futures.map(make, range(20), checkpoint=folder / "run.ckpt"):
    assert (value[0].n, value[1](), value[2]) == (value[1](), value[0].n, {"a", "b"}), value
    value[0].n = None
    value.clear()
print("good")
"""
    )
    assert run(source, str(folder)).stdout == "good\n"
    assert run(source, str(folder)).stdout == "good\n"


FULL = (
    HEAD
    + """
import resource
futures.submit(abs, 1).result()
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
def big(item):
    return bytes([item]) * 1000
print([len(value) for value in futures.map(big, range(100), checkpoint=folder / "run.ckpt")] == [1000] * 100)
"""
)


def test_a_full_disk_costs_no_result(run: Run, folder: Path) -> None:
    done = run(FULL, str(folder))
    assert done.stdout == "True\n"
    first, second = done.stderr.splitlines()
    assert "results cannot be kept: File too large; the map goes on and returns them all" in first
    assert "results that are not in it" in second
    assert "their items run again the next time" in second
    assert run(FULL.replace("20_000", "2_000_000"), str(folder)).stderr == ""
    assert sorted(kept(folder)) == list(range(100))


LAUNCHED = (
    HEAD
    + """
def nested(item):
    note(item)
    return sum(futures.map(square, range(3)))

def main():
    print(list(futures.map(square, range(5))), futures.mapJoin(square, range(2)))
    print(list(futures.map(nested, range(4))), list(futures.map(square, [9], checkpoint=False)))
    for repetition in range(2):
        print([scoop.rng().random() is not None for _ in futures.map(lambda n: n, range(3))])
    with scoop.Executor(1) as executor:
        print(list(executor.map(square, range(3))))

if __name__ == "__main__":
    main()
"""
)


@pytest.mark.parametrize("way", ["option", "variable"])
def test_the_launcher_keeps_every_map_of_the_program(run: Run, folder: Path, way: str) -> None:
    given: dict[str, Any] = {
        "option": {"via": ("-m", "scoop", "-n", "2", "--checkpoint", str(folder / "all"))},
        "variable": {"env": {"SCOOP_CHECKPOINT": str(folder / "all")}},
    }[way]
    first = run(LAUNCHED, str(folder), **given).stdout
    names = ["main.lambda-1.ckpt", "main.lambda-2.ckpt", "nested-1.ckpt", "square-1.ckpt", "square-2.ckpt"]
    assert sorted(os.listdir(folder / "all")) == names
    assert [len(kept(folder / "all", name)) for name in names] == [3, 3, 4, 5, 2]
    effects(folder)
    assert run(LAUNCHED, str(folder), **given).stdout == first
    # Again: the map that said no, and the executor's.
    assert sorted(effects(folder)) == ["0", "1", "2", "9"]


@pytest.mark.parametrize("launched", [False, True])
def test_what_is_refused(run: Run, folder: Path, launched: bool) -> None:
    folder.chmod(0o770)
    if launched:
        source = HEAD + "\nprint(list(futures.map(square, range(5))))\n"
        # Before the program has begun, let alone computed anything.
        done = run(source, str(folder), via=("-m", "scoop", "--checkpoint", str(folder)), status=2)
        last = done.stderr.splitlines()[0]
        assert last.startswith(f"scoop-run: {folder}: ")
    else:
        done = run(SQUARES, str(folder), status=1)
        last = done.stderr.splitlines()[-1]
        assert last.startswith("scoop.errors.CheckpointError: ")
    assert last.endswith(f"chmod go-w {folder}")
    assert effects(folder) == []


def test_two_programs_at_once(start: Start, run: Run, until: Until, folder: Path) -> None:
    first = start(KILLED, str(folder))
    until(lambda: (folder / "run.ckpt.lock").exists(), "the first has it")
    second = run(KILLED, str(folder), status=1)
    assert f"it is in use by process {first.pid} on this host" in second.stderr
    (folder / "gate").touch()
    out, err = first.communicate(timeout=60)
    assert (first.returncode, len(out.splitlines())) == (0, 60), err
    assert sorted(os.listdir(folder)) == ["effects", "gate", "run.ckpt"]


def test_not_in_tasks_and_nothing_odd(run: Run, folder: Path) -> None:
    source = (
        HEAD
        + """
def inner():
    return list(futures.map(square, range(3), checkpoint=str(folder / "run.ckpt")))
for where in ({"origin_idle": True, "workers": 2}, {"origin_idle": False, "workers": 1}):
    scoop.configure(**where)
    try:
        futures.submit(inner).result()
    except scoop.errors.UsageError as error:
        print(str(error).startswith("checkpoint="), "in a task" in str(error))
    for odd in (True, 3, b"\\0", ""):
        try:
            list(futures.map(square, range(3), checkpoint=odd))
        except (TypeError, ValueError, scoop.errors.CheckpointError) as error:
            print(type(error).__name__)
    try:
        futures.map(square, range(3), checkpoint=folder / "x.ckpt", chunksize=0)
    except ValueError:
        print(os.path.exists(folder / "x.ckpt"))
    futures.shutdown()
"""
    )
    done = run(source, str(folder))
    once = ["True True", "TypeError", "TypeError", "ValueError", "CheckpointError", "False"]
    assert done.stdout.splitlines() == once * 2
    assert not (folder / "run.ckpt").exists()


def test_an_iterator_that_nobody_finishes_is_written_at_the_end(run: Run, folder: Path) -> None:
    source = HEAD + "\nkeep = futures.map(square, range(10), checkpoint=folder / 'run.ckpt')\nnext(keep)\n"
    run(source, str(folder))
    assert 0 in kept(folder)
    assert not (folder / "run.ckpt.lock").exists()
