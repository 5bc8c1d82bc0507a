"""Databases that cannot be written: a standby, until it is promoted, and one that is set to be read-only.

Reads are answered, users can sign in, and writes are refused: with 503 on a standby, with 403 otherwise. When the database can be written
again, writes succeed without a restart."""

import concurrent.futures
import pathlib
import shutil
import tempfile
import time
import tomllib
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import KEY, field
from tests.daemon import SUPER_ADMIN_TOKEN, TOKEN, Daemon, wait_for
from tests.live.clusters import BINARIES, Cluster, new_directory, remove
from tests.live.test_connections import Answer
from tests.live.test_faults import rows
from tests.live.test_writes import blog

pytestmark = pytest.mark.skipif(not BINARIES, reason="no PostgreSQL on this machine (Debian: apt-get install postgresql)")
STANDBY = (503, 16, "The project's database is a standby, which can only be read.")
READ_ONLY = (403, 23, "The project's database can only be read.")
CREDENTIALS = {"email": "admin@example.com", "password": "password"}

WRITES: dict[str, tuple[str, str, Any]] = {
    "creating": ("POST", "/items/authors", {"name": "new", "articles": [{"title": "new"}]}),
    "updating": ("PATCH", "/items/authors/1", {"name": "changed"}),
    "deleting": ("DELETE", "/items/authors/1", None),
    "a collection": ("POST", "/collections", {"collection": "new", "fields": [KEY]}),
    "a field": ("POST", "/fields/authors", field("new")),
    "a setting": ("PATCH", "/settings/1", {"value": "new"}),
    "a user": ("POST", "/users", {"email": "new@example.com", "password": "password", "role": 1, "status": "active"}),
}
READS = (
    "/items/authors?fields=*,articles.*",
    "/items/authors/1",
    "/items/authors?limit=-1&meta=*",
    "/items/authors?export=csv",
    "/activity",
    "/users/me",
    "/collections",
    "/fields",
    "/permissions/me",
    "/",
)


class Server:
    """A server of ours on a database server; the project files are its own."""

    def __init__(self, directory: pathlib.Path, cluster: Cluster) -> None:
        directory.mkdir(exist_ok=True)
        self.cluster = cluster
        self.daemon = Daemon(directory, url=cluster.url)
        self.files = directory / "var" / "projects"

    @property
    def database(self) -> str:
        return str(tomllib.loads((self.files / "p.toml").read_text())["database"]["name"])

    def call(self, method: str, path: str, body: Any = None, token: str = TOKEN) -> Answer:
        return Answer(self.daemon, method, path, body, token=token)

    def check_read_only(self, token: str, refusal: tuple[int, int, str]) -> None:
        """Asserts that reads are answered and users can sign in, and that nothing can be written: *refusal* is the status, code and message
        of the answers."""
        assert self.call("POST", "/auth/authenticate", CREDENTIALS | {"password": "wrong"}).status == 404
        signed_in = self.call("POST", "/auth/authenticate", CREDENTIALS)
        assert signed_in.status == 200, signed_in.body
        assert self.call("GET", "/items/authors", token=signed_in.data["token"]).status == 200
        page = self.call("PATCH", "/users/1/tracking/page", {"last_page": "/new"})
        assert (page.status, page.data["last_page"], page.body["messages"][0]["code"]) == (200, None, refusal[1]), page.body
        assert self.call("PATCH", "/users/99/tracking/page", {"last_page": "/new"}).status == 404
        for path in READS[-1:] + READS[:-1]:
            for one in (TOKEN, token):
                request = urllib.request.Request(f"{self.daemon.base}/p{path}", headers={"Authorization": f"bearer {one}"})
                with urllib.request.urlopen(request, timeout=60) as answer:
                    assert answer.read(), path
        for name, (method, path, body) in WRITES.items():
            answer = self.call(method, path, body)
            assert (answer.status, *answer.body["error"].values()) == refusal, name
        assert [author["name"] for author in self.call("GET", "/items/authors").data] == ["one", "two"]

    def check_writable(self) -> None:
        """Asserts that everything that was refused before is written, and that what is written is seen at once."""
        expected = {"deleting": 204}
        for name, (method, path, body) in WRITES.items():
            assert self.call(method, path, body).status == expected.get(name, 200), name
        for number in range(5):
            collection = f"seen_{number}"
            assert self.call("POST", "/collections", {"collection": collection, "fields": [KEY, field("name")]}).status == 200
            assert self.call("POST", f"/items/{collection}", {"name": "x"}).status == 200
            with concurrent.futures.ThreadPoolExecutor(8) as clients:
                found = clients.map(lambda _: self.call("GET", f"/items/{collection}").data, range(16))  # noqa: B023
                assert list(found) == [[{"id": 1, "name": "x"}]] * 16


@pytest.fixture(scope="module")
def directory() -> Iterator[pathlib.Path]:
    found = new_directory()
    yield found
    remove(found)


@pytest.fixture(scope="module")
def primary(directory: pathlib.Path) -> Iterator[Server]:
    (directory / "primary").mkdir()
    cluster = Cluster(directory / "primary").make().start()
    found = Server(directory / "one", cluster)
    try:
        found.daemon.start()
        blog(found.daemon)
        found.call("POST", "/items/authors", [{"name": "one"}, {"name": "two"}])
        yield found
        assert found.daemon.process is None or found.daemon.process.poll() is not None or found.daemon.stop() == 0
    finally:
        cluster.stop()


@pytest.fixture
def standby(directory: pathlib.Path, primary: Server) -> Iterator[Server]:
    """A server on a standby of the primary, with its projects. It is not started."""
    place = pathlib.Path(tempfile.mkdtemp(dir=directory))
    place.chmod(0o755)
    (place / "standby").mkdir()
    cluster = primary.cluster.copy(place / "standby").start()
    found = Server(place / "own", cluster)
    shutil.copytree(primary.files, found.files)
    try:
        yield found
        assert found.daemon.process is None or found.daemon.process.poll() is not None or found.daemon.stop() == 0
    finally:
        cluster.stop()


def test_a_standby_is_read_and_written_as_soon_as_it_is_promoted(primary: Server, standby: Server) -> None:
    token = primary.call("POST", "/auth/authenticate", CREDENTIALS).data["token"]
    reader = {"email": "reader@example.com", "role": 1, "status": "active", "token": "reader-token", "password": "password"}
    user = primary.call("POST", "/users", reader).data["id"]
    standby.daemon.start()
    wait_for(lambda: standby.call("GET", "/users/me", token="reader-token").status == 200)
    standby.check_read_only(token, STANDBY)
    info = standby.daemon.call("GET", f"/server/info?super_admin_token={SUPER_ADMIN_TOKEN}", token=None)["data"]["databases"]["p"]
    assert info == {"read_only": "The database server is a standby.", "changes_noticed_by": "comparison every 10 s"}
    # Changes of the primary arrive, although a standby does not notify of them.
    primary.call("POST", "/collections", {"collection": "later", "fields": [KEY, field("name")]})
    primary.call("POST", "/items/later", {"name": "x"})
    wait_for(lambda: standby.call("GET", "/items/later").status == 200, 20)
    primary.call("PATCH", f"/users/{user}", {"status": "suspended"})
    wait_for(lambda: standby.call("GET", "/users/me", token="reader-token").status == 401, 20)
    standby.check_read_only(token, STANDBY)
    standby.cluster.promote()
    standby.check_writable()
    assert "Traceback" not in standby.daemon.output


def test_a_promoted_standby_is_written_also_by_a_server_that_only_reads_meanwhile(primary: Server, standby: Server) -> None:
    standby.daemon.start()
    standby.check_read_only(primary.call("POST", "/auth/authenticate", CREDENTIALS).data["token"], STANDBY)
    standby.cluster.promote()
    other = Server(standby.daemon.directory.with_name("other"), standby.cluster)
    shutil.copytree(standby.files, other.files)
    other.daemon.start()
    # The first server has only connections that were opened to the standby.
    other.call("POST", "/collections", {"collection": "later", "fields": [KEY, field("name")]})
    wait_for(lambda: standby.call("GET", "/items/later").status == 200, 20)
    time.sleep(1.5)
    for number in range(10):
        other.call("POST", "/collections", {"collection": f"seen_{number}", "fields": [KEY]})
        assert standby.call("GET", f"/items/seen_{number}").status == 200
    assert other.daemon.stop() == 0


@pytest.mark.parametrize("place", ["SYSTEM", "DATABASE"])
def test_a_database_that_is_set_to_read_only_is_read_and_written_when_it_is_set_back(primary: Server, place: str) -> None:
    token = primary.call("POST", "/auth/authenticate", CREDENTIALS).data["token"]
    target = "SYSTEM" if place == "SYSTEM" else f"DATABASE {primary.database}"
    admin = primary.cluster.connect()
    for _ in range(2):
        rows(admin, f"ALTER {target} SET default_transaction_read_only = on")
        rows(admin, "SELECT pg_reload_conf()")
        if place == "DATABASE":
            # It applies to new connections.
            rows(admin, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name ^@ 'directus_tx'")
        wait_for(lambda: primary.call("PATCH", "/items/authors/1", {"name": "one"}).status == 403)
        primary.check_read_only(token, READ_ONLY)
        rows(admin, "SET default_transaction_read_only = off")
        rows(admin, f"ALTER {target} RESET default_transaction_read_only")
        rows(admin, "SELECT pg_reload_conf()")
        wait_for(lambda: primary.call("PATCH", "/items/authors/1", {"name": "one"}).status == 200, 5)
    admin.close()
    assert "Traceback" not in primary.daemon.output
