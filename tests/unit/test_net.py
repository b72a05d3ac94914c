"""The door to libzmq and the system: sockets, errors, fork, waiting."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest
import zmq

from scoop._core import net
from scoop.errors import TransportError

ME = 0x1122334455667788
DEADLINE = 20
READABLE, WOKEN = 1, 2


@pytest.fixture
def context():
    made = net.Context()
    yield made
    made.close()


@pytest.fixture
def router(context, tmp_path):
    socket = net.Socket(context, "router")
    socket.bind(f"ipc://{tmp_path}/s")
    yield socket
    socket.close()


@pytest.fixture
def wake(drivers):
    fd = drivers.new_wake()
    yield fd
    drivers.close_fd(fd)


def dealer_of(context, router, name=ME):
    socket = net.Socket(context, "dealer", name.to_bytes(8, "little"))
    socket.connect(router.endpoint)
    return socket


def next_message(drivers, socket, wake):
    """Wait until there is one; no message is an error."""
    assert drivers.poll(socket, wake, DEADLINE * 10**6) == READABLE
    return drivers.receive(socket)


def run(program):
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("size", [0, 1, 1024, 1025, 300_000])
def test_there_and_back(drivers, context, router, wake, size):
    # Up to 1,024 bytes are copied, more are lent to libzmq.
    dealer = dealer_of(context, router)
    data = os.urandom(size)
    assert drivers.send(dealer, data) == 0
    assert next_message(drivers, router, wake) == (ME, data)
    assert drivers.send_to(router, ME, data[::-1]) == 0
    assert next_message(drivers, dealer, wake) == (0, data[::-1])
    dealer.close()


def test_many_messages_keep_their_order(drivers, context, router, wake):
    dealer = dealer_of(context, router)
    for number in range(3000):
        assert drivers.send(dealer, b"%d" % number) == 0
    for number in range(3000):
        assert next_message(drivers, router, wake) == (ME, b"%d" % number)
    dealer.close()


def test_nothing_there(drivers, router):
    assert drivers.receive(router) == 0


def test_a_peer_that_nobody_knows(drivers, router):
    assert drivers.send_to(router, 5, b"hello") == -2


def test_strangers_have_no_name(drivers, router, wake):
    # Names are 8 bytes here; whoever has another is 0, which is nobody.
    stranger = zmq.Context.instance().socket(zmq.DEALER)
    stranger.linger = 0
    stranger.routing_id = b"three"
    stranger.connect(router.endpoint)
    stranger.send(b"let me in")
    assert next_message(drivers, router, wake) == (0, b"let me in")
    stranger.close()


def test_frames_of_a_message_do_not_name_the_sender(drivers, router, wake):
    other = zmq.Context.instance().socket(zmq.DEALER)
    other.linger = 0
    other.routing_id = ME.to_bytes(8, "little")
    other.connect(router.endpoint)
    other.send_multipart([(99).to_bytes(8, "little"), b"in the name of 99"])
    peer, _ = next_message(drivers, router, wake)
    other.close()
    assert peer in (ME, 0)


def test_a_name_in_use_goes_to_the_later_one(drivers, context, router, wake):
    first = dealer_of(context, router)
    drivers.send(first, b"first")
    assert next_message(drivers, router, wake) == (ME, b"first")
    second = dealer_of(context, router)
    drivers.send(second, b"second")
    assert next_message(drivers, router, wake) == (ME, b"second")
    drivers.send_to(router, ME, b"to the second")
    assert next_message(drivers, second, wake) == (0, b"to the second")
    first.close()
    second.close()


def test_bind_tells_the_port(context):
    socket = net.Socket(context, "router")
    socket.bind("tcp://127.0.0.1:*")
    assert int(socket.endpoint.rpartition(":")[2]) > 0
    socket.close()


@pytest.mark.parametrize("operation", ["bind", "connect"])
@pytest.mark.parametrize("endpoint", ["nonsense", "tcp://127.0.0.1:notaport", "ipc:///no/such/folder/s"])
def test_errors_name_operation_and_endpoint(context, operation, endpoint):
    socket = net.Socket(context, "router")
    if operation == "connect" and endpoint.startswith("ipc"):
        socket.connect(endpoint)  # it may come to exist: libzmq tries again
    else:
        with pytest.raises(TransportError, match=operation) as caught:
            getattr(socket, operation)(endpoint)
        assert endpoint in str(caught.value)
        assert caught.value.errno > 0
    socket.close()


def test_close_twice(context):
    socket = net.Socket(context, "dealer", b"12345678", 0)
    assert context.sockets == 1
    socket.close()
    socket.close()
    assert context.sockets == 0
    context.close()
    context.close()


def test_a_forked_child_is_refused_and_can_close(tmp_path):
    out = run(f"""
import os
from scoop._core import net
from scoop.errors import ForkedProcess
context = net.Context()
socket = net.Socket(context, "router")
socket.bind("ipc://{tmp_path}/s")
pid = os.fork()
if pid == 0:
    try:
        net.Socket(context, "dealer", b"12345678")
    except ForkedProcess as error:
        assert "forked" in str(error)
        socket.close()
        context.close()
        del socket, context
        os._exit(7)
    os._exit(1)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
socket.close()
context.close()
""")
    assert out == "7\n"


def test_one_libzmq_per_process_and_no_package_loaded_for_it():
    out = run("""
import sys
from scoop._core import net
print("zmq" in sys.modules)
import zmq
print(zmq.zmq_version_info() == net.LIBZMQ_VERSION)
files = {line.split()[-1] for line in open("/proc/self/maps") if "libzmq" in line}
print(len(files) <= 1)
""")
    assert out == "False\nTrue\nTrue\n"


def test_wake_up_without_a_socket(drivers, wake):
    assert drivers.poll(None, wake, 0) == 0
    drivers.set_wake(wake)
    drivers.set_wake(wake)
    assert drivers.poll(None, wake, 0) == WOKEN
    drivers.clear_wake(wake)
    assert drivers.poll(None, wake, 1000) == 0


def test_both_at_once(drivers, context, router, wake):
    dealer = dealer_of(context, router)
    drivers.send(dealer, b"x")
    assert drivers.poll(router, wake, DEADLINE * 10**6) == READABLE
    drivers.set_wake(wake)
    assert drivers.poll(router, wake, DEADLINE * 10**6) == READABLE | WOKEN
    dealer.close()


def test_another_thread_wakes_a_poll_that_holds_no_gil(drivers, router, wake):
    seen = []
    thread = threading.Thread(target=lambda: seen.append(drivers.poll(router, wake, DEADLINE * 10**6)))
    thread.start()
    drivers.set_wake(wake)
    thread.join(DEADLINE)
    assert seen == [WOKEN]


def test_timer_and_clock(drivers):
    fd = drivers.new_timer()
    before = time.monotonic_ns()
    drivers.arm_timer(fd, 1_000_000)
    assert drivers.wait_timer(fd) == 0
    assert before + 1_000_000 <= drivers.now() <= time.monotonic_ns()
    drivers.close_fd(fd)
    drivers.close_fd(-1)  # never made: nothing to close
