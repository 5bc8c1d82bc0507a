"""What plugins add to the schema of projects: field types, filter operators and aggregate functions."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from attrs import field, frozen

FAMILIES = ("text", "integer", "number", "boolean", "date", "time", "datetime", "binary", "uuid", "other")
"""The families of columns, by their PostgreSQL types."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_DATATYPE = re.compile(r"[A-Z][A-Z0-9_]{0,39}")
_COLUMN = re.compile(r'[a-z_][a-z0-9_ "]{0,60}(\(\d{1,4}(,-?\d{1,4})?\))?( with(out)? time zone)?(\[\])?')
_PLACEHOLDER = re.compile(r"\{(\w*)\}")


@frozen(eq=False)
class FieldType:
    """A type of fields. `datatypes` maps the names of its datatypes to PostgreSQL types, as PostgreSQL writes them ("numeric(12,2)",
    "character varying(7)"); a field can have other datatypes, too, with the columns that they have. `parse` makes the value that is stored
    of a value of a payload, and of a text of a filter; it raises ValueError, whose message follows the name of the field. `show` makes the
    value in answers of the one that a field with this column would show. Neither is called with None. `schema` is the JSON Schema of values
    in answers."""

    name: str
    datatypes: Mapping[str, str] = field(factory=dict)
    parse: Callable[[Any], Any] | None = None
    show: Callable[[Any], Any] | None = None
    schema: Mapping[str, Any] = field(factory=dict)


@frozen(eq=False)
class FilterOperator:
    """A filter operator: filter[field][name]=value. `sql` is the condition, for example "{column} ~ {value}::text": "{column}" stands for
    the column and "{value}" for the value, which is bound. It applies to columns of some `families`. `value` makes the value that is bound
    of the text in the filter; it raises ValueError for one that is not valid. `several`: it is called with a list of texts. `total`: the
    condition raises no error, whatever a row and the value hold. Others are evaluated only for the rows that the caller may read, which
    keeps PostgreSQL from using indexes for callers who may not read all."""

    sql: str
    families: tuple[str, ...]
    value: Callable[[Any], Any] = str
    several: bool = False
    total: bool = False


@frozen(eq=False)
class AggregateFunction:
    """An aggregate function: aggregate[name]=field. `sql` is the expression, in which "{column}" stands for the column. It applies to
    columns of some `families`. `show` makes the value in answers of the result."""

    sql: str
    families: tuple[str, ...]
    show: Callable[[Any], Any] | None = None


@frozen(eq=False)
class CustomSchema:
    """What the plugins that are enabled in a project add, by name."""

    types: Mapping[str, FieldType] = field(factory=dict)
    operators: Mapping[str, FilterOperator] = field(factory=dict)
    aggregates: Mapping[str, AggregateFunction] = field(factory=dict)


NOTHING_CUSTOM = CustomSchema()


def parts_of(sql: str) -> list[tuple[str, str]]:
    """Returns the parts of an SQL template: texts, each with the name of the placeholder after it, which is empty for the last one."""
    found, place = [], 0
    for placeholder in _PLACEHOLDER.finditer(sql):
        found.append((sql[place : placeholder.start()], placeholder[1]))
        place = placeholder.end()
    return [*found, (sql[place:], "")]


def check_field_type(name: Any, type: Any) -> None:
    """Raises ValueError if a plugin cannot add a field type."""
    if not isinstance(type, FieldType):
        raise ValueError(f"it must be a FieldType, not {type.__class__.__name__}")
    if not isinstance(name, str) or not _NAME.fullmatch(name) or type.name != name:
        raise ValueError("the name must consist of lower-case letters, digits and underscores, and be that of the FieldType")
    for datatype, column in type.datatypes.items():
        if not isinstance(datatype, str) or not _DATATYPE.fullmatch(datatype):
            raise ValueError(f"the name of the datatype {datatype!r} must consist of capital letters, digits and underscores")
        if not isinstance(column, str) or not _COLUMN.fullmatch(column):
            raise ValueError(f"{column!r} is not the name of a PostgreSQL type")
    for function in (type.parse, type.show):
        if function is not None and not callable(function):
            raise ValueError("parse and show must be functions")


def check_operator(name: Any, operator: Any) -> None:
    """Raises ValueError if a plugin cannot add a filter operator."""
    if not isinstance(operator, FilterOperator):
        raise ValueError(f"it must be a FilterOperator, not {type(operator).__name__}")
    _check_template(name, operator.sql, operator.families, {"column", "value"})
    if not callable(operator.value):
        raise ValueError("value must be a function")


def check_aggregate(name: Any, function: Any) -> None:
    """Raises ValueError if a plugin cannot add an aggregate function."""
    if not isinstance(function, AggregateFunction):
        raise ValueError(f"it must be an AggregateFunction, not {type(function).__name__}")
    _check_template(name, function.sql, function.families, {"column"}, name_pattern=_FUNCTION)
    if function.show is not None and not callable(function.show):
        raise ValueError("show must be a function")


_FUNCTION = re.compile(r"[a-z][A-Za-z0-9_]{0,39}")


def _check_template(name: Any, sql: Any, families: Any, known: set[str], name_pattern: re.Pattern[str] = _NAME) -> None:
    if not isinstance(name, str) or not name_pattern.fullmatch(name):
        raise ValueError("the name must begin with a lower-case letter and consist of letters, digits and underscores")
    if not isinstance(sql, str) or ";" in sql or "--" in sql or "\x00" in sql:
        raise ValueError("sql must be an expression, without ; and comments")
    named = {placeholder for _, placeholder in parts_of(sql) if placeholder}
    if "column" not in named or named - known:
        raise ValueError(f"sql must have {{column}}, and no other placeholders than {', '.join(sorted(known))}")
    if not isinstance(families, (tuple, list)) or not families or set(families) - set(FAMILIES):
        raise ValueError(f"families must be a tuple of {', '.join(FAMILIES)}")
