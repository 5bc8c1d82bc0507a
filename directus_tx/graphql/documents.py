"""Documents: parsed, bounded and validated."""

from collections.abc import Mapping

from attrs import field as attribute
from attrs import frozen
from graphql import (
    DocumentNode,
    FragmentDefinitionNode,
    GraphQLError,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    parse,
    specified_rules,
    validate,
)
from graphql.validation import OverlappingFieldsCanBeMergedRule

from directus_tx.config import GraphQLSettings
from directus_tx.graphql.bounds import check_document
from directus_tx.graphql.catalog import Catalog
from directus_tx.graphql.selecting import variables_of_directives

MAX_ERRORS = 10
RULES = tuple([rule for rule in specified_rules if rule is not OverlappingFieldsCanBeMergedRule])
"""The rules of validation. The omitted one takes time that grows with the square of the fields; `Selector.nodes` checks the same."""


class Refused(Exception):
    """A document is not valid: `errors` says why."""

    def __init__(self, errors: list[GraphQLError]) -> None:
        super().__init__(*errors)
        self.errors = errors


@frozen(eq=False)
class Document:
    """A valid document. `operations` are its operations by name, "" without one; `flags` the variables in directives of all of them."""

    operations: Mapping[str, OperationDefinitionNode]
    fragments: Mapping[str, FragmentDefinitionNode]
    flags: frozenset[str]
    length: int = attribute(default=0)

    @property
    def weight(self) -> int:
        """The approximate size in bytes."""
        return 4000 + 130 * self.length

    def operation(self, name: str | None) -> OperationDefinitionNode:
        """Returns an operation by its name, or the only one. Raises GraphQLError if there is none."""
        if name:
            if name not in self.operations:
                raise GraphQLError(f'The document has no operation "{name}".')
            return self.operations[name]
        if len(self.operations) != 1:
            raise GraphQLError("The document has several operations: say which one by operationName.")
        return next(iter(self.operations.values()))


def parsed(text: str, catalog: Catalog, settings: GraphQLSettings, *, hide_suggestions: bool = False) -> Document:
    """Returns a document. Raises Refused, or InvalidRequest if it exceeds a limit. *hide_suggestions*: errors do not tell which names of
    the schema may have been meant."""
    try:
        found = _parse(text, settings, located=False)
    except GraphQLError as error:
        raise Refused([error]) from None
    check_document(found, settings)
    operations = [each for each in found.definitions if isinstance(each, OperationDefinitionNode)]
    if settings.mutations == "off" and any(each.operation is OperationType.MUTATION for each in operations):
        raise Refused([GraphQLError("Mutations are not allowed: the setting graphql.mutations is off.")])
    how = {"hide_suggestions": hide_suggestions, "allow_empty_selection_sets": False}
    if validate(catalog.schema, found, RULES, max_errors=1, **how):
        # Locations take memory, so they are found only for documents that are refused.
        located = _parse(text, settings, located=True)
        errors = validate(catalog.schema, located, RULES, max_errors=MAX_ERRORS, **how)
        raise Refused(errors[:MAX_ERRORS])
    fragments = {each.name.value: each for each in found.definitions if isinstance(each, FragmentDefinitionNode)}
    if not operations:
        raise Refused([GraphQLError("The document has no operation.")])
    if any(each.operation is OperationType.SUBSCRIPTION for each in operations):
        raise Refused([GraphQLError("There are no subscriptions.")])
    sets: list[SelectionSetNode] = [each.selection_set for each in (*operations, *fragments.values())]
    named = {each.name.value if each.name else "": each for each in operations}
    return Document(named, fragments, variables_of_directives(sets), len(text))


def _parse(text: str, settings: GraphQLSettings, *, located: bool) -> DocumentNode:
    return parse(
        text,
        no_location=not located,
        max_lexical_tokens=settings.max_tokens,
        max_comments=settings.max_tokens,
        max_source_length=settings.max_length,
        allow_empty_selection_sets=False,
    )
