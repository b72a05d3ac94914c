"""Counts calls and measures times per function, for `pstats`, in a thread whose tasks switch stacks.

cProfile has one stack of open calls: what returns on another greenlet ends whatever was called last, and from Python
3.12 on it hears all threads at once. Here each greenlet has its own open calls, and a clock that stands still while
another one runs. So what all functions of a thread took by themselves adds up to no more than its time.
"""

import threading
from types import CodeType

import greenlet as greenlets
from cpython.module cimport PyModule_Check
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.stdlib cimport calloc, free, realloc

from scoop._core.net cimport now_ns
from scoop._core.table cimport table_free, table_get, table_put

cdef extern from *:
    """
    #include <frameobject.h>
    #define scoop_method(function) ((void *)((PyCFunctionObject *)(function))->m_ml)
    #define scoop_code(frame) ((PyObject *)PyFrame_GetCode(frame))
    """
    ctypedef struct PyFrameObject
    void *scoop_method(PyObject *)
    PyObject *scoop_code(PyFrameObject *)       # a reference

cdef extern from "Python.h":
    ctypedef int (*Py_tracefunc)(PyObject *, PyFrameObject *, int, PyObject *)
    enum:
        PyTrace_CALL
        PyTrace_RETURN
        PyTrace_C_CALL
        PyTrace_C_EXCEPTION
        PyTrace_C_RETURN
    void PyEval_SetProfile(Py_tracefunc, PyObject *)
    bint PyCFunction_Check(object)

cdef enum:
    ENDED_LOOK = 64             # stacks, after which those that have ended are put together


cdef int on_event(PyObject *own, PyFrameObject *frame, int what, PyObject *arg) noexcept:
    # Called by the interpreter, which calls it for nothing that happens in here.
    cdef Stack s = (<Profiler>own).stack
    cdef PyObject *code
    if what == PyTrace_CALL or what == PyTrace_RETURN:
        code = scoop_code(frame)
        if what == PyTrace_CALL:
            s.enter(code, code)
        else:
            s.leave(code)
        Py_XDECREF(code)
    elif arg != NULL and PyCFunction_Check(<object>arg):
        if what == PyTrace_C_CALL:
            s.enter(scoop_method(arg), arg)
        elif what == PyTrace_C_RETURN or what == PyTrace_C_EXCEPTION:
            s.leave(scoop_method(arg))
    return 0


cdef object name_of(object function):
    # The name of a compiled function, as pstats is used to it. No code of the user's runs for it.
    cdef object owner = function.__self__
    if owner is None or PyModule_Check(owner):
        return f"<built-in method {function.__module__}.{function.__name__}>"
    if isinstance(owner, type):
        return f"<built-in method {owner.__name__}.{function.__name__}>"
    return f"<method '{function.__name__}' of '{type(owner).__name__}' objects>"


cdef void count(count_t *c, uint64_t all_ns, uint64_t own_ns) noexcept:
    c.open -= 1
    if c.open == 0:
        c.all_ns += all_ns
    else:
        c.repeats += 1
    c.own_ns += own_ns
    c.calls += 1


cdef class Stack:
    """The open calls of one greenlet."""

    def __dealloc__(self):
        cdef entry_t *entry
        cdef edge_t *edge
        while self.first_entry != NULL:
            entry = self.first_entry
            self.first_entry = entry.next
            Py_XDECREF(entry.name)
            free(entry)
        while self.first_edge != NULL:
            edge = self.first_edge
            self.first_edge = edge.next
            free(edge)
        table_free(&self.entries)
        table_free(&self.edges)
        free(self.calls)

    cdef uint64_t time(self) noexcept:
        return now_ns() - self.away_ns

    cdef entry_t *entry_of(self, void *key, PyObject *name) noexcept:
        cdef entry_t *entry = <entry_t *>table_get(&self.entries, <uint64_t>key)
        cdef object kept
        if entry != NULL:
            return entry
        try:
            kept = <object>name
            if type(kept) is not CodeType:
                kept = name_of(kept)
        except BaseException:
            kept = "<built-in method ?>"
        entry = <entry_t *>calloc(1, sizeof(entry_t))
        if entry == NULL or table_put(&self.entries, <uint64_t>key, entry) < 0:
            free(entry)
            return NULL
        Py_INCREF(kept)
        entry.name = <PyObject *>kept
        entry.number = self.entries.count
        entry.next = self.first_entry
        self.first_entry = entry
        return entry

    cdef edge_t *edge_of(self, entry_t *caller, entry_t *callee) noexcept:
        cdef uint64_t key = <uint64_t>caller.number << 32 | callee.number
        cdef edge_t *edge = <edge_t *>table_get(&self.edges, key)
        if edge != NULL:
            return edge
        edge = <edge_t *>calloc(1, sizeof(edge_t))
        if edge == NULL or table_put(&self.edges, key, edge) < 0:
            free(edge)
            return NULL
        edge.caller = caller
        edge.callee = callee
        edge.next = self.first_edge
        self.first_edge = edge
        return edge

    cdef void enter(self, void *key, PyObject *name) noexcept:
        cdef entry_t *entry = self.entry_of(key, name)
        cdef edge_t *edge = NULL
        cdef open_t *calls = self.calls
        cdef uint32_t room = self.room
        if self.depth == room:
            room = 2 * room if room else 64
            calls = <open_t *>realloc(calls, room * sizeof(open_t))
            if calls != NULL:
                self.calls = calls
                self.room = room
        if entry == NULL or calls == NULL:
            return                      # no memory: not counted, and `leave` finds no open call of it
        if self.depth:
            edge = self.edge_of(calls[self.depth - 1].entry, entry)
        if edge != NULL:
            edge.count.open += 1
        entry.count.open += 1
        calls[self.depth].entry = entry
        calls[self.depth].edge = edge
        calls[self.depth].inner_ns = 0
        calls[self.depth].began = self.time()
        self.depth += 1

    cdef void leave(self, void *key) noexcept:
        cdef uint64_t now = self.time()
        cdef entry_t *entry = <entry_t *>table_get(&self.entries, <uint64_t>key)
        cdef entry_t *top
        if entry == NULL or entry.count.open == 0:
            return                      # called before we began
        while self.depth:
            top = self.calls[self.depth - 1].entry
            self.close_top(now)
            if top == entry:
                break

    cdef void close_top(self, uint64_t now) noexcept:
        cdef open_t *call
        cdef uint64_t took
        self.depth -= 1
        call = &self.calls[self.depth]
        took = now - call.began
        if self.depth:
            self.calls[self.depth - 1].inner_ns += took
        count(&call.entry.count, took, took - call.inner_ns)
        if call.edge != NULL:
            count(&call.edge.count, took, took - call.inner_ns)


cdef tuple label(PyObject *name):
    # What pstats calls a function: its file, line and name.
    cdef object what = <object>name
    if type(what) is CodeType:
        return (what.co_filename, what.co_firstlineno, what.co_name)
    return ("~", 0, what)


cdef tuple added(count_t *c, tuple before):
    # Calls, calls but for repeats, seconds by itself, seconds with all that it called.
    return (before[0] + c.calls, before[1] + c.calls - c.repeats, before[2] + c.own_ns / 1e9,
            before[3] + c.all_ns / 1e9)


cdef class Profiler:
    """Counts what the thread that calls `start` does, on all of its greenlets, until it calls `stop`."""

    def __cinit__(self):
        self.stacks = {}
        self.totals = {}

    def start(self):
        """Begin to count, or go on. What was called before that is not counted.

        Raises:
            RuntimeError: it counts already.
        """
        if self.thread is not None:
            raise RuntimeError("this profiler is at work already")
        self.thread = threading.get_ident()
        self.stack = Stack()
        self.stacks[greenlets.getcurrent()] = self.stack
        self.hook = greenlets.settrace(self._on_switch)
        PyEval_SetProfile(on_event, <PyObject *>self)

    def stop(self):
        """Count no more; calls that are open end here. Harmless when it has been done.

        Raises:
            RuntimeError: another thread has called `start`.
        """
        if self.thread is None:
            return
        if self.thread != threading.get_ident():
            raise RuntimeError("a profiler is stopped by the thread that has started it")
        PyEval_SetProfile(NULL, NULL)
        greenlets.settrace(self.hook)
        self.thread = self.hook = None
        for s in self.stacks.values():
            self.keep(s)
        self.stacks.clear()

    def _on_switch(self, event, args):
        # Told by greenlet after each switch, on the stack that goes on.
        cdef uint64_t now = now_ns()
        cdef Stack s
        target = args[1]
        self.stack.left = now
        s = self.stacks.get(target)
        if s is None:
            if len(self.stacks) >= ENDED_LOOK:
                self.forget_ended()
            s = Stack()
            self.stacks[target] = s
        if s.left:
            s.away_ns += now - s.left
            s.left = 0
        self.stack = s
        if self.hook is not None:
            self.hook(event, args)

    cdef int forget_ended(self) except -1:
        for g in [g for g in self.stacks if g.dead]:
            self.keep(self.stacks.pop(g))
        return 0

    cdef int keep(self, Stack s) except -1:
        # Adds what a greenlet has counted to the totals.
        cdef uint64_t now = s.left - s.away_ns if s.left else s.time()
        cdef entry_t *entry
        cdef edge_t *edge
        while s.depth:
            s.close_top(now)
        entry = s.first_entry
        while entry != NULL:
            name = label(entry.name)
            calls, first, own_s, all_s, callers = self.totals.get(name, (0, 0, 0.0, 0.0, {}))
            calls, first, own_s, all_s = added(&entry.count, (calls, first, own_s, all_s))
            self.totals[name] = (calls, first, own_s, all_s, callers)
            entry = entry.next
        edge = s.first_edge
        while edge != NULL:
            callers = self.totals[label(edge.callee.name)][4]
            name = label(edge.caller.name)
            callers[name] = added(&edge.count, callers.get(name, (0, 0, 0.0, 0.0)))
            edge = edge.next
        return 0

    def stats(self):
        """Return what was counted until `stop`, as `pstats` keeps it in files.

        Returns:
            For each function (file, line, name): calls that are no repeats, calls, seconds by itself, seconds with
            all that it called, and a dictionary of its callers.
        """
        return {name: (first, calls, own_s, all_s, dict(callers))
                for name, (calls, first, own_s, all_s, callers) in self.totals.items()}
