"""Runs calls in this process and lets them wait for each other.

A wait for a call that nobody has begun runs it on the spot, as a plain call on the waiting stack. Any other wait in
the main thread parks its greenlet; other calls run meanwhile on greenlets that are used again and again, and the
wait that is over resumes before new work starts. After `DEPTH_MAX` calls on the spot the next one goes to a fresh
stack, started by the hub greenlet near the bottom of the thread's stack, so recursion is bounded by memory alone.

Threads other than the main one run what they wait for on the spot and otherwise block.
"""

import sys
import threading
from collections import deque

from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdlib cimport free

from greenlet import GreenletExit, getcurrent, greenlet

from scoop import pickling
from scoop._core.call cimport (
    M_ASKED, M_PROMOTED, M_STARTED, M_SUSPENDED, S_CANCELLED, S_DONE, S_EXPORTED, S_QUEUED, S_RUNNING,
    S_WAITING)
from scoop._core.desk cimport parcel_t, pthread_mutex_lock, pthread_mutex_unlock
from scoop._core.localq cimport ring_pop, ring_push
from scoop._core.net cimport now_ns
from scoop._core.node cimport W_NOTICE, W_RESUMED, W_SIGNAL, W_STOPPED, W_TIMEOUT, W_WORK
from scoop._core.scalars cimport get_scalar, is_scalar, put_scalar
from scoop._core.table cimport mix64
from scoop._core.wire cimport (
    CANCEL_DROP, K_FORM, K_NEED, K_RESULT, O_ERROR, O_SCALAR, O_VALUE, T_CHUNK, T_NO_COPY, T_SCALARS, buf_free,
    buf_t, put_record, put_result, span_t)

from scoop.errors import MissingGlobal, PoolLost

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
    object PyContext_Copy(object)
    int PyContext_Enter(object) except -1
    int PyContext_Exit(object) except -1
    object PyObject_Call(object, object, object)
    PyObject *PyDict_GetItemString(object, const char *)

cdef enum:
    DEPTH_MAX = 64              # calls on the spot before the next stack (design, section 4)
    FRAMES_MIN = 150            # of the recursion limit that must be left for one more
    SUSPENDED_MAX = 64          # above that a wait takes no unrelated work
    FUNCTIONS_MAX = 4096        # functions of other owners kept here
    ANSWER_NS = 1000000000      # how long cancel() waits for the holder's answer
    ANSWER_LOOK_NS = 500000     # and how often it looks
    FLUSH_RUN_NS = 100000       # the result of a task this long does not wait for company

cdef dict MODULES = sys.modules


cdef class Strand:
    """The state of one thread that runs calls."""

    def __cinit__(self, Hub hub, bint main):
        self.hub = hub
        self.main = main
        self.parked = []
        self.ready = deque()
        self.waiting = {}
        self.root = getcurrent()
        self.level = &self.base
        self.greenlet = None


cdef class Hub(Runtime):
    """What runs in this process, and what waits."""

    def __init__(self, Node node not None, session, context, bint is_origin):
        self.node = node
        self.desk = node.desk
        self.session = session
        self.base_context = context
        self.is_origin = is_origin
        self.strands = threading.local()
        self.functions = {}
        self.asked = {}
        self.promoted = []
        self.main_strand = Strand(self, True)

    cdef Strand strand(self):
        if self.node.is_main():
            return self.main_strand
        strand = getattr(self.strands, "strand", None)
        if strand is None:
            strand = Strand(self, False)
            self.strands.strand = strand
        return strand

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
                    self.suspend(s, f, True)
            elif s.main and not s.level.pinned and self._others(s, f):
                self.suspend(s, f, False)
            else:
                self._block(s, f, 0)
        return 1

    cdef bint _others(self, Strand s, CallFuture f) except -1:
        # Whether another greenlet of this thread has something to do.
        if f.c.state == S_RUNNING or s.ready or self.desk.resumed.count:
            return True
        if self.desk.remote_only:
            return False
        return self.desk.queue.own_count != 0 or (
            self.desk.queue.foreign_count != 0 and s.suspended < SUSPENDED_MAX)

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
        # A wait that must end in time cannot run anything here: somebody else has to.
        if f.c.state == S_QUEUED:
            self.interest(f)
            pthread_mutex_lock(&self.desk.lock)
            while f.c.state < S_DONE and now_ns() < deadline and f.c.state == S_QUEUED:
                with nogil:
                    self.desk.wait_changed(deadline)
            pthread_mutex_unlock(&self.desk.lock)
        elif f.c.state < S_DONE:
            self._block(s, f, deadline)
        return now_ns() < deadline

    cdef int _block(self, Strand s, CallFuture f, uint64_t deadline) except -1:
        cdef int reason
        cdef bint work = s.main and deadline == 0 and not s.level.pinned and s.suspended < SUSPENDED_MAX
        cdef bint recall = deadline == 0 and not self.desk.remote_only and f.c.state == S_EXPORTED
        if f.c.state == S_WAITING and not s.main:
            recall = False
        with nogil:
            if s.main:
                reason = self.node.block(&f.c, deadline, work, recall)
            else:
                reason = self.node.block_other(&f.c, deadline)
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

    cdef int suspend(self, Strand s, CallFuture f, bint run_it) except -1:
        # Parks this greenlet until `f` is final, or is back in the queue of this process.
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
        s.suspended += 1
        try:
            if s.greenlet:
                s.greenlet.switch()
            else:
                s.greenlet.switch(s)
        finally:
            s.suspended -= 1
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
        while self.desk.resumed.count:
            pthread_mutex_lock(&self.desk.lock)
            call = ring_pop(&self.desk.resumed)
            pthread_mutex_unlock(&self.desk.lock)
            if call != NULL:
                self._make_ready(s, <object><PyObject *>call.self_obj)
        return 0

    cdef int _make_ready(self, Strand s, object f) except -1:
        waiters = s.waiting.pop(f, None)
        if waiters is not None:
            s.ready.extend(waiters)
        return 0

    # ------------------------------------------------------------------------------ the hub greenlet

    def _loop(self, Strand s):
        """Body of a strand's hub greenlet: resumes who is ready, starts what is queued, else waits."""
        cdef int reason
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
            elif s.main and self._runnable(s):
                self._on_other_stack(s, None)
            elif not s.main:
                s.root.switch()
            else:
                with nogil:
                    reason = self.node.block(NULL, 0, s.suspended < SUSPENDED_MAX + 1, False)
                try:
                    self._idle(s, reason)
                except BaseException as error:
                    s.thrown = error

    cdef int _idle(self, Strand s, int reason) except -1:
        if reason & W_STOPPED and not self.is_origin:
            s.thrown = GreenletExit()
            return 0
        return self._after_block(reason)

    cdef bint _runnable(self, Strand s) noexcept:
        if self.desk.remote_only:
            return False
        return self.desk.queue.own_count != 0 or (
            self.desk.queue.foreign_count != 0 and s.suspended <= SUSPENDED_MAX)

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
                while s.main and s.request is None and not s.ready and not self.desk.resumed.count and (
                        s.thrown is None and self._runnable(s)):
                    self.run_next(s)
            except GreenletExit:
                raise
            except BaseException as error:
                s.thrown = error
            s.parked.append(getcurrent())
            f = s.greenlet.switch()

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
        pthread_mutex_unlock(&self.desk.lock)
        if call == NULL:
            return False
        if call.owner:
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

    # ------------------------------------------------------------------------------------ running

    cdef void _show(self, Strand s) noexcept:
        # What runs now, for the agent: it reads this page after a crash.
        cdef uint64_t *words = <uint64_t *>self.page
        cdef level_t *level = s.level
        if words == NULL or not s.main:
            return
        if level == &s.base:
            words[0] = 0
            return
        # Two entries: the call that this stack began with, and the innermost one.
        words[8] = level.root_owner
        words[9] = level.root_id
        words[14] = level.owner
        words[15] = level.id
        words[16] = <uint64_t>level.fn | (<uint64_t>level.attempt << 32)
        words[17] = level.lineage[0]
        words[18] = level.lineage[1]
        words[19] = level.item
        words[1] += 1
        words[0] = 2

    cdef void _enter(self, Strand s, level_t *level, call_t *call) noexcept:
        level.up = s.level
        level.owner = call.owner if call.owner else self.desk.incarnation
        level.id = call.id
        level.fn = call.fn
        level.attempt = call.attempt
        level.lineage[0] = call.lineage[0]
        level.lineage[1] = call.lineage[1]
        level.item = 0
        level.children = 0
        level.pinned = level.up.pinned
        if level.up == &s.base:
            level.root_owner = level.owner
            level.root_id = level.id
        else:
            level.root_owner = level.up.root_owner
            level.root_id = level.up.root_id
        s.level = level
        self._show(s)

    cdef object _call(self, Strand s, call_t *call, object fn, object args, object kwargs):
        # The only place where user code is called. It starts clean: own context, no running event loop.
        cdef object context = PyContext_Copy(self.base_context)
        cdef object loop = None
        if PyDict_GetItemString(MODULES, "asyncio.events") != NULL:
            loop = asyncio_loop(None)
        PyContext_Enter(context)
        try:
            if call.flags & T_CHUNK:
                value = self._call_chunk(s, fn, args)
            else:
                value = PyObject_Call(fn, args, kwargs)
            while isinstance(value, CallFuture):
                value = (<CallFuture>value).result()
            return value
        finally:
            PyContext_Exit(context)
            if loop is not None:
                asyncio_loop(loop)

    cdef object _call_chunk(self, Strand s, object fn, tuple args):
        # A piece of a map: the results so far, and the exception that ended it.
        cdef uint64_t start = args[0]
        cdef list results = []
        cdef level_t *level = s.level
        cdef uint64_t high = level.lineage[0], low = level.lineage[1]
        cdef bint star = args[1]
        cdef object error = None
        cdef uint64_t i = 0
        try:
            for item in args[2]:
                # Each item has the lineage that it would have as a call of its own.
                level.lineage[0] = mix64(high ^ (start + i + 1))
                level.lineage[1] = mix64(low + level.lineage[0])
                level.children = 0
                level.item = start + i
                value = fn(*item) if star else fn(item)
                while isinstance(value, CallFuture):
                    value = (<CallFuture>value).result()
                results.append(value)
                i += 1
        except GreenletExit:
            raise
        except BaseException as caught:
            if isinstance(caught, KeyboardInterrupt) and self.interrupted:
                raise
            error = caught
        level.lineage[0] = high
        level.lineage[1] = low
        return tuple(results), error

    cdef int run_own(self, Strand s, CallFuture f) except -1:
        cdef level_t level
        cdef Form form = f.form
        cdef uint64_t began = 0, took
        cdef bint failed = False
        if form.c.est_ns == 0 or form.c.est_ns > 10000 or form.c.runs & 15 == 0:
            began = now_ns()
        form.c.runs += 1
        self._enter(s, &level, &f.c)
        try:
            try:
                args, kwargs, fn = self._open_own(f, form)
                value = self._call(s, &f.c, fn, args, kwargs)
                if not f.c.flags & T_NO_COPY and not is_scalar(<PyObject *>value, 0):
                    value = self.session.copy_outcome(value, f.c.flags & T_CHUNK, form.name)
            except GreenletExit:
                raise
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt) and self.interrupted:
                    self._give_back(f)
                    raise
                value = error
                failed = True
        finally:
            s.level = level.up
            self._show(s)
        if began:
            took = (now_ns() - began) // (f.c.items if f.c.items else 1) + 1
            form.c.est_ns = took if form.c.est_ns == 0 else (7 * form.c.est_ns + took) >> 3
        f.finish(value, failed)
        if f.c.marks & M_SUSPENDED:
            self._resume_waiters(s, f)
        return 0

    cdef tuple _open_own(self, CallFuture f, Form form):
        # A local run sees copies too, unless nothing can be changed through what it sees.
        fn = pickling.load_function(form.blob) if form.fresh and not f.c.flags & T_NO_COPY else form.fn
        if f.c.data == NULL:
            return (f.args, None, fn) if not f.c.flags & T_NO_COPY else (f.args[0], f.args[1], fn)
        args, kwargs = pickling.loads_args(f.c.data[:f.c.size])
        return args, kwargs, fn

    cdef int _give_back(self, CallFuture f) except -1:
        # An interrupted call is as if it had never begun.
        Py_INCREF(f)
        pthread_mutex_lock(&self.desk.lock)
        self.desk.queue.put_own(&f.c)
        pthread_mutex_unlock(&self.desk.lock)
        return 0

    cdef int _resume_waiters(self, Strand s, CallFuture f) except -1:
        if f in s.waiting:
            self._make_ready(s, f)
            return 0
        pthread_mutex_lock(&self.desk.lock)
        ring_push(&self.desk.resumed, &f.c)
        pthread_mutex_unlock(&self.desk.lock)
        self.node.hurry()
        return 0

    # ------------------------------------------------------------------------ tasks of other owners

    cdef int run_foreign(self, Strand s, call_t *call) except -1:
        cdef level_t level
        cdef uint64_t began, ended
        cdef int outcome = O_VALUE
        cdef object fn
        try:
            fn = self._function(call)
        except BaseException as error:
            self._post(call, error, O_ERROR, 0, None)
            return 0
        if fn is None:
            return 0                    # asked for; the call waits in `asked`
        self._enter(s, &level, call)
        began = now_ns()
        try:
            args, kwargs = self._open_foreign(call)
            value = self._call(s, call, fn, args, kwargs)
        except GreenletExit:
            raise
        except BaseException as error:
            value = error
            outcome = O_ERROR
        ended = now_ns()
        self._post(call, value, outcome, ended - began + 1, fn)
        s.level = level.up
        self._show(s)
        self.node.between(ended, ended - began > FLUSH_RUN_NS)
        return 0

    cdef object _function(self, call_t *call):
        # None when its form has to be fetched from the owner first.
        cdef uint64_t[3] numbers
        if self.last_function is not None and call.owner == self.last_owner and call.fn == self.last_fn:
            return self.last_function
        if self.desk.parcels != NULL:
            self._unpack()
        key = (call.owner, call.fn)
        fn = self.functions.get(key)
        if fn is None:
            if key not in self.asked:
                self.asked[key] = []
                numbers[0] = call.owner
                numbers[1] = call.fn
                numbers[2] = self.desk.incarnation
                pthread_mutex_lock(&self.desk.lock)
                put_record(&self.desk.out, K_NEED, 3, numbers)
                pthread_mutex_unlock(&self.desk.lock)
                self.node.hurry()
            self.asked[key].append(<size_t>call)
            return None
        if type(fn) is bytes:
            fn = pickling.load_function(fn)
            self.functions[key] = fn
        self.last_owner = call.owner
        self.last_fn = call.fn
        self.last_function = fn
        return fn

    cdef tuple _open_foreign(self, call_t *call):
        cdef span_t span
        if call.flags & T_SCALARS:
            span.data = call.data
            span.size = call.size
            return get_scalar(span), None
        return pickling.loads_args(call.data[:call.size])

    cdef int _post(self, call_t *call, object value, int outcome, uint64_t run_ns, object fn) except -1:
        # Encodes the result and puts it down for the broker; the call's record ends here.
        cdef buf_t scratch
        cdef span_t payload
        cdef bytes held = b""
        scratch.data = NULL
        scratch.size = 0
        scratch.cap = 0
        try:
            if outcome == O_VALUE and is_scalar(<PyObject *>value, 0):
                outcome = O_SCALAR
                put_scalar(&scratch, <PyObject *>value)
                payload.data = scratch.data
                payload.size = scratch.size
            else:
                held, outcome = self.session.encode_outcome(value, outcome == O_ERROR, call.flags & T_CHUNK, fn)
                payload.data = held
                payload.size = len(held)
            pthread_mutex_lock(&self.desk.lock)
            put_result(&self.desk.out, call.owner, call.id, call.attempt, outcome, run_ns, payload)
            pthread_mutex_unlock(&self.desk.lock)
        finally:
            buf_free(&scratch)
            free(call.data)
            free(call)
        return 0

    cdef int _unpack(self) except -1:
        # Functions and constants that have arrived.
        cdef parcel_t *parcel
        cdef call_t *call
        while self.desk.parcels != NULL:
            pthread_mutex_lock(&self.desk.lock)
            parcel = self.desk.parcels
            if parcel != NULL:
                self.desk.parcels = parcel.next
            pthread_mutex_unlock(&self.desk.lock)
            if parcel == NULL:
                break
            data = (<char *>parcel.data)[parcel.name_size:parcel.name_size + parcel.size]
            if parcel.kind == K_FORM:
                key = (parcel.owner, <uint32_t>parcel.number)
                self.functions[key] = data
                if len(self.functions) > FUNCTIONS_MAX:
                    del self.functions[next(iter(self.functions))]
                for pointer in self.asked.pop(key, ()):
                    call = <call_t *><size_t>pointer
                    pthread_mutex_lock(&self.desk.lock)
                    self.desk.queue.put_foreign(call)
                    pthread_mutex_unlock(&self.desk.lock)
            elif parcel.kind == K_RESULT:
                self.session.mend(parcel.number, data)
            else:
                self.session.constant_arrived((<char *>parcel.data)[:parcel.name_size], data)
            free(parcel)
        return 0

    # ------------------------------------------------------------------------------- told in Python

    cdef int notices(self) except -1:
        cdef call_t *call
        cdef CallFuture f
        if self.desk.parcels != NULL:
            self._unpack()
        while self.desk.noticed.count:
            pthread_mutex_lock(&self.desk.lock)
            call = ring_pop(&self.desk.noticed)
            pthread_mutex_unlock(&self.desk.lock)
            if call == NULL:
                break
            f = <CallFuture><PyObject *>call.self_obj
            Py_DECREF(f)                # the ring's reference
            f.tell()
        return 0

    def show_on(self, page not None):
        """Keep what runs now on `page`, a writable buffer shared with the agent."""
        cdef unsigned char[::1] view = page
        self.page_buffer = page
        self.page = &view[0]

    def tell_noticed(self):
        """Body of the notifier thread: runs callbacks of results that arrive while nobody waits in scoop."""
        while not self.node.stopping:
            with nogil:
                pthread_mutex_lock(&self.desk.lock)
                if self.desk.noticed.count == 0 and self.desk.parcels == NULL and not self.node.stopping:
                    self.desk.wait_noticed()
                pthread_mutex_unlock(&self.desk.lock)
            try:
                self.notices()
            except Exception:
                import logging

                logging.getLogger("scoop").exception("a result could not be told")

    def drain(self):
        """Return when no submitted call is outstanding; the main thread runs what is queued. Blocks."""
        cdef Strand s = self.strand()
        cdef int reason
        while self.desk.queue.own_count + len(self.desk.ledger):
            if s.main and not self.desk.remote_only and self.desk.queue.own_count:
                self.run_next(s)
            elif s.main:
                self.node.draining = True
                with nogil:
                    reason = self.node.block(NULL, 0, True, False)
                self.node.draining = False
                self._after_block(reason)
                if s.ready or self.desk.resumed.count:
                    self.suspend_for_others(s)
                elif self._runnable(s):
                    self.run_next(s)
            else:
                with nogil:
                    pthread_mutex_lock(&self.desk.lock)
                    if self.desk.queue.own_count + self.desk.ledger.open.count:
                        self.desk.wait_changed(now_ns() + ANSWER_NS)
                    pthread_mutex_unlock(&self.desk.lock)
        self.notices()
        self.sweep()

    cdef int sweep(self) except -1:
        # Drops references that threads without the GIL have left behind.
        cdef call_t *call
        while self.desk.grave.count + self.desk.queue.stale.count:
            pthread_mutex_lock(&self.desk.lock)
            call = ring_pop(&self.desk.grave)
            if call == NULL:
                call = self.desk.queue.pop_stale()
            pthread_mutex_unlock(&self.desk.lock)
            if call == NULL:
                break
            Py_DECREF(<object><PyObject *>call.self_obj)
        return 0

    cdef int interest(self, CallFuture f) except -1:
        # Somebody waits who cannot run it: a helper thread will, if no worker takes it first.
        if f.c.marks & M_PROMOTED or f.c.state != S_QUEUED or self.desk.remote_only:
            return 0
        f.c.marks |= M_PROMOTED
        self.session.promote(f)
        return 0

    def help_with(self, CallFuture f not None):
        """Run `f` in the calling thread if nobody has begun it; used by the helper thread."""
        if f.c.state == S_QUEUED and self.take(f):
            self.run_own(self.strand(), f)

    cdef bint call_off(self, CallFuture f) except -1:
        # True when the call is cancelled; asks its holder when it is elsewhere.
        cdef int how = 0
        cdef uint64_t deadline
        pthread_mutex_lock(&self.desk.lock)
        if f.c.state == S_QUEUED:
            how = self.desk.queue.take(&f.c)
            f.c.state = S_CANCELLED
        elif f.c.state == S_WAITING:
            f.c.state = S_CANCELLED
        elif f.c.state == S_EXPORTED:
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
                self._resume_waiters(self.strand(), f)
            return True
        if f.c.state != S_EXPORTED:
            return False
        return self._wait_answer(f)

    cdef bint _wait_answer(self, CallFuture f) except -1:
        # The holder's driver answers without the GIL, so this takes a round trip, at most its takeover time.
        cdef uint64_t deadline = now_ns() + <uint64_t>ANSWER_NS
        self.node.hurry()
        while f.c.state == S_EXPORTED and now_ns() < deadline and f.c.marks & M_ASKED and not f.c.marks & M_STARTED:
            with nogil:
                if self.node.is_main():
                    self.node.block(&f.c, now_ns() + ANSWER_LOOK_NS, False, False)
                else:
                    self.node.block_other(&f.c, now_ns() + ANSWER_LOOK_NS)
        return f.c.state == S_CANCELLED


def asyncio_loop(loop):
    """Make `loop` the running event loop of this thread and return the one before (None: no loop)."""
    events = MODULES["asyncio.events"]
    before = events._get_running_loop()
    if before is not loop:
        events._set_running_loop(loop)
    return before
