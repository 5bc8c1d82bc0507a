"""Rows of system collections that refer to roles, users and collections that do not exist."""

from typing import Any

import pytest
from pytest_twisted import ensureDeferred

from tests.conftest import Client, field

MISSING = {
    "a permission of a role": ("~/permissions", {"role": 99, "collection": "articles"}, '"role": there is no role 99.'),
    "a preset of a role": ("~/collection_presets", {"role": 99, "collection": "articles"}, '"role": there is no role 99.'),
    "a preset of a user": ("~/collection_presets", {"user": 99, "collection": "articles"}, '"user": there is no user 99.'),
    "a user of a role": ("~/users", {"role": 99, "email": "x@example.com", "password": "pw"}, '"role": there is no role 99.'),
    "a relation of a collection": (
        "~/relations",
        {"collection_many": "articls", "field_many": "title", "collection_one": "articles"},
        '"collection_many": there is no collection "articls"; did you mean "articles"?',
    ),
    "a relation to a collection": (
        "~/relations",
        {"collection_many": "articles", "field_many": "title", "collection_one": "nowhere"},
        '"collection_one": there is no collection "nowhere".',
    ),
}


@pytest.mark.parametrize("case", MISSING)
@ensureDeferred
async def test_a_row_that_refers_to_nothing_is_refused_by_name(client: Client, case: str) -> None:
    path, payload, said = MISSING[case]
    await client.collection("articles", field("title"))
    before = (await client.get(f"{path}?fields=*&limit=-1")).data
    for sent in (payload, [payload]):
        refused = await client.post(path, sent)
        assert (refused.status, refused.code) == (422, 4)
        assert refused.json["error"]["message"] == said
    assert (await client.get(f"{path}?fields=*&limit=-1")).data == before


@ensureDeferred
async def test_a_change_is_checked_too_but_not_what_it_leaves_as_it_is(client: Client) -> None:
    await client.collection("articles", field("title"))
    there = (await client.post("~/roles", {"name": "Writers"})).data["id"]
    permission = (await client.post("~/permissions", {"role": there, "collection": "articles"})).data["id"]
    assert (await client.patch(f"~/permissions/{permission}", {"role": 99})).status == 422
    assert (await client.patch("~/permissions", [{"id": permission, "role": 99}])).status == 422
    preset = (await client.post("~/collection_presets", {"user": 1, "collection": "articles"})).data["id"]
    assert (await client.patch(f"~/collection_presets/{preset}", {"user": 99})).status == 422
    assert (await client.patch(f"~/collection_presets/{preset}", {"user": None})).status == 200
    user = (await client.post("~/users", {"role": there, "email": "x@example.com", "password": "pw"})).data["id"]
    assert (await client.patch(f"~/users/{user}", {"role": 99})).status == 422
    # The role is gone; the user can be changed nevertheless, with the stored role in the payload.
    role = (await client.post("~/roles", {"name": "Short-lived"})).data["id"]
    assert (await client.patch(f"~/users/{user}", {"role": role})).status == 200
    assert (await client.delete(f"~/roles/{role}")).status == 204
    kept = (await client.get(f"~/users/{user}?fields=role")).data["role"]
    assert (await client.patch(f"~/users/{user}", {"role": kept, "first_name": "Ada"})).status == 200


@ensureDeferred
async def test_a_role_that_the_same_request_creates_exists(client: Client) -> None:
    made = await client.post("~/users", {"email": "x@example.com", "password": "pw", "role": {"name": "Chiefs"}})
    assert made.status == 200
    role = (await client.get(f"~/users/{made.data['id']}?fields=role")).data["role"]
    assert isinstance(role, int)
    assert (await client.post("~/permissions", {"role": role, "collection": "articles", "read": "full"})).status == 200


@ensureDeferred
async def test_a_caller_is_not_told_which_users_exist(client: Client) -> None:
    """Somebody who may write presets of everyone, but read no other user, gets the same answer for both."""
    await client.collection("articles", field("title"))
    role = (await client.post("~/roles", {"name": "Keepers"})).data["id"]
    await client.post("~/users", {"email": "k@example.com", "password": "pw", "role": role, "token": "keep", "status": "active"})
    rows: list[dict[str, Any]] = (await client.get(f"~/permissions?filter[role]={role}&limit=-1")).data
    rights = {row["collection"]: row["id"] for row in rows}
    await client.patch(f"~/permissions/{rights['directus_users']}", {"read": "mine"})
    await client.patch(
        f"~/permissions/{rights['directus_collection_presets']}", {"create": "full", "update": "full", "read": "full"}
    )
    statuses = {
        user: (await client.post("~/collection_presets", {"user": user, "collection": "articles"}, token="keep")).status
        for user in (1, 99)
    }
    assert set(statuses.values()) == {204}
