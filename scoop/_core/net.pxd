"""The door to libzmq and to the few system calls of the drivers: sockets, poll, wake-ups, clock."""

from libc.stdint cimport int64_t, uint64_t

from scoop._core.libzmq cimport zmq_api_t, zmq_msg_t, zmq_pollitem_t
from scoop._core.wire cimport buf_t

# libzmq's functions. Only the port's modules call them.
cdef zmq_api_t api

# The only road from libzmq's errno to an exception.
cdef int check_rc(int rc, str operation, str endpoint) except -1

cdef class Context:
    cdef void *handle
    cdef int pid
    cdef readonly int sockets

cdef class Socket:
    cdef Context context        # keeps it alive
    cdef void *handle
    cdef int pid
    cdef readonly str endpoint

    cdef int set_number(self, int option, int value) except -1
    cdef int set_bytes(self, int option, bytes value) except -1
    # 0 sent; -1 would block; -2 the peer is unknown; -3 closed. The buffer's memory passes to libzmq.
    cdef int send(self, buf_t *b) noexcept nogil
    cdef int send_to(self, const char *peer, size_t peer_size, buf_t *b) noexcept nogil
    # 1 received, 0 nothing there, -3 closed. `peer` is written for a ROUTER (8 bytes), else untouched.
    cdef int receive(self, zmq_msg_t *message, uint64_t *peer) noexcept nogil

cdef void message_init(zmq_msg_t *message) noexcept nogil
cdef void message_close(zmq_msg_t *message) noexcept nogil
cdef const char *message_data(zmq_msg_t *message) noexcept nogil
cdef size_t message_size(zmq_msg_t *message) noexcept nogil

# Waits until a socket (may be NULL) or the wake-up is readable, or for the time (-1: no limit).
# Returns bit 1 for the socket, bit 2 for the wake-up, 0 for time-out, -1 interrupted, -3 closed.
cdef int poll_for(void *socket, int wake_fd, int64_t timeout_us) noexcept nogil

# The same for any items: how many are ready, -1 interrupted, -3 closed.
cdef int poll_all(zmq_pollitem_t *items, int count, int64_t timeout_us) noexcept nogil

cdef uint64_t now_ns() noexcept nogil
cdef int wake_new() except -1
cdef int wake_set(int fd) noexcept nogil    # -1: the descriptor is gone
cdef void wake_clear(int fd) noexcept nogil
cdef int timer_new() except -1
cdef void timer_arm(int fd, uint64_t after_ns) noexcept nogil
cdef int timer_wait(int fd) noexcept nogil
cdef void fd_close(int fd) noexcept nogil
# Signals stay with the threads of Python: a thread of ours that took one would leave the main thread asleep.
cdef void block_signals() noexcept nogil
