"""What this process may use of its host: cores, threads for numeric libraries, and the kernel's kill counter.

Nothing here changes the host; every path read can be given by the caller, so that tests need no cgroup.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PROC_CGROUP = "/proc/self/cgroup"
CGROUP_ROOT = "/sys/fs/cgroup"
VMSTAT = "/proc/vmstat"
NO_LIMIT_BYTES = 1 << 60  # the old interface writes a number near 2**63 for none

# Libraries that look at OMP_NUM_THREADS when their own variable is missing come second.
_OWN_VARIABLE_ONLY = ("OMP_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "NUMBA_NUM_THREADS")
_FOLLOW_OMP = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "BLIS_NUM_THREADS")


def available_cores(
    *,
    proc_cgroup: str = PROC_CGROUP,
    cgroup_root: str = CGROUP_ROOT,
    affinity: int | None = None,
) -> int:
    """Number of cores this process may keep busy: its affinity mask, cut to its cgroups' CPU quota.

    A quota that is not a whole number is rounded up: 1.5 cores keep two processes busier than one.

    Args:
        proc_cgroup: file that names the cgroups of this process.
        cgroup_root: where the cgroup file systems are mounted.
        affinity: size of the affinity mask; asked from the kernel when None.

    Returns:
        At least 1. Unreadable or odd files count as "no limit". Does not block.
    """
    cores = len(os.sched_getaffinity(0)) if affinity is None else affinity
    for directory in _cgroup_levels("cpu", proc_cgroup, cgroup_root):
        quota = _quota(directory)
        if quota is not None:
            cores = min(cores, quota)
    return max(1, cores)


def thread_caps(
    workers: int, cores: int, environ: Mapping[str, str], *, threads: int | None = None
) -> dict[str, str]:
    """Variables that keep the numeric libraries of several workers from starting threads for every core each.

    A variable that the user has set is left alone. So are the variables of libraries that would follow the
    user's OMP_NUM_THREADS: setting theirs would overrule it.

    Args:
        workers: processes that share the cores.
        cores: as from `available_cores`.
        environ: environment of the user's program.
        threads: what the user wants each process to have, whatever the variables say; None for a fair share.

    Returns:
        Variables to add; empty if the user has set them all.

    Example:
        >>> thread_caps(2, 8, {"OMP_NUM_THREADS": "1"})
        {'VECLIB_MAXIMUM_THREADS': '4', 'NUMBA_NUM_THREADS': '4'}
    """
    if threads is not None:
        return dict.fromkeys(_OWN_VARIABLE_ONLY + _FOLLOW_OMP, str(threads))
    names: tuple[str, ...] = _OWN_VARIABLE_ONLY
    if not environ.get("OMP_NUM_THREADS"):
        names += _FOLLOW_OMP
    share = str(max(1, cores // max(1, workers)))
    return {name: share for name in names if not environ.get(name)}


def cap_loaded_libraries(threads: int) -> str | None:
    """Limit the threads of numeric libraries that were loaded before the variables could tell them.

    Args:
        threads: threads that each library may use from now on.

    Returns:
        None if there was nothing to do or it is done; otherwise a warning to show to the user once.
    """
    if "numpy" not in sys.modules:
        return None
    try:
        import threadpoolctl  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError:
        return (
            f"numpy was imported before its threads could be limited to {threads} per process, and "
            "threadpoolctl is not installed: workers may compete for cores. Install threadpoolctl or set "
            "OMP_NUM_THREADS."
        )
    threadpoolctl.threadpool_limits(limits=threads)
    return None


class OomCounter:
    """Tells whether the kernel killed a process of our cgroup for lack of memory since the last look.

    Without a memory cgroup the counter of the whole host is read.
    """

    __slots__ = ("_path", "_seen", "_sources")

    def __init__(
        self, *, proc_cgroup: str = PROC_CGROUP, cgroup_root: str = CGROUP_ROOT, vmstat: str = VMSTAT
    ) -> None:
        self._sources = proc_cgroup, cgroup_root
        self._path = _oom_file(proc_cgroup, cgroup_root, vmstat)
        self._seen = self.read()

    def read(self) -> int:
        """Number of such kills so far; 0 if the kernel does not tell."""
        return _field(self._path, "oom_kill") or 0

    def moved(self) -> bool:
        """True if it has grown since the last call (or since construction)."""
        before, self._seen = self._seen, self.read()
        return self._seen > before

    def limit_bytes(self) -> int:
        """What all processes of our cgroup may have together: the least of its own and its ancestors' limits.

        0 without a limit.
        """
        found = []
        for directory in _cgroup_levels("memory", *self._sources):
            for name in ("memory.max", "memory.limit_in_bytes"):
                text = _read(os.path.join(directory, name)).strip()
                if text.isdigit() and 0 < int(text) < NO_LIMIT_BYTES:
                    found.append(int(text))
        return min(found, default=0)


def _oom_file(proc_cgroup: str, cgroup_root: str, vmstat: str) -> str:
    """The nearest file with an `oom_kill` line. The kernel counts a kill in the victim's own cgroup."""
    for directory in _cgroup_levels("memory", proc_cgroup, cgroup_root):
        for name in ("memory.events", "memory.oom_control"):
            path = os.path.join(directory, name)
            if _field(path, "oom_kill") is not None:
                return path
    return vmstat


def _cgroup_levels(controller: str, proc_cgroup: str, cgroup_root: str) -> Iterator[str]:
    """Directories that may limit this process for one controller: its own cgroup first, then its ancestors.

    In a container the path in the process's file may be the host's, which is not mounted: then only the
    mounted root remains, and it is the container's own cgroup.
    """
    for line in _read(proc_cgroup).splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            mounts = ["", "unified"]
        elif controller in controllers.split(","):
            mounts = [controllers, controller]
        else:
            continue
        for mount in mounts:
            yield from _upwards(os.path.join(cgroup_root, mount), path)


def _upwards(mount: str, path: str) -> Iterator[str]:
    """The directory `path` beneath `mount` and its ancestors up to the mount, as far as they exist."""
    parts = [part for part in path.split("/") if part and part != ".."]
    for length in range(len(parts), -1, -1):
        directory = os.path.join(mount, *parts[:length])
        if os.path.isdir(directory):
            yield directory


def _quota(directory: str) -> int | None:
    """Cores that the CPU quota of one cgroup directory allows, rounded up; None without a quota."""
    unified = _read(os.path.join(directory, "cpu.max")).split()
    if len(unified) == 2:
        return _ceil_ratio(*unified)
    quota = _read(os.path.join(directory, "cpu.cfs_quota_us"))
    return _ceil_ratio(quota, _read(os.path.join(directory, "cpu.cfs_period_us")))


def _ceil_ratio(quota: str, period: str) -> int | None:
    try:
        top, bottom = int(quota), int(period)
    except ValueError:  # "max", or an unreadable file
        return None
    if top <= 0 or bottom <= 0:  # -1 is the old interface's "no limit"
        return None
    return -(-top // bottom)


def _field(path: str, name: str) -> int | None:
    """The number behind `name` in a file of "name number" lines."""
    for line in _read(path).splitlines():
        key, _, value = line.partition(" ")
        if key == name and value.strip().isdigit():
            return int(value)
    return None


def _read(path: str) -> str:
    """Text of a small file, empty if it cannot be read."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
