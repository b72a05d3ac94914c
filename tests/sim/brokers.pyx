"""The brokers of a run. What decides is the real code; sockets and clock are replaced."""

from libc.stdlib cimport calloc, free

from scoop._core.balance cimport NODES_MAX, home_of
from scoop._core.outbox cimport A_CREDIT, A_HOLD, action_t
from scoop._core.wire cimport F_TASK_HOPS, record_t

from scoop_sim.events cimport E_TURN, link_send, queue_put

cdef enum:
    HOPS_MAX = 4            # less than in balance.pyx: it is to be reached


cdef class Lines:
    """The links of one broker, by slot."""

    def __cinit__(self):
        self.links = <link_t **>calloc(NODES_MAX, sizeof(link_t *))
        self.expected = {}

    def __dealloc__(self):
        free(self.links)

    cdef void expect(self, uint64_t incarnation, link_t *link) noexcept:
        self.expected[incarnation] = <size_t>link

    cdef void join(self, Broker broker) noexcept:
        # Slots are given out in order, and never again.
        cdef uint64_t incarnation
        while self.linked < broker.balance.node_count:
            incarnation = broker.balance.nodes[self.linked].incarnation
            self.links[self.linked] = <link_t *><size_t>self.expected.pop(incarnation, 0)
            self.linked += 1

    cdef void replace(self, Broker broker, uint64_t incarnation, link_t *link) noexcept:
        # In place of the one that was there, if there was one.
        cdef int slot = broker.balance.slot_of(incarnation)
        if 0 <= slot < self.linked:
            self.links[slot] = link
        else:
            self.expect(incarnation, link)

    cdef void send(self, Broker broker, int slot) noexcept nogil:
        if broker.outs[slot].size == 0:
            return
        if self.linked < broker.balance.node_count:
            with gil:
                self.join(broker)
        if self.links[slot] == NULL:
            self.undeliverable += 1
            broker.outs[slot].size = 0
        else:
            link_send(self.links[slot], &broker.outs[slot])


cdef class SimBroker(Broker):
    """The broker of a job on one host, in the origin."""

    def __cinit__(self, *args):
        self.lines = Lines()

    cdef void _send(self, int slot) noexcept nogil:
        self.lines.send(self, slot)


cdef class SimGateway(Gateway):
    """The broker of one host of several: a process of its own."""

    def __cinit__(self, *args):
        self.lines = Lines()
        self.alive = True
        self.balance.hops_max = HOPS_MAX

    cdef void _send(self, int slot) noexcept nogil:
        self.lines.send(self, slot)

    cdef uint64_t _now_us(self) noexcept nogil:
        return self.clock.now // 1000 + START_US

    cdef void _publish(self) noexcept nogil:
        cdef size_t size = self.hint.size
        cdef int i
        for i in range(self.hints_count):
            self.hint.size = size       # a link empties what it has sent
            link_send(self.hints[i], &self.hint)
        self.told += 1

    cdef void _carry_far(self, action_t *x) noexcept nogil:
        self.holds += x.kind == A_HOLD
        self.parked += x.kind == A_CREDIT and x.a > 0
        self.unparked += x.kind == A_CREDIT and x.a == 0
        Gateway._carry_far(self, x)

    cdef void _on_task(self, int slot, record_t *r) noexcept nogil:
        self.at_limit += r.num[F_TASK_HOPS] >= HOPS_MAX
        Gateway._on_task(self, slot, r)

    cdef int know(self, uint64_t number, str address, str meta, bytes key, int slot, bint neighbour) except -1:
        cdef bint fresh = number not in self.peers
        self.peers[number] = (address, meta, key)
        return fresh

    cdef int part(self, uint64_t number, int slot) except -1:
        self.peers.pop(number, None)
        return 0

    # ------------------------------------------------------------------------------------------- turns

    cdef void put_inbox(self, message_t *message) noexcept nogil:
        message.next = NULL
        if self.inbox == NULL:
            self.inbox = message
        else:
            self.inbox_last.next = message
        self.inbox_last = message

    cdef void drop_inbox(self) noexcept:
        cdef message_t *message
        while self.inbox != NULL:
            message = self.inbox
            self.inbox = message.next
            free(message)

    cdef void take_inbox(self) noexcept nogil:
        # What `turn` does between its poll and its next one.
        cdef message_t *message
        cdef int slot
        while self.inbox != NULL:
            message = self.inbox
            self.inbox = message.next
            slot = self.balance.slot_of(message.link.source)
            if message.link.hints:
                self._on_hint(message.data, message.size)
            elif slot >= 0:
                self.feed(slot, message.data, message.size)
            elif home_of(message.link.source):      # a broker that is not known any more is not heard
                self._hello(message.link.source, message.data, message.size)
            free(message)
        self.settle()
        self.arm()

    cdef void arm(self) noexcept nogil:
        # The limit of its next poll.
        cdef uint64_t until = self._next_us()
        if until == 0:
            self.timer_at = 0
            return
        until = (until - START_US) * 1000 if until > START_US else 0
        if until != self.timer_at:
            self.timer_at = until
            self.timer_gen += 1
            queue_put(self.clock, until, E_TURN, -1 - self.index, self.timer_gen, NULL)
