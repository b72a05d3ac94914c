"""The driver of a process: who leads, when it polls, and how a thread waits."""

from libc.stdint cimport int64_t, uint64_t

from scoop._core.broker cimport Broker, lost_t
from scoop._core.call cimport call_t
from scoop._core.desk cimport Desk, pthread_mutex_t
from scoop._core.net cimport Socket
from scoop._core.wire cimport buf_t

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

cdef class Node:
    cdef readonly Desk desk
    cdef readonly Broker broker         # in this process, or None
    cdef readonly Socket socket         # to the broker elsewhere, or None
    cdef pthread_mutex_t lead           # who holds it may poll and use the sockets
    cdef int wake_fd
    cdef int timer_fd
    cdef volatile bint sleeping         # the leader is (about to be) in poll
    cdef volatile bint woken            # and has been woken
    cdef volatile bint driver_leads
    cdef bint only_waits                # the main thread leads and can do nothing else
    cdef volatile int lead_wanted
    cdef volatile bint timer_armed
    cdef volatile bint stopping
    cdef public bint draining           # a wait for nothing in particular ends when nothing is outstanding
    cdef uint64_t left_ns               # when the main thread last stopped leading
    cdef unsigned long main_thread
    cdef bint hurried                   # since its last wait the main thread has sent once itself
    cdef buf_t local_in
    cdef buf_t outgoing
    cdef lost_t *posted                 # losses that other threads reported, under the lock
    cdef readonly int pid

    # Something is to be sent soon. With or without the GIL, not under the lock.
    cdef void hurry(self) noexcept nogil
    # Waits until `target` is final or there is something to do; W_ bits. Main thread, without the GIL.
    cdef int block(self, call_t *target, uint64_t deadline_ns, int may, bint may_recall) noexcept nogil
    # The same for a thread that does not lead; only for `target`, which it may run when it is queued here.
    cdef int block_other(self, call_t *target, uint64_t deadline_ns, bint may_run) noexcept nogil
    # Between two tasks: flush what is old enough, ask for more. Main thread.
    cdef void between(self, uint64_t now, bint flush) noexcept nogil
    cdef bint is_main(self) noexcept nogil
    cdef int turn(self, int64_t timeout_us) noexcept nogil
    cdef void _take_lead(self) noexcept nogil
    cdef void _leave_lead(self) noexcept nogil
    cdef int _look(self, call_t *target, int may) noexcept nogil
    cdef void _flush(self, uint64_t now) noexcept nogil
    cdef void _receive(self, uint64_t now) noexcept nogil
