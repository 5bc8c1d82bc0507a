"""The site: accepts connections, and checks requests before they are routed."""

from typing import Any

from twisted.web import server
from twisted.web.resource import Resource

from directus_tx.config import Settings
from directus_tx.errors import ApiError, BadRequest, NotFound
from directus_tx.http.channel import ApiChannel, TimeLimits
from directus_tx.http.client import Proxies
from directus_tx.http.connections import ConnectionLimits, Connections, Refusal
from directus_tx.http.payload import PayloadReader
from directus_tx.http.request import ApiRequest

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
    """Answers OPTIONS and refuses malformed requests. Passes all other requests to Klein."""

    isLeaf = True

    def __init__(self, app: Any) -> None:
        super().__init__()
        self.app = app
        self.klein = app.klein.resource()

    def render(self, request: Any) -> Any:
        refusal = _host_refusal(request)
        if refusal is not None:
            return self.app.refuse(request, refusal)
        override = request.getHeader(b"x-http-method-override")
        if override and request.method == b"POST" and override.upper() in OVERRIDES:
            request.method = override.upper()
        if request.method == b"OPTIONS":
            return self.app.preflight(request)
        refusal = _refusal(request)
        if refusal is not None:
            return self.app.refuse(request, refusal)
        if b"%2" in request.path and b"%2f" in request.path.lower():
            # Klein does not distinguish an escaped slash, in a key for example, from one that separates parts.
            request.postpath = [part.replace(b"/", b"\0") for part in request.postpath]
        return self.klein.render(request)


def path_argument(part: str) -> str:
    """Returns a part of a path with its slashes, from the part that was passed to Klein."""
    return part.replace("\0", "/")


def _host_refusal(request: Any) -> ApiError | None:
    """Returns the error for a request without a valid Host header (RFC 9112, section 3.2), None for other requests. HTTP/1.0 needs none."""
    hosts = request.requestHeaders.getRawHeaders(b"host")
    if not hosts:
        return BadRequest("The request has no Host header.") if request.clientproto == b"HTTP/1.1" else None
    if len(hosts) > 1:
        return BadRequest("The request has more than one Host header.")
    return None if _is_text(hosts[0]) else BadRequest("The Host header is not a valid host name.")


def _refusal(request: Any) -> ApiError | None:
    """Returns the error for a request that Klein would answer in HTML or not refuse, None for other requests."""
    # NUL is refused because PostgreSQL cannot store it in texts.
    if request.path.startswith(b"//") or not all(b"\0" not in part and _is_text(part) for part in request.postpath):
        return NotFound()
    return None


def _is_text(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
