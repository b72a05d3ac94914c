"""A broker's load-balancing queue: tasks against credits. Pure."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from scoop._core.outbox cimport Outbox
from scoop._core.table cimport table_t

cdef enum:
    NODES_MAX = 4096

# A task that this broker has seen and whose result it has not: queued here or given to a node.
cdef struct btask_t:
    uint64_t owner
    uint64_t id
    uint32_t est_us
    uint16_t attempt
    uint8_t flags
    uint8_t cancelled
    int32_t owner_slot
    int32_t node            # -1: in the queue
    int32_t giver           # the node that sent it here
    void *slot              # the driver's record while queued, then NULL
    btask_t *next

cdef struct bnode_t:
    uint64_t incarnation
    int64_t room_us         # credit: how much work it can take now
    int64_t want_us         # what we asked it to give away and did not get yet
    int32_t want_idle       # and for how many idle nodes
    uint32_t surplus        # tasks it says it could give away
    uint32_t given          # tasks it holds for others
    uint8_t alive
    uint8_t source          # it may submit at any time (the origin)
    uint8_t idle            # it asked because it has nothing at all to do
    uint8_t probation       # it runs a task that crashed a worker before, alone

cdef class Balance:
    cdef Outbox out
    cdef bnode_t *nodes
    cdef readonly int node_count            # slots in use, dead ones included
    cdef table_t by_incarnation             # incarnation -> slot + 1
    cdef table_t tasks                      # (owner slot, id) -> btask_t
    cdef btask_t *head
    cdef btask_t *tail
    cdef readonly size_t queued
    cdef readonly int64_t queued_us
    cdef int cursor
    cdef readonly uint64_t dispatched
    cdef readonly uint64_t dropped

    cdef int slot_of(self, uint64_t incarnation) noexcept nogil
    cdef int on_hello(self, uint64_t incarnation, bint source) noexcept nogil
    cdef void on_request(self, int node, uint64_t room_us, bint idle) noexcept nogil
    cdef void on_surplus(self, int node, uint64_t tasks) noexcept nogil
    # 0: taken (the slot is ours), -1: refused (the slot stays the caller's).
    cdef int on_task(self, int node, uint64_t owner, uint64_t id, uint64_t attempt, uint64_t est_us,
                     uint64_t flags, void *slot) noexcept nogil
    # The node that the result goes to, -1: nobody wants it any more.
    cdef int on_result(self, int node, uint64_t owner, uint64_t id) noexcept nogil
    # The node that the answer goes to; the verdict may be corrected.
    cdef int on_answer(self, int node, uint64_t owner, uint64_t id, int *verdict) noexcept nogil
    cdef void on_cancel(self, int node, uint64_t owner, uint64_t id, uint64_t attempt,
                        int mode) noexcept nogil
    # `blamed_*`: the task that was running when the process died, 0 if none.
    cdef void on_lost(self, int node, uint64_t blamed_owner, uint64_t blamed_id, uint64_t cause) noexcept nogil
    # Matches the queue against the credits, then asks for more where there is too little.
    cdef void match(self) noexcept nogil

    cdef btask_t *_find(self, uint64_t owner, uint64_t id) noexcept nogil
    cdef void _forget(self, btask_t *task) noexcept nogil
    cdef void _enqueue(self, btask_t *task, bint front) noexcept nogil
    cdef int _next_hungry(self, btask_t *task) noexcept nogil
    cdef void _ask(self) noexcept nogil
    cdef void _give(self, btask_t *task, int slot) noexcept nogil
