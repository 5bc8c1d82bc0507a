"""Uploads by the tus protocol: its headers and errors, who may do what, and what is left when something fails."""

import base64
import hashlib
import socket
from datetime import timedelta
from typing import Any

import pytest
import pytest_twisted
from attrs import evolve
from twisted.internet import defer, reactor
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from directus_tx.context import current_time
from directus_tx.db.session import Session
from directus_tx.errors import ServiceUnavailable, StorageFull
from directus_tx.files import checking, resumable, uploads
from directus_tx.files.storage.local import LocalStorage
from directus_tx.jobs.uploads import remove_expired
from directus_tx.projects.files import ProjectConfig
from tests.api.test_files import picture, rows, stored, until
from tests.bucket import bucket
from tests.conftest import SUPER_ADMIN_TOKEN, Client, Reply

TUS = {"Tus-Resumable": "1.0.0"}
BYTES = "application/offset+octet-stream"
DATA = bytes(range(256)) * 40


def metadata(**values: str) -> str:
    return ",".join(f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in values.items())


async def begin(client: Client, size: int | None, *, path: str = "~/files/tus", token: Any = ..., **values: str) -> Reply:
    values = {"filename": "a note.bin", **values} if "name" not in values else values
    length = {"Upload-Defer-Length": "1"} if size is None else {"Upload-Length": str(size)}
    sent = {"Upload-Metadata": metadata(**values)}
    options = {} if token is ... else {"token": token}
    return await client.call("POST", path, headers={**TUS, **length, **sent}, **options)


async def created(client: Client, size: int | None, **values: Any) -> str:
    """The path of a new upload."""
    answer = await begin(client, size, **values)
    assert (answer.status, answer.body) == (201, b""), answer.body
    assert answer.headers["tus-resumable"] == "1.0.0"
    return f"~/files/{answer.headers['location']}"


async def send(client: Client, path: str, offset: int, data: bytes, *, token: Any = ..., **more: str) -> Reply:
    sent = {**TUS, "Upload-Offset": str(offset), "Content-Type": BYTES, **{n.replace("_", "-"): v for n, v in more.items()}}
    options = {} if token is ... else {"token": token}
    return await client.call("PATCH", path, data, headers=sent, **options)


async def head(client: Client, path: str, **options: Any) -> Reply:
    return await client.call("HEAD", path, headers=TUS, **options)


async def offset(client: Client, path: str) -> int:
    answer = await head(client, path)
    assert answer.status == 200
    return int(answer.headers["upload-offset"])


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> int:
    """Uploads have parts of a few bytes."""
    monkeypatch.setattr(resumable, "PART", 1000)
    return 1000


@pytest_twisted.ensureDeferred
async def test_an_upload_in_several_requests_becomes_a_file_like_others(client: Client, small_parts: int) -> None:
    path = await created(client, len(DATA), title="Mine", filetype="text/html")
    assert (await head(client, path)).headers["upload-offset"] == "0"
    position = 0
    for length in (1, 999, 1000, 2500, 0, 1700):
        answer = await send(client, path, position, DATA[position : position + length])
        position += length
        assert (answer.status, answer.headers["upload-offset"]) == (204, str(position)), answer.body
        assert "upload-expires" in answer.headers
        found = await head(client, path)
        assert (found.headers["upload-offset"], found.headers["upload-length"]) == (str(position), str(len(DATA)))
        assert found.headers["upload-metadata"] == metadata(filename="a note.bin", title="Mine", filetype="text/html")
        assert found.headers["cache-control"] == "no-store"
    assert (await client.get("~/files")).data == []
    answer = await send(client, path, position, DATA[position:])
    assert (answer.status, answer.headers["upload-offset"]) == (204, str(len(DATA)))
    key = answer.headers["x-directus-file"]
    assert answer.headers["content-location"] == f"../{key}"
    file = (await client.get(f"~/files/{key}")).data
    assert (file["title"], file["filename_download"], file["filesize"]) == ("Mine", "a note.bin", len(DATA))
    assert (file["type"], file["uploaded_by"]) == ("application/octet-stream", 1)
    assert file["checksum"] == hashlib.md5(DATA).hexdigest()
    assert await rows(client, "SELECT sha256 FROM directus_file_contents") == [(hashlib.sha256(DATA).hexdigest(),)]
    assert (await client.get(file["data"]["url"], token=None)).body == DATA
    # The parts are gone; the upload can still be asked for, by a client that has not got the answer.
    assert len(await stored(client)) == 1
    assert await rows(client, "SELECT count(*) FROM directus_upload_parts") == [(0,)]
    found = await head(client, path)
    assert (found.headers["upload-offset"], found.headers["x-directus-file"]) == (str(len(DATA)), key)
    assert client.backend.intake.running == 0


@pytest_twisted.ensureDeferred
async def test_the_attributes_and_the_content_of_a_picture_are_found_out(client: Client) -> None:
    data = picture("PNG", (31, 17))
    path = await created(client, len(data), name="Old harbour.png", description="At dawn", type="image/png")
    key = (await send(client, path, 0, data)).headers["x-directus-file"]
    file = (await client.get(f"~/files/{key}")).data
    assert (file["width"], file["height"], file["type"]) == (31, 17, "image/png")
    assert (file["title"], file["description"], file["filename_download"]) == ("Old Harbour", "At dawn", "Old harbour.png")
    actions = (await client.get("~/activity?filter[collection]=directus_files&fields=action,item")).data
    assert actions == [{"action": "upload", "item": key}]


@pytest_twisted.ensureDeferred
async def test_options_tell_what_the_server_can_do_to_pages_of_other_origins(client: Client) -> None:
    for path in ("~/files/tus", "~/files/tus/", "~/files/tus/abc"):
        answer = await client.call("OPTIONS", path, token=None, headers={"Origin": "https://a.example"})
        assert answer.status == 200
        assert (answer.headers["tus-version"], answer.headers["tus-resumable"]) == ("1.0.0", "1.0.0")
        assert set(answer.headers["tus-extension"].split(",")) == {
            *("creation", "creation-with-upload", "creation-defer-length", "termination", "expiration", "checksum")
        }
        assert answer.headers["tus-max-size"] == str(client.app.services.settings.files.max_size)
        assert "sha1" in answer.headers["tus-checksum-algorithm"].split(",")
        allowed = answer.headers["access-control-allow-headers"].lower().split(",")
        assert {"tus-resumable", "upload-length", "upload-metadata", "upload-offset", "upload-checksum"} <= set(allowed)
        assert {"PATCH", "HEAD", "DELETE"} <= set(answer.headers["access-control-allow-methods"].split(","))
    answer = await client.call("OPTIONS", "~/files", token=None, headers={"Origin": "https://a.example"})
    assert "tus-version" not in answer.headers
    assert "Upload-Offset" not in answer.headers["access-control-allow-headers"]
    path = await created(client, 3)
    answer = await client.call("HEAD", path, headers={**TUS, "Origin": "https://a.example"})
    shown = set(answer.headers["access-control-expose-headers"].split(","))
    assert {"Upload-Offset", "Upload-Length", "Location", "Tus-Resumable", "Upload-Expires", "X-Directus-File"} <= shown
    answer = await client.call("GET", "~/files", headers={"Origin": "https://a.example"})
    assert "Upload-Offset" not in answer.headers["access-control-expose-headers"]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("slash", ["", "/"])
async def test_a_request_can_begin_an_upload_with_its_first_or_all_bytes(client: Client, slash: str) -> None:
    for data, location in ((DATA[:100], True), (DATA, False)):
        sent = {**TUS, "Upload-Length": str(len(DATA)), "Upload-Metadata": metadata(filename="a.bin"), "Content-Type": BYTES}
        answer = await client.call("POST", f"~/files/tus{slash}", data, headers=sent)
        assert (answer.status, answer.headers["upload-offset"]) == (201, str(len(data)))
        path = f"~/files/{'tus/' if slash else ''}{answer.headers['location']}"
        assert await offset(client, path) == len(data)
        if location:
            answer = await send(client, path, 100, DATA[100:])
            assert answer.headers["content-location"] == f"../{answer.headers['x-directus-file']}"
        else:
            assert answer.headers["content-location"] == ("../" if slash else "") + answer.headers["x-directus-file"]
    for file in (await client.get("~/files")).data:
        assert file["checksum"] == hashlib.md5(DATA).hexdigest()


@pytest_twisted.ensureDeferred
async def test_the_size_can_be_told_later(client: Client, small_parts: int) -> None:
    for late in (False, True):
        path = await created(client, None)
        found = await head(client, path)
        assert (found.headers["upload-defer-length"], "upload-length" in found.headers) == ("1", False)
        assert (await send(client, path, 0, DATA[:3000])).status == 204
        if late:
            # All bytes are there, and count, before the size is known.
            assert (await send(client, path, 3000, DATA[3000:])).status == 204
            assert await offset(client, path) == len(DATA)
            answer = await send(client, path, len(DATA), b"", Upload_Length=str(len(DATA)))
        else:
            answer = await send(client, path, 3000, DATA[3000:5000], Upload_Length=str(len(DATA)))
            assert (await head(client, path)).headers["upload-length"] == str(len(DATA))
            other = await send(client, path, 5000, DATA[5000:], Upload_Length=str(len(DATA) + 1))
            assert (other.status, other.code) == (400, 15)
            answer = await send(client, path, 5000, DATA[5000:])
        assert answer.status == 204, answer.body
        file = (await client.get(f"~/files/{answer.headers['x-directus-file']}")).data
        assert file["checksum"] == hashlib.md5(DATA).hexdigest()
    path = await created(client, None)
    assert (await send(client, path, 0, DATA[:3000])).status == 204
    answer = await send(client, path, 3000, b"", Upload_Length="2999")
    assert (answer.status, answer.code) == (400, 15)


@pytest_twisted.ensureDeferred
async def test_a_method_can_be_overridden(client: Client) -> None:
    path = await created(client, len(DATA))
    sent = {**TUS, "Upload-Offset": "0", "Content-Type": BYTES, "X-HTTP-Method-Override": "PATCH"}
    answer = await client.call("POST", path, DATA[:500], headers=sent)
    assert (answer.status, answer.headers["upload-offset"]) == (204, "500")
    answer = await client.call("POST", path, headers={**TUS, "X-HTTP-Method-Override": "HEAD"})
    assert answer.headers["upload-offset"] == "500"
    answer = await client.call("POST", path, headers={**TUS, "X-HTTP-Method-Override": "DELETE"})
    assert answer.status == 204
    assert (await head(client, path)).status == 404


@pytest_twisted.ensureDeferred
async def test_requests_that_break_the_protocol_change_nothing(client: Client, small_parts: int) -> None:
    path = await created(client, 5000)
    assert (await send(client, path, 0, DATA[:1500])).status == 204
    good = {**TUS, "Upload-Offset": "1500", "Content-Type": BYTES}

    def without(name: str, **more: str) -> dict[str, str]:
        return {n: v for n, v in {**good, **more}.items() if n != name}

    cases: list[tuple[dict[str, str], bytes, int, int]] = [
        (without("Tus-Resumable"), DATA[:10], 412, 606),
        ({**good, "Tus-Resumable": "0.2.2"}, DATA[:10], 412, 606),
        (without("Upload-Offset"), DATA[:10], 400, 15),
        ({**good, "Upload-Offset": "-1"}, DATA[:10], 400, 15),
        ({**good, "Upload-Offset": "1500.0"}, DATA[:10], 400, 15),
        ({**good, "Upload-Offset": "9" * 30}, DATA[:10], 400, 15),
        ({**good, "Upload-Offset": "1499"}, DATA[:10], 409, 603),
        ({**good, "Upload-Offset": "1501"}, DATA[:10], 409, 603),
        ({**good, "Content-Type": "application/octet-stream"}, DATA[:10], 415, 607),
        ({**good, "Content-Type": "multipart/form-data; boundary=x"}, DATA[:10], 415, 607),
        ({**good, "Content-Type": "application/json"}, b"{}", 415, 607),
        (good, DATA[:3501], 413, 601),
        (good, DATA * 100, 413, 601),
        ({**good, "Upload-Checksum": f"sha1 {base64.b64encode(hashlib.sha1(b'x').digest()).decode()}"}, DATA[:10], 460, 604),
        ({**good, "Upload-Checksum": "sha1 "}, DATA[:2500], 460, 604),
        ({**good, "Upload-Checksum": "sha1 %%%"}, DATA[:10], 400, 15),
        ({**good, "Upload-Checksum": "crc32 AAAA"}, DATA[:10], 400, 15),
    ]
    for sent, body, status, code in cases:
        answer = await client.call("PATCH", path, body, headers=sent)
        assert (answer.status, answer.code) == (status, code), (sent, answer.body)
        assert answer.headers["tus-resumable"] == "1.0.0"
        if status == 412:
            assert answer.headers["tus-version"] == "1.0.0"
        assert await offset(client, path) == 1500
    assert sorted(await rows(client, "SELECT start, size FROM directus_upload_parts")) == [(0, 1000), (1000, 500)]
    assert len(await stored(client)) == 2
    assert client.backend.intake.running == 0
    for algorithm in ("sha1", "md5", "sha256", "sha512"):
        position = await offset(client, path)
        data = DATA[position : position + 700]
        digest = base64.b64encode(hashlib.new(algorithm, data).digest()).decode()
        assert (await send(client, path, position, data, Upload_Checksum=f"{algorithm} {digest}")).status == 204
    key = (await send(client, path, 4300, DATA[4300:5000])).headers["x-directus-file"]
    file = (await client.get(f"~/files/{key}")).data
    assert file["checksum"] == hashlib.md5(DATA[:5000]).hexdigest()


@pytest_twisted.ensureDeferred
async def test_uploads_that_cannot_begin_leave_nothing(client: Client) -> None:
    named = {"Upload-Metadata": metadata(filename="a.bin")}
    most = client.app.services.settings.files.max_size
    cases: list[tuple[dict[str, str], int, int]] = [
        ({"Upload-Length": "5", **named}, 412, 606),
        ({**TUS, **named}, 400, 15),
        ({**TUS, "Upload-Length": "5", "Upload-Defer-Length": "1", **named}, 400, 15),
        ({**TUS, "Upload-Defer-Length": "2", **named}, 400, 15),
        ({**TUS, "Upload-Length": "-5", **named}, 400, 15),
        ({**TUS, "Upload-Length": "five", **named}, 400, 15),
        ({**TUS, "Upload-Length": "0", **named}, 422, 4),
        ({**TUS, "Upload-Length": str(most + 1), **named}, 413, 601),
        ({**TUS, "Upload-Length": "5"}, 422, 4),
        ({**TUS, "Upload-Length": "5", "Upload-Metadata": "filename %%"}, 400, 15),
        ({**TUS, "Upload-Length": "5", "Upload-Metadata": "filename /w=="}, 400, 15),
        ({**TUS, "Upload-Length": "5", "Upload-Metadata": "filename YQ==,filename YQ=="}, 400, 15),
        ({**TUS, "Upload-Length": "5", "Upload-Metadata": ",,"}, 400, 15),
        ({**TUS, "Upload-Length": "5", "Upload-Metadata": "a b c"}, 400, 15),
        ({**TUS, "Upload-Length": "5", "Upload-Metadata": metadata(filename="..")}, 422, 4),
        ({**TUS, "Upload-Length": "5", "Upload-Metadata": metadata(filename="a\0b")}, 422, 4),
        ({**TUS, "Upload-Length": "5", "Upload-Metadata": metadata(filename="a.bin", nope="1")}, 422, 12),
        ({**TUS, "Upload-Length": "5", "Upload-Metadata": metadata(filename="a.bin", folder="x")}, 422, 4),
        ({**TUS, "Upload-Length": "5", "Upload-Metadata": metadata(filename="a.bin", title="x" * 300)}, 422, 12),
    ]
    for sent, status, code in cases:
        answer = await client.call("POST", "~/files/tus", headers=sent)
        assert (answer.status, answer.code) == (status, code), (sent, answer.body)
        assert answer.headers["tus-resumable"] == "1.0.0"
    # A request with bytes that are refused leaves no upload that its client does not know.
    begun = {**TUS, "Upload-Length": "5", **named}
    for sent, body, status in (
        ({**begun, "Content-Type": "text/plain"}, b"12345", 415),
        ({**begun, "Content-Type": BYTES}, b"123456", 413),
        ({**begun, "Content-Type": BYTES, "Upload-Checksum": "sha1 AAAA"}, b"12345", 460),
    ):
        answer = await client.call("POST", "~/files/tus", body, headers=sent)
        assert answer.status == status, answer.body
    assert await rows(client, "SELECT count(*) FROM directus_uploads") == [(0,)]
    assert await stored(client) == set()


@pytest_twisted.ensureDeferred
async def test_a_deleted_upload_is_gone_and_a_file_made_of_one_stays(client: Client, small_parts: int) -> None:
    path = await created(client, len(DATA))
    assert (await send(client, path, 0, DATA[:2500])).status == 204
    assert (await client.call("DELETE", path)).status == 412
    assert (await client.call("DELETE", path, headers=TUS)).status == 204
    for answer in (await head(client, path), await client.call("DELETE", path, headers=TUS)):
        assert answer.status == 404
    answer = await send(client, path, 2500, DATA[2500:])
    assert (answer.status, answer.code) == (404, 1)
    assert await stored(client) == set()
    assert await rows(client, "SELECT (SELECT count(*) FROM directus_uploads), (SELECT count(*) FROM directus_upload_parts)") == [
        (0, 0)
    ]
    path = await created(client, 10)
    key = (await send(client, path, 0, DATA[:10])).headers["x-directus-file"]
    assert (await client.call("DELETE", path, headers=TUS)).status == 204
    assert (await client.get(f"~/files/{key}")).data["filesize"] == 10


async def user(client: Client, number: int, create: str = "none") -> str:
    """The token of a user whose role, of its own, may create files or not."""
    role = (await client.post("~/roles", {"name": f"Role {number}"})).data["id"]
    await allow(client, role, create)
    token = f"token-of-user-{number}"
    answer = await client.post(
        "~/users",
        {"email": f"u{number}@example.com", "password": "secret", "role": role, "status": "active", "token": token},
    )
    assert answer.status == 200, answer.body
    return token


async def allow(client: Client, role: int, create: str) -> None:
    """Says whether a role may create files."""
    wanted = f"filter[role]={role}&filter[collection]=directus_files"
    (permission,) = (await client.get(f"~/permissions?{wanted}")).data
    assert (await client.patch(f"~/permissions/{permission['id']}", {"create": create})).status == 200


@pytest_twisted.ensureDeferred
async def test_an_upload_belongs_to_its_creator_who_may_create_files(client: Client) -> None:
    one, two, none = await user(client, 1, "full"), await user(client, 2, "full"), await user(client, 3)
    for token in (none, None):
        answer = await begin(client, 10, token=token)
        assert answer.status in (401, 403), answer.body
    path = await created(client, 10, token=one)
    for token in (two, none, None, "admin-static-token"):
        for answer in (
            await head(client, path, token=token),
            await send(client, path, 0, DATA[:5], token=token),
            await client.call("DELETE", path, headers=TUS, token=token),
        ):
            # Whoever may not create files is told so, whether there is such an upload or not.
            assert answer.status == 404 or (token in (none, None) and answer.status in (401, 403)), (token, answer.body)
    assert (await send(client, path, 0, DATA[:5], token=one)).status == 204
    # What the role may do counts again when the file is made.
    await allow(client, 3, "none")
    answer = await send(client, path, 5, DATA[5:10], token=one)
    assert (answer.status, answer.code) == (403, 10)
    assert (await client.get("~/files")).data == []
    await allow(client, 3, "full")
    answer = await send(client, path, 5, DATA[5:10], token=one)
    assert answer.status == 204, answer.body
    file = (await client.get(f"~/files/{answer.headers['x-directus-file']}?fields=uploaded_by.email")).data
    assert file["uploaded_by"]["email"] == "u1@example.com"


@pytest_twisted.ensureDeferred
async def test_an_upload_of_the_public_belongs_to_whoever_knows_its_name(client: Client) -> None:
    await client.post("~/permissions", {"collection": "directus_files", "role": 2, "create": "full"})
    path = await created(client, 10, token=None)
    assert (await head(client, path)).status == 404
    answer = await send(client, path, 0, DATA[:10], token=None)
    assert answer.status == 204, answer.body
    assert (await client.get("~/files")).data[0]["uploaded_by"] is None
    ((id,),) = await rows(client, "SELECT id FROM directus_uploads")
    assert id not in path
    assert path.rpartition("/")[2] not in id


@pytest_twisted.ensureDeferred
async def test_the_type_of_the_content_is_checked_by_its_first_bytes(client: Client) -> None:
    ((number,),) = await rows(client, "SELECT id FROM directus_settings WHERE key = 'file_mimetype_whitelist'")
    assert (await client.patch(f"~/settings/{number}", {"value": "image/*"})).status == 200
    page = b"<!doctype html><script>alert(1)</script>" + b" " * 20_000
    path = await created(client, len(page) + 10, filename="a.png", filetype="image/png")
    answer = await send(client, path, 0, page)
    assert (answer.status, answer.code) == (422, 4), answer.body
    assert (await head(client, path)).status == 404
    # A short one is refused when it is complete.
    path = await created(client, 40, filename="a.png")
    assert (await send(client, path, 0, page[:20])).status == 204
    answer = await send(client, path, 20, page[20:40])
    assert (answer.status, answer.code) == (422, 4)
    assert (await head(client, path)).status == 404
    assert await stored(client) == set()
    data = picture("PNG")
    path = await created(client, len(data), filename="a.png")
    assert (await send(client, path, 0, data)).status == 204
    assert client.backend.intake.running == 0


@pytest_twisted.ensureDeferred
async def test_what_the_database_refuses_when_the_file_is_made_ends_the_upload(client: Client) -> None:
    path = await created(client, 10, title="Refused")
    await rows(client, "ALTER TABLE directus_files ADD CONSTRAINT no_such_title CHECK (title <> 'Refused')")
    answer = await send(client, path, 0, DATA[:10])
    assert answer.status == 422, answer.body
    assert (await head(client, path)).status == 404
    assert await stored(client) == set()
    assert (await client.get("~/files")).data == []


@pytest_twisted.ensureDeferred
async def test_a_file_that_cannot_be_made_now_can_be_made_later(
    client: Client, small_parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = await created(client, 2500)
    assert (await send(client, path, 0, DATA[:1800])).status == 204
    begin_upload = LocalStorage.begin
    for error in (ServiceUnavailable(), StorageFull()):

        def refuse(self: LocalStorage, name: str, error: Exception = error) -> Any:
            if name.startswith("originals/"):
                raise error
            return begin_upload(self, name)

        monkeypatch.setattr(LocalStorage, "begin", refuse)
        answer = await send(client, path, 1800, DATA[1800:2500])
        assert answer.status == error.status
        # The last bytes only count together with the file.
        assert await offset(client, path) == 1800
        assert len(await stored(client)) == 2
    monkeypatch.setattr(LocalStorage, "begin", begin_upload)
    answer = await send(client, path, 1800, DATA[1800:2500])
    assert answer.status == 204, answer.body
    assert (await client.get("~/files")).data[0]["checksum"] == hashlib.md5(DATA[:2500]).hexdigest()
    assert client.backend.intake.running == 0


@pytest_twisted.ensureDeferred
async def test_a_full_storage_loses_what_it_has_not_stored_only(
    client: Client, small_parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = await created(client, 5000)
    number = 0
    begin_upload = LocalStorage.begin

    def refuse(self: LocalStorage, name: str) -> Any:
        nonlocal number
        number += 1
        if number == 3:
            raise StorageFull
        return begin_upload(self, name)

    monkeypatch.setattr(LocalStorage, "begin", refuse)
    answer = await send(client, path, 0, DATA[:5000])
    assert (answer.status, answer.code) == (507, 602)
    assert await offset(client, path) == 2000
    assert len(await stored(client)) == 2
    answer = await send(client, path, 2000, DATA[2000:5000])
    assert answer.status == 204, answer.body
    assert (await client.get("~/files")).data[0]["checksum"] == hashlib.md5(DATA[:5000]).hexdigest()


def connection(client: Client) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(client.base.rpartition(":")[2])), timeout=10)


def patch_head(client: Client, path: str, offset: int, length: int, **more: str) -> bytes:
    lines = [f"PATCH {path.replace('~', '/' + client.project)} HTTP/1.1", "Host: x", "Authorization: bearer admin-static-token"]
    lines += [f"Content-Type: {BYTES}", f"Content-Length: {length}", "Tus-Resumable: 1.0.0", f"Upload-Offset: {offset}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in more.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


async def until_offset(client: Client, number: int) -> None:
    """Waits until so many bytes of the only upload count, up to a minute."""
    for _ in range(1200):
        if await rows(client, 'SELECT "offset" FROM directus_uploads') == [(number,)]:
            return
        await deferLater(reactor, 0.05)  # type: ignore[arg-type]
    raise AssertionError("the bytes do not count")


@pytest_twisted.ensureDeferred
async def test_what_has_arrived_when_a_client_disconnects_counts(client: Client, small_parts: int) -> None:
    intake = client.backend.intake
    path = await created(client, 9000)
    sent = await deferToThread(connection, client)
    await deferToThread(sent.sendall, patch_head(client, path, 0, 9000) + DATA[:2300])
    await until(lambda: intake.running == 1)
    sent.close()
    await until(lambda: intake.running == 0)
    position = await offset(client, path)
    # The kernel may have kept the last bytes from the server.
    assert position <= 2300
    assert position >= 2000 or position == 2300
    # With a checksum, all bytes of a request count, or none.
    sent = await deferToThread(connection, client)
    head_of_it = patch_head(client, path, position, 9000 - position, Upload_Checksum="sha1 AAAA")
    await deferToThread(sent.sendall, head_of_it + DATA[position : position + 3000])
    await until(lambda: intake.running == 1)
    sent.close()
    await until(lambda: intake.running == 0)
    assert await offset(client, path) == position
    assert (await send(client, path, position, DATA[position:9000])).status == 204
    assert (await client.get("~/files")).data[0]["checksum"] == hashlib.md5(DATA[:9000]).hexdigest()


@pytest_twisted.ensureDeferred
async def test_the_newest_request_continues_an_upload_and_the_former_one_is_refused(client: Client, small_parts: int) -> None:
    intake = client.backend.intake
    path = await created(client, 9000)
    first = await deferToThread(connection, client)
    await deferToThread(first.sendall, patch_head(client, path, 0, 9000) + DATA[:2500])
    await until_offset(client, 2000)
    assert (await send(client, path, 2000, DATA[2000:4000])).status == 204
    await deferToThread(first.sendall, DATA[2500:9000])
    answer = await deferToThread(first.recv, 100)
    assert answer.startswith(b"HTTP/1.1 409 ")
    first.close()
    await until(lambda: intake.running == 0)
    assert await offset(client, path) == 4000
    assert (await send(client, path, 4000, DATA[4000:9000])).status == 204
    (file,) = (await client.get("~/files")).data
    assert file["checksum"] == hashlib.md5(DATA[:9000]).hexdigest()
    assert len(await stored(client)) == 1


@pytest_twisted.ensureDeferred
async def test_of_many_requests_with_the_last_bytes_one_makes_the_file(client: Client, small_parts: int) -> None:
    path = await created(client, 3000)
    assert (await send(client, path, 0, DATA[:1500])).status == 204
    answers = await defer.gatherResults(
        [defer.Deferred.fromCoroutine(send(client, path, 1500, DATA[1500:3000])) for _ in range(8)]
    )
    statuses = sorted(answer.status for answer in answers)
    assert set(statuses) <= {204, 409, 423}
    assert statuses.count(204) == 1
    (file,) = (await client.get("~/files")).data
    assert file["checksum"] == hashlib.md5(DATA[:3000]).hexdigest()
    assert await offset(client, path) == 3000
    assert len(await stored(client)) == 1
    assert client.backend.intake.running == 0


@pytest_twisted.ensureDeferred
async def test_an_upload_of_which_the_file_is_being_made_is_locked(
    client: Client, small_parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = await created(client, 3000)
    reading: defer.Deferred[None] = defer.Deferred()
    go_on: defer.Deferred[None] = defer.Deferred()
    read = LocalStorage.read

    async def slow(self: LocalStorage, *arguments: Any, **more: Any) -> Any:
        if not reading.called:
            reading.callback(None)
            await go_on
        async for piece in read(self, *arguments, **more):
            yield piece

    monkeypatch.setattr(LocalStorage, "read", slow)
    first = defer.Deferred.fromCoroutine(send(client, path, 0, DATA[:3000]))
    await reading
    answer = await send(client, path, 2000, DATA[2000:3000])
    assert (answer.status, answer.code) == (423, 608)
    assert await offset(client, path) == 2000
    go_on.callback(None)
    assert (await first).status == 204
    assert (await client.get("~/files")).data[0]["checksum"] == hashlib.md5(DATA[:3000]).hexdigest()


@pytest_twisted.ensureDeferred
async def test_expired_uploads_are_answered_with_410_and_removed(client: Client, small_parts: int) -> None:
    settings = client.app.services.settings
    path = await created(client, 3000)
    assert (await send(client, path, 0, DATA[:1500])).status == 204
    made = await created(client, 10)
    assert (await send(client, made, 0, DATA[:10])).status == 204
    later = current_time() + timedelta(seconds=settings.files.upload_lifetime - 60)
    assert (await remove_expired(client.app.reactor, client.backend.projects, lambda: later))[client.project] == 0
    await Session(client.backend.projects.get(client.project).database).query(
        "UPDATE directus_uploads SET expires_on = expires_on - interval '10 days'"
    )
    for answer in (await send(client, path, 1500, DATA[1500:3000]), await client.call("DELETE", path, headers=TUS)):
        assert (answer.status, answer.code) == (410, 605)
    assert (await head(client, path)).status == 410
    # What a process that was killed has stored last is not in the table.
    storage = client.backend.projects.get(client.project).storage
    upload = storage.begin(uploads.part_name(uploads.id_of(path.rpartition("/")[2])))
    await upload.write(b"lost")
    await upload.finish()
    assert (await remove_expired(client.app.reactor, client.backend.projects))[client.project] == 2
    assert (await head(client, path)).status == 404
    assert len(await stored(client)) == 1
    assert await rows(client, "SELECT count(*) FROM directus_upload_parts") == [(0,)]
    assert len((await client.get("~/files")).data) == 1


@pytest_twisted.ensureDeferred
async def test_the_parts_of_an_upload_and_the_uploads_of_a_user_are_limited(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "FEW_PARTS", 3)
    path = await created(client, 100)
    for position in range(3):
        assert (await send(client, path, position, b"x")).status == 204
    answer = await send(client, path, 3, b"x")
    assert (answer.status, answer.code) == (400, 15)
    monkeypatch.undo()
    services = client.app.services
    files = evolve(services.settings.files, max_unfinished=2)
    client.app.services = evolve(services, settings=evolve(services.settings, files=files))
    await created(client, 100)
    answer = await begin(client, 100)
    assert (answer.status, answer.code) == (429, 7)
    assert "files.max_unfinished" in answer.json["error"]["message"]
    assert (await client.call("DELETE", path, headers=TUS)).status == 204
    # The requests have different connections to the database.
    session = Session(client.backend.projects.get(client.project).database)
    await defer.gatherResults([defer.Deferred.fromCoroutine(session.query("SELECT pg_sleep(0.2)")) for _ in range(12)])
    answers = await defer.gatherResults([defer.Deferred.fromCoroutine(begin(client, 100)) for _ in range(12)])
    assert sorted(each.status for each in answers) == [201, *[429] * 11]


@pytest_twisted.ensureDeferred
async def test_the_check_knows_unfinished_uploads(client: Client, small_parts: int) -> None:
    project = client.backend.projects.get(client.project)
    session, storage = Session(project.database), project.storage
    later = current_time() + timedelta(minutes=5)
    whole, broken = await created(client, 5000), await created(client, 5000)
    for path in (whole, broken):
        assert (await send(client, path, 0, DATA[:2500])).status == 204
    report = await checking.check(session, storage, later, repair=True)
    assert (report.uploads, report.incomplete, report.unused, report.faultless) == (2, [], [], True)
    lost = storage.begin(uploads.part_name("0" * 64))
    await lost.write(b"lost")
    name = (await lost.finish()).name
    assert (await checking.check(session, storage, current_time() - timedelta(minutes=5))).unused == []
    assert (await checking.check(session, storage, later)).unused == [name]
    assert (await checking.check(session, storage, later, repair=True)).deleted == 1
    ((part,),) = await rows(
        client,
        f"SELECT name FROM directus_upload_parts WHERE upload = '{uploads.id_of(broken.rpartition('/')[2])}' AND start = 1000",
    )
    await storage.delete(part)
    report = await checking.check(session, storage, later, repair=True)
    assert (report.uploads, report.incomplete) == (2, [uploads.id_of(broken.rpartition("/")[2])])
    assert (report.deleted, report.faultless) == (0, False)
    assert (await client.call("DELETE", broken, headers=TUS)).status == 204
    assert (await send(client, whole, 2500, DATA[2500:5000])).status == 204
    report = await checking.check(session, storage, later)
    assert (report.uploads, report.contents, report.faultless) == (0, 1, True)


@pytest_twisted.ensureDeferred
async def test_a_part_that_the_storage_has_lost_ends_the_upload(client: Client, small_parts: int) -> None:
    path = await created(client, 3000)
    assert (await send(client, path, 0, DATA[:2000])).status == 204
    storage = client.backend.projects.get(client.project).storage
    ((name,),) = await rows(client, "SELECT name FROM directus_upload_parts WHERE start = 1000")
    await storage.delete(name)
    answer = await send(client, path, 2000, DATA[2000:3000])
    assert (answer.status, answer.code) == (422, 4)
    assert (await head(client, path)).status == 404
    assert await stored(client) == set()


@pytest_twisted.ensureDeferred
async def test_nothing_of_an_upload_to_a_bucket_stays_when_it_is_finished_deleted_or_expired(
    client: Client, small_parts: int
) -> None:
    with bucket() as files:
        answer = await client.post(
            "/server/projects",
            {
                "project": "bucket",
                "super_admin_token": SUPER_ADMIN_TOKEN,
                "user_email": "admin@example.com",
                "user_password": "password",
                "user_token": "admin-static-token",
            },
            token=None,
        )
        assert answer.status == 200, answer.body
        project = client.backend.projects.get("bucket")
        directory = client.backend.projects.files

        def in_bucket(config: ProjectConfig) -> ProjectConfig:
            return evolve(config, storage=files.settings())

        directory.change(project.config, in_bucket)
        client.project = "bucket"
        finished, deleted, expired = [await created(client, 3000) for _ in range(3)]
        for path in (finished, deleted, expired):
            assert (await send(client, path, 0, DATA[:2500])).status == 204
        assert len(files.objects()) == 9
        assert (await client.call("DELETE", deleted, headers=TUS)).status == 204
        assert len(files.objects()) == 6
        answer = await send(client, finished, 2500, DATA[2500:3000])
        assert answer.status == 204, answer.body
        later = current_time() + timedelta(days=2)
        assert (await remove_expired(client.app.reactor, client.backend.projects, lambda: later))["bucket"] == 2
        (name,) = files.objects()
        assert "/originals/" in name
        assert files.unfinished() == []
        (file,) = (await client.get("~/files")).data
        assert (file["storage"], file["checksum"]) == ("s3", hashlib.md5(DATA[:3000]).hexdigest())
