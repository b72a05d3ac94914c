"""How calls end before their time.

A call that has not left this process is cancelled here. One that has is asked for: its holder answers, without the
GIL, whether it has started, so `cancel` tells the truth.
"""

from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF
from libc.stdint cimport uint64_t

from scoop._core.call cimport (
    M_ASKED, M_KEPT, M_STARTED, M_SUSPENDED, S_CANCELLED, S_EXPORTED, S_QUEUED, S_RUNNING, S_WAITING, call_t)
from scoop._core.desk cimport pthread_mutex_lock, pthread_mutex_unlock
from scoop._core.net cimport now_ns
from scoop._core.runner cimport Strand
from scoop._core.wire cimport CANCEL_DROP

cdef enum:
    ANSWER_NS = 1000000000      # how long cancel() waits for the holder's answer
    ANSWER_LOOK_NS = 500000     # and how often it looks


cdef class Ending(Notices):
    """Cancelling, failing and draining."""

    cdef bint call_off(self, CallFuture f) except -1:
        # True when the call is cancelled; asks its holder when it is elsewhere.
        cdef int how = 0
        self.check_process()
        pthread_mutex_lock(&self.desk.lock)
        if f.c.state == S_QUEUED:
            how = self.desk.queue.take(&f.c)
            f.c.state = S_CANCELLED
        elif f.c.state == S_WAITING:
            f.c.state = S_CANCELLED
        elif f.c.state == S_EXPORTED:
            f.c.marks &= ~M_KEPT
            self.desk.ask_back(&f.c, CANCEL_DROP)
        if f.c.state == S_CANCELLED:
            self.desk.wake_waiters()
        pthread_mutex_unlock(&self.desk.lock)
        if how == 1:
            Py_DECREF(f)
        if f.c.state == S_CANCELLED:
            f.args = None
            f.tell()
            if f.c.marks & M_SUSPENDED:
                self.resume_waiters(self.strand(), f)
            return True
        if f.c.state != S_EXPORTED:
            return False
        return self._wait_answer(f)

    cdef int call_off_soon(self, CallFuture f) except -1:
        # Cancels what is here; asks for what is elsewhere, and does not wait for the answer.
        if f.c.state == S_QUEUED or f.c.state == S_WAITING:
            self.call_off(f)
        pthread_mutex_lock(&self.desk.lock)
        if f.c.state == S_EXPORTED:
            self.desk.ask_back(&f.c, CANCEL_DROP)
        pthread_mutex_unlock(&self.desk.lock)
        return 0

    def drop(self, futures):
        """Cancel the calls that have not started, without waiting for the answers of those that are elsewhere."""
        for f in futures:
            self.call_off_soon(f)
        self.node.hurry()

    cdef bint _wait_answer(self, CallFuture f) except -1:
        # The holder's driver answers without the GIL, so this takes a round trip, at most its takeover time.
        cdef uint64_t deadline = now_ns() + <uint64_t>ANSWER_NS
        cdef int reason
        self.node.hurry()
        while f.c.state == S_EXPORTED and now_ns() < deadline and f.c.marks & M_ASKED and not f.c.marks & M_STARTED:
            with nogil:
                if self.node.is_main():
                    reason = self.node.block(&f.c, now_ns() + ANSWER_LOOK_NS, 0, False)
                else:
                    reason = self.node.block_other(&f.c, now_ns() + ANSWER_LOOK_NS, False)
            self._after_block(reason)
        pthread_mutex_lock(&self.desk.lock)
        if f.c.state != S_CANCELLED:
            f.c.marks |= M_KEPT
        pthread_mutex_unlock(&self.desk.lock)
        return f.c.state == S_CANCELLED

    def drain(self):
        """Return when no submitted call is outstanding; the main thread runs what is queued. Blocks."""
        cdef Strand s = self.strand()
        cdef int reason, may
        while self.desk.queue.own_count + len(self.desk.ledger):
            if s.main and (s.ready or self.desk.resumed.count or self.desk.returned):
                self.suspend_for_others(s)
            elif s.main and not self.desk.remote_only and self.desk.queue.own_count:
                self.run_next(s)
            elif s.main:
                self.desk.draining = True
                may = self.may_now(s)
                with nogil:
                    reason = self.node.block(NULL, 0, may, False)
                self.desk.draining = False
                self._after_block(reason)
                # A wait that is over goes on before new work begins.
                if not (s.ready or self.desk.resumed.count or self.desk.returned) and self._runnable(s.suspended):
                    self.run_next(s)
            else:
                with nogil:
                    pthread_mutex_lock(&self.desk.lock)
                    if self.desk.queue.own_count + self.desk.ledger.open.count:
                        self.desk.wait_changed(now_ns() + ANSWER_NS)
                    pthread_mutex_unlock(&self.desk.lock)
        self.notices()
        self.sweep()

    def fail_all(self, error):
        """End every outstanding call of this process with `error`."""
        cdef call_t *call
        cdef CallFuture f
        while True:
            pthread_mutex_lock(&self.desk.lock)
            call = self.desk.ledger.pop_any()
            if call == NULL:
                call = self.desk.queue.oldest_own()
            if call != NULL:
                call.state = S_RUNNING
            pthread_mutex_unlock(&self.desk.lock)
            if call == NULL:
                return
            f = <CallFuture><PyObject *>call.self_obj
            Py_DECREF(f)
            f.finish(error, True)
            if f.c.marks & M_SUSPENDED:
                self.resume_waiters(self.strand(), f)

    def cancel_queued(self):
        """Cancel every call of this process that has not started here or elsewhere."""
        cdef call_t *call
        cdef CallFuture f
        while True:
            pthread_mutex_lock(&self.desk.lock)
            call = self.desk.queue.oldest_own()
            if call != NULL:
                call.state = S_CANCELLED
                self.desk.wake_waiters()
            pthread_mutex_unlock(&self.desk.lock)
            if call == NULL:
                break
            f = <CallFuture><PyObject *>call.self_obj
            Py_DECREF(f)
            f.tell()
        for f in self.desk_exported():
            f.cancel()

    def desk_of(self):
        """Return the desk of this process, for metrics and tests."""
        return self.desk

    def statistics(self):
        """Return a snapshot: what is queued here, elsewhere and waiting, and what the broker wants."""
        cdef Strand s = self.main_strand
        return {"queued": self.desk.queue.own_count, "foreign": self.desk.queue.foreign_count,
                "parked": self.desk.queue.parked.count, "elsewhere": len(self.desk.ledger),
                "wanted_us": self.desk.want_us, "wanted_idle": self.desk.want_idle,
                "asked_us": self.desk.queue.room_us, "busy": self.desk.busy,
                "suspended": s.suspended, "ready": len(s.ready), "resumed": self.desk.resumed.count,
                "noticed": self.desk.noticed.count, "driver_leads": self.node.driver_leads,
                "welcomed": self.desk.welcomed, "exported": self.desk.exported, "received": self.desk.received}

    def desk_exported(self):
        """Return the futures that are exported now: a list, for reports and for cancelling."""
        cdef size_t i
        cdef list held = []
        pthread_mutex_lock(&self.desk.lock)
        if self.desk.ledger.open.mask:
            for i in range(self.desk.ledger.open.mask + 1):
                if self.desk.ledger.open.cells[i].key:
                    held.append(<object><PyObject *>(<call_t *>self.desk.ledger.open.cells[i].value).self_obj)
        pthread_mutex_unlock(&self.desk.lock)
        return held
