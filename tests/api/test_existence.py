"""A system item that a caller may neither read nor delete is refused to it as one that is not there, whatever it asks.

Clients rely on a difference in two places: changing a role, and changing or deleting a user that is hidden by its status. Those who may
read some roles or users see it there. (tests/live/test_existence.py has the items of ordinary collections.)
"""

import itertools
from collections.abc import Mapping
from typing import Any

import pytest
from attrs import frozen
from pytest_twisted import ensureDeferred

from directus_tx.db.session import Session
from tests.conftest import Client, Reply

MISSING = 9999


@frozen
class Place:
    """Where the items of a system collection are, and the statement that makes one of somebody else's."""

    path: str
    insert: str
    body: Mapping[str, Any]
    several: bool = True


PLACES = {
    "directus_roles": Place("roles", "INSERT INTO directus_roles (name) VALUES ('Others') RETURNING id", {"description": "x"}),
    "directus_permissions": Place(
        "permissions", "INSERT INTO directus_permissions (collection, role) VALUES ('x', 1) RETURNING id", {"read": "full"}
    ),
    "directus_folders": Place("folders", "INSERT INTO directus_folders (name) VALUES ('x') RETURNING id", {"name": "y"}),
    "directus_settings": Place("settings", "INSERT INTO directus_settings (key) VALUES ('x') RETURNING id", {"value": "y"}),
    "directus_webhooks": Place(
        "webhooks", "INSERT INTO directus_webhooks (status, collection) VALUES ('inactive', 'x') RETURNING id", {"url": "y"}
    ),
    "directus_relations": Place(
        "relations",
        "INSERT INTO directus_relations (collection_many, field_many) VALUES ('x', 'y') RETURNING id",
        {"field_one": "z"},
    ),
    "directus_collection_presets": Place(
        "collection_presets",
        "INSERT INTO directus_collection_presets (collection, \"user\") VALUES ('directus_files', 1) RETURNING id",
        {"title": "x"},
    ),
    "directus_users": Place(
        "users",
        "INSERT INTO directus_users (status, email, role) VALUES ('active', 'o@example.com', 1) RETURNING id",
        {"title": "x"},
        several=False,
    ),
}


async def query(client: Client, sql: str, values: Any = ()) -> Any:
    session = Session(client.backend.projects.get(client.project).database)
    return await session.transaction(lambda session: session.query(sql, values))


async def grant(client: Client, role: int, collection: str, levels: Mapping[str, str]) -> None:
    """Gives a role these levels on a collection, and no others."""
    rows = await query(client, "SELECT id FROM directus_permissions WHERE role = %s AND collection = %s", (role, collection))
    if rows:
        assert (await client.delete("~/permissions/" + ",".join(str(id) for (id,) in rows))).status == 204
    answer = await client.post("~/permissions", {"role": role, "collection": collection, **levels})
    assert answer.status == 200, answer.body


def told(answer: Reply) -> tuple[int, int, str]:
    return answer.status, answer.code, answer.json["error"]["message"]


def requests(place: Place, key: int, own: int | None) -> list[tuple[str, str, Any, dict[str, str]]]:
    """All requests that name an item, alone and beside another one."""
    path = f"~/{place.path}"
    with_tag = {"If-Match": '"nonsense"'}
    found: list[tuple[str, str, Any, dict[str, str]]] = [
        ("PATCH", f"{path}/{key}", place.body, {}),
        ("PATCH", f"{path}/{key}", place.body, with_tag),
        ("PATCH", f"{path}/{key}", {}, {"If-Match": "*"}),
        ("PATCH", f"{path}/{key},{MISSING + 1}", place.body, {}),
        ("DELETE", f"{path}/{key}", ..., {}),
        ("DELETE", f"{path}/{key}", ..., with_tag),
        ("DELETE", f"{path}/{key},{MISSING + 1}", ..., {}),
    ]
    if place.several:
        found.append(("PATCH", path, [{"id": key, **place.body}], {}))
    if own is not None:
        found += [("PATCH", f"{path}/{own},{key}", place.body, {}), ("DELETE", f"{path}/{own},{key}", ..., {})]
    return found


@pytest.mark.parametrize("collection", PLACES)
@ensureDeferred
async def test_a_hidden_system_item_is_as_one_that_is_not_there(client: Client, collection: str) -> None:
    place = PLACES[collection]
    role = (await client.post("~/roles", {"name": "Writers"})).data["id"]
    user = {"email": "w@example.com", "password": "password", "role": role, "status": "active", "token": "writer"}
    await client.post("~/users", user)
    ((hidden,),) = await query(client, place.insert)
    for read, update, delete in itertools.product(("none", "mine"), ("none", "mine", "full"), ("none", "mine")):
        for who, token in ((role, "writer"), (2, None)):
            await grant(client, who, collection, {"read": read, "update": update, "delete": delete})
            if read == "mine" and collection == "directus_roles":
                await check_roles(client, hidden, token)
                continue
            for there, not_there in zip(requests(place, hidden, None), requests(place, MISSING, None), strict=True):
                method, path, body, headers = there
                one = await client.call(method, path, body, token=token, headers=headers)
                method, path, body, headers = not_there
                other = await client.call(method, path, body, token=token, headers=headers)
                assert told(one) == told(other), (there, read, update, delete, token)


async def check_roles(client: Client, hidden: int, token: str | None) -> None:
    """Whoever sees its own role is told that another one may not be changed, and as for deletion that it is not there; the public is
    asked to sign in."""
    for key, expected in ((hidden, (403, 302)), (MISSING, (404, 203))):
        answer = await client.patch(f"~/roles/{key}", {"description": "x"}, token=token)
        assert (answer.status, answer.code) == expected
        answer = await client.delete(f"~/roles/{key}", token=token)
        assert (answer.status, answer.code) == ((401, 3) if token is None else (404, 203))


@ensureDeferred
async def test_users_are_hidden_by_their_level_as_if_they_were_not_there(client: Client) -> None:
    role = (await client.post("~/roles", {"name": "Writers"})).data["id"]
    user = {"email": "w@example.com", "password": "password", "role": role, "status": "active", "token": "writer"}
    own = (await client.post("~/users", user)).data["id"]
    ((active,),) = await query(client, PLACES["directus_users"].insert)
    ((draft,),) = await query(
        client, "INSERT INTO directus_users (status, email, role) VALUES ('draft', 'd@example.com', 1) RETURNING id"
    )
    rows = await query(
        client,
        "SELECT id FROM directus_permissions WHERE role = %s AND status = 'active' AND collection = 'directus_users'",
        (role,),
    )
    assert (await client.patch(f"~/permissions/{rows[0][0]}", {"read": "mine", "delete": "role"})).status == 200
    for method, body, by_status in (("PATCH", {"title": "x"}, (403, 300)), ("DELETE", ..., (403, 303))):
        missing = await client.call(method, f"~/users/{MISSING}", body, token="writer")
        assert (missing.status, missing.code) == (404, 203)
        hidden = await client.call(method, f"~/users/{active}", body, token="writer")
        assert told(hidden) == told(missing)
        # That a user is there whose status is out of sight, clients rely on.
        other = await client.call(method, f"~/users/{draft}", body, token="writer")
        assert (other.status, other.code) == by_status
        together = [await client.call(method, f"~/users/{own},{key}", body, token="writer") for key in (active, MISSING)]
        assert told(together[0]) == told(together[1])
    assert (await client.get(f"~/users/{own}", token="writer")).status == 200


@ensureDeferred
async def test_files_of_others_are_as_files_that_are_not_there(client: Client) -> None:
    role = (await client.post("~/roles", {"name": "Writers"})).data["id"]
    user = {"email": "w@example.com", "password": "password", "role": role, "status": "active", "token": "writer"}
    await client.post("~/users", user)
    sql = "INSERT INTO directus_files (storage, private_hash, filename_disk, filename_download, title, uploaded_by, uploaded_on)"
    ((hidden,),) = await query(client, f"{sql} VALUES ('local', 'h', 'x', 'x', 'x', 1, now()) RETURNING id")
    await grant(client, role, "directus_files", {"create": "full", "read": "mine", "update": "full", "delete": "mine"})
    await client.post("~/collections", {"collection": "things", "fields": FIELDS})
    everything = {"create": "full", "read": "full", "update": "full", "delete": "full"}
    await client.post("~/permissions", {"role": role, "collection": "things", **everything})
    assert (await client.post("~/items/things", {}, token="writer")).status == 200
    for value in ({}, {"title": "y"}, {"$delete": True}):
        for method, path in (("PATCH", "~/items/things/1"), ("POST", "~/items/things")):
            answers = [
                told(await client.call(method, path, {"picture": {"id": key, **value}}, token="writer"))
                for key in (hidden, MISSING)
            ]
            assert answers[0] == answers[1], (value, method)


FIELDS = [
    {"field": "id", "type": "integer", "datatype": "INT", "length": 11, "primary_key": True, "auto_increment": True},
    {"field": "picture", "type": "file", "datatype": "INT", "length": 11},
]
