"""The simulated job: processes, links, faults, the event loop, and what must hold.

A world is made from a program (lists of operations, see programs.py) and a plan (dict: workers, delays, faults).
Everything random comes from one seed, so a run is repeated by its seed alone.
"""

from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free

from scoop._core.call cimport call_t
from scoop._core.localq cimport ring_pop
from scoop._core.table cimport mix64
from scoop._core.wire import TABLE, decode

from scoop_sim.events cimport (
    E_BLOCK, E_DIE, E_DRIVE, E_FRAME, E_PAUSE, E_PAUSED, E_REPORT, E_SPAWN, E_STEP, E_TIMER, event_t,
    link_arrived, link_free, link_t, message_t, queue_put, rng_next)
from scoop_sim.process cimport TAKEOVER_NS, Process, SimBroker, SimDesk, frame_t, future_t, stack_t
from scoop_sim.runner cimport Runner
from scoop_sim.stacks cimport OP_SUBMIT, OP_WAIT, op_t, spec_t


cdef class World(Runner):
    """One run.

    Args:
        program: list of tasks; each a dict with `ops` (list of (kind, argument)), `form` and `may_cancel`. Task 0 is
            the
            program itself; a task submits only tasks with higher numbers, each task is submitted once.
        plan: workers, remote_only, delay_us, jitter_us, start_us, slowness (one factor per worker), suspended_max,
            depth_max; report_us and report_jitter: when the agent tells of a death; lose_sent: whether a suffix of what
            the dead had sent is lost; respawn_us (-1: never); faults: list of (at_us, kind, process, us).
        seed: for delays and for what is lost.
        verbose: keep the story.
    """

    def __init__(self, list program, dict plan, uint64_t seed, bint verbose=False):
        self.rng = mix64(seed + 1)
        self.plan = plan
        self.story = [] if verbose else None
        self.suspended_max = plan.get("suspended_max", 64)
        self.depth_max = plan.get("depth_max", 64)
        self.crash_limit = 3
        self.finished_s = -1.0
        self.processes = []
        self.blame = {}
        self.links = <link_t **>calloc(1 << 16, sizeof(link_t *))
        self.next_incarnation = 1000
        self._load(program)
        self._start()

    def __dealloc__(self):
        cdef future_t *f
        cdef int i
        while self.futures != NULL:
            f = self.futures
            self.futures = f.before
            free(f.c.data)
            free(f)
        for i in range(self.spec_count):
            free(self.specs[i].ops)
        free(self.specs)
        if self.links != NULL:
            for i in range(self.link_count):
                link_free(self.links[i])
        free(self.links)
        free(self.queue.heap)

    def _load(self, list program):
        cdef int i, k
        cdef spec_t *spec
        cdef uint64_t value
        cdef list children
        self.spec_count = len(program)
        self.specs = <spec_t *>calloc(self.spec_count + 1, sizeof(spec_t))
        for i in range(self.spec_count - 1, -1, -1):
            spec = &self.specs[i]
            ops = program[i]["ops"]
            spec.ops = <op_t *>calloc(len(ops) + 1, sizeof(op_t))
            spec.op_count = len(ops)
            spec.form = program[i].get("form", 0)
            spec.may_cancel = program[i].get("may_cancel", False)
            value = mix64(<uint64_t>i + 1)
            children = []
            for k, (kind, argument) in enumerate(ops):
                spec.ops[k].kind = kind
                spec.ops[k].arg = argument
                if kind == OP_SUBMIT:
                    children.append(argument)
                    spec.submits += 1
                elif kind == OP_WAIT and not self.specs[<int>children[argument]].may_cancel:
                    value += mix64(self.specs[<int>children[argument]].expected ^ <uint64_t>argument)
                elif kind == 1:
                    self.work_ns += argument * 1000
            spec.expected = value

    # ------------------------------------------------------------------------------------- processes

    def _start(self):
        cdef int i
        cdef Process origin
        slowness = self.plan.get("slowness", ())
        origin = self._new_process(SimBroker())
        origin.is_origin = True
        origin.root = self.new_stack(origin)
        origin.root.root = True
        origin.cur = origin.root
        self.push(origin, origin.root, NULL, NULL, 0)
        origin.driver_takes()
        self.busy(origin, 0)
        for i in range(self.plan.get("workers", 2)):
            self._spawn(slowness[i] if i < len(slowness) else 1.0, self.plan.get("start_us", 0))
        for at_us, kind, worker, argument in self.plan.get("faults", ()):
            queue_put(&self.queue, at_us * 1000, {"die": E_DIE, "pause": E_PAUSE}[kind], worker,
                      <uint64_t>(argument * 1000), NULL)

    cdef Process _new_process(self, SimBroker broker):
        cdef Process p
        cdef SimDesk desk
        self.next_incarnation += 2
        desk = SimDesk(self.next_incarnation, broker is not None and self.plan.get("remote_only", False),
                       self.crash_limit)
        desk.wrong = &self.wrong
        desk.clock = &self.queue
        p = Process(desk, broker)
        p.queue = &self.queue
        p.index = len(self.processes)
        self.processes.append(p)
        return p

    cdef link_t *_new_link(self, int to, uint64_t source) except NULL:
        cdef link_t *link = <link_t *>calloc(1, sizeof(link_t))
        link.queue = &self.queue
        link.to = to
        link.source = source
        link.delay_ns = self.plan.get("delay_us", 40) * 1000
        link.jitter_ns = self.plan.get("jitter_us", 20) * 1000
        link.rng = rng_next(&self.rng)
        link.limit = <uint64_t>-1
        if self.link_count == 1 << 16:
            raise MemoryError
        self.links[self.link_count] = link
        self.link_count += 1
        return link

    cdef Process _spawn(self, double slowness, uint64_t after_us):
        cdef Process p = self._new_process(None)
        p.slowness = slowness
        p.up = self._new_link(0, p.desk.incarnation)
        p.say_hello()
        queue_put(&self.queue, self.queue.now + after_us * 1000, E_STEP, p.index, 0, NULL)
        return p

    cdef int kill(self, Process p) except -1:
        # A suffix of what it has sent is lost, everything on its way to it, and all that it holds.
        cdef uint64_t flying = p.up.sent - p.up.delivered
        if not p.alive or p.is_origin:
            return 0
        self.say(p, "dies", -1)
        p.alive = False
        p.blocked = False
        self.count.deaths += 1
        self.last_fault = self.queue.now
        if not self.plan.get("lose_sent", True):
            flying = p.up.sent          # all that it has sent arrives
            p.up.limit = flying
        else:
            p.up.limit = p.up.delivered + rng_next(&self.rng) % (flying + 1)
        report_us = self.plan.get("report_us", 500)
        if self.plan.get("report_jitter", True):
            report_us = rng_next(&self.rng) % <uint64_t>(report_us + 1)
        queue_put(&self.queue, self.queue.now + 1000 * <uint64_t>report_us, E_REPORT, 0, p.index, NULL)
        if self.plan.get("respawn_us", 8000) >= 0:
            queue_put(&self.queue, self.queue.now + 1000 * <uint64_t>self.plan.get("respawn_us", 8000), E_SPAWN, 0,
                      p.index, NULL)
        return 0

    cdef int _bury(self, Process p) except -1:
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

    cdef int _report(self, Process dead) except -1:
        # Pool._on_died: the innermost running task that another process owns is to blame.
        cdef Process origin = self.processes[0]
        cdef uint64_t owner = 0, id = 0
        if dead.page_count:
            if dead.page[2] != dead.desk.incarnation:
                owner = dead.page[2]
                id = dead.page[3]
            elif dead.page[0] != dead.desk.incarnation:
                owner = dead.page[0]
                id = dead.page[1]
        if owner:
            self.count.blamed += 1
            self.blame[owner, id] = self.blame.get((owner, id), 0) + 1
            if self.blame[owner, id] > self.crash_limit and self.alive(owner):
                self.fail(f"call {id} of {owner} has crashed {self.blame[owner, id]} workers", -1)
        self.say(dead, f"is reported dead, blamed {owner}:{id}", -1)
        self.last_fault = self.queue.now
        origin.told_elsewhere = True
        origin.report_lost(dead.desk.incarnation, owner, id, b"killed" if owner else b"")
        origin.told_elsewhere = False
        self._bury(dead)
        return self._look_again(origin) if origin.alive else 0

    # ---------------------------------------------------------------------------------------- events

    cdef int _look_again(self, Process p) except -1:
        # Something happened that a sleeping poll() notices.
        if p.paused_until > self.queue.now:
            return 0
        if p.blocked:
            p.block_go_on(True)
            if not p.blocked:
                if p.cur == NULL or p.cur.top == NULL or not p.draining:
                    self.after_block(p)
                self.go(p)
        elif p.driver_leads:
            p.drive_on(True)
        if self.wrong.count:
            self.fail(self.wrong.what.decode(), self.wrong.spec)
        return 0

    cdef int _on_event(self, event_t *event) except -1:
        cdef Process p
        cdef message_t *message
        if event.kind == E_REPORT:
            return self._report(self.processes[event.arg])
        if event.kind == E_SPAWN:
            p = self.processes[event.arg]
            self._spawn(p.slowness, 0)
            return 0
        if event.proc >= len(self.processes):
            return 0                    # a fault for a worker that was never started
        p = <Process>self.processes[event.proc]
        if event.kind == E_FRAME:
            message = <message_t *>event.ptr
            if not link_arrived(message):
                return 0
            if not p.alive:
                free(message)
                return 0
            if self.story is not None:
                self._say_frame(p, message.data[:message.size])
            p.put_inbox(message)
            return self._look_again(p)
        if not p.alive:
            return 0
        if event.kind == E_DIE:
            return self.kill(p)
        if event.kind == E_PAUSE:
            self.count.pauses += 1
            self.last_fault = self.queue.now + event.arg
            p.paused_until = max(p.paused_until, self.queue.now + event.arg)
            queue_put(&self.queue, p.paused_until, E_PAUSED, event.proc, 0, NULL)
            return 0
        if p.paused_until > self.queue.now:
            queue_put(&self.queue, p.paused_until, event.kind, event.proc, event.arg, NULL)
            return 0
        if event.kind == E_STEP:
            if event.arg == p.step_gen:
                if p.up != NULL and not p.greeted:
                    self._greet(p)
                return self.go(p)
        elif event.kind == E_BLOCK:
            if p.blocked and event.arg == p.block_gen:
                return self._look_again(p)
        elif event.kind == E_DRIVE:
            if p.driver_leads and event.arg == p.drive_gen:
                p.drive_on(True)
        elif event.kind == E_TIMER:
            p.timer_armed = False
            if self.queue.now - p.left_ns < TAKEOVER_NS:
                p.timer_armed = True
                queue_put(&self.queue, p.left_ns + TAKEOVER_NS, E_TIMER, p.index, 0, NULL)
            else:
                p.driver_takes()
        elif event.kind == E_PAUSED:
            return self._look_again(p)
        return 0

    def _say_frame(self, Process p, bytes frame):
        # In the story: what arrives, by name, with the task where a record names one.
        cdef future_t *f
        cdef Process owner
        for record in decode(frame):
            numbers = [x for x in record[1:] if not isinstance(x, bytes)]
            spec = -1
            if TABLE[record[0]][0] in ("TASK", "RESULT", "CANCEL", "ANSWER", "LOST"):
                f = self.futures
                while f != NULL:
                    owner = self.processes[f.owner]
                    if f.c.id == record[2] and owner.desk.incarnation == record[1]:
                        spec = f.spec
                    f = f.before
            self.say(p, f"gets {TABLE[record[0]][0]} {' '.join(map(str, numbers))}", spec)

    cdef int _greet(self, Process p) except -1:
        # The broker will answer HELLO on this link.
        cdef Process origin = self.processes[0]
        p.greeted = True
        (<SimBroker>origin.broker).expect(p.desk.incarnation, self._new_link(p.index, origin.desk.incarnation))
        return 0

    # ---------------------------------------------------------------------------------------- checks
