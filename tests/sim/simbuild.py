"""Compiles the simulator against the declarations of the scoop that is tested, once per content."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).resolve().parent
CACHE = HERE.parents[1] / "build" / "sim"
BUILD_SECONDS_MAX = 300
MODULES = ("events", "brokers", "process", "stacks", "runner", "hosts", "world", "job")

SETUP = """
import os
import sys
from Cython.Build import cythonize
from setuptools import Extension, setup
include, flags, names = sys.argv[1], sys.argv[2].split(), sys.argv[3:]
setup(
    name="scoop_sim",
    packages=[],
    py_modules=[],
    script_args=["-q", "build_ext", "--inplace", "--parallel", str(os.cpu_count() or 1)],
    ext_modules=cythonize(
        [Extension(name, [name.replace(".", "/") + ".pyx"],
                   extra_compile_args=["-g0", "-fno-strict-aliasing", *flags],
                   extra_link_args=[flag for flag in flags if "sanitize" in flag]) for name in names],
        include_path=[include],
        compiler_directives={"language_level": 3, "cdivision": True, "boundscheck": False,
                             "wraparound": False,
                             "initializedcheck": False, "auto_pickle": False, "binding": True},
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


def compile_in(folder: Path, include: Path, names: list[str], flags: list[str]) -> None:
    """Compile modules whose sources lie in `folder`, in place; raises RuntimeError if that fails."""
    (folder / "setup.py").write_text(SETUP)
    done = subprocess.run(
        [sys.executable, "setup.py", str(include), " ".join(flags), *names],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=BUILD_SECONDS_MAX,
        check=False,
    )
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    missing = [name for name in names if not (folder / (name.replace(".", "/") + suffix)).exists()]
    if done.returncode or missing:
        raise RuntimeError(f"cannot build {missing or names}:\n{done.stdout[-6000:]}\n{done.stderr[-6000:]}")


def digest(parts: list[str]) -> str:
    """A name for what is made from `parts`."""
    import Cython

    return hashlib.sha256("\0".join([sys.version, Cython.__version__, SETUP, *parts]).encode()).hexdigest()[
        :20
    ]


def build() -> Path:
    """Return the folder to import `scoop_sim` from, compiled if it is not kept yet. Blocks then."""
    include = package_folder()
    sources = sorted([*HERE.glob("*.pyx"), *HERE.glob("*.pxd")])
    declared = sorted((include / "scoop" / "_core").glob("*.pxd"))
    kept = CACHE / digest([path.read_text() for path in [*sources, *declared]])
    if kept.exists():
        return kept
    beside = kept.with_name(f"{kept.name}.{os.getpid()}")
    package = beside / "scoop_sim"
    package.mkdir(parents=True)
    for path in sources:
        shutil.copy(path, package)
    (package / "__init__.py").touch()
    (package / "__init__.pxd").touch()
    try:
        compile_in(beside, include, [f"scoop_sim.{name}" for name in MODULES], ["-O1"])
        try:
            os.replace(beside, kept)
        except OSError:
            if not kept.exists():  # another test run may have made the same at the same time
                raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return kept


def rebuilt(changed: dict[str, str], flags: list[str]) -> Path:
    """Return a folder to import a scoop from some of whose machines are other ones. Blocks while it is made.

    It has nothing but the compiled modules, and of those only `changed` are its own.

    Args:
        changed: source text of a module of scoop._core, by its name.
        flags: for the compiler, after those of Python.
    """
    installed = package_folder() / "scoop" / "_core"
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    binaries = sorted(installed.glob(f"*{suffix}"))
    ages = [f"{path.name} {path.stat().st_mtime_ns}" for path in binaries]
    declared = [path.read_text() for path in sorted(installed.glob("*.pxd"))]
    kept = CACHE / f"other-{digest([*changed, *changed.values(), *flags, *ages, *declared])}"
    if kept.exists():
        return kept
    beside = kept.with_name(f"{kept.name}.{os.getpid()}")
    core = beside / "scoop" / "_core"
    core.mkdir(parents=True)
    try:
        for path in [*installed.glob("*.pxd"), *binaries]:
            if path.name not in [f"{name}{suffix}" for name in changed]:
                (core / path.name).symlink_to(path)
        for path in (*installed.glob("*.py"), *installed.parent.glob("errors.py")):
            shutil.copy(path, core if path.parent == installed else core.parent)
        (core.parent / "__init__.py").touch()
        for name, text in changed.items():
            (core / f"{name}.pyx").write_text(text)
        compile_in(beside, beside, [f"scoop._core.{name}" for name in changed], flags)
        try:
            os.replace(beside, kept)
        except OSError:
            if not kept.exists():
                raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return kept


def load() -> ModuleType:
    """Return the module with `Job` and `Violation`."""
    folder = str(build())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    return importlib.import_module("scoop_sim.job")


if __name__ == "__main__":
    print(build())
