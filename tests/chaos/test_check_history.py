"""The history checker accepts good histories and refuses bad ones, with the complaint that they deserve."""

from __future__ import annotations

import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

CHECKER = Path(__file__).resolve().parent / "check_history.py"
ORIGIN, ONE, TWO, THREE = "node1:10:100", "node2:20:200", "node3:30:300", "node4:40:400"

Logs = dict[str, list[str]]


def crc(task: str) -> int:
    return zlib.crc32(task.encode())


def run(submit: str, name: str, task: str, how: str | None = None) -> list[str]:
    """A run in the ledger; `how` is "end DIGEST" or "raise TYPE", None if it did not end."""
    lines = [f"start {submit} {name} {task} - 1.0"]
    if how is not None:
        word, what = how.split(" ")
        lines.append(f"{word} {submit} {name} {what} 2.0")
    return lines


def good() -> Logs:
    """A little of everything that may happen."""
    o, a, b, c = ORIGIN, ONE, TWO, THREE
    tree = [f"t9-1x2.{i}" for i in range(2)]
    whole = (crc("t9-1x2") + sum(map(crc, tree))) % 2**32
    return {
        "client-node1": [
            f"invoke {o}/1 f1 -",
            f"invoke {o}/2 f2 -",
            f"invoke {o}/3 r3 -",
            f"invoke {o}/4 c4 -",
            f"invoke {o}/5 p5 -",
            f"invoke {o}/6 t9-1x2 -",
            f"ok {o}/1 {a}/1 {crc('f1')}",
            f"again {o}/1 {a}/1 {crc('f1')}",
            f"ok {o}/2 {b}/2 {crc('f2')}",
            f"error {o}/3 ValueError",
            f"cancelled {o}/4",
            f"error {o}/5 TaskCrashed",
            f"ok {o}/6 {b}/4 {whole}",
        ],
        "client-node2": [f"invoke {a}/12 {tree[0]} {a}/11"],
        "client-node3": [
            f"invoke {b}/5 {tree[0]} {b}/4",
            f"invoke {b}/6 {tree[1]} {b}/4",
            f"ok {b}/5 {b}/7 {crc(tree[0])}",
            f"ok {b}/6 {b}/8 {crc(tree[1])}",
        ],
        "ledger-node2": [
            *run(f"{o}/1", f"{a}/1", "f1", f"end {crc('f1')}"),
            *run(f"{o}/2", f"{a}/2", "f2"),  # its worker was killed
            *run(f"{o}/3", f"{a}/3", "r3", "raise ValueError"),
            *run(f"{o}/6", f"{a}/11", "t9-1x2"),
        ],
        "ledger-node3": [
            *run(f"{o}/2", f"{b}/2", "f2", f"end {crc('f2')}"),
            *run(f"{o}/6", f"{b}/4", "t9-1x2", f"end {whole}"),
            *run(f"{b}/5", f"{b}/7", tree[0], f"end {crc(tree[0])}"),
            *run(f"{b}/6", f"{b}/8", tree[1], f"end {crc(tree[1])}"),
        ],
        "ledger-node4": [
            *run(f"{o}/5", f"{c}1/1", "p5"),
            *run(f"{o}/5", f"{c}2/1", "p5"),
            *run(f"{o}/5", f"{c}3/1", "p5"),
            *run(f"{a}/12", f"{c}/1", tree[0]),  # an orphan, ended with the job
        ],
        "faults": ["limit crashes 3", "limit losses 10", f"kill {a}", "fault stop node3 1.0", "ended 0"],
    }


def write(folder: Path, logs: Logs) -> None:
    for name, lines in logs.items():
        (folder / name).write_text("".join(f"{line}\n" for line in lines))


def check(folder: Path) -> tuple[int, list[str]]:
    done = subprocess.run(
        [sys.executable, "-S", "-I", str(CHECKER), str(folder)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    return done.returncode, done.stdout.splitlines()


def test_a_good_history_is_accepted(tmp_path: Path) -> None:
    write(tmp_path, good())
    assert check(tmp_path) == (
        0,
        [
            "9 submits, 12 runs (1.333 each)",
            "5 values, 2 errors, 1 cancelled",
            "1 crashed, 0 given up after losses",
            "0 cancelled after all",
            "1 processes killed, 0 hosts lost",
            "0 complaints",
        ],
    )


def test_kinds_of_values(tmp_path: Path) -> None:
    """Worked out here in another way than there."""
    deep = [
        "t1-2x2",
        *[f"t1-2x2.{i}" for i in range(2)],
        *[f"t1-2x2.{i}.{j}" for i in range(2) for j in range(2)],
    ]
    name = b"b7"
    large = (name * (1 << 22))[: (1 << 20) + crc("b7") % (3 << 20)]
    expected = {
        "t1-2x2": sum(map(crc, deep)) % 2**32,
        "m2-3": (crc("m2-3") + sum(crc(f"m2-3.{i}") for i in range(3))) % 2**32,
        "q3": (crc("q3") + crc("q3.0") + 1) % 2**32,
        "b7": zlib.crc32(large),
        "d4": crc("d4"),
    }
    logs: Logs = {"client-node1": [], "ledger-node1": [], "faults": ["ended 0"]}
    for number, (task, digest) in enumerate(expected.items()):
        submit, name_of_run = f"{ORIGIN}/{number}", f"{ORIGIN}/{100 + number}"
        logs["client-node1"] += [f"invoke {submit} {task} -", f"ok {submit} {name_of_run} {digest}"]
        logs["ledger-node1"] += run(submit, name_of_run, task, f"end {digest}")
    write(tmp_path, logs)
    assert check(tmp_path)[1][-1] == "0 complaints"


def replace(where: str, old: str, new: str | None) -> Callable[[Logs], None]:
    """A change of the only line that begins so; None takes it away."""

    def change(logs: Logs) -> None:
        found = [i for i, line in enumerate(logs[where]) if line.startswith(old)]
        assert len(found) == 1, f"{old!r} stands {len(found)} times in {where}"
        logs[where][found[0] : found[0] + 1] = [] if new is None else [new]

    return change


def add(where: str, *lines: str) -> Callable[[Logs], None]:
    return lambda logs: logs[where].extend(lines)


def before_the_end(line: str) -> Callable[[Logs], None]:
    return lambda logs: logs["faults"].insert(-1, line)


def all_of(*changes: Callable[[Logs], None]) -> Callable[[Logs], None]:
    def change(logs: Logs) -> None:
        for each in changes:
            each(logs)

    return change


P, A, B, C = ORIGIN, ONE, TWO, THREE
BAD: dict[str, tuple[Callable[[Logs], None], str]] = {
    "a submit is forgotten": (replace("client-node1", f"ok {P}/2", None), f"S1: {P}/2 (f2) never ended"),
    "a nested submit is forgotten": (
        replace("client-node3", f"ok {B}/6", None),
        f"S1: {B}/6 (t9-1x2.1) never ended",
    ),
    "a value twice": (
        add("client-node1", f"ok {P}/2 {B}/2 {crc('f2')}"),
        f"S1: {P}/2 (f2) ended 2 times: ok, ok",
    ),
    "a value and an error": (
        add("client-node1", f"error {P}/2 TaskCrashed"),
        f"S1: {P}/2 (f2) ended 2 times: ok, error",
    ),
    "a value that changes": (
        replace("client-node1", f"again {P}/1", f"again {P}/1 {A}/1 7"),
        f"S2: {P}/1 (f1) was ok {A}/1 {crc('f1')} and later {A}/1 7",
    ),
    "a value after an error": (
        add("client-node1", f"again {P}/3 {A}/3 1"),
        f"S2: {P}/3 (r3) was error ValueError and later {A}/3 1",
    ),
    "a wrong value": (
        all_of(
            replace("client-node1", f"ok {P}/2", f"ok {P}/2 {B}/2 7"),
            replace("ledger-node3", f"end {P}/2", f"end {P}/2 {B}/2 7 2.0"),
        ),
        f"S3: {P}/2 (f2) is 7, not {crc('f2')}",
    ),
    "a value of another task": (
        all_of(
            replace("client-node1", f"ok {P}/2", f"ok {P}/2 {A}/1 {crc('f1')}"),
            replace("client-node1", f"ok {P}/1", f"ok {P}/1 {B}/2 {crc('f2')}"),
        ),
        f"S7: {P}/1 (f1) has a value of run {B}/2, which is of {P}/2",
    ),
    "a value from nowhere": (
        replace("client-node1", f"ok {P}/2", f"ok {P}/2 {C}/9 {crc('f2')}"),
        f"S3: {P}/2 (f2) has a value of run {C}/9, which nobody has begun",
    ),
    "a value of a run that did not end": (
        replace("ledger-node3", f"end {P}/2", None),
        f"S3: {P}/2 (f2) has a value that run {B}/2 did not return",
    ),
    "a value of what must fail": (
        replace("client-node1", f"error {P}/5", f"ok {P}/5 {C}1/1 {crc('p5')}"),
        f"S3: {P}/5 (p5) has a value and should have failed",
    ),
    "a result of an earlier incarnation of its owner": (
        replace("client-node3", f"ok {B}/5", f"ok {B}/5 {C}/1 {crc('t9-1x2.0')}"),
        f"S7: {B}/5 (t9-1x2.0) has a value of run {C}/1, which is of {A}/12",
    ),
    "a run of another task": (
        replace("ledger-node2", f"start {P}/1", f"start {P}/1 {A}/1 f8 - 1.0"),
        f"S3: {P}/1 is f1, run {A}/1 is of f8",
    ),
    "a run that nobody has submitted": (
        add("ledger-node4", *run(f"{P}/77", f"{C}/7", "f77", f"end {crc('f77')}")),
        f"S3: a run of {P}/77, which nobody has submitted",
    ),
    "a second run without a death": (
        replace("faults", f"kill {A}", f"kill {C}"),
        f"S4: {P}/2 (f2) ran 2 times, 2 without a death",
    ),
    "too many runs": (
        all_of(
            *[add("ledger-node4", *run(f"{P}/2", f"{C}9/{i}", "f2")) for i in range(13)],
            before_the_end(f"kill {C}9"),
        ),
        f"S4: {P}/2 (f2) ran 15 times, the budget is 14",
    ),
    "a cancelled call with a value": (
        add("client-node1", f"ok {P}/4 {A}/5 {crc('c4')}"),
        f"S6: {P}/4 (c4) was cancelled and has a value",
    ),
    "a cancelled call that ran": (
        add("ledger-node3", *run(f"{P}/4", f"{B}/30", "c4", f"end {crc('c4')}")),
        f"S6: {P}/4 (c4) was cancelled and ran",
    ),
    "a call cancelled after all": (
        replace("client-node1", f"cancelled {P}/4", f"late {P}/4"),
        f"S6: {P}/4 was cancelled after cancel() had said no",
    ),
    "a call cancelled that nobody cancelled": (
        replace("client-node1", f"ok {P}/6", f"cancelled {P}/6"),
        f"S6: {P}/6 (t9-1x2) was cancelled, which nobody asked for",
    ),
    "poison beyond the limit": (
        add("ledger-node4", *run(f"{P}/5", f"{C}4/1", "p5")),
        "S8: p5 took 4 processes with it, the limit is 3",
    ),
    "poison beyond the limit, by a parent that ran again": (
        all_of(
            add("client-node1", f"invoke {P}/8 p5 -", f"error {P}/8 TaskCrashed"),
            *[add("ledger-node4", *run(f"{P}/8", f"{C}{i}/1", "p5")) for i in (6, 7, 8)],
        ),
        "S8: p5 took 6 processes with it, the limit is 3",
    ),
    "given up too early": (
        replace("client-node1", f"ok {P}/2", f"error {P}/2 TaskCrashed"),
        f"S1: {P}/2 (f2) is TaskCrashed after 1 deaths",
    ),
    "lost without a loss": (
        replace("client-node1", f"ok {P}/2", f"error {P}/2 WorkerLost"),
        f"S1: {P}/2 (f2) is WorkerLost after 2 runs",
    ),
    "an error that the task does not raise": (
        replace("client-node1", f"ok {P}/2", f"error {P}/2 PoolLost"),
        f"S1: {P}/2 (f2) ended with PoolLost, which it does not raise",
    ),
    "an error that no run raised": (
        replace("ledger-node2", f"raise {P}/3", f"end {P}/3 {A}/3 5 2.0"),
        f"S3: {P}/3 (r3) ended with ValueError, which no run raised",
    ),
    "an orphan": (before_the_end("left node2 77 sleep"), "R3: left behind: node2 77 sleep"),
    "the program failed": (replace("faults", "ended", "ended 1"), "L1: the program ended with 1"),
    "the program hung": (replace("faults", "ended", None), "L1: the program did not end"),
    "a torn line": (
        add("client-node3", f"ok {B}/6 {B}"),
        f"log: client-node3 line 5 makes no sense: 'ok {B}/6 {B}'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_a_bad_history_is_refused(tmp_path: Path, what: str) -> None:
    change, complaint = BAD[what]
    logs = good()
    change(logs)
    write(tmp_path, logs)
    status, said = check(tmp_path)
    assert status == 1
    assert complaint in said


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    status, said = check(tmp_path)
    assert status == 1
    assert "log: nothing was submitted" in said


def test_a_lost_host_excuses_what_was_there(tmp_path: Path) -> None:
    logs = good()
    replace("faults", f"kill {A}", "lost node2")(logs)
    write(tmp_path, logs)
    assert check(tmp_path)[1][-1] == "0 complaints"


@pytest.mark.parametrize(("deaths", "complaints"), [(4, 0), (5, 1)])
def test_a_copy_at_the_same_moment_may_cost_one_death_more(
    tmp_path: Path, deaths: int, complaints: int
) -> None:
    logs = good()
    before_the_end("broken node1 node1")(logs)  # whose owner then issues a task that runs there all the same
    for i in range(deaths - 3):
        add("ledger-node4", *run(f"{P}/5", f"{C}{4 + i}/1", "p5"))(logs)
    write(tmp_path, logs)
    assert check(tmp_path)[1][-1] == f"{complaints} complaints"
