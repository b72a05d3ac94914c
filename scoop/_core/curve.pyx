"""CURVE on TCP: key pairs, and the gate that decides whose connection is taken (ZAP, ZeroMQ RFC 27).

libzmq encrypts and proves; whom to take is asked here, through the one ZAP handler of a context. Without a handler
libzmq takes everybody who knows the server's public key, unless a domain is set and enforced; both are, so a gate that
is missing closes the door instead of opening it. A key may use one name only: libzmq attaches the name that the
gate has answered to each message of the connection, where `is_from` finds it. Who has not proved a key yet costs a
descriptor for some seconds, and nothing else: see `Porter` for what happens when there is none left.
"""

import hashlib
import os

from libc.errno cimport EMFILE, ENFILE, errno
from libc.stdint cimport int32_t, int64_t, uint16_t, uint64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, strlen
from posix.unistd cimport close, dup

from scoop._core.libzmq cimport (
    ZMQ_BACKLOG, ZMQ_CURVE_PUBLICKEY, ZMQ_CURVE_SECRETKEY, ZMQ_CURVE_SERVER, ZMQ_CURVE_SERVERKEY, ZMQ_DONTWAIT,
    ZMQ_EVENT_LISTENING, ZMQ_HANDSHAKE_IVL, ZMQ_MAXMSGSIZE, ZMQ_SNDMORE, ZMQ_TCP_KEEPALIVE, ZMQ_TCP_KEEPALIVE_CNT,
    ZMQ_TCP_KEEPALIVE_IDLE, ZMQ_TCP_KEEPALIVE_INTVL, ZMQ_ZAP_DOMAIN, ZMQ_ZAP_ENFORCE_DOMAIN)
from scoop._core.net cimport api, check_rc
from scoop._core.table cimport table_free, table_get, table_put

cdef extern from "sys/socket.h" nogil:
    struct sockaddr:
        pass
    struct sockaddr_storage:
        int ss_family
    ctypedef unsigned int socklen_t
    int getsockname(int, sockaddr *, socklen_t *)
    int getsockopt(int, int, int, void *, socklen_t *)
    int shutdown(int, int)
    int AF_INET, AF_INET6, SHUT_RDWR

cdef extern from "netinet/in.h" nogil:
    uint16_t ntohs(uint16_t)
    int IPPROTO_TCP

cdef extern from "linux/tcp.h" nogil:
    struct tcp_info:
        uint64_t tcpi_bytes_received
    int TCP_INFO

cdef extern from "sys/resource.h" nogil:
    ctypedef unsigned long rlim_t
    struct rlimit:
        rlim_t rlim_cur
    int getrlimit(int, rlimit *)
    int RLIMIT_NOFILE

cdef enum:
    KEY_BYTES = 32
    FRAMES_MAX = 8
    HANDSHAKE_MS = 5000         # a silent connection holds a descriptor no longer than this
    BACKLOG = 1024              # hosts that come at once, and strangers, do not keep each other waiting
    PROVED_BYTES = 400          # a client's greeting and HELLO have 266 bytes, with its INITIATE more than 520
    REST_NS = 1000000000
    FD_MAX = 1 << 20
    QUIET_S = 10                # the kernel asks after the other host when it has said nothing for so long,
    ASK_S = 5                   # again and again; what no answer means is decided elsewhere (links.pyx)
    ASKS_MAX = 127
    BLOCK_DIGITS = 8            # of a name in hexadecimal: those that all names of a block share
    BLOCK_MARK = 16             # where a sign behind the name says that it is a block's

# One record is below 4 GiB, and records that travel with it fill a frame of 256 KiB at most.
MESSAGE_BYTES_MAX = (4 << 30) + (1 << 20)


cdef int _limit(Socket socket) except -1:
    cdef int64_t most = MESSAGE_BYTES_MAX
    socket.set_bytes(ZMQ_MAXMSGSIZE, (<char *>&most)[:sizeof(most)])
    socket.set_number(ZMQ_HANDSHAKE_IVL, HANDSHAKE_MS)
    socket.set_number(ZMQ_TCP_KEEPALIVE, 1)
    socket.set_number(ZMQ_TCP_KEEPALIVE_IDLE, QUIET_S)
    socket.set_number(ZMQ_TCP_KEEPALIVE_INTVL, ASK_S)
    socket.set_number(ZMQ_TCP_KEEPALIVE_CNT, ASKS_MAX)
    return 0


cdef class Keys:
    """A CURVE key pair, each key as 40 characters of Z85.

    Args:
        public, secret: an existing pair; both empty, the default, makes a new one.
    """

    def __cinit__(self, bytes public=b"", bytes secret=b""):
        cdef char[41] made_public
        cdef char[41] made_secret
        cdef unsigned char[KEY_BYTES] raw
        if not public and not secret:
            check_rc(api.curve_keypair(made_public, made_secret), "curve_keypair", "")
            public, secret = made_public[:40], made_secret[:40]
        for key in (public, secret):
            if len(key) != 40 or api.z85_decode(raw, <const char *>key) == NULL:
                raise ValueError("a CURVE key is 40 characters of Z85")
        self.public = public
        self._secret = secret

    @property
    def secret(self):
        """The secret half; it leaves the process only into a file of mode 0600 that the user asked for."""
        return self._secret

    @staticmethod
    def derived(bytes seed not None, uint64_t index):
        """The key pair number `index` of a seed (any secret bytes): the same wherever it is made."""
        cdef char[41] public
        cdef char[41] secret
        cdef bytes raw = hashlib.blake2b(b"%d" % index, key=seed, digest_size=KEY_BYTES, person=b"scoop keys").digest()
        api.z85_encode(secret, <const unsigned char *><const char *>raw, KEY_BYTES)
        check_rc(api.curve_public(public, secret), "curve_public", "")
        return Keys(public[:40], secret[:40])

    cdef int guard(self, Socket socket) except -1:
        # The side that is connected to: it asks the gate about everybody.
        socket.set_number(ZMQ_CURVE_SERVER, 1)
        socket.set_bytes(ZMQ_CURVE_PUBLICKEY, self.public)
        socket.set_bytes(ZMQ_CURVE_SECRETKEY, self._secret)
        socket.set_bytes(ZMQ_ZAP_DOMAIN, b"scoop")
        socket.set_number(ZMQ_ZAP_ENFORCE_DOMAIN, 1)
        socket.set_number(ZMQ_BACKLOG, BACKLOG)
        _limit(socket)
        return 0

    cdef int present(self, Socket socket, bytes server_key) except -1:
        # The side that connects; for the connections made from now on.
        socket.set_bytes(ZMQ_CURVE_SERVERKEY, server_key)
        socket.set_bytes(ZMQ_CURVE_PUBLICKEY, self.public)
        socket.set_bytes(ZMQ_CURVE_SECRETKEY, self._secret)
        _limit(socket)
        return 0

    def secure(self, Socket socket not None, bytes server_key not None):
        """Let `socket` connect with these keys to whoever has `server_key`, from now on."""
        self.present(socket, server_key)


cdef class Gate:
    """Says who may connect to the guarded sockets of a context; by default nobody.

    Args:
        context: whose sockets it guards; one gate in each.
        unknown: called with a key (64 hex digits) that is not allowed, and may allow it; None: nobody is asked.
    """

    def __cinit__(self, Context context not None, object unknown=None):
        self.unknown = unknown
        self.socket = Socket(context, "rep", b"", 0)
        self.socket.bind("inproc://zeromq.zap.01")

    def __dealloc__(self):
        cdef size_t i
        cdef allowed_t *entry
        cdef allowed_t *following
        if self.allowed.mask:
            for i in range(self.allowed.mask + 1):
                entry = <allowed_t *>self.allowed.cells[i].value if self.allowed.cells[i].key else NULL
                while entry != NULL:
                    following = entry.next
                    free(entry)
                    entry = following
        table_free(&self.allowed)

    def allow(self, bytes key not None, uint64_t name):
        """Take connections with this public key (40 characters of Z85, or its 32 bytes), as `name` only."""
        self._allow(key, name).block = False

    def allow_block(self, bytes key not None, uint64_t name):
        """Take connections with this public key as any name that has the upper 32 bits of `name`: as agents only."""
        self._allow(key, name).block = True

    cdef allowed_t *_allow(self, bytes key, uint64_t name) except NULL:
        cdef unsigned char[KEY_BYTES] raw
        cdef uint64_t first
        cdef allowed_t *entry
        if len(key) == KEY_BYTES:
            memcpy(raw, <const char *>key, KEY_BYTES)
        elif len(key) != 40 or api.z85_decode(raw, <const char *>key) == NULL:
            raise ValueError("a CURVE key is 40 characters of Z85")
        entry = self._find(<const char *>raw)
        if entry == NULL:
            entry = <allowed_t *>calloc(1, sizeof(allowed_t))
            if entry == NULL:
                raise MemoryError
            memcpy(entry.key, raw, KEY_BYTES)
            memcpy(&first, raw, 8)
            entry.next = <allowed_t *>table_get(&self.allowed, first | 1)
            if table_put(&self.allowed, first | 1, entry) < 0:
                free(entry)
                raise MemoryError
        entry.name = name
        return entry

    cdef allowed_t *_find(self, const char *key) noexcept nogil:
        cdef uint64_t first
        cdef allowed_t *entry
        memcpy(&first, key, 8)
        entry = <allowed_t *>table_get(&self.allowed, first | 1)
        while entry != NULL and memcmp(entry.key, key, KEY_BYTES) != 0:
            entry = entry.next
        return entry

    cdef int _ask(self, const char *key) noexcept nogil:
        # Rare: a worker that was started by hand leaves its key where only this user can.
        with gil:
            if self.unknown is not None:
                try:
                    self.unknown(key[:KEY_BYTES].hex())
                except Exception as error:
                    import logging

                    logging.getLogger("scoop").warning("a key could not be looked up: %s", error)
        return 0

    cdef void answer(self) noexcept nogil:
        cdef zmq_msg_t[FRAMES_MAX] frames
        cdef int count, i
        cdef bint more
        while True:
            count = 0
            more = True
            while more and count < FRAMES_MAX:
                api.msg_init(&frames[count])
                if api.msg_recv(&frames[count], self.socket.handle, ZMQ_DONTWAIT) < 0:
                    api.msg_close(&frames[count])
                    more = False
                    if count == 0:
                        return
                    break
                more = api.msg_more(&frames[count]) != 0
                count += 1
            self._reply(frames, count)
            for i in range(count):
                api.msg_close(&frames[i])

    cdef int _reply(self, zmq_msg_t *frames, int count) noexcept nogil:
        # A request: version, id, domain, address, identity, mechanism, key.
        cdef allowed_t *entry = NULL
        cdef char[32] name
        cdef void *socket = self.socket.handle
        cdef int size = 0
        cdef const char *key
        if count == 7 and api.msg_size(&frames[6]) == KEY_BYTES:
            key = <const char *>api.msg_data(&frames[6])
            entry = self._find(key)
            if entry == NULL:
                self._ask(key)
                entry = self._find(key)
        if entry != NULL:
            size = snprintf(name, 32, "%016llx", <unsigned long long>entry.name)
            if entry.block:
                name[BLOCK_MARK] = c"+"
                size += 1
            self.granted += 1
        else:
            self.denied += 1
        api.send(socket, b"1.0", 3, ZMQ_SNDMORE)
        if count > 1:
            api.send(socket, api.msg_data(&frames[1]), api.msg_size(&frames[1]), ZMQ_SNDMORE)
        else:
            api.send(socket, b"", 0, ZMQ_SNDMORE)
        if entry != NULL:
            api.send(socket, b"200", 3, ZMQ_SNDMORE)
        else:
            api.send(socket, b"400", 3, ZMQ_SNDMORE)
        api.send(socket, b"", 0, ZMQ_SNDMORE)
        api.send(socket, name, <size_t>size, ZMQ_SNDMORE)
        return api.send(socket, b"", 0, 0)

    def close(self):
        """Close the gate: nobody is taken any more."""
        self.socket.close()


cdef class Porter:
    """Opens a guarded socket, and sends strangers away when this process has no descriptor left.

    libzmq's thread would try to accept the next one again and again, at the cost of a core, until its own limit closes
    the silent ones. Poll `listening` and call `look` when somebody waits there.

    Args:
        socket: the socket.
        endpoint: where it is to listen, ``tcp://host:port``.

    Raises:
        TransportError: it cannot be bound.
    """

    def __cinit__(self, Socket socket not None, str endpoint not None):
        cdef zmq_msg_t event
        cdef int32_t listening = -1
        cdef Socket news
        self.listening = -1
        if not endpoint.startswith("tcp:"):
            socket.bind(endpoint)       # a Unix socket in a private directory: no strangers come there
            return
        # Only its events tell which descriptor libzmq listens at. This one is sent by `bind` itself.
        place = f"inproc://bound-{os.urandom(8).hex()}"
        check_rc(api.socket_monitor(socket.handle, place.encode(), ZMQ_EVENT_LISTENING), "monitor", endpoint)
        news = Socket(socket.context, "pair", b"", 0)
        try:
            news.connect(place)
            socket.bind(endpoint)
            api.msg_init(&event)
            if api.msg_recv(&event, news.handle, ZMQ_DONTWAIT) == 6:
                memcpy(&listening, <char *>api.msg_data(&event) + 2, 4)
            api.msg_close(&event)
        finally:
            api.socket_monitor(socket.handle, NULL, 0)
            news.close()
        self.listening = listening
        self.port = int(socket.endpoint.rpartition(":")[2])

    cdef void look(self, uint64_t now) noexcept nogil:
        cdef int probe = dup(self.listening)
        if probe >= 0:
            close(probe)
        elif (errno == EMFILE or errno == ENFILE) and self._send_away() == 0:
            self.rest_ns = now + REST_NS        # all of them have proved a key: nothing can be done here

    cdef int _send_away(self) noexcept nogil:
        # All connections to this door that have not said enough to have proved a key.
        cdef rlimit limit
        cdef sockaddr_storage here
        cdef tcp_info info
        cdef socklen_t size
        cdef int fd, count = 0
        getrlimit(RLIMIT_NOFILE, &limit)
        for fd in range(3, <int>min(limit.rlim_cur, <rlim_t>FD_MAX)):
            size = sizeof(here)
            if fd == self.listening or getsockname(fd, <sockaddr *>&here, &size) < 0:
                continue
            if here.ss_family != AF_INET and here.ss_family != AF_INET6:
                continue
            if ntohs((<uint16_t *>&here)[1]) != self.port:
                continue
            size = sizeof(info)
            if getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) < 0 or info.tcpi_bytes_received >= PROVED_BYTES:
                continue
            if shutdown(fd, SHUT_RDWR) == 0:
                count += 1
        self.sent_away += count
        return count


cdef int is_from(zmq_msg_t *message, uint64_t name) noexcept nogil:
    cdef char[32] expected
    cdef const char *found = api.msg_gets(message, b"User-Id")
    if found == NULL:
        return False
    snprintf(expected, 32, "%016llx", <unsigned long long>name)
    if memcmp(found, expected, BLOCK_DIGITS) == 0 and strlen(found) == BLOCK_MARK + 1:
        return 2
    return memcmp(found, expected, BLOCK_MARK + 1) == 0


def to_hex(bytes key not None):
    """The 64 hex digits of a key of 40 characters of Z85: a name for files.

    Raises:
        ValueError: it is no key.
    """
    cdef unsigned char[KEY_BYTES] raw
    if len(key) != 40 or api.z85_decode(raw, <const char *>key) == NULL:
        raise ValueError("a CURVE key is 40 characters of Z85")
    return (<char *>raw)[:KEY_BYTES].hex()
