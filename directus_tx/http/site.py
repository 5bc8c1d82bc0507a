"""The site: accepts connections, and checks requests before they are routed."""

import re
from functools import lru_cache
from typing import Any
from urllib.parse import unquote_to_bytes

from twisted.web import server
from twisted.web.resource import Resource

from directus_tx.config import Settings
from directus_tx.errors import ApiError, BadRequest, MethodNotAllowed, NotFound
from directus_tx.http.channel import ApiChannel, TimeLimits
from directus_tx.http.client import Proxies
from directus_tx.http.connections import ConnectionLimits, Connections, Refusal
from directus_tx.http.matching import WRONG_METHOD, Match, RouteTable
from directus_tx.http.payload import PayloadReader
from directus_tx.http.request import ApiRequest

ADMIN_APP = "admin app"
"""The endpoint of the paths that begin with /admin, if there is an admin app."""

EXTENSION_FILES = "files of extensions"
"""The endpoint of the paths that begin with /extensions."""

OVERRIDES = frozenset({b"GET", b"PUT", b"PATCH", b"DELETE", b"HEAD"})


class ApiSite(server.Site):
    """The site of an app. `connections` are the open connections, whose time limits are checked while the site listens. The site does not
    parse bodies, which endpoints do, and does not log requests, which the app does."""

    noisy = False
    protocol: Any = ApiChannel
    reactor: Any

    def __init__(self, app: Any, reactor: Any, settings: Settings, payloads: PayloadReader, proxies: Proxies) -> None:
        super().__init__(
            RootResource(app), requestFactory=ApiRequest, reactor=reactor, timeout=None, parsePOSTFormSubmission=False
        )
        self.payloads = payloads
        self.limits = TimeLimits.of(settings.server)
        self.connections = Connections(reactor, proxies)
        self._watching: Any = None

    def seconds(self) -> float:
        return float(self.reactor.seconds())

    def limit(self, connections: ConnectionLimits, files: int) -> None:
        """Limits the number of connections, and that of temporary files: half of them for bodies of requests, half for answers."""
        self.connections.limits = connections
        self.resource.app.spool.files = files // 2
        self.payloads.limit_files(files // 2)

    def startFactory(self) -> None:
        super().startFactory()
        self._watching = self.reactor.callLater(self.limits.interval, self._watch)

    def stopFactory(self) -> None:
        super().stopFactory()
        if self._watching is not None and self._watching.active():
            self._watching.cancel()

    def _watch(self) -> None:
        self._watching = self.reactor.callLater(self.limits.interval, self._watch)
        now = self.seconds()
        for channel in self.connections.each():
            channel.check(now, self.limits)
        self.connections.report(now)

    def buildProtocol(self, addr: Any) -> Any:
        """Returns a channel for a connection, or a protocol that refuses it if there are too many."""
        address = self.connections.address_of(addr)
        refusal = self.connections.refusal_for(address)
        if refusal is not None:
            return Refusal(self.connections, refusal)
        channel = super().buildProtocol(addr)
        channel.address = address
        return channel

    def log(self, request: Any) -> None:
        """Does nothing, because the app logs requests."""


class RootResource(Resource):
    """Answers OPTIONS and refuses malformed requests and those without a route. Passes all other requests to the app."""

    isLeaf = True

    def __init__(self, app: Any) -> None:
        super().__init__()
        self.app = app
        self.table = RouteTable(app.klein.url_map)

    def render(self, request: Any) -> Any:
        refusal = _host_refusal(request)
        if refusal is not None:
            return self.app.refuse(request, refusal)
        override = request.getHeader(b"x-http-method-override")
        if override and request.method == b"POST" and override.upper() in OVERRIDES:
            request.method = override.upper()
        if request.method == b"OPTIONS":
            return self.app.preflight(request)
        if self.app.limits.addresses is not None:
            refusal = self.app.limits.refusal_for_address(request)
            if refusal is not None:
                return self.app.refuse_limited(request, refusal)
        parts = parts_of(request)
        if parts is None:
            return self.app.refuse(request, NotFound())
        endpoint = self.app.directories.get(parts[0])
        if endpoint is not None:
            if request.method not in (b"GET", b"HEAD"):
                return self.app.refuse(request, MethodNotAllowed())
            return self.app.serve(endpoint, request, {})
        found = self.table.match(request.method.decode("latin-1").upper(), parts)
        if isinstance(found, Match):
            return self.app.serve(found.endpoint, request, found.arguments)
        return self.app.refuse_unrouted(request, MethodNotAllowed() if found is WRONG_METHOD else NotFound())


def parts_of(request: Any) -> list[str] | None:
    """Returns the decoded parts of the path, or None if it cannot be the path of a route: it starts with two slashes, or has a part that
    is not UTF-8 or contains NUL, which PostgreSQL cannot store in texts."""
    path = request.path
    if path.startswith(b"//") or b"%00" in path or b"\0" in path:
        return None
    try:
        if b"%" not in path:
            return path[1:].decode().split("/")
        return [unquote_to_bytes(part).decode() for part in path[1:].split(b"/")]
    except UnicodeDecodeError:
        return None


def _host_refusal(request: Any) -> ApiError | None:
    """Returns the error for a request without a valid Host header (RFC 9112, section 3.2), None for other requests. HTTP/1.0 needs none."""
    hosts = request.requestHeaders.getRawHeaders(b"host")
    if not hosts:
        return BadRequest("The request has no Host header.") if request.clientproto == b"HTTP/1.1" else None
    if len(hosts) > 1:
        return BadRequest("The request has more than one Host header.")
    return None if _is_host(hosts[0]) else BadRequest("The Host header is not a valid host name.")


_HOST = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~%-]*)(?::([0-9]*))?")
"""The value of a Host header: an address of IPv6 in brackets, or a name or an address of IPv4; and a port. Links in answers begin with it.
RFC 3986 also allows punctuation, with which no host has a name."""


@lru_cache(maxsize=100)
def _is_host(value: bytes) -> bool:
    """Whether the value of a Host header can be the name of a host, and a port."""
    name, colon, port = value.partition(b":") if not value.startswith(b"[") else (value, b"", b"")
    try:
        found = _HOST.fullmatch(name.decode().encode("idna") + colon + port)
    except UnicodeError:
        return False
    return found is not None and (not found[2] or (len(found[2]) <= 5 and int(found[2]) < 2**16))
