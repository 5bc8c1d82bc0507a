"""Tables that others change while the server runs, without event triggers that tell of it: the next request is answered rightly, and
what stays broken is no loop."""

from typing import Any

import pytest
from attrs import evolve
from pytest_twisted import ensureDeferred
from twisted.internet import defer

from directus_tx.config import Settings
from directus_tx.context import Accountability, Context, moment
from directus_tx.db.connection import pause
from directus_tx.db.session import Session
from directus_tx.errors import FieldNotFound
from directus_tx.http.params import parsed
from directus_tx.http.routes import Call
from tests.conftest import TOKEN, Client, field


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return evolve(settings, database=evolve(settings.database, event_trigger="off"))


NAME, COUNT, LABEL = field("name"), field("count", "integer", "INT", 11), field("label")


async def execute(client: Client, *statements: str) -> None:
    """Runs statements as somebody else than the server, who is told nothing."""

    async def work(session: Session) -> None:
        for statement in statements:
            await session.query(statement)

    await Session(client.backend.projects.get(client.project).database).transaction(work)


async def things(client: Client) -> None:
    """A collection of three items, which has been read in many ways: their plans are known."""
    await client.collection("things", NAME, COUNT, LABEL, field("parent", "m2o", "INT", 11))
    relation = {"collection_many": "things", "field_many": "parent", "collection_one": "things"}
    assert (await client.post("~/relations", relation)).status == 200
    items = [{"name": f"n{n}", "count": n, "label": f"l{n}"} for n in (1, 2, 3)]
    assert (await client.post("~/items/things", items)).status == 200
    for path in READS:
        assert (await client.get(path)).status == 200, path


READS = (
    "~/items/things",
    "~/items/things/1",
    "~/items/things?fields=id,label",
    "~/items/things?filter[label][eq]=l1",
    "~/items/things?sort=-label",
    "~/items/things?q=l1",
    "~/items/things?aggregate[max]=label",
    "~/items/things?limit=-1&meta=*",
    "~/items/things?export=json",
)


def outcomes(answers: list[Any]) -> list[tuple[int, int | None]]:
    return [(answer.status, None if answer.status == 200 else answer.code) for answer in answers]


@ensureDeferred
async def test_each_read_after_a_column_is_dropped_is_answered_rightly(client: Client) -> None:
    await things(client)
    unknown = (422, 202)
    expected = [(200, None)] * 2 + [unknown] * 3 + [(200, None), unknown] + [(200, None)] * 2
    for path, outcome in zip(READS, expected, strict=True):
        # Each is the first to notice.
        await execute(client, "ALTER TABLE things DROP COLUMN label")
        answer = await client.get(path)
        assert outcomes([answer]) == [outcome], path
        shown = answer.json if isinstance(answer.json, list) else answer.json.get("data")
        assert "label" not in str(shown), path
        await execute(client, "ALTER TABLE things ADD COLUMN label varchar(200)")
        assert "label" in (await client.get("~/items/things/1?fields=*,label")).data


@ensureDeferred
async def test_writes_after_a_column_is_dropped_are_done_once(client: Client) -> None:
    await things(client)
    await execute(client, "ALTER TABLE things DROP COLUMN label")
    made = await client.post("~/items/things", {"name": "new", "parent": {"name": "other"}})
    assert made.status == 200, made.body
    assert "label" not in made.data
    await execute(client, "ALTER TABLE things DROP COLUMN count")
    changed = await client.patch(f"~/items/things/{made.data['id']}", {"name": "newer"})
    assert (changed.status, changed.data["name"], "count" in changed.data) == (200, "newer", False)
    await execute(client, "ALTER TABLE things ADD COLUMN count int, DROP COLUMN parent")
    refused = await client.post("~/items/things", {"name": "x", "parent": 1})
    assert outcomes([refused]) == [(422, 12)]
    assert [row["name"] for row in (await client.get("~/items/things?fields=name")).data] == ["n1", "n2", "n3", "other", "newer"]
    history = (await client.get("~/revisions?filter[collection][eq]=things&limit=-1&fields=item&sort=id")).data
    assert [row["item"] for row in history] == ["1", "2", "3", "4", "5", "5"]


@ensureDeferred
async def test_a_required_column_that_is_added_is_asked_for_by_name_and_taken(client: Client) -> None:
    await things(client)
    await execute(client, "DELETE FROM things", "ALTER TABLE things ADD COLUMN needed text NOT NULL")
    refused = await client.post("~/items/things", {"name": "x"})
    assert outcomes([refused]) == [(422, 4)]
    assert '"needed"' in refused.json["error"]["message"]
    await execute(client, "ALTER TABLE things ADD COLUMN also int NOT NULL")
    # Given, while the server does not know it yet.
    made = await client.post("~/items/things", {"name": "x", "needed": "y", "also": 7})
    assert (made.status, made.data["also"]) == (200, 7)


@ensureDeferred
async def test_a_column_that_is_no_longer_there_is_no_longer_required(client: Client) -> None:
    await client.collection("things", NAME, {**LABEL, "required": True})
    assert outcomes([await client.post("~/items/things", {"name": "x"})]) == [(422, 4)]
    await execute(client, "ALTER TABLE things DROP COLUMN label")
    assert (await client.post("~/items/things", {"name": "x"})).status == 200


@ensureDeferred
async def test_a_renamed_column_is_found_by_its_new_name(client: Client) -> None:
    await things(client)
    for old, new in (("label", "title"), ("title", "heading"), ("heading", "a.b")):
        await execute(client, f'ALTER TABLE things RENAME COLUMN "{old}" TO "{new}"')
        if "." not in new:
            assert (await client.get(f"~/items/things?fields={new}&filter[{new}][eq]=l2")).data == [{new: "l2"}]
        assert outcomes([await client.get(f"~/items/things?fields={old}")]) == [(422, 202)]
        item = (await client.get("~/items/things/2")).data
        assert (new in item, old in item) == (True, False)
        assert (await client.patch("~/items/things/2", {new: "l2"})).data[new] == "l2"


@ensureDeferred
async def test_a_table_that_is_dropped_is_not_found_and_one_that_is_made_is(client: Client) -> None:
    await things(client)
    for path in READS:
        await execute(client, "ALTER TABLE things RENAME TO others")
        assert outcomes([await client.get(path)]) == [(404, 200)], path
        assert len((await client.get("~/items/others")).data) == 3
        await execute(client, "ALTER TABLE others RENAME TO things")
        assert outcomes([await client.get("~/items/others")]) == [(404, 200)]
        assert (await client.get(path)).status == 200, path
    for method, path, body in (
        ("POST", "~/items/things", {"name": "x"}),
        ("PATCH", "~/items/things/1", {"name": "x"}),
        ("DELETE", "~/items/things/1", ...),
    ):
        await execute(client, "ALTER TABLE things RENAME TO others")
        assert outcomes([await client.call(method, path, body)]) == [(404, 200)], method
        await execute(client, "ALTER TABLE others RENAME TO things")
    assert len((await client.get("~/items/things")).data) == 3
    await execute(client, "CREATE TABLE made (id serial PRIMARY KEY, name text NOT NULL)")
    assert (await client.post("~/items/made", {"name": "x"})).data == {"id": 1, "name": "x"}
    await execute(client, "CREATE TABLE taken (id serial PRIMARY KEY, name text NOT NULL)")
    taken = await client.post("~/collections", {"collection": "taken", "fields": []})
    assert (taken.status, taken.data["managed"]) == (200, True)
    await execute(client, "DROP TABLE taken")
    # The rows about it are left, and forgotten when it is made anew.
    await client.post("~/permissions", {"collection": "taken", "role": 2, "read": "full"})
    await client.collection("taken", NAME)
    assert (await client.get("~/permissions?filter[collection][eq]=taken")).data == []
    assert list((await client.get("~/collections/taken")).data["fields"]) == ["id", "name"]
    await execute(client, "ALTER TABLE taken DROP COLUMN name")
    assert (await client.post("~/fields/taken", NAME)).status == 200
    assert (await client.get("~/items/taken?fields=name")).data == []


@ensureDeferred
async def test_a_column_whose_type_is_changed_is_asked_as_what_it_is(client: Client) -> None:
    await things(client)
    await client.get("~/items/things?filter[count][gt]=1&sort=count")
    await execute(client, "ALTER TABLE things ALTER COLUMN count TYPE text")
    assert (await client.get("~/items/things?filter[count][gt]=1&sort=count&fields=count")).data == [
        {"count": "2"},
        {"count": "3"},
    ]
    assert (await client.get("~/fields/things/count")).data["datatype"] == "TEXT"
    await execute(client, "ALTER TABLE things ALTER COLUMN count TYPE bigint USING count::bigint")
    assert (await client.get("~/items/things?filter[count][contains]=2&fields=id")).data == [{"id": 2}]
    assert (await client.get("~/items/things?aggregate[sum]=count")).data == [{"sum": {"count": 6}}]
    await execute(client, "ALTER TABLE things ALTER COLUMN name TYPE integer USING length(name)")
    assert (await client.post("~/items/things", {"name": "12"})).data["name"] in (12, "12")
    assert outcomes([await client.post("~/items/things", {"name": "no number"})]) == [(422, 4)]
    await execute(client, "ALTER TABLE things ALTER COLUMN label TYPE varchar(300)")
    assert (await client.post("~/items/things", {"label": "x" * 250})).status == 200
    await execute(client, "ALTER TABLE things ALTER COLUMN label TYPE varchar(260)")
    assert outcomes([await client.post("~/items/things", {"label": "x" * 280})]) == [(422, 12)]


@ensureDeferred
async def test_many_requests_that_notice_a_change_together_are_all_answered(client: Client) -> None:
    await things(client)
    project = client.backend.projects.get(client.project)
    for round in range(5):
        old, new = ("label", "title") if round % 2 == 0 else ("title", "label")
        before = project.current()
        await execute(client, f"ALTER TABLE things RENAME {old} TO {new}")
        reads = [client.get(f"~/items/things?fields=id&filter[{new}][neq]={n}") for n in range(20)]
        writes = [client.post("~/items/things", {new: f"w{round}"}) for _ in range(10)]
        answers = await defer.gatherResults([defer.ensureDeferred(each) for each in (*reads, *writes)])
        assert {answer.status for answer in answers} == {200}
        assert project.current() is not before
        found = (await client.get(f"~/items/things?filter[{new}][eq]=w{round}&limit=-1")).data
        assert len(found) == 10


@ensureDeferred
async def test_a_change_that_lets_nothing_fail_is_noticed_in_time(client: Client) -> None:
    await things(client)
    project = client.backend.projects.get(client.project)
    project._schema_interval = 0.05
    # The next comparison was set by the interval of before.
    project._verify_from = 0.0
    await project.snapshot()
    for statement, shown in (("ADD COLUMN more int", True), ("DROP COLUMN more", False), ("ADD COLUMN more text", True)):
        await execute(client, f"ALTER TABLE things {statement}")
        until = project.database.reactor.seconds() + 20
        while ("more" in (await client.get("~/collections/things")).data["fields"]) != shown:
            assert project.database.reactor.seconds() < until
        assert ("more" in (await client.get("~/items/things/1")).data) == shown
    known = project.current()
    for _ in range(20):
        await pause(project.database.reactor, 0.02)
        await client.get("~/items/things")
    assert project.current() is known


BROKEN = (
    "CREATE FUNCTION broken() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM nope FROM things; RETURN NEW; END'",
    "CREATE TRIGGER broken BEFORE INSERT ON things FOR EACH ROW EXECUTE FUNCTION broken()",
)


@ensureDeferred
async def test_what_stays_broken_fails_once_a_request_and_keeps_the_snapshot(client: Client) -> None:
    await things(client)
    await execute(client, *BROKEN)
    project = client.backend.projects.get(client.project)
    assert outcomes([await client.post("~/items/things", {"name": "x"})]) == [(500, 0)]
    known = project.current()
    for _ in range(3):
        answer = await client.post("~/items/things", {"name": "x"})
        assert outcomes([answer]) == [(500, 0)]
        assert "nope" not in answer.body.decode()
        assert answer.headers["x-request-id"] in answer.json["error"]["message"]
    assert project.current() is known, "the schema has not changed: its plans are kept"
    assert (await client.get("~/items/things?fields=name")).status == 200
    await execute(client, "DROP TRIGGER broken ON things")
    assert (await client.post("~/items/things", {"name": "x"})).status == 200


@ensureDeferred
async def test_refusals_that_no_change_explains_keep_the_snapshot(client: Client) -> None:
    await things(client)
    project = client.backend.projects.get(client.project)
    known = project.current()
    paths = ["~/items/nope", "~/items/things?fields=nope", "~/items/things?filter[nope]=1", "~/fields/things/nope"]
    answers = await defer.gatherResults([defer.ensureDeferred(client.get(path)) for path in paths * 10])
    assert {answer.status for answer in answers} == {404, 422}
    assert outcomes([await client.post("~/items/things", {"nope": 1})]) == [(422, 12)]
    assert project.current() is known


@ensureDeferred
async def test_a_request_that_has_changed_something_is_not_made_again(client: Client) -> None:
    await things(client)
    project = client.backend.projects.get(client.project)
    for begun, again in ((True, False), (False, True)):
        session = Session(project.database)
        schema = await project.snapshot()
        call = Call(None, parsed(b""), client.app.services, client.app.payloads, str, {}, project=project)
        call.ctx = Context(project.key, schema, Accountability(), moment(0), session, project.keys)
        await session.transaction(lambda session: session.query("SELECT 1"), read_only=not begun)
        await execute(client, f"ALTER TABLE things ADD COLUMN more{begun} int".lower())
        assert await client.app._has_new_schema(call, FieldNotFound()) == again
        assert (call.ctx.schema is schema) != again


@ensureDeferred
async def test_an_index_that_others_make_names_its_field(client: Client) -> None:
    await things(client)
    await execute(client, "CREATE UNIQUE INDEX ON things (lower(name))")
    answer = await client.post("~/items/things", {"name": "N1"}, token=TOKEN)
    assert outcomes([answer]) == [(409, 204)]
    assert '"name" of "things"' in answer.json["error"]["message"]
    assert (await client.get("~/fields/things/name")).data["unique"] is True


DECLARED = [
    field("n", "integer", "INT", 11),
    field("b", "boolean", "TINYINT", 1),
    field("d", "decimal", "DECIMAL", "8,2"),
    field("moment", "datetime", "DATETIME", None),
    field("day", "date", "DATE", None),
    field("hour", "time", "TIME", None),
    field("j", "json", "TEXT", None),
    field("a", "array", "VARCHAR", 60),
    field("h", "hash", "VARCHAR", 255),
    field("status", "status", "VARCHAR", 20, options={"status_mapping": {"draft": {"name": "Draft"}}}),
    field("u", "user_updated", "INT", 11),
    field("made", "datetime_created", "DATETIME", None),
]
BECOMES = {
    "text": "'{not json'",
    "timestamp": "'infinity'",
    "jsonb": """'{"a": [1]}'""",
    "int[]": "'{1,2}'",
    "numeric": "'NaN'",
    "mood": "'happy'",
}
"""The types that the columns get by others, and a value of each."""

FIRST_TO_NOTICE: list[tuple[str, str, Any]] = [
    ("GET", "~/items/things", ...),
    ("GET", "~/items/things/1?fields=*.*", ...),
    ("GET", "~/items/things?filter[n][gt]=1&filter[moment][lt]=now&sort=d,-day&meta=*", ...),
    ("GET", "~/items/things?q=a&groups=b&aggregate[count]=id", ...),
    ("GET", "~/items/things?export=csv&limit=-1", ...),
    ("PATCH", "~/items/things/1", {"n": 3, "b": True, "moment": "2020-01-01 00:00:00", "j": {"x": 1}, "a": ["x"]}),
    ("PATCH", "~/items/things/1", {"name": "changed"}),
    ("POST", "~/items/things", {"n": 3, "d": 1.5, "day": "2020-01-01", "hour": "10:00:00", "h": "secret"}),
    ("PATCH", "~/items/things/1/revert/1", ...),
    ("DELETE", "~/items/things/2", ...),
]


@pytest.mark.parametrize("becomes", BECOMES)
@ensureDeferred
async def test_columns_that_get_another_type_are_no_failure_to_whoever_notices_first(client: Client, becomes: str) -> None:
    await client.collection("things", NAME, *DECLARED)
    assert (await client.post("~/items/things", [{"name": f"n{n}"} for n in range(4)])).status == 200
    await execute(client, "CREATE TYPE mood AS ENUM ('sad', 'happy')")
    for turn, (method, path, body) in enumerate(FIRST_TO_NOTICE):
        assert (await client.get("~/items/things")).status == 200
        # In turn, so that each request finds types that are not the ones the server knows.
        kind, value = (becomes, BECOMES[becomes]) if turn % 2 == 0 else ("varchar(20)", "'x'")
        columns = [each["field"] for each in DECLARED]
        await execute(
            client,
            "ALTER TABLE things " + ", ".join(f"DROP COLUMN {name}" for name in columns),
            # A type of the same name that is another one.
            "ALTER TYPE mood RENAME TO old; CREATE TYPE mood AS ENUM ('happy', 'other'); DROP TYPE old CASCADE",
            "ALTER TABLE things " + ", ".join(f"ADD COLUMN {name} {kind} DEFAULT {value}" for name in columns),
        )
        answer = await client.call(method, path, body)
        assert answer.status in (200, 204, 404, 422), (method, path, kind, answer.body)


@ensureDeferred
async def test_changes_of_the_types_of_columns_are_noticed(client: Client) -> None:
    await execute(
        client,
        "CREATE TYPE mood AS ENUM ('sad', 'happy')",
        "CREATE TYPE pair AS (a integer)",
        "CREATE DOMAIN small AS integer DEFAULT 1",
        "CREATE TABLE typed (id serial PRIMARY KEY, mood mood, pair pair, small small)",
        "INSERT INTO typed (mood, pair) VALUES ('sad', '(1)'), ('happy', '(2)')",
        "SELECT directus_touch('schema')",
    )
    path = "~/items/typed?fields=id"

    async def found(query: str) -> list[int]:
        answer = await client.get(f"{path}&{query}")
        assert answer.status == 200, answer.body
        return [item["id"] for item in answer.data]

    assert await found("filter[mood][eq]=sad") == [1]
    assert await found("sort=-pair") == [2, 1]
    # The first request notices each change, also by its failure.
    await execute(client, "ALTER TYPE mood RENAME TO feeling")
    assert await found("filter[mood][eq]=sad") == [1]
    await execute(client, "ALTER TYPE feeling RENAME VALUE 'sad' TO 'blue'")
    assert await found("filter[mood][eq]=blue") == [1]
    await execute(client, "ALTER TYPE feeling ADD VALUE 'angry' BEFORE 'blue'")
    assert (await client.patch("~/items/typed/2", {"mood": "angry"})).status == 200
    assert await found("sort=mood") == [2, 1]
    await execute(client, "ALTER TYPE pair ADD ATTRIBUTE b point")
    answer = await client.get(f"{path}&sort=pair")
    assert answer.status == 422, answer.body
    project = client.backend.projects.get(client.project)
    await execute(client, "ALTER DOMAIN small SET DEFAULT 2", "ALTER TYPE feeling RENAME VALUE 'happy' TO 'glad'")
    await project.verified(await project.snapshot())
    assert (await client.get("~/fields/typed/small")).data["default_value"] == "2"
    field = (await client.get("~/fields/typed/mood")).data
    assert field["length"] == "'angry','blue','glad'"
