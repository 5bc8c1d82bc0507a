"""The tables of plugins: their migrations, in real databases."""

import pathlib
import re
from typing import Any

import pytest
from attrs import frozen
from pytest_twisted import ensureDeferred
from twisted.internet import defer

from directus_tx.api import hookimpl
from directus_tx.config import Settings
from directus_tx.db.session import Session
from directus_tx.plugins.manager import PluginError, Plugins
from directus_tx.projects.project import Project
from directus_tx.registered import collect
from directus_tx.schema.plugin_migrations import migrate_plugin, read_migrations
from tests.conftest import Client
from tests.plugged import PAGE, documented, logged, plugins_of

NAME = "reports"


def documented_sql() -> str:
    (found,) = re.findall(r"code-block:: sql\n\n((?:    .*\n)+)", PAGE.read_text())
    return found


@pytest.fixture
def files(tmp_path: pathlib.Path) -> pathlib.Path:
    """The directory of the migrations of the documented plugin."""
    path = tmp_path / "migrations"
    path.mkdir()
    (path / "0001_state.sql").write_text(documented_sql())
    (path / "README.txt").write_text("ignored")
    return path


@pytest.fixture
def plugins(files: pathlib.Path, tmp_path: pathlib.Path) -> Plugins:
    return plugins_of(**{NAME: documented("register_migrations", str(tmp_path))})


async def query(client: Client, sql: str) -> list[Any]:
    return [tuple(row) for row in await Session(client.backend.projects.get(client.project).database).query(sql)]


def reopened(client: Client) -> Project:
    """The project as another process, with the migrations that are there now, would open it."""
    projects = client.backend.projects
    project = projects.get(client.project)
    directory = pathlib.Path(client.backend.settings.server.data_dir).parent / "migrations"
    found = Project(project.config, project.database, projects.databases.settings, projects.storages)
    found.plugin_migrations = [read_migrations(NAME, directory)]
    return found


@ensureDeferred
async def test_the_tables_of_a_plugin_are_made_in_each_project(client: Client) -> None:
    assert (await client.post("~/custom/reports/hits", {}, token=None)).data == {"hits": 1}
    assert (await client.post("~/custom/reports/hits", {}, token=None)).data == {"hits": 2}
    sql = "SELECT plugin, version, migration_name FROM directus_plugin_migrations"
    assert await query(client, sql) == [(NAME, 1, "state")]


@ensureDeferred
async def test_hidden_tables_are_no_collections_and_others_are(client: Client) -> None:
    names = [each["collection"] for each in (await client.get("~/collections")).data]
    assert "reports_pages" in names
    assert not [name for name in names if name.startswith("directus_plugin")]
    assert (await client.post("~/items/reports_pages", {"path": "/"})).data == {"id": 1, "path": "/"}
    assert (await client.get("~/items/reports_pages", token=None)).status in (401, 403)
    hidden = await client.get("~/items/directus_plugin_reports_state")
    unknown = await client.get("~/items/directus_plugin_nothing")
    assert (hidden.status, hidden.code) == (unknown.status, unknown.code)
    assert client.backend.projects.left_out()[client.project] == ()


@ensureDeferred
async def test_new_migrations_run_once_also_if_several_processes_open_the_project(client: Client, files: pathlib.Path) -> None:
    (files / "0002_more.sql").write_text("ALTER TABLE directus_plugin_reports_state ADD seen integer DEFAULT 5;")
    (files / "0010_last.sql").write_text("UPDATE directus_plugin_reports_state SET hits = hits + 100")
    await defer.gatherResults([defer.ensureDeferred(reopened(client).open()) for _ in range(4)])
    assert await query(client, "SELECT hits, seen FROM directus_plugin_reports_state") == [(100, 5)]
    assert await query(client, "SELECT version FROM directus_plugin_migrations ORDER BY 1") == [(1,), (2,), (10,)]


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("CREATE TABLE other (id int)", 'the name of "other" must begin with reports_, or with directus_plugin_reports_'),
        ("CREATE VIEW others AS SELECT 1 AS one", 'the name of "others"'),
        ("ALTER TABLE directus_users RENAME TO reports_users", 'the name of "directus_users"'),
        ("DROP TABLE directus_webhook_keys", 'the name of "directus_webhook_keys"'),
        ("CREATE TABLE directus_plugin_other_x (id int)", 'the name of "directus_plugin_other_x"'),
        ("CREATE TABLE reports_more (id int); COMMIT", "it must not end the transaction"),
        ("SELECT 1/0", "SQLSTATE 22012"),
        ("this is no SQL", "SQLSTATE 42601"),
    ],
)
@ensureDeferred
async def test_a_migration_that_fails_leaves_nothing_and_is_named(
    client: Client, files: pathlib.Path, sql: str, said: str
) -> None:
    (files / "0002_wrong.sql").write_text(f"CREATE TABLE reports_made (id int);\n{sql}")
    project = reopened(client)
    with logged() as lines, pytest.raises(Exception, match="The tables of a plugin cannot be migrated"):
        await project.open()
    (line,) = [line for line in lines if "the tables of the plugin reports cannot be migrated" in line]
    assert client.project in line
    assert said in line
    assert await query(client, "SELECT version FROM directus_plugin_migrations") == [(1,)]
    if "COMMIT" not in sql:
        assert await query(client, "SELECT to_regclass('reports_made')::text") == [(None,)]
    skipping = reopened(client)
    skipping.skips_plugins = True
    await skipping.open()
    assert skipping.state == "ready"


@ensureDeferred
async def test_tables_of_a_newer_version_of_the_plugin_are_refused(client: Client, files: pathlib.Path) -> None:
    await client.get("~/collections")
    session = Session(client.backend.projects.get(client.project).database)
    (files / "0002_next.sql").write_text("SELECT 1")
    assert await migrate_plugin(session, read_migrations(NAME, files)) == [2]
    (files / "0002_next.sql").unlink()
    with pytest.raises(ValueError, match="its tables were made by a newer version of it, with migration 2"):
        await migrate_plugin(session, read_migrations(NAME, files))


@frozen
class Registering:
    directory: Any

    @hookimpl
    def register_migrations(self) -> Any:
        return self.directory


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("1_x.sql", "the name of 1_x.sql is not like 0001_name.sql"),
        ("0000_x.sql", "is not like 0001_name.sql"),
        ("0001_other.sql", "there is another migration with this number"),
    ],
)
def test_wrong_files_are_refused_when_the_server_starts(files: pathlib.Path, name: str, said: str) -> None:
    (files / name).write_text("SELECT 1")
    with pytest.raises(PluginError, match="the plugin x cannot be used: register_migrations: ") as refused:
        collect(plugins_of(x=Registering(files)), Settings())
    assert said in str(refused.value)


@pytest.mark.parametrize("directory", ["/nowhere/at/all", 5])
def test_directories_that_do_not_exist_are_refused(directory: Any) -> None:
    with pytest.raises(PluginError, match="the plugin x cannot be used: register_migrations: "):
        collect(plugins_of(x=Registering(directory)), Settings())
