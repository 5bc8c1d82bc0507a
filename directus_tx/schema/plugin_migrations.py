"""Migrates the tables of plugins: each plugin has numbered SQL files of its own. The table directus_plugin_migrations says which have been
run."""

import pathlib
import re
from collections.abc import Sequence

from attrs import frozen

from directus_tx.db.session import Session
from directus_tx.db.sql import SQL, Identifier
from directus_tx.errors import ServiceUnavailable
from directus_tx.schema.migrations import Migration, has_table
from directus_tx.schema.tables import PLUGIN_PREFIX

TABLE = "directus_plugin_migrations"
_FILE = re.compile(r"(?P<number>\d{4})_(?P<name>[a-z0-9_]{1,100})\.sql")
_CREATE = f"""
CREATE TABLE IF NOT EXISTS {TABLE} (
    plugin varchar(64) NOT NULL,
    version integer NOT NULL,
    migration_name varchar(100) NOT NULL,
    start_time timestamp NOT NULL,
    end_time timestamp NOT NULL,
    PRIMARY KEY (plugin, version)
)"""
_RELATIONS = """
SELECT c.oid, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"""


@frozen
class PluginMigrations:
    """The migrations of a plugin, the oldest first."""

    plugin: str
    migrations: tuple[Migration, ...]

    @property
    def newest(self) -> int:
        """The number of the newest migration, 0 if there are none."""
        return self.migrations[-1].version if self.migrations else 0

    @property
    def prefixes(self) -> tuple[str, str]:
        """What the names of its tables begin with: of those that are no collections, and of others."""
        name = re.sub(r"\W", "_", self.plugin).lower()
        return f"{PLUGIN_PREFIX}{name}_", f"{name}_"


class PluginTablesFailed(ServiceUnavailable):
    """The tables of a plugin cannot be migrated; the log says why."""


def read_migrations(plugin: str, directory: pathlib.Path) -> PluginMigrations:
    """Returns the migrations in a directory, the files NNNN_name.sql. Other files whose names do not end with .sql are ignored. Raises
    ValueError if a file cannot be used."""
    if not directory.is_dir():
        raise ValueError(f"{directory} is not a directory")
    found: dict[int, Migration] = {}
    for path in sorted(directory.glob("*.sql")):
        name = _FILE.fullmatch(path.name)
        if name is None or int(name["number"]) == 0:
            raise ValueError(f"the name of {path.name} is not like 0001_name.sql")
        number = int(name["number"])
        if number in found:
            raise ValueError(f"{path.name}: there is another migration with this number")
        try:
            found[number] = Migration(number, name["name"], path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{path.name}: {error}") from None
    return PluginMigrations(plugin, tuple(found[number] for number in sorted(found)))


async def migrate_plugin(session: Session, plugin: PluginMigrations) -> list[int]:
    """Runs the missing migrations of a plugin, each in a transaction, one process at a time, and returns their numbers. A migration that
    creates or drops tables or views of other names than those of the plugin is rolled back.

    Raises ValueError for that, and if the tables were made by a newer version of the plugin; and ApiError.
    """
    done: list[int] = []
    present = await _version(session, plugin)
    for migration in (each for each in plugin.migrations if each.version > present):

        async def work(session: Session, migration: Migration = migration) -> bool:
            schema = session.database.system_schema
            await session.query(SQL("SET LOCAL search_path = {}, public").format(Identifier(schema)))
            await session.query(_CREATE)
            if await _version(session, plugin) >= migration.version:
                # Another process has run it.
                return False
            ((transaction,),) = await session.query("SELECT txid_current()")
            before = await _relations(session)
            await session.query(migration.sql)
            ((still,),) = await session.query("SELECT txid_current()")
            if still != transaction:
                raise ValueError("it must not end the transaction")
            _check_names(plugin, before, await _relations(session))
            await session.query(SQL("SET LOCAL search_path = {}").format(Identifier(schema)))
            await session.query("SELECT directus_touch('schema')")
            await session.query(
                f"INSERT INTO {TABLE} (plugin, version, migration_name, start_time, end_time)"
                " VALUES (%s, %s, %s, now() AT TIME ZONE 'UTC', clock_timestamp() AT TIME ZONE 'UTC')",
                (plugin.plugin, migration.version, migration.name),
            )
            return True

        try:
            changed = await session.schema_change(work, patient=True)
        except ValueError as error:
            raise ValueError(f"the migration {migration.version} ({migration.name}): {error}") from None
        if changed:
            done.append(migration.version)
    return done


async def _version(session: Session, plugin: PluginMigrations) -> int:
    """Returns the number of the newest migration that has been run. Raises ValueError if it is newer than those of the plugin."""
    schema = session.database.system_schema
    if not await has_table(session, schema, TABLE):
        return 0
    newest = SQL("SELECT coalesce(max(version), 0) FROM {} WHERE plugin = %s").format(Identifier(schema, TABLE))
    ((version,),) = await session.query(newest, (plugin.plugin,))
    if version > plugin.newest:
        raise ValueError(f"its tables were made by a newer version of it, with migration {version}")
    return int(version)


async def _relations(session: Session) -> dict[int, str]:
    """Returns the names of the tables and views of the database by their oids."""
    return {int(oid): str(name) for oid, name in await session.query(_RELATIONS)}


def _check_names(plugin: PluginMigrations, before: dict[int, str], after: dict[int, str]) -> None:
    """Raises ValueError if a table or view has been created, renamed or dropped that is not one of the plugin."""
    changed = {name for oid, name in (*before.items(), *after.items()) if before.get(oid) != after.get(oid)}
    strange: Sequence[str] = sorted(name for name in changed if not name.startswith(plugin.prefixes) or name == TABLE)
    if strange:
        hidden, shown = plugin.prefixes
        raise ValueError(f'the name of "{strange[0]}" must begin with {shown}, or with {hidden} if it is no collection')
