"""Lists that are read in batches are the same, byte for byte, as those that are read at once, and take no more memory than a batch."""

import gzip
import json
import socket
from typing import Any

import pytest
from attrs import evolve
from pytest_twisted import ensureDeferred
from twisted.internet.threads import deferToThread
from twisted.web.client import ResponseFailed

from directus_tx.api import hookimpl
from directus_tx.compile import plan
from directus_tx.config import Settings
from directus_tx.db.connection import Connection
from directus_tx.db.session import Session
from directus_tx.items import batches
from tests.conftest import TOKEN, Client, Reply, field
from tests.plugged import logged

O2M = {"type": "o2m", "interface": "one-to-many"}
TEXT = {"datatype": "TEXT", "length": None}
STATUS = {"published": {"name": "Published"}, "deleted": {"name": "Deleted", "soft_delete": True}}
AUTHORS = 23


@pytest.fixture
def settings(settings: Settings, request: pytest.FixtureRequest) -> Settings:
    mark = request.node.get_closest_marker("limits")
    return evolve(settings, limits=evolve(settings.limits, **(mark.kwargs if mark else {})))


async def library(client: Client) -> None:
    """Authors have articles, of which some have none and some many; articles have tags. Texts are short and long, and of several
    scripts."""
    number = {"type": "integer", "datatype": "INT", "length": 11}
    status = field("status", "status", length=20, default_value="published", options={"status_mapping": STATUS})
    await client.collection("authors", field("name"), field("about", **TEXT), status, {"field": "articles", **O2M})
    author = field("author", "m2o", "INT", 11)
    await client.collection("articles", field("title"), {"field": "n", **number}, author, {"field": "tags", **O2M})
    await client.collection("tags", field("name"), field("more", "json", "JSON", None))
    await client.collection("articles_tags", field("article", "m2o", "INT", 11), field("tag", "m2o", "INT", 11))
    names = ("collection_many", "field_many", "collection_one", "field_one", "junction_field")
    for relation in (
        ("articles", "author", "authors", "articles", None),
        ("articles_tags", "article", "articles", "tags", "tag"),
        ("articles_tags", "tag", "tags", None, "article"),
    ):
        assert (await client.post("~/relations", dict(zip(names, relation, strict=True)))).status == 200
    tags = [{"name": f"tag {n}", "more": {"n": [n, None, "é"]}} for n in range(5)]
    assert (await client.post("~/items/tags", tags)).status == 200
    authors = [
        {
            "name": None if n % 7 == 0 else f"Name {n % 10} 漢字",
            "about": "“é” " * (n % 5) * 100,
            "status": "deleted" if n % 11 == 5 else "published",
            "articles": [
                {"title": f"t{n}.{m}", "n": m % 3, "tags": [{"tag": {"id": 1 + (n + m + k) % 5}} for k in range(m % 4)]}
                for m in range((n * n) % 13)
            ],
        }
        for n in range(AUTHORS)
    ]
    answer = await client.post("~/items/authors?fields=id", authors)
    assert answer.status == 200, answer.body


LISTS = (
    "~/items/authors",
    "~/items/authors?limit=-1",
    "~/items/authors?limit=1000000&sort=-name",
    "~/items/authors?limit=21&offset=1&meta=*",
    "~/items/authors?limit=7&page=2&meta=page,result_count,filter_count,status_count&filter[name][contains]=name",
    "~/items/authors?limit=-1&meta=*&status=*",
    "~/items/authors?limit=-1&meta=result_count",
    "~/items/authors?limit=-1&fields=*.*.*.*&meta=*",
    "~/items/authors?fields=name,articles.title,articles.tags.tag.name",
    "~/items/authors?fields=*.*.*&deep[articles][limit]=3&deep[articles][sort]=-id",
    "~/items/authors?fields=articles.author",
    "~/items/articles?fields=author.articles.tags.tag.more,title&limit=40&sort=-n,title",
    "~/items/articles?fields=author.articles.author.articles.title&limit=20&sort=-id",
    "~/items/articles?fields=author.name&groups=author&meta=*",
    "~/items/articles?limit=-1&aggregate[count]=*&groupby=title",
    "~/items/articles?limit=-1&aggregate[max]=title&aggregate[sum]=n&groupby=author,n&meta=*&sort=-author",
    "~/items/authors/" + ",".join(str(n) for n in range(30, 0, -1)),
    "~/items/authors/" + ",".join(str(n) for n in range(1, 30)) + "?fields=*.*.*&meta=*&limit=20",
    "~/activity?limit=-1&meta=*",
    "~/revisions?fields=*.*&sort=-id",
    "~/items/articles?q=t1&meta=*&limit=-1",
)
"""Lists that are longer than a batch where batches are small."""

ITEMS = (
    "~/items/authors/22?fields=*.*.*.*&meta=*",
    "~/items/authors/9?fields=articles.tags.id",
    "~/items/authors?single=1&fields=*.*&filter[articles][has]=9&meta=*",
    "~/items/authors/5?status=*",
    "~/items/articles/1/revisions/0",
    "~/items/authors?limit=0&meta=*",
    "~/items/authors?filter[name]=nobody&meta=*",
    "~/items/authors?limit=7&offset=1000&meta=*",
)
"""Single items, and lists that are short however small batches are."""

EXPORTS = (
    "~/items/authors?limit=-1&export=csv",
    "~/items/authors?limit=-1&export=json&fields=*.*.*",
    "~/items/authors?limit=20&export=csv&fields=name,articles.title,articles.tags.tag.*",
)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes batches small: by their rows, by their bytes, or both."""

    def make(rows: int, size: int) -> None:
        monkeypatch.setattr(batches, "BATCH", rows)
        monkeypatch.setattr(batches, "WITH_LISTS", min(rows, 6))
        monkeypatch.setattr(batches, "BATCH_SIZE", size)
        monkeypatch.setattr(batches, "SHORT", size)

    return make


@ensureDeferred
async def test_a_list_has_the_same_bytes_however_it_is_read(client: Client, small: Any) -> None:
    await library(client)
    expected = {path: await client.get(path) for path in (*LISTS, *ITEMS, *EXPORTS)}
    for rows, size in ((5, 8 * 2**20), (1000, 3 * plan.ROW), (4, 6 * plan.ROW), (1, 1)):
        small(rows, size)
        for path, known in expected.items():
            answer = await client.get(path)
            assert (answer.status, answer.headers["content-type"]) == (known.status, known.headers["content-type"]), path
            assert answer.body == known.body, (path, rows, size)
            if path in LISTS and rows < 10:
                assert "etag" in known.headers, path
                assert "etag" not in answer.headers, path
            elif path in ITEMS:
                assert answer.headers.get("etag") == known.headers.get("etag"), path


@ensureDeferred
async def test_the_public_and_limited_roles_get_the_same_too(client: Client, small: Any) -> None:
    await library(client)
    rows: list[dict[str, Any]] = [
        {"collection": "authors", "read": "full", "read_field_blacklist": ["about", "id"]},
        {"collection": "articles", "read": "full", "read_field_blacklist": ["id", "title", "n", "author", "tags"]},
    ]
    for row in rows:
        assert (await client.post("~/permissions", {"role": 2, **row})).status == 200
    paths = [path for path in LISTS if path.startswith("~/items/authors?")] + ["~/items/articles?limit=-1&meta=*"]
    expected = {path: await client.get(path, token=None) for path in paths}
    assert {reply.status for reply in expected.values()} >= {200}
    small(3, 5 * plan.ROW)
    for path, known in expected.items():
        answer = await client.get(path, token=None)
        assert (answer.status, answer.body) == (known.status, known.body), path


@ensureDeferred
async def test_errors_and_heads_of_long_lists_are_those_of_short_ones(client: Client, small: Any) -> None:
    await library(client)
    paths = (
        "~/items/authors?limit=-1&fields=nope",
        "~/items/authors?limit=-1&export=csv&fields=nope",
        "~/items/authors?limit=-1&export=json&filter[nope]=1",
        "~/items/authors?limit=-1&export=nope",
        "~/items/nope?limit=-1",
        "~/items/authors?limit=-1&aggregate[nope]=name",
    )
    expected = {path: await client.get(path) for path in paths}
    heads = {path: await client.call("HEAD", path) for path in (*paths, *LISTS, *EXPORTS)}
    small(3, 5 * plan.ROW)
    for path, known in expected.items():
        answer = await client.get(path)
        assert (answer.status, answer.body) == (known.status, known.body)
        assert 400 <= answer.status < 500
    for path, known in heads.items():
        answer = await client.call("HEAD", path)
        assert (answer.status, answer.body) == (known.status, b""), path
        assert answer.headers["content-type"] == known.headers["content-type"]
        assert answer.headers.get("content-disposition") == known.headers.get("content-disposition")


@ensureDeferred
async def test_long_lists_are_compressed_as_short_ones_are(client: Client, small: Any) -> None:
    await library(client)
    paths = (*LISTS, *EXPORTS)
    expected = {path: await client.get(path) for path in paths}
    small(3, 5 * plan.ROW)
    for path in paths:
        head = await client.call("HEAD", path, headers={"Accept-Encoding": "gzip"})
        answer = await client.get(path, headers={"Accept-Encoding": "gzip"})
        for reply in (head, answer):
            assert (reply.status, reply.headers["content-encoding"]) == (200, "gzip"), path
            assert "Accept-Encoding" in reply.headers["vary"]
        assert gzip.decompress(answer.body) == expected[path].body


@pytest.mark.limits(max_rows=20)
@ensureDeferred
async def test_too_many_rows_are_refused_before_the_first_byte(client: Client, small: Any) -> None:
    await library(client)
    refused = (
        "~/items/authors?limit=-1",
        "~/items/authors?limit=-1&status=*&meta=*",
        "~/items/authors?limit=-1&export=csv",
        "~/items/authors?limit=1000&export=json",
        "~/items/articles?limit=-1&aggregate[count]=*&groupby=title",
        "~/items/authors/" + ",".join(str(n) for n in range(1, 30)),
    )
    allowed = ("~/items/authors?limit=20", "~/items/authors?limit=-1&filter[name]=Name 1 漢字&meta=*".replace(" ", "%20"))
    expected = {path: await client.get(path.replace("漢字", "%E6%BC%A2%E5%AD%97")) for path in (*refused, *allowed)}
    for rows in (1000, 4):
        small(rows, 8 * 2**20)
        for path in refused:
            answer = await client.get(path)
            assert (answer.status, answer.code) == (422, 4), path
            assert "limits.max_rows" in answer.json["error"]["message"]
            assert "content-disposition" not in answer.headers
        for path in allowed:
            answer = await client.get(path.replace("漢字", "%E6%BC%A2%E5%AD%97"))
            assert (answer.status, answer.body) == (200, expected[path].body)


@ensureDeferred
async def test_written_items_are_shown_with_all_of_their_lists(client: Client, small: Any) -> None:
    await library(client)
    bodies = [{"id": n, "status": "published"} for n in range(1, AUTHORS + 1) if (n - 1) % 11 != 5]
    path = "~/items/authors?fields=id,name,articles.tags.tag.name"
    expected = await client.patch(path, bodies)
    assert expected.status == 200
    small(4, 2 * plan.ROW)
    assert (await client.patch(path, bodies)).body == expected.body


@pytest.fixture
def results(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The rows and the characters of the result of each statement."""
    found: list[tuple[int, int]] = []
    run = Connection.run

    async def noted(self: Connection, *arguments: Any, **options: Any) -> list[Any]:
        rows = await run(self, *arguments, **options)
        found.append((len(rows), sum(len(value) for row in rows for value in row if isinstance(value, str))))
        return rows

    monkeypatch.setattr(Connection, "run", noted)
    return found


async def wide(client: Client, rows: int, size: int) -> None:
    await client.collection("pages", field("name"), field("body", **TEXT))
    for start in range(0, rows, 20):
        items = [{"name": f"n{n}", "body": f"{n} " + "x" * size} for n in range(start, min(start + 20, rows))]
        answer = await client.post("~/items/pages?fields=id&activity_skip=1", items)
        assert answer.status == 200, answer.body


@pytest.mark.parametrize(
    "path", ["?limit=200", "?limit=-1&export=csv", "?sort=-id&meta=*", "/" + ",".join(map(str, range(1, 201)))]
)
@ensureDeferred
async def test_a_batch_of_long_texts_has_few_rows(client: Client, results: list[tuple[int, int]], path: str) -> None:
    """Also the first time that they are read: their size is not known before."""
    size = 150_000
    await wide(client, 200, size)
    results.clear()
    answer = await client.get("~/items/pages" + path)
    assert answer.status == 200
    assert answer.body.count(b"x" * size) == 200
    assert max(characters for _, characters in results) < batches.SHORT + size
    assert "etag" not in answer.headers
    # A row that is larger than a batch is one.
    await client.patch("~/items/pages/7?fields=id&activity_skip=1", {"body": "y" * 3_000_000})
    answer = await client.get("~/items/pages" + path)
    assert answer.body.count(b"y" * 3_000_000) == 1


async def family(client: Client, children: dict[int, int]) -> None:
    """Parents with so many children each."""
    await client.collection("parents", field("name"), {"field": "children", **O2M})
    await client.collection("children", field("name"), field("parent", "m2o", "INT", 11))
    relation = {"collection_many": "children", "field_many": "parent", "collection_one": "parents", "field_one": "children"}
    assert (await client.post("~/relations", relation)).status == 200
    await client.post("~/items/parents", [{"id": key, "name": f"p{key}"} for key in children])

    async def work(session: Session) -> None:
        for key, number in children.items():
            sql = "INSERT INTO children (name, parent) SELECT 'c' || n, %s FROM generate_series(1, %s) AS n"
            await session.query(sql, (key, number))

    await Session(client.backend.projects.get(client.project).database).transaction(work)


@pytest.mark.parametrize(
    "children", [{1: 25_000}, dict.fromkeys(range(1, 41), 600), {n: 12_000 if n % 9 == 4 else n % 3 for n in range(1, 30)}]
)
@ensureDeferred
async def test_long_lists_of_related_items_are_read_in_pieces(
    client: Client, results: list[tuple[int, int]], children: dict[int, int]
) -> None:
    await family(client, children)
    results.clear()
    most = batches.SHORT // plan.ROW + 1
    for path in ("~/items/parents?fields=id,children.name", "~/items/parents?export=json&fields=id,children.name"):
        answer = await client.get(path)
        found = answer.json if "export" in path else answer.data
        assert [(each["id"], len(each["children"])) for each in found] == sorted(children.items())
        assert all(
            [child["name"] for child in each["children"]] == [f"c{n + 1}" for n in range(children[each["id"]])] for each in found
        )
    one = max(children, key=lambda key: children[key])
    answer = await client.get(f"~/items/parents/{one}?fields=children.*")
    assert len(answer.data["children"]) == children[one]
    assert answer.headers["etag"]
    written = await client.patch(f"~/items/parents/{one}?fields=children.*", {"name": "changed"})
    assert written.data == answer.data
    csv = await client.get("~/items/parents?export=csv&fields=id,children.name&sort=id")
    assert csv.body.count(b'""name""') == sum(children.values())
    assert max(rows for rows, _ in results) <= most


@ensureDeferred
async def test_a_change_between_two_batches_is_not_seen(client: Client, small: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    await library(client)
    path = "~/items/authors?limit=-1&meta=*&fields=id,articles.title"
    expected = json.loads((await client.get(path)).body)
    small(4, 6 * plan.ROW)
    complete = batches.complete
    done: list[Reply] = []

    async def change(*arguments: Any) -> Any:
        if arguments[0].in_transaction and not done:
            done.append(await client.delete("~/items/authors/1,2,20"))
            done.append(await client.patch("~/items/articles/3", {"title": "changed"}))
        return await complete(*arguments)

    monkeypatch.setattr(batches, "complete", change)
    assert json.loads((await client.get(path)).body) == expected
    assert [reply.status for reply in done] == [204, 200]


@ensureDeferred
async def test_rows_that_others_read_do_not_make_a_list_long(client: Client) -> None:
    """The same list has the same headers before and after wide rows, which its caller may not see, were read by the same statement."""
    await client.collection("notes", field("about", **TEXT), field("owner"))
    narrow = [{"owner": "a", "about": "x"} for _ in range(300)]
    wide = [{"owner": "b", "about": "y" * 20_000} for _ in range(40)]
    for items in (narrow, wide):
        assert (await client.post("~/items/notes?fields=id", items)).status == 200
    mine, others = ("~/items/notes?limit=-1&filter[owner][eq]=" + owner for owner in "ab")
    before = await client.get(mine)
    # Only short lists have an entity tag.
    assert "etag" in before.headers
    for _ in range(2):
        assert (await client.get(others)).status == 200
        after = await client.get(mine)
        assert (after.body, after.headers.get("etag")) == (before.body, before.headers["etag"])
    parents = "~/items/authors?fields=*,notes.*&filter[name][eq]="
    await client.collection("authors", field("name"), {"field": "notes", **O2M})
    relation = {"collection_many": "remarks", "field_many": "author", "collection_one": "authors", "field_one": "notes"}
    await client.collection("remarks", field("about", **TEXT), field("author", "m2o", "INT", 11))
    assert (await client.post("~/relations", relation)).status == 200
    for name, texts in (("a", ["x"] * 300), ("b", ["y" * 20_000] * 40)):
        author = {"name": name, "notes": [{"about": text} for text in texts]}
        assert (await client.post("~/items/authors?fields=id", author)).status == 200
    before = await client.get(parents + "a")
    assert "etag" in before.headers
    for _ in range(2):
        assert (await client.get(parents + "b")).status == 200
        after = await client.get(parents + "a")
        assert (after.body, after.headers.get("etag")) == (before.body, before.headers["etag"])


def to_and_fro(times: int) -> str:
    return "articles.author." * times + "articles.id"


async def authors_and_articles(client: Client) -> None:
    await client.collection("authors", field("name"), {"field": "articles", **O2M})
    await client.collection("articles", field("author", "m2o", "INT", 11))
    relation = {"collection_many": "articles", "field_many": "author", "collection_one": "authors", "field_one": "articles"}
    assert (await client.post("~/relations", relation)).status == 200


@ensureDeferred
@pytest.mark.limits(max_repeated_size=20_000)
async def test_lists_that_are_repeated_count_each_time(client: Client, small: Any) -> None:
    """A path that goes to and fro makes an answer that is exponentially larger than what is read for it."""
    await authors_and_articles(client)
    await client.post(
        "~/items/authors", [{"name": "Ada", "articles": [{} for _ in range(30)]}, {"name": "Bob", "articles": [{}]}]
    )
    small(1000, 300 * plan.ROW)
    one = (await client.get(f"~/items/authors/1?fields={to_and_fro(1)}")).data
    ids = [{"id": key} for key in range(1, 31)]
    assert one == {"articles": [{"author": {"articles": ids}}] * 30}
    for times in (2, 3, 4):
        for path in (f"~/items/authors/1?fields={to_and_fro(times)}", f"~/items/authors/1,2?fields={to_and_fro(times)}"):
            answer = await client.get(path)
            assert (answer.status, answer.code) == (422, 4), (times, answer.body[:100])
            assert "limits.max_repeated_size" in answer.json["error"]["message"]
        for query in (to_and_fro(times), f"{to_and_fro(times)}&limit=-1", f"{to_and_fro(times)}&filter[name]=Ada"):
            assert (await client.get(f"~/items/authors?fields={query}")).status == 422, query
        # What does not repeat much is shown at any depth.
        answer = await client.get(f"~/items/authors/2?fields={to_and_fro(times)}")
        assert answer.status == 200
        expected: Any = {"articles": [{"id": 31}]}
        for _ in range(times):
            expected = {"articles": [{"author": expected}]}
        assert answer.data == expected
    # Lists that are long without repeating anything are no matter of this limit.
    await client.post("~/items/articles", [{"author": 2} for _ in range(2000)])
    assert len((await client.get("~/items/authors/2?fields=articles.id")).data["articles"]) == 2001


@ensureDeferred
@pytest.mark.limits(max_repeated_size=20_000)
@pytest.mark.parametrize("headers", [{}, {"Accept-Encoding": "gzip"}])
async def test_an_item_that_is_refused_after_others_were_sent_breaks_off_the_answer(
    client: Client, small: Any, headers: dict[str, str]
) -> None:
    """It is a mistake of the client: the log has one line about it, without a traceback."""
    await authors_and_articles(client)
    await client.post(
        "~/items/authors", [{"name": "Ada", "articles": [{} for _ in range(30)]}, *({"name": f"{n}"} for n in range(100))]
    )
    small(1000, 300 * plan.ROW)
    heard = []

    class Hearing:
        directus_tx_api = 1

        @hookimpl
        def application_error(self, request_id: str) -> None:
            heard.append(request_id)

    client.backend.plugins.register(Hearing(), "hearing")
    address = f"~/items/authors?fields=name,{to_and_fro(2)}&limit=-1&sort=-id"
    with logged() as lines:
        with pytest.raises(ResponseFailed):
            await client.get(address, headers=headers)
        # Programs that know no chunks find the connection reset, not ended.
        received, reset = await deferToThread(read_whole, client, address)
    assert received.startswith(b"HTTP/1.0 200 OK")
    assert b'{"name":"99"' in received
    assert b"Ada" not in received
    assert reset
    about = [line for line in lines if "max_repeated_size" in line]
    assert len(about) == 2
    assert all("cannot be sent the rest of the answer to request " in line for line in about)
    assert [line.rpartition(" ms")[0].split()[2] for line in lines if "/items/authors 4" in line] == ["422"] * 2
    assert not [line for line in lines if "Traceback" in line or "failed" in line]
    assert heard == []


def read_whole(client: Client, address: str) -> tuple[bytes, bool]:
    """Returns what the server answers to a request by HTTP/1.0, and whether the connection has been reset."""
    path = address.replace("~", f"/{client.project}", 1)
    with socket.create_connection(("127.0.0.1", int(client.base.rpartition(":")[2])), timeout=30) as connection:
        connection.sendall(f"GET {path} HTTP/1.0\r\nAuthorization: bearer {TOKEN}\r\n\r\n".encode())
        received = b""
        try:
            while piece := connection.recv(65536):
                received += piece
        except ConnectionResetError:
            return received, True
        return received, False
