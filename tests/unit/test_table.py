"""The hash table against a dict, and the one delicate step: a removal shifts its successors back."""

from __future__ import annotations

import random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from scoop._core.table import Table

MASK = 2**64 - 1
CELLS = 64


def home(key, mask=CELLS - 1):
    """The cell where `key` belongs: the finalizer of splitmix64."""
    key = (key ^ key >> 30) * 0xBF58476D1CE4E5B9 & MASK
    key = (key ^ key >> 27) * 0x94D049BB133111EB & MASK
    return (key ^ key >> 31) & mask


def keys_at(cell, count):
    """`count` keys that belong to one cell of a table of the first size."""
    found = []
    key = 1
    while len(found) < count:
        if home(key) == cell:
            found.append(key)
        key += 1
    return found


class AgainstDict(RuleBasedStateMachine):
    """Few distinct cells, so that almost every key collides; some random keys, so that it grows."""

    KEYS = st.sampled_from([key for cell in (0, 1, 62, 63) for key in keys_at(cell, 8)]) | st.integers(
        1, MASK
    )

    def __init__(self):
        super().__init__()
        self.table = Table()
        self.model = {}

    @rule(key=KEYS, value=st.integers(1, 2**64 - 1))
    def put(self, key, value):
        self.table.put(key, value)
        self.model[key] = value

    @rule(key=KEYS)
    def pop(self, key):
        assert self.table.pop(key) == self.model.pop(key, 0)

    @rule(key=KEYS)
    def get(self, key):
        assert self.table.get(key) == self.model.get(key, 0)

    @rule(count=st.integers(1, 120), seed=st.integers(0, 2**32))
    def put_many(self, count, seed):
        dice = random.Random(seed)
        for _ in range(count):
            self.put(dice.randint(1, MASK), dice.randint(1, MASK))

    @invariant()
    def same_length(self):
        assert len(self.table) == len(self.model)

    def teardown(self):
        for key, value in self.model.items():
            assert self.table.pop(key) == value
        assert len(self.table) == 0


TestAgainstDict = AgainstDict.TestCase
TestAgainstDict.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@pytest.mark.parametrize("cell", [0, 10, 60, 63])
@pytest.mark.parametrize("removed", range(5))
def test_removal_from_a_run_of_one_cell(cell, removed):
    # The run wraps around the end of the array for the last cells.
    table = Table()
    keys = keys_at(cell, 5)
    for value, key in enumerate(keys, start=1):
        table.put(key, value)
    assert table.pop(keys[removed]) == removed + 1
    assert [table.get(key) for key in keys] == [0 if i == removed else i + 1 for i in range(5)]


def test_removal_leaves_a_key_at_its_home():
    # a and b belong to cell 20, c to 21; they stand in 20, 21, 22. Without a, b moves home and c after it.
    a, b = keys_at(20, 2)
    (c,) = keys_at(21, 1)
    table = Table()
    for value, key in enumerate((a, b, c), start=1):
        table.put(key, value)
    assert table.pop(a) == 1
    assert (table.get(b), table.get(c)) == (2, 3)
    assert table.pop(b) == 2
    assert table.get(c) == 3
    # A key that stands at its home is not moved before it.
    (d,) = keys_at(19, 1)
    table.put(d, 4)
    assert table.pop(d) == 4
    assert table.get(c) == 3


def test_grows_and_keeps_all():
    table = Table()
    for key in range(1, 5001):
        table.put(key, key * 3)
    assert len(table) == 5000
    assert all(table.get(key) == key * 3 for key in range(1, 5001))
    for key in range(1, 5001, 2):
        assert table.pop(key) == key * 3
    assert [table.get(key) for key in range(1, 9)] == [0, 6, 0, 12, 0, 18, 0, 24]


def test_put_again_replaces():
    table = Table()
    table.put(5, 1)
    table.put(5, 2)
    assert (len(table), table.get(5)) == (1, 2)


def test_an_empty_table_and_key_0():
    table = Table()
    assert (table.get(1), table.pop(1), table.get(0), table.pop(0), len(table)) == (0, 0, 0, 0, 0)
    with pytest.raises(ValueError, match="key 0"):
        table.put(0, 1)
    table.put(1, 1)
    assert (table.get(0), table.pop(0)) == (0, 0)
