"""The Klein app: every route, behind one wrapper that authenticates, calls the endpoint, and writes the answer.

Nothing else writes to a request. Whatever an endpoint raises becomes the API's error here.
"""

import base64
import ipaddress
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

from attrs import evolve
from klein import Klein
from twisted.internet import defer
from twisted.logger import Logger
from twisted.python.failure import Failure
from werkzeug.exceptions import HTTPException
from werkzeug.exceptions import MethodNotAllowed as WrongMethod

from directus_tx.accounts.tokens import identify
from directus_tx.context import PUBLIC, Accountability, Context, moment
from directus_tx.db.session import Session
from directus_tx.errors import (
    AddressNotAllowed,
    ApiError,
    InternalError,
    MethodNotAllowed,
    NotFound,
    Unauthorized,
)
from directus_tx.http import cors, encode
from directus_tx.http.endpoints import all_routes
from directus_tx.http.params import Params, parsed
from directus_tx.http.payload import PayloadReader
from directus_tx.http.routes import Answer, Call, Route, Services
from directus_tx.http.sending import ClientGone, Sender, Spool
from directus_tx.http.site import ApiSite, path_argument
from directus_tx.logs import log_request
from directus_tx.schema.model import Snapshot

log = Logger()

LARGE = 256 * 1024
"""Bytes from which a body is sent in pieces."""

CLIENT_GONE = 499
"""The status in the log of a stream whose client went away; it has been told another."""

REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}


class App:
    """The HTTP face of a server. `site` is what endpoints listen with; `running` holds the requests that are being answered."""

    def __init__(self, reactor: Any, services: Services) -> None:
        self.reactor = reactor
        self.services = services
        self.proxies = [ipaddress.ip_network(each, strict=False) for each in services.settings.server.trusted_proxies]
        self.cache_control = services.settings.server.cache_control.encode()
        self.payloads = PayloadReader(reactor, services.settings)
        self.running: set[defer.Deferred[Any]] = set()
        self.klein = Klein()
        self.klein.url_map.merge_slashes = False
        for route in all_routes():
            self._register(route)
        self.klein.handle_errors(HTTPException)(self._unrouted)
        self.klein.handle_errors(Exception)(self._failed)
        self.spool = Spool(services.settings.server.spool_size)
        self.site = ApiSite(self, reactor, services.settings, self.payloads)

    def _register(self, route: Route) -> None:
        def view(request: Any, **path: str) -> defer.Deferred[bytes]:
            return self._serve(route, request, {name: path_argument(part) for name, part in path.items()})

        self.klein.route(route.path, methods=[route.method], endpoint=f"{route.method} {route.path}")(view)

    # the way of a request

    def _serve(self, route: Route, request: Any, path: Mapping[str, str]) -> "defer.Deferred[bytes]":
        """The body of the answer. A client that goes away does not stop the work: what it has begun comes to its own end."""
        work = defer.Deferred.fromCoroutine(self._answer(route, request, path))
        if work.called:
            return work
        self.running.add(work)
        answer: defer.Deferred[bytes] = defer.Deferred(lambda _: None)

        def done(result: Any) -> None:
            self.running.discard(work)
            if not answer.called:
                answer.callback(result)

        work.addBoth(done)
        return answer

    async def _answer(self, route: Route, request: Any, path: Mapping[str, str]) -> bytes:
        public = True
        try:
            params = parsed(request.uri.partition(b"?")[2])
            call = Call(request, params, self.services, self.payloads, self.base, path)
            if route.in_project:
                public = await self._enter(route, call)
            else:
                public = self._token(request, params) is None
            try:
                return await self._respond(route, call, public)
            except ApiError as error:
                if not await self._has_new_schema(call, error):
                    raise
            return await self._respond(route, call, public)
        except InternalError:
            return self._failed(request, Failure())
        except ApiError as error:
            return self.refuse(request, error)
        except Exception:
            return self._failed(request, Failure())

    async def _respond(self, route: Route, call: Call, public: bool) -> bytes:
        """Calls the endpoint, and writes what it answers."""
        answer = await route.endpoint(call)
        if answer.stream is not None:
            return await self._stream(call.request, answer)
        body = self._write(call.request, answer, public)
        return body if len(body) < LARGE else await self._send(call.request, body)

    async def _has_new_schema(self, call: Call, error: ApiError) -> bool:
        """Whether a call is to be made once more, with the schema that it is then given: it failed because of a schema that others than
        the server have changed, and has changed nothing itself."""
        if not error.depends_on_schema or call.ctx is None or call.ctx.db.committed:
            return False
        schema = await call.project.verified(call.ctx.schema)
        if schema is call.ctx.schema:
            return False
        call.ctx = evolve(call.ctx, schema=schema)
        return True

    async def _enter(self, route: Route, call: Call) -> bool:
        """Gives a call its project and context, and says whether it comes from the public."""
        request = call.request
        project = self.services.projects.get(call.path["project"])
        request.project = call.project = project
        schema = project.current() or await project.snapshot()
        project.verify_in_time()
        session = Session(project.database)
        request.session = session
        now = moment(self.reactor.seconds())
        token = None if route.anonymous else self._token(request, call.params)
        bearer = None if token is None else await identify(project, session, token, now)
        agent = request.getHeader("user-agent") or ""
        if bearer is None:
            who = Accountability(None, None, self.ip(request), agent)
        else:
            who = Accountability(bearer.user, bearer.role, self.ip(request), agent)
        request.accountability = who
        if not route.anonymous:
            _check_address(schema, who)
        call.ctx = Context(
            project.key,
            schema,
            who,
            now,
            session,
            request.request_id,
        )
        return who.public

    def _token(self, request: Any, params: Params) -> str | None:
        """The token that a request carries: the parameter access_token, the user name of Basic, or Bearer; the first of them."""
        token = params.text("access_token")
        if token:
            return token
        header = request.getHeader("authorization")
        if not header:
            return None
        scheme, _, value = header.partition(" ")
        scheme, value = scheme.lower(), value.strip()
        if scheme == "bearer":
            return value or None
        if scheme == "basic":
            try:
                user, _, password = base64.b64decode(value, validate=True).decode().partition(":")
            except ValueError:
                return None
            return user if user and password in ("", user) else None
        return None

    def ip(self, request: Any) -> str:
        """Where a request comes from: the peer, or whom a trusted proxy says it speaks for."""
        peer = getattr(request.getClientAddress(), "host", None) or ""
        if self.proxies and self._trusted(peer):
            forwarded = [part.strip() for part in (request.getHeader("x-forwarded-for") or "").split(",") if part.strip()]
            # The proxy next to us has appended the address that it saw; what stands before may be anybody's invention.
            for address in reversed(forwarded):
                if not self._trusted(address):
                    return address
        return peer

    def _trusted(self, address: str) -> bool:
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(found in network for network in self.proxies)

    def base(self, request: Any) -> str:
        """The address that the client reached us at, without a path."""
        scheme = "https" if request.isSecure() else "http"
        if self.proxies and self._trusted(getattr(request.getClientAddress(), "host", None) or ""):
            scheme = request.getHeader("x-forwarded-proto") or scheme
        host = request.getHeader("host") or f"{request.getHost().host}:{request.getHost().port}"
        return f"{scheme}://{host}"

    # answers

    def _write(self, request: Any, answer: Answer, public: bool) -> bytes:
        for name, value in answer.headers.items():
            request.setHeader(name, value)
        if answer.text is not None:
            return self._finish(request, answer.status, answer.text.encode(), "text/html; charset=utf-8")
        if answer.document is not None:
            return self._finish(request, answer.status, encode.encoded(answer.document), "application/json")
        if answer.empty and not public:
            return self._finish(request, answer.status, b"", None)
        data, status = (..., 200) if answer.empty else (answer.data, answer.status)
        body = encode.envelope(data, answer.meta, public=public, messages=answer.messages)
        if request.project is not None and status == 200 and request.method in (b"GET", b"HEAD"):
            tag = encode.etag(body, answer.version, request.project.tag_key)
            request.setHeader(b"ETag", tag)
            wanted = request.getHeader(b"if-none-match")
            if wanted is not None and encode.has_tag(wanted, tag):
                return self._finish(request, 304, b"", None)
        return self._finish(request, status, body, "application/json")

    async def _stream(self, request: Any, answer: Answer) -> bytes:
        """Writes a body as it is made. What goes wrong before its first bytes is an error like others; after them all that can be said
        is that the body has no end."""
        assert answer.stream is not None
        sender = Sender(request, self.spool)
        started = False
        status = answer.status
        if request.method == b"HEAD":
            for name, value in answer.headers.items():
                request.setHeader(name, value)
            self._begin(request, status)
            log_request(log, request, status, self.reactor.seconds())
            return b""

        async def write(data: bytes) -> None:
            nonlocal started
            if not started:
                started = True
                for name, value in answer.headers.items():
                    request.setHeader(name, value)
                self._begin(request, answer.status)
                sender.begin()
            await sender.write(data)

        try:
            await answer.stream(write)
            await sender.finish()
        except ClientGone:
            status = CLIENT_GONE
        except Exception:
            if not started:
                raise
            status = InternalError.status
            log.failure("request {request_id} failed on its way", request_id=request.request_id)
            request.channel.abort("is owed the rest of an answer that failed")
        finally:
            sender.close()
        log_request(log, request, status, self.reactor.seconds())
        return b""

    async def _send(self, request: Any, body: bytes) -> bytes:
        """Sends a body in pieces, so that it is seen whether its client takes it."""
        sender = Sender(request, self.spool)
        try:
            sender.begin()
            await sender.write(body)
            await sender.finish()
        except ClientGone:
            pass
        finally:
            sender.close()
        return b""

    def refuse(self, request: Any, error: ApiError) -> bytes:
        """Writes an error."""
        for name, value in error.headers.items():
            request.setHeader(name, value)
        return self._finish(request, error.status, encode.refusal(error), "application/json")

    def refuse_body(self, request: Any, error: ApiError) -> bytes:
        """Writes the error of a body that is too large. The limit is the server's, the origins that may read so are the project's."""
        self._named_project(request)
        return self.refuse(request, error)

    def _failed(self, request: Any, failure: Failure) -> bytes:
        """Writes the error of what nobody has foreseen. The log explains the request id that the client is told."""
        log.failure("request {request_id} failed", failure, request_id=request.request_id)
        return self.refuse(request, InternalError(f"The server failed. The request's id is {request.request_id}."))

    def preflight(self, request: Any) -> bytes:
        """Answers OPTIONS, on any path."""
        cors.answer_preflight(request)
        return self._finish(request, 200, b"", None)

    def _begin(self, request: Any, status: int) -> None:
        """The status, and the headers that every answer has."""
        request.setResponseCode(status, REASONS.get(status))
        request.setHeader(b"X-Request-Id", request.request_id)
        request.setHeader(b"X-Content-Type-Options", b"nosniff")
        cors.allow_origin(request)
        if request.accountability is not None and not request.accountability.public and self.cache_control:
            request.setHeader(b"Cache-Control", self.cache_control)

    def _finish(self, request: Any, status: int, body: bytes, content_type: str | None) -> bytes:
        self._begin(request, status)
        if content_type is None:
            request.responseHeaders.removeHeader(b"content-type")
            request.defaultContentType = None
        else:
            request.setHeader(b"Content-Type", content_type)
        if len(body) >= encode.GZIP_FROM:
            request.responseHeaders.addRawHeader(b"Vary", b"Accept-Encoding")
            if encode.takes_gzip(request.getHeader(b"accept-encoding") or b""):
                body = encode.compressed(body)
                request.setHeader(b"Content-Encoding", b"gzip")
        if status not in (204, 304):
            request.setHeader(b"Content-Length", b"%d" % len(body))
        log_request(log, request, status, self.reactor.seconds())
        return body

    def _unrouted(self, request: Any, failure: Failure) -> bytes:
        """Answers what no route does. Whether the project exists comes first: of a project that does not, nothing exists."""
        error: ApiError = MethodNotAllowed() if isinstance(failure.value, WrongMethod) else NotFound()
        if isinstance(error, NotFound) and request.path.split(b"/")[1:2] == [b"server"]:
            error = Unauthorized()
        return self.refuse(request, self._named_project(request) or error)

    def _named_project(self, request: Any) -> ApiError | None:
        """Notes the project that a path names; the error where it names one that is not there."""
        first = unquote(request.path.decode("utf-8", "replace").lstrip("/").partition("/")[0])
        if first and first != "server" and first not in UNPREFIXED:
            try:
                request.project = self.services.projects.get(first)
            except ApiError as unknown:
                return unknown
        return None


def _check_address(schema: Snapshot, who: Accountability) -> None:
    """Raises AddressNotAllowed where a role may be used from other addresses only."""
    role = schema.roles.get(PUBLIC if who.public else who.role or 0)
    if role is not None and role["ip_whitelist"] and who.ip not in role["ip_whitelist"]:
        raise AddressNotAllowed


UNPREFIXED = frozenset({"types", "interfaces", "layouts", "modules"})
