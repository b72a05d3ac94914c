"""Tasks that take their worker down: `crashes.py CASE`."""

import ctypes
import os
import signal
import sys
import threading
import time

import scoop
from scoop import current, futures
from scoop.errors import TaskCrashed


def die(how):
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "segfault":
        ctypes.string_at(0)
    os._exit(5)


def die_once(path, how, value):
    if not os.path.exists(path):
        open(path, "w").close()
        die(how)
    return value


def exhaust():
    return bytearray(1 << 60)


def square(x):
    time.sleep(0.0005)
    return x * x


def where():
    return os.getpid()


def slow_child(x):
    time.sleep(0.02)
    return x, os.getpid()


def parent(path):
    """Waits for children; the first time its own process dies while it waits."""
    children = [futures.submit(slow_child, x) for x in range(10)]
    if not os.path.exists(path):
        open(path, "w").close()
        threading.Timer(0.03, os.kill, (os.getpid(), signal.SIGKILL)).start()
    return sum(f.result()[0] for f in children)


def executor_case(how):
    with scoop.Executor(2) as ex:
        future = ex.submit(die, how)
        told = []
        future.add_done_callback(lambda f: told.append(f.exception()))
        error = future.exception(timeout=60)
        assert type(error) is TaskCrashed, repr(error)
        assert error.attempts == 3, error.attempts
        assert error.task == "die"
        assert error.host == os.uname().nodename
        assert error.pid > 0
        expected = {"kill": (9, None), "segfault": (11, None), "exit": (None, 5)}[how]
        assert (error.signal, error.exitcode) == expected
        # The pool is as good as before.
        assert sorted(f.result(timeout=60) for f in [ex.submit(square, x) for x in range(20)])[-1] == 361
        while not told:
            time.sleep(0.001)
        assert told == [error]


def once_case(folder):
    with scoop.Executor(2) as ex:
        fs = [
            ex.submit(die_once, os.path.join(folder, how), how, how) for how in ("kill", "segfault", "exit")
        ]
        assert [f.result(timeout=60) for f in fs] == ["kill", "segfault", "exit"]


def memory_case():
    with scoop.Executor(1) as ex:
        before = ex.submit(where).result()
        assert type(ex.submit(exhaust).exception(timeout=60)) is MemoryError
        assert ex.submit(where).result() == before, "a MemoryError is an ordinary exception"


def many(submit, kill_some):
    fs = [submit(square, x) for x in range(2000)]
    killer = threading.Thread(target=kill_some)
    killer.start()
    assert [f.result() for f in fs] == [x * x for x in range(2000)]
    killer.join()


def worker_pids(pool):
    while not pool._alive:
        time.sleep(0.001)
    return list(pool._alive.values())


def kill_after(pool, delays):
    for delay in delays:
        time.sleep(delay)
        os.kill(worker_pids(pool)[0], signal.SIGKILL)


def many_module():
    current.get()
    many(futures.submit, lambda: kill_after(current.pool, [0.25, 0.15]))


def many_executor():
    with scoop.Executor(2) as ex:
        many(ex.submit, lambda: kill_after(ex._pool, [0.25, 0.15]))


def nested_case(folder):
    with scoop.Executor(2) as ex:
        assert ex.submit(parent, os.path.join(folder, "mark")).result(timeout=60) == 45


def nested_module(folder):
    """Parents in several workers, one of which is killed while its parents wait."""
    scoop.configure(workers=3)
    fs = [futures.submit(fan, depth) for depth in (6, 6, 6, 6)]
    killer = threading.Thread(target=kill_after, args=(current.pool, [0.2]))
    killer.start()
    assert [f.result() for f in fs] == [64] * 4
    killer.join()


def fan(depth):
    if depth == 0:
        time.sleep(0.002)
        return 1
    pair = [futures.submit(fan, depth - 1), futures.submit(fan, depth - 1)]
    return sum(f.result() for f in pair)


def never_in_the_origin(folder):
    """A module-level task that killed a worker is not tried here, not even by a wait."""
    scoop.configure(workers=2)
    while not futures.submit(where).done():
        pass
    future = futures.submit(die, "kill")
    while not future.running():
        time.sleep(0.001)
    if future.exception() is None:
        raise AssertionError
    assert type(future.exception()) is TaskCrashed, repr(future.exception())


if __name__ == "__main__":
    case, *rest = sys.argv[1:]
    globals()[case](*rest)
    print("ok")
