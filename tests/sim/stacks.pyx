"""Stacks, frames and futures of the simulated processes: greenlets and reference counts in the real ones."""

from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy

from scoop._core.call cimport S_ARRIVED, S_CANCELLED, S_DONE, S_QUEUED, call_t, form_t
from scoop._core.desk cimport parcel_t
from scoop._core.localq cimport ring_pop
from scoop._core.table cimport mix64, table_put
from scoop._core.wire cimport K_FORM, K_NEED, O_ERROR, O_LOST, T_ONCE, put_record

from scoop_sim.process cimport Process, frame_t, future_t, stack_t
from scoop_sim.process import Violation

cdef enum:
    ASK_AGAIN_NS = 1000000000   # as in runner.pyx


cdef class Form:
    """A function of one owner."""

    cdef form_t c
    cdef bytes blob


cdef class Stacks:
    """What all processes of a run share, and how their stacks grow and shrink."""

    cdef int say(self, Process p, str what, int spec) except -1:
        if self.story is not None:
            self.story.append((self.queue.now, p.index, spec, what))
        return 0

    cdef int fail(self, str what, int spec) except -1:
        raise Violation(f"{what} (task {spec}, at {self.queue.now / 1e6:.3f} ms)")

    cdef frame_t *push(self, Process p, stack_t *stack, future_t *own, call_t *foreign, int spec) except NULL:
        cdef spec_t *s = &self.specs[spec]
        cdef frame_t *frame = <frame_t *>calloc(1, sizeof(frame_t))
        frame.children = <future_t **>calloc(s.submits + 1, sizeof(future_t *))
        frame.up = stack.top
        frame.stack = stack
        frame.own = own
        frame.foreign = foreign
        frame.spec = spec
        frame.began = self.queue.now
        frame.value = mix64(<uint64_t>spec + 1)
        if own != NULL:
            own.refs += 1
            frame.owner_id = p.desk.incarnation
            frame.call_id = own.c.id
        elif foreign != NULL:
            frame.owner_id = foreign.owner
            frame.call_id = foreign.id
        if own != NULL or foreign != NULL:
            self.begins(frame.owner_id, &own.c if own != NULL else foreign, spec)
        stack.top = frame
        s.started += 1
        self.say(p, "starts", spec)
        self.show(p)
        return frame

    cdef void pop(self, Process p, frame_t *frame) noexcept:
        # Off its stack, which drops the futures that it made. The caller frees it.
        cdef int i
        frame.stack.top = frame.up
        for i in range(frame.child_count):
            if frame.children[i] != NULL:
                frame.children[i].refs -= 1
        free(frame.children)
        frame.children = NULL
        self.show(p)

    cdef stack_t *new_stack(self, Process p) except NULL:
        cdef stack_t *stack = <stack_t *>calloc(1, sizeof(stack_t))
        stack.all_next = p.all_stacks
        if p.all_stacks != NULL:
            p.all_stacks.all_before = stack
        p.all_stacks = stack
        return stack

    cdef void free_stack(self, Process p, stack_t *stack) noexcept:
        if stack.all_before != NULL:
            stack.all_before.all_next = stack.all_next
        else:
            p.all_stacks = stack.all_next
        if stack.all_next != NULL:
            stack.all_next.all_before = stack.all_before
        free(stack)

    cdef void make_ready(self, Process p, stack_t *stack) noexcept:
        stack.next = NULL
        if p.ready == NULL:
            p.ready = stack
        else:
            p.ready_last.next = stack
        p.ready_last = stack

    cdef void show(self, Process p) noexcept:
        # The page that the agent reads after a death.
        cdef frame_t *frame
        if p.is_origin or p.cur == NULL:
            return
        frame = p.cur.top
        p.page_count = 0
        if frame == NULL:
            return
        p.page_count = 2
        p.page[2] = frame.owner_id
        p.page[3] = frame.call_id
        while frame.up != NULL:
            frame = frame.up
        p.page[0] = frame.owner_id
        p.page[1] = frame.call_id

    cdef int release(self, Process p, future_t *f) except -1:
        f.refs -= 1
        if f.refs < 0:
            self.fail("a reference was dropped twice", f.spec)
        if f.refs == 0 and f.c.state < S_DONE:
            self.fail(f"nobody holds a future in state {f.c.state}", f.spec)
        return 0

    cdef int sweep(self, Process p) except -1:
        cdef call_t *call
        while p.desk.grave.count + p.desk.queue.stale.count:
            call = ring_pop(&p.desk.grave)
            if call == NULL:
                call = p.desk.queue.pop_stale()
            if call == NULL:
                break
            self.release(p, <future_t *>call)
        return 0

    cdef int begins(self, uint64_t owner, call_t *call, int spec) except -1:
        if call.flags & T_ONCE:
            if (owner, call.id) in self.once_begun:
                self.fail("a task that is to run at most once begins again", spec)
            self.once_begun.add((owner, call.id))
        return 0

    cdef uint64_t losses(self) noexcept nogil:
        return self.count.successions + self.count.resets

    cdef bint timely(self) noexcept nogil:
        # Whether answers come in time: nobody was stopped, nothing that was on its way is lost.
        return self.count.pauses + self.losses() == 0

    cdef bint function(self, Process p, call_t *call) except -1:
        # False when its form has to be fetched first.
        cdef uint64_t[3] numbers
        if p.desk.parcels != NULL:
            self.unpack(p)
        key = (call.owner, call.fn)
        if key in p.known:
            return True
        new = key not in p.asked or p.asked[key] <= p.desk.ask_again_ns or (
            self.queue.now - <uint64_t>p.asked[key] >= ASK_AGAIN_NS)
        p.desk.end(call)
        p.desk.queue.park(call)
        if new:
            p.asked[key] = self.queue.now
            numbers[0] = call.owner
            numbers[1] = call.fn
            numbers[2] = p.desk.incarnation
            put_record(&p.desk.out, K_NEED, 3, numbers)
            self.count.fetched_forms += 1
            p.hurry()
        return False

    cdef int unpack(self, Process p) except -1:
        cdef parcel_t *parcel
        while p.desk.parcels != NULL:
            parcel = p.desk.parcels
            p.desk.parcels = parcel.next
            if parcel.kind == K_FORM:
                key = (parcel.owner, <unsigned int>parcel.number)
                p.known.add(key)
                p.asked.pop(key, None)
                p.desk.queue.unpark(parcel.owner, parcel.number)
            free(parcel)
        return 0

    cdef int kill(self, Process p) except -1:
        raise NotImplementedError

    cdef int bury(self, Process p) except -1:
        # Frees a dead process's memory.
        cdef stack_t *stack
        cdef frame_t *frame
        cdef call_t *call
        p.drop_inbox()
        while p.all_stacks != NULL:
            stack = p.all_stacks
            while stack.top != NULL:
                frame = stack.top
                stack.top = frame.up
                if frame.foreign != NULL:
                    free(frame.foreign.data)
                    free(frame.foreign)
                free(frame.children)
                free(frame)
            self.free_stack(p, stack)
        while True:
            call = p.desk.queue.next_foreign()
            if call == NULL:
                break
            free(call.data)
            free(call)
        while p.desk.queue.parked.count:
            call = ring_pop(&p.desk.queue.parked)
            free(call.data)
            free(call)
        return 0

    cdef bint beside(self, Process p) except -1:
        # Whether a task that somebody still wants has begun in this process.
        cdef stack_t *stack = p.all_stacks
        cdef frame_t *frame
        while stack != NULL:
            frame = stack.top
            while frame != NULL:
                if frame.foreign != NULL and self.alive(frame.foreign.owner):
                    return True
                frame = frame.up
            stack = stack.all_next
        return False

    cdef bint alive(self, uint64_t incarnation) except -1:
        cdef Process p
        for p in self.processes:
            if p.desk.incarnation == incarnation:
                return p.alive
        return False

    cdef int collect(self, Process p) except -1:
        cdef future_t *f
        cdef stack_t *waiter
        cdef stack_t *stack
        while p.desk.resumed.count:
            f = <future_t *>ring_pop(&p.desk.resumed)
            if f.refs <= 0:
                self.fail("the ring `resumed` holds a future that is freed", f.spec)
            if f.waiter != NULL:
                waiter = f.waiter
                f.waiter = NULL
                self.make_ready(p, waiter)
            self.release(p, f)          # the ring's reference
        if p.desk.returned:
            p.desk.returned = False
            stack = p.all_stacks
            while stack != NULL:
                if stack.counted and stack.waits.waiter == stack and stack.waits.c.state == S_QUEUED:
                    stack.waits.waiter = NULL
                    self.make_ready(p, stack)
                stack = stack.all_next
        return 0

    cdef future_t *submit(self, Process p, int spec) except NULL:
        cdef future_t *f = <future_t *>calloc(1, sizeof(future_t))
        cdef uint64_t key
        cdef Form form
        cdef int number = self.specs[spec].form
        while len(p.forms) <= number:
            form = Form()
            form.blob = b"f" * 40
            form.c.number = len(p.forms) + 1
            form.c.blob = form.blob
            form.c.blob_size = 40
            table_put(&p.desk.forms, form.c.number, &form.c)
            p.forms.append(form)
        form = p.forms[number]
        f.spec = spec
        f.owner = p.index
        f.before = self.futures
        self.futures = f
        f.refs = 2                      # the program's and the queue's
        f.c.self_obj = f
        f.c.form = &form.c
        f.c.fn = form.c.number
        f.c.flags = T_ONCE if self.specs[spec].once else 0
        f.c.id = p.desk.next_id
        p.desk.next_id += 1
        key = <uint64_t>spec
        f.c.size = 8
        f.c.data = <char *>malloc(8)
        memcpy(f.c.data, &key, 8)
        self.specs[spec].submitted += 1
        self.say(p, "submitted", spec)
        p.desk.queue.put_own(&f.c)
        if p.desk.want_us > 0:
            p.hurry()
        if p.desk.grave.count + p.desk.queue.stale.count > 256:
            self.sweep(p)
        return f

    cdef int none_over(self, Process p) except -1:
        # Before new work begins.
        cdef stack_t *stack = p.all_stacks
        while stack != NULL:
            if stack.counted and stack.waits.c.state >= S_DONE:
                self.fail("new work begins before a wait that is over goes on", stack.waits.spec)
            stack = stack.all_next
        return 0

    cdef int waited(self, Process p, frame_t *frame, future_t *f) except -1:
        # No wait is longer than the work below its call, if one process does all of it, and one other task for each
        # wait in it: that is how long somebody who waits may be busy with something else.
        cdef spec_t *spec = &self.specs[f.spec]
        cdef int waits = 1 + spec.waits_below
        cdef double allowed
        if self.patience_ns and self.count.deaths == 0:
            allowed = self.slowest * (spec.below_ns + waits * self.estimates * spec.beside_ns) + waits * <double>(
                self.patience_ns)
            self.longest_wait = max(self.longest_wait, (self.queue.now - frame.asked_at) / allowed)
            if self.queue.now - frame.asked_at > allowed:
                self.fail(f"a wait of {(self.queue.now - frame.asked_at) / 1e6:.1f} ms, {allowed / 1e6:.1f} ms are "
                          "allowed", f.spec)
        return 0

    cdef int got(self, Process p, frame_t *frame, int which) except -1:
        # The result of a child is opened and becomes part of the value.
        cdef future_t *f = frame.children[which]
        cdef spec_t *spec = &self.specs[f.spec]
        cdef uint64_t value = f.value
        cdef bint tainted = f.c.outcome == O_LOST
        if f.ended != 1:
            self.fail(f"a future is final and ended {f.ended} times", f.spec)
        if f.c.state == S_CANCELLED:
            self.fail("a future ended as cancelled that nobody cancelled", f.spec)
        if f.c.state == S_ARRIVED and not tainted:
            if f.c.size != 9:
                self.fail("a result arrived damaged", f.spec)
            memcpy(&value, f.c.data, 8)
            tainted = f.c.data[8] != 0
            if not tainted and (f.c.outcome == O_ERROR) != spec.fails:
                self.fail("a future ended with an error, or without, and should not have", f.spec)
        elif f.c.state == S_ARRIVED:
            spec.failed += 1
            self.count.failures += 1
            self.count.once_failed += f.c.claimer != 0
            if f.c.claimer == 0 and f.c.crashes < self.crash_limit and f.c.attempt <= self.crash_limit + 10:
                self.fail("a future failed before its limits", f.spec)
        if not tainted and value != spec.expected:
            self.fail("a future has a wrong value", f.spec)
        if not spec.may_cancel:
            frame.value += mix64(value ^ <uint64_t>which)
            frame.tainted = frame.tainted or tainted
        self.say(p, "has the result", f.spec)
        frame.children[which] = NULL
        return self.release(p, f)
