"""Requests that write many items let the server answer others in between.

The tests count: in a clock that moves a part of a slice with each look at it, no step may work on more than a few items between two runs
of the reactor.
"""

import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet import reactor
from twisted.internet.task import LoopingCall

from directus_tx import slices
from directus_tx.access.grant import Grant
from directus_tx.api import hookimpl
from directus_tx.db.session import Session
from directus_tx.http import encode
from directus_tx.items import relations, values, write
from tests.conftest import Client, field

ITEMS = 1500
EACH = 4
"""Looks at the clock that a slice lasts."""


class Steps:
    """Counts how often each step is called between two runs of the reactor. `most` is the greatest count of each, `calls` the sum."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch
        self.now: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self.ticks = 0

    def tick(self) -> None:
        self.ticks += 1
        self.most |= self.now
        self.now.clear()

    def count(self, owner: Any, *names: str) -> None:
        for name in names:
            self.monkeypatch.setattr(owner, name, self._counting(name, getattr(owner, name)))

    def _counting(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **more: Any) -> Any:
            self.now[name] += 1
            self.calls[name] += 1
            return function(*arguments, **more)

        return counted


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Iterator[Steps]:
    found = Steps(monkeypatch)
    time = iter(range(10**9))
    monkeypatch.setattr(slices, "monotonic", lambda: next(time) * slices.SLICE / EACH)
    found.count(Grant, "check_create", "check_update")
    found.count(values, "check_fields", "parse_payload", "check_stored", "check_required", "slugify")
    found.count(write, "record_of", "_key_in", "_without_key")
    found.count(relations, "_deletes")
    ticker = LoopingCall(found.tick)
    ticker.clock = reactor
    ticker.start(0)
    yield found
    ticker.stop()


async def articles(client: Client) -> None:
    slug = field("slug", "slug", options={"mirroredField": "title"})
    children = {"field": "children", "type": "o2m", "interface": "one-to-many"}
    await client.collection("articles", field("title", validation="/./"), slug, field("parent", "m2o", "INT", 11), children)
    relation = {"collection_many": "articles", "field_many": "parent", "collection_one": "articles", "field_one": "children"}
    assert (await client.post("~/relations", relation)).status == 200


@ensureDeferred
async def test_no_step_of_a_large_batch_works_on_many_items_at_once(client: Client, steps: Steps) -> None:
    await articles(client)
    steps.calls.clear()
    answer = await client.post("~/items/articles", [{"title": f"漢字の題名 {n}"} for n in range(ITEMS)])
    assert [item["title"] for item in answer.data] == [f"漢字の題名 {n}" for n in range(ITEMS)]
    keys = [item["id"] for item in answer.data]
    assert keys == sorted(keys)
    for name in ("check_create", "check_fields", "parse_payload", "check_required", "slugify", "record_of"):
        assert steps.calls[name] == ITEMS, name
    answer = await client.patch("~/items/articles", [{"id": key, "title": f"t{key}"} for key in keys])
    assert [item["slug"] for item in answer.data] == [f"t{key}" for key in keys]
    for name in ("_key_in", "_without_key", "check_update", "check_stored"):
        assert steps.calls[name] >= ITEMS, name
    ((count,),) = await _rows(client, "SELECT count(*) FROM directus_revisions WHERE collection = 'articles'")
    assert count == 2 * ITEMS
    assert max(steps.most.values()) <= 2 * EACH, steps.most
    assert steps.ticks > 10 * ITEMS / EACH


@ensureDeferred
async def test_nor_do_those_of_nested_items(client: Client, steps: Steps) -> None:
    await articles(client)
    steps.calls.clear()
    body = {"title": "a", "children": [{"title": f"t{n}", "parent": {"title": f"p{n}"}} for n in range(ITEMS // 2)]}
    answer = await client.post("~/items/articles?fields=id", body)
    assert answer.status == 200, answer.body
    assert steps.calls["_deletes"] >= ITEMS // 2
    assert steps.calls["check_create"] == ITEMS // 2 * 2 + 1
    assert max(steps.most.values()) <= 3 * EACH, steps.most


@ensureDeferred
async def test_a_mistake_in_a_late_slice_leaves_nothing(client: Client, steps: Steps) -> None:
    await articles(client)
    await client.post("~/items/articles", {"title": "first"})
    body: list[Any] = [{"title": f"t{n}"} for n in range(ITEMS)]
    answer = await client.post("~/items/articles", [*body, {"title": 5, "nope": 1}])
    assert answer.status == 422
    answer = await client.post("~/items/articles", [*body, {"title": "x" * 201}])
    assert answer.status == 422
    assert (await client.get("~/items/articles?meta=total_count&limit=1")).json["meta"] == {"total_count": 1}
    ((count,),) = await _rows(client, "SELECT count(*) FROM directus_activity WHERE collection = 'articles'")
    assert count == 1


@ensureDeferred
async def test_rules_of_system_collections_and_plugins_work_in_slices(client: Client, steps: Steps) -> None:
    class Plugin:
        directus_tx_api = 1

        @hookimpl
        def item_create(self, payload: dict[str, Any]) -> None:
            steps.now["before"] += 1
            payload["last_name"] = "by the plugin"

        @hookimpl
        def item_create_after(self) -> None:
            steps.now["after"] += 1

    client.backend.items.plugins.register(Plugin())
    users = [{"first_name": f"u{n}", "email": f"u{n}@example.com", "role": 1} for n in range(300)]
    answer = await client.post("~/users?fields=last_name", users)
    assert answer.data == [{"last_name": "by the plugin"}] * 300
    steps.tick()
    assert 0 < max(steps.most.values()) <= 3 * EACH, steps.most
    assert steps.most["before"] > 0
    assert steps.most["after"] > 0


@ensureDeferred
async def test_large_answers_are_compressed_in_slices_and_are_the_same(client: Client, steps: Steps) -> None:
    await client.collection("texts", field("body", datatype="TEXT", length=None))
    await client.post("~/items/texts?fields=id", {"body": "漢字 and more, " * 60_000})
    plain = await client.get("~/items/texts/1")
    ticks = steps.ticks
    packed = await client.get("~/items/texts/1", headers={"Accept-Encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.headers["etag"] == plain.headers["etag"]
    key = client.backend.projects.get(client.project).tag_key
    assert encode.etag(encode.digest(plain.body, key))[:20].decode() == plain.headers["etag"][:20]
    assert steps.ticks - ticks > len(plain.body) / encode.PIECE / EACH
    assert zlib.decompress(packed.body, wbits=31) == plain.body


async def _rows(client: Client, sql: str) -> list[Any]:
    return await Session(client.backend.projects.get(client.project).database).query(sql)
