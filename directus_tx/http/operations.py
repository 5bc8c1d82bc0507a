"""Descriptions of routes, for the OpenAPI document and the documentation."""

from collections.abc import Mapping
from enum import Enum
from typing import Any

from attrs import field, frozen

Json = Mapping[str, Any]
"""A JSON Schema."""


class Shape(Enum):
    """How many items a body has."""

    ITEM = "item"
    LIST = "list"
    EITHER = "either"
    """One item if the path has one key or the payload is one item, otherwise a list."""


@frozen
class Items:
    """Items of a collection: that of the route, or a named one."""

    shape: Shape
    collection: str = ""


ITEM, LIST, EITHER = Items(Shape.ITEM), Items(Shape.LIST), Items(Shape.EITHER)


class Parameters(Enum):
    """The query parameters of a route."""

    NONE = "none"
    FIELDS = "fields"
    """Those that choose the fields of an answer."""
    QUERY = "query"
    """Those of lists: fields, filter, sort, limit and others."""


@frozen
class Header:
    """A header of a request, with its description, and the texts that it can have, as a regular expression."""

    name: str
    description: str
    required: bool = False
    pattern: str = ""


@frozen
class Operation:
    """The description of a route. `payload` is its body, None if it takes none. `data` is the data of its answer, None if the answer
    has no body. `media_type`: the answer is not in an envelope, but is a body of this type. `status`: that of the answer, if it is not
    200, or 204 without a body.

    `bodies` are the schemas of other bodies that the route takes, by media type; `optional`: a request may have none. `headers` are those
    that only this route takes."""

    summary: str
    data: Items | Json | None = None
    payload: Items | Json | None = None
    parameters: Parameters = Parameters.NONE
    query: tuple[tuple[str, str], ...] = ()
    """Other query parameters, with their descriptions."""
    media_type: str = ""
    status: int | None = None
    bodies: Mapping[str, Items | Json] = field(factory=dict)
    optional: bool = False
    headers: tuple[Header, ...] = ()


def record(**properties: Items | Json) -> Json:
    """Returns the schema of an object that has all these properties. A property can be an item of a collection."""
    return {"type": "object", "required": list(properties), "properties": properties}


TEXT: Json = {"type": "string"}
INTEGER: Json = {"type": "integer"}
BYTES: Json = {"type": "string", "format": "binary"}
FLAG: Json = {"type": "boolean"}
ANY: Json = {"type": "object", "additionalProperties": True}
"""An object with any properties. Without additionalProperties, generators of types make it an object without properties."""

_STATE: Mapping[str, Json] = {
    "state": {"type": "string", "enum": ["ready", "building", "failed"]},
    "progress": {"type": "number", "minimum": 0, "maximum": 1, "description": "The part that is done, if it is being built."},
    "phase": {"type": "string", "description": "What PostgreSQL is doing to build it."},
    "error": {"type": "string", "description": "Why it could not be built."},
}
INDEX: Json = {"type": "object", "description": "The index of the field, if it has one.", "properties": dict(_STATE)}
"""The attribute `index` of a field in answers."""

WANTED_INDEX: Json = {"anyOf": [{"type": ["boolean", "null"]}, INDEX]}
"""The attribute `index` of a field in payloads."""

INDEXES: Json = {
    "type": ["array", "null"],
    "description": "The indexes of the collection. In payloads, the list replaces those that have been declared for it.",
    "items": {
        "type": "object",
        "required": ["fields"],
        "properties": {
            "name": {"type": "string", "maxLength": 63},
            "fields": {"type": "array", "items": TEXT, "description": "Names of fields, descending with a minus in front."},
            "unique": FLAG,
            "where": {
                "type": ["object", "null"],
                "additionalProperties": True,
                "description": "A filter on the items that are in the index.",
            },
            "origin": {
                "type": "string",
                "enum": ["collection", "field", "database"],
                "description": "What declares it. Indexes of fields and of the database are ignored in payloads.",
            },
            "definition": {"type": "string", "description": "The definition in PostgreSQL of an index of the database."},
            **_STATE,
        },
    },
}
"""The attribute `indexes` of a collection, in answers and payloads."""
