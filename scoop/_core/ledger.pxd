"""The owner's view of the calls it has given away. Pure."""

from libc.stdint cimport uint32_t, uint64_t

from scoop._core.call cimport call_t
from scoop._core.table cimport table_t

# What the driver does with a call after an event.
cdef enum ruling_t:
    R_IGNORE = 0        # unknown, late or stale: acknowledged and dropped
    R_COMPLETE = 1      # the result is this call's
    R_REISSUE = 2       # send it again, as a new attempt
    R_FAIL = 3          # its workers died too often
    R_REQUEUE = 4       # it came back unstarted: queue it here
    R_CANCELLED = 5
    R_STARTED = 6       # it can no longer be cancelled or called back

cdef enum:
    UNKNOWN_FOR_S = 8       # mostly; soon after the broker has been started again less
    UNKNOWN_OLD_S = 600     # after which it says nothing any more: two moments in which it was on its way

cdef class Ledger:
    cdef table_t open               # id -> call
    cdef readonly int crash_limit
    cdef readonly int loss_limit
    cdef bint fresh                     # there was no open call before the last ones
    cdef public int unknown_for_s       # what nobody knows for so long is issued again
    cdef readonly uint64_t duplicates
    cdef readonly uint64_t reissued

    cdef int export(self, call_t *call) noexcept nogil
    cdef call_t *find(self, uint64_t id) noexcept nogil
    # Each event returns the ruling; `found` is the call, whose reference passes to the caller for
    # COMPLETE, FAIL, REQUEUE and CANCELLED.
    cdef ruling_t on_result(self, uint64_t id, call_t **found) noexcept nogil
    cdef ruling_t on_returned(self, uint64_t id, call_t **found) noexcept nogil
    cdef ruling_t on_lost(self, uint64_t id, uint64_t attempt, bint blamed, call_t **found) noexcept nogil
    cdef ruling_t on_answer(self, uint64_t id, uint64_t attempt, int verdict, int mode, uint32_t now_s,
                            call_t **found) noexcept nogil
    cdef ruling_t _fail(self, call_t *call) noexcept nogil
    cdef ruling_t _unknown(self, call_t *call, uint32_t now_s) noexcept nogil
    # Whether `asker` may run this T_ONCE call: the first one may, and no other one.
    cdef bint on_claim(self, uint64_t id, uint64_t attempt, uint64_t asker) noexcept nogil
    # Removes any call, to close: NULL when empty.
    cdef call_t *pop_any(self) noexcept nogil
