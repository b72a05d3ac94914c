"""The compiled wrappers of `machines/`, built once per content."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import settings

# Machines under test run beside other loads: how long one example takes says nothing.
settings.register_profile("scoop", deadline=None, print_blob=True)
settings.load_profile("scoop")


def _build_module() -> ModuleType:
    path = Path(__file__).with_name("machines") / "build.py"
    spec = importlib.util.spec_from_file_location("scoop_machines_build", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def machines() -> ModuleType:
    """The pure machines: QueueHarness, LedgerHarness, BalanceHarness, OutboxHarness, Writer, Call."""
    module: ModuleType = _build_module().load("scoop_machines")
    return module


@pytest.fixture(scope="session")
def drivers() -> ModuleType:
    """BrokerHarness and DeskHarness."""
    module: ModuleType = _build_module().load("scoop_drivers")
    return module
