"""The setting password_policy, wherever a password is set. Links that set one are in test_password_resets and test_invitations."""

from typing import Any

import pytest
from pytest_twisted import ensureDeferred

from tests.api.accounts import execute, make_role, make_user, set_setting, sign_in
from tests.conftest import Client, field

GOOD, BAD = "long-enough", "short"


async def hashes_of(client: Client) -> list[Any]:
    return await execute(client, "SELECT id, password FROM directus_users ORDER BY id")


@ensureDeferred
async def test_it_holds_for_every_write_of_users(client: Client) -> None:
    role = await make_role(client)
    users = [await make_user(client, email=f"u{n}@example.com", token=f"u{n}", role=role) for n in range(2)]
    o2m = {"type": "o2m", "interface": "one-to-many"}
    await client.collection("teams", field("name"), {"field": "members", **o2m}, field("lead", "m2o", "INT", 11))
    await client.collection("memberships", field("team", "m2o", "INT", 11), field("person", "m2o", "INT", 11))
    for many, name, one, of in (
        ("memberships", "team", "teams", "members"),
        ("memberships", "person", "directus_users", None),
        ("teams", "lead", "directus_users", None),
    ):
        relation = {"collection_many": many, "field_many": name, "collection_one": one, "field_one": of}
        assert (await client.post("~/relations", relation)).status == 200
    assert (await client.post("~/items/teams", {"name": "a"})).status == 200
    await set_setting(client, "password_policy", "/^.{8,}$/")
    before = await hashes_of(client)

    def writes(password: str) -> list[tuple[str, str, Any, str]]:
        new = {"email": f"{password}@example.com", "password": password}
        second = {"email": "second@example.com", "password": GOOD}
        both = ",".join(str(user) for user in users)
        return [
            ("POST", "~/users", new, "admin-static-token"),
            ("POST", "~/users", [second, new], "admin-static-token"),
            ("PATCH", f"~/users/{users[0]}", {"password": password}, "admin-static-token"),
            ("PATCH", f"~/users/{both}", {"password": password}, "admin-static-token"),
            ("PATCH", "~/users/me", {"password": password}, "u0"),
            ("POST", "~/items/teams", {"name": "b", "lead": new}, "admin-static-token"),
            ("PATCH", "~/items/teams/1", {"lead": {"id": users[0], "password": password}}, "admin-static-token"),
            ("POST", "~/items/teams", {"name": "c", "members": [{"person": new}]}, "admin-static-token"),
            ("PATCH", f"~/roles/{role}", {"users": [{"id": users[1], "password": password}]}, "admin-static-token"),
        ]

    for method, path, body, token in writes(BAD):
        answer = await client.call(method, path, body, token=token)
        assert (answer.status, answer.code) == (422, 4), (method, path, answer.body)
        assert "password_policy" in answer.json["error"]["message"]
    assert await hashes_of(client) == before
    for method, path, body, token in writes(GOOD):
        answer = await client.call(method, path, body, token=token)
        assert answer.status == 200, (method, path, answer.body)
        await execute(client, "DELETE FROM directus_users WHERE email IN ('long-enough@example.com', 'second@example.com')")
    for number in range(2):
        assert (await sign_in(client, GOOD, f"u{number}@example.com")).status == 200


@pytest.mark.parametrize("other", [{"title": "x"}, {"password": None}, {"email": "new@example.com"}])
@ensureDeferred
async def test_a_password_that_is_not_set_is_not_looked_at(client: Client, other: Any) -> None:
    user = await make_user(client, password=BAD)
    await set_setting(client, "password_policy", "/^.{8,}$/")
    assert (await sign_in(client, BAD)).status == 200
    assert (await client.patch(f"~/users/{user}", other)).status == 200
