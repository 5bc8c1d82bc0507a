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

from tests.conftest import KEY, field
from tests.daemon import SUPER_ADMIN_TOKEN, TOKEN, Daemon, wait_for
from tests.live.test_writes import blog

PATIENCE = 30.0
DESCRIPTORS = 1024
SPOOL_SIZE = 16_000_000
PING = b"GET /server/ping HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A server that may open 1024 files, and no more if it asks."""
    directory: pathlib.Path = tmp_path_factory.mktemp("limits")
    found = Daemon(directory, prepare=limit_descriptors)
    found.environment |= {
        "DIRECTUS_SERVER_LOG_FILE": str(directory / "daemon.log"),
        "DIRECTUS_SERVER_BODY_SPOOL_SIZE": str(SPOOL_SIZE),
        "DIRECTUS_SERVER_MAX_BODY_SIZE": "10_000_000",
        "TMPDIR": str(directory / "tmp"),
    }
    (directory / "tmp").mkdir()
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
    # A pool of ten connections to the database stays open, with two descriptors each.
    wait_for(lambda: descriptors(daemon) <= before + 25, PATIENCE)
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


def half_upload(daemon: Daemon, source: str, size: int, sent: int, token: str | None) -> socket.socket:
    """A connection on which a part of a form has been sent."""
    found = connect(daemon, source)
    head = "POST /p/items/authors HTTP/1.1\r\nHost: h\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    head += f"Content-Length: {size}\r\n"
    if token is not None:
        head += f"Authorization: bearer {token}\r\n"
    part = b'--x\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n'
    try:
        found.sendall(head.encode() + b"\r\n" + part.ljust(sent, b"x"))
    except OSError:
        # Refused before all of it was sent.
        pass
    return found


def on_disk(daemon: Daemon) -> int:
    """The size of the temporary files of the server, in bytes."""
    found = 0
    for name in os.listdir(f"/proc/{daemon.pid}/fd"):
        path = f"/proc/{daemon.pid}/fd/{name}"
        try:
            if os.readlink(path).startswith(str(daemon.directory / "tmp")):
                found += os.stat(path).st_size
        except OSError:
            continue
    return found


def statuses(connections: list[socket.socket]) -> list[int]:
    """The statuses of those connections on which an answer has arrived."""
    found = select.select(connections, [], [], 0)[0]
    return [int(each.recv(4096, socket.MSG_PEEK).split()[1]) for each in found]


def test_half_uploads_leave_room_for_others(daemon: Daemon, sockets: ExitStack) -> None:
    """Dozens of them, of users and of others, hold no more than the bound together, and are refused beyond it."""
    users = [sockets.enter_context(half_upload(daemon, f"127.0.2.{n + 1}", 9_000_000, 1_200_000, TOKEN)) for n in range(30)]
    strangers = [
        sockets.enter_context(half_upload(daemon, f"127.0.3.{n + 1}", 900_000, 500_000, None if n % 2 else "no token"))
        for n in range(30)
    ]
    fit = SPOOL_SIZE * 7 // 8 // 1_200_000
    wait_for(lambda: len(statuses(users)) >= 30 - fit, PATIENCE)
    wait_for(lambda: len(statuses(strangers)) >= 30 - SPOOL_SIZE // 8 // 500_000, PATIENCE)
    assert {*statuses(users), *statuses(strangers)} == {503}
    assert 0 < on_disk(daemon) <= SPOOL_SIZE
    assert b"pong" in ping(daemon, "127.0.2.1")
    assert daemon.call("POST", "/p/items/authors", {"name": "x"})["data"]["name"] == "x"
    for each in (*users, *strangers):
        each.close()
    wait_for(lambda: on_disk(daemon) == 0, PATIENCE)


def test_a_body_that_cannot_be_written_is_answered_with_503(daemon: Daemon, sockets: ExitStack) -> None:
    """The size of a file is limited, which makes writing fail as a full disk does."""
    limits = resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (2_000_000, limits[1]))
    try:
        for _ in range(5):
            with half_upload(daemon, "127.0.2.1", 3_500_000, 3_000_000, TOKEN) as connection:
                wait_for(lambda connection=connection: statuses([connection]) == [503], PATIENCE)
                assert b"\r\nRetry-After: " in connection.recv(65536)
        assert daemon.call("POST", "/p/items/authors", {"name": "x"})["data"]["name"] == "x"
    finally:
        resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, limits)
    wait_for(lambda: on_disk(daemon) == 0, PATIENCE)
    with half_upload(daemon, "127.0.2.1", 3_000_000, 3_000_000, TOKEN) as connection:
        wait_for(lambda: statuses([connection]) == [400], PATIENCE)
    assert list((daemon.directory / "tmp").iterdir()) == []


def test_unread_answers_leave_room_for_others(daemon: Daemon, sockets: ExitStack) -> None:
    daemon.call("POST", "/p/collections", {"collection": "texts", "fields": [KEY, field("text", datatype="TEXT", length=None)]})
    for _ in range(8):
        daemon.call("POST", "/p/items/texts?fields=id", [{"text": "x" * 30_000}] * 100)
    for number in range(40):
        unread = sockets.enter_context(connect(daemon, f"127.0.4.{number + 1}"))
        unread.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        unread.sendall(f"GET /p/items/texts?limit=-1 HTTP/1.1\r\nHost: h\r\nAuthorization: bearer {TOKEN}\r\n\r\n".encode())
    wait_for(lambda: on_disk(daemon) > 0, PATIENCE)
    for _ in range(10):
        assert len(daemon.call("GET", "/p/items/authors?limit=1")["data"]) == 1
        assert b"pong" in ping(daemon)
    assert descriptors(daemon) < DESCRIPTORS - 100
    sockets.close()
    wait_for(lambda: on_disk(daemon) == 0, PATIENCE)
