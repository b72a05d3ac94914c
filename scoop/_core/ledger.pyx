"""The owner's view of the calls it has given away.

Every exported call is here until its result is in. The ledger alone decides what an event means for a call:
the first result wins, whatever its attempt; a loss counts only for the attempt that was lost; a call whose
worker died while running it is issued again until the crash limit.
"""

from scoop._core.call cimport M_CRASHED, S_EXPORTED
from scoop._core.table cimport table_free, table_get, table_pop, table_put
from scoop._core.wire cimport CANCEL_DROP, T_RETRIED, V_NOT_STARTED, V_STARTED, V_UNKNOWN

cdef class Ledger:
    """Calls of this owner that are elsewhere.

    Args:
        crash_limit: how many workers may die running a call before it fails.
        loss_limit: how often a call may be lost without blame (queued or suspended there).
    """

    def __cinit__(self, int crash_limit=3, int loss_limit=10):
        self.crash_limit = crash_limit
        self.loss_limit = loss_limit
        self.unknown_for_s = UNKNOWN_FOR_S

    def __dealloc__(self):
        table_free(&self.open)

    def __len__(self):
        return self.open.count

    cdef int export(self, call_t *call) noexcept nogil:
        self.fresh = self.fresh or self.open.count == 0
        if table_put(&self.open, call.id, call) < 0:
            return -1
        call.state = S_EXPORTED
        call.unknown_s = 0
        return 0

    cdef call_t *find(self, uint64_t id) noexcept nogil:
        return <call_t *>table_get(&self.open, id)

    cdef ruling_t on_result(self, uint64_t id, call_t **found) noexcept nogil:
        found[0] = <call_t *>table_pop(&self.open, id)
        if found[0] == NULL:
            self.duplicates += 1
            return R_IGNORE
        return R_COMPLETE

    cdef ruling_t on_returned(self, uint64_t id, call_t **found) noexcept nogil:
        found[0] = <call_t *>table_pop(&self.open, id)
        return R_IGNORE if found[0] == NULL else R_REQUEUE

    cdef ruling_t on_lost(self, uint64_t id, uint64_t attempt, bint blamed, call_t **found) noexcept nogil:
        cdef call_t *call = <call_t *>table_get(&self.open, id)
        found[0] = call
        if call == NULL or attempt != call.attempt:
            return R_IGNORE
        if call.claimer:
            return self._fail(call)         # it may have run, or half of it: never again
        call.attempt += 1
        if blamed:
            call.crashes += 1
            call.marks |= M_CRASHED
            call.flags |= T_RETRIED
        if call.crashes >= self.crash_limit or call.attempt > self.crash_limit + self.loss_limit:
            return self._fail(call)
        self.reissued += 1
        return R_REISSUE

    cdef ruling_t on_answer(self, uint64_t id, uint64_t attempt, int verdict, int mode, uint32_t now_s,
                            call_t **found) noexcept nogil:
        cdef call_t *call = <call_t *>table_get(&self.open, id)
        found[0] = call
        if call == NULL or attempt != call.attempt:
            return R_IGNORE
        if verdict == V_UNKNOWN:
            return self._unknown(call, now_s)
        call.unknown_s = 0
        if verdict == V_STARTED:
            return R_STARTED
        if verdict != V_NOT_STARTED:
            return R_IGNORE
        table_pop(&self.open, id)
        call.claimer = 0
        # Dropped because we were taken for dead it is as if it had been asked back.
        return R_CANCELLED if mode == CANCEL_DROP else R_REQUEUE

    cdef ruling_t _unknown(self, call_t *call, uint32_t now_s) noexcept nogil:
        # On its way for a moment; or what it, or its result, was in is gone, and nobody has seen it end.
        if call.unknown_s == 0 or now_s >= call.unknown_s + UNKNOWN_OLD_S:
            call.unknown_s = now_s
            return R_IGNORE
        if now_s < call.unknown_s + self.unknown_for_s:
            return R_IGNORE
        call.unknown_s = 0
        call.attempt += 1
        if call.claimer or call.attempt > self.crash_limit + self.loss_limit:
            return self._fail(call)
        self.reissued += 1
        return R_REISSUE

    cdef ruling_t _fail(self, call_t *call) noexcept nogil:
        table_pop(&self.open, call.id)
        return R_FAIL

    cdef bint on_claim(self, uint64_t id, uint64_t attempt, uint64_t asker) noexcept nogil:
        cdef call_t *call = <call_t *>table_get(&self.open, id)
        if call == NULL or attempt != call.attempt or (call.claimer != 0 and call.claimer != asker):
            return False
        call.claimer = asker
        return True

    cdef call_t *pop_any(self) noexcept nogil:
        cdef size_t i
        if self.open.count == 0:
            return NULL
        for i in range(self.open.mask + 1):
            if self.open.cells[i].key != 0:
                return <call_t *>table_pop(&self.open, self.open.cells[i].key)
        return NULL

    def validate(self):
        """Check the invariants; raises AssertionError when one is broken."""
        cdef size_t i
        cdef call_t *call
        if self.open.mask == 0:
            return
        for i in range(self.open.mask + 1):
            if self.open.cells[i].key != 0:
                call = <call_t *>self.open.cells[i].value
                assert call.id == self.open.cells[i].key, "a call stands under another id"
                assert call.state == S_EXPORTED, f"call {call.id} is in the ledger in state {call.state}"
                assert call.crashes < self.crash_limit, f"call {call.id} is past its crash limit"

    def statistics(self):
        """Return counters: open, duplicates, reissued."""
        return {"open": self.open.count, "duplicates": self.duplicates, "reissued": self.reissued}
