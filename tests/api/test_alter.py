"""Changes of tables that others have a part in: their views, indexes, constraints and triggers stay, or the change is refused."""

import pytest
from pytest_twisted import ensureDeferred

from directus_tx.db.session import Session
from directus_tx.schema import ddl
from tests.conftest import KEY, Client, Reply, field


async def execute(client: Client, *statements: str) -> None:
    async def work(session: Session) -> None:
        for statement in statements:
            await session.query(statement)
        await session.query("SELECT directus_touch('schema')")

    await Session(client.backend.projects.get(client.project).database).transaction(work)


async def indexes(client: Client) -> dict[str, str]:
    """The indexes on the table t by name, without the key's."""
    session = Session(client.backend.projects.get(client.project).database)
    rows = await session.query("SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 't' AND indexname <> 't_pkey'")
    return {name: definition.split(" USING ")[1] for name, definition in rows}


def said(answer: Reply) -> tuple[int, int]:
    return answer.status, answer.code


@ensureDeferred
async def test_indexes_that_others_have_made_stay(client: Client) -> None:
    await client.collection("t", field("a"), field("n", "integer", "INT", 11))
    await execute(
        client,
        'CREATE INDEX "others, own" ON t (a)',
        "CREATE INDEX pattern ON t (a text_pattern_ops)",
        "CREATE UNIQUE INDEX partial ON t (n) WHERE n > 0",
        "CREATE INDEX of_two ON t (n, a)",
    )
    before = await indexes(client)
    for attributes in (
        {"unique": True},
        {"unique": False},
        {"datatype": "TEXT", "unique": True},
        {"datatype": "VARCHAR", "length": 90},
    ):
        assert (await client.patch("~/fields/t/a", attributes)).status == 200, attributes
        found = await indexes(client)
        assert {name: found[name] for name in before} == before, attributes
        assert (await client.get("~/fields/t/a")).data["unique"] == (len(found) > len(before))
    assert (await client.patch("~/fields/t/n", {"datatype": "BIGINT"})).status == 200
    assert (await client.get("~/fields/t/n")).data["unique"] is False
    found = await indexes(client)
    assert {name: found[name] for name in before} == before


@ensureDeferred
async def test_a_unique_field_of_any_making_becomes_one_that_is_not(client: Client) -> None:
    await client.collection("t", {**field("a"), "unique": True})
    await execute(
        client, "ALTER TABLE t ADD b text UNIQUE, ADD c int UNIQUE, ADD d varchar(9)", "CREATE UNIQUE INDEX ON t (lower(d))"
    )
    for name in "abcd":
        assert (await client.get(f"~/fields/t/{name}")).data["unique"] is True
        changed = await client.patch(f"~/fields/t/{name}", {"unique": False})
        assert (changed.status, changed.data["unique"]) == (200, False), changed.body
        for _ in range(2):
            assert (await client.post("~/items/t", {name: "7"})).status == 200
        assert said(await client.patch(f"~/fields/t/{name}", {"unique": True})) == (422, 404)
    assert await indexes(client) == {}


@ensureDeferred
async def test_what_others_need_is_not_changed(client: Client) -> None:
    await client.collection("t", field("a"), field("n", "integer", "INT", 11), {**field("u"), "unique": True})
    await client.collection("other", field("x"))
    await client.post("~/items/t", {"a": "1", "n": 1, "u": "x"})
    await execute(
        client,
        "CREATE VIEW seen AS SELECT id, a, n FROM t",
        "ALTER TABLE t ADD c text CONSTRAINT needed UNIQUE",
        "CREATE TABLE refers (id serial PRIMARY KEY, c text REFERENCES t (c))",
        "CREATE UNIQUE INDEX partial ON t (lower(u)) WHERE u <> 'x'",
    )
    before = (await client.get("~/fields/t")).data, await indexes(client), (await client.get("~/items/t")).data
    for name, attributes in (
        ("n", {"datatype": "VARCHAR", "length": 20}),
        ("a", {"datatype": "VARCHAR", "length": 300}),
        ("c", {"unique": False}),
        ("u", {"type": "integer", "datatype": "INT", "length": None}),
    ):
        assert said(await client.patch(f"~/fields/t/{name}", attributes)) == (422, 404), name
    assert said(await client.delete("~/fields/t/a")) == (422, 4)
    assert said(await client.delete("~/collections/t")) == (422, 4)
    assert ((await client.get("~/fields/t")).data, await indexes(client), (await client.get("~/items/t")).data) == before


@ensureDeferred
async def test_a_type_that_cannot_be_unique_is_refused(client: Client) -> None:
    await execute(client, "CREATE TABLE t (id serial PRIMARY KEY, j json, p point)")
    for name in "jp":
        assert said(await client.patch(f"~/fields/t/{name}", {"unique": True})) == (422, 404)
        assert (await client.patch(f"~/fields/t/{name}", {"note": "as it is"})).data["note"] == "as it is"


@ensureDeferred
async def test_names_that_others_have_given_are_taken(client: Client) -> None:
    await execute(
        client,
        "CREATE VIEW v AS SELECT 1 AS id",
        "CREATE TABLE keyless (a int)",
        "CREATE SEQUENCE s",
        "CREATE TABLE pair (a int, b int, PRIMARY KEY (a, b))",
    )
    assert said(await client.post("~/collections", {"collection": "s", "fields": [KEY, field("x")]})) == (422, 307)
    assert (await client.get("~/items/s")).code == 200
    for name in ("v", "pair"):
        assert (await client.get(f"~/items/{name}")).status == 200
        assert said(await client.post("~/collections", {"collection": name, "fields": [KEY, field("x")]})) == (422, 4), name
    assert (await client.get("~/items/keyless")).data == []
    adopted = await client.post("~/collections", {"collection": "keyless", "fields": [KEY, field("x")]})
    assert adopted.status == 200
    assert (await client.post("~/items/keyless", {"a": 1, "x": "x"})).data == {"a": 1, "id": 1, "x": "x"}


@ensureDeferred
async def test_a_field_whose_stored_type_does_not_exist_can_be_described(client: Client) -> None:
    await client.collection("things", field("name"))
    project = client.backend.projects.get(client.project)
    await Session(project.database).query(
        "UPDATE directus_fields SET type = 'nothing' WHERE field = 'name' AND collection = 'things'"
    )
    await Session(project.database).query("UPDATE directus_versions SET version = version + 1 WHERE kind = 'schema'")
    answer = await client.patch("~/fields/things/name", {"note": "described"})
    assert (answer.status, answer.data["note"]) == (200, "described")
    assert (await client.patch("~/fields/things/name", {"type": "other"})).status == 422


CONVERSIONS = {
    ("date", "DATE"): (["2020-01-31", " 2020-02-29 ", "", None], ["2020-02-30", "soon", "1.1", "2020-01-31 10:00:00"]),
    ("time", "TIME"): (["10:30:00", "", None], ["25:00:00", "noon-ish", "10:30:00.5"]),
    ("datetime", "DATETIME"): (
        ["2020-01-31 10:30:00", "", None],
        ["2020-13-01 10:30:00", "x", "99999999-01-01", "2020-01-31 10:30:00.25"],
    ),
    ("boolean", "BOOLEAN"): (["true", "0", "yes", "", None], ["maybe", "2"]),
    ("integer", "INT"): (["7", " 8 ", "", None], ["7.5", "seven", "9" * 30]),
    ("decimal", "DECIMAL"): (["7.5", "8", "", None], ["x", "1.234", "007"]),
}


@pytest.mark.parametrize("checks", ["those of PostgreSQL", "those of older versions"])
@pytest.mark.parametrize(("type", "datatype"), CONVERSIONS)
@ensureDeferred
async def test_a_conversion_that_some_texts_do_not_allow_is_refused_with_their_number(
    client: Client, monkeypatch: pytest.MonkeyPatch, type: str, datatype: str, checks: str
) -> None:
    if checks != "those of PostgreSQL":
        monkeypatch.setattr(ddl, "INPUT_CHECKS", "SELECT false, true")
    good, bad = CONVERSIONS[type, datatype]
    await client.collection("t", field("a", length=50))
    assert (await client.post("~/items/t", [{"a": value} for value in (*bad, *good)])).status == 200
    wanted = {"type": type, "datatype": datatype, "length": "5,2" if type == "decimal" else None}
    for left in range(len(bad), 0, -1):
        refused = await client.patch("~/fields/t/a", wanted)
        assert refused.status in (400, 422)
        rows = "1 row" if left == 1 else f"{left} rows"
        assert f"the value of {rows}, or a part of it, would be lost" in refused.json["error"]["message"]
        assert (await client.get("~/fields/t/a")).data["datatype"] == "VARCHAR"
        assert (await client.delete(f"~/items/t/{left}")).status == 204
    assert (await client.patch("~/fields/t/a", wanted)).status == 200
    assert len((await client.get("~/items/t")).data) == len(good)


@ensureDeferred
async def test_bytes_that_are_no_text_are_counted(client: Client) -> None:
    await client.collection("t", field("a", "binary", "BLOB", None))
    await execute(client, r"INSERT INTO t (a) VALUES ('\xff'), ('\x616263'), ('\x00'), (NULL), ('\xc3a9')")
    wanted = {"type": "string", "datatype": "TEXT", "length": None}
    refused = await client.patch("~/fields/t/a", wanted)
    assert "the value of 2 rows" in refused.json["error"]["message"]
    await execute(client, "DELETE FROM t WHERE id IN (1, 3)")
    assert (await client.patch("~/fields/t/a", wanted)).status == 200
    assert [row["a"] for row in (await client.get("~/items/t?sort=id")).data] == ["abc", None, "é"]


@ensureDeferred
async def test_what_goes_with_a_field_and_concerns_others_is_named(client: Client) -> None:
    await client.collection("other", field("x"))
    await client.collection(
        "t", *(field(name, "integer", "INT", 11, signed=True) for name in "abcd"), {**field("e"), "unique": True}
    )
    await execute(
        client,
        "CREATE UNIQUE INDEX pair ON other (x, id)",
        "ALTER TABLE t ADD CONSTRAINT ordered CHECK (a < b), ADD CONSTRAINT positive CHECK (a > 0), ADD UNIQUE (b, c)",
        "CREATE INDEX of_both ON t (c, b)",
        "CREATE UNIQUE INDEX odd ON t (lower(e), abs(a))",
        "CREATE INDEX alone ON t (a)",
        "CREATE STATISTICS guess ON a, c FROM t",
    )
    answer = await client.delete("~/fields/t/a")
    assert answer.status == 200
    (told,) = answer.json["messages"]
    assert told["message"].endswith('too: check constraint "ordered", statistics "guess", unique index "odd".')
    told = (await client.delete("~/fields/t/b")).json["messages"][0]["message"]
    assert told.endswith('too: index "of_both", unique constraint "t_b_c_key".')
    # What concerns the field alone goes without a word.
    for name in ("c", "e"):
        answer = await client.delete(f"~/fields/t/{name}")
        assert (answer.status, answer.body) == (204, b"")
    assert set(await indexes(client)) == set()
