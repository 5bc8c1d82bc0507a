"""How many statements writes take: their number does not grow with the number of items, but by some for each 500 rows."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from pytest_twisted import ensureDeferred

from directus_tx.db.connection import Connection
from directus_tx.db.session import Session
from directus_tx.items.history import CHUNK
from tests.conftest import KEY, Client, Reply, field

FEW, MANY = 20, 1000
IN_PATH = 500
"""The keys that a path may name."""
O2M = {"type": "o2m", "interface": "one-to-many"}
CODE = field("code", length=40, primary_key=True, interface="primary-key")


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The beginning of each statement of the transactions that write, without values. (Others run at the same time: the schema is read
    anew.)"""
    texts: list[str] = []
    writing: set[Connection] = set()
    text_of = Connection._text

    def noted(self: Connection, statement: Any, before: str = "", after: str = "") -> str:
        text = text_of(self, statement, before, after)
        if text.startswith("BEGIN; "):
            writing.add(self)
        if self in writing:
            texts.append(text[:100])
        if text.endswith("COMMIT") or text == "ROLLBACK":
            writing.discard(self)
        return text

    monkeypatch.setattr(Connection, "_text", noted)
    return texts


async def collections(client: Client) -> None:
    """Authors have articles and a country, which has a key that clients give and lists its authors; articles have tags and notes."""
    made = {
        "countries": [CODE, field("name"), {"field": "authors", **O2M}],
        "authors": [KEY, field("name"), field("country", "m2o", length=40), {"field": "articles", **O2M}],
        "tags": [KEY, field("name")],
        "articles": [
            *[KEY, field("title"), field("body"), field("n", "integer", "INT", 11), field("author", "m2o", "INT", 11)],
            *[{"field": "tags", **O2M}, {"field": "notes", **O2M}],
        ],
        "articles_tags": [KEY, field("article", "m2o", "INT", 11), field("tag", "m2o", "INT", 11)],
        "notes": [CODE, field("text"), field("article", "m2o", "INT", 11)],
    }
    for name, fields in made.items():
        answer = await client.post("~/collections", {"collection": name, "fields": fields})
        assert answer.status == 200, answer.body
    names = ("collection_many", "field_many", "collection_one", "field_one", "junction_field")
    for relation in (
        ("authors", "country", "countries", "authors", None),
        ("articles", "author", "authors", "articles", None),
        ("articles_tags", "article", "articles", "tags", "tag"),
        ("articles_tags", "tag", "tags", None, "article"),
        ("notes", "article", "articles", "notes", None),
    ):
        assert (await client.post("~/relations", dict(zip(names, relation, strict=True)))).status == 200


async def count(statements: list[str], work: Callable[[], Awaitable[Reply]]) -> int:
    """The number of statements that a request takes."""
    statements.clear()
    answer = await work()
    assert answer.status in (200, 204), answer.body[:500]
    assert statements, "no statement was noticed"
    return len(statements)


async def check(
    client: Client,
    statements: list[str],
    few: Callable[[], Awaitable[Reply]],
    many: Callable[[], Awaitable[Reply]],
    unlogged: int = 0,
) -> None:
    """A request that writes many items takes as many statements as one that writes few, and one more for each 500 rows beyond the first
    that it writes into a table: the items' own, the activity and the revisions. *unlogged*: the rows of which there is no activity."""
    small = await count(statements, few)
    texts = list(statements)
    session = Session(client.backend.projects.get(client.project).database)
    ((before,),) = await session.query("SELECT count(*) FROM directus_activity")
    large = await count(statements, many)
    ((after,),) = await session.query("SELECT count(*) FROM directus_activity")
    assert small < 50, "\n".join(texts)
    assert large <= small + (3 * (after - before) + unlogged) / CHUNK, "\n".join(statements[:100])


async def stocked(client: Client, size: int) -> list[int]:
    """The first of the keys of twice that many authors, articles, tags and articles_tags that are there; countries and notes have keys
    c0, c1 and so on."""
    everything = range(2 * size)
    firsts = []
    for name, label in (("authors", "name"), ("tags", "name"), ("articles", "title")):
        answer = await client.post(f"~/items/{name}?fields=id&activity_skip=1", [{label: f"old {n}"} for n in everything])
        firsts.append(answer.data[0]["id"])
    links = [{"article": firsts[2] + n, "tag": firsts[1] + n} for n in everything]
    firsts.append((await client.post("~/items/articles_tags?fields=id&activity_skip=1", links)).data[0]["id"])
    for name, label in (("countries", "name"), ("notes", "text")):
        rows = [{"code": f"{size}c{n}", label: "old"} for n in everything]
        await client.post(f"~/items/{name}?fields=code&activity_skip=1", rows)
    return firsts


def members(size: int, n: int, firsts: list[int]) -> dict[str, Any]:
    """The lists of an article, in which members are new, linked, changed and deleted, with automatic keys and with given ones."""
    _, tag, _, link = firsts
    return {
        "tags": [
            {"tag": {"name": f"new {n}"}},
            {"tag": {"id": tag + n}},
            {"tag": tag + n},
            {"tag": {"id": tag + n, "name": f"changed {n}"}},
            {"id": link + n, "tag": {"id": tag + size + n, "name": "turned"}},
            {"id": link + size + n, "$delete": True},
        ],
        "notes": [
            {"code": f"{size}n{n}", "text": "new"},
            {"code": f"{size}c{n}", "text": "changed"} if n % 2 else {"code": f"{size}c{n}"},
            {"code": f"{size}c{size + n}", "$delete": True},
        ],
    }


def author(size: int, n: int, firsts: list[int]) -> Any:
    """The author of an article: new with a new country, linked, changed with another country, or deleted."""
    key = firsts[0] + n
    country: Any = [
        {"code": f"{size}x{n}", "name": "new"},
        {"code": f"{size}c{n}", "name": "changed"},
        {"code": f"{size}c{n}"},
        f"{size}c{n}",
    ][n // 5 % 4]
    return [
        {"name": f"new {n}", "country": country},
        {"id": key},
        {"id": key, "name": "changed", "country": country},
        {"id": key, "$delete": True},
        {"id": 10_000 * size + n, "name": "new with a key"},
    ][n % 5]


@ensureDeferred
async def test_an_item_is_written_in_a_few_round_trips(client: Client, statements: list[str]) -> None:
    await collections(client)
    await client.post("~/items/tags", {"name": "t"})
    path = "~/items/tags"
    insert, update, read, history = 'INSERT INTO "tags"', 'UPDATE "tags"', "SELECT ", "INSERT INTO directus_"
    for work, expected in (
        (lambda: client.post(path, {"name": "x"}), [insert, history]),
        (lambda: client.post(path, [{"name": "x"}, {"name": "y"}]), [insert, "WITH records"]),
        (lambda: client.patch(f"{path}/1", {"name": "changed"}), [read, update, history]),
        (lambda: client.patch(f"{path}/1,2", {"name": "both"}), [read, update, "WITH records"]),
        (lambda: client.delete(f"{path}/1"), ["DELETE ", history]),
    ):
        await count(statements, work)
        found = [text.removeprefix("BEGIN; ").strip() for text in statements]
        assert [text[: len(start)] for text, start in zip(found, expected, strict=True)] == expected


@ensureDeferred
async def test_nested_items_that_are_created(client: Client, statements: list[str]) -> None:
    await collections(client)
    bodies = []
    for size in (FEW, MANY):
        firsts = await stocked(client, size)
        bodies.append([{"title": f"t{n}", "author": author(size, n, firsts), **members(size, n, firsts)} for n in range(size)])
    few, many = bodies
    path = "~/items/articles?fields=id"
    await check(client, statements, lambda: client.post(path, few), lambda: client.post(path, many))


@ensureDeferred
async def test_nested_items_that_are_changed_each_in_fields_of_its_own(client: Client, statements: list[str]) -> None:
    await collections(client)
    bodies = []
    for size in (FEW, MANY):
        firsts = await stocked(client, size)
        own = [{"title": "changed"}, {"body": "changed", "n": 1}, {"n": 2}, {"title": None, "body": None}, {}]
        bodies.append(
            [
                {"id": firsts[2] + n, **own[n % 5], "author": author(size, n, firsts), **members(size, n, firsts)}
                for n in range(size)
            ]
        )
    few, many = bodies
    path = "~/items/articles?fields=id"
    await check(client, statements, lambda: client.patch(path, few), lambda: client.patch(path, many))


@ensureDeferred
async def test_one_item_with_long_lists(client: Client, statements: list[str]) -> None:
    await collections(client)
    bodies = []
    for size in (FEW, MANY):
        firsts = await stocked(client, size)
        listed = [members(size, n, firsts) for n in range(size // 3)]
        bodies.append({name: [member for each in listed for member in each[name]] for name in ("tags", "notes")})
    few, many = bodies
    path = "~/items/articles?fields=id"
    await check(client, statements, lambda: client.post(path, few), lambda: client.post(path, many))


@ensureDeferred
async def test_many_items_that_hold_the_same_related_one(client: Client, statements: list[str]) -> None:
    await collections(client)
    await client.post("~/items/authors", {"name": "old"})
    path = "~/items/articles?fields=author.name"

    def rows(size: int, key: int) -> list[dict[str, Any]]:
        return [{"title": f"t{n}", "author": {"id": key, "name": f"changed {size}"}} for n in range(size)]

    for there, new in ((1, 50), (1, 51)):
        await check(
            client,
            statements,
            lambda key=there: client.post(path, rows(FEW, key)),
            lambda key=there: client.post(path, rows(MANY, key)),
        )
        await check(
            client,
            statements,
            lambda key=new: client.post(path, rows(FEW, key)),
            lambda key=new: client.post(path, rows(MANY, key + 9)),
        )
    assert (await client.get("~/items/authors/1?fields=name")).data == {"name": f"changed {MANY}"}


@ensureDeferred
async def test_changes_of_a_list_of_keys_and_deletions(client: Client, statements: list[str]) -> None:
    await collections(client)
    await client.post("~/items/tags?activity_skip=1", [{"name": f"t{n}"} for n in range(FEW + IN_PATH)])
    few = ",".join(str(n) for n in range(1, FEW + 1))
    many = ",".join(str(n) for n in range(FEW + 1, FEW + IN_PATH + 1))
    change = {"name": "changed"}
    await check(
        client,
        statements,
        lambda: client.patch(f"~/items/tags/{few}?fields=id", change),
        lambda: client.patch(f"~/items/tags/{many}?fields=id", change),
    )
    await check(client, statements, lambda: client.delete(f"~/items/tags/{few}"), lambda: client.delete(f"~/items/tags/{many}"))


@ensureDeferred
async def test_users_and_roles(client: Client, statements: list[str]) -> None:
    def users(size: int, **more: Any) -> list[dict[str, Any]]:
        return [{"email": f"u{size}-{n}@example.com", "status": "active", **more} for n in range(size)]

    path = "~/users?fields=id"
    await check(client, statements, lambda: client.post(path, users(FEW)), lambda: client.post(path, users(MANY)))
    everybody = [user["id"] for user in (await client.get("~/users?fields=id&limit=-1")).data]
    few, many = (",".join(str(key) for key in part) for part in (everybody[1 : FEW + 1], everybody[-IN_PATH:]))
    for change in ({"role": 1}, {"status": "suspended"}, {"title": "x", "status": "active"}):
        await check(
            client,
            statements,
            lambda change=change: client.patch(f"~/users/{few}?fields=id", change),
            lambda change=change: client.patch(f"~/users/{many}?fields=id", change),
        )
    await check(client, statements, lambda: client.delete(f"~/users/{few}"), lambda: client.delete(f"~/users/{many}"))

    def roles(size: int) -> list[dict[str, Any]]:
        people = [{"email": f"r{size}-{n}@example.com", "status": "active"} for n in range(size)]
        return [{"name": f"r{size}-{n}", "users": [people[n]]} for n in range(size)]

    # Each role gets 16 permissions, of which there is no activity.
    path = "~/roles?fields=id"
    await check(client, statements, lambda: client.post(path, roles(FEW)), lambda: client.post(path, roles(MANY)), 16 * MANY)


@ensureDeferred
async def test_fields_of_a_collection(client: Client, statements: list[str]) -> None:
    def body(size: int) -> dict[str, Any]:
        return {"collection": f"c{size}", "fields": [KEY, *(field(f"f{n}", length=20) for n in range(size))]}

    small = await count(statements, lambda: client.post("~/collections", body(FEW)))
    large = await count(statements, lambda: client.post("~/collections", body(200)))
    assert large <= small


@ensureDeferred
async def test_many_passwords_are_hashed_in_one_request(client: Client) -> None:
    people = [{"email": f"u{n}@example.com", "password": f"secret-{n}", "status": "active", "role": 1} for n in range(150)]
    assert (await client.post("~/users?fields=id", people)).status == 200
    for n in (0, 149):
        credentials = {"email": f"u{n}@example.com", "password": f"secret-{n}"}
        assert (await client.post("~/auth/authenticate", credentials, token=None)).status == 200
