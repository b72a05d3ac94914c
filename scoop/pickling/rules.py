"""Which functions and classes another process can find by their name, and which have to travel by value.

By reference is right for whatever an importable module holds under its own name. Everything of ``__main__``
(the program is another module in a worker), everything local, and what `by_value` names goes by value.
"""

from __future__ import annotations

import copyreg
import functools
import pickle
import sys
import threading
import types
import typing
import weakref
from typing import Any, Generic, TypeVar

__all__ = [
    "IdentityMap",
    "by_value",
    "forget_decisions",
    "located",
    "note_arrival",
    "on_change",
    "travels_by_reference",
]

V = TypeVar("V")

MAIN_MODULES = frozenset({"__main__", "__mp_main__"})
_NAMELESS_TYPES = frozenset({type(None), type(...), type(NotImplemented)})  # pickle knows these by itself


class IdentityMap(Generic[V]):
    """A mapping from live objects to values: weak, and by identity (a metaclass may forbid hashing)."""

    __slots__ = ("_entries",)

    def __init__(self) -> None:
        self._entries: dict[int, tuple[weakref.ref[Any], V]] = {}

    def get(self, obj: object) -> V | None:
        """Return what was put for this very object, or None."""
        entry = self._entries.get(id(obj))
        return entry[1] if entry is not None and entry[0]() is obj else None

    def put(self, obj: object, value: V) -> None:
        """Keep a value as long as the object lives."""
        key, entries = id(obj), self._entries

        def gone(ref: weakref.ref[Any]) -> None:
            entry = entries.get(key)
            if entry is not None and entry[0] is ref:
                del entries[key]

        entries[key] = (weakref.ref(obj, gone), value)

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()


_decided: IdentityMap[bool] = IdentityMap()
_arrived: IdentityMap[bool] = IdentityMap()
_epoch = 0  # grows whenever the rules change

#: Held by whoever registers a module with cloudpickle for a moment only, so that nobody takes it for a rule.
registry_lock = threading.RLock()
_value_modules: set[str] = set()
_value_names: set[tuple[str, str]] = set()
_listeners: list[typing.Callable[[], None]] = []


def travels_by_reference(obj: Any) -> bool:
    """Whether a function or class can be found by its name in another process (remembered)."""
    decision = _decided.get(obj)
    return decide(obj) if decision is None else decision


def decide(obj: Any) -> bool:
    """Decide as `travels_by_reference`, by looking again."""
    epoch = _epoch
    decision = _decide(obj)
    _decided.put(obj, decision)
    if epoch != _epoch:  # another thread has changed the rules meanwhile
        _decided.clear()
    return decision


def _decide(obj: Any) -> bool:
    if type(obj) is type and obj in _NAMELESS_TYPES:
        return True
    if _arrived.get(obj):
        return False
    place = located(obj)
    return (
        place is not None and place[0] not in MAIN_MODULES and not is_by_value(*place) and not is_remade(obj)
    )


def is_remade(obj: Any) -> bool:
    """Whether it is a class whose metaclass has registered with copyreg how its classes are made again.

    Plain pickle asks such a metaclass before it thinks of the name; DEAP's ``creator`` lives on that.
    """
    kind = type(obj)
    reducer = copyreg.dispatch_table.get(kind) if kind is not type and issubclass(kind, type) else None
    if reducer is None:
        return False
    try:
        return not isinstance(reducer(obj), str)
    except Exception:
        return True  # whoever pickles it will meet the error


def note_arrival(cls: type) -> None:
    """Note that a class was sent here by value, so that it leaves the same way.

    It may be found here by name by now, but not in a third process; and where it comes from, the name may
    belong to a newer class.
    """
    _arrived.put(cls, True)
    _decided.put(cls, False)


def located(obj: Any) -> tuple[str, str] | None:
    """Return the module and qualified name under which the object itself is found here, or None."""
    qualname = getattr(obj, "__qualname__", None) or getattr(obj, "__name__", None)
    if not isinstance(qualname, str) or "<locals>" in qualname:
        return None
    module = getattr(obj, "__module__", None)
    if not isinstance(module, str):
        module = pickle.whichmodule(obj, qualname)  # type: ignore[attr-defined]
    found: Any = sys.modules.get(module)
    if found is None:
        return None
    try:
        for part in qualname.split("."):
            found = getattr(found, part)
    except AttributeError:
        return None
    return (module, qualname) if found is obj else None


def is_by_value(module: str, qualname: str) -> bool:
    """Whether `by_value` was called for this name, for what contains it, or for its module or package."""
    if _value_modules and any(_prefixes(module, _value_modules)):
        return True
    if _value_names and any((module, part) in _value_names for part in _dotted(qualname)):
        return True
    cloudpickle = sys.modules.get("cloudpickle")
    if cloudpickle is None:
        return False
    with registry_lock:
        registered = cloudpickle.list_registry_pickle_by_value()  # by the program itself
    return bool(registered) and any(_prefixes(module, registered))


def _dotted(name: str) -> list[str]:
    """Return what "a.b.c" begins with: ["a", "a.b", "a.b.c"]."""
    parts = name.split(".")
    return [".".join(parts[: n + 1]) for n in range(len(parts))]


def _prefixes(name: str, names: set[str]) -> list[str]:
    return [part for part in _dotted(name) if part in names]


def is_findable(module: str) -> bool:
    """Whether another process with our search path could import the module's top-level package."""
    top = module.partition(".")[0]
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        if find is not None and find(top, None) is not None:
            return True
    return False


def by_value(module: str, qualname: str = "") -> None:
    """From now on send a function or class of an importable module by value, from this process.

    Needed for what exists in this process only although it claims to belong to a module, such as a class
    that a library makes at run time, and for modules that other hosts do not have.

    Args:
        module: name of the module.
        qualname: qualified name of the function or class inside it; empty for the whole module, its
            submodules included.

    Example::

        creator.create("Individual", list)
        scoop.pickling.by_value("deap.creator", "Individual")
    """
    if qualname:
        _value_names.add((module, qualname))
    else:
        _value_modules.add(module)
        if module in sys.modules:
            # The module object itself, when a function refers to it, is cloudpickle's business.
            import cloudpickle  # type: ignore[import-untyped]

            with registry_lock:
                cloudpickle.register_pickle_by_value(sys.modules[module])
    forget_decisions()


def forget_decisions() -> None:
    """Look again at everything, after the rules have changed."""
    global _epoch
    _epoch += 1
    _decided.clear()
    for listener in _listeners:
        listener()


def on_change(listener: typing.Callable[[], None]) -> None:
    """Call the listener whenever the rules change."""
    _listeners.append(listener)


#: Objects that are neither functions nor classes, but which pickle sends as a global name.
NAMED_TYPES: frozenset[type] = frozenset(
    {functools._lru_cache_wrapper, TypeVar, types.MethodType}
    | {getattr(typing, name) for name in ("ParamSpec", "TypeVarTuple") if hasattr(typing, name)}
)
