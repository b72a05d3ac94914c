"""A run with its checks: what must hold during it, and when nothing is left to happen."""

from libc.stdint cimport uint64_t

from scoop._core.balance cimport bnode_t, btask_t
from scoop._core.broker cimport Broker
from scoop._core.call cimport call_t
from scoop._core.localq cimport LocalQueue
from scoop._core.outbox cimport action_t
from scoop._core.table cimport cell_t
from scoop._core.wire import decode

from scoop_sim.events cimport event_t, message_t, queue_pop
from scoop_sim.brokers cimport BROKERS_MAX, SimGateway
from scoop_sim.process cimport Process, frame_t, future_t, stack_t
from scoop_sim.world cimport World
from scoop_sim.process import Violation


cdef enum:
    AGAIN = 30                  # a worker may have held so many of a chain of tasks, each of which waits for the next
    MEASURE_EVERY = 4096


cdef class Job(World):
    """One run; see World for the arguments."""

    cdef size_t most_bytes

    def run(self, double limit_s=60.0, int check_every=64):
        """Run until nothing is left to happen.

        Args:
            limit_s: simulated seconds after the last fault, beyond the work, within which all must settle.
            check_every: events between two checks of all machines, 0: never.

        Raises:
            Violation: what must never happen happened.
        """
        cdef event_t event
        cdef uint64_t checked = 0
        cdef int looks = 0
        # Every death has parts of the work done again: each process that had tasks of the dead one goes on with them
        # and waits for what is below them.
        cdef double alone_ns = self.work_ns * self.slowest
        try:
            while queue_pop(&self.queue, &event):
                self._on_event(&event)
                if self.finished_s >= 0 and self.gateways and self.queue.popped % 64 == 0 and not self.busy_with():
                    break
                if self.queue.popped % MEASURE_EVERY == 0:
                    self.most_bytes = max(self.most_bytes, self.held_bytes())
                if check_every and self.queue.popped >= checked + <uint64_t>check_every:
                    checked = self.queue.popped
                    self.validate()
                    looks += 1
                    if looks % 8 == 0 and self.queue.now >= self.found_out_at:
                        self.conservation()
                if self.queue.now > self.last_fault + <uint64_t>(limit_s * 1e9 + alone_ns * (
                        1 + AGAIN * (self.count.deaths + self.count.deaths_with_host))):
                    self.fail(f"not settled {limit_s} s after the last fault: {self.busy_with()}; {self.where()}", -1)
            self.settled()
        except AssertionError as error:
            if not isinstance(error, Violation):
                raise Violation(f"{error} (at {self.queue.now / 1e6:.3f} ms)") from error
            raise

    def validate(self):
        """Check the machines' own invariants."""
        cdef Process p
        cdef SimGateway g
        cdef Broker broker
        for broker in self.brokers():
            broker.balance.validate()
        for g in self.gateways:
            g.federation.validate()
        for p in self.processes:
            if p.alive:
                p.desk.ledger.validate()

    def brokers(self):
        """Return the brokers that live."""
        cdef SimGateway g
        if self.gateways:
            return [g for g in self.gateways if g.alive]
        return [(<Process>self.processes[0]).broker]

    def settled(self):
        """Check what must hold when nothing is left to happen."""
        cdef Process p
        cdef future_t *f = self.futures
        cdef Broker broker
        cdef int i
        cdef bint faultless = self.count.deaths + self.count.hosts_lost + self.losses() == 0
        if self.finished_s < 0:
            self.fail(f"the program waits for ever; {self.where()}", -1)
        while f != NULL:
            p = self.processes[f.owner]
            if p.alive and f.ended == 0 and f.c.state != 5:
                self.fail(f"a future never ended: state {f.c.state}, marks {f.c.marks}; {self.where()}", f.spec)
            f = f.before
        for i in range(1, self.spec_count):
            if faultless and self.specs[i].submitted and (
                    self.specs[i].started != (0 if self.specs[i].cancelled else 1)):
                self.fail(f"without a fault a task ran {self.specs[i].started} times", i)
        self.validate()
        for broker in self.brokers():
            balance = broker.balance.statistics()
            # After a succession or a reset notices of what runs may be older than its end.
            if balance["queued"] or (balance["known"] and not self.losses()):
                self.fail(f"a broker still knows tasks: {balance}; {self.where()}", -1)
            if broker.malformed:
                self.fail("a broker got malformed frames", -1)
        for p in self.processes:
            if not p.alive:
                continue
            if len(p.desk.ledger) or p.desk.queue.own_count or p.desk.queue.foreign_count or p.desk.out.size or (
                    p.inbox != NULL or p.suspended or (p.desk.queue.parked.count and not self.losses())):
                self.fail(f"process {p.index} still holds something; {self.where()}", -1)
            if faultless and not self.count.pauses and p.desk.ledger.duplicates:
                self.fail(f"without a fault process {p.index} got a result twice", -1)
            self.collect(p)
            self.sweep(p)
            if p.desk.malformed:
                self.fail(f"process {p.index} got malformed frames", -1)
        self.repeated()
        f = self.futures
        while f != NULL:
            p = self.processes[f.owner]
            if p.alive and f.refs:
                self.fail(f"a future that nobody uses is held {f.refs} times", f.spec)
            f = f.before

    def repeated(self):
        """Check that no attempt of a task ran twice."""
        cdef future_t *f = self.futures
        cdef int i
        attempts = [0] * self.spec_count
        while f != NULL:
            attempts[f.spec] += f.c.attempt + 1
            f = f.before
        for i in range(1, self.spec_count):
            if self.specs[i].started > attempts[i]:
                self.fail(f"a task ran {self.specs[i].started} times in {attempts[i]} attempts", i)

    def conservation(self):
        """Check that each open call is somewhere: on a link, in a buffer, queue or stack, or with a process whose
        death is about to be told. Whatever is nowhere would be waited for without end."""
        cdef Process p
        cdef message_t *message
        cdef int i
        cdef size_t k
        cdef btask_t *task
        cdef SimGateway g
        cdef Broker broker
        seen = set()
        for i in range(self.link_count):
            message = self.links[i].flying
            while message != NULL:
                if message.nr <= self.links[i].limit:
                    self._note(seen, message.data[:message.size])
                message = message.after
        for p in self.processes:
            if p.alive:
                message = p.inbox
                while message != NULL:
                    self._note(seen, message.data[:message.size])
                    message = message.next
                self._note(seen, p.desk.out.data[:p.desk.out.size])
                self._note_calls(seen, p)
        for g in self.gateways:
            message = g.inbox
            while message != NULL:
                self._note(seen, message.data[:message.size])
                message = message.next
        for broker in self.brokers():
            for k in range(broker.balance.tasks.mask + 1 if broker.balance.tasks.mask else 0):
                task = <btask_t *>broker.balance.tasks.cells[k].value
                if broker.balance.tasks.cells[k].key and (task.node < 0 or self._is_dead(broker, task.node)):
                    seen.add((task.owner, task.id))
        for p in self.processes:
            if p.alive and not self.host_ends(p.host) and p.desk.ledger.open.mask:
                for k in range(p.desk.ledger.open.mask + 1):
                    if p.desk.ledger.open.cells[k].key and (
                            p.desk.incarnation, p.desk.ledger.open.cells[k].key) not in seen:
                        self.fail(f"a call of process {p.index} is nowhere; {self.where()}",
                                  (<future_t *>p.desk.ledger.open.cells[k].value).spec)

    cdef bint _is_dead(self, Broker broker, int slot) except -1:
        # Whether its death is about to be told.
        cdef uint64_t incarnation = broker.balance.nodes[slot].incarnation
        if broker.balance.nodes[slot].peer:
            return self.host_ends(<int>incarnation - 1)
        return not self.alive(incarnation)

    def _note(self, set seen, bytes frame):
        for record in decode(frame):
            seen.add(record[1:3])

    def _note_calls(self, set seen, Process p):
        cdef stack_t *stack = p.all_stacks
        cdef frame_t *frame
        cdef call_t *call
        cdef size_t k
        for k in range(p.desk.queue.foreign.count):
            call = p.desk.queue.foreign.items[(p.desk.queue.foreign.head + k) & p.desk.queue.foreign.mask]
            seen.add((call.owner, call.id))
        for k in range(p.desk.queue.parked.count):
            call = p.desk.queue.parked.items[(p.desk.queue.parked.head + k) & p.desk.queue.parked.mask]
            seen.add((call.owner, call.id))
        while stack != NULL:
            frame = stack.top
            while frame != NULL:
                if frame.foreign != NULL:
                    seen.add((frame.foreign.owner, frame.foreign.id))
                frame = frame.up
            stack = stack.all_next

    def where(self):
        """Say in one line what each process is doing: for the message of a violation."""
        cdef Process p
        cdef int i
        cdef bnode_t *node
        cdef Broker broker
        parts = []
        for p in self.processes:
            if p.alive:
                parts.append(
                    f"p{p.index}h{p.host}{'B' if p.blocked else 'r'}{'t' if p.target != NULL and p.blocked else ''}"
                    f" own={p.desk.queue.own_count} foreign={p.desk.queue.foreign_count} open={len(p.desk.ledger)}"
                    f" susp={p.suspended} want={p.desk.want_us}/{p.desk.want_idle} room={p.desk.queue.room_us}"
                    f"{self._parked(p)}{self._waits(p)}")
        for broker in self.brokers():
            nodes = []
            for i in range(broker.balance.node_count):
                node = &broker.balance.nodes[i]
                if node.alive:
                    nodes.append(f"{node.room_us}{'i' if node.idle else ''}{'p' if node.probation else ''}"
                                 f"{'b' if node.peer else ''}/{node.given}")
            parts.append(f"broker {broker.balance.home} {broker.balance.statistics()} room/given {' '.join(nodes)}")
        return "; ".join(parts)

    def _parked(self, Process p):
        cdef call_t *call
        if p.desk.queue.parked.count == 0:
            return ""
        call = p.desk.queue.parked.items[p.desk.queue.parked.head & p.desk.queue.parked.mask]
        return f" parked={p.desk.queue.parked.count} for a function of {call.owner}, call {call.id}"

    def _waits(self, Process p):
        # `12>15:3`: task 12 is suspended until task 15, which is in state 3.
        cdef stack_t *stack = p.all_stacks
        cdef future_t *f
        words = []
        while stack != NULL and len(words) < 5:
            f = stack.waits
            if stack.counted and stack.top != NULL:
                words.append(f" {stack.top.spec}>{f.spec}:{f.c.state}{'' if f.waiter == stack else '!'}")
            stack = stack.all_next
        return "".join(words)

    cdef size_t held_bytes(self) except 0:
        # What the machines have allocated, besides calls and tasks themselves.
        cdef Process p
        cdef Broker broker
        cdef LocalQueue q
        cdef size_t cells = 0, size = 0
        cdef int i
        for p in self.processes:
            q = p.desk.queue
            for mask in (q.own.mask, q.foreign.mask, q.parked.mask, q.stale.mask, p.desk.resumed.mask,
                         p.desk.noticed.mask, p.desk.grave.mask):
                size += 8 * <size_t>mask
            cells += p.desk.ledger.open.mask + p.desk.begun.mask + p.desk.forms.mask
            size += p.desk.out.cap + p.outgoing.cap + p.local_in.cap
        for broker in self.brokers():
            cells += broker.balance.tasks.mask + broker.balance.by_incarnation.mask
            size += broker.out.cap * sizeof(action_t)
            for i in range(broker.balance.node_count):
                size += broker.outs[i].cap
        return size + cells * sizeof(cell_t) + 1

    def counters(self):
        """Return how often each rare thing happened, and the sizes of the run."""
        cdef Process p
        cdef SimGateway g
        cdef Broker broker
        cdef int i
        out = {**self.count, **self.seen}
        out["longest_wait"] = self.longest_wait
        out["most_bytes"] = self.most_bytes
        out["holds"] = sum([g.holds for g in self.gateways])
        out["parked"] = sum([g.parked for g in self.gateways])
        out["unparked"] = sum([g.unparked for g in self.gateways])
        out["at_limit"] = sum([g.at_limit for g in self.gateways])
        out["events"] = self.queue.popped
        out["messages"] = sum([self.links[i].sent for i in range(self.link_count) if (
            self.links[i].source > BROKERS_MAX)])
        out["between"] = sum([self.links[i].sent for i in range(self.link_count) if self.links[i].to < 0 and (
            self.links[i].source <= BROKERS_MAX)])
        out["duplicates"] = sum([p.desk.ledger.duplicates for p in self.processes])
        out["reissued"] = sum([p.desk.ledger.reissued for p in self.processes])
        out["exported"] = sum([p.desk.exported for p in self.processes])
        brokers = self.gateways or self.brokers()
        out["dispatched"] = sum([broker.balance.dispatched for broker in brokers])
        out["moved"] = sum([broker.balance.moved for broker in brokers])
        out["dropped"] = sum([broker.balance.dropped for broker in brokers])
        out["hints"] = sum([g.told for g in self.gateways])
        for name in ("asks", "refusals", "hints_heard"):
            out[name] = sum([g.federation.statistics()[name] for g in self.gateways])
        out["submitted"] = sum([self.specs[i].submitted for i in range(self.spec_count)])
        out["started"] = sum([self.specs[i].started for i in range(self.spec_count)])
        out["settled_s"] = self.queue.now / 1e9
        out["processes"] = len(self.processes)
        out["work_s"] = self.work_ns / 1e9
        return out

    def tale(self, int spec=-1):
        """Return the story's lines: of one task, or all of them."""
        return [f"{at / 1e6:12.4f} ms  p{index:<3d} task {which:<5d} {what}"
                for at, index, which, what in self.story or () if spec < 0 or which in (spec, -1)]

    def close(self):
        """Free what the processes hold; the world is of no use afterwards."""
        for p in self.processes:
            self.bury(p)
