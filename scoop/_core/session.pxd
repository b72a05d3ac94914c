"""Submits calls: forms of functions, encoding of arguments, and what arrives for Python."""

from libc.stdint cimport uint32_t, uint64_t

from scoop._core.future cimport CallFuture, Form
from scoop._core.call cimport call_t
from scoop._core.account cimport Account

cdef class Session(Account):
    cdef dict forms             # plain function -> Form
    cdef dict keyed             # function key -> Form
    cdef uint32_t next_number
    cdef int generation
    cdef object future_class
    cdef public bint closed
    cdef readonly bytes seed
    cdef public uint64_t queue_bytes_max    # of encoded arguments that wait here
    cdef int _run_oldest(self) except -1
    cdef public bint copy       # arguments and results are copied even where a call stays here

    cdef Form form_of(self, object fn)
    cdef Form _new_form(self, object fn, object key, bint keep)
    cdef CallFuture new_call(self, Form form, tuple args, dict kwargs, int flags, uint32_t items)
    cdef int _encode(self, CallFuture f, tuple args, dict kwargs) except -1
    cdef int check_process(self) except -1
    cdef int enqueue(self, CallFuture f) except -1
    cdef void _derive(self, call_t *call, bint named) noexcept
    cdef int _reissue(self, CallFuture f, Form form, bytes data) except -1
    cdef int _fail(self, uint64_t id, object error) except -1
