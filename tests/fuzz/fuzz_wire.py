"""Feeds bytes that nobody should send to whatever reads messages.

    python tests/fuzz/fuzz_wire.py                          # each target for 20 seconds, seed 1
    python tests/fuzz/fuzz_wire.py broker --seconds 3600 --seed 7
    python tests/fuzz/fuzz_wire.py broker --seed 7 --only 1234     # one round again, with its frames
    python tests/fuzz/fuzz_wire.py --sanitized ...          # with gcc's sanitizers

A round is made of nothing but its seed and its number. `--progress FILE` keeps the number of the round that
runs in a file, so that it is known after a crash.

Targets: `codec` (wire.decode and scalars.decode raise ValueError and nothing else, and what they accept they
would write again), `broker`, `gateway` and `desk` (the drivers take any frame, keep their invariants, and say
only what the codec accepts).
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scoop._core import scalars, wire

EDGES = [
    0,
    1,
    2,
    3,
    127,
    128,
    255,
    256,
    65535,
    65536,
    2**31,
    2**32 - 1,
    2**32,
    2**44,
    2**63 - 1,
    2**63,
    2**64 - 1,
]
PEERS = [101, 102, 103, 104, 0, 2**64 - 1]
FRAMES_PER_ROUND = 30
NAMES = {row[0]: kind for kind, row in wire.TABLE.items()}


def drivers() -> Any:
    """The compiled harness of the unit tests."""
    path = Path(__file__).resolve().parents[1] / "unit" / "machines" / "build.py"
    spec = importlib.util.spec_from_file_location("scoop_machines_build", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.load("scoop_drivers")


# ----------------------------------------------------------------------------------------- making frames


def field(dice: random.Random, name: str, type_: str, names: list[int]) -> int | bytes:
    """A value for a field: mostly one that means something to the receiver."""
    if name == "lineage":
        return dice.randbytes(16)
    if type_ == "b":
        return dice.randbytes(dice.choice([0, 0, 1, 3, 16, 40, 255, 256, 300]))
    if dice.random() < 0.1:
        return dice.choice(EDGES)
    if name in ("owner", "incarnation", "asker", "sender", "giver", "referral", "broker"):
        return dice.choice(names)
    if name == "id":
        return dice.randint(1, 12)
    if name in ("room_us", "estimate_us", "work_us"):
        return dice.choice([0, 1, 10, 1000, 10**6])
    return dice.randint(0, 3)


def record(dice: random.Random, names: list[int]) -> bytes:
    """A record that is in the table."""
    kind = dice.choice([*wire.TABLE, NAMES["TASK"], NAMES["TASK"], NAMES["REQUEST"]])
    return wire.encode(kind, *(field(dice, name, type_, names) for name, type_ in wire.TABLE[kind][2]))


def scalar(dice: random.Random, depth: int = 0) -> Any:
    """An immutable scalar."""
    choice = dice.randrange(7 if depth < 4 else 6)
    if choice == 6:
        return tuple(scalar(dice, depth + 1) for _ in range(dice.randrange(5)))
    atoms = (
        None,
        True,
        dice.choice(EDGES) - 2**63,
        dice.random(),
        "text" * dice.randrange(9),
        dice.randbytes(9),
    )
    value = atoms[choice]
    return value if scalars.accepts(value) else 0


def mutated(dice: random.Random, data: bytes) -> bytes:
    """Some bytes changed, removed, doubled or put in."""
    changed = bytearray(data)
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(len(changed) + 1)
        size = dice.choice([1, 1, 1, 2, 4, 8, 16])
        what = dice.randrange(5)
        if what == 0:
            changed[at : at + size] = dice.randbytes(size)
        elif what == 1:
            del changed[at : at + size]
        elif what == 2:
            changed[at:at] = changed[at : at + size]
        elif what == 3:
            changed[at : at + 1] = dice.choice(
                [b"\x90", b"\x9f", b"\xc4\xff", b"\xc6\xff\xff\xff\xff", b"\xcf", b"\xdd"]
            )
        else:
            changed[at : at + size] = b"\xff" * size
    return bytes(changed)


def frame(dice: random.Random, names: list[int] = PEERS) -> bytes:
    """Records, sometimes broken, sometimes noise; `names` are those of nodes and brokers."""
    if dice.random() < 0.05:
        return dice.randbytes(dice.randrange(200))
    data = b"".join(record(dice, names) for _ in range(dice.choice([1, 1, 1, 2, 5])))
    return mutated(dice, data) if dice.random() < 0.4 else data


# ---------------------------------------------------------------------------------------------- targets


def check_codec(dice: random.Random, harness: Any) -> None:
    """One round of the codecs."""
    for _ in range(FRAMES_PER_ROUND):
        data = frame(dice)
        try:
            records = wire.decode(data)
        except ValueError:
            records = []
        for kind, *fields in records:
            again = wire.encode(kind, *fields)
            assert wire.decode(again) == [(kind, *fields)]
        value = scalars.encode(scalar(dice))
        data = mutated(dice, value) if dice.random() < 0.8 else dice.randbytes(dice.randrange(40))
        try:
            decoded = scalars.decode(data)
        except ValueError:
            continue
        if scalars.accepts(decoded) and decoded == decoded:
            assert scalars.decode(scalars.encode(decoded)) == decoded or "nan" in repr(decoded)


def check_broker(dice: random.Random, harness: Any) -> None:
    """One round of a broker: nodes come, say anything, and go."""
    broker = harness.BrokerHarness()
    broker.hello(PEERS[0], True)
    for peer in PEERS[1:3]:
        broker.hello(peer)
    for _ in range(FRAMES_PER_ROUND):
        data = frame(dice)
        if dice.random() < 0.1:
            hello = wire.encode(NAMES["HELLO"], dice.choice(PEERS), wire.VERSION, 1, 1, b"x")
            broker.stranger(dice.choice(PEERS), hello + data)
        else:
            broker.feed(dice.randrange(broker.broker.statistics()["nodes"]), data)
        broker.validate()
        if dice.random() < 0.5:
            broker.settle()
            broker.validate()
    broker.settle()
    for slot in range(broker.broker.statistics()["nodes"]):
        wire.decode(broker.heard(slot))


def check_gateway(dice: random.Random, harness: Any) -> None:
    """One round of a broker with peers: they say anything too, and come and go."""
    gateway = harness.GatewayHarness(1)
    home = [(number << 44) + name for number in (1, 2, 3) for name in (101, 102)]
    names = [*home, 1, 2, 3, 0, 2**64 - 1]
    gateway.hello(home[0], True)
    gateway.hello(home[1])
    for number in (2, 3):
        gateway.add_peer(number)
    for _ in range(FRAMES_PER_ROUND):
        data = frame(dice, names)
        choice = dice.random()
        if choice < 0.05:
            gateway.hint(data)
        elif choice < 0.1:
            number = dice.choice((2, 3))
            gateway.remove_peer(number)
            gateway.validate()
            gateway.add_peer(number)
        else:
            gateway.feed(dice.randrange(4), data)
        gateway.validate()
        if dice.random() < 0.5:
            gateway.settle()
            gateway.validate()
    gateway.settle()
    for slot in range(4):
        wire.decode(gateway.heard(slot))


def check_desk(dice: random.Random, harness: Any) -> None:
    """One round of a process that hears any records."""
    desk = harness.DeskHarness(PEERS[0])
    for _ in range(FRAMES_PER_ROUND):
        desk.handle(frame(dice))
        desk.desk.ledger.validate()
    wire.decode(desk.said())


TARGETS: dict[str, Callable[[random.Random, Any], None]] = {
    "codec": check_codec,
    "broker": check_broker,
    "gateway": check_gateway,
    "desk": check_desk,
}


def run(target: str, seed: int, seconds: float, only: int | None, progress: str | None) -> int:
    """Rounds of one target until the time is over; how many."""
    harness = None if target == "codec" else drivers()
    check = TARGETS[target]
    until = time.monotonic() + seconds
    number = 0 if only is None else only
    with open(progress or "/dev/null", "wb", buffering=0) as noted:
        while True:
            noted.seek(0)
            noted.write(b"%12d" % number)
            dice = random.Random(f"{target}/{seed}/{number}")
            try:
                check(dice, harness)
            except BaseException:
                print(
                    f"{target}: round {number} of seed {seed} failed: --seed {seed} --only {number}",
                    flush=True,
                )
                raise
            number += 1
            if only is not None or time.monotonic() > until:
                return number


def main(arguments: list[str]) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("targets", nargs="*", help=f"some of {', '.join(TARGETS)}; all if none is named")
    parser.add_argument("--seconds", type=float, default=20, help="for each target (default: 20)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, help="this one round")
    parser.add_argument("--progress", help="a file for the number of the round that runs")
    parser.add_argument("--sanitized", action="store_true", help="with sanitizers; compiled at the first use")
    options = parser.parse_args(arguments)
    if options.sanitized:
        import sanitized

        again = [argument for argument in arguments if argument != "--sanitized"]
        os.execve(sys.executable, [sys.executable, __file__, *again], sanitized.environment())
    for target in options.targets or TARGETS:
        rounds = run(target, options.seed, options.seconds, options.only, options.progress)
        print(f"{target}: {rounds} rounds of seed {options.seed}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
