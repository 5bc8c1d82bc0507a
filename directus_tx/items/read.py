"""Reads the items of any collection: runs the statements of a plan and builds a tree of items from their rows."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from decimal import Decimal
from typing import Any

from attrs import evolve, frozen
from twisted.internet import defer

from directus_tx.access import Grant, access_of
from directus_tx.access.refusals import no_item
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
    """The result of a read or a write: `data` is an item, a list of items, or None if there is nothing to show; `meta` if the
    query asks for it; `messages` are warnings."""

    data: Any
    meta: dict[str, Any] | None = None
    messages: tuple[Notice, ...] = ()
    version: str | None = None
    """For an item read by its key, a text that changes with the item. Do not show it to clients: it may contain a transaction id, which
    counts the writes to all databases of the server."""


async def read_items(service: Items, ctx: Context, collection: str, query: Query, keys: Sequence[str] | None = None) -> Result:
    """Returns the items that a query finds. With *keys*, returns those items and ignores filter, q and status: one key returns the item,
    several return a list without missing items.

    Raises CollectionNotFound; ItemNotFound for one key or `single`; and the errors of `plan_for`.
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
    """Passes the items of a query to *sink* in batches, so that memory does not grow with their number. A cursor in one transaction reads
    them, so they are consistent. Raises the errors of `read_items` before the first batch."""
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
    """Returns the written items in the order of *keys*, as far as the caller may read them. Soft-deleted items are left out. *created*: the
    caller has just created them, so they count as owned by the caller."""
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
    """A read that is ready to run: the query, its plan, and the bind values. The plan also reads the fields that the rules of
    the collection need."""

    ctx: Context
    rules: CollectionRules
    query: Query
    plan: Plan
    values: BindValues

    async def load(self, db: Session) -> tuple[list[Row], list[Item]]:
        """Returns the rows and the items, nested items included."""
        return await _load(db, self.plan.items, self.values)

    def present(self, items: list[Item], shown_for: Shown) -> None:
        """Lets the rules of the collection change the items, and removes fields that only the rules needed."""
        rules, fields = self.rules, self.query.fields
        if rules is NO_RULES:
            return
        added = set(rules.needed).difference(fields) if fields and "*" not in fields else ()
        for item in items:
            # An item without visible fields is an empty list.
            if item:
                rules.present(self.ctx, self.query, item, shown_for)
                for name in added:
                    item.pop(name, None)

    @property
    def notices(self) -> tuple[Notice, ...]:
        """Returns a warning that names the relations into collections that the caller may not read."""
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
    """Prepares the read of a page of a list, or of items by key. Raises the errors of `plan_for`."""
    rules = service.rules_of(collection)
    needing = evolve(query, fields=(*query.fields, *rules.needed)) if rules.needed and query.fields else query
    plan = plan_for(
        access_of(ctx), collection, needing, service.limits, by_key=keys is not None, created=created, version=version
    )
    return _Reading(ctx, rules, query, plan, ctx.bind_values(needing, keys or (), limit, offset))


def _up_to(most: int, limit: int | None) -> int | None:
    """Returns the limit, at most *most* + 1 (0: no limit). A result of *most* + 1 rows shows that there are too many, without counting."""
    return most + 1 if most and (limit is None or limit > most) else limit


def _refuse_more(most: int, number: int) -> None:
    if most and number > most:
        raise InvalidRequest(f"A list may hold up to {most} items (limits.max_rows): ask for a page of it.")


async def _aggregates(service: Items, ctx: Context, collection: str, query: Query) -> Result:
    """Returns the aggregates that a query asks for."""
    found = aggregate_for(access_of(ctx), collection, query, service.limits)
    values = ctx.bind_values(query, (), *paging(query, ctx.schema.default_limit))
    items = found.items(await ctx.db.query(found.select.statement, found.select.parameters(values)))
    return Result(items, list_meta(query, collection, len(items)))


def version_of(collection: Collection, key: Key, written: str) -> str:
    """Returns the version of an item, unique among all items. *written* is the value of `Grant.version`."""
    return f"{collection.collection}/{float(key) if isinstance(key, Decimal) else key}/{written}"


def keys_of(collection: Collection, keys: Iterable[Any]) -> list[Key]:
    """Returns the keys as the database stores them, without those that the column cannot hold, such as 1.5 for an integer."""
    field = collection.primary_key
    found = (member(field, str(key)) for key in keys)
    return [key for key in found if key is not NO_MATCH]


def stored_key(collection: Collection, value: Any) -> Key:
    """Returns the key of a row in the form of `keys_of`: decimal keys, which rows hold as float or text, as Decimal."""
    field = collection.primary_key
    if family(field) != "number":
        return value
    found = member(field, str(value))
    return value if found is NO_MATCH else found


def key_of(grant: Grant, key: Any) -> Key:
    """Returns a key as the database stores it. Raises ItemNotFound if the column cannot hold it."""
    found = keys_of(grant.collection, [key])
    if not found:
        raise no_item(grant)
    return found[0]


async def _load(db: Session, plan: ItemsPlan, values: BindValues) -> tuple[list[Row], list[Item]]:
    """Runs a statement. Returns its rows and items, nested items included."""
    rows = await db.query(plan.select.statement, plan.select.parameters(values))
    return rows, await _items_of(db, plan, values, rows)


async def _items_of(db: Session, plan: ItemsPlan, values: BindValues, rows: list[Row]) -> list[Item]:
    """Returns the items of the rows. Their one-to-many fields are read concurrently."""
    pending: list[tuple[ListPlan, list[Item | None]]] = []
    items = plan.layout.items_of(rows, pending)
    if len(pending) == 1:
        await _read_lists(db, *pending[0], values, rows)
    elif pending:
        await _together(*(_read_lists(db, each, holders, values, rows) for each, holders in pending))
    return plan.layout.empty_items_as_lists(items)


async def _read_lists(db: Session, each: ListPlan, holders: list[Item | None], values: BindValues, rows: list[Row]) -> None:
    """Reads one one-to-many field of all items and stores the lists in the items."""
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
    """Runs coroutines concurrently and returns their results. Raises the first failure."""
    deferreds: list[defer.Deferred[Any]] = [defer.ensureDeferred(each) for each in work]  # type: ignore[arg-type]
    try:
        return await defer.gatherResults(deferreds, consumeErrors=True)
    except defer.FirstError as first:
        raise first.subFailure.value from None  # type: ignore[misc]


async def _counts(db: Session, plan: Plan, values: BindValues) -> dict[str, Any]:
    """Returns the counts that meta asks for, and those needed for its pages, by name."""
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
