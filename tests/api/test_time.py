"""Time: what the server says and stores is UTC, in whichever zone it runs, also in the hours that a zone has twice or not at all."""

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import jwt
import pytest
from attrs import evolve
from pytest_twisted import ensureDeferred
from twisted.internet import reactor

from directus_tx.accounts import tokens
from directus_tx.config import Retention
from directus_tx.context import current_time, moment
from directus_tx.db.connection import connected
from directus_tx.db.session import Session
from directus_tx.db.sql import SQL, Identifier
from directus_tx.errors import ExpiredToken
from directus_tx.jobs.retention import prune
from directus_tx.sealing import Keys
from tests.conftest import Client, field

ZONES = ("America/New_York", "Europe/Berlin", "Asia/Kathmandu")

MOMENTS = {
    "New York, before the hour that is missing": datetime(2026, 3, 8, 6, 59, 59, tzinfo=UTC),
    "New York, after it": datetime(2026, 3, 8, 7, 0, 0, tzinfo=UTC),
    "New York, as UTC has its local time": datetime(2026, 3, 8, 2, 30, 0, tzinfo=UTC),
    "New York, the hour that comes twice": datetime(2026, 11, 1, 5, 30, 0, tzinfo=UTC),
    "New York, its second time": datetime(2026, 11, 1, 6, 30, 0, tzinfo=UTC),
    "Berlin, before the hour that is missing": datetime(2027, 3, 28, 0, 59, 59, tzinfo=UTC),
    "Berlin, as UTC has its local time": datetime(2027, 3, 28, 2, 30, 0, tzinfo=UTC),
    "Berlin, the hour that comes twice": datetime(2026, 10, 25, 0, 30, 0, tzinfo=UTC),
    "Berlin, its second time": datetime(2026, 10, 25, 1, 30, 0, tzinfo=UTC),
    "the end of a year": datetime(2027, 12, 31, 23, 59, 59, tzinfo=UTC),
    "a leap day": datetime(2028, 2, 29, 12, 0, 0, tzinfo=UTC),
    "beyond 32 bits": datetime(2040, 1, 1, tzinfo=UTC),
}


@pytest.fixture(params=ZONES)
def zone(request: pytest.FixtureRequest) -> Iterator[str]:
    """The zone that this process is in."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = request.param
    time.tzset()
    # Where the system does not know a zone it takes UTC.
    assert time.timezone != 0
    yield request.param
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()


def at(client: Client, now: datetime) -> None:
    """Sets the clock of the server."""
    client.app.services = evolve(client.app.services, now=lambda: now)


def shown(now: datetime) -> str:
    """A time as fields of type datetime_created show it."""
    return f"{now:%Y-%m-%dT%H:%M:%S}+00:00"


def plain(now: datetime) -> str:
    """A time as fields of type datetime show it."""
    return f"{now:%Y-%m-%d %H:%M:%S}"


async def execute(client: Client, statement: str, parameters: Any = ()) -> Any:
    session = Session(client.backend.projects.get(client.project).database)
    return await session.transaction(lambda session: session.query(statement, parameters))


@ensureDeferred
async def test_a_token_lives_to_its_second(client: Client, zone: str) -> None:
    credentials = {"email": "admin@example.com", "password": "password"}
    for name, now in MOMENTS.items():
        at(client, now)
        token = (await client.post("~/auth/authenticate", credentials, token=None)).data["token"]
        assert jwt.decode(token, options={"verify_signature": False})["exp"] == int(now.timestamp()) + 20 * 60, name
        # Also where the bearer is not known yet: first after the end, then before it, then known.
        for minutes, seconds, status in ((20, 0, 401), (19, 59, 200), (0, 0, 200), (20, 0, 401), (20, 1, 401), (60, 0, 401)):
            at(client, now + timedelta(minutes=minutes, seconds=seconds))
            assert (await client.get("~/users/me?fields=id", token=token)).status == status, (name, minutes, seconds)


def test_tokens_are_read_by_the_clock_that_is_given(zone: str) -> None:
    class Ring:
        key, keys, public_key = "p", Keys("s" * 32), "k"
        accounts: dict[Any, Any] = {}
        accounts_version = 0

    for now in MOMENTS.values():
        for offset in (timedelta(0), timedelta(hours=-5), timedelta(hours=5, minutes=45)):
            issued = tokens.issue(Ring, 1, 5, now.astimezone(timezone(offset)))
            assert tokens.read(Ring, issued, now + timedelta(seconds=299))["exp"] == int(now.timestamp()) + 300
            with pytest.raises(ExpiredToken):
                tokens.read(Ring, issued, now + timedelta(seconds=300))


@ensureDeferred
async def test_what_the_server_fills_in_is_utc(client: Client, zone: str) -> None:
    created = field("created", "datetime_created", "DATETIME", None)
    updated = field("updated", "datetime_updated", "DATETIME", None)
    await client.collection("things", field("name"), created, updated)
    for name, now in MOMENTS.items():
        at(client, now)
        item = (await client.post("~/items/things", {"name": name})).data
        assert (item["created"], item["updated"]) == (shown(now), shown(now)), name
        at(client, now + timedelta(seconds=1))
        item = (await client.patch(f"~/items/things/{item['id']}", {"name": "x"})).data
        assert (item["created"], item["updated"]) == (shown(now), shown(now + timedelta(seconds=1))), name
        ((stored,),) = await execute(client, "SELECT created::text FROM things WHERE id = %s", (item["id"],))
        assert stored == plain(now), name
        path = f"~/activity?filter[collection]=things&filter[item]={item['id']}&fields=action_on&sort=id"
        on = [row["action_on"] for row in (await client.get(path)).data]
        assert on == [plain(now), plain(now + timedelta(seconds=1))], name
        comment = {"collection": "things", "item": item["id"], "comment": "c"}
        comment = (await client.post("~/activity/comment", comment)).data
        at(client, now + timedelta(seconds=2))
        await client.patch(f"~/activity/comment/{comment['id']}", {"comment": "d"})
        found = (await client.get(f"~/activity/{comment['id']}?fields=action_on,edited_on")).data
        assert found == {"action_on": plain(now + timedelta(seconds=1)), "edited_on": plain(now + timedelta(seconds=2))}, name
        page = await client.patch("~/users/1/tracking/page?fields=last_access_on", {"last_page": "/"})
        assert page.data == {"last_access_on": plain(now + timedelta(seconds=2))}, name


@ensureDeferred
async def test_now_in_a_filter_is_the_time_of_the_request(client: Client, zone: str) -> None:
    await client.collection("things", field("created", "datetime_created", "DATETIME", None), field("day", "date", "DATE", None))
    for name, now in MOMENTS.items():
        at(client, now)
        id = (await client.post("~/items/things", {"day": f"{now:%Y-%m-%d}"})).data["id"]
        for filters, found in (
            ("created][lte]=now", True),
            ("created][lt]=now", False),
            ("created][gt]=now", False),
            ("day]=now", True),
        ):
            answer = await client.get(f"~/items/things?filter[id]={id}&filter[{filters}&fields=id")
            assert (answer.data == [{"id": id}]) is found, (name, filters)
        at(client, now + timedelta(seconds=1))
        answer = await client.get(f"~/items/things?filter[id]={id}&filter[created][lt]=now&fields=id")
        assert answer.data == [{"id": id}], name


@ensureDeferred
async def test_dates_with_an_offset_are_stored_and_compared_as_utc(client: Client, zone: str) -> None:
    await client.collection("things", field("at", "datetime", "DATETIME", None))
    for name, now in MOMENTS.items():
        for hours in (-12, -5, 0, 2, 14):
            local = now.astimezone(timezone(timedelta(hours=hours)))
            item = (await client.post("~/items/things", {"at": local.isoformat()})).data
            assert item["at"] == plain(now), name
            encoded = local.isoformat().replace("+", "%2B")
            answer = await client.get(f"~/items/things?filter[id]={item['id']}&filter[at]={encoded}&fields=id")
            assert answer.data == [{"id": item["id"]}], name
        # Without an offset it is UTC already.
        item = (await client.post("~/items/things", {"at": plain(now)})).data
        assert item["at"] == plain(now), name


@ensureDeferred
async def test_retention_counts_days_of_24_hours(client: Client, zone: str) -> None:
    project = client.backend.projects.get(client.project)
    await project.snapshot()
    insert = (
        "INSERT INTO directus_activity (action, action_on, ip, user_agent, collection, item)"
        " SELECT 'update', %s::timestamp + n * interval '1 second', '', '', 'things', n::text FROM generate_series(-1, 1) AS n"
    )
    for name, now in MOMENTS.items():
        await execute(client, "DELETE FROM directus_activity")
        await execute(client, insert, (plain(now - timedelta(days=3)),))
        await prune(Session(project.database), [Retention("things", days=3)], now)
        left = await execute(client, "SELECT item FROM directus_activity ORDER BY item")
        assert left == [("0",), ("1",)], name


@ensureDeferred
async def test_a_database_in_another_zone_stores_utc_as_well(client: Client, zone: str) -> None:
    projects = client.backend.projects
    name = projects.get(client.project).config.database.name
    async with connected(reactor, projects.databases.server) as connection:
        await connection.run(SQL("ALTER DATABASE {} SET timezone TO 'America/New_York'").format(Identifier(name)))
    database = projects.get(client.project).database
    database.close_idle(len(database.idle))
    assert await execute(client, "SHOW timezone") == [("UTC",)]
    await client.collection("things", field("created", "datetime_created", "DATETIME", None))
    default = field("since", "datetime", "DATETIME", None, default_value="CURRENT_TIMESTAMP")
    assert (await client.post("~/fields/things", default)).status == 200
    now = current_time()
    item = (await client.post("~/items/things", {})).data
    for value in (item["created"], item["since"] + "+00:00"):
        assert abs(datetime.fromisoformat(value) - now) < timedelta(minutes=5)


def test_a_moment_is_aware_and_has_no_fractions(zone: str) -> None:
    assert moment(0.9) == datetime(1970, 1, 1, tzinfo=UTC)
    for now in MOMENTS.values():
        assert moment(now.timestamp() + 0.999) == now
        assert moment(now.timestamp()).tzinfo is UTC
