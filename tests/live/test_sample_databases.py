"""Each schema of tests/live/schemas as an existing database: a project is created on it by the command, and its tables are listed, read,
filtered and sorted by each field, exported and written. PostgreSQL is asked the same, and pg_dump shows that nothing else has changed.

What is tested are rules: another schema is tested by putting its file into the directory.
"""

import csv
import io
import json
import os
import re
import subprocess
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import psycopg2
import pytest
from attrs import frozen
from openapi_spec_validator import validate

from tests.daemon import BIN, Daemon
from tests.live.live_project import SESSION, LiveProject
from tests.live.test_existing_schemas import PG_DUMP, SCHEMAS

PROJECT = "sample"
CASELESS = ("text", "character varying", "character", "name", "citext")
"""Types that are compared and sorted without case."""
TABLES = """
SELECT CASE n.nspname WHEN 'public' THEN '' ELSE n.nspname || '.' END || c.relname,
       quote_ident(n.nspname) || '.' || quote_ident(c.relname), c.relkind FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname !~ '^pg_|^information_schema$' AND c.relkind IN ('r', 'p', 'v', 'm') AND NOT c.relispartition AND c.relname !~ '^directus_'
  AND EXISTS (SELECT FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped)
ORDER BY 1
"""
COLUMNS = """
SELECT a.attname, replace(quote_ident(a.attname), '%%', '%%%%'), format_type(coalesce(b.oid, t.oid), NULL),
       a.attgenerated = '' AND a.attidentity <> 'a'
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_type b ON b.oid = t.typbasetype AND t.typtype = 'd'
WHERE a.attrelid = %s::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""


@frozen
class Column:
    """A column: its name, and the name as SQL; its type below domains; whether it is neither generated nor an identity ALWAYS."""

    name: str
    sql: str
    type: str
    writable: bool


@frozen
class Table:
    """A table or view as PostgreSQL has it: the name of its collection, its name as SQL, its columns, and that of its key."""

    collection: str
    sql: str
    columns: list[Column]
    key: Column | None
    writable: bool


@frozen
class World(LiveProject):
    """A project on an existing database. `dumped` is what pg_dump wrote before."""

    dumped: str = ""

    def call(self, method: str, path: str, body: Any = ..., **query: Any) -> tuple[int, Any]:
        """The status and the parsed answer. No answer may be a server error."""
        status, found = super().call(method, path, body, **query)
        assert status < 500, (method, path, query, body, found, self.daemon.output[-3000:])
        return status, found

    def query(self, sql: Any, values: Any = None) -> list[tuple[Any, ...]]:
        """The rows of a statement, in which percent signs are doubled."""
        return super().query(sql, values or ())

    def dump(self) -> str:
        """What pg_dump writes of all tables but the system tables."""
        return dumped(self.connection)


def dumped(connection: Any) -> str:
    names = connection.get_dsn_parameters()
    command = [PG_DUMP, "-h", names["host"], "-U", names["user"], "-T", "directus_*", names["dbname"]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    # Each object has a heading, and the settings that it needs before it. Newer releases write a random key.
    _, *objects = re.split(r"^--\n-- (?=Name: |Data for Name: )", done.stdout, flags=re.MULTILINE)
    settings = re.compile(r"^(SET default_.*|\\(un)?restrict .*|-- PostgreSQL database dump complete)$\n", re.MULTILINE)
    own = re.compile(r"(Data for )?Name: (FUNCTION )?directus_")
    return "".join(re.sub(r"\n\n+", "\n", settings.sub("", each)) for each in objects if not own.match(each))


@pytest.fixture(scope="module", params=SCHEMAS, ids=lambda path: path.stem)
def world(request: Any, tmp_path_factory: pytest.TempPathFactory, postgres: dict[str, Any]) -> Iterator[World]:
    name = f"sample_{request.param.stem}"
    admin = psycopg2.connect(**postgres)
    admin.autocommit = True
    admin.cursor().execute(f"CREATE DATABASE {name}")
    connection = psycopg2.connect(**{**postgres, "dbname": name}, options=SESSION)
    connection.autocommit = True
    connection.cursor().execute(request.param.read_text())
    before = dumped(connection)
    directory = tmp_path_factory.mktemp(name)
    url = f"postgresql://{postgres['user']}@/{postgres['dbname']}?host={postgres['host']}"
    command = [
        BIN / "directus",
        "project",
        "create",
        PROJECT,
        "--email",
        "a@example.com",
        "--db-name",
        name,
        "--generate",
        "--init",
    ]
    schemas = connection.cursor()
    schemas.execute("SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_|^information_schema$|^public$' ORDER BY 1")
    listed = ",".join(row[0] for row in schemas.fetchall())
    environment = os.environ | {"DIRECTUS_DATABASE_URL": url} | ({"DIRECTUS_DATABASE_SCHEMAS": listed} if listed else {})
    made = subprocess.run(
        [*command, "--json", "--data-dir", "var"], cwd=directory, capture_output=True, text=True, env=environment, timeout=60
    )
    assert made.returncode == 0, made.stderr
    daemon = Daemon(directory, url=url)
    daemon.environment |= environment
    daemon.start()
    signed_in = {"email": "a@example.com", "password": json.loads(made.stdout)["password"]}
    token = daemon.call("POST", f"/{PROJECT}/auth/authenticate", signed_in, token=None)["data"]["token"]
    found = World(daemon, PROJECT, connection, token, dumped=before)
    yield found
    connection.close()
    found.http.close()
    assert daemon.stop() == 0
    admin.cursor().execute(f"DROP DATABASE {name}")
    admin.close()


@pytest.fixture(scope="module")
def tables(world: World) -> list[Table]:
    """The tables that are collections."""
    found: list[Table] = []
    for collection, sql, kind in world.query(TABLES):
        status, fields = world.call("GET", f"/fields/{quote(collection, safe='')}")
        assert status == 200, (collection, fields)
        columns = [Column(*row) for row in world.query(COLUMNS, (sql,))]
        keys = [field["field"] for field in fields["data"] if field["primary_key"]]
        key = next((column for column in columns if keys == [column.name]), None)
        found.append(Table(collection, sql.replace("%", "%%"), columns, key, kind in "rp"))
        assert [field["field"] for field in fields["data"]] == [column.name for column in columns]
    return found


def can_be_named(name: str) -> bool:
    """Whether a filter and a sort can name a field: brackets of a filter end at the first that closes, and names in lists are trimmed."""
    return "]" not in name and name == name.strip()


def can_be_addressed(key: str) -> bool:
    """Whether a path can name an item: commas separate keys, blanks around them are trimmed, and dots are steps of a path."""
    return "," not in key and key == key.strip() and key not in (".", "..")


def items_of(world: World, table: Table, **query: Any) -> list[dict[str, Any]]:
    status, found = world.call("GET", f"/items/{quote(table.collection, safe='')}", limit=-1, **query)
    assert status == 200, (table.collection, query, found)
    items: list[dict[str, Any]] = found["data"]
    return items


def test_every_table_is_a_collection_and_read_whole(world: World, tables: list[Table]) -> None:
    _, listed = world.call("GET", "/collections", limit=-1)
    assert {row["collection"] for row in listed["data"]} >= {table.collection for table in tables}
    for table in tables:
        items = items_of(world, table)
        ((count,),) = world.query(f"SELECT count(*) FROM {table.sql}")
        assert len(items) == count, table.collection
        assert all(list(item) == [column.name for column in table.columns] for item in items)
        for column in table.columns:
            # What these show is the text itself.
            if column.type in ("text", "character varying", "integer", "smallint", "uuid", "interval"):
                stored = world.query(f"SELECT {column.sql}::text FROM {table.sql}")
                shown = [None if (value := item[column.name]) is None else str(value) for item in items]
                assert sorted(map(repr, shown)) == sorted(repr(value) for (value,) in stored), (table.collection, column)
        if table.key is not None and items:
            key = items[-1][table.key.name]
            one = world.call("GET", f"/items/{quote(table.collection, safe='')}/{quote(str(key), safe='')}")
            assert one[0] == 200 or not can_be_addressed(str(key)), (table.collection, one)


def test_every_field_is_filtered_and_sorted_as_postgresql_does(world: World, tables: list[Table]) -> None:
    wrong: list[Any] = []
    for table in tables:
        items = items_of(world, table)
        path = f"/items/{quote(table.collection, safe='')}"
        for column in table.columns:
            if not can_be_named(column.name):
                for query in ({f"filter[{column.name}][nnull]": 1}, {"sort": column.name}):
                    assert world.call("GET", path, **query)[0] in (200, 404, 422)
                continue
            caseless = column.type in CASELESS
            # Trailing blanks of padded texts are not compared.
            padded = "bpchar" if column.type == "character" else "text"
            given = f"lower(%s::{padded}::text)" if caseless else f"%s::{column.type}"
            expression = f"lower({column.sql}::text)" if caseless else column.sql
            filled = [item[column.name] for item in items if item[column.name] is not None]
            ((nulls,),) = world.query(f"SELECT count(*) FROM {table.sql} WHERE {column.sql} IS NULL")
            status, found = world.call("GET", path, **{"limit": -1, f"filter[{column.name}][null]": 1})
            if status != 200 or len(found["data"]) != nulls:
                wrong.append((table.collection, column, "null", nulls, status, str(found)[:300]))
            value = next(iter(filled), None)
            if isinstance(value, str | int) and value != "" and column.type != "bytea":
                value = json.dumps(value) if isinstance(value, bool) else str(value)
                wanted = world.attempt(f"SELECT count(*) FROM {table.sql} WHERE {expression} = {given}", (value,))
                status, found = world.call("GET", path, **{"limit": -1, f"filter[{column.name}][eq]": value})
                if wanted is not None and (status != 200 or len(found["data"]) != wanted[0][0]):
                    wrong.append((table.collection, column, "eq", value, wanted, status, str(found)[:300]))
            ranks = world.attempt(f"SELECT dense_rank() OVER (ORDER BY {column.sql}) FROM {table.sql}")
            for sign, direction in (("", "ASC"), ("-", "DESC")) if filled else (("", "ASC"),):
                status, found = world.call("GET", path, **{"limit": -1, "sort[]": f"{sign}{column.name}"})
                if ranks is None:
                    if status != 422 or column.name not in str(found):
                        wrong.append((table.collection, column, "sort", status, str(found)[:300]))
                    continue
                if status != 200 or len(found["data"]) != len(items):
                    wrong.append((table.collection, column, "sort", status, str(found)[:300]))
                elif table.key is not None and not caseless:
                    places = {
                        row[0]: row[1]
                        for row in world.query(
                            f"SELECT {table.key.sql}::text, dense_rank() OVER (ORDER BY {column.sql} {direction} NULLS LAST)"
                            f" FROM {table.sql}"
                        )
                    }
                    ranked = [places.get(str(item[table.key.name])) for item in found["data"]]
                    if None not in ranked and ranked != sorted(ranked):
                        wrong.append((table.collection, column, "sort", ranked))
    assert not wrong, "\n".join(map(str, wrong))


def test_every_collection_is_exported_and_described(world: World, tables: list[Table]) -> None:
    for table in tables:
        status, text = world.call("GET", f"/items/{quote(table.collection, safe='')}", limit=-1, export="csv")
        assert status == 200, text
        ((count,),) = world.query(f"SELECT count(*) FROM {table.sql}")
        lines = list(csv.reader(io.StringIO(text)))
        assert len(lines) == (count + 1 if count else len(lines)), table.collection
    status, document = world.call("GET", "/specs/oas")
    assert status == 200, document
    validate(document)
    assert world.dump() == world.dumped


def test_a_row_that_is_sent_back_stays_as_it_is(world: World, tables: list[Table]) -> None:
    wrong: list[Any] = []
    for table in tables:
        if table.key is None or not table.writable:
            continue
        path = f"/items/{quote(table.collection, safe='')}"
        for item in items_of(world, table)[:15]:
            key = str(item[table.key.name])
            where = f"WHERE {table.key.sql}::text = %s"
            # What triggers do to a row that an UPDATE leaves as it is.
            touched = {world.query(f"SELECT t::text FROM {table.sql} t {where}", (key,))[0]}
            same = next(column.sql for column in reversed(table.columns) if column.writable)
            with world.connection.cursor() as cursor:
                cursor.execute("BEGIN")
                cursor.execute(f"UPDATE {table.sql} SET {same} = {same} {where}", (key,))
                cursor.execute(f"SELECT t::text FROM {table.sql} t {where}", (key,))
                touched |= set(cursor.fetchall())
                cursor.execute("ROLLBACK")
            status, found = world.call("PATCH", f"{path}/{quote(key, safe='')}", item)
            after = world.query(f"SELECT t::text FROM {table.sql} t {where}", (key,))
            if (can_be_addressed(key) and status != 200) or len(after) != 1 or not set(after) <= touched:
                wrong.append((table.collection, key, status, str(found)[:300], touched, after))
    assert not wrong, "\n".join(map(str, wrong))


def test_every_field_takes_the_value_of_another_row(world: World, tables: list[Table]) -> None:
    wrong: list[Any] = []
    for table in tables:
        items = items_of(world, table)
        if table.key is None or not table.writable or len(items) < 2:
            continue
        path = f"/items/{quote(table.collection, safe='')}"
        where = f"WHERE {table.key.sql}::text = %s"
        one = next(item for item in items if can_be_addressed(str(item[table.key.name])))
        key = str(one[table.key.name])
        for column in table.columns:
            other = next((each for each in items if each[column.name] not in (None, one[column.name])), None)
            if column == table.key or not column.writable or column.type == "bytea" or other is None:
                continue
            # Decimals are shown with the digits of a double. What a trigger has set stays so.
            of = "bpchar" if column.type == "character" else column.type
            inexact, triggered = column.type == "numeric", False
            text = f"SELECT {column.sql}::text FROM {table.sql} {where}"
            wanted, original = world.query(text, (str(other[table.key.name]),)), world.query(text, (key,))
            status, found = world.call("PATCH", f"{path}/{quote(key, safe='')}", {column.name: other[column.name]})
            written = world.query(text, (key,))
            with world.connection.cursor() as cursor:
                # What PostgreSQL does with that value: a trigger may set another, a constraint may refuse it.
                cursor.execute("BEGIN")
                try:
                    cursor.execute(f"UPDATE {table.sql} SET {column.sql} = (%s::text)::{of} {where}", (wanted[0][0], key))
                    cursor.execute(text, (key,))
                    expected = cursor.fetchall()
                    triggered = expected != wanted
                except psycopg2.Error:
                    expected = None
                cursor.execute("ROLLBACK")
            if expected is None:
                if status not in (400, 409, 422) or written != original:
                    wrong.append((table.collection, column, status, str(found)[:300], original, written))
            elif status != 200 or (written != expected and not (inexact and found["data"][column.name] == other[column.name])):
                wrong.append((table.collection, column, other[column.name], status, str(found)[:300], expected, written))
            status, found = world.call("PATCH", f"{path}/{quote(key, safe='')}", {column.name: one[column.name]})
            restored = world.query(text, (key,))
            if expected is not None and (status != 200 or (restored != original and not inexact and not triggered)):
                wrong.append((table.collection, column, one[column.name], status, str(found)[:300], original, restored))
    assert not wrong, "\n".join(map(str, wrong))


def adopt(world: World, *options: str) -> Any:
    """What `directus schema adopt` prints."""
    command = [str(BIN / "directus"), "schema", "adopt", PROJECT, *options, "--json", "--data-dir", "var"]
    daemon = world.daemon
    done = subprocess.run(command, cwd=daemon.directory, env=daemon.environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


FOREIGN_KEYS = """
SELECT CASE nspname WHEN 'public' THEN '' ELSE nspname || '.' END || relname, attname FROM pg_constraint c
JOIN pg_attribute ON attrelid = conrelid AND attnum = conkey[1]
JOIN pg_class t ON t.oid = conrelid JOIN pg_namespace n ON n.oid = relnamespace
WHERE contype = 'f' AND cardinality(conkey) = 1 AND conparentid = 0 AND relname !~ '^directus_'
  AND (confrelid, confkey) IN (SELECT conrelid, conkey FROM pg_constraint WHERE contype = 'p')
"""


def related_keys(items: list[dict[str, Any]], one: Column, alias: str, *path: str) -> list[tuple[str, str]]:
    """The keys of items and of the related items in their lists, which are at a path in the members."""
    pairs = []
    for item in items:
        for member in item[alias]:
            for name in path:
                member = member[name]
            pairs.append((str(item[one.name]), str(member)))
    return sorted(pairs)


def test_adopted_tables_stay_and_their_relations_are_read_from_both_sides(world: World, tables: list[Table]) -> None:
    before, by_name = world.dump(), {table.collection: table for table in tables}
    planned = adopt(world, "--dry-run")
    done = adopt(world)
    assert planned == done
    assert {name for name, table in by_name.items() if table.key is not None} <= set(done["collections"])
    # Fields that can only be read are reported when they are made.
    left_out = [each for each in done["left_out"] if each["kind"] != "field"]
    assert adopt(world) == {"collections": [], "fields": [], "relations": [], "left_out": left_out}
    assert world.dump() == before
    relations = world.call("GET", "/relations", limit=-1)[1]["data"]
    known = {(each["collection_many"], each["field_many"]) for each in relations}
    for name, column in world.query(FOREIGN_KEYS):
        assert (name, column) in known or any(each["name"].startswith(f"{name}.") for each in left_out), (name, column)
    whole = {name: items_of(world, table, fields="*.*") for name, table in by_name.items()}
    read = set()
    for relation in relations:
        many, one = by_name.get(relation["collection_many"]), by_name.get(relation["collection_one"])
        if many is None or one is None or one.key is None:
            continue
        named = {column.name: column for column in many.columns}
        field = named[relation["field_many"]]
        joined = f"{one.sql} o JOIN {many.sql} m ON m.{field.sql} = o.{one.key.sql}"
        referred = [item[field.name][one.key.name] for item in whole[many.collection] if item[field.name] is not None]
        wanted = world.query(f"SELECT o.{one.key.sql}::text FROM {joined}")
        assert sorted(map(str, referred)) == sorted(key for (key,) in wanted), relation
        read.add("many to one")
        alias, junction = relation["field_one"], relation["junction_field"]
        if alias is None:
            continue
        assert all(isinstance(item[alias], list) for item in whole[one.collection]), relation
        if many.key is not None:
            wanted = world.query(f"SELECT o.{one.key.sql}::text, m.{many.key.sql}::text FROM {joined}")
            assert related_keys(whole[one.collection], one.key, alias, many.key.name) == sorted(wanted), relation
            read.add("one to many")
        if junction is not None:
            behind = next(r for r in relations if (r["collection_many"], r["field_many"]) == (many.collection, junction))
            far = by_name[behind["collection_one"]]
            assert far.key is not None
            items = items_of(world, one, fields=f"{one.key.name},{alias}.{junction}.*")
            wanted = world.query(
                f"SELECT o.{one.key.sql}::text, f.{far.key.sql}::text FROM {joined}"
                f" JOIN {far.sql} f ON f.{far.key.sql} = m.{named[junction].sql}"
            )
            assert related_keys(items, one.key, alias, junction, far.key.name) == sorted(wanted), relation
            read.add("many to many")
    assert read or not world.query(FOREIGN_KEYS)
    assert world.dump() == before
