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

from directus_tx.compile.output import Output, OutputField
from directus_tx.compile.plan import ItemLayout, ItemsPlan, ListPlan, Prepared, generated, with_output
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


@st.composite
def outputs(draw: st.DrawFn, layout: ItemLayout) -> Output:
    """An output that opens each related item of a layout once, and shows values of it, unknown fields and constants besides."""
    related: list[tuple[str, ItemLayout]] = [(each.name, each) for each in layout.items]
    related += [(each.name, each.plan.layout) for each in layout.lists]
    plain = [name for name in layout.names if name not in dict(related)]
    keys = draw(st.lists(NAMES, unique=True, min_size=len(related), max_size=len(related) + 6))
    found = [OutputField(key, name, None, draw(outputs(below))) for key, (name, below) in zip(keys, related, strict=False)]
    for key in keys[len(related) :]:
        if draw(st.booleans()) and plain:
            found.append(OutputField(key, draw(st.sampled_from(plain)), draw(st.sampled_from([None, doubled, shown]))))
        else:
            found.append(draw(st.sampled_from([OutputField(key, None, constant=key + "!"), OutputField(key, "no such field")])))
    return Output(tuple(draw(st.permutations(found))))


def shown_by(output: Output, layout: ItemLayout, item: dict[str, Any] | None) -> dict[str, Any] | None:
    """What an output is documented to make of an item of a layout, lists left out as None."""
    if item is None:
        return None
    below = {each.name: each for each in layout.items}
    found = {}
    for each in output.fields:
        value = each.constant if each.name is None else item.get(each.name)
        if each.below is not None:
            value = shown_by(each.below, below[each.name], value) if each.name in below else None
        found[each.key] = value if each.convert is None else each.convert(value)
    return found


@given(st.data())
def test_an_output_is_what_is_shown_of_the_items(data: st.DataObject) -> None:
    columns = data.draw(st.integers(1, 6))
    layout = without_what_no_output_has(data.draw(layouts(columns)))
    output = data.draw(outputs(layout))
    rows = data.draw(st.lists(st.tuples(*[VALUES] * columns), max_size=4))
    wanted = [shown_by(output, layout, expected(layout, row)) for row in rows]
    built = with_output(layout, output)
    assert (built is None) == layout.some_may_be_empty
    if built is not None:
        pending: list[tuple[ListPlan, list[Any]]] = []
        items = built.items_of(rows, pending)
        assert items == wanted
        assert [list(each) for each in items] == [list(each) for each in wanted]
        keys = {each.name: each.key for each in output.fields}
        assert [each.name for each, holders in pending if holders is items] == [keys[each.name] for each in layout.lists]
        assert built.empty_items_as_lists(items) is items


def without_what_no_output_has(layout: ItemLayout) -> ItemLayout:
    """A layout without fields that only some rows show, and without lists that have the name of something else."""
    items = [without_what_no_output_has(each) for each in layout.items]
    taken = {*layout.names, *(each.name for each in items)}
    return evolve(layout, items=tuple(items), lists=tuple([each for each in layout.lists if each.name not in taken]), masks=())


def test_what_cannot_be_built_at_once() -> None:
    below = ItemLayout("author", 1, ("id",), (), 1)
    layout = ItemLayout("", 0, ("id",), (), None, (below,), (a_list("books"),))
    of_key = Output((OutputField("id", "id"),))
    author, books = OutputField("author", "author", None, of_key), OutputField("books", "books", None, of_key)
    whole = Output((author, books))
    assert with_output(layout, whole) is not None
    assert with_output(layout, Output((author, books, evolve(books, key="others")))) is None
    assert with_output(layout, Output((author,))) is None
    assert with_output(layout, Output((author, OutputField("books", "books")))) is None
    assert with_output(layout, Output((*whole.fields, evolve(author, name="editor")))) is None
    assert with_output(evolve(layout, masks=((0, ("id",)),)), whole) is None
    assert with_output(evolve(layout, items=(evolve(below, masks=((0, ("id",)),)),)), whole) is None
    assert with_output(evolve(layout, lists=(evolve(layout.lists[0], flag=0),)), whole) is None


@pytest.mark.parametrize("name", HOSTILE)
def test_names_of_outputs_are_values_and_never_text(name: str) -> None:
    layout = ItemLayout("", 0, ("id",), ())
    built = with_output(layout, Output((OutputField(name, "id"), OutputField(name + "2", None, constant=name))))
    assert built is not None
    assert built.items_of([(1,)], []) == [{name: 1, name + "2": name}]


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
