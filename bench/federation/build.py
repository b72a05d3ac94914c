"""Compiles the model against the declarations of the scoop that is found, once per content."""

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
CACHE = HERE.parents[1] / "build" / "federation"
NAME = "scoop_federation_model"

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
        [Extension(name, [name + ".pyx"], extra_compile_args=["-O2", "-g0", "-fno-strict-aliasing"])],
        include_path=[include],
        quiet=True,
    ),
)
"""


def load() -> ModuleType:
    """The compiled model; a second call finds it."""
    spec = importlib.util.find_spec("scoop")
    assert spec is not None
    assert spec.origin is not None
    include = Path(spec.origin).resolve().parents[1]
    source = HERE / "model.pyx"
    parts = [sys.version, SETUP, source.read_text()]
    parts += [path.read_text() for path in sorted((include / "scoop" / "_core").glob("*.pxd"))]
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]
    kept = CACHE / digest / f"{NAME}{sysconfig.get_config_var('EXT_SUFFIX')}"
    if not kept.exists():
        with tempfile.TemporaryDirectory(prefix="federation-") as folder:
            shutil.copy(source, Path(folder, f"{NAME}.pyx"))
            Path(folder, "setup.py").write_text(SETUP)
            command = [sys.executable, "setup.py", folder, str(include), NAME]
            done = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, timeout=300, check=False
            )
            made = Path(folder, kept.name)
            if done.returncode or not made.exists():
                raise RuntimeError(f"cannot build model.pyx:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
            kept.parent.mkdir(parents=True, exist_ok=True)
            beside = kept.with_name(f"{kept.name}.{os.getpid()}")
            shutil.copy(made, beside)
            os.replace(beside, kept)
    loader = importlib.machinery.ExtensionFileLoader(NAME, str(kept))
    found = importlib.util.spec_from_file_location(NAME, str(kept), loader=loader)
    assert found is not None
    module = importlib.util.module_from_spec(found)
    loader.exec_module(module)
    return module
