"""A hash table from uint64 to a pointer, in C, without the GIL. Pure."""

from libc.stdint cimport uint64_t

cdef struct cell_t:
    uint64_t key        # 0 marks a free cell; keys are never 0
    void *value

cdef struct table_t:
    cell_t *cells
    size_t mask         # capacity - 1; 0 while empty
    size_t count

cdef int table_put(table_t *t, uint64_t key, void *value) noexcept nogil   # -1: no memory
cdef void *table_get(const table_t *t, uint64_t key) noexcept nogil
cdef void *table_pop(table_t *t, uint64_t key) noexcept nogil
cdef void table_free(table_t *t) noexcept nogil
cdef uint64_t mix64(uint64_t x) noexcept nogil
# The lineage (two words) of child `index` of a call.
cdef void descend(const uint64_t *parent, uint64_t index, uint64_t *child) noexcept nogil
