"""The simulator, compiled once per content of its sources and of the scoop that is tested."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))


@pytest.fixture(scope="session")
def sim() -> ModuleType:
    """The module with `Job` and `Violation`."""
    import simbuild

    return simbuild.load()
