"""The table of filter operators. To add an operator, add an entry to OPERATORS.

A condition must never raise an error that depends on the contents of a row: PostgreSQL may evaluate it for rows that the caller may not
read before it evaluates the caller's permissions. So columns are compared as they are, or as text, which every type can be cast to, and
values are bound in a type that PostgreSQL compares with the column without converting the column. tests/live/test_totality.py tests every
operator with every type.
"""

from collections.abc import Callable
from typing import Any

from attrs import frozen

from directus_tx.access.view import text_of
from directus_tx.db.sql import SQL, Bind, Clause, Composable, column, negation
from directus_tx.errors import InvalidPayload, InvalidRequest
from directus_tx.query import BindValues, Folded, TypedList
from directus_tx.schema.comparing import NO_MATCH, asked
from directus_tx.schema.datatypes import base_type, family, is_float
from directus_tx.schema.model import Field
from directus_tx.sealing import Keys


def is_text(field: Field) -> bool:
    """Whether the column holds text, which is compared and sorted without case."""
    return family(field) == "text"


def is_number(field: Field) -> bool:
    return family(field) in ("integer", "number")


def compares_as_text(field: Field) -> bool:
    """Whether values are compared for equality as text: text columns, and types without an equality operator."""
    return is_text(field) or (family(field) == "other" and not is_native(field))


def is_native(field: Field) -> bool:
    """Whether the column has a type without a datatype, whose values PostgreSQL compares by the operators of the type."""
    return field.native is not None and field.native.equatable


def check_unsealed(field: Field) -> None:
    """Raises InvalidPayload if the values of the field are sealed: what is stored can neither be sorted nor searched."""
    if field.sealed is not None:
        raise InvalidPayload(f'The values of "{field.field}" are encrypted: they have no order and no parts.')


def has_order(field: Field) -> bool:
    """Whether PostgreSQL has an order of the values of the column."""
    return family(field) != "other" or (field.native is not None and field.native.ordered)


def sorted_by(alias: str, field: Field) -> Composable:
    """Returns the expression by which the column is sorted. Raises InvalidPayload if its values have no order."""
    check_order(field)
    return base_column(alias, field) if family(field) == "other" else folded(alias, field)


def check_comparison(field: Field) -> None:
    """Raises InvalidPayload if values of the column cannot be compared with less and greater."""
    check_order(field)
    if family(field) == "other" and not is_native(field):
        raise InvalidPayload(f'The values of "{field.field}" ({field.column_type}) can only be compared for equality.')


def check_order(field: Field) -> None:
    """Raises InvalidPayload if the values of the column have no order."""
    check_unsealed(field)
    if not has_order(field):
        raise InvalidPayload(f'The values of "{field.field}" ({field.column_type}) have no order.')


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
    """Returns the type that values are cast to for comparison: a wide type that neither truncates nor rounds."""
    if is_float(field):
        return "double precision"
    return "time with time zone" if base_type(field.column_type) == "time with time zone" else _COMPARISON[family(field)]


def folded(alias: str, field: Field) -> Composable:
    """Returns the expression by which the column is compared and sorted: text without case, types without an equality operator as text."""
    if is_text(field):
        return SQL("lower({})").format(text_of(alias, field))
    return text_of(alias, field) if compares_as_text(field) else base_column(alias, field)


def base_column(alias: str, field: Field) -> Composable:
    """Returns the column, of the type below its domain if its type has no datatype. PostgreSQL does not find the operators and functions
    of enums for their domains."""
    name = column(alias, field.field)
    if field.native is None or field.domain is None:
        return name
    return SQL("{}::" + field.native.name.replace("%", "%%")).format(name)


def null_test(alias: str, field: Field, negated: bool = False) -> Composable:
    """Returns the condition that the column is, or is not, NULL."""
    return null_test_of(column(alias, field.field), field, negated)


def null_test_of(value: Composable, field: Field, negated: bool = False) -> Composable:
    """Returns the condition that an expression over the column of a field is, or is not, NULL. IS NULL is true of a composite value whose
    attributes are NULL."""
    if field.native is not None:
        return SQL("{} IS DISTINCT FROM NULL" if negated else "{} IS NOT DISTINCT FROM NULL").format(value)
    return SQL("{} IS NOT NULL" if negated else "{} IS NULL").format(value)


def bound(field: Field) -> str:
    """Returns the placeholder of a value to compare with `folded`."""
    if not is_text(field):
        return "%s"
    # Trailing blanks of columns of type character do not count.
    return "lower(%s::bpchar::text)" if is_padded(field) else "lower(%s)"


def is_padded(field: Field) -> bool:
    """Whether values of the column are padded with blanks."""
    return base_type(field.column_type) in ("character", "bpchar")


def grouped(alias: str, field: Field) -> Composable:
    """Returns the expression by which the column is grouped, which needs an order."""
    return folded(alias, field) if has_order(field) else text_of(alias, field)


def as_text(alias: str, field: Field) -> Composable:
    """Returns the column as lower-case text, for searches."""
    return SQL("lower({})").format(text_of(alias, field))


def escaped(text: str) -> str:
    """Returns a LIKE pattern that matches the text literally."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


MAX_WILDCARDS = 100
"""PostgreSQL's LIKE recurses at each "%", and its stack is limited."""


def valid_pattern(text: str) -> str:
    """Returns a LIKE pattern that cannot raise an error. A backslash at the end, which escapes nothing, is doubled: PostgreSQL would raise
    an error if a row matched up to there. Raises InvalidRequest if the pattern has too many wildcards."""
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
    """Whether the keys in two columns can be compared as they are, in PostgreSQL and in Python. Other keys are compared as text: a number
    may not fit the other column or be NaN, and some types have no equality."""
    here, there = base_type(left.column_type), base_type(right.column_type)
    return here in _KEY_KINDS and there in _KEY_KINDS and (_KEY_KINDS[here] or here) == (_KEY_KINDS[there] or there)


def key_text(alias: str, field: Field) -> Composable:
    """Returns a key column as text, equal for 1 and 1.00."""
    if base_type(field.column_type) == "numeric":
        return SQL("trim_scale({})::text").format(column(alias, field.field))
    return SQL("({})::text").format(text_of(alias, field))


def equal_keys(left: str, left_field: Field, right: str, right_field: Field) -> Composable:
    """Returns the condition that two keys, in tables with the aliases *left* and *right*, are equal."""
    if (
        same_kind_of_key(left_field, right_field)
        or base_type(left_field.column_type) == base_type(right_field.column_type) == "numeric"
    ):
        return SQL("{} = {}").format(column(right, right_field.field), column(left, left_field.field))
    return SQL("{} = {}").format(key_text(right, right_field), key_text(left, left_field))


def key_among(alias: str, key: Field) -> Composable:
    """Returns the condition that the key is in the bound array, whose members `schema.comparing.member` makes."""
    if family(key) == "other":
        return SQL("{} = ANY(%s::text[])").format(key_text(alias, key))
    return SQL("{} = ANY(%s::" + comparison_type(key) + "[])").format(column(alias, key.field))


# --- values: from a condition's text to what is bound

Value = Callable[[BindValues], str | tuple[str, ...] | None]


def one(value: str | tuple[str, ...] | None) -> str:
    return value if isinstance(value, str) else (value[0] if value else "")


def several(value: str | tuple[str, ...] | None) -> list[str]:
    """Returns the members of a list given as csv or as an array; none for an empty text."""
    if isinstance(value, tuple):
        return [part.strip() for part in value]
    return [part.strip() for part in value.split(",")] if value else []


def scalar_bind(field: Field, value: Value, pick: Callable[[Any], str | None] = one) -> Bind:
    """Returns a bind of the value to compare the column with, or of NULL, which equals nothing, if the text is not a value of the type."""

    def bind(values: BindValues) -> Any:
        text = pick(value(values))
        found = NO_MATCH if text is None else asked(field, text, values.now)
        return None if found is NO_MATCH else found

    return bind


def list_bind(field: Field, value: Value) -> Bind:
    """Returns a bind of the values for `listed`. Texts that are no values of the type are left out."""

    def bind(values: BindValues) -> list[Any] | TypedList:
        found = [asked(field, text, values.now) for text in several(value(values))]
        found = [each for each in found if each is not NO_MATCH and not _too_large(field, each)]
        if _in_list(field):
            return TypedList(found)
        if is_text(field):
            return [Folded(each, padded=is_padded(field)) for each in found]
        return found

    return bind


def _too_large(field: Field, value: Any) -> bool:
    """Whether an array of the column's type cannot hold a number."""
    return family(field) == "integer" and not (isinstance(value, int) and -(2**63) <= value < 2**63)


def _in_list(field: Field) -> bool:
    """Whether several values are bound as a list of typed values."""
    return field.native is not None and (field.native.equatable or not field.native.named)


def listed(field: Field, negated: bool = False) -> str:
    """Returns the condition that `folded`, for which "{}" stands, is or is not one of the values of `list_bind`."""
    if _in_list(field):
        # Not all types have an operator <>.
        return "NOT ({} IN %s)" if negated else "{} IN %s"
    return ("{} <> ALL" if negated else "{} = ANY") + "(%s::" + comparison_type(field) + "[])"


def pattern_bind(value: Value, make: Callable[[str], str]) -> Bind:
    return lambda values: storable(make(one(value(values))))


def storable(text: str) -> str | None:
    """Returns the text, or None, which matches nothing, if PostgreSQL cannot store it."""
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
        if sign != "=":
            check_comparison(field)
        sql = SQL("{} " + sign + " " + bound(field)).format(folded(alias, field))
        return Clause(sql, (scalar_bind(field, value),))

    return operator


def _neq(alias: str, field: Field, value: Value) -> Clause:
    # A text that is not a value of the type is bound as NULL and differs from every value, hence IS DISTINCT FROM. NULL columns
    # do not match.
    sql = SQL("({} IS DISTINCT FROM " + bound(field) + " AND {})")
    sql = sql.format(folded(alias, field), null_test(alias, field, negated=True))  # type: ignore[assignment]
    return Clause(sql, (scalar_bind(field, value),))


def _in(alias: str, field: Field, value: Value) -> Clause:
    return Clause(SQL(listed(field)).format(folded(alias, field)), (list_bind(field, value),))


def one_of(alias: str, field: Field, value: Value) -> Clause:
    """Returns the condition that the column is one of several values. Unlike the operator `in`, values that are not values of the column's
    type match nothing."""
    if field.native is None:
        return _in(alias, field, value)
    return Clause(
        SQL("{} = ANY(%s::text[])").format(text_of(alias, field)),
        (lambda values: [text for text in several(value(values)) if "\x00" not in text],),
    )


def _nin(alias: str, field: Field, value: Value) -> Clause:
    sql = SQL("(" + listed(field, negated=True) + " AND {})")
    return Clause(sql.format(folded(alias, field), null_test(alias, field, negated=True)), (list_bind(field, value),))


def between(negated: bool) -> ColumnOperator:
    def operator(alias: str, field: Field, value: Value) -> Clause:
        check_comparison(field)
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
    return Clause(null_test(alias, field))


def is_not_null(alias: str, field: Field, value: Value) -> Clause:
    return Clause(null_test(alias, field, negated=True))


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


# --- operators on a sealed field


def apply_sealed(alias: str, field: Field, name: str, value: Value, keys: Keys | None) -> Clause:
    """Compiles a condition on a sealed field: whether there is a value, or whether it is equal to others, by its fingerprint. Unlike other
    texts, the values are compared with case. *keys* are those of the project. Raises InvalidPayload for other conditions."""
    sealing, sign = field.sealed, SIGNS.get(name, name)
    if sign in ("null", "nnull", "empty", "nempty"):
        return OPERATORS[sign].apply(alias, field, value)
    if sealing is None or sealing.fingerprint is None or keys is None or sign not in ("eq", "neq", "in", "nin"):
        raise InvalidPayload(f'The values of "{field.field}" are encrypted: "{name}" does not apply to them.')
    pick = (lambda found: [one(found)]) if sign in ("eq", "neq") else several
    mark, text = column(alias, sealing.fingerprint), column(alias, field.field)
    # Values that are not sealed have no fingerprint.
    binds = (
        lambda values: sealing.marks(keys, pick(value(values))),
        lambda values: sealing.unmarked(pick(value(values))),
    )
    if sign in ("eq", "in"):
        return Clause(SQL("({0} = ANY(%s::text[]) OR ({0} IS NULL AND {1} = ANY(%s::text[])))").format(mark, text), binds)
    sql = SQL("({1} IS NOT NULL AND NOT coalesce({0} = ANY(%s::text[]), {1} = ANY(%s::text[])))").format(mark, text)
    return Clause(sql, binds)


@frozen
class Operator:
    """An operator: the function that compiles it, and whether it is ignored if the value is empty."""

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
SIGNS = {"=": "eq", "!=": "neq", "<>": "neq", "<": "lt", "<=": "lte", ">": "gt", ">=": "gte"}
"""Other names of operators."""

OPERATORS |= {sign: OPERATORS[word] for sign, word in SIGNS.items()}
