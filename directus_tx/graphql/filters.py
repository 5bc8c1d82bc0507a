"""Converts the values of arguments to conditions, orders and payloads.

A filter is a tree of `and` and `or`. The conditions of a query are a flat chain in which AND binds tighter than OR, so the tree is
converted to a disjunction of conjunctions.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import evolve

from directus_tx.config import LimitSettings
from directus_tx.errors import InvalidRequest
from directus_tx.graphql.catalog import Catalog
from directus_tx.query import Condition, Sort

Conjunction = tuple[Condition, ...]
Value = Mapping[str, Any]

_TRUE: tuple[Conjunction, ...] = ((),)


def conditions_of(catalog: Catalog, type: str, value: Value | None, limits: LimitSettings) -> tuple[Condition, ...]:
    """Returns the conditions of a filter of a type. Raises InvalidRequest if a value is null, or if the filter has more than
    limits.max_conditions conditions when it is written as a list of alternatives."""
    if not value:
        return ()
    found: list[Condition] = []
    for conjunction in _alternatives(catalog, type, value, (), limits):
        if not conjunction:
            # One of the alternatives always holds.
            return ()
        first, *rest = conjunction
        found.append(evolve(first, logical="or") if found else first)
        found += rest
    return tuple(found)


def _alternatives(
    catalog: Catalog, type: str, value: Value, path: tuple[str, ...], limits: LimitSettings
) -> tuple[Conjunction, ...]:
    """Returns the conjunctions of which one must hold."""
    if len(path) > limits.max_depth:
        raise InvalidRequest(f"Filters may follow up to {limits.max_depth} relations (limits.max_depth).")
    found = _TRUE
    for name, wanted in value.items():
        if name in ("and", "or"):
            parts = [_alternatives(catalog, type, each, path, limits) for each in wanted or () if each is not None]
            if name == "or":
                found = _both(found, tuple([each for part in parts for each in part]) or _TRUE, limits)
            else:
                for part in parts:
                    found = _both(found, part, limits)
            continue
        asked = catalog.filters[type][name]
        if wanted is None:
            raise InvalidRequest(f'The value of "{name}" in a filter is null.')
        here = (*path, asked.field)
        if asked.target:
            found = _both(found, _alternatives(catalog, asked.target, wanted, here, limits), limits)
        else:
            found = _both(found, ((Condition(here, asked.operator, _text(wanted)),),), limits)
    return found


def _both(first: tuple[Conjunction, ...], second: tuple[Conjunction, ...], limits: LimitSettings) -> tuple[Conjunction, ...]:
    """Returns the alternatives of two filters that must both hold."""
    number = sum(map(len, first)) * len(second) + sum(map(len, second)) * len(first)
    if number > limits.max_conditions or len(first) * len(second) > max(limits.max_conditions, 1):
        text = f"A filter may have up to {limits.max_conditions} conditions when it is written as a list of alternatives"
        raise InvalidRequest(f"{text} (limits.max_conditions).")
    return tuple([(*one, *other) for one in first for other in second])


def _text(value: Any) -> str:
    """Returns a value of a filter as the text that a query string would have."""
    if isinstance(value, bool):
        return "1" if value else "0"
    return value if isinstance(value, str) else repr(value) if isinstance(value, float) else str(value)


def sorts_of(catalog: Catalog, type: str, values: Sequence[str] | None) -> tuple[Sort, ...]:
    """Returns the orders of a list, given by the values of a type of orders."""
    return tuple([catalog.sorts[type][each] for each in values or ()])


def payload_of(catalog: Catalog, type: str, value: Value) -> dict[str, Any]:
    """Returns the payload of an item, with the names of the API."""
    found: dict[str, Any] = {}
    for name, given in value.items():
        member = catalog.inputs[type][name]
        if member.target and given is not None:
            if member.listed:
                found[member.name] = [payload_of(catalog, member.target, each) for each in given]
            else:
                found[member.name] = payload_of(catalog, member.target, given)
        else:
            found[member.name] = given
    return found
