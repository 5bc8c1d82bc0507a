"""Routes of plugins, over HTTP."""

import asyncio
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet import defer, reactor

from directus_tx.api import hookimpl
from directus_tx.config import PluginSettings, Settings
from directus_tx.errors import InvalidPayload
from directus_tx.http.answers import Envelope, Text
from directus_tx.http.custom import Request
from directus_tx.http.operations import TEXT, Operation, record
from directus_tx.http.routes import Caller, Route, Routes
from directus_tx.plugins.manager import PluginError, Plugins
from directus_tx.registered import Registered, collect
from tests.conftest import TOKEN, Client, field
from tests.plugged import documented, logged, plugins_of

ABOUT = Operation("A route of a test", record(value=TEXT))


class Faulty:
    """A plugin whose endpoints fail in all ways, or answer without a coroutine."""

    directus_tx_api = 1

    @hookimpl
    def register_routes(self) -> list[Routes]:
        routes, more = Routes(), Routes()

        @routes.get("/<project>", Caller.PUBLIC, ABOUT)
        def plain(request: Request) -> Envelope:
            return Envelope({"value": request.ctx.project})

        @routes.get("/", Caller.SIGNED_IN, ABOUT)
        def deferred(request: Request) -> Any:
            return defer.succeed(Envelope({"value": request.ctx.project, "user": request.ctx.accountability.user}))

        @routes.get("/<project>/raises", Caller.PUBLIC, ABOUT)
        async def raises(request: Request) -> Envelope:
            raise ZeroDivisionError("a secret")

        @routes.get("/<project>/exits", Caller.PUBLIC, ABOUT)
        async def exits(request: Request) -> Envelope:
            raise SystemExit("a secret")

        @routes.get("/<project>/ends", Caller.PUBLIC, ABOUT)
        def end(request: Request) -> Any:
            raise asyncio.CancelledError

        @routes.get("/<project>/unknown", Caller.PUBLIC, ABOUT)
        async def unknown(request: Request) -> Envelope:
            return Envelope({"value": object()})

        @routes.get("/<project>/text", Caller.PUBLIC, ABOUT)
        async def text(request: Request) -> Any:
            return Text(5, "text/plain")  # type: ignore[arg-type]

        @routes.get("/<project>/refuses", Caller.PUBLIC, ABOUT)
        async def refuses(request: Request) -> Envelope:
            raise InvalidPayload("Not like this.")

        @routes.get("/<project>/wrong", Caller.PUBLIC, ABOUT)
        async def wrong(request: Request) -> Any:
            return {"value": "no answer"}

        @routes.delete("/<project>/<first>/<second_part>", Caller.ADMINISTRATOR, ABOUT)
        async def remove(request: Request) -> Envelope:
            return Envelope(dict(request.path))

        @more.route("PUT", "/<project>/put", Caller.ADMINISTRATOR, ABOUT)
        async def put(request: Request) -> Envelope:
            return Envelope({"value": (await request.item())["value"]})

        return [routes, more]


class OnlyIn(Plugins):
    """Plugins that are enabled in the projects whose keys are in `projects`."""

    projects: set[str] | None = None

    def enabled(self, name: str, project: Any) -> bool:
        return super().enabled(name, project) if self.projects is None else project.key in self.projects


@pytest.fixture
def plugins() -> Plugins:
    found = OnlyIn(reactor)
    found.register(documented("register_routes"), "reports")
    found.register(Faulty(), "faulty")
    return found


@ensureDeferred
async def test_endpoints_have_the_caller_and_the_permissions_of_the_caller(client: Client) -> None:
    await client.collection("things", field("name"), field("owner", "owner", "INT", 11))
    await client.post("~/items/things", [{"name": "a"}, {"name": "b"}])
    path = "~/custom/reports/totals/things"
    assert (await client.get(path)).data == {"total": 2}
    public = await client.get(path, token=None)
    other = await client.get("~/items/things", token=None)
    assert (public.status, public.code) == (other.status, other.code)
    await client.post("~/permissions", {"collection": "things", "role": 2, "read": "full"})
    assert (await client.get(path, token=None)).json == {"data": {"total": 2}, "public": True}
    unknown = await client.get("~/custom/reports/totals/nothing")
    assert (unknown.status, unknown.code) == (404, 200)


@ensureDeferred
async def test_routes_take_bodies_and_refuse_callers_as_the_routes_of_the_api_do(client: Client) -> None:
    path = "~/custom/reports/notes"
    assert (await client.post(path, {"text": "x"})).data == {"text": "x", "user": 1}
    assert (await client.post(path, {"text": "x"}, token=None)).status == 401
    assert (await client.post(path, {"text": "x"}, token="wrong")).status == 401
    assert (await client.post(path, b"{")).status == 400
    assert (await client.post(path, [])).status == 422
    assert (await client.post(path, {})).json["error"]["message"] == "There is no text."
    assert (await client.post(path, b'"' + b"x" * 5_000_000 + b'"')).status == 413
    assert (await client.call("PUT", "~/custom/faulty/put", {"value": "é"})).data == {"value": "é"}
    assert (await client.call("PUT", "~/custom/faulty/put", {"value": "é"}, token=None)).status == 401
    removed = await client.delete("~/custom/faulty/one/t%C3%BCr")
    assert removed.data == {"project": client.project, "first": "one", "second_part": "tür"}


@ensureDeferred
async def test_routes_outside_of_projects_find_the_project_in_the_request(client: Client) -> None:
    assert (await client.get("/custom/reports/version", token=None)).data == {"version": "1.0"}
    assert (await client.get("/custom/faulty")).status == 401
    named = await client.get(f"/custom/faulty?project={client.project}&access_token={TOKEN}", token=None)
    assert named.data == {"value": client.project, "user": 1}
    assert (await client.get("~/custom/faulty")).data == {"value": client.project}
    assert (await client.get("~/custom/faulty/", token=None)).status == 404


@ensureDeferred
async def test_methods_headers_and_errors_are_those_of_the_api(client: Client) -> None:
    path = "~/custom/faulty"
    for method in ("POST", "PATCH", "DELETE"):
        found, like = await client.call(method, path), await client.call(method, "~/specs/oas")
        assert (found.status, found.json) == (like.status, like.json), method
    head = await client.call("HEAD", path)
    assert (head.status, head.body) == (200, b"")
    assert (await client.call("OPTIONS", path, headers={"Origin": "https://example.com"})).status == 200
    found = await client.get(path, headers={"Origin": "https://example.com"})
    like = await client.get("~/settings?fields=id", headers={"Origin": "https://example.com"})
    assert found.headers.keys() - {"content-encoding", "vary"} == like.headers.keys() - {"content-encoding", "vary"}
    assert (await client.get(path, headers={"If-None-Match": found.headers["etag"]})).status == 304
    assert (await client.get("~/custom/faulty/nothing")).status == 404
    assert (await client.get("~/custom/nobody/notes")).status == 404
    assert (await client.get("/nowhere/custom/faulty")).json == (await client.get("/nowhere/items/x")).json
    refused = await client.get("~/custom/faulty/refuses")
    assert (refused.status, refused.code) == (422, InvalidPayload.code)


@pytest.mark.parametrize("name", ["raises", "wrong", "exits", "ends", "unknown", "text"])
@ensureDeferred
async def test_an_endpoint_that_fails_is_named_in_the_log_and_tells_clients_nothing(client: Client, name: str) -> None:
    with logged() as lines:
        found = await client.get(f"~/custom/faulty/{name}")
    assert (found.status, found.code) == (500, 0)
    assert b"secret" not in found.body
    (line,) = [line for line in lines if "the plugin faulty failed in GET" in line]
    assert found.headers["x-request-id"] in line
    assert (await client.get("~/custom/faulty")).status == 200


@ensureDeferred
async def test_the_openapi_document_has_the_routes_that_the_caller_may_call(client: Client) -> None:
    paths = (await client.get("~/specs/oas")).json["paths"]
    totals = paths["/custom/reports/totals/{collection}"]["get"]
    assert totals["summary"] == "Count the items of a collection"
    assert totals["tags"] == ["custom/reports"]
    assert [each["name"] for each in totals["parameters"]] == ["collection"]
    parameters = paths["/custom/faulty/{first}/{second_part}"]["delete"]["parameters"]
    assert [each["name"] for each in parameters] == ["first", "second_part"]
    assert paths["/custom/reports/notes"]["post"]["requestBody"]
    public = (await client.get("~/specs/oas", token=None)).json["paths"]
    assert "/custom/reports/totals/{collection}" in public
    assert "/custom/reports/notes" not in public


@ensureDeferred
async def test_a_plugin_that_is_not_enabled_in_a_project_has_no_routes_there(client: Client) -> None:
    client.backend.plugins.projects = set()
    unknown = await client.get("~/custom/nothing/x")
    outside = f"/custom/faulty?project={client.project}&access_token={TOKEN}"
    for path in ("~/custom/reports/totals/directus_users", "~/custom/faulty", outside):
        found = await client.get(path, token=None if path is outside else TOKEN)
        assert (found.status, found.json) == (404, unknown.json), path
    paths = (await client.get("~/specs/oas")).json["paths"]
    assert not [path for path in paths if path.startswith("/custom")]
    # A route that is in no project is there all the same.
    assert (await client.get("/custom/reports/version")).status == 200


@ensureDeferred
async def test_a_project_file_says_which_plugins_are_enabled(client: Client) -> None:
    path = client.backend.projects.files.directory / f"{client.project}.toml"
    text = path.read_text()
    paths = ("~/custom/reports/totals/directus_users", "~/custom/faulty")
    for table, statuses in (
        ('[plugins]\ndisabled = ["reports"]', [404, 200]),
        ('[plugins]\nenabled = ["reports"]', [200, 404]),
        ("[plugins]\nenabled = []", [404, 404]),
        ("", [200, 200]),
    ):
        path.write_text(f"{text}\n{table}\n")
        assert [(await client.get(each)).status for each in paths] == statuses, table


def collected(plugins: Plugins) -> Registered:
    """Returns what plugins register on a server without settings."""
    return collect(plugins, Settings())


async def _endpoint(request: Request) -> Envelope:
    return Envelope({})


def _routes(*routes: tuple[Any, ...]) -> Routes:
    found = Routes()
    for each in routes:
        found.add(*each)
    return found


FAULTS: dict[str, Any] = {
    "must be a Routes": 5,
    "not str": ["text"],
    "registered twice": _routes(
        ("GET", "/<project>/a/<b>", _endpoint, Caller.PUBLIC, ABOUT), ("GET", "/<project>/a/<c>", _endpoint, Caller.PUBLIC, ABOUT)
    ),
    "the method must be": _routes(("OPTIONS", "/<project>", _endpoint, Caller.PUBLIC, ABOUT)),
    "begin with a slash": _routes(("GET", "a", _endpoint, Caller.PUBLIC, ABOUT)),
    '"" is neither': _routes(("GET", "/<project>/", _endpoint, Caller.PUBLIC, ABOUT)),
    '"<int:a>" is neither': _routes(("GET", "/<project>/<int:a>", _endpoint, Caller.PUBLIC, ABOUT)),
    "the same name": _routes(("GET", "/<project>/<a>/<a>", _endpoint, Caller.PUBLIC, ABOUT)),
    "the first part": _routes(("GET", "/a/<project>", _endpoint, Caller.PUBLIC, ABOUT)),
    "must be a Caller": _routes(("GET", "/<project>", _endpoint, "public", ABOUT)),
    "must be an Operation": _routes(("GET", "/<project>", _endpoint, Caller.PUBLIC, "about")),
    "must be a function": _routes(("GET", "/<project>", None, Caller.PUBLIC, ABOUT)),
}


class Registering:
    """A plugin that registers a value, or raises an exception."""

    directus_tx_api = 1

    def __init__(self, value: Any) -> None:
        self.value = value

    @hookimpl
    def register_routes(self) -> Any:
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


@pytest.mark.parametrize("said", FAULTS)
def test_wrong_routes_are_refused_and_name_the_plugin(said: str) -> None:
    with pytest.raises(PluginError, match=r"the plugin wrong cannot be used: register_routes: ") as refused:
        collected(plugins_of(wrong=Registering(FAULTS[said])))
    assert said in str(refused.value)


def test_a_plugin_that_raises_when_it_registers_is_named() -> None:
    with pytest.raises(PluginError, match=r"the plugin wrong cannot be used: register_routes: KeyError: 'x'"):
        collected(plugins_of(wrong=Registering(KeyError("x"))))


def test_a_coroutine_function_registers_nothing() -> None:
    class Awaited:
        directus_tx_api = 1

        @hookimpl
        async def register_routes(self) -> Any:
            return Routes()

    with pytest.raises(PluginError, match=r"the plugin wrong cannot be used: register_routes: it must be a plain function"):
        collected(plugins_of(wrong=Awaited()))


def test_a_plugin_with_a_name_that_is_no_part_of_a_path_has_no_routes() -> None:
    found = Plugins(reactor)
    found.register(Registering(_routes(("GET", "/<project>", _endpoint, Caller.PUBLIC, ABOUT))), "a/b")
    with pytest.raises(PluginError, match="the plugin a/b"):
        collected(found)


def test_plugins_that_cannot_be_used_are_left_out_if_the_server_is_to_start_without_them() -> None:
    good = Registering(_routes(("GET", "/<project>", _endpoint, Caller.PUBLIC, ABOUT)))
    found = plugins_of(bad=Registering(5), good=good, worse=Registering(KeyError("x")), none=Registering(None))
    found.settings = PluginSettings(on_error="skip")
    with logged() as lines:
        registered = collected(found)
    assert [route.path for route in registered.routes] == ["/<project>/custom/good"]
    assert [line for line in lines if "bad" in line]
    assert [line for line in lines if "worse" in line]
    assert [name for name, _ in found.implementations("register_routes")] == ["good", "none"]


def test_routes_of_the_api_cannot_be_replaced() -> None:
    """The paths of a plugin's routes begin with its name, whatever it registers."""
    registered = collected(
        plugins_of(own=Registering(_routes(("GET", "/<project>/items/<collection>", _endpoint, Caller.PUBLIC, ABOUT))))
    )
    (route,) = registered.routes
    assert isinstance(route, Route)
    assert route.path == "/<project>/custom/own/items/<collection>"
