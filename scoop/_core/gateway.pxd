"""The broker of one host of a federation: the federation's part of each turn."""

from libc.stdint cimport int64_t, uint64_t

from scoop._core.broker cimport held_t
from scoop._core.federation cimport Federation
from scoop._core.net cimport Socket
from scoop._core.roads cimport Roads
from scoop._core.spin cimport spin_t
from scoop._core.wire cimport buf_t, record_t

cdef class Gateway(Roads):
    cdef readonly Federation federation
    cdef buf_t hint
    cdef readonly bint stopped      # the origin has said that the job is over
    cdef readonly uint64_t origin_at    # number of the broker that has the origin, once it has said so; else 0
    cdef bint has_origin            # it is, or was, here
    cdef bint may_spin              # not on one core
    cdef spin_t spin
    cdef uint64_t spin_until        # 0: it sleeps in its next turn
    cdef public uint64_t greets     # if not 0, the only broker that is greeted at once

    cdef int _turn_or_look(self, int fd, int64_t left_us) noexcept nogil
    cdef int turn(self, int fd, int64_t timeout_us) noexcept nogil
    # The clock, and the way to whoever hears our hints: the simulator has its own.
    cdef uint64_t _now_us(self) noexcept nogil
    cdef void _publish(self) noexcept nogil
    cdef void _receive_hints(self) noexcept nogil
    cdef void _on_hint(self, const char *data, size_t size) noexcept nogil
    cdef void _pass_on(self, int slot, held_t *held) noexcept nogil
    cdef void _on_origin_at(self, int slot, record_t *r) noexcept nogil
    cdef void _announce(self) noexcept nogil
    cdef void _greet(self, int slot) noexcept nogil
    cdef void _on_ask(self, int slot, record_t *r) noexcept nogil
    cdef void _decide(self) noexcept nogil
    cdef int64_t _patience_us(self) noexcept nogil
