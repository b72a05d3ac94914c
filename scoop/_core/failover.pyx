"""What a broker learns of its tasks after it, or another broker, has been started again, or connected again.

A broker that dies takes with it who holds what, and the tasks and results that were on their way through it. Its
successor has its number, its keys and its addresses, and knows nothing. Its nodes tell it which tasks they hold, and
so do the other brokers for tasks of its nodes. What is then not known to anybody is found out at both ends: an owner
asks after all that it has given away (`Store.look_for_all`), and a broker that had given tasks to the one that died
doubts each until the successor says that it is there, and after a while reports the rest as lost.

A connection between two brokers that is reset loses what was in it, in both directions. Whose door it led to sends an
empty frame over the next one; by that both doubt what they had given each other, and say what they hold.

None of this has to be exact. A task that is issued again although it runs somewhere costs time; its
first result counts.
"""

from libc.stdint cimport int32_t
from libc.stdlib cimport calloc, free

from scoop._core.balance cimport btask_t, home_of
from scoop._core.outbox cimport A_CANCEL, A_HOLD
from scoop._core.table cimport table_get, table_put
from scoop._core.wire cimport CANCEL_ORPHAN


cdef void holds(Balance b, int node, uint64_t owner, uint64_t id, uint64_t attempt, uint64_t hops) noexcept nogil:
    cdef bint ours = b.home == 0 or home_of(owner) == b.home
    cdef int32_t owner_slot = -1
    cdef uint64_t key
    cdef btask_t *task
    cdef int to
    if not b.successor:
        b.dropped += 1
        return
    if ours:
        owner_slot = b.on_hello(owner, True)    # which may not have said hello to us yet, and what it is
    to = b.way_to(owner)
    if to < 0:
        b.out.put(A_CANCEL, node, NULL, owner, id, attempt, CANCEL_ORPHAN)
        return
    key = b._key(owner, id)
    task = <btask_t *>table_get(&b.tasks, key)
    if task == NULL:
        task = <btask_t *>calloc(1, sizeof(btask_t))
        if task == NULL or table_put(&b.tasks, key, task) < 0:
            free(task)
            return
        task.owner = owner
        task.id = id
        task.owner_slot = owner_slot
        task.giver = -1
    elif task.owner != owner or task.id != id or task.node < 0 or attempt < task.attempt or (
            attempt == task.attempt and hops <= task.hops):
        return                          # a later copy, or a later place of this one, is known
    else:
        b.nodes[task.node].given -= 1
    task.attempt = attempt
    task.hops = hops
    task.node = node
    b.nodes[node].given += 1
    if not ours:
        b.out.put(A_HOLD, to, NULL, owner, id, attempt, hops)


cdef bint holds_there(Balance b, int peer, uint64_t owner, uint64_t id, uint64_t attempt, uint64_t hops,
                      uint64_t giver) noexcept nogil:
    cdef btask_t *task = b._find(owner, id)
    if giver == 0 and home_of(owner) == b.home:
        if b.way_to(owner) < 0 and b.slot_of(owner) >= 0:
            b.out.put(A_CANCEL, peer, NULL, owner, id, attempt, CANCEL_ORPHAN)
            return True
        if task == NULL and b.successor:
            holds(b, peer, owner, id, attempt, hops)
            return True
    if task != NULL and task.node == peer and task.attempt == attempt:
        task.doubtful = 0
    return False


cdef void doubt(Balance b, int peer) noexcept nogil:
    cdef btask_t *task
    cdef size_t i
    for i in range(b.tasks.mask + 1 if b.tasks.mask else 0):
        task = <btask_t *>b.tasks.cells[i].value
        if b.tasks.cells[i].key and task.node == peer:
            task.doubtful = 1


cdef void tell_holds(Balance b, int peer) noexcept nogil:
    cdef uint64_t number = b.nodes[peer].incarnation
    cdef btask_t *task
    cdef size_t i
    for i in range(b.tasks.mask + 1 if b.tasks.mask else 0):
        task = <btask_t *>b.tasks.cells[i].value
        if b.tasks.cells[i].key and task.node != peer and home_of(task.owner) == number:
            b.out.put(A_HOLD, peer, NULL, task.owner, task.id, task.attempt, task.hops)


cdef void end_doubts(Balance b, int peer) noexcept nogil:
    cdef btask_t *task
    cdef size_t i = 0
    # A removal moves later cells back into the hole, so a cell is looked at again after one.
    while b.tasks.mask and i <= b.tasks.mask:
        task = <btask_t *>b.tasks.cells[i].value
        if b.tasks.cells[i].key and task.doubtful and task.node == peer:
            b._lose(task, 1, False)
        else:
            i += 1
