"""Passwords that users have forgotten: who is mailed a link, where it leads, and what its token is worth."""

import base64
import hashlib
import json
import re
import secrets
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import jwt
import pytest
from attrs import evolve
from pytest_twisted import ensureDeferred
from twisted.internet import defer, reactor

from directus_tx.accounts import hashes
from directus_tx.accounts.mails import shown_time, with_token
from directus_tx.checks import project_problems
from directus_tx.config import MailSettings, Settings, public_url
from directus_tx.context import current_time
from directus_tx.db.connection import Connection
from directus_tx.jobs.sessions import remove_expired
from directus_tx.mail.delivery import MailKind
from directus_tx.mail.smtp import Mailer
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
from tests.api.outbox import delivering, mails, rows
from tests.conftest import SUPER_ADMIN_TOKEN, TOKEN, Client, Reply
from tests.smtp_server import Mailbox, mail_server

START = current_time()
NEW = "brand-new-secret"


async def ask(client: Client, email: Any = "ada@example.com", **more: Any) -> Reply:
    headers = more.pop("headers", None)
    return await client.post("~/auth/password/request", {"email": email, **more}, token=None, headers=headers)


async def reset(client: Client, token: Any, password: Any = NEW, **options: Any) -> Reply:
    return await client.post("~/auth/password/reset", {"token": token, "password": password}, token=None, **options)


async def token_for(client: Client, email: str = "ada@example.com") -> str:
    """Asks for a link, and returns its token."""
    assert (await ask(client, email)).status == 200
    return (await links(client))[-1][2]


def refused(answer: Reply) -> tuple[int, int]:
    return answer.status, answer.code


# --- the mail


@ensureDeferred
async def test_a_mail_with_a_link_arrives_and_sets_a_new_password_once(client: Client) -> None:
    user = await make_user(client)
    mailer = Mailer(reactor, MailSettings(timeout=5.0))
    box = Mailbox()
    async with mail_server(box) as port:
        mail_from = "shop@example.com"
        use_project_file(client, mail={"host": "127.0.0.1", "port": port}, mail_from=mail_from)
        async with delivering(client, MailKind(mailer)):
            use_accounts(client, mail_wait=20.0)
            assert (await ask(client, "ADA@EXAMPLE.com")).status == 200
        # The answer has waited for the mail server.
        (message,) = box.messages()
        assert [each.rcpt_tos for each in box.mails] == [["Ada@example.com"]]
        mailer.close()
    assert message["To"] == "Ada <Ada@example.com>"
    assert message["From"].addresses[0].addr_spec == mail_from
    assert message["From"].addresses[0].display_name == "Test"
    assert message["Subject"] == "Choose a new password for Test"
    assert message["Auto-Submitted"] == "auto-generated"
    text, html = (message.get_body((kind,)).get_content() for kind in ("plain", "html"))
    token = text.split("token=")[1].split()[0]
    assert f"token={token}" in html
    assert (await sign_in(client, "ada-secret")).status == 200
    answer = await reset(client, token)
    assert (answer.status, answer.json, answer.headers["cache-control"]) == (200, {"public": True}, "no-store")
    assert (await sign_in(client, "ada-secret")).status == 404
    assert (await sign_in(client, NEW)).status == 200
    assert refused(await reset(client, token, "third-secret")) == (401, 105)
    assert (await sign_in(client, NEW)).status == 200
    # Neither is an activity.
    actions = await rows(client, f"SELECT action FROM directus_activity WHERE action_by = {user} ORDER BY id")
    assert actions == [("authenticate",), ("invalid-credentials",), ("authenticate",), ("authenticate",)]


@pytest.mark.parametrize("seconds", [0.0, 0.2])
@ensureDeferred
async def test_a_request_waits_for_the_mail_server_no_longer_than_the_setting_says(client: Client, seconds: float) -> None:
    await make_user(client)
    use_accounts(client, mail_wait=seconds)
    # Nobody delivers the mail.
    assert (await ask(client)).status == 200
    assert await rows(client, "SELECT state, attempts FROM directus_outbox") == [("pending", 0)]


@ensureDeferred
async def test_the_mail_goes_to_the_address_that_is_stored(client: Client) -> None:
    # PostgreSQL and Python do not agree on what is the lower case of some letters.
    await make_user(client, email="kim@BÜCHER.example")
    assert (await ask(client, "KIM@bücher.example")).status == 200
    ((to, _, _),) = await links(client)
    assert to == "kim@xn--bcher-kva.example"
    for lookalike in ("\u212aim@bücher.example", "kım@bücher.example", "kim@bu\u0308cher.example2"):
        answer = await ask(client, lookalike)
        assert refused(answer) in ((422, 4), (404, 107)), lookalike
    assert len(await links(client)) == 1


@ensureDeferred
async def test_unknown_suspended_and_invited_addresses_are_answered_alike(client: Client) -> None:
    for status in ("suspended", "invited", "draft", "deleted"):
        sql = "INSERT INTO directus_users (email, status) VALUES (%s, %s)"
        await execute(client, sql, (f"{status}@example.com", status))
    await execute(client, "INSERT INTO directus_users (email, status) VALUES ('ä@example.com', 'active')")
    answers = {(await ask(client, f"{name}@example.com")).body for name in ("nobody", "suspended", "invited", "draft", "deleted")}
    assert len(answers) == 1
    assert refused(await ask(client, "nobody@example.com")) == (404, 107)
    assert await rows(client) == []


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"email": None},
        {"email": ""},
        {"email": 1},
        {"email": ["ada@example.com"]},
        {"email": {"a": 1}},
        {"email": "ada"},
        {"email": "ada@example.com\x00"},
        {"email": "ada@example.com\r\nBcc: evil@example.com"},
        {"email": "a" * 200 + "@example.com"},
    ],
)
@ensureDeferred
async def test_what_is_not_an_address_is_refused(client: Client, payload: Any) -> None:
    answer = await client.post("~/auth/password/request", payload, token=None)
    assert refused(answer) == (422, 4)


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The text of each statement that connections run, without values."""
    texts: list[str] = []
    text_of = Connection._text

    def noted(self: Connection, statement: Any, before: str = "", after: str = "") -> str:
        text = text_of(self, statement, before, after)
        if "pg_class" not in text:
            texts.append(text)
        return text

    monkeypatch.setattr(Connection, "_text", noted)
    return texts


@ensureDeferred
async def test_a_server_that_accepts_unknown_addresses_does_the_same_for_all_and_mails_only_who_is_active(
    client: Client, statements: list[str]
) -> None:
    await make_user(client)
    await make_user(client, email="sven@example.com", status="suspended")
    use_accounts(client, unknown_address="accept", mail_wait=5.0)
    await ask(client, "warm-up@example.com")
    done = set()
    for email in ("ada@example.com", "sven@example.com", "nobody@example.com"):
        statements.clear()
        answer = await ask(client, email)
        # What is sent with COMMIT has values.
        done.add((answer.status, answer.body, tuple(re.sub(r"'(?:[^']|'')*'", "?", text) for text in statements)))
    assert len(done) == 1, done
    assert [to for to, _, _ in await links(client)] == ["Ada@example.com"]
    assert await rows(client, 'SELECT count(DISTINCT "user") FROM directus_user_links') == [(1,)]
    assert await rows(client, "SELECT count(*) FROM directus_users WHERE password_reset_token IS NOT NULL") == [(1,)]


@ensureDeferred
async def test_a_user_is_not_flooded_with_mails(client: Client) -> None:
    await make_user(client)
    use_accounts(client, reset_mails_per_hour=3)
    at(client, START)
    answers = await defer.gatherResults([defer.Deferred.fromCoroutine(ask(client)) for _ in range(6)])
    assert {(answer.status, answer.body) for answer in answers} == {(200, b'{"public":true}')}
    tokens = [token for _, _, token in await links(client)]
    assert len(tokens) == 3
    at(client, START + timedelta(minutes=59))
    await ask(client)
    assert len(await links(client)) == 3
    at(client, START + timedelta(minutes=60))
    await ask(client)
    assert len(await links(client)) == 4
    at(client, START + timedelta(minutes=30))
    # Asking again does not make the links of others who have asked before invalid, nor those of the user.
    assert (await reset(client, tokens[0])).status == 200
    assert refused(await reset(client, tokens[1])) == (401, 105)


# --- where the link leads


@ensureDeferred
async def test_the_link_leads_to_the_page_that_is_configured_never_to_the_host_of_the_request(client: Client) -> None:
    await make_user(client)
    port = client.app.services.settings.server.listen[0].split(":")[1]
    evil = {"Host": "evil.example.com", "X-Forwarded-Host": "evil.example.com", "Forwarded": "host=evil.example.com"}
    evil |= {"X-Forwarded-Proto": "https", "Origin": "https://evil.example.com", "Referer": "https://evil.example.com/"}
    await ask(client, headers=evil)
    assert (await links(client))[-1][1] == f"http://localhost:{port}/{client.project}/auth/password/reset"
    services = client.app.services
    settings = evolve(services.settings, server=evolve(services.settings.server, public_url="https://api.example.com/d8/"))
    client.app.services = evolve(services, settings=settings)
    await ask(client, headers=evil)
    assert (await links(client))[-1][1] == f"https://api.example.com/d8/{client.project}/auth/password/reset"
    use_project_file(client, auth={"reset_url": "https://shop.example.com/#/reset?lang=de"})
    await ask(client, headers=evil)
    assert (await links(client))[-1][1] == "https://shop.example.com/#/reset?lang=de"


ALLOWED = [
    "https://shop.example.com/forgot",
    "https://shop.example.com",
    "https://shop.example.com/a?b=c",
    "https://shop.example.com:443/a",
    "HTTPS://Shop.Example.com/forgot#/x",
    "http://localhost:3000/reset",
    "https://api.example.com/x",
]
FORBIDDEN = [
    "https://mail.example.net/forgot",
    "https://evil.example.com/forgot",
    "http://shop.example.com/forgot",
    "https://shop.example.com:444/forgot",
    "https://shop.example.com.evil.com/forgot",
    "https://shop.example.com@evil.com/forgot",
    "https://shop.example.com\\@evil.com/",
    "https://shop.example.com%40evil.com/",
    "https://user:pw@shop.example.com/",
    "//shop.example.com/forgot",
    "https:shop.example.com/forgot",
    "https:///shop.example.com/forgot",
    "/forgot",
    "javascript:alert(1)//https://shop.example.com/",
    "https://shop.example.com/a b",
    "https://shop.example.com/\r\nX: y",
    "https://shop.example.com/\u2028",
    "https://shöp.example.com/",
    "https://shop.example.com\u3002evil.com/",
    "http://localhost:3000@evil.com/",
    "http://localhost:30001/",
    "http://example.org/forgot",
    "https://www.example.org/forgot",
    "https://shop.example.com/" + "x" * 1000,
    "",
    1,
    ["https://shop.example.com/"],
]


@ensureDeferred
async def test_a_caller_may_name_pages_of_allowed_origins_only(client: Client) -> None:
    await make_user(client)
    use_accounts(client, reset_mails_per_hour=100)
    origins = ["https://shop.example.com", "http://localhost:3000"]
    use_project_file(client, auth={"redirect_origins": origins}, mail_from="shop@mail.example.net")
    services = client.app.services
    settings = evolve(services.settings, server=evolve(services.settings.server, public_url="https://api.example.com/d8"))
    client.app.services = evolve(services, settings=settings)
    for page in ALLOWED:
        assert (await ask(client, reset_url=page)).status == 200, page
        assert (await links(client))[-1][1] == page
    for page in FORBIDDEN:
        # Before the address is looked at, so that it tells nothing of it.
        for email in ("ada@example.com", "nobody@example.com"):
            answer = await ask(client, email, reset_url=page)
            assert refused(answer) == (422, 4), page
            assert "auth.redirect_origins" in answer.json["error"]["message"]
    assert len(await links(client)) == len(ALLOWED)
    use_project_file(client, auth={}, mail_from="")
    for page in ALLOWED[:-1]:
        assert refused(await ask(client, reset_url=page)) == (422, 4), page
    # A project that names no origins allows the domain of its mails.
    use_project_file(client, auth={}, mail_from="shop@example.org")
    assert (await ask(client, reset_url="https://example.org/forgot")).status == 200
    for page in ALLOWED[:-1] + FORBIDDEN:
        assert refused(await ask(client, reset_url=page)) == (422, 4), page


@pytest.mark.parametrize(
    "wrong",
    ["shop.example.com", "javascript:alert(1)", "https://a@b.example/", "https://b.example/ x", "//b.example", 1, ["https://b"]],
)
@ensureDeferred
async def test_a_page_in_the_project_file_that_cannot_be_used_is_a_mistake(client: Client, wrong: Any) -> None:
    await make_user(client)
    for name in ("reset_url", "invite_url"):
        project = {"project": "other", "user_email": "a@example.com", "user_password": "p", "auth": {name: wrong}}
        answer = await client.post("/server/projects", project | {"super_admin_token": SUPER_ADMIN_TOKEN}, token=None)
        assert refused(answer) == (422, 4)
        assert f"auth.{name}" in answer.json["error"]["message"]
    path = client.backend.projects.files.directory / f"{client.project}.toml"
    path.write_text(f"{path.read_text()}\n[auth]\nreset_url = {json.dumps(wrong)}\n")
    (mistake,) = project_problems(client.app.services.settings)
    assert "auth.reset_url" in mistake
    # The page of the server takes its place.
    await ask(client)
    assert (await links(client))[-1][1].endswith(f"/{client.project}/auth/password/reset")


def test_the_token_is_the_last_parameter_of_a_page() -> None:
    assert with_token("https://a/b", "t") == "https://a/b?token=t"
    assert with_token("https://a/b?c=d", "t") == "https://a/b?c=d&token=t"
    assert with_token("https://a/b#/c", "t") == "https://a/b#/c?token=t"
    assert with_token("https://a/b?c=d#/e?f", "t") == "https://a/b?c=d#/e?f&token=t"


def test_the_url_of_the_server_is_that_of_the_settings_or_localhost(settings: Settings) -> None:
    def url(*listen: str, public: str = "") -> str:
        return public_url(evolve(settings.server, listen=listen, public_url=public))

    assert url("tcp:8080") == "http://localhost:8080"
    assert url("unix:/run/d", "ssl:port=8443:privateKey=x") == "https://localhost:8443"
    assert url("unix:/run/d") == "http://localhost"
    assert url("tcp:8080", public="https://api.example.com/") == "https://api.example.com"


def test_the_mail_says_until_when_in_the_time_zone_of_the_user() -> None:
    time = datetime.fromisoformat("2026-03-29T00:30:00+00:00")
    assert shown_time(time, "UTC") == "2026-03-29 00:30 UTC"
    assert shown_time(time, "Europe/Berlin") == "2026-03-29 01:30 CET"
    assert shown_time(time + timedelta(hours=1), "Europe/Berlin") == "2026-03-29 03:30 CEST"
    assert shown_time(time, "America/New_York") == "2026-03-28 20:30 EDT"
    for wrong in ("Moon/Base", "", "../../etc/passwd", "/etc/passwd", "Europe", "a\x00b"):
        assert shown_time(time, wrong) == "2026-03-29 00:30 UTC"


@ensureDeferred
async def test_the_mail_of_a_user_in_another_time_zone(client: Client) -> None:
    await make_user(client, timezone="Asia/Kathmandu", first_name="<b>", last_name="\r\nBcc: x@example.com")
    at(client, datetime.fromisoformat("2026-11-27T12:00:00+00:00"))
    await ask(client)
    ((_, message),) = await mails(client)
    body = message.get_body(("plain",))
    assert body is not None
    assert "2026-11-27 18:45 +0545" in body.get_content()
    assert message["Bcc"] is None


# --- what the token is worth


@ensureDeferred
async def test_the_database_does_not_hold_what_a_link_needs(client: Client) -> None:
    user = await make_user(client)
    token = await token_for(client)
    for table in ("directus_users", "directus_user_links", "directus_outbox"):
        dump = repr(await rows(client, f"SELECT row_to_json(t)::text FROM {table} AS t"))
        assert token not in dump
        assert token.rpartition(".")[2] not in dump
    shown = (await client.get(f"~/users/{user}?fields=password_reset_token")).data["password_reset_token"]
    assert jwt.decode(shown, options={"verify_signature": False})["type"] == "reset_password"
    assert refused(await reset(client, shown)) == (401, 104)
    assert (await reset(client, token)).status == 200
    assert (await client.get(f"~/users/{user}?fields=password_reset_token")).data["password_reset_token"] is None


@ensureDeferred
async def test_the_token_opens_nothing_else(client: Client) -> None:
    await make_user(client)
    token = await token_for(client)
    assert (await client.get("~/users/me?fields=id", token=token)).status == 401
    assert refused(await client.post("~/auth/refresh", {"token": token}, token=None)) == (401, 101)
    assert refused(await client.post(f"~/users/invite/{token}", {}, token=None)) == (401, 101)


def forged(client: Client, token: str, **changes: Any) -> Iterator[str]:
    """Tokens that are signed like a link, or not, and are none."""
    project = client.backend.projects.get(client.project)
    claims = jwt.decode(token, options={"verify_signature": False})
    for changed in ({"type": "auth"}, {"type": "invitation"}, {"project": "other"}, {"id": 1}, {"id": "2"}, {"exp": "never"}):
        yield jwt.encode(claims | changed, project.keys.current, "HS256")
    yield jwt.encode(claims, "another-key-of-thirty-two-characters", "HS256")
    yield jwt.encode(claims, None, "none")  # type: ignore[arg-type]
    yield jwt.encode({name: value for name, value in claims.items() if name != "exp"}, project.keys.current, "HS256")


@ensureDeferred
async def test_forged_tokens_are_refused(client: Client) -> None:
    await make_user(client)
    token = await token_for(client)
    for each in (*forged(client, token), "nonsense", "a.b.c", token[:-2], token + "x", "x" * 10_000):
        assert refused(await reset(client, each)) in ((401, 104), (401, 105)), each
    for each in (None, "", 1, ["x"], {}):
        assert refused(await reset(client, each)) == (422, 4)
        assert refused(await reset(client, token, each)) == (422, 4)
    assert (await reset(client, token)).status == 200


@ensureDeferred
async def test_a_token_of_another_project_is_refused(client: Client) -> None:
    await make_user(client)
    token = await token_for(client)
    first, other = client.project, f"t{secrets.token_hex(4)}"
    await other_project(client, other)
    client.project = other
    await execute(client, "UPDATE directus_users SET token = %s", (TOKEN,))
    await make_user(client)
    assert refused(await reset(client, token)) == (401, 104)
    client.project = first
    assert (await reset(client, token)).status == 200


@ensureDeferred
async def test_a_token_expires(client: Client) -> None:
    await make_user(client)
    use_accounts(client, reset_minutes=10)
    at(client, START)
    token = await token_for(client)
    at(client, START + timedelta(minutes=10))
    assert refused(await reset(client, token)) == (401, 102)
    at(client, START + timedelta(minutes=10) - timedelta(seconds=1))
    assert (await reset(client, token)).status == 200


@ensureDeferred
async def test_a_token_is_valid_with_a_new_secret_key_until_the_former_one_is_forgotten(client: Client) -> None:
    await make_user(client)
    token = await token_for(client)
    project = client.backend.projects.get(client.project)
    former = project.keys
    project.keys = evolve(former, current="k" * 43, former=())
    assert refused(await reset(client, token)) == (401, 104)
    project.keys = evolve(former, current="k" * 43, former=(former.current,))
    assert (await reset(client, token)).status == 200


@ensureDeferred
async def test_a_token_that_is_used_twice_at_once_works_once(client: Client) -> None:
    await make_user(client)
    token = await token_for(client)
    names = [f"secret-{number}" for number in range(4)]
    answers = await defer.gatherResults([defer.Deferred.fromCoroutine(reset(client, token, name)) for name in names])
    assert sorted(answer.status for answer in answers) == [200, 401, 401, 401]
    assert {answer.code for answer in answers if answer.status == 401} == {105}
    (winner,) = (name for name, answer in zip(names, answers, strict=True) if answer.status == 200)
    assert (await sign_in(client, winner)).status == 200


@pytest.mark.parametrize(
    "change",
    [
        {"password": "set-by-somebody"},
        {"email": "other@example.com"},
        {"status": "suspended"},
        {"password_reset_token": None},
        {"password_reset_token": "abc"},
        {"status": "deleted"},
    ],
)
@ensureDeferred
async def test_a_token_is_invalid_after_the_account_has_changed(client: Client, change: Any) -> None:
    user = await make_user(client)
    token = await token_for(client)
    assert (await client.patch(f"~/users/{user}", {"title": "x", "role": None})).status == 200
    assert (await client.patch(f"~/users/{user}", change)).status in (200, 204)
    if "status" in change:
        await execute(client, "UPDATE directus_users SET status = 'active' WHERE id = %s", (user,))
    assert refused(await reset(client, token)) == (401, 105)
    ((shown,),) = await execute(client, "SELECT password_reset_token FROM directus_users WHERE id = %s", (user,))
    assert shown == change.get("password_reset_token")


@ensureDeferred
async def test_a_token_is_invalid_for_a_user_who_is_gone_or_suspended_by_another_program(client: Client) -> None:
    user = await make_user(client)
    token = await token_for(client)
    await execute(client, "UPDATE directus_users SET status = 'suspended' WHERE id = %s", (user,))
    assert refused(await reset(client, token)) == (401, 105)
    await client.delete(f"~/users/{user}")
    assert refused(await reset(client, token)) == (401, 105)
    assert await rows(client, "SELECT FROM directus_user_links") == []


@ensureDeferred
async def test_a_reset_ends_all_sessions_and_leaves_two_factor_authentication_and_static_tokens(client: Client) -> None:
    user = await make_user(client, token="ada-token")
    await execute(client, """UPDATE directus_users SET "2fa_secret" = 'JBSWY3DPEHPK3PXP' WHERE id = %s""", (user,))
    token = await token_for(client)
    await execute(
        client,
        'INSERT INTO directus_user_sessions ("user", token_type, token, token_expired_at) SELECT %s, t, t, %s FROM unnest(%s) AS t',
        (user, START + timedelta(days=1), ["cookie", "jwt"]),
    )
    assert (await reset(client, token)).status == 200
    assert await rows(client, f'SELECT FROM directus_user_sessions WHERE "user" = {user}') == []
    ((secret,),) = await execute(client, """SELECT "2fa_secret" IS NOT NULL FROM directus_users WHERE id = %s""", (user,))
    assert secret
    assert (await client.get("~/users/me?fields=id", token="ada-token")).data == {"id": user}


@ensureDeferred
async def test_a_reset_obeys_the_addresses_of_the_role(client: Client) -> None:
    role = await make_role(client, ip_whitelist=["192.0.2.1"])
    await make_user(client, role=role)
    token = await token_for(client)
    assert refused(await reset(client, token)) == (401, 19)
    assert (await client.patch(f"~/roles/{role}", {"ip_whitelist": ["192.0.2.1", "127.0.0.1"]})).status == 200
    assert (await reset(client, token)).status == 200


@ensureDeferred
async def test_a_reset_obeys_the_password_policy_and_the_token_stays_valid(client: Client) -> None:
    user = await make_user(client, password="long-enough")
    token = await token_for(client)
    await set_setting(client, "password_policy", "/^.{8,}$/")
    assert refused(await reset(client, token, "short")) == (422, 4)
    assert (await reset(client, token, "x" * 5000)).status == 422
    # An expression that takes too long for a value refuses it.
    await set_setting(client, "password_policy", "/^(a+)+$/")
    assert refused(await reset(client, token, "a" * 40 + "b")) == (422, 4)
    await set_setting(client, "password_policy", "")
    assert (await reset(client, token)).status == 200
    # A reset leaves no revision.
    assert len((await client.get(f"~/users/{user}/revisions")).data) == 1


@ensureDeferred
async def test_a_user_who_may_change_nothing_can_choose_a_new_password(client: Client) -> None:
    role = await make_role(client)
    await execute(client, "DELETE FROM directus_permissions WHERE role = %s", (role,))
    for each in (role, None):
        await make_user(client, role=each, email=f"u{each}@example.com")
        assert (await reset(client, await token_for(client, f"u{each}@example.com"))).status == 200
        assert (await sign_in(client, NEW, f"u{each}@example.com")).status == 200


@ensureDeferred
async def test_a_link_survives_a_sign_in_that_replaces_the_hash(client: Client) -> None:
    user = await make_user(client)
    await execute(client, "UPDATE directus_users SET password = %s WHERE id = %s", (hashes.hash_bcrypt("old-secret", 4), user))
    token = await token_for(client)
    assert (await sign_in(client, "old-secret")).status == 200
    assert (await reset(client, token)).status == 200


@pytest.mark.parametrize("path", ["auth/password/reset", "users/invite"])
@ensureDeferred
async def test_the_pages_run_no_script_but_their_own_and_tell_nobody_the_token(client: Client, path: str) -> None:
    answer = await client.get(f"~/{path}?token=<script>t0ken", token=None, headers={"Accept": "text/html"})
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    html = answer.body.decode()
    assert "t0ken" not in html
    (script,) = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = answer.headers["content-security-policy"]
    assert f"script-src 'sha256-{digest}';" in policy
    for each in ("default-src 'none'", "form-action 'none'", "frame-ancestors 'none'", "base-uri 'none'", "connect-src 'self'"):
        assert each in policy
    assert (answer.headers["referrer-policy"], answer.headers["cache-control"]) == ("no-referrer", "no-store")


@ensureDeferred
async def test_the_form_of_a_page_can_be_sent_without_json(client: Client) -> None:
    await make_user(client)
    token = await token_for(client)
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    body = f"token={token}&password={NEW}".encode()
    assert (await client.call("POST", "~/auth/password/reset", body, token=None, headers=headers)).status == 200


@ensureDeferred
async def test_expired_links_are_removed(client: Client) -> None:
    await make_user(client)
    at(client, START)
    token = await token_for(client)
    for later, left in ((timedelta(hours=2), 1), (timedelta(days=1), 0)):
        at(client, START + later)
        await remove_expired(reactor, client.backend.projects, client.app.services.now)
        assert len(await rows(client, "SELECT FROM directus_user_links")) == left
    assert refused(await reset(client, token)) == (401, 102)
