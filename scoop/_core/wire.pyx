"""The message table and its codec.

Every record is a valid msgpack array, so that any msgpack library can read a capture; the reader here
accepts only what the table allows. It never trusts a length: each is checked against what is left.
"""

from libc.stdlib cimport free, realloc
from libc.string cimport memcpy

VERSION = PROTOCOL_VERSION
ONCE = T_ONCE

# kind: (name, who sends it to whom, fields after the kind). "u" unsigned integer, "b" byte string.
TABLE = {
    K_HELLO: ("HELLO", "node to broker", (("incarnation", "u"), ("protocol", "u"), ("role", "u"), ("pid", "u"),
                                          ("name", "b"))),
    K_WELCOME: ("WELCOME", "broker to node", (
        ("protocol", "u"), ("slot", "u"), ("namesake", "u"), ("successor", "u"))),
    K_TASK: ("TASK", "both", (("owner", "u"), ("id", "u"), ("attempt", "u"), ("hops", "u"), ("flags", "u"),
                              ("function", "u"), ("estimate_us", "u"), ("lineage", "b"), ("form", "b"),
                              ("payload", "b"))),
    K_RESULT: ("RESULT", "holder to owner", (("owner", "u"), ("id", "u"), ("attempt", "u"), ("outcome", "u"),
                                             ("run_ns", "u"), ("payload", "b"))),
    K_REQUEST: ("REQUEST", "node to broker", (("room_us", "u"), ("idle", "u"))),
    K_SURPLUS: ("SURPLUS", "node to broker", (("tasks", "u"), ("work_us", "u"))),
    K_WANT: ("WANT", "broker to node", (("work_us", "u"), ("idle", "u"))),
    K_CANCEL: ("CANCEL", "owner to holder", (("owner", "u"), ("id", "u"), ("attempt", "u"), ("mode", "u"))),
    K_ANSWER: ("ANSWER", "holder to owner", (("owner", "u"), ("id", "u"), ("attempt", "u"), ("verdict", "u"),
                                             ("mode", "u"))),
    K_NEED: ("NEED", "holder to owner", (("owner", "u"), ("function", "u"), ("asker", "u"))),
    K_FORM: ("FORM", "owner to holder", (("asker", "u"), ("owner", "u"), ("function", "u"), ("form", "b"))),
    K_LOST: ("LOST", "broker to owner", (("owner", "u"), ("id", "u"), ("attempt", "u"), ("cause", "u"),
                                         ("detail", "b"))),
    K_CONST: ("CONST", "node to all", (("sender", "u"), ("name", "b"), ("payload", "b"))),
    K_STOP: ("STOP", "broker to node, origin to broker", (("grace_ms", "u"),)),
    K_ASK: ("ASK", "broker to broker", (("need_us", "u"), ("idle", "u"))),
    K_REFUSE: ("REFUSE", "broker to broker", (("referral", "u"), ("tasks", "u"), ("age_us", "u"))),
    K_HINT: ("HINT", "broker to neighbours", (("broker", "u"), ("sequence", "u"), ("tasks", "u"), ("work_us", "u"))),
    K_HOLD: ("HOLD", "holding broker to owner's broker, node to its broker's successor", (
        ("owner", "u"), ("id", "u"), ("attempt", "u"), ("hops", "u"), ("giver", "u"))),
    K_LEAVE: ("LEAVE", "node to broker", (("done", "u"),)),
    K_GUEST: ("GUEST", "agent to broker", (("node", "u"), ("key", "b"))),
    K_LOAD: ("LOAD", "broker to broker", (("tasks", "u"),)),
    K_CLAIM: ("CLAIM", "holder to owner", (("owner", "u"), ("id", "u"), ("attempt", "u"), ("asker", "u"))),
    K_GRANT: ("GRANT", "owner to holder", (("owner", "u"), ("id", "u"), ("attempt", "u"), ("asker", "u"),
                                           ("granted", "u"))),
    K_GONE: ("GONE", "agent to broker", (("node", "u"), ("owner", "u"), ("id", "u"), ("detail", "b"))),
    K_RESET: ("RESET", "broker to broker", (("step", "u"),)),
}

# The table again as C: number of fields, and a bit for each field that is a byte string.
cdef uint8_t[32] FIELD_COUNT
cdef uint16_t[32] FIELD_BYTES


def _fill_tables():
    for kind in range(32):
        FIELD_COUNT[kind] = 0
        FIELD_BYTES[kind] = 0
    for kind, (_, _, fields) in TABLE.items():
        FIELD_COUNT[kind] = len(fields) + 1
        for position, (_, type_) in enumerate(fields, start=1):
            if type_ == "b":
                FIELD_BYTES[kind] |= 1 << position


_fill_tables()


# ---------------------------------------------------------------------------------------------- writing

cdef int buf_reserve(buf_t *b, size_t more) noexcept nogil:
    cdef size_t need = b.size + more
    cdef size_t cap
    cdef char *data
    if need <= b.cap:
        return 0
    cap = b.cap * 2 if b.cap else 512
    while cap < need:
        cap *= 2
    data = <char *>realloc(b.data, cap)
    if data == NULL:
        return -1
    b.data = data
    b.cap = cap
    return 0


cdef void buf_free(buf_t *b) noexcept nogil:
    free(b.data)
    b.data = NULL
    b.size = 0
    b.cap = 0


cdef int put_raw(buf_t *b, const char *data, size_t size) noexcept nogil:
    if buf_reserve(b, size) < 0:
        return -1
    if size:
        memcpy(b.data + b.size, data, size)
    b.size += size
    return 0


cdef inline void _tag(buf_t *b, uint8_t tag, uint64_t value, int width) noexcept nogil:
    # A tag byte and a big-endian integer; the caller has reserved the room.
    cdef uint8_t *p = <uint8_t *>b.data + b.size
    cdef int i
    p[0] = tag
    for i in range(width):
        p[1 + i] = <uint8_t>(value >> (8 * (width - 1 - i)))
    b.size += 1 + width


cdef int put_uint(buf_t *b, uint64_t value) noexcept nogil:
    if buf_reserve(b, 9) < 0:
        return -1
    if value < 128:
        _tag(b, <uint8_t>value, 0, 0)
    elif value < 0x100:
        _tag(b, 0xcc, value, 1)
    elif value < 0x10000:
        _tag(b, 0xcd, value, 2)
    elif value >> 32 == 0:
        _tag(b, 0xce, value, 4)
    else:
        _tag(b, 0xcf, value, 8)
    return 0


cdef int put_int(buf_t *b, int64_t value) noexcept nogil:
    if value >= 0:
        return put_uint(b, <uint64_t>value)
    if buf_reserve(b, 9) < 0:
        return -1
    if value >= -32:
        _tag(b, <uint8_t>(value + 256), 0, 0)
    elif value >= -0x80:
        _tag(b, 0xd0, <uint64_t>value, 1)
    elif value >= -0x8000:
        _tag(b, 0xd1, <uint64_t>value, 2)
    elif value >= <int64_t>-0x7fffffff - 1:
        _tag(b, 0xd2, <uint64_t>value, 4)
    else:
        _tag(b, 0xd3, <uint64_t>value, 8)
    return 0


cdef int put_array(buf_t *b, uint32_t count) noexcept nogil:
    if buf_reserve(b, 5) < 0:
        return -1
    if count < 16:
        _tag(b, <uint8_t>(0x90 | count), 0, 0)
    elif count < 0x10000:
        _tag(b, 0xdc, count, 2)
    else:
        _tag(b, 0xdd, count, 4)
    return 0


cdef int put_bin(buf_t *b, const char *data, size_t size) noexcept nogil:
    if (size >> 32) != 0 or buf_reserve(b, size + 5) < 0:
        return -1
    if size < 0x100:
        _tag(b, 0xc4, size, 1)
    elif size < 0x10000:
        _tag(b, 0xc5, size, 2)
    else:
        _tag(b, 0xc6, size, 4)
    return put_raw(b, data, size)


cdef int put_record(buf_t *b, int kind, int count, const uint64_t *numbers) noexcept nogil:
    cdef int i
    if buf_reserve(b, 2 + 9 * <size_t>count) < 0:
        return -1
    put_array(b, count + 1)
    put_uint(b, kind)
    for i in range(count):
        put_uint(b, numbers[i])
    return 0


cdef int put_task(buf_t *b, uint64_t owner, uint64_t id, uint32_t attempt, uint32_t hops, uint32_t flags,
                  uint32_t fn, uint64_t est_us, const char *lineage, span_t form,
                  span_t payload) noexcept nogil:
    cdef size_t before = b.size
    if buf_reserve(b, 96 + form.size + payload.size) < 0:
        return -1
    put_array(b, 11)
    put_uint(b, K_TASK)
    put_uint(b, owner)
    put_uint(b, id)
    put_uint(b, attempt)
    put_uint(b, hops)
    put_uint(b, flags)
    put_uint(b, fn)
    put_uint(b, est_us)
    put_bin(b, lineage, 16)
    if put_bin(b, form.data, form.size) < 0 or put_bin(b, payload.data, payload.size) < 0:
        b.size = before
        return -1
    return 0


cdef int put_result(buf_t *b, uint64_t owner, uint64_t id, uint32_t attempt, int outcome, uint64_t run_ns,
                    span_t payload) noexcept nogil:
    cdef size_t before = b.size
    if buf_reserve(b, 48 + payload.size) < 0:
        return -1
    put_array(b, 7)
    put_uint(b, K_RESULT)
    put_uint(b, owner)
    put_uint(b, id)
    put_uint(b, attempt)
    put_uint(b, <uint64_t>outcome)
    put_uint(b, run_ns)
    if put_bin(b, payload.data, payload.size) < 0:
        b.size = before
        return -1
    return 0


cdef int put_blob(buf_t *b, int kind, int count, const uint64_t *numbers, span_t blob) noexcept nogil:
    cdef int i
    if buf_reserve(b, 16 + 9 * <size_t>count + blob.size) < 0:
        return -1
    put_array(b, count + 2)
    put_uint(b, kind)
    for i in range(count):
        put_uint(b, numbers[i])
    return put_bin(b, blob.data, blob.size)


# ---------------------------------------------------------------------------------------------- reading

cdef inline uint64_t _big_endian(const uint8_t *p, int width) noexcept nogil:
    cdef uint64_t value = 0
    cdef int i
    for i in range(width):
        value = (value << 8) | p[i]
    return value


cdef int _read_uint(reader_t *r, uint64_t *out) noexcept nogil:
    cdef const uint8_t *p = <const uint8_t *>r.data + r.pos
    cdef size_t left = r.size - r.pos
    cdef int width
    if left < 1:
        return -1
    if p[0] < 128:
        out[0] = p[0]
        r.pos += 1
        return 0
    if p[0] < 0xcc or p[0] > 0xcf:
        return -1
    width = 1 << (p[0] - 0xcc)
    if left < <size_t>(1 + width):
        return -1
    out[0] = _big_endian(p + 1, width)
    r.pos += 1 + width
    return 0


cdef int _read_bin(reader_t *r, span_t *out) noexcept nogil:
    cdef const uint8_t *p = <const uint8_t *>r.data + r.pos
    cdef size_t left = r.size - r.pos
    cdef int width
    cdef uint64_t size
    if left < 2 or p[0] < 0xc4 or p[0] > 0xc6:
        return -1
    width = 1 << (p[0] - 0xc4)
    if left < <size_t>(1 + width):
        return -1
    size = _big_endian(p + 1, width)
    if size > left - 1 - width:
        return -1
    out.data = r.data + r.pos + 1 + width
    out.size = size
    r.pos += 1 + width + size
    return 0


cdef int next_record(reader_t *r, record_t *out) noexcept nogil:
    cdef uint8_t head
    cdef int i, count
    cdef uint64_t kind
    if r.pos == r.size:
        return 0
    out.start = r.data + r.pos
    head = <uint8_t>r.data[r.pos]
    if (head & 0xf0) != 0x90:
        return -1
    count = head & 0x0f
    r.pos += 1
    if count < 1 or count > RECORD_FIELDS_MAX or _read_uint(r, &kind) < 0:
        return -1
    if kind < 1 or kind >= K_END or FIELD_COUNT[kind] != count:
        return -1
    out.kind = <int>kind
    out.fields = count
    out.num[0] = kind
    for i in range(1, count):
        if FIELD_BYTES[kind] >> i & 1:
            out.num[i] = 0
            if _read_bin(r, &out.span[i]) < 0:
                return -1
        else:
            out.span[i].data = NULL
            out.span[i].size = 0
            if _read_uint(r, &out.num[i]) < 0:
                return -1
    # A task's lineage is always 16 bytes: whoever copies it does not check again.
    if kind == K_TASK and out.span[F_TASK_LINEAGE].size != 16:
        return -1
    out.size = <size_t>(r.data + r.pos - out.start)
    return 1


# ------------------------------------------------------------------------- the same for tests and tools

def encode(kind, *fields):
    """Encode one record of the table to bytes.

    Args:
        kind: the number of the kind.
        fields: the fields after it, in the order of the table: int or bytes.

    Returns:
        The record as msgpack.

    Raises:
        ValueError: unknown kind, or fields that are not those of the table.
    """
    cdef buf_t b
    cdef bytes data
    b.data = NULL
    b.size = 0
    b.cap = 0
    if kind not in TABLE or len(fields) != len(TABLE[kind][2]):
        raise ValueError(f"kind {kind} with {len(fields)} fields is not in the table of messages")
    try:
        put_array(&b, len(fields) + 1)
        put_uint(&b, kind)
        for (name, type_), value in zip(TABLE[kind][2], fields):
            if type_ == "u" and type(value) is int and 0 <= value < 1 << 64:
                put_uint(&b, <uint64_t>value)
            elif type_ == "b" and type(value) is bytes and (name != "lineage" or len(value) == 16):
                put_bin(&b, <bytes>value, len(value))
            else:
                raise ValueError(f"{value!r} does not fit field {name} of {TABLE[kind][0]}")
        data = b.data[:b.size]
        return data
    finally:
        buf_free(&b)


def decode(data):
    """Decode a frame into a list of tuples (kind, field, ...).

    Raises:
        ValueError: the frame is malformed; nothing else is ever raised for bytes.
    """
    cdef bytes frame = bytes(data)
    cdef reader_t r
    cdef record_t record
    cdef int got, i
    r.data = frame
    r.size = len(frame)
    r.pos = 0
    records = []
    while True:
        got = next_record(&r, &record)
        if got == 0:
            return records
        if got < 0:
            raise ValueError(f"malformed record at byte {r.pos} of {len(frame)}")
        fields = [record.kind]
        for i in range(1, record.fields):
            if FIELD_BYTES[record.kind] >> i & 1:
                fields.append(record.span[i].data[:record.span[i].size])
            else:
                fields.append(record.num[i])
        records.append(tuple(fields))
