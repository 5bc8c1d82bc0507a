"""What a compiled read is: the statements of its levels, and the items that their rows make. Pure values; `compile` makes them."""

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

    def parameters(self, asked: BindValues) -> list[Any]:
        return [bind(asked) for bind in self.binds]

    @property
    def weight(self) -> int:
        """The bytes that it takes, roughly."""
        return 300 + len(self.statement.text) + 150 * len(self.binds)


@frozen
class Part:
    """What of a row makes one item: the values from `start` on are those of `names`; `casts` turn some into what the API shows.

    `key` is the position of the item's key, None for the item that the row is about; where the key is null there is no item.
    `parts` are items of the same row that this one holds, through many-to-one fields; `branches` lists that are read by themselves.
    """

    name: str
    start: int
    names: tuple[str, ...]
    casts: tuple[tuple[str, Cast], ...]
    key: int | None = None
    parts: "tuple[Part, ...]" = ()
    branches: "tuple[Branch, ...]" = ()
    masks: tuple[tuple[int, tuple[str, ...]], ...] = ()
    """Fields that only some rows show, by the position of what says whether this one does."""

    @property
    def weight(self) -> int:
        """The bytes that it takes, roughly, with all that it holds."""
        return 500 + sum(part.weight for part in self.parts) + sum(branch.level.weight for branch in self.branches)

    @property
    def nothing(self) -> bool:
        """Whether no item can show anything."""
        return not (self.names or self.parts or self.branches)

    @cached_property
    def hollow(self) -> bool:
        """Whether an item may come to show nothing."""
        masked = {name for _, names in self.masks for name in names}
        lasting = {*self.names, *(part.name for part in self.parts)} - masked
        return not lasting and all(branch.flag is not None for branch in self.branches)

    @cached_property
    def hollow_somewhere(self) -> bool:
        """Whether an item, or one that it holds, may come to show nothing."""
        return self.hollow or any(part.hollow_somewhere for part in self.parts)

    def finished(self, items: list[Any]) -> list[Any]:
        """The items when all that they hold is in its place: what shows nothing is an empty list to clients of the API, as PHP has it."""
        if not self.hollow_somewhere:
            return items
        for part in self.parts:
            holders = [item for item in items if item and item.get(part.name) is not None]
            for holder, below in zip(holders, part.finished([holder[part.name] for holder in holders]), strict=True):
                holder[part.name] = below
        return [[] if item == {} else item for item in items]

    def columns(self, prefix: str = "") -> list[str]:
        """The names of the values of an item, those of items that it holds with dots before them; lists count as one value."""
        own = [f"{prefix}{name}" for name in (*self.names, *(branch.name for branch in self.branches))]
        return own + [name for part in self.parts for name in part.columns(f"{prefix}{part.name}.")]

    def items(self, rows: Sequence[Row], pending: "list[tuple[Branch, list[Item | None]]]") -> list[Item | None]:
        """The items of the rows, None where a row has none; what is still to be read goes to *pending*."""
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
        for part in self.parts:
            name = part.name
            for item, below in zip(items, part.items(rows, pending), strict=True):
                if item is not None:
                    item[name] = below
        for flag, hidden in self.masks:
            for row, item in zip(rows, items, strict=True):
                if item is not None and row[flag] is not True:
                    for name in hidden:
                        item.pop(name, None)
        pending += [(branch, items) for branch in self.branches]
        return items


@frozen
class Level:
    """One statement of a read, and the items that its rows make. The last value of a row is the key by which it is looked for, where
    the level is a branch's, or the read is by keys."""

    select: Prepared
    part: Part

    @property
    def weight(self) -> int:
        return self.select.weight + self.part.weight


@frozen
class Branch:
    """A list of related items, `name` in the item that holds it. `source` is the position, in the rows of the item's level, of the
    key to look for. `as_text`: the two keys are of different kinds and meet as text."""

    name: str
    level: Level
    source: int
    as_text: bool = False
    flag: int | None = None
    """Where only some rows show the list, the position of what says whether this one does."""


@frozen
class Plan:
    """What answers a read: the tree of levels, and the counts of meta. `unreadable` are the relations that the query opens into
    collections that the caller may not read."""

    level: Level
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
        return self.level.weight + sum(each.weight for each in counts if each is not None)


class Weighed(Protocol):
    """What is kept on the snapshot: `weight` is the bytes that it takes, roughly."""

    @property
    def weight(self) -> int: ...


W = TypeVar("W", bound=Weighed)


def keep_plan(access: Access, key: Hashable, make: Callable[[], W]) -> W:
    """The plan that *make* gives, made once a snapshot, role and *key*, which says all that its SQL depends on."""
    found: W = access.schema.plans.get(access.key, key, make, lambda plan: plan.weight + len(repr(key)))
    return found
