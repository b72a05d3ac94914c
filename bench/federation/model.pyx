# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""A federation of brokers in simulated time. What decides is scoop's own compiled code: `Balance` and `Federation`.

Around it stand models: workers that run, ask and give away as `localq` and `store` do, links with a delay, and the
costs of a broker's turn as they were measured. Times are nanoseconds.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memset

from scoop._core.balance cimport HOME_SHIFT, Balance
from scoop._core.federation cimport Federation
from scoop._core.outbox cimport (
    A_ASK, A_CANCEL, A_CREDIT, A_HINT, A_HOLD, A_LOST, A_REFUSE, A_SEND_TASK, A_WANT, Outbox, action_t)
from scoop._core.table cimport mix64

cdef enum:
    BROKER_LINK_NS = 50000
    WORKER_LINK_NS = 30000
    WAKE_NS = 14000
    MESSAGE_NS = 700
    TASK_NS = 400
    ORIGIN_TASK_NS = 1300
    WORKER_TASK_NS = 1100
    TASK_BYTES = 120            # at 1 GB/s a byte is a nanosecond
    ROOM_US = 1000
    LONG_US = 2000              # behind a task as long as this the next one is asked for only shortly before its end
    GIVE_NS = 100000            # until a thread that runs a task gives away what is wanted
    SPAWN_NS = 1000             # for each child that an inner node makes
    FAN = 8
    BATCH = 256
    DETECT_NS = 100000000       # until the death of a host is known

cdef enum:
    M_TASK
    M_RESULT
    M_REQUEST
    M_SURPLUS
    M_WANT
    M_ASK
    M_REFUSE
    M_HINT
    M_HOLD
    M_LOST
    M_CANCEL

cdef enum:
    E_BROKER            # a message for a broker
    E_NODE              # a message for a worker, or for the origin
    E_TURN              # a broker has the time
    E_TIMER             # a broker wants to look again
    E_END               # a worker's task is over
    E_GIVE              # a busy worker gives away
    E_ASK               # a worker's task is about to end
    E_DIE
    E_GONE              # all others hear of it

cdef struct item_t:
    int32_t kind
    int32_t task
    int64_t a
    int64_t b
    int64_t c

cdef struct message_t:
    message_t *next
    int32_t source              # slot at the broker that receives it; -1: nobody in particular
    int32_t size
    int32_t cap
    item_t *items

cdef struct event_t:
    int64_t at
    uint64_t nr
    int32_t kind
    int32_t to
    void *ptr
    int64_t arg

cdef struct task_t:
    int64_t run_ns
    int32_t parent              # task, -1: none
    int32_t owner               # node
    int32_t leaves              # below it; 0 or 1: a leaf
    int32_t pending             # children that are not over
    int32_t runner              # node that has it or had it last
    uint8_t hops
    uint8_t over
    uint16_t life               # grows when it is issued again
    uint16_t parent_life        # a child of an older life of its parent counts for nothing

cdef struct node_t:
    int32_t broker
    int32_t slot
    uint64_t incarnation
    int32_t *own                # newest last
    int32_t own_head
    int32_t own_size
    int32_t own_cap
    int32_t[64] queue
    int32_t queue_head
    int32_t queue_size
    int32_t running             # -1: nothing
    int64_t room_us
    int64_t want_us
    int64_t want_idle
    int64_t told
    int64_t free_at             # the origin's thread
    uint8_t asked_idle
    uint8_t giving
    uint8_t alive
    int64_t busy_ns
    int64_t began               # the running task
    int32_t generation          # grows when it dies: events of the dead are ignored

cdef struct broker_t:
    message_t *inbox
    message_t *inbox_last
    int64_t busy_until
    int64_t timer_at
    uint8_t turning
    uint8_t alive
    message_t **outs            # by slot
    int32_t *dirty
    int32_t dirty_count
    int32_t *peer_of            # by slot: index of the broker, -1 for a node
    int32_t *node_of
    uint64_t hints
    uint64_t messages
    int32_t turns


cdef class Model:
    """One run.

    Args:
        brokers, workers: how many, and how many workers each has.
        tasks: how many, or leaves of the tree.
        mean_us: mean run time of a task, or of a leaf.
        tree: a fork-join tree instead of tasks of the origin.
        lost: brokers that die in the middle, with their workers.
        neighbours: for each broker the list of those that hear its hints.
        seed: of everything random.
    """

    cdef int broker_count, worker_count, node_count, task_count, task_cap
    cdef bint tree
    cdef int64_t mean_ns, now, finished, last_hello
    cdef uint64_t rng, events
    cdef list balances, federations, outboxes, heard
    cdef broker_t *brokers
    cdef node_t *nodes
    cdef task_t *tasks
    cdef event_t *heap
    cdef size_t heap_size, heap_cap
    cdef uint64_t nr
    cdef int over, target, next_task
    cdef uint64_t moves, asks, duplicates
    cdef int64_t *need_at
    cdef list need_waits
    cdef public int64_t work_ns
    cdef public int64_t slice_ns        # of the profile
    cdef list begun                     # work begun in each slice
    cdef int alive_brokers
    cdef int64_t lost_at, kept_ns       # when brokers died, and what was done by then for good
    cdef int64_t first_ns               # work that had to be done, without what was redone

    def __cinit__(self, int brokers, int workers, int tasks, int64_t mean_us, bint tree, list neighbours,
                  uint64_t seed=1):
        cdef int i
        self.broker_count = brokers
        self.worker_count = workers
        self.node_count = brokers * workers + 1
        self.tree = tree
        self.mean_ns = mean_us * 1000
        self.rng = mix64(seed)
        self.finished = -1
        self.brokers = <broker_t *>calloc(brokers, sizeof(broker_t))
        self.nodes = <node_t *>calloc(self.node_count, sizeof(node_t))
        self.task_cap = tasks + tasks // 4 + 64
        self.tasks = <task_t *>calloc(self.task_cap, sizeof(task_t))
        self.need_at = <int64_t *>calloc(brokers, sizeof(int64_t))
        self.heap_cap = 1 << 16
        self.heap = <event_t *>malloc(self.heap_cap * sizeof(event_t))
        self.balances, self.federations, self.outboxes, self.heard = [], [], [], neighbours
        self.need_waits = []
        self.slice_ns = 100000000
        self.begun = []
        self.alive_brokers = brokers
        for i in range(brokers):
            self.need_at[i] = -1
        self._build()
        self._fill(tasks)
        self.first_ns = tasks * self.mean_ns if tree else self.work_ns

    def __dealloc__(self):
        cdef int i, slot
        cdef size_t k
        cdef message_t *m
        cdef message_t *after
        for i in range(self.broker_count):
            m = self.brokers[i].inbox
            while m != NULL:
                after = m.next
                self._free(m)
                m = after
            if self.brokers[i].outs != NULL:
                for slot in range(self.broker_count + self.worker_count + 2):
                    self._free(self.brokers[i].outs[slot])
            free(self.brokers[i].outs)
            free(self.brokers[i].dirty)
            free(self.brokers[i].peer_of)
            free(self.brokers[i].node_of)
        for k in range(self.heap_size):
            if self.heap[k].kind == E_BROKER or self.heap[k].kind == E_NODE:
                self._free(<message_t *>self.heap[k].ptr)
        for i in range(self.node_count):
            free(self.nodes[i].own)
        free(self.brokers)
        free(self.nodes)
        free(self.tasks)
        free(self.heap)
        free(self.need_at)

    cdef void _free(self, message_t *m) noexcept:
        if m != NULL:
            free(m.items)
            free(m)

    def _build(self):
        cdef int b, i, slots = self.broker_count + self.worker_count + 2
        cdef Balance balance
        cdef Federation federation
        cdef node_t *n
        for b in range(self.broker_count):
            out = Outbox()
            balance = Balance(out, b + 1)
            federation = Federation(out, self._random())
            self.outboxes.append(out)
            self.balances.append(balance)
            self.federations.append(federation)
            self.brokers[b].alive = 1
            self.brokers[b].timer_at = -1
            self.brokers[b].outs = <message_t **>calloc(slots, sizeof(message_t *))
            self.brokers[b].dirty = <int32_t *>calloc(slots, sizeof(int32_t))
            self.brokers[b].peer_of = <int32_t *>malloc(slots * sizeof(int32_t))
            self.brokers[b].node_of = <int32_t *>malloc(slots * sizeof(int32_t))
            memset(self.brokers[b].peer_of, 0xff, slots * sizeof(int32_t))
            memset(self.brokers[b].node_of, 0xff, slots * sizeof(int32_t))
        for i in range(self.node_count):
            # Node 0 is the origin, at broker 0.
            n = &self.nodes[i]
            n.broker = 0 if i == 0 else (i - 1) // self.worker_count
            n.incarnation = (<uint64_t>(n.broker + 1) << HOME_SHIFT) | <uint64_t>(i + 1)
            n.running = -1
            n.alive = 1
            balance = <Balance>self.balances[n.broker]
            n.slot = balance.on_hello(n.incarnation, i == 0)
            self.brokers[n.broker].node_of[n.slot] = i
        for b in range(self.broker_count):
            balance = <Balance>self.balances[b]
            federation = <Federation>self.federations[b]
            hears = set(self.heard[b])
            for i in range(self.broker_count):
                if i != b:
                    slot = balance.on_peer(i + 1)
                    federation.on_peer(i + 1, slot, i in hears)
                    self.brokers[b].peer_of[slot] = i
                    if slot >= slots:
                        raise MemoryError("too many slots")

    def _fill(self, int tasks):
        cdef int i
        cdef double share
        if self.tree:
            self.target = 1
            i = self._new_task(-1, 0, tasks)
            self._push_own(&self.nodes[0], i)
        else:
            self.target = tasks
            for i in range(tasks):
                self._new_task(-1, 0, 0)
                share = 0.5 + <double>(self._random() >> 11) / <double>(<uint64_t>1 << 53)
                self.tasks[i].run_ns = <int64_t>(self.mean_ns * share)
                self.work_ns += self.tasks[i].run_ns
                self._push_own(&self.nodes[0], i)

    cdef uint64_t _random(self) noexcept:
        self.rng += <uint64_t>0x9E3779B97F4A7C15
        return mix64(self.rng)

    cdef int _new_task(self, int parent, int owner, int leaves) except -1:
        cdef task_t *t
        if self.task_count == self.task_cap:
            self.task_cap *= 2
            self.tasks = <task_t *>realloc(self.tasks, self.task_cap * sizeof(task_t))
        t = &self.tasks[self.task_count]
        memset(t, 0, sizeof(task_t))
        t.parent = parent
        t.owner = owner
        t.leaves = leaves
        t.run_ns = self.mean_ns
        t.runner = -1
        if self.tree and leaves == 1:
            self.work_ns += self.mean_ns
        self.task_count += 1
        return self.task_count - 1

    # ---------------------------------------------------------------------------------------- the heap

    cdef void _at(self, int64_t at, int kind, int to, void *ptr, int64_t arg) noexcept:
        cdef size_t i, up
        cdef event_t e
        if self.heap_size == self.heap_cap:
            self.heap_cap *= 2
            self.heap = <event_t *>realloc(self.heap, self.heap_cap * sizeof(event_t))
        e.at = at
        e.nr = self.nr
        e.kind = kind
        e.to = to
        e.ptr = ptr
        e.arg = arg
        self.nr += 1
        i = self.heap_size
        self.heap_size += 1
        while i:
            up = (i - 1) >> 2
            if self.heap[up].at < at or (self.heap[up].at == at and self.heap[up].nr < e.nr):
                break
            self.heap[i] = self.heap[up]
            i = up
        self.heap[i] = e

    cdef bint _pop(self, event_t *e) noexcept:
        cdef size_t i = 0, child, best, last, k
        cdef event_t moved
        if self.heap_size == 0:
            return False
        e[0] = self.heap[0]
        self.heap_size -= 1
        last = self.heap_size
        moved = self.heap[last]
        while True:
            child = 4 * i + 1
            if child >= last:
                break
            best = child
            for k in range(child + 1, min(child + 4, last)):
                if self.heap[k].at < self.heap[best].at or (
                        self.heap[k].at == self.heap[best].at and self.heap[k].nr < self.heap[best].nr):
                    best = k
            if moved.at < self.heap[best].at or (moved.at == self.heap[best].at and moved.nr < self.heap[best].nr):
                break
            self.heap[i] = self.heap[best]
            i = best
        self.heap[i] = moved
        return True

    # ------------------------------------------------------------------------------------ messages

    cdef void _add(self, message_t **into, int kind, int task, int64_t a, int64_t b, int64_t c) noexcept:
        cdef message_t *m = into[0]
        cdef item_t *item
        if m == NULL:
            m = <message_t *>calloc(1, sizeof(message_t))
            into[0] = m
        if m.size == m.cap:
            m.cap = m.cap * 2 if m.cap else 4
            m.items = <item_t *>realloc(m.items, m.cap * sizeof(item_t))
        item = &m.items[m.size]
        m.size += 1
        item.kind = kind
        item.task = task
        item.a = a
        item.b = b
        item.c = c

    cdef void _to_broker(self, node_t *n, message_t *m, int64_t at) noexcept:
        m.source = n.slot
        self._at(at + WORKER_LINK_NS, E_BROKER, n.broker, m, 0)

    cdef message_t **_out(self, broker_t *b, int slot) noexcept:
        if b.outs[slot] == NULL:
            b.dirty[b.dirty_count] = slot
            b.dirty_count += 1
        return &b.outs[slot]

    # ----------------------------------------------------------------------------- workers and origin

    cdef void _push_own(self, node_t *n, int task) noexcept:
        if n.own_size == n.own_cap:
            n.own_cap = n.own_cap * 2 if n.own_cap else 16
            n.own = <int32_t *>realloc(n.own, n.own_cap * sizeof(int32_t))
        n.own[n.own_size] = task
        n.own_size += 1

    cdef void _request(self, node_t *n, bint idle, message_t **m) noexcept:
        # LocalQueue.hunger
        cdef int64_t each = self.mean_ns // 1000
        cdef int64_t have = n.room_us + n.queue_size * each
        if not idle and n.queue_size:
            have -= each
        if n.own_size > n.own_head or (not idle and have * 2 > ROOM_US):
            return
        if idle and n.room_us > 0:
            if n.asked_idle or n.queue_size:
                return
            n.asked_idle = 1
            self._add(m, M_REQUEST, -1, n.room_us, 1, 0)
            return
        n.asked_idle = idle
        n.room_us = max(0, ROOM_US - n.queue_size * each)
        if n.room_us > 0:
            self._add(m, M_REQUEST, -1, n.room_us, idle, 0)

    cdef void _tell(self, node_t *n, message_t **m) noexcept:
        # Store.tell_surplus
        cdef int64_t spare = n.own_size - n.own_head
        if (spare == 0) == (n.told == 0) and spare <= n.told * 2:
            return
        n.told = spare
        self._add(m, M_SURPLUS, -1, spare, spare * (self.mean_ns // 1000), 0)

    cdef int _start(self, int index, message_t **m) except -1:
        # The next task of a worker that has nothing to do: own ones newest first.
        cdef node_t *n = &self.nodes[index]
        cdef int task
        cdef task_t *t
        cdef int64_t took
        if index == 0 or n.running >= 0 or not n.alive:
            return 0
        if n.own_size > n.own_head:
            n.own_size -= 1
            task = n.own[n.own_size]
            if n.own_size == n.own_head:
                n.own_size = n.own_head = 0
        elif n.queue_size:
            task = n.queue[n.queue_head & 63]
            n.queue_head += 1
            n.queue_size -= 1
        else:
            self._request(n, True, m)
            return 0
        t = &self.tasks[task]
        t.runner = index
        n.running = task
        took = WORKER_TASK_NS + (SPAWN_NS * FAN if t.leaves > 1 else t.run_ns)
        n.busy_ns += took
        n.began = self.now
        self._note(took)
        self._at(self.now + took, E_END, index, NULL, (<int64_t>n.generation << 32) | task)
        if self.mean_ns // 1000 < LONG_US:
            self._request(n, False, m)
        elif t.leaves <= 1:
            self._at(self.now + self.mean_ns - ROOM_US * 1000, E_ASK, index, NULL, <int64_t>self.tasks[task].life << 32 | task)
        return 0

    cdef int _note(self, int64_t took) except -1:
        cdef int64_t at = self.now // self.slice_ns
        while len(self.begun) <= at:
            self.begun.append(0)
        self.begun[at] += took
        return 0

    cdef int _ended(self, int index, int task) except -1:
        cdef node_t *n = &self.nodes[index]
        cdef task_t *t = &self.tasks[task]
        cdef message_t *m = NULL
        cdef int i, leaves, left, child
        n.running = -1
        if t.runner != index:
            pass                    # issued again meanwhile: what this one did is nobody's
        elif t.leaves > 1 and t.pending == 0:
            left = t.leaves
            for i in range(FAN):
                leaves = left // (FAN - i)
                left -= leaves
                if leaves:
                    child = self._new_task(task, index, leaves)
                    t = &self.tasks[task]
                    t.pending += 1
                    self.tasks[child].parent_life = t.life
                    self._push_own(n, child)
            if n.want_us > 0:
                self._give(n, &m)
        else:
            self._complete(index, task, &m)
        self._start(index, &m)
        self._tell(n, &m)
        if m != NULL:
            self._to_broker(n, m, self.now)
        return 0

    cdef int _complete(self, int index, int task, message_t **m) except -1:
        # A task is over at `index`: its owner hears of it.
        cdef task_t *t = &self.tasks[task]
        if t.owner != index:
            self._add(m, M_RESULT, task, 0, 0, 0)
            return 0
        return self._owned_over(index, task, m)

    cdef int _owned_over(self, int index, int task, message_t **m) except -1:
        cdef task_t *t = &self.tasks[task]
        cdef uint16_t life
        if t.over:
            self.duplicates += 1
            return 0
        t.over = 1
        if t.parent < 0:
            self.over += 1
            if self.over == self.target:
                self.finished = self.now
            return 0
        life = t.parent_life
        t = &self.tasks[t.parent]
        if t.life != life:
            return 0
        t.pending -= 1
        if t.pending == 0:
            return self._complete(index, self.tasks[task].parent, m)
        return 0

    cdef void _give(self, node_t *n, message_t **m) noexcept:
        # Store.export_wanted: oldest first; what waits for its turn only for somebody idle.
        cdef int task
        cdef int64_t est = self.mean_ns // 1000
        cdef int count = 0
        while n.want_us > 0 and count < BATCH:
            if n.queue_size and n.want_idle > 0 and n.running >= 0 and (
                    self.tasks[n.queue[(n.queue_head + n.queue_size - 1) & 63]].hops < 3):
                n.queue_size -= 1
                task = n.queue[(n.queue_head + n.queue_size) & 63]
                n.want_idle -= 1
            elif n.own_size > n.own_head:
                task = n.own[n.own_head]
                n.own_head += 1
                if n.own_size == n.own_head:
                    n.own_size = n.own_head = 0
            else:
                break
            self.tasks[task].hops += 1
            n.want_us -= est
            n.told -= n.told > 0
            count += 1
            self._add(m, M_TASK, task, est, 0, 0)

    cdef int _give_soon(self, int index) except -1:
        # The origin's thread gives at its own pace; a worker that runs something, after a moment.
        cdef node_t *n = &self.nodes[index]
        cdef message_t *m = NULL
        if n.giving or n.want_us <= 0 or not (n.own_size > n.own_head or (n.queue_size and n.want_idle > 0)):
            return 0
        if index == 0:
            n.giving = 1
            self._at(max(self.now, n.free_at), E_GIVE, 0, NULL, 0)
        elif n.running >= 0:
            n.giving = 1
            self._at(self.now + GIVE_NS, E_GIVE, index, NULL, 0)
        else:
            self._give(n, &m)
            self._tell(n, &m)
            if m != NULL:
                self._to_broker(n, m, self.now)
        return 0

    cdef int _gives(self, int index) except -1:
        cdef node_t *n = &self.nodes[index]
        cdef message_t *m = NULL
        cdef int64_t at = self.now
        n.giving = 0
        self._give(n, &m)
        if index == 0 and m != NULL:
            at += m.size * ORIGIN_TASK_NS
            n.free_at = at
        self._tell(n, &m)
        if m != NULL:
            self._to_broker(n, m, at)
        if index == 0:
            return self._give_soon(0)
        return 0

    cdef void _reissue(self, int index, int task) noexcept:
        # Ledger.on_lost at the owner, which has what it takes to run it again.
        cdef task_t *t = &self.tasks[task]
        if t.over or t.owner != index:
            return
        t.life += 1
        t.hops = 0
        t.pending = 0
        t.runner = -1
        self._push_own(&self.nodes[index], task)

    cdef void _drop(self, node_t *n, int task) noexcept:
        # A cancelled task that has not begun leaves the queue.
        cdef int i, kept = 0
        for i in range(n.queue_size):
            if n.queue[(n.queue_head + i) & 63] != task:
                n.queue[(n.queue_head + kept) & 63] = n.queue[(n.queue_head + i) & 63]
                kept += 1
        n.queue_size = kept

    cdef int _node_hears(self, int index, message_t *m) except -1:
        cdef node_t *n = &self.nodes[index]
        cdef message_t *answer = NULL
        cdef int i
        cdef item_t *x
        if not n.alive:
            return 0
        for i in range(m.size):
            x = &m.items[i]
            if x.kind == M_TASK:
                n.asked_idle = 0
                n.room_us = max(0, n.room_us - x.a)
                self.tasks[x.task].runner = index
                if index == 0 or n.queue_size == 64:
                    self._push_own(n, x.task)
                else:
                    n.queue[(n.queue_head + n.queue_size) & 63] = x.task
                    n.queue_size += 1
            elif x.kind == M_RESULT:
                if index == 0:
                    n.free_at = max(n.free_at, self.now) + ORIGIN_TASK_NS // 2
                self._owned_over(index, x.task, &answer)
            elif x.kind == M_WANT:
                n.want_us = x.a
                n.want_idle = x.b
            elif x.kind == M_LOST:
                self._reissue(index, x.task)
            elif x.kind == M_CANCEL:
                self._drop(n, x.task)
        self._give_soon(index)
        self._start(index, &answer)
        self._tell(n, &answer)
        if answer != NULL:
            self._to_broker(n, answer, self.now)
        return 0

    # ---------------------------------------------------------------------------------------- brokers

    cdef int _broker_gets(self, int b, message_t *m) except -1:
        cdef broker_t *x = &self.brokers[b]
        if not x.alive:
            self._free(m)
            return 0
        m.next = NULL
        if x.inbox == NULL:
            x.inbox = m
        else:
            x.inbox_last.next = m
        x.inbox_last = m
        self._turn_soon(b)
        return 0

    cdef void _turn_soon(self, int b) noexcept:
        cdef broker_t *x = &self.brokers[b]
        if not x.turning:
            x.turning = 1
            self._at(max(self.now, x.busy_until), E_TURN, b, NULL, 0)

    cdef int _turn(self, int b) except -1:
        cdef broker_t *x = &self.brokers[b]
        cdef message_t *m = x.inbox
        cdef message_t *after
        cdef int64_t cost = WAKE_NS
        cdef int i, slot, sent = 0
        cdef int32_t tasks = 0
        x.turning = 0
        if not x.alive:
            return 0
        x.inbox = NULL
        x.turns += 1
        while m != NULL:
            after = m.next
            cost += MESSAGE_NS
            x.messages += 1
            tasks += self._records(b, m)
            self._free(m)
            m = after
        tasks += self._settle(b)
        for i in range(x.dirty_count):
            if x.outs[x.dirty[i]] != NULL:
                sent += 1
        cost += sent * MESSAGE_NS + tasks * TASK_NS
        x.busy_until = self.now + cost
        for i in range(x.dirty_count):
            slot = x.dirty[i]
            m = x.outs[slot]
            x.outs[slot] = NULL
            if m != NULL:
                self._deliver(b, slot, m, x.busy_until)
        x.dirty_count = 0
        return self._timer(b)

    cdef int _timer(self, int b) except -1:
        cdef broker_t *x = &self.brokers[b]
        cdef int64_t until = <int64_t>(<Federation>self.federations[b]).next_us() * 1000
        if until and (x.timer_at < self.now or until < x.timer_at):
            x.timer_at = max(until, x.busy_until)
            self._at(x.timer_at, E_TIMER, b, NULL, 0)
        return 0

    cdef void _deliver(self, int b, int slot, message_t *m, int64_t at) noexcept:
        cdef broker_t *x = &self.brokers[b]
        cdef int peer = x.peer_of[slot]
        if peer >= 0:
            m.source = (<Balance>self.balances[peer]).slot_of(b + 1)
            self._at(at + BROKER_LINK_NS + m.size * TASK_BYTES, E_BROKER, peer, m, 0)
        else:
            self._at(at + WORKER_LINK_NS, E_NODE, x.node_of[slot], m, 0)

    cdef int _records(self, int b, message_t *m) except -1:
        cdef Balance balance = <Balance>self.balances[b]
        cdef Federation federation = <Federation>self.federations[b]
        cdef broker_t *me = &self.brokers[b]
        cdef uint64_t now_us = <uint64_t>(self.now // 1000) + 1
        cdef bint peer = m.source >= 0 and balance.nodes[m.source].peer
        cdef int i, to, tasks = 0
        cdef int32_t idle = 0
        cdef int64_t work = 0, spare, lack
        cdef item_t *x
        cdef task_t *t
        if m.source >= 0 and not balance.nodes[m.source].alive:
            return 0
        for i in range(m.size):
            x = &m.items[i]
            if x.kind == M_TASK:
                tasks += 1
                t = &self.tasks[x.task]
                if peer:
                    federation.on_task(m.source, <uint64_t>x.a, True, now_us)
                    if self.need_at[b] >= 0:
                        self.need_waits.append(self.now - self.need_at[b])
                        self.need_at[b] = -1
                balance.on_task(m.source, self.nodes[t.owner].incarnation, x.task + 1, t.life, <uint64_t>x.a, t.hops, 0,
                                <void *><size_t>(x.task + 1))
            elif x.kind == M_RESULT:
                tasks += 1
                t = &self.tasks[x.task]
                to = balance.on_result(m.source, self.nodes[t.owner].incarnation, x.task + 1)
                if to >= 0:
                    self._add(self._out(me, to), M_RESULT, x.task, 0, 0, 0)
            elif x.kind == M_REQUEST:
                balance.on_request(m.source, <uint64_t>x.a, x.b != 0)
            elif x.kind == M_SURPLUS:
                balance.on_surplus(m.source, <uint64_t>x.a, <uint64_t>x.b)
            elif x.kind == M_ASK:
                spare = balance.spare(&work)
                lack = balance.lack_us(&idle)
                if lack > 0 and work > 0:
                    spare = spare * max(<int64_t>0, work - lack) // work
                    work = max(<int64_t>0, work - lack)
                federation.on_ask(m.source, x.a, <int32_t>x.b, spare, work, now_us)
            elif x.kind == M_REFUSE:
                federation.on_refuse(m.source, <uint64_t>x.a, now_us)
            elif x.kind == M_HINT:
                me.hints += 1
                federation.on_hint(balance.slot_of(<uint64_t>x.c), <uint64_t>x.b, x.a, now_us)
            elif x.kind == M_LOST:
                to = balance.on_lost_there(m.source, self.nodes[self.tasks[x.task].owner].incarnation, x.task + 1)
                if to >= 0:
                    self._add(self._out(me, to), M_LOST, x.task, 0, 0, 0)
            elif x.kind == M_HOLD:
                balance.on_hold(m.source, self.nodes[self.tasks[x.task].owner].incarnation, x.task + 1)
        return tasks

    cdef int _settle(self, int b) except -1:
        # Gateway.settle
        cdef Balance balance = <Balance>self.balances[b]
        cdef Federation federation = <Federation>self.federations[b]
        cdef int32_t idle = 0
        cdef int64_t work = 0, spare, lack
        cdef int tasks = self._carry(b)
        balance.match()
        lack = balance.lack_us(&idle)
        spare = balance.spare(&work)
        federation.decide(lack, idle, spare, work, <uint64_t>(self.now // 1000) + 1)
        return tasks + self._carry(b)

    cdef int _carry(self, int b) except -1:
        cdef Outbox out = <Outbox>self.outboxes[b]
        cdef Balance balance = <Balance>self.balances[b]
        cdef broker_t *me = &self.brokers[b]
        cdef action_t *x
        cdef size_t i = 0
        cdef int task, tasks = 0
        cdef message_t *m
        while i < out.size:
            x = &out.actions[i]
            i += 1
            if x.kind == A_SEND_TASK:
                tasks += 1
                task = <int><size_t>x.slot - 1
                if me.peer_of[x.node] >= 0:
                    self.moves += 1
                    self.tasks[task].hops += 1
                    (<Federation>self.federations[b]).on_task(x.node, <uint64_t>(self.mean_ns // 1000), False,
                                                             <uint64_t>(self.now // 1000) + 1)
                self._add(self._out(me, x.node), M_TASK, task, self.mean_ns // 1000, 0, 0)
            elif x.kind == A_WANT:
                self._add(self._out(me, x.node), M_WANT, -1, <int64_t>x.a, <int64_t>x.b, 0)
            elif x.kind == A_ASK:
                self.asks += 1
                if self.need_at[b] < 0:
                    self.need_at[b] = self.now
                self._add(self._out(me, x.node), M_ASK, -1, <int64_t>x.a, <int64_t>x.b, 0)
            elif x.kind == A_REFUSE:
                self._add(self._out(me, x.node), M_REFUSE, -1, <int64_t>x.a, 0, 0)
            elif x.kind == A_CREDIT:
                balance.on_ask(x.node, <int64_t>x.a, <int32_t>x.b)
            elif x.kind == A_HOLD:
                self._add(self._out(me, x.node), M_HOLD, <int>x.b - 1, 0, 0, 0)
            elif x.kind == A_LOST:
                self._add(self._out(me, x.node), M_LOST, <int>x.a - 1, 0, 0, 0)
            elif x.kind == A_CANCEL and me.peer_of[x.node] < 0:
                self._add(self._out(me, x.node), M_CANCEL, <int>x.b - 1, 0, 0, 0)
            elif x.kind == A_HINT:
                for other in self.heard[b]:
                    m = NULL
                    self._add(&m, M_HINT, -1, <int64_t>x.a, <int64_t>x.c, b + 1)
                    m.source = -1
                    self._at(self.now + BROKER_LINK_NS, E_BROKER, other, m, 0)
        out.size = 0
        return tasks

    # ------------------------------------------------------------------------------------------- loss

    cdef int _kept(self) except -1:
        # What is done for good, and what a greedy queue would need from here.
        cdef int i, parent
        cdef int64_t kept = 0
        cdef task_t *t
        cdef node_t *n
        cdef uint8_t *state = <uint8_t *>calloc(self.task_count, 1)     # 1: it counts; 2: it is done
        for i in range(self.task_count):
            t = &self.tasks[i]
            parent = t.parent
            if parent >= 0 and (state[parent] == 0 or self.tasks[parent].life != t.parent_life):
                continue
            if parent >= 0 and state[parent] == 2:
                state[i] = 2
            elif self.nodes[t.owner].alive:
                state[i] = 1 + t.over
            if state[i] == 2 and t.leaves <= 1:
                kept += t.run_ns
        for i in range(1, self.node_count):
            n = &self.nodes[i]
            if n.alive and n.running >= 0 and self.tasks[n.running].leaves <= 1 and state[n.running] == 1:
                kept += min(self.now - n.began, self.tasks[n.running].run_ns)
        free(state)
        self.kept_ns = kept
        return 0

    cdef int _open(self) except -1:
        # Tasks that count and are not over; none when all is well. Parents stand before their children.
        cdef int i, parent, found = 0
        cdef task_t *t
        for i in range(self.task_count):
            t = &self.tasks[i]
            parent = t.parent
            # Of a parent that is over: a child of its last life, at a node that lives.
            if parent >= 0 and (self.tasks[parent].life != t.parent_life or self.tasks[parent].runner != t.owner):
                continue
            if self.nodes[t.owner].alive and not t.over and (parent < 0 or self.tasks[parent].over == 0):
                found += 1
        return found

    cdef int _die(self, int b) except -1:
        cdef int i
        cdef node_t *n
        self.alive_brokers -= 1
        self.lost_at = self.now
        self.brokers[b].alive = 0
        for i in range(self.worker_count):
            n = &self.nodes[1 + b * self.worker_count + i]
            n.alive = 0
            n.generation += 1
            n.running = -1
        self._kept()
        self._at(self.now + DETECT_NS, E_GONE, b, NULL, 0)
        return 0

    cdef int _gone(self, int dead) except -1:
        cdef int b, slot
        cdef Balance balance
        for b in range(self.broker_count):
            if self.brokers[b].alive:
                balance = <Balance>self.balances[b]
                slot = balance.slot_of(dead + 1)
                (<Federation>self.federations[b]).on_gone(slot)
                balance.on_lost(slot, 0, 0, 1)
                self._turn_soon(b)
        return 0

    # -------------------------------------------------------------------------------------------- run

    def run(self, lost=(), double lost_at_s=0.0, double limit_s=1e9):
        """Run to the end; returns a dict of what was measured. `lost` brokers die at `lost_at_s`."""
        cdef event_t e
        cdef int b, i
        cdef message_t *m
        for b in lost:
            self._at(<int64_t>(lost_at_s * 1e9), E_DIE, b, NULL, 0)
        for i in range(self.node_count):
            m = NULL
            self._start(i, &m)
            self._tell(&self.nodes[i], &m)
            if m != NULL:
                # Nobody starts at exactly the same moment.
                self._to_broker(&self.nodes[i], m, <int64_t>(self._random() % 200000))
        while self.finished < 0 and self._pop(&e):
            self.now = e.at
            self.events += 1
            if e.kind == E_BROKER:
                self._broker_gets(e.to, <message_t *>e.ptr)
            elif e.kind == E_NODE:
                self._node_hears(e.to, <message_t *>e.ptr)
                self._free(<message_t *>e.ptr)
            elif e.kind == E_END:
                if self.nodes[e.to].generation == <int32_t>(e.arg >> 32):
                    self._ended(e.to, <int>(e.arg & 0xffffffff))
            elif e.kind == E_TURN:
                self._turn(e.to)
            elif e.kind == E_TIMER:
                if self.brokers[e.to].timer_at == e.at:
                    self.brokers[e.to].timer_at = -1
                    self._turn_soon(e.to)
            elif e.kind == E_GIVE:
                self._gives(e.to)
            elif e.kind == E_ASK:
                i = <int>(e.arg & 0xffffffff)
                if self.nodes[e.to].running == i and self.tasks[i].life == e.arg >> 32:
                    m = NULL
                    self._request(&self.nodes[e.to], False, &m)
                    if m != NULL:
                        self._to_broker(&self.nodes[e.to], m, self.now)
            elif e.kind == E_DIE:
                self._die(e.to)
            elif e.kind == E_GONE:
                self._gone(e.to)
            if e.at > <int64_t>(limit_s * 1e9):
                break
        return self._report()

    def _greedy_s(self):
        """Seconds that a central queue without latency or cost takes for the same."""
        cdef int64_t workers = self.broker_count * self.worker_count
        if self.lost_at:
            left = self.first_ns - self.kept_ns
            return (self.lost_at + left / (self.alive_brokers * self.worker_count)) / 1e9
        if self.tree:
            return -(-self.first_ns // self.mean_ns // workers) * self.mean_ns / 1e9
        import heapq
        free = [0] * workers
        for i in range(self.task_count):
            heapq.heapreplace(free, free[0] + self.tasks[i].run_ns)
        return max(free) / 1e9

    def _report(self):
        cdef int b
        cdef double seconds = max(<double>self.now / 1e9, 1e-9)
        waits = sorted(self.need_waits)
        greedy = self._greedy_s()
        return {
            "finished": self.finished >= 0,
            "open": self._open(),
            "over": self.over,
            "target": self.target,
            "duplicates": self.duplicates,
            "seconds": seconds,
            "greedy_s": greedy,
            "efficiency": greedy / seconds,
            "events": self.events,
            "tasks": self.task_count,
            "moves_per_task": <double>self.moves / max(1, self.task_count),
            "asks_per_task": <double>self.asks / max(1, self.task_count),
            # A run that is shorter than a second has had all hints of its second.
            "hints_per_s": max([self.brokers[b].hints for b in range(self.broker_count)]) / max(1.0, seconds),
            "origin_messages_s": self.brokers[0].messages / seconds,
            "fed_p50_us": waits[len(waits) // 2] / 1e3 if waits else None,
            "fed_p99_us": waits[int(len(waits) * 0.99)] / 1e3 if waits else None,
            "busy": [took / (self.slice_ns * self.broker_count * self.worker_count) for took in self.begun],
        }
