"""Fork-join trees: every node submits its two children and waits for them.

One function per library that can nest at all; each returns (nodes, nodes run in the process ``home``).
A library whose pool cannot be reached from inside a task has no function here and is named as such.
"""

from __future__ import annotations

import os
from typing import Any

from bench.work import burn

Count = tuple[int, int]


def leaf(loops: int, home: int) -> Count:
    """The end of a branch, with some work or none."""
    if loops:
        burn(loops)
    return 1, int(os.getpid() == home)


def join(left: Count, right: Count, home: int) -> Count:
    """A node above its two children."""
    return left[0] + right[0] + 1, left[1] + right[1] + int(os.getpid() == home)


def dask_tree(depth: int, loops: int, home: int) -> Count:
    """For dask: a waiting task has to step out of its worker's pool."""
    if not depth:
        return leaf(loops, home)
    from distributed import worker_client

    with worker_client() as client:
        left, right = client.gather(
            [client.submit(dask_tree, depth - 1, loops, home, pure=False) for _ in range(2)]
        )
    return join(left, right, home)


_remote_tree: Any = None


def ray_tree(depth: int, loops: int, home: int) -> Count:
    """For ray, which starts more processes while tasks wait."""
    global _remote_tree
    if not depth:
        return leaf(loops, home)
    import ray

    if _remote_tree is None:
        _remote_tree = ray.remote(ray_tree)
    left, right = ray.get([_remote_tree.remote(depth - 1, loops, home) for _ in range(2)])
    return join(left, right, home)
