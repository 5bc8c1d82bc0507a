"""The sequences that make the keys of items, kept clear of keys that clients choose.

A key that a client chooses moves the sequence on, so that the next key is greater, unless it lies in the further half of what the
sequence or the field can hold: one huge key would leave no room. Keys that lie there are skipped when the sequence comes to them, as are
those that others than the server have written.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from directus_tx.db.session import Session
from directus_tx.db.sql import SQL, Identifier
from directus_tx.errors import NotUnique
from directus_tx.schema.datatypes import family
from directus_tx.schema.model import Collection
from directus_tx.schema.types import integer_range

# The sequence that belongs to the column, or else the one that its default takes numbers from; none that we may not move. `furthest` is
# the last number that it or the field can hold, `way` is -1 for one that counts down.
_SEQUENCE = """
SELECT s.seqrelid AS sequence, s.seqstart AS start, s.seqincrement AS step, sign(s.seqincrement)::bigint AS way,
       CASE WHEN s.seqincrement > 0 THEN least(s.seqmax, %(highest)s) ELSE greatest(s.seqmin, %(lowest)s) END AS furthest,
       coalesce(pg_sequence_last_value(s.seqrelid), s.seqstart - s.seqincrement) AS last
FROM pg_class c
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = %(field)s
LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
LEFT JOIN pg_depend p ON p.classid = 'pg_attrdef'::regclass AND p.objid = d.oid AND p.refclassid = 'pg_class'::regclass
JOIN pg_sequence s ON s.seqrelid = coalesce(pg_get_serial_sequence(quote_ident(%(table)s), %(field)s)::regclass::oid, p.refobjid)
WHERE c.relnamespace = 'public'::regnamespace AND c.relname = %(table)s
  AND has_sequence_privilege(s.seqrelid, 'UPDATE') AND has_sequence_privilege(s.seqrelid, 'SELECT')
LIMIT 1
"""

# The greatest of the keys that leave as much room as they take, brought down to the sequence's own steps.
_COUNT_ON = f"""
SELECT setval(sequence, number::bigint) FROM (
    SELECT s.*, start + div(key - start, step) * step AS number
    FROM ({_SEQUENCE}) AS s, unnest(%(keys)s::numeric[]) AS key
    WHERE way * key >= way * start AND 2 * way * key <= way * (furthest::numeric + start)
    ORDER BY way * key DESC LIMIT 1
) AS wanted WHERE way * number > way * last
"""

# The last number, or the first key that is taken beyond it, after which enough numbers in a row are free; brought up to the sequence's
# own steps.
_ROOM = """
SELECT number::bigint FROM (
    SELECT %(last)s + div(key::numeric - %(last)s + %(step)s - %(way)s, %(step)s) * %(step)s AS number,
           lead(key, 1, %(furthest)s::numeric + %(way)s) OVER (ORDER BY key {direction}) AS following
    FROM (
        SELECT %(last)s::numeric AS key UNION ALL SELECT {key}::numeric FROM {table} AS t WHERE {key} {beyond} %(last)s
    ) AS taken
) AS runs
WHERE %(way)s * (number + %(count)s * %(step)s) < %(way)s * following ORDER BY number {direction} LIMIT 1
"""

_SET = f"SELECT setval(sequence, %(number)s::bigint) FROM ({_SEQUENCE}) AS s WHERE way * %(number)s > way * last"


async def count_on_after(session: Session, collection: Collection, keys: Iterable[Any]) -> None:
    """Moves the sequence of a collection's key on to the greatest of these keys that leaves as much room as it takes."""
    # The key may be text that is made of a number.
    numbers = [key for key in keys if isinstance(key, int)]
    if numbers:
        await session.query(_COUNT_ON, {**_parameters(collection), "keys": numbers})


def is_about_key(error: NotUnique, collection: Collection) -> bool:
    """Whether an error says that the key of a collection is taken."""
    said = error.diagnostics
    return (
        said is not None
        and said.table == collection.collection
        and collection.constraints.get(said.constraint or "") == (collection.primary_key.field,)
    )


async def skip_taken_keys(session: Session, collection: Collection, count: int) -> None:
    """Moves the sequence of a collection's key on to where the next *count* numbers are free, if there are so many."""
    key = collection.primary_key
    if family(key) != "integer":
        return
    parameters = _parameters(collection)
    for _, _, step, way, furthest, last in await session.query(_SEQUENCE, parameters):
        room = SQL(_ROOM).format(
            table=Identifier(collection.collection),
            key=Identifier("t", key.field),
            beyond=SQL(">" if way > 0 else "<"),
            direction=SQL("ASC" if way > 0 else "DESC"),
        )
        numbers = {"last": last, "step": step, "way": way, "furthest": furthest, "count": count}
        for (number,) in await session.query(room, numbers):
            await session.query(_SET, {**parameters, "number": number})


def _parameters(collection: Collection) -> Mapping[str, Any]:
    key = collection.primary_key
    lowest, highest = integer_range(key)
    return {"table": collection.collection, "field": key.field, "lowest": lowest, "highest": highest}
