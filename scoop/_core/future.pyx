"""The Future's compiled half.

`scoop.executor.Future` derives from `CallFuture` and from `concurrent.futures.Future`, whose methods find here, as
properties, the attributes that they use. A condition variable costs more than everything else about a future, so it
is made only when somebody asks for it; likewise an instance is tracked by the cyclic collector only from the moment
when it can be part of a cycle (a million tracked futures cost 140 ms per collection).
"""

import threading
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as FutureTimeoutError

from cpython.object cimport PyObject
from libc.stdlib cimport free

from scoop._core.call cimport (
    M_NOTIFY, M_PROMOTED, S_ARRIVED, S_CANCELLED, S_DONE, S_EXPORTED, S_QUEUED, S_RUNNING,
    state_of)
from scoop._core.desk cimport pthread_mutex_lock, pthread_mutex_unlock
from scoop._core.scalars cimport get_scalar, is_scalar
from scoop._core.table cimport table_pop
from scoop._core.wire cimport O_ERROR, O_LOST, O_SCALAR, O_VALUE, T_ONCE, span_t

from scoop import pickling

cdef extern from "Python.h":
    void PyObject_GC_UnTrack(PyObject *)
    void PyObject_GC_Track(PyObject *)
    bint PyObject_GC_IsTracked(PyObject *)


cdef class Form:
    """A function as it travels, with its number and its measured run time."""

    def __cinit__(self, object fn, bytes blob, str name, bint fresh):
        self.fn = fn
        self.blob = blob
        self.name = name
        self.fresh = fresh
        self.c.blob = blob
        self.c.blob_size = len(blob)

    def __dealloc__(self):
        if self.desk is not None:
            pthread_mutex_lock(&self.desk.lock)
            table_pop(&self.desk.forms, self.c.number)
            pthread_mutex_unlock(&self.desk.lock)


cdef class Extras:
    """What only some futures have: waiters, callbacks, dependents."""

    def __cinit__(self):
        self.callbacks = []
        self.greenlets = []


cdef class Runtime:
    """What a Future needs of its process."""

    cdef int wait_for(self, CallFuture future, double timeout_s) except -1:
        raise NotImplementedError

    cdef bint call_off(self, CallFuture future) except -1:
        raise NotImplementedError

    cdef int interest(self, CallFuture future) except -1:
        raise NotImplementedError

    cdef bint yield_to_others(self) except -1:
        raise NotImplementedError

    cdef int check_process(self) except -1:
        raise NotImplementedError

    cdef int notify_wanted(self) except -1:
        raise NotImplementedError


cdef class CallFuture:
    """State, result and waiting of one call. Made by a session, never by hand."""

    def __cinit__(self):
        PyObject_GC_UnTrack(<PyObject *>self)

    def __dealloc__(self):
        free(self.c.data)

    # ------------------------------------------------------------------------------- inside the core

    cdef Extras need_extras(self):
        # Whoever asks for extras waits in a way that our own threads must serve.
        cdef bint final
        if self.extras is None:
            self.runtime.check_process()
            # Starting a thread lets other threads run, which may ask for the same.
            self.runtime.notify_wanted()
        if self.extras is None:
            self.extras = Extras()
            if not PyObject_GC_IsTracked(<PyObject *>self):
                PyObject_GC_Track(<PyObject *>self)
            pthread_mutex_lock(&self.runtime.desk.lock)
            final = self.c.state >= S_DONE
            if not final:
                self.c.marks |= M_NOTIFY
            pthread_mutex_unlock(&self.runtime.desk.lock)
            self.extras.told = final
        return self.extras

    cdef int open_result(self) except -1:
        # Turns arrived bytes into a value, in the thread that asks (a hostile pickle harms only this future).
        cdef span_t span
        cdef char *data
        if state_of(&self.c.state) != S_ARRIVED:
            return 0
        data = self.c.data
        span.data = data
        span.size = self.c.size
        failed = False
        try:
            if self.c.outcome == O_SCALAR:
                value = get_scalar(span)
            else:
                held = data[:self.c.size]
                if self.c.outcome == O_VALUE:
                    value = pickling.loads(held)
                elif self.c.outcome == O_ERROR:
                    value = pickling.loads_exception(held)
                    failed = True
                elif self.c.outcome == O_LOST:
                    from scoop.losses import explain_loss

                    value = explain_loss(held, self.form.name, (self.c.flags & T_ONCE) != 0, self.c.crashes)
                    failed = True
                else:
                    raise ValueError(f"a result of unknown kind {self.c.outcome} arrived")
        except BaseException as error:
            value = error
            failed = True
        if self.c.state == S_ARRIVED:       # user code in a pickle may have let another thread in
            self.value = value
            self.c.outcome = O_ERROR if failed else O_VALUE
            self.c.state = S_DONE
            self.c.data = NULL
            free(data)
            self._drop_call()
        return 0

    cdef int _drop_call(self) except -1:
        # What was needed to run it again is of no use any more; the value decides about cycles.
        self.args = None
        self.form = None
        self.c.form = NULL
        self.c.args = NULL
        if not is_scalar(<PyObject *>self.value, 0) and not PyObject_GC_IsTracked(<PyObject *>self):
            PyObject_GC_Track(<PyObject *>self)
        return 0

    cdef int finish(self, object value, bint failed) except -1:
        # The call ended in this process.
        self.value = value
        pthread_mutex_lock(&self.runtime.desk.lock)
        self.c.outcome = O_ERROR if failed else O_VALUE
        self.c.state = S_DONE
        self.runtime.desk.wake_waiters()
        pthread_mutex_unlock(&self.runtime.desk.lock)
        free(self.c.data)
        self.c.data = NULL
        self._drop_call()
        if self.extras is not None:
            self.tell()
        return 0

    cdef int tell(self) except -1:
        # Once, in Python: the standard library's waiters first, then the callbacks.
        cdef Extras extras = self.extras
        if extras is None or extras.told:
            return 0
        if extras.condition is not None:
            with extras.condition:
                extras.told = True
                self._tell_waiters(extras)
                extras.condition.notify_all()
        extras.told = True
        while extras.callbacks:
            self._call_back(extras.callbacks.pop(0))
        return 0

    cdef int _tell_waiters(self, Extras extras) except -1:
        if not extras.waiters:
            return 0
        if self.c.state == S_ARRIVED:
            self.open_result()
        for waiter in extras.waiters:
            if self.c.state == S_CANCELLED:
                waiter.add_cancelled(self)
            elif self.c.outcome == O_ERROR:
                waiter.add_exception(self)
            else:
                waiter.add_result(self)
        return 0

    cdef int _call_back(self, object fn) except -1:
        try:
            fn(self)
        except Exception:
            import logging

            logging.getLogger("scoop").exception("a callback of %r failed", self)
        return 0

    # --------------------------------------------------------------------------------- PEP 3148 surface

    def see_to(self):
        """Make sure that somebody runs this call, for a waiter that cannot. Does not block."""
        if self.c.state < S_DONE and not self.c.marks & M_PROMOTED:
            self.runtime.interest(self)

    @property
    def session(self):
        """The session that the call was submitted to."""
        return self.runtime

    def done(self):
        """Return whether the call has finished or was cancelled. Does not block.

        Asking a future that nobody has begun to run makes sure that somebody will.
        """
        if self.c.state >= S_DONE:
            return True
        if not self.c.marks & M_PROMOTED:
            self.runtime.interest(self)
        self.runtime.yield_to_others()
        return self.c.state >= S_DONE

    def running(self):
        """Return whether the call has left this process's queue and is not final. Does not block."""
        return self.c.state == S_RUNNING or self.c.state == S_EXPORTED

    def cancelled(self):
        """Return whether the call was cancelled. Does not block."""
        return self.c.state == S_CANCELLED

    def cancel(self):
        """Cancel the call if it has not started anywhere.

        Returns:
            True if it was cancelled (now or before), False if it has started or finished. Blocks for one
            round trip to the worker that holds it.
        """
        if self.c.state == S_CANCELLED:
            return True
        if self.c.state >= S_DONE or self.c.state == S_RUNNING:
            return False
        return self.runtime.call_off(self)

    def result(self, timeout=None):
        """Return what the call returned; waits for it.

        While it waits without a timeout the thread runs other calls. A call that nobody has begun is run on the
        spot.

        Args:
            timeout: seconds to wait at most, 0 or less not at all; None, the default, waits as long as it takes.

        Raises:
            concurrent.futures.TimeoutError: it did not finish in time.
            concurrent.futures.CancelledError: it was cancelled.
            BaseException: what the call raised, with the remote traceback as its cause.

        Example:
            >>> futures.submit(pow, 2, 10).result()
            1024
        """
        if self.c.state < S_DONE:
            self._wait(timeout)
        if self.c.state == S_ARRIVED:
            self.open_result()
        if self.c.state == S_CANCELLED:
            raise CancelledError()
        if self.c.outcome == O_ERROR:
            try:
                raise self.value
            finally:
                self = None         # the traceback must not keep the future alive
        return self.value

    cdef int _wait(self, timeout) except -1:
        if self.runtime.wait_for(self, -1.0 if timeout is None else max(0.0, timeout)) == 0:
            raise FutureTimeoutError()
        return 0

    def exception(self, timeout=None):
        """Return the exception that the call raised, None if it returned; waits for it like `result`."""
        if self.c.state < S_DONE:
            self._wait(timeout)
        if self.c.state == S_ARRIVED:
            self.open_result()
        if self.c.state == S_CANCELLED:
            raise CancelledError()
        return self.value if self.c.outcome == O_ERROR else None

    def add_done_callback(self, fn):
        """Call `fn(future)` once when the call is final, in this process, in some thread.

        If it is final already, `fn` is called at once. What `fn` raises is logged.
        """
        cdef Extras extras = self.need_extras()
        if not extras.told:
            extras.callbacks.append(fn)
            if extras.told and fn in extras.callbacks:      # it became final between the two lines
                extras.callbacks.remove(fn)
                self._call_back(fn)
            else:
                self.runtime.interest(self)
        else:
            self._call_back(fn)

    def set_running_or_notify_cancel(self):
        """Refused: scoop alone runs its futures."""
        raise RuntimeError("scoop runs its futures itself: do not set the state of one")

    def set_result(self, result):
        """Refused: scoop alone completes its futures."""
        raise RuntimeError("scoop completes its futures itself: do not set the result of one")

    def set_exception(self, exception):
        """Refused: scoop alone completes its futures."""
        raise RuntimeError("scoop completes its futures itself: do not set the exception of one")

    # ----------------------------------------------------- what concurrent.futures reads and appends to

    @property
    def _condition(self):
        cdef Extras extras = self.need_extras()
        if extras.condition is None:
            condition = threading.Condition()
            if extras.condition is None:        # another thread may have made one meanwhile
                extras.condition = condition
        return extras.condition

    @property
    def _waiters(self):
        cdef Extras extras = self.need_extras()
        if extras.waiters is None:
            from scoop.waiters import Waiters

            waiters = Waiters(self)
            if extras.waiters is None:
                extras.waiters = waiters
        return extras.waiters

    @property
    def _state(self):
        cdef int state = self.c.state
        if state >= S_DONE and (self.extras is None or self.extras.told):
            return "CANCELLED_AND_NOTIFIED" if state == S_CANCELLED else "FINISHED"
        return "PENDING" if state <= S_QUEUED else "RUNNING"

    @property
    def _result(self):
        self.open_result()
        return self.value if self.c.state == S_DONE and self.c.outcome != O_ERROR else None

    @property
    def _exception(self):
        self.open_result()
        return self.value if self.c.state == S_DONE and self.c.outcome == O_ERROR else None

    @property
    def _done_callbacks(self):
        return self.need_extras().callbacks

    @property
    def lineage(self):
        """The 16 bytes that name the call by its place in the tree of calls; the same in every run."""
        return (<char *>self.c.lineage)[:16]

    def __reduce__(self):
        # A future inside an argument or a result travels as its value, so it is waited for here.
        return _identity, (self.result(),)

    def _story(self):
        """Return the state, marks, flags and attempt of the call, for whoever looks for a fault."""
        return self.c.state, self.c.marks, self.c.flags, self.c.attempt

    def __repr__(self):
        name = self.form.name if self.form is not None else ""
        return f"<Future {name}#{self.c.id} {self._state.lower()}>"


def _identity(value):
    return value
