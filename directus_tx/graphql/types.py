"""Makes the GraphQL schema of what a caller may see and do."""

from collections.abc import Callable, Iterable, Mapping
from sys import intern
from typing import Any

from graphql import (
    GraphQLArgument,
    GraphQLBoolean,
    GraphQLEnumType,
    GraphQLEnumValue,
    GraphQLField,
    GraphQLFloat,
    GraphQLID,
    GraphQLIncludeDirective,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLSchema,
    GraphQLSkipDirective,
    GraphQLString,
)

from directus_tx.access import Access, Grant
from directus_tx.compile.operators import has_order, is_number
from directus_tx.graphql.catalog import Asked, Catalog, Given, Kind, Member, ObjectType, Reads, Root, Writes
from directus_tx.graphql.definitions import (
    COLLECTION_ATTRIBUTES,
    COLLECTIONS,
    FIELD_ATTRIBUTES,
    FIELDS,
    FILES,
    OBJECTS,
    OF_MANY,
    SHOWN_BY_KEY,
    USERS,
    WITHOUT_ROOT,
    WRITTEN,
    operators_of,
)
from directus_tx.graphql.names import filter_name, graphql_name, type_name
from directus_tx.graphql.scalars import (
    SCALARS,
    Int,
    converter,
    finite,
    identifier,
    key_type,
    scalar,
    value_type,
)
from directus_tx.query import Sort
from directus_tx.schema.datatypes import family
from directus_tx.schema.model import Field, Relation, Snapshot


class Builder:
    """Builds the catalog of one caller. *granted* are its grants on all collections. *mutations*: whether the schema has mutations."""

    def __init__(self, schema: Snapshot, granted: Mapping[str, Grant], *, mutations: bool) -> None:
        self.schema = schema
        self.granted = granted
        self.relations = schema.relations_of
        self.mutating = mutations
        self.left_out: list[str] = []
        self.objects: dict[str, ObjectType] = {}
        self.filters: dict[str, dict[str, Asked]] = {}
        self.inputs: dict[str, dict[str, Given]] = {}
        self.sorts: dict[str, dict[str, Sort]] = {}
        self.queries: dict[str, Root] = {}
        self.mutations: dict[str, Root] = {}
        self.types: dict[str, Any] = {}
        self.node = GraphQLInterfaceType("Node", {"id": GraphQLField(GraphQLID)}, description="An item with the field id.")
        self.grants: dict[str, Grant] = {}
        """The grants of the collections that have types, by name."""
        self.built_in = frozenset({"Query", "Mutation", "Subscription", "Node", *OBJECTS, *(each.name for each in SCALARS)})
        self.reserved = set(self.built_in)
        self.input_fields: dict[Any, GraphQLInputField] = {}
        self.plain_fields: dict[Any, GraphQLField] = {}

    def build(self) -> Catalog:
        """Returns the catalog."""
        self._choose()
        for name, members in OBJECTS.items():
            self._object(name, members)
        query: dict[str, GraphQLField] = {}
        mutation: dict[str, GraphQLField] = {}
        for grant in self.grants.values():
            self._item(grant)
        for name, grant in self.grants.items():
            if name in (COLLECTIONS, FIELDS):
                self._schema_root(name, query)
            else:
                self._roots(grant, query)
                if self.mutating and (not grant.collection.system or name in WRITTEN):
                    self._mutations(grant, mutation)
        schema = GraphQLSchema(
            query=GraphQLObjectType("Query", query),
            mutation=GraphQLObjectType("Mutation", mutation) if mutation else None,
            types=[self.node, *SCALARS, *self.types.values()],
            directives=[GraphQLIncludeDirective, GraphQLSkipDirective],
            description="\n".join(["What the caller may read and write.", *self.left_out]),
            assume_valid=True,
        )
        return Catalog(
            schema,
            self.queries,
            self.mutations,
            self.objects,
            self.filters,
            self.inputs,
            self.sorts,
            tuple(self.left_out),
        )

    # names

    def _choose(self) -> None:
        """Chooses the collections that have types. Of two whose names clash, the first in the order of names has them."""
        schema = self.schema
        roots: set[str] = set()
        # System collections come first, so that no other takes their names.
        for name in sorted(schema.collections, key=lambda each: (not each.startswith("directus_"), each)):
            grant = self.granted[name]
            if name in WITHOUT_ROOT or not grant.read:
                continue
            root, type = graphql_name(name), type_name(name)
            suffixes = ("", "Item", "Filter", "Sort", "Aggregate", "Counts", "Numbers", "Values", "Group", "Input")
            names = {type + suffix for suffix in suffixes} | {filter_name(name)}
            if root in roots or names & self.reserved:
                own = sorted(names & self.built_in)
                why = f"the schema has a type {own[0]} of its own" if own else f"another has the GraphQL name {root} or {type}"
                self.left_out.append(f'The collection "{name}" is left out: {why}.')
                continue
            roots |= {root}
            self.reserved |= names
            self.grants[name] = grant

    def _named(self, grant: Grant, fields: Iterable[str]) -> dict[str, str]:
        """Returns fields by their GraphQL names. Of two whose names clash, the first counts."""
        found: dict[str, str] = {}
        for each in fields:
            name = graphql_name(each)
            if name in found:
                where = grant.collection.collection
                self.left_out.append(f'The field "{each}" of "{where}" is left out: "{found[name]}" has the GraphQL name {name}.')
            else:
                found[name] = each
        return found

    # object types

    def _object(self, name: str, members: Mapping[str, tuple[Any, Kind, str]]) -> None:
        """Adds an object type that is no item."""

        def fields() -> dict[str, GraphQLField]:
            shown = {}
            for each, (type, kind, target) in members.items():
                below = type if kind is Kind.VALUE else self.types[target]
                shown[each] = GraphQLField(GraphQLList(below) if kind is Kind.OBJECTS else below)
            return shown

        self.types[name] = GraphQLObjectType(name, fields)
        self.objects[name] = ObjectType(
            name, {each: Member(each, kind, target, lacking=True) for each, (_, kind, target) in members.items()}
        )

    def _item(self, grant: Grant) -> None:
        """Adds the type of the items of a collection and the one of its lists."""
        collection = grant.collection
        name = type_name(collection.collection)
        if collection.collection in (COLLECTIONS, FIELDS):
            self._schema_item(grant, name)
            return
        item = f"{name}Item"
        masked = {each for mask in grant.masks for each in mask.names}
        visible = [each for each in collection.fields if each not in grant.hidden]
        members: dict[str, Member] = {}
        shown: dict[str, Callable[[], GraphQLField]] = {}
        lacking = collection.system or bool(masked)
        for graphql, each in self._named(grant, visible).items():
            found = self._member(grant, collection.fields[each], lacking=lacking)
            if found is None:
                continue
            member, make = found
            members[graphql] = member
            certain = collection.fields[each].required or collection.fields[each].primary_key
            never_null = certain and each not in masked and not collection.system
            shown[graphql] = self._field(collection.fields[each], member, make, never_null=never_null)
        if collection.collection == USERS and "role" in members and members["role"].kind is Kind.ONE and "roles" not in members:
            target = members["role"].target
            members["roles"] = Member("role", Kind.LISTED, target, lacking=True)
            shown["roles"] = lambda: GraphQLField(GraphQLList(self.types[target]))
        if not members:
            members["_"] = Member("", convert=lambda value: None, lacking=True)
            shown["_"] = lambda: GraphQLField(GraphQLString, description="The caller may see no field.")
        identified = "id" in members and members["id"].convert in (identifier, str) and members["id"].kind is Kind.VALUE
        key = None if collection.key is None or collection.key.field in grant.hidden else collection.key.field
        self.objects[item] = ObjectType(item, members, collection.collection, key, node=identified)
        self.types[item] = GraphQLObjectType(
            item,
            lambda: {graphql: make() for graphql, make in shown.items()},
            interfaces=[self.node] if identified else [],
            description=self._note(grant),
        )
        self._wrapper(name, item)

    def _note(self, grant: Grant) -> str | None:
        hidden = "note" in self.granted[COLLECTIONS].hidden
        return None if hidden else grant.collection.note or None

    def _wrapper(self, name: str, item: str) -> None:
        self.objects[name] = ObjectType(
            name, {"data": Member("data", Kind.OBJECTS, item), "meta": Member("meta", Kind.OBJECT, "Metadata")}
        )
        self.types[name] = GraphQLObjectType(
            name,
            lambda: {"data": GraphQLField(GraphQLList(self.types[item])), "meta": GraphQLField(self.types["Metadata"])},
        )

    def _member(self, grant: Grant, field: Field, *, lacking: bool) -> tuple[Member, Callable[[], Any]] | None:
        """Returns what a field is and a function that returns its type. None if the caller cannot see it."""
        name = grant.collection.collection
        relation = self.relations[name].get(field.field)
        if not field.has_column:
            if name == FILES and field.field == "data":
                return Member("data", Kind.OBJECT, "DirectusFileData", lacking=lacking), lambda: self.types["DirectusFileData"]
            return None if relation is None else self._many(relation, field, lacking=lacking)
        if relation is not None:
            target = self.grants.get(relation.collection_one or "")
            by_key = (name, field.field) in SHOWN_BY_KEY or relation.collection_one in (COLLECTIONS, FIELDS)
            if target is not None and not by_key:
                item = f"{type_name(target.collection.collection)}Item"
                return Member(field.field, Kind.ONE, item, lacking=lacking), lambda: self.types[item]
            type = GraphQLID if family(field) == "integer" else GraphQLString
            convert = identifier if type is GraphQLID else scalar
            return Member(field.field, convert=convert, lacking=lacking), lambda: type
        type = key_type(field) if field.primary_key else value_type(field)
        # The key is never null.
        never_null = field.primary_key and type is GraphQLID and not lacking
        return Member(field.field, convert=str if never_null else converter(type), lacking=lacking), lambda: type

    def _many(self, relation: Relation, field: Field, *, lacking: bool) -> tuple[Member, Callable[[], Any]] | None:
        target = self.grants.get(relation.collection_many)
        if target is None or relation.field_many in target.hidden or relation.collection_many in (COLLECTIONS, FIELDS):
            return None
        item = f"{type_name(target.collection.collection)}Item"
        return Member(field.field, Kind.MANY, item, lacking=lacking), lambda: GraphQLList(self.types[item])

    def _field(self, field: Field, member: Member, make: Callable[[], Any], *, never_null: bool) -> Callable[[], GraphQLField]:
        described = "note" not in self.granted[FIELDS].hidden
        note = field.note if described else None

        def made() -> GraphQLField:
            type = make()
            if never_null and member.kind is Kind.VALUE and member.convert not in (scalar, finite):
                type = GraphQLNonNull(type)
            arguments = self._list_arguments(self.objects[member.target]) if member.kind is Kind.MANY else {}
            if not arguments and not note:
                return self._plain_field(type)
            return GraphQLField(type, arguments, description=note or None)

        return made

    def _plain_field(self, type: Any) -> GraphQLField:
        """Returns a field of a type without arguments, likewise."""
        if type not in self.plain_fields:
            self.plain_fields[type] = GraphQLField(type)
        return self.plain_fields[type]

    def _schema_item(self, grant: Grant, name: str) -> None:
        """Adds the types of collections or fields, which are not read as items."""
        item = f"{name}Item"
        of_fields = grant.collection.collection == FIELDS
        attributes = FIELD_ATTRIBUTES if of_fields else COLLECTION_ATTRIBUTES
        visible = {each: type for each, type in attributes.items() if each not in grant.hidden}
        members = {each: Member(each, convert=converter(type), lacking=True) for each, type in visible.items()}
        other, link, kind = (COLLECTIONS, "collection", Kind.OBJECT) if of_fields else (FIELDS, "fields", Kind.OBJECTS)
        linked = other in self.grants and link not in grant.hidden
        target = f"{type_name(other)}Item"
        if linked:
            members[link] = Member(link, kind, target, lacking=True)

        def fields() -> dict[str, GraphQLField]:
            shown = {each: GraphQLField(type) for each, type in visible.items()}
            if linked:
                shown[link] = GraphQLField(self.types[target] if of_fields else GraphQLList(self.types[target]))
            return shown

        self.objects[item] = ObjectType(item, members)
        self.types[item] = GraphQLObjectType(item, fields)
        self._wrapper(name, item)

    # filters and orders

    def _filter(self, collection: str) -> Any:
        """Returns the type of filters of a collection."""
        name = filter_name(collection)
        if name not in self.types:
            grant = self.grants[collection]
            asked, makers = self._conditions(grant)
            self.filters[name] = asked

            def fields() -> dict[str, GraphQLInputField]:
                own = GraphQLList(self.types[name])
                return {each: self._input_field(make()) for each, make in makers.items()} | {
                    "or": GraphQLInputField(own),
                    "and": GraphQLInputField(own),
                }

            self.types[name] = GraphQLInputObjectType(name, fields)
        return self.types[name]

    def _input_field(self, type: Any) -> GraphQLInputField:
        """Returns an input field of a type. Those of one type are the same object: a schema has very many."""
        if type not in self.input_fields:
            self.input_fields[type] = GraphQLInputField(type)
        return self.input_fields[type]

    def _conditions(self, grant: Grant) -> tuple[dict[str, Asked], dict[str, Callable[[], Any]]]:
        asked: dict[str, Asked] = {}
        makers: dict[str, Callable[[], Any]] = {}

        def add(name: str, condition: Asked, make: Callable[[], Any]) -> None:
            if name not in asked and name not in ("and", "or"):
                asked[name], makers[name] = condition, make

        collection = grant.collection
        visible = [each for each in collection.fields if each not in grant.unaskable]
        for graphql, name in self._named_quietly(visible).items():
            field = collection.fields[name]
            if field.has_column:
                type = value_type(field)
                for operator, value in operators_of(field, type).items():
                    add(intern(f"{graphql}_{operator}"), Asked(name, operator), lambda value=value: value)  # type: ignore[misc]
                for operator, custom in self.schema.custom.operators.items():
                    if family(field) in custom.families and field.sealed is None:
                        add(intern(f"{graphql}_{operator}"), Asked(name, operator), lambda: GraphQLString)
        for graphql, name in self._named_quietly(visible).items():
            relation = self.relations[collection.collection].get(name)
            if relation is None:
                continue
            has_column = collection.fields[name].has_column
            target = relation.collection_one if has_column else relation.collection_many
            if target not in self.grants or target in (COLLECTIONS, FIELDS):
                continue
            if not has_column:
                if relation.field_many in self.grants[target].hidden:
                    continue
                add(f"{graphql}_has", Asked(name, "has"), lambda: Int)
                for operator in OF_MANY:
                    add(f"{graphql}_{operator}", Asked(name, operator), lambda: GraphQLString)
            add(graphql, Asked(name, target=filter_name(target)), lambda target=target: self._filter(target))  # type: ignore[misc]
        return asked, makers

    @staticmethod
    def _named_quietly(fields: Iterable[str]) -> dict[str, str]:
        found: dict[str, str] = {}
        for each in fields:
            found.setdefault(graphql_name(each), each)
        return found

    def _sort(self, grant: Grant) -> Any:
        """Returns the type of orders of a collection, None if it cannot be sorted."""
        name = f"{type_name(grant.collection.collection)}Sort"
        if name not in self.types:
            values: dict[str, Sort] = {}
            columns = [n for n, f in grant.collection.columns.items() if n not in grant.unaskable and f.sealed is None]
            for graphql, each in self._named_quietly(columns).items():
                if has_order(grant.collection.fields[each]):
                    values.setdefault(f"{graphql}_asc", Sort(each))
                    values.setdefault(f"{graphql}_desc", Sort(each, True))
            self.sorts[name] = values
            self.types[name] = GraphQLEnumType(name, {each: GraphQLEnumValue(each) for each in values}) if values else None
            if not values:
                del self.types[name]
                return None
        return self.types[name]

    def _list_arguments(self, target: ObjectType) -> dict[str, GraphQLArgument]:
        """Returns the arguments of a list of related items."""
        grant = self.grants[target.collection]
        found = {"limit": GraphQLArgument(Int), "offset": GraphQLArgument(Int)}
        order = self._sort(grant)
        if order is not None:
            found["sort"] = GraphQLArgument(GraphQLList(GraphQLNonNull(order)))
        return found | self._searching(grant)

    def _searching(self, grant: Grant) -> dict[str, GraphQLArgument]:
        """Returns the arguments of a list that say which items it has."""
        collection = grant.collection
        found = {
            "search": GraphQLArgument(GraphQLString, description="A text to search for in the texts and numbers of items."),
            "filter": GraphQLArgument(self._filter(collection.collection)),
        }
        if collection.status_field is not None and collection.status_field.field not in grant.unaskable:
            type = GraphQLList(GraphQLNonNull(GraphQLString))
            found["status"] = GraphQLArgument(type, description='Statuses of the items, or "*" for all.')
        return found

    # roots

    def _roots(self, grant: Grant, query: dict[str, GraphQLField]) -> None:
        """Adds the root fields of a collection: its items, and aggregates of them."""
        collection = grant.collection
        root, name = graphql_name(collection.collection), type_name(collection.collection)
        arguments: dict[str, GraphQLArgument] = {}
        if collection.key is not None:
            whole = family(collection.key) == "integer" and collection.key.datatype != "BIGINT" and not collection.system
            arguments["id"] = GraphQLArgument(Int if whole else GraphQLID)
        searching = self._searching(grant)
        arguments |= {"limit": GraphQLArgument(Int), "offset": GraphQLArgument(Int), "lang": GraphQLArgument(GraphQLString)}
        order = self._sort(grant)
        if order is not None:
            arguments["sort"] = GraphQLArgument(GraphQLList(GraphQLNonNull(order)))
        self.queries[root] = Root(Reads.ITEMS, collection.collection, name)
        query[root] = GraphQLField(self.types[name], arguments | searching, description=self._note(grant))
        aggregate = f"{root}_aggregate"
        if aggregate not in query and not any(graphql_name(each) == aggregate for each in self.grants):
            self._aggregate(grant, name)
            self.queries[aggregate] = Root(Reads.AGGREGATES, collection.collection, f"{name}Aggregate")
            grouping = {"limit": GraphQLArgument(Int), "offset": GraphQLArgument(Int)}
            if f"{name}Group" in self.types:
                grouping["groupby"] = GraphQLArgument(GraphQLList(GraphQLNonNull(self.types[f"{name}Group"])))
            type = GraphQLList(self.types[f"{name}Aggregate"])
            query[aggregate] = GraphQLField(type, {**grouping, **searching})

    def _aggregate(self, grant: Grant, name: str) -> None:
        """Adds the types of the aggregates of a collection."""
        columns = {
            graphql: grant.collection.fields[each]
            for graphql, each in self._named_quietly(
                [n for n, f in grant.collection.columns.items() if n not in grant.unaskable and f.sealed is None]
            ).items()
        }
        types = {graphql: key_type(f) if f.primary_key else value_type(f) for graphql, f in columns.items()}
        numbers = {graphql: GraphQLFloat for graphql, f in columns.items() if is_number(f)}
        ordered = {
            graphql: types[graphql] for graphql, f in columns.items() if has_order(f) and family(f) not in ("binary", "other")
        }
        parts = {
            "Counts": (dict.fromkeys(columns, Int), None),
            "Numbers": (numbers, finite),
            "Values": (ordered, ...),
        }
        members: dict[str, Member] = {"count_all": Member("count_all", lacking=True)}
        shown: dict[str, Any] = {"count_all": Int}

        def add(part: str, *functions: str) -> None:
            fields, convert = parts[part]
            if not fields:
                return
            type = f"{name}{part}"
            if type not in self.types:
                self.types[type] = GraphQLObjectType(type, {each: self._plain_field(found) for each, found in fields.items()})
                self.objects[type] = ObjectType(
                    type,
                    {
                        graphql: Member(
                            columns[graphql].field,
                            convert=converter(found) if convert is ... else convert,
                            lacking=True,
                        )
                        for graphql, found in fields.items()
                    },
                )
            for function in functions:
                members[function] = Member(function, Kind.OBJECT, type, lacking=True)
                shown[function] = self.types[type]

        add("Counts", "count", "countDistinct")
        add("Numbers", "sum", "avg")
        add("Values", "min", "max", "group")
        if columns:
            groups = {
                graphql: GraphQLEnumValue(f.field) for graphql, f in columns.items() if graphql not in ("true", "false", "null")
            }
            self.types[f"{name}Group"] = GraphQLEnumType(f"{name}Group", groups)
        self.objects[f"{name}Aggregate"] = ObjectType(f"{name}Aggregate", members)
        self.types[f"{name}Aggregate"] = GraphQLObjectType(
            f"{name}Aggregate", {each: self._plain_field(type) for each, type in shown.items()}
        )

    def _schema_root(self, collection: str, query: dict[str, GraphQLField]) -> None:
        """Adds the root field of collections or fields."""
        name = type_name(collection)
        arguments = {"limit": GraphQLArgument(Int), "offset": GraphQLArgument(Int)}
        own = ("collection", "field") if collection == FIELDS else ("name",)
        arguments |= {each: GraphQLArgument(GraphQLString) for each in own}
        does = Reads.FIELDS if collection == FIELDS else Reads.COLLECTIONS
        self.queries[collection] = Root(does, collection, name)
        query[collection] = GraphQLField(self.types[name], arguments)

    # mutations

    def _mutations(self, grant: Grant, mutation: dict[str, GraphQLField]) -> None:
        """Adds the mutations of a collection that the caller may use."""
        collection = grant.collection
        root, item = graphql_name(collection.collection), f"{type_name(collection.collection)}Item"

        def add(name: str, does: Writes, type: Any, **arguments: Any) -> None:
            if name not in mutation:
                self.mutations[name] = Root(does, collection.collection, item)
                mutation[name] = GraphQLField(type, {each: GraphQLArgument(found) for each, found in arguments.items()})

        possible = (
            WRITTEN[collection.collection] if collection.system else frozenset({"create", "update", "update each", "delete"})
        )
        data = GraphQLNonNull(self._input(collection.collection)) if "create" in possible else None
        one, several = self.types[item], GraphQLList(self.types[item])
        keys = GraphQLNonNull(GraphQLList(GraphQLNonNull(GraphQLID)))
        many = None if data is None else GraphQLNonNull(GraphQLList(data))
        if "create" in possible and grant.allows("create"):
            add(f"create_{root}_item", Writes.CREATE_ITEM, one, data=data)
            add(f"create_{root}_items", Writes.CREATE_ITEMS, several, data=many)
        if (
            (grant.allows("update") or grant.allows("delete"))
            and collection.key is not None
            and "update" not in collection.refused
            and "update" in possible
        ):
            add(f"update_{root}_item", Writes.UPDATE_ITEM, one, id=GraphQLNonNull(GraphQLID), data=data)
            add(f"update_{root}_items", Writes.UPDATE_ITEMS, several, ids=keys, data=data)
            if "update each" in possible:
                add(f"update_each_{root}_item", Writes.UPDATE_EACH, several, data=many)
        if grant.allows("delete"):
            add(f"delete_{root}_item", Writes.DELETE_ITEM, GraphQLID, id=GraphQLNonNull(GraphQLID))
            add(f"delete_{root}_items", Writes.DELETE_ITEMS, GraphQLList(GraphQLNonNull(GraphQLID)), ids=keys)

    def _input(self, collection: str) -> Any:
        """Returns the type of the payloads of a collection."""
        name = f"{type_name(collection)}Input"
        if name not in self.types:
            grant = self.grants[collection]
            given: dict[str, Given] = {}
            makers: dict[str, Callable[[], Any]] = {}
            self.inputs[name] = given
            # Other input types are made when the fields are: types refer to each other in circles.
            self.types[name] = GraphQLInputObjectType(
                name, lambda: {each: GraphQLInputField(make()) for each, make in makers.items()}
            )
            # The password of a user is never shown, but it is written.
            unwritable = {
                n for n in grant.collection.fields if n in grant.concealed or all(n in p.unwritable for p in grant.permissions)
            }
            writable = [n for n, f in grant.collection.fields.items() if n not in unwritable and not f.computed]
            for graphql, each in self._named_quietly(writable).items():
                found = self._written(grant, grant.collection.fields[each])
                if found is not None:
                    given[graphql], makers[graphql] = found
            if "_delete" not in given:
                given["_delete"] = Given("$delete")
                makers["_delete"] = lambda: GraphQLBoolean
        return self.types[name]

    def _written(self, grant: Grant, field: Field) -> tuple[Given, Callable[[], Any]] | None:
        """Returns what a field of a payload is, and a function that returns its type."""
        relation = self.relations[grant.collection.collection].get(field.field)
        if not field.has_column:
            many = None if relation is None else self.grants.get(relation.collection_many)
            if many is None or many.collection.system or many.collection.key is None:
                return None
            target = many.collection.collection
            listed = Given(field.field, f"{type_name(target)}Input", listed=True)
            return listed, lambda: GraphQLList(GraphQLNonNull(self._input(target)))
        one = None if relation is None else self.grants.get(relation.collection_one or "")
        if relation is not None:
            if one is None or one.collection.system:
                return Given(field.field), lambda: GraphQLID
            target = one.collection.collection
            return Given(field.field, f"{type_name(target)}Input"), lambda: self._input(target)
        type: Any = GraphQLID if field.primary_key else value_type(field)
        return Given(field.field), lambda: type


def grants_of(access: Access) -> Mapping[str, Grant]:
    """Returns the grants of a caller on all collections."""
    return {name: access.grant(name) for name in access.schema.collections}


def catalog_of(schema: Snapshot, granted: Mapping[str, Grant], *, mutations: bool) -> Catalog:
    """Returns the catalog of what a caller with these grants may see. Making it takes milliseconds for each collection. A thread may do
    it, but not `grants_of`: the reactor uses the cache of grants."""
    return Builder(schema, granted, mutations=mutations).build()
