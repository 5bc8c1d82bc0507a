"""What one query may ask for, and how much one read may take: refused by the name of the limit, before work is done for it."""

import pytest
from attrs import evolve

from directus_tx.access import Access
from directus_tx.compile.aggregates import aggregate_for
from directus_tx.compile.bounds import MOST_COLUMNS
from directus_tx.compile.plan import ItemsPlan, Plan
from directus_tx.compile.read import plan_for
from directus_tx.config import LimitSettings
from directus_tx.errors import InvalidRequest
from directus_tx.query import Condition, Query, Sort
from directus_tx.schema.model import Field, Relation, Snapshot
from tests.unit.schemas import INTEGER, collection, field
from tests.unit.test_sql import ADMINISTRATOR

LIMITS = LimitSettings()
PARENTS = tuple(f"parent{n}" for n in range(20))
LISTS = tuple(f"children{n}" for n in range(20))


def nodes(*more: Field) -> Snapshot:
    """A collection with twenty relations to itself, each with its list on the other side."""
    found = collection(
        "nodes",
        field("nodes", "name"),
        *(field("nodes", name, "m2o", INTEGER) for name in PARENTS),
        *(field("nodes", name, "o2m", None) for name in LISTS),
        *more,
    )
    relations = [Relation(n, "nodes", PARENTS[n], "nodes", LISTS[n]) for n in range(20)]
    return Snapshot(1, {"nodes": found}, tuple(relations))


def planned(query: Query, limits: LimitSettings = LIMITS, schema: Snapshot | None = None) -> Plan:
    return plan_for(Access(schema or nodes(), ADMINISTRATOR), "nodes", query, limits)


def fields(*names: str) -> Query:
    return Query(fields=names)


def condition(path: str, value: str | tuple[str, ...] = "1", operator: str = "eq") -> Condition:
    return Condition(tuple(path.split(".")), operator, value)


def deep(path: str, **asked: object) -> tuple[tuple[str, ...], Query]:
    return tuple(path.split(".")), evolve(Query(), **asked)


PATH = ".".join(["parent0"] * 900)
UP = ".".join(["parent0"] * 5) + ".name"
OPENED = fields("name", *(f"{name}.id" for name in LISTS))
TOO_MUCH = {
    # Stars over relations to itself would open 40 ** n relations.
    "stars": (fields(".".join(["*"] * 3)), "max_(joins|lists)"),
    "ten stars": (fields(".".join(["*"] * 10)), "max_(joins|lists)"),
    "stars behind names": (fields(*(f"{name}.*.*.*.*.*.*" for name in PARENTS)), "max_(joins|lists)"),
    "stars mixed with names": (
        fields(*(".".join(("*", "parent0")[n >> bit & 1] for bit in range(9)) for n in range(512))),
        "max_(joins|lists)",
    ),
    "lists within lists": (fields(*(f"{one}.{other}.id" for one in LISTS for other in LISTS)), "max_lists"),
    "more joins than are allowed": (fields(*(f"{one}.{other}.id" for one in PARENTS for other in PARENTS[:6])), "max_joins"),
    "a long path": (fields(PATH), "max_depth"),
    "a long path of a plain field": (fields("name" + ".x" * 900), "max_depth"),
    "a long path of stars": (fields(".".join(["*"] * 900)), "max_depth"),
    "many fields": (fields(*(f"no{n}" for n in range(10_000))), "max_fields"),
    "many sorts": (Query(sort=(Sort("name"),) * 101), "max_members"),
    "many groups": (Query(groups=("name",) * 101), "max_members"),
    "many statuses": (Query(status=("x",) * 101), "max_members"),
    "many languages": (Query(lang=("x",) * 101), "max_members"),
    "many names in meta": (Query(meta=("page",) * 101), "max_members"),
    "many conditions": (Query(filter=(condition("name"),) * 101), "max_conditions"),
    "many values": (Query(filter=(condition("id", "1" + ",1" * 100_000, "in"),)), "max_values"),
    "many values of an array": (Query(filter=(condition("id", ("1",) * 100_001, "in"),)), "max_values"),
    "a long path of a filter": (Query(filter=(condition(PATH),)), "max_depth"),
    "many relations in a filter": (Query(filter=(condition(UP),) * 11), "max_relations"),
    "a filter by many lists": (Query(filter=tuple(condition(name, operator="has") for name in LISTS * 3)), "max_relations"),
    "many conditions in deep": (evolve(OPENED, deep=(deep(LISTS[0], filter=(condition("name"),) * 101),)), "max_conditions"),
    "many conditions in all of deep": (
        evolve(OPENED, deep=tuple(deep(name, filter=(condition("name"),) * 6) for name in LISTS)),
        "max_conditions",
    ),
    "many values in deep": (
        evolve(OPENED, deep=(deep(LISTS[0], filter=(condition("id", "1" + ",1" * 100_000),)),)),
        "max_values",
    ),
    "a long path of a filter in deep": (evolve(OPENED, deep=(deep(LISTS[0], filter=(condition(PATH),)),)), "max_depth"),
    "many relations in deep": (evolve(OPENED, deep=(deep(LISTS[0], filter=(condition(UP),) * 11),)), "max_relations"),
    "many sorts in deep": (evolve(OPENED, deep=(deep(LISTS[0], sort=(Sort("name"),) * 101),)), "max_members"),
    "deep of many lists": (evolve(OPENED, deep=tuple(deep(f"x{n}", limit=1) for n in range(51))), "max_lists"),
}


@pytest.mark.parametrize("name", TOO_MUCH)
def test_what_is_too_much_is_refused_by_the_name_of_its_limit(name: str) -> None:
    query, limit = TOO_MUCH[name]
    with pytest.raises(InvalidRequest, match=rf"\(limits\.{limit}\)"):
        planned(query)


@pytest.mark.parametrize(
    "query", [Query(aggregate=(("count", "*"),) * 2000), Query(aggregate=(("count", "*"),), groupby=("name",) * 101)]
)
def test_aggregates_are_bounded(query: Query) -> None:
    with pytest.raises(InvalidRequest, match=r"\(limits\.max_members\)"):
        aggregate_for(Access(nodes(), ADMINISTRATOR), "nodes", query, LIMITS)


def test_the_filters_of_aggregates_are_bounded() -> None:
    query = Query(aggregate=(("count", "*"),), filter=(condition(UP),) * 11)
    with pytest.raises(InvalidRequest, match=r"\(limits\.max_relations\)"):
        aggregate_for(Access(nodes(), ADMINISTRATOR), "nodes", query, LIMITS)


@pytest.mark.parametrize(
    ("query", "limit", "least"),
    [
        (fields(UP), "max_depth", 5),
        (Query(filter=(condition(UP),)), "max_depth", 5),
        (Query(filter=(condition("name"),) * 7), "max_conditions", 7),
        (Query(filter=(condition(UP), condition("children0", operator="has"), condition("children0.id"))), "max_relations", 7),
        (Query(filter=(condition("id", "1,2,3", "in"),)), "max_values", 3),
        (Query(filter=(condition("id", ("1", "2", "3"), "in"),)), "max_values", 3),
        (fields("id", "name", "parent1"), "max_fields", 3),
        (Query(sort=(Sort("id"), Sort("name"))), "max_members", 2),
        (fields(UP, "children0.parent0.id"), "max_joins", 6),
        (fields("children0.children0.id", "children1.name"), "max_lists", 3),
        # Its key and the one it is sorted by beside what is shown.
        (fields("name", "parent0.name"), "max_columns", 4),
    ],
)
def test_a_limit_is_the_most_that_is_allowed(query: Query, limit: str, least: int) -> None:
    planned(query, evolve(LIMITS, **{limit: least}))
    with pytest.raises(InvalidRequest, match=rf"\(limits\.{limit}\)"):
        planned(query, evolve(LIMITS, **{limit: least - 1}))


def test_no_statement_has_more_columns_than_postgresql_takes() -> None:
    schema = nodes(*(field("nodes", f"plain{n}") for n in range(150)))
    limits = evolve(LIMITS, max_columns=100_000)
    plan = planned(fields("id", *(f"{name}.*" for name in PARENTS[:8])), limits, schema)
    assert len(plan.items.select.statement.text.split(" FROM ")[0].split(",")) < MOST_COLUMNS
    with pytest.raises(InvalidRequest, match=rf"{MOST_COLUMNS} columns.*limits\.max_columns"):
        planned(fields("id", *(f"{name}.*" for name in PARENTS[:10])), limits, schema)


@pytest.mark.parametrize(
    ("query", "many"),
    [
        (fields(*(f"{name}.id" for name in PARENTS[:4])), False),
        (fields(*(f"{name}.id" for name in PARENTS[:5])), True),
        (Query(filter=tuple(condition(f"{name}.id") for name in PARENTS[:6])), False),
        (Query(filter=tuple(condition(f"{name}.id") for name in PARENTS[:7])), True),
        (evolve(fields("parent0.id"), filter=tuple(condition(f"{name}.id") for name in PARENTS[:6])), True),
    ],
)
def test_postgresql_does_not_look_for_the_best_order_of_many_tables(query: Query, many: bool) -> None:
    assert planned(query).items.select.statement.text.startswith("SET LOCAL join_collapse_limit") == many


def statements(plan: ItemsPlan) -> int:
    """The statements of some items and of the lists below them."""
    layouts, found = [plan.layout], 1
    while layouts:
        layout = layouts.pop()
        found += sum(statements(each.plan) for each in layout.lists)
        layouts += layout.items
    return found


def test_ordinary_breadth_is_allowed() -> None:
    assert statements(planned(fields("*.*")).items) == 21
    planned(fields(*(f"{name}.{other}.name" for name in PARENTS[:6] for other in PARENTS[:6])))
    planned(Query(filter=tuple(condition(f"{name}.name") for name in PARENTS)))
