"""Who leads in a process, and what a turn of the crank is."""

from libc.stdint cimport int64_t, uint64_t

from scoop._core.broker cimport Broker
from scoop._core.desk cimport Desk, pthread_mutex_t
from scoop._core.links cimport link_t
from scoop._core.loss cimport lost_t
from scoop._core.net cimport Socket
from scoop._core.wire cimport buf_t

cdef class Lead:
    cdef readonly Desk desk
    cdef readonly Broker broker         # in this process, or None
    cdef readonly Socket socket         # to the broker elsewhere, or None
    cdef pthread_mutex_t lead           # who holds it may poll and use the sockets
    cdef tuple wake_place               # inode and device of the next
    cdef int wake_fd
    cdef int timer_fd
    cdef volatile bint sleeping         # the leader is (about to be) in poll
    cdef volatile bint woken            # and has been woken
    cdef volatile bint driver_leads
    cdef bint only_waits                # the main thread leads and can do nothing else
    cdef volatile int lead_wanted
    cdef volatile bint timer_armed
    cdef volatile bint stopping
    cdef uint64_t left_ns               # when the main thread last stopped leading
    cdef unsigned long main_thread
    cdef bint hurried                   # since its last wait the main thread has sent once itself
    cdef readonly bint spins            # a wait may look for a while before it sleeps: not on one core
    cdef buf_t local_in
    cdef buf_t outgoing
    cdef public bint watched            # note the connection to the broker: somebody watches it
    cdef link_t link
    cdef lost_t *posted                 # losses that other threads reported, under the lock
    cdef readonly int pid

    # Something is to be sent soon. With or without the GIL, not under the lock.
    cdef void hurry(self) noexcept nogil
    cdef bint is_main(self) noexcept nogil
    cdef int turn(self, int64_t timeout_us) noexcept nogil
    cdef void _take_lead(self) noexcept nogil
    cdef void _cut_off(self) noexcept nogil
    cdef void _leave_lead(self) noexcept nogil
    cdef void _flush(self, uint64_t now) noexcept nogil
    cdef void _receive(self, uint64_t now) noexcept nogil
