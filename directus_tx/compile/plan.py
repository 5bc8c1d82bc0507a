"""Plans: the statements of a compiled read, and how to build items from their rows."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import cached_property
from typing import Any, Protocol, TypeVar

from attrs import evolve, field, frozen

from directus_tx.access import Access
from directus_tx.compile.output import Output
from directus_tx.db.sql import Bind, Statement
from directus_tx.query import BindValues
from directus_tx.schema.statistics import Timing

Item = dict[str, Any]
Row = tuple[Any, ...]
Cast = Callable[[Any], Any]


@frozen
class Prepared:
    """A statement and the binds of its placeholders."""

    statement: Statement
    binds: tuple[Bind, ...]

    def parameters(self, values: BindValues) -> list[Any]:
        """Returns the values of the placeholders."""
        return [bind(values) for bind in self.binds]

    @property
    def weight(self) -> int:
        """The approximate size in bytes."""
        return 300 + len(self.statement.text) + 150 * len(self.binds)


class Width:
    """The size of the rows of a statement, as learned from rows that were read. Sizes are in bytes and approximate: `ROW` for each row,
    and the lengths of the texts at the positions *columns*, which have no maximum length or a large one."""

    __slots__ = ("average", "columns")

    def __init__(self, columns: Sequence[int] = ()) -> None:
        self.columns = tuple(columns)
        self.average: float | None = None if columns else ROW
        """The average size of a row, that of the widest rows read lately. None: unknown."""

    def rows_in(self, size: int) -> int:
        """Returns how many rows take *size* bytes, at least 1. `FIRST_ROWS` at most if the size of the rows is unknown, and at most
        `WIDE_ROWS` if they hold long texts, because the next rows may be longer."""
        if self.average is None:
            return FIRST_ROWS
        found = max(int(size // self.average), 1)
        return min(found, WIDE_ROWS) if self.columns and self.average > WIDE else found

    def measure(self, rows: Sequence[Row]) -> int:
        """Returns the size of rows, and learns from it."""
        size = ROW * len(rows)
        if self.columns and rows:
            for column in self.columns:
                size += sum([len(value) for row in rows if isinstance(value := row[column], (str, bytes))])
            average = size / len(rows)
            if self.average is None or average > self.average:
                self.average = average
            else:
                # Narrow rows are forgotten soon, wide ones slowly.
                self.average += (average - self.average) / 16
        return size


ROW = 800
"""Bytes that are counted for each row in addition to its long texts."""

FIRST_ROWS = 20
"""How many rows are read first if their size is unknown."""

LAYOUT_WEIGHT = 1000
VALUE_WEIGHT = 160
"""Bytes that a layout and its generated function take, and those for each of its values."""

WIDE = 4000
WIDE_ROWS = 250
"""How many rows are read at most at once if they take more than `WIDE` bytes."""


Build = Callable[[Sequence[Row]], tuple[list[Item | None], ...]]


class Builder:
    """Builds the items of a layout. From the second use on it does so with a function that is generated for the layout, which takes half
    the time of the general way. Generating it takes some tenths of a millisecond, so a layout that is used once does without, unless it has
    an output."""

    __slots__ = ("_build", "_used")

    def __init__(self) -> None:
        self._used = False
        self._build: Build | None = None

    def build(self, layout: "ItemLayout", rows: Sequence[Row]) -> tuple[list[Item | None], ...]:
        """Does what `ItemLayout.build` does."""
        if self._build is not None:
            return self._build(rows)
        if not self._used and layout.output is None:
            self._used = True
            return layout.build(rows)
        self._build = generated(layout)
        return self._build(rows)


def generated(layout: "ItemLayout") -> Build:
    """Returns a function that does what `ItemLayout.build` does, for this layout only.

    The text that is compiled consists of numbers, and of names that are numbered here. The names of fields and the casts are defaults of
    parameters, so they are never parsed.
    """
    source = _Source()
    source.add(layout, "item")
    source.hold("item")
    parameters = ", ".join(["rows", *source.bound.values()])
    lines = [
        f"def build({parameters}):",
        *(f" {name} = []" for name in source.held),
        " for row in rows:",
        *source.lines,
        f" return {', '.join(source.held)},",
    ]
    namespace: dict[str, Any] = {}
    # No text of clients is in it. Unlike the locals, the globals do not contain the function, which would be a cycle.
    exec(compile("\n".join(lines), "<layout>", "exec"), {"__builtins__": {}}, namespace)
    build: Any = namespace["build"]
    build.__defaults__ = tuple(source.bound)
    return build  # type: ignore[no-any-return]


class _Source:
    """The text of a function that is being generated: the `lines` that are run for each row; the parameters by the values `bound` to
    them; and the lists of items that it returns, `held`."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.bound: dict[Any, str] = {}
        self.held: list[str] = []

    def add(self, layout: "ItemLayout", item: str) -> None:
        """Adds the lines that assign the item of a layout to the variable *item*."""
        casts = dict(layout.casts)
        values: dict[str, str] = {}
        for place, name in enumerate(layout.names, layout.start):
            value = f"row[{place}]"
            values[name] = f"{self._parameter(casts[name])}({value})" if name in casts else value
        for number, below in enumerate(layout.items):
            values[below.name] = f"{item}_{number}"
            self.add(below, values[below.name])
            if below.lists:
                self.hold(values[below.name])
        entries = values if layout.output is None else self._shown(layout.output, values)
        display = ", ".join([f"{self._parameter(name)}: {value}" for name, value in entries.items()])
        missing = "" if layout.key is None else f"None if row[{layout.key}] is None else "
        self.lines.append(f"  {item} = {missing}{{{display}}}")
        for flag, hidden in layout.masks:
            self.lines.append(f"  if row[{flag}] is not True and {item} is not None:")
            self.lines += [f"   {item}.pop({self._parameter(name)}, None)" for name in hidden]

    def _shown(self, output: Output, values: Mapping[str, str]) -> dict[str, str]:
        """Returns the expressions of the values that an output shows, given those of the fields. A list is None until it is read."""
        entries: dict[str, str] = {}
        for each in output.fields:
            if each.name is None:
                value = self._parameter(each.constant)
            else:
                value = values.get(each.name, "None")
                if each.convert is not None:
                    value = f"{self._parameter(each.convert)}({value})"
            entries[each.key] = value
        return entries

    def hold(self, item: str) -> None:
        """Adds the line that appends an item to a list that is returned."""
        name = f"items{len(self.held)}"
        self.held.append(name)
        self.lines.append(f"  {name}.append({item})")

    def _parameter(self, value: Any) -> str:
        return self.bound.setdefault(value, f"bound{len(self.bound)}")


class Layout(Protocol):
    """How to build items from the rows of a statement."""

    @property
    def shows_nothing(self) -> bool:
        """Whether no item has visible fields."""

    @property
    def has_lists(self) -> bool:
        """Whether the items, or the items in their many-to-one fields, have lists."""

    def items_of(self, rows: Sequence[Row], pending: "list[tuple[ListPlan, list[Item | None]]]") -> list[Any]:
        """Returns the items of the rows. Appends the lists still to be read to *pending*."""

    def empty_items_as_lists(self, items: list[Any]) -> list[Any]:
        """Returns the complete items with an empty list in place of each item without visible fields."""


@frozen
class ItemLayout:
    """The position of an item in a row: the values from `start` on are those of `names`; `casts` convert some of them for the API.

    `key` is the position of the key of a related item, None for the item of the statement itself; if the key is NULL, there is no item.
    `items` are the related items in the same row, joined through many-to-one fields; `lists` are read by separate statements.
    """

    name: str
    start: int
    names: tuple[str, ...]
    casts: tuple[tuple[str, Cast], ...]
    key: int | None = None
    items: "tuple[ItemLayout, ...]" = ()
    lists: "tuple[ListPlan, ...]" = ()
    masks: tuple[tuple[int, tuple[str, ...]], ...] = ()
    """Fields that only some rows show, by the position of the flag that says whether a row does."""

    output: Output | None = None
    """What the items show, and under which names; None: the values under their own names. `with_output` sets it."""

    _builder: Builder = field(factory=Builder, eq=False, repr=False, init=False)

    @property
    def weight(self) -> int:
        """The approximate size in bytes, with nested items and the function that is generated for it."""
        values = len(self.names) + len(self.casts) + sum(len(names) for _, names in self.masks)
        own = LAYOUT_WEIGHT + VALUE_WEIGHT * (values + (0 if self.output is None else len(self.output.fields)))
        return own + sum(below.weight for below in self.items) + sum(each.plan.weight for each in self.lists)

    @property
    def shows_nothing(self) -> bool:
        """Whether no item has visible fields."""
        return not (self.names or self.items or self.lists)

    @property
    def has_lists(self) -> bool:
        """Whether the item, or an item in its many-to-one fields, has lists."""
        return bool(self.lists) or any(below.has_lists for below in self.items)

    @cached_property
    def may_be_empty(self) -> bool:
        """Whether an item may have no visible fields."""
        masked = {name for _, names in self.masks for name in names}
        lasting = {*self.names, *(below.name for below in self.items)} - masked
        return not lasting and all(each.flag is not None for each in self.lists)

    @cached_property
    def some_may_be_empty(self) -> bool:
        """Whether the item or a nested item may have no visible fields."""
        return self.may_be_empty or any(below.some_may_be_empty for below in self.items)

    def empty_items_as_lists(self, items: list[Any]) -> list[Any]:
        """Returns the items with an empty list in place of each item without visible fields, as PHP encodes an empty array. Call it when
        the nested items are complete."""
        if not self.some_may_be_empty:
            return items
        for below in self.items:
            holders = [item for item in items if item and item.get(below.name) is not None]
            held = below.empty_items_as_lists([holder[below.name] for holder in holders])
            for holder, item in zip(holders, held, strict=True):
                holder[below.name] = item
        return [[] if item == {} else item for item in items]

    def paths(self) -> list[tuple[str, ...]]:
        """Returns the paths to the values of an item: a name, or several for a value of a nested item. A list is one value."""
        own = [(name,) for name in (*self.names, *(each.name for each in self.lists))]
        return own + [(below.name, *path) for below in self.items for path in below.paths()]

    def items_of(self, rows: Sequence[Row], pending: "list[tuple[ListPlan, list[Item | None]]]") -> list[Item | None]:
        """Returns the items of the rows, None for rows without one. Appends the lists still to be read to *pending*."""
        *holding, items = self._builder.build(self, rows)
        for layout, held in zip(self.holders, holding, strict=True):
            pending += [(each, held) for each in layout.lists]
        pending += [(each, items) for each in self.lists]
        return items

    @cached_property
    def holders(self) -> "tuple[ItemLayout, ...]":
        """The layouts of the nested items that have lists, in the order in which their lists are read."""
        return tuple([layout for below in self.items for layout in (*below.holders, *((below,) if below.lists else ()))])

    def build(self, rows: Sequence[Row]) -> tuple[list[Item | None], ...]:
        """Returns the items of rows for each of `holders`, and last those of the layout itself: one for each row, None for rows without
        one. Only generated functions build an output."""
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
        holding: list[list[Item | None]] = []
        for below in self.items:
            name = below.name
            *deeper, found = below.build(rows)
            holding += [*deeper, found] if below.lists else deeper
            for item, held in zip(items, found, strict=True):
                if item is not None:
                    item[name] = held
        for flag, hidden in self.masks:
            for row, item in zip(rows, items, strict=True):
                if item is not None and row[flag] is not True:
                    for name in hidden:
                        item.pop(name, None)
        return (*holding, items)


@frozen
class ItemsPlan:
    """A statement and the layout of the items in its rows. For one-to-many fields and reads by key, the last value of a row is the key
    that the row was looked up by. `timing` counts how often the statement is run, None if it is not counted."""

    select: Prepared
    layout: ItemLayout
    width: Width = field(factory=Width, eq=False, repr=False)
    timing: Timing | None = field(default=None, eq=False, repr=False)

    @property
    def weight(self) -> int:
        """The approximate size in bytes, lists included."""
        return self.select.weight + self.layout.weight


class ListedPlan(Protocol):
    """A statement whose rows are a list: of items, or of groups."""

    @property
    def select(self) -> Prepared: ...

    @property
    def layout(self) -> Layout: ...

    @property
    def width(self) -> Width: ...

    @property
    def timing(self) -> Timing | None: ...


@frozen
class ListPlan:
    """A one-to-many field: its `name` in the item, and the position `source` of the key to look up in the rows of the item's
    statement."""

    name: str
    plan: ItemsPlan
    source: int
    flag: int | None = None
    """The position of the flag that says whether a row shows the list; None if all do."""


def with_output(layout: ItemLayout, output: Output) -> ItemLayout | None:
    """Returns the layout that builds the items of an output. None if no layout does: where some rows hide fields or may show none, where
    related items are shown twice, and where the output and the layout differ in what is a related item."""
    if layout.masks or layout.may_be_empty or any(each.flag is not None for each in layout.lists):
        return None
    related = {*[each.name for each in layout.items], *[each.name for each in layout.lists]}
    opened = {each.name: each for each in output.fields if each.below is not None}
    if len(opened) < sum([each.below is not None for each in output.fields]) or opened.keys() != related:
        return None
    if any(each.below is None and each.name in related for each in output.fields):
        return None
    items: list[ItemLayout] = []
    lists: list[ListPlan] = []
    for below in layout.items:
        found = with_output(below, opened[below.name].below)  # type: ignore[arg-type]
        if found is None:
            return None
        items.append(found)
    for each in layout.lists:
        found = with_output(each.plan.layout, opened[each.name].below)  # type: ignore[arg-type]
        if found is None:
            return None
        lists.append(evolve(each, name=opened[each.name].key, plan=evolve(each.plan, layout=found)))
    return evolve(layout, items=tuple(items), lists=tuple(lists), output=output)


@frozen
class Plan:
    """A compiled read: the statement of the items, and those of the counts of meta. `unreadable` are the expanded relations into
    collections that the caller may not read."""

    items: ItemsPlan
    filter_count: Prepared
    total_count: Prepared
    status_count: Prepared | None
    """A row for each status: the status, the number of its items, and how many of those `total_count` counts. One scan of the table
    gives both counts. None if the collection has no visible status field."""

    filtered: bool
    counts_rows: bool
    """Whether `filter_count` counts the rows of `items`, as if these had no limit and offset."""

    statuses: tuple[str, ...] = ()
    """The statuses that status_count lists even if no item has them."""

    unreadable: tuple[str, ...] = ()
    cursor_order: tuple[str, ...] = ()
    """The order that the cursors of the list name. Empty without a cursor. The last values of each row are those of its cursor."""

    has_output: bool = False
    """Whether the items are those of the output that was asked for. Otherwise they show the fields under their own names."""

    @property
    def weight(self) -> int:
        """The approximate size in bytes."""
        counts = (self.filter_count, self.total_count, self.status_count)
        return self.items.weight + sum(each.weight for each in counts if each is not None)


class Weighed(Protocol):
    """A value in the cache of a snapshot; `weight` is its approximate size in bytes."""

    @property
    def weight(self) -> int: ...


W = TypeVar("W", bound=Weighed)


def keep_plan(access: Access, key: Hashable, make: Callable[[], W]) -> W:
    """Returns the cached plan of a role and *key*, which identifies its SQL; calls *make* if there is none."""
    found: W = access.schema.plans.get(access.key, key, make, lambda plan: plan.weight + len(repr(key)))
    return found
