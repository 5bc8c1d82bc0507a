"""Applies the operations of a PATCH (RFC 7644, section 3.5.2) to the document of a resource."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from attrs import frozen

from directus_tx.scim.documents import MAX_VALUES, Document, checked_extension, checked_single, checked_value, resolve
from directus_tx.scim.errors import InvalidFilter, InvalidOperation, InvalidPath, InvalidValue, NoTarget, NotMutable
from directus_tx.scim.filters import Comparison, Filter, Group, Path, Target, matches, parse_target
from directus_tx.scim.schemas import READ_ONLY, Attribute, ResourceType, Schema

PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
MAX_OPERATIONS = 1000
MAX_PARTS = 2000
"""The maximum number of values of attributes, members excepted, and of comparisons in value filters, in all operations together. Each is
compared with each value that is there."""

ACTIONS = ("add", "replace", "remove")


@frozen
class Operation:
    """An operation on one attribute. `attribute` is None for a whole extension. The value has not been checked."""

    action: str
    extension: Schema | None
    attribute: Attribute | None
    part: Attribute | None
    filter: Filter | None
    value: Any

    @property
    def name(self) -> str:
        """The key of the document that the operation changes."""
        if self.extension is not None:
            return self.extension.id
        assert self.attribute is not None
        return self.attribute.name


def is_patch(body: Mapping[str, Any]) -> bool:
    """Whether the body of a PATCH has operations. Directus 8 took resources."""
    schemas = body.get("schemas")
    return any(name.lower() == "operations" for name in body) or (isinstance(schemas, list) and PATCH in schemas)


def operations_of(kind: ResourceType, body: Mapping[str, Any]) -> list[Operation]:
    """Returns the operations of a PATCH. One without a path becomes one for each attribute in its value. Raises InvalidOperation,
    InvalidPath, NoTarget, NotMutable."""
    listed = next((value for name, value in body.items() if name.lower() == "operations"), None)
    if not isinstance(listed, list) or not listed:
        raise InvalidOperation('A PATCH needs a list of "Operations".')
    if len(listed) > MAX_OPERATIONS:
        raise InvalidOperation(f"A PATCH may have up to {MAX_OPERATIONS} operations.")
    found: list[Operation] = []
    parts = 0
    for each in listed:
        for operation in _operations(kind, each):
            found.append(operation)
            parts += _number_of_parts(operation)
        if len(found) > MAX_OPERATIONS:
            raise InvalidOperation(f"A PATCH may change up to {MAX_OPERATIONS} attributes.")
        if parts > MAX_PARTS:
            raise InvalidOperation(f"A PATCH may have up to {MAX_PARTS} values and comparisons.")
    return found


def _number_of_parts(operation: Operation) -> int:
    values = operation.value if isinstance(operation.value, list) and operation.name != "members" else ()
    return len(values) + _number_of_comparisons(operation.filter)


def _number_of_comparisons(filter: Filter | None) -> int:
    if isinstance(filter, Group):
        return sum([_number_of_comparisons(each) for each in filter.members])
    return int(filter is not None)


def _operations(kind: ResourceType, described: Any) -> Iterator[Operation]:
    if not isinstance(described, dict):
        raise InvalidOperation("An operation must be an object.")
    members = {name.lower(): value for name, value in described.items()}
    action = members.get("op")
    # Entra ID writes the names with a capital.
    if not isinstance(action, str) or action.lower() not in ACTIONS:
        raise InvalidOperation(f'The "op" of an operation must be one of {", ".join(ACTIONS)}.')
    action = action.lower()
    path, value = members.get("path"), members.get("value")
    if path is None or path == "":
        if action == "remove":
            raise NoTarget('An operation that removes needs a "path".')
        if not isinstance(value, dict):
            raise InvalidValue('The "value" of an operation without a path must be an object of attributes.')
        for name, each in value.items():
            operation = _attribute_of(kind, action, name, each)
            if operation is not None:
                yield operation
        return
    if not isinstance(path, str):
        raise InvalidPath('The "path" of an operation must be a text.')
    if action != "remove" and "value" not in members:
        raise InvalidValue(f'The operation on "{path[:100]}" has no "value".')
    yield _targeted(kind, action, path, value)


def _attribute_of(kind: ResourceType, action: str, name: str, value: Any) -> Operation | None:
    """Returns the operation on an attribute of a value without a path. Unknown attributes and those that clients cannot write are
    ignored, as they are in a resource."""
    extension = kind.schema_of(name)
    if extension is not None and extension is not kind.schema:
        return Operation(action, extension, None, None, None, value)
    if kind.schema_of(name) is kind.schema or name.lower() == "schemas":
        return None
    try:
        return _targeted(kind, action, name, value)
    except (InvalidPath, NotMutable):
        return None


def _targeted(kind: ResourceType, action: str, text: str, value: Any) -> Operation:
    try:
        target = _target(kind, text)
        extension, attribute, part = resolve(kind, target.path)
        if attribute is not None and target.part:
            part = attribute.part(target.part)
            if part is None:
                raise InvalidFilter(f'There is no attribute "{text[:100]}".')
        if target.filter is not None:
            if attribute is None or not attribute.several:
                raise InvalidFilter(f'"{target.path}" has one value, and takes no filter.')
            _check_filter(attribute, target.filter)
    except InvalidFilter as error:
        raise InvalidPath(error.message) from None
    for each in (attribute, part):
        if each is not None and each.mutability == READ_ONLY:
            raise NotMutable(f'"{text[:100]}" cannot be changed.')
    return Operation(action, extension, attribute, part, target.filter, value)


def _target(kind: ResourceType, text: str) -> Target:
    schema = kind.schema_of(text)
    return Target(Path(text, ())) if schema is not None else parse_target(text)


def _check_filter(attribute: Attribute, filter: Filter) -> None:
    """Raises InvalidFilter if a value filter compares something else than a sub-attribute."""
    if isinstance(filter, Group):
        for each in filter.members:
            _check_filter(attribute, each)
    elif not isinstance(filter, Comparison):
        raise InvalidFilter("A value filter cannot contain another one.")
    elif filter.path.schema or len(filter.path.names) != 1 or attribute.part(filter.path.names[0]) is None:
        raise InvalidFilter(f'"{attribute.name}" has no attribute "{filter.path}".')


def apply(operations: Iterable[Operation], document: Document) -> Document:
    """Returns a document after operations. Raises InvalidValue, NoTarget."""
    found = dict(document)
    for operation in operations:
        if operation.extension is None:
            _change(found, operation)
            continue
        extended = dict(found.get(operation.extension.id) or {})
        if operation.attribute is not None:
            _change(extended, operation)
        elif operation.action == "remove":
            extended = {}
        else:
            extended |= checked_extension(operation.extension, operation.value) or {}
        found[operation.extension.id] = extended
    return found


def _change(document: Document, operation: Operation) -> None:
    """Changes one attribute in an object of attributes."""
    attribute = operation.attribute
    assert attribute is not None
    name, present = attribute.name, document.get(attribute.name)
    if attribute.several:
        document[name] = values = _changed_values(attribute, list(present or []), operation)
        if len(values) > MAX_VALUES:
            # Each value is compared with each that is added.
            raise InvalidValue(f'"{name}" may have up to {MAX_VALUES} values.')
    elif operation.part is not None:
        value = None if operation.action == "remove" else checked_value(operation.part, operation.value)
        document[name] = {**(present or {}), operation.part.name: value}
    elif operation.action == "remove":
        document[name] = None
    else:
        value = checked_value(attribute, operation.value)
        document[name] = {**present, **value} if isinstance(present, dict) and isinstance(value, dict) else value


def _changed_values(attribute: Attribute, values: list[Any], operation: Operation) -> list[Any]:
    """Returns the values of an attribute with several after an operation."""
    if operation.filter is None and operation.part is None:
        if operation.action == "remove":
            return []
        given = checked_value(attribute, operation.value) or []
        return given if operation.action == "replace" else _joined(values, given)
    chosen = [place for place, each in enumerate(values) if operation.filter is None or matches(operation.filter, each)]
    if operation.action == "remove":
        if operation.part is None:
            return [each for place, each in enumerate(values) if place not in chosen]
        changes: Document = {operation.part.name: None}
    elif operation.part is not None:
        changes = {operation.part.name: checked_value(operation.part, operation.value)}
    else:
        changes = checked_single(attribute, operation.value)
    if not chosen:
        if operation.action == "remove":
            return values
        if operation.action == "replace":
            raise NoTarget(f'No value of "{attribute.name}" matches the filter of the path.')
        return _joined(values, [{**_named(attribute, operation.filter), **changes}])
    found = list(values)
    for place in chosen:
        found[place] = {**found[place], **changes}
    return found


def _joined(values: Sequence[Any], given: Sequence[Any]) -> list[Any]:
    """Returns the values and those of *given* that are not among them. A new primary value is the only one."""
    found = list(values)
    for each in given:
        if each not in found:
            if isinstance(each, dict) and each.get("primary") is True:
                found = [{**other, "primary": False} if other.get("primary") else other for other in found]
            found.append(each)
    return found


def _named(attribute: Attribute, filter: Filter | None) -> Document:
    """Returns the sub-attributes that a value must have to match a filter: that of `emails[type eq "home"]` has the type "home"."""
    if isinstance(filter, Group) and filter.kind == "all":
        found: Document = {}
        for each in filter.members:
            found |= _named(attribute, each)
        return found
    if isinstance(filter, Comparison) and filter.operator == "eq":
        part = attribute.part(filter.path.names[0])
        return {} if part is None else {part.name: checked_value(part, filter.value)}
    return {}
