"""One process of a job whose broker is elsewhere: `by_hand.py worker|origin ADDRESS`."""

import contextvars
import os
import sys

from scoop._core.desk import Desk
from scoop._core.net import Context, Socket
from scoop._core.node import Node
from scoop._core.session import Session
from scoop.future import Future
from scoop.launch import boot


def task(x):
    return x * x, os.getpid()


def origin(address):
    incarnation = 4711
    context = Context()
    socket = Socket(context, "dealer", incarnation.to_bytes(8, sys.byteorder), 1000)
    socket.connect(address)
    node = Node(Desk(incarnation, True), None, socket)
    session = Session(node, contextvars.copy_context(), True, Future, b"s" * 16)
    driver = boot.start_driver(node, "driver")
    node.hello(2, "origin")
    answers = [f.result(timeout=30) for f in [session.submit(task, (x,), {}) for x in range(100)]]
    assert [value for value, _ in answers] == [x * x for x in range(100)]
    pids = {pid for _, pid in answers}
    assert os.getpid() not in pids
    session.closed = True
    node.stop()
    driver.join(5)
    socket.close()
    context.close()
    print(len(pids))


if __name__ == "__main__":
    role, address = sys.argv[1:]
    if role == "origin":
        origin(address)
    else:
        spec = {"base": 99, "broker": address, "seed": b"s" * 16, "copy": True, "size": 2}
        boot.worker_main({**spec, "_page": bytearray(8192)}, 0)
