"""What one process holds, under one lock; see the prose in desk.pxd.

Rules of the lock: it is held for microseconds, never while waiting for the GIL (a thread that holds the GIL waits for
the lock, so that would be a deadlock: whoever waits on a condition releases the lock before it takes the GIL), and no user code, no Python object
and no system call is touched under it. Methods marked (locked) are called with it held.
"""

from libc.errno cimport ETIMEDOUT
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy
from posix.time cimport CLOCK_MONOTONIC, timespec

from cpython.object cimport PyObject

from scoop._core.call cimport (
    M_ASKED, M_NOTIFY, M_PROMOTED, M_STARTED, M_SUSPENDED, S_ARRIVED, S_CANCELLED, S_EXPORTED)
from scoop._core.ledger cimport (
    R_CANCELLED, R_COMPLETE, R_FAIL, R_REISSUE, R_REQUEUE, ruling_t)
from scoop._core.localq cimport ring_push
from scoop._core.scalars cimport put_scalar
from scoop._core.table cimport table_free, table_get
from scoop._core.wire cimport (
    CANCEL_RECALL, F_ATTEMPT, F_ID, F_OWNER, F_RESULT_OUTCOME, F_RESULT_PAYLOAD, F_RESULT_RUN_NS, F_TASK_EST,
    F_TASK_FLAGS, F_TASK_FN, F_TASK_FORM, F_TASK_HOPS, F_TASK_LINEAGE, F_TASK_PAYLOAD, K_ANSWER, K_CANCEL,
    K_CONST, K_FORM, K_LOST, K_NEED, K_REQUEST, K_RESULT, K_STOP, K_SURPLUS, K_TASK, K_WANT, K_WELCOME,
    O_CANCELLED, O_LOST, O_MISSING, T_RETRIED, T_SCALARS, V_NOT_STARTED, V_STARTED, buf_free, next_record, put_blob, put_record,
    put_task, reader_t)

cdef extern from "pthread.h" nogil:
    ctypedef struct pthread_condattr_t:
        pass
    int pthread_condattr_init(pthread_condattr_t *)
    int pthread_condattr_setclock(pthread_condattr_t *, int)
    int pthread_cond_init(pthread_cond_t *, pthread_condattr_t *)
    int pthread_cond_wait(pthread_cond_t *, pthread_mutex_t *)
    int pthread_cond_timedwait(pthread_cond_t *, pthread_mutex_t *, const timespec *)
    int pthread_cond_broadcast(pthread_cond_t *)
    int pthread_cond_signal(pthread_cond_t *)
    int pthread_cond_destroy(pthread_cond_t *)

cdef enum:
    UNKNOWN_EST_US = 10000      # what a function that never ran counts as (design, section 4)


cdef class Desk:
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
        buf_free(&self.out)
        pthread_cond_destroy(&self.changed)
        pthread_cond_destroy(&self.noticeable)
        pthread_mutex_destroy(&self.lock)

    # ------------------------------------------------------------------------------ records, in turn

    cdef int handle(self, const char *data, size_t size, uint64_t now) noexcept nogil:
        cdef reader_t reader
        cdef record_t r
        cdef int got
        reader.data = data
        reader.size = size
        reader.pos = 0
        pthread_mutex_lock(&self.lock)
        while True:
            got = next_record(&reader, &r)
            if got <= 0:
                break
            if r.kind == K_RESULT:
                self.arrived_ns = now
            self._on_record(&r)
        if self.waiters:
            pthread_cond_broadcast(&self.changed)
        pthread_mutex_unlock(&self.lock)
        if got < 0:
            self.malformed += 1
        return got

    cdef void _on_record(self, record_t *r) noexcept nogil:
        cdef span_t none
        none.data = NULL
        none.size = 0
        if r.kind == K_RESULT:
            self._on_result(r)
        elif r.kind == K_TASK:
            self._on_task(r)
        elif r.kind == K_WANT:
            self.want_us = <int64_t>r.num[1]
            self.want_idle = <int64_t>r.num[2]
        elif r.kind == K_CANCEL:
            self._on_cancel(r)
        elif r.kind == K_ANSWER:
            self._on_answer(r)
        elif r.kind == K_NEED:
            self._on_need(r)
        elif r.kind == K_FORM:
            self._keep_parcel(K_FORM, r.num[2], r.num[3], none, r.span[4])
        elif r.kind == K_LOST:
            self._on_lost(r)
        elif r.kind == K_CONST:
            self._keep_parcel(K_CONST, 0, 0, r.span[2], r.span[3])
        elif r.kind == K_STOP:
            self.stopped = True
        elif r.kind == K_WELCOME:
            self.welcomed = True

    cdef void _on_task(self, record_t *r) noexcept nogil:
        cdef call_t *call
        cdef span_t none
        none.data = NULL
        none.size = 0
        self.queue.granted(r.num[F_TASK_EST])
        if r.num[F_OWNER] == self.incarnation:
            # Our own call came back to us: nobody else had room.
            if self.ledger.on_returned(r.num[F_ID], &call) == R_REQUEUE:
                self._requeue(call)
            return
        call = <call_t *>calloc(1, sizeof(call_t))
        if call == NULL:
            return
        call.owner = r.num[F_OWNER]
        call.id = r.num[F_ID]
        call.attempt = <unsigned short>r.num[F_ATTEMPT]
        call.hops = <uint8_t>r.num[F_TASK_HOPS]
        call.flags = <uint8_t>r.num[F_TASK_FLAGS]
        call.fn = <uint32_t>r.num[F_TASK_FN]
        call.est_us = <uint32_t>r.num[F_TASK_EST]
        memcpy(call.lineage, r.span[F_TASK_LINEAGE].data, 16)
        call.size = r.span[F_TASK_PAYLOAD].size
        call.data = <char *>malloc(call.size + 1)
        if call.data == NULL:
            free(call)
            return
        memcpy(call.data, r.span[F_TASK_PAYLOAD].data, call.size)
        if r.span[F_TASK_FORM].size:
            self._keep_parcel(K_FORM, call.owner, call.fn, none, r.span[F_TASK_FORM])
        self.received += 1
        self.queue.put_foreign(call)

    cdef void _on_result(self, record_t *r) noexcept nogil:
        cdef call_t *call
        cdef form_t *form
        cdef uint64_t run_ns = r.num[F_RESULT_RUN_NS]
        cdef span_t payload = r.span[F_RESULT_PAYLOAD]
        cdef span_t none
        if r.num[F_RESULT_OUTCOME] == O_MISSING:
            # Not a result: the call must be encoded again, by Python, and stays open.
            none.data = NULL
            none.size = 0
            self._keep_parcel(K_RESULT, 0, r.num[F_ID], none, payload)
            return
        if self.ledger.on_result(r.num[F_ID], &call) != R_COMPLETE:
            return
        form = call.form
        if call.items:
            run_ns //= call.items
        if form != NULL and run_ns:
            # An exponential mean: quick to learn, slow to be fooled by one outlier.
            form.est_ns = run_ns if form.est_ns == 0 else (7 * form.est_ns + run_ns) >> 3
        free(call.data)
        call.data = <char *>malloc(payload.size + 1)
        call.size = payload.size if call.data != NULL else 0
        if call.size:
            memcpy(call.data, payload.data, payload.size)
        call.outcome = <uint8_t>r.num[F_RESULT_OUTCOME]
        call.state = S_CANCELLED if call.outcome == O_CANCELLED else S_ARRIVED
        self.complete(call)

    cdef void complete(self, call_t *call) noexcept nogil:
        # (locked) The call left the ledger with its reference and is final: tell whoever waits. The hub passes
        # what it has resumed on to `noticed`.
        if call.marks & M_SUSPENDED:
            ring_push(&self.resumed, call)
        elif call.marks & M_NOTIFY:
            self._notice(call)
        else:
            ring_push(&self.grave, call)

    cdef void _notice(self, call_t *call) noexcept nogil:
        ring_push(&self.noticed, call)
        pthread_cond_signal(&self.noticeable)

    cdef void _on_cancel(self, record_t *r) noexcept nogil:
        cdef call_t *call = self.queue.find_foreign(r.num[F_OWNER], r.num[F_ID])
        cdef uint64_t[5] numbers
        numbers[0] = r.num[F_OWNER]
        numbers[1] = r.num[F_ID]
        numbers[2] = r.num[F_ATTEMPT]
        numbers[3] = V_NOT_STARTED if call != NULL else V_STARTED
        numbers[4] = r.num[4]
        if call != NULL:
            free(call.data)
            free(call)
        put_record(&self.out, K_ANSWER, 5, numbers)

    cdef void _on_answer(self, record_t *r) noexcept nogil:
        cdef call_t *call
        cdef ruling_t ruling = self.ledger.on_answer(r.num[F_ID], r.num[F_ATTEMPT], <int>r.num[4],
                                                     <int>r.num[5], &call)
        if ruling == R_REQUEUE:
            self._requeue(call)
        elif ruling == R_CANCELLED:
            call.marks &= ~M_ASKED
            call.state = S_CANCELLED
            self.complete(call)
        elif call != NULL and r.num[4] == V_STARTED:
            call.marks |= M_STARTED
        elif call != NULL:
            call.marks &= ~M_ASKED      # in flight somewhere: it may be asked for again

    cdef void _requeue(self, call_t *call) noexcept nogil:
        # (locked) It came back unstarted; whoever waits for it is to look again.
        call.marks &= ~(M_ASKED | M_PROMOTED)
        self.queue.put_own(call)
        self.returned = True
        if call.marks & M_NOTIFY:
            self.came_back = True
            pthread_cond_signal(&self.noticeable)

    cdef void _on_lost(self, record_t *r) noexcept nogil:
        cdef call_t *call
        cdef span_t detail = r.span[5]
        cdef ruling_t ruling = self.ledger.on_lost(r.num[F_ID], r.num[F_ATTEMPT], detail.size != 0, &call)
        if ruling == R_REISSUE:
            call.marks &= ~(M_ASKED | M_STARTED)
            self.encode_call(call, &self.out)
        elif ruling == R_FAIL:
            free(call.data)
            call.data = <char *>malloc(detail.size + 1)
            call.size = detail.size
            memcpy(call.data, detail.data, detail.size)
            call.outcome = O_LOST
            call.state = S_ARRIVED
            self.complete(call)

    cdef void _on_need(self, record_t *r) noexcept nogil:
        cdef form_t *form = <form_t *>table_get(&self.forms, r.num[2])
        cdef uint64_t[3] numbers
        cdef span_t blob
        if form == NULL:
            return          # every call of it is final: the asker's task is of no use any more
        numbers[0] = r.num[3]
        numbers[1] = self.incarnation
        numbers[2] = r.num[2]
        blob.data = form.blob
        blob.size = form.blob_size
        put_blob(&self.out, K_FORM, 3, numbers, blob)

    cdef void _keep_parcel(self, int kind, uint64_t owner, uint64_t number, span_t name,
                           span_t data) noexcept nogil:
        cdef parcel_t *parcel = <parcel_t *>malloc(sizeof(parcel_t) + name.size + data.size)
        if parcel == NULL:
            return
        parcel.next = NULL
        parcel.kind = kind
        parcel.owner = owner
        parcel.number = number
        parcel.name_size = name.size
        parcel.size = data.size
        if name.size:
            memcpy(parcel.data, name.data, name.size)
        memcpy(parcel.data + name.size, data.data, data.size)
        if self.parcels == NULL:
            self.parcels = parcel
        else:
            self.parcels_last.next = parcel
        self.parcels_last = parcel
        pthread_cond_signal(&self.noticeable)

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

    cdef void export_wanted(self) noexcept nogil:
        cdef call_t *call
        pthread_mutex_lock(&self.lock)
        while self.want_us > 0:
            # What waits here for its turn goes only to a node with nothing to do; and a main thread that looks
            # for work keeps the next call for itself, or calls would travel between idle processes for ever.
            if not self.busy and self.queue.own_count + self.queue.foreign_count <= 1:
                break
            call = self.queue.give(self.want_idle <= 0)
            if call == NULL:
                break
            if call.owner == 0:
                call.est_us = UNKNOWN_EST_US
                if call.form.est_ns:
                    call.est_us = <uint32_t>(call.form.est_ns * (call.items if call.items else 1) // 1000 + 1)
                self.ledger.export(call)
            self.exported += 1
            self.want_us -= call.est_us if call.est_us else 1
            self.encode_call(call, &self.out)
            if call.owner:
                self.want_idle -= 1
                free(call.data)
                free(call)
        pthread_mutex_unlock(&self.lock)

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
        numbers[1] = 0
        pthread_mutex_lock(&self.lock)
        put_record(&self.out, K_SURPLUS, 2, numbers)
        pthread_mutex_unlock(&self.lock)

    cdef void ask_work(self, bint idle) noexcept nogil:
        # (locked)
        cdef uint64_t[2] numbers
        numbers[0] = self.queue.hunger(idle)
        numbers[1] = idle
        if numbers[0]:
            put_record(&self.out, K_REQUEST, 2, numbers)

    cdef void ask_stalled(self, int most) noexcept nogil:
        # Nothing has arrived for a while. Whoever holds these calls unstarted may itself be waiting for us, so
        # some of those that somebody waits for are asked back; they run here then, or at somebody idle.
        cdef call_t *call
        cdef size_t tried, at
        pthread_mutex_lock(&self.lock)
        for tried in range(self.ledger.open.mask + 1 if self.ledger.open.mask else 0):
            at = (self.asked_from + tried) & self.ledger.open.mask
            if self.ledger.open.cells[at].key == 0:
                continue
            call = <call_t *>self.ledger.open.cells[at].value
            if call.marks & (M_SUSPENDED | M_NOTIFY) and not call.marks & M_ASKED:
                self.ask_back(call, CANCEL_RECALL)
                most -= 1
            if most == 0:
                break
        self.asked_from += tried + 1
        pthread_mutex_unlock(&self.lock)

    cdef void ask_back(self, call_t *call, int mode) noexcept nogil:
        # (locked) Whoever holds the call answers whether it has started.
        cdef uint64_t[4] numbers
        if call.state != S_EXPORTED or call.marks & M_ASKED:
            return
        if mode == CANCEL_RECALL and call.flags & T_RETRIED:
            return              # it crashed a worker: it never runs here
        call.marks |= M_ASKED
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
