"""How a thread waits in a process, and what Python asks of its driver.

The main thread leads while it waits (see lead.pyx); every other thread sleeps on a condition. A wait never decides
what happens next: it returns its reasons, and the hub acts on them.
"""

from scoop._core.call cimport M_ASKED, S_DONE, S_QUEUED
from scoop._core.desk cimport pthread_mutex_lock, pthread_mutex_trylock, pthread_mutex_unlock
from scoop._core.loss cimport lost_new
from scoop._core.spin cimport spin_learn, spin_may
from scoop._core.store cimport STALL_NS
from scoop._core.net cimport fd_close, now_ns, timer_arm, wake_set
from scoop._core.wire cimport (
    CANCEL_RECALL, K_GONE, K_GUEST, K_HELLO, K_STOP, PROTOCOL_VERSION, ROLE_ORIGIN, put_blob, put_raw,
    put_record, span_t)

cdef extern from "sched.h" nogil:
    int sched_yield()

cdef extern from * nogil:
    """
    #define scoop_fence() __sync_synchronize()
    """
    void scoop_fence()

cdef enum:
    RECALL_AFTER_US = 1000          # a wait this long asks for its call back, if that has not started
    RECALL_AGAIN_US = 20000
    SPIN_NS = 200000                # a wait looks for so long before it sleeps (docs/adr/0002)
    FLUSH_AFTER_NS = 300000         # results may wait this long for company
    FLUSH_BYTES = 65536


cdef class Node(Lead):
    """One process of the federation.

    Args:
        desk: its state.
        broker: the broker in this process, or None.
        socket: the connected DEALER to the broker elsewhere, or None.
    """

    # ---------------------------------------------------------------------------------------- waiting

    cdef int _look(self, call_t *target, int may) noexcept nogil:
        cdef int reason = 0
        pthread_mutex_lock(&self.desk.lock)
        if target != NULL and (target.state >= S_DONE or (target.state == S_QUEUED and may & MAY_RUN)):
            reason |= W_FINAL
        if self.desk.draining and target == NULL and self.desk.queue.own_count + self.desk.ledger.open.count == 0:
            reason |= W_FINAL
        if may & (MAY_WORK | MAY_AT_LAST) and not self.desk.remote_only and (
                self.desk.queue.own_count or (may & MAY_WORK and self.desk.queue.foreign_count)):
            reason |= W_WORK
        if may & MAY_RESUME and (self.desk.resumed.count or self.desk.returned):
            reason |= W_RESUMED
        if self.desk.parcels != NULL or self.desk.noticed.count:
            reason |= W_NOTICE
        if self.desk.stopped or self.stopping:
            reason |= W_STOPPED
        if reason == 0 and may & MAY_WORK and not self.desk.remote_only:
            self.desk.ask_work(True)
        if reason == 0 and self.desk.leaving:
            self.desk.leave_if_done()
        pthread_mutex_unlock(&self.desk.lock)
        return reason

    cdef int block(self, call_t *target, uint64_t deadline_ns, int may, bint may_recall) noexcept nogil:
        cdef int reason
        cdef int64_t timeout_us
        cdef uint64_t now, signals_ns, spin_ns
        cdef uint64_t recall_ns = 0
        reason = self._look(target, may)
        if reason:
            return reason
        self._take_lead()
        self.hurried = False
        self.desk.busy = self.desk.remote_only or not may & MAY_WORK
        self.only_waits = not may & MAY_WORK
        self.desk.blocked = may & MAY_RESUME != 0
        now = now_ns()
        signals_ns = now + (SIGNALS_EVERY_US if self.signals_seen else SIGNALS_SOON_US) * <uint64_t>1000
        if self.still_ns == 0 or not may & MAY_AT_LAST:
            self.still_ns = now
        self.signals_seen = False
        spin_ns = self._spin_until()
        while True:
            reason = self._look(target, may)
            if reason:
                break
            now = now_ns()
            if now >= signals_ns:
                self.desk.queue.patient = False
                reason = W_SIGNAL
                break
            if may & MAY_AT_LAST and now >= self.still_ns + STILL_NS:
                self.over_limit = True
                self.still_ns = 0
                reason = W_TIMEOUT
                break
            timeout_us = <int64_t>((signals_ns - now) // 1000 + 1)
            if self.desk.ledger.open.count:
                timeout_us = min(timeout_us, <int64_t>(STALL_NS // 1000))
            if deadline_ns or may_recall:
                if deadline_ns:
                    if now >= deadline_ns:
                        reason = W_TIMEOUT
                        break
                    timeout_us = min(timeout_us, <int64_t>((deadline_ns - now) // 1000 + 1))
                if may_recall and recall_ns == 0:
                    recall_ns = now + RECALL_AFTER_US * 1000
                elif may_recall and now >= recall_ns:
                    pthread_mutex_lock(&self.desk.lock)
                    self.desk.ask_back(target, CANCEL_RECALL)
                    pthread_mutex_unlock(&self.desk.lock)
                    recall_ns = now + RECALL_AGAIN_US * 1000
                if may_recall and not target.marks & M_ASKED:
                    timeout_us = min(timeout_us, <int64_t>((recall_ns - now) // 1000 + 1))
            if now < spin_ns:
                self.turn(0)
                sched_yield()
            elif self.turn(timeout_us) < 0:
                reason = W_SIGNAL
                break
        if spin_ns:
            spin_learn(&self.spin, now_ns() < spin_ns)
        self.signals_seen = reason == W_SIGNAL
        if reason & ~(W_SIGNAL | W_TIMEOUT):
            self.still_ns = 0
        if reason & (W_FINAL | W_RESUMED):
            self.over_limit = False
        self.desk.busy = True
        self.desk.blocked = False
        self.only_waits = False
        self._leave_lead()
        return reason

    cdef uint64_t _spin_until(self) noexcept nogil:
        # The end of the part of a wait in which the thread looks instead of sleeping; 0: it sleeps at once.
        return now_ns() + SPIN_NS if self.spins and spin_may(&self.spin) else 0

    cdef int block_other(self, call_t *target, uint64_t deadline_ns, bint may_run) noexcept nogil:
        # Somebody else receives; see that somebody does.
        cdef int reason = 0
        if not self.driver_leads and pthread_mutex_trylock(&self.lead) == 0:
            pthread_mutex_unlock(&self.lead)
            self.timer_armed = True
            self.left_ns = 0
            timer_arm(self.timer_fd, 1)
        pthread_mutex_lock(&self.desk.lock)
        while reason == 0:
            if target.state >= S_DONE or (target.state == S_QUEUED and may_run):
                reason = W_FINAL
            elif self.desk.stopped or self.stopping:
                reason = W_STOPPED
            elif deadline_ns and now_ns() >= deadline_ns:
                reason = W_TIMEOUT
            else:
                self.desk.wait_changed(deadline_ns)
        pthread_mutex_unlock(&self.desk.lock)
        return reason

    cdef void between(self, uint64_t now, bint flush) noexcept nogil:
        cdef bint due
        cdef size_t before
        pthread_mutex_lock(&self.desk.lock)
        before = self.desk.out.size
        self.desk.ask_work(False)
        # A request for work does not wait for company.
        due = self.desk.out.size != 0 and (
            flush or self.driver_leads or self.desk.out.size > FLUSH_BYTES or self.desk.out.size != before)
        if self.desk.out.size and not due:
            if self.desk.out_since_ns == 0:
                self.desk.out_since_ns = now
            due = now - self.desk.out_since_ns > FLUSH_AFTER_NS
        pthread_mutex_unlock(&self.desk.lock)
        if not due:
            return
        if pthread_mutex_trylock(&self.lead) == 0:
            self.turn(0)
            self._leave_lead()
        elif not self.woken:
            self.woken = True
            wake_set(self.wake_fd)

    # ------------------------------------------------------------------------------------ from Python

    @property
    def spin_skip(self):
        """So many waits sleep at once."""
        return self.spin.skip

    @property
    def spin_misses(self):
        """Waits in a row that outlasted their looking."""
        return self.spin.misses

    def hello(self, int role, str name not None):
        """Introduce this process to the broker; the first message on its socket."""
        cdef uint64_t[4] numbers
        cdef bytes text = name.encode()
        cdef span_t span
        numbers[0] = self.desk.incarnation
        numbers[1] = PROTOCOL_VERSION
        numbers[2] = role
        self.desk.is_source = role == ROLE_ORIGIN
        numbers[3] = self.pid
        span.data = text
        span.size = len(text)
        put_blob(&self.desk.hello, K_HELLO, 4, numbers, span)
        put_raw(&self.desk.out, self.desk.hello.data, self.desk.hello.size)
        self.start_leading()

    def close(self):
        """Give back the descriptors, once the driver thread has ended. Safe to call twice."""
        fd_close(self.wake_fd)
        fd_close(self.timer_fd)
        self.wake_fd = -1
        self.timer_fd = -1

    def report_lost(self, uint64_t incarnation, uint64_t owner, uint64_t id, bytes detail not None):
        """Tell the broker that the node `incarnation`, which this process has started, is dead.

        Args:
            incarnation: the dead node.
            owner, id: the task that was running when it died, 0 if none.
            detail: how it died, for the error of a task that dies too often.
        """
        cdef lost_t *lost
        cdef uint64_t[3] numbers
        cdef span_t span
        if self.broker is not None:
            lost = lost_new(incarnation, owner, id, detail)
            pthread_mutex_lock(&self.desk.lock)
            lost.next = self.posted
            self.posted = lost
            pthread_mutex_unlock(&self.desk.lock)
            self.hurry()
            return
        numbers[0] = incarnation
        numbers[1] = owner
        numbers[2] = id
        span.data = detail
        span.size = len(detail)
        pthread_mutex_lock(&self.desk.lock)
        put_blob(&self.desk.out, K_GONE, 3, numbers, span)
        pthread_mutex_unlock(&self.desk.lock)
        self.hurry()

    def let_in(self, uint64_t incarnation, bytes key not None, bint now=True):
        """Ask the broker to take connections with the public key `key`, as `incarnation`.

        For an agent, whose own key is that of a join file.

        Args:
            incarnation: name of a worker, or number of a broker.
            key: its public key.
            now: send it now; else with what comes next.
        """
        cdef uint64_t[1] numbers
        cdef span_t span
        numbers[0] = incarnation
        span.data = key
        span.size = len(key)
        pthread_mutex_lock(&self.desk.lock)
        put_blob(&self.desk.out, K_GUEST, 1, numbers, span)
        pthread_mutex_unlock(&self.desk.lock)
        if now:
            self.hurry()

    def stop_others(self):
        """Tell every other node of this job to stop. Does not wait for them."""
        cdef uint64_t grace = 0
        if self.broker is not None:
            self.broker.stop_all = True
        else:
            pthread_mutex_lock(&self.desk.lock)
            put_record(&self.desk.out, K_STOP, 1, &grace)
            pthread_mutex_unlock(&self.desk.lock)
        self.flush()

    @property
    def left(self):
        """Whether this process has said that it holds nothing any more, after `leave`."""
        return bool(self.desk.left)

    def leave(self):
        """Take no more tasks, give back those that have not started, and stop when the others are over.

        For a worker. Returns at once; safe to call twice.
        """
        pthread_mutex_lock(&self.desk.lock)
        self.desk.begin_leaving()
        pthread_mutex_unlock(&self.desk.lock)
        self.hurry()

    def flush(self):
        """Send what is put down. Blocks until the thread that leads, if any, has made room."""
        with nogil:
            self._take_lead()
            self.turn(0)
            self._leave_lead()

    def start_leading(self):
        """Let the driver thread lead now."""
        timer_arm(self.timer_fd, 1)

    def stop(self):
        """End the driver thread's loop. Safe to call twice."""
        self.stopping = True
        scoop_fence()
        wake_set(self.wake_fd)
        timer_arm(self.timer_fd, 1)
        pthread_mutex_lock(&self.desk.lock)
        self.desk.wake_waiters()
        pthread_mutex_unlock(&self.desk.lock)
