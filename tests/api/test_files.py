"""Uploading files, replacing and deleting them, and reading their contents."""

import base64
import hashlib
import io
import json
import socket
from typing import Any

import pytest
import pytest_twisted
from attrs import evolve
from PIL import Image
from twisted.internet import defer, reactor
from twisted.internet.threads import deferToThread

from directus_tx.config import OutgoingSettings
from directus_tx.context import current_time
from directus_tx.db.session import Session
from directus_tx.files import checking
from directus_tx.files.removal import FileRemoval
from directus_tx.outbox.kinds import Delivery, Outcome
from directus_tx.outbox.messages import Message
from directus_tx.outgoing.client import Client as Outgoing
from tests.conftest import TOKEN, Client, Reply
from tests.receiver import receiving

BOUNDARY = "----a-boundary"
TEXT = b"Hello, world!\n"


def form(*parts: tuple[str, str | bytes] | tuple[str, str | bytes, str]) -> bytes:
    """A multipart form of fields (name, value) and files (name, content, file name)."""
    body = b""
    for name, value, *filename in parts:
        head = f'Content-Disposition: form-data; name="{name}"' + (f'; filename="{filename[0]}"' if filename else "")
        content = value if isinstance(value, bytes) else value.encode()
        body += f"--{BOUNDARY}\r\n{head}\r\n\r\n".encode() + content + b"\r\n"
    return body + f"--{BOUNDARY}--\r\n".encode()


FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


async def upload(client: Client, *parts: Any, method: str = "POST", path: str = "~/files", **options: Any) -> Reply:
    return await client.call(method, path, form(*parts), headers=FORM, **options)


async def stored(client: Client) -> set[str]:
    """The names of all contents in the storage of the project."""
    return {each.name async for each in client.backend.projects.get(client.project).storage.list("")}


async def rows(client: Client, sql: str) -> Any:
    return await Session(client.backend.projects.get(client.project).database).query(sql)


async def deliver_removals(client: Client) -> None:
    """Delivers the messages of the outbox that delete contents."""
    project = client.backend.projects.get(client.project)
    for number, payload in await rows(client, "SELECT id, payload FROM directus_outbox WHERE kind = 'file removal'"):
        found = json.loads(payload)
        delivery = Delivery(number, None, 1, None, Message("file removal", "", found))  # type: ignore[arg-type]
        assert (await FileRemoval().deliver(project, delivery)).outcome is Outcome.DELIVERED


def picture(format: str, size: tuple[int, int] = (30, 20)) -> bytes:
    held = io.BytesIO()
    Image.new("RGB", size, "teal").save(held, format)
    return held.getvalue()


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("places", [(0, 1), (1, 0)])
async def test_fields_of_a_form_come_before_or_after_the_file(client: Client, places: tuple[int, int]) -> None:
    parts = [("title", "Mine"), ("data", TEXT, "a note.TXT")]
    answer = await upload(client, *(parts[place] for place in places), ("tags[]", "one"), ("tags[]", "two"))
    assert answer.status == 200, answer.body
    file = answer.data
    assert (file["title"], file["filename_download"], file["tags"]) == ("Mine", "a note.TXT", ["one", "two"])
    assert (file["type"], file["filesize"], file["charset"]) == ("text/plain", len(TEXT), "us-ascii")
    assert file["checksum"] == hashlib.md5(TEXT).hexdigest()
    ((sha256,),) = await rows(client, "SELECT sha256 FROM directus_file_contents")
    assert sha256 == hashlib.sha256(TEXT).hexdigest()
    read = await client.get(file["data"]["url"], token=None)
    assert (read.status, read.body) == (200, TEXT)
    assert file["data"]["full_url"] == client.base + file["data"]["url"]


@pytest_twisted.ensureDeferred
async def test_a_form_is_larger_than_other_bodies(client: Client) -> None:
    content = bytes(range(256)) * 40_000
    assert len(content) > client.app.services.settings.server.max_body_size
    answer = await upload(client, ("data", content, "large.bin"))
    assert answer.status == 200, answer.body
    read = await client.get(answer.data["data"]["url"], token=None)
    assert read.body == content
    part = await client.get(answer.data["data"]["url"], headers={"Range": f"bytes=255-{2**20}"})
    assert (part.status, part.body) == (206, content[255 : 2**20 + 1])


def limit_size(client: Client, size: int) -> None:
    intake = client.backend.intake
    intake.settings = evolve(intake.settings, max_size=size)
    services = client.app.services
    client.app.services = evolve(services, settings=evolve(services.settings, files=intake.settings))


@pytest_twisted.ensureDeferred
async def test_a_file_that_is_too_large_leaves_nothing(client: Client) -> None:
    limit_size(client, 100_000)
    assert (await upload(client, ("data", b"x" * 100_000, "fits.txt"))).status == 200
    answer = await upload(client, ("data", b"x" * 3_000_000, "large.txt"))
    assert (answer.status, answer.code) == (413, 601)
    answer = await client.post(
        "~/files", {"filename_disk": "a.txt", "filename_download": "a.txt", "data": base64.b64encode(b"x" * 100_001).decode()}
    )
    assert (answer.status, answer.code) == (422, 4)
    assert len(await stored(client)) == 1
    assert client.backend.intake.running == 0


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ((("nope", "1"),), (422, 12)),
        ((("folder", "x"),), (422, 4)),
        ((("tags", "a,b"),), (422, 4)),
        ((("title", "x" * 300),), (422, 12)),
        ((("more", b"x", "second.txt"),), (400, 15)),
    ],
)
async def test_a_refused_upload_leaves_nothing(client: Client, fields: Any, code: tuple[int, int]) -> None:
    answer = await upload(client, ("data", TEXT, "a.txt"), *fields)
    assert (answer.status, answer.code) == code
    assert await stored(client) == set()
    assert (await client.get("~/files")).data == []
    assert client.backend.intake.running == 0


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "body",
    [
        form(("title", "no file")),
        form(("data", b"", "empty.txt")),
        form(("data", TEXT, "..")),
        form(("data", TEXT, "")),
    ],
)
async def test_a_form_without_a_usable_file_is_refused(client: Client, body: bytes) -> None:
    answer = await client.call("POST", "~/files", body, headers=FORM)
    assert (answer.status, answer.code) == (422, 4)
    assert await stored(client) == set()


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("cut", [10, -5, -len(f"--{BOUNDARY}--\r\n")])
async def test_a_malformed_form_is_refused(client: Client, cut: int) -> None:
    answer = await client.call("POST", "~/files", form(("data", TEXT, "a.txt"))[:cut], headers=FORM)
    assert (answer.status, answer.code) == (400, 13)
    assert await stored(client) == set()


def connection(client: Client) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(client.base.rpartition(":")[2])), timeout=10)


def request_head(client: Client, length: int, token: str | None = TOKEN, more: str = "") -> bytes:
    lines = [f"POST /{client.project}/files HTTP/1.1", "Host: x", f"Content-Type: {FORM['Content-Type']}"]
    lines += [f"Content-Length: {length}", *([f"Authorization: bearer {token}"] if token else []), *([more] if more else [])]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


async def until(condition: Any) -> None:
    """Waits until a condition holds, up to ten seconds."""
    for _ in range(1000):
        if condition():
            return
        waiting: defer.Deferred[None] = defer.Deferred()
        reactor.callLater(0.01, waiting.callback, None)  # type: ignore[attr-defined]
        await waiting
    raise AssertionError("the condition has not come true")


@pytest_twisted.ensureDeferred
async def test_a_client_that_disconnects_leaves_nothing_and_holds_no_database_connection(client: Client) -> None:
    intake, database = client.backend.intake, client.backend.projects.get(client.project).database
    sent = await deferToThread(connection, client)
    beginning = form(("data", b"x" * 1_000_000, "a.txt"))[:700_000]
    await deferToThread(sent.sendall, request_head(client, 1_000_200) + beginning)
    await until(lambda: intake.running == 1)

    # The endpoint waits for the rest of the body. All connections of the pool are free: as many transactions as it has can run at once.
    async def busy(session: Session) -> None:
        await session.query("SELECT 1")

    await defer.gatherResults(
        [
            defer.Deferred.fromCoroutine(Session(database).transaction(busy))
            for _ in range(client.app.services.settings.database.pool_size)
        ]
    )
    assert intake.running == 1
    sent.close()
    await until(lambda: intake.running == 0)
    assert await stored(client) == set()
    assert (await client.get("~/files")).data == []


@pytest_twisted.ensureDeferred
async def test_a_caller_without_permission_is_refused_before_the_body_arrives(client: Client) -> None:
    sent = await deferToThread(connection, client)
    await deferToThread(sent.sendall, request_head(client, 10**12, token=None, more="Expect: 100-continue"))
    answer = await deferToThread(sent.recv, 65536)
    assert b"403" in answer.partition(b"\r\n")[0] or b"100" in answer.partition(b"\r\n")[0]
    while b'"code":10' not in answer:
        answer += await deferToThread(sent.recv, 65536)
    sent.close()


@pytest_twisted.ensureDeferred
async def test_a_connection_is_used_again_after_an_upload(client: Client) -> None:
    body = form(("data", b"x" * 300_000, "a.txt"))
    sent = await deferToThread(connection, client)
    for number in range(3):
        await deferToThread(sent.sendall, request_head(client, len(body)) + body)
        answer = b""
        while b'"id":%d' % (number + 1) not in answer:
            found = await deferToThread(sent.recv, 65536)
            assert found, answer
            answer += found
        length = int(answer.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        while len(answer.partition(b"\r\n\r\n")[2]) < length:
            answer += await deferToThread(sent.recv, 65536)
    sent.close()


@pytest_twisted.ensureDeferred
async def test_the_number_of_uploads_at_once_is_limited(client: Client) -> None:
    intake = client.backend.intake
    intake.settings = evolve(intake.settings, max_uploads=0)
    answer = await upload(client, ("data", TEXT, "a.txt"))
    assert (answer.status, answer.headers["retry-after"]) == (503, "5")
    assert await stored(client) == set()


@pytest_twisted.ensureDeferred
async def test_replacing_content_deletes_the_former_one_after_the_commit(client: Client) -> None:
    file = (await upload(client, ("data", picture("PNG"), "a.png"))).data
    (before,) = await stored(client)
    answer = await upload(client, ("data", picture("PNG", (7, 9)), "b.png"), method="PATCH", path=f"~/files/{file['id']}")
    (changed,) = answer.data
    assert (changed["width"], changed["height"]) == (7, 9)
    assert changed["filename_disk"] == file["filename_disk"]
    assert len(await stored(client)) == 2
    await deliver_removals(client)
    (after,) = await stored(client)
    assert after != before
    read = await client.get(file["data"]["url"])
    assert Image.open(io.BytesIO(read.body)).size == (7, 9)


@pytest_twisted.ensureDeferred
async def test_content_that_replaces_none_is_deleted(client: Client) -> None:
    file = (await upload(client, ("data", TEXT, "a.txt"))).data
    answer = await upload(client, ("data", b"other", "b.txt"), ("nope", "1"), method="PATCH", path=f"~/files/{file['id']}")
    assert (answer.status, answer.code) == (422, 12)
    answer = await upload(client, ("data", b"other", "b.txt"), method="PATCH", path="~/files/99")
    assert (answer.status, answer.code) == (404, 203)
    assert len(await stored(client)) == 1
    assert (await client.get(file["data"]["url"])).body == TEXT


@pytest_twisted.ensureDeferred
async def test_a_deleted_file_loses_its_content_after_the_commit(client: Client) -> None:
    ids = [(await upload(client, ("data", TEXT, f"{name}.txt"))).data["id"] for name in "abc"]
    assert (await client.delete(f"~/files/{ids[0]},{ids[1]}")).status == 204
    await deliver_removals(client)
    assert len(await stored(client)) == 1
    assert await rows(client, "SELECT file FROM directus_file_contents") == [(ids[2],)]


@pytest_twisted.ensureDeferred
async def test_a_name_on_disk_is_changed_without_moving_the_content(client: Client) -> None:
    file = (await upload(client, ("data", TEXT, "a.txt"))).data
    before = await stored(client)
    for name in ("Ünïcode name.txt", "b.csv", "x" * 251 + ".txt"):
        (changed,) = (await client.patch(f"~/files/{file['id']}", {"filename_disk": name})).data
        read = await client.get(changed["data"]["url"])
        assert (changed["filename_disk"], read.body) == (name, TEXT)
    assert await stored(client) == before


@pytest_twisted.ensureDeferred
async def test_a_file_from_another_installation_has_its_content_under_its_name(client: Client) -> None:
    storage = client.backend.projects.get(client.project).storage
    held = storage.begin("originals/old.txt")
    await held.write(TEXT)
    await held.finish()
    await rows(
        client,
        "INSERT INTO directus_files (filename_disk, filename_download, uploaded_on, type, filesize, private_hash)"
        " VALUES ('old.txt', 'old.txt', now(), 'text/plain', 14, 'abc')",
    )
    for path in (f"/uploads/{client.project}/originals/old.txt", "~/assets/abc"):
        read = await client.get(path, token=None)
        assert (read.status, read.body) == (200, TEXT)
        assert (await client.get(path, headers={"If-None-Match": read.headers["etag"]})).status == 304
    (changed,) = (await client.patch("~/files/1", {"filename_disk": "new.txt"})).data
    assert (await client.get(changed["data"]["url"])).body == TEXT
    assert (await client.delete("~/files/1")).status == 204
    await deliver_removals(client)
    assert await stored(client) == set()


@pytest_twisted.ensureDeferred
async def test_readable_names_are_unique_also_at_the_same_time(client: Client) -> None:
    settings = (await client.get("~/settings?filter[key]=file_naming")).data
    await client.patch(f"~/settings/{settings[0]['id']}", {"value": "file_name"})
    work = [defer.Deferred.fromCoroutine(upload(client, ("data", TEXT, "My File.TXT"))) for _ in range(15)]
    answers = await defer.gatherResults(work)
    assert [each.status for each in answers] == [200] * 15
    assert {each.data["filename_disk"] for each in answers} == {"my-file.txt", *(f"my-file-{n}.txt" for n in range(1, 15))}


@pytest_twisted.ensureDeferred
async def test_contents_are_asked_for_conditionally(client: Client) -> None:
    file = (await upload(client, ("data", b"0123456789", "a.txt"))).data
    url = file["data"]["url"]
    whole = await client.get(url)
    tag, modified = whole.headers["etag"], whole.headers["last-modified"]
    for headers, status, body, range in [
        ({"Range": "bytes=2-4"}, 206, b"234", "bytes 2-4/10"),
        ({"Range": "bytes=-3"}, 206, b"789", "bytes 7-9/10"),
        ({"Range": "bytes=8-"}, 206, b"89", "bytes 8-9/10"),
        ({"Range": "bytes=0-100"}, 206, b"0123456789", "bytes 0-9/10"),
        ({"Range": "bytes=10-"}, 416, b"", "bytes */10"),
        ({"Range": "bytes=-0"}, 416, b"", "bytes */10"),
        ({"Range": "bytes=4-2"}, 200, b"0123456789", None),
        ({"Range": "bytes=0-1,4-5"}, 200, b"0123456789", None),
        ({"Range": "lines=1-2"}, 200, b"0123456789", None),
        ({"Range": "bytes=2-4", "If-Range": tag}, 206, b"234", "bytes 2-4/10"),
        ({"Range": "bytes=2-4", "If-Range": modified}, 206, b"234", "bytes 2-4/10"),
        ({"Range": "bytes=2-4", "If-Range": '"other"'}, 200, b"0123456789", None),
        ({"If-None-Match": tag}, 304, b"", None),
        ({"If-None-Match": f'"other", W/{tag}'}, 304, b"", None),
        ({"If-None-Match": '"other"', "If-Modified-Since": modified}, 200, b"0123456789", None),
        ({"If-Modified-Since": modified}, 304, b"", None),
        ({"If-Modified-Since": "Mon, 01 Jan 2001 00:00:00 GMT"}, 200, b"0123456789", None),
        ({"If-Modified-Since": "nonsense"}, 200, b"0123456789", None),
    ]:
        answer = await client.get(url, headers=headers)
        assert (answer.status, answer.body, answer.headers.get("content-range")) == (status, body, range), headers
    head = await client.call("HEAD", url)
    assert (head.status, head.body) == (200, b"")
    await upload(client, ("data", b"changed", "a.txt"), method="PATCH", path=f"~/files/{file['id']}")
    assert (await client.get(url, headers={"If-None-Match": tag})).body == b"changed"


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("name", "content", "kind", "shown"),
    [
        ("a.html", b"<script>alert(1)</script>", "text/html", "attachment"),
        ("a.svg", b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>', "image/svg+xml", "inline"),
        ("a.xml", b"<?xml version='1.0'?><a/>", "text/xml", "attachment"),
        ("a.xhtml", b"<html/>", "application/octet-stream", "attachment"),
        ("a.js", b"alert(1)", "text/plain", "inline"),
        ("a.mjs", b"alert(1)", "text/plain", "inline"),
        ("a.png", b"<script>alert(1)</script>", "image/png", "inline"),
        ("a.txt", b"<script>alert(1)</script>", "text/plain", "inline"),
        ("a.unknown", b"<script>alert(1)</script>", "application/octet-stream", "attachment"),
    ],
)
async def test_no_content_runs_in_a_browser(client: Client, name: str, content: bytes, kind: str, shown: str) -> None:
    file = (await upload(client, ("data", content, name))).data
    read = await client.get(file["data"]["asset_url"], token=None)
    assert read.body == content
    assert read.headers["content-type"].partition(";")[0] == kind
    assert read.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in read.headers["content-security-policy"]
    assert read.headers["content-disposition"].startswith(shown)


@pytest_twisted.ensureDeferred
async def test_names_for_downloads_cannot_break_headers(client: Client) -> None:
    file = (await upload(client, ("data", TEXT, "a.txt"))).data
    for name, wanted in [
        ('a"b\r\nX-Evil: 1.txt', "filename=\"a_bX-Evil: 1.txt\"; filename*=UTF-8''a%22bX-Evil%3A%201.txt"),
        ("žluťoučký.txt", "filename=\"_lu_ou_k_.txt\"; filename*=UTF-8''%C5%BElu%C5%A5ou%C4%8Dk%C3%BD.txt"),
        ("plain name.txt", 'filename="plain name.txt"'),
        ("\x01\x02", 'filename="file"'),
    ]:
        assert (await client.patch(f"~/files/{file['id']}", {"filename_download": name})).status == 200
        read = await client.get(file["data"]["url"])
        assert read.headers["content-disposition"].partition("; ")[2] in (
            wanted,
            wanted.replace('filename="file"', 'filename="file"'),
        )
        assert "x-evil" not in read.headers


@pytest_twisted.ensureDeferred
async def test_data_shows_nothing_that_is_hidden(client: Client) -> None:
    await upload(client, ("data", picture("PNG"), "a.png"))
    permission = {"collection": "directus_files", "role": 2, "read": "full", "read_field_blacklist": ["private_hash"]}
    answer = await client.post("~/permissions", permission)
    assert answer.status == 200, answer.body
    (file,) = (await client.get("~/files", token=None)).data
    assert "private_hash" not in file
    assert (file["data"]["asset_url"], file["data"]["thumbnails"]) == (None, None)
    assert file["data"]["url"] is not None
    await client.patch(f"~/permissions/{answer.data['id']}", {"read_field_blacklist": ["data", "filename_disk"]})
    (file,) = (await client.get("~/files", token=None)).data
    assert "data" not in file
    assert "data" not in (await client.get("~/files/1?fields=id,data", token=None)).data


@pytest_twisted.ensureDeferred
async def test_data_is_shown_in_every_place(client: Client) -> None:
    await client.collection("pages", {"field": "cover", "type": "file", "datatype": "INT", "length": 11, "interface": "file"})
    file = (await upload(client, ("data", picture("PNG"), "a.png"))).data
    await client.post("~/items/pages", [{"cover": file["id"]}, {"cover": file["id"]}, {}])
    found = (await client.get("~/items/pages?fields=id,cover.data&sort=id")).data
    assert [each["cover"] and each["cover"]["data"] for each in found] == [file["data"], file["data"], None]
    for query in ("fields=*", "fields=*.*", "fields=id,data&sort=-data", "fields=data.url&limit=1", "fields=-id,data"):
        answer = await client.get(f"~/files?{query}")
        if "sort=-data" in query:
            assert answer.status == 422
        else:
            assert answer.data[0]["data"] == file["data"] if query != "fields=-id,data" else answer.data[0]["data"]
    folder = (await client.post("~/folders", {"name": "f"})).data
    await client.patch(f"~/files/{file['id']}", {"folder": folder["id"]})
    assert (await client.get("~/files?export=csv")).status == 200
    assert (await client.get("~/files?limit=1&cursor=")).data[0]["data"]["url"] == file["data"]["url"]


@pytest_twisted.ensureDeferred
async def test_items_that_hold_files_upload_nothing(client: Client) -> None:
    await client.collection("pages", {"field": "cover", "type": "file", "datatype": "INT", "length": 11, "interface": "file"})
    content = {"filename_disk": "a.txt", "filename_download": "a.txt", "data": base64.b64encode(TEXT).decode()}
    answer = await client.post("~/items/pages", {"cover": content})
    assert (answer.status, answer.code) == (422, 4)
    file = (await client.post("~/files", content)).data
    assert (
        await client.post("~/items/pages", {"cover": {"id": file["id"], "data": "eA==", "filesize": 1, "title": "New"}})
    ).status == 200
    changed = (await client.get(f"~/files/{file['id']}")).data
    assert (changed["title"], changed["filesize"]) == ("New", len(TEXT))
    assert len(await stored(client)) == 1


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("url", "kind", "id"),
    [
        ("https://www.youtube.com/watch?v=abcDEF12345&t=3", "youtube", "abcDEF12345"),
        ("https://youtube.com/embed/abcDEF12345", "youtube", "abcDEF12345"),
        ("https://www.youtube.com/shorts/abc-EF_2345", "youtube", "abc-EF_2345"),
        ("HTTPS://youtu.be/abcDEF12345", "youtube", "abcDEF12345"),
        ("https://player.vimeo.com/video/123", "vimeo", "123"),
        ("https://vimeo.com/123", "vimeo", "123"),
        ("https://www.youtube.com/watch?v=%22onload%3D1", None, None),
        ("https://vimeo.com/channels", None, None),
        ("https://youtube.com.evil.example/watch?v=abcDEF12345", None, None),
    ],
)
async def test_videos_are_recognised_by_their_urls(client: Client, url: str, kind: str | None, id: str | None) -> None:
    answer = await client.post("~/files", {"data": url})
    if kind is None:
        assert (answer.status, answer.code) == (422, 4)
        return
    file = answer.data
    assert (file["type"], file["embed"], file["filesize"]) == (f"embed/{kind}", id, 0)
    assert id in file["data"]["embed"]["html"]
    assert await stored(client) == set()
    assert (await client.get(f"/uploads/{client.project}/originals/{file['filename_disk']}")).status == 404
    assert (await client.get(f"~/assets/{file['private_hash']}")).status == 404
    assert (await client.delete(f"~/files/{file['id']}")).status == 204


@pytest_twisted.ensureDeferred
async def test_the_media_types_that_may_be_uploaded_are_those_of_the_contents(client: Client) -> None:
    setting = (await client.get("~/settings?filter[key]=file_mimetype_whitelist")).data[0]["id"]
    for allowed, name, content, fits in [
        ("image/png", "a.png", picture("PNG"), True),
        ("image/png", "a.png", picture("JPEG"), False),
        ("image/*", "a.gif", picture("GIF"), True),
        ("image/jpg", "a.jpg", picture("JPEG"), True),
        ("text/*", "a.txt", "Grüße".encode(), True),
        ("text/*", "a.txt", b"\0\1\2", False),
        ("text/plain", "a.txt", b"<!doctype html><p>", False),
        ("text/csv", "a.csv", b"a,b\n1,2\n", True),
        ("text/csv", "a.csv", picture("PNG"), False),
        ("image/svg+xml", "a.svg", b"<?xml version='1.0'?><!-- c --><svg/>", True),
        ("text/plain", "a.txt", b"<svg onload='x'/>", False),
        ("application/pdf", "a.pdf", b"%PDF-1.7\n", True),
        ("application/pdf", "a.pdf", b"MZ", False),
    ]:
        await client.patch(f"~/settings/{setting}", {"value": allowed})
        answer = await upload(client, ("data", content, name))
        assert answer.status == (200 if fits else 422), (allowed, name, answer.body)


@pytest_twisted.ensureDeferred
async def test_only_what_a_role_may_do_is_done(client: Client) -> None:
    role = (await client.post("~/roles", {"name": "limited"})).data["id"]
    user = {"email": "l@example.com", "password": "password", "role": role, "status": "active", "token": "limited"}
    assert (await client.post("~/users", user)).status == 200
    (permission,) = (await client.get(f"~/permissions?filter[collection]=directus_files&filter[role]={role}")).data
    file = (await upload(client, ("data", TEXT, "a.txt"))).data
    none = {"read": "full", "create": "none", "update": "none", "delete": "none"}
    await client.patch(f"~/permissions/{permission['id']}", none)
    one = f"~/files/{file['id']}"
    answers = [
        await upload(client, ("data", TEXT, "b.txt"), token="limited"),
        await client.post("~/files", {"data": "https://youtu.be/abcDEF12345"}, token="limited"),
        await client.patch(one, {"title": "x"}, token="limited"),
        await client.patch(one, {"data": "eA=="}, token="limited"),
        await client.patch("~/files", [{"id": file["id"], "title": "x"}], token="limited"),
        await upload(client, ("data", b"x", "b.txt"), method="PATCH", path=one, token="limited"),
    ]
    assert [(each.status, each.code) for each in answers] == [(403, 10)] * 6
    answers = [
        await client.patch(one, {"data": "eA=="}, token=None),
        await client.patch("~/files", [{"id": file["id"], "title": "x"}], token=None),
        await upload(client, ("data", b"x", "b.txt"), method="PATCH", path=one, token=None),
        await client.delete(one, token=None),
    ]
    assert [(each.status, each.code) for each in answers] == [(401, 3)] * 4
    answer = await client.delete(one, token="limited")
    assert (answer.status, answer.code) == (403, 303)
    changed = {**none, "create": "full", "update": "full", "write_field_blacklist": ["data", "title"]}
    await client.patch(f"~/permissions/{permission['id']}", changed)
    answers = [
        await client.patch(one, {"data": "eA=="}, token="limited"),
        await upload(client, ("data", b"x", "b.txt"), method="PATCH", path=one, token="limited"),
        await upload(client, ("data", TEXT, "b.txt"), ("title", "x"), token="limited"),
    ]
    assert [(each.status, each.code) for each in answers] == [(403, 305)] * 3
    assert (await upload(client, ("data", TEXT, "b.txt"), token="limited")).data["title"] == "B"
    assert len(await stored(client)) == 2


@pytest_twisted.ensureDeferred
async def test_many_slow_uploads_do_not_stop_reads(client: Client) -> None:
    """Uploads whose clients have stopped in the middle occupy nothing that others need."""
    intake = client.backend.intake
    sent = [await deferToThread(connection, client) for _ in range(30)]
    beginning = form(("data", b"x" * 200_000, "a.txt"))[:150_000]
    for each in sent:
        await deferToThread(each.sendall, request_head(client, 200_200) + beginning)
    await until(lambda: intake.running == 30)
    assert (await client.get("~/users")).status == 200
    assert (await upload(client, ("data", TEXT, "b.txt"))).status == 200
    for each in sent:
        each.close()
    await until(lambda: intake.running == 0)
    assert len(await stored(client)) == 1


@pytest_twisted.ensureDeferred
async def test_a_caller_with_many_uploads_leaves_room_for_others(client: Client) -> None:
    intake = client.backend.intake
    intake.settings = evolve(intake.settings, max_uploads=10)
    role = (await client.post("~/roles", {"name": "uploader"})).data["id"]
    permission = {"collection": "directus_files", "role": role, "create": "full", "read": "full"}
    assert (await client.post("~/permissions", permission)).status == 200
    user = {"email": "other@example.com", "password": "password", "role": role, "status": "active", "token": "other"}
    assert (await client.post("~/users", user)).status == 200
    # Of ten uploads a project may have eight, and one of its callers seven.
    sent = [await deferToThread(connection, client) for _ in range(7)]
    for each in sent:
        await deferToThread(each.sendall, request_head(client, 200_200) + form(("data", b"x" * 200_000, "a.txt"))[:150_000])
    await until(lambda: intake.running == 7)
    content = {"filename_disk": "a.txt", "filename_download": "a.txt", "data": base64.b64encode(TEXT).decode()}
    for answer in (await upload(client, ("data", TEXT, "b.txt")), await client.post("~/files", content)):
        assert (answer.status, answer.code, answer.headers["retry-after"]) == (503, 16, "5")
        assert "files.max_uploads" in answer.json["error"]["message"]
    assert (await upload(client, ("data", TEXT, "b.txt"), token="other")).status == 200
    for each in sent:
        each.close()
    await until(lambda: intake.running == 0)
    assert (await upload(client, ("data", TEXT, "b.txt"))).status == 200


def serving(content: bytes, kind: str, status: int = 200, cut: int = 0) -> Any:
    """What a receiver does that has a file, and says that its type is *kind*. *cut*: the number of bytes that are missing at its end."""

    def act(request: Any) -> int | None:
        request.setHeader("Content-Type", kind)
        request.setResponseCode(status)
        if request.method == b"HEAD":
            return status
        request.setHeader("Content-Length", str(len(content)))
        request.write(content[: len(content) - cut])
        if cut:
            request.loseConnection()
        else:
            request.finish()
        return None

    return act


def allow_imports(client: Client, most: int = 10_000_000) -> None:
    client.backend.intake.client = Outgoing(reactor, OutgoingSettings(allowed_networks=("127.0.0.0/8",)), max_answer=most)


@pytest_twisted.ensureDeferred
async def test_a_picture_is_read_from_another_server(client: Client) -> None:
    allow_imports(client)
    content = picture("PNG") + b"x" * 2_000_000
    async with receiving() as receiver:
        receiver.act = serving(content, "image/png")
        answer = await client.post("~/files", {"data": f"{receiver.url}/a/My%20picture.png?x=1", "title": "Mine"})
        assert answer.status == 200, answer.body
        assert [each.method for each in receiver.requests] == ["HEAD", "GET"]
        file = answer.data
        assert (file["filename_download"], file["title"], file["width"]) == ("My picture.png", "Mine", 30)
        assert file["checksum"] == hashlib.md5(content).hexdigest()
        assert (await client.get(file["data"]["url"])).body == content
        receiver.act = serving(b"%PDF-1.7", "application/pdf")
        (changed,) = (await client.patch(f"~/files/{file['id']}", {"data": f"{receiver.url}/"})).data
        assert changed["filesize"] == 8
    await client.backend.intake.client.close()


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "act",
    [
        serving(b"<p>", "text/html"),
        serving(b"", "image/png"),
        serving(picture("PNG"), "image/png", 404),
        serving(picture("PNG"), "image/png", 302),
        serving(b"x" * 10_000, "image/png", cut=5_000),
        serving(b"x" * 300_000, "image/png"),
    ],
)
async def test_what_cannot_be_read_from_another_server_leaves_nothing(client: Client, act: Any) -> None:
    allow_imports(client, most=200_000)
    async with receiving() as receiver:
        receiver.act = act
        answer = await client.post("~/files", {"data": f"{receiver.url}/a.png"})
        assert (answer.status, answer.code) == (422, 4)
        await client.backend.intake.client.close()
    assert await stored(client) == set()
    assert client.backend.intake.running == 0


@pytest_twisted.ensureDeferred
async def test_a_picture_whose_type_is_not_allowed_is_not_read(client: Client) -> None:
    allow_imports(client)
    setting = (await client.get("~/settings?filter[key]=file_mimetype_whitelist")).data[0]["id"]
    await client.patch(f"~/settings/{setting}", {"value": "image/png"})
    async with receiving() as receiver:
        receiver.act = serving(picture("JPEG") + b"x" * 1_000_000, "image/png")
        answer = await client.post("~/files", {"data": f"{receiver.url}/a.png"})
        assert (answer.status, answer.code) == (422, 4)
        assert "file_mimetype_whitelist" in answer.json["error"]["message"]
        await client.backend.intake.client.close()
    assert await stored(client) == set()


@pytest_twisted.ensureDeferred
async def test_files_are_not_read_from_this_machine(client: Client) -> None:
    async with receiving() as receiver:
        receiver.act = serving(picture("PNG"), "image/png")
        answer = await client.post("~/files", {"data": f"{receiver.url}/a.png"})
        assert (answer.status, answer.code, receiver.requests) == (422, 4, [])


@pytest_twisted.ensureDeferred
async def test_files_are_compared_with_the_storage(client: Client) -> None:
    project = client.backend.projects.get(client.project)
    session, storage = Session(project.database), project.storage
    later = checking.age(-60, current_time())
    kept = [(await upload(client, ("data", TEXT, f"{name}.txt"))).data for name in "abc"]
    await client.post("~/files", {"data": "https://youtu.be/abcDEF12345"})
    report = await checking.check(session, storage, later)
    assert (report.files, report.contents, report.faultless) == (3, 3, True)
    names = dict(await rows(client, "SELECT file, name FROM directus_file_contents"))
    await storage.delete(names[kept[0]["id"]])
    for name in (names[kept[1]["id"]], "originals/left"):
        held = storage.begin(name)
        await held.write(b"other")
        await held.finish()
    report = await checking.check(session, storage, checking.age(60, current_time()))
    assert report.unused == []
    report = await checking.check(session, storage, later)
    assert report.missing == [(kept[0]["id"], kept[0]["filename_disk"])]
    assert report.damaged == [(kept[1]["id"], kept[1]["filename_disk"])]
    assert (report.unused, report.deleted, report.faultless) == (["originals/left"], 0, False)
    report = await checking.check(session, storage, later, repair=True)
    assert (report.unused, report.deleted) == (["originals/left"], 1)
    assert await stored(client) == {names[kept[1]["id"]], names[kept[2]["id"]]}


@pytest_twisted.ensureDeferred
async def test_limited_tokens_upload_only_where_they_may_write_files(client: Client) -> None:
    async def token(**more: Any) -> str:
        answer = await client.post("~/users/me/tokens", {"name": str(more), **more})
        assert answer.status == 200, answer.body
        return str(answer.data["token"])

    file = (await upload(client, ("data", TEXT, "a.txt"))).data
    one = f"~/files/{file['id']}"
    for held, status in [
        (await token(collections=["directus_files"]), 200),
        (await token(collections=["directus_files"], read_only=True), 403),
        (await token(collections=["directus_folders"]), 403),
    ]:
        assert (await upload(client, ("data", TEXT, "b.txt"), token=held)).status == status
        assert (await client.post("~/files", {"data": "https://youtu.be/abcDEF12345"}, token=held)).status == status
        answer = await upload(client, ("data", TEXT, "b.txt"), method="PATCH", path=one, token=held)
        assert answer.status in ((200,) if status == 200 else (403, 404))
    assert client.backend.intake.running == 0


@pytest_twisted.ensureDeferred
async def test_everybody_sees_where_the_logo_of_a_project_is(client: Client) -> None:
    file = (await upload(client, ("data", picture("PNG"), "logo.png"))).data
    setting = (await client.get("~/settings?filter[key]=project_logo")).data[0]["id"]
    assert (await client.get("~/", token=None)).data["api"]["project_logo"] is None
    assert (await client.patch(f"~/settings/{setting}", {"value": file["id"]})).status == 200
    for token in (None, TOKEN):
        assert (await client.get("~/", token=token)).data["api"]["project_logo"] == file["data"]
    assert (await client.delete(f"~/files/{file['id']}")).status == 204
    assert (await client.get("~/", token=None)).data["api"]["project_logo"] is None
