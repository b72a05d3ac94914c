"""Workers that run, ask and give away as `localq` and `store` do, and an origin that only gives."""

from libc.stdint cimport int32_t, int64_t, uint16_t
from libc.stdlib cimport realloc

from scoop_federation.world cimport (
    BATCH, E_ASK, E_END, E_GIVE, FAN, GIVE_NS, HOPS_MAX, LONG_US, M_CANCEL, M_LOST, M_REQUEST, M_RESULT, M_SURPLUS,
    M_TASK, M_WANT, ORIGIN_TASK_NS, ROOM_US, SPAWN_NS, WORKER_TASK_NS, World, item_t, message_t, node_t, task_t)


cdef class Workers(World):
    """The nodes of a run."""

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
            self._at(self.now + self.mean_ns - ROOM_US * 1000, E_ASK, index, NULL, (<int64_t>t.life << 32) | task)
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
        if t.runner != index and t.leaves > 1:
            pass                    # issued again meanwhile: its children would be of an older life
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
                    self.tasks[n.queue[(n.queue_head + n.queue_size - 1) & 63]].hops < HOPS_MAX):
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
