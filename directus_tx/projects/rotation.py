"""Rotating the secret key of a project.

A new key signs and seals from then on; tokens that were signed and texts that were sealed with the former keys stay valid. When these are
forgotten, what is in the database is sealed with the new key first.
"""

import secrets
from collections.abc import Sequence

import orjson
from attrs import evolve, frozen

from directus_tx.db.session import Session
from directus_tx.db.sql import SQL, Composable, Identifier
from directus_tx.mail.delivery import KIND as MAIL
from directus_tx.projects.files import ProjectConfig
from directus_tx.schema.sealed import SEALED
from directus_tx.sealing import Keys, is_sealed, unseal
from directus_tx.webhooks.secrets import PURPOSE as WEBHOOK


@frozen
class SealedColumn:
    """A column of sealed texts: its table, the primary key of that, and the purpose. `fingerprint` is the column with their fingerprints,
    if there is one. With `member`, the column holds JSON objects, whose member of that name is sealed, in rows whose column `kind` is the
    purpose. `batch` is the number of rows that are read at once."""

    table: str
    key: str
    column: str
    purpose: str
    fingerprint: str | None = None
    member: str | None = None
    batch: int = 500


SEALED_COLUMNS = (
    *(
        SealedColumn(table, "id", name, sealing.purpose, sealing.fingerprint)
        for table, fields in SEALED.items()
        for name, sealing in fields.items()
    ),
    SealedColumn("directus_webhook_keys", "webhook", "secret", WEBHOOK),
    SealedColumn("directus_webhook_keys", "webhook", "previous_secret", WEBHOOK),
    # A mail can be large.
    SealedColumn("directus_outbox", "id", "payload", MAIL, member="sealed", batch=10),
)
"""All columns of the system tables that hold sealed texts."""


@frozen
class Resealed:
    """How many texts were sealed anew, and how many were sealed with none of the keys."""

    done: int = 0
    lost: int = 0

    def __add__(self, other: "Resealed") -> "Resealed":
        return Resealed(self.done + other.done, self.lost + other.lost)


def with_new_key(config: ProjectConfig, key: str | None = None) -> ProjectConfig:
    """Returns the project file with a new secret key, which is generated unless *key* is given. The present one becomes a former one."""
    former = (config.secret_key, *config.former_secret_keys)
    return evolve(config, secret_key=key or secrets.token_urlsafe(32), former_secret_keys=former)


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
    """Seals the texts of the next rows, whose keys are greater than *last*. Returns the greatest key, None if there are no more."""
    names = {"table": Identifier(column.table), "key": Identifier(column.key), "column": Identifier(column.column)}
    conditions: list[Composable] = [SQL("{column} IS NOT NULL").format(**names)]
    values: list[object] = []
    if column.member is not None:
        conditions.append(SQL("kind = %s"))
        values.append(column.purpose)
    if last is not None:
        conditions.append(SQL("{key} > %s").format(**names))
        values.append(last)
    select = SQL("SELECT {key}, {column} FROM {table} WHERE {where} ORDER BY {key} LIMIT {limit} FOR UPDATE")
    limit, where = SQL(str(column.batch)), SQL(" AND ").join(conditions)
    rows = await session.query(select.format(where=where, limit=limit, **names), values)
    done = lost = 0
    for key, stored in rows:
        document = None if column.member is None else orjson.loads(stored)
        sealed = stored if document is None else document.get(column.member, "")
        if not is_sealed(sealed) or _is_current(keys, column.purpose, sealed):
            continue
        try:
            text = keys.unseal(column.purpose, sealed)
        except ValueError:
            lost += 1
            continue
        resealed = keys.seal(column.purpose, text)
        new = {column.column: resealed if document is None else orjson.dumps(document | {column.member: resealed}).decode()}
        if column.fingerprint is not None:
            new[column.fingerprint] = keys.fingerprint(column.purpose, text)
        assignments: list[Composable] = [SQL("{} = %s").format(Identifier(name)) for name in new]
        update = SQL("UPDATE {table} SET {assignments} WHERE {key} = %s").format(assignments=SQL(", ").join(assignments), **names)
        await session.query(update, (*new.values(), key))
        done += 1
    return Resealed(done, lost), rows[-1][0] if len(rows) == column.batch else None


def _is_current(keys: Keys, purpose: str, sealed: str) -> bool:
    try:
        unseal(keys.current, purpose, sealed)
    except ValueError:
        return False
    return True
