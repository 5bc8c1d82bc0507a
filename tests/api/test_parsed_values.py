"""Permissions and rules are asked about values as they are stored, in whichever form they are sent."""

import itertools
import json
from typing import Any

import pytest
from pytest_twisted import ensureDeferred

from directus_tx.db.session import Session
from directus_tx.schema.parsing import parse
from directus_tx.schema.showing import stored_text
from tests.conftest import Client, Reply, field

SOFT = {"name": "gone", "soft_delete": True}


async def query(client: Client, sql: str, values: Any = ()) -> Any:
    session = Session(client.backend.projects.get(client.project).database)
    return await session.transaction(lambda session: session.query(sql, values))


async def writer(client: Client, **levels: Any) -> int:
    """A user with the token "writer", whose role has these levels on `things`. Gives the role."""
    role = (await client.post("~/roles", {"name": "Writers"})).data["id"]
    user = {"email": "w@example.com", "password": "password", "role": role, "status": "active", "token": "writer"}
    assert (await client.post("~/users", user)).status == 200
    await client.post("~/permissions", {"collection": "things", "role": role, **levels})
    return int(role)


NUMBERS = [3, "3", "03", " 3", "3 ", "+3", 3.0, "3.0", "3.00", "3e0", True, 2, "02", 2.0, "²", "three", "", None]
STATUSES = {
    "INT": ("1", "2", "3", NUMBERS),
    "TINYINT": ("1", "2", "3", NUMBERS),
    "BIGINT": ("1", "2", "3", NUMBERS),
    "VARCHAR": ("1", "2", "3", [*NUMBERS, "3\t"]),
    "DECIMAL": ("1.0", "2.0", "3.0", NUMBERS),
    "BOOLEAN": ("true", "x", "false", [False, 0, "0", "false", "FALSE", " false ", "", None, True, 1, "1"]),
}
"""By datatype: a status, one that may not be given, one that means deleted; and what is sent."""


@pytest.mark.parametrize("datatype", STATUSES)
@ensureDeferred
async def test_a_status_is_judged_as_it_is_stored(client: Client, datatype: str) -> None:
    usual, forbidden, deleted, forms = STATUSES[datatype]
    options = {"status_mapping": {usual: {"name": "a"}, forbidden: {"name": "b"}, deleted: SOFT}}
    length = {"VARCHAR": 20, "DECIMAL": "4,1", "BOOLEAN": None}.get(datatype, 11)
    status = field("status", "status", datatype, length, signed=True, default_value=usual, options=options)
    await client.collection("things", status, field("title"))
    blacklist = [forbidden] if forbidden != "x" else []
    await writer(client, create="full", read="full", update="full", delete="none", status_blacklist=blacklist)
    snapshot = await client.backend.projects.get(client.project).snapshot()
    column = snapshot.collections["things"].fields["status"]
    for form in forms:
        key = (await client.post("~/items/things", {"title": "a"})).data["id"]
        answer = await client.post("~/items/things", {"status": form})
        stored = None
        if answer.status in (200, 204):
            ((last, stored),) = await query(client, "SELECT id, status::text FROM things ORDER BY id DESC LIMIT 1")
            assert stored == stored_text(column, parse(column, form)), form
            assert (await client.post("~/items/things", {"status": form}, token="writer")).status == (
                403 if stored in blacklist else answer.status
            )
            assert last > key
        answers = [
            await client.patch(f"~/items/things/{key}", {"status": form}, token="writer"),
            await client.patch("~/items/things", [{"id": key, "status": form}], token="writer"),
        ]
        expected = answer.status if stored not in (deleted, *blacklist) else 403
        assert [each.status for each in answers] == [expected] * 2, (form, stored)
        if stored == deleted:
            assert {each.code for each in answers} == {303}, form


@ensureDeferred
async def test_a_status_of_a_table_that_was_there_before(client: Client) -> None:
    """Blanks fill up a column of type character, and do not count."""
    await query(client, "CREATE TABLE things (id serial PRIMARY KEY, status character(8), title text)")
    await query(client, "SELECT directus_touch('schema')")
    await client.post("~/collections", {"collection": "things", "fields": []})
    options = {"status_mapping": {"open": {"name": "a"}, "gone": SOFT}}
    declared = "INSERT INTO directus_fields (collection, field, type, interface, options)"
    declared += " VALUES ('things', 'status', 'status', 'status', %s)"
    await query(client, declared, (json.dumps(options),))
    await query(client, "INSERT INTO things (status, title) VALUES ('open', 'a'), ('gone', 'b')")
    role = await writer(client, status="open", create="full", read="full", update="full")
    assert [item["title"] for item in (await client.get("~/items/things", token="writer")).data] == ["a"]
    for status, expected in (("open", 200), ("open  ", 200), ("gone", 403), ("gone  ", 403), ("other", 403), (None, 403)):
        answer = await client.patch("~/items/things/1", {"status": status}, token="writer")
        assert answer.status == expected, (status, answer.body)
    assert (await client.patch("~/items/things/1", {"status": "gone "})).status == 204
    assert (await client.get("~/items/things/1")).status == 404
    assert role


@ensureDeferred
async def test_required_fields_are_waived_by_the_status_that_is_stored(client: Client) -> None:
    options = {"status_mapping": {"1": {"name": "a", "required_fields": False}, "2": {"name": "b", "required_fields": True}}}
    await client.collection("things", field("status", "status", "INT", 11, options=options), field("title", required=True))
    for form in (1, "1", "01", 1.0, " 1"):
        assert (await client.post("~/items/things", {"status": form})).status == 200, form
        assert (await client.patch("~/items/things/1", {"status": form, "title": None})).status == 200, form
    for form in (2, "2", "02", 2.0, " 2"):
        assert (await client.post("~/items/things", {"status": form})).status == 422, form
        assert (await client.patch("~/items/things/1", {"status": form})).status == 422, form


@ensureDeferred
async def test_what_is_empty_once_stored_is_missing(client: Client) -> None:
    """A required field takes neither an empty list nor a related item that is none."""
    await client.collection("others", field("name"))
    await client.collection(
        "things",
        field("labels", "array", required=True),
        field("day", "date", "DATE", None, required=True),
        field("other", "m2o", "INT", 11, required=True),
        field("flag", "boolean", "TINYINT", 1, required=True),
        field("n", "integer", "INT", 11, required=True),
    )
    relation = {"collection_many": "things", "field_many": "other", "collection_one": "others"}
    assert (await client.post("~/relations", relation)).status == 200
    whole = {"labels": ["a"], "day": "2024-01-01", "other": {"name": "x"}, "flag": False, "n": 0}
    assert (await client.post("~/items/things", whole)).status == 200
    empty = [("labels", []), ("labels", None), ("day", ""), ("day", None), ("other", {}), ("other", None), ("flag", None)]
    for name, value in [*empty, ("other", {"id": 1, "$delete": True}), ("n", None)]:
        for answer in (
            await client.post("~/items/things", whole | {name: value}),
            await client.patch("~/items/things/1", {name: value}),
        ):
            assert (answer.status, answer.code) == (422, 4), (name, value, answer.body)
    assert (await client.patch("~/items/things/1", {"flag": "", "n": "0"})).status == 200
    assert [item["name"] for item in (await client.get("~/items/others")).data] == ["x"]


@ensureDeferred
async def test_a_role_is_judged_as_it_is_stored(client: Client) -> None:
    role = await writer(client)
    rows = (await client.get(f"~/permissions?filter[role]={role}&filter[collection]=directus_users&fields=id,status")).data
    active = next(row["id"] for row in rows if row["status"] == "active")
    await client.patch(f"~/permissions/{active}", {"create": "full", "read": "full", "update": "full"})
    me = (await client.get("~/users/me?fields=id", token="writer")).data["id"]
    other = {"email": "o@example.com", "password": "password", "role": role, "status": "active"}
    other_id = (await client.post("~/users", other)).data["id"]
    for number, form in enumerate((1, "1", "01", " 1", 1.0, "1.0", True, {"id": 1}, {"id": "01"})):
        for path in (f"~/users/{me}", f"~/users/{other_id}"):
            assert (await client.patch(path, {"role": form}, token="writer")).status in (403, 404), form
        new = {"email": f"n{number}@example.com", "password": "password", "status": "active", "role": form}
        assert (await client.post("~/users", new, token="writer")).status in (403, 404), form
    for form in (role, str(role), f"0{role}", float(role)):
        assert (await client.patch(f"~/users/{me}", {"role": form}, token="writer")).status == 200, form
    assert {user["role"] for user in (await client.get(f"~/users?filter[id][in]={me},{other_id}&fields=role")).data} == {role}


@ensureDeferred
async def test_a_change_of_status_is_logged_where_what_is_stored_changes(client: Client) -> None:
    key = (await client.post("~/users", {"email": "u@example.com", "password": "p", "status": "active"})).data["id"]
    changes = [{"status": "active"}, {"status": "suspended"}, {"title": "x"}, {"status": "suspended"}, {"status": "active"}]
    for change in changes:
        assert (await client.patch(f"~/users/{key}", change)).status == 200
    logged = (await client.get(f"~/activity?filter[action]=status-update&filter[item]={key}&fields=action")).data
    assert len(logged) == 2


@ensureDeferred
async def test_delete_is_true_or_false(client: Client) -> None:
    o2m = {"field": "things", "type": "o2m", "interface": "one-to-many"}
    await client.collection("owners", field("name"), o2m)
    await client.collection("things", field("name"), field("owner_", "m2o", "INT", 11))
    relation = {"collection_many": "things", "field_many": "owner_", "collection_one": "owners", "field_one": "things"}
    assert (await client.post("~/relations", relation)).status == 200
    await client.post("~/items/owners", {"name": "a", "things": [{"name": "t"}]})

    async def number(collection: str) -> int:
        return len((await client.get(f"~/items/{collection}")).data)

    for value, status, deleted in (
        (False, 200, False),
        (0, 200, False),
        ("false", 200, False),
        (None, 200, False),
        ("no", 422, False),
        ([], 422, False),
        (2, 422, False),
        ("true", 200, True),
        ("1", 200, True),
    ):
        for path, body in (
            ("~/items/owners/1", {"things": [{"id": 1, "$delete": value}]}),
            ("~/items/things/2", {"owner_": {"id": 2, "$delete": value}}),
        ):
            await query(client, "TRUNCATE owners, things")
            await query(client, "INSERT INTO owners VALUES (1, 'a'), (2, 'b')")
            await query(client, "INSERT INTO things VALUES (1, 't', 1), (2, 'u', 2)")
            answer = await client.patch(path, body)
            assert answer.status == status, (value, answer.body)
            assert await number("owners") + await number("things") == (3 if deleted else 4), (value, path)


@ensureDeferred
async def test_keys_are_one_whatever_their_form(client: Client) -> None:
    await client.collection("things", field("name"), field("n", "integer", "INT", 11))
    await client.post("~/items/things", {"name": "a"})
    forms = [1, "1", "01", " 1", 1.0, "1.0"]
    answer = await client.patch("~/items/things", [{"id": form, "n": n} for n, form in enumerate(forms)])
    assert [item["n"] for item in answer.data] == [5] * 6
    for form in (True, "1.5", "x", 1.5, "²"):
        assert (await client.patch("~/items/things", [{"id": form, "n": 7}])).status == 404, form
    comment = {"collection": "things", "item": "01", "comment": "c"}
    assert (await client.post("~/activity/comment", comment)).data["item"] == "1"
    assert (await client.delete("~/items/things/01,1,%201")).status == 204


LEVELS = ("none", "create", "update", "always")


@ensureDeferred
async def test_a_move_needs_a_comment_if_either_status_demands_one(client: Client) -> None:
    mapping = {"a": {"name": "a"}, "b": {"name": "b"}, "gone": SOFT}
    options = {"status_mapping": {name: {**each, "required_fields": False} for name, each in mapping.items()}}
    await client.collection("things", field("status", "status", default_value="a", options=options), field("title"))
    whole = {"create": "full", "read": "full", "update": "full", "delete": "full"}
    role = await writer(client, status="gone", **whole)
    await client.post("~/permissions", [{"collection": "things", "role": role, "status": s, **whole} for s in ("a", "b")])
    rows = (await client.get("~/permissions?filter[collection]=things&fields=id,status")).data
    ids = {row["status"]: row["id"] for row in rows}

    async def asked(work: Any) -> bool:
        """Whether a request is refused without a comment; with one it is done."""
        refused: Reply = await work("")
        if refused.status == 403:
            assert refused.code == 10
            assert (await work("&comment=because")).status in (200, 204)
            return True
        assert refused.status in (200, 204), refused.body
        return False

    async def made(status: str = "a") -> int:
        return int((await client.post("~/items/things?fields=id", {"status": status})).data["id"])

    for one, other in itertools.product(LEVELS, repeat=2):
        for status, level in (("a", one), ("b", other), ("gone", other)):
            assert (await client.patch(f"~/permissions/{ids[status]}", {"explain": level})).status == 200
        present, either = one in ("update", "always"), bool({one, other} & {"update", "always"})
        for body, expected in (
            ({"title": "x"}, present),
            ({"status": "a"}, present),
            ({"status": "b"}, either),
            ({"status": "b", "title": "x"}, either),
            ({"status": "gone"}, either),
        ):
            key = await made()
            path = f"~/items/things/{key}?fields=id"
            told = (one, other, body)
            assert await asked(lambda c, p=path, b=body: client.patch(p + c, b, token="writer")) == expected, told
            batch = [await made(), await made()]
            each = [{"id": batch[0], **({"title": "y"} if not present else {})}, {"id": batch[1], **body}]
            path = "~/items/things?fields=id"
            assert await asked(lambda c, p=path, b=each: client.patch(p + c, b, token="writer")) == (expected or present), told
            path = f"~/items/things/{await made()},{await made()}?fields=id"
            assert await asked(lambda c, p=path, b=body: client.patch(p + c, b, token="writer")) == expected, told
        for status, level in (("a", one), ("b", other)):
            path, body = "~/items/things?fields=id", {"status": status}
            expected = level in ("create", "always")
            assert await asked(lambda c, p=path, b=body: client.post(p + c, b, token="writer")) == expected, (one, other, status)
            path = f"~/items/things/{await made(status)}?x"
            assert await asked(lambda c, p=path: client.delete(p + c, token="writer")) == (level == "always"), (
                one,
                other,
                status,
            )
        key = await made()
        first = (await client.get(f"~/items/things/{key}/revisions?fields=id")).data[0]["id"]
        for body, expected in (({"title": "x"}, present), ({"status": "b"}, either), ({"status": "gone"}, either)):
            assert (await client.patch(f"~/items/things/{key}", body)).status in (200, 204)
            back = f"~/items/things/{key}/revert/{first}?fields=id"
            assert await asked(lambda c, p=back: client.call("PATCH", p + c, token="writer")) == expected, (one, other, body)
