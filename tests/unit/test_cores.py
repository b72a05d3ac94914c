"""How many cores and threads this process may use."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest

from scoop.launch.cores import OomCounter, available_cores, cap_loaded_libraries, thread_caps


def lay_out(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def cores(root: Path, cgroup: str, files: dict[str, str], affinity: int = 16) -> int:
    lay_out(root, {"self": cgroup, **files})
    return available_cores(proc_cgroup=str(root / "self"), cgroup_root=str(root / "fs"), affinity=affinity)


UNIFIED = "0::/job/step\n"
OLD = "4:cpu,cpuacct:/job/step\n3:memory:/job\n"


@pytest.mark.parametrize(
    ("cgroup", "files", "expected"),
    [
        pytest.param(UNIFIED, {}, 16, id="no cgroup mounted"),
        pytest.param(UNIFIED, {"fs/job/step/cpu.max": "max 100000\n"}, 16, id="no limit"),
        pytest.param(UNIFIED, {"fs/job/step/cpu.max": "200000 100000\n"}, 2, id="limit"),
        pytest.param(UNIFIED, {"fs/job/step/cpu.max": "150000 100000\n"}, 2, id="rounded up"),
        pytest.param(UNIFIED, {"fs/job/step/cpu.max": "1000 100000\n"}, 1, id="at least one"),
        pytest.param(
            UNIFIED,
            {"fs/job/step/cpu.max": "max 100000\n", "fs/job/cpu.max": "300000 100000\n"},
            3,
            id="limit of an ancestor",
        ),
        pytest.param(
            UNIFIED,
            {"fs/job/step/cpu.max": "800000 100000\n", "fs/job/cpu.max": "300000 100000\n"},
            3,
            id="tighter limit of an ancestor",
        ),
        pytest.param(UNIFIED, {"fs/cpu.max": "500000 100000\n"}, 5, id="path of the host in a container"),
        pytest.param(UNIFIED, {"fs/unified/job/cpu.max": "400000 100000\n"}, 4, id="hybrid mount"),
        pytest.param(UNIFIED, {"fs/job/step/cpu.max": "nonsense\n"}, 16, id="odd file"),
        pytest.param(
            OLD,
            {
                "fs/cpu,cpuacct/job/step/cpu.cfs_quota_us": "400000\n",
                "fs/cpu,cpuacct/job/step/cpu.cfs_period_us": "100000",
            },
            4,
            id="old interface",
        ),
        pytest.param(
            OLD,
            {"fs/cpu/job/cpu.cfs_quota_us": "250000\n", "fs/cpu/job/cpu.cfs_period_us": "100000\n"},
            3,
            id="old interface, short mount, ancestor",
        ),
        pytest.param(
            OLD,
            {"fs/cpu/job/cpu.cfs_quota_us": "-1\n", "fs/cpu/job/cpu.cfs_period_us": "100000\n"},
            16,
            id="old interface without a limit",
        ),
        pytest.param("0::/../x\n", {"fs/x/cpu.max": "100000 100000\n"}, 1, id="path out of the namespace"),
    ],
)
def test_quota(tmp_path: Path, cgroup: str, files: dict[str, str], expected: int) -> None:
    assert cores(tmp_path, cgroup, files) == expected


def test_affinity_is_the_upper_bound(tmp_path: Path) -> None:
    assert cores(tmp_path, UNIFIED, {"fs/job/cpu.max": "800000 100000\n"}, affinity=3) == 3


def test_this_host() -> None:
    assert available_cores() >= 1


def test_every_library_gets_its_share() -> None:
    caps = thread_caps(3, 8, {})
    assert set(caps.values()) == {"2"}
    assert {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"} <= set(caps)
    assert {"BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "NUMBA_NUM_THREADS"} <= set(caps)


@pytest.mark.parametrize(("workers", "cores", "share"), [(8, 2, "1"), (1, 4, "4"), (0, 4, "4")])
def test_share(workers: int, cores: int, share: str) -> None:
    assert thread_caps(workers, cores, {})["OMP_NUM_THREADS"] == share


def test_what_the_user_set_stays() -> None:
    caps = thread_caps(2, 8, {"MKL_NUM_THREADS": "7"})
    assert "MKL_NUM_THREADS" not in caps
    assert caps["OPENBLAS_NUM_THREADS"] == "4"


def test_libraries_that_follow_openmp_keep_following_it() -> None:
    caps = thread_caps(2, 8, {"OMP_NUM_THREADS": "1"})
    assert caps == {"VECLIB_MAXIMUM_THREADS": "4", "NUMBA_NUM_THREADS": "4"}


def test_nothing_loaded_nothing_to_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "numpy", raising=False)
    assert cap_loaded_libraries(2) is None


def test_loaded_library_is_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[int] = []
    pools = types.ModuleType("threadpoolctl")
    monkeypatch.setattr(
        pools, "threadpool_limits", lambda limits_=0, **kw: limits.append(kw["limits"]), raising=False
    )
    monkeypatch.setitem(sys.modules, "numpy", types.ModuleType("numpy"))
    monkeypatch.setitem(sys.modules, "threadpoolctl", pools)
    assert cap_loaded_libraries(2) is None
    assert limits == [2]


def test_loaded_library_that_cannot_be_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numpy", types.ModuleType("numpy"))
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    warning = cap_loaded_libraries(2)
    assert warning is not None
    assert "OMP_NUM_THREADS" in warning


@pytest.mark.parametrize(
    ("cgroup", "name"),
    [
        (UNIFIED, "fs/job/step/memory.events"),
        (OLD, "fs/memory/job/memory.oom_control"),
        ("", "vmstat"),
    ],
)
def test_kills_are_counted_once(tmp_path: Path, cgroup: str, name: str) -> None:
    lay_out(tmp_path, {"self": cgroup, "vmstat": "oom_kill 0\n", name: "low 0\noom 3\noom_kill 1\n"})
    counter = OomCounter(
        proc_cgroup=str(tmp_path / "self"), cgroup_root=str(tmp_path / "fs"), vmstat=str(tmp_path / "vmstat")
    )
    assert counter.read() == 1
    assert not counter.moved()
    lay_out(tmp_path, {name: "low 0\noom 3\noom_kill 2\n"})
    assert counter.moved()
    assert not counter.moved()


def test_no_counter_at_all(tmp_path: Path) -> None:
    nowhere = str(tmp_path / "none")
    assert not OomCounter(proc_cgroup=nowhere, cgroup_root=nowhere, vmstat=nowhere).moved()


@pytest.mark.parametrize(
    ("cgroup", "files", "limit"),
    [
        (UNIFIED, {"fs/job/memory.max": "max\n"}, 0),
        (UNIFIED, {"fs/job/memory.max": "3000\n", "fs/job/step/memory.max": "max\n"}, 3000),
        (UNIFIED, {"fs/job/memory.max": "3000\n", "fs/job/step/memory.max": "2000\n"}, 2000),
        (OLD, {"fs/memory/job/memory.limit_in_bytes": "9223372036854771712\n"}, 0),
        (OLD, {"fs/memory/job/memory.limit_in_bytes": "5000\n"}, 5000),
    ],
)
def test_the_limit_is_the_least_on_the_way_up(
    tmp_path: Path, cgroup: str, files: dict[str, str], limit: int
) -> None:
    lay_out(tmp_path, {"self": cgroup, **files})
    counter = OomCounter(proc_cgroup=str(tmp_path / "self"), cgroup_root=str(tmp_path / "fs"), vmstat="")
    assert counter.limit_bytes() == limit
