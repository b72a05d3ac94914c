"""Simulated time: events in their order, messages, tasks.

Most events are the ends of tasks and lie far ahead. They wait unsorted in a bucket for their moment, a heap sorts
those of the present bucket: so it stays small, and in the caches.
"""

from libc.stdint cimport int32_t, int64_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memset

from scoop._core.table cimport mix64
from scoop_federation.world cimport (
    BUCKET_BITS, BUCKETS, E_BROKER, E_NODE, WORKER_LINK_NS, broker_t, bucket_t, event_t, item_t, message_t, node_t,
    task_t)


cdef class World:
    """What a run consists of; see `Model`."""

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
        self.need_of = <int32_t *>calloc(brokers, sizeof(int32_t))
        self.heap_cap = 1 << 12
        self.buckets = <bucket_t *>calloc(BUCKETS, sizeof(bucket_t))
        self.heap = <event_t *>malloc(self.heap_cap * sizeof(event_t))
        self.balances, self.federations, self.outboxes, self.heard = [], [], [], neighbours
        self.need_waits = []
        self.slice_ns = 100000000
        self.begun = []
        self.alive_brokers = brokers
        for i in range(brokers):
            self.need_at[i] = -1

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
            self._free_event(&self.heap[k])
        for k in range(BUCKETS):
            for i in range(self.buckets[k].size):
                self._free_event(&self.buckets[k].events[i])
            free(self.buckets[k].events)
        free(self.buckets)
        while self.spare != NULL:
            m = self.spare
            self.spare = m.next
            free(m.items)
            free(m)
        for i in range(self.node_count):
            free(self.nodes[i].own)
        free(self.brokers)
        free(self.nodes)
        free(self.tasks)
        free(self.heap)
        free(self.need_at)
        free(self.need_of)

    cdef void _free(self, message_t *m) noexcept:
        if m != NULL:
            m.next = self.spare
            self.spare = m

    cdef void _free_event(self, event_t *e) noexcept:
        if e.kind == E_BROKER or e.kind == E_NODE:
            self._free(<message_t *>e.ptr)

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

    cdef void _at(self, int64_t at, int kind, int to, void *ptr, int64_t arg) noexcept:
        cdef event_t e
        cdef bucket_t *bucket
        e.at = at
        e.nr = self.nr
        e.kind = kind
        e.to = to
        e.ptr = ptr
        e.arg = arg
        self.nr += 1
        if at >> BUCKET_BITS <= self.present:
            self._push(&e)
            return
        bucket = &self.buckets[(at >> BUCKET_BITS) % BUCKETS]
        if bucket.size == bucket.cap:
            bucket.cap = bucket.cap * 2 if bucket.cap else 16
            bucket.events = <event_t *>realloc(bucket.events, bucket.cap * sizeof(event_t))
        bucket.events[bucket.size] = e
        bucket.size += 1
        self.waiting += 1

    cdef void _open_next(self) noexcept:
        # The next bucket with events of its own time: those of later rounds stay.
        cdef bucket_t *bucket
        cdef int i, kept
        while self.heap_size == 0 and self.waiting:
            self.present += 1
            bucket = &self.buckets[self.present % BUCKETS]
            kept = 0
            for i in range(bucket.size):
                if bucket.events[i].at >> BUCKET_BITS == self.present:
                    self._push(&bucket.events[i])
                else:
                    bucket.events[kept] = bucket.events[i]
                    kept += 1
            self.waiting -= bucket.size - kept
            bucket.size = kept

    cdef void _push(self, const event_t *e) noexcept:
        cdef size_t i, up
        if self.heap_size == self.heap_cap:
            self.heap_cap *= 2
            self.heap = <event_t *>realloc(self.heap, self.heap_cap * sizeof(event_t))
        i = self.heap_size
        self.heap_size += 1
        while i:
            up = (i - 1) >> 2
            if self.heap[up].at < e.at or (self.heap[up].at == e.at and self.heap[up].nr < e.nr):
                break
            self.heap[i] = self.heap[up]
            i = up
        self.heap[i] = e[0]

    cdef bint _pop(self, event_t *e) noexcept:
        cdef size_t i = 0, child, best, last, k
        cdef event_t moved
        if self.heap_size == 0:
            self._open_next()
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

    cdef void _add(self, message_t **into, int kind, int task, int64_t a, int64_t b, int64_t c) noexcept:
        cdef message_t *m = into[0]
        cdef item_t *item
        if m == NULL:
            m = self.spare
            if m == NULL:
                m = <message_t *>calloc(1, sizeof(message_t))
            else:
                self.spare = m.next
            m.next = NULL
            m.size = 0
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
