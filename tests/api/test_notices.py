"""Mails to users whose account has been changed."""

from datetime import timedelta

import pytest
from attrs import evolve
from pytest_twisted import ensureDeferred

from directus_tx.accounts import hashes
from directus_tx.config import Settings
from tests.api.accounts import at, execute, make_role, make_user, sign_in, use_project_file
from tests.api.outbox import mails
from tests.api.test_two_factor import code as one_time_password
from tests.conftest import Client

MAIL = {"mail": {"host": "127.0.0.1", "port": 1}, "mail_from": "shop@example.com"}
SECRET, OTHER = "JBSWY3DPEHPK3PXP", "KRSXG5CTMVRXEZLU"


async def notices(client: Client) -> list[tuple[str, str]]:
    """The mails in the outbox about changes, in order: to whom, and the text. They are removed."""
    found = []
    for to, message in await mails(client):
        body = message.get_body(("plain",))
        assert body is not None
        if message["Subject"] == "Your account on Test has been changed":
            page = message.get_body(("html",))
            assert page is not None
            assert body.get_content().count("\n- ") == page.get_content().count("<li>")
            found.append((to, body.get_content().replace("\r\n", "\n")))
    await execute(client, "DELETE FROM directus_outbox")
    return found


async def told(client: Client) -> list[tuple[str, list[str]]]:
    """To whom mails about changes go, and which changes each names."""
    words = {
        "password": "password has been replaced",
        "email": "address has been replaced",
        "off": "switched off",
        "replaced": "secret of two-factor authentication has been replaced",
    }
    return [(to, [word for word, said in words.items() if said in text]) for to, text in await notices(client)]


@ensureDeferred
async def test_users_are_told_of_changes_at_the_address_of_before(client: Client) -> None:
    use_project_file(client, **MAIL)
    user = await make_user(client, token="ada-token", timezone="Asia/Kolkata")
    other = await make_user(client, email="b@example.com", first_name="Bob")
    assert await told(client) == []
    ada = "Ada@example.com"
    for payload, expected in (
        ({"password": "new-secret"}, [(ada, ["password"])]),
        ({"email": "ADA@example.com"}, []),
        ({"2fa_secret": SECRET}, []),
        ({"2fa_secret": SECRET}, []),
        ({"2fa_secret": OTHER}, [("ADA@example.com", ["replaced"])]),
        ({"2fa_secret": None}, [("ADA@example.com", ["off"])]),
        ({"2fa_secret": None}, []),
        ({"title": "Countess", "token": "ada-token", "status": "active", "role": 1}, []),
        ({"email": "thief@example.com", "password": "x"}, [("ADA@example.com", ["password", "email"])]),
    ):
        assert (await client.patch(f"~/users/{user}", payload)).status == 200, payload
        assert await told(client) == expected, payload
    # Of several users each is told.
    assert (await client.patch(f"~/users/{user},{other}", {"password": "shared"})).status == 200
    assert sorted(await told(client)) == [("b@example.com", ["password"]), ("thief@example.com", ["password"])]
    assert (await client.patch("~/users/me", {"password": "own"}, token="ada-token")).status == 200
    ((_, text),) = await notices(client)
    assert " IST, your account on Test has been changed" in text
    # What is refused or undone tells nobody.
    refused = await client.patch(f"~/users/{user}", {"password": "again", "status": "nonsense"})
    assert refused.status == 422
    assert await told(client) == []


@ensureDeferred
async def test_all_ways_to_change_an_account_tell_its_user(client: Client) -> None:
    use_project_file(client, **MAIL)
    user = await make_user(client, token="ada-token")
    await client.post("~/auth/password/request", {"email": "ada@example.com"}, token=None)
    ((_, message),) = await mails(client)
    token = message.get_body(("plain",)).get_content().split("token=")[1].split()[0]
    assert (await client.post("~/auth/password/reset", {"token": token, "password": "new-secret"}, token=None)).status == 200
    assert await told(client) == [("Ada@example.com", ["password"])]
    ((id,),) = await execute(client, "SELECT external_id FROM directus_users WHERE id = %s", (user,))
    operations = [{"op": "replace", "value": {"password": "by-scim", "userName": "c@example.com"}}]
    assert (await client.patch(f"~/scim/v2/Users/{id}", {"Operations": operations})).status == 200
    assert await told(client) == [("Ada@example.com", ["password", "email"])]
    # Activating two-factor authentication is no loss, nor is a sign-in that replaces an outdated hash.
    code = {"2fa_secret": SECRET, "otp": one_time_password(SECRET, client.app.services.now())}
    assert (await client.post("~/users/me/activate_2fa", code, token="ada-token")).status == 204
    await client.patch(f"~/users/{user}", {"2fa_secret": None})
    assert await told(client) == [("c@example.com", ["off"])]
    outdated = hashes.hash_bcrypt("outdated", 4)
    await execute(client, "UPDATE directus_users SET password = %s WHERE id = %s", (outdated, user))
    assert (await sign_in(client, "outdated", "c@example.com")).status == 200
    assert await execute(client, "SELECT FROM directus_users WHERE password = %s", (outdated,)) == []
    assert await told(client) == []


@ensureDeferred
async def test_who_has_not_used_the_account_yet_is_not_told(client: Client) -> None:
    use_project_file(client, **MAIL)
    await make_role(client)
    assert (await client.post("~/users/invite", {"email": "new@example.com"})).status == 200
    ((_, message),) = await mails(client)
    token = message.get_body(("plain",)).get_content().split("token=")[1].split()[0]
    assert (await client.post(f"~/users/invite/{token}", {"password": "first"}, token=None)).status == 200
    assert await told(client) == []
    ((user,),) = await execute(client, "SELECT id FROM directus_users WHERE email = 'new@example.com'")
    assert (await client.patch(f"~/users/{user}", {"password": "second"})).status == 200
    assert await told(client) == [("new@example.com", ["password"])]
    for attributes in ({"status": "draft"}, {"status": "suspended"}, {"password": None}):
        number = await make_user(client, **{"email": f"x{len(str(attributes))}@example.com", **attributes})
        assert (await client.patch(f"~/users/{number}", {"password": "first"})).status == 200
        assert (await client.delete(f"~/users/{number}")).status == 204
    assert await told(client) == []


@ensureDeferred
async def test_a_project_without_a_mail_server_mails_nobody(client: Client) -> None:
    user = await make_user(client)
    # The last server cannot be used.
    for mail in ({}, {"host": "127.0.0.1", "port": "nonsense"}):
        use_project_file(client, mail=mail)
        assert (await client.patch(f"~/users/{user}", {"password": "new-secret"})).status == 200
        assert await execute(client, "SELECT FROM directus_outbox") == []


class TestTurnedOff:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return evolve(settings, accounts=evolve(settings.accounts, change_mails="off"))

    @ensureDeferred
    async def test_a_setting_turns_the_mails_off(self, client: Client) -> None:
        use_project_file(client, **MAIL)
        user = await make_user(client)
        assert (await client.patch(f"~/users/{user}", {"password": "new-secret", "email": "x@example.com"})).status == 200
        assert await execute(client, "SELECT FROM directus_outbox") == []


@ensureDeferred
async def test_a_project_replaces_the_template(client: Client) -> None:
    use_project_file(client, **MAIL)
    directory = client.backend.projects.files.directory / f"{client.project}.mail"
    directory.mkdir()
    (directory / "account-changed.txt").write_text("{{ changes | join(' and ') }} of {{ project.name }}\n- x\n")
    (directory / "account-changed.html").write_text("<li>{{ changes | length }}</li>")
    user = await make_user(client)
    assert (await client.patch(f"~/users/{user}", {"password": "new-secret", "email": "x@example.com"})).status == 200
    assert await notices(client) == [("Ada@example.com", "password and email of Test\n- x\n")]
    # A template that is wrong keeps nobody from changing an account.
    (directory / "account-changed.txt").write_text("{{ changes | nonsense }}")
    assert (await client.patch(f"~/users/{user}", {"password": "newer-secret"})).status == 200
    assert await told(client) == [("x@example.com", ["password"])]


@ensureDeferred
async def test_who_may_change_the_own_address_cannot_have_others_mailed_without_end(client: Client) -> None:
    use_project_file(client, **MAIL)
    role = await make_role(client)
    permission = {"collection": "directus_users", "role": role, "read": "mine", "update": "mine"}
    assert (await client.post("~/permissions", permission)).status == 200
    user = await make_user(client, token="ada-token", role=role)
    other = await make_user(client, email="b@example.com")
    now = client.app.services.now()
    at(client, now)
    addresses = [f"victim{number}@example.com" for number in range(8)]
    for address in addresses:
        assert (await client.patch("~/users/me", {"email": address}, token="ada-token")).status == 200
    assert [to for to, _ in await mails(client)] == ["Ada@example.com", *addresses[:4]]
    for password in ("one", "two"):
        assert (await client.patch("~/users/me", {"password": password}, token="ada-token")).status == 200
    assert len(await mails(client)) == 5
    # The mails to others are counted apart, also in the same request, and those of an hour ago no more.
    assert (await client.patch(f"~/users/{user},{other}", {"password": "three"})).status == 200
    assert [to for to, _ in await mails(client)][5:] == ["b@example.com"]
    at(client, now + timedelta(hours=1, seconds=1))
    assert (await client.patch("~/users/me", {"password": "four"}, token="ada-token")).status == 200
    assert [to for to, _ in await mails(client)][6:] == [addresses[-1]]


@ensureDeferred
async def test_no_name_or_address_of_a_user_adds_to_a_mail_or_keeps_the_account_from_being_changed(client: Client) -> None:
    use_project_file(client, **MAIL)
    injected = "=?utf-8?b?DQpCY2M6IHhAeS56?="
    await make_user(client, first_name=injected, last_name="=?utf-8?q?=0d=0a=0d=0abody?=", token="ada-token")
    assert (await client.post("~/auth/password/request", {"email": "ada@example.com"}, token=None)).status == 200
    assert (await client.patch("~/users/me", {"password": "new"}, token="ada-token")).status == 200
    found = await mails(client)
    assert len(found) == 2
    for to, message in found:
        assert to == "Ada@example.com"
        assert "Bcc" not in message
        assert [each.addr_spec for each in message["To"].addresses] == ["Ada@example.com"]
        assert injected in message["To"].addresses[0].display_name
    await execute(client, "DELETE FROM directus_outbox")
    odd = await make_user(client, email="=?utf-8?q?a?=@example.com")
    for payload in ({"password": "new"}, {"email": "a@example.com"}, {"status": "suspended"}):
        assert (await client.patch(f"~/users/{odd}", payload)).status == 200
    assert await mails(client) == []
