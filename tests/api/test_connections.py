"""Connections beyond the limits of the server, over real sockets from several addresses."""

import json
import socket
from contextlib import ExitStack, closing
from typing import Any

import pytest
from attrs import evolve
from pytest_twisted import ensureDeferred
from twisted.internet import defer, reactor

from directus_tx.config import Settings
from directus_tx.http.connections import ConnectionLimits
from directus_tx.http.listening import endpoint_of
from tests.api.test_streams import receive, until
from tests.conftest import TOKEN, Client

PING = b"GET /server/ping HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
HALF = b"POST /x/items/x HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: 200000\r\n\r\n{"


@pytest.fixture
def settings(settings: Settings, request: pytest.FixtureRequest) -> Settings:
    """As other tests have them, with a trusted proxy, and what the test's mark `limits` says."""
    mark = request.node.get_closest_marker("limits")
    return evolve(settings, server=evolve(settings.server, trusted_proxies=("127.0.0.9",), **(mark.kwargs if mark else {})))


def connect(port: int, source: str, data: bytes) -> socket.socket:
    found = socket.socket()
    found.bind((source, 0))
    found.connect(("127.0.0.1", port))
    found.setblocking(False)
    found.sendall(data)
    return found


async def answer(port: int, source: str, data: bytes = PING) -> bytes:
    with closing(connect(port, source, data)) as connection:
        return await receive(connection)


def port_of(client: Client) -> int:
    return int(client.base.rpartition(":")[2])


def refused(found: bytes) -> str:
    """The message of an answer that refuses a connection."""
    head, _, body = found.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 "), found
    assert b"\r\nRetry-After: 1" in head
    assert b"\r\nConnection: close" in head
    assert json.loads(body)["error"]["code"] == 16
    return str(json.loads(body)["error"]["message"])


@ensureDeferred
async def test_connections_with_requests_are_limited_for_each_address_and_for_all(server: Client) -> None:
    connections = server.app.site.connections
    connections.limits = ConnectionLimits(8, 3)
    port = port_of(server)
    with ExitStack() as stack:
        for source, number in (("127.0.0.2", 3), ("127.0.0.3", 3)):
            half = [stack.enter_context(closing(connect(port, source, HALF))) for _ in range(number)]
            await until(lambda source=source, number=number: _busy(connections, source) == number)
            message = refused(await answer(port, source))
            assert "server.max_connections_per_address" in message
            # The rest of the body does not keep the client from reading the refusal.
            assert "server.max_connections_per_address" in refused(await answer(port, source, HALF + b" " * 100_000))
            assert (await answer(port, "127.0.0.4")).endswith(b"pong")
        await until(lambda: len(connections.channels) == 6)
        stack.enter_context(closing(connect(port, "127.0.0.4", HALF)))
        stack.enter_context(closing(connect(port, "127.0.0.5", HALF)))
        await until(lambda: _busy(connections, "127.0.0.4") == _busy(connections, "127.0.0.5") == 1)
        for source in ("127.0.0.6", "127.0.0.9"):
            assert "(server.max_connections)" in refused(await answer(port, source))
        half[0].close()
        await until(lambda: len(connections.channels) == 7)
        assert (await answer(port, "127.0.0.3")).endswith(b"pong")
    await until(lambda: not connections.each())
    assert (await answer(port, "127.0.0.2")).endswith(b"pong")


def _busy(connections: Any, host: str) -> int:
    return sum(each.address == host and not each.waiting for each in connections.channels)


@ensureDeferred
async def test_a_trusted_proxy_has_no_limit_of_its_own(server: Client) -> None:
    connections = server.app.site.connections
    connections.limits = ConnectionLimits(50, 2)
    with ExitStack() as stack:
        for _ in range(10):
            stack.enter_context(closing(connect(port_of(server), "127.0.0.9", HALF)))
        await until(lambda: len(connections.channels) == 10)
        assert (await answer(port_of(server), "127.0.0.9")).endswith(b"pong")


@ensureDeferred
async def test_idle_connections_make_room(client: Client) -> None:
    connections = client.app.site.connections
    connections.limits = ConnectionLimits(10, 10)
    port = port_of(client)
    with ExitStack() as stack:
        for _ in range(40):
            stack.enter_context(closing(connect(port, "127.0.0.2", b"")))
        item = f"GET /{client.project}/users/1 HTTP/1.1\r\nHost: h\r\nConnection: close\r\nAuthorization: bearer {TOKEN}\r\n\r\n"
        for _ in range(20):
            assert (await answer(port, "127.0.0.3", item.encode())).startswith(b"HTTP/1.1 200")
    await until(lambda: len(connections.each()) == 0)


@ensureDeferred
async def test_a_client_behind_the_proxy_protocol_is_counted_for_its_own_address(server: Client) -> None:
    connections = server.app.site.connections
    connections.limits = ConnectionLimits(50, 2)
    listening = await endpoint_of(reactor, "haproxy:tcp:0:interface=127.0.0.1", 100).listen(server.app.site)
    try:
        port = listening.getHost().port
        with ExitStack() as stack:
            for host in ("192.0.2.1", "192.0.2.2"):
                header = f"PROXY TCP4 {host} 192.0.2.99 1 2\r\n".encode()
                for number in range(2):
                    stack.enter_context(closing(connect(port, "127.0.0.9", header + HALF)))
                    await until(lambda host=host, number=number: _busy(connections, host) == number + 1)
                assert "server.max_connections_per_address" in refused(await answer(port, "127.0.0.9", header + PING))
        await until(lambda: not connections.each())
    finally:
        await defer.maybeDeferred(listening.stopListening)


@pytest.mark.limits(keep_alive_timeout=0.5, request_timeout=0.5)
@pytest.mark.parametrize("sent", [b"", b"PROXY TCP4 192.0.2.1 192", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"])
@ensureDeferred
async def test_a_header_of_the_proxy_protocol_has_a_time_in_which_to_arrive(server: Client, sent: bytes) -> None:
    listening = await endpoint_of(reactor, "haproxy:tcp:0:interface=127.0.0.1", 100).listen(server.app.site)
    try:
        assert await answer(listening.getHost().port, "127.0.0.9", sent) == b""
    finally:
        await defer.maybeDeferred(listening.stopListening)


@pytest.mark.parametrize(
    ("description", "backlog"),
    [
        ("tcp:0:interface=127.0.0.1", 300),
        ("tcp:0:interface=127.0.0.1:backlog=7", 7),
        ("tcp:0:127.0.0.1:8", 8),
        ("tcp6:0:9:\\:\\:1", 9),
        ("haproxy:tcp:0:interface=127.0.0.1", 300),
        ("unix:{path}", 300),
        ("unix:{path}:mode=600", 300),
        ("unix:{path}:backlog=7", 7),
        ("unix:{path}\\:backlog\\=7", 300),
    ],
)
def test_the_backlog_is_that_of_the_description_or_of_the_setting(description: str, backlog: int, tmp_path: Any) -> None:
    endpoint = endpoint_of(reactor, description.format(path=tmp_path / "socket"), 300)
    endpoint = getattr(endpoint, "_wrappedEndpoint", endpoint)
    assert endpoint._backlog == backlog
