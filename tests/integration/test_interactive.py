"""Typed into a REPL, run in the cells of a notebook."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(90)

Living = Callable[[], dict[int, str]]
Until = Callable[..., Any]


# What a task prints comes from another process at any time: in the middle of a prompt, too.
TASKS_LINE = re.compile(r"task \d+\r?\n")


class Terminal:
    """A REPL at a pseudo-terminal."""

    def __init__(self, command: list[str], env: dict[str, str]) -> None:
        self.end, theirs = pty.openpty()
        self.process = subprocess.Popen(
            command,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=env,
            start_new_session=True,
            close_fds=True,
        )
        os.close(theirs)
        self.seen = ""
        self.tasks: list[str] = []  # the lines of tasks

    def read_until(self, text: str, limit_s: float = 30.0) -> str:
        """Everything up to and with `text`, which is not looked at again."""
        deadline = time.monotonic() + limit_s
        while text not in self.seen:
            left = deadline - time.monotonic()
            assert left > 0, f"no {text!r} in: {self.seen}"
            if select.select([self.end], [], [], left)[0]:
                try:
                    self.seen += os.read(self.end, 4096).decode(errors="replace")
                except OSError:  # the other end is closed
                    raise AssertionError(f"it ended without {text!r}: {self.seen}") from None
                self.tasks += TASKS_LINE.findall(self.seen)
                self.seen = TASKS_LINE.sub("", self.seen)
        head, _, self.seen = self.seen.partition(text)
        return head + text

    def say(self, line: str) -> str:
        """Type a line; returns what is shown until the next prompt."""
        os.write(self.end, line.encode() + b"\n")
        self.read_until("\n")  # the echo
        return self.read_until(">>> ").removesuffix(">>> ").replace("\r", "")

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.end)


@pytest.fixture
def terminal(environment: dict[str, str]) -> Iterator[Terminal]:
    env = {**environment, "TERM": "dumb", "PYTHON_BASIC_REPL": "1"}
    repl = Terminal([sys.executable, "-q", "-i", "-c", "import os, time"], env)
    repl.read_until(">>> ")
    yield repl
    repl.close()


def test_repl(terminal: Terminal, living: Living, until: Until) -> None:
    assert terminal.say("from scoop import futures; import scoop") == ""
    assert terminal.say("square = lambda x: x * x") == ""
    assert (
        terminal.say("[f.result() for f in [futures.submit(square, i) for i in range(5)]]")
        == "[0, 1, 4, 9, 16]\n"
    )
    terminal.say("exec('def who(x):\\n    print(\"task\", x)\\n    return os.getpid()')")
    terminal.say("ex = scoop.Executor(1)")
    assert "True" in terminal.say("ex.submit(who, 3).result() != os.getpid()")
    terminal.say(
        "exec('def nested(n):\\n    return 1 if n == 0 else futures.submit(nested, n - 1).result() + 1')"
    )
    assert "51" in terminal.say("ex.submit(nested, 50).result()")
    # Ctrl-C ends the wait, not the session.
    os.write(terminal.end, b"print('go'); ex.submit(time.sleep, 0.5).result()\n")
    terminal.read_until("\ngo")
    os.kill(terminal.process.pid, signal.SIGINT)
    assert "KeyboardInterrupt" in terminal.read_until(">>> ")
    assert terminal.say("futures.submit(square, 12).result()") == "144\n"
    assert "144" in terminal.say("ex.submit(square, 12).result()")
    assert [line.strip() for line in terminal.tasks] == ["task 3"]
    os.write(terminal.end, b"exit(5)\n")
    assert terminal.process.wait(20) == 5
    until(lambda: not living(), "everything is gone", 5)


def test_repl_after_a_program(environment: dict[str, str], tmp_path: Any) -> None:
    """`python -i program.py`: the pool is still there."""
    (tmp_path / "program.py").write_text(
        "from scoop import futures\ndef square(x): return x * x\nprint(futures.submit(square, 3).result())\n"
    )
    repl = Terminal(
        [sys.executable, "-q", "-i", str(tmp_path / "program.py")],
        {**environment, "TERM": "dumb", "PYTHON_BASIC_REPL": "1"},
    )
    try:
        assert "9" in repl.read_until(">>> ")
        assert repl.say("futures.submit(square, 4).result()") == "16\n"
        os.write(repl.end, b"exit()\n")
        assert repl.process.wait(20) == 0
    finally:
        repl.close()


class Notebook:
    """A Jupyter kernel and its client."""

    def __init__(self, manager: Any, client: Any) -> None:
        self.manager = manager
        self.client = client

    def cell(self, code: str, limit_s: float = 30.0) -> str:
        """Run a cell; returns what it printed and the value of its last line."""
        shown: list[str] = []

        def on_message(message: dict[str, Any]) -> None:
            content = message["content"]
            if message["msg_type"] == "stream":
                shown.append(content["text"])
            elif message["msg_type"] == "execute_result":
                shown.append(content["data"]["text/plain"] + "\n")
            elif message["msg_type"] == "error":
                shown.append("\n".join(content["traceback"]))

        self.client.execute_interactive(code, timeout=limit_s, output_hook=on_message, store_history=True)
        return "".join(shown)


@pytest.fixture
def notebook(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> Iterator[Notebook]:
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    jupyter = pytest.importorskip("jupyter_client", reason="jupyter_client is not installed")
    for name in ("JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "IPYTHONDIR", "JUPYTER_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
        environment[name] = str(tmp_path / name.lower())
    manager = jupyter.KernelManager()
    manager.kernel_spec.argv[0] = sys.executable
    manager.start_kernel(env=environment, cwd=str(tmp_path))
    client = manager.client()
    client.start_channels()
    client.wait_for_ready(timeout=60)
    yield Notebook(manager, client)
    client.stop_channels()
    if manager.has_kernel:
        manager.shutdown_kernel(now=True)
    manager.cleanup_resources()


def test_notebook(notebook: Notebook, living: Living, until: Until) -> None:
    assert notebook.cell("import os, time, scoop\nfrom scoop import futures") == ""
    notebook.cell("def square(x):\n    return x * x\nclass Point:\n    def __init__(self, x): self.x = x")
    assert (
        notebook.cell("[f.result() for f in [futures.submit(square, i) for i in range(5)]]")
        == "[0, 1, 4, 9, 16]\n"
    )
    notebook.cell("ex = scoop.Executor(2)")
    assert notebook.cell("ex.submit(Point, 7).result().x") == "7\n"
    notebook.cell("def square(x):\n    return -x * x")
    assert notebook.cell("ex.submit(square, 3).result()") == "-9\n", "the newest definition counts"
    said = notebook.cell("def talk(x):\n    print('task', x)\nex.submit(talk, 1).result(); time.sleep(0.5)")
    assert "task 1" in said
    assert "RuntimeError: no" in notebook.cell("def bad(): raise RuntimeError('no')\nex.submit(bad).result()")
    assert notebook.cell("futures.submit(square, 2).result()") == "-4\n"
    before = len(living())
    assert before >= 5
    notebook.manager.shutdown_kernel(now=False)
    until(lambda: not living(), "everything is gone", 10)


def test_kernel_restart_and_interrupt(notebook: Notebook, living: Living, until: Until) -> None:
    notebook.cell("import os, time\nfrom scoop import futures\ndef f(x): time.sleep(0.02); return x")
    assert notebook.cell("sum(x.result() for x in [futures.submit(f, i) for i in range(10)])") == "45\n"
    old = set(living())
    code = "print('go', flush=True)\nxs=[futures.submit(f, i) for i in range(1000)]\nfor x in xs: x.result()"
    message = notebook.client.execute(code, stop_on_error=False)
    while True:
        found = notebook.client.get_iopub_msg(timeout=30)
        if found["msg_type"] == "stream" and "go" in found["content"]["text"]:
            break
    notebook.manager.interrupt_kernel()
    reply = notebook.client.get_shell_msg(timeout=30)
    while reply["parent_header"].get("msg_id") != message:
        reply = notebook.client.get_shell_msg(timeout=30)
    assert reply["content"]["ename"] == "KeyboardInterrupt"
    assert notebook.cell("futures.submit(f, 7).result()") == "7\n"
    notebook.manager.restart_kernel(now=True)
    notebook.client.wait_for_ready(timeout=60)
    until(lambda: not old & set(living()), "the old kernel's workers are gone", 10)
    notebook.cell("from scoop import futures\ndef g(x): return x + 1")
    assert notebook.cell("futures.submit(g, 7).result()") == "8\n"
