"""A broker that has 64 descriptors, and 200 strangers who connect and say nothing; then a peer with a key."""

import json
import os
import resource
import subprocess
import sys
import threading
import time

import zmq

from scoop._core import wire
from scoop._core.curve import Keys
from scoop._core.gateway import Gateway
from scoop._core.net import Context

STRANGERS = """
import socket, sys
held = []
for _ in range(200):
    held.append(socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=30))
print("held", flush=True)
sys.stdin.read()
"""
WATCH_S = 2.0
WELCOME = 2

context, keys, mine = Context(), Keys(), Keys()
gateway = Gateway(None, 7)
door, _ = gateway.open(context, keys, "tcp://127.0.0.1:0", "tcp://127.0.0.1:0")
name = 7 << 44 | 9
gateway.gate.allow(mine.public, name)
stop, stop_end = os.pipe()
broker = threading.Thread(target=gateway.run, args=(stop, 1e9))
broker.start()
strangers = subprocess.Popen(
    [sys.executable, "-c", STRANGERS, door.rpartition(":")[2]],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
)
peers = zmq.Context()
peer = peers.socket(zmq.DEALER)
peer.routing_id = name.to_bytes(8, "little")
peer.curve_serverkey, peer.curve_publickey, peer.curve_secretkey = keys.public, mine.public, mine.secret
resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
strangers.stdout.readline()
wall, cpu = time.monotonic(), time.process_time()
time.sleep(WATCH_S)
cpu, wall = time.process_time() - cpu, time.monotonic() - wall
peer.connect(door)
peer.send(wire.encode(1, name, wire.VERSION, 1, 1, b"one of us"))
welcomed = peer.poll(30_000) != 0 and wire.decode(peer.recv())[0][0] == WELCOME
sent_away = gateway.statistics()["sent_away"]
strangers.communicate("")
peers.destroy(0)
os.write(stop_end, b"x")
broker.join()
gateway.close()
context.close()
print(json.dumps({"cpu_s": cpu, "wall_s": wall, "sent_away": sent_away, "welcomed": welcomed}))
