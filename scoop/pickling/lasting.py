"""Digests and bytes that mean the same in another run of the program.

`function_key` tells functions apart within one process. Here the same is asked across processes: equal
digests mean the same code and the same values. What counts for a function: its code (not its place in the
file), defaults, captured values and attributes, and, as far as its own module goes, the functions, classes
and plain constants that it names, and what these name. Other modules do not count, nor what can change.
"""

from __future__ import annotations

import functools
import hashlib
import pickle
import types
from typing import Any

from scoop import pickling
from scoop.pickling.keys import ATOMS, is_scalar, names_in
from scoop.pickling.rules import travels_by_reference
from scoop.pickling.travel import PROTOCOL

__all__ = ["dumps_lasting", "lasting_digest", "lasting_function_digest"]

DIGEST_BYTES = 16
_PLAIN = ATOMS | {list, tuple, dict}
_OF_PLACE = frozenset({"__doc__", "__firstlineno__", "__module__", "__static_attributes__"})


def lasting_digest(value: Any) -> bytes:
    """Return 16 bytes that tell values apart, in any process.

    Sets count whatever their order; functions of modules, and classes, by their name; other functions by
    their code; other objects by their pickle.

    Raises:
        NotPicklableError: it cannot be pickled.
    """
    if is_scalar(value):
        return hashlib.blake2b(repr(value).encode(errors="surrogatepass"), digest_size=DIGEST_BYTES).digest()
    return _digest(value, _Seen(modules=False))


def lasting_function_digest(fn: Any, *more: Any) -> bytes:
    """Return 16 bytes that tell functions apart by what they do, in any process.

    Args:
        fn: any callable.
        more: what else is to count.

    Raises:
        NotPicklableError: something that it has captured cannot be pickled.
    """
    seen = _Seen(modules=True)
    owner = fn.__self__ if isinstance(fn, types.MethodType) else fn
    named = isinstance(fn, (types.FunctionType, types.BuiltinFunctionType, functools.partial, type))
    cls = fn if isinstance(fn, type) else owner if isinstance(owner, type) else type(owner)
    # Of an object that is called, or whose method is, the code is in its class.
    code = _class_parts(cls, seen) if not named or isinstance(fn, type) else ()
    return _digest((fn, code, more), seen)


def dumps_lasting(value: Any) -> bytes:
    """Turn a value into bytes for `scoop.pickling.loads` in another run of the same program.

    What the program itself defines is found by its name there, also in ``__main__``; what has no name goes by
    value.

    Raises:
        NotPicklableError: it cannot be pickled.
    """
    try:
        return b"P" + pickle.dumps(value, PROTOCOL)
    except MemoryError:
        raise
    except Exception:
        return pickling.dumps(value, "the result")


# --- digests ----------------------------------------------------------------------------------------------


class _Seen:
    """The functions and classes that a digest has met, by identity; None while one is being looked at.

    With `modules`, the code of functions of importable modules counts, otherwise their name.
    """

    def __init__(self, modules: bool) -> None:
        self.modules = modules
        self.digests: dict[int, bytes | None] = {}
        self.alive: list[Any] = []  # so that no identity is used twice


class _Sink:
    """A file that keeps only the digest of what is written."""

    def __init__(self) -> None:
        self.hash = hashlib.blake2b(digest_size=DIGEST_BYTES)

    def write(self, data: Any) -> int:
        self.hash.update(data)
        return len(data)


class _Pickler(pickle.Pickler):
    """A pickler whose bytes depend on values only, not on identities or on the order of sets."""

    def __init__(self, sink: _Sink, seen: _Seen, by_identity: bool) -> None:
        super().__init__(sink, PROTOCOL)
        self.fast = not by_identity  # equal parts that are one object give the same bytes as two
        self.seen = seen

    def persistent_id(self, obj: Any) -> Any:
        kind = type(obj)
        if kind in _PLAIN:
            return None
        if kind is set or kind is frozenset:
            return kind.__name__, sorted(_digest(item, self.seen) for item in obj)
        if kind is types.FunctionType:
            if not self.seen.modules and travels_by_reference(obj):
                return "function", (obj.__module__, obj.__qualname__)
            return "function", _once(obj, _function_parts, self.seen)
        if kind is types.CodeType:
            return "code", _code_parts(obj)
        if kind is types.MethodType:
            return "method", (obj.__func__, obj.__self__)
        if kind is types.ModuleType:
            return "module", obj.__name__
        if kind is functools._lru_cache_wrapper:
            return "cached", (obj.__wrapped__,)
        if isinstance(obj, type):
            return "class", (obj.__module__, obj.__qualname__)
        return None


def _digest(value: Any, seen: _Seen) -> bytes:
    try:
        sink = _Sink()
        _Pickler(sink, seen, False).dump(value)
    except MemoryError:
        raise
    except Exception:
        try:
            sink = _Sink()  # a list that holds itself, for instance
            _Pickler(sink, seen, True).dump(value)
        except MemoryError:
            raise
        except Exception:
            # What plain pickle cannot take, e.g. an object of a local class.
            return hashlib.blake2b(pickling.dumps(value), digest_size=DIGEST_BYTES).digest()
    return sink.hash.digest()


def _once(obj: Any, parts: Any, seen: _Seen) -> bytes:
    """The digest of a function's or class's parts, made once; one that leads back to itself is named only."""
    if id(obj) not in seen.digests:
        seen.digests[id(obj)] = None
        seen.alive.append(obj)
        seen.digests[id(obj)] = _digest(parts(obj, seen), seen)
    return seen.digests[id(obj)] or str(obj.__qualname__).encode()


def _code_parts(code: types.CodeType) -> tuple[Any, ...]:
    return (
        code.co_code,
        code.co_consts,
        code.co_names,
        code.co_varnames,
        code.co_cellvars,
        code.co_freevars,
        code.co_flags,
        (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount),
        getattr(code, "co_exceptiontable", b""),
    )


def _function_parts(fn: types.FunctionType, seen: _Seen) -> tuple[Any, ...]:
    cells = [_content(cell) for cell in fn.__closure__ or ()]
    named = [(name, _named(fn, name, seen)) for name in sorted(names_in(fn.__code__))]
    return (
        fn.__code__,
        fn.__defaults__,
        sorted((fn.__kwdefaults__ or {}).items(), key=lambda item: item[0]),
        cells,
        sorted(fn.__dict__.items(), key=lambda item: item[0]),
        [(name, part) for name, part in named if part is not None],
    )


def _content(cell: types.CellType) -> Any:
    try:
        return (cell.cell_contents,)
    except ValueError:  # it will be filled later
        return ()


def _named(fn: types.FunctionType, name: str, seen: _Seen) -> Any:
    """What counts of the global that a function names: a helper of the same module, or a plain constant."""
    if name not in fn.__globals__:
        return None
    value = fn.__globals__[name]
    if type(value) is types.FunctionType:
        return (value,) if value.__globals__ is fn.__globals__ else None
    if isinstance(value, type):
        return (_once(value, _class_parts, seen),) if value.__module__ == fn.__module__ else None
    return (value,) if is_scalar(value) else None


def _class_parts(cls: type, seen: _Seen) -> tuple[Any, ...]:
    """The methods and plain attributes of a class, and of those that it is made from in the same module."""
    parts = []
    for name, value in sorted(vars(cls).items()):
        if isinstance(value, (staticmethod, classmethod)):
            value = value.__func__
        if isinstance(value, property):
            parts.append((name, (value.fget, value.fset, value.fdel)))
        elif type(value) is types.FunctionType or (is_scalar(value) and name not in _OF_PLACE):
            parts.append((name, value))
    bases = [_once(base, _class_parts, seen) for base in cls.__bases__ if base.__module__ == cls.__module__]
    return cls.__qualname__, parts, bases
