"""Lists and exports that are written as they are read, to clients that take them slowly or not at all."""

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from attrs import evolve
from pytest_twisted import ensureDeferred
from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.logger import globalLogPublisher

from directus_tx.config import Settings
from directus_tx.http import encode
from tests.conftest import TOKEN, Client, field

ROWS = 3000
TEXT = "x" * 3000
PATIENCE = 60.0
"""Seconds after which a test gives up waiting. No test is decided by how long something takes."""


@pytest.fixture
def settings(settings: Settings, request: pytest.FixtureRequest) -> Settings:
    """As other tests have them, but a small pool, and what the test's mark `limits` says."""
    mark = request.node.get_closest_marker("limits")
    limits = mark.kwargs if mark else {}
    server = {name: value for name, value in limits.items() if hasattr(settings.server, name)}
    database = {name: value for name, value in limits.items() if hasattr(settings.database, name)}
    return evolve(
        settings,
        server=evolve(settings.server, **server),
        database=evolve(settings.database, **({"pool_size": 4} | database)),
    )


async def fill(client: Client) -> None:
    """Makes a collection whose list is larger than what the sockets of both sides hold."""
    await client.collection("things", field("name", datatype="TEXT", length=None))
    for _ in range(ROWS // 500):
        answer = await client.post("~/items/things?fields=id", [{"name": TEXT}] * 500)
        assert answer.status == 200, answer.body


def ask(client: Client, path: str = "~/items/things?limit=-1", *, close: bool = True) -> socket.socket:
    """A connection that has asked for something, and reads nothing yet."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", int(client.base.rpartition(":")[2])))
    path = path.replace("~", f"/{client.project}")
    end = "Connection: close\r\n" if close else ""
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: h\r\nAuthorization: bearer {TOKEN}\r\n{end}\r\n".encode())
    connection.setblocking(False)
    return connection


async def until(fact: Callable[[], bool]) -> None:
    """Waits until something is so."""
    waited = 0.0
    while not fact():
        assert waited < PATIENCE
        await deferLater(reactor, 0.02)
        waited += 0.02


async def receive(connection: socket.socket, size: int = 2**20, pause: float = 0.0) -> bytes:
    """All that comes, at most so many bytes at once, with pauses; without them, with more room than `ask` has left for it."""
    found, silent = bytearray(), 0.0
    if not pause:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**20)
    while silent < PATIENCE:
        await deferLater(reactor, max(pause, 0.001))
        try:
            data = connection.recv(size)
        except BlockingIOError:
            silent += max(pause, 0.001)
            continue
        except ConnectionResetError:
            return bytes(found)
        if not data:
            return bytes(found)
        found += data
        silent = 0.0
    raise AssertionError("the answer does not end")


def unchunked(answer: bytes) -> tuple[bytes, bytes]:
    """The head and the body of a chunked answer that is complete."""
    head, _, rest = answer.partition(b"\r\n\r\n")
    assert b"chunked" in head.lower()
    body = b""
    while True:
        size, _, rest = rest.partition(b"\r\n")
        if int(size, 16) == 0:
            assert rest == b"\r\n"
            return head, body
        body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]


@contextmanager
def logged() -> Iterator[list[dict[str, Any]]]:
    """What is logged meanwhile."""
    events: list[dict[str, Any]] = []
    globalLogPublisher.addObserver(events.append)
    try:
        yield events
    finally:
        globalLogPublisher.removeObserver(events.append)


def statuses(events: list[dict[str, Any]]) -> list[int]:
    return [event["status"] for event in events if event.get("path", "").endswith("/items/things")]


def database(client: Client) -> Any:
    return client.backend.projects.get(client.project).database


@ensureDeferred
async def test_readers_that_stall_stop_nobody(client: Client) -> None:
    await fill(client)
    stalled = [ask(client, path) for path in ["~/items/things?limit=-1", "~/items/things?limit=-1&export=csv"] * 6]
    with logged() as events:
        for _ in range(20):
            assert (await client.get("~/items/things/1?fields=id")).data == {"id": 1}
        # Everything is read and kept for them, on connections that are free again.
        await until(lambda: database(client).in_use == 0 and client.app.spool.left < client.backend.settings.server.spool_size)
        await until(lambda: len(client.app.running) == len(stalled))
        await until(lambda: database(client).in_use == 0)
    assert [event for event in events if "log_failure" in event] == []
    head, body = unchunked(await receive(stalled[0]))
    assert head.startswith(b"HTTP/1.1 200")
    assert [item["name"] for item in json.loads(body)["data"]] == [TEXT] * ROWS
    head, body = unchunked(await receive(stalled[1]))
    assert body.count(TEXT.encode()) == ROWS
    with logged() as events:
        for connection in stalled:
            connection.close()
        await until(lambda: not client.app.running)
    assert statuses(events) == [499] * (len(stalled) - 2)
    assert [event for event in events if "log_failure" in event] == []
    assert client.app.spool.left == client.backend.settings.server.spool_size


@pytest.mark.limits(pool_size=6, spool_size=0, queue_timeout=1.0, stall_timeout=600.0)
@ensureDeferred
async def test_without_room_for_them_streams_leave_half_of_the_connections(client: Client) -> None:
    """Streams can have three connections of six, and those of one caller two of the three."""
    await fill(client)
    stalled = [ask(client) for _ in range(8)]
    await until(lambda: len(client.app.running) == 8)
    for _ in range(20):
        assert (await client.get("~/items/things/1?fields=id")).data == {"id": 1}
    refused = await client.get("~/items/things?limit=-1")
    assert (refused.status, refused.code) == (503, 16)
    assert int(refused.headers["retry-after"]) > 0
    await until(lambda: len(client.app.running) == 2)
    assert database(client).in_use == 2
    # A hang-up frees the place, and is nobody's failure.
    with logged() as events:
        for connection in stalled:
            connection.close()
        await until(lambda: not client.app.running and database(client).in_use == 0)
    assert sorted(statuses(events)) == [499, 499]
    assert [event for event in events if "log_failure" in event] == []
    assert len((await client.get("~/items/things?limit=-1&fields=id")).data) == ROWS


@pytest.mark.limits(spool_size=0, stall_timeout=1.0, queue_timeout=PATIENCE)
@ensureDeferred
async def test_a_reader_that_takes_nothing_is_cut_off(client: Client) -> None:
    await fill(client)
    with logged() as events:
        stalled = [ask(client) for _ in range(6)]
        # One at a time of a caller has a place, until it is cut off; nobody need hang up.
        await until(lambda: statuses(events) == [499] * 6)
    assert database(client).in_use == 0
    assert [event for event in events if "log_failure" in event] == []
    assert any("stall_timeout" in event.get("why", "") for event in events)
    for connection in stalled:
        with pytest.raises((AssertionError, ValueError)):
            unchunked(await receive(connection))
        connection.close()


@pytest.mark.parametrize("path", ["~/items/things?limit=-1", "~/items/things?limit=2900"])
@pytest.mark.limits(stall_timeout=2.0)
@ensureDeferred
async def test_a_slow_reader_gets_all_of_it(client: Client, path: str) -> None:
    """In many times the seconds for which it may take nothing. The second is no stream, and as large."""
    await fill(client)
    expected = json.loads((await client.get(path)).body)
    with closing(ask(client, path)) as connection:
        await until(lambda: len(client.app.running) == 1 and database(client).in_use == 0)
        answer = await receive(connection, pause=0.004)
    head, _, body = answer.partition(b"\r\n\r\n")
    if b"chunked" in head.lower():
        head, body = unchunked(answer)
    assert json.loads(body) == expected


@pytest.mark.limits(spool_size=2_000_000)
@ensureDeferred
async def test_what_does_not_fit_the_spool_waits_for_its_reader(client: Client) -> None:
    await fill(client)
    with closing(ask(client, close=False)) as connection:
        await until(lambda: client.app.spool.left < 2_000_000)
        await until(lambda: database(client).in_use == 1)
        found = bytearray()
        while not found.endswith(b"0\r\n\r\n"):
            await deferLater(reactor, 0.001)
            try:
                found += connection.recv(2**20)
            except BlockingIOError:
                continue
        assert len(json.loads(unchunked(bytes(found))[1])["data"]) == ROWS
        await until(lambda: database(client).in_use == 0)
        # The connection serves on.
        connection.sendall(b"GET /server/ping HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        assert (await receive(connection)).endswith(b"pong")
    assert client.app.spool.left == 2_000_000


@ensureDeferred
async def test_the_head_of_a_stream_reads_nothing_of_it(client: Client) -> None:
    await fill(client)
    for path in ("~/items/things?limit=-1", "~/items/things?export=json"):
        answer = await client.call("HEAD", path)
        assert (answer.status, answer.body) == (200, b"")
        assert answer.headers["content-type"] == "application/json"
    assert (await client.call("HEAD", "~/items/things?limit=-1&fields=nope")).status == 422


@pytest.mark.limits(request_timeout=0.5, keep_alive_timeout=0.5)
@ensureDeferred
async def test_a_sender_that_is_slow_is_cut_off(client: Client) -> None:
    port = int(client.base.rpartition(":")[2])
    head = b"POST /%s/items/x HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: 99\r\n"
    for sent, expected in ((head, b"408"), (head + b"\r\n{", b"408"), (b"", b"")):
        with closing(socket.create_connection(("127.0.0.1", port))) as connection:
            connection.setblocking(False)
            connection.sendall(sent % client.project.encode() if sent else b"")
            answer = await receive(connection)
            assert answer[9:12] == expected
            assert not expected or json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == 21
    await until(
        lambda: (
            not client.app.site.connections.channels
            or all(channel.requests == [] for channel in client.app.site.connections.channels)
        )
    )


@ensureDeferred
async def test_a_failure_on_the_way_ends_the_connection_and_is_logged(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    await fill(client)
    encoded, lists = encode.encoded, []

    def fail(value: Any) -> bytes:
        if isinstance(value, list):
            lists.append(value)
            if len(lists) > 1:
                raise RuntimeError("on the way")
        return encoded(value)

    monkeypatch.setattr(encode, "encoded", fail)
    with logged() as events, closing(ask(client)) as connection:
        answer = await receive(connection)
        assert answer.startswith(b"HTTP/1.1 200")
        with pytest.raises((AssertionError, ValueError)):
            unchunked(answer)
        await until(lambda: not client.app.running)
    assert statuses(events) == [500]
    assert sum("log_failure" in event for event in events) == 1
    assert database(client).in_use == 0
