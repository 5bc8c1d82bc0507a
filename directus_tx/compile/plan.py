"""What a compiled read is: its statements, and the items that their rows make. Pure values; the other modules of `compile` make them."""

from collections.abc import Callable, Hashable, Sequence
from functools import cached_property
from typing import Any, Protocol, TypeVar

from attrs import frozen

from directus_tx.access import Access
from directus_tx.db.sql import Bind, Statement
from directus_tx.query import BindValues

Item = dict[str, Any]
Row = tuple[Any, ...]
Cast = Callable[[Any], Any]


@frozen
class Prepared:
    """A statement and the binds of its placeholders."""

    statement: Statement
    binds: tuple[Bind, ...]

    def parameters(self, values: BindValues) -> list[Any]:
        """What the placeholders are bound to in a request."""
        return [bind(values) for bind in self.binds]

    @property
    def weight(self) -> int:
        """The bytes that it takes, roughly."""
        return 300 + len(self.statement.text) + 150 * len(self.binds)


@frozen
class ItemLayout:
    """Where an item stands in a row: the values from `start` on are those of `names`; `casts` turn some into what the API shows.

    `key` is the position of the item's key, None for the item that the row is about; where the key is null there is no item. `items`
    are those of the same row that this one holds, through many-to-one fields, each by its `name`; `lists` are read by themselves.
    """

    name: str
    start: int
    names: tuple[str, ...]
    casts: tuple[tuple[str, Cast], ...]
    key: int | None = None
    items: "tuple[ItemLayout, ...]" = ()
    lists: "tuple[ListPlan, ...]" = ()
    masks: tuple[tuple[int, tuple[str, ...]], ...] = ()
    """Fields that only some rows show, by the position of what says whether this one does."""

    @property
    def weight(self) -> int:
        """The bytes that it takes, roughly, with all that it holds."""
        return 500 + sum(below.weight for below in self.items) + sum(each.plan.weight for each in self.lists)

    @property
    def shows_nothing(self) -> bool:
        """Whether no item can show anything."""
        return not (self.names or self.items or self.lists)

    @cached_property
    def may_be_empty(self) -> bool:
        """Whether an item may come to show nothing."""
        masked = {name for _, names in self.masks for name in names}
        lasting = {*self.names, *(below.name for below in self.items)} - masked
        return not lasting and all(each.flag is not None for each in self.lists)

    @cached_property
    def some_may_be_empty(self) -> bool:
        """Whether an item, or one that it holds, may come to show nothing."""
        return self.may_be_empty or any(below.some_may_be_empty for below in self.items)

    def empty_items_as_lists(self, items: list[Any]) -> list[Any]:
        """The items when all that they hold is in its place, with an empty list for each that shows nothing: clients of the API know
        them so, since PHP does not tell the two apart."""
        if not self.some_may_be_empty:
            return items
        for below in self.items:
            holders = [item for item in items if item and item.get(below.name) is not None]
            held = below.empty_items_as_lists([holder[below.name] for holder in holders])
            for holder, item in zip(holders, held, strict=True):
                holder[below.name] = item
        return [[] if item == {} else item for item in items]

    def columns(self, prefix: str = "") -> list[str]:
        """The names of the values of an item, those of items that it holds with dots before them; lists count as one value."""
        own = [f"{prefix}{name}" for name in (*self.names, *(each.name for each in self.lists))]
        return own + [name for below in self.items for name in below.columns(f"{prefix}{below.name}.")]

    def items_of(self, rows: Sequence[Row], pending: "list[tuple[ListPlan, list[Item | None]]]") -> list[Item | None]:
        """The items of the rows, None where a row has none; the lists that are still to be read go to *pending*."""
        names, start, key = self.names, self.start, self.key
        items: list[Item | None]
        if key is None:
            items = [dict(zip(names, row)) for row in rows]  # noqa: B905 - rows are longer than names, on purpose
        else:
            items = [None if row[key] is None else dict(zip(names, row[start:])) for row in rows]  # noqa: B905
        for name, cast in self.casts:
            for item in items:
                if item is not None:
                    item[name] = cast(item[name])
        for below in self.items:
            name = below.name
            for item, held in zip(items, below.items_of(rows, pending), strict=True):
                if item is not None:
                    item[name] = held
        for flag, hidden in self.masks:
            for row, item in zip(rows, items, strict=True):
                if item is not None and row[flag] is not True:
                    for name in hidden:
                        item.pop(name, None)
        pending += [(each, items) for each in self.lists]
        return items


@frozen
class ItemsPlan:
    """One statement of a read, and where the items stand in its rows. The last value of a row is the key by which it is looked for,
    where the items are those of lists, or the read is by keys."""

    select: Prepared
    layout: ItemLayout

    @property
    def weight(self) -> int:
        """The bytes that it takes, roughly, with the lists below it."""
        return self.select.weight + self.layout.weight


@frozen
class ListPlan:
    """A list of related items, `name` in the item that holds it. `source` is the position, in the rows of that item's statement, of the
    key to look for."""

    name: str
    plan: ItemsPlan
    source: int
    flag: int | None = None
    """Where only some rows show the list, the position of what says whether this one does."""


@frozen
class Plan:
    """What answers a read: the items with all that they hold, and the counts of meta. `unreadable` are the relations that the query opens
    into collections that the caller may not read."""

    items: ItemsPlan
    filter_count: Prepared
    total_count: Prepared
    status_count: Prepared | None
    filtered: bool
    statuses: tuple[str, ...] = ()
    """The statuses that are counted where no item has them, too."""

    unreadable: tuple[str, ...] = ()

    @property
    def weight(self) -> int:
        """The bytes that it takes, roughly."""
        counts = (self.filter_count, self.total_count, self.status_count)
        return self.items.weight + sum(each.weight for each in counts if each is not None)


class Weighed(Protocol):
    """What is kept on the snapshot: `weight` is the bytes that it takes, roughly."""

    @property
    def weight(self) -> int: ...


W = TypeVar("W", bound=Weighed)


def keep_plan(access: Access, key: Hashable, make: Callable[[], W]) -> W:
    """The plan that *make* gives, made once a snapshot, role and *key*, which says all that its SQL depends on."""
    found: W = access.schema.plans.get(access.key, key, make, lambda plan: plan.weight + len(repr(key)))
    return found
