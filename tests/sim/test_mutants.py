"""The simulator is worth something only if it finds bugs: here are some to be found."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import ModuleType

import mutants
import pytest

SEEDS_MAX = 3000
pytestmark = pytest.mark.timeout(300)  # the first one waits while others are compiled beside it


@pytest.fixture(scope="module")
def found(request: pytest.FixtureRequest, sim: ModuleType) -> Callable[[mutants.Mutant], int | None]:
    """How many seeds it took; all that are to be tested are compiled and searched for side by side."""
    searched: dict[mutants.Mutant, Future[int | None]] = {}
    # All are over when this returns: after each test nothing may be left.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for item in request.session.items:
            callspec = getattr(item, "callspec", None)
            mutant = callspec.params.get("mutant") if callspec is not None else None
            if mutant is not None:
                searched[mutant] = pool.submit(mutants.seeds_until_found, mutant, SEEDS_MAX)
    return lambda mutant: searched[mutant].result()


@pytest.mark.parametrize("mutant", mutants.MUTANTS, ids=lambda mutant: mutant.name.replace(" ", "-"))
def test_planted_bug_is_found(found: Callable[[mutants.Mutant], int | None], mutant: mutants.Mutant) -> None:
    assert found(mutant) is not None, f"{SEEDS_MAX} seeds do not notice: {mutant.name}"
