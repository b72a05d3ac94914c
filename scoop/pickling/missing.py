"""Unpickling that says which module, class or function this process does not have."""

from __future__ import annotations

import io
import pickle
import sys
import types
from collections.abc import Iterable
from typing import Any

from scoop.errors import MissingGlobal

__all__ = ["load_pickle"]


class _Finder(pickle.Unpickler):
    """Loads again what could not be loaded, to learn which name is missing."""

    def find_class(self, module: str, name: str) -> Any:
        if name == "subimport" and module.startswith("cloudpickle"):
            return _find_module
        try:
            return super().find_class(module, name)
        except AttributeError as error:
            if module in sys.modules:  # otherwise its own code has failed
                raise MissingGlobal(module, name) from error
            raise
        except ModuleNotFoundError as error:
            _raise_if_missing(module, error)
            raise


def _find_module(name: str) -> types.ModuleType:
    try:
        __import__(name)
    except ModuleNotFoundError as error:
        _raise_if_missing(name, error)
        raise
    return sys.modules[name]


def _raise_if_missing(module: str, error: ModuleNotFoundError) -> None:
    """The module itself cannot be found, rather than something that it imports."""
    if error.name == module or (error.name and module.startswith(error.name + ".")):
        raise MissingGlobal(module) from error


def load_pickle(data: bytes | memoryview, buffers: Iterable[Any] = ()) -> Any:
    """Load a pickle; a name that does not exist here is reported as MissingGlobal.

    Args:
        data: the pickle.
        buffers: its out-of-band buffers.

    Returns:
        The value.

    Raises:
        MissingGlobal: the pickle names a module, class or function that this process does not have.
        Exception: whatever else loading raises.
    """
    if not buffers:
        buffers = ()
    try:
        return pickle.loads(data, buffers=buffers)
    except (AttributeError, ImportError):
        return _Finder(io.BytesIO(data), buffers=buffers).load()
