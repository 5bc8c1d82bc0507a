"""The action `items_written` of plugins: what it hears of, and that messages it writes are part of the transaction."""

from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet import reactor

from directus_tx.api import Context, Message, errors, hookimpl
from directus_tx.db.session import Session
from directus_tx.plugins.manager import Plugins
from tests.conftest import Client, field


class Listener:
    """Writes a message for each item, and remembers what it has heard of. Refuses items whose action is in `refused`."""

    directus_tx_api = 1

    def __init__(self) -> None:
        self.heard: list[list[tuple[str, str, Any]]] = []
        self.refused: set[str] = set()

    @hookimpl
    async def items_written(self, ctx: Context, items: Any) -> None:
        found = [(each.action, each.collection, each.key) for each in items if not each.collection.startswith("directus_")]
        if found:
            self.heard.append(found)
            await ctx.enqueue(*(Message("unknown", "somewhere", {"key": key}, subject=action) for action, _, key in found))
        if any(each.action in self.refused for each in items):
            raise errors.InvalidRequest("Not this.")


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
def plugins(listener: Listener) -> Plugins:
    found = Plugins(reactor)
    found.register(listener, "listener")
    return found


async def subjects(client: Client) -> list[str]:
    session = Session(client.backend.projects.get(client.project).database)
    return [row[0] for row in await session.query("SELECT subject FROM directus_outbox WHERE kind = 'unknown' ORDER BY id")]


@ensureDeferred
async def test_it_hears_of_all_items_of_a_request_at_once(client: Client, listener: Listener) -> None:
    """Of nested ones, and of those that are written without history, too."""
    await client.collection("authors", field("name"))
    await client.collection("books", field("title"), field("author", "m2o", "INT", 11, interface="many-to-one"))
    relation = {"collection_many": "books", "field_many": "author", "collection_one": "authors", "field_one": None}
    assert (await client.post("~/relations", relation)).status == 200
    listener.heard.clear()
    await client.post("~/items/books", [{"title": "a", "author": {"name": "x"}}, {"title": "b"}])
    await client.patch("~/items/books/1,2?activity_skip=1", {"title": "c"})
    await client.delete("~/items/books/2")
    await client.get("~/items/books")
    assert [sorted(each) for each in listener.heard] == [
        [("create", "authors", 1), ("create", "books", 1), ("create", "books", 2)],
        [("update", "books", 1), ("update", "books", 2)],
        [("delete", "books", 2)],
    ]
    assert await subjects(client) == ["create"] * 3 + ["update"] * 2 + ["delete"]


@ensureDeferred
async def test_messages_of_a_request_that_fails_are_not_sent(client: Client, listener: Listener) -> None:
    await client.collection("books", field("title"))
    listener.refused.add("update")
    assert (await client.post("~/items/books", {"title": "a"})).status == 200
    refused = await client.patch("~/items/books/1", {"title": "b"})
    assert (refused.status, refused.code) == (422, 4)
    assert (await client.get("~/items/books/1")).data["title"] == "a"
    assert (await client.post("~/items/books", [{"title": "c"}, {"nothing": 1}])).status == 422
    assert await subjects(client) == ["create"]


@ensureDeferred
async def test_the_name_of_the_key_is_known(client: Client) -> None:
    found: list[str] = []

    class Asking:
        directus_tx_api = 1

        @hookimpl
        def items_written(self, ctx: Context, items: Any) -> None:
            found.append(ctx.primary_key("books"))
            with pytest.raises(errors.CollectionNotFound):
                ctx.primary_key("nothing")

    await client.collection("books", field("title"))
    client.backend.plugins.register(Asking(), "asking")
    assert (await client.post("~/items/books", {"title": "a"})).status == 200
    assert found == ["id"]
