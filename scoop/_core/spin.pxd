"""Whether a wait looks for a while before it sleeps (docs/adr/0002).

Only as long as that pays: each look in vain doubles the number of waits until the next one.
"""

from libc.stdint cimport uint64_t

cdef enum:
    SPIN_MISSES_MAX = 6     # a wait looks at least once in 64, however vain

cdef struct spin_t:
    int skip                # so many waits sleep at once
    int misses              # looks in a row that were in vain

# Whether the wait that begins looks first.
cdef inline bint spin_may(spin_t *spin) noexcept nogil:
    if spin.skip:
        spin.skip -= 1
        return False
    return True

# The look is over: something came in its time, or not.
cdef inline void spin_learn(spin_t *spin, bint came) noexcept nogil:
    if came:
        spin.misses = 0
    else:
        spin.misses = min(spin.misses + 1, SPIN_MISSES_MAX)
        spin.skip = (1 << spin.misses) - 1
