"""The setting login_attempts_allowed: failed sign-ins suspend a user."""

import base64
from typing import Any

import pytest
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.hotp import HOTP
from pytest_twisted import ensureDeferred
from twisted.internet import defer

from directus_tx.context import current_time
from directus_tx.db.session import Session
from tests.api.accounts import use_accounts
from tests.conftest import Client, Reply, limited_role

SECRET = "JBSWY3DPEHPK3PXP"
RIGHT = "ada-secret"


async def execute(client: Client, statement: str, parameters: Any = ()) -> Any:
    session = Session(client.backend.projects.get(client.project).database)
    return await session.transaction(lambda session: session.query(statement, parameters))


async def set_allowed(client: Client, value: Any) -> None:
    await execute(client, "UPDATE directus_settings SET value = %s WHERE key = 'login_attempts_allowed'", (value,))
    project = client.backend.projects.get(client.project)
    await project.verified(await project.snapshot())


async def make_ada(client: Client, **more: Any) -> int:
    body = {"email": "Ada@example.com", "password": RIGHT, "status": "active", "role": None, "token": "ada-token"}
    answer = await client.post("~/users?fields=id", body | more)
    assert answer.status == 200, answer.body
    return answer.data["id"]


async def sign_in(client: Client, password: str = RIGHT, email: str = "ada@EXAMPLE.com", **more: Any) -> Reply:
    return await client.post("~/auth/authenticate", {"email": email, "password": password} | more, token=None)


async def codes(client: Client, *passwords: str, **more: Any) -> list[int | None]:
    """The codes of the errors of sign-ins with these passwords, None without an error."""
    answers = [await sign_in(client, password, **more) for password in passwords]
    return [answer.json.get("error", {}).get("code") for answer in answers]


async def status_of(client: Client, user: int) -> str:
    ((status,),) = await execute(client, "SELECT status FROM directus_users WHERE id = %s", (user,))
    return str(status)


@ensureDeferred
async def test_one_failure_more_than_is_allowed_suspends(client: Client) -> None:
    user = await make_ada(client)
    await set_allowed(client, "2")
    token = (await sign_in(client)).data["token"]
    assert await codes(client, "a", "b", RIGHT, "c", "d") == [100, 100, None, 100, 100]
    assert await status_of(client, user) == "active"
    refused = await sign_in(client, "e")
    assert (refused.status, refused.code) == (401, 103)
    assert await status_of(client, user) == "suspended"
    # It is of no use to know the password then, nor to have signed in before.
    assert (await sign_in(client)).status == 401
    assert (await client.get("~/users/me", token="ada-token")).status == 401
    assert (await client.get("~/users/me", token=token)).status == 401
    assert await execute(client, 'SELECT FROM directus_user_sessions WHERE "user" = %s', (user,)) == []
    # Somebody who guesses on is not told.
    assert await codes(client, "f", "g", "h") == [100] * 3
    assert (await client.patch(f"~/users/{user}", {"status": "active"})).status == 200
    assert await codes(client, "i", "j", RIGHT) == [100, 100, None]


@ensureDeferred
async def test_strangers_who_fail_to_sign_in_end_no_tokens_of_programs(client: Client) -> None:
    """Anybody who knows an address can suspend its user. What is suspended so works again afterwards, without new tokens."""
    user = await make_ada(client, role=1)
    await set_allowed(client, "1")
    named = (await client.post("~/users/me/tokens", {"name": "import"}, token="ada-token")).data["token"]

    async def states() -> list[int]:
        return [(await client.get("~/users/me?fields=id", token=token)).status for token in ("ada-token", named)]

    async def change(**payload: Any) -> None:
        assert (await client.patch(f"~/users/{user}", payload)).status == 200

    for _ in range(2):
        assert await states() == [200, 200]
        assert await codes(client, "a", "b") == [100, 103]
        assert await states() == [401, 401]
        await change(title="Countess")
        await change(status="active")
    assert await states() == [200, 200]
    # An administrator who confirms the suspension ends the tokens.
    assert await codes(client, "a", "b") == [100, 103]
    await change(status="suspended")
    await change(status="active")
    assert await states() == [200, 401]
    # A suspension by an administrator ends them also if one by failures came before it.
    named = (await client.post("~/users/me/tokens", {"name": "import"}, token="ada-token")).data["token"]
    await change(status="suspended")
    await change(status="active")
    assert await states() == [200, 401]


@ensureDeferred
async def test_who_is_suspended_by_an_administrator_is_told_so_otherwise(client: Client) -> None:
    user = await make_ada(client, status="suspended")
    assert [(await sign_in(client)).status for _ in range(2)] == [404, 404]
    assert (await sign_in(client)).code == 103
    assert await status_of(client, user) == "suspended"


@ensureDeferred
async def test_failures_at_the_same_time_are_all_counted(client: Client) -> None:
    user = await make_ada(client)
    await set_allowed(client, "9")
    answers = await defer.gatherResults([defer.ensureDeferred(sign_in(client, f"wrong {number}")) for number in range(9)])
    assert [answer.code for answer in answers] == [100] * 9
    answers = await defer.gatherResults([defer.ensureDeferred(sign_in(client, f"wrong {number}")) for number in range(6)])
    assert sorted(answer.code for answer in answers) == [100] * 5 + [103]
    assert await status_of(client, user) == "suspended"


@pytest.mark.parametrize("value", ["0", "", None, "many", "-1"])
@ensureDeferred
async def test_without_a_limit_nobody_is_suspended(client: Client, value: str | None) -> None:
    user = await make_ada(client)
    await set_allowed(client, value)
    assert await codes(client, *"abcdef") == [100] * 6
    assert await status_of(client, user) == "active"
    assert (await sign_in(client)).status == 200


@ensureDeferred
async def test_wrong_one_time_passwords_count_and_missing_ones_do_not(client: Client) -> None:
    user = await make_ada(client, **{"2fa_secret": SECRET})
    await set_allowed(client, "2")
    step = int(current_time().timestamp()) // 30

    def code(steps: int) -> str:
        return HOTP(base64.b32decode(SECRET), 6, SHA1(), enforce_key_length=False).generate(step + steps).decode()

    assert (await sign_in(client, otp=code(0))).status == 200
    assert await codes(client, *[RIGHT] * 4) == [111] * 4
    assert await codes(client, "wrong") == [100]
    # A code that has been used counts as a wrong one. The password alone does not restart the count.
    assert await codes(client, RIGHT, otp=code(0)) == [112]
    assert await codes(client, RIGHT) == [111]
    assert await codes(client, RIGHT, otp="00000") == [103]
    assert await status_of(client, user) == "suspended"


@ensureDeferred
async def test_the_last_administrator_cannot_be_suspended_by_a_stranger(client: Client) -> None:
    await set_allowed(client, "1")
    other = await make_ada(client, role=1)
    admin = {"email": "admin@example.com"}
    # Both at the same time: one stays.
    work = [sign_in(client, "wrong", email) for _ in range(4) for email in ("admin@example.com", "ada@example.com")]
    await defer.gatherResults([defer.ensureDeferred(each) for each in work])
    statuses = [await status_of(client, 1), await status_of(client, other)]
    assert sorted(statuses) == ["active", "suspended"]
    await execute(client, "UPDATE directus_users SET status = 'active' WHERE id = 1")
    await execute(client, "UPDATE directus_users SET status = 'draft' WHERE id = %s", (other,))
    assert await codes(client, *"abcde", **admin) == [100] * 5
    assert (await sign_in(client, "password", **admin)).status == 200


@ensureDeferred
async def test_unknown_addresses_leave_nothing(client: Client) -> None:
    await set_allowed(client, "1")
    assert await codes(client, *"abcd", email="nobody@example.com") == [100] * 4
    assert await execute(client, "SELECT FROM directus_user_sign_ins") == []


@ensureDeferred
async def test_where_failures_cannot_be_written_signing_in_goes_on(client: Client) -> None:
    await make_ada(client)
    await set_allowed(client, "1")
    async with limited_role(client, 'REVOKE INSERT, UPDATE ON directus_user_sign_ins FROM "{role}"'):
        assert await codes(client, "a", "b", "c", RIGHT) == [100, 100, 100, None]


@ensureDeferred
async def test_a_user_with_failures_can_be_deleted(client: Client) -> None:
    user = await make_ada(client)
    assert await codes(client, "a") == [100]
    assert (await client.delete(f"~/users/{user}")).status == 204
    assert await execute(client, "SELECT FROM directus_user_sign_ins") == []


@ensureDeferred
async def test_a_server_that_accepts_unknown_addresses_tells_nothing_of_accounts_by_wrong_passwords(client: Client) -> None:
    await set_allowed(client, "2")
    id = await make_ada(client)
    await make_ada(client, email="suspended@example.com", status="suspended", token="suspended")
    assert (await client.post("~/users/invite", {"email": "invited@example.com"})).status == 200
    use_accounts(client, unknown_address="accept")
    answers = {}
    for email in ("ada@example.com", "suspended@example.com", "invited@example.com", "nobody@example.com"):
        found = [await sign_in(client, "wrong", email) for _ in range(5)]
        answers[email] = [(each.status, each.code, each.json["error"]["message"], each.headers.keys()) for each in found]
        assert [code for _, code, _, _ in answers[email]] == [100] * 5, email
    assert len({str(each) for each in answers.values()}) == 1
    # The user is suspended all the same, and is told so.
    assert (await client.get(f"~/users/{id}?fields=status")).data == {"status": "suspended"}
    assert (await sign_in(client)).code == 103
