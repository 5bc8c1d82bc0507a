"""An HTTP client for addresses that users or other servers name, with limits and the address policy.

A name is resolved once for each connection, each of its addresses is judged, and the connection is made to an address that is allowed. So a
name whose addresses change between two look-ups (DNS rebinding) leads nowhere else. The certificate is checked against the name.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

from attrs import frozen
from hyperlink import URL, URLParseError
from OpenSSL import SSL
from service_identity import VerificationError
from treq.client import HTTPClient
from twisted.internet import defer

# Twisted has no public name for it.
from twisted.internet._sslverify import IOpenSSLTrustRoot
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.error import (
    ConnectError,
    ConnectionDone,
    ConnectionLost,
    DNSLookupError,
)
from twisted.internet.error import (
    ConnectionRefusedError as RefusedConnection,
)
from twisted.internet.error import (
    TimeoutError as ConnectTimeout,
)
from twisted.internet.interfaces import (
    IHostnameResolver,
    IReactorPluggableNameResolver,
    IResolutionReceiver,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Protocol
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.web.client import (
    Agent,
    BrowserLikePolicyForHTTPS,
    HTTPConnectionPool,
    ResponseDone,
    ResponseFailed,
    ResponseNeverReceived,
)
from twisted.web.http import PotentialDataLoss
from twisted.web.iweb import IAgent, IAgentEndpointFactory
from zope.interface import implementer

from directus_tx import __version__
from directus_tx.config import OutgoingSettings
from directus_tx.outgoing.policy import AddressPolicy, parse_networks

MAX_HEADERS = 64 * 1024
"""The maximum size of the head of an answer, in bytes."""

MAX_IDLE = 2
"""The number of connections to one host and port that are kept for further requests."""

IDLE_TIMEOUT = 10
"""Seconds for which they are kept."""

MAX_LOOKUPS = 50
"""The number of names that are resolved at the same time. Each occupies a thread, also after its request has ended, until the name server
answers."""

CLOSE_TIMEOUT = 1.0
"""Seconds in which a connection that is closed must end. Then it is aborted."""

MAX_ERROR = 64 * 1024
"""The maximum size of the body of an answer that is an error, if the bodies of others are passed on in pieces."""

Take = Callable[[bytes], Awaitable[None]]
"""Takes a piece of a body."""

USER_AGENT = f"directus_tx/{__version__}"


class RequestFailed(Exception):
    """An outgoing request has no answer. The message says why, in words for users."""


class Refused(RequestFailed):
    """The server may not make the request: its URL cannot be used, or its address is not allowed."""


class Unreachable(RequestFailed):
    """There was no complete answer: the name could not be resolved, the connection or TLS failed, or a time limit was exceeded."""


@frozen
class Answer:
    """An answer: the first values of its `headers`, by lower-case names, and its `body`, of which at most max_answer bytes were read;
    `truncated` if there were more. The body is as sent, not decompressed. `duration` is in seconds."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    truncated: bool
    duration: float

    @property
    def text(self) -> str:
        """The body as text. Bytes that are not UTF-8 are replaced."""
        return self.body.decode("utf-8", "replace")


class Client:
    """Makes HTTP requests within the limits of [outgoing]. Redirects are not followed and cookies are not kept. *max_answer* is the maximum
    size of a body, by default that of the settings."""

    def __init__(self, reactor: Any, settings: OutgoingSettings, *, max_answer: int | None = None) -> None:
        self.reactor = reactor
        self.settings = settings
        self.policy = AddressPolicy(parse_networks(settings.allowed_networks))
        self.max_answer = settings.max_answer if max_answer is None else max_answer
        self._pool: Any = HTTPConnectionPool(reactor)  # type: ignore[no-untyped-call]
        self._pool.maxPersistentPerHost = MAX_IDLE
        self._pool.cachedConnectionTimeout = IDLE_TIMEOUT
        self._pool.retryAutomatically = False
        endpoints = _Endpoints(reactor, self.policy, settings, self.max_answer + MAX_HEADERS)
        agent: Any = Agent.usingEndpointFactory(reactor, endpoints, self._pool)  # type: ignore[no-untyped-call]
        judged: Any = _AsSent(agent)
        no_cookies: Any = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
        self._http: Any = HTTPClient(judged, no_cookies)

    def close(self) -> "defer.Deferred[None]":
        """Closes the connections that are kept for further requests."""
        closing: defer.Deferred[None] = self._pool.closeCachedConnections()
        return closing

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        total_timeout: float | None = None,
        repeatable: bool = False,
        take: Take | None = None,
    ) -> Answer:
        """Makes a request and returns the answer, whatever its status is.

        *total_timeout*: seconds, by default and at most those of the settings. *repeatable*: the receiver notices a request that it gets
        twice; then the request is sent once more on a new connection if the receiver has closed the connection that was kept. *take*: the
        body of an answer with the status 200 is not collected, but passed to it in pieces; no more is received before it returns. Raises
        Refused or Unreachable, and the errors of *take*."""
        checked = check_url(url)
        limit = self.settings.total_timeout if total_timeout is None else min(total_timeout, self.settings.total_timeout)
        started = self.reactor.seconds()
        sent = {"User-Agent": USER_AGENT} | dict(headers or {})
        while True:
            left = started + limit - self.reactor.seconds()
            exchange = _Exchange(self.reactor, self.settings.read_timeout, self.max_answer, take)
            work = defer.Deferred.fromCoroutine(exchange.run(self._http, method, checked, sent, body))
            timer = self.reactor.callLater(max(left, 0.0), exchange.stop, work, f"There was no answer within {limit:g} seconds.")
            try:
                status, found, content, truncated = await work
                return Answer(status, found, content, truncated, self.reactor.seconds() - started)
            except RequestFailed:
                raise
            except _NotTaken as error:
                raise error.reason from None
            except Exception as error:
                # Cancelling a request makes it fail in various ways.
                if exchange.late is not None:
                    raise Unreachable(exchange.late) from None
                if any(isinstance(each, defer.CancelledError) for each in _reasons(error)):
                    raise defer.CancelledError from None
                if repeatable and _closed_early(error):
                    repeatable = False
                    continue
                raise _explained(error, self.settings) from error
            finally:
                if timer.active():
                    timer.cancel()


def check_url(url: str) -> str:
    """Returns a URL as it is requested, in ASCII and without its fragment. Raises Refused if it is not an http or https URL with a host,
    or has a user name or a password, which would be sent in plain text and logged by others."""
    try:
        parsed = URL.from_text(url.strip())
        # hyperlink takes an IPv6 address for a name to be encoded.
        parsed = parsed.replace(host="host").to_uri().replace(host=parsed.host) if ":" in parsed.host else parsed.to_uri()
    except (URLParseError, ValueError, UnicodeError) as error:
        raise Refused(f"The URL cannot be used: {error}.") from None
    if parsed.scheme not in ("http", "https"):
        raise Refused("The URL must begin with http:// or https://.")
    if not parsed.host:
        raise Refused("The URL has no host.")
    if parsed.userinfo:
        raise Refused("The URL must not have a user name or a password.")
    if parsed.port is None or not 0 < parsed.port < 65536:
        raise Refused("The port of the URL must be between 1 and 65535.")
    text: str = parsed.replace(fragment="").to_text()
    if not text.isascii() or any(character <= " " or character == "\x7f" for character in text):
        raise Refused("The URL has characters that must be percent-encoded.")
    return text


def origin_of(url: str) -> str:
    """Returns the scheme, host and port of a URL, for example "https://example.com:443". Raises Refused as `check_url` does."""
    parsed = URL.from_text(check_url(url))
    host = f"[{parsed.host}]" if ":" in parsed.host else parsed.host.lower()
    return f"{parsed.scheme}://{host}:{parsed.port}"


class _Url(URL):
    """A URL that `check_url` has encoded already."""

    def to_uri(self) -> "_Url":
        return self


class _Exchange:
    """One request and its answer. `late`: the time limit that was exceeded, in words."""

    def __init__(self, reactor: Any, read_timeout: float, max_answer: int, take: Take | None) -> None:
        self.reactor = reactor
        self.read_timeout = read_timeout
        self.max_answer = max_answer
        self.take = take
        self.late: str | None = None

    def stop(self, work: "defer.Deferred[Any]", why: str) -> None:
        self.late = why
        work.cancel()

    async def run(
        self, http: Any, method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> tuple[int, dict[str, str], bytes, bool]:
        response = await http.request(
            method, _Url.from_text(url), headers=dict(headers), data=body, allow_redirects=False, unbuffered=True
        )
        found: dict[str, str] = {}
        for name, values in response.headers.getAllRawHeaders():
            found.setdefault(name.decode("latin-1").lower(), values[0].decode("latin-1"))
        if self.take is not None and response.code == 200:
            passing = _PassedBody(self.reactor, self.read_timeout, self.max_answer, self.take)
            response.deliverBody(passing)
            await passing.whole
            return response.code, found, b"", False
        reading = _Body(self.reactor, self.read_timeout, min(self.max_answer, MAX_ERROR) if self.take else self.max_answer)
        response.deliverBody(reading)
        content, truncated = await reading.whole
        return response.code, found, content, truncated


class _Body(Protocol):
    """Collects a body up to a size. `whole` fires with the body and whether there was more."""

    def __init__(self, reactor: Any, read_timeout: float, most: int) -> None:
        self.most = most
        self.whole: defer.Deferred[tuple[bytes, bool]] = defer.Deferred(lambda _: self._abort())
        self._received = bytearray()
        self._timer = reactor.callLater(read_timeout, self._late)
        self._read_timeout = read_timeout

    def dataReceived(self, data: bytes) -> None:
        if self._timer.active():
            self._timer.reset(self._read_timeout)
        self._received += data[: self.most + 1 - len(self._received)]
        if len(self._received) > self.most:
            self._end(truncated=True)
            self._abort()

    def connectionLost(self, reason: Any = None) -> None:
        if reason.check(ResponseDone, PotentialDataLoss):
            self._end()
        elif not self.whole.called:
            self._stop_timer()
            self.whole.errback(reason)

    def _end(self, *, truncated: bool = False) -> None:
        self._stop_timer()
        if not self.whole.called:
            self.whole.callback((bytes(self._received[: self.most]), truncated))

    def _late(self) -> None:
        if not self.whole.called:
            self.whole.errback(Unreachable(f"The answer was interrupted for {self._read_timeout:g} seconds."))
        self._abort()

    def _stop_timer(self) -> None:
        if self._timer.active():
            self._timer.cancel()

    def _abort(self) -> None:
        self._stop_timer()
        transport: Any = self.transport
        if transport is not None:
            transport.loseConnection()


class _NotTaken(Exception):
    """What took the pieces of a body has raised *reason*."""

    def __init__(self, reason: Exception) -> None:
        super().__init__()
        self.reason = reason


class _PassedBody(Protocol):
    """Passes a body on in pieces, and receives no faster than they are taken. `whole` fires when all of them have been taken."""

    def __init__(self, reactor: Any, read_timeout: float, most: int, take: Take) -> None:
        self.reactor = reactor
        self.most = most
        self.take = take
        self.whole: defer.Deferred[None] = defer.Deferred(lambda _: self._abort())
        self._read_timeout = read_timeout
        self._timer: Any = reactor.callLater(read_timeout, self._late)
        self._pieces: list[bytes] = []
        self._received = 0
        self._work: defer.Deferred[None] | None = None
        self._ended = False

    def dataReceived(self, data: bytes) -> None:
        self._received += len(data)
        if self._received > self.most:
            self._fail(Unreachable(f"The answer has more than {self.most} bytes."))
            return
        self._pieces.append(data)
        if self._work is None and not self.whole.called:
            self._stop_timer()
            transport: Any = self.transport
            transport.pauseProducing()
            work = self._work = defer.Deferred.fromCoroutine(self._pass_on())
            work.addCallbacks(self._passed, lambda failure: self._fail(_NotTaken(failure.value)))

    async def _pass_on(self) -> None:
        while self._pieces:
            await self.take(self._pieces.pop(0))

    def _passed(self, _: Any) -> None:
        self._work = None
        if self.whole.called:
            return
        if self._ended:
            self.whole.callback(None)
            return
        self._timer = self.reactor.callLater(self._read_timeout, self._late)
        transport: Any = self.transport
        transport.resumeProducing()

    def connectionLost(self, reason: Any = None) -> None:
        self._stop_timer()
        if self.whole.called:
            return
        if not reason.check(ResponseDone, PotentialDataLoss):
            self._fail(reason)
            return
        self._ended = True
        if self._work is None:
            self.whole.callback(None)

    def _fail(self, reason: Any) -> None:
        if not self.whole.called:
            self.whole.errback(reason)
        self._abort()

    def _late(self) -> None:
        self._fail(Unreachable(f"The answer was interrupted for {self._read_timeout:g} seconds."))

    def _stop_timer(self) -> None:
        if self._timer.active():
            self._timer.cancel()

    def _abort(self) -> None:
        self._stop_timer()
        if self._work is not None:
            self._work.cancel()
        transport: Any = self.transport
        if transport is not None and not self._ended:
            transport.loseConnection()


@implementer(IAgent)
class _AsSent:
    """An agent that asks for answers that are not compressed, and leaves those that are: a small compressed answer can be a very large
    one."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def request(self, method: bytes, uri: bytes, headers: Any = None, bodyProducer: Any = None) -> "defer.Deferred[Any]":
        headers.setRawHeaders(b"accept-encoding", [b"identity"])
        answered: defer.Deferred[Any] = self._agent.request(method, uri, headers, bodyProducer)

        def as_sent(response: Any) -> Any:
            response.headers.removeHeader(b"content-encoding")
            return response

        return answered.addCallback(as_sent)


@implementer(IAgentEndpointFactory)
class _Endpoints:
    """Makes the endpoints of an agent."""

    def __init__(self, reactor: Any, policy: AddressPolicy, settings: OutgoingSettings, most: int) -> None:
        self._reactor = reactor
        self._policy = policy
        self._settings = settings
        self._most = most
        self._lookups: Counter[tuple[str, int]] = Counter()
        self._tls = BrowserLikePolicyForHTTPS(Trust(settings.ca_file))  # type: ignore[no-untyped-call]

    def endpointForURI(self, uri: Any) -> Any:
        tls = self._tls.creatorForNetloc(uri.host, uri.port) if uri.scheme == b"https" else None
        judging = _JudgingResolver(self._reactor.nameResolver, self._policy, self._lookups)
        return _JudgedEndpoint(
            self._reactor, judging, uri.host.decode(), uri.port, tls, self._settings.connect_timeout, self._most
        )


@implementer(IOpenSSLTrustRoot)
class Trust:
    """Trusts the certificate authorities of the system, and those of a file."""

    def __init__(self, ca_file: str) -> None:
        self._ca_file = ca_file

    def _addCACertsToContext(self, context: SSL.Context) -> None:
        context.set_default_verify_paths()
        if self._ca_file:
            context.load_verify_locations(self._ca_file)


@implementer(IStreamClientEndpoint)
class _JudgedEndpoint:
    """Connects to an address of a host that the policy allows, with TLS if *tls* is given."""

    def __init__(
        self, reactor: Any, judging: "_JudgingResolver", host: str, port: int, tls: Any, connect_timeout: float, most: int
    ) -> None:
        self._judging = judging
        endpoint: Any = HostnameEndpoint(_Judging(reactor, self._judging), host, port, timeout=connect_timeout)
        self._endpoint: Any = endpoint if tls is None else wrapClientTLS(tls, endpoint)
        self._reactor = reactor
        self._host = host
        self._port = port
        self._most = most

    def connect(self, factory: Any) -> "defer.Deferred[Any]":
        def explain(failure: Failure) -> Failure:
            if isinstance(failure.value, DNSLookupError) and self._judging.refused:
                addresses = ", ".join(self._judging.refused)
                raise Refused(
                    f"The address of {self._host} ({addresses}) is not one of the public internet;"
                    " the setting outgoing.allowed_networks can allow it."
                )
            return failure

        if not self._judging.may_resolve(self._host, self._port):
            return defer.fail(Unreachable("Too many names are being resolved at the moment."))
        connected: defer.Deferred[Any] = self._endpoint.connect(_LimitingFactory(factory, self._reactor, self._most))
        connected.addCallback(lambda limited: limited.wrappedProtocol)
        connected.addErrback(explain)
        return connected


@implementer(IReactorPluggableNameResolver)
class _Judging:
    """A reactor that resolves names with another resolver."""

    def __init__(self, reactor: Any, resolver: "_JudgingResolver") -> None:
        self._reactor = reactor
        self.nameResolver = resolver

    def installNameResolver(self, resolver: Any) -> Any:
        raise NotImplementedError

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)


@implementer(IHostnameResolver)
class _JudgingResolver:
    """Resolves names to those of their addresses that the policy allows. `refused`: the other ones. *lookups* counts the requests that
    wait for each host and port."""

    def __init__(self, resolver: Any, policy: AddressPolicy, lookups: Counter[tuple[str, int]]) -> None:
        self._resolver = resolver
        self._policy = policy
        self._lookups = lookups
        self.refused: list[str] = []

    def may_resolve(self, host: str, port: int) -> bool:
        """Whether a host is an address, or is being resolved already, or fewer than MAX_LOOKUPS others are."""
        return len(self._lookups) < MAX_LOOKUPS or (host, port) in self._lookups or isIPAddress(host) or isIPv6Address(host)

    def resolveHostName(
        self,
        resolutionReceiver: Any,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[Any] | None = None,
        transportSemantics: str = "TCP",
    ) -> Any:
        lookup = (hostName, portNumber)
        self._lookups[lookup] += 1

        def complete() -> None:
            self._lookups[lookup] -= 1
            if not self._lookups[lookup]:
                del self._lookups[lookup]

        receiver = _JudgingReceiver(resolutionReceiver, self._policy, self.refused, complete)
        return self._resolver.resolveHostName(receiver, hostName, portNumber, addressTypes, transportSemantics)


@implementer(IResolutionReceiver)
class _JudgingReceiver:
    def __init__(self, receiver: Any, policy: AddressPolicy, refused: list[str], complete: Callable[[], None]) -> None:
        self._receiver = receiver
        self._complete = complete
        self._policy = policy
        self._refused = refused

    def resolutionBegan(self, resolution: Any) -> None:
        self._receiver.resolutionBegan(resolution)

    def addressResolved(self, address: Any) -> None:
        if self._policy.allows(address.host):
            self._receiver.addressResolved(address)
        elif address.host not in self._refused:
            self._refused.append(address.host)

    def resolutionComplete(self) -> None:
        self._complete()
        self._receiver.resolutionComplete()


class _Limited(ProtocolWrapper):
    """Closes a connection on which more bytes arrive after a request than an answer may have. Heads have no limit otherwise.

    A connection that is closed ends within CLOSE_TIMEOUT. Otherwise a receiver could keep it for ever, by not reading what is left to be
    sent, or by not confirming the end of TLS."""

    received = 0
    _closing: Any = None

    def dataReceived(self, data: bytes) -> None:
        self.received += len(data)
        if self.received > self.factory.most:
            self.abortConnection()
        else:
            super().dataReceived(data)  # type: ignore[no-untyped-call]

    def loseConnection(self) -> None:
        super().loseConnection()  # type: ignore[no-untyped-call]
        if self._closing is None:
            self._closing = self.factory.reactor.callLater(CLOSE_TIMEOUT, self.abortConnection)

    def connectionLost(self, reason: Any = None) -> None:
        if self._closing is not None and self._closing.active():
            self._closing.cancel()
        super().connectionLost(reason)  # type: ignore[no-untyped-call]

    def write(self, data: bytes) -> None:
        self.received = 0
        super().write(data)  # type: ignore[no-untyped-call]

    def writeSequence(self, data: Any) -> None:
        self.received = 0
        super().writeSequence(data)  # type: ignore[no-untyped-call]


class _LimitingFactory(WrappingFactory):
    protocol = _Limited
    noisy = False

    def __init__(self, factory: Any, reactor: Any, most: int) -> None:
        super().__init__(factory)  # type: ignore[no-untyped-call]
        self.reactor = reactor
        self.most = most


def _reasons(error: BaseException) -> list[BaseException]:
    """Returns an error of the HTTP client and the errors behind it."""
    found = [error]
    for failure in getattr(error, "reasons", ()):
        found += _reasons(failure.value)
    return found


def _closed_early(error: Exception) -> bool:
    """Whether the receiver has closed the connection without an answer."""
    reasons = _reasons(error)
    return isinstance(error, ResponseNeverReceived) and any(
        isinstance(each, (ConnectionLost, ConnectionDone)) for each in reasons
    )


def _explained(error: Exception, settings: OutgoingSettings) -> RequestFailed:
    """Returns the error for an error of the HTTP client. It has no details of the receiver's network, beyond what the URL says."""
    reasons = _reasons(error)
    for each in reasons:
        if isinstance(each, RequestFailed):
            return each
    kinds = (
        (DNSLookupError, "The name of the host cannot be resolved."),
        (SSL.Error, "TLS failed: {tls}."),
        (VerificationError, "TLS failed: the certificate is not for this host."),
        (ConnectTimeout, f"There was no connection within {settings.connect_timeout:g} seconds."),
        (RefusedConnection, "The connection was refused."),
        (ConnectError, "The connection failed."),
        (PotentialDataLoss, "The connection was closed before the end of the answer."),
    )
    for kind, text in kinds:
        for each in reasons:
            if isinstance(each, kind):
                return Unreachable(text.format(tls=tls_reason(each)) if kind is SSL.Error else text)
    if isinstance(error, ResponseNeverReceived):
        return Unreachable("The connection was closed without an answer.")
    if isinstance(error, ResponseFailed):
        return Unreachable("The connection was closed before the end of the answer.")
    return Unreachable("There was no valid answer.")


def tls_reason(error: BaseException) -> str:
    """Returns the last reason of OpenSSL in words, for example "certificate verify failed"."""
    errors = error.args[0] if error.args and isinstance(error.args[0], list) else []
    return errors[-1][-1] if errors and errors[-1] else "the connection is not encrypted properly"
