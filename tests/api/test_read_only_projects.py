"""Projects whose database role may only read: everything can be read, also with a password, and nothing is written."""

import secrets
from collections.abc import AsyncIterator
from typing import Any

import pytest_twisted
from attrs import evolve
from pytest_twisted import ensureDeferred
from twisted.internet import reactor
from twisted.logger import LogLevel, globalLogPublisher

from directus_tx.db.connection import connected, pause
from directus_tx.projects.files import ProjectDatabase
from directus_tx.projects.provisioning import checked
from tests.api.outbox import FAST, delivering, until
from tests.api.test_delivery import Receiver
from tests.api.test_drift import execute
from tests.conftest import KEY, SUPER_ADMIN_TOKEN, TOKEN, Client, field

CREDENTIALS = {"email": "admin@example.com", "password": "password"}
REFUSAL = (403, 23, "The project's database can only be read.")


def said(answer: Any) -> tuple[int, int, str]:
    return answer.status, answer.code, answer.json["error"]["message"]


@pytest_twisted.async_yield_fixture
async def reader(client: Client) -> AsyncIterator[str]:
    """The name of a role that may read the project's tables and write nothing. The project uses it."""
    await client.collection("t", field("name"))
    assert (await client.post("~/items/t", {"name": "x"})).status == 200
    project = client.backend.projects.get(client.project)
    role = f"r{secrets.token_hex(4)}"
    await execute(
        client,
        f'CREATE ROLE "{role}" LOGIN',
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
        f'GRANT SELECT ON ALL TABLES IN SCHEMA public TO "{role}"',
    )
    owner = project.database.parameters
    project.database.parameters = {**owner, "user": role}
    project.database.renew()
    project._restored()
    yield role
    project.database.parameters = owner
    project.database.renew()
    project._restored()
    await execute(client, f'DROP OWNED BY "{role}"', f'DROP ROLE "{role}"')


WRITES: tuple[tuple[str, str, Any], ...] = (
    ("POST", "~/items/t", {"name": "y"}),
    ("PATCH", "~/items/t/1", {"name": "y"}),
    ("DELETE", "~/items/t/1", ...),
    ("POST", "~/collections", {"collection": "u", "fields": [KEY]}),
    ("POST", "~/fields/t", field("more")),
    ("DELETE", "~/fields/t/name", ...),
    ("PATCH", "~/collections/t", {"note": "n"}),
    ("DELETE", "~/collections/t", ...),
    ("PATCH", "~/settings/1", {"value": "v"}),
    ("POST", "~/users", {"email": "u@example.com", "password": "password", "role": 1}),
    ("PATCH", "~/users/1", {"first_name": "f"}),
    ("POST", "~/activity/comment", {"collection": "t", "item": "1", "comment": "c"}),
)


@ensureDeferred
async def test_a_role_that_may_only_read_reads_with_every_kind_of_token_and_writes_nothing(client: Client, reader: str) -> None:
    before = [(await client.get(path)).body for path in ("~/items/t", "~/activity?limit=-1", "~/users")]
    assert (await client.post("~/auth/authenticate", CREDENTIALS | {"password": "wrong"}, token=None)).code == 100
    assert (await client.post("~/auth/authenticate", CREDENTIALS | {"email": "no@example.com"}, token=None)).code == 100
    signed_in = await client.post("~/auth/authenticate", CREDENTIALS, token=None)
    assert signed_in.status == 200, signed_in.body
    for token in (TOKEN, signed_in.data["token"]):
        assert [row["name"] for row in (await client.get("~/items/t", token=token)).data] == ["x"]
        assert (await client.get("~/users/me", token=token)).data["id"] == 1
        page = await client.patch("~/users/1/tracking/page", {"last_page": "/x"}, token=token)
        assert (page.status, page.data["last_page"], page.json["messages"][0]["code"]) == (200, None, 23)
        for method, path, body in WRITES:
            answer = await client.call(method, path, body, token=token)
            assert said(answer) == REFUSAL, (method, path)
    assert before == [(await client.get(path)).body for path in ("~/items/t", "~/activity?limit=-1", "~/users")]


@ensureDeferred
async def test_a_read_only_project_can_be_written_as_soon_as_its_role_may(client: Client, reader: str) -> None:
    assert said(await client.post("~/items/t", {"name": "y"})) == REFUSAL
    owner = client.backend.projects.get(client.project).database.parameters | {"user": "postgres"}
    async with connected(client.backend.projects.get(client.project).database.reactor, owner) as connection:
        await connection.run(f'GRANT ALL ON ALL TABLES IN SCHEMA public TO "{reader}"')
        await connection.run(f'GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO "{reader}"')
        assert (await client.post("~/items/t", {"name": "y"})).status == 200
        assert (await client.post("~/auth/authenticate", CREDENTIALS, token=None)).status == 200
        assert (await client.get("~/activity?filter[action]=authenticate&fields=action")).data == [{"action": "authenticate"}]
        await connection.run(f'REVOKE INSERT ON directus_activity FROM "{reader}"')
        # The server notices a lost privilege where it fails, and then refuses early.
        assert (await client.post("~/items/t", {"name": "z"})).status == 403
        assert len((await client.get("~/items/t")).data) == 2


@ensureDeferred
async def test_a_read_only_project_says_why(client: Client, reader: str) -> None:
    await client.get("~/items/t")
    info = (await client.get(f"/server/info?super_admin_token={SUPER_ADMIN_TOKEN}", token=None)).data["databases"]
    assert info[client.project]["read_only"] == "The role of the server may not write the system tables."


@ensureDeferred
async def test_older_system_tables_that_cannot_be_migrated_are_named(client: Client, reader: str) -> None:
    project = client.backend.projects.get(client.project)
    async with connected(project.database.reactor, project.database.parameters | {"user": "postgres"}) as connection:
        await connection.run("CREATE TABLE kept AS SELECT * FROM directus_migrations")
        await connection.run("DELETE FROM directus_migrations WHERE version > 1")
        project._restored()
        answer = await client.get("~/items/t")
        assert (answer.status, answer.code) == (503, 16)
        assert "migrate" in answer.json["error"]["message"]
        await connection.run("INSERT INTO directus_migrations SELECT * FROM kept WHERE version > 1")


@ensureDeferred
async def test_an_existing_project_is_created_with_its_own_users(client: Client, reader: str) -> None:
    projects = client.backend.projects
    place = projects.get(client.project).config.database
    attributes = {
        "project": f"{client.project}b",
        "user_email": "nobody@example.com",
        "user_password": "password",
        "super_admin_token": SUPER_ADMIN_TOKEN,
        "existing": True,
    }
    named = ProjectDatabase(place.name, user=reader)
    made = await projects.create(evolve(checked(attributes), database=named))
    assert made.has_own_users
    answer = await client.post(f"/{made.key}/auth/authenticate", CREDENTIALS, token=None)
    assert answer.status == 200
    attributes["user_email"] = CREDENTIALS["email"]
    unknown = {"email": "nobody@example.com", "password": "password"}
    assert (await client.post(f"/{made.key}/auth/authenticate", unknown, token=None)).code == 100


@ensureDeferred
async def test_messages_of_a_read_only_project_wait_and_nothing_is_logged(client: Client, reader: str) -> None:
    project = client.backend.projects.get(client.project)
    assert (await client.get("~/items/t")).status == 200
    told: list[Any] = []
    receiver = Receiver()
    globalLogPublisher.addObserver(told.append)
    owner = project.database.parameters | {"user": "postgres"}
    try:
        async with delivering(client, receiver), connected(project.database.reactor, owner) as connection:
            await connection.run(
                "INSERT INTO directus_outbox (message_id, kind, destination, subject, sequence, payload, erased, created_on, next_attempt)"
                """ VALUES (gen_random_uuid(), 'test', 'a', '', '', '{"n": 1}', FALSE, now(), now())"""
            )
            for _ in range(3):
                await pause(reactor, FAST.poll_interval)
            assert receiver.begun == []
            assert [event for event in told if event["log_level"] >= LogLevel.warn] == []
            assert await connection.run("SELECT state, attempts FROM directus_outbox") == [("pending", 0)]
            await connection.run(f'GRANT ALL ON ALL TABLES IN SCHEMA public TO "{reader}"')
            await connection.run(f'GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO "{reader}"')

            async def delivered() -> bool:
                return await connection.run("SELECT state FROM directus_outbox") == [("delivered",)]

            await until(delivered)
    finally:
        globalLogPublisher.removeObserver(told.append)
