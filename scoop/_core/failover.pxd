"""What a broker learns of its tasks after it, or another broker, has been started again. Pure."""

from libc.stdint cimport uint64_t

from scoop._core.balance cimport Balance

# `node`, of ours or a broker, says that it holds a task; the broker before us knew.
cdef void holds(Balance b, int node, uint64_t owner, uint64_t id, uint64_t attempt, uint64_t hops) noexcept nogil
# Another broker says that it has a task; True if nothing else is to be done about it.
cdef bint holds_there(Balance b, int peer, uint64_t owner, uint64_t id, uint64_t attempt, uint64_t hops,
                      uint64_t giver) noexcept nogil
# A broker, or the connection to it, is another one than before: it is to say what it has of the tasks given to it,
cdef void doubt(Balance b, int peer) noexcept nogil
# and is told what of its nodes' tasks is here.
cdef void tell_holds(Balance b, int peer) noexcept nogil
# What it has not said that it has is lost.
cdef void end_doubts(Balance b, int peer) noexcept nogil
