"""Who leads in a process, and what a turn of the crank is.

One thread at a time leads: it alone polls and uses the sockets, and in the origin it also runs the broker. A
main thread that waits leads itself, so a round trip crosses no thread of ours. While the main thread runs user
code nobody leads, until after `TAKEOVER_NS` the driver thread, which never needs the GIL, wakes and leads; short
tasks therefore cost no thread switch, and long ones do not make the process deaf. See docs/adr/0001.
"""

import os

from libc.string cimport strlen
from posix.unistd cimport _exit, write

from scoop._core.desk cimport (
    pthread_mutex_destroy, pthread_mutex_init, pthread_mutex_lock, pthread_mutex_trylock, pthread_mutex_unlock)
from scoop._core.store cimport AT_ANSWERED, AT_ROUTED, AT_SENT, STALL_NS
from scoop._core.libzmq cimport zmq_msg_t
from scoop._core.links cimport link_note, link_state
from scoop._core.net cimport (
    block_signals, fd_close, message_close, message_data, message_init, message_size, now_ns, poll_for,
    timer_arm, timer_new, timer_wait, wake_clear, wake_new, wake_set)
from scoop._core.wire cimport buf_free

cdef extern from "pthread.h" nogil:
    unsigned long pthread_self()

cdef extern from * nogil:
    """
    #define scoop_fence() __sync_synchronize()
    """
    void scoop_fence()

cdef enum:
    EX_OSERR = 71
    MESSAGES_PER_TURN = 256
    TAKEOVER_NS = 4000000           # a process must give its surplus away within 10 ms (design, section 4)


cdef class Lead:
    """One process as a node, and the thread that leads it.

    Args:
        desk: its state.
        broker: the broker in this process, or None.
        socket: the connected DEALER to the broker elsewhere, or None.
    """

    def __cinit__(self, Desk desk not None, Broker broker=None, Socket socket=None):
        self.wake_fd = -1
        self.timer_fd = -1
        self.desk = desk
        self.broker = broker
        self.socket = socket
        self.pid = os.getpid()
        self.main_thread = pthread_self()
        self.spins = len(os.sched_getaffinity(0)) > 1
        pthread_mutex_init(&self.lead, NULL)
        self.wake_fd = wake_new()
        self.wake_place = os.fstat(self.wake_fd)[1:3]
        self.timer_fd = timer_new()
        if broker is not None:
            broker.local = broker.balance.on_hello(desk.incarnation, True)
            desk.is_source = True

    def __dealloc__(self):
        fd_close(self.wake_fd)
        fd_close(self.timer_fd)
        buf_free(&self.local_in)
        buf_free(&self.outgoing)
        pthread_mutex_destroy(&self.lead)

    cdef bint is_main(self) noexcept nogil:
        return pthread_self() == self.main_thread

    # ------------------------------------------------------------------------------------------- turns

    cdef int turn(self, int64_t timeout_us) noexcept nogil:
        # One turn of the crank, by whoever leads. Returns -1 when a signal interrupted the poll.
        cdef int rc, rounds = 0
        cdef uint64_t now
        cdef void *handle = NULL
        if self.socket is not None:
            handle = self.socket.handle
        elif self.broker is not None and self.broker.socket is not None:
            handle = self.broker.socket.handle
        if timeout_us != 0:
            self.sleeping = True
            scoop_fence()
            # What was put down before the flag was seen is ours to notice.
            if self.desk.out.size or self.posted != NULL or self.stopping or (
                    self.desk.want_us > 0 and self.desk.queue.own_count):
                timeout_us = 0
        rc = poll_for(handle, self.wake_fd, timeout_us)
        self.sleeping = False
        if rc > 0 and rc & 2:
            wake_clear(self.wake_fd)
            self.woken = False
        now = now_ns()
        if rc > 0 and rc & 1:
            self._receive(now)
        if self.posted != NULL:
            pthread_mutex_lock(&self.desk.lock)
            self.broker.lost = self.posted
            self.posted = NULL
            pthread_mutex_unlock(&self.desk.lock)
        if self.desk.ledger.open.count and timeout_us != 0:
            self.desk.ask_stalled(now)
        self.desk.tell_surplus(self.driver_leads or self.only_waits)
        self._flush(now)
        # A broker in this process may answer at once, and the answer may call for another one.
        while self.broker is not None and rounds < 8:
            self.broker.settle()
            self.desk.stamp(AT_SENT)
            if not self.broker.take_for(self.broker.local, &self.local_in):
                break
            self.desk.handle(self.local_in.data, self.local_in.size, now)
            self._flush(now)
            rounds += 1
        return -1 if rc == -1 else 0

    cdef void _receive(self, uint64_t now) noexcept nogil:
        cdef zmq_msg_t message
        cdef uint64_t peer
        cdef int got = 1, count = 0
        if self.broker is not None:
            self.broker.receive(MESSAGES_PER_TURN)
            return
        while got == 1 and count < MESSAGES_PER_TURN:
            message_init(&message)
            got = self.socket.receive(&message, &peer)
            if got == 1:
                self.desk.handle(message_data(&message), message_size(&message), now)
                if self.watched:
                    link_note(&self.link, &message, now)
                count += 1
            message_close(&message)

    cdef void _flush(self, uint64_t now) noexcept nogil:
        cdef buf_t swap
        if self.desk.want_us > 0:
            self.desk.export_wanted()
        if self.desk.out.size == 0:
            return
        pthread_mutex_lock(&self.desk.lock)
        swap = self.desk.out
        self.desk.out = self.outgoing
        self.desk.out.size = 0
        self.desk.out_since_ns = 0
        pthread_mutex_unlock(&self.desk.lock)
        self.outgoing = swap
        if self.broker is not None:
            self.broker.feed(self.broker.local, self.outgoing.data, self.outgoing.size)
            self.desk.stamp(AT_ROUTED)
        elif self.socket is not None:
            self.socket.send(&self.outgoing)
            self.desk.stamp(AT_ANSWERED)
        self.outgoing.size = 0

    # ------------------------------------------------------------------------------------ who leads

    cdef void _take_lead(self) noexcept nogil:
        if pthread_mutex_trylock(&self.lead) == 0:
            return
        self.lead_wanted += 1
        scoop_fence()
        if wake_set(self.wake_fd) < 0:
            self._cut_off()
        pthread_mutex_lock(&self.lead)
        self.lead_wanted -= 1

    cdef void _cut_off(self) noexcept nogil:
        # User code has closed every descriptor: whoever leads cannot be woken, and nothing can be sent. The process
        # ends; of a worker the agent sees what it was running.
        cdef const char *text = b"scoop: this process has closed all descriptors, and cannot go on without its own\n"
        write(2, text, strlen(text))
        _exit(EX_OSERR)

    cdef void _leave_lead(self) noexcept nogil:
        self.left_ns = now_ns()
        pthread_mutex_unlock(&self.lead)
        if not self.timer_armed:
            self.timer_armed = True
            timer_arm(self.timer_fd, TAKEOVER_NS)

    cdef void hurry(self) noexcept nogil:
        scoop_fence()
        if self.sleeping:
            if not self.woken:
                self.woken = True
                wake_set(self.wake_fd)
        elif not self.driver_leads and pthread_mutex_trylock(&self.lead) == 0:
            # Nobody leads. Send once from here, which costs no thread switch; in a burst the driver helps.
            if self.hurried or not self.is_main():
                pthread_mutex_unlock(&self.lead)
                self.timer_armed = True
                self.left_ns = 0
                timer_arm(self.timer_fd, 1)
            else:
                self.hurried = True
                self.turn(0)
                self._leave_lead()

    @property
    def welcomed(self):
        """Whether the broker has answered."""
        return bool(self.desk.welcomed)

    @property
    def cut_off(self):
        """Whether the descriptors of this process have been closed by somebody else, so that nobody hears it."""
        try:
            return os.fstat(self.wake_fd)[1:3] != self.wake_place   # the number may be another file's by now
        except OSError:
            return True

    @property
    def stopped(self):
        """Whether the broker has said that the job is over."""
        return self.desk.stopped

    def link_state(self, double lease_s):
        """What has become of the connection to the broker, if `watched`: see `scoop._core.links`.

        Args:
            lease_s: how long its host may leave the kernel's questions unanswered.

        Returns:
            0: not known, 1: it stands, 2: unanswered for so long, 3: it has ended.
        """
        return link_state(&self.link, <uint64_t>(lease_s * 1000))

    def drive(self):
        """Body of the driver thread: leads whenever the main thread does not. Blocks until `stop`."""
        cdef uint64_t since
        with nogil:
            block_signals()
            while not self.stopping:
                if timer_wait(self.timer_fd) < 0:
                    break
                self.timer_armed = False
                if self.stopping:
                    break
                since = now_ns() - self.left_ns
                if since < TAKEOVER_NS:
                    self.timer_armed = True
                    timer_arm(self.timer_fd, TAKEOVER_NS - since)
                    continue
                if pthread_mutex_trylock(&self.lead) != 0:
                    continue            # whoever leads arms the timer when it leaves
                self.driver_leads = True
                while not self.stopping and not self.lead_wanted:
                    self.turn(STALL_NS // 1000 if self.desk.ledger.open.count else -1)
                self.driver_leads = False
                pthread_mutex_unlock(&self.lead)
