"""Reverting an item is a change like any other: it takes the same rights, and writes nothing that a change would not."""

from typing import Any

from pytest_twisted import ensureDeferred

from tests.conftest import Client, Reply, field

STATUS = field(
    "status",
    "status",
    default_value="open",
    options={
        "status_mapping": {
            name: {"name": name, "soft_delete": name == "gone", "required_fields": False} for name in ("open", "done", "gone")
        }
    },
)


async def things(client: Client, *fields: dict[str, Any], rows: list[dict[str, Any]] | None = None, **levels: Any) -> None:
    """A collection of things, and a user with the token "writer", whose role has these levels on it: for each status those of
    *rows*, or the same for all."""
    await client.collection("things", STATUS, field("title"), field("secret"), *fields)
    role = (await client.post("~/roles", {"name": "Writers"})).data["id"]
    user = {"email": "w@example.com", "password": "password", "role": role, "status": "active", "token": "writer"}
    await client.post("~/users", user)
    for row in rows or [levels]:
        answer = await client.post("~/permissions", {"collection": "things", "role": role, **row})
        assert answer.status == 200, answer.body


async def revisions(client: Client, key: int) -> list[int]:
    return [row["id"] for row in (await client.get(f"~/items/things/{key}/revisions?fields=id")).data]


async def revert(client: Client, key: int, revision: int, token: str = "writer", query: str = "") -> Reply:
    return await client.call("PATCH", f"~/items/things/{key}/revert/{revision}?{query}", token=token)


@ensureDeferred
async def test_a_field_that_may_not_be_written_is_not_reverted(client: Client) -> None:
    await things(client, read="full", update="full", write_field_blacklist=["secret"])
    await client.post("~/items/things", {"title": "a", "secret": "x"})
    await client.patch("~/items/things/1", {"title": "b"})
    await client.patch("~/items/things/1", {"secret": "y"})
    first, second, third = await revisions(client, 1)
    for revision in (first, second):
        answer = await revert(client, 1, revision)
        assert (answer.status, answer.code) == (403, 305)
    assert (await revert(client, 1, third)).status == 200
    await client.patch("~/items/things/1", {"title": "c"})
    assert (await revert(client, 1, third)).data["title"] == "b"
    assert (await client.get("~/items/things/1?fields=title,secret")).data == {"title": "b", "secret": "y"}


@ensureDeferred
async def test_a_revert_to_another_status_takes_the_rights_of_a_move(client: Client) -> None:
    whole = {"create": "full", "read": "full"}
    rows = [
        {"status": "open", **whole, "update": "full", "delete": "none", "status_blacklist": ["done"]},
        {"status": "done", **whole, "update": "full", "delete": "full", "write_field_blacklist": ["secret"]},
        {"status": "gone", **whole, "update": "full", "delete": "full"},
    ]
    await things(client, rows=rows)
    for key, status in ((1, "open"), (2, "done"), (3, "gone")):
        await client.post("~/items/things", {"status": status})
        if status != "gone":
            await client.patch(f"~/items/things/{key}", {"status": "done" if status == "open" else "open"})
    assert (await revert(client, 2, (await revisions(client, 2))[0])).code == 302  # from open to done, which is blacklisted
    assert (await revert(client, 1, (await revisions(client, 1))[0])).status == 200  # from done to open
    await client.patch("~/items/things/1", {"status": "gone"})
    assert (await revert(client, 1, (await revisions(client, 1))[0])).status == 200  # from soft deletion
    assert (await revert(client, 1, (await revisions(client, 1))[3])).code == 303  # to soft deletion, without the right to delete
    assert (await client.get("~/items/things/1?fields=status")).data == {"status": "open"}


@ensureDeferred
async def test_what_the_server_writes_stays_its_own(client: Client) -> None:
    more = [
        field("password", "hash"),
        field("changed_by", "user_updated", "INT", 11),
        field("changed_on", "datetime_updated", "DATETIME", None),
        field("owner", "owner", "INT", 11),
    ]
    await things(client, *more, read="full", update="full")
    await client.post("~/items/things", {"title": "a", "password": "first"})
    await client.patch("~/items/things/1", {"title": "b", "password": "second"})
    before = (await client.get("~/items/things/1?fields=*")).data
    (first, _) = await revisions(client, 1)
    data = (await client.get(f"~/revisions/{first}?fields=data,delta")).data
    assert "password" not in data["data"] | data["delta"]
    assert (await revert(client, 1, first)).status == 200
    after = (await client.get("~/items/things/1?fields=*")).data
    assert (after["title"], after["owner"]) == ("a", before["owner"])
    assert after["password"] == before["password"]
    assert after["changed_by"] != before["changed_by"]


@ensureDeferred
async def test_a_revision_that_lacks_what_is_required_now_is_refused(client: Client) -> None:
    await things(client, read="full", update="full")
    await client.post("~/items/things", {"secret": "x"})
    await client.patch("~/items/things/1", {"title": "a", "status": "done"})
    answer = await client.patch("~/fields/things/title", {"required": True})
    assert answer.status == 200, answer.body
    options = {"status_mapping": {"open": {"name": "open"}, "done": {"name": "done"}}}
    await client.patch("~/fields/things/status", {"options": options})
    answer = await revert(client, 1, (await revisions(client, 1))[0])
    assert (answer.status, answer.code) == (422, 4)
    assert (await client.get("~/items/things/1?fields=title")).data == {"title": "a"}
