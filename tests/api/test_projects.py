"""Projects without HTTP: made whole or not at all, found by their files, many on one server."""

import errno
import os
import pathlib
import secrets
import signal
from typing import Any

import pytest
import pytest_twisted
from attrs import evolve
from pytest_twisted import ensureDeferred
from twisted.internet import defer, reactor
from twisted.logger import LogLevel, capturedLogs, formatEvent, globalLogPublisher

from directus_tx.accounts.passwords import PasswordHasher
from directus_tx.backend import Backend
from directus_tx.config import Settings
from directus_tx.db.connection import connected
from directus_tx.db.session import SCHEMA_LOCK, Session
from directus_tx.db.sql import SQL, Identifier
from directus_tx.errors import ApiError, InvalidRequest, NotFound, ProjectExists, ServiceUnavailable, Unauthorized
from directus_tx.projects.project import Project
from directus_tx.projects.provisioning import NewProject, checked, template
from directus_tx.projects.registry import Projects
from directus_tx.schema import migrations as schema_migrations
from directus_tx.schema.migrations import NewerSchema, migrate
from tests.conftest import Client


@pytest_twisted.async_yield_fixture
async def projects(settings: Settings) -> Any:
    """A server's projects; none at first."""
    backend = Backend(settings, reactor)
    await backend.open()
    before = await databases(backend.projects)
    yield backend.projects
    await backend.close()
    async with connected(reactor, backend.projects.databases.server) as connection:
        for name in await databases(backend.projects) - before:
            await connection.run(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))


def new(key: str, **more: Any) -> NewProject:
    """What a project of this key is made of."""
    attributes = {"project": key, "super_admin_token": "super-admin", "user_email": "a@example.com", "user_password": "password"}
    return checked({**attributes, "project_name": f"Name of {key}", "user_token": "t", **more})


def start(work: Any) -> Any:
    return defer.ensureDeferred(work)


def pause(seconds: float) -> "defer.Deferred[None]":
    waiting: defer.Deferred[None] = defer.Deferred()
    reactor.callLater(seconds, waiting.callback, None)
    return waiting


async def databases(projects: Projects) -> set[str]:
    """The databases of the server, but for the template."""
    async with connected(reactor, projects.databases.server) as connection:
        return {name for (name,) in await connection.run("SELECT datname FROM pg_database") if not name.startswith(template())}


def left_files(projects: Projects) -> list[str]:
    return sorted(path.name for path in projects.files.directory.iterdir())


async def name_of(project: Project) -> str:
    return (await project.snapshot()).setting("project_name")


# --- all or nothing


def failing(*arguments: Any, **options: Any) -> Any:
    raise OSError(errno.ENOSPC, "injected")


async def migrating_by_half(session: Any) -> Any:
    await migrate(session)
    await session.transaction(lambda s: s.query("CREATE TABLE half (n int)"))
    failing()


STEPS = {
    "hash": "directus_tx.projects.registry.PasswordHasher.hash",
    "migrate": "directus_tx.projects.provisioning.migrate",
    "_install": "directus_tx.projects.registry.install",
    "add": "directus_tx.projects.files.ProjectFiles.add",
    "write": "directus_tx.projects.files.tomli_w.dumps",
    "fsync": "directus_tx.private_files.os.fsync",
    "link": "directus_tx.private_files.os.link",
}


@pytest.mark.parametrize("private", [False, True])
@pytest.mark.parametrize("step", STEPS)
@ensureDeferred
async def test_a_creation_that_fails_at_any_step_leaves_neither_database_nor_file(
    projects: Projects, monkeypatch: pytest.MonkeyPatch, step: str, private: bool
) -> None:
    before = await databases(projects)
    with monkeypatch.context() as patch:
        patch.setattr(STEPS[step], migrating_by_half if step == "migrate" else failing)
        # Clients are told what is wrong with the file.
        error = ServiceUnavailable if step in ("write", "fsync", "link") else OSError
        with pytest.raises(error, match="injected"):
            await projects.create(new("broken", private=private))
    assert await databases(projects) == before
    assert left_files(projects) == []
    with pytest.raises(Unauthorized):
        projects.get("broken")
    assert await name_of(await projects.create(new("broken", private=private))) == "Name of broken"


@ensureDeferred
async def test_a_creation_that_the_database_refuses_leaves_nothing(projects: Projects) -> None:
    before = await databases(projects)
    with pytest.raises(ApiError):
        await projects.create(evolve(new("broken"), user_email="e" * 1000))
    assert await databases(projects) == before
    assert left_files(projects) == []


@ensureDeferred
async def test_where_the_folder_cannot_be_written_nothing_is_made_and_the_client_learns_why(
    projects: Projects, monkeypatch: pytest.MonkeyPatch
) -> None:
    await projects.create(new("kept"))
    before = await databases(projects)
    folder = projects.files.directory
    folder.rename(folder.with_name("away"))
    folder.write_text("a file where the folder was")

    async def not_made(key: str) -> Any:
        raise AssertionError("a database is made, though the file cannot be")

    with monkeypatch.context() as patch:
        patch.setattr(projects.databases, "make", not_made)
        with pytest.raises(ServiceUnavailable, match="file of the project cannot be written: Not a directory"):
            await projects.create(new("broken"))
    folder.unlink()
    with pytest.raises(ServiceUnavailable, match="No such file or directory"):
        await projects.create(new("broken"))
    assert await databases(projects) == before
    folder.with_name("away").rename(folder)
    assert left_files(projects) == ["kept.toml"]
    assert await name_of(await projects.create(new("broken"))) == "Name of broken"


@ensureDeferred
async def test_a_template_that_could_not_be_made_is_made_the_next_time(
    projects: Projects, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connected(reactor, projects.databases.server) as connection:
        await connection.run(SQL("DROP DATABASE IF EXISTS {}").format(Identifier(template())))
    before = await databases(projects)
    with monkeypatch.context() as patch:
        patch.setattr("directus_tx.projects.provisioning.migrate", migrating_by_half)
        with pytest.raises(OSError, match="injected"):
            await projects.create(new("broken"))
    assert (await databases(projects), left_files(projects)) == (before, [])
    project = await projects.create(new("whole"))
    assert await Session(project.database).query("SELECT to_regclass('half')") == [(None,)]


@ensureDeferred
async def test_creations_do_not_wait_for_ever_for_others_that_make_the_template(
    projects: Projects, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("directus_tx.projects.provisioning.TEMPLATE_PATIENCE", 0.3)
    before = await databases(projects)
    async with connected(reactor, projects.databases.server) as other:
        await other.run("SELECT pg_advisory_lock(%s)", (SCHEMA_LOCK,))
        creations = [start(projects.create(new(f"project{number}"))) for number in range(5)]
        for creation in creations:
            with pytest.raises(ServiceUnavailable, match="copied from"):
                await creation
    assert (await databases(projects), left_files(projects)) == (before, [])
    assert await name_of(await projects.create(new("project0"))) == "Name of project0"


@ensureDeferred
async def test_a_failed_creation_in_a_database_of_ones_own_leaves_the_database(
    projects: Projects, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connected(reactor, projects.databases.server) as connection:
        await connection.run("CREATE DATABASE brought")
    with monkeypatch.context() as patch:
        patch.setattr("directus_tx.projects.files.ProjectFiles.add", failing)
        with pytest.raises(OSError, match="injected"):
            await projects.create(new("broken", db_name="brought"))
    assert "brought" in await databases(projects)
    assert left_files(projects) == []


@ensureDeferred
async def test_a_role_that_may_make_no_tables_is_refused_by_name(projects: Projects) -> None:
    role = f"r{secrets.token_hex(4)}"
    server = projects.databases.server
    async with connected(reactor, server) as connection:
        await connection.run(SQL("CREATE DATABASE {}").format(Identifier(role)))
        await connection.run(SQL("CREATE ROLE {} LOGIN").format(Identifier(role)))
    async with connected(reactor, {**server, "dbname": role}) as connection:
        await connection.run("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    try:
        with pytest.raises(InvalidRequest, match="schema public"):
            await projects.create(new("limited", db_name=role, db_user=role))
        assert left_files(projects) == []
    finally:
        async with connected(reactor, server) as connection:
            await connection.run(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(role)))
            await connection.run(SQL("DROP ROLE {}").format(Identifier(role)))


# --- one key, two projects


@pytest.mark.parametrize("private", [False, True])
@ensureDeferred
async def test_of_two_that_make_one_key_at_once_one_wins(projects: Projects, private: bool) -> None:
    before = await databases(projects)
    made = [start(projects.create(new("same", private=each, project_name=str(each)))) for each in (False, private)]
    results = await defer.DeferredList(made, consumeErrors=True)
    assert [ok for ok, _ in results] == [True, False]
    assert results[1][1].check(ProjectExists)
    assert await databases(projects) - before == {projects.get("same").config.database.name}
    with pytest.raises(ProjectExists):
        await projects.create(new("same"))


@ensureDeferred
async def test_of_two_servers_that_make_one_key_at_once_one_wins(projects: Projects, settings: Settings) -> None:
    before = await databases(projects)
    hasher = PasswordHasher(reactor)
    hasher.start()
    directory = pathlib.Path(settings.server.data_dir)
    other = Projects(reactor, directory, projects.databases.server, settings.database, hasher, settings.super_admin_token)
    made = [start(each.create(new("same"))) for each in (projects, other)]
    results = await defer.DeferredList(made, consumeErrors=True)
    assert sorted(ok for ok, _ in results) == [False, True]
    assert next(failure for ok, failure in results if not ok).check(ProjectExists)
    assert left_files(projects) == ["same.toml"]
    assert await databases(projects) - before == {projects.get("same").config.database.name}
    assert projects.get("same").config == other.get("same").config
    await other.close()
    hasher.stop()


# --- files


@ensureDeferred
async def test_private_projects_are_not_listed_but_answer(projects: Projects) -> None:
    for key, private in (("b", False), ("hidden", True), ("a", False)):
        await projects.create(new(key, private=private))
    assert projects.listed() == ["a", "b"]
    assert projects.files.keys(private=True) == ["a", "b", "hidden"]
    assert await name_of(projects.get("hidden")) == "Name of hidden"
    with pytest.raises(Unauthorized):
        projects.get("private.hidden")


@ensureDeferred
async def test_files_are_for_their_owners_eyes_alone(projects: Projects) -> None:
    before = os.umask(0)
    try:
        await projects.create(new("open"))
        await projects.create(new("shut", private=True))
    finally:
        os.umask(before)
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in projects.files.directory.iterdir()}
    assert modes == {"open.toml": "0o600", "private.shut.toml": "0o600"}
    assert projects.files.directory.stat().st_mode & 0o777 == 0o700


@ensureDeferred
async def test_a_file_that_is_taken_away_or_put_there_by_hand_is_noticed_at_the_next_get(
    projects: Projects, tmp_path: pathlib.Path
) -> None:
    project = await projects.create(new("here"))
    await project.snapshot()
    path = projects.files.directory / "here.toml"
    path.rename(tmp_path / "away")
    assert projects.listed() == []
    with pytest.raises(Unauthorized):
        projects.get("here")
    assert (project.database.closed, project.database.size) == (True, 0)
    (tmp_path / "away").rename(projects.files.directory / "there.toml")
    assert projects.listed() == ["there"]
    assert await name_of(projects.get("there")) == "Name of here"
    (projects.files.directory / "there.toml").rename(projects.files.directory / "private.there.toml")
    assert projects.listed() == []
    assert projects.get("there").config.private


@ensureDeferred
async def test_a_file_that_is_changed_by_hand_is_read_anew_at_the_next_get(projects: Projects) -> None:
    old = await projects.create(new("here"))
    await old.snapshot()
    assert projects.get("here") is old
    path = projects.files.directory / "here.toml"
    path.write_text(path.read_text().replace(old.keys.current, "another-key"))
    project = projects.get("here")
    assert project.keys.current == "another-key"
    assert old.database.closed
    assert await name_of(project) == "Name of here"
    assert projects.get("here") is project


BROKEN = {
    "empty": b"",
    "no toml": b"[database\n",
    "no text": b"\xff\xfe\x00",
    "no database": b'secret_key = "s"\npublic_key = "p"\n',
    "no name": b'secret_key = "s"\npublic_key = "p"\n[database]\nhost = "h"\n',
    "no key": b'[database]\nname = "postgres"\n',
    "a database that is no table": b'secret_key = "s"\npublic_key = "p"\ndatabase = 5\n',
    "a setting that is none": b'nonsense = 1\nsecret_key = "s"\npublic_key = "p"\n[database]\nname = "postgres"\n',
    "a table that is none": b'mail = 1\nsecret_key = "s"\npublic_key = "p"\n[database]\nname = "postgres"\n',
    "a name that is a number": b'secret_key = "s"\npublic_key = "p"\n[database]\nname = 5\n',
    "a port that is none": b'secret_key = "s"\npublic_key = "p"\n[database]\nname = "postgres"\nport = "x"\n',
    "no name of a database": b'secret_key = "s"\npublic_key = "p"\n[database]\nowned = true\n',
    "an empty secret key": b'secret_key = ""\npublic_key = "p"\n[database]\nname = "postgres"\n',
    "a secret key that is a number": b'secret_key = 5\npublic_key = "p"\n[database]\nname = "postgres"\n',
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
@ensureDeferred
async def test_a_broken_file_makes_its_project_unavailable_and_others_go_on(projects: Projects, text: bytes) -> None:
    await projects.create(new("good"))
    (projects.files.directory / "bad.toml").write_bytes(text)
    with pytest.raises(ServiceUnavailable):
        await projects.get("bad").snapshot()
    assert await name_of(projects.get("good")) == "Name of good"
    await projects.open_all()
    assert projects.listed() == ["bad", "good"]


@pytest.mark.parametrize("kind", ["a pipe", "a directory", "a link to itself", "a device"])
@ensureDeferred
async def test_a_project_file_that_is_no_regular_file_is_refused_without_waiting_for_it(projects: Projects, kind: str) -> None:
    path = projects.files.directory / "bad.toml"
    if kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a directory":
        path.mkdir()
    else:
        path.symlink_to(path.name if kind == "a link to itself" else "/dev/zero")
    # A server that waited for the pipe would wait forever: the alarm ends the test.
    signal.alarm(20)
    try:
        with pytest.raises(ServiceUnavailable):
            projects.get("bad")
    finally:
        signal.alarm(0)


@ensureDeferred
async def test_a_broken_file_is_logged_once_for_each_reason_and_clients_are_told_to_retry(projects: Projects) -> None:
    path = projects.files.directory / "bad.toml"
    with capturedLogs() as events:
        for text in ("secret_key =", "secret_key =", "", "", ""):
            path.write_text(text)
            with pytest.raises(ServiceUnavailable) as refused:
                projects.get("bad")
            assert int(refused.value.headers["Retry-After"]) > 0
    lines = [formatEvent(event) for event in events if event.get("key") == "bad"]
    assert len(lines) == 2, lines
    assert lines[1].endswith("bad.toml: missing settings: secret_key, public_key, database.name")


@ensureDeferred
async def test_a_database_that_was_replaced_by_an_empty_one_is_migrated_by_the_first_request(projects: Projects) -> None:
    project = await projects.create(new("replaced"))
    assert await name_of(project) == "Name of replaced"
    name = Identifier(project.config.database.name)
    async with connected(reactor, projects.databases.server) as connection:
        await connection.run(SQL("DROP DATABASE {} WITH (FORCE)").format(name))
        await connection.run(SQL("CREATE DATABASE {}").format(name))
    # The server has noticed that its connections are lost; the next one leads to the new database.
    until = reactor.seconds() + 20
    while project.current() is not None:
        assert reactor.seconds() < until
        await start(0.02)
    snapshot = await project.snapshot()
    assert snapshot.setting("project_name") == ""


@ensureDeferred
async def test_a_broken_file_is_neither_replaced_nor_deleted_and_mended_by_hand(projects: Projects) -> None:
    await projects.create(new("bad"))
    path = projects.files.directory / "bad.toml"
    text = path.read_text()
    path.write_text("broken")
    with pytest.raises(ServiceUnavailable):
        await projects.delete("bad")
    with pytest.raises(ApiError):
        await projects.create(new("bad"))
    assert path.read_text() == "broken"
    path.write_text(text)
    assert await name_of(projects.get("bad")) == "Name of bad"


# --- versions


@ensureDeferred
async def test_a_newer_schema_is_refused_and_left_as_it_is(projects: Projects) -> None:
    project = await projects.create(new("newer"))
    later = "INSERT INTO directus_migrations (version, migration_name) VALUES (9999, 'later')"
    await Session(project.database).transaction(lambda session: session.query(later))
    for _ in range(2):
        with pytest.raises(NewerSchema) as caught:
            await project.snapshot()
        assert (caught.value.status, caught.value.code) == (503, 16)
    assert await Session(project.database).query("SELECT max(version) FROM directus_migrations") == [(9999,)]
    undo = "DELETE FROM directus_migrations WHERE version = 9999"
    await Session(project.database).transaction(lambda session: session.query(undo))
    assert await name_of(project) == "Name of newer"


@ensureDeferred
async def test_a_server_stops_using_a_database_that_a_newer_version_migrates(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = client.backend.projects.get(client.project)
    assert (await client.get("~/users/me")).status == 200
    assert project.state == "ready"
    more = schema_migrations.Migration(9999, "more", "ALTER TABLE directus_users ADD COLUMN more int")
    with monkeypatch.context() as newer:
        known = schema_migrations.migrations()
        newer.setattr(schema_migrations, "migrations", lambda: (*known, more))
        assert await migrate(Session(project.database)) == [9999]
    for _ in range(600):
        if project.current() is None:
            break
        await pause(0.1)
    for path, token in (("~/users/me", True), ("~/items/nothing", True), ("~/users/me", None), ("~/auth/check", None)):
        answer = await client.get(path) if token else await client.get(path, token=None)
        assert (answer.status, answer.code) == (503, 16), path
        assert "must be upgraded" in answer.json["error"]["message"]
    answer = await client.post("~/auth/authenticate", {"email": "admin@example.com", "password": "password"}, token=None)
    assert (answer.status, answer.code) == (503, 16)
    assert project.state == "failing"
    # The newer version is removed, for example because a backup is restored.
    undo = "DELETE FROM directus_migrations WHERE version = 9999"
    await Session(project.database).transaction(lambda session: session.query(undo))
    assert (await client.get("~/users/me")).status == 200
    assert project.state == "ready"


# --- deleting


@pytest.mark.parametrize("private", [False, True])
@ensureDeferred
async def test_deleting_drops_an_owned_database_even_in_use(projects: Projects, private: bool) -> None:
    before = await databases(projects)
    project = await projects.create(new("gone", private=private))
    running = [start(Session(project.database).query("SELECT pg_sleep(5)")) for _ in range(3)]
    await pause(0.1)
    await projects.delete("gone")
    assert await databases(projects) == before
    results = await defer.DeferredList(running, consumeErrors=True)
    assert all(failure.check(ServiceUnavailable) for _, failure in results)
    assert left_files(projects) == []
    with pytest.raises(Unauthorized):
        projects.get("gone")
    with pytest.raises(NotFound):
        await projects.delete("gone")


@ensureDeferred
async def test_deleting_leaves_a_database_that_was_brought(projects: Projects) -> None:
    async with connected(reactor, projects.databases.server) as connection:
        await connection.run("CREATE DATABASE brought")
    await projects.create(new("guest", db_name="brought"))
    await projects.delete("guest")
    assert "brought" in await databases(projects)
    again = await projects.create(new("again", db_name="brought", existing=True, project_name="ignored"))
    assert await name_of(again) == "Name of guest"


@ensureDeferred
async def test_force_replaces_the_project_that_a_database_holds_and_nothing_else_does(projects: Projects) -> None:
    async with connected(reactor, projects.databases.server) as connection:
        await connection.run("CREATE DATABASE brought")
    first = await projects.create(new("first", db_name="brought"))
    await Session(first.database).transaction(lambda session: session.query("CREATE TABLE things AS SELECT 1 AS id"))
    await projects.delete("first")
    with pytest.raises(InvalidRequest, match="force"):
        await projects.create(new("second", db_name="brought"))
    second = await projects.create(new("second", db_name="brought", force=True, user_email="second@example.com"))
    assert await name_of(second) == "Name of second"
    assert await Session(second.database).query("SELECT email FROM directus_users") == [("second@example.com",)]
    assert await Session(second.database).query("SELECT id FROM things") == [(1,)]


# --- many


@pytest.mark.slow
@ensureDeferred
async def test_120_projects_answer_at_once_on_a_server_of_100_connections(projects: Projects) -> None:
    async with connected(reactor, projects.databases.server) as connection:
        assert await connection.run("SHOW max_connections") == [("100",)]
    keys = [f"p{number}" for number in range(120)]
    for some in range(0, len(keys), 6):
        await defer.gatherResults([start(projects.create(new(key))) for key in keys[some : some + 6]])
    budget = projects.databases.budget(projects.databases.server)
    names = await defer.gatherResults([start(name_of(projects.get(key))) for key in keys], consumeErrors=True)
    assert names == [f"Name of {key}" for key in keys]
    queries = [start(Session(projects.get(key).database).query("SELECT current_database()")) for key in keys * 2]
    rows = await defer.gatherResults(queries, consumeErrors=True)
    assert [row[0][0] for row in rows] == [projects.get(key).config.database.name for key in keys * 2]
    assert budget.open == sum(projects.get(key).database.size for key in keys) <= budget.limit <= 88
    assert budget.limit > 60


@ensureDeferred
async def test_a_migration_of_tables_in_use_is_made_when_they_are_not(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    known = schema_migrations.migrations()
    more = schema_migrations.Migration(9999, "more", "ALTER TABLE directus_users ADD COLUMN more int")
    monkeypatch.setattr(schema_migrations, "migrations", lambda: (*known, more))
    monkeypatch.setattr("directus_tx.db.session.LOCK_PAUSES", (0.01, 0.02, 0.03))
    database = client.backend.projects.get(client.project).database
    database.lock_timeout = 0.05
    async with connected(reactor, database.parameters) as connection:
        await connection.run("BEGIN")
        await connection.run("SELECT 1 FROM directus_users")
        with pytest.raises(ServiceUnavailable, match=r"in use by others: they cannot be migrated to 9999 \(more\)"):
            await schema_migrations.migrate(Session(database))
        assert await schema_migrations.current_version(Session(database)) == known[-1].version
        # The first request to a project migrates it.
        assert (await client.get("~/users")).status == 503
    assert (await client.get("~/users")).status == 200
    assert await schema_migrations.current_version(Session(database)) == 9999
    assert await schema_migrations.migrate(Session(database)) == []


BROKEN = {
    "pipe": lambda path: os.mkfifo(path),
    "directory": lambda path: path.mkdir(),
    "no text": lambda path: path.write_bytes(b"\xff"),
    "no section": lambda path: path.write_text('secret_key = "x"'),
    "no table": lambda path: path.write_text("database = 5"),
    "no name": lambda path: path.write_text("[database]"),
    "no keys": lambda path: path.write_text('[database]\nname = "x"'),
    "empty": lambda path: path.write_text(""),
    "link to itself": lambda path: path.symlink_to(path),
}


@pytest.mark.parametrize("kind", BROKEN)
@ensureDeferred
async def test_a_file_that_cannot_be_used_is_told_in_plain_words_once(client: Client, kind: str) -> None:
    """And it does not stop the server."""
    path = client.backend.data_dir / "projects" / "broken.toml"
    BROKEN[kind](path)
    told: list[str] = []
    observer = lambda event: told.append(formatEvent(event)) if event["log_level"] is LogLevel.error else None  # noqa: E731
    globalLogPublisher.addObserver(observer)
    try:
        for _ in range(3):
            answer = await client.get("/broken/users/me")
            assert (answer.status, answer.code) == (503, 16)
            assert "retry-after" in answer.headers
    finally:
        globalLogPublisher.removeObserver(observer)
        path.rmdir() if kind == "directory" else path.unlink()
    (text,) = told
    assert str(path) in text
    for internal in ("object", "__init__", "None", "KeyError"):
        assert internal not in text
    assert (await client.get("/broken/users/me")).status == 401


@ensureDeferred
async def test_a_missing_projects_directory_is_not_taken_for_projects_that_were_deleted(client: Client) -> None:
    directory = client.backend.data_dir / "projects"
    moved = directory.rename(directory.with_name("moved"))
    for path in ("~/users/me", "/other/users/me", "/yet/another"):
        answer = await client.get(path)
        assert (answer.status, answer.code) == (503, 16), path
        assert "retry-after" in answer.headers
    moved.rename(directory)
    assert (await client.get("~/users/me")).status == 200


@ensureDeferred
async def test_a_database_that_is_replaced_by_an_empty_one_is_migrated(client: Client) -> None:
    project = client.backend.projects.get(client.project)
    name = project.config.database.name
    assert (await client.get("~/users/me?fields=id")).status == 200
    async with connected(client.backend.reactor, client.backend.projects.databases.server) as connection:
        await connection.run(f'DROP DATABASE "{name}" WITH (FORCE)')
        await connection.run(f"CREATE DATABASE \"{name}\" TEMPLATE template0 ENCODING 'UTF8'")
    statuses = [(await client.get("~/users/me?fields=id")).status for _ in range(6)]
    # The users are gone, and the token with them.
    assert set(statuses) <= {401, 503}
    assert statuses[-1] == 401
