"""Reads the items of any collection: runs the statements of a plan and builds a tree of items from their rows."""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Protocol

from attrs import evolve, frozen

from directus_tx.access import Grant, access_of
from directus_tx.access.refusals import check_key, no_item
from directus_tx.compile.aggregates import aggregate_for
from directus_tx.compile.keyset import MAX_LENGTH
from directus_tx.compile.output import Output
from directus_tx.compile.plan import Item, ItemLayout, Layout, ListedPlan, Plan, Prepared, Row
from directus_tx.compile.read import plan_for
from directus_tx.context import Context
from directus_tx.db.session import Session
from directus_tx.errors import UNREADABLE, InvalidRequest, ItemNotFound, Notice
from directus_tx.items import hooks
from directus_tx.items.batches import (
    BATCH,
    SHORT,
    Budget,
    LongReader,
    TooMuch,
    complete,
    load_short,
    select_rows,
    short_rows,
    together,
)
from directus_tx.items.changes import Key
from directus_tx.items.meta import item_meta, list_meta, meta_names, paging
from directus_tx.items.rules import NO_RULES, CollectionRules, Shown
from directus_tx.items.service import Items
from directus_tx.query import BindValues, Cursor, Query
from directus_tx.schema.comparing import NO_MATCH, is_padded, member
from directus_tx.schema.datatypes import family
from directus_tx.schema.model import Collection
from directus_tx.schema.showing import shows_exact_text, stored_text


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

    cursors: "Cursors | None" = None
    """For a list with a cursor."""

    has_output: bool = False
    """Whether the items are those of the output that was asked for."""


@frozen
class Cursors:
    """The cursors of the pages before and after a page. None: there is no such page."""

    previous: Cursor | None
    next: Cursor | None


async def read_items(
    service: Items,
    ctx: Context,
    collection: str,
    query: Query,
    keys: Sequence[str] | None = None,
    *,
    output: Output | None = None,
) -> "Result | LongList":
    """Returns the items that a query finds: a `LongList` if they are more or larger than what is held at once. With *keys*, returns those
    items and ignores filter, q and status: one key returns the item, several return a list without missing items. With *output*, the items
    are those of the output, if `has_output` of the result says so. If not, they show the fields under their own names as otherwise.

    Raises CollectionNotFound; ItemNotFound for one key or `single`; and the errors of `plan_for`.
    """
    if "item_read_before" in service.plugins.named:
        await hooks.before_read(service.plugins, ctx, collection, query, keys)
    access = access_of(ctx)
    by_one_key = keys is not None and len(keys) == 1
    cursor = None if keys is not None else query.cursor
    if cursor is not None:
        _check_cursor(query)
    one = query.single or by_one_key
    if one:
        access.require_one(collection)
    if query.aggregate and keys is None:
        return await _aggregates(service, ctx, collection, query)
    limit, offset = paging(query, ctx.schema.default_limit)
    found: list[Key] | None = None
    if keys is not None:
        grant = access.grant(collection)
        if grant.collection.key is None:
            check_key(access.require_read(collection))
        found = keys_of(grant.collection, keys)
        limit = len(keys) if query.limit is None else limit
    alone = by_one_key and not offset and limit != 0
    reading = _reading(service, ctx, collection, query, found, limit, offset, alone=alone, version=by_one_key, output=output)
    if cursor is not None:
        return await reading.load_page(cursor)
    if not one:
        return await reading.load_list(Shown.LISTED if keys is None else Shown.BY_KEY)
    rows, items = await reading.load()
    await reading.present(items, Shown.LISTED if keys is None else Shown.BY_KEY)
    if not items:
        raise ItemNotFound(f'There is no such item in "{collection}".')
    version = version_of(access.grant(collection).collection, rows[0][-1], rows[0][-2]) if by_one_key else None
    return Result(items[0], item_meta(query, collection), reading.notices, version, has_output=reading.has_output)


def _check_cursor(query: Query) -> None:
    """Raises InvalidRequest if a query has a cursor and something that does not go with one."""
    if query.offset is not None or query.page is not None:
        raise InvalidRequest("A list with a cursor has no offset and no page.")
    if query.aggregate or query.single:
        raise InvalidRequest("Aggregates and single items have no cursor.")
    if query.limit == 0:
        raise InvalidRequest("The limit of a list with a cursor must not be 0.")


def long_list(service: Items, ctx: Context, collection: str, query: Query) -> "LongList":
    """Returns the list of items that a query finds, to be read in batches whatever its length. Raises the errors of `plan_for`."""
    limit, offset = paging(query, ctx.schema.default_limit)
    return LongList(_reading(service, ctx, collection, query, None, limit, offset), Shown.LISTED, announced=False)


async def read_back(
    service: Items,
    ctx: Context,
    collection: str,
    query: Query,
    keys: Sequence[Key],
    *,
    one: bool,
    created: bool = False,
    stored: Mapping[Key, Mapping[str, Any]] | None = None,
    deep: bool = False,
) -> Result:
    """Returns the written items in the order of *keys*, as far as the caller may read them. Soft-deleted items are left out. *created*: the
    caller has just created them, so they count as owned by the caller. *stored*: their rows as they are stored, by key, if known:
    then no statement is run for items of which the caller may read everything and asks for nothing else. *deep*: `deep` of the query
    narrows the lists of related items; otherwise it is ignored."""
    grant = access_of(ctx).grant(collection)
    if not grant.read:
        return Result(None)
    whole = (grant.as_creator if created else grant).whole
    shown = Query(fields=query.fields, lang=query.lang, meta=query.meta, deep=query.deep if deep else ())
    held = ctx.schema.collections[collection]
    by_key: dict[Key, Item] = {}
    for start in range(0, len(keys), BATCH):
        some = keys[start : start + BATCH]
        reading = _reading(service, ctx, collection, shown, some, None, 0, created=created, written=True)
        known = _known(held, reading.plan.layout, stored, some) if stored is not None and whole else None
        if known is None:
            rows, found = await reading.load()
            by_key.update((stored_key(held, row[-1]), item) for row, item in zip(rows, found, strict=True))
        else:
            found = known
            by_key.update(zip(some, found, strict=True))
        await reading.present(found, Shown.WRITTEN)
    items = [by_key[key] for key in keys if key in by_key]
    if not items:
        return Result(None)
    if one:
        return Result(items[0], item_meta(query, collection), reading.notices)
    return Result(items, list_meta(query, collection, len(items)), reading.notices)


def _known(
    collection: Collection, layout: Layout, stored: Mapping[Key, Mapping[str, Any]], keys: Sequence[Key]
) -> list[Any] | None:
    """Returns the items of stored rows, which the caller may read as they are. None if they must be read: their soft-deleted rows are left
    out, and related items are not in them."""
    status = collection.status_field
    if not isinstance(layout, ItemLayout) or layout.items or layout.lists or layout.masks or layout.may_be_empty:
        return None
    if not all(name in collection.columns and shows_exact_text(collection.columns[name]) for name in layout.names):
        return None
    try:
        rows = [stored[key] for key in keys]
    except KeyError:
        return None
    if status is not None and any(stored_text(status, row[status.field]) in collection.soft_deleted for row in rows):
        return None
    return layout.items_of([tuple([row[name] for name in layout.names]) for row in rows], [])


# --- the steps of a read


@frozen
class _Reading:
    """A read that is ready to run: the query, the plan of its rows, and the bind values. The plan also reads the fields that the rules
    of the collection need. `counted` is the plan of the counts of meta and of the warnings, None for aggregates. `most` is the setting
    limits.max_rows."""

    service: Items
    ctx: Context
    rules: CollectionRules
    collection: str
    query: Query
    plan: ListedPlan
    counted: Plan | None
    values: BindValues
    most: int

    async def load_list(self, shown_for: Shown) -> "Result | LongList":
        """Returns a list. Raises InvalidRequest if it has more items than limits.max_rows allows."""
        db = self.ctx.db

        async def load() -> tuple[list[Any] | None, dict[str, Any]]:
            found = await load_short(db, self.plan, self.values)
            if found is None:
                return None, {}
            _refuse_more(self.most, len(found[1]))
            return found[1], await self._count_after(db, len(found[1]))

        apart = self._counted_apart()
        if apart:
            (items, counts), others = await together(load(), self._count(db, apart))
            counts |= others
        else:
            items, counts = await load()
        if items is None:
            return LongList(self, shown_for)
        await self.present(items, shown_for)
        items = [] if self.plan.layout.shows_nothing else items
        return Result(items, self.meta(len(items), counts), self.notices, has_output=self.has_output)

    async def load_page(self, cursor: Cursor) -> Result:
        """Returns the page of a list behind a cursor. It has fewer items than the limit if they would not be a short list."""
        db, plan = self.ctx.db, self.plan
        number = max(min(BATCH if self.values.limit is None else self.values.limit, BATCH), 1)
        # One row more than the page has shows whether there is another page.
        while number > 1:
            found = await short_rows(db, plan, evolve(self.values, limit=number + 1), BATCH + 1)
            if found is not None:
                rows, size = found
                more, rows = len(rows) > number, rows[:number]
                try:
                    items = await complete(db, plan, self.values, rows, Budget(SHORT - size))
                    break
                except TooMuch:
                    pass
            number //= 2
        else:
            rows, items = await evolve(self, values=evolve(self.values, limit=2)).load()
            more, rows, items = len(rows) > 1, rows[:1], items[:1]
        if cursor.backward:
            rows, items = rows[::-1], items[::-1]
        cursors = self._cursors(cursor, rows, more=more)
        counts = await self.counts(db, None if cursor.order or more else len(rows))
        await self.present(items, Shown.LISTED)
        items = [] if plan.layout.shows_nothing else items
        return Result(items, self.meta(len(items), counts), self.notices, cursors=cursors)

    def _cursors(self, cursor: Cursor, rows: Sequence[Row], *, more: bool) -> Cursors:
        """Returns the cursors of a page. *more*: there are more rows in the direction of its cursor; in the other direction there is the
        row that the cursor was made from. Raises InvalidRequest if a value is too long for a cursor."""
        before = more if cursor.backward else bool(cursor.order)
        after = bool(cursor.order) if cursor.backward else more
        if rows:
            first, last = self._cursor_at(rows[0], backward=True), self._cursor_at(rows[-1], backward=False)
        else:
            # The rows beside the cursor have gone. Its own place is all that is known.
            first = last = evolve(cursor, backward=not cursor.backward)
        return Cursors(first if before else None, last if after else None)

    def _cursor_at(self, row: Row, *, backward: bool) -> Cursor:
        assert self.counted is not None
        order = self.counted.cursor_order
        values = row[len(row) - len(order) + 1 :]
        for name, value in zip(order[1:], values, strict=True):
            if value is not None and len(value) > MAX_LENGTH:
                text = f'A value of "{name.lstrip("-")}" is longer than {MAX_LENGTH} characters'
                raise InvalidRequest(f"{text}, so the list cannot have a cursor.")
        return Cursor(order, values, backward)

    async def load(self) -> tuple[list[Row], list[Item]]:
        """Returns the rows and the items, related items included, for one item and for items by key. Lists of related items that are long
        are JSON. Raises InvalidRequest if too much is repeated in them."""
        values = self.values
        rows = await select_rows(self.ctx.db, self.plan, values)
        size = self.plan.width.measure(rows)
        try:
            return rows, await complete(self.ctx.db, self.plan, values, rows, Budget(SHORT - size))
        except TooMuch:
            pass

        repeated = self.service.limits.max_repeated_size

        async def work(session: Session) -> tuple[list[Row], list[Item]]:
            rows = await session.query(self.plan.select.statement, self.plan.select.parameters(values))
            return rows, await LongReader(session, repeated).complete_as_json(self.plan, values, rows)

        if self.ctx.db.in_transaction:
            return await work(self.ctx.db)
        return await self.ctx.db.long_read(work)

    @property
    def _names(self) -> frozenset[str]:
        """Returns the names of meta that the query asks for, and filter_count if the page is computed from it."""
        if not self.query.meta or self.counted is None:
            return frozenset()
        names = meta_names(self.query)
        return names | {"filter_count"} if "page" in names else names

    def _counted_apart(self) -> dict[str, Prepared]:
        """Returns the statements of counts that do not follow from the rows of a list, by name."""
        names, plan = self._names, self.counted
        if plan is None:
            return {}
        if "status_count" in names and plan.status_count is not None:
            return {"status_count": plan.status_count}
        return {"total_count": plan.total_count} if "total_count" in names and plan.filtered else {}

    async def _count(self, db: Session, statements: Mapping[str, Prepared]) -> dict[str, Any]:
        """Returns the results of statements that count, by name."""
        found = await together(*(db.query(each.statement, each.parameters(self.values)) for each in statements.values()))
        counts: dict[str, Any] = {}
        for name, rows in zip(statements, found, strict=True):
            if name == "status_count":
                assert self.counted is not None
                shown = {status: number for status, number, _ in rows if status is not None}
                counts["status_count"] = dict.fromkeys(self.counted.statuses, 0) | shown
                counts["total_count"] = sum([visible for _, _, visible in rows])
                if not self.counted.filtered:
                    counts["filter_count"] = counts["total_count"]
            else:
                counts[name] = rows[0][0]
        return counts

    async def _count_after(self, db: Session, number: int | None) -> dict[str, Any]:
        """Returns the counts that may follow from the rows of a list, by name. *number*: how many rows the list has, None if that is not
        known. If it has fewer than its limit, there are no more, so they are not counted again."""
        names, plan = self._names & {"total_count", "filter_count"}, self.counted
        if plan is None or not names or (plan.filtered and "filter_count" not in names):
            return {}
        if not plan.filtered and self._counted_apart():
            # Without a filter, filter_count is total_count, which comes with status_count.
            return {}
        limit, offset = self.values.limit, self.values.offset
        if plan.counts_rows and number is not None and (limit is None or number < limit) and (number or not offset):
            found = {"filter_count": offset + number}
        else:
            found = await self._count(db, {"filter_count": plan.filter_count})
        return found if plan.filtered else found | {"total_count": found["filter_count"]}

    async def counts(self, db: Session, number: int | None) -> dict[str, Any]:
        """Returns the counts that meta asks for, by name. *number* is as for `_count_after`."""
        return await self._count(db, self._counted_apart()) | await self._count_after(db, number)

    def meta(self, shown: int, counts: Mapping[str, Any]) -> dict[str, Any] | None:
        """Returns the meta of a list with *shown* items."""
        return list_meta(self.query, self.collection, shown, counts, self.ctx.schema.default_limit)

    async def present(self, items: Sequence[Item], shown_for: Shown) -> None:
        """Lets the rules of the collection change the items, removes fields that only the rules needed, and calls the hooks of plugins."""
        if self.rules is not NO_RULES:
            await self._apply_rules(items, shown_for)
        plugins = self.service.plugins
        if self.counted is not None and not hooks.AT_READING.isdisjoint(plugins.named):
            # An item without visible fields is an empty list.
            shown = [item for item in items if item]
            await hooks.filter_items(plugins, self.ctx, self.collection, shown)
            if shown_for is not Shown.WRITTEN:
                await hooks.after_read(plugins, self.ctx, self.collection, shown)

    async def _apply_rules(self, items: Sequence[Item], shown_for: Shown) -> None:
        rules, fields = self.rules, self.query.fields
        items = [item for item in items if item]
        for item in items:
            rules.present(self.ctx, self.query, item, shown_for)
        await rules.complete(items, shown_for, self._others)
        if fields and "*" not in fields:
            for name in set(rules.needed).difference(fields):
                for item in items:
                    item.pop(name, None)

    async def _others(self, collection: str, keys: Sequence[Key]) -> Mapping[Key, Item]:
        """Returns items of another collection with all their fields, by key, as far as the caller may read them."""
        grant = access_of(self.ctx).grant(collection)
        found = keys_of(grant.collection, keys) if grant.read else []
        if not found:
            return {}
        reading = _reading(self.service, self.ctx, collection, Query(), found, None, 0)
        rows, items = await reading.load()
        await reading.present(items, Shown.LISTED)
        return {stored_key(grant.collection, row[-1]): item for row, item in zip(rows, items, strict=True)}

    @property
    def has_output(self) -> bool:
        """Whether the items are those of the output that was asked for."""
        return self.counted is not None and self.counted.has_output

    @property
    def notices(self) -> tuple[Notice, ...]:
        """Returns a warning that names the relations into collections that the caller may not read."""
        names = self.counted.unreadable if self.counted is not None else ()
        if not names:
            return ()
        text = "The items behind some fields may not be read: " + ", ".join(f'"{name}"' for name in names) + "."
        return (Notice(UNREADABLE, text, names),)


class Take(Protocol):
    """Takes the next items of a list. *meta* is that of the list."""

    async def __call__(self, items: list[Item], meta: Mapping[str, Any] | None) -> None: ...


@frozen
class LongList:
    """A list that is not held in memory: `read` reads it."""

    reading: _Reading
    shown_for: Shown
    announced: bool = True
    """Whether the actions before of plugins have been called."""

    @property
    def notices(self) -> tuple[Notice, ...]:
        return self.reading.notices

    @property
    def has_output(self) -> bool:
        """Whether the items are those of the output that was asked for."""
        return self.reading.has_output

    async def read(self, take: Take) -> None:
        """Passes the items to *take* in batches, at least one, which may be empty. They are read in one transaction, so they are
        consistent, also with their meta. Raises InvalidRequest before the first batch if the list has more items than limits.max_rows
        allows."""
        reading = self.reading
        if not self.announced:
            await hooks.before_read(reading.service.plugins, reading.ctx, reading.collection, reading.query, None)
        passed = False

        async def work(session: Session) -> None:
            nonlocal passed
            meta = await self._meta(session)
            shown = False
            async for _, items in LongReader(session, reading.service.limits.max_repeated_size).batches(
                reading.plan, reading.values
            ):
                if reading.plan.layout.shows_nothing:
                    break
                await reading.present(items, self.shown_for)
                passed = shown = True
                await take(items, meta)
            if not shown:
                passed = True
                await take([], meta)

        await reading.ctx.db.long_read(work, repeatable=lambda: not passed)

    async def _meta(self, session: Session) -> Mapping[str, Any] | None:
        """Returns the meta of the list. Raises InvalidRequest if the list is too long."""
        reading = self.reading
        names = meta_names(reading.query)
        number = None
        if "result_count" in names or _may_exceed(reading.most, reading.values.limit):
            select = reading.plan.select
            ((number,),) = await session.query(select.statement.count, select.parameters(reading.values))
            _refuse_more(reading.most, number)
        counts = await reading.counts(session, number)
        return reading.meta(0 if number is None or reading.plan.layout.shows_nothing else number, counts)


def _reading(
    service: Items,
    ctx: Context,
    collection: str,
    query: Query,
    keys: Sequence[Key] | None,
    limit: int | None,
    offset: int,
    *,
    alone: bool = False,
    created: bool = False,
    version: bool = False,
    written: bool = False,
    output: Output | None = None,
) -> _Reading:
    """Prepares the read of a page of a list, or of items by key; *alone*: of the first item of one key. *written*: the items have just
    been written, and all of them are returned. Raises the errors of `plan_for`."""
    rules = service.rules_of(collection)
    if rules is not NO_RULES or not hooks.AT_READING.isdisjoint(service.plugins.named):
        # Rules and plugins get the fields under their own names.
        output = None
    needing = evolve(query, fields=(*query.fields, *rules.needed)) if rules.needed and query.fields else query
    plan = plan_for(
        access_of(ctx),
        collection,
        needing,
        service.limits,
        by_key=keys is not None,
        alone=alone,
        created=created,
        version=version,
        output=output,
    )
    most = 0 if written else service.limits.max_rows
    values = ctx.bind_values(needing, keys or (), _up_to(most, limit), offset)
    return _Reading(service, ctx, rules, collection, query, plan.items, plan, values, most)


async def _aggregates(service: Items, ctx: Context, collection: str, query: Query) -> "Result | LongList":
    """Returns the aggregates that a query asks for."""
    plan = aggregate_for(access_of(ctx), collection, query, service.limits)
    limit, offset = paging(query, ctx.schema.default_limit)
    most = service.limits.max_rows
    values = ctx.bind_values(query, (), _up_to(most, limit), offset)
    return await _Reading(service, ctx, NO_RULES, collection, query, plan, None, values, most).load_list(Shown.LISTED)


def _may_exceed(most: int, limit: int | None) -> bool:
    """Whether a list with the limit may have more than *most* items (0: no limit)."""
    return most > 0 and (limit is None or limit > most)


def _up_to(most: int, limit: int | None) -> int | None:
    """Returns the limit, at most *most* + 1. A result of *most* + 1 rows shows that there are too many, without counting."""
    return most + 1 if _may_exceed(most, limit) else limit


def _refuse_more(most: int, number: int) -> None:
    if most and number > most:
        raise InvalidRequest(f"A list may hold up to {most} items (limits.max_rows): ask for a page of it.")


def version_of(collection: Collection, key: Key, written: str) -> str:
    """Returns the version of an item, unique among all items. *written* is the value of `Grant.version`."""
    return f"{collection.collection}/{float(key) if isinstance(key, Decimal) else key}/{written}"


def keys_of(collection: Collection, keys: Iterable[Any]) -> list[Key]:
    """Returns the keys as the database stores them, without those that the column cannot hold, such as 1.5 for an integer."""
    field = collection.primary_key
    found = (member(field, str(key)) for key in keys)
    return [key for key in found if key is not NO_MATCH]


_OTHER_FORMS = frozenset({"number", "date", "time", "datetime"})
"""The families of types whose values rows hold in another form than that of `keys_of`."""


def stored_key(collection: Collection, value: Any) -> Key:
    """Returns the key of a row in the form of `keys_of`: decimal keys, which rows hold as float or text, as Decimal, dates and times as
    ISO 8601, and text without the blanks that PostgreSQL adds."""
    field = collection.primary_key
    if family(field) not in _OTHER_FORMS and not is_padded(field):
        return value
    found = member(field, str(value))
    return value if found is NO_MATCH else found


def key_of(grant: Grant, key: Any) -> Key:
    """Returns a key as the database stores it. Raises ItemNotFound if the column cannot hold it."""
    found = member(grant.collection.primary_key, str(key))
    if found is NO_MATCH:
        raise no_item(grant)
    return found
