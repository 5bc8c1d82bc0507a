"""Resolves the selection sets of an operation: which fields of which objects are shown under which names. Fragments are put in their
places, and what `@skip` and `@include` exclude is left out."""

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import field as attribute
from attrs import mutable
from graphql import (
    DirectiveNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    InlineFragmentNode,
    SelectionSetNode,
    print_ast,
)
from graphql.language import VariableNode

from directus_tx.graphql.catalog import Kind, Member, ObjectType

TYPENAME = "__typename"


@mutable(eq=False)
class Entry:
    """A field that is shown as `key`. `member` is None for `__typename`. `below` is what is shown of the objects in it. `slot` is where it
    is in an object of the API: its name there, or another key if the same list is read with several arguments."""

    key: str
    node: FieldNode
    member: Member | None
    below: "Selected | None" = None
    slot: Any = None

    @property
    def arguments(self) -> str:
        """The arguments as they are written, by which equal ones are recognized."""
        return ", ".join(sorted([print_ast(each) for each in self.node.arguments or ()]))


@mutable(eq=False)
class Selected:
    """What is shown of the objects of a type, in order."""

    type: ObjectType
    entries: list[Entry] = attribute(factory=list)


class Selector:
    """Resolves the selection sets of one operation. *flags* are the values of the variables in its directives."""

    def __init__(
        self,
        objects: Mapping[str, ObjectType],
        fragments: Mapping[str, FragmentDefinitionNode],
        flags: Mapping[str, Any],
    ) -> None:
        self.objects = objects
        self.fragments = fragments
        self.flags = flags

    def nodes(self, type: str, sets: Sequence[SelectionSetNode], *, node: bool = False) -> dict[str, list[FieldNode]]:
        """Returns the fields of selection sets on one type, by the names under which they are shown. *node*: the type has the interface
        Node. Raises GraphQLError if different fields have the same name."""
        found: dict[str, list[FieldNode]] = {}
        for each in sets:
            self._collect(type, each, found, set(), node=node)
        for key, fields in found.items():
            first = fields[0]
            for other in fields[1:]:
                if first.name.value != other.name.value or not _same_arguments(first, other):
                    raise GraphQLError(
                        f"Different fields, or one with different arguments, are shown as '{key}'. Use aliases.", [first, other]
                    )
        return found

    def _collect(
        self, type: str, selections: SelectionSetNode, found: dict[str, list[FieldNode]], spread: set[str], *, node: bool
    ) -> None:
        for each in selections.selections:
            if each.directives and not self._included(each.directives):
                continue
            if isinstance(each, FieldNode):
                found.setdefault((each.alias or each.name).value, []).append(each)
                continue
            if isinstance(each, InlineFragmentNode):
                condition, below = each.type_condition, each.selection_set
            else:
                assert isinstance(each, FragmentSpreadNode)
                if each.name.value in spread:
                    continue
                spread.add(each.name.value)
                fragment = self.fragments[each.name.value]
                condition, below = fragment.type_condition, fragment.selection_set
            if condition is None or condition.name.value == type or (node and condition.name.value == "Node"):
                self._collect(type, below, found, spread, node=node)

    def _included(self, directives: Sequence[DirectiveNode]) -> bool:
        for each in directives:
            if each.name.value in ("skip", "include"):
                value = (each.arguments or ())[0].value
                flag = self.flags.get(value.name.value) if isinstance(value, VariableNode) else getattr(value, "value", None)
                if bool(flag) is (each.name.value == "skip"):
                    return False
        return True

    def select(self, type: ObjectType, sets: Sequence[SelectionSetNode]) -> Selected:
        """Returns what selection sets show of the objects of a type."""
        found = Selected(type)
        for key, nodes in self.nodes(type.name, sets, node=type.node).items():
            name = nodes[0].name.value
            if name == TYPENAME:
                found.entries.append(Entry(key, nodes[0], None))
                continue
            member = type.members[name]
            entry = Entry(key, nodes[0], member, slot=member.name)
            if member.kind is not Kind.VALUE:
                below = [node.selection_set for node in nodes if node.selection_set is not None]
                entry.below = self.select(self.objects[member.target], below)
            found.entries.append(entry)
        return found


def _same_arguments(first: FieldNode, other: FieldNode) -> bool:
    if not (first.arguments or other.arguments):
        return True
    return sorted(map(print_ast, first.arguments or ())) == sorted(map(print_ast, other.arguments or ()))


def variables_of_directives(sets: Sequence[SelectionSetNode]) -> frozenset[str]:
    """Returns the names of the variables that decide which fields are shown. *sets* are those of the operation and of all fragments."""
    found: set[str] = set()
    pending = list(sets)
    while pending:
        for each in pending.pop().selections:
            for directive in each.directives or ():
                for argument in directive.arguments or ():
                    if isinstance(argument.value, VariableNode):
                        found.add(argument.value.name.value)
            below = getattr(each, "selection_set", None)
            if below is not None:
                pending.append(below)
    return frozenset(found)
