"""Outgoing requests: the address policy, time limits, and bounded answers, with real servers on loopback."""

import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import trustme
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL
from twisted.internet import defer, reactor, threads
from twisted.internet.address import IPv4Address
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import CertificateOptions
from twisted.web.http_headers import _nameEncoder

from directus_tx.config import OutgoingSettings
from directus_tx.outgoing.client import MAX_NAME, Client
from directus_tx.outgoing.failures import Refused, Unreachable
from directus_tx.outgoing.policy import AddressPolicy, parse_networks
from directus_tx.outgoing.urls import check_url, origin_of

LOOPBACK = OutgoingSettings(
    allowed_networks=("127.0.0.0/8", "::1"), connect_timeout=1.0, read_timeout=0.4, total_timeout=1.5, max_answer=1000
)
OK = b"HTTP/1.1 200 OK\r\nX-Kind: short\r\nContent-Length: 2\r\n\r\nok"


class Peer(Protocol):
    """Passes what arrives to the function of its factory."""

    def __init__(self, act: Callable[[Any, bytes], None], received: list[bytes]) -> None:
        self.act, self.received = act, received

    def dataReceived(self, data: bytes) -> None:
        self.received.append(data)
        self.act(self.transport, data)


@asynccontextmanager
async def serving(act: Callable[[Any, bytes], None], context: Any = None) -> AsyncIterator[Any]:
    """A server that calls *act* with its transport and what it has received. Yields its port, which has the list `received`."""
    received: list[bytes] = []
    factory = Factory.forProtocol(lambda: Peer(act, received))
    if context is None:
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    else:
        port = reactor.listenSSL(0, factory, context, interface="127.0.0.1")
    port.received = received
    try:
        yield port
    finally:
        await defer.maybeDeferred(port.stopListening)


@asynccontextmanager
async def client(settings: OutgoingSettings = LOOPBACK) -> AsyncIterator[Client]:
    found = Client(reactor, settings)
    try:
        yield found
    finally:
        await found.close()


def url(port: Any, host: str = "127.0.0.1", scheme: str = "http", path: str = "/") -> str:
    return f"{scheme}://{host}:{port.getHost().port}{path}"


def answering(data: bytes, *, close: bool = False) -> Callable[[Any, bytes], None]:
    def act(transport: Any, _: bytes) -> None:
        transport.write(data)
        if close:
            transport.loseConnection()

    return act


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("127.0.0.1", False),
        ("127.255.255.254", False),
        ("0.0.0.0", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("192.0.0.8", False),
        ("192.0.2.1", False),
        ("192.88.99.1", False),
        ("198.18.0.1", False),
        ("224.0.0.1", False),
        ("239.255.255.250", False),
        ("240.0.0.1", False),
        ("255.255.255.255", False),
        ("::", False),
        ("::1", False),
        ("::7f00:1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:8.8.8.8", True),
        ("64:ff9b::8.8.8.8", True),
        ("64:ff9b::10.0.0.1", False),
        ("64:ff9b:1::1", False),
        ("2002:7f00:1::", False),
        ("2002:a00:1::", False),
        ("2001:0:7f00:1::", False),
        ("fc00::1", False),
        ("fd00:ec2::254", False),
        ("fe80::1", False),
        ("fe80::1%eth0", False),
        ("fec0::1", False),
        ("ff02::1", False),
        ("2001:db8::1", False),
        ("3fff::1", False),
        ("no address", False),
        ("", False),
    ],
)
def test_only_addresses_of_the_public_internet_are_allowed(address: str, allowed: bool) -> None:
    assert AddressPolicy().allows(address) is allowed


@given(st.ip_addresses())
def test_everything_can_be_allowed(address: Any) -> None:
    assert AddressPolicy(parse_networks(["0.0.0.0/0", "::/0"])).allows(str(address))


@given(st.ip_addresses(v=4), st.ip_addresses(v=4))
def test_a_network_allows_its_addresses_and_no_others(address: Any, other: Any) -> None:
    policy = AddressPolicy(parse_networks([f"{address}/32"]))
    for form in ("{}", "::ffff:{}"):
        assert policy.allows(form.format(address))
        assert policy.allows(form.format(other)) == (other == address or AddressPolicy().allows(str(other)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "begin with http"),
        ("example.com", "begin with http"),
        ("ftp://example.com/", "begin with http"),
        ("file:///etc/passwd", "begin with http"),
        ("javascript:alert(1)", "begin with http"),
        ("http://", "no host"),
        ("http:///path", "no host"),
        ("http://user:secret@example.com/", "user name"),
        ("http://user@example.com/", "user name"),
        ("http://example.com:0/", "port"),
        ("http://example.com:70000/", "port"),
        ("http://example.com:x/", "cannot be used"),
        ("http://[::1/", "cannot be used"),
        ("http://exa mple.com/", "characters|cannot be used"),
    ],
)
def test_urls_that_cannot_be_used_are_refused(text: str, message: str) -> None:
    with pytest.raises(Refused, match=message) as refused:
        check_url(text)
    assert "secret" not in str(refused.value)


@given(st.text(max_size=40))
def test_a_checked_url_has_no_characters_that_end_a_line(path: str) -> None:
    try:
        found = check_url(f"http://example.com/{path}")
    except Refused:
        return
    assert found.isascii()
    assert found.isprintable()
    assert " " not in found


def test_the_origin_names_scheme_host_and_port() -> None:
    assert origin_of("https://Example.COM/a?b#c") == "https://example.com:443"
    assert origin_of("http://[::1]/") == "http://[::1]:80"
    assert origin_of("http://münchen.example:81") == "http://xn--mnchen-3ya.example:81"


@pytest_twisted.ensureDeferred
async def test_an_answer_has_status_headers_and_body_and_connections_are_used_again() -> None:
    async with serving(answering(OK)) as port, client() as http:
        for _ in range(3):
            answer = await http.request("POST", url(port), headers={"X-A": "b"}, body=b"body")
            assert (answer.status, answer.text, answer.truncated) == (200, "ok", False)
            assert answer.headers["x-kind"] == "short"
        data = b"".join(port.received)
        assert data.count(b"POST / HTTP/1.1\r\n") == 3
        assert b"X-A: b\r\n" in data
        assert b"gzip" not in data


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f.0.0.1", "0177.0.0.1", "[::ffff:127.0.0.1]", "[::1]", "0.0.0.0"],
)
@pytest_twisted.ensureDeferred
async def test_loopback_is_refused_in_every_notation(host: str) -> None:
    async with serving(answering(OK)) as port, client(evolve(LOOPBACK, allowed_networks=())) as http:
        with pytest.raises(Refused, match="allowed_networks"):
            await http.request("GET", url(port, host))
        assert not port.received


class Names:
    """Resolves every name to these addresses, one after the other, as a name server does that changes its mind."""

    def __init__(self, *addresses: list[str]) -> None:
        self.addresses = list(addresses)
        self.asked = 0

    def resolveHostName(self, receiver: Any, hostName: str, portNumber: int = 0, *_: Any, **__: Any) -> Any:
        found = self.addresses[min(self.asked, len(self.addresses) - 1)]
        self.asked += 1
        receiver.resolutionBegan(self)
        for address in found:
            receiver.addressResolved(IPv4Address("TCP", address, portNumber))
        receiver.resolutionComplete()
        return receiver


@pytest_twisted.ensureDeferred
async def test_the_address_that_is_connected_to_is_the_one_that_was_judged(monkeypatch: Any) -> None:
    names = Names(["93.184.216.34"], ["127.0.0.1"])
    monkeypatch.setattr(type(reactor), "nameResolver", names)
    async with serving(answering(OK)) as port, client(evolve(LOOPBACK, allowed_networks=(), connect_timeout=0.3)) as http:
        with pytest.raises(Unreachable):
            await http.request("GET", url(port, "rebinding.example"))
        assert names.asked == 1
        with pytest.raises(Refused, match=r"rebinding.example \(127.0.0.1\)"):
            await http.request("GET", url(port, "rebinding.example"))
        assert not port.received


@pytest_twisted.ensureDeferred
async def test_of_several_addresses_only_the_allowed_ones_are_used(monkeypatch: Any) -> None:
    monkeypatch.setattr(type(reactor), "nameResolver", Names(["10.255.255.1", "127.0.0.1", "169.254.169.254"]))
    async with serving(answering(OK)) as port, client() as http:
        answer = await http.request("GET", url(port, "several.example"))
        assert answer.status == 200
        assert b"Host: several.example:" in port.received[0]


@pytest_twisted.ensureDeferred
async def test_the_number_of_names_that_are_resolved_at_the_same_time_is_limited(monkeypatch: Any) -> None:
    """A name server that answers late, or never, does not occupy a thread for each request."""
    asked: list[tuple[str, Any]] = []

    class Late:
        def resolveHostName(self, receiver: Any, hostName: str, portNumber: int = 0, *_: Any, **__: Any) -> Any:
            receiver.resolutionBegan(self)
            asked.append((hostName, receiver))
            if hostName.startswith("127."):
                self.answer(receiver, portNumber)
            return self

        def answer(self, receiver: Any, port: int) -> None:
            receiver.addressResolved(IPv4Address("TCP", "127.0.0.1", port))
            receiver.resolutionComplete()

        def cancel(self) -> None: ...

    late = Late()
    monkeypatch.setattr(type(reactor), "nameResolver", late)
    monkeypatch.setattr("directus_tx.outgoing.connecting.MAX_LOOKUPS", 2)
    async with serving(answering(OK)) as port, client() as http:
        for name in ("a.example", "b.example", "a.example"):
            with pytest.raises(Unreachable, match="within"):
                await http.request("GET", url(port, name), total_timeout=0.1)
        with pytest.raises(Unreachable, match="Too many names"):
            await http.request("GET", url(port, "c.example"))
        assert (await http.request("GET", url(port))).status == 200
        assert [name for name, _ in asked] == ["a.example", "b.example", "a.example", "127.0.0.1"]
        late.answer(asked[1][1], port.getHost().port)
        waiting = defer.Deferred.fromCoroutine(http.request("GET", url(port, "c.example")))
        late.answer(asked[-1][1], port.getHost().port)
        assert (await waiting).status == 200


@pytest_twisted.ensureDeferred
async def test_redirects_are_not_followed() -> None:
    redirect = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
    async with serving(answering(redirect)) as port, client() as http:
        answer = await http.request("GET", url(port))
        assert (answer.status, len(port.received)) == (302, 1)


@pytest.mark.parametrize(
    ("data", "length", "truncated"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 1000, 1000, False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n" + b"x" * 1001, 1000, True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"400\r\n" + b"x" * 1024 + b"\r\n", 1000, True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 0, False),
    ],
)
@pytest_twisted.ensureDeferred
async def test_the_body_of_an_answer_is_bounded(data: bytes, length: int, truncated: bool) -> None:
    async with serving(answering(data)) as port, client() as http:
        answer = await http.request("GET", url(port))
        assert (len(answer.body), answer.truncated) == (length, truncated)


@pytest_twisted.ensureDeferred
async def test_an_answer_without_end_is_cut_off() -> None:
    closed: list[bool] = []

    def flood(transport: Any, _: bytes) -> None:
        transport.write(b"HTTP/1.1 200 OK\r\n\r\n")

        def more() -> None:
            if transport.connected:
                transport.write(b"x" * 65536)
                reactor.callLater(0, more)
            else:
                closed.append(True)

        more()

    async with serving(flood) as port, client() as http:
        answer = await http.request("GET", url(port))
        assert (len(answer.body), answer.truncated) == (1000, True)
        for _ in range(100):
            if closed:
                break
            await defer.Deferred.fromCoroutine(_moment())
        assert closed


async def _moment() -> None:
    waiting: defer.Deferred[None] = defer.Deferred()
    reactor.callLater(0.02, waiting.callback, None)
    await waiting


@pytest.mark.parametrize(
    ("method", "data", "status", "body"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n", 200, b""),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        ("POST", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", 304, b""),
        ("POST", b"HTTP/1.1 100 Continue\r\n\r\n" + OK, 200, b"ok"),
        ("GET", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK, 200, b"ok"),
        ("GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n", 200, b"abc"),
        ("GET", b"HTTP/1.0 200 OK\r\n\r\nuntil the end", 200, b"until the end"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_the_forms_of_answers(method: str, data: bytes, status: int, body: bytes) -> None:
    async with serving(answering(data, close=data.startswith(b"HTTP/1.0"))) as port, client() as http:
        answer = await http.request(method, url(port), body=b"x" if method == "POST" else None)
        assert (answer.status, answer.body, answer.truncated) == (status, body, False)


@pytest_twisted.ensureDeferred
async def test_a_compressed_answer_stays_compressed() -> None:
    data = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x08\x00"
    async with serving(answering(data)) as port, client() as http:
        assert (await http.request("GET", url(port))).body == b"\x1f\x8b\x08\x00"


def drip(transport: Any, _: bytes) -> None:
    transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n")

    def more() -> None:
        if transport.connected:
            transport.write(b"x")
            reactor.callLater(0.05, more)

    more()


def headers_without_end(transport: Any, _: bytes) -> None:
    transport.write(b"HTTP/1.1 200 OK\r\n")

    def more() -> None:
        if transport.connected:
            transport.write(b"X-More: " + b"y" * 8000 + b"\r\n")
            reactor.callLater(0, more)

    more()


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda transport, _: None, "no answer within 1.5 seconds"),
        (answering(b"HTTP/1.1 200 OK\r\n"), "no answer within 1.5 seconds"),
        (answering(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx"), "interrupted for 0.4 seconds"),
        (drip, "no answer within 1.5 seconds"),
        (headers_without_end, "closed"),
        (lambda transport, _: transport.abortConnection(), "closed without an answer"),
        (lambda transport, _: transport.loseConnection(), "closed without an answer"),
        (answering(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx", close=True), "closed before the end"),
        (answering(b"no HTTP at all\r\n\r\n", close=True), "no valid answer|closed"),
        (answering(b"HTTP/1.1 abc OK\r\n\r\n", close=True), "no valid answer|closed"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_receiver_that_does_not_answer_properly_is_unreachable(act: Any, message: str) -> None:
    async with serving(act) as port, client() as http:
        with pytest.raises(Unreachable, match=message):
            await http.request("GET", url(port))


@pytest_twisted.ensureDeferred
async def test_what_cannot_be_connected_to_is_unreachable() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        async with client() as http:
            with pytest.raises(Unreachable, match="refused"):
                await http.request("GET", f"http://127.0.0.1:{unused.getsockname()[1]}/")
            with pytest.raises(Unreachable, match="cannot be resolved"):
                await http.request("GET", "http://no-such-host.invalid/")


@pytest_twisted.ensureDeferred
async def test_a_repeatable_request_is_sent_again_if_the_kept_connection_was_closed() -> None:
    """As when a receiver closes idle connections at the moment at which one is used."""

    def act(transport: Any, data: bytes) -> None:
        transport.requests = getattr(transport, "requests", 0) + 1
        if transport.requests == 2:
            transport.abortConnection()
        else:
            transport.write(OK)

    async with serving(act) as port, client() as http:
        for _ in range(4):
            assert (await http.request("POST", url(port), body=b"x", repeatable=True)).status == 200
        with pytest.raises(Unreachable, match="closed without an answer"):
            await http.request("POST", url(port), body=b"x")


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.mark.parametrize(
    ("names", "trusted", "host", "message"),
    [
        (["localhost", "127.0.0.1"], True, "localhost", None),
        (["localhost", "127.0.0.1"], True, "127.0.0.1", None),
        (["localhost", "127.0.0.1"], False, "localhost", "certificate verify failed"),
        (["other.example"], True, "localhost", "TLS failed"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_certificates_are_verified(
    authority: trustme.CA, tmp_path: Path, names: list[str], trusted: bool, host: str, message: str | None
) -> None:
    issued = authority.issue_cert(*names)
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    key, chain = tmp_path / "key.pem", tmp_path / "chain.pem"
    issued.private_key_pem.write_to_path(str(key))
    chain.write_bytes(b"".join(each.bytes() for each in issued.cert_chain_pems))
    context.use_privatekey_file(str(key))
    context.use_certificate_chain_file(str(chain))
    options = CertificateOptions()
    options.getContext = lambda: context
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    settings = evolve(LOOPBACK, ca_file=str(ca) if trusted else "")
    async with serving(answering(OK), options) as port, client(settings) as http:
        asked = http.request("GET", url(port, host, "https"))
        if message is None:
            assert (await asked).text == "ok"
        else:
            with pytest.raises(Unreachable, match=message):
                await asked
            assert not port.received


@pytest_twisted.ensureDeferred
async def test_a_receiver_cannot_keep_a_connection_that_is_closed(authority: trustme.CA, tmp_path: Path) -> None:
    """It sends the head of an answer, and then neither its body nor the end of TLS."""
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)

    def serve(listening: socket.socket) -> bool:
        """Returns whether the connection ended within 20 seconds, as TCP sees it."""
        plain, _ = listening.accept()
        plain.settimeout(20)
        with context.wrap_socket(plain, server_side=True) as connection:
            connection.recv(1000)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
            raw = socket.socket(fileno=os.dup(connection.fileno()))
            raw.settimeout(20)
            with raw:
                try:
                    while raw.recv(1000):
                        pass
                except TimeoutError:
                    return False
                except OSError:
                    pass
                return True

    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(20)
        served = threads.deferToThread(serve, listening)
        async with client(evolve(LOOPBACK, ca_file=str(ca))) as http:
            with pytest.raises(Unreachable, match="interrupted"):
                await http.request("GET", f"https://127.0.0.1:{listening.getsockname()[1]}/")
            assert await served


@pytest_twisted.ensureDeferred
async def test_a_receiver_that_speaks_no_tls_is_unreachable_by_https() -> None:
    async with serving(answering(OK)) as port, client() as http:
        with pytest.raises(Unreachable, match=r"TLS failed|closed"):
            await http.request("GET", url(port, scheme="https"))


@pytest_twisted.ensureDeferred
async def test_long_names_of_headers_are_not_kept_in_memory() -> None:
    def act(transport: Any, data: bytes) -> None:
        transport.write(OK.replace(b"X-Kind", b"X-Kind-" + b"q" * 5000 + b": 1\r\nX-Kind"))

    async with serving(act) as port, client() as outgoing:
        answer = await outgoing.request("GET", f"http://127.0.0.1:{port.getHost().port}/")
    assert answer.headers["x-kind"] == "short"
    assert answer.headers["x-kind-" + "q" * 5000] == "1"
    kept = _nameEncoder._canonicalHeaderCache
    assert max(map(len, kept)) <= MAX_NAME
    assert b"X-Kind" in kept.values()
