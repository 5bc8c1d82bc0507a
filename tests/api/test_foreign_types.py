"""Columns of PostgreSQL's types that the API has no word for, in tables that others have made: shown, written and asked about."""

from typing import Any
from urllib.parse import quote

from pytest_twisted import ensureDeferred

from directus_tx.db.session import Session
from tests.conftest import Client

COLUMNS: dict[str, list[str]] = {
    "interval": ["1 day 02:00:00", "-3 mons"],
    "int4range": ["[1,5)", "empty"],
    "numrange": ["[1.5,2.5]"],
    "daterange": ["[2020-01-01,2020-02-01)"],
    "tstzrange": ["[2020-01-01 00:00:00+00,)"],
    "int4multirange": ["{[1,3),[5,7)}"],
    "integer[]": ["{1,2,NULL}", "{}"],
    "bigint[]": ["{9223372036854775807}"],
    "text[]": ['{a,"b c",NULL}', "{{a,b},{c,d}}"],
    "numeric[]": ["{1.50,NaN}"],
    "double precision[]": ["{1.5,Infinity}"],
    "boolean[]": ["{t,f}"],
    "date[]": ["{2020-01-01}"],
    "time[]": ["{12:00:00}"],
    "timestamp[]": ['{"2020-01-01 00:00:00",infinity}'],
    "timestamptz[]": ['{"2020-01-01 00:00:00+00"}'],
    "interval[]": ["{01:00:00}"],
    "bytea[]": ['{"\\\\x00ff"}'],
    "uuid[]": ["{0c8ac73e-4a06-4a1c-8d2b-b5d5f1f5a001}"],
    "json[]": ['{"{\\"a\\": 1}"}'],
    "json": ['{"a": [1, 2]}', "[1]", "null", '"x"'],
    "jsonb": ['{"a": [1, 2]}', "3"],
    "inet": ["192.168.0.1"],
    "cidr": ["10.0.0.0/8"],
    "macaddr": ["08:00:2b:01:02:03"],
    "bit(3)": ["101"],
    "bit varying": ["1"],
    "money": ["$1,234.50"],
    "point": ["(1,2)"],
    "box": ["(2,2),(1,1)"],
    "polygon": ["((0,0),(1,1))"],
    "tsvector": ["'a' 'b'"],
    "tsquery": ["'a' & 'b'"],
    "pg_lsn": ["0/16B3748"],
    "oid": ["17"],
    "name": ["n"],
    '"char"': ["c"],
    "character(5)": ["ab"],
    "character varying": ["x"],
    "real": ["1.5", "NaN", "-Infinity"],
    "double precision": ["1e300", "Infinity"],
    "numeric": ["NaN", "Infinity", "12345678901234567890.123"],
    "numeric(5,-2)": ["12300"],
    "smallint": ["-32768"],
    "timestamp": ["2020-01-01 00:00:00.123456", "infinity", "0044-03-15 00:00:00 BC", "294276-01-01 00:00:00"],
    "timestamptz": ["2020-01-01 00:00:00+00", "-infinity"],
    "date": ["infinity", "0044-03-15 BC", "5874897-12-31"],
    "time": ["24:00:00", "12:30:45.5"],
    "timetz": ["12:00:00+02"],
    "uuid": ["0c8ac73e-4a06-4a1c-8d2b-b5d5f1f5a001"],
    "bytea": ["\\x00ff"],
    "mood": ["happy", "it's 100%"],
    "pair": ['(1,"x y")'],
    "positive": ["5"],
    "jsonpath": ['$."a"'],
}


@ensureDeferred
async def test_columns_of_every_type_are_shown_and_written_and_asked_about(client: Client) -> None:
    names = {kind: f"c{number}" for number, kind in enumerate(COLUMNS)}

    async def make(session: Session) -> None:
        await session.query("CREATE TYPE mood AS ENUM ('sad', 'it''s 100%%', 'happy')")
        await session.query("CREATE TYPE pair AS (a int, b text)")
        await session.query("CREATE DOMAIN positive AS int CHECK (value > 0)")
        columns = ", ".join(f"{name} {kind}" for kind, name in names.items())
        await session.query(f"CREATE TABLE things (id serial PRIMARY KEY, {columns})")
        for kind, values in COLUMNS.items():
            for value in values:
                await session.query(f"INSERT INTO things ({names[kind]}) VALUES (%s)", (value,))
        await session.query("SELECT directus_touch('schema')")

    await Session(client.backend.projects.get(client.project).database).transaction(make)
    listed = await client.get("~/items/things?limit=-1")
    assert listed.status == 200, listed.body
    assert (await client.get("~/fields/things")).status == 200
    number = 0
    wrong: list[Any] = []

    def check(what: Any, answer: Any, *allowed: int) -> None:
        if answer.status not in allowed:
            wrong.append((what, answer.status, answer.body[:150]))

    for kind, values in COLUMNS.items():
        name = names[kind]
        for value in values:
            number += 1
            shown = listed.data[number - 1][name]
            one = await client.get(f"~/items/things/{number}")
            check((kind, value), one, 200)
            # What is shown can be sent back, or is refused by name.
            for method, path in (("PATCH", f"~/items/things/{number}"), ("POST", "~/items/things")):
                for sent in (shown, value, None):
                    written = await client.call(method, path, {name: sent})
                    check((kind, method, sent), written, 200, 422)
            for operator in ("eq", "neq", "lt", "gte", "in", "nin", "between", "contains", "rlike", "null", "empty", "nempty"):
                for text in (value, "", "x", "1", "%", "\\"):
                    asked = f"~/items/things?fields=id&filter[{name}][{operator}]={quote(text, safe='')}"
                    check((kind, operator, text), await client.get(asked), 200, 422)
        for query in (f"sort=-{name}", f"q={quote(values[0])}", f"groupby={name}&aggregate[count]=*"):
            check((kind, query), await client.get(f"~/items/things?limit=5&{query}"), 200, 422)
        for function in ("count", "countDistinct", "sum", "avg", "min", "max"):
            check((kind, function), await client.get(f"~/items/things?aggregate[{function}]={name}"), 200, 422)
    for path in ("~/items/things?export=csv", "~/items/things?export=json", "~/revisions?limit=-1"):
        check(path, await client.get(path), 200)
    assert not wrong, "\n".join(map(str, wrong))
