"""Keys of types that tables of other programs have: items are read, written, deleted, commented and explained by them."""

from urllib.parse import quote

import pytest
from pytest_twisted import ensureDeferred

from directus_tx.db.session import Session
from tests.api.test_existing_names import query
from tests.conftest import Client


@pytest.mark.parametrize(
    ("type", "key"),
    [("inet", "10.0.0.1"), ("interval", "01:00:00"), ("numeric", "1.5"), ("uuid", "0" * 8 + "-0000" * 3 + "-" + "0" * 12)],
)
@ensureDeferred
async def test_comments_and_explanations_find_keys_of_any_type(client: Client, type: str, key: str) -> None:
    session = Session(client.backend.projects.get(client.project).database)
    await session.transaction(lambda each: each.query(f"CREATE TABLE odd (k {type} PRIMARY KEY, name text)"))
    await session.transaction(lambda each: each.query("INSERT INTO odd VALUES (%s, 'x')", (key,)))
    await session.transaction(lambda each: each.query("SELECT directus_touch('schema')"))
    comment = await client.post("~/activity/comment", {"collection": "odd", "item": key, "comment": "found"})
    assert (comment.status, comment.json.get("data", {}).get("comment")) == (200, "found"), comment.body
    explained = await client.get(f"~/permissions/explain?collection=odd&action=read&item={quote(key)}&user=1")
    assert (explained.status, explained.data["allowed"]) == (200, True)


FORMS = [
    # A key, and the forms in which PostgreSQL takes it for the same.
    ("char(5)", "ab", ["ab", "ab   "]),
    ("varchar(5)", "ab", ["ab"]),
    ("text", "a b", ["a b"]),
    ("integer", "5", ["5", "05"]),
    ("numeric(5,2)", "1.50", ["1.5", "1.50"]),
    ("double precision", "0.5", ["0.5", "5e-1"]),
    ("boolean", "true", ["true", "1"]),
    ("uuid", "11111111-1111-1111-1111-11111111111a", ["11111111-1111-1111-1111-11111111111A"]),
    ("date", "2020-01-02", ["2020-01-02"]),
    ("time", "10:00:00", ["10:00:00"]),
    ("timestamp", "2020-01-02 10:00:00.5", ["2020-01-02 10:00:00.500", "2020-01-02T10:00:00.500000"]),
    ("timestamptz", "2020-01-02 10:00:00+00", ["2020-01-02 10:00:00", "2020-01-02T11:00:00+01:00"]),
]


@pytest.mark.parametrize(("kind", "key", "forms"), FORMS)
@ensureDeferred
async def test_items_with_keys_of_each_type(client: Client, kind: str, key: str, forms: list[str]) -> None:
    await query(client, f"CREATE TABLE things (id {kind} PRIMARY KEY, note text)")
    for number, form in enumerate(forms):
        await query(client, f"INSERT INTO things VALUES ('{key}', 'new')")
        path = f"~/items/things/{quote(form)}"
        assert (await client.get(path)).data["note"] == "new", form
        for note, address, payload in (
            ("one", path, {"note": "one"}),
            ("several", "~/items/things", [{"id": form, "note": "several"}]),
        ):
            answer = await client.patch(address, payload)
            assert answer.status == 200, (form, answer.body)
            assert (await client.get(path)).data["note"] == note
        assert (await client.delete(path)).status == 204
        assert (await client.get("~/items/things")).data == []
        shown = await client.get("~/activity?filter[collection]=things&fields=action,item&sort=id")
        assert [each["action"] for each in shown.data] == ["update", "update", "delete"] * (number + 1)
        assert (await client.get(path)).status == (await client.patch(path, {"note": "x"})).status == 404
