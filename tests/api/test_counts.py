"""The counts of meta: what they count, and that nothing is counted twice."""

import itertools
from collections import Counter
from typing import Any

import pytest
from pytest_twisted import ensureDeferred

from directus_tx.db.connection import Connection
from directus_tx.db.session import Session
from tests.conftest import Client, field

STATUSES = {"published": {"name": "Published"}, "draft": {"name": "Draft"}, "gone": {"name": "Gone", "soft_delete": True}}
COUNTS = ("total_count", "filter_count", "status_count")
SOME = (*((name,) for name in COUNTS), COUNTS[:2], COUNTS[1:])


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements that count."""
    texts: list[str] = []
    text_of = Connection._text

    def noted(self: Connection, *arguments: Any) -> str:
        text = text_of(self, *arguments)
        if "count(*)" in text:
            texts.append(text)
        return text

    monkeypatch.setattr(Connection, "_text", noted)
    return texts


async def articles(client: Client) -> list[dict[str, Any]]:
    """Fills a collection and returns its rows, in the order of their keys; a writer sees the drafts that it owns, and what is
    published."""
    status = field("status", "status", length=20, default_value="draft", options={"status_mapping": STATUSES})
    await client.collection("topics", field("name"), {"field": "articles", "type": "o2m", "interface": "one-to-many"})
    await client.collection(
        "articles", status, field("title"), field("size", "integer", "INT", 11), field("topic", "m2o", "INT", 11)
    )
    relation = {"collection_many": "articles", "field_many": "topic", "collection_one": "topics", "field_one": "articles"}
    await client.post("~/relations", relation)
    await client.post("~/items/topics", [{"name": "a"}, {"name": "b"}])
    states = itertools.cycle(["published", "draft", "gone", "published", None])
    rows = [
        {"title": f"title {n}", "size": n % 4, "status": state, "topic": n % 3 or None}
        for n, state in zip(range(23), states, strict=False)
    ]
    assert (await client.post("~/items/articles", rows)).status == 200
    return rows


async def writer(client: Client) -> None:
    role = (await client.post("~/roles", {"name": "Writers"})).data["id"]
    user = {"email": "w@example.com", "password": "password", "role": role, "status": "active", "token": "writer"}
    await client.post("~/users", user)
    levels = [
        {"collection": "articles", "role": role, "status": "published", "read": "full"},
        {"collection": "articles", "role": role, "status": "gone", "read": "full", "read_field_blacklist": ["title"]},
    ]
    assert (await client.post("~/permissions", levels)).status == 200


FILTERS = ("", "filter[size][lt]=2", "filter[topic.name]=a", "filter[title]=nothing", "q=title%201", "groups=size")
PAGES = (
    "limit=3",
    "limit=50",
    "limit=-1",
    "limit=0",
    "limit=4&offset=8",
    "limit=5&offset=900",
    "limit=6&page=2",
    "limit=30&offset=2",
)
STATES = ("", "status=*", "status=gone", "status=draft,gone")


@ensureDeferred
@pytest.mark.parametrize("token", [None, "writer"])
async def test_counts_do_not_depend_on_the_page_or_on_what_is_counted_with_them(client: Client, token: str | None) -> None:
    rows = await articles(client)
    await writer(client)
    visible = [row for row in rows if token is None or row["status"] in ("published", "gone")]
    statuses = {**dict.fromkeys(STATUSES, 0), **Counter(row["status"] for row in visible if row["status"] is not None)}
    total = sum(row["status"] != "gone" for row in visible)
    options = {} if token is None else {"token": token}
    for narrowing, state in itertools.product(FILTERS, STATES):
        query = f"~/items/articles?fields=id&{narrowing}&{state}"
        everything = await client.get(f"{query}&limit=-1", **options)
        if everything.status != 200:
            # The filter is about a field that the caller may not see.
            assert token == "writer"
            continue
        # Without a filter, all items that are not deleted are counted, whichever statuses are listed.
        wanted = {
            "total_count": total,
            "filter_count": len(everything.data) if narrowing else total,
            "status_count": statuses,
        }
        for page, names in itertools.product(PAGES, (COUNTS, *SOME)):
            if names == COUNTS or page in PAGES[:2]:
                answer = await client.get(f"{query}&{page}&meta={','.join(names)}", **options)
                assert answer.json["meta"] == {name: wanted[name] for name in names}, (query, page)


NUMBERS = (
    # All counts of all items are made in one scan.
    ("limit=2&meta=*", 1),
    ("limit=2&meta=total_count,filter_count", 1),
    ("limit=2&meta=status_count", 1),
    ("limit=2&meta=*&filter[size]=1", 2),
    ("limit=2&meta=filter_count&filter[size]=1", 1),
    # The rows of the last page are counted already.
    ("limit=100&meta=*", 1),
    ("limit=100&meta=*&filter[size]=1", 1),
    ("limit=100&meta=total_count,filter_count,page", 0),
    ("limit=100&meta=filter_count&filter[size]=1", 0),
    ("limit=10&offset=15&meta=filter_count", 0),
    ("limit=-1&meta=filter_count,total_count", 0),
    ("limit=100&cursor=&meta=filter_count,total_count", 0),
    # A page without rows may be far behind the last one.
    ("limit=10&offset=500&meta=filter_count", 1),
    ("limit=100&status=draft&meta=filter_count", 1),
    ("limit=100&meta=result_count,collection,type", 0),
)
"""Queries, and how many statements count for them."""


@ensureDeferred
async def test_nothing_is_counted_twice(client: Client, counted: list[str]) -> None:
    await articles(client)
    for query, number in NUMBERS:
        counted.clear()
        answer = await client.get(f"~/items/articles?{query}")
        assert answer.status == 200, answer.body
        assert len(counted) == number, (query, counted)


@ensureDeferred
async def test_rows_that_a_join_repeats_are_not_taken_for_the_count(client: Client) -> None:
    await client.collection("things", field("label", "m2o", "INT", 11))
    await client.post("~/items/things", [{"label": 1}, {"label": 2}])
    session = Session(client.backend.projects.get(client.project).database)
    # PostgreSQL does not check that the values of a declared key differ.
    view = "CREATE VIEW labels AS SELECT * FROM (VALUES (1, 'a'), (1, 'b'), (2, 'c')) AS found (id, name)"
    for statement in (view, "COMMENT ON VIEW labels IS '@primaryKey id'"):
        await session.transaction(lambda inner, statement=statement: inner.query(statement))
    relation = {"collection_many": "things", "field_many": "label", "collection_one": "labels"}
    assert (await client.post("~/relations", relation)).status == 200
    answer = await client.get("~/items/things?fields=id,label.name&limit=100&meta=filter_count,total_count,result_count")
    assert answer.json["meta"] == {"filter_count": 2, "total_count": 2, "result_count": 3}


@ensureDeferred
async def test_groups_by_a_field_that_is_named_like_a_function_have_the_results(client: Client) -> None:
    await client.collection("things", field("count", "integer", "INT", 11), field("kind"))
    await client.post("~/items/things", [{"count": n % 2, "kind": str(n % 2)} for n in range(5)])
    answer = await client.get("~/items/things?aggregate[count]=*&aggregate[sum]=count&groupby=count&groupby=kind")
    assert answer.status == 200, answer.body
    assert sorted(answer.data, key=lambda each: each["kind"]) == [
        {"count": {"*": 3}, "kind": "0", "sum": {"count": 0}},
        {"count": {"*": 2}, "kind": "1", "sum": {"count": 2}},
    ]
