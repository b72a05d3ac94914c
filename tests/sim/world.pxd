"""The processes of a run, their links, and the faults that befall them."""

from libc.stdint cimport int64_t, uint64_t

from scoop_sim.brokers cimport SimBroker
from scoop_sim.events cimport event_t
from scoop_sim.hosts cimport Hosts
from scoop_sim.process cimport Process
from scoop_sim.stacks cimport spec_t

cdef class World(Hosts):
    cdef dict blame                 # (owner, call) -> how many workers died running it
    cdef list faults
    cdef uint64_t next_incarnation
    cdef uint64_t work_ns
    cdef Process _new_process(self, SimBroker broker, int host)
    cdef Process _spawn(self, int host, double slowness, uint64_t after_us)
    cdef void _look_beside(self, spec_t *spec) noexcept nogil
    cdef int _befall(self, str kind, int who, int64_t us) except -1
    cdef int _report(self, Process dead) except -1
    cdef int _look_again(self, Process p) except -1
    cdef int _on_event(self, event_t *event) except -1
    cdef int _greet(self, Process p) except -1
