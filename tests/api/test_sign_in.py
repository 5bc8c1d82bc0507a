"""Signing in: what it tells, what it does not, and what a token is worth."""

import base64
import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import argon2
import bcrypt
import jwt
import pytest
from pytest_twisted import ensureDeferred

from directus_tx.accounts import hashes, tokens
from directus_tx.db.connection import Connection
from directus_tx.db.session import Session
from directus_tx.schema import migrations
from tests.conftest import Client, Reply

PASSWORD = "right-password"
STRONGER = argon2.PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)


async def execute(client: Client, statement: str, parameters: Any = ()) -> Any:
    session = Session(client.backend.projects.get(client.project).database)
    return await session.transaction(lambda session: session.query(statement, parameters))


async def sign_in(client: Client, email: Any, password: Any = PASSWORD) -> Reply:
    return await client.post("~/auth/authenticate", {"email": email, "password": password}, token=None)


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The text of each statement that connections run, without values: BEGIN and COMMIT among them."""
    texts: list[str] = []
    text_of = Connection._text

    def noted(self: Connection, statement: Any, before: str = "", after: str = "") -> str:
        text = text_of(self, statement, before, after)
        # What the pool asks for at any time: whether the schema has changed, the number of connections, and for a new one the versions.
        if not any(each in text for each in ("pg_class", "max_connections", "SELECT kind, version")):
            texts.append(text)
        return text

    monkeypatch.setattr(Connection, "_text", noted)
    return texts


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often hashes of each kind are checked."""
    counted: Counter[str] = Counter()

    def counting(check: Callable[[Any, Any], Any], kind: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        def counted_check(first: Any, second: Any) -> Any:
            counted[kind(first, second)] += 1
            return check(first, second)

        return counted_check

    monkeypatch.setattr(bcrypt, "checkpw", counting(bcrypt.checkpw, lambda text, hashed: hashed[:7].decode()))
    verify = argon2.PasswordHasher.verify
    monkeypatch.setattr(
        argon2.PasswordHasher,
        "verify",
        lambda self, hashed, text: counting(lambda h, t: verify(self, h, t), lambda h, t: hashes.kind_of(h))(hashed, text),
    )
    return counted


USERS = {
    "argon2@example.com": hashes.hash_argon2(PASSWORD),
    "cheaper@example.com": hashes.hash_bcrypt(PASSWORD, 4),
    "bcrypt@example.com": hashes.hash_bcrypt(PASSWORD, 5),
    "other-argon2@example.com": STRONGER.hash(PASSWORD),
    "none@example.com": None,
    "empty@example.com": "",
    "broken@example.com": "$2y$05$short",
    "costly@example.com": "$2y$31$" + "." * 53,
}
STATUSES = {"suspended@example.com": "suspended", "draft@example.com": "draft"}


async def make_users(client: Client) -> None:
    for email, hashed in (USERS | dict.fromkeys(STATUSES, USERS["argon2@example.com"])).items():
        sql = "INSERT INTO directus_users (email, password, status, role) VALUES (%s, %s, %s, 1)"
        await execute(client, sql, (email, hashed, STATUSES.get(email, "active")))


@ensureDeferred
async def test_refusing_an_unknown_address_is_the_same_work_as_refusing_a_wrong_password(
    client: Client, statements: list[str], checks: Counter[str]
) -> None:
    await make_users(client)
    await sign_in(client, "unknown@example.com", "wrong")
    done = {}
    for email in ["unknown@example.com", *(USERS.keys() - {"costly@example.com"}), *STATUSES, "other-unknown@example.com"]:
        statements.clear()
        checks.clear()
        answer = await sign_in(client, email, "wrong")
        assert (answer.status, answer.code) == (404, 100)
        assert [text.startswith("BEGIN; ") for text in statements].count(True) == 2
        assert [text.endswith("COMMIT") for text in statements].count(True) == 2
        assert len(checks) == 4
        done[email] = (answer.body, tuple(statements), tuple(sorted(checks.items())))
    assert len(set(done.values())) == 1, done


@ensureDeferred
async def test_refusing_an_unknown_address_leaves_no_gap_that_refusing_a_wrong_password_does_not_leave(client: Client) -> None:
    await make_users(client)

    async def next_activity() -> int:
        assert (await sign_in(client, "argon2@example.com")).status == 200
        ((id,),) = await execute(client, "SELECT max(id) FROM directus_activity")
        return int(id)

    gaps = []
    for email in ("argon2@example.com", "unknown@example.com", "none@example.com", "unknown@example.com"):
        before = await next_activity()
        await sign_in(client, email, "wrong")
        gaps.append(await next_activity() - before)
    assert gaps == [2, 2, 2, 2]
    noted = await client.get("~/activity?filter[action]=invalid-credentials&fields=action_by,item&sort=id")
    assert noted.data == [{"action_by": 2, "item": "2"}, {"action_by": 6, "item": "6"}]
    assert (await client.get("~/activity?filter[action_by]=0&fields=id")).data == []


@ensureDeferred
async def test_all_kinds_of_hashes_work_and_are_replaced_by_the_newest(client: Client, checks: Counter[str]) -> None:
    await make_users(client)
    for email in ("argon2@example.com", "cheaper@example.com", "bcrypt@example.com", "other-argon2@example.com"):
        assert (await sign_in(client, email, PASSWORD + "x")).status == 404
        assert (await sign_in(client, email)).status == 200
        ((hashed,),) = await execute(client, "SELECT password FROM directus_users WHERE email = %s", (email,))
        assert hashes.kind_of(hashed) == hashes.CURRENT
        assert (await sign_in(client, email)).status == 200
    for email in ("none@example.com", "empty@example.com", "broken@example.com"):
        assert (await sign_in(client, email)).status == 404
    await execute(client, "DELETE FROM directus_users WHERE email = 'broken@example.com'")
    checks.clear()
    await sign_in(client, "unknown@example.com")
    # Nobody has bcrypt any more, but for a hash that is too costly to be checked for those who do not have it.
    assert checks == {hashes.CURRENT: 1}


@ensureDeferred
async def test_the_right_password_of_a_user_who_is_not_active_says_so(client: Client) -> None:
    await make_users(client)
    assert (await sign_in(client, "suspended@example.com")).code == 103
    assert (await sign_in(client, "draft@example.com")).code == 103


def test_the_index_of_kinds_is_that_of_the_question() -> None:
    sql = next(each.sql for each in migrations.migrations() if each.name == "password_kinds")
    assert f"substring(password from '{hashes.KIND}')" in sql


@ensureDeferred
async def test_kinds_are_found_by_their_index(client: Client) -> None:
    from directus_tx.accounts.sign_in import _FIND

    sql = "INSERT INTO directus_users (email, password) SELECT 'u' || n || '@example.com', %s FROM generate_series(1, 5000) AS n"
    await execute(client, sql, (USERS["bcrypt@example.com"],))
    await execute(client, "ANALYZE directus_users")
    plan = "\n".join(row[0] for row in await execute(client, "EXPLAIN " + _FIND, ("u5@example.com",)))
    assert "Seq Scan" not in plan


REFUSED_ADDRESSES = {
    "nothing": "",
    "no at sign": "somebody",
    "a blank": "a b@example.com",
    "NUL": "a\x00@example.com",
    "NUL at its end": "admin@example.com\x00",
    "too long": "a" * 200 + "@example.com",
    "half a megabyte": "a" * 2**19 + "@example.com",
    "many dots": "a@" + "a." * 60 + "@",
    "a number": 5,
    "a list": ["admin@example.com"],
    "null": None,
    "an object": {"admin@example.com": 1},
}


@ensureDeferred
async def test_what_is_no_address_is_refused_before_any_work(client: Client, statements: list[str], checks: Counter[str]) -> None:
    await client.get("~/users/me")
    statements.clear()
    for name, email in REFUSED_ADDRESSES.items():
        answer = await sign_in(client, email)
        # No body may hold a NUL, wherever it is sent.
        assert (answer.status, answer.code) == (422, 4 if "NUL" in name else 114), name
        assert (statements, checks) == ([], {}), name


PASSWORDS = {
    "NUL": ("\x00", 422),
    "NUL within": ("pass\x00word", 422),
    "as long as may be": ("ä" * 4096, 404),
    "too long": ("a" * 4097, 422),
    "half a megabyte": ("a" * 2**19, 422),
    "a number": (5, 422),
    "a list": (["password"], 422),
    "true": (True, 422),
    "beyond the plane": ("\U0001f600" * 10, 404),
}


@ensureDeferred
async def test_strange_passwords_are_refused(client: Client) -> None:
    await make_users(client)
    for name, (password, status) in PASSWORDS.items():
        for email in ("admin@example.com", "bcrypt@example.com", "unknown@example.com"):
            assert (await sign_in(client, email, password)).status == status, (name, email)


def test_a_password_with_nul_is_another_than_that_without() -> None:
    for hashed in (hashes.hash_argon2("a\x00b"), hashes.hash_bcrypt("a\x00b", 4)):
        assert not hashes.matches("a", hashed)
        assert hashes.matches("a\x00b", hashed)


@ensureDeferred
async def test_lone_surrogates_are_no_json(client: Client) -> None:
    body = b'{"email": "admin@example.com", "password": "\\ud800"}'
    answer = await client.call("POST", "~/auth/authenticate", body, token=None)
    assert (answer.status, answer.code) == (400, 13)
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = await client.call(
        "POST", "~/auth/authenticate", b"email=admin@example.com&password=%ed%a0%80", token=None, headers=form
    )
    assert (answer.status, answer.code) == (400, 13)


TTLS = {"60": 60, "-5": -5, "0": 0, "": 20, "abc": 20, "²": 20, "1e3": 20, "9" * 17: 10 * 366 * 24 * 60, "9" * 40: 20}


@ensureDeferred
async def test_tokens_live_as_long_as_the_setting_says_or_the_default(client: Client) -> None:
    for text, minutes in TTLS.items():
        await execute(client, "UPDATE directus_settings SET value = %s WHERE key = 'auth_token_ttl'", (text,))
        before = int(datetime.now(UTC).timestamp())
        token = (await sign_in(client, "admin@example.com", "password")).data["token"]
        claims = jwt.decode(token, options={"verify_signature": False})
        assert claims["ttl"] == minutes
        assert before <= claims["exp"] - 60 * minutes <= before + 5
        assert (await client.get("~/users/me?fields=id", token=token)).status == (200 if minutes > 0 else 401)


# --- tokens that nobody has issued


async def signed(client: Client, **claims: Any) -> str:
    """A token with the project's own signature, and the security stamp of the administrator."""
    project = client.backend.projects.get(client.project)
    ((stamp,),) = await execute(client, "SELECT security_stamp FROM directus_users WHERE id = 1")
    now = int(datetime.now(UTC).timestamp())
    all_claims = {"id": 1, "exp": now + 600, "ttl": 10, "type": "auth", "key": project.public_key, "project": project.key}
    return jwt.encode({**all_claims, "stamp": stamp, **claims}, project.keys.current, tokens.ALGORITHM)


WRONG_CLAIMS: dict[str, dict[str, Any]] = {
    "id true": {"id": True},
    "id false": {"id": False},
    "id text": {"id": "1"},
    "id null": {"id": None},
    "id a list": {"id": [1]},
    "id 0": {"id": 0},
    "id negative": {"id": -1},
    "id beyond bigint": {"id": 2**70},
    "id just beyond bigint": {"id": 2**63},
    "id not there": {"id": 2**63 - 1},
    "id a float": {"id": 1.0},
    "exp a float": {"exp": 4102444800.5},
    "exp text": {"exp": "4102444800"},
    "exp negative": {"exp": -1},
    "exp 0": {"exp": 0},
    "exp true": {"exp": True},
    "exp null": {"exp": None},
    "exp infinite": {"exp": float("inf")},
    "exp no number": {"exp": float("nan")},
    "exp a list": {"exp": []},
    "another project": {"project": "other"},
    "project a number": {"project": 5},
    "project a list": {"project": []},
    "project null": {"project": None},
    "another type": {"type": "invitation"},
    "type null": {"type": None},
    "not yet": {"nbf": 4102444800},
    "for somebody else": {"aud": "other"},
    "issued in words": {"iat": "now"},
    "stamp 0": {"stamp": 0},
    "another stamp": {"stamp": 1},
    "stamp beyond bigint": {"stamp": 2**70},
    "stamp negative": {"stamp": -(2**70)},
    "stamp text": {"stamp": "1"},
    "stamp true": {"stamp": True},
    "stamp null": {"stamp": None},
    "stamp a list": {"stamp": []},
}


@ensureDeferred
async def test_a_signed_token_with_wrong_claims_lets_nobody_in(client: Client) -> None:
    for name, claims in WRONG_CLAIMS.items():
        token = await signed(client, **claims)
        answer = await client.get("~/users/me?fields=id", token=token)
        assert (answer.status, answer.code) == (401, 3), name
        answer = await client.get("/types", token=token)
        assert (answer.status, answer.code) == (401, 3 if "project" in claims else 108), name


@ensureDeferred
async def test_a_signed_token_that_lives_for_ever_is_good(client: Client) -> None:
    for expires in (2**40, 2**62, 2**70):
        token = await signed(client, exp=expires)
        for _ in range(2):
            assert (await client.get("~/users/me?fields=id", token=token)).data == {"id": 1}


def of(*parts: bytes) -> str:
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


HEADER = b'{"typ":"JWT","alg":"HS256"}'
MALFORMED = {
    "nothing": "..",
    "one dot": of(HEADER, b"{}"),
    "no signature": of(HEADER, b'{"id":1}', b""),
    "no algorithm": of(b"{}", b"{}", b"x"),
    "algorithm none": of(b'{"alg":"none"}', b'{"id":1,"exp":4102444800}', b""),
    "algorithm a list": of(b'{"alg":["HS256"]}', b"{}", b"x"),
    "algorithm null": of(b'{"alg":null}', b"{}", b"x"),
    "header a number": of(b"5", b"5", b"5"),
    "header a deep list": of(b'{"a":' + b"[" * 9000, b"{}", b"x"),
    "payload a deep list": of(HEADER, b"[" * 9000, b"x"),
    "a long number": of(HEADER, b'{"id":' + b"9" * 5000 + b"}", b"x"),
    "no text": of(b"\xff\xfe", b"\xff", b"\xff"),
    "critical": of(b'{"alg":"HS256","crit":1}', b"{}", b"x"),
    "unencoded": of(b'{"alg":"HS256","b64":false}', b"{}", b"x"),
    "a key id that is a number": of(b'{"alg":"HS256","kid":5}', b"{}", b"x"),
    "no base64": "eyJ$$$.$$$.$$$",
    "a surrogate for a project": of(HEADER, json.dumps({"project": "\ud800"}).encode(), b"x"),
    "a path for a project": of(HEADER, b'{"project":"../../etc"}', b"x"),
    "NUL for a project": of(HEADER, b'{"project":"a\\u0000"}', b"x"),
    "letters beyond ASCII": "é.é.é",
    "NUL": "a%00b",
    "long": "x" * 10_000,
    "a quote": "'; DROP TABLE directus_users; --",
    "a percent sign": "%25s",
}


@ensureDeferred
async def test_a_malformed_token_lets_nobody_in(client: Client) -> None:
    for name, token in MALFORMED.items():
        for headers in ({"Authorization": f"bearer {token}"}, {"Authorization": f"Basic {of(token.encode())}"}):
            answer = await client.get("~/users/me?fields=id", token=None, headers=headers)
            assert (answer.status, answer.code) == (401, 3), name
            assert (await client.get("/types", token=None, headers=headers)).status == 401, name
        in_query = token.replace(" ", "+").replace("é", "%e9")
        answer = await client.get(f"~/users/me?fields=id&access_token={in_query}", token=None)
        # A query string may hold neither what is no UTF-8 nor a NUL.
        assert (answer.status, answer.code) == ((422, 4) if name in ("letters beyond ASCII", "NUL") else (401, 3)), name


@ensureDeferred
async def test_a_static_token_may_have_dots(client: Client) -> None:
    await execute(client, "UPDATE directus_users SET token = 'a.b.c' WHERE id = 1")
    assert (await client.get("~/users/me?fields=id", token="a.b.c")).data == {"id": 1}


@ensureDeferred
async def test_of_too_many_known_bearers_the_oldest_is_forgotten(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "MAX_KNOWN", 3)
    project = client.backend.projects.get(client.project)
    made = [await signed(client, ttl=number) for number in range(5)]
    for token in made:
        assert (await client.get("~/users/me?fields=id", token=token)).status == 200
    assert list(project.accounts) == made[2:]
    assert (await client.get("~/users/me?fields=id", token=made[0])).status == 200


@ensureDeferred
async def test_an_address_that_only_the_database_takes_for_that_of_a_user_is_unknown(client: Client) -> None:
    body = {"email": "kiki@example.com", "password": "password", "status": "active", "role": 1}
    assert (await client.post("~/users", body)).status == 200
    # The lower case of I with a dot is i in the database. Failed attempts are counted by the address that was sent.
    assert await execute(client, "SELECT lower(%s)", ("KİKİ@example.com",)) == [("kiki@example.com",)]
    for email in ("kİki@example.com", "KİKİ@EXAMPLE.COM", "kiki@exampleı.com"):
        assert (await sign_in(client, email, "password")).code == 100
    for email in ("kiki@example.com", "KIKI@Example.com"):
        assert (await sign_in(client, email, "password")).status == 200
    # Users whose addresses have such letters sign in with them.
    assert (await client.post("~/users", body | {"email": "İrem.Ölçer@example.com"})).status == 200
    assert (await sign_in(client, "İrem.ölçer@example.com", "password")).status == 200
