"""What one process holds, under one lock: its queue, its ledger, its functions; and what it gives away.

Rules of the lock: it is held for microseconds, never while waiting for the GIL (a thread that holds the GIL waits for
the lock, so that would be a deadlock: whoever waits on a condition releases the lock before it takes the GIL), and no
user code, no Python object and no system call is touched under it. Methods marked (locked) are called with it held.
"""

from libc.errno cimport ETIMEDOUT
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free
from posix.time cimport CLOCK_MONOTONIC, timespec

from cpython.object cimport PyObject

from scoop._core.call cimport M_ASKED, M_NOTIFY, M_PROMOTED, M_SUSPENDED, S_EXPORTED
from scoop._core.ledger cimport UNKNOWN_FOR_S
from scoop._core.localq cimport ring_pop
from scoop._core.net cimport now_ns
from scoop._core.scalars cimport put_scalar
from scoop._core.table cimport mix64, table_free, table_get, table_pop, table_put
from scoop._core.wire cimport (
    CANCEL_LOOK, CANCEL_RECALL, K_ANSWER, K_CANCEL, K_LEAVE, K_REQUEST, K_SURPLUS, T_RETRIED, T_SCALARS,
    V_NOT_STARTED, buf_free, put_record, put_task)

cdef extern from "pthread.h" nogil:
    ctypedef struct pthread_condattr_t:
        pass
    int pthread_condattr_init(pthread_condattr_t *)
    int pthread_condattr_setclock(pthread_condattr_t *, int)
    int pthread_cond_init(pthread_cond_t *, pthread_condattr_t *)
    int pthread_cond_wait(pthread_cond_t *, pthread_mutex_t *)
    int pthread_cond_timedwait(pthread_cond_t *, pthread_mutex_t *, const timespec *)
    int pthread_cond_destroy(pthread_cond_t *)

cdef enum:
    STALLED_ASKED_MAX = 4
    UNKNOWN_EST_US = 10000      # what a function that never ran counts as (design, section 4)
    SURE_RUNS = 100             # after so many its mean is taken as it is
    FIRST_LOOK_NS = 500000000   # after the broker has been started again
    NEXT_LOOK_NS = 1500000000


cdef class Store:
    """The state of one process as a node of the federation.

    Args:
        incarnation: its random number, not 0.
        remote_only: calls submitted here never run here.
        crash_limit: how many workers may die running one call.
    """

    def __cinit__(self, uint64_t incarnation, bint remote_only=False, int crash_limit=3):
        cdef pthread_condattr_t monotonic
        self.incarnation = incarnation
        self.remote_only = remote_only
        self.queue = LocalQueue()
        self.ledger = Ledger(crash_limit)
        self.next_id = 1
        self.busy = True
        pthread_mutex_init(&self.lock, NULL)
        pthread_condattr_init(&monotonic)
        pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC)
        pthread_cond_init(&self.changed, &monotonic)
        pthread_cond_init(&self.noticeable, &monotonic)

    def __dealloc__(self):
        cdef parcel_t *parcel
        while self.parcels != NULL:
            parcel = self.parcels
            self.parcels = parcel.next
            free(parcel)
        free(self.resumed.items)
        free(self.noticed.items)
        free(self.grave.items)
        table_free(&self.forms)
        table_free(&self.begun)
        buf_free(&self.out)
        buf_free(&self.hello)
        buf_free(&self.constants)
        pthread_cond_destroy(&self.changed)
        pthread_cond_destroy(&self.noticeable)
        pthread_mutex_destroy(&self.lock)

    # ------------------------------------------------------------------------------- giving and asking

    cdef int encode_call(self, call_t *call, buf_t *b) noexcept nogil:
        # (locked or led) Own calls carry their function's form the first time; others fetch it by number.
        cdef span_t form, payload
        cdef buf_t scratch
        cdef int rc
        form.data = NULL
        form.size = 0
        scratch.data = NULL
        scratch.size = 0
        scratch.cap = 0
        payload.data = call.data
        payload.size = call.size
        if call.form != NULL and not call.form.shipped:
            call.form.shipped = 1
            form.data = call.form.blob
            form.size = call.form.blob_size
        if call.flags & T_SCALARS and call.owner == 0:
            put_scalar(&scratch, <PyObject *>call.args)
            payload.data = scratch.data
            payload.size = scratch.size
        rc = put_task(b, call.owner if call.owner else self.incarnation, call.id, call.attempt, call.hops + 1,
                      call.flags, call.fn, call.est_us, <const char *>call.lineage, form, payload)
        buf_free(&scratch)
        return rc

    cdef uint32_t _estimate_us(self, call_t *call) noexcept nogil:
        # Of a call of our own; NULL counts as unknown.
        cdef uint64_t est_us, runs
        if call == NULL or call.form == NULL or call.form.est_ns == 0:
            return UNKNOWN_EST_US
        est_us = call.form.est_ns * (call.items if call.items else 1) // 1000 + 1
        runs = call.form.runs
        if runs < SURE_RUNS:
            # A few short runs say little: by a first one of a microsecond a thousand calls would go to one node.
            est_us = max(est_us, <uint64_t>UNKNOWN_EST_US // ((runs + 1) * (runs + 1)))
        return <uint32_t>min(est_us, <uint64_t>0xffffffff)

    cdef void export_wanted(self) noexcept nogil:
        cdef call_t *call
        pthread_mutex_lock(&self.lock)
        while self.want_us > 0:
            # What waits here for its turn goes only to a node with nothing to do; and a main thread that looks
            # for work keeps the next call for itself, or calls would travel between idle processes for ever.
            if self.returned and self.blocked:
                break               # the main thread is about to take what has come back
            if not self.busy and self.queue.own_count + self.queue.foreign_count <= 1:
                break
            call = self.queue.give(self.want_idle <= 0)
            if call == NULL:
                break
            if call.owner == 0:
                call.est_us = self._estimate_us(call)
                self.ledger.export(call)
            self.exported += 1
            if self.surplus_told:
                self.surplus_told -= 1      # as the broker counts: what comes after is news to it
            self.want_us -= call.est_us if call.est_us else 1
            self.encode_call(call, &self.out)
            self.stamp(AT_ENCODED)
            if call.owner:
                self.want_idle -= 1
                free(call.data)
                free(call)
        pthread_mutex_unlock(&self.lock)

    cdef void begin(self, call_t *call) noexcept nogil:
        # (locked) From now on it cannot be given back.
        table_put(&self.begun, mix64(call.owner) + call.id, call)

    cdef bint has_begun(self, uint64_t owner, uint64_t id) noexcept nogil:
        # (locked)
        return table_get(&self.begun, mix64(owner) + id) != NULL

    cdef void end(self, call_t *call) noexcept nogil:
        # (locked)
        table_pop(&self.begun, mix64(call.owner) + call.id)

    cdef void stamp(self, int what) noexcept nogil:
        # What happens in every turn counts only as the next moment after the one before it.
        if not self.tracing or (what in (AT_ROUTED, AT_SENT, AT_ANSWERED) and (
                self.stamps[what] >= self.stamps[what - 1])):
            return
        self.stamps[what] = now_ns()

    def moments(self):
        """Return the last call's moments in nanoseconds of the monotonic clock; 0 where it did not pass here."""
        return [self.stamps[i] for i in range(STAMPS)]

    cdef void tell_surplus(self, bint stuck) noexcept nogil:
        # Only crossings of zero and changes by a factor of two are worth a message. The next task is no surplus
        # unless the main thread has been busy for long.
        cdef uint32_t now = <uint32_t>self.queue.own_count
        cdef uint64_t[2] numbers
        now += <uint32_t>self.queue.foreign_count
        if self.queue.foreign_count and not stuck:
            now -= 1
        if (now == 0) == (self.surplus_told == 0) and now <= self.surplus_told * 2:
            return
        self.surplus_told = now
        numbers[0] = now
        pthread_mutex_lock(&self.lock)
        numbers[1] = self.queue.foreign_us + self.queue.own_count * self._estimate_us(self.queue.oldest())
        put_record(&self.out, K_SURPLUS, 2, numbers)
        pthread_mutex_unlock(&self.lock)

    cdef void ask_work(self, bint idle) noexcept nogil:
        # (locked)
        cdef uint64_t[2] numbers
        if self.leaving:
            return
        numbers[0] = self.queue.hunger(idle)
        numbers[1] = idle
        if numbers[0]:
            put_record(&self.out, K_REQUEST, 2, numbers)

    cdef void begin_leaving(self) noexcept nogil:
        # (locked) What has not started goes back; what runs, and its children, end here or elsewhere.
        cdef uint64_t done = 0
        cdef call_t *call = self.queue.next_foreign()
        if not self.leaving:
            put_record(&self.out, K_LEAVE, 1, &done)
        self.leaving = True
        while call != NULL:
            self.give_back(call)
            call = self.queue.next_foreign()
        call = ring_pop(&self.queue.parked)
        while call != NULL:
            self.give_back(call)
            call = ring_pop(&self.queue.parked)

    cdef void give_back(self, call_t *call) noexcept nogil:
        # (locked) To its owner, as if that had asked for it; a task that crashed a worker to the broker, for it must
        # not run where it was submitted.
        if call.flags & T_RETRIED:
            self.encode_call(call, &self.out)
            free(call.data)
            free(call)
        else:
            self.let_go(call, CANCEL_RECALL)

    cdef void let_go(self, call_t *call, uint64_t mode) noexcept nogil:
        # (locked) Brokers are to know that it is not here any more, and has not started.
        cdef uint64_t[5] numbers
        numbers[0] = call.owner
        numbers[1] = call.id
        numbers[2] = call.attempt
        numbers[3] = V_NOT_STARTED
        numbers[4] = mode
        put_record(&self.out, K_ANSWER, 5, numbers)
        free(call.data)
        free(call)

    cdef void leave_if_done(self) noexcept nogil:
        # (locked) The broker answers with STOP, when it has read all that was said before.
        cdef uint64_t done = 1
        if self.left or self.begun.count or self.queue.own_count or self.queue.foreign_count or (
                self.queue.parked.count or self.ledger.open.count):
            return
        self.left = True
        put_record(&self.out, K_LEAVE, 1, &done)

    cdef void ask_stalled(self, uint64_t now) noexcept nogil:
        # Nothing has arrived for a while. Whoever holds these calls unstarted may itself be waiting for us, so some of
        # those that somebody waits for are asked back; they run here then, or at somebody idle. After a longer while
        # the question is also whether they are there at all, all of them, and is repeated: what was in a connection
        # that broke is gone, a question or its answer too.
        # A few of them are looked for even while results arrive: what one holds for ever is never late otherwise.
        cdef bint late, renew
        if self.ledger.fresh:
            self.ledger.fresh = False
            self.arrived_ns = self.renewed_ns = now
        if self.looks_left and now >= self.look_at_ns:
            self.look_for_all(now)
        late = now - self.arrived_ns >= LATE_NS
        renew = now - self.renewed_ns >= LATE_NS
        if not renew and (now - self.arrived_ns < STALL_NS or now - self.stalled_ns < STALL_NS or self.remote_only):
            return
        pthread_mutex_lock(&self.lock)
        if renew:
            self.renewed_ns = now
            self._look_for(LATE_LOOKS_MAX if late else min(LATE_LOOKS_MAX, LOOKS_MIN + self.ledger.open.count // 8))
        if renew and late:
            self._may_ask_again()
        if now - self.arrived_ns >= STALL_NS and now - self.stalled_ns >= STALL_NS and not self.remote_only:
            self.stalled_ns = now
            self._recall_stalled(late)
        pthread_mutex_unlock(&self.lock)

    cdef void _recall_stalled(self, bint late) noexcept nogil:
        # (locked)
        cdef call_t *call
        cdef size_t tried = 0, at
        cdef int most = STALLED_ASKED_MAX
        for tried in range(self.ledger.open.mask + 1 if self.ledger.open.mask else 0):
            at = (self.asked_from + tried) & self.ledger.open.mask
            if self.ledger.open.cells[at].key == 0:
                continue
            call = <call_t *>self.ledger.open.cells[at].value
            if not call.marks & M_ASKED and (
                    call.marks & (M_SUSPENDED | M_NOTIFY | M_PROMOTED) or (late and self.draining)):
                self.ask_back(call, CANCEL_RECALL)
                most -= 1
            if most == 0:
                break
        self.asked_from += tried + 1

    cdef void _look_for(self, size_t most) noexcept nogil:
        # (locked) Whether the next `most` calls are where they are believed to be.
        cdef size_t tried = 0, at
        for tried in range(self.ledger.open.mask + 1 if self.ledger.open.mask else 0):
            at = (self.looked_from + tried) & self.ledger.open.mask
            if self.ledger.open.cells[at].key == 0:
                continue
            self._say_cancel(<call_t *>self.ledger.open.cells[at].value, CANCEL_LOOK)
            most -= 1
            if most == 0:
                break
        self.looked_from += tried + 1

    cdef void begin_looking(self, uint64_t now) noexcept nogil:
        # (locked) The broker is another one, and may not know what has become of our calls.
        self.looks_left = LOOKS
        self.look_at_ns = now + FIRST_LOOK_NS
        self.ledger.unknown_for_s = 1
        self._may_ask_again()

    cdef void _may_ask_again(self) noexcept nogil:
        # (locked) What was asked of our calls may be lost, or the answer.
        cdef size_t at
        for at in range(self.ledger.open.mask + 1 if self.ledger.open.mask else 0):
            if self.ledger.open.cells[at].key != 0:
                (<call_t *>self.ledger.open.cells[at].value).marks &= ~M_ASKED

    cdef void look_for_all(self, uint64_t now) noexcept nogil:
        # Everybody has had time to say what he holds. Of what nobody knows the first answer is noted and the second
        # one believed; the third question is for those whose answer was lost too, and the fourth time is the end.
        self.looks_left -= 1
        self.look_at_ns = now + NEXT_LOOK_NS
        if self.looks_left == 0:
            self.ledger.unknown_for_s = UNKNOWN_FOR_S
            return
        pthread_mutex_lock(&self.lock)
        self._look_for(self.ledger.open.count)
        pthread_mutex_unlock(&self.lock)

    cdef void ask_back(self, call_t *call, int mode) noexcept nogil:
        # (locked) Whoever holds the call answers whether it has started.
        if call.state != S_EXPORTED or call.marks & M_ASKED:
            return
        if mode == CANCEL_RECALL and call.flags & T_RETRIED and self.is_source:
            return              # it crashed a worker: it never runs in the process of the program
        call.marks |= M_ASKED
        self._say_cancel(call, mode)

    cdef void _say_cancel(self, call_t *call, int mode) noexcept nogil:
        # (locked)
        cdef uint64_t[4] numbers
        numbers[0] = self.incarnation
        numbers[1] = call.id
        numbers[2] = call.attempt
        numbers[3] = mode
        put_record(&self.out, K_CANCEL, 4, numbers)

    # ----------------------------------------------------------------------- threads that do not lead

    cdef bint wait_changed(self, uint64_t deadline_ns) noexcept nogil:
        # (locked) Waits for any change; False when the time is over. 0: no limit.
        cdef timespec until
        cdef int rc
        self.waiters += 1
        if deadline_ns == 0:
            rc = pthread_cond_wait(&self.changed, &self.lock)
        else:
            until.tv_sec = deadline_ns // 1000000000
            until.tv_nsec = deadline_ns % 1000000000
            rc = pthread_cond_timedwait(&self.changed, &self.lock, &until)
        self.waiters -= 1
        return rc != ETIMEDOUT

    cdef void wake_waiters(self) noexcept nogil:
        # (locked)
        if self.waiters:
            pthread_cond_broadcast(&self.changed)
        pthread_cond_broadcast(&self.noticeable)

    cdef void wait_noticed(self) noexcept nogil:
        # (locked)
        pthread_cond_wait(&self.noticeable, &self.lock)
