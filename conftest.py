"""Before any test: which scoop is tested, from where, and a refusal of one that cannot be.

The tests are for the scoop that is *installed*. The checkout has a folder of the same name whose modules are
not compiled, so it must not be found first: neither here (pytest is started as a command, which does not put
the current folder on the path) nor in the programs that tests start (hence the other current folder).
"""

from __future__ import annotations

import importlib.util
import os
import sysconfig
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent
COMMAND = ".venv/bin/pip install . --group test && .venv/bin/pytest"


def _tested_folder() -> Path | None:
    """The folder of the package, found without running any of it."""
    spec = importlib.util.find_spec("scoop")
    return Path(spec.origin).resolve().parent if spec and spec.origin else None


def pytest_configure(config: pytest.Config) -> None:
    """Refuse to test what is not there."""
    folder = _tested_folder()
    if folder is None:
        raise pytest.UsageError(f"scoop is not installed: {COMMAND}")
    if not (folder / "_core" / f"wire{sysconfig.get_config_var('EXT_SUFFIX')}").exists():
        hint = "start pytest itself, not python -m pytest" if folder.parent == ROOT else "install it again"
        raise pytest.UsageError(f"the scoop in {folder} is not compiled for this Python; {hint}: {COMMAND}")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Leave the checkout, so that `python -m scoop` in a test finds the scoop that is installed."""
    folder = tempfile.TemporaryDirectory(prefix="scoop-tests-")
    session.config.add_cleanup(folder.cleanup)
    session.config.add_cleanup(lambda: os.chdir(ROOT))
    os.chdir(folder.name)


def pytest_report_header(config: pytest.Config) -> str:
    """Say what is tested."""
    return f"scoop: {_tested_folder()}"
