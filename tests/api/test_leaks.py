"""What a caller may not see leaves no trace: in errors, entity tags, questions about lists, and names that the server makes up."""

from typing import Any
from urllib.parse import quote

import pytest
from pytest_twisted import ensureDeferred

from directus_tx.compile.operators import MAX_WILDCARDS
from directus_tx.db.session import Session
from tests.conftest import KEY, Client, field

STATUSES = {"status_mapping": {"open": {"name": "Open"}, "shut": {"name": "Shut"}}}


async def role_of(client: Client, *permissions: dict[str, Any]) -> int:
    """A role with these permissions, and a user of it whose token is "reader". Gives the role."""
    role = (await client.post("~/roles", {"name": "Readers"})).data["id"]
    user = {"email": "r@example.com", "password": "password", "role": role, "status": "active", "token": "reader"}
    assert (await client.post("~/users", user)).status == 200
    answer = await client.post("~/permissions", [{"role": role, **each} for each in permissions])
    assert answer.status == 200, answer.body
    return int(role)


@ensureDeferred
async def test_a_pattern_that_ends_in_a_backslash_tells_nothing_of_hidden_rows(client: Client) -> None:
    await client.collection("things", field("name"), field("owner", "owner", "INT", 11))
    await role_of(client, {"collection": "things", "read": "mine"})
    await client.post("~/items/things", [{"name": "secret"}, {"name": "back\\slash"}, {"name": "end\\"}])
    for pattern in ("s\\", "secre\\", "secret\\", "x\\", "%\\", "%t\\", "\\", "\\\\\\"):
        answer = await client.get(f"~/items/things?filter[name][rlike]={quote(pattern)}", token="reader")
        assert (answer.status, answer.data) == (200, []), pattern
        assert (await client.get(f"~/items/things?filter[name][nrlike]={quote(pattern)}")).status == 200, pattern
        revisions = await client.get(f"~/revisions?filter[data][rlike]={quote('%' + pattern)}", token="reader")
        assert (revisions.status, revisions.data) == (200, []), pattern


@ensureDeferred
@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("end\\", [2]),
        ("end\\\\", [2]),
        ("%\\", [2]),
        ("back\\\\%", [1]),
        ("back\\slash", []),
        ("100\\%", [3]),
        ("100\\%\\", []),
        ("%%%", [1, 2, 3]),
        ("%" * MAX_WILDCARDS, [1, 2, 3]),
    ],
)
async def test_a_backslash_at_the_end_of_a_pattern_means_itself(client: Client, pattern: str, found: list[int]) -> None:
    await client.collection("things", field("name"))
    await client.post("~/items/things", [{"name": "back\\slash"}, {"name": "end\\"}, {"name": "100%"}])
    answer = await client.get(f"~/items/things?fields=id&filter[name][rlike]={quote(pattern)}")
    assert [item["id"] for item in answer.data] == found


@ensureDeferred
async def test_a_pattern_with_too_many_wildcards_is_refused(client: Client) -> None:
    await client.collection("things", field("name"))
    answer = await client.get(f"~/items/things?filter[name][rlike]={quote('%a' * (MAX_WILDCARDS + 1))}")
    assert (answer.status, answer.code) == (422, 4)
    assert str(MAX_WILDCARDS) in answer.json["error"]["message"]
    assert (await client.get(f"~/items/things?filter[name][contains]={quote('%a' * 1000)}")).data == []


# --- names


@ensureDeferred
async def test_names_that_mean_something_to_postgresql_are_refused(client: Client) -> None:
    await client.collection("things", field("name"))
    for name in ("tableoid", "xmin", "cmin", "xmax", "cmax", "ctid", "$delete"):
        answer = await client.post("~/fields/things", field(name))
        assert (answer.status, answer.code) == (422, 4), name
        assert name in answer.json["error"]["message"]
        created = await client.post("~/collections", {"collection": "others", "fields": [KEY, field(name)]})
        assert (created.status, created.code) == (422, 4), name
    # PostgreSQL would read its own table of that name.
    for name in ("pg_authid", "pg_mine"):
        answer = await client.post("~/collections", {"collection": name, "fields": [{**KEY, "field": "oid"}, field("rolname")]})
        assert (answer.status, answer.code) == (422, 4), name
        assert (await client.get(f"~/items/{name}")).status == 404


@ensureDeferred
async def test_a_table_that_postgresql_takes_for_one_of_its_own_is_no_collection(client: Client) -> None:
    async def work(session: Any) -> None:
        await session.query('CREATE TABLE "pg_authid" (oid bigint PRIMARY KEY, rolname text)')
        await session.query("SELECT directus_touch('schema')")

    project = client.backend.projects.get(client.project)
    await Session(project.database).transaction(work)
    assert (await client.get("~/items/pg_authid")).status == 404
    assert "pg_authid" not in {each["collection"] for each in (await client.get("~/collections")).data}


@ensureDeferred
async def test_a_field_may_have_any_name_that_the_views_of_limited_callers_use(client: Client) -> None:
    names = ["$shown0", "$shown1", "$shown2", "key", "place", "t", "t0", "v0", "ranked"]
    status = field("status", "status", length=20, default_value="open", options=STATUSES)
    await client.collection("things", status, field("secret"), *(field(name) for name in names))
    item = {name: f"{name} is mine" for name in names}
    await client.post("~/items/things", [{**item, "secret": "a"}, {**item, "secret": "b", "status": "shut"}])
    await role_of(
        client,
        {"collection": "things", "status": "open", "read": "full"},
        {"collection": "things", "status": "shut", "read": "full", "read_field_blacklist": ["secret", "key"]},
    )
    first, second = (await client.get("~/items/things", token="reader")).data
    assert (first["secret"], first["$shown0"], "secret" in second, "key" in second) == ("a", "$shown0 is mine", False, False)
    assert all(second[name] == item[name] for name in names if name != "key")
    for name in names:
        found = await client.get(f"~/items/things?fields=id&filter[{quote(name)}][nnull]=1&sort={quote(name)}", token="reader")
        assert [each["id"] for each in found.data] == ([1] if name == "key" else [1, 2]), name
