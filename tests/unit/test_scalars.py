"""Immutable scalars travel as msgpack: against another library, at every boundary, and strict when read."""

from __future__ import annotations

import math
import struct
import subprocess
import sys

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoop._core import scalars

INT_MIN, INT_MAX = -(2**63), 2**63 - 1
ASCII = st.text(st.characters(max_codepoint=127), max_size=40)
ATOMS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(INT_MIN, INT_MAX),
    st.floats(allow_nan=False),
    ASCII,
    st.binary(max_size=300),
)
VALUES = ATOMS | st.recursive(ATOMS, lambda inner: st.lists(inner, max_size=5).map(tuple), max_leaves=12)
EDGES = sorted(
    {
        sign * 2**bits + offset
        for bits in (5, 7, 8, 15, 16, 31, 32, 62, 63)
        for sign in (1, -1)
        for offset in (-1, 0, 1)
    }
    | {0, 1, -1}
)


def depth(value):
    return 1 + max(map(depth, value), default=0) if isinstance(value, tuple) else 0


def same(left, right):
    """Equal, of the same types all the way down; True is not 1 and 0.0 is not -0.0."""
    if type(left) is not type(right):
        return False
    if isinstance(left, tuple):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, float):
        return struct.pack("d", left) == struct.pack("d", right)
    return left == right


class Int(int):
    pass


class Text(str):
    pass


class Pair(tuple):
    __slots__ = ()


@given(VALUES)
@settings(max_examples=300)
def test_round_trip(value):
    assert scalars.accepts(value) == (depth(value) <= 4)
    if depth(value) <= 4:
        assert same(scalars.decode(scalars.encode(value)), value)


@given(VALUES.filter(lambda value: depth(value) <= 4))
def test_msgpack_reads_it(value):
    assert same(msgpack.unpackb(scalars.encode(value), use_list=False), value)


@given(
    st.integers(INT_MIN, INT_MAX)
    | st.floats(allow_nan=False)
    | st.binary(max_size=300)
    | st.none()
    | st.booleans()
)
def test_msgpack_writes_the_same(value):
    # All but text, which is always written in the long form: its tag needs no choice.
    assert scalars.encode(value) == msgpack.packb(value, use_bin_type=True)


@pytest.mark.parametrize("value", EDGES)
def test_edges_of_integers(value):
    fits = INT_MIN <= value <= INT_MAX
    assert scalars.accepts(value) is fits
    if fits:
        assert scalars.encode(value) == msgpack.packb(value)
        assert scalars.decode(scalars.encode(value)) == value
    else:
        with pytest.raises(ValueError, match="int is not an immutable scalar"):
            scalars.encode(value)


@pytest.mark.parametrize("value", [2**63, 2**64 - 1])
def test_larger_unsigned_integers_are_read(value):
    assert scalars.decode(msgpack.packb(value)) == value


def test_floats_that_compare_strangely():
    assert math.isnan(scalars.decode(scalars.encode(math.nan)))
    for value in (0.0, -0.0, math.inf, -math.inf, 5e-324, 1.7976931348623157e308):
        assert same(scalars.decode(scalars.encode(value)), value)


@pytest.mark.parametrize("size", [0, 1, 255, 256, 65535, 65536])
def test_edges_of_bytes(size):
    value = b"x" * size
    assert scalars.encode(value) == msgpack.packb(value)
    assert scalars.decode(scalars.encode(value)) == value


def test_more_bytes_travel_otherwise():
    assert not scalars.accepts(bytes(65537))


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 65535, 65536])
def test_edges_of_tuples(size):
    value = (1,) * size
    assert scalars.encode(value) == msgpack.packb(value)
    assert scalars.decode(scalars.encode(value)) == value


def test_depth():
    value = ()
    for _ in range(3):
        value = (value,)
    assert scalars.accepts(value)
    assert scalars.decode(scalars.encode(value)) == value
    assert not scalars.accepts((value,))
    assert not scalars.accepts(((), (value, 1)))
    with pytest.raises(ValueError, match="tuple"):
        scalars.encode((value,))


@pytest.mark.parametrize(
    "value",
    [
        [],
        {},
        set(),
        1j,
        "é",
        bytearray(b"a"),
        Int(1),
        Text("a"),
        Pair((1,)),
        (1, [2]),
        int,
        object(),
        range(3),
    ],
    ids=repr,
)
def test_what_may_change_or_is_not_exact_is_refused(value):
    assert not scalars.accepts(value)
    with pytest.raises(ValueError, match=type(value).__name__):
        scalars.encode(value)


@given(st.binary(max_size=400))
@settings(max_examples=500)
def test_any_bytes_give_a_value_or_a_value_error(data):
    try:
        value = scalars.decode(data)
    except ValueError:
        return
    assert msgpack.packb(value) == msgpack.packb(msgpack.unpackb(data, use_list=False))


@given(VALUES.filter(lambda value: depth(value) <= 4), st.data())
def test_every_prefix_and_every_rest_is_refused(value, data):
    good = scalars.encode(value)
    with pytest.raises(ValueError, match="not the msgpack"):
        scalars.decode(good[: data.draw(st.integers(0, len(good) - 1))])
    with pytest.raises(ValueError, match="not the msgpack"):
        scalars.decode(good + data.draw(st.binary(min_size=1, max_size=3)))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\xa1a",
        b"\xd9\x01a",
        b"\xca" + bytes(4),
        b"\x81\x01\x02",
        b"\xc7\x01\x01a",
        b"\x91",
        b"\xdd\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xcf" + bytes(7),
    ],
)
def test_refused(data):
    with pytest.raises(ValueError, match="not the msgpack"):
        scalars.decode(data)


def test_text_that_is_not_utf8_is_refused():
    with pytest.raises(ValueError, match="utf-8"):
        scalars.decode(b"\xdb\x00\x00\x00\x01\xff")


def test_deep_nesting_is_refused():
    # In a process of its own: what is tested is that it does not crash.
    program = (
        "from scoop._core import scalars\n"
        "for head in (b'\\x91', b'\\xdc\\x00\\x01', b'\\xdd\\x00\\x00\\x00\\x01'):\n"
        "    for depth in (5, 1000, 2_000_000):\n"
        "        try: scalars.decode(head * depth + b'\\xc0')\n"
        "        except ValueError: print('refused')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "refused\n" * 9)
