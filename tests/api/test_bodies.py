"""Bodies that are written to temporary files while they arrive: their limits, and that nothing is left of them."""

import json
import os
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, closing
from typing import Any

import pytest
from attrs import evolve
from pytest_twisted import ensureDeferred
from twisted.internet import defer

from directus_tx.config import Settings
from directus_tx.db.session import Session
from directus_tx.http.spool import Spool
from tests.api.test_streams import logged, receive, until
from tests.conftest import TOKEN, Client, field

PUBLIC = 150_000
SPOOL = 1_600_000
UNKNOWN = SPOOL // 8
MULTIPART = "multipart/form-data; boundary=x"
PART = b'--x\r\nContent-Disposition: form-data; name="name"\r\n\r\n'


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """As other tests have them, but small limits of bodies."""
    return evolve(
        settings,
        server=evolve(settings.server, body_spool_size=SPOOL),
        limits=evolve(settings.limits, max_public_payload_size=PUBLIC, max_payload_size=1_000_000),
    )


def begin(
    client: Client, size: int, sent: int, *, token: str | None = None, kind: str = "application/json", chunked: bool = False
) -> socket.socket:
    """A connection on which a part of a body has been sent."""
    connection = socket.create_connection(("127.0.0.1", int(client.base.rpartition(":")[2])))
    head = f"POST /{client.project}/items/things?fields=id HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Type: {kind}\r\n"
    head += "Transfer-Encoding: chunked\r\n" if chunked else f"Content-Length: {size}\r\n"
    if token is not None:
        head += f"Authorization: bearer {token}\r\n"
    body = (PART if kind == MULTIPART else b'{"name":"').ljust(sent, b"x")
    if chunked:
        body = b"%x\r\n%s\r\n" % (sent, body)
    connection.sendall(head.encode() + b"\r\n" + body)
    connection.setblocking(False)
    return connection


def end(connection: socket.socket, size: int, sent: int, *, chunked: bool = False) -> None:
    """Sends the rest of a JSON body."""
    rest = b"x" * (size - sent - 2) + b'"}'
    connection.setblocking(True)
    connection.sendall(b"%x\r\n%s\r\n0\r\n\r\n" % (len(rest), rest) if chunked else rest)
    connection.setblocking(False)


async def error(connection: socket.socket) -> tuple[int, int, str]:
    """The status, code and message of a refusal. The server waits a while for the client to close the connection."""
    found = b""

    def complete() -> bool:
        nonlocal found
        try:
            found += connection.recv(65536)
        except BlockingIOError:
            pass
        return found.endswith(b"}}")

    await until(complete)
    head, _, body = found.partition(b"\r\n\r\n")
    status = int(head.split()[1])
    assert status != 503 or b"\r\nRetry-After: " in head
    assert b"\r\nConnection: close" in head
    parsed = json.loads(body)["error"]
    return status, parsed["code"], parsed["message"]


def spools(client: Client) -> tuple[Spool, Spool]:
    payloads = client.app.payloads
    return payloads.unknown_spool, payloads.spool


def requests(client: Client) -> list[Any]:
    """The requests that are being received or answered."""
    return [request for channel in client.app.site.connections.channels for request in channel.requests]


def received(client: Client) -> int:
    """The bytes of their bodies that have been received."""
    return sum(request.received for request in requests(client))


def is_unused(client: Client) -> bool:
    unknown, known = spools(client)
    return (unknown.left, known.left, unknown.open, known.open) == (UNKNOWN, SPOOL - UNKNOWN, 0, 0)


async def prepare(client: Client) -> None:
    await client.collection("things", field("name", datatype="TEXT", length=None))
    await client.post("~/permissions", {"collection": "things", "role": 2, "create": "full", "read": "full"})
    assert is_unused(client)


@asynccontextmanager
async def holding(client: Client, statement: str) -> AsyncIterator[None]:
    """Holds a lock in a transaction of its own."""
    held: defer.Deferred[None] = defer.Deferred()
    release: defer.Deferred[None] = defer.Deferred()

    async def hold(session: Session) -> None:
        await session.query(statement)
        held.callback(None)
        await release

    work = defer.ensureDeferred(Session(client.backend.projects.get(client.project).database).transaction(hold))
    try:
        await held
        yield
    finally:
        release.callback(None)
        await work


@ensureDeferred
async def test_callers_without_a_token_have_a_part_of_the_room(client: Client) -> None:
    await prepare(client)
    with ExitStack() as stack, logged() as events:
        halves = [stack.enter_context(closing(begin(client, 100_000, 90_000, chunked=chunked))) for chunked in (False, True)]
        await until(lambda: spools(client)[0].left == UNKNOWN - 180_000)
        for token in (None, "no such token"):
            refused = stack.enter_context(closing(begin(client, 100_000, 90_000, token=token)))
            status, code, message = await error(refused)
            assert (status, code) == (503, 16)
            assert "server.body_spool_size" in message
        # Users have room, and so have small bodies.
        whole = await client.post("~/items/things?fields=id", {"name": "x" * 900_000})
        assert whole.status == 200
        assert (await client.post("~/items/things?fields=id", {"name": "x" * 60_000}, token=None)).status == 200
        end(halves[0], 100_000, 90_000)
        assert b'"id":' in await receive(halves[0])
        again = stack.enter_context(closing(begin(client, 100_000, 90_000)))
        await until(lambda: spools(client)[0].left == UNKNOWN - 180_000)
        end(again, 100_000, 90_000)
        assert b'"id":' in await receive(again)
    await until(lambda: is_unused(client))
    assert [event for event in events if "log_failure" in event] == []


@pytest.mark.parametrize("token", [None, "no such token", "eyJ.eyJ.x"])
@pytest.mark.parametrize("kind", ["application/json", MULTIPART])
@pytest.mark.parametrize("chunked", [False, True])
@ensureDeferred
async def test_a_body_of_a_caller_without_a_valid_token_is_refused_early(
    client: Client, token: str | None, kind: str, chunked: bool
) -> None:
    """When more has arrived than is allowed, the rest is not waited for."""
    await prepare(client)
    for sent in (PUBLIC + 10, PUBLIC + 200_000):
        with closing(begin(client, 900_000, sent, token=token, kind=kind, chunked=chunked)) as connection:
            status, code, message = await error(connection)
            assert (status, code) == (413, 601)
            assert "limits.max_public_payload_size" in message
            assert is_unused(client)
    await until(lambda: not requests(client))


@pytest.mark.parametrize("chunked", [False, True])
@ensureDeferred
async def test_half_bodies_of_users_have_a_bound(client: Client, chunked: bool) -> None:
    await prepare(client)
    with ExitStack() as stack:
        halves = [stack.enter_context(closing(begin(client, 900_000, 400_000, token=TOKEN, chunked=chunked))) for _ in range(3)]
        await until(lambda: spools(client)[1].left == SPOOL - UNKNOWN - 1_200_000)
        assert spools(client)[0].left == UNKNOWN
        with closing(begin(client, 900_000, 400_000, token=TOKEN, chunked=chunked)) as refused:
            status, code, _ = await error(refused)
        assert (status, code) == (503, 16)
        assert (await client.post("~/items/things?fields=id", {"name": "x" * 100_000})).status == 200
        halves[1].close()
        await until(lambda: spools(client)[1].left == SPOOL - UNKNOWN - 800_000)
        end(halves[0], 900_000, 400_000, chunked=chunked)
        assert b'"id":' in await receive(halves[0])
    await until(lambda: is_unused(client))


@ensureDeferred
async def test_the_number_of_files_has_a_bound(client: Client) -> None:
    await prepare(client)
    unknown, known = spools(client)
    unknown.files, known.files = 1, 2
    with ExitStack() as stack:
        for token, number in ((None, 1), (TOKEN, 2)):
            for _ in range(number):
                stack.enter_context(closing(begin(client, 140_000, 80_000, token=token)))
            await until(lambda number=number, token=token: spools(client)[token is not None].open == number)
            refused = stack.enter_context(closing(begin(client, 140_000, 80_000, token=token)))
            assert (await error(refused))[:2] == (503, 16)
    await until(lambda: is_unused(client))


@pytest.mark.parametrize("size", [PUBLIC + 10, 900_000])
@pytest.mark.parametrize("gone", [False, True])
@ensureDeferred
async def test_a_body_waits_until_its_caller_is_known(client: Client, size: int, gone: bool) -> None:
    """Receiving stops while the database is asked for the user, also if the rest of the body is there already."""
    await prepare(client)
    project = client.backend.projects.get(client.project)
    with logged() as events:
        async with holding(client, "LOCK TABLE directus_users IN ACCESS EXCLUSIVE MODE"):
            project.accounts.clear()
            connection = begin(client, size, PUBLIC, token=TOKEN)
            await until(lambda: received(client) == PUBLIC)
            rest = b"x" * (size - PUBLIC - 2) + b'"}'
            while rest:
                try:
                    rest = rest[connection.send(rest) :]
                except BlockingIOError:
                    break
            await until(lambda: received(client) > PUBLIC)
            assert spools(client)[1].open == 0
            assert not client.app.running
            if gone:
                connection.close()
        if not gone:
            connection.setblocking(True)
            connection.sendall(rest)
            connection.setblocking(False)
            assert b'"id":' in await receive(connection)
            connection.close()
        await until(lambda: is_unused(client) and not requests(client))
    assert [event for event in events if "log_failure" in event] == []


@ensureDeferred
async def test_a_directory_that_cannot_be_written_is_no_room(
    client: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    await prepare(client)
    missing = tmp_path / "missing"
    with monkeypatch.context() as patch, logged() as events:
        patch.setattr("tempfile.tempdir", str(missing))
        answer = await client.post("~/items/things?fields=id", {"name": "x" * 100_000})
        assert (answer.status, answer.code) == (503, 16)
        assert answer.headers["retry-after"]
        assert (await client.post("~/items/things?fields=id", {"name": "x" * 1000})).status == 200
        os.mkdir(missing)
        assert (await client.post("~/items/things?fields=id", {"name": "x" * 100_000})).status == 200
        assert os.listdir(missing) == []
    assert [event for event in events if "log_failure" in event] == []
    await until(lambda: is_unused(client))
