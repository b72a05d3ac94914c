"""A broker's load-balancing queue.

Work moves by pull. A node says how much time it can fill (REQUEST); the broker matches queued tasks against
these credits, and when it has fewer tasks than credits it asks nodes that could give some away (WANT). A
node answers with tasks or, later, as soon as its program submits some. Nothing here is a promise: a broker that
forgets all of this costs time, since owners keep their tasks.
"""

from libc.stdlib cimport calloc, free

from scoop._core.outbox cimport A_ANSWER, A_CANCEL, A_DROP, A_LOST, A_SEND_TASK, A_WANT
from scoop._core.table cimport table_free, table_get, table_pop, table_put
from scoop._core.wire cimport T_RETRIED, V_NOT_STARTED, V_UNKNOWN

cdef enum:
    ID_BITS = 44
    ASKED_NODES_MAX = 8


cdef inline uint64_t _key(int owner_slot, uint64_t id) noexcept nogil:
    return (<uint64_t>(owner_slot + 1) << ID_BITS) | (id & ((<uint64_t>1 << ID_BITS) - 1))


cdef class Balance:
    """Tasks against credits, for one broker.

    Args:
        out: where the decisions go.
    """

    def __cinit__(self, Outbox out):
        self.out = out
        self.nodes = <bnode_t *>calloc(NODES_MAX, sizeof(bnode_t))
        if self.nodes == NULL:
            raise MemoryError

    def __dealloc__(self):
        cdef size_t i
        if self.tasks.mask:
            for i in range(self.tasks.mask + 1):
                if self.tasks.cells[i].key != 0:
                    free(self.tasks.cells[i].value)
        table_free(&self.tasks)
        table_free(&self.by_incarnation)
        free(self.nodes)

    # ------------------------------------------------------------------------------------------- nodes

    cdef int slot_of(self, uint64_t incarnation) noexcept nogil:
        return <int><size_t>table_get(&self.by_incarnation, incarnation) - 1

    cdef int on_hello(self, uint64_t incarnation, bint source) noexcept nogil:
        cdef int slot = self.slot_of(incarnation)
        cdef bnode_t *node
        if slot >= 0:
            return slot
        # A slot is never used twice while tasks of its owner may be known, so only fresh ones are given out.
        if self.node_count == NODES_MAX or incarnation == 0:
            return -1
        slot = self.node_count
        if table_put(&self.by_incarnation, incarnation, <void *><size_t>(slot + 1)) < 0:
            return -1
        self.node_count += 1
        node = &self.nodes[slot]
        node.incarnation = incarnation
        node.alive = 1
        node.source = source
        return slot

    cdef void on_request(self, int node, uint64_t room_us, bint idle) noexcept nogil:
        self.nodes[node].room_us = <int64_t>room_us
        self.nodes[node].idle = idle

    cdef void on_surplus(self, int node, uint64_t tasks) noexcept nogil:
        self.nodes[node].surplus = <uint32_t>tasks

    # ------------------------------------------------------------------------------------------- tasks

    cdef btask_t *_find(self, uint64_t owner, uint64_t id) noexcept nogil:
        cdef int slot = self.slot_of(owner)
        if slot < 0:
            return NULL
        return <btask_t *>table_get(&self.tasks, _key(slot, id))

    cdef void _forget(self, btask_t *task) noexcept nogil:
        cdef bnode_t *node
        table_pop(&self.tasks, _key(task.owner_slot, task.id))
        if task.node >= 0:
            node = &self.nodes[task.node]
            node.given -= 1
            if task.flags & T_RETRIED:
                node.probation = 0
        free(task)

    cdef void _enqueue(self, btask_t *task, bint front) noexcept nogil:
        task.node = -1
        task.next = NULL
        if self.head == NULL:
            self.head = task
            self.tail = task
        elif front:
            task.next = self.head
            self.head = task
        else:
            self.tail.next = task
            self.tail = task
        self.queued += 1
        self.queued_us += task.est_us

    cdef int on_task(self, int node, uint64_t owner, uint64_t id, uint64_t attempt, uint64_t est_us,
                     uint64_t flags, void *slot) noexcept nogil:
        cdef int owner_slot = self.slot_of(owner)
        cdef btask_t *task
        cdef bnode_t *giver = &self.nodes[node]
        giver.want_us -= <int64_t>est_us
        if giver.want_us < 0:
            giver.want_us = 0
        if giver.want_idle and owner != giver.incarnation:
            giver.want_idle -= 1
        if giver.surplus:
            giver.surplus -= 1
        if owner_slot < 0 or not self.nodes[owner_slot].alive:
            self.dropped += 1
            return -1
        task = <btask_t *>table_get(&self.tasks, _key(owner_slot, id))
        if task != NULL and task.node < 0:
            # A newer attempt replaces the one that is still queued.
            if attempt < task.attempt:
                return -1
            task.attempt = <uint16_t>attempt
            task.flags = <uint8_t>flags
            self.queued_us += <int64_t>est_us - task.est_us
            task.est_us = <uint32_t>est_us
            self.out.put(A_DROP, node, task.slot, 0, 0, 0, 0)
            task.slot = slot
            return 0
        if task != NULL:
            self._forget(task)      # given away again by its holder, or issued again by its owner
        task = <btask_t *>calloc(1, sizeof(btask_t))
        if task == NULL or table_put(&self.tasks, _key(owner_slot, id), task) < 0:
            free(task)
            return -1
        task.owner = owner
        task.id = id
        task.attempt = <uint16_t>attempt
        task.est_us = <uint32_t>est_us
        task.flags = <uint8_t>flags
        task.owner_slot = owner_slot
        task.giver = node
        task.slot = slot
        # A task that crashed a worker waits for an empty one: at the front it gets the first.
        self._enqueue(task, (flags & T_RETRIED) != 0)
        return 0

    cdef int on_result(self, int node, uint64_t owner, uint64_t id) noexcept nogil:
        cdef int owner_slot = self.slot_of(owner)
        cdef btask_t *task
        if owner_slot < 0:
            return -1
        task = <btask_t *>table_get(&self.tasks, _key(owner_slot, id))
        if task != NULL and task.node == node:
            self._forget(task)
        return owner_slot if self.nodes[owner_slot].alive else -1

    cdef int on_answer(self, int node, uint64_t owner, uint64_t id, int *verdict) noexcept nogil:
        # A holder that gave the task up no longer holds it; the owner decides what follows. "Started" from a node
        # that has meanwhile given it away means only that it is not there.
        cdef btask_t *task
        if verdict[0] == V_NOT_STARTED:
            return self.on_result(node, owner, id)
        task = self._find(owner, id)
        if task != NULL and task.node != node:
            verdict[0] = V_UNKNOWN
        return self.slot_of(owner)

    cdef void on_cancel(self, int node, uint64_t owner, uint64_t id, uint64_t attempt,
                        int mode) noexcept nogil:
        cdef btask_t *task = self._find(owner, id)
        if task == NULL:
            self.out.put(A_ANSWER, node, NULL, id, attempt, V_UNKNOWN, mode)
        elif task.node >= 0:
            self.out.put(A_CANCEL, task.node, NULL, owner, id, attempt, mode)
        else:
            # Its entry stays in the queue, where match() finds it cancelled and frees it.
            task.cancelled = 1
            table_pop(&self.tasks, _key(task.owner_slot, task.id))
            self.out.put(A_ANSWER, node, NULL, id, attempt, V_NOT_STARTED, mode)

    cdef void on_lost(self, int node, uint64_t blamed_owner, uint64_t blamed_id,
                      uint64_t cause) noexcept nogil:
        cdef size_t i = 0
        cdef btask_t *task
        cdef bint blamed
        if not self.nodes[node].alive:
            return
        self.nodes[node].alive = 0
        self.nodes[node].room_us = 0
        self.nodes[node].surplus = 0
        # A removal moves later cells back into the hole, so a cell is looked at again after one.
        while self.tasks.mask and i <= self.tasks.mask:
            task = <btask_t *>self.tasks.cells[i].value
            if self.tasks.cells[i].key == 0 or (task.node != node and task.owner_slot != node):
                i += 1
            elif task.owner_slot == node:
                if task.node < 0:
                    task.cancelled = 1
                    table_pop(&self.tasks, _key(task.owner_slot, task.id))
                else:
                    # It runs on elsewhere; whoever holds it drops it if it has not started.
                    self.out.put(A_CANCEL, task.node, NULL, task.owner, task.id, task.attempt, 0)
                    self._forget(task)
            else:
                blamed = task.owner == blamed_owner and task.id == blamed_id
                self.out.put(A_LOST, task.owner_slot, NULL, task.id, task.attempt, cause, blamed)
                self._forget(task)

    # ---------------------------------------------------------------------------------------- matching

    cdef int _next_hungry(self, btask_t *task) noexcept nogil:
        # Fills one node before it goes to the next, so that tasks for one destination travel together.
        # A task that crashed a worker goes to one that holds nothing else; where there is none, to one that waits for
        # work, since all it holds is suspended and may be waiting for this very task.
        cdef int tried, slot, second = -1
        cdef bnode_t *node
        for tried in range(self.node_count):
            slot = self.cursor + tried
            if slot >= self.node_count:
                slot -= self.node_count
            node = &self.nodes[slot]
            # A node in probation that asks while its task waits takes others: that task may need one of them.
            if not node.alive or node.room_us <= 0 or (node.probation and not node.idle):
                continue
            if task.flags & T_RETRIED and (node.source or slot == task.owner_slot):
                continue
            # A task goes back to its owner or to whoever gave it away only if that has nothing at all to do.
            if slot == task.owner_slot or slot == task.giver or (task.flags & T_RETRIED and node.given):
                if node.idle:
                    second = slot
                continue
            self.cursor = slot
            return slot
        return second

    cdef void match(self) noexcept nogil:
        cdef btask_t *task
        cdef btask_t *before = NULL
        cdef btask_t *following
        cdef int slot
        task = self.head
        while task != NULL:
            following = task.next
            slot = -1
            if not task.cancelled:
                slot = self._next_hungry(task)
                if slot < 0:
                    if not task.flags & T_RETRIED:
                        break               # nobody has room
                    before = task           # it waits for an empty worker; the next one need not
                    task = following
                    continue
            if before == NULL:
                self.head = following
            else:
                before.next = following
            if self.tail == task:
                self.tail = before
            self.queued -= 1
            self.queued_us -= task.est_us
            if task.cancelled:
                self.out.put(A_DROP, -1, task.slot, 0, 0, 0, 0)
                free(task)
            else:
                self._give(task, slot)
            task = following
        self._ask()

    cdef void _give(self, btask_t *task, int slot) noexcept nogil:
        cdef bnode_t *node = &self.nodes[slot]
        node.room_us -= task.est_us if task.est_us else 1
        node.idle = 0
        node.given += 1
        node.probation = (task.flags & T_RETRIED) != 0
        task.node = slot
        self.dispatched += 1
        self.out.put(A_SEND_TASK, slot, task.slot, 0, 0, 0, 0)
        task.slot = NULL
        if slot == task.owner_slot:
            self._forget(task)      # home again: its owner runs it and tells nobody

    cdef void _ask(self) noexcept nogil:
        # Own surplus may fill anybody's room; what waits for a busy node is taken away only for an idle one.
        cdef int64_t hungry_us = 0
        cdef int64_t wanted
        cdef int idle = 0, slot, asked = 0, best = -1
        cdef bnode_t *node
        for slot in range(self.node_count):
            node = &self.nodes[slot]
            if node.alive and node.room_us > 0:
                idle += node.idle
                hungry_us += node.room_us
            if node.alive and node.surplus and (best < 0 or node.surplus > self.nodes[best].surplus):
                best = slot
        for slot in range(self.node_count):
            node = &self.nodes[slot]
            if not node.alive:
                continue
            wanted = hungry_us - (node.room_us if node.room_us > 0 else 0)
            if self.head != NULL or asked == ASKED_NODES_MAX:
                wanted = 0
            elif best >= 0 and slot != best and not node.source:
                wanted = 0
            elif best < 0 and not (node.source or node.given):
                wanted = 0
            if wanted > 0:
                asked += 1
            if (wanted > 0 and (node.want_us * 2 < wanted or node.want_idle < idle)) or (
                    wanted == 0 and node.want_us > 0):
                node.want_us = wanted
                node.want_idle = idle
                self.out.put(A_WANT, slot, NULL, <uint64_t>wanted, <uint64_t>idle, 0, 0)

    # ----------------------------------------------------------------------------------- introspection

    def validate(self):
        """Check the invariants; raises AssertionError when one is broken."""
        cdef size_t i, held = 0, queued = 0
        cdef btask_t *task = self.head
        cdef int slot
        while task != NULL:
            queued += 1
            assert task.node < 0, "a task in the queue is marked as given away"
            if task.next == NULL:
                assert task == self.tail, "the queue's tail is not its last task"
            task = task.next
        assert queued == self.queued, f"{queued} tasks stand in the queue, {self.queued} are counted"
        if self.tasks.mask:
            for i in range(self.tasks.mask + 1):
                if self.tasks.cells[i].key != 0:
                    task = <btask_t *>self.tasks.cells[i].value
                    held += task.node >= 0
                    assert task.node < 0 or self.nodes[task.node].alive, "a dead node holds a task"
        for slot in range(self.node_count):
            held -= self.nodes[slot].given
        assert held == 0, "the nodes' counts of given tasks do not add up"

    def statistics(self):
        """Return counters: nodes, queued, known, dispatched, dropped."""
        return {"nodes": self.node_count, "queued": self.queued, "known": self.tasks.count,
                "dispatched": self.dispatched, "dropped": self.dropped}
