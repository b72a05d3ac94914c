"""The format of checkpoint files: cut at every byte, every byte flipped, anything in it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoop.segments import HEADER_BYTES, MAGIC, Key, decode, encode, read_key, scan

RUN, FUNCTION = b"r" * 8, b"f" * 16


def key(number: int) -> Key:
    return Key(RUN, number, FUNCTION, bytes([number % 256]) * 16)


def found(data: bytes) -> list[tuple[Key | None, bytes]]:
    """What a reader makes of a file: keys and payloads in their order, None for damaged ones."""
    records = scan(lambda offset, size: data[offset : offset + size], len(data))
    return [(record.key, data[record.offset + HEADER_BYTES : record.end]) for record in records]


def whole(payloads: list[bytes]) -> bytes:
    return MAGIC + b"".join(encode(key(number), payload) for number, payload in enumerate(payloads))


PAYLOADS = [b"", b"one", bytes(range(256)), b"x" * 40]


def test_what_is_written_is_found() -> None:
    assert found(whole(PAYLOADS)) == [(key(n), payload) for n, payload in enumerate(PAYLOADS)]
    assert found(MAGIC) == []


def test_a_file_cut_at_any_byte_has_the_records_before() -> None:
    data = whole(PAYLOADS)
    ends = [record.end for record in scan(lambda offset, size: data[offset : offset + size], len(data))]
    for size in range(len(MAGIC), len(data)):
        expected = [(key(n), PAYLOADS[n]) for n, end in enumerate(ends) if end <= size]
        assert found(data[:size]) == expected, size


def test_a_flipped_byte_is_never_taken_for_a_result() -> None:
    data = whole(PAYLOADS)
    true = [(key(n), payload) for n, payload in enumerate(PAYLOADS)]
    for at in range(len(MAGIC), len(data)):
        for bit in (0x01, 0x80, 0xFF):
            flipped = bytearray(data)
            flipped[at] ^= bit
            good = [entry for entry in found(bytes(flipped)) if entry[0] is not None]
            assert len(good) < len(true), at
            assert all(entry in true for entry in good), at


def test_damage_in_a_payload_costs_one_record() -> None:
    data = bytearray(whole(PAYLOADS))
    data[len(MAGIC) + 2 * HEADER_BYTES + 1] ^= 0xFF  # the middle of "one"
    assert [entry[0] for entry in found(bytes(data))] == [key(0), None, key(2), key(3)]


@pytest.mark.parametrize("tail", [b"\0" * 4096, b"\xff" * 4096, b"\x24", MAGIC])
def test_what_makes_no_sense_ends_the_file(tail: bytes) -> None:
    assert found(whole(PAYLOADS) + tail) == found(whole(PAYLOADS))


def test_decode_takes_exactly_one_record() -> None:
    record = encode(key(7), b"payload")
    assert decode(record) == (key(7), b"payload")
    assert read_key(record[:HEADER_BYTES]) == (len(record), key(7))
    for wrong in (b"", record[:-1], record + b"x", record[:-1] + b"D", record[:HEADER_BYTES]):
        assert decode(wrong) is None
    assert read_key(record[: HEADER_BYTES - 1]) is None


def test_a_large_payload_is_checked_in_parts() -> None:
    data = bytearray(MAGIC + encode(key(0), b"a" * (5 << 20)) + encode(key(1), b"b"))
    sizes = []

    def read(offset: int, size: int) -> bytes:
        sizes.append(size)
        return bytes(data[offset : offset + size])

    assert [record.key for record in scan(read, len(data))] == [key(0), key(1)]
    assert max(sizes) <= 1 << 20
    data[3 << 20] ^= 1
    assert [record.key for record in scan(read, len(data))] == [None, key(1)]


KEYS = st.builds(
    Key,
    st.binary(min_size=8, max_size=8),
    st.integers(0, (1 << 64) - 1),
    st.binary(min_size=16, max_size=16),
    st.binary(min_size=16, max_size=16),
)


@given(st.lists(st.tuples(KEYS, st.binary(max_size=200)), max_size=8), st.integers(0, 2000))
def test_round_trip_and_any_cut(records: list[tuple[Key, bytes]], cut: int) -> None:
    data = MAGIC + b"".join(encode(*record) for record in records)
    assert found(data) == records
    assert found(data[: len(MAGIC) + cut]) == records[: len(found(data[: len(MAGIC) + cut]))]


@given(st.binary(max_size=600))
def test_any_bytes_can_be_scanned(data: bytes) -> None:
    assert all(at is None or isinstance(at, Key) for at, _ in found(MAGIC + data))
