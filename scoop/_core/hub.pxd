"""Lets calls wait for each other without ever blocking the thread for nothing."""

from libc.stdint cimport uint64_t

from scoop._core.call cimport call_t
from scoop._core.future cimport CallFuture
from scoop._core.runner cimport Runner, Strand, level_t

cdef class Hub(Runner):
    cdef bint take(self, CallFuture f) noexcept
    cdef int suspend(self, Strand s, CallFuture f, bint run_it, uint64_t deadline) except -1
    cdef uint64_t _expire(self, Strand s) except? 0
    cdef int collect(self, Strand s) except -1
    cdef bint _goes_on(self, Strand s) except -1
    cdef bint run_next(self, Strand s) except -1
    cdef int notices(self) except -1
    cdef int wait_for(self, CallFuture f, double timeout_s) except -1
    cdef bint _others(self, Strand s, CallFuture f) except -1
    cdef int _may_take(self, int parked) noexcept
    cdef int _wait_needs(self, CallFuture f, double timeout_s, uint64_t deadline) except -1
    cdef bint _wait_until(self, Strand s, CallFuture f, uint64_t deadline) except -1
    cdef int _block(self, Strand s, CallFuture f, uint64_t deadline) except -1
    cdef int _after_block(self, int reason) except -1
    cdef int _make_ready(self, Strand s, object f) except -1
    cdef int _idle(self, Strand s, int reason) except -1
    cdef int may_now(self, Strand s) noexcept
    cdef bint _runnable(self, int parked) noexcept
    cdef int _resume_root(self, Strand s) except -1
    cdef int _on_other_stack(self, Strand s, object f) except -1
    cdef int suspend_for_others(self, Strand s) except -1
