"""Writing beyond the contract: entity tags, and the hooks of an item's life."""

from typing import Any

from attrs import evolve
from pytest_twisted import ensureDeferred
from twisted.internet import defer

from directus_tx.accounts import hashes
from directus_tx.db.session import Session
from directus_tx.db.sql import SQL, Identifier
from directus_tx.errors import InvalidRequest
from directus_tx.plugins.hookspecs import hookimpl
from directus_tx.plugins.manager import Plugins
from tests.conftest import Client, field


@ensureDeferred
async def test_a_change_with_an_old_entity_tag_is_refused(client: Client) -> None:
    await client.collection("things", field("name"), field("colour"))
    await client.post("~/items/things", {"name": "a", "colour": "red"})
    tag = (await client.get("~/items/things/1?fields=name")).headers["etag"]
    whole = (await client.get("~/items/things/1")).headers["etag"]
    assert tag != whole
    changed = await client.patch("~/items/things/1", {"name": "b"}, headers={"If-Match": tag})
    assert changed.status == 200
    for old in (tag, whole, '"nonsense"', f"{tag}, {whole}"):
        refused = await client.patch("~/items/things/1", {"name": "c"}, headers={"If-Match": old})
        assert (refused.status, refused.code) == (412, 20)
        assert (await client.delete("~/items/things/1", headers={"If-Match": old})).status == 412
    assert (await client.get("~/items/things/1?fields=name")).data == {"name": "b"}
    new = (await client.get("~/items/things/1")).headers["etag"]
    assert (await client.patch("~/items/things/1", {"name": "d"}, headers={"If-Match": "*"})).status == 200
    assert (await client.delete("~/items/things/1", headers={"If-Match": new})).status == 412
    new = (await client.get("~/items/things/1")).headers["etag"]
    assert (await client.delete("~/items/things/1", headers={"If-Match": new})).status == 204
    assert (await client.patch("~/items/things/1", {"name": "e"}, headers={"If-Match": "*"})).status == 404


@ensureDeferred
async def test_the_entity_tag_of_a_limited_caller_tells_of_what_it_shows_alone(client: Client) -> None:
    await client.collection("things", field("name"), field("secret"))
    role = (await client.post("~/roles", {"name": "Writers"})).data["id"]
    user = {"email": "w@example.com", "password": "password", "role": role, "status": "active", "token": "writer"}
    await client.post("~/users", user)
    levels = {"read": "full", "update": "full", "read_field_blacklist": ["secret"]}
    await client.post("~/permissions", {"collection": "things", "role": role, **levels})
    await client.post("~/items/things", {"name": "a", "secret": "x"})
    first = await client.get("~/items/things/1", token="writer")
    await client.patch("~/items/things/1", {"secret": "y"})
    again = await client.get("~/items/things/1", token="writer")
    assert (again.body, again.headers["etag"]) == (first.body, first.headers["etag"])
    tag = {"If-Match": first.headers["etag"]}
    assert (await client.patch("~/items/things/1", {"name": "b"}, token="writer", headers=tag)).status == 200
    assert (await client.patch("~/items/things/1", {"name": "c"}, token="writer", headers=tag)).status == 412


@ensureDeferred
async def test_an_entity_tag_goes_with_one_item(client: Client) -> None:
    await client.collection("things", field("name"))
    await client.post("~/items/things", [{"name": "a"}, {"name": "b"}])
    many = await client.patch("~/items/things/1,2", {"name": "c"}, headers={"If-Match": "*"})
    assert (many.status, many.code) == (422, 4)
    assert (await client.patch("~/items/things", [{"id": 1, "name": "c"}], headers={"If-Match": "*"})).status == 422
    assert (await client.delete("~/items/things/1,2", headers={"If-Match": "*"})).status == 422
    assert [item["name"] for item in (await client.get("~/items/things")).data] == ["a", "b"]


class Plugin:
    """Notes every hook; titles are made, "forbidden" ones refused."""

    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []

    @hookimpl
    async def item_create_before(self, ctx: Any, collection: str, payload: dict[str, Any]) -> None:
        assert ctx.db.in_transaction
        if payload.get("name") == "forbidden":
            raise InvalidRequest("Not that one.")
        payload.setdefault("title", f"The {payload['name']}")

    @hookimpl
    def item_update_before(self, collection: str, key: Any, payload: dict[str, Any]) -> Any:
        self.heard.append(("update before", collection, key))
        payload["title"] = "Changed"
        return defer.succeed(None)

    @hookimpl
    def item_delete_before(self, collection: str, key: Any) -> None:
        if key == 1:
            raise InvalidRequest("The first one stays.")

    @hookimpl
    async def item_create_after(self, ctx: Any, collection: str, key: Any, payload: dict[str, Any]) -> None:
        assert not ctx.db.in_transaction
        self.heard.append(("created", collection, key, payload["name"]))

    @hookimpl
    def item_update_after(self, collection: str, key: Any) -> None:
        self.heard.append(("updated", collection, key))
        raise RuntimeError("nobody's business")

    @hookimpl
    def item_delete_after(self, collection: str, key: Any) -> None:
        self.heard.append(("deleted", collection, key))


@ensureDeferred
async def test_plugins_change_and_refuse_writes_and_hear_of_them(client: Client) -> None:
    await client.collection("things", field("name"), field("title"))
    plugin = Plugin()
    plugins = Plugins()
    plugins.register(plugin)
    client.app.services = evolve(client.app.services, items=evolve(client.app.services.items, plugins=plugins))
    created = await client.post("~/items/things", [{"name": "a"}, {"name": "b", "title": "B"}])
    assert [item["title"] for item in created.data] == ["The a", "B"]
    refused = await client.post("~/items/things", [{"name": "c"}, {"name": "forbidden"}])
    assert (refused.status, refused.code) == (422, 4)
    assert (await client.patch("~/items/things/2", {"name": "d"})).data == {"id": 2, "name": "d", "title": "Changed"}
    assert (await client.delete("~/items/things/1,2")).status == 422
    assert (await client.delete("~/items/things/2")).status == 204
    assert [item["name"] for item in (await client.get("~/items/things")).data] == ["a"]
    assert plugin.heard == [
        ("created", "things", 1, "a"),
        ("created", "things", 2, "b"),
        ("update before", "things", 2),
        ("updated", "things", 2),
        ("deleted", "things", 2),
    ]


@ensureDeferred
async def test_plugins_do_not_hear_of_a_write_that_may_not_have_been_made(client: Client) -> None:
    await client.collection("things", field("name"), field("title"))
    plugin, plugins = Plugin(), Plugins()
    plugins.register(plugin)
    client.app.services = evolve(client.app.services, items=evolve(client.app.services.items, plugins=plugins))
    session = Session(client.backend.projects.get(client.project).database)
    await session.transaction(
        lambda session: session.query(
            "CREATE FUNCTION end_it() RETURNS trigger LANGUAGE plpgsql AS"
            " 'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END';"
            " CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON things DEFERRABLE INITIALLY DEFERRED"
            " FOR EACH ROW EXECUTE FUNCTION end_it()"
        )
    )
    answer = await client.post("~/items/things", {"name": "a"})
    assert (answer.status, answer.code) == (503, 16)
    assert "not known" in answer.json["error"]["message"]
    assert plugin.heard == []
    assert (await client.get("~/items/things")).data == []


@ensureDeferred
async def test_a_value_of_type_hash_is_never_stored_as_it_was_sent(client: Client) -> None:
    await client.collection("parents", field("name"), field("secret", "hash"))
    await client.collection("children", field("secret", "hash"), field("parent", "m2o", "INT", 11))
    relation = {"collection_many": "children", "field_many": "parent", "collection_one": "parents", "field_one": "children"}
    assert (await client.post("~/relations", relation)).status == 200
    alias = {"field": "children", "type": "o2m", "interface": "one-to-many"}
    assert (await client.post("~/fields/parents", alias)).status == 200
    word = "plain-4711"
    nested = {"secret": word, "children": [{"secret": word}, {"secret": word, "parent": {"secret": word}}]}
    assert (await client.post("~/items/parents", [nested, nested])).status == 200
    assert (await client.patch("~/items/parents/1", {"secret": word, "children": [{"id": 1, "secret": word}]})).status == 200
    assert (await client.patch("~/items/children/1,2", {"secret": word})).status == 200
    session = Session(client.backend.projects.get(client.project).database)
    stored = await session.query("SELECT secret FROM parents UNION ALL SELECT secret FROM children")
    assert len(stored) >= 6
    assert all(hashes.matches(word, secret) for (secret,) in stored if secret is not None)
    tables = await session.query("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    for (table,) in tables:
        rows = await session.query(SQL("SELECT 1 FROM {} AS t WHERE t::text LIKE %s").format(Identifier(table)), (f"%{word}%",))
        assert rows == [], table
    for default in (word, 5, True):
        refused = await client.post("~/fields/parents", field("other", "hash", default_value=default))
        assert (refused.status, refused.code) == (422, 4)
        refused = await client.patch("~/fields/parents/secret", {"default_value": default})
        assert (refused.status, refused.code) == (422, 4)
    too_long = await client.patch("~/items/parents/1", {"secret": "x" * 4097})
    assert (too_long.status, too_long.code) == (422, 12)
