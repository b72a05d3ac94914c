"""Who has work among the brokers of a federation; see the prose in federation.pxd.

One rule: a hungry broker asks for what its own nodes can take, never for half of somebody's backlog, so the backlog
stays near its owner. Whom it asks is the fuller of two that have hinted at work, or the last that gave, or anybody. A
broker that has nothing names the fullest that it knows, and parks the asker: what comes up meanwhile is for it.
After three tries in vain comes a pause that doubles; a fresh hint ends it. Nothing here is a promise: a hint
that is lost, and an ask that is never answered, cost time. Measured and compared in docs/federation.md.
"""

from libc.stdlib cimport free, realloc
from libc.string cimport memset

from scoop._core.outbox cimport A_ASK, A_CREDIT, A_HINT, A_REFUSE
from scoop._core.table cimport mix64, table_free, table_get, table_put

cdef enum:
    PARK_US = 20000             # how long an asker waits here for what may come up
    ANSWER_US = 1000            # and how long it waits for us before it asks another
    TRIES_MAX = 3               # asks in a row that may fail before there is a pause
    BACKOFF_MIN_US = 200        # the first pause; each one after it is twice as long
    BACKOFF_LEAST_US = 1000     # the longest pause is a tenth of a task's run time, but no less than this
    BACKOFF_MOST_US = 10000     # and no more than this
    ROUNDS_BUSY = 64            # after so many rounds in vain the job is idle, and so are we
    BACKOFF_IDLE_US = 1000000   # the longest pause then
    HINT_EVERY_US = 11000       # times the subscribers
    HINT_AGAIN_US = 800000      # what has not changed is said again, before it expires with those who heard it
    HINT_EXPIRES_US = 2000000   # what is older says nothing
    UNKNOWN_US = 10000          # a task's run time while none is known


cdef class Federation:
    """The other brokers of the federation, as one broker sees them.

    Args:
        out: where the decisions go.
        seed: of the dice; any number.
    """

    def __cinit__(self, Outbox out not None, uint64_t seed=1):
        self.out = out
        self.rng = mix64(seed)
        self.asked = -1
        self.referred = -1
        self.giver = -1
        self.backoff_us = BACKOFF_MIN_US

    def __dealloc__(self):
        free(self.far)
        table_free(&self.by_slot)

    cdef uint64_t _random(self) noexcept nogil:
        self.rng += <uint64_t>0x9E3779B97F4A7C15
        return mix64(self.rng)

    cdef far_t *_of(self, int slot) noexcept nogil:
        cdef size_t index = <size_t>table_get(&self.by_slot, <uint64_t>slot + 1)
        return &self.far[index - 1] if index else NULL

    # ----------------------------------------------------------------------------------------- members

    cdef int on_peer(self, uint64_t number, int slot, bint neighbour) noexcept nogil:
        cdef far_t *far = self._of(slot)
        cdef far_t *more
        cdef int cap
        if far == NULL:
            if self.count == self.cap:
                cap = self.cap * 2 if self.cap else 16
                more = <far_t *>realloc(self.far, cap * sizeof(far_t))
                if more == NULL:
                    return -1
                self.far = more
                self.cap = cap
            if table_put(&self.by_slot, <uint64_t>slot + 1, <void *><size_t>(self.count + 1)) < 0:
                return -1
            far = &self.far[self.count]
            memset(far, 0, sizeof(far_t))
            far.number = number
            far.slot = slot
            self.count += 1
        if not far.alive:
            far.alive = 1
            self.alive += 1
            far.hint_seq = 0        # another process may count from the beginning
            far.neighbour = neighbour
            self.neighbours += neighbour
            self.quiet_until = 0
        return 0

    cdef void on_gone(self, int slot) noexcept nogil:
        cdef far_t *far = self._of(slot)
        if far == NULL or not far.alive:
            return
        far.alive = 0
        self.alive -= 1
        self.neighbours -= far.neighbour
        far.hint_until = 0
        if far.parked_until:
            far.parked_until = 0
            self.parked -= 1
        if self.asked >= 0 and &self.far[self.asked] == far:
            self.asked = -1
        if self.giver >= 0 and &self.far[self.giver] == far:
            self.giver = -1

    # ----------------------------------------------------------------------------- what others tell

    cdef void on_hint(self, int slot, uint64_t seq, int64_t tasks, uint64_t now) noexcept nogil:
        cdef far_t *far = self._of(slot)
        if far == NULL or not far.alive or seq <= far.hint_seq:
            return                  # an older one, overtaken
        self.hints_heard += 1
        far.hint_seq = seq
        far.hint_tasks = tasks
        far.hint_until = now + HINT_EXPIRES_US
        if tasks > 0 and self.asked < 0:
            self.quiet_until = 0
            self.rounds = 0

    cdef void on_ask(self, int slot, int64_t need_us, int32_t idle, int64_t tasks, int64_t work_us,
                     uint64_t now) noexcept nogil:
        cdef far_t *far = self._of(slot)
        cdef int fullest
        if far == NULL or not far.alive:
            return
        if far.parked_until == 0:
            self.parked += 1
            if self.parked == 1:
                self.unpark_at = now + PARK_US      # later ones wait longer
        far.parked_until = now + PARK_US
        far.parked_us = need_us
        far.parked_idle = idle
        far.hint_tasks = 0          # it lacks work itself
        if tasks <= 0:
            fullest = self._fullest(slot, now)
            self.refusals += 1
            self.out.put(A_REFUSE, slot, NULL, self.far[fullest].number if fullest >= 0 else 0, 0, 0, 0)
        self._grant(far, tasks, work_us)

    cdef void _grant(self, far_t *far, int64_t tasks, int64_t work_us) noexcept nogil:
        # No more than it needs, and no more than its share of what there is; one task at least.
        cdef int64_t mean = work_us // tasks if tasks > 0 and work_us > 0 else <int64_t>self.mean_us
        cdef int64_t share, wanted
        if mean <= 0:
            mean = UNKNOWN_US
        share = max(1, tasks // max(1, self.parked))
        wanted = min(max(far.parked_idle, (far.parked_us + mean - 1) // mean), share)
        self.out.put(A_CREDIT, far.slot, NULL, <uint64_t>(max(1, wanted) * mean),
                     <uint64_t>min(<int64_t>far.parked_idle, max(1, wanted)), 0, 0)

    cdef void on_refuse(self, int slot, uint64_t referral, uint64_t now) noexcept nogil:
        cdef far_t *far = self._of(slot)
        cdef int i
        if far == NULL or self.asked < 0 or &self.far[self.asked] != far:
            return                  # of an ask that is over
        far.hint_tasks = 0
        if self.giver >= 0 and &self.far[self.giver] == far:
            self.giver = -1
        if self.tries < TRIES_MAX:
            for i in range(self.count):
                if referral and self.far[i].number == referral and self.far[i].alive:
                    self.referred = i
        self._failed(now)

    cdef void on_task(self, int slot, uint64_t est_us, bint came, uint64_t now) noexcept nogil:
        cdef far_t *far = self._of(slot)
        self.mean_us = est_us if self.mean_us == 0 else (7 * self.mean_us + est_us) >> 3
        if far == NULL or not came:
            return
        # The last giver is believed to have more, until it refuses. Only the last: if all who ever gave had to refuse
        # before anybody else is asked, the end of a tree would take twice as long.
        self.giver = <int>(far - self.far)
        if far.hint_tasks > 1:
            far.hint_tasks -= 1
        if self.asked >= 0 and &self.far[self.asked] == far:
            self.asked = -1
        self.tries = 0
        self.rounds = 0
        self.backoff_us = BACKOFF_MIN_US
        self.quiet_until = 0

    # --------------------------------------------------------------------------------------- deciding

    cdef int _fullest(self, int but, uint64_t now) noexcept nogil:
        cdef int i, best = -1
        for i in range(self.count):
            if self.far[i].alive and self.far[i].slot != but and self.far[i].hint_until > now and (
                    self.far[i].hint_tasks > (self.far[best].hint_tasks if best >= 0 else 0)):
                best = i
        if best < 0 and self.giver >= 0 and self.far[self.giver].slot != but:
            return self.giver
        return best

    cdef int _victim(self, uint64_t now) noexcept nogil:
        # Power of two among those that have hinted at work; else anybody.
        cdef int i, index, found = 0, first = -1, second = -1
        if self.referred >= 0 and self.far[self.referred].alive:
            index = self.referred
            self.referred = -1
            return index
        self.referred = -1
        for i in range(self.count):
            if self.far[i].alive and self.far[i].hint_until > now and self.far[i].hint_tasks > 0:
                found += 1
                # Each pair is as likely as any other: a reservoir of two.
                if first < 0:
                    first = i
                elif second < 0:
                    second = i
                else:
                    index = <int>(self._random() % <uint64_t>found)
                    if index == 0:
                        first = i
                    elif index == 1:
                        second = i
        if first >= 0:
            if second >= 0 and self.far[second].hint_tasks > self.far[first].hint_tasks:
                return second
            return first
        if self.giver >= 0:
            return self.giver
        if self.alive == 0:
            return -1
        index = <int>(self._random() % <uint64_t>self.count)
        for i in range(self.count):
            if self.far[(index + i) % self.count].alive:
                return (index + i) % self.count
        return -1

    cdef void _failed(self, uint64_t now) noexcept nogil:
        cdef uint64_t most
        self.asked = -1
        self.tries += 1
        if self.tries < TRIES_MAX:
            self.quiet_until = 0
            return
        self.tries = 0
        self.rounds += 1
        most = self.mean_us // 10
        most = min(max(most, <uint64_t>BACKOFF_LEAST_US), <uint64_t>BACKOFF_MOST_US)
        if self.rounds > ROUNDS_BUSY:
            most = BACKOFF_IDLE_US
        self.quiet_until = now + self.backoff_us // 2 + self._random() % (self.backoff_us + 1)
        self.backoff_us = min(self.backoff_us * 2, most)

    cdef void _unpark(self, uint64_t now) noexcept nogil:
        cdef int i
        cdef far_t *far
        if self.parked == 0:
            return
        if now < self.unpark_at:
            self._look_again(self.unpark_at)    # nobody's time is over: a thousand need not be looked at in each turn
            return
        self.unpark_at = now + PARK_US
        for i in range(self.count):
            far = &self.far[i]
            if far.parked_until > now:
                self.unpark_at = min(self.unpark_at, far.parked_until)
            elif far.parked_until:
                far.parked_until = 0
                self.parked -= 1
                self.out.put(A_CREDIT, far.slot, NULL, 0, 0, 0, 0)
        if self.parked:
            self._look_again(self.unpark_at)

    cdef void _hint(self, int64_t tasks, int64_t work_us, uint64_t now) noexcept nogil:
        cdef bint crossing = (tasks > 0) != (self.told_tasks > 0)
        if self.neighbours == 0:
            return
        if not crossing and tasks <= 2 * self.told_tasks and 2 * tasks >= self.told_tasks and (
                tasks == 0 or now < self.told_at + HINT_AGAIN_US):
            if tasks:
                self._look_again(self.told_at + HINT_AGAIN_US)
            return
        if self.told_at and now < self.told_at + HINT_EVERY_US * <uint64_t>self.neighbours:
            self._look_again(self.told_at + HINT_EVERY_US * <uint64_t>self.neighbours)
            return
        self.told_tasks = tasks
        self.told_at = now
        self.seq += 1
        self.out.put(A_HINT, -1, NULL, <uint64_t>tasks, <uint64_t>work_us, self.seq, 0)

    cdef void decide(self, int64_t lack_us, int32_t idle, int64_t tasks, int64_t work_us, uint64_t now) noexcept nogil:
        cdef int victim
        cdef int64_t need_us = lack_us - work_us
        cdef int64_t hungry = max(<int64_t>0, idle - tasks)
        self.again_at = 0
        self._unpark(now)
        if self.asked >= 0 and now >= self.asked_until:
            self._failed(now)
        # What the nodes here need is no work for others; others are asked for what is lacking then.
        if lack_us > 0:
            work_us = max(<int64_t>0, work_us - lack_us)
            tasks = tasks * work_us // max(<int64_t>1, work_us + lack_us)
        self._hint(max(<int64_t>0, tasks), max(<int64_t>0, work_us), now)
        if self.asked >= 0:
            self._look_again(self.asked_until)
            return
        if need_us <= 0 and hungry == 0:
            return
        if now < self.quiet_until:
            self._look_again(self.quiet_until)
            return
        victim = self._victim(now)
        if victim < 0:
            return
        self.asked = victim
        self.asked_until = now + ANSWER_US
        self._look_again(self.asked_until)
        self.asks += 1
        self.out.put(A_ASK, self.far[victim].slot, NULL, <uint64_t>max(<int64_t>1, need_us), <uint64_t>hungry, 0, 0)

    cdef void _look_again(self, uint64_t at) noexcept nogil:
        if self.again_at == 0 or at < self.again_at:
            self.again_at = at

    cdef uint64_t next_us(self) noexcept nogil:
        return self.again_at

    # ----------------------------------------------------------------------------------- introspection

    def validate(self):
        """Check the invariants; raises AssertionError when one is broken."""
        cdef int i, alive = 0, parked = 0, neighbours = 0
        for i in range(self.count):
            alive += self.far[i].alive
            parked += self.far[i].parked_until != 0
            neighbours += self.far[i].alive and self.far[i].neighbour
            assert self.far[i].alive or self.far[i].parked_until == 0, "a dead broker is parked"
        assert alive == self.alive, f"{alive} brokers are alive, {self.alive} are counted"
        assert parked == self.parked, f"{parked} brokers are parked, {self.parked} are counted"
        assert neighbours == self.neighbours, f"{neighbours} neighbours, {self.neighbours} are counted"
        assert self.giver < 0 or self.far[self.giver].alive, "a dead broker is believed to have work"
        assert self.asked < 0 or self.far[self.asked].alive, "a dead broker is asked"

    def statistics(self):
        """Return counters: brokers, parked, asks, refusals, hints_heard."""
        return {"brokers": self.alive, "parked": self.parked, "asks": self.asks, "refusals": self.refusals,
                "hints_heard": self.hints_heard}
