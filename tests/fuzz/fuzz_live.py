"""A job beside which a process with a valid key has gone mad.

    python tests/fuzz/fuzz_live.py job --seconds 20 --seed 1         # a pool on this machine, and a mad node
    python tests/fuzz/fuzz_live.py mad --address tcp://... --seed 1  # it alone, at a broker started by hand

The mad node says hello as it should, and then whatever fuzz_wire can think of: records of every kind about
its own tasks and those of the others, broken ones, noise. It asks for no work, since whoever holds a task
may say what it likes of it. The job beside it goes on, every answer is right, and the broker does not grow
without bound.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import fuzz_wire
import zmq

from scoop._core import wire

FRAMES_PER_BURST = 50
PAUSE_S = 0.01
GROWN_BYTES_MAX = 128 << 20
PAGE_BYTES = 4096


def square(number: int) -> int:
    """What the job computes."""
    return number * number + 1


def resident_bytes(pid: int | str = "self") -> int:
    """How much memory a process has."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES


def connect(context: zmq.Context[zmq.Socket[bytes]], address: str) -> tuple[zmq.Socket[bytes], int]:
    """A socket at a broker, and the name by which it knows us."""
    dealer = context.socket(zmq.DEALER)
    dealer.setsockopt(zmq.LINGER, 0)
    incarnation = random.SystemRandom().getrandbits(40)
    if address.startswith("tcp://"):
        from scoop._core.curve import Keys
        from scoop.launch import byhand, keyring

        where = byhand.Place({"BROKER_ADDRESS": address, "IS_ORIGIN": "0"})
        card = byhand.find_card(where, time.monotonic() + 10)
        incarnation = keyring.new_incarnation(card.number)
        public, secret = zmq.curve_keypair()
        keyring.allow_key(card.allow, Keys(public, secret), incarnation)
        dealer.curve_serverkey, dealer.curve_publickey, dealer.curve_secretkey = card.public, public, secret
    dealer.setsockopt(zmq.IDENTITY, incarnation.to_bytes(8, sys.byteorder))
    dealer.connect(address)
    return dealer, incarnation


def sane_enough(data: bytes) -> bool:
    """Whether no record of a frame asks for work: whoever gets a task may answer it as it likes."""
    return bytes([fuzz_wire.NAMES["REQUEST"]]) not in data


def mad(address: str, victims: list[int], seed: int, seconds: float) -> int:
    """Say anything, for a while; how many frames."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    dealer, me = connect(context, address)
    fuzz_wire.PEERS[:] = [me, me, *victims, 0, 2**64 - 1]
    dealer.send(wire.encode(fuzz_wire.NAMES["HELLO"], me, wire.VERSION, 1, os.getpid(), b"mad"))
    dice = random.Random(f"live/{seed}")
    until = time.monotonic() + seconds
    sent = heard = 0
    while time.monotonic() < until:
        for _ in range(FRAMES_PER_BURST):
            frame = fuzz_wire.frame(dice)
            if sane_enough(frame):
                dealer.send(frame)
                sent += 1
        while dealer.poll(0):
            wire.decode(dealer.recv())
            heard += 1
        time.sleep(PAUSE_S)
    dealer.close()
    context.term()
    print(f"mad: {sent} frames of seed {seed} sent, {heard} heard", flush=True)
    return sent


def job(seed: int, seconds: float, address: str) -> None:
    """Compute beside a mad node, and check every answer."""
    import scoop
    from scoop import current, futures
    from scoop.launch import boot

    assert list(futures.map(square, range(10))) == [square(i) for i in range(10)]
    pool = current.pool
    assert pool is not None
    victims = [pool.node.desk.incarnation]
    if not address:
        address = f"ipc://{pool._run_dir}/broker"
        victims += [boot.incarnation_of(pool._base, index) for index in range(pool.workers)]
    before = resident_bytes()
    other = subprocess.Popen(
        [sys.executable, __file__, "mad", "--address", address, "--seed", str(seed)]
        + ["--seconds", str(seconds), "--victims", ",".join(map(str, victims))],
    )
    rounds = 0
    executor = scoop.Executor()  # its calls run in workers only
    while other.poll() is None or rounds == 0:
        first = 1000 * rounds
        expected = [square(i) for i in range(first, first + 300)]
        assert list(futures.map(square, range(first, first + 300))) == expected, f"wrong answers in {rounds}"
        calls = [executor.submit(square, i) for i in range(first, first + 100)]
        assert [call.result() for call in calls] == expected[:100], f"wrong answers in {rounds}"
        rounds += 1
    grown = resident_bytes() - before
    assert other.returncode == 0, f"the mad node ended with {other.returncode}"
    assert grown < GROWN_BYTES_MAX, f"{grown >> 20} MB more than before"
    print(f"job: {rounds} rounds of 400 calls, all answers right, {grown >> 20} MB more", flush=True)
    broker = os.environ.get("SCOOP_FUZZ_BROKER")
    if broker:
        print(f"broker {resident_bytes(broker)} bytes", flush=True)


def main(arguments: list[str]) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("role", choices=["job", "mad"])
    parser.add_argument("--address", default="", help="of the broker; the job's own if there is none")
    parser.add_argument("--victims", default="", help="incarnations of others")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    if options.role == "mad":
        victims = [int(name) for name in options.victims.split(",") if name]
        mad(options.address, victims, options.seed, options.seconds)
    else:
        job(options.seed, options.seconds, options.address)


if __name__ == "__main__":
    main(sys.argv[1:])
