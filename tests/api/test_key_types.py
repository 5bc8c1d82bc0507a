"""Keys of types that tables of other programs have: they are found by comments and by explaining a permission."""

from urllib.parse import quote

import pytest
from pytest_twisted import ensureDeferred

from directus_tx.db.session import Session
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
