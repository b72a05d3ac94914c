"""Tells Python code what has happened: callbacks, waiters of the standard library, helper threads, constants.

The thread that leads needs no GIL, so it only puts calls down that Python is to be told of. Whoever of our threads
holds the GIL next takes them up: the main thread when it waits, else the notifier thread.
"""

from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF
from libc.stdint cimport uint32_t
from libc.stdlib cimport free

from scoop._core.call cimport M_PROMOTED, M_STARTED, S_EXPORTED, S_QUEUED, call_t
from scoop._core.desk cimport parcel_t, pthread_mutex_lock, pthread_mutex_unlock
from scoop._core.localq cimport ring_pop
from scoop._core.runner cimport Strand
from scoop._core.wire cimport K_CONST, K_FORM, K_RESULT, buf_t, put_array, put_bin, put_raw, put_uint

cdef bytes DEADLY = b"\0deadly "      # before the lineage of a call that no process survives

cdef enum:
    FUNCTIONS_MAX = 4096        # functions of other owners kept here


cdef class Notices(Hub):
    """What is told in Python, and who runs calls for waiters that cannot."""

    cdef int notices(self) except -1:
        cdef call_t *call
        cdef CallFuture f
        if self.desk.parcels != NULL:
            self._unpack()
        if self.desk.came_back:
            self.desk.came_back = False
            if self.helpers is not None:
                self.helpers.look_again()
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

    cdef int _unpack(self) except -1:
        # Functions and constants that have arrived.
        cdef parcel_t *parcel
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
                self.asked.pop(key, None)
                pthread_mutex_lock(&self.desk.lock)
                self.desk.queue.unpark(parcel.owner, parcel.number)
                pthread_mutex_unlock(&self.desk.lock)
            elif parcel.kind == K_RESULT:
                self.session.mend(parcel.number, data)
            else:
                self.session.constant_arrived((<char *>parcel.data)[:parcel.name_size], data)
            free(parcel)
        return 0

    def start_notifier(self):
        """Start the thread that tells Python of what arrives while the main thread is busy, unless it runs."""
        self.notify_wanted()

    cdef int notify_wanted(self) except -1:
        if self.notifier is None:
            import threading

            notifier = threading.Thread(target=self.tell_noticed, name="scoop-notifier", daemon=True)
            if self.notifier is None:
                self.notifier = notifier
                notifier.start()
        return 0

    def tell_noticed(self):
        """Body of the notifier thread: runs callbacks of results that arrive while nobody waits in scoop."""
        while not self.node.stopping:
            with nogil:
                pthread_mutex_lock(&self.desk.lock)
                if not (self.desk.noticed.count or self.desk.parcels != NULL or self.desk.came_back or
                        self.node.stopping):
                    self.desk.wait_noticed()
                pthread_mutex_unlock(&self.desk.lock)
            try:
                self.notices()
            except Exception:
                import logging

                logging.getLogger("scoop").exception("a result could not be told")

    cdef int interest(self, CallFuture f) except -1:
        # Somebody waits who cannot run it: a helper thread will, if no worker takes it first.
        self.check_process()
        if f.c.marks & M_PROMOTED or self.desk.remote_only or (
                f.c.state != S_QUEUED and f.c.state != S_EXPORTED):
            return 0
        pthread_mutex_lock(&self.desk.lock)
        f.c.marks |= M_PROMOTED
        pthread_mutex_unlock(&self.desk.lock)
        self.session.promote(f)
        return 0

    def help_with(self, CallFuture f not None):
        """Run `f` in the calling thread if nobody has begun it; used by the helper threads."""
        if f.c.state == S_QUEUED and self.take(f):
            self.run_own(self.strand(), f)

    def whereabouts(self, CallFuture f not None):
        """Return "begun" (or final), "here" (queued in this process) or "elsewhere" (in another one's queue)."""
        if f.c.state == S_QUEUED:
            return "here"
        return "elsewhere" if f.c.state == S_EXPORTED and not f.c.marks & M_STARTED else "begun"

    cdef bint yield_to_others(self) except -1:
        # A task that polls lets greenlets of its thread go on whose wait is over.
        cdef Strand s = self.strand()
        if s.main and not s.level.pinned and s.greenlet is not None and (
                s.ready or self.desk.resumed.count or self.desk.returned):
            self.suspend_for_others(s)
            return True
        return False

    def helps(self):
        """Return whether a wait of the calling thread runs other calls meanwhile."""
        cdef Strand s = self.strand()
        return s.main and not s.level.pinned

    def in_task(self):
        """Return whether the calling thread runs a task now, rather than the program itself."""
        cdef Strand s = self.strand()
        return s.level != &s.base

    def current_attempt(self):
        """Return how often the running call was lost before this try; 0 outside of a task."""
        cdef Strand s = self.strand()
        return s.level.attempt if s.level != &s.base else 0

    def constant_arrived(self, name, data):
        """A shared constant arrived from another process, or that a call is deadly."""
        from scoop import shared

        if name.startswith(DEADLY):
            self._keep_deadly(name[len(DEADLY):], data)
            return
        # Whoever waits here now has nothing to do with a sender that has gone mad.
        shared._arrived(name.decode(errors="replace"), data)

    def send_constant(self, str name not None, bytes data not None):
        """Tell every process of the job, also those that join later, the value of a shared constant."""
        self._send_constant(name.encode(), data)

    def send_deadly(self, bytes lineage not None, bytes loss not None):
        """Tell every process of the job, also those that join later, to run a call no more.

        Args:
            lineage: of the call.
            loss: how the last process that ran it died, see `scoop.losses`.
        """
        self._keep_deadly(lineage, loss)
        # It travels as a constant whose name no program can give.
        self._send_constant(DEADLY + lineage, loss)

    def refuse_deadly(self, bytes lineage not None, fn):
        """Raise the error of a call that is deadly; return for all others."""
        loss = self.deadly.get(lineage)
        if loss is not None:
            from scoop.losses import explain_loss

            raise explain_loss(loss, getattr(fn, "__qualname__", repr(fn)))

    cdef int _keep_deadly(self, bytes lineage, bytes loss) except -1:
        if self.deadly is None:
            self.deadly = {}
        self.deadly[lineage] = loss
        return 0

    cdef int _send_constant(self, bytes key, bytes data) except -1:
        # Kept for a broker that may come after this one.
        cdef buf_t *out = &self.desk.constants
        cdef size_t before
        pthread_mutex_lock(&self.desk.lock)
        before = out.size
        put_array(out, 4)
        put_uint(out, K_CONST)
        put_uint(out, self.desk.incarnation)
        put_bin(out, key, len(key))
        put_bin(out, data, len(data))
        put_raw(&self.desk.out, out.data + before, out.size - before)
        if self.node.broker is not None:
            out.size = before       # it goes when we go
        pthread_mutex_unlock(&self.desk.lock)
        self.node.hurry()
        return 0
