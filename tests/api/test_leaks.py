"""What a caller may not see leaves no trace: in errors, entity tags, questions about lists, and names that the server makes up."""

import hashlib
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
    present = {row["collection"]: row["id"] for row in (await client.get(f"~/permissions?filter[role]={role}&limit=-1")).data}
    for each in permissions:
        if each["collection"] in present:
            answer = await client.patch(f"~/permissions/{present[each['collection']]}", each)
        else:
            answer = await client.post("~/permissions", {"role": role, **each})
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


# --- entity tags


@ensureDeferred
async def test_an_entity_tag_tells_nothing_of_hidden_values(client: Client) -> None:
    """Whether one changes, and what it is: the tag stays the same, and is no hash of anything that can be guessed."""
    status = field("status", "status", length=20, default_value="open", options=STATUSES)
    await client.collection("things", status, field("name"), field("secret"), field("owner", "owner", "INT", 11))
    hidden = ["status", "secret", "owner"]
    await role_of(client, {"collection": "things", "read": "full", "update": "full", "read_field_blacklist": hidden})
    await client.post("~/items/things", {"name": "a", "secret": "x"})

    async def tag() -> str:
        answer = await client.get("~/items/things/1", token="reader")
        assert answer.data == {"id": 1, "name": "a"}
        return answer.headers["etag"]

    first = await tag()
    for change in ({"secret": "y"}, {"status": "shut"}, {"owner": 2}, {"secret": None}):
        assert (await client.patch("~/items/things/1", change)).status == 200
        assert await tag() == first, change
    # Not even the name of a column tells: the rows as text, hashed, are what an attacker would try.
    rows = ["(1,a)", "(1,shut,a,,2)", "(1,shut,a)", "(1,a,shut)", "(shut,1,a)", "(1,a,shut,2)"]
    version = first.rstrip('"').rpartition("-")[2]
    assert version not in {hashlib.new(name, row.encode()).hexdigest()[:24] for row in rows for name in ("md5", "sha1", "sha256")}
    # What is shown is guarded as before.
    kept = await client.patch("~/items/things/1", {"name": "b"}, token="reader", headers={"If-Match": first})
    assert kept.status == 200
    refused = await client.patch("~/items/things/1", {"name": "c"}, token="reader", headers={"If-Match": first})
    assert (refused.status, refused.code) == (412, 20)


@ensureDeferred
async def test_an_entity_tag_tells_nothing_of_fields_that_a_status_hides(client: Client) -> None:
    status = field("status", "status", length=20, default_value="open", options=STATUSES)
    await client.collection("things", status, field("name"), field("secret"))
    await role_of(
        client,
        {"collection": "things", "status": "open", "read": "full"},
        {"collection": "things", "status": "shut", "read": "full", "read_field_blacklist": ["secret"]},
    )
    await client.post("~/items/things", {"name": "a", "secret": "x", "status": "shut"})
    first = await client.get("~/items/things/1", token="reader")
    await client.patch("~/items/things/1", {"secret": "y"})
    again = await client.get("~/items/things/1", token="reader")
    assert (again.body, again.headers["etag"]) == (first.body, first.headers["etag"])
    await client.patch("~/items/things/1", {"status": "open"})
    assert (await client.get("~/items/things/1", token="reader")).headers["etag"] != first.headers["etag"]
    now = (await client.get("~/items/things/1", token="reader")).headers["etag"]
    await client.patch("~/items/things/1", {"secret": "z"})
    assert (await client.get("~/items/things/1?fields=name", token="reader")).headers["etag"] != now


@ensureDeferred
async def test_the_entity_tag_of_a_user_tells_others_nothing_of_what_is_the_users_own(client: Client) -> None:
    await role_of(client, {"collection": "directus_users", "read": "full"})
    first = await client.get("~/users/1", token="reader")
    assert first.status == 200
    for change in ({"last_page": "/here"}, {"email_notifications": False}, {"password": "another"}):
        await client.patch("~/users/1", change)
        again = await client.get("~/users/1", token="reader")
        assert (again.body, again.headers["etag"]) == (first.body, first.headers["etag"]), change


@ensureDeferred
async def test_entity_tags_do_not_count_the_transactions_of_the_server(client: Client) -> None:
    """Who sees all of a row has the number of its transaction in the tag: not to be read, nor to be compared between items."""
    await client.collection("things", field("name"))
    await client.post("~/items/things", [{"name": "a"}, {"name": "a"}])
    ((xmin,),) = await Session(client.backend.projects.get(client.project).database).query(
        "SELECT DISTINCT xmin::text FROM things"
    )
    tags = [(await client.get(f"~/items/things/{key}?fields=name")).headers["etag"] for key in (1, 2)]
    codes = {tag.rstrip('"').rpartition("-")[2] for tag in tags}
    assert len(codes) == 2
    assert not codes & {xmin, *(hashlib.sha256(text.encode()).hexdigest()[:24] for text in (xmin, f"things/1/{xmin}"))}
    # Another project has another key: its tags are its own.
    key = client.backend.projects.get(client.project).tag_key
    assert key != client.backend.projects.get(client.project).keys.current.encode()
    assert len(key) == 32


# --- lists that some items hide


@ensureDeferred
async def test_a_list_that_an_item_hides_is_empty_to_every_question(client: Client) -> None:
    """As a hidden value is null: `has`, `all`, conditions on the list and on what it holds, from above and below."""
    status = field("status", "status", length=20, default_value="open", options=STATUSES)
    await client.collection("shelves", status, field("name"), {"field": "books", "type": "o2m"}, {"field": "tags", "type": "o2m"})
    await client.collection("books", field("title"), field("shelf", "m2o", "INT", 11))
    await client.collection("tags", field("name"))
    await client.collection("shelves_tags", field("shelf", "m2o", "INT", 11), field("tag", "m2o", "INT", 11))
    for many, back, one, junction in (
        ("books", "shelf", "books", None),
        ("shelves_tags", "shelf", "tags", "tag"),
        ("shelves_tags", "tag", None, "shelf"),
    ):
        relation = {"collection_many": many, "field_many": back, "field_one": one, "junction_field": junction}
        relation["collection_one"] = "tags" if back == "tag" else "shelves"
        assert (await client.post("~/relations", relation)).status == 200
    await client.post("~/items/tags", [{"name": "red"}, {"name": "blue"}])
    for title, state in (("seen", "open"), ("unseen", "shut")):
        shelf = {"name": title, "status": state, "books": [{"title": title}], "tags": [{"tag": {"id": 1}}]}
        assert (await client.post("~/items/shelves", shelf)).status == 200
    await client.post("~/items/shelves", [{"name": "bare"}, {"name": "bare and shut", "status": "shut"}])
    await role_of(
        client,
        {"collection": "shelves", "status": "open", "read": "full"},
        {"collection": "shelves", "status": "shut", "read": "full", "read_field_blacklist": ["books", "tags"]},
        *({"collection": name, "read": "full"} for name in ("books", "tags", "shelves_tags")),
    )

    async def found(query: str, collection: str = "shelves") -> list[int]:
        answer = await client.get(f"~/items/{collection}?fields=id&sort=id&{query}", token="reader")
        assert answer.status == 200, answer.body
        return [item["id"] for item in answer.data]

    assert "books" not in (await client.get("~/items/shelves/2?fields=id,books.title", token="reader")).data
    for name in ("books", "tags"):
        assert await found(f"filter[{name}][has]=1") == [1]
        assert await found(f"filter[{name}][has]=0") == [1, 2, 3, 4]
        assert await found(f"filter[{name}][all]=1") == [1]
        assert await found(f"filter[{name}][all]=2") == []
        for operator in ("nnull", "nempty"):
            assert await found(f"filter[{name}][{operator}]") == [1]
        for operator in ("null", "empty"):
            assert await found(f"filter[{name}][{operator}]") == [2, 3, 4]
        for operator, value in (("eq", "1"), ("in", "1,2"), ("gte", "0"), ("neq", "99"), ("nin", "99"), ("nnull", "")):
            assert await found(f"filter[{name}.id][{operator}]={value}") == [1], operator
        assert await found(f"filter[{name}]=2") == []
    assert await found("filter[books.title]=unseen") == []
    assert await found("filter[books.title][ncontains]=x") == [1]
    assert await found("filter[tags.tag.name]=red") == [1]
    assert await found("filter[tags.tag][contains]=red") == [1]
    # From below, through the shelf and back.
    assert await found("filter[shelf.books.title][contains]=seen", "books") == [1]
    assert await found("filter[shelf.books][has]=1", "books") == [1]
    deep = await client.get("~/items/shelves/1?fields=books.id&deep[books][filter][shelf.tags][has]=1", token="reader")
    assert deep.data == {"books": [{"id": 1}]}
    count = await client.get("~/items/shelves?aggregate[count]=*&filter[books][has]=1", token="reader")
    assert count.data == [{"count": {"*": 1}}]
    meta = await client.get("~/items/shelves?meta=*&filter[tags][nempty]", token="reader")
    assert (meta.json["meta"]["filter_count"], meta.json["meta"]["total_count"]) == (1, 4)


# --- what the rights are read from


@ensureDeferred
@pytest.mark.parametrize(
    "datatype", [("VARCHAR", 20), ("INT", 11), ("DECIMAL", "10,2"), ("DATE", None), ("TEXT", None), ("DOUBLE", None)]
)
async def test_an_owner_may_be_a_column_of_any_kind(client: Client, datatype: tuple[str, Any]) -> None:
    """Rights that ask whose an item is are conditions like others: they must not fail because of the column's type."""
    name, length = datatype
    await client.collection("things", field("name"), field("owner", "owner", name, length))
    role = await role_of(client, {"collection": "things", "read": "mine", "update": "role", "delete": "mine"})
    other = {"email": "o@example.com", "password": "password", "role": role, "status": "active", "token": "other"}
    assert (await client.post("~/users", other)).status == 200
    owners = ["2020-01-01", "2020-01-02"] if name == "DATE" else [2, 3]
    await Session(client.backend.projects.get(client.project).database).query(
        "INSERT INTO things (name, owner) VALUES ('own', %s), ('other', %s), ('none', NULL)", owners
    )
    found = await client.get("~/items/things?fields=name", token="reader")
    assert (found.status, found.data) == (200, [] if name == "DATE" else [{"name": "own"}])
    changed = await client.patch("~/items/things/1", {"name": "mine"}, token="reader")
    assert changed.status == (404 if name == "DATE" else 200)
    assert (await client.delete("~/items/things/2", token="reader")).status in (403, 404)


@ensureDeferred
async def test_revisions_that_hold_no_json_tell_nothing(client: Client) -> None:
    """The history of items that hide fields is taken apart as JSON, be it of rows that the caller may not see."""
    await client.collection("things", field("name"), field("secret"), field("owner", "owner", "INT", 11))
    await role_of(client, {"collection": "things", "create": "full", "read": "mine", "read_field_blacklist": ["secret"]})
    await client.post("~/items/things", {"name": "a", "secret": "b"})
    await client.post("~/items/things", {"name": "mine", "secret": "b"}, token="reader")
    session = Session(client.backend.projects.get(client.project).database)
    questions = [
        "~/revisions?fields=data",
        "~/revisions?filter[data][contains]=x&sort=data,-delta",
        "~/revisions?filter[delta][empty]&groups=data",
        "~/revisions?q=secret",
        "~/revisions?aggregate[countDistinct]=data&aggregate[max]=delta&groupby=data",
    ]
    expected = None
    for text in (
        '{"name": "a"}',
        "{",
        "",
        "[1,",
        '{"a": "\\u0000"}',
        '{"\\u0000": 1}',
        '{"a": "\\ud800"}',
        "nonsense",
        "null",
        "[]",
    ):
        await session.query("UPDATE directus_revisions SET data = %s, delta = %s WHERE item = '1'", (text, text))
        answers = [await client.get(f"{question}&filter[collection]=things", token="reader") for question in questions]
        assert {answer.status for answer in answers} == {200}, text
        assert "secret" not in answers[0].body.decode()
        assert answers[0].data[0]["data"]["name"] == "mine"
        bodies = [answer.body for answer in answers]
        expected = expected or bodies
        assert bodies == expected, text
    # What the caller may see is shown as well as it can be: not at all.
    await session.query("UPDATE directus_revisions SET data = '{', delta = '[1,' WHERE item = '2'")
    shown = await client.get("~/revisions?fields=data,delta&filter[collection]=things", token="reader")
    assert shown.data == [{"data": None, "delta": None}]


@ensureDeferred
async def test_a_column_that_cannot_be_computed_of_hidden_rows_tells_nothing_of_them(client: Client) -> None:
    status = field("status", "status", length=20, default_value="shut", options=STATUSES)
    number = field("number", "integer", "INT", 11, signed=True)
    await client.collection("things", status, field("name"), number, field("owner", "owner", "INT", 11))
    # A condition that costs PostgreSQL more than the caller's comes after it.
    levels = (("open", "full"), ("shut", "mine"))
    await role_of(client, *({"collection": "things", "status": status, "read": level} for status, level in levels))
    session = Session(client.backend.projects.get(client.project).database)
    ((version,),) = await session.query("SHOW server_version_num")
    if int(version) < 180000:
        pytest.skip("PostgreSQL computes no columns when they are read")
    await session.query("ALTER TABLE things ADD COLUMN inverse integer GENERATED ALWAYS AS (100 / number) VIRTUAL")
    await session.query("INSERT INTO things (name, number, owner) VALUES ('mine', 50, 2), ('secret', 1, 1)")
    await session.query("SELECT directus_touch('schema')")
    questions = [
        "filter[inverse][gte]=0",
        "filter[inverse][nempty]",
        "sort=-inverse",
        "groups=inverse",
        "q=2",
        "aggregate[sum]=inverse",
    ]
    expected = None
    for divisor in (1, 0):
        await session.query("UPDATE things SET number = %s WHERE name = 'secret'", (divisor,))
        answers = [await client.get(f"~/items/things?meta=*&{each}", token="reader") for each in questions]
        assert [answer.status for answer in answers] == [200] * len(questions)
        expected = expected or [answer.body for answer in answers]
        assert [answer.body for answer in answers] == expected
        for method, body in (("PATCH", {"name": "x"}), ("DELETE", ...), ("GET", ...)):
            refused = await client.call(method, "~/items/things/2", body, token="reader")
            assert refused.status in (403, 404), refused.body
    assert (await client.get("~/items/things", token="reader")).data == [
        {"id": 1, "status": "shut", "name": "mine", "number": 50, "owner": 2, "inverse": 2}
    ]


@ensureDeferred
async def test_reverting_tells_nothing_of_hidden_fields_and_leaves_them_alone(client: Client) -> None:
    await client.collection("things", field("name"), field("secret"), field("state", "status", options=STATUSES))
    blind = {"read_field_blacklist": ["secret"], "write_field_blacklist": ["secret"]}
    rights = {"collection": "things", "create": "full", "read": "full", "update": "full"}
    await role_of(
        client, {**rights, **blind, "status": "open"}, {**rights, "write_field_blacklist": ["secret"], "status": "shut"}
    )
    for now, then in (("open", "open"), ("shut", "open"), ("open", "shut")):
        answers = []
        for secret in ("old", "new"):
            item = (await client.post("~/items/things", {"name": "a", "secret": "old", "state": then})).data["id"]
            await client.patch(f"~/items/things/{item}", {"name": "b", "secret": secret, "state": now})
            first = (await client.get(f"~/items/things/{item}/revisions?fields=id")).data[0]["id"]
            answer = await client.patch(f"~/items/things/{item}/revert/{first}?fields=name,state", {}, token="reader")
            answers.append((answer.status, answer.json))
            stored = (await client.get(f"~/items/things/{item}?fields=name,secret,state")).data
            assert stored == {"name": "a", "secret": secret, "state": then}
            # Who sees the field reverts it.
            assert (await client.patch(f"~/items/things/{item}/revert/{first}", {})).data["secret"] == "old"
        assert answers == [(200, {"data": {"name": "a", "state": then}})] * 2


@ensureDeferred
async def test_a_field_that_is_shown_and_may_not_be_written_is_not_reverted(client: Client) -> None:
    await client.collection("things", field("name"), field("fixed"))
    rights = {"collection": "things", "read": "full", "update": "full", "write_field_blacklist": ["fixed"]}
    await role_of(client, rights)
    await client.post("~/items/things", {"name": "a", "fixed": "old"})
    await client.patch("~/items/things/1", {"name": "b", "fixed": "new"})
    first = (await client.get("~/items/things/1/revisions?fields=id")).data[0]["id"]
    answer = await client.patch(f"~/items/things/1/revert/{first}", {}, token="reader")
    assert (answer.status, answer.code) == (403, 305)
    assert (await client.get("~/items/things/1?fields=name,fixed")).data == {"name": "b", "fixed": "new"}


@ensureDeferred
@pytest.mark.parametrize("key", [1, 1.0, "1", "01", " 1", "1\t", "1" + " " * 400])
async def test_a_comment_is_on_the_item_whatever_its_key_looks_like(client: Client, key: Any) -> None:
    await client.collection("things", field("name"))
    await role_of(
        client, {"collection": "things", "read": "full", "comment": "full"}, {"collection": "directus_activity", "read": "full"}
    )
    await client.post("~/items/things", {"name": "a"})
    answer = await client.post("~/activity/comment", {"collection": "things", "item": key, "comment": "hi"})
    assert (answer.status, answer.data["item"]) == (200, "1")
    found = await client.get(
        "~/activity?filter[collection]=things&filter[item]=1&filter[action]=comment&fields=comment", token="reader"
    )
    assert found.data == [{"comment": "hi"}]
