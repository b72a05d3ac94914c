"""How a task's exception travels: as itself if at all possible, with its traceback as bounded text.

The exception is tried out where it was raised: dumped, loaded and compared. Many classes fail that, because
their constructor takes other arguments than it hands on; those are taken apart and rebuilt without the
constructor. What cannot be rebuilt either is replaced by a RemoteError with its name and message.
"""

from __future__ import annotations

import builtins
import os
import pickle
import sys
from collections import deque
from collections.abc import Iterator
from types import CodeType, TracebackType
from typing import Any

from scoop import pickling
from scoop.errors import RemoteError, RemoteTraceback
from scoop.pickling.keys import is_scalar
from scoop.pickling.path import reason

__all__ = ["bounded_traceback", "dumps_exception", "loads_exception"]

MAX_TEXT = 64 * 1024
_EDGE_FRAMES = 50  # so many frames are kept at either end of a traceback
_MAX_CHAIN = 12  # causes and contexts
_MAX_GROUP = 10  # members of a group that are shown
_MAX_GROUP_DEPTH = 3
_MAX_MESSAGE = 8 * 1024
_PACKAGE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "")
_COMPILED = os.path.join("scoop", "_core", "")
_CALLER = os.path.join(_COMPILED, "runner.pyx")  # calls the tasks
_CAUSE = "The above exception was the direct cause of the following exception:"
_CONTEXT = "During handling of the above exception, another exception occurred:"

# How the exception itself is written: its own pickle; taken apart; a group of such; or not at all.
_ITSELF, _APART, _GROUP, _STAND_IN = range(4)
_BaseExceptionGroup: Any = getattr(builtins, "BaseExceptionGroup", None)  # since Python 3.11

_Written = tuple[int, Any, str, str, str, list[str]]  # form, content, class, message, why not itself, notes


# --- writing ----------------------------------------------------------------------------------------------


def dumps_exception(exc: BaseException, *, task: str, host: str, pid: int) -> bytes:
    """See `scoop.pickling.dumps_exception`."""
    try:
        text = bounded_traceback(exc)
    except Exception as error:  # a class can redefine everything that the text is made of
        text = f"{class_name(type(exc))} (its traceback cannot be shown: {reason(error)})\n"
    text = _cut(f"{task} on {host}, pid {pid}:\n{text}", MAX_TEXT)
    try:
        written = _write(exc)
    except Exception as error:
        written = (_STAND_IN, None, class_name(type(exc)), _message(exc), reason(error), [])
    return b"P" + pickle.dumps((written, text), 5)


def _write(exc: BaseException) -> _Written:
    notes = _notes(exc)
    name, message = class_name(type(exc)), _message(exc)
    try:
        data = pickling.dumps(exc)
        if _same(exc, pickling.loads(data)):
            return _ITSELF, data, name, message, "", notes
        why = "its constructor changes what it is given"
    except Exception as error:
        why = reason(error)
    try:
        data = pickling.dumps(_take_apart(exc))
        if _same(exc, _put_together(*pickling.loads(data))):
            return _APART, data, name, message, "", notes
    except Exception as error:
        why = reason(error)
    if _BaseExceptionGroup is not None and isinstance(exc, _BaseExceptionGroup):
        try:
            members = [_write(member) for member in exc.exceptions]
            return _GROUP, (pickling.dumps(type(exc)), str(exc.args[0]), members), name, message, "", notes
        except Exception as error:
            why = reason(error)
    return _STAND_IN, None, name, message, why, notes


def _same(exc: BaseException, back: object) -> bool:
    """Whether what came back is the exception, as far as values can be compared."""
    if type(back) is not type(exc) or not isinstance(back, BaseException):
        return False
    if len(back.args) != len(exc.args) or back.__dict__.keys() != exc.__dict__.keys():
        return False
    pairs = [*zip(exc.args, back.args, strict=True)]
    pairs += [(value, back.__dict__[name]) for name, value in exc.__dict__.items()]
    if any(type(a) is not type(b) or (is_scalar(a) and repr(a) != repr(b)) for a, b in pairs):
        return False
    return _message(exc) == _message(back) if all(is_scalar(a) for a in exc.args) else True


def _native_base(cls: type) -> Any:
    """The builtin exception it is made of, which knows how to be made from its ``args``."""
    return next(base for base in cls.__mro__ if base.__module__ == "builtins")


def _take_apart(exc: BaseException) -> tuple[Any, ...]:
    cls = type(exc)
    _, args, *rest = _native_base(cls).__reduce__(exc)
    state = dict(rest[0]) if rest and rest[0] else {}
    for base in cls.__mro__:
        slots = base.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if hasattr(exc, name):
                state[name] = getattr(exc, name)
    return cls, args, state, exc.args


def _put_together(cls: Any, args: tuple[Any, ...], state: dict[str, Any], shown: tuple[Any, ...]) -> Any:
    """Make the exception with the constructor of its builtin base only."""
    base = _native_base(cls)
    exc = base.__new__(cls, *args)
    base.__init__(exc, *args)
    exc.args = shown
    for name, value in state.items():
        if name in exc.__dict__ or not hasattr(type(exc), name):
            exc.__dict__[name] = value
        else:
            setattr(exc, name, value)
    return exc


# --- reading ----------------------------------------------------------------------------------------------


def loads_exception(data: bytes) -> BaseException:
    """See `scoop.pickling.loads_exception`."""
    try:
        written, text = pickle.loads(memoryview(data)[1:])
        exc = _read(written)
    except Exception as error:
        exc, text = RemoteError("unknown", "the exception could not be read", reason(error)), ""
    try:
        exc.__cause__ = RemoteTraceback(text)
    except Exception as error:
        exc = RemoteError(class_name(type(exc)), _message(exc), reason(error))
        exc.__cause__ = RemoteTraceback(text)
    return exc


def _read(written: _Written) -> BaseException:
    form, content, name, message, why, notes = written
    try:
        if form == _ITSELF:
            exc = pickling.loads(content)
        elif form == _APART:
            exc = _put_together(*pickling.loads(content))
        elif form == _GROUP:
            cls, text, members = content
            exc = _native_base(pickling.loads(cls)).__new__(
                pickling.loads(cls), text, [_read(member) for member in members]
            )
        else:
            exc = None
        if isinstance(exc, BaseException):
            if form == _GROUP:
                _add_notes(exc, notes)
            return exc
    except Exception as error:
        why = reason(error)
    stand_in = RemoteError(name, message, why)
    _add_notes(stand_in, notes)
    return stand_in


def _add_notes(exc: BaseException, notes: list[str]) -> None:
    if notes:
        exc.__notes__ = notes  # before 3.11 merely an attribute


# --- text -------------------------------------------------------------------------------------------------


def class_name(cls: type) -> str:
    """Return the name of an exception's class as a traceback shows it."""
    module = cls.__module__
    return cls.__qualname__ if module in ("builtins", "__main__") else f"{module}.{cls.__qualname__}"


def _message(exc: BaseException) -> str:
    try:
        return _cut(str(exc), _MAX_MESSAGE)
    except Exception:
        return "<the message could not be made>"


def _notes(exc: BaseException) -> list[str]:
    notes = getattr(exc, "__notes__", None)
    if not isinstance(notes, (list, tuple)):
        return []
    return [_cut(note, _MAX_MESSAGE) for note in notes if isinstance(note, str)]


def _cut(text: str, limit: int) -> str:
    """Leave out the middle of a text that is too long in UTF-8."""
    size = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    if size <= limit:
        return text
    half = (limit - 100) // 2
    raw = text.encode("utf-8", "surrogatepass")
    head, tail = raw[:half].decode("utf-8", "ignore"), raw[-half:].decode("utf-8", "ignore")
    return f"{head}\n[... {size - 2 * half} bytes left out ...]\n{tail}"


def bounded_traceback(exc: BaseException, _depth: int = 0) -> str:
    """Format an exception as the interpreter would, but within bounds.

    Args:
        exc: the exception, with causes, contexts, notes and members of a group.

    Returns:
        At most 64 KiB of text. Of each traceback the first and the last 50 frames; only these are formatted.
    """
    pieces: list[str] = []
    for link, error in reversed(list(_chain(exc))):
        pieces += _one(error, _depth)
        if link:
            pieces.append(f"\n{link}\n\n")
    return _cut("".join(pieces), MAX_TEXT)


def _chain(exc: BaseException) -> Iterator[tuple[str, BaseException]]:
    """The exception and what led to it, newest first, each with the line that leads on from it."""
    seen: set[int] = set()
    link, error = "", exc
    while id(error) not in seen and len(seen) < _MAX_CHAIN:
        seen.add(id(error))
        yield link, error
        if error.__cause__ is not None:
            link, error = _CAUSE, error.__cause__
        elif error.__context__ is not None and not error.__suppress_context__:
            link, error = _CONTEXT, error.__context__
        else:
            return


def _one(exc: BaseException, depth: int) -> Iterator[str]:
    if isinstance(exc, RemoteTraceback):
        yield exc.text.rstrip("\n") + "\n"  # of a task that this task has waited for
        return
    begin = _after_ours(exc.__traceback__)
    if begin is not None:
        yield "Traceback (most recent call last):\n"
        yield from _frames(begin)
    if isinstance(exc, SyntaxError):
        yield from _syntax_error(exc)
    else:
        message = _message(exc)
        yield f"{class_name(type(exc))}: {message}\n" if message else f"{class_name(type(exc))}\n"
    for note in _notes(exc):
        yield f"{note}\n"
    if _BaseExceptionGroup is not None and isinstance(exc, _BaseExceptionGroup) and depth < _MAX_GROUP_DEPTH:
        yield from _members(exc.exceptions, depth)


def _members(members: tuple[BaseException, ...], depth: int) -> Iterator[str]:
    for number, member in enumerate(members[:_MAX_GROUP], 1):
        yield f"  +---------------- {number} ----------------\n"
        for line in bounded_traceback(member, depth + 1).splitlines():
            yield f"  | {line}\n"
    if len(members) > _MAX_GROUP:
        yield f"  +---------------- and {len(members) - _MAX_GROUP} more\n"


def _syntax_error(exc: SyntaxError) -> Iterator[str]:
    import traceback

    try:
        # Without cause and traceback: those would be formatted as well, without bounds.
        yield from traceback.format_exception_only(type(exc), SyntaxError(*exc.args))
    except Exception:
        yield f"{class_name(type(exc))}: {_message(exc)}\n"


def _after_ours(tb: TracebackType | None) -> TracebackType | None:
    """Skip the leading frames of scoop, which called the task: a traceback begins with the task.

    An error inside scoop keeps its frames but those of the caller of tasks; one of the call itself, such as a
    missing argument, has none.
    """
    link = begin = tb
    while link is not None:
        name = link.tb_frame.f_code.co_filename
        # Those of compiled modules are relative to the directory that they were built in.
        if not name.startswith((_PACKAGE, _COMPILED)):
            return link
        link = link.tb_next
        if name.endswith(_CALLER):
            begin = link
    return begin


def _frames(tb: TracebackType) -> Iterator[str]:
    import traceback

    first: list[TracebackType] = []
    last: deque[TracebackType] = deque(maxlen=_EDGE_FRAMES)
    total, link = 0, tb
    while True:
        (first if total < _EDGE_FRAMES else last).append(link)
        total += 1
        if link.tb_next is None:
            break
        link = link.tb_next
    yield from traceback.StackSummary.from_list([_frame(part) for part in first]).format()
    left_out = total - len(first) - len(last)
    if left_out:
        yield f"  [... {left_out} frames left out ...]\n"
    if last:
        yield from traceback.StackSummary.from_list([_frame(part) for part in last]).format()


def _frame(tb: TracebackType) -> Any:
    import traceback

    code = tb.tb_frame.f_code
    columns: dict[str, Any] = {}
    if sys.version_info >= (3, 11):
        columns = _columns(code, tb.tb_lasti)
    line: int = tb.tb_lineno or 0
    return traceback.FrameSummary(code.co_filename, line, code.co_name, lookup_line=False, **columns)


def _columns(code: CodeType, offset: int) -> dict[str, Any]:
    """Where in the line it happened, for the carets."""
    from itertools import islice

    positions: Any = getattr(code, "co_positions")()  # noqa: B009  # not before Python 3.11
    position = next(islice(positions, offset // 2, None), None) if offset >= 0 else None
    if position is None:
        return {}
    _, end_line, column, end_column = position
    return {"end_lineno": end_line, "colno": column, "end_colno": end_column}
