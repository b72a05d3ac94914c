"""The compiled modules of scoop and the one dictionary of Cython directives."""

import os

from Cython.Build import cythonize
from setuptools import Extension, setup

DEBUG = bool(os.environ.get("SCOOP_DEBUG_BUILD"))

DIRECTIVES = {
    "language_level": 3,
    "binding": True,
    "embedsignature": True,
    "boundscheck": False,
    "wraparound": False,
    "initializedcheck": False,
    "cdivision": True,
    "auto_pickle": False,
    "autotestdict": False,
}

MODULES = (
    *(
        "proc",
        "table",
        "wire",
        "scalars",
        "outbox",
        "loss",
        "ledger",
        "localq",
        "balance",
        "failover",
        "federation",
    ),
    *("net", "links", "curve", "broker", "roads", "peers", "gateway", "store", "desk", "lead", "node"),
    *("future", "runner", "hub", "notices", "ending", "account", "session", "profiler"),
)


def extension(name: str) -> Extension:
    """One extension module of `scoop/_core`; libzmq is found at run time, so nothing is linked."""
    return Extension(
        f"scoop._core.{name}",
        [f"scoop/_core/{name}.pyx"],
        extra_compile_args=["-O2", "-g0" if not DEBUG else "-g", "-fno-strict-aliasing"],
        libraries=["dl", "pthread"] if name == "net" else [],
    )


setup(
    # Each module is compiled by itself, so two cores take half the time.
    options={"build_ext": {"parallel": os.cpu_count() or 1}},
    ext_modules=cythonize(
        [extension(name) for name in MODULES if os.path.exists(f"scoop/_core/{name}.pyx")],
        compiler_directives=DIRECTIVES,
        build_dir="build/cython",
    ),
)
