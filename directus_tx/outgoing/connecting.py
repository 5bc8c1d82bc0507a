"""Connections to addresses that the policy allows.

A name is resolved once for each connection, each of its addresses is judged, and the connection is made to an address that is allowed. So a
name whose addresses change between two look-ups (DNS rebinding) leads nowhere else. The certificate is checked against the name.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from OpenSSL import SSL
from twisted.internet import defer

# Twisted has no public name for it.
from twisted.internet._sslverify import IOpenSSLTrustRoot
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.error import DNSLookupError
from twisted.internet.interfaces import (
    IHostnameResolver,
    IReactorPluggableNameResolver,
    IResolutionReceiver,
    IStreamClientEndpoint,
)
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.web.client import BrowserLikePolicyForHTTPS
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from directus_tx.config import OutgoingSettings
from directus_tx.outgoing.failures import Refused, Unreachable
from directus_tx.outgoing.policy import AddressPolicy

MAX_LOOKUPS = 50
"""The number of names that are resolved at the same time. Each occupies a thread, also after its request has ended, until the name server
answers."""

CLOSE_TIMEOUT = 1.0
"""Seconds in which a connection that is closed must end. Then it is aborted."""


@implementer(IAgentEndpointFactory)
class Endpoints:
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
