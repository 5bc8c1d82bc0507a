"""Reads the indexes of tables: those in PostgreSQL's catalogue, and those that are declared in directus_indexes."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson
from attrs import frozen

from directus_tx.db.session import Session
from directus_tx.schema.model import BUILDING, FAILED, OF_COLLECTION, OF_DATABASE, OF_FIELD, READY, Index
from directus_tx.schema.tables import Tables

# `columns` are the keys of an index and the columns in its expressions, without those of INCLUDE and WHERE. `single`: it is on one
# column, or on lower() of one. `identifying`: the columns of a unique index that identify a row, in the order of the index. Then the
# numbers of the columns in the order of the index, 0 for an expression, with those of INCLUDE; the options of the keys, odd for
# descending order; the numbers of `columns`; and those of the columns in the expressions, in order.
_INDEXES = r"""
SELECT c.oid, x.relname, i.indisunique, i.indisprimary, i.indpred IS NOT NULL, to_json(k.names)::text,
       i.indnkeyatts = 1 AND cardinality(k.names) = 1 AND CASE WHEN i.indexprs IS NULL THEN true
           ELSE pg_get_indexdef(i.indexrelid, 1, true) IN (
               'lower(' || quote_ident(k.names[1]) || ')', 'lower(' || quote_ident(k.names[1]) || '::text)'
           ) END,
       CASE WHEN i.indisunique AND i.indpred IS NULL AND i.indexprs IS NULL AND i.indimmediate AND i.indisvalid THEN (
           SELECT json_agg(a.attname ORDER BY l.place)::text
           FROM unnest((i.indkey::smallint[])[0:i.indnkeyatts - 1]) WITH ORDINALITY AS l(number, place)
           JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = l.number
       ) END,
       i.indisvalid AND i.indisready, m.amname = 'btree', i.indkey::text, i.indoption::text, to_json(k.numbers)::text,
       CASE WHEN i.indexprs IS NOT NULL THEN (
           SELECT json_agg(found[1]::integer ORDER BY place)::text
           FROM regexp_matches(i.indexprs::text, ':varattno (\d+) ', 'g') WITH ORDINALITY AS f(found, place)
       ) END, i.indexprs IS NOT NULL
FROM pg_index i
JOIN pg_class c ON c.oid = i.indrelid
JOIN pg_class x ON x.oid = i.indexrelid
JOIN pg_am m ON m.oid = x.relam
CROSS JOIN LATERAL (
    SELECT array_agg(a.attname::text ORDER BY a.attnum) AS names, array_agg(a.attnum ORDER BY a.attnum) AS numbers
    FROM pg_attribute a
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND (
        a.attnum = ANY ((i.indkey::smallint[])[0:i.indnkeyatts - 1])
        OR a.attnum IN (SELECT found[1]::smallint FROM regexp_matches(i.indexprs::text, ':varattno (\d+) ', 'g') AS found)
    )
) AS k
WHERE c.oid = ANY (%s::bigint[]::oid[])
ORDER BY x.relname
"""


@frozen
class StoredIndex:
    """An index of the catalogue. `table` is the oid of its table. `columns` are the columns of its keys, in the order of the table;
    `single`: its key is one column, or lower() of one; `identifying` are the columns of a unique index that identify a row, in the order
    of the index. `keys` are the columns of its keys in the order of the index, with "-" in front for descending order; an expression
    counts as its column, because each one that `schema_service` makes has one column. Empty if an expression has no column."""

    table: int
    name: str
    unique: bool
    primary: bool
    partial: bool
    columns: tuple[str, ...]
    single: bool
    identifying: tuple[str, ...]
    valid: bool
    btree: bool
    keys: tuple[str, ...]
    has_expressions: bool


@frozen
class Declared:
    """A row of directus_indexes."""

    name: str
    collection: str
    field: str | None
    fields: tuple[str, ...]
    unique: bool
    where: Mapping[str, Any] | None
    failed: bool
    error: str | None


async def read_indexes(session: Session, oids: Sequence[int]) -> list[StoredIndex]:
    """Returns the indexes of tables, by name. *oids* are those of the tables."""
    found = []
    for row in await session.query(_INDEXES, (oids,)):
        oid, name, unique, primary, partial, columns, single, identifying, valid, btree, *places, has_expressions = row
        names = tuple(orjson.loads(columns) or ()) if columns else ()
        found.append(
            StoredIndex(
                int(oid),
                name,
                unique,
                primary,
                partial,
                names,
                single,
                tuple(orjson.loads(identifying)) if identifying else (),
                valid,
                btree,
                _keys(names, *places),
                has_expressions,
            )
        )
    return found


def _keys(names: Sequence[str], keys: str, options: str, numbers: str | None, inner: str | None) -> tuple[str, ...]:
    """Returns `StoredIndex.keys` of an index. *names* are its columns, the other arguments are from `_INDEXES`."""
    by_number = dict(zip(orjson.loads(numbers or "null") or (), names, strict=True))
    # Each expression has one column in the indexes that the server has made.
    within = iter(orjson.loads(inner) if inner else ())
    found = []
    for number, option in zip(keys.split(), options.split(), strict=False):
        column = by_number.get(int(number) or next(within, 0))
        if column is None:
            return ()
        found.append(f"-{column}" if int(option) & 1 else column)
    return tuple(found)


async def read_declared(session: Session) -> list[Declared]:
    """Returns the declared indexes, by name."""
    rows = await session.query("SELECT name, collection, field, definition, failed, error FROM directus_indexes ORDER BY name")
    found = []
    for name, collection, field, definition, failed, error in rows:
        said = orjson.loads(definition)
        found.append(
            Declared(name, collection, field, tuple(said["fields"]), bool(said.get("unique")), said.get("where"), failed, error)
        )
    return found


def declared_names(declared: Iterable[Declared]) -> frozenset[str]:
    """Returns the names of declared indexes."""
    return frozenset(each.name for each in declared)


def indexes_by_collection(
    tables: Tables, stored: Iterable[StoredIndex], declared: Iterable[Declared]
) -> dict[str, tuple[Index, ...]]:
    """Returns the indexes of each collection, by name. A declared index that the database has belongs to the table that it is on, and has
    the names that the columns have there: another program may have renamed them."""
    left = {each.name: each for each in declared}
    found: dict[str, list[Index]] = {}
    for index in stored:
        table = tables.by_oid[index.table]
        # Indexes of tables in other schemas cannot be declared.
        row = left.pop(index.name, None) if table.title == table.name else None
        found.setdefault(table.title, []).append(_from_database(index) if row is None else _of(row, index))
    for row in left.values():
        found.setdefault(row.collection, []).append(_of(row, None))
    return {name: tuple(sorted(indexes, key=lambda index: index.name)) for name, indexes in found.items()}


def _of(row: Declared, index: StoredIndex | None) -> Index:
    state = READY if index is not None and index.valid else FAILED if row.failed else BUILDING
    return Index(
        row.name,
        index.keys if index is not None and len(index.keys) == len(row.fields) else row.fields,
        row.unique,
        row.where,
        OF_COLLECTION if row.field is None else OF_FIELD,
        state,
        None if state == READY else row.error,
        index is not None,
    )


def _from_database(index: StoredIndex) -> Index:
    return Index(
        index.name,
        index.keys,
        index.unique,
        None,
        OF_DATABASE,
        READY if index.valid else FAILED,
        None if index.valid else "PostgreSQL does not use it: it is invalid.",
        True,
        index.btree and not index.partial and bool(index.keys) and (index.single or not index.has_expressions),
    )
