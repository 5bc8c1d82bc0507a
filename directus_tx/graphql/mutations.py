"""Runs the mutations of an operation in one transaction: all of them are done, or none."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import frozen

from directus_tx.access import Grant, refusals
from directus_tx.errors import InvalidPayload
from directus_tx.graphql.catalog import Catalog, Writes
from directus_tx.graphql.filters import payload_of
from directus_tx.graphql.names import type_name
from directus_tx.graphql.planning import Planned
from directus_tx.items import Writer, keys_of, read_back
from directus_tx.items.changes import Key
from directus_tx.items.read import key_of
from directus_tx.items.service import Items
from directus_tx.query import Query


@frozen
class Mutation:
    """A mutation with its arguments, and the query that reads the written items back."""

    planned: Planned
    arguments: Mapping[str, Any]
    query: Query


async def run_mutations(
    catalog: Catalog,
    service: Items,
    writer: Writer,
    mutations: Sequence[Mutation],
    begin: Callable[[str], None],
) -> dict[str, Any]:
    """Runs mutations one after the other, and returns their values by the names under which they are shown. *begin* is called with the name
    before each. Raises the errors of the Writer."""
    found = {}
    for each in mutations:
        begin(each.planned.key)
        found[each.planned.key] = await _run(catalog, service, writer, each)
    return found


async def _run(catalog: Catalog, service: Items, writer: Writer, mutation: Mutation) -> Any:
    planned, arguments = mutation.planned, mutation.arguments
    root = planned.root
    assert root is not None
    collection, does = root.collection, root.does
    grant = writer.access.grant(collection)
    if does in (Writes.DELETE_ITEM, Writes.DELETE_ITEMS):
        return await _delete(writer, grant, arguments, one=does is Writes.DELETE_ITEM)
    input = f"{type_name(collection)}Input"
    many = does in (Writes.CREATE_ITEMS, Writes.UPDATE_EACH)
    payloads = [payload_of(catalog, input, each) for each in (arguments["data"] if many else [arguments["data"]])]
    created = does in (Writes.CREATE_ITEM, Writes.CREATE_ITEMS)
    if created:
        keys = await writer.create(collection, payloads)
    elif does is Writes.UPDATE_EACH:
        changes = [(_key_in(grant, each), _without_key(grant, each)) for each in payloads]
        await writer.update(collection, changes, several=True)
        keys = [key for key, _ in changes]
    else:
        wanted = arguments["ids"] if does is Writes.UPDATE_ITEMS else [arguments["id"]]
        keys = list(dict.fromkeys([key_of(grant, key) for key in wanted]))
        payload = _without_key(grant, payloads[0])
        await writer.update(collection, [(key, payload) for key in keys], several=len(keys) > 1)
    one = does in (Writes.CREATE_ITEM, Writes.UPDATE_ITEM)
    result = await read_back(
        service, writer.ctx, collection, mutation.query, keys, one=one, created=created, stored=writer.settled, deep=True
    )
    shape = planned.shapes[""]
    if one:
        return None if result.data is None else shape([result.data])[0]
    return shape(result.data or ())


async def _delete(writer: Writer, grant: Grant, arguments: Mapping[str, Any], *, one: bool) -> Any:
    """Deletes items and returns their keys as they were given. Raises ItemNotFound if one is missing."""
    given: list[str] = [arguments["id"]] if one else list(dict.fromkeys(arguments["ids"]))
    found = keys_of(grant.collection, given)
    wanted = list(dict.fromkeys(found))
    gone = await writer.delete(grant.collection.collection, wanted)
    if len(gone) < len(wanted) or len(found) < len(given):
        raise refusals.no_item(grant)
    return given[0] if one else given


def _key_in(grant: Grant, payload: Mapping[str, Any]) -> Key:
    name = grant.collection.primary_key.field
    if payload.get(name) is None:
        raise InvalidPayload(f'Each item needs its key, "{name}".')
    return key_of(grant, payload[name])


def _without_key(grant: Grant, payload: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in payload.items() if name != grant.collection.primary_key.field}
