"""The interface of endpoints: a table of routes, the call that an endpoint gets, and the answer that it gives."""

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any

from attrs import evolve, field, frozen, mutable

from directus_tx.accounts.passwords import PasswordHasher
from directus_tx.config import Settings
from directus_tx.context import Context
from directus_tx.errors import InvalidPayload, InvalidRequest, NotFound, Notice
from directus_tx.http.encode import precondition
from directus_tx.http.params import Params, links
from directus_tx.http.payload import PayloadReader
from directus_tx.items import Result
from directus_tx.items.service import Items
from directus_tx.projects.registry import Project, Projects
from directus_tx.query import Query, WriteOptions


@frozen
class Services:
    """What endpoints may call on, beside the context of a call."""

    projects: Projects
    items: Items
    hasher: PasswordHasher
    settings: Settings


Stream = Callable[[Callable[[bytes], Awaitable[None]]], Awaitable[None]]
"""Gives the bytes of a body, some at a time, to the function that it is called with, which may make it wait."""


@frozen
class Answer:
    """What an endpoint answers: an envelope with `data`, or without where it is `...`; or a plain `text`; or a `document`, JSON without
    an envelope; or a `stream`, a body that is written as it is made, of the type that `headers` say; or nothing (`empty`), a 204."""

    data: Any = ...
    meta: Mapping[str, Any] | None = None
    status: int = 200
    text: str | None = None
    headers: Mapping[str, str] = field(factory=dict)
    messages: Sequence[Notice] = ()
    stream: Stream | None = None
    document: Any = None
    empty: bool = False
    version: str | None = None
    """Of an item, what differs where it has changed: a part of its entity tag."""


EMPTY = Answer(empty=True, status=204)


@mutable
class Call:
    """One request, as an endpoint sees it. `ctx` and `project` are there on routes below a project alone. `address` gives the
    address that the client reached us at, of a request."""

    request: Any
    params: Params
    services: Services
    payloads: PayloadReader
    address: Callable[[Any], str]
    path: Mapping[str, str]
    ctx: Context = None  # type: ignore[assignment]
    project: Project = None  # type: ignore[assignment]

    @property
    def base(self) -> str:
        """The address that the client reached us at, without a path: "https://example.com"."""
        return self.address(self.request)

    @property
    def items(self) -> Items:
        """The service of items."""
        return self.services.items

    def query(self) -> Query:
        return self.params.query()

    def keys(self, text: str) -> list[str]:
        """The keys that a part of the path names, separated by commas. Raises NotFound where it names none, InvalidRequest where it
        names too many."""
        most = self.services.settings.limits.max_keys
        if text.count(",") >= most:
            raise InvalidRequest(f"A path may name up to {most} keys (limits.max_keys).")
        keys = [key.strip() for key in text.split(",") if key.strip()]
        if not keys:
            raise NotFound("The path names no key.")
        return keys

    def options(self) -> WriteOptions:
        """What the query string and the header If-Match tell a write."""
        options = self.params.options()
        wanted = self.request.getHeader(b"if-match")
        return options if wanted is None else evolve(options, if_match=precondition(wanted, self.project.tag_key))

    async def body(self) -> dict[str, Any] | list[Any]:
        """The payload: an object or a list. Raises UnusableBody, PayloadTooLarge, InvalidRequest. Who has no right to what the endpoint
        does is to be refused before this is called, since reading is work."""
        public = self.ctx is None or self.ctx.accountability.public
        content_type = self.request.getHeader("content-type") or ""
        return await self.payloads.read(self.request.content, content_type, public=public)

    async def item(self) -> dict[str, Any]:
        """The payload of one thing. Raises InvalidPayload, and what `body` raises."""
        found = await self.body()
        if not isinstance(found, dict):
            raise InvalidPayload("The body takes one object here.")
        return found

    def answer(self, result: Result) -> Answer:
        """The answer of a service's result, with the links that only a request can make."""
        meta = result.meta
        if meta is not None and "page" in meta:
            meta = meta | {"links": links(self.base + self.request.path.decode("utf-8", "replace"), self.params, meta)}
        return EMPTY if result.data is None else Answer(result.data, meta, messages=result.messages, version=result.version)


Endpoint = Callable[[Call], Awaitable[Answer]]


@frozen
class Route:
    """A route: method, path with <arguments>, and the endpoint that answers. Below "/<project>" a call has a context; on *anonymous*
    routes nobody is signed in, whatever token is sent."""

    method: str
    path: str
    endpoint: Endpoint
    anonymous: bool = False

    @property
    def in_project(self) -> bool:
        return self.path.startswith("/<project>")


class Routes:
    """The routes of one group of endpoints."""

    def __init__(self) -> None:
        self._routes: list[Route] = []

    def __iter__(self) -> Iterator[Route]:
        return iter(self._routes)

    def add(self, method: str, path: str, endpoint: Endpoint, *, anonymous: bool = False) -> None:
        self._routes.append(Route(method, path, endpoint, anonymous))

    def route(self, method: str, path: str, *, anonymous: bool = False) -> Callable[[Endpoint], Endpoint]:
        """Makes a function the endpoint of a route."""

        def register(endpoint: Endpoint) -> Endpoint:
            self.add(method, path, endpoint, anonymous=anonymous)
            return endpoint

        return register

    def get(self, path: str, **options: bool) -> Callable[[Endpoint], Endpoint]:
        return self.route("GET", path, **options)

    def post(self, path: str, **options: bool) -> Callable[[Endpoint], Endpoint]:
        return self.route("POST", path, **options)

    def patch(self, path: str, **options: bool) -> Callable[[Endpoint], Endpoint]:
        return self.route("PATCH", path, **options)

    def delete(self, path: str, **options: bool) -> Callable[[Endpoint], Endpoint]:
        return self.route("DELETE", path, **options)
