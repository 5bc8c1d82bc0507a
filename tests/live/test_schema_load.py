"""Columns, collections and relations that are added, changed and dropped, through the API and by other programs, while clients read and
write, in one process and in two."""

import http.client
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import psycopg2
import pytest

from tests.conftest import KEY, field
from tests.daemon import TOKEN, Daemon
from tests.live.test_connections import Place
from tests.live.test_faults import rows, start

CLIENTS = 8
TURNS = 40
"""Turns of each client. A turn is a read and at most one write."""

FEWEST_CHANGES, MOST_CHANGES = 10, 500
"""Changes that each of the two who change the schema makes: as many as it can while the clients take their turns, within these."""

COLUMNS = ("x0", "x1", "x2")
"""The columns of articles that come and go."""

TABLES = ("d0", "d1")
"""The collections that come and go."""

NO_FIELD = {(404, 202), (422, 202), (422, 12), (422, 4), (422, 213)}
NO_COLLECTION = {(404, 200), *NO_FIELD}
PATIENCE = 60.0
"""Seconds within which a request has an answer, however many run at once."""


class Client:
    """Makes requests over one connection. `answers` counts the answers by method, status and code. `wrong` are those that may not be:
    not 2xx, not 503 with Retry-After, and not with a code of the errors that the request may get if something is gone."""

    def __init__(self, daemon: Daemon) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=PATIENCE)
        self.answers: Counter[tuple[str, int, int]] = Counter()
        self.wrong: list[Any] = []

    def call(self, method: str, path: str, body: Any = None, gone: set[tuple[int, int]] = frozenset()) -> tuple[int, Any]:
        """Returns the status and the body. *gone* are statuses and codes of errors that the answer may have."""
        headers = {"Authorization": f"bearer {TOKEN}", "Content-Type": "application/json"}
        self.connection.request(method, "/p" + path, None if body is None else json.dumps(body), headers)
        answer = self.connection.getresponse()
        content = answer.read()
        code = json.loads(content)["error"]["code"] if answer.status >= 400 else 0
        self.answers[method, answer.status, code] += 1
        again = answer.status == 503 and int(answer.headers["Retry-After"] or 0) > 0
        if not (again or answer.status < 300 or (answer.status, code) in gone):
            self.wrong.append((method, path, body, answer.status, content[:500]))
        return answer.status, json.loads(content) if "json" in answer.headers.get("Content-Type", "") else content

    def close(self) -> None:
        self.connection.close()


READS: list[tuple[str, set[tuple[int, int]]]] = [
    ("/items/articles?limit=5&sort=-id", set()),
    ("/items/articles?limit=5&fields=*.*,author.articles.title&meta=*", set()),
    ("/items/authors?limit=5&fields=*.*.*", set()),
    ("/items/articles?filter[author.name][contains]=a&sort=title&limit=5", set()),
    ("/items/articles?aggregate[count]=id&groups=author", set()),
    ("/items/articles?export=csv&fields=id,title,author.name", set()),
    ("/items/articles?limit=-1", set()),
    ("/items/authors/1?fields=*.*", set()),
    ("/items/articles?q=a&limit=5", set()),
    ("/fields/articles", set()),
    ("/collections", set()),
    ("/relations", set()),
    *((f"/items/articles?fields=id,{name}&limit=5", NO_FIELD) for name in COLUMNS),
    *((f"/items/articles?filter[{name}][nempty]=1&sort={name}&limit=5", NO_FIELD) for name in COLUMNS),
    *((f"/items/articles?aggregate[count]=id&groups={name}", NO_FIELD) for name in COLUMNS),
    *((f"/items/{name}?fields=*.*&limit=5", NO_COLLECTION) for name in TABLES),
    ("/items/authors?fields=name,extras.*&limit=5", NO_COLLECTION),
]


class Writing:
    """The writes of one client. `acknowledged` holds by title what was written with status 200; `refused` the titles of the others."""

    def __init__(self, name: str, client: Client, chance: random.Random) -> None:
        self.name = name
        self.client = client
        self.chance = chance
        self.acknowledged: dict[str, dict[str, Any]] = {}
        self.refused: list[str] = []
        self.keys: list[tuple[int, str]] = []

    def write(self, turn: int) -> None:
        kind = self.chance.choice(["single", "column", "nested", "batch", "change", "delete", "table", "system"])
        title = f"{self.name} {turn}"
        number = self.chance.randrange(10_000)
        item: dict[str, Any] = {"title": title, "number": number, "author": 1 + turn % 2}
        gone: set[tuple[int, int]] = set()
        if kind == "column":
            item[self.chance.choice(COLUMNS)] = str(turn)
            gone = NO_FIELD
        if kind in ("single", "column"):
            status, body = self.client.call("POST", "/items/articles", item, gone)
            self._note(status == 200, [item])
            if status == 200:
                self.keys.append((body["data"]["id"], title))
        elif kind == "batch":
            items = [{**item, "title": f"{title} {n}"} for n in range(3)]
            self._note(self.client.call("POST", "/items/articles", items)[0] == 200, items)
        elif kind == "nested":
            items = [{"title": f"{title} {n}", "number": number} for n in range(3)]
            status, _ = self.client.call("POST", "/items/authors", {"name": title, "articles": items})
            self._note(status == 200, items)
        elif kind == "table":
            self.client.call("POST", f"/items/{self.chance.choice(TABLES)}", {"name": title}, NO_COLLECTION)
        elif kind == "system":
            self._write_system(title, number)
        elif self.keys and kind == "change":
            key, old = self.keys[-1]
            if self.client.call("PATCH", f"/items/articles/{key}", {"number": number})[0] == 200:
                self.acknowledged[old]["number"] = number
        elif self.keys and kind == "delete":
            key, old = self.keys.pop()
            if self.client.call("DELETE", f"/items/articles/{key}")[0] in (200, 204):
                del self.acknowledged[old]
                self.refused.append(old)

    def _write_system(self, title: str, number: int) -> None:
        """Writes items of system collections, most of which change the version of the schema."""
        kind = self.chance.choice(["user", "setting", "permission", "preset"])
        if kind == "user":
            self.client.call("PATCH", "/users/1", {"title": title})
        elif kind == "setting":
            self.client.call("PATCH", "/settings/6", {"value": title})
        elif kind == "preset":
            self.client.call("POST", "/collection_presets", {"collection": "articles", "title": title})
        else:
            permission = {"role": 2, "collection": f"c{number}", "read": "full"}
            status, body = self.client.call("POST", "/permissions", permission)
            if status == 200:
                self.client.call("DELETE", f"/permissions/{body['data']['id']}")

    def _note(self, written: bool, items: list[dict[str, Any]]) -> None:
        for item in items:
            if written:
                self.acknowledged[item["title"]] = {"number": item["number"]}
            else:
                self.refused.append(item["title"])


NUMBER_TYPES = [
    {"type": "integer", "datatype": "BIGINT", "length": 20, "signed": True},
    {"type": "string", "datatype": "VARCHAR", "length": 30},
    {"type": "integer", "datatype": "INT", "length": 11, "signed": True},
    {"type": "string", "datatype": "TEXT", "length": None},
]
"""The types that the column `number` takes one after the other: its values stay the same."""


def change_by_api(client: Client, chance: random.Random, turn: int) -> None:
    """Changes the schema through the API. What another program does at the same time may get in the way."""
    in_the_way = {*NO_COLLECTION, (422, 308), (422, 307), (422, 403), (422, 404), (404, 203)}
    column, table = chance.choice(COLUMNS), chance.choice(TABLES)
    kind = chance.choice(["add", "drop", "type", "number", "create", "delete", "relation", "unique", "system"])
    if kind == "add":
        client.call("POST", "/fields/articles", field(column, length=50, default_value=chance.choice([None, "d"])), in_the_way)
    elif kind == "drop":
        client.call("DELETE", f"/fields/articles/{column}", None, in_the_way)
    elif kind == "type":
        client.call("PATCH", f"/fields/articles/{column}", {"length": 50 + turn}, in_the_way)
    elif kind == "system":
        owner = chance.choice(["directus_users", "directus_settings", "directus_permissions"])
        client.call("POST", f"/fields/{owner}", field("own", length=20), in_the_way)
        client.call("DELETE", f"/fields/{owner}/own", None, in_the_way)
    elif kind == "unique":
        client.call("PATCH", "/fields/authors/name", {"unique": chance.random() < 0.5}, in_the_way)
    elif kind == "number":
        client.call("PATCH", "/fields/articles/number", NUMBER_TYPES[turn % len(NUMBER_TYPES)], in_the_way)
    elif kind == "create":
        fields = [KEY, field("name", length=20), field("author", "m2o", "INT", 11)]
        client.call("POST", "/collections", {"collection": table, "fields": fields}, in_the_way)
    elif kind == "delete":
        client.call("DELETE", f"/collections/{table}", None, in_the_way)
    else:
        extras = {"field": "extras", "type": "o2m", "interface": "one-to-many"}
        client.call("POST", "/fields/authors", extras, in_the_way)
        relation = {"collection_many": table, "field_many": "author", "collection_one": "authors", "field_one": "extras"}
        status, body = client.call("POST", "/relations", relation, in_the_way)
        if status == 200:
            client.call("DELETE", f"/relations/{body['data']['id']}", None, in_the_way)
        client.call("DELETE", "/fields/authors/extras", None, in_the_way)


EXPECTED = (
    psycopg2.errors.LockNotAvailable,
    psycopg2.errors.DeadlockDetected,
    psycopg2.errors.UndefinedColumn,
    psycopg2.errors.UndefinedTable,
    psycopg2.errors.DuplicateColumn,
    psycopg2.errors.DuplicateTable,
    psycopg2.errors.DuplicateObject,
    psycopg2.errors.UniqueViolation,
    psycopg2.errors.InternalError_,
)
"""What stops another program that changes a table that the API changes, too."""


def change_by_sql(connection: Any, chance: random.Random, turn: int) -> bool:
    """Changes the schema as another program does. Returns whether it did."""
    column, table = chance.choice(COLUMNS), chance.choice(TABLES)
    statements = chance.choice(
        [
            f"ALTER TABLE articles ADD COLUMN {column} text",
            f"ALTER TABLE articles DROP COLUMN IF EXISTS {column}",
            f"ALTER TABLE articles DROP COLUMN IF EXISTS {column}; ALTER TABLE articles ADD COLUMN {column} int DEFAULT {turn}",
            f"ALTER TABLE articles ALTER COLUMN {column} TYPE text USING {column}::text",
            f"CREATE TABLE {table} (id serial PRIMARY KEY, name text, author int REFERENCES authors (id))",
            f"DROP TABLE IF EXISTS {table}",
            f"DROP TABLE IF EXISTS {table}; CREATE TABLE {table} (id serial PRIMARY KEY, name text UNIQUE, extra int, author int)",
            f"BEGIN; ALTER TABLE authors ADD COLUMN y int; ALTER TABLE articles ADD COLUMN IF NOT EXISTS {column} int;"
            " ALTER TABLE authors DROP COLUMN y; COMMIT",
            f"BEGIN; ALTER TABLE articles DROP COLUMN IF EXISTS {column}; ALTER TABLE authors ADD COLUMN y int;"
            " ALTER TABLE authors DROP COLUMN y; COMMIT",
            f"CREATE INDEX i{turn} ON articles (title); DROP INDEX i{turn}",
        ]
    )
    # Not more often than the server reads its schema.
    time.sleep(0.02)
    try:
        rows(connection, statements)
    except EXPECTED:
        rows(connection, "ROLLBACK")
        return False
    return True


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    found = Place(tmp_path_factory.mktemp("load"), statement_timeout=30, queue_timeout=30)
    found.daemon.call("POST", "/p/fields/articles", field("number", "integer", "INT", 11, signed=True))
    yield found
    found.stop()


@pytest.fixture
def second(place: Place) -> Iterator[Daemon]:
    """Another process on the same database."""
    daemon = Daemon(place.daemon.directory)
    daemon.environment = place.daemon.environment
    yield daemon.start()
    assert daemon.stop() == 0


def repeated(finished: threading.Event, work: Callable[[int], Any]) -> None:
    """Calls something until the clients have finished."""
    for turn in range(MOST_CHANGES):
        if turn >= FEWEST_CHANGES and finished.is_set():
            return
        work(turn)


def under_load(place: Place, daemons: list[Daemon], name: str) -> None:
    finished = threading.Event()
    clients = [Client(daemons[n % len(daemons)]) for n in range(CLIENTS)]
    writers = [Writing(f"{name}{n}", client, random.Random(n)) for n, client in enumerate(clients)]

    def take_turns(writer: Writing) -> None:
        for turn in range(TURNS):
            path, gone = writer.chance.choice(READS)
            writer.client.call("GET", path, None, gone)
            writer.write(turn)

    changer = Client(daemons[-1])
    connection = place.connect()
    rows(connection, "SET lock_timeout = '1s'")
    by_api, by_sql = random.Random(11), random.Random(12)
    changes = [
        start(repeated, finished, lambda turn: change_by_api(changer, by_api, turn)),
        start(repeated, finished, lambda turn: change_by_sql(connection, by_sql, turn)),
    ]
    turns = [start(take_turns, writer) for writer in writers]
    try:
        for each in turns:
            each.result(300)
    finally:
        finished.set()
    for each in changes:
        each.result(300)
    answers = sum((client.answers for client in clients), Counter())
    assert [wrong for client in (*clients, changer) for wrong in client.wrong] == []
    assert sum(n for (_, status, _), n in answers.items() if status < 300) > answers.total() / 2
    for client in (*clients, changer):
        client.close()
    check_items(connection, writers, name)
    check_schema(connection, daemons)
    for daemon in daemons:
        assert "Traceback" not in daemon.output
    connection.close()


def check_items(connection: Any, writers: list[Writing], name: str) -> None:
    """Asserts that the database holds what was acknowledged, once and whole, with its history, and nothing that was refused."""
    found = rows(connection, "SELECT title, number::text, id FROM articles WHERE title LIKE %s", (f"{name}%",))
    wanted = {title: str(item["number"]) for writer in writers for title, item in writer.acknowledged.items()}
    assert Counter(title for title, _, _ in found) == Counter(list(wanted))
    assert {title: number for title, number, _ in found} == wanted
    history = rows(
        connection,
        "SELECT a.id, count(*) FROM articles AS a JOIN directus_activity AS h ON h.collection = 'articles' AND h.item = a.id::text"
        " WHERE a.title LIKE %s AND h.action = 'create' GROUP BY 1",
        (f"{name}%",),
    )
    assert Counter(dict(history)) == Counter(key for _, _, key in found)


def check_schema(connection: Any, daemons: list[Daemon]) -> None:
    """Asserts that each process serves the tables as they are."""
    columns: dict[str, list[str]] = {}
    for table, column in rows(
        connection,
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public' ORDER BY ordinal_position",
    ):
        columns.setdefault(table, []).append(column)
    for daemon in daemons:
        client = Client(daemon)
        # A name that the server does not know makes it ask the database.
        client.call("GET", "/items/articles?fields=unknown", None, NO_FIELD)
        for table in ("articles", "authors", *TABLES):
            status, _ = client.call("GET", f"/items/{quote(table)}?limit=1", None, NO_COLLECTION)
            assert (status == 200) == (table in columns)
            if status == 200:
                fields = client.call("GET", f"/fields/{table}")[1]["data"]
                assert [each["field"] for each in fields if each["type"] not in ("o2m", "alias")] == columns[table]
        client.close()


def test_one_process_serves_while_its_schema_changes(place: Place) -> None:
    under_load(place, [place.daemon], "one")


def test_two_processes_serve_while_their_schema_changes(place: Place, second: Daemon) -> None:
    under_load(place, [place.daemon, second], "two")
