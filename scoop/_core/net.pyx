"""The door to libzmq and to the few system calls of the drivers.

libzmq is the one inside pyzmq's wheel. Its extension module is opened by path, without importing the Python
package `zmq` (which costs 25 ms and some megabytes in every worker); a later `import zmq` finds the same
library already mapped, so contexts and sockets can be shared with it.
"""

import glob
import importlib.util
import os
import sys

from libc.errno cimport EAGAIN, EBADF, EHOSTUNREACH, EINTR, errno
from libc.stdlib cimport free
from libc.string cimport memcpy
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec
from posix.unistd cimport close, read, write

from scoop._core.libzmq cimport (
    ETERM, ZMQ_DEALER, ZMQ_DONTWAIT, ZMQ_IO_THREADS, ZMQ_LAST_ENDPOINT, ZMQ_LINGER,
    ZMQ_MAX_SOCKETS, ZMQ_PAIR, ZMQ_POLLIN, ZMQ_PROBE_ROUTER, ZMQ_PUB, ZMQ_RCVHWM, ZMQ_REP, ZMQ_ROUTER,
    ZMQ_ROUTER_HANDOVER, ZMQ_ROUTER_MANDATORY, ZMQ_ROUTING_ID, ZMQ_SNDHWM, ZMQ_SNDMORE, ZMQ_SUB, zmq_api_t,
    zmq_pollitem_t)

from scoop.errors import ForkedProcess, TransportError

cdef extern from "dlfcn.h" nogil:
    void *dlopen(const char *, int)
    void *dlsym(void *, const char *)
    const char *dlerror()
    int RTLD_NOW, RTLD_LOCAL

cdef extern from "sys/eventfd.h" nogil:
    int eventfd(unsigned int, int)
    int EFD_NONBLOCK, EFD_CLOEXEC

cdef extern from "sys/timerfd.h" nogil:
    struct itimerspec:
        timespec it_interval
        timespec it_value
    int timerfd_create(int, int)
    int timerfd_settime(int, int, const itimerspec *, itimerspec *)
    int TFD_CLOEXEC

cdef extern from "signal.h" nogil:
    ctypedef struct sigset_t:
        pass
    int sigfillset(sigset_t *)
    int SIG_BLOCK

cdef extern from "pthread.h" nogil:
    int pthread_sigmask(int, const sigset_t *, sigset_t *)

cdef zmq_api_t api

# The oldest libzmq whose behaviour the study measured.
LIBZMQ_VERSION_MIN = (4, 3, 4)


# ------------------------------------------------------------------------------------- finding libzmq

def _library_path():
    """The file of pyzmq's extension module, found without importing the package."""
    loaded = sys.modules.get("zmq.backend.cython._zmq")
    if loaded is not None:
        return loaded.__file__
    spec = importlib.util.find_spec("zmq")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        found = glob.glob(os.path.join(glob.escape(folder), "backend", "cython", "_zmq*.so"))
        if found:
            return found[0]
    raise ImportError("scoop needs pyzmq with its compiled backend: pip install pyzmq")


def _load():
    # The table is filled by name so that a missing function is named in the error.
    cdef void *library
    cdef void **slots = <void **>&api
    cdef int major = 0, minor = 0, patch = 0, i
    path = os.fsencode(_library_path())
    library = dlopen(path, RTLD_NOW | RTLD_LOCAL)
    if library == NULL:
        raise ImportError(f"cannot open {os.fsdecode(path)}: {(<bytes>dlerror()).decode()}")
    names = ("version", "errno", "strerror", "ctx_new", "ctx_set", "ctx_term", "ctx_shutdown", "socket", "close",
             "setsockopt", "getsockopt", "bind", "connect", "disconnect", "msg_init", "msg_init_size", "msg_init_data",
             "msg_send", "msg_recv", "msg_close", "msg_data", "msg_size", "msg_more", "send", "poll", "msg_gets",
             "curve_keypair", "z85_decode", "z85_encode", "curve_public", "socket_monitor")
    for i, name in enumerate(names):
        slots[i] = dlsym(library, b"zmq_" + name.encode())
        if slots[i] == NULL:
            raise ImportError(f"{os.fsdecode(path)} has no function zmq_{name}: scoop needs pyzmq 26 or later")
    api.version(&major, &minor, &patch)
    if (major, minor, patch) < LIBZMQ_VERSION_MIN:
        raise ImportError(f"scoop needs libzmq {LIBZMQ_VERSION_MIN} or later, {path!r} has {(major, minor, patch)}")
    return major, minor, patch


LIBZMQ_VERSION = _load()


cdef int check_rc(int rc, str operation, str endpoint) except -1:
    # The only road from libzmq's errno to an exception.
    cdef int code
    if rc >= 0:
        return rc
    code = api.zerrno()
    raise TransportError(code, f"{operation} {endpoint}: {(<bytes>api.strerror(code)).decode()}")


# ------------------------------------------------------------------------------- contexts and sockets

cdef bint left_open = False


def leave_open():
    """Let sockets and contexts that are collected be: somebody has closed their descriptors, and libzmq would abort."""
    global left_open
    left_open = True


cdef class Context:
    """A libzmq context with one I/O thread. Close it, or it is closed when the last socket is gone."""

    def __cinit__(self, int sockets_max=65000):
        self.pid = os.getpid()
        self.handle = api.ctx_new()
        if self.handle == NULL:
            raise MemoryError("libzmq could not make a context")
        api.ctx_set(self.handle, ZMQ_IO_THREADS, 1)
        api.ctx_set(self.handle, ZMQ_MAX_SOCKETS, sockets_max)

    def close(self):
        """End the context. Blocks until messages of its closed sockets are sent, at most their linger."""
        cdef void *handle = self.handle
        self.handle = NULL
        if handle != NULL and self.pid == os.getpid():
            with nogil:
                while api.ctx_term(handle) < 0 and api.zerrno() == EINTR:
                    pass

    def __dealloc__(self):
        # A forked child has none of the context's threads; closing there would wait for ever.
        if self.handle != NULL and self.pid == os.getpid() and not left_open:
            api.ctx_term(self.handle)


cdef dict KINDS = {"router": ZMQ_ROUTER, "dealer": ZMQ_DEALER, "pub": ZMQ_PUB, "sub": ZMQ_SUB, "rep": ZMQ_REP,
                   "pair": ZMQ_PAIR}


cdef class Socket:
    """One socket of libzmq, owned by whoever made it.

    Args:
        context: the context, kept alive by the socket.
        kind: "router", "dealer", "pub", "sub", "rep" or "pair".
        identity: for a dealer or router that connects, the 8 bytes by which a router knows it.
        linger_ms: how long closing may wait for unsent messages.
    """

    def __cinit__(self, Context context not None, str kind, bytes identity=b"", int linger_ms=1000):
        cdef int zero = 0, one = 1
        self.pid = os.getpid()
        self.context = context
        self.endpoint = ""
        if context.handle == NULL or context.pid != self.pid:
            raise ForkedProcess("this process was forked from one that uses scoop; start scoop before forking, "
                                "or run the program that needs it as a process of its own")
        self.handle = api.socket(context.handle, KINDS[kind])
        if self.handle == NULL:
            check_rc(-1, "socket", kind)
        context.sockets += 1
        # Queues are bounded by credits, not by dropping: no high-water mark (reliability study, 0.2).
        api.setsockopt(self.handle, ZMQ_SNDHWM, &zero, sizeof(int))
        api.setsockopt(self.handle, ZMQ_RCVHWM, &zero, sizeof(int))
        api.setsockopt(self.handle, ZMQ_LINGER, &linger_ms, sizeof(int))
        if kind == "router":
            api.setsockopt(self.handle, ZMQ_ROUTER_MANDATORY, &one, sizeof(int))
            api.setsockopt(self.handle, ZMQ_ROUTER_HANDOVER, &one, sizeof(int))
        if identity:
            check_rc(api.setsockopt(self.handle, ZMQ_ROUTING_ID, <const char *>identity, len(identity)),
                     "set identity", kind)

    cdef int set_number(self, int option, int value) except -1:
        return check_rc(api.setsockopt(self.handle, option, &value, sizeof(int)), f"option {option}", self.endpoint)

    cdef int set_bytes(self, int option, bytes value) except -1:
        return check_rc(api.setsockopt(self.handle, option, <const char *>value, len(value)), f"option {option}",
                        self.endpoint)

    def announce(self):
        """Have a router send an empty frame on each connection that begins; before `bind`.

        It tells whoever connects again that this may be another process, and that what was on its way may be lost.
        """
        self.set_number(ZMQ_PROBE_ROUTER, 1)

    def bind(self, str endpoint not None):
        """Listen at `endpoint`; raises TransportError naming it."""
        cdef char text[256]
        cdef size_t size = sizeof(text)
        check_rc(api.bind(self.handle, endpoint.encode()), "bind", endpoint)
        check_rc(api.getsockopt(self.handle, ZMQ_LAST_ENDPOINT, text, &size), "endpoint of", endpoint)
        self.endpoint = text[:size - 1].decode()

    def connect(self, str endpoint not None):
        """Connect to `endpoint`; returns at once, libzmq connects and connects again in the background."""
        check_rc(api.connect(self.handle, endpoint.encode()), "connect", endpoint)
        self.endpoint = endpoint

    def disconnect(self, str endpoint not None):
        """Give up what `connect` was given; does nothing where there is no such connection."""
        api.disconnect(self.handle, endpoint.encode())

    def close(self):
        """Close the socket; safe to call twice, and in a forked child where it does nothing."""
        cdef void *handle = self.handle
        self.handle = NULL
        if handle != NULL and self.pid == os.getpid():
            api.close(handle)
            self.context.sockets -= 1

    def __dealloc__(self):
        if self.handle != NULL and self.pid == os.getpid() and not left_open:
            api.close(self.handle)

    cdef int send(self, buf_t *b) noexcept nogil:
        return _send_frame(self.handle, b)

    cdef int send_to(self, const char *peer, size_t peer_size, buf_t *b) noexcept nogil:
        while api.send(self.handle, peer, peer_size, ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0:
            if api.zerrno() != EINTR:
                return -2 if api.zerrno() == EHOSTUNREACH else -3 if api.zerrno() == ETERM else -1
        return _send_frame(self.handle, b)

    cdef int receive(self, zmq_msg_t *message, uint64_t *peer) noexcept nogil:
        cdef int rc, frames = 0
        while True:
            rc = api.msg_recv(message, self.handle, ZMQ_DONTWAIT)
            if rc >= 0:
                if not api.msg_more(message):
                    return 1
                # The first frame at a ROUTER is libzmq's own name of the sender; ours have 8 bytes. A sender that
                # adds frames of its own would speak in another's name: it is a stranger.
                frames += 1
                peer[0] = 0
                if frames == 1 and api.msg_size(message) == 8:
                    memcpy(peer, api.msg_data(message), 8)
            elif api.zerrno() == EAGAIN:
                return 0
            elif api.zerrno() != EINTR:
                return -3


cdef void _free_buffer(void *data, void *hint) noexcept nogil:
    # Called by libzmq's own thread: no GIL, no Python object.
    free(data)


cdef int _send_frame(void *handle, buf_t *b) noexcept nogil:
    # Small frames are copied into the message (cheaper than the bookkeeping), large ones lent.
    cdef zmq_msg_t message
    if b.size <= 1024:
        if api.msg_init_size(&message, b.size) < 0:
            return -1
        memcpy(api.msg_data(&message), b.data, b.size)
        b.size = 0
    else:
        api.msg_init_data(&message, b.data, b.size, _free_buffer, NULL)
        b.data = NULL
        b.size = 0
        b.cap = 0
    while api.msg_send(&message, handle, ZMQ_DONTWAIT) < 0:
        if api.zerrno() != EINTR:
            api.msg_close(&message)
            return -2 if api.zerrno() == EHOSTUNREACH else -3 if api.zerrno() == ETERM else -1
    return 0


cdef void message_init(zmq_msg_t *message) noexcept nogil:
    api.msg_init(message)


cdef void message_close(zmq_msg_t *message) noexcept nogil:
    api.msg_close(message)


cdef const char *message_data(zmq_msg_t *message) noexcept nogil:
    return <const char *>api.msg_data(message)


cdef size_t message_size(zmq_msg_t *message) noexcept nogil:
    return api.msg_size(message)


# ------------------------------------------------------------------------------ waiting and being woken

cdef int poll_for(void *socket, int wake_fd, int64_t timeout_us) noexcept nogil:
    cdef zmq_pollitem_t items[2]
    cdef int count = 1, rc
    cdef long timeout_ms = -1
    if timeout_us >= 0:
        timeout_ms = <long>((timeout_us + 999) // 1000)
    items[0].socket = NULL
    items[0].fd = wake_fd
    items[0].events = ZMQ_POLLIN
    items[0].revents = 0
    if socket != NULL:
        items[1].socket = socket
        items[1].fd = 0
        items[1].events = ZMQ_POLLIN
        items[1].revents = 0
        count = 2
    rc = api.poll(items, count, timeout_ms)
    if rc < 0:
        return -1 if api.zerrno() == EINTR else -3
    rc = 0
    if items[0].revents:
        rc |= 2
    if count == 2 and items[1].revents:
        rc |= 1
    return rc


cdef int poll_all(zmq_pollitem_t *items, int count, int64_t timeout_us) noexcept nogil:
    cdef int rc = api.poll(items, count, -1 if timeout_us < 0 else <long>((timeout_us + 999) // 1000))
    if rc < 0:
        return -1 if api.zerrno() == EINTR else -3
    return rc


cdef uint64_t now_ns() noexcept nogil:
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC, &t)
    return <uint64_t>t.tv_sec * 1000000000 + <uint64_t>t.tv_nsec


cdef int _checked_fd(int fd, str what) except -1:
    if fd < 0:
        raise TransportError(errno, f"{what}: {os.strerror(errno)}")
    return fd


cdef int wake_new() except -1:
    return _checked_fd(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), "eventfd")


cdef int wake_set(int fd) noexcept nogil:
    cdef uint64_t one = 1
    return -1 if write(fd, &one, 8) < 0 and errno == EBADF else 0


cdef void wake_clear(int fd) noexcept nogil:
    cdef uint64_t count
    read(fd, &count, 8)


cdef int timer_new() except -1:
    return _checked_fd(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC), "timerfd_create")


cdef void timer_arm(int fd, uint64_t after_ns) noexcept nogil:
    cdef itimerspec t
    t.it_interval.tv_sec = 0
    t.it_interval.tv_nsec = 0
    t.it_value.tv_sec = after_ns // 1000000000
    t.it_value.tv_nsec = after_ns % 1000000000
    timerfd_settime(fd, 0, &t, NULL)


cdef int timer_wait(int fd) noexcept nogil:
    # Blocks until the timer fires; -1 when the descriptor is gone.
    cdef uint64_t count
    while read(fd, &count, 8) < 0:
        if errno != EINTR:
            return -1
    return 0


cdef void fd_close(int fd) noexcept nogil:
    if fd >= 0:
        close(fd)


cdef void block_signals() noexcept nogil:
    cdef sigset_t all_signals
    sigfillset(&all_signals)
    pthread_sigmask(SIG_BLOCK, &all_signals, NULL)
