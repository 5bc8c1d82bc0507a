"""Compiled reads are kept on the snapshot by the shape of what is asked, whatever others ask."""

import gc
import itertools
import tracemalloc
from collections.abc import Iterator
from unittest.mock import patch

import pytest

from directus_tx.access import Access
from directus_tx.cache import Cache
from directus_tx.compile import read
from directus_tx.compile.plan import Plan
from directus_tx.config import LimitSettings
from directus_tx.context import Accountability
from directus_tx.http.params import parsed
from directus_tx.query import Query
from directus_tx.schema.model import Snapshot
from tests.unit.schemas import blog
from tests.unit.test_sql import ADMINISTRATOR, LIMITED, PERMISSIONS, QUERIES, WRITER

LIMITS = LimitSettings()
MOST = 800_000
"""The weight of the plans of a snapshot, small enough to fill it."""

SHAPES = [parsed(text.encode()).query() for name, text in {**QUERIES, **LIMITED}.items() if "aggregate" not in name]


@pytest.fixture
def schema() -> Snapshot:
    return blog(permissions=PERMISSIONS, plans=Cache(MOST))


def plan(schema: Snapshot, query: Query, who: Accountability = ADMINISTRATOR) -> Plan:
    return read.plan_for(Access(schema, who), "articles", query, LIMITS)


def varied() -> Iterator[Query]:
    """Queries of which no two have the same shape."""
    names = ("id", "status", "title", "views", "published_on", "owner", "author", "author.name", "tags.id", "tags.tag.name")
    for number in range(1, 9):
        for fields in itertools.permutations(names, number):
            yield Query(fields=fields)


def test_queries_that_differ_in_values_alone_are_one_plan(schema: Snapshot) -> None:
    for one, other in (
        ("filter[title]=a&limit=1&q=x", "filter[title]=b&limit=2&offset=3&q=y&meta=*"),
        ("filter[id][in]=1,2", "filter[id][in]=3"),
        ("status=published", "status=draft,deleted"),
        ("fields=tags.id&deep[tags][limit]=1", "fields=tags.id&deep[tags][limit]=2"),
    ):
        assert plan(schema, parsed(one.encode()).query()) is plan(schema, parsed(other.encode()).query())
    for one, other in (
        ("filter[title]=a", "filter[title]="),
        ("filter[title]=a", "filter[title][neq]=a"),
        ("status=published", "status=*"),
        ("status=published", ""),
        ("fields=tags.id&deep[tags][limit]=1", "fields=tags.id&deep[tags][limit]=-1"),
    ):
        assert plan(schema, parsed(one.encode()).query()) is not plan(schema, parsed(other.encode()).query())


def test_a_flood_of_shapes_leaves_the_plans_in_place_that_others_use(schema: Snapshot) -> None:
    shapes = [query for query in SHAPES if not (query.filter or query.deep)]
    known = [(query, who, plan(schema, query, who)) for query in shapes for who in (ADMINISTRATOR, WRITER)]
    for number, query in enumerate(itertools.islice(varied(), 600)):
        plan(schema, query)
        if number % 2:
            # Shapes that are asked for again are a flood as well: others' plans stay, whose are of another role.
            plan(schema, query)
        assert schema.plans.weight <= MOST
    assert schema.plans.weight > MOST * 0.9
    # Of the role that floods, what is used all the time stays.
    for query in shapes * 2:
        plan(schema, query)
    for number, query in enumerate(itertools.islice(varied(), 600, 2000)):
        plan(schema, query)
        if number % 20 == 0:
            plan(schema, shapes[number // 20 % len(shapes)])
    with patch.object(read, "compile_read", side_effect=AssertionError("compiled again")):
        for query, who, found in known:
            assert plan(schema, query, who) is found or who is ADMINISTRATOR


def test_the_weight_of_plans_is_about_the_memory_that_they_take(schema: Snapshot) -> None:
    for query in SHAPES:
        plan(schema, query)
    gc.collect()
    tracemalloc.start()
    before, weight = tracemalloc.get_traced_memory()[0], schema.plans.weight
    for query in itertools.islice(varied(), 500):
        plan(schema, query)
    gc.collect()
    taken = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert 0.5 < taken / (schema.plans.weight - weight) < 2
