"""Search indexes, against a PostgreSQL that has pg_trgm: the machine's own, which the embedded one is not."""

import os
import pathlib
import pwd
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest
from pytest_twisted import ensureDeferred

from directus_tx.access import Access
from directus_tx.compile.read import plan_for
from directus_tx.config import LimitSettings
from directus_tx.context import Accountability
from directus_tx.db.session import Session
from directus_tx.query import BindValues, Query
from tests.conftest import KEY, Client, field

BINARIES = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/initdb"))
pytestmark = pytest.mark.skipif(not BINARIES, reason="no PostgreSQL on this machine (Debian: apt-get install postgresql)")
ROWS = 20_000


@pytest.fixture(scope="session")
def postgres() -> Iterator[dict[str, Any]]:
    """A server of the machine's PostgreSQL, as a user that it accepts: it refuses root."""
    user = None if os.getuid() else pwd.getpwnam("nobody")
    as_user: dict[str, Any] = {} if user is None else {"user": user.pw_uid, "group": user.pw_gid}
    directory = tempfile.mkdtemp(prefix="directus-pg-")
    try:
        os.chmod(directory, 0o755)
        if user is not None:
            os.chown(directory, user.pw_uid, user.pw_gid)
        run = lambda *command: subprocess.run(command, check=True, capture_output=True, cwd=directory, **as_user)  # noqa: E731
        run(BINARIES[-1], "-D", f"{directory}/data", "-U", "postgres", "-A", "trust", "--no-sync")
        control = BINARIES[-1].with_name("pg_ctl")
        options = f"-c listen_addresses='' -c unix_socket_directories={directory} -c fsync=off"
        run(control, "-D", f"{directory}/data", "-w", "-l", f"{directory}/log", "-o", options, "start")
        try:
            yield {"user": "postgres", "dbname": "postgres", "host": directory}
        finally:
            run(control, "-D", f"{directory}/data", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(directory, ignore_errors=True)


async def plan_of_search(client: Client, text: str) -> str:
    """How PostgreSQL finds the items that a search is for."""
    project = client.backend.projects.get(client.project)
    query = Query(q=text)
    access = Access(await project.snapshot(), Accountability(1, 1))
    count = plan_for(access, "notes", query, LimitSettings()).filter_count
    explain = "EXPLAIN " + count.statement.select
    rows = await Session(project.database).query(explain, count.parameters(BindValues(query)))
    return "\n".join(row[0] for row in rows)


async def indexed(client: Client) -> list[str]:
    """The fields that have a search index."""
    session = Session(client.backend.projects.get(client.project).database)
    rows = await session.query("SELECT indexdef FROM pg_indexes WHERE tablename = 'notes' AND indexdef LIKE '%%gin_trgm_ops%%'")
    return sorted(re.search(r"lower\(\(*\"?(\w+)", row[0])[1] for row in rows)  # type: ignore[index]


@ensureDeferred
async def test_a_search_index_answers_searches(client: Client) -> None:
    await client.collection(
        "notes", field("title"), field("text", datatype="TEXT", length=None), field("on", "date", "DATE", None)
    )
    session = Session(client.backend.projects.get(client.project).database)
    fill = (
        "INSERT INTO notes (title, text) SELECT 'Note ' || n, md5(n::text) || repeat(' more', 20) FROM generate_series(1, %s) n"
    )
    await session.transaction(lambda session: session.query(fill, (ROWS,)))
    before = await client.get("~/items/notes?q=NOTE%204711&fields=id")
    assert "Seq Scan" in await plan_of_search(client, "note 4711")

    answer = await client.patch("~/collections/notes", {"search_index": True})
    assert (answer.status, answer.data["search_index"]) == (200, True)
    await session.transaction(lambda session: session.query("ANALYZE notes"))
    plan = await plan_of_search(client, "note 4711")
    assert "Bitmap Index Scan" in plan
    assert "Seq Scan" not in plan
    after = await client.get("~/items/notes?q=NOTE%204711&fields=id")
    assert after.data == before.data == [{"id": 4711}]


@ensureDeferred
async def test_a_search_index_follows_the_fields(client: Client) -> None:
    await client.post(
        "~/collections", {"collection": "notes", "search_index": True, "fields": [KEY, field("title"), field("kind", "status")]}
    )
    assert await indexed(client) == ["id", "title"]
    await client.post("~/fields/notes", field("text", datatype="TEXT", length=None))
    assert await indexed(client) == ["id", "text", "title"]
    await client.post("~/items/notes", {"title": "7", "text": "seven"})
    answer = await client.patch("~/fields/notes/title", {"type": "integer", "datatype": "INT", "length": 11})
    assert answer.status == 200, answer.body
    assert await indexed(client) == ["id", "text", "title"]
    assert (await client.get("~/items/notes?q=7&fields=text")).data == [{"text": "seven"}]
    await client.patch("~/fields/notes/text", {"unique": True})
    assert await indexed(client) == ["id", "text", "title"]
    await client.patch("~/fields/notes/text", {"type": "hash"})
    assert await indexed(client) == ["id", "title"]
    await client.delete("~/fields/notes/title")
    assert await indexed(client) == ["id"]
    assert (await client.patch("~/collections/notes", {"search_index": False})).data["search_index"] is False
    assert await indexed(client) == []
