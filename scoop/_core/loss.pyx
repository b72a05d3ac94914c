"""The death of a process, as it is told to the broker."""

from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy


cdef lost_t *lost_new(uint64_t incarnation, uint64_t owner, uint64_t id, bytes detail) except NULL:
    cdef lost_t *lost = <lost_t *>calloc(1, sizeof(lost_t))
    if lost == NULL:
        raise MemoryError
    lost.incarnation = incarnation
    lost.blamed_owner = owner
    lost.blamed_id = id
    lost.cause = 1
    lost.detail_size = len(detail)
    lost.detail = <char *>malloc(len(detail) + 1)
    if lost.detail == NULL:
        free(lost)
        raise MemoryError
    memcpy(lost.detail, <const char *>detail, len(detail))
    return lost
