"""The JavaScript tools of GraphQL read the schema of a server, make types of it, query and mutate."""

import json
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.conftest import KEY, field
from tests.daemon import TOKEN, Daemon
from tests.live.javascript import NODE, PATIENCE

PROGRAM = pathlib.Path(__file__).parent / "graphql_clients" / "clients.js"
MODULES = pathlib.Path(sys.prefix) / "graphql_clients" / "node_modules"
"""Where `make test` installs what package-lock.json names."""

TSC = pathlib.Path(sys.prefix) / "node" / "node_modules" / ".bin" / "tsc"
pytestmark = pytest.mark.skipif(
    not (NODE and (MODULES / "@urql" / "core").exists()),
    reason="the JavaScript clients are not installed; `make test` installs them if there are node and npm",
)

USE = """
import type { BooksQuery, BooksQueryVariables, BooksInput, CreateMutationVariables } from "./types";
const variables: BooksQueryVariables = { first: 3, filter: { or: [{ year_gt: 1 }, { author: { name_eq: "Ada" } }] } };
const input: CreateMutationVariables = { data: { title: "x", author: { name: "y" } } };
export const titles = (found: BooksQuery): string[] =>
  (found.books?.data ?? []).map((book) => `${book?.title} ${book?.author?.name} ${variables.first} ${input.data.title}`);
// @ts-expect-error a year is a number
export const wrong: BooksInput = { year: "1843" };
"""


@pytest.fixture
def daemon(tmp_path: pathlib.Path) -> Iterator[Daemon]:
    (tmp_path / "server").mkdir()
    found = Daemon(tmp_path / "server")
    found.environment["DIRECTUS_GRAPHQL_MUTATIONS"] = "on"
    found.start()
    found.create_project("shop")
    many = {"type": "o2m", "interface": "one-to-many"}
    for name, fields in (
        ("authors", [field("name"), {"field": "books", **many}]),
        ("books", [field("title", required=True), field("year", "integer", "INT", 11), field("author", "m2o", "INT", 11)]),
    ):
        found.call("POST", "/shop/collections", {"collection": name, "fields": [KEY, *fields]})
    relation = {"collection_many": "books", "field_many": "author", "collection_one": "authors", "field_one": "books"}
    found.call("POST", "/shop/relations", relation)
    books = [{"title": "Engines", "year": 1843}, {"title": "Notes", "year": 1842}]
    found.call("POST", "/shop/items/authors", {"name": "Ada", "books": books})
    yield found
    assert found.stop() == 0


def test_javascript_tools_read_the_schema_and_make_types_and_urql_queries_and_mutates(
    daemon: Daemon, tmp_path: pathlib.Path
) -> None:
    done = subprocess.run(
        [str(NODE), str(PROGRAM), f"{daemon.base}/shop/gql", TOKEN, str(tmp_path)],
        env={"NODE_PATH": str(MODULES), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["errors"] == []
    assert found["created"] == {"create_books_item": {"id": "3", "title": "Letters", "author": {"id": "2", "name": "Eve"}}}
    assert found["found"] == {
        "books": {
            "data": [
                {"id": "2", "title": "Notes", "year": 1842, "author": {"name": "Ada"}},
                {"id": "3", "title": "Letters", "year": None, "author": {"name": "Eve"}},
            ],
            "meta": {"total_count": 3},
        }
    }
    assert found["refused"] == [[["books"], 203]]
    if not TSC.exists() and shutil.which("tsc") is None:
        pytest.skip("tsc is not installed")
    (tmp_path / "use.ts").write_text(USE)
    compiler = str(TSC) if TSC.exists() else "tsc"
    checked = subprocess.run(
        [compiler, "--noEmit", "--strict", "--skipLibCheck", str(tmp_path / "use.ts")],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        cwd=tmp_path,
    )
    assert checked.returncode == 0, checked.stdout
