"""A process's own queue of calls: run here, export, or ask for more. Pure.

Two queues. Calls submitted here are run newest first (depth first, so that memory stays bounded) and given
away oldest first (the largest subtrees). Tasks of other owners are run in order and given away from their end.
The caller holds the lock of the process; no method takes one.
"""

from libc.stdint cimport int64_t, uint64_t

from scoop._core.call cimport call_t

cdef struct ring_t:
    call_t **items
    size_t mask
    size_t head
    size_t count

cdef int ring_push(ring_t *r, call_t *call) noexcept nogil
cdef call_t *ring_pop(ring_t *r) noexcept nogil      # NULL when empty

cdef class LocalQueue:
    cdef ring_t own
    cdef ring_t foreign
    cdef ring_t parked              # foreign ones whose function has been asked for
    cdef ring_t stale               # entries whose call left by another way; the holder of the GIL frees them
    cdef readonly size_t own_count      # calls that are really queued
    cdef readonly size_t own_bytes      # and their encoded arguments
    cdef readonly size_t foreign_count
    cdef readonly uint64_t foreign_us   # their estimated work
    cdef int64_t room_us                # how much foreign work we asked for and did not get yet
    cdef bint asked_idle                # and whether we said that we have nothing to do
    cdef bint patient                   # one has just been parked: what it waits for is expected soon
    cdef public int hops_max            # a task that has moved so often stays here

    cdef int put_own(self, call_t *call) noexcept nogil
    cdef int put_foreign(self, call_t *call) noexcept nogil
    # Takes one queued call out of wherever it stands: 1 the reference is the caller's, 2 it stays in `stale`.
    cdef int take(self, call_t *call) noexcept nogil
    cdef void _trim(self) noexcept nogil
    cdef call_t *newest_own(self) noexcept nogil
    cdef call_t *oldest(self) noexcept nogil             # of our own; it stays in the queue
    cdef call_t *oldest_own(self) noexcept nogil
    cdef call_t *next_foreign(self) noexcept nogil
    # The next call to give away, NULL if none: foreign ones from the end, then the oldest own.
    cdef call_t *give(self, bint own_only) noexcept nogil
    # Takes it out, unless it is of a later attempt.
    cdef call_t *find_foreign(self, uint64_t owner, uint64_t id, uint64_t attempt) noexcept nogil
    # One that has been claimed is decided on: takes it out, NULL if it is not there any more.
    cdef call_t *find_parked(self, uint64_t owner, uint64_t id, uint64_t attempt) noexcept nogil
    cdef call_t *pop_stale(self) noexcept nogil
    cdef int park(self, call_t *call) noexcept nogil
    # The function has arrived: its calls wait for their turn again.
    cdef void unpark(self, uint64_t owner, uint64_t fn) noexcept nogil
    cdef void unpark_all(self) noexcept nogil
    # It will not: takes one of its calls out, NULL if there is none.
    cdef call_t *pop_parked(self, uint64_t owner, uint64_t fn) noexcept nogil
    # Whether to ask the broker for work now, and for how much (0: no).
    cdef uint64_t hunger(self, bint idle) noexcept nogil
    cdef void granted(self, uint64_t est_us) noexcept nogil
    # What was asked for will not come.
    cdef void forget_request(self) noexcept nogil
