"""The numbered SQL files beside this module make and change the system tables; `migrate` runs those that a database lacks."""

import hashlib
from functools import cache
from importlib.resources import files

from attrs import frozen

from directus_tx.db.session import Session
from directus_tx.errors import ServiceUnavailable

LOCK = 0x6469726563747573
"""The key of the advisory lock under which one server at a time migrates a database."""


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
    """All migrations, the oldest first."""
    found = []
    for file in files(__package__).iterdir():
        stem, _, suffix = file.name.rpartition(".")
        if suffix == "sql":
            number, _, name = stem.partition("_")
            found.append(Migration(int(number), name, file.read_text(encoding="utf-8")))
    return tuple(sorted(found, key=lambda migration: migration.version))


@cache
def fingerprint() -> str:
    """A short text that differs where the migrations do."""
    text = "\n".join(f"{m.version} {m.sql}" for m in migrations())
    return hashlib.sha256(text.encode()).hexdigest()[:12]


async def migrate(session: Session) -> list[int]:
    """Brings the system tables up to date, each migration in a transaction, and gives the versions it ran.

    Raises NewerSchema, and changes nothing, where the database is ahead of this program.
    """
    done: list[int] = []
    for migration in migrations():

        async def work(session: Session, migration: Migration = migration) -> bool:
            await session.query("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
            version = await current_version(session)
            if version > migrations()[-1].version:
                raise NewerSchema
            if version >= migration.version:
                return False
            await session.query(migration.sql)
            await session.query(
                "INSERT INTO directus_migrations (version, migration_name, start_time, end_time)"
                " VALUES (%s, %s, now() AT TIME ZONE 'UTC', clock_timestamp() AT TIME ZONE 'UTC')",
                (migration.version, migration.name),
            )
            return True

        if await session.transaction(work):
            done.append(migration.version)
    return done


async def current_version(session: Session) -> int:
    """The newest migration that a database has had; 0 where it has no system tables."""
    ((table,),) = await session.query("SELECT to_regclass('directus_migrations')::text")
    if table is None:
        return 0
    ((version,),) = await session.query("SELECT coalesce(max(version), 0) FROM directus_migrations")
    return int(version)
