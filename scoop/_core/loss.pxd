"""The death of a process, as it is told to the broker. Words only."""

from libc.stdint cimport uint64_t

cdef struct lost_t:
    uint64_t incarnation
    uint64_t blamed_owner
    uint64_t blamed_id
    uint64_t cause
    char *detail
    size_t detail_size
    lost_t *next

# A loss to be told; freed by the broker that hears of it.
cdef lost_t *lost_new(uint64_t incarnation, uint64_t owner, uint64_t id, bytes detail) except NULL
