"""Parses a filter to conditions."""

from collections.abc import Iterable, Mapping
from typing import Any

from directus_tx.errors import InvalidRequest, UnknownOperator
from directus_tx.query import Condition
from directus_tx.schema.numbers import whole_number


def conditions_of(filter: Any) -> Iterable[Condition]:
    """Yields the conditions of a filter, in the order of its parameters. *filter* are objects, whose values are texts, or objects that
    are lists: their keys are numbers. Raises InvalidRequest, and UnknownOperator if there is a field without an operator."""
    if filter is None or filter == "":
        return
    if not isinstance(filter, dict):
        raise InvalidRequest('A filter must name a field in brackets: "filter[field][operator]=value".')
    for field, wanted in filter.items():
        path = tuple(field.split("."))
        if not isinstance(wanted, dict):
            yield Condition(path, "eq", wanted)
        elif wanted and all(whole_number(key) is not None for key in wanted):
            # Several conditions on one field. Each can have its `logical`.
            for member in wanted.values():
                yield from _operators(path, member if isinstance(member, dict) else {"eq": member})
        else:
            yield from _operators(path, wanted)


def _operators(path: tuple[str, ...], wanted: Mapping[str, Any]) -> Iterable[Condition]:
    logical = str(wanted.get("logical", "and")).lower()
    operators = [name for name in wanted if name != "logical"]
    if not operators:
        raise UnknownOperator(f'The filter on "{".".join(path)}" has no operator.')
    for name in operators:
        yield Condition(path, name, _value(wanted[name]), "or" if logical == "or" else "and")


def _value(value: Any) -> str | tuple[str, ...]:
    if isinstance(value, str):
        return value
    if not all(isinstance(member, str) for member in value.values()):
        raise InvalidRequest("The value of a filter must be a text or a list of texts.")
    return tuple(value.values())
