"""Brokers: what they decide is scoop's own compiled code, `Balance` and `Federation`; their time is modelled."""

from libc.stdint cimport int32_t, int64_t, uint64_t

from scoop._core.balance cimport Balance
from scoop._core.federation cimport Federation
from scoop._core.outbox cimport (
    A_ASK, A_CANCEL, A_CREDIT, A_HINT, A_HOLD, A_LOST, A_REFUSE, A_SEND_TASK, A_WANT, Outbox, action_t)
from scoop_federation.workers cimport Workers
from scoop_federation.world cimport (
    BROKER_LINK_NS, E_BROKER, E_NODE, E_TIMER, E_TURN, MESSAGE_NS, M_ASK, M_CANCEL, M_HINT, M_HOLD, M_LOAD, M_LOST,
    M_REFUSE, M_REQUEST, M_RESULT, M_SURPLUS, M_TASK, M_WANT, TASK_BYTES, TASK_NS, WAKE_NS, WORKER_LINK_NS,
    broker_t, item_t, message_t, task_t)


cdef class Brokers(Workers):
    """The brokers of a run."""

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
        cdef int64_t work = 0, ahead = 0, spare, lack
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
                    federation.on_task(m.source, <uint64_t>x.a, now_us)
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
                lack = balance.lack_us(&idle, &ahead)
                federation.on_ask(m.source, x.a, <int32_t>x.b, lack, spare, work, ahead, now_us)
            elif x.kind == M_REFUSE:
                if self.need_of[b] == m.source:
                    self.need_at[b] = -1    # it is loaded no more
                federation.on_refuse(m.source, <uint64_t>x.a, x.b, <uint64_t>x.c, now_us)
            elif x.kind == M_LOAD:
                federation.on_load(m.source, x.a, now_us)
            elif x.kind == M_HINT:
                me.hints += 1
                federation.on_hint(balance.slot_of(<uint64_t>x.c), <uint64_t>x.b, x.a, now_us)
            elif x.kind == M_LOST:
                to = balance.on_lost_there(m.source, self.nodes[self.tasks[x.task].owner].incarnation, x.task + 1,
                                           <uint64_t>x.a, False)
                if to >= 0:
                    self._add(self._out(me, to), M_LOST, x.task, x.a, 0, 0)
            elif x.kind == M_HOLD:
                balance.on_hold(m.source, self.nodes[self.tasks[x.task].owner].incarnation, x.task + 1,
                                <uint64_t>x.c, <uint64_t>x.a, <uint64_t>x.b)
        return tasks

    cdef int _settle(self, int b) except -1:
        # Gateway.settle
        cdef Balance balance = <Balance>self.balances[b]
        cdef Federation federation = <Federation>self.federations[b]
        cdef int32_t idle = 0
        cdef int64_t work = 0, ahead = 0, spare, lack
        cdef int tasks = self._carry(b)
        balance.match()
        lack = balance.lack_us(&idle, &ahead)
        spare = balance.spare(&work)
        federation.decide(lack, idle, spare, work, ahead, <uint64_t>(self.now // 1000) + 1)
        return tasks + self._carry(b)

    cdef bint _loaded(self, int b) noexcept:
        # It has more than its own nodes can take.
        cdef int32_t idle = 0
        cdef int64_t work = 0, ahead = 0
        cdef Balance balance = <Balance>self.balances[b]
        return self.brokers[b].alive and balance.spare(&work) > 0 and work > balance.lack_us(&idle, &ahead)

    cdef int _carry(self, int b) except -1:
        cdef Outbox out = <Outbox>self.outboxes[b]
        cdef Federation federation = <Federation>self.federations[b]
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
                    if federation.on_given(x.node, <uint64_t>(self.mean_ns // 1000)):
                        self._add(self._out(me, x.node), M_LOAD, -1, federation.left_tasks, 0, 0)
                self._add(self._out(me, x.node), M_TASK, task, self.mean_ns // 1000, 0, 0)
            elif x.kind == A_WANT:
                self._add(self._out(me, x.node), M_WANT, -1, <int64_t>x.a, <int64_t>x.b, 0)
            elif x.kind == A_ASK:
                self.asks += 1
                if self.need_at[b] < 0 and self._loaded(me.peer_of[x.node]):
                    self.need_at[b] = self.now
                    self.need_of[b] = x.node
                self._add(self._out(me, x.node), M_ASK, -1, <int64_t>x.a, <int64_t>x.b, 0)
            elif x.kind == A_REFUSE:
                self._add(self._out(me, x.node), M_REFUSE, -1, <int64_t>x.a, <int64_t>x.b, <int64_t>x.c)
            elif x.kind == A_CREDIT:
                balance.on_ask(x.node, <int64_t>x.a, <int32_t>x.b)
            elif x.kind == A_HOLD:
                self._add(self._out(me, x.node), M_HOLD, <int>x.b - 1, <int64_t>x.d, <int64_t><size_t>x.slot, x.c)
            elif x.kind == A_LOST:
                self._add(self._out(me, x.node), M_LOST, <int>x.a - 1, <int64_t>x.b, 0, 0)
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
