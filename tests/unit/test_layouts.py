"""The items that a layout builds of rows: by the general way and by the function that is generated for it."""

import gc
import sys
import tracemalloc
import weakref
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from directus_tx.compile.plan import ItemLayout, ItemsPlan, ListPlan, Prepared, generated
from directus_tx.db.sql import SQL, Statement

HOSTILE = (
    "",
    "'",
    '"',
    "\\",
    "a\nimport os",
    "a\r\x0b\x1b",
    "#",
    "class",
    "None",
    "rows",
    "row",
    "item",
    "bound0",
    "items0",
    "build",
    "__class__",
    "__builtins__",
    "{0}",
    "%s",
    '"""',
    "'): None, **globals()}) #",
    "äöü",
    "ﬁ",
    "名前",
    "\u202e",
    "\U0001f600",
)
NAMES = st.one_of(st.sampled_from(HOSTILE), st.text(st.characters(exclude_categories=["Cs"]), max_size=6))


def doubled(value: Any) -> Any:
    return (value, value)


def shown(value: Any) -> Any:
    return {"shown": value}


def a_list(name: str) -> ListPlan:
    select = Prepared(Statement(SQL("SELECT 1")), ())
    return ListPlan(name, ItemsPlan(select, ItemLayout("", 0, ("id",), ())), 0)


@st.composite
def layouts(draw: st.DrawFn, columns: int, level: int = 0) -> ItemLayout:
    """A layout of rows of this many columns, with nested items in it."""
    names = draw(st.lists(NAMES, unique=True, max_size=columns))
    start = 0 if level == 0 else draw(st.integers(0, columns - len(names)))
    # The key of a related item is the value of a relation: both are in the item by the same name, as in a field that is opened.
    inner = draw(st.lists(layouts(columns, level + 1), max_size=2 if level < 3 else 0))
    below = {draw(NAMES): each for each in inner}
    items = tuple(evolve(each, name=name) for name, each in below.items())
    casts = tuple((name, draw(st.sampled_from([doubled, shown]))) for name in names if draw(st.booleans()))
    maskable = [*names, *below]
    masks = [
        (draw(st.integers(0, columns - 1)), tuple(draw(st.lists(st.sampled_from(maskable), unique=True, min_size=1))))
        for _ in range(draw(st.integers(0, 2)) if maskable else 0)
    ]
    lists = tuple(a_list(name) for name in draw(st.lists(NAMES, unique=True, max_size=2)))
    key = None if level == 0 else draw(st.integers(0, columns - 1))
    return ItemLayout("", start, tuple(names), casts, key, items, lists, tuple(masks))


def expected(layout: ItemLayout, row: tuple[Any, ...]) -> dict[str, Any] | None:
    """What a layout is documented to make of a row, without lists."""
    if layout.key is not None and row[layout.key] is None:
        return None
    casts = dict(layout.casts)
    item = {}
    for place, name in enumerate(layout.names):
        value = row[layout.start + place]
        item[name] = casts[name](value) if name in casts else value
    for below in layout.items:
        item[below.name] = expected(below, row)
    hidden = {name for flag, names in layout.masks if row[flag] is not True for name in names}
    return {name: value for name, value in item.items() if name not in hidden}


VALUES = st.sampled_from([None, True, False, 0, 1, "text", 2.5])


@given(st.data())
def test_both_ways_build_what_the_layout_says(data: st.DataObject) -> None:
    columns = data.draw(st.integers(1, 8))
    layout = data.draw(layouts(columns))
    rows = data.draw(st.lists(st.tuples(*[VALUES] * columns), max_size=4))
    wanted = [expected(layout, row) for row in rows]
    for _ in range(3):
        pending: list[tuple[ListPlan, list[Any]]] = []
        items = layout.items_of(rows, pending)
        assert items == wanted
        # The order of the fields is that of the answer.
        assert [list(each) for each in items] == [list(each) for each in wanted]
        check_pending(layout, rows, pending)


def check_pending(layout: ItemLayout, rows: list[tuple[Any, ...]], pending: list[tuple[ListPlan, list[Any]]]) -> None:
    """Each list is pending once, those of nested items first, with the item of each row that holds it."""
    order = [each for found in layouts_of(layout) for each in found.lists]
    assert [id(each) for each, _ in pending] == [id(each) for each in order]
    for found in layouts_of(layout):
        for each, holders in pending:
            if any(each is one for one in found.lists):
                assert holders == [expected(found, row) for row in rows]


def layouts_of(layout: ItemLayout) -> list[ItemLayout]:
    return [each for below in layout.items for each in layouts_of(below)] + [layout]


def test_a_list_is_stored_in_the_item_that_is_shown() -> None:
    below = ItemLayout("author", 1, ("id",), (), 1, (), (a_list("books"),))
    layout = ItemLayout("", 0, ("id",), (), None, (below,))
    for _ in range(3):
        pending: list[tuple[ListPlan, list[Any]]] = []
        items = layout.items_of([(1, 7), (2, None)], pending)
        ((each, holders),) = pending
        assert each.name == "books"
        assert holders[0] is items[0]["author"]
        assert holders[1] is None


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_values_and_never_text(name: str) -> None:
    build = generated(ItemLayout("", 0, (name, name + "2"), ((name, doubled),)))
    assert build([(1, 2)]) == ([{name: (1, 1), name + "2": 2}],)


def test_items_may_be_nested_deeply() -> None:
    layout = ItemLayout("", 0, ("id",), (), 0)
    for number in range(100):
        layout = ItemLayout("", 0, ("id",), (), 0, (evolve(layout, name=f"level{number}"),))
    first, second = layout.items_of([(1,)], []), layout.items_of([(1,)], [])
    for _ in range(100):
        assert list(first[0]) == list(second[0])
        first, second = ([item[name] for item in items for name in item if name != "id"] for items in (first, second))
    assert first == second == [{"id": 1}]


def test_a_layout_is_freed_without_the_garbage_collector() -> None:
    layout = ItemLayout("", 0, ("id",), (("id", doubled),), None, (), (a_list("books"),))
    for _ in range(3):
        layout.items_of([(1,)], [])
    function = weakref.ref(layout._builder._build)  # type: ignore[arg-type]
    assert function() is not None
    gc.disable()
    try:
        del layout
        assert function() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("number", [5, 50, 500])
def test_the_weight_of_a_layout_covers_its_function(number: int) -> None:
    names = tuple(sys.intern(f"a_name_{each}") for each in range(number))
    layout = ItemLayout("", 0, names, ((names[0], doubled),))
    generated(layout)
    gc.collect()
    tracemalloc.start()
    function = generated(layout)
    gc.collect()
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert function([tuple(range(number))])
    assert layout.weight / 3 < size < layout.weight * 1.5
