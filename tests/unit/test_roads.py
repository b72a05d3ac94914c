"""How a broker goes to others: those that refuse it, and those that are gone."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import sys
from pathlib import Path

from scoop._core.curve import Keys
from scoop._core.gateway import Gateway
from scoop._core.net import Context

# A process of its own: libzmq aborts the one that breaks its rules.
REFUSED = """\
import os, sys, time
from scoop._core.curve import Keys
from scoop._core.gateway import Gateway
from scoop._core.net import Context

folder = sys.argv[1]
never, end = os.pipe()
for attempt in range(20):
    one, other = Context(), Context()
    keys = Keys()
    address, meta = (f"ipc://{folder}/{name}-{attempt}" for name in ("there", "meta"))
    there = Gateway(None, 2)
    there.open(other, keys, address, meta)
    here = Gateway(None, 1)
    here.watching = True  # it greets at once
    here.open(one, Keys(), f"ipc://{folder}/here-{attempt}", f"ipc://{folder}/its-meta-{attempt}")
    here.introduce("", "")
    here.add_peer(2, address, meta, keys.public, False)
    while not there.gate.denied:
        there.step(never, 0.01)
    time.sleep(0.002 * attempt)  # the refusal is on its way, or has arrived, or is half taken in
    here.end()  # says STOP, and so goes there again
    for closing in (here, there, one, other):
        closing.close()
print("ends")
"""


def test_a_broker_that_refuses_may_be_tried_again_at_any_moment(environment, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", REFUSED, str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "ends\n", "")


def broker(folder: Path, number: int, keys: Keys, others: dict[int, Keys], successor: bool = False):
    """One that is about to know others; close both that are returned."""
    context = Context()
    made = Gateway(None, number)
    made.watching = True  # it greets at once
    made.successor = successor
    address, meta = (f"ipc://{folder}/{what}{number}" for what in ("door", "meta"))
    made.open(context, keys, address, meta, announce=True)
    for other, its_keys in others.items():
        made.gate.allow(its_keys.public, other)
    made.introduce(address, meta)
    return made, context


def test_one_way_leads_to_a_broker_that_has_come_to_us_and_to_its_successors(tmp_path, until):
    # Two from one broker to another would have one name there, and only one of them would be listened to.
    never, end = os.pipe()
    keys = {1: Keys(), 2: Keys()}
    one, context = broker(tmp_path, 1, keys[1], {2: keys[2]})

    def knows(two: Gateway) -> bool:
        for gateway in (one, two):
            gateway.step(never, 0.01)
        return two.messages > 0

    for life in range(2):
        two, its_context = broker(tmp_path, 2, keys[2], {1: keys[1]}, successor=life > 0)
        two.add_peer(1, f"ipc://{tmp_path}/door1", f"ipc://{tmp_path}/meta1", keys[1].public, True)
        until(lambda two=two: knows(two), "they know each other")
        for _ in range(20):
            knows(two)  # a second connection would have been made by now
        roads = [
            line
            for line in Path("/proc/net/unix").read_text().splitlines()
            if line.endswith(f"{tmp_path}/door2")
        ]
        assert len(roads) <= 2, "its listening socket, and one connection at most"
        two.close()
        its_context.close()
        for _ in range(5):
            one.step(never, 0.01)
        one.call_all()  # nobody is there: it waits on the way that leads there
    one.close()
    context.close()
    os.close(never)
    os.close(end)


@contextlib.contextmanager
def listener(folder: Path, name: str):
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(f"{folder}/{name}")
        door.listen()
        door.setblocking(False)
        yield door


def test_nobody_knocks_where_a_broker_is_gone_for_good(tmp_path, until):
    context = Context()
    gateway = Gateway(None, 1)
    gateway.open(context, Keys(), f"ipc://{tmp_path}/door", f"ipc://{tmp_path}/meta")
    never, end = os.pipe()
    with listener(tmp_path, "gone") as gone, listener(tmp_path, "there") as there:
        for number, name in ((2, "gone"), (3, "there")):
            gateway.add_peer(number, "", f"ipc://{tmp_path}/{name}", Keys().public, True)

        def knock(door: socket.socket) -> socket.socket | None:
            gateway.step(never, 0.02)
            try:
                return door.accept()[0]
            except BlockingIOError:
                return None

        def has_ended() -> bool:
            gateway.step(never, 0.02)
            return select.select([first], [], [], 0)[0] and not first.recv(4096)

        first = until(lambda: knock(gone), "it listens to both")
        gateway.remove_peer(2)
        until(has_ended, "it lets the one go")
        first.close()
        for _ in range(3):
            until(lambda: knock(there), "it comes again to the other").close()
        assert knock(gone) is None
    gateway.close()
    context.close()
    os.close(never)
    os.close(end)
