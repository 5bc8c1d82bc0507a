"""Seals the values of sealed fields that are stored as they are: those from before a project had sealed fields, and those that another
program has written."""

from collections.abc import Iterator
from typing import Any

from twisted.logger import Logger

from directus_tx.db.session import Session
from directus_tx.db.sql import SQL, Composable, Identifier
from directus_tx.schema.sealed import SEALED, Sealing
from directus_tx.sealing import Keys

log = Logger()
BATCH = 500
Row = tuple[Any, ...]


async def seal_all(session: Session, keys: Keys) -> int:
    """Seals the values that are not sealed, and returns their number. Several processes can do this at the same time, and it can be broken
    off and repeated: each batch is a transaction that locks its rows. Raises ReadOnlyDatabase, StandbyDatabase or UpdateForbidden if the
    database does not allow it."""
    done = 0
    if await _has_unsealed(session):
        for table, column, sealing in _columns():
            last = 0
            while True:

                async def work(
                    session: Session, table: str = table, column: str = column, sealing: Sealing = sealing, last: int = last
                ) -> tuple[int, int | None]:
                    return await _seal_batch(session, keys, table, column, sealing, last)

                number, following = await session.transaction(work)
                done += number
                if following is None:
                    break
                last = following
    return done


def _columns() -> Iterator[tuple[str, str, Sealing]]:
    for table, fields in SEALED.items():
        for column, sealing in fields.items():
            yield table, column, sealing


async def _has_unsealed(session: Session) -> bool:
    """Whether a value is not sealed. There is an index for each column."""
    exists = [SQL("EXISTS (SELECT FROM {} WHERE {})").format(Identifier(t), _is_unsealed(c, s)) for t, c, s in _columns()]
    ((found,),) = await session.query(SQL("SELECT {}").format(SQL(" OR ").join(exists)))
    return bool(found)


def _is_unsealed(column: str, sealing: Sealing) -> Composable:
    if sealing.fingerprint is not None:
        return SQL("{0} <> '' AND {0} IS NOT NULL AND {1} IS NULL").format(Identifier(column), Identifier(sealing.fingerprint))
    return SQL("{0} <> '' AND {0} NOT LIKE 'v1.%%'").format(Identifier(column))


async def _seal_batch(
    session: Session, keys: Keys, table: str, column: str, sealing: Sealing, last: int
) -> tuple[int, int | None]:
    """Seals the next values, of rows whose id is greater than *last*. Returns their number and the greatest id, None if there are no
    more."""
    names = {"table": Identifier(table), "column": Identifier(column)}
    select = SQL("SELECT id, {column} FROM {table} WHERE {where} AND id > %s ORDER BY id LIMIT {limit} FOR UPDATE")
    found = await session.query(select.format(where=_is_unsealed(column, sealing), limit=SQL(str(BATCH)), **names), (last,))
    rows = await _without_taken(session, keys, table, sealing, found)
    assigned: list[Composable] = [SQL("{column} = v.sealed").format(**names)]
    if sealing.fingerprint is not None:
        assigned.append(SQL("{} = v.mark").format(Identifier(sealing.fingerprint)))
    if rows:
        update = SQL("UPDATE {table} AS t SET {assigned} FROM (VALUES {values}) AS v(id, sealed, mark) WHERE t.id = v.id::bigint")
        values = [each for id, text in rows for each in (id, sealing.sealed(keys, text), sealing.mark(keys, text))]
        places = SQL(", ").join([SQL("(%s, %s, %s)")] * len(rows))
        await session.query(update.format(assigned=SQL(", ").join(assigned), values=places, **names), values)
    return len(rows), found[-1][0] if len(found) == BATCH else None


async def _without_taken(session: Session, keys: Keys, table: str, sealing: Sealing, rows: list[Row]) -> list[Row]:
    """Returns the rows without those whose value another row has, sealed. A program that writes such values as they are does not notice
    that."""
    if sealing.fingerprint is None or not rows:
        return rows
    marks = {id: sealing.marks(keys, [text]) for id, text in rows}
    sql = SQL("SELECT {mark} FROM {table} WHERE {mark} = ANY(%s)").format(
        mark=Identifier(sealing.fingerprint), table=Identifier(table)
    )
    taken = {mark for (mark,) in await session.query(sql, ([mark for each in marks.values() for mark in each],))}
    for id in [id for id, each in marks.items() if taken.intersection(each)]:
        log.warn("{table} {id}: the token is that of another user: it is not valid and stays as it is", table=table, id=id)
    return [row for row in rows if not taken.intersection(marks[row[0]])]
