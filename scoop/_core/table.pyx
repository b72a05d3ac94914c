"""Open addressing with linear probing; a removal shifts its successors back, so there are no tombstones."""

from libc.stdlib cimport calloc, free


cdef uint64_t mix64(uint64_t x) noexcept nogil:
    # The finalizer of splitmix64 (Steele, Lea, Flood 2014): every input bit reaches every output bit.
    x ^= x >> 30
    x *= <uint64_t>0xbf58476d1ce4e5b9
    x ^= x >> 27
    x *= <uint64_t>0x94d049bb133111eb
    x ^= x >> 31
    return x


cdef void descend(const uint64_t *parent, uint64_t index, uint64_t *child) noexcept nogil:
    # Multiples of the golden ratio keep small indices and small seeds from cancelling each other.
    cdef uint64_t high = mix64(parent[0] + <uint64_t>0x9e3779b97f4a7c15 * (index + 1))
    child[1] = mix64(parent[1] ^ mix64(high ^ (index + 1)))
    child[0] = high


cdef inline void _insert(cell_t *cells, size_t mask, uint64_t key, void *value) noexcept nogil:
    cdef size_t i = mix64(key) & mask
    while cells[i].key != 0 and cells[i].key != key:
        i = (i + 1) & mask
    cells[i].key = key
    cells[i].value = value


cdef int _grow(table_t *t) noexcept nogil:
    cdef size_t cap = (t.mask + 1) * 2 if t.mask else 64
    cdef cell_t *cells = <cell_t *>calloc(cap, sizeof(cell_t))
    cdef size_t i
    if cells == NULL:
        return -1
    if t.mask:
        for i in range(t.mask + 1):
            if t.cells[i].key != 0:
                _insert(cells, cap - 1, t.cells[i].key, t.cells[i].value)
    free(t.cells)
    t.cells = cells
    t.mask = cap - 1
    return 0


cdef int table_put(table_t *t, uint64_t key, void *value) noexcept nogil:
    cdef size_t i
    if (t.count + 1) * 4 > (t.mask + 1) * 3 or t.mask == 0:
        if _grow(t) < 0:
            return -1
    i = mix64(key) & t.mask
    while t.cells[i].key != 0 and t.cells[i].key != key:
        i = (i + 1) & t.mask
    if t.cells[i].key == 0:
        t.count += 1
    t.cells[i].key = key
    t.cells[i].value = value
    return 0


cdef inline Py_ssize_t _find(const table_t *t, uint64_t key) noexcept nogil:
    cdef size_t i
    if t.mask == 0 or key == 0:
        return -1
    i = mix64(key) & t.mask
    while t.cells[i].key != 0:
        if t.cells[i].key == key:
            return <Py_ssize_t>i
        i = (i + 1) & t.mask
    return -1


cdef void *table_get(const table_t *t, uint64_t key) noexcept nogil:
    cdef Py_ssize_t i = _find(t, key)
    return NULL if i < 0 else t.cells[i].value


cdef void *table_pop(table_t *t, uint64_t key) noexcept nogil:
    cdef Py_ssize_t found = _find(t, key)
    cdef size_t hole, i, home
    cdef void *value
    if found < 0:
        return NULL
    hole = <size_t>found
    value = t.cells[hole].value
    i = (hole + 1) & t.mask
    while t.cells[i].key != 0:
        home = mix64(t.cells[i].key) & t.mask
        # Move it into the hole unless its home lies cyclically after the hole.
        if ((i - home) & t.mask) >= ((i - hole) & t.mask):
            t.cells[hole] = t.cells[i]
            hole = i
        i = (i + 1) & t.mask
    t.cells[hole].key = 0
    t.count -= 1
    return value


cdef void table_free(table_t *t) noexcept nogil:
    free(t.cells)
    t.cells = NULL
    t.mask = 0
    t.count = 0


cdef class Table:
    """The table for tests: a mapping of positive integers to positive integers.

    Example:
        >>> table = Table(); table.put(7, 1); table.pop(7)
        1
    """

    cdef table_t t

    def __dealloc__(self):
        table_free(&self.t)

    def __len__(self):
        return self.t.count

    def put(self, uint64_t key, size_t value):
        """Set `key`; raises ValueError for key 0 and MemoryError."""
        if key == 0:
            raise ValueError("key 0 marks a free cell")
        if table_put(&self.t, key, <void *>value) < 0:
            raise MemoryError

    def get(self, uint64_t key):
        """Return the value of `key`, 0 if there is none."""
        return <size_t>table_get(&self.t, key)

    def pop(self, uint64_t key):
        """Remove `key` and return its value, 0 if there was none."""
        return <size_t>table_pop(&self.t, key)
