"""The views of collections whose rows describe others: collections, fields, relations, permissions, presets, webhooks, settings. A row is
visible if the collection it describes has items that the caller may read, and the field it describes is not hidden.
"""

from collections.abc import Callable

from directus_tx.access.grant import Grant
from directus_tx.access.view import Subjects
from directus_tx.db.sql import SQL, TRUE, Clause, all_of, among, any_of, column, constant, negation
from directus_tx.schema.model import Snapshot

GrantOf = Callable[[str], Grant]
"""Returns the caller's grant on a collection, given its name."""

SECRET_SETTINGS = frozenset({"youtube_api_key"})
"""Settings that hold credentials of other services."""


def of_collections(schema: Snapshot, grant_of: GrantOf) -> Subjects:
    """Returns the view of directus_collections."""
    return Subjects(lambda alias: _readable(schema, grant_of, alias, "collection"))


def of_fields(schema: Snapshot, grant_of: GrantOf) -> Subjects:
    """Returns the view of directus_fields."""

    def visible(alias: str) -> Clause:
        readable = _readable(schema, grant_of, alias, "collection")
        return all_of([readable, _no_concealed(schema, grant_of, alias, "collection", "field")])

    return Subjects(visible)


def of_relations(schema: Snapshot, grant_of: GrantOf) -> Subjects:
    """Returns the view of directus_relations: rows of which both sides are visible to the caller."""

    def visible(alias: str) -> Clause:
        no_one = Clause(SQL("{} IS NULL").format(column(alias, "collection_one")))
        return all_of(
            [
                _readable(schema, grant_of, alias, "collection_many"),
                any_of([no_one, _readable(schema, grant_of, alias, "collection_one")]),
                _no_concealed(schema, grant_of, alias, "collection_many", "field_many"),
                _no_concealed(schema, grant_of, alias, "collection_many", "junction_field"),
                _no_concealed(schema, grant_of, alias, "collection_one", "field_one"),
            ]
        )

    return Subjects(visible)


def of_permissions(schema: Snapshot, grant_of: GrantOf) -> Subjects:
    """Returns the view of the directus_permissions rows of other roles."""
    return Subjects(lambda alias: _readable(schema, grant_of, alias, "collection"))


def of_named_collections(schema: Snapshot, grant_of: GrantOf) -> Subjects:
    """Returns the view of presets and webhooks: rows of collections that the caller may read, or that do not exist."""

    def visible(alias: str) -> Clause:
        unreadable = [name for name in schema.collections if not grant_of(name).read]
        named = among(column(alias, "collection"), unreadable)
        return Clause(SQL("{} IS NOT TRUE").format(named.sql), named.binds) if unreadable else TRUE

    return Subjects(visible)


def of_settings(schema: Snapshot, grant_of: GrantOf) -> Subjects:
    """Returns the view of directus_settings. Callers who may not change settings do not see `SECRET_SETTINGS`."""

    def visible(alias: str) -> Clause:
        if grant_of("directus_settings").allows("update"):
            return TRUE
        return negation(among(column(alias, "key"), SECRET_SETTINGS))

    return Subjects(visible)


def _readable(schema: Snapshot, grant_of: GrantOf, alias: str, name: str) -> Clause:
    """Returns the condition that the column holds a collection with items that the caller may read."""
    return among(column(alias, name), [each for each in schema.collections if grant_of(each).read])


def _no_concealed(schema: Snapshot, grant_of: GrantOf, alias: str, collection: str, field: str) -> Clause:
    """Returns the condition that *collection* and *field* do not refer to a field that is concealed from the caller."""
    clauses = []
    for name in schema.collections:
        grant = grant_of(name)
        if grant.read and grant.concealed:
            sql = SQL("({} = %s AND {} = ANY(%s)) IS NOT TRUE").format(column(alias, collection), column(alias, field))
            clauses.append(Clause(sql, (constant(name), constant(sorted(grant.concealed)))))
    return all_of(clauses)
