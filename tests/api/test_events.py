"""What a write reports of itself: an event for each item that was written, in order, of which the history is made."""

import time
from collections.abc import Awaitable, Callable
from typing import Any

from pytest_twisted import ensureDeferred

from directus_tx.context import ADMINISTRATOR, Accountability, Context, moment
from directus_tx.db.session import Session
from directus_tx.items.changes import Event
from directus_tx.items.write import Writer, in_transaction
from directus_tx.query import WriteOptions
from tests.conftest import Client, field

O2M = {"type": "o2m", "interface": "one-to-many"}
STATUS = {"status_mapping": {"open": {"name": "a"}, "gone": {"name": "b", "soft_delete": True}}}


async def collections(client: Client) -> None:
    await client.collection("owners", field("name"), {"field": "things", **O2M})
    await client.collection(
        "things",
        field("name"),
        field("status", "status", options=STATUS),
        field("price", "decimal", "DECIMAL", "20,10"),
        field("secret", "hash"),
        field("belongs_to", "m2o", "INT", 11),
    )
    relation = {"collection_many": "things", "field_many": "belongs_to", "collection_one": "owners", "field_one": "things"}
    assert (await client.post("~/relations", relation)).status == 200


async def events(client: Client, work: Callable[[Writer], Awaitable[Any]], **options: Any) -> list[Event]:
    """The events of an administrator's writes."""
    project = client.backend.projects.get(client.project)
    who = Accountability(1, ADMINISTRATOR)
    ctx = Context(project.key, await project.snapshot(), who, moment(time.time()), Session(project.database), project.keys)

    async def noted(writer: Writer) -> list[Event]:
        await work(writer)
        return writer.events

    return await in_transaction(client.app.services.items, ctx, WriteOptions(**options), noted)


def told(event: Event) -> tuple[str, str, Any]:
    return event.action, event.collection.collection, event.key


@ensureDeferred
async def test_each_item_that_is_written_is_an_event_with_its_row_before_and_after(client: Client) -> None:
    await collections(client)
    (made,) = await events(client, lambda w: w.create("things", [{"name": "a", "price": "1234567890.0123456789"}]))
    assert told(made) == ("create", "things", 1)
    assert made.before is None
    assert made.after == {
        "id": 1,
        "name": "a",
        "status": None,
        "price": "1234567890.0123456789",
        "secret": None,
        "belongs_to": None,
    }
    assert made.payload == {"name": "a", "price": "1234567890.0123456789"}
    assert made.parent is None

    (changed,) = await events(client, lambda w: w.update("things", [(1, {"name": "b", "secret": "s"})]))
    assert told(changed) == ("update", "things", 1)
    assert changed.before == made.after
    assert changed.after == {**made.after, "name": "b", "secret": changed.after["secret"]}
    assert str(changed.after["secret"]).startswith("$argon2")

    (softly,) = await events(client, lambda w: w.update("things", [(1, {"status": "gone"})]))
    assert (told(softly), softly.before) == (("soft-delete", "things", 1), changed.after)
    revisions = (await client.get("~/items/things/1/revisions?fields=id")).data
    (back,) = await events(client, lambda w: w.revert("things", "1", str(revisions[0]["id"])))
    assert (told(back), back.before) == (("revert", "things", 1), softly.after)
    assert (back.after["name"], back.after["status"]) == ("a", None)
    (gone,) = await events(client, lambda w: w.delete("things", [1, 2]))
    assert (told(gone), gone.before, gone.after) == (("delete", "things", 1), back.after, None)


@ensureDeferred
async def test_nested_items_are_events_in_the_order_in_which_they_are_written(client: Client) -> None:
    await collections(client)
    owners = [{"name": "o", "things": [{"name": "a"}, {"name": "b"}]}, {"name": "p"}]
    made = await events(client, lambda w: w.create("owners", owners))
    assert [told(event) for event in made] == [
        ("create", "owners", 1),
        ("create", "owners", 2),
        ("create", "things", 1),
        ("create", "things", 2),
    ]
    assert [event.parent for event in made] == [None, None, ("owners", None), ("owners", None)]
    body = {"things": [{"id": 1, "$delete": True}, {"id": 2, "name": "c"}, {"name": "d"}]}
    changed = await events(client, lambda w: w.update("owners", [(1, body)]))
    assert [told(event) for event in changed] == [
        ("update", "owners", 1),
        ("delete", "things", 1),
        ("update", "things", 2),
        ("create", "things", 3),
    ]
    assert [event.parent for event in changed] == [None, None, ("owners", "1"), ("owners", "1")]
    upwards = await events(client, lambda w: w.create("things", [{"name": "e", "belongs_to": {"id": 2, "name": "q"}}]))
    assert [told(event) for event in upwards] == [("update", "owners", 2), ("create", "things", 4)]
    assert upwards[1].payload == {"name": "e", "belongs_to": 2}


@ensureDeferred
async def test_events_are_there_where_no_history_is_wanted_and_not_where_nothing_is_written(client: Client) -> None:
    await collections(client)
    count = "~/activity?filter[collection]=things&meta=filter_count&limit=1"
    made = await events(client, lambda w: w.create("things", [{"name": "a"}, {"name": "b"}]), activity_skip=True)
    assert [told(event) for event in made] == [("create", "things", 1), ("create", "things", 2)]
    assert (await client.get(count)).json["meta"]["filter_count"] == 0
    assert await events(client, lambda w: w.create("things", [])) == []
    assert await events(client, lambda w: w.delete("things", [9])) == []
    presets = await events(client, lambda w: w.create("directus_collection_presets", [{"collection": "things"}]))
    assert [told(event)[:2] for event in presets] == [("create", "directus_collection_presets")]
    assert (await client.get("~/activity?filter[collection]=directus_collection_presets")).data == []
