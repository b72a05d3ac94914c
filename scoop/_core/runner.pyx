"""Runs calls: the only place where user code is called.

Every call starts clean, in a copy of the job's base context and with no running event loop, and sees copies of what
it could change, wherever it runs. What it returns or raises goes to its future here, or as bytes to its owner.
"""

import sys
import threading
from collections import deque

from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdlib cimport free

from greenlet import GreenletExit, getcurrent

from scoop import pickling
from scoop.pickling.keys import function_name
from scoop.outcomes import copy_outcome, encode_outcome
from scoop._core.call cimport M_SUSPENDED
from scoop._core.desk cimport pthread_mutex_lock, pthread_mutex_unlock
from scoop._core.localq cimport ring_pop
from scoop._core.store cimport AT_CALLED, AT_OPENED, AT_RETURNED
from scoop._core.net cimport now_ns
from scoop._core.scalars cimport get_scalar, is_scalar, put_scalar
from scoop._core.table cimport descend
from scoop._core.wire cimport (
    K_NEED, O_ERROR, O_SCALAR, O_VALUE, T_CHUNK, T_NO_COPY, T_ONCE, T_SCALARS, buf_free, buf_t, put_record,
    span_t)

cdef extern from "Python.h":
    object PyContext_Copy(object)
    int PyContext_Enter(object) except -1
    int PyContext_Exit(object) except -1
    object PyObject_Call(object, object, PyObject *)
    PyObject *PyDict_GetItemString(object, const char *)

cdef enum:
    AGAIN_NS = 1000000000       # for a function that has not come: question or answer may be lost
    FLUSH_RUN_NS = 100000       # the result of a task this long does not wait for company

cdef dict MODULES = sys.modules


cdef class Strand:
    """The state of one thread that runs calls."""

    def __cinit__(self, bint main):
        self.main = main
        self.parked = []
        self.ready = deque()
        self.waiting = {}
        self.timers = {}
        self.root = getcurrent()
        self.level = &self.base
        self.greenlet = None


cdef class Runner(Runtime):
    """What runs in this process; the hub above it knows what waits."""

    def __init__(self, Node node not None, session, context, bint is_origin):
        self.node = node
        self.desk = node.desk
        self.session = session
        self.base_context = context
        self.is_origin = is_origin
        self.functions = {}
        self.asked = {}
        self.strands = threading.local()
        self.main_strand = Strand(True)

    cdef Strand strand(self):
        cdef Strand strand
        if self.node.is_main():
            return self.main_strand
        strand = getattr(self.strands, "strand", None)
        if strand is None:
            strand = Strand(False)
            # Threads of the program count from the far end, so that they never meet the main one's children.
            self.threads += 1
            descend(self.main_strand.base.lineage, (<uint64_t>1 << 63) + self.threads, strand.base.lineage)
            self.strands.strand = strand
        return strand

    cdef int resume_waiters(self, Strand s, CallFuture f) except -1:
        raise NotImplementedError

    cdef int name_known(self, uint64_t owner, uint32_t number, str name) except -1:
        raise NotImplementedError

    def show_on(self, page not None):
        """Keep what runs now on `page`, a writable buffer shared with the agent."""
        cdef unsigned char[::1] view = page
        self.page_buffer = page
        self.page = &view[0]

    cdef void _show(self, Strand s) noexcept:
        # What runs now, for the agent: it reads this page after a crash, and when somebody asks. The layout is that
        # of scoop.launch.watched.
        cdef uint64_t *words = <uint64_t *>self.page
        cdef level_t *level = s.level
        if words == NULL or not s.main:
            return
        if level == &s.base:
            words[0] = 0
            return
        # Two entries: the task of another owner that this descends from, and the innermost call.
        words[8] = level.root_owner
        words[9] = level.root_id
        words[14] = level.owner
        words[15] = level.id
        words[16] = <uint64_t>level.fn | (<uint64_t>level.attempt << 32)
        words[17] = level.lineage[0]
        words[18] = level.lineage[1]
        words[19] = level.item
        words[2] = level.since
        words[3] = level.root_since
        words[1] += 1
        words[0] = 2

    cdef void _waits(self, Strand s, int more, object awaited) noexcept:
        # So many more calls of this thread are parked; `awaited` is what the thread itself sleeps for.
        s.suspended += more
        s.awaited = awaited
        if more > 0:
            s.level = &s.base       # its stack may be overwritten while it is parked, and this be read meanwhile
        if self.page != NULL and s.main:
            (<uint64_t *>self.page)[4] = s.suspended + (awaited is not None)

    cdef void set_item(self, level_t *level, uint64_t high, uint64_t low, uint64_t index) noexcept:
        # Each item of a map has a lineage of its own, however the map is cut into chunks.
        cdef uint64_t[2] of_map
        of_map[0] = high
        of_map[1] = low
        descend(of_map, index, level.lineage)
        level.children = 0
        level.streams = 0
        level.item = index

    cdef void _enter(self, Strand s, level_t *level, call_t *call, uint64_t began) noexcept:
        level.up = s.level
        level.owner = call.owner if call.owner else self.desk.incarnation
        level.id = call.id
        level.fn = call.fn
        level.attempt = call.attempt
        level.lineage[0] = call.lineage[0]
        level.lineage[1] = call.lineage[1]
        level.item = 0
        level.children = 0
        level.streams = 0
        level.pinned = level.up.pinned
        # Blame goes to the task that this process was given, on whatever stack its descendants run.
        level.root_owner = level.owner if call.owner else call.root[0]
        level.root_id = level.id if call.owner else call.root[1]
        level.since = began
        level.root_since = began
        if not call.owner and level.root_owner:
            # On a stack of its own it is not known here when the task began that it descends from.
            level.root_since = level.up.root_since if level.up.root_id == level.root_id else 0
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
            if self.deadly is not None:
                self.session.refuse_deadly((<char *>s.level.lineage)[:16], fn)
            if call.flags & T_CHUNK:
                value = self._call_chunk(s, fn, args)
            else:
                value = PyObject_Call(fn, args, <PyObject *>kwargs if kwargs else NULL)
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
                self.set_item(level, high, low, start + i)
                if self.deadly is not None:
                    self.session.refuse_deadly((<char *>level.lineage)[:16], fn)
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
        self._enter(s, &level, &f.c, began)
        try:
            try:
                args, kwargs, fn = self._open_own(f, form)
                value = self._call(s, &f.c, fn, args, kwargs)
                if not f.c.flags & T_NO_COPY and not is_scalar(<PyObject *>value, 0):
                    value = copy_outcome(value, f.c.flags & T_CHUNK, form.name)
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
            self.resume_waiters(s, f)
        elif not s.main:
            self.node.hurry()           # the main thread may wait for it in poll
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

    # ------------------------------------------------------------------------ tasks of other owners

    cdef int run_foreign(self, Strand s, call_t *call) except -1:
        cdef level_t level
        cdef uint64_t began, ended
        cdef int outcome = O_VALUE
        cdef object fn
        self.desk.stamp(AT_OPENED)
        try:
            fn = self._function(call)
        except BaseException as error:
            self._post(call, error, O_ERROR, 0, None)
            return 0
        if fn is None or (call.flags & T_ONCE and self.desk.claim(call, now_ns())):
            return 0                    # asked for; the call is parked
        began = now_ns()
        self._enter(s, &level, call, began)
        try:
            args, kwargs = self._open_foreign(call)
            self.desk.stamp(AT_CALLED)
            value = self._call(s, call, fn, args, kwargs)
        except GreenletExit:
            raise
        except BaseException as error:
            value = error
            outcome = O_ERROR
        if self.leave_fork is not None:
            self.leave_fork(value if outcome == O_ERROR else None)
        ended = now_ns()
        self.desk.stamp(AT_RETURNED)
        self._post(call, value, outcome, ended - began + 1, fn)
        s.level = level.up
        self._show(s)
        self.node.between(ended, ended - began > FLUSH_RUN_NS)
        return 0

    cdef object _function(self, call_t *call):
        # None when its form has to be fetched from the owner first.
        cdef uint64_t[3] numbers
        if self.desk.parcels != NULL:
            self._unpack()
        if self.last_function is not None and call.owner == self.last_owner and call.fn == self.last_fn:
            return self.last_function
        key = (call.owner, call.fn)
        fn = self.functions.get(key)
        if fn is None:
            new = self.asked.get(key, 0) <= self.desk.ask_again_ns or now_ns() - <uint64_t>self.asked[key] >= AGAIN_NS
            if new:
                self.asked[key] = now_ns()
                numbers[0] = call.owner
                numbers[1] = call.fn
                numbers[2] = self.desk.incarnation
            pthread_mutex_lock(&self.desk.lock)
            if new:
                put_record(&self.desk.out, K_NEED, 3, numbers)
            self.desk.end(call)
            self.desk.queue.park(call)
            pthread_mutex_unlock(&self.desk.lock)
            if new:
                self.node.hurry()
            return None
        if type(fn) is bytes:
            fn = pickling.load_function(fn)
            self.functions[key] = fn
            self.name_known(call.owner, call.fn, function_name(fn))
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
                held, outcome = encode_outcome(value, outcome == O_ERROR, call.flags & T_CHUNK, fn)
                payload.data = held
                payload.size = len(held)
            pthread_mutex_lock(&self.desk.lock)
            self.desk.post(call, outcome, run_ns, payload)
            pthread_mutex_unlock(&self.desk.lock)
        finally:
            buf_free(&scratch)
            free(call.data)
            free(call)
        return 0

    cdef int _unpack(self) except -1:
        raise NotImplementedError

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


def asyncio_loop(loop):
    """Make `loop` the running event loop of this thread and return the one before (None: no loop)."""
    events = MODULES["asyncio.events"]
    before = events._get_running_loop()
    if before is not loop:
        events._set_running_loop(loop)
    return before
