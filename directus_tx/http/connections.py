"""The open connections of a site, and the limits on their number: of all clients, and of one address.

When a limit is reached, a connection without a request is closed to make room for the new one. If there is none, the new connection is
refused with 503.
"""

import heapq
from collections.abc import Iterable
from itertools import count
from typing import Any

from attrs import frozen
from twisted.internet.interfaces import ISSLTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from directus_tx.errors import ServiceUnavailable
from directus_tx.http import encode
from directus_tx.http.channel import ApiChannel
from directus_tx.http.client import Proxies
from directus_tx.rate_limits import network_of

log = Logger()

MAX_REFUSED = 32
"""Maximum number of refused connections that are kept open until their clients have read the refusal."""

MAX_LEAVING = 64
"""Maximum number of connections that were closed to make room and whose descriptors are not free yet."""

LINGER = 1.0
"""Seconds for which a refused connection is kept open. If it were closed at once while data of the client arrives, the client might not
receive the refusal."""

REFRESH = 1.0
"""Seconds after which the connections to close next are determined again."""

RETRY = 0.05
"""Seconds for which no connection is looked for again if there was none without a request."""

REPORT = 60.0
"""Minimum number of seconds between two messages in the log about refused connections."""


@frozen
class ConnectionLimits:
    """The maximum number of connections: in `total`, and from one address. Trusted proxies and UNIX sockets have no limit of their own."""

    total: float = float("inf")
    per_address: float = float("inf")


class _Queue:
    """Connections without a request, in reverse of the order in which to close them."""

    def __init__(self) -> None:
        self.channels: list[tuple[ApiChannel, float]] = []
        self.was_empty = False
        self.determined = float("-inf")

    def may_be_determined(self, now: float) -> bool:
        """Whether to determine the queue again. It takes time in proportion to the number of connections."""
        return not self.was_empty or now - self.determined >= RETRY


class _Group(_Queue):
    """The connections of one address."""

    def __init__(self) -> None:
        super().__init__()
        self.members: set[ApiChannel] = set()

    def waiting(self) -> list[ApiChannel]:
        """Returns the connections without a request. The last has been idle longest."""
        return sorted((each for each in self.members if each.waiting), key=lambda each: each.idle_since, reverse=True)


class Connections:
    """The open connections of a site. `channels` does not contain those that are being closed to make room."""

    def __init__(self, reactor: Any, proxies: Proxies) -> None:
        self.reactor = reactor
        self.limits = ConnectionLimits()
        self.channels: set[ApiChannel] = set()
        self.admitted = 0
        """The number of connections that have been accepted, refused ones included."""
        self._proxies = proxies
        self._groups: dict[str | None, _Group] = {}
        self._all = _Queue()
        self._leaving: dict[ApiChannel, None] = {}
        self._refused: dict[Refusal, Any] = {}
        self._unreported = 0
        self._reported = float("-inf")
        self._too_many = _refusal("The server has too many connections (server.max_connections).")
        self._too_many_of_address = _refusal(
            "There are too many connections from this address (server.max_connections_per_address)."
        )

    def address_of(self, peer: Any) -> str | None:
        """Returns the address that a connection is counted for: an IPv4 address or an IPv6 network of 64 bits. None for connections
        without a limit of their own."""
        host = (getattr(peer, "host", None) or "").partition("%")[0]
        if not host or self._proxies.trusts(host):
            return None
        return network_of(host)

    def refusal_for(self, address: str | None) -> bytes | None:
        """Makes room for a connection of an address. Returns None if there is room, otherwise the answer that refuses the connection."""
        self.admitted += 1
        if address is not None:
            group = self._groups.get(address)
            if group is not None and len(group.members) >= self.limits.per_address and not self._close_one_of(group):
                return self._too_many_of_address
        if len(self.channels) >= self.limits.total and not self.close_idle(1):
            return self._too_many
        return None

    def add(self, channel: ApiChannel) -> None:
        """Counts a connection for its `address`."""
        self.channels.add(channel)
        self._group_of(channel).members.add(channel)

    def remove(self, channel: ApiChannel) -> None:
        """Forgets a connection. Call this when it is lost."""
        self._leaving.pop(channel, None)
        if channel in self.channels:
            self._discard(channel)

    def move(self, channel: ApiChannel, address: str | None) -> bytes | None:
        """Counts a connection for another address, which a proxy has named. Returns None if there is room, otherwise the answer that
        refuses the connection."""
        group = self._groups.get(address)
        if (
            address is not None
            and group is not None
            and len(group.members) >= self.limits.per_address
            and not self._close_one_of(group)
        ):
            return self._too_many_of_address
        self._discard(channel)
        channel.address = address
        self.add(channel)
        return None

    def each(self) -> list[ApiChannel]:
        """Returns all connections, including those that are being closed to make room."""
        return [*self.channels, *self._leaving]

    def close_idle(self, number: int) -> int:
        """Closes up to *number* connections without a request: first the one that has been idle longest, of the address that has most.
        Returns how many were closed."""
        for closed in range(number):
            channel = self._next_of_all()
            if channel is None:
                return closed
            self._close(channel)
        return number

    def refuse(self, refusal: "Refusal") -> None:
        """Keeps a refused connection open for LINGER seconds, or until too many others are refused."""
        if len(self._refused) >= MAX_REFUSED:
            next(iter(self._refused)).transport.abortConnection()
            self.forget(next(iter(self._refused)))
        self._refused[refusal] = self.reactor.callLater(LINGER, refusal.transport.abortConnection)
        self._unreported += 1

    def forget(self, refusal: "Refusal") -> None:
        """Forgets a refused connection."""
        timer = self._refused.pop(refusal, None)
        if timer is not None and timer.active():
            timer.cancel()

    def report(self, now: float) -> None:
        """Logs how many connections have been refused since the last report. Call this at intervals."""
        if self._unreported and now - self._reported >= REPORT:
            log.warn(
                "refused {number} connections: {open} are open (server.max_connections, server.max_connections_per_address)",
                number=self._unreported,
                open=len(self.channels),
            )
            self._unreported, self._reported = 0, now

    def _group_of(self, channel: ApiChannel) -> _Group:
        group = self._groups.get(channel.address)
        if group is None:
            group = self._groups[channel.address] = _Group()
        return group

    def _discard(self, channel: ApiChannel) -> None:
        self.channels.discard(channel)
        group = self._groups.get(channel.address)
        if group is not None:
            group.members.discard(channel)
            if not group.members:
                del self._groups[channel.address]

    def _close(self, channel: ApiChannel) -> None:
        self._discard(channel)
        if len(self._leaving) >= MAX_LEAVING:
            # Their last bytes may wait for clients that do not read.
            for each in list(self._leaving):
                each.transport.abortConnection()
        self._leaving[channel] = None
        channel.make_room(self._too_many)

    def _close_one_of(self, group: _Group) -> bool:
        """Closes the connection of an address that has been idle longest. Returns whether there is one."""
        channel = self._next(group)
        if channel is None and group.may_be_determined(self.reactor.seconds()):
            self._determine(group, group.waiting())
            channel = self._next(group)
        if channel is None:
            return False
        self._close(channel)
        return True

    def _next_of_all(self) -> ApiChannel | None:
        channel = self._next(self._all)
        if channel is None and self._all.may_be_determined(self.reactor.seconds()):
            self._determine(self._all, self._in_order())
            channel = self._next(self._all)
        return channel

    def _determine(self, queue: _Queue, channels: Iterable[ApiChannel]) -> None:
        queue.channels = [(each, each.idle_since) for each in channels]
        queue.was_empty = not queue.channels
        queue.determined = self.reactor.seconds()

    def _next(self, queue: _Queue) -> ApiChannel | None:
        """Returns the next connection of a queue that is still idle."""
        if self.reactor.seconds() - queue.determined > REFRESH:
            return None
        while queue.channels:
            channel, since = queue.channels.pop()
            if channel in self.channels and channel.waiting and channel.idle_since == since:
                return channel
        return None

    def _in_order(self) -> list[ApiChannel]:
        """Returns connections without a request in reverse of the order in which to close them. Returns a part of them, so that the
        time that this takes for each connection that is closed does not grow with their number."""
        number = count()
        heap = []
        for address, group in self._groups.items():
            waiting = group.waiting()
            if waiting:
                # Those of proxies, which may be needed for many clients, are closed last.
                size = 0 if address is None else -len(group.members)
                heap.append((size, waiting[-1].idle_since, next(number), waiting))
        heapq.heapify(heap)
        found: list[ApiChannel] = []
        most = max(len(self.channels) // 16, 16)
        while heap and len(found) < most:
            size, _, _, waiting = heap[0]
            found.append(waiting.pop())
            if waiting:
                heapq.heapreplace(heap, (min(size + 1, 0), waiting[-1].idle_since, next(number), waiting))
            else:
                heapq.heappop(heap)
        return found[::-1]


class Refusal(Protocol):
    """A connection that is refused: writes an answer and closes the connection when the client has, or after LINGER seconds."""

    transport: Any

    def __init__(self, connections: Connections, answer: bytes) -> None:
        self.connections = connections
        self.answer = answer

    def connectionMade(self) -> None:
        self.connections.refuse(self)
        self.transport.write(self.answer)
        if ISSLTransport.providedBy(self.transport):
            self.transport.loseConnection()
        else:
            self.transport.loseWriteConnection()

    def dataReceived(self, data: bytes) -> None:
        """Drops the request."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.connections.forget(self)


def _refusal(message: str) -> bytes:
    return encode.raw_refusal(ServiceUnavailable(message))
