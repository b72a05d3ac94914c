"""Keys of functions: two functions with equal keys do the same, so one shipped form serves both."""

from __future__ import annotations

import copyreg
import functools
import types
from typing import Any

from scoop.pickling.rules import MAIN_MODULES, located, travels_by_reference

__all__ = ["function_key", "function_name", "is_scalar", "is_self_contained", "names_in", "standing"]

#: Types whose values are immutable and hold nothing else.
ATOMS: frozenset[type] = frozenset({type(None), bool, int, float, complex, str, bytes})
#: Those of them whose equal values of one type are interchangeable (0.0 == -0.0 are not).
_EXACT: frozenset[type] = frozenset({type(None), bool, int, str, bytes})
_MAX_DEPTH = 8


def is_scalar(obj: object, _depth: int = _MAX_DEPTH) -> bool:
    """Whether a value is immutable through and through: it need not be copied, ever.

    Args:
        obj: any value.

    Returns:
        True for None, bool, int, float, complex, str and bytes (exactly these types) and for tuples of them,
        nested at most 8 deep.

    Example::

        >>> is_scalar((1, ("a", None))), is_scalar([1])
        (True, False)
    """
    cls = type(obj)
    if cls in ATOMS:
        return True
    if cls is not tuple or not _depth:
        return False
    items: tuple[object, ...] = obj  # type: ignore[assignment]
    return ATOMS.issuperset(map(type, items)) or all(is_scalar(item, _depth - 1) for item in items)


def is_self_contained(fn: types.FunctionType) -> bool:
    """Whether a function is made of code and scalars only, so that nothing inside it can change."""
    return (
        fn.__closure__ is None
        and (fn.__defaults__ is None or is_scalar(fn.__defaults__))
        and (not fn.__kwdefaults__ or is_scalar(tuple(fn.__kwdefaults__.values())))
        and not fn.__dict__
    )


def names_in(code: types.CodeType) -> set[str]:
    """Return the names of globals and attributes that a function's code uses, and the code inside it."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if type(constant) is types.CodeType:
            names |= names_in(constant)
    return names


def function_key(fn: object) -> tuple[Any, ...] | None:
    """Return a key that tells functions apart by code and captured values.

    Two functions with equal keys behave the same (module globals aside). Values are compared together with
    their types. The key keeps alive what it compares by identity.

    Args:
        fn: a plain function, a ``functools.partial``, a method of a class or module, or a builtin.

    Returns:
        A hashable key, or None if the function holds something that can change: it has to be pickled anew.

    Example::

        >>> keys = {function_key(lambda: n) for n in (1, 1, True)}
        >>> len(keys)
        2
    """
    try:
        if type(fn) is types.FunctionType:
            return _plain_key(fn, _MAX_DEPTH)
        return _key(fn, _MAX_DEPTH)
    except (ValueError, TypeError):  # an empty closure cell; a value that only looks like a known type
        return None


def _plain_key(fn: types.FunctionType, depth: int) -> tuple[Any, ...] | None:
    captured: tuple[Any, ...] | None = ()
    closure = fn.__closure__
    if closure:
        captured = _values_key(tuple([cell.cell_contents for cell in closure]), depth)
        if captured is None:
            return None
    defaults: tuple[Any, ...] | None = ()
    if fn.__defaults__:
        defaults = _values_key(fn.__defaults__, depth)
        if defaults is None:
            return None
    extra: tuple[Any, ...] | None = ()
    if fn.__kwdefaults__ or fn.__dict__:
        extra = _values_key((*_flat(fn.__kwdefaults__ or {}), "|", *_flat(fn.__dict__)), depth)
        if extra is None:
            return None
    # A builtin method is hashed and compared by the identity of its object, in C, and keeps it alive. Code
    # objects by themselves are compared by value, which is slow and ignores the file; dicts cannot be hashed.
    return (
        fn.__code__.replace,
        fn.__globals__.get,
        captured,
        defaults,
        extra,
        fn.__name__,
        fn.__qualname__,
        fn.__module__,
    )


def _flat(mapping: dict[str, Any]) -> list[Any]:
    return [part for item in mapping.items() for part in item]


def _values_key(values: tuple[Any, ...], depth: int) -> tuple[Any, ...] | None:
    """Values with their types, since 1 == True == 1.0; None if one of them can change."""
    kinds = tuple(map(type, values))
    if _EXACT.issuperset(kinds):
        return kinds, values
    if not depth:
        return None
    keys = []
    for kind, value in zip(kinds, values, strict=True):
        if kind in _EXACT:
            keys.append(value)
            continue
        key = _value_key(kind, value, depth - 1)
        if key is None:
            return None
        keys.append(key)
    return kinds, tuple(keys)


def _value_key(kind: type, value: Any, depth: int) -> Any:
    if kind is float:
        return value or repr(value)  # 0.0 and -0.0 are equal, and differ
    if kind is complex:
        return repr(value)
    if kind is tuple:
        return _values_key(value, depth)
    if kind is types.ModuleType:
        return value
    return _key(value, depth)


def _key(fn: Any, depth: int) -> tuple[Any, ...] | None:
    """The key of any callable."""
    if not depth:
        return None
    kind = type(fn)
    if kind is types.FunctionType:
        return _plain_key(fn, depth - 1)
    if kind is functools.partial:
        if fn.__dict__:
            return None
        func = _key(fn.func, depth - 1)
        parts = _values_key((*fn.args, "|", *_flat(fn.keywords)), depth - 1)
        return None if func is None or parts is None else ("partial", func, len(fn.args), parts)
    if kind is types.BuiltinFunctionType:
        owner = fn.__self__
        if owner is None or type(owner) is types.ModuleType:
            return "builtin", fn
        parts = _values_key((owner,), depth - 1)
        return None if parts is None else ("builtin", parts, fn.__name__)
    if kind is types.MethodType:
        func = _key(fn.__func__, depth - 1)
        owner = _values_key((fn.__self__,), depth - 1)
        return None if func is None or owner is None else ("method", func, owner)
    if kind is type and travels_by_reference(fn):
        return "class", fn
    return None


# --- what a callable is --------------------------------------------------------------------------------


def standing(fn: Any) -> tuple[tuple[str, str] | None, bool]:
    """Where a callable is found by name everywhere (or None), and whether its identity says all about it."""
    if isinstance(fn, (types.FunctionType, type)):
        if travels_by_reference(fn):
            return located(fn), True
        return None, type(fn) is types.FunctionType and is_self_contained(fn)
    if isinstance(fn, types.BuiltinFunctionType):
        owner = fn.__self__
        return None, owner is None or isinstance(owner, types.ModuleType) or is_scalar(owner)
    if isinstance(fn, (types.MethodDescriptorType, types.WrapperDescriptorType)):
        return None, travels_by_reference(fn.__objclass__)
    if isinstance(fn, functools._lru_cache_wrapper) and not _by_name(fn):
        return None, standing(fn.__wrapped__)[1]
    if isinstance(fn, (types.MethodType, functools.partial)):
        return None, False
    return (located(fn), True) if _by_name(fn) else (None, False)


def _by_name(fn: Any) -> bool:
    """Whether an object that is no function is pickled as a global name, e.g. a numpy ufunc."""
    place = located(fn)
    if place is None or place[0] in MAIN_MODULES:
        return False
    try:
        reducer = copyreg.dispatch_table.get(type(fn))
        return isinstance(reducer(fn) if reducer is not None else fn.__reduce_ex__(5), str)
    except Exception:
        return False


def function_name(fn: Any) -> str:
    """Return the name of a callable for messages: with its module, unless that is the program itself."""
    if isinstance(fn, functools.partial):
        return f"partial({function_name(fn.func)})"
    named = fn if isinstance(getattr(fn, "__qualname__", None), str) else type(fn)
    module = getattr(named, "__module__", None)
    if not isinstance(module, str) or module in MAIN_MODULES or module == "builtins":
        return str(named.__qualname__)
    return f"{module}.{named.__qualname__}"
