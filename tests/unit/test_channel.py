"""How long a client may take over a connection, by a clock that the tests move."""

import json
from collections.abc import Callable, Iterator
from errno import ECONNRESET, EWOULDBLOCK
from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest
from attrs import evolve
from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.internet import tcp
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure

from directus_tx.config import Settings
from directus_tx.http.app import App
from directus_tx.http.channel import ApiChannel
from directus_tx.http.routes import Services

SERVER = evolve(Settings().server, request_timeout=30.0, min_body_rate=100.0, keep_alive_timeout=60.0, stall_timeout=20.0)
PING = b"GET /server/ping HTTP/1.1\r\nHost: h\r\n\r\n"
POST = b"POST /p/items/x HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


class Transport(StringTransport):
    """A connection that takes what it is given unless it is said to be full."""

    def connectionLost(self, reason: Any) -> None: ...

    @property
    def open(self) -> bool:
        return not self.disconnecting and not self.aborting

    aborting = False

    def abortConnection(self) -> None:
        self.aborting = True
        super().abortConnection()


class Peer:
    """A client of an app without projects."""

    def __init__(self, settings: Any = SERVER) -> None:
        self.clock = Clock()
        services = Services(None, None, None, evolve(Settings(), server=settings), sign_on=None, intake=None, thumbnails=None)  # type: ignore[arg-type]
        self.site = App(self.clock, services).site
        self.site.startFactory()
        self.channel: ApiChannel = self.site.buildProtocol(IPv4Address("TCP", "127.0.0.1", 1))
        self.transport = Transport()
        self.channel.makeConnection(self.transport)

    def send(self, data: bytes) -> bytes:
        """What is answered at once."""
        self.transport.clear()
        self.channel.dataReceived(data)
        return self.transport.value()

    def wait(self, seconds: float, each: Callable[[], None] = lambda: None) -> None:
        for _ in range(int(seconds)):
            each()
            self.clock.advance(1)

    def error(self) -> tuple[int, int]:
        """The status and code of what was answered last."""
        head, _, body = self.transport.value().partition(b"\r\n\r\n")
        return int(head.split()[1]), json.loads(body)["error"]["code"]


@pytest.fixture
def peer() -> Iterator[Peer]:
    found = Peer()
    yield found
    # A request that has not come to its end holds a file for its body until its connection is lost.
    if found.site.connections.channels:
        found.channel.connectionLost(Failure(ConnectionAborted()))


def test_headers_have_a_time_in_which_to_arrive(peer: Peer) -> None:
    peer.channel.dataReceived(PING[:-2])
    peer.wait(25, lambda: peer.channel.dataReceived(b"X"))
    assert peer.transport.open
    peer.wait(15, lambda: peer.channel.dataReceived(b"X"))
    assert not peer.transport.open
    assert peer.error() == (408, 21)
    assert peer.send(b": x\r\n\r\n" + PING) == b""


def test_a_body_may_not_pause_long() -> None:
    peer = Peer(evolve(SERVER, min_body_rate=1.0))
    peer.channel.dataReceived(POST % 1000 + b"x" * 500)
    peer.wait(29)
    assert peer.transport.open
    peer.channel.dataReceived(b"x")
    peer.wait(29)
    assert peer.transport.open
    peer.wait(8)
    assert not peer.transport.open
    assert peer.error() == (408, 21)


def test_a_body_arrives_at_a_rate(peer: Peer) -> None:
    peer.channel.dataReceived(POST % 10_000)
    peer.wait(30, lambda: peer.channel.dataReceived(b"x"))
    assert peer.transport.open
    peer.wait(10, lambda: peer.channel.dataReceived(b"x"))
    assert not peer.transport.open
    assert peer.error() == (408, 21)


CHUNKED = b"POST /p/items/x HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (POST % 10**6, b"x"),
        (POST % 10**6, b""),
        ((POST % 10**6).replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"), b""),
        ((POST % 10**6).replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"), b"x"),
        (CHUNKED, b"1\r\nx\r\n"),
        (CHUNKED, b"1;" + b"e" * 900 + b"\r\nx\r\n"),
        (CHUNKED, b""),
        (CHUNKED + b"1\r\nx\r\n0\r\n", b"A: b\r\n"),
        (PING + POST % 10**6, b"x"),
        (PING + CHUNKED, b"1\r\nx\r\n"),
        (PING[:-2], b"X"),
        (PING + PING[:-2], b"X"),
        (PING + PING[:20], b""),
        (PING + b"G", b""),
    ],
)
def test_every_kind_of_request_has_a_time_in_which_to_arrive(head: bytes, piece: bytes) -> None:
    peer = Peer()
    peer.channel.dataReceived(head)
    peer.transport.clear()
    peer.wait(29, lambda: peer.channel.dataReceived(piece) if piece else None)
    assert peer.transport.open
    peer.wait(20, lambda: peer.channel.dataReceived(piece) if piece else None)
    assert not peer.transport.open
    assert peer.error() == (408, 21)
    peer.channel.connectionLost(Failure(ConnectionAborted()))


@pytest.mark.parametrize("head", [POST % 10**6, CHUNKED])
@pytest.mark.parametrize("body_timeout", [100.0, 0.0])
def test_a_body_that_keeps_the_rate_has_a_time_in_which_to_arrive(head: bytes, body_timeout: float) -> None:
    peer = Peer(evolve(SERVER, body_timeout=body_timeout))
    piece = b"x" * 150 if head != CHUNKED else b"96\r\n" + b"x" * 150 + b"\r\n"
    peer.channel.dataReceived(head)
    peer.wait(100, lambda: peer.channel.dataReceived(piece))
    assert peer.transport.open
    peer.wait(10, lambda: peer.channel.dataReceived(piece))
    assert peer.transport.open is not bool(body_timeout)
    if body_timeout:
        assert peer.error() == (408, 21)
        assert b"server.body_timeout" in peer.transport.value()
    peer.channel.connectionLost(Failure(ConnectionAborted()))


def test_bytes_that_came_fast_earn_no_more_than_the_whole_time() -> None:
    peer = Peer(evolve(SERVER, body_timeout=100.0))
    peer.channel.dataReceived(POST % 10**6 + b"x" * 900_000)
    peer.wait(110, lambda: peer.channel.dataReceived(b"x"))
    assert peer.error() == (408, 21)
    peer.channel.connectionLost(Failure(ConnectionAborted()))


def test_a_slow_client_that_keeps_the_rate_is_served(peer: Peer) -> None:
    body = b" " * 19_998 + b"{}"
    peer.channel.dataReceived((POST % len(body)).replace(b"/p/items/x", b"/server/nope"))
    sent = iter(range(0, len(body), 150))
    peer.wait(len(range(0, len(body), 150)), lambda: peer.channel.dataReceived(body[(n := next(sent)) : n + 150]))
    assert peer.transport.open
    assert peer.error() == (401, 3)


def test_a_connection_that_is_idle_is_closed(peer: Peer) -> None:
    peer.wait(50)
    assert b"pong" in peer.send(PING)
    peer.wait(55)
    assert b"pong" in peer.send(PING)
    assert peer.transport.open
    peer.wait(70)
    assert peer.transport.disconnecting
    assert not peer.transport.aborting


@pytest.mark.parametrize(
    "option", ["close", "Close", "keep-alive, close", "keep-alive,close", "close,x", "x\r\nConnection: close"]
)
def test_a_client_may_ask_for_the_connection_to_be_closed(peer: Peer, option: str) -> None:
    answer = peer.send(PING[:-2] + f"Connection: {option}\r\n\r\n".encode())
    assert b"\r\nConnection: close\r\n" in answer
    assert not peer.transport.open


@pytest.mark.parametrize("option", ["keep-alive", "x-close", "closed", "\r\nConnection: x"])
def test_a_connection_stays_open_otherwise(peer: Peer, option: str) -> None:
    assert b"Connection:" not in peer.send(PING[:-2] + f"Connection: {option}\r\n\r\n".encode())
    assert peer.transport.open


def test_requests_may_follow_each_other_at_once(peer: Peer) -> None:
    assert peer.send(PING * 3).count(b"pong") == 3
    assert peer.transport.open


def test_a_client_that_takes_nothing_is_cut_off(peer: Peer) -> None:
    peer.send(PING)
    peer.channel.pauseProducing()
    peer.wait(18)
    assert peer.transport.open
    peer.channel.resumeProducing()
    peer.wait(50)
    assert peer.transport.open
    peer.channel.pauseProducing()
    peer.wait(30)
    assert peer.transport.aborting


def test_a_connection_that_does_not_close_is_cut_off(peer: Peer) -> None:
    peer.send(PING.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    assert peer.transport.disconnecting
    peer.wait(15)
    assert not peer.transport.aborting
    peer.wait(15)
    assert peer.transport.aborting


@pytest.mark.parametrize("end", [b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"])
def test_a_client_that_takes_a_little_now_and_then_is_not_cut_off(
    peer: Peer, end: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = iter(range(1000, 0, -1))
    monkeypatch.setattr(peer.channel, "_unsent", lambda: next(left))
    peer.send(PING.replace(b"\r\n\r\n", end))
    peer.channel.pauseProducing()
    peer.wait(1000)
    assert not peer.transport.aborting
    monkeypatch.setattr(peer.channel, "_unsent", lambda: 1)
    peer.wait(30)
    assert peer.transport.aborting


def test_no_limit_is_none() -> None:
    peer = Peer(evolve(SERVER, request_timeout=0.0, min_body_rate=0.0, keep_alive_timeout=0.0, stall_timeout=0.0))
    peer.wait(5000)
    peer.channel.dataReceived(PING[:10])
    peer.wait(5000)
    peer.channel.pauseProducing()
    peer.wait(5000)
    peer.channel.resumeProducing()
    assert peer.transport.open
    assert b"pong" in peer.send(PING[10:])


def test_what_has_gone_is_not_watched(peer: Peer) -> None:
    assert len(peer.site.connections.channels) == 1
    peer.channel.connectionLost(Failure(ConnectionAborted()))
    assert peer.site.connections.channels == set()
    peer.wait(500)
    assert not peer.transport.aborting


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n", (414, 22)),
        (b"GET /" + b"a" * 20_000, (414, 22)),
        (b"GET / HTTP/1.1\r\nA: " + b"a" * 20_000, (400, 15)),
        (b"GET / HTTP/1.1\r\n" + b"A: %s\r\n" % (b"a" * 9000) * 2 + b"\r\n", (400, 15)),
        (b"GET / HTTP/1.1\r\n" + b"A: a\r\n" * 600 + b"\r\n", (400, 15)),
        (b"GET / HTTP/1.1\r\nContent-Length: \xc2\xb2\r\n\r\n", (400, 15)),
        (b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", (400, 15)),
        (b"GET / HTTP/1.1\r\nTransfer-Encoding: rot13\r\n\r\n", (400, 15)),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", (400, 15)),
        (b"nonsense\r\n\r\n", (400, 15)),
        (b"GET / HTTP/1.1\r\nnonsense\r\n\r\n", (400, 15)),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n", (400, 15)),
    ],
)
def test_what_is_no_request_is_told_so(peer: Peer, data: bytes, expected: tuple[int, int]) -> None:
    peer.channel.dataReceived(data)
    assert peer.error() == expected
    assert peer.transport.disconnecting


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"POST", b"OPTIONS", b"DELETE"])
@pytest.mark.parametrize(
    ("version", "hosts", "valid"),
    [
        (b"1.1", (), False),
        (b"1.1", (b"a", b"a"), False),
        (b"1.1", (b"a", b"b"), False),
        (b"1.1", (b"\xff",), False),
        (b"1.1", (b"",), True),
        (b"1.1", (b"h:8080",), True),
        (b"1.0", (), True),
        (b"1.0", (b"h",), True),
        (b"1.0", (b"a", b"b"), False),
    ],
)
def test_a_request_has_one_host_header(peer: Peer, method: bytes, version: bytes, hosts: tuple[bytes, ...], valid: bool) -> None:
    """RFC 9112, section 3.2; HTTP/1.0 has none."""
    headers = b"".join(b"Host: %s\r\n" % host for host in hosts)
    answer = peer.send(b"%s /server/ping HTTP/%s\r\n%s\r\n" % (method, version, headers))
    assert answer.split()[1] != b"400" if valid else answer.split()[1] == b"400"
    if not valid and method != b"HEAD":
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == 15


def test_the_local_address_is_asked_for_once(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    found = IPv4Address("TCP", "127.0.0.1", 8080)
    asked = []
    monkeypatch.setattr(peer.transport, "getHost", lambda: asked.append(1) or found)
    for _ in range(3):
        assert peer.send(PING).startswith(b"HTTP/1.1 200 ")
    assert len(asked) == 1
    assert peer.channel.getHost() is found


class Socket:
    """A socket that takes as many bytes at a time as *sizes* say, one after the other: for 0 none, for a negative number it is broken.
    After that it takes everything."""

    def __init__(self, sizes: list[int]) -> None:
        self.sizes = sizes
        self.taken = b""

    def send(self, data: memoryview) -> int:
        size = self.sizes.pop(0) if self.sizes else len(data)
        if size == 0:
            raise BlockingIOError(EWOULDBLOCK, "would block")
        if size < 0:
            raise ConnectionResetError(ECONNRESET, "reset")
        self.taken += data[:size]
        return min(size, len(data))

    def fileno(self) -> int:
        return 1000

    def getsockname(self) -> tuple[str, int]:
        return "127.0.0.1", 8080

    def setsockopt(self, *args: int) -> None: ...

    def close(self) -> None: ...

    shutdown = setblocking = setsockopt


class SocketTransport(tcp.Connection):
    def getPeer(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", 1)

    getHost = getPeer


class SocketPeer(Peer):
    """A client whose connection has a socket. `writes` is whether the reactor has been asked to write to it."""

    def __init__(self, sizes: list[int], *, tls: bool = False) -> None:
        super().__init__()
        self.socket = Socket(sizes)
        self.reactor = MemoryReactorClock()
        self.channel = self.site.buildProtocol(IPv4Address("TCP", "127.0.0.1", 1))
        self.connection: Any = SocketTransport(self.socket, self.channel, self.reactor)
        self.connection.TLS = tls
        self.connection.connected = 1
        self.channel.makeConnection(self.connection)

    @property
    def writes(self) -> bool:
        return self.connection in self.reactor.writers

    def write_all(self) -> None:
        """Writes as the reactor does while it is asked to."""
        for _ in range(100):
            if not self.writes:
                return
            failure = self.connection.doWrite()
            assert failure is None, failure
        raise AssertionError("the connection does not stop writing")


REQUESTS = [
    b"GET /server/ping HTTP/1.1\r\nHost: h\r\n\r\n",
    b"HEAD /server/ping HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET /no/such/route HTTP/1.1\r\nHost: h\r\n\r\n",
    b"HEAD /no/such/route HTTP/1.1\r\nHost: h\r\n\r\n",
    b"OPTIONS /server/ping HTTP/1.1\r\nHost: h\r\nOrigin: http://a\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET * HTTP/1.1\r\nHost: h\r\n\r\n",
    b"POST /server/ping HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}",
]


def parsed(data: bytes) -> tuple[bytes, set[bytes], bytes]:
    """The status line, the headers without those that differ from answer to answer, and the body."""
    head, _, body = data.partition(b"\r\n\r\n")
    status, *headers = head.split(b"\r\n")
    names = [each.partition(b":")[0].lower() for each in headers]
    assert len(names) == len(set(names)), "a header is there twice"
    assert {b"server", b"date", b"x-content-type-options"} <= set(names)
    return status, {each for each in headers if not each.startswith((b"X-Request-Id", b"Date"))}, body


@pytest.mark.parametrize("request_", REQUESTS)
def test_an_answer_is_sent_at_once(request_: bytes) -> None:
    expected = parsed(Peer().send(request_))
    peer = SocketPeer([])
    peer.channel.dataReceived(request_)
    assert parsed(peer.socket.taken) == expected
    assert not peer.writes


@cache
def answered(request: bytes) -> Any:
    """What is answered to a request, `parsed`."""
    return parsed(Peer().send(request))


@settings(max_examples=50)
@given(st.lists(st.integers(0, 400), max_size=8), st.lists(st.sampled_from(REQUESTS), min_size=1, max_size=4), st.booleans())
@example([0], REQUESTS[:2], False)
@example([1, 0], REQUESTS[:2], False)
def test_what_the_socket_does_not_take_at_once_follows_in_order(sizes: list[int], requests: list[bytes], together: bool) -> None:
    peer = SocketPeer(sizes)
    for data in [b"".join(requests)] if together else requests:
        peer.channel.dataReceived(data)
    peer.write_all()
    rest = peer.socket.taken
    for each in requests:
        expected = answered(each)
        head, _, rest = rest.partition(b"\r\n\r\n")
        size = len(expected[2])
        assert parsed(head + b"\r\n\r\n" + rest[:size]) == expected
        rest = rest[size:]
    assert not rest


def test_an_answer_to_a_lost_connection_is_left_to_the_reactor() -> None:
    peer = SocketPeer([-1, -1])
    peer.channel.dataReceived(PING)
    assert peer.writes
    assert isinstance(peer.connection.doWrite(), ConnectionLost)


def test_a_connection_is_closed_after_an_answer_that_was_sent_at_once() -> None:
    peer = SocketPeer([])
    peer.channel.dataReceived(PING.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    assert b"Connection: close" in peer.socket.taken
    assert isinstance(peer.connection.doWrite(), ConnectionDone)


def test_an_answer_is_encrypted_before_it_is_sent() -> None:
    peer = SocketPeer([], tls=True)
    written: list[bytes] = []
    peer.connection.protocol = SimpleNamespace(write=written.append, writeSequence=written.extend)
    peer.channel.dataReceived(PING)
    assert peer.socket.taken == b""
    assert b"".join(written).startswith(b"HTTP/1.1 200 ")
