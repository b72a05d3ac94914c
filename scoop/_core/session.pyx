"""Submits calls, and does for the hub what needs Python: forms, encoding, mending, constants."""

import os
import types

from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from scoop import pickling
from scoop._core.account cimport Account
from scoop._core.call cimport M_SUSPENDED, S_DONE, S_WAITING, call_t
from scoop._core.desk cimport pthread_mutex_lock, pthread_mutex_unlock
from scoop._core.future cimport Extras
from scoop._core.runner cimport level_t
from scoop._core.scalars cimport get_scalar, is_scalar
from scoop._core.table cimport descend, table_put
from scoop._core.wire cimport (
    T_CHUNK, T_NO_COPY, T_SCALARS, span_t)

from scoop.errors import ForkedProcess, UsageError

cdef extern from "Python.h":
    ctypedef object (*newfunc)(PyTypeObject *, PyObject *, PyObject *)

cdef extern from *:
    """
    #define scoop_new(cls) (((PyTypeObject *)(cls))->tp_new((PyTypeObject *)(cls), scoop_no_args, NULL))
    static PyObject *scoop_no_args = NULL;
    static void scoop_set_no_args(PyObject *args) { Py_INCREF(args); scoop_no_args = args; }
    """
    object scoop_new(object)
    void scoop_set_no_args(object)

scoop_set_no_args(())

FORMS_MAX = 1024
QUEUE_BYTES_MAX = 1 << 30
PAYLOAD_BYTES_MAX = (1 << 32) - (1 << 20)     # what a message can carry, less its other fields
MENDINGS_MAX = 20        # classes that one call may lack, found one by one

# Grows in a child made by os.fork(), which has none of its parent's threads; sessions remember theirs.
cdef int generation = 0


def _after_fork():
    global generation
    generation += 1


os.register_at_fork(after_in_child=_after_fork)


cdef class Session(Account):
    """One process's way into its pool.

    Args:
        node: the driver.
        context: the contextvars context that every task starts in a copy of.
        is_origin: whether this process runs the user's program.
        future_class: the class of the futures, a subclass of CallFuture.
        seed: the job's 16 random bytes; the root of all lineages.
    """

    def __init__(self, node, context, bint is_origin, future_class, bytes seed not None):
        Account.__init__(self, node, self, context, is_origin)
        self.generation = generation
        self.future_class = future_class
        self.forms = {}
        self.keyed = {}
        self.seed = seed
        self.copy = True
        self.queue_bytes_max = QUEUE_BYTES_MAX
        memcpy(self.main_strand.base.lineage, <const char *>seed, 16)
        if not is_origin:
            # What a worker's own threads submit outside of any task must not repeat the origin's lineages.
            descend(self.main_strand.base.lineage, self.desk.incarnation, self.main_strand.base.lineage)

    def reseed(self, bytes seed not None):
        """Let all generators of the job derive from another seed (16 bytes), before its first call.

        Raises:
            RuntimeError: a call has been submitted.
        """
        if self.desk.next_id != 1 or self.main_strand.base.children or self.main_strand.base.streams:
            raise RuntimeError("the seed can be set only before the first call")
        self.seed = seed
        memcpy(self.main_strand.base.lineage, <const char *>seed, 16)

    # ------------------------------------------------------------------------------------- functions

    cdef Form form_of(self, object fn):
        cdef Form form
        if type(fn) is Form:
            return fn
        if type(fn) is types.FunctionType or type(fn) is types.BuiltinFunctionType:
            form = self.forms.get(fn)
            if form is not None:
                return form
        elif not callable(fn):
            raise TypeError(f"the first argument is called, but {fn!r} of type {type(fn).__name__} is not callable")
        key = pickling.function_key(fn)
        if key is not None:
            form = self.keyed.get(key)
            if form is not None:
                return form
        return self._new_form(fn, key, True)

    cdef Form _new_form(self, object fn, object key, bint keep):
        cdef Form form
        made = pickling.function_form(fn)
        form = Form(fn, made.blob, made.name, not made.stable and key is None)
        self.next_number += 1
        form.c.number = self.next_number
        form.desk = self.desk
        pthread_mutex_lock(&self.desk.lock)
        table_put(&self.desk.forms, form.c.number, &form.c)
        pthread_mutex_unlock(&self.desk.lock)
        self.name_known(self.desk.incarnation, form.c.number, form.name)
        if made.stable and keep and type(fn) in (types.FunctionType, types.BuiltinFunctionType) and (
                getattr(fn, "__closure__", None) is None):
            self._remember(self.forms, fn, form)
        if key is not None:
            self._remember(self.keyed, key, form)
        return form

    def _remember(self, dict table, key, form):
        # Bounded: the oldest goes, and is made again when it is used again.
        table[key] = form
        if len(table) > FORMS_MAX:
            del table[next(iter(table))]

    # ------------------------------------------------------------------------------------ submitting

    def submit(self, fn, args, kwargs, int flags=0):
        """Make the future of `fn(*args, **kwargs)` and queue it. Does not block."""
        cdef CallFuture f = self.new_call(self.form_of(fn), args, kwargs, flags, 0)
        if f.c.state != S_WAITING or f.extras is None:
            self.enqueue(f)
        return f

    def prepare(self, fn):
        """Return the form of `fn` as it is now, which `submit_chunk` and `estimate_ns` take in its place."""
        return self.form_of(fn)

    def submit_chunk(self, fn, start, bint star, tuple items, lineage, int flags=0):
        """Make the future of a piece of a map: items `start`, `start + 1`, ... of the call named by `lineage`.

        Its result is a tuple of the results and the exception that ended it early, or None.
        """
        cdef bytes name = lineage
        cdef CallFuture f = self.new_call(self.form_of(fn), (start, star, items), None, flags | T_CHUNK, len(items))
        memcpy(f.c.lineage, <const char *>name, 16)
        if f.c.state != S_WAITING or f.extras is None:
            self.enqueue(f)
        return f

    def estimate_ns(self, fn):
        """Return the measured mean run time of `fn` per call or item in nanoseconds; 0 while unknown."""
        return self.form_of(fn).c.est_ns

    def bell(self):
        """Return a future that belongs to no call and becomes final when somebody rings it."""
        cdef CallFuture f = scoop_new(self.future_class)
        f.runtime = self
        f.c.self_obj = <void *>f
        f.c.state = S_WAITING
        return f

    def ring(self, CallFuture bell not None):
        """Make a bell final, from any thread; harmless when it is."""
        if bell.c.state >= S_DONE:
            return
        bell.finish(None, False)
        if bell.c.marks & M_SUSPENDED:
            self.resume_waiters(self.strand(), bell)
        self.node.hurry()

    def poll_parcels(self):
        """Take in constants and functions that have arrived; the caller waits in a loop for what it needs."""
        self._unpack()

    def new_lineage(self):
        """Return the 16 bytes of lineage that the next call submitted here would have, and use them up."""
        cdef call_t call
        self._derive(&call, True)
        return (<char *>call.lineage)[:16]

    cdef void _derive(self, call_t *call, bint named) noexcept:
        # What a call inherits from the one that submits it. The pieces of a map are named by the map.
        cdef level_t *level = self.strand().level
        call.root[0] = level.root_owner
        call.root[1] = level.root_id
        if named:
            descend(level.lineage, level.children, call.lineage)
            level.children += 1

    cdef CallFuture new_call(self, Form form, tuple args, dict kwargs, int flags, uint32_t items):
        cdef CallFuture f
        if self.generation != generation or self.closed:
            self._refuse()
        f = scoop_new(self.future_class)
        f.runtime = self
        f.form = form
        f.c.form = &form.c
        f.c.self_obj = <void *>f
        f.c.fn = form.c.number
        f.c.id = self.desk.next_id
        self.desk.next_id += 1
        f.c.items = items
        f.c.state = S_WAITING
        if not self.copy:
            flags |= T_NO_COPY
        self._derive(&f.c, items == 0)
        f.c.flags = <unsigned char>flags
        if not kwargs and is_scalar(<PyObject *>args, 0):
            f.c.flags |= T_SCALARS
            f.c.flags &= ~T_NO_COPY         # nothing to copy
            f.args = args
            f.c.args = <void *>args
        elif not self._has_needs(f, args, kwargs):
            self._encode(f, args, kwargs)
        return f

    cdef int check_process(self) except -1:
        # Before any lock: in a forked child one may be held by a thread that is not there.
        if self.generation != generation:
            self._refuse()
        return 0

    def _refuse(self):
        if self.generation != generation:
            raise ForkedProcess("this process was forked from one that uses scoop, and scoop's threads are not in it; "
                                "submit from the original process, or start this one as a program of its own")
        raise RuntimeError("cannot submit: scoop has been shut down")

    cdef int _encode(self, CallFuture f, tuple args, dict kwargs) except -1:
        cdef bytes data = pickling.dumps_args(args, kwargs, f.form.name)
        if len(data) > PAYLOAD_BYTES_MAX:
            raise UsageError(f"the arguments of {f.form.name} take {len(data)} bytes, more than the limit of "
                             f"{PAYLOAD_BYTES_MAX} for one call: send them in parts, or by a file")
        f.c.size = len(data)
        f.c.data = <char *>malloc(f.c.size + 1)
        if f.c.data == NULL:
            raise MemoryError
        memcpy(f.c.data, <const char *>data, f.c.size)
        return 0

    cdef int enqueue(self, CallFuture f) except -1:
        cdef bint wanted
        Py_INCREF(f)                        # the queue's reference
        pthread_mutex_lock(&self.desk.lock)
        self.desk.queue.put_own(&f.c)
        wanted = self.desk.want_us > 0
        pthread_mutex_unlock(&self.desk.lock)
        if wanted:
            self.node.hurry()
        if self.desk.grave.count + self.desk.queue.stale.count > 256:
            self.sweep()
        while self.desk.queue.own_bytes > self.queue_bytes_max:
            self._run_oldest()
        return 0

    cdef int _run_oldest(self) except -1:
        # A flood of submits would fill the memory: whoever submits more runs, or waits for, what waits longest.
        cdef call_t *call
        cdef object f = None
        pthread_mutex_lock(&self.desk.lock)
        call = self.desk.queue.oldest()
        if call != NULL:
            f = <object>call.self_obj
        pthread_mutex_unlock(&self.desk.lock)
        if f is not None:
            self.wait_for(f, -1.0)
        return 0

    # ----------------------------------------------------------------------- futures among arguments

    def _has_needs(self, CallFuture f, tuple args, kwargs):
        cdef list needs = [x for x in args if isinstance(x, CallFuture)]
        if kwargs:
            needs += [x for x in kwargs.values() if isinstance(x, CallFuture)]
        if not needs:
            return False
        f.args = (args, kwargs)
        f.need_extras().needs = needs
        pending = [need for need in needs if not need.done()]
        if not pending:
            self.needs_met(f)
            return True
        self.needing.add(f)
        for need in pending:
            need.add_done_callback(lambda _: self.needs_met(f))
        return True

    def needs_met(self, CallFuture f):
        """Queue `f` if all futures among its arguments are final now; one that failed fails it too."""
        cdef Extras extras = f.extras
        if f.c.state != S_WAITING or extras.needs is None:
            self.needing.discard(f)
            return
        for need in extras.needs:
            if (<CallFuture>need).c.state < S_DONE:
                return
        extras.needs = None
        self.needing.discard(f)
        args, kwargs = f.args
        try:
            args = tuple([x.result() if isinstance(x, CallFuture) else x for x in args])
            kwargs = {k: x.result() if isinstance(x, CallFuture) else x for k, x in (kwargs or {}).items()}
            if not kwargs and is_scalar(<PyObject *>args, 0):
                f.c.flags |= T_SCALARS
                f.args = args
                f.c.args = <void *>args
            else:
                f.args = None
                self._encode(f, args, kwargs)
        except BaseException as error:
            f.finish(error, True)
            return
        self.enqueue(f)

    # ----------------------------------------------------------------------------- what needs Python

    def promote(self, f):
        """See that `f`, which somebody waits for who cannot run it, is run by a helper thread or a worker."""
        if self.helpers is None:
            from scoop.helpers import Helpers

            self.helpers = Helpers(self)
        self.helpers.promote(f)

    def mend(self, uint64_t id, bytes why not None):
        """A worker lacks a class or function that exists only here: send call `id` again with it by value."""
        cdef call_t *call
        cdef span_t span
        cdef CallFuture f
        cdef Form form
        pthread_mutex_lock(&self.desk.lock)
        call = self.desk.ledger.find(id)
        pthread_mutex_unlock(&self.desk.lock)
        if call == NULL:
            return
        f = <CallFuture><PyObject *>call.self_obj
        span.data = why
        span.size = len(why)
        module, qualname = get_scalar(span)
        try:
            if call.attempt >= MENDINGS_MAX:
                raise UsageError(f"workers cannot import {module}.{qualname}, not even sent by value")
            pickling.by_value(module, qualname)
            self.forms.clear()
            self.keyed.clear()
            form = self._new_form(f.form.fn, None, False)
            data = None if call.data == NULL else pickling.redump_args(call.data[:call.size])
        except BaseException as error:
            self._fail(id, error)
            return
        self._reissue(f, form, data)

    cdef int _reissue(self, CallFuture f, Form form, bytes data) except -1:
        form.c.est_ns = f.form.c.est_ns
        form.c.runs = f.form.c.runs
        pthread_mutex_lock(&self.desk.lock)
        if data is not None:
            free(f.c.data)
            f.c.size = len(data)
            f.c.data = <char *>malloc(f.c.size + 1)
            memcpy(f.c.data, <const char *>data, f.c.size)
        f.c.form = &form.c
        f.c.fn = form.c.number
        f.c.attempt += 1
        self.desk.encode_call(&f.c, &self.desk.out)
        pthread_mutex_unlock(&self.desk.lock)
        f.form = form
        self.node.hurry()
        return 0

    cdef int _fail(self, uint64_t id, object error) except -1:
        # An exported call ends here with an error of this process.
        cdef call_t *call
        cdef CallFuture f
        pthread_mutex_lock(&self.desk.lock)
        self.desk.ledger.on_result(id, &call)
        pthread_mutex_unlock(&self.desk.lock)
        if call == NULL:
            return 0
        f = <CallFuture><PyObject *>call.self_obj
        Py_DECREF(f)
        f.finish(error, True)
        if f.c.marks & M_SUSPENDED:
            self.resume_waiters(self.strand(), f)
        return 0

    def close_helpers(self):
        """Let the helper threads see that the session is closed."""
        if self.helpers is not None:
            self.helpers.close()
