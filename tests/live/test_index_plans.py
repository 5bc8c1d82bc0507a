"""Declared indexes, in a table with many rows: the plans that PostgreSQL makes of reads use them, and the answers stay the same."""

import json
from collections.abc import Iterator
from typing import Any

from pytest_twisted import ensureDeferred

from directus_tx.access import Access
from directus_tx.compile.plan import Prepared
from directus_tx.compile.read import plan_for
from directus_tx.config import LimitSettings
from directus_tx.context import Accountability
from directus_tx.db.session import Session
from directus_tx.http.params import parsed
from directus_tx.jobs.indexes import build_indexes
from directus_tx.query import BindValues
from tests.conftest import Client, field

ARTICLES, AUTHORS = 200_000, 20_000

# Each value of most fields is that of a few items only; of "kind" there are three, one of them rare, and of every field some are null.
FILL = f"""
INSERT INTO authors (name, born) SELECT 'Name ' || n, date '1900-01-01' + n FROM generate_series(1, {AUTHORS}) n;
INSERT INTO articles (title, views, price, published, at, author, kind, code)
SELECT CASE WHEN n %% 50 > 0 THEN (ARRAY['Title ', 'title ', 'TITLE '])[n %% 3 + 1] || n * 7919 %% {ARTICLES} END,
       nullif(n * 31 %% {ARTICLES}, 7), n * 17 %% {ARTICLES} / 100.0, date '1500-01-01' + n / 2,
       CASE WHEN n %% 70 > 0 THEN timestamp '2020-01-01' + n * interval '1 minute' END,
       n * 13 %% {AUTHORS} + 1, CASE WHEN n %% 1000 = 0 THEN 'rare' WHEN n %% 3 = 0 THEN 'Odd' ELSE 'even' END, n / 400
FROM generate_series(1, {ARTICLES}) n
"""

INDEXED = ("title", "views", "price", "published", "at", "kind")
INDEXES = [
    {"name": "by_code", "fields": ["code", "-at", "id"]},
    {"name": "rare_views", "fields": ["-views", "id"], "where": {"kind": {"eq": "rare"}}},
    {"name": "code_and_kind", "fields": ["code", "kind"]},
]

CASES: dict[str, set[str]] = {
    # equality and lists
    "articles?filter[title][eq]=tItLe 777": {"title"},
    "articles?filter[title]=title 4711&fields=*,author.name": {"title", "authors_pkey"},
    "articles?filter[title][in]=title 5,TITLE 6,title 7": {"title"},
    "articles?filter[views]=4711": {"views"},
    "articles?filter[views][in]=1,2,3&sort=-at": {"views"},
    "articles?filter[price]=17.5": {"price"},
    "articles?filter[kind]=RARE&limit=20": {"kind"},
    # ranges
    "articles?filter[title][gt]=title 9999": {"title"},
    "articles?filter[title][between]=title 10,title 1001": {"title"},
    "articles?filter[views][between]=100,120": {"views"},
    "articles?filter[price][lt]=0.5": {"price"},
    "articles?filter[published][gte]=1773-09-01": {"published"},
    "articles?filter[at][between]=2020-03-01 10:00:00,2020-03-01 11:00:00": {"at"},
    # sorts
    "articles?sort=title&limit=20": {"title"},
    "articles?sort=-title&limit=20&offset=40": {"title"},
    "articles?sort=views&limit=20": {"views"},
    "articles?sort=-views&limit=20&fields=*,author.*": {"views"},
    "articles?sort=-price&limit=5": {"price"},
    "articles?sort=published&limit=20": {"published"},
    "articles?sort=-at&limit=20": {"at"},
    "articles?sort=kind&limit=20": {"kind"},
    "articles?sort=-kind,views&limit=20": set(),
    "articles?filter[kind]=even&sort=-at&limit=20": {"at"},
    "articles?filter[published][gt]=1773-10-01&sort=published&limit=20": {"published"},
    # indexes of the collection
    "articles?filter[code]=77&sort=-at&limit=20": {"by_code"},
    "articles?filter[kind]=rare&sort=-views&limit=20": {"rare_views"},
    "articles?filter[code]=37&filter[kind]=rare": {"code_and_kind"},
    # relations
    "articles?filter[author.name]=NAME 77": {"name", "author"},
    "articles?filter[author.born][between]=1901-01-01,1901-01-03": {"born", "author"},
    "authors?filter[articles.title]=title 777": {"title", "authors_pkey"},
    "authors?filter[articles.views][lt]=5": {"views", "authors_pkey"},
    "authors?filter[name]=name 5&fields=*,articles.title": {"name"},
}
"""The requests, and the indexes that their plans use: those of a field by its name, in either direction."""

ENDS = ("index", "desc_index", "idx")

UNSORTED = {name for name in CASES if "sort=" in name and "limit=20" in name and "kind,views" not in name}
"""The requests that read a page along an index, so that nothing is sorted."""


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below)


async def plan_of(client: Client, prepared: Prepared, values: BindValues) -> list[dict[str, Any]]:
    """The nodes of the plan that PostgreSQL makes of a statement."""
    session = Session(client.backend.projects.get(client.project).database)
    rows = await session.query("EXPLAIN (FORMAT JSON) " + prepared.statement.select, prepared.parameters(values))
    return list(nodes(json.loads(rows[0][0])[0]["Plan"]))


@ensureDeferred
async def test_reads_of_a_large_collection_use_declared_indexes(client: Client) -> None:
    await client.collection("authors", field("name"), field("born", "date", "DATE", None), {"field": "articles", "type": "o2m"})
    await client.collection(
        "articles",
        field("title"),
        field("views", "integer", "INT", 11),
        field("price", "decimal", "DECIMAL", "10,2"),
        field("published", "date", "DATE", None),
        field("at", "datetime", "DATETIME", None),
        field("author", "m2o", "INT", 11),
        field("kind"),
        field("code", "integer", "INT", 11),
    )
    relation = {"collection_many": "articles", "field_many": "author", "collection_one": "authors", "field_one": "articles"}
    assert (await client.post("~/relations", relation)).status == 200
    project = client.backend.projects.get(client.project)
    session = Session(project.database)
    await session.transaction(lambda session: session.query(FILL))
    await session.transaction(lambda session: session.query("ANALYZE articles, authors"))
    before = {name: (await client.get("~/items/" + name.replace(" ", "%20"))).data for name in CASES}
    assert [name for name in CASES if not before[name]] == []

    fields = [{"field": name, "index": True} for name in INDEXED]
    assert (await client.patch("~/collections/articles", {"fields": fields, "indexes": INDEXES})).status == 200
    for name in ("name", "born"):
        assert (await client.patch(f"~/fields/authors/{name}", {"index": True})).data["index"]["state"] == "ready"
    assert await build_indexes(project)
    shown = (await client.get("~/collections/articles")).data["indexes"]
    assert {index["state"] for index in shown} == {"ready"}
    await session.transaction(lambda session: session.query("ANALYZE articles, authors"))

    access = Access(await project.snapshot(), Accountability(1, 1))
    wrong = []
    for name, wanted in CASES.items():
        collection, _, query_string = name.partition("?")
        query = parsed(query_string.replace(" ", "%20").encode()).query()
        plan = plan_for(access, collection, query, LimitSettings())
        values = BindValues(query, limit=200 if query.limit is None else query.limit, offset=query.offset or 0)
        found = await plan_of(client, plan.items.select, values)
        used = {node["Index Name"] for node in found if "Index Name" in node}
        kinds = [node["Node Type"] for node in found]
        expected = [{each, *(f"{table}_{each}_{end}" for table in ("articles", "authors") for end in ENDS)} for each in wanted]
        scanned = [node for node in found if node["Node Type"] == "Seq Scan" and node["Relation Name"] == "articles"]
        if not all(names & used for names in expected) or scanned or (name in UNSORTED and "Sort" in kinds):
            wrong.append(f"{name}: {kinds} with {used}")
    assert not wrong, "\n".join(wrong)
    after = {name: (await client.get("~/items/" + name.replace(" ", "%20"))).data for name in CASES}
    for name in CASES:
        assert after[name] == before[name], name
