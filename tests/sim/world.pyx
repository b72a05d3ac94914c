"""The simulated job: processes, links, faults, the event loop, and what must hold.

A world is made from a program (lists of operations, see programs.py) and a plan (dict: workers, delays, faults).
Everything random comes from one seed, so a run is repeated by its seed alone.
"""

from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport calloc, free

from scoop._core.table cimport mix64
from scoop._core.wire cimport ROLE_ORIGIN, ROLE_WORKER
from scoop._core.wire import TABLE, decode

from scoop_sim.brokers cimport SimBroker, SimGateway
from scoop_sim.events cimport (
    E_BLOCK, E_DRIVE, E_END_HOST, E_FAULT, E_FRAME, E_PAUSED, E_REPORT, E_SPAWN, E_STEP, E_SUCCEED, E_TIMER, event_t,
    link_arrived, message_t, queue_put, rng_next)
from scoop_sim.hosts cimport Hosts
from scoop_sim.process cimport TAKEOVER_NS, Process, SimDesk, future_t
from scoop_sim.stacks cimport OP_FAIL, OP_RUN, OP_SUBMIT, OP_WAIT, op_t, spec_t

cdef enum:
    HOME_SHIFT = 44
    GIVES_MAX = 3               # less than HOPS_MAX of localq.pyx: it is to be reached
    PATIENCE_NS = 25000000      # a call that has not started is asked back after 1 ms, and again after 20 ms
    PATIENCE_LINKS = 10         # journeys of a frame
    WRONG = 25                  # where estimates are wrong, a queue of 1 ms may take so many tasks' time


cdef class World(Hosts):
    """One run.

    Args:
        program: list of tasks; each a dict with `ops` (list of (kind, argument)), `form` and `may_cancel`. Task 0 is
            the program itself; a task submits only tasks with higher numbers, each task is submitted once.
        plan: workers, remote_only, delay_us, jitter_us, start_us, slowness (one factor per worker), suspended_max,
            depth_max; report_us and report_jitter: when the agent tells of a death; lose_sent: whether a suffix of what
            the dead had sent is lost; respawn_us (-1: never); faults: list of (at_us, kind, who, us), see `_befall`.
            hosts (0: one, its broker in the origin): workers of each, in place of `workers`; far_delay_us, broker_us,
            hint_delay_us, hint_loss (of 1,000).
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
        self.blame, self.reported, self.once_begun = {}, [], set()
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
            spec.may_cancel, spec.once = program[i].get("may_cancel", False), program[i].get("once", False)
            spec.fails = OP_FAIL in [kind for kind, _ in ops]
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
                elif kind == OP_RUN:
                    self.work_ns += argument * 1000
                    spec.below_ns += argument * 1000
                spec.waits_below += kind == OP_WAIT
            spec.expected = value
            for argument in children:
                value = <uint64_t>argument
                spec.below_ns += self.specs[value].below_ns
                spec.waits_below += self.specs[value].waits_below
        for i in range(self.spec_count):
            self._look_beside(&self.specs[i])

    cdef void _look_beside(self, spec_t *spec) noexcept nogil:
        # Of a task's children: what is beside it is beside them, and so is each of the others.
        cdef uint64_t most = 0, second = 0
        cdef spec_t *child
        cdef int k
        for k in range(spec.op_count):
            if spec.ops[k].kind == OP_SUBMIT:
                child = &self.specs[spec.ops[k].arg]
                if child.below_ns > most:
                    second = most
                    most = child.below_ns
                elif child.below_ns > second:
                    second = child.below_ns
        for k in range(spec.op_count):
            if spec.ops[k].kind == OP_SUBMIT:
                child = &self.specs[spec.ops[k].arg]
                child.beside_ns = max(spec.beside_ns, second if child.below_ns == most else most)

    # ------------------------------------------------------------------------------------- processes

    def _start(self):
        cdef int i, host
        cdef Process origin
        slowness = self.plan.get("slowness", ())
        hosts = self.plan.get("hosts", ())
        self.hops_max = 4 if hosts else 3       # the owner's own giving counts as one
        self._start_hosts(len(hosts))
        origin = self._new_process(None if hosts else SimBroker(), 0)
        origin.is_origin = True
        if hosts:
            origin.up = self._new_link(-1, origin.desk.incarnation)
            origin.say_hello(ROLE_ORIGIN)
            self._greet(origin)
        origin.root = self.new_stack(origin)
        origin.root.root = True
        origin.cur = origin.root
        self.push(origin, origin.root, NULL, NULL, 0)
        origin.driver_takes()
        self.busy(origin, 0)
        places = [host for host, count in enumerate(hosts or [self.plan.get("workers", 2)]) for _ in range(count)]
        for i, host in enumerate(places):
            self._spawn(host, slowness[i] if i < len(slowness) else 1.0, self.plan.get("start_us", 0))
        self.faults = list(self.plan.get("faults", ()))
        # Whatever is left may have to be done by the slowest alone.
        self.slowest = max([1.0] + list(slowness))
        if self.slowest == 1.0 and not self.faults and not self.plan.get("remote_only", False) and (
                self.suspended_max >= 64 and not any([self.specs[i].once for i in range(self.spec_count)])):
            self.estimates = 1.0 if self.plan.get("even", False) else WRONG
            self.patience_ns = PATIENCE_NS + PATIENCE_LINKS * 1000 * <uint64_t>(
                self.plan.get("delay_us", 40) + self.plan.get("jitter_us", 20) + self.plan.get("far_delay_us", 0) +
                self.plan.get("broker_us", 0) + self.plan.get("start_us", 0))
        for i in range(len(self.faults)):
            self.later(self.faults[i][0], E_FAULT, 0, i)

    cdef Process _new_process(self, SimBroker broker, int host):
        cdef Process p
        cdef SimDesk desk
        cdef uint64_t incarnation
        self.next_incarnation += 2
        incarnation = self.next_incarnation
        if self.gateways:
            incarnation = (<uint64_t>(host + 1) << HOME_SHIFT) + self.next_incarnation
        desk = SimDesk(incarnation, not self.processes and self.plan.get("remote_only", False), self.crash_limit)
        desk.queue.hops_max = GIVES_MAX
        desk.wrong = &self.wrong
        desk.seen = &self.seen
        desk.clock = &self.queue
        p = Process(desk, broker)
        p.queue = &self.queue
        p.index = len(self.processes)
        p.host = host
        self.processes.append(p)
        return p

    cdef Process _spawn(self, int host, double slowness, uint64_t after_us):
        cdef Process p = self._new_process(None, host)
        p.slowness = slowness
        p.up = self._new_link(-1 - host if self.gateways else 0, p.desk.incarnation)
        if self.gateways:
            p.up.hold_until = p.up.connects_at = (<SimGateway>self.gateways[host]).up_at
        p.say_hello(ROLE_WORKER)
        queue_put(&self.queue, self.queue.now + after_us * 1000, E_STEP, p.index, 0, NULL)
        return p

    cdef int kill(self, Process p) except -1:
        # A suffix of what it has sent is lost, everything on its way to it, and all that it holds.
        if not p.alive or p.is_origin:
            return 0
        self.say(p, "dies", -1)
        p.alive = False
        p.blocked = False
        self.count.deaths += 1
        self.last_fault = self.queue.now
        if self.plan.get("lose_sent", True):
            self._lose_suffix(p.up)
        report_us = self.plan.get("report_us", 500)
        if self.plan.get("report_jitter", True):
            report_us = rng_next(&self.rng) % <uint64_t>(report_us + 1)
        self.later(report_us, E_REPORT, 0, p.index)
        if self.plan.get("respawn_us", 8000) >= 0:
            self.later(self.plan.get("respawn_us", 8000), E_SPAWN, 0, p.index)
        return 0

    cdef int _report(self, Process dead) except -1:
        # Pool._on_died: the innermost running task that another process owns is to blame.
        cdef Process origin = self.processes[0]
        cdef SimGateway g
        cdef uint64_t owner = 0, id = 0
        if self.gateways:
            g = self.gateways[dead.host]
            if g.paused_until > self.queue.now:
                return self.later((g.paused_until - self.queue.now) // 1000 + 1, E_REPORT, 0, dead.index)
        if dead.page_count:
            if dead.page[2] != dead.desk.incarnation:
                owner = dead.page[2]
                id = dead.page[3]
            elif dead.page[0] != dead.desk.incarnation:
                owner = dead.page[0]
                id = dead.page[1]
        if owner and not self.host_ends(dead.host):
            self.count.blamed += 1
            self.blame[owner, id] = self.blame.get((owner, id), 0) + 1
            # A lost host, broker or connection may have taken a notice with it.
            if self.alive(owner) and self.blame[owner, id] > (
                    self.crash_limit + self.count.hosts_lost + self.losses()):
                self.fail(f"call {id} of {owner} has crashed {self.blame[owner, id]} workers", -1)
        self.say(dead, f"is reported dead, blamed {owner}:{id}", -1)
        self.last_fault = self.queue.now
        if self.gateways:
            self.reported.append(dead.desk.incarnation)
            if g.alive:
                g.report_lost(dead.desk.incarnation, owner, id, b"killed" if owner else b"")
                g.arm()
            return self.bury(dead)
        origin.told_elsewhere = True
        origin.report_lost(dead.desk.incarnation, owner, id, b"killed" if owner else b"")
        origin.told_elsewhere = False
        self.bury(dead)
        return self._look_again(origin) if origin.alive else 0

    # ---------------------------------------------------------------------------------------- events

    cdef int _look_again(self, Process p) except -1:
        # Something happened that a sleeping poll() notices.
        if p.paused_until > self.queue.now:
            return 0
        if p.blocked:
            p.block_go_on(True)
            if not p.blocked:
                if p.cur == NULL or p.cur.top == NULL or not p.desk.draining:
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
        if event.proc < 0:
            return self._on_gateway(event)
        if event.kind in (E_REPORT, E_SPAWN, E_FAULT, E_END_HOST, E_SUCCEED):
            self.pending -= 1
            if event.kind == E_SUCCEED:
                return self._succeed(<int>event.arg)
            if event.kind == E_REPORT:
                return self._report(self.processes[event.arg])
            if event.kind == E_END_HOST:
                return self._end_host(<int>event.arg)
            if event.kind == E_FAULT:
                _, kind, who, us = self.faults[event.arg]
                return self._befall(kind, who, us)
            p = self.processes[event.arg]
            if not self.host_ends(p.host):
                self._spawn(p.host, p.slowness, 0)
            return 0
        p = <Process>self.processes[event.proc]
        if event.kind == E_FRAME:
            message = <message_t *>event.ptr
            if not link_arrived(message):
                return 0
            if not p.alive:
                free(message)
                return 0
            if self.story is not None:
                self.say_frame(p, "", message.data[:message.size])
            p.put_inbox(message)
            return self._look_again(p)
        if not p.alive:
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

    cdef int _befall(self, str kind, int who, int64_t us) except -1:
        """One fault of the plan.

        die, pause: process `who`; a broker stops if `who` is below 0 (-1: of the first host).
        kill, stop: the same with the `who`-th of those that live, around and around.
        broker-dies: that of host `who`; another one takes its place after `us`.
        host: host `who` is lost with all its processes; they live `us` longer than the others believe, -1: no longer;
        silent: the same, and from now on nothing of it arrives and nothing gets there.
        cut, one-way, reset, slow: the way from broker `who` // 16 to broker `who` % 16, for `us`, or by `us`.
        """
        cdef Process p
        cdef SimGateway g
        cdef uint64_t until = self.queue.now + <uint64_t>max(us, <int64_t>0) * 1000
        if kind in ("host", "silent"):
            return self._lose_host(who, us, kind == "silent") if who < len(self.gateways) else 0
        if kind == "broker-dies":
            return self._end_broker(who, us) if who < len(self.gateways) else 0
        if kind in ("cut", "one-way", "reset", "slow"):
            return self._disturb(kind, who // 16, who % 16, us)
        if kind in ("kill", "stop"):
            living = [p.index for p in self.processes if p.alive and not (p.is_origin and kind == "kill")]
            if not living:
                return 0
            who = living[who % len(living)]
        if who < 0 and -who <= len(self.gateways):
            self.count.faults += 1
            g = self.gateways[-1 - who]
            self.count.pauses += 1
            self.last_fault = max(self.last_fault, until)
            g.paused_until = max(g.paused_until, until)
            queue_put(&self.queue, g.paused_until, E_PAUSED, who, 0, NULL)
            return 0
        if who < 0 or who >= len(self.processes):
            return 0                    # a fault for a worker that was never started
        p = self.processes[who]
        if not p.alive:
            return 0
        self.count.faults += 1
        if kind in ("die", "kill"):
            return self.kill(p)
        self.count.pauses += 1
        self.last_fault = max(self.last_fault, until)
        p.paused_until = max(p.paused_until, until)
        queue_put(&self.queue, p.paused_until, E_PAUSED, who, 0, NULL)
        return 0

    cdef int say_frame(self, Process p, str to, bytes frame) except -1:
        cdef future_t *f
        cdef Process owner
        for record in decode(frame):
            numbers = [x for x in record[1:] if not isinstance(x, bytes)]
            spec = -1
            if TABLE[record[0]][0] in ("TASK", "RESULT", "CANCEL", "ANSWER", "LOST", "HOLD"):
                f = self.futures
                while f != NULL:
                    owner = self.processes[f.owner]
                    if f.c.id == record[2] and owner.desk.incarnation == record[1]:
                        spec = f.spec
                    f = f.before
            self.say(p, f"{to}gets {TABLE[record[0]][0]} {' '.join(map(str, numbers))}", spec)
        return 0

    cdef int _greet(self, Process p) except -1:
        # The broker will answer HELLO on this link.
        cdef Process origin = self.processes[0]
        p.greeted = True
        if self.gateways and (<SimGateway>self.gateways[p.host]).alive:
            self._let_in_again(self.gateways[p.host], p)
        elif not self.gateways:
            (<SimBroker>origin.broker).lines.expect(
                p.desk.incarnation, self._new_link(p.index, origin.desk.incarnation))
        return 0

    # ---------------------------------------------------------------------------------------- checks
