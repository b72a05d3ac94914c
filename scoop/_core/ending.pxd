"""How calls end before their time: cancelled, failed with their pool, or waited for at the end of the program."""

from scoop._core.future cimport CallFuture
from scoop._core.notices cimport Notices

cdef class Ending(Notices):
    cdef bint call_off(self, CallFuture f) except -1
    cdef int call_off_soon(self, CallFuture f) except -1
    cdef bint _wait_answer(self, CallFuture f) except -1
