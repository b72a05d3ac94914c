"""The Future's compiled half, and the function forms that its calls share."""

from libc.stdint cimport uint64_t

from scoop._core.call cimport call_t, form_t
from scoop._core.desk cimport Desk

cdef class Form:
    cdef form_t c
    cdef readonly object fn         # what a local run calls
    cdef readonly bytes blob        # what travels
    cdef readonly str name
    cdef bint fresh                 # captured state can change: a local run loads its own copy
    cdef Desk desk                  # whose table lists it; None until then

cdef class Extras:
    cdef object condition           # threading.Condition, made when somebody asks for it
    cdef object waiters             # scoop.waiters.Waiters: of concurrent.futures.wait and as_completed
    cdef list callbacks
    cdef list greenlets             # suspended in a wait for this future
    cdef list needs                 # futures among the arguments
    cdef bint told                  # waiters and callbacks have been told

# What a Future needs of its process; implemented by the Session.
cdef class Runtime:
    cdef Desk desk
    cdef int wait_for(self, CallFuture future, double timeout_s) except -1      # < 0: no limit
    cdef bint call_off(self, CallFuture future) except -1
    cdef int interest(self, CallFuture future) except -1
    cdef bint yield_to_others(self) except -1   # lets greenlets of this thread go on
    cdef int check_process(self) except -1      # raises in a forked child
    cdef int notify_wanted(self) except -1      # Python code waits for results: see that it is told

cdef class CallFuture:
    cdef call_t c
    cdef Form form
    cdef object args                # scalars as a tuple; what needs mending; None when final
    cdef object value               # result or exception, when S_DONE
    cdef Extras extras
    cdef Runtime runtime

    cdef int open_result(self) except -1
    cdef int _wait(self, timeout) except -1
    cdef int finish(self, object value, bint failed) except -1
    cdef int tell(self) except -1
    cdef Extras need_extras(self)
    cdef int _drop_call(self) except -1
    cdef int _tell_waiters(self, Extras extras) except -1
    cdef int _call_back(self, object fn) except -1
