"""Counts the calls of one thread and measures them, each greenlet by itself."""

from cpython.object cimport PyObject
from libc.stdint cimport uint32_t, uint64_t

from scoop._core.table cimport table_t

cdef struct count_t:
    uint64_t calls
    uint64_t repeats            # of these, begun inside of another call of the same
    uint64_t own_ns             # without what it called
    uint64_t all_ns             # outermost calls only
    uint32_t open

# A function.
cdef struct entry_t:
    PyObject *name              # a reference: its code object, or what a compiled one is called
    entry_t *next
    count_t count
    uint32_t number

# A function, as another one called it.
cdef struct edge_t:
    entry_t *caller
    entry_t *callee
    edge_t *next
    count_t count

cdef struct open_t:
    entry_t *entry
    edge_t *edge                # NULL: nobody called it
    uint64_t began
    uint64_t inner_ns           # of what it has called

# The open calls of a greenlet, and what has been counted on it.
cdef class Stack:
    cdef table_t entries        # by address of the code
    cdef table_t edges          # by the numbers of caller and callee
    cdef entry_t *first_entry
    cdef edge_t *first_edge
    cdef open_t *calls
    cdef uint32_t depth
    cdef uint32_t room
    cdef uint64_t away_ns       # spent on other greenlets: its clock stands still meanwhile
    cdef uint64_t left          # when it was left; 0 while it runs
    cdef uint64_t time(self) noexcept
    cdef void enter(self, void *key, PyObject *name) noexcept
    cdef void leave(self, void *key) noexcept
    cdef entry_t *entry_of(self, void *key, PyObject *name) noexcept
    cdef edge_t *edge_of(self, entry_t *caller, entry_t *callee) noexcept
    cdef void close_top(self, uint64_t now) noexcept

cdef class Profiler:
    cdef Stack stack            # of the greenlet that runs
    cdef dict stacks            # greenlet -> Stack
    cdef dict totals            # of greenlets that have ended, in the form of pstats
    cdef object thread          # its number; None while nothing is counted
    cdef object hook            # what was told of switches before
    cdef int keep(self, Stack s) except -1
    cdef int forget_ended(self) except -1
