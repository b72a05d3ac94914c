"""The events of the pure machines as Python functions, one line each. For tests only."""

from libc.stdint cimport int32_t, int64_t, uint64_t
from libc.string cimport memset

from scoop._core.balance cimport NODES_MAX, Balance, bnode_t
from scoop._core.call cimport (
    M_CRASHED, S_ARRIVED, S_CANCELLED, S_DONE, S_EXPORTED, S_QUEUED, S_RUNNING, S_WAITING, call_t)
from scoop._core.federation cimport Federation
from scoop._core.kept cimport KEPT_BYTES, KEPT_NS, keep, kept_free, kept_t, put_kept
from scoop._core.ledger cimport (
    R_CANCELLED, R_COMPLETE, R_FAIL, R_IGNORE, R_REISSUE, R_REQUEUE, R_STARTED, Ledger, ruling_t)
from scoop._core.localq cimport LocalQueue
from scoop._core.outbox cimport (
    A_ANSWER, A_ASK, A_CANCEL, A_CREDIT, A_DROP, A_HINT, A_HOLD, A_LOST, A_REFUSE, A_SEND_TASK, A_WANT, Outbox)
from scoop._core.wire cimport (
    CANCEL_DROP, CANCEL_ORPHAN,
    CANCEL_RECALL, T_RETRIED, V_NOT_STARTED, V_STARTED, V_UNKNOWN, buf_free, buf_t, next_record,
    put_array, put_bin, put_blob, put_int, put_record, put_result, put_task, put_uint, reader_t, record_t, span_t)

RULINGS = {R_IGNORE: "ignore", R_COMPLETE: "complete", R_REISSUE: "reissue", R_FAIL: "fail", R_REQUEUE: "requeue",
           R_CANCELLED: "cancelled", R_STARTED: "started"}
STATES = {S_WAITING: "waiting", S_QUEUED: "queued", S_RUNNING: "running", S_EXPORTED: "exported", S_DONE: "done",
          S_ARRIVED: "arrived", S_CANCELLED: "cancelled"}
ACTIONS = {A_SEND_TASK: "send", A_WANT: "want", A_LOST: "lost", A_DROP: "drop", A_ANSWER: "answer",
           A_CANCEL: "cancel", A_HOLD: "hold", A_ASK: "ask", A_REFUSE: "refuse", A_HINT: "hint", A_CREDIT: "credit"}
NOT_STARTED = V_NOT_STARTED
STARTED = V_STARTED
UNKNOWN = V_UNKNOWN
DROP = CANCEL_DROP
RECALL = CANCEL_RECALL
ORPHAN = CANCEL_ORPHAN
RETRIED = T_RETRIED
MAX_NODES = NODES_MAX


cdef class Call:
    """One call_t. A harness keeps every call that it was ever given, since its machine holds the address."""

    cdef call_t c

    def __cinit__(self, uint64_t id=1, uint64_t owner=0, est_us=0, hops=0, attempt=0, flags=0, fn=0):
        memset(&self.c, 0, sizeof(call_t))
        self.c.self_obj = <void *>self
        self.c.id = id
        self.c.owner = owner
        self.c.est_us = est_us
        self.c.hops = hops
        self.c.attempt = attempt
        self.c.flags = flags
        self.c.fn = fn

    @property
    def id(self): return self.c.id
    @property
    def hops(self): return self.c.hops
    @property
    def attempt(self): return self.c.attempt
    @property
    def crashes(self): return self.c.crashes
    @property
    def flags(self): return self.c.flags
    @property
    def crashed(self): return bool(self.c.marks & M_CRASHED)
    @property
    def state(self): return STATES[self.c.state]
    @state.setter
    def state(self, name): self.c.state = {text: number for number, text in STATES.items()}[name]

    def __repr__(self):
        return f"Call({self.c.id}, owner={self.c.owner}, {self.state})"


cdef object _call(call_t *call):
    return None if call == NULL else <Call>call.self_obj


cdef class QueueHarness:
    """Every event of a LocalQueue."""

    cdef LocalQueue q
    cdef list kept

    def __cinit__(self):
        self.q = LocalQueue()
        self.kept = []

    def put_own(self, Call call):
        self.kept.append(call)
        assert self.q.put_own(&call.c) == 0

    def put_foreign(self, Call call):
        self.kept.append(call)
        assert self.q.put_foreign(&call.c) == 0

    def take(self, Call call): return self.q.take(&call.c)
    def park(self, Call call):
        self.kept.append(call)
        assert self.q.park(&call.c) == 0

    def lose_patience(self): self.q.patient = False
    def unpark(self, owner, fn): self.q.unpark(owner, fn)
    def newest_own(self): return _call(self.q.newest_own())
    def oldest_own(self): return _call(self.q.oldest_own())
    def next_foreign(self): return _call(self.q.next_foreign())
    def give(self, own_only=False): return _call(self.q.give(own_only))
    def find_foreign(self, owner, id, attempt=0): return _call(self.q.find_foreign(owner, id, attempt))
    def pop_stale(self): return _call(self.q.pop_stale())
    def hunger(self, idle=False): return self.q.hunger(idle)
    def granted(self, est_us): self.q.granted(est_us)
    @property
    def counts(self): return self.q.own_count, self.q.foreign_count, self.q.foreign_us
    @property
    def entries(self): return self.q.own.count, self.q.foreign.count, self.q.stale.count
    @property
    def room_us(self): return self.q.room_us


cdef class LedgerHarness:
    """Every event of a Ledger; each returns (ruling, call)."""

    cdef readonly Ledger ledger
    cdef list kept

    def __cinit__(self, *limits):
        self.ledger = Ledger(*limits)
        self.kept = []

    def export(self, Call call):
        self.kept.append(call)
        assert self.ledger.export(&call.c) == 0

    def __len__(self): return len(self.ledger)
    def find(self, id): return _call(self.ledger.find(id))
    def pop_any(self): return _call(self.ledger.pop_any())

    def on_result(self, id):
        cdef call_t *found
        cdef ruling_t ruling = self.ledger.on_result(id, &found)
        return RULINGS[ruling], _call(found)

    def on_returned(self, id):
        cdef call_t *found
        cdef ruling_t ruling = self.ledger.on_returned(id, &found)
        return RULINGS[ruling], _call(found)

    def on_lost(self, id, attempt, blamed=False):
        cdef call_t *found
        cdef ruling_t ruling = self.ledger.on_lost(id, attempt, blamed, &found)
        return RULINGS[ruling], _call(found)

    def on_answer(self, id, attempt, verdict, mode, now_s=1):
        cdef call_t *found
        cdef ruling_t ruling = self.ledger.on_answer(id, attempt, verdict, mode, now_s, &found)
        return RULINGS[ruling], _call(found)


cdef class BalanceHarness:
    """Every event of a Balance. A slot is any positive number here: the machine must not look into it."""

    cdef readonly Outbox out
    cdef readonly Balance balance

    def __cinit__(self, home=0):
        self.out = Outbox()
        self.balance = Balance(self.out, home)

    def slot_of(self, incarnation): return self.balance.slot_of(incarnation)
    def hello(self, incarnation, source=False): return self.balance.on_hello(incarnation, source)
    def request(self, int node, room_us, idle=False): self.balance.on_request(node, room_us, idle)
    def surplus(self, int node, tasks, work_us=0): self.balance.on_surplus(node, tasks, work_us)
    def result(self, int node, owner, id): return self.balance.on_result(node, owner, id)
    def answer(self, int node, owner, id, int verdict, attempt=0):
        return self.balance.on_answer(node, owner, id, attempt, &verdict), verdict

    def cancel(self, int node, owner, id, attempt=0, mode=0): self.balance.on_cancel(node, owner, id, attempt, mode)
    def lost(self, int node, blamed_owner=0, blamed_id=0, cause=1):
        self.balance.on_lost(node, blamed_owner, blamed_id, cause)
    def match(self): self.balance.match()
    def validate(self): self.balance.validate()
    def statistics(self): return self.balance.statistics()

    def task(self, int node, owner, id, attempt=0, est_us=0, flags=0, size_t slot=1, hops=1):
        return self.balance.on_task(node, owner, id, attempt, est_us, hops, flags, <void *>slot)

    def peer(self, number): return self.balance.on_peer(number)
    def ask(self, int peer, room_us, idle=0): self.balance.on_ask(peer, room_us, idle)
    def hold(self, int peer, owner, id, attempt=0, hops=2, giver=0):
        self.balance.on_hold(peer, owner, id, attempt, hops, giver)
    def lost_there(self, int peer, owner, id, attempt=0, blamed=False):
        return self.balance.on_lost_there(peer, owner, id, attempt, blamed)
    def way_to(self, owner): return self.balance.way_to(owner)

    def lack(self):
        """(us that nodes here could take, how many of them have nothing at all)."""
        cdef int32_t idle = 0
        cdef int64_t ahead = 0
        lack = self.balance.lack_us(&idle, &ahead)
        return lack, idle

    def ahead(self):
        """us that nodes here are about to need."""
        cdef int32_t idle = 0
        cdef int64_t ahead = 0
        self.balance.lack_us(&idle, &ahead)
        return ahead

    def spare(self):
        """(tasks that could be given away, their us)."""
        cdef int64_t work = 0
        tasks = self.balance.spare(&work)
        return tasks, work

    def drain(self):
        """The actions as tuples (name, node, slot, a, b, c, d)."""
        return [(ACTIONS[kind], *rest) for kind, *rest in self.out.drain()]

    def node(self, int slot):
        cdef bnode_t *node = &self.balance.nodes[slot]
        return {"alive": bool(node.alive), "room_us": node.room_us, "given": node.given, "want_us": node.want_us,
                "want_idle": node.want_idle, "surplus": node.surplus, "idle": bool(node.idle),
                "probation": bool(node.probation), "source": bool(node.source)}


cdef class FederationHarness:
    """Every event of a Federation."""

    cdef readonly Outbox out
    cdef readonly Federation federation

    def __cinit__(self, seed=1):
        self.out = Outbox()
        self.federation = Federation(self.out, seed)

    def peer(self, number, slot, neighbour=True): return self.federation.on_peer(number, slot, neighbour)
    def gone(self, slot): self.federation.on_gone(slot)
    def hint(self, slot, seq, tasks, now): self.federation.on_hint(slot, seq, tasks, now)
    def ask(self, slot, need_us, idle, lack_us, tasks, work_us, ahead_us, now):
        self.federation.on_ask(slot, need_us, idle, lack_us, tasks, work_us, ahead_us, now)

    def refuse(self, slot, referral, tasks, age_us, now):
        self.federation.on_refuse(slot, referral, tasks, age_us, now)

    def load(self, slot, tasks, now): self.federation.on_load(slot, tasks, now)
    def task(self, slot, est_us, now): self.federation.on_task(slot, est_us, now)
    def given(self, slot, est_us): return self.federation.on_given(slot, est_us)
    def left_tasks(self): return self.federation.left_tasks
    def decide(self, lack_us, idle, tasks, work_us, ahead_us, now):
        self.federation.decide(lack_us, idle, tasks, work_us, ahead_us, now)

    def next_us(self): return self.federation.next_us()
    def validate(self): self.federation.validate()
    def statistics(self): return self.federation.statistics()
    def drain(self):
        """The actions as tuples (name, slot of the broker, a, b, c)."""
        return [(ACTIONS[kind], node, a, b, c) for kind, node, _slot, a, b, c, _d in self.out.drain()]


cdef class OutboxHarness:
    """An Outbox that can be filled."""

    cdef readonly Outbox out

    def __cinit__(self): self.out = Outbox()
    def put(self, kind, node, size_t slot, a, b, c, d): return self.out.put(kind, node, <void *>slot, a, b, c, d)
    def fill(self, size_t count):
        cdef size_t i
        for i in range(count):
            if self.out.put(A_WANT, 0, NULL, i, 0, 0, 0) < 0:
                return i
        return count


# ------------------------------------------------------------------------------- the writers of the codec

cdef span_t _span(bytes data):
    cdef span_t span
    span.data = data
    span.size = len(data)
    return span


cdef class Writer:
    """A buffer of the codec, and the writers that the drivers use."""

    cdef buf_t b

    def __dealloc__(self): buf_free(&self.b)
    def value(self): return self.b.data[:self.b.size] if self.b.size else b""
    def uint(self, uint64_t value): assert put_uint(&self.b, value) == 0
    def int(self, int64_t value): assert put_int(&self.b, value) == 0
    def array(self, count): assert put_array(&self.b, count) == 0
    def bin(self, bytes data): assert put_bin(&self.b, data, len(data)) == 0

    def record(self, kind, *numbers):
        cdef uint64_t[16] values
        for i, number in enumerate(numbers):
            values[i] = number
        assert put_record(&self.b, kind, len(numbers), values) == 0

    def blob(self, kind, *fields):
        cdef uint64_t[16] values
        for i, number in enumerate(fields[:-1]):
            values[i] = number
        assert put_blob(&self.b, kind, len(fields) - 1, values, _span(fields[-1])) == 0

    def task(self, owner, id, attempt, hops, flags, fn, est_us, bytes lineage, bytes form, bytes payload):
        assert len(lineage) == 16
        assert put_task(&self.b, owner, id, attempt, hops, flags, fn, est_us, lineage, _span(form),
                        _span(payload)) == 0

    def result(self, owner, id, attempt, outcome, run_ns, bytes payload):
        assert put_result(&self.b, owner, id, attempt, outcome, run_ns, _span(payload)) == 0


def extents(bytes frame):
    """(start, size) of each record of a frame, until its end or the first malformed one."""
    cdef reader_t r
    cdef record_t record
    cdef const char *start = frame
    r.data = start
    r.size = len(frame)
    r.pos = 0
    found = []
    while next_record(&r, &record) == 1:
        found.append((record.start - start, record.size))
    return found


KEPT_LIMITS = KEPT_BYTES, KEPT_NS


cdef class Kept:
    """What of the last results is sent again."""

    cdef kept_t k

    def __dealloc__(self): kept_free(&self.k)
    def keep(self, bytes record, uint64_t now): keep(&self.k, record, len(record), now)
    def all(self):
        cdef buf_t out
        memset(&out, 0, sizeof(buf_t))
        put_kept(&out, &self.k)
        try:
            return out.data[:out.size] if out.size else b""
        finally:
            buf_free(&out)
