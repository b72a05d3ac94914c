"""A broker's load-balancing queue: tasks against credits. Pure."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from scoop._core.outbox cimport Outbox
from scoop._core.table cimport table_t

cdef enum:
    NODES_MAX = 65536
    HOME_SHIFT = 44         # an incarnation's bits from here on are the number of its broker

# The number of the broker that a node belongs to: an address names it, so results find their way.
cdef inline uint64_t home_of(uint64_t incarnation) noexcept nogil:
    return incarnation >> HOME_SHIFT

# A task that this broker has seen and whose result it has not: queued here or given to a node.
cdef struct btask_t:
    uint64_t owner
    uint64_t id
    uint32_t est_us
    uint16_t attempt
    uint8_t flags
    uint8_t hops
    uint8_t cancelled       # in the queue: to be dropped; at a node: its owner is dead
    uint8_t doubtful        # given to a broker that, or whose connection, is another one than then
    int32_t owner_slot      # -1: its owner is a node of another broker
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
    int64_t surplus_us      # and their estimated work
    uint32_t given          # tasks it holds for others
    uint8_t alive
    uint8_t source          # it may submit at any time (the origin)
    uint8_t idle            # it asked because it has nothing at all to do
    uint8_t behind          # what it was given last may wait behind something that runs; until it asks again
    uint8_t probation       # it runs a task that crashed a worker before, alone
    uint8_t leaving         # it takes no more tasks
    uint8_t peer            # it is a broker; its credit is what it has asked for and not got
    int32_t idle_count      # of a peer: how many of its nodes have nothing at all to do

cdef class Balance:
    cdef Outbox out
    cdef bnode_t *nodes
    cdef readonly uint64_t home             # our own number, 0 in a broker without peers
    cdef readonly int node_count            # slots in use, dead ones included
    cdef int32_t *here                      # slots of the nodes that are no brokers
    cdef readonly int here_count
    cdef int32_t *asking                    # slots of the peers that have credit
    cdef readonly int asking_count
    cdef table_t by_incarnation             # incarnation -> slot + 1
    cdef table_t tasks                      # (owner slot, id) -> btask_t
    cdef btask_t *head
    cdef btask_t *tail
    cdef readonly size_t queued
    cdef readonly int64_t queued_us
    cdef int cursor
    cdef public bint successor              # a broker with our number has been before: see failover.pyx
    cdef public int hops_max                # a task that has moved so often goes to no other broker
    cdef readonly int64_t typical_us        # the run time of tasks seen lately
    cdef readonly uint64_t dispatched
    cdef readonly uint64_t dropped
    cdef readonly uint64_t moved            # tasks given to other brokers

    cdef int slot_of(self, uint64_t incarnation) noexcept nogil
    # Where what is for `owner` goes next: its own slot, or that of its broker; -1 if nobody knows it.
    cdef int way_to(self, uint64_t owner) noexcept nogil
    cdef int on_hello(self, uint64_t incarnation, bint source) noexcept nogil
    # A broker, known by its number; it may have another process behind it later.
    cdef int on_peer(self, uint64_t number) noexcept nogil
    cdef void on_request(self, int node, uint64_t room_us, bint idle) noexcept nogil
    # False: it had said so before.
    cdef bint on_leave(self, int node) noexcept nogil
    cdef void on_surplus(self, int node, uint64_t tasks, uint64_t work_us) noexcept nogil
    # What a peer has asked for; 0 takes the credit back.
    cdef void on_ask(self, int peer, int64_t room_us, int32_t idle) noexcept nogil
    # 0: taken (the slot is ours), -1: refused (the slot stays the caller's).
    cdef int on_task(self, int node, uint64_t owner, uint64_t id, uint64_t attempt, uint64_t est_us, uint64_t hops,
                     uint64_t flags, void *slot) noexcept nogil
    # A peer says that it has a task of a node of ours, which `giver` gave it; or that it knows who has one of its own.
    cdef void on_hold(self, int peer, uint64_t owner, uint64_t id, uint64_t attempt, uint64_t hops,
                      uint64_t giver) noexcept nogil
    # The node that the result goes to, -1: nobody wants it any more.
    cdef int on_result(self, int node, uint64_t owner, uint64_t id) noexcept nogil
    # The node that the answer goes to; the verdict may be corrected.
    cdef int on_answer(self, int node, uint64_t owner, uint64_t id, uint64_t attempt, int *verdict) noexcept nogil
    # A peer has lost a task of a node of ours; returns the node that is to be told.
    cdef int on_lost_there(self, int peer, uint64_t owner, uint64_t id, uint64_t attempt, bint blamed) noexcept nogil
    cdef void on_cancel(self, int node, uint64_t owner, uint64_t id, uint64_t attempt,
                        int mode) noexcept nogil
    # `blamed_*`: the task that was running when the process died, 0 if none.
    cdef void on_lost(self, int node, uint64_t blamed_owner, uint64_t blamed_id, uint64_t cause) noexcept nogil
    # Matches the queue against the credits, then asks for more where there is too little.
    cdef void match(self) noexcept nogil

    # What the nodes here lack and have too much of, for the federation.
    cdef int64_t lack_us(self, int32_t *idle, int64_t *ahead_us) noexcept nogil
    cdef int64_t spare(self, int64_t *work_us) noexcept nogil

    cdef btask_t *_find(self, uint64_t owner, uint64_t id) noexcept nogil
    cdef void _lose(self, btask_t *task, uint64_t cause, bint blamed) noexcept nogil
    cdef int _next_peer(self, btask_t *task) noexcept nogil
    cdef uint64_t _key(self, uint64_t owner, uint64_t id) noexcept nogil
    cdef void _stop_asking(self, int peer) noexcept nogil
    cdef void _forget(self, btask_t *task) noexcept nogil
    cdef void _enqueue(self, btask_t *task, bint front) noexcept nogil
    cdef void _received(self, int node, uint64_t owner, uint64_t est_us) noexcept nogil
    cdef int _next_hungry(self, btask_t *task) noexcept nogil
    cdef void _ask(self) noexcept nogil
    cdef int64_t _appetite_us(self, bnode_t *node) noexcept nogil
    cdef int64_t _sure_us(self, bnode_t *node) noexcept nogil
    cdef void _give(self, btask_t *task, int slot) noexcept nogil
