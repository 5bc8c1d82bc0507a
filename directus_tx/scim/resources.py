"""What users and groups have in common: reading, versions, and the request that they are read and written in."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import quote

import orjson
from attrs import evolve, frozen

from directus_tx.access import access_of, refusals
from directus_tx.context import Context
from directus_tx.errors import ItemChanged, ItemNotFound
from directus_tx.items.changes import Item, Key
from directus_tx.items.read import Result, read_items
from directus_tx.items.rows import Locked, lock_rows
from directus_tx.items.service import Items
from directus_tx.items.write import Writer, in_transaction
from directus_tx.query import Combination, Condition, Query, Sort, WriteOptions
from directus_tx.scim.conditions import Filterable, combined, has_id, id_of, key_in
from directus_tx.scim.dialects import Dialect
from directus_tx.scim.documents import Document, Shown
from directus_tx.scim.errors import InvalidFilter, InvalidValue
from directus_tx.scim.filters import Comparison, Filter, Group, Value
from directus_tx.scim.schemas import ResourceType
from directus_tx.scim.stored import Kept, find_external_ids, read_kept

BATCH = 500
"""The number of rows that are read at once."""

EVERYTHING_SHOWN = Shown()


@frozen
class Scim:
    """A request: the service of items, the context, the dialect of the answer, the key of versions, and the settings of [scim].
    *if_match* returns whether a version is acceptable."""

    items: Items
    ctx: Context
    dialect: Dialect
    version_key: bytes
    max_results: int
    max_members: int
    options: WriteOptions
    if_match: Callable[[str], bool] | None = None

    @property
    def base(self) -> str:
        """The URL of the SCIM endpoints of the project."""
        return f"{self.ctx.site()}/scim/v2"

    def within(self, ctx: Context) -> "Scim":
        """Returns the request with another context, that of its transaction."""
        return evolve(self, ctx=ctx)

    def location(self, kind: ResourceType, id: str) -> str:
        """Returns the URL of a resource."""
        return f"{self.base}/{kind.endpoint}/{quote(id, safe=':@')}"


@frozen
class Written:
    """A written resource as it is answered: None if the caller may not read it or it is too large."""

    document: Document | None
    location: str = ""


class Resources(ABC):
    """The resources of one type: the items of a collection."""

    kind: ClassVar[ResourceType]
    collection: ClassVar[str]
    fields: ClassVar[tuple[str, ...]]

    @abstractmethod
    def filterables(self, dialect: Dialect) -> Mapping[str, Filterable]:
        """Returns how the attributes are compared, by their names in lower case."""

    @abstractmethod
    async def documents(self, scim: Scim, items: Sequence[Item], shown: Shown) -> list[Document]:
        """Returns the documents of items. What is not shown need not be in them. Raises TooMany."""

    @abstractmethod
    async def create(self, scim: Scim, body: Mapping[str, Any]) -> Written:
        """Creates a resource. Raises InvalidValue, NotUnique, CreateForbidden and other ApiErrors."""

    @abstractmethod
    async def change(self, scim: Scim, id: str, body: Mapping[str, Any], *, patch: bool) -> Written:
        """Changes a resource as a PUT or a PATCH says. Raises ItemNotFound, ItemChanged, InvalidOperation, InvalidValue,
        UpdateForbidden and other ApiErrors."""

    # reading

    async def condition_of(self, scim: Scim, filter: Filter) -> Combination:
        """Returns the condition of a filter. Raises InvalidFilter."""
        table = dict(self.filterables(scim.dialect))
        if scim.dialect.standard:
            table["externalid"] = await self._external_ids(scim, filter)
        found = combined(self.kind, table, filter, scim.dialect)
        return found if isinstance(found, Combination) else Combination("all", (found,))

    async def _external_ids(self, scim: Scim, filter: Filter) -> Filterable:
        """Returns how `externalId` is compared: with what is kept of a resource, otherwise with the external id of the user or
        role."""
        wanted = {value.lower() for value in _external_ids_in(filter)}
        rows = await find_external_ids(scim.ctx, self.collection, wanted)
        if rows and access_of(scim.ctx).grant(self.collection).mask_of("external_id") is not None:
            keys = Condition(("id",), "in", tuple([str(key) for key, _, _ in rows]))
            items = await read_all(scim, self.collection, ("id", "external_id"), keys, len(rows))
            shown = {item["id"] for item in items if "external_id" in item}
            rows = [row for row in rows if row[0] in shown]

        def compare(operator: str, value: Value) -> Condition | Combination:
            if operator not in ("eq", "ne") or value is None or isinstance(value, bool):
                raise InvalidFilter('"externalId" is compared with texts, by eq or ne.')
            text = str(value).lower()
            kept = tuple([str(key) for key, external_id, _ in rows if external_id == text])
            others = tuple([str(key) for key, external_id, own in rows if own == text and external_id != text])
            own: Condition | Combination = Condition(("external_id",), "eq", text)
            if others:
                own = Combination("all", (own, Combination("none", (Condition(("id",), "in", others),))))
            found = Combination("any", (own, Condition(("id",), "in", kept))) if kept else Combination("any", (own,))
            return found if operator == "eq" else Combination("none", (found,))

        return Filterable(compare)

    async def page(
        self, scim: Scim, where: Combination | None, sort: Sequence[Sort], offset: int, limit: int, shown: Shown
    ) -> tuple[list[Document], int]:
        """Returns the documents of a page of the resources that match, and the number of all of them."""
        query = Query(fields=self.fields, where=where, sort=tuple(sort), offset=offset, limit=limit, meta=("filter_count",))
        items, meta = await _read(scim, self.collection, query)
        return await self.documents(scim, items, shown), meta["filter_count"]

    async def find(self, scim: Scim, id: str) -> Item:
        """Returns the item of the resource with an id. Raises ItemNotFound, and the errors of reading."""
        return await self._one(scim, has_id(self.collection, id))

    async def find_key(self, scim: Scim, key: Key) -> Item:
        """Returns the item with a key. Raises ItemNotFound."""
        return await self._one(scim, Combination("all", (Condition(("id",), "eq", str(key)),)))

    async def _one(self, scim: Scim, condition: Combination) -> Item:
        items, _ = await _read(scim, self.collection, Query(fields=self.fields, where=condition, limit=1))
        if not items:
            raise ItemNotFound(f"There is no such resource in {self.kind.endpoint}.")
        return items[0]

    async def read(self, scim: Scim, id: str, shown: Shown) -> Document:
        """Returns a resource. Raises ItemNotFound, TooMany."""
        return (await self.documents(scim, [await self.find(scim, id)], shown))[0]

    async def read_key(self, scim: Scim, key: Key, shown: Shown = EVERYTHING_SHOWN) -> Document:
        """Returns the resource of the item with a key. Raises ItemNotFound, TooMany."""
        return (await self.documents(scim, [await self.find_key(scim, key)], shown))[0]

    # writing

    async def lock(self, scim: Scim, key: Key) -> Locked:
        """Locks the item until the transaction ends, and returns it. Raises ItemNotFound, and ItemChanged if its version does not
        match If-Match."""
        grant = access_of(scim.ctx).grant(self.collection)
        locked = await lock_rows(scim.ctx, grant, [key], lambda row: refusals.no_item(grant))
        if scim.if_match is not None:
            document = await self.read_key(scim, key)
            if not scim.if_match(document["meta"]["version"]):
                raise ItemChanged("The resource has changed since it was read.")
        return locked[key]

    async def delete(self, scim: Scim, id: str) -> None:
        """Deletes a resource. Raises ItemNotFound, ItemChanged, DeleteForbidden and other ApiErrors."""
        key = (await self.find(scim, id))["id"]

        async def work(writer: Writer) -> None:
            if scim.if_match is not None:
                await self.lock(scim.within(writer.ctx), key)
            if not await writer.delete(self.collection, [key]):
                raise ItemNotFound(f"There is no such resource in {self.kind.endpoint}.")

        await in_transaction(scim.items, scim.ctx, scim.options, work)

    async def written(self, scim: Scim, key: Key) -> Written:
        """Returns a resource that has just been written."""
        try:
            document = await self.read_key(scim, key)
        except ItemNotFound:
            return Written(None)
        return Written(document, document["meta"]["location"])

    # documents

    def finished(self, scim: Scim, item: Item, attributes: Document, kept: Kept | None, *, complete: bool = True) -> Document:
        """Returns the document of an item with what all resources have: schemas, id, externalId and meta. *complete*: the
        attributes are all that the version depends on."""
        id = id_of(self.collection, item["id"], item.get("external_id"))
        document: Document = {"schemas": [self.kind.schema.id], "id": id}
        if not scim.dialect.standard:
            document["externalId"] = item["id"]
        else:
            # What the client has named a resource is as hidden as the field.
            if "external_id" in item:
                document["externalId"] = item["external_id"] if kept is None else kept.external_id
            document["schemas"] += [each.id for each in self.kind.extensions if attributes.get(each.id)]
        document |= attributes
        if scim.dialect.standard:
            document = _assigned(document)
        meta = {"resourceType": self.kind.name, "location": scim.location(self.kind, id)}
        if complete:
            meta["version"] = version_of(document, scim.version_key)
        return document | {"meta": meta}

    async def kept(self, scim: Scim, items: Sequence[Item]) -> Mapping[Key, Kept]:
        """Returns what is kept of the resources of items, by key. Directus 8 kept nothing."""
        return (
            await read_kept(scim.ctx, self.collection, [item["id"] for item in items]) if scim.dialect.standard and items else {}
        )


def version_of(document: Document, key: bytes) -> str:
    """Returns the version of a resource as the caller sees it: a weak entity tag. *key* has at most 64 bytes."""
    text = orjson.dumps(document, option=orjson.OPT_SORT_KEYS)
    return f'W/"{hashlib.blake2b(text, key=key, digest_size=15).hexdigest()}"'


def _assigned(document: Document) -> Document:
    """Returns the document without attributes that have no value."""
    found = {}
    for name, value in document.items():
        if isinstance(value, dict):
            value = _assigned(value)
        elif isinstance(value, list):
            value = [_assigned(each) if isinstance(each, dict) else each for each in value]
        if value not in (None, [], {}):
            found[name] = value
    return found


async def _read(scim: Scim, collection: str, query: Query) -> tuple[list[Item], Mapping[str, Any]]:
    """Returns the items that a query finds, of which there are not many, and the meta."""
    found = await read_items(scim.items, scim.ctx, collection, query)
    if isinstance(found, Result):
        return found.data, found.meta or {}
    found_items: list[Item] = []
    told: Mapping[str, Any] = {}

    async def take(items: list[Item], meta: Mapping[str, Any] | None) -> None:
        nonlocal told
        found_items.extend(items)
        told = meta or {}

    await found.read(take)
    return found_items, told


async def read_all(scim: Scim, collection: str, fields: Sequence[str], condition: Condition, most: int) -> list[Item]:
    """Returns the items that match a condition, in the order of their keys, up to *most*. They are read in batches, also in a
    transaction."""
    items: list[Item] = []
    last: Condition | None = None
    while len(items) < most:
        conditions = (condition,) if last is None else (condition, last)
        limit = min(BATCH, most - len(items))
        query = Query(fields=tuple(fields), filter=conditions, sort=(Sort("id"),), limit=limit)
        found, _ = await _read(scim, collection, query)
        items += found
        if len(found) < limit:
            break
        last = Condition(("id",), "gt", str(found[-1]["id"]))
    return items


def in_batches(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Yields the values in batches."""
    return (values[start : start + BATCH] for start in range(0, len(values), BATCH))


def _external_ids_in(filter: Filter) -> Iterator[str]:
    """Yields the texts that a filter compares with `externalId`."""
    if isinstance(filter, Group):
        for each in filter.members:
            yield from _external_ids_in(each)
    elif isinstance(filter, Comparison) and filter.value is not None and [n.lower() for n in filter.path.names] == ["externalid"]:
        yield str(filter.value)


def given_external_id(collection: str, scim: Scim, body: Mapping[str, Any], document: Document) -> str | None:
    """Returns the external id that a new resource gets, None if the body has none. Directus 8 took `id` as well. Raises
    InvalidValue."""
    value = document.get("externalId")
    if value is None and not scim.dialect.standard:
        value = next((each for name, each in body.items() if name.lower() == "id"), None)
        if value is not None and not isinstance(value, str):
            raise InvalidValue('The value of "id" must be a text.')
    if value and key_in(collection, value) is not None:
        raise InvalidValue(f'"{value[:100]}" is the id of a resource without an external id.')
    return value or None


def without_external_id(scim: Scim, body: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a change of a resource without what the dialect does not change: `externalId` is a number in that of Directus 8."""
    return {n: v for n, v in body.items() if scim.dialect.standard or n.lower() != "externalid"}
