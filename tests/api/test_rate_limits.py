"""Rate limits over HTTP: which attempts to try secrets count, for whom, and what other callers notice of it."""

import re
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_twisted
from attrs import evolve
from pytest_twisted import ensureDeferred
from twisted.internet import defer, reactor
from twisted.internet.endpoints import serverFromString

from directus_tx import rate_limits
from directus_tx.accounts import throttle
from directus_tx.accounts.throttle import Running, Throttle, remove_restored
from directus_tx.config import RateLimitSettings, Settings
from directus_tx.context import current_time
from directus_tx.db.session import Session
from directus_tx.errors import ServiceUnavailable
from directus_tx.http.app import App
from directus_tx.http.endpoints import all_routes
from directus_tx.http.routes import Caller
from directus_tx.rate_limits import Limiter, Rate
from tests.api.test_two_factor import code
from tests.conftest import SUPER_ADMIN_TOKEN, TOKEN, Client, Reply, field, limited_role

ADDRESSES, ACCOUNTS = 8, 5
"""The failed attempts that are allowed."""

HOURS = 36_000.0
ADMIN = {"email": "admin@example.com", "password": "password"}


@pytest.fixture(autouse=True)
def hours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rates are counted in ten hours instead of a minute, so that nothing is restored while a test runs."""
    monkeypatch.setattr(rate_limits, "WINDOW", HOURS)
    monkeypatch.setattr(rate_limits, "MAX_USED", 2 * HOURS)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """The server is behind a proxy on this machine, so that requests can come from any address."""
    limits = RateLimitSettings(failures_per_address=ADDRESSES, failures_per_account=ACCOUNTS)
    return evolve(settings, rate_limits=limits, server=evolve(settings.server, trusted_proxies=("127.0.0.1",)))


def of(address: str) -> dict[str, str]:
    return {"X-Forwarded-For": address}


async def sign_in(client: Client, email: str, password: str = "wrong", address: str = "192.0.2.1") -> Reply:
    return await client.post("~/auth/authenticate", {"email": email, "password": password}, token=None, headers=of(address))


async def get(client: Client, token: str | None, address: str = "192.0.2.1", path: str = "~/users/me?fields=id") -> Reply:
    return await client.get(path, token=token, headers=of(address))


def is_limited(answer: Reply, setting: str) -> bool:
    """Whether an answer is 429 of a limit, with all that it must say."""
    if answer.status != 429:
        return False
    assert answer.code == 7
    wait = int(answer.headers["retry-after"])
    assert 0 < wait <= HOURS
    assert f"(rate_limits.{setting}); try again in {wait} second" in answer.json["error"]["message"]
    assert re.fullmatch(rf'"{setting}";q=\d+;w=36000', answer.headers["ratelimit-policy"])
    assert answer.headers["ratelimit"] == f'"{setting}";r=0;t={wait}'
    return True


async def execute(client: Client, statement: str, parameters: Any = ()) -> Any:
    session = Session(client.backend.projects.get(client.project).database)
    return await session.transaction(lambda session: session.query(statement, parameters))


@pytest_twisted.async_yield_fixture
async def other(client: Client, settings: Settings) -> AsyncIterator[Client]:
    """A client of another process of the same server: another app, with memory of its own."""
    throttle = Throttle(settings.rate_limits, time.monotonic)
    app = App(reactor, evolve(client.app.services, throttle=throttle))
    port = await serverFromString(reactor, "tcp:0:interface=127.0.0.1").listen(app.site)
    found = Client(client.backend, app, port.getHost().port)
    found.project = client.project
    yield found
    await found.pool.closeCachedConnections()
    await port.stopListening()


@ensureDeferred
async def test_wrong_passwords_for_an_account_are_limited_whether_it_exists_or_not(client: Client) -> None:
    for email in ("admin@example.com", "nobody@example.com"):
        # From many addresses, none of which is limited itself.
        answers = [await sign_in(client, email, address=f"192.0.2.{number}") for number in range(ACCOUNTS + 3)]
        assert [answer.status for answer in answers[:ACCOUNTS]] == [404] * ACCOUNTS
        assert all(is_limited(answer, "failures_per_account") for answer in answers[ACCOUNTS:])
    # The right password does not help either, nor another spelling.
    assert is_limited(await sign_in(client, **ADMIN), "failures_per_account")
    assert is_limited(await sign_in(client, "ADMIN@Example.com", "password"), "failures_per_account")
    assert (await sign_in(client, "other@example.com")).status == 404


@ensureDeferred
async def test_wrong_passwords_from_an_address_are_limited_for_all_accounts(client: Client) -> None:
    answers = [await sign_in(client, f"user{number}@example.com") for number in range(ADDRESSES + 2)]
    assert [answer.status for answer in answers[:ADDRESSES]] == [404] * ADDRESSES
    assert all(is_limited(answer, "failures_per_address") for answer in answers[ADDRESSES:])
    assert is_limited(await sign_in(client, **ADMIN), "failures_per_address")
    # Nobody else notices.
    assert (await sign_in(client, **ADMIN, address="192.0.2.2")).status == 200


@ensureDeferred
async def test_an_ipv6_network_of_64_bits_is_one_address(client: Client) -> None:
    for number in range(ADDRESSES):
        assert (await sign_in(client, f"user{number}@example.com", address=f"2001:db8:1:2::{number + 1:x}")).status == 404
    assert is_limited(await sign_in(client, "user@example.com", address="2001:db8:1:2:3:4:5:6"), "failures_per_address")
    assert (await sign_in(client, "user@example.com", address="2001:db8:1:3::1")).status == 404


@ensureDeferred
async def test_the_ports_that_a_proxy_forwards_make_no_other_address(client: Client) -> None:
    for number in range(ADDRESSES):
        assert (await sign_in(client, f"user{number}@example.com", address=f"192.0.2.7:{40_000 + number}")).status == 404
        assert (await sign_in(client, f"other{number}@example.com", address=f"[2001:db8:7::1]:{40_000 + number}")).status == 404
    for address in ("192.0.2.7", "192.0.2.7:1", "[2001:db8:7::2]", "2001:db8:7::3", "203.0.113.1, 192.0.2.7:2, 127.0.0.1:80"):
        assert is_limited(await sign_in(client, "user@example.com", address=address), "failures_per_address"), address
    assert (await sign_in(client, **ADMIN, address="192.0.2.8:40000")).status == 200
    assert await execute(client, "SELECT ip_address FROM directus_user_sessions") == [("192.0.2.8",)]


@ensureDeferred
async def test_what_succeeds_or_is_malformed_does_not_count(client: Client) -> None:
    for _ in range(ADDRESSES + 3):
        assert (await sign_in(client, **ADMIN)).status == 200
        assert (await sign_in(client, "no address", "x")).status == 422
        answer = await client.call("POST", "~/auth/authenticate", b"{", token=None, headers=of("192.0.2.1"))
        assert answer.status == 400
    await client.patch("~/users/1", {"2fa_secret": "JBSWY3DPEHPK3PXP"})
    for _ in range(ADDRESSES + 3):
        # The client asks whether a one-time password is needed.
        assert (await sign_in(client, **ADMIN)).code == 111
    assert await execute(client, "SELECT * FROM directus_failed_attempts") == []


@ensureDeferred
async def test_a_user_signs_in_from_where_there_is_a_session_while_others_try_passwords(client: Client) -> None:
    assert (await sign_in(client, **ADMIN, address="198.51.100.1")).status == 200
    assert (await sign_in(client, **ADMIN, address="2001:db8:5:5::1")).status == 200
    for number in range(ACCOUNTS + 1):
        answer = await sign_in(client, ADMIN["email"], address=f"192.0.2.{number}")
    assert is_limited(answer, "failures_per_account")
    assert (await sign_in(client, **ADMIN, address="198.51.100.1")).status == 200
    # The addresses within such a network change.
    assert (await sign_in(client, **ADMIN, address="2001:db8:5:5::ffff")).status == 200
    assert is_limited(await sign_in(client, **ADMIN, address="198.51.100.2"), "failures_per_account")
    # Its own attempts are limited there, too.
    answers = [await sign_in(client, ADMIN["email"], address="198.51.100.1") for _ in range(ACCOUNTS + 1)]
    assert [answer.status for answer in answers] == [404] * ACCOUNTS + [429]


@ensureDeferred
async def test_processes_count_failed_sign_ins_together(client: Client, other: Client) -> None:
    for number in range(ACCOUNTS):
        answer = await sign_in((client, other)[number % 2], ADMIN["email"], address=f"192.0.2.{number}")
        assert answer.status == 404
    # The process that has counted the last one knows already, the other one after one attempt.
    statuses = [[(await sign_in(each, ADMIN["email"], address="192.0.2.9")).status for _ in range(3)] for each in (client, other)]
    assert statuses in ([[429] * 3, [404, 429, 429]], [[404, 429, 429], [429] * 3])


@ensureDeferred
async def test_a_refused_attempt_costs_no_statement_and_no_hashing(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(ADDRESSES):
        await sign_in(client, f"user{number}@example.com")
    monkeypatch.setattr(Session, "query", lambda *_: pytest.fail("a statement is run"))
    monkeypatch.setattr(client.backend.hasher, "verify", lambda *_: pytest.fail("a password is checked"))
    assert is_limited(await sign_in(client, **ADMIN), "failures_per_address")


@ensureDeferred
async def test_refused_attempts_do_not_count(client: Client) -> None:
    for number in range(ADDRESSES):
        await sign_in(client, f"user{number}@example.com")
    before = await execute(client, "SELECT key, restored_on FROM directus_failed_attempts ORDER BY key")
    for _ in range(5):
        await sign_in(client, "admin@example.com")
    assert await execute(client, "SELECT key, restored_on FROM directus_failed_attempts ORDER BY key") == before


@ensureDeferred
async def test_the_table_reveals_no_addresses_of_accounts_and_is_pruned(client: Client) -> None:
    await sign_in(client, "secret-name@example.com")
    rows = await execute(client, "SELECT key FROM directus_failed_attempts")
    assert len(rows) == 3
    assert "secret-name" not in str(rows)
    session = Session(client.backend.projects.get(client.project).database)
    assert await remove_restored(session, 10) == 0
    await execute(client, "UPDATE directus_failed_attempts SET restored_on = now() - interval '1 second' WHERE key LIKE 'a%%'")
    assert await remove_restored(session, 10) == 2


@ensureDeferred
async def test_a_clock_of_the_database_that_was_wrong_locks_nobody_out_for_long(client: Client, other: Client) -> None:
    await sign_in(client, "admin@example.com")
    await execute(client, "UPDATE directus_failed_attempts SET restored_on = now() + interval '1 year'")
    assert (await sign_in(other, "admin@example.com")).status == 404
    answer = await sign_in(other, **ADMIN)
    assert answer.status == 429
    assert int(answer.headers["retry-after"]) <= HOURS + HOURS / ACCOUNTS
    ((most,),) = await execute(client, "SELECT extract(epoch FROM max(restored_on) - now()) FROM directus_failed_attempts")
    assert most <= 2 * HOURS


@ensureDeferred
async def test_where_the_table_cannot_be_written_each_process_counts(client: Client) -> None:
    async with limited_role(client, 'REVOKE ALL ON directus_failed_attempts FROM "{role}"'):
        statuses = [(await sign_in(client, ADMIN["email"], address=f"192.0.2.{number}")).status for number in range(ACCOUNTS + 2)]
    assert statuses == [404] * ACCOUNTS + [429] * 2


@ensureDeferred
async def test_static_tokens_that_nobody_has_are_limited(client: Client) -> None:
    await client.collection("notes", field("name"))
    assert (await get(client, TOKEN)).status == 200
    for number in range(ADDRESSES):
        assert (await get(client, f"guess-{number}")).status == 401
    ways: list[tuple[str, dict[str, str]]] = [
        ("~/users/me", {"Authorization": "bearer another"}),
        ("~/users/me?access_token=another", {}),
        ("~/users/me", {"Authorization": "basic YW5vdGhlcjo="}),
        (f"/types?project={client.project}&access_token=another", {}),
    ]
    for path, headers in ways:
        answer = await client.call("GET", path, token=None, headers=headers | of("192.0.2.1"))
        assert is_limited(answer, "failures_per_address"), path
    # Neither does a right one that the process does not know yet.
    await execute(client, "UPDATE directus_users SET token = 'new-token'")
    client.backend.projects.get(client.project).accounts.clear()
    assert is_limited(await get(client, "new-token"), "failures_per_address")
    assert (await get(client, "new-token", "192.0.2.2")).status == 200
    # What is known, and what cannot be guessed, goes on, and so does the public.
    assert (await get(client, "new-token")).status == 200
    jwt = (await sign_in(client, **ADMIN, address="192.0.2.2")).data["token"]
    assert (await get(client, jwt)).status == 200
    assert (await get(client, None, path="~/")).status == 200
    assert is_limited(await sign_in(client, **ADMIN), "failures_per_address")


@ensureDeferred
async def test_a_static_token_that_was_used_before_is_no_guess_whatever_changes_meanwhile(client: Client) -> None:
    """Programs and people behind one address: those who fail do not keep the programs from working."""
    await execute(client, "UPDATE directus_users SET token = 'first-token'")
    assert (await get(client, "first-token")).status == 200
    for number in range(ADDRESSES):
        assert (await get(client, f"guess-{number}")).status == 401
    for name in ("Ada", "Grace"):
        # A change of any account empties the cache of tokens.
        other = {"email": f"{name}@example.com", "password": "x", "status": "active", "role": 1}
        assert (await client.post("~/users", other, token="first-token", headers=of("192.0.2.1"))).status == 200
        assert "first-token" not in client.backend.projects.get(client.project).accounts
        assert (await get(client, "first-token")).status == 200
    assert is_limited(await get(client, "another"), "failures_per_address")
    # A token that is nobody's any more is refused; the one that the user has instead is not known.
    await execute(
        client, "UPDATE directus_users SET token = 'second-token' WHERE token_fingerprint IS NOT NULL OR token IS NOT NULL"
    )
    client.backend.projects.get(client.project).accounts.clear()
    assert (await get(client, "first-token")).status == 401
    assert is_limited(await get(client, "second-token"), "failures_per_address")


@ensureDeferred
async def test_bodies_do_not_tell_tokens_where_requests_do_not(client: Client) -> None:
    """A large body is refused early where the token is nobody's."""
    await client.collection("notes", field("text", "string", "TEXT", None))
    body = b'{"text": "' + b"x" * 2_000_000 + b'"}'
    for number in range(ADDRESSES):
        answer = await client.call("POST", "~/items/notes", body, token=f"guess-{number}", headers=of("192.0.2.1"))
        assert answer.status == 413
    # Neither does a right one that the process does not know yet.
    await execute(client, "UPDATE directus_users SET token = 'new-token'")
    client.backend.projects.get(client.project).accounts.clear()
    answer = await client.call("POST", "~/items/notes", body, token="new-token", headers=of("192.0.2.1"))
    assert answer.status == 413
    assert (await client.call("POST", "~/items/notes", body, token="new-token", headers=of("192.0.2.2"))).status == 200


@ensureDeferred
async def test_the_same_wrong_token_counts_once_and_jwts_do_not(client: Client) -> None:
    jwt = (await sign_in(client, **ADMIN)).data["token"]
    for number in range(ADDRESSES * 3):
        assert (await get(client, "old-token")).status == 401
        assert (await get(client, jwt[:-3] + f"{number:03}")).status == 401
        assert (await get(client, f"directus_{number:043}")).status == 401
    assert (await sign_in(client, **ADMIN)).status == 200


@ensureDeferred
async def test_super_admin_tokens_are_limited(client: Client) -> None:
    async def ask(path: str, token: str, address: str = "192.0.2.1") -> Reply:
        return await get(client, None, address, f"{path}?super_admin_token={token}")

    async def create(token: str) -> Reply:
        payload = {"project": "x", "user_email": "a@example.com", "user_password": "x", "super_admin_token": token}
        return await client.post("/server/projects", payload, token=None, headers=of("192.0.2.1"))

    for number in range(ADDRESSES):
        answer = await (create("wrong") if number % 3 == 2 else ask(("/server/info", "/health")[number % 3], "wrong"))
        assert answer.status == 401
    assert is_limited(await ask("/server/info", SUPER_ADMIN_TOKEN), "failures_per_address")
    assert is_limited(await ask("/health", SUPER_ADMIN_TOKEN), "failures_per_address")
    assert is_limited(await create(SUPER_ADMIN_TOKEN), "failures_per_address")
    assert (await get(client, None, path="/health")).status == 200
    assert (await ask("/server/info", SUPER_ADMIN_TOKEN, "192.0.2.2")).status == 200
    # The limits of projects are others.
    assert (await sign_in(client, **ADMIN)).status == 200


@ensureDeferred
async def test_attempts_of_several_kinds_are_added_up(client: Client) -> None:
    """What the database has counted of an address does not replace what only the process knows."""
    for number in range(ADDRESSES // 2):
        assert (await get(client, f"guess-{number}")).status == 401
        assert (await sign_in(client, f"user{number}@example.com")).status == 404
    assert is_limited(await get(client, "another"), "failures_per_address")
    assert is_limited(await sign_in(client, **ADMIN), "failures_per_address")


@ensureDeferred
async def test_one_time_passwords_are_limited_and_being_asked_for_one_is_no_failed_attempt(client: Client) -> None:
    secret = (await client.get("~/utils/2fa_secret")).data["2fa_secret"]
    answer = await client.post("~/users/me/activate_2fa", {"2fa_secret": secret, "otp": code(secret, current_time())})
    assert answer.status in (200, 204), answer.body
    for _ in range(ADDRESSES + 2):
        assert (await sign_in(client, **ADMIN)).code == 111
    for number in range(ACCOUNTS):
        headers = of(f"192.0.2.{number}")
        answer = await client.post("~/auth/authenticate", ADMIN | {"otp": "0"}, token=None, headers=headers)
        assert answer.code == 112
    assert is_limited(await sign_in(client, **ADMIN), "failures_per_account")


UNGUARDED = {"/<project>/auth/refresh", "/<project>/auth/logout"}
"""Anonymous routes whose only secret is a JWT or cookie, which cannot be guessed. Users who share an address with somebody who tries
passwords need them to stay signed in."""


def test_all_routes_with_which_secrets_can_be_tried_are_guarded() -> None:
    """A new anonymous route that takes a payload is guarded, or is one of those whose secrets cannot be guessed."""
    anonymous = {route.path for route in all_routes() if route.caller is Caller.ANONYMOUS and route.method == "POST"}
    guarded = {route.path for route in all_routes() if route.guarded}
    assert anonymous - guarded == UNGUARDED
    assert "/server/projects" in guarded


@ensureDeferred
async def test_server_info_shows_the_limits(client: Client, settings: Settings) -> None:
    found = (await get(client, None, path=f"/server/info?super_admin_token={SUPER_ADMIN_TOKEN}")).data["rate_limits"]
    assert found["failures_per_address"] == ADDRESSES
    assert found["requests_per_address"] == 0


@ensureDeferred
async def test_answers_are_the_same_without_general_limits(client: Client) -> None:
    answer = await get(client, TOKEN)
    assert "ratelimit" not in answer.headers
    assert "ratelimit-policy" not in answer.headers


class TestGeneralLimits:
    """The limits on requests, which are off by default."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return evolve(settings, rate_limits=evolve(settings.rate_limits, requests_per_address=20, requests_per_user=6))

    @ensureDeferred
    async def test_requests_from_an_address_are_limited(self, client: Client) -> None:
        answers = [await get(client, None, path="~/") for _ in range(22)]
        assert [answer.status for answer in answers] == [200] * 20 + [429] * 2
        assert answers[0].headers["ratelimit-policy"] == '"requests_per_address";q=20;w=36000'
        assert answers[0].headers["ratelimit"] == '"requests_per_address";r=19;t=1800'
        assert is_limited(answers[-1], "requests_per_address")
        assert answers[-1].headers["access-control-allow-origin"] == "*"
        for path in ("~/items/nothing", "/nothing", "/server/info"):
            assert is_limited(await get(client, TOKEN, path=path), "requests_per_address"), path
        for path in ("/health", "/server/ping"):
            assert (await get(client, None, path=path)).status == 200
        assert (await client.call("OPTIONS", "~/items/x", token=None, headers=of("192.0.2.1"))).status == 200
        assert (await get(client, None, "192.0.2.2", "~/")).status == 200

    @ensureDeferred
    async def test_requests_of_a_user_are_limited_wherever_they_come_from(self, client: Client) -> None:
        jwt = (await sign_in(client, **ADMIN)).data["token"]
        answers = [await get(client, (TOKEN, jwt)[number % 2], f"192.0.2.{number}") for number in range(8)]
        assert [answer.status for answer in answers] == [200] * 6 + [429] * 2
        assert is_limited(answers[-1], "requests_per_user")
        assert answers[3].headers["ratelimit"].startswith('"requests_per_user";r=2;')
        assert (await get(client, None, path="~/")).status == 200


async def at_once(*requests: Any) -> list[Reply]:
    found: list[Reply] = await defer.gatherResults([defer.ensureDeferred(each) for each in requests], consumeErrors=True)
    return found


@ensureDeferred
async def test_attempts_at_the_same_time_are_no_more_than_those_one_after_the_other(client: Client) -> None:
    client.pool.maxPersistentPerHost = 30
    passwords = await at_once(*(sign_in(client, ADMIN["email"], address=f"192.0.2.{number}") for number in range(30)))
    assert sorted(answer.status for answer in passwords) == [404] * ACCOUNTS + [429] * (30 - ACCOUNTS)
    assert all(is_limited(answer, "failures_per_account") for answer in passwords if answer.status == 429)
    unknown = await at_once(*(sign_in(client, "nobody@example.com", address=f"198.51.100.{number}") for number in range(30)))
    assert sorted(answer.status for answer in unknown) == sorted(answer.status for answer in passwords)
    tokens = await at_once(*(get(client, f"guess-{number}", "203.0.113.1") for number in range(30)))
    assert sorted(answer.status for answer in tokens) == [401] * ADDRESSES + [429] * (30 - ADDRESSES)
    assert nothing_runs(client)


@ensureDeferred
async def test_one_time_passwords_at_the_same_time_are_limited_too(client: Client) -> None:
    await client.patch("~/users/1", {"2fa_secret": "JBSWY3DPEHPK3PXP"})

    async def guess(number: int) -> Reply:
        body = {**ADMIN, "otp": f"{number:06}x"}
        return await client.post("~/auth/authenticate", body, token=None, headers=of(f"192.0.2.{number}"))

    answers = await at_once(*map(guess, range(30)))
    assert sorted(answer.status for answer in answers) == [404] * ACCOUNTS + [429] * (30 - ACCOUNTS)


@ensureDeferred
async def test_more_right_secrets_at_the_same_time_than_may_fail_wait_for_each_other(client: Client) -> None:
    client.pool.maxPersistentPerHost = 30
    answers = await at_once(*(sign_in(client, **ADMIN) for _ in range(3 * ACCOUNTS)))
    assert [answer.status for answer in answers] == [200] * 3 * ACCOUNTS
    users = [{"email": f"u{n}@example.com", "password": "x", "status": "active", "role": 1, "token": f"t{n}"} for n in range(20)]
    for user in users:
        assert (await client.post("~/users", user)).status == 200
    answers = await at_once(*(get(client, user["token"]) for user in users))
    assert [answer.status for answer in answers] == [200] * 20
    # Those that fail take the place of others, and those that do not give it back.
    await at_once(
        *(sign_in(client, ADMIN["email"], "wrong" if number < ACCOUNTS - 1 else ADMIN["password"]) for number in range(9))
    )
    assert (await sign_in(client, **ADMIN)).status == 200
    assert nothing_runs(client)


@ensureDeferred
async def test_a_user_with_a_session_does_not_wait_for_those_who_try_passwords(client: Client) -> None:
    assert (await sign_in(client, **ADMIN, address="198.51.100.1")).status == 200
    client.pool.maxPersistentPerHost = 30
    others = [sign_in(client, ADMIN["email"], address=f"192.0.2.{number}") for number in range(30)]
    answers = await at_once(*others, sign_in(client, **ADMIN, address="198.51.100.1"))
    assert answers[-1].status == 200
    assert sum(answer.status == 404 for answer in answers) == ACCOUNTS


@ensureDeferred
async def test_many_attempts_that_wait_are_admitted_or_refused_without_recursion(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "MAX_WAITING", 10_000)
    limiter = Limiter(Rate(1), lambda: 0.0)
    running = Running(limiter, "failures_per_address", "from this address")
    held: defer.Deferred[None] = defer.Deferred()
    ended = []

    async def attempt(number: int) -> None:
        async with running.attempt("a"):
            if number == 0:
                await held
            if number == 4000:
                limiter.add("a")
            ended.append(number)

    attempts = [defer.ensureDeferred(attempt(number)) for number in range(5000)]
    assert ended == []
    held.callback(None)
    results = await defer.DeferredList(attempts, consumeErrors=True)
    assert ended == list(range(4001))
    assert [number for number, (succeeded, _) in enumerate(results) if not succeeded] == list(range(4001, 5000))
    assert not len(running)


def nothing_runs(client: Client) -> bool:
    throttle = client.app.throttle
    return not any(len(each) for each in (throttle._of_addresses, throttle._of_accounts, throttle._of_pairs) if each is not None)


@ensureDeferred
async def test_no_more_than_a_number_of_attempts_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "MAX_WAITING", 3)
    running = Running(Limiter(Rate(1), lambda: 0.0), "failures_per_address", "from this address")
    held: defer.Deferred[None] = defer.Deferred()
    ended = []

    async def attempt(number: int) -> None:
        async with running.attempt("a"):
            await held
            ended.append(number)

    attempts = [defer.ensureDeferred(attempt(number)) for number in range(6)]
    refused = [each for each in attempts if each.called]
    for each in refused:
        with pytest.raises(ServiceUnavailable, match="from this address"):
            await each
    held.callback(None)
    await defer.gatherResults([each for each in attempts if each not in refused])
    assert (ended, len(refused), len(running)) == ([0, 1, 2, 3], 2, 0)
