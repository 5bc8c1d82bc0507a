"""The views of directus_activity and directus_revisions: what was done to items that the caller may read, and the fields of revisions
that the items show."""

from collections.abc import Mapping

from directus_tx.access.grant import Grant
from directus_tx.access.subjects import GrantOf
from directus_tx.access.view import Subjects, text_of
from directus_tx.db.sql import FALSE, SQL, TRUE, Clause, Identifier, all_of, among, any_of, column, constant
from directus_tx.schema.datatypes import family
from directus_tx.schema.model import Snapshot

HISTORY = frozenset({"directus_activity", "directus_revisions"})
"""Collections of which no history is kept."""

EXPOSED = frozenset({"directus_roles"})
"""Collections whose activity is shown to whoever may read any of their items: every user names a role by its id."""

_NUMBERED = "{0} = CASE WHEN {1} ~ '^-?[0-9]{{1,18}}$' THEN {1}::bigint END"
"""How an item whose key is a number is found by the text that the history has of it, so that the key's index serves."""


def of_activity(schema: Snapshot, grant_of: GrantOf) -> Subjects:
    """The view of directus_activity, of what others than the caller have done."""
    return Subjects(lambda alias: _about_items(schema, grant_of, alias, "collection", "item", exposed=EXPOSED))


def of_revisions(schema: Snapshot, grant_of: GrantOf) -> Subjects:
    """The view of directus_revisions: those of items that may be read, without the fields that some item hides, and without the parent
    where that may not be read."""

    def visible(alias: str) -> Clause:
        return _about_items(schema, grant_of, alias, "collection", "item")

    def columns(alias: str) -> Mapping[str, Clause]:
        found = {}
        hidden = [grant for grant in _grants(schema, grant_of) if grant.hidden_somewhere]
        for name in ("data", "delta") if hidden else ():
            found[name] = _without_hidden(alias, name, hidden)
        seen = column(f"{alias}_parent", "seen")
        for name, empty in (("parent_collection", "NULL"), ("parent_item", "NULL"), ("parent_changed", "FALSE")):
            found[name] = Clause(SQL("CASE WHEN {} THEN {} ELSE " + empty + " END").format(seen, column(alias, name)))
        return found

    def join(alias: str) -> Clause:
        readable = _about_items(schema, grant_of, alias, "parent_collection", "parent_item")
        parent = any_of([readable, _about_new_items(schema, grant_of, alias)])
        # OFFSET 0 keeps PostgreSQL from planning the condition once for each column.
        sql = SQL(" CROSS JOIN LATERAL (SELECT {} AS seen OFFSET 0) AS {}").format(parent.sql, Identifier(f"{alias}_parent"))
        return Clause(sql, parent.binds)

    return Subjects(visible, columns, join)


def _grants(schema: Snapshot, grant_of: GrantOf) -> list[Grant]:
    """The grants on the collections that have a history and may be read."""
    return [grant for name in schema.collections if name not in HISTORY and (grant := grant_of(name)).read]


def _about_items(
    schema: Snapshot, grant_of: GrantOf, alias: str, collection: str, item: str, *, exposed: frozenset[str] = frozenset()
) -> Clause:
    """The columns *collection* and *item* name an item that the caller may read. One that is gone may be read where all of its
    collection may."""
    whole: list[str] = []
    some: list[Clause] = []
    for grant in _grants(schema, grant_of):
        name = grant.collection.collection
        inner = f"{alias}_{item}"
        readable = grant.condition("read", inner)
        if readable is TRUE or name in exposed:
            whole.append(name)
            continue
        key = grant.collection.primary_key
        if family(key) == "integer":
            found = SQL(_NUMBERED).format(column(inner, key.field), column(alias, item))
        else:
            found = SQL("{} = {}").format(text_of(inner, key), column(alias, item))
        sql = SQL("EXISTS (SELECT 1 FROM {} AS {} WHERE {} AND {})").format(
            Identifier(name), Identifier(inner), found, readable.sql
        )
        of_it = Clause(SQL("{} = %s").format(column(alias, collection)), (constant(name),))
        some.append(all_of([of_it, Clause(sql, readable.binds)]))
    return any_of([among(column(alias, collection), whole) if whole else FALSE, *some])


def _about_new_items(schema: Snapshot, grant_of: GrantOf, alias: str) -> Clause:
    """The parent was new with its revision, which then names its collection alone."""
    names = [grant.collection.collection for grant in _grants(schema, grant_of)]
    readable = among(column(alias, "parent_collection"), names)
    return Clause(SQL("{} IS NULL AND {}").format(column(alias, "parent_item"), readable.sql), readable.binds)


def _without_hidden(alias: str, name: str, hidden: list[Grant]) -> Clause:
    """The object of fields and values in a column, without the fields that are hidden in the collection of the row. Where the text is
    no JSON there is no value: nothing that is asked of the column fails because of it."""
    when = SQL(" ").join(
        [
            SQL("WHEN {} = %s THEN directus_object_without({}, %s::text[])").format(
                column(alias, "collection"), column(alias, name)
            )
        ]
        * len(hidden)
    )
    sql = SQL("CASE {} ELSE {} END").format(when, column(alias, name))
    binds = [constant(value) for grant in hidden for value in (grant.collection.collection, sorted(grant.hidden_somewhere))]
    return Clause(sql, tuple(binds))
