"""Fields of existing tables whose names mean something in a query: dots, commas, a leading minus, brackets, a question mark."""

import csv
import io
from typing import Any
from urllib.parse import quote

from pytest_twisted import ensureDeferred

from directus_tx.db.session import Session
from tests.api.test_leaks import role_of
from tests.conftest import Client

NAMES = ["a.b", ".a", "a.", "a..b", "a.b.c", "-x", "--x", "-x.y", "a,b", "a[b", "a]b", "[]", "a[b]", "?", "*.a", "a. b"]
WITHOUT_FILTER = ["a]b", "[]", "a[b]"]
"""Names that brackets of a filter cannot contain."""


async def query(client: Client, sql: str) -> Any:
    session = Session(client.backend.projects.get(client.project).database)
    return await session.transaction(lambda session: session.query(sql + "; SELECT directus_touch('schema')"))


def part(text: str) -> str:
    return quote(text, safe="")


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@ensureDeferred
async def test_a_field_is_found_by_its_whole_name(client: Client) -> None:
    for number, name in enumerate(NAMES):
        table = f"CREATE TABLE things{number} (id integer PRIMARY KEY, {quoted(name)} integer);"
        await query(client, f"{table} INSERT INTO things{number} VALUES (1, 30), (2, 10), (3, 20), (4, 10)")
    for number, name in enumerate(NAMES):
        await ask_about(client, f"~/items/things{number}?", name)


async def ask_about(client: Client, path: str, name: str) -> None:
    """Asks about a field in every parameter that names fields."""
    field = part(name)
    listed = await client.get(f"{path}fields[]={field}&sort=id")
    assert (listed.status, listed.data) == (200, [{name: n} for n in (30, 10, 20, 10)])
    if "," not in name:
        assert (await client.get(f"{path}fields={field}&sort=id")).data == listed.data
        assert (await client.get(f"{path}fields=id,{field}&single=1&sort=id")).data == {"id": 1, name: 30}
    for parameter in ["sort[]"] if "," in name else ["sort", "sort[]"]:
        ordered = await client.get(f"{path}fields=id&{parameter}={field}")
        assert [row["id"] for row in ordered.data] == [2, 4, 3, 1], parameter
        ordered = await client.get(f"{path}fields=id&{parameter}=-{field}")
        assert [row["id"] for row in ordered.data] == [1, 3, 2, 4], parameter
    groups = await client.get(f"{path}aggregate[count]=*&groupby[]={field}&sort[]=-{field}")
    assert groups.data == [{name: n, "count": {"*": m}} for n, m in ((30, 1), (20, 1), (10, 2))], groups.body
    groups = await client.get(f"{path}aggregate[count]=*&groupby[]={field}&sort[]={field}")
    assert [row[name] for row in groups.data] == [10, 20, 30]
    for parameter in ["aggregate[sum][]"] if "," in name else ["aggregate[sum]", "aggregate[sum][]"]:
        summed = await client.get(f"{path}{parameter}={field}")
        assert summed.data == [{"sum": {name: 70}}], (parameter, summed.body)
    assert len((await client.get(f"{path}groups[]={field}")).data) == 3
    exported = await client.get(f"{path}export=csv&export_raw=1&fields[]={field}&fields[]=id&sort=id")
    assert list(csv.reader(io.StringIO(exported.body.decode())))[:2] == [[name, "id"], ["30", "1"]]
    if name not in WITHOUT_FILTER:
        found = await client.get(f"{path}fields=id&filter[{field}][eq]=10&sort=id")
        assert (found.status, found.data) == (200, [{"id": 2}, {"id": 4}]), found.body
        assert len((await client.get(f"{path}filter[{field}]=30")).data) == 1
        assert len((await client.get(f"{path}filter[{field}][gt]=10&filter[id][lt]=3")).data) == 1
    changed = await client.patch(f"{path.replace('?', '/1?')}fields[]={field}", {name: 5})
    assert (changed.status, changed.data) == (200, {name: 5})


RELATED = """
CREATE TABLE people (id integer PRIMARY KEY, name text, "first.name" text);
CREATE TABLE notes (id integer PRIMARY KEY, a integer REFERENCES people, "a.name" text, "the.person" integer REFERENCES people, x integer,
    "-x" integer, plain integer, "plain.more" integer, "?" integer);
INSERT INTO people VALUES (1, 'Ada', 'A'), (2, 'Bob', 'B');
INSERT INTO notes VALUES (1, 1, 'Bob', 2, 1, 9, 7, 70, 1), (2, 2, 'Ada', 1, 2, 8, 6, 60, 2);
"""


@ensureDeferred
async def test_the_name_of_a_field_counts_before_a_path_and_other_paths_stay(client: Client) -> None:
    await query(client, RELATED)

    async def ids(question: str, **options: Any) -> Any:
        answer = await client.get(f"~/items/notes?fields=id&sort=id&{question}", **options)
        return [row["id"] for row in answer.data] if answer.status == 200 else answer.code

    assert await ids("filter[a.name][eq]=Ada") == [2]
    assert await ids("filter[a.id][eq]=1") == [1]
    assert await ids("filter[a.first.name][eq]=A") == [1]
    assert await ids("filter[the.person.name][eq]=Ada") == [2]
    assert await ids("filter[the.person.first.name][eq]=B") == [1]
    assert await ids("filter[the.person][eq]=1") == [2]
    # A field without a relation behind it is no beginning of a path.
    assert await ids("filter[plain.more.a][eq]=1") == 202
    for question, expected in (
        ("a.name", {"a.name": "Bob"}),
        ("a.id", {"a": {"id": 1}}),
        ("a.first.name,id", {"id": 1, "a": {"first.name": "A"}}),
        ("the.person.name", {"the.person": {"name": "Bob"}}),
        ("the.person.first.name,the.person.id", {"the.person": {"first.name": "B", "id": 2}}),
        ("the.person", {"the.person": 2}),
        ("plain,plain.more", {"plain": 7, "plain.more": 70}),
        ("plain.other", {"plain": 7}),
        ("plain.more.other", {"plain": 7}),
        ("*,-plain.more,-a.name,-the.person,-x,-?", {"id": 1, "a": 1, "x": 1, "-x": 9, "plain": 7}),
    ):
        answer = await client.get(f"~/items/notes/1?fields={question}")
        assert (answer.status, answer.data) == (200, expected), (question, answer.body)
    # With both fields, the minus is the direction.
    assert (await client.get("~/items/notes?fields=id&sort=-x")).data == [{"id": 2}, {"id": 1}]
    assert (await client.get("~/items/notes?fields=id&sort=--x")).data == [{"id": 1}, {"id": 2}]


@ensureDeferred
async def test_hidden_fields_do_not_change_what_a_path_means(client: Client) -> None:
    await query(client, RELATED)
    hidden = ["a.name", "plain.more", "-x", "?"]
    await role_of(
        client,
        {"collection": "notes", "read": "full", "read_field_blacklist": hidden},
        {"collection": "people", "read": "full"},
    )
    questions = [
        "filter[a.name][eq]=Ada",
        "filter[plain.more][eq]=7",
        "fields=a.name",
        "fields=plain.more",
        "fields=*,-plain.more",
        "sort=-x",
        "sort=?&filter[id][eq]=1",
        "fields=id,a.name,plain.more",
    ]
    seen = [await client.get(f"~/items/notes?{each}", token="reader") for each in questions]
    await query(client, "".join(f'ALTER TABLE notes DROP COLUMN "{name}";' for name in hidden))
    for question, before in zip(questions, seen, strict=True):
        after = await client.get(f"~/items/notes?{question}", token="reader")
        assert (before.status, before.json) == (after.status, after.json), question


KEYS = ["a/b", "/", "a%b", "%2F", "a?b", "a#b", "a b", "a;b=c", "ä", "a\\b", "[1]", "...", "+"]
SEPARATED = ["a,b", ",", " a", "a ", " "]
"""Keys that a path divides or trims."""


@ensureDeferred
async def test_items_of_any_key_are_read_and_changed(client: Client) -> None:
    await query(client, "CREATE TABLE keyed (id text PRIMARY KEY, n integer)")
    session = Session(client.backend.projects.get(client.project).database)
    for number, key in enumerate([*KEYS, *SEPARATED, ".", "..", "a"]):
        await session.query("INSERT INTO keyed VALUES (%s, %s)", (key, number))
    for number, key in enumerate([*KEYS, *SEPARATED, ".", ".."]):
        found = await client.get(f"~/items/keyed?filter[id][eq]={part(key)}")
        assert {"id": key, "n": number} in found.data, key
        changed = await client.patch("~/items/keyed", [{"id": key, "n": 1000 + number}])
        assert (changed.status, changed.data) == (200, [{"id": key, "n": 1000 + number}]), key
    assert await session.query("SELECT count(*) FROM keyed WHERE n < 1000") == [(1,)]
    for number, key in enumerate(KEYS):
        path = f"~/items/keyed/{part(key)}"
        assert (await client.get(path)).data == {"id": key, "n": 1000 + number}, key
        assert (await client.patch(path, {"n": number})).data == {"id": key, "n": number}, key
        assert (await client.delete(path)).status == 204, key
        assert (await client.get(path)).code == 203, key
    left = {key for (key,) in await session.query("SELECT id FROM keyed")}
    assert left == {*SEPARATED, ".", "..", "a"}
