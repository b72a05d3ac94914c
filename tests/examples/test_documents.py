"""The python examples in README.md and docs/guide.md run as they are printed.

Every block that begins with three backticks and `python` is a program of its own. A block `text` right behind
it is what the program must print; `...` there stands for anything.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Quoted in the documents, and not names of the package.
PYTHON_NAMES = {
    "libzmq",
    "posix_spawn",
    "pow",
    "simulate",
    "tree",
    "left",
    "right",
    "concurrent.futures.wait",
}
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\s*^```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)


def blocks() -> list[tuple[str, str, str | None]]:
    """(name, program, output or None) of each block."""
    found = []
    for document in ("README.md", "docs/guide.md"):
        text = (ROOT / document).read_text()
        for match in BLOCK.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            found.append((f"{document}:{line}", match[1], match[2]))
    return found


BLOCKS = blocks()


def test_the_documents_have_examples():
    assert len(BLOCKS) > 5


@pytest.mark.parametrize(("name", "program", "output"), BLOCKS, ids=[name for name, _, _ in BLOCKS])
def test_block_runs(name, program, output, run_program, tmp_path):
    if "numpy" in program:
        pytest.importorskip("numpy")
    path = tmp_path / "program.py"
    path.write_text(program)
    done = run_program(path)
    assert done.returncode == 0, f"{name}:\n{done.stderr}"
    if output is not None:
        pattern = ".*".join(re.escape(part) for part in output.strip().split("..."))
        assert re.fullmatch(pattern, done.stdout.strip(), re.DOTALL), f"{name} printed:\n{done.stdout}"


def code_names() -> set[str]:
    """Every name that is defined or declared somewhere in the package."""
    words: set[str] = set()
    for pattern in ("*.py", "*.pyx", "*.pxd"):
        for path in (ROOT / "scoop").rglob(pattern):
            words |= set(re.findall(r"\w+", path.read_text()))
            words.add(path.stem)
    return words


@pytest.mark.parametrize("document", ["docs/architecture.md", "docs/journey.md"])
def test_names_in_the_text_exist(document):
    text = re.sub(r"^```.*?^```", "", (ROOT / document).read_text(), flags=re.MULTILINE | re.DOTALL)
    known = code_names()
    quoted = re.findall(r"`([^`\n]+)`", text)
    # Names of ours look like Class.method, file: function or S_STATE; what else is quoted is prose.
    ours = [name for name in quoted if re.fullmatch(r"_?[A-Za-z]\w*(\.\w+)*|[\w/.]+: [\w.]+", name)]
    assert len(ours) > 40
    missing = {name for name in ours if not all(word in known for word in re.findall(r"\w+", name))}
    assert not missing - PYTHON_NAMES
