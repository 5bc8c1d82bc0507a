"""What indexes are declared: their payloads, the indexes of a field, and the SQL that builds them.

An index is on the expressions by which items are compared and sorted (`compile.operators`): text in lower case.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from directus_tx.access import Access
from directus_tx.compile.bounds import Bounds
from directus_tx.compile.conditions import conditions_of
from directus_tx.compile.filters import Conditions
from directus_tx.compile.operators import CONTAINS, NCONTAINS, OPERATORS, check_order, has_order, sorted_by
from directus_tx.compile.shape import chain_of
from directus_tx.config import LimitSettings
from directus_tx.context import ADMINISTRATOR, Accountability
from directus_tx.db.sql import SQL, TRUE, Composable, Identifier
from directus_tx.errors import InvalidRequest
from directus_tx.query import BindValues, Condition, Query
from directus_tx.schema.datatypes import family
from directus_tx.schema.ddl import INDEXED_TYPES, index_name
from directus_tx.schema.model import OF_FIELD, TABLE, Collection, Field, Index, Snapshot
from directus_tx.schema_service.payloads import Item, check_index_name, only

SHOWN = ("origin", "state", "progress", "phase", "error", "definition")
"""The attributes of an index that responses show and payloads may send back. They are ignored."""

MAX_FIELDS = 32
"""The maximum number of columns of an index in PostgreSQL."""

MAX_INDEXES = 64
"""The maximum number of indexes that a collection declares. Each makes every write slower, and PostgreSQL locks all of them for each
statement that it plans."""

MOVING = frozenset({"now", "today", "tomorrow", "yesterday"})
"""The texts that mean another moment whenever they are read."""


# --- payloads


def wanted_index(payload: Mapping[str, Any], field: str) -> bool | None:
    """Returns whether the payload of a field asks for an index: True or False, or None if it does not say. An object, in which responses
    show the state of the index, means True. Raises InvalidRequest."""
    value = payload.get("index")
    if isinstance(value, dict):
        only(value, SHOWN)
        return True
    if value not in (None, True, False, 0, 1):
        raise InvalidRequest(f'"index" of "{field}" is true or false.')
    return None if value is None else bool(value)


def wanted_indexes(payload: Mapping[str, Any]) -> list[Index] | None:
    """Returns the indexes that the payload of a collection declares; None if it does not say. The name is empty where none is given.
    Indexes of fields and of the database, which responses show as well, are left out. Raises InvalidRequest and InvalidPayload."""
    value = payload.get("indexes")
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise InvalidRequest('"indexes" takes a list of objects.')
    listed = [each for each in value if each.get("origin", "collection") == "collection"]
    if len(listed) > MAX_INDEXES:
        raise InvalidRequest(f'"indexes" declares at most {MAX_INDEXES} indexes of a collection.')
    found = [_declared(each) for each in listed]
    names = [index.name for index in found if index.name]
    if len(set(names)) < len(names):
        raise InvalidRequest('Two members of "indexes" have the same name.')
    for place, index in enumerate(found):
        if any(index.same_as(other) for other in found[:place]):
            raise InvalidRequest(f'"indexes" has an index on {", ".join(index.fields)} twice.')
    return found


def _declared(payload: Item) -> Index:
    only(payload, ("name", "fields", "unique", "where", *SHOWN))
    name, fields, where = payload.get("name"), payload.get("fields"), payload.get("where")
    if isinstance(fields, str):
        fields = [each.strip() for each in fields.split(",")]
    if not isinstance(fields, list) or not fields or not all(isinstance(each, str) and each.strip("-") for each in fields):
        raise InvalidRequest('An index needs "fields": a list of names, with "-" in front for descending order.')
    plain = [each.removeprefix("-") for each in fields]
    if len(set(plain)) < len(plain):
        raise InvalidRequest("An index has each field once.")
    if len(fields) > MAX_FIELDS:
        raise InvalidRequest(f"An index has at most {MAX_FIELDS} fields.")
    if payload.get("unique") not in (None, True, False, 0, 1):
        raise InvalidRequest('"unique" of an index is true or false.')
    if where is not None and not isinstance(where, dict):
        raise InvalidRequest('"where" of an index is a filter: {"field": {"operator": "value"}}.')
    return Index("" if name in (None, "") else check_index_name(name), tuple(fields), bool(payload.get("unique")), where or None)


MAX_DEPTH = 4
"""The levels of a filter in JSON: fields, several conditions on one, operators, lists of values."""


def _tree(value: Any, depth: int = 0) -> Any:
    """Returns a filter in JSON in the form of the query string: its values are texts, lists are objects with numbers as keys."""
    if depth > MAX_DEPTH:
        raise InvalidRequest('"where" of an index is nested too deeply.')
    if isinstance(value, dict):
        return {name: _tree(each, depth + 1) for name, each in value.items()}
    if isinstance(value, list):
        return {str(place): _tree(each, depth + 1) for place, each in enumerate(value)}
    if value is None:
        return ""
    return {True: "1", False: "0"}[value] if isinstance(value, bool) else str(value)


# --- the indexes of a field


def field_indexes(collection: Collection, field: Field) -> list[Index]:
    """Returns the indexes that `index` of a field means, without names. They find items by the field and return them in the default order,
    and return pages of items sorted by the field. Nulls are sorted last in both directions, so a field that may be null has an index for
    each direction. PostgreSQL reads it for equality and ranges, whatever its direction. Raises InvalidPayload if the values have no
    order, InvalidRequest if the field has no column."""
    if not field.has_column:
        raise InvalidRequest(f'"{field.field}" has no column to index.')
    check_order(field)
    nullable = field.nullable and not field.primary_key
    # A column that the server has made has these indexes already.
    covered = (field.unique or (field.declared and field.type in INDEXED_TYPES)) and not field.primary_key
    names = [] if covered and nullable else [field.field]
    names += [f"-{field.field}"] if nullable else []
    key = [each.field for each in collection.order_columns if has_order(each) and each.field != field.field]
    return [Index("", (name, *key), origin=OF_FIELD) for name in names]


# --- SQL


def check_indexable(collection: Collection) -> None:
    """Raises InvalidRequest unless the collection is a table whose indexes the server can create."""
    if collection.kind != TABLE or collection.schema is not None:
        what = collection.kind if collection.schema is None else f"{collection.kind} in another schema than public"
        raise InvalidRequest(f'"{collection.collection}" is a {what}: its indexes cannot be declared here.')


def creation(
    schema: Snapshot, collection: Collection, index: Index, *, concurrently: bool = False, on: str | None = None
) -> tuple[Composable, list[Any]]:
    """Returns the statement that creates an index, and its parameters. *on*: the name of the table, instead of that of the collection; the
    index then has no name of its own. Raises InvalidRequest or InvalidPayload if the index does not fit the collection."""
    table = on or collection.collection
    keys = [_key(collection, table, name) for name in index.fields]
    condition, parameters = _condition(schema, collection, index, table)
    sql = SQL("CREATE {}INDEX {}{}ON {} ({}){}").format(
        SQL("UNIQUE " if index.unique else ""),
        SQL("CONCURRENTLY " if concurrently else ""),
        SQL("") if on is not None else SQL("{} ").format(Identifier(index.name)),
        Identifier(table),
        SQL(", ").join([SQL("({}){}").format(expression, SQL(direction)) for expression, direction in keys]),
        SQL("") if condition is None else SQL(" WHERE {}").format(condition),
    )
    return sql, parameters


def _key(collection: Collection, table: str, name: str) -> tuple[Composable, str]:
    """Returns the expression of a key of an index, and its direction, which is as in the ORDER BY of a read."""
    field = _indexed(collection, name.removeprefix("-"))
    if not name.startswith("-"):
        return sorted_by(table, field), ""
    return sorted_by(table, field), " DESC NULLS LAST" if field.nullable and not field.primary_key else " DESC"


def _indexed(collection: Collection, name: str) -> Field:
    field = collection.columns.get(name)
    if field is None:
        raise InvalidRequest(f'"{collection.collection}" has no field "{name}" with a column to index.')
    if field.virtual:
        raise InvalidRequest(f'"{name}" is computed when it is read: it cannot be indexed.')
    check_order(field)
    return field


def _condition(schema: Snapshot, collection: Collection, index: Index, table: str) -> tuple[Composable | None, list[Any]]:
    """Returns the condition on the items of an index, and its parameters."""
    if index.where is None:
        return None, []
    conditions = tuple(conditions_of(_tree(index.where)))
    for each in conditions:
        _check_condition(schema, collection, each)
    query = Query(filter=conditions)
    access = Access(schema, Accountability(None, ADMINISTRATOR), trusted=True)
    chain = Conditions(access, Bounds(LimitSettings())).chain(
        table, access.grant(collection.collection), chain_of(conditions), lambda query: query.filter
    )
    if chain is TRUE:
        return None, []
    parameters = chain.parameters(BindValues(query))
    if any(value is None for value in parameters):
        raise InvalidRequest('A value in "where" of an index is not one of its field.')
    return chain.sql, parameters


def _check_condition(schema: Snapshot, collection: Collection, condition: Condition) -> None:
    """Raises InvalidRequest if a condition depends on something else than the columns of an item."""
    name = ".".join(condition.path)
    field = collection.columns.get(name)
    if field is None:
        raise InvalidRequest(f'"where" of an index is about fields of the collection with a column, which "{name}" is not.')
    if (collection.collection, name) in schema.many_to_one and OPERATORS.get(condition.operator) in (CONTAINS, NCONTAINS):
        raise InvalidRequest(f'"where" of an index cannot search in what "{name}" refers to.')
    values = (condition.value,) if isinstance(condition.value, str) else condition.value or ()
    texts = {text.strip().lower() for value in values for text in value.split(",")}
    if family(field) in ("date", "time", "datetime") and texts & MOVING:
        raise InvalidRequest(
            f'"where" of an index has no moving moment: "{name}" cannot be compared with {", ".join(texts & MOVING)}.'
        )


def dropping(collection: str, name: str, *, concurrently: bool = False) -> Composable:
    """Returns the statement that drops an index of a collection, if it exists."""
    return SQL("DROP INDEX {}IF EXISTS {}").format(SQL("CONCURRENTLY " if concurrently else ""), index_name(collection, name))


# --- duplicates

MOST_DUPLICATES = 3
"""The number of values that a message names."""


def duplicates(schema: Snapshot, collection: Collection, index: Index) -> tuple[Composable, list[Any]]:
    """Returns a query for the values that keep a unique index from being built, and its parameters: for each, the number of items and the
    values as texts."""
    table = collection.collection
    keys = [_key(collection, table, name)[0] for name in index.fields]
    condition, parameters = _condition(schema, collection, index, table)
    known = [SQL("{} IS NOT NULL").format(key) for key in keys]
    sql = SQL("SELECT count(*), {} FROM {} WHERE {} GROUP BY {} HAVING count(*) > 1 ORDER BY 1 DESC LIMIT {}").format(
        SQL(", ").join([SQL("({})::text").format(key) for key in keys]),
        Identifier(table),
        SQL(" AND ").join(known if condition is None else [condition, *known]),
        SQL(", ").join(keys),
        SQL(str(MOST_DUPLICATES)),
    )
    return sql, parameters


def not_unique(collection: Collection, index: Index, rows: Iterable[Sequence[Any]]) -> str:
    """Returns the message about a unique index that cannot be built. *rows* are those of `duplicates`. Hashes are not shown."""
    names = [name.removeprefix("-") for name in index.fields]
    shown = ["***" if collection.fields[name].type == "hash" else None for name in names]
    found = []
    for count, *values in rows:
        texts = [f'"{_shortened(value)}"' if hidden is None else hidden for value, hidden in zip(values, shown, strict=True)]
        found.append(f"{', '.join(texts)} ({count} items)")
    quoted = ", ".join(f'"{name}"' for name in names)
    said = f": {'; '.join(found)}" if found else ""
    return f'The index "{index.name}" cannot be unique: several items have the same value of {quoted}{said}.'


def _shortened(text: str) -> str:
    return text if len(text) <= 100 else text[:100] + "..."
