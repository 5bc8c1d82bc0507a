"""Two-factor authentication: signing in with one-time passwords, activating, and roles that enforce it."""

import base64
from datetime import datetime, timedelta
from typing import Any

import pytest
from attrs import evolve
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.hotp import HOTP
from pytest_twisted import ensureDeferred
from twisted.internet import defer

from directus_tx.context import current_time
from directus_tx.db.session import Session
from directus_tx.schema.sealed import TWO_FACTOR_SECRET
from tests.conftest import TOKEN, Client, Reply

SECRET = "JBSWY3DPEHPK3PXP"
OTHER = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
ADA = {"email": "ada@example.com", "password": "ada-secret", "status": "active", "token": "ada-token"}
ME = "~/users/me?fields=id"


async def execute(client: Client, statement: str, parameters: Any = ()) -> Any:
    session = Session(client.backend.projects.get(client.project).database)
    return await session.transaction(lambda session: session.query(statement, parameters))


def code(secret: str, now: datetime, steps: int = 0) -> str:
    """The one-time password that an authenticator app shows, by a clock that is ahead by some steps."""
    key = HOTP(base64.b32decode(secret), 6, SHA1(), enforce_key_length=False)
    return key.generate(int(now.timestamp()) // 30 + steps).decode()


def at(client: Client, now: datetime) -> None:
    client.app.services = evolve(client.app.services, now=lambda: now)


async def a_role(client: Client, **attributes: Any) -> int:
    answer = await client.post("~/roles", {"name": "Editors", **attributes})
    assert answer.status == 200, answer.body
    for collection in ("directus_users", "directus_roles"):
        permission = {"collection": collection, "role": answer.data["id"], "read": "mine", "update": "mine"}
        assert (await client.post("~/permissions", permission)).status == 200
    return answer.data["id"]


async def make_ada(client: Client, **more: Any) -> int:
    answer = await client.post("~/users?fields=id", ADA | more)
    assert answer.status == 200, answer.body
    return answer.data["id"]


async def sign_in(client: Client, otp: Any = ..., **more: Any) -> Reply:
    body = {"email": "ada@example.com", "password": "ada-secret"} | ({} if otp is ... else {"otp": otp}) | more
    return await client.post("~/auth/authenticate", body, token=None)


@ensureDeferred
async def test_a_code_opens_once(client: Client) -> None:
    await make_ada(client, role=1, **{"2fa_secret": SECRET})
    now = current_time()
    at(client, now)
    assert [(await sign_in(client, otp)).code for otp in (..., None, "", "000")] == [111, 111, 111, 112]
    assert [(await sign_in(client, otp)).code for otp in (5, 123456, True, ["1"], {})] == [4] * 5
    first = await sign_in(client, code(SECRET, now))
    assert first.status == 200
    assert "error" not in first.json
    # The same, and those before it, are used up; a later one is not.
    assert (await sign_in(client, code(SECRET, now))).code == 112
    assert (await sign_in(client, code(SECRET, now, -1))).code == 112
    assert (await sign_in(client, code(SECRET, now, 1), mode="cookie")).status == 200
    at(client, now + timedelta(seconds=90))
    assert (await sign_in(client, code(SECRET, now, 1))).code == 112
    assert (await sign_in(client, code(SECRET, now, 3))).status == 200
    # The password comes first, whatever the code.
    assert (await sign_in(client, code(SECRET, now, 4), password="wrong")).code == 100
    assert (await sign_in(client, password="wrong")).code == 100


@ensureDeferred
async def test_of_sign_ins_at_the_same_time_with_one_code_one_succeeds(client: Client) -> None:
    await make_ada(client, role=1, **{"2fa_secret": SECRET})
    now = current_time()
    at(client, now)
    answers = await defer.gatherResults([defer.ensureDeferred(sign_in(client, code(SECRET, now))) for _ in range(8)])
    assert sorted(answer.status for answer in answers) == [200] + [404] * 7


@ensureDeferred
async def test_a_new_secret_takes_the_code_of_the_present_step(client: Client) -> None:
    user = await make_ada(client, role=1, **{"2fa_secret": SECRET})
    now = current_time()
    at(client, now)
    assert (await sign_in(client, code(SECRET, now, 2))).status == 200
    assert (await client.patch(f"~/users/{user}", {"2fa_secret": OTHER})).status == 200
    assert (await sign_in(client, code(SECRET, now, 2))).code == 112
    assert (await sign_in(client, code(OTHER, now, -2))).status == 200
    for off in (None, ""):
        assert (await client.patch(f"~/users/{user}", {"2fa_secret": off})).status == 200
        assert (await sign_in(client)).status == 200


@ensureDeferred
async def test_a_secret_that_is_encrypted_anew_takes_no_code_twice(client: Client) -> None:
    user = await make_ada(client, role=1, **{"2fa_secret": SECRET})
    now = current_time()
    at(client, now)
    assert (await sign_in(client, code(SECRET, now))).status == 200
    keys = client.backend.projects.get(client.project).keys
    sealed = TWO_FACTOR_SECRET.sealed(keys, SECRET)
    await execute(client, 'UPDATE directus_users SET "2fa_secret" = %s WHERE id = %s', (sealed, user))
    assert (await sign_in(client, code(SECRET, now))).code == 112
    assert (await sign_in(client, code(SECRET, now, 1))).status == 200


@pytest.mark.parametrize("secret", ["short", "JBSWY3DPEHPK3PX1", "JBSWY3DPEHPK3PXP" * 20, 5, ["JBSWY3DPEHPK3PXP"]])
@ensureDeferred
async def test_a_secret_that_no_app_takes_is_refused(client: Client, secret: Any) -> None:
    user = await make_ada(client, role=1)
    answer = await client.patch(f"~/users/{user}", {"2fa_secret": secret})
    assert answer.status == 422, answer.body
    body = {"2fa_secret": secret, "otp": "000000"}
    assert (await client.post("~/users/me/activate_2fa", body, token="ada-token")).status in (404, 422)
    assert (await sign_in(client)).status == 200


@ensureDeferred
async def test_activating_needs_a_code_of_the_secret_and_no_permission(client: Client) -> None:
    role = (await client.post("~/roles", {"name": "Nothing"})).data["id"]
    user = await make_ada(client, role=role)
    now = current_time()
    at(client, now)

    async def activate(otp: Any, key: Any = "me", token: str | None = "ada-token", secret: Any = SECRET) -> Reply:
        return await client.post(f"~/users/{key}/activate_2fa", {"2fa_secret": secret, "otp": otp}, token=token)

    assert (await activate(code(OTHER, now))).code == 112
    assert (await activate(code(SECRET, now, 3))).code == 112
    assert (await activate(code(SECRET, now), token=None)).status == 401
    assert ((await activate(code(SECRET, now), key=1)).status, (await activate("0", key=1)).code) == (403, 302)
    assert (await activate(code(SECRET, now), key=99)).status == 403
    assert (await activate(code(SECRET, now), key=99, token=TOKEN)).code == 203
    assert (await activate(code(SECRET, now), key=f"{user},1")).status == 403
    assert [(await activate(*each)).code for each in ((None,), (5,), ("",), ("1", "me", "ada-token", None))] == [4] * 4
    assert (await client.get(f"~/users/{user}?fields=2fa_secret")).data == {"2fa_secret": None}
    assert (await activate(code(SECRET, now))).status == 204
    assert (await client.get(f"~/users/{user}?fields=2fa_secret")).data == {"2fa_secret": SECRET}
    # The code is used up.
    assert [(await sign_in(client, each)).code for each in (..., code(SECRET, now), code(OTHER, now))] == [111, 112, 112]
    assert (await sign_in(client, code(SECRET, now, 1))).status == 200
    # An administrator does it for somebody else.
    assert (await activate(code(OTHER, now), key=user, token=TOKEN, secret=OTHER)).status == 204
    assert (await sign_in(client, code(OTHER, now, 1))).status == 200
    # The history does not hold it.
    assert SECRET not in str(await execute(client, "SELECT data, delta FROM directus_revisions"))


@ensureDeferred
async def test_a_role_that_enforces_it_is_the_public_until_it_is_activated(client: Client) -> None:
    role = await a_role(client)
    user = await make_ada(client, role=role)
    now = current_time()
    at(client, now)
    await client.collection("notes", {"field": "text", "type": "string", "datatype": "VARCHAR", "length": 200})
    await client.post("~/permissions", {"collection": "notes", "role": role, "create": "full", "read": "full"})
    jwt = (await sign_in(client)).data["token"]
    cookie = (await sign_in(client, mode="cookie")).headers["set-cookie"].partition(";")[0]
    ways: list[dict[str, Any]] = [
        {"token": "ada-token"},
        {"token": jwt},
        {"token": None, "headers": {"Cookie": cookie}},
        {"token": None, "headers": {"Authorization": "Basic " + base64.b64encode(b"ada-token:").decode()}},
    ]
    paths = [ME, "~/users", "~/items/notes", f"~/users/{user}/revisions"]

    async def answers(**way: Any) -> tuple[int, ...]:
        found = [(await client.get(path, **way)).status for path in paths]
        found.append((await client.post("~/items/notes", {"text": "x"}, **way)).status)
        found.append((await client.post(f"~/auth/logout/{user}/0", {}, **way)).status)
        return tuple(found)

    async def statuses() -> set[int | tuple[int, ...]]:
        """The statuses of what the user does in all ways. A member of the role may do all of it, the public nothing."""
        found = {await answers(**way) for way in ways}
        return {200} if found == {(200,) * 6} else {401} if found == {await answers(token=None)} else {*found}

    assert await statuses() == {200}
    assert (await client.patch(f"~/roles/{role}", {"enforce_2fa": True})).data["enforce_2fa"] is True
    assert await statuses() == {401}
    assert (await client.get("~/auth/sessions", token=jwt)).json == {"public": True}
    answer = await sign_in(client)
    assert (answer.status, answer.json["error"]["code"], answer.data["user"]["id"]) == (200, 113, str(user))
    renewed = (await client.post("~/auth/refresh", {"token": jwt}, token=None)).data["token"]
    assert (await client.get(ME, token=renewed)).status == 401
    for way in ways:
        assert (await client.post("~/users/me/activate_2fa", {"2fa_secret": SECRET, "otp": "0"}, **way)).code == 112
    body = {"2fa_secret": SECRET, "otp": code(SECRET, now)}
    assert (await client.post("~/users/me/activate_2fa", body, **ways[2])).status == 204
    assert await statuses() == {200}
    assert "error" not in (await sign_in(client, code(SECRET, now, 1))).json
    # Who turns it off is the public again, and so is one whose secret an operator removes.
    assert (await client.patch("~/users/me", {"2fa_secret": None}, token=jwt)).status in (200, 401)
    assert await statuses() == {401}
    await execute(client, 'UPDATE directus_users SET "2fa_secret" = %s WHERE id = %s', (OTHER, user))
    assert await statuses() == {200}


@ensureDeferred
async def test_members_of_other_roles_are_not_concerned(client: Client) -> None:
    await a_role(client, enforce_2fa=True)
    await make_ada(client, role=None)
    other = (await client.post("~/roles", {"name": "Others"})).data["id"]
    await client.post("~/users", ADA | {"email": "ben@example.com", "token": "ben-token", "role": other})
    assert (await client.get(ME)).status == 200
    for token in ("ada-token", "ben-token"):
        assert (await client.get("~/activity", token=token)).status in (200, 403)
    assert (await client.get("~/activity", token=None)).status == 401
