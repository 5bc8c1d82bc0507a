"""The event triggers by which PostgreSQL tells of changes of tables by other programs: told of, they are in the next answer; and no
statement of another program fails because of them."""

import pathlib
import secrets
from collections.abc import AsyncIterator
from typing import Any

import psycopg2
import pytest_twisted
from attrs import evolve
from pytest_twisted import ensureDeferred
from twisted.internet.threads import deferToThread

from directus_tx.db.connection import pause
from directus_tx.db.session import Session
from directus_tx.embedded import EmbeddedPostgres
from directus_tx.projects import archive
from directus_tx.projects.files import ProjectDatabase
from directus_tx.projects.provisioning import checked
from tests.conftest import SUPER_ADMIN_TOKEN, Client, field

TRIGGERS = "SELECT count(*) FROM pg_event_trigger"


class Program:
    """Another program with a connection to a database, which listens to what the server is told."""

    def __init__(self, parameters: dict[str, Any]) -> None:
        self.connection = psycopg2.connect(**parameters)
        self.connection.autocommit = True
        self.run("LISTEN directus")

    def run(self, *statements: str) -> Any:
        """Runs statements, in one transaction if they are several. Returns the first value of the last result."""
        with self.connection.cursor() as cursor:
            cursor.execute(";".join(statements))
            return cursor.fetchone()[0] if cursor.description is not None and cursor.rowcount else None

    def told(self, *statements: str) -> int:
        """Runs statements and returns how often the server is told that they change tables."""
        self.connection.notifies.clear()
        self.run(*statements)
        mine = self.connection.info.backend_pid
        return sum(notify.payload.startswith("tables:") and notify.pid == mine for notify in self.connection.notifies)


@pytest_twisted.async_yield_fixture
async def program(client: Client) -> AsyncIterator[Program]:
    project = client.backend.projects.get(client.project)
    await project.snapshot()
    # What is noticed is not noticed by comparing.
    project._schema_interval = 3600.0
    found = Program(dict(project.database.parameters))
    yield found
    found.connection.close()


async def info(client: Client, key: str) -> Any:
    await client.backend.projects.get(key).snapshot()
    return (await client.get(f"/server/info?super_admin_token={SUPER_ADMIN_TOKEN}", token=None)).data["databases"][key]


@ensureDeferred
async def test_what_other_roles_notify_of_fails_no_request(client: Client, program: Program) -> None:
    """PostgreSQL lets every role that can connect notify on every channel."""
    await client.collection("t", field("name"))
    session = Session(client.backend.projects.get(client.project).database)
    for kind in ("tables", "schema", "accounts", "unknown", ""):
        for text in ("9" * 7900, "9" * 4301, "9" * 20, "9" * 19, "-1", "", "1.5", "\u0661", "1:1", "x"):
            program.connection.cursor().execute("SELECT pg_notify('directus', %s)", (f"{kind}:{text}",))
            # This one comes with the answer to a statement of the server.
            await session.query("SELECT pg_notify('directus', %s)", (f"{kind}:{text}",))
            for path in ("items/t", "users/me"):
                assert (await client.get(f"~/{path}")).status == 200, (kind, text[:20], len(text))
    assert (await client.post("~/items/t", {"name": "x"})).status == 200
    assert (await client.post("~/fields/t", field("more"))).status == 200
    assert "more" in (await client.get("~/items/t")).data[0]


@ensureDeferred
async def test_a_change_by_another_program_is_in_the_next_answers(client: Client, program: Program) -> None:
    await client.collection("t", field("name"))
    assert (await info(client, client.project))["changes_noticed_by"] == "event trigger"

    async def shown(expected: object, *statements: str) -> None:
        program.run(*statements)
        project = client.backend.projects.get(client.project)
        until = project.database.reactor.seconds() + 20
        while sorted((await client.get("~/collections/t")).data["fields"]) != expected:
            assert project.database.reactor.seconds() < until, statements
            await pause(project.database.reactor, 0.01)

    await shown(["id", "more", "name"], "ALTER TABLE t ADD COLUMN more int")
    await shown(["id", "name"], "ALTER TABLE t DROP COLUMN more")
    await shown(
        ["id", "name", "other"], "BEGIN", "ALTER TABLE t ADD COLUMN more int", "ALTER TABLE t RENAME more TO other", "COMMIT"
    )
    # No connection is open when this happens.
    database = client.backend.projects.get(client.project).database
    database.close_idle(100)
    program.run("ALTER TABLE t ADD COLUMN last int")
    assert "last" in (await client.get("~/collections/t")).data["fields"]


@ensureDeferred
async def test_a_change_is_told_once_and_what_is_temporary_is_not(client: Client, program: Program) -> None:
    for statements in (
        ["CREATE TEMP TABLE temporary (id serial PRIMARY KEY, name text UNIQUE)"],
        ["ALTER TABLE temporary ADD COLUMN more int", "CREATE INDEX ON temporary (more)"],
        ["CREATE TEMP TABLE other AS SELECT 1 AS one", "DROP TABLE temporary"],
        ["DISCARD TEMP"],
        ["BEGIN", "CREATE TABLE undone (id int)", "ROLLBACK"],
        ["SELECT 1"],
    ):
        assert program.told(*statements) == 0, statements
    for statements in (
        ["CREATE TABLE u (id serial PRIMARY KEY)"],
        ["ALTER TABLE u ADD COLUMN a int", "ALTER TABLE u ADD COLUMN b int"],
        ["BEGIN", "CREATE VIEW v AS SELECT * FROM u", "COMMENT ON VIEW v IS '@primaryKey id'", "DROP VIEW v", "COMMIT"],
        ["CREATE TYPE mood AS ENUM ('fine')"],
        ["ALTER TYPE mood ADD VALUE 'bad'"],
        ["GRANT SELECT ON u TO public"],
        ["CREATE INDEX CONCURRENTLY ON u (a)"],
        ["CREATE MATERIALIZED VIEW m AS SELECT * FROM u"],
        ["REFRESH MATERIALIZED VIEW m"],
        ["DROP TABLE u CASCADE"],
    ):
        assert program.told(*statements) == 1, statements


@ensureDeferred
async def test_no_statement_of_another_program_fails(client: Client, program: Program) -> None:
    role = f"r{secrets.token_hex(4)}"
    parameters = dict(client.backend.projects.get(client.project).database.parameters)
    program.run(f'CREATE ROLE "{role}" LOGIN', f'CREATE SCHEMA "{role}" AUTHORIZATION "{role}"')
    program.run(f'REVOKE ALL ON SCHEMA public FROM PUBLIC, "{role}"')
    other = Program({**parameters, "user": role})
    try:
        # Not even a table of the same names as functions in the path of the role is in the way.
        other.run(
            f'SET search_path = "{role}"', "CREATE FUNCTION pg_notify(text, text) RETURNS void LANGUAGE sql AS 'SELECT 1/0'"
        )
        assert other.told("CREATE TABLE x (id int)") == 1
        program.run("REVOKE EXECUTE ON FUNCTION pg_notify(text, text) FROM PUBLIC")
        assert other.told("DROP TABLE x") == 0
        program.run("GRANT EXECUTE ON FUNCTION pg_notify(text, text) TO PUBLIC")
        assert program.told("DROP TABLE directus_versions CASCADE", "CREATE TABLE y (id int)") == 1
        program.run("DROP SCHEMA public CASCADE")
        assert program.run(TRIGGERS) == 0
        other.run("CREATE TABLE z (id int)")
    finally:
        other.connection.close()
        program.run(f'DROP OWNED BY "{role}"', f'DROP ROLE "{role}"')


@pytest_twisted.async_yield_fixture
async def place(server: Client) -> AsyncIterator[tuple[ProjectDatabase, Program]]:
    """A database that the server has not created, and a connection to it."""
    name = f"d{secrets.token_hex(4)}"
    parameters = dict(server.backend.projects.databases.server)
    admin = Program(parameters)
    admin.run(f"CREATE DATABASE {name}")
    found = Program({**parameters, "dbname": name})
    yield ProjectDatabase(name), found
    found.connection.close()
    for key in server.backend.projects.files.keys(private=True):
        await server.backend.projects.delete(key)
    admin.run(f"DROP DATABASE {name} WITH (FORCE)")
    admin.connection.close()


async def created(server: Client, place: ProjectDatabase, **more: Any) -> str:
    """Creates a project on a database. Returns its key."""
    key = f"t{secrets.token_hex(4)}"
    attributes = {"project": key, "user_email": "a@example.com", "user_password": "password", **more}
    new = checked({**attributes, "super_admin_token": SUPER_ADMIN_TOKEN})
    await server.backend.projects.create(evolve(new, database=place))
    return key


@ensureDeferred
async def test_a_database_that_the_server_has_not_made_gets_them_only_if_asked(
    server: Client, place: tuple[Any, Program]
) -> None:
    projects = server.backend.projects
    settings = projects.databases.settings
    database, program = place
    for setting, expected, existing in (
        ("auto", "comparison every 10 s", False),
        ("on", "event trigger", True),
        ("auto", "event trigger", True),
        ("off", "comparison every 10 s", True),
    ):
        projects.databases.settings = evolve(settings, event_trigger=setting)
        key = await created(server, database, existing=existing)
        assert (await info(server, key))["changes_noticed_by"] == expected, setting
        assert program.run(TRIGGERS) == (2 if expected == "event trigger" else 0)
        await projects.delete(key)


@ensureDeferred
async def test_a_role_that_may_create_none_compares(server: Client, place: tuple[Any, Program]) -> None:
    database, program = place
    program.run(f'CREATE ROLE "{database.name}" LOGIN', f'GRANT CREATE, USAGE ON SCHEMA public TO "{database.name}"')
    projects = server.backend.projects
    projects.databases.settings = evolve(projects.databases.settings, event_trigger="on")
    key = await created(server, evolve(database, user=database.name))
    try:
        assert (await info(server, key))["changes_noticed_by"] == "comparison every 10 s"
        assert program.run("SELECT count(*) FROM pg_proc WHERE proname = 'directus_tables_changed'") == 0
    finally:
        await projects.delete(key)
        program.run(f'DROP OWNED BY "{database.name}"', f'DROP ROLE "{database.name}"')


@ensureDeferred
async def test_triggers_that_are_dropped_or_disabled_are_no_longer_relied_on(client: Client, program: Program) -> None:
    project = client.backend.projects.get(client.project)
    for statement in (
        "ALTER EVENT TRIGGER directus_tables_changed DISABLE",
        "ALTER EVENT TRIGGER directus_tables_changed ENABLE",
        "DROP EVENT TRIGGER directus_tables_dropped",
    ):
        seen = await project.snapshot()
        program.run(statement)
        assert await project.verified(seen) is not seen
        assert project.changes_noticed_by == ("event trigger" if "ENABLE" in statement else "comparison every 3600 s")
    # When the project is opened the next time, they are there again.
    project._restored()
    assert (await info(client, client.project))["changes_noticed_by"] == "event trigger"


@ensureDeferred
async def test_an_archive_is_restored_also_by_a_role_that_may_create_no_event_triggers(
    client: Client, program: Program, tmp_path: pathlib.Path
) -> None:
    role = f"r{secrets.token_hex(4)}"
    program.run(
        f'CREATE ROLE "{role}" LOGIN CREATEDB',
    )
    program.run(f'CREATE DATABASE "{role}" OWNER "{role}" TEMPLATE template0')
    project = client.backend.projects.get(client.project)
    parameters = dict(project.database.parameters)
    programs = EmbeddedPostgres(tmp_path / "embedded").programs
    file = tmp_path / "archive.tar"
    await deferToThread(archive.write, file, project.config, parameters, programs)
    restored = {**parameters, "user": role, "dbname": role}
    await deferToThread(archive.restore, file, restored, programs)
    copy = Program(restored)
    try:
        assert copy.run("SELECT count(*) FROM directus_users") == 1
        assert copy.run(TRIGGERS) == 0
    finally:
        copy.connection.close()
        program.run(f'DROP DATABASE "{role}"')
        program.run(f'DROP ROLE "{role}"')
