"""Who the other brokers of a federation are: they come, greet each other, are started again, and go."""

from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp

from scoop._core.broker cimport held_t
from scoop._core.balance cimport NODES_MAX, home_of
from scoop._core.failover cimport doubt, end_doubts, tell_holds
from scoop._core.federation cimport Federation
from scoop._core.kept cimport keep, kept_free
from scoop._core.net cimport now_ns
from scoop._core.wire cimport (
    F_OWNER, F_RESULT_OUTCOME, K_RESET, K_WELCOME, O_MISSING, PROTOCOL_VERSION, ROLE_ORIGIN, ROLE_SUCCESSOR,
    next_record, put_raw, put_record, reader_t)

cdef enum:
    ORIGIN_HERE = 1             # in WELCOME from broker to broker, in place of a slot
    DOUBT_US = 1500000          # what a broker has not said to hold so long after it has begun to say it is lost
    RESET_ASKS = 0              # the steps of RESET
    RESET_ANSWERS = 1
    RESET_CONFIRMS = 2


cdef class Peers(Roads):
    """A broker that knows others; see Gateway for its arguments."""

    def __cinit__(self, Socket socket=None, uint64_t number=0):
        self.federation = Federation(self.out, number)
        self.doubts = <uint64_t *>calloc(NODES_MAX, sizeof(uint64_t))
        if self.doubts == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.doubts)
        kept_free(&self.kept)

    def add_peer(self, uint64_t number, str address not None, str meta not None, bytes key not None, bint neighbour):
        """Get to know another broker; nothing is sent before there is something for it.

        Args:
            number: its number.
            address, meta: where it listens, for tasks and for subscribers.
            key: its public key.
            neighbour: whether to listen to its hints.
        """
        cdef int slot
        if number == self.number:
            raise ValueError(f"two brokers of this job have the number {number}; start one of them again")
        slot = self.balance.on_peer(number)
        if slot < 0 or self.federation.on_peer(number, slot, neighbour) < 0:
            raise MemoryError("there are too many brokers")
        if self.know(number, address, meta, key, slot, neighbour):
            self._offer_constants(slot)
        if self.watching:
            with nogil:
                self.settle()           # they greet each other at once

    def remove_peer(self, uint64_t number):
        """A broker is gone, and its workers with it: what they held is lost, and its owners send it again."""
        cdef int slot = self.balance.slot_of(number)
        if slot < 0:
            return
        self.part(number, slot)
        self.federation.on_gone(slot)
        with nogil:
            self.balance.on_lost(slot, 0, 0, 1)
            self._carry_out(NULL, 0)
            self.settle()

    def _offer_constants(self, int slot):
        # Those that nodes of ours have set; others come from their own brokers.
        cdef held_t *held = self.constants
        cdef reader_t reader
        cdef record_t r
        while held != NULL:
            reader.data = held.data
            reader.size = held.size
            reader.pos = 0
            if next_record(&reader, &r) == 1 and self.balance.slot_of(r.num[1]) >= 0:
                put_raw(self.out_of(slot), held.data, held.size)
            held = held.next

    # --------------------------------------------------------------------------------------- greetings

    cdef int _introduced(self, uint64_t number, bytes text) except -1:
        address, meta, key = text.split(b" ")
        self.add_peer(number, address.decode(), meta.decode(), key, True)
        return 0

    cdef void _on_origin_at(self, int slot, record_t *r) noexcept nogil:
        if r.num[2] == ORIGIN_HERE:
            self.origin_at = self.balance.nodes[slot].incarnation
        if not self.told[slot]:
            self._greet(slot)           # each side notes the connection by what comes

    cdef void _announce(self) noexcept nogil:
        # All brokers are to know each other, and that the origin is here: with us it is gone.
        cdef int slot
        self.newcomers = False
        for slot in range(self.balance.node_count):
            if self.roles[slot] == ROLE_ORIGIN and self.balance.nodes[slot].alive:
                self.has_origin = True
        for slot in range(self.balance.node_count):
            if self.greets and self.balance.nodes[slot].incarnation != self.greets:
                continue
            if self.balance.nodes[slot].peer and self.balance.nodes[slot].alive and (
                    self.told[slot] != 1 + self.has_origin):
                self._greet(slot)

    cdef void _greet(self, int slot) noexcept nogil:
        cdef uint64_t[4] numbers
        self.told[slot] = 1 + self.has_origin
        numbers[0] = PROTOCOL_VERSION
        numbers[1] = ORIGIN_HERE if self.has_origin else 0
        numbers[2] = numbers[3] = 0
        put_record(self.out_of(slot), K_WELCOME, 4, numbers)

    cdef void _on_peer_hello(self, int slot, record_t *r) noexcept nogil:
        # Another process with the number, keys and addresses of the one that was there: it knows nothing.
        if r.num[3] == ROLE_SUCCESSOR and self.pids[slot] != r.num[4]:
            self.pids[slot] = r.num[4]
            doubt(self.balance, slot)
            self._hear_until(slot)
            self._tell_rest(slot)
            self.told[slot] = 0
            self.newcomers = self.watching

    cdef int feed(self, int slot, const char *data, size_t size) noexcept nogil:
        # Its door sends an empty frame on each new connection.
        if size == 0 and self.balance.nodes[slot].peer:
            self._on_probe(slot)
            return 0
        self.met[slot] = 1
        return Roads.feed(self, slot, data, size)

    cdef void _on_probe(self, int slot) noexcept nogil:
        # In place of one that has ended? What was in that is lost, both ways, and the other side may not have noticed.
        self.links[slot].noted_ns = 0       # it is looked at with the next message
        if self.met[slot]:
            self._say_reset(slot, RESET_ASKS)
        self.met[slot] = 1

    cdef void _on_reset(self, int slot, uint64_t step) noexcept nogil:
        # What each has sent before its first RESET is in doubt there, or has arrived before it. What a side holds
        # follows its second one, which may wait for a connection: only then the time runs.
        self.links[slot].noted_ns = 0
        if step < RESET_CONFIRMS:
            self._say_reset(slot, step + 1)
            self._tell_rest(slot)
        if step == RESET_ANSWERS or step == RESET_CONFIRMS:
            self._hear_until(slot)

    cdef void _say_reset(self, int slot, uint64_t step) noexcept nogil:
        if step != RESET_CONFIRMS:
            doubt(self.balance, slot)
            self.doubts[slot] = 0
        put_record(self.out_of(slot), K_RESET, 1, &step)

    cdef void _hear_until(self, int slot) noexcept nogil:
        self.doubts[slot] = self._now_us() + DOUBT_US
        if self.doubts_until_us == 0:
            self.doubts_until_us = self.doubts[slot]

    cdef void _on_const(self, int slot, record_t *r) noexcept nogil:
        # Those that may have been lost are offered again.
        cdef held_t *held = self.constants
        while held != NULL:
            if held.size == r.size and memcmp(held.data, r.start, r.size) == 0:
                return
            held = held.next
        Roads._on_const(self, slot, r)

    cdef void _tell_rest(self, int slot) noexcept nogil:
        tell_holds(self.balance, slot)
        self._send_all_kept(slot)
        with gil:
            self._offer_constants(slot)

    cdef void _keep_result(self, record_t *r) noexcept nogil:
        # Before it is passed on: the owner's broker may die with it. Or an owner of ours has not yet said hello to us,
        # who follow another broker.
        cdef int slot = self.balance.slot_of(r.num[F_OWNER])
        if r.num[F_RESULT_OUTCOME] != O_MISSING and (home_of(r.num[F_OWNER]) != self.number or (
                self.balance.successor and (slot < 0 or not self.met[slot]))):
            keep(&self.kept, r.start, r.size, self._now_us() * 1000)

    cdef void _welcome(self, int slot, uint64_t namesake) noexcept nogil:
        Roads._welcome(self, slot, namesake)
        self._send_all_kept(slot)

    cdef void _send_all_kept(self, int slot) noexcept nogil:
        self._send_kept(slot, &self.kept.old)
        self._send_kept(slot, &self.kept.young)

    cdef void _send_kept(self, int slot, const buf_t *kept) noexcept nogil:
        cdef reader_t reader
        cdef record_t r
        reader.data = kept.data
        reader.size = kept.size
        reader.pos = 0
        while next_record(&reader, &r) == 1:
            if self.balance.nodes[slot].incarnation in (r.num[F_OWNER], home_of(r.num[F_OWNER])):
                put_raw(self.out_of(slot), r.start, r.size)

    cdef void _end_doubts(self) noexcept nogil:
        cdef uint64_t now
        cdef int slot
        if self.doubts_until_us == 0:
            return
        now = self._now_us()
        if now < self.doubts_until_us:
            return
        self.doubts_until_us = 0
        for slot in range(self.balance.node_count):
            if 0 < self.doubts[slot] <= now:
                self.doubts[slot] = 0
                end_doubts(self.balance, slot)
            elif self.doubts[slot] and (self.doubts_until_us == 0 or self.doubts[slot] < self.doubts_until_us):
                self.doubts_until_us = self.doubts[slot]

    cdef uint64_t _now_us(self) noexcept nogil:
        return now_ns() // 1000

    @property
    def successor(self):
        """Whether a broker with this number has been before, and its nodes may still have to say what they hold."""
        return self.balance.successor

    @successor.setter
    def successor(self, bint successor):
        self.balance.successor = successor

    def call_all(self):
        """Say hello to all other brokers at once: they knew the one before this."""
        cdef int slot
        with nogil:
            for slot in range(self.balance.node_count):
                if self.balance.nodes[slot].peer and self.balance.nodes[slot].alive:
                    self._greet(slot)
            self.settle()
