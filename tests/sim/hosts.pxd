"""The hosts of a run: which processes die together, the brokers between them, and how their links fail."""

from libc.stdint cimport int64_t, uint64_t

from scoop_sim.brokers cimport SimGateway
from scoop_sim.events cimport event_t, link_t, message_t
from scoop_sim.process cimport Process
from scoop_sim.runner cimport Runner

cdef class Hosts(Runner):
    cdef dict plan
    cdef list gateways              # empty: one host, whose broker is in the origin
    cdef list reported              # incarnations of processes whose death has been told
    cdef link_t **links
    cdef int link_count
    cdef uint64_t last_fault
    cdef uint64_t found_out_at      # until then a call may be nowhere, and its owner not know it
    cdef uint64_t pending           # faults, and their notices, that are still to come
    cdef link_t *_new_link(self, int to, uint64_t source) except NULL
    cdef int _start_hosts(self, int count) except -1
    cdef int _connect(self, SimGateway one, SimGateway other) except -1
    cdef int _lose_suffix(self, link_t *link) except -1
    cdef int _on_gateway(self, event_t *event) except -1
    # In the story: what arrives, by name, with the task where a record names one.
    cdef int say_frame(self, Process p, str to, bytes frame) except -1
    cdef int _turn(self, SimGateway g) except -1
    cdef int _lose_host(self, int host, int64_t lives_us, bint silent) except -1
    cdef int _end_host(self, int host) except -1
    cdef int _end_broker(self, int host, int64_t down_us) except -1
    cdef int _renew_road(self, SimGateway one, SimGateway to, uint64_t up_at) except -1
    cdef void _found_out(self, uint64_t at) noexcept
    cdef int _succeed(self, int host) except -1
    cdef int _let_in_again(self, SimGateway g, Process p) except -1
    # A door sends an empty frame on each new connection.
    cdef int _probe(self, link_t *link) except -1
    cdef int _tell_gone(self, SimGateway g, uint64_t number) except -1
    cdef int _disturb(self, str kind, int one, int other, int64_t us) except -1
    cdef str busy_with(self)
    cdef bint host_ends(self, int host) except -1
    cdef int later(self, int64_t after_us, int kind, int proc, uint64_t arg) except -1
