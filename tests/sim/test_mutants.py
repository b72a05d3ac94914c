"""The simulator is worth something only if it finds bugs: here are some to be found."""

from __future__ import annotations

from types import ModuleType

import mutants
import pytest

SEEDS_MAX = 3000


@pytest.mark.parametrize("mutant", mutants.MUTANTS, ids=lambda mutant: mutant.name.replace(" ", "-"))
def test_planted_bug_is_found(sim: ModuleType, mutant: mutants.Mutant) -> None:
    found = mutants.seeds_until_found(mutant, SEEDS_MAX)
    assert found is not None, f"{SEEDS_MAX} seeds do not notice: {mutant.name}"
