"""The record of one call, shared by the queue, the ledger, the driver and the Future. Words only.

An own call is embedded in its Future (`self_obj`); a task of another owner is a record on the heap
(`self_obj` NULL). Whoever removes a record from a container takes over the reference that it held.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

# The thread that opens a result looks at the state without the lock. What goes with a state is written before it, which
# a compiler only respects where it is told to.
cdef extern from * nogil:
    """
    #define scoop_set_state(state, value) __atomic_store_n((state), (value), __ATOMIC_RELEASE)
    #define scoop_state_of(state) __atomic_load_n((state), __ATOMIC_ACQUIRE)
    """
    void set_state "scoop_set_state"(uint8_t *state, uint8_t value)
    uint8_t state_of "scoop_state_of"(const uint8_t *state)

# Life of a call. Everything from S_DONE on is final.
cdef enum:
    S_WAITING = 0       # waits for futures among its arguments
    S_QUEUED = 1        # in a queue of this process
    S_RUNNING = 2       # runs in this process
    S_EXPORTED = 3      # given to the broker; the ledger knows it
    S_DONE = 4          # the future holds value or exception as an object
    S_ARRIVED = 5       # the result is here as bytes, not yet opened
    S_CANCELLED = 6

# Bits of `marks`: what this process has to do for the call besides keeping its state.
cdef enum:
    M_NOTIFY = 1        # Python code waits: condition, callbacks, dependents
    M_SUSPENDED = 2     # a greenlet waits for it
    M_PROMOTED = 4      # somebody waits who cannot run it
    M_ASKED = 8         # a CANCEL is under way
    M_CRASHED = 16      # a worker died while running it
    M_STARTED = 32      # the holder answered CANCEL: it runs already
    M_KEPT = 64         # cancel() has said no: a later answer cannot cancel it any more
    M_CLAIMED = 128     # T_ONCE: its owner has granted that it runs here

# The C side of a function's form.
cdef struct form_t:
    uint32_t number
    uint32_t shipped        # exported at least once
    uint64_t est_ns         # mean run time, 0 while unknown
    uint64_t runs           # here, and results from elsewhere
    const char *blob
    size_t blob_size

cdef struct call_t:
    void *self_obj
    uint64_t owner          # incarnation of the owner, 0: this process
    uint64_t id
    uint64_t lineage[2]
    uint64_t claimer        # own T_ONCE calls: who was granted to run it; 0: nobody yet
    uint64_t root[2]        # owner and id of the foreign task that submitted it, or whose descendant did
    uint32_t fn
    uint32_t est_us
    uint32_t items          # of a chunk of a map; 0 for a plain call
    uint16_t attempt
    uint8_t crashes
    uint8_t hops
    uint8_t state
    uint8_t flags           # T_ bits of wire
    uint8_t marks           # M_ bits
    uint8_t outcome         # of an arrived result
    uint32_t unknown_s      # since when its holder has answered that it does not know it, 0: it does
    char *data              # encoded arguments; when arrived, the result
    size_t size
    void *args              # borrowed tuple of scalars, encoded at export
    form_t *form            # own calls only
