"""One connection, and the limits on the time in which its client sends a request and receives the answer."""

import fcntl
import re
import termios
import time
from array import array
from collections.abc import Iterable
from enum import Enum, auto
from functools import lru_cache
from typing import Any

from attrs import frozen
from twisted.internet import tcp
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure
from twisted.web import http
from twisted.web.http_headers import Headers

from directus_tx.config import ServerSettings
from directus_tx.errors import ApiError, BadRequest, RequestTimeout, RequestTooLong
from directus_tx.http import encode
from directus_tx.http.headers import DENIED, FRAMED
from directus_tx.http.request_head import MAX_DIGITS, MAX_NAME, parse_head

log = Logger()


@frozen
class TimeLimits:
    """How long a client may take, in seconds; `rate` is in bytes per second."""

    request: float
    body: float
    rate: float
    idle: float
    stall: float

    @classmethod
    def of(cls, settings: ServerSettings) -> "TimeLimits":
        """Returns the limits of the settings. A setting of 0 means no limit."""
        seconds = (settings.request_timeout, settings.body_timeout, settings.keep_alive_timeout, settings.stall_timeout)
        request, body, idle, stall = (each or float("inf") for each in seconds)
        return cls(request, body, settings.min_body_rate, idle, stall)

    @property
    def interval(self) -> float:
        """Seconds between two checks of a connection: a quarter of the shortest limit, but at least 0.02 and at most 5."""
        return min(max(min(self.request, self.body, self.idle, self.stall) / 4, 0.02), 5.0)


class Phase(Enum):
    """The state of a connection: waiting for a request, receiving one, or answering it."""

    IDLE = auto()
    HEADERS = auto()
    BODY = auto()
    ANSWER = auto()


@lru_cache(maxsize=2)
def _common_headers(seconds: int, more: bytes) -> bytes:
    """Returns the headers of answers that are made in this second since 1970: Server, Date, and *more*."""
    return b"Server: directus_tx\r\nDate: %b\r\n%b" % (http.datetimeToString(seconds), more)


_OPTION = re.compile(rb"[^\s,]+")
"""An option of a header Connection."""


class ApiChannel(http.HTTPChannel):
    """A connection. The site calls `check` at intervals; a timer for each connection would have to be reset with each request.

    Requests are received one at a time: while one is answered, Twisted buffers the beginning of the next.
    """

    site: Any
    transport: Any
    phase = Phase.IDLE
    closing = False
    since = 0.0
    """When the phase began."""
    moved = 0.0
    """When bytes were last received in this phase."""
    paused_at: float | None = None
    """When receiving the body was paused. None: it is not."""
    sent = 0.0
    """When the client last received bytes, while there are more to send."""
    unsent = -1
    idle_since = 0.0
    """When the connection was made, or the last answer ended."""
    address: str | None = None
    """The address that the connection is counted for. None if it has no limit of its own."""
    _host: Any = None
    """The local address, once it has been asked for."""
    _peer_address: Any = None
    """The address of the client, once it has been asked for."""
    _is_socket = False
    """Whether the transport writes to a socket what it is given, without TLS or another protocol."""
    _head = b""
    """The head of an answer that is not sent yet."""
    _located = False
    """Whether the address of the client is known. A proxy that uses the PROXY protocol names it after the connection is made."""

    def connectionMade(self) -> None:
        super().connectionMade()
        self._is_socket = isinstance(self.transport, tcp.Connection) and not self.transport.TLS
        self.since = self.idle_since = self.site.seconds()
        self.site.connections.add(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.site.connections.remove(self)
        super().connectionLost(reason)

    @property
    def waiting(self) -> bool:
        """Whether the connection waits for a request or the rest of its headers."""
        return self.phase in (Phase.IDLE, Phase.HEADERS) and not self.closing and not self._waitingForTransport

    def make_room(self, refusal: bytes) -> None:
        """Closes the connection, which waits for a request, because there are too many. If a part of the request has been received, it
        is answered with *refusal*."""
        if self.phase is Phase.HEADERS:
            self.transport.write(refusal)
        self.persistent = False
        if self.isSecure():
            # Closing politely would take an answer of the client.
            self.closing = True
            self.transport.abortConnection()
        else:
            self.loseConnection()

    def _locate(self) -> None:
        """Counts the connection for the address of the client, if a proxy has named another one than that of the peer."""
        self._located = True
        address = self.site.connections.address_of(self.transport.getPeer())
        if address != self.address:
            refusal = self.site.connections.move(self, address)
            if refusal is not None:
                self.transport.write(refusal)
                self.persistent = False
                self.loseConnection()

    def getHost(self) -> Any:
        """Returns the local address as Twisted does, but asks the operating system once: Twisted asks for each request."""
        if not self._located:
            return super().getHost()
        if self._host is None:
            self._host = super().getHost()
        return self._host

    def getPeer(self) -> Any:
        """Returns the address of the client as Twisted does, but computes it once."""
        if not self._located:
            return super().getPeer()
        if self._peer_address is None:
            self._peer_address = super().getPeer()
        return self._peer_address

    def _enter(self, phase: Phase) -> None:
        self.phase = phase
        self.since = self.moved = self.site.seconds()

    # phases

    def dataReceived(self, data: bytes) -> None:
        if self.closing and self.phase is not Phase.ANSWER:
            return
        if self.phase is Phase.IDLE:
            if not self._located:
                self._locate()
                if self.closing:
                    return
            if self._receive_head(data):
                return
            self._enter(Phase.HEADERS)
        elif self.phase is Phase.BODY:
            self.moved = self.site.seconds()
        super().dataReceived(data)

    def _receive_head(self, data: bytes) -> bool:
        """Does what Twisted does with bytes that begin with a request, if they contain the whole head and it is plain (`parse_head`).
        Returns whether it has been done."""
        end = data.find(b"\r\n\r\n")
        if end < 0 or self._buffer or self._busyReceiving:
            return False
        head = parse_head(data[:end])
        if head is None:
            return False
        request: Any = self.requestFactory(self, len(self.requests))
        self.requests.append(request)
        self._command, self._version = head.method, head.version
        self._path = head.target  # type: ignore[assignment] # mypy takes a local variable of Twisted for the type
        # Headers of Twisted would canonicalize each name again.
        request.requestHeaders._rawHeaders = head.headers
        if head.length is not None:
            self._maybeChooseTransferDecoder(b"Content-Length", head.length)
        self._busyReceiving = True
        self._buffer = data[end + 4 :]
        try:
            self.allHeadersReceived()
            if self.length == 0:
                self.allContentReceived()
            else:
                self.setRawMode()
        finally:
            self._busyReceiving = False
        if self._buffer and not self.transport.disconnecting:
            # Bytes of the body, or of the next requests.
            LineReceiver.dataReceived(self, b"")
        return True

    def headerReceived(self, line: bytes) -> bool:
        if line.find(b":") > MAX_NAME:
            self._refuse(BadRequest(f"The name of a header has more than {MAX_NAME} bytes."))
            return False
        return super().headerReceived(line)

    def _maybeChooseTransferDecoder(self, header: bytes, data: bytes) -> bool:
        if header == b"Content-Length" and len(data) > MAX_DIGITS:
            return self._failChooseTransferDecoder()
        if header == b"Transfer-Encoding" and data.lower() != b"chunked":
            # Twisted ignores "identity", which RFC 9112 does not have. A proxy may find another end of the body.
            return self._failChooseTransferDecoder()
        return super()._maybeChooseTransferDecoder(header, data)

    def allHeadersReceived(self) -> None:
        self._enter(Phase.BODY)
        super().allHeadersReceived()

    def checkPersistence(self, request: Any, version: bytes) -> bool:
        """Returns whether the connection stays open after the answer. Unlike in Twisted, all headers Connection count, and their options
        may be separated by commas without blanks."""
        values = request.requestHeaders.getRawHeaders(b"connection") or ()
        if any(option.lower() == b"close" for value in values for option in _OPTION.findall(value)):
            request.responseHeaders.setRawHeaders(b"Connection", [b"close"])
            return False
        return version == b"HTTP/1.1"

    def allContentReceived(self) -> None:
        self.phase = Phase.ANSWER
        super().allContentReceived()

    def requestDone(self, request: Any) -> None:
        self._enter(Phase.IDLE)
        self.idle_since = self.since
        super().requestDone(request)
        if self.phase is Phase.IDLE and (self.requests or self._buffer):
            # The beginning of the next request was received while this one was answered.
            self._enter(Phase.HEADERS)

    def pauseProducing(self) -> None:
        self.sent = self.site.seconds()
        super().pauseProducing()

    def resumeProducing(self) -> None:
        if self.phase is Phase.IDLE:
            self.since = self.site.seconds()
        super().resumeProducing()

    def pause_receiving(self) -> None:
        """Stops receiving the body of a request until `resume_receiving` is called. Meanwhile its time limits do not count."""
        self.paused_at = self.site.seconds()
        producer: Any = self._networkProducer
        producer.pauseProducing()

    def resume_receiving(self) -> None:
        self.moved = now = self.site.seconds()
        if self.paused_at is not None:
            self.since += now - self.paused_at
            self.paused_at = None
        if not self._waitingForTransport and not self.closing:
            producer: Any = self._networkProducer
            producer.resumeProducing()

    # answers

    def writeHeaders(self, version: bytes, code: bytes, reason: bytes, headers: Headers) -> None:
        """Makes the head of an answer. It is sent with the first bytes of the body, or by `send_head`."""
        more = FRAMED if headers.hasHeader(b"content-security-policy") else DENIED
        lines = [b"%b %b %b\r\n%b" % (version, code, reason, _common_headers(int(time.time()), more))]
        lines += [name + b": " + value for name, values in headers.getAllRawHeaders() for value in values]
        self._head = b"\r\n".join(lines) + b"\r\n\r\n"

    def send_head(self) -> None:
        """Sends the head of an answer, if it has not been sent with bytes of the body."""
        if self._head:
            self.write(b"")

    def write(self, data: bytes) -> None:
        if self._head:
            data, self._head = self._head + data, b""
            if self._requestProducer is None:
                # The whole answer, or the refusal of a body.
                data = self._send_at_once(data)
        if data:
            self.transport.write(data)

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        if self._head:
            self.write(b"".join(iovec))
        else:
            self.transport.writeSequence(iovec)

    def _send_at_once(self, data: bytes) -> bytes:
        """Passes bytes to the socket and returns those that it did not take. Transports do this in the next iteration of the reactor, which
        has to ask the operating system before and after whether the socket can be written."""
        transport = self.transport
        if not self._is_socket or not transport.connected or transport.dataBuffer or transport._tempDataBuffer:
            return data
        sent = transport.writeSomeData(data)
        # If the connection is lost, the reactor finds that out when it writes.
        return data[sent:] if isinstance(sent, int) else data

    # time limits

    def check(self, now: float, limits: TimeLimits) -> None:
        """Closes the connection if the client has exceeded a limit."""
        if self._waitingForTransport or self.closing:
            unsent = self._unsent()
            if unsent is not None and unsent != self.unsent:
                self.unsent, self.sent = unsent, now
            if now - self.sent > limits.stall:
                self.abort(f"received no bytes of an answer for {limits.stall} s (server.stall_timeout)")
        elif self.phase is Phase.IDLE:
            if now - self.since > limits.idle:
                self.loseConnection()
        elif self.phase is Phase.HEADERS:
            if now - self.since > limits.request:
                self._refuse(RequestTimeout("The headers of the request took too long to arrive (server.request_timeout)."))
        elif self.phase is Phase.BODY and self.paused_at is None:
            if now - self.moved > limits.request:
                self._refuse(RequestTimeout("The body of the request stopped arriving (server.request_timeout)."))
            elif now - self.since > limits.body and self.requests[-1].stream is None:
                self._refuse(RequestTimeout("The body of the request took too long to arrive (server.body_timeout)."))
            elif self.requests[-1].received < (now - self.since - limits.request) * limits.rate:
                self._refuse(RequestTimeout("The body of the request arrived too slowly (server.min_body_rate)."))

    def _unsent(self) -> int | None:
        """Returns the number of bytes in the send queue of the socket that the client has not acknowledged, or None if the operating system
        cannot say. While the number changes, the client is receiving, even if the queue is still full."""
        number = array("i", [0])
        try:
            fcntl.ioctl(self.transport.getHandle().fileno(), termios.TIOCOUTQ, number)
        except (AttributeError, OSError):
            return None
        return number[0]

    def abort(self, why: str) -> None:
        """Closes the connection at once, even if there are bytes left to send."""
        log.info("closed the connection of {peer}: the client {why}", peer=self._peer(), why=why)
        self.transport.abortConnection()

    def _peer(self) -> str:
        return getattr(self.transport.getPeer(), "host", None) or "-"

    # invalid requests

    def lineLengthExceeded(self, line: bytes) -> None:
        if self.requests:
            self._refuse(BadRequest(f"A header has more than {self.MAX_LENGTH} bytes."))
        else:
            self._refuse(RequestTooLong(f"The URL has more than {self.MAX_LENGTH} bytes."))

    def _respondToBadRequestAndDisconnect(self) -> None:
        self._refuse(BadRequest("The request is not valid HTTP/1.1, or has too many headers."))

    def _refuse(self, error: ApiError) -> None:
        """Writes an error for a request that is not complete, unless an answer has begun, and closes the connection."""
        log.info("client {peer}: {error}", peer=self._peer(), error=error.message)
        if not (self.requests and self.requests[-1].startedWriting):
            self.transport.write(encode.raw_refusal(error))
        self.persistent = False
        self.loseConnection()

    def loseConnection(self) -> None:
        self.closing = True
        self.sent = self.site.seconds()
        super().loseConnection()
