"""Changes of the schema while the tables are in use, and commits whose answer is lost."""

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import field
from tests.live.test_connections import TOKENS, Answer, Place, Proxy
from tests.live.test_faults import rows, start, wait_for

LOCK_WAITERS = (
    "SELECT count(*) FROM pg_stat_activity WHERE application_name ^@ 'directus_tx' AND datname = current_database()"
    " AND wait_event_type = 'Lock'"
)


class CuttingProxy(Proxy):
    """A proxy that closes the connection over which `marked` has been sent at its COMMIT: before PostgreSQL receives it, or after
    PostgreSQL has answered."""

    def __init__(self, target: int) -> None:
        self.marked: bytes | None = None
        self.before = False
        self.cuts = 0
        self._seen: set[socket.socket] = set()
        super().__init__(target)

    def _pass_on(self, source: socket.socket) -> None:
        peer = self.peers[source]
        data = b"" if self.marked is None or peer is None else source.recv(65536, socket.MSG_PEEK)
        if self.marked is not None and self.marked in data:
            self._seen.add(source)
        if peer is None or source not in self._seen or b"COMMIT\0" not in data:
            super()._pass_on(source)
            return
        self.cuts += 1
        self._seen.clear()
        if not self.before:
            peer.sendall(source.recv(65536))
            # PostgreSQL answers after it has committed.
            peer.settimeout(30)
            assert peer.recv(1)
        for each in (source, peer):
            self.peers.pop(each, None)
            each.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    found = Place(tmp_path_factory.mktemp("schema"), statement_timeout=30, queue_timeout=10, proxy=CuttingProxy)
    found.daemon.call("POST", "/p/items/articles", [{"title": f"{n}", "author": 1} for n in range(10)])
    yield found
    found.stop()


@pytest.fixture
def database(place: Place) -> Iterator[Any]:
    """A connection that commits each statement by itself."""
    connection = place.connect()
    yield connection
    connection.close()


@pytest.fixture
def holder(place: Place) -> Iterator[Any]:
    """A connection in whose transaction locks are held."""
    connection = place.connect()
    connection.autocommit = False
    yield connection
    connection.close()


# --- a table that is in use

CHANGES = {
    "a column that is altered": ("PATCH", "/fields/articles/title", {"length": 99}),
    "a column that is dropped": ("DELETE", "/fields/articles/author", None),
    "a collection that gets a column": ("PATCH", "/collections/articles", {"fields": [field("late", length=10)]}),
    "a collection that is deleted": ("DELETE", "/collections/articles", None),
}


def schema_of(database: Any) -> list[Any]:
    """The columns of all tables, the rows that describe them, and the history."""
    return [
        rows(database, "SELECT table_name, column_name, data_type FROM information_schema.columns ORDER BY 1, 2"),
        rows(database, "SELECT * FROM directus_collections ORDER BY 1"),
        rows(database, "SELECT * FROM directus_fields ORDER BY 1"),
        rows(database, "SELECT * FROM directus_relations ORDER BY 1"),
        rows(database, "SELECT max(id) FROM directus_activity"),
    ]


def refused_while_in_use(place: Place, database: Any, request: Any, table: str) -> None:
    """Asserts that a request is refused because *table* is in use, that it changes nothing, and that others read meanwhile."""
    before = schema_of(database)
    change = start(place.call, *request)
    wait_for(lambda: rows(database, LOCK_WAITERS) != [(0,)])
    reads = []
    while not change.done():
        reads.append(place.call("GET", f"/items/{table}?fields=*&limit=3"))
        assert len(reads) < 10_000
    answer = change.result(30)
    assert (answer.status, answer.body["error"]["code"]) == (503, 16)
    assert f'"{table}"' in answer.body["error"]["message"]
    assert answer.seconds < 15
    assert reads
    assert {read.status for read in reads} == {200}
    # Each waits for one attempt to end at most: the others are let in before the next one.
    assert max(read.seconds for read in reads) < 10
    assert schema_of(database) == before


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_behind_a_long_read_is_refused_and_others_go_on_reading(
    place: Place, database: Any, holder: Any, change: str
) -> None:
    rows(holder, "SELECT 1 FROM articles")
    refused_while_in_use(place, database, CHANGES[change], "articles")


def test_a_change_waits_for_the_tables_of_foreign_keys(place: Place, database: Any, holder: Any) -> None:
    rows(database, "CREATE TABLE notes (id serial PRIMARY KEY, tag int REFERENCES tags (id), text text)")
    try:
        assert place.call("GET", "/items/notes").status == 200
        rows(holder, "SELECT 1 FROM tags")
        refused_while_in_use(place, database, ("DELETE", "/fields/notes/tag", None), "tags")
        refused_while_in_use(place, database, ("DELETE", "/collections/notes", None), "tags")
        # A column without a foreign key concerns its table only.
        assert place.call("PATCH", "/fields/notes/text", {"type": "string", "datatype": "VARCHAR", "length": 50}).status == 200
    finally:
        holder.rollback()
        rows(database, "DROP TABLE notes")


def test_a_change_of_what_is_no_column_does_not_wait_for_the_table(place: Place, holder: Any) -> None:
    rows(holder, "LOCK TABLE articles IN ACCESS EXCLUSIVE MODE")
    assert place.call("PATCH", "/fields/articles/title", {"note": "the title", "sort": 3}).status == 200
    assert place.call("PATCH", "/collections/articles", {"note": "what is read"}).status == 200
    assert place.call("POST", "/fields/articles", {"field": "line", "type": "alias", "interface": "divider"}).status == 200
    assert place.call("DELETE", "/fields/articles/line").status in (200, 204)


def test_a_change_that_waited_for_a_short_read_is_made(place: Place, database: Any, holder: Any) -> None:
    rows(holder, "SELECT 1 FROM articles")
    change = start(place.call, "POST", "/fields/articles", field("waited", length=10))
    wait_for(lambda: rows(database, LOCK_WAITERS) != [(0,)])
    holder.rollback()
    assert change.result(30).status == 200
    assert place.call("GET", "/items/articles?fields=waited&limit=1").data == [{"waited": None}]
    assert place.call("DELETE", "/fields/articles/waited").status in (200, 204)


# --- deadlocks with changes by other programs

DEADLOCKED = [
    "/items/articles?fields=*.*&limit=5",
    "/items/articles?limit=-1&fields=*.*",
    "/items/articles?filter[author.name][contains]=o&meta=*",
    "/items/articles?fields=*.*&export=csv",
    "/items/articles/1?fields=author.*",
]
"""Reads that join authors to articles."""

READERS = """
SELECT count(*) FROM pg_locks AS held JOIN pg_locks AS awaited USING (pid)
WHERE held.relation = 'articles'::regclass AND held.granted AND awaited.relation = 'authors'::regclass AND NOT awaited.granted
"""


@pytest.mark.parametrize("path", DEADLOCKED)
def test_a_read_that_loses_a_deadlock_with_a_change_of_two_tables_is_made_again(
    place: Place, database: Any, holder: Any, path: str
) -> None:
    """The change holds one table, for which the read waits, and then wants the other, which the read holds."""
    rows(holder, "SET LOCAL deadlock_timeout = '60s'")
    rows(holder, "ALTER TABLE authors ADD COLUMN two int")
    read = start(place.status_of, path)
    wait_for(lambda: rows(database, READERS) != [(0,)])
    # PostgreSQL ends the read, otherwise this would not get the lock.
    rows(holder, "ALTER TABLE articles ADD COLUMN two int")
    assert not read.done()
    rows(holder, "ALTER TABLE articles DROP COLUMN two")
    rows(holder, "ALTER TABLE authors DROP COLUMN two")
    holder.commit()
    assert read.result(30) == 200


# --- what connections keep of a table

TRIGGER = """
CREATE TABLE seen (number text);
CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    other record;
BEGIN
    SELECT * INTO other FROM articles LIMIT 1;
    INSERT INTO seen VALUES (NEW.number::text || coalesce(other.number::text, ''));
    RETURN NEW;
END $$;
CREATE TRIGGER see BEFORE INSERT OR UPDATE ON articles FOR EACH ROW EXECUTE FUNCTION see()
"""


def test_triggers_work_on_every_connection_after_the_type_of_a_column_has_changed(
    place: Place, database: Any, holder: Any
) -> None:
    """PL/pgSQL keeps the types of the columns that a function has used for as long as the connection is open, and then raises 42804."""

    def create(item: dict[str, str], token: str) -> Answer:
        return place.call("POST", "/items/articles", item, token=token)

    assert place.call("POST", "/fields/articles", field("number", "integer", "INT", 11, signed=True)).status == 200
    rows(database, TRIGGER)
    number = 0
    by_sql = "ALTER TABLE articles ALTER number TYPE int USING number::int"
    for change in (
        None,
        {"type": "integer", "datatype": "BIGINT"},
        {"type": "string", "datatype": "VARCHAR", "length": 30},
        by_sql,
    ):
        if isinstance(change, dict):
            assert place.call("PATCH", "/fields/articles/number", change).status == 200
        elif change is not None:
            rows(database, change)
        # All of them wait for the lock, each on a connection of its own.
        rows(holder, "LOCK TABLE seen IN SHARE MODE")
        items = [{"title": "t", "number": str(number + n)} for n in range(10)]
        # One caller alone does not get all connections.
        writes = [start(create, item, TOKENS[n % 2]) for n, item in enumerate(items)]
        wait_for(lambda: rows(database, LOCK_WAITERS) == [(10,)])
        holder.rollback()
        assert {write.result(30).status for write in writes} == {200}
        number += 10
    assert rows(database, "SELECT count(*) FROM seen") == [(number,)]
    rows(database, "DROP FUNCTION see CASCADE; DROP TABLE seen")
    assert place.call("DELETE", "/fields/articles/number").status in (200, 204)


# --- a commit whose answer is lost

WRITES = {
    "a new item": ("POST", "/items/authors", {"name": "MARK"}),
    "nested items": ("POST", "/items/authors", {"name": "MARK", "articles": [{"title": "MARK"}, {"title": "MARK"}]}),
    "several items": ("POST", "/items/authors", [{"name": "MARK"}, {"name": "MARK"}]),
    "an item that is changed": ("PATCH", "/items/articles/1", {"title": "MARK"}),
    "a comment": ("POST", "/activity/comment", {"collection": "articles", "item": "1", "comment": "MARK"}),
    "a field": ("POST", "/fields/articles", field("MARK", length=10)),
}


def traces_of(database: Any, mark: str) -> list[int]:
    """How many rows of each table hold a text."""
    counts = []
    for table in ("authors", "articles", "directus_activity", "directus_revisions", "directus_fields"):
        sql = f"SELECT count(*) FROM {table} AS t WHERE t::text LIKE %s"
        counts.append(rows(database, sql, (f"%{mark}%",))[0][0])
    return counts


@pytest.mark.parametrize("write", WRITES)
def test_a_write_whose_commit_has_no_answer_is_not_made_again(place: Place, database: Any, write: str) -> None:
    proxy: Any = place.proxy
    method, path, body = WRITES[write]
    number = list(WRITES).index(write)
    made: dict[str, Any] = {}
    for turn, before in (("lost", False), ("kept", True), ("whole", None)):
        mark = f"{turn}{number}"
        proxy.marked, proxy.before, proxy.cuts = (None if before is None else mark.encode()), bool(before), 0
        answer = place.call(method, path, marked(body, mark))
        proxy.marked = None
        if before is None:
            assert answer.status == 200
        else:
            assert (answer.status, answer.body["error"]["code"], proxy.cuts) == (503, 16, 1)
            assert "not known whether the change was made" in answer.body["error"]["message"]
        made[turn] = traces_of(database, mark)
    assert made["lost"] == made["whole"]
    assert sum(made["lost"]) > 0
    assert set(made["kept"]) == {0}
    assert place.call("GET", "/items/articles?limit=1").status == 200


def marked(body: Any, mark: str) -> Any:
    """A payload with *mark* in the place of "MARK"."""
    if isinstance(body, dict):
        return {name: marked(value, mark) for name, value in body.items()}
    if isinstance(body, list):
        return [marked(each, mark) for each in body]
    return mark if body == "MARK" else body
