"""The routes of plugins, at /custom/NAME/... and /:project/custom/NAME/..., where NAME is the name of the plugin. Apart from that they are
routes like those of the API: with the same callers, limits, errors and descriptions."""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from attrs import field, fields, frozen
from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from directus_tx.errors import NotFound, ServiceUnavailable
from directus_tx.http.answers import Answer, Streamed
from directus_tx.http.operations import Operation
from directus_tx.http.routes import Call, Caller, Endpoint, Route, Routes
from directus_tx.plugins.context import Context, end_transactions
from directus_tx.plugins.time_limits import within
from directus_tx.query import Query

log = Logger()

CUSTOM = "custom"
"""The part of paths that is followed by the name of a plugin."""

IN_PROJECT = "/<project>"
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]*")
_PART = re.compile(r"<(?P<argument>[a-z][a-z0-9_]*)>|[0-9A-Za-z._~-]+")

Enabled = Callable[[Any], bool]
"""Whether a plugin is enabled in a project (`projects.project.Project`)."""


@frozen
class Request:
    """A request to a route of a plugin. `path` are the arguments in the path."""

    path: Mapping[str, str]
    _call: Call = field(alias="call", repr=False)
    _ctx: Context | None = field(alias="ctx", repr=False)

    @property
    def ctx(self) -> Context:
        """The context: the project, the caller, and the items that the caller may read and write. Raises RuntimeError if the route has
        none: its path does not begin with "/<project>", and the caller need not be signed in."""
        if self._ctx is None:
            raise RuntimeError("the route is in no project: it has no context")
        return self._ctx

    @property
    def base(self) -> str:
        """The URL of the server as the client reaches it, without a path: "https://example.com"."""
        return self._call.base

    def header(self, name: str) -> str | None:
        """Returns a header of the request, or None."""
        found: str | None = self._call.request.getHeader(name)
        return found

    def parameter(self, name: str) -> str | None:
        """Returns a parameter of the query string, or None. Raises InvalidRequest if it is not a text."""
        return self._call.params.text(name)

    def query(self) -> Query:
        """Returns the query that the parameters describe: fields, filter, sort, limit and so on. Raises ApiError if they are not valid."""
        return self._call.query()

    async def body(self) -> dict[str, Any] | list[Any]:
        """Returns the payload, an object or a list. Raises ApiError if it is not valid or too large."""
        return await self._call.body()

    async def item(self) -> dict[str, Any]:
        """Returns the payload, which must be an object. Raises ApiError otherwise."""
        return await self._call.item()


@frozen
class CustomRoute(Route):
    """A route of a plugin. In projects in which the plugin is not enabled, there is no such route."""

    plugin: str = field(kw_only=True)
    enabled: Enabled = field(kw_only=True)

    @property
    def tag(self) -> str:
        return f"{CUSTOM}/{self.plugin}"

    def is_in(self, project: Any) -> bool:
        return self.enabled(project)

    def check(self, call: Call) -> None:
        if call.project is not None and not self.enabled(call.project):
            raise NotFound
        Route.check(self, call)


class EndpointTimeout(ServiceUnavailable):
    """An endpoint of a plugin has not answered in time."""


@frozen
class TimeLimits:
    """How the time of endpoints is limited: the reactor that measures it, and the limit in seconds for routes that have none of their own
    (plugins.route_timeout)."""

    reactor: Any
    timeout: float


def custom_routes(plugin: str, given: Any, enabled: Enabled, limits: TimeLimits) -> Iterator[CustomRoute]:
    """Yields the routes of a plugin, which has registered *given*: a `Routes` or a list of them. Raises ValueError, whose message says
    what is wrong with them."""
    taken = set[str]()
    for each in _all_of(given):
        route = _custom(plugin, each, enabled, limits)
        place = place_of(route)
        if place in taken:
            raise ValueError(f"the route {each.method} {each.path} is registered twice")
        taken.add(place)
        yield route


def check_places(routes: Iterable[Route]) -> None:
    """Raises ValueError if two routes have the same method and paths that differ at most in the names of their arguments."""
    taken = set[str]()
    for route in routes:
        place = place_of(route)
        if place in taken:
            raise ValueError(f"there is a route {route.method} {route.path} already")
        taken.add(place)


def place_of(route: Route) -> str:
    """Returns the method and the path of a route, without the names of the arguments."""
    return f"{route.method} {re.sub(r'<[^>]*>', '<>', route.path)}"


def _all_of(given: Any) -> Iterator[Route]:
    for routes in [given] if isinstance(given, Routes) else given if isinstance(given, (list, tuple)) else [None]:
        if not isinstance(routes, Routes):
            raise ValueError(
                f"routes must be a Routes or a list of them, not {type(given if routes is None else routes).__name__}"
            )
        yield from routes


def _custom(plugin: str, route: Route, enabled: Enabled, limits: TimeLimits) -> CustomRoute:
    if not _NAME.fullmatch(plugin):
        raise ValueError(
            f'the name "{plugin}" cannot be a part of paths: it must consist of letters, digits, dashes and underscores'
        )
    _check(route)
    in_project = route.path == IN_PROJECT or route.path.startswith(f"{IN_PROJECT}/")
    rest = route.path.removeprefix(IN_PROJECT) if in_project else route.path
    path = f"{IN_PROJECT if in_project else ''}/{CUSTOM}/{plugin}{'' if rest == '/' else rest}"
    values = {each.name: getattr(route, each.name) for each in fields(Route) if each.init}
    values |= {"path": path, "endpoint": _checked(plugin, route, path, limits)}
    return CustomRoute(**values, plugin=plugin, enabled=enabled)


def _check(route: Route) -> None:
    """Raises ValueError if something is wrong with a route, as it is registered."""
    said = f"the route {route.method} {route.path}"
    if route.method not in METHODS:
        raise ValueError(f"{said}: the method must be one of {', '.join(METHODS)}")
    if not isinstance(route.path, str) or not route.path.startswith("/"):
        raise ValueError(f"{said}: the path must begin with a slash")
    parts = [] if route.path == "/" else route.path[1:].split("/")
    arguments = []
    for part in parts:
        found = _PART.fullmatch(part)
        if found is None:
            raise ValueError(f'{said}: "{part}" is neither an argument like <name> nor a text of letters, digits and . _ ~ -')
        if found["argument"]:
            arguments.append(found["argument"])
    if len(set(arguments)) < len(arguments):
        raise ValueError(f"{said}: two arguments have the same name")
    if "project" in arguments and parts[0] != "<project>":
        raise ValueError(f"{said}: <project> must be the first part")
    if not isinstance(route.caller, Caller):
        raise ValueError(f"{said}: the caller must be a Caller")
    if not isinstance(route.about, Operation):
        raise ValueError(f"{said}: the description must be an Operation")
    if not callable(route.endpoint):
        raise ValueError(f"{said}: the endpoint must be a function")
    limit = route.time_limit
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, (int, float)) or not 0 <= limit < math.inf):
        raise ValueError(f"{said}: time_limit must be a number of seconds, or 0 for no limit")


def _checked(plugin: str, route: Route, path: str, limits: TimeLimits) -> Endpoint:
    """Returns the endpoint of a route of a plugin, which raises TypeError if that of the plugin returns no answer, and EndpointTimeout if
    it takes longer than the limit of the route. Transactions that it leaves open are rolled back. *path* is the one at which the route is
    served."""
    endpoint: Callable[[Request], Any] = route.endpoint
    limit = limits.timeout if route.time_limit is None else float(route.time_limit)
    names = {"plugin": plugin, "method": route.method, "path": path}

    def cut() -> EndpointTimeout:
        log.error(
            "the plugin {plugin} is cut off: {method} {path} has not been answered within {seconds} s ({setting})",
            seconds=f"{limit:g}",
            setting="plugins.route_timeout" if route.time_limit is None else "the time_limit of the route",
            **names,
        )
        return EndpointTimeout("A plugin of the server did not answer in time.")

    async def call_endpoint(call: Call) -> Answer | Streamed:
        ctx = None if call.ctx is None else Context(call.ctx, call.items)
        try:
            found = endpoint(Request(call.path, call, ctx))
            if not isinstance(found, (Answer, Streamed)):
                found = await within(limits.reactor, limit, found, cut)
        finally:
            left = 0 if ctx is None else end_transactions(ctx, limits.reactor)
            if left:
                text = "the plugin {plugin} has left transactions open in {method} {path}; {number} are rolled back"
                log.error(text, number=left, **names)
        if not isinstance(found, (Answer, Streamed)):
            raise TypeError(f"the endpoint must return an Answer, not {type(found).__name__}")
        return found

    return call_endpoint


def log_failure(route: Route, request: Any, error: BaseException) -> None:
    """Names the plugin in the log if a request to one of its routes has failed: its endpoint has raised *error*, or its answer cannot be
    written."""
    if isinstance(route, CustomRoute) and not isinstance(error, CancelledError):
        log.error(
            "request {request_id}: the plugin {plugin} failed in {method} {path}: {error}",
            request_id=request.request_id,
            plugin=route.plugin,
            method=route.method,
            path=route.path,
            error=f"{type(error).__name__}: {error}",
        )
