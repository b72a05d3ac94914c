"""Immutable scalars to msgpack and back.

A task whose arguments are such scalars is encoded only when it leaves the process, by a thread that does
not hold the GIL. That is sound because the objects cannot change, the future keeps them alive, and only
their C fields are read. Everything else is pickled in the submitting thread.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.ref cimport Py_INCREF
from cpython.tuple cimport PyTuple_New, PyTuple_SET_ITEM
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from scoop._core.wire cimport buf_free, buf_reserve, put_array, put_bin, put_int, put_raw

cdef extern from "Python.h":
    bint PyLong_CheckExact(PyObject *) nogil
    bint PyFloat_CheckExact(PyObject *) nogil
    bint PyBytes_CheckExact(PyObject *) nogil
    bint PyUnicode_CheckExact(PyObject *) nogil
    bint PyTuple_CheckExact(PyObject *) nogil
    bint PyUnicode_IS_COMPACT_ASCII(PyObject *) nogil
    double PyFloat_AS_DOUBLE(PyObject *) nogil
    char *PyBytes_AS_STRING(PyObject *) nogil
    Py_ssize_t PyBytes_GET_SIZE(PyObject *) nogil
    void *PyUnicode_DATA(PyObject *) nogil
    Py_ssize_t PyUnicode_GET_LENGTH(PyObject *) nogil
    Py_ssize_t PyTuple_GET_SIZE(PyObject *) nogil
    PyObject *PyTuple_GET_ITEM(PyObject *, Py_ssize_t) nogil
    # Exact ints run no code and set no error here: overflow is told by the flag.
    long long PyLong_AsLongLongAndOverflow(PyObject *, int *) noexcept nogil
    object PyUnicode_DecodeUTF8(const char *, Py_ssize_t, const char *)
    object PyUnicode_FromStringAndSize(const char *, Py_ssize_t)
    object PyLong_FromLongLong(long long)
    object PyLong_FromUnsignedLongLong(unsigned long long)
    object PyFloat_FromDouble(double)
    PyObject *Py_True
    PyObject *Py_False
    PyObject *Py_None


cdef bint is_scalar(PyObject *value, int depth) noexcept nogil:
    cdef Py_ssize_t i
    cdef int overflow = 0
    if value == Py_None or value == Py_True or value == Py_False:
        return True
    if PyLong_CheckExact(value):
        PyLong_AsLongLongAndOverflow(value, &overflow)
        return overflow == 0
    if PyFloat_CheckExact(value):
        return True
    if PyUnicode_CheckExact(value):
        return PyUnicode_IS_COMPACT_ASCII(value)
    if PyBytes_CheckExact(value):
        return PyBytes_GET_SIZE(value) <= 65536
    if PyTuple_CheckExact(value) and depth < SCALAR_DEPTH_MAX:
        for i in range(PyTuple_GET_SIZE(value)):
            if not is_scalar(PyTuple_GET_ITEM(value, i), depth + 1):
                return False
        return True
    return False


cdef int put_scalar(buf_t *b, PyObject *value) noexcept nogil:
    cdef Py_ssize_t i, size
    cdef int overflow = 0
    cdef double number
    cdef uint64_t bits
    cdef uint8_t *p
    if value == Py_None or value == Py_True or value == Py_False:
        if buf_reserve(b, 1) < 0:
            return -1
        b.data[b.size] = <char>(0xc0 if value == Py_None else 0xc3 if value == Py_True else 0xc2)
        b.size += 1
        return 0
    if PyLong_CheckExact(value):
        return put_int(b, PyLong_AsLongLongAndOverflow(value, &overflow))
    if PyFloat_CheckExact(value):
        number = PyFloat_AS_DOUBLE(value)
        memcpy(&bits, &number, 8)
        if buf_reserve(b, 9) < 0:
            return -1
        p = <uint8_t *>b.data + b.size
        p[0] = 0xcb
        for i in range(8):
            p[1 + i] = <uint8_t>(bits >> (56 - 8 * i))
        b.size += 9
        return 0
    if PyUnicode_CheckExact(value):
        size = PyUnicode_GET_LENGTH(value)
        if (size >> 32) != 0 or buf_reserve(b, size + 5) < 0:
            return -1
        p = <uint8_t *>b.data + b.size
        p[0] = 0xdb
        for i in range(4):
            p[1 + i] = <uint8_t>(<uint64_t>size >> (24 - 8 * i))
        b.size += 5
        return put_raw(b, <const char *>PyUnicode_DATA(value), size)
    if PyBytes_CheckExact(value):
        return put_bin(b, PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value))
    size = PyTuple_GET_SIZE(value)
    if put_array(b, <uint32_t>size) < 0:
        return -1
    for i in range(size):
        if put_scalar(b, PyTuple_GET_ITEM(value, i)) < 0:
            return -1
    return 0


# ---------------------------------------------------------------------------------------------- reading

cdef uint64_t _uint(const uint8_t *p, int width) noexcept nogil:
    cdef uint64_t value = 0
    cdef int i
    for i in range(width):
        value = (value << 8) | p[i]
    return value


cdef object _bad():
    raise ValueError("these bytes are not the msgpack of an immutable scalar")


cdef int _need(const uint8_t *p, const uint8_t *end, Py_ssize_t more) except -1:
    if end - p < more:
        _bad()
    return 0


cdef object _get_sized(const uint8_t **at, const uint8_t *end, int width, int what, int depth):
    # A length of `width` bytes, then that many bytes (what 0), characters (1) or items (2).
    cdef const uint8_t *p = at[0] + 1
    cdef uint64_t size
    _need(p, end, width)
    size = _uint(p, width)
    p += width
    if size > <uint64_t>(end - p):
        _bad()
    if what == 2:
        at[0] = p
        return _get_tuple(at, end, <Py_ssize_t>size, depth)
    at[0] = p + size
    if what == 0:
        return PyBytes_FromStringAndSize(<const char *>p, <Py_ssize_t>size)
    return PyUnicode_DecodeUTF8(<const char *>p, <Py_ssize_t>size, NULL)


cdef object _get_tuple(const uint8_t **at, const uint8_t *end, Py_ssize_t size, int depth):
    cdef tuple items
    cdef Py_ssize_t i
    cdef object item
    if size > end - at[0] or depth == SCALAR_DEPTH_MAX:
        _bad()
    items = PyTuple_New(size)
    for i in range(size):
        item = _get(at, end, depth + 1)
        Py_INCREF(item)
        PyTuple_SET_ITEM(items, i, item)
    return items


cdef object _get(const uint8_t **at, const uint8_t *end, int depth):
    cdef const uint8_t *p = at[0]
    cdef uint8_t tag
    cdef uint64_t bits
    cdef double number
    cdef int width
    _need(p, end, 1)
    tag = p[0]
    if tag < 0x80:
        at[0] = p + 1
        return PyLong_FromLongLong(tag)
    if tag >= 0xe0:
        at[0] = p + 1
        return PyLong_FromLongLong(<int>tag - 256)
    if (tag & 0xf0) == 0x90:
        at[0] = p + 1
        return _get_tuple(at, end, tag & 0x0f, depth)
    if tag in (0xc0, 0xc2, 0xc3):
        at[0] = p + 1
        return None if tag == 0xc0 else tag == 0xc3
    if 0xcc <= tag <= 0xcf or 0xd0 <= tag <= 0xd3:
        width = 1 << ((tag - 0xcc) & 3)
        _need(p, end, 1 + width)
        bits = _uint(p + 1, width)
        at[0] = p + 1 + width
        if tag <= 0xcf:
            return PyLong_FromUnsignedLongLong(bits)
        return PyLong_FromLongLong(<int64_t>(bits << (64 - 8 * width)) >> (64 - 8 * width))
    if tag == 0xcb:
        _need(p, end, 9)
        bits = _uint(p + 1, 8)
        memcpy(&number, &bits, 8)
        at[0] = p + 9
        return PyFloat_FromDouble(number)
    if 0xc4 <= tag <= 0xc6:
        return _get_sized(at, end, 1 << (tag - 0xc4), 0, depth)
    if tag == 0xdb:
        return _get_sized(at, end, 4, 1, depth)
    if tag == 0xdc or tag == 0xdd:
        return _get_sized(at, end, 2 if tag == 0xdc else 4, 2, depth)
    return _bad()


cdef object get_scalar(span_t data):
    cdef const uint8_t *at = <const uint8_t *>data.data
    cdef const uint8_t *end = at + data.size
    cdef object value = _get(&at, end, 0)
    if at != end:
        _bad()
    return value


# ------------------------------------------------------------------------- the same for tests and tools

def accepts(value):
    """Whether `value` is an immutable scalar that travels without pickle."""
    return is_scalar(<PyObject *>value, 0)


def encode(value):
    """Encode an immutable scalar as msgpack bytes.

    Raises:
        ValueError: `value` is not one (see `accepts`).
    """
    cdef buf_t b
    b.data = NULL
    b.size = 0
    b.cap = 0
    if not is_scalar(<PyObject *>value, 0):
        raise ValueError(f"{type(value).__name__} is not an immutable scalar of at most 64 bits or 64 KiB")
    try:
        if put_scalar(&b, <PyObject *>value) < 0:
            raise MemoryError
        return b.data[:b.size]
    finally:
        buf_free(&b)


def decode(data):
    """Decode what `encode` wrote.

    Raises:
        ValueError: the bytes are anything else.
    """
    cdef bytes held = bytes(data)
    cdef span_t span
    span.data = held
    span.size = len(held)
    return get_scalar(span)
