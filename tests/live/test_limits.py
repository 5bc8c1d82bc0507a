"""The server at its limits: more connections than it may have descriptors, half requests, answers that nobody reads.

An honest client is answered all the same, and every descriptor comes back.
"""

import os
import pathlib
import resource
import select
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.daemon import SUPER_ADMIN_TOKEN, Daemon, wait_for
from tests.live.test_writes import blog

PATIENCE = 30.0
DESCRIPTORS = 1024
PING = b"GET /server/ping HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A server that may open 1024 files, and no more if it asks."""
    directory: pathlib.Path = tmp_path_factory.mktemp("limits")
    found = Daemon(directory, prepare=limit_descriptors)
    found.environment["DIRECTUS_SERVER_LOG_FILE"] = str(directory / "daemon.log")
    found.start()
    blog(found)
    yield found
    if found.process is not None and found.process.poll() is None:
        assert found.stop() == 0


def limit_descriptors() -> None:
    """Lets this process open DESCRIPTORS files. Called in the child before it becomes the server."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, DESCRIPTORS))


@pytest.fixture
def sockets(daemon: Daemon) -> Iterator[ExitStack]:
    """Closes the sockets of a test. Afterwards all descriptors of the server must be free again."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 4000:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(4000, hard), hard))
    before = descriptors(daemon)
    with ExitStack() as stack:
        yield stack
    wait_for(lambda: descriptors(daemon) <= before + 15, PATIENCE)
    assert "Traceback" not in (daemon.directory / "daemon.log").read_text()


def descriptors(daemon: Daemon) -> int:
    return len(os.listdir(f"/proc/{daemon.pid}/fd"))


def processor_time(daemon: Daemon) -> float:
    """The processor time that the server has used, in seconds."""
    user, system = pathlib.Path(f"/proc/{daemon.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def connect(daemon: Daemon, source: str = "127.0.0.1") -> socket.socket:
    found = socket.socket()
    found.settimeout(PATIENCE)
    # The port may still be named by a connection that was closed.
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    found.bind((source, 0))
    found.connect(("127.0.0.1", daemon.port))
    return found


def received(connection: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    found = b""
    try:
        while data := connection.recv(65536):
            found += data
    except ConnectionResetError:
        pass
    return found


def is_open(connection: socket.socket) -> bool:
    """Whether the server has not closed a connection on which it has nothing to say."""
    if not select.select([connection], [], [], 0)[0]:
        return True
    try:
        return connection.recv(1, socket.MSG_PEEK) != b""
    except ConnectionResetError:
        return False


def ping(daemon: Daemon, source: str = "127.0.0.1") -> bytes:
    with connect(daemon, source) as honest:
        honest.sendall(PING)
        return received(honest)


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: h\r\n"])
@pytest.mark.parametrize("addresses", [1, 5, 1500])
def test_idle_connections_shut_nobody_out(daemon: Daemon, sockets: ExitStack, addresses: int, sent: bytes) -> None:
    """More than the server has descriptors, from one address or many, that send nothing or a part of the headers."""
    keep_alive = sockets.enter_context(connect(daemon))
    for number in range(1500):
        place = number % addresses
        idle = sockets.enter_context(connect(daemon, f"127.0.{1 + place // 250}.{1 + place % 250}"))
        idle.sendall(sent)
        if number % 100 == 99:
            assert b"pong" in ping(daemon)
            assert descriptors(daemon) < DESCRIPTORS - 100
            if addresses < 1500:
                # Others have more connections.
                keep_alive.sendall(PING.replace(b"close", b"keep-alive"))
                assert b"pong" in keep_alive.recv(65536)
    assert b"pong" in ping(daemon, "127.0.1.1")
    assert daemon.call("POST", "/p/items/authors", {"name": "x"})["data"]["name"] == "x"
    assert len(daemon.call("GET", "/p/items/authors?limit=1")["data"]) == 1
    log = daemon.directory / "daemon.log"
    log.rename(log.with_suffix(".old"))
    os.kill(daemon.pid, signal.SIGHUP)
    wait_for(log.exists, PATIENCE)
    daemon.create_project("q")
    assert daemon.call("DELETE", "/server/projects/q?super_admin_token=" + SUPER_ADMIN_TOKEN) is None
    assert "Traceback" not in log.with_suffix(".old").read_text()


def test_connections_wait_while_the_process_has_no_descriptors(daemon: Daemon, sockets: ExitStack) -> None:
    """The limit is lowered below what is in use, which has the effect of another part of the process that opens files."""
    assert b"pong" in ping(daemon)
    limits = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (3, limits[1]))
    try:
        honest = [sockets.enter_context(connect(daemon)) for _ in range(50)]
        for each in honest:
            each.sendall(PING)
        used = processor_time(daemon)
        time.sleep(2)
        assert processor_time(daemon) - used < 1
        assert all(is_open(each) for each in honest)
    finally:
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, limits)
    for each in honest:
        assert b"pong" in received(each)
    assert (daemon.directory / "daemon.log").read_text().count("cannot accept connections") == 1


def test_idle_connections_are_closed_if_the_process_has_no_descriptors(daemon: Daemon, sockets: ExitStack) -> None:
    idle = [sockets.enter_context(connect(daemon)) for _ in range(50)]
    assert b"pong" in ping(daemon)
    limits = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (max(map(int, os.listdir(f"/proc/{daemon.pid}/fd"))), limits[1]))
    try:
        while is_open(idle[0]):
            # A number below the highest may be free.
            sockets.enter_context(connect(daemon))
        assert b"pong" in ping(daemon)
    finally:
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, limits)
