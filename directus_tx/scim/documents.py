"""Checks the resources that clients send, and chooses the attributes that are shown.

A checked document has the names of attributes as the schema writes them. Attributes of an extension are in an object under its URN. Unknown
attributes and those that clients cannot write are left out. None and empty lists mean that an attribute has no value.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import frozen

from directus_tx.scim.errors import InvalidFilter, InvalidValue
from directus_tx.scim.filters import Path, parse_path
from directus_tx.scim.schemas import READ_ONLY, Attribute, ResourceType, Schema

Document = dict[str, Any]
MAX_VALUES = 100
"""The maximum number of values of an attribute, members of groups excepted."""

MAX_NAMES = 200
"""The maximum number of attributes in `attributes` and `excludedAttributes`."""


def checked_document(kind: ResourceType, body: Mapping[str, Any]) -> Document:
    """Returns the checked document of a resource that a client has sent. Raises InvalidValue for a value that does not fit."""
    found: Document = {}
    for name, value in body.items():
        extension = kind.schema_of(name)
        if extension is not None and extension is not kind.schema:
            found[extension.id] = checked_extension(extension, value)
            continue
        attribute = kind.attribute(name)
        if attribute is not None and attribute.mutability != READ_ONLY:
            found[attribute.name] = checked_value(attribute, value)
    return found


def checked_extension(extension: Schema, value: Any) -> Document | None:
    """Returns the checked attributes of an extension. Raises InvalidValue."""
    if value is None:
        return None
    if not isinstance(value, dict):
        raise InvalidValue(f'The value of "{extension.id}" must be an object.')
    found = {}
    for name, each in value.items():
        attribute = extension.attribute(name)
        if attribute is not None and attribute.mutability != READ_ONLY:
            found[attribute.name] = checked_value(attribute, each)
    return found


def checked_value(attribute: Attribute, value: Any) -> Any:
    """Returns the checked value of an attribute. A single value is a list of one where the attribute has several. Raises
    InvalidValue."""
    if value is None:
        return None
    if not attribute.several:
        return checked_single(attribute, value)
    values = value if isinstance(value, list) else [value]
    if len(values) > MAX_VALUES and attribute.name != "members":
        raise InvalidValue(f'"{attribute.name}" may have up to {MAX_VALUES} values.')
    return [checked_single(attribute, each) for each in values if each is not None]


def checked_single(attribute: Attribute, value: Any) -> Any:
    """Returns one checked value of an attribute, whether it has several or not. Raises InvalidValue."""
    name = attribute.name
    if attribute.parts:
        if not isinstance(value, dict):
            if attribute.part("value") is None or isinstance(value, list):
                raise InvalidValue(f'The value of "{name}" must be an object.')
            # Entra ID sends the value alone.
            value = {"value": value}
        parts = ((attribute.part(key), each) for key, each in value.items())
        return {part.name: checked_value(part, each) for part, each in parts if part is not None and part.mutability != READ_ONLY}
    if attribute.type == "boolean":
        if isinstance(value, str) and value.lower() in ("true", "false"):
            # Entra ID sends booleans as texts.
            return value.lower() == "true"
        if not isinstance(value, bool):
            raise InvalidValue(f'The value of "{name}" must be true or false.')
        return value
    if not isinstance(value, str):
        raise InvalidValue(f'The value of "{name}" must be a text.')
    if "\x00" in value:
        raise InvalidValue(f'The value of "{name}" contains a character that cannot be stored (NUL).')
    return value


@frozen
class Shown:
    """What clients ask to be shown: the attributes named in `attributes` alone, or all but those in `excludedAttributes`. Names
    are in lower case, without the URN of the schema; those of extensions begin with it. Attributes that are always returned are
    shown in any case."""

    wanted: frozenset[str] | None = None
    excluded: frozenset[str] = frozenset()

    def shows(self, name: str) -> bool:
        """Whether an attribute, or a part of it, is shown."""
        name = name.lower()
        if self.wanted is not None:
            return name in self.wanted or any(each.startswith((f"{name}.", f"{name}:")) for each in self.wanted)
        return name not in self.excluded

    def of(self, kind: ResourceType, document: Document) -> Document:
        """Returns the document without the attributes that are not shown."""
        if self.wanted is None and not self.excluded:
            return document
        always = {each.name for each in kind.attributes if each.returned == "always"}
        found = {}
        for name, value in document.items():
            if name in always:
                found[name] = value
            elif self.shows(name):
                separator = ":" if kind.schema_of(name) is not None else "."
                found[name] = self._parts(name.lower() + separator, name.lower(), value)
        return found

    def _parts(self, prefix: str, name: str, value: Any) -> Any:
        if isinstance(value, list):
            return [self._parts(prefix, name, each) for each in value]
        if not isinstance(value, dict):
            return value
        if self.wanted is not None and name not in self.wanted:
            return {key: each for key, each in value.items() if prefix + key.lower() in self.wanted or self._below(prefix + key)}
        return {key: each for key, each in value.items() if prefix + key.lower() not in self.excluded}

    def _below(self, name: str) -> bool:
        return self.wanted is not None and any(each.startswith(name.lower() + ".") for each in self.wanted)


def shown_attributes(kind: ResourceType, wanted: Sequence[str], excluded: Sequence[str]) -> Shown:
    """Returns what is shown for the parameters `attributes` and `excludedAttributes`. Names that are unknown are ignored. Raises
    InvalidValue if both are given, or one has too many names."""
    if wanted and excluded:
        raise InvalidValue("attributes and excludedAttributes exclude each other.")
    if len(wanted) > MAX_NAMES or len(excluded) > MAX_NAMES:
        raise InvalidValue(f"attributes and excludedAttributes may have up to {MAX_NAMES} names.")
    names = frozenset(_name(kind, each) for each in (wanted or excluded))
    return Shown(wanted=names) if wanted else Shown(excluded=names)


def _name(kind: ResourceType, text: str) -> str:
    try:
        path = parse_path(text)
    except InvalidFilter:
        return text.lower()
    return text.lower() if path.schema.lower() not in ("", kind.schema.id.lower()) else ".".join(path.names).lower()


def resolve(kind: ResourceType, path: Path) -> tuple[Schema | None, Attribute | None, Attribute | None]:
    """Returns the extension, the attribute and the sub-attribute that a path names; an extension alone has no attribute. Raises
    InvalidFilter for what does not exist."""
    schema = kind.schema_of(path.schema) if path.schema else None
    if path.schema and schema is None:
        raise InvalidFilter(f'There is no schema "{path.schema[:100]}" of {kind.endpoint}.')
    extension = None if schema is None or schema is kind.schema else schema
    if not path.names:
        if extension is None:
            raise InvalidFilter(f'"{path}" is not the path of an attribute.')
        return extension, None, None
    attribute = (kind if extension is None else extension).attribute(path.names[0])
    if attribute is None:
        raise InvalidFilter(f'{kind.endpoint} have no attribute "{path}".')
    part = None
    if len(path.names) > 1:
        part = attribute.part(path.names[1])
        if part is None:
            raise InvalidFilter(f'{kind.endpoint} have no attribute "{path}".')
    return extension, attribute, part
