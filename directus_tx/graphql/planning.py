"""Plans operations as queries: one for each root field, and one more for each list that is asked for again with other arguments.

A `Document` is validated once. The `Operation` of a document depends on the variables in its directives only, and is kept. What is left for
each request is to convert the arguments.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import field as attribute
from attrs import frozen, mutable
from graphql import FieldNode, GraphQLError, GraphQLField, OperationDefinitionNode, OperationType
from graphql.execution.values import VariableValues, get_argument_values

from directus_tx.compile.output import Output
from directus_tx.config import GraphQLSettings, LimitSettings
from directus_tx.errors import InvalidRequest
from directus_tx.graphql.catalog import Catalog, Kind, Reads, Root, Writes
from directus_tx.graphql.filters import conditions_of, sorts_of
from directus_tx.graphql.names import filter_name, type_name
from directus_tx.graphql.selecting import TYPENAME, Entry, Selected, Selector
from directus_tx.graphql.shaping import Shape, output_of, shape_of
from directus_tx.query import Query

Path = tuple[str, ...]

INTROSPECTION = frozenset({"__schema", "__type"})
INNER_ITEMS = 10
"""How many related items a list without a limit counts for, when the items that a document asks for are estimated."""


@mutable(eq=False)
class Reading:
    """A query of a root field in the making: the expressions of `fields`, and the lists by path, each with its arguments as they are
    written, its node and its collection. `again` are queries of lists that are asked for with other arguments."""

    collection: str
    fields: dict[str, None] = attribute(factory=dict)
    lists: dict[Path, tuple[str, FieldNode, str]] = attribute(factory=dict)
    again: "list[Again]" = attribute(factory=list)


@mutable(eq=False)
class Again:
    """A list that is read again: its path, whose parts are the names of fields with whether they are lists and, for the items they lead to,
    the name of the key; the key of the items of the root; the place of the list in its items; and the query that reads it."""

    path: Path
    steps: tuple[tuple[str, bool, str | None], ...]
    root_key: str
    slot: Any
    reading: Reading


@frozen(eq=False)
class Planned:
    """A root field: the name that it is shown as, what it is, its definition and node, and how its value is made. `shapes` are those of
    its items, `metas` those of its meta, by the names under which they are shown, in the order of `order`. `typename` is the name of its
    type."""

    key: str
    root: Root | None
    definition: GraphQLField | None
    node: FieldNode
    reading: Reading
    order: tuple[str, ...] = ()
    shapes: Mapping[str, Shape] = attribute(factory=dict)
    metas: Mapping[str, Shape] = attribute(factory=dict)
    meta: tuple[str, ...] = ()
    typename: str = ""
    selected: Selected | None = None
    linked: bool = False
    """For collections and fields: whether they show each other."""
    nodes: tuple[FieldNode, ...] = ()
    """For fields about the schema: all nodes that are shown together."""
    output: Output | None = None
    """What the items show, None if a read cannot build that at once."""


@frozen(eq=False)
class Operation:
    """A planned operation. `introspection`: it asks for the schema, too."""

    writes: bool
    roots: tuple[Planned, ...]
    introspection: bool
    kept: dict[str, Any] = attribute(factory=dict)
    """What is made of the operation once: its queries, if it has no variables."""

    @property
    def weight(self) -> int:
        """The approximate size in bytes."""
        return sum([2000 + 1000 * len(each.reading.fields) + 1000 * len(each.shapes) for each in self.roots])


class Planner:
    """Plans the operations of the documents of one catalog."""

    def __init__(self, catalog: Catalog, settings: GraphQLSettings) -> None:
        self.catalog = catalog
        self.settings = settings

    def plan(self, operation: OperationDefinitionNode, fragments: Mapping[str, Any], flags: Mapping[str, Any]) -> Operation:
        """Returns a planned operation. *flags* are the values of the variables in directives. Raises GraphQLError, and InvalidRequest if
        it exceeds a limit."""
        selector = Selector(self.catalog.objects, fragments, flags)
        writes = operation.operation is OperationType.MUTATION
        type = self.catalog.schema.mutation_type if writes else self.catalog.schema.query_type
        assert type is not None
        roots = []
        introspection = False
        for key, nodes in selector.nodes(type.name, [operation.selection_set]).items():
            name = nodes[0].name.value
            if name in INTROSPECTION:
                introspection = True
                roots.append(Planned(key, None, None, nodes[0], Reading(""), nodes=tuple(nodes)))
            elif name == TYPENAME:
                roots.append(Planned(key, None, None, nodes[0], Reading(""), typename=type.name))
            else:
                of = self.catalog.mutations if writes else self.catalog.queries
                roots.append(self._root(key, of[name], type.fields[name], nodes, selector))
        number = sum([_lists(each.reading) for each in roots if each.root is not None])
        if number > self.settings.max_lists:
            raise InvalidRequest(f"A document may read up to {self.settings.max_lists} lists (graphql.max_lists).")
        return Operation(writes, tuple(roots), introspection)

    def _root(self, key: str, root: Root, definition: GraphQLField, nodes: Sequence[FieldNode], selector: Selector) -> Planned:
        sets = [node.selection_set for node in nodes if node.selection_set is not None]
        reading = Reading(root.collection)
        if not sets:
            return Planned(key, root, definition, nodes[0], reading)
        selected = selector.select(self.catalog.objects[root.target], sets)
        if root.does is Reads.AGGREGATES or isinstance(root.does, Writes):
            if isinstance(root.does, Writes):
                self._gather(selected, reading, (), (), selected.type.key)
                if reading.again:
                    text = "A list in the answer of a mutation cannot be asked for with different arguments."
                    raise GraphQLError(text, nodes[0])
            return Planned(key, root, definition, nodes[0], reading, shapes={"": shape_of(selected)}, selected=selected)
        shapes: dict[str, Shape] = {}
        metas: dict[str, Shape] = {}
        names: dict[str, None] = {}
        linked = False
        for entry in selected.entries:
            if entry.member is None:
                continue
            assert entry.below is not None
            if entry.member.name == "meta":
                metas[entry.key] = shape_of(entry.below)
                names.update(dict.fromkeys([each.member.name for each in entry.below.entries if each.member is not None]))
                continue
            if root.does is Reads.ITEMS:
                self._gather(entry.below, reading, (), (), entry.below.type.key)
            else:
                linked = linked or any(each.below is not None for each in entry.below.entries)
            shapes[entry.key] = shape_of(entry.below)
        shown = [each.below for each in selected.entries if each.below is not None and each.key in shapes]
        at_once = root.does is Reads.ITEMS and len(shown) == 1 and not reading.again
        return Planned(
            key,
            root,
            definition,
            nodes[0],
            reading,
            tuple([entry.key for entry in selected.entries]),
            shapes,
            metas,
            tuple(names),
            selected.type.name,
            selected,
            linked=linked,
            output=output_of(shown[0]) if at_once else None,
        )

    def _gather(
        self,
        selected: Selected,
        reading: Reading,
        path: Path,
        steps: tuple[tuple[str, bool, str | None], ...],
        root_key: str | None,
    ) -> None:
        """Adds to a query what a selection needs."""
        prefix = "".join([f"{name}." for name in path])
        needed = False
        for entry in selected.entries:
            member = entry.member
            if member is None or not member.name:
                continue
            needed = True
            if member.kind in (Kind.VALUE, Kind.OBJECT, Kind.OBJECTS):
                reading.fields[prefix + member.name] = None
                continue
            assert entry.below is not None
            below = (*path, member.name)
            further = (*steps, (member.name, member.kind is Kind.MANY, entry.below.type.key))
            into = self._list(entry, reading, below, further, root_key) if member.kind is Kind.MANY else reading
            self._gather(entry.below, into, below, further, root_key)
        if not needed:
            reading.fields[prefix + _some_field(selected)] = None

    def _list(
        self,
        entry: Entry,
        reading: Reading,
        path: Path,
        steps: tuple[tuple[str, bool, str | None], ...],
        root_key: str | None,
    ) -> Reading:
        """Returns the query that a list is read by: the given one, unless it has the list with other arguments."""
        text = entry.arguments
        assert entry.below is not None
        found = reading.lists.setdefault(path, (text, entry.node, entry.below.type.collection))
        if found[0] == text:
            return reading
        again = next((each for each in reading.again if each.path == path and each.reading.lists[path][0] == text), None)
        if again is None:
            keys = [key for _, is_list, key in steps[:-1] if is_list]
            if root_key is None or None in keys:
                raise GraphQLError(
                    f"'{entry.node.name.value}' cannot be asked for with different arguments, because the caller cannot see the keys"
                    " of the items.",
                    entry.node,
                )
            lists = {each: asked for each, asked in reading.lists.items() if each != path and path[: len(each)] == each}
            more = Reading(reading.collection, lists={**lists, path: (text, entry.node, entry.below.type.collection)})
            again = Again(path, steps, root_key, (entry.slot, len(reading.again)), more)
            for each in (reading, more):
                each.fields[root_key] = None
                for place, (_, is_list, key) in enumerate(steps[:-1], 1):
                    if is_list:
                        each.fields[".".join((*path[:place], str(key)))] = None
            reading.again.append(again)
        entry.slot = again.slot
        return again.reading

    # arguments

    def query_of(
        self,
        planned: Planned,
        reading: Reading,
        variables: VariableValues,
        arguments: Mapping[str, Any],
        limits: LimitSettings,
        default_limit: int,
    ) -> tuple[Query, float]:
        """Returns the query of a root field, and an estimate of the items that it asks for."""
        root = planned.root
        assert root is not None
        name = type_name(root.collection)
        status, search, lang = arguments.get("status"), arguments.get("search"), arguments.get("lang")
        limit = arguments.get("limit")
        usual = default_limit if default_limit > 0 else 1000
        items: dict[Path, float] = {(): float(limit if limit is not None and limit >= 0 else usual)}
        if arguments.get("id") is not None:
            items[()] = 1.0
        deep = []
        # Lists come after those that they are in.
        for path, (text, node, collection) in reading.lists.items():
            outer = max((each for each in items if path[: len(each)] == each), key=len)
            asked: Mapping[str, Any] = {}
            if text:
                definition = self._list_definition(node, planned, path)
                asked = get_argument_values(definition, node, variables)
            most = asked.get("limit")
            items[path] = items[outer] * (INNER_ITEMS if most is None or most < 0 else most)
            if asked:
                statuses = asked.get("status")
                nested = Query(
                    filter=conditions_of(self.catalog, filter_name(collection), asked.get("filter"), limits),
                    sort=sorts_of(self.catalog, f"{type_name(collection)}Sort", asked.get("sort")),
                    limit=most,
                    offset=asked.get("offset"),
                    status=None if statuses is None else tuple(statuses),
                    q=asked.get("search") or None,
                )
                deep.append((path, nested))
        query = Query(
            fields=tuple(reading.fields),
            filter=conditions_of(self.catalog, filter_name(root.collection), arguments.get("filter"), limits),
            sort=sorts_of(self.catalog, f"{name}Sort", arguments.get("sort")),
            limit=limit,
            offset=arguments.get("offset"),
            status=None if status is None else tuple(status),
            q=search or None,
            meta=planned.meta or None,
            lang=tuple([each.strip() for each in (lang or "").split(",") if each.strip()]),
            deep=tuple(deep),
        )
        return query, sum(items.values())

    def _list_definition(self, node: FieldNode, planned: Planned, path: Path) -> GraphQLField:
        """Returns the definition of the field of a list."""
        root = planned.root
        assert root is not None
        name = type_name(root.collection) + "Item"
        for place in path[:-1]:
            members = self.catalog.objects[name].members
            name = next(each.target for each in members.values() if each.name == place and each.target)
        type: Any = self.catalog.schema.type_map[name]
        found: GraphQLField = type.fields[node.name.value]
        return found


def _some_field(selected: Selected) -> str:
    """Returns the name of a field that items have, for a selection of which no field is shown."""
    if selected.type.key is not None:
        return selected.type.key
    return next((m.name for m in selected.type.members.values() if m.kind is Kind.VALUE and m.name), "*")


def _lists(reading: Reading) -> int:
    """Returns the number of lists that are read by a query, by those that read lists of it again, and theirs."""
    return 1 + len(reading.lists) + sum([_lists(each.reading) for each in reading.again])
