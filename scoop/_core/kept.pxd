"""The last results that were sent: a broker may have died with them, or a connection may have been reset.

Nothing is acknowledged: a result that has arrived is sent once more, and its owner drops it. What is
kept has two generations, each bounded in time and in bytes; an older result was in nobody's buffers any more, or is
computed again.
"""

from libc.stdint cimport uint64_t

from scoop._core.wire cimport buf_free, buf_t, put_raw

cdef enum:
    KEPT_NS = 2000000000
    KEPT_BYTES = 1048576    # of a generation; a larger result is not kept

cdef struct kept_t:
    buf_t young
    buf_t old
    uint64_t since_ns       # the young ones came after this

cdef inline void keep(kept_t *kept, const char *record, size_t size, uint64_t now) noexcept nogil:
    cdef buf_t old
    if size > KEPT_BYTES:
        return
    if kept.young.size + size > KEPT_BYTES or now - kept.since_ns > KEPT_NS:
        old = kept.old
        kept.old = kept.young
        kept.young = old
        kept.young.size = 0
        kept.since_ns = now
    put_raw(&kept.young, record, size)

cdef inline void put_kept(buf_t *out, const kept_t *kept) noexcept nogil:
    put_raw(out, kept.old.data, kept.old.size)
    put_raw(out, kept.young.data, kept.young.size)

cdef inline void kept_free(kept_t *kept) noexcept nogil:
    buf_free(&kept.old)
    buf_free(&kept.young)
