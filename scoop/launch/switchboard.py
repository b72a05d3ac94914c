"""Links to agents that come by themselves: those of the other ranks of a launch by mpiexec or srun.

Nobody connects their standard streams with the origin. So each rank is a relay: it starts an agent on its
host and carries its link over one connection to the origin's switchboard, which hands the origin an ordinary
socket for each. The connection is TCP with CURVE; a rank finds address and key in the private directory of
the launch, where it leaves its own key first: nobody else can.
"""

from __future__ import annotations

import logging
import os
import select
import socket
import threading
import time

import zmq
import zmq.auth.thread

from scoop._core.curve import Keys, to_hex
from scoop.launch import keyring
from scoop.launch.spawn import AgentHandle

log = logging.getLogger("scoop")

DATA, END, BEAT = b"d", b"e", b"b"
BEAT_S = 1.0
SILENCE_S = 20.0
"""Without a sign of life for so long the other side counts as lost."""

CHUNK_BYTES = 64 << 10
FRAME_BYTES_MAX = 1 << 20
HANDSHAKE_MS = 5000


class FarHandle(AgentHandle):
    """The handle of an agent that is not a child of this process."""

    def __init__(self, link: int, job: str) -> None:
        super().__init__(0, link, job)
        self._reaped = True

    def give_up(self) -> None:
        """Let `receive` return nothing: the agent cannot be reached any more."""
        with socket.socket(fileno=os.dup(self._link)) as end:
            end.shutdown(socket.SHUT_RDWR)


def harden(peer: zmq.Socket[bytes]) -> None:
    """What both ends of a relayed link set: queues without limit (they carry little), finite waits."""
    peer.set_hwm(0)
    peer.linger = 1000
    peer.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
    peer.setsockopt(zmq.MAXMSGSIZE, FRAME_BYTES_MAX)


class _Line:
    """One rank: the socket whose other end its handle has, and how it is reached."""

    def __init__(self, ours: socket.socket) -> None:
        self.ours = ours
        self.identity = b""
        self.heard_s = 0.0


class Switchboard:
    """The origin's side; a thread of its own carries what comes and goes.

    Args:
        folder: private directory of this launch.
        bind, name: host part of the address to listen at, and of the one that the others are told.
        size: ranks of the launch; each but 0 has a line.

    Raises:
        KeyringError: the directory is not safe, or cannot be written.
        zmq.ZMQError: the address cannot be bound.
    """

    def __init__(self, folder: str, bind: str, name: str, size: int) -> None:
        self._keys = Keys()
        self._context = zmq.Context()
        self._gate = zmq.auth.thread.ThreadAuthenticator(self._context, log=logging.getLogger("scoop.gate"))
        self._handles: dict[int, int] = {}
        self._lines: dict[int, _Line] = {}
        self._ranks: dict[bytes, int] = {}  # by public key, of those that the gate has let in
        self._done = False
        self._thread: threading.Thread | None = None
        self._shown: keyring.Shown | None = None
        self._gate.start()
        self._gate.configure_curve_callback("scoop", credentials_provider=self)
        self._router = self._context.socket(zmq.ROUTER)
        harden(self._router)
        self._router.curve_server = True
        self._router.curve_publickey, self._router.curve_secretkey = self._keys.public, self._keys.secret
        self._router.zap_domain = b"scoop"
        self._router.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
        self._router.router_mandatory = True
        try:
            port = self._router.bind_to_random_port(f"tcp://{bind}")
            self._shown = keyring.Shown(0, f"tcp://{name}:{port}", "", self._keys, folder)
        except BaseException:
            self.close()
            raise
        for rank in range(1, size):
            ours, theirs = socket.socketpair()
            self._lines[rank] = _Line(ours)
            self._handles[rank] = theirs.detach()
        self._thread = threading.Thread(target=self._serve, name="scoop-switchboard", daemon=True)
        self._thread.start()

    def handle(self, rank: int, job: str) -> AgentHandle:
        """The handle of a rank's agent, whether it has come already or not. Once for each."""
        return FarHandle(self._handles.pop(rank), job)

    def callback(self, domain: str, key: bytes) -> bool:
        """Whether a public key is one that a rank has left; asked by the gate for each connection."""
        rank = self._shown.lookup(to_hex(key)) if self._shown is not None else None
        if rank is not None:
            self._ranks[key] = rank
        return rank is not None

    def close(self) -> None:
        """Let all ranks go; what they still had to say is lost. Blocks for some milliseconds."""
        self._done = True
        if self._thread is not None:
            self._thread.join(BEAT_S + 1.0)
        for line in self._lines.values():
            line.ours.close()
        for descriptor in self._handles.values():
            os.close(descriptor)
        self._handles = {}
        self._gate.stop()
        self._router.close()
        self._context.term()
        if self._shown is not None:
            self._shown.withdraw()

    # ----------------------------------------------------------------------------- the thread's part

    def _serve(self) -> None:
        poller = zmq.Poller()
        poller.register(self._router, zmq.POLLIN)
        for line in self._lines.values():
            poller.register(line.ours, zmq.POLLIN)
        by_fd = {line.ours.fileno(): line for line in self._lines.values()}
        beat_s = checked_s = time.monotonic()
        while not self._done:
            ready = dict(poller.poll(100))
            if self._router in ready:
                self._hear()
            for descriptor in ready:
                at_end = by_fd.get(descriptor) if isinstance(descriptor, int) else None
                if at_end is not None and not self._pass_on(at_end):
                    poller.unregister(at_end.ours)
            now_s = time.monotonic()
            if now_s - beat_s > BEAT_S:
                paused = now_s - checked_s > SILENCE_S / 4  # this process itself was held up
                beat_s = now_s
                for line in self._lines.values():
                    self._beat(line, now_s, paused)
            checked_s = now_s
        for line in self._lines.values():
            self._send(line, END)

    def _hear(self) -> None:
        while True:
            try:
                identity, frame = self._router.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            except ValueError:
                continue  # no relay of ours sends so many frames
            line = self._line_of(frame)
            if line is None:
                continue
            line.identity, line.heard_s = identity.bytes, time.monotonic()
            data = frame.bytes
            if data[:1] == DATA:
                try:
                    line.ours.sendall(data[1:])
                except OSError:
                    pass  # the origin has closed it
            elif data[:1] == END:
                self._lose(line)

    def _line_of(self, frame: zmq.Frame) -> _Line | None:
        # By the key that the connection has proved, not by what its sender says.
        try:
            rank = self._ranks.get(str(frame.get("User-Id")).encode(), 0)
        except zmq.ZMQError:
            return None
        return self._lines.get(rank)

    def _pass_on(self, line: _Line) -> bool:
        try:
            data = line.ours.recv(CHUNK_BYTES)
        except OSError:
            data = b""
        self._send(line, DATA + data if data else END)
        return bool(data)

    def _send(self, line: _Line, data: bytes) -> None:
        if not line.identity:
            return
        try:
            self._router.send_multipart([line.identity, data], zmq.NOBLOCK)
        except zmq.ZMQError:
            self._lose(line)

    def _beat(self, line: _Line, now_s: float, paused: bool) -> None:
        if not line.identity:
            return
        if paused:
            line.heard_s = now_s
        self._send(line, BEAT)
        if now_s - line.heard_s > SILENCE_S:
            self._lose(line)

    def _lose(self, line: _Line) -> None:
        line.identity = b""
        try:
            line.ours.shutdown(socket.SHUT_WR)
        except OSError:
            pass


class Relay:
    """A rank's side: carries the link of an agent on this host.

    Args:
        card: of the switchboard.
        rank: of this process.
        link: descriptor of the agent's link.
    """

    def __init__(self, card: keyring.Card, rank: int, link: int) -> None:
        keys = Keys()
        keyring.allow_key(card.allow, keys, rank)
        self._link = link
        self._context = zmq.Context()
        self._dealer = self._context.socket(zmq.DEALER)
        harden(self._dealer)
        self._dealer.curve_publickey, self._dealer.curve_secretkey = keys.public, keys.secret
        self._dealer.curve_serverkey = card.public
        self._monitor = self._dealer.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        self._dealer.connect(card.address)
        self._dealer.send(BEAT)

    def carry(self, answer_s: float) -> bool:
        """Carry until either side ends; whether the origin ended it. Blocks.

        Args:
            answer_s: how long the origin may take to say its first word.
        """
        poller = zmq.Poller()
        for source in (self._dealer, self._monitor, self._link):
            poller.register(source, zmq.POLLIN)
        patience_s = answer_s
        heard_s = looked_s = time.monotonic()
        while True:
            ready = dict(poller.poll(1000))
            now_s = time.monotonic()
            if now_s - looked_s > SILENCE_S / 4:
                heard_s = now_s  # this process itself was held up
            looked_s = now_s
            if self._dealer in ready:
                data = self._dealer.recv()
                heard_s, patience_s = now_s, SILENCE_S
                if data[:1] == DATA:
                    _write(self._link, data[1:])
                elif data[:1] == END:
                    return True
                else:
                    self._dealer.send(BEAT)
            elif self._monitor in ready or now_s - heard_s > patience_s:
                return False
            if self._link in ready:
                data = _read(self._link)
                self._dealer.send(DATA + data if data else END)
                if not data:
                    return True

    def close(self) -> None:
        """Close the connection; what was sent has a second to leave."""
        self._dealer.disable_monitor()
        self._monitor.close()
        self._dealer.close()
        self._context.term()


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, CHUNK_BYTES)
    except OSError:  # the agent ended before it had read all
        return b""


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(descriptor, view) :]
    except BlockingIOError:
        select.select([], [descriptor], [])
        _write(descriptor, bytes(view))
    except OSError:
        pass  # the agent is gone; its link's end tells
