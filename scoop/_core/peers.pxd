"""Who the other brokers of a federation are."""

from libc.stdint cimport uint64_t

from scoop._core.federation cimport Federation
from scoop._core.kept cimport kept_t
from scoop._core.net cimport Socket
from scoop._core.roads cimport Roads
from scoop._core.wire cimport buf_t, record_t

cdef class Peers(Roads):
    cdef readonly Federation federation
    cdef readonly uint64_t origin_at    # number of the broker that has the origin, once it has said so; else 0
    cdef bint has_origin            # it is, or was, here
    cdef public uint64_t greets     # if not 0, the only broker that is greeted at once
    cdef uint64_t *doubts           # by slot: until when it is heard what it holds; 0: nothing is in doubt, or not yet
    cdef uint64_t doubts_until_us   # the first of these times, 0: none
    cdef kept_t kept                # results that were passed on lately to other brokers, or to nobody yet
    cdef void _keep_result(self, record_t *r) noexcept nogil
    cdef void _send_all_kept(self, int slot) noexcept nogil
    cdef void _send_kept(self, int slot, const buf_t *kept) noexcept nogil
    # The simulator has its own clock.
    cdef uint64_t _now_us(self) noexcept nogil
    cdef void _on_origin_at(self, int slot, record_t *r) noexcept nogil
    cdef void _on_peer_hello(self, int slot, record_t *r) noexcept nogil
    cdef void _on_probe(self, int slot) noexcept nogil
    cdef void _on_reset(self, int slot, uint64_t step) noexcept nogil
    cdef void _say_reset(self, int slot, uint64_t step) noexcept nogil
    cdef void _hear_until(self, int slot) noexcept nogil
    cdef void _tell_rest(self, int slot) noexcept nogil
    cdef void _end_doubts(self) noexcept nogil
    cdef void _announce(self) noexcept nogil
    cdef void _greet(self, int slot) noexcept nogil
