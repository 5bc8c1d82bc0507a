"""The interface of endpoints: the routes, who may call them, and the `Call` that is passed to an endpoint."""

import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import datetime
from enum import Enum
from typing import Any

from attrs import evolve, field, frozen, mutable

from directus_tx.accounts.passwords import PasswordHasher
from directus_tx.accounts.sso.service import SingleSignOn
from directus_tx.accounts.throttle import Throttle
from directus_tx.config import Settings
from directus_tx.context import Accountability, Context, current_time
from directus_tx.errors import ApiError, InvalidPayload, InvalidRequest, NotFound, Unauthorized, UpdateForbidden
from directus_tx.extensions import Extensions
from directus_tx.files import quota
from directus_tx.files.contents import Content
from directus_tx.files.fairness import Owner
from directus_tx.files.intake import Intake, Receiving
from directus_tx.files.resumable import Addition
from directus_tx.files.small import SmallContents
from directus_tx.files.thumbnails import Thumbnails
from directus_tx.graphql.service import GraphQL
from directus_tx.health import Health
from directus_tx.http import cursors
from directus_tx.http.answers import Answer, Empty, Envelope, ItemStream, Streamed
from directus_tx.http.client import Proxies, token_of
from directus_tx.http.cookies import Cookies
from directus_tx.http.encode import precondition
from directus_tx.http.form_stream import Form, FormStream
from directus_tx.http.operations import Json, Operation
from directus_tx.http.params import Params, cursor_links, links
from directus_tx.http.payload import PayloadReader, is_form, typed
from directus_tx.items import Cursors, LongList, Result
from directus_tx.items.service import Items
from directus_tx.outgoing.bodies import Take
from directus_tx.projects.project import Project
from directus_tx.projects.registry import Projects
from directus_tx.query import Query, WriteOptions


@frozen
class Services:
    """The services that endpoints use. `now` returns the time of day, aware, in UTC, without microseconds."""

    projects: Projects
    items: Items
    hasher: PasswordHasher
    settings: Settings
    now: Callable[[], datetime] = current_time
    health: Health = field()
    cookies: Cookies = field()
    throttle: Throttle = field()
    graphql: GraphQL = field()
    sign_on: SingleSignOn = field(kw_only=True)
    intake: Intake = field(kw_only=True)
    thumbnails: Thumbnails = field(kw_only=True)
    small: SmallContents = field(kw_only=True)
    extensions: Extensions = field(factory=Extensions, kw_only=True)
    custom: "tuple[Route, ...]" = field(kw_only=True, default=())
    """The routes of plugins."""

    @health.default
    def _health(self) -> Health:
        return Health(self.projects)

    @small.default
    def _small(self) -> SmallContents:
        return SmallContents(self.settings.files.small_cache_size)

    @cookies.default
    def _cookies(self) -> Cookies:
        return Cookies(self.settings.sessions, Proxies(self.settings.server.trusted_proxies))

    @graphql.default
    def _graphql(self) -> GraphQL:
        return GraphQL(self.settings.graphql, self.settings.limits)

    @throttle.default
    def _throttle(self) -> Throttle:
        return Throttle(self.settings.rate_limits, time.monotonic)


class Caller(Enum):
    """The callers that may call a route. What they may read and write depends on permissions."""

    ANONYMOUS = "anonymous"
    """Anyone. A token is ignored."""
    READER = "anyone, or readers"
    """Anyone who reads the content of a file, and a token is ignored; anyone, signed in or not, if the project has private assets."""
    PUBLIC = "public"
    """Anyone, signed in or not."""
    SIGNED_IN = "signed in"
    """Users of the project."""
    ACTIVATING = "signed in or activating"
    """Users of the project. Other routes treat users as the public as long as they have not activated the two-factor authentication that
    their role enforces."""
    ADMINISTRATOR = "administrator"
    """Users with the administrator role."""
    SUPER_ADMIN = "super admin"
    """Callers that send the super admin token of the server in the parameter super_admin_token."""
    SUPER_ADMIN_BY_PAYLOAD = "super admin, by the payload"
    """Callers that send the token in the payload. The service checks it after the rest of the payload."""


_SIGNED_IN = (Caller.SIGNED_IN, Caller.ACTIVATING)


@mutable
class Call:
    """A request, as passed to an endpoint. `ctx` and `project` are set if the path has a project or the caller must be signed in. `account`
    is set by `name_account`, and `trying` is closed when the secret has been tried."""

    request: Any
    params: Params
    services: Services
    payloads: PayloadReader
    proxies: Proxies
    path: Mapping[str, str]
    ctx: Context = None  # type: ignore[assignment]
    project: Project = None  # type: ignore[assignment]
    account: str | None = None
    trying: AsyncExitStack | None = None
    form: FormStream | None = None
    """The form that may contain a file, once it is being read."""
    receiving: Receiving | None = None
    """The content of a file that the request stores. It is deleted if the request fails."""
    about: Operation | None = None
    """The description of the route."""
    addition: Addition | None = None
    """The bytes that the request adds to an upload by the tus protocol, until it has succeeded."""

    @property
    def base(self) -> str:
        """The URL that the client uses, without a path: "https://example.com"."""
        return self.proxies.base(self.request)

    @property
    def uploads(self) -> bool:
        """Whether the body is a form that may contain a file."""
        return self.request.stream is not None

    async def receive(self, storage: Any, allowed: Sequence[str], name: str | None = None, former: int = 0) -> Form:
        """Reads the body, which `uploads`, and stores its file. If the endpoint is called again, returns the same form. *allowed* are the
        media types of files; if the file replaces the content of another one, *name* is the name of that and *former* its size. Raises the
        errors of `FormStream.read`."""
        if self.form is None:
            limit = self.project.quota
            room = await quota.room(self.ctx.db, limit, former)

            def begin(filename: str) -> Receiving:
                self.receiving = self.services.intake.begin(storage, name or filename, allowed, limit, room, owner=self.owner)
                return self.receiving

            limits = self.payloads.public if self.public else self.payloads.signed_in
            self.form = FormStream(self.request.stream, self.request.getHeader("content-type") or "", limits, begin)
        return await self.form.read()

    async def store(
        self, storage: Any, allowed: Sequence[str], name: str, send: Callable[[Take], Awaitable[None]], former: int = 0
    ) -> Content:
        """Stores the content of a file with this name, and returns it. If the endpoint is called again, returns the same content. *send*
        passes its bytes to its argument. *former* is the size of the content that it replaces. Raises the errors of `Receiving` and
        *send*."""
        if self.receiving is None:
            limit = self.project.quota if self.addition is None else 0
            room = await quota.room(self.ctx.db, limit, former)
            self.receiving = self.services.intake.begin(storage, name, allowed, limit, room, owner=self.owner)
            await send(self.receiving.write)
        return await self.receiving.finish()

    def keep_content(self) -> None:
        """Call this when the stored content belongs to a file."""
        if self.receiving is not None:
            self.receiving.end()
            self.receiving = None

    async def drop_content(self) -> None:
        """Deletes the content that has been stored, because the request has failed. If nobody knows whether the file has been written, the
        content stays: `directus files check` finds it if it belongs to no file. Raises nothing."""
        receiving, self.receiving = self.receiving, None
        addition, self.addition = self.addition, None
        unknown = self.ctx is not None and self.ctx.db.committed
        if receiving is not None:
            if unknown:
                receiving.end()
            else:
                await receiving.abort()
        if addition is not None:
            await addition.abandon(kept=unknown)

    @property
    def public(self) -> bool:
        """Whether the caller is not signed in. Without a context: whether the request has no token."""
        return token_of(self.request, self.params) is None if self.ctx is None else self.ctx.accountability.public

    @property
    def project_key(self) -> str:
        """The key of the project, empty for routes that are not in a project."""
        return "" if self.project is None else self.project.key

    @property
    def owner(self) -> Owner:
        """The project and who makes the request, for what callers share."""
        return self.project.key, self.ctx.db.caller

    @property
    def items(self) -> Items:
        """The service of items."""
        return self.services.items

    def query(self) -> Query:
        """Returns the query. Raises the errors of `Params.query`, and InvalidRequest for an invalid cursor."""
        query, text = self.params.query(), self.params.text("cursor")
        return query if text is None else evolve(query, cursor=cursors.read(text, self.project.cursor_key))

    def keys(self, text: str) -> list[str]:
        """Returns the comma-separated keys of a part of the path. Raises NotFound if there are none, InvalidRequest if there are too
        many."""
        most = self.services.settings.limits.max_keys
        if text.count(",") >= most:
            raise InvalidRequest(f"A path may contain up to {most} keys (limits.max_keys).")
        keys = [key.strip() for key in text.split(",") if key.strip()]
        if not keys:
            raise NotFound("The path does not contain a key.")
        return keys

    def options(self) -> WriteOptions:
        """Returns the options of a write from the query string and the header If-Match."""
        options = self.params.options()
        wanted = self.request.getHeader(b"if-match")
        return options if wanted is None else evolve(options, if_match=precondition(wanted, self.project.tag_key))

    def check_super_admin(self, token: str | None) -> None:
        """Raises InvalidRequest if the super admin token is missing, Unauthorized if it is wrong, and TooManyRequests if too many from the
        address of the client were wrong."""
        throttle, network = self.services.throttle, self.proxies.network(self.request)
        throttle.check_address("", network)
        try:
            self.services.projects.check_super_admin(token)
        except Unauthorized:
            throttle.fail_address("", network)
            raise

    async def name_account(self, email: object) -> None:
        """Says for which account a secret is tried by a request to a guarded route. If it fails, it counts as a failed attempt of the
        account. Waits while so many attempts are running that all others may fail. Raises TooManyRequests if there have been too many."""
        if isinstance(email, str) and self.account is None:
            trying = AsyncExitStack()
            network = self.proxies.network(self.request)
            await trying.enter_async_context(self.services.throttle.trying_account(self.ctx, email, network))
            self.account, self.trying = email, trying

    async def body(self) -> dict[str, Any] | list[Any]:
        """Returns the payload: an object or a list. Raises UnusableBody, PayloadTooLarge, InvalidRequest, ServiceUnavailable. Refuse
        callers without permission before you call this, because reading a large body takes time."""
        public = self.ctx is None or self.public
        content_type = self.request.getHeader("content-type") or ""
        return await self.payloads.read(self.request.content, content_type, public=public)

    async def item(self, properties: Mapping[str, Json] | None = None) -> dict[str, Any]:
        """Returns the payload, which must be an object. In that of a form, texts become numbers, booleans and lists where JSON Schemas
        of *properties* say so, which are by default those of the route. Raises InvalidPayload if it is no object, and the errors of
        `body`."""
        found = await self.body()
        if not isinstance(found, dict):
            raise InvalidPayload("The body must be one object.")
        if not is_form(self.request.getHeader("content-type") or ""):
            return found
        described = None if self.about is None else self.about.payload
        if properties is None and isinstance(described, Mapping):
            properties = described.get("properties")
        return typed(found, properties or {})

    def answer(self, result: Result) -> Answer:
        """Returns the answer for a result, with the links in `meta`, which need the URL of the request, and warnings of parameters."""
        if result.data is None:
            return Empty()
        meta = None if result.meta is None else self._with_links(result.meta)
        if result.cursors is not None:
            meta = self._with_cursors(meta or {}, result.cursors)
        return Envelope(result.data, meta, (*result.messages, *self.params.notices), result.version)

    def listed(self, found: Result | LongList) -> Answer | Streamed:
        """Returns the answer for the result of a read. A long list is written while it is read."""
        if isinstance(found, Result):
            return self.answer(found)
        return ItemStream(found.read, (*found.notices, *self.params.notices), self._with_links)

    def _with_links(self, meta: Mapping[str, Any]) -> Mapping[str, Any]:
        return meta if "page" not in meta else {**meta, "links": links(self._address, self.params, meta)}

    def _with_cursors(self, meta: Mapping[str, Any], found: Cursors) -> Mapping[str, Any]:
        """Adds the cursors of a page to its meta, and the links that they make."""
        key = self.project.cursor_key
        next, previous = (None if each is None else cursors.written(each, key) for each in (found.next, found.previous))
        shown = {"next_cursor": next, "previous_cursor": previous}
        return {**meta, **shown, "links": cursor_links(self._address, self.params, next, previous)}

    @property
    def _address(self) -> str:
        """The URL of the request, without the query string."""
        return self.base + self.request.path.decode("utf-8", "replace")


Endpoint = Callable[[Any], Awaitable[Answer | Streamed]]
"""An endpoint: a function that is called with a `Call`. Those of plugins get a `directus_tx.http.custom.Request`."""


@frozen
class Route:
    """A route: method, path with <arguments>, endpoint, who may call it, and its description. Other callers get the error `refusal`, the
    public gets `public_refusal` if there is one. A call has a context if the path starts with "/<project>" or the caller must be signed
    in.

    With a *guarded* route callers can try secrets: passwords, or tokens of which they need not be users. Answers with 401, 403 or 404 count
    as failed attempts of the address, and of the account that the endpoint names with `Call.name_account`.

    Tokens that are limited (`Scope`) may be used for a route if it is *scoped*: it reads, or writes nothing but what grants allow.

    *time_limit* is for routes of plugins: the seconds that the endpoint may take. 0: no limit; None: plugins.route_timeout."""

    method: str
    path: str
    endpoint: Endpoint
    caller: Caller
    about: Operation
    refusal: type[ApiError] = Unauthorized
    public_refusal: type[ApiError] | None = None
    guarded: bool = field()
    scoped: bool = field()
    time_limit: float | None = None

    in_project: bool = field(init=False)

    @guarded.default
    def _guarded(self) -> bool:
        return self.caller is Caller.SUPER_ADMIN_BY_PAYLOAD

    @in_project.default
    def _in_project(self) -> bool:
        return self.path.startswith(("/<project>", "/uploads/<project>"))

    @scoped.default
    def _scoped(self) -> bool:
        return self.method == "GET"

    @property
    def tag(self) -> str:
        """The tag of the route in the OpenAPI document, unless it is that of a collection: the first part of the path in the project."""
        return self.path.split("/")[2] if self.path.count("/") > 1 else ""

    def is_in(self, project: Any) -> bool:
        """Whether a project (`projects.project.Project`) has the route."""
        return True

    def admits(self, who: Accountability) -> bool:
        """Whether a caller of a project may call the route."""
        if who.scope is not None and not self.scoped:
            return False
        if self.caller is Caller.ADMINISTRATOR:
            return who.admin
        return self.caller not in _SIGNED_IN or not who.public

    def check(self, call: Call) -> None:
        """Raises the refusal if the caller may not call the route, or the error of a wrong super admin token."""
        if self.caller is Caller.SUPER_ADMIN:
            call.check_super_admin(call.params.text("super_admin_token"))
        elif call.ctx is not None and not self.admits(call.ctx.accountability):
            if call.ctx.accountability.public and self.public_refusal is not None:
                raise self.public_refusal
            administrators = self.caller is Caller.ADMINISTRATOR
            if call.ctx.accountability.scope is not None and not administrators:
                raise UpdateForbidden("The token is limited: it may only be used to read, and to write items.")
            raise self.refusal("Only administrators may do this." if administrators else "Sign in to do this.")


class Routes:
    """The routes of one group of endpoints."""

    def __init__(self) -> None:
        self._routes: list[Route] = []

    def __iter__(self) -> Iterator[Route]:
        return iter(self._routes)

    def add(self, method: str, path: str, endpoint: Endpoint, caller: Caller, about: Operation, **more: Any) -> None:
        """Adds a route. *more* are `refusal`, `public_refusal`, `guarded`, `scoped` and `time_limit` of `Route`."""
        self._routes.append(Route(method, path, endpoint, caller, about, **more))

    def route(self, method: str, path: str, caller: Caller, about: Operation, **more: Any) -> Callable[[Endpoint], Endpoint]:
        """Returns a decorator that makes a function the endpoint of a route."""

        def register(endpoint: Endpoint) -> Endpoint:
            self.add(method, path, endpoint, caller, about, **more)
            return endpoint

        return register

    def get(self, path: str, caller: Caller, about: Operation, **more: Any) -> Callable[[Endpoint], Endpoint]:
        return self.route("GET", path, caller, about, **more)

    def post(self, path: str, caller: Caller, about: Operation, **more: Any) -> Callable[[Endpoint], Endpoint]:
        return self.route("POST", path, caller, about, **more)

    def patch(self, path: str, caller: Caller, about: Operation, **more: Any) -> Callable[[Endpoint], Endpoint]:
        return self.route("PATCH", path, caller, about, **more)

    def delete(self, path: str, caller: Caller, about: Operation, **more: Any) -> Callable[[Endpoint], Endpoint]:
        return self.route("DELETE", path, caller, about, **more)
