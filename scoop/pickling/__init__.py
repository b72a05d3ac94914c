"""How callables and values become bytes, and come back.

Plain pickle whenever the other process can find every function and class by its name; what it cannot find -
``__main__``, lambdas, local functions and classes, whatever `by_value` names - travels by value, with
cloudpickle. Large buffers (numpy arrays) are not copied into the pickle.

Layout of the bytes: a tag, ``P`` or ``B``.

* ``P``: a pickle follows.
* ``B``: three zero bytes, the number of buffers (32 bits), the length of the pickle and of each buffer (64
  bits each, little-endian), then the pickle and the buffers, each padded to a multiple of 8.

What is not covered: module globals that a function by value refers to travel as they are when it is first
sent; they are not followed when they change.

Example::

    form = function_form(lambda x: x + 1)
    data = dumps_args((41,), None, form.name)
    args, kwargs = loads_args(data)                        # elsewhere
    load_function(form.blob)(*args, **kwargs)              # 42
"""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Callable, Iterable
from typing import Any, cast

from scoop.errors import MissingGlobal, NotPicklableError, ProtocolError, ResultNotPicklable
from scoop.pickling.keys import ATOMS, function_key, function_name, is_scalar, standing
from scoop.pickling.missing import load_pickle
from scoop.pickling.rules import by_value
from scoop.pickling.travel import PROTOCOL, encode

__all__ = [
    "FunctionForm",
    "by_value",
    "copy_value",
    "dumps",
    "dumps_args",
    "dumps_exception",
    "dumps_result",
    "function_form",
    "function_key",
    "is_scalar",
    "load_function",
    "loads",
    "loads_args",
    "loads_exception",
    "missing_global",
    "redump_args",
]

_PLAIN = b"P"
_BUFFERS = b"B"
_PLAIN_TAG, _BUFFERS_TAG = b"PB"
_HEAD = struct.Struct("<c3xIQ")
_ALIGNMENT = 8
_GLANCE = 32  # for longer sequences looking at all types takes longer than the careful pickler

_plain_dumps = pickle.dumps
_plain_loads = pickle.loads


# --- values -----------------------------------------------------------------------------------------------


def dumps(obj: Any, what: str = "argument") -> bytes:
    """Turn a value into bytes.

    Args:
        obj: the value.
        what: what it is, for the error message.

    Returns:
        Bytes for `loads`.

    Raises:
        NotPicklableError: it cannot be pickled; the message names the way to the part at fault.

    Example::

        >>> loads(dumps([1, 2]))
        [1, 2]
    """
    if type(obj) in ATOMS:
        return _PLAIN + _plain_dumps(obj, PROTOCOL)
    try:
        return _pack(obj)
    except MemoryError:
        raise
    except Exception as error:
        raise _not_picklable(obj, what, error) from error


def _pack(obj: Any) -> bytes:
    file, buffers = encode(obj, _tagged_file)
    data = cast(io.BytesIO, file)
    if not buffers:
        return data.getvalue()
    with data.getbuffer() as whole:
        raws: list[memoryview] = [whole[1:], *(buffer.raw() for buffer in buffers)]
        sizes = [raw.nbytes for raw in raws]
        pieces: list[bytes | memoryview] = [
            _HEAD.pack(_BUFFERS, len(buffers), sizes[0]),
            struct.pack(f"<{len(buffers)}Q", *sizes[1:]),
        ]
        for raw, size in zip(raws, sizes, strict=True):
            pieces += raw, bytes(-size % _ALIGNMENT)
        packed = b"".join(pieces)
        del pieces, raw
        for view in raws:
            view.release()
    return packed


def _tagged_file() -> io.BytesIO:
    file = io.BytesIO()
    file.write(_PLAIN)
    return file


def _not_picklable(obj: Any, what: str, error: Exception) -> NotPicklableError:
    from scoop.pickling.path import find_culprit

    path, why = find_culprit(obj, error)
    return NotPicklableError(what, path, why)


def loads(data: bytes) -> Any:
    """Turn bytes back into the value. Only for bytes of this job's own processes: pickles run code.

    Arrays are writable if the originals were.

    Args:
        data: what `dumps` or `dumps_result` made.

    Returns:
        The value.

    Raises:
        MissingGlobal: it needs a module, class or function that this process does not have.
        ProtocolError: these are not such bytes.
        Exception: whatever the value's own code raises.
    """
    tag = data[0] if data else 0
    if tag == _PLAIN_TAG:
        # A slice of a large message would be a second copy of it.
        body = data[1:] if len(data) < 8192 else memoryview(data)[1:]
        try:
            return _plain_loads(body)
        except (AttributeError, ImportError):
            return load_pickle(body)
    if tag == _BUFFERS_TAG:
        return _unpack(data)
    raise ProtocolError(f"bytes that begin with {bytes(data[:8])!r} are no value")


def _unpack(data: bytes) -> Any:
    view = memoryview(data)
    try:
        _, count, size = _HEAD.unpack_from(view)
        sizes = struct.unpack_from(f"<{count}Q", view, _HEAD.size)
    except struct.error as error:
        raise ProtocolError("the bytes of a value are cut short") from error
    start = _HEAD.size + 8 * count
    body = view[start : start + size]
    buffers = []
    end = start + size
    for length in sizes:
        start = end + -end % _ALIGNMENT
        end = start + length
        buffers.append(bytearray(view[start:end]))  # the one copy: writable, and independent of the message
    if end > len(view):
        raise ProtocolError("the bytes of a value are cut short")
    return load_pickle(body, buffers)


def copy_value(obj: Any) -> Any:
    """Return the copy of a value that another process would see.

    Args:
        obj: the value; immutable scalars are returned as they are.

    Raises:
        NotPicklableError: as `dumps`.
    """
    return obj if is_scalar(obj) else loads(dumps(obj, "value"))


# --- arguments and results --------------------------------------------------------------------------------


def dumps_args(args: tuple[Any, ...], kwargs: dict[str, Any] | None, name: str) -> bytes:
    """Turn the arguments of a call into bytes.

    Args:
        args: positional arguments.
        kwargs: keyword arguments, or None.
        name: name of the function, for the error message.

    Raises:
        NotPicklableError: with a message such as
            ``train: argument 1: .model.layers[3].lock: cannot pickle '_thread.lock' object``.
    """
    if _is_plain(args) and (not kwargs or _is_plain(kwargs.values())):
        return _PLAIN + _plain_dumps((args, kwargs), PROTOCOL)
    try:
        return _pack((args, kwargs))
    except MemoryError:
        raise
    except Exception as error:
        raise _blame_argument(args, kwargs, name, error) from error


def _is_plain(values: Iterable[Any]) -> bool:
    """Whether plain pickle is certainly enough, seen at a glance: atoms, and short sequences of them."""
    if ATOMS.issuperset(map(type, values)):
        return True
    for value in values:
        kind = type(value)
        if kind not in ATOMS and not (
            (kind is tuple or kind is list) and len(value) <= _GLANCE and ATOMS.issuperset(map(type, value))
        ):
            return False
    return True


def _blame_argument(
    args: tuple[Any, ...], kwargs: dict[str, Any] | None, name: str, error: Exception
) -> NotPicklableError:
    named = [(f"argument {index}", value) for index, value in enumerate(args, 1)]
    named += [(f"argument {key!r}", value) for key, value in (kwargs or {}).items()]
    for what, value in named:
        if type(value) in ATOMS:
            continue
        try:
            _pack(value)
        except Exception as failure:
            return _not_picklable(value, f"{name}: {what}", failure)
    return _not_picklable((args, kwargs), f"{name}: arguments", error)


def loads_args(data: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Turn bytes of `dumps_args` back into positional and keyword arguments; raises as `loads`."""
    args, kwargs = loads(data)
    return args, kwargs or {}


def redump_args(data: bytes) -> bytes:
    """Make the bytes of arguments again, under the rules in force now; see `by_value`.

    Args:
        data: what `dumps_args` made, in this process.
    """
    args, kwargs = loads_args(data)
    return dumps_args(args, kwargs or None, "call")


def dumps_result(value: Any, name: str) -> bytes:
    """Turn what a task has returned into bytes for `loads`.

    Args:
        value: the result.
        name: name of the function, for the error message.

    Raises:
        ResultNotPicklable: it cannot be pickled.
    """
    try:
        return dumps(value)
    except NotPicklableError as error:
        from scoop.pickling.path import short_repr

        cls = type(value)
        raise ResultNotPicklable(
            name, f"{cls.__module__}.{cls.__qualname__}", short_repr(value), error.path, error.reason
        ) from error


def missing_global(exc: BaseException) -> tuple[str, str] | None:
    """Return which global an unpickling failure is about: (module, qualified name), or None.

    The name is empty if the module cannot be imported at all. The process that made the bytes passes both to
    `by_value` and makes them again.
    """
    seen: BaseException | None = exc
    for _ in range(8):
        if isinstance(seen, MissingGlobal):
            return seen.module, seen.qualname
        seen = seen.__cause__ if seen is not None else None
    return None


# --- functions --------------------------------------------------------------------------------------------


class FunctionForm:
    """What of a function travels.

    Attributes:
        blob: bytes for `load_function`.
        name: qualified name, for messages.
        stable: the same function object will always have this form; otherwise something inside may change.
        key: hashable; forms with equal keys are interchangeable.
    """

    __slots__ = ("blob", "key", "name", "stable")

    def __init__(self, blob: bytes, name: str, stable: bool, key: object) -> None:
        self.blob = blob
        self.name = name
        self.stable = stable
        self.key = key

    def __repr__(self) -> str:
        return f"<FunctionForm {self.name}, {len(self.blob)} bytes{', stable' if self.stable else ''}>"


def function_form(fn: Callable[..., Any]) -> FunctionForm:
    """Make what of a callable travels.

    Args:
        fn: any callable.

    Raises:
        NotPicklableError: the callable, or something it has captured, cannot be pickled.

    Example::

        >>> load_function(function_form(lambda x: x + 1).blob)(1)
        2
    """
    name = function_name(fn)
    blob = dumps(fn, f"the function {name}")
    place, stable = standing(fn)
    key: object = ("global", *place) if place is not None else function_key(fn)
    return FunctionForm(blob, name, stable, blob if key is None else key)


def load_function(blob: bytes) -> Callable[..., Any]:
    """Turn the blob of a `FunctionForm` back into the callable; raises as `loads`."""
    return cast("Callable[..., Any]", loads(blob))


# --- exceptions -------------------------------------------------------------------------------------------


def dumps_exception(exc: BaseException, *, task: str, host: str, pid: int) -> bytes:
    """Turn the exception of a task into bytes, with its traceback as text.

    It arrives as itself where that is possible at all, otherwise as a `scoop.errors.RemoteError`.

    Args:
        exc: the exception.
        task: name of the function.
        host: host on which it was raised.
        pid: process in which it was raised.

    Returns:
        Bytes for `loads_exception`; the traceback in it is bounded to 64 KiB.
    """
    from scoop.pickling import exceptions

    return exceptions.dumps_exception(exc, task=task, host=host, pid=pid)


def loads_exception(data: bytes) -> BaseException:
    """Turn bytes of `dumps_exception` back into the exception. Never raises.

    Returns:
        The exception, with a `scoop.errors.RemoteTraceback` as its ``__cause__``; or a
        `scoop.errors.RemoteError` if it cannot exist in this process.
    """
    from scoop.pickling import exceptions

    return exceptions.loads_exception(data)
