"""What arrives at one process: records from the broker become events for its queue, its ledger and its waiters.

All of it runs in the thread that leads, without the GIL, under the lock of the store.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy

from scoop._core.call cimport (
    M_ASKED, M_CLAIMED, M_KEPT, M_NOTIFY, M_PROMOTED, M_STARTED, M_SUSPENDED, S_ARRIVED, S_CANCELLED, form_t,
    set_state)
from scoop._core.kept cimport keep, kept_free, put_kept
from scoop._core.ledger cimport R_CANCELLED, R_COMPLETE, R_FAIL, R_REISSUE, R_REQUEUE, ruling_t
from scoop._core.localq cimport ring_push
from scoop._core.store cimport AT_ARRIVED, AT_POSTED, AT_RECEIVED, pthread_cond_broadcast, pthread_cond_signal
from scoop._core.table cimport table_get
from scoop._core.wire cimport (
    CANCEL_LOOK, CANCEL_ORPHAN, F_ATTEMPT, F_ID, F_OWNER, F_RESULT_OUTCOME, F_RESULT_PAYLOAD, F_RESULT_RUN_NS,
    F_TASK_EST, F_TASK_FLAGS, F_TASK_FN, F_TASK_FORM, F_TASK_HOPS, F_TASK_LINEAGE, F_TASK_PAYLOAD, K_ANSWER,
    K_CANCEL, K_CLAIM, K_CONST, K_FORM, K_GRANT, K_HOLD, K_LOST, K_NEED, K_RESULT, K_STOP, K_TASK, K_WANT,
    K_WELCOME, O_LOST, O_MISSING, T_ONCE, V_HELD, V_NOT_STARTED, V_STARTED, V_UNKNOWN, next_record, put_blob,
    put_raw, put_record, put_result, reader_t)

cdef enum:
    CLAIM_AGAIN_NS = 1000000000     # a claim that was not answered for so long may be lost


cdef class Desk(Store):
    """The state of one process as a node of the federation; see Store for its arguments."""

    def __dealloc__(self):
        kept_free(&self.kept)

    cdef void post(self, call_t *call, int outcome, uint64_t run_ns, span_t payload) noexcept nogil:
        # (locked) The result of another's task, which ends here. A broker that nobody can follow does not knock.
        cdef size_t at = self.out.size
        self.end(call)
        self.stamp(AT_POSTED)
        if put_result(&self.out, call.owner, call.id, call.attempt, outcome, run_ns, payload) == 0 and (
                self.probes and outcome != O_MISSING):
            keep(&self.kept, self.out.data + at, self.out.size - at, self.now_ns)

    # ------------------------------------------------------------------------------ records, in turn

    cdef int handle(self, const char *data, size_t size, uint64_t now) noexcept nogil:
        cdef reader_t reader
        cdef record_t r
        cdef int got
        reader.data = data
        reader.size = size
        reader.pos = 0
        pthread_mutex_lock(&self.lock)
        self.now_ns = now
        if size == 0:
            self._on_probe(now)
        while True:
            got = next_record(&reader, &r)
            if got <= 0:
                break
            self._on_record(&r)
            if r.kind == K_RESULT:
                self.arrived_ns = now
                self.stamp(AT_ARRIVED)
        if self.waiters:
            pthread_cond_broadcast(&self.changed)
        pthread_mutex_unlock(&self.lock)
        if got < 0:
            self.malformed += 1
        return got

    cdef void _on_probe(self, uint64_t now) noexcept nogil:
        # (locked) The broker sends an empty frame on each new connection. After the first one it is a successor, which
        # knows nothing of us and what we hold; all that was asked for, on either side, is forgotten.
        cdef size_t at
        self.probes += 1
        put_raw(&self.out, self.hello.data, self.hello.size)
        if self.probes == 1:
            return
        for at in range(self.queue.foreign.count):
            self._say_held(self.queue.foreign.items[(self.queue.foreign.head + at) & self.queue.foreign.mask])
        for at in range(self.queue.parked.count):
            self._say_held(self.queue.parked.items[(self.queue.parked.head + at) & self.queue.parked.mask])
        for at in range(self.begun.mask + 1 if self.begun.mask else 0):
            if self.begun.cells[at].key != 0:
                self._say_held(<call_t *>self.begun.cells[at].value)
        put_kept(&self.out, &self.kept)     # the one before may have died with them
        put_raw(&self.out, self.constants.data, self.constants.size)
        self._claim_next()              # functions are asked for again, too
        self.ask_again_ns = now
        self._ask_again()
        self.want_us = 0
        self.want_idle = 0
        self.begin_looking(now)

    cdef void _ask_again(self) noexcept nogil:
        # (locked)
        self.queue.forget_request()
        self.surplus_told = 0

    cdef void _say_held(self, call_t *call) noexcept nogil:
        cdef uint64_t[5] numbers
        numbers[0] = call.owner
        numbers[1] = call.id
        numbers[2] = call.attempt
        numbers[3] = call.hops
        numbers[4] = 0
        put_record(&self.out, K_HOLD, 5, numbers)

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
        elif r.kind == K_CLAIM:
            self._on_claim(r)
        elif r.kind == K_GRANT:
            self._on_grant(r)
        elif r.kind == K_FORM:
            if r.span[4].size:
                self._keep_parcel(K_FORM, r.num[2], r.num[3], none, r.span[4])
            else:
                self._drop_parked(r.num[2], r.num[3])
        elif r.kind == K_LOST:
            self._on_lost(r)
        elif r.kind == K_CONST:
            self._keep_parcel(K_CONST, 0, 0, r.span[2], r.span[3])
        elif r.kind == K_STOP:
            self.stopped = True
        elif r.kind == K_WELCOME:
            self.welcomed = True
            self.namesake = r.num[3]
            if r.num[4] and self.probes <= 1:
                self._ask_again()       # what we had asked for was heard by the one before

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
        self.stamp(AT_RECEIVED)
        if self.leaving:
            self.give_back(call)
        else:
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
            call = self.ledger.find(r.num[F_ID])
            if call != NULL and call.attempt == r.num[F_ATTEMPT]:
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
            form.runs += 1
        self._arrive(call, payload, <uint8_t>r.num[F_RESULT_OUTCOME])

    cdef void _arrive(self, call_t *call, span_t payload, uint8_t outcome) noexcept nogil:
        # (locked) The state comes last: who sees it without the lock is to see the rest.
        free(call.data)
        call.data = <char *>malloc(payload.size + 1)
        call.size = payload.size if call.data != NULL else 0
        if call.size:
            memcpy(call.data, payload.data, payload.size)
        call.outcome = outcome
        set_state(&call.state, S_ARRIVED)
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
        cdef call_t *call = self.queue.find_foreign(r.num[F_OWNER], r.num[F_ID], r.num[F_ATTEMPT])
        cdef uint64_t[5] numbers
        numbers[0] = r.num[F_OWNER]
        numbers[1] = r.num[F_ID]
        numbers[2] = r.num[F_ATTEMPT]
        if call != NULL and r.num[4] == CANCEL_LOOK and call.attempt == r.num[F_ATTEMPT]:
            numbers[3] = V_HELD
            self.queue.put_foreign(call)    # one that was parked may ask again for what it waits for
            call = NULL
        elif call != NULL:
            # Of an older copy its owner is not to believe that it was the last.
            numbers[3] = V_NOT_STARTED if call.attempt == r.num[F_ATTEMPT] else V_UNKNOWN
        else:
            numbers[3] = V_STARTED if self.has_begun(r.num[F_OWNER], r.num[F_ID]) else V_UNKNOWN
        numbers[4] = r.num[4]
        if call != NULL:
            if call.owner == self.claim_owner and call.id == self.claim_id:
                self._claim_next()
            free(call.data)
            free(call)
        put_record(&self.out, K_ANSWER, 5, numbers)

    cdef void _on_answer(self, record_t *r) noexcept nogil:
        cdef call_t *call
        cdef span_t none
        cdef ruling_t ruling = self.ledger.on_answer(
            r.num[F_ID], r.num[F_ATTEMPT], <int>r.num[4], <int>r.num[5],
            <uint32_t>(self.now_ns // 1000000000) + 1, &call)
        if ruling == R_REISSUE or ruling == R_FAIL:
            none.data = NULL
            none.size = 0
            self._lost(call, ruling, none)
        elif ruling == R_REQUEUE or (ruling == R_CANCELLED and call.marks & M_KEPT):
            self._requeue(call)
        elif ruling == R_CANCELLED:
            call.marks &= ~M_ASKED
            call.state = S_CANCELLED
            self.complete(call)
        elif call != NULL and r.num[4] == V_STARTED:
            call.marks |= M_STARTED
        elif call != NULL and r.num[5] != CANCEL_LOOK:
            call.marks &= ~M_ASKED      # in flight somewhere: it may be asked for again

    cdef void _requeue(self, call_t *call) noexcept nogil:
        # (locked) It came back unstarted; whoever waits for it is to look again.
        if call.marks & (M_NOTIFY | M_PROMOTED):
            self.came_back = True
            pthread_cond_signal(&self.noticeable)
        call.marks &= ~(M_ASKED | M_PROMOTED)
        self.queue.put_own(call)
        self.returned = True

    cdef void _on_lost(self, record_t *r) noexcept nogil:
        cdef call_t *call
        cdef span_t detail = r.span[5]
        cdef ruling_t ruling = self.ledger.on_lost(r.num[F_ID], r.num[F_ATTEMPT], detail.size != 0, &call)
        self._lost(call, ruling, detail)

    cdef void _lost(self, call_t *call, ruling_t ruling, span_t detail) noexcept nogil:
        # (locked)
        if ruling == R_REISSUE:
            call.marks &= ~(M_ASKED | M_STARTED)
            self.encode_call(call, &self.out)
        elif ruling == R_FAIL:
            self._arrive(call, detail, O_LOST)

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

    cdef void _drop_parked(self, uint64_t owner, uint64_t fn) noexcept nogil:
        # (locked) Nobody has the function any more: the owner is dead, and so is what it wanted.
        cdef call_t *call = self.queue.pop_parked(owner, fn)
        self.ask_again_ns = self.now_ns
        while call != NULL:
            self.let_go(call, CANCEL_ORPHAN)
            call = self.queue.pop_parked(owner, fn)

    # ------------------------------------------------------------------------ calls that run at most once

    cdef bint claim(self, call_t *call, uint64_t now) noexcept nogil:
        # One at a time: what is granted and has not begun when this process dies would be lost with it. Questions and
        # answers may be lost, and then who asks after the call lets it come here again.
        cdef uint64_t[4] numbers
        if not call.flags & T_ONCE:
            return False
        pthread_mutex_lock(&self.lock)
        if call.marks & M_CLAIMED:
            self._claim_next()
            pthread_mutex_unlock(&self.lock)
            return False
        if self.claimed_ns == 0 or now >= self.claimed_ns + CLAIM_AGAIN_NS or (
                call.owner == self.claim_owner and call.id == self.claim_id):
            self.claimed_ns = now
            self.claim_owner = numbers[0] = call.owner
            self.claim_id = numbers[1] = call.id
            numbers[2] = call.attempt
            numbers[3] = self.incarnation
            put_record(&self.out, K_CLAIM, 4, numbers)
        self.end(call)
        self.queue.park(call)
        pthread_mutex_unlock(&self.lock)
        return True

    cdef void _claim_next(self) noexcept nogil:
        # (locked)
        self.claimed_ns = 0
        self.queue.unpark_all()

    cdef void _on_claim(self, record_t *r) noexcept nogil:
        cdef uint64_t[5] numbers
        numbers[0] = self.incarnation
        numbers[1] = r.num[F_ID]
        numbers[2] = r.num[F_ATTEMPT]
        numbers[3] = r.num[4]
        numbers[4] = self.ledger.on_claim(r.num[F_ID], r.num[F_ATTEMPT], r.num[4])
        put_record(&self.out, K_GRANT, 5, numbers)

    cdef void _on_grant(self, record_t *r) noexcept nogil:
        # One that has been asked back meanwhile is not parked any more: then nobody runs it by this.
        cdef call_t *call = self.queue.find_parked(r.num[F_OWNER], r.num[F_ID], r.num[F_ATTEMPT])
        if call != NULL and r.num[5]:
            call.marks |= M_CLAIMED
            self.queue.put_foreign(call)
            return
        if call != NULL:
            self.let_go(call, CANCEL_ORPHAN)        # a copy that its owner has given up
        self._claim_next()

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
