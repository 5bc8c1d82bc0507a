"""Invitations: who may invite whom, with which role, and what the token is worth."""

import json
import secrets
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import jwt
import pytest
from pytest_twisted import ensureDeferred
from twisted.internet import defer
from twisted.logger import globalLogPublisher

from directus_tx.context import current_time
from tests.api.accounts import (
    at,
    execute,
    links,
    make_role,
    make_user,
    other_project,
    set_setting,
    sign_in,
    use_accounts,
    use_project_file,
)
from tests.api.outbox import mails, rows
from tests.conftest import TOKEN, Client, Reply

START = current_time()
GUEST = "guest@example.com"


async def invite(client: Client, email: Any = GUEST, *, token: str | None = TOKEN, **more: Any) -> Reply:
    return await client.post("~/users/invite", {"email": email, **more}, token=token)


async def accept(client: Client, token: str, body: Any = ..., method: str = "POST") -> Reply:
    return await client.call(method, f"~/users/invite/{token}", body, token=None)


async def invited(client: Client, email: str = GUEST, **more: Any) -> str:
    """Invites somebody, and returns the token of the link."""
    answer = await invite(client, email, **more)
    assert answer.status == 200, answer.body
    return (await links(client))[-1][2]


def refused(answer: Reply) -> tuple[int, int]:
    return answer.status, answer.code


async def status_of(client: Client, email: str = GUEST) -> Any:
    return await execute(client, "SELECT status FROM directus_users WHERE lower(email) = lower(%s)", (email,))


@pytest.fixture
def logged() -> Iterator[list[Any]]:
    """The events that are logged."""
    events: list[Any] = []
    globalLogPublisher.addObserver(events.append)
    yield events
    globalLogPublisher.removeObserver(events.append)


async def inviter(client: Client, **permission: Any) -> int:
    """Makes a role whose members may create invited users, and a member with the token "inviter". Returns the role."""
    role = await make_role(client, "Inviters")
    await execute(client, "DELETE FROM directus_permissions WHERE role = %s AND collection = 'directus_users'", (role,))
    row = {"collection": "directus_users", "role": role, "status": "invited", "create": "full"} | permission
    assert (await client.post("~/permissions", row)).status == 200
    await make_user(client, email="inviter@example.com", token="inviter", role=role)
    return role


# --- inviting


@ensureDeferred
async def test_an_invited_user_accepts_by_the_link_once(client: Client) -> None:
    role = await make_role(client)
    answer = await invite(client, GUEST, role=role)
    ((user,),) = await execute(client, "SELECT id FROM directus_users WHERE email = %s", (GUEST,))
    (shown,) = answer.data
    assert (shown["id"], shown["status"], shown["role"], shown["email"]) == (user, "invited", role, GUEST)
    ((to, message),) = await mails(client)
    assert (to, message["Subject"]) == (GUEST, "Invitation to Test")
    ((_, page, token),) = await links(client)
    assert page == f"http://localhost:8080/{client.project}/users/invite"
    assert jwt.decode(token, options={"verify_signature": False})["type"] == "invitation"
    assert (await client.get("~/users/me?fields=id", token=token)).status == 401
    answer = await accept(client, token)
    assert answer.json["public"] is True
    assert (answer.data["id"], answer.data["status"], answer.data["role"], answer.data["email"]) == (user, "active", role, GUEST)
    assert not {"token", "password", "2fa_secret", "password_reset_token", "last_page"} & answer.data.keys()
    assert answer.headers["cache-control"] == "no-store"
    assert refused(await accept(client, token)) == (404, 106)
    actions = await rows(client, f"SELECT action, action_by FROM directus_activity WHERE item = '{user}' ORDER BY id")
    assert actions == [("create", 1), ("update", user), ("status-update", user)]


@pytest.mark.parametrize("method", ["GET", "POST"])
@ensureDeferred
async def test_accepting_works_by_get_and_post(client: Client, method: str) -> None:
    token = await invited(client)
    assert (await accept(client, token, method=method)).data["status"] == "active"


@ensureDeferred
async def test_a_password_can_be_chosen_when_accepting_and_obeys_the_policy(client: Client) -> None:
    await set_setting(client, "password_policy", "/^.{8,}$/")
    token = await invited(client)
    for wrong in ("short", "", 1, ["long-enough"]):
        assert refused(await accept(client, token, {"password": wrong})) == (422, 4)
    assert await status_of(client) == [("invited",)]
    assert (await accept(client, token, {"password": "long-enough"})).status == 200
    assert (await sign_in(client, "long-enough", GUEST)).status == 200


@ensureDeferred
async def test_several_addresses_are_invited_in_their_order_each_once(client: Client) -> None:
    known = await make_user(client)
    asked = ["two@example.com", "ADA@example.com", "one@example.com", "Two@example.com", "ada@example.com"]
    answer = await invite(client, asked)
    assert [each["email"] for each in answer.data] == ["two@example.com", "Ada@example.com", "one@example.com"]
    assert answer.data[1]["id"] == known
    assert [to for to, _, _ in await links(client)] == ["two@example.com", "one@example.com"]
    assert (await invite(client, asked)).data == answer.data
    assert len(await links(client)) == 2


@ensureDeferred
async def test_an_address_with_other_letters_is_invited(client: Client) -> None:
    assert (await invite(client, "ada@bücher.example")).data[0]["email"] == "ada@bücher.example"
    assert [to for to, _, _ in await links(client)] == ["ada@xn--bcher-kva.example"]


@pytest.mark.parametrize(
    "email",
    [
        *(None, "", "x", 1, {}, [], [[]], ["a@example.com", "x"], ["a@example.com", 1]),
        *("a@example.com\r\nBcc: b@example.com", "a" * 200 + "@example.com", "ä@example.com"),
        [f"a{n}@example.com" for n in range(101)],
    ],
)
@ensureDeferred
async def test_what_is_not_an_address_invites_nobody(client: Client, email: Any) -> None:
    assert refused(await invite(client, email)) == (422, 4)
    assert (await client.post("~/users/invite", {})).code == 4
    assert await rows(client, "SELECT count(*) FROM directus_users") == [(1,)]
    assert await rows(client) == []


@ensureDeferred
async def test_inviting_is_all_or_nothing(client: Client) -> None:
    assert (await invite(client, ["a@example.com", "b@example.com"], role=99)).status == 422
    assert await rows(client, "SELECT count(*) FROM directus_users") == [(1,)]
    assert await rows(client) == await rows(client, "SELECT FROM directus_user_links") == []


@ensureDeferred
async def test_two_invitations_of_one_address_at_once_make_one_user(client: Client) -> None:
    emails = [GUEST, GUEST.upper(), [GUEST, "other@example.com"]]
    answers = await defer.gatherResults([defer.Deferred.fromCoroutine(invite(client, each)) for each in emails])
    assert {answer.status for answer in answers} == {200}
    assert len({answer.data[0]["id"] for answer in answers}) == 1
    assert len(await links(client)) == 2


@ensureDeferred
async def test_who_is_invited_gets_another_mail_when_the_link_cannot_be_used_any_more(client: Client) -> None:
    use_accounts(client, invitation_days=30)
    at(client, START)
    first = await invited(client)
    at(client, START + timedelta(days=29))
    await invite(client)
    assert len(await links(client)) == 1
    at(client, START + timedelta(days=30))
    assert refused(await accept(client, first)) == (401, 102)
    second = await invited(client)
    assert second != first
    assert (await accept(client, second)).status == 200
    await invite(client)
    assert len(await links(client)) == 2


@ensureDeferred
async def test_two_requests_at_once_mail_a_user_who_is_invited_once(client: Client) -> None:
    await make_user(client, email=GUEST, status="invited", timezone="Asia/Kathmandu")
    emails = [GUEST, GUEST.upper(), [GUEST]]
    answers = await defer.gatherResults([defer.Deferred.fromCoroutine(invite(client, each)) for each in emails])
    assert {answer.status for answer in answers} == {200}
    ((_, message),) = await mails(client)
    body = message.get_body(("plain",))
    assert body is not None
    assert " +0545" in body.get_content()


# --- who may invite


@ensureDeferred
async def test_only_who_may_create_invited_users_may_invite(client: Client) -> None:
    role = await make_role(client)
    await make_user(client, token="editor", role=role)
    await make_user(client, email="nobody@example.com", token="nobody", role=None)
    for token in ("editor", "nobody", None, "unknown"):
        assert refused(await invite(client, token=token)) == (403, 10)
        # Also with addresses that are known, and with none.
        assert refused(await invite(client, "ada@example.com", token=token)) == (403, 10)
        assert refused(await invite(client, None, token=token)) == (403, 10)
    await client.post("~/permissions", {"collection": "directus_users", "role": role, "status": "draft", "create": "full"})
    assert refused(await invite(client, token="editor")) == (403, 10)
    assert await rows(client) == []


@ensureDeferred
async def test_an_inviter_gives_no_role_that_creating_a_user_does_not_give(client: Client) -> None:
    role = await inviter(client)
    for given in (1, "1", {"id": 1}):
        answer = await invite(client, token="inviter", role=given)
        assert answer.status in (403, 404, 422), answer.body
    assert await status_of(client) == []
    assert (await invite(client, token="inviter", role=role)).status == 204
    assert await execute(client, "SELECT role FROM directus_users WHERE email = %s", (GUEST,)) == [(role,)]
    # Attributes that are no part of an invitation are ignored.
    await invite(client, "other@example.com", token="inviter", status="active", password="x", id=77)
    found = await execute(client, "SELECT status, password, id < 77 FROM directus_users WHERE email = 'other@example.com'")
    assert found == [("invited", None, True)]


@ensureDeferred
async def test_an_inviter_who_may_not_write_the_role_gives_none(client: Client) -> None:
    role = await inviter(client, write_field_blacklist=["role"])
    assert refused(await invite(client, token="inviter", role=role)) == (403, 305)
    assert (await invite(client, token="inviter")).status == 204


@ensureDeferred
async def test_inviting_shows_no_more_of_users_than_reading_them(client: Client) -> None:
    await inviter(client, read="mine")
    secret = {"token": "t0p-secret", "last_page": "/secret-page"}
    await make_user(client, email="invited@example.com", status="invited", **secret)
    await make_user(client, token="another-t0p-secret", last_page="/secret-page")
    for email in ("ada@example.com", "invited@example.com", [GUEST, "ada@example.com", "invited@example.com"]):
        answer = await invite(client, email, token="inviter")
        assert answer.status in (200, 204)
        assert b"secret" not in answer.body
        assert b"ada" not in answer.body.lower()


# --- what the token is worth


@ensureDeferred
async def test_the_database_does_not_hold_what_an_invitation_needs(client: Client) -> None:
    token = await invited(client)
    for table in ("directus_users", "directus_user_links", "directus_outbox", "directus_revisions", "directus_activity"):
        dump = repr(await rows(client, f"SELECT row_to_json(t)::text FROM {table} AS t"))
        assert token not in dump
        assert token.rpartition(".")[2] not in dump


@ensureDeferred
async def test_forged_tokens_and_those_of_other_projects_are_refused(client: Client) -> None:
    token = await invited(client)
    project = client.backend.projects.get(client.project)
    claims = jwt.decode(token, options={"verify_signature": False})
    changed = [{"type": "auth"}, {"type": "reset_password"}, {"project": "x"}, {"id": "2"}, {"exp": None}]
    forged = [jwt.encode(claims | each, project.keys.current, "HS256") for each in changed]
    forged += [jwt.encode(claims, "another-key-of-thirty-two-characters", "HS256"), "nonsense", "a.b.c", token + "x", "%2e%2e"]
    for each in forged:
        assert refused(await accept(client, each)) == (401, 101), each
    for sent in (claims | {"id": 1}, claims | {"exp": claims["exp"] + 60}, claims | {"jti": "other"}):
        assert refused(await accept(client, jwt.encode(sent, project.keys.current, "HS256"))) == (404, 106)
    first, other = client.project, f"t{secrets.token_hex(4)}"
    await other_project(client, other)
    client.project = other
    assert refused(await accept(client, token)) == (401, 101)
    client.project = first
    assert (await accept(client, token)).status == 200


@ensureDeferred
async def test_an_invitation_that_is_accepted_twice_at_once_is_accepted_once(client: Client) -> None:
    token = await invited(client)
    bodies = [{"password": f"secret-{number}"} for number in range(4)]
    answers = await defer.gatherResults([defer.Deferred.fromCoroutine(accept(client, token, body)) for body in bodies])
    assert sorted(answer.status for answer in answers) == [200, 404, 404, 404]
    (winner,) = (body["password"] for body, answer in zip(bodies, answers, strict=True) if answer.status == 200)
    assert (await sign_in(client, winner, GUEST)).status == 200


@pytest.mark.parametrize(
    "change", [{"status": "draft"}, {"status": "active"}, {"status": "suspended"}, {"email": "typo@example.com"}]
)
@ensureDeferred
async def test_an_invitation_is_invalid_after_the_status_or_the_address_has_changed(client: Client, change: Any) -> None:
    token = await invited(client)
    ((user,),) = await execute(client, "SELECT id FROM directus_users WHERE email = %s", (GUEST,))
    assert (await client.patch(f"~/users/{user}", {"first_name": "G", "password": "guest-secret", "role": 1})).status == 200
    assert (await client.patch(f"~/users/{user}", change)).status == 200
    await client.patch(f"~/users/{user}", {"status": "invited"})
    assert refused(await accept(client, token)) == (404, 106)
    # Another one can be sent.
    again = await invited(client, change.get("email", GUEST))
    assert (await accept(client, again)).status == 200


@ensureDeferred
async def test_an_invitation_of_a_user_who_is_gone_is_invalid(client: Client) -> None:
    token = await invited(client)
    ((user,),) = await execute(client, "SELECT id FROM directus_users WHERE email = %s", (GUEST,))
    assert (await client.delete(f"~/users/{user}")).status == 204
    assert refused(await accept(client, token)) == (404, 106)


@ensureDeferred
async def test_accepting_obeys_the_addresses_of_the_role(client: Client) -> None:
    role = await make_role(client, ip_whitelist=["192.0.2.1"])
    token = await invited(client, role=role)
    assert refused(await accept(client, token)) == (401, 19)
    await client.patch(f"~/roles/{role}", {"ip_whitelist": []})
    assert (await accept(client, token)).status == 200


@ensureDeferred
async def test_an_invited_user_is_told_so_instead_of_that_the_password_is_wrong(client: Client) -> None:
    token = await invited(client)
    assert refused(await sign_in(client, "x", GUEST)) == (401, 103)
    await accept(client, token)
    assert refused(await sign_in(client, "x", GUEST)) == (404, 100)


@ensureDeferred
async def test_the_log_does_not_tell_the_token(client: Client, logged: list[Any]) -> None:
    token = await invited(client)
    await accept(client, token)
    await accept(client, token + "x", method="GET")
    text = json.dumps([str(event.get("path")) for event in logged])
    assert text.count("/users/invite/(token)") == 2
    assert token.rpartition(".")[2] not in text


@ensureDeferred
async def test_the_page_of_the_project_file_is_linked(client: Client) -> None:
    use_project_file(client, auth={"invite_url": "https://shop.example.com/#/welcome"})
    await invite(client)
    assert (await links(client))[0][1] == "https://shop.example.com/#/welcome"
