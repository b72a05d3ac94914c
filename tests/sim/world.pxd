"""The processes of a run, their links, and the faults that befall them."""

from libc.stdint cimport uint64_t

from scoop_sim.events cimport event_t, link_t
from scoop_sim.process cimport Process, SimBroker
from scoop_sim.runner cimport Runner

cdef class World(Runner):
    cdef dict plan
    cdef dict blame                 # (owner, call) -> how many workers died running it
    cdef link_t **links
    cdef int link_count
    cdef uint64_t next_incarnation
    cdef uint64_t last_fault
    cdef uint64_t work_ns
    cdef Process _new_process(self, SimBroker broker)
    cdef link_t *_new_link(self, int to, uint64_t source) except NULL
    cdef Process _spawn(self, double slowness, uint64_t after_us)
    cdef int _bury(self, Process p) except -1
    cdef int _report(self, Process dead) except -1
    cdef int _look_again(self, Process p) except -1
    cdef int _on_event(self, event_t *event) except -1
    cdef int _greet(self, Process p) except -1
