"""What arrives at one process: records from the broker become events for the store."""

from libc.stdint cimport uint8_t, uint64_t

from scoop._core.call cimport call_t
from scoop._core.kept cimport kept_t
from scoop._core.ledger cimport ruling_t
from scoop._core.store cimport (
    Store, pthread_cond_t, pthread_mutex_destroy, pthread_mutex_init, pthread_mutex_lock, pthread_mutex_t,
    pthread_mutex_trylock, pthread_mutex_unlock, parcel_t)
from scoop._core.wire cimport record_t, span_t

cdef class Desk(Store):
    cdef uint64_t claimed_ns        # when the owner of a T_ONCE call was asked, which has not begun yet; 0: none
    cdef uint64_t claim_owner       # and which call that is
    cdef uint64_t claim_id
    cdef kept_t kept                # results that this process has posted lately
    cdef void post(self, call_t *call, int outcome, uint64_t run_ns, span_t payload) noexcept nogil
    cdef void _requeue(self, call_t *call) noexcept nogil
    cdef void _on_probe(self, uint64_t now) noexcept nogil
    cdef void _ask_again(self) noexcept nogil
    cdef void _say_held(self, call_t *call) noexcept nogil
    cdef int handle(self, const char *data, size_t size, uint64_t now) noexcept nogil
    cdef void _arrive(self, call_t *call, span_t payload, uint8_t outcome) noexcept nogil
    cdef void complete(self, call_t *call) noexcept nogil
    cdef void _notice(self, call_t *call) noexcept nogil
    cdef void _on_record(self, record_t *r) noexcept nogil
    cdef void _on_task(self, record_t *r) noexcept nogil
    cdef void _on_result(self, record_t *r) noexcept nogil
    cdef void _on_cancel(self, record_t *r) noexcept nogil
    cdef void _on_answer(self, record_t *r) noexcept nogil
    cdef void _on_lost(self, record_t *r) noexcept nogil
    cdef void _lost(self, call_t *call, ruling_t ruling, span_t detail) noexcept nogil
    # Whether the call has to wait until its owner has granted that it runs here; not locked.
    cdef bint claim(self, call_t *call, uint64_t now) noexcept nogil
    cdef void _claim_next(self) noexcept nogil
    cdef void _on_claim(self, record_t *r) noexcept nogil
    cdef void _on_grant(self, record_t *r) noexcept nogil
    cdef void _drop_parked(self, uint64_t owner, uint64_t fn) noexcept nogil
    cdef void _on_need(self, record_t *r) noexcept nogil
    cdef void _keep_parcel(self, int kind, uint64_t owner, uint64_t number, span_t name,
                           span_t data) noexcept nogil
