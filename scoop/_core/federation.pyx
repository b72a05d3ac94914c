"""Who has work among the brokers of a federation; see the prose in federation.pxd.

One rule: a hungry broker asks for what its own nodes can take or are about to need, never for half of somebody's
backlog, so the backlog stays near its owner. Whom it asks is drawn by what it believes of each: what that one hinted
at, what it said it had left when it gave, what somebody else has heard of it, all worth less with age; in a large
federation sometimes anybody, where nothing is known always. A broker that has nothing names one, drawn in the same
way, passes half of what it believes of that one on, and parks the asker: what comes up meanwhile is for it. So does
one whose last task has gone to another asker.
After some tries in vain comes a pause that doubles; a fresh hint ends it. Nothing here is a promise that anything
depends on: a hint that is lost, and an ask that is never answered, cost time. Measured and compared in
docs/federation.md.
"""

from libc.stdlib cimport free, realloc
from libc.string cimport memset

from scoop._core.outbox cimport A_ASK, A_CREDIT, A_HINT, A_REFUSE
from scoop._core.table cimport mix64, table_free, table_get, table_put

cdef enum:
    PARK_US = 20000             # how long an asker waits here for what may come up
    ANSWER_US = 1000            # and how long one waits for an answer before the next is asked, or two round trips
    ANSWER_UNKNOWN_US = 10000   # how long a round trip takes until one is known
    ANSWER_MOST_US = 1000000    # nobody waits longer than this
    TRIES_MAX = 6               # asks in a row that may fail before there is a pause
    BACKOFF_MIN_US = 200        # the first pause; each one after it is twice as long
    BACKOFF_LEAST_US = 1000     # the longest pause is a tenth of a task's run time, but no less than this
    BACKOFF_MOST_US = 10000     # and no more than this
    ROUNDS_BUSY = 64            # after so many rounds in vain the job is idle, and so are we
    BACKOFF_IDLE_US = 1000000   # the longest pause then
    HINT_EVERY_US = 12000       # times the subscribers
    HINT_AGAIN_US = 800000      # what has not changed is said again, before it expires with those who heard it
    BELIEF_PART = 10            # what was heard is worth half after a tenth of a task's run time
    BELIEF_LEAST_US = 500       # but not sooner than this
    ANYBODY_PER = 64            # of so many brokers an unknown one is believed to have a task
    TASKS_MAX = 1 << 20         # nobody is believed to have more
    UNKNOWN_US = 10000          # a task's run time while none is known

cdef enum:
    # What has become of a broker's ask.
    SERVED                      # it has got something, or there is none
    REFUSED
    PROMISED                    # there was something when it came


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
        self.answer_us = ANSWER_UNKNOWN_US
        self.backoff_us = BACKOFF_MIN_US

    def __dealloc__(self):
        free(self.far)
        free(self.likely)
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
        cdef int *likely
        cdef int cap
        if far == NULL:
            if self.count == self.cap:
                cap = self.cap * 2 if self.cap else 16
                more = <far_t *>realloc(self.far, cap * sizeof(far_t))
                if more == NULL:
                    return -1
                self.far = more
                likely = <int *>realloc(self.likely, cap * sizeof(int))
                if likely == NULL:
                    return -1
                self.likely = likely
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
            far.at = 0
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
        far.tasks = 0
        far.asked_at = 0
        self._set_waits(far, SERVED)
        if far.parked_until:
            far.parked_until = 0
            self.parked -= 1
        if self.asked >= 0 and &self.far[self.asked] == far:
            self.asked = -1

    # ----------------------------------------------------------------------------- what others tell

    cdef void _learn(self, far_t *far, int64_t tasks, uint64_t at) noexcept nogil:
        if at < far.at:
            return
        far.tasks = max(<int64_t>0, min(tasks, <int64_t>TASKS_MAX))
        far.at = at
        if tasks > 0 and not far.listed:
            far.listed = 1
            self.likely[self.likely_count] = <int>(far - self.far)
            self.likely_count += 1

    cdef int64_t _belief(self, far_t *far, uint64_t now) noexcept nogil:
        # What is heard of is worth less the older it is.
        cdef uint64_t mean = self.mean_us if self.mean_us else UNKNOWN_US
        cdef uint64_t halves = (now - far.at) // max(mean // BELIEF_PART, <uint64_t>BELIEF_LEAST_US)
        return far.tasks >> halves if far.alive and halves < 63 else 0

    cdef void on_hint(self, int slot, uint64_t seq, int64_t tasks, uint64_t now) noexcept nogil:
        cdef far_t *far = self._of(slot)
        if far == NULL or not far.alive or seq <= far.hint_seq:
            return                  # an older one, overtaken
        self.hints_heard += 1
        far.hint_seq = seq
        self._learn(far, tasks, now)
        if tasks > 0 and self.asked < 0:
            self.quiet_until = 0
            self.rounds = 0

    cdef void _beyond(self, int64_t lack_us, int64_t *tasks, int64_t *work_us) noexcept nogil:
        # What the nodes here need is no work for others.
        if lack_us > 0 and work_us[0] > 0:
            tasks[0] = tasks[0] * max(<int64_t>0, work_us[0] - lack_us) // work_us[0]
            work_us[0] = max(<int64_t>0, work_us[0] - lack_us)

    cdef void on_ask(self, int slot, int64_t need_us, int32_t idle, int64_t lack_us, int64_t tasks, int64_t work_us,
                     int64_t ahead_us, uint64_t now) noexcept nogil:
        cdef far_t *far = self._of(slot)
        if far == NULL or not far.alive:
            return
        # Two that both think ahead would send the same tasks to and fro.
        self._beyond(lack_us if idle else lack_us + ahead_us, &tasks, &work_us)
        if far.parked_until == 0:
            self.parked += 1
            if self.parked == 1:
                self.unpark_at = now + PARK_US      # later ones wait longer
        far.parked_until = now + PARK_US
        far.parked_us = need_us
        far.parked_idle = idle
        self._learn(far, 0, now)    # it lacks work itself
        self._set_waits(far, PROMISED)
        if tasks <= 0:
            self._refuse(far, now)
        self._grant(far, tasks, work_us)

    cdef void _set_waits(self, far_t *far, uint8_t waits) noexcept nogil:
        self.waiting += (waits != SERVED) - (far.waits != SERVED)
        self.promised += (waits == PROMISED) - (far.waits == PROMISED)
        far.waits = waits

    cdef void _refuse(self, far_t *far, uint64_t now) noexcept nogil:
        # What is passed on is no longer ours: where all that were refused went to the fullest that anybody knew,
        # hundreds waited for a broker that had a few tasks.
        cdef int named = self._drawn(far.slot, 0, now)
        cdef int64_t told
        self.refusals += 1
        self._set_waits(far, REFUSED)
        if named >= 0:
            told = (self.far[named].tasks + 1) // 2
            self.far[named].tasks -= told
            self.out.put(A_REFUSE, far.slot, NULL, self.far[named].number, <uint64_t>told,
                         now - self.far[named].at, 0)
        else:
            self.out.put(A_REFUSE, far.slot, NULL, 0, 0, 0, 0)

    cdef void _break_promises(self, uint64_t now) noexcept nogil:
        # What was there when they asked has gone another way: they are to ask elsewhere at once.
        cdef int i
        for i in range(self.count):
            if self.far[i].waits == PROMISED:
                self._refuse(&self.far[i], now)

    cdef void _grant(self, far_t *far, int64_t tasks, int64_t work_us) noexcept nogil:
        # No more than it needs, and no more than its share of what there is; one task at least.
        cdef int64_t mean = work_us // tasks if tasks > 0 and work_us > 0 else <int64_t>self.mean_us
        cdef int64_t share, wanted
        if mean <= 0:
            mean = UNKNOWN_US
        share = max(1, tasks // max(1, self.waiting))
        wanted = min(max(far.parked_idle, (far.parked_us + mean - 1) // mean), share)
        self.out.put(A_CREDIT, far.slot, NULL, <uint64_t>(max(1, wanted) * mean),
                     <uint64_t>min(<int64_t>far.parked_idle, max(1, wanted)), 0, 0)

    cdef void _answered(self, far_t *far, uint64_t now) noexcept nogil:
        # A link may take long. Who waits too short for an answer asks everybody, and gets from everybody.
        cdef uint64_t took
        if far.asked_at == 0:
            return
        took = now - far.asked_at
        far.asked_at = 0
        if took < self.answer_us:
            self.answer_us = took
        else:
            self.answer_us += (took - self.answer_us) >> 4

    cdef void on_refuse(self, int slot, uint64_t referral, int64_t tasks, uint64_t age_us,
                        uint64_t now) noexcept nogil:
        cdef far_t *far = self._of(slot)
        cdef int i
        if far == NULL:
            return
        self._answered(far, now)
        if self.asked < 0 or &self.far[self.asked] != far:
            return                  # of an ask that is over
        self._learn(far, 0, now)
        if referral:
            for i in range(self.count):
                if self.far[i].number == referral and self.far[i].alive:
                    self._learn(&self.far[i], tasks, now - min(age_us, now))
        self._failed(now)

    cdef bint on_given(self, int slot, uint64_t est_us) noexcept nogil:
        cdef far_t *far = self._of(slot)
        self._note_run_time(est_us)
        if far == NULL:
            return False
        self._set_waits(far, SERVED)
        if far.told_turn == self.turn:
            return False
        far.told_turn = self.turn
        return True

    cdef void on_load(self, int slot, int64_t tasks, uint64_t now) noexcept nogil:
        cdef far_t *far = self._of(slot)
        if far != NULL and far.alive:
            self._learn(far, tasks, now)

    cdef void _note_run_time(self, uint64_t est_us) noexcept nogil:
        self.mean_us = est_us if self.mean_us == 0 else (7 * self.mean_us + est_us) >> 3

    cdef void on_task(self, int slot, uint64_t est_us, uint64_t now) noexcept nogil:
        cdef far_t *far = self._of(slot)
        self._note_run_time(est_us)
        if far == NULL:
            return
        self._answered(far, now)
        if far.tasks > 1:
            far.tasks -= 1
        if self.asked >= 0 and &self.far[self.asked] == far:
            self.asked = -1
        self.tries = 0
        self.rounds = 0
        self.backoff_us = BACKOFF_MIN_US
        self.quiet_until = 0

    # --------------------------------------------------------------------------------------- deciding

    cdef int _drawn(self, int but, int64_t others, uint64_t now) noexcept nogil:
        # By what is believed of each; -1 is drawn with the weight of `others`, and where nothing is believed.
        cdef int i = 0, index
        cdef int64_t belief, drawn
        cdef int64_t total = others
        while i < self.likely_count:
            index = self.likely[i]
            belief = self._belief(&self.far[index], now)
            if belief <= 0:
                self._unlist(i)
                continue
            i += 1
            if self.far[index].slot != but:
                total += belief
        if total == 0:
            return -1
        drawn = <int64_t>(self._random() % <uint64_t>total)
        for i in range(self.likely_count):
            index = self.likely[i]
            if self.far[index].slot != but:
                drawn -= self._belief(&self.far[index], now)
                if drawn < 0:
                    return index
        return -1

    cdef void _unlist(self, int i) noexcept nogil:
        self.far[self.likely[i]].listed = 0
        self.far[self.likely[i]].tasks = 0
        self.likely_count -= 1
        self.likely[i] = self.likely[self.likely_count]

    cdef int _victim(self, uint64_t now) noexcept nogil:
        # In a large federation anybody has a weight, too.
        cdef int i
        cdef int index = self._drawn(-1, self.alive // ANYBODY_PER, now)
        if index >= 0 or self.alive == 0:
            return index
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
                self._set_waits(far, SERVED)
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

    cdef void decide(self, int64_t lack_us, int32_t idle, int64_t tasks, int64_t work_us, int64_t ahead_us,
                     uint64_t now) noexcept nogil:
        cdef int victim
        cdef int64_t need_us = lack_us + ahead_us - work_us
        cdef int64_t hungry = max(<int64_t>0, idle - tasks)
        self.again_at = 0
        self._unpark(now)
        if self.promised and tasks <= 0:
            self._break_promises(now)
        if self.asked >= 0 and now >= self.asked_until:
            self._failed(now)
        self._beyond(lack_us, &tasks, &work_us)
        self.turn += 1
        self.left_tasks = max(<int64_t>0, tasks)
        self._hint(self.left_tasks, max(<int64_t>0, work_us), now)
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
        self.far[victim].asked_at = now
        self.asked_until = now + max(<uint64_t>ANSWER_US, min(2 * self.answer_us, <uint64_t>ANSWER_MOST_US))
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
        cdef int i, alive = 0, parked = 0, neighbours = 0, waiting = 0, promised = 0
        for i in range(self.count):
            alive += self.far[i].alive
            parked += self.far[i].parked_until != 0
            neighbours += self.far[i].alive and self.far[i].neighbour
            waiting += self.far[i].waits != SERVED
            promised += self.far[i].waits == PROMISED
            assert self.far[i].alive or self.far[i].parked_until == 0, "a dead broker is parked"
            assert self.far[i].alive or self.far[i].tasks == 0, "a dead broker is believed to have work"
            assert self.far[i].tasks <= 0 or self.far[i].listed, "what is believed of a broker is not looked at"
        assert alive == self.alive, f"{alive} brokers are alive, {self.alive} are counted"
        assert parked == self.parked, f"{parked} brokers are parked, {self.parked} are counted"
        assert neighbours == self.neighbours, f"{neighbours} neighbours, {self.neighbours} are counted"
        assert waiting == self.waiting, f"{waiting} brokers have got nothing yet, {self.waiting} are counted"
        assert promised == self.promised, f"{promised} brokers expect something, {self.promised} are counted"
        assert self.asked < 0 or self.far[self.asked].alive, "a dead broker is asked"

    def statistics(self):
        """Return counters: brokers, parked, asks, refusals, hints_heard."""
        return {"brokers": self.alive, "parked": self.parked, "asks": self.asks, "refusals": self.refusals,
                "hints_heard": self.hints_heard}
