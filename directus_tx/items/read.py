"""Reads the items of any collection: the statements of a plan, and the tree that their rows make."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from decimal import Decimal
from typing import Any

from attrs import evolve, frozen
from twisted.internet import defer

from directus_tx.access import access_of
from directus_tx.compile.aggregates import aggregate_for
from directus_tx.compile.plan import Item, ItemsPlan, ListPlan, Plan, Row
from directus_tx.compile.read import plan_for
from directus_tx.context import Context
from directus_tx.db.session import Session
from directus_tx.errors import UNREADABLE, InvalidRequest, ItemNotFound, Notice
from directus_tx.items.changes import Key
from directus_tx.items.meta import item_meta, list_meta, meta_names, paging
from directus_tx.items.rules import NO_RULES, CollectionRules, Shown
from directus_tx.items.service import Items
from directus_tx.query import BindValues, Query
from directus_tx.schema.datatypes import family
from directus_tx.schema.model import Collection
from directus_tx.schema.types import NO_MATCH, member

BATCH = 1000
"""Rows that a streamed read holds at once."""


@frozen
class Result:
    """The answer to a read or a write: an item, a list of them, or None where there is nothing to show; meta, if asked; and what the
    client should know beside."""

    data: Any
    meta: dict[str, Any] | None = None
    messages: tuple[Notice, ...] = ()
    version: str | None = None
    """Of an item that was looked for by its key, what differs where it has changed. Not to be shown as it is: it may hold the number of
    a transaction, which counts the writes to all databases of the server."""


async def read_items(service: Items, ctx: Context, collection: str, query: Query, keys: Sequence[str] | None = None) -> Result:
    """The items that a query finds; with *keys*, those items, whatever filter, q and status say: one key gives the item, several
    a list without the missing ones.

    Raises CollectionNotFound; ItemNotFound (one key, or `single`); and what `plan_for` raises.
    """
    access = access_of(ctx)
    by_one_key = keys is not None and len(keys) == 1
    one = query.single or by_one_key
    if one:
        access.require_one(collection)
    if query.aggregate and keys is None:
        return await _aggregates(service, ctx, collection, query)
    limit, offset = paging(query, ctx.schema.default_limit)
    found: list[Key] | None = None
    if keys is not None:
        found = keys_of(access.grant(collection).collection, keys)
        limit = len(keys) if query.limit is None else limit
    most = service.limits.max_rows
    reading = _reading(service, ctx, collection, query, found, _up_to(most, limit), offset, version=by_one_key)
    if one or not query.meta:
        rows, items = await reading.load(ctx.db)
        counts: dict[str, Any] = {}
    else:
        (rows, items), counts = await _together(reading.load(ctx.db), _counts(ctx.db, reading.plan, reading.values))
    _refuse_more(most, len(items))
    reading.present(items, Shown.LISTED if keys is None else Shown.BY_KEY)
    if not one:
        items = [] if reading.plan.items.layout.shows_nothing else items
        return Result(items, list_meta(query, collection, len(items), counts, ctx.schema.default_limit), reading.notices)
    if not items:
        raise ItemNotFound(f'There is no such item in "{collection}".')
    version = version_of(access.grant(collection).collection, rows[0][-1], rows[0][-2]) if by_one_key else None
    return Result(items[0], item_meta(query, collection), reading.notices, version)


async def stream_items(
    service: Items, ctx: Context, collection: str, query: Query, sink: Callable[[list[Item]], Awaitable[None]]
) -> None:
    """Gives the items of a query to *sink*, some at a time, so that memory does not grow with their number. They are of one moment: a
    cursor in a transaction reads them. Raises what `read_items` raises, before the first are given."""
    limit, offset = paging(query, ctx.schema.default_limit)
    most = service.limits.max_rows
    reading = _reading(service, ctx, collection, query, None, _up_to(most, limit), offset)
    select = reading.plan.items.select

    async def work(session: Session) -> None:
        await session.query(select.statement.cursor("items"), select.parameters(reading.values))
        number = 0
        while rows := await session.query(f"FETCH {BATCH} FROM items"):
            number += len(rows)
            _refuse_more(most, number)
            if reading.plan.items.layout.shows_nothing:
                return
            items = await _items_of(session, reading.plan.items, reading.values, rows)
            reading.present(items, Shown.LISTED)
            await sink(items)

    await ctx.db.long_read(work)


async def read_back(
    service: Items, ctx: Context, collection: str, query: Query, keys: Sequence[Key], *, one: bool, created: bool = False
) -> Result:
    """The written items as the answer shows them, in the order of *keys*: as the caller may read them. Soft-deleted ones are left out.
    *created*: the caller has just created them, and sees them as their own."""
    if not access_of(ctx).grant(collection).read:
        return Result(None)
    shown = Query(fields=query.fields, lang=query.lang, meta=query.meta)
    reading = _reading(service, ctx, collection, shown, keys, None, 0, created=created)
    rows, found = await reading.load(ctx.db)
    held = ctx.schema.collections[collection]
    by_key = {stored_key(held, row[-1]): item for row, item in zip(rows, found, strict=True)}
    items = [by_key[key] for key in keys if key in by_key]
    reading.present(items, Shown.WRITTEN)
    if not items:
        return Result(None)
    if one:
        return Result(items[0], item_meta(query, collection), reading.notices)
    return Result(items, list_meta(query, collection, len(items)), reading.notices)


# --- the steps of a read


@frozen
class _Reading:
    """A read that is ready to be run: the query, the plan of it, and the values that the plan is run with. The plan shows the fields that
    the rules of the collection need beside those of the query."""

    ctx: Context
    rules: CollectionRules
    query: Query
    plan: Plan
    values: BindValues

    async def load(self, db: Session) -> tuple[list[Row], list[Item]]:
        """The rows, and the items with all that they hold."""
        return await _load(db, self.plan.items, self.values)

    def present(self, items: list[Item], shown_for: Shown) -> None:
        """Lets the rules of the collection change what is shown, and takes out what they alone have needed."""
        rules, fields = self.rules, self.query.fields
        if rules is NO_RULES:
            return
        added = set(rules.needed).difference(fields) if fields and "*" not in fields else ()
        for item in items:
            # What shows nothing is an empty list.
            if item:
                rules.present(self.ctx, self.query, item, shown_for)
                for name in added:
                    item.pop(name, None)

    @property
    def notices(self) -> tuple[Notice, ...]:
        """Names the relations that are opened into what the caller may not read."""
        names = self.plan.unreadable
        if not names:
            return ()
        text = "The items behind some fields may not be read: " + ", ".join(f'"{name}"' for name in names) + "."
        return (Notice(UNREADABLE, text, names),)


def _reading(
    service: Items,
    ctx: Context,
    collection: str,
    query: Query,
    keys: Sequence[Key] | None,
    limit: int | None,
    offset: int,
    *,
    created: bool = False,
    version: bool = False,
) -> _Reading:
    """A read of a page of a list, or of the items of some keys. Raises what `plan_for` raises."""
    rules = service.rules_of(collection)
    needing = evolve(query, fields=(*query.fields, *rules.needed)) if rules.needed and query.fields else query
    plan = plan_for(
        access_of(ctx), collection, needing, service.limits, by_key=keys is not None, created=created, version=version
    )
    return _Reading(ctx, rules, query, plan, ctx.bind_values(needing, keys or (), limit, offset))


def _up_to(most: int, limit: int | None) -> int | None:
    """A limit, or one more than *most* (0: any number): so many rows tell that there are too many, and need not be counted."""
    return most + 1 if most and (limit is None or limit > most) else limit


def _refuse_more(most: int, number: int) -> None:
    if most and number > most:
        raise InvalidRequest(f"A list may hold up to {most} items (limits.max_rows): ask for a page of it.")


async def _aggregates(service: Items, ctx: Context, collection: str, query: Query) -> Result:
    """The aggregates that a query asks for, instead of items."""
    found = aggregate_for(access_of(ctx), collection, query, service.limits)
    values = ctx.bind_values(query, (), *paging(query, ctx.schema.default_limit))
    items = found.items(await ctx.db.query(found.select.statement, found.select.parameters(values)))
    return Result(items, list_meta(query, collection, len(items)))


def version_of(collection: Collection, key: Key, written: str) -> str:
    """The version of an item, unlike that of any other item; *written* is what `Grant.version` gives of its row."""
    return f"{collection.collection}/{float(key) if isinstance(key, Decimal) else key}/{written}"


def keys_of(collection: Collection, keys: Iterable[Any]) -> list[Key]:
    """Keys as the database holds them; what can be no key is left out, 1.5 of a whole number too."""
    field = collection.primary_key
    found = (member(field, str(key)) for key in keys)
    return [key for key in found if key is not NO_MATCH]


def stored_key(collection: Collection, value: Any) -> Key:
    """The key of a row as `keys_of` gives it: a decimal, of which the row holds a floating-point number or the text, is a Decimal."""
    field = collection.primary_key
    if family(field) != "number":
        return value
    found = member(field, str(value))
    return value if found is NO_MATCH else found


async def _load(db: Session, plan: ItemsPlan, values: BindValues) -> tuple[list[Row], list[Item]]:
    """The rows of a statement, and its items with all that they hold."""
    rows = await db.query(plan.select.statement, plan.select.parameters(values))
    return rows, await _items_of(db, plan, values, rows)


async def _items_of(db: Session, plan: ItemsPlan, values: BindValues, rows: list[Row]) -> list[Item]:
    """The items of rows, with the lists that they hold, which are read side by side."""
    pending: list[tuple[ListPlan, list[Item | None]]] = []
    items = plan.layout.items_of(rows, pending)
    if len(pending) == 1:
        await _read_lists(db, *pending[0], values, rows)
    elif pending:
        await _together(*(_read_lists(db, each, holders, values, rows) for each, holders in pending))
    return plan.layout.empty_items_as_lists(items)


async def _read_lists(db: Session, each: ListPlan, holders: list[Item | None], values: BindValues, rows: list[Row]) -> None:
    """Reads the lists of one field of all items, and puts them into the items that hold them."""
    source, name, layout = each.source, each.name, each.plan.layout
    keys = {row[source] for row in rows}
    keys.discard(None)
    found: list[Row] = []
    related: list[Item] = []
    if keys:
        found, related = await _load(db, each.plan, evolve(values, keys=list(keys)))
    lists: dict[Any, list[Item]] = {key: [] for key in keys}
    if not layout.shows_nothing:
        for row, item in zip(found, related, strict=True):
            lists[row[-1]].append(item)
    flag = each.flag
    for row, holder in zip(rows, holders, strict=True):
        if holder is not None and (flag is None or row[flag] is True):
            holder[name] = lists.get(row[source], [])


async def _together(*work: Awaitable[Any]) -> list[Any]:
    """What several coroutines give, run side by side; the first failure fails all, as itself."""
    deferreds: list[defer.Deferred[Any]] = [defer.ensureDeferred(each) for each in work]  # type: ignore[arg-type]
    try:
        return await defer.gatherResults(deferreds, consumeErrors=True)
    except defer.FirstError as first:
        raise first.subFailure.value from None  # type: ignore[misc]


async def _counts(db: Session, plan: Plan, values: BindValues) -> dict[str, Any]:
    """The counts that meta asks for, by name, and those that its pages need."""
    names = meta_names(values.query)
    wanted = {}
    if "total_count" in names or (names & {"filter_count", "page"} and not plan.filtered):
        wanted["total_count"] = plan.total_count
    if names & {"filter_count", "page"} and plan.filtered:
        wanted["filter_count"] = plan.filter_count
    if "status_count" in names and plan.status_count is not None:
        wanted["status_count"] = plan.status_count
    found = await _together(*(db.query(each.statement, each.parameters(values)) for each in wanted.values()))
    rows = dict(zip(wanted, found, strict=True))
    counts: dict[str, Any] = {name: rows[name][0][0] for name in ("total_count", "filter_count") if name in rows}
    if "total_count" in counts:
        counts.setdefault("filter_count", counts["total_count"])
    if "status_count" in rows:
        counts["status_count"] = dict.fromkeys(plan.statuses, 0) | dict(rows["status_count"])
    return counts
