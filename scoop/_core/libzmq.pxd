"""The prototypes and constants of libzmq's C API that scoop uses, as of libzmq 4.3.5. Nothing else.

The functions are reached through a table of pointers (see net.pyx), since the library is the one that
pyzmq ships and no header of it is at hand when scoop is built.
"""

from libc.stddef cimport size_t

cdef enum:
    ZMQ_PAIR = 0
    ZMQ_PUB = 1
    ZMQ_SUB = 2
    ZMQ_REP = 4
    ZMQ_DEALER = 5
    ZMQ_ROUTER = 6
    ZMQ_ROUTING_ID = 5
    ZMQ_SUBSCRIBE = 6
    ZMQ_LINGER = 17
    ZMQ_BACKLOG = 19
    ZMQ_MAXMSGSIZE = 22
    ZMQ_SNDHWM = 23
    ZMQ_RCVHWM = 24
    ZMQ_ROUTER_MANDATORY = 33
    ZMQ_PROBE_ROUTER = 51
    ZMQ_ROUTER_HANDOVER = 56
    ZMQ_LAST_ENDPOINT = 32
    ZMQ_RECONNECT_IVL_MAX = 21
    ZMQ_TCP_KEEPALIVE = 34
    ZMQ_TCP_KEEPALIVE_CNT = 35
    ZMQ_TCP_KEEPALIVE_IDLE = 36
    ZMQ_TCP_KEEPALIVE_INTVL = 37
    ZMQ_IPV6 = 42
    ZMQ_CURVE_SERVER = 47
    ZMQ_CURVE_PUBLICKEY = 48
    ZMQ_CURVE_SECRETKEY = 49
    ZMQ_CURVE_SERVERKEY = 50
    ZMQ_ZAP_DOMAIN = 55
    ZMQ_CONNECT_ROUTING_ID = 61
    ZMQ_HANDSHAKE_IVL = 66
    ZMQ_ZAP_ENFORCE_DOMAIN = 93
    ZMQ_EVENT_LISTENING = 8
    ZMQ_DONTWAIT = 1
    ZMQ_SNDMORE = 2
    ZMQ_POLLIN = 1
    ZMQ_IO_THREADS = 1
    ZMQ_MAX_SOCKETS = 2
    ETERM = 156384765

cdef struct zmq_msg_t:
    unsigned char[64] _
    # The union of libzmq is aligned as a pointer.
    void *_align[0]

cdef struct zmq_pollitem_t:
    void *socket
    int fd
    short events
    short revents

ctypedef void (*zmq_free_fn)(void *data, void *hint) noexcept nogil

cdef struct zmq_api_t:
    int (*version)(int *, int *, int *) noexcept nogil
    int (*zerrno)() noexcept nogil
    const char *(*strerror)(int) noexcept nogil
    void *(*ctx_new)() noexcept nogil
    int (*ctx_set)(void *, int, int) noexcept nogil
    int (*ctx_term)(void *) noexcept nogil
    int (*ctx_shutdown)(void *) noexcept nogil
    void *(*socket)(void *, int) noexcept nogil
    int (*close)(void *) noexcept nogil
    int (*setsockopt)(void *, int, const void *, size_t) noexcept nogil
    int (*getsockopt)(void *, int, void *, size_t *) noexcept nogil
    int (*bind)(void *, const char *) noexcept nogil
    int (*connect)(void *, const char *) noexcept nogil
    int (*disconnect)(void *, const char *) noexcept nogil
    int (*msg_init)(zmq_msg_t *) noexcept nogil
    int (*msg_init_size)(zmq_msg_t *, size_t) noexcept nogil
    int (*msg_init_data)(zmq_msg_t *, void *, size_t, zmq_free_fn, void *) noexcept nogil
    int (*msg_send)(zmq_msg_t *, void *, int) noexcept nogil
    int (*msg_recv)(zmq_msg_t *, void *, int) noexcept nogil
    int (*msg_close)(zmq_msg_t *) noexcept nogil
    void *(*msg_data)(zmq_msg_t *) noexcept nogil
    size_t (*msg_size)(const zmq_msg_t *) noexcept nogil
    int (*msg_more)(const zmq_msg_t *) noexcept nogil
    int (*send)(void *, const void *, size_t, int) noexcept nogil
    int (*poll)(zmq_pollitem_t *, int, long) noexcept nogil
    const char *(*msg_gets)(const zmq_msg_t *, const char *) noexcept nogil
    int (*curve_keypair)(char *, char *) noexcept nogil
    unsigned char *(*z85_decode)(unsigned char *, const char *) noexcept nogil
    char *(*z85_encode)(char *, const unsigned char *, size_t) noexcept nogil
    int (*curve_public)(char *, const char *) noexcept nogil
    int (*socket_monitor)(void *, const char *, int) noexcept nogil
