"""What expressions of `fields` open: shown as the tree of a plan, which needs no database."""

from typing import Any

import pytest

from directus_tx.access import Access
from directus_tx.compile.plan import ItemLayout, Plan
from directus_tx.compile.read import plan_for
from directus_tx.config import LimitSettings
from directus_tx.context import Accountability
from directus_tx.http.params import parsed
from tests.unit.schemas import blog
from tests.unit.test_sql import ADMINISTRATOR, PERMISSIONS, WRITER, permission

READER = Accountability(7, 3)


def planned(fields: str, who: Accountability = ADMINISTRATOR, permissions: Any = PERMISSIONS, **more: Any) -> Plan:
    query = parsed("&".join([f"fields={fields}", *(f"{n}={v}" for n, v in more.items())]).encode()).query()
    return plan_for(Access(blog(permissions=permissions), who), "articles", query, LimitSettings())


def tree(layout: ItemLayout) -> dict[str, Any]:
    """What an item shows: None for a plain value, a tree for an item in it, a list of one tree for a list."""
    shown: dict[str, Any] = dict.fromkeys(layout.names)
    shown |= {below.name: tree(below) for below in layout.items}
    return shown | {each.name: [tree(each.plan.layout)] for each in layout.lists}


KEY = {"id": None}
BACK = [{"article": None}]
COLUMNS = dict.fromkeys(("id", "status", "title", "views", "published_on"))


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        # Nothing goes deeper: keys, and no lists.
        ("title,author", {"title": None, "author": None}),
        ("title,author,owner,tags", {"title": None, "author": None, "owner": None}),
        ("*", {**COLUMNS, "owner": None, "author": None}),
        # Dots below a plain field are ignored: they go nowhere.
        ("title.x,author,tags", {"title": None, "author": None}),
        # One expression goes deeper: what the level names opens, and nothing else.
        ("title,author,owner.email", {"title": None, "owner": {"email": None}, "author": KEY}),
        ("author,author.name", {"author": {"name": None}}),
        ("author,tags.id", {"tags": [KEY], "author": KEY}),
        ("tags,author.name", {"author": {"name": None}, "tags": BACK}),
        ("tags,author,owner,owner.id", {"owner": KEY, "tags": BACK, "author": KEY}),
        ("*,owner.email", {**COLUMNS, "owner": {"email": None}, "author": KEY, "tags": BACK}),
        ("*.name", None),
        # A level is one collection on one path.
        ("author,owner.role", {"owner": {"role": None}, "author": KEY}),
        ("author.articles,author.name", {"author": {"name": None}}),
        ("author.articles.title,author.name", {"author": {"name": None, "articles": [{"title": None}]}}),
        ("author.name,tags.article,tags.tag.name", {"author": {"name": None}, "tags": [{"tag": {"name": None}, "article": KEY}]}),
        ("author.name,tags.article,tags.tag", {"author": {"name": None}, "tags": [{"article": None, "tag": None}]}),
        ("author,tags.*", {"author": KEY, "tags": [{"id": None, "article": None, "tag": None}]}),
        # What is left out is not opened; it is left out on the top level only.
        ("title,author,tags.id,-author", {"title": None, "tags": [KEY]}),
        ("*,owner.email,-author,-tags,-views,-status,-published_on,-id", {"title": None, "owner": {"email": None}}),
    ],
)
def test_where_one_expression_goes_deeper_the_relations_of_its_level_that_are_named_open(fields: str, shown: Any) -> None:
    if shown is None:
        with pytest.raises(Exception, match='"directus_users" has no field "name"'):
            planned(fields)
    else:
        assert tree(planned(fields).items.layout) == shown


def test_two_stars_open_everything_once() -> None:
    shown = tree(planned("*.*").items.layout)
    assert set(shown) == {*COLUMNS, "owner", "author", "tags"}
    assert shown["author"] == {"id": None, "name": None}
    assert shown["tags"] == [{"id": None, "article": None, "tag": None}]


def test_a_relation_that_is_only_named_is_silent_where_its_items_may_not_be_read() -> None:
    # WRITER reads users and the junction, but no authors.
    plan = planned("title,author,owner.email", WRITER)
    assert tree(plan.items.layout)["author"] == KEY
    assert plan.unreadable == ()
    assert planned("title,author.name,owner.email", WRITER).unreadable == ("author",)
    alone = (permission("articles", read="full"), permission("directus_users", read="full"))
    plan = planned("title,tags,owner.email", READER, alone)
    assert "tags" not in tree(plan.items.layout)
    assert plan.unreadable == ()
    assert planned("title,tags.article,owner.email", READER, alone).unreadable == ("tags",)


def test_hidden_relations_do_not_open() -> None:
    rows = [
        permission("articles", read="full", read_field_blacklist=("author", "tags")),
        permission("authors", read="full"),
        permission("articles_tags", read="full", read_field_blacklist=("article",)),
        permission("directus_users", read="full"),
    ]
    assert tree(planned("title,author,tags,owner.email", READER, rows).items.layout) == {"title": None, "owner": {"email": None}}
    rows[0] = permission("articles", read="full")
    assert "tags" not in tree(planned("title,tags,owner.email", READER, rows).items.layout)


def test_what_opens_is_a_column_of_an_export_and_may_be_narrowed() -> None:
    layout = planned("title,author,owner.email").items.layout
    assert layout.paths() == [("title",), ("owner", "email"), ("author", "id")]
    query = parsed(b"fields=title,tags,owner.email&deep[tags][limit]=1").query()
    plan_for(Access(blog(), ADMINISTRATOR), "articles", query, LimitSettings())
