"""Makes conditions of a query of a filter: `compile` makes SQL of them, together with the permissions of the caller."""

from collections.abc import Callable, Mapping

from attrs import frozen

from directus_tx.compile.operators import escaped
from directus_tx.items.changes import Key
from directus_tx.query import Combination, Condition
from directus_tx.schema.numbers import whole_number
from directus_tx.scim.dialects import Dialect
from directus_tx.scim.documents import resolve
from directus_tx.scim.errors import InvalidFilter
from directus_tx.scim.filters import Comparison, Filter, Group, Path, Value, Values
from directus_tx.scim.schemas import ResourceType

EVERYTHING = Combination("all", ())
NOTHING = Combination("any", ())

_ORDERS = {"gt": "gt", "ge": "gte", "lt": "lt", "le": "lte"}
Compare = Callable[[str, Value], Condition | Combination]
"""Returns the condition of a comparison with an operator and a value."""


@frozen
class Filterable:
    """How an attribute is compared. `sort` is the field that lists are sorted by, None if they are not."""

    compare: Compare
    sort: str | None = None


def text_field(*path: str) -> Filterable:
    """Returns how an attribute is compared that is a text field: that of a path, split at its dots. Case does not matter."""

    def compare(operator: str, value: Value) -> Condition | Combination:
        return compare_text(path, operator, value)

    return Filterable(compare, path[0] if len(path) == 1 else None)


def compare_text(path: tuple[str, ...], operator: str, value: Value) -> Condition | Combination:
    """Returns the condition of a comparison of a text field. Raises InvalidFilter for a value that is no text."""
    if operator == "pr":
        return Condition(path, "nempty", "")
    if value is None and operator in ("eq", "ne"):
        return Condition(path, "empty" if operator == "eq" else "nempty", "")
    if not isinstance(value, str):
        if operator not in ("eq", "ne") or isinstance(value, bool) or value is None:
            raise InvalidFilter(f'"{path[-1]}" is compared with texts.')
        # A text without quotes that looks like a number.
        value = str(value)
    if operator == "eq":
        return Condition(path, "eq", value)
    if operator == "ne":
        return Combination("none", (Condition(path, "eq", value),))
    if operator in _ORDERS:
        return Condition(path, _ORDERS[operator], value)
    if not value:
        return Condition(path, "nnull", "")
    if operator == "co":
        return Condition(path, "contains", value)
    return Condition(path, "rlike", f"{escaped(value)}%" if operator == "sw" else f"%{escaped(value)}")


def id_of(collection: str, key: Key, external_id: str | None) -> str:
    """Returns the id of a resource: the external id of the user or role, or a text with its key if it has none."""
    return external_id or f"{collection}:{key}"


def key_in(collection: str, id: str) -> int | None:
    """Returns the key in the id of a resource without an external id, None for other ids."""
    prefix, _, key = id.partition(":")
    return whole_number(key) if prefix == collection else None


def has_id(collection: str, id: str) -> Combination:
    """Returns the condition that an item is the resource with an id."""
    key = key_in(collection, id)
    if key is None:
        return Combination("all", (Condition(("external_id",), "eq", id),))
    return Combination("all", (Condition(("id",), "eq", str(key)), Condition(("external_id",), "empty", "")))


def id_field(collection: str, *path: str) -> Filterable:
    """Returns how the id of a resource is compared, or that of a related one, to which *path* leads."""

    def compare(operator: str, value: Value) -> Condition | Combination:
        if operator == "pr" and not path:
            return EVERYTHING
        key = key_in(collection, value) if isinstance(value, str) else None
        if key is None or operator not in ("eq", "ne"):
            return compare_text((*path, "external_id"), operator, value)
        found: Condition | Combination
        found = Condition((*path, "id"), "eq", str(key)) if path else has_id(collection, str(value))
        return found if operator == "eq" else Combination("none", (found,))

    return Filterable(compare, None if path else "external_id")


def number_field(name: str) -> Filterable:
    """Returns how an attribute is compared that is a number field."""

    def compare(operator: str, value: Value) -> Condition | Combination:
        if operator == "pr":
            return EVERYTHING
        if operator not in ("eq", "ne", *_ORDERS) or isinstance(value, bool) or value is None:
            raise InvalidFilter(f'"{operator}" does not apply to a number.')
        if operator == "ne":
            return Combination("none", (Condition((name,), "eq", str(value)),))
        return Condition((name,), _ORDERS.get(operator, "eq"), str(value))

    return Filterable(compare, name)


def constant(value: str | bool) -> Filterable:
    """Returns how an attribute is compared that has the same value in every resource."""

    def compare(operator: str, wanted: Value) -> Condition | Combination:
        left, right = str(value).lower(), str(wanted).lower()
        results = {
            "pr": True,
            "eq": left == right,
            "ne": left != right,
            "co": right in left,
            "sw": left.startswith(right),
            "ew": left.endswith(right),
        }
        if operator not in results or (isinstance(value, bool) and operator in ("co", "sw", "ew")):
            raise InvalidFilter(f'"{operator}" does not apply to this attribute.')
        return EVERYTHING if results[operator] else NOTHING

    return Filterable(compare)


def flag(name: str, true: str) -> Filterable:
    """Returns how a boolean attribute is compared that is true where a field has the value *true*."""

    def compare(operator: str, value: Value) -> Condition | Combination:
        if operator == "pr":
            return EVERYTHING
        if isinstance(value, str) and value.lower() in ("true", "false"):
            value = value.lower() == "true"
        if operator not in ("eq", "ne") or not isinstance(value, bool):
            raise InvalidFilter("A boolean attribute is compared with true or false, by eq or ne.")
        holds = Condition((name,), "eq", true)
        return holds if value == (operator == "eq") else Combination("none", (holds,))

    return Filterable(compare, name)


def combined(
    kind: ResourceType, table: Mapping[str, Filterable], filter: Filter, dialect: Dialect, within: Path | None = None
) -> Condition | Combination:
    """Returns the condition of a filter. *table* has the attributes that can be compared, by their names in lower case. *within*:
    the attribute whose values a value filter is about. Raises InvalidFilter."""
    if isinstance(filter, Group):
        return Combination(filter.kind, tuple([combined(kind, table, each, dialect, within) for each in filter.members]))
    if isinstance(filter, Values):
        if within is not None:
            raise InvalidFilter("A value filter cannot contain another one.")
        return combined(kind, table, filter.filter, dialect, filter.path)
    return _compared(kind, table, filter, dialect, within)


def _compared(
    kind: ResourceType, table: Mapping[str, Filterable], found: Comparison, dialect: Dialect, within: Path | None
) -> Condition | Combination:
    if not dialect.standard and found.operator != "eq":
        raise InvalidFilter(f'Filters compare with eq, not with "{found.operator}", unless Accept names application/scim+json.')
    path = found.path if within is None else Path(within.schema, (*within.names, *found.path.names))
    return filterable(kind, table, path).compare(found.operator, found.value)


def filterable(kind: ResourceType, table: Mapping[str, Filterable], path: Path) -> Filterable:
    """Returns how an attribute is compared. Raises InvalidFilter if it does not exist or cannot be compared."""
    extension, attribute, _ = resolve(kind, path)
    name = ".".join(path.names).lower()
    if extension is None and name in table:
        return table[name]
    assert attribute is not None
    raise InvalidFilter(f'Filters cannot compare "{path}": use one of {", ".join(sorted(table))}.')


def sort_field(kind: ResourceType, table: Mapping[str, Filterable], path: Path) -> str:
    """Returns the field that a list is sorted by. Raises InvalidFilter if it cannot be sorted by the attribute."""
    found = filterable(kind, table, path).sort
    if found is None:
        raise InvalidFilter(f'Lists cannot be sorted by "{path}".')
    return found
