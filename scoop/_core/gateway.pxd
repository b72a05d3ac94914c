"""The broker of one host of a federation: the federation's part of each turn."""

from libc.stdint cimport int64_t, uint64_t

from scoop._core.broker cimport held_t
from scoop._core.net cimport Socket
from scoop._core.peers cimport Peers
from scoop._core.spin cimport spin_t
from scoop._core.wire cimport buf_t, record_t

cdef class Gateway(Peers):
    cdef buf_t hint
    cdef readonly bint stopped      # the origin has said that the job is over
    cdef bint may_spin              # not on one core
    cdef spin_t spin
    cdef uint64_t spin_until        # 0: it sleeps in its next turn

    cdef int _turn_or_look(self, int fd, int64_t left_us) noexcept nogil
    cdef int turn(self, int fd, int64_t timeout_us) noexcept nogil
    # The way to whoever hears our hints: the simulator has its own.
    cdef void _publish(self) noexcept nogil
    cdef void _receive_hints(self) noexcept nogil
    cdef void _on_hint(self, const char *data, size_t size) noexcept nogil
    cdef void _pass_on(self, int slot, held_t *held) noexcept nogil
    cdef void _on_ask(self, int slot, record_t *r) noexcept nogil
    cdef void _decide(self) noexcept nogil
    cdef uint64_t _next_us(self) noexcept nogil
    cdef int64_t _patience_us(self) noexcept nogil
