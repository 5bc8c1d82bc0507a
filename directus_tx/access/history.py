"""The views of directus_activity and directus_revisions: records of items that the caller may read, and only the fields of revisions that
the caller may read."""

from collections.abc import Mapping

from directus_tx.access.grant import Grant
from directus_tx.access.subjects import GrantOf
from directus_tx.access.view import Subjects, text_of
from directus_tx.db.sql import FALSE, SQL, TRUE, Clause, Identifier, all_of, among, any_of, column, constant
from directus_tx.schema.datatypes import family
from directus_tx.schema.model import Snapshot

HISTORY = frozenset({"directus_activity", "directus_revisions"})
"""Collections without history."""

EXPOSED = frozenset({"directus_roles"})
"""Collections whose activity is visible to callers who may read any of their items. The ids of roles are visible in users anyway."""

SCIM = "scim"
"""What revisions of users and roles hold beside the fields: the values that SCIM keeps. No permission names them."""

_NUMBERED = "{0} = CASE WHEN {1} ~ '^-?[0-9]{{1,18}}$' THEN {1}::bigint END"
"""The condition that finds an item with an integer key by the text in the history, written so that the index of the key is used."""


def of_activity(schema: Snapshot, grant_of: GrantOf) -> Subjects:
    """Returns the view of directus_activity records of other users."""
    return Subjects(lambda alias: _about_items(schema, grant_of, alias, "collection", "item", exposed=EXPOSED))


def of_revisions(schema: Snapshot, grant_of: GrantOf) -> Subjects:
    """Returns the view of directus_revisions: revisions of items that the caller may read, without fields that are hidden in at least one
    item, and without the parent if the caller may not read it."""

    def visible(alias: str) -> Clause:
        return _about_items(schema, grant_of, alias, "collection", "item")

    def columns(alias: str) -> Mapping[str, Clause]:
        found = {}
        hidden = [(grant, names) for grant in _grants(schema, grant_of) if (names := _hidden(grant))]
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


def sees_kept(grant: Grant) -> bool:
    """Whether a caller with a grant on directus_users may see and write what SCIM keeps of users. Those may who may change all users,
    of each status that SCIM gives them."""
    return all(grant.level(grant.of(status), "update") == "full" for status in ("active", "suspended", "draft"))


def _hidden(grant: Grant) -> frozenset[str]:
    """Returns the names that the caller may not see in the revisions of a collection."""
    name, hidden = grant.collection.collection, grant.hidden_somewhere
    if (name == "directus_users" and not sees_kept(grant)) or (name == "directus_roles" and "external_id" in hidden):
        return hidden | {SCIM}
    return hidden


def _grants(schema: Snapshot, grant_of: GrantOf) -> list[Grant]:
    """Returns the grants on the collections with history that the caller may read."""
    known = (name for name, collection in schema.collections.items() if name not in HISTORY and collection.key is not None)
    return [grant for name in known if (grant := grant_of(name)).read]


def _about_items(
    schema: Snapshot, grant_of: GrantOf, alias: str, collection: str, item: str, *, exposed: frozenset[str] = frozenset()
) -> Clause:
    """Returns the condition that *collection* and *item* refer to an item that the caller may read. A deleted item is readable if all
    items of its collection are."""
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
            Identifier(*grant.collection.table), Identifier(inner), found, readable.sql
        )
        of_it = Clause(SQL("{} = %s").format(column(alias, collection)), (constant(name),))
        some.append(all_of([of_it, Clause(sql, readable.binds)]))
    return any_of([among(column(alias, collection), whole) if whole else FALSE, *some])


def _about_new_items(schema: Snapshot, grant_of: GrantOf, alias: str) -> Clause:
    """Returns the condition for revisions whose parent was created in the same request: they have a parent collection but no parent key."""
    names = [grant.collection.collection for grant in _grants(schema, grant_of)]
    readable = among(column(alias, "parent_collection"), names)
    return Clause(SQL("{} IS NULL AND {}").format(column(alias, "parent_item"), readable.sql), readable.binds)


def _without_hidden(alias: str, name: str, hidden: list[tuple[Grant, frozenset[str]]]) -> Clause:
    """Returns the JSON object in a column without the names that are hidden in the collection of the row. Text that is not valid JSON
    becomes NULL, so that no condition on the column can fail."""
    when = SQL(" ").join(
        [
            SQL("WHEN {} = %s THEN directus_object_without({}, %s::text[])").format(
                column(alias, "collection"), column(alias, name)
            )
        ]
        * len(hidden)
    )
    sql = SQL("CASE {} ELSE {} END").format(when, column(alias, name))
    binds = [constant(value) for grant, names in hidden for value in (grant.collection.collection, sorted(names))]
    return Clause(sql, tuple(binds))
