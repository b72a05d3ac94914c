"""Builds the Cython wrappers beside this file, by which tests reach the events of the pure machines.

The events are C methods, so that drivers call them without the GIL; a test needs a `def` for each. The
wrappers are compiled against the declarations (`.pxd`) of the very package that is tested, once per content.
"""

from __future__ import annotations

import hashlib
import importlib.machinery
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).resolve().parent
CACHE = HERE.parents[2] / "build" / "test-machines"
BUILD_SECONDS_MAX = 300

SETUP = """
import sys
from Cython.Build import cythonize
from setuptools import Extension, setup
name, include, folder = sys.argv.pop(), sys.argv.pop(), sys.argv.pop()
setup(
    name=name,
    packages=[],
    py_modules=[],
    script_args=["-q", "build_ext", "--build-lib", folder, "--build-temp", folder + "/temp"],
    ext_modules=cythonize(
        [Extension(name, [name + ".pyx"], extra_compile_args=["-O1", "-g0", "-fno-strict-aliasing"])],
        include_path=[include],
        compiler_directives={"language_level": 3, "cdivision": True},
        quiet=True,
    ),
)
"""


def package_folder() -> Path:
    """The folder that holds the `scoop` that is tested."""
    spec = importlib.util.find_spec("scoop")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).resolve().parents[1]


def _digest(name: str, include: Path) -> str:
    import Cython

    parts = [sys.version, Cython.__version__, SETUP, (HERE / f"{name}.pyx").read_text()]
    parts += [path.read_text() for path in sorted((include / "scoop" / "_core").glob("*.pxd"))]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]


def _compile(name: str, include: Path, kept: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="machines-") as folder:
        shutil.copy(HERE / f"{name}.pyx", folder)
        Path(folder, "setup.py").write_text(SETUP)
        done = subprocess.run(
            [sys.executable, "setup.py", folder, str(include), name],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=BUILD_SECONDS_MAX,
            check=False,
        )
        made = Path(folder, kept.name)
        if done.returncode or not made.exists():
            raise RuntimeError(f"cannot build {name}.pyx:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
        kept.parent.mkdir(parents=True, exist_ok=True)
        # Another test run may do the same at the same time: the last one wins, both are right.
        beside = kept.with_name(f"{kept.name}.{os.getpid()}")
        shutil.copy(made, beside)
        os.replace(beside, kept)


def load(name: str) -> ModuleType:
    """Return the wrapper module `name`, compiled if its like is not kept yet."""
    include = package_folder()
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    kept = CACHE / _digest(name, include) / f"{name}{suffix}"
    if not kept.exists():
        _compile(name, include, kept)
    if name in sys.modules:
        return sys.modules[name]
    loader = importlib.machinery.ExtensionFileLoader(name, str(kept))
    spec = importlib.util.spec_from_file_location(name, str(kept), loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    sys.modules[name] = module
    return module


if __name__ == "__main__":
    for wanted in sys.argv[1:] or ["scoop_machines", "scoop_drivers"]:
        print(load(wanted).__file__)
