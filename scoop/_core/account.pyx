"""What a call is told of itself, and what others are told of the calls of this process."""

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy, memset

from greenlet import getcurrent

from scoop._core.call cimport M_STARTED, S_QUEUED, S_WAITING, call_t
from scoop._core.desk cimport Desk, pthread_mutex_lock, pthread_mutex_unlock
from scoop._core.future cimport CallFuture, Form
from scoop._core.net cimport now_ns
from scoop._core.runner cimport Strand, level_t
from scoop._core.wire cimport T_RETRIED

# The lower part of a page has what runs, this one which function is which: both as scoop.launch.watched reads them.
cdef enum:
    NAMES_AT = 4096
    NAMES_MAX = 64
    NAME_SLOT = 64              # owner, number, and what fits of the name
    NAME_BYTES = 51             # and a zero behind it
    NAMES_KEPT = 1024           # in a process without a page

# A report holds the lock, so it looks at so many calls only, and at so many cells of a table.
cdef enum:
    CALLS_MAX = 1024
    CELLS_MAX = 32768
    KINDS_MAX = 32

cdef struct kind_t:
    uint64_t owner
    uint32_t fn
    uint32_t queued
    uint32_t out

cdef struct tally_t:
    kind_t kinds[KINDS_MAX]
    int count
    uint32_t looked
    uint32_t started
    uint32_t retried


cdef kind_t *_kind(tally_t *t, call_t *call, uint64_t self_owner) noexcept nogil:
    cdef uint64_t owner = call.owner if call.owner else self_owner
    cdef int i
    for i in range(t.count):
        if t.kinds[i].fn == call.fn and t.kinds[i].owner == owner:
            return &t.kinds[i]
    if t.count == KINDS_MAX:
        return NULL
    t.kinds[t.count].owner = owner
    t.kinds[t.count].fn = call.fn
    t.count += 1
    return &t.kinds[t.count - 1]


cdef void _count(Desk desk, tally_t *t) noexcept nogil:
    cdef call_t *call
    cdef kind_t *kind
    cdef size_t i
    pthread_mutex_lock(&desk.lock)
    for i in range(min(desk.queue.own.count, <size_t>CALLS_MAX)):
        call = desk.queue.own.items[(desk.queue.own.head + i) & desk.queue.own.mask]
        kind = _kind(t, call, desk.incarnation) if call.state == S_QUEUED else NULL
        if kind != NULL:
            kind.queued += 1
    if desk.ledger.open.mask:
        for i in range(min(desk.ledger.open.mask + 1, <size_t>CELLS_MAX)):
            if desk.ledger.open.cells[i].key == 0:
                continue
            call = <call_t *>desk.ledger.open.cells[i].value
            kind = _kind(t, call, desk.incarnation)
            if kind != NULL:
                kind.out += 1
            t.started += (call.marks & M_STARTED) != 0
            t.retried += (call.flags & T_RETRIED) != 0
            t.looked += 1
            if t.looked == CALLS_MAX:
                break
    pthread_mutex_unlock(&desk.lock)


cdef str name_of(CallFuture f):
    cdef Form form = f.form
    return form.name if form is not None else ""        # it has ended meanwhile


cdef class Account(Ending):
    """What can be said of the calls of this process."""

    def __init__(self, node, session, context, bint is_origin):
        Ending.__init__(self, node, session, context, is_origin)
        self.names = {}
        self.needing = set()

    # ---------------------------------------------------------------- what a call may ask of itself

    def current_lineage(self):
        """Return the 16 bytes that name the running call, or the item of a map, by its place in the tree of calls."""
        return (<char *>self.strand().level.lineage)[:16]

    def at_item(self, bytes lineage not None, uint64_t index):
        """Give the running call the lineage of item `index` of the map `lineage`, as in a chunk of that map."""
        cdef level_t *level = self.strand().level
        self.set_item(level, (<uint64_t *><char *>lineage)[0], (<uint64_t *><char *>lineage)[1], index)

    def next_stream(self):
        """Return 0, 1, ...: how often the running call, or the item of a map, has asked."""
        cdef level_t *level = self.strand().level
        level.streams += 1
        return level.streams - 1

    def pin(self, bint pinned):
        """Forbid (or allow again) that this thread runs other calls while the running one waits; returns the old."""
        cdef level_t *level = self.strand().level
        before = level.pinned
        level.pinned = pinned
        return before

    # ------------------------------------------------------------------------ what others may ask

    cdef int name_known(self, uint64_t owner, uint32_t number, str name) except -1:
        # Once for each function, so that a page need not have names in every entry.
        cdef bytes text
        cdef unsigned char *slot
        if self.page == NULL:
            self.names[owner, number] = name
            if len(self.names) > NAMES_KEPT:
                del self.names[next(iter(self.names))]
            return 0
        text = name.encode(errors="replace")[-NAME_BYTES:]
        slot = self.page + NAMES_AT + self.names_shown % NAMES_MAX * NAME_SLOT
        memset(slot, 0, NAME_SLOT)
        memcpy(slot + 12, <const char *>text, len(text))
        memcpy(slot + 8, &number, 4)
        memcpy(slot, &owner, 8)
        self.names_shown += 1
        return 0

    def account(self):
        """Return what waits, runs and is elsewhere, as a dict; see `scoop.status`. Does not block.

        Counts by function are of the first calls only; "started" and "retried" are lower bounds.
        """
        cdef tally_t t
        cdef int i
        cdef list kinds = []
        memset(&t, 0, sizeof(tally_t))
        _count(self.desk, &t)
        for i in range(t.count):
            name = self.names.get((t.kinds[i].owner, t.kinds[i].fn), "")
            kinds.append((name, t.kinds[i].queued, t.kinds[i].out))
        needing = [f for f in list(self.needing) if (<CallFuture>f).c.state == S_WAITING]
        return {
            "queued": self.desk.queue.own_count, "taken": self.desk.queue.foreign_count, "out": len(self.desk.ledger),
            "started": t.started, "retried": t.retried, "needing": len(needing), "functions": kinds,
            "parked": self.main_strand.suspended, "running": self._running(),
            "awaited": self._awaited(), "helped": self._helped()}

    cdef tuple _running(self):
        # The main thread's call: name, and for how many seconds (-1: not known). It cannot end while we have the GIL.
        cdef level_t *level = self.main_strand.level
        if level == &self.main_strand.base:
            return None
        age = (now_ns() - level.since) / 1e9 if level.since else -1.0
        return self.names.get((level.owner, level.fn), ""), age

    cdef object _awaited(self):
        # The name of the function whose result the main thread, or else the program itself, waits for.
        cdef Strand s = self.main_strand
        cdef object awaited = s.awaited
        for f, waiters in list(s.waiting.items()):
            if awaited is None and s.root in list(waiters):
                awaited = f
        return None if awaited is None else name_of(awaited)

    cdef list _helped(self):
        # The names of the functions that helper threads run.
        return [] if self.helpers is None else [name_of(f) for f in self.helpers.helped()]

    def program_frame(self):
        """Return the frame in which the program itself waits while its thread runs other calls; else None."""
        cdef Strand s = self.main_strand
        return None if s.root is getcurrent() else s.root.gr_frame
