"""A process's own queue; see the prose in localq.pxd.

Entries are not searched for. A call that is taken from the middle only changes its state; its entry becomes
stale and is skipped when its turn comes, so every operation is amortised O(1).
"""

from libc.stdlib cimport free, malloc

from scoop._core.call cimport M_CLAIMED, S_QUEUED, S_RUNNING

# A worker asks for this much work when less than half of it waits: enough to cover a round trip, and no
# more, since what waits here cannot run elsewhere without being asked back (design, section 6).
cdef enum:
    ROOM_US = 1000
    HOPS_MAX = 16           # as in balance.pyx


cdef int ring_push(ring_t *r, call_t *call) noexcept nogil:
    cdef call_t **items
    cdef size_t cap, i
    if r.mask == 0 or r.count == r.mask + 1:
        cap = (r.mask + 1) * 2 if r.mask else 64
        items = <call_t **>malloc(cap * sizeof(call_t *))
        if items == NULL:
            return -1
        for i in range(r.count):
            items[i] = r.items[(r.head + i) & r.mask]
        free(r.items)
        r.items = items
        r.mask = cap - 1
        r.head = 0
    r.items[(r.head + r.count) & r.mask] = call
    r.count += 1
    return 0


cdef inline call_t *_ring_front(ring_t *r) noexcept nogil:
    return r.items[r.head & r.mask]


cdef inline call_t *_ring_back(ring_t *r) noexcept nogil:
    return r.items[(r.head + r.count - 1) & r.mask]


cdef inline call_t *_ring_pop_front(ring_t *r) noexcept nogil:
    cdef call_t *call = r.items[r.head]
    r.head = (r.head + 1) & r.mask
    r.count -= 1
    return call


cdef inline call_t *_ring_pop_back(ring_t *r) noexcept nogil:
    r.count -= 1
    return r.items[(r.head + r.count) & r.mask]


cdef call_t *_ring_remove(ring_t *r, uint64_t owner, uint64_t id, uint64_t attempt) noexcept nogil:
    cdef size_t i
    cdef call_t *call
    for i in range(r.count):
        call = r.items[(r.head + i) & r.mask]
        if call.id == id and call.owner == owner and call.attempt <= attempt:
            return _ring_take(r, i)
    return NULL


cdef call_t *_ring_take(ring_t *r, size_t i) noexcept nogil:
    # The one that `i` others stand before; those behind it move up.
    cdef call_t *call = r.items[(r.head + i) & r.mask]
    for i in range(i, r.count - 1):
        r.items[(r.head + i) & r.mask] = r.items[(r.head + i + 1) & r.mask]
    r.count -= 1
    return call


cdef call_t *ring_pop(ring_t *r) noexcept nogil:
    return NULL if r.count == 0 else _ring_pop_front(r)


cdef class LocalQueue:
    """The queue of one process. Its events are called by the driver under the lock of the process."""

    def __cinit__(self):
        self.hops_max = HOPS_MAX
        self.own.items = NULL
        self.foreign.items = NULL
        self.parked.items = NULL
        self.stale.items = NULL

    def __dealloc__(self):
        # Whoever closes the node has emptied the rings; only the arrays are ours.
        free(self.own.items)
        free(self.foreign.items)
        free(self.parked.items)
        free(self.stale.items)

    cdef int put_own(self, call_t *call) noexcept nogil:
        if ring_push(&self.own, call) < 0:
            return -1
        call.state = S_QUEUED
        self.own_count += 1
        self.own_bytes += call.size
        return 0

    cdef int put_foreign(self, call_t *call) noexcept nogil:
        if ring_push(&self.foreign, call) < 0:
            return -1
        call.state = S_QUEUED
        self.foreign_count += 1
        self.foreign_us += call.est_us
        return 0

    cdef int take(self, call_t *call) noexcept nogil:
        cdef int how = 2                # its entry keeps the reference until it is trimmed
        call.state = S_RUNNING
        self.own_count -= 1
        self.own_bytes -= call.size
        if self.own.count and _ring_back(&self.own) == call:
            _ring_pop_back(&self.own)
            how = 1
        elif self.own.count and _ring_front(&self.own) == call:
            _ring_pop_front(&self.own)
            how = 1
        self._trim()
        return how

    cdef void _trim(self) noexcept nogil:
        # No stale entry stays at an end, so none stays when nothing is queued.
        while self.own.count and _ring_front(&self.own).state != S_QUEUED:
            ring_push(&self.stale, _ring_pop_front(&self.own))
        while self.own.count and _ring_back(&self.own).state != S_QUEUED:
            ring_push(&self.stale, _ring_pop_back(&self.own))

    cdef call_t *newest_own(self) noexcept nogil:
        cdef call_t *call
        while self.own.count:
            call = _ring_pop_back(&self.own)
            if call.state == S_QUEUED:
                self.own_count -= 1
                self.own_bytes -= call.size
                self._trim()
                return call
            ring_push(&self.stale, call)
        return NULL

    cdef call_t *oldest(self) noexcept nogil:
        return _ring_front(&self.own) if self.own_count else NULL

    cdef call_t *oldest_own(self) noexcept nogil:
        cdef call_t *call
        while self.own.count:
            call = _ring_pop_front(&self.own)
            if call.state == S_QUEUED:
                self.own_count -= 1
                self.own_bytes -= call.size
                self._trim()
                return call
            ring_push(&self.stale, call)
        return NULL

    cdef call_t *next_foreign(self) noexcept nogil:
        cdef call_t *call
        if self.foreign.count == 0:
            return NULL
        call = _ring_pop_front(&self.foreign)
        self.foreign_count -= 1
        self.foreign_us -= call.est_us
        return call

    cdef call_t *give(self, bint own_only) noexcept nogil:
        cdef call_t *call
        if self.foreign.count and not own_only and _ring_back(&self.foreign).hops < self.hops_max and (
                not _ring_back(&self.foreign).marks & M_CLAIMED):
            call = _ring_pop_back(&self.foreign)
            self.foreign_count -= 1
            self.foreign_us -= call.est_us
            return call
        return self.oldest_own()

    cdef call_t *find_foreign(self, uint64_t owner, uint64_t id, uint64_t attempt) noexcept nogil:
        # Rare (a cancel or a recall); the queue is as short as the credit.
        cdef call_t *call = _ring_remove(&self.foreign, owner, id, attempt)
        if call == NULL:
            return _ring_remove(&self.parked, owner, id, attempt)
        self.foreign_count -= 1
        self.foreign_us -= call.est_us
        return call

    cdef int park(self, call_t *call) noexcept nogil:
        self.patient = True
        return ring_push(&self.parked, call)

    cdef void unpark(self, uint64_t owner, uint64_t fn) noexcept nogil:
        cdef size_t left = self.parked.count
        cdef call_t *call
        while left:
            left -= 1
            call = _ring_pop_front(&self.parked)
            if call.owner == owner and call.fn == fn:
                self.put_foreign(call)
            else:
                ring_push(&self.parked, call)

    cdef void unpark_all(self) noexcept nogil:
        while self.parked.count:
            self.put_foreign(_ring_pop_front(&self.parked))

    cdef call_t *pop_parked(self, uint64_t owner, uint64_t fn) noexcept nogil:
        cdef size_t i
        cdef call_t *call
        for i in range(self.parked.count):
            call = self.parked.items[(self.parked.head + i) & self.parked.mask]
            if call.owner == owner and call.fn == fn:
                return _ring_take(&self.parked, i)
        return NULL

    cdef call_t *find_parked(self, uint64_t owner, uint64_t id, uint64_t attempt) noexcept nogil:
        cdef size_t i
        cdef call_t *call
        for i in range(self.parked.count):
            call = self.parked.items[(self.parked.head + i) & self.parked.mask]
            if call.owner == owner and call.id == id and call.attempt == attempt:
                return _ring_take(&self.parked, i)
        return NULL

    cdef call_t *pop_stale(self) noexcept nogil:
        return ring_pop(&self.stale)

    cdef uint64_t hunger(self, bint idle) noexcept nogil:
        # Room is asked for once; what was asked and has not come yet counts as if it were here.
        # A busy worker is about to run the first that waits, so only what stays behind it counts. One with nothing
        # else to do whose task waits for a word of its owner, mostly the function, will have work with that: asking on,
        # it would park task after task.
        cdef int64_t have = <int64_t>self.foreign_us + self.room_us
        if idle and self.patient and self.parked.count:
            return 0
        if not idle and self.foreign.count:
            have -= _ring_front(&self.foreign).est_us
        if self.own_count or (not idle and have * 2 > <int64_t>ROOM_US):
            return 0
        if idle and self.room_us > 0:
            # What was asked for while busy is asked for again once: for an idle node others give up their queue.
            if self.asked_idle or self.foreign_count:
                return 0
            self.asked_idle = True
            return <uint64_t>self.room_us
        self.asked_idle = idle
        self.room_us = <int64_t>ROOM_US - <int64_t>self.foreign_us
        return <uint64_t>self.room_us if self.room_us > 0 else 0

    cdef void granted(self, uint64_t est_us) noexcept nogil:
        self.asked_idle = False
        self.room_us -= <int64_t>est_us
        if self.room_us < 0:
            self.room_us = 0

    cdef void forget_request(self) noexcept nogil:
        self.asked_idle = False
        self.room_us = 0
