"""Programs, stacks and futures of the simulated processes."""

from libc.stdint cimport int64_t, uint64_t

from scoop._core.call cimport call_t, form_t

from scoop_sim.events cimport queue_t
from scoop_sim.process cimport Process, frame_t, future_t, stack_t, wrong_t

cdef enum op_kind_t:
    OP_RUN = 1          # use the processor for arg us
    OP_SUBMIT = 2       # submit task arg
    OP_WAIT = 3         # wait for the arg-th task submitted here
    OP_CANCEL = 4       # cancel the arg-th task submitted here
    OP_CRASH = 5        # kill the process, unless it is the origin

cdef struct op_t:
    int kind
    int64_t arg

cdef struct spec_t:
    op_t *ops
    int op_count
    int submits
    int form
    bint may_cancel     # its value is not part of its parent's
    uint64_t expected
    int started
    int ended
    int submitted
    int cancelled
    int failed

# What happened, for the must-happen counters.
cdef struct count_t:
    uint64_t on_the_spot
    uint64_t other_stack
    uint64_t suspends
    uint64_t foreign_runs
    uint64_t fetched_forms
    uint64_t cancel_here
    uint64_t cancel_there
    uint64_t cancel_late
    uint64_t deaths
    uint64_t blamed
    uint64_t failures
    uint64_t pauses

cdef class Stacks:
    cdef queue_t queue
    cdef uint64_t rng
    cdef list processes
    cdef spec_t *specs
    cdef int spec_count
    cdef future_t *futures
    cdef wrong_t wrong
    cdef count_t count
    cdef public int suspended_max
    cdef public int depth_max
    cdef public int crash_limit
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
    cdef bint function(self, Process p, call_t *call) except -1
    cdef int unpack(self, Process p) except -1
    cdef void show(self, Process p) noexcept
    cdef int kill(self, Process p) except -1
    cdef int fail(self, str what, int spec) except -1
    cdef int got(self, Process p, frame_t *frame, int which) except -1
