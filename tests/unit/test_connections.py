"""Which connections are closed to make room, and which are refused."""

import json
from typing import Any

import pytest
from attrs import evolve, mutable
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.task import Clock

from directus_tx.config import Settings
from directus_tx.http import connections
from directus_tx.http.app import App
from directus_tx.http.channel import ApiChannel
from directus_tx.http.connections import LINGER, MAX_LEAVING, MAX_REFUSED, ConnectionLimits
from directus_tx.http.listening import Descriptors
from directus_tx.http.routes import Services
from tests.unit.test_channel import PING, POST, Transport


class Site:
    """A site of an app without projects, which takes connections from addresses."""

    def __init__(self, total: float = float("inf"), per_address: float = float("inf"), *proxies: str) -> None:
        self.clock = Clock()
        configured = evolve(Settings(), server=evolve(Settings().server, trusted_proxies=proxies))
        self.site = App(self.clock, Services(None, None, None, configured, sign_on=None, intake=None, thumbnails=None)).site  # type: ignore[arg-type]
        self.site.connections.limits = ConnectionLimits(total, per_address)
        self.connections = self.site.connections

    def connect(self, host: str) -> Any:
        """A protocol with a transport for a new connection."""
        address = (IPv6Address if ":" in host else IPv4Address)("TCP", host, 1)
        protocol: Any = self.site.buildProtocol(address)
        transport = Transport()
        transport.peerAddr = address
        transport.loseWriteConnection = lambda: None  # type: ignore[attr-defined]
        protocol.makeConnection(transport)
        return protocol


def error_of(protocol: Any) -> str:
    head, _, body = protocol.transport.value().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nRetry-After: 1" in head
    assert b"\r\nConnection: close" in head
    assert json.loads(body)["error"]["code"] == 16
    return json.loads(body)["error"]["message"]


@mutable(eq=False)
class Known:
    """A connection as the test knows it."""

    host: str
    channel: Any
    since: float
    busy: bool = False

    @property
    def open(self) -> bool:
        return bool(self.channel.transport.open)


HOSTS = ("10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4")
STEPS = st.lists(st.tuples(st.sampled_from(["connect", "connect", "ask", "begin", "send"]), st.integers(0, 50)), max_size=80)


@settings(deadline=None, max_examples=30)
@given(STEPS, st.integers(1, 8), st.integers(1, 5))
def test_the_longest_idle_of_the_address_with_most_is_closed(steps: list[tuple[str, int]], total: int, per_address: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connections, "REFRESH", 0.5)
        patch.setattr(connections, "RETRY", 0.0)
        patch.setattr(connections, "MAX_LEAVING", 10**6)
        site = Site(total, per_address)
        known: list[Known] = []
        for step, choice in steps:
            site.clock.advance(1)
            if step == "connect":
                host = HOSTS[choice % len(HOSTS)]
                same = [each for each in known if each.host == host]
                closed: Known | None = None
                refused = False
                if len(same) >= per_address:
                    closed = min((each for each in same if not each.busy), key=lambda each: each.since, default=None)
                    refused = closed is None
                left = [each for each in known if each is not closed]
                if not refused and len(left) >= total:
                    numbers = {each.host: sum(other.host == each.host for other in left) for each in left}
                    closed = min(
                        (each for each in left if not each.busy), key=lambda each: (-numbers[each.host], each.since), default=None
                    )
                    refused = closed is None
                channel = site.connect(host)
                assert isinstance(channel, ApiChannel) is not refused
                if refused:
                    assert "server.max_connections" in error_of(channel)
                else:
                    known.append(Known(host, channel, site.clock.seconds()))
                assert [each for each in known if not each.open] == ([closed] if closed else [])
                known = [each for each in known if each.open]
                assert len(known) <= total
            elif known:
                each = known[choice % len(known)]
                if each.busy:
                    continue
                if step == "ask":
                    if each.channel.phase is each.channel.phase.IDLE:
                        each.channel.dataReceived(PING)
                        each.since = site.clock.seconds()
                elif step == "begin":
                    each.channel.dataReceived(PING[:1] if each.channel.phase is each.channel.phase.IDLE else b"")
                elif each.channel.phase is each.channel.phase.IDLE:
                    each.channel.dataReceived(POST % 1000)
                    each.busy = True
        assert site.connections.channels == {each.channel for each in known}
        for channel in site.connections.each():
            channel.connectionLost()
        assert (site.connections.each(), site.connections._groups) == ([], {})


def test_a_burst_of_many_addresses_closes_the_oldest_and_not_the_newest() -> None:
    site = Site(300)
    channels = []
    for number in range(1500):
        site.clock.advance(0.001)
        channels.append(site.connect(f"10.{number // 250}.0.{number % 250}"))
        assert channels[-1].transport.open
        assert number % 100 or all(each.transport.open for each in channels[-100:])
    assert len(site.connections.channels) == 300


def test_connections_that_do_not_close_are_cut_off() -> None:
    site = Site(10)
    for number in range(200):
        site.clock.advance(1)
        site.connect("10.0.0.1").dataReceived(b"G")
        assert sum(not each.transport.aborting for each in site.connections._leaving) <= MAX_LEAVING
        assert number < 100 or any(each.transport.aborting for each in site.connections._leaving)


def test_a_refused_connection_is_closed_soon() -> None:
    site = Site(1)
    site.connect("10.0.0.1").dataReceived(POST % 1000)
    refused = site.connect("10.0.0.2")
    assert "server.max_connections" in error_of(refused)
    refused.dataReceived(PING)
    assert refused.transport.open
    site.clock.advance(LINGER)
    assert not refused.transport.open
    many = [site.connect("10.0.0.2") for _ in range(5 * MAX_REFUSED)]
    assert sum(each.transport.open for each in many) == MAX_REFUSED
    assert all(each.transport.open for each in many[-MAX_REFUSED:])
    many[-1].connectionLost()
    site.clock.advance(LINGER)
    assert not any(each.transport.open for each in many[:-1])
    for each in many:
        each.connectionLost()
    assert site.connections._refused == {}


@pytest.mark.parametrize(
    ("host", "counted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2::", "2001:db8:1:2::"),
        ("fe80::1%eth0", "fe80::"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("::ffff:10.0.0.7", None),
        ("10.0.0.7", None),
        ("2001:db8:ffff::1", None),
    ],
)
def test_connections_are_counted_for_an_address_or_a_network(host: str, counted: str | None) -> None:
    site = Site(100, 100, "10.0.0.0/8", "2001:db8:ffff::/48")
    assert site.connections.address_of((IPv6Address if ":" in host else IPv4Address)("TCP", host, 1)) == counted


def test_a_unix_socket_has_no_address() -> None:
    assert Site().connections.address_of(UNIXAddress("/run/x")) is None


def test_proxies_have_no_limit_of_their_own_and_are_closed_last() -> None:
    site = Site(10, 2, "10.0.0.9")
    proxied = [site.connect("10.0.0.9") for _ in range(8)]
    others = [site.connect("10.0.0.1") for _ in range(4)]
    assert [each.transport.open for each in others] == [False, False, True, True]
    site.connect("10.0.0.2")
    site.connect("10.0.0.3")
    assert all(each.transport.open for each in proxied)
    for _ in range(5):
        site.clock.advance(2)
        proxied.append(site.connect("10.0.0.9"))
    assert sum(each.transport.open for each in proxied) == 10


@pytest.mark.parametrize("limit", [64, 256, 1024, 4096, 20_000, 10**6])
@pytest.mark.parametrize("endpoints", [1, 4])
@pytest.mark.parametrize("setting", [0, 100, 50_000])
def test_the_limit_of_connections_is_below_that_of_descriptors(limit: int, endpoints: int, setting: int) -> None:
    server = evolve(Settings().server, listen=("tcp:0",) * endpoints, max_connections=setting)
    configured = evolve(Settings(), server=server)
    found = Descriptors.of(configured, limit)
    limits = found.limits(configured)
    assert 1 <= limits.per_address <= limits.total <= found.connections
    assert limits.total <= (setting or 10_000)
    if limit >= 1024:
        assert found.connections + found.files + 100 < limit
    else:
        assert found.connections + found.files < limit
