"""The plugin: writes a message to the outbox for each item that is written, and searches."""

from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from attrs import frozen

from directus_tx.api import (
    ANY,
    Attempt,
    Caller,
    Condition,
    Context,
    Delivery,
    Empty,
    Envelope,
    Message,
    Operation,
    Outcome,
    Query,
    Request,
    Routes,
    Server,
    Sort,
    WrittenItem,
    errors,
    hookimpl,
    setting,
)
from directus_tx_search.engine import ID, KEY, Engine, EngineError, safe

KIND = "search"
PAGE = 500
"""The number of documents that are sent at once when a collection is indexed anew."""

MOST = 1000
"""The number of items that a search looks at: as many as Meilisearch returns."""

CHUNK = 100
"""The number of items that are read at once."""

DEFAULT_LIMIT = 20


@frozen
class SearchSettings:
    """The section [plugins.search] of the configuration."""

    url: str = setting("", "URL of the search engine: http://localhost:7700.")
    key: str = setting("", "Its API key.", secret=True)
    collections: tuple[str, ...] = setting((), 'Collections with the fields that are searched: "articles=title,body".')
    prefix: str = setting("", "What the names of indexes begin with, for engines that several servers share.")


class Search:
    """The plugin."""

    directus_tx_api = 1

    def __init__(self) -> None:
        self.fields: dict[str, tuple[str, ...]] = {}
        """The fields that are searched, by collection."""
        self.server: Server = None  # type: ignore[assignment]

    @hookimpl
    def register_settings(self) -> type:
        return SearchSettings

    @hookimpl
    def configure(self, server: Server) -> None:
        """Reads the settings. Raises ValueError."""
        self.server = server
        for text in server.settings.collections:
            collection, _, names = (part.strip() for part in text.partition("="))
            fields = tuple(name.strip() for name in names.split(",") if name.strip())
            if not collection or not fields:
                raise ValueError(f'collections: "{text}" is not like "articles=title,body"')
            if any("." in name for name in fields):
                raise ValueError(f'collections: "{text}": fields of related items cannot be searched')
            if collection.startswith("directus_"):
                raise ValueError(f"collections: {collection} is a system collection")
            self.fields[collection] = fields
        parts = urlsplit(server.settings.url)
        if self.fields and (parts.scheme not in ("http", "https") or not parts.hostname):
            raise ValueError("url must be the URL of a search engine, like http://localhost:7700")

    @property
    def engine(self) -> Engine:
        settings = self.server.settings
        return Engine(self.server.reactor, self.server.client, settings.url.rstrip("/"), settings.key)

    def index_of(self, project: str, collection: str) -> str:
        """Returns the name of the index of a collection."""
        return f"{self.server.settings.prefix}{project}-{safe(collection)}"

    # writing

    @hookimpl
    async def items_written(self, ctx: Context, items: Sequence[WrittenItem]) -> None:
        """Writes a message for each item, in the transaction of the request."""
        await ctx.enqueue(*self._messages(items))

    def _messages(self, items: Sequence[WrittenItem]) -> Iterator[Message]:
        for collection, key in dict.fromkeys((each.collection, each.key) for each in items):
            if collection in self.fields:
                yield self._message({"collection": collection, "key": key}, f"{collection}:{key}")

    def _message(self, payload: dict[str, Any], sequence: str) -> Message:
        parts = urlsplit(self.server.settings.url)
        return Message(KIND, f"{parts.scheme}://{parts.netloc}", payload, subject=KIND, sequence=sequence)

    @hookimpl
    async def collection_delete_before(self, ctx: Context, collection: str) -> None:
        """Has the index of a collection deleted."""
        if collection in self.fields:
            await ctx.enqueue(self._message({"collection": collection, "drop": True}, collection))

    # delivering

    @hookimpl
    def register_outbox_kinds(self, server: Server) -> list["Search"]:
        return [self]

    name = KIND
    time_limit = 60.0

    async def deliver(self, project: Any, delivery: Delivery) -> Attempt:
        """Sends an item as it is now to the engine. So a message that comes late, or twice, does no harm."""
        payload = delivery.message.payload
        collection = payload["collection"]
        if collection not in self.fields:
            return Attempt(Outcome.DEAD, error=f"the collection {collection} is no longer indexed")
        index = self.index_of(project.key, collection)
        try:
            ctx = await self.server.context(project.key)
            if payload.get("drop"):
                await self.engine.drop(index)
            elif "key" in payload:
                await self._send(ctx, index, collection, payload["key"])
            else:
                await self._send_page(ctx, index, collection, payload.get("after"))
        except EngineError as error:
            return Attempt(Outcome.DEAD if error.final else Outcome.RETRY, error.status, error=str(error))
        except errors.ServiceUnavailable as error:
            return Attempt(Outcome.RETRY, error=error.message)
        return Attempt(Outcome.DELIVERED)

    async def _send(self, ctx: Context, index: str, collection: str, key: Any) -> None:
        """Adds the document of an item; deletes it if there is no such item, or it is deleted softly."""
        query = Query(fields=self.fields[collection])
        try:
            item = await ctx.items.read_one(collection, key, query)
        except (errors.ItemNotFound, errors.CollectionNotFound):
            await self.engine.delete(index, key)
        else:
            await self.engine.add(index, [self._document(key, item)])

    async def _send_page(self, ctx: Context, index: str, collection: str, after: Any) -> None:
        """Adds the documents of the items after a key, and has the next ones added. Those of the first page replace all documents."""
        if after is None:
            await self.engine.clear(index)
        name = ctx.primary_key(collection)
        later = () if after is None else (Condition((name,), "gt", str(after)),)
        query = Query(fields=(name, *self.fields[collection]), filter=later, sort=(Sort(name),), limit=PAGE)
        items = await ctx.items.read(collection, query)
        if items:
            await self.engine.add(index, [self._document(each[name], each) for each in items])
        if len(items) == PAGE:
            await self._continue(ctx, collection, items[-1][name])

    async def _continue(self, ctx: Context, collection: str, after: Any) -> None:
        payload = {"collection": collection} | ({} if after is None else {"after": after})

        async def work(inner: Context) -> None:
            await inner.enqueue(self._message(payload, collection))

        await ctx.transaction(work)

    @staticmethod
    def _document(key: Any, item: dict[str, Any]) -> dict[str, Any]:
        return {**item, ID: safe(key), KEY: str(key)}

    # searching

    @hookimpl
    def register_routes(self, server: Server) -> Routes:
        """GET /:project/custom/search/COLLECTION?q=..., and POST to have a collection indexed anew."""
        routes = Routes()
        about = Operation("Find the items of a collection with the search engine", {"type": "array", "items": ANY})
        routes.add("GET", "/<project>/<collection>", self.find_items, Caller.PUBLIC, about)
        about = Operation("Index the items of a collection anew")
        routes.add("POST", "/<project>/<collection>", self.index_anew, Caller.ADMINISTRATOR, about)
        return routes

    async def find_items(self, request: Request) -> Envelope:
        """Returns the items that fit the parameter `q`, the best first. Takes `fields`, `limit` and `offset`.

        Neither the result nor an error depends on what the caller may not read: the engine searches in the fields that the caller may read,
        and an item is returned only if the caller may read its values of these fields."""
        collection = self._collection(request)
        query, ctx = request.query(), request.ctx
        # Refuses callers who may not read the collection, whatever they search for.
        first = await ctx.items.read(collection, Query(limit=1))
        fields = [name for name in self.fields[collection] if first and name in first[0]]
        if not fields:
            return Envelope([])
        try:
            keys = await self.engine.search(self.index_of(ctx.project, collection), query.q or "", fields, MOST)
        except EngineError as error:
            raise errors.ServiceUnavailable("The search engine cannot be reached, or refuses the search.") from error
        offset, limit = query.offset or 0, DEFAULT_LIMIT if query.limit is None or query.limit < 0 else query.limit
        seen: list[str] = []
        for start in range(0, len(keys), CHUNK):
            if len(seen) < offset + limit:
                seen += await self._seen(ctx, collection, fields, keys[start : start + CHUNK])
        page = seen[offset : offset + limit]
        if not page:
            return Envelope([])
        found = await self._read(ctx, collection, (*(query.fields or ("*",)), ctx.primary_key(collection)), page)
        return Envelope([found[key] for key in page if key in found])

    async def _seen(self, ctx: Context, collection: str, fields: Sequence[str], keys: Sequence[str]) -> list[str]:
        """Returns those of some keys whose items the caller sees with the true values of some fields, in their order."""
        names = (*fields, ctx.primary_key(collection))
        shown = await self._read(ctx, collection, names, keys)
        true = await self._read(ctx.as_administrator(), collection, names, keys)
        return [key for key in keys if key in shown and shown[key] == true.get(key)]

    async def _read(self, ctx: Context, collection: str, fields: Sequence[str], keys: Sequence[str]) -> dict[str, Any]:
        """Returns items by their keys, which are among the fields."""
        name = ctx.primary_key(collection)
        query = Query(fields=tuple(fields), filter=(Condition((name,), "in", tuple(keys)),), limit=len(keys))
        return {str(item[name]): item for item in await ctx.items.read(collection, query)}

    async def index_anew(self, request: Request) -> Empty:
        """Has all items of a collection sent to the engine."""
        collection = self._collection(request)
        request.ctx.primary_key(collection)
        await self._continue(request.ctx, collection, None)
        return Empty()

    def _collection(self, request: Request) -> str:
        collection = request.path["collection"]
        if collection not in self.fields:
            raise errors.NotFound(f"The collection {collection} is not indexed (plugins.search.collections).")
        return collection
