"""The words on the wire: message kinds, and msgpack written and read by C on a growing buffer. Pure.

A message is one frame that holds one or more records. A record is a msgpack array whose first item is
its kind; `docs/wire.md` is generated from the table in `wire.pyx`.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    PROTOCOL_VERSION = 5
    RECORD_FIELDS_MAX = 12

# Kinds of records. The order is the number on the wire: never change it, only append.
cdef enum kind_t:
    K_HELLO = 1
    K_WELCOME = 2
    K_TASK = 3
    K_RESULT = 4
    K_REQUEST = 5
    K_SURPLUS = 6
    K_WANT = 7
    K_CANCEL = 8
    K_ANSWER = 9
    K_NEED = 10
    K_FORM = 11
    K_LOST = 12
    K_CONST = 13
    K_STOP = 14
    K_ASK = 15
    K_REFUSE = 16
    K_HINT = 17
    K_HOLD = 18
    K_LEAVE = 19
    K_GUEST = 20
    K_GONE = 21
    K_LOAD = 22
    K_CLAIM = 23
    K_GRANT = 24
    K_RESET = 25
    K_END = 26

# Who says HELLO.
cdef enum:
    ROLE_WORKER = 1
    ROLE_ORIGIN = 2
    ROLE_BROKER = 3
    ROLE_AGENT = 4      # lets others in, and tells of those that are dead
    ROLE_SUCCESSOR = 5  # a broker in the place of one that has died

# Bits of a task's flags.
cdef enum:
    T_SCALARS = 1       # the payload is a msgpack array of immutable scalars, not a pickle
    T_CHUNK = 2         # a piece of a map: the payload holds many items
    T_ONCE = 4          # whoever is to run it asks its owner first, who grants that once
    T_RETRIED = 16      # it crashed a worker once: runs alone
    T_NO_COPY = 64      # the caller gave up the copy of arguments and result

# What a result says.
cdef enum outcome_t:
    O_VALUE = 0         # payload: pickle
    O_SCALAR = 1        # payload: msgpack of one immutable scalar
    O_ERROR = 2         # payload: pickled exception
    O_MISSING = 3       # payload: msgpack [module, name] the worker could not import
    O_LOST = 6          # made here, never sent: the worker died; payload: why

# What a holder answers to CANCEL.
cdef enum verdict_t:
    V_NOT_STARTED = 0
    V_STARTED = 1
    V_UNKNOWN = 2
    V_HELD = 3          # it is there, and has not started

cdef enum:
    CANCEL_DROP = 0
    CANCEL_RECALL = 1
    CANCEL_ORPHAN = 2   # its owner is dead
    CANCEL_LOOK = 3     # it is only asked whether the task is still there

cdef struct buf_t:
    char *data
    size_t size
    size_t cap

cdef struct span_t:
    const char *data
    size_t size

# One decoded record: integers in `num`, byte strings in `span`, by field position.
cdef struct record_t:
    int kind
    int fields
    uint64_t num[RECORD_FIELDS_MAX]
    span_t span[RECORD_FIELDS_MAX]
    const char *start
    size_t size

cdef struct reader_t:
    const char *data
    size_t size
    size_t pos

cdef int buf_reserve(buf_t *b, size_t more) noexcept nogil
cdef void buf_free(buf_t *b) noexcept nogil
cdef int put_raw(buf_t *b, const char *data, size_t size) noexcept nogil
cdef int put_uint(buf_t *b, uint64_t value) noexcept nogil
cdef int put_int(buf_t *b, int64_t value) noexcept nogil
cdef int put_array(buf_t *b, uint32_t count) noexcept nogil
cdef int put_bin(buf_t *b, const char *data, size_t size) noexcept nogil

# Writers of whole records; each returns 0, or -1 when memory is short.
cdef int put_record(buf_t *b, int kind, int count, const uint64_t *numbers) noexcept nogil
cdef int put_task(buf_t *b, uint64_t owner, uint64_t id, uint32_t attempt, uint32_t hops, uint32_t flags,
                  uint32_t fn, uint64_t est_us, const char *lineage, span_t form,
                  span_t payload) noexcept nogil
cdef int put_result(buf_t *b, uint64_t owner, uint64_t id, uint32_t attempt, int outcome, uint64_t run_ns,
                    span_t payload) noexcept nogil
cdef int put_blob(buf_t *b, int kind, int count, const uint64_t *numbers, span_t blob) noexcept nogil

# Next record of a frame: 1 read, 0 at the end, -1 malformed.
cdef int next_record(reader_t *r, record_t *out) noexcept nogil

# Field positions of a task and a result (0 is the kind).
cdef enum:
    F_OWNER = 1
    F_ID = 2
    F_ATTEMPT = 3
    F_TASK_HOPS = 4
    F_TASK_FLAGS = 5
    F_TASK_FN = 6
    F_TASK_EST = 7
    F_TASK_LINEAGE = 8
    F_TASK_FORM = 9
    F_TASK_PAYLOAD = 10
    F_RESULT_OUTCOME = 4
    F_RESULT_RUN_NS = 5
    F_RESULT_PAYLOAD = 6
