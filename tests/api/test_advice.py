"""/:project/server/advice: what lists are filtered and sorted by, how long that takes, and the index that serves."""

import json
from typing import Any

from pytest_twisted import ensureDeferred

from directus_tx.access import Access
from directus_tx.compile.read import plan_for
from directus_tx.config import LimitSettings
from directus_tx.context import Accountability
from directus_tx.db.session import Session
from directus_tx.http.params import parsed
from directus_tx.query import BindValues
from tests.conftest import Client, field

SECRET = "rosebud"

# About 2 MB: indexes of tables of this size are built with the request.
FILL = """
INSERT INTO authors (name, code) SELECT 'Name ' || n, 'c' || n FROM generate_series(1, 2000) n;
INSERT INTO articles (title, views, kind, author)
SELECT 'Title ' || n * 7919 %% 20000, n * 31 %% 20000, n %% 400, n %% 2000 + 1 FROM generate_series(1, 20000) n
"""


async def run(client: Client, sql: str, *parameters: Any) -> list[Any]:
    session = Session(client.backend.projects.get(client.project).database)
    return await session.transaction(lambda session: session.query(sql, parameters))


async def articles(client: Client, *, rows: bool = True) -> None:
    await client.collection("authors", field("name"), field("code"), {"field": "articles", "type": "o2m"})
    await client.collection(
        "articles",
        field("title"),
        field("views", "integer", "INT", 11),
        field("kind", "integer", "INT", 11),
        field("author", "m2o", "INT", 11),
    )
    relation = {"collection_many": "articles", "field_many": "author", "collection_one": "authors", "field_one": "articles"}
    assert (await client.post("~/relations", relation)).status == 200
    if rows:
        await run(client, FILL)
        await run(client, "ANALYZE articles, authors")


async def advice(client: Client, parameters: str = "") -> list[dict[str, Any]]:
    answer = await client.get(f"~/server/advice{parameters}")
    assert answer.status == 200, answer.body
    found: list[dict[str, Any]] = answer.data["queries"]
    return found


QUERIES = (
    "articles?filter[title]=title%2077",
    "articles?sort=-views&limit=5",
    "articles?filter[kind]=7&sort=-views&limit=5",
    "articles?filter[kind]=7&filter[views][between]=10,400",
    "articles?filter[title]=title%2077&filter[views][eq]=5&filter[views][logical]=or",
    "articles?filter[author.name]=Name%2077",
    "authors?filter[articles.title]=title%2077",
)


@ensureDeferred
async def test_what_is_advised_is_used_by_postgresql_when_it_is_declared(client: Client) -> None:
    await articles(client)
    for query in QUERIES:
        before = {json.dumps([each["filter"], each["sort"], each["collection"]]) for each in await advice(client)}
        assert (await client.get(f"~/items/{query}")).status == 200
        (found,) = (
            each for each in await advice(client) if json.dumps([each["filter"], each["sort"], each["collection"]]) not in before
        )
        for declared in found["declare"]:
            path = "collections/{collection}" if "indexes" in declared else "fields/{collection}/{field}"
            if "indexes" in declared:
                shown = (await client.get(f"~/collections/{declared['collection']}")).data.get("indexes") or []
                declared["indexes"] += shown
            changed = {name: declared[name] for name in ("indexes", "index") if name in declared}
            answer = await client.patch("~/" + path.format(**declared), changed)
            assert answer.status == 200, answer.body
        assert (await client.get(f"~/items/{query}")).status == 200
        (after,) = (each for each in await advice(client) if [each[n] for n in TOLD] == [found[n] for n in TOLD])
        assert (after["count"], after["declare"], after["reasons"]) == (found["count"] + 1, [], []), query
        assert after["served_by"], query
        await run(client, "ANALYZE articles, authors")
        used = await indexes_used(client, query)
        # PostgreSQL joins by the key where few items are found, or by the column that refers to it.
        assert used & {each["index"].replace("_desc_index", "_index") for each in after["served_by"]}, (query, used)


TOLD = ("collection", "filter", "sort", "search")


async def indexes_used(client: Client, request: str) -> set[str]:
    """The indexes in PostgreSQL's plan of a request, those of a field by one name."""
    collection, _, text = request.partition("?")
    project = client.backend.projects.get(client.project)
    query = parsed(text.encode()).query()
    plan = plan_for(Access(await project.snapshot(), Accountability(1, 1)), collection, query, LimitSettings())
    values = BindValues(query, limit=200 if query.limit is None else query.limit)
    select = plan.items.select
    ((found,),) = await Session(project.database).query(
        "EXPLAIN (FORMAT JSON) " + select.statement.select, select.parameters(values)
    )

    def names(node: Any) -> set[str]:
        below = {name for each in node.get("Plans", ()) for name in names(each)}
        return below | ({node["Index Name"].replace("_desc_index", "_index")} if "Index Name" in node else set())

    return names(json.loads(found)[0]["Plan"])


@ensureDeferred
async def test_lists_are_counted_with_their_times(client: Client) -> None:
    await articles(client, rows=False)
    assert await advice(client, "?all=1") == []
    for number in range(3):
        await client.get(f"~/items/articles?filter[title]={number}&sort=-views")
    (found,) = await advice(client, "?all=1")
    assert found["filter"] == [{"field": "title", "operator": "eq", "logical": "and"}]
    assert (found["collection"], found["sort"], found["search"], found["count"]) == ("articles", ["-views"], False, 3)
    assert 0 < found["mean_ms"] <= found["max_ms"] <= found["total_ms"]
    assert abs(found["mean_ms"] * 3 - found["total_ms"]) < 0.1
    assert found["declare"] == [{"collection": "articles", "indexes": [{"fields": ["title", "-views"]}]}]
    # A new snapshot of the schema has the same statistics. What is about a deleted field is left out.
    await client.patch("~/collections/articles", {"note": "changed"})
    await client.get("~/items/articles?filter[title]=x&sort=-views")
    assert [each["count"] for each in await advice(client, "?all=1")] == [4]
    await client.delete("~/fields/articles/views")
    assert await advice(client, "?all=1") == []


@ensureDeferred
async def test_statements_that_fail_are_counted(client: Client) -> None:
    await run(client, "CREATE VIEW failing AS SELECT n AS id, 1 / (n - 2) AS part FROM generate_series(1, 3) n")
    await client.backend.projects.get(client.project).verified(await client.backend.projects.get(client.project).snapshot())
    assert (await client.get("~/items/failing?filter[part]=7")).status >= 400
    (found,) = await advice(client)
    assert (found["collection"], found["count"], found["rows"]) == ("failing", 1, None)


@ensureDeferred
async def test_lists_of_small_tables_are_left_out_unless_they_are_asked_for(client: Client) -> None:
    await articles(client)
    await client.collection("tiny", field("name"))
    await client.get("~/items/tiny?filter[name]=a")
    await client.get("~/items/authors?filter[name]=a")
    assert [each["collection"] for each in await advice(client)] == ["authors"]
    assert {each["collection"] for each in await advice(client, "?all=1")} >= {"authors", "tiny"}
    (found,) = await advice(client)
    assert found["rows"] == 2000


@ensureDeferred
async def test_only_administrators_are_told(client: Client) -> None:
    await articles(client, rows=False)
    role = (await client.post("~/roles", {"name": "Readers"})).data["id"]
    reader = {"email": "r@example.com", "password": "password", "role": role, "status": "active", "token": "reader"}
    assert (await client.post("~/users", reader)).status == 200
    for token in (None, "reader"):
        answer = await client.get("~/server/advice", token=token)
        assert (answer.status, answer.code) == (401, 3), answer.body
    assert (await client.get("~/server/advice")).status == 200
    assert (await client.get("/nothing/server/advice")).status == 401


@ensureDeferred
async def test_no_value_is_kept(client: Client) -> None:
    await articles(client, rows=False)
    for query in (
        f"articles?filter[title]={SECRET}",
        f"articles?filter[title][in]={SECRET},b&q={SECRET}",
        f"articles?filter[author.name][contains]={SECRET}",
        f"authors?fields=articles.*&deep[articles][filter][title]={SECRET}",
        f"articles?filter[title][rlike]={SECRET}%25&aggregate[count]=*&groupby=kind",
        f"articles?filter[{SECRET}]=1",
        f"articles?filter[title][{SECRET}]=1",
        f"articles?sort={SECRET}",
        f"articles?status={SECRET}",
    ):
        await client.get(f"~/items/{query}")
    await client.post("~/items/authors", {"name": SECRET, "articles": [{"title": "a"}]})
    await client.get(f"~/items/authors?fields=articles.*&deep[articles][filter][title]={SECRET}")
    answer = await client.get("~/server/advice?all=1")
    assert len(answer.data["queries"]) >= 4
    assert SECRET.encode() not in answer.body
    for timing in (await client.backend.projects.get(client.project).snapshot()).statistics:
        assert SECRET not in repr(timing.lookup)


@ensureDeferred
async def test_indexes_of_other_programs_and_tables_that_have_none_are_told(client: Client) -> None:
    await run(
        client,
        "CREATE TABLE books (id serial PRIMARY KEY, title text, isbn text, pages integer);"
        "CREATE INDEX by_pages ON books (pages);"
        "CREATE INDEX as_it_is ON books (title);"
        "CREATE INDEX folded ON books (lower(isbn));"
        "CREATE VIEW covers AS SELECT id, title FROM books",
    )
    await client.backend.projects.get(client.project).verified(await client.backend.projects.get(client.project).snapshot())
    for query in ("books?filter[pages]=1", "books?filter[title]=a", "books?filter[isbn]=a", "covers?filter[title]=a"):
        assert (await client.get(f"~/items/{query}")).status == 200
    await client.get("~/users?filter[last_name]=a")
    found = {
        (each["collection"], each["filter"][0]["field"]): ([at["index"] for at in each["served_by"]], each["declare"])
        for each in await advice(client, "?all=1")
        if each["filter"]
    }
    assert found["books", "pages"] == (["by_pages"], [])
    assert found["books", "title"] == ([], [{"collection": "books", "field": "title", "index": True}])
    assert found["books", "isbn"] == (["folded"], [])
    assert found["covers", "title"] == ([], [])
    reasons = {each["collection"]: each["reasons"] for each in await advice(client, "?all=1")}
    assert "is a view" in reasons["covers"][0]
    assert "belongs to the server" in reasons["directus_users"][0]


@ensureDeferred
async def test_names_of_other_programs_are_told_as_they_are(client: Client) -> None:
    await run(
        client,
        'CREATE TABLE makers (id serial PRIMARY KEY, "full.name" text);'
        'CREATE TABLE parts (id serial PRIMARY KEY, "in.stock" integer, "-weight" integer, "made.by" integer REFERENCES makers)',
    )
    await client.backend.projects.get(client.project).verified(await client.backend.projects.get(client.project).snapshot())
    queries = {
        "filter[in.stock]=1": ("in.stock", [{"collection": "parts", "field": "in.stock", "index": True}]),
        "filter[made.by.full.name]=a": (
            "made.by.full.name",
            [
                {"collection": "parts", "field": "made.by", "index": True},
                {"collection": "makers", "field": "full.name", "index": True},
            ],
        ),
        "filter[-weight]=1": ("-weight", []),
    }
    for query in (*queries, "sort=-weight"):
        answer = await client.get(f"~/items/parts?{query}")
        assert answer.status == 200, answer.body
    found = {(each["filter"] or [{"field": "sort"}])[0]["field"]: each for each in await advice(client, "?all=1")}
    assert {name: found[name]["declare"] for name in found if name != "sort"} == dict(queries.values())
    assert ["begins with a minus" in found[name]["reasons"][0] for name in ("sort", "-weight")] == [True, True]
    for _, declared in queries.values():
        for each in declared:
            answer = await client.patch(f"~/fields/{each['collection']}/{each['field']}", {"index": True})
            assert answer.status == 200, answer.body
    assert [each["declare"] for each in await advice(client, "?all=1")] == [[]] * 4


@ensureDeferred
async def test_lists_of_related_items_are_found_by_the_column_that_holds_the_key(client: Client) -> None:
    await client.collection("shops", field("name"), {"field": "orders", "type": "o2m"})
    await client.collection("orders", field("shop", "integer", "INT", 11), field("on", "date", "DATE", None))
    relation = {"collection_many": "orders", "field_many": "shop", "collection_one": "shops", "field_one": "orders"}
    assert (await client.post("~/relations", relation)).status == 200
    made = await client.post("~/items/shops", {"name": "a", "orders": [{"on": "2020-01-01"}]})
    assert made.status == 200, made.body
    assert (await client.get("~/items/shops?fields=orders.on")).data == [{"orders": [{"on": "2020-01-01"}]}]
    (found,) = (each for each in await advice(client, "?all=1") if each["collection"] == "orders")
    assert found["filter"] == [{"field": "shop", "operator": "key", "logical": "and"}]
    assert found["declare"] == [{"collection": "orders", "field": "shop", "index": True}]
    assert (await client.patch("~/fields/orders/shop", {"index": True})).status == 200
    (found,) = (each for each in await advice(client, "?all=1") if each["collection"] == "orders")
    assert (found["declare"], [each["index"] for each in found["served_by"]]) == ([], ["orders_shop_desc_index"])
