"""Time limits of the endpoints of plugins, over HTTP."""

import math
from typing import Any

import pytest
from attrs import evolve
from pytest_twisted import ensureDeferred
from twisted.internet import defer, reactor

from directus_tx.api import hookimpl
from directus_tx.config import Settings
from directus_tx.http.answers import Envelope
from directus_tx.http.custom import Request
from directus_tx.http.operations import TEXT, Operation, record
from directus_tx.http.routes import Caller, Routes
from directus_tx.plugins.manager import PluginError, Plugins
from directus_tx.registered import collect
from tests.api.test_files import rows, until
from tests.conftest import Client, field
from tests.plugged import logged, plugins_of

ABOUT = Operation("A route of a test", record(value=TEXT))
LIMIT = 0.05


class Slow:
    """A plugin whose endpoints wait for what never comes, or for `opened`."""

    directus_tx_api = 1

    def __init__(self) -> None:
        self.cancelled: list[str] = []
        self.opened: defer.Deferred[None] = defer.Deferred()

    async def wait(self, name: str, until: "defer.Deferred[None] | None" = None) -> Envelope:
        try:
            await (until or defer.Deferred())
        except defer.CancelledError:
            self.cancelled.append(name)
            raise
        return Envelope({"value": name})

    @hookimpl
    def register_routes(self) -> Routes:
        routes = Routes()

        @routes.get("/<project>/hangs", Caller.PUBLIC, ABOUT)
        async def hangs(request: Request) -> Envelope:
            return await self.wait("hangs")

        @routes.get("/hangs/<name>", Caller.ANONYMOUS, ABOUT)
        def deferred(request: Request) -> Any:
            return defer.Deferred(lambda _: self.cancelled.append("deferred"))

        @routes.get("/<project>/insists", Caller.PUBLIC, ABOUT)
        async def insists(request: Request) -> Envelope:
            try:
                return await self.wait("insists")
            except defer.CancelledError:
                return Envelope({"value": "nevertheless"})

        @routes.post("/<project>/writes", Caller.ADMINISTRATOR, ABOUT)
        async def writes(request: Request) -> Envelope:
            async def work(ctx: Any) -> Envelope:
                await ctx.items.create("things", {"name": "in a transaction"})
                return await self.wait("writes")

            return await request.ctx.transaction(work)

        @routes.post("/<project>/leaves", Caller.ADMINISTRATOR, ABOUT)
        async def leaves(request: Request) -> Envelope:
            begun: defer.Deferred[None] = defer.Deferred()

            async def work(ctx: Any) -> Envelope:
                await ctx.items.create("things", {"name": "left"})
                begun.callback(None)
                return await self.wait("leaves")

            defer.ensureDeferred(request.ctx.transaction(work)).addErrback(lambda _: None)
            await begun
            return Envelope({"value": "leaves"})

        @routes.get("/<project>/patient", Caller.PUBLIC, ABOUT, time_limit=300)
        async def patient(request: Request) -> Envelope:
            return await self.wait("patient", self.opened)

        @routes.get("/<project>/endless", Caller.PUBLIC, ABOUT, time_limit=0)
        async def endless(request: Request) -> Envelope:
            return await self.wait("endless", self.opened)

        @routes.get("/<project>/hasty", Caller.PUBLIC, ABOUT, time_limit=0.01)
        async def hasty(request: Request) -> Envelope:
            return await self.wait("hasty")

        return routes


@pytest.fixture
def slow() -> Slow:
    return Slow()


@pytest.fixture
def plugins(slow: Slow) -> Plugins:
    found = Plugins(reactor)
    found.register(slow, "slow")
    return found


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return evolve(settings, plugins=evolve(settings.plugins, route_timeout=LIMIT))


@pytest.mark.parametrize(
    ("address", "path", "name"),
    [
        ("~/custom/slow/hangs", "/<project>/custom/slow/hangs", "hangs"),
        ("/custom/slow/hangs/a", "/custom/slow/hangs/<name>", "deferred"),
        ("~/custom/slow/insists", "/<project>/custom/slow/insists", "insists"),
    ],
)
@ensureDeferred
async def test_an_endpoint_that_does_not_answer_is_cut_off(
    client: Client, slow: Slow, address: str, path: str, name: str
) -> None:
    with logged() as lines:
        answer = await client.get(address)
    assert (answer.status, answer.code) == (503, 16)
    assert answer.json["error"]["message"] == "A plugin of the server did not answer in time."
    assert slow.cancelled == [name]
    found = [line for line in lines if "slow" in line and "cut off" in line]
    assert found == [f"the plugin slow is cut off: GET {path} has not been answered within {LIMIT:g} s (plugins.route_timeout)"]
    assert not [line for line in lines if "Traceback" in line or "Unhandled" in line]
    assert (await client.get("~/settings?fields=id")).status == 200


@ensureDeferred
async def test_what_is_cut_off_is_not_written_and_leaves_no_connection_in_use(client: Client, slow: Slow) -> None:
    await client.collection("things", field("name"))
    size = client.app.services.settings.database.pool_size
    for _ in range(size + 1):
        answer = await client.post("~/custom/slow/writes", {})
        assert (answer.status, answer.code) == (503, 16)
    assert slow.cancelled == ["writes"] * (size + 1)
    assert (await client.get("~/items/things")).data == []
    unfinished = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND starts_with(state, 'idle in')"
    assert await rows(client, unfinished) == []


@ensureDeferred
async def test_a_transaction_that_an_endpoint_leaves_open_is_rolled_back(client: Client, slow: Slow) -> None:
    await client.collection("things", field("name"))
    with logged() as lines:
        assert (await client.post("~/custom/slow/leaves", {})).data == {"value": "leaves"}
    await until(lambda: slow.cancelled == ["leaves"])
    assert (await client.get("~/items/things")).data == []
    assert [
        line for line in lines if "the plugin slow has left transactions open in POST /<project>/custom/slow/leaves; 1" in line
    ]


@pytest.mark.parametrize("name", ["patient", "endless"])
@ensureDeferred
async def test_a_route_can_ask_for_more_time(client: Client, slow: Slow, name: str) -> None:
    asking = defer.Deferred.fromCoroutine(client.get(f"~/custom/slow/{name}"))
    # These are cut off while the other one waits.
    for _ in range(2):
        assert (await client.get("~/custom/slow/hangs")).status == 503
    assert not asking.called
    slow.opened.callback(None)
    assert (await asking).data == {"value": name}


@ensureDeferred
async def test_a_route_can_have_less_time(client: Client, slow: Slow) -> None:
    with logged() as lines:
        assert (await client.get("~/custom/slow/hasty")).status == 503
    (line,) = [line for line in lines if "cut off" in line]
    assert line.endswith("GET /<project>/custom/slow/hasty has not been answered within 0.01 s (the time_limit of the route)")


@ensureDeferred
async def test_0_is_no_limit(client: Client, slow: Slow) -> None:
    """The limit is that of the settings with which the server has started."""
    settings = Settings()
    none = evolve(settings, plugins=evolve(settings.plugins, route_timeout=0))
    routes = {each.path: each for each in collect(plugins_of(slow=slow), none).routes}
    call: Any = type("Call", (), {"ctx": None, "path": {}, "items": None})()
    waiting = defer.Deferred.fromCoroutine(routes["/<project>/custom/slow/hangs"].endpoint(call))  # type: ignore[arg-type]
    assert (await client.get("~/custom/slow/hangs")).status == 503
    assert not waiting.called
    waiting.addErrback(lambda _: None)
    waiting.cancel()


@pytest.mark.parametrize("limit", [-1, True, "5", math.inf, math.nan])
def test_what_is_no_time_limit_is_refused(limit: Any) -> None:
    class Wrong:
        @hookimpl
        def register_routes(self) -> Routes:
            routes = Routes()
            routes.get("/<project>", Caller.PUBLIC, ABOUT, time_limit=limit)(_endpoint)
            return routes

    with pytest.raises(PluginError, match="time_limit must be a number of seconds, or 0 for no limit"):
        collect(plugins_of(wrong=Wrong()), Settings())


async def _endpoint(request: Request) -> Envelope:
    return Envelope({})
