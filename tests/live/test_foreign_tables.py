"""Foreign tables of postgres_fdw and file_fdw: read, filtered, sorted, related and written like others, or refused clearly; and what
happens when what they refer to is gone. Also event triggers where transactions may be prepared."""

import pathlib
import urllib.parse
from collections.abc import Iterator
from typing import Any

import pytest
from attrs import frozen

from tests.conftest import KEY, field
from tests.daemon import SUPER_ADMIN_TOKEN, Daemon, wait_for
from tests.live.clusters import BINARIES, Cluster, new_directory, remove
from tests.live.test_connections import Answer
from tests.live.test_faults import rows

pytestmark = pytest.mark.skipif(not BINARIES, reason="no PostgreSQL on this machine (Debian: apt-get install postgresql)")
PEOPLE = """
CREATE TABLE people (
    id integer PRIMARY KEY, name varchar(50) NOT NULL UNIQUE, born date, height numeric(5, 2), active boolean NOT NULL DEFAULT true,
    tags text[], about jsonb, mood mood, CHECK (height > 0)
)
"""
FOREIGN = """
CREATE EXTENSION postgres_fdw;
CREATE EXTENSION file_fdw;
CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '{host}', dbname 'far');
CREATE USER MAPPING FOR CURRENT_USER SERVER far OPTIONS (user 'postgres');
CREATE TYPE mood AS ENUM ('good', 'bad');
IMPORT FOREIGN SCHEMA public LIMIT TO (people, plain, guarded) FROM SERVER far INTO public OPTIONS (import_default 'true');
COMMENT ON FOREIGN TABLE people IS '@primaryKey id';
COMMENT ON FOREIGN TABLE guarded IS '@primaryKey id';
ALTER FOREIGN TABLE guarded OPTIONS (ADD updatable 'false');
CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
CREATE FOREIGN TABLE cities (code text NOT NULL, name text, people integer) SERVER files OPTIONS (filename '{file}', format 'csv');
COMMENT ON FOREIGN TABLE cities IS '@primaryKey code';
"""
CITIES = "be,Bern,134000\nzh,Zürich,\nba,basel,178000\n"


@frozen
class Place:
    """A server with a project, a connection to the project's database, one to the database that its foreign tables refer to, and the
    directory of its files."""

    daemon: Daemon
    project: Any
    far: Any
    files: pathlib.Path
    cluster: Cluster

    def call(self, method: str, path: str, body: Any = None) -> Answer:
        return Answer(self.daemon, method, path, body)

    def ids(self, path: str, key: str = "id") -> list[Any]:
        answer = self.call("GET", path)
        assert answer.status == 200, (path, answer.body)
        return [row[key] for row in answer.data]


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    directory = new_directory()
    (directory / "pg").mkdir()
    cluster = Cluster(directory / "pg").make()
    cluster.settings["max_prepared_transactions"] = 2
    cluster.start()
    try:
        (directory / "one").mkdir()
        daemon = Daemon(directory / "one", url=cluster.url).start()
        daemon.create_project("p")
        admin = cluster.connect()
        rows(admin, "CREATE DATABASE far")
        far = cluster.connect("far")
        for statement in (
            "CREATE TYPE mood AS ENUM ('good', 'bad')",
            PEOPLE,
            "CREATE TABLE plain (a integer, b text)",
            "CREATE TABLE guarded (id integer PRIMARY KEY, name text)",
            "INSERT INTO guarded VALUES (1, 'one')",
        ):
            rows(far, statement)
        file = directory / "cities.csv"
        file.write_text(CITIES, encoding="utf-8")
        file.chmod(0o644)
        project = daemon.connect("p")
        project.autocommit = True
        rows(project, FOREIGN.format(host=cluster.directory, file=file))
        yield Place(daemon, project, far, directory, cluster)
        far.close()
        project.close()
        admin.close()
        assert daemon.stop() == 0
        assert "Traceback" not in daemon.output
    finally:
        cluster.stop()
        remove(directory)


@pytest.fixture
def people(place: Place) -> Iterator[Place]:
    """The place with three people in the table."""
    rows(
        place.far,
        "INSERT INTO people VALUES (1, 'Ada', '1815-12-10', 1.65, true, '{x,y}', '{\"a\": 1}', 'good'),"
        " (2, 'bob', NULL, NULL, false, NULL, NULL, NULL), (3, 'Cy', '1999-01-01', 2, true, '{}', '[]', 'bad')",
    )
    yield place
    rows(place.far, "DELETE FROM people")


ADA = {
    "id": 1,
    "name": "Ada",
    "born": "1815-12-10",
    "height": 1.65,
    "active": True,
    "tags": ["x", "y"],
    "about": {"a": 1},
    "mood": "good",
}


def test_a_foreign_table_is_read_filtered_sorted_and_counted(people: Place) -> None:
    assert people.call("GET", "/items/people/1").data == ADA
    assert people.call("GET", "/items/people").data[0] == ADA
    for query, expected in (
        ("filter[name][eq]=ADA", [1]),
        ("filter[name][contains]=O", [2]),
        ("filter[born][gt]=1900-01-01", [3]),
        ("filter[height][between]=1,1.7", [1]),
        ("filter[active][eq]=false", [2]),
        ("filter[mood][eq]=good", [1]),
        ("filter[tags][eq]=" + urllib.parse.quote('["x","y"]'), [1]),
        ("filter[about][eq]=" + urllib.parse.quote('{"a": 1}'), [1]),
        ("filter[born][null]", [2]),
        ("filter[id][in]=3,1", [1, 3]),
        ("q=cy", [3]),
        ("sort=-name", [3, 2, 1]),
        ("sort=name", [1, 2, 3]),
        ("sort=height", [1, 3, 2]),
        ("sort=-mood&limit=2", [3, 1]),
        ("limit=1&page=2", [2]),
        ("limit=-1", [1, 2, 3]),
    ):
        assert people.ids(f"/items/people?{query}") == expected, query
    counted = people.call("GET", "/items/people?meta=*&filter[active][eq]=true").body["meta"]
    assert (counted["total_count"], counted["filter_count"]) == (3, 2)
    assert people.call("GET", "/items/people?aggregate[max]=height").data == [{"max": {"height": 2.0}}]
    assert people.call("GET", "/items/plain").data == []
    assert people.call("GET", "/items/people/9").status == 404


def test_a_foreign_table_is_written_with_its_history(people: Place) -> None:
    new = {**ADA, "id": 4, "name": "Dan"}
    assert people.call("POST", "/items/people", new).data == new
    assert people.call("PATCH", "/items/people/4", {"name": "Don", "tags": ["z"], "height": 1.5}).data["tags"] == ["z"]
    assert people.call("PATCH", "/items/people", [{"id": 1, "born": None}, {"id": 2, "mood": "bad"}]).status == 200
    assert people.call("PATCH", "/items/people/1,2", {"active": True}).status == 200
    assert people.call("DELETE", "/items/people/3").status == 204
    stored = "SELECT id, name, born::text, height::text, active, mood::text FROM people ORDER BY id"
    assert rows(people.far, stored) == [
        (1, "Ada", None, "1.65", True, "good"),
        (2, "bob", None, None, True, "bad"),
        (4, "Don", "1815-12-10", "1.50", True, "good"),
    ]
    first = people.call("GET", "/items/people/4/revisions?sort=id").data[0]
    assert people.call("PATCH", f"/items/people/4/revert/{first['id']}", {}).data == new
    # Nothing is left of a request that fails, in either database.
    before = people.call("GET", "/activity?limit=0&meta=total_count").body["meta"]
    many = [{"id": 5, "name": "Eve"}, {"id": 6, "name": "Ada"}]
    assert people.call("POST", "/items/people", many).status == 409
    assert rows(people.far, "SELECT count(*) FROM people") == [(3,)]
    assert people.call("GET", "/activity?limit=0&meta=total_count").body["meta"] == before


def test_what_the_far_database_refuses_is_refused(people: Place) -> None:
    for method, path, body, status, code in (
        ("POST", "/items/people", {"id": 1, "name": "x"}, 409, 204),
        ("POST", "/items/people", {"id": 9, "name": "Ada"}, 409, 204),
        ("POST", "/items/people", {"id": 9, "name": "x", "height": -1}, 422, 4),
        ("POST", "/items/people", {"id": 9, "name": None}, 422, 4),
        ("PATCH", "/items/people/1", {"height": 1234567}, 422, 12),
        ("PATCH", "/items/people/1", {"mood": "odd"}, 422, 4),
        ("PATCH", "/items/people/9", {"name": "x"}, 404, 203),
        ("GET", "/items/people?filter[mood][eq]=odd", None, 422, 4),
    ):
        answer = people.call(method, path, body)
        assert (answer.status, answer.body["error"]["code"]) == (status, code), (path, body, answer.body)
    assert people.call("GET", "/items/people/1").data == ADA


def test_what_cannot_be_written_says_so(people: Place) -> None:
    for path, body, name, reason in (
        ("/items/plain", {"a": 1}, "plain", "it has no key of one column"),
        ("/items/guarded", {"id": 2}, "guarded", "the database does not allow it for this foreign table"),
        ("/items/cities", {"code": "x"}, "cities", "the database does not allow it for this foreign table"),
    ):
        for method, where in (("POST", path), ("PATCH", f"{path}/1"), ("DELETE", f"{path}/1")):
            answer = people.call(method, where, None if method == "DELETE" else body)
            assert answer.status == 403, (where, answer.body)
            message = answer.body["error"]["message"]
            assert f'"{name}"' in message
            assert reason in message
    assert people.call("GET", "/items/guarded/1").data == {"id": 1, "name": "one"}
    for method, path, body in (
        ("POST", "/fields/people", field("more")),
        ("DELETE", "/fields/people/born", None),
        ("DELETE", "/collections/cities", None),
    ):
        assert 400 <= people.call(method, path, body).status < 500, path
    assert people.call("GET", "/items/people/1").data == ADA


def test_a_file_is_read_filtered_and_sorted(place: Place) -> None:
    assert place.ids("/items/cities?sort=name", "code") == ["ba", "be", "zh"]
    assert place.ids("/items/cities?sort=-people", "code") == ["ba", "be", "zh"]
    assert place.ids("/items/cities?filter[name][contains]=Z%C3%9CR", "code") == ["zh"]
    assert place.ids("/items/cities?filter[people][gte]=134000&limit=-1", "code") == ["ba", "be"]
    assert place.call("GET", "/items/cities/zh").data == {"code": "zh", "name": "Zürich", "people": None}
    assert Answer(place.daemon, "GET", "/items/cities?export=json").status == 200


def test_a_foreign_table_is_related_to_others(people: Place) -> None:
    made = people.call("POST", "/collections", {"collection": "posts", "fields": [KEY, field("author", "m2o", "INT", 11)]})
    assert made.status == 200, made.body
    relation = {"collection_many": "posts", "field_many": "author", "collection_one": "people"}
    assert people.call("POST", "/relations", relation).status == 200
    assert people.call("POST", "/items/posts", [{"author": 1}, {"author": 3}, {"author": {"id": 7, "name": "Gus"}}]).status == 200
    assert people.ids("/items/posts?filter[author.name][eq]=cy") == [2]
    shown = people.call("GET", "/items/posts?fields=id,author.name&sort=-id").data
    assert shown == [
        {"id": 3, "author": {"name": "Gus"}},
        {"id": 2, "author": {"name": "Cy"}},
        {"id": 1, "author": {"name": "Ada"}},
    ]
    assert people.call("DELETE", "/collections/posts").status == 204


def test_a_far_database_that_is_gone_is_unavailable_and_harms_nothing_else(people: Place) -> None:
    connections = "SELECT pid FROM pg_stat_activity WHERE application_name ^@ 'directus_tx' AND datname = current_database()"
    known = set()
    rows(people.project, "ALTER SERVER far OPTIONS (SET dbname 'nowhere')")
    try:
        for method, path, body in (
            ("GET", "/items/people", None),
            ("GET", "/items/people/1", None),
            ("GET", "/items/people?limit=-1", None),
            ("POST", "/items/people", {"id": 8, "name": "x"}),
            ("PATCH", "/items/people/1", {"name": "x"}),
            ("DELETE", "/items/people/1", None),
        ):
            answer = people.call(method, path, body)
            assert (answer.status, answer.body["error"]["message"]) == (503, "The database cannot use a foreign table."), path
            known = known or set(rows(people.project, connections))
        assert people.call("GET", "/items/cities").status == 200
        # The connections to the project's database are not lost, so they are not closed.
        assert known & set(rows(people.project, connections))
    finally:
        rows(people.project, "ALTER SERVER far OPTIONS (SET dbname 'far')")
    wait_for(lambda: people.call("GET", "/items/people/1").status == 200, 20)
    # Sessions of the far database that end are opened again by PostgreSQL.
    rows(
        people.far,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'far' AND application_name = 'postgres_fdw'",
    )
    assert people.call("GET", "/items/people/1").data == ADA


def test_a_far_table_that_has_changed_is_no_failure_of_the_server(people: Place) -> None:
    rows(people.far, "ALTER TABLE people RENAME COLUMN born TO birth")
    try:
        answer = people.call("GET", "/items/people/1")
        assert (answer.status, answer.body["error"]["message"]) == (503, "The database cannot use a foreign table.")
        rows(people.project, "ALTER FOREIGN TABLE people ALTER COLUMN born OPTIONS (SET column_name 'birth')")
        assert people.call("GET", "/items/people/1").data == ADA
        rows(people.project, "ALTER FOREIGN TABLE people ALTER COLUMN born OPTIONS (SET column_name 'born')")
    finally:
        rows(people.far, "ALTER TABLE people RENAME COLUMN birth TO born")
    assert people.call("GET", "/items/people/1").data == ADA
    file = people.files / "cities.csv"
    file.rename(people.files / "away.csv")
    answer = people.call("GET", "/items/cities")
    assert (answer.status, answer.body["error"]["code"]) == (503, 16)
    (people.files / "away.csv").rename(file)
    assert people.call("GET", "/items/cities").status == 200


def test_transactions_that_change_tables_can_be_prepared(place: Place) -> None:
    """A transaction that has notified cannot be prepared, so the event triggers do not notify here, and the server compares."""
    rows(place.project, "BEGIN; CREATE TABLE prepared (id int PRIMARY KEY); PREPARE TRANSACTION 'x'")
    rows(place.project, "COMMIT PREPARED 'x'")
    assert place.call("GET", "/items/prepared").data == []
    info = place.daemon.call("GET", f"/server/info?super_admin_token={SUPER_ADMIN_TOKEN}", token=None)["data"]["databases"]["p"]
    assert info == {"read_only": None, "changes_noticed_by": "comparison every 10 s"}
    rows(place.project, "DROP TABLE prepared")
