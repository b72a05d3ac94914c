"""Planted bugs: one line of a machine is changed, the machine compiled, and the simulator has to notice."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import simbuild

SOURCES = simbuild.HERE.parents[1] / "scoop" / "_core"
RUN_SECONDS_MAX = 100


@dataclass(frozen=True)
class Mutant:
    """A planted bug: in `module`, the only `old` becomes `new`."""

    name: str
    module: str
    old: str
    new: str


MUTANTS = (
    Mutant("a loss is not issued again", "ledger", "return R_REISSUE", "return R_IGNORE"),
    Mutant("a crash is not counted", "ledger", "call.crashes += 1", "call.crashes += 0"),
    Mutant("a call that came home is dropped", "ledger", "else R_REQUEUE", "else R_IGNORE"),
    Mutant(
        "the owner is not told of a loss",
        "balance",
        "        if to >= 0:\n            self.out.put(A_LOST,",
        "        if to < 0:\n            self.out.put(A_LOST,",
    ),
    Mutant(
        "a cancel is not passed on",
        "balance",
        "self.out.put(A_CANCEL, task.node, NULL, owner, id, attempt, mode)",
        "pass",
    ),
    Mutant(
        "a death before the hello is forgotten",
        "broker",
        "self.balance.on_hello(lost.incarnation, False)",
        "self.balance.slot_of(lost.incarnation)",
    ),
)


def plant(mutant: Mutant) -> Path:
    """Return a folder to import the changed scoop from, compiled if it is not kept yet."""
    source = (SOURCES / f"{mutant.module}.pyx").read_text()
    if source.count(mutant.old) != 1:
        raise ValueError(
            f"{mutant.name}: {mutant.old!r} stands {source.count(mutant.old)} times in {mutant.module}"
        )
    changed = source.replace(mutant.old, mutant.new)
    installed = simbuild.package_folder() / "scoop" / "_core"
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    binaries = sorted(installed.glob(f"*{suffix}"))
    ages = [f"{path.name} {path.stat().st_mtime_ns}" for path in binaries]
    declared = [path.read_text() for path in sorted(installed.glob("*.pxd"))]
    kept = simbuild.CACHE / f"mutant-{simbuild.digest([changed, *ages, *declared])}"
    if kept.exists():
        return kept
    beside = kept.with_name(f"{kept.name}.{os.getpid()}")
    core = beside / "scoop" / "_core"
    core.mkdir(parents=True)
    try:
        for path in [*installed.glob("*.pxd"), *binaries]:
            shutil.copy(path, core)
        for path in (*installed.glob("*.py"), *installed.parent.glob("errors.py")):
            shutil.copy(path, core if path.parent == installed else core.parent)
        (core.parent / "__init__.py").touch()
        (core / f"{mutant.module}{suffix}").unlink()
        (core / f"{mutant.module}.pyx").write_text(changed)
        simbuild.compile_in(beside, beside, [f"scoop._core.{mutant.module}"])
        try:
            os.replace(beside, kept)
        except OSError:
            if not kept.exists():
                raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return kept


def seeds_until_found(mutant: Mutant, seeds_max: int) -> int | None:
    """How many seeds it takes to find the bug, None if `seeds_max` do not."""
    folders = [str(plant(mutant)), str(simbuild.build()), str(simbuild.HERE)]
    done = subprocess.run(
        [sys.executable, str(simbuild.HERE / "mutants.py"), str(seeds_max), *folders],
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS_MAX,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(folders)},
    )
    if done.returncode < 0:
        return 1  # it crashed the process: found, if not gently
    if done.returncode:
        raise RuntimeError(done.stderr[-4000:])
    found = int(done.stdout.split()[-1])
    return found or None


def _search(seeds_max: int, folders: list[str]) -> int:
    sys.path[:0] = folders
    from scoop_sim import job

    from scoop._core import ledger

    assert ledger.__file__.startswith(folders[0])
    import oracle

    for seed in range(seeds_max):
        _, why = oracle.run_seed(job, seed)
        if why:
            print(why, file=sys.stderr)
            return seed + 1
    return 0


if __name__ == "__main__":
    print(_search(int(sys.argv[1]), sys.argv[2:]))
