"""What a write answers with: the items as a GET shows them afterwards, whether they were read again or not."""

from typing import Any
from urllib.parse import quote

import pytest
from pytest_twisted import ensureDeferred

from directus_tx.db.connection import Connection
from directus_tx.db.session import Session
from directus_tx.db.sql import Identifier
from tests.conftest import Client, field

STATUS = field(
    "status",
    "status",
    length=20,
    default_value="published",
    options={"status_mapping": {"published": {"name": "Published"}, "gone": {"name": "Gone", "soft_delete": True}}},
)
FIELDS = (
    field("name"),
    field("price", "decimal", "DECIMAL", "12,4"),
    field("text", "string", "DECIMAL", "12,4"),
    field("size", "decimal", "DOUBLE", None),
    field("document", "json", "DECIMAL", "12,4"),
    field("list", "array", "TEXT", None),
    field("tree", "json", "TEXT", None),
    field("flag", "boolean", "TINYINT", 1),
    field("big", "integer", "BIGINT", 20),
    field("day", "date", "DATE", None),
    field("at", "datetime", "DATETIME", None),
    field("made_on", "datetime_created", "DATETIME", None),
    field("made_by", "owner", "INT", 11),
    field("slug", "slug", options={"mirroredField": "name"}),
    field("secret", "hash"),
)
VALUES: list[dict[str, Any]] = [
    {},
    {"name": "a", "price": 1.5, "text": "2.50", "size": 0.1, "list": ["x", "y"], "tree": {"a": [1.0, None]}},
    {"flag": True, "big": 2**62, "day": "2024-02-29", "at": "2024-02-29 10:00:00", "secret": "word", "name": "Ä b"},
    {"price": "0.0001", "text": None, "size": 1e300, "list": [], "tree": [], "flag": False, "big": None},
]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The SELECTs of items of the collection things."""
    texts: list[str] = []
    text_of = Connection._text

    def noted(self: Connection, *arguments: Any) -> str:
        text = text_of(self, *arguments)
        if 'FROM "things" AS "t0"' in text:
            texts.append(text)
        return text

    monkeypatch.setattr(Connection, "_text", noted)
    return texts


async def execute(client: Client, sql: str) -> None:
    await Session(client.backend.projects.get(client.project).database).transaction(lambda session: session.query(sql))


async def written(client: Client, reads: list[str], method: str, path: str, body: Any, query: str = "") -> tuple[Any, bool]:
    """Writes items, asserts that the answer is that of a GET of the same items, and returns it and whether they were read again."""
    reads.clear()
    answer = await client.call(method, f"~/items/{path}{query}", body)
    assert answer.status == 200, answer.body
    again = bool(reads)
    keys = ",".join(str(item["id"]) for item in (answer.data if isinstance(answer.data, list) else [answer.data]))
    assert (await client.get(f"~/items/things/{keys}{query}")).data == answer.data
    return answer.data, again


@ensureDeferred
async def test_items_are_shown_as_they_are_read_without_reading_them(client: Client, reads: list[str]) -> None:
    await client.collection("things", *FIELDS)
    for values in VALUES:
        for query in ("", "?fields=id,price,document", "?fields=*.*&meta=*", "?fields=name,id,name"):
            item, again = await written(client, reads, "POST", "things", values, query)
            # The owner is a related item, and JSON may show the text of a number differently from the number.
            assert again == (query == "" or "document" in query or "*.*" in query)
            path = f"things/{item['id']}"
            await written(client, reads, "PATCH", path, {"name": f"changed {query}"}, query)
            await written(client, reads, "PATCH", path, values, query)
    items, again = await written(client, reads, "POST", "things", VALUES, "?fields=id,name,price,size,text,flag,at")
    assert not again
    changes = [{"id": item["id"], **values} for item, values in zip(items, reversed(VALUES), strict=True)]
    _, again = await written(client, reads, "PATCH", "things", changes, "?fields=id,name,price")
    repeated = [{"id": items[0]["id"], "name": name} for name in ("first", "second")]
    answer = await client.patch("~/items/things?fields=name", [*repeated, {"id": items[1]["id"], "name": "x"}])
    assert [item["name"] for item in answer.data] == ["second", "second", "x"]


@pytest.mark.parametrize("notified", [True, False])
@pytest.mark.parametrize(
    "made",
    [
        "CREATE TRIGGER later AFTER INSERT OR UPDATE ON things FOR EACH ROW WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION late()",
        "CREATE TRIGGER later AFTER INSERT OR UPDATE ON things FOR EACH STATEMENT WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION late()",
        "CREATE RULE later AS ON INSERT TO things DO ALSO UPDATE things SET name = 'later';"
        " CREATE TRIGGER later AFTER UPDATE ON things FOR EACH ROW WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION late()",
        "CREATE TABLE below () INHERITS (things);"
        " CREATE TRIGGER later AFTER INSERT OR UPDATE ON things FOR EACH ROW WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION late()",
    ],
    ids=["a row trigger", "a statement trigger", "a rule", "a child"],
)
@ensureDeferred
async def test_what_the_database_changes_after_the_write_is_shown(
    client: Client, reads: list[str], made: str, notified: bool
) -> None:
    await client.collection("things", field("name"))
    project = client.backend.projects.get(client.project)
    if not notified:
        seen = await project.snapshot()
        await execute(client, "ALTER EVENT TRIGGER directus_tables_changed DISABLE")
        assert not (await project.verified(seen)).notified
    function = (
        "CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN UPDATE things SET name = 'later'; RETURN NULL; END $$"
    )
    _, again = await written(client, reads, "POST", "things", {"name": "x"})
    assert not again
    await execute(client, f"{function}; {made}")
    item, again = await written(client, reads, "POST", "things", {"name": "x"})
    assert (item["name"], again) == ("later", True)
    item, again = await written(client, reads, "PATCH", f"things/{item['id']}", {"name": "y"})
    assert (item["name"], again) == ("later", True)


@ensureDeferred
async def test_tables_of_any_name_are_written_where_changes_are_not_notified(client: Client) -> None:
    names = ["it's", 'a "b"', "50% %s {} {0}", "back\\slash'"]
    for name in names:
        await execute(client, Identifier(name).as_string(None).join(("CREATE TABLE ", " (id serial PRIMARY KEY, name text)")))
    await execute(client, "ALTER EVENT TRIGGER directus_tables_changed DISABLE")
    project = client.backend.projects.get(client.project)
    assert not (await project.verified(await project.snapshot())).notified
    for name in names:
        path = quote(name, safe="")
        assert (await client.post(f"~/items/{path}", {"name": "x"})).data == {"id": 1, "name": "x"}, name
        assert (await client.patch(f"~/items/{path}/1", {"name": "y"})).data == {"id": 1, "name": "y"}, name


@ensureDeferred
async def test_a_trigger_that_runs_before_the_write_needs_no_guess(client: Client, reads: list[str]) -> None:
    await client.collection("things", field("name"))
    await execute(
        client,
        "CREATE FUNCTION early() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.name = upper(NEW.name); RETURN NEW; END $$;"
        " CREATE TRIGGER early BEFORE INSERT OR UPDATE ON things FOR EACH ROW EXECUTE FUNCTION early()",
    )
    item, _ = await written(client, reads, "POST", "things", {"name": "x"})
    assert item["name"] == "X"
    item, _ = await written(client, reads, "PATCH", f"things/{item['id']}", {"name": "y"})
    assert item["name"] == "Y"


@ensureDeferred
async def test_items_that_are_deleted_softly_are_not_shown(client: Client, reads: list[str]) -> None:
    await client.collection("things", field("name"), STATUS)
    items, again = await written(client, reads, "POST", "things", [{"name": "a"}, {"name": "b"}])
    assert not again
    assert (await client.post("~/items/things", {"name": "x", "status": "gone"})).status == 204
    bodies = [{"id": items[0]["id"], "status": "gone"}, {"id": items[1]["id"], "name": "c"}]
    assert (await client.patch("~/items/things?fields=id,name", bodies)).data == [{"id": items[1]["id"], "name": "c"}]


@ensureDeferred
async def test_a_role_is_shown_what_it_may_read(client: Client, reads: list[str]) -> None:
    await client.collection("things", field("name"), field("hidden"), field("owner", "owner", "INT", 11))
    role = (await client.post("~/roles", {"name": "writers"})).data["id"]
    user = {"email": "w@example.com", "role": role, "status": "active", "token": "writer-token", "password": "password"}
    assert (await client.post("~/users", user)).status == 200
    everything = {"collection": "things", "role": role, "create": "full", "read": "full", "update": "full"}
    permission = (await client.post("~/permissions", everything)).data["id"]
    body = {"name": "x", "hidden": "y"}
    for change, shown in (
        ({}, {"name": "x", "hidden": "y"}),
        ({"read_field_blacklist": ["hidden"]}, {"name": "x"}),
        ({"read": "mine"}, {"name": "x"}),
        ({"read": "none"}, None),
    ):
        assert (await client.patch(f"~/permissions/{permission}", change)).status == 200
        answer = await client.post(
            "~/items/things?fields=name,owner" + ",hidden" * ("hidden" in (shown or {})), body, token="writer-token"
        )
        assert answer.status == (204 if shown is None else 200)
        assert shown is None or {name: value for name, value in answer.data.items() if name != "owner"} == shown
