"""A broker's load-balancing queue.

Work moves by pull. A node says how much time it can fill (REQUEST); the broker matches queued tasks against
these credits, and when it has fewer tasks than credits it asks nodes that could give some away (WANT). A
node answers with tasks or, later, as soon as its program submits some. Nothing here is a promise: a broker that
forgets all of this costs time, since owners keep their tasks.
"""

from libc.stdlib cimport calloc, free

from scoop._core.outbox cimport A_ANSWER, A_CANCEL, A_DROP, A_HOLD, A_LOST, A_SEND_TASK, A_WANT
from scoop._core.table cimport mix64, table_free, table_get, table_pop, table_put
from scoop._core.wire cimport CANCEL_LOOK, CANCEL_ORPHAN, T_RETRIED, V_HELD, V_NOT_STARTED, V_UNKNOWN

cdef enum:
    ID_BITS = 44
    ASKED_NODES_MAX = 8     # of nodes that hold a single task, which they may be running
    SURE_PART = 2           # of what a node has told, so much less may be left
    AHEAD_US = 1500         # how long before it is needed other brokers are asked for work
    HOPS_MAX = 16           # of all moves, between a process and its broker too; a limit to going round in circles
    PASSED_OVER_MAX = 64    # tasks at the head that no peer may have, behind which one is looked for


cdef class Balance:
    """Tasks against credits, for one broker.

    Args:
        out: where the decisions go.
        home: the broker's own number, 0 for one without peers.
    """

    def __cinit__(self, Outbox out, uint64_t home=0):
        self.out = out
        self.home = home
        self.hops_max = HOPS_MAX
        self.nodes = <bnode_t *>calloc(NODES_MAX, sizeof(bnode_t))
        self.here = <int32_t *>calloc(NODES_MAX, sizeof(int32_t))
        self.asking = <int32_t *>calloc(NODES_MAX, sizeof(int32_t))
        if self.nodes == NULL or self.here == NULL or self.asking == NULL:
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
        free(self.here)
        free(self.asking)

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
        self.here[self.here_count] = slot
        self.here_count += 1
        return slot

    cdef int on_peer(self, uint64_t number) noexcept nogil:
        # Its number is below any incarnation of a node, so both stand in one table.
        cdef int slot = self.slot_of(number)
        if slot < 0:
            slot = self.on_hello(number, False)
            if slot < 0:
                return slot
            self.here_count -= 1
            self.nodes[slot].peer = 1
        self.nodes[slot].alive = 1
        return slot

    cdef int way_to(self, uint64_t owner) noexcept nogil:
        cdef uint64_t number = home_of(owner)
        cdef int slot
        if self.home == 0 or number == self.home:
            slot = self.slot_of(owner)
        else:
            slot = self.slot_of(number)
        return slot if slot >= 0 and self.nodes[slot].alive else -1

    cdef void on_ask(self, int peer, int64_t room_us, int32_t idle) noexcept nogil:
        cdef bnode_t *node = &self.nodes[peer]
        if room_us <= 0 or not node.alive:
            self._stop_asking(peer)
            return
        if node.room_us <= 0:
            self.asking[self.asking_count] = peer
            self.asking_count += 1
        node.room_us = room_us
        node.idle_count = idle

    cdef void _stop_asking(self, int peer) noexcept nogil:
        cdef int i
        self.nodes[peer].room_us = 0
        self.nodes[peer].idle_count = 0
        for i in range(self.asking_count):
            if self.asking[i] == peer:
                self.asking_count -= 1
                self.asking[i] = self.asking[self.asking_count]
                return

    cdef bint on_leave(self, int node) noexcept nogil:
        cdef bint news = not self.nodes[node].leaving
        self.nodes[node].leaving = 1
        self.nodes[node].room_us = 0
        return news

    cdef void on_request(self, int node, uint64_t room_us, bint idle) noexcept nogil:
        if self.nodes[node].leaving:
            return                      # said before it knew
        self.nodes[node].room_us = <int64_t>room_us
        self.nodes[node].idle = idle
        self.nodes[node].behind = 0

    cdef void on_surplus(self, int node, uint64_t tasks, uint64_t work_us) noexcept nogil:
        self.nodes[node].surplus = <uint32_t>tasks
        self.nodes[node].surplus_us = <int64_t>work_us

    cdef int64_t lack_us(self, int32_t *idle, int64_t *ahead_us) noexcept nogil:
        cdef int64_t lack = -self.queued_us
        cdef int64_t alive = 0
        cdef bnode_t *node
        cdef int i
        idle[0] = 0
        for i in range(self.here_count):
            node = &self.nodes[self.here[i]]
            alive += node.alive
            if node.alive and node.room_us > 0:
                lack += self._appetite_us(node)
                idle[0] += node.idle
        # In whole tasks: of nodes that run one task for long, hardly any is about to need the next.
        ahead_us[0] = alive * AHEAD_US // self.typical_us * self.typical_us if self.typical_us > 0 else 0
        return lack

    cdef int64_t spare(self, int64_t *work_us) noexcept nogil:
        cdef int64_t tasks = <int64_t>self.queued
        cdef bnode_t *node
        cdef int i
        work_us[0] = self.queued_us
        for i in range(self.here_count):
            node = &self.nodes[self.here[i]]
            if node.alive:
                tasks += node.surplus
                work_us[0] += node.surplus_us
        return tasks

    # ------------------------------------------------------------------------------------------- tasks

    cdef uint64_t _key(self, uint64_t owner, uint64_t id) noexcept nogil:
        # Exact for our own nodes, by slot. Owners elsewhere have none; their keys have the highest bit.
        cdef int slot
        if self.home and home_of(owner) != self.home:
            return (<uint64_t>1 << 63) | (mix64(owner) + id)
        slot = self.slot_of(owner)
        if slot < 0:
            return 0
        return (<uint64_t>(slot + 1) << ID_BITS) | (id & ((<uint64_t>1 << ID_BITS) - 1))

    cdef btask_t *_find(self, uint64_t owner, uint64_t id) noexcept nogil:
        cdef uint64_t key = self._key(owner, id)
        cdef btask_t *task = <btask_t *>table_get(&self.tasks, key) if key else NULL
        return task if task != NULL and task.owner == owner and task.id == id else NULL

    cdef void _forget(self, btask_t *task) noexcept nogil:
        cdef bnode_t *node
        table_pop(&self.tasks, self._key(task.owner, task.id))
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

    cdef int on_task(self, int node, uint64_t owner, uint64_t id, uint64_t attempt, uint64_t est_us, uint64_t hops,
                     uint64_t flags, void *slot) noexcept nogil:
        cdef bint ours = self.home == 0 or home_of(owner) == self.home
        cdef int owner_slot = self.slot_of(owner) if ours else -1
        cdef int to = self.way_to(owner)
        cdef bint orphan
        cdef uint64_t key = 0
        cdef btask_t *task = NULL
        if not self.nodes[node].peer and owner != self.nodes[node].incarnation:
            # A node speaks for its own tasks, and for those that it holds.
            task = self._find(owner, id)
            if task.node != node if task != NULL else not self.successor:
                self.dropped += 1
                return -1
        self._received(node, owner, est_us)
        self.typical_us = (7 * self.typical_us + <int64_t>est_us) >> 3 if self.typical_us else <int64_t>est_us
        if to >= 0 and not ours and self.nodes[node].peer and to != node:
            # It has moved on from the broker to which its own gave it, which is to know where it is.
            self.out.put(A_HOLD, to, <void *>self.nodes[node].incarnation, owner, id, attempt, hops)
        if to >= 0:
            key = self._key(owner, id)
            task = <btask_t *>table_get(&self.tasks, key)
        if key == 0 or (task != NULL and (task.owner != owner or task.id != id)):
            self.dropped += 1           # nobody's, or another one stands where it would
            return -1
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
            # Given away again by its holder, or issued again by its owner. If that is dead it ends here: it could wait
            # for ever for a function that only its owner has.
            orphan = task.cancelled
            self._forget(task)
            if orphan:
                return -1
        task = <btask_t *>calloc(1, sizeof(btask_t))
        if task == NULL or table_put(&self.tasks, key, task) < 0:
            free(task)
            return -1
        task.owner = owner
        task.id = id
        task.attempt = <uint16_t>attempt
        task.est_us = <uint32_t>est_us
        task.hops = <uint8_t>hops
        task.flags = <uint8_t>flags
        task.owner_slot = owner_slot
        task.giver = node
        task.slot = slot
        # A task that crashed a worker waits for an empty one: at the front it gets the first.
        self._enqueue(task, (flags & T_RETRIED) != 0)
        return 0

    cdef void _received(self, int node, uint64_t owner, uint64_t est_us) noexcept nogil:
        # What the giver has given counts against what it was asked for.
        cdef bnode_t *giver = &self.nodes[node]
        giver.want_us -= <int64_t>est_us
        if giver.want_us < 0:
            giver.want_us = 0
        if giver.want_idle and owner != giver.incarnation:
            giver.want_idle -= 1
        if giver.surplus:
            giver.surplus_us -= giver.surplus_us // giver.surplus
            giver.surplus -= 1

    cdef void on_hold(self, int peer, uint64_t owner, uint64_t id, uint64_t attempt, uint64_t hops,
                      uint64_t giver) noexcept nogil:
        cdef btask_t *task = self._find(owner, id)
        cdef int at = self.slot_of(giver) if home_of(owner) == self.home else -1
        if at >= 0 and self.nodes[at].peer and self.nodes[at].alive:
            # Whoever gave it answers for it until it is known here: what a dying broker has sent may be lost.
            self.out.put(A_HOLD, at, NULL, owner, id, attempt, hops)
        if at >= 0 and self.way_to(owner) < 0 and (not self.successor or self.slot_of(owner) >= 0):
            self.out.put(A_CANCEL, peer, NULL, owner, id, attempt, CANCEL_ORPHAN)
        # Notices from different brokers overtake each other: the one with more hops is the later one.
        if task == NULL or task.node < 0 or not self.nodes[task.node].peer or (
                attempt != task.attempt or hops <= task.hops):
            return
        if task.owner_slot < 0:
            self._forget(task)      # from now on its own broker keeps track of it
            return
        self.nodes[task.node].given -= 1
        self.nodes[peer].given += 1
        task.node = peer
        task.hops = <uint8_t>hops
        task.doubtful = 0

    cdef int on_result(self, int node, uint64_t owner, uint64_t id) noexcept nogil:
        cdef btask_t *task = self._find(owner, id)
        # A result from elsewhere may overtake the notice of who has the task; of our own nodes only the holder has one.
        if task != NULL and (task.node == node or (task.node >= 0 and self.nodes[node].peer)):
            self._forget(task)
        elif not self.nodes[node].peer and (task != NULL or not self.successor):
            self.dropped += 1
            return -1
        return self.way_to(owner)

    cdef int on_answer(self, int node, uint64_t owner, uint64_t id, uint64_t attempt, int *verdict) noexcept nogil:
        # A holder that gave the task up no longer holds it; the owner decides what follows. "Started" from a node
        # that has meanwhile given it away means only that it is not there.
        cdef btask_t *task = self._find(owner, id)
        if verdict[0] == V_NOT_STARTED:
            return self.way_to(owner) if task != NULL and task.attempt != attempt else self.on_result(node, owner, id)
        if task != NULL and task.node != node:
            verdict[0] = V_UNKNOWN
        return self.way_to(owner)

    cdef int on_lost_there(self, int peer, uint64_t owner, uint64_t id, uint64_t attempt,
                           bint blamed) noexcept nogil:
        cdef btask_t *task = self._find(owner, id)
        if task != NULL and task.node == peer and task.attempt == attempt:
            self._forget(task)
        elif task != NULL and task.attempt == attempt and not blamed:
            return -1       # it had given it on, and has not heard that we know where it is now
        return self.way_to(owner)

    cdef void on_cancel(self, int node, uint64_t owner, uint64_t id, uint64_t attempt,
                        int mode) noexcept nogil:
        cdef btask_t *task = self._find(owner, id)
        # The answer goes to the owner's broker itself: what it has been told of the task must come before.
        cdef int to = self.way_to(owner)
        cdef int verdict = V_UNKNOWN
        if not self.nodes[node].peer and owner != self.nodes[node].incarnation:
            self.dropped += 1
            return
        if task != NULL and task.node >= 0:
            task.cancelled = mode == CANCEL_ORPHAN
            self.out.put(A_CANCEL, task.node, NULL, owner, id, attempt, mode)
            return
        if task != NULL and mode == CANCEL_LOOK and task.attempt == attempt:
            verdict = V_HELD
        elif task != NULL and task.attempt <= attempt:
            # Its entry stays in the queue, where match() finds it cancelled and frees it.
            task.cancelled = 1
            table_pop(&self.tasks, self._key(owner, id))
            if task.attempt == attempt:
                verdict = V_NOT_STARTED
        if to >= 0:
            self.out.put(A_ANSWER, to, <void *>owner if self.nodes[to].peer else NULL, id, attempt, verdict, mode)

    cdef void _lose(self, btask_t *task, uint64_t cause, bint blamed) noexcept nogil:
        cdef int to = self.way_to(task.owner)
        if to >= 0:
            self.out.put(A_LOST, to, NULL if task.owner_slot >= 0 else <void *>task.owner, task.id, task.attempt,
                         cause, blamed)
        self._forget(task)

    cdef void on_lost(self, int node, uint64_t blamed_owner, uint64_t blamed_id,
                      uint64_t cause) noexcept nogil:
        cdef size_t i = 0
        cdef btask_t *task
        cdef bint owned
        cdef bnode_t *dead = &self.nodes[node]
        if not dead.alive:
            return
        if dead.peer:
            self._stop_asking(node)
        dead.alive = 0
        dead.room_us = 0
        dead.surplus = 0
        dead.surplus_us = 0
        # A removal moves later cells back into the hole, so a cell is looked at again after one.
        while self.tasks.mask and i <= self.tasks.mask:
            task = <btask_t *>self.tasks.cells[i].value
            owned = self.tasks.cells[i].key != 0 and (
                task.owner_slot == node or (dead.peer and home_of(task.owner) == dead.incarnation))
            if self.tasks.cells[i].key == 0 or (task.node != node and not owned):
                i += 1
            elif owned:
                if task.node < 0:
                    task.cancelled = 1
                    table_pop(&self.tasks, self._key(task.owner, task.id))
                else:
                    # It runs on elsewhere; whoever holds it drops it if it has not started.
                    self.out.put(A_CANCEL, task.node, NULL, task.owner, task.id, task.attempt, CANCEL_ORPHAN)
                    self._forget(task)
            else:
                self._lose(task, cause, task.owner == blamed_owner and task.id == blamed_id)

    # ---------------------------------------------------------------------------------------- matching

    cdef int _next_hungry(self, btask_t *task) noexcept nogil:
        # Fills one node before it goes to the next, so that tasks for one destination travel together.
        # A task that crashed a worker goes to one that holds nothing else; where there is none, to one that waits for
        # work, since all it holds is suspended and may be waiting for this very task.
        cdef int tried, slot, at, second = -1
        cdef bnode_t *node
        for tried in range(self.here_count):
            at = self.cursor + tried
            if at >= self.here_count:
                at -= self.here_count
            slot = self.here[at]
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
            self.cursor = at
            return slot
        return second

    cdef int _next_peer(self, btask_t *task) noexcept nogil:
        # A task goes on to a broker that has asked, but never back and not too often.
        cdef int i, slot
        cdef bnode_t *node
        if task.hops >= self.hops_max:
            return -1
        for i in range(self.asking_count):
            slot = self.asking[i]
            node = &self.nodes[slot]
            # One that crashed a worker runs in few places, and may wait for ever where all nodes wait themselves.
            if task.flags & T_RETRIED and node.idle_count <= 0:
                continue
            if slot != task.giver and home_of(task.owner) != node.incarnation:
                return slot
        return -1

    cdef void match(self) noexcept nogil:
        cdef btask_t *task
        cdef btask_t *before = NULL
        cdef btask_t *following
        cdef int slot, passed_over = 0
        task = self.head
        while task != NULL:
            following = task.next
            slot = -1
            if not task.cancelled:
                slot = self._next_hungry(task)
                if slot < 0 and self.asking_count:
                    slot = self._next_peer(task)
                    passed_over += slot < 0
                if slot < 0:
                    if not task.flags & T_RETRIED and (
                            self.asking_count == 0 or passed_over > PASSED_OVER_MAX):
                        break               # nobody has room
                    before = task           # it waits for an empty worker or for its own; the next one need not
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
        node.given += 1
        task.node = slot
        self.out.put(A_SEND_TASK, slot, task.slot, 0, 0, 0, 0)
        task.slot = NULL
        if node.peer:
            self.moved += 1
            if node.idle_count:
                node.idle_count -= 1
            if node.room_us <= 0:
                self._stop_asking(slot)
            return                      # until the peer says that it has it, its loss is ours to report
        # It may run something of its own, or what had not arrived when it asked: no other task that is given tells.
        node.behind = not node.idle or node.given > 1
        node.idle = 0
        node.probation = (task.flags & T_RETRIED) != 0
        self.dispatched += 1
        if slot == task.owner_slot:
            self._forget(task)      # home again: its owner runs it and tells nobody

    cdef int64_t _appetite_us(self, bnode_t *node) noexcept nogil:
        # A node has room for a millisecond and takes a task of ten: asked for by room alone, ten hungry nodes would
        # be fed one after the other, a round trip each.
        return max(node.room_us, self.typical_us)

    cdef int64_t _sure_us(self, bnode_t *node) noexcept nogil:
        # A node tells its surplus when it has doubled, and when it is gone: some of it may have been used up.
        return node.surplus_us // SURE_PART if node.surplus > 1 else node.surplus_us

    cdef void _ask(self) noexcept nogil:
        # Own surplus may fill anybody's room; what waits for a busy node is taken away only for an idle one.
        cdef int64_t hungry_us = 0
        cdef int64_t wanted, left
        cdef int idle = 0, slot, i, asked = 0, best = -1
        cdef bnode_t *node
        for i in range(self.asking_count):
            node = &self.nodes[self.asking[i]]
            idle += node.idle_count
            hungry_us += node.room_us
        for i in range(self.here_count):
            slot = self.here[i]
            node = &self.nodes[slot]
            if node.alive and node.room_us > 0:
                idle += node.idle
                hungry_us += self._appetite_us(node)
            if node.alive and node.surplus and (best < 0 or node.surplus > self.nodes[best].surplus):
                best = slot
        # Whoever has most is asked for all; others only for what that one cannot give.
        left = hungry_us - (self._sure_us(&self.nodes[best]) if best >= 0 else 0)
        for i in range(self.here_count):
            slot = self.here[i]
            node = &self.nodes[slot]
            if not node.alive:
                continue
            wanted = hungry_us - (self._appetite_us(node) if node.room_us > 0 else 0)
            if asked >= ASKED_NODES_MAX and node.given < 2 and not node.behind:
                wanted = 0
            elif best >= 0 and slot != best and not node.source:
                wanted = max(<int64_t>0, min(min(wanted, left), node.surplus_us))
                left -= min(wanted, self._sure_us(node))
            elif best < 0 and not (node.source or node.given or node.behind):
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
                "dispatched": self.dispatched, "dropped": self.dropped, "moved": self.moved}
