"""Finds the part of a value that cannot be pickled, after pickling the whole has failed.

The search descends: of the parts of what fails, the first that fails by itself. It is bounded in depth, in
the number of parts, in bytes and in time; when a bound is reached, the path found so far is the answer.
"""

from __future__ import annotations

import copyreg
import functools
import io
import itertools
import time
import types
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

from scoop.pickling.rules import travels_by_reference
from scoop.pickling.travel import encode

__all__ = ["find_culprit", "short_repr"]

_MAX_DEPTH = 64
_MAX_PARTS = 10_000  # per level
_MAX_SECONDS = 0.8
_MAX_BYTES = 256 * 1024 * 1024

_Part = tuple[str, Any]


class _GaveUp(BaseException):
    """A bound is reached; not an Exception, so that no pickler takes it for a fault of the value."""


class _Budget:
    """What the search may still spend; makes files that count what is written to them, and keep nothing."""

    def __init__(self) -> None:
        self.deadline = time.monotonic() + _MAX_SECONDS
        self.bytes_left = _MAX_BYTES

    def check(self) -> None:
        if time.monotonic() > self.deadline or self.bytes_left < 0:
            raise _GaveUp

    def make_file(self) -> io.BytesIO:
        return _CountingFile(self)


class _CountingFile(io.BytesIO):
    def __init__(self, budget: _Budget) -> None:
        super().__init__()
        self.budget = budget

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        self.budget.bytes_left -= size
        self.budget.check()
        return size


def find_culprit(obj: Any, error: BaseException) -> tuple[str, str]:
    """Find the part of a value that cannot be pickled.

    Args:
        obj: a value whose pickling has failed.
        error: how it failed.

    Returns:
        The way to the part, e.g. ``".model.layers[3].lock"`` (empty for the value itself), and the reason.
    """
    path: list[str] = []
    budget = _Budget()
    seen = {id(obj)}
    try:
        while len(path) < _MAX_DEPTH:
            found = _failing_part(obj, seen, budget)
            if found is None:
                break
            label, obj, error = found
            path.append(label)
            seen.add(id(obj))
    except (_GaveUp, RecursionError):
        pass
    return "".join(path), reason(error)


def reason(error: BaseException) -> str:
    """One line that says why pickling failed."""
    if isinstance(error, RecursionError) or isinstance(error.__cause__, RecursionError):
        return "it is nested too deeply to be pickled"
    try:
        text = str(error).strip()
    except Exception:
        text = ""
    return text.splitlines()[0][:500] if text else type(error).__name__


def short_repr(obj: object, limit: int = 80) -> str:
    """Return ``repr(obj)`` on one line, cut; never fails."""
    import reprlib

    cutter = reprlib.Repr()
    cutter.maxstring = cutter.maxother = limit
    try:
        text = " ".join(cutter.repr(obj).split())
    except Exception:
        return f"<{type(obj).__name__}>"
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _failing_part(obj: Any, seen: set[int], budget: _Budget) -> tuple[str, Any, BaseException] | None:
    for label, part in itertools.islice(_parts(obj), _MAX_PARTS):
        budget.check()
        if id(part) in seen:
            continue
        failure = _probe(part, budget)
        if failure is not None:
            return label, part, failure
    return None


def _probe(part: Any, budget: _Budget) -> BaseException | None:
    try:
        encode(part, budget.make_file)
    except Exception as error:
        return error
    return None


# --- the parts of a value ---------------------------------------------------------------------------------


def _parts(obj: Any) -> Iterator[_Part]:
    """What a value consists of, with how to write the way there."""
    if isinstance(obj, types.FunctionType):
        if not travels_by_reference(obj):
            yield from _function_parts(obj)
    elif isinstance(obj, types.MethodType):
        yield ".__self__", obj.__self__
        yield ".__func__", obj.__func__
    elif isinstance(obj, functools.partial):
        yield ".func", obj.func
        yield from ((f".args[{index}]", part) for index, part in enumerate(obj.args))
        yield from ((f".keywords[{name!r}]", part) for name, part in obj.keywords.items())
        yield from _attributes(obj)
    elif isinstance(obj, type):
        if not travels_by_reference(obj):
            yield from _class_parts(obj)
    elif type(obj) is dict:
        yield from _pairs(obj.items())
    elif type(obj) in (list, tuple, deque):
        yield from ((f"[{index}]", part) for index, part in enumerate(obj))
    elif type(obj) in (set, frozenset):
        yield from ((f"{{{short_repr(part, 40)}}}", part) for part in obj)
    else:
        yield from _reduced_parts(obj)


def _pairs(pairs: Any) -> Iterator[_Part]:
    for key, value in pairs:
        yield f"[{short_repr(key, 40)}]", value
        yield f"{{key {short_repr(key, 40)}}}", key


def _function_parts(fn: types.FunctionType) -> Iterator[_Part]:
    for name, cell in zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=False):
        try:
            yield f".<captured {name}>", cell.cell_contents
        except ValueError:  # empty
            continue
    arguments = fn.__code__.co_varnames[: fn.__code__.co_argcount]
    defaults = fn.__defaults__ or ()
    for name, default in zip(arguments[len(arguments) - len(defaults) :], defaults, strict=False):
        yield f".<default {name}>", default
    for name, default in (fn.__kwdefaults__ or {}).items():
        yield f".<default {name}>", default
    yield from _mapping_parts(fn.__dict__)
    for name in _global_names(fn.__code__):
        if name in fn.__globals__:
            yield f".<global {name}>", fn.__globals__[name]


def _global_names(code: types.CodeType) -> list[str]:
    names = list(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names += _global_names(constant)
    return names


def _class_parts(cls: type) -> Iterator[_Part]:
    for name, value in cls.__dict__.items():
        if name in ("__dict__", "__weakref__", "__doc__", "__module__"):
            continue
        yield f".{name}", value.__func__ if isinstance(value, (staticmethod, classmethod)) else value
    yield from ((f".<base {base.__name__}>", base) for base in cls.__bases__)


def _reduced_parts(obj: Any) -> Iterator[_Part]:
    try:
        reducer = copyreg.dispatch_table.get(type(obj))
        reduced: Any = reducer(obj) if reducer is not None else obj.__reduce_ex__(5)
    except Exception:
        # Objects with slots and no __getstate__ of their own may still have parts; a lock has none.
        yield from _attributes(obj)
        return
    if not isinstance(reduced, tuple):
        return
    padded: list[Any] = [*reduced, None, None, None, None]
    function, arguments, state, items, pairs = padded[:5]
    if isinstance(state, tuple) and len(state) == 2 and isinstance(state[1], (dict, type(None))):
        yield from _mapping_parts(state[0])
        yield from _mapping_parts(state[1])
    elif isinstance(state, Mapping):
        yield from _mapping_parts(state)
    elif state is not None:
        yield ".<state>", state
    if items is not None:
        yield from ((f"[{index}]", part) for index, part in enumerate(items))
    if pairs is not None:
        yield from _pairs(pairs)
    yield f".<{getattr(function, '__name__', 'constructor')}>", function
    for index, part in enumerate(arguments or ()):
        yield (".__class__", part) if part is type(obj) else (f".<argument {index + 1}>", part)


def _mapping_parts(state: Any) -> Iterator[_Part]:
    if isinstance(state, Mapping):
        for name, part in state.items():
            yield f".{name}", part


def _attributes(obj: Any) -> Iterator[_Part]:
    yield from _mapping_parts(getattr(obj, "__dict__", None))
    for cls in type(obj).__mro__:
        slots = cls.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if hasattr(obj, name) and name not in ("__dict__", "__weakref__"):
                yield f".{name}", getattr(obj, name)
