"""Lets calls wait for each other.

A wait for a call that nobody has begun runs it on the spot, as a plain call on the waiting stack. Any other wait in
the main thread parks its greenlet; other calls run meanwhile on greenlets that are used again and again, and the
wait that is over resumes before new work starts. After `DEPTH_MAX` calls on the spot the next one goes to a fresh
stack, started by the hub greenlet near the bottom of the thread's stack, so recursion is bounded by memory alone.

Threads other than the main one run what they wait for on the spot and otherwise block.
"""

from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF

from greenlet import GreenletExit, getcurrent, greenlet

from scoop._core.call cimport (
    M_NOTIFY, M_SUSPENDED, S_DONE, S_EXPORTED, S_QUEUED, S_RUNNING, S_WAITING)
from scoop._core.desk cimport pthread_mutex_lock, pthread_mutex_unlock
from scoop._core.localq cimport ring_pop, ring_push
from scoop._core.net cimport now_ns
from scoop._core.node cimport MAY_AT_LAST, MAY_RESUME, MAY_RUN, MAY_WORK, W_NOTICE, W_SIGNAL, W_STOPPED

from scoop.errors import PoolLost

cdef extern from *:
    """
    #if PY_VERSION_HEX >= 0x030C0000
    #define scoop_frames_left() (PyThreadState_Get()->py_recursion_remaining)
    #elif PY_VERSION_HEX >= 0x030B0000
    #define scoop_frames_left() (PyThreadState_Get()->recursion_remaining)
    #else
    #define scoop_frames_left() (Py_GetRecursionLimit() - PyThreadState_Get()->recursion_depth)
    #endif
    """
    int scoop_frames_left()

cdef extern from "Python.h":
    int PyErr_CheckSignals() except -1

cdef enum:
    DEPTH_MAX = 64              # calls on the spot before the next stack (design, section 4)
    FRAMES_MIN = 150            # of the recursion limit that must be left for one more
    SUSPENDED_MAX = 64          # above that a wait takes no unrelated work, unless all stands still
    LONG_US = 200               # an estimate that makes a task a long one
    LOOK_AGAIN_NS = 50000000    # how long a wait with a limit sleeps at a time


cdef class Hub(Runner):
    """What waits in this process."""

    # --------------------------------------------------------------------------------------- waiting

    cdef bint take(self, CallFuture f) noexcept:
        # Claims a queued call for this thread.
        cdef int how = 0
        pthread_mutex_lock(&self.desk.lock)
        if f.c.state == S_QUEUED and not self.desk.remote_only:
            how = self.desk.queue.take(&f.c)
        pthread_mutex_unlock(&self.desk.lock)
        if how == 1:
            Py_DECREF(f)
        return how != 0

    cdef int wait_for(self, CallFuture f, double timeout_s) except -1:
        # 1: final, 0: the time is over.
        cdef Strand s = self.strand()
        cdef uint64_t deadline = 0
        self.check_process()
        if timeout_s >= 0:
            deadline = now_ns() + <uint64_t>(min(timeout_s, 1e9) * 1e9) + 1
        if self.desk.grave.count + self.desk.queue.stale.count > 64:
            self.sweep()
        while f.c.state < S_DONE:
            if f.c.state == S_WAITING and f.extras is not None and f.extras.needs:
                self._wait_needs(f, timeout_s, deadline)
                if deadline and now_ns() >= deadline:
                    return f.c.state >= S_DONE
            elif deadline:
                if not self._wait_until(s, f, deadline):
                    return f.c.state >= S_DONE
            elif f.c.state == S_QUEUED and self.take(f):
                if s.depth < DEPTH_MAX and scoop_frames_left() > FRAMES_MIN:
                    s.depth += 1
                    try:
                        self.run_own(s, f)
                    finally:
                        s.depth -= 1
                else:
                    self.suspend(s, f, True, 0)
            elif s.main and not s.level.pinned and self._others(s, f):
                self.suspend(s, f, False, 0)
            else:
                self._block(s, f, 0)
        return 1

    cdef bint _others(self, Strand s, CallFuture f) except -1:
        # Whether another greenlet of this thread has something to do.
        if f.c.state == S_RUNNING or s.ready or self.desk.resumed.count or self.desk.returned:
            return True
        return self._runnable(s.suspended + 1)

    cdef int _may_take(self, int parked) noexcept:
        # What all wait for may be new work: the limit delays it, and never stops it (node.pxd: MAY_AT_LAST).
        return MAY_WORK if parked <= SUSPENDED_MAX or self.node.over_limit else MAY_AT_LAST

    cdef int _wait_needs(self, CallFuture f, double timeout_s, uint64_t deadline) except -1:
        cdef CallFuture need
        for need in list(f.extras.needs):
            if need.c.state < S_DONE:
                if deadline:
                    timeout_s = max(0.0, (<double>deadline - now_ns()) / 1e9)
                need.runtime.wait_for(need, timeout_s)
        self.session.needs_met(f)
        return 0

    cdef bint _wait_until(self, Strand s, CallFuture f, uint64_t deadline) except -1:
        # A wait that must end in time cannot run anything here: somebody else has to. It looks now and then, since
        # the call may come back from elsewhere meanwhile.
        cdef uint64_t until = min(deadline, now_ns() + <uint64_t>LOOK_AGAIN_NS)
        if f.c.state == S_QUEUED:
            self.interest(f)
        if s.main and not s.level.pinned and s.suspended and (s.ready or self.desk.resumed.count or self.desk.returned):
            # What this waits for may need a greenlet of this thread to go on, so that one goes first.
            self.suspend(s, f, False, deadline)
        elif f.c.state < S_DONE:
            self._block(s, f, until)
        return now_ns() < deadline

    cdef int _block(self, Strand s, CallFuture f, uint64_t deadline) except -1:
        cdef int reason
        cdef int may = 0 if deadline or self.desk.remote_only else MAY_RUN
        cdef bint recall = not self.desk.remote_only and f.c.state == S_EXPORTED
        if not s.level.pinned and (deadline == 0 or s.suspended):
            may |= MAY_RESUME
            if deadline == 0:
                may |= self._may_take(s.suspended + 1)
        self._waits(s, 0, f)
        with nogil:
            if s.main:
                reason = self.node.block(&f.c, deadline, may, recall)
            else:
                reason = self.node.block_other(&f.c, deadline, may & MAY_RUN)
        self._waits(s, 0, None)
        return self._after_block(reason)

    cdef int _after_block(self, int reason) except -1:
        if reason & W_NOTICE:
            self.notices()
        if reason & W_SIGNAL:
            PyErr_CheckSignals()
        if reason & W_STOPPED:
            if not self.is_origin:
                raise GreenletExit()
            raise PoolLost("scoop has been shut down while this call was outstanding")
        return 0

    cdef int suspend(self, Strand s, CallFuture f, bint run_it, uint64_t deadline) except -1:
        # Parks this greenlet until `f` is final, is back in the queue of this process, or the time is over.
        cdef level_t *level = s.level
        cdef int depth = s.depth
        cdef bint final
        if s.greenlet is None:
            s.greenlet = greenlet(self._loop, s.root)
        pthread_mutex_lock(&self.desk.lock)
        final = f.c.state >= S_DONE
        f.c.marks |= M_SUSPENDED
        pthread_mutex_unlock(&self.desk.lock)
        if final and not run_it:
            return 0
        s.waiting.setdefault(f, []).append(getcurrent())
        if run_it:
            s.request = f
        if deadline:
            s.timers[getcurrent()] = deadline
        self._waits(s, 1, None)
        try:
            if s.greenlet:
                s.greenlet.switch()
            else:
                s.greenlet.switch(s)
        finally:
            if deadline:
                del s.timers[getcurrent()]
                waiters = s.waiting.get(f)
                if waiters is not None and getcurrent() in waiters:
                    waiters.remove(getcurrent())
                    if not waiters:
                        del s.waiting[f]
            if f not in s.waiting:
                pthread_mutex_lock(&self.desk.lock)
                f.c.marks &= ~M_SUSPENDED
                pthread_mutex_unlock(&self.desk.lock)
            self._waits(s, -1, None)
            s.depth = depth
            s.level = level
            self._show(s)
        if s.thrown is not None and getcurrent() is s.root:
            thrown = s.thrown
            s.thrown = None
            raise thrown
        return 0

    cdef int suspend_for_others(self, Strand s) except -1:
        # Lets greenlets whose wait is over go on; comes back when nothing of that kind is left.
        cdef level_t *level = s.level
        if s.greenlet is None:
            return self.collect(s)
        s.ready.append(getcurrent())
        s.greenlet.switch()
        s.level = level
        return 0

    cdef int collect(self, Strand s) except -1:
        # Whose call is final, or came back, becomes ready.
        cdef call_t *call
        cdef CallFuture f
        while self.desk.resumed.count:
            pthread_mutex_lock(&self.desk.lock)
            call = ring_pop(&self.desk.resumed)
            pthread_mutex_unlock(&self.desk.lock)
            if call != NULL:
                f = <CallFuture><PyObject *>call.self_obj
                Py_DECREF(f)            # the ring's reference
                self._make_ready(s, f)
                if call.marks & M_NOTIFY:
                    f.tell()
        if self.desk.returned:
            self.desk.returned = False
            for f in [x for x in s.waiting if (<CallFuture>x).c.state == S_QUEUED]:
                self._make_ready(s, f)
        return 0

    cdef int _make_ready(self, Strand s, object f) except -1:
        waiters = s.waiting.pop(f, None)
        if waiters is not None:
            s.ready.extend(waiters)
        return 0

    cdef int resume_waiters(self, Strand s, CallFuture f) except -1:
        if f in s.waiting:
            self._make_ready(s, f)
            return 0
        Py_INCREF(f)
        pthread_mutex_lock(&self.desk.lock)
        ring_push(&self.desk.resumed, &f.c)
        pthread_mutex_unlock(&self.desk.lock)
        self.node.hurry()
        return 0

    # ------------------------------------------------------------------------------ the hub greenlet

    def _loop(self, Strand s):
        """Body of a strand's hub greenlet: resumes who is ready, starts what is queued, else waits."""
        cdef int reason, may
        cdef uint64_t deadline
        while True:
            if s.request is not None:
                f = s.request
                s.request = None
                self._on_other_stack(s, f)
                continue
            self.collect(s)
            if s.thrown is not None:
                self._resume_root(s)
            elif s.ready:
                s.ready.popleft().switch()
            elif s.main and not s.timers and self._runnable(s.suspended):
                self._on_other_stack(s, None)
            elif not s.main:
                s.root.switch()
            else:
                deadline = self._expire(s)
                if s.ready:
                    continue
                may = self.may_now(s)
                with nogil:
                    reason = self.node.block(NULL, deadline, may, False)
                try:
                    self._idle(s, reason)
                except BaseException as error:
                    s.thrown = error

    cdef uint64_t _expire(self, Strand s) except? 0:
        # Whose time is over becomes ready; returns the next deadline, 0 if there is none.
        cdef uint64_t now = now_ns(), first = 0, deadline
        for g, when in s.timers.items():
            deadline = when
            if deadline <= now:
                if g not in s.ready:
                    s.ready.append(g)
            elif first == 0 or deadline < first:
                first = deadline
        return first

    cdef int _idle(self, Strand s, int reason) except -1:
        if reason & W_STOPPED and not self.is_origin:
            s.thrown = GreenletExit()
            return 0
        return self._after_block(reason)

    cdef int may_now(self, Strand s) noexcept:
        # A thread with a call that must resume in time takes nothing new.
        return MAY_RESUME if s.timers else MAY_RESUME | self._may_take(s.suspended)

    cdef bint _runnable(self, int parked) noexcept:
        # Whether something queued here may start with so many calls parked.
        if self.desk.remote_only:
            return False
        return self.desk.queue.own_count != 0 or (
            self.desk.queue.foreign_count != 0 and self._may_take(parked) == MAY_WORK)

    cdef int _resume_root(self, Strand s) except -1:
        # The root greenlet raises what was thrown; it is no longer waiting for anything.
        for f, waiters in list(s.waiting.items()):
            if s.root in waiters:
                waiters.remove(s.root)
                if not waiters:
                    del s.waiting[f]
        if s.root in s.ready:
            s.ready.remove(s.root)
        s.root.switch()
        return 0

    cdef int _on_other_stack(self, Strand s, object f) except -1:
        if s.parked:
            s.parked.pop().switch(f)
        else:
            greenlet(self._runner, s.greenlet).switch(s, f)
        return 0

    def _runner(self, Strand s, f):
        """Body of a greenlet that runs calls: one that was asked for, then what is queued, then parks."""
        while True:
            s.depth = 0
            s.level = &s.base
            try:
                if f is not None:
                    self.run_own(s, f)
                while self._goes_on(s):
                    self.run_next(s)
            except GreenletExit:
                raise
            except BaseException as error:
                s.thrown = error
            s.parked.append(getcurrent())
            f = s.greenlet.switch()

    cdef bint _goes_on(self, Strand s) except -1:
        # A runner takes the next call itself unless somebody whose wait is over has the right of way.
        if not s.main or s.request is not None or s.thrown is not None or s.ready or s.timers:
            return False
        return not self.desk.resumed.count and not self.desk.returned and self._runnable(s.suspended)

    cdef bint run_next(self, Strand s) except -1:
        # Own calls newest first; at the top of the program oldest first, as a plain loop would run them.
        cdef call_t *call
        cdef CallFuture f
        pthread_mutex_lock(&self.desk.lock)
        if self.is_origin and s.suspended == 1:
            call = self.desk.queue.oldest_own()
        else:
            call = self.desk.queue.newest_own()
        if call == NULL:
            call = self.desk.queue.next_foreign()
        if call != NULL:
            call.state = S_RUNNING
            if call.owner:
                self.desk.begin(call)
        pthread_mutex_unlock(&self.desk.lock)
        if call == NULL:
            return False
        if self.desk.out.size and (call.est_us == 0 or call.est_us > LONG_US):
            self.node.between(now_ns(), True)       # results do not wait for the end of a long task
        if call.owner:
            self.node.over_limit = False
            self.run_foreign(s, call)
        else:
            f = <CallFuture><PyObject *>call.self_obj
            Py_DECREF(f)            # the queue's reference; `f` holds one now
            self.run_own(s, f)
        return True

    def serve(self):
        """Run tasks until the broker says STOP: the main loop of a worker. Blocks."""
        cdef Strand s = self.main_strand
        s.root = getcurrent()
        s.greenlet = greenlet(self._loop, s.root)
        try:
            s.greenlet.switch(s)
            if s.thrown is not None:
                raise s.thrown
        except GreenletExit:
            pass

    # -------------------------------------------------- told by the class below, which knows Python's threads

    cdef int notices(self) except -1:
        raise NotImplementedError
