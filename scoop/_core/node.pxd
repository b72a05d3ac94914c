"""How a thread waits in a process, and what Python asks of its driver."""

from libc.stdint cimport int64_t, uint64_t

from scoop._core.call cimport call_t
from scoop._core.lead cimport Lead
from scoop._core.loss cimport lost_t
from scoop._core.spin cimport spin_t

# Why a wait ended.
cdef enum:
    W_FINAL = 1         # the awaited call is final, or came back and can run here
    W_WORK = 2          # something can run here
    W_RESUMED = 4       # a greenlet's call is final
    W_NOTICE = 8        # functions, constants or callbacks wait for Python
    W_TIMEOUT = 16
    W_SIGNAL = 32       # Python's signal handlers are to run
    W_STOPPED = 64

# What the waiting thread can do meanwhile.
cdef enum:
    MAY_RESUME = 1      # greenlets whose wait is over
    MAY_WORK = 2        # calls that are queued
    MAY_RUN = 4         # the awaited call itself, if it is queued
    MAY_AT_LAST = 8     # nothing new, for it has parked too much; after STILL_NS in which nothing happened, one more

cdef enum:
    STILL_NS = 1000000000
    SIGNALS_SOON_US = 50000         # a signal may come just before poll: Python's handlers are run again after this,
    SIGNALS_EVERY_US = 1000000      # and once in this time, however quiet it is

cdef class Node(Lead):
    cdef bint signals_seen              # the last wait ended so that Python's signal handlers run
    cdef bint over_limit                # the limit of parked calls does not hold for the next task
    cdef uint64_t still_ns              # since when nothing has happened in waits at that limit; 0: something has
    cdef spin_t spin

    # Waits until `target` is final or there is something to do; W_ bits. Main thread, without the GIL.
    cdef int block(self, call_t *target, uint64_t deadline_ns, int may, bint may_recall) noexcept nogil
    # The same for a thread that does not lead; only for `target`, which it may run when it is queued here.
    cdef int block_other(self, call_t *target, uint64_t deadline_ns, bint may_run) noexcept nogil
    # Between two tasks: flush what is old enough, ask for more. Main thread.
    cdef void between(self, uint64_t now, bint flush) noexcept nogil
    cdef uint64_t _spin_until(self) noexcept nogil
    cdef int _look(self, call_t *target, int may) noexcept nogil
