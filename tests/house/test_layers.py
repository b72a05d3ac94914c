"""Imports go down only, and pure machines stay pure. The table is also in docs/architecture.md."""

from __future__ import annotations

import fnmatch
import re
import shutil
import subprocess
import sysconfig
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
import sources

# The first pattern that fits decides. Whatever is not named here is API: thin Python for users.
LAYERS = (
    (
        "words",
        [
            "errors",
            "config",
            "segments",
            *(
                f"_core.{name}"
                for name in ["wire", "scalars", "table", "call", "outbox", "loss", "libzmq", "proc", "spin"]
            ),
        ],
    ),
    ("machines", ["_core.localq", "_core.ledger", "_core.balance", "_core.failover", "_core.federation"]),
    ("port", ["_core.net", "_core.links", "_core.curve", "pickling", "pickling.*", "outcomes", "losses"]),
    ("drivers", ["_core.*"]),
    ("launch", ["launch", "launch.*", "__main__", "broker"]),
    ("API", ["*"]),
)
ORDER = ["words", "machines", "port", "drivers", "API", "launch"]

# Upward, inside functions only: the first call starts the pool; a constant that arrives is stored; who waits
# in a way that runs nothing gets a thread. The other way round would make every start import everything.
SEAMS = {
    ("scoop.current", "scoop.launch"),
    ("scoop.executor", "scoop.launch"),
    ("scoop._core.future", "scoop.waiters"),
    ("scoop._core.notices", "scoop.shared"),
    ("scoop._core.session", "scoop.helpers"),
}

PURE = ["wire", "scalars", "table", "outbox", "localq", "ledger", "balance", "failover", "federation"]
PURE_CIMPORTS = {"libc.stdint", "libc.stdlib", "libc.string"}
# What compilers and the C library's start-up need, and memory. Nothing that waits, reads or tells the time.
C_SYMBOLS = {
    *[
        "malloc",
        "calloc",
        "realloc",
        "free",
        "memcpy",
        "memmove",
        "memset",
        "memcmp",
        "strlen",
        "strrchr",
        "strcmp",
    ],
    *["__memcpy_chk", "__stack_chk_fail", "__cxa_finalize", "__gmon_start__", "__assert_fail"],
    *["_ITM_deregisterTMCloneTable", "_ITM_registerTMCloneTable"],
}
MODULES = sources.modules()


def layer_of(name: str) -> str:
    short = name.removeprefix("scoop.") if name != "scoop" else "__init__"
    return next(layer for layer, patterns in LAYERS if any(fnmatch.fnmatchcase(short, p) for p in patterns))


def is_seam(name: str, found: sources.Import) -> bool:
    return found.inside and any(
        name == source and (found.target == target or found.target.startswith(f"{target}."))
        for source, target in SEAMS
    )


@pytest.mark.parametrize("name", sorted(MODULES))
def test_imports_go_down_only(name):
    level = ORDER.index(layer_of(name))
    wrong = [
        f"line {found.line}: {found.target} ({layer_of(found.target)})"
        for found in sources.imports(name)
        if ORDER.index(layer_of(found.target)) > level and not found.typing_only and not is_seam(name, found)
    ]
    assert not wrong, f"{name} ({layer_of(name)}) imports what is above it"


def test_seams_exist():
    used = {
        (source, target)
        for source, target in SEAMS
        if source in MODULES
        for found in sources.imports(source)
        if is_seam(source, found) and (found.target == target or found.target.startswith(f"{target}."))
    }
    assert used == SEAMS, "a seam that nothing uses is a hole"


def test_no_module_imports_itself_by_a_detour():
    graph = {
        name: {found.target for found in sources.imports(name) if not found.inside and not found.typing_only}
        - {name, "scoop"}
        for name in MODULES
        if name != "scoop"
    }
    list(TopologicalSorter(graph).static_order())  # raises CycleError, which names the modules


def test_machines_do_not_know_each_other():
    # `failover` is a part of `balance` in a room of its own.
    for name in MODULES:
        if layer_of(name) == "machines" and name != "scoop._core.failover":
            known = [found.target for found in sources.imports(name) if layer_of(found.target) == "machines"]
            assert not known, f"{name} knows {known}"


def test_the_table_of_the_documentation_agrees():
    text = (sources.ROOT / "docs" / "architecture.md").read_text()
    rows = re.findall(r"^\| (\d) (\w+) \| (.*?) \|", text, re.MULTILINE)
    assert [layer for _, layer, _ in sorted(rows)] == ORDER
    for _, layer, cell in rows:
        prefix = "_core." if "`_core/`:" in cell else ""
        for part in cell.split(";"):
            if "`_core/`:" not in part:
                prefix = ""
            for name in re.findall(r"`([\w/*]+)`", part.replace("`_core/`:", "")):
                dotted = (name if "/" in name else prefix + name).replace("/", ".").replace(".*", "")
                if f"scoop.{dotted}" in MODULES:
                    assert layer_of(f"scoop.{dotted}") == layer, f"{name}: the page says {layer}"


@pytest.mark.parametrize("name", PURE)
def test_pure_modules_import_only_words(name):
    for suffix in (".pxd", ".pyx"):
        path = (sources.PACKAGE / "_core" / name).with_suffix(suffix)
        text = path.read_text()
        assert not re.search(r"^\s*(import|from [\w.]+ import) ", text, re.MULTILINE), (
            f"{path.name} imports Python"
        )
        modules = set(re.findall(r"^\s*(?:from ([\w.]+) cimport|cimport [\w.]+)", text, re.MULTILINE))
        foreign = {m for m in modules - PURE_CIMPORTS if not m.startswith(("cpython.", "scoop._core."))}
        assert not foreign, f"{path.name} cimports {foreign}"
        headers = set(re.findall(r"cdef extern from [\"<*]?([^\">:]*)", text)) - {"Python.h"}
        assert not headers, f"{path.name} uses {headers}"


@pytest.mark.parametrize("name", PURE)
def test_pure_modules_call_nothing_outside(name):
    import scoop._core.wire as somewhere

    nm = shutil.which("nm")
    if nm is None:
        pytest.skip("nm (binutils) is not installed")
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    library = Path(somewhere.__file__).with_name(f"{name}{suffix}")
    listed = subprocess.run(
        [nm, "-D", "--undefined-only", str(library)], capture_output=True, text=True, timeout=60, check=True
    ).stdout
    names = {line.split()[-1].partition("@")[0] for line in listed.splitlines()}
    assert names, "nm found nothing"
    outside = {symbol for symbol in names - C_SYMBOLS if not re.match(r"_?Py", symbol)}
    # Pure means pure in C too: the interpreter's clock, threads and files are outside.
    outside |= {symbol for symbol in names if re.match(r"_?Py(Time|Thread|File|Run|Sys)_", symbol)}
    assert not outside
