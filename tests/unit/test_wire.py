"""The codec of messages: against another msgpack library, and strict about every byte."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoop._core import wire

UINTS = st.one_of(
    st.integers(0, 2**64 - 1),
    st.sampled_from([0, 127, 128, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1]),
)
BLOBS = st.one_of(
    st.binary(max_size=300), st.sampled_from([b"", bytes(255), bytes(256), bytes(65535), bytes(65536)])
)
TASK = next(kind for kind, row in wire.TABLE.items() if row[0] == "TASK")
STOP = next(kind for kind, row in wire.TABLE.items() if row[0] == "STOP")


def fields_of(kind, uints=UINTS, blobs=BLOBS):
    """A strategy of the fields that the table wants."""
    return st.tuples(
        *(
            uints if type_ == "u" else st.binary(min_size=16, max_size=16) if name == "lineage" else blobs
            for name, type_ in wire.TABLE[kind][2]
        )
    )


RECORDS = st.sampled_from(sorted(wire.TABLE)).flatmap(lambda kind: fields_of(kind).map(lambda f: (kind, *f)))


def example(kind):
    return tuple(7 if type_ == "u" else b"sixteen bytes..." for _, type_ in wire.TABLE[kind][2])


@pytest.mark.parametrize("kind", sorted(wire.TABLE), ids=lambda kind: wire.TABLE[kind][0])
def test_every_row_of_the_table(kind):
    fields = example(kind)
    frame = wire.encode(kind, *fields)
    assert wire.decode(frame) == [(kind, *fields)]
    assert msgpack.unpackb(frame, strict_map_key=False) == [kind, *fields]


@pytest.mark.parametrize("kind", sorted(wire.TABLE), ids=lambda kind: wire.TABLE[kind][0])
def test_every_prefix_of_a_record_is_malformed(kind):
    frame = wire.encode(kind, *example(kind))
    for size in range(1, len(frame)):
        with pytest.raises(ValueError, match="malformed"):
            wire.decode(frame[:size])


@given(RECORDS)
def test_what_is_written_is_what_msgpack_writes(record):
    # Shortest forms for all numbers, and byte strings as "bin": a capture can be compared byte by byte.
    assert wire.encode(*record) == msgpack.packb(list(record), use_bin_type=True)


@given(st.lists(RECORDS, max_size=8))
def test_many_records_in_one_frame(records):
    frame = b"".join(wire.encode(*record) for record in records)
    assert wire.decode(frame) == records


@given(st.lists(RECORDS, max_size=8))
def test_extents_cover_the_frame(machines, records):
    # The broker passes a record on by copying these bytes.
    parts = [wire.encode(*record) for record in records]
    frame = b"".join(parts)
    assert [frame[start : start + size] for start, size in machines.extents(frame)] == parts


@given(st.binary(max_size=2000))
@settings(max_examples=500)
def test_any_bytes_give_records_or_a_value_error(data):
    try:
        records = wire.decode(data)
    except ValueError:
        return
    # Whatever is accepted is in the table, and is what msgpack reads too.
    unpacker = msgpack.Unpacker(raw=True, strict_map_key=False)
    unpacker.feed(data)
    for record in records:
        assert list(record) == unpacker.unpack()
        assert len(record) == len(wire.TABLE[record[0]][2]) + 1


@given(RECORDS, st.data())
@settings(max_examples=300)
def test_a_changed_byte_gives_records_or_a_value_error(record, data):
    frame = bytearray(wire.encode(*record))
    position = data.draw(st.integers(0, len(frame) - 1))
    frame[position] = data.draw(st.integers(0, 255))
    try:
        wire.decode(bytes(frame))
    except ValueError:
        pass


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x00", id="not an array"),
        pytest.param(b"\x90", id="empty array"),
        pytest.param(b"\x91\x00", id="kind 0"),
        pytest.param(b"\x91" + bytes([max(wire.TABLE) + 1]), id="kind after the last"),
        pytest.param(b"\x91\xcc\xff", id="kind 255"),
        pytest.param(b"\x91\xcf" + b"\xff" * 8, id="kind of 64 bits"),
        pytest.param(b"\x92" + bytes([STOP]) + b"\xff", id="negative number"),
        pytest.param(b"\x92" + bytes([STOP]) + b"\xcb" + bytes(8), id="float"),
        pytest.param(b"\x92" + bytes([STOP]) + b"\xc4\x01a", id="bytes for a number"),
        pytest.param(b"\x93" + bytes([STOP]) + b"\x01\x01", id="a field too many"),
        pytest.param(b"\x91" + bytes([STOP]), id="a field too few"),
        pytest.param(b"\xdc\x00\x02" + bytes([STOP]) + b"\x01", id="long array"),
        pytest.param(b"\xc1", id="never used tag"),
    ],
)
def test_malformed(data):
    with pytest.raises(ValueError, match="malformed"):
        wire.decode(data)


def test_a_length_beyond_the_frame():
    good = wire.encode(TASK, *example(TASK))
    for length in (b"\xff", b"\x80"):
        at = good.rindex(b"\xc4\x10sixteen")
        with pytest.raises(ValueError, match="malformed"):
            wire.decode(good[: at + 1] + length + good[at + 2 :])
    with pytest.raises(ValueError, match="malformed"):
        wire.decode(good[:at] + b"\xc6\xff\xff\xff\xff" + good[at + 2 :])


@pytest.mark.parametrize("size", [0, 15, 17])
def test_the_lineage_of_a_task_has_16_bytes(size):
    fields = [
        bytes(size) if name == "lineage" else value
        for (name, _), value in zip(wire.TABLE[TASK][2], example(TASK), strict=True)
    ]
    frame = msgpack.packb([TASK, *fields], use_bin_type=True)
    with pytest.raises(ValueError, match="malformed"):
        wire.decode(frame)


@pytest.mark.parametrize(
    "arguments",
    [(0,), (max(wire.TABLE) + 1, 1), (STOP,), (STOP, 1, 2)],
    ids=["kind 0", "kind after the last", "too few", "too many"],
)
def test_encode_refuses_what_is_not_in_the_table(arguments):
    with pytest.raises(ValueError, match="kind"):
        wire.encode(*arguments)


def test_encode_refuses_values_that_do_not_fit():
    lineage = [name for name, _ in wire.TABLE[TASK][2]].index("lineage")
    for arguments in [
        (STOP, -1),
        (STOP, 2**64),
        (STOP, "a"),
        (STOP, 1.5),
        (STOP, True),
        (TASK, *example(TASK)[:-1], 5),
        (TASK, *example(TASK)[:lineage], b"short", *example(TASK)[lineage + 1 :]),
    ]:
        with pytest.raises(ValueError, match="field"):
            wire.encode(*arguments)


# ------------------------------------------------------------------------------- the writers of the drivers


@given(st.lists(UINTS, min_size=1, max_size=12))
def test_write_uint(machines, values):
    writer = machines.Writer()
    for value in values:
        writer.uint(value)
    assert writer.value() == b"".join(msgpack.packb(value) for value in values)


@given(st.integers(-(2**63), 2**63 - 1))
def test_write_int(machines, value):
    writer = machines.Writer()
    writer.int(value)
    assert writer.value() == msgpack.packb(value)


@pytest.mark.parametrize("edge", [5, 7, 8, 15, 16, 31, 32, 63])
def test_write_int_at_the_edges(machines, edge):
    for value in (-(2**edge) - 1, -(2**edge), -(2**edge) + 1, 2**edge - 1):
        if value >= -(2**63):
            writer = machines.Writer()
            writer.int(value)
            assert writer.value() == msgpack.packb(value)


@pytest.mark.parametrize("count", [0, 1, 15, 16, 65535, 65536, 2**32 - 1])
def test_write_array_heads(machines, count):
    writer = machines.Writer()
    writer.array(count)
    assert writer.value() == msgpack.Packer().pack_array_header(count)


@given(BLOBS)
def test_write_bin(machines, data):
    writer = machines.Writer()
    writer.bin(data)
    assert writer.value() == msgpack.packb(data)


UINT32 = st.integers(0, 2**32 - 1)


LINEAGES = st.binary(min_size=16, max_size=16)


@given(st.tuples(UINTS, UINTS, UINT32, UINT32, UINT32, UINT32, UINTS, LINEAGES, BLOBS, BLOBS))
def test_put_task_is_the_row_of_the_table(machines, fields):
    writer = machines.Writer()
    writer.task(*fields)
    assert writer.value() == wire.encode(TASK, *fields)


@given(st.tuples(UINTS, UINTS, UINT32, st.integers(0, 6), UINTS, BLOBS))
def test_put_result_is_the_row_of_the_table(machines, fields):
    writer = machines.Writer()
    writer.result(*fields)
    kind = next(kind for kind, row in wire.TABLE.items() if row[0] == "RESULT")
    assert writer.value() == wire.encode(kind, *fields)


def types_of(kind):
    return "".join(type_ for _, type_ in wire.TABLE[kind][2])


@pytest.mark.parametrize("kind", [kind for kind in sorted(wire.TABLE) if "b" not in types_of(kind)])
def test_put_record(machines, kind):
    writer = machines.Writer()
    writer.record(kind, *example(kind))
    assert writer.value() == wire.encode(kind, *example(kind))


@pytest.mark.parametrize(
    "kind", [kind for kind in sorted(wire.TABLE) if types_of(kind).find("b") == len(types_of(kind)) - 1]
)
def test_put_blob(machines, kind):
    writer = machines.Writer()
    writer.blob(kind, *example(kind))
    assert writer.value() == wire.encode(kind, *example(kind))
