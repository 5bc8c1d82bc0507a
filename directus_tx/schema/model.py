"""The snapshot of a project's schema: frozen values that say what the database holds at one version of it.

`schema.introspect` makes a snapshot, `projects` keeps the newest one, a `Context` carries the one that a request works with.
"""

from collections.abc import Callable, Hashable, Mapping
from functools import cached_property
from typing import Any, TypeVar

from attrs import field as attribute
from attrs import frozen

from directus_tx.cache import Cache
from directus_tx.schema.numbers import whole_number

T = TypeVar("T")
MAX_PLANS = 8 * 2**20
"""Bytes that the compiled statements of one snapshot may take, roughly: one takes 2 kB, one with many relations 50."""

ROW_ATTRIBUTES = (
    "type interface options locked validation required readonly hidden_detail hidden_browse sort width group note translation"
).split()
"""What a row of directus_fields says of a field, by the names of its columns and of Field's attributes."""

# Field types that have no column of their own.
ALIAS_TYPES = frozenset({"alias", "group", "o2m", "translation"})
# Field types whose value is the key of a row of a system collection, with or without a relation row.
SYSTEM_TARGETS = {
    "owner": "directus_users",
    "user": "directus_users",
    "user_updated": "directus_users",
    "file": "directus_files",
}

SERVER_WRITTEN = frozenset(
    {"directus_activity", "directus_revisions", "directus_user_sessions", "directus_collections", "directus_fields"}
)
"""Collections whose items the server alone writes: no client creates, changes or deletes them as items."""

ADMINISTRATOR_WRITTEN = frozenset({"directus_permissions", "directus_relations"})
"""Collections that administrators alone write, whatever permissions say: who may write these may do everything."""

UNRELATABLE = frozenset({"directus_activity", "directus_collections", "directus_fields", "directus_relations"})
"""Collections that a relation may not lead to, from either of its sides. Those that the server writes are related among themselves."""


@frozen(eq=False)
class Field:
    """A field of a collection: its row of directus_fields, if it has one, and its column, if it has one.

    `datatype` and `length` are as declared ("VARCHAR", "255"; "DECIMAL", "10,2"), or the nearest name of the vocabulary for
    a column that nobody declared. `column_type` is PostgreSQL's own name of the column's type ("character varying(255)"),
    None for an alias. `computed`: the database makes its values; `virtual`: whenever they are read, which may fail. `default_value` is
    the column's default as text. `required` is what the API reports: the row's word, or the column's being NOT NULL without a default.
    """

    collection: str
    field: str
    type: str
    datatype: str | None = None
    length: str | None = None
    signed: bool = False
    primary_key: bool = False
    auto_increment: bool = False
    unique: bool = False
    default_value: str | None = None
    nullable: bool = True
    column_type: str | None = None
    id: int | None = None
    interface: str | None = None
    options: Any = None
    locked: bool = False
    required: bool = False
    readonly: bool = False
    hidden_detail: bool = False
    hidden_browse: bool = False
    sort: int | None = None
    width: str | None = None
    note: str | None = None
    validation: str | None = None
    group: int | None = None
    translation: Any = None
    computed: bool = False
    virtual: bool = False

    @property
    def has_column(self) -> bool:
        return self.column_type is not None


@frozen
class Status:
    """One value of a status field, from its `status_mapping`."""

    value: str
    soft_delete: bool = False
    required_fields: bool = True


@frozen(eq=False)
class Collection:
    """A collection: its row of directus_collections, if it has one, and its fields by name, in their order.

    `managed` is False for tables that directus_collections does not know (or knows as unmanaged), and for system collections.
    `search_index`: its searched fields have indexes of trigrams. `constraints` are the columns of the table's constraints and indexes,
    by name.
    """

    collection: str
    fields: Mapping[str, Field]
    managed: bool = False
    hidden: bool = False
    single: bool = False
    icon: str | None = None
    note: str | None = None
    translation: Any = None
    has_row: bool = False
    search_index: bool = False
    constraints: Mapping[str, tuple[str, ...]] = attribute(factory=dict)

    @property
    def system(self) -> bool:
        return self.collection.startswith("directus_")

    @cached_property
    def primary_key(self) -> Field:
        """The primary key field. A table without one is not a collection: introspection leaves it out."""
        return next(f for f in self.fields.values() if f.primary_key)

    @cached_property
    def columns(self) -> Mapping[str, Field]:
        """The fields that have a column."""
        return {name: f for name, f in self.fields.items() if f.has_column}

    @cached_property
    def patterned(self) -> tuple[Field, ...]:
        """The fields that have a column, and a pattern that its values must match."""
        return tuple(f for f in self.columns.values() if f.validation)

    def field_of_type(self, *types: str) -> Field | None:
        """The first field of one of these types that has a column."""
        return next((f for f in self.columns.values() if f.type in types), None)

    @cached_property
    def status_field(self) -> Field | None:
        return self.field_of_type("status")

    @cached_property
    def sort_field(self) -> Field | None:
        return self.field_of_type("sort")

    @cached_property
    def statuses(self) -> Mapping[str, Status]:
        """The values of the status field by name; empty where there is none or it maps nothing."""
        if self.status_field is None:
            return {}
        mapping = (self.status_field.options or {}).get("status_mapping") or {}
        if not isinstance(mapping, dict):
            return {}
        return {
            str(value): Status(str(value), bool(s.get("soft_delete")), bool(s.get("required_fields", True)))
            for value, s in mapping.items()
            if isinstance(s, dict)
        }

    @cached_property
    def soft_deleted(self) -> tuple[str, ...]:
        """The status values that mean deleted."""
        return tuple(s.value for s in self.statuses.values() if s.soft_delete)


@frozen
class Relation:
    """A row of directus_relations: `collection_many.field_many` holds the key of a row of `collection_one`,
    whose alias `field_one` lists the many side. `junction_field` names the other half in a junction collection."""

    id: int | None
    collection_many: str
    field_many: str
    collection_one: str | None
    field_one: str | None = None
    junction_field: str | None = None

    @property
    def many_to_one(self) -> bool:
        """Whether the many side's field leads to items of the one side."""
        return self.collection_one not in UNRELATABLE or self.collection_many in SERVER_WRITTEN

    @property
    def one_to_many(self) -> bool:
        """Whether the one side has a field that leads to items of the many side."""
        return self.field_one is not None and (self.collection_many not in UNRELATABLE or self.collection_one in SERVER_WRITTEN)


@frozen(eq=False)
class Snapshot:
    """All that a request needs to know of a project's database, at one version.

    `settings` are the raw text values of directus_settings by key. `roles` are the rows of directus_roles by id;
    `permissions` all rows of directus_permissions. `fingerprint` differs where the tables themselves have changed: what has been done to
    them by others than the server does not count `version` up.
    """

    version: int
    collections: Mapping[str, Collection]
    relations: tuple[Relation, ...]
    settings: Mapping[str, str | None] = attribute(factory=dict)
    roles: Mapping[int, Mapping[str, Any]] = attribute(factory=dict)
    permissions: tuple[Mapping[str, Any], ...] = ()
    fingerprint: str = ""
    plans: Cache[Any] = attribute(factory=lambda: Cache(MAX_PLANS), repr=False)
    """Compiled statements, by who may run them and the shape of what is asked."""

    _kept: dict[Any, Any] = attribute(factory=dict, repr=False)

    def kept(self, key: Hashable, make: Callable[[], T]) -> T:
        """What is derived from the snapshot alone under a key (the grants of a role, say), made if it is not there yet. There is one for
        each role and collection; what clients can ask for in endless variety is kept in `plans`."""
        found: T | None = self._kept.get(key)
        if found is None:
            found = self._kept[key] = make()
        return found

    def permissions_of(self, role: int | None) -> tuple[Mapping[str, Any], ...]:
        """The rows of directus_permissions of a role."""
        return self._by_role.get(role, ())

    @cached_property
    def _by_role(self) -> Mapping[int | None, tuple[Mapping[str, Any], ...]]:
        found: dict[int | None, tuple[Mapping[str, Any], ...]] = {}
        for row in self.permissions:
            found[row["role"]] = (*found.get(row["role"], ()), row)
        return found

    @cached_property
    def many_to_one(self) -> Mapping[tuple[str, str], Relation]:
        """The relation by its many side (collection, field): rows of directus_relations first, then what the types of
        fields imply (owner, user, user_updated: a user; file: a file)."""
        found: dict[tuple[str, str], Relation] = {}
        for relation in self.relations:
            ends = {relation.collection_one, relation.collection_many}
            if relation.many_to_one and ends <= self.collections.keys():
                found.setdefault((relation.collection_many, relation.field_many), relation)
        for collection in self.collections.values():
            for f in collection.columns.values():
                target = SYSTEM_TARGETS.get(f.type)
                if target and target in self.collections:
                    found.setdefault((collection.collection, f.field), Relation(None, collection.collection, f.field, target))
        return found

    @cached_property
    def one_to_many(self) -> Mapping[tuple[str, str], Relation]:
        """The relation by its one side (collection, alias field)."""
        found: dict[tuple[str, str], Relation] = {}
        for relation in self.relations:
            many = self.collections.get(relation.collection_many)
            if not relation.one_to_many:
                continue
            if relation.collection_one and relation.field_one and many and relation.field_many in many.columns:
                found.setdefault((relation.collection_one, relation.field_one), relation)
        return found

    @cached_property
    def relations_of(self) -> Mapping[str, Mapping[str, Relation]]:
        """Of each collection the fields that lead to others, in the order of its fields, each with its relation."""
        found: dict[str, dict[str, Relation]] = {}
        for name, collection in self.collections.items():
            each = found[name] = {}
            for f in collection.fields.values():
                relation = (self.many_to_one if f.has_column else self.one_to_many).get((name, f.field))
                if relation is not None:
                    each[f.field] = relation
        return found

    def setting(self, key: str, default: str = "") -> str:
        """A setting's text; *default* where it is missing or null."""
        value = self.settings.get(key)
        return default if value is None else value

    @cached_property
    def default_limit(self) -> int:
        """How many items a list has without `limit` (setting default_limit); 200 where the setting is no number."""
        found = whole_number(self.setting("default_limit").strip(), signed=True)
        return 200 if found is None else found

    @cached_property
    def sort_null_last(self) -> bool:
        return self.setting("sort_null_last", "1").strip().lower() not in ("", "0", "false")
