"""How frames get to other hosts and from there: the sockets of a broker with peers."""

from libc.stdint cimport uint8_t, uint64_t

from scoop._core.broker cimport Broker
from scoop._core.curve cimport Gate, Keys, Porter
from scoop._core.links cimport link_t
from scoop._core.net cimport Context, Socket
from scoop._core.wire cimport record_t

# How frames get to a node.
cdef enum:
    WAY_LOCAL = 0       # by the socket of this host
    WAY_DOOR = 1        # it has come to us over TCP
    WAY_ROAD = 2        # we have gone to it
    WAY_NONE = 3        # a broker that nobody has spoken to yet

cdef class Roads(Broker):
    cdef readonly uint64_t number
    cdef readonly Gate gate
    cdef readonly Keys keys
    cdef Context context
    cdef Socket door                # ROUTER that is connected to
    cdef Socket road                # ROUTER that connects
    cdef Socket meta                # PUB: our hints
    cdef Porter door_porter         # of the two that others connect to
    cdef Porter meta_porter
    cdef Socket ears                # SUB: those of our neighbours
    cdef uint8_t *ways              # by slot
    cdef uint64_t *dialled          # by slot: its name on the road, of each dial another one
    cdef uint64_t dials
    cdef uint8_t *roles             # by slot: who has said hello over TCP; 0 else
    cdef uint64_t *pids             # by slot: of the successor that is a broker's process
    cdef uint8_t *told              # by slot: 1: it has been greeted, 2: it knows that the origin is here
    cdef uint8_t *met               # by slot: something has come from it
    cdef bint newcomers             # somebody has come since the others were told
    cdef link_t *links              # by slot, if `watching`
    cdef public bint watching       # note by which connection each one comes
    cdef dict peers                 # number -> (address, meta address, key)
    cdef set guests                 # workers that agents of other hosts have announced
    cdef dict names                 # name of a process -> its incarnation
    cdef uint8_t meeting            # the way of the one who is saying hello; WAY_LOCAL: nobody, or of this host
    cdef bytes introduction         # our HELLO
    cdef readonly uint64_t strangers    # frames that came in another's name
    cdef readonly uint64_t dropped_frames   # for whom there was no way

    cdef int know(self, uint64_t number, str address, str meta, bytes key, int slot, bint neighbour) except -1
    cdef int part(self, uint64_t number, int slot) except -1
    cdef int _receive_from(self, Socket socket, uint8_t way) noexcept nogil
    cdef void _meet(self, uint64_t peer, uint8_t way, const char *data, size_t size, bint by_block) noexcept nogil
    cdef uint64_t _take_name(self, bytes name, uint64_t incarnation) noexcept
    cdef bint _is_alive(self, uint64_t incarnation) noexcept
    cdef int _introduced(self, uint64_t number, bytes text) except -1
    cdef void _on_agent(self, record_t *r) noexcept nogil
    cdef int _let_in(self, uint64_t name, bytes key) except -1
    cdef int _note_lost(self, uint64_t incarnation, uint64_t owner, uint64_t id, bytes detail) except -1
    cdef int _send_by(self, uint8_t way, int slot) noexcept nogil
    cdef void _try_to_dial(self, int slot) noexcept
    cdef int _dial(self, int slot) except -1
