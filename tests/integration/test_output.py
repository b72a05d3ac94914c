"""What tasks print and log arrives whole, in order per worker, and blocks nobody."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from collections.abc import Callable

import pytest

pytestmark = pytest.mark.timeout(60)

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def test_lines_arrive_whole_and_in_order(run: Run) -> None:
    source = """\
import os, sys
import scoop
def chatter(n):
    for i in range(n):
        sys.stdout.write(f"<{os.getpid()} ")
        sys.stdout.flush()
        print(i, "\\u00e4" * (i % 50), end=">\\n", flush=True)
        print(f"[{os.getpid()} {i}]", file=sys.stderr)
if __name__ == "__main__":
    with scoop.Executor(3) as ex:
        for f in [ex.submit(chatter, 400) for _ in range(3)]: f.result()
"""
    done = run(source, env={"PYTHONUTF8": "1"})
    for text, pattern in ((done.stdout, r"<(\d+) (\d+) ä*>"), (done.stderr, r"\[(\d+) (\d+)\]")):
        found = [re.fullmatch(pattern, line) for line in text.splitlines()]
        assert all(found), [line for line in text.splitlines() if not re.fullmatch(pattern, line)][:5]
        assert len(found) == 1200
        runs: dict[str, list[int]] = {}
        for match in found:
            assert match is not None
            runs.setdefault(match[1], []).append(int(match[2]))
        for numbers in runs.values():
            assert numbers == list(range(400)) * (len(numbers) // 400)


def test_output_before_the_last_breath(run: Run) -> None:
    """An unfinished line, a dying worker, the end of the program: all is shown."""
    source = """\
import os, sys
import scoop
def last(): print("no newline", end="", flush=True)
def die():
    print("last words", end="", flush=True)
    os._exit(3)
if __name__ == "__main__":
    with scoop.Executor(1) as ex:
        ex.submit(last).result()
    with scoop.Executor(1) as ex:
        ex.submit(die).exception()
"""
    out = run(source).stdout
    assert "no newline" in out
    assert out.count("last words\n") == 3


def test_a_reader_that_does_not_read_blocks_no_worker(start: Callable[..., subprocess.Popen[str]]) -> None:
    source = """\
import os, sys, signal, time
import scoop
def chatter(n):
    for i in range(n): print("x" * 1000)
    return n
def die(): os.kill(os.getpid(), signal.SIGKILL)
if __name__ == "__main__":
    with scoop.Executor(2) as ex:
        assert [f.result(timeout=30) for f in [ex.submit(chatter, 5000) for _ in range(4)]] == [5000] * 4
        print("worked", file=sys.stderr, flush=True)
        # The death of a worker is heard of although nobody reads the output.
        assert type(ex.submit(die).exception(timeout=30)).__name__ == "TaskCrashed"
        print("heard", file=sys.stderr, flush=True)
"""
    process = start(source)
    assert process.stderr is not None
    said = []
    while "heard\n" not in said:
        said.append(process.stderr.readline())
        assert said[-1], said
    assert "worked\n" in said
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert set(out.replace("\n", "")) == {"x"}


def test_a_reader_that_has_gone(run: Run, start: Callable[..., subprocess.Popen[str]]) -> None:
    source = """\
import scoop
def chatter(i): print("x" * 100); return i
if __name__ == "__main__":
    with scoop.Executor(2) as ex:
        assert sum(f.result() for f in [ex.submit(chatter, i) for i in range(100)]) == 4950
"""
    process = start(source)
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(30) == 0


def test_the_stream_of_the_moment_is_used(run: Run) -> None:
    """As in a notebook, where sys.stdout is no file."""
    source = """\
import io, sys, time
import scoop
def say(x): print("hello", x)
if __name__ == "__main__":
    real, sys.stdout = sys.stdout, io.StringIO()
    with scoop.Executor(1) as ex:
        ex.submit(say, 1).result()
    print(repr(sys.stdout.getvalue()), file=real)
"""
    assert run(source).stdout == "'hello 1\\n'\n"


LOGS = """\
import logging, sys
import scoop
log = logging.getLogger("app.task")
def work(i):
    log.debug("not wanted %d", i)
    log.info("step %d", i)
    try: 1 / 0
    except ZeroDivisionError: log.exception("bad %d", i)
    return i
if __name__ == "__main__":
    {setup}
    with scoop.Executor(1) as ex:
        for i in range(3): ex.submit(work, i).result()
"""


def test_logging_goes_through_the_programs_handlers(run: Run) -> None:
    done = run(
        LOGS.format(
            setup="logging.basicConfig(level=logging.INFO, format='%(name)s|%(levelname)s|%(message)s')"
        )
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith("app.task|")]
    assert lines == [
        line for i in range(3) for line in (f"app.task|INFO|step {i}", f"app.task|ERROR|bad {i}")
    ], done.stderr
    assert done.stderr.count("ZeroDivisionError: division by zero") == 3
    assert "not wanted" not in done.stderr


def test_logging_without_any_setup(run: Run) -> None:
    done = run(LOGS.format(setup="pass"))
    assert [line for line in done.stderr.splitlines() if line.startswith("bad")] == [
        "bad 0",
        "bad 1",
        "bad 2",
    ]
    assert "step" not in done.stderr


def test_a_slow_writer_and_a_long_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from scoop.launch.output import LINE_BYTES_MAX, Output

    seen = io.StringIO()
    monkeypatch.setattr(sys, "stdout", seen)
    output = Output()
    output.put(0, 1, b"caf\xc3")
    output.put(1, 1, b"one\ntw")
    output.put(0, 1, b"\xa9\n")
    output.put(1, 1, b"o\n" + b"y" * (LINE_BYTES_MAX + 1))
    output.worker_ended(1)
    output.close()
    text = seen.getvalue()
    assert text.startswith("one\ncafé\ntwo\n")
    assert text.count("y") == LINE_BYTES_MAX + 1
