"""The SQL of reads, held to the files in tests/unit/sql. After a change that is meant: GOLDEN=write make test, and look at the diff."""

import os
import pathlib
from collections.abc import Iterator
from typing import Any

import pytest
from attrs import evolve

from directus_tx.access import Access
from directus_tx.compile.aggregates import aggregate_for
from directus_tx.compile.plan import ItemsPlan, Prepared
from directus_tx.compile.read import plan_for
from directus_tx.config import LimitSettings
from directus_tx.context import Accountability
from directus_tx.http.params import parsed
from directus_tx.query import Cursor
from tests.unit.schemas import blog

GOLDEN = pathlib.Path(__file__).parent / "sql"
ADMINISTRATOR = Accountability(1, 1)
QUERIES = {
    "list": "limit=20&offset=40&sort=-published_on,title",
    "count": "meta=*&filter[views][gte]=10",
    "search": "q=ada&status=published,draft",
    "operators": "filter[title][contains]=a&filter[title][nin]=b,c&filter[views][between]=1,9&filter[published_on][lt]=now"
    "&filter[status][empty]",
    "or": "filter[title]=a&filter[views]=1&filter[views][logical]=or&filter[views][gt]=5",
    "relational-filter": "filter[author.name]=ada&filter[tags.tag.name][contains]=x&filter[author][contains]=ada&filter[tags][has]=2",
    "nested": "fields=title,author.name,tags.tag.*",
    "nested-sorted": "fields=title,author.name&sort=-views",
    "upward": "fields=*,owner.email",
    "deep": "fields=title,tags.tag.name&deep[tags][limit]=3&deep[tags][sort]=-id&deep[tags][filter][tag.name][neq]=x",
    "groups": "groups=author&sort=-id",
    "aggregate": "aggregate[count]=*&aggregate[max]=views&groupby=author,title&filter[views][gt]=1&sort=-title",
}


ORDER = ("articles", "-published_on", "title", "id")
CURSORS = {
    "cursor-first": ("sort=-published_on,title", Cursor()),
    "cursor": ("sort=-published_on,title&fields=title,author.name", Cursor(ORDER, ("2024-01-01 00:00:00", "a", "7"))),
    "cursor-null": ("sort=-published_on,title", Cursor(ORDER, (None, "a", "7"))),
    "cursor-backward": ("sort=-published_on,title", Cursor(ORDER, ("2024-01-01 00:00:00", None, "7"), backward=True)),
}


BY_KEY = {"items-by-key": ("fields=*,author.name&sort=-title", False), "one-item": ("fields=*,author.name&sort=-title", True)}


def permission(collection: str, status: str | None = None, **more: Any) -> dict[str, Any]:
    """A row of directus_permissions as the snapshot holds it."""
    levels = dict.fromkeys(("create", "read", "update", "delete", "comment", "explain"), "none")
    lists = dict.fromkeys(("read_field_blacklist", "write_field_blacklist", "status_blacklist"), ())
    return {"id": 1, "collection": collection, "role": 3, "status": status, **levels, **lists, **more}


WRITER = Accountability(7, 3)
PERMISSIONS = (
    permission("articles", "published", read="full", read_field_blacklist=("views",)),
    permission("articles", "draft", read="mine"),
    permission("articles_tags", read="full"),
    permission("tags", read="role"),
    permission("directus_users", read="full"),
    permission("directus_revisions", read="full"),
)
"""What WRITER may do: some articles, whose views are not shown once they are published; nothing of authors."""

LIMITED = {
    "limited-list": "sort=-views&meta=*",
    "limited-filter": "filter[views][gt]=1&filter[title][contains]=x&filter[title][logical]=or&q=ada",
    "limited-nested": "fields=title,views,author.name,tags.tag.*,owner.email",
    "limited-aggregate": "aggregate[sum]=views&groupby=status",
}


def statement(prepared: Prepared) -> str:
    text = prepared.statement.text
    for word in (" FROM ", " LEFT JOIN ", " WHERE ", " GROUP BY ", " ORDER BY ", " LIMIT "):
        text = text.replace(word, f"\n {word.strip()} ")
    return text.replace("DISTINCT\n ", "DISTINCT ") + "\n"


def statements(plan: ItemsPlan, path: str = "items") -> Iterator[tuple[str, str]]:
    """The statements of some items and of the lists below them, each with its path."""
    yield path, statement(plan.select)
    layouts = [(path, plan.layout)]
    while layouts:
        here, layout = layouts.pop(0)
        for each in layout.lists:
            yield from statements(each.plan, f"{here}.{each.name}")
        layouts += [(f"{here}.{below.name}", below) for below in layout.items]


def written(text: str, who: Accountability = ADMINISTRATOR, cursor: Cursor | None = None) -> str:
    """All statements of a query, as a golden file holds them."""
    query = evolve(parsed(text.encode()).query(), cursor=cursor)
    access = Access(blog(permissions=PERMISSIONS), who)
    if query.aggregate:
        return f"-- {text}\n\n{statement(aggregate_for(access, 'articles', query, LimitSettings()).select)}"
    plan = plan_for(access, "articles", query, LimitSettings())
    found = [*statements(plan.items)]
    if query.meta:
        found += [("filter_count", statement(plan.filter_count)), ("total_count", statement(plan.total_count))]
        assert plan.status_count is not None
        found.append(("status_count", statement(plan.status_count)))
    return f"-- {text}\n" + "".join(f"\n-- {path}\n{sql}" for path, sql in found)


def test_every_golden_file_has_its_query() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == {*QUERIES, *LIMITED, *CURSORS, *BY_KEY, "limited-revisions"}


def check(name: str, sql: str) -> None:
    path = GOLDEN / f"{name}.sql"
    if os.environ.get("GOLDEN") == "write":
        path.write_text(sql)
    assert sql == path.read_text()


@pytest.mark.parametrize("name", QUERIES)
def test_sql_is_as_its_golden_file_says(name: str) -> None:
    check(name, written(QUERIES[name]))


@pytest.mark.parametrize("name", BY_KEY)
def test_the_sql_of_items_by_key_is_as_its_golden_file_says(name: str) -> None:
    text, alone = BY_KEY[name]
    access = Access(blog(permissions=PERMISSIONS), ADMINISTRATOR)
    query = parsed(text.encode()).query()
    plan = plan_for(access, "articles", query, LimitSettings(), by_key=True, alone=alone, version=alone)
    check(name, f"-- {text}\n" + "".join(f"\n-- {path}\n{sql}" for path, sql in statements(plan.items)))


@pytest.mark.parametrize("name", CURSORS)
def test_the_sql_of_a_page_is_as_its_golden_file_says(name: str) -> None:
    text, cursor = CURSORS[name]
    check(name, written(text, cursor=cursor))


@pytest.mark.parametrize("name", LIMITED)
def test_the_sql_of_a_limited_role_is_as_its_golden_file_says(name: str) -> None:
    check(name, written(LIMITED[name], WRITER))


def test_the_revisions_of_a_limited_role_are_those_of_what_it_reads() -> None:
    view = Access(blog(permissions=PERMISSIONS), WRITER).grant("directus_revisions").view
    check("limited-revisions", view.sql.as_string(None) + "\n")


def test_values_never_become_sql() -> None:
    for text in QUERIES.values():
        sql = "\n".join(line for line in written(text).splitlines() if not line.startswith("--"))
        for value in ("ada", "'a'", "'x'", "b,c"):
            assert value not in sql
