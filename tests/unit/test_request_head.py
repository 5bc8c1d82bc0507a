"""The heads of requests that are parsed at once are parsed as Twisted parses them line by line."""

import itertools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from attrs import evolve
from hypothesis import example, given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.http_headers import _nameEncoder

from directus_tx.config import Settings
from directus_tx.http.app import App
from directus_tx.http.channel import ApiChannel
from directus_tx.http.request_head import MAX_DIGITS, MAX_NAME, parse_head
from directus_tx.http.routes import Services

SITE = App(
    Clock(),
    Services(None, None, None, evolve(Settings()), sign_on=None, intake=None, thumbnails=None),  # type: ignore[arg-type]
).site


class LineByLine(ApiChannel):
    """A connection that leaves all heads to Twisted."""

    def _receive_head(self, data: bytes) -> bool:
        return False


class Recorder:
    """Answers every request, and records what it was."""

    isLeaf = True

    def __init__(self, app: Any) -> None:
        self.app = app
        self.requests: list[Any] = []

    def render(self, request: Any) -> bytes:
        headers = [(name, list(values)) for name, values in request.requestHeaders.getAllRawHeaders()]
        cookies = dict(request.received_cookies)
        self.requests.append(
            (request.method, request.uri, request.path, request.clientproto, headers, cookies, request.content.read())
        )
        request.setHeader(b"Content-Length", b"2")
        return b"ok"


@contextmanager
def recorder() -> Iterator[Recorder]:
    resource = SITE.resource
    SITE.resource = found = Recorder(resource.app)
    try:
        yield found
    finally:
        SITE.resource = resource


def received(kind: type[ApiChannel], pieces: list[bytes]) -> tuple[Any, ...]:
    """Returns the requests that a connection finds in what it is sent, its answers, and whether it is open afterwards."""
    with recorder() as found:
        channel = kind()
        channel.site = channel.factory = SITE
        channel.requestFactory = SITE.requestFactory
        transport = StringTransport(peerAddress=IPv4Address("TCP", "127.0.0.1", 1))
        channel.makeConnection(transport)
        for piece in pieces:
            if transport.connected and not transport.disconnecting:
                channel.dataReceived(piece)
        answers = re.sub(rb"Date: [^\r]*|[0-9a-f]{16}", b"", transport.value())
        state = channel.phase, channel.persistent, channel.line_mode, channel._buffer, len(channel.requests)
        channel.connectionLost(Failure(ConnectionDone()))
        return found.requests, answers, transport.disconnecting, state


def pieces_of(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted({cut % (len(data) + 1) for cut in cuts}), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(places) if end > start]


METHODS = st.sampled_from([b"GET", b"POST", b"get", b"PATCH", b"G(T", b"", b"M-SEARCH", b"G\x00T"])
TARGETS = st.sampled_from(
    [b"/", b"/a/b?c=d", b"*", b"", b"/a b", b"/\xb0", b"/\xb1", b"/\x7f", b"/\xc3\xa9", b"http://h/x", b"/" + b"x" * 9000]
)
VERSIONS = st.sampled_from([b"HTTP/1.1"] * 4 + [b"HTTP/1.0", b"HTTP/2.0", b"http/1.1", b"", b"HTTP/1.1 "])
NAMES = st.sampled_from(
    [
        b"Host",
        b"host",
        b"Cookie",
        b"X-Y",
        b"etag",
        b"te",
        b"Connection",
        b"Expect",
        b"A B",
        b"",
        b" X",
        b"X ",
        b"\tX",
        b"X\0",
        b"\xe9",
        b"x" * 300,
    ]
)
VALUES = st.sampled_from(
    [
        b"h",
        b" h ",
        b"\th\t",
        b"",
        b"a: b",
        b"a\rb",
        b"a\nb",
        b"a\0b",
        b"close",
        b"keep-alive",
        b"100-continue",
        b"a=b; c",
        b"\xe9\xff",
        b"\x0b1",
        b"v" * 9000,
    ]
)
LINES = st.one_of(
    st.tuples(NAMES, st.sampled_from([b":", b": ", b"", b" :"]), VALUES).map(b"".join),
    st.tuples(
        st.sampled_from([b"Content-Length", b"content-length"]),
        st.sampled_from(
            [b": 0", b": 3", b":3", b": 3 ", b": +3", b": -1", b": 3, 3", b": ", b": x", b": 0x3", b": 03", b": \xb2"]
        ),
    ).map(b"".join),
    st.sampled_from(
        [b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", b"transfer-encoding: gzip", b" continued", b"\tcontinued"]
    ),
)
ENDS = st.sampled_from([b"\r\n"] * 8 + [b"\n", b"\r", b"\r\r\n", b"\n\r\n"])
BODIES = st.sampled_from([b"", b"abc", b"3\r\nabc\r\n0\r\n\r\n", b"\r\n", b"abcGET / HTTP/1.1\r\nHost: h\r\n\r\n"])


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    lines = [draw(METHODS) + b" " + draw(TARGETS) + b" " + draw(VERSIONS), *draw(st.lists(LINES, max_size=6))]
    return b"".join(line + draw(ENDS) for line in lines) + draw(ENDS) + draw(BODIES)


@st.composite
def plain_requests(draw: st.DrawFn) -> bytes:
    names = st.sampled_from([b"Host", b"host", b"Cookie", b"X-Y", b"etag", b"Expect"])
    values = st.sampled_from([b"h", b" h ", b"\th\t", b"", b"a: b", b"100-continue", b"a=b; c", b"\xe9\xff", b"\x0b1"])
    head = draw(st.sampled_from([b"GET", b"POST", b"PATCH"])) + b" " + draw(st.sampled_from([b"/", b"/a?b", b"/%00", b"/\xb0"]))
    lines = [head + b" HTTP/1.1", *(b":".join(pair) for pair in draw(st.lists(st.tuples(names, values), max_size=5)))]
    body = draw(st.sampled_from([b"", b"abc"]))
    if body or draw(st.booleans()):
        lines.insert(draw(st.integers(1, len(lines))), b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


@st.composite
def nearly_plain_requests(draw: st.DrawFn) -> bytes:
    """A plain request with a byte too many, or another one in the place of one of its own."""
    data = draw(plain_requests())
    place = draw(st.integers(0, len(data) - 1))
    byte = draw(
        st.sampled_from([b"\0", b"\r", b"\n", b" ", b"\t", b":", b"\x0b", b"\x7f", b"\xb0", b"\xb1", b"\xff", b"a", b"3"])
    )
    return data[:place] + byte + data[place + draw(st.integers(0, 1)) :]


@example([b"GET / HTTP/1.1\r\nHost: h\r\n" + b"x: y\r\n" * 498 + b"\r\n"], [])
@example([b"GET / HTTP/1.1\r\nHost: h\r\n" + b"x: y\r\n" * 499 + b"\r\n"], [])
@example([b"GET / HTTP/1.1\r\nHost: h\r\n" + b"x: y\r\n" * 500 + b"\r\n"], [])
@example([b"GET / HTTP/1.1\r\nx: " + b"y" * 16350 + b"\r\n\r\n"], [])
@example([b"GET / HTTP/1.1\r\nx: " + b"y" * 16370 + b"\r\n\r\n"], [])
@example([b"GET /\xb1 HTTP/1.1\r\n\r\n"], [])
@example([b"GET / HTTP/1.1\r\nHost\r\n\r\n"], [])
@example([b"GET / HTTP/1.1\r\nx: a\0b\r\n\r\n"], [])
@example([b"GET / HTTP/1.1\r\nx: a\rb\r\n\r\n"], [])
@example([b"\r\nGET / HTTP/1.1\r\n\r\n", b"\r\n\r\nGET / HTTP/1.1\r\n\r\n"], [])
@example(
    [b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.0\r\n\r\nGET / HTTP/1.1\r\n\r\n"],
    [],
)
@given(
    st.lists(st.one_of(requests(), plain_requests(), nearly_plain_requests()), min_size=1, max_size=4),
    st.lists(st.integers(0, 20000), max_size=4),
)
def test_requests_are_received_as_twisted_receives_them(sent: list[bytes], cuts: list[int]) -> None:
    data = b"".join(sent)
    for pieces in (sent, pieces_of(data, cuts), [data]):
        assert received(ApiChannel, pieces) == received(LineByLine, pieces)


@given(plain_requests())
def test_plain_heads_are_parsed_at_once(data: bytes) -> None:
    head, _, body = data.partition(b"\r\n\r\n")
    found = parse_head(head)
    assert found is not None
    assert (found.method, found.target, found.version) == tuple(head.split(b"\r\n")[0].split(b" "))
    assert found.length in ({b"%d" % len(body)} | ({None} if not body else set()))


@pytest.mark.parametrize(
    "head",
    [
        b"GET /",
        b"GET / HTTP/1.1\r\nHost: a\r\n b",
        b"POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 3",
        b"POST / HTTP/1.1\r\nContent-Length: +3",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3",
        b"GET / HTTP/1.1\r\nA: b\nC: d",
        b"GET / HTTP/1.1\r\nHost : h",
        b"GET / HTTP/1.1\nHost: h",
    ],
)
def test_other_heads_are_left_to_twisted(head: bytes) -> None:
    assert parse_head(head) is None


@pytest.mark.parametrize("cut", [None, 20])
@pytest.mark.parametrize("digits", [MAX_DIGITS + 1, 4000, 5000, 15000])
@pytest.mark.parametrize("more", [b"", b"x: y\r\n"])
def test_the_digits_of_the_length_of_a_body_are_limited(digits: int, cut: int | None, more: bytes) -> None:
    data = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: " + b"1" * digits + b"\r\n" + more + b"\r\nabc"
    for kind in (ApiChannel, LineByLine):
        requests, answer, closing, _ = received(kind, [data[:cut], data[cut:]] if cut else [data])
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert (answer.count(b"HTTP/1.1 "), closing, requests) == (1, True, [])
    assert [each[0] for each in received(ApiChannel, [data.replace(b"1" * digits, b"3".zfill(MAX_DIGITS))])[0]] == [b"POST"]


@pytest.mark.parametrize("cut", [None, 20])
@pytest.mark.parametrize("more", [b"", b"x: y\r\n", b" folded\r\n"])
def test_long_names_of_headers_are_refused_and_not_kept(cut: int | None, more: bytes) -> None:
    kept = dict(_nameEncoder._canonicalHeaderCache)
    for length in (MAX_NAME + 1, 5000, 15000):
        data = b"GET / HTTP/1.1\r\nHost: h\r\n" + b"q" * length + b": v\r\n" + more + b"\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n"
        for kind in (ApiChannel, LineByLine):
            requests, answer, closing, _ = received(kind, [data[:cut], data[cut:]] if cut else [data])
            assert b'"The name of a header has more than 256 bytes."' in answer
            assert (answer.count(b"HTTP/1.1 "), closing, requests) == (1, True, [])
    assert {name for name in _nameEncoder._canonicalHeaderCache if name not in kept and len(name) > MAX_NAME} == set()
    data = b"GET / HTTP/1.1\r\nHost: h\r\n" + b"q" * MAX_NAME + b": v\r\n\r\n"
    assert len(received(ApiChannel, [data])[0]) == 1


@pytest.mark.parametrize("cut", [None, 20])
@pytest.mark.parametrize(
    "coding", [b"identity", b"Identity", b"", b"gzip", b"identity, chunked", b"chunked, identity", b"\x0bchunked"]
)
@pytest.mark.parametrize("length", [b"", b"Content-Length: 3\r\n"])
def test_other_transfer_codings_than_chunked_are_refused(coding: bytes, length: bytes, cut: int | None) -> None:
    body = b"abcGET / HTTP/1.1\r\nHost: h\r\n\r\n"
    for fields in (length + b"Transfer-Encoding: " + coding + b"\r\n", b"Transfer-Encoding: " + coding + b"\r\n" + length):
        data = b"POST / HTTP/1.1\r\nHost: h\r\n" + fields + b"\r\n" + body
        requests, answer, closing, _ = received(ApiChannel, [data[:cut], data[cut:]] if cut else [data])
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert (answer.count(b"HTTP/1.1 "), closing, requests) == (1, True, [])
