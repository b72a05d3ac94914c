"""The fork-join tree on the module-level futures of scoop, any version.

A module of its own: ``scoop`` is imported at its top, as a program does it, because an import statement
in the task would cost as much as a task.
"""

from __future__ import annotations

from bench.trees import Count, join, leaf
from bench.work import nothing
from scoop import futures

_submit = futures.submit


def plain_tree(depth: int) -> int:
    """Number of nodes; the leaves call a no-op. Carries nothing that is not needed: it is timed."""
    if not depth:
        nothing()
        return 1
    left = _submit(plain_tree, depth - 1)
    right = _submit(plain_tree, depth - 1)
    return left.result() + right.result() + 1  # type: ignore[no-any-return]


def scoop_tree(depth: int, loops: int, home: int) -> Count:
    """The same with work in the leaves, and a count of the nodes that ran at home."""
    if not depth:
        return leaf(loops, home)
    left = _submit(scoop_tree, depth - 1, loops, home)
    right = _submit(scoop_tree, depth - 1, loops, home)
    return join(left.result(), right.result(), home)
