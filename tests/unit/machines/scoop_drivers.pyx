"""Feeds frames to a Broker without a socket and to a Desk without a broker; opens the door to libzmq.

For tests only.
"""

from libc.stdint cimport uint64_t

from scoop._core.broker cimport Broker
from scoop._core.desk cimport Desk
from scoop._core.gateway cimport Gateway
from scoop._core.libzmq cimport zmq_msg_t
from scoop._core.net cimport (
    Socket, fd_close, message_close, message_data, message_init, message_size, now_ns, poll_for, timer_arm, timer_new,
    timer_wait, wake_clear, wake_new, wake_set)
from scoop._core.node cimport MAY_RESUME, Node, W_SIGNAL, W_TIMEOUT
from scoop._core.wire cimport buf_free, buf_t, put_raw


cdef class BrokerHarness:
    """A Broker whose nodes exist only here; what it says to one of them can be read."""

    cdef readonly Broker broker

    def __cinit__(self):
        self.broker = Broker()
        self.broker.keep_frames = True

    def hello(self, incarnation, source=False): return self.broker.balance.on_hello(incarnation, source)
    def validate(self): self.broker.balance.validate()

    def feed(self, int slot, bytes frame):
        """A frame of a node: 0, or -1 where it was malformed."""
        cdef const char *data = frame
        cdef size_t size = len(frame)
        cdef int got
        with nogil:
            got = self.broker.feed(slot, data, size)
        return got

    def stranger(self, peer, bytes frame):
        """A frame of a peer that has not said hello."""
        self.broker._hello(peer, frame, len(frame))

    def settle(self):
        """Match and carry out, as after each batch."""
        with nogil:
            self.broker.settle()

    def heard(self, int slot):
        """What the broker has for this node since the last time."""
        cdef buf_t into
        into.data = NULL
        into.size = 0
        into.cap = 0
        try:
            return into.data[:into.size] if self.broker.take_for(slot, &into) else b""
        finally:
            buf_free(&into)


cdef class _Gateway(Gateway):
    # Without sockets: what it says stays in its buffers. Its clock stands still.

    cdef public uint64_t now_us

    cdef uint64_t _now_us(self) noexcept nogil:
        return self.now_us

    cdef int know(self, uint64_t number, str address, str meta, bytes key, int slot, bint neighbour) except -1:
        cdef bint fresh = number not in self.peers
        self.peers[number] = (address, meta, key)
        return fresh

    cdef int part(self, uint64_t number, int slot) except -1:
        self.peers.pop(number, None)
        return 0

    cdef void _send(self, int slot) noexcept nogil:
        pass

    cdef void _publish(self) noexcept nogil:
        pass


cdef class GatewayHarness(BrokerHarness):
    """The same for the broker of one host of several, which has peers."""

    def __cinit__(self, number=1):
        self.broker = _Gateway(None, number)
        self.wait(1)

    def wait(self, us):
        """Time passes, and it does what is due."""
        (<_Gateway>self.broker).now_us += us
        self.settle()

    def add_peer(self, number):
        """Its slot."""
        (<_Gateway>self.broker).add_peer(number, "", "", b"", True)
        return self.broker.balance.slot_of(number)

    def remove_peer(self, number): (<_Gateway>self.broker).remove_peer(number)

    def hint(self, bytes frame):
        """A frame on the meta socket."""
        (<_Gateway>self.broker)._on_hint(frame, len(frame))

    def validate(self):
        self.broker.balance.validate()
        (<_Gateway>self.broker).federation.validate()


cdef class DeskHarness:
    """A Desk that hears what a broker might say."""

    cdef readonly Desk desk

    def __cinit__(self, incarnation): self.desk = Desk(incarnation)

    def handle(self, bytes frame):
        """A frame of the broker: 0, or -1 where it was malformed."""
        cdef const char *data = frame
        cdef size_t size = len(frame)
        cdef int got
        with nogil:
            got = self.desk.handle(data, size, 1)
        return got

    def leave(self):
        """It is told to leave, and looks at once whether it holds anything."""
        with nogil:
            self.desk.begin_leaving()
            self.desk.leave_if_done()

    def said(self):
        """What it has put down for the broker since the last time."""
        text = self.desk.out.data[:self.desk.out.size] if self.desk.out.size else b""
        self.desk.out.size = 0
        return text


cdef extern from "signal.h" nogil:
    int raised "raise"(int)


def wait_after_signal(Node node, int number, deadline_us):
    """Wait for nothing right after a signal has come: whether the wait ended for it ("signal") or for the time.

    The signal arrives outside of any system call and of Python's interpreter, so nothing is interrupted by it.
    """
    cdef unsigned long long until = now_ns() + <unsigned long long>deadline_us * 1000
    cdef int reason
    with nogil:
        raised(number)
        reason = node.block(NULL, until, MAY_RESUME, False)
    return {W_SIGNAL: "signal", W_TIMEOUT: "timeout"}.get(reason, reason)


# -------------------------------------------------------------------------------------------- the door

cdef object _sent(Socket socket, peer, bytes data):
    cdef buf_t b
    cdef bytes name
    b.data = NULL
    b.size = 0
    b.cap = 0
    put_raw(&b, data, len(data))
    try:
        if peer is None:
            return socket.send(&b)
        name = (<object>peer).to_bytes(8, "little")
        return socket.send_to(name, 8, &b)
    finally:
        buf_free(&b)


def send(Socket socket, bytes data):
    """Send by a dealer; the return code."""
    return _sent(socket, None, data)


def send_to(Socket socket, peer, bytes data):
    """Send by a router; the return code."""
    return _sent(socket, peer, data)


def receive(Socket socket):
    """(peer, bytes) of the next message, or the return code if there is none."""
    cdef zmq_msg_t message
    cdef uint64_t peer = 0
    cdef int got
    message_init(&message)
    try:
        got = socket.receive(&message, &peer)
        return (peer, message_data(&message)[:message_size(&message)]) if got == 1 else got
    finally:
        message_close(&message)


def poll(Socket socket, int wake_fd, timeout_us):
    """The bits of poll_for; blocks without the GIL."""
    cdef void *handle = NULL if socket is None else socket.handle
    cdef long long limit = timeout_us
    cdef int got
    with nogil:
        got = poll_for(handle, wake_fd, limit)
    return got


def new_wake(): return wake_new()
def set_wake(int fd): wake_set(fd)
def clear_wake(int fd): wake_clear(fd)
def new_timer(): return timer_new()
def arm_timer(int fd, after_ns): timer_arm(fd, after_ns)
def wait_timer(int fd): return timer_wait(fd)
def close_fd(int fd): fd_close(fd)
def now(): return now_ns()
