"""Runs calls: the only place where user code is called."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from scoop._core.call cimport call_t
from scoop._core.future cimport CallFuture, Form, Runtime
from scoop._core.node cimport Node

# The call that runs now, on the stack of the thread that runs it.
cdef struct level_t:
    level_t *up
    uint64_t owner
    uint64_t id
    uint64_t lineage[2]
    uint64_t item               # of a map
    uint64_t root_owner         # the task of another owner that it descends from, 0: none
    uint64_t root_id
    uint64_t since              # when it began, by the monotonic clock; 0: a call so short that nobody looks
    uint64_t root_since         # when that task began; 0: not known
    uint32_t fn
    uint32_t attempt
    uint32_t children           # submitted so far
    uint32_t streams            # random generators asked for so far
    bint pinned                 # inside no_switch()

# Per thread that runs calls.
cdef class Strand:
    cdef object greenlet        # its hub greenlet; None until a wait needs one
    cdef object root            # the greenlet of the thread's own program
    cdef list parked            # greenlets that wait for a call to run
    cdef object ready           # deque of greenlets whose wait is over
    cdef object waiting         # dict: future -> list of greenlets
    cdef object request         # a future to be run on another greenlet
    cdef object thrown          # an exception for the root greenlet
    cdef dict timers            # greenlet that waits with a limit -> its deadline in ns
    cdef level_t *level
    cdef level_t base
    cdef int depth              # calls on the spot on this greenlet
    cdef int suspended
    cdef object awaited         # the future that the thread sleeps for, running nothing else; or None
    cdef bint main

cdef class Runner(Runtime):
    cdef Node node
    cdef object session         # the Python-level owner
    cdef object strands         # threading.local
    cdef Strand main_strand
    cdef uint64_t threads       # of the program that have submitted or run calls, besides the main one
    cdef object base_context
    cdef uint8_t *page          # shared with the agent; NULL in the origin
    cdef object page_buffer
    cdef bint is_origin
    cdef public object leave_fork  # in what a task of a worker has forked: ends it when it comes out of the task
    cdef public bint interrupted   # Ctrl-C: the KeyboardInterrupt that follows belongs to no task
    cdef dict functions         # (owner, number) -> callable, least recently used first
    cdef dict deadly            # lineage of a call that no process survives -> how the last one died; None: none
    cdef dict asked             # (owner, number) of functions that calls are parked for: since when
    cdef uint64_t last_owner
    cdef uint32_t last_fn
    cdef object last_function
    cdef Strand strand(self)
    cdef int run_own(self, Strand s, CallFuture f) except -1
    cdef int run_foreign(self, Strand s, call_t *call) except -1
    cdef int sweep(self) except -1
    cdef void _show(self, Strand s) noexcept
    cdef void _waits(self, Strand s, int more, object awaited) noexcept
    cdef int name_known(self, uint64_t owner, uint32_t number, str name) except -1
    cdef void set_item(self, level_t *level, uint64_t high, uint64_t low, uint64_t index) noexcept
    cdef void _enter(self, Strand s, level_t *level, call_t *call, uint64_t began) noexcept
    cdef object _call(self, Strand s, call_t *call, object fn, object args, object kwargs)
    cdef object _call_chunk(self, Strand s, object fn, tuple args)
    cdef tuple _open_own(self, CallFuture f, Form form)
    cdef int _give_back(self, CallFuture f) except -1
    cdef int resume_waiters(self, Strand s, CallFuture f) except -1
    cdef object _function(self, call_t *call)
    cdef tuple _open_foreign(self, call_t *call)
    cdef int _post(self, call_t *call, object value, int outcome, uint64_t run_ns, object fn) except -1
    cdef int _unpack(self) except -1
