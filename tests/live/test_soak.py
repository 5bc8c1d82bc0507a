"""A short soak: two processes under a mixed load, and each kind of fault once. `python -m tests.soak` is the long one."""

import contextlib
import pathlib
import resource
import shutil
import tempfile
from collections.abc import Iterator

import pytest

from tests.daemon import wait_for
from tests.soak.databases import BINARIES
from tests.soak.load import NESTED, Load
from tests.soak.oracle import judge
from tests.soak.runner import RECOVERY, Soak, prepare
from tests.soak.servers import PROJECTS

SEED = 4


@pytest.fixture
def directory() -> Iterator[pathlib.Path]:
    """A directory that another user may pass through, which the database of a test that root runs belongs to."""
    found = pathlib.Path(tempfile.mkdtemp(prefix="directus-soak-"))
    yield found
    shutil.rmtree(found, ignore_errors=True)


@pytest.fixture
def many_sockets() -> Iterator[None]:
    """Lets this process and the servers open some thousand sockets."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 8192)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.skipif(not BINARIES, reason="no PostgreSQL on this machine (Debian: apt-get install postgresql)")
@pytest.mark.usefixtures("many_sockets")
def test_no_fault_costs_a_write_or_an_answer_or_leaves_anything_behind(directory: pathlib.Path) -> None:
    servers = prepare(directory, processes=2, embedded=False)
    try:
        report = Soak(servers, SEED, interval=0.1, once=True, clients=8).run(warm_up=3)
    finally:
        servers.stop()
    # On a busy machine recoveries take longer; without one, the whole time is waited for.
    assert report.problems(recovery=RECOVERY - 1) == []
    assert len(report.happened) >= 15
    assert report.verdict is not None
    assert report.verdict.acknowledged == report.verdict.found > 100


DAMAGES = {
    "is not there": "WITH lost AS (DELETE FROM directus_revisions WHERE delta::json ->> 'op' = %(create)s RETURNING activity)"
    " DELETE FROM directus_activity WHERE id IN (SELECT activity FROM lost)",
    "is there in part": "DELETE FROM directus_revisions WHERE id ="
    " (SELECT max(id) FROM directus_revisions WHERE delta::json ->> 'op' = %(nested)s)",
    "without their revision": "DELETE FROM directus_revisions WHERE id = (SELECT max(id) FROM directus_revisions"
    " WHERE collection = 'authors')",
    "revisions of a write that nobody asked for": 'UPDATE directus_revisions SET delta = \'{"op": "unknown"}\''
    " WHERE delta::json ->> 'op' = %(create)s",
    "items and their creations differ": "DELETE FROM authors WHERE op = %(create)s",
    "not as their last revision has them": "UPDATE authors SET op = 'other' WHERE op = %(create)s",
    "not with the author": "UPDATE articles SET author = NULL WHERE op = %(nested)s",
}
"""What the oracle says, by what has been done to the database behind its back."""


def test_the_oracle_notices_what_is_lost_or_half_there(directory: pathlib.Path) -> None:
    servers = prepare(directory, processes=1, embedded=True)
    try:
        load = Load(servers, SEED, clients=4)
        load.go()
        wait_for(lambda: len(load.tally.writes) > 100)
        load.stop()
        writes = load.tally.writes
        assert load.tally.wrong == []
        assert judge(servers, writes).errors == []
        project = PROJECTS[0]
        mine = [write for write in writes if write.project == project and write.acknowledged]
        with contextlib.closing(servers.connect(project)) as connection:
            cursor = connection.cursor()
            cursor.execute("SELECT op FROM authors JOIN (SELECT author FROM articles GROUP BY 1) a ON a.author = authors.id")
            of_articles = {op for (op,) in cursor.fetchall()}
            cursor.execute("SELECT op FROM authors")
            alone = {op for (op,) in cursor.fetchall()} - of_articles
            names = {
                "create": next(write.name for write in mine if write.revisions == {"authors": 1} and write.name in alone),
                "nested": next(write.name for write in mine if write.revisions == NESTED and write.name in of_articles),
            }
            tables = ("authors", "articles", "directus_activity", "directus_revisions")
            for table in tables:
                cursor.execute(f"CREATE TABLE kept_{table} AS TABLE {table}")
            for said, damage in DAMAGES.items():
                cursor.execute(damage, names)
                assert cursor.rowcount, said
                assert any(said in error for error in judge(servers, writes).errors), said
                for table in tables:
                    cursor.execute(f"DELETE FROM {table}; INSERT INTO {table} SELECT * FROM kept_{table}")
                assert judge(servers, writes).errors == [], said
    finally:
        servers.stop()
