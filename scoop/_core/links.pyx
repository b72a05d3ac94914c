"""Whether the connection behind a message still stands, as the kernel knows it.

A process that ends, however it ends, has its connections closed by the kernel. One that is stopped keeps them: its
kernel goes on answering. A host that is cut off or has no power answers nothing, not even the kernel's own
questions (TCP keepalive), which `curve.pyx` switches on. So nobody has to send anything to be known as alive, and
nobody is taken for dead because its process is busy or stopped.

The descriptor is libzmq's. It is only asked about, never used; that it is still the same connection is
seen by the addresses of its two ends.
"""

from libc.stdlib cimport atoi
from libc.string cimport memcmp, memcpy

from scoop._core.net cimport api

cdef extern from * nogil:
    """
    #include <netinet/in.h>
    #include <netinet/tcp.h>
    #include <string.h>
    #include <sys/socket.h>

    /* Both ends of a TCP connection in 64 bytes; -1 if it is none. */
    static int scoop_ends(int fd, unsigned char *ends)
    {
        struct sockaddr_storage one;
        socklen_t size = sizeof(one);
        memset(ends, 0, 64);
        memset(&one, 0, sizeof(one));
        if (getsockname(fd, (struct sockaddr *)&one, &size) < 0 ||
            (one.ss_family != AF_INET && one.ss_family != AF_INET6))
            return -1;
        memcpy(ends, &one, 28);
        size = sizeof(one);
        memset(&one, 0, sizeof(one));
        if (getpeername(fd, (struct sockaddr *)&one, &size) < 0)
            return -1;
        memcpy(ends + 32, &one, 28);
        return 0;
    }

    /* 1: the other host answers; 2: it has not for so long, though it was asked; 3: the connection has ended. */
    static int scoop_tcp_state(int fd, unsigned long long lease_ms)
    {
        struct tcp_info info;
        socklen_t size = sizeof(info);
        memset(&info, 0, sizeof(info));
        if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) < 0 || info.tcpi_state != TCP_ESTABLISHED)
            return 3;
        /* One that is unanswered may be on its way. */
        if (info.tcpi_probes + info.tcpi_retransmits >= 2 && info.tcpi_last_ack_recv >= lease_ms)
            return 2;
        return 1;
    }
    """
    int scoop_ends(int fd, unsigned char *ends)
    int scoop_tcp_state(int fd, unsigned long long lease_ms)

cdef enum:
    NOTE_NS = 1000000000


cdef void link_note(link_t *link, zmq_msg_t *message, uint64_t now) noexcept nogil:
    cdef const char *found
    cdef unsigned char[64] ends
    cdef int fd
    if link.fd and now - link.noted_ns < NOTE_NS:
        return
    found = api.msg_gets(message, b"__fd")
    if found == NULL:
        return
    fd = atoi(found)
    # A message may outlive its connection: then the descriptor is another's already, or nobody's.
    if fd <= 0 or scoop_ends(fd, ends) < 0:
        return
    link.fd = fd
    link.noted_ns = now
    memcpy(link.ends, ends, 64)


cdef int link_state(const link_t *link, uint64_t lease_ms) noexcept nogil:
    cdef unsigned char[64] ends
    if link.fd == 0:
        return LINK_UNKNOWN
    if scoop_ends(link.fd, ends) < 0 or memcmp(ends, link.ends, 64) != 0:
        return LINK_DOWN
    return scoop_tcp_state(link.fd, lease_ms)
