"""Requests leave no cycles behind, which only the garbage collector frees: its pauses are what the slowest requests wait for."""

import gc
import json
import socket
from collections import Counter
from collections.abc import Iterator

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.threads import deferToThread

from tests.conftest import TOKEN, Client, field

REQUESTS = 1000
FEW = REQUESTS // 10
"""The objects that may be left by all these requests: what caches, timers and other tests leave, such as a pool that has been closed. An
object that each request leaves would be more."""

KINDS: dict[str, tuple[str, str, object, dict[str, str], int]] = {
    # method, path, body, headers, status
    "item": ("GET", "~/items/books/1", None, {}, 200),
    "compressed list": ("GET", "~/items/books?limit=50&meta=*", None, {"Accept-Encoding": "gzip"}, 200),
    "nested": ("GET", "~/items/books?fields=*,author.*,author.books.*&limit=5", None, {}, 200),
    "filtered": ("GET", "~/items/books?filter[author.name][eq]=Ada&sort=-title", None, {}, 200),
    "export": ("GET", "~/items/books?export=csv", None, {}, 200),
    "head": ("HEAD", "~/items/books/1", None, {}, 200),
    "not modified": ("GET", "~/items/books/1", None, {"If-None-Match": "*"}, 304),
    "preflight": ("OPTIONS", "~/items/books", None, {"Origin": "https://example.com"}, 200),
    "ping": ("GET", "/server/ping", None, {}, 200),
    "unknown item": ("GET", "~/items/books/99999", None, {}, 404),
    "unknown collection": ("GET", "~/items/nothing", None, {}, 404),
    "unknown route": ("GET", "~/no/such/route", None, {}, 404),
    "wrong method": ("PUT", "~/items/books", None, {}, 405),
    "unknown project": ("GET", "/nothing/items/books", None, {}, 401),
    "invalid query": ("GET", "~/items/books?filter[title][no_such]=1", None, {}, 422),
    "invalid value": ("GET", "~/items/books?filter[author]=x", None, {}, 200),
    "no permission": ("GET", "~/items/books/1", None, {"Authorization": ""}, 404),
    "create": ("POST", "~/items/books", {"title": "New", "author": 1}, {}, 200),
    "create nested": ("POST", "~/items/authors", {"name": "New", "books": [{"title": "a"}, {"title": "b"}]}, {}, 200),
    "update": ("PATCH", "~/items/books/1", {"title": "Changed"}, {}, 200),
    "invalid payload": ("POST", "~/items/books", {"author": "x"}, {}, 422),
    "malformed payload": ("POST", "~/items/books", b"{", {}, 400),
    "conflict": ("POST", "~/items/books", {"id": 1, "title": "Again"}, {}, 409),
}


@pytest.fixture(autouse=True)
def uncollected() -> Iterator[None]:
    """Without automatic collection, as the objects that exist now are frozen by a server at its start."""
    gc.collect()
    gc.freeze()
    gc.disable()
    yield
    gc.set_debug(0)
    gc.garbage.clear()
    gc.enable()
    gc.unfreeze()


async def library(client: Client, books_made: int = 300) -> None:
    books = {"field": "books", "type": "o2m", "interface": "one-to-many"}
    author = {"field": "author", "type": "m2o", "datatype": "INT", "length": 11, "interface": "many-to-one"}
    await client.collection("authors", field("name"), books)
    await client.collection("books", field("title"), author)
    relation = {"collection_many": "books", "field_many": "author", "collection_one": "authors", "field_one": "books"}
    assert (await client.post("~/relations", relation)).status == 200
    assert (await client.post("~/items/authors", [{"name": "Ada"}, {"name": "Grace"}])).status == 200
    rows = [{"title": f"Title {number}", "author": number % 2 + 1} for number in range(books_made)]
    assert (await client.post("~/items/books", rows)).status == 200


def request_of(client: Client, method: str, path: str, body: object, headers: dict[str, str]) -> bytes:
    data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = {"Host": "h", "Authorization": f"bearer {TOKEN}", "Content-Type": "application/json"} | headers
    lines = [f"{method} {path.replace('~', f'/{client.project}', 1)} HTTP/1.1", *(f"{k}: {v}" for k, v in sent.items())]
    return "\r\n".join([*lines, f"Content-Length: {len(data)}", "", ""]).encode() + data


def send(client: Client, requests: list[bytes], *, kept: bool = True) -> set[int]:
    """Sends requests one after the other, on one connection or on one for each. Returns the statuses of the answers."""
    port = int(client.base.rpartition(":")[2])
    statuses = set()
    connection = None
    for request in requests:
        connection = connection or socket.create_connection(("127.0.0.1", port), timeout=60)
        connection.sendall(request)
        with connection.makefile("rb") as answer:
            statuses.add(int(answer.readline().split()[1]))
            headers = {}
            while (line := answer.readline().strip()) != b"":
                name, _, value = line.partition(b":")
                headers[name.lower()] = value.strip()
            if not request.startswith(b"HEAD"):
                if headers.get(b"transfer-encoding") == b"chunked":
                    while (size := int(answer.readline(), 16)) or not answer.readline():
                        answer.read(size + 2)
                else:
                    answer.read(int(headers.get(b"content-length", 0)))
        if not kept:
            connection.close()
            connection = None
    if connection is not None:
        connection.close()
    return statuses


async def left_by(
    client: Client, requests: list[bytes], *, kept: bool = True, warm: bytes | None = None
) -> tuple[set[int], Counter[str]]:
    """Sends requests, after another one that fills caches: *warm*, or the first of them. Returns their statuses, and the types of the
    objects that only the garbage collector has freed."""
    await deferToThread(send, client, [warm or requests[0]], kept=kept)
    gc.collect()
    gc.set_debug(gc.DEBUG_SAVEALL)
    statuses = await deferToThread(send, client, requests, kept=kept)
    gc.collect()
    gc.set_debug(0)
    found = Counter(type(each).__qualname__ for each in gc.garbage)
    gc.garbage.clear()
    return statuses, found


@ensureDeferred
async def test_requests_leave_no_cycles(client: Client) -> None:
    await library(client)
    for kind, (method, path, body, headers, status) in KINDS.items():
        request = request_of(client, method, path, body, headers)
        statuses, left = await left_by(client, [request] * REQUESTS)
        assert statuses == {status}, kind
        assert sum(left.values()) < FEW, (kind, left)


@ensureDeferred
async def test_deletions_leave_no_cycles(client: Client) -> None:
    await library(client, REQUESTS + 1)
    deletions = [request_of(client, "DELETE", f"~/items/books/{key}", None, {}) for key in range(1, REQUESTS + 1)]
    statuses, left = await left_by(
        client, deletions, warm=request_of(client, "DELETE", f"~/items/books/{REQUESTS + 1}", None, {})
    )
    assert statuses == {204}
    assert sum(left.values()) < FEW, left


@ensureDeferred
async def test_connections_leave_no_cycles(client: Client) -> None:
    ping = request_of(client, "GET", "/server/ping", None, {})
    statuses, left = await left_by(client, [ping] * REQUESTS, kept=False)
    assert statuses == {200}
    assert sum(left.values()) < FEW, left
