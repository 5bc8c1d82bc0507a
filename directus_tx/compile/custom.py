"""Filter operators and aggregate functions of plugins, as SQL.

The text of their SQL is that of the plugin; columns are put in as identifiers, and values are bound.
"""

from collections.abc import Callable, Iterator
from typing import Any

from attrs import evolve
from twisted.logger import Logger

from directus_tx.access import Access
from directus_tx.compile.operators import OPERATORS, Operator, Value, base_column, check_unsealed, one, several, storable
from directus_tx.compile.shape import CombinationShape, ConditionShape, ListShape, Narrowing
from directus_tx.db.sql import SQL, Clause, Composable
from directus_tx.errors import ApiError, InternalError, InvalidPayload, InvalidRequest, UnknownOperator
from directus_tx.query import BindValues
from directus_tx.schema.custom import AggregateFunction, FilterOperator, parts_of
from directus_tx.schema.datatypes import family
from directus_tx.schema.model import Field, Snapshot
from directus_tx.suggestions import suggestion

log = Logger()


def operator_of(schema: Snapshot, name: str) -> Operator:
    """Returns a filter operator by name. Raises UnknownOperator."""
    found = OPERATORS.get(name)
    if found is not None:
        return found
    custom = schema.custom.operators.get(name)
    if custom is None:
        known = (*OPERATORS, *schema.custom.operators)
        raise UnknownOperator(f'There is no filter operator "{name}"{suggestion(name, known)}')
    return schema.kept(("operator", name), lambda: Operator(_condition(name, custom)))


def fenced(access: Access, narrowing: Narrowing, *lists: ListShape) -> Access:
    """Returns the access with which the conditions of a list, and of lists of related items, are compiled. If one has an operator that may
    raise errors, PostgreSQL evaluates it only for the rows that the caller may read."""
    custom = access.schema.custom.operators
    if not custom:
        return access
    where = () if narrowing.where is None else _members(narrowing.where)
    conditions = [*narrowing.scope, *narrowing.filter, *where, *(condition for each in lists for condition in each.filter)]
    if any(each.operator in custom and not custom[each.operator].total for each in conditions):
        return evolve(access, fenced=True)
    return access


def _members(where: CombinationShape) -> Iterator[ConditionShape]:
    """Yields the conditions in parentheses."""
    for each in where.members:
        if isinstance(each, CombinationShape):
            yield from _members(each)
        else:
            yield each


def _condition(name: str, operator: FilterOperator) -> Callable[[str, Field, Value], Clause]:
    def condition(alias: str, field: Field, value: Value) -> Clause:
        check_unsealed(field)
        if family(field) not in operator.families:
            raise InvalidPayload(f'"{name}" does not apply to "{field.field}" ({field.column_type}).')

        def bind(values: BindValues) -> Any:
            given = value(values)
            try:
                found = operator.value(several(given) if operator.several else one(given))
            except ValueError as error:
                raise InvalidRequest(f'The value of "{name}" for "{field.field}" is not valid: {error}') from None
            except ApiError:
                raise
            except Exception as error:
                log.error(
                    "the operator {name} of a plugin failed to take a value: {error}", name=name, error=type(error).__name__
                )
                raise InternalError from error
            if isinstance(found, list):
                return [each for each in found if not isinstance(each, str) or "\x00" not in each]
            return storable(found) if isinstance(found, str) else found

        sql = _filled(operator.sql, base_column(alias, field))
        places = sum(placeholder == "value" for _, placeholder in parts_of(operator.sql))
        return Clause(SQL("({})").format(sql), (bind,) * places)

    return condition


def aggregate_of(alias: str, field: Field, name: str, function: AggregateFunction) -> Composable:
    """Returns the expression of an aggregate function over a field. Raises InvalidPayload if it does not apply to the field."""
    check_unsealed(field)
    if family(field) not in function.families:
        raise InvalidPayload(f'"{name}" does not apply to "{field.field}" ({field.column_type}).')
    return _filled(function.sql, base_column(alias, field))


def aggregate_answer(name: str, function: AggregateFunction) -> Callable[[Any], Any] | None:
    """Returns the function that makes what answers have of a result; None if none is needed. If that of the plugin fails, the result is
    shown as it is, and the log names the function."""
    show = function.show
    if show is None:
        return None

    def shown(value: Any) -> Any:
        try:
            return None if value is None else show(value)
        except Exception as error:
            log.error(
                "the aggregate function {name} of a plugin cannot show a result: {error}", name=name, error=type(error).__name__
            )
            return value

    return shown


def _filled(sql: str, column: Composable) -> Composable:
    """Returns the SQL of a template with a column, and "%s" for values. Percent signs are doubled, because values are bound."""
    found: list[Composable] = []
    for text, placeholder in parts_of(sql):
        found.append(SQL(text.replace("%", "%%").replace("{", "{{").replace("}", "}}")).format())
        if placeholder:
            found.append(column if placeholder == "column" else SQL("%s"))
    return SQL("").join(found)
