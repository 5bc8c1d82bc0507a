"""A table with a column of every type that PostgreSQL has, made by SQL: read, filtered, sorted, aggregated, exported and written back."""

import csv
import io
import json
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import pytest
from attrs import frozen

from tests.live.live_project import LiveProject, live_project
from tests.live.test_totality import LITERALS

PROJECT = "every"

OWN_TYPES = """
CREATE SCHEMA other;
CREATE TYPE mood AS ENUM ('sad', 'it''s 100%%', 'a,"b"\\', 'Happy', 'happy', '');
CREATE TYPE other."Odd ""x"" name" AS ENUM ('x', 'y');
CREATE TYPE pair AS (a integer, b text);
CREATE TYPE unequal AS (a integer, b point);
CREATE TYPE nested AS (a pair, b integer[]);
CREATE DOMAIN positive AS integer CHECK (VALUE > 0);
CREATE DOMAIN very_positive AS positive CHECK (VALUE > 10);
CREATE DOMAIN short AS character varying(5);
CREATE DOMAIN feeling AS mood;
CREATE DOMAIN integers AS integer[] CHECK (cardinality(VALUE) < 5);
CREATE DOMAIN price AS numeric(10,2);
CREATE DOMAIN precise AS timestamp(6) with time zone;
CREATE DOMAIN document AS jsonb;
CREATE TYPE floats AS RANGE (subtype = double precision);
CREATE TYPE raw;
CREATE FUNCTION raw_in(cstring) RETURNS raw LANGUAGE internal IMMUTABLE STRICT AS 'textin';
CREATE FUNCTION raw_out(raw) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'textout';
CREATE TYPE raw (INPUT = raw_in, OUTPUT = raw_out, LIKE = text);
"""

LENGTHS = [
    *("character(5)", "character varying(8)", "bit(3)", "bit varying(4)", "numeric(12,4)", "numeric(5,-2)", "timestamp(3)"),
    *("timestamp(0) with time zone", "time(2)", "time(1) with time zone", "interval(0)", "interval year to month"),
    *("character(3)[]", "character varying(3)[]", "numeric(6,2)[]", "bit(2)[]", "timestamp(2)[]"),
]
"""Types with a length, beside those without."""

SAMPLES: dict[str, list[str]] = {
    "smallint": ["7", "-32768"],
    "integer": ["7", "-2147483648"],
    "bigint": ["7", "9223372036854775807"],
    "numeric": ["1.50", "NaN", "12345678901234567890.12345", "Infinity", "0.000"],
    "numeric(12,4)": ["1.5000", "NaN"],
    "real": ["1.5", "0.1", "NaN", "-Infinity", "3e38"],
    "double precision": ["1.5", "0.1", "NaN", "Infinity", "1e-300"],
    "money": ["$1,234.50", "-$0.01"],
    "boolean": ["true", "false"],
    "text": ["a", "", "İß", "{a}"],
    "character varying": ["a", "B "],
    "character(5)": ["ab", ""],
    "bytea": ["\\x00ff", ""],
    "date": ["2020-02-29", "infinity", "0044-03-15 BC", "5874897-12-31"],
    "timestamp without time zone": ["2020-02-29 01:02:03.123456", "-infinity", "0044-03-15 00:00:00 BC", "294276-12-31 23:59:59"],
    "timestamp with time zone": ["2020-02-29 01:02:03.123456+02", "infinity", "0044-03-15 00:00:00+00 BC"],
    "precise": ["2020-02-29 01:02:03.000001+00"],
    "time without time zone": ["01:02:03.5", "24:00:00"],
    "time with time zone": ["01:02:03+02", "01:02:03.25-11:30"],
    "interval": ["1 mon -1 days 00:00:00.000001", "178000000 years"],
    "json": [
        '{"b": 1.0, "a": [1, 2]}',
        "[123456789012345678901234567890, 1e400]",
        '{"a": 1, "a": 2}',
        '"x"',
        "null",
        '{"a": "\\u0000"}',
    ],
    "jsonb": ['{"b": 1.0, "a": [1, 2]}', "[123456789012345678901234567890]", "null", "3", '"x"'],
    "document": ['{"a": true}', "[1]"],
    "uuid": ["c0ffee00-0000-4000-8000-000000000000", "c0ffee00-0000-4000-8000-000000000001"],
    "inet": ["192.168.0.1", "10.1.2.3/8", "::1"],
    "cidr": ["10.0.0.0/8", "192.168.0.1/32"],
    "point": ["(1,2)", "(NaN,Infinity)"],
    "int4range": ["[1,5)", "empty"],
    "tsvector": ["'a':1 'b c':2"],
    "tsquery": ["'a' & !'b'"],
    "xml": ["<a>b</a>"],
    "regclass": ["pg_class", "pg_type"],
    '"char"': ["c", "D"],
    "name": ["n", "M"],
    "mood": ["it's 100%", 'a,"b"\\', "happy", "Happy", ""],
    'other."Odd ""x"" name"': ["x", "y"],
    "pair": ['(1,"x y")', "(,)"],
    "nested": ['("(1,""x"")","{1,2}")'],
    "unequal": ['(1,"(1,2)")'],
    "positive": ["5"],
    "very_positive": ["11", "12"],
    "short": ["ab", "abcde"],
    "feeling": ["sad", "happy"],
    "integers": ["{1,2}", "{}"],
    "price": ["1.50", "0.00"],
    "raw": ["anything", "( { "],
    "character(3)[]": ["{ab,NULL}"],
    "bit(2)[]": ["{10,01}"],
}
"""Values of types. Other types take those of LITERALS that they accept, and composite types one whose attributes are null."""

TYPES = """
SELECT format_type(t.oid, NULL) FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
LEFT JOIN pg_class c ON c.oid = t.typrelid
WHERE n.nspname IN ('pg_catalog', 'public', 'other', 'information_schema') AND t.typtype IN ('b', 'e', 'd', 'r', 'm', 'c')
  AND (t.typtype <> 'c' OR (c.relkind = 'c' AND n.nspname IN ('public', 'other')) OR c.relname IN ('pg_namespace', 'pg_database'))
  AND NOT (t.typtype = 'b' AND EXISTS (
      SELECT FROM pg_type e LEFT JOIN pg_class ec ON ec.oid = e.typrelid
      WHERE e.typarray = t.oid AND (e.typtype = 'p' OR (e.typtype = 'c' AND ec.relkind <> 'c'))))
ORDER BY 1
"""


@frozen
class Column:
    """A column, its type, and its values as PostgreSQL writes them. The row with the key n holds the n-th value, or null."""

    name: str
    type: str
    values: list[str]
    ordered: bool
    has_minimum: bool


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, postgres: dict[str, Any]) -> Iterator[LiveProject]:
    with live_project(tmp_path_factory.mktemp("types"), postgres, PROJECT) as found:
        yield found


def samples(world: LiveProject, of: str) -> list[str]:
    """Values of a type, as PostgreSQL writes them."""
    texts = SAMPLES.get(of)
    if texts is None and of.endswith("[]"):
        members = samples(world, of.removesuffix("[]"))[:3]
        one, several = "%s" if members else "NULL", ", ".join([*(["%s"] * len(members)), "NULL"])
        written = world.query(
            f"SELECT unnest(ARRAY[ARRAY[{several}]::{of}::text,"
            f" array_fill({one}::{of[:-2]}, ARRAY[2, 1], ARRAY[0, 3])::text, '{{}}'])",
            [*members, *members[:1]],
        )
        return [row[0] for row in written]
    if texts is None:
        attributes = world.query(
            "SELECT count(*) FROM pg_attribute WHERE attrelid = (SELECT typrelid FROM pg_type WHERE oid = %s::regtype) AND attnum > 0",
            (of,),
        )[0][0]
        texts = ["(" + "," * (attributes - 1) + ")"] if attributes else LITERALS
    found: list[str] = []
    for text in texts:
        # Composite types of the catalogue cannot be cast in an expression if an attribute is a pseudo-type.
        rows = world.attempt(f"SELECT (%s::{of})::text", (text,)) if len(text) < 200 else None
        if rows and rows[0][0] is not None and rows[0][0] not in found:
            found.append(rows[0][0])
        if texts is LITERALS and len(found) == 3:
            break
    return found


@pytest.fixture(scope="module")
def columns(world: LiveProject) -> list[Column]:
    """The columns of the table "things", which has rows with values, and one of nulls."""
    world.query(OWN_TYPES.replace("%%", "%"))
    types = [row[0] for row in world.query(TYPES)] + LENGTHS
    assert len(types) > 180
    world.query("CREATE TABLE things (id integer PRIMARY KEY)")
    found: list[Column] = []
    for number, of in enumerate(types):
        name = f"c{number}_" + re.sub(r"\W", "", of.replace("[]", "_list"))[:30].lower()
        if world.attempt(f"ALTER TABLE things ADD COLUMN {name} {of}") is None:
            continue
        values = samples(world, of)
        ordered = world.attempt(f"SELECT {name} FROM things ORDER BY {name}") is not None
        minimum = ordered and world.attempt(f"SELECT min({name}) FROM things HAVING pg_typeof(min({name})) = '{of}'::regtype")
        found.append(Column(name, of, values, ordered, bool(minimum)))
    for key in range(1, max(len(column.values) for column in found) + 2):
        row = {column.name: column.values[key - 1] for column in found if key <= len(column.values)}
        names = ", ".join(["id", *row])
        world.query(f"INSERT INTO things ({names}) VALUES ({', '.join(['%s'] * (len(row) + 1))})", [key, *row.values()])
    world.query("SELECT directus_touch('schema')")
    return found


def text_of(world: LiveProject, name: str, key: int) -> str | None:
    found: str | None = world.query(f"SELECT {name}::text FROM things WHERE id = %s", (key,))[0][0]
    return found


def asked_for(value: Any) -> str:
    """What a client puts into a query for a value that it has been shown."""
    text = value if isinstance(value, str) else json.dumps(value)
    return quote(text, safe="")


def test_every_column_is_listed_and_shown(world: LiveProject, columns: list[Column]) -> None:
    status, listed = world.call("GET", "/items/things?limit=-1")
    assert status == 200, listed
    assert len(columns) > 180
    for item in listed["data"]:
        assert item.keys() == {"id", *(column.name for column in columns)}
        assert world.call("GET", f"/items/things/{item['id']}")[1]["data"] == item
    shown = {column.type: [item[column.name] for item in listed["data"]] for column in columns}
    assert shown["integer[]"][:2] == [[7, -2147483648, None], [[7], [7]]]
    assert shown["json[]"][0][0] == {"b": 1.0, "a": [1, 2]}
    assert shown["bigint[]"][0] == ["7", "9223372036854775807", None]
    assert shown["boolean[]"][0] == [True, False, None]
    assert shown["mood[]"][0] == ["it's 100%", 'a,"b"\\', "happy", None]
    assert shown["integers[]"][0] == [[1, 2], [], None]
    assert shown["timestamp with time zone"][0] == "2020-02-28 23:02:03.123456"
    assert shown["timestamp with time zone[]"][0][0] == "2020-02-28 23:02:03.123456"
    assert shown["numeric"][1] == "NaN"
    assert shown["inet"][0] == "192.168.0.1"
    assert shown["pair"][0] == '(1,"x y")'
    assert shown["document"][0] == {"a": True}
    assert shown["very_positive"][0] == 11
    assert shown["box[]"][0][0] is not None
    fields = {field["field"]: field for field in world.call("GET", "/fields/things")[1]["data"]}
    by_type = {column.type: fields[column.name] for column in columns}
    for of in ("mood", "feeling"):
        assert by_type[of]["datatype"] == "ENUM"
        assert by_type[of]["length"] == "'sad','it''s 100%','a,\"b\"\\','Happy','happy',''"
    assert (by_type["short"]["datatype"], by_type["short"]["length"]) == ("VARCHAR", "5")
    assert by_type["integers"]["type"] == by_type["text[]"]["type"] == "array"
    assert by_type["document"]["type"] == "json"


def test_every_column_is_exported(world: LiveProject, columns: list[Column]) -> None:
    status, text = world.call("GET", "/items/things?limit=-1&export=csv&export_raw=1")
    assert status == 200, text
    lines = list(csv.DictReader(io.StringIO(text)))
    items = world.call("GET", "/items/things?limit=-1")[1]["data"]
    assert len(lines) == len(items)
    for line, item in zip(lines, items, strict=True):
        for column in columns:
            shown = item[column.name]
            if isinstance(shown, list):
                assert json.loads(line[column.name]) == shown


# Texts compare without case, and these are shown with fewer digits than they have.
OPERATORS = ("eq", "neq", "in", "nin", "lt", "lte", "gte", "between", "contains")
INEXACT = {"numeric[]", "json[]", "jsonb[]"}


def test_every_column_is_filtered_by_its_own_comparison(world: LiveProject, columns: list[Column]) -> None:
    items = {item["id"]: item for item in world.call("GET", "/items/things?limit=-1")[1]["data"]}
    wrong: list[Any] = []
    for column in columns:
        name = column.name
        filled = [row[0] for row in world.query(f"SELECT id FROM things WHERE {name} IS DISTINCT FROM NULL ORDER BY id")]
        for operator, keys in (("null", set(items) - set(filled)), ("nnull", set(filled))):
            status, found = world.call("GET", f"/items/things?fields=id&limit=-1&filter[{name}][{operator}]=1")
            if status != 200 or {item["id"] for item in found["data"]} != keys:
                wrong.append((column.type, operator, status, found))
        listed = column.type.endswith("[]")
        for key in filled[: 1 if listed else 2]:
            shown = items[key][name]
            if isinstance(shown, float) and Decimal(repr(shown)) != Decimal(text_of(world, name, key) or ""):
                continue
            if shown is None or (isinstance(shown, list) and column.type in INEXACT) or shown == "":
                continue
            if column.type in ("json", "jsonb") and json.dumps(shown, ensure_ascii=False) != text_of(world, name, key):
                continue
            if (text_of(world, name, key) or "").startswith("[0:") or (isinstance(shown, str) and shown != shown.strip()):
                # The bounds of an array are not shown, and lists are trimmed.
                continue
            text = asked_for(shown)
            for operator in ("eq", "nin", "lt") if listed else OPERATORS:
                suffix = "[]" if operator in ("in", "nin") else ""
                wanted = f"{text}&filter[{name}][{operator}][]={text}" if operator == "between" else text
                asked = f"filter[{name}][{operator}]{'[]' if operator == 'between' else suffix}={wanted}"
                status, found = world.call("GET", f"/items/things?fields=id&limit=-1&{asked}")
                # Names of objects are sorted, but compared as text.
                if operator in ("lt", "lte", "gte", "between") and (not column.ordered or column.type.startswith("reg")):
                    if status != 422 or name not in str(found):
                        wrong.append((column.type, operator, shown, status, found))
                    continue
                if status != 200:
                    wrong.append((column.type, operator, shown, status, found))
                    continue
                ids = {item["id"] for item in found["data"]}
                if operator == "contains":
                    continue
                if (key in ids) != (operator in ("eq", "in", "lte", "gte", "between")) or not ids <= set(filled):
                    wrong.append((column.type, operator, shown, key, ids))
    assert not wrong, "\n".join(map(str, wrong))


def test_every_column_is_sorted_and_aggregated_by_its_own_order(world: LiveProject, columns: list[Column]) -> None:
    wrong: list[Any] = []
    for column in columns:
        name = column.name
        for sign, direction in (("", "ASC"), ("-", "DESC")):
            status, found = world.call("GET", f"/items/things?fields=id&limit=-1&sort={sign}{name}")
            if not column.ordered:
                if status != 422 or name not in str(found):
                    wrong.append((column.type, "sort", status, found))
                continue
            if status != 200:
                wrong.append((column.type, "sort", status, found))
                continue
            ids = [item["id"] for item in found["data"]]
            places = dict(world.query(f"SELECT id, dense_rank() OVER (ORDER BY {name} {direction} NULLS LAST) FROM things"))
            textual = re.match(r"(character|text|name|short|information_schema)", column.type) and not column.type.endswith("[]")
            if not textual and [places[key] for key in ids] != sorted(places.values()):
                wrong.append((column.type, "sort", ids, places))
        for query, allowed in (
            (f"aggregate[count]={name}", True),
            (f"aggregate[countDistinct]={name}", True),
            (f"aggregate[min]={name}", column.has_minimum and column.type not in ("bytea", "uuid")),
            (f"aggregate[max]={name}", column.has_minimum and column.type not in ("bytea", "uuid")),
            (f"groupby={name}&aggregate[count]=*", True),
        ):
            status, found = world.call("GET", f"/items/things?{query}")
            # Types that have no min of their own may have that of another.
            if (status != 200 if allowed else status not in (200, 422)) or (status == 422 and name not in str(found)):
                wrong.append((column.type, query, status, found))
        for text in column.values[:1]:
            status, found = world.call("GET", f"/items/things?fields=id&q={quote(text, safe='')}")
            if status != 200:
                wrong.append((column.type, "q", status, found))
    assert not wrong, "\n".join(map(str, wrong))


def test_a_row_that_is_sent_back_as_it_was_shown_stays_as_it_is(world: LiveProject, columns: list[Column]) -> None:
    for item in world.call("GET", "/items/things?limit=-1")[1]["data"]:
        key = item["id"]
        before = world.query("SELECT t::text FROM things t WHERE id = %s", (key,))
        for body in (item, {name: value for name, value in item.items() if name != "id"}):
            status, answer = world.call("PATCH", f"/items/things/{key}", body)
            assert status == 200, answer
            assert answer["data"] == item
        after = world.query("SELECT t::text FROM things t WHERE id = %s", (key,))
        assert before == after
    items = world.call("GET", "/items/things?limit=-1")[1]["data"]
    before = world.query("SELECT t::text FROM things t ORDER BY id")
    status, answer = world.call("PATCH", "/items/things", items)
    assert status == 200, answer
    assert world.query("SELECT t::text FROM things t ORDER BY id") == before


UNWRITABLE = {"bytea", "aclitem"}
"""Types whose shown values are not what a write takes: binary values are shown in base64 and written as text."""


def test_every_column_takes_the_values_of_another_row(world: LiveProject, columns: list[Column]) -> None:
    items = {item["id"]: item for item in world.call("GET", "/items/things?limit=-1")[1]["data"]}
    wrong: list[Any] = []
    for column in columns:
        name = column.name
        for source in range(1, 2 if column.type.endswith("[]") else len(column.values) + 1):
            shown, stored = items[source][name], text_of(world, name, source)
            # A text is a json string.
            if shown is None or column.type in UNWRITABLE or (column.type == "json" and isinstance(shown, str) and shown != "x"):
                continue
            status, found = world.call("POST", f"/items/things?fields=id,{name}", {"id": 900, name: shown})
            if status != 200:
                wrong.append((column.type, shown, status, found))
                continue
            written = text_of(world, name, 900)
            same = written == stored or found["data"][name] == shown
            # The bounds of an array are not shown, nor the spelling of json.
            if not same:
                wrong.append((column.type, shown, stored, written, found["data"][name]))
            for value, expected in ((None, None), (shown, written)):
                status, found = world.call("PATCH", "/items/things/900?fields=id", {name: value})
                if status != 200 or (text_of(world, name, 900) != expected):
                    wrong.append((column.type, value, status, found))
            world.query("DELETE FROM things WHERE id = 900")
    assert not wrong, "\n".join(map(str, wrong))


def test_a_value_that_a_type_cannot_parse_is_refused_by_name(world: LiveProject, columns: list[Column]) -> None:
    wrong: list[Any] = []
    contract = re.compile(
        r"(small|big)?int(eger)?|numeric|real|double|boolean|date|positive|very_positive|price|bytea|information_schema"
    )
    for column in columns:
        name = column.name
        for bad in ("no such value", "(1")[: 1 if column.type.endswith("[]") else 2]:
            value = [bad] if column.type.endswith("[]") or column.type == "integers" else bad
            taken = world.attempt(f"SELECT %s::{column.type}", (value if isinstance(value, str) else [bad],)) is not None
            status, found = world.call("PATCH", "/items/things/1?fields=id", {name: value})
            if taken or column.type.startswith(("json", "document")):
                # A text is a value of json. Lengths and checks are those of the column.
                if status not in (200, 422):
                    wrong.append((column.type, value, status, found))
            elif status != 422 or name not in found["error"]["message"]:
                wrong.append((column.type, value, status, found))
            status, found = world.call("GET", f"/items/things?fields=id&filter[{name}][eq]={quote(bad, safe='')}")
            if status not in (200, 422) or (status == 422 and not (name in str(found) and bad in str(found))):
                wrong.append((column.type, "eq", bad, status, found))
            ordinary = contract.match(column.type) and not column.type.endswith("[]")
            if not taken and status != 422 and not ordinary and not column.type.startswith(("json", "timestamp(0) without")):
                comparable = world.attempt(f"SELECT {name} = {name} FROM things") is not None
                if comparable and not column.type.startswith("reg"):
                    wrong.append((column.type, "eq", bad, status, found))
    assert not wrong, "\n".join(map(str, wrong))
