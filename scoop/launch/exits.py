"""How a program that uses scoop ends: by its end, by Ctrl-C, in a forked child.

At the end submitted calls finish, as in the standard library. That happens in two steps. A hook that runs
before the interpreter joins the program's other threads runs what is outstanding; these threads may submit
more, and the pools close when they have ended too.

Ctrl-C raises KeyboardInterrupt in the main thread, as always; a program may catch it and go on. When it ends
the program, one line says so, the workers are killed, and the process ends by SIGINT, which a shell shows as
130. A second one meanwhile ends the process at once; its agent then cleans up.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType, TracebackType

    from scoop.launch.origin import Origin

pools: list[Origin] = []
"""The pools of this process that are not closed."""

_RUNS, _DRAINS, _INTERRUPTED = range(3)
_phase = _RUNS
_hooked_pid = 0
_hook_before = sys.excepthook


def register(pool: Origin) -> None:
    """Note a pool that has to be ended; installs the hooks at the first one.

    Raises:
        RuntimeError: the interpreter is ending.
        ForkedProcess: this is a forked child of the process that has pools.
    """
    global _hooked_pid
    if _hooked_pid not in (0, os.getpid()):
        from scoop.errors import ForkedProcess

        raise ForkedProcess(
            "this process was forked from one that uses scoop, which ends here; use scoop in the original "
            "process, or start this one as a program of its own"
        )
    if _phase != _RUNS:
        raise RuntimeError("the program is ending: scoop starts no workers any more")
    if _hooked_pid == 0:
        # Refused by the interpreter when it has joined the threads already.
        threading._register_atexit(_before_threads_end)  # type: ignore[attr-defined]
        atexit.register(_at_the_end)
        _hooked_pid = os.getpid()
    pools.append(pool)
    _catch_interrupts()


def forget(pool: Origin) -> None:
    """A pool has been closed."""
    if pool in pools:
        pools.remove(pool)


def _catch_interrupts() -> None:
    """Install the handler and the hook where nobody else has put one."""
    global _hook_before
    if threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _on_interrupt)
    interactive = hasattr(sys, "ps1") or sys.flags.interactive
    if sys.excepthook is sys.__excepthook__ and not interactive:
        _hook_before = sys.excepthook
        sys.excepthook = _on_uncaught


def _on_interrupt(number: int, frame: FrameType | None) -> None:
    for pool in pools:
        pool.session.interrupted = True
    if _phase == _INTERRUPTED:
        _die()
    signal.default_int_handler(number, frame)


def _on_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    global _phase
    if issubclass(kind, KeyboardInterrupt) and _hooked_pid == os.getpid():
        _phase = _INTERRUPTED
        _say()
    else:
        _hook_before(kind, error, trace)


def _say() -> None:
    try:
        print("Interrupted", file=sys.stderr, flush=True)
    except (OSError, ValueError, AttributeError):
        pass


def _die() -> None:
    """End by SIGINT now. The agent removes everything that is left."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)


def _before_threads_end() -> None:
    global _phase
    if _hooked_pid != os.getpid():
        return
    try:
        if _phase == _RUNS:
            _phase = _DRAINS
            for pool in tuple(pools):
                pool.settle()
    except KeyboardInterrupt:
        _phase = _INTERRUPTED
        _say()
        atexit.register(_die)
    if _phase == _INTERRUPTED:
        _abandon()


def _at_the_end() -> None:
    global _phase
    if _hooked_pid != os.getpid():
        return
    try:
        for pool in tuple(pools):
            pool.finish()
    except KeyboardInterrupt:
        if _phase != _INTERRUPTED:
            _phase = _INTERRUPTED
            _say()
        _abandon()
        _die()


def _abandon() -> None:
    for pool in tuple(pools):
        pool.abandon("the program was interrupted")


def end() -> None:
    """In a worker that ends: end what its tasks have left open, executors of their own."""
    _abandon()


def _in_child() -> None:
    """A forked child has none of the threads: it lets go of everything, changing nothing of its parent's."""
    for pool in pools:
        pool.forget()
    pools.clear()
    if sys.excepthook is _on_uncaught:
        sys.excepthook = _hook_before
    if signal.getsignal(signal.SIGINT) is _on_interrupt:
        signal.signal(signal.SIGINT, signal.default_int_handler)


os.register_at_fork(after_in_child=_in_child)
