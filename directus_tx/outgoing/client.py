"""An HTTP client for addresses that users or other servers name, with limits and the address policy (see `connecting`)."""

from collections.abc import Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

from attrs import frozen
from treq.client import HTTPClient
from twisted.internet import defer
from twisted.web import http_headers
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.iweb import IAgent
from zope.interface import implementer

from directus_tx import __version__
from directus_tx.config import OutgoingSettings
from directus_tx.outgoing.bodies import CollectedBody, NotTaken, PassedBody, Take
from directus_tx.outgoing.connecting import Endpoints
from directus_tx.outgoing.failures import RequestFailed, Unreachable, closed_early, explained, reasons_of
from directus_tx.outgoing.policy import AddressPolicy, parse_networks
from directus_tx.outgoing.urls import EncodedUrl, check_url

MAX_HEADERS = 64 * 1024
"""The maximum size of the head of an answer, in bytes."""

MAX_IDLE = 2
"""The number of connections to one host and port that are kept for further requests."""

IDLE_TIMEOUT = 10
"""Seconds for which they are kept."""

MAX_ERROR = 64 * 1024
"""The maximum size of the body of an answer that is an error, if the bodies of others are passed on in pieces."""

MAX_NAME = 256
"""The length in bytes from which names of headers are not cached."""

USER_AGENT = f"directus_tx/{__version__}"


class _ShortNames(dict[Any, bytes]):
    """The cache of the names of headers that Twisted has for the whole process, without long ones. Twisted keeps the first 10,000 names for
    ever, and other servers may send names of thousands of bytes."""

    def __setitem__(self, name: Any, canonical: bytes) -> None:
        if len(name) <= MAX_NAME:
            super().__setitem__(name, canonical)


http_headers._nameEncoder._canonicalHeaderCache = _ShortNames(http_headers._nameEncoder._canonicalHeaderCache)


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
        endpoints = Endpoints(reactor, self.policy, settings, self.max_answer + MAX_HEADERS)
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
            except NotTaken as error:
                raise error.reason from None
            except Exception as error:
                # Cancelling a request makes it fail in various ways.
                if exchange.late is not None:
                    raise Unreachable(exchange.late) from None
                if any(isinstance(each, defer.CancelledError) for each in reasons_of(error)):
                    raise defer.CancelledError from None
                if repeatable and closed_early(error):
                    repeatable = False
                    continue
                raise explained(error, self.settings) from error
            finally:
                if timer.active():
                    timer.cancel()


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
            method, EncodedUrl.from_text(url), headers=dict(headers), data=body, allow_redirects=False, unbuffered=True
        )
        found: dict[str, str] = {}
        for name, values in response.headers.getAllRawHeaders():
            found.setdefault(name.decode("latin-1").lower(), values[0].decode("latin-1"))
        if self.take is not None and response.code == 200:
            passing = PassedBody(self.reactor, self.read_timeout, self.max_answer, self.take)
            response.deliverBody(passing)
            await passing.whole
            return response.code, found, b"", False
        reading = CollectedBody(
            self.reactor, self.read_timeout, min(self.max_answer, MAX_ERROR) if self.take else self.max_answer
        )
        response.deliverBody(reading)
        content, truncated = await reading.whole
        return response.code, found, content, truncated


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
