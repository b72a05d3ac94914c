"""A federation of brokers in simulated time: what is built, who dies, what is measured."""

import heapq

from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memset

from scoop._core.balance cimport HOME_SHIFT, Balance
from scoop._core.federation cimport Federation
from scoop._core.outbox cimport Outbox
from scoop_federation.brokers cimport Brokers
from scoop_federation.world cimport (
    DETECT_NS, E_ASK, E_BROKER, E_DIE, E_END, E_GIVE, E_GONE, E_NODE, E_TIMER, E_TURN, event_t, message_t,
    node_t, task_t)


cdef class Model(Brokers):
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

    def __init__(self, int brokers, int workers, int tasks, int64_t mean_us, bint tree, list neighbours,
                 uint64_t seed=1):
        self._build()
        self._fill(tasks)
        self.first_ns = tasks * self.mean_ns if tree else self.work_ns

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
                # Nobody starts at exactly the same moment. The origin may be asked at once, and no link lets what it
                # gives overtake what it has told before.
                self._to_broker(&self.nodes[i], m, <int64_t>(self._random() % 200000) if i else 0)
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
            slots = self.first_ns // self.mean_ns
            return (slots + workers - 1) // workers * self.mean_ns / 1e9
        ends = [0] * workers
        for i in range(self.task_count):
            heapq.heapreplace(ends, ends[0] + self.tasks[i].run_ns)
        return max(ends) / 1e9

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
