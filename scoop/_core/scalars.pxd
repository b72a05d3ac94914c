"""Immutable scalars (None, bool, int, float, str, bytes and tuples of these) to msgpack and back."""

from cpython.object cimport PyObject

from scoop._core.wire cimport buf_t, span_t

cdef enum:
    SCALAR_DEPTH_MAX = 4

# True when `value` and all in it are of exactly these types, so that nobody can change it.
cdef bint is_scalar(PyObject *value, int depth) noexcept nogil

# Writes a checked scalar; runs no user code, takes no reference and needs no GIL while the object lives.
cdef int put_scalar(buf_t *b, PyObject *value) noexcept nogil

# Makes the object again. Raises ValueError when the bytes are not such a scalar.
cdef object get_scalar(span_t data)
