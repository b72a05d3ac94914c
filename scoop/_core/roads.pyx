"""How frames get to other hosts and from there: the sockets of a broker with peers.

Beside the socket of its own host it has a door that brokers, and workers started by hand, come to; a road by which
it goes to other brokers, each at the first frame for it; the meta socket on which it tells its neighbours how much
work it has, and ears for theirs. All of them are TCP, or Unix sockets that ssh forwards, with CURVE; a gate says who
may connect.
"""

import os

from libc.stdlib cimport calloc, free

from scoop._core.balance cimport NODES_MAX, home_of
from scoop._core.broker cimport Broker
from scoop._core.curve cimport is_from
from scoop._core.libzmq cimport (
    ZMQ_CONNECT_ROUTING_ID, ZMQ_IPV6, ZMQ_RECONNECT_IVL_MAX, ZMQ_SUBSCRIBE, zmq_msg_t)
from scoop._core.links cimport LINK_DOWN, LINK_SILENT, link_note, link_state, link_t
from scoop._core.loss cimport lost_new, lost_t
from scoop._core.net cimport message_close, message_data, message_init, message_size, now_ns
from scoop._core.wire cimport (
    K_GONE, K_GUEST, K_HELLO, PROTOCOL_VERSION, ROLE_AGENT, ROLE_BROKER, ROLE_SUCCESSOR, buf_free, buf_t, next_record,
    put_raw, reader_t, record_t)
from scoop._core.wire import encode

cdef enum:
    MESSAGES_PER_SOCKET = 512
    RECONNECT_MS_MAX = 2000
    PEER_BITS = 44            # HOME_SHIFT: what is above them in a name on the road counts dials


cdef class Roads(Broker):
    """A broker that other hosts can reach; see Gateway for its arguments."""

    def __cinit__(self, Socket socket=None, uint64_t number=0):
        if number == 0:
            raise ValueError("a broker of a federation has a number from 1")
        self.number = number
        self.peers = {}
        self.names = {}
        self.guests = set()
        self.ways = <uint8_t *>calloc(NODES_MAX, 1)
        self.roles = <uint8_t *>calloc(NODES_MAX, 1)
        self.told = <uint8_t *>calloc(NODES_MAX, 1)
        self.met = <uint8_t *>calloc(NODES_MAX, 1)
        self.links = <link_t *>calloc(NODES_MAX, sizeof(link_t))
        self.dialled = <uint64_t *>calloc(NODES_MAX, sizeof(uint64_t))
        self.pids = <uint64_t *>calloc(NODES_MAX, sizeof(uint64_t))
        if self.ways == NULL or self.roles == NULL or self.told == NULL or self.links == NULL or (
                self.met == NULL or self.dialled == NULL or self.pids == NULL):
            raise MemoryError

    def __dealloc__(self):
        free(self.ways)
        free(self.roles)
        free(self.told)
        free(self.met)
        free(self.links)
        free(self.dialled)
        free(self.pids)

    def open(self, Context context not None, Keys keys not None, str address not None, str meta not None, unknown=None,
             bint announce=False):
        """Open the sockets to other hosts.

        Args:
            context: of all of them; it must have no other gate.
            keys: those of this broker.
            address, meta: where to listen for tasks and for subscribers, ``tcp://host:port``; port 0 takes a free one.
            unknown: see `Gate`.
            announce: see `Socket.announce`; for others to notice a successor, or a reset.

        Returns:
            The two endpoints with their ports.

        Raises:
            TransportError: one cannot be bound; names it.
        """
        cdef bytes me = self.number.to_bytes(8, "little")
        self.context = context
        self.keys = keys
        self.gate = Gate(context, unknown)
        self.door = Socket(context, "router", b"", 1000)
        keys.guard(self.door)
        if announce:
            self.door.announce()
        self.road = Socket(context, "router", me, 1000)
        self.meta = Socket(context, "pub", b"", 0)
        keys.guard(self.meta)
        self.ears = Socket(context, "sub", b"", 0)
        self.ears.set_bytes(ZMQ_SUBSCRIBE, b"")
        for socket, of in ((self.door, address), (self.meta, meta), (self.road, None), (self.ears, None)):
            # Whoever listens at an IPv4 address is not to hear of it as an IPv6 one.
            (<Socket>socket).set_number(ZMQ_IPV6, of is None or of.count(":") > 2)
            (<Socket>socket).set_number(ZMQ_RECONNECT_IVL_MAX, RECONNECT_MS_MAX)
        self.door_porter = Porter(self.door, address)
        self.meta_porter = Porter(self.meta, meta)
        return self.door.endpoint, self.meta.endpoint

    def introduce(self, str address not None, str meta not None):
        """Set the addresses under which other hosts reach this broker; it names them when it says hello."""
        text = b" ".join([address.encode(), meta.encode(), self.keys.public])
        role = ROLE_SUCCESSOR if self.balance.successor else ROLE_BROKER
        self.introduction = encode(K_HELLO, self.number, PROTOCOL_VERSION, role, os.getpid(), text)

    cdef int know(self, uint64_t number, str address, str meta, bytes key, int slot, bint neighbour) except -1:
        # Notes how to reach a broker. Nothing is sent before there is something for it.
        cdef bint fresh = number not in self.peers
        cdef bint heard = not fresh and self.peers[number][1] == meta
        self.gate.allow(key, number)
        self.peers[number] = (address, meta, key)
        if fresh:
            # Who has come to our door is answered there: a road to it as well would be a second way for ever.
            self.ways[slot] = WAY_NONE if self.meeting == WAY_LOCAL else self.meeting
            self.roles[slot] = ROLE_BROKER
            self.newcomers = self.watching
        if neighbour and meta and not heard:
            self.keys.present(self.ears, key)
            self.ears.connect(meta)
        return fresh

    cdef int part(self, uint64_t number, int slot) except -1:
        # A broker is gone for good: libzmq would knock at its door for ever.
        address, meta, _ = self.peers.pop(number, ("", "", b""))
        if self.dialled[slot]:
            self.road.disconnect(address)
            self.dialled[slot] = 0
        self.ears.disconnect(meta)
        return 0

    # ----------------------------------------------------------------------------------------- sending

    cdef void _send(self, int slot) noexcept nogil:
        cdef int rc
        if self.ways[slot] == WAY_LOCAL or self.outs[slot].size == 0:
            Broker._send(self, slot)
            return
        if self.ways[slot] == WAY_NONE:
            with gil:
                self._try_to_dial(slot)
        rc = self._send_by(self.ways[slot], slot)
        if rc == -2 and self.balance.nodes[slot].peer:
            # The connection has ended: by a refusal, or the other side's door was closed. Once more, from here.
            with gil:
                self._try_to_dial(slot)
            rc = self._send_by(self.ways[slot], slot)
        if rc < 0:
            # Unreachable: whoever watches it tells when it is dead, and owners issue again what was lost.
            self.dropped_frames += 1
            self.outs[slot].size = 0

    cdef int _send_by(self, uint8_t way, int slot) noexcept nogil:
        cdef uint64_t peer = self.balance.nodes[slot].incarnation
        if way == WAY_DOOR:
            return self.door.send_to(<const char *>&peer, 8, &self.outs[slot])
        if way == WAY_ROAD:
            return self.road.send_to(<const char *>&self.dialled[slot], 8, &self.outs[slot])
        return -1

    cdef void _try_to_dial(self, int slot) noexcept:
        try:
            self._dial(slot)
        except Exception:
            import logging

            logging.getLogger("scoop").exception("a broker cannot be reached")

    cdef int _dial(self, int slot) except -1:
        cdef uint64_t number = self.balance.nodes[slot].incarnation
        cdef buf_t hello
        address, _, key = self.peers.get(number, ("", "", b""))
        if not address:                 # it is gone, or will come to us: nobody has told where it is
            return 0
        # Two connections of ours would have one name at that door, which hears the later one only (a router hands the
        # name over): what we send by the other would wait there for ever.
        if self.dialled[slot]:
            self.road.disconnect(address)
        self.keys.present(self.road, key)
        # libzmq aborts the process if it is given a name again before it has forgotten the connection that had it.
        self.dials += 1
        number |= self.dials << PEER_BITS
        self.dialled[slot] = number
        self.road.set_bytes(ZMQ_CONNECT_ROUTING_ID, number.to_bytes(8, "little"))
        self.road.connect(address)
        self.ways[slot] = WAY_ROAD
        hello.data = NULL
        hello.size = 0
        hello.cap = 0
        put_raw(&hello, <const char *>self.introduction, len(self.introduction))
        self.road.send_to(<const char *>&number, 8, &hello)
        buf_free(&hello)
        return 0

    # --------------------------------------------------------------------------------------- receiving

    cdef int _receive_from(self, Socket socket, uint8_t way) noexcept nogil:
        cdef zmq_msg_t message
        cdef uint64_t peer, now = now_ns()
        cdef int got = 1, count = 0, slot, by
        while got == 1 and count < MESSAGES_PER_SOCKET:
            peer = 0
            message_init(&message)
            got = socket.receive(&message, &peer)
            if got == 1:
                count += 1
                if way == WAY_ROAD:
                    peer &= (<uint64_t>1 << PEER_BITS) - 1
                slot = self.balance.slot_of(peer)
                by = is_from(&message, peer) if way == WAY_DOOR else 1
                if by == 0 or (by == 2 and slot >= 0 and self.roles[slot] != ROLE_AGENT):
                    self.strangers += 1
                    peer = 0
                elif slot >= 0 and (self.ways[slot] == way or self.balance.nodes[slot].peer):
                    if self.ways[slot] == WAY_NONE:
                        self.ways[slot] = way
                    self.feed(slot, message_data(&message), message_size(&message))
                elif slot < 0:
                    self._meet(peer, way, message_data(&message), message_size(&message), by == 2)
                else:
                    self.strangers += 1
                    peer = 0
                if self.watching and peer:
                    slot = self.balance.slot_of(peer)
                    if slot >= 0 and self.roles[slot]:
                        link_note(&self.links[slot], &message, now)
            message_close(&message)
        return count

    cdef void _meet(self, uint64_t peer, uint8_t way, const char *data, size_t size,
                    bint by_block) noexcept nogil:
        # Somebody new at the door: a worker that no agent of ours has started, or a broker that knows us already.
        cdef reader_t reader
        cdef record_t r
        reader.data = data
        reader.size = size
        reader.pos = 0
        if next_record(&reader, &r) != 1 or r.kind != K_HELLO:
            self.malformed += 1
            return
        if r.num[3] in (ROLE_BROKER, ROLE_SUCCESSOR) and not by_block and r.num[1] == peer and (
                r.num[2] == PROTOCOL_VERSION):
            self.meeting = way
            with gil:
                try:
                    self._introduced(peer, r.span[5].data[:r.span[5].size])
                except Exception as error:
                    import logging

                    logging.getLogger("scoop").warning("a broker came that cannot be taken: %s", error)
                    return
                finally:
                    self.meeting = WAY_LOCAL
            self.feed(self.balance.slot_of(peer), data, size)
            return
        if (r.num[3] == ROLE_AGENT) != by_block:
            self.strangers += 1     # the key of a join file lets others in, and does nothing else
            return
        self.meeting = way
        self._hello(peer, data, size)
        self.meeting = WAY_LOCAL

    cdef uint64_t _newcomer(self, int slot, record_t *hello) noexcept nogil:
        cdef uint64_t number
        if self.meeting == WAY_LOCAL:
            return 0                # their agent has given them names
        self.ways[slot] = self.meeting
        self.roles[slot] = <uint8_t>hello.num[3]
        self.newcomers = self.watching
        if self.roles[slot] == ROLE_AGENT:
            return 0
        with gil:
            number = self._take_name(hello.span[5].data[:hello.span[5].size], hello.num[1])
        return number if number > 1 else 0

    cdef uint64_t _take_name(self, bytes name, uint64_t incarnation) noexcept:
        cdef uint64_t number = 1
        cdef bytes wanted = name
        while name in self.names and self._is_alive(self.names[name]):
            number += 1
            name = wanted + b"-%d" % number
        self.names[name] = incarnation
        return number

    cdef bint _is_alive(self, uint64_t incarnation) noexcept:
        cdef int slot = self.balance.slot_of(incarnation)
        return slot >= 0 and self.balance.nodes[slot].alive

    cdef int _introduced(self, uint64_t number, bytes text) except -1:
        raise NotImplementedError

    # ------------------------------------------------------------------------------------------ guests

    cdef void _on_agent(self, record_t *r) noexcept nogil:
        # Agents of other hosts do this and nothing else; and of theirs only.
        if r.kind == K_GUEST or r.kind == K_GONE:
            with gil:
                try:
                    if r.kind == K_GUEST:
                        self._let_in(r.num[1], r.span[2].data[:r.span[2].size])
                    elif r.num[1] in self.guests:
                        self._note_lost(r.num[1], r.num[2], r.num[3], r.span[4].data[:r.span[4].size])
                except Exception as error:
                    import logging

                    logging.getLogger("scoop").warning("an agent asks for what cannot be: %s", error)

    cdef int _let_in(self, uint64_t name, bytes key) except -1:
        # A worker of ours that is to come, or another broker; nobody who is there already.
        if self.balance.slot_of(name) >= 0 or name == self.number or name == 0:
            raise ValueError(f"there is a {name} already")
        if home_of(name) != self.number and home_of(name) != 0:
            raise ValueError(f"{name} belongs to another broker")
        self.gate.allow(key, name)
        if home_of(name):
            self.guests.add(name)
        return 0

    cdef int _note_lost(self, uint64_t incarnation, uint64_t owner, uint64_t id, bytes detail) except -1:
        cdef lost_t *lost = lost_new(incarnation, owner, id, detail)
        lost.next = self.lost
        self.lost = lost
        return 0

    # ------------------------------------------------------------------------------------ from Python

    def ended_links(self, double lease_s):
        """Whose connection has ended, or is unanswered for longer than the lease, if `watching`.

        Args:
            lease_s: how long a host may leave the kernel's questions unanswered.

        Returns:
            A list of (incarnation or broker's number, role in HELLO, whether the connection has ended, whether it
            had said that it would leave).
        """
        cdef int slot, state
        cdef uint64_t lease_ms = <uint64_t>(lease_s * 1000)
        cdef list found = []
        for slot in range(self.balance.node_count):
            if self.roles[slot] and self.balance.nodes[slot].alive:
                state = link_state(&self.links[slot], lease_ms)
                if state >= LINK_SILENT:
                    found.append((self.balance.nodes[slot].incarnation, self.roles[slot], state == LINK_DOWN,
                                  self.balance.nodes[slot].leaving != 0))
        return found

    def close(self):
        """Close all sockets but the local one; what was sent goes out within a second."""
        for socket in (self.door, self.road, self.meta, self.ears):
            (<Socket>socket).close()
        self.gate.close()
