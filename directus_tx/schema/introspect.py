"""Reads a project's database into a Snapshot: PostgreSQL's catalogue and the `directus_*` tables, in one transaction."""

import re
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

import orjson
from attrs import evolve

from directus_tx.db.connection import PUBLIC
from directus_tx.db.session import Session
from directus_tx.errors import ApiError
from directus_tx.schema import datatypes, event_triggers
from directus_tx.schema.custom import NOTHING_CUSTOM, CustomSchema
from directus_tx.schema.foreign_keys import read_foreign_keys
from directus_tx.schema.indexes import StoredIndex, declared_names, indexes_by_collection, read_declared, read_indexes
from directus_tx.schema.model import (
    ALIAS_TYPES,
    MATERIALIZED,
    ROW_ATTRIBUTES,
    Collection,
    Field,
    Index,
    Relation,
    Snapshot,
    Webhook,
)
from directus_tx.schema.native_types import Types, read_types
from directus_tx.schema.sealed import SEALED, Sealing
from directus_tx.schema.system import CATALOGUE
from directus_tx.schema.tables import DELETES, INSERTS, UPDATES, Table, Tables, read_tables

# With a table as its second argument, pg_get_expr waits for transactions that are changing that table, as pg_get_indexdef does. Both
# are used only for expressions that can contain columns.
#
_COLUMNS = """
SELECT c.oid, a.attname, format_type(a.atttypid, a.atttypmod), d.expression,
       a.attnotnull, a.attidentity <> '' OR coalesce(d.expression LIKE 'nextval(%%', false), a.attgenerated,
       a.attidentity, a.atttypid, a.attnum, coalesce(has_column_privilege(c.oid, a.attnum, 'SELECT'), true)
FROM pg_class c
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN (
    SELECT adrelid, adnum, pg_get_expr(adbin, CASE WHEN adbin::text LIKE '%%{VAR %%' THEN adrelid ELSE 0 END) AS expression FROM pg_attrdef
) AS d ON d.adrelid = c.oid AND d.adnum = a.attnum
WHERE c.oid = ANY (%s::bigint[]::oid[])
ORDER BY c.oid, a.attnum
"""

TYPE_OID = 8
"""The position of the type of a column in the rows of `_COLUMNS`."""

_CONSTRAINTS = """
SELECT c.oid, o.conname, json_agg(a.attname ORDER BY a.attnum)::text
FROM pg_constraint o
JOIN pg_class c ON c.oid = o.conrelid
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY (o.conkey)
WHERE c.oid = ANY (%s::bigint[]::oid[]) AND o.contype IN ('c', 'f')
GROUP BY c.oid, o.conname
"""

# xmin changes whenever a catalogue row changes; that of a materialized view also when it is refreshed. The tables that a view depends on
# decide about its key and about what can be written.
_FINGERPRINT = rf"""
WITH spaces AS (
    SELECT oid, xmin FROM pg_namespace WHERE nspname = ANY (%s::text[])
), named AS (
    SELECT c.oid, c.relkind, CASE c.relkind WHEN 'm' THEN concat_ws('.', c.relname, c.relowner, c.relacl, c.relispopulated)
                                  ELSE c.xmin::text END AS xmin
    FROM pg_class c JOIN spaces n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
), rules AS (
    SELECT w.oid, w.ev_class, w.xmin FROM pg_rewrite w JOIN named t ON t.oid = w.ev_class
), tables AS (
    SELECT oid, xmin FROM named
    UNION SELECT c.oid, c.xmin::text FROM rules JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = rules.oid
          JOIN pg_class c ON d.refclassid = 'pg_class'::regclass AND c.oid = d.refobjid
          WHERE c.relkind <> 'm'
), parts AS (
    SELECT oid, 0 AS part, xmin FROM tables
    UNION ALL SELECT oid, 0, xmin::text FROM spaces
    UNION ALL SELECT oid, 0, xmin::text FROM rules
    UNION ALL SELECT attrelid, attnum, a.xmin::text FROM pg_attribute a JOIN tables t ON t.oid = attrelid WHERE attnum > 0
    UNION ALL SELECT adrelid, adnum, d.xmin::text FROM pg_attrdef d JOIN tables t ON t.oid = adrelid
    UNION ALL SELECT conrelid, 0, o.xmin::text FROM pg_constraint o JOIN tables t ON t.oid = conrelid
    UNION ALL SELECT indrelid, 0, i.xmin::text FROM pg_index i JOIN tables t ON t.oid = indrelid
    UNION ALL SELECT tgrelid, 0, g.xmin::text FROM pg_trigger g JOIN named t ON t.oid = tgrelid WHERE t.relkind IN ('v', 'f')
    UNION ALL SELECT objoid, 0, d.xmin::text FROM pg_description d JOIN named t ON t.oid = objoid
              WHERE d.classoid = 'pg_class'::regclass AND d.objsubid = 0
    UNION ALL SELECT ftrelid, 0, f.xmin::text FROM pg_foreign_table f JOIN named t ON t.oid = ftrelid
    UNION ALL SELECT enumtypid, 0, e.xmin::text FROM pg_enum e
    UNION ALL SELECT t.oid, -1, t.xmin::text FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
              WHERE t.typtype IN ('b', 'd', 'e', 'r', 'm') AND t.typelem = 0 AND n.nspname NOT LIKE 'pg\_%%'
              AND n.nspname <> 'information_schema'
    UNION ALL SELECT attrelid, attnum, a.xmin::text FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid
              WHERE c.relkind = 'c' AND attnum > 0
    UNION ALL SELECT roleid, 0, m.xmin::text FROM pg_auth_members m
    UNION ALL {event_triggers.PARTS}
)
SELECT md5(coalesce(string_agg(concat_ws('.', oid, part, xmin), ' ' ORDER BY oid, part, xmin), '')) FROM parts
"""

_FIELD_COLUMNS = ["id", "collection", "field", *ROW_ATTRIBUTES, "datatype", "length", "signed"]

Column = dict[str, Any]


_WEBHOOKS = """
SELECT w.id, w.collection, w.directus_action, w.url, w.http_action, k.owner, u.role, coalesce(u.status = 'active', FALSE)
FROM directus_webhooks AS w LEFT JOIN directus_webhook_keys AS k ON k.webhook = w.id LEFT JOIN directus_users AS u ON u.id = k.owner
WHERE w.status = 'active' AND w.url <> '' AND w.collection IS NOT NULL AND w.directus_action IS NOT NULL
ORDER BY w.id"""


async def read_snapshot(session: Session, schemas: Sequence[str] = (), custom: CustomSchema = NOTHING_CUSTOM) -> Snapshot:
    """Reads a consistent snapshot of the database. *schemas* are those beside public whose tables are collections, too; *custom* is what
    plugins add."""
    wanted = tuple(dict.fromkeys(schemas))
    if session.in_transaction:
        return await _read(session, wanted, custom)
    return await session.transaction(lambda session: _read(session, wanted, custom), read_only=True)


async def read_fingerprint(session: Session, schemas: Sequence[str] = ()) -> str:
    """Returns a text that changes when tables, views, columns, indexes, constraints or privileges change, whichever program changes them.
    *schemas* are as for `read_snapshot`."""
    ((fingerprint,),) = await session.query(_FINGERPRINT, ([PUBLIC, session.database.system_schema, *schemas],))
    return str(fingerprint)


async def _read(session: Session, schemas: tuple[str, ...], custom: CustomSchema) -> Snapshot:
    ((version, notified),) = await session.query(
        f"SELECT version, {event_triggers.IN_USE} FROM directus_versions WHERE kind = 'schema'"
    )
    fingerprint = await read_fingerprint(session, schemas)
    tables = await read_tables(session, schemas)
    oids = (sorted(tables.by_oid),)
    indexes = await read_indexes(session, *oids)
    declared = await read_declared(session)
    described = await session.query(_COLUMNS, oids)
    types = await read_types(session, {int(row[TYPE_OID]) for row in described})
    columns, keys, sources = _columns(tables, described, indexes, declared_names(declared), types)
    foreign = await read_foreign_keys(session, tables, columns, keys)
    for each in foreign:
        if each.reason is None:
            columns[tables.oid_of(each.collection)][each.fields[0]]["relational"] = True
    constraints = _constraints(tables, indexes, await session.query(_CONSTRAINTS, oids))
    rows = await session.query(
        "SELECT collection, managed, hidden, single, icon, note, translation, search_index FROM directus_collections"
    )
    listed = ", ".join(f'"{name}"' for name in _FIELD_COLUMNS)
    field_rows: dict[str, list[Column]] = {}
    for values in await session.query(f"SELECT {listed} FROM directus_fields ORDER BY id"):
        row = dict(zip(_FIELD_COLUMNS, values, strict=True))
        field_rows.setdefault(row["collection"], []).append(row)
    relations = await session.query(
        "SELECT id, collection_many, field_many, collection_one, field_one, junction_field FROM directus_relations ORDER BY id"
    )
    settings = await session.query("SELECT key, value FROM directus_settings")
    roles = await session.query(
        "SELECT id, name, description, ip_whitelist, enforce_2fa, module_listing, collection_listing FROM directus_roles"
    )
    permissions = await session.query(
        'SELECT id, collection, role, status, "create", "read", "update", "delete", "comment", explain,'
        " read_field_blacklist, write_field_blacklist, status_blacklist FROM directus_permissions ORDER BY id"
    )
    webhooks = await session.query(_WEBHOOKS)
    listed_indexes = indexes_by_collection(tables, indexes, declared)
    named = {row[0]: row for row in rows}
    collections = dict(_collections(tables, columns, keys, sources, constraints, listed_indexes, named, field_rows))
    for name in _with_custom_types(field_rows, custom):
        if name in collections:
            collections[name] = _with_types(collections[name], field_rows[name], custom)
    return Snapshot(
        version,
        collections,
        tuple(Relation(*row) for row in relations),
        dict(settings),
        {
            id: {
                "id": id,
                "name": name,
                "description": description,
                "ip_whitelist": _csv(ips),
                "enforce_2fa": bool(enforce),
                "module_listing": _json(modules),
                "collection_listing": _json(listing),
            }
            for id, name, description, ips, enforce, modules, listing in roles
        },
        tuple(_permission(row, collections) for row in permissions),
        fingerprint,
        schemas,
        tables.left_out,
        notified,
        foreign,
        tuple(Webhook(*row) for row in webhooks),
        custom,
    )


def _with_custom_types(field_rows: Mapping[str, Iterable[Column]], custom: CustomSchema) -> list[str]:
    """Returns the collections that have fields of types of plugins."""
    if not custom.types:
        return []
    return [name for name, rows in field_rows.items() if any(row["type"] in custom.types for row in rows)]


def _with_types(collection: Collection, rows: Iterable[Column], custom: CustomSchema) -> Collection:
    """Returns a collection whose fields have their types of plugins."""
    fields = dict(collection.fields)
    for row in rows:
        field, type = fields.get(row["field"]), custom.types.get(row["type"])
        if field is None or type is None or not field.has_column or field.sealed is not None:
            continue
        attributes: dict[str, Any] = {"custom": type}
        if field.domain is None and _declared_type(row, custom) == field.column_type:
            declared = {name: row[name] for name in ("datatype", "length", "signed")}
            attributes |= {**declared, "declared": True}
        fields[row["field"]] = evolve(field, **attributes)
    return evolve(collection, fields=fields)


def _permission(row: tuple[Any, ...], collections: Mapping[str, Collection]) -> Mapping[str, Any]:
    names = [
        "id",
        "collection",
        "role",
        "status",
        "create",
        "read",
        "update",
        "delete",
        "comment",
        "explain",
        "read_field_blacklist",
        "write_field_blacklist",
        "status_blacklist",
    ]
    permission = dict(zip(names, row, strict=True))
    for name in names[-3:]:
        text = permission[name] or ""
        permission[name] = _csv(text)
        if name.endswith("field_blacklist") and permission["collection"] in collections:
            # The names of existing columns can contain commas and leading or trailing blanks.
            fields = collections[permission["collection"]].fields
            permission[name] += tuple(field for field in fields if f",{field}," in f",{text}," and field not in permission[name])
    return permission


def _csv(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip()) if text else ()


Keys = dict[int, tuple[str, ...]]
"""The columns that identify a row, by the oid of the table."""


def _columns(
    tables: Tables,
    columns: Iterable[tuple[Any, ...]],
    indexes: Iterable[StoredIndex],
    declared: Container[str],
    types: Types,
) -> tuple[dict[int, dict[str, Column]], Keys, dict[int, tuple[str, str, str]]]:
    """Returns the columns of each table by name, as attributes of a Field; the keys; and the columns that hold the keys, as
    `Collection.key_source`. Tables are given by their oids. *declared* are the names of declared indexes, which `unique` of a field does
    not show."""
    single: set[tuple[int, str]] = set()
    identifying: dict[int, list[tuple[bool, tuple[str, ...]]]] = {oid: [] for oid in tables.by_oid}
    for index in sorted(indexes, key=lambda index: index.name):
        if index.unique and index.single and not index.primary and not index.partial and index.name not in declared:
            single.add((index.table, index.columns[0]))
        if index.identifying:
            identifying[index.table].append((index.primary, index.identifying))
    found: dict[int, dict[str, Column]] = {oid: {} for oid in tables.by_oid}
    numbers: dict[int, dict[int, str]] = {oid: {} for oid in tables.by_oid}
    unreadable: list[tuple[int, str]] = []
    for table_oid, column, column_type, default, not_null, counted, generated, identity, type_oid, place, readable in columns:
        oid = int(table_oid)
        numbers[oid][place] = column
        if not readable:
            unreadable.append((oid, column))
        attributes = types.attributes(int(type_oid), column_type)
        not_null |= attributes.pop("domain_not_null", False)
        inherited = attributes.pop("domain_default", None)
        default = inherited if default is None else default
        found[oid][column] = attributes | {
            "default_value": None if counted or generated else default_text(default),
            "nullable": not not_null,
            "auto_increment": counted,
            "computed": bool(generated) or identity == "a",
            "virtual": generated == "v",
            "unique": (oid, column) in single,
        }
    keys: Keys = {}
    sources: dict[int, tuple[str, str, str]] = {}
    for oid in _bases_first(tables):
        table = tables.by_oid[oid]
        _follow_origins(table, found, numbers)
        keys[oid] = _key(table, found[oid], numbers, keys, identifying[oid])
        for name, attributes in found[oid].items():
            attributes["primary_key"] = keys[oid] == (name,)
        if len(keys[oid]) == 1:
            sources[oid] = _source(table, keys, numbers, sources)
    for oid, name in unreadable:
        del found[oid][name]
        if name in keys[oid]:
            keys[oid] = ()
    return found, keys, sources


def _bases_first(tables: Tables) -> list[int]:
    """Returns the oids of the tables, each after those that it shows the rows of."""
    done: dict[int, None] = {}

    def add(oid: int) -> None:
        if oid not in done and oid in tables.by_oid:
            for base in {base for base, _ in tables.by_oid[oid].origins.values()}:
                add(base)
            done[oid] = None

    for oid in tables.by_oid:
        add(oid)
    return list(done)


def _follow_origins(table: Table, found: Mapping[int, dict[str, Column]], numbers: Mapping[int, Mapping[int, str]]) -> None:
    """Gives the columns of a view that shows the rows of one table the attributes of the columns of the table. PostgreSQL writes no other
    columns of the view, unless a trigger does. *numbers* has the columns of each table by their numbers."""
    if not table.simple:
        return
    for place, name in numbers[table.oid].items():
        attributes = found[table.oid][name]
        base, number = table.origins.get(place, (0, 0))
        origin = found.get(base, {}).get(numbers.get(base, {}).get(number, ""))
        if origin is not None:
            own = attributes["default_value"]
            attributes |= {each: origin[each] for each in ("nullable", "auto_increment", "computed", "virtual", "unique")}
            attributes["default_value"] = origin["default_value"] if own is None else own
        elif not table.triggered:
            attributes |= {"computed": True, "virtual": True}


def _key(
    table: Table,
    columns: Mapping[str, Column],
    numbers: Mapping[int, Mapping[int, str]],
    keys: Keys,
    identifying: Iterable[tuple[bool, tuple[str, ...]]],
) -> tuple[str, ...]:
    """Returns the columns that identify a row of a table: that of its primary key, if it has one column; or those that its comment
    declares; or those of the primary key or a unique index without nulls, whichever has the fewest; or, for a view that shows the rows
    of one table, those of the key of the table. Empty if there are none.

    *identifying* are the columns of unique indexes, with whether it is the primary key."""
    unique: list[tuple[str, ...]] = []
    for primary, names in identifying:
        if primary and len(names) == 1:
            return names
        # The columns of materialized views are not declared NOT NULL.
        if primary or table.kind == MATERIALIZED or not any(columns[name]["nullable"] for name in names):
            unique.append(names)
    if table.declared_key and all(name in columns for name in table.declared_key):
        return table.declared_key
    if unique:
        return min(unique, key=len)
    for base in {base for base, _ in table.origins.values()}:
        shown = {number: numbers[table.oid][place] for place, (_, number) in table.origins.items() if place in numbers[table.oid]}
        places = {name: number for number, name in numbers.get(base, {}).items()}
        wanted = [shown.get(places[name]) for name in keys.get(base, ())]
        if wanted and None not in wanted:
            return tuple(name for name in wanted if name is not None)
    return ()


def _source(
    table: Table, keys: Keys, numbers: Mapping[int, Mapping[int, str]], sources: Mapping[int, tuple[str, str, str]]
) -> tuple[str, str, str]:
    """Returns the column that holds the key of a table, as `Collection.key_source`. *sources* are those of the tables below a view."""
    (name,) = keys[table.oid]
    place = next(place for place, each in numbers[table.oid].items() if each == name)
    base, number = table.origins.get(place, (0, 0))
    if base in sources and keys[base] == (numbers[base].get(number),):
        return sources[base]
    return table.schema, table.name, name


def _constraints(
    tables: Tables, indexes: Iterable[StoredIndex], constraints: Iterable[tuple[Any, ...]]
) -> dict[int, dict[str, tuple[str, ...]]]:
    """Returns the columns of the constraints and indexes of each table, by name. (The index of a constraint has its name.)"""
    found: dict[int, dict[str, tuple[str, ...]]] = {oid: {} for oid in tables.by_oid}
    for index in indexes:
        found[index.table][index.name] = index.columns
    for table, name, names in constraints:
        found[int(table)][name] = tuple(orjson.loads(names))
    return found


_LITERAL = re.compile(r"^(?:'((?:[^']|'')*)'|\(?(-?[\d.]+)\)?)(?:::[\w\s\"().,]+)?$")


def default_text(expression: str | None) -> str | None:
    """Returns a default as the API shows it: the text of a literal, "1" or "0" for booleans, None for NULL, otherwise the expression."""
    if expression is None or expression.startswith("NULL"):
        return None
    if expression in ("true", "false"):
        return "1" if expression == "true" else "0"
    found = _LITERAL.match(expression)
    if found is None:
        return expression
    return found[1].replace("''", "'") if found[1] is not None else found[2]


def _collections(
    tables: Tables,
    columns: Mapping[int, Mapping[str, Column]],
    keys: Keys,
    sources: Mapping[int, tuple[str, str, str]],
    constraints: Mapping[int, Mapping[str, tuple[str, ...]]],
    indexes: Mapping[str, tuple[Index, ...]],
    rows: Mapping[str, tuple[Any, ...]],
    field_rows: Mapping[str, list[Column]],
) -> Iterable[tuple[str, Collection]]:
    """Yields the user collections by name, then the system collections."""
    system = {table.title: table for table in tables.listed if table.title in CATALOGUE.collections}
    # Every write is recorded in the activity.
    read_only = not system["directus_activity"].writes & INSERTS
    for table in tables.listed:
        name = table.title
        if name in system:
            continue
        fields = _fields(name, columns[table.oid], field_rows.get(name, ()))
        about: dict[str, Any] = {}
        if name in rows:
            _, managed, hidden, single, icon, note, translation, search_index = rows[name]
            about = {
                "managed": managed,
                "hidden": hidden,
                "single": single,
                "icon": icon,
                "note": note,
                "translation": _json(translation),
                "has_row": True,
                "search_index": search_index,
            }
        yield (
            name,
            Collection(
                name,
                fields,
                constraints=constraints[table.oid],
                indexes=indexes.get(name, ()),
                kind=table.kind,
                schema=None if table.schema == PUBLIC else table.schema,
                key_columns=keys[table.oid] if len(keys[table.oid]) > 1 else (),
                insertable=bool(table.writes & INSERTS),
                updatable=bool(table.writes & UPDATES),
                deletable=bool(table.writes & DELETES),
                lockable=table.lockable,
                versioned=table.versioned,
                plain=table.plain,
                key_source=sources.get(table.oid),
                read_only=read_only,
                **about,
            ),
        )
    for name, catalogued in CATALOGUE.collections.items():
        oid = system[name].oid
        fields = _system_fields(name, columns[oid], catalogued, field_rows.get(name, ()))
        marked = {each.fingerprint: sealed for sealed, each in SEALED.get(name, {}).items()}
        about = {
            # A unique index of fingerprints makes the values of the field unique.
            "constraints": {each: tuple(marked.get(c, c) for c in named) for each, named in constraints[oid].items()},
            "indexes": indexes.get(name, ()),
            "read_only": read_only,
            "key_source": sources.get(oid),
            "plain": system[name].plain,
        }
        yield name, Collection(name, fields, **about)


def _fields(table: str, columns: Mapping[str, Column], rows: Iterable[Column]) -> dict[str, Field]:
    """Returns the fields of a table: its columns in their order, then the aliases."""
    by_name = {row["field"]: row for row in rows}
    fields = {name: _field(table, name, column, by_name.get(name)) for name, column in columns.items()}
    for name, row in by_name.items():
        if name not in columns and row["type"] in ALIAS_TYPES:
            fields[name] = _field(table, name, {}, row)
    return fields


def _field(table: str, name: str, column: Column, row: Column | None) -> Field:
    attributes: dict[str, Any] = dict(column)
    relational = attributes.pop("relational", False)
    attributes["required"] = bool(column) and not (column["nullable"] or column["computed"]) and column["default_value"] is None
    if row is not None:
        attributes |= {n: v for n, v in row.items() if n not in ("collection", "field")}
        attributes["options"] = _json(row["options"])
        attributes["translation"] = _json(row["translation"])
        attributes["required"] = row["required"] or attributes.get("primary_key", False)
    if column and not _is_as_declared(column, row):
        type, datatype, length = datatypes.nearest(column["column_type"], column["native"])
        attributes |= {"datatype": datatype, "length": length, "signed": True, "declared": False}
        attributes.setdefault("type", "m2o" if relational else type)
        if relational and row is None:
            attributes["interface"] = "many-to-one"
    if attributes.get("computed"):
        attributes["readonly"] = True
    return Field(table, name, **attributes)


def _is_as_declared(column: Column, row: Column | None) -> bool:
    """Whether a column has the declared type. Another program may have changed it."""
    if row is None or row["datatype"] is None or column.get("domain"):
        return False
    return bool(_declared_type(row, NOTHING_CUSTOM) == column["column_type"])


def _declared_type(row: Column, custom: CustomSchema) -> str | None:
    """Returns the PostgreSQL type of a column with the declared datatype; None if there is none."""
    if row["datatype"] is None:
        return None
    try:
        return datatypes.column_type(row["type"], row["datatype"], row["length"], row["signed"], custom.types)
    except ApiError:
        return None


def _system_fields(
    table: str, columns: Mapping[str, Column], catalogued: Iterable[Mapping[str, Any]], rows: Iterable[Column]
) -> dict[str, Field]:
    """Returns the fields of a system collection: those of the catalogue, and those that the project has added. Columns of fingerprints are
    no fields."""
    fields: dict[str, Field] = {}
    sealed = SEALED.get(table, {})
    marks = {each.fingerprint for each in sealed.values()}
    for entry in catalogued:
        column = columns.get(entry["field"], {})
        attributes = dict(column) | {name: entry[name] for name in ("id", *ROW_ATTRIBUTES) if name in entry}
        if column:
            _, datatype, length = datatypes.nearest(column["column_type"], column["native"])
            # Keys of system collections are bigint columns, but the API shows them as numbers. Declared BIGINT fields are shown as text.
            attributes |= {"datatype": "INT" if datatype == "BIGINT" else datatype, "length": length, "signed": True}
        if column and entry["field"] in sealed:
            attributes |= _as_unsealed(sealed[entry["field"]], columns)
        fields[entry["field"]] = Field(table, entry["field"], **attributes)
    added = [row for row in rows if row["field"] not in fields and row["field"] not in marks]
    for row in added:
        if row["field"] in columns or row["type"] in ALIAS_TYPES:
            fields[row["field"]] = _field(table, row["field"], columns.get(row["field"], {}), row)
    return fields


def _as_unsealed(sealing: Sealing, columns: Mapping[str, Column]) -> Column:
    """Returns the attributes that a sealed field has for clients, which know nothing of sealing: those of a column with the values."""
    length = str(sealing.length)
    return {
        "sealed": sealing,
        "datatype": "VARCHAR",
        "length": length,
        "column_type": f"character varying({length})",
        "unique": sealing.fingerprint is not None and columns[sealing.fingerprint]["unique"],
    }


def _json(text: str | None) -> Any:
    if not text:
        return None
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
