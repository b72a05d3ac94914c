"""Picklers that send by value what has no name elsewhere.

Two stages. The quick pickler is plain pickle with one question asked per function and class. What has to go
by value and cannot change - a class of ``__main__``, a function without captured values - goes as a token
together with bytes that cloudpickle made once; whoever knows the token does not look at the bytes. So a class
or function that travels to a worker and back is the very same object again, and its state here is not
overwritten by what came back. Everything else (closures, modules, ...) is left to the thorough pickler.
"""

from __future__ import annotations

import enum
import functools
import io
import operator
import os
import pickle
import sys
import threading
import types
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import IO, Any

from scoop.pickling import rules
from scoop.pickling.keys import function_key, is_scalar, is_self_contained
from scoop.pickling.missing import load_pickle
from scoop.pickling.rules import NAMED_TYPES, IdentityMap, travels_by_reference

__all__ = ["encode"]

PROTOCOL = 5
OUT_OF_BAND = 64 * 1024  # buffers of at least that many bytes stay out of the pickle
_REMEMBERED = 1024  # classes, and functions by key, whose bytes are kept
_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE

_Reduced = tuple[Any, ...]


class _TooDynamic(Exception):
    """The quick pickler met something that only the thorough one can send."""


class _Identity:
    """A class that travels by value: its name on the wire, and whether it was made in this process."""

    __slots__ = ("__weakref__", "native", "ref", "token", "version")

    def __init__(self, cls: type, token: bytes, native: bool, version: bytes) -> None:
        self.ref = weakref.ref(cls)
        self.token = token
        self.native = native
        self.version = version


class _Shipment:
    """The bytes of a class, and what they were made from."""

    __slots__ = ("blob", "fixed", "mro", "names", "own", "values", "version")

    def __init__(self, cls: type, blob: bytes, version: bytes) -> None:
        self.blob = blob
        self.version = version
        self.mro = cls.__mro__
        self.own = [base.__dict__ for base in cls.__mro__ if base is cls or not travels_by_reference(base)]
        self.names = [list(part) for part in self.own]
        self.values = [list(part.values()) for part in self.own]
        self.fixed = _is_fixed(cls)

    def holds(self, cls: type) -> bool:
        """Whether the class has not changed since: no attribute was set, and none can change inside."""
        if not self.fixed or cls.__mro__ is not self.mro:
            return False
        for part, names, values in zip(self.own, self.names, self.values, strict=True):
            if list(part) != names or not all(map(operator.is_, part.values(), values)):
                return False
        return True


_identities: IdentityMap[_Identity] = IdentityMap()
_classes: weakref.WeakValueDictionary[bytes, type] = weakref.WeakValueDictionary()
_shipments: OrderedDict[type, _Shipment] = OrderedDict()  # bounded, since a shipment keeps its class alive
_functions: weakref.WeakValueDictionary[bytes, types.FunctionType] = weakref.WeakValueDictionary()
_function_forms: IdentityMap[tuple[bytes, bytes]] = IdentityMap()
_forms_by_key: OrderedDict[tuple[Any, ...], tuple[bytes, bytes]] = OrderedDict()
_registry_lock = threading.RLock()


def _forget() -> None:
    _shipments.clear()
    _function_forms.clear()
    _forms_by_key.clear()


rules.on_change(_forget)


# --- classes ----------------------------------------------------------------------------------------------


def _is_fixed(cls: type) -> bool:
    """Whether nothing in the class can change without an attribute being set."""
    if issubclass(cls, enum.Enum):
        return True
    for base in cls.__mro__:
        if travels_by_reference(base):
            continue
        for name, value in base.__dict__.items():
            # Whatever has a reserved name (fields of a dataclass, caches of abc) is not changed in place.
            reserved = name in _KNOWN_NAMES or (name.startswith("__") and name.endswith("__"))
            if not reserved and not _is_inert(value):
                return False
    return True


_KNOWN_NAMES = frozenset({"_abc_impl", "_fields", "_field_defaults"})


def _is_inert(value: Any) -> bool:
    if isinstance(value, (staticmethod, classmethod)):
        value = value.__func__
    if isinstance(value, types.FunctionType):
        cells = value.__closure__ or ()
        try:
            captured = [cell.cell_contents for cell in cells]
        except ValueError:  # an empty cell will be filled later
            return False
        if not is_scalar(value.__defaults__):
            return False
        return all(isinstance(part, (type, types.FunctionType)) or is_scalar(part) for part in captured)
    # Builtin descriptors (property, slots, fields of a named tuple) cannot be changed in place.
    kind = type(value)
    is_descriptor = hasattr(kind, "__get__") and not kind.__flags__ & _HEAP_TYPE
    return is_descriptor or isinstance(value, type) or is_scalar(value) or kind.__name__ == "_tuplegetter"


def _identity(cls: type) -> _Identity:
    identity = _identities.get(cls)
    return _adopt(cls, os.urandom(12), native=True) if identity is None else identity


def _adopt(cls: type, token: bytes, native: bool, version: bytes = b"") -> _Identity:
    identity = _Identity(cls, token, native, version)
    _identities.put(cls, identity)
    _classes[token] = cls
    return identity


def _reduce_class(cls: type) -> _Reduced:
    if not cls.__flags__ & _HEAP_TYPE:
        raise _TooDynamic  # a builtin type without a name: cloudpickle knows some of them
    identity = _identity(cls)
    shipment = _shipments.get(cls) if type(cls).__hash__ is type.__hash__ else None
    if shipment is None or not shipment.holds(cls):
        blob = _thorough_bytes(cls)
        version = _digest(blob)
        shipment = _Shipment(cls, blob, version)
        _remember_shipment(cls, shipment)
    return _arrive_class, (identity.token, shipment.version, shipment.blob)


def _remember_shipment(cls: type, shipment: _Shipment) -> None:
    if type(cls).__hash__ is type.__hash__:
        _shipments[cls] = shipment
        if len(_shipments) > _REMEMBERED:
            _shipments.popitem(last=False)


def _digest(blob: bytes) -> bytes:
    import hashlib

    return hashlib.blake2b(blob, digest_size=8).digest()


def _arrive_class(token: bytes, version: bytes, blob: bytes) -> type:
    """The class of that token: the one that is here, brought up to date, or a new one made from the bytes."""
    cls = _classes.get(token)
    if cls is not None:
        identity = _identities.get(cls)
        if identity is not None and (identity.native or identity.version == version):
            return cls
    made: type = load_pickle(blob)
    identity = _identities.get(made)
    if identity is None or not identity.native:
        _adopt(made, token, native=False, version=version)
        _remember_shipment(made, _Shipment(made, blob, version))
    return made


def _set_class_state(cls: type, state: tuple[bytes, Callable[[type, Any], object], Any]) -> None:
    """Give a class that has arrived its attributes, unless it was made here and has the true ones."""
    token, setter, attributes = state
    identity = _identities.get(cls)
    if identity is None:
        identity = _adopt(cls, token, native=False)
    if not identity.native:
        setter(cls, attributes)


# --- functions --------------------------------------------------------------------------------------------


def _reduce_function(fn: types.FunctionType) -> _Reduced:
    form = _function_forms.get(fn)
    if form is None:
        if not is_self_contained(fn):
            raise _TooDynamic
        key = function_key(fn)
        form = _forms_by_key.get(key) if key is not None else None
        if form is None:
            form = (os.urandom(12), _thorough_bytes(fn))
            _functions[form[0]] = fn
            if key is not None:
                _forms_by_key[key] = form
                if len(_forms_by_key) > _REMEMBERED:
                    _forms_by_key.popitem(last=False)
        _function_forms.put(fn, form)
    elif not is_self_contained(fn):  # it was given an attribute since
        raise _TooDynamic
    return _arrive_function, form


def _arrive_function(token: bytes, blob: bytes) -> types.FunctionType:
    fn = _functions.get(token)
    if fn is None:
        fn = load_pickle(blob)
        assert fn is not None
        _functions[token] = fn
        _function_forms.put(fn, (token, blob))
    return fn


def _reduce_named(obj: Any) -> Any:
    """Objects that plain pickle sends as a global name although they are no functions or classes."""
    if isinstance(obj, types.MethodType):
        if getattr(obj.__self__, obj.__name__, None) == obj:
            return NotImplemented
        raise _TooDynamic  # e.g. a lambda used as a method
    if travels_by_reference(obj):
        return NotImplemented
    if isinstance(obj, functools._lru_cache_wrapper):
        return _make_cached, (obj.__wrapped__, obj.cache_parameters())
    raise _TooDynamic


def _make_cached(fn: Callable[..., Any], parameters: dict[str, Any]) -> Any:
    return functools.lru_cache(**parameters)(fn)


# --- picklers ---------------------------------------------------------------------------------------------


class _QuickPickler(pickle.Pickler):
    """Plain pickle, but functions and classes without a name elsewhere go as tokens."""

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if issubclass(kind, type):
            return NotImplemented if travels_by_reference(obj) else _reduce_class(obj)
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
        def reducer_override(self, obj: Any) -> Any:
            kind = type(obj)
            is_class = issubclass(kind, type)
            if not is_class and kind is not types.FunctionType:
                if kind is functools._lru_cache_wrapper and not travels_by_reference(obj):
                    return _make_cached, (obj.__wrapped__, obj.cache_parameters())
                return NotImplemented
            if rules.decide(obj):
                return NotImplemented
            reduced = self._forced(obj)
            if is_class and isinstance(reduced, tuple) and len(reduced) == 6:
                make, args, state, items, pairs, setter = reduced
                _keep_slots(obj, args, state)
                token = _identity(obj).token
                return make, args, (token, setter, state), items, pairs, _set_class_state
            return reduced

        def _forced(self, obj: Any) -> Any:
            """What cloudpickle makes of it, also if it believes that the name is enough."""
            module = sys.modules.get(obj.__module__) if rules.located(obj) else None
            with _registry_lock:
                if module is None or module.__name__ in cloudpickle.list_registry_pickle_by_value():
                    return super().reducer_override(obj)
                cloudpickle.register_pickle_by_value(module)
                try:
                    return super().reducer_override(obj)
                finally:
                    cloudpickle.unregister_pickle_by_value(module)

    return ThoroughPickler


def _keep_slots(cls: type, args: tuple[Any, ...], state: Any) -> None:
    """Let the class be made with its slots; cloudpickle sets ``__slots__`` only afterwards, to no effect."""
    attributes = state[0] if isinstance(state, tuple) and isinstance(state[0], dict) else {}
    if len(args) == 6 and isinstance(args[3], dict) and "__slots__" in attributes:
        args[3]["__slots__"] = attributes["__slots__"]
        for name, value in list(attributes.items()):
            if isinstance(value, types.MemberDescriptorType) and value.__objclass__ is cls:
                del attributes[name]  # one of a private name, which cloudpickle does not recognise


def _thorough_bytes(obj: Any) -> bytes:
    file = io.BytesIO()
    _thorough_pickler()(file, PROTOCOL).dump(obj)
    return file.getvalue()


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
