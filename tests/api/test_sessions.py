"""Sessions: what a cookie and a JWT are worth, for whom, and until when."""

import hashlib
import http.cookies
from datetime import datetime, timedelta
from typing import Any

import jwt
import pytest
from attrs import evolve
from pytest_twisted import ensureDeferred
from twisted.internet import defer, reactor
from twisted.internet.task import deferLater

from directus_tx.accounts import hashes, sessions
from directus_tx.config import SessionSettings
from directus_tx.context import current_time
from directus_tx.db.connection import Connection
from directus_tx.db.session import Session
from directus_tx.http.client import Proxies
from directus_tx.http.cookies import Cookies
from directus_tx.jobs.sessions import remove_expired
from tests.api.accounts import without_session
from tests.conftest import SUPER_ADMIN_TOKEN, TOKEN, Client, Reply, limited_role

ADA = {"email": "ada@example.com", "password": "ada-secret", "status": "active", "role": 1}
ME = "~/users/me?fields=id"
FOREIGN = "http://evil.example.com"
NAMED = "http://shop.example.com"


async def execute(client: Client, statement: str, parameters: Any = ()) -> Any:
    session = Session(client.backend.projects.get(client.project).database)
    return await session.transaction(lambda session: session.query(statement, parameters))


async def make_ada(client: Client, **more: Any) -> int:
    answer = await client.post("~/users?fields=id", ADA | more)
    assert answer.status == 200, answer.body
    return answer.data["id"]


async def sign_in(client: Client, mode: str = "jwt", *, password: str = "ada-secret", **headers: str) -> Reply:
    body = {"email": "ada@example.com", "password": password, "mode": mode}
    answer = await client.post("~/auth/authenticate", body, token=None, headers=headers)
    assert answer.status == 200, answer.body
    return answer


def set_cookie(answer: Reply) -> http.cookies.Morsel[str]:
    """The cookie that an answer sets."""
    ((_, morsel),) = http.cookies.SimpleCookie(answer.headers["set-cookie"]).items()
    return morsel


async def cookie_of(client: Client, **options: Any) -> str:
    """The header Cookie after a sign-in."""
    morsel = set_cookie(await sign_in(client, "cookie", **options))
    return f"{morsel.key}={morsel.value}"


async def status(client: Client, cookie: str, path: str = ME, method: str = "GET", body: Any = ..., **headers: str) -> int:
    sent = {"Cookie": cookie} | {name.replace("_", "-"): value for name, value in headers.items()}
    return (await client.call(method, path, body, token=None, headers=sent)).status


async def listed(client: Client, token: str | None = None, **headers: str) -> Any:
    return (await client.get("~/auth/sessions", token=token, headers=headers)).json.get("data")


def at(client: Client, now: datetime) -> None:
    """Sets the clock of the server."""
    client.app.services = evolve(client.app.services, now=lambda: now)


async def set_setting(client: Client, key: str, value: Any) -> None:
    ((id,),) = await execute(client, "SELECT id FROM directus_settings WHERE key = %s", (key,))
    assert (await client.patch(f"~/settings/{id}", {"value": value})).status == 200


async def name_origins(client: Client, *origins: str) -> None:
    """Has the project name the origins that may send credentials."""
    files = client.backend.projects.files
    path = files.directory / f"{client.project}.toml"
    path.write_text(path.read_text() + f"\n[cors]\norigin = {list(origins)!r}\n")


# --- what is stored


@ensureDeferred
async def test_the_database_holds_hashes_of_cookies_and_tokens(client: Client) -> None:
    user = await make_ada(client)
    token = (await sign_in(client, **{"User-Agent": "a browser"})).data["token"]
    cookie = set_cookie(await sign_in(client, "cookie")).value
    rows = await execute(
        client, 'SELECT "user", token_type, token, ip_address, user_agent FROM directus_user_sessions ORDER BY id'
    )
    assert rows == [
        (user, kind, hashlib.sha256(text.encode()).hexdigest(), "127.0.0.1", agent)
        for kind, text, agent in (("jwt", token, "a browser"), ("cookie", cookie, ""))
    ]
    # The hash is not the cookie.
    assert await status(client, f"directus-{client.project}-session={rows[1][2]}") == 401


@ensureDeferred
async def test_a_cookie_is_for_browsers_alone_and_no_cache_keeps_it(client: Client) -> None:
    await make_ada(client)
    answer = await sign_in(client, "cookie")
    morsel = set_cookie(answer)
    assert (morsel.key, morsel["path"], morsel["httponly"], morsel["samesite"], morsel["secure"], morsel["max-age"]) == (
        *(f"directus-{client.project}-session", "/", True, "Lax", "", str(10080 * 60)),
    )
    assert answer.headers["cache-control"] == "no-store"
    assert "token" not in answer.data
    for token in (None, (await sign_in(client)).data["token"]):
        for path in ("~/auth/check", "~/auth/sessions"):
            assert (await client.get(path, token=token)).headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("chosen", "forwarded", "attributes"),
    [
        (SessionSettings(), None, "SameSite=Lax"),
        (SessionSettings(), "https", "SameSite=Lax; Secure"),
        (SessionSettings(), "HTTPS, http", "SameSite=Lax; Secure"),
        (SessionSettings(), "http, https", "SameSite=Lax"),
        (SessionSettings(), "nonsense", "SameSite=Lax"),
        (SessionSettings(secure="always"), None, "SameSite=Lax; Secure"),
        (SessionSettings(same_site="strict"), None, "SameSite=Strict"),
        # Browsers refuse such a cookie without Secure.
        (SessionSettings(same_site="none"), None, "SameSite=None; Secure"),
    ],
)
@ensureDeferred
async def test_a_cookie_has_the_configured_attributes(
    client: Client, chosen: SessionSettings, forwarded: str | None, attributes: str
) -> None:
    await make_ada(client)
    headers = {} if forwarded is None else {"X-Forwarded-Proto": forwarded}
    client.app.services = evolve(client.app.services, cookies=Cookies(chosen, Proxies(["127.0.0.1"])))
    assert (await sign_in(client, "cookie", **headers)).headers["set-cookie"].endswith(f"; Path=/; HttpOnly; {attributes}")
    # Of an address that is not trusted, X-Forwarded-Proto says nothing.
    client.app.services = evolve(client.app.services, cookies=Cookies(chosen, Proxies([])))
    configured = chosen.secure == "always" or chosen.same_site == "none"
    assert ("Secure" in (await sign_in(client, "cookie", **headers)).headers["set-cookie"]) == configured


# --- which cookie counts


@ensureDeferred
async def test_only_the_cookie_of_the_project_counts(client: Client) -> None:
    await make_ada(client)
    cookie = await cookie_of(client)
    name, _, value = cookie.partition("=")
    good = (
        cookie,
        f'{name}="{value}"',
        f"a=b;{cookie}",
        f"{cookie};{cookie}",
        f" {cookie} ",
        f"x{name}=y; {cookie}; =",
        f";;{cookie}",
    )
    for text in good:
        assert await status(client, text) == 200, text
    bad = (
        *(f"{name.upper()}={value}", f"{name}={value.swapcase()}", f"{name}={value}x", f"{name}={value[:-1]}", f"{name}=", name),
        *(f"{name} x={value}", f"{name}=%00{value}", f"{name}={value}\u00e9", f"{name}={'x' * 8000}", "=" * 4000, ";" * 4000),
        # A page of another host of the domain may have set one of them.
        *(f"{cookie}; {name}={'x' * 43}", f"{name}={'x' * 43}; {cookie}", f"{name}=; {cookie}"),
    )
    for text in bad:
        assert await status(client, text) == 401, text[:80]
    assert await status(client, cookie) == 200


@ensureDeferred
async def test_a_cookie_of_another_project_does_not_count(client: Client) -> None:
    await make_ada(client)
    cookie = await cookie_of(client)
    other = f"{client.project}o"
    body = {"project": other, "super_admin_token": SUPER_ADMIN_TOKEN, "user_email": "b@example.com", "user_password": "password"}
    assert (await client.post("/server/projects", body, token=None)).status == 200
    value = cookie.partition("=")[2]
    assert await status(client, f"directus-{other}-session={value}", f"/{other}/users/me") == 401
    assert await status(client, cookie, f"/{other}/users/me") == 401
    assert await status(client, f"directus-{other}-session={value}; {cookie}") == 200


@ensureDeferred
async def test_a_token_comes_before_the_cookie_also_if_it_is_invalid(client: Client) -> None:
    user = await make_ada(client)
    cookie = await cookie_of(client)
    sent = {"Cookie": cookie}
    assert (await client.get(ME, headers=sent)).data == {"id": 1}
    assert (await client.get(ME, token="nonsense", headers=sent)).status == 401
    assert (await client.get(f"{ME}&access_token=nonsense", token=None, headers=sent)).status == 401
    answer = await client.get(ME, token=None, headers=sent | {"Authorization": "Digest x"})
    assert (answer.data, set_cookie(answer).value) == ({"id": user}, cookie.partition("=")[2])
    assert "set-cookie" not in (await client.get(ME, headers=sent)).headers


@ensureDeferred
async def test_every_answer_to_a_cookie_sets_it_again_errors_too(client: Client) -> None:
    await make_ada(client)
    cookie = await cookie_of(client)
    etag = (await client.get("~/users/1", token=None, headers={"Cookie": cookie})).headers["etag"]
    for method, path, body, headers, wanted in (
        ("GET", "~/users/1", ..., {"If-None-Match": etag}, 304),
        ("GET", "~/users/99", ..., {}, 404),
        ("GET", "~/users?filter[nope]=1", ..., {}, 422),
        ("POST", "~/folders", b"{", {"Content-Type": "application/json"}, 400),
        ("POST", "~/folders", {"name": "made"}, {}, 200),
        ("DELETE", "~/folders/1", ..., {}, 204),
        ("GET", f"/types?project={client.project}", ..., {}, 200),
    ):
        answer = await client.call(method, path, body, token=None, headers={"Cookie": cookie} | headers)
        assert answer.status == wanted, (path, answer.body)
        assert answer.headers["set-cookie"].startswith(f"{cookie}; "), path


@ensureDeferred
async def test_a_cookie_identifies_the_sender_of_a_large_body(client: Client) -> None:
    await make_ada(client)
    cookie = await cookie_of(client)
    size = client.app.payloads.public.size + 1
    body = b'{"name": "large"' + b" " * size + b"}"
    headers = {"Content-Type": "application/json"}
    assert (await client.post("~/folders", body, token=None, headers=headers | {"Cookie": cookie})).status == 200
    assert (await client.post("~/folders", body, token=None, headers=headers | {"Cookie": cookie[:-1]})).status == 413


# --- pages of other origins


@ensureDeferred
async def test_a_page_of_a_foreign_origin_is_the_public_whatever_cookie_its_browser_sends(client: Client) -> None:
    await make_ada(client)
    cookie = await cookie_of(client)
    own = client.base
    allowed = [
        {},
        {"Origin": own},
        {"Sec_Fetch_Site": "same-origin"},
        # A proxy that passes another Host.
        {"Sec_Fetch_Site": "same-origin", "Origin": "https://behind.example.com"},
        {"Sec_Fetch_Site": "none"},
    ]
    refused = [
        {"Origin": origin} for origin in (FOREIGN, NAMED, "null", "", own + "0", own.replace("http", "https"), own + "/", "*")
    ]
    refused += [{"Sec_Fetch_Site": site, "Origin": FOREIGN} for site in ("cross-site", "same-site", "none", "nonsense")]
    folder = {"name": "x"}
    for headers in allowed:
        assert await status(client, cookie, **headers) == 200, headers
        assert await status(client, cookie, "~/folders", "POST", folder, **headers) == 200, headers
    for headers in refused:
        assert await status(client, cookie, **headers) == 401, headers
        assert await status(client, cookie, "~/folders", "POST", folder, **headers) == 403, headers
    # A form of an old browser sends no Origin; a link to an answer does not either, and can be followed.
    for site in ("cross-site", "same-site"):
        assert await status(client, cookie, "~/folders", "POST", folder, Sec_Fetch_Site=site) == 403
        assert await status(client, cookie, Sec_Fetch_Site=site) == 200
    # A token is nothing that a browser sends by itself.
    assert (await client.post("~/folders", folder, headers={"Origin": FOREIGN})).status == 200


@ensureDeferred
async def test_a_page_of_an_origin_that_the_project_names_may_use_cookies(client: Client) -> None:
    await make_ada(client)
    await name_origins(client, NAMED, "http://other.example.com")
    cookie = await cookie_of(client, Origin=NAMED)
    for site in ("same-site", "cross-site"):
        sent = {"Origin": NAMED, "Sec_Fetch_Site": site}
        assert await status(client, cookie, "~/folders", "POST", {"name": "x"}, **sent) == 200
    answer = await client.get(ME, token=None, headers={"Cookie": cookie, "Origin": NAMED})
    assert (answer.headers["access-control-allow-origin"], answer.headers["access-control-allow-credentials"]) == (NAMED, "true")
    answer = await client.get(ME, token=None, headers={"Cookie": cookie, "Origin": FOREIGN})
    assert answer.status == 401
    assert "access-control-allow-origin" not in answer.headers
    # A cache that keeps an answer asks anew for a page of another origin.
    assert (await client.get("~/", token=None)).headers["vary"] == "Origin"
    assert await status(client, cookie, "~/auth/logout", "POST", {}, Origin=FOREIGN) == 200
    assert await status(client, cookie) == 200


@ensureDeferred
async def test_a_foreign_page_cannot_sign_its_visitors_in_or_out(client: Client) -> None:
    await make_ada(client)
    body = {"email": "ada@example.com", "password": "ada-secret"}
    for path, mode in (("~/auth/authenticate", {"mode": "cookie"}), ("~/auth/authenticate?mode=cookie", {})):
        answer = await client.post(path, body | mode, token=None, headers={"Origin": FOREIGN})
        assert (answer.status, "set-cookie" in answer.headers) == (401, False)
    assert (await client.post("~/auth/authenticate", body, token=None, headers={"Origin": FOREIGN})).status == 200
    cookie = await cookie_of(client)
    for path in ("~/auth/logout", "~/auth/logout/2", "~/auth/logout/2/2"):
        answer = await client.post(path, {}, token=None, headers={"Origin": FOREIGN, "Cookie": cookie})
        assert "set-cookie" not in answer.headers
    assert await status(client, cookie) == 200


# --- expiry


@ensureDeferred
async def test_a_cookie_lives_until_it_has_not_been_used_for_auto_sign_out(client: Client) -> None:
    await make_ada(client)
    await set_setting(client, "auto_sign_out", 60)
    start = current_time()
    cookies = [await cookie_of(client) for _ in range(2)]
    for minutes in (30, 59, 118, 177):
        at(client, start + timedelta(minutes=minutes))
        assert await status(client, cookies[0]) == 200, minutes
    # Also where the bearers are not known.
    client.backend.projects.get(client.project).accounts.clear()
    assert await status(client, cookies[0]) == 200
    assert await status(client, cookies[1]) == 401
    at(client, start + timedelta(minutes=177 + 60))
    assert await status(client, cookies[0]) == 401
    assert (await client.get("~/auth/check", token=None, headers={"Cookie": cookies[0]})).data == {"authenticated": False}
    # A clock that is set back: the session had not ended then.
    at(client, start + timedelta(minutes=200))
    assert await status(client, cookies[0]) == 200


@pytest.mark.parametrize(
    ("value", "minutes"), [("1", 1), ("0", None), ("", None), ("-5", None), ("ten", None), ("99999999999", None)]
)
@ensureDeferred
async def test_auto_sign_out_is_in_minutes_without_it_ten_years(client: Client, value: str, minutes: int | None) -> None:
    await make_ada(client)
    await execute(client, "UPDATE directus_settings SET value = %s WHERE key = 'auto_sign_out'", (value,))
    project = client.backend.projects.get(client.project)
    await project.verified(await project.snapshot())
    lasts = timedelta(minutes=minutes) if minutes else timedelta(days=3650)
    answer = await sign_in(client, "cookie")
    assert set_cookie(answer)["max-age"] == str(int(lasts.total_seconds()))
    ((ends,),) = await execute(client, "SELECT (token_expired_at - created_on)::text FROM directus_user_sessions")
    assert ends == ("00:01:00" if minutes else "3650 days")


@ensureDeferred
async def test_a_lower_auto_sign_out_holds_for_sessions_that_are_open(client: Client) -> None:
    await make_ada(client)
    start = current_time()
    cookie = await cookie_of(client)
    await set_setting(client, "auto_sign_out", 5)
    assert await status(client, cookie) == 200
    at(client, start + timedelta(minutes=6))
    assert await status(client, cookie) == 401


@ensureDeferred
async def test_few_uses_of_a_cookie_write_to_the_database(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    await make_ada(client)
    await set_setting(client, "auto_sign_out", 100)
    texts: list[str] = []
    text_of = Connection._text

    def noted(self: Connection, statement: Any, before: str = "", after: str = "") -> str:
        text = text_of(self, statement, before, after)
        if "directus_user_sessions" in text:
            texts.append(text)
        return text

    start = current_time()
    cookie = await cookie_of(client)
    monkeypatch.setattr(Connection, "_text", noted)
    for seconds in (0, 1, 30, 59):
        at(client, start + timedelta(seconds=seconds))
        assert await status(client, cookie) == 200
    # It is looked for once, and not written: a part of a hundred has not passed.
    assert ["UPDATE" in text for text in texts] == [False]
    at(client, start + timedelta(seconds=90))
    assert [await status(client, cookie) for _ in range(5)] == [200] * 5
    assert ["UPDATE" in text for text in texts] == [False, True]
    # At the same time, too.
    at(client, start + timedelta(seconds=300))
    assert await defer.gatherResults([defer.ensureDeferred(status(client, cookie)) for _ in range(8)]) == [200] * 8
    assert len(texts) == 3


@ensureDeferred
async def test_expired_sessions_are_removed_in_batches_and_others_are_kept(client: Client) -> None:
    await make_ada(client)
    cookie = await cookie_of(client)
    await execute(
        client,
        'INSERT INTO directus_user_sessions ("user", token_type, token, token_expired_at)'
        " SELECT 2, 'jwt', n, %s - n * interval '1 second' FROM generate_series(0, 2500) AS n",
        (current_time(),),
    )
    projects = client.backend.projects
    assert await remove_expired(reactor, projects, current_time) == {client.project: 2501}
    assert await remove_expired(reactor, projects, current_time) == {client.project: 0}
    assert await status(client, cookie) == 200
    later = current_time() + timedelta(days=8)
    assert await remove_expired(reactor, projects, lambda: later) == {client.project: 1}
    assert await status(client, cookie) == 401


# --- ending sessions


@ensureDeferred
async def test_logging_out_ends_one_session_and_tells_the_browser(client: Client) -> None:
    await make_ada(client)
    first, second = await cookie_of(client), await cookie_of(client)
    assert [await status(client, cookie) for cookie in (first, second)] == [200, 200]
    answer = await client.post("~/auth/logout", {}, token=None, headers={"Cookie": first})
    assert (answer.json, set_cookie(answer).value, set_cookie(answer)["max-age"]) == ({"public": True}, "", "0")
    assert [await status(client, cookie) for cookie in (first, second)] == [401, 200]


@ensureDeferred
async def test_a_token_of_a_session_that_was_ended_cannot_be_refreshed(client: Client) -> None:
    user = await make_ada(client)

    async def refreshed(token: str) -> Reply:
        return await client.post("~/auth/refresh", {"token": token}, token=None)

    async def end(token: str, way: str) -> None:
        if way == "password":
            answer = await client.patch(f"~/users/{user}", {"password": "ada-secret"})
        elif way == "status":
            await client.patch(f"~/users/{user}", {"status": "suspended"})
            answer = await client.patch(f"~/users/{user}", {"status": "active"})
        else:
            answer = await client.post(way, {}, token=token)
        assert answer.status == 200, answer.body

    for way in ("~/auth/logout", f"~/auth/logout/{user}", "password", "status"):
        first = (await sign_in(client)).data["token"]
        other = (await sign_in(client)).data["token"]
        second = (await refreshed(first)).data["token"]
        await end(second, way)
        for token in (first, second):
            ended = 401 if way in ("password", "status") else 200
            assert ((await refreshed(token)).code, (await client.get(ME, token=token)).status) == (101, ended), way
        assert (await refreshed(other)).status == (200 if way == "~/auth/logout" else 401), way


@ensureDeferred
async def test_sessions_that_are_refreshed_last_as_long_as_their_tokens(client: Client) -> None:
    await make_ada(client)
    start = current_time()
    token = (await sign_in(client)).data["token"]
    for minutes in (19, 38, 57):
        at(client, start + timedelta(minutes=minutes))
        await remove_expired(reactor, client.backend.projects, client.app.services.now)
        answers = await defer.gatherResults(
            [defer.ensureDeferred(client.post("~/auth/refresh", {"token": token}, token=None)) for _ in range(4)]
        )
        assert [answer.status for answer in answers] == [200] * 4
        token = answers[0].data["token"]
        # The SDK sends what it is given: the claims of a new token are those of the one before.
        claims = jwt.decode(token, options={"verify_signature": False})
        assert claims["exp"] == int((start + timedelta(minutes=minutes + 20)).timestamp())
    assert len(await execute(client, "SELECT FROM directus_user_sessions")) == 1
    at(client, start + timedelta(minutes=78))
    assert (await client.post("~/auth/refresh", {"token": token}, token=None)).code == 102


@ensureDeferred
async def test_a_token_from_before_sessions_gets_one_when_it_is_refreshed(client: Client) -> None:
    user = await make_ada(client)
    await execute(client, "UPDATE directus_users SET security_stamp = 0 WHERE id = %s", (user,))
    project = client.backend.projects.get(client.project)
    claims = {"id": user, "exp": int(current_time().timestamp()) + 60, "ttl": 20, "type": "auth", "project": project.key}
    old = jwt.encode(claims, project.keys.current, "HS256")
    new = (await client.post("~/auth/refresh", {"token": old}, token=None)).data["token"]
    assert len(await listed(client, new)) == 1
    for wrong in ("1", 1.5, True, [1], {}):
        token = jwt.encode(claims | {"sid": wrong}, project.keys.current, "HS256")
        assert (await client.post("~/auth/refresh", {"token": token}, token=None)).code == 101
        assert (await client.get(ME, token=token)).status == 401


@ensureDeferred
async def test_a_session_of_another_user_refreshes_nothing(client: Client) -> None:
    user = await make_ada(client)
    # So that it is the session that counts.
    await execute(client, "UPDATE directus_users SET security_stamp = 7")
    token = (await sign_in(client)).data["token"]
    project = client.backend.projects.get(client.project)
    claims = jwt.decode(token, options={"verify_signature": False})
    for change in ({"id": 1}, {"sid": claims["sid"] + 1}, {"sid": 2**70}, {"sid": -1}, {"id": user + 5}):
        forged = jwt.encode(claims | change, project.keys.current, "HS256")
        assert (await client.post("~/auth/refresh", {"token": forged}, token=None)).status == 401, change
    cookie = set_cookie(await sign_in(client, "cookie")).value
    assert (await client.post("~/auth/refresh", {"token": cookie}, token=None)).code == 101


@ensureDeferred
async def test_a_new_password_ends_all_other_sessions(client: Client) -> None:
    user = await make_ada(client)
    cookies = [await cookie_of(client) for _ in range(3)]
    assert [await status(client, cookie) for cookie in cookies] == [200] * 3
    answer = await client.patch(f"~/users/{user}", {"password": "new-secret"}, token=None, headers={"Cookie": cookies[1]})
    assert answer.status == 200
    assert [await status(client, cookie) for cookie in cookies] == [401, 200, 401]
    # By somebody else: all of them.
    assert (await client.patch(f"~/users/{user}", {"password": "newer-secret"})).status == 200
    assert await status(client, cookies[1]) == 401
    # What is no new password ends none.
    cookie = await cookie_of(client, password="newer-secret")
    for payload in ({"title": "x"}, {"email": "ada@example.com"}, {"token": "another"}, {"status": "active"}):
        assert (await client.patch(f"~/users/{user}", payload)).status == 200
    assert await status(client, cookie) == 200


@pytest.mark.parametrize("way", [{"status": "suspended"}, {"status": "draft"}, {"status": "deleted"}, None])
@ensureDeferred
async def test_who_is_not_active_any_more_stays_signed_out(client: Client, way: dict[str, str] | None) -> None:
    user = await make_ada(client)
    cookie = await cookie_of(client)
    token = (await sign_in(client)).data["token"]
    assert await status(client, cookie) == 200
    answer = await (client.delete(f"~/users/{user}") if way is None else client.patch(f"~/users/{user}", way))
    assert answer.status in (200, 204), answer.body
    assert await status(client, cookie) == 401
    assert (await client.get("~/auth/check", token=token)).data == {"authenticated": False}
    assert (await client.post("~/auth/refresh", {"token": token}, token=None)).code == (101 if way is None else 103)
    assert await execute(client, "SELECT FROM directus_user_sessions") == []
    if way is not None:
        await execute(client, "UPDATE directus_users SET status = 'active' WHERE id = %s", (user,))
        assert await status(client, cookie) == 401


@ensureDeferred
async def test_a_password_that_changes_during_a_sign_in_leaves_no_session_of_the_former_one(client: Client) -> None:
    """The password is verified, then another one is stored, then the session."""
    user = await make_ada(client)
    hasher = client.backend.hasher
    verify = hasher.verify

    async def slow(*arguments: Any, **options: Any) -> Any:
        found = await verify(*arguments, **options)
        if found.valid:
            hasher.verify = verify  # type: ignore[method-assign]
            assert (await client.patch(f"~/users/{user}", {"password": "new-secret"})).status == 200
        return found

    hasher.verify = slow  # type: ignore[method-assign]
    body = {"email": "ada@example.com", "password": "ada-secret", "mode": "cookie"}
    assert (await client.post("~/auth/authenticate", body, token=None)).code == 100
    assert await execute(client, "SELECT FROM directus_user_sessions") == []


@ensureDeferred
async def test_a_hash_that_is_replaced_by_another_sign_in_meanwhile_does_not_refuse_one(client: Client) -> None:
    """The first sign-in with a bcrypt hash replaces it while the second one verifies it."""
    user = await make_ada(client)
    outdated, newer = hashes.hash_bcrypt("ada-secret", 4), hashes.hash_argon2("ada-secret")
    await execute(client, "UPDATE directus_users SET password = %s WHERE id = %s", (outdated, user))
    hasher = client.backend.hasher
    verify = hasher.verify

    async def slow(*arguments: Any, **options: Any) -> Any:
        found = await verify(*arguments, **options)
        await execute(client, "UPDATE directus_users SET password = %s WHERE id = %s AND password = %s", (newer, user, outdated))
        return found

    hasher.verify = slow  # type: ignore[method-assign]
    assert await status(client, await cookie_of(client)) == 200
    assert len(await execute(client, "SELECT FROM directus_user_sessions")) == 1
    ((count,),) = await execute(client, "SELECT count(*) FROM directus_activity WHERE action = 'authenticate'")
    assert count == 1


@ensureDeferred
async def test_a_session_can_be_ended_by_its_user_and_administrators(client: Client) -> None:
    user = await make_ada(client)
    other = await make_ada(client, email="bob@example.com", role=None)
    cookie = await cookie_of(client)
    (found,) = await listed(client, Cookie=cookie)
    bob = {"email": "bob@example.com", "password": "ada-secret"}
    bob_token = (await client.post("~/auth/authenticate", bob, token=None)).data["token"]
    for path in (f"~/auth/logout/{user}", f"~/auth/logout/{user}/{found['id']}"):
        assert (await client.post(path, {}, token=None)).status == 401
        assert (await client.post(path, {}, token="nonsense")).status == 401
        assert (await client.post(path, {}, token=bob_token)).status == 403
    # Under the number of another user, a session is not found.
    for path in (
        f"~/auth/logout/{other}/{found['id']}",
        "~/auth/logout/99",
        "~/auth/logout/2/99999999999999999999",
        "~/auth/logout/2/x",
    ):
        assert (await client.post(path, {}, token=TOKEN)).status == 200
    for path in ("~/auth/logout/x", "~/auth/logout/-1", "~/auth/logout/1.0", "~/auth/logout/99999999999999999999"):
        assert (await client.post(path, {}, token=TOKEN)).status == 403
    assert await status(client, cookie) == 200
    assert (await client.post(f"~/auth/logout/{user}/{found['id']}", {}, token=TOKEN)).status == 200
    assert await status(client, cookie) == 401


@ensureDeferred
async def test_a_cookie_that_is_used_while_it_is_ended_is_not_brought_back(client: Client) -> None:
    await make_ada(client)
    start = current_time()
    cookie = await cookie_of(client)
    for round in range(1, 4):
        # Each use moves the expiry.
        at(client, start + timedelta(hours=3 * round))
        uses = [defer.ensureDeferred(status(client, cookie)) for _ in range(6)]
        if round == 3:
            uses.append(defer.ensureDeferred(status(client, cookie, "~/auth/logout", "POST", {})))
        await defer.gatherResults(uses)
    assert await status(client, cookie) == 401
    at(client, start)
    assert await status(client, cookie) == 401
    assert await execute(client, "SELECT FROM directus_user_sessions") == []


@ensureDeferred
async def test_whoever_ends_the_own_session_loses_the_cookie(client: Client) -> None:
    user = await make_ada(client)
    for own in (True, False):
        cookie, other = await cookie_of(client), await cookie_of(client)
        ids = [each["id"] for each in await listed(client, Cookie=cookie)][-2:]
        ended = await client.post(f"~/auth/logout/{user}/{ids[0 if own else 1]}", {}, token=None, headers={"Cookie": cookie})
        assert (set_cookie(ended).value == "", await status(client, cookie), await status(client, other)) == (
            (True, 401, 200) if own else (False, 200, 401)
        )
    ended = await client.post(f"~/auth/logout/{user}", {}, token=None, headers={"Cookie": cookie})
    assert (ended.json, set_cookie(ended).value, await status(client, cookie)) == ({"public": True}, "", 401)


@ensureDeferred
async def test_an_account_that_changes_while_a_cookie_is_looked_for_is_not_cached(client: Client) -> None:
    """The role is taken away after the bearer was read, and before the expiry is moved."""
    user = await make_ada(client)
    project = client.backend.projects.get(client.project)
    await set_setting(client, "auto_sign_out", 60)
    start = current_time()
    cookie = await cookie_of(client)
    at(client, start + timedelta(minutes=10))
    await project.snapshot()
    session = Session(project.database)
    query = Session.query

    async def slow(self: Session, statement: Any, parameters: Any = ()) -> Any:
        found = await query(self, statement, parameters)
        if self is session and "directus_user_sessions" in str(statement):
            version = project.accounts_version
            await execute(client, "UPDATE directus_users SET role = NULL WHERE id = %s", (user,))
            for _ in range(1000):
                if project.accounts_version != version:
                    return found
                await deferLater(reactor, 0.01)
            raise AssertionError("the change is not notified")
        return found

    value = cookie.partition("=")[2]
    Session.query = slow  # type: ignore[method-assign]
    try:
        schema, now = await project.snapshot(), start + timedelta(minutes=10)
        bearer = await sessions.identify(project, session, value, schema, now)
    finally:
        Session.query = query  # type: ignore[method-assign]
    assert bearer is not None
    assert bearer.role == 1
    bearer = await sessions.identify(project, session, value, schema, now)
    assert bearer is not None
    assert bearer.role is None


@ensureDeferred
async def test_an_expiry_that_cannot_be_written_is_written_by_a_later_use(client: Client) -> None:
    await make_ada(client)
    await set_setting(client, "auto_sign_out", 60)
    start = current_time()
    cookie = await cookie_of(client)
    await execute(client, "ALTER TABLE directus_user_sessions ADD CONSTRAINT refused CHECK (false) NOT VALID")
    at(client, start + timedelta(minutes=50))
    assert await status(client, cookie) == 200
    at(client, start + timedelta(minutes=61))
    assert await status(client, cookie) == 401
    at(client, start + timedelta(minutes=50))
    await execute(client, "ALTER TABLE directus_user_sessions DROP CONSTRAINT refused")
    assert await status(client, cookie) == 200
    at(client, start + timedelta(minutes=109))
    assert await status(client, cookie) == 200


# --- sign-in


@ensureDeferred
async def test_a_static_token_is_made_only_for_those_who_have_none(client: Client) -> None:
    user = await make_ada(client)

    async def token() -> str | None:
        return (await client.get(f"~/users/{user}?fields=token")).data["token"]

    await sign_in(client)
    assert await token() is None
    await cookie_of(client)
    made = await token()
    assert len(made or "") >= 43
    await cookie_of(client)
    assert await token() == made
    assert (await client.get(ME, token=made)).data == {"id": user}


@ensureDeferred
async def test_where_the_database_can_only_be_read_tokens_have_no_session(client: Client) -> None:
    await make_ada(client)
    cookie = await cookie_of(client)
    writing = (await sign_in(client)).data["token"]
    async with limited_role(
        client, *(f'REVOKE {what} ON ALL TABLES IN SCHEMA public FROM "{{role}}"' for what in ("INSERT, UPDATE, DELETE",))
    ):
        await client.backend.projects.get(client.project).verified(await client.backend.projects.get(client.project).snapshot())
        token = (await sign_in(client)).data["token"]
        for each in (writing, token):
            new = (await client.post("~/auth/refresh", {"token": each}, token=None)).data["token"]
            assert (await client.get(ME, token=new)).status == 200
        assert (await client.get("~/auth/check", token=token)).data == {"authenticated": False}
        body = {"email": "ada@example.com", "password": "ada-secret", "mode": "cookie"}
        assert (await client.post("~/auth/authenticate", body, token=None)).code == 23
        # Those from before can be used, but not prolonged.
        at(client, current_time() + timedelta(days=1))
        assert await status(client, cookie) == 200


@pytest.mark.parametrize("lacking", ["UPDATE ON directus_users", "INSERT, UPDATE, DELETE ON directus_user_sessions"])
@ensureDeferred
async def test_where_the_server_may_not_write_sessions_tokens_have_none(client: Client, lacking: str) -> None:
    await make_ada(client)
    async with limited_role(client, f'REVOKE {lacking} FROM "{{role}}"'):
        project = client.backend.projects.get(client.project)
        await project.verified(await project.snapshot())
        token = (await sign_in(client)).data["token"]
        for _ in range(2):
            token = (await client.post("~/auth/refresh", {"token": token}, token=None)).data["token"]
            assert (await client.get(ME, token=token)).status == 200
        body = {"email": "ada@example.com", "password": "ada-secret", "mode": "cookie"}
        assert (await client.post("~/auth/authenticate", body, token=None)).code == 302
    assert len(await execute(client, "SELECT FROM directus_activity WHERE action = 'authenticate'")) == 1


@ensureDeferred
async def test_the_sessions_of_others_are_not_listed(client: Client) -> None:
    user = await make_ada(client)
    cookie = await cookie_of(client)
    token = (await sign_in(client)).data["token"]
    await client.post("~/auth/authenticate", {"email": "admin@example.com", "password": "password"}, token=None)
    for found in (await listed(client, Cookie=cookie), await listed(client, token)):
        assert [(each["user"], each["token_type"]) for each in found] == [(user, "cookie"), (user, "jwt")]
        assert set(found[0]) == set(sessions.SHOWN)
    for nothing in (
        await listed(client),
        await listed(client, TOKEN),
        await listed(client, "x"),
        await listed(client, Origin="a", Cookie=cookie),
    ):
        assert nothing is None


# --- JWTs that end before they expire


async def works(client: Client, *tokens: str) -> list[bool]:
    """Whether each of the tokens identifies its user."""
    answers = [await client.get(ME, token=token) for token in tokens]
    assert {answer.status for answer in answers} <= {200, 401}
    return [answer.status == 200 for answer in answers]


async def refreshed(client: Client, token: str) -> Reply:
    return await client.post("~/auth/refresh", {"token": token}, token=None)


async def by_rest(client: Client, user: int, status: str) -> None:
    assert (await client.patch(f"~/users/{user}", {"status": status})).status == 200


async def by_another_program(client: Client, user: int, status: str) -> None:
    await execute(client, "UPDATE directus_users SET status = %s WHERE id = %s", (status, user))


async def by_scim(client: Client, user: int, status: str) -> None:
    ((external,),) = await execute(client, "SELECT external_id FROM directus_users WHERE id = %s", (user,))
    operations = [{"op": "replace", "path": "active", "value": status == "active"}]
    answer = await client.patch(f"~/scim/v2/Users/{external}", {"Operations": operations})
    assert answer.status == 200, answer.body


async def by_the_user(client: Client, user: int, status: str) -> None:
    """The user suspends the own account, in a session."""
    caller: Any = {} if status == "active" else {"token": None, "headers": {"Cookie": await cookie_of(client)}}
    assert (await client.patch(f"~/users/{user}", {"status": status}, **caller)).status == 200


async def by_failed_sign_ins(client: Client, user: int, status: str) -> None:
    if status == "active":
        await by_rest(client, user, status)
        return
    await set_setting(client, "login_attempts_allowed", 1)
    for code in (100, 103):
        answer = await client.post("~/auth/authenticate", ADA | {"password": "wrong"}, token=None)
        assert answer.code == code


WAYS = [by_rest, by_another_program, by_scim, by_the_user, by_failed_sign_ins]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@ensureDeferred
async def test_what_was_issued_before_a_deactivation_stays_invalid_after_it(client: Client, way: Any) -> None:
    user = await make_ada(client)
    token = (await sign_in(client)).data["token"]
    renewed = (await refreshed(client, token)).data["token"]
    before = [token, renewed, without_session(client, token)]
    cookie = await cookie_of(client)
    assert await works(client, *before) == [True] * 3
    await way(client, user, "suspended")
    assert await works(client, *before) == [False] * 3
    await way(client, user, "active")
    assert await works(client, *before) == [False] * 3
    assert await status(client, cookie) == 401
    assert [(await refreshed(client, each)).code for each in before] == [101] * 3
    assert await execute(client, "SELECT FROM directus_user_sessions") == []
    # Whoever signs in anew is in, with tokens that hold.
    newer = (await sign_in(client)).data["token"]
    assert await works(client, newer, (await refreshed(client, newer)).data["token"], *before) == [True, True, *[False] * 3]


@ensureDeferred
async def test_a_user_with_the_id_of_a_deleted_one_has_none_of_its_sessions(client: Client) -> None:
    for way in ("by the API", "by another program"):
        user = await make_ada(client)
        token, cookie = (await sign_in(client)).data["token"], await cookie_of(client)
        assert await works(client, token) == [True]
        if way == "by the API":
            assert (await client.delete(f"~/users/{user}")).status == 204
        else:
            await execute(client, "DELETE FROM directus_users WHERE id = %s", (user,))
        assert await make_ada(client, id=user, email="b@example.com") == user
        assert await works(client, token) == [False]
        assert await status(client, cookie) == 401
        assert (await refreshed(client, token)).code == 101
        assert (await client.delete(f"~/users/{user}")).status == 204


@ensureDeferred
async def test_a_new_password_ends_all_jwts_but_those_of_the_session_that_sets_it(client: Client) -> None:
    user = await make_ada(client)
    one, two = [(await sign_in(client)).data["token"] for _ in range(2)]
    renewed = (await refreshed(client, one)).data["token"]
    alone = without_session(client, two)
    assert (await client.patch(f"~/users/{user}", {"password": "new-secret"}, token=one)).status == 200
    assert await works(client, one, renewed, two, alone) == [True, True, False, False]
    assert [(await refreshed(client, each)).code for each in (two, alone)] == [101, 101]
    # The session goes on: what is made of its tokens holds as well.
    newest = (await refreshed(client, one)).data["token"]
    assert await works(client, newest) == [True]
    # Another session changes it next.
    three = (await sign_in(client, password="new-secret")).data["token"]
    assert (await client.patch("~/users/me", {"password": "newer-secret"}, token=three)).status == 200
    assert await works(client, one, renewed, newest, three) == [False, False, False, True]
    # By somebody else: all of them.
    assert (await client.patch(f"~/users/{user}", {"password": "newest-secret"})).status == 200
    assert await works(client, three) == [False]
    # What is no new password ends none, nor does a sign-in that replaces an outdated hash.
    four = (await sign_in(client, password="newest-secret")).data["token"]
    for payload in ({"title": "x"}, {"email": "ada@example.com"}, {"token": "another"}, {"status": "active"}):
        assert (await client.patch(f"~/users/{user}", payload)).status == 200
    await execute(client, "UPDATE directus_users SET password = %s WHERE id = %s", (hashes.hash_bcrypt("old", 4), user))
    await sign_in(client, password="old")
    assert await works(client, four) == [True]


@ensureDeferred
async def test_tokens_of_before_security_stamps_are_valid_until_the_account_changes(client: Client) -> None:
    user = await make_ada(client)
    await execute(client, "UPDATE directus_users SET security_stamp = 0 WHERE id = %s", (user,))
    token = (await sign_in(client)).data["token"]
    keys = client.backend.projects.get(client.project).keys
    assert "stamp" not in jwt.decode(token, keys.current, ["HS256"])
    assert await works(client, token) == [True]
    await by_another_program(client, user, "draft")
    await by_another_program(client, user, "active")
    assert await works(client, token) == [False]


@ensureDeferred
async def test_a_token_is_invalid_at_once_where_the_stamp_is_changed_in_the_database(client: Client) -> None:
    user = await make_ada(client)
    token = (await sign_in(client)).data["token"]
    assert await works(client, token) == [True]
    await execute(client, "UPDATE directus_users SET security_stamp = DEFAULT WHERE id = %s", (user,))
    assert await works(client, token) == [False]


@ensureDeferred
async def test_the_security_stamp_is_not_shown(client: Client) -> None:
    user = await make_ada(client)
    shown = (await client.get(f"~/users/{user}?fields=*")).data
    assert not {"security_stamp", "stamp_session"} & shown.keys()
    assert (await client.get(f"~/users/{user}?fields=security_stamp")).status == 422
    assert (await client.get("~/users?filter[security_stamp]=0")).status == 422
    assert (await client.patch(f"~/users/{user}", {"security_stamp": 1})).status == 422
