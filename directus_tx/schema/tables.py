"""Finds the tables and views of a database that are collections, and what PostgreSQL says about each: its kind, its key, and which writes
it allows.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attrs import field as attribute
from attrs import frozen, mutable

from directus_tx.db.connection import PUBLIC
from directus_tx.db.session import Session
from directus_tx.errors import ApiError
from directus_tx.schema.model import FOREIGN, MATERIALIZED, PARTITIONED, TABLE, VIEW, LeftOut
from directus_tx.schema.system import CATALOGUE

KINDS = {"r": TABLE, "p": PARTITIONED, "v": VIEW, "m": MATERIALIZED, "f": FOREIGN}
MAX_NAME = 64
"""The maximum length of the name of a collection: that of the columns of system tables that hold such names."""

SYSTEM_PREFIX = "directus_"
"""What the names of system tables begin with."""

PLUGIN_PREFIX = "directus_plugin_"
"""What the names of tables of plugins begin with that are not collections."""

INTERNAL = frozenset(
    {
        "directus_failed_attempts",
        "directus_file_contents",
        "directus_indexes",
        "directus_outbox",
        "directus_outbox_attempts",
        "directus_plugin_migrations",
        "directus_presigned_uploads",
        "directus_scim_groups",
        "directus_scim_users",
        "directus_upload_parts",
        "directus_uploads",
        "directus_used_tokens",
        "directus_user_identities",
        "directus_user_links",
        "directus_user_sign_ins",
        "directus_user_tokens",
        "directus_versions",
        "directus_webhook_keys",
    }
)
"""The tables of the server that are not collections."""

PLAIN = "c.relkind = 'r' AND NOT (c.relhastriggers OR c.relhasrules OR c.relhassubclass)"
"""The SQL condition for `Collection.plain`."""

# The functions that ask for privileges return NULL for a table that has been dropped since the transaction began.
#
# Rows of foreign tables, also among the children of a table, have no transaction id.
_TABLES = f"""
SELECT c.oid, n.nspname, c.relname, c.relkind::text, obj_description(c.oid, 'pg_class'),
       (SELECT e.extname FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
        WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
        LIMIT 1),
       coalesce(has_schema_privilege(n.oid, 'USAGE'), true),
       coalesce(has_any_column_privilege(c.oid, 'SELECT'), true),
       EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), c.relispopulated,
       CASE WHEN NOT has_any_column_privilege(c.oid, 'UPDATE') THEN 0 ELSE 4 END
       + CASE WHEN NOT has_any_column_privilege(c.oid, 'INSERT') THEN 0 ELSE 8 END
       + CASE WHEN NOT has_table_privilege(c.oid, 'DELETE') THEN 0 ELSE 16 END,
       c.relkind IN ('r', 'p') AND coalesce(has_table_privilege(c.oid, 'SELECT'), true) AND NOT (c.relhassubclass AND EXISTS (
           WITH RECURSIVE children(oid) AS (
               SELECT inhrelid FROM pg_inherits WHERE inhparent = c.oid
               UNION SELECT inhrelid FROM pg_inherits JOIN children ON inhparent = children.oid
           ) SELECT FROM children JOIN pg_class x ON x.oid = children.oid WHERE x.relkind = 'f'
       )),
       EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgtype & 64 <> 0),
       {PLAIN}
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
"""

# A table that is not visible is hidden by another of the same name, such as pg_authid in pg_catalog.
_LISTED = f"""{_TABLES}
  AND n.nspname = ANY (%s::text[]) AND NOT c.relispartition AND (n.nspname <> 'public' OR pg_table_is_visible(c.oid))
ORDER BY array_position(%s::text[], n.nspname::text), c.relname
"""

_NAMED = f"{_TABLES} AND c.oid = ANY (%s::bigint[]::oid[])"

# The bits of pg_relation_is_updatable are 4 for UPDATE, 8 for INSERT and 16 for DELETE. Without triggers, it finds the views whose rows are
# rows of one table, and views with rules. pg_rewrite has the query of a view: the rule for SELECT has the type 1.
#
# The function waits for transactions that are changing the view or its tables, and fails for foreign tables whose wrapper is broken, and
# for views of them. So it is only called for views and foreign tables.
_WRITABLE = """
SELECT c.oid, pg_relation_is_updatable(c.oid, true),
       CASE WHEN c.relkind = 'v' AND pg_relation_is_updatable(c.oid, false) <> 0
            AND NOT EXISTS (SELECT FROM pg_rewrite w WHERE w.ev_class = c.oid AND w.ev_type <> '1')
            THEN (SELECT w.ev_action::text FROM pg_rewrite w WHERE w.ev_class = c.oid AND w.ev_type = '1') END
FROM pg_class c WHERE c.oid = ANY (%s::bigint[]::oid[])
"""

UPDATES, INSERTS, DELETES = 4, 8, 16

_PASSING = ("08", "40", "55P03", "57", "XX")
"""The SQLSTATEs, and classes of them, that do not mean that the function fails for a table: it may succeed if it is called again."""

_DECLARED_KEY = re.compile(r"^\s*@primaryKey\s+(\S.*?)\s*$", re.MULTILINE)


@mutable(eq=False)
class Table:
    """A table or view. `origins` are the columns of a view that shows the rows of one table: the oid of that table and the number of its
    column, by the number of the column of the view. `declared_key` are the columns that the comment on the table declares as its key.
    `title` is the name of the collection. `simple`: it is such a view. `broken`: PostgreSQL cannot say what can be written."""

    oid: int
    schema: str
    name: str
    kind: str
    declared_key: tuple[str, ...]
    extension: str | None
    reachable: bool
    readable: bool
    has_columns: bool
    populated: bool
    writes: int
    versioned: bool
    triggered: bool
    plain: bool
    simple: bool = False
    broken: bool = False
    title: str = ""
    origins: Mapping[int, tuple[int, int]] = attribute(factory=dict)

    @property
    def lockable(self) -> bool:
        """Whether SELECT FOR UPDATE is possible."""
        return self.kind in (TABLE, PARTITIONED, FOREIGN) or self.simple


@frozen
class Tables:
    """The tables that are collections, in their order; the tables by oid, with those that views show the rows of; and what is left out."""

    listed: Sequence[Table]
    by_oid: Mapping[int, Table]
    left_out: tuple[LeftOut, ...]

    def oid_of(self, collection: str) -> int:
        """Returns the oid of the table of a collection."""
        return next(table.oid for table in self.listed if table.title == collection)


async def read_tables(session: Session, schemas: Sequence[str]) -> Tables:
    """Returns the tables and views of the schema public and of *schemas*, and the system tables."""
    system = session.database.system_schema
    names = list(dict.fromkeys([PUBLIC, *(name for name in schemas if name != system), system]))
    found = await _found(session, _LISTED, (names, names))
    by_oid = {table.oid: table for table in found}
    while missing := {oid for table in by_oid.values() for oid, _ in table.origins.values()} - by_oid.keys():
        below = await _found(session, _NAMED, (sorted(missing),))
        by_oid |= {table.oid: table for table in below}
        if len(below) < len(missing):
            break
    listed: list[Table] = []
    left_out: list[LeftOut] = []
    taken: set[str] = set()
    for table in found:
        if table.schema == system and (table.name in INTERNAL or table.name.startswith(PLUGIN_PREFIX)):
            continue
        reason = _reason(table, taken, system)
        if reason is None:
            taken.add(table.title)
            listed.append(table)
        else:
            left_out.append(LeftOut(table.title, table.kind, reason))
    present = {table.schema for table in found}
    missing_schemas = [name for name in names if name not in (PUBLIC, system) and name not in present]
    if missing_schemas:
        rows = await session.query("SELECT nspname FROM pg_namespace WHERE nspname = ANY (%s::text[])", (missing_schemas,))
        there = {name for (name,) in rows}
        left_out += [
            LeftOut(name, "schema", "The schema has no tables." if name in there else "There is no such schema.")
            for name in missing_schemas
        ]
    if system != PUBLIC and system in schemas:
        left_out.append(LeftOut(system, "schema", "The schema holds the system tables of the project."))
    return Tables(listed, by_oid, tuple(left_out))


async def _found(session: Session, sql: str, parameters: tuple[Any, ...]) -> list[Table]:
    """Returns the tables that a statement finds."""
    found = [_table(row, session.database.system_schema) for row in await session.query(sql, parameters)]
    asked = {table.oid: table for table in found if table.kind in (VIEW, FOREIGN)}
    for table in found:
        if table.kind == MATERIALIZED:
            table.writes = 0
    rows = await _writable(session, list(asked)) if asked else []
    for oid, writes, rule in rows:
        table = asked.pop(int(oid))
        table.writes &= writes
        table.simple = rule is not None
        table.origins = origins(rule) if rule else {}
    for table in asked.values():
        table.broken = True
    return found


async def _writable(session: Session, oids: list[int]) -> list[tuple[Any, ...]]:
    """Returns the rows of `_WRITABLE`, without those of tables for which the function fails."""
    await session.query("SAVEPOINT writable")
    try:
        rows = list(await session.query(_WRITABLE, (oids,)))
    except ApiError as error:
        said = error.diagnostics
        if said is None or said.sqlstate.startswith(_PASSING):
            raise
        await session.query("ROLLBACK TO SAVEPOINT writable")
        if len(oids) == 1:
            return []
        half = len(oids) // 2
        return await _writable(session, oids[:half]) + await _writable(session, oids[half:])
    await session.query("RELEASE SAVEPOINT writable")
    return rows


def title_of(schema: str, name: str, system_schema: str) -> str:
    """Returns the name of the collection of a table. Names that begin with directus_ are those of the system tables."""
    usual = system_schema if name.startswith(SYSTEM_PREFIX) else PUBLIC
    return name if schema == usual else f"{schema}.{name}"


def _table(row: tuple[Any, ...], system_schema: str) -> Table:
    oid, schema, name, kind, comment, extension, reachable, readable, has_columns, populated, writes, versioned, *more = row
    triggered, plain = more
    return Table(
        int(oid),
        schema,
        name,
        KINDS[kind],
        declared_key(comment),
        extension,
        reachable,
        readable,
        has_columns,
        populated,
        writes,
        versioned,
        triggered,
        plain,
        title=title_of(schema, name, system_schema),
    )


def _reason(table: Table, taken: Iterable[str], system_schema: str) -> str | None:
    """Returns why a table is not a collection, as a sentence; None if it is one."""
    if table.schema == system_schema and table.name in CATALOGUE.collections:
        return None
    if table.name.startswith(SYSTEM_PREFIX) and (
        # Another schema may hold the system tables of another project.
        table.schema in (PUBLIC, system_schema) or table.name in INTERNAL or table.name in CATALOGUE.collections
    ):
        return "Names that begin with directus_ are those of system collections."
    if table.schema == system_schema != PUBLIC:
        return "It is in the schema of the system tables. It hides a table of the same name in the schema public."
    if table.extension is not None and table.kind not in (TABLE, PARTITIONED):
        return f'It belongs to the extension "{table.extension}".'
    if not table.reachable:
        return "The role of the server lacks the privilege USAGE of the schema."
    if not table.has_columns:
        return "It has no columns."
    if not table.populated:
        return "The materialized view has not been populated: REFRESH MATERIALIZED VIEW."
    if not table.readable:
        return "The role of the server lacks the privilege SELECT."
    if table.broken:
        return "PostgreSQL cannot say what can be written: a foreign-data wrapper that it needs does not work."
    if len(table.title) > MAX_NAME:
        return f"The name of a collection has at most {MAX_NAME} characters."
    if table.title in taken:
        return "Another table has the same name as a collection."
    return None


def declared_key(comment: str | None) -> tuple[str, ...]:
    """Returns the columns that a comment declares as the key, on a line such as ``@primaryKey id``."""
    found = _DECLARED_KEY.search(comment) if comment else None
    return () if found is None else tuple(name.strip() for name in found[1].split(",") if name.strip())


_TOKEN = re.compile(r"\\.|[{}]|:(?:resno|resorigtbl|resorigcol|resjunk) [^\s{}()]+")
_TARGET = 2
"""The depth of braces of the entries of the target list of a rule's query."""


def origins(rule: str) -> dict[int, tuple[int, int]]:
    """Returns where the columns of a view come from: the oid of the table and the number of its column, by the number of the column of
    the view. *rule* is the query of the view in the form of pg_rewrite.ev_action, in which PostgreSQL keeps this. Expressions are left
    out."""
    found: dict[int, tuple[int, int]] = {}
    depth = 0
    entry: dict[str, str] = {}
    for token in _TOKEN.findall(rule):
        if token == "{":
            depth += 1
            if depth == _TARGET:
                entry = {}
        elif token == "}":
            if depth == _TARGET and entry.get("resjunk") == "false":
                table, number = int(entry.get("resorigtbl", "0")), int(entry.get("resorigcol", "0"))
                if table and number > 0:
                    found[int(entry["resno"])] = (table, number)
            depth -= 1
        elif token.startswith(":") and depth == _TARGET:
            name, _, value = token[1:].partition(" ")
            entry[name] = value
    return found
