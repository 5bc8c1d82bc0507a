"""The engine follows the items, over HTTP."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from meilisearch import KEY, Meilisearch

from directus_tx.testing import Project, field, wait_for

OWNER = field("owner", "owner", "INT")


@pytest.fixture(scope="module")
def engine() -> Iterator[Meilisearch]:
    found = Meilisearch()
    yield found
    found.close()


@pytest.fixture(scope="module")
def directus_settings(engine: Meilisearch) -> Mapping[str, Any]:
    return {
        "plugins": {"search": {"url": engine.url + "/", "key": KEY, "collections": ["articles=title,body", "tags = name"]}},
        "outgoing": {"allowed_networks": ["127.0.0.0/8"]},
        "outbox": {"first_pause": 0.05, "max_pause": 0.2, "poll_interval": 0.2},
    }


@pytest.fixture
def articles(directus_project: Project, engine: Meilisearch) -> Iterator[Project]:
    directus_project.collection("articles", field("title"), field("body", "string", "TEXT"), field("secret"), OWNER)
    yield directus_project
    engine.refusing = None
    engine.broken = lambda document: False


def titles(engine: Meilisearch, project: Project) -> dict[str, Any]:
    return {key: each["title"] for key, each in engine.documents(f"{project.project}-articles").items()}


def found(caller: Any, text: str, **query: Any) -> list[str]:
    return [each["title"] for each in caller.get("/custom/search/articles", q=text, **query).data]


def test_the_engine_follows_the_items(articles: Project, engine: Meilisearch) -> None:
    articles.post("/items/articles", [{"title": "Bread", "body": "flour", "secret": "hidden"}, {"title": "Brötchen"}])
    wait_for(lambda: titles(engine, articles) == {"1": "Bread", "2": "Brötchen"})
    assert set(engine.documents(f"{articles.project}-articles")["1"]) == {"_id", "_key", "title", "body"}
    articles.patch("/items/articles/1", {"title": "Rye bread"})
    wait_for(lambda: titles(engine, articles)["1"] == "Rye bread")
    assert articles.delete("/items/articles/2").status == 204
    wait_for(lambda: titles(engine, articles) == {"1": "Rye bread"})


def test_a_request_that_is_refused_sends_nothing(articles: Project, engine: Meilisearch) -> None:
    before = len(engine.tasks)
    assert articles.post("/items/articles", [{"title": "One"}, {"nothing": 1}]).status == 422
    articles.post("/items/articles", {"title": "Two"})
    wait_for(lambda: list(titles(engine, articles).values()) == ["Two"])
    assert len(engine.tasks) == before + 1


def test_items_that_are_deleted_softly_are_not_found(directus_project: Project, engine: Meilisearch) -> None:
    statuses = {
        "published": {"name": "Published", "published": True},
        "deleted": {"name": "Deleted", "published": False, "soft_delete": True},
    }
    status = field("status", "status", default_value="published", options={"status_mapping": statuses}, interface="status")
    directus_project.collection("articles", field("title"), field("body"), status)
    directus_project.post("/items/articles", {"title": "Bread", "status": "published"})
    wait_for(lambda: titles(engine, directus_project) == {"1": "Bread"})
    assert directus_project.patch("/items/articles/1", {"status": "deleted"}).status == 204
    wait_for(lambda: titles(engine, directus_project) == {})


def test_no_change_is_lost_while_the_engine_refuses(articles: Project, engine: Meilisearch) -> None:
    """Whatever state an item has had meanwhile, the engine gets the last one."""
    articles.post("/items/articles", {"title": "Before"})
    wait_for(lambda: titles(engine, articles) == {"1": "Before"})
    for status in (503, 403, 429):
        engine.refusing = status
        articles.patch("/items/articles/1", {"title": f"During {status}"})
        articles.post("/items/articles", {"title": f"New {status}"})
        articles.patch("/items/articles/1", {"title": f"After {status}"})
    engine.refusing = None
    wanted = {"1": "After 429", "2": "New 503", "3": "New 403", "4": "New 429"}
    wait_for(lambda: titles(engine, articles) == wanted)


def test_a_document_that_the_engine_refuses_is_named(articles: Project, engine: Meilisearch) -> None:
    engine.broken = lambda document: document["title"] == "bad"
    articles.post("/items/articles", [{"title": "bad"}, {"title": "good"}])
    wait_for(lambda: list(titles(engine, articles).values()) == ["good"])
    wait_for(lambda: "Document has an invalid value" in articles.server.log)


def test_items_are_found_as_far_as_the_caller_may_read_them(articles: Project, engine: Meilisearch) -> None:
    articles.post("/items/articles", [{"title": "Rye bread"}, {"title": "Bread rolls"}, {"title": "Cake", "body": "no bread"}])
    wait_for(lambda: len(titles(engine, articles)) == 3)
    assert found(articles, "bread") == ["Bread rolls", "Rye bread", "Cake"]
    assert found(articles, "BREAD rye") == ["Rye bread"]
    assert found(articles, "bread", limit=1, offset=1) == ["Rye bread"]
    assert found(articles, "nothing") == []
    assert articles.get("/custom/search/articles", q="cake", fields="title").data == [{"title": "Cake", "id": 3}]
    assert articles.public.get("/custom/search/articles", q="bread").status == 401
    author = articles.user({"articles": {"create": "full", "read": "mine"}})
    assert found(author, "bread") == []
    reader = articles.user({"articles": {"read": "full", "read_field_blacklist": ["secret"]}})
    assert "secret" not in reader.get("/custom/search/articles", q="cake").data[0]
    engine.refusing = 500
    answer = articles.get("/custom/search/articles", q="bread")
    assert (answer.status, b"refused" in answer.body) == (503, False)
    engine.refusing = None
    assert articles.get("/custom/search/directus_users", q="a").status == 404
    assert articles.get("/custom/search/tags", q="a").status == 404


def test_what_the_caller_may_not_read_decides_nothing(articles: Project, engine: Meilisearch) -> None:
    """Otherwise, callers could guess the words of items and fields that are hidden from them."""
    articles.post("/items/articles", [{"title": "Bread", "body": "flour"}, {"title": "Cake", "body": "sugar"}])
    wait_for(lambda: len(titles(engine, articles)) == 2)
    for text in ("flour", "nothing", ""):
        answer = articles.public.get("/custom/search/articles", q=text)
        assert (answer.status, answer.code) == (401, 3), text
    reader = articles.user({"articles": {"read": "full", "read_field_blacklist": ["body"]}})
    assert found(reader, "flour") == []
    assert found(reader, "bread") == ["Bread"]
    blind = articles.user({"articles": {"read": "full", "read_field_blacklist": ["body", "title"]}})
    assert blind.get("/custom/search/articles", q="bread").data == []
    author = articles.user({"articles": {"create": "full", "read": "mine"}})
    assert author.post("/items/articles", {"title": "My bread", "body": "flour"}).status == 200
    wait_for(lambda: len(titles(engine, articles)) == 3)
    assert found(author, "flour") == ["My bread"]
    assert found(author, "sugar") == []


def test_a_collection_is_indexed_anew(articles: Project, engine: Meilisearch) -> None:
    """Also one with more items than a page; documents of items that are gone disappear."""
    index = f"{articles.project}-articles"
    articles.post("/items/articles", [{"title": f"Number {number}"} for number in range(510)])
    wait_for(lambda: len(titles(engine, articles)) == 510, 90)
    with engine.lock:
        engine.indexes[index] = {"gone": {"_id": "gone", "_key": "9999", "title": "Gone"}}
    assert articles.user().call("POST", "/custom/search/articles").status == 401
    assert articles.call("POST", "/custom/search/articles").status == 204
    wait_for(lambda: set(titles(engine, articles)) == {str(number) for number in range(1, 511)}, 60)


def test_keys_of_all_kinds_and_the_end_of_a_collection(directus_project: Project, engine: Meilisearch) -> None:
    name = {"field": "name", "type": "string", "datatype": "VARCHAR", "length": 100, "primary_key": True}
    assert directus_project.post("/collections", {"collection": "tags", "fields": [name]}).status == 200
    keys = ["plain", "with blank", "ü/ö?", "x-616263", "abc", "quote'\"", "..", "%2e", "a" * 100]
    directus_project.post("/items/tags", [{"name": key} for key in keys])
    index = f"{directus_project.project}-tags"
    wait_for(lambda: set(engine.documents(index)) == set(keys))
    names = [each["name"] for each in directus_project.get("/custom/search/tags", q="blank").data]
    assert names == ["with blank"]
    assert directus_project.delete("/items/tags/with%20blank").status == 204
    wait_for(lambda: set(engine.documents(index)) == set(keys) - {"with blank"})
    assert directus_project.delete("/collections/tags").status == 204
    wait_for(lambda: index not in engine.indexes)
