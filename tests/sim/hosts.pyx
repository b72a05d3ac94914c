"""Hosts and the brokers between them.

What happens on faults is what the launcher and libzmq do. The origin's link to the agent of a host ends: all other
brokers are told "gone", each in its own time; the host's processes may live on for a while. The way between two
brokers is cut: TCP sends again what was lost, so frames come late, in order, after the cut. Their connection is reset:
what was on its way is lost, or a suffix of it, in both directions, and neither is told. A broker dies: a suffix of
what it has sent is lost, on each of its links another one.
"""

from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport calloc, free

from scoop._core.balance cimport home_of
from scoop._core.wire cimport K_HELLO, PROTOCOL_VERSION, ROLE_SUCCESSOR, buf_t
from scoop._core.wire import TABLE, decode, encode

from scoop_sim.brokers cimport SimGateway
from scoop_sim.events cimport (
    E_END_HOST, E_FRAME, E_GONE, E_SUCCEED, E_TURN, event_t, link_arrived,
    link_send, link_free, link_t, message_t, queue_put,
    rng_next)
from scoop_sim.process cimport Process
from scoop_sim.runner cimport Runner

cdef enum:
    LINKS_MAX = 1 << 18
    SPINS_MAX = 10000
    AFTER_SUCCESSION_NS = 10000000000
    AFTER_CUT_NS = 15000000000      # a notice of the dead one may come after its successor's: a second look finds out
    AFTER_RESET_NS = 20000000000    # brokers find out at once, but a question or a function may be lost too, and again

HINTS_ALONE = {kind for kind, row in TABLE.items() if row[0] in ("ASK", "REFUSE", "HINT", "WANT", "SURPLUS", "REQUEST")}


cdef class Hosts(Runner):
    """Links, and brokers that are processes of their own; see the subclass World."""

    def __cinit__(self, *args):
        self.links = <link_t **>calloc(LINKS_MAX, sizeof(link_t *))
        self.gateways = []

    def __dealloc__(self):
        cdef int i
        if self.links != NULL:
            for i in range(self.link_count):
                link_free(self.links[i])
        free(self.links)

    cdef link_t *_new_link(self, int to, uint64_t source) except NULL:
        cdef link_t *link = <link_t *>calloc(1, sizeof(link_t))
        link.queue = &self.queue
        link.to = to
        link.source = source
        link.delay_ns = self.plan.get("delay_us", 40) * 1000
        link.jitter_ns = self.plan.get("jitter_us", 20) * 1000
        link.rng = rng_next(&self.rng)
        link.limit = <uint64_t>-1
        if self.link_count == LINKS_MAX:
            raise MemoryError
        self.links[self.link_count] = link
        self.link_count += 1
        return link

    cdef int later(self, int64_t after_us, int kind, int proc, uint64_t arg) except -1:
        self.pending += 1
        queue_put(&self.queue, self.queue.now + <uint64_t>after_us * 1000, kind, proc, arg, NULL)
        return 0

    cdef int _start_hosts(self, int count) except -1:
        cdef SimGateway g
        cdef int i, k
        for i in range(count):
            g = SimGateway(None, i + 1)
            g.clock = &self.queue
            g.index = i
            self.gateways.append(g)
        for i in range(count):
            for k in range(count):
                if i != k:
                    self._connect(self.gateways[i], self.gateways[k])
        return 0

    cdef int _connect(self, SimGateway one, SimGateway other) except -1:
        # One direction.
        cdef link_t *road = self._new_link(-1 - other.index, one.number)
        cdef link_t *hints = self._new_link(-1 - other.index, one.number)
        road.delay_ns = hints.delay_ns = self.plan.get("far_delay_us", 50) * 1000
        hints.delay_ns += self.plan.get("hint_delay_us", 0) * 1000
        hints.hints = True
        hints.loss = self.plan.get("hint_loss", 0)
        one.roads[other.index] = road
        one.lines.expect(other.number, road)
        one.hints[one.hints_count] = hints
        one.hints_count += 1
        one.add_peer(other.number, "", "", b"", True)
        return 0

    # ---------------------------------------------------------------------------------------- events

    cdef int say_frame(self, Process p, str to, bytes frame) except -1:
        raise NotImplementedError

    cdef int _turn(self, SimGateway g) except -1:
        g.spins = g.spins + 1 if g.turned_at == self.queue.now else 0
        g.turned_at = self.queue.now
        if g.spins > SPINS_MAX:
            self.fail(f"broker {g.number} turns for ever without time passing", -1)
        g.take_inbox()
        if self.wrong.count:
            self.fail(self.wrong.what.decode(), self.wrong.spec)
        return 0

    cdef int _on_gateway(self, event_t *event) except -1:
        cdef SimGateway g = <SimGateway>self.gateways[-1 - event.proc]
        cdef message_t *message
        if event.kind == E_FRAME:
            message = <message_t *>event.ptr
            if not link_arrived(message):
                return 0
            if not g.alive:
                free(message)
                return 0
            if self.story is not None and not message.link.hints:
                self.say_frame(self.processes[0], f"broker {g.number} ", message.data[:message.size])
            g.put_inbox(message)
            if not g.turn_due:
                g.turn_due = True
                queue_put(&self.queue, self.queue.now + <uint64_t>self.plan.get("broker_us", 0) * 1000, E_TURN,
                          event.proc, 0, NULL)
            return 0
        if not g.alive:
            self.pending -= event.kind == E_GONE
            return 0                    # a successor is told by its agent
        if g.paused_until > self.queue.now:
            queue_put(&self.queue, g.paused_until, event.kind, event.proc, event.arg, NULL)
            return 0
        if event.kind == E_GONE:
            self.pending -= 1
            return self._tell_gone(g, event.arg)
        if event.kind == E_TURN and event.arg == 0:
            g.turn_due = False
        elif event.kind == E_TURN:
            if event.arg != g.timer_gen or g.timer_at == 0:
                return 0
            g.timer_at = 0
        return self._turn(g)

    # ---------------------------------------------------------------------------------------- faults

    cdef int _lose_suffix(self, link_t *link) except -1:
        # What its sender has sent last is lost; how much, nobody knows.
        cdef uint64_t flying = link.sent - link.delivered if link.connects_at <= self.queue.now else 0
        if link.limit > link.sent:
            link.limit = link.delivered + rng_next(&self.rng) % (flying + 1)
        return 0

    cdef bint host_ends(self, int host) except -1:
        # Whether it is dead, or soon will be.
        cdef SimGateway g
        if not self.gateways:
            return False
        g = self.gateways[host]
        return g.doomed or not (g.alive or g.up_at)

    cdef int _lose_host(self, int host, int64_t lives_us, bint silent) except -1:
        # `lives_us`: how long it lives on when the others are told, -1: it is dead before; `silent`: cut off as well.
        cdef SimGateway g = self.gateways[host]
        cdef SimGateway other
        cdef int64_t report_us
        if host == 0 or self.host_ends(host):
            return 0
        self.say(self.processes[0], f"host {host} is lost, lives {lives_us} us, silent {silent}", -1)
        self.count.hosts_lost += 1
        self.count.faults += 1
        self.last_fault = self.queue.now
        g.doomed = True
        if silent:
            for other in self.gateways:
                if other is not g and g.roads[other.index] != NULL and other.roads[g.index] != NULL:
                    self._lose_suffix(g.roads[other.index])
                    self._lose_suffix(other.roads[g.index])
        if lives_us < 0:
            self._end_host(host)
        else:
            self.later(lives_us, E_END_HOST, 0, host)
        for other in self.gateways:
            if other is not g and other.alive:
                report_us = <int64_t>(rng_next(&self.rng) % <uint64_t>(2 * self.plan.get("report_us", 500) + 1))
                self.later(report_us, E_GONE, -1 - other.index, g.number)
        return 0

    cdef int _end_host(self, int host) except -1:
        cdef SimGateway g = self.gateways[host]
        cdef Process p
        cdef int i
        g.alive = False
        g.drop_inbox()
        self.last_fault = self.queue.now
        for i in range(self.link_count):
            if self.links[i].source == g.number:
                self._lose_suffix(self.links[i])
        for p in self.processes:
            if p.host == host and p.alive:
                self.say(p, "ends with its host", -1)
                p.alive = False
                p.blocked = False
                self.count.deaths_with_host += 1
                self.bury(p)
        return 0

    cdef int _end_broker(self, int host, int64_t down_us) except -1:
        # The broker of a host alone. What its kernel had not sent yet is lost, and all that was on its way to it; what
        # others send from now on waits until they have connected to its successor.
        cdef SimGateway g = self.gateways[host]
        cdef SimGateway other
        cdef Process p
        cdef uint64_t up_at = self.queue.now + <uint64_t>max(down_us, <int64_t>0) * 1000
        cdef int i
        if not g.alive or g.doomed:
            return 0
        self.say(self.processes[0], f"the broker of host {host} dies, for {down_us} us", -1)
        self.count.successions += 1
        self.count.faults += 1
        self.last_fault = up_at
        self._found_out(up_at + AFTER_SUCCESSION_NS)
        if self.count.cuts:
            self._found_out(up_at + AFTER_CUT_NS)
        g.alive = False
        g.up_at = up_at
        g.drop_inbox()
        for i in range(self.link_count):
            if self.links[i].source == g.number:
                self._lose_suffix(self.links[i])
            elif self.links[i].to == -1 - host and not self.links[i].hints:
                self.links[i].limit = min(self.links[i].limit, self.links[i].delivered)
        for other in self.gateways:
            if other is not g and other.roads[host] != NULL:
                self._renew_road(other, g, up_at)
        for p in self.processes:
            if p.host == host and p.alive and p.up != NULL:
                p.up = self._new_link(-1 - host, p.desk.incarnation)
                p.up.hold_until = p.up.connects_at = up_at
        return self.later(max(down_us, <int64_t>0), E_SUCCEED, 0, host)

    cdef int _renew_road(self, SimGateway one, SimGateway to, uint64_t up_at) except -1:
        # Another connection in place of the one that has ended.
        cdef link_t *before = one.roads[to.index]
        cdef link_t *link = self._new_link(-1 - to.index, one.number)
        link.delay_ns = before.delay_ns
        link.hold_until = max(up_at, before.hold_until)
        link.connects_at = up_at
        one.roads[to.index] = link
        one.lines.replace(one, to.number, link)
        return 0

    cdef void _found_out(self, uint64_t at) noexcept:
        # Until then owners may not know what is nowhere.
        self.found_out_at = max(self.found_out_at, at)

    cdef int _succeed(self, int host) except -1:
        cdef SimGateway before = self.gateways[host]
        cdef SimGateway g
        cdef SimGateway other
        cdef Process p
        cdef buf_t hello
        cdef bytes frame
        if before.doomed:
            return 0                    # the whole host has been lost meanwhile
        g = SimGateway(None, before.number)
        g.successor = True
        g.clock = &self.queue
        g.index = host
        g.told, g.holds, g.parked, g.unparked = before.told, before.holds, before.parked, before.unparked
        g.at_limit = before.at_limit
        self.gateways[host] = g
        frame = encode(K_HELLO, g.number, PROTOCOL_VERSION, ROLE_SUCCESSOR, self.count.successions, b"")
        for other in self.gateways:
            if other is g or other.doomed:
                continue                # its agent knows who is gone
            self._connect(g, other)
            if rng_next(&self.rng) & 1:
                self._probe(g.roads[other.index])
            if other.balance.slot_of(g.number) >= 0:
                hello.data = frame
                hello.size = len(frame)
                link_send(g.roads[other.index], &hello)
        for p in self.processes:
            if p.host == host and p.alive and p.greeted:
                self._let_in_again(g, p)
        for incarnation in self.reported:
            if home_of(incarnation) == g.number:
                g.report_lost(incarnation, 0, 0, b"")
        return self._turn(g)

    cdef int _let_in_again(self, SimGateway g, Process p) except -1:
        # A connection to a broker begins with an empty frame from there.
        cdef link_t *down = self._new_link(p.index, g.number)
        g.lines.replace(g, p.desk.incarnation, down)
        return self._probe(down)

    cdef int _probe(self, link_t *link) except -1:
        cdef buf_t empty
        empty.data = NULL
        empty.size = 0
        link_send(link, &empty)
        return 0

    cdef int _tell_gone(self, SimGateway g, uint64_t number) except -1:
        if g.balance.slot_of(number) < 0:
            return 0                    # it has never known it
        self.last_fault = self.queue.now
        self.say(self.processes[0], f"broker {g.number} is told that {number} is gone", -1)
        self.count.lost_moving += g.balance.nodes[g.balance.slot_of(number)].given
        g.remove_peer(number)
        g.arm()
        return 0

    cdef int _disturb(self, str kind, int one, int other, int64_t us) except -1:
        # A cut holds up both directions or one, a reset loses what is in them; a slow link is one from now on.
        cdef SimGateway a, b
        cdef link_t *link
        if not self.gateways or one == other or max(one, other) >= len(self.gateways):
            return 0
        a, b = self.gateways[one], self.gateways[other]
        if a.roads[b.index] == NULL or b.roads[a.index] == NULL:
            return 0                    # a successor does not know who was lost before
        self.last_fault = max(self.last_fault, self.queue.now + <uint64_t>us * 1000)
        self.count.cuts += kind != "reset"
        self.count.resets += kind == "reset"
        self.count.faults += 1
        if kind == "reset":
            self._found_out(self.last_fault + AFTER_RESET_NS)
            for a, b in ((a, b), (b, a)):
                self._lose_suffix(a.roads[b.index])
                self._renew_road(a, b, self.queue.now + <uint64_t>us * 1000)
            if rng_next(&self.rng) & 1:
                a, b = b, a
            if not self.plan.get("no_probes"):
                self._probe(a.roads[b.index])       # b has connected to the door of a
            return 0
        link = a.roads[b.index]
        if kind == "slow":
            link.delay_ns += <uint64_t>us * 1000
            return 0
        link.hold_until = max(link.hold_until, self.queue.now + <uint64_t>us * 1000)
        if kind == "cut":
            link = b.roads[a.index]
            link.hold_until = max(link.hold_until, self.queue.now + <uint64_t>us * 1000)
        return 0

    # ------------------------------------------------------------------------------------------- end

    cdef str busy_with(self):
        # What is left to happen; empty: only brokers that look for work in vain.
        cdef Process p
        cdef SimGateway g
        cdef message_t *message
        cdef int i
        if self.finished_s < 0 or self.pending:
            return f"{self.pending} faults or notices"
        for p in self.processes:
            if p.alive and (not (p.blocked or p.driver_leads) or p.paused_until > self.queue.now or p.inbox != NULL or (
                    p.desk.out.size or p.desk.ledger.open.count or p.desk.queue.own_count or p.suspended or
                    p.desk.queue.foreign_count or p.posted != NULL or p.cur != NULL or (
                        p.desk.queue.parked.count and not self.losses()))):
                return f"process {p.index}"
        for g in self.gateways:
            if g.alive and (g.inbox != NULL or g.paused_until > self.queue.now or g.balance.queued):
                return f"broker {g.number}"
        for i in range(self.link_count):
            message = self.links[i].flying
            while message != NULL:
                for record in decode(message.data[:message.size]):
                    if record[0] not in HINTS_ALONE:
                        return f"a {TABLE[record[0]][0]} on its way"
                message = message.after
        return ""
