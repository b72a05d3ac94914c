"""Sizes, docstrings, and that every message is complete."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re

import pytest
import sources

import scoop
from scoop._core import wire

LINES_MAX = 400
PURE_LINES_MAX = 600
FUNCTION_LINES_MAX = 70
PURE = {"wire", "scalars", "table", "outbox", "localq", "ledger", "balance", "failover", "federation"}
FILES = sources.source_files()
CORE = sources.PACKAGE / "_core"


def label(path):
    return str(path.relative_to(sources.ROOT))


@pytest.mark.parametrize("path", FILES, ids=label)
def test_files_are_short(path):
    pure = path.parent == CORE and path.stem in PURE
    lines = len(path.read_text().splitlines())
    assert lines <= (PURE_LINES_MAX if pure else LINES_MAX)


@pytest.mark.parametrize("path", [path for path in FILES if path.suffix != ".pxd"], ids=label)
def test_functions_are_short(path):
    long = [f for f in sources.functions(path) if f.lines > FUNCTION_LINES_MAX]
    assert not long


def test_functions_are_found():
    # The tests above are worth nothing if the reader of Cython sees no functions.
    names = {function.name: function.lines for function in sources.functions(CORE / "balance.pyx")}
    assert {"slot_of", "on_task", "match", "validate", "_key"} <= set(names)
    assert names["slot_of"] == 2
    assert names["on_task"] > 30


# -------------------------------------------------------------------------------------------- docstrings

SIGNATURE = re.compile(r"\A[\w.]+\(.*?\)(?: -> [^\n]*)?(?:\n|\Z)", re.DOTALL)


def module_names():
    found = pkgutil.walk_packages(scoop.__path__, "scoop.")
    return ["scoop", *(info.name for info in found if not info.name.endswith("__main__"))]


def has_docstring(thing):
    # Cython puts the signature before what was written.
    text = inspect.getdoc(thing) or ""
    return bool(
        SIGNATURE.sub("", text, count=1).strip()
        if text.startswith(getattr(thing, "__name__", "\0"))
        else text
    )


def public_things(module):
    for name, thing in vars(module).items():
        if name.startswith("_") or getattr(thing, "__module__", None) != module.__name__:
            continue
        if inspect.isclass(thing):
            yield name, thing
            for attribute, value in vars(thing).items():
                plain = getattr(value, "__func__", value)
                if not attribute.startswith("_") and (callable(plain) or isinstance(plain, property)):
                    yield f"{name}.{attribute}", plain
        elif callable(thing):
            yield name, thing


@pytest.mark.parametrize("name", module_names())
def test_public_names_have_docstrings(name):
    module = importlib.import_module(name)
    assert module.__doc__ or name == "scoop._core", f"{name} says nothing about itself"
    bare = [
        where
        for where, thing in public_things(module)
        # What overrides a documented method of the standard library is documented there.
        if not has_docstring(thing)
    ]
    assert not bare


def test_every_public_name_of_futures_is_documented():
    from scoop import futures

    text = (sources.ROOT / "docs" / "api.md").read_text()
    public = getattr(futures, "__all__", None)
    assert public, "scoop.futures names what is public in __all__"
    missing = [name for name in public if not re.search(rf"`[^`\n]*\b{name}\b", text)]
    assert not missing, "not in docs/api.md"


# ---------------------------------------------------------------------------------------------- messages

KINDS = re.findall(r"^    K_([A-Z]+) = (\d+)", (CORE / "wire.pxd").read_text(), re.MULTILINE)
KINDS = [(name, int(number)) for name, number in KINDS if name != "END"]
HEARD_BY = {
    "node to broker": ["broker"],
    "broker to node": ["desk"],
    "agent to broker": ["roads"],
    "broker to owner": ["desk"],
    "node to all": ["broker", "desk"],
    "both": ["broker", "desk"],
    "holder to owner": ["broker", "desk"],
    "owner to holder": ["broker", "desk"],
    "broker to node, origin to broker": ["desk", "gateway"],
    "broker to broker": ["gateway"],
    "broker to neighbours": ["gateway"],
    "holding broker to owner's broker, node to its broker's successor": ["broker", "gateway"],
}


def code_of(*names):
    """The sources without cimports, comments and docstrings."""
    text = "\n".join((CORE / f"{name}.pyx").read_text() for name in names)
    text = re.sub(r"^from [\w.]+ c?import (\([^)]*\)|.*)", "", text, flags=re.MULTILINE)
    return re.sub(r'"""[\s\S]*?"""|#.*', "", text)


def test_every_kind_has_a_row_and_every_row_a_kind():
    assert {number: name for name, number in KINDS} == {kind: row[0] for kind, row in wire.TABLE.items()}
    assert [number for _, number in KINDS] == list(range(1, len(KINDS) + 1)), (
        "numbers are appended, never reused"
    )


@pytest.mark.parametrize(("name", "number"), KINDS)
def test_every_kind_has_a_handler_where_it_is_heard(name, number):
    for driver in HEARD_BY[wire.TABLE[number][1]]:
        assert re.search(rf"\bkind [!=]= K_{name}\b", code_of(driver)), f"{driver}.pyx does not handle {name}"


@pytest.mark.parametrize(("name", "number"), KINDS)
def test_every_kind_is_sent_by_somebody(name, number):
    writers = {"TASK": "put_task", "RESULT": "put_result"}
    drivers = [path.stem for path in CORE.glob("*.pyx") if path.stem != "wire"]
    pattern = (
        rf"\b{writers[name]}\(" if name in writers else rf"put_(?:record|blob)\([^\n]*\bK_{name}\b|K_{name}, "
    )
    assert re.search(pattern, code_of(*drivers)), f"nobody writes {name}"


@pytest.mark.parametrize(("name", "number"), KINDS)
def test_every_kind_is_documented(name, number):
    assert f"\n## {name}\n\nKind {number}," in (sources.ROOT / "docs" / "wire.md").read_text()
