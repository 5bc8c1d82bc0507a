"""The Klein app. It registers every route in a wrapper that authenticates the caller, calls the endpoint and writes the answer. The site
finds the route of a request in the map of the Klein app (`matching`), which is faster than to ask Klein, and calls `App.serve`.

Only this module writes to requests. It answers all exceptions of endpoints as errors of the API.
"""

from collections.abc import Mapping
from copy import copy
from datetime import datetime
from functools import partial
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

from attrs import evolve
from klein import Klein
from twisted.internet import defer
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.server import NOT_DONE_YET

from directus_tx.access import access_of
from directus_tx.access.addresses import check_address
from directus_tx.accounts import sessions, two_factor
from directus_tx.accounts.tokens import Bearer, can_be_guessed, identify
from directus_tx.context import PUBLIC, Accountability, Context
from directus_tx.db.session import Session
from directus_tx.errors import (
    ApiError,
    ClientGone,
    InternalError,
    NotFound,
    OneTimePasswordRequired,
    ServiceUnavailable,
    TooManyRequests,
    Unauthorized,
    drop_tracebacks,
)
from directus_tx.files.reading import are_private
from directus_tx.http import admin_app, cors, encode, extension_files, tus
from directus_tx.http.admin_app import AdminApp
from directus_tx.http.answers import Answer, Envelope, Redirect, Streamed
from directus_tx.http.client import Proxies, named_project, token_of
from directus_tx.http.custom import CUSTOM, log_failure
from directus_tx.http.endpoints import all_routes
from directus_tx.http.extension_files import ExtensionFiles
from directus_tx.http.operations import ANY, Operation
from directus_tx.http.params import QueryStrings
from directus_tx.http.payload import PayloadReader
from directus_tx.http.rate_limits import RequestLimits
from directus_tx.http.refusals import rendered_refusal
from directus_tx.http.routes import Call, Caller, Route, Services
from directus_tx.http.sending import Sender
from directus_tx.http.site import ADMIN_APP, EXTENSION_FILES, ApiSite, parts_of
from directus_tx.http.spool import Spool
from directus_tx.logs import log_request
from directus_tx.plugins.context import Response
from directus_tx.schema.model import Snapshot

log = Logger()

SCHEMA_ATTEMPTS = 4
"""The maximum number of times that an endpoint is called while the schema changes."""

LARGE = 256 * 1024
"""Size in bytes from which a body is sent in pieces."""

CLIENT_GONE = 499
"""The status in the log of a request whose client has disconnected. A status that was already sent to the client is another one."""

REFUSED = (401, 403, 404)
"""The statuses with which a guarded route refuses a wrong secret."""

REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}


NO_SPOOL = Spool(0, files=0)
"""For answers that are read when the client can receive them."""


class _HeadAnswered(Exception):
    """Ends the reading of a body of which a HEAD request wants only the headers."""


class App:
    """The app of a server. `site` is the factory to listen with; `running` holds the requests that are being answered. When the server
    stops, `closing` is set: connections are closed after their answers."""

    def __init__(self, reactor: Any, services: Services) -> None:
        self.reactor = reactor
        self.services = services
        self.proxies = Proxies(services.settings.server.trusted_proxies)
        self.throttle = services.throttle
        directory = services.settings.server.admin_app
        self.admin_app = AdminApp(directory, services.settings.server.admin_app_policy) if directory else None
        self.limits = RequestLimits(services.settings.rate_limits, self.proxies, reactor.seconds)
        self.cache_control = services.settings.server.cache_control.encode()
        hsts = services.settings.server.hsts_max_age
        self.hsts = f"max-age={hsts}".encode() if hsts else b""
        self.payloads = PayloadReader(reactor, services.settings)
        self.query_strings = QueryStrings()
        self.running: set[defer.Deferred[Any]] = set()
        self.closing = False
        self.klein = Klein()
        self.klein.url_map.merge_slashes = False
        self.routes: dict[str, Route] = {}
        """The routes by their endpoints in the map of the Klein app."""
        for route in (*all_routes(), *services.custom):
            self._register(route)
        self.extension_files = ExtensionFiles(services.extensions, services.settings.server.admin_app_policy)
        # Klein does not know directories: the site passes on all paths that begin like them.
        self.directories = {extension_files.FIRST_PART: EXTENSION_FILES}
        """The endpoints of directories of files, by the first part of their paths."""
        about = Operation("A file of an extension", ANY, media_type="text/javascript")
        self.routes[EXTENSION_FILES] = Route("GET", "/extensions", self._find_extension_file, Caller.ANONYMOUS, about)
        if self.admin_app is not None:
            self.directories[admin_app.FIRST_PART] = ADMIN_APP
            about = Operation("A file of the admin app", ANY, media_type="text/html")
            self.routes[ADMIN_APP] = Route("GET", "/admin", self._find_in_admin_app, Caller.ANONYMOUS, about)
        self.spool = Spool(services.settings.server.spool_size)
        self.site = ApiSite(self, reactor, services.settings, self.payloads, self.proxies)

    def _register(self, route: Route) -> None:
        endpoint = f"{route.method} {route.path}"
        self.routes[endpoint] = route

        def view(request: Any, **path: str) -> Any:
            return self.serve(endpoint, request, path)

        self.klein.route(route.path, methods=[route.method], endpoint=endpoint)(view)

    # handling of requests

    def serve(self, endpoint: str, request: Any, path: Mapping[str, str]) -> int:
        """Answers a request. If the client disconnects, the reads of a GET are cancelled; other requests run to their end."""
        route = self.routes[endpoint]
        work = defer.Deferred.fromCoroutine(self._complete(route, request, path))
        if not work.called:
            self.running.add(work)
            request.abandonable = route.method == "GET"
        work.addBoth(self._ended, work)
        return NOT_DONE_YET

    async def _find_in_admin_app(self, call: Call) -> Answer | Streamed:
        """The endpoint of the paths that begin with /admin. /admin itself is redirected."""
        parts = (parts_of(call.request) or [])[1:]
        assert self.admin_app is not None
        return await self.admin_app.answer(parts, call.request.getHeader(b"if-none-match")) if parts else Redirect("./admin/")

    async def _find_extension_file(self, call: Call) -> Answer | Streamed:
        """The endpoint of the paths that begin with /extensions."""
        parts = (parts_of(call.request) or [])[1:]
        return await self.extension_files.answer(parts, call.request.getHeader(b"if-none-match"))

    def _ended(self, result: Any, work: "defer.Deferred[None]") -> None:
        self.running.discard(work)
        if isinstance(result, Failure):
            log.failure("an answer cannot be written", result)

    async def _complete(self, route: Route, request: Any, path: Mapping[str, str]) -> None:
        """Makes the answer of a request and sends it, unless the client has disconnected."""
        try:
            body = await self._answer(route, request, path)
        except GeneratorExit:
            raise
        except BaseException:
            body = self._failed(request, Failure())
        request.close_body()
        if not request.gone:
            request.complete(body)

    async def _answer(self, route: Route, request: Any, path: Mapping[str, str]) -> bytes:
        call: Call | None = None
        try:
            ip = self.proxies.ip(request)
            params = self.query_strings.parsed(ip, request.uri.partition(b"?")[2])
            call = Call(request, params, self.services, self.payloads, self.proxies, path, about=route.about)
            await self._enter(route, call, ip)
            if route.guarded:
                self.throttle.check_address(call.project_key, self.proxies.network(request))
            route.check(call)
            failure: Exception | None = None
            for _ in range(SCHEMA_ATTEMPTS):
                try:
                    return await self._respond(route, call)
                except Exception as error:
                    # A snapshot that has been read since the request began may be the reason of a refusal.
                    if failure is not None and _follows_from_snapshot(error):
                        raise
                    if not await self._has_new_schema(call, error):
                        raise
                    failure = error
            raise ServiceUnavailable("The schema of the project is being changed; try again.") from failure
        except GeneratorExit:
            raise
        except BaseException as error:
            # Also what plugins raise and Python derives from BaseException, such as SystemExit: each request is answered.
            if call is not None and (call.receiving is not None or call.addition is not None):
                await call.drop_content()
            if route.guarded and call is not None and _is_wrong_secret(error):
                await self._attempt_failed(call)
            body = self._answer_failed(route, request, error, None if call is None else call.ctx)
            drop_tracebacks(error)
            return body
        finally:
            if call is not None and call.trying is not None:
                await call.trying.aclose()

    async def _attempt_failed(self, call: Call) -> None:
        """Counts a failed attempt to try a secret with a guarded route."""
        network = self.proxies.network(call.request)
        if call.account is None:
            self.throttle.fail_address(call.project_key, network)
        else:
            await self.throttle.fail_account(call.ctx, call.account, network)

    def _answer_failed(self, route: Route, request: Any, error: BaseException, ctx: Context | None) -> bytes:
        """Writes the error for an exception. Returns no bytes if the client has disconnected."""
        if isinstance(error, ClientGone):
            self._log(request, CLIENT_GONE)
            return b""
        if isinstance(error, ApiError) and not isinstance(error, InternalError):
            return self.refuse(request, error if ctx is None else access_of(ctx).naming_denied(error))
        if not isinstance(error, InternalError):
            log_failure(route, request, error)
        plugins = self.services.items.plugins
        filters = [] if isinstance(error, InternalError) else plugins.implementing(ctx, "item_read", "response")
        if filters:
            # An answer that cannot be encoded has a value in it that a filter may have put there.
            text = "request {request_id}: plugins that filter answers: {names}"
            log.error(text, request_id=request.request_id, names=", ".join(filters))
        plugins.report("application_error", ctx, error=error, request_id=request.request_id)
        return self._failed(request, Failure(error))

    async def _respond(self, route: Route, call: Call) -> bytes:
        """Calls the endpoint and writes its answer."""
        answer = await route.endpoint(call)
        if call.ctx is not None and "response" in self.services.items.plugins.named:
            answer = await self._filtered(route, call, answer)
        if isinstance(answer, Streamed):
            return await self._stream(route, call, answer)
        _set_headers(call.request, answer.headers)
        body = await self._write(call.request, answer, call.public)
        return body if len(body) < LARGE else await self._send(call.request, body)

    async def _filtered(self, route: Route, call: Call, answer: Answer | Streamed) -> Answer | Streamed:
        """Returns the answer as the filters of plugins leave it."""
        plugins = self.services.items.plugins
        if not plugins.has(call.ctx, "response"):
            return answer
        data, meta = (answer.data, answer.meta) if isinstance(answer, Envelope) else (None, None)
        found = Response(call.request.method.decode(), route.path, call.path, data, meta, dict(answer.headers))
        await plugins.call("response", call.ctx, response=found)
        if isinstance(answer, Envelope):
            return evolve(answer, data=found.data, meta=found.meta, headers=found.headers)
        if found.headers != answer.headers:
            answer = copy(answer)
            # Answers are frozen, and of some the headers are made of other attributes.
            object.__setattr__(answer, "headers", found.headers)
        return answer

    async def _has_new_schema(self, call: Call, error: Exception) -> bool:
        """Whether to call the endpoint again, because the schema has changed since the call began and the call has not committed
        anything. In that case, sets the new schema in the context of the call. An exception that is not an ApiError may be caused by a
        row that does not fit the old schema."""
        if call.ctx is None or call.ctx.db.committed or isinstance(error, ClientGone):
            return False
        if isinstance(error, ApiError):
            if not error.depends_on_schema:
                return False
            schema = await call.project.verified(call.ctx.schema)
        elif call.request.startedWriting:
            return False
        else:
            try:
                schema = await call.project.verified(call.ctx.schema)
            except ApiError:
                return False
        if schema is call.ctx.schema:
            return False
        call.ctx = evolve(call.ctx, schema=schema)
        return True

    async def _enter(self, route: Route, call: Call, ip: str) -> None:
        """Sets the project and the context of a call, if its route needs them. *ip* is the address of the client."""
        request = call.request
        if route.in_project:
            key, token = call.path["project"], token_of(request, call.params)
        elif route.caller in (Caller.SIGNED_IN, Caller.ADMINISTRATOR):
            key, token = named_project(request, call.params)
        else:
            return
        request.project = call.project = project = self.services.projects.get(key)
        schema = project.current() or await project.snapshot()
        project.verify_in_time()
        session = Session(project.database, caller=ip)
        request.use(session)
        now = self.services.now()
        anonymous = route.caller is Caller.ANONYMOUS or (route.caller is Caller.READER and not are_private(schema))
        if anonymous:
            bearer = None
        elif token is not None:
            bearer = await self._by_token(request, session, token, now)
        else:
            bearer = await self._by_cookie(request, session, schema, now)
        if bearer is not None and two_factor.is_missing(schema, bearer) and route.caller is not Caller.ACTIVATING:
            bearer = None
        agent = request.getHeader("user-agent") or ""
        if bearer is None:
            who = Accountability(None, None, ip, agent)
        else:
            session.set_caller(bearer.user)
            if self.limits.users is not None:
                self.limits.check_user(request, project.key, bearer.user)
            who = Accountability(bearer.user, bearer.role, ip, agent, bearer.session, bearer.scope, bearer.credential)
        request.accountability = who
        if not anonymous:
            check_address(schema, PUBLIC if who.public else who.role, who.ip)
        call.ctx = Context(
            project.key,
            schema,
            who,
            now,
            session,
            project.keys,
            request.request_id,
            partial(_site, self.proxies, request),
            project.config.plugins,
        )

    async def _by_token(self, request: Any, session: Session, token: str, now: datetime) -> Bearer | None:
        """Returns the user of a token, or None. Raises TooManyRequests for a static token that is not known to belong to a user if too many
        attempts from the address have failed."""
        project = request.project
        if token in project.accounts or not can_be_guessed(token):
            return await identify(project, session, token, now)
        network = self.proxies.network(request)
        async with self.throttle.trying_token(project.key, network, token):
            bearer = await identify(project, session, token, now)
            if bearer is None:
                self.throttle.fail_token(project.key, network, token)
            else:
                self.throttle.accept_token(project.key, token)
            return bearer

    async def _by_cookie(self, request: Any, session: Session, schema: Snapshot, now: datetime) -> Bearer | None:
        """Returns the user of the session cookie of a request, or None. Sets the cookie again in the answer, so that the browser keeps it
        for as long as the session lasts."""
        project, cookies = request.project, self.services.cookies
        cookie = cookies.read(request, project)
        bearer = None if cookie is None else await sessions.identify(project, session, cookie, schema, now)
        if cookie is not None and bearer is not None:
            cookies.set(request, project, cookie, sessions.lifetime(schema))
        return bearer

    async def is_user(self, request: Any) -> bool:
        """Whether a request whose body is being received has the token of an active user. Raises ServiceUnavailable if the database cannot
        be asked."""
        try:
            params = self.query_strings.parsed(self.proxies.ip(request), request.uri.partition(b"?")[2])
            first = _first_part(request.path)
            key, token = named_project(request, params) if first in UNPREFIXED else (first, token_of(request, params))
            request.project = project = self.services.projects.get(key)
        except ApiError:
            # The request is refused for this when it is answered.
            return False
        session, now = Session(project.database), self.services.now()
        cookie = None if token is not None else self.services.cookies.read(request, project)
        if token is None and cookie is None:
            return False
        schema = project.current() or await project.snapshot()
        if token is not None:
            try:
                bearer = await self._by_token(request, session, token, now)
            except TooManyRequests:
                return False
        else:
            bearer = None if cookie is None else await sessions.identify(project, session, cookie, schema, now)
        return bearer is not None and not two_factor.is_missing(schema, bearer)

    # answers

    async def _write(self, request: Any, answer: Answer, public: bool) -> bytes:
        found = answer.render(public=public)
        if isinstance(answer, Envelope) and answer.error is not None:
            request.error_code = answer.error.code
        large = len(found.body) >= LARGE
        if isinstance(answer, Envelope) and request.project is not None and request.method in (b"GET", b"HEAD"):
            key = request.project.tag_key
            digest = await encode.digest_in_slices(self.reactor, found.body, key) if large else encode.digest(found.body, key)
            tag = encode.etag(digest, answer.version, key)
            request.setHeader(b"ETag", tag)
            wanted = request.getHeader(b"if-none-match")
            if wanted is not None and encode.has_tag(wanted, tag):
                return self._finish(request, 304, b"", None)
        packs = large and found.compressible and _takes_gzip(request)
        packed = await encode.Packer(self.reactor).whole(found.body) if packs else None
        return self._finish(request, found.status, found.body, found.content_type, packed, compressible=found.compressible)

    async def _stream(self, route: Route, call: Call, answer: Streamed) -> bytes:
        """Writes a body while its data is read. An exception before the first bytes is answered as an error. After them the status is
        sent, so the connection is closed and the body stays incomplete."""
        request = call.request
        sender = Sender(request, self.spool if answer.spooled else NO_SPOOL)
        packed = "Content-Encoding" in answer.headers or not answer.compressible
        packer = encode.Packer(self.reactor) if _takes_gzip(request) and not packed else None
        started = False
        status = answer.status

        async def write(data: bytes) -> None:
            nonlocal started
            if not started:
                started = True
                self._begin(request, status)
                _set_headers(request, answer.headers)
                request.setHeader(b"Content-Type", answer.content_type)
                request.responseHeaders.addRawHeader(b"Vary", b"Accept-Encoding")
                if answer.length is not None:
                    request.setHeader(b"Content-Length", b"%d" % answer.length)
                if packer is not None:
                    request.setHeader(b"Content-Encoding", b"gzip")
                if request.method == b"HEAD":
                    raise _HeadAnswered
                sender.begin()
            await sender.write(data if packer is None else await packer.add(data))

        try:
            await answer.write(write, public=call.public)
            if packer is not None:
                await sender.write(packer.end())
            await sender.finish()
        except _HeadAnswered:
            pass
        except ClientGone:
            status = CLIENT_GONE
        except GeneratorExit:
            raise
        except BaseException as error:
            if not started:
                raise
            status = self._break_off(route, call, error)
        finally:
            sender.close()
        self._log(request, status)
        return b""

    def _break_off(self, route: Route, call: Call, error: BaseException) -> int:
        """Closes the connection for an exception after the first bytes of an answer, so that the client finds the body incomplete. Logs the
        reason, with a traceback if it is not an error of the API. Returns the status for the log."""
        request = call.request
        told = error if isinstance(error, ApiError) and not isinstance(error, InternalError) else None
        if told is None:
            log_failure(route, request, error)
            if not (isinstance(error, InternalError) and error.logged):
                log.failure("request {request_id} failed while its answer was being sent", request_id=request.request_id)
            self.services.items.plugins.report("application_error", call.ctx, error=error, request_id=request.request_id)
        else:
            request.error_code = told.code
        reason = "" if told is None else f": {told.message}"
        if request.channel is not None:
            request.channel.abort(f"cannot be sent the rest of the answer to request {request.request_id}{reason}")
        drop_tracebacks(error)
        return InternalError.status if told is None else told.status

    async def _send(self, request: Any, body: bytes) -> bytes:
        """Sends a body in pieces, so that a client that stops receiving is noticed."""
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

    def _log(self, request: Any, status: int) -> None:
        who = request.accountability
        log_request(log, request, status, self.reactor.seconds(), self.proxies.ip(request) if who is None else who.ip)

    def refuse(self, request: Any, error: ApiError) -> bytes:
        """Writes an error."""
        request.error_code = error.code
        _set_headers(request, error.headers)
        answer = rendered_refusal(request, error, self.services.settings.scim)
        return self._finish(request, answer.status, answer.body, answer.content_type)

    def refuse_limited(self, request: Any, error: ApiError) -> bytes:
        """Writes the error for a request that exceeds a limit on requests. The CORS origins of the project apply."""
        self._named_project(request)
        return self.refuse(request, error)

    def refuse_body(self, request: Any, error: ApiError) -> bytes:
        """Writes the error for a body that is too large. The project of the path is set first, because its CORS origins apply."""
        self._named_project(request)
        return self.refuse(request, error)

    def _failed(self, request: Any, failure: Failure) -> bytes:
        """Writes InternalError for an unexpected exception. The answer has the request id, under which the log has the traceback."""
        error = failure.value
        if not (isinstance(error, InternalError) and error.logged):
            log.failure("request {request_id} failed", failure, request_id=request.request_id)
        return self.refuse(request, InternalError(f"The server failed. The id of the request is {request.request_id}."))

    def preflight(self, request: Any) -> bytes:
        """Answers OPTIONS on any path."""
        cors.answer_preflight(request)
        if tus.is_path(request.path):
            for name, value in tus.options(self.services.settings.files.max_size).items():
                request.setHeader(name, value)
        return self._finish(request, 200, b"", None)

    def _begin(self, request: Any, status: int) -> None:
        """Sets the status and the headers that every answer has, besides those of `headers`, which the channel adds."""
        request.setResponseCode(status, REASONS.get(status))
        request.setHeader(b"X-Request-Id", request.request_id)
        cors.allow_origin(request)
        if self.hsts and self.proxies.base(request).startswith("https:"):
            request.setHeader(b"Strict-Transport-Security", self.hsts)
        if self.closing and request.channel is not None:
            request.setHeader(b"Connection", b"close")
            request.channel.persistent = False
        who = request.accountability
        if who is not None and not who.public and self.cache_control and not request.responseHeaders.hasHeader(b"Cache-Control"):
            request.setHeader(b"Cache-Control", self.cache_control)
        if tus.is_path(request.path):
            request.setHeader(b"Tus-Resumable", tus.VERSION)
            request.setHeader(b"Cache-Control", b"no-store")

    def _finish(
        self,
        request: Any,
        status: int,
        body: bytes,
        content_type: str | None,
        packed: bytes | None = None,
        *,
        compressible: bool = True,
    ) -> bytes:
        """Sets the headers and returns the body to send, compressed if it is *compressible* and the client accepts that. *packed* is the
        compressed body if it has been made already."""
        self._begin(request, status)
        if content_type is None:
            request.responseHeaders.removeHeader(b"content-type")
            request.defaultContentType = None
        else:
            request.setHeader(b"Content-Type", content_type)
        if compressible and len(body) >= encode.GZIP_FROM:
            request.responseHeaders.addRawHeader(b"Vary", b"Accept-Encoding")
            if _takes_gzip(request):
                body = encode.compressed(body) if packed is None else packed
                request.setHeader(b"Content-Encoding", b"gzip")
        if status not in (204, 304):
            request.setHeader(b"Content-Length", b"%d" % len(body))
        self._log(request, status)
        return body

    def refuse_unrouted(self, request: Any, error: ApiError) -> bytes:
        """Writes the error for a request that matches no route. If the project does not exist, that error takes precedence."""
        if isinstance(error, NotFound) and request.path.split(b"/")[1:2] == [b"server"]:
            error = Unauthorized()
        return self.refuse(request, self._named_project(request) or error)

    def _named_project(self, request: Any) -> ApiError | None:
        """Sets the project that the path names. Returns the error if that project does not exist."""
        first = _first_part(request.path)
        if first not in UNPREFIXED:
            try:
                request.project = self.services.projects.get(first)
            except ApiError as unknown:
                return unknown
        return None


def _follows_from_snapshot(error: Exception) -> bool:
    """Whether an error is a refusal that the snapshot alone has caused, for example because of an unknown field, and not the database."""
    return isinstance(error, ApiError) and error.status < 500 and error.diagnostics is None


def _is_wrong_secret(error: BaseException) -> bool:
    """Whether a guarded route has refused a wrong secret. A client that asks first whether a one-time password is needed has guessed
    nothing."""
    return isinstance(error, ApiError) and error.status in REFUSED and not isinstance(error, OneTimePasswordRequired)


def _set_headers(request: Any, headers: Mapping[str, str]) -> None:
    """Gives an answer headers. What it varies by is added to what other parts of the server have named."""
    for name, value in headers.items():
        if name == "Vary":
            request.responseHeaders.addRawHeader(name.encode(), value.encode())
        else:
            request.setHeader(name, value)


def _takes_gzip(request: Any) -> bool:
    return encode.takes_gzip(request.getHeader(b"accept-encoding") or b"")


def _site(proxies: Proxies, request: Any) -> str:
    """Returns the URL of the project of a request that the client uses. (A method of the call would make a cycle of the call and its
    context.)"""
    return f"{proxies.base(request)}/{request.project.key}"


def _first_part(path: bytes) -> str:
    """Returns the first part of a path: a project, or one of UNPREFIXED."""
    return unquote(path.decode("utf-8", "replace").lstrip("/").partition("/")[0])


UNPREFIXED = frozenset({"", CUSTOM, "server", "uploads", "health", "types", "interfaces", "layouts", "modules"})
"""The first parts of paths that are not in a project."""
