"""The view of directus_revisions: the revisions of items that the caller may read, without the fields that the items do not show."""

from collections.abc import Callable

from directus_tx.access.grant import Grant
from directus_tx.db.sql import SQL, TRUE, Bind, Clause, Composable, Identifier, all_of, any_of, column, constant
from directus_tx.schema.datatypes import family
from directus_tx.schema.model import Collection, Snapshot

_ITEM_KEYS = {"integer": '{} = CASE WHEN t."item" ~ \'^-?[0-9]{{1,18}}$\' THEN t."item"::bigint END'}
"""How the key of an item is found by the text that the history has of it, so that its index serves."""


def revisions_view(schema: Snapshot, revisions: Collection, grant_of: Callable[[str], Grant]) -> Clause:
    """The revisions of items that the caller may read, without the fields that the items do not show."""
    conditions: list[Clause] = []
    contents: list[Clause] = []
    for name, collection in schema.collections.items():
        if name == "directus_revisions":
            continue
        grant = grant_of(name)
        if not grant.read:
            continue
        of_it = Clause(SQL('t."collection" = %s'), (constant(name),))
        readable = grant.condition("read", "i")
        if readable is TRUE:
            conditions.append(of_it)
        else:
            item = SQL(_ITEM_KEYS.get(family(collection.primary_key), '{}::text = t."item"')).format(
                column("i", collection.primary_key.field)
            )
            sql = SQL("EXISTS (SELECT 1 FROM {} AS i WHERE {} AND {})").format(Identifier(name), item, readable.sql)
            conditions.append(all_of([of_it, Clause(sql, readable.binds)]))
        hidden = grant.hidden | {field for mask in grant.masks for field in mask.names}
        if hidden:
            contents.append(Clause(SQL("{} THEN %s::text[]").format(of_it.sql), (*of_it.binds, constant(sorted(hidden)))))
    columns: list[Composable] = []
    binds: list[Bind] = []
    for field in revisions.columns:
        if field in ("data", "delta") and contents:
            cases = SQL(" WHEN ").join([each.sql for each in contents])
            sql = SQL(
                "CASE WHEN json_typeof(t.{0}::json) = 'object' THEN coalesce((SELECT json_object_agg(e.key, e.value)"
                " FROM json_each(t.{0}::json) AS e WHERE e.key <> ALL(CASE WHEN {1} ELSE '{{}}' END))::text, '[]')"
                " ELSE t.{0} END AS {0}"
            ).format(Identifier(field), cases)
            binds += [bind for each in contents for bind in each.binds]
            columns.append(sql)
        else:
            columns.append(column("t", field))
    where = any_of(conditions)
    sql = SQL('(SELECT {} FROM "directus_revisions" AS t WHERE {})').format(SQL(", ").join(columns), where.sql)
    return Clause(sql, (*binds, *where.binds))
