"""Sealed fields: tokens and two-factor secrets are encrypted in the database, and clients write and read them as before."""

import json
from typing import Any
from urllib.parse import quote

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet import defer, reactor
from twisted.logger import LogLevel, formatEvent, globalLogPublisher

from directus_tx.db.connection import connected
from directus_tx.db.session import Session
from directus_tx.errors import InactiveUser
from directus_tx.projects import unsealed
from directus_tx.projects.files import ProjectDatabase
from directus_tx.projects.rotation import Resealed, reseal
from directus_tx.projects.unsealed import seal_all
from directus_tx.schema import migrations
from directus_tx.schema.sealed import SEALED, USER_TOKEN
from directus_tx.sealing import Keys, is_sealed
from tests.api.test_rotation import forget, project_of, rotate
from tests.conftest import SUPER_ADMIN_TOKEN, TOKEN, Client, field, limited_role

ME = "~/users/me?fields=id"
SECRET = "JBSWY3DPEHPK3PXP"
TEXTS = ("x", "Ümläut-token", "v1.not-sealed", "v1." + "A" * 60, "a b", "'; --", "%s %%", "😀" * 60, "t" * 255)


async def execute(client: Client, statement: str, parameters: Any = ()) -> Any:
    return await Session(project_of(client).database).transaction(lambda session: session.query(statement, parameters))


async def user(client: Client, name: str, **more: Any) -> int:
    """Creates an active user without a role, and returns the id."""
    answer = await client.post("~/users", {"email": f"{name}@example.com", "password": "password", "status": "active", **more})
    assert answer.status == 200, answer.body
    return int(answer.data["id"])


async def stored(client: Client) -> list[tuple[Any, ...]]:
    return await execute(client, 'SELECT id, token, token_fingerprint, "2fa_secret" FROM directus_users ORDER BY id')


async def unseal_all(client: Client) -> None:
    """Stores all tokens and secrets as they were before they were sealed."""
    keys = project_of(client).keys
    for id, token, _, secret in await stored(client):
        plain = (USER_TOKEN.unsealed(keys, token), SEALED["directus_users"]["2fa_secret"].unsealed(keys, secret), id)
        await execute(
            client, 'UPDATE directus_users SET token = %s, token_fingerprint = NULL, "2fa_secret" = %s WHERE id = %s', plain
        )


@ensureDeferred
async def test_what_is_written_is_read_back_and_is_nowhere_in_the_database(client: Client) -> None:
    await client.collection("things", field("owner", "owner", "INT", 11))
    texts = [f"{text[:240]}{number}" for number, text in enumerate(TEXTS)]
    made = [await user(client, f"u{n}", token=text, **{"2fa_secret": SECRET}) for n, text in enumerate(texts)]
    assert {s for *_, s in await stored(client)} & {SECRET, *texts} == set()
    for id, text in zip(made, texts, strict=True):
        shown = await client.get(f"~/users/{id}?fields=token,2fa_secret")
        assert shown.data == {"token": text, "2fa_secret": SECRET}
        await client.post("~/items/things", {})
        created = await client.patch("~/items/things/1?fields=owner.token,owner.2fa_secret", {"owner": id})
        assert created.data["owner"] == shown.data
        bearer = quote(text, safe="")
        assert (await client.get(f"~/users/me?fields=id&access_token={bearer}", token=None)).status == 401, "has no role"
    tables = await execute(client, "SELECT tablename FROM pg_tables WHERE tablename LIKE 'directus_%%'")
    everything = [await execute(client, f"SELECT t::text FROM {table} AS t") for (table,) in tables]
    held = json.dumps(everything, ensure_ascii=False)
    assert "u1@example.com" in held
    assert [text for text in (SECRET, TOKEN, *texts) if len(text) > 8 and text in held] == []
    listed = (await client.get("~/users?fields=id,token&sort=id&limit=-1")).data
    assert listed == [{"id": 1, "token": TOKEN}, *({"id": i, "token": t} for i, t in zip(made, texts, strict=True))]


@ensureDeferred
async def test_a_token_is_valid_until_it_is_changed(client: Client) -> None:
    id = await user(client, "ada", role=1, token="first")
    assert (await client.get(ME, token="first")).data == {"id": id}
    assert (await client.patch(f"~/users/{id}?fields=token", {"token": "second"})).data == {"token": "second"}
    assert [(await client.get(ME, token=token)).status for token in ("first", "second", "Second")] == [401, 200, 401]
    assert (await client.patch(f"~/users/{id}?fields=token", {"token": "second"})).data == {"token": "second"}
    assert (await client.get(ME, token="second")).status == 200
    for empty in ("", None):
        assert (await client.patch(f"~/users/{id}?fields=token", {"token": empty})).data == {"token": empty}
        assert (await client.get(ME, token="second")).status == 401
        ((row),) = [row for row in await stored(client) if row[0] == id]
        assert row[1:3] == (empty, None)
    too_long = await client.patch(f"~/users/{id}", {"token": "x" * 256})
    assert (too_long.status, too_long.code) == (422, 12)
    for wrong in ([], {}, "a\x00"):
        assert (await client.patch(f"~/users/{id}", {"token": wrong})).status == 422


@ensureDeferred
async def test_what_is_stored_is_no_token(client: Client) -> None:
    ((_, sealed, mark, _),) = await stored(client)
    assert is_sealed(sealed)
    for text in (sealed, mark):
        assert (await client.get(ME, token=text)).status == 401
    await user(client, "ada", role=1)
    await execute(client, "UPDATE directus_users SET token = %s WHERE id = 2", (sealed,))
    assert (await client.get(ME, token=sealed)).status == 401
    assert (await client.get("~/users?fields=id&filter[token]=" + sealed)).data == []


@ensureDeferred
async def test_tokens_are_unique(client: Client) -> None:
    ids = [await user(client, f"u{n}", token=f"token {n}") for n in range(3)]
    answers = [
        await client.post("~/users", {"email": "x@example.com", "password": "password", "token": "token 1"}),
        await client.patch(f"~/users/{ids[0]}", {"token": "token 1"}),
        await client.patch(f"~/users/{ids[0]},{ids[2]}", {"token": "new"}),
    ]
    for answer in answers:
        assert (answer.status, answer.code) == (409, 204)
        message = answer.json["error"]["message"]
        assert '"token" of "directus_users"' in message
        assert "fingerprint" not in message
    # With case, unlike other texts; of two at the same time, one.
    assert (await client.patch(f"~/users/{ids[0]}", {"token": "TOKEN 1"})).status == 200
    raced = await defer.gatherResults(
        [defer.ensureDeferred(client.patch(f"~/users/{id}", {"token": "raced"})) for id in ids]  # type: ignore[arg-type]
    )
    assert sorted(answer.status for answer in raced) == [200, 409, 409]
    # A token that was stored when the project had another key, and one that is not sealed.
    rotate(client)
    again = await client.patch(f"~/users/{ids[0]}", {"token": TOKEN})
    await unseal_all(client)
    plain = await client.patch(f"~/users/{ids[0]}", {"token": TOKEN})
    assert [(answer.status, answer.code) for answer in (again, plain)] == [(409, 204)] * 2
    assert (await client.patch("~/users/1?fields=token", {"token": TOKEN})).data == {"token": TOKEN}


@ensureDeferred
async def test_administrators_find_users_by_their_tokens(client: Client) -> None:
    await client.collection("things", field("owner", "owner", "INT", 11))
    ids = [1, *[await user(client, f"u{n}", token=f"t{n}") for n in range(3)], await user(client, "none", token=None)]
    for id in ids:
        thing = (await client.post("~/items/things?fields=id", {})).data["id"]
        await client.patch(f"~/items/things/{thing}", {"owner": id})

    async def found(condition: str) -> list[int]:
        answer = await client.get(f"~/users?fields=id&sort=id&filter[token]{condition}")
        assert answer.status == 200, answer.body
        nested = await client.get(f"~/items/things?fields=owner&sort=owner&filter[owner.token]{condition}")
        assert [each["owner"] for each in nested.data] == [each["id"] for each in answer.data]
        return [ids.index(each["id"]) for each in answer.data]

    wanted = {
        f"={TOKEN}": [0],
        "[eq]=t1": [2],
        "[%3D]=t1": [2],
        "[eq]=T1": [],
        "[eq]=nobody": [],
        "[neq]=t1": [0, 1, 3],
        "[%21%3D]=t1": [0, 1, 3],
        "[in]=t0,t2,t9": [1, 3],
        "[nin]=t0,t2,t9": [0, 2],
        "[null]=1": [4],
        "[nnull]=1": [0, 1, 2, 3],
        "[empty]=1": [4],
        "[nempty]=1": [0, 1, 2, 3],
    }
    for condition, places in wanted.items():
        assert await found(condition) == places, condition
    rotate(client)
    await client.patch(f"~/users/{ids[1]}", {"token": "t0"})
    assert [await found(f"[in]=t0,t1,{TOKEN}"), await found("[nin]=t0,t1")] == [[0, 1, 2], [0, 3]]
    await unseal_all(client)
    for condition, places in wanted.items():
        assert await found(condition) == places, condition
    two = [await client.get(f"~/users?fields=id&sort=id&filter[2fa_secret][{name}]=1") for name in ("null", "nempty")]
    assert [len(answer.data) for answer in two] == [5, 0]


QUESTIONS = (
    "filter[{0}][contains]=a",
    "filter[{0}][ncontains]=a",
    "filter[{0}][contains]=",
    "filter[{0}][like]=v1",
    "filter[{0}][nlike]=v1",
    "filter[{0}][rlike]=v1%25",
    "filter[{0}][nrlike]=v1%25",
    "filter[{0}][lt]=a",
    "filter[{0}][lte]=a",
    "filter[{0}][gt]=a",
    "filter[{0}][gte]=a",
    "filter[{0}][between]=a,z",
    "filter[{0}][nbetween]=a,z",
    "filter[{0}][has]=1",
    "filter[{0}][all]=1",
    "sort={0}",
    "sort=-{0}",
    "sort=email,{0}",
    "sort={0}&cursor=",
    "aggregate[min]={0}",
    "aggregate[max]={0}",
    "aggregate[countDistinct]={0}",
    "aggregate[sum]={0}",
    "aggregate[count]=*&groupby={0}",
)


@pytest.mark.parametrize("name", ["token", "2fa_secret"])
@ensureDeferred
async def test_what_is_stored_is_never_compared(client: Client, name: str) -> None:
    """Nobody gets an order, a part or a group of what is encrypted; nor are those of others refused for another reason."""
    await client.collection("things", field("owner", "owner", "INT", 11))
    await client.patch("~/users/1", {"2fa_secret": SECRET})
    for question in QUESTIONS:
        answer = await client.get(f"~/users?{question.format(name)}")
        assert (answer.status, answer.code) == (422, 12), (question, answer.body)
        assert "fingerprint" not in answer.json["error"]["message"]
        if question.startswith("filter"):
            nested = await client.get(f"~/items/things?{question.format(f'owner.{name}')}")
            assert (nested.status, nested.code) == (422, 12), question
    if name == "2fa_secret":
        for sign in ("eq", "neq", "in", "nin"):
            assert (await client.get(f"~/users?filter[2fa_secret][{sign}]={SECRET}")).status == 422
    assert (await client.get(f"~/users?aggregate[count]={name}")).data == [{"count": {name: 1}}]
    for text in (SECRET, TOKEN, TOKEN[6:], "v1.", "v1"):
        assert (await client.get(f"~/users?fields=id&q={text}")).data == []
    declared = await client.patch("~/collections/directus_users", {"indexes": [{"fields": [name]}]})
    declared_by_field = await client.patch(f"~/fields/directus_users/{name}", {"index": True})
    assert [400 <= answer.status < 500 for answer in (declared, declared_by_field)] == [True, True]
    # Of what is asked often, indexes are advised only where they can be made.
    assert (await client.get("~/server/advice?all=1")).status == 200


@ensureDeferred
async def test_the_fingerprints_are_no_field(client: Client) -> None:
    whole = (await client.get("~/users/1")).data
    assert not [name for name in whole if "fingerprint" in name or "former" in name]
    assert whole["token"] == TOKEN
    mark = (await stored(client))[0][2]
    for path in ("fields=token_fingerprint", "sort=token_fingerprint", f"filter[token_fingerprint]={mark}"):
        answer = await client.get(f"~/users?{path}")
        assert (answer.status, answer.code) == (422, 202)
    for method, path, body in (
        ("PATCH", "~/users/1", {"token_fingerprint": None}),
        ("POST", "~/users", {"email": "x@example.com", "password": "password", "token_fingerprint": mark}),
    ):
        answer = await client.call(method, path, body)
        assert (answer.status, answer.code) == (422, 12)
    taken = await client.post("~/fields/directus_users", field("token_fingerprint"))
    assert 400 <= taken.status < 500
    await execute(
        client, "INSERT INTO directus_fields (collection, field, type) VALUES ('directus_users', 'token_fingerprint', 'string')"
    )
    assert "token_fingerprint" not in (await client.get("~/users/1")).data
    assert (await client.get("~/users?fields=token_fingerprint")).status == 422
    shown = (await client.get("~/fields/directus_users/token")).data
    assert (shown["datatype"], shown["length"], shown["unique"], shown["type"]) == ("VARCHAR", "255", True, "string")


@ensureDeferred
async def test_history_and_webhooks_have_neither_values_nor_what_is_stored(client: Client) -> None:
    await client.post(
        "~/webhooks",
        {
            "collection": "directus_users",
            "directus_action": "item.update:after",
            "url": "http://example.com/",
            "status": "active",
        },
    )
    await client.patch("~/users/1", {"token": "another", "2fa_secret": SECRET, "title": "Dr"})
    ((_, *values),) = await stored(client)
    texts = ["another", SECRET, *values]
    for table in ("directus_activity", "directus_revisions", "directus_outbox"):
        held = json.dumps(await execute(client, f"SELECT t::text FROM {table} AS t"))
        assert "Dr" in held or table == "directus_activity"
        assert [text for text in texts if text in held] == []
    revision = (await client.get("~/users/1/revisions", token="another")).data[-1]["id"]
    reverted = await client.patch(f"~/users/1/revert/{revision}?fields=token,2fa_secret,title", {}, token="another")
    assert reverted.status in (200, 404)
    assert (await client.get("~/users/1?fields=token", token="another")).data == {"token": "another"}


@ensureDeferred
async def test_a_cookie_sign_in_makes_a_token_that_is_sealed(client: Client) -> None:
    id = await user(client, "ada", role=1)
    credentials = {"email": "ada@example.com", "password": "password", "mode": "cookie"}
    assert (await client.post("~/auth/authenticate", credentials, token=None)).status == 200
    made = (await client.get(f"~/users/{id}?fields=token")).data["token"]
    assert len(made) >= 20
    assert (await client.get(ME, token=made)).data == {"id": id}
    row = (await stored(client))[-1]
    assert is_sealed(row[1])
    assert (await client.post("~/auth/authenticate", credentials, token=None)).status == 200
    assert (await stored(client))[-1] == row


@ensureDeferred
async def test_values_of_before_are_sealed_when_the_project_is_opened(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """In several batches; those that are sealed, and empty ones, stay as they are. Doing it again does nothing."""
    monkeypatch.setattr(unsealed, "BATCH", 7)
    await execute(
        client,
        'INSERT INTO directus_users (email, status, role, token, "2fa_secret")'
        " SELECT n || '@example.com', 'active', 1, CASE n %% 5 WHEN 0 THEN NULL ELSE 'plain ' || n END,"
        " CASE n %% 3 WHEN 0 THEN NULL WHEN 1 THEN '' ELSE %s END FROM generate_series(1, 40) AS n",
        (SECRET,),
    )
    for n, text in enumerate(TEXTS):
        await execute(
            client, "INSERT INTO directus_users (email, status, role, token) VALUES (%s, 'active', 1, %s)", (f"t{n}", text)
        )
    await execute(client, "INSERT INTO directus_users (email, token) VALUES ('e', '')")
    query = "~/users?fields=email,token,2fa_secret&sort=id&limit=-1"
    project = project_of(client)
    before = await stored(client)
    # The form of a sealed value without a fingerprint does not matter.
    shown = (await client.get(query)).data
    project._restored()
    assert [{**each, "token": None} for each in (await client.get(query)).data] == [{**each, "token": None} for each in shown]
    after = await stored(client)
    for (_, token, mark, secret), (_, *old) in zip(after, before, strict=True):
        assert [USER_TOKEN.unsealed(project.keys, token), bool(mark)] == [old[0] if old[1] is None else TOKEN, bool(old[0])]
        assert (secret == old[2]) is (not old[2])
        assert all(not text or is_sealed(text) for text in (token, secret))
    assert after[0] == before[0]
    for text in ("plain 1", "plain 39", *TEXTS):
        assert (await client.get(f"~/users/me?fields=token&access_token={quote(text)}", token=None)).data == {"token": text}
    assert await seal_all(Session(project.database), project.keys) == 0
    assert await stored(client) == after


@ensureDeferred
async def test_several_processes_seal_at_the_same_time_and_one_is_broken_off(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unsealed, "BATCH", 10)
    await execute(
        client,
        "INSERT INTO directus_users (email, status, role, token) SELECT n, 'active', 1, 'plain ' || n FROM generate_series(1, 95) AS n",
    )
    project = project_of(client)
    asked = 0
    seal_batch = unsealed._seal_batch

    async def failing(*arguments: Any) -> Any:
        nonlocal asked
        asked += 1
        found = await seal_batch(*arguments)
        if asked == 4:
            raise RuntimeError("broken off")
        return found

    monkeypatch.setattr(unsealed, "_seal_batch", failing)
    with pytest.raises(RuntimeError, match="broken off"):
        await seal_all(Session(project.database), project.keys)
    monkeypatch.undo()
    monkeypatch.setattr(unsealed, "BATCH", 10)
    assert sum(mark is not None for _, _, mark, _ in await stored(client)) == 31
    numbers = await defer.gatherResults(
        [defer.ensureDeferred(seal_all(Session(project.database), project.keys)) for _ in range(4)]  # type: ignore[arg-type]
    )
    assert sum(numbers) == 65
    rows = await stored(client)
    assert [USER_TOKEN.unsealed(project.keys, token) for _, token, *_ in rows] == [TOKEN, *(f"plain {n}" for n in range(1, 96))]
    assert len({mark for _, _, mark, _ in rows}) == 96


@ensureDeferred
async def test_tokens_that_another_program_writes_are_valid_and_are_sealed_later(client: Client) -> None:
    await client.get(ME)
    await execute(client, "UPDATE directus_users SET token = 'by SQL' WHERE id = 1")
    assert [(await client.get(ME, token=token)).status for token in (TOKEN, "by SQL", "BY SQL")] == [401, 200, 401]
    assert (await client.get("~/users/1?fields=token", token="by SQL")).data == {"token": "by SQL"}
    project_of(client)._restored()
    assert (await client.get("~/users?fields=id&filter[token]=by SQL".replace(" ", "%20"), token="by SQL")).data == [{"id": 1}]
    ((_, sealed, mark, _),) = await stored(client)
    assert is_sealed(sealed)
    assert len(mark) == 64
    await execute(client, "UPDATE directus_users SET token = NULL WHERE id = 1")
    assert (await client.get(ME, token="by SQL")).status == 401
    assert (await stored(client))[0][2] is None


@ensureDeferred
async def test_where_the_database_can_only_be_read_tokens_are_valid_as_they_are(client: Client) -> None:
    await unseal_all(client)
    async with limited_role(client, 'REVOKE INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public FROM "{role}"'):
        project_of(client)._restored()
        answer = await client.get("~/users/me?fields=id,token")
        assert answer.data == {"id": 1, "token": TOKEN}
        assert (await client.get(f"~/users?fields=id&filter[token]={TOKEN}")).data == [{"id": 1}]
        assert (await client.get(ME, token="nobody")).status == 401
        assert (await stored(client))[0][1] == TOKEN
    project_of(client)._restored()
    assert (await client.get("~/users/me?fields=id,token")).data == {"id": 1, "token": TOKEN}
    assert is_sealed((await stored(client))[0][1])


@ensureDeferred
async def test_a_new_key_keeps_tokens_valid(client: Client) -> None:
    await client.patch("~/users/1", {"2fa_secret": SECRET})
    ids = [await user(client, f"u{n}", role=1, token=f"t{n}", **{"2fa_secret": SECRET}) for n in range(3)]
    rotate(client)
    await client.patch(f"~/users/{ids[0]}", {"token": "t0"})

    async def check() -> None:
        shown = [
            {"id": id, "token": token, "2fa_secret": SECRET}
            for id, token in zip([1, *ids], [TOKEN, "t0", "t1", "t2"], strict=True)
        ]
        assert (await client.get("~/users?fields=id,token,2fa_secret&sort=id")).data == shown
        for each in shown:
            assert (await client.get(ME, token=each["token"])).data == {"id": each["id"]}
            assert (await client.get(f"~/users?fields=id&filter[token]={each['token']}")).data == [{"id": each["id"]}]

    await check()
    session, keys = Session(project_of(client).database), project_of(client).keys
    assert await reseal(session, keys) == Resealed(7, 0)
    await check()
    forget(client)
    assert project_of(client).keys == Keys(keys.current)
    await check()


@ensureDeferred
async def test_what_was_sealed_with_another_key_is_lost_and_said_to_be(client: Client) -> None:
    foreign = Keys("another")
    id = await user(client, "ada", role=1, token="lost", **{"2fa_secret": SECRET})
    ((sealed, mark),) = [(USER_TOKEN.sealed(foreign, "lost"), USER_TOKEN.mark(foreign, "lost"))]
    secret = SEALED["directus_users"]["2fa_secret"].sealed(foreign, SECRET)
    await execute(
        client,
        'UPDATE directus_users SET token = %s, token_fingerprint = %s, "2fa_secret" = %s WHERE id = %s',
        (sealed, mark, secret, id),
    )
    assert (await client.get(f"~/users/{id}?fields=token,2fa_secret")).data == {"token": None, "2fa_secret": None}
    assert (await client.get(ME, token="lost")).status == 401
    assert await reseal(Session(project_of(client).database), project_of(client).keys) == Resealed(0, 2)
    credentials = {"email": "ada@example.com", "password": "password"}
    refused = await client.post("~/auth/authenticate", credentials, token=None)
    assert (refused.status, refused.code) == (401, InactiveUser.code)
    again = await client.patch(f"~/users/{id}?fields=token", {"token": "new", "2fa_secret": None})
    assert again.data == {"token": "new"}
    assert (await client.post("~/auth/authenticate", credentials, token=None)).status == 200


async def existing(client: Client, name: str) -> None:
    """Makes a project of the database of that name, which has system tables, and uses it."""
    payload = {"project": name, "project_name": "x", "super_admin_token": SUPER_ADMIN_TOKEN, "user_email": "x@example.com"}
    payload |= {"user_password": "password", "db_name": name, "existing": True}
    answer = await client.post("/server/projects", payload, token=None)
    assert answer.status == 200, answer.body
    client.project = name


@pytest.mark.parametrize("viewed", [False, True])
@ensureDeferred
async def test_a_database_of_before_is_converted(client: Client, monkeypatch: pytest.MonkeyPatch, viewed: bool) -> None:
    """Also if views of other programs have the columns, which then show no secrets."""
    name = f"before_{client.project}"
    databases = client.backend.projects.databases
    async with connected(reactor, databases.server) as connection:
        await connection.run(f'CREATE DATABASE "{name}"')
    known = migrations.migrations()
    number = next(each.version for each in known if each.name == "sealed_fields")
    monkeypatch.setattr(migrations, "migrations", lambda: tuple(each for each in known if each.version < number))
    database = databases.pool(ProjectDatabase(name))
    try:
        await migrations.migrate(Session(database))
        users = "INSERT INTO directus_users (email, status, role, token, \"2fa_secret\") VALUES ('a@example.com', 'active', 1, 'plain', %s)"
        await Session(database).transaction(lambda session: session.query(users, (SECRET,)))
        if viewed:
            views = (
                "CREATE VIEW people AS SELECT * FROM directus_users; CREATE VIEW names AS SELECT id, token AS name FROM people"
            )
            await Session(database).transaction(lambda session: session.query(views))
    finally:
        await database.close()
    monkeypatch.undo()
    await existing(client, name)
    assert (await client.get("~/users?fields=token,2fa_secret", token="plain")).data == [{"token": "plain", "2fa_secret": SECRET}]
    ((_, token, mark, secret),) = await stored(client)
    assert [is_sealed(token), is_sealed(secret), len(mark)] == [True, True, 64]
    if viewed:
        assert await execute(client, 'SELECT token, "2fa_secret", name FROM people JOIN names USING (id)') == [(None, None, None)]
    changed = await client.patch("~/users/1?fields=token", {"token": "new"}, token="plain")
    assert changed.data == {"token": "new"}
    assert [(await client.get(ME, token=token)).status for token in ("plain", "new")] == [401, 200]


@ensureDeferred
async def test_a_database_with_the_key_of_another_project_says_what_is_lost(client: Client) -> None:
    project = project_of(client)
    path = client.backend.projects.files.directory / project.config.file_name
    await client.patch("~/users/1", {"2fa_secret": SECRET})
    text = path.read_text()
    path.unlink()
    events: list[Any] = []
    globalLogPublisher.addObserver(events.append)
    try:
        await existing(client, project.database.parameters["dbname"])
    finally:
        globalLogPublisher.removeObserver(events.append)
        # Whoever deletes a project with a database that was brought leaves that.
        path.write_text(text)
    said = [formatEvent(event) for event in events if event["log_level"] is LogLevel.warn]
    assert any("that the project does not have: 2. Add the secret_key" in text for text in said), said
    assert (await client.get(ME)).status == 401
    assert project_of(client).lost_secrets == 2
    # What the message says helps, without a restart.
    file = client.backend.projects.files.directory / project_of(client).config.file_name
    file.write_text(f"former_secret_keys = [{json.dumps(project.keys.current)}]\n{file.read_text()}")
    assert (await client.get("~/users/me?fields=2fa_secret")).data == {"2fa_secret": SECRET}


@ensureDeferred
async def test_projects_with_one_database_have_one_key(client: Client) -> None:
    first = project_of(client)
    rotate(client)
    await existing(client, project_of(client).database.parameters["dbname"])
    second = project_of(client)
    assert second.keys == client.backend.projects.get(first.key).keys
    assert second.lost_secrets == 0
    assert (await client.patch("~/users/1?fields=token", {"token": "by the second"})).data == {"token": "by the second"}
    client.project = first.key
    assert (await client.get("~/users/1?fields=token", token="by the second")).data == {"token": "by the second"}
    jwt = (await client.post("~/auth/authenticate", {"email": "admin@example.com", "password": "password"}, token=None)).data[
        "token"
    ]
    assert [(await client.get(path, token=jwt)).status for path in (ME, f"/{second.key}/users/me?fields=id")] == [200, 401]
    assert [each.key for each in client.backend.projects.sharing(first.config.database, but=first.key)] == [second.key]
    await client.backend.projects.delete(second.key)


@ensureDeferred
async def test_a_token_that_another_program_gives_to_a_second_user_stays_that_of_the_first(client: Client) -> None:
    first = await user(client, "ada", role=1, token="shared")
    rotated = await user(client, "bob", role=1, token="shared too")
    await client.patch(f"~/users/{rotated}", {"token": "shared too"})
    rotate(client)
    second, third = await user(client, "eve", role=1), await user(client, "dan", role=1)
    for id, token in ((second, "shared"), (third, "shared too")):
        await execute(client, "UPDATE directus_users SET token = %s WHERE id = %s", (token, id))
    await execute(client, "UPDATE directus_users SET token = 'alone' WHERE id = 1")
    for _ in range(2):
        for token, id in (("shared", first), ("shared too", rotated), ("alone", 1)):
            assert (await client.get(ME, token=token)).data == {"id": id}
        project_of(client)._restored()
    marks = {id: mark for id, _, mark, _ in await stored(client)}
    assert [bool(marks[id]) for id in (1, first, second, third)] == [True, True, False, False]
