"""Faults in the middle of writes: lost connections, kill -9, deadlocks and many clients at once. Nothing is half-written."""

import concurrent.futures
import os
import pathlib
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet import defer

from directus_tx.db.session import Session
from tests.conftest import Client, field
from tests.daemon import Daemon
from tests.live.test_writes import blog, call, connect

TABLES = ("authors", "articles", "tags", "articles_tags", "directus_activity", "directus_revisions")
WAITING = (
    "SELECT pid FROM pg_stat_activity WHERE application_name ^@ 'directus_tx' AND datname = current_database()"
    " AND wait_event_type = 'Lock'"
)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A server with a blog of a few rows, whose database looks for deadlocks often."""
    directory: pathlib.Path = tmp_path_factory.mktemp("faults")
    found = Daemon(directory).start()
    blog(found)
    found.call("POST", "/p/items/authors", [{"name": "one"}, {"name": "two"}, {"name": "three"}])
    found.call("POST", "/p/items/articles", [{"title": "first", "author": 1}, {"title": "second"}, {"title": "third"}])
    found.call("POST", "/p/items/tags", [{"name": "red"}, {"name": "green"}])
    admin = connect(found)
    admin.autocommit = True
    admin.cursor().execute("ALTER SYSTEM SET deadlock_timeout = '20ms'")
    admin.cursor().execute("SELECT pg_reload_conf()")
    admin.close()
    yield found
    if found.process is not None and found.process.poll() is None:
        assert found.stop() == 0


@pytest.fixture
def database(daemon: Daemon) -> Iterator[Any]:
    """A connection that commits each statement by itself."""
    connection = connect(daemon)
    connection.autocommit = True
    yield connection
    connection.close()


@pytest.fixture
def holder(daemon: Daemon) -> Iterator[Any]:
    """A connection in whose transaction locks are held."""
    connection = connect(daemon)
    yield connection
    connection.close()


def rows(database: Any, statement: str, parameters: Any = ()) -> list[Any]:
    cursor = database.cursor()
    cursor.execute(statement, parameters)
    return cursor.fetchall() if cursor.description else []


def contents(database: Any) -> dict[str, list[Any]]:
    return {table: rows(database, f"SELECT * FROM {table} ORDER BY id") for table in TABLES}


def wait_for(condition: Callable[[], Any]) -> Any:
    until = time.monotonic() + 30
    while not (found := condition()):
        assert time.monotonic() < until
        time.sleep(0.005)
    return found


def start(work: Callable[..., Any], *arguments: Any) -> "concurrent.futures.Future[Any]":
    """Calls something in a thread of its own."""
    future: concurrent.futures.Future[Any] = concurrent.futures.Future()

    def run() -> None:
        try:
            future.set_result(work(*arguments))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def at_once(daemon: Daemon, requests: list[Any]) -> list[tuple[int, Any]]:
    """The statuses and bodies of the answers to requests that are made together."""
    together = threading.Barrier(len(requests))

    def send(request: Any) -> tuple[int, Any]:
        together.wait(30)
        return call(daemon, *request)

    pending = [start(send, request) for request in requests]
    return [answer.result(60) for answer in pending]


# --- lost connections

NESTED = {"name": "cut", "articles": [{"title": "new", "tags": [{"tag": {"name": "blue"}}, {"tag": {"id": 1}}]}]}
CUTS = {
    "a child that is changed": (
        "SELECT 1 FROM articles WHERE id = 2 FOR UPDATE",
        ("PATCH", "/items/authors/1", {**NESTED, "articles": [*NESTED["articles"], {"id": 1, "title": "x"}, {"id": 2}]}),
    ),
    "a child that is deleted": (
        "SELECT 1 FROM articles WHERE id = 3 FOR UPDATE",
        ("PATCH", "/items/authors/1", {**NESTED, "articles": [{"id": 3, "$delete": True}, {"id": 1, "title": "x"}]}),
    ),
    "a grandchild that is unique": ("INSERT INTO tags (name) VALUES ('blue')", ("POST", "/items/authors", NESTED)),
    "a grandchild that is changed": (
        "SELECT 1 FROM tags WHERE id = 2 FOR UPDATE",
        (
            "POST",
            "/items/authors",
            [NESTED, {"name": "x", "articles": [{"title": "y", "tags": [{"tag": {"id": 2, "name": "z"}}]}]}],
        ),
    ),
    "the one side": (
        "SELECT 1 FROM authors WHERE id = 2 FOR UPDATE",
        ("POST", "/items/articles", [{"title": "a", "author": {"name": "b"}}, {"title": "c", "author": {"id": 2, "name": "d"}}]),
    ),
    "the activity": ("LOCK TABLE directus_activity IN SHARE MODE", ("POST", "/items/authors", NESTED)),
    "the revisions": ("LOCK TABLE directus_revisions IN SHARE MODE", ("POST", "/items/authors", NESTED)),
    "the commit": ("SELECT pg_advisory_lock(1)", ("POST", "/items/authors", NESTED)),
}
"""Where a nested write is made to wait: what the test holds, and the request."""


@pytest.fixture
def slow_commits(database: Any) -> Iterator[None]:
    """Makes the commit of whatever has changed an author wait for an advisory lock."""
    rows(
        database,
        "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NULL; END'",
    )
    rows(
        database,
        "CREATE CONSTRAINT TRIGGER wait AFTER INSERT OR UPDATE ON authors DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION wait()",
    )
    yield
    rows(database, "DROP TRIGGER wait ON authors")
    rows(database, "DROP FUNCTION wait")


@pytest.mark.usefixtures("slow_commits")
@pytest.mark.parametrize("where", CUTS)
def test_a_nested_write_whose_connection_is_cut_leaves_nothing(daemon: Daemon, database: Any, holder: Any, where: str) -> None:
    held, request = CUTS[where]
    before = contents(database)
    holder.cursor().execute(held)
    answer = start(call, daemon, *request)
    ((pid,),) = wait_for(lambda: rows(database, WAITING))
    assert not answer.done()
    assert rows(database, "SELECT pg_terminate_backend(%s)", (pid,)) == [(True,)]
    status, body = answer.result(30)
    assert (status, body["error"]["code"] > 0) == (503, True)
    assert body.keys() == {"error"}
    wait_for(lambda: not rows(database, "SELECT 1 FROM pg_stat_activity WHERE pid = %s", (pid,)))
    holder.rollback()
    rows(holder, "SELECT pg_advisory_unlock_all()")
    holder.rollback()
    assert contents(database) == before
    status, body = call(daemon, "POST", "/items/authors", {"name": "next", "articles": [{"title": "next"}]})
    assert status == 200
    assert rows(database, "SELECT a.title FROM articles AS a WHERE author = %s", (body["data"]["id"],)) == [("next",)]


def test_a_lost_pool_of_connections_does_not_repeat_a_write(daemon: Daemon, database: Any, holder: Any) -> None:
    """Eight writes, as many as one caller can make at a time, wait for a row; their connections are cut, and each is refused."""
    holder.cursor().execute("SELECT 1 FROM articles WHERE id = 1 FOR UPDATE")
    before = contents(database)
    answers = [
        start(call, daemon, "PATCH", f"/items/authors/{n % 3 + 1}", {"articles": [{"id": 1}, {"title": "x"}]}) for n in range(8)
    ]
    waiting = wait_for(lambda: found if len(found := rows(database, WAITING)) == 8 else None)
    rows(database, "SELECT pg_terminate_backend(pid) FROM unnest(%s) AS pid", ([pid for (pid,) in waiting],))
    assert {answer.result(30)[0] for answer in answers} == {503}
    wait_for(lambda: not rows(database, "SELECT 1 FROM pg_stat_activity WHERE pid = ANY (%s)", ([pid for (pid,) in waiting],)))
    holder.rollback()
    assert contents(database) == before
    assert call(daemon, "PATCH", "/items/authors/1", {"articles": [{"id": 1}]})[0] == 200


# --- kill -9


@pytest.mark.parametrize("database_too", [False, True], ids=["the server", "and its database"])
def test_after_a_kill_each_item_has_one_activity_and_one_revision(tmp_path: pathlib.Path, database_too: bool) -> None:
    daemon = Daemon(tmp_path).start()
    blog(daemon)
    acknowledged: list[int] = []
    enough = threading.Event()

    def write(name: str) -> None:
        """Writes until the server is gone."""
        for n in range(100_000):
            payload = {"name": f"{name} {n}", "articles": [{"title": f"{name} {n} {i}"} for i in range(3)]}
            try:
                acknowledged.append(daemon.call("POST", "/p/items/authors", payload)["data"]["id"])
            except OSError:
                return
            if len(acknowledged) >= 100:
                enough.set()

    writers = [threading.Thread(target=write, args=(f"w{n}",)) for n in range(6)]
    for writer in writers:
        writer.start()
    assert enough.wait(60)
    connection = connect(daemon)
    connection.autocommit = True
    daemon.stop(signal.SIGKILL)
    if database_too:
        connection.close()
        pid = int((daemon.directory / "var" / "postgres" / "postmaster.pid").read_text().splitlines()[0])
        os.kill(pid, signal.SIGKILL)
        # To PostgreSQL a dead process that nobody has collected yet is still there.
        wait_for(lambda: not pathlib.Path(f"/proc/{pid}").exists())
    else:
        # What the dead server has sent is still being done.
        wait_for(lambda: not rows(connection, "SELECT 1 FROM pg_stat_activity WHERE application_name ^@ 'directus_tx'"))
        connection.close()
    for writer in writers:
        writer.join()
    daemon.start()
    try:
        authors = {row["id"]: row["name"] for row in daemon.call("GET", "/p/items/authors?limit=-1")["data"]}
        articles = daemon.call("GET", "/p/items/articles?limit=-1")["data"]
        assert set(acknowledged) <= authors.keys()
        assert Counter(row["author"] for row in articles) == Counter(dict.fromkeys(authors, 3))
        assert all(row["title"].startswith(authors[row["author"]] + " ") for row in articles)
        things = [("authors", str(key)) for key in authors] + [("articles", str(row["id"])) for row in articles]
        for kind in ("activity", "revisions"):
            history = daemon.call("GET", f"/p/{kind}?filter[collection][in]=authors,articles&limit=-1&fields=collection,item")[
                "data"
            ]
            assert Counter((row["collection"], row["item"]) for row in history) == Counter(things), kind
        made = daemon.call("POST", "/p/items/authors", {"name": "after"})["data"]["id"]
        assert made > max(authors)
    finally:
        assert daemon.stop() == 0


# --- many clients at once


@ensureDeferred
async def test_two_hundred_updates_of_one_item_leave_a_revision_each_in_the_order_of_the_writes(client: Client) -> None:
    numbers = [field(name, "integer", "INT", 11) for name in ("a", "b")]
    await client.collection("counters", *numbers)
    await client.post("~/items/counters", {"a": 0, "b": 0})
    session = Session(client.backend.projects.get(client.project).database)

    async def watch(session: Any) -> None:
        await session.query("CREATE TABLE seen (turn serial, a int, b int)")
        await session.query(
            "CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS"
            " 'BEGIN INSERT INTO seen (a, b) VALUES (NEW.a, NEW.b); RETURN NULL; END'"
        )
        await session.query("CREATE TRIGGER watch AFTER UPDATE ON counters FOR EACH ROW EXECUTE FUNCTION watch()")

    await session.transaction(watch)
    payloads = [{"a" if n % 2 else "b": n} for n in range(1, 201)]
    answers = await defer.gatherResults([defer.ensureDeferred(client.patch("~/items/counters/1", each)) for each in payloads])
    assert Counter(answer.status for answer in answers) == {200: 200}
    written = await session.query("SELECT a, b FROM seen ORDER BY turn")
    assert len(written) == 200
    path = "~/items/counters/1/revisions?limit=-1&fields=id,delta,data,activity.action"
    first, *revisions = (await client.get(path)).data
    assert [row["id"] for row in revisions] == sorted(row["id"] for row in revisions)
    assert {row["activity"]["action"] for row in revisions} == {"update"}
    assert [(row["data"]["a"], row["data"]["b"]) for row in revisions] == [(str(a), str(b)) for a, b in written]
    assert Counter(str(row["delta"]) for row in revisions) == Counter(map(str, payloads))
    state = first["data"]
    for row in revisions:
        state = {**state, **{name: str(value) for name, value in row["delta"].items()}}
        assert row["data"] == state
    present = (await client.get("~/items/counters/1")).data
    assert {name: str(value) for name, value in present.items()} == state


def opposite_lists(turn: str) -> list[Any]:
    """Two authors take the same articles, in opposite order."""
    return [
        (
            "PATCH",
            f"/items/authors/{author}",
            {"name": turn + who, "articles": [{"id": key, "title": turn + who} for key in order]},
        )
        for author, who, order in ((1, "a", (2, 1)), (2, "b", (1, 2)))
    ]


def opposite_sides(turn: str) -> list[Any]:
    """An article and its author are changed from either side: locks are taken in opposite order."""
    return [
        ("PATCH", "/items/articles/1", {"title": turn + "a", "author": {"id": 1, "name": turn + "a"}}),
        ("PATCH", "/items/authors/1", {"name": turn + "b", "articles": [{"id": 1, "title": turn + "b"}]}),
    ]


def opposite_authors(turn: str) -> list[Any]:
    """Articles whose authors are changed crosswise."""
    return [
        (
            "PATCH",
            "/items/articles",
            [{"id": key, "title": turn + who, "author": {"id": by, "name": turn + who}} for key, by in pairs],
        )
        for who, pairs in (("a", ((1, 1), (2, 2))), ("b", ((2, 1), (1, 2))))
    ]


def blog_state(database: Any) -> Any:
    """What matters of the rows that opposite writes write."""
    authors = rows(database, "SELECT id, name FROM authors WHERE id < 3 ORDER BY id")
    articles = rows(database, "SELECT id, title, author FROM articles WHERE id < 3 ORDER BY id")
    return authors, articles


def applied(state: Any, request: Any) -> tuple[Any, Counter[Any]]:
    """The state after a request, and the items that it revises."""
    authors = dict(state[0])
    articles = {key: (title, author) for key, title, author in state[1]}
    history: Counter[Any] = Counter()
    _, path, body = request
    collection, key = [*path.split("/")[2:], None][:2]
    if collection == "authors":
        authors[int(key)] = body["name"]
        history["authors", key] += 1
        for member in body["articles"]:
            articles[member["id"]] = (member["title"], int(key))
            history["articles", str(member["id"])] += 1
    else:
        for each in body if isinstance(body, list) else [{"id": int(key), **body}]:
            articles[each["id"]] = (each["title"], each["author"]["id"])
            authors[each["author"]["id"]] = each["author"]["name"]
            history["articles", str(each["id"])] += 1
            history["authors", str(each["author"]["id"])] += 1
    return (sorted(authors.items()), sorted((k, *v) for k, v in articles.items())), history


@pytest.mark.parametrize("opposite", [opposite_lists, opposite_sides, opposite_authors])
def test_opposite_nested_writes_end_as_one_after_the_other(
    daemon: Daemon, database: Any, opposite: Callable[[str], list[Any]]
) -> None:
    accepted = 0
    for turn in range(20):
        requests = opposite(f"{turn} ")
        before = blog_state(database)
        ((last,),) = rows(database, "SELECT max(id) FROM directus_revisions")
        answers = at_once(daemon, requests)
        assert {status for status, _ in answers} <= {200, 409}, answers
        done = [request for request, (status, _) in zip(requests, answers, strict=True) if status == 200]
        accepted += len(done)
        outcomes, history = [], Counter()
        for order in (done, done[::-1]):
            state, history = before, Counter()
            for request in order:
                state, more = applied(state, request)
                history += more
            outcomes.append(state)
        assert blog_state(database) in outcomes
        written = rows(database, "SELECT collection, item FROM directus_revisions WHERE id > %s", (last,))
        assert Counter(written) == history
    assert accepted >= 20


def deadlocks(database: Any) -> int:
    """How many deadlocks there have been. Backends tell of them by their end at the latest, so those of the server are ended."""
    ours = "FROM pg_stat_activity WHERE application_name ^@ 'directus_tx' AND datname = current_database()"
    rows(database, f"SELECT pg_terminate_backend(pid) {ours}")
    wait_for(lambda: not rows(database, f"SELECT 1 {ours}"))
    ((count,),) = rows(database, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
    return int(count)


def test_a_deadlock_of_two_nested_writes_is_none_to_their_clients(daemon: Daemon, database: Any, holder: Any) -> None:
    """The test holds the article until one client waits for it, and then the other, which has locked the author before."""
    deadlocks_before = deadlocks(database)
    before = blog_state(database)
    ((last,),) = rows(database, "SELECT max(id) FROM directus_revisions")
    from_article, from_author = opposite_sides("deadlock ")
    holder.cursor().execute("SELECT 1 FROM articles WHERE id = 1 FOR UPDATE")
    first = start(call, daemon, *from_article)
    wait_for(lambda: len(rows(database, WAITING)) == 1)
    second = start(call, daemon, *from_author)
    wait_for(lambda: len(rows(database, WAITING)) == 2)
    holder.rollback()
    assert [first.result(30)[0], second.result(30)[0]] == [200, 200]
    assert deadlocks(database) == deadlocks_before + 1
    outcomes = [
        applied(applied(before, one)[0], other)[0] for one, other in ((from_article, from_author), (from_author, from_article))
    ]
    assert blog_state(database) in outcomes
    written = rows(
        database,
        "SELECT collection, delta::json ->> 'title', delta::json ->> 'name' FROM directus_revisions WHERE id > %s",
        (last,),
    )
    assert Counter(written) == Counter(
        each for who in "ab" for each in (("articles", f"deadlock {who}", None), ("authors", None, f"deadlock {who}"))
    )


def test_an_article_that_one_deletes_and_another_changes_is_gone_or_refused(daemon: Daemon, database: Any) -> None:
    for turn in range(20):
        key = daemon.call("POST", "/p/items/articles", {"title": "doomed", "author": 1})["data"]["id"]
        requests = [
            ("PATCH", "/items/authors/1", {"articles": [{"id": key, "$delete": True}]}),
            ("PATCH", "/items/authors/2", {"name": f"b{turn}", "articles": [{"id": key, "title": "kept"}]}),
        ]
        (deleted, _), (changed, body) = at_once(daemon, requests)
        assert deleted == 200
        assert changed == 200 or (changed, body["error"]["code"]) == (404, 203)
        assert rows(database, "SELECT 1 FROM articles WHERE id = %s", (key,)) == []
        history = rows(
            database, "SELECT action FROM directus_activity WHERE collection = 'articles' AND item = %s ORDER BY id", (str(key),)
        )
        assert [action for (action,) in history] == ["create", *(["update"] if changed == 200 else []), "delete"]
        assert (rows(database, "SELECT name FROM authors WHERE id = 2") == [(f"b{turn}",)]) == (changed == 200)


def test_of_two_that_make_an_author_of_one_key_the_second_changes_it_or_is_refused(daemon: Daemon, database: Any) -> None:
    for turn in range(20):
        key = 1000 + turn
        requests = [("PATCH", f"/items/articles/{n}", {"author": {"id": key, "name": f"{turn} {n}"}}) for n in (1, 2)]
        answers = at_once(daemon, requests)
        assert all(status == 200 or (status, body["error"]["code"]) == (409, 204) for status, body in answers), answers
        names = [f"{turn} {n}" for n, (status, _) in enumerate(answers, 1) if status == 200]
        ((name,),) = rows(database, "SELECT name FROM authors WHERE id = %s", (key,))
        assert name in names
        history = rows(
            database,
            "SELECT delta::json ->> 'name' FROM directus_revisions WHERE collection = 'authors' AND item = %s",
            (str(key),),
        )
        assert sorted(found for (found,) in history) == names
        linked = rows(database, "SELECT 1 FROM articles WHERE author = %s", (key,))
        assert len(linked) == len(names)
