"""Tells Python code what has happened: callbacks, the standard library's waiters, helper threads."""

from scoop._core.future cimport CallFuture
from scoop._core.hub cimport Hub

cdef class Notices(Hub):
    cdef readonly object notifier   # the thread that runs callbacks, None until somebody needs it
    cdef object helpers         # scoop.helpers.Helpers, None until somebody waits who cannot run calls
    cdef int notify_wanted(self) except -1
    cdef int interest(self, CallFuture f) except -1
    cdef bint yield_to_others(self) except -1
    cdef int _send_constant(self, bytes key, bytes data) except -1
    cdef int _keep_deadly(self, bytes lineage, bytes loss) except -1
    cdef int notices(self) except -1
