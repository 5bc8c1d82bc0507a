"""Projects: made whole or not at all, found without a restart, many on one server."""

import pathlib
from typing import Any

from pytest_twisted import ensureDeferred
from twisted.internet import defer, reactor

from directus_tx.accounts.passwords import PasswordHasher
from directus_tx.config import DatabaseSettings
from directus_tx.db.connection import connected
from directus_tx.db.session import Session
from directus_tx.projects.provisioning import _drop_system_tables, checked
from directus_tx.projects.registry import Projects
from directus_tx.schema.migrations import migrations
from tests.conftest import Client


def attributes(key: str, **more: Any) -> dict[str, Any]:
    return {
        "project": key,
        "super_admin_token": "super-admin",
        "user_email": "a@example.com",
        "user_password": "password",
        "user_token": "t",
        **more,
    }


async def databases(projects: Projects) -> set[str]:
    async with connected(reactor, projects.databases.server) as connection:
        rows = await connection.run("SELECT datname FROM pg_database WHERE datname LIKE %s", ("directus\\_%",))
    return {row[0] for row in rows if not row[0].startswith("directus_tx_template")}


@ensureDeferred
async def test_a_database_of_ones_own_is_used_and_left(server: Client) -> None:
    projects = server.backend.projects
    async with connected(reactor, projects.databases.server) as connection:
        await connection.run("DROP DATABASE IF EXISTS own")
        await connection.run("CREATE DATABASE own")
    created = await server.post("/server/projects", attributes("own", db_name="own"), token=None)
    assert created.status == 200
    assert (await server.get("/own/users?fields=id", token="t")).data == [{"id": 1}]
    again = await server.post("/server/projects", attributes("own2", db_name="own"), token=None)
    assert (again.status, again.code) == (422, 4)
    taken_over = await server.post("/server/projects", attributes("own3", db_name="own", existing=True), token=None)
    assert taken_over.status == 200
    await projects.delete("own")
    assert (await server.get("/own3/users?fields=id", token="t")).data == [{"id": 1}]
    await projects.delete("own3")
    async with connected(reactor, projects.databases.server) as connection:
        assert await connection.run("SELECT 1 FROM pg_database WHERE datname = 'own'")
        await connection.run("DROP DATABASE own WITH (FORCE)")


@ensureDeferred
async def test_two_servers_that_open_an_older_database_migrate_it_once(server: Client, tmp_path: pathlib.Path) -> None:
    projects = server.backend.projects
    async with connected(reactor, projects.databases.server) as connection:
        await connection.run("DROP DATABASE IF EXISTS older")
        await connection.run("CREATE DATABASE older")
    await projects.create(checked(attributes("older", db_name="older")))
    project = projects.get("older")
    await Session(project.database).transaction(_drop_system_tables)
    await project.database.close()
    hasher = PasswordHasher(reactor)
    pair = [Projects(reactor, tmp_path / "var", projects.databases.server, DatabaseSettings(), hasher) for _ in range(2)]
    snapshots = await defer.gatherResults([defer.ensureDeferred(each.get("older").snapshot()) for each in pair])
    assert [len(snapshot.collections) for snapshot in snapshots] == [15, 15]
    ((times,),) = await Session(pair[0].get("older").database).query("SELECT count(*) FROM directus_migrations")
    assert times == len(migrations())
    for each in pair:
        await each.close()
    await projects.delete("older")
    async with connected(reactor, projects.databases.server) as connection:
        await connection.run("DROP DATABASE older WITH (FORCE)")


@ensureDeferred
async def test_two_hundred_projects_fit_on_a_stock_server(server: Client) -> None:
    """The server allows 100 connections. Databases take time to make, so the projects share a few; pools they have each."""
    projects = server.backend.projects
    for number in range(4):
        await projects.create(checked(attributes(f"p{number}")))
    for number in range(4, 200):
        text = (projects.files.directory / f"p{number % 4}.toml").read_text()
        (projects.files.directory / f"p{number}.toml").write_text(text.replace("owned = true", "owned = false"))
    paths = [f"/p{number}/users?fields=id" for number in range(200)]
    for _ in range(2):
        left = paths
        # On a busy machine, requests wait for a connection for longer than they may, and are to be repeated.
        for _ in range(20):
            answers = await defer.gatherResults([defer.ensureDeferred(server.get(path, token="t")) for path in left])
            assert {answer.status for answer in answers} <= {200, 503}
            left = [path for path, answer in zip(left, answers, strict=True) if answer.status == 503]
        assert left == []
    budget = projects.databases.budget(projects.databases.server)
    assert 0 < budget.open <= budget.limit <= 90
