"""The broker's driver. One shape: receive a batch, decode, feed the balance, drain its outbox, send.

It runs without the GIL, in a thread of the origin (which then is its `local` node, fed by plain calls instead of
a socket) or as a process of its own.
"""

from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy

from scoop._core.balance cimport NODES_MAX
from scoop._core.failover cimport holds
from scoop._core.libzmq cimport zmq_msg_t
from scoop._core.net cimport (
    message_close, message_data, message_init, message_size, poll_for)
from scoop._core.outbox cimport (
    A_ANSWER, A_CANCEL, A_DROP, A_HOLD, A_LOST, A_SEND_TASK, A_WANT, action_t)
from scoop._core.wire cimport (
    F_ATTEMPT, F_ID, F_OWNER, F_TASK_EST, F_TASK_FLAGS, F_TASK_HOPS, K_ANSWER, K_CANCEL, K_CLAIM, K_CONST, K_FORM,
    K_GRANT, K_HELLO, K_HOLD, K_LEAVE, K_LOST, K_NEED, K_REQUEST, K_RESULT, K_STOP, K_SURPLUS, K_TASK, K_WANT,
    K_WELCOME, PROTOCOL_VERSION, ROLE_ORIGIN, next_record, put_blob, put_raw, put_record, reader_t, span_t)

cdef enum:
    # A frame is sent when it has grown to this size, well below the limit of 1 MiB.
    FRAME_BYTES_MAX = 256 * 1024


cdef class Broker:
    """Dispatches tasks to its nodes.

    Args:
        socket: a bound ROUTER, or None where the only node is in this process.
        number: its number in the federation, 0 for a broker without peers.
    """

    def __cinit__(self, Socket socket=None, uint64_t number=0):
        self.socket = socket
        self.out = Outbox()
        self.balance = Balance(self.out, number)
        self.local = -1
        self.outs = <buf_t *>calloc(NODES_MAX, sizeof(buf_t))
        self.dirty = <int *>calloc(NODES_MAX, sizeof(int))
        self.is_dirty = <char *>calloc(NODES_MAX, 1)
        if self.outs == NULL or self.dirty == NULL or self.is_dirty == NULL:
            raise MemoryError

    def __dealloc__(self):
        cdef int i
        cdef held_t *held
        cdef lost_t *lost
        if self.outs != NULL:
            for i in range(NODES_MAX):
                free(self.outs[i].data)
        free(self.outs)
        free(self.dirty)
        free(self.is_dirty)
        while self.constants != NULL:
            held = self.constants
            self.constants = held.next
            free(held)
        while self.lost != NULL:
            lost = self.lost
            self.lost = lost.next
            free(lost.detail)
            free(lost)

    # --------------------------------------------------------------------------------------- receiving

    cdef int receive(self, int messages_max) noexcept nogil:
        cdef zmq_msg_t message
        cdef uint64_t peer
        cdef int got, count = 0, slot
        if self.socket is None:
            return 0
        while count < messages_max:
            peer = 0
            message_init(&message)
            got = self.socket.receive(&message, &peer)
            if got == 1:
                count += 1
                slot = self.balance.slot_of(peer)
                if slot >= 0:
                    self.feed(slot, message_data(&message), message_size(&message))
                else:
                    self._hello(peer, message_data(&message), message_size(&message))
            message_close(&message)
            if got != 1:
                return got if got < 0 else count
        return count

    cdef void _hello(self, uint64_t peer, const char *data, size_t size) noexcept nogil:
        # A stranger's first record must be HELLO with the incarnation that is its identity. Only who knew the broker
        # before us may have something on its way, and says HELLO then.
        cdef reader_t reader
        cdef record_t r
        cdef held_t *constant = self.constants
        cdef int slot
        reader.data = data
        reader.size = size
        reader.pos = 0
        slot = next_record(&reader, &r)
        if slot == 1 and r.kind != K_HELLO and self.balance.successor:
            slot = self.balance.on_hello(peer, True)    # until it says what it is
            if slot >= 0:
                self.feed(slot, data, size)
            return
        if slot != 1 or r.kind != K_HELLO or r.num[1] != peer or r.num[2] != PROTOCOL_VERSION:
            self.malformed += 1
            return
        slot = self.balance.on_hello(peer, r.num[3] == ROLE_ORIGIN)
        if slot < 0:
            self.malformed += 1
            return
        self._welcome(slot, self._newcomer(slot, &r))
        while constant != NULL:
            put_raw(self.out_of(slot), constant.data, constant.size)
            constant = constant.next
        self.feed(slot, data + reader.pos, size - reader.pos)

    cdef void _welcome(self, int slot, uint64_t namesake) noexcept nogil:
        cdef uint64_t[4] numbers
        numbers[0] = PROTOCOL_VERSION
        numbers[1] = slot
        numbers[2] = namesake
        numbers[3] = self.balance.successor
        put_record(self.out_of(slot), K_WELCOME, 4, numbers)

    cdef uint64_t _newcomer(self, int slot, record_t *hello) noexcept nogil:
        return 0

    cdef int feed(self, int slot, const char *data, size_t size) noexcept nogil:
        cdef reader_t reader
        cdef record_t r
        cdef int got
        self.messages += 1
        if not self.balance.nodes[slot].alive:
            return 0
        reader.data = data
        reader.size = size
        reader.pos = 0
        while True:
            got = next_record(&reader, &r)
            if got == 0:
                return 0
            if got < 0:
                self.malformed += 1
                return -1
            self._on_record(slot, &r)

    cdef void _on_record(self, int slot, record_t *r) noexcept nogil:
        cdef int to, verdict
        cdef uint64_t grace = 0
        if r.kind == K_TASK:
            self._on_task(slot, r)
        elif r.kind == K_RESULT:
            to = self.balance.on_result(slot, r.num[F_OWNER], r.num[F_ID])
            self._forward(to, r)
        elif r.kind == K_REQUEST:
            self.balance.on_request(slot, r.num[1], r.num[2] != 0)
        elif r.kind == K_SURPLUS:
            self.balance.on_surplus(slot, r.num[1], r.num[2])
        elif r.kind == K_CANCEL:
            self.balance.on_cancel(slot, r.num[F_OWNER], r.num[F_ID], r.num[F_ATTEMPT], <int>r.num[4])
        elif r.kind == K_ANSWER:
            verdict = <int>r.num[4]
            to = self.balance.on_answer(slot, r.num[F_OWNER], r.num[F_ID], r.num[F_ATTEMPT], &verdict)
            r.num[4] = <uint64_t>verdict
            if to >= 0 and self.balance.nodes[to].alive:
                put_record(self.out_of(to), K_ANSWER, 5, &r.num[1])
        elif r.kind == K_NEED:
            self._on_need(r)
        elif r.kind == K_FORM:
            # Whoever could send another's functions could have anything run in its name.
            if self.balance.nodes[slot].peer or r.num[2] == self.balance.nodes[slot].incarnation:
                self._forward(self.balance.way_to(r.num[1]), r)
        elif r.kind == K_CLAIM:
            self._on_claim(r)
        elif r.kind == K_GRANT:
            # Nobody grants in another's name.
            if self.balance.nodes[slot].peer or r.num[F_OWNER] == self.balance.nodes[slot].incarnation:
                self._forward(self.balance.way_to(r.num[4]), r)
        elif r.kind == K_CONST:
            self._on_const(slot, r)
        elif r.kind == K_HOLD:
            holds(self.balance, slot, r.num[F_OWNER], r.num[F_ID], r.num[F_ATTEMPT], r.num[4])
        elif r.kind == K_HELLO:
            if self.balance.successor:
                self.balance.nodes[slot].source = r.num[3] == ROLE_ORIGIN
                self._welcome(slot, 0)
        elif r.kind == K_LEAVE:
            self.balance.on_leave(slot)
            if r.num[1]:
                put_record(self.out_of(slot), K_STOP, 1, &grace)    # all that it has said before is read

    cdef int _asks_the_dead(self, record_t *r, uint64_t asker) noexcept nogil:
        # Passes a question on to the owner; for one who is dead we answer: returns the asker's slot then, -1 else.
        cdef int to = self.balance.way_to(r.num[F_OWNER])
        if to >= 0:
            self._forward(to, r)
        elif not self.balance.successor or self.balance.slot_of(r.num[F_OWNER]) >= 0:
            return self.balance.way_to(asker)
        return -1

    cdef void _on_claim(self, record_t *r) noexcept nogil:
        cdef int to = self._asks_the_dead(r, r.num[4])
        cdef uint64_t[5] numbers
        if to >= 0:
            memcpy(numbers, &r.num[1], 4 * sizeof(uint64_t))
            numbers[4] = 0
            put_record(self.out_of(to), K_GRANT, 5, numbers)

    cdef void _on_need(self, record_t *r) noexcept nogil:
        # A task that needs a function of the dead is of no use.
        cdef int to = self._asks_the_dead(r, r.num[3])
        cdef uint64_t[3] numbers
        cdef span_t none
        if to >= 0:
            numbers[0] = r.num[3]
            numbers[1] = r.num[1]
            numbers[2] = r.num[2]
            none.data = NULL
            none.size = 0
            put_blob(self.out_of(to), K_FORM, 3, numbers, none)

    cdef void _on_task(self, int slot, record_t *r) noexcept nogil:
        cdef held_t *held = <held_t *>malloc(sizeof(held_t) + r.size)
        if held == NULL:
            return
        held.size = r.size
        memcpy(held.data, r.start, r.size)
        if self.balance.on_task(slot, r.num[F_OWNER], r.num[F_ID], r.num[F_ATTEMPT], r.num[F_TASK_EST],
                                r.num[F_TASK_HOPS], r.num[F_TASK_FLAGS], held) < 0:
            free(held)

    cdef void _on_const(self, int slot, record_t *r) noexcept nogil:
        # For all others, brokers too; the sender has it already. A broker passes on what its own nodes say.
        cdef int other
        self._keep_const(r)
        for other in range(self.balance.node_count):
            if other != slot and self.balance.nodes[other].alive and not (
                    self.balance.nodes[slot].peer and self.balance.nodes[other].peer):
                put_raw(self.out_of(other), r.start, r.size)

    cdef void _keep_const(self, record_t *r) noexcept nogil:
        # Kept for nodes that come later.
        cdef held_t *held = <held_t *>malloc(sizeof(held_t) + r.size)
        if held == NULL:
            return
        held.size = r.size
        held.next = NULL
        memcpy(held.data, r.start, r.size)
        if self.constants_last == NULL:
            self.constants = held
        else:
            self.constants_last.next = held
        self.constants_last = held

    # ----------------------------------------------------------------------------------------- sending

    cdef buf_t *out_of(self, int slot) noexcept nogil:
        if not self.is_dirty[slot]:
            self.is_dirty[slot] = 1
            self.dirty[self.dirty_count] = slot
            self.dirty_count += 1
        elif self.outs[slot].size > FRAME_BYTES_MAX and slot != self.local:
            self._send(slot)
        return &self.outs[slot]

    cdef void _send(self, int slot) noexcept nogil:
        cdef uint64_t peer = self.balance.nodes[slot].incarnation
        if self.outs[slot].size == 0 or self.keep_frames:
            return
        if self.socket is None or self.socket.send_to(<const char *>&peer, 8, &self.outs[slot]) < 0:
            # Unreachable: the agent tells when it is dead, and owners issue again what was lost.
            self.outs[slot].size = 0

    cdef void _forward(self, int slot, record_t *r) noexcept nogil:
        if slot >= 0 and self.balance.nodes[slot].alive:
            put_raw(self.out_of(slot), r.start, r.size)

    cdef void settle(self) noexcept nogil:
        if self.lost != NULL:
            self._on_lost()
        self._stop_nodes()
        self.balance.match()
        self._carry_out(NULL, 0)
        self._flush()

    cdef void _stop_nodes(self) noexcept nogil:
        cdef int slot
        cdef uint64_t grace = 0
        while self.stop_all and self.stop_told < self.balance.node_count:
            # A node that says hello later is told then.
            slot = self.stop_told
            self.stop_told += 1
            if self.balance.nodes[slot].alive and slot != self.local:
                put_record(self.out_of(slot), K_STOP, 1, &grace)

    cdef void _carry_far(self, action_t *x) noexcept nogil:
        pass

    cdef void _on_lost(self) noexcept nogil:
        cdef lost_t *lost = self.lost
        cdef lost_t *following
        cdef int slot
        self.lost = NULL
        while lost != NULL:
            following = lost.next
            # A death may be told before the hello is read: then the slot is made, dead, for the hello to find.
            slot = self.balance.on_hello(lost.incarnation, False)
            if slot >= 0:
                self.balance.on_lost(slot, lost.blamed_owner, lost.blamed_id, lost.cause)
                self._carry_out(lost.detail, lost.detail_size)
            free(lost.detail)
            free(lost)
            lost = following

    cdef void _carry_out(self, const char *detail, size_t detail_size) noexcept nogil:
        cdef size_t i
        cdef action_t *x
        cdef held_t *held
        cdef span_t span
        cdef uint64_t[5] numbers
        for i in range(self.out.size):
            x = &self.out.actions[i]
            if x.kind >= A_HOLD or (x.kind == A_SEND_TASK and self.balance.nodes[x.node].peer):
                self._carry_far(x)
                continue
            if x.kind == A_SEND_TASK:
                held = <held_t *>x.slot
                put_raw(self.out_of(x.node), held.data, held.size)
                free(held)
                continue
            if x.kind == A_DROP:
                free(x.slot)
                continue
            numbers[0] = x.a
            numbers[1] = x.b
            numbers[2] = x.c
            numbers[3] = x.d
            if x.kind == A_WANT:
                put_record(self.out_of(x.node), K_WANT, 2, numbers)
            elif x.kind == A_CANCEL:
                put_record(self.out_of(x.node), K_CANCEL, 4, numbers)
            else:
                numbers[0] = <uint64_t>x.slot if x.slot != NULL else self.balance.nodes[x.node].incarnation
                numbers[1] = x.a
                numbers[2] = x.b
                numbers[3] = x.c
                numbers[4] = x.d
                if x.kind == A_ANSWER:
                    put_record(self.out_of(x.node), K_ANSWER, 5, numbers)
                elif x.kind == A_LOST:
                    # The detail travels only with the task that is blamed.
                    numbers[3] = x.c if x.d else 0
                    span.data = detail
                    span.size = detail_size if x.d else 0
                    put_blob(self.out_of(x.node), K_LOST, 4, numbers, span)
        self.out.size = 0

    cdef void _flush(self) noexcept nogil:
        # What is for the node of this process stays in its buffer, from which it is fed by `take_for`.
        cdef int i, slot
        for i in range(self.dirty_count):
            slot = self.dirty[i]
            self.is_dirty[slot] = 0
            if slot != self.local:
                self._send(slot)
        self.dirty_count = 0

    cdef bint take_for(self, int slot, buf_t *into) noexcept nogil:
        cdef buf_t swap
        if slot < 0 or self.outs[slot].size == 0:
            return False
        swap = into[0]
        into[0] = self.outs[slot]
        self.outs[slot] = swap
        self.outs[slot].size = 0
        return True

    # ------------------------------------------------------------------------------------ from Python

    def statistics(self):
        """Return the counters of the balance and of this driver."""
        return dict(self.balance.statistics(), messages=self.messages, malformed=self.malformed)

    def serve(self, stop_fd):
        """Run as a process of its own until `stop_fd` (a readable descriptor) says so; blocks without the GIL."""
        cdef int fd = stop_fd
        cdef int rc
        while True:
            with nogil:
                rc = poll_for(self.socket.handle, fd, -1)
                if rc > 0 and rc & 1:
                    self.receive(1024)
                    self.settle()
            if rc == -1:
                continue            # a signal: Python's handlers run here
            if rc < 0 or rc & 2:
                return
