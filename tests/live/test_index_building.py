"""Indexes that are built in the background, by server processes that stop, are killed, or share a database."""

import pathlib
import signal
from collections.abc import Iterator
from typing import Any

import psycopg2
import pytest

from tests.conftest import KEY, field
from tests.daemon import Daemon, embedded, wait_for
from tests.live.test_faults import rows

PROGRESS = "SELECT pid, phase FROM pg_stat_progress_create_index"
WAITS_LONG = (
    f"SELECT 1 FROM ({PROGRESS}) p JOIN pg_stat_activity a USING (pid) WHERE a.query_start < now() - interval '3.5 seconds'"
)
INDEXES = """
SELECT x.relname, i.indisvalid FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid WHERE x.relname LIKE 'books_t%%' ORDER BY 1
"""
FIELD = "/shop/fields/books/title"


class Shop:
    """A project with a collection that is too large for its indexes to be created in the request, and the means to delay them."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        self.postgres = embedded(directory, "-c fsync=off")
        self.postgres.start()
        self.daemons: list[Daemon] = []
        # A statement of a request may take three seconds.
        daemon = self.start(DIRECTUS_DATABASE_STATEMENT_TIMEOUT="3")
        daemon.create_project("shop")
        daemon.call("POST", "/shop/collections", {"collection": "books", "fields": [KEY, field("title"), field("note")]})
        self.database = self.connect()
        rows(self.database, "INSERT INTO books (title, note) SELECT 'T' || n, repeat('x', 60) FROM generate_series(1, 60000) n")
        self.other = self.connect()
        self.other.autocommit = False

    def start(self, **environment: str) -> Daemon:
        """Starts a server process with these settings."""
        parameters = self.postgres.parameters
        url = f"postgresql://{parameters['user']}@/postgres?host={parameters['host']}"
        daemon = Daemon(self.directory, url=url)
        daemon.environment |= environment
        self.daemons.append(daemon)
        return daemon.start()

    def connect(self) -> Any:
        connection = self.daemons[0].connect("shop")
        connection.autocommit = True
        return connection

    def write(self) -> None:
        """Begins a transaction that has written to the collection. An index waits for it before it is built."""
        with self.other.cursor() as cursor:
            cursor.execute("UPDATE books SET note = 'y' WHERE id = 1")

    def read(self) -> None:
        """Begins a transaction with a snapshot. An index waits for it before it is ready."""
        with self.other.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            cursor.execute("SELECT count(*) FROM directus_settings")

    def building(self, phase: str) -> bool:
        return [found for _, found in rows(self.database, PROGRESS)] == [phase]

    def stop(self) -> None:
        self.other.close()
        self.database.close()
        for daemon in self.daemons:
            if daemon.runs():
                assert daemon.stop() == 0
        self.postgres.stop()


@pytest.fixture
def shop(tmp_path: pathlib.Path) -> Iterator[Shop]:
    found = Shop(tmp_path)
    yield found
    found.stop()


def test_an_index_is_finished_by_another_process_after_a_kill(shop: Shop) -> None:
    first = shop.daemons[0]
    shop.write()
    assert first.call("PATCH", FIELD, {"index": True})["data"]["index"]["state"] == "building"
    wait_for(lambda: shop.building("waiting for writers before build"))
    shown = first.call("GET", FIELD)["data"]["index"]
    assert shown == {"state": "building", "progress": 0.0, "phase": "waiting for writers before build"}
    second = shop.start()
    assert second.call("GET", FIELD)["data"]["index"] == shown
    # It takes longer than a statement of a request may take, and items are written meanwhile.
    wait_for(lambda: rows(shop.database, WAITS_LONG))
    assert second.call("POST", "/shop/items/books", {"title": "New"})["data"]["id"] == 60001
    ((pid, _),) = rows(shop.database, PROGRESS)

    first.stop(signal.SIGKILL)
    rows(shop.database, "SELECT pg_terminate_backend(%s)", (pid,))
    wait_for(lambda: pid not in [found for found, _ in rows(shop.database, PROGRESS)])
    assert [valid for _, valid in rows(shop.database, INDEXES)] == [False]
    shop.other.commit()
    wait_for(lambda: second.call("GET", FIELD)["data"]["index"] == {"state": "ready"})
    assert rows(shop.database, INDEXES) == [("books_title_desc_index", True), ("books_title_index", True)]
    assert second.call("GET", "/shop/items/books?filter[title]=new&fields=id")["data"] == [{"id": 60001}]


def test_a_server_that_stops_cancels_the_building_and_continues_when_it_starts(shop: Shop) -> None:
    shop.write()
    shop.daemons[0].call("PATCH", FIELD, {"index": True})
    wait_for(lambda: shop.building("waiting for writers before build"))
    assert shop.daemons[0].stop() == 0
    wait_for(lambda: not rows(shop.database, PROGRESS))
    shop.other.commit()
    daemon = shop.start()
    wait_for(lambda: daemon.call("GET", FIELD)["data"]["index"] == {"state": "ready"})
    assert [valid for _, valid in rows(shop.database, INDEXES)] == [True, True]


def test_a_change_that_drops_an_index_cancels_its_building(shop: Shop) -> None:
    daemon = shop.daemons[0]
    text = {"type": "string", "datatype": "TEXT", "length": None, "index": False}
    books = "/shop/collections/books"
    for method, path, body in (
        ("PATCH", FIELD, {"index": False}),
        ("PATCH", FIELD, text),
        ("DELETE", FIELD, None),
        ("DELETE", books, None),
    ):
        shop.read()
        if daemon.call("GET", books)["data"]["fields"].get("title") is None:
            daemon.call("POST", "/shop/fields/books", field("title"))
        daemon.call("PATCH", FIELD, {"index": True})
        wait_for(lambda: shop.building("waiting for old snapshots"))
        daemon.call(method, path, body)
        assert rows(shop.database, "SELECT name FROM directus_indexes") == []
        wait_for(lambda: not rows(shop.database, PROGRESS))
        assert rows(shop.database, INDEXES) == []
        shop.other.commit()


def test_a_connection_that_is_cut_does_not_end_the_building(shop: Shop) -> None:
    shop.read()
    daemon = shop.daemons[0]
    daemon.call("PATCH", FIELD, {"index": True})
    wait_for(lambda: shop.building("waiting for old snapshots"))
    rows(
        shop.database,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND pid <> %s",
        (shop.other.info.backend_pid,),
    )
    shop.other.commit()
    wait_for(lambda: daemon.call("GET", FIELD)["data"]["index"] == {"state": "ready"})
    with pytest.raises(psycopg2.errors.UndefinedTable):
        rows(shop.database, "SELECT 'books_title_index_ccnew'::regclass")
