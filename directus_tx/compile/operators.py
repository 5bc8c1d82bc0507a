"""The table of filter operators: what each does to a column, and the value that it binds.

Adding an operator is adding one entry to OPERATORS. No condition may fail because of a row's content: PostgreSQL may ask it of rows that
the caller may not see, before it asks whether the caller may. So columns are compared as they are, or as text, to which every type can be
cast, and values are bound as what PostgreSQL compares with the column without a conversion of the column. tests/live/test_totality.py
asks every operator of every type.
"""

from collections.abc import Callable
from typing import Any

from attrs import frozen

from directus_tx.access.view import text_of
from directus_tx.db.sql import SQL, Bind, Clause, Composable, column, negation
from directus_tx.errors import InvalidPayload, InvalidRequest
from directus_tx.query import BindValues
from directus_tx.schema.datatypes import base_type, family, is_float
from directus_tx.schema.model import Field
from directus_tx.schema.types import NO_MATCH, comparable, member


def is_text(field: Field) -> bool:
    """Whether the field's column holds text, which compares and sorts without case."""
    return family(field) == "text"


def is_number(field: Field) -> bool:
    return family(field) in ("integer", "number")


def as_folded_text(field: Field) -> bool:
    """Whether the field's column compares and sorts as lower-case text: because it holds text, or has no order of its own."""
    return family(field) in ("text", "other")


_COMPARISON = {
    "text": "text",
    "integer": "bigint",
    "number": "numeric",
    "boolean": "boolean",
    "date": "date",
    "time": "time",
    "datetime": "timestamp",
    "binary": "bytea",
    "uuid": "uuid",
    "other": "text",
}


def comparison_type(field: Field) -> str:
    """What a value to compare with the field is cast to: a wide type, which neither cuts nor rounds."""
    return "double precision" if is_float(field) else _COMPARISON[family(field)]


def folded(alias: str, field: Field) -> Composable:
    """The column as it compares and sorts: text without case, and as text whatever has no order of its own."""
    return SQL("lower({})").format(text_of(alias, field)) if as_folded_text(field) else column(alias, field.field)


def bound(field: Field) -> str:
    """The placeholder of a value that compares with `folded`."""
    return "lower(%s)" if as_folded_text(field) else "%s"


def as_text(alias: str, field: Field) -> Composable:
    """The column as lower-case text, to look for a part in."""
    return SQL("lower({})").format(text_of(alias, field))


def escaped(text: str) -> str:
    """Text as a LIKE pattern that means just itself."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


MAX_WILDCARDS = 100
"""PostgreSQL goes one step deeper into its stack at each "%" that a row's text matches."""


def valid_pattern(text: str) -> str:
    """Text as a LIKE pattern that no row's text makes fail: a backslash that escapes nothing, at the end, means itself. PostgreSQL
    would raise an error where a row matches up to there. Raises InvalidRequest where it has too many wildcards."""
    if text.count("%") > MAX_WILDCARDS:
        raise InvalidRequest(f'A pattern may have up to {MAX_WILDCARDS} wildcards ("%").')
    backslashes = len(text) - len(text.rstrip("\\"))
    return text + "\\" if backslashes % 2 else text


# --- keys of items

_KEY_KINDS = {
    **dict.fromkeys(("smallint", "integer", "bigint"), "integer"),
    **dict.fromkeys(("character varying", "text"), "text"),
    **dict.fromkeys(("boolean", "date", "timestamp without time zone", "time without time zone", "uuid", "bytea")),
}


def same_kind_of_key(left: Field, right: Field) -> bool:
    """Whether keys in two columns are equal where their values are the same, to PostgreSQL and in Python. Others meet as text: numbers
    may be none of the other column, or NaN; a type may have no equality."""
    here, there = base_type(left.column_type), base_type(right.column_type)
    return here in _KEY_KINDS and there in _KEY_KINDS and (_KEY_KINDS[here] or here) == (_KEY_KINDS[there] or there)


def key_text(alias: str, field: Field) -> Composable:
    """The column of a key as text, the same for 1 and 1.00."""
    if base_type(field.column_type) == "numeric":
        return SQL("trim_scale({})::text").format(column(alias, field.field))
    return SQL("({})::text").format(text_of(alias, field))


def equal_keys(left: str, left_field: Field, right: str, right_field: Field) -> Composable:
    """Two keys are equal, in columns of the tables called *left* and *right*."""
    if (
        same_kind_of_key(left_field, right_field)
        or base_type(left_field.column_type) == base_type(right_field.column_type) == "numeric"
    ):
        return SQL("{} = {}").format(column(right, right_field.field), column(left, left_field.field))
    return SQL("{} = {}").format(key_text(right, right_field), key_text(left, left_field))


def key_among(alias: str, key: Field) -> Composable:
    """The key is one of those bound, an array of what `schema.types.member` makes of their texts."""
    if family(key) == "other":
        return SQL("{} = ANY(%s::text[])").format(key_text(alias, key))
    return SQL("{} = ANY(%s::" + comparison_type(key) + "[])").format(column(alias, key.field))


# --- values: from a condition's text to what is bound

Value = Callable[[BindValues], str | tuple[str, ...] | None]


def one(value: str | tuple[str, ...] | None) -> str:
    return value if isinstance(value, str) else (value[0] if value else "")


def several(value: str | tuple[str, ...] | None) -> list[str]:
    """The members of a list, sent as csv or as an array; none for an empty text."""
    if isinstance(value, tuple):
        return [part.strip() for part in value]
    return [part.strip() for part in value.split(",")] if value else []


def scalar_bind(field: Field, value: Value, pick: Callable[[Any], str | None] = one) -> Bind:
    """Binds the value to compare a column with; NULL, which nothing equals, where the text can be no such value."""

    def bind(values: BindValues) -> Any:
        text = pick(value(values))
        found = NO_MATCH if text is None else comparable(field, text, values.now)
        return None if found is NO_MATCH else found

    return bind


def list_bind(field: Field, value: Value) -> Bind:
    def bind(values: BindValues) -> list[Any]:
        found = [member(field, text, values.now) for text in several(value(values))]
        return [v.lower() if as_folded_text(field) else v for v in found if v is not NO_MATCH]

    return bind


def pattern_bind(value: Value, make: Callable[[str], str]) -> Bind:
    return lambda values: storable(make(one(value(values))))


def storable(text: str) -> str | None:
    """The text, or None, which nothing is like, where it holds what no text of the database can."""
    return None if "\x00" in text else text


def _first(value: str | tuple[str, ...] | None) -> str | None:
    parts = several(value)
    return parts[0] if len(parts) > 1 else None


def _last(value: str | tuple[str, ...] | None) -> str | None:
    parts = several(value)
    return parts[-1] if len(parts) > 1 else None


# --- operators on a column

ColumnOperator = Callable[[str, Field, Value], Clause]


def comparing(sign: str) -> ColumnOperator:
    def operator(alias: str, field: Field, value: Value) -> Clause:
        sql = SQL("{} " + sign + " " + bound(field)).format(folded(alias, field))
        return Clause(sql, (scalar_bind(field, value),))

    return operator


def _neq(alias: str, field: Field, value: Value) -> Clause:
    # What cannot equal any value differs from all; IS DISTINCT FROM makes a NULL bind mean so. Nulls stay out.
    sql = SQL("({} IS DISTINCT FROM " + bound(field) + " AND {} IS NOT NULL)")
    sql = sql.format(folded(alias, field), column(alias, field.field))  # type: ignore[assignment]
    return Clause(sql, (scalar_bind(field, value),))


def _in(alias: str, field: Field, value: Value) -> Clause:
    sql = SQL("{} = ANY(%s::" + comparison_type(field) + "[])").format(folded(alias, field))
    return Clause(sql, (list_bind(field, value),))


def _nin(alias: str, field: Field, value: Value) -> Clause:
    sql = SQL("({} <> ALL(%s::" + comparison_type(field) + "[]) AND {} IS NOT NULL)")
    return Clause(sql.format(folded(alias, field), column(alias, field.field)), (list_bind(field, value),))


def between(negated: bool) -> ColumnOperator:
    def operator(alias: str, field: Field, value: Value) -> Clause:
        between = "{} NOT BETWEEN " if negated else "{} BETWEEN "
        sql = SQL(between + bound(field) + " AND " + bound(field)).format(folded(alias, field))
        return Clause(sql, (scalar_bind(field, value, _first), scalar_bind(field, value, _last)))

    return operator


def matching(make: Callable[[str], str], negated: bool) -> ColumnOperator:
    def operator(alias: str, field: Field, value: Value) -> Clause:
        sql = SQL("{} " + ("NOT LIKE" if negated else "LIKE") + " lower(%s)").format(as_text(alias, field))
        return Clause(sql, (pattern_bind(value, make),))

    return operator


def _null(alias: str, field: Field, value: Value) -> Clause:
    return Clause(SQL("{} IS NULL").format(column(alias, field.field)))


def is_not_null(alias: str, field: Field, value: Value) -> Clause:
    return Clause(SQL("{} IS NOT NULL").format(column(alias, field.field)))


def _empty(alias: str, field: Field, value: Value) -> Clause:
    name = column(alias, field.field)
    if is_text(field):
        return Clause(SQL("({0} IS NULL OR {0} = '')").format(name))
    if is_number(field):
        return Clause(SQL("({0} IS NULL OR {0} = 0)").format(name))
    if family(field) == "boolean":
        return Clause(SQL("{} IS NOT TRUE").format(name))
    return _null(alias, field, value)


def _nempty(alias: str, field: Field, value: Value) -> Clause:
    return negation(_empty(alias, field, value))


def _not_for_columns(alias: str, field: Field, value: Value) -> Clause:
    raise InvalidPayload(f'"{field.field}" is no one-to-many field: has and all do not apply to it.')


@frozen
class Operator:
    """An operator: what it does to a column, and whether an empty text makes it filter nothing."""

    apply: ColumnOperator
    ignores_empty: bool = False


def part_pattern(text: str) -> str:
    return f"%{escaped(text)}%"


CONTAINS = Operator(matching(part_pattern, negated=False), ignores_empty=True)
NCONTAINS = Operator(matching(part_pattern, negated=True), ignores_empty=True)

OPERATORS: dict[str, Operator] = {
    "eq": Operator(comparing("=")),
    "neq": Operator(_neq),
    "lt": Operator(comparing("<")),
    "lte": Operator(comparing("<=")),
    "gt": Operator(comparing(">")),
    "gte": Operator(comparing(">=")),
    "in": Operator(_in),
    "nin": Operator(_nin),
    "between": Operator(between(negated=False)),
    "nbetween": Operator(between(negated=True)),
    "contains": CONTAINS,
    "ncontains": NCONTAINS,
    "like": CONTAINS,
    "nlike": NCONTAINS,
    "rlike": Operator(matching(valid_pattern, negated=False), ignores_empty=True),
    "nrlike": Operator(matching(valid_pattern, negated=True), ignores_empty=True),
    "null": Operator(_null),
    "nnull": Operator(is_not_null),
    "empty": Operator(_empty),
    "nempty": Operator(_nempty),
    "has": Operator(_not_for_columns),
    "all": Operator(_not_for_columns),
}
OPERATORS |= {
    sign: OPERATORS[word]
    for sign, word in {"=": "eq", "!=": "neq", "<>": "neq", "<": "lt", "<=": "lte", ">": "gt", ">=": "gte"}.items()
}
