"""Who the other brokers of a federation are: they come, greet each other, are started again, and go."""

from libc.stdint cimport uint64_t

from scoop._core.broker cimport held_t
from scoop._core.balance cimport home_of
from scoop._core.failover cimport doubt, end_doubts, tell_holds
from scoop._core.federation cimport Federation
from scoop._core.kept cimport keep, kept_free
from scoop._core.net cimport now_ns
from scoop._core.wire cimport (
    F_OWNER, K_RESET, K_WELCOME, PROTOCOL_VERSION, ROLE_ORIGIN, ROLE_SUCCESSOR, next_record, put_raw, put_record,
    reader_t)

cdef enum:
    ORIGIN_HERE = 1             # in WELCOME from broker to broker, in place of a slot
    DOUBT_US = 1500000          # what a broker, or one behind a new connection, has not said to hold by then is lost


cdef class Peers(Roads):
    """A broker that knows others; see Gateway for its arguments."""

    def __cinit__(self, Socket socket=None, uint64_t number=0):
        self.federation = Federation(self.out, number)

    def __dealloc__(self):
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
            self._doubt(slot)
            self._tell_rest(slot)
            self.told[slot] = 0
            self.newcomers = self.watching
            with gil:
                self._offer_constants(slot)

    cdef int feed(self, int slot, const char *data, size_t size) noexcept nogil:
        # Its door sends an empty frame on each new connection.
        if size == 0 and self.balance.nodes[slot].peer:
            self._on_probe(slot)
            return 0
        self.met[slot] = 1
        return Roads.feed(self, slot, data, size)

    cdef void _on_probe(self, int slot) noexcept nogil:
        # In place of one that has ended? What was in that is lost, both ways, and the other side may not have noticed.
        if self.met[slot]:
            self._doubt(slot)
            self._say_reset(slot, 0)

    cdef void _on_reset(self, int slot, bint answer) noexcept nogil:
        # What was sent to it before this it has, or it is in doubt there.
        if not answer:
            self._doubt(slot)
            self._say_reset(slot, 1)
        self._tell_rest(slot)

    cdef void _say_reset(self, int slot, uint64_t answer) noexcept nogil:
        put_record(self.out_of(slot), K_RESET, 1, &answer)

    cdef void _doubt(self, int slot) noexcept nogil:
        doubt(self.balance, slot)
        self.doubts_until_us = self._now_us() + DOUBT_US

    cdef void _tell_rest(self, int slot) noexcept nogil:
        tell_holds(self.balance, slot)
        self._send_all_kept(slot)

    cdef void _keep_result(self, record_t *r) noexcept nogil:
        # Before it is passed on: the owner's broker may die with it. Or an owner of ours has not yet said hello to us,
        # who follow another broker.
        if home_of(r.num[F_OWNER]) != self.number or (
                self.balance.successor and self.balance.slot_of(r.num[F_OWNER]) < 0):
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
        if self.doubts_until_us and self._now_us() >= self.doubts_until_us:
            self.doubts_until_us = 0
            end_doubts(self.balance)

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
