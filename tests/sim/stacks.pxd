"""Programs, stacks and futures of the simulated processes."""

from libc.stdint cimport int64_t, uint64_t

from scoop._core.call cimport call_t, form_t

from scoop_sim.events cimport queue_t
from scoop_sim.process cimport Process, frame_t, future_t, seen_t, stack_t, wrong_t

cdef enum op_kind_t:
    OP_RUN = 1          # use the processor for arg us
    OP_SUBMIT = 2       # submit task arg
    OP_WAIT = 3         # wait for the arg-th task submitted here
    OP_CANCEL = 4       # cancel the arg-th task submitted here
    OP_CRASH = 5        # kill the process, unless it is the origin
    OP_FAIL = 6         # raise an exception

cdef struct op_t:
    int kind
    int64_t arg

cdef struct spec_t:
    op_t *ops
    int op_count
    int submits
    int form
    bint may_cancel     # its value is not part of its parent's
    bint fails          # it ends with an exception
    bint once           # it runs at most once for each submit
    uint64_t expected
    uint64_t below_ns   # its own work and that of all tasks below it
    uint64_t beside_ns  # the most of any task that is neither above nor below it
    int waits_below
    int started
    int ended
    int submitted
    int cancelled
    int failed
    int crashed

# What happened, for the must-happen counters.
cdef struct count_t:
    uint64_t on_the_spot
    uint64_t other_stack
    uint64_t suspends
    uint64_t most_suspended
    uint64_t foreign_runs
    uint64_t fetched_forms
    uint64_t cancel_here
    uint64_t cancel_there
    uint64_t cancel_late
    uint64_t deaths
    uint64_t blamed
    uint64_t failures
    uint64_t pauses
    uint64_t faults
    uint64_t hosts_lost
    uint64_t successions
    uint64_t deaths_with_host
    uint64_t lost_moving
    uint64_t cuts
    uint64_t resets
    uint64_t errors
    uint64_t once_failed    # at-most-once tasks that were lost after they had been claimed

cdef class Stacks:
    cdef queue_t queue
    cdef uint64_t rng
    cdef list processes
    cdef spec_t *specs
    cdef int spec_count
    cdef future_t *futures
    cdef wrong_t wrong
    cdef count_t count
    cdef seen_t seen
    cdef set once_begun             # (owner, id)
    cdef uint64_t suspended         # in all processes, the dead ones included
    cdef double slowest             # of the processes
    cdef uint64_t patience_ns       # how long a wait may take beside work, 0: not looked at
    cdef double estimates            # and beside how many tasks, for each wait
    cdef readonly double longest_wait       # of what was allowed
    cdef public int suspended_max
    cdef public int depth_max
    cdef public int crash_limit
    cdef int hops_max
    cdef public bint strict_alone
    cdef readonly double finished_s     # when the program ended, -1: not yet
    cdef list story
    cdef int say(self, Process p, str what, int spec) except -1
    cdef bint beside(self, Process p) except -1
    cdef bint alive(self, uint64_t incarnation) except -1
    cdef future_t *submit(self, Process p, int spec) except NULL
    cdef frame_t *push(self, Process p, stack_t *stack, future_t *own, call_t *foreign, int spec) except NULL
    cdef void pop(self, Process p, frame_t *frame) noexcept
    cdef stack_t *new_stack(self, Process p) except NULL
    cdef void free_stack(self, Process p, stack_t *stack) noexcept
    cdef void make_ready(self, Process p, stack_t *stack) noexcept
    cdef int collect(self, Process p) except -1
    cdef int release(self, Process p, future_t *f) except -1
    cdef int sweep(self, Process p) except -1
    cdef int begins(self, uint64_t owner, call_t *call, int spec) except -1
    # Brokers and connections that took with them what was in them.
    cdef uint64_t losses(self) noexcept nogil
    cdef bint timely(self) noexcept nogil
    cdef bint function(self, Process p, call_t *call) except -1
    cdef int unpack(self, Process p) except -1
    cdef void show(self, Process p) noexcept
    cdef int kill(self, Process p) except -1
    cdef int bury(self, Process p) except -1
    cdef int fail(self, str what, int spec) except -1
    cdef int none_over(self, Process p) except -1
    cdef int waited(self, Process p, frame_t *frame, future_t *f) except -1
    cdef int got(self, Process p, frame_t *frame, int which) except -1
