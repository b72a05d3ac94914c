"""Reads the sources of the package for the house tests: modules, imports, functions and their lengths."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "scoop"


class Import(NamedTuple):
    """One imported module of scoop."""

    target: str
    line: int
    inside: bool  # of a function: when it runs, not when it is loaded
    typing_only: bool


class Function(NamedTuple):
    """One function or method, with its nested ones."""

    name: str
    line: int
    lines: int


def modules() -> dict[str, Path]:
    """Every module of scoop by its dotted name; a `.pxd` without a `.pyx` is one too."""
    found: dict[str, Path] = {}
    for suffix in (".pxd", ".pyx", ".py"):
        for path in sorted(PACKAGE.rglob(f"*{suffix}")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


def resolved(names: list[str], known: dict[str, Path]) -> Iterator[str]:
    """`from scoop import pickling` means scoop.pickling, `from scoop.errors import X` means scoop.errors."""
    for name in names:
        if name in known:
            yield name
        elif name.rpartition(".")[0] in known:
            yield name.rpartition(".")[0]


def _python_imports(path: Path) -> Iterator[Import]:
    known = modules()
    tree = ast.parse(path.read_text())

    def walk(node: ast.AST, inside: bool, typing_only: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            names: list[str] = []
            if isinstance(child, ast.ImportFrom) and child.module:
                names = [f"{child.module}.{alias.name}" for alias in child.names]
            elif isinstance(child, ast.Import):
                names = [alias.name for alias in child.names]
            for target in resolved(names, known):
                yield Import(target, child.lineno, inside, typing_only)
            function = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef))
            guarded = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
            yield from walk(child, inside or function, typing_only or guarded)

    return walk(tree, False, False)


def _cython_imports(path: Path) -> Iterator[Import]:
    known = modules()
    text = path.read_text()
    pattern = re.compile(
        r"^(?P<indent> *)from (?P<module>[\w.]+) c?import (?P<names>\([^)]*\)|[^\n]*)"
        r"|^ *c?import (?P<plain>[\w.]+)",
        re.MULTILINE,
    )
    for match in pattern.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        if match["plain"]:
            names = [match["plain"]]
        else:
            listed = re.sub(r"#.*", "", match["names"]).strip("()").split(",")
            names = [f"{match['module']}.{name.split()[0]}" for name in listed if name.split()]
        for target in resolved(names, known):
            yield Import(target, line, bool(match["indent"]), False)


def imports(name: str) -> list[Import]:
    """What a module imports or cimports from scoop; of a compiled one its declarations count too."""
    path = modules()[name]
    if path.suffix == ".py":
        return list(_python_imports(path))
    paths = {path, path.with_suffix(".pxd")}
    return [
        found
        for each in sorted(paths)
        if each.exists()
        for found in _cython_imports(each)
        if found.target != name
    ]


def functions(path: Path) -> list[Function]:
    """The functions of a Python or Cython file."""
    return _python_functions(path) if path.suffix == ".py" else _cython_functions(path)


def _python_functions(path: Path) -> list[Function]:
    return [
        Function(node.name, node.lineno, (node.end_lineno or node.lineno) - node.lineno + 1)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]


CYTHON_HEAD = re.compile(
    r"^( *)(?:cdef|cpdef|def|async def) (?!class |struct |enum|extern |union )[^=\n]*?(\w+)\("
)


def _cython_functions(path: Path) -> list[Function]:
    # The syntax tree of Cython is not at hand; indentation tells the same.
    lines = path.read_text().splitlines()
    found = []
    for number, line in enumerate(lines):
        head = CYTHON_HEAD.match(line)
        if not head:
            continue
        indent, depth, last = len(head[1]), 0, number
        for at in range(number, len(lines)):
            text = lines[at]
            body = text.strip() and len(text) - len(text.lstrip()) > indent
            if at > number and depth == 0 and text.strip() and not body:
                break
            depth += text.count("(") + text.count("[") - text.count(")") - text.count("]")
            if text.strip():
                last = at
        if last > number:
            found.append(Function(head[2], number + 1, last - number + 1))
    return found


def tracked_files() -> list[Path]:
    """The files of the repository; without git, those of this folder that are not made by a tool."""
    done = (
        subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            timeout=60,
            check=False,
        )
        if (ROOT / ".git").exists()
        else None
    )
    if done is not None and done.returncode == 0:
        listed = [ROOT / name for name in done.stdout.decode().split("\0") if name]
    else:
        made = {"build", "dist", "__pycache__", ".venv", "scoop.egg-info"}
        listed = [
            path
            for path in ROOT.rglob("*")
            if path.suffix not in (".so", ".c")
            and not any(
                part in made or (part.startswith(".") and part != ".ci")
                for part in path.relative_to(ROOT).parts
            )
        ]
    return sorted(path for path in listed if path.is_file())


def source_files() -> list[Path]:
    """What people read as code, tests excluded."""
    tops = ("scoop", "bench", "docs", "examples", "setup.py")
    return [
        path
        for path in tracked_files()
        if path.relative_to(ROOT).parts[0] in tops and path.suffix in (".py", ".pyx", ".pxd")
    ]
