"""What somebody else tries, on this host or from another one: `stranger.py UID ORDER ARGUMENTS`.

Everything is imported before the process becomes the user UID, who may not be able to read this file. Prints
one line of JSON.

attack MARK KEY ADDRESS...  tries each address with and without keys; KEY is the server's, or empty. What it
                            sends would create the file MARK if it were unpickled.
reach PATH...               tries to list, read, write and connect to paths; prints what it was able to do.
scan HOST PORT...           prints the ports that are open.
hold N ADDRESS...           opens N connections to each, half of them with a byte, until standard input ends.
"""

import encodings.idna  # noqa: F401 (the codec of host names; this user may not be able to read it later)
import json
import os
import pickle
import socket
import sys
import time

import zmq

from scoop._core import wire
from scoop._core.curve import Keys

PATIENCE_S = 1.0
GREETING = bytes([0xFF, *[0] * 8, 0x7F])
READY = b"\x04\x19\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER"


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return open, (self.mark, "w")


def greeting(version, mechanism):
    return GREETING + bytes([version, 0 if version == 3 else 1]) + mechanism.ljust(20, b"\0") + bytes(32)


def framed(body):
    return bytes([2]) + len(body).to_bytes(8, "big") + body


def frames(mark):
    """One record of each kind with a pickle in every field that can hold one, and the pickle alone."""
    bomb = pickle.dumps(Bomb(mark))
    sent = [bomb]
    for kind, (_, _, fields) in wire.TABLE.items():
        values = [
            1 if type_ == "u" else os.urandom(16) if name == "lineage" else bomb for name, type_ in fields
        ]
        sent.append(wire.encode(kind, *values))
    return sent


def raw_texts(bodies):
    everything = b"".join(map(framed, bodies))
    return {
        "silence": b"",
        "one byte": b"\xff",
        "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "no protocol": bodies[0],
        "zmtp 1": bytes([1, 0]) + everything,
        "zmtp 2": GREETING + bytes([1, 5]) + bytes([0, 0]) + everything,
        "null": greeting(3, b"NULL") + READY + everything,
        "plain": greeting(3, b"PLAIN") + b"\x04\x0d\x05HELLO\x01a\x01b" + everything,
        "curve, no handshake": greeting(3, b"CURVE") + everything,
        "greeting of a publisher": greeting(3, b"NULL") + READY.replace(b"DEALER", b"SUB   "),
    }


def split(address):
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    return host, int(port)


def said_to(address, text):
    """Bytes that come back until the other side closes, or for a while."""
    got = b""
    with socket.create_connection(split(address), timeout=PATIENCE_S) as peer:
        deadline = time.monotonic() + PATIENCE_S
        try:
            peer.sendall(text)
            while time.monotonic() < deadline:
                data = peer.recv(65536)
                if not data:
                    break
                got += data
        except OSError:
            pass
    return len(got)


def attack(mark, key, *addresses):
    bodies = frames(mark)
    raw = {}
    for address in addresses:
        for name, text in raw_texts(bodies).items():
            raw[name] = max(raw.get(name, 0), said_to(address, text))
    context = zmq.Context()
    context.linger = 0
    peers, server_keys = [], [None, Keys().public, *([key.encode()] if key else [])]
    for address in addresses:
        for server_key in server_keys:
            for kind in (zmq.DEALER, zmq.SUB, zmq.REQ, zmq.PULL, zmq.ROUTER):
                peer = context.socket(kind)
                peer.setsockopt(zmq.IMMEDIATE, 0)
                if kind == zmq.SUB:
                    peer.subscribe(b"")
                if kind == zmq.DEALER:
                    peer.routing_id = (1).to_bytes(8, "little")
                if server_key is not None:
                    own = Keys()
                    peer.curve_serverkey = server_key
                    peer.curve_publickey, peer.curve_secretkey = own.public, own.secret
                peer.connect(address)
                if kind == zmq.DEALER:
                    try:
                        for body in bodies:
                            peer.send(body, zmq.DONTWAIT)
                    except zmq.Again:
                        pass  # it has been refused by now, and libzmq has given the connection up
                peers.append(peer)
    deadline = time.monotonic() + 3 * PATIENCE_S
    heard = 0
    while time.monotonic() < deadline:
        for peer in peers:
            heard += peer.type != zmq.REQ and peer.poll(0) != 0
        time.sleep(0.02)
    context.destroy()
    return {"raw": raw, "heard": heard, "tries": len(peers)}


def reach(*paths):
    done = []
    for path in paths:
        for what, attempt in (
            ("list", os.listdir),
            ("read", lambda path: os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))),
            ("write", lambda path: os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))),
            ("create in", lambda path: os.mkdir(os.path.join(path, "new"))),
            ("remove", os.unlink),
            ("rename", lambda path: os.rename(path, path + ".old")),
            ("connect to", connect_unix),
        ):
            try:
                attempt(path)
            except (OSError, ValueError):
                continue
            done.append(f"{what} {path}")
    return done


def connect_unix(path):
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(path)


def scan(host, *ports):
    found = []
    for port in map(int, ports):
        with socket.socket() as peer:
            peer.settimeout(PATIENCE_S)
            if peer.connect_ex((host, port)) == 0:
                found.append(port)
    return found


def hold(count, *addresses):
    held = []
    for address in addresses:
        for index in range(int(count)):
            peer = socket.create_connection(split(address), timeout=30)
            if index % 2:
                peer.send(b"\xff")
            held.append(peer)
    print(json.dumps(len(held)), flush=True)
    sys.stdin.read()
    return


def main():
    uid, order, *arguments = sys.argv[1:]
    if int(uid) != os.getuid():
        os.setgroups([])
        os.setresgid(int(uid), int(uid), int(uid))
        os.setresuid(int(uid), int(uid), int(uid))
    orders = {"attack": attack, "reach": reach, "scan": scan, "hold": hold}
    print(json.dumps(orders[order](*arguments)), flush=True)


if __name__ == "__main__":
    main()
