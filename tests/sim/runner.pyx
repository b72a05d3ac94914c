"""The hub of each process, over programs that are lists of operations instead of Python functions.

The order of decisions is that of hub.pyx, method by method (`wait` is `wait_for`, `hub` is `_loop`, `end` the tail of
`run_own`, `run_foreign` and `_runner`): when hub.pyx changes, change this. A greenlet is a `stack_t`; a call on the
spot is a frame on top of the one that waits for it.
"""

from libc.stdint cimport uint64_t
from libc.stdlib cimport free
from libc.string cimport memcpy

from scoop._core.call cimport (
    call_t, form_t, M_ASKED, M_KEPT, M_STARTED, M_SUSPENDED, S_CANCELLED, S_DONE, S_EXPORTED, S_QUEUED, S_RUNNING)
from scoop._core.localq cimport ring_push
from scoop._core.node cimport MAY_AT_LAST, MAY_RESUME, MAY_RUN, MAY_WORK, STILL_NS
from scoop._core.wire cimport CANCEL_DROP, O_ERROR, O_LOST, O_VALUE, T_RETRIED, span_t

from scoop_sim.events cimport E_STEP, queue_put
from scoop_sim.process cimport Process, frame_t, future_t, stack_t
from scoop_sim.stacks cimport OP_CANCEL, OP_FAIL, OP_RUN, OP_SUBMIT, OP_WAIT, Stacks, op_t, spec_t

cdef enum:
    ANSWER_NS = 1000000000
    ANSWER_LOOK_NS = 500000
    FLUSH_RUN_NS = 100000
    LONG_US = 200
    LOOKED_AT_MAX = 256         # suspended stacks
    CRASHED_MAX = 30            # of one task, however often its parents are run again: agents keep a list (3 there)
    STEPS_MAX = 5000000         # decisions of one process without any time passing: a livelock


cdef class Runner(Stacks):
    """Programs on processes; see the subclass World."""

    # ------------------------------------------------------------------------------------- the loop

    cdef int go(self, Process p) except -1:
        # Until time has to pass.
        cdef int steps = 0
        while p.alive:
            steps += 1
            if steps > STEPS_MAX:
                self.fail(f"process {p.index} decides for ever without time passing; reason {p._look(NULL, p.may)} "
                          f"{p.ready != NULL} {p.desk.returned}; {self.where()}",
                          -1 if p.cur == NULL or p.cur.top == NULL else p.cur.top.spec)
            if not (self.hub(p) if p.cur == NULL else self.step(p, p.cur.top)):
                break
        if self.wrong.count:
            self.fail(self.wrong.what.decode(), self.wrong.spec)
        return 0

    cdef int busy(self, Process p, double ns) except -1:
        p.step_gen += 1
        queue_put(&self.queue, self.queue.now + <uint64_t>ns, E_STEP, p.index, p.step_gen, NULL)
        return 0

    cdef bint hub(self, Process p) except -1:
        cdef future_t *f
        cdef stack_t *stack
        if p.request != NULL:
            f = p.request
            p.request = NULL
            stack = self.new_stack(p)
            p.cur = stack
            self.count.other_stack += 1
            self.push(p, stack, f, NULL, f.spec)
            return True
        self.collect(p)
        if p.ready != NULL:
            stack = p.ready
            p.ready = stack.next
            p.cur = stack
            if stack.counted:
                stack.counted = False
                p.suspended -= 1
                self.suspended -= 1
                stack.waits.c.marks &= ~M_SUSPENDED
            self.show(p)
            return True
        if self.runnable(p, p.suspended):
            stack = self.new_stack(p)
            p.cur = stack
            self.run_next(p, stack)
            return True
        p.block_begin(NULL, 0, MAY_RESUME | self.may_take(p, p.suspended), False)
        if p.blocked:
            return False
        self.after_block(p)
        return True

    cdef bint step(self, Process p, frame_t *frame) except -1:
        cdef op_t *op
        cdef spec_t *spec
        if frame == NULL:
            # The bottom of a runner: more work, or it parks.
            if p.request == NULL and p.ready == NULL and p.desk.resumed.count == 0 and not p.desk.returned and (
                    self.runnable(p, p.suspended)):
                self.run_next(p, p.cur)
            else:
                self.free_stack(p, p.cur)
                p.cur = NULL
            return True
        spec = &self.specs[frame.spec]
        if frame.pc >= spec.op_count:
            return self.end(p, frame)
        op = &spec.ops[frame.pc]
        if op.kind == OP_RUN:
            frame.pc += 1
            self.busy(p, op.arg * 1000.0 * p.slowness)
            return False
        if op.kind == OP_SUBMIT:
            frame.children[frame.child_count] = self.submit(p, <int>op.arg)
            frame.child_count += 1
            frame.pc += 1
            return True
        if op.kind == OP_WAIT:
            return self.wait(p, frame, <int>op.arg)
        if op.kind == OP_CANCEL:
            return self.cancel(p, frame, <int>op.arg)
        frame.pc += 1
        if op.kind == OP_FAIL:
            self.count.errors += 1
            frame.pc = spec.op_count
            return True
        spec.crashed += 1
        if p.is_origin or spec.crashed > CRASHED_MAX:
            frame.tainted = True        # it would have raised instead
            return True
        self.kill(p)
        return False

    # -------------------------------------------------------------------------------------- waiting

    cdef bint wait(self, Process p, frame_t *frame, int which) except -1:
        cdef future_t *f = frame.children[which]
        cdef bint recall
        cdef int may
        if f == NULL:                   # cancelled
            frame.pc += 1
            return True
        if not frame.asked:
            frame.asked = True
            frame.asked_at = self.queue.now
            if p.desk.grave.count + p.desk.queue.stale.count > 64:
                self.sweep(p)
        if f.c.state >= S_DONE:
            frame.asked = False
            frame.pc += 1
            self.waited(p, frame, f)
            self.got(p, frame, which)
        elif f.c.state == S_QUEUED and self.take(p, f):
            if frame.stack.depth < self.depth_max:
                frame.stack.depth += 1
                self.count.on_the_spot += 1
                self.push(p, frame.stack, f, NULL, f.spec)
            else:
                self.suspend(p, frame, f, True)
        elif self.others(p, f):
            self.suspend(p, frame, f, False)
        else:
            recall = not p.desk.remote_only and f.c.state == S_EXPORTED
            may = MAY_RESUME | self.may_take(p, p.suspended + 1)
            if not p.desk.remote_only:
                may |= MAY_RUN
            p.block_begin(&f.c, 0, may, recall)
            if p.blocked:
                return False
            self.after_block(p)
        return True

    cdef bint take(self, Process p, future_t *f) except -1:
        if p.desk.remote_only:
            return False
        if f.c.flags & T_RETRIED and p.is_origin:
            self.fail("a call that crashed a worker runs in the origin", f.spec)
        if p.desk.queue.take(&f.c) == 1:
            self.release(p, f)
        return True

    cdef bint others(self, Process p, future_t *f) noexcept:
        if f.c.state == S_RUNNING or p.ready != NULL or p.desk.resumed.count or p.desk.returned:
            return True
        return self.runnable(p, p.suspended + 1)

    cdef int may_take(self, Process p, int parked) noexcept:
        return MAY_WORK if parked <= self.suspended_max or p.over_limit else MAY_AT_LAST

    cdef bint runnable(self, Process p, int parked) noexcept:
        if p.desk.remote_only:
            return False
        return p.desk.queue.own_count != 0 or (
            p.desk.queue.foreign_count != 0 and self.may_take(p, parked) == MAY_WORK)

    cdef int suspend(self, Process p, frame_t *frame, future_t *f, bint run_it) except -1:
        cdef bint final = f.c.state >= S_DONE
        f.c.marks |= M_SUSPENDED
        if final and not run_it:
            return 0
        f.waiter = frame.stack
        if run_it:
            p.request = f
        p.suspended += 1
        self.count.suspends += 1
        self.suspended += 1
        self.count.most_suspended = max(self.count.most_suspended, self.suspended)
        frame.stack.counted = True
        frame.stack.waits = f
        p.cur = NULL
        return 0

    cdef int after_block(self, Process p) except -1:
        if p.desk.parcels != NULL:
            self.unpack(p)
        return 0

    cdef bint cancel(self, Process p, frame_t *frame, int which) except -1:
        # Future.cancel, Hub.call_off and _wait_answer.
        cdef future_t *f = frame.children[which]
        if not frame.asked and f.c.state == S_QUEUED:
            if p.desk.queue.take(&f.c) == 1:
                self.release(p, f)
            f.c.state = S_CANCELLED
            f.ended += 1
            self.count.cancel_here += 1
        elif not frame.asked and f.c.state == S_EXPORTED:
            f.c.marks &= ~M_KEPT
            p.desk.ask_back(&f.c, CANCEL_DROP)
            frame.asked = True
            frame.asked_at = self.queue.now
            p.hurry()
        if frame.asked and f.c.state == S_EXPORTED and self.queue.now < frame.asked_at + ANSWER_NS and (
                f.c.marks & M_ASKED and not f.c.marks & M_STARTED):
            p.block_begin(&f.c, self.queue.now + ANSWER_LOOK_NS, 0, False)
            if p.blocked:
                return False
            self.after_block(p)
            return True
        if frame.asked and f.c.state == S_CANCELLED:
            self.count.cancel_there += 1
        elif frame.asked:
            f.c.marks |= M_KEPT
            self.count.cancel_late += 1
            if self.queue.now >= frame.asked_at + ANSWER_NS and p.slowness == 1.0 and self.timely():
                self.fail("cancel() had no answer for a second", f.spec)
        frame.asked = False
        frame.pc += 1
        if f.c.state == S_CANCELLED:
            self.say(p, "cancelled", f.spec)
            self.specs[f.spec].cancelled += 1
            frame.children[which] = NULL
            self.release(p, f)
        return True

    cdef bint drain(self, Process p, frame_t *frame) except -1:
        # The program has ended; what it submitted finishes first.
        if frame.asked:                 # back from the wait below
            frame.asked = False
            p.desk.draining = False
            self.after_block(p)
            if p.ready == NULL and not (p.desk.resumed.count or p.desk.returned) and self.runnable(p, p.suspended):
                self.run_next(p, p.root)
                return True
        if p.desk.queue.own_count + p.desk.ledger.open.count == 0:
            self.sweep(p)
            return self.main_ended(p)
        if p.ready != NULL or p.desk.resumed.count or p.desk.returned:
            if p.all_stacks == p.root and p.root.all_next == NULL:
                self.collect(p)
            else:
                self.make_ready(p, p.root)
                p.cur = NULL
            return True
        if not p.desk.remote_only and p.desk.queue.own_count:
            self.run_next(p, p.root)
            return True
        p.desk.draining = True
        frame.asked = True
        p.block_begin(NULL, 0, MAY_RESUME | self.may_take(p, p.suspended), False)
        return not p.blocked

    cdef int main_ended(self, Process p) except -1:
        # From here on the process only helps the others to settle.
        cdef frame_t *frame = p.root.top
        p.finished = True
        self.finished_s = self.queue.now / 1e9
        self.pop(p, frame)
        free(frame)
        self.free_stack(p, p.root)
        p.root = NULL
        p.cur = NULL
        return 1

    # ------------------------------------------------------------------------------------- running

    cdef bint run_next(self, Process p, stack_t *stack) except -1:
        cdef call_t *call
        cdef future_t *f
        cdef uint64_t spec
        if p.suspended <= LOOKED_AT_MAX:
            self.none_over(p)
        if p.is_origin and p.suspended == 1:
            call = p.desk.queue.oldest_own()
        else:
            call = p.desk.queue.newest_own()
        if call == NULL:
            call = p.desk.queue.next_foreign()
        if call == NULL:
            return False
        call.state = S_RUNNING
        if call.owner:
            p.desk.begin(call)
        if p.desk.out.size and (call.est_us == 0 or call.est_us > LONG_US):
            p.between(self.queue.now, True)
            p.wake()
        if call.owner == 0:
            f = <future_t *>call
            if call.flags & T_RETRIED and p.is_origin:
                self.fail("a call that crashed a worker runs in the origin", f.spec)
            self.push(p, stack, f, NULL, f.spec)
            self.release(p, f)
            return True
        if p.suspended > self.suspended_max:
            if p.exceeded_at and self.queue.now < p.exceeded_at + STILL_NS:
                self.fail(f"process {p.index} takes tasks beyond its limit without delay", -1)
            p.exceeded_at = self.queue.now
        p.over_limit = False
        if not self.function(p, call) or p.desk.claim(call, self.queue.now):
            return True
        if call.hops > self.hops_max:
            self.fail(f"a task moved {call.hops} times", -1)
        memcpy(&spec, call.data, 8)
        if spec >= <uint64_t>self.spec_count:
            self.fail("a task arrived with another payload", -1)
        if call.flags & T_RETRIED and (p.is_origin or (self.strict_alone and self.beside(p))):
            self.fail("a task that crashed a worker runs beside others", <int>spec)
        self.count.foreign_runs += 1
        self.push(p, stack, NULL, call, <int>spec)
        return True

    cdef bint end(self, Process p, frame_t *frame) except -1:
        if frame.own == NULL and frame.foreign == NULL:
            return self.drain(p, frame)
        self.specs[frame.spec].ended += 1
        if frame.up != NULL and frame.up.own == NULL and frame.up.foreign == NULL and (
                frame.up.pc >= self.specs[frame.up.spec].op_count):
            pass                        # run by drain(), not inside a wait
        elif frame.up != NULL:
            frame.stack.depth -= 1
        if frame.own != NULL:
            self.end_own(p, frame)
        else:
            self.end_foreign(p, frame)
        return True

    cdef int end_own(self, Process p, frame_t *frame) except -1:
        cdef future_t *f = frame.own
        cdef form_t *form = f.c.form
        cdef stack_t *waiter
        cdef uint64_t took = self.queue.now - frame.began + 1
        self.say(p, "ends, own", f.spec)
        self.pop(p, frame)
        form.est_ns = took if form.est_ns == 0 else (7 * form.est_ns + took) >> 3
        form.runs += 1
        f.value = frame.value
        f.resting = True
        f.c.outcome = O_LOST if frame.tainted else O_VALUE
        f.c.state = S_DONE
        f.ended += 1
        if f.ended > 1:
            self.fail("a future ended twice", f.spec)
        free(f.c.data)
        f.c.data = NULL
        if f.c.marks & M_SUSPENDED:
            if f.waiter != NULL:
                waiter = f.waiter
                f.waiter = NULL
                self.make_ready(p, waiter)
            else:
                f.refs += 1
                ring_push(&p.desk.resumed, &f.c)
                p.hurry()
        self.release(p, f)
        free(frame)
        return 0

    cdef int end_foreign(self, Process p, frame_t *frame) except -1:
        cdef char result[9]
        cdef span_t payload
        cdef call_t *call = frame.foreign
        cdef uint64_t took = self.queue.now - frame.began + 1
        self.say(p, "ends, for another", frame.spec)
        memcpy(result, &frame.value, 8)
        result[8] = frame.tainted
        payload.data = result
        payload.size = 9
        p.desk.post(call, O_ERROR if self.specs[frame.spec].fails else O_VALUE, took, payload)
        free(call.data)
        free(call)
        self.pop(p, frame)
        free(frame)
        p.between(self.queue.now, took > FLUSH_RUN_NS)
        p.wake()
        return 0

    # ------------------------------------------------------------------------------------- functions
