"""Searches: pages of resources, as a query string or the body of a search asks for them."""

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import frozen

from directus_tx.items.meta import MAX_OFFSET
from directus_tx.query import Sort
from directus_tx.scim.conditions import sort_field
from directus_tx.scim.dialects import Dialect
from directus_tx.scim.documents import Document, shown_attributes
from directus_tx.scim.errors import InvalidValue
from directus_tx.scim.filters import parse_filter, parse_path
from directus_tx.scim.groups import GroupResources
from directus_tx.scim.resources import Resources, Scim
from directus_tx.scim.schemas import LIST
from directus_tx.scim.users import UserResources

USERS, GROUPS = UserResources(), GroupResources()
RESOURCES: Mapping[str, Resources] = {each.kind.endpoint: each for each in (USERS, GROUPS)}

MOST = 1000
"""The maximum size of a page, whatever the setting: lists of more items are not held in memory."""


@frozen
class Search:
    """What is searched for. `start` is the number of the first result, from 1; `start` and `count` are None if they are not
    given."""

    filter: str = ""
    sort_by: str = ""
    descending: bool = False
    start: int | None = None
    count: int | None = None
    attributes: Sequence[str] = ()
    excluded: Sequence[str] = ()


def search_of(values: Mapping[str, Any]) -> Search:
    """Returns the search of a query string, whose values are texts, or of a body. Raises InvalidValue."""
    found = {name.lower(): value for name, value in values.items()}
    order = _text(found, "sortOrder").lower() or "ascending"
    if order not in ("ascending", "descending"):
        raise InvalidValue("sortOrder must be ascending or descending.")
    return Search(
        _text(found, "filter"),
        _text(found, "sortBy"),
        order == "descending",
        _number(found, "startIndex", 1),
        _number(found, "count", 0),
        names(found.get("attributes")),
        names(found.get("excludedattributes")),
    )


def names(value: Any) -> tuple[str, ...]:
    """Returns the names in a list, or in a text that is separated by commas. Raises InvalidValue."""
    if value is None:
        return ()
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, (list, tuple)) or not all(isinstance(part, str) for part in parts):
        raise InvalidValue("attributes and excludedAttributes must be lists of names.")
    return tuple(part.strip() for part in parts if part.strip())


def _text(values: Mapping[str, Any], name: str) -> str:
    value = values.get(name.lower())
    if value is not None and not isinstance(value, str):
        raise InvalidValue(f"{name} must be a text.")
    return (value or "").strip()


def _number(values: Mapping[str, Any], name: str, least: int) -> int | None:
    """Returns a whole number. Smaller numbers count as *least*."""
    value = values.get(name.lower())
    if value is None or value == "":
        return None
    try:
        if isinstance(value, (bool, float)):
            raise ValueError
        return min(max(int(value), least), MAX_OFFSET)
    except (TypeError, ValueError):
        raise InvalidValue(f"{name} must be a whole number.") from None


async def search(resources: Resources, scim: Scim, wanted: Search) -> Document:
    """Returns a page of resources as a list response. Raises InvalidFilter, InvalidValue, TooMany, and the errors of reading."""
    kind, table = resources.kind, resources.filterables(scim.dialect)
    shown = shown_attributes(kind, wanted.attributes, wanted.excluded)
    where = await resources.condition_of(scim, parse_filter(wanted.filter)) if wanted.filter else None
    sort = [Sort(sort_field(kind, table, parse_path(wanted.sort_by)), wanted.descending)] if wanted.sort_by else []
    most = min(scim.max_results, MOST)
    limit = most if wanted.count is None else min(wanted.count, most)
    documents, total = await resources.page(scim, where, sort, (wanted.start or 1) - 1, limit, shown)
    found: Document = {"schemas": [LIST], "totalResults": total}
    found |= _place(scim.dialect, wanted, len(documents))
    found["Resources"] = [shown.of(kind, each) for each in documents]
    return found


def _place(dialect: Dialect, wanted: Search, number: int) -> Document:
    """Returns the place of a page. Directus 8 shows what was asked for."""
    found: Document = {}
    if dialect.standard or wanted.start is not None:
        found["startIndex"] = wanted.start or 1
    if dialect.standard or wanted.count is not None:
        found["itemsPerPage"] = number
    return found
