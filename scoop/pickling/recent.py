"""A memory of limited size for what was made lately and is expensive to make again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

__all__ = ["Recent"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Recent(Generic[K, V]):
    """A mapping that drops what was used longest ago. Safe for threads.

    Args:
        max_entries: so many values at most.
        max_bytes: so many bytes at most, as told to `put`; the newest value stays in any case.

    Example::

        >>> recent = Recent(max_entries=1, max_bytes=100)
        >>> recent.put("a", 1, 10)
        >>> recent.put("b", 2, 10)
        >>> recent.get("a"), recent.get("b")
        (None, 2)
    """

    __slots__ = ("_bytes", "_entries", "_lock", "_max_bytes", "_max_entries")

    def __init__(self, max_entries: int, max_bytes: int) -> None:
        self._entries: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._bytes = 0
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._lock = threading.RLock()  # an object that is dropped may run code that comes here again

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K) -> V | None:
        """Return the value, or None."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            self._entries.move_to_end(key)
            return entry[0]

    def put(self, key: K, value: V, size: int) -> None:
        """Remember a value of `size` bytes."""
        dropped = []  # let go of outside the lock: destructors run then
        with self._lock:
            dropped.append(self._entries.pop(key, None))
            self._entries[key] = (value, size)
            self._bytes += size - (dropped[0][1] if dropped[0] is not None else 0)
            while len(self._entries) > 1 and (
                len(self._entries) > self._max_entries or self._bytes > self._max_bytes
            ):
                _, entry = self._entries.popitem(last=False)
                self._bytes -= entry[1]
                dropped.append(entry)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            entries, self._entries = self._entries, OrderedDict()
            self._bytes = 0
        entries.clear()
