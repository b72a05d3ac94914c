"""What a call is told of itself, and what others are told of the calls of this process."""

from libc.stdint cimport uint32_t, uint64_t

from scoop._core.ending cimport Ending

cdef class Account(Ending):
    cdef dict names             # (owner, number) -> name of a function; only without a page
    cdef uint64_t names_shown   # on the page
    cdef set needing            # futures that wait for others among their arguments
    cdef int name_known(self, uint64_t owner, uint32_t number, str name) except -1
    cdef tuple _running(self)
    cdef object _awaited(self)
    cdef list _helped(self)
