"""Writing beyond the contract: entity tags, and values of type hash."""

from pytest_twisted import ensureDeferred

from directus_tx.accounts import hashes
from directus_tx.db.session import Session
from directus_tx.db.sql import SQL, Identifier
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
