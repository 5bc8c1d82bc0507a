"""What the types and fields of a GraphQL schema stand for."""

from collections.abc import Mapping
from enum import Enum

from attrs import field as attribute
from attrs import frozen
from graphql import GraphQLSchema

from directus_tx.graphql.scalars import Convert
from directus_tx.query import Sort


class Kind(Enum):
    """What a field of an object type is."""

    VALUE = "value"
    """A value of a field with a column."""
    ONE = "one"
    """The item that a many-to-one field refers to."""
    MANY = "many"
    """The items of a one-to-many field."""
    LISTED = "listed"
    """The item that a many-to-one field refers to, as a list of one."""
    OBJECT = "object"
    """An object that is part of a value."""
    OBJECTS = "objects"
    """A list of such objects."""


@frozen(eq=False)
class Member:
    """A field of an object type. `name` is its name in the API; `target` the name of the type of the objects in it. `convert` makes the
    value of a response of the one in the API. `lacking`: objects may lack it."""

    name: str
    kind: Kind = Kind.VALUE
    target: str = ""
    convert: Convert | None = None
    lacking: bool = False


@frozen(eq=False)
class ObjectType:
    """An object type. `collection` is that of the items, "" for other objects. `key` is the field of the key of items, None if
    the caller cannot see it."""

    name: str
    members: Mapping[str, Member]
    collection: str = ""
    key: str | None = None
    node: bool = False
    """Whether the type has the interface Node."""


class Reads(Enum):
    """What a root field reads."""

    ITEMS = "items"
    AGGREGATES = "aggregates"
    COLLECTIONS = "collections"
    FIELDS = "fields"


class Writes(Enum):
    """What a mutation does."""

    CREATE_ITEM = "create item"
    CREATE_ITEMS = "create items"
    UPDATE_ITEM = "update item"
    UPDATE_ITEMS = "update items"
    UPDATE_EACH = "update each"
    DELETE_ITEM = "delete item"
    DELETE_ITEMS = "delete items"


@frozen(eq=False)
class Root:
    """A field of the type Query or Mutation: what it does with which collection, and the name of the type of its value."""

    does: Reads | Writes
    collection: str
    target: str


@frozen(eq=False)
class Asked:
    """A field of a filter type: an operator on a field, or the filter of what a field refers to if `target` is the name of its type."""

    field: str
    operator: str = ""
    target: str = ""


@frozen(eq=False)
class Given:
    """A field of an input type: the field of the API. `target` is the name of the input type of the items in it; `listed`: there are
    several."""

    name: str
    target: str = ""
    listed: bool = False


@frozen(eq=False)
class Catalog:
    """A schema with the meaning of its names. `objects` are the object types by name; `filters`, `inputs` and `sorts` are, by the name of
    the type, the fields of filters, those of payloads, and the values of orders. `left_out` says, a sentence each, which collections and
    fields have no GraphQL name of their own."""

    schema: GraphQLSchema
    queries: Mapping[str, Root]
    mutations: Mapping[str, Root]
    objects: Mapping[str, ObjectType]
    filters: Mapping[str, Mapping[str, Asked]]
    inputs: Mapping[str, Mapping[str, Given]] = attribute(factory=dict)
    sorts: Mapping[str, Mapping[str, Sort]] = attribute(factory=dict)
    left_out: tuple[str, ...] = ()

    @property
    def fields(self) -> int:
        """The number of fields of all types."""
        members = sum([len(each.members) for each in self.objects.values()])
        return members + sum([len(each) for of in (self.filters, self.inputs, self.sorts) for each in of.values()])
