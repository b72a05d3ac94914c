"""What tasks do to their own processes, and processes that stand still. `faults.py CASE`."""

import ctypes
import os
import signal
import sys
import threading
import time
from itertools import islice

import scoop
from scoop import futures

WAIT_S = 20


def where():
    return os.getpid()


def raises(kind):
    raise kind("from the task")


def endless(depth):
    return endless(depth + 1)


def deadly(depth, pause):
    """A tree of calls, of which the innermost kills its process."""
    if depth == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    innocent = [futures.submit(pow, depth, x) for x in range(3)]
    below = futures.submit(deadly, depth - 1, pause)
    time.sleep(pause)
    return sum(f.result() for f in innocent) + below.result()


def quick_but_for_0(x):
    if x == 0:
        time.sleep(0.3)  # so that those behind it have not started when the questions about them arrive
    return x


def hold_the_lock(seconds):
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))
    return os.getpid()


def close_everything():
    os.closerange(0, 4096)


def ignore_all_signals():
    for number in range(1, 32):
        try:
            signal.signal(number, signal.SIG_IGN)
        except OSError:
            pass
    return os.getpid()


def note(path, x):
    with open(path, "a") as file:
        file.write(f"{x}\n")
    time.sleep(0.05)
    return x


def the_worker_lives(ex, pid):
    assert ex.submit(where).result(timeout=WAIT_S) == pid


def exceptions():
    with scoop.Executor(1) as ex:
        pid = ex.submit(where).result(timeout=WAIT_S)
        for kind in (KeyboardInterrupt, SystemExit, GeneratorExit):
            assert type(ex.submit(raises, kind).exception(timeout=WAIT_S)) is kind
        assert type(ex.submit(endless, 0).exception(timeout=WAIT_S)) is RecursionError
        the_worker_lives(ex, pid)


def poison(depth, pause):
    with scoop.Executor(4) as ex:
        dead = ex.submit(deadly, int(depth), float(pause))
        rest = [ex.submit(pow, x, 2) for x in range(50)]
        assert isinstance(dead.exception(timeout=60), scoop.errors.TaskCrashed), repr(dead.exception())
        assert [f.result(timeout=WAIT_S) for f in rest] == [x * x for x in range(50)]
        assert ex.submit(pow, 2, 3).result(timeout=WAIT_S) == 8


def third_time(_):
    if scoop.attempt() < 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return scoop.attempt()


def below():
    return scoop.attempt(), futures.submit(scoop.attempt).result()


def attempts():
    assert scoop.attempt() == 1, "in the program itself"
    with scoop.Executor(2) as ex:
        assert ex.submit(third_time, 0).result(timeout=WAIT_S) == 3
        assert ex.submit(below).result(timeout=WAIT_S) == (1, 1)


def signals():
    with scoop.Executor(1) as ex:
        pid = ex.submit(ignore_all_signals).result(timeout=WAIT_S)
        the_worker_lives(ex, pid)


def descriptors():
    ex = scoop.Executor(1)
    error = ex.submit(close_everything).exception(timeout=10)
    assert isinstance(error, scoop.errors.TaskCrashed), repr(error)
    assert error.attempts == 3, error
    assert ex.submit(pow, 2, 3).result(timeout=WAIT_S) == 8
    ex.shutdown()


def own_descriptors():
    assert list(futures.map(pow, range(9), range(9)))[2] == 4
    os.closerange(3, 4096)


def own_descriptors_and_goes_on():
    ex = scoop.Executor(2)
    fs = list(map(ex.submit, [time.sleep] * 20, [0.1] * 20))
    fs[0].result()
    os.closerange(3, 4096)
    fs[19].result()


def note_then_perhaps_die(path, x):
    with open(path, "a") as file:
        file.write(f"{x}\n")
    if x % 20 == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def once(path):
    """A call that is not to begin twice fails with its worker; those that had not begun run elsewhere."""
    fs = [futures.submit_once(note_then_perhaps_die, path, x) for x in range(60)]
    lost = []
    for x, f in enumerate(fs):
        error = f.exception(timeout=WAIT_S)
        if error is None:
            assert f.result() == x
        else:
            assert isinstance(error, scoop.errors.TaskCrashed), repr(error)
            lost.append(x)
    assert lost == [7, 27, 47]
    with open(path) as file:
        assert sorted(map(int, file)) == list(range(60))


def late_answer():
    """What `cancel` says stays true, also when its question is answered later."""
    with scoop.Executor(1) as ex:
        for x in range(1, 50):
            ex.submit(quick_but_for_0, x).result(timeout=WAIT_S)
        worker = ex.submit(where).result(timeout=WAIT_S)
        while ex._pool.session.statistics()["wanted_us"] <= 0:
            time.sleep(0.001)
        os.kill(worker, signal.SIGSTOP)
        try:
            # It has asked for work, so some of these go to it, and it does not answer in time.
            fs = [ex.submit(quick_but_for_0, x) for x in range(1000)]
            refused = list(islice((x for x, f in enumerate(fs) if not (f.done() or f.cancel())), 4))
        finally:
            os.kill(worker, signal.SIGCONT)
        assert [fs[x].result(timeout=WAIT_S) for x in refused] == refused
        print(f"{len(refused)} asked in vain", file=sys.stderr)


def held_lock():
    """Other workers take what the busy one holds, though it cannot run Python."""
    with scoop.Executor(2) as ex:
        held = ex.submit(hold_the_lock, 2.0)
        rest = [ex.submit(pow, x, 2) for x in range(200)]
        assert [f.result(timeout=WAIT_S) for f in rest] == [x * x for x in range(200)]
        assert not held.done()
        assert held.result(timeout=WAIT_S) > 0


def paused(path, who):
    """A stopped process is not a dead one: nothing runs twice."""
    with scoop.Executor(2) as ex:
        fs = [ex.submit(note, path, x) for x in range(40)]
        fs[0].result(timeout=WAIT_S)
        pool = ex._pool
        victims = list(pool._alive.values())
        if who == "one":
            del victims[1:]
        if who == "all":
            victims.append(pool._agent.pid)
        for pid in victims:
            os.kill(pid, signal.SIGSTOP)
        if who == "all":  # this process too: a child wakes everybody
            wake = "sleep 1; kill -CONT " + " ".join(map(str, [*victims, os.getpid()]))
            os.posix_spawn("/bin/sh", ["sh", "-c", wake], os.environ)
            os.kill(os.getpid(), signal.SIGSTOP)
        else:
            threading.Timer(1.0, lambda: [os.kill(pid, signal.SIGCONT) for pid in victims]).start()
        assert [f.result(timeout=WAIT_S) for f in fs] == list(range(40))
        with open(path) as file:
            assert sorted(map(int, file)) == list(range(40))


if __name__ == "__main__":
    case, *rest = sys.argv[1:]
    globals()[case](*rest)
    print("ok")
