"""Small programs as people write them; each says what it expects."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable

import pytest

pytestmark = pytest.mark.timeout(60)

Run = Callable[..., "subprocess.CompletedProcess[str]"]

WAYS = [pytest.param((), id="python"), pytest.param(("-m", "scoop"), id="scoop")]


@pytest.mark.parametrize("via", WAYS)
def test_what_programs_contain(run: Run, via: tuple[str, ...]) -> None:
    assert run("contents.py", "-n", via=via).stdout == "ok -n\n"


@pytest.mark.parametrize("via", WAYS)
def test_without_the_guard_and_with_argparse(run: Run, via: tuple[str, ...]) -> None:
    assert run("unguarded.py", "--count", "10", "-n", via=via).stdout == "once 285 True\n"


def test_classes_that_deap_makes_in_main(run: Run) -> None:
    pytest.importorskip("deap")
    for _ in range(3):  # an order of messages decides
        assert run("evolve.py").stdout == "best True\n"


def test_importing_scoop_starts_nothing(run: Run) -> None:
    source = """\
import os, threading
import scoop
from scoop import futures
print(threading.active_count(), open(f"/proc/self/task/{os.getpid()}/children").read().split())
"""
    assert run(source).stdout == "1 []\n"


def test_a_module_that_calls_at_import(run: Run, tmp_path: os.PathLike[str]) -> None:
    """A module imported by workers that itself submits calls when it is imported."""
    eager = """\
import scoop
from scoop import futures
TABLE = [futures.submit(pow, 2, i).result() for i in range(4)]
def look(i): return TABLE[i]
"""
    with open(os.path.join(tmp_path, "eager.py"), "w") as file:
        file.write(eager)
    source = """\
import eager, scoop
with scoop.Executor(1) as ex: print(ex.submit(eager.look, 3).result(timeout=20))
"""
    assert run(source).stdout == "8\n"


def test_a_changed_directory_and_search_path(run: Run, tmp_path: os.PathLike[str]) -> None:
    os.mkdir(os.path.join(tmp_path, "lib"))
    with open(os.path.join(tmp_path, "lib", "late.py"), "w") as file:
        file.write("def f(x): return -x\n")
    source = f"""\
import os, sys
os.chdir("/")
sys.path.insert(0, {os.path.join(tmp_path, "lib")!r})
import late, scoop
with scoop.Executor(1) as ex: print(ex.submit(late.f, 3).result(), ex.submit(os.getcwd).result())
"""
    assert run(source).stdout == "-3 /\n"


CAPS = """\
import os, sys
{before}
import scoop
from scoop import futures
def look():
    names = "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"
    return {{name: os.environ.get(name) for name in names}}
if __name__ == "__main__":
    futures.submit(look).result()
    print(look())
    with scoop.Executor(2) as ex: print(ex.submit(look).result())
"""


def cap(value: str | None, other: str | None = "same") -> str:
    other = value if other == "same" else other
    return (
        f"{{'OMP_NUM_THREADS': {value!r}, 'OPENBLAS_NUM_THREADS': {other!r}, 'MKL_NUM_THREADS': {other!r}}}\n"
    )


@pytest.fixture
def cores() -> int:
    from scoop.launch.cores import available_cores

    return available_cores()


def test_threads_of_libraries_are_capped(run: Run, cores: int) -> None:
    share = str(max(1, cores // 2))
    unset = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "")
    assert run(CAPS.format(before=""), env=unset).stdout == 2 * cap(share)
    asked = run(CAPS.format(before=""), via=("-m", "scoop", "--threads", "5"), env=unset)
    assert asked.stdout == 2 * cap("5")


def test_what_the_user_has_set_is_kept(run: Run) -> None:
    done = run(
        CAPS.format(before=""),
        env={"OMP_NUM_THREADS": "3", "OPENBLAS_NUM_THREADS": "", "MKL_NUM_THREADS": ""},
    )
    assert done.stdout == 2 * cap("3", "")


def test_numpy_before_scoop(run: Run) -> None:
    pytest.importorskip("numpy")
    hide = "sys.modules['threadpoolctl'] = None"
    warned = run(CAPS.format(before=f"import numpy\n{hide}"))
    assert warned.stderr.count("threadpoolctl is not installed") == 1
    pytest.importorskip("threadpoolctl")
    show = "import numpy\nimport threadpoolctl, atexit\nnumpy.ones((9, 9)) @ numpy.ones((9, 9))\n"
    show += "atexit.register(lambda: print([p['num_threads'] for p in threadpoolctl.threadpool_info()]))"
    capped = run(CAPS.format(before=show), via=("-m", "scoop", "--threads", "1"))
    assert capped.stderr == ""
    assert set(capped.stdout.splitlines()[-1].strip("[]").split(", ")) == {"1"}


def test_number_of_workers_follows_the_affinity(run: Run) -> None:
    source = """\
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from scoop import current, futures
futures.submit(pow, 2, 2).result()
print(current.size)
"""
    assert run(source, env={"SCOOP_WORKERS": ""}).stdout == "1\n"


def test_an_executor_inside_a_task(run: Run) -> None:
    source = """\
import os
import scoop
def who(): return os.getpid()
def outer():
    with scoop.Executor(1) as inner:
        return os.getpid(), inner.submit(who).result()
def dies_with_one():
    scoop.Executor(1).submit(who).result()
    os.kill(os.getpid(), 9)
def leaves_one_open():
    return scoop.Executor(1).submit(who).result()
if __name__ == "__main__":
    with scoop.Executor(1) as ex:
        mine, theirs = ex.submit(outer).result(timeout=30)
        assert len({os.getpid(), mine, theirs}) == 3
        assert ex.submit(leaves_one_open).result(timeout=30) != mine
        assert type(ex.submit(dies_with_one).exception(timeout=30)).__name__ == "TaskCrashed"
    print("ok")
"""
    assert run(source).stdout == "ok\n"


def test_limits_of_descriptors_are_the_programs(run: Run) -> None:
    source = """\
import resource, scoop
def limit(): return resource.getrlimit(resource.RLIMIT_NOFILE)
if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_NOFILE, (50, 400))
    with scoop.Executor(24) as ex:
        assert ex.submit(limit).result(timeout=30) == (50, 400)
    print("ok")
"""
    assert run(source).stdout == "ok\n"
