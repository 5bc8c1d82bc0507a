"""Listens on endpoints, and keeps the number of connections below the number of file descriptors that the process may open."""

import errno
import os
import re
import resource
import select
import socket
from collections.abc import Sequence
from typing import Any

from attrs import frozen
from twisted.internet import tcp, unix
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from directus_tx.config import Settings
from directus_tx.http.connections import MAX_LEAVING, MAX_REFUSED, ConnectionLimits, Connections
from directus_tx.http.site import ApiSite
from directus_tx.process import StartError

log = Logger()

MAX_DESCRIPTORS = 2**20
"""The soft limit is not raised above this number. Some systems have hard limits of a billion."""

MAX_CONNECTIONS = 10_000
"""The number of connections that are accepted if server.max_connections is 0 and there are descriptors for more."""

FEW_CONNECTIONS = 400
"""A number of connections that is logged as small."""

MAX_ACCEPTS = 32
"""Maximum number of connections that are accepted from one port before the reactor does other work. The descriptors of connections that
are closed to make room are free only after that."""

FILES = 64
"""Descriptors for the log, project files, the listening sockets, libraries and the reactor."""

PAUSE = 0.1
"""Seconds for which no connections are accepted after the process has run out of descriptors."""

MAX_EMPTY = 3
"""A port pauses if it is readable so many times in succession, but no connection can be accepted."""

MAX_PORT = 65535
_PORT = re.compile(r"(?:haproxy:)?(?:tcp6?|ssl):(?:[^:]*=[^:]*:)*?(?:port=)?(-?\d+)(?::|$)")
"""The port in the description of an endpoint: the first argument without a name, or `port`."""


@frozen
class Descriptors:
    """How the file descriptors of the process are used: for `connections`, and for temporary `files`."""

    limit: int
    connections: int
    files: int

    @classmethod
    def of(cls, settings: Settings, limit: int) -> "Descriptors":
        """Divides the number of descriptors that the process may open. Others are for the database, two for each of its connections, for
        connections of clients that are being accepted or closed, and for FILES."""
        files = limit // 8
        database = 2 * settings.database.max_connections or min(max(limit // 8, 200), 2000)
        closing = MAX_REFUSED + MAX_LEAVING + MAX_ACCEPTS * len(settings.server.listen)
        return cls(limit, max(limit - FILES - files - database - closing, limit // 4, 1), files)

    def limits(self, settings: Settings) -> ConnectionLimits:
        """Returns the limits on connections. Logs a warning if the settings ask for more than there are descriptors for."""
        wanted = settings.server.max_connections
        if wanted > self.connections or (not wanted and self.connections < FEW_CONNECTIONS):
            log.warn(
                "the process may open {descriptors} files (RLIMIT_NOFILE), which is enough for {connections} connections"
                " (server.max_connections is {wanted})",
                descriptors=self.limit,
                connections=self.connections,
                wanted=wanted,
            )
        total = min(wanted or MAX_CONNECTIONS, self.connections)
        return ConnectionLimits(total, min(settings.server.max_connections_per_address or max(total // 2, 1), total))


async def listen(reactor: Any, site: ApiSite, settings: Settings, sockets: Sequence[int] = ()) -> list[Any]:
    """Listens on the endpoints of the settings. Returns the ports. *sockets*: descriptors of sockets that `bind` has opened for them.
    Raises StartError."""
    descriptors = Descriptors.of(settings, raise_descriptor_limit())
    limits = descriptors.limits(settings)
    site.limit(limits, descriptors.files)
    log.info(
        "at most {total} connections, {per_address} from one address; at most {descriptors} open files",
        total=limits.total,
        per_address=limits.per_address,
        descriptors=descriptors.limit,
    )
    ports = []
    for place, description in enumerate(settings.server.listen):
        inherited = _Inherited(reactor, sockets[place]) if sockets else None
        if inherited is not None and description.startswith("systemd:"):
            # Only the process that systemd has started can use the endpoint.
            port = inherited.listenTCP(0, site)
        else:
            port = await _opened(inherited or reactor, description, settings, site)
        if isinstance(port, tcp.Port):
            # One process must not accept all connections that arrive together.
            Acceptor(reactor, port, site.connections, at_once=1 if sockets else MAX_ACCEPTS).start()
        ports.append(port)
    return ports


async def bind(reactor: Any, settings: Settings) -> list[int]:
    """Opens the sockets of the endpoints of the settings for other processes, without accepting connections. Returns their descriptors.
    Raises StartError."""
    sockets = []
    for description in settings.server.listen:
        port = await _opened(reactor, description, settings, Factory())
        port.stopReading()
        if not isinstance(port, tcp.Port) or isinstance(port, unix.Port):
            raise StartError(f'"{description}" (server.listen) can be served by one process only (server.processes)')
        # The port would end the listening of all processes when it stops. Without its descriptor it never does.
        sockets.append(port.socket.detach())
    return sockets


async def _opened(reactor: Any, description: str, settings: Settings, factory: Any) -> Any:
    """Listens on an endpoint. Raises StartError."""
    try:
        endpoint = endpoint_of(reactor, description, settings.server.backlog)
    except Exception as error:
        raise StartError(f'"{description}" (server.listen) is not a Twisted endpoint: {error}') from error
    try:
        return await endpoint.listen(factory)
    except (CannotListenError, OSError, OverflowError) as error:
        taken = errno.EADDRINUSE in (
            getattr(error, "errno", None),
            getattr(getattr(error, "socketError", None), "errno", None),
        )
        hint = ": give another one with --listen" if taken else ""
        raise StartError(f"the server cannot listen (server.listen): {str(error).rstrip('.')}{hint}") from error


class _Inherited:
    """A reactor for endpoints, which listens with a socket that another process has opened instead of opening one."""

    def __init__(self, reactor: Any, descriptor: int) -> None:
        self._reactor = reactor
        self._descriptor = descriptor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        # The port has a duplicate of the descriptor.
        with socket.socket(fileno=self._descriptor) as opened:
            return self._reactor.adoptStreamPort(self._descriptor, opened.family, factory)

    def listenSSL(self, port: int, factory: Any, contextFactory: Any, backlog: int = 50, interface: str = "") -> Any:
        # Needs pyOpenSSL, which only those who use TLS have installed.
        from twisted.protocols.tls import TLSMemoryBIOFactory

        return self.listenTCP(port, TLSMemoryBIOFactory(contextFactory, False, factory))


def raise_descriptor_limit() -> int:
    """Raises the number of descriptors that the process may open to the hard limit, at most to MAX_DESCRIPTORS. Returns the number."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MAX_DESCRIPTORS)
    if soft == resource.RLIM_INFINITY:
        return MAX_DESCRIPTORS
    if wanted > soft:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError) as error:
            log.warn(
                "cannot raise the number of open files from {soft} to {wanted}: {error}", soft=soft, wanted=wanted, error=error
            )
        else:
            return wanted
    return soft


def endpoint_of(reactor: Any, description: str, backlog: int) -> Any:
    """Returns the endpoint of a description, with a backlog unless the description has one or the type of endpoint has none. Raises
    ValueError if the description is invalid."""
    port = _PORT.match(description)
    if port is not None and not 0 <= int(port[1]) <= MAX_PORT:
        # Twisted fails when it listens, with an OverflowError.
        raise ValueError(f"the port must be a number from 0 to {MAX_PORT}")
    if backlog and not re.search(r"(?<!\\):backlog=", description):
        try:
            return serverFromString(reactor, f"{description}:backlog={backlog}")
        except TypeError:
            # The description has the backlog as a positional argument, or its type of endpoint has none.
            pass
    return serverFromString(reactor, description)


class Acceptor:
    """Accepts the connections of a port while there are file descriptors, at most *at_once* before the reactor does other work.

    Twisted alone closes all waiting connections if there are none, or tries again at once and without end.
    """

    def __init__(self, reactor: Any, port: Any, connections: Connections, *, at_once: int = MAX_ACCEPTS) -> None:
        self.reactor = reactor
        self.port = port
        self.connections = connections
        self.at_once = at_once
        self._accept = port.doRead
        self._empty = 0
        self._reported = float("-inf")

    def start(self) -> None:
        self.port.doRead = self.accept

    def accept(self) -> None:
        """Accepts connections. Makes room and pauses if there are no descriptors."""
        number = free_descriptors(min(self.port.numberAccepts, self.at_once))
        if not number:
            self._pause("the process or the system has no free file descriptors")
            return
        self.port.numberAccepts = number
        before = self.connections.admitted
        self._accept()
        # Another process may have accepted the connection.
        self._empty = 0 if self.connections.admitted > before or not _is_readable(self.port) else self._empty + 1
        if self._empty >= MAX_EMPTY:
            self._pause("the system refuses to accept connections")

    def _pause(self, why: str) -> None:
        self._empty = 0
        self.port.stopReading()
        self.connections.close_idle(MAX_ACCEPTS)
        self.reactor.callLater(PAUSE, self._resume)
        now = self.reactor.seconds()
        if now - self._reported >= 60:
            self._reported = now
            log.warn("cannot accept connections: {why}", why=why)

    def _resume(self) -> None:
        if self.port.connected and not self.port.disconnecting:
            self.port.startReading()


def _is_readable(port: Any) -> bool:
    """Whether a connection waits to be accepted."""
    waiting = select.poll()
    waiting.register(port, select.POLLIN)
    return bool(waiting.poll(0))


def free_descriptors(most: int) -> int:
    """Returns how many file descriptors the process can open, at most *most*."""
    found: list[int] = []
    try:
        # `dup` is faster, but does not notice that the whole system has no free file.
        found.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        found += (os.dup(found[0]) for _ in range(most - 1))
    except OSError:
        pass
    finally:
        for each in found:
            os.close(each)
    return len(found)
