"""What becomes of errors: a task's exception arrives as itself, with the place where it was raised.

A task that kills its process costs neither the program nor the other tasks: the process is replaced, the
task is tried again, and after three deaths its future fails and tells why.
"""

import argparse
import os
import signal
import threading

import scoop
from scoop import futures


class Diverged(Exception):
    """An exception with a constructor of its own, as real programs have them."""

    def __init__(self, step, residual):
        super().__init__(f"diverged at step {step} (residual {residual:g})")
        self.step = step
        self.residual = residual


def solve(growth):
    """Iterate until the residual is small; raise `Diverged` where it never will be."""
    residual = 1.0
    for step in range(1000):
        residual *= growth
        if residual > 1e6:
            raise Diverged(step, residual)
        if residual < 1e-6:
            return step
    raise Diverged(step, residual)


def crash():
    """What a bug in a native library, or the kernel when memory is short, does to a process."""
    os.kill(os.getpid(), signal.SIGKILL)


def main():
    argparse.ArgumentParser(description="errors of tasks").parse_args()

    # An Executor's calls never run in this process, so there is another one to tell the tale of.
    with scoop.Executor(2) as executor:
        print("-- an exception arrives as itself, with its attributes and the remote traceback")
        try:
            executor.submit(solve, 2.0).result()
        except Diverged as error:
            print(f"{error!r}, step {error.step}")
            print(str(error.__cause__).strip())

        print("\n-- map yields the results before the exception, then raises it")
        results = executor.map(solve, [0.1, 0.5, 2.0, 0.9])
        try:
            for steps in results:
                print(f"converged in {steps} steps")
        except Diverged as error:
            print(error)

        print("\n-- a task that kills its process is tried three times; the pool stays usable")
        crashing = executor.submit(crash)
        print(crashing.exception())
        print("after the crash:", executor.submit(solve, 0.5).result(), "steps")

    print("\n-- what cannot be sent fails where it is submitted, and says where in the argument it is")
    model = {"layers": [{"weights": [1.0, 2.0], "lock": threading.Lock()}]}
    try:
        futures.submit(len, model)
    except scoop.errors.NotPicklableError as error:
        print(error)


if __name__ == "__main__":
    main()
