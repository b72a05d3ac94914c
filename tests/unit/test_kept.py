"""Results that are kept for a broker that follows a dead one: which, how long, and how many."""

from __future__ import annotations

import pytest


@pytest.fixture
def kept(machines):
    return machines.Kept()


def test_what_was_kept_comes_in_its_order(kept):
    assert kept.all() == b""
    for i in range(5):
        kept.keep(b"%d" % i, i)
    assert kept.all() == b"01234"
    assert kept.all() == b"01234"  # it may be asked for more than once


def test_a_result_is_there_for_its_time_and_gone_after_twice_that(machines, kept):
    _, for_ns = machines.KEPT_LIMITS
    kept.keep(b"a", for_ns)
    kept.keep(b"b", 2 * for_ns)
    assert kept.all() == b"ab"
    kept.keep(b"c", 3 * for_ns)
    assert b"b" in kept.all()
    kept.keep(b"d", 4 * for_ns + 1)
    kept.keep(b"e", 6 * for_ns)
    assert kept.all() == b"de"


def test_bytes_have_a_bound(machines, kept):
    bytes_max, _ = machines.KEPT_LIMITS
    small = b"x" * 1000
    for i in range(5000):
        kept.keep(b"%08d" % i + small, 1)
    everything = kept.all()
    assert bytes_max <= len(everything) <= 2 * bytes_max
    assert everything.endswith(b"00004999" + small)


def test_what_is_too_large_is_not_kept_and_pushes_nothing_out(machines, kept):
    bytes_max, _ = machines.KEPT_LIMITS
    kept.keep(b"small", 1)
    kept.keep(b"x" * (bytes_max + 1), 1)
    assert kept.all() == b"small"
    kept.keep(b"y" * bytes_max, 1)
    assert kept.all() == b"small" + b"y" * bytes_max
