"""Reads the items of any collection: the statements of a plan, and the tree that their rows make."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from attrs import evolve, frozen
from twisted.internet import defer

from directus_tx.access import Access, access_of
from directus_tx.compile.aggregates import aggregate_for
from directus_tx.compile.plan import Branch, Level, Plan
from directus_tx.compile.read import page_meta, paging, plan_for
from directus_tx.context import Context
from directus_tx.db.session import Session
from directus_tx.errors import UNREADABLE, InvalidRequest, ItemNotFound, Notice
from directus_tx.items.rules import NO_RULES, CollectionRules, Shown
from directus_tx.items.service import Items
from directus_tx.query import BindValues, Query
from directus_tx.schema.datatypes import family
from directus_tx.schema.model import Collection
from directus_tx.schema.types import NO_MATCH, comparable

Item = dict[str, Any]
Key = Any


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

    Raises CollectionNotFound, ItemNotFound (one key, or `single`), and what the query deserves.
    """
    access = access_of(ctx)
    one = query.single or (keys is not None and len(keys) == 1)
    if one:
        access.require_one(collection)
    if query.aggregate and keys is None:
        return await _aggregates(service, ctx, access, collection, query)
    rules, asked_for = service.rules_of(collection), query
    query = _with_needed(rules, query)
    versioned = keys is not None and len(keys) == 1
    plan = plan_for(access, collection, query, service.limits, by_key=keys is not None, version=versioned)
    found = access.schema.collections[collection]
    limit, offset = paging(query, access.schema.default_limit)
    if keys is not None and query.limit is None:
        limit = len(keys)
    most = service.limits.max_rows
    if most and (limit is None or limit > most):
        # One more than allowed tells whether there are too many, without counting them.
        limit = most + 1
    asked = ctx.bind_values(query, keys_of(found, keys or ()), limit, offset)
    if one or not query.meta:
        rows, items = await _load(ctx.db, plan.level, asked)
        counts: dict[str, Any] = {}
    else:
        (rows, items), counts = await _together(_load(ctx.db, plan.level, asked), _counts(ctx, plan, asked))
    if most and len(items) > most:
        raise _too_many(most)
    _present(ctx, rules, items, asked_for, Shown.LISTED if keys is None else Shown.BY_KEY)
    if one:
        if not items:
            raise ItemNotFound(f'There is no such item in "{collection}".')
        version = version_of(found, rows[0][-1], rows[0][-2]) if versioned else None
        meta = chosen_meta(query, {"collection": collection, "type": "item"})
        return Result(items[0], meta, _notices(plan), version)
    if plan.level.part.nothing:
        items = []
    if query.meta is None:
        return Result(items, None, _notices(plan))
    return Result(items, _meta(query, collection, len(items), counts, access), _notices(plan))


def _notices(plan: Plan) -> tuple[Notice, ...]:
    """Names the relations that were opened into what the caller may not read."""
    if not plan.unreadable:
        return ()
    text = "The items behind some fields may not be read: " + ", ".join(f'"{name}"' for name in plan.unreadable) + "."
    return (Notice(UNREADABLE, text, plan.unreadable),)


BATCH = 1000
"""Rows that a streamed read holds at once."""


async def stream_items(
    service: Items, ctx: Context, collection: str, query: Query, sink: Callable[[list[Item]], Awaitable[None]]
) -> None:
    """Gives the items of a query to *sink*, some at a time, so that memory does not grow with their number. They are of one moment: a
    cursor in a transaction reads them. Raises what `read_items` raises, before the first are given."""
    access = access_of(ctx)
    rules, asked_for = service.rules_of(collection), query
    query = _with_needed(rules, query)
    plan = plan_for(access, collection, query, service.limits, by_key=False)
    limit, offset = paging(query, access.schema.default_limit)
    asked = ctx.bind_values(query, (), limit, offset)
    select = plan.level.select

    async def work(session: Session) -> None:
        await session.query(select.statement.cursor("items"), select.parameters(asked))
        left = service.limits.max_rows or None
        while rows := await session.query(f"FETCH {BATCH} FROM items"):
            if left is not None and (left := left - len(rows)) < 0:
                raise _too_many(service.limits.max_rows)
            if plan.level.part.nothing:
                return
            items = await _with_branches(session, plan.level, asked, rows)
            _present(ctx, rules, items, asked_for, Shown.LISTED)
            await sink(items)

    await ctx.db.long_read(work)


def _with_needed(rules: CollectionRules, query: Query) -> Query:
    """The query with the fields that the rules of its collection must see."""
    return evolve(query, fields=(*query.fields, *rules.needed)) if rules.needed and query.fields else query


def _present(ctx: Context, rules: CollectionRules, items: list[Item], asked_for: Query, shown: Shown) -> None:
    """Lets the rules of a collection change what is shown, and takes out what they alone have needed."""
    if rules is NO_RULES:
        return
    added = set(rules.needed) - set(asked_for.fields) if asked_for.fields and "*" not in asked_for.fields else ()
    for item in items:
        if not item:
            continue
        rules.present(ctx, asked_for, item, shown)
        for name in added:
            item.pop(name, None)


def _too_many(most: int) -> InvalidRequest:
    return InvalidRequest(f"A list may hold up to {most} items (limits.max_rows): ask for a page of it.")


async def _aggregates(service: Items, ctx: Context, access: Access, collection: str, query: Query) -> Result:
    """The aggregates that a query asks for, instead of items."""
    found = aggregate_for(access, collection, query, service.limits)
    limit, offset = paging(query, access.schema.default_limit)
    asked = ctx.bind_values(query, (), limit, offset)
    items = found.items(await ctx.db.query(found.select.statement, found.select.parameters(asked)))
    meta = {"collection": collection, "type": "collection", "result_count": len(items)}
    return Result(items, chosen_meta(query, meta))


def version_of(collection: Collection, key: Key, written: str) -> str:
    """The version of an item, unlike that of any other item; *written* is what `Grant.version` gives of its row."""
    return f"{collection.collection}/{key}/{written}"


def keys_of(collection: Collection, keys: Iterable[Any]) -> list[Key]:
    """Keys as the database holds them; what can be no key is left out, 1.5 of a whole number too."""
    field = collection.primary_key
    found = (comparable(field, str(key)) for key in keys)
    whole = family(field) == "integer"
    return [key for key in found if key is not NO_MATCH and not (whole and not isinstance(key, int))]


async def _load(db: Session, level: Level, asked: BindValues) -> tuple[list[tuple[Any, ...]], list[Item]]:
    """The rows of a level, and its items with everything below."""
    rows = await db.query(level.select.statement, level.select.parameters(asked))
    return rows, await _with_branches(db, level, asked, rows)


async def _with_branches(db: Session, level: Level, asked: BindValues, rows: list[tuple[Any, ...]]) -> list[Item]:
    """The items of a level's rows, with the lists that belong to them."""
    pending: list[tuple[Branch, list[Item | None]]] = []
    items = level.part.items(rows, pending)
    if len(pending) == 1:
        await _attach(db, *pending[0], asked, rows)
    elif pending:
        await _together(*(_attach(db, branch, holders, asked, rows) for branch, holders in pending))
    return level.part.finished(items)


async def _attach(
    db: Session, branch: Branch, holders: list[Item | None], asked: BindValues, rows: list[tuple[Any, ...]]
) -> None:
    """Puts the lists of a branch into the items that hold them."""
    source, name = branch.source, branch.name
    keys = {row[source] for row in rows}
    keys.discard(None)
    found: list[tuple[Any, ...]] = []
    related: list[Item] = []
    if keys:
        looked_for = [str(key) for key in keys] if branch.as_text else list(keys)
        found, related = await _load(db, branch.level, evolve(asked, keys=looked_for))
    alike: Callable[[Any], Any] = str if branch.as_text else _same
    lists: dict[Any, list[Item]] = {alike(key): [] for key in keys}
    for row, item in zip(found, [] if branch.level.part.nothing else related, strict=not branch.level.part.nothing):
        lists[alike(row[-1])].append(item)
    flag = branch.flag
    for row, holder in zip(rows, holders, strict=True):
        if holder is not None and (flag is None or row[flag] is True):
            holder[name] = lists.get(alike(row[source]), [])


def _same(key: Any) -> Any:
    return key


async def _together(*work: Awaitable[Any]) -> list[Any]:
    """What several coroutines give, run side by side; the first failure fails all, as itself."""
    deferreds: list[defer.Deferred[Any]] = [defer.ensureDeferred(each) for each in work]  # type: ignore[arg-type]
    try:
        return await defer.gatherResults(deferreds, consumeErrors=True)
    except defer.FirstError as first:
        raise first.subFailure.value from None  # type: ignore[misc]


_COUNTED = {"total_count", "filter_count", "status_count", "page", "links"}


async def _counts(ctx: Context, plan: Plan, asked: BindValues) -> dict[str, Any]:
    """The counts that meta asks for."""
    names = _meta_names(asked.query)
    wanted = {}
    if names & {"total_count"} or (names & {"filter_count", "page"} and not plan.filtered):
        wanted["total_count"] = plan.total_count
    if names & {"filter_count", "page"} and plan.filtered:
        wanted["filter_count"] = plan.filter_count
    if "status_count" in names and plan.status_count is not None:
        wanted["status_count"] = plan.status_count
    found = await _together(*(ctx.db.query(each.statement, each.parameters(asked)) for each in wanted.values()))
    counts = dict(zip(wanted, found, strict=True))
    answer: dict[str, Any] = {n: rows[0][0] for n, rows in counts.items() if n != "status_count"}
    if "status_count" in counts:
        answer["status_count"] = dict.fromkeys(plan.statuses, 0) | dict(counts["status_count"])
    answer.setdefault("filter_count", answer.get("total_count"))
    return answer


META_ALIASES = {"status": "status_count", "links": "page", "limit": "page", "offset": "page", "page_count": "page"}


def _meta_names(query: Query) -> set[str]:
    if "*" in (query.meta or ()):
        return {"collection", "type", "result_count", "total_count", "status_count", "filter_count", "page"}
    return {META_ALIASES.get(name, name) for name in query.meta or ()}


def chosen_meta(query: Query, meta: dict[str, Any]) -> dict[str, Any] | None:
    """Of *meta* what the query asks for; None where it asks for none."""
    if query.meta is None:
        return None
    names = _meta_names(query)
    return {name: value for name, value in meta.items() if name in names}


def _meta(query: Query, collection: str, shown: int, counts: Mapping[str, Any], access: Access) -> dict[str, Any]:
    """The meta of a list, without links, which only the endpoint can make."""
    meta = {"collection": collection, "type": "collection", "result_count": shown}
    for name in ("total_count", "status_count", "filter_count"):
        if counts.get(name) is not None:
            meta[name] = counts[name]
    chosen = chosen_meta(query, meta) or {}
    if "page" in _meta_names(query):
        chosen |= page_meta(query, access.schema.default_limit, counts["filter_count"])
    return chosen


async def read_back(
    service: Items,
    ctx: Context,
    collection: str,
    query: Query,
    keys: Sequence[Key],
    *,
    one: bool,
    created: bool = False,
) -> Result:
    """The written items as the answer shows them, in the order of *keys*: as the caller may read them. Soft-deleted ones are left out.
    *created*: the caller has just created them, and sees them as their own."""
    access = access_of(ctx)
    if not access.grant(collection).read:
        return Result(None)
    rules = service.rules_of(collection)
    shown = _with_needed(rules, Query(fields=query.fields, lang=query.lang, limit=-1, meta=query.meta))
    plan = plan_for(access, collection, shown, service.limits, by_key=True, created=created)
    rows, items = await _load(ctx.db, plan.level, ctx.bind_values(shown, keys, None, 0))
    by_key = {row[-1]: item for row, item in zip(rows, items, strict=True)}
    answer = [by_key[key] for key in keys if key in by_key]
    _present(ctx, rules, answer, query, Shown.WRITTEN)
    if not answer:
        return Result(None)
    if one:
        return Result(answer[0], chosen_meta(query, {"collection": collection, "type": "item"}), _notices(plan))
    meta = {"collection": collection, "type": "collection", "result_count": len(answer)}
    return Result(answer, chosen_meta(query, meta), _notices(plan))
