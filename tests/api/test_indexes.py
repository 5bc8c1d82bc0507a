"""Declared indexes: what is accepted, what is built and when, and what becomes of them when fields change."""

import json
from typing import Any

import pytest
from pytest_twisted import ensureDeferred

from directus_tx.db.connection import connected
from directus_tx.db.session import Session
from directus_tx.jobs.indexes import Builder, build_indexes
from directus_tx.projects.project import Project
from tests.conftest import KEY, Client, field

LARGE = 60_000
"""Rows with which a table of a text of 60 characters is larger than `schema_service.indexes.SMALL`."""


def project_of(client: Client) -> Project:
    return client.backend.projects.get(client.project)


async def run(client: Client, sql: str, *parameters: Any) -> list[Any]:
    """Runs a statement in the database of the project, in a transaction."""
    session = Session(project_of(client).database)
    return await session.transaction(lambda session: session.query(sql, parameters))


async def stored(client: Client, table: str) -> dict[str, str]:
    """The indexes of a table in PostgreSQL, without that of the key, by name."""
    rows = await run(client, "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = %s", table)
    return {name: definition.partition(" USING btree ")[2] for name, definition in rows if not name.endswith("_pkey")}


async def declared(client: Client) -> list[str]:
    return [name for (name,) in await run(client, "SELECT name FROM directus_indexes ORDER BY name")]


async def fill(client: Client, table: str, rows: int = LARGE, code: str = "'Code ' || n") -> None:
    await run(client, f"INSERT INTO {table} (code, note) SELECT {code}, repeat('x', 60) FROM generate_series(1, %s) n", rows)


async def shops(client: Client, *, large: bool = False, code: str = "'Code ' || n", **more: Any) -> None:
    """A collection with a text, a number and a date; *large*: with so many rows that indexes are built in the background."""
    answer = await client.post(
        "~/collections",
        {
            "collection": "shops",
            "fields": [
                KEY,
                field("code"),
                field("note"),
                field("size", "integer", "INT", 11),
                field("on", "date", "DATE", None),
                field("data", "json", "JSON", None),
                field("status", "status", options={"status_mapping": {"open": {}, "gone": {"soft_delete": True}}}),
            ],
            **more,
        },
    )
    assert answer.status == 200, answer.body
    if large:
        await fill(client, "shops", code=code)


# --- an index of a field


@ensureDeferred
async def test_an_index_of_a_field_is_as_the_field_is_compared_and_sorted(client: Client) -> None:
    await shops(client)
    for name in ("code", "size", "on"):
        answer = await client.patch(f"~/fields/shops/{name}", {"index": True})
        assert (answer.status, answer.data["index"]) == (200, {"state": "ready"}), answer.body
    assert await stored(client, "shops") == {
        "shops_code_index": "(lower((code)::text), id)",
        "shops_code_desc_index": "(lower((code)::text) DESC NULLS LAST, id)",
        "shops_size_index": "(size, id)",
        "shops_size_desc_index": "(size DESC NULLS LAST, id)",
        "shops_on_index": '("on", id)',
        "shops_on_desc_index": '("on" DESC NULLS LAST, id)',
    }
    assert (await client.get("~/fields/shops/code")).data["index"] == {"state": "ready"}
    assert (await client.get("~/collections/shops")).data["fields"]["on"]["index"] == {"state": "ready"}
    assert "index" not in (await client.get("~/fields/shops/note")).data
    # What is shown can be sent back, and declaring again changes nothing.
    before = await run(client, "SELECT oid, relname FROM pg_class WHERE relname LIKE 'shops%%' ORDER BY relname")
    shown = (await client.get("~/fields/shops/code")).data
    assert (await client.patch("~/fields/shops/code", shown)).data == shown
    await client.patch("~/fields/shops", [{"field": "size", "index": True}, {"field": "on", "note": "when"}])
    assert await run(client, "SELECT oid, relname FROM pg_class WHERE relname LIKE 'shops%%' ORDER BY relname") == before
    assert "index" not in (await client.patch("~/fields/shops/code", {"index": False})).data
    assert (await client.patch("~/fields/shops", [{"field": n, "index": False} for n in ("size", "on")])).status == 200
    assert await stored(client, "shops") == {}
    assert await declared(client) == []


@ensureDeferred
async def test_fields_and_collections_are_created_with_indexes(client: Client) -> None:
    await client.collection("plain", field("a"))
    answer = await client.post("~/fields/plain", field("b", index=True))
    assert answer.data["index"] == {"state": "ready"}
    answer = await client.post(
        "~/collections",
        {
            "collection": "shops",
            "fields": [KEY, field("code", index=True), field("size", "integer", "INT", 11), field("city", index=False)],
            "indexes": [{"fields": ["city", "-size"]}, {"name": "sizes", "fields": ["size"], "where": {"city": {"nnull": ""}}}],
        },
    )
    assert answer.status == 200, answer.body
    listed = [(index["name"], index["origin"], index["state"]) for index in answer.data["indexes"]]
    assert listed == [
        ("shops_city_size_desc_index", "collection", "ready"),
        ("shops_code_desc_index", "field", "ready"),
        ("shops_code_index", "field", "ready"),
        ("shops_pkey", "database", "ready"),
        ("sizes", "collection", "ready"),
    ]
    assert (await stored(client, "shops"))["shops_city_size_desc_index"] == "(lower((city)::text), size DESC NULLS LAST)"
    assert (await stored(client, "shops"))["sizes"] == "(size) WHERE (city IS NOT NULL)"


@ensureDeferred
async def test_a_column_that_has_an_index_already_gets_only_the_other_direction(client: Client) -> None:
    await client.collection("things", field("code", unique=True), field("author", "owner", "INT", 11))
    for name in ("code", "author"):
        assert (await client.patch(f"~/fields/things/{name}", {"index": True})).data["index"] == {"state": "ready"}
    assert await declared(client) == ["things_author_desc_index", "things_code_desc_index"]
    await client.patch("~/fields/things/code", {"unique": False})
    assert await declared(client) == ["things_author_desc_index", "things_code_desc_index", "things_code_index"]
    assert set(await stored(client, "things")) == {*await declared(client), "things_author_idx"}
    await client.patch("~/fields/things/code", {"unique": True})
    assert await declared(client) == ["things_author_desc_index", "things_code_desc_index"]


@ensureDeferred
async def test_a_column_that_cannot_be_null_needs_one_index(client: Client) -> None:
    await run(client, "CREATE TABLE old (id int PRIMARY KEY, name text NOT NULL, at timestamptz NOT NULL, label char(5))")
    await client.post("~/collections", {"collection": "old", "fields": []})
    for name in ("name", "at", "label"):
        assert (await client.patch(f"~/fields/old/{name}", {"index": True})).status == 200
    assert await stored(client, "old") == {
        "old_name_index": "(lower(name), id)",
        "old_at_index": "(at, id)",
        "old_label_index": "(lower((label)::text), id)",
        "old_label_desc_index": "(lower((label)::text) DESC NULLS LAST, id)",
    }


# --- the indexes of a collection


@ensureDeferred
async def test_indexes_of_a_collection_are_replaced_by_the_list_that_is_sent(client: Client) -> None:
    await shops(client)
    wanted = [
        {"fields": ["code", "-on"]},
        {"name": "open_sizes", "fields": ["-size"], "where": {"status": "open"}},
        {"fields": ["code", "size"], "unique": True},
    ]
    answer = await client.patch("~/collections/shops", {"indexes": wanted})
    assert answer.status == 200, answer.body
    assert await stored(client, "shops") == {
        "shops_code_on_desc_index": '(lower((code)::text), "on" DESC NULLS LAST)',
        "open_sizes": "(size DESC NULLS LAST) WHERE (lower((status)::text) = lower('open'::text))",
        "shops_code_size_index": "(lower((code)::text), size)",
    }
    shown = (await client.get("~/collections/shops")).data
    assert [index for index in shown["indexes"] if index["name"] == "open_sizes"] == [
        {
            "name": "open_sizes",
            "fields": ["-size"],
            "unique": False,
            "where": {"status": "open"},
            "origin": "collection",
            "state": "ready",
        }
    ]
    before = await run(client, "SELECT oid FROM pg_class WHERE relkind = 'i' ORDER BY oid")
    assert (await client.patch("~/collections/shops", {"indexes": shown["indexes"]})).data["indexes"] == shown["indexes"]
    assert (await client.patch("~/collections/shops", {"note": "x"})).data["indexes"] == shown["indexes"]
    assert await run(client, "SELECT oid FROM pg_class WHERE relkind = 'i' ORDER BY oid") == before

    # A unique index refuses a second item, and the message names its fields.
    await client.post("~/items/shops", {"code": "A", "size": 1})
    answer = await client.post("~/items/shops", {"code": "a", "size": 1})
    assert (answer.status, answer.code) == (409, 204)
    assert '"code", "size"' in answer.json["error"]["message"]

    answer = await client.patch("~/collections/shops", {"indexes": [{"name": "open_sizes", "fields": ["size"]}]})
    assert answer.status == 200, answer.body
    assert await stored(client, "shops") == {"open_sizes": "(size)"}
    assert "indexes" in (await client.patch("~/collections/shops", {"indexes": []})).data
    assert await stored(client, "shops") == {}
    assert await declared(client) == []


@ensureDeferred
async def test_indexes_of_other_programs_are_shown_and_left_alone(client: Client) -> None:
    await shops(client)
    await run(client, "CREATE INDEX by_hand ON shops (size DESC, code)")
    await run(client, "CREATE UNIQUE INDEX part ON shops (upper(note)) WHERE size > 3")
    shown = (await client.get("~/collections/shops")).data["indexes"]
    found = {index["name"]: index for index in shown}
    assert found["by_hand"]["fields"] == ["-size", "code"]
    assert {index["origin"] for index in shown} == {"database"}
    assert "upper((note)::text)" in found["part"]["definition"]
    assert "(size > 3)" in found["part"]["definition"]
    for payload in ({"indexes": shown}, {"indexes": []}, {"indexes": [{"fields": ["size"]}]}, {"indexes": []}):
        assert (await client.patch("~/collections/shops", payload)).status == 200
    await client.patch("~/fields/shops/size", {"index": True})
    await client.patch("~/fields/shops/size", {"index": False})
    assert set(await stored(client, "shops")) == {"by_hand", "part"}
    answer = await client.patch("~/collections/shops", {"indexes": [{"name": "by_hand", "fields": ["size"]}]})
    assert (answer.status, answer.code) == (422, 4)


BAD: dict[str, tuple[Any, str]] = {
    "no list": ({"fields": ["code"]}, "list"),
    "no objects": (["code"], "list of objects"),
    "no fields": ([{"name": "x"}], '"fields"'),
    "an empty list": ([{"fields": []}], '"fields"'),
    "a number": ([{"fields": [3]}], '"fields"'),
    "unknown field": ([{"fields": ["colour"]}], '"colour"'),
    "twice": ([{"fields": ["code", "-code"]}], "once"),
    "two with a name": ([{"name": "a", "fields": ["code"]}, {"name": "a", "fields": ["size"]}], "same name"),
    "two alike": ([{"fields": ["code"]}, {"name": "b", "fields": ["code"]}], "twice"),
    "unknown attribute": ([{"fields": ["code"], "method": "hash"}], '"method"'),
    "name of a table": ([{"name": "shops", "fields": ["code"]}], '"shops"'),
    "reserved name": ([{"name": "directus_x", "fields": ["code"]}], "directus_"),
    "long name": ([{"name": "x" * 64, "fields": ["code"]}], "63"),
    "unique": ([{"fields": ["code"], "unique": "yes"}], '"unique"'),
    "where": ([{"fields": ["code"], "where": "size > 3"}], '"where"'),
    "where operator": ([{"fields": ["code"], "where": {"size": {"above": 3}}}], '"above"'),
    "where field": ([{"fields": ["code"], "where": {"colour": "red"}}], '"colour"'),
    "where relation": ([{"fields": ["code"], "where": {"owner.name": "x"}}], '"owner.name"'),
    "where value": ([{"fields": ["code"], "where": {"size": "large"}}], '"where"'),
    "where now": ([{"fields": ["code"], "where": {"on": {"lt": "now"}}}], "now"),
    "where depth": ([{"fields": ["code"], "where": json.loads('{"size":' * 100 + "1" + "}" * 100)}], "deeply"),
    "too many": ([{"fields": [f"f{n}" for n in range(33)]}], "32"),
    "too many indexes": ([{"fields": ["code"], "where": {"size": {"gt": n}}} for n in range(65)], "64"),
}


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
@ensureDeferred
async def test_definitions_that_cannot_be_are_refused_and_nothing_is_kept(client: Client, large: bool) -> None:
    await shops(client, large=large)
    for name, (payload, said) in BAD.items():
        answer = await client.patch("~/collections/shops", {"note": "changed", "indexes": payload})
        assert (answer.status, said in answer.json["error"]["message"]) == (422, True), (name, answer.body)
    for payload in ("yes", 2, [], {"colour": 1}):
        assert (await client.patch("~/fields/shops/code", {"index": payload})).status == 422
    assert (await client.post("~/fields/shops", {"field": "also", "type": "alias", "index": True})).status == 422
    assert (await client.get("~/collections/shops")).data["note"] is None
    assert await declared(client) == []
    assert await stored(client, "shops") == {}


@ensureDeferred
async def test_definitions_that_postgresql_refuses_are_refused_before_they_are_built(client: Client) -> None:
    await run(client, "CREATE TABLE old (id serial PRIMARY KEY, code text, note text, doc json, at timestamptz)")
    await client.post("~/collections", {"collection": "old", "fields": []})
    await fill(client, "old", LARGE)
    # The text of a timestamptz depends on the time zone of the session.
    for payload in ([{"fields": ["doc"]}], [{"fields": ["code"], "where": {"at": {"contains": "2020"}}}]):
        answer = await client.patch("~/collections/old", {"indexes": payload})
        assert answer.status == 422, answer.body
    assert (await client.patch("~/fields/old/doc", {"index": True})).status == 422
    assert await declared(client) == []


@ensureDeferred
async def test_views_and_tables_in_other_schemas_have_no_declared_indexes(client: Client) -> None:
    await shops(client)
    await run(client, "CREATE VIEW big AS SELECT * FROM shops WHERE size > 3")
    await run(client, "CREATE TABLE parts (id int PRIMARY KEY, code text) PARTITION BY RANGE (id)")
    for name in ("big", "parts"):
        await client.post("~/collections", {"collection": name, "fields": []})
        answer = await client.patch(f"~/fields/{name}/code", {"index": True})
        assert (answer.status, "its indexes cannot be declared" in answer.json["error"]["message"]) == (422, True), answer.body
        answer = await client.patch(f"~/collections/{name}", {"indexes": [{"fields": ["code"]}]})
        assert answer.status == 422, answer.body
    assert await declared(client) == []


@ensureDeferred
async def test_only_administrators_see_indexes(client: Client) -> None:
    await shops(client, indexes=[{"fields": ["size"]}])
    await client.patch("~/fields/shops/code", {"index": True})
    role = (await client.post("~/roles", {"name": "Reader"})).data["id"]
    for collection in ("shops", "directus_collections", "directus_fields"):
        await client.post("~/permissions", {"role": role, "collection": collection, "read": "full"})
    await client.post(
        "~/users", {"email": "r@example.com", "password": "secret99", "role": role, "status": "active", "token": "reader"}
    )
    collection = (await client.get("~/collections/shops", token="reader")).data
    assert "indexes" not in collection
    assert "index" not in collection["fields"]["code"]
    assert "index" not in (await client.get("~/fields/shops/code", token="reader")).data
    assert all("index" not in each for each in (await client.get("~/fields", token="reader")).data)
    assert (await client.patch("~/fields/shops/code", {"index": False}, token="reader")).status in (401, 403)


@ensureDeferred
async def test_openapi_describes_indexes_to_administrators(client: Client) -> None:
    document = (await client.get("~/specs/oas")).json
    schemas = document["components"]["schemas"]
    assert "indexes" in schemas["directus_collections"]["properties"]
    assert "index" in schemas["directus_fields"]["properties"]
    payload = document["paths"]["/collections"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert set(payload["properties"]) == {"collection", "fields", "indexes", "search_index"}
    assert {"type": ["boolean", "null"]} in schemas["directus_fields.Payload"]["properties"]["index"]["anyOf"]
    public = (await client.get("~/specs/oas", token=None)).json["components"]["schemas"]
    assert all("indexes" not in each["properties"] for each in public.values() if "properties" in each)


# --- building in the background


@ensureDeferred
async def test_the_index_of_a_large_table_is_built_outside_of_the_request(client: Client) -> None:
    await shops(client, large=True)
    answer = await client.patch("~/fields/shops/code", {"index": True})
    assert answer.data["index"] == {"state": "building", "progress": 0.0, "phase": "waiting"}
    answer = await client.patch(
        "~/collections/shops", {"indexes": [{"fields": ["-size"], "where": {"status": {"in": ["open"]}}}]}
    )
    assert {i["name"]: i["state"] for i in answer.data["indexes"]}["shops_size_desc_index"] == "building"
    assert await stored(client, "shops") == {}
    assert project_of(client).may_lack_indexes
    assert await build_indexes(project_of(client))
    assert (await client.get("~/fields/shops/code")).data["index"] == {"state": "ready"}
    assert set(await stored(client, "shops")) == {"shops_code_index", "shops_code_desc_index", "shops_size_desc_index"}
    assert {index["state"] for index in (await client.get("~/collections/shops")).data["indexes"]} == {"ready"}
    assert not project_of(client).may_lack_indexes
    assert await build_indexes(project_of(client))


@ensureDeferred
async def test_a_unique_index_that_cannot_be_names_the_values(client: Client) -> None:
    wanted = {"indexes": [{"name": "codes", "fields": ["code"], "unique": True}]}
    await client.collection("few", field("code"), field("secret", "hash"))
    for code in ("a", "A", "b"):
        await client.post("~/items/few", {"code": code, "secret": code})
    answer = await client.patch("~/collections/few", wanted)
    assert (answer.status, answer.code) == (422, 12)
    assert '"a" (2 items)' in answer.json["error"]["message"]
    assert await declared(client) == []
    await run(client, "UPDATE few SET secret = 'same hash'")
    answer = await client.patch("~/collections/few", {"indexes": [{"fields": ["secret"], "unique": True}]})
    assert (answer.status, "*** (3 items)" in answer.json["error"]["message"]) == (422, True)
    assert "same hash" not in answer.body.decode()

    await shops(client, large=True, code="CASE WHEN n < 4 THEN 'Same' ELSE 'Code ' || n END")
    assert (await client.patch("~/collections/shops", wanted)).status == 200
    assert await build_indexes(project_of(client))
    (shown,) = [index for index in (await client.get("~/collections/shops")).data["indexes"] if index["name"] == "codes"]
    assert (shown["state"], '"same" (3 items)' in shown["error"]) == ("failed", True)
    assert await stored(client, "shops") == {}, "an invalid index would refuse items"
    assert not project_of(client).may_lack_indexes
    # Declared again, it is tried again.
    await run(client, "UPDATE shops SET code = code || id WHERE code = 'Same'")
    answer = await client.patch("~/collections/shops", wanted)
    assert {index["state"] for index in answer.data["indexes"] if index["name"] == "codes"} == {"building"}
    assert await build_indexes(project_of(client))
    assert await stored(client, "shops") == {"codes": "(lower((code)::text))"}
    assert (await client.get("~/fields/shops/code")).data["unique"] is False, "that is an attribute of the field"
    answer = await client.post("~/items/shops", {"code": "CODE 5"})
    assert (answer.status, answer.code) == (409, 204)
    assert '"code"' in answer.json["error"]["message"]


@ensureDeferred
async def test_an_invalid_index_that_was_left_behind_is_built_again(client: Client) -> None:
    await shops(client, large=True)
    await client.patch("~/fields/shops/size", {"index": True})
    # As an interrupted CREATE INDEX CONCURRENTLY leaves it.
    await run(client, "CREATE INDEX shops_size_index ON shops (size, id)")
    await run(client, "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'shops_size_index'::regclass")
    ((before,),) = await run(client, "SELECT 'shops_size_index'::regclass::oid")
    assert await build_indexes(project_of(client))
    ((after, valid),) = await run(
        client, "SELECT indexrelid, indisvalid FROM pg_index WHERE indexrelid = 'shops_size_index'::regclass"
    )
    assert (after != before, valid) == (True, True)
    assert (await client.get("~/fields/shops/size")).data["index"] == {"state": "ready"}


@ensureDeferred
async def test_an_index_that_does_not_fit_because_the_schema_has_changed_is_tried_again(client: Client) -> None:
    await shops(client, large=True, code="n")
    await client.patch("~/fields/shops/code", {"index": True})
    project = project_of(client)
    before = await project.snapshot()
    answer = await client.patch("~/fields/shops/code", {"type": "integer", "datatype": "INT", "length": 11})
    assert (answer.status, answer.data["index"]["state"]) == (200, "building")
    database = project.database
    async with connected(database.reactor, database.parameters) as connection:
        for collection, index in before.unbuilt:
            assert not await Builder(project, connection, before, collection, index).build()
    assert (await client.get("~/fields/shops/code")).data["index"]["state"] == "building"
    assert await build_indexes(project)
    assert (await stored(client, "shops"))["shops_code_index"] == "(code, id)"
    assert (await client.get("~/fields/shops/code")).data["index"] == {"state": "ready"}


# --- changes of fields and collections


@ensureDeferred
async def test_indexes_follow_the_type_of_a_column(client: Client) -> None:
    await shops(
        client, indexes=[{"name": "both", "fields": ["code", "size"]}, {"name": "part", "fields": ["on"], "where": {"code": "5"}}]
    )
    await client.patch("~/fields/shops/code", {"index": True})
    await client.post("~/items/shops", {"code": "12"})
    answer = await client.patch("~/fields/shops/code", {"type": "integer", "datatype": "INT", "length": 11})
    assert (answer.status, answer.data["index"]) == (200, {"state": "ready"}), answer.body
    assert await stored(client, "shops") == {
        "both": "(code, size)",
        "part": '("on") WHERE (code = 5)',
        "shops_code_index": "(code, id)",
        "shops_code_desc_index": "(code DESC NULLS LAST, id)",
    }
    assert (await client.patch("~/collections/shops", {"indexes": [{"name": "both", "fields": ["code", "size"]}]})).status == 200
    await fill(client, "shops", code="n")
    answer = await client.patch("~/fields/shops/code", {"type": "string", "datatype": "VARCHAR", "length": 20})
    assert (answer.status, answer.data["index"]["state"]) == (200, "building"), answer.body
    assert await stored(client, "shops") == {}
    assert await build_indexes(project_of(client))
    assert (await stored(client, "shops"))["both"] == "(lower((code)::text), size)"


@ensureDeferred
async def test_indexes_go_with_the_field_and_with_the_collection(client: Client) -> None:
    indexes = [{"fields": ["code", "size"]}, {"fields": ["on"], "where": {"size": {"gt": 3}}}, {"name": "days", "fields": ["on"]}]
    await shops(client, indexes=indexes)
    await client.patch("~/fields/shops/size", {"index": True})
    told = (await client.delete("~/fields/shops/size")).json["messages"][0]["message"]
    assert told.endswith('too: index "shops_code_size_index", index "shops_on_index".')
    assert await declared(client) == ["days"]
    assert set(await stored(client, "shops")) == {"days"}
    assert (await client.post("~/fields/shops", field("size", "integer", "INT", 11))).status == 200
    assert "index" not in (await client.get("~/fields/shops/size")).data
    assert (await client.delete("~/collections/shops")).status == 204
    assert await declared(client) == []
    await shops(client)
    assert [index["name"] for index in (await client.get("~/collections/shops")).data["indexes"]] == ["shops_pkey"]


@ensureDeferred
async def test_indexes_follow_a_table_and_a_column_that_another_program_renames(client: Client) -> None:
    await shops(client, indexes=[{"name": "both", "fields": ["size", "-code"]}])
    await client.patch("~/fields/shops/code", {"index": True})
    await run(client, "ALTER TABLE shops RENAME COLUMN code TO label")
    await run(client, "ALTER TABLE shops RENAME TO stores")
    await run(client, "SELECT directus_touch('schema')")
    shown = {index["name"]: index for index in (await client.get("~/collections/stores")).data["indexes"]}
    assert shown["both"]["fields"] == ["size", "-label"]
    assert (await client.get("~/fields/stores/label")).data["index"] == {"state": "ready"}
    await client.post("~/collections", {"collection": "stores", "fields": []})
    assert (await client.patch("~/fields/stores/label", {"index": False})).status == 200
    assert set(await stored(client, "stores")) == {"both"}
    assert (await client.patch("~/fields/stores/size", {"type": "string", "datatype": "VARCHAR", "length": 9})).status == 200
    assert (await stored(client, "stores"))["both"] == "(lower((size)::text), lower((label)::text) DESC NULLS LAST)"
    assert (await client.delete("~/collections/stores")).status == 204
    assert await declared(client) == []
