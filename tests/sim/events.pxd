"""The simulated clock: an event queue, links between processes, a generator. Words only, no Python objects."""

from libc.stdint cimport uint32_t, uint64_t

from scoop._core.wire cimport buf_t

cdef enum event_kind_t:
    E_FRAME = 1         # a frame arrives; `ptr` is the message_t
    E_STEP = 2          # the main thread has used its time; `arg` its generation
    E_TIMER = 3         # the driver thread's timer
    E_BLOCK = 4         # a time limit inside a wait; `arg` its generation
    E_FAULT = 5         # the plan's fault number `arg`
    E_REPORT = 6        # the agent tells of a death; `arg` the dead process
    E_SPAWN = 7         # the agent's replacement starts
    E_TURN = 8          # a broker has something to receive (`arg` 0), or its timer of that generation
    E_PAUSED = 9        # a stopped process goes on
    E_DRIVE = 10        # the driver thread looks for stalled calls; `arg` its generation
    E_GONE = 11         # a broker is told that broker `arg` is gone
    E_END_HOST = 12     # all processes of host `arg` end
    E_SUCCEED = 13      # another broker takes the place of the one of host `arg`

cdef struct event_t:
    uint64_t at
    uint64_t seq        # equal times keep the order in which they were put
    int kind
    int proc            # of a process; below 0: -1 - the index of a broker
    uint64_t arg
    void *ptr

cdef struct queue_t:
    event_t *heap
    size_t size
    size_t cap
    uint64_t now
    uint64_t seq
    uint64_t popped

cdef struct link_t

cdef struct message_t:
    message_t *next
    message_t *before   # all messages on their way, for the checkers
    message_t *after
    link_t *link
    uint64_t nr
    size_t size
    char data[0]

# One direction between two processes; first in, first out.
cdef struct link_t:
    queue_t *queue
    int to
    uint64_t source         # incarnation of the sender
    uint64_t delay_ns
    uint64_t jitter_ns
    uint64_t last_at
    uint64_t sent
    uint64_t delivered
    uint64_t limit          # messages after this one are lost
    uint64_t rng
    uint64_t hold_until     # nothing arrives before: the way is cut for a while
    uint64_t connects_at    # who dies before has sent nothing
    uint32_t loss           # of 1,000 messages so many are lost: hints only
    bint hints
    message_t *flying       # newest first

cdef void queue_put(queue_t *q, uint64_t at, int kind, int proc, uint64_t arg, void *ptr) noexcept nogil
cdef bint queue_pop(queue_t *q, event_t *event) noexcept nogil
cdef void link_send(link_t *link, buf_t *b) noexcept nogil
# Takes the message off its link; False when it was lost on the way (and is freed).
cdef bint link_arrived(message_t *message) noexcept nogil
cdef void link_free(link_t *link) noexcept nogil
cdef uint64_t rng_next(uint64_t *state) noexcept nogil
