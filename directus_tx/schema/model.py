"""The snapshot of a project's schema, as immutable values.

`schema.introspect` reads a snapshot, `projects` holds the newest one, and a `Context` holds the one that a request uses.
"""

from collections.abc import Callable, Hashable, Mapping
from functools import cached_property
from typing import Any, TypeVar

from attrs import field as attribute
from attrs import frozen

from directus_tx.cache import Cache
from directus_tx.errors import InvalidRequest
from directus_tx.schema.custom import NOTHING_CUSTOM, CustomSchema, FieldType
from directus_tx.schema.numbers import whole_number
from directus_tx.schema.sealed import Sealing
from directus_tx.schema.statistics import Statistics

T = TypeVar("T")
MAX_PLANS = 8 * 2**20
"""Approximate maximum size of the plans of a snapshot, in bytes. A plan takes 2 kB; with many relations 50 kB."""

ROW_ATTRIBUTES = (
    "type interface options locked validation required readonly hidden_detail hidden_browse sort width group note translation"
).split()
"""The attributes of a field that are columns of directus_fields."""

# Field types without a column.
ALIAS_TYPES = frozenset({"alias", "group", "o2m", "translation"})
# Field types that refer to a system collection, with or without a row in directus_relations.
SYSTEM_TARGETS = {
    "owner": "directus_users",
    "user": "directus_users",
    "user_updated": "directus_users",
    "file": "directus_files",
}

SERVER_WRITTEN = frozenset(
    {"directus_activity", "directus_revisions", "directus_user_sessions", "directus_collections", "directus_fields"}
)
"""Collections that only the server writes. Clients cannot create, update or delete their items."""

ADMINISTRATOR_WRITTEN = frozenset({"directus_permissions", "directus_relations"})
"""Collections that only administrators write, because writing them grants every permission."""

UNRELATABLE = frozenset({"directus_activity", "directus_collections", "directus_fields", "directus_relations"})
"""Collections that relations cannot refer to."""


@frozen(eq=False)
class NativeType:
    """A type of PostgreSQL without a datatype of the API, as the catalogue describes it.

    `name` is the type as it is written in casts. `equatable`: values are compared for equality by the type's own operators; `ordered`:
    they have an order; `minimum`: there are aggregates min and max; `named`: values are names of objects of the database. `labels` are the
    values of an enum, in order. `member` is a field of the type of the members of an array, which `delimiter` separates.
    """

    name: str
    equatable: bool = False
    ordered: bool = False
    minimum: bool = False
    named: bool = False
    labels: tuple[str, ...] = ()
    member: "Field | None" = None
    delimiter: str = ","


@frozen(eq=False)
class Field:
    """A field of a collection: its row of directus_fields, if it has one, and its column, if it has one.

    `datatype` and `length` are as declared ("VARCHAR", "255"; "DECIMAL", "10,2"), or the nearest name of the vocabulary for
    a column that is not declared. `column_type` is the PostgreSQL type ("character varying(255)"), None for an alias; for a column of a
    domain it is the type below the domain, and `domain` is the domain. `native` describes a type without a datatype. `declared`: the
    column has the type that the row declares, as in tables that the server has made. `computed`: a generated column, or one GENERATED
    ALWAYS AS IDENTITY, which only the database writes; `virtual`: its value is computed when it is read, which can fail. `default_value`
    is the default as text. `required` is the attribute of the row, or whether the column is NOT NULL without a default. `sealed` says how
    the values of a sealed field are stored; None: as they are. `custom` is the type, if a plugin has added it.
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
    domain: str | None = None
    native: NativeType | None = None
    declared: bool = True
    sealed: Sealing | None = None
    custom: FieldType | None = None

    @property
    def has_column(self) -> bool:
        return self.column_type is not None


@frozen
class Status:
    """One value of a status field, from its `status_mapping`."""

    value: str
    soft_delete: bool = False
    required_fields: bool = True


TABLE = "table"
PARTITIONED = "partitioned table"
VIEW = "view"
MATERIALIZED = "materialized view"
FOREIGN = "foreign table"


@frozen
class LeftOut:
    """A table or view of the database that is not a collection, and the reason as a sentence."""

    name: str
    kind: str
    reason: str


READY, BUILDING, FAILED = "ready", "building", "failed"
"""The states of an index: PostgreSQL uses it; it is being built, or will be; building it has failed."""

OF_COLLECTION, OF_FIELD, OF_DATABASE = "collection", "field", "database"
"""Where an index is from: `indexes` of a collection, `index` of a field, or not from the API."""


@frozen
class Index:
    """An index of a collection. `fields` are the names of its fields, with "-" in front of those in descending order. `where` is the
    filter, as it was sent, on the items that are in the index; None: all items are.

    `origin` is `OF_COLLECTION`, `OF_FIELD` or `OF_DATABASE`. `state` is `READY`, `BUILDING` or `FAILED`, and `error` the reason if building
    it has failed. `present`: the database has the index, but it may be invalid. `described`: `fields`, `unique` and `where` say all about
    it, which is not so for indexes from other programs on expressions or parts of the items, or of other kinds than btree.
    """

    name: str
    fields: tuple[str, ...]
    unique: bool = False
    where: Mapping[str, Any] | None = attribute(default=None, hash=False)
    origin: str = OF_COLLECTION
    state: str = BUILDING
    error: str | None = None
    present: bool = False
    described: bool = True

    @property
    def declared(self) -> bool:
        """Whether the index is declared through the API. The server does not change other indexes."""
        return self.origin != OF_DATABASE

    @property
    def field(self) -> str:
        """The first field."""
        return self.fields[0].removeprefix("-")

    def names(self, field: str) -> bool:
        """Whether a field is one of `fields` or in `where`."""
        return field in {name.removeprefix("-") for name in self.fields} or (self.where is not None and field in self.where)

    def same_as(self, other: "Index") -> bool:
        """Whether another index has the same fields and the same condition."""
        return (self.fields, self.unique, self.where) == (other.fields, other.unique, other.where)


FILLED_IN = frozenset({"owner", "user_updated", "datetime_created", "datetime_updated"})
"""Field types whose values the server provides."""


@frozen(eq=False)
class Collection:
    """A collection: its row in directus_collections, if any, and its fields by name, in order.

    `managed` is False for tables without a managed row in directus_collections, and for system collections. `search_index`: whether the
    searched fields have trigram indexes. `constraints` are the columns of constraints and indexes, by name. `indexes` are the indexes of
    the table, by name, and those that are declared and not built yet.

    `kind` is the kind of the table: `TABLE`, `PARTITIONED`, `VIEW`, `MATERIALIZED` or `FOREIGN`. `schema` is None for a table in the
    schema public; otherwise the collection is named after the schema and the table, with a dot between. `key_columns` are the columns
    of a key of several columns, in its order. `insertable`, `updatable` and `deletable`: whether PostgreSQL allows its role to write
    the rows. `lockable`: whether rows can be locked; `versioned`: whether rows have the id of the transaction that wrote them.
    `plain`: an ordinary table without triggers, those of foreign keys included, without rules, and without tables that inherit from it.
    `key_source` is the column that holds the key: the schema, the table and the column; for a view that shows the rows of a table, that
    of the table. `read_only`: nothing of the project can be written.
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
    indexes: tuple[Index, ...] = ()
    kind: str = TABLE
    schema: str | None = None
    key_columns: tuple[str, ...] = ()
    insertable: bool = True
    updatable: bool = True
    deletable: bool = True
    lockable: bool = True
    versioned: bool = True
    plain: bool = False
    key_source: tuple[str, str, str] | None = None
    read_only: bool = False

    @property
    def system(self) -> bool:
        return self.collection.startswith("directus_")

    def schema_with(self, system_schema: str) -> str:
        """Returns the schema of the table, in a project whose system tables are in *system_schema*."""
        return self.schema or (system_schema if self.system else "public")

    @cached_property
    def table(self) -> tuple[str, ...]:
        """The name of the table for SQL: the schema, if it is not public, and the table."""
        return (self.collection,) if self.schema is None else (self.schema, self.collection[len(self.schema) + 1 :])

    @cached_property
    def key(self) -> Field | None:
        """The primary key field, or None if the collection has no key or one of several columns."""
        return next((f for f in self.fields.values() if f.primary_key), None)

    @cached_property
    def primary_key(self) -> Field:
        """The primary key field. Raises InvalidRequest if there is none."""
        if self.key is None:
            raise InvalidRequest("The items of this collection have no key of one column.")
        return self.key

    @cached_property
    def order_columns(self) -> tuple[Field, ...]:
        """The fields of the key, by which items are sorted last. Empty without a key."""
        return (self.key,) if self.key is not None else tuple(self.fields[name] for name in self.key_columns)

    @cached_property
    def refused(self) -> Mapping[str, str]:
        """The actions create, update and delete that are not possible whoever asks, with the reason of each as the end of a sentence."""
        found = {"create": self.insertable, "update": self.updatable, "delete": self.deletable}
        if self.key is None:
            return dict.fromkeys(found, "it has no key of one column")
        return {
            action: f"the database does not allow it for this {self.kind}" for action, allowed in found.items() if not allowed
        }

    @cached_property
    def columns(self) -> Mapping[str, Field]:
        """The fields with a column."""
        return {name: f for name, f in self.fields.items() if f.has_column}

    def indexes_of(self, field: str) -> list[Index]:
        """Returns the indexes that `index` of a field declares."""
        return [index for index in self.indexes if index.origin == OF_FIELD and index.field == field]

    @cached_property
    def hashes(self) -> frozenset[str]:
        """The names of the fields whose values are stored as hashes."""
        return frozenset(name for name, f in self.fields.items() if f.type == "hash")

    @cached_property
    def sealed(self) -> Mapping[str, Sealing]:
        """How the values of the sealed fields are stored, by the names of the fields."""
        return {name: f.sealed for name, f in self.columns.items() if f.sealed is not None}

    @cached_property
    def required(self) -> Mapping[str, Field]:
        """The fields for which the client must provide a value: they are required, and the server does not provide it."""
        return {n: f for n, f in self.columns.items() if f.required and not f.auto_increment and f.type not in FILLED_IN}

    @cached_property
    def provided(self) -> Mapping[str, Field]:
        """The fields whose values the server provides or derives from others."""
        return {n: f for n, f in self.columns.items() if f.type in FILLED_IN or f.type in ("slug", "hash")}

    @cached_property
    def patterned(self) -> tuple[Field, ...]:
        """The fields with a column and a validation pattern."""
        return tuple(f for f in self.columns.values() if f.validation)

    def field_of_type(self, *types: str) -> Field | None:
        """Returns the first field of one of these types that has a column."""
        return next((f for f in self.columns.values() if f.type in types), None)

    @cached_property
    def status_field(self) -> Field | None:
        return self.field_of_type("status")

    @cached_property
    def sort_field(self) -> Field | None:
        return self.field_of_type("sort")

    @cached_property
    def statuses(self) -> Mapping[str, Status]:
        """The statuses by name; empty without a status field or status mapping."""
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
        """The statuses of soft-deleted items."""
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
        """Whether the many-to-one field exists and refers to an existing collection."""
        return self.collection_one not in UNRELATABLE or self.collection_many in SERVER_WRITTEN

    @property
    def one_to_many(self) -> bool:
        """Whether the one-to-many field exists and refers to an existing collection."""
        return self.field_one is not None and (self.collection_many not in UNRELATABLE or self.collection_one in SERVER_WRITTEN)


@frozen
class ForeignKey:
    """A foreign key of a table that is a collection. `fields` are its columns, in the order of the key, and `refers_to` those of the table
    `target`, which may be no collection. `reason` says, as a sentence, why it is not a relation; None if it is one."""

    name: str
    collection: str
    fields: tuple[str, ...]
    target: str
    refers_to: tuple[str, ...]
    reason: str | None = None

    @property
    def left_out(self) -> LeftOut | None:
        """What is said about a foreign key that is not a relation; None if it is one."""
        return None if self.reason is None else LeftOut(f"{self.collection}.{self.name}", "foreign key", self.reason)


@frozen
class Webhook:
    """An active webhook with a URL: on the `action` ("item.create:after") in the `collection`, a request by `http_action` (None: post) is
    sent to the `url`. `owner` is the user who made it, None if that is not known; `owner_role` is the role of that user, and `owner_active`
    whether the user exists and is active."""

    id: int
    collection: str
    action: str
    url: str
    http_action: str | None
    owner: int | None
    owner_role: int | None
    owner_active: bool


@frozen(eq=False)
class Snapshot:
    """The schema, settings, roles and permissions of a project, at one version.

    `settings` are the values of directus_settings as text, by key. `roles` are the rows of directus_roles by id; `permissions` are all
    rows of directus_permissions. `fingerprint` changes with the tables themselves: changes by other programs do not increase `version`.
    `schemas` are the schemas beside public whose tables are collections, `left_out` the tables and views that are not collections.
    `notified`: event triggers notify of changes of tables by other programs.
    `foreign_keys` are those of the tables: columns that refer to the key of a collection are many-to-one fields. `webhooks` are the active
    ones.
    """

    version: int
    collections: Mapping[str, Collection]
    relations: tuple[Relation, ...]
    settings: Mapping[str, str | None] = attribute(factory=dict)
    roles: Mapping[int, Mapping[str, Any]] = attribute(factory=dict)
    permissions: tuple[Mapping[str, Any], ...] = ()
    fingerprint: str = ""
    schemas: tuple[str, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    notified: bool = False
    foreign_keys: tuple[ForeignKey, ...] = ()
    webhooks: tuple[Webhook, ...] = ()
    custom: CustomSchema = NOTHING_CUSTOM
    """What plugins add."""

    plans: Cache[Any] = attribute(factory=lambda: Cache(MAX_PLANS), repr=False)
    """Plans by role and shape of the query."""

    statistics: Statistics = attribute(factory=Statistics, repr=False)
    """What lists are filtered and sorted by. All snapshots of a project have the same one."""

    _kept: dict[Any, Any] = attribute(factory=dict, repr=False)

    def kept(self, key: Hashable, make: Callable[[], T]) -> T:
        """Returns a value derived from the snapshot, such as a grant; calls *make* if there is none yet. For values whose number clients
        do not control. Others belong in `plans`."""
        found: T | None = self._kept.get(key)
        if found is None:
            found = self._kept[key] = make()
        return found

    @cached_property
    def unbuilt(self) -> tuple[tuple[Collection, Index], ...]:
        """The declared indexes that are to be built."""
        return tuple((c, index) for c in self.collections.values() for index in c.indexes if index.state == BUILDING)

    @cached_property
    def webhooks_of(self) -> Mapping[tuple[str, str], tuple[Webhook, ...]]:
        """The webhooks by collection and action."""
        found: dict[tuple[str, str], tuple[Webhook, ...]] = {}
        for webhook in self.webhooks:
            key = (webhook.collection, webhook.action)
            found[key] = (*found.get(key, ()), webhook)
        return found

    def permissions_of(self, role: int | None) -> tuple[Mapping[str, Any], ...]:
        """Returns the rows of directus_permissions of a role."""
        return self._by_role.get(role, ())

    @cached_property
    def _by_role(self) -> Mapping[int | None, tuple[Mapping[str, Any], ...]]:
        found: dict[int | None, tuple[Mapping[str, Any], ...]] = {}
        for row in self.permissions:
            found[row["role"]] = (*found.get(row["role"], ()), row)
        return found

    @cached_property
    def many_to_one(self) -> Mapping[tuple[str, str], Relation]:
        """The relations by (collection, field) of the many side: rows of directus_relations, then those implied by field types (owner,
        user, user_updated: a user; file: a file), then foreign keys."""
        found: dict[tuple[str, str], Relation] = {}
        for relation in self.relations:
            one = self.collections.get(relation.collection_one or "")
            # Items without a key cannot be referred to.
            if relation.many_to_one and relation.collection_many in self.collections and one is not None and one.key is not None:
                found.setdefault((relation.collection_many, relation.field_many), relation)
        for collection in self.collections.values():
            for f in collection.columns.values():
                target = SYSTEM_TARGETS.get(f.type)
                if target and target in self.collections:
                    found.setdefault((collection.collection, f.field), Relation(None, collection.collection, f.field, target))
        for key in self.foreign_keys:
            if key.reason is None:
                (field,) = key.fields
                found.setdefault((key.collection, field), Relation(None, key.collection, field, key.target))
        return found

    @cached_property
    def one_to_many(self) -> Mapping[tuple[str, str], Relation]:
        """The relations by (collection, field) of the one side."""
        found: dict[tuple[str, str], Relation] = {}
        for relation in self.relations:
            many = self.collections.get(relation.collection_many)
            one = self.collections.get(relation.collection_one or "")
            if not relation.one_to_many or (one is not None and one.key is None):
                continue
            if relation.collection_one and relation.field_one and many and relation.field_many in many.columns:
                found.setdefault((relation.collection_one, relation.field_one), relation)
        return found

    @cached_property
    def relations_of(self) -> Mapping[str, Mapping[str, Relation]]:
        """The relational fields of each collection with their relations, in the order of the fields."""
        found: dict[str, dict[str, Relation]] = {}
        for name, collection in self.collections.items():
            each = found[name] = {}
            for f in collection.fields.values():
                relation = (self.many_to_one if f.has_column else self.one_to_many).get((name, f.field))
                if relation is not None:
                    each[f.field] = relation
        return found

    def setting(self, key: str, default: str = "") -> str:
        """Returns a setting as text; *default* if it is missing or null."""
        value = self.settings.get(key)
        return default if value is None else value

    @cached_property
    def read_only(self) -> bool:
        """Whether the server's role may not write the activity, without which nothing is written: it has been granted SELECT only."""
        return any(collection.read_only for collection in self.collections.values())

    @cached_property
    def default_limit(self) -> int:
        """The limit of lists without `limit` (setting default_limit); 200 if the setting is not a number."""
        found = whole_number(self.setting("default_limit").strip(), signed=True)
        return 200 if found is None else found

    @cached_property
    def sort_null_last(self) -> bool:
        return self.setting("sort_null_last", "1").strip().lower() not in ("", "0", "false")
