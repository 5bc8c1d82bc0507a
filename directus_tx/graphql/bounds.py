"""Bounds documents before they are validated: what takes long to validate or to answer is refused. Messages name the setting."""

from collections.abc import Mapping

from attrs import frozen
from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionSetNode,
)

from directus_tx.config import GraphQLSettings
from directus_tx.errors import InvalidRequest


@frozen
class _Size:
    """The size of a selection set with the fragments in it: its fields, those with an alias, how many levels it has, and how many of the
    aliases are below fields about the schema."""

    fields: int = 0
    aliases: int = 0
    depth: int = 0
    described: int = 0


MAX_DESCRIBED = 10
"""The maximum number of aliases below fields about the schema, whose answers can be very long."""


class _Measure:
    """Measures the selection sets of a document. Each fragment is measured once, however often it is used."""

    def __init__(self, fragments: Mapping[str, FragmentDefinitionNode], settings: GraphQLSettings) -> None:
        self.fragments = fragments
        self.settings = settings
        self.known: dict[str, _Size] = {}
        self.open: set[str] = set()

    def of(self, selections: SelectionSetNode, *, described: bool = False) -> _Size:
        """Returns the size of a selection set. *described*: it is about the schema, whose depth does not count."""
        fields = aliases = depth = about_aliases = 0
        for each in selections.selections:
            if isinstance(each, FieldNode):
                about = described or each.name.value in ("__schema", "__type")
                below = _Size() if each.selection_set is None else self.of(each.selection_set, described=about)
                fields += 1 + below.fields
                aliases += (each.alias is not None) + below.aliases
                about_aliases += (described and each.alias is not None) + below.described
                depth = max(depth, 0 if about else 1 + below.depth)
            else:
                below = self._spread(each, described=described)
                fields += below.fields
                aliases += below.aliases
                about_aliases += below.described
                depth = max(depth, 0 if described else below.depth)
            self._check(fields, aliases, depth)
            if about_aliases > MAX_DESCRIBED:
                raise InvalidRequest(f"Fields about the schema may have up to {MAX_DESCRIBED} aliases.")
        return _Size(fields, aliases, depth, about_aliases)

    def _spread(self, each: object, *, described: bool) -> _Size:
        if isinstance(each, InlineFragmentNode):
            return self.of(each.selection_set, described=described)
        assert isinstance(each, FragmentSpreadNode)
        name = each.name.value
        if name in self.open:
            raise InvalidRequest(f'The fragment "{name}" contains itself.')
        definition = self.fragments.get(name)
        if definition is None:
            return _Size()
        if name not in self.known:
            if len(self.open) >= self.settings.max_depth:
                text = f"Fragments may be nested {self.settings.max_depth} levels deep"
                raise InvalidRequest(f"{text} (graphql.max_depth).")
            self.open.add(name)
            self.known[name] = self.of(definition.selection_set, described=described)
            self.open.discard(name)
        return self.known[name]

    def _check(self, fields: int, aliases: int, depth: int) -> None:
        settings = self.settings
        if fields > settings.max_fields:
            text = f"A document may ask for up to {settings.max_fields} fields, those of fragments counted each time"
            raise InvalidRequest(f"{text} (graphql.max_fields).")
        if aliases > settings.max_aliases:
            raise InvalidRequest(f"A document may have up to {settings.max_aliases} aliases (graphql.max_aliases).")
        if depth > settings.max_depth:
            raise InvalidRequest(f"The fields of a document may be nested {settings.max_depth} levels deep (graphql.max_depth).")


def check_document(document: DocumentNode, settings: GraphQLSettings) -> None:
    """Raises InvalidRequest if a document exceeds a limit, or if a fragment contains itself. It takes time proportional to the length of
    the document."""
    fragments = {each.name.value: each for each in document.definitions if isinstance(each, FragmentDefinitionNode)}
    measure = _Measure(fragments, settings)
    operations = [each for each in document.definitions if isinstance(each, OperationDefinitionNode)]
    total = sum([measure.of(each.selection_set).fields for each in operations])
    if total > settings.max_fields:
        raise InvalidRequest(f"The operations of a document may ask for up to {settings.max_fields} fields (graphql.max_fields).")
    for name, fragment in fragments.items():
        if name not in measure.known:
            measure.of(fragment.selection_set)
