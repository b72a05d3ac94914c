"""The driver of a process, in simulated time.

What decides is the real code: `Desk`, `Broker`, and of `Node` `turn`, `between`, `_look` and `report_lost`. What polls
or reads a clock is replaced: who leads, the takeover timer, `block` (its loop here is the one of node.pyx, cut into
the pieces between two polls).
"""

from libc.stdlib cimport free

from scoop._core.call cimport M_ASKED
from scoop._core.desk cimport pthread_mutex_trylock, pthread_mutex_unlock
from scoop._core.node cimport (
    MAY_AT_LAST, MAY_RESUME, MAY_WORK, SIGNALS_SOON_US, STILL_NS, W_FINAL, W_RESUMED, W_TIMEOUT)
from scoop._core.wire cimport (
    CANCEL_ORPHAN, CANCEL_RECALL, K_HELLO, PROTOCOL_VERSION, ROLE_ORIGIN, buf_t, put_blob, put_raw, record_t, span_t)

from scoop_sim.events cimport E_BLOCK, E_DRIVE, E_TIMER, link_send, queue_put


class Violation(AssertionError):
    """The program under test did what it must never do."""


cdef class SimDesk(Desk):
    """A desk that counts how often each future ends."""

    cdef void complete(self, call_t *call) noexcept nogil:
        cdef future_t *f = <future_t *>call
        f.ended += 1
        if f.ended > 1 or f.refs <= 0:
            self.wrong.count += 1
            self.wrong.what = "a future ended twice" if f.ended > 1 else "a freed future ended"
            self.wrong.spec = f.spec
        Desk.complete(self, call)

    cdef void _requeue(self, call_t *call) noexcept nogil:
        self.seen.came_back += 1
        Desk._requeue(self, call)

    cdef void _on_cancel(self, record_t *r) noexcept nogil:
        self.seen.orphans += r.num[4] == CANCEL_ORPHAN
        Desk._on_cancel(self, r)

    cdef int handle(self, const char *data, size_t size, uint64_t now) noexcept nogil:
        return Desk.handle(self, data, size, self.clock.now)


cdef class Process(Node):
    """One process; its main thread is advanced by the world."""

    def __init__(self, *args):
        self.alive = True
        self.slowness = 1.0
        self.known = set()
        self.asked = {}
        self.forms = []

    def say_hello(self, int role):
        """Put the first record down, as Node.hello does."""
        cdef uint64_t[4] numbers
        cdef span_t span
        numbers[0] = self.desk.incarnation
        numbers[1] = PROTOCOL_VERSION
        numbers[2] = role
        self.desk.is_source = role == ROLE_ORIGIN
        numbers[3] = self.index
        span.data = "w"
        span.size = 1
        put_blob(&self.desk.hello, K_HELLO, 4, numbers, span)
        put_raw(&self.desk.out, self.desk.hello.data, self.desk.hello.size)

    # ------------------------------------------------------------------------------- what the links do

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

    cdef int turn(self, int64_t timeout_us) noexcept nogil:
        # The real turn, which then has nothing to poll for.
        self.turns += 1
        self._receive(self.queue.now)
        return Node.turn(self, 0)

    cdef void _receive(self, uint64_t now) noexcept nogil:
        cdef message_t *message
        cdef int slot
        while self.inbox != NULL:
            message = self.inbox
            self.inbox = message.next
            if self.broker is None:
                self.desk.handle(message.data, message.size, now)
            else:
                slot = self.broker.balance.slot_of(message.link.source)
                if slot >= 0:
                    self.broker.feed(slot, message.data, message.size)
                else:
                    self.broker._hello(message.link.source, message.data, message.size)
            free(message)

    cdef void _flush(self, uint64_t now) noexcept nogil:
        cdef buf_t swap
        if self.desk.want_us > 0:
            self.desk.export_wanted()
        if self.desk.out.size == 0:
            return
        swap = self.desk.out
        self.desk.out = self.outgoing
        self.desk.out.size = 0
        self.desk.out_since_ns = 0
        self.outgoing = swap
        if self.broker is not None:
            self.broker.feed(self.broker.local, self.outgoing.data, self.outgoing.size)
        else:
            link_send(self.up, &self.outgoing)
        self.outgoing.size = 0

    # ------------------------------------------------------------------------------------ who leads

    cdef void _take_lead(self) noexcept nogil:
        if self.driver_leads:
            self.driver_leads = False
            pthread_mutex_unlock(&self.lead)
        pthread_mutex_trylock(&self.lead)

    cdef void _leave_lead(self) noexcept nogil:
        self.left_ns = self.queue.now
        pthread_mutex_unlock(&self.lead)
        if not self.timer_armed:
            self.timer_armed = True
            queue_put(self.queue, self.queue.now + TAKEOVER_NS, E_TIMER, self.index, 0, NULL)

    cdef void driver_takes(self) noexcept nogil:
        # The driver thread finds the lead free and keeps it until the main thread wants it.
        if self.driver_leads or self.blocked or pthread_mutex_trylock(&self.lead) != 0:
            return
        self.driver_leads = True
        self.drive_on(False)

    cdef void drive_on(self, bint slept) noexcept nogil:
        # One turn of the driver thread, which then sleeps until something comes or calls may have stalled.
        if slept and self.desk.ledger.open.count:
            self._receive(self.queue.now)
            self.desk.ask_stalled(self.queue.now)
        self.turn(-1)
        if self.desk.ledger.open.count:
            self.drive_gen += 1
            queue_put(self.queue, self.queue.now + STALL_NS, E_DRIVE, self.index, self.drive_gen, NULL)

    cdef void hurry(self) noexcept nogil:
        # From the main thread while it runs user code, or from the thread that listens to the agent.
        if self.told_elsewhere:
            self.driver_takes()
        elif self.driver_leads:
            self.drive_on(True)
        elif not self.blocked and pthread_mutex_trylock(&self.lead) == 0:
            if self.hurried:
                pthread_mutex_unlock(&self.lead)
                self.driver_takes()
            else:
                self.hurried = True
                self.turn(0)
                self._leave_lead()

    cdef void wake(self) noexcept nogil:
        # `between` found the driver thread in its poll and woke it.
        if self.woken:
            self.woken = False
            if self.driver_leads:
                self.drive_on(True)

    # ---------------------------------------------------------------------------------------- waiting

    cdef int block_begin(self, call_t *target, uint64_t deadline, int may, bint may_recall) except -1:
        # The W_ bits when the wait is over at once, 0 when the main thread sleeps now.
        cdef int reason = self._look(target, may)
        if reason:
            return reason
        self._take_lead()
        self.hurried = False
        self.desk.busy = self.desk.remote_only or not may & MAY_WORK
        self.only_waits = not may & MAY_WORK
        self.desk.blocked = may & MAY_RESUME != 0
        self.blocked = True
        self.target = target
        self.deadline = deadline
        self.may = may
        self.may_recall = may_recall
        self.recall_at = 0
        self.impatient_at = self.queue.now + SIGNALS_SOON_US * 1000
        if self.still_ns == 0 or not may & MAY_AT_LAST:
            self.still_ns = self.queue.now
        return self.block_go_on(False)

    cdef int block_go_on(self, bint slept) except -1:
        cdef int reason
        cdef int spins = 0
        cdef uint64_t now = self.queue.now
        cdef uint64_t until
        while True:
            if slept or self.inbox != NULL or not self._may_sleep():
                # The turn in which poll() slept is over, or it has no reason to sleep.
                if slept and self.desk.ledger.open.count:
                    self._receive(now)
                    self.desk.ask_stalled(now)
                self.turn(0)
                slept = False
                spins += 1
                if spins > 1000:
                    raise Violation(f"process {self.index} spins in its wait without ever sleeping")
            if now >= self.impatient_at:
                self.desk.queue.patient = False
            reason = self._look(self.target, self.may)
            if reason:
                break
            if self.deadline and now >= self.deadline:
                reason = W_TIMEOUT
                break
            if self.may & MAY_AT_LAST and now >= self.still_ns + STILL_NS:
                self.over_limit = True
                self.still_ns = 0
                reason = W_TIMEOUT
                break
            if self.may_recall and self.recall_at == 0:
                self.recall_at = now + RECALL_AFTER_NS
            elif self.may_recall and now >= self.recall_at:
                self.desk.ask_back(self.target, CANCEL_RECALL)
                self.recall_at = now + RECALL_AGAIN_NS
            if self.inbox == NULL and self._may_sleep():
                until = self.deadline
                if self.desk.ledger.open.count and (until == 0 or now + STALL_NS < until):
                    until = now + STALL_NS
                if self.may_recall and not self.target.marks & M_ASKED and (until == 0 or self.recall_at < until):
                    until = self.recall_at
                if self.desk.queue.patient and self.desk.queue.parked.count and (
                        until == 0 or self.impatient_at < until):
                    until = self.impatient_at
                if self.may & MAY_AT_LAST and (until == 0 or self.still_ns + STILL_NS < until):
                    until = self.still_ns + STILL_NS
                if until:
                    self.block_gen += 1
                    queue_put(self.queue, until, E_BLOCK, self.index, self.block_gen, NULL)
                return 0
        if reason & ~W_TIMEOUT:
            self.still_ns = 0
        if reason & (W_FINAL | W_RESUMED):
            self.over_limit = False
        self.blocked = False
        self.desk.busy = True
        self.desk.blocked = False
        self.only_waits = False
        self._leave_lead()
        return reason

    cdef bint _may_sleep(self) noexcept nogil:
        # What Node.turn looks at before its poll.
        return self.desk.out.size == 0 and self.posted == NULL and not (
            self.desk.want_us > 0 and self.desk.queue.own_count)
