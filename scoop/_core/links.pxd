"""Whether the connection behind a message still stands, as the kernel knows it."""

from libc.stdint cimport uint64_t

from scoop._core.libzmq cimport zmq_msg_t

# What has become of a connection.
cdef enum:
    LINK_UNKNOWN = 0        # nothing has come over it yet, or it is not TCP
    LINK_UP = 1             # the other host answers, whatever the process there does
    LINK_SILENT = 2         # the other host has not answered for longer than the lease
    LINK_DOWN = 3           # it has ended: its process has, or some host on the way has cut it

cdef struct link_t:
    int fd                  # libzmq's own; 0: none. It may be closed, or another one, by now
    uint64_t noted_ns
    unsigned char[64] ends  # addresses of both ends

# Notes the connection that a message came by; once a second at most.
cdef void link_note(link_t *link, zmq_msg_t *message, uint64_t now) noexcept nogil
cdef int link_state(const link_t *link, uint64_t lease_ms) noexcept nogil
