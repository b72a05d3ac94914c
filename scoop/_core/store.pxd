"""What one process holds, under one lock: its queue, its ledger, its functions, and what has arrived.

The thread that leads the node calls it without the GIL; user threads call the few methods that the Future needs.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from scoop._core.call cimport call_t, form_t
from scoop._core.ledger cimport Ledger
from scoop._core.localq cimport LocalQueue, ring_t
from scoop._core.table cimport table_t
from scoop._core.wire cimport buf_t, record_t, span_t

cdef extern from "pthread.h" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    ctypedef struct pthread_cond_t:
        pass
    int pthread_mutex_init(pthread_mutex_t *, void *)
    int pthread_mutex_lock(pthread_mutex_t *)
    int pthread_mutex_trylock(pthread_mutex_t *)
    int pthread_mutex_unlock(pthread_mutex_t *)
    int pthread_mutex_destroy(pthread_mutex_t *)
    int pthread_cond_broadcast(pthread_cond_t *)
    int pthread_cond_signal(pthread_cond_t *)

# A byte string that waits for Python: a function's form or a constant.
cdef struct parcel_t:
    parcel_t *next
    uint64_t owner
    uint64_t number
    int kind                # K_FORM or K_CONST
    size_t name_size        # of a constant
    size_t size
    char data[0]

cdef enum:
    STALL_NS = 20000000     # without a result for so long, calls that have not started are asked back
    LATE_NS = 5000000000    # and for so long, whether they are still there; again and again
    LATE_LOOKS_MAX = 10000  # of so many at a time
    LOOKS_MIN = 100         # and of so many, and an eighth of the others, while results arrive
    LOOKS = 4               # so often, less one, all that is elsewhere is asked after when the broker is another one

# Moments of the last call that passed, for whoever profiles dispatch (scoop.metrics).
cdef enum:
    AT_ENCODED = 0      # its owner has encoded it
    AT_ROUTED = 1       # the broker has decided
    AT_SENT = 2         # and the frame is with libzmq
    AT_RECEIVED = 3     # the worker's process has decoded the record
    AT_OPENED = 4       # its main thread begins with it
    AT_CALLED = 5       # arguments are decoded
    AT_RETURNED = 6
    AT_POSTED = 7       # the result is encoded
    AT_ANSWERED = 8     # and with libzmq
    AT_ARRIVED = 9      # the owner's process has decoded the result
    STAMPS = 10

cdef class Store:
    cdef public bint tracing
    cdef uint64_t stamps[STAMPS]    # nanoseconds of the monotonic clock, the same for all processes of a host
    cdef void stamp(self, int what) noexcept nogil
    cdef void begin(self, call_t *call) noexcept nogil
    cdef bint has_begun(self, uint64_t owner, uint64_t id) noexcept nogil
    cdef void end(self, call_t *call) noexcept nogil
    cdef readonly uint64_t incarnation
    cdef readonly LocalQueue queue
    cdef readonly Ledger ledger
    cdef pthread_mutex_t lock
    cdef pthread_cond_t changed     # some call changed its state; for threads that do not lead
    cdef int waiters                # how many wait on it
    cdef pthread_cond_t noticeable  # the ring `noticed` is not empty
    cdef buf_t out                  # records for the broker
    cdef uint64_t out_since_ns      # when its first record was written
    cdef int64_t want_us            # the broker wants this much work, 0: none
    cdef int64_t want_idle          # for this many nodes with nothing to do
    cdef bint blocked               # the main thread sleeps in a wait of ours
    cdef bint is_source             # this process runs the user's program
    cdef bint busy                  # the main thread is not looking for work
    cdef ring_t resumed             # awaited by a greenlet, and final now; holds a reference
    cdef bint returned              # a call came back unstarted; a greenlet may wait for it
    cdef bint came_back             # the same, for whoever waits in Python
    cdef uint64_t arrived_ns        # when a result was last received
    cdef uint64_t stalled_ns        # when stalled calls were last looked for
    cdef uint64_t renewed_ns        # when calls were last looked for
    cdef uint64_t now_ns            # the time of the frame at hand
    cdef buf_t hello                # our first record, once it is written
    cdef buf_t constants            # those that this process has set, as records
    cdef int probes                 # how often a connection to the broker has begun
    cdef uint64_t ask_again_ns      # functions that were asked for until then are to be asked for again
    cdef int looks_left
    cdef uint64_t look_at_ns
    cdef public bint draining       # a wait for nothing in particular ends when nothing is outstanding
    cdef size_t asked_from          # where the next recall of stalled calls begins
    cdef size_t looked_from         # where the next look for calls begins
    cdef ring_t noticed             # somebody in Python is to be told; holds a reference
    cdef ring_t grave               # references to drop under the GIL
    cdef parcel_t *parcels
    cdef parcel_t *parcels_last
    cdef table_t begun              # tasks of other owners that have begun here and not ended
    cdef table_t forms              # number -> form_t of our own functions
    cdef uint64_t next_id
    cdef readonly bint remote_only  # calls never run in this process
    cdef volatile bint stopped      # the broker said STOP
    cdef bint leaving               # takes no more tasks, and ends when it holds nothing
    cdef bint left                  # and has said so
    cdef bint welcomed              # the broker has answered our HELLO
    cdef readonly uint64_t namesake     # makes our name unique at the broker; 0: it is
    cdef uint32_t surplus_told
    cdef readonly uint64_t malformed
    cdef readonly uint64_t exported
    cdef readonly uint64_t received
    cdef void export_wanted(self) noexcept nogil
    cdef uint32_t _estimate_us(self, call_t *call) noexcept nogil
    cdef void tell_surplus(self, bint stuck) noexcept nogil
    cdef void ask_work(self, bint idle) noexcept nogil
    cdef void begin_leaving(self) noexcept nogil
    cdef void give_back(self, call_t *call) noexcept nogil
    cdef void let_go(self, call_t *call, uint64_t mode) noexcept nogil
    cdef void leave_if_done(self) noexcept nogil
    cdef void ask_stalled(self, uint64_t now) noexcept nogil
    cdef void _recall_stalled(self, bint late) noexcept nogil
    cdef void _look_for(self, size_t most) noexcept nogil
    cdef void begin_looking(self, uint64_t now) noexcept nogil
    cdef void _may_ask_again(self) noexcept nogil
    cdef void look_for_all(self, uint64_t now) noexcept nogil
    cdef void ask_back(self, call_t *call, int mode) noexcept nogil
    cdef void _say_cancel(self, call_t *call, int mode) noexcept nogil
    cdef int encode_call(self, call_t *call, buf_t *b) noexcept nogil
    cdef bint wait_changed(self, uint64_t deadline_ns) noexcept nogil
    cdef void wake_waiters(self) noexcept nogil
    cdef void wait_noticed(self) noexcept nogil
