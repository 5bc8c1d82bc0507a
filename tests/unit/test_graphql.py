"""GraphQL: names, what is kept, and documents that are made to take long."""

import time
import tracemalloc

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from directus_tx.access.caller import Access
from directus_tx.config import GraphQLSettings
from directus_tx.context import Accountability
from directus_tx.errors import InvalidRequest
from directus_tx.graphql.catalog import Catalog
from directus_tx.graphql.documents import Refused, parsed
from directus_tx.graphql.keeping import Recent
from directus_tx.graphql.names import graphql_name, type_name
from directus_tx.graphql.scalars import value_type
from directus_tx.graphql.selecting import Selector
from directus_tx.graphql.shaping import shape_of
from directus_tx.graphql.types import catalog_of, grants_of
from directus_tx.schema.model import Field
from tests.unit.schemas import blog, collection

SETTINGS = GraphQLSettings()


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    found = blog()
    more = {name: collection(name) for name in ("directus_collections", "directus_fields")}
    schema = evolve(found, collections={**found.collections, **more})
    return catalog_of(schema, grants_of(Access(schema, Accountability(1, 1))), mutations=True)


@given(st.text())
def test_every_name_has_a_graphql_name(name: str) -> None:
    for found in (graphql_name(name), type_name(name)):
        assert found.isascii()
        assert found.replace("_", "a").isalnum()
        assert not found[0].isdigit()
        assert not found.startswith("__")


def test_names_and_types() -> None:
    assert [graphql_name(each) for each in ("title", "2fa", "größe", "a-b", "__x", "")] == [
        "title",
        "_2fa",
        "gr_u00f6_u00dfe",
        "a_b",
        "_x",
        "_",
    ]
    assert [type_name(each) for each in ("articles", "articles_tags", "directus_users", "directus_activity", "2nd")] == [
        "Articles",
        "ArticlesTags",
        "DirectusUser",
        "DirectusActivity",
        "_2nd",
    ]


def test_what_was_not_used_for_longest_is_dropped() -> None:
    kept: Recent[str] = Recent(10)
    kept.keep("a", "A", 4)
    kept.keep("b", "B", 4)
    assert kept.get("a") == "A"
    kept.keep("c", "C", 4)
    assert [kept.get(each) for each in "abc"] == ["A", None, "C"]
    kept.keep("d", "D", 100)
    assert [kept.get(each) for each in "acd"] == [None, None, "D"]
    kept.keep("d", "D", 1)
    assert kept.weight == 1


HOSTILE = {
    "deep": "{articles{data{" + "author{articles{" * 300 + "id" + "}}" * 300 + "}}}",
    "wide": "{articles{data{" + "title " * 4900 + "}}}",
    "unknown fields": "{articles{data{" + " ".join(f"titel{n}" for n in range(4000)) + "}}}",
    "aliases": "{" + " ".join(f"a{n}: articles{{data{{id}}}}" for n in range(600)) + "}",
    "a circle of fragments": "{articles{data{...f0}}}"
    + "".join(f"fragment f{n} on ArticlesItem{{...f{(n + 1) % 300}}}" for n in range(300)),
    "fragments that double": "{articles{data{...f0}}}"
    + "".join(f"fragment f{n} on ArticlesItem{{author{{articles{{...f{n + 1} a: id ...f{n + 1}}}}}}}" for n in range(18))
    + "fragment f18 on ArticlesItem{author{articles{"
    + "id " * 100
    + "}}}",
    "fragments that are not used": "{articles{data{id}}}" + "".join(f"fragment f{n} on ArticlesItem{{id}}" for n in range(600)),
    "a long chain of fragments": "{articles{data{...f0}}}"
    + "".join(f"fragment f{n} on ArticlesItem{{...f{n + 1}}}" for n in range(600))
    + "fragment f600 on ArticlesItem{id}",
    "many operations": " ".join(f"query q{n}{{articles{{data{{id}}}}}}" for n in range(500)),
    "many variables": "query(" + ",".join(f"$v{n}: Int" for n in range(1500)) + "){articles{data{id}}}",
    "nested values": "{articles(filter: {and: [" + "{and: [" * 600 + "]}" * 600 + "]}){data{id}}}",
    "nested lists": "{articles(filter: " + "[" * 2000 + "]" * 2000 + "){data{id}}}",
    "comments": "#\n" * 20_000 + "{articles{data{id}}}",
    "a long text": '{articles(search: "' + "x" * 200_000 + '"){data{id}}}',
    "brackets": "{" * 50_000,
    "the schema many times": "{"
    + " ".join(f"s{n}: __schema{{types{{a: name b: name fields{{name}}}}}}" for n in range(30))
    + "}",
    "a deep schema": "{__schema{types{" + "fields{type{" * 12 + "name" + "}}" * 12 + "}}}",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_documents_that_are_made_to_take_long_are_refused_soon_and_take_little_memory(name: str, catalog: Catalog) -> None:
    text = HOSTILE[name]
    started = time.process_time()
    with pytest.raises((Refused, InvalidRequest)):
        parsed(text, catalog, SETTINGS)
    # It takes some tenths of a second. Without the bounds, some of these would take minutes and gigabytes.
    assert time.process_time() - started < 10
    tracemalloc.start()
    try:
        with pytest.raises((Refused, InvalidRequest)):
            parsed(text, catalog, SETTINGS)
        assert tracemalloc.get_traced_memory()[1] < 32 * 2**20
    finally:
        tracemalloc.stop()


def test_lists_deeper_than_python_allows_loops_are_shaped(catalog: Catalog) -> None:
    text = "{authors{data{" + "articles{author{" * 20 + "name" + "}}" * 20 + "}}}"
    document = parsed(text, catalog, evolve(SETTINGS, max_depth=100))
    selection = document.operations[""].selection_set.selections[0].selection_set.selections[0].selection_set  # type: ignore[attr-defined]
    shape = shape_of(Selector(catalog.objects, {}, {}).select(catalog.objects["AuthorsItem"], [selection]))
    item: dict = {"name": "Ada"}
    for _ in range(20):
        item = {"articles": [{"author": item}]}
    assert shape([item]) == [item]


def test_numbers_that_json_cannot_hold_exactly_are_texts(catalog: Catalog) -> None:
    assert str(value_type(Field("x", "big", "integer", "BIGINT", column_type="bigint"))) == "String"
    assert str(value_type(Field("x", "usual", "integer", "INT", column_type="bigint"))) == "Int"
    assert value_type(Field("x", "usual", "integer", "INT", column_type="bigint")).parse_value(2**32 - 1) == 2**32 - 1
