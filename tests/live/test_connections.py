"""The server whose database goes: backends ended by the hundred, PostgreSQL killed, a network that is silent, clients that hang up.

None of them leaves a place of the pool taken, a descriptor open or a client without an answer, and what was acknowledged is there.
"""

import contextlib
import json
import os
import pathlib
import select
import signal
import socket
import subprocess
import threading
import time
import tomllib
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import psycopg2
import pytest

from directus_tx.embedded import EmbeddedError, EmbeddedPostgres
from tests.conftest import KEY, field
from tests.daemon import TOKEN, Daemon, embedded, free_port
from tests.live.test_faults import rows, start, wait_for
from tests.live.test_writes import blog

POOL_SIZE = 10
IDLE_TIMEOUT = 1.0
OURS = "application_name ^@ 'directus_tx' AND datname = current_database()"
LOCK_WAITERS = f"SELECT count(*) FROM pg_stat_activity WHERE {OURS} AND wait_event_type = 'Lock'"
TOKENS = (TOKEN, "second-token")
"""Those of two users. One user alone gets no more than ONE_CALLER connections of the pool."""

ONE_CALLER = 8
PATIENCE = 30.0
"""Seconds within which every request of these tests has an answer."""


class Answer:
    """The answer to a request. Raises AssertionError where it is none that a fault of the database may cause."""

    def __init__(
        self, daemon: Daemon, method: str, path: str, body: Any = None, *, token: str = TOKEN, project: str = "p"
    ) -> None:
        headers = {"Content-Type": "application/json", "Authorization": f"bearer {token}"}
        data = None if body is None else json.dumps(body).encode()
        started = time.monotonic()
        try:
            request = urllib.request.Request(f"{daemon.base}/{project}{path}", data, headers, method=method)
            with urllib.request.urlopen(request, timeout=PATIENCE) as found:
                self.status, content = found.status, found.read()
            retry_after = None
        except urllib.error.HTTPError as error:
            with error:
                self.status, content = error.code, error.read()
            retry_after = error.headers["Retry-After"]
        self.seconds = time.monotonic() - started
        assert self.status < 500 or (self.status == 503 and int(retry_after or 0) > 0), content
        self.body = json.loads(content or b"null")

    @property
    def data(self) -> Any:
        return self.body["data"]


class Proxy:
    """A TCP proxy in front of PostgreSQL. While it is `silent` it takes connections and bytes, and passes none on."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.silent = False
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.peers: dict[socket.socket, socket.socket | None] = {}
        self._quiet = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopped.is_set():
            # What comes meanwhile stays where it is, as on a network that loses it and sends it again.
            watched = [self.listener] if self.silent else [self.listener, *self.peers]
            if self.silent:
                self._quiet.set()
            for found in select.select(watched, [], [], 0.005)[0]:
                if found is self.listener:
                    self._accept()
                elif found in self.peers:
                    self._pass_on(found)

    def _accept(self) -> None:
        client = self.listener.accept()[0]
        if self.silent:
            self.peers[client] = None
            return
        try:
            server = socket.create_connection(("127.0.0.1", self.target))
        except OSError:
            client.close()
            return
        self.peers |= {client: server, server: client}

    def _pass_on(self, source: socket.socket) -> None:
        peer = self.peers[source]
        try:
            data = source.recv(65536)
            if data and peer is not None:
                peer.sendall(data)
                return
        except OSError:
            # One of them is closed; so is the other, then.
            pass
        for each in (source, peer):
            if each is not None:
                self.peers.pop(each, None)
                each.close()

    def silence(self) -> None:
        """Returns when nothing is passed on any more."""
        self._quiet.clear()
        self.silent = True
        assert self._quiet.wait(PATIENCE)

    def heal(self) -> None:
        """Speaks again; the connections of before are gone, and those at their ends are told by nobody."""
        for each in list(self.peers):
            del self.peers[each]
            each.close()
        self.silent = False

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()
        for each in (self.listener, *self.peers):
            each.close()


class Place:
    """A server of ours in front of a PostgreSQL that the test stops and starts as it likes, with a proxy between them."""

    def __init__(
        self,
        directory: pathlib.Path,
        *,
        statement_timeout: float = 2,
        queue_timeout: float = 3,
        lock_timeout: float = 0.3,
        proxy: Callable[[int], Proxy] = Proxy,
    ) -> None:
        self.port = free_port()
        (directory / "database").mkdir()
        self.postgres = embedded(
            directory / "database", f"-c listen_addresses=127.0.0.1 -c port={self.port} -c deadlock_timeout=20ms"
        )
        self.postgres.start()
        self.proxy = proxy(self.port)
        url = f"postgresql://postgres@127.0.0.1:{self.proxy.port}/postgres"
        self.daemon = Daemon(directory, url=url)
        self.daemon.environment |= {
            "DIRECTUS_DATABASE_POOL_SIZE": str(POOL_SIZE),
            "DIRECTUS_DATABASE_IDLE_TIMEOUT": str(IDLE_TIMEOUT),
            "DIRECTUS_DATABASE_QUEUE_TIMEOUT": str(queue_timeout),
            "DIRECTUS_DATABASE_STATEMENT_TIMEOUT": str(statement_timeout),
            "DIRECTUS_DATABASE_LOCK_TIMEOUT": str(lock_timeout),
        }
        self.daemon.start()
        blog(self.daemon)
        second = {"email": "second@example.com", "role": 1, "status": "active", "token": TOKENS[1], "password": "password"}
        self.daemon.call("POST", "/p/users", second)
        self.daemon.call("POST", "/p/items/authors", [{"name": "one"}, {"name": "two"}])
        project = tomllib.loads((directory / "var" / "projects" / "p.toml").read_text())
        self.database = project["database"]["name"]
        self.check_pool()
        connection = self.connect()
        wait_for(lambda: rows(connection, f"SELECT count(*) FROM pg_stat_activity WHERE {OURS}") == [(0,)])
        connection.close()
        self.at_rest = self.settled()

    def call(self, method: str, path: str, body: Any = None, *, token: str = TOKEN) -> Answer:
        return Answer(self.daemon, method, path, body, token=token)

    def status_of(self, path: str) -> int:
        """Reads a path, whatever the type of the answer, and gives its status."""
        headers = {"Authorization": f"bearer {TOKEN}"}
        request = urllib.request.Request(f"{self.daemon.base}/p{path}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as found:
                found.read()
                return int(found.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    def write(self, path: str, name: str, token: str) -> Answer:
        return self.call("PATCH", path, {"name": name}, token=token)

    def send(self, method: str, path: str, body: Any = None, *, token: str = TOKEN) -> socket.socket:
        """A connection over which a request has been sent, whose answer is left to come."""
        content = b"" if body is None else json.dumps(body).encode()
        head = f"{method} /p{path} HTTP/1.1\r\nHost: test\r\nAuthorization: bearer {token}\r\nContent-Length: {len(content)}\r\n"
        connection = socket.create_connection(("127.0.0.1", self.daemon.port))
        connection.sendall(f"{head}Content-Type: application/json\r\n\r\n".encode() + content)
        return connection

    def connect(self) -> Any:
        """A superuser's connection to the database, past the proxy, that commits each statement by itself."""
        connection = psycopg2.connect(host="127.0.0.1", port=self.port, user="postgres", dbname=self.database)
        connection.autocommit = True
        return connection

    def kill_postgres(self) -> None:
        """kill -9 for the postmaster; its backends end when they notice."""
        pid = int((self.postgres.cluster / "postmaster.pid").read_text().splitlines()[0])
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not pathlib.Path(f"/proc/{pid}").exists())
        self.postgres.stop()

    def start_postgres(self) -> None:
        def started() -> bool:
            try:
                self.postgres.start()
            except EmbeddedError:
                # Some backend of before has not ended yet.
                return False
            return True

        wait_for(started)

    def descriptors(self) -> Counter[str]:
        """What the server has open now: how many sockets, pipes and so on, and each file by its name."""
        links = []
        for name in os.listdir(f"/proc/{self.daemon.pid}/fd"):
            with contextlib.suppress(FileNotFoundError):
                links.append(os.readlink(f"/proc/{self.daemon.pid}/fd/{name}").split(":")[0])
        return Counter(links)

    def settled(self) -> Counter[str]:
        """What the server has open when that has not changed for half a second. It closes its end of a connection a moment after the
        database or the client has closed the other."""
        found, since = self.descriptors(), time.monotonic()
        until = since + PATIENCE
        while time.monotonic() < since + 0.5:
            assert time.monotonic() < until
            time.sleep(0.02)
            if (now := self.descriptors()) != found:
                found, since = now, time.monotonic()
        return found

    def wait_until_at_rest(self) -> None:
        """Returns when the server has open what it had at first, and no connection to the database."""
        connection = self.connect()
        wait_for(lambda: rows(connection, f"SELECT count(*) FROM pg_stat_activity WHERE {OURS}") == [(0,)])
        connection.close()
        # The server closes its end of a connection a moment after the database or the client has closed the other.
        wait_for(lambda: self.descriptors() == self.at_rest)

    def check_pool(self) -> None:
        """Asserts that the whole pool can be used, and that no more than it is: of twenty writes ten wait for a lock at once."""
        holder, other = self.connect(), self.connect()
        holder.autocommit = False
        rows(holder, "SELECT 1 FROM authors WHERE id = 1 FOR UPDATE")
        answers = [start(self.write, "/items/authors/1", f"checked {n}", TOKENS[n % 2]) for n in range(POOL_SIZE * 2)]
        wait_for(lambda: rows(other, LOCK_WAITERS) == [(POOL_SIZE,)])
        holder.rollback()
        assert {answer.result(PATIENCE).status for answer in answers} == {200}
        holder.close()
        other.close()

    def stop(self) -> None:
        if self.daemon.process is not None and self.daemon.process.poll() is None:
            assert self.daemon.stop() == 0
        self.proxy.stop()
        self.postgres.stop()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    found = Place(tmp_path_factory.mktemp("connections"))
    yield found
    found.stop()


class Load:
    """Clients that read and write until they are told to stop. `statuses` counts the answers; `written` are the names of the authors
    whose creation was acknowledged."""

    def __init__(self, place: Place, name: str, clients: int = 8) -> None:
        self.place = place
        self.statuses: Counter[int] = Counter()
        self.written: list[str] = []
        self.slowest = 0.0
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._clients = [start(self._run, f"{name} {n}") for n in range(clients)]

    def _run(self, name: str) -> None:
        turn = 0
        while not self._stopped.is_set():
            turn += 1
            title = f"{name} {turn}"
            body = {"name": title, "articles": [{"title": title} for _ in range(3)]}
            for method, path, payload in (("POST", "/items/authors", body), ("GET", "/items/articles?limit=5&fields=*.*", None)):
                answer = self.place.call(method, path, payload)
                with self._lock:
                    self.statuses[answer.status] += 1
                    self.slowest = max(self.slowest, answer.seconds)
                    if method == "POST" and answer.status == 200:
                        self.written.append(title)

    def stop(self) -> None:
        self._stopped.set()
        for client in self._clients:
            client.result(PATIENCE)

    def check(self) -> None:
        """Asserts that what was acknowledged is there, and that nothing is there in part."""
        connection = self.place.connect()
        articles = dict(
            rows(connection, "SELECT name, count(a.id) FROM authors LEFT JOIN articles a ON a.author = authors.id GROUP BY 1")
        )
        connection.close()
        assert set(self.written) <= articles.keys()
        names = {name for name in articles if name.count(" ") == 2}
        assert {articles[name] for name in names} <= {3}


# --- backends that are ended


def test_hundreds_of_backends_that_are_ended_under_load_cost_nobody_anything(place: Place) -> None:
    place.check_pool()
    load = Load(place, "ended")
    killer = place.connect()
    ended = 0

    def end_all() -> bool:
        nonlocal ended
        ended += len(rows(killer, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {OURS}"))
        time.sleep(0.02)
        return ended >= 300 and load.statuses.total() >= 100

    wait_for(end_all)
    load.stop()
    killer.close()
    over = time.monotonic()
    wait_for(lambda: place.call("GET", "/items/articles?limit=1").status == 200)
    assert time.monotonic() - over < 2
    assert load.statuses.keys() <= {200, 503}
    assert load.statuses[200] > 0
    load.check()
    place.check_pool()
    place.wait_until_at_rest()


# --- PostgreSQL that is killed


def test_postgres_that_is_killed_while_requests_wait_serves_again_as_soon_as_it_is_back(place: Place) -> None:
    place.check_pool()
    holder, other = place.connect(), place.connect()
    holder.autocommit = False
    rows(holder, "SELECT 1 FROM authors WHERE id = 1 FOR UPDATE")
    load = Load(place, "killed", clients=2)
    wait_for(lambda: len(load.written) > 10)
    waiting = [start(place.write, "/items/authors/1", "waits", TOKENS[n % 2]) for n in range(POOL_SIZE * 3)]
    wait_for(lambda: rows(other, LOCK_WAITERS) == [(POOL_SIZE,)])
    place.kill_postgres()
    answers = [each.result(PATIENCE) for each in waiting]
    assert {answer.status for answer in answers} == {503}
    assert max(answer.seconds for answer in answers) < 10
    for _ in range(5):
        answer = place.call("GET", "/items/authors/1")
        assert (answer.status, answer.seconds < 2) == (503, True)
    place.start_postgres()
    back = time.monotonic()
    wait_for(lambda: place.call("GET", "/items/authors/1").status == 200)
    assert time.monotonic() - back < 2
    load.stop()
    assert load.slowest < 10
    load.check()
    place.check_pool()
    place.wait_until_at_rest()


# --- system tables that others have locked


def test_a_lock_on_the_system_tables_delays_no_client_longer_than_the_limits(place: Place) -> None:
    """queue_timeout is 3 seconds, statement_timeout 2. The schema is read by one request at a time."""
    holder = place.connect()
    rows(holder, "SELECT directus_touch('schema')")
    holder.autocommit = False
    rows(holder, "LOCK TABLE directus_permissions IN ACCESS EXCLUSIVE MODE")
    answers = [start(place.call, "GET", "/items/authors/1") for _ in range(POOL_SIZE * 3)]
    found = [each.result(PATIENCE) for each in answers]
    assert {answer.status for answer in found} == {503}
    assert max(answer.seconds for answer in found) < 12
    holder.rollback()
    wait_for(lambda: place.call("GET", "/items/authors/1").status == 200)
    holder.close()
    place.check_pool()


# --- a network that is silent

SILENCES = {
    "a read": ("LOCK TABLE authors IN ACCESS EXCLUSIVE MODE", "GET", "/items/authors/1"),
    "a transaction": ("LOCK TABLE articles IN SHARE MODE", "POST", "/items/authors"),
    "a commit": ("SELECT pg_advisory_lock(7)", "POST", "/items/authors"),
}
"""Where a request is when the network goes silent: what the test holds meanwhile, and the request."""

SLOW_COMMITS = """
CREATE FUNCTION wait_at_commit() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_advisory_xact_lock(7); RETURN NULL; END';
CREATE CONSTRAINT TRIGGER wait_at_commit AFTER INSERT ON authors DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION wait_at_commit()
"""


@pytest.fixture
def slow_commits(place: Place) -> Iterator[None]:
    """Makes the commit of whatever has created an author wait for an advisory lock."""
    connection = place.connect()
    rows(connection, SLOW_COMMITS)
    yield
    rows(connection, "DROP FUNCTION wait_at_commit CASCADE")
    connection.close()


@pytest.mark.usefixtures("slow_commits")
@pytest.mark.parametrize("where", SILENCES)
def test_a_silent_network_leaves_no_client_without_an_answer_and_no_place_taken(place: Place, where: str) -> None:
    """statement_timeout is 2 seconds; a connection whose statement has no answer 5 seconds later is closed."""
    held, method, path = SILENCES[where]
    holder, other = place.connect(), place.connect()
    holder.autocommit = False
    rows(holder, held)
    names = [f"silent {where} {n}" for n in range(4)] if method == "POST" else [""] * 4
    bodies = [{"name": name[-20:], "articles": [{"title": name[-20:]}] * 3} if name else None for name in names]
    cut = [start(place.call, method, path, body) for body in bodies]
    wait_for(lambda: rows(other, LOCK_WAITERS) == [(len(cut),)])
    place.proxy.silence()
    holder.rollback()
    rows(holder, "SELECT pg_advisory_unlock_all()")
    holder.rollback()
    late = [start(place.call, "GET", "/items/articles?limit=1") for _ in range(POOL_SIZE * 2)]
    answers = [each.result(PATIENCE) for each in (*cut, *late)]
    assert {answer.status for answer in answers} == {503}
    assert max(answer.seconds for answer in answers) < 12
    place.proxy.heal()
    healed = time.monotonic()
    wait_for(lambda: place.call("GET", "/items/articles?limit=1").status == 200)
    assert time.monotonic() - healed < 2
    wait_for(
        lambda: rows(other, f"SELECT count(*) FROM pg_stat_activity WHERE {OURS} AND state = 'idle in transaction'") == [(0,)]
    )
    for name in filter(None, names):
        found = rows(
            other, "SELECT (SELECT count(*) FROM articles WHERE author = a.id) FROM authors a WHERE name = %s", (name[-20:],)
        )
        assert found in ([], [(3,)])
        # Nothing is committed that was not asked to be.
        assert where == "a commit" or not found
    place.check_pool()
    place.wait_until_at_rest()
    holder.close()
    other.close()


# --- clients that hang up


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A place where neither statements nor those who wait for a connection run out of time during a test."""
    found = Place(tmp_path_factory.mktemp("patient"), statement_timeout=120, queue_timeout=120)
    found.daemon.call("POST", "/p/items/articles", [{"title": f"{n}", "author": 1} for n in range(10)])
    yield found
    found.stop()


READS = [
    "/items/authors/1",
    "/items/authors?limit=-1",
    "/items/articles?fields=*,author.*&filter[author.name][contains]=o",
    "/items/articles?limit=1&meta=*&filter[author.name]=one",
    "/items/authors?export=csv",
]


@pytest.mark.parametrize("path", READS)
def test_what_clients_that_hang_up_were_reading_is_cancelled(patient: Place, path: str) -> None:
    """The test holds what they read, so that none of it comes to its own end."""
    holder, other = patient.connect(), patient.connect()
    holder.autocommit = False
    rows(holder, "LOCK TABLE authors IN ACCESS EXCLUSIVE MODE")
    clients = [patient.send("GET", path) for _ in range(POOL_SIZE * 2)]
    # Of an export, one caller can have four fifths of a half of the pool.
    wait_for(lambda: rows(other, LOCK_WAITERS)[0][0] >= ONE_CALLER // 2)
    for client in clients:
        client.close()
    answer = patient.call("GET", "/items/tags")
    assert (answer.status, answer.seconds < 5) == (200, True)
    wait_for(lambda: rows(other, LOCK_WAITERS) == [(0,)])
    holder.rollback()
    holder.close()
    other.close()
    patient.check_pool()
    patient.wait_until_at_rest()


def test_one_caller_cannot_keep_the_whole_pool_from_others(patient: Place) -> None:
    holder, other = patient.connect(), patient.connect()
    holder.autocommit = False
    rows(holder, "LOCK TABLE authors IN ACCESS EXCLUSIVE MODE")
    clients = [patient.send("GET", "/items/authors?q=long") for _ in range(POOL_SIZE * 3)]
    wait_for(lambda: rows(other, LOCK_WAITERS) == [(ONE_CALLER,)])
    for _ in range(5):
        answer = patient.call("GET", "/items/tags", token=TOKENS[1])
        assert (answer.status, answer.seconds < 5) == (200, True)
    assert rows(other, LOCK_WAITERS) == [(ONE_CALLER,)]
    holder.rollback()
    for client in clients:
        assert client.recv(12) == b"HTTP/1.1 200"
        client.close()
    holder.close()
    other.close()
    patient.check_pool()
    patient.wait_until_at_rest()


def test_what_clients_that_hang_up_were_writing_is_written(patient: Place) -> None:
    holder, other = patient.connect(), patient.connect()
    holder.autocommit = False
    rows(holder, "LOCK TABLE articles IN SHARE MODE")
    names = [f"hung up {n}" for n in range(POOL_SIZE * 2)]
    clients = [
        patient.send("POST", "/items/authors", {"name": name, "articles": [{"title": name}] * 3}, token=TOKENS[n % 2])
        for n, name in enumerate(names)
    ]
    wait_for(lambda: rows(other, LOCK_WAITERS) == [(POOL_SIZE,)])
    for client in clients:
        client.close()
    # Others are seen to come and go before the writes may go on.
    hung_up = [patient.send("GET", "/items/tags") for _ in range(POOL_SIZE)]
    for client in hung_up:
        client.close()
    time.sleep(1)
    assert rows(other, LOCK_WAITERS) == [(POOL_SIZE,)]
    holder.rollback()
    written = "SELECT a.name, count(*) FROM authors a JOIN articles b ON b.author = a.id WHERE a.name = ANY (%s) GROUP BY 1"
    wait_for(lambda: sorted(rows(other, written, (names,))) == sorted((name, 3) for name in names))
    holder.close()
    other.close()
    patient.check_pool()
    patient.wait_until_at_rest()


# --- a database that is restored


class Restored:
    """A place whose database is put back to what it was: by its files, by a copy of the database, or by another server that has its
    files, as a standby has that is promoted."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        self.place = Place(directory)
        self.others: list[EmbeddedPostgres] = []

    @property
    def cluster(self) -> pathlib.Path:
        return self.place.postgres.cluster

    def keep(self, way: str) -> None:
        """Takes the backup."""
        if way == "a copy of the database":
            server = psycopg2.connect(host="127.0.0.1", port=self.place.port, user="postgres", dbname="postgres")
            server.autocommit = True
            # Nobody may be connected to what is copied.
            wait_for(lambda: not rows(server, "SELECT 1 FROM pg_stat_activity WHERE datname = %s", (self.place.database,)))
            rows(server, f"CREATE DATABASE kept TEMPLATE {self.place.database}")
            server.close()
            return
        self.place.postgres.stop()
        subprocess.run(["cp", "-a", self.cluster, self.directory / "kept"], check=True)
        self.place.start_postgres()

    def restore(self, way: str) -> None:
        """Puts the backup in the place of the database."""
        if way == "a copy of the database":
            server = psycopg2.connect(host="127.0.0.1", port=self.place.port, user="postgres", dbname="postgres")
            server.autocommit = True
            rows(server, f"DROP DATABASE {self.place.database} WITH (FORCE)")
            rows(server, f"ALTER DATABASE kept RENAME TO {self.place.database}")
            server.close()
        elif way == "its files":
            self.place.postgres.stop()
            subprocess.run(["rm", "-r", self.cluster], check=True)
            (self.directory / "kept").rename(self.cluster)
            self.place.start_postgres()
        else:
            (self.directory / "other").mkdir()
            (self.directory / "kept").rename(self.directory / "other" / "postgres")
            self.place.port = self.place.proxy.target = free_port()
            self.others.append(
                EmbeddedPostgres(self.directory / "other", options=f"-c listen_addresses=127.0.0.1 -c port={self.place.port}")
            )
            self.others[-1].start()

    def version(self) -> int:
        """The version of the schema, as the database has it."""
        connection = self.place.connect()
        ((found,),) = rows(connection, "SELECT version FROM directus_versions WHERE kind = 'schema'")
        connection.close()
        return int(found)

    def stop(self) -> None:
        self.place.stop()
        for other in self.others:
            other.stop()


@pytest.fixture
def restored(tmp_path: pathlib.Path) -> Iterator[Restored]:
    found = Restored(tmp_path)
    yield found
    found.stop()


@pytest.mark.parametrize("version", ["lower", "same"])
@pytest.mark.parametrize("way", ["its files", "a copy of the database", "another server"])
def test_a_database_that_was_restored_is_served_as_it_is_then(restored: Restored, way: str, version: str) -> None:
    place = restored.place
    restored.keep(way)
    wait_for(lambda: place.call("GET", "/items/authors").status == 200)
    place.daemon.call("POST", "/p/collections", {"collection": "lost", "fields": [KEY]})
    role = place.daemon.call("POST", "/p/roles", {"name": "lost"})["data"]["id"]
    user = {"email": "lost@example.com", "role": role, "status": "active", "token": "lost-token", "password": "password"}
    place.daemon.call("POST", "/p/users", user)
    place.daemon.call("PATCH", "/p/settings/1", {"value": "lost"})
    assert place.call("GET", "/items/lost").status == 200
    assert place.call("GET", "/users/me", token="lost-token").status == 200
    remembered = restored.version()
    restored.restore(way)
    assert restored.version() < remembered
    if version == "same":
        # Others have worked on it before our server comes.
        connection = place.connect()
        while restored.version() < remembered:
            rows(connection, "UPDATE directus_settings SET value = 'kept' WHERE key = 'project_name'")
        connection.close()
    wait_for(lambda: place.call("GET", "/items/authors").status == 200)
    # The old server, where there is one, goes on to answer over what is open: a new connection has to be needed.
    place.check_pool()
    assert place.call("GET", "/items/lost").status == 404
    assert place.call("GET", "/users/me", token="lost-token").status == 401
    name = place.call("GET", "/").data["api"]["project_name"]
    assert name == ("kept" if version == "same" else "")
    assert place.call("GET", "/items/authors").status == 200
    place.daemon.call("POST", "/p/collections", {"collection": "found", "fields": [KEY, field("name", length=20)]})
    assert place.call("POST", "/items/found", {"name": "new"}).status == 200
    assert place.call("GET", "/items/found").data == [{"id": 1, "name": "new"}]
