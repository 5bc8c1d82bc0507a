"""Rotating the secret key of a project: who is signed in stays so, and what is sealed can be read, until the former keys are forgotten."""

import json
import threading
from typing import Any

import pytest
from attrs import evolve
from pytest_twisted import ensureDeferred
from twisted.internet.threads import deferToThread

from directus_tx.db.session import Session
from directus_tx.mail.delivery import KIND as MAIL
from directus_tx.projects.files import BrokenProjectFile, parse_file, text_of
from directus_tx.projects.rotation import SEALED_COLUMNS, Resealed, SealedColumn, reseal, with_new_key, without_keys
from directus_tx.sealing import Keys, is_sealed
from directus_tx.webhooks import secrets
from tests.conftest import Client, field

ME = "~/users/me?fields=id"
ADMIN = {"email": "admin@example.com", "password": "password"}


def project_of(client: Client) -> Any:
    return client.backend.projects.get(client.project)


def rotate(client: Client) -> None:
    client.backend.projects.files.change(project_of(client).config, with_new_key)


def forget(client: Client) -> None:
    config = project_of(client).config
    client.backend.projects.files.change(config, lambda found: without_keys(found, config.former_secret_keys))


async def execute(client: Client, statement: str, parameters: Any = ()) -> Any:
    return await Session(project_of(client).database).transaction(lambda session: session.query(statement, parameters))


@ensureDeferred
async def test_nobody_is_signed_out_until_the_keys_are_forgotten(client: Client) -> None:
    async def sign_in(**more: Any) -> Any:
        return await client.post("~/auth/authenticate", ADMIN | more, token=None)

    cookie = (await sign_in(mode="cookie")).headers["set-cookie"].partition(";")[0]
    issued = [(await sign_in()).data["token"]]
    first = project_of(client).keys.current
    for _ in range(3):
        rotate(client)
        issued.append((await sign_in()).data["token"])
    assert project_of(client).keys.all[-1] == first
    assert len(set(project_of(client).keys.all)) == 4

    async def statuses() -> list[int]:
        found = [(await client.get(ME, token=token)).status for token in issued]
        found += [(await client.post("~/auth/refresh", {"token": token}, token=None)).status for token in issued]
        return [*found, (await client.get(ME, token=None, headers={"Cookie": cookie})).status, (await client.get(ME)).status]

    assert await statuses() == [200] * 10
    await reseal(Session(project_of(client).database), project_of(client).keys)
    forget(client)
    assert await statuses() == [401, 401, 401, 200] * 2 + [200, 200]
    assert project_of(client).config.former_secret_keys == ()


@ensureDeferred
async def test_secrets_stay_readable_and_are_sealed_anew(client: Client) -> None:
    await client.collection("things", field("name"))
    shown = [(await client.post("~/webhooks", {"collection": "things"})).data["secret"] for _ in range(3)]
    newer = (await client.post("~/webhooks/1/secret", {})).data["secret"]
    rotate(client)

    async def valid(keys: Keys) -> list[list[str]]:
        session = Session(project_of(client).database)
        return [await secrets.valid(session, keys, webhook) for webhook in (1, 2, 3)]

    keys = project_of(client).keys
    wanted = [[newer, shown[0]], [shown[1]], [shown[2]]]
    assert await valid(keys) == wanted
    await client.post("~/webhooks", {"collection": "things"})
    session = Session(project_of(client).database)
    assert await reseal(session, keys) == Resealed(5, 0)
    assert await reseal(session, keys) == Resealed(0, 0)
    forget(client)
    assert project_of(client).keys == Keys(keys.current)
    assert await valid(project_of(client).keys) == wanted


@ensureDeferred
async def test_what_was_sealed_with_another_key_is_counted_and_left(client: Client) -> None:
    """Of many rows, so that there are several batches; also fingerprints are made anew."""
    await execute(client, "CREATE TABLE sealed (id text PRIMARY KEY, secret text, print text)")
    old, new, foreign = Keys("old"), Keys("new", ("older", "old")), Keys("foreign")
    number = 1001
    rows = [(f"{n:06}", foreign if n % 100 == 7 else new if n % 2 else old, f"secret {n}%s") for n in range(number)]
    for id, keys, text in rows:
        await execute(client, "INSERT INTO sealed VALUES (%s, %s, %s)", (id, keys.seal("p", text), keys.fingerprint("p", text)))
    await execute(client, "INSERT INTO sealed VALUES ('null', NULL, NULL), ('plain', 'not sealed', 'x')")
    column = SealedColumn("sealed", "id", "secret", "p", "print")
    lost = sum(keys is foreign for _, keys, _ in rows)
    done = sum(keys is old for _, keys, _ in rows)
    session = Session(project_of(client).database)
    assert await reseal(session, new, [column]) == Resealed(done, lost)
    found = await execute(client, "SELECT id, secret, print FROM sealed ORDER BY id")
    for (id, secret, fingerprint), (_, keys, text) in zip(found, rows, strict=False):
        held = foreign if keys is foreign else Keys("new")
        assert (held.unseal("p", secret), fingerprint) == (text, held.fingerprint("p", text)), id
        assert fingerprint in (foreign if keys is foreign else new).fingerprints("p", text)
    assert found[number:] == [("null", None, None), ("plain", "not sealed", "x")]


@ensureDeferred
async def test_all_columns_that_hold_sealed_texts_are_sealed_anew(client: Client) -> None:
    """A secret in each system table that takes one, then every column is looked at."""
    await client.collection("things", field("name"))
    await client.post("~/webhooks", {"collection": "things"})
    await client.post("~/webhooks/1/secret", {})
    await client.patch("~/users/1", {"token": "another-token", "2fa_secret": "JBSWY3DPEHPK3PXP"})
    mail = {"to": ["ada@example.com"], "subject": "Hello", "body": "Hello"}
    answer = await client.post("~/mail", mail, token="another-token")
    assert answer.status == 204, answer.body
    columns = await execute(
        client,
        "SELECT table_name, column_name FROM information_schema.columns"
        " WHERE table_name LIKE 'directus_%%' AND data_type IN ('text', 'character varying')",
    )
    found = set()
    for table, column in columns:
        texts = await execute(client, f'SELECT "{column}" FROM "{table}" WHERE "{column}" IS NOT NULL')
        # In JSON, too.
        if any(is_sealed(text) or '"v1.' in text for (text,) in texts):
            found.add((table, column))
    assert found == {(column.table, column.column) for column in SEALED_COLUMNS}
    rotate(client)
    session, keys = Session(project_of(client).database), project_of(client).keys
    assert await reseal(session, keys) == Resealed(5, 0)
    ((payload,),) = await execute(client, "SELECT payload FROM directus_outbox WHERE kind = %s", (MAIL,))
    assert "ada@example.com" in keys.unseal(MAIL, json.loads(payload)["sealed"])
    assert await reseal(session, Keys(keys.current)) == Resealed(0, 0)


@ensureDeferred
async def test_changes_of_a_file_at_the_same_time_lose_no_key(client: Client) -> None:
    config = project_of(client).config
    files = client.backend.projects.files
    barrier = threading.Barrier(4)
    made: list[str] = []

    def change() -> None:
        barrier.wait(10)
        for _ in range(5):
            made.append(files.change(config, with_new_key).secret_key)

    threads = [threading.Thread(target=change) for _ in range(4)]
    await deferToThread(lambda: ([thread.start() for thread in threads], [thread.join(30) for thread in threads]))
    keys = project_of(client).keys
    assert set(keys.all) == {config.secret_key, *made}
    assert len(keys.all) == 21
    path = files.directory / config.file_name
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in files.directory.iterdir()] == [config.file_name]


@ensureDeferred
async def test_a_file_that_cannot_be_written_stays_as_it_is(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    config = project_of(client).config
    files = client.backend.projects.files
    before = (files.directory / config.file_name).read_bytes()

    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(Exception, match="cannot be written: No space left on device"):
        files.change(config, with_new_key)
    assert (files.directory / config.file_name).read_bytes() == before
    assert len(list(files.directory.iterdir())) == 1
    monkeypatch.undo()
    (files.directory / config.file_name).write_text("nonsense")
    with pytest.raises(BrokenProjectFile):
        files.change(config, with_new_key)
    (files.directory / config.file_name).write_bytes(before)


def test_a_project_file_holds_the_former_keys() -> None:
    text = 'secret_key = "s"\npublic_key = "p"\n[database]\nname = "d"\n'
    config = parse_file("shop.toml", text.encode())
    assert config.former_secret_keys == ()
    assert "former" not in text_of(config)
    config = evolve(config, former_secret_keys=("b", "a"))
    assert parse_file("shop.toml", text_of(config).encode()) == config
    assert "'b'" not in repr(config)
    for wrong in ('"a"', "[1]", '[""]', "{}", "true"):
        with pytest.raises(ValueError, match="former_secret_keys must be a list of keys"):
            parse_file("shop.toml", f"former_secret_keys = {wrong}\n{text}".encode())
