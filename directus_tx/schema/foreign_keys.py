"""Reads the foreign keys of tables, and finds those that are relations."""

from collections.abc import Container, Mapping

import orjson

from directus_tx.db.session import Session
from directus_tx.schema.model import UNRELATABLE, ForeignKey
from directus_tx.schema.system import CATALOGUE
from directus_tx.schema.tables import Tables, title_of

# The rows of the partitions of a table are those of the table, which has its own constraint.
_FOREIGN_KEYS = """
SELECT o.conname, o.conrelid, o.confrelid, n.nspname, c.relname,
       (SELECT json_agg(a.attname ORDER BY k.place)::text FROM unnest(o.conkey) WITH ORDINALITY AS k(number, place)
        JOIN pg_attribute a ON a.attrelid = o.conrelid AND a.attnum = k.number),
       (SELECT json_agg(a.attname ORDER BY k.place)::text FROM unnest(o.confkey) WITH ORDINALITY AS k(number, place)
        JOIN pg_attribute a ON a.attrelid = o.confrelid AND a.attnum = k.number)
FROM pg_constraint o
JOIN pg_class c ON c.oid = o.confrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE o.contype = 'f' AND o.conparentid = 0 AND o.conrelid = ANY (%s::bigint[]::oid[])
ORDER BY o.conrelid, o.conname
"""


async def read_foreign_keys(
    session: Session, tables: Tables, columns: Mapping[int, Container[str]], keys: Mapping[int, tuple[str, ...]]
) -> tuple[ForeignKey, ...]:
    """Returns the foreign keys of the tables of users that are collections. *columns* are the names of the columns that can be read and
    *keys* those of the columns that identify a row, by the oid of the table. Of several foreign keys of one column, the first by name that
    can be a relation is it, because a field has one relation."""
    listed = {table.oid: table for table in tables.listed}
    found = []
    related: set[tuple[int, str]] = set()
    for name, table_oid, target_oid, schema, target, own_names, other_names in await session.query(
        _FOREIGN_KEYS, (sorted(listed),)
    ):
        table = listed.get(int(table_oid))
        if table is None or table.title in CATALOGUE.collections:
            continue
        own, other = tuple(orjson.loads(own_names)), tuple(orjson.loads(other_names))
        title = title_of(schema, target, session.database.system_schema)
        reason = None
        if len(own) > 1:
            reason = "It has several columns."
        elif own[0] not in columns[table.oid]:
            reason = "The role of the server lacks the privilege SELECT of its column."
        elif int(target_oid) not in listed:
            reason = "The table that it refers to is not a collection."
        elif title in UNRELATABLE:
            reason = "Relations cannot refer to this collection."
        elif keys[int(target_oid)] != other:
            reason = "It does not refer to the key of the collection."
        elif (table.oid, own[0]) in related:
            reason = "Another foreign key of its column is the relation."
        if reason is None:
            related.add((table.oid, own[0]))
        found.append(ForeignKey(name, table.title, own, title, other, reason))
    return tuple(found)
