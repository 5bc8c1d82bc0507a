"""What hooks are called with: the request as plugins see it, and the items that it may read and write."""

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from attrs import evolve, field, frozen, mutable
from twisted.internet import defer
from twisted.python.failure import Failure

from directus_tx import context
from directus_tx.context import ADMINISTRATOR, Accountability
from directus_tx.errors import CollectionNotFound, InvalidRequest
from directus_tx.items import Item, LongList, Result, create_items, delete_items, read_items, update_items
from directus_tx.items.changes import WrittenItem as WrittenItem
from directus_tx.items.service import Items
from directus_tx.outbox.messages import Message, enqueue
from directus_tx.query import Query, WriteOptions

T = TypeVar("T")
Key = Any
"""The key of an item: a number or a text."""


@frozen
class Context:
    """The request that a hook belongs to. It is valid until the hook returns."""

    _request: context.Context = field(alias="request", repr=False)
    _service: Items = field(alias="service", repr=False)
    _open: "dict[defer.Deferred[Any], Coroutine[Any, Any, Any]]" = field(alias="open", factory=dict, repr=False, eq=False)
    """The transactions that have not ended, each with its coroutine."""

    @property
    def project(self) -> str:
        """The key of the project."""
        return self._request.project

    @property
    def accountability(self) -> Accountability:
        """Who makes the request."""
        return self._request.accountability

    @property
    def now(self) -> datetime:
        """The time of the request, aware, in UTC, without microseconds."""
        return self._request.now

    @property
    def request_id(self) -> str:
        """The id of the request, which the log and the header X-Request-Id have."""
        return self._request.request_id

    @property
    def url(self) -> str:
        """The URL of the project as the client reaches it, for example "https://example.com/blog"; empty if there is no client."""
        return self._request.site()

    @property
    def in_transaction(self) -> bool:
        """Whether the hook is part of the transaction of the request. Then what it reads and writes is part of it, too."""
        return self._request.db.in_transaction

    @property
    def items(self) -> "ItemsService":
        """Reads and writes items as the caller may."""
        return ItemsService(self._request, self._service)

    def as_administrator(self) -> "Context":
        """Returns this context with the permissions of an administrator. The history still names the user."""
        who = evolve(self._request.accountability, role=ADMINISTRATOR, scope=None)
        return evolve(self, request=evolve(self._request, accountability=who))

    async def query(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> list[tuple[Any, ...]]:
        """Runs a statement on the database of the project and returns its rows. Values are passed as *parameters* for the placeholders
        %s or %(name)s, never written into the text. Permissions are not checked. Outside of a transaction, only read: a statement whose
        connection is lost is run again. Raises ApiError."""
        return await self._request.db.query(sql, parameters)

    async def enqueue(self, *messages: Message) -> None:
        """Writes messages to the outbox, which are delivered after the commit. The context must be in a transaction: that of a filter, or
        of `transaction`."""
        if not self.in_transaction:
            raise RuntimeError("messages are written in a transaction, whose commit sends them")
        await enqueue(self._request, messages)

    def primary_key(self, collection: str) -> str:
        """Returns the name of the primary key of a collection. Raises CollectionNotFound, and InvalidRequest if it has none."""
        found = self._request.schema.collections.get(collection)
        if found is None:
            raise CollectionNotFound(f'There is no collection "{collection}".')
        return found.primary_key.field

    async def transaction(self, work: "Callable[[Context], Awaitable[T]]") -> T:
        """Calls *work* with this context in a transaction and returns its result. If the context is in one already, *work* is part of it,
        but is undone by itself if it raises. After a deadlock or serialization failure, *work* is called again. Raises ApiError and what
        *work* raises."""
        if self.in_transaction:
            return await _part(self._request, lambda: work(self))
        transaction = self._request.transaction(lambda inner: _awaited(work(evolve(self, request=inner))))
        running = defer.Deferred.fromCoroutine(transaction)
        self._open[running] = transaction
        try:
            return await running
        finally:
            self._open.pop(running, None)


def end_transactions(ctx: Context, reactor: Any) -> int:
    """Rolls back the transactions of a context that have not ended, and returns their number."""
    left = dict(ctx._open)
    for running, transaction in left.items():
        running.addErrback(_ignore)
        if inspect.getcoroutinestate(transaction) == inspect.CORO_RUNNING:
            # The function of the transaction has caused this call. It can be cancelled when it waits.
            reactor.callLater(0, running.cancel)
        else:
            running.cancel()
    return len(left)


def _ignore(failure: Failure) -> None:
    """Drops an exception of a transaction that nobody waits for."""


@frozen
class ItemsService:
    """Reads and writes the items of collections, system collections included, with the permissions of a context. Writes are validated, are
    recorded in the history, and cause webhooks and hooks, as requests of clients do. Each write is a transaction. In that of the context it
    is a part that is undone by itself if it raises; make such writes one after the other."""

    _request: context.Context = field(alias="request", repr=False)
    _service: Items = field(alias="service", repr=False)

    async def read(self, collection: str, query: Query | None = None) -> list[Item]:
        """Returns the items of a collection that a query finds; without a limit as many as the setting default_limit of the project says.
        In a transaction, at most 1000. Raises ApiError."""
        found = await read_items(self._service, self._request, collection, query or Query())
        if isinstance(found, Result):
            return list(found.data)
        return await self._whole(found)

    async def _whole(self, found: LongList) -> list[Item]:
        if self._request.db.in_transaction:
            raise InvalidRequest("In a transaction, read up to 1000 items at once.")
        collected: list[Item] = []

        async def take(items: list[Item], meta: Mapping[str, Any] | None) -> None:
            collected.extend(items)

        await found.read(take)
        return collected

    async def read_one(self, collection: str, key: Key, query: Query | None = None) -> Item:
        """Returns an item. Raises ItemNotFound and other ApiErrors."""
        found = await read_items(self._service, self._request, collection, query or Query(), [str(key)])
        assert isinstance(found, Result)
        return dict(found.data)

    async def create(self, collection: str, payload: Mapping[str, Any], options: WriteOptions | None = None) -> Item | None:
        """Creates an item, with the related items in its payload, and returns it; None if the caller may not read it. Raises ApiError."""
        sent, how = dict(payload), options or WriteOptions()
        return _data(
            await _part(self._request, lambda: create_items(self._service, self._request, collection, sent, Query(), how))
        )

    async def update(
        self, collection: str, key: Key, payload: Mapping[str, Any], options: WriteOptions | None = None
    ) -> Item | None:
        """Updates an item and returns it; None if the caller may not read it, or it is deleted softly now. Raises ItemNotFound and other
        ApiErrors."""
        sent, how = dict(payload), options or WriteOptions()
        return _data(
            await _part(
                self._request, lambda: update_items(self._service, self._request, collection, [str(key)], sent, Query(), how)
            )
        )

    async def delete(self, collection: str, key: Key, options: WriteOptions | None = None) -> None:
        """Deletes an item for good. Raises ItemNotFound and other ApiErrors."""
        how = options or WriteOptions()
        await _part(self._request, lambda: delete_items(self._service, self._request, collection, [str(key)], how))


async def _part(request: context.Context, work: "Callable[[], Awaitable[T]]") -> T:
    """Calls *work*; in a transaction as a part that is undone by itself if it raises."""
    return await (request.db.savepoint(work) if request.db.in_transaction else work())


async def _awaited(value: Awaitable[T]) -> T:
    return await value


def _data(result: Result) -> Item | None:
    return None if result.data is None else dict(result.data)


@mutable
class Response:
    """An answer that the filter `response` can change. `data` and `meta` are those of the body, `data` is None if the body has none, for
    example that of a file; then only the headers can be changed. `method` and `route` say what was asked, for example "GET" and
    "/<project>/items/<collection>"; `arguments` are the values of the arguments in the route."""

    method: str
    route: str
    arguments: Mapping[str, str]
    data: Any
    meta: Any
    headers: dict[str, str]
