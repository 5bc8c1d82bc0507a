"""What HTTP itself asks for: headers, limits, ids, compression."""

import gzip
import json
import pathlib
import socket
from typing import Any

import bcrypt
import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.threads import deferToThread

from directus_tx.db.session import Session
from directus_tx.errors import BadRequest
from directus_tx.http.endpoints import items
from tests.conftest import MAX_BODY_SIZE, SUPER_ADMIN_TOKEN, Client, field


@ensureDeferred
async def test_every_answer_has_a_request_id(client: Client) -> None:
    ids = {(await client.get(path)).headers["x-request-id"] for path in ("/server/ping", "~/items/nope", "/nope/x", "~/users/1")}
    assert len(ids) == 4


@ensureDeferred
async def test_an_unforeseen_error_is_500_with_the_request_id_and_nothing_internal(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    await client.collection("things", field("name"))

    async def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("a column of ours")

    monkeypatch.setattr(items, "read_items", fail)
    answer = await client.get("~/items/things")
    assert (answer.status, answer.code) == (500, 0)
    assert answer.headers["x-request-id"] in answer.json["error"]["message"]
    assert "column" not in answer.json["error"]["message"]
    monkeypatch.undo()
    assert (await client.get("~/items/things")).data == []


@ensureDeferred
async def test_large_answers_are_compressed_for_those_who_ask(client: Client) -> None:
    answer = await client.get("~/fields", headers={"Accept-Encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip"
    assert "accept-encoding" in answer.headers["vary"].lower()
    assert len(json.loads(gzip.decompress(answer.body))["data"]) > 100
    assert "content-encoding" not in (await client.get("~/fields")).headers


@ensureDeferred
async def test_a_body_over_the_limit_is_413(client: Client) -> None:
    await client.collection("things", field("name", datatype="TEXT", length=None))
    fits, too_large = "x" * (MAX_BODY_SIZE - 100), "x" * (MAX_BODY_SIZE + 1)
    assert (await client.post("~/items/things?fields=id", {"name": fits})).status == 200
    answer = await client.post("~/items/things", {"name": too_large})
    assert (answer.status, answer.code) == (413, 601)
    assert (await client.get("~/items/things?fields=id")).data == [{"id": 1}]


@ensureDeferred
async def test_a_token_comes_as_a_parameter_as_basic_or_as_bearer(client: Client) -> None:
    basic = {"Authorization": "Basic YWRtaW4tc3RhdGljLXRva2VuOg=="}
    for options in ({}, {"token": None, "headers": basic}):
        assert (await client.get("~/users/me?fields=id", **options)).data == {"id": 1}
    assert (await client.get("~/users/me?fields=id&access_token=admin-static-token", token=None)).data == {"id": 1}
    assert (await client.get("~/users/me", token=None)).status == 401
    assert (await client.get("~/users/me?access_token=nope")).status == 401


@ensureDeferred
async def test_signing_in_gives_a_token_that_stops_counting_with_the_account(client: Client) -> None:
    credentials = {"email": "ADMIN@example.com", "password": "password"}
    token = (await client.post("~/auth/authenticate", credentials, token=None)).data["token"]
    assert (await client.get("~/users/me?fields=id", token=token)).data == {"id": 1}
    user = {"email": "b@example.com", "password": "password", "role": 1, "status": "active"}
    await client.post("~/users", user)
    other = (await client.post("~/auth/authenticate", user, token=None)).data["token"]
    assert (await client.get("~/users/me?fields=id", token=other)).data == {"id": 2}
    await client.patch("~/users/2", {"status": "suspended"})
    assert (await client.get("~/users/me?fields=id", token=other)).status == 401
    assert (await client.post("~/auth/authenticate", user, token=None)).code == 103


@ensureDeferred
async def test_passwords_hashed_by_bcrypt_work_and_are_hashed_anew(client: Client) -> None:
    session = Session(client.backend.projects.get(client.project).database)
    old = "$2y$" + bcrypt.hashpw(b"old-password", bcrypt.gensalt(4)).decode()[4:]

    async def put(session: Session) -> None:
        await session.query("UPDATE directus_users SET password = %s WHERE id = 1", (old,))

    await session.transaction(put)
    credentials = {"email": "admin@example.com", "password": "old-password"}
    assert (await client.post("~/auth/authenticate", credentials, token=None)).status == 200
    ((now,),) = await session.query("SELECT password FROM directus_users WHERE id = 1")
    assert now.startswith("$argon2id$")
    assert (await client.post("~/auth/authenticate", credentials, token=None)).status == 200


@ensureDeferred
async def test_forwarded_addresses_of_strangers_are_not_believed(client: Client) -> None:
    await client.collection("things", field("name"))
    await client.post("~/items/things", {"name": "a"}, headers={"X-Forwarded-For": "203.0.113.9"})
    assert (await client.get("~/activity?filter[collection]=things&fields=ip")).data == [{"ip": "127.0.0.1"}]


@ensureDeferred
async def test_one_project_down_leaves_the_others(client: Client) -> None:
    projects = client.backend.projects
    other = {
        "project": client.project + "x",
        "super_admin_token": SUPER_ADMIN_TOKEN,
        "user_email": "a@example.com",
        "user_password": "x",
        "user_token": "other-token",
    }
    assert (await client.post("/server/projects", other, token=None)).status == 200
    path = next(pathlib.Path(projects.files.directory).glob(f"{client.project}x.toml"))
    text = path.read_text()
    path.write_text(text.replace('name = "', 'host = "/nowhere"\nuser = "u"\nname = "'))
    answer = await client.get(f"/{client.project}x/users", token="other-token")
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert (await client.get("~/users/me?fields=id")).data == {"id": 1}
    path.write_text(text)
    assert (await client.get(f"/{client.project}x/users?fields=id", token="other-token")).data == [{"id": 1}]


@ensureDeferred
async def test_a_page_of_another_origin_may_send_and_read_what_it_needs(client: Client) -> None:
    await client.collection("things", field("name"))
    origin = {"Origin": "https://app.example.com"}
    asked = {"Access-Control-Request-Method": "PATCH", "Access-Control-Request-Headers": "if-match,content-type"}
    preflight = await client.call("OPTIONS", "~/items/things/1", token=None, headers=origin | asked)
    assert (preflight.status, preflight.body) == (200, b"")
    allowed = {name.strip().lower() for name in preflight.headers["access-control-allow-headers"].split(",")}
    assert allowed >= {
        "authorization",
        "content-type",
        "x-directus-project",
        "if-match",
        "if-none-match",
        "x-http-method-override",
    }
    created = await client.post("~/items/things", {"name": "x"}, headers=origin)
    read = await client.get("~/items/things/1", headers=origin)
    refused = await client.get("~/items/nope", headers=origin)
    for answer in (created, read, refused):
        exposed = {name.strip().lower() for name in answer.headers["access-control-expose-headers"].split(",")}
        assert exposed >= {"etag", "x-request-id", "retry-after", "content-disposition", "location"}
    changed = await client.patch("~/items/things/1", {"name": "y"}, headers=origin | {"If-Match": read.headers["etag"]})
    assert changed.status == 200
    again = await client.patch("~/items/things/1", {"name": "z"}, headers=origin | {"If-Match": read.headers["etag"]})
    assert again.status == 412


@pytest.mark.parametrize("path", ["/server/ping", "/no-such-project/items/x", "/server/no-such-route"])
@ensureDeferred
async def test_a_host_that_is_no_name_is_refused_on_every_path(client: Client, path: str) -> None:
    wrong = (
        b"a..b",
        b"a" * 64,
        b"\xff",
        "\u00e4".encode() * 64,
        b"a b",
        b"a\tb",
        b"a/b",
        b"a?b",
        b"a#b",
        b"a@b",
        b"a,b",
        b"a\\b",
    )
    ports = (b"a:b", b"a:65536", b"a:" + b"9" * 5000, b"a:80:80", b"[::1", b"[::1]80", b"[g]", b"::1", b'"><a>', b"a\r\n b")
    for name in (*wrong, *ports):
        head = b"GET " + path.encode() + b" HTTP/1.1\r\nHost: " + name + b"\r\nConnection: close\r\n\r\n"
        status, body = await deferToThread(exchange, int(client.base.rpartition(":")[2]), head)
        assert (status, body["error"]["code"]) == (400, BadRequest.code), name


@ensureDeferred
async def test_names_and_addresses_with_and_without_a_port_are_hosts(client: Client) -> None:
    for name in ("a", "a.b.", "a_b.c-d:8080", "127.0.0.1:80", "[::1]", "[::ffff:127.0.0.1]:65535", "a:", "\u00e4.de", "%41", ""):
        head = f"GET /server/ping HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode()
        answer = await deferToThread(sent, int(client.base.rpartition(":")[2]), head)
        assert answer.startswith(b"HTTP/1.1 200 "), name


def sent(port: int, request: bytes) -> bytes:
    """The answer to a request."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def exchange(port: int, request: bytes) -> tuple[int, Any]:
    """The status and the JSON body of the answer to a request."""
    head, _, body = sent(port, request).partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), json.loads(body)
