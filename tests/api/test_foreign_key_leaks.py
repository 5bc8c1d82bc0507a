"""Foreign keys are relations without anybody having declared them. What a limited role cannot see must not change the answers to it: rows
and values behind foreign keys, foreign keys of hidden columns and collections, and what adopting makes of them."""

from typing import Any
from urllib.parse import quote

import pytest
from pytest_twisted import ensureDeferred

from directus_tx.db.session import Session
from tests.conftest import Client

TABLES = """
CREATE TABLE vaults (id integer PRIMARY KEY, name text, code text);
CREATE TABLE topics (id text PRIMARY KEY, label text, memo text);
CREATE TABLE posts (
    id serial PRIMARY KEY, title text, vault integer REFERENCES vaults, topic text REFERENCES topics,
    secret integer CONSTRAINT hidden_key REFERENCES vaults, parent integer REFERENCES posts, author integer REFERENCES directus_users
);
CREATE TABLE links (
    id serial PRIMARY KEY, post integer CONSTRAINT hidden_link REFERENCES posts, topic text REFERENCES topics, note text
);
INSERT INTO vaults VALUES (1, 'north', 'n1'), (2, 'south', 's2');
INSERT INTO topics VALUES ('art', 'Art', 'memo'), ('law', 'Law', NULL);
INSERT INTO posts (title, vault, topic, secret, parent, author)
VALUES ('a', 1, 'art', 1, NULL, 1), ('b', 2, 'law', NULL, 1, 1), ('c', NULL, 'art', 2, 2, NULL);
INSERT INTO links (post, topic, note) VALUES (1, 'art', 'x');
"""

HIDDEN_CHANGES = (
    """
    UPDATE vaults SET name = 'west', code = NULL;
    INSERT INTO vaults VALUES (9, 'north', 'art');
    INSERT INTO links (post, topic, note) VALUES (2, 'law', 'north'), (3, 'art', NULL)
    """,
    """
    UPDATE posts SET secret = 3 - secret;
    UPDATE posts SET secret = 9 WHERE id = 2;
    UPDATE topics SET memo = 'north' WHERE id = 'law';
    UPDATE topics SET memo = NULL WHERE id = 'art'
    """,
    "ALTER TABLE posts DROP CONSTRAINT hidden_key; ALTER TABLE links DROP CONSTRAINT hidden_link",
    "ALTER TABLE links ADD vault integer REFERENCES vaults",
)
"""Statements that change what the role may not see: rows, values, columns and foreign keys."""

PATHS = ("*", "*.*", "*.*.*", "vault.*", "vault.name", "topic.memo", "secret.*", "secret.name", "parent.secret", "parent.*.*")
LISTS = ("links.*", "topic.links.*", "topic.posts.secret", "posts_secret.*", "vault.posts_vault.*", "posts_parent.secret.*")
FILTERS = (
    ("vault.name", "contains", "n"),
    ("vault", "contains", "north"),
    ("vault", "eq", "1"),
    ("secret", "eq", "1"),
    ("secret", "nnull", "1"),
    ("secret.name", "eq", "north"),
    ("parent.secret", "gt", "0"),
    ("parent", "contains", "a"),
    ("topic", "contains", "memo"),
    ("topic", "contains", "Ar"),
    ("topic.memo", "nnull", "1"),
    ("topic.posts", "has", "1"),
    ("topic.links", "has", "1"),
    ("links", "nempty", "1"),
    ("links.id", "gt", "0"),
    ("posts_secret", "has", "1"),
    ("posts_parent", "has", "1"),
    ("author.token", "contains", "a"),
)


def requests() -> list[str]:
    found = ["fields?limit=-1", "collections?limit=-1", "relations?limit=-1&meta=*", "specs/oas", "users?fields=*.*.*"]
    for name in ("posts", "topics", "vaults", "links"):
        items = f"items/{name}"
        found += [f"fields/{name}", f"collections/{name}", f"{items}?meta=*", f"{items}?limit=-1&export=csv"]
        for fields in (*PATHS, *LISTS):
            found += [f"{items}?fields={fields}&meta=*", f"{items}/{'art' if name == 'topics' else 1}?fields={fields}"]
        found += [f"{items}?filter[{path}][{operator}]={value}&meta=*" for path, operator, value in FILTERS]
        found += [f"{items}?q={quote(text)}&meta=*" for text in ("north", "memo", "Art", "a", "1", "x")]
        for field in ("vault", "secret", "-secret", "topic", "memo", "parent", "note"):
            found += [f"{items}?sort={field}", f"{items}?sort={field}&limit=1&cursor=", f"{items}?groups={field}"]
            found.append(f"{items}?aggregate[count]=*&groupby={field.lstrip('-')}")
    return found


async def role(client: Client) -> None:
    """A role that reads posts and topics but for one field of each, with a user whose token is "reader"."""
    number = (await client.post("~/roles", {"name": "Reader"})).data["id"]
    user = {"email": "reader@example.com", "role": number, "status": "active", "token": "reader", "password": "password"}
    assert (await client.post("~/users", user)).status == 200
    for name, hidden in (("posts", "secret"), ("topics", "memo")):
        rights = dict.fromkeys(("create", "read", "update", "delete"), "full")
        lists = {"read_field_blacklist": [hidden], "write_field_blacklist": [hidden]}
        assert (await client.post("~/permissions", {"collection": name, "role": number, **rights, **lists})).status == 200


@pytest.mark.parametrize("adopted", [False, True], ids=["foreign keys", "adopted"])
@ensureDeferred
async def test_what_is_hidden_behind_foreign_keys_changes_no_answer(client: Client, adopted: bool) -> None:
    project = client.backend.projects.get(client.project)
    session = Session(project.database)

    async def run(statements: str) -> None:
        await session.transaction(lambda session: session.query(statements))
        # The next request compares the tables with the snapshot.
        project._doubted = True

    await run(TABLES)
    await role(client)
    if adopted:
        assert (await client.post("~/schema/adopt", {})).status == 200
    asked = requests()

    async def answers() -> dict[str, tuple[int, str | None, bytes]]:
        found = {}
        for path in asked:
            answer = await client.get(f"~/{path}", token="reader")
            assert answer.status < 500, (path, answer.body)
            found[path] = (answer.status, answer.headers.get("etag"), answer.body)
        return found

    expected = await answers()
    assert sum(status == 200 for status, _, _ in expected.values()) > 50
    whole = b"".join(body for _, _, body in expected.values())
    assert not [
        word for word in (b"south", b"hidden_key", b"hidden_link", b'"collection":"links"', b'"secret":') if word in whole
    ]
    for statements in HIDDEN_CHANGES:
        await run(statements)
        for path, answer in (await answers()).items():
            assert answer == expected[path], (statements, path)
    # The server knows of the changes.
    assert (await client.get("~/fields/links/vault")).data["type"] == "m2o"
    assert (await client.get("~/items/vaults/9")).data["code"] == "art"


@ensureDeferred
async def test_nested_writes_through_foreign_keys_reach_nothing_that_is_hidden(client: Client) -> None:
    session = Session(client.backend.projects.get(client.project).database)
    await session.transaction(lambda session: session.query(TABLES))
    await role(client)
    state = (
        "SELECT (SELECT json_agg(v)::text FROM vaults v), (SELECT json_agg(l)::text FROM links l), count(*) FROM directus_users"
    )
    before = await session.query(state)
    attempts: list[tuple[str, Any]] = [
        ("vault", {"name": "new"}),
        ("vault", {"id": 2, "name": "new"}),
        ("vault", {"id": 1, "$delete": True}),
        ("vault", {"id": 7, "name": "new"}),
        ("secret", {"id": 1, "name": "new"}),
        ("secret", 2),
        ("author", {"id": 1, "password": "stolen-it"}),
        ("author", {"id": 1, "token": "stolen-it"}),
        ("author", {"email": "new@example.com", "role": 1, "status": "active", "password": "password"}),
        ("topic", {"id": "art", "memo": "new"}),
        ("parent", {"id": 2, "secret": 1}),
        ("parent", {"id": 2, "vault": {"id": 1, "code": "new"}}),
    ]
    for name, value in attempts:
        for answer in (
            await client.patch("~/items/posts/1", {"title": "changed", name: value}, token="reader"),
            await client.post("~/items/posts", {"title": "changed", name: value}, token="reader"),
        ):
            assert answer.status in (403, 404, 422), (name, value, answer.body)
    # A key alone, of a row that is hidden and of one that does not exist, gives the same answer as an object.
    shown = [(await client.patch("~/items/posts/1", {"vault": {"id": key}}, token="reader")) for key in (2, 77)]
    assert shown[0].status == 404
    assert shown[0].body == shown[1].body
    assert await session.query(state) == before
    assert await session.query("SELECT count(*) FROM posts WHERE title = 'changed'") == [(0,)]
