"""The brokers of a run: the real Broker or Gateway, on simulated links and time."""

from libc.stdint cimport uint64_t

from scoop._core.broker cimport Broker
from scoop._core.gateway cimport Gateway

from scoop_sim.events cimport link_t, message_t, queue_t

cdef enum:
    BROKERS_MAX = 8
    START_US = 1000000          # a clock never begins at 0, which means "never" to some machines

# Where the frames for each slot go.
cdef class Lines:
    cdef link_t **links         # by slot
    cdef readonly uint64_t undeliverable
    cdef dict expected          # incarnation, or number of a broker -> address of the link there
    cdef int linked             # slots whose link is known
    cdef void expect(self, uint64_t incarnation, link_t *link) noexcept
    cdef void join(self, Broker broker) noexcept
    cdef void replace(self, Broker broker, uint64_t incarnation, link_t *link) noexcept
    cdef void send(self, Broker broker, int slot) noexcept nogil

cdef class SimBroker(Broker):
    cdef readonly Lines lines

cdef class SimGateway(Gateway):
    cdef readonly Lines lines
    cdef queue_t *clock
    cdef int index
    cdef bint alive
    cdef bint doomed            # the others have been told that it is gone; it runs on for a while
    cdef uint64_t up_at         # it is dead, and its successor is there then; 0: it lives, or has none
    cdef uint64_t paused_until
    cdef message_t *inbox
    cdef message_t *inbox_last
    cdef bint turn_due
    cdef uint64_t timer_gen
    cdef uint64_t timer_at
    cdef link_t *hints[BROKERS_MAX]     # to the neighbours
    cdef int hints_count
    cdef link_t *roads[BROKERS_MAX]     # to each other broker, by its index
    cdef uint64_t turned_at
    cdef int spins              # turns without any time passing
    cdef uint64_t told
    cdef uint64_t holds
    cdef uint64_t parked        # askers that waited here, and whose time was over
    cdef uint64_t unparked
    cdef uint64_t at_limit      # tasks that may not move any more
    cdef void put_inbox(self, message_t *message) noexcept nogil
    cdef void drop_inbox(self) noexcept
    cdef void take_inbox(self) noexcept nogil
    cdef void arm(self) noexcept nogil
