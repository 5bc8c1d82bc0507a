"""The `meta` part of answers: names, counts and pages."""

from collections.abc import Mapping
from typing import Any

from attrs import evolve

from directus_tx.query import Query

PAGING = ("limit", "offset", "page", "page_count")
NAMES = ("collection", "type", "result_count", "total_count", "status_count", "filter_count", "page")
"""The names that `meta=*` stands for."""

ALIASES = {"status": "status_count", "links": "page", "limit": "page", "offset": "page", "page_count": "page"}


MAX_OFFSET = 2**62
"""A limit that means all rows. PostgreSQL adds the offset to it, so it must not be the largest bigint."""


def paging(query: Query, default_limit: int) -> tuple[int | None, int]:
    """Returns the limit (None for all) and the offset of a query."""
    limit = default_limit if query.limit is None else query.limit
    if limit < 0:
        return (1 if query.single else None), 0
    if query.offset is not None:
        offset = max(query.offset, 0)
    elif query.limit is not None and query.page is not None:
        offset = min((max(query.page, 1) - 1) * limit, MAX_OFFSET)
    else:
        offset = 0
    return (1 if query.single else limit), offset


def page_meta(query: Query, default_limit: int, filter_count: int) -> Mapping[str, int]:
    """Returns limit, offset, page and page_count. A page past the end is reported as the last page."""
    limit, offset = paging(query, default_limit)
    if query.limit is None or limit is None:
        limit = filter_count if limit is None else min(limit, filter_count)
    pages = max(-(-filter_count // limit), 1) if limit else 1
    page = min(offset // limit + 1, pages) if limit else 1
    if offset >= filter_count:
        offset = (page - 1) * limit
    return {"limit": limit, "offset": offset, "page": page, "page_count": pages}


def meta_names(query: Query) -> frozenset[str]:
    """Returns the names that the query asks for, with aliases replaced."""
    if query.meta is None:
        return frozenset()
    if query.cursor is not None:
        # A page behind a cursor has no number.
        return meta_names(evolve(query, cursor=None)) - {"page"}
    return frozenset(NAMES) if "*" in query.meta else frozenset(ALIASES.get(name, name) for name in query.meta)


def chosen_meta(query: Query, meta: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns the parts of *meta* that the query asks for; None if it asks for no meta."""
    if query.meta is None:
        return None
    names = meta_names(query)
    return {name: value for name, value in meta.items() if name in names}


def item_meta(query: Query, collection: str) -> dict[str, Any] | None:
    """Returns the meta of a single item."""
    return chosen_meta(query, {"collection": collection, "type": "item"})


def list_meta(
    query: Query, collection: str, shown: int, counts: Mapping[str, Any] | None = None, default_limit: int = 0
) -> dict[str, Any] | None:
    """Returns the meta of a list. *shown* is the number of items in it; *counts* are the counts that the query asks for, by name. The
    endpoint adds the links."""
    counts = counts or {}
    # In the same order, however the counts have been found.
    every = {"collection": collection, "type": "collection", "result_count": shown} | {n: counts[n] for n in NAMES if n in counts}
    found = chosen_meta(query, every)
    if found is not None and "page" in meta_names(query) and "filter_count" in counts:
        found |= page_meta(query, default_limit, counts["filter_count"])
    return found
