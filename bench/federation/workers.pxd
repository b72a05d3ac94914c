"""Workers and the origin of the model."""

from libc.stdint cimport int64_t

from scoop_federation.world cimport World, message_t, node_t


cdef class Workers(World):
    cdef void _push_own(self, node_t *n, int task) noexcept
    cdef void _request(self, node_t *n, bint idle, message_t **m) noexcept
    cdef void _tell(self, node_t *n, message_t **m) noexcept
    cdef int _start(self, int index, message_t **m) except -1
    cdef int _note(self, int64_t took) except -1
    cdef int _ended(self, int index, int task) except -1
    cdef int _complete(self, int index, int task, message_t **m) except -1
    cdef int _owned_over(self, int index, int task, message_t **m) except -1
    cdef void _give(self, node_t *n, message_t **m) noexcept
    cdef int _give_soon(self, int index) except -1
    cdef int _gives(self, int index) except -1
    cdef void _reissue(self, int index, int task) noexcept
    cdef void _drop(self, node_t *n, int task) noexcept
    cdef int _node_hears(self, int index, message_t *m) except -1
