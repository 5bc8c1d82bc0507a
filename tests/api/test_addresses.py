"""Addresses of database servers are looked up without blocking the reactor, and found or refused in time."""

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet import defer, reactor
from twisted.internet.task import Clock, deferLater

from directus_tx.db import connection as connections
from directus_tx.db.addresses import SharedLookups, UnknownHost, located
from directus_tx.db.connection import connected
from directus_tx.errors import ServiceUnavailable

NAMES = {"one.test": ["192.0.2.1"], "two.test": ["2001:db8::2", "192.0.2.2"], "local.test": ["::1", "127.0.0.1"]}


class NameServer:
    """A name server that knows NAMES. While it `hangs`, it does not answer."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.hangs = False
        self.answers = threading.Event()

    def getaddrinfo(self, host: str, port: int, family: int, kind: int) -> list[Any]:
        self.asked.append(host)
        if self.hangs:
            assert self.answers.wait(60)
        if host not in NAMES:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return [
            (socket.AF_INET6, kind, 6, "", (address, port, 0, 0))
            if ":" in address
            else (socket.AF_INET, kind, 6, "", (address, port))
            for address in NAMES[host]
        ]


@pytest.fixture
def names() -> Iterator[NameServer]:
    """The name server of the reactor."""
    found = NameServer()
    before = reactor.installNameResolver(SharedLookups(reactor, found.getaddrinfo))
    yield found
    found.answers.set()
    reactor.installNameResolver(before)


LOCATED: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"host": "one.test"}, {"host": "one.test", "port": "", "hostaddr": "192.0.2.1"}),
    ({"host": "one.test", "port": 5433}, {"host": "one.test", "port": "5433", "hostaddr": "192.0.2.1"}),
    ({"host": "two.test"}, {"host": "two.test,two.test", "port": ",", "hostaddr": "2001:db8::2,192.0.2.2"}),
    (
        {"host": "two.test,one.test", "port": "1,2"},
        {"host": "two.test,two.test,one.test", "port": "1,1,2", "hostaddr": "2001:db8::2,192.0.2.2,192.0.2.1"},
    ),
    ({"host": "/run/pg,one.test", "port": 3}, {"host": "/run/pg,one.test", "port": "3,3", "hostaddr": ",192.0.2.1"}),
    ({"host": "unknown.test,one.test"}, {"host": "one.test", "port": "", "hostaddr": "192.0.2.1"}),
    ({"host": "192.0.2.9,one.test"}, {"host": "192.0.2.9,one.test", "port": ",", "hostaddr": ",192.0.2.1"}),
]


@pytest.mark.parametrize(("given", "expected"), LOCATED)
@ensureDeferred
async def test_hosts_are_given_to_libpq_with_their_addresses(
    names: NameServer, given: dict[str, Any], expected: dict[str, Any]
) -> None:
    found = await located(reactor, {"user": "u", **given}, 60)
    assert found == {"user": "u", **expected}


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"host": "/run/postgresql"},
        {"host": "@abstract"},
        {"host": "192.0.2.1", "port": 5432},
        {"host": "2001:db8::1"},
        {"host": "fe80::1%eth0"},
        {"host": "one.test", "hostaddr": "192.0.2.7"},
        {"host": "one.test,two.test,one.test", "port": "1,2"},
        {"service": "directus", "host": "one.test"},
    ],
)
@ensureDeferred
async def test_what_libpq_does_not_look_up_is_left_alone(names: NameServer, parameters: dict[str, Any]) -> None:
    assert await located(reactor, parameters, 60) is parameters
    assert names.asked == []


@ensureDeferred
async def test_callers_that_ask_for_a_name_at_the_same_time_share_a_lookup(names: NameServer) -> None:
    names.hangs = True
    clock = Clock()
    clock.nameResolver = reactor.nameResolver  # type: ignore[attr-defined]
    asking = [defer.Deferred.fromCoroutine(located(clock, {"host": "one.test"}, 3)) for _ in range(50)]
    # The reactor goes on meanwhile.
    await deferLater(reactor, 0.05)
    assert not any(each.called for each in asking)
    clock.advance(3)
    for each in asking:
        with pytest.raises(UnknownHost, match=r"one\.test"):
            await each
    later = [defer.Deferred.fromCoroutine(located(reactor, {"host": "one.test"}, 60)) for _ in range(50)]
    names.answers.set()
    for each in later:
        assert (await each)["hostaddr"] == "192.0.2.1"
    assert names.asked == ["one.test"]
    assert (await located(reactor, {"host": "one.test"}, 60))["hostaddr"] == "192.0.2.1"
    assert names.asked == ["one.test"] * 2


@pytest.mark.parametrize("host", ["unknown.test", "one.test"])
@ensureDeferred
async def test_a_database_whose_address_is_not_found_in_time_cannot_be_reached(
    names: NameServer, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    names.hangs = host == "one.test"
    monkeypatch.setattr(connections, "CONNECT_TIMEOUT", 0.2)
    with pytest.raises(ServiceUnavailable, match="cannot be reached"):
        async with connected(reactor, {"host": host, "user": "postgres", "dbname": "postgres"}):
            pass


@ensureDeferred
async def test_each_address_of_a_host_is_tried(names: NameServer, postgres: dict[str, Any]) -> None:
    """A database server listens at the second address of the host only."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]

    def copy(source: socket.socket, target: socket.socket) -> None:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)

    def forward() -> None:
        client, _ = listener.accept()
        with client, socket.socket(socket.AF_UNIX) as server:
            server.connect(f"{postgres['host']}/.s.PGSQL.5432")
            back = threading.Thread(target=copy, args=(server, client), daemon=True)
            back.start()
            copy(client, server)
            back.join(60)

    forwarder = threading.Thread(target=forward, daemon=True)
    forwarder.start()
    async with connected(reactor, {**postgres, "host": "local.test", "port": port, "sslmode": "disable"}) as connection:
        assert await connection.run("SELECT 1") == [(1,)]
    forwarder.join(60)
    listener.close()
