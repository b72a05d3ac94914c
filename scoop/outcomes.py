"""What a call returned or raised, as bytes for its owner or as a copy for a caller in the same process."""

from __future__ import annotations

import os
import socket
from typing import Any

from scoop import pickling
from scoop._core import scalars
from scoop.errors import MissingGlobal, ResultNotPicklable

# The outcomes of scoop._core.wire that are made here.
VALUE, ERROR, MISSING = 0, 2, 3

PAYLOAD_BYTES_MAX = (1 << 32) - (1 << 20)


def encode_outcome(value: Any, failed: bool, chunk: bool, fn: Any) -> tuple[bytes, int]:
    """Encode what `fn` returned or, if `failed`, raised; returns (bytes, outcome). Never raises an Exception.

    What cannot travel becomes an error of this call alone. A class or function that this process could not
    import becomes a question to the owner (MISSING).
    """
    name = getattr(fn, "__qualname__", None) or type(fn).__name__
    try:
        if not failed and chunk:
            return _encode_chunk(value, name), VALUE
        if not failed:
            return _bounded(pickling.dumps_result(value, name), name), VALUE
    except Exception as error:
        value = error
    if isinstance(value, MissingGlobal):
        return scalars.encode((value.module, value.qualname)), MISSING
    return _encode_error(value, name), ERROR


def _bounded(data: bytes, name: str) -> bytes:
    if len(data) > PAYLOAD_BYTES_MAX:
        raise ResultNotPicklable(
            name,
            "bytes",
            f"{len(data)} of them",
            reason=f"more than the limit of {PAYLOAD_BYTES_MAX} bytes for one result; return it in parts, or "
            "write it to a file and return its name",
        )
    return data


def _encode_error(error: BaseException, name: str) -> bytes:
    return pickling.dumps_exception(error, task=name, host=socket.gethostname(), pid=os.getpid())


def _encode_chunk(value: tuple[tuple[Any, ...], BaseException | None], name: str) -> bytes:
    # The exception travels encoded, so that it arrives with its remote traceback.
    results, error = value
    if error is None:
        try:
            return pickling.dumps_result((results, None), name)
        except Exception as raised:
            results, error = _until_unpicklable(results, name, raised)
    return pickling.dumps_result((results, _encode_error(error, name)), name)


def copy_outcome(value: Any, chunk: bool, name: str) -> Any:
    """Copy what a local call returned, as if it had come from another process.

    Raises:
        ResultNotPicklable: it could not have come from another process.
    """
    if not chunk:
        return pickling.loads(pickling.dumps_result(value, name))
    results, error = value
    try:
        return pickling.loads(pickling.dumps_result(results, name)), error
    except Exception as raised:
        return _until_unpicklable(results, name, raised)


def _until_unpicklable(
    results: tuple[Any, ...], name: str, error: BaseException
) -> tuple[tuple[Any, ...], BaseException]:
    """Cut `results` before the first that cannot travel; returns (those before, why)."""
    for index, value in enumerate(results):
        try:
            pickling.dumps_result(value, name)
        except Exception as raised:
            return results[:index], raised
    return results, error
