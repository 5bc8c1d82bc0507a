"""The scalar types, and those of the fields of collections."""

from collections.abc import Callable, Mapping
from typing import Any

from graphql import (
    GraphQLBoolean,
    GraphQLError,
    GraphQLFloat,
    GraphQLID,
    GraphQLList,
    GraphQLScalarType,
    GraphQLString,
    IntValueNode,
    StringValueNode,
    ValueNode,
    value_from_ast_untyped,
)
from graphql.pyutils import inspect

from directus_tx.schema.datatypes import family, is_json
from directus_tx.schema.model import Field

MAX_INT = 2**53
"""The largest whole number that every client reads exactly."""


def _int(value: Any) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not -MAX_INT <= value <= MAX_INT:
        raise GraphQLError(f"Int cannot represent {inspect(value)}: it takes a whole number between -2^53 and 2^53.")
    return value


def _int_literal(node: ValueNode, variables: Any = None) -> int:
    if not isinstance(node, IntValueNode):
        raise GraphQLError("Int takes a whole number.", node)
    return _int(int(node.value))


Int = GraphQLScalarType(
    "WholeNumber",
    description="A whole number. Unlike the Int of other servers, it may have more than 32 bits: unsigned integers have 32 bits.",
    serialize=_int,
    parse_value=_int,
    parse_literal=_int_literal,
)
# graphql-core makes no second type of this name. Its own one cannot hold the values of unsigned integers.
Int.name = "Int"


def _text(name: str, description: str) -> GraphQLScalarType:
    def value(found: Any) -> str:
        if not isinstance(found, str):
            raise GraphQLError(f"{name} takes a text.")
        return found

    def literal(node: ValueNode, variables: Any = None) -> str:
        if not isinstance(node, StringValueNode):
            raise GraphQLError(f"{name} takes a text.", node)
        return node.value

    return GraphQLScalarType(name, description=description, parse_value=value, parse_literal=literal)


Datetime = _text("Datetime", 'A date and a time: "2024-01-31 10:00:00".')
Date = _text("Date", 'A date: "2024-01-31".')
Time = _text("Time", 'A time of day: "10:00:00".')


def _json_literal(node: ValueNode, variables: Any = None) -> Any:
    return value_from_ast_untyped(node, variables)


def _json_value(value: Any) -> Any:
    return value


JSON = GraphQLScalarType("JSON", description="Any JSON value.", parse_value=_json_value, parse_literal=_json_literal)
SCALARS = (GraphQLID, GraphQLString, GraphQLFloat, GraphQLBoolean, Int, Datetime, Date, Time, JSON)

_BY_FAMILY: Mapping[str, GraphQLScalarType] = {
    "integer": Int,
    "number": GraphQLFloat,
    "boolean": GraphQLBoolean,
    "date": Date,
    "datetime": Datetime,
    "time": Time,
}
_BY_SCHEMA: Mapping[str, GraphQLScalarType] = {"string": GraphQLString, "number": GraphQLFloat, "boolean": GraphQLBoolean}
"""The types of values of field types of plugins, by their JSON Schema."""

_TEXTS = frozenset({"string", "slug", "status", "lang", "uuid"})

Convert = Callable[[Any], Any]


def value_type(field: Field) -> Any:
    """Returns the GraphQL type of the values of a field as responses show them."""
    if field.custom is not None and field.custom.show is not None:
        return _BY_SCHEMA.get(str(field.custom.schema.get("type")), JSON)
    if is_json(field) or (field.native is not None and field.native.member is not None):
        return JSON
    by_type = {"json": JSON, "array": GraphQLList(GraphQLString), "boolean": GraphQLBoolean, "decimal": GraphQLFloat}
    if field.type in by_type:
        return by_type[field.type]
    kind = family(field)
    if kind == "integer" and (field.datatype == "BIGINT" or field.type in _TEXTS):
        return GraphQLString
    return _BY_FAMILY.get(kind, GraphQLString)


def key_type(field: Field) -> GraphQLScalarType:
    """Returns the type of a primary key in responses: ID for whole numbers, otherwise String."""
    return GraphQLID if family(field) == "integer" else GraphQLString


def identifier(value: Any) -> str | None:
    """Returns a key as the text of an ID. *value* is the key, or an object with it alone, as a response shows a related item of which
    nothing else is asked for."""
    if value.__class__ is dict:
        value = next(iter(value.values()), None)
    return None if value is None else str(value)


def scalar(value: Any) -> Any:
    """Returns the value of a field that refers to an item, as `identifier` does, but not as a text."""
    return next(iter(value.values()), None) if value.__class__ is dict else value


def finite(value: Any) -> Any:
    """Returns a number, or None for one that JSON cannot hold: responses show it as a text."""
    return None if value.__class__ is str else value


def converter(type: Any) -> Convert | None:
    """Returns the function that makes a value of a type of the value in a response; None if none is needed."""
    return {"ID": identifier, "Float": finite}.get(getattr(type, "name", ""))
