"""Which index a lookup needs, whether one serves, and how the statistics of lookups stay bounded."""

import itertools

import pytest
from attrs import evolve

from directus_tx.access import Access
from directus_tx.cli.advise import advice_texts, filter_text, url_of
from directus_tx.cli.command import Failed
from directus_tx.compile.aggregates import aggregate_for
from directus_tx.compile.read import plan_for
from directus_tx.config import LimitSettings
from directus_tx.http.params import parsed
from directus_tx.schema import statistics
from directus_tx.schema.model import BUILDING, OF_DATABASE, READY, VIEW, Field, Index, Snapshot
from directus_tx.schema.statistics import Asked, Lookup, Statistics
from directus_tx.schema_service.advice import Need, declaration, needs_of, serves
from tests.unit.schemas import blog
from tests.unit.test_sql import ADMINISTRATOR

LIMITS = LimitSettings()


def looked_up(schema: Snapshot, text: str, collection: str = "articles") -> list[Lookup]:
    """The lookups that are counted of a query: that of the list, then those of its related lists."""
    before = {timing.lookup for timing in schema.statistics}
    query = parsed(text.encode()).query()
    access = Access(schema, ADMINISTRATOR)
    if query.aggregate:
        aggregate_for(access, collection, query, LIMITS)
    else:
        plan_for(access, collection, query, LIMITS)
    return [timing.lookup for timing in schema.statistics if timing.lookup not in before]


LOOKUPS: dict[str, list[Lookup]] = {
    "": [],
    "filter[title]=secret": [Lookup("articles", (Asked("title", "eq"),))],
    "filter[views][>]=5&filter[title][!%3D]=x": [Lookup("articles", (Asked("views", "gt"), Asked("title", "neq")))],
    "filter[title][contains]=": [],
    "filter[author.name]=Ada&sort=-views,title": [Lookup("articles", (Asked("author.name", "eq"),), ("-views", "title"))],
    "filter[title]=a&filter[views][eq]=5&filter[views][logical]=or": [
        Lookup("articles", (Asked("title", "eq"), Asked("views", "eq", "or")))
    ],
    "status=draft": [Lookup("articles", (Asked("status", "in"),))],
    "status=*": [],
    "q=secret": [Lookup("articles", search=True)],
    "aggregate[count]=*&filter[title]=a&groupby=status": [Lookup("articles", (Asked("title", "eq"),))],
    "fields=tags.id": [Lookup("articles_tags", (Asked("article", "key"),))],
    "fields=tags.id&deep[tags][filter][tag]=5": [Lookup("articles_tags", (Asked("tag", "eq"), Asked("article", "key")))],
    "&".join(f"filter[views][{number}][neq]={number}" for number in range(20)): [],
}


@pytest.mark.parametrize("text", LOOKUPS)
def test_what_is_counted_of_a_query_has_no_values(text: str) -> None:
    assert looked_up(blog(), text) == LOOKUPS[text]


def test_lists_without_sort_are_sorted_by_the_sort_field() -> None:
    assert looked_up(blog(), "", "tags") == [Lookup("tags", sort=("sort",))]


def test_reads_by_key_are_not_counted() -> None:
    schema = blog()
    plan = plan_for(Access(schema, ADMINISTRATOR), "articles", parsed(b"filter[title]=a").query(), LIMITS, by_key=True)
    assert plan.items.timing is None
    assert len(schema.statistics) == 0


NEEDS: dict[str, list[dict[str, object]]] = {
    # one field
    "filter[title]=a": [{"field": "title", "index": True}],
    "filter[title][in]=a,b": [{"field": "title", "index": True}],
    "filter[views][between]=1,2": [{"field": "views", "index": True}],
    "filter[views][null]": [{"field": "views", "index": True}],
    "sort=title": [{"field": "title", "index": True}],
    "sort=-title": [{"field": "title", "index": True}],
    "sort=-views,id": [{"field": "views", "index": True}],
    "filter[title]=a&sort=id": [{"field": "title", "index": True}],
    "filter[title]=a&sort=title": [{"field": "title", "index": True}],
    "filter[views][gt]=1&sort=-views": [{"field": "views", "index": True}],
    "filter[title][eq]=a&filter[title][neq]=b": [{"field": "title", "index": True}],
    # several: equality, then the order, or else one range
    "sort=title,-views": [{"indexes": [{"fields": ["title", "-views"]}]}],
    "filter[title]=a&sort=-views": [{"indexes": [{"fields": ["title", "-views"]}]}],
    "filter[title]=a&sort=-id": [{"indexes": [{"fields": ["title", "-id"]}]}],
    "filter[views][gt]=1&filter[title]=a": [{"indexes": [{"fields": ["title", "views"]}]}],
    "filter[views][gt]=1&filter[title]=a&sort=published_on": [{"indexes": [{"fields": ["title", "published_on"]}]}],
    "filter[title][in]=a,b&filter[views]=1&sort=published_on": [{"indexes": [{"fields": ["views", "title", "published_on"]}]}],
    "filter[title]=a&status=draft": [{"indexes": [{"fields": ["title", "status"]}]}],
    # relations: the field at their end, and the columns that hold keys
    "filter[author.name]=a": [
        {"field": "author", "index": True},
        {"collection": "authors", "field": "name", "index": True},
    ],
    "filter[tags.tag.name][gt]=a": [
        {"collection": "articles_tags", "field": "article", "index": True},
        {"collection": "articles_tags", "field": "tag", "index": True},
        {"collection": "tags", "field": "name", "index": True},
    ],
    "filter[tags]=5": [
        {"collection": "articles_tags", "field": "article", "index": True},
        {"collection": "articles_tags", "field": "tag", "index": True},
    ],
    "filter[author][contains]=a": [{"field": "author", "index": True}, {"collection": "authors", "search_index": True}],
    "filter[title]=a&filter[author.name]=b&sort=views": [
        {"field": "author", "index": True},
        {"collection": "authors", "field": "name", "index": True},
        {"indexes": [{"fields": ["title", "views"]}]},
    ],
    # searches
    "q=abc&sort=-views": [{"search_index": True}],
    "filter[title][contains]=a": [{"search_index": True}],
    "q=abc&filter[views]=1": [{"search_index": True}, {"field": "views", "index": True}],
    # alternatives
    "filter[title]=a&filter[views][eq]=5&filter[views][logical]=or": [
        {"field": "title", "index": True},
        {"field": "views", "index": True},
    ],
    "filter[title]=a&filter[views][neq]=5&filter[views][logical]=or&sort=views": [{"field": "views", "index": True}],
}


@pytest.mark.parametrize("text", NEEDS)
def test_the_declaration_that_serves(text: str) -> None:
    schema = blog()
    (lookup,) = looked_up(schema, text)
    found = needs_of(schema, lookup)
    wanted = [{"collection": "articles", **each} for each in NEEDS[text]]
    assert [declaration(schema.collections[need.collection], need) for need in found.needs] == wanted
    assert found.reasons == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("filter[title][neq]=a", '"neq" of "title"'),
        ("filter[author.name][ncontains]=a", '"ncontains" of "author.name"'),
        ("filter[title][null]", '"null" of "title"'),
        ("filter[tags][has]=5", '"has" of "tags"'),
        ("filter[tags][empty]", '"empty" of "tags"'),
        ("filter[published_on][contains]=2020", "search indexes contain text and number fields only"),
        ("sort=?", "random"),
        ("filter[title]=a&filter[author.name][eq]=b&filter[author.name][logical]=or", "alternatives"),
    ],
)
def test_a_lookup_that_no_index_serves_says_why(text: str, said: str) -> None:
    schema = blog()
    (lookup,) = looked_up(schema, text)
    found = needs_of(schema, lookup)
    assert found.needs == ()
    assert said in " ".join(found.reasons)


def test_lookups_of_deleted_fields_are_told_apart() -> None:
    for lookup in (
        Lookup("gone", (Asked("title", "eq"),)),
        Lookup("articles", (Asked("gone", "eq"),)),
        Lookup("articles", (Asked("author.gone", "eq"),)),
        Lookup("articles", (Asked("title.name", "eq"),)),
        Lookup("articles", sort=("-gone",)),
        Lookup("articles", sort=("tags",)),
        Lookup("authors", (Asked("articles.tags.gone", "eq"),)),
    ):
        with pytest.raises(KeyError):
            needs_of(blog(), lookup)


def test_a_field_that_is_an_alias_now_is_told_apart() -> None:
    schema = blog()
    fields = dict(schema.collections["articles"].fields) | {"title": Field("articles", "title", "alias")}
    changed = evolve(
        schema, collections={**schema.collections, "articles": evolve(schema.collections["articles"], fields=fields)}
    )
    for lookup in (Lookup("articles", (Asked("title", "eq"),)), Lookup("authors", (Asked("articles.title", "eq"),))):
        with pytest.raises(KeyError):
            needs_of(changed, lookup)


def index(*fields: str, **more: object) -> Index:
    return Index("i", fields, state=more.pop("state", READY), **more)  # type: ignore[arg-type]


FILTERED = frozenset({"title"})


@pytest.mark.parametrize(
    ("need", "given", "served"),
    [
        (Need("articles", ("title",)), index("title", "id"), True),
        (Need("articles", ("title",)), index("-title"), True),
        (Need("articles", ("title",)), index("views", "title"), False),
        (Need("articles", ("title",)), index("title", state=BUILDING), False),
        (Need("articles", ("title",)), index("title", described=False), False),
        (Need("articles", ("title",)), index("title", where={"views": {"gt": 1}}), False),
        (Need("articles", ("title",), filtered=FILTERED), index("title", where={"title": {"nnull": ""}}), True),
        (Need("articles", ("title", "views")), index("views", "title", "status"), True),
        (Need("articles", ("title", "views")), index("title"), False),
        (Need("articles", ("title", "views")), index("title", unique=True), True),
        (Need("articles", ("title",), ("views",)), index("title", "views"), True),
        (Need("articles", ("title",), ("views",)), index("title", "-views"), False),
        (Need("articles", ("title",), ("views",)), index("title", "status", "views"), False),
        (Need("articles", ("title",), ("-id",)), index("title", "id"), True),
        (Need("articles", (), ("-id",)), index("id", origin=OF_DATABASE), True),
        (Need("articles", (), ("views", "id")), index("-views", "-id"), False),
        (Need("articles", (), ("-views",)), index("-views", origin=OF_DATABASE), False),
        (Need("articles", (), ("views",)), index("views", origin=OF_DATABASE), True),
        (Need("articles", ("title",), range="views"), index("title", "-views"), True),
        (Need("articles", ("title",), range="views"), index("title"), False),
        (Need("articles", (), range="views"), index("views"), True),
        (Need("articles", ("author",), key=True), index("author"), True),
        (Need("articles", ("title",), key=True), index("title"), False),
        (Need("articles", ("title",), key=True), index("title", origin=OF_DATABASE), False),
    ],
)
def test_whether_an_index_serves(need: Need, given: Index, served: bool) -> None:
    assert serves(blog().collections["articles"], given, need) is served


def test_an_index_on_texts_as_they_are_serves_keys_only() -> None:
    collection, given = blog().collections["articles"], index("title", origin=OF_DATABASE)
    assert not serves(collection, given, Need("articles", ("title",)), folded=False)
    assert not serves(collection, given, Need("articles", (), ("title",)), folded=False)
    assert serves(collection, given, Need("articles", ("title",), key=True), folded=False)
    assert serves(collection, index("views", origin=OF_DATABASE), Need("articles", ("views",)), folded=False)


@pytest.mark.parametrize("nulls_last", [True, False])
@pytest.mark.parametrize("sort", list(itertools.product(("views", "-views"), ("id", "-id", "title", "-title"))))
def test_what_is_declared_serves(sort: tuple[str, str], nulls_last: bool) -> None:
    collection = blog().collections["articles"]
    need = Need("articles", ("status",), sort)
    found = declaration(collection, need, nulls_last=nulls_last)["indexes"][0]["fields"]
    mixed = not nulls_last and not sort[1].endswith("id") and sort[0].startswith("-") != sort[1].startswith("-")
    served = serves(collection, index(*found), need, nulls_last=nulls_last)
    # With NULLs first, no index has an order that ascends by one field that may be NULL and descends by another.
    assert served is not mixed


def test_views_have_no_declaration() -> None:
    with pytest.raises(Exception, match="is a view"):
        declaration(evolve(blog().collections["articles"], kind=VIEW), Need("articles", ("title",)))


# --- the statistics


def test_a_flood_of_lookups_keeps_those_that_are_used() -> None:
    found = Statistics()
    often = [found.of(Lookup("often", sort=(f"f{number}",))) for number in range(100)]
    for timing in often:
        assert timing is not None
        for _ in range(5):
            timing.add(0.5)
    for number in range(20 * statistics.MAX_LOOKUPS):
        timing = found.of(Lookup("flood", sort=(f"f{number}",)))
        assert timing is not None
        timing.add(9.0)
        assert len(found) <= statistics.MAX_LOOKUPS
    assert {timing.lookup for timing in found if timing.count > 1} == {timing.lookup for timing in often if timing is not None}


def test_a_timing_that_was_removed_is_kept_again_when_it_is_used() -> None:
    found = Statistics()
    lookup = Lookup("rare", sort=("a",))
    first = found.of(lookup)
    assert first is not None
    first.add(1.0)
    for number in range(2 * statistics.MAX_LOOKUPS):
        timing = found.of(Lookup("flood", sort=(f"f{number}",)))
        assert timing is not None
        timing.add(0.1)
        timing.add(0.1)
    assert lookup not in {timing.lookup for timing in found}
    second = found.of(lookup)
    assert second is not None
    second.add(3.0)
    # Both plans count on, in one timing.
    first.add(2.0)
    first.add(2.0)
    (kept,) = (timing for timing in found if timing.lookup == lookup)
    assert (kept.count, kept.total, kept.longest) == (4, 8.0, 3.0)


def test_what_is_kept_of_a_lookup_is_bounded() -> None:
    found = Statistics()
    assert found.of(Lookup("a", tuple(Asked(f"f{number}", "eq") for number in range(17)))) is None
    assert found.of(Lookup("a")) is None
    assert len(found) == 0


# --- the command


@pytest.mark.parametrize(
    ("listen", "url"),
    [
        ("tcp:8080:interface=127.0.0.1", "http://127.0.0.1:8080"),
        ("tcp:port=80", "http://127.0.0.1:80"),
        ("tcp:8080:interface=0.0.0.0:backlog=5", "http://127.0.0.1:8080"),
        (r"tcp:8080:interface=\:\:1", "http://[::1]:8080"),
        (r"tcp6:8080:interface=\:\:", "http://[::1]:8080"),
    ],
)
def test_the_server_is_found_by_its_settings(listen: str, url: str) -> None:
    assert url_of(("unix:/run/directus", listen, "tcp:1")) == url


def test_a_server_without_tcp_needs_a_url() -> None:
    with pytest.raises(Failed, match="--url"):
        url_of(("unix:/run/directus",))


def test_the_command_writes_filters_and_indexes_as_texts() -> None:
    asked = [Asked("a.b", "eq", "or")._asdict(), Asked("c", "in", "or")._asdict()]
    assert filter_text({"filter": asked, "search": True}) == "q and (a.b eq or c in)"
    assert filter_text({"filter": [], "search": True}) == "q"
    assert filter_text({"filter": [], "search": False}) == ""
    query = {
        "declare": [{"collection": "a", "field": "b", "index": True}],
        "served_by": [{"collection": "a", "index": "i"}],
        "reasons": ["No."],
    }
    assert advice_texts(query) == ['declare {"collection": "a", "field": "b", "index": true}', "has a.i", "No."]
