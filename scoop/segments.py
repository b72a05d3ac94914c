"""The format of a checkpoint file: a mark, then one record after the other, only ever appended to.

::

    file     MAGIC, records
    record   length of the body (64 bits), CRC-32 of that length and the body, body
    body     name of the run (8 bytes), number of the item (64 bits), digest of the function (16 bytes),
             digest of the arguments (16 bytes), payload

All numbers are little-endian. A record that was cut off, by a crash or a full disk, ends the file; one that
was damaged is skipped. This module is pure: it opens nothing.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["HEADER_BYTES", "MAGIC", "Key", "Record", "decode", "encode", "read_key", "scan"]

MAGIC = b"scoopck1"
DIGEST_BYTES = 16
RUN_BYTES = 8
_HEAD = struct.Struct("<QI")
_LENGTH = struct.Struct("<Q")
_KEY = struct.Struct(f"<{RUN_BYTES}sQ{DIGEST_BYTES}s{DIGEST_BYTES}s")
HEADER_BYTES = _HEAD.size + _KEY.size
"""Bytes of a record before its payload."""
_PART_BYTES = 1 << 20  # a large payload is checked in parts of so many bytes


class Key(NamedTuple):
    """What a result belongs to.

    Attributes:
        run: 8 bytes that name the map.
        number: of the item, from 0.
        function: 16 bytes, the digest of the function.
        arguments: 16 bytes, the digest of the item.
    """

    run: bytes
    number: int
    function: bytes
    arguments: bytes


class Record(NamedTuple):
    """Where a record is.

    Attributes:
        offset, end: its first byte and the one behind its last.
        key: None if it is damaged.
    """

    offset: int
    end: int
    key: Key | None


def encode(key: Key, payload: bytes) -> bytes:
    """Return the bytes of one record."""
    body = _KEY.pack(*key) + payload
    length = _LENGTH.pack(len(body))
    return _HEAD.pack(len(body), zlib.crc32(body, zlib.crc32(length))) + body


def decode(data: bytes) -> tuple[Key, bytes] | None:
    """Return key and payload of a whole record; None if it is cut off, damaged or longer than it says."""
    if len(data) < HEADER_BYTES:
        return None
    length, checksum = _HEAD.unpack_from(data)
    body = data[_HEAD.size :]
    if length != len(body) or zlib.crc32(body, zlib.crc32(_LENGTH.pack(length))) != checksum:
        return None
    return Key(*_KEY.unpack_from(body)), body[_KEY.size :]


def read_key(header: bytes) -> tuple[int, Key] | None:
    """Return a record's whole length and its key, from its first HEADER_BYTES, unchecked; None if cut off."""
    if len(header) < HEADER_BYTES:
        return None
    (length,) = _LENGTH.unpack_from(header)
    return _HEAD.size + length, Key(*_KEY.unpack_from(header, _HEAD.size))


def scan(read: Callable[[int, int], bytes], size: int, start: int = len(MAGIC)) -> Iterator[Record]:
    """Find the records of a file, the damaged ones among them.

    Args:
        read: called with an offset and a number of bytes; returns at most so many.
        size: bytes of the file.
        start: where the first record begins.

    Returns:
        An iterator that ends where nothing makes sense any more: at the end, or at a record that was cut off.
    """
    offset = start
    while offset + HEADER_BYTES <= size:
        header = read(offset, HEADER_BYTES)
        if len(header) < HEADER_BYTES:
            return
        length, checksum = _HEAD.unpack_from(header)
        end = offset + _HEAD.size + length
        if length < _KEY.size or end > size:
            return
        found = zlib.crc32(header[_HEAD.size :], zlib.crc32(header[: _LENGTH.size]))
        at = offset + HEADER_BYTES
        while at < end:
            part = read(at, min(_PART_BYTES, end - at))
            if not part:
                return
            found = zlib.crc32(part, found)
            at += len(part)
        good = found == checksum
        yield Record(offset, end, Key(*_KEY.unpack_from(header, _HEAD.size)) if good else None)
        offset = end
