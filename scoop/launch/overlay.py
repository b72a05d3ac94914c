"""Who hears whose hints: each broker and its neighbours, the same picture in every process of a job."""

from __future__ import annotations

import random

MESH_MAX = 32
"""Up to so many brokers all hear all."""

RINGS = 4
"""Beyond, each has twice so many neighbours: a random graph of that degree has a small diameter."""


def neighbours(count: int, seed: int) -> list[list[int]]:
    """For each of `count` brokers, the others that hear its hints; symmetric.

    Args:
        count: brokers, numbered from 0.
        seed: of the job; the same everywhere.
    """
    if count <= MESH_MAX:
        return [[other for other in range(count) if other != one] for one in range(count)]
    dice = random.Random(seed)
    found: list[set[int]] = [set() for _ in range(count)]
    for _ in range(RINGS):
        ring = list(range(count))
        dice.shuffle(ring)
        for one, other in zip(ring, [*ring[1:], ring[0]], strict=True):
            found[one].add(other)
            found[other].add(one)
    return [sorted(others) for others in found]
