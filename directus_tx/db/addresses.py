"""Looks up the addresses of database servers in threads. libpq would look them up itself, and block the reactor until the name server
answers."""

import os
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet import defer
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress, IHostnameResolver, IHostResolution, IResolutionReceiver
from zope.interface import implementer


class UnknownHost(Exception):
    """No address of a host is known, or none was found in time. The message names the host."""


async def located(reactor: Any, parameters: Mapping[str, Any], timeout: float) -> Mapping[str, Any]:
    """Returns libpq's keywords, with the addresses of the hosts as `hostaddr`. A host with several addresses is repeated, so that libpq
    tries them in turn. Raises UnknownHost if no address is found within *timeout* seconds."""
    hosts = str(parameters.get("host") or os.environ.get("PGHOST", "")).split(",")
    ports = str(parameters.get("port") or os.environ.get("PGPORT", "")).split(",")
    if len(ports) == 1:
        ports *= len(hosts)
    known = "hostaddr" in parameters or "PGHOSTADDR" in os.environ or "service" in parameters
    if known or len(ports) != len(hosts) or not any(map(_is_name, hosts)):
        return parameters
    names = [host for host in dict.fromkeys(hosts) if _is_name(host)]
    lookups = [_addresses(reactor, name).addTimeout(timeout, reactor) for name in names]
    answers = await defer.DeferredList(lookups, consumeErrors=True)
    found = {name: addresses for name, (success, addresses) in zip(names, answers, strict=True) if success}
    places = [
        (host, port, address)
        for host, port in zip(hosts, ports, strict=True)
        for address in (found.get(host, ()) if _is_name(host) else ("",))
    ]
    if not places:
        raise UnknownHost(f"no address of {', '.join(names)} was found")
    located_hosts, located_ports, addresses = (",".join(part) for part in zip(*places, strict=True))
    return {**parameters, "host": located_hosts, "port": located_ports, "hostaddr": addresses}


def _is_name(host: str) -> bool:
    """Whether libpq would look a host up: it is neither the directory of a Unix socket nor an address."""
    if not host or host.startswith(("/", "@")):
        return False
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host.partition("%")[0])
            return False
        except (OSError, ValueError):
            continue
    return True


def _addresses(reactor: Any, host: str) -> "defer.Deferred[list[str]]":
    """Returns the addresses of a host, in the order in which they are to be tried. Raises UnknownHost."""
    receiver = _Receiver(host)
    reactor.nameResolver.resolveHostName(receiver, host)
    return receiver.complete


@implementer(IResolutionReceiver)
class _Receiver:
    """Collects the addresses of a host."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.found: list[str] = []
        self.complete: defer.Deferred[list[str]] = defer.Deferred()

    def resolutionBegan(self, resolution: Any) -> None: ...

    def addressResolved(self, address: IAddress) -> None:
        if isinstance(address, (IPv4Address, IPv6Address)) and address.host not in self.found:
            self.found.append(address.host)

    def resolutionComplete(self) -> None:
        if self.complete.called:
            return
        if self.found:
            self.complete.callback(self.found)
        else:
            self.complete.errback(UnknownHost(self.host))


@implementer(IHostResolution)
class _Lookup:
    """A lookup of a name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def cancel(self) -> None:
        """Does nothing: getaddrinfo cannot be interrupted."""


@implementer(IHostnameResolver)
class SharedLookups:
    """The resolver of a reactor. Callers that ask for the same name at the same time share a lookup, so that a name server that does not
    answer occupies one thread for each name. The threads do not keep the process from ending, and no other work waits for them, as it
    would in the thread pool of the reactor."""

    def __init__(self, reactor: Any, getaddrinfo: Callable[..., Sequence[Any]] = socket.getaddrinfo) -> None:
        self.reactor = reactor
        self.getaddrinfo = getaddrinfo
        self._waiting: dict[tuple[str, int, str], list[Any]] = {}

    def resolveHostName(
        self,
        resolutionReceiver: Any,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[IAddress]] | None = None,
        transportSemantics: str = "TCP",
    ) -> Any:
        lookup = _Lookup(hostName)
        resolutionReceiver.resolutionBegan(lookup)
        key = (hostName, portNumber, transportSemantics)
        waiting = self._waiting.setdefault(key, [])
        waiting.append((resolutionReceiver, tuple(addressTypes or (IPv4Address, IPv6Address))))
        if len(waiting) == 1:
            threading.Thread(target=self._look_up, args=(key,), name=f"lookup of {hostName}", daemon=True).start()
        return lookup

    def _look_up(self, key: tuple[str, int, str]) -> None:
        """Runs in a thread."""
        name, port, transport = key
        try:
            kind = socket.SOCK_DGRAM if transport == "UDP" else socket.SOCK_STREAM
            found = self.getaddrinfo(name, port, socket.AF_UNSPEC, kind)
        except (OSError, UnicodeError):
            found = ()
        self.reactor.callFromThread(self._tell, key, found)

    def _tell(self, key: tuple[str, int, str], found: Sequence[Any]) -> None:
        transport: Any = key[2]
        addresses: list[IPv4Address | IPv6Address] = []
        for family, _, _, _, place in found:
            if family == socket.AF_INET:
                addresses.append(IPv4Address(transport, *place))
            elif family == socket.AF_INET6:
                addresses.append(IPv6Address(transport, *place))
        for receiver, kinds in self._waiting.pop(key):
            for address in addresses:
                if isinstance(address, kinds):
                    receiver.addressResolved(address)
            receiver.resolutionComplete()
