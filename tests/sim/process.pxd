"""One simulated process: the real Desk, Broker and parts of the real Node, on simulated links and time."""

from libc.stdint cimport int64_t, uint64_t

from scoop._core.call cimport call_t
from scoop._core.desk cimport Desk
from scoop._core.node cimport Node

from scoop_sim.events cimport link_t, message_t, queue_t

cdef enum:
    TAKEOVER_NS = 4000000       # as in node.pyx
    RECALL_AFTER_NS = 1000000
    RECALL_AGAIN_NS = 20000000
    STALL_NS = 20000000

cdef struct stack_t

# A future of a simulated program. The call comes first: a call_t of an own call is a future_t.
cdef struct future_t:
    call_t c
    int spec                # which task of the program
    int owner               # index of the process
    int refs                # what holds it: containers of the desk, and the program that made it
    int ended               # how often it became final
    bint resting            # made final in this process: `value` holds the result
    uint64_t value
    stack_t *waiter         # a stack that is suspended until it is final
    future_t *before        # all futures

# A call on a stack.
cdef struct frame_t:
    frame_t *up             # the call that waits for this one on the same stack
    stack_t *stack
    future_t *own           # either this
    call_t *foreign         # or that; both NULL for the program itself
    int spec
    int pc
    uint64_t value
    bint tainted            # a part of it failed for a documented reason
    bint asked              # inside wait(), or inside cancel(), waiting for the answer
    uint64_t began
    uint64_t asked_at       # when wait() or cancel() began
    uint64_t owner_id       # as the agent would see it
    uint64_t call_id
    int child_count
    future_t **children

# A greenlet.
cdef struct stack_t:
    frame_t *top
    int depth
    bint root
    bint counted            # in `suspended`
    future_t *waits         # for what, while suspended
    stack_t *next           # in `ready`
    stack_t *all_next
    stack_t *all_before

# What a machine did that it must never do, noted without the GIL.
cdef struct wrong_t:
    int count
    const char *what
    int spec

# What happened, for the must-happen counters.
cdef struct seen_t:
    uint64_t came_back      # calls that came home unstarted
    uint64_t orphans        # tasks whose owner was dead

cdef class SimDesk(Desk):
    cdef wrong_t *wrong
    cdef seen_t *seen
    cdef queue_t *clock

cdef class Process(Node):
    cdef queue_t *queue
    cdef int index
    cdef int host
    cdef bint alive
    cdef bint is_origin
    cdef double slowness            # multiplies the time that its user code takes
    cdef uint64_t paused_until
    cdef link_t *up                 # to the broker, NULL if that is in this process
    cdef message_t *inbox
    cdef message_t *inbox_last
    cdef uint64_t turns
    # The main thread.
    cdef bint blocked               # in Node.block; otherwise it runs user code
    cdef call_t *target             # what block() waits for, and how
    cdef uint64_t deadline
    cdef int may
    cdef bint may_recall
    cdef uint64_t recall_at
    cdef uint64_t impatient_at      # when a wait has been long enough to ask for more beside a parked task
    cdef uint64_t block_gen
    cdef uint64_t drive_gen
    cdef uint64_t step_gen
    cdef uint64_t stepping_until
    # The hub.
    cdef stack_t *cur               # NULL: the hub greenlet
    cdef stack_t *root
    cdef stack_t *all_stacks
    cdef stack_t *ready
    cdef stack_t *ready_last
    cdef future_t *request
    cdef int suspended
    cdef uint64_t exceeded_at       # when it last began a task beyond the limit of parked calls
    cdef int page_count             # what the agent reads after a death
    cdef uint64_t page[4]           # root owner, root id, owner, id
    cdef set known                  # (owner, function)
    cdef dict asked                 # the same, on its way: since when
    cdef list forms
    cdef bint finished              # the program has ended
    cdef bint greeted               # its HELLO is on its way
    cdef bint told_elsewhere        # hurry() comes from another thread of the process

    cdef void put_inbox(self, message_t *message) noexcept nogil
    cdef void driver_takes(self) noexcept nogil
    cdef void wake(self) noexcept nogil
    cdef void drive_on(self, bint slept) noexcept nogil
    cdef int block_begin(self, call_t *target, uint64_t deadline, int may, bint may_recall) except -1
    cdef bint _may_sleep(self) noexcept nogil
    cdef int block_go_on(self, bint slept) except -1
    cdef void drop_inbox(self) noexcept
