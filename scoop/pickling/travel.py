"""Picklers that send by value what has no name elsewhere.

Two stages. The quick pickler is plain pickle with one question asked per function and class. What has to go
by value and cannot change - a class of ``__main__``, a function without captured values - goes as a token
together with bytes that cloudpickle made once; whoever knows the token does not look at the bytes. So a class
or function that travels to a worker and back is the very same object again, and its state here is not
overwritten by what came back. Everything else (closures, modules, ...) is left to the thorough pickler.
"""

from __future__ import annotations

import copyreg
import functools
import io
import os
import pickle
import sys
import types
import weakref
from collections.abc import Callable
from typing import IO, Any

from scoop.pickling import rules
from scoop.pickling.classes import TooDynamic, keep_identity, reduce_class, reduce_remade
from scoop.pickling.keys import function_key, is_self_contained, names_in
from scoop.pickling.missing import load_pickle
from scoop.pickling.recent import Recent
from scoop.pickling.rules import NAMED_TYPES, IdentityMap, travels_by_reference

__all__ = ["encode"]

PROTOCOL = 5
OUT_OF_BAND = 64 * 1024  # buffers of at least that many bytes stay out of the pickle
_REMEMBERED = 1024  # functions, by key, whose bytes are kept,
_REMEMBERED_BYTES = 64 * 1024 * 1024  # as long as they are not larger than this in total

_Reduced = tuple[Any, ...]


# --- functions --------------------------------------------------------------------------------------------

_functions: weakref.WeakValueDictionary[bytes, types.FunctionType] = weakref.WeakValueDictionary()
_forms: IdentityMap[tuple[bytes, bytes]] = IdentityMap()
_forms_by_key: Recent[tuple[Any, ...], tuple[bytes, bytes]] = Recent(_REMEMBERED, _REMEMBERED_BYTES)
rules.on_change(_forms.clear)
rules.on_change(_forms_by_key.clear)


def _reduce_function(fn: types.FunctionType) -> _Reduced:
    form = _forms.get(fn)
    if form is None:
        if not is_self_contained(fn):
            raise TooDynamic
        key = function_key(fn)
        form = _forms_by_key.get(key) if key is not None else None
        if form is None:
            form = (os.urandom(12), _thorough_bytes(fn))
            if key is not None:
                _forms_by_key.put(key, form, len(form[1]))
        _functions.setdefault(form[0], fn)  # an equal one, of which the form was made, may be gone
        _forms.put(fn, form)
    elif not is_self_contained(fn):  # it was given an attribute since
        raise TooDynamic
    return _arrive_function, form


def _arrive_function(token: bytes, blob: bytes) -> types.FunctionType:
    fn = _functions.get(token)
    if fn is None:
        fn = load_pickle(blob)
        assert fn is not None
        fn = _functions.setdefault(token, fn)  # another thread may have been faster
        _forms.put(fn, (token, blob))
    return fn


def _reduce_named(obj: Any) -> Any:
    """Objects that plain pickle sends as a global name although they are no functions or classes."""
    if isinstance(obj, types.MethodType):
        if getattr(obj.__self__, obj.__name__, None) == obj:
            return NotImplemented
        raise TooDynamic  # e.g. a lambda used as a method
    if travels_by_reference(obj):
        return NotImplemented
    if isinstance(obj, functools._lru_cache_wrapper):
        return _make_cached, (obj.__wrapped__, obj.cache_parameters())
    raise TooDynamic


def _make_cached(fn: Callable[..., Any], parameters: dict[str, Any]) -> Any:
    return functools.lru_cache(**parameters)(fn)


# --- picklers ---------------------------------------------------------------------------------------------


class _QuickPickler(pickle.Pickler):
    """Plain pickle, but functions and classes without a name elsewhere go as tokens."""

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if issubclass(kind, type):
            return NotImplemented if travels_by_reference(obj) else reduce_class(obj, _class_bytes)
        if kind is types.FunctionType:
            return NotImplemented if travels_by_reference(obj) else _reduce_function(obj)
        if kind in NAMED_TYPES:
            return _reduce_named(obj)
        return NotImplemented


@functools.cache
def _thorough_pickler() -> type[pickle.Pickler]:
    """cloudpickle's pickler under our rules; imported when first needed: an idle worker stays small."""
    import cloudpickle  # type: ignore[import-untyped]

    class ThoroughPickler(cloudpickle.Pickler):  # type: ignore[misc]
        root: type | None = None  # the class whose own bytes these are,
        bare = False  # and whether they are without what its metaclass does not mention

        def reducer_override(self, obj: Any) -> Any:
            kind = type(obj)
            is_class = issubclass(kind, type)
            if not is_class and kind is not types.FunctionType:
                if kind is types.CodeType:
                    return _keep_filename(obj, self.dispatch_table[kind](obj))
                if kind is functools._lru_cache_wrapper and not travels_by_reference(obj):
                    return _make_cached, (obj.__wrapped__, obj.cache_parameters())
                return NotImplemented
            if rules.decide(obj):
                return NotImplemented
            if is_class:
                return self._reduce_class(obj)
            reduced = self._forced(obj)
            needed = _remade_classes(obj)
            if needed and isinstance(reduced, tuple):
                make, args, *rest = reduced
                return _make_beside, (needed, make, args), *rest
            return reduced

        def _reduce_class(self, cls: type) -> Any:
            registered = copyreg.dispatch_table.get(type(cls))
            remade: Any = registered(cls) if registered is not None else ""
            if not isinstance(remade, str):
                return reduce_remade(cls, remade, None if cls is self.root else _class_bytes, self.bare)
            reduced = self._forced(cls)
            if isinstance(reduced, tuple) and len(reduced) == 6:
                return keep_identity(cls, reduced)
            return reduced

        def _forced(self, obj: Any) -> Any:
            """What cloudpickle makes of it, also if it believes that the name is enough."""
            module = sys.modules.get(obj.__module__) if rules.located(obj) else None
            with rules.registry_lock:
                if module is None or module.__name__ in cloudpickle.list_registry_pickle_by_value():
                    return super().reducer_override(obj)
                cloudpickle.register_pickle_by_value(module)
                try:
                    return super().reducer_override(obj)
                finally:
                    cloudpickle.unregister_pickle_by_value(module)

    return ThoroughPickler


def _thorough_bytes(obj: Any, root: type | None = None, bare: bool = False) -> bytes:
    file = io.BytesIO()
    pickler: Any = _thorough_pickler()(file, PROTOCOL)
    pickler.root, pickler.bare = root, bare
    pickler.dump(obj)
    return file.getvalue()


def _class_bytes(cls: type, whole: bool) -> bytes:
    return _thorough_bytes(cls, cls, not whole)


def _remade_classes(fn: types.FunctionType) -> list[type]:
    """The classes made at run time that a function finds as attributes of modules: ``creator.Individual``.

    The modules travel by name and do not bring them.
    """
    metaclasses = tuple(kind for kind in list(copyreg.dispatch_table) if issubclass(kind, type))
    if not metaclasses:
        return []
    names = names_in(fn.__code__)
    modules = [fn.__globals__.get(name) or sys.modules.get(name) for name in names]
    found: dict[int, type] = {}
    looked_into = set()
    while modules:
        module = modules.pop()
        if type(module) is not types.ModuleType or id(module) in looked_into:
            continue
        looked_into.add(id(module))
        held = module.__dict__
        for name in names:
            part = held.get(name)
            if isinstance(part, metaclasses) and not travels_by_reference(part):
                found[id(part)] = part
            elif type(part) is types.ModuleType:
                modules.append(part)
    return list(found.values())


def _keep_filename(code: types.CodeType, reduced: _Reduced) -> _Reduced:
    """What makes a code object, with its file's name: some versions of cloudpickle drop it.

    Tracebacks, and the stack of a worker that crashes, shall say where the line is.
    """
    if code.co_filename in reduced[1]:
        return reduced
    return _make_code, (code.co_filename, *reduced)


def _make_code(filename: str, make: Callable[..., types.CodeType], args: tuple[Any, ...]) -> types.CodeType:
    return make(*args).replace(co_filename=filename)


def _make_beside(needed: list[type], make: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """Make a function after the classes that it finds by name have arrived."""
    return make(*args)


def encode(
    obj: Any, make_file: Callable[[], IO[bytes]] = io.BytesIO
) -> tuple[IO[bytes], list[pickle.PickleBuffer]]:
    """Pickle a value, its large buffers aside.

    Args:
        obj: the value.
        make_file: makes the file to write to; called a second time if the first attempt fails.

    Returns:
        The file, and the buffers of at least 64 KiB that are not in it.

    Raises:
        Exception: whatever the pickler, or a method of the value, raises.
    """
    buffers: list[pickle.PickleBuffer] = []

    def aside(buffer: pickle.PickleBuffer) -> bool:
        if memoryview(buffer).nbytes < OUT_OF_BAND:
            return True
        buffers.append(buffer)
        return False

    file = make_file()
    try:
        _QuickPickler(file, PROTOCOL, buffer_callback=aside).dump(obj)
    except Exception as error:
        if isinstance(error, MemoryError):
            raise
    else:
        return file, buffers
    buffers.clear()
    file = make_file()
    _thorough_pickler()(file, PROTOCOL, buffer_callback=aside).dump(obj)
    return file, buffers
