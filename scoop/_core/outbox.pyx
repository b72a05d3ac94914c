"""A list of actions. It grows by doubling up to a bound that only a bug can reach."""

from libc.stdlib cimport free, realloc

cdef enum:
    ACTIONS_MAX = 1 << 22


cdef class Outbox:
    """Actions in the order in which the machine decided them; the driver empties it after each turn."""

    def __dealloc__(self):
        free(self.actions)

    cdef int put(self, int kind, int node, void *slot, uint64_t a, uint64_t b, uint64_t c,
                 uint64_t d) noexcept nogil:
        cdef size_t cap
        cdef action_t *actions
        cdef action_t *action
        if self.size == self.cap:
            cap = self.cap * 2 if self.cap else 256
            if cap > ACTIONS_MAX:
                return -1
            actions = <action_t *>realloc(self.actions, cap * sizeof(action_t))
            if actions == NULL:
                return -1
            self.actions = actions
            self.cap = cap
        action = &self.actions[self.size]
        action.kind = kind
        action.node = node
        action.slot = slot
        action.a = a
        action.b = b
        action.c = c
        action.d = d
        self.size += 1
        return 0

    def drain(self):
        """Return and forget all actions as tuples (kind, node, slot, a, b, c, d): for tests and tools."""
        cdef size_t i
        cdef action_t *x
        out = []
        for i in range(self.size):
            x = &self.actions[i]
            out.append((x.kind, x.node, <size_t>x.slot, x.a, x.b, x.c, x.d))
        self.size = 0
        return out
