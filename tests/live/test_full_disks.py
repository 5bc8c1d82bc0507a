"""Disks that are full: of the database, of its log of changes, of the server itself. Writes are refused with 503, reads go on, nothing is
half-written, and as soon as there is room again everything is as before."""

import pathlib
import secrets
import tomllib
import urllib.error
from collections.abc import Iterator

import psycopg2
import pytest

from tests.conftest import field
from tests.daemon import SUPER_ADMIN_TOKEN, Daemon, wait_for
from tests.live.clusters import BINARIES, Cluster, Disk, can_mount, new_directory, remove
from tests.live.test_connections import Answer
from tests.live.test_faults import rows
from tests.live.test_writes import blog

pytestmark = [
    pytest.mark.skipif(not BINARIES, reason="no PostgreSQL on this machine (Debian: apt-get install postgresql)"),
    pytest.mark.skipif(not can_mount(), reason="this process may not mount a tmpfs"),
]


class Place:
    """A server of ours, a database server, and a disk for the data of each and for the log of changes."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.disks = {name: Disk(directory / name, size) for name, size in (("data", 110), ("wal", 24), ("own", 2))}
        self.cluster = Cluster(directory, data=directory / "data" / "files", wal=directory / "wal" / "files")
        self.cluster.make().start()
        self.daemon = Daemon(directory / "own", url=self.cluster.url)
        self.daemon.log = directory / "daemon.log"
        self.daemon.environment |= {"DIRECTUS_DATABASE_STATEMENT_TIMEOUT": "10", "TMPDIR": str(directory / "own")}
        self.daemon.start()
        blog(self.daemon)
        self.daemon.call("POST", "/p/fields/articles", field("body", "string", "TEXT", None))
        self.database = self.database_of("p")
        self.written: list[str] = []

    def database_of(self, key: str) -> str:
        file = self.disks["own"].path / "var" / "projects" / f"{key}.toml"
        return str(tomllib.loads(file.read_text())["database"]["name"])

    def write(self) -> Answer:
        """Creates an author with three articles, of some 60 KB that cannot be compressed."""
        name = secrets.token_hex(8)
        articles = [{"title": name, "body": secrets.token_urlsafe(15_000)} for _ in range(3)]
        answer = Answer(self.daemon, "POST", "/items/authors", {"name": name, "articles": articles})
        if answer.status == 200:
            self.written.append(name)
        return answer

    def read(self) -> int:
        return Answer(self.daemon, "GET", "/items/articles?limit=3&fields=id,title,author.name").status

    def check(self) -> None:
        """Asserts that what was acknowledged is there, that nothing is there in part, and that each has its history."""
        connection = self.cluster.connect(self.database)
        found = dict(
            rows(connection, "SELECT u.name, count(a.id) FROM authors u LEFT JOIN articles a ON a.author = u.id GROUP BY 1")
        )
        histories = rows(
            connection,
            "SELECT count(*), count(DISTINCT r.activity) FROM directus_activity a LEFT JOIN directus_revisions r ON r.activity = a.id"
            " WHERE a.collection IN ('authors', 'articles')",
        )
        ((articles,),) = rows(connection, "SELECT count(*) FROM articles")
        connection.close()
        assert set(self.written) <= found.keys()
        assert set(found.values()) <= {3}
        assert histories == [(len(found) + articles,) * 2]

    def create_project(self, key: str) -> tuple[int, str]:
        """Status and message."""
        attributes = {
            "project": key,
            "super_admin_token": SUPER_ADMIN_TOKEN,
            "user_email": "a@example.com",
            "user_password": "password",
        }
        try:
            self.daemon.call("POST", "/server/projects", attributes, token=None)
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode() if error.headers["Retry-After"] else ""
        return 200, ""

    def databases(self) -> set[str]:
        connection = self.cluster.connect()
        found = {name for (name,) in rows(connection, "SELECT datname FROM pg_database")}
        connection.close()
        return found

    def recovers(self) -> None:
        """Asserts that writes succeed within two seconds."""
        wait_for(lambda: self.write().status == 200, 2)
        for _ in range(5):
            assert (self.write().status, self.read()) == (200, 200)
        self.check()

    def stop(self) -> None:
        if self.daemon.process is not None and self.daemon.process.poll() is None:
            assert self.daemon.stop() == 0
        self.cluster.stop()
        for disk in self.disks.values():
            disk.unmount()


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    directory = new_directory()
    found = Place(directory)
    try:
        yield found
    finally:
        found.stop()
        remove(directory)


def test_a_database_whose_disk_is_full_refuses_writes_and_answers_reads(place: Place) -> None:
    for _ in range(3):
        assert place.write().status == 200
    disk = place.disks["data"]
    disk.fill()
    refused: list[Answer] = []
    wait_for(lambda: (answer := place.write()).status == 503 and not refused.append(answer))
    for _ in range(10):
        refused.append(place.write())
        assert place.read() == 200
    assert {answer.body["error"]["message"] for answer in refused if answer.status == 503} == {
        "The disk of the database is full."
    }
    before = place.databases()
    status, message = place.create_project("q")
    assert (status, "full" in message) == (503, True)
    assert place.databases() == before
    assert [path.name for path in (place.disks["own"].path / "var" / "projects").iterdir()] == ["p.toml"]
    disk.free()
    place.recovers()
    assert place.create_project("q")[0] == 200


def test_a_database_whose_log_of_changes_is_full_serves_again_when_there_is_room(place: Place) -> None:
    """PostgreSQL ends all connections, and may end itself."""
    disk = place.disks["wal"]
    disk.fill()
    wait_for(lambda: place.write().status == 503)
    for _ in range(10):
        assert place.write().status in (200, 503)
        assert place.read() in (200, 503)
    disk.free()
    wait_for(lambda: place.cluster.runs() or place.cluster.start())

    def answers() -> bool:
        try:
            place.cluster.connect(place.database).close()
        except psycopg2.OperationalError:
            return False
        return True

    wait_for(answers)
    place.recovers()


def test_a_project_whose_file_does_not_fit_on_the_disk_is_not_created(place: Place) -> None:
    before = place.databases()
    files = place.disks["own"].path / "var" / "projects"
    names = sorted(path.name for path in files.iterdir())
    disk = place.disks["own"]
    disk.fill()
    for _ in range(2):
        status, message = place.create_project("r")
        assert (status, "The file of the project cannot be written: No space left on device." in message) == (503, True)
        assert (place.databases(), sorted(path.name for path in files.iterdir())) == (before, names)
        assert (place.write().status, place.read()) == (200, 200)
    disk.free()
    assert place.create_project("r")[0] == 200
    assert Answer(place.daemon, "GET", "/items/authors?limit=1").status == 200
