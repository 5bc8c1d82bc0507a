"""CSV exports in spreadsheets: no cell is a formula."""

import csv
import io
from typing import Any

from pytest_twisted import ensureDeferred

from directus_tx.db.session import Session
from tests.conftest import Client, field


@ensureDeferred
async def test_no_cell_of_a_csv_export_is_a_formula(client: Client) -> None:
    """Texts of every type, at every depth, and names; numbers stay numbers."""
    texts = {"string": "VARCHAR", "slug": "VARCHAR", "lang": "CHAR", "binary": "BLOB"}
    values: dict[str, Any] = {f"a_{type}": "=1+1" for type in texts} | {
        "a_lang": "-x",
        "a_text": "\t=1",
        "a_full": "＝1",
        "a_free": "a=1",
    }
    numbers = {"n_integer": -5, "n_big": "-9007199254740993", "n_decimal": -1.5, "n_float": -2.5, "n_sort": -1}
    others = {
        "o_array": ["=1", "-2"],
        "o_json": {"=": "=1"},
        "o_flag": True,
        "o_date": "2020-01-01",
        "o_time": "10:00:00",
        "o_null": None,
    }
    fields = [
        *(field(f"a_{type}", type, datatype, None if datatype == "BLOB" else 20) for type, datatype in texts.items()),
        *(field(name, "string", "TEXT", None) for name in ("a_text", "a_full", "a_free", "o_null")),
        field("n_integer", "integer", "INT", 11, signed=True),
        field("n_big", "integer", "BIGINT", 20, signed=True),
        field("n_decimal", "decimal", "DECIMAL", "8,2", signed=True),
        field("n_float", "decimal", "FLOAT", None, signed=True),
        field("n_sort", "sort", "INT", 11, signed=True),
        field("o_array", "array", "VARCHAR", 50),
        field("o_json", "json", "TEXT", None),
        field("o_flag", "boolean", "TINYINT", 1),
        field("o_date", "date", "DATE", None),
        field("o_time", "time", "TIME", None),
        field("self", "m2o", "INT", 11),
        {"field": "others", "type": "o2m"},
    ]
    await client.collection("things", *fields)
    relation = {"collection_many": "things", "field_many": "self", "collection_one": "things", "field_one": "others"}
    await client.post("~/relations", relation)
    everything = values | numbers | others
    made = await client.post("~/items/things", everything | {"self": everything | {"self": everything}})
    assert made.status == 200, made.body
    names = list(everything)
    fields_of = ",".join([*names, *(f"self.{n}" for n in names), *(f"self.self.{n}" for n in names), "others.a_string"])
    reply = await client.get(f"~/items/things?export=csv&filter[id]=3&fields={fields_of}")
    (row,) = csv.DictReader(io.StringIO(reply.body.decode(), newline=""))
    (raw,) = csv.DictReader(
        io.StringIO(
            (await client.get(f"~/items/things?export=csv&filter[id]=3&export_raw=1&fields={fields_of}")).body.decode(),
            newline="",
        )
    )
    assert row.keys() == raw.keys()
    for prefix in ("", "self.", "self.self."):
        for name in values:
            whole = raw[prefix + name]
            assert row[prefix + name] == (whole if name == "a_free" or whole[0].isalnum() else "'" + whole)
        for name, value in numbers.items():
            assert row[prefix + name] == raw[prefix + name] == str(value)
        for name in others:
            assert row[prefix + name] == raw[prefix + name]
            assert not row[prefix + name].startswith(("=", "+", "-", "@", "'"))
        assert {n for n in values if row[prefix + n].startswith("'")} >= {"a_string", "a_slug", "a_lang", "a_text", "a_full"}
        assert (raw[prefix + "a_string"], raw[prefix + "a_text"]) == ("=1+1", "\t=1")


@ensureDeferred
async def test_no_header_of_a_csv_export_is_a_formula(client: Client) -> None:
    """Tables that were there before may have columns of any name."""

    async def work(session: Any) -> None:
        await session.query('CREATE TABLE odd (id serial PRIMARY KEY, "=1+1" text, "-n" int, "a.b" int, "@x" bigint, fine text)')
        await session.query("""INSERT INTO odd ("=1+1", "-n", "a.b", "@x", fine) VALUES ('@x', -1, -2, -3, '-4')""")
        await session.query("SELECT directus_touch('schema')")

    await Session(client.backend.projects.get(client.project).database).transaction(work)
    plain, raw = [
        list(csv.reader(io.StringIO((await client.get(f"~/items/odd?export=csv{more}")).body.decode(), newline="")))
        for more in ("", "&export_raw=1")
    ]
    assert raw == [["id", "=1+1", "-n", "a.b", "@x", "fine"], ["1", "@x", "-1", "-2", "-3", "-4"]]
    assert plain == [["id", "'=1+1", "'-n", "a.b", "'@x", "fine"], ["1", "'@x", "-1", "-2", "-3", "'-4"]]


@ensureDeferred
async def test_the_columns_of_a_csv_export_are_in_the_order_of_fields_whatever_the_items_hold(client: Client) -> None:
    """Also with items without a related item, with missing values, and in files of several batches."""
    await client.collection("authors", field("name"), field("mail"))
    await client.collection(
        "articles", field("title"), field("author", "m2o", "INT", 11), field("body"), {"field": "kin", "type": "o2m"}
    )
    relation = {"collection_many": "articles", "field_many": "author", "collection_one": "authors", "field_one": "articles"}
    await client.post("~/relations", relation)
    (author,) = (await client.post("~/items/authors", [{"name": "Ada", "mail": "a@example.com"}])).data
    rows = [{"title": f"t{n}", "author": author["id"] if n % 3 else None, "body": None if n % 2 else "b"} for n in range(1200)]
    assert (await client.post("~/items/articles?activity_skip=1", rows)).status == 200
    for fields, header in (
        ("", "id,title,author,body"),
        ("*", "id,title,author,body"),
        ("*.*", "id,title,author.id,author.name,author.mail,body"),
        ("*,author.name", "id,title,author.name,body"),
        ("author.name,title", "author.name,title"),
        ("body,author.mail,author.name,id", "body,author.mail,author.name,id"),
        ("title,*", "title,id,author,body"),
        ("body,*.*,author.mail", "body,id,title,author.id,author.name,author.mail"),
        ("-title,body,*", "body,id,author"),
    ):
        for filter in ("", "&filter[author][null]=1", "&filter[id]=2", "&filter[id]=0"):
            answer = await client.get(f"~/items/articles?export=csv&limit=-1&fields={fields}{filter}")
            assert answer.status == 200, fields
            lines = list(csv.reader(io.StringIO(answer.body.decode(), newline="")))
            assert ",".join(lines[0]) == header, fields
            assert all(len(line) == len(lines[0]) for line in lines)
    lines = list(
        csv.DictReader(
            io.StringIO((await client.get("~/items/articles?export=csv&limit=-1&fields=author.name,title")).body.decode())
        )
    )
    assert [line["author.name"] for line in lines] == ["Ada" if n % 3 else "" for n in range(1200)]
    assert [line["title"] for line in lines] == [f"t{n}" for n in range(1200)]


@ensureDeferred
async def test_a_column_with_a_dot_in_its_name_is_not_a_value_within_an_object(client: Client) -> None:
    async def work(session: Any) -> None:
        await session.query('CREATE TABLE dotted (id serial PRIMARY KEY, "a.b" int, a jsonb)')
        await session.query("""INSERT INTO dotted ("a.b", a) VALUES (7, '{"b": "other"}')""")
        await session.query("SELECT directus_touch('schema')")

    await Session(client.backend.projects.get(client.project).database).transaction(work)
    lines = list(csv.reader(io.StringIO((await client.get("~/items/dotted?export=csv")).body.decode(), newline="")))
    assert lines == [["id", "a.b", "a"], ["1", "7", '{"b":"other"}']]
