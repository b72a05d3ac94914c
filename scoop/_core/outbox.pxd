"""What a machine wants done: a list of actions that its driver carries out. Words only."""

from libc.stdint cimport uint64_t

cdef enum action_kind_t:
    A_SEND_TASK = 1     # to node: the task in slot
    A_WANT = 2          # to node: give away up to a us of work and b tasks
    A_LOST = 3          # to node (the owner, or its broker): task a, attempt b was lost; c cause
    A_DROP = 4          # forget slot
    A_ANSWER = 5        # to node (the owner): task a, attempt b, verdict c, mode d
    A_CANCEL = 6        # to node (the holder): owner a, task b, attempt c, mode d
    A_HOLD = 7          # to node (a peer): where task b of owner a, attempt c, hops d, is now; slot: its giver
    A_ASK = 8           # to node (a peer): give us up to a us of work; b nodes have nothing to do
    A_REFUSE = 9        # to node (a peer): there is nothing to give here; a may have more
    A_HINT = 10         # to all neighbours: a tasks, b us of work more than is needed here; c sequence
    A_CREDIT = 11       # for the balance: node (a peer) may have a us of work; b nodes have nothing to do

cdef struct action_t:
    int kind
    int node
    void *slot          # of A_LOST and A_ANSWER: the owner, where it is not the node itself
    uint64_t a
    uint64_t b
    uint64_t c
    uint64_t d

cdef class Outbox:
    cdef action_t *actions
    cdef size_t size
    cdef size_t cap
    cdef int put(self, int kind, int node, void *slot, uint64_t a, uint64_t b, uint64_t c,
                 uint64_t d) noexcept nogil
