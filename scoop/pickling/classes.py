"""Classes that travel by value, and remain the same class wherever they go.

Each has a token, made where the class was made. Whoever knows the token uses the class that is here; the
bytes beside it, made once and again when the class has changed, are for those who do not.

How a class is made again is cloudpickle's business, unless its metaclass has registered a way of its own with
copyreg (DEAP's ``creator``). What such a way leaves out - attributes set later - is sent along.
"""

from __future__ import annotations

import copyreg
import enum
import hashlib
import operator
import os
import threading
import types
import weakref
from collections.abc import Callable
from typing import Any

from scoop.pickling.keys import is_scalar
from scoop.pickling.missing import load_pickle
from scoop.pickling.recent import Recent
from scoop.pickling.rules import IdentityMap, is_remade, note_arrival, on_change, travels_by_reference

__all__ = ["TooDynamic", "keep_identity", "reduce_class", "reduce_remade"]

_REMEMBERED = 1024  # classes whose bytes are kept,
_REMEMBERED_BYTES = 64 * 1024 * 1024  # as long as they are not larger than this in total
_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE
_MAX_PARTS = 64  # of a container among the attributes of a class, for it to be compared part by part

_Reduced = tuple[Any, ...]


class TooDynamic(Exception):
    """The quick pickler met something that only the thorough one can send."""


class _Identity:
    """A class that travels by value: its name on the wire, and whether it was made in this process."""

    __slots__ = ("native", "token", "version")

    def __init__(self, token: bytes, native: bool, version: bytes) -> None:
        self.token = token
        self.native = native
        self.version = version


_identities: IdentityMap[_Identity] = IdentityMap()
_classes: weakref.WeakValueDictionary[bytes, type] = weakref.WeakValueDictionary()
_lock = threading.RLock()


def _identity(cls: type) -> _Identity:
    identity = _identities.get(cls)
    if identity is None:
        with _lock:  # two tokens would make two classes at the other end
            identity = _identities.get(cls)
            if identity is None:
                identity = _adopt(cls, os.urandom(12), native=True)
    return identity


def _adopt(cls: type, token: bytes, native: bool, version: bytes = b"") -> _Identity:
    identity = _Identity(token, native, version)
    with _lock:
        _identities.put(cls, identity)
        _classes[token] = cls
    if not native:
        note_arrival(cls)
    return identity


# --- whether a class has changed --------------------------------------------------------------------------


class _Shipment:
    """The bytes of a class, and what they were made from."""

    __slots__ = ("blob", "containers", "mro", "names", "own", "parts", "values", "version")

    def __init__(self, cls: type) -> None:
        """Look at the class; its bytes are made, or were, from what is seen here or from something newer."""
        self.blob = self.version = b""
        self.mro = cls.__mro__
        self.own = [base.__dict__ for base in cls.__mro__ if base is cls or not travels_by_reference(base)]
        self.names = [list(part) for part in self.own]
        self.values = [list(part.values()) for part in self.own]
        self.containers = _containers(cls)
        self.parts = _parts(self.containers)

    def fill(self, blob: bytes, version: bytes) -> None:
        """Add the bytes."""
        self.blob = blob
        self.version = version

    def holds(self, cls: type) -> bool:
        """Whether the class has not changed since: no attribute was set, and none has changed inside."""
        if self.parts is None or cls.__mro__ is not self.mro:
            return False
        for part, names, values in zip(self.own, self.names, self.values, strict=True):
            if list(part) != names or not all(map(operator.is_, part.values(), values)):
                return False
        now = _parts(self.containers)
        return now is not None and len(now) == len(self.parts) and all(map(operator.is_, now, self.parts))


def _containers(cls: type) -> list[Any]:
    """The attributes that can change without being set again."""
    if issubclass(cls, enum.Enum):
        return []
    found = []
    for base in cls.__mro__:
        if travels_by_reference(base):
            continue
        for name, value in list(base.__dict__.items()):
            # Whatever has a reserved name (fields of a dataclass, caches of abc) is not changed in place.
            reserved = name in _KNOWN_NAMES or (name.startswith("__") and name.endswith("__"))
            if not reserved and not _is_inert(value):
                found.append(value)
    return found


def _parts(containers: list[Any]) -> list[Any] | None:
    """All that is in them; None if something could change unseen."""
    parts: list[Any] = []
    return parts if all(_spread(value, parts, 4) for value in containers) else None


_KNOWN_NAMES = frozenset({"_abc_impl", "_fields", "_field_defaults"})


def _spread(value: Any, parts: list[Any], depth: int) -> bool:
    """Add all that a builtin container holds; False if it is none, or too large."""
    kind = type(value)
    if kind not in (list, tuple, dict, set, frozenset) or len(value) > _MAX_PARTS or not depth:
        return False
    parts += kind, value
    for part in [*value, *value.values()] if kind is dict else list(value):
        if _is_inert(part):
            parts.append(part)
        elif not _spread(part, parts, depth - 1):
            return False
    parts.append(None)  # the end of this container
    return True


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


# --- leaving ----------------------------------------------------------------------------------------------

#: By identity: a metaclass may forbid hashing, and a shipment keeps its class alive.
_shipments: Recent[int, _Shipment] = Recent(_REMEMBERED, _REMEMBERED_BYTES)
on_change(_shipments.clear)


class _Nested(threading.local):
    """The classes whose bytes this thread is making, by identity."""

    def __init__(self) -> None:
        self.classes: set[int] = set()


_nested = _Nested()


def reduce_class(cls: type, write: Callable[[type, bool], bytes]) -> _Reduced:
    """Say, as ``__reduce__`` does, how a class travels by value: its token, a version, and bytes.

    Args:
        cls: the class.
        write: makes bytes of a class alone; called with it and whether its later attributes go along.

    Raises:
        TooDynamic: it is a builtin type without a name.
        Exception: whatever the pickler raises.
    """
    if not cls.__flags__ & _HEAP_TYPE:
        raise TooDynamic  # cloudpickle knows some of them
    token = _identity(cls).token
    shipment = _shipments.get(id(cls))
    if shipment is None or not shipment.holds(cls):
        shipment = _Shipment(cls)
        blob = _bytes_of(cls, write)
        shipment.fill(blob, hashlib.blake2b(blob, digest_size=8).digest())
        _shipments.put(id(cls), shipment, len(blob))
    return _arrive_class, (token, shipment.version, shipment.blob)


def _bytes_of(cls: type, write: Callable[[type, bool], bytes]) -> bytes:
    outer = id(cls) not in _nested.classes
    _nested.classes.add(id(cls))
    try:
        return write(cls, True)
    except MemoryError:
        raise
    except Exception:
        if not is_remade(cls):
            raise
        # What its metaclass does not mention may be impossible to send, and be made anew over there.
        return write(cls, False)
    finally:
        if outer:
            _nested.classes.discard(id(cls))


def reduce_remade(
    cls: type, reduced: _Reduced, write: Callable[[type, bool], bytes] | None, bare: bool
) -> _Reduced:
    """Say how a class travels whose metaclass has a way of its own to make it again.

    Args:
        cls: the class.
        reduced: what that way returns.
        write: as for `reduce_class`, if the class is a part of something else; None if these are its bytes.
        bare: leave out what the metaclass does not mention.
    """
    if write is not None and id(cls) not in _nested.classes:
        return reduce_class(cls, write)
    make, args, *rest = reduced
    told = rest[0] if rest and rest[0] is not None else {}
    if type(told) is not dict or any(part is not None for part in rest[1:]):
        return reduced  # with items, or a way to set its state: nothing is known about such classes
    kind = type(cls)
    # A metaclass found by name is registered by its module, also elsewhere.
    way = None if travels_by_reference(kind) else copyreg.dispatch_table[kind]
    made = _arrive_remade, (_identity(cls).token, make, args, way)
    if write is not None or bare:
        return made  # inside its own bytes: the attributes follow at the end
    return (*made, {**_later_attributes(cls, args), **told}, None, None, _set_later_attributes)


def _later_attributes(cls: type, args: Any) -> dict[str, Any]:
    """What the class holds beside that which it is made from."""
    mentioned = [part for part in args if type(part) is dict]
    return {
        name: value
        for name, value in list(cls.__dict__.items())
        if not (name.startswith("__") and name.endswith("__"))
        and value is not args
        and not any(value is part or (name in part and part[name] is value) for part in mentioned)
    }


def keep_identity(cls: type, reduced: _Reduced) -> _Reduced:
    """Add the token of a class to what cloudpickle makes of it."""
    make, args, state, items, pairs, setter = reduced
    _keep_slots(cls, args, state)
    return make, args, (_identity(cls).token, setter, state), items, pairs, _set_class_state


def _keep_slots(cls: type, args: tuple[Any, ...], state: Any) -> None:
    """Let the class be made with its slots; cloudpickle sets ``__slots__`` only afterwards, to no effect."""
    attributes = state[0] if isinstance(state, tuple) and isinstance(state[0], dict) else {}
    if len(args) == 6 and isinstance(args[3], dict) and "__slots__" in attributes:
        args[3]["__slots__"] = attributes["__slots__"]
        for name, value in list(attributes.items()):
            if isinstance(value, types.MemberDescriptorType) and value.__objclass__ is cls:
                del attributes[name]  # one of a private name, which cloudpickle does not recognise


# --- arriving ---------------------------------------------------------------------------------------------


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
        shipment = _Shipment(made)
        shipment.fill(blob, version)
        _shipments.put(id(made), shipment, len(blob))
    return made


def _arrive_remade(token: bytes, make: Callable[..., type], args: tuple[Any, ...], way: Any = None) -> type:
    """The class of that token, made by its metaclass if it is not here.

    A metaclass that was sent by value too has `way`, the function to register for it with copyreg.
    """
    cls = _classes.get(token)
    if cls is not None:
        return cls
    made = make(*args)
    if way is not None:
        copyreg.dispatch_table.setdefault(type(made), way)
    with _lock:
        cls = _classes.get(token)
        if cls is not None:  # another thread was faster
            return cls
        if _identities.get(made) is None:
            _adopt(made, token, native=False)
        else:
            _classes[token] = made  # it was found rather than made, and has arrived from elsewhere as well
    return made


def _set_later_attributes(cls: type, attributes: dict[str, Any]) -> None:
    identity = _identities.get(cls)
    if identity is None or not identity.native:
        for name, value in attributes.items():
            setattr(cls, name, value)


def _set_class_state(cls: type, state: tuple[bytes, Callable[[type, Any], object], Any]) -> None:
    """Give a class that has arrived its attributes, unless it was made here and has the true ones."""
    token, setter, attributes = state
    identity = _identities.get(cls)
    if identity is None:
        identity = _adopt(cls, token, native=False)
    if not identity.native:
        setter(cls, attributes)
