"""History at length: what retention removes, and how the history of one item is found among much."""

from datetime import datetime, timedelta

from pytest_twisted import ensureDeferred
from twisted.internet import reactor

from directus_tx.access import Access
from directus_tx.compile.read import plan_for
from directus_tx.config import LimitSettings, retention_of
from directus_tx.context import Accountability
from directus_tx.db.session import Session
from directus_tx.http.endpoints.items import REVISIONS
from directus_tx.jobs.retention import BATCH, Pruned, prune, prune_all
from directus_tx.query import BindValues, Condition, Query
from tests.conftest import Client, field

ROWS = 60_000


def session_of(client: Client) -> Session:
    return Session(client.backend.projects.get(client.project).database)


async def age(client: Client, collection: str, days: int, *, up_to: int) -> None:
    """Moves the activity of the items up to a key into the past."""
    sql = "UPDATE directus_activity SET action_on = action_on - %s WHERE collection = %s AND item::int <= %s"
    await session_of(client).transaction(lambda session: session.query(sql, (timedelta(days=days), collection, up_to)))


@ensureDeferred
async def test_history_beyond_its_retention_is_removed_and_comments_stay(client: Client) -> None:
    for name in ("things", "others"):
        await client.collection(name, field("name"))
        await client.post(f"~/items/{name}", [{"name": str(n)} for n in range(6)])
    await client.post("~/activity/comment", {"collection": "things", "item": 1, "comment": "keep me"})
    await age(client, "things", 100, up_to=4)
    await age(client, "others", 100, up_to=4)
    session = session_of(client)
    ((now,),) = await session.query("SELECT now() AT TIME ZONE 'UTC'")
    now = datetime.fromisoformat(str(now))
    pruned = await prune(session, [retention_of("things=90d")], now)
    assert pruned == Pruned(4, 4)
    left = await client.get("~/activity?filter[collection]=things&fields=action,item")
    assert left.data == [
        {"action": "create", "item": "5"},
        {"action": "create", "item": "6"},
        {"action": "comment", "item": "1"},
    ]
    assert (await client.get("~/items/things/1/revisions")).data == []
    assert len((await client.get("~/items/things/5/revisions")).data) == 1
    assert len((await client.get("~/revisions?filter[collection]=others")).data) == 6
    assert await prune(session, [retention_of("things=90d")], now) == Pruned(0, 0)
    assert await prune(session, [retention_of("others=3"), retention_of("*=9999d")], now) == Pruned(3, 3)
    newest = await client.get("~/activity?filter[collection]=others&fields=item")
    assert [record["item"] for record in newest.data] == ["4", "5", "6"]


@ensureDeferred
async def test_pruning_goes_in_batches_and_survives_a_broken_project(client: Client) -> None:
    await client.collection("things", field("name"))
    await client.post("~/items/things", [{"name": str(n)} for n in range(2 * BATCH + 5)])
    projects = client.backend.projects
    broken = projects.files.directory / "broken.toml"
    broken.write_text("this is no TOML")
    try:
        done = await prune_all(reactor, projects, [retention_of("things=1")])
    finally:
        broken.unlink()
    assert done == {client.project: Pruned(2 * BATCH + 4, 2 * BATCH + 4)}
    assert len((await client.get("~/revisions?filter[collection]=things")).data) == 1


@ensureDeferred
async def test_the_history_of_one_item_is_found_by_an_index(client: Client) -> None:
    await client.collection("things", field("name"))
    session = session_of(client)
    fill = (
        "INSERT INTO directus_revisions (activity, collection, item, data)"
        " SELECT n, 'things', (n %% 5000)::text, '{}' FROM generate_series(1, %s) AS n"
    )
    await session.transaction(lambda session: session.query(fill, (ROWS,)))
    await session.transaction(lambda session: session.query("ANALYZE directus_revisions"))
    scope = (Condition(("collection",), "eq", "things"), Condition(("item",), "eq", "7"))
    query = Query(scope=scope)
    schema = await client.backend.projects.get(client.project).snapshot()
    plan = plan_for(Access(schema, Accountability(1, 1)), REVISIONS, query, LimitSettings())
    select = plan.items.select
    parameters = select.parameters(BindValues(query, (), 200, 0))
    rows = await session.query("EXPLAIN " + select.statement.select, parameters)
    text = "\n".join(row[0] for row in rows)
    assert "directus_revisions_item" in text, text
    assert "Seq Scan" not in text, text
    assert len((await client.get("~/items/things/7/revisions")).data) == ROWS // 5000
