"""The machines and the codec, compiled with the address and undefined-behaviour sanitizers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SIMULATOR = Path(__file__).resolve().parents[1] / "sim"
SOURCES = SIMULATOR.parents[1] / "scoop" / "_core"
MODULES = (
    "wire",
    "scalars",
    "table",
    "outbox",
    "balance",
    "federation",
    "broker",
    "ledger",
    "localq",
    "store",
    "desk",
    "gateway",
)
FLAGS = ["-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
LIBRARIES = ("libasan.so", "libubsan.so")


def missing() -> str:
    """What the compiler lacks; empty: nothing."""
    for library in LIBRARIES:
        found = subprocess.run(
            ["gcc", f"-print-file-name={library}"], capture_output=True, text=True, check=True
        )
        if not Path(found.stdout.strip()).exists():
            return f"gcc has no {library}"
    return ""


def environment() -> dict[str, str]:
    """The environment in which Python finds them. Blocks while they are compiled, about a minute at first."""
    sys.path.insert(0, str(SIMULATOR))
    import simbuild

    changed = {name: (SOURCES / f"{name}.pyx").read_text() for name in MODULES}
    folder = simbuild.rebuilt(changed, FLAGS)
    libraries = [
        subprocess.run(
            ["gcc", f"-print-file-name={library}"], capture_output=True, text=True, check=True
        ).stdout.strip()
        for library in LIBRARIES
    ]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH", "")])),
        "LD_PRELOAD": " ".join(libraries),
        "ASAN_OPTIONS": "detect_leaks=0",  # Python itself leaks at its end
        "PYTHONMALLOC": "malloc",  # so that a byte string has an end that is watched
    }
