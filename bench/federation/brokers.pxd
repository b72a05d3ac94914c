"""Brokers of the model."""

from libc.stdint cimport int64_t

from scoop_federation.workers cimport Workers
from scoop_federation.world cimport message_t


cdef class Brokers(Workers):
    cdef int _broker_gets(self, int b, message_t *m) except -1
    cdef void _turn_soon(self, int b) noexcept
    cdef int _turn(self, int b) except -1
    cdef int _timer(self, int b) except -1
    cdef void _deliver(self, int b, int slot, message_t *m, int64_t at) noexcept
    cdef int _records(self, int b, message_t *m) except -1
    cdef int _settle(self, int b) except -1
    cdef bint _loaded(self, int b) noexcept
    cdef int _carry(self, int b) except -1
