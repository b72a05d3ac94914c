"""Compiles the model against the declarations of the scoop that is found, once per content."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).resolve().parent
CACHE = HERE.parents[1] / "build" / "federation"
PACKAGE = "scoop_federation"
MODULES = ("world", "workers", "brokers", "model")
BUILD_SECONDS_MAX = 300

SETUP = """
import os
import sys
from Cython.Build import cythonize
from setuptools import Extension, setup
include, names = sys.argv[1], sys.argv[2:]
setup(
    name="scoop_federation",
    packages=[],
    py_modules=[],
    script_args=["-q", "build_ext", "--inplace", "--parallel", str(os.cpu_count() or 1)],
    ext_modules=cythonize(
        [Extension(name, [name.replace(".", "/") + ".pyx"],
                   extra_compile_args=["-O2", "-g0", "-fno-strict-aliasing"]) for name in names],
        include_path=[include],
        compiler_directives={"language_level": 3, "cdivision": True, "boundscheck": False,
                             "wraparound": False, "initializedcheck": False, "auto_pickle": False},
        quiet=True,
    ),
)
"""


def _compile(folder: Path, include: Path) -> None:
    """Compile the modules whose sources lie in `folder`, in place; raises RuntimeError if that fails."""
    (folder / "setup.py").write_text(SETUP)
    done = subprocess.run(
        [sys.executable, "setup.py", str(include), *(f"{PACKAGE}.{name}" for name in MODULES)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=BUILD_SECONDS_MAX,
        check=False,
    )
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    missing = [name for name in MODULES if not (folder / PACKAGE / f"{name}{suffix}").exists()]
    if done.returncode or missing:
        raise RuntimeError(f"cannot build {missing}:\n{done.stdout[-2000:]}\n{done.stderr[-6000:]}")


def build() -> Path:
    """Return the folder to import the model from, compiled if it is not kept yet. Blocks then."""
    spec = importlib.util.find_spec("scoop")
    assert spec is not None
    assert spec.origin is not None
    include = Path(spec.origin).resolve().parents[1]
    sources = sorted([*HERE.glob("*.pyx"), *HERE.glob("*.pxd")])
    declared = sorted((include / "scoop" / "_core").glob("*.pxd"))
    parts = [sys.version, SETUP, *(path.read_text() for path in [*sources, *declared])]
    kept = CACHE / hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]
    if kept.exists():
        return kept
    beside = kept.with_name(f"{kept.name}.{os.getpid()}")
    package = beside / PACKAGE
    package.mkdir(parents=True)
    for path in sources:
        shutil.copy(path, package)
    (package / "__init__.py").touch()
    (package / "__init__.pxd").touch()
    try:
        _compile(beside, include)
        try:
            os.replace(beside, kept)
        except OSError:
            if not kept.exists():  # another run may have made the same at the same time
                raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return kept


def load() -> ModuleType:
    """Return the module with `Model`."""
    folder = str(build())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    return importlib.import_module(f"{PACKAGE}.model")
