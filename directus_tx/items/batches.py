"""Reads rows and the lists of their related items so that memory does not grow with their number.

A list of up to `BATCH` items that takes less than `SHORT` bytes is *short*. It is read with one statement for each level of lists. Other
lists are read in batches, in one transaction, so that they are consistent. An item whose lists are longer than that gets them as JSON:
it takes a fraction of the memory of the items.

Several items in a tree may show the same list: the books of an author are in each of the books that show their author. Such a list is read
once, but is as large as it is often in the answer, and by a path that goes to and fro its size grows exponentially. So a list counts each
time it is shown for whether a list is short, and how much may be repeated in one item is limited.
"""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from itertools import groupby, repeat
from time import monotonic
from typing import Any

import orjson
from attrs import evolve
from twisted.internet import defer

from directus_tx.compile.plan import WIDE, WIDE_ROWS, Item, ListedPlan, ListPlan, Row
from directus_tx.db.session import Session
from directus_tx.errors import InvalidRequest
from directus_tx.query import BindValues

BATCH = 1000
"""Rows of a list that are held at once, without related items."""

BATCH_SIZE = 4 * 2**20
"""Bytes of a batch, related items included. A larger item is a batch of its own."""

SHORT = 8 * 2**20
"""Bytes up to which a list is short, related items included."""

WITH_LISTS = 64
"""Items of the first batch of a list whose items have lists: their size is unknown."""


class Budget:
    """The bytes that related items may still take."""

    __slots__ = ("left", "size")

    def __init__(self, size: int) -> None:
        self.size = self.left = size


class TooMuch(Exception):
    """The related items exceed the budget."""


async def select_rows(db: Session, plan: ListedPlan, values: BindValues) -> list[Row]:
    """Runs the statement of a plan and returns its rows. Counts it and the time it takes, also if it fails."""
    timing = plan.timing
    if timing is None:
        return await db.query(plan.select.statement, plan.select.parameters(values))
    begun = monotonic()
    try:
        return await db.query(plan.select.statement, plan.select.parameters(values))
    finally:
        timing.add(monotonic() - begun)


async def load_short(db: Session, plan: ListedPlan, values: BindValues) -> tuple[list[Row], list[Any]] | None:
    """Returns the rows of a list and its items, with their related items. None if the list is not short."""
    found = await short_rows(db, plan, values, BATCH)
    if found is None:
        return None
    rows, size = found
    try:
        return rows, await complete(db, plan, values, rows, Budget(SHORT - size))
    except TooMuch:
        return None


async def short_rows(db: Session, plan: ListedPlan, values: BindValues, number: int) -> tuple[list[Row], int] | None:
    """Returns the rows of a list and their size in bytes. None if the list, without related items, is not short or has more than
    *number* rows."""
    width, limit = plan.width, values.limit
    most = min(width.rows_in(SHORT), number)
    while True:
        cut = limit is None or limit > most
        asked = evolve(values, limit=most + 1) if cut else values
        rows = await select_rows(db, plan, asked)
        size = width.measure(rows)
        # Only the rows of this list decide: the width was learned from those of other callers, too, and clients see which lists are long.
        if size > SHORT or len(rows) > number:
            return None
        if not cut or len(rows) <= most:
            return rows, size
        most = min(_more(most, size / len(rows), SHORT), number)


async def complete(
    db: Session,
    plan: ListedPlan,
    values: BindValues,
    rows: list[Row],
    budget: Budget,
    times: Sequence[int] | None = None,
) -> list[Any]:
    """Returns the items of rows, with their related items: different lists are read concurrently. *times*: how often the item of each row
    is shown, None if each is shown once. Raises TooMuch."""
    pending: list[tuple[ListPlan, list[Item | None]]] = []
    items = plan.layout.items_of(rows, pending)
    if len(pending) == 1:
        await _read_list(db, *pending[0], values, rows, budget, times)
    elif pending:
        await together(*(_read_list(db, each, holders, values, rows, budget, times) for each, holders in pending))
    return plan.layout.empty_items_as_lists(items)


async def _read_list(
    db: Session,
    each: ListPlan,
    holders: list[Item | None],
    values: BindValues,
    rows: list[Row],
    budget: Budget,
    times: Sequence[int] | None,
) -> None:
    """Reads one one-to-many field of all items and stores the lists in the items. Raises TooMuch."""
    keys = {row[each.source] for row in rows}
    keys.discard(None)
    lists: dict[Any, Any] = {key: [] for key in keys}
    if keys:
        shown = None if times is None and len(keys) == len(rows) else _times_shown(each, holders, rows, times)
        nested = evolve(values, keys=list(keys))
        found, inner = await _related_rows(db, each.plan, nested, budget, shown)
        related = await complete(db, each.plan, nested, found, budget, inner)
        if not each.plan.layout.shows_nothing:
            for row, item in zip(found, related, strict=True):
                lists[row[-1]].append(item)
    _store(each, holders, rows, lists)


def _times_shown(
    each: ListPlan, holders: list[Item | None], rows: list[Row], times: Sequence[int] | None
) -> Mapping[Any, int] | None:
    """Returns how often the lists are shown, by key; None if each is shown once."""
    source, flag = each.source, each.flag
    found: Counter[Any] = Counter()
    for row, holder, number in zip(rows, holders, times or repeat(1, len(rows)), strict=True):
        if holder is not None and (flag is None or row[flag] is True):
            found[row[source]] += number
    return found if any(number > 1 for number in found.values()) else None


def _store(each: ListPlan, holders: list[Item | None], rows: list[Row], lists: dict[Any, Any]) -> None:
    """Stores the lists, by key, in the items that show them."""
    source, name, flag = each.source, each.name, each.flag
    for row, holder in zip(rows, holders, strict=True):
        if holder is not None and (flag is None or row[flag] is True):
            holder[name] = lists.get(row[source], [])


async def _related_rows(
    db: Session, plan: ListedPlan, values: BindValues, budget: Budget, shown: Mapping[Any, int] | None
) -> tuple[list[Row], list[int] | None]:
    """Returns the rows of related items, and how often each is shown, None for once. *shown*: how often their lists are, likewise. Raises
    TooMuch if they exceed the budget."""
    width = plan.width
    most = width.rows_in(budget.left)
    while True:
        found = await select_rows(db, plan, evolve(values, most=most + 1))
        size = width.measure(found)
        if size > budget.left:
            raise TooMuch
        if len(found) <= most:
            break
        most = _more(most, size / len(found), budget.left)
    budget.left -= size
    if shown is None or not found:
        return found, None
    times = [shown.get(row[-1], 1) for row in found]
    repeated = int(size * (sum(times) / len(found) - 1))
    if repeated > budget.left:
        raise TooMuch
    budget.left -= max(repeated, 0)
    return found, times


def _more(most: int, average: float, size: int) -> int:
    """Returns how many rows to read after *most* were too few: as many of *average* bytes as take *size* bytes. Few wide rows at once,
    because the next may be wider, but at least twice as many as before."""
    found = int(size // average)
    return max(min(found, WIDE_ROWS) if average > WIDE else found, 2 * most)


async def together(*work: Awaitable[Any]) -> list[Any]:
    """Runs coroutines concurrently and returns their results. Raises the first failure."""
    deferreds: list[defer.Deferred[Any]] = [defer.ensureDeferred(each) for each in work]  # type: ignore[arg-type]
    try:
        return await defer.gatherResults(deferreds, consumeErrors=True)
    except defer.FirstError as first:
        raise first.subFailure.value from None  # type: ignore[misc]


class LongReader:
    """Reads long lists with cursors, in the transaction of *session*. *most* is the maximum size of what is repeated in an item, in bytes
    (limits.max_repeated_size)."""

    def __init__(self, session: Session, most: int) -> None:
        self.session = session
        self.most = most
        self._cursors = 0
        self._repeated = 0

    async def batches(self, plan: ListedPlan, values: BindValues) -> AsyncIterator[tuple[list[Row], list[Any]]]:
        """Yields the rows of a list and its items, with their related items, in batches. Raises InvalidRequest if too much is repeated in
        an item."""
        name = await self._open(plan, values)
        width = plan.width
        number = WITH_LISTS if plan.layout.has_lists else BATCH
        rows: list[Row] = []
        while True:
            if not rows:
                rows = await self._fetch(name, plan, min(number, width.rows_in(BATCH_SIZE), BATCH))
                if not rows:
                    break
            part = rows[:number]
            budget = Budget(BATCH_SIZE)
            try:
                items = await complete(self.session, plan, values, part, budget)
            except TooMuch:
                if len(part) > 1:
                    number = len(part) // 2
                    continue
                self._repeated = 0
                items = await self.complete_as_json(plan, values, part)
            else:
                if budget.left > budget.size * 3 // 4:
                    number = min(number * 2, BATCH)
            rows = rows[len(part) :]
            yield part, items
        await self.session.query(f"CLOSE {name}")

    async def complete_as_json(self, plan: ListedPlan, values: BindValues, rows: list[Row]) -> list[Any]:
        """Returns the items of rows. Their lists are `orjson.Fragment`, however long they are. Raises InvalidRequest if too much of them is
        repeated."""
        pending: list[tuple[ListPlan, list[Item | None]]] = []
        items = plan.layout.items_of(rows, pending)
        for each, holders in pending:
            keys = {row[each.source] for row in rows}
            keys.discard(None)
            lists = await self._lists_as_json(each.plan, evolve(values, keys=list(keys))) if keys else {}
            if len(keys) < len(rows):
                self._count_repeated(each, holders, rows, lists)
            _store(each, holders, rows, {key: orjson.Fragment(text) for key, text in lists.items()})
        return plan.layout.empty_items_as_lists(items)

    def _count_repeated(self, each: ListPlan, holders: list[Item | None], rows: list[Row], lists: Mapping[Any, bytes]) -> None:
        """Adds the size of lists that several items show. Raises InvalidRequest if it exceeds the limit."""
        shown = _times_shown(each, holders, rows, None) or {}
        self._repeated += sum([len(text) * (shown.get(key, 1) - 1) for key, text in lists.items()])
        if self._repeated > self.most:
            text = f"The items in one item that are shown there more than once may take up to {self.most} bytes"
            raise InvalidRequest(f"{text} (limits.max_repeated_size): ask for fewer lists in each other.")

    async def _lists_as_json(self, plan: ListedPlan, values: BindValues) -> dict[Any, bytes]:
        """Returns the lists of related items as JSON, by the key of their item, without empty lists."""
        if plan.layout.shows_nothing:
            return {}
        texts: dict[Any, list[bytes]] = {}
        name = await self._open(plan, values)
        while rows := await self._fetch(name, plan, min(plan.width.rows_in(BATCH_SIZE), BATCH)):
            items = await self.complete_as_json(plan, values, rows)
            for key, members in groupby(zip(rows, items, strict=True), key=lambda each: each[0][-1]):
                texts.setdefault(key, []).append(orjson.dumps([item for _, item in members])[1:-1])
        await self.session.query(f"CLOSE {name}")
        return {key: b"[" + b",".join(text) + b"]" for key, text in texts.items()}

    async def _open(self, plan: ListedPlan, values: BindValues) -> str:
        """Opens a cursor over the rows of a statement and returns its name."""
        name = f"rows{self._cursors}"
        self._cursors += 1
        await self.session.query(plan.select.statement.cursor(name), plan.select.parameters(values))
        return name

    async def _fetch(self, name: str, plan: ListedPlan, number: int) -> list[Row]:
        rows = await self.session.query(f"FETCH {number} FROM {name}")
        plan.width.measure(rows)
        return rows
