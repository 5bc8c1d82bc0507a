"""No question that a caller can ask fails because of what a row holds, nor is answered differently because of a row that it may not see.

PostgreSQL may ask the caller's conditions of rows before the conditions of the caller's rights. So whatever can be asked (every operator
of OPERATORS, every function of FUNCTIONS, sorts, groups, searches) is asked here of every kind of column, those of tables that the server
did not make among them, whose rows hold the most unlikely values that their types take.
"""

import json
import re
import urllib.parse
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import psycopg2
import pytest
from attrs import field as attribute
from attrs import frozen

from directus_tx.access import Access
from directus_tx.compile.aggregates import FUNCTIONS, aggregate_for
from directus_tx.compile.bounds import Bounds
from directus_tx.compile.filters import Conditions, of_filter
from directus_tx.compile.operators import OPERATORS, equal_keys, key_among
from directus_tx.compile.read import plan_for
from directus_tx.compile.shape import chain_of
from directus_tx.compile.statements import array
from directus_tx.config import LimitSettings
from directus_tx.context import Accountability
from directus_tx.db.sql import SQL, Clause, Literal, constant, typed_values
from directus_tx.errors import ApiError
from directus_tx.http.params import parsed
from directus_tx.query import BindValues, Condition, Query
from directus_tx.schema.comparing import NO_MATCH, member
from directus_tx.schema.datatypes import DATATYPES, FIELD_TYPES, column_type, family
from directus_tx.schema.introspect import read_snapshot
from directus_tx.schema.model import ALIAS_TYPES, Field, Snapshot
from directus_tx.schema_service.payloads import ONCE
from tests.conftest import KEY, field
from tests.live.live_project import LiveProject, live_project

PROJECT = "total"

LITERALS = [
    *("", " ", "0", "1", "-1", "1.5", "127", "32767", "2147483647", "-9223372036854775808", "9223372036854775807"),
    *("1e15", "123456789012345678901234567890", "1e37", "3e38", "1e-307", "1e308", "-1e308", "1e400", "1e131071", "1e-16000"),
    *("NaN", "Infinity", "-Infinity", "true", "false", "null", "a", "A", "abc", "ABC ", "a,b", "é", "İ", "ẞ", "\U0001f600"),
    *("\\", "\\\\", "a\\", "abc\\", "%", "_", "a%", "%\\", "\\%", "'", '"', '"a"', "{", "[1,", "}", "%s", "%(a)s", "\n", "$1"),
    *("{}", "[]", '{"a": 1}', '{"a": "\\u0000"}', '{"\\u0000": 1}', '"\\ud800"', '{"a": 1, "a": 2}', "1e999", '{"a": NaN}'),
    *("[" * 300 + "]" * 300, '{"a":' * 400 + "1" + "}" * 400, "[123456789012345678901234567890]", "a" * 3000, "1" * 500),
    *(
        "2020-02-29",
        "0001-01-01",
        "9999-12-31",
        "4713-01-01 BC",
        "5874897-12-31",
        "294276-12-31 23:59:59",
        "4713-01-01 00:00:00 BC",
    ),
    *(
        "2020-01-01 12:00:00.123456",
        "2020-01-01 00:00:00+15:59",
        "infinity",
        "-infinity",
        "00:00:00",
        "24:00:00",
        "12:00:00-15:59",
    ),
    *("1 day", "178000000 years", "-178000000 years", "1 mon -1 day 00:00:00.000001", "P1Y2M", "allballs"),
    *(
        "c0ffee00-0000-4000-8000-000000000000",
        "127.0.0.1",
        "::1/128",
        "10.0.0.0/8",
        "08:00:2b:01:02:03",
        "08:00:2b:01:02:03:04:05",
    ),
    *("(1,2)", "(NaN,Infinity)", "((0,0),(1,1))", "<(0,0),5>", "{1,-1,0}", "[(0,0),(1,1)]", "(,)", "(,a)", "(1,a)"),
    *("{1,2,3}", "{NULL}", "{{1},{2}}", "[0:1]={1,2}", "{infinity}", "{NaN}", "{a,NULL}", "{4713-01-01 BC}", "{1e400}", '{"{}"}'),
    *("[1,10)", "(,)", "empty", "{[1,2)}", "[-infinity,infinity]", "[2020-01-01,4000-01-01)", "{(,)}", "[4713-01-01 BC,)"),
    *("92233720368547758.07", "101", "B101", "\\xdeadbeef", "\\x00", "0/0", "FFFFFFFF/FFFFFFFF", "1:2:", "1:10:2,4", "(0,1)"),
    *("'a':1 'b':2", "a & !b", "pg_class", "integer", "english", "postgres", "open", "done", "gone"),
]
"""The values that columns hold: each column those that its type takes."""

TEXTS = [
    *(
        "",
        "0",
        "1",
        "-1",
        "1.5",
        "a",
        "abc",
        "ABC",
        "1,2",
        "a,b",
        ",",
        "é",
        "İ",
        "\\",
        "abc\\",
        "a\\",
        "%\\",
        "\\%",
        "%",
        "_%",
        "%a%b",
    ),
    *(
        "9223372036854775808",
        "-99999999999999999999",
        "1e400",
        "-1e400",
        "1e-999",
        "1" * 399,
        "NaN",
        "Infinity",
        "infinity",
        "true",
    ),
    *(
        "now",
        "2020-01-01",
        "0001-01-01",
        "9999-12-31T23:59:59+00:00",
        "0001-01-01T00:00:00+14:00",
        "24:00",
        "10:00:00",
        "1.5,2.5",
    ),
    *(
        "c0ffee00-0000-4000-8000-000000000000",
        "{}",
        "[1,",
        "{1,2}",
        "(1,2)",
        "'",
        '"',
        "\x00",
        "a\x00,b",
        "\U0001f600",
        "$1",
        "%s",
    ),
    *("99999999999999999999,1", "1e400,1", "²", "٣", "1_000", "Infinity,NaN", "2020-01-01,infinity"),
]
"""What a caller asks for."""

FOREIGN = [
    *(
        "integer[]",
        "text[]",
        "date[]",
        "numeric[]",
        "bytea[]",
        "json[]",
        "timestamp with time zone[]",
        "double precision[]",
        "uuid[]",
    ),
    *(
        "numeric",
        "numeric(1000,500)",
        "character(5)",
        "character varying",
        "timestamp without time zone",
        "time(3) with time zone",
    ),
    *('"timeline"', '"texture"', '"realm"', '"integers"', '"email"', '"pair"', '"pair"[]', '"timeline"[]', '"bounded"'),
]
"""Types of columns that the server never makes; every base type of PostgreSQL's comes to them. The quoted ones are the database's own, and
begin like others: an enum, domains, a composite type, a range."""

OWN_TYPES = """
CREATE TYPE "timeline" AS ENUM ('open', 'done', 'a', 'A', '');
CREATE DOMAIN "texture" AS text;
CREATE DOMAIN "realm" AS real CHECK (VALUE <> 7);
CREATE DOMAIN "integers" AS integer[];
CREATE DOMAIN "email" AS character varying(200) CHECK (VALUE LIKE '%a%' OR VALUE = '');
CREATE TYPE "pair" AS (a integer, b text);
CREATE TYPE "bounded" AS RANGE (subtype = double precision);
"""

BASE_TYPES = """
SELECT format_type(oid, NULL) FROM pg_type
WHERE typnamespace = 'pg_catalog'::regnamespace AND typtype IN ('b', 'r', 'm') AND typelem = 0 AND typcategory <> 'Z'
ORDER BY 1
"""


@frozen
class World(LiveProject):
    """A project. `values` are those of the columns of "everything", as text."""

    values: dict[str, list[str]] = attribute(factory=dict)

    def make(self, path: str, body: Any) -> Any:
        status, _, answer = self.send("POST", path, body)
        assert status == 200, (path, answer)
        return json.loads(answer)["data"]

    def snapshot(self) -> Snapshot:
        return done(read_snapshot(Direct(self)))  # type: ignore[arg-type]


@frozen
class Direct:
    """A session of a connection that waits."""

    world: World
    in_transaction = True
    database = SimpleNamespace(system_schema="public")

    async def query(self, statement: Any, parameters: Any = ()) -> list[tuple[Any, ...]]:
        # Percent signs are doubled, with or without parameters; psycopg2 wants them doubled only with parameters.
        return self.world.query(
            statement.replace("%%", "%") if isinstance(statement, str) and not parameters else statement, parameters or None
        )


def done(work: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine gives that never waits."""
    try:
        work.send(None)
    except StopIteration as result:
        return result.value
    raise AssertionError("it waits")


def natural_type(datatype: str) -> str:
    """The type of field that goes with a datatype."""
    declared = DATATYPES[datatype]
    length = "10,2" if declared.column.startswith("numeric") else "20"
    made = column_type("string", datatype, None if declared.length == "forbidden" else length, True)
    kinds = {"text": "string", "integer": "integer", "number": "decimal", "uuid": "uuid"}
    return kinds.get(found := family(Field("", "", "", column_type=made)), found)


def declared_fields() -> list[dict[str, Any]]:
    """A field of each datatype, with and without a length."""
    fields = []
    for name, datatype in DATATYPES.items():
        lengths: list[Any] = [] if datatype.length == "required" else [None]
        if datatype.length != "forbidden":
            lengths.append(
                {"ENUM": "'a','b'", "SET": "'a','b'"}.get(name, "20,2" if datatype.column.startswith("numeric") else 20)
            )
        for length in lengths:
            suffix = "" if length is None else "_sized"
            fields.append(field(f"d_{name.lower()}{suffix}", natural_type(name), name, length, signed=True))
    return fields


def crossed_fields() -> list[dict[str, Any]]:
    """A field of each type on a column of each kind, whether they go together or not."""
    fields = []
    for kind in FIELD_TYPES:
        if kind in ALIAS_TYPES or kind in ONCE:
            continue
        for name, length in (
            ("VARCHAR", 200),
            ("TEXT", None),
            ("INT", 11),
            ("DECIMAL", "10,2"),
            ("DOUBLE", None),
            ("DATE", None),
        ):
            fields.append(field(f"{kind}_{name.lower()}", kind, name, length, signed=True))
        for name in ("TIME", "DATETIME", "BLOB", "BIGINT"):
            fields.append(field(f"{kind}_{name.lower()}", kind, name, None, signed=True))
    return fields


def accepted(world: World, of: str) -> list[str]:
    """Those of LITERALS that a column of a type takes."""
    world.query(f"CREATE TEMP TABLE column_of_it (value {of})")
    world.query(
        "CREATE OR REPLACE FUNCTION pg_temp.taken(wanted text[]) RETURNS SETOF text LANGUAGE plpgsql AS $$ DECLARE each text; BEGIN"
        " FOREACH each IN ARRAY wanted LOOP BEGIN EXECUTE format('INSERT INTO column_of_it VALUES (%L)', each); RETURN NEXT each;"
        " EXCEPTION WHEN OTHERS THEN NULL; END; END LOOP; END $$"
    )
    found = [row[0] for row in world.query("SELECT * FROM pg_temp.taken(%s)", (LITERALS,))]
    world.query("DROP TABLE column_of_it")
    return found


def taken(world: World, table: str) -> dict[str, list[str]]:
    """The values that each column of a table takes."""
    rows = world.query(
        "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute"
        " WHERE attrelid = %s::regclass AND attnum > 1 AND NOT attisdropped",
        (table,),
    )
    by_type = {of: accepted(world, of) for of in {of for _, of in rows}}
    return {name: by_type[of] for name, of in rows}


def fill(world: World, table: str, values: dict[str, list[str]]) -> None:
    """A row of nulls, and rows that together hold all values of all columns, those of each column in their order."""
    world.query(f"INSERT INTO {table} DEFAULT VALUES")
    names = ", ".join(f'"{name}"' for name in values)
    for number in range(max(map(len, values.values()))):
        row = [each[number % len(each)] if each else None for each in values.values()]
        world.query(f"INSERT INTO {table} ({names}) VALUES ({', '.join(['%s'] * len(row))})", row)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, postgres: dict[str, Any]) -> Iterator[World]:
    """A server with a collection "everything" that has a column of every kind."""
    with live_project(tmp_path_factory.mktemp("totality"), postgres, PROJECT) as project:
        found = World(project.daemon, project.key, project.connection, http=project.http)
        found.make("/collections", {"collection": "everything", "fields": [KEY, *declared_fields()]})
        found.query(OWN_TYPES)
        types = [*FOREIGN, *(row[0] for row in found.query(BASE_TYPES))]
        for number, of in enumerate(types):
            name = re.sub(r"\W", "", of.replace("[]", "_list"))[:40]
            found.query(f'ALTER TABLE everything ADD COLUMN "f{number}_{name}" {of}')
        found.make("/collections", {"collection": "crossed", "fields": [KEY, *crossed_fields()]})
        found.values.update(taken(found, "everything"))
        fill(found, "everything", found.values)
        fill(found, "crossed", taken(found, "crossed"))
        found.query("SELECT directus_touch('schema')")
        yield found


ADMINISTRATOR = Accountability(1, 1)
NOW = datetime(2026, 1, 1)  # noqa: DTZ001
OPERATOR_NAMES = list({id(operator): name for name, operator in reversed(OPERATORS.items())}.values())
"""A name of each operator."""


def asked(world: World, access: Access, name: str, operator: str, texts: Sequence[str]) -> list[tuple[str, Clause]]:
    """The conditions on a field of "everything" with these texts, what they bind already in them; without those that are refused before
    any row is looked at."""
    found = []
    grant = access.grant("everything")
    compiled: dict[bool, Clause] = {}
    for text in texts:
        condition = Condition((name,), operator, text)
        try:
            if bool(text) not in compiled:
                conditions = Conditions(access, Bounds(LimitSettings()))
                compiled[bool(text)] = conditions.chain("t0", grant, chain_of([condition]), of_filter)
            clause = compiled[bool(text)]
            values = clause.parameters(BindValues(Query(filter=(condition,)), now=NOW))
        except ApiError:
            continue
        clause = Clause(clause.sql, tuple(map(constant, values)))
        if parsed_by_postgresql(world, clause):
            found.append((text, clause))
    return found


def parsed_by_postgresql(world: World, clause: Clause) -> bool:
    """Whether PostgreSQL takes the values of a condition, which it parses before it looks at any row."""
    values = clause.parameters(BindValues())
    if not any(typed_values(values)):
        return True
    try:
        world.query(SQL("EXPLAIN SELECT count(*) FILTER (WHERE {}) FROM everything AS t0").format(clause.sql), values)
    except psycopg2.Error:
        return False
    return True


def failures(world: World, name: str, clauses: Sequence[tuple[Any, Clause]]) -> list[tuple[Any, str]]:
    """Asks conditions of all rows that differ in a column, each of every row, and gives those that fail, and how."""
    counts = SQL(", ").join([SQL("count(*) FILTER (WHERE {})").format(clause.sql) for _, clause in clauses])
    # Rows beyond these repeat the values of the column.
    sql = SQL("SELECT {} FROM everything AS t0 WHERE id <= {}").format(counts, Literal(len(world.values[name]) + 1))
    try:
        world.query(sql, [value for _, clause in clauses for value in clause.parameters(BindValues())])
        return []
    except psycopg2.Error as error:
        if len(clauses) == 1:
            return [(clauses[0][0], str(error).splitlines()[0])]
    half = len(clauses) // 2
    return failures(world, name, clauses[:half]) + failures(world, name, clauses[half:])


def test_no_condition_on_a_column_fails_because_of_its_values(world: World) -> None:
    access = Access(world.snapshot(), ADMINISTRATOR)
    columns = access.grant("everything").collection.columns
    found = []
    for name in world.values:
        clauses = [
            ((name, columns[name].column_type, operator, text), clause)
            for operator in OPERATOR_NAMES
            for text, clause in asked(world, access, name, operator, TEXTS)
        ]
        assert clauses
        for at in range(0, len(clauses), 200):
            found += failures(world, name, clauses[at : at + 200])
    assert not found, "\n".join(map(str, found))


def test_no_two_keys_fail_to_be_compared(world: World) -> None:
    """A relation may lead from a column of any kind to a key of any other."""
    columns = world.snapshot().collections["everything"].columns
    of_each_type = {columns[name].column_type: columns[name] for name in world.values}
    found = []
    for one in of_each_type.values():
        for other in of_each_type.values():
            sql = SQL(
                "SELECT count(*) FILTER (WHERE {}) FROM everything AS a, everything AS b WHERE a.id <= {} AND b.id <= {}"
            ).format(equal_keys("a", one, "b", other), *(Literal(len(world.values[each.field]) + 1) for each in (one, other)))
            try:
                world.query(sql)
            except psycopg2.Error as error:
                found.append((one.column_type, other.column_type, str(error).splitlines()[0]))
    assert not found, "\n".join(map(str, found))


def test_no_key_fails_to_be_looked_for(world: World) -> None:
    columns = world.snapshot().collections["everything"].columns
    found = []
    for key in {columns[name].column_type: columns[name] for name in world.values}.values():
        wanted = [value for text in TEXTS if (value := member(key, text)) is not NO_MATCH]
        sql = SQL("SELECT count(*) FROM everything AS t WHERE {}").format(key_among("t", key))
        try:
            world.query(sql, (array(wanted),))
        except psycopg2.Error as error:
            found.append((key.column_type, wanted, str(error).splitlines()[0]))
    assert not found, "\n".join(map(str, found))


KEYS = {
    "smallint": ["1", "-2"],
    "bigint": ["1", "9223372036854775807"],
    "numeric": ["1", "1.50", "NaN", "1e20"],
    "numeric(12,2)": ["1.00", "1.50", "NaN"],
    "double precision": ["1", "1.5", "NaN", "Infinity", "1e300"],
    "character varying(60)": ["1", "abc", "1.50", "", "2020-01-01", "c0ffee00-0000-4000-8000-000000000000"],
    "text": ["1", "ABC", "true"],
    "character(5)": ["1", "abc", ""],
    "name": ["1", "abc"],
    "boolean": ["true", "false"],
    "date": ["2020-01-01", "4713-01-01 BC", "infinity"],
    "timestamp(0) without time zone": ["2020-01-01 00:00:00", "-infinity"],
    "timestamp with time zone": ["2020-01-01 00:00:00", "294276-12-31 23:59:59"],
    "time without time zone": ["24:00:00", "10:00:00"],
    "time with time zone": ["10:00:00+00", "10:00:00+02"],
    "uuid": ["c0ffee00-0000-4000-8000-000000000000"],
    "bytea": ["abc", "\\x00"],
    "interval": ["1 day", "178000000 years"],
    "inet": ["127.0.0.1", "10.0.0.0/8"],
    "integer[]": ["{1,2}", "{}"],
    '"timeline"': ["open", "a", "A"],
    "int4range": ["[1,2)", "empty"],
}
"""Types that a key may have, and values of them."""


def test_related_items_are_found_by_keys_of_any_two_kinds(world: World) -> None:
    """What a key leads to, and what leads to it, is the same from both sides, whatever kinds of columns meet."""
    fields = [f"far{number}" for number in range(len(KEYS))]
    for number, (of, keys) in enumerate(KEYS.items()):
        world.query(f'CREATE TABLE "k{number}" (id {of} PRIMARY KEY, "name" text)')
        for key in keys:
            world.query(f'INSERT INTO "k{number}" VALUES (%s, %s)', (key, key))
    # Each row of "links" has in one column, "farN", a key of the kind that the table kN has, or of any other kind.
    for number, (of, keys) in enumerate(KEYS.items()):
        columns = ", ".join(f'"{name}" {of}' for name in fields)
        world.query(f'CREATE TABLE "links{number}" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, {columns})')
        for key in keys:
            world.query(
                f'INSERT INTO "links{number}" ({", ".join(fields)}) VALUES ({", ".join(["%s"] * len(fields))})',
                [key] * len(fields),
            )
        world.query(
            "INSERT INTO directus_relations (collection_many, field_many, collection_one, field_one)"
            " SELECT %s, 'far' || n, 'k' || n, %s FROM generate_series(0, %s) AS n",
            (f"links{number}", f"links{number}", len(fields) - 1),
        )
        world.query(
            "INSERT INTO directus_fields (collection, field, type) SELECT 'k' || n, %s, 'o2m' FROM generate_series(0, %s) AS n",
            (f"links{number}", len(fields) - 1),
        )
    world.query("SELECT directus_touch('schema')")
    wrong = []
    for number in range(len(KEYS)):
        upward = ask(world, f"/items/links{number}?limit=-1&fields=id,{','.join(f'{name}.name' for name in fields)}")
        for other, name in enumerate(fields):
            found = ask(world, f"/items/k{other}?limit=-1&fields=name,links{number}.id&sort=name")
            some = ask(world, f"/items/k{other}?limit=-1&fields=name&filter[links{number}][has]=1&sort=name")
            below = {(each["name"], link["id"]) for each in found for link in each[f"links{number}"]}
            above = {(each[name]["name"], each["id"]) for each in upward if each[name] is not None}
            if below != above or {each["name"] for each in some} != {key for key, _ in below} or (number == other and not below):
                wrong.append((list(KEYS)[number], list(KEYS)[other], below, above, some))
    assert not wrong, "\n".join(map(str, wrong))


def ask(world: World, path: str) -> Any:
    status, _, body = world.send("GET", path)
    assert status == 200, (path, body)
    return json.loads(body)["data"]


FOUND_BY_KEY = [
    "smallint",
    "bigint",
    "numeric(12,2)",
    "character varying(60)",
    "text",
    "name",
    "date",
    "uuid",
    "inet",
    '"timeline"',
]


def test_items_are_found_by_keys_of_any_kind_or_not_there(world: World) -> None:
    wrong = []
    for number, of in enumerate(KEYS):
        world.query(f'CREATE TABLE "single{number}" (id {of} PRIMARY KEY, "name" text)')
        for key in KEYS[of]:
            world.query(f'INSERT INTO "single{number}" VALUES (%s, %s)', (key, key))
    world.query("SELECT directus_touch('schema')")
    for number, (of, keys) in enumerate(KEYS.items()):
        for key in filter(None, keys):
            path = f"/items/single{number}/{quoted(key)}"
            answers = [("GET", world.send("GET", path))]
            answers += [(method, world.send(method, path, {"name": "x"})) for method in ("PATCH", "GET", "DELETE")]
            answers.append(("POST", world.send("POST", f"/items/single{number}", {"id": key, "name": "x"})))
            found = of in FOUND_BY_KEY and key not in ("NaN", "4713-01-01 BC", "infinity")
            for method, (status, _, body) in answers:
                if status not in ((200, 204) if found else (200, 204, 404, 409, 422)) or (
                    method == "POST" and found and status != 200
                ):
                    wrong.append((of, key, method, status, body))
    assert not wrong, "\n".join(map(str, wrong))


def queries(names: Iterable[str]) -> Iterator[str]:
    """What can be asked of fields as wholes, and of all of them."""
    for name in names:
        yield f"fields={name}"
        yield f"fields=id&sort={name}"
        yield f"fields=id&sort=-{name}"
        yield f"fields=id&groups={name}"
        yield f"aggregate[count]=*&groupby={name}&sort=-{name}"
        for function in FUNCTIONS:
            yield f"aggregate[{function}]={name}"
    for export in ("", "&export=csv", "&export=json"):
        yield f"fields=*{export}"
    for text in TEXTS:
        yield f"fields=id&meta=*&q={quoted(text)}"


def quoted(text: str) -> str:
    return urllib.parse.quote(text, safe="")


def expected(access: Access, collection: str, text: str) -> int:
    """The status of the answer to a query, as its text alone decides."""
    try:
        query = parsed(text.encode()).query()
        if query.aggregate:
            aggregate_for(access, collection, query, LimitSettings())
        else:
            plan_for(access, collection, query, LimitSettings(), by_key=False)
    except ApiError as error:
        return error.status
    return 200


def test_no_question_about_a_field_fails_because_of_its_values(world: World) -> None:
    access = Access(world.snapshot(), ADMINISTRATOR)
    found = []
    for collection in ("everything", "crossed"):
        for query in queries(access.grant(collection).collection.columns):
            status, _, body = world.send("GET", f"/items/{collection}?limit=-1&{query}")
            if status != expected(access, collection, query):
                found.append((query, status, body[:200]))
    assert not found, "\n".join(map(str, found))


# --- rows that may not be seen


READER, FELLOW, STRANGER = 2, 3, 4
"""Users: one who asks, another of the same role, and one of no role."""

MASKED = "d_"
"""What the names of fields begin with that some statuses hide."""


@frozen
class Secrets:
    """A server with rows that a reader may not see, and the keys of those of the history among them."""

    world: World
    revisions: list[int]


@pytest.fixture(scope="module")
def secrets(world: World) -> Secrets:
    """The rows of "everything" have owners and statuses: the reader sees two of them, whose values are ordinary, and no other, unless by
    its status; each is in the list of a holder, and has a history."""
    options = {"status_mapping": {name: {"name": name, "soft_delete": name == "gone"} for name in ("open", "shut", "gone")}}
    for more in (
        field("owner", "owner", "INT", 11),
        field("status", "status", length=20, default_value="shut", options=options),
        field("holder", "m2o", "INT", 11),
        field("lang", "lang", length=10),
    ):
        world.make("/fields/everything", more)
    things = {"field": "things", "type": "o2m"}
    world.make("/collections", {"collection": "holders", "fields": [KEY, field("name"), things]})
    relation = {"collection_many": "everything", "field_many": "holder", "collection_one": "holders", "field_one": "things"}
    world.make("/relations", relation)
    world.make("/items/holders", [{"name": "first"}, {"name": "second"}, {"name": "abc"}])
    role = world.make("/roles", {"name": "Readers"})["id"]
    assert role == 3
    for name, of in (("reader", role), ("fellow", role), ("stranger", None)):
        person = {"email": f"{name}@example.com", "password": "password", "role": of, "status": "active", "token": name}
        world.make("/users", person)
    world.make("/permissions", {"role": role, "collection": "holders", "read": "full"})
    world.query("UPDATE everything SET owner = %s, status = 'shut', holder = id %% 3 + 1", (STRANGER,))
    world.query("UPDATE everything SET owner = id + 1, status = 'open' WHERE id <= 2")
    for key, name in ((1, "abc"), (2, "a"), *((key, "hidden") for key in range(3, 40))):
        status, _, body = world.send("PATCH", f"/items/everything/{key}?fields=id", {"d_varchar_sized": name})
        assert status == 200, body
    hidden = world.query(
        "SELECT id FROM directus_revisions WHERE collection = 'everything' AND item NOT IN ('1', '2') ORDER BY id"
    )
    return Secrets(world, [row[0] for row in hidden])


def grant(world: World, role: int, shape: str) -> None:
    """Gives a role rights on rows in one of the shapes that conditions on rows have."""
    hidden = ["holder", "lang", *(name for name in world.values if name.startswith(MASKED))]
    rows: dict[str, list[dict[str, Any]]] = {
        "mine": [{"read": "mine"}],
        "role": [{"read": "role"}],
        "statuses": [{"status": "open", "read": "full"}, {"status": "shut", "read": "mine"}, {"status": "gone", "read": "none"}],
        "masks": [{"status": "open", "read": "full"}, {"status": "shut", "read": "full", "read_field_blacklist": hidden}],
    }
    present = json.loads(
        world.send("GET", f"/permissions?limit=-1&fields=id&filter[role]={role}&filter[collection]=everything")[2]
    )
    if present["data"]:
        status, _, body = world.send("DELETE", "/permissions/" + ",".join(str(row["id"]) for row in present["data"]))
        assert status == 204, body
    world.make("/permissions", [{"role": role, "collection": "everything", **row} for row in rows[shape]])


SHAPES = ("mine", "role", "statuses", "masks")


def questions(world: World) -> Iterator[str]:
    """Each operator of each field, directly, through a relation and of a list; sorts, groups and functions of each field; searches; the
    same of the history and of users; items by their keys."""
    number = 0
    for name in world.values:
        for operator in OPERATOR_NAMES:
            number += 1
            text = quoted(TEXTS[number * 7 % len(TEXTS)])
            yield (
                f"/items/everything?fields=id&meta=*&filter[{name}][{operator}]={text}",
                f"/items/holders?fields=id&filter[things.{name}][{operator}]={text}",
                f"/items/holders?fields=id,things.id&deep[things][filter][{name}][{operator}]={text}&deep[things][limit]=9",
            )[number % 3]
    for query in queries(world.values):
        yield f"/items/everything?{query}"
    for path in ("revisions", "activity", "users"):
        for name in world.snapshot().collections[f"directus_{path}"].columns:
            for operator in OPERATOR_NAMES:
                number += 1
                yield f"/{path}?fields=id&filter[{name}][{operator}]={quoted(TEXTS[number * 7 % len(TEXTS)])}"
            yield f"/{path}?fields=*&sort={name},id&groups={name}"
            yield f"/{path}?aggregate[countDistinct]={name}&groupby={name}"
    for operator in OPERATOR_NAMES:
        yield f"/items/holders?fields=id&filter[things][{operator}]=3"
        for name in ("holder", "holder.name", "holder.things.d_text", "lang"):
            yield f"/items/everything?fields=id&filter[{name}][{operator}]=abc"
    for query in queries(("holder", "lang")):
        yield f"/items/everything?{query}"
    for fields in ("*.*", "*,holder.*,holder.things.id", "id,holder.things.holder.name"):
        yield f"/items/everything?fields={fields}"
        yield f"/items/everything?fields={fields}&export=csv"
        yield f"/items/holders?fields=*,things.{fields}&lang=abc&deep[things][sort]=-lang,holder"
    for key in range(1, 40):
        yield f"/items/everything/{key}?fields=*"
        yield f"/items/everything/{key}/revisions?fields=*"


def hide(secrets: Secrets, shape: str, *, hostile: bool) -> None:
    """Gives the rows that the reader may not see nulls, or all values that their columns take; their history likewise. In the shape
    "masks" the rows are seen, and the fields are not that their status hides."""
    world = secrets.world
    columns = [name for name in world.values if shape != "masks" or name.startswith(MASKED)]
    keys = [row[0] for row in world.query("SELECT id FROM everything WHERE id > 2 ORDER BY id")]
    assignments = ", ".join(f'"{name}" = %s' for name in ["holder", "lang", *columns])
    for number, key in enumerate(keys):
        lists = [world.values[name] for name in columns]
        row = [each[number % len(each)] if each and hostile else None for each in lists]
        # What is hidden of these may lead to another item, and hide a translation.
        related = [key % 3 + 1, "abc" if key % 2 else "de"] if hostile else [None, None]
        world.query(f"UPDATE everything SET {assignments} WHERE id = %s", [*related, *row, key])
    if shape != "masks":
        # "1" would be a revision of an item that may be seen.
        texts = [text for text in LITERALS if text != "1"] if hostile else ["{}"]
        for number, key in enumerate(secrets.revisions):
            world.query(
                "UPDATE directus_revisions SET item = %s, parent_item = %s, parent_collection = 'everything', data = %s, delta = %s"
                " WHERE id = %s",
                [texts[number % len(texts)][:length] for length in (250, 250, None, None)] + [key],
            )
    world.query("ANALYZE")


@pytest.mark.parametrize("shape", SHAPES)
def test_no_answer_depends_on_what_may_not_be_seen(secrets: Secrets, shape: str) -> None:
    world = secrets.world
    grant(world, 3, shape)
    # Each shape is asked a part of the questions, and all together all of them.
    asked = [question for number, question in enumerate(questions(world)) if number * 7 // 3 % len(SHAPES) == SHAPES.index(shape)]
    answers: list[list[Any]] = []
    for hostile in (False, True):
        hide(secrets, shape, hostile=hostile)
        answers.append([])
        for question in asked:
            status, headers, body = world.send("GET", question, token="reader")
            answers[-1].append((status, headers.get("etag"), body))
    different = [(question, before, after) for question, before, after in zip(asked, *answers, strict=True) if before != after]
    assert not different, "\n".join(str(each)[:600] for each in different)
    statuses = [status for status, _, _ in answers[0]]
    assert set(statuses) <= {200, 403, 404, 422}
    assert statuses.count(200) > len(statuses) / 2
