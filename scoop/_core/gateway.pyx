"""The broker of one host of a federation: the federation's part of each turn.

Hints decide nothing but whom to ask: what correctness needs travels by door and road (see roads.pyx).
"""

import os

from libc.stdint cimport int32_t, uint32_t
from libc.stdlib cimport free

from scoop._core.broker cimport Broker
from scoop._core.failover cimport holds_there
from scoop._core.libzmq cimport ZMQ_POLLIN, zmq_msg_t, zmq_pollitem_t
from scoop._core.net cimport message_close, message_data, message_init, message_size, now_ns, poll_all
from scoop._core.outbox cimport A_ASK, A_CREDIT, A_HINT, A_HOLD, A_REFUSE, A_SEND_TASK, action_t
from scoop._core.roads cimport WAY_DOOR, WAY_ROAD
from scoop._core.spin cimport spin_learn, spin_may
from scoop._core.wire cimport (
    F_ATTEMPT, F_ID, F_OWNER, F_TASK_EST, F_TASK_FLAGS, F_TASK_FN, F_TASK_FORM, F_TASK_HOPS, F_TASK_LINEAGE,
    F_TASK_PAYLOAD, K_ASK, K_HELLO, K_HINT, K_HOLD, K_LEAVE, K_LOAD, K_LOST, K_REFUSE, K_REQUEST, K_RESET, K_RESULT,
    K_STOP, K_SURPLUS, K_TASK, K_WELCOME, ROLE_AGENT, buf_free, next_record, put_record, put_task, reader_t)

cdef extern from "sched.h" nogil:
    int sched_yield()

cdef enum:
    MESSAGES_PER_SOCKET = 512
    SPIN_NS = 100000            # so long the next message is looked for before the broker sleeps


cdef class Gateway(Peers):
    """The broker of one host of a federation.

    Args:
        socket: a bound ROUTER for the processes of this host, or None if there are none.
        number: of this broker, from 1; each broker of a job has its own.
    """

    def __cinit__(self, Socket socket=None, uint64_t number=0):
        self.may_spin = len(os.sched_getaffinity(0)) > 1

    def __dealloc__(self):
        buf_free(&self.hint)

    def report_lost(self, uint64_t incarnation, uint64_t owner, uint64_t id, bytes detail not None):
        """A process of this host is dead; see `Node.report_lost`."""
        self._note_lost(incarnation, owner, id, detail)
        with nogil:
            self.settle()

    # ----------------------------------------------------------------------------------------- sending

    cdef void _pass_on(self, int slot, held_t *held) noexcept nogil:
        # To another broker, with one more hop.
        cdef reader_t reader
        cdef record_t r
        cdef uint64_t[1] left
        reader.data = held.data
        reader.size = held.size
        reader.pos = 0
        if next_record(&reader, &r) == 1:
            put_task(self.out_of(slot), r.num[F_OWNER], r.num[F_ID], <uint32_t>r.num[F_ATTEMPT],
                     <uint32_t>r.num[F_TASK_HOPS] + 1, <uint32_t>r.num[F_TASK_FLAGS], <uint32_t>r.num[F_TASK_FN],
                     r.num[F_TASK_EST], r.span[F_TASK_LINEAGE].data, r.span[F_TASK_FORM], r.span[F_TASK_PAYLOAD])
            if self.federation.on_given(slot, r.num[F_TASK_EST]):
                left[0] = <uint64_t>self.federation.left_tasks
                put_record(self.out_of(slot), K_LOAD, 1, left)
        free(held)

    cdef void _carry_far(self, action_t *x) noexcept nogil:
        cdef uint64_t[5] numbers
        numbers[0] = x.a
        numbers[1] = x.b
        numbers[2] = x.c
        numbers[3] = x.d
        numbers[4] = <uint64_t>x.slot
        if x.kind == A_SEND_TASK:
            self._pass_on(x.node, <held_t *>x.slot)
        elif x.kind == A_HOLD:
            put_record(self.out_of(x.node), K_HOLD, 5, numbers)
        elif x.kind == A_ASK:
            put_record(self.out_of(x.node), K_ASK, 2, numbers)
        elif x.kind == A_REFUSE:
            put_record(self.out_of(x.node), K_REFUSE, 3, numbers)
        elif x.kind == A_CREDIT:
            self.balance.on_ask(x.node, <int64_t>x.a, <int>x.b)
        elif x.kind == A_HINT:
            numbers[0] = self.number
            numbers[1] = x.c
            numbers[2] = x.a
            numbers[3] = x.b
            put_record(&self.hint, K_HINT, 4, numbers)
            self._publish()
            self.hint.size = 0

    cdef void _publish(self) noexcept nogil:
        self.meta.send(&self.hint)

    # --------------------------------------------------------------------------------------- receiving

    cdef void _receive_hints(self) noexcept nogil:
        cdef zmq_msg_t message
        cdef uint64_t peer = 0
        cdef int got = 1, count = 0
        while got == 1 and count < MESSAGES_PER_SOCKET:
            message_init(&message)
            got = self.ears.receive(&message, &peer)
            if got == 1:
                count += 1
                self._on_hint(message_data(&message), message_size(&message))
            message_close(&message)

    cdef void _on_hint(self, const char *data, size_t size) noexcept nogil:
        cdef reader_t reader
        cdef record_t r
        cdef int slot
        reader.data = data
        reader.size = size
        reader.pos = 0
        if next_record(&reader, &r) == 1 and r.kind == K_HINT:
            slot = self.balance.slot_of(r.num[1])
            if slot >= 0:
                self.federation.on_hint(slot, r.num[2], <int64_t>r.num[3], self._now_us())
        else:
            self.malformed += 1

    cdef void _on_record(self, int slot, record_t *r) noexcept nogil:
        cdef bint peer = self.balance.nodes[slot].peer != 0
        if self.roles[slot] == ROLE_AGENT:
            self._on_agent(r)
        elif r.kind == K_RESULT:
            self._keep_result(r)
            Broker._on_record(self, slot, r)
        elif not peer:
            if r.kind == K_STOP and self.balance.nodes[slot].source:
                self.stop_all = True
                self.stopped = True
            elif r.kind != K_STOP:
                Broker._on_record(self, slot, r)
        elif r.kind == K_TASK:
            self.federation.on_task(slot, r.num[F_TASK_EST], self._now_us())
            self._on_task(slot, r)
        elif r.kind == K_LOST:
            self._forward(self.balance.on_lost_there(
                slot, r.num[F_OWNER], r.num[F_ID], r.num[F_ATTEMPT], r.span[5].size != 0), r)
        elif r.kind == K_ASK:
            self._on_ask(slot, r)
        elif r.kind == K_LOAD:
            self.federation.on_load(slot, <int64_t>r.num[1], self._now_us())
        elif r.kind == K_REFUSE:
            self.federation.on_refuse(slot, r.num[1], <int64_t>r.num[2], r.num[3], self._now_us())
        elif r.kind == K_WELCOME:
            self._on_origin_at(slot, r)
        elif r.kind == K_HELLO:
            self._on_peer_hello(slot, r)
        elif r.kind == K_RESET:
            self._on_reset(slot, r.num[1])
        elif r.kind == K_HOLD and not holds_there(
                self.balance, slot, r.num[F_OWNER], r.num[F_ID], r.num[F_ATTEMPT], r.num[4], r.num[5]):
            self.balance.on_hold(slot, r.num[F_OWNER], r.num[F_ID], r.num[F_ATTEMPT], r.num[4], r.num[5])
        elif r.kind == K_STOP:
            self.stop_all = True
            self.stopped = True
        elif r.kind not in (K_REQUEST, K_SURPLUS, K_LEAVE, K_HOLD):
            Broker._on_record(self, slot, r)

    cdef void _on_ask(self, int slot, record_t *r) noexcept nogil:
        cdef int32_t idle = 0
        cdef int64_t work = 0, ahead = 0
        cdef int64_t lack = self.balance.lack_us(&idle, &ahead)
        cdef int64_t tasks = self.balance.spare(&work)
        self.federation.on_ask(slot, <int64_t>r.num[1], <int32_t>r.num[2], lack, tasks, work, ahead, self._now_us())

    # ----------------------------------------------------------------------------------------- turning

    cdef void settle(self) noexcept nogil:
        if self.lost != NULL:
            self._on_lost()
        if self.newcomers:
            self._announce()
        self._end_doubts()
        self._stop_nodes()
        self._carry_out(NULL, 0)        # what peers have asked for is credit before tasks are given out
        self.balance.match()
        self._decide()
        self._carry_out(NULL, 0)
        self._flush()

    cdef void _decide(self) noexcept nogil:
        cdef int32_t idle = 0
        cdef int64_t work = 0, ahead = 0
        cdef int64_t lack = self.balance.lack_us(&idle, &ahead)
        cdef int64_t tasks = self.balance.spare(&work)
        self.federation.decide(lack, idle, tasks, work, ahead, self._now_us())

    cdef uint64_t _next_us(self) noexcept nogil:
        # When a turn is due without any message; 0: never.
        cdef uint64_t until = self.federation.next_us()
        return self.doubts_until_us if until == 0 or 0 < self.doubts_until_us < until else until

    cdef int64_t _patience_us(self) noexcept nogil:
        cdef uint64_t until = self._next_us()
        cdef uint64_t now
        if until == 0:
            return -1
        now = self._now_us()
        return 0 if until <= now else <int64_t>(until - now)

    cdef int turn(self, int fd, int64_t timeout_us) noexcept nogil:
        # 1: `fd` is readable, 0: not, -1: a signal.
        cdef zmq_pollitem_t[8] items
        cdef int i, rc
        cdef int count = 8 if self.socket is not None else 7
        cdef uint64_t now = now_ns()
        for i in range(8):
            items[i].socket = NULL
            items[i].fd = 0
            items[i].events = ZMQ_POLLIN
            items[i].revents = 0
        items[0].fd = fd
        items[1].socket = self.gate.socket.handle
        items[2].socket = self.door.handle
        items[3].socket = self.road.handle
        items[4].socket = self.ears.handle
        items[5].fd = self.door_porter.listening
        items[6].fd = self.meta_porter.listening
        if now < self.door_porter.rest_ns:
            items[5].events = 0
        if now < self.meta_porter.rest_ns:
            items[6].events = 0
        if self.socket is not None:
            items[7].socket = self.socket.handle
        rc = poll_all(items, count, timeout_us)
        if rc < 0:
            return -1
        if items[1].revents:
            self.gate.answer()
        if items[2].revents:
            self._receive_from(self.door, WAY_DOOR)
        if items[3].revents:
            self._receive_from(self.road, WAY_ROAD)
        if items[4].revents:
            self._receive_hints()
        if items[5].revents:
            self.door_porter.look(now)
        if items[6].revents:
            self.meta_porter.look(now)
        if items[7].revents:
            self.receive(MESSAGES_PER_SOCKET)
        self.settle()
        return 1 if items[0].revents else 0

    # ------------------------------------------------------------------------------------ from Python

    def end(self):
        """End the job: all nodes and brokers are told to stop, as when the origin says so."""
        self.stop_all = True
        self.stopped = True
        with nogil:
            self.settle()

    def step(self, int fd, double timeout_s):
        """One turn of at most `timeout_s` seconds; returns whether the descriptor `fd` is readable."""
        cdef int rc
        cdef int64_t patience
        with nogil:
            patience = self._patience_us()
            if patience < 0 or patience > <int64_t>(timeout_s * 1e6):
                patience = <int64_t>(timeout_s * 1e6)
            rc = self.turn(fd, patience)
        return rc == 1

    cdef int _turn_or_look(self, int fd, int64_t left_us) noexcept nogil:
        # After a message the next one is looked for, for a while: a round trip passes two brokers twice, and to wake
        # one takes longer than all it does (docs/adr/0002).
        cdef uint64_t seen = self.messages
        cdef int64_t patience = self._patience_us()
        cdef int rc
        if self.spin_until:
            rc = self.turn(fd, 0)
            if self.messages != seen or now_ns() > self.spin_until:
                spin_learn(&self.spin, self.messages != seen)
                self.spin_until = now_ns() + SPIN_NS if self.messages != seen else 0
            else:
                sched_yield()
            return rc
        rc = self.turn(fd, left_us if patience < 0 or patience > left_us else patience)
        if self.messages != seen and self.may_spin and spin_may(&self.spin):
            self.spin_until = now_ns() + SPIN_NS
        return rc

    def run(self, int fd, double for_s):
        """Serve until the descriptor `fd` is readable, the job is over, or the time; blocks without the GIL.

        Returns:
            Whether `fd` is readable.
        """
        cdef int rc = 0
        cdef int64_t left
        cdef uint64_t until = now_ns() // 1000 + <uint64_t>(for_s * 1e6)
        while rc == 0 and not self.stopped:
            with nogil:
                while rc == 0 and not self.stopped:
                    left = <int64_t>(until - now_ns() // 1000)
                    if left <= 0:
                        break
                    rc = self._turn_or_look(fd, left)
            if rc == 0:
                break
            if rc == -1:
                rc = 0              # a signal: Python's handlers run here
        return rc == 1

    def statistics(self):
        """Return the counters of balance, federation, gate and this driver."""
        return dict(Broker.statistics(self), **self.federation.statistics(), granted=self.gate.granted,
                    denied=self.gate.denied, strangers=self.strangers,
                    sent_away=self.door_porter.sent_away + self.meta_porter.sent_away,
                    dropped_frames=self.dropped_frames)
