"""Rotating the secret key of a project.

A new key signs and seals from then on; tokens that were signed and texts that were sealed with the former keys stay valid. When these are
forgotten, what is in the database is sealed with the new key first.
"""

import secrets
from collections.abc import Sequence

from attrs import evolve, frozen

from directus_tx.db.session import Session
from directus_tx.db.sql import SQL, Composable, Identifier
from directus_tx.projects.files import ProjectConfig
from directus_tx.sealing import Keys, is_sealed, unseal
from directus_tx.webhooks.secrets import PURPOSE as WEBHOOK

BATCH = 500


@frozen
class SealedColumn:
    """A column of sealed texts: its table, the primary key of that, and the purpose. `fingerprint` is the column with their fingerprints,
    if there is one."""

    table: str
    key: str
    column: str
    purpose: str
    fingerprint: str | None = None


SEALED_COLUMNS = (
    SealedColumn("directus_webhook_keys", "webhook", "secret", WEBHOOK),
    SealedColumn("directus_webhook_keys", "webhook", "previous_secret", WEBHOOK),
)
"""All columns of the system tables that hold sealed texts for longer than a delivery takes."""


@frozen
class Resealed:
    """How many texts were sealed anew, and how many were sealed with none of the keys."""

    done: int = 0
    lost: int = 0

    def __add__(self, other: "Resealed") -> "Resealed":
        return Resealed(self.done + other.done, self.lost + other.lost)


def with_new_key(config: ProjectConfig) -> ProjectConfig:
    """Returns the project file with a new secret key. The present one becomes a former one."""
    former = (config.secret_key, *config.former_secret_keys)
    return evolve(config, secret_key=secrets.token_urlsafe(32), former_secret_keys=former)


def without_keys(config: ProjectConfig, keys: Sequence[str]) -> ProjectConfig:
    """Returns the project file without former keys."""
    return evolve(config, former_secret_keys=tuple(key for key in config.former_secret_keys if key not in keys))


async def reseal(session: Session, keys: Keys, columns: Sequence[SealedColumn] = SEALED_COLUMNS) -> Resealed:
    """Seals the texts in the database of a project with its current key, unless they are. This can be repeated, and done while servers run:
    each batch is a transaction that locks its rows."""
    total = Resealed()
    for column in columns:
        last: object = None
        while True:

            async def work(session: Session, column: SealedColumn = column, last: object = last) -> tuple[Resealed, object]:
                return await _batch(session, keys, column, last)

            found, last = await session.transaction(work)
            total += found
            if last is None:
                break
    return total


async def _batch(session: Session, keys: Keys, column: SealedColumn, last: object) -> tuple[Resealed, object]:
    """Seals the texts of the next BATCH rows, whose keys are greater than *last*. Returns the greatest key, None if there are no more."""
    names = {"table": Identifier(column.table), "key": Identifier(column.key), "column": Identifier(column.column)}
    after = SQL("AND {key} > %s").format(**names) if last is not None else SQL("")
    select = SQL("SELECT {key}, {column} FROM {table} WHERE {column} IS NOT NULL {after} ORDER BY {key} LIMIT {limit} FOR UPDATE")
    rows = await session.query(select.format(after=after, limit=SQL(str(BATCH)), **names), () if last is None else (last,))
    done = lost = 0
    for key, sealed in rows:
        if not is_sealed(sealed) or _is_current(keys, column.purpose, sealed):
            continue
        try:
            text = keys.unseal(column.purpose, sealed)
        except ValueError:
            lost += 1
            continue
        values = {column.column: keys.seal(column.purpose, text)}
        if column.fingerprint is not None:
            values[column.fingerprint] = keys.fingerprint(column.purpose, text)
        assignments: list[Composable] = [SQL("{} = %s").format(Identifier(name)) for name in values]
        update = SQL("UPDATE {table} SET {values} WHERE {key} = %s").format(values=SQL(", ").join(assignments), **names)
        await session.query(update, (*values.values(), key))
        done += 1
    return Resealed(done, lost), rows[-1][0] if len(rows) == BATCH else None


def _is_current(keys: Keys, purpose: str, sealed: str) -> bool:
    try:
        unseal(keys.current, purpose, sealed)
    except ValueError:
        return False
    return True
