"""Migrates the system tables. The numbered SQL files in this folder create and change them."""

import hashlib
from functools import cache
from importlib.resources import files

from attrs import frozen

from directus_tx.db.session import Session
from directus_tx.db.sql import SQL, Identifier
from directus_tx.db.sqlstate import LOCK_NOT_AVAILABLE
from directus_tx.errors import ServiceUnavailable


@frozen
class Migration:
    """A file NNNN_name.sql."""

    version: int
    name: str
    sql: str


class NewerSchema(ServiceUnavailable):
    """The database was made by a newer version of directus_tx; this one must be upgraded."""


@cache
def migrations() -> tuple[Migration, ...]:
    """Returns all migrations, the oldest first."""
    found = []
    for file in files(__package__).iterdir():
        stem, _, suffix = file.name.rpartition(".")
        if suffix == "sql":
            number, _, name = stem.partition("_")
            found.append(Migration(int(number), name, file.read_text(encoding="utf-8")))
    return tuple(sorted(found, key=lambda migration: migration.version))


@cache
def fingerprint() -> str:
    """Returns a short text that changes with the migrations."""
    text = "\n".join(f"{m.version} {m.sql}" for m in migrations())
    return hashlib.sha256(text.encode()).hexdigest()[:12]


async def is_outdated(session: Session) -> bool:
    """Whether migrations are missing. Raises NewerSchema if the database was migrated by a newer version of the program."""
    version = await current_version(session)
    _check_not_newer(version)
    return version < migrations()[-1].version


async def migrate(session: Session) -> list[int]:
    """Runs the missing migrations, each in a transaction, and returns their versions.

    Raises NewerSchema, and changes nothing, if the database was migrated by a newer version of the program, and ServiceUnavailable if
    others use the system tables or their schema does not exist.
    """
    done: list[int] = []
    present = await current_version(session)
    _check_not_newer(present)
    schema = session.database.system_schema
    if not await has_schema(session, schema):
        raise ServiceUnavailable(f'The database has no schema "{schema}" for the system tables.')
    for migration in (each for each in migrations() if each.version > present):

        async def work(session: Session, migration: Migration = migration) -> bool:
            version = await current_version(session)
            _check_not_newer(version)
            if version >= migration.version:
                # Another process has migrated the database.
                return False
            # Only this schema: the others of the connection may have tables of the same names.
            await session.query(SQL("SET LOCAL search_path = {}").format(Identifier(schema)))
            await session.query(migration.sql)
            # Servers that run with this database read it again, and older ones refuse it from then on.
            await session.query("SELECT directus_touch('schema')")
            await session.query(
                "INSERT INTO directus_migrations (version, migration_name, start_time, end_time)"
                " VALUES (%s, %s, now() AT TIME ZONE 'UTC', clock_timestamp() AT TIME ZONE 'UTC')",
                (migration.version, migration.name),
            )
            return True

        try:
            changed = await session.schema_change(work, patient=True)
        except ServiceUnavailable as error:
            if error.diagnostics is None or error.diagnostics.sqlstate != LOCK_NOT_AVAILABLE:
                raise
            raise ServiceUnavailable(
                f"The system tables are in use by others: they cannot be migrated to {migration.version} ({migration.name}) now."
            ) from error
        if changed:
            done.append(migration.version)
    return done


async def check_not_newer(session: Session) -> None:
    """Raises NewerSchema if the database was migrated by a newer version of the program."""
    _check_not_newer(await current_version(session))


def _check_not_newer(version: int) -> None:
    if version > migrations()[-1].version:
        raise NewerSchema


async def current_version(session: Session) -> int:
    """Returns the newest migration of a database; 0 without system tables."""
    schema = session.database.system_schema
    if not await has_table(session, schema, "directus_migrations"):
        return 0
    newest = SQL("SELECT coalesce(max(version), 0) FROM {}").format(Identifier(schema, "directus_migrations"))
    ((version,),) = await session.query(newest)
    return int(version)


async def has_schema(session: Session, schema: str) -> bool:
    """Whether the database has a schema."""
    return bool((await session.query("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = %s)", (schema,)))[0][0])


async def has_table(session: Session, schema: str, table: str) -> bool:
    """Whether a schema has a table."""
    sql = "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s)"
    return bool((await session.query(sql, (schema, table)))[0][0])
