"""The broker's driver: receives frames, feeds the balance, carries out what it decides. Never opens a payload."""

from libc.stdint cimport uint64_t

from scoop._core.balance cimport Balance
from scoop._core.loss cimport lost_t
from scoop._core.net cimport Socket
from scoop._core.outbox cimport Outbox, action_t
from scoop._core.wire cimport buf_t, record_t

# A task or a constant that waits here: its bytes as they came.
cdef struct held_t:
    size_t size
    held_t *next
    char data[0]

cdef class Broker:
    cdef readonly Balance balance
    cdef readonly Outbox out
    cdef readonly Socket socket
    cdef buf_t *outs                # by slot: records on their way to that node
    cdef int *dirty                 # slots whose buffer holds something
    cdef char *is_dirty
    cdef int dirty_count
    cdef int local                  # the slot of the node in this process, -1: none
    cdef held_t *constants
    cdef held_t *constants_last
    cdef lost_t *lost               # losses to be told; put here by the node that leads
    cdef bint stop_all              # tell every node to stop, once
    cdef int stop_told              # how many slots have been told
    cdef readonly uint64_t malformed
    cdef readonly uint64_t messages
    cdef public bint keep_frames    # frames stay until `take_for` fetches them: for the simulator

    cdef int receive(self, int messages_max) noexcept nogil
    cdef int feed(self, int slot, const char *data, size_t size) noexcept nogil
    cdef void settle(self) noexcept nogil
    cdef buf_t *out_of(self, int slot) noexcept nogil
    cdef void _on_record(self, int slot, record_t *r) noexcept nogil
    cdef int _asks_the_dead(self, record_t *r, uint64_t asker) noexcept nogil
    cdef void _on_claim(self, record_t *r) noexcept nogil
    cdef void _on_need(self, record_t *r) noexcept nogil
    cdef void _on_task(self, int slot, record_t *r) noexcept nogil
    cdef void _on_const(self, int slot, record_t *r) noexcept nogil
    cdef void _on_lost(self) noexcept nogil
    cdef void _carry_out(self, const char *detail, size_t detail_size) noexcept nogil
    # What concerns other brokers; only a gateway has any.
    cdef void _carry_far(self, action_t *x) noexcept nogil
    cdef void _stop_nodes(self) noexcept nogil
    cdef void _keep_const(self, record_t *r) noexcept nogil
    cdef void _forward(self, int slot, record_t *r) noexcept nogil
    cdef void _flush(self) noexcept nogil
    cdef void _send(self, int slot) noexcept nogil
    # Swaps the records for a node into an empty buffer; False if there are none.
    cdef bint take_for(self, int slot, buf_t *into) noexcept nogil
    cdef void _welcome(self, int slot, uint64_t namesake) noexcept nogil
    # Takes note of a new node; the number that makes its name unique, 0: it is.
    cdef uint64_t _newcomer(self, int slot, record_t *hello) noexcept nogil
    cdef void _hello(self, uint64_t peer, const char *data, size_t size) noexcept nogil
