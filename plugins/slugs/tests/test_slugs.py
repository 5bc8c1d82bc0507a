"""Slugs over HTTP."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from directus_tx.testing import Project, field


@pytest.fixture(scope="module")
def directus_settings() -> Mapping[str, Any]:
    return {"plugins": {"slugs": {"fields": ["articles.slug=title", "pages.path = headline"], "max_length": 30}}}


@pytest.fixture
def articles(directus_project: Project) -> Project:
    directus_project.collection("articles", field("title"), field("slug"), field("body", "string", "TEXT"))
    return directus_project


def slug_of(project: Project, **payload: Any) -> str:
    return project.post("/items/articles", payload).data["slug"]


def test_new_items_get_slugs(articles: Project) -> None:
    assert slug_of(articles, title="How to bake") == "how-to-bake"
    assert slug_of(articles, title="  Größe & Übung!  ") == "grosse-ubung"
    assert slug_of(articles, title="How to bake", slug=None) == "how-to-bake-2"
    assert slug_of(articles, title="How to bake", slug="") == "how-to-bake-3"
    assert slug_of(articles, title="x" * 200) == "x" * 22
    assert slug_of(articles, title=None) is None
    assert slug_of(articles, body="no title") is None


def test_the_items_of_one_request_get_different_slugs(articles: Project) -> None:
    items = articles.post("/items/articles", [{"title": "Same"} for _ in range(60)]).data
    assert [each["slug"] for each in items] == ["same", *(f"same-{number}" for number in range(2, 61))]


def test_requests_at_the_same_time_get_different_slugs(articles: Project) -> None:
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: slug_of(articles, title="Same"), range(24)))
    assert sorted(found) == sorted(["same", *(f"same-{number}" for number in range(2, 25))])


def test_a_request_that_is_refused_takes_no_slug(articles: Project) -> None:
    assert articles.post("/items/articles", [{"title": "Same"}, {"title": "Same", "nothing": 1}]).status == 422
    assert slug_of(articles, title="Same") == "same"


def test_slugs_that_are_sent_are_checked(articles: Project) -> None:
    slug_of(articles, title="T")
    for slug in ("Bake", "a b", "-a", "a-", "a--b", "ü", "a/b", "x" * 31, "a\nb", 5, ["a"], True):
        created = articles.post("/items/articles", {"title": "T", "slug": slug})
        assert (created.status, created.code) == (422, 4), slug
        updated = articles.patch("/items/articles/1", {"slug": slug})
        assert (updated.status, updated.code) == (422, 4), slug
    assert [each["slug"] for each in articles.get("/items/articles").data] == ["t"]


def test_a_slug_belongs_to_one_item(articles: Project) -> None:
    assert slug_of(articles, title="One", slug="own-2-x") == "own-2-x"
    taken = articles.post("/items/articles", {"title": "Two", "slug": "own-2-x"})
    assert "another item has the slug" in taken.message
    twice = articles.post("/items/articles", [{"slug": "twice"}, {"slug": "twice"}])
    assert "another item has the slug" in twice.message
    slug_of(articles, title="Two")
    assert articles.patch("/items/articles/2", {"slug": "own-2-x"}).status == 422
    assert articles.patch("/items/articles/1", {"slug": "own-2-x", "title": "T"}).status == 200


def test_a_slug_stays_until_it_is_emptied(articles: Project) -> None:
    slug_of(articles, title="One")
    assert articles.patch("/items/articles/1", {"title": "Two"}).data["slug"] == "one"
    assert articles.patch("/items/articles/1", {"slug": None}).data["slug"] == "two"
    assert articles.patch("/items/articles/1", {"slug": "", "title": "Three"}).data["slug"] == "three"
    assert articles.patch("/items/articles/1", {"slug": None}).data["slug"] == "three"


def test_other_fields_and_collections(articles: Project) -> None:
    articles.collection("pages", field("headline"), field("path"), field("slug"))
    articles.collection("notes", field("title"), field("slug"))
    slug_of(articles, title="About")
    page = articles.post("/items/pages", {"headline": "About"}).data
    assert (page["path"], page["slug"]) == ("about", None)
    assert articles.post("/items/notes", {"title": "About", "slug": "NO slug"}).data["slug"] == "NO slug"


def test_items_are_found_by_their_slugs_as_far_as_the_caller_may_read_them(articles: Project) -> None:
    slug_of(articles, title="How to bake", body="Flour")
    path = "/custom/slugs/articles/how-to-bake"
    assert articles.get(path).data["body"] == "Flour"
    assert articles.get(path, fields="title").data == {"title": "How to bake"}
    assert articles.public.get(path).status == articles.public.get("/items/articles").status
    articles.permit(2, "articles", read="full", read_field_blacklist=["body"])
    assert "body" not in articles.public.get(path).data
    assert articles.get("/custom/slugs/articles/nothing").code == 203
    assert articles.get("/custom/slugs/directus_users/x").status == 404
    assert articles.get("/custom/slugs/notes/x").status == 404
