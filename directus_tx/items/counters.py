"""Keeps automatic keys working when clients choose keys: the sequence of the primary key is moved past keys that are taken.

A key chosen by a client moves the sequence to that key, so that the next automatic key is greater. A key in the upper half of the range
does not, because few numbers might be left. When the sequence reaches such a key, or a key of a row that another program has written, the
key is skipped.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from directus_tx.db.session import Session
from directus_tx.db.sql import SQL, Identifier
from directus_tx.errors import NotUnique
from directus_tx.schema.datatypes import family
from directus_tx.schema.model import Collection
from directus_tx.schema.parsing import integer_range

# The sequence that belongs to the column, or else the one in the column's default, if the server's role may move it. `furthest` is the
# last number that the sequence and the field can hold; `way` is -1 for a sequence that counts down.
_SEQUENCE = """
SELECT s.seqrelid AS sequence, s.seqstart AS start, s.seqincrement AS step, sign(s.seqincrement)::bigint AS way,
       CASE WHEN s.seqincrement > 0 THEN least(s.seqmax, %(highest)s) ELSE greatest(s.seqmin, %(lowest)s) END AS furthest,
       coalesce(pg_sequence_last_value(s.seqrelid), s.seqstart - s.seqincrement) AS last
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = %(field)s
LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
LEFT JOIN pg_depend p ON p.classid = 'pg_attrdef'::regclass AND p.objid = d.oid AND p.refclassid = 'pg_class'::regclass
LEFT JOIN (
    SELECT refobjid, refobjsubid, objid FROM pg_depend JOIN pg_sequence ON seqrelid = objid
    WHERE classid = 'pg_class'::regclass AND refclassid = 'pg_class'::regclass AND deptype IN ('a', 'i')
) AS o ON o.refobjid = c.oid AND o.refobjsubid = a.attnum
JOIN pg_sequence s ON s.seqrelid = coalesce(o.objid, p.refobjid)
WHERE n.nspname = %(schema)s AND c.relname = %(table)s
  AND has_sequence_privilege(s.seqrelid, 'UPDATE') AND has_sequence_privilege(s.seqrelid, 'SELECT')
LIMIT 1
"""

# The greatest of the keys in the lower half of the range, rounded down to a number that the sequence gives.
_COUNT_ON = f"""
SELECT setval(sequence, number::bigint) FROM (
    SELECT s.*, start + div(key - start, step) * step AS number
    FROM ({_SEQUENCE}) AS s, unnest(%(keys)s::numeric[]) AS key
    WHERE way * key >= way * start AND 2 * way * key <= way * (furthest::numeric + start)
    ORDER BY way * key DESC LIMIT 1
) AS wanted WHERE way * number > way * last
"""

# The sequence's last number, or the first key beyond it, after which enough numbers in a row are free; rounded up to a number that the
# sequence gives.
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
    """Moves the sequence to the greatest of the keys in the lower half of the range."""
    # The column may be text whose default is made from a sequence.
    numbers = [key for key in keys if isinstance(key, int)]
    if numbers:
        await session.query(_COUNT_ON, {**_parameters(collection), "keys": numbers})


def is_about_key(error: NotUnique, collection: Collection) -> bool:
    """Whether an error is a unique violation of the primary key."""
    said = error.diagnostics
    return (
        said is not None
        and said.table == collection.collection
        and collection.constraints.get(said.constraint or "") == (collection.primary_key.field,)
    )


async def skip_taken_keys(session: Session, collection: Collection, count: int) -> None:
    """Moves the sequence to where the next *count* numbers are free, if there are that many."""
    key = collection.primary_key
    if family(key) != "integer":
        return
    parameters = _parameters(collection)
    for _, _, step, way, furthest, last in await session.query(_SEQUENCE, parameters):
        room = SQL(_ROOM).format(
            table=Identifier(*collection.table),
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
    schema, table, column = collection.key_source or (collection.schema or "public", collection.table[-1], key.field)
    return {"schema": schema, "table": table, "field": column, "lowest": lowest, "highest": highest}
