"""A heap of events, and links that delay, keep their order and lose a suffix when their sender dies."""

from libc.stdlib cimport abort, free, malloc, realloc
from libc.string cimport memcpy

from scoop._core.table cimport mix64


cdef uint64_t rng_next(uint64_t *state) noexcept nogil:
    # splitmix64: small, and every seed is a good one.
    state[0] += <uint64_t>0x9e3779b97f4a7c15
    return mix64(state[0])


cdef inline bint _before(const event_t *a, const event_t *b) noexcept nogil:
    return a.at < b.at or (a.at == b.at and a.seq < b.seq)


cdef void queue_put(queue_t *q, uint64_t at, int kind, int proc, uint64_t arg, void *ptr) noexcept nogil:
    cdef size_t i, up
    cdef event_t event
    cdef event_t *heap
    if q.size == q.cap:
        q.cap = q.cap * 2 if q.cap else 1024
        heap = <event_t *>realloc(q.heap, q.cap * sizeof(event_t))
        if heap == NULL:
            abort()
        q.heap = heap
    event.at = at if at > q.now else q.now
    event.seq = q.seq
    event.kind = kind
    event.proc = proc
    event.arg = arg
    event.ptr = ptr
    q.seq += 1
    i = q.size
    q.size += 1
    while i:
        up = (i - 1) >> 2
        if not _before(&event, &q.heap[up]):
            break
        q.heap[i] = q.heap[up]
        i = up
    q.heap[i] = event


cdef bint queue_pop(queue_t *q, event_t *event) noexcept nogil:
    # Four children per node: half as deep as a binary heap, and the children share cache lines.
    cdef size_t i = 0, child, best, last
    cdef event_t moved
    if q.size == 0:
        return False
    event[0] = q.heap[0]
    q.size -= 1
    q.popped += 1
    q.now = event.at
    moved = q.heap[q.size]
    while True:
        child = 4 * i + 1
        if child >= q.size:
            break
        last = min(child + 4, q.size)
        best = child
        child += 1
        while child < last:
            if _before(&q.heap[child], &q.heap[best]):
                best = child
            child += 1
        if not _before(&q.heap[best], &moved):
            break
        q.heap[i] = q.heap[best]
        i = best
    q.heap[i] = moved
    return True


cdef void link_send(link_t *link, buf_t *b) noexcept nogil:
    cdef message_t *message = <message_t *>malloc(sizeof(message_t) + b.size)
    cdef uint64_t at = link.queue.now + link.delay_ns
    if message == NULL:
        abort()
    if link.jitter_ns:
        at += rng_next(&link.rng) % link.jitter_ns
    at = max(at, link.hold_until)
    if at < link.last_at:
        at = link.last_at
    link.last_at = at
    link.sent += 1
    message.nr = link.sent
    message.link = link
    message.next = NULL
    message.size = b.size
    memcpy(message.data, b.data, b.size)
    message.before = NULL
    message.after = link.flying
    if link.flying != NULL:
        link.flying.before = message
    link.flying = message
    b.size = 0
    queue_put(link.queue, at, E_FRAME, link.to, 0, message)


cdef bint link_arrived(message_t *message) noexcept nogil:
    cdef link_t *link = message.link
    if message.before != NULL:
        message.before.after = message.after
    else:
        link.flying = message.after
    if message.after != NULL:
        message.after.before = message.before
    link.delivered += 1
    if message.nr > link.limit or (link.loss and rng_next(&link.rng) % 1000 < link.loss):
        free(message)
        return False
    return True


cdef void link_free(link_t *link) noexcept nogil:
    cdef message_t *message
    while link.flying != NULL:
        message = link.flying
        link.flying = message.after
        free(message)
    free(link)


def churn(int waiting, int count):
    """Put and pop `count` events through a queue that holds `waiting`; for measuring events per second."""
    cdef queue_t q
    cdef event_t event
    cdef uint64_t rng = 1
    cdef int _i
    q.heap = NULL
    q.size = q.cap = 0
    q.now = q.seq = q.popped = 0
    with nogil:
        for _i in range(waiting):
            queue_put(&q, rng_next(&rng) % 1000000, E_STEP, 0, 0, NULL)
        for _i in range(count):
            queue_pop(&q, &event)
            queue_put(&q, q.now + rng_next(&rng) % 1000000, E_STEP, 0, 0, NULL)
    free(q.heap)
    return q.popped
