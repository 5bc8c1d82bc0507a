"""Reads what an operation asks for: the queries of all root fields side by side."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from attrs import evolve, frozen

from directus_tx.context import Context
from directus_tx.errors import InvalidPayload, InvalidRequest
from directus_tx.graphql.catalog import Reads
from directus_tx.graphql.definitions import COLLECTIONS
from directus_tx.graphql.planning import Again, Planned, Reading
from directus_tx.graphql.selecting import Selected
from directus_tx.items import Item, LongList, read_items
from directus_tx.items.batches import together
from directus_tx.items.service import Items
from directus_tx.query import Query
from directus_tx.schema_service import read_collections, read_fields

COUNT_ALL = "count_all"
MAX_SCHEMA_OBJECTS = 50_000
"""The maximum number of collections and fields in an answer. They show each other, so their number grows exponentially with the depth of a
selection."""

FUNCTIONS = frozenset({"count", "countDistinct", "sum", "avg", "min", "max"})


@frozen
class Read:
    """A root field that is ready to be read: its arguments, the query of each of its readings, and the largest size of a list in bytes."""

    planned: Planned
    arguments: Mapping[str, Any]
    query: Query
    again: Mapping[Reading, Query]
    max_size: int


class SchemaObjects:
    """Counts the collections and fields of one answer."""

    def __init__(self) -> None:
        self.number = 0

    def add(self, number: int) -> None:
        """Raises InvalidRequest if there are too many."""
        self.number += number
        if self.number > MAX_SCHEMA_OBJECTS:
            raise InvalidRequest(
                f"An answer may have up to {MAX_SCHEMA_OBJECTS} collections and fields: ask for them less deeply."
            )


async def read_root(service: Items, ctx: Context, read: Read, described: SchemaObjects) -> Any:
    """Returns the value of a root field. *described* counts what the answer shows of the schema. Raises the errors of `read_items`."""
    root = read.planned.root
    assert root is not None
    if root.does is Reads.AGGREGATES:
        return await _aggregates(service, ctx, read)
    if root.does is not Reads.ITEMS:
        return await _schema_items(ctx, read, described)
    key = read.arguments.get("id")
    keys = None if key is None else [str(key)]
    planned = read.planned
    others: list[list[Any]] = []
    if planned.reading.again:
        again = [_again(service, ctx, each, read, keys) for each in planned.reading.again]
        found, *others = await together(read_items(service, ctx, root.collection, read.query, keys), *again)
    else:
        found = await read_items(service, ctx, root.collection, read.query, keys, output=planned.output)
    if isinstance(found, LongList):
        if others:
            raise InvalidRequest(
                "The list is too long to ask for a list in its items with different arguments: ask for a page of it."
            )
        return await _long(found, read)
    items = [found.data] if keys is not None else found.data
    for each, other in zip(planned.reading.again, others, strict=True):
        _graft(items, other, each)
    return _answer(planned, items, found.meta or {}, shaped=found.has_output)


def _answer(planned: Planned, items: Sequence[Any], meta: Mapping[str, Any], *, shaped: bool = False) -> dict[str, Any]:
    """Returns a list with its meta as they are shown. *shaped*: the items are objects of the answer already."""
    answer: dict[str, Any] = {}
    for key in planned.order:
        if key in planned.shapes:
            answer[key] = items if shaped else planned.shapes[key](items)
        else:
            answer[key] = planned.metas[key]([meta])[0] if key in planned.metas else planned.typename
    return answer


async def _long(found: LongList, read: Read) -> dict[str, Any]:
    """Returns a long list, of which only the JSON is held."""
    planned = read.planned
    parts: dict[str, list[bytes]] = {key: [] for key in planned.shapes}
    size = 0
    shown: Mapping[str, Any] = {}

    async def take(items: list[Item], meta: Mapping[str, Any] | None) -> None:
        nonlocal size, shown
        shown = meta or {}
        for key, shape in planned.shapes.items():
            if items:
                text = orjson.dumps(items if found.has_output else shape(items))[1:-1]
                parts[key].append(text)
                size += len(text)
        if size > read.max_size:
            raise InvalidRequest(f"A list may have up to {read.max_size} bytes (graphql.max_answer_size): ask for a page of it.")

    await found.read(take)
    answer = _answer(planned, (), shown)
    return answer | {key: orjson.Fragment(b"[" + b",".join(texts) + b"]") for key, texts in parts.items()}


# --- lists that are read again


async def _again(service: Items, ctx: Context, again: Again, read: Read, keys: Sequence[str] | None) -> list[Any]:
    """Returns the items of the query of a list that is read again."""
    query = read.again[again.reading]
    found, *others = await together(
        read_items(service, ctx, again.reading.collection, query, keys),
        *[_again(service, ctx, each, read, keys) for each in again.reading.again],
    )
    if isinstance(found, LongList):
        raise InvalidRequest(
            "The list is too long to ask for a list in its items with different arguments: ask for a page of it."
        )
    items = [found.data] if keys is not None else found.data
    for each, other in zip(again.reading.again, others, strict=True):
        _graft(items, other, each)
    return items


def _graft(items: Sequence[Any], others: Sequence[Any], again: Again) -> None:
    """Puts the lists of *others* into *items*, which are matched by their keys. Items that have gone meanwhile get empty lists."""
    pairs = _matched(items, others, again.root_key)
    for name, is_list, key in again.steps[:-1]:
        below: list[tuple[Any, Any]] = []
        for item, other in pairs:
            mine, theirs = item.get(name), (other or {}).get(name)
            if is_list:
                below += _matched(_items(mine), _items(theirs), str(key))
            elif isinstance(mine, dict):
                below.append((mine, theirs if isinstance(theirs, dict) else None))
        pairs = below
    name = again.path[-1]
    for item, other in pairs:
        item[again.slot] = [] if other is None else other.get(name)


def _items(value: Any) -> list[Any]:
    if isinstance(value, orjson.Fragment):
        raise InvalidRequest("A list is too long to ask for a list in its items with different arguments: ask for a page of it.")
    return value or []


def _matched(items: Sequence[Any], others: Sequence[Any], key: str) -> list[tuple[Any, Any]]:
    by_key = {other[key]: other for other in others if isinstance(other, dict) and key in other}
    return [(item, by_key.get(item.get(key))) for item in items if isinstance(item, dict)]


# --- aggregates


def aggregate_query(planned: Planned, query: Query, groupby: Sequence[str]) -> Query:
    """Returns the query of aggregates. Raises InvalidPayload for a group whose name is that of a function, which could not be shown."""
    wanted: dict[tuple[str, str], None] = {}
    assert planned.selected is not None
    for entry in planned.selected.entries:
        if entry.member is None:
            continue
        if entry.member.name == COUNT_ALL:
            wanted["count", "*"] = None
        elif entry.member.name in FUNCTIONS and entry.below is not None:
            named = [each.member.name for each in entry.below.entries if each.member is not None]
            wanted |= dict.fromkeys([(entry.member.name, name) for name in named])
    clash = next((name for name in groupby if name in FUNCTIONS), None)
    if clash is not None:
        raise InvalidPayload(f'Aggregates cannot be grouped by "{clash}", which is the name of a function.')
    aggregate = tuple(wanted) or (("count", "*"),)
    return evolve(query, fields=(), meta=None, lang=(), sort=(), aggregate=aggregate, groupby=tuple(dict.fromkeys(groupby)))


async def _aggregates(service: Items, ctx: Context, read: Read) -> Any:
    root = read.planned.root
    assert root is not None
    found = await read_items(service, ctx, root.collection, read.query)
    shape = read.planned.shapes[""]
    groups: list[Any] = []
    if isinstance(found, LongList):
        size = 0

        async def take(items: list[Item], meta: Mapping[str, Any] | None) -> None:
            nonlocal size
            shown = shape([_grouped(item, read.query.groupby) for item in items])
            size += len(orjson.dumps(shown))
            if size > read.max_size:
                raise InvalidRequest(
                    f"A list may have up to {read.max_size} bytes (graphql.max_answer_size): ask for a page of it."
                )
            groups.extend(shown)

        await found.read(take)
        return groups
    return shape([_grouped(item, read.query.groupby) for item in found.data])


def _grouped(item: Mapping[str, Any], groupby: Sequence[str]) -> dict[str, Any]:
    """Returns a row of aggregates with the values that it is grouped by as an object of their own."""
    found = {name: value for name, value in item.items() if name in FUNCTIONS}
    count_all = found.get("count", {}).get("*")
    return {**found, "group": {name: item.get(name) for name in groupby}, COUNT_ALL: count_all}


# --- collections and fields


async def _schema_items(ctx: Context, read: Read, described: SchemaObjects) -> dict[str, Any]:
    """Returns collections or fields, each with what it belongs to if the selection opens it. Raises InvalidRequest if they are too
    many."""
    planned, arguments = read.planned, read.arguments
    root = planned.root
    assert root is not None
    query = Query(limit=arguments.get("limit"), offset=arguments.get("offset"), meta=planned.meta or None)
    if root.does is Reads.COLLECTIONS:
        name = arguments.get("name")
        found = await read_collections(ctx, query, None if name is None else [name])
    else:
        collection, name = arguments.get("collection"), arguments.get("field")
        if collection is None and name is not None:
            raise InvalidRequest('The argument "field" goes with "collection".')
        found = await read_fields(ctx, query, collection, None if name is None else [name])
    items: list[Any] = [found.data] if isinstance(found.data, dict) else found.data
    if root.does is Reads.FIELDS and arguments.get("collection") is not None:
        start = max(query.offset or 0, 0)
        items = items[start:] if query.limit is None or query.limit < 0 else items[start : start + query.limit]
    if planned.linked:
        items = await _linked(ctx, items, collections=root.collection == COLLECTIONS)
    assert planned.selected is not None
    for entry in planned.selected.entries:
        if entry.below is not None and entry.key in planned.shapes:
            described.add(sum([_shown_objects(entry.below, item) for item in items]))
    return _answer(planned, items, found.meta or {})


def _shown_objects(selected: Selected, item: Item) -> int:
    """Returns the number of collections and fields that a selection shows of a collection or a field, itself included. All fields of a
    collection show the same, so this does not take longer than the selection is large."""
    number = 1
    for entry in selected.entries:
        if entry.member is None or entry.below is None:
            continue
        below = item.get(entry.member.name)
        if isinstance(below, dict):
            number += _shown_objects(entry.below, below)
        elif isinstance(below, list) and below:
            number += len(below) * _shown_objects(entry.below, below[0])
    return number


async def _linked(ctx: Context, items: Sequence[Item], *, collections: bool) -> list[Item]:
    """Returns collections with their fields as lists, or fields with their collections."""
    every = await read_collections(ctx, Query(limit=-1))
    by_name: dict[str, Item] = {each["collection"]: dict(each) for each in every.data if "collection" in each}
    for each in by_name.values():
        each["fields"] = [{**field, "collection": each} for field in (each.get("fields") or {}).values()]
    if collections:
        return [by_name[item["collection"]] for item in items if item.get("collection") in by_name]
    return [{**item, "collection": by_name.get(item.get("collection", ""))} for item in items]
