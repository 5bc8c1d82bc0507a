"""The memory of a server whose clients ask for what is large, in each way that a query can be large."""

import pathlib
import re
import urllib.request
from collections.abc import Iterator

import pytest

from tests.conftest import KEY, field
from tests.daemon import TOKEN, Daemon

ROWS = 100_000
GROUPS = 100_000
PAGES, PAGE = 200, 1_000_000
CHILDREN = 60_000
GROWTH = 150
"""MB by which the memory may grow. Held at once, each of the answers would take several times as much."""

SHAPES = {
    "rows": "rows?limit=1000000",
    "rows with meta": "rows?limit=-1&meta=*&sort=-n",
    "an export": "rows?limit=-1&export=csv",
    "groups": "rows?limit=-1&aggregate[count]=*&groupby=n",
    "long texts": "pages?fields=*",
    "long texts by key": "pages/" + ",".join(str(key) for key in range(1, PAGES + 1)),
    "a long list of related items": "parents/1?fields=children.*",
    "long lists of related items": "parents?fields=*.*&meta=*",
    "related items of related items": "children?limit=120&fields=parent.children.id",
}


def fill(server: Daemon) -> None:
    """A project with the rows that the shapes need."""
    server.create_project("big")
    text = field("body", datatype="TEXT", length=None)
    many = {"type": "o2m", "interface": "one-to-many"}
    for name, fields in {
        "rows": [field("name"), text, field("n", "integer", "INT", 11)],
        "pages": [field("name"), text],
        "parents": [field("name"), {"field": "children", **many}],
        "children": [field("name"), field("parent", "m2o", "INT", 11)],
    }.items():
        server.call("POST", "/big/collections", {"collection": name, "fields": [KEY, *fields]})
    relation = {"collection_many": "children", "field_many": "parent", "collection_one": "parents", "field_one": "children"}
    server.call("POST", "/big/relations", relation)
    connection = server.connect("big")
    connection.autocommit = True
    with connection, connection.cursor() as cursor:
        sql = "INSERT INTO rows (name, body, n) SELECT 'name ' || n, repeat('text ', 100), n FROM generate_series(1, %s) AS n"
        cursor.execute(sql, (max(ROWS, GROUPS),))
        sql = "INSERT INTO pages (name, body) SELECT n, repeat('x', %s) FROM generate_series(1, %s) AS n"
        cursor.execute(sql, (PAGE, PAGES))
        cursor.execute("INSERT INTO parents (name) SELECT 'p' || n FROM generate_series(1, 40) AS n")
        # The first parent has a third of the children.
        sql = (
            "INSERT INTO children (name, parent) SELECT 'child ' || n, greatest(1, n %% 60 - 20) FROM generate_series(1, %s) AS n"
        )
        cursor.execute(sql, (CHILDREN,))
        cursor.execute("CREATE INDEX ON children (parent)")
        cursor.execute("ANALYZE")
    connection.close()


def memory(server: Daemon, what: str = "VmRSS") -> float:
    """The resident memory of the server in MB: now, or the most since `reset` (VmHWM)."""
    found = re.search(rf"{what}:\s+(\d+)", pathlib.Path(f"/proc/{server.pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def reset(server: Daemon) -> None:
    """Forgets the most memory that the server had so far."""
    pathlib.Path(f"/proc/{server.pid}/clear_refs").write_text("5")


def receive(server: Daemon, path: str, token: str | None = TOKEN) -> int:
    """The size of an answer, which is not kept."""
    headers = {} if token is None else {"Authorization": f"bearer {token}"}
    size = 0
    with urllib.request.urlopen(urllib.request.Request(server.base + path, headers=headers), timeout=120) as answer:
        while data := answer.read(2**20):
            size += len(data)
    return size


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    server = Daemon(tmp_path_factory.mktemp("memory")).start()
    try:
        fill(server)
        receive(server, "/big/items/rows?limit=10")
        yield server
    finally:
        server.stop()


@pytest.mark.parametrize("name", SHAPES)
def test_no_query_takes_memory_in_proportion_to_its_answer(server: Daemon, name: str) -> None:
    before = memory(server)
    reset(server)
    size = receive(server, "/big/items/" + SHAPES[name])
    assert size > 500_000
    assert memory(server, "VmHWM") - before < GROWTH, f"{size / 2**20:.0f} MB were sent"
