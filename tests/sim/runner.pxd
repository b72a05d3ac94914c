"""What the main thread of each simulated process does: the policy of hub.pyx over simulated programs."""

from scoop_sim.process cimport Process, frame_t, future_t, stack_t
from scoop_sim.stacks cimport Stacks

cdef class Runner(Stacks):
    cdef int go(self, Process p) except -1
    cdef bint hub(self, Process p) except -1
    cdef bint step(self, Process p, frame_t *frame) except -1
    cdef bint wait(self, Process p, frame_t *frame, int which) except -1
    cdef bint cancel(self, Process p, frame_t *frame, int which) except -1
    cdef bint drain(self, Process p, frame_t *frame) except -1
    cdef bint end(self, Process p, frame_t *frame) except -1
    cdef int end_own(self, Process p, frame_t *frame) except -1
    cdef int end_foreign(self, Process p, frame_t *frame) except -1
    cdef int suspend(self, Process p, frame_t *frame, future_t *f, bint run_it) except -1
    cdef int after_block(self, Process p) except -1
    cdef bint take(self, Process p, future_t *f) except -1
    cdef bint others(self, Process p, future_t *f) noexcept
    cdef int may_take(self, Process p, int parked) noexcept
    cdef bint runnable(self, Process p, int parked) noexcept
    cdef bint run_next(self, Process p, stack_t *stack) except -1
    cdef int busy(self, Process p, double ns) except -1
    cdef int main_ended(self, Process p) except -1
