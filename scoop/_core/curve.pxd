"""CURVE on TCP: key pairs, and the gate that decides whose connection is taken (ZAP, ZeroMQ RFC 27)."""

from libc.stdint cimport uint64_t

from scoop._core.libzmq cimport zmq_msg_t
from scoop._core.net cimport Context, Socket
from scoop._core.table cimport table_t

# A key that may connect, and the one name that its peer may use.
cdef struct allowed_t:
    allowed_t *next         # with the same first bytes
    char key[32]
    uint64_t name
    bint block              # any name with the same upper half

cdef class Keys:
    cdef readonly bytes public
    cdef bytes _secret
    cdef int guard(self, Socket socket) except -1
    cdef int present(self, Socket socket, bytes server_key) except -1

cdef class Gate:
    cdef readonly Socket socket
    cdef table_t allowed
    cdef object unknown             # called with the hex of a key that is not allowed (yet), or None
    cdef readonly uint64_t granted
    cdef readonly uint64_t denied
    # Answers all requests that wait. Called by the thread that polls, without the GIL.
    cdef void answer(self) noexcept nogil
    cdef allowed_t *_allow(self, bytes key, uint64_t name) except NULL
    cdef allowed_t *_find(self, const char *key) noexcept nogil
    cdef int _ask(self, const char *key) noexcept nogil
    cdef int _reply(self, zmq_msg_t *frames, int count) noexcept nogil

cdef class Porter:
    cdef readonly int listening     # the descriptor at which libzmq listens, which stays libzmq's
    cdef int port
    cdef uint64_t rest_ns           # nothing is looked for before this time
    cdef readonly uint64_t sent_away
    cdef void look(self, uint64_t now) noexcept nogil
    cdef int _send_away(self) noexcept nogil

# Whether a message came from the peer that its key names (1), or from one of the block that it names (2): nobody
# takes another's address.
cdef int is_from(zmq_msg_t *message, uint64_t name) noexcept nogil
