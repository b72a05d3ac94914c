"""A broker's view of the other brokers: who has work, whom to ask, what to give. Pure.

Time is an argument, in microseconds of any clock that only grows. Brokers are named by their slot in the balance.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t

from scoop._core.outbox cimport Outbox
from scoop._core.table cimport table_t

cdef struct far_t:
    uint64_t number
    int32_t slot            # of the balance
    uint8_t alive
    uint8_t neighbour       # hears our hints, and we hear its own
    uint64_t hint_seq
    int64_t tasks           # what it had beyond its own need, as far as is known here
    uint64_t at             # and when that was
    uint64_t told_turn      # in which it was told what is left here
    uint64_t asked_at       # our ask that it has not answered; 0: none
    uint8_t waits           # what has become of its ask
    uint8_t listed          # in `likely`
    uint64_t parked_until   # it has asked and waits; 0: not
    int32_t parked_idle
    int64_t parked_us

cdef class Federation:
    cdef Outbox out
    cdef far_t *far
    cdef readonly int count                 # brokers known, dead ones included
    cdef readonly int alive
    cdef readonly int neighbours
    cdef int cap
    cdef int *likely                        # indexes of those that had work when last heard of
    cdef int likely_count
    cdef table_t by_slot                    # slot + 1 -> index + 1
    cdef uint64_t rng
    cdef int asked                          # index of whom we wait for, -1: nobody
    cdef uint64_t asked_until
    cdef uint64_t answer_us                 # how long the answers take, rather the quick ones
    cdef int tries                          # in this round
    cdef uint64_t quiet_until               # no asking before
    cdef uint64_t backoff_us
    cdef int rounds                         # in a row without success
    cdef uint64_t turn                      # counts decisions
    cdef readonly int64_t left_tasks        # what is here beyond our own need
    cdef int waiting                        # how many have asked and got nothing yet
    cdef int promised                       # those for whom there was something when they asked
    cdef int parked                         # how many wait here
    cdef uint64_t unpark_at                 # nobody's time is over before
    cdef uint64_t mean_us                   # of tasks that came or went, 0 while unknown
    cdef int64_t told_tasks                 # our last hint
    cdef uint64_t told_at
    cdef uint64_t seq
    cdef uint64_t again_at                  # when `decide` is to be called although nothing happens; 0: never
    cdef readonly uint64_t asks
    cdef readonly uint64_t refusals
    cdef readonly uint64_t hints_heard

    cdef int on_peer(self, uint64_t number, int slot, bint neighbour) noexcept nogil
    cdef void on_gone(self, int slot) noexcept nogil
    cdef void on_hint(self, int slot, uint64_t seq, int64_t tasks, uint64_t now) noexcept nogil
    # Someone asks; `tasks` and `work_us` are what is here, `lack_us` and `ahead_us` as in `decide`.
    cdef void on_ask(self, int slot, int64_t need_us, int32_t idle, int64_t lack_us, int64_t tasks, int64_t work_us,
                     int64_t ahead_us, uint64_t now) noexcept nogil
    # It has nothing; the broker `referral` had `tasks`, `age_us` ago.
    cdef void on_refuse(self, int slot, uint64_t referral, int64_t tasks, uint64_t age_us,
                        uint64_t now) noexcept nogil
    # A task goes to a peer; True: that is to be told `left_tasks`, too.
    cdef bint on_given(self, int slot, uint64_t est_us) noexcept nogil
    # What a giver says that it has left.
    cdef void on_load(self, int slot, int64_t tasks, uint64_t now) noexcept nogil
    # A task came from a peer.
    cdef void on_task(self, int slot, uint64_t est_us, uint64_t now) noexcept nogil
    # Ask, hint, end what has waited too long. `lack_us` and `idle` are what the nodes here could take, `ahead_us` what
    # they are about to.
    cdef void decide(self, int64_t lack_us, int32_t idle, int64_t tasks, int64_t work_us, int64_t ahead_us,
                     uint64_t now) noexcept nogil
    # When to decide again although nothing happens; 0: never.
    cdef uint64_t next_us(self) noexcept nogil

    cdef void _look_again(self, uint64_t at) noexcept nogil
    cdef far_t *_of(self, int slot) noexcept nogil
    cdef uint64_t _random(self) noexcept nogil
    cdef void _beyond(self, int64_t lack_us, int64_t *tasks, int64_t *work_us) noexcept nogil
    cdef void _answered(self, far_t *far, uint64_t now) noexcept nogil
    cdef void _note_run_time(self, uint64_t est_us) noexcept nogil
    cdef void _set_waits(self, far_t *far, uint8_t waits) noexcept nogil
    cdef void _refuse(self, far_t *far, uint64_t now) noexcept nogil
    cdef void _break_promises(self, uint64_t now) noexcept nogil
    cdef int64_t _belief(self, far_t *far, uint64_t now) noexcept nogil
    cdef void _learn(self, far_t *far, int64_t tasks, uint64_t at) noexcept nogil
    cdef void _unlist(self, int i) noexcept nogil
    cdef int _victim(self, uint64_t now) noexcept nogil
    cdef int _drawn(self, int but, int64_t others, uint64_t now) noexcept nogil
    cdef void _grant(self, far_t *far, int64_t tasks, int64_t work_us) noexcept nogil
    cdef void _unpark(self, uint64_t now) noexcept nogil
    cdef void _failed(self, uint64_t now) noexcept nogil
    cdef void _hint(self, int64_t tasks, int64_t work_us, uint64_t now) noexcept nogil
