"""Simulated time, and what the model is made of. Times are nanoseconds."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint64_t


cdef enum:
    BROKER_LINK_NS = 50000
    WORKER_LINK_NS = 30000
    WAKE_NS = 14000
    MESSAGE_NS = 700
    TASK_NS = 400
    ORIGIN_TASK_NS = 1300
    WORKER_TASK_NS = 1100
    TASK_BYTES = 120            # at 1 GB/s a byte is a nanosecond
    ROOM_US = 1000
    LONG_US = 2000              # behind a task as long as this the next one is asked for only shortly before its end
    GIVE_NS = 100000            # until a thread that runs a task gives away what is wanted
    SPAWN_NS = 1000             # for each child that an inner node makes
    FAN = 8
    BATCH = 256
    HOPS_MAX = 16               # as in localq.pyx
    DETECT_NS = 20000000        # until the death of a host is known

cdef enum:
    BUCKETS = 16384
    BUCKET_BITS = 17            # of nanoseconds: 131 us

cdef enum:
    M_TASK
    M_RESULT
    M_REQUEST
    M_SURPLUS
    M_WANT
    M_ASK
    M_REFUSE
    M_HINT
    M_LOAD
    M_HOLD
    M_LOST
    M_CANCEL

cdef enum:
    E_BROKER            # a message for a broker
    E_NODE              # a message for a worker, or for the origin
    E_TURN              # a broker has the time
    E_TIMER             # a broker wants to look again
    E_END               # a worker's task is over
    E_GIVE              # a busy worker gives away
    E_ASK               # a worker's task is about to end
    E_DIE
    E_GONE              # all others hear of it

cdef struct item_t:
    int32_t kind
    int32_t task
    int64_t a
    int64_t b
    int64_t c

cdef struct message_t:
    message_t *next
    int32_t source              # slot at the broker that receives it; -1: nobody in particular
    int32_t size
    int32_t cap
    item_t *items

cdef struct event_t:
    int64_t at
    uint64_t nr
    int32_t kind
    int32_t to
    void *ptr
    int64_t arg

cdef struct bucket_t:
    event_t *events
    int32_t size
    int32_t cap

cdef struct task_t:
    int64_t run_ns
    int32_t parent              # task, -1: none
    int32_t owner               # node
    int32_t leaves              # below it; 0 or 1: a leaf
    int32_t pending             # children that are not over
    int32_t runner              # node that has it or had it last
    uint8_t hops
    uint8_t over
    uint16_t life               # grows when it is issued again
    uint16_t parent_life        # a child of an older life of its parent counts for nothing

cdef struct node_t:
    int32_t broker
    int32_t slot
    uint64_t incarnation
    int32_t *own                # newest last
    int32_t own_head
    int32_t own_size
    int32_t own_cap
    int32_t[64] queue
    int32_t queue_head
    int32_t queue_size
    int32_t running             # -1: nothing
    int64_t room_us
    int64_t want_us
    int64_t want_idle
    int64_t told
    int64_t free_at             # the origin's thread
    uint8_t asked_idle
    uint8_t giving
    uint8_t alive
    int64_t busy_ns
    int64_t began               # the running task
    int32_t generation          # grows when it dies: events of the dead are ignored

cdef struct broker_t:
    message_t *inbox
    message_t *inbox_last
    int64_t busy_until
    int64_t timer_at
    uint8_t turning
    uint8_t alive
    message_t **outs            # by slot
    int32_t *dirty
    int32_t dirty_count
    int32_t *peer_of            # by slot: index of the broker, -1 for a node
    int32_t *node_of
    uint64_t hints
    uint64_t messages
    int32_t turns


cdef class World:
    cdef int broker_count, worker_count, node_count, task_count, task_cap
    cdef bint tree
    cdef int64_t mean_ns, now, finished, last_hello
    cdef uint64_t rng, events
    cdef message_t *spare               # messages that have been read, with their items' memory
    cdef list balances, federations, outboxes, heard
    cdef broker_t *brokers
    cdef node_t *nodes
    cdef task_t *tasks
    cdef event_t *heap
    cdef size_t heap_size, heap_cap
    cdef bucket_t *buckets
    cdef int64_t present                # events of this bucket and of those before it are in the heap
    cdef size_t waiting                 # events in buckets
    cdef uint64_t nr
    cdef int over, target, next_task
    cdef uint64_t moves, asks, duplicates
    cdef int64_t *need_at       # by broker: since when it waits for one that is loaded, -1: it does not
    cdef int32_t *need_of       # and the slot of that one
    cdef list need_waits
    cdef public int64_t work_ns
    cdef public int64_t slice_ns        # of the profile
    cdef list begun                     # work begun in each slice
    cdef int alive_brokers
    cdef int64_t lost_at, kept_ns       # when brokers died, and what was done by then for good
    cdef int64_t first_ns               # work that had to be done, without what was redone

    cdef void _free(self, message_t *m) noexcept
    cdef uint64_t _random(self) noexcept
    cdef int _new_task(self, int parent, int owner, int leaves) except -1
    cdef void _at(self, int64_t at, int kind, int to, void *ptr, int64_t arg) noexcept
    cdef void _push(self, const event_t *e) noexcept
    cdef void _open_next(self) noexcept
    cdef void _free_event(self, event_t *e) noexcept
    cdef bint _pop(self, event_t *e) noexcept
    cdef void _add(self, message_t **into, int kind, int task, int64_t a, int64_t b, int64_t c) noexcept
    cdef void _to_broker(self, node_t *n, message_t *m, int64_t at) noexcept
    cdef message_t **_out(self, broker_t *b, int slot) noexcept
