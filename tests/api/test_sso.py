"""Single sign-on with a provider in a process of its own, which is honest or hostile."""

import http.cookies
import json
import re
import secrets
import urllib.parse
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
import tomli_w
from attrs import evolve, field, frozen, mutable
from pytest_twisted import ensureDeferred
from twisted.internet import defer, reactor, threads
from twisted.internet.task import Clock, deferLater
from twisted.logger import formatEvent, globalLogPublisher
from twisted.web.http_headers import Headers
from zope.interface.verify import verifyObject

from directus_tx.accounts.sso import service
from directus_tx.accounts.sso.interfaces import IAuthenticationProvider
from directus_tx.accounts.sso.oauth import Facebook, GitHub
from directus_tx.accounts.sso.openid import OpenIDConnect, okta
from directus_tx.accounts.sso.requests import Requests
from directus_tx.accounts.sso.service import SingleSignOn
from directus_tx.accounts.sso.settings import sign_on_settings
from directus_tx.checks import project_problems
from directus_tx.config import OutgoingSettings, Settings
from directus_tx.context import current_time
from directus_tx.db.session import Session
from directus_tx.http.client import Proxies
from directus_tx.http.cookies import Cookies
from directus_tx.jobs.sessions import remove_expired
from directus_tx.outgoing.client import Client as Outgoing
from tests.api.test_two_factor import SECRET as TWO_FACTOR
from tests.api.test_two_factor import code as one_time_password
from tests.conftest import SUPER_ADMIN_TOKEN, Client, Reply, _Received, limited_role
from tests.provider import CLIENT, SECRET, Provider, providing

PAGE = "https://shop.example.com/signed-in?tab=1"
FAILED, REFUSED = "120", "121"


@pytest.fixture(scope="session")
def provider() -> Iterator[Provider]:
    with providing() as found:
        yield found


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """As other tests have them, but requests to this machine are allowed."""
    return evolve(settings, outgoing=OutgoingSettings(allowed_networks=("127.0.0.0/8",)))


async def execute(client: Client, statement: str, parameters: Any = ()) -> Any:
    session = Session(client.backend.projects.get(client.project).database)
    return await session.transaction(lambda session: session.query(statement, parameters))


def configure(client: Client, providers: dict[str, Any], **auth: Any) -> None:
    """Writes the table `auth` of the project file."""
    files = client.backend.projects.files
    path = files.directory / f"{client.project}.toml"
    table = {"auth": {"redirect_origins": ["https://shop.example.com"], "social_providers": providers, **auth}}
    path.write_text(f"{path.read_text().partition('[auth]')[0]}\n{tomli_w.dumps(table)}")


@frozen
class Page:
    """What a browser has got: an answer, and where it leads."""

    status: int
    location: str
    headers: Headers
    reply: Reply

    @property
    def query(self) -> dict[str, str]:
        return dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.location).query))

    @property
    def cookies(self) -> list[str]:
        return list(self.headers.getRawHeaders("Set-Cookie", []))


@mutable
class Browser:
    """A browser: it keeps the cookies of a server and follows its redirects to a provider."""

    client: Client
    cookies: dict[str, str] = field(factory=dict)

    async def request(self, method: str, url: str, body: Any = None, **headers: str) -> Page:
        raw = Headers({name.replace("_", "-"): [value] for name, value in headers.items()})
        if self.cookies and url.startswith(self.client.base):
            raw.setRawHeaders("Cookie", ["; ".join(f"{name}={value}" for name, value in self.cookies.items())])
        response = await self.client.agent.request(method.encode(), url.encode(), raw, body)
        received = _Received()
        response.deliverBody(received)
        found = Reply(response.code, {}, await received.whole)
        page = Page(response.code, response.headers.getRawHeaders("Location", [""])[0], response.headers, found)
        for cookie in page.cookies:
            ((name, morsel),) = http.cookies.SimpleCookie(cookie).items()
            if morsel["max-age"] == "0":
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = morsel.value
        return page

    async def get(self, path: str, **headers: str) -> Page:
        url = path if path.startswith("http") else self.client.base + path.replace("~", f"/{self.client.project}", 1)
        return await self.request("GET", url, **headers)

    async def begin(self, name: str, page: str | None = PAGE, mode: str = "jwt") -> str:
        """Begins a sign-on. Returns the URL with which the provider sends the browser back."""
        query = {"mode": mode} | ({} if page is None else {"redirect_url": page})
        to_provider = await self.get(f"~/auth/sso/{name}?{urllib.parse.urlencode(query)}")
        assert to_provider.status == 302, to_provider.reply.body
        back = await self.get(to_provider.location)
        assert back.status == 302, back.reply.body
        return back.location

    async def sign_on(self, name: str, page: str | None = PAGE, mode: str = "jwt") -> Page:
        """Returns the answer to a whole sign-on."""
        return await self.get(await self.begin(name, page, mode))


@frozen
class Realm:
    """A realm of the provider that a project uses under the name "company"."""

    client: Client
    provider: Provider
    name: str = field(factory=lambda: secrets.token_hex(4))

    @property
    def issuer(self) -> str:
        return f"{self.provider.url}/{self.name}"

    def use(self, **settings: Any) -> None:
        """Configures the project."""
        configure(self.client, {"company": {"client_id": CLIENT, "client_secret": SECRET, "issuer": self.issuer, **settings}})

    async def behave(self, **behaviour: Any) -> None:
        await threads.deferToThread(lambda: self.provider.behave(self.name, **behaviour))

    async def requests(self) -> list[str]:
        return await threads.deferToThread(self.provider.requests, self.name)


@pytest.fixture
def realm(client: Client, provider: Provider) -> Realm:
    found = Realm(client, provider)
    found.use(create_users=True, role=3)
    return found


@pytest.fixture
def browser(client: Client) -> Browser:
    return Browser(client)


async def editors(client: Client) -> None:
    """Makes the role 3."""
    answer = await client.post("~/roles", {"name": "Editors"})
    assert answer.data["id"] == 3


async def exchanged(client: Client, page: Page, **body: Any) -> Reply:
    return await client.post("~/auth/sso/access_token", {"request_token": page.query["request_token"], **body}, token=None)


async def users(client: Client) -> list[tuple[Any, ...]]:
    return await execute(
        client, "SELECT email, status, role, first_name, last_name, password, token FROM directus_users WHERE id > 1 ORDER BY id"
    )


def at(client: Client, now: datetime) -> None:
    """Sets the clock of the server."""
    client.app.services = evolve(client.app.services, now=lambda: now)


# --- signing on


@ensureDeferred
async def test_a_new_user_signs_on_and_gets_a_token_for_the_request_token_once(realm: Realm, browser: Browser) -> None:
    client = realm.client
    await editors(client)
    page = await browser.sign_on("company")
    assert (page.status, page.location.partition("&request_token=")[0]) == (302, PAGE)
    assert await users(client) == [("ada@example.com", "active", 3, "Ada", "Lovelace", None, None)]
    assert page.headers.getRawHeaders("Cache-Control") == ["no-store"]
    # The last one counts.
    assert page.headers.getRawHeaders("Referrer-Policy")[-1] == "no-referrer"
    answer = await exchanged(client, page)
    assert (answer.status, answer.json["public"], list(answer.data)) == (200, True, ["token", "user"])
    assert (answer.data["user"]["id"], answer.data["user"]["email"]) == ("2", "ada@example.com")
    assert answer.headers["cache-control"] == "no-store"
    me = await client.get("~/users/me?fields=email", token=answer.data["token"])
    assert me.data == {"email": "ada@example.com"}
    # The sign-in has a session, and a record.
    assert (await client.get("~/auth/check", token=answer.data["token"])).data == {"authenticated": True}
    actions = await execute(client, "SELECT action, action_by FROM directus_activity ORDER BY id DESC LIMIT 2")
    assert actions == [("authenticate", 2), ("create", 0)]
    again = await exchanged(client, page)
    assert (again.status, again.code) == (401, 109)
    # The second sign-on is that of the same user.
    assert (await exchanged(client, await browser.sign_on("company"))).status == 200
    assert len(await users(client)) == 1


@ensureDeferred
async def test_with_the_mode_cookie_the_callback_sets_a_session_cookie(realm: Realm, browser: Browser) -> None:
    client = realm.client
    await editors(client)
    page = await browser.sign_on("company", mode="cookie")
    assert (page.status, page.location) == (302, PAGE)
    session = f"directus-{client.project}-session"
    assert list(browser.cookies) == [session]
    (set_cookie,) = [each for each in page.cookies if each.startswith(session)]
    assert set_cookie.endswith("; Path=/; HttpOnly; SameSite=Lax")
    assert (await browser.get("~/users/me?fields=email")).reply.data == {"email": "ada@example.com"}


@pytest.mark.parametrize("mode", ["jwt", "cookie"])
@ensureDeferred
async def test_without_a_page_the_callback_answers_as_signing_in_does(realm: Realm, browser: Browser, mode: str) -> None:
    await editors(realm.client)
    page = await browser.sign_on("company", None, mode)
    assert page.status == 200
    if mode == "jwt":
        me = await realm.client.get("~/users/me?fields=email", token=page.reply.data["token"])
    else:
        assert list(page.reply.data) == ["user"]
        me = (await browser.get("~/users/me?fields=email")).reply
    assert me.data == {"email": "ada@example.com"}


@ensureDeferred
async def test_a_request_token_can_be_exchanged_for_a_cookie_by_pages_that_may_use_one(realm: Realm, browser: Browser) -> None:
    client = realm.client
    await editors(client)
    page = await browser.sign_on("company")
    body = {"request_token": page.query["request_token"], "mode": "cookie"}
    foreign = await client.post("~/auth/sso/access_token", body, token=None, headers={"Origin": "https://evil.example.com"})
    assert (foreign.status, foreign.code) == (401, 3)
    answer = await client.post("~/auth/sso/access_token", body, token=None)
    assert (answer.status, list(answer.data)) == (200, ["user"])
    assert answer.headers["set-cookie"].startswith(f"directus-{client.project}-session=")


@ensureDeferred
async def test_a_program_can_exchange_the_code_itself(realm: Realm, browser: Browser) -> None:
    client = realm.client
    await editors(client)
    back = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(await browser.begin("company")).query))
    other = await client.post("~/auth/sso/company", back, token=None)
    assert (other.status, other.code) == (401, 120)
    cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    foreign = await client.post(
        "~/auth/sso/company", back, token=None, headers={"Cookie": cookie, "Origin": "https://evil.example.com"}
    )
    assert (foreign.status, foreign.code) == (401, 3)
    answer = await client.post("~/auth/sso/company", back, token=None, headers={"Cookie": cookie})
    assert (answer.status, list(answer.data)) == (200, ["token", "user"])
    again = await client.post("~/auth/sso/company", back, token=None, headers={"Cookie": cookie})
    assert (again.status, again.code) == (401, 120)


@ensureDeferred
async def test_providers_are_listed_with_their_icons(client: Client) -> None:
    common = {"client_id": "x", "client_secret": "y"}
    configure(
        client, {"github": common, "company": {**common, "issuer": "https://id.example.com", "icon": "https://x.example/i.svg"}}
    )
    answer = await client.get("~/auth/sso", token=None)
    assert answer.json == {
        "data": [{"name": "github", "icon": None}, {"name": "company", "icon": "https://x.example/i.svg"}],
        "public": True,
    }


@ensureDeferred
async def test_the_flow_cookie_is_for_this_browser_alone_and_shows_nothing(realm: Realm, browser: Browser) -> None:
    page = await browser.get(f"~/auth/sso/company?redirect_url={urllib.parse.quote(PAGE)}")
    (cookie,) = page.cookies
    assert cookie.startswith(f"directus-{realm.client.project}-sign-on=v1.")
    assert cookie.endswith("; Max-Age=600; Path=/; HttpOnly; SameSite=Lax")
    assert page.query["code_challenge_method"] == "S256"
    assert len({page.query[name] for name in ("state", "nonce", "code_challenge")}) == 3
    for name in ("state", "nonce"):
        assert page.query[name] not in cookie


@ensureDeferred
async def test_several_flows_of_a_browser_do_not_disturb_each_other(realm: Realm, browser: Browser) -> None:
    await editors(realm.client)
    backs = [await browser.begin("company", f"{PAGE}&n={number}") for number in range(4)]
    # The oldest one has been dropped, so that the cookie stays small.
    lost = await browser.get(backs[0])
    assert (lost.status, lost.reply.code) == (401, 120)
    for number in (3, 1, 2):
        page = await browser.get(backs[number])
        assert page.location.startswith(f"{PAGE}&n={number}&request_token=")
    assert browser.cookies == {}


@ensureDeferred
async def test_the_cookie_stays_small_with_long_addresses(realm: Realm, browser: Browser) -> None:
    await editors(realm.client)
    page = "https://shop.example.com/?" + '"' * 480
    backs = [await browser.begin("company", page) for _ in range(3)]
    (value,) = browser.cookies.values()
    assert len(value) < 3900
    assert (await browser.get(backs[0])).reply.code == 120
    for back in backs[1:]:
        assert "request_token" in (await browser.get(back)).query


@ensureDeferred
async def test_by_https_the_cookie_has_the_prefix_that_other_hosts_cannot_set(
    client: Client, provider: Provider, browser: Browser
) -> None:
    realm = Realm(client, provider)
    realm.use(create_users=True, role=1)
    proxies = Proxies(["127.0.0.1"])
    client.app.services = evolve(client.app.services, cookies=Cookies(client.app.services.settings.sessions, proxies))
    client.app.proxies = proxies
    page = await browser.get("~/auth/sso/company", X_Forwarded_Proto="https")
    assert page.cookies[0].startswith(f"__Host-directus-{client.project}-sign-on=")
    assert page.cookies[0].endswith("; Path=/; HttpOnly; SameSite=Lax; Secure")
    assert page.query["redirect_uri"].startswith("https://127.0.0.1:")


# --- answers of a hostile provider


FAULTS = ("huge", "redirect", "text", "deep", "list", "null", "drop", "500", "400")
DEEP: Any = []
"""A list in lists, as deep as parsers of JSON take."""

for _ in range(400):
    DEEP = [DEEP]
NO_KEYS: list[dict[str, Any]] = [
    {"kty": "RSA", "kid": "first", "n": 5, "e": 7},
    {"kty": "RSA", "kid": "first", "n": "", "e": ""},
    {"kty": "RSA", "kid": "first", "n": "AQ", "e": "AQ"},
    {"kty": "RSA", "kid": "first", "n": ["x"], "e": {}},
    {"kty": "oct", "kid": "first", "k": "AAAA"},
    {"kty": "RSA", "kid": "first", "alg": "HS256"},
]
HOSTILE: dict[str, list[dict[str, Any]]] = {
    "for others": [
        {"claims": {"iss": "https://evil.example.com"}},
        {"claims": {"iss": None}},
        {"claims": {"aud": "another client"}},
        {"claims": {"aud": []}},
        {"claims": {"aud": None}},
        {"claims": {"aud": [CLIENT, "another client"]}},
        {"claims": {"aud": [CLIENT, "another client"], "azp": "another client"}},
        {"claims": {"azp": "another client"}},
        {"claims": {"nonce": "another-nonce"}},
        {"claims": {"nonce": None}},
        {"claims": {"nonce": 7}},
        {"claims": {"nonce": "ü"}},
        {"claims": {"nonce": "\ud800"}},
        {"claims": {"aud": "\ud800"}},
        {"claims": {"sub": None}},
        {"claims": {"sub": ""}},
        {"claims": {"sub": 7}},
        {"claims": {"sub": "x" * 300}},
        {"claims": {"sub": "a\u0000b"}},
        {"claims": {"email": None}, "user": {"sub": "another", "email": "ada@example.com", "email_verified": True}},
        {"claims": {"email": None}, "faults": {"userinfo": "500"}},
    ],
    "times": [
        {"claims": {"exp": 1}},
        {"claims": {"exp": None}},
        {"claims": {"exp": "tomorrow"}},
        {"claims": {"exp": float("inf")}},
        {"claims": {"exp": float("nan")}},
        {"claims": {"exp": True}},
        {"claims": {"iat": None}},
        {"claims": {"iat": True}},
        {"claims": {"iat": 99999999999}},
        {"claims": {"nbf": 99999999999}},
        {"claims": {"nbf": float("nan")}},
    ],
    "signatures": [
        {"algorithm": "none"},
        {"algorithm": "none", "kid": None},
        {"algorithm": "HS256"},
        {"algorithm": "HS256", "kid": None},
        {"signer": "unknown"},
        {"signer": "unknown", "kid": "first"},
        {"signer": "unknown", "kid": None},
        {"signer": "short", "keys": ["short"]},
        {"keys": []},
        {"algorithm": "PS256", "keys": ["EC"], "kid": "EC"},
        {"answer": {"id_token": None}},
        {"answer": {"id_token": 7}},
        {"answer": {"id_token": "a.b.c"}},
        {"answer": {"id_token": "eyJhbGciOiJSUzI1NiJ9.e30.x"}},
        {"answer": {"id_token": "eyJhbGciOlsiUlMyNTYiXX0.e30.x"}},
        {"answer": {"error": "invalid_grant"}},
        {"faults": {"keys": '{"keys": [7, {}, {"kty": "RSA"}, {"kty": "RSA", "n": "x", "e": "y"}, {"kty": ["RSA"]}]}'}},
        {"faults": {"keys": '{"keys": {"first": 1}}'}},
        *[{"faults": {"keys": json.dumps({"keys": [each]})}} for each in NO_KEYS],
    ],
    "addresses": [
        {"discovery": {"issuer": "https://evil.example.com"}},
        {"discovery": {"issuer": DEEP}},
        {"discovery": {"token_endpoint": DEEP}},
        {"discovery": {"token_endpoint": "https://id.example.com/\ud800"}},
        {"discovery": {"token_endpoint": None}},
        {"discovery": {"token_endpoint": "http://evil.example.com/token"}},
        {"discovery": {"token_endpoint": "http://169.254.169.254/token"}},
        {"discovery": {"token_endpoint": "https://10.0.0.1/token"}},
        {"discovery": {"token_endpoint": 7}},
        {"discovery": {"jwks_uri": "file:///etc/passwd"}},
        {"discovery": {"authorization_endpoint": "javascript:alert(1)"}},
        {"discovery": {"authorization_endpoint": "https://id.example.com/?a\r\nSet-Cookie: a=b"}},
        {"discovery": {"authorization_endpoint": "https://id.example.com/#x"}},
    ],
    "redirects": [
        {"parameters": {"error": "access_denied"}},
        {"parameters": {"error": "x\r\nSet-Cookie: a=b"}},
        {"parameters": {"code": None}},
        {"parameters": {"code": "unknown"}},
        {"parameters": {"code": "x" * 5000}},
        {"parameters": {"code": "ü"}},
        {"parameters": {"iss": "https://evil.example.com"}},
        {"discovery": {"authorization_response_iss_parameter_supported": True}},
    ],
} | {place: [{"faults": {place: fault}} for fault in FAULTS] for place in ("discovery", "token", "keys")}


@pytest.mark.parametrize("kind", HOSTILE)
@ensureDeferred
async def test_a_hostile_answer_signs_nobody_in(realm: Realm, browser: Browser, kind: str) -> None:
    """The browser is sent back with a code and no details, and nothing is written."""
    client = realm.client
    for behaviour in HOSTILE[kind]:
        other = Realm(client, realm.provider)
        other.use(create_users=True, role=1)
        await other.behave(**behaviour)
        page = await browser.get(f"~/auth/sso/company?mode=cookie&redirect_url={urllib.parse.quote(PAGE)}")
        if page.location.startswith(other.issuer):
            page = await browser.get((await browser.get(page.location)).location)
        assert (page.status, page.location) == (302, f"{PAGE}&error=true&code=120"), behaviour
    assert await users(client) == []
    assert await execute(client, "SELECT FROM directus_user_identities") == []
    assert browser.cookies == {}


@pytest.mark.parametrize("place", ["discovery", "token", "keys", "userinfo"])
@ensureDeferred
async def test_an_endpoint_that_hangs_is_given_up(client: Client, provider: Provider, browser: Browser, place: str) -> None:
    outgoing = Outgoing(reactor, OutgoingSettings(allowed_networks=("127.0.0.0/8",), total_timeout=0.5))
    client.app.services = evolve(client.app.services, sign_on=SingleSignOn(reactor, outgoing, client.backend.items))
    realm = Realm(client, provider)
    realm.use()
    await realm.behave(faults={place: "hang"}, claims={"email": None})
    page = await browser.get(f"~/auth/sso/company?redirect_url={urllib.parse.quote(PAGE)}")
    if place != "discovery":
        page = await browser.get((await browser.get(page.location)).location)
    assert (page.status, page.location) == (302, f"{PAGE}&error=true&code=120")
    await outgoing.close()


@ensureDeferred
async def test_a_provider_that_hangs_takes_a_limited_number_of_requests(
    client: Client, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Further users are told at once, and other providers are not affected."""
    monkeypatch.setattr(service, "MAX_RUNNING", 2)
    await editors(client)
    hanging, other = Realm(client, provider), Realm(client, provider)
    common = {"client_id": CLIENT, "client_secret": SECRET, "create_users": True, "role": 3}
    configure(client, {"company": {**common, "issuer": hanging.issuer}, "other": {**common, "issuer": other.issuer}})
    browsers = [Browser(client) for _ in range(3)]
    backs = [await each.begin("company") for each in browsers]
    await hanging.behave(faults={"token": "hang"})
    waiting = [defer.ensureDeferred(each.get(back)) for each, back in zip(browsers[:2], backs, strict=False)]
    for _ in range(600):
        if (await hanging.requests()).count("token") == 2:
            break
        await deferLater(reactor, 0.05)
    assert (await browsers[2].get(backs[2])).query["code"] == "16"
    assert "request_token" in (await Browser(client).sign_on("other")).query
    await threads.deferToThread(provider.release, hanging.name)
    assert [page.query["code"] for page in await defer.gatherResults(waiting)] == [FAILED] * 2
    assert "request_token" not in (await browsers[2].get(backs[2])).query


HONEST: list[dict[str, Any]] = [
    {},
    {"algorithm": "ES256", "signer": "EC", "keys": ["first", "EC"]},
    {"algorithm": "EdDSA", "signer": "Ed", "keys": ["Ed"]},
    {"algorithm": "PS512"},
    {"kid": None},
    {"kid": None, "signer": "second", "keys": ["EC", "first", "second"]},
    {"kid": None, "named": False},
    {"claims": {"aud": [CLIENT]}},
    {"claims": {"aud": [CLIENT, "another client"], "azp": CLIENT}},
    {"claims": {"email": None}, "user": {"email": "ada@example.com", "email_verified": True}},
    {"claims": {"email": None, "email_verified": None}, "user": {"email": "ada@example.com", "email_verified": "true"}},
    {"discovery": {"token_endpoint_auth_methods_supported": ["client_secret_post"]}},
    {"discovery": {"userinfo_endpoint": None}},
    {"discovery": {"unknown": {"a": [1]}}},
]


@ensureDeferred
async def test_an_honest_answer_signs_the_user_in(realm: Realm, browser: Browser) -> None:
    client = realm.client
    await editors(client)
    for behaviour in HONEST:
        other = Realm(client, realm.provider)
        other.use(create_users=True, role=3)
        await other.behave(**behaviour)
        assert (await exchanged(client, await browser.sign_on("company"))).status == 200, behaviour
        assert [row[0] for row in await users(client)] == ["ada@example.com"], behaviour
        await execute(client, "DELETE FROM directus_users WHERE id > 1")


@ensureDeferred
async def test_clocks_may_differ_by_a_minute(realm: Realm, browser: Browser) -> None:
    """The provider's tokens are valid for 300 seconds."""
    await editors(realm.client)
    now = current_time()
    for shift, works in ((-50, True), (50, True), (340, True), (-120, False), (400, False)):
        at(realm.client, now + timedelta(seconds=shift))
        page = await browser.sign_on("company")
        assert ("request_token" in page.query, page.query.get("code")) == (works, None if works else FAILED), shift
    await realm.behave(claims={"iat": 1})
    assert "request_token" not in (await browser.sign_on("company")).query
    at(realm.client, now)
    assert "request_token" in (await browser.sign_on("company")).query


# --- flows


@ensureDeferred
async def test_a_flow_belongs_to_the_browser_that_has_begun_it_and_is_used_once(realm: Realm, browser: Browser) -> None:
    client = realm.client
    await editors(client)
    await realm.behave(honest=False)
    back = await browser.begin("company")
    kept = dict(browser.cookies)
    # Another browser: one without flows, and one with a flow of its own.
    other = Browser(client)
    assert (await other.get(back)).reply.code == 120
    await other.begin("company")
    assert (await other.get(back)).reply.code == 120
    # Another project cannot read the cookie, and neither can one that was changed.
    for value in (next(iter(kept.values()))[:-4] + "AAAA", "v1.", "", "x" * 5000):
        assert (await Browser(client, dict.fromkeys(kept, value)).get(back)).reply.code == 120
    assert "request_token" in (await browser.get(back)).query
    # The browser has no cookie any more. A copy of the cookie and a code that the provider redeems again do not help.
    assert (await browser.get(back)).reply.code == 120
    replayed = await Browser(client, kept).get(back)
    assert (replayed.status, replayed.query["code"]) == (302, FAILED)


@ensureDeferred
async def test_a_code_is_worth_nothing_in_another_flow(realm: Realm, browser: Browser) -> None:
    """The provider knows the verifier of the flow (PKCE), and the ID token its nonce."""
    client = realm.client
    await editors(client)
    for honest in (True, False):
        await realm.behave(honest=honest)
        stolen = await Browser(client).begin("company")
        mine = await browser.begin("company")
        code, state = (dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(each).query)) for each in (stolen, mine))
        page = await browser.get(f"~/auth/sso/company/callback?code={code['code']}&state={state['state']}")
        assert (page.status, page.query["code"]) == (302, FAILED)


@ensureDeferred
async def test_a_flow_of_one_provider_does_not_end_at_another(realm: Realm, browser: Browser) -> None:
    other = Realm(realm.client, realm.provider)
    common = {"client_id": CLIENT, "client_secret": SECRET}
    configure(realm.client, {"company": {**common, "issuer": realm.issuer}, "other": {**common, "issuer": other.issuer}})
    back = await browser.begin("company")
    assert (await browser.get(back.replace("/sso/company/", "/sso/other/"))).reply.code == 120


@ensureDeferred
async def test_flows_and_request_tokens_expire(realm: Realm, browser: Browser) -> None:
    client = realm.client
    await editors(client)
    now = current_time()
    await realm.behave(claims={"exp": int(now.timestamp()) + 10_000})
    back = await browser.begin("company")
    at(client, now + timedelta(seconds=601))
    assert (await browser.get(back)).reply.code == 120
    at(client, now)
    page = await browser.sign_on("company")
    at(client, now + timedelta(seconds=61))
    assert (await exchanged(client, page)).code == 109
    at(client, now + timedelta(seconds=59))
    assert (await exchanged(client, page)).status == 200
    # What was used is forgotten after it has expired.
    assert len(await execute(client, "SELECT FROM directus_used_tokens")) == 2
    await remove_expired(reactor, client.backend.projects, lambda: now + timedelta(days=1))
    assert await execute(client, "SELECT FROM directus_used_tokens") == []


@ensureDeferred
async def test_of_requests_at_the_same_time_one_gets_the_token(realm: Realm, browser: Browser) -> None:
    client = realm.client
    await editors(client)
    page = await browser.sign_on("company")
    answers = await defer.gatherResults([defer.ensureDeferred(exchanged(client, page)) for _ in range(8)])
    assert sorted(answer.status for answer in answers) == [200] + [401] * 7
    assert {answer.code for answer in answers if answer.status == 401} == {109}


@ensureDeferred
async def test_no_other_text_is_a_request_token_or_a_state(realm: Realm) -> None:
    client = realm.client
    for text in (None, 7, "", "x", ["x"], {"a": 1}, "v1." + "A" * 80, "x" * 100_000):
        answer = await client.post("~/auth/sso/access_token", {"request_token": text}, token=None)
        assert (answer.status, answer.code) == (401, 109), text
        answer = await client.post("~/auth/sso/company", {"code": text, "state": text, "iss": text, "error": text}, token=None)
        assert (answer.status, answer.code) == (401, 120), text
    for state in ("%ED%A0%80", "%FF", "ü", "a&state=b", "", "a%00"):
        answer = await client.get(f"~/auth/sso/company/callback?code=x&state={urllib.parse.quote(state, safe='%&=')}", token=None)
        assert (answer.status, answer.code) in ((401, 120), (422, 4)), state


@ensureDeferred
async def test_a_project_with_the_same_secret_key_accepts_no_sign_on_of_another(realm: Realm, browser: Browser) -> None:
    client = realm.client
    await editors(client)
    realm.use(create_users=True, role="Editors")
    first, other = client.project, f"t{secrets.token_hex(4)}"
    body = {
        "project": other,
        "super_admin_token": SUPER_ADMIN_TOKEN,
        "user_email": "admin@example.com",
        "user_password": "password",
    }
    assert (await client.post("/server/projects", body, token=None)).status == 200
    client.project = other
    realm.use(create_users=True, role=1)
    files = client.backend.projects.files
    key = re.compile('^secret_key = "(.*)"$', re.MULTILINE)
    (copied,) = key.findall((files.directory / f"{first}.toml").read_text())
    path = files.directory / f"{other}.toml"
    path.write_text(key.sub(f'secret_key = "{copied}"', path.read_text()))
    assert client.backend.projects.get(other).keys.current == client.backend.projects.get(first).keys.current
    page = await browser.sign_on("company")
    client.project = first
    # A user of each project has the same id.
    assert (await exchanged(client, await browser.sign_on("company"))).status == 200
    assert (await exchanged(client, page)).code == 109
    client.project = other
    assert (await exchanged(client, page)).status == 200
    # The cookie of a sign-on that was begun in one project, under the name that it has in the other.
    back = await browser.begin("company")
    (name,) = browser.cookies
    browser.cookies = {name.replace(other, first): browser.cookies[name]}
    assert (await browser.get(back.replace(other, first))).reply.code == 120


@ensureDeferred
async def test_new_keys_of_the_provider_are_read_once_a_minute(realm: Realm, browser: Browser) -> None:
    client = realm.client
    await editors(client)
    clock = Clock()
    sign_on = SingleSignOn(clock, client.backend.outgoing, client.backend.items)
    client.app.services = evolve(client.app.services, sign_on=sign_on)
    assert "request_token" in (await browser.sign_on("company")).query
    # The provider has a new key, and signs with it. It has not been a minute.
    await realm.behave(keys=["first", "second"], signer="second")
    for _ in range(3):
        assert (await browser.sign_on("company")).query["code"] == FAILED
    assert (await realm.requests()).count("keys") == 1
    clock.advance(60)
    assert "request_token" in (await browser.sign_on("company")).query
    # Many unknown keys at the same time.
    await realm.behave(keys=["first", "second"], signer="unknown")
    clock.advance(60)
    backs = [(each, await each.begin("company")) for each in (Browser(client) for _ in range(5))]
    pages = await defer.gatherResults([defer.ensureDeferred(each.get(back)) for each, back in backs])
    assert {page.query["code"] for page in pages} == {FAILED}
    assert (await realm.requests()).count("keys") == 3
    # A key that was withdrawn is refused after an hour.
    await realm.behave(keys=["second"], signer="first")
    clock.advance(3600)
    assert (await browser.sign_on("company")).query["code"] == FAILED
    assert (await realm.requests()).count("keys") == 4
    assert (await realm.requests()).count(".well-known/openid-configuration") == 2


@ensureDeferred
async def test_documents_are_read_once_by_many_who_sign_on_at_the_same_time(realm: Realm) -> None:
    browsers = [Browser(realm.client) for _ in range(10)]
    await defer.gatherResults([defer.ensureDeferred(each.begin("company")) for each in browsers])
    assert (await realm.requests()).count(".well-known/openid-configuration") == 1


@ensureDeferred
async def test_without_the_privilege_to_mark_flows_as_used_nobody_signs_on(realm: Realm, browser: Browser) -> None:
    client = realm.client
    await editors(client)
    back = await browser.begin("company")
    async with limited_role(client, 'REVOKE INSERT ON directus_used_tokens FROM "{role}"'):
        page = await browser.get(back)
    assert (page.status, page.query["error"], page.query["code"]) == (302, "true", "302")
    assert await users(client) == []


# --- whose account it is


async def make(client: Client, email: str = "ada@example.com", status: str = "active", role: int = 3) -> int:
    answer = await client.post("~/users", {"email": email, "password": "ada-secret", "status": status, "role": role})
    assert answer.status == 200, answer.body
    return answer.data["id"]


@ensureDeferred
async def test_nobody_gets_an_account_unless_that_is_configured(realm: Realm, browser: Browser) -> None:
    client = realm.client
    await editors(client)
    await make(client)
    realm.use()
    page = await browser.sign_on("company")
    assert (page.query["error"], page.query["code"]) == ("true", REFUSED)
    assert len(await users(client)) == 1
    assert await execute(client, "SELECT FROM directus_user_identities") == []
    # Without a page, the answer says no more.
    answer = await browser.sign_on("company", None)
    assert (answer.status, answer.reply.json["error"]) == (
        *(401, {"code": 121, "message": "The account of the provider has no access to this project."}),
    )


@ensureDeferred
async def test_an_address_that_is_taken_is_not_linked_unless_that_is_configured(realm: Realm, browser: Browser) -> None:
    client = realm.client
    await editors(client)
    id = await make(client, "ADA@example.com")
    assert (await browser.sign_on("company")).query["code"] == REFUSED
    realm.use(link_by_email=True)
    answer = await exchanged(client, await browser.sign_on("company"))
    assert (await client.get("~/users/me?fields=id", token=answer.data["token"])).data == {"id": id}
    assert await execute(client, 'SELECT "user", provider, issuer, subject FROM directus_user_identities') == [
        (id, "company", realm.issuer, "subject")
    ]
    # From then on the account belongs to the user, whatever its address is, and whether or not it may be linked.
    realm.use()
    await realm.behave(claims={"email": "other@example.com"})
    assert (await exchanged(client, await browser.sign_on("company"))).status == 200
    # The user keeps the password.
    assert (
        await client.post("~/auth/authenticate", {"email": "ada@example.com", "password": "ada-secret"}, token=None)
    ).status == 200


@ensureDeferred
async def test_an_address_that_is_not_verified_counts_for_nothing(realm: Realm, browser: Browser) -> None:
    client = realm.client
    await editors(client)
    realm.use(link_by_email=True, create_users=True, role=3)
    claims = ({"email_verified": verified} for verified in (False, None, "false", 1, [True]))
    for number, each in enumerate(claims):
        await realm.behave(claims={"email": f"{number}@example.com", **each})
        assert (await browser.sign_on("company")).query["code"] == REFUSED
        await make(client, f"{number}@example.com")
        assert (await browser.sign_on("company")).query["code"] == REFUSED
    assert await execute(client, "SELECT FROM directus_user_identities") == []


@ensureDeferred
async def test_addresses_that_only_look_alike_are_not_linked(realm: Realm, browser: Browser) -> None:
    """The Kelvin sign has the lower case k."""
    client = realm.client
    await editors(client)
    realm.use(link_by_email=True, create_users=True, role=3)
    await make(client, "mike@example.com")
    await make(client, "müller@example.com")
    for email in ("mi\u212ae@example.com", "MÜLLER@example.com"):
        await realm.behave(claims={"email": email})
        assert (await browser.sign_on("company")).query["code"] == REFUSED, email
    for number, email in enumerate(("MIKE@example.com", "müller@example.com")):
        await realm.behave(claims={"email": email, "sub": str(number)})
        assert "request_token" in (await browser.sign_on("company")).query, email


@ensureDeferred
async def test_addresses_can_be_trusted_unless_the_provider_says_otherwise(realm: Realm, browser: Browser) -> None:
    await editors(realm.client)
    realm.use(create_users=True, role=3, trust_email=True)
    await realm.behave(claims={"email_verified": False})
    assert (await browser.sign_on("company")).query["code"] == REFUSED
    await realm.behave(claims={"email_verified": None})
    assert "request_token" in (await browser.sign_on("company")).query


@ensureDeferred
async def test_only_addresses_in_the_allowed_domains_count(realm: Realm, browser: Browser) -> None:
    await editors(realm.client)
    realm.use(create_users=True, role=3, email_domains=["Example.com"])
    for email in (
        "not an address",
        "",
        7,
        "a" * 130 + "@example.com",
        "a\u0000@example.com",
        "\ud800@example.com",
        "ada@evil.example.com",
    ):
        await realm.behave(claims={"email": email})
        assert (await browser.sign_on("company")).query["code"] == REFUSED, email
    assert await users(realm.client) == []
    await realm.behave(claims={"email": "ada@EXAMPLE.com"})
    assert "request_token" in (await browser.sign_on("company")).query


@ensureDeferred
async def test_the_address_of_an_administrator_is_not_linked_unless_that_is_configured(realm: Realm, browser: Browser) -> None:
    client = realm.client
    await realm.behave(claims={"email": "admin@example.com"})
    for settings in ({}, {"create_users": True, "role": 1}):
        realm.use(link_by_email=True, **settings)
        assert (await browser.sign_on("company")).query["code"] == REFUSED
        assert await execute(client, "SELECT FROM directus_user_identities") == []
    realm.use(link_by_email=True, link_administrators=True)
    answer = await exchanged(client, await browser.sign_on("company"))
    assert (await client.get("~/users/me?fields=id", token=answer.data["token"])).data == {"id": 1}


@ensureDeferred
async def test_users_who_are_not_active_are_refused(realm: Realm, browser: Browser) -> None:
    client = realm.client
    await editors(client)
    realm.use(link_by_email=True)
    change = "UPDATE directus_users SET status = %s WHERE id = %s"
    for status in ("suspended", "draft", "invited", "deleted"):
        await realm.behave(claims={"email": f"{status}@example.com", "sub": status})
        id = await make(client, f"{status}@example.com")
        await execute(client, change, (status, id))
        assert (await browser.sign_on("company")).query["code"] == "103"
        assert await execute(client, 'SELECT FROM directus_user_identities WHERE "user" = %s', (id,)) == []
        # The same for an account that is known, and for a request token that was issued before.
        await execute(client, change, ("active", id))
        page = await browser.sign_on("company")
        await execute(client, change, (status, id))
        assert (await browser.sign_on("company")).query["code"] == "103"
        answer = await exchanged(client, page)
        assert (answer.status, answer.code) == (404 if status == "suspended" else 401, 103)


@ensureDeferred
async def test_a_provider_that_is_replaced_does_not_inherit_accounts(realm: Realm, browser: Browser) -> None:
    """The subject means another account at another issuer."""
    client = realm.client
    await editors(client)
    assert "request_token" in (await browser.sign_on("company")).query
    other = Realm(client, realm.provider)
    other.use()
    assert (await browser.sign_on("company")).query["code"] == REFUSED


@ensureDeferred
async def test_accounts_of_a_deleted_user_are_deleted(realm: Realm, browser: Browser) -> None:
    client = realm.client
    await editors(client)
    await browser.sign_on("company")
    assert (await client.delete("~/users/2")).status == 204
    assert await execute(client, "SELECT FROM directus_user_identities") == []


@ensureDeferred
async def test_first_sign_ons_at_the_same_time_make_one_user(realm: Realm) -> None:
    client = realm.client
    await editors(client)
    browsers = [Browser(client) for _ in range(6)]
    pages = await defer.gatherResults([defer.ensureDeferred(each.sign_on("company")) for each in browsers])
    assert all("request_token" in page.query for page in pages)
    assert len(await users(client)) == len(await execute(client, "SELECT FROM directus_user_identities")) == 1


@ensureDeferred
async def test_the_groups_decide_the_role_at_every_sign_on(realm: Realm, browser: Browser) -> None:
    client = realm.client
    await editors(client)
    assert (await client.post("~/roles", {"name": "Authors"})).data["id"] == 4
    realm.use(
        create_users=True, group_claim="groups", group_roles={"chiefs": "administrator", "editors": 3, "authors": "AUTHORS"}
    )
    for groups, role in (
        (["authors", "editors"], 3),
        (["others", "authors"], 4),
        ("authors", 4),
        (["chiefs", "authors"], 1),
        (["editors", 7, None, {}], 3),
    ):
        await realm.behave(claims={"groups": groups})
        assert "request_token" in (await browser.sign_on("company")).query, groups
        assert [row[2] for row in await users(client)] == [role]
    # A user who has lost all groups has no access, and neither has one of whom the provider says nothing.
    for claims in ({"groups": []}, {"groups": ["others"]}, {}, {"groups": 7}, {"groups": {"editors": True}}):
        await realm.behave(claims=claims)
        assert (await browser.sign_on("company")).query["code"] == REFUSED
    # The userinfo endpoint may say it.
    await realm.behave(user={"groups": ["authors"]})
    assert "request_token" in (await browser.sign_on("company")).query
    assert [row[2] for row in await users(client)] == [4]
    # With a role for all others.
    realm.use(role=3, group_claim="groups", group_roles={"chiefs": 1})
    assert "request_token" in (await browser.sign_on("company")).query
    assert [row[2] for row in await users(client)] == [3]


@ensureDeferred
async def test_groups_do_not_take_the_role_from_the_last_administrator(realm: Realm, browser: Browser) -> None:
    client = realm.client
    await editors(client)
    realm.use(link_by_email=True, link_administrators=True, group_claim="groups", group_roles={"editors": 3})
    await realm.behave(claims={"email": "admin@example.com", "groups": ["editors"]})
    assert (await browser.sign_on("company")).query["code"] == "216"
    assert (await client.get("~/users/1?fields=role")).data == {"role": 1}


@ensureDeferred
async def test_a_role_that_does_not_exist_signs_nobody_in(realm: Realm, browser: Browser) -> None:
    for role in (99, "No such role", "Public"):
        realm.use(create_users=True, role=role)
        assert (await browser.sign_on("company")).query["code"] == FAILED
    assert await users(realm.client) == []


@ensureDeferred
async def test_the_addresses_of_a_role_hold(realm: Realm, browser: Browser) -> None:
    client = realm.client
    await editors(client)
    page = await browser.sign_on("company")
    assert (await client.patch("~/roles/3", {"ip_whitelist": ["10.0.0.1"]})).status == 200
    assert (await browser.sign_on("company")).query["code"] == "19"
    answer = await exchanged(client, page)
    assert (answer.status, answer.code) == (401, 19)
    assert (await client.patch("~/roles/3", {"ip_whitelist": ["10.0.0.1", "127.0.0.1"]})).status == 200
    assert "request_token" in (await browser.sign_on("company")).query


# --- the second factor


@ensureDeferred
async def test_users_with_two_factor_authentication_enter_a_one_time_password(realm: Realm, browser: Browser) -> None:
    client = realm.client
    await editors(client)
    await browser.sign_on("company")
    assert (await client.patch("~/users/2", {"2fa_secret": TWO_FACTOR})).status == 200
    now = current_time()
    at(client, now)
    page = await browser.sign_on("company")
    for body, code in (({}, 111), ({"otp": ""}, 111), ({"otp": "000000"}, 112), ({"otp": "x"}, 112)):
        answer = await exchanged(client, page, **body)
        assert (answer.status, answer.code) == (404, code)
    assert (await exchanged(client, page, otp=7)).code == 4
    # The user has more time than others.
    at(client, now + timedelta(seconds=290))
    answer = await exchanged(client, page, otp=one_time_password(TWO_FACTOR, now + timedelta(seconds=290)))
    assert (await client.get("~/users/me?fields=id", token=answer.data["token"])).data == {"id": 2}
    assert (await exchanged(client, page, otp=one_time_password(TWO_FACTOR, now + timedelta(seconds=290)))).code == 109
    # A one-time password counts once.
    page = await browser.sign_on("company")
    assert (await exchanged(client, page, otp=one_time_password(TWO_FACTOR, now + timedelta(seconds=290)))).code == 112
    actions = await execute(
        client, "SELECT count(*) FROM directus_activity WHERE action = 'invalid-credentials' AND action_by = 2"
    )
    assert actions == [(3,)]


@ensureDeferred
async def test_with_the_mode_cookie_the_page_asks_for_the_one_time_password(realm: Realm, browser: Browser) -> None:
    client = realm.client
    await editors(client)
    await browser.sign_on("company")
    assert (await client.patch("~/users/2", {"2fa_secret": TWO_FACTOR})).status == 200
    page = await browser.sign_on("company", mode="cookie")
    assert (page.query["error"], page.query["code"], browser.cookies) == ("true", "111", {})
    answer = await exchanged(client, page, otp=one_time_password(TWO_FACTOR, current_time()), mode="cookie")
    assert answer.headers["set-cookie"].startswith(f"directus-{client.project}-session=")
    for mode in ("jwt", "cookie"):
        shown = (await browser.sign_on("company", None, mode)).reply
        assert (shown.status, list(shown.data), shown.code) == (200, ["request_token"], 111)


@ensureDeferred
async def test_wrong_one_time_passwords_suspend_the_user(realm: Realm, browser: Browser) -> None:
    client = realm.client
    await editors(client)
    await browser.sign_on("company")
    assert (await client.patch("~/users/2", {"2fa_secret": TWO_FACTOR})).status == 200
    ((setting,),) = await execute(client, "SELECT id FROM directus_settings WHERE key = 'login_attempts_allowed'")
    assert (await client.patch(f"~/settings/{setting}", {"value": "2"})).status == 200
    page = await browser.sign_on("company")
    assert [(await exchanged(client, page, otp="x")).code for _ in range(3)] == [112, 112, 103]
    assert (await exchanged(client, page, otp=one_time_password(TWO_FACTOR, current_time()))).code == 103
    assert (await browser.sign_on("company")).query["code"] == "103"


@ensureDeferred
async def test_roles_that_enforce_two_factor_authentication_do_so_for_sign_ons(realm: Realm, browser: Browser) -> None:
    client = realm.client
    await editors(client)
    assert (await client.patch("~/roles/3", {"enforce_2fa": True})).status == 200
    answer = await exchanged(client, await browser.sign_on("company"))
    assert (answer.status, list(answer.data), answer.code) == (200, ["token", "user"], 113)
    assert (await client.get("~/users/me", token=answer.data["token"])).status == 401
    page = await browser.sign_on("company", mode="cookie")
    assert (page.query["error"], page.query["code"]) == ("true", "113")
    assert (await browser.get("~/users/me")).status == 401
    body = {"2fa_secret": TWO_FACTOR, "otp": one_time_password(TWO_FACTOR, current_time())}
    assert (await client.post("~/users/me/activate_2fa", body, token=answer.data["token"])).status == 204
    assert (await browser.get("~/users/me?fields=id")).reply.data == {"id": 2}


# --- other providers


@ensureDeferred
async def test_github(realm: Realm, browser: Browser) -> None:
    client = realm.client
    await editors(client)
    configure(
        client,
        {"github": {"client_id": CLIENT, "client_secret": SECRET, "base_url": realm.issuer, "create_users": True, "role": 3}},
    )
    emails = [
        {"email": "other@example.com", "primary": False, "verified": True},
        {"email": "ada@example.com", "primary": True, "verified": True},
    ]
    await realm.behave(user={"id": 7, "login": "ada", "name": "Ada L", "email": "public@example.com"}, emails=emails)
    assert (await exchanged(client, await browser.sign_on("github"))).status == 200
    assert await users(client) == [("ada@example.com", "active", 3, "Ada L", None, None, None)]
    # The number identifies the account, not the name.
    await realm.behave(user={"id": 8, "login": "ada"}, emails=emails)
    assert (await browser.sign_on("github")).query["code"] == REFUSED
    for emails in ([], None, {}, [7], [{"email": "eve@example.com", "primary": True, "verified": False}]):
        await realm.behave(user={"id": 9}, emails=emails)
        assert (await browser.sign_on("github")).query["code"] == REFUSED
    for user in ({"id": None}, {"id": "9"}, {"id": 0}, {"id": True}):
        await realm.behave(user=user, emails=emails)
        assert (await browser.sign_on("github")).query["code"] == FAILED
    for fault in ("error", "list", "500"):
        await realm.behave(faults={"token": '{"error": "bad_verification_code"}' if fault == "error" else fault})
        assert (await browser.sign_on("github")).query["code"] == FAILED
    assert len(await users(client)) == 1


@ensureDeferred
async def test_facebook(realm: Realm, browser: Browser) -> None:
    client = realm.client
    await editors(client)
    common = {"client_id": CLIENT, "client_secret": SECRET, "base_url": realm.issuer, "create_users": True, "role": 3}
    await realm.behave(user={"id": "77", "email": "ada@example.com", "first_name": "Ada", "last_name": "Lovelace"})
    configure(client, {"facebook": common})
    assert (await browser.sign_on("facebook")).query["code"] == REFUSED
    configure(client, {"facebook": {**common, "trust_email": True}})
    assert (await exchanged(client, await browser.sign_on("facebook"))).status == 200
    assert await users(client) == [("ada@example.com", "active", 3, "Ada", "Lovelace", None, None)]
    await realm.behave(user={"id": 77})
    assert (await browser.sign_on("facebook")).query["code"] == FAILED


@ensureDeferred
async def test_okta(realm: Realm, browser: Browser) -> None:
    client = realm.client
    await editors(client)
    common = {"client_id": CLIENT, "client_secret": SECRET, "base_url": realm.issuer, "create_users": True}
    configure(client, {"okta": {**common, "group_claim": "groups", "group_roles": {"Everyone": 3}}})
    await realm.behave(claims={"groups": ["Everyone"]})
    page = await browser.get("~/auth/sso/okta")
    assert page.query["scope"] == "openid profile email groups"
    assert (await exchanged(client, await browser.sign_on("okta"))).status == 200


@ensureDeferred
async def test_google_is_asked_at_its_own_address(client: Client, browser: Browser) -> None:
    """Without a network, nobody can sign on."""
    configure(client, {"google": {"client_id": "x", "client_secret": "y"}})
    page = await browser.get(f"~/auth/sso/google?redirect_url={urllib.parse.quote(PAGE)}")
    assert page.location in (f"{PAGE}&error=true&code=120",) or page.location.startswith("https://accounts.google.com/")


# --- pages to return to


@ensureDeferred
async def test_pages_of_the_listed_origins_are_returned_to(realm: Realm, browser: Browser) -> None:
    await editors(realm.client)
    host = "https://shop.example.com"
    for url in (f"{host}:443/x", "HTTPS://SHOP.example.com/x?a=1#b", host, f"{host}?a=1"):
        page = await browser.sign_on("company", url)
        found = urllib.parse.urlsplit(page.location)
        assert (found.scheme, found.hostname) == ("https", "shop.example.com")
        assert "request_token" in page.query


@ensureDeferred
async def test_pages_of_the_server_itself_are_returned_to(realm: Realm, browser: Browser) -> None:
    await editors(realm.client)
    page = await browser.sign_on("company", f"{realm.client.base}/admin/?request_token=x&error=1#/login", "cookie")
    assert page.location == f"{realm.client.base}/admin/#/login"


EVIL = [
    "https://evil.example.com/",
    "http://shop.example.com/",
    "https://shop.example.com:444/",
    "https://shop.example.com.evil.example.com/",
    "https://evil.example.com/https://shop.example.com/",
    "https://shop.example.com@evil.example.com/",
    "https://shop.example.com:x@evil.example.com/",
    "https://user@shop.example.com/",
    "https://shop.example.com\\@evil.example.com/",
    "https://evil.example.com\\.shop.example.com/",
    "//evil.example.com/",
    "\\\\evil.example.com/",
    "/\\evil.example.com/",
    "https:/shop.example.com/",
    "https:///evil.example.com/",
    "https:shop.example.com/",
    "/admin/",
    "admin",
    "javascript:alert(1)//https://shop.example.com/",
    "data:text/html,x",
    "https://shop.example.com\t.evil.example.com/",
    "https://shop.example.com\r\nLocation: https://evil.example.com/",
    "https://shop.example.com \u3002evil.example.com/",
    "https://shop\u3002example\u3002com/",
    "https://ſhop.example.com/",
    "https://shop.example.com%2eevil.example.com/",
    "https://shop.example.com%00.evil.example.com/",
    "https://[::1]evil.example.com/",
    "https://shop.example.com:443:80/",
    "https://shop.example.com:99999999/",
    "https://shop.example.com;evil.example.com/",
    "https://shop.example.com,evil.example.com/",
    "https://shop.example.com./",
    " https://shop.example.com/",
    "https://shop.example.com/" + "x" * 512,
]


@ensureDeferred
async def test_no_other_page_is_returned_to(realm: Realm, browser: Browser) -> None:
    for url in EVIL:
        page = await browser.get(f"~/auth/sso/company?redirect_url={urllib.parse.quote(url)}")
        assert (page.status, page.reply.code, page.location) == (422, 4, ""), url
        assert browser.cookies == {}


@ensureDeferred
async def test_the_log_says_why_a_sign_on_has_failed(realm: Realm, browser: Browser) -> None:
    """In one line, without codes and secrets."""
    told: list[str] = []

    def observe(event: Any) -> None:
        if event.get("log_namespace", "").startswith("directus_tx.accounts.sso"):
            told.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    try:
        await realm.behave(claims={"aud": "a\x1b[31m\nb"})
        back = await browser.begin("company")
        await browser.get(back)
        await realm.behave(faults={"token": "400"})
        await browser.get(await browser.begin("company"))
        configure(realm.client, {"github": {"client_id": "x"}, "twitter": {"identifier": "x"}})
        assert (await browser.get("~/auth/sso")).reply.data == []
    finally:
        globalLogPublisher.removeObserver(observe)
    assert len(told) == 4, told
    assert f"project {realm.client.project}: sign-on with company (" in told[0]
    assert told[0].endswith("the ID token is not valid: Audience doesn't match")
    assert all(line.isprintable() and len(line) < 500 for line in told)
    assert not any(SECRET in line or "code_verifier" in line for line in told)
    assert any("auth.social_providers.github: client_secret is required" in line for line in told)


# --- mistakes


@ensureDeferred
async def test_a_project_with_a_mistake_in_its_table_is_not_created(server: Client) -> None:
    body = {"project": "t", "super_admin_token": SUPER_ADMIN_TOKEN, "user_email": "a@example.com", "user_password": "password"}
    answer = await server.post("/server/projects", {**body, "auth": {"social_providers": {"github": {}}}}, token=None)
    assert (answer.status, answer.code) == (422, 4)
    assert "auth.social_providers.github: client_id is required" in answer.json["error"]["message"]
    assert (await server.post("/server/projects", {**body, "auth": {"secret_key": "x"}}, token=None)).status == 200


@ensureDeferred
async def test_the_check_of_project_files_names_mistakes(client: Client) -> None:
    configure(client, {"company": {"issuer": "http://id.example.com", "client_id": "x"}}, redirect_origins=["x"])
    found = project_problems(client.app.services.settings)
    assert [each.partition(".toml: ")[2] for each in found] == [
        'auth.redirect_origins: "x" must be a URL that begins with http:// or https:// and a host, without a user name',
        "auth.social_providers.company: issuer must begin with https://: http is for addresses of this machine only",
    ]


def test_providers_implement_the_interface() -> None:
    requests = Requests(Outgoing(reactor, OutgoingSettings()))
    tables = {name: {"client_id": "x", "client_secret": "y", "base_url": "https://id.example.com"} for name in ("okta", "github")}
    tables |= {"company": {"client_id": "x", "issuer": "https://id.example.com"}}
    settings = sign_on_settings({"social_providers": tables}).providers
    drivers = (okta(reactor, requests, settings["okta"]), GitHub(requests, settings["github"]))
    for driver in (*drivers, Facebook(requests, settings["github"]), OpenIDConnect(reactor, requests, settings["company"])):
        assert verifyObject(IAuthenticationProvider, driver)
