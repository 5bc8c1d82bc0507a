"""Files that clients send to the storage themselves, before the server makes files of them."""

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.error import HTTPError
from urllib.parse import parse_qs, urlsplit
from urllib.request import Request, urlopen

import botocore.auth
import pytest
import pytest_twisted
from attrs import evolve
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from twisted.internet import defer
from twisted.internet.threads import deferToThread

from directus_tx.config import StorageSettings
from directus_tx.context import current_time
from directus_tx.db.session import Session
from directus_tx.files import checking
from directus_tx.files.storage.adapters import storage_settings
from directus_tx.files.storage.presigning import presigned_upload
from directus_tx.files.storage.settings import S3Settings
from directus_tx.jobs.presigned import remove_expired
from tests.api.test_files import limit_size, picture, rows, stored
from tests.api.test_private_assets import make_user, set_permission, told
from tests.api.test_quota import limit, refused
from tests.api.test_redirects import use_bucket
from tests.api.test_sharing import pass_time
from tests.bucket import BUCKET, KEY, REGION, SECRET, Bucket, bucket
from tests.conftest import Client, Reply

PICTURE = picture("PNG", (300, 200))
PRESIGNED = "presigned/"


@pytest.fixture(scope="module")
def files() -> Iterator[Bucket]:
    with bucket() as found:
        yield found


async def presign(client: Client, content: bytes = PICTURE, name: str = "a picture.png", **more: Any) -> Reply:
    token = more.pop("bearer", "admin-static-token")
    return await client.post("~/files/presign", {"filename_download": name, "filesize": len(content), **more}, token=token)


async def send(answer: Reply, content: bytes) -> int:
    """Sends a file to the storage as the answer says, and returns the status."""
    data = answer.data

    def put() -> int:
        request = Request(data["url"], content, data["headers"], method=data["method"])
        try:
            with urlopen(request, timeout=30) as done:
                return int(done.status)
        except HTTPError as error:
            return error.code

    return await deferToThread(put)


async def complete(client: Client, answer: Reply, token: str | None = "admin-static-token", **more: Any) -> Reply:
    return await client.post("~/files/complete", {"token": answer.data["token"], **more}, token=token)


async def uploaded(client: Client) -> list[str]:
    return [name for name in await stored(client) if name.startswith(PRESIGNED)]


@pytest_twisted.ensureDeferred
async def test_a_file_that_the_client_has_sent_to_the_bucket_is_like_any_other(client: Client, files: Bucket) -> None:
    use_bucket(client, files)
    digest = hashlib.sha256(PICTURE).hexdigest()
    answer = await presign(client, type="image/png", sha256=digest.upper())
    assert (answer.status, answer.headers["cache-control"]) == (200, "no-store")
    assert set(answer.data) == {"method", "url", "headers", "expires_on", "token"}
    assert answer.data["method"] == "PUT"
    assert answer.data["headers"]["content-type"] == "image/png"
    assert await send(answer, PICTURE) == 200
    made = await complete(client, answer, title="Mine", tags=["a"])
    assert made.status == 200, made.body
    file = made.data
    assert (file["title"], file["tags"], file["filename_download"]) == ("Mine", ["a"], "a picture.png")
    assert (file["type"], file["filesize"], file["width"], file["height"]) == ("image/png", len(PICTURE), 300, 200)
    assert (file["checksum"], file["storage"]) == (hashlib.md5(PICTURE).hexdigest(), "s3")
    assert (await client.get(file["data"]["url"], token=None)).body == PICTURE
    assert (await client.get(f"~/assets/{file['private_hash']}?key=directus-small-crop", token=None)).status == 200
    assert await rows(client, "SELECT sha256 FROM directus_file_contents") == [(digest,)]
    assert await uploaded(client) == []
    # What the client sends later has no effect on the file, and is removed in time.
    assert await send(answer, PICTURE[::-1]) == 200
    assert (await client.get(file["data"]["url"], token=None)).body == PICTURE
    again = await complete(client, answer)
    assert (again.status, again.code) == (404, 203)
    assert len(await uploaded(client)) == 1
    assert await remove_expired(client.app.reactor, client.backend.projects, lambda: current_time() + timedelta(days=2)) == {
        client.project: 1
    }
    assert await uploaded(client) == []
    assert await rows(client, "SELECT count(*) FROM directus_presigned_uploads") == [(0,)]
    assert (await client.get(file["data"]["url"], token=None)).body == PICTURE


@pytest_twisted.ensureDeferred
async def test_the_content_that_was_sent_must_be_the_one_that_was_announced(client: Client, files: Bucket) -> None:
    use_bucket(client, files)
    (setting,) = (await client.get("~/settings?filter[key]=file_mimetype_whitelist")).data
    await client.patch(f"~/settings/{setting['id']}", {"value": "image/png"})
    announced = await presign(client, sha256=hashlib.sha256(PICTURE).hexdigest())
    plain = await presign(client)
    early = await complete(client, announced)
    assert (early.status, early.code) == (422, 4)
    for answer, content, named in ((announced, PICTURE + b"x", "filesize"), (announced, PICTURE[:-1], "filesize")):
        await send(answer, content)
        answered = await complete(client, answer)
        assert (answered.status, answered.code) == (422, 4)
        assert named in answered.json["error"]["message"]
    changed = PICTURE[:-1] + bytes([PICTURE[-1] ^ 1])
    await send(announced, changed)
    answered = await complete(client, announced)
    assert (answered.status, answered.code) == (422, 4)
    assert "sha256" in answered.json["error"]["message"]
    for content in (b"<!DOCTYPE html><script>alert(1)</script>".ljust(len(PICTURE)), b"%PDF-1.4\n".ljust(len(PICTURE))):
        await send(plain, content)
        answered = await complete(client, plain)
        assert (answered.status, answered.code) == (422, 4)
        assert "file_mimetype_whitelist" in answered.json["error"]["message"]
    assert (await client.get("~/files")).data == []
    assert {name.partition("/")[0] for name in await stored(client)} == {"presigned"}
    assert client.backend.intake.running == 0
    # After a refusal the right content can be sent with the same URL.
    await send(announced, PICTURE)
    assert (await complete(client, announced)).status == 200


@pytest_twisted.ensureDeferred
async def test_attributes_are_refused_before_the_bytes_are_read(client: Client, files: Bucket) -> None:
    use_bucket(client, files)
    answer = await presign(client)
    for wrong, named in (({"title": "x" * 300}, "title"), ({"nope": 1}, "nope"), ({}, "has not been sent")):
        answered = await complete(client, answer, **wrong)
        assert answered.status == 422
        assert named in answered.json["error"]["message"]


@pytest_twisted.ensureDeferred
async def test_a_refused_file_can_be_completed_with_other_attributes(client: Client, files: Bucket) -> None:
    use_bucket(client, files)
    answer = await presign(client)
    await send(answer, PICTURE)
    for wrong in ({"title": "x" * 300}, {"nope": 1}, {"folder": "x"}, {"filename_download": ""}):
        answered = await complete(client, answer, **wrong)
        assert answered.status in (403, 422), wrong
        assert [name for name in await stored(client) if not name.startswith(PRESIGNED)] == []
    made = await complete(client, answer, filename_download="other.txt", filename_disk="x.exe", private_hash="known")
    assert made.status == 200
    assert (made.data["type"], made.data["filename_download"]) == ("image/png", "other.txt")
    assert made.data["private_hash"] != "known"


@pytest_twisted.ensureDeferred
async def test_only_the_user_who_has_begun_completes_and_only_once(client: Client, files: Bucket) -> None:
    use_bucket(client, files)
    wanda = await make_user(client, "wanda", create="full", read="mine")
    await make_user(client, "other", create="full", read="full")
    await make_user(client, "nobody", read="full")
    answer = await presign(client, bearer="wanda")
    assert await send(answer, PICTURE) == 200
    unknown = evolve(answer, body=answer.body.replace(b'"token":"v1.', b'"token":"v1.x'))
    refusals = [await complete(client, answer, "other"), await complete(client, answer), await complete(client, unknown, "wanda")]
    assert {told(each) for each in refusals} == {told(refusals[0])}
    assert (refusals[0].status, refusals[0].code) == (404, 203)
    assert (await complete(client, answer, None)).status == 401
    for token, expected in ((None, 401), ("nobody", 403)):
        assert (await presign(client, bearer=token)).status == expected
    for wrong in (None, "", 1, ["a"], {}):
        answered = await client.post("~/files/complete", {"token": wrong}, token="wanda")
        assert (answered.status, answered.code) == (422, 4)
    # The permission counts when the file is made.
    await set_permission(client, wanda["role"], read="mine")
    assert (await complete(client, answer, "wanda")).status == 403
    await set_permission(client, wanda["role"], create="full", read="mine")
    answers = await defer.gatherResults([defer.Deferred.fromCoroutine(complete(client, answer, "wanda")) for _ in range(4)])
    assert [each.status for each in answers].count(200) == 1
    assert {each.status for each in answers} <= {200, 404, 422}
    assert [each["uploaded_by"] for each in (await client.get("~/files")).data] == [wanda["id"]]
    assert len([name for name in await stored(client) if not name.startswith(PRESIGNED)]) == 1
    assert client.backend.intake.running == 0


@pytest_twisted.ensureDeferred
async def test_an_upload_expires(client: Client, files: Bucket) -> None:
    use_bucket(client, files)
    answer = await presign(client)
    await send(answer, PICTURE)
    kept = await presign(client)
    pass_time(client, hours=24)
    await send(kept, PICTURE)
    # A client that has begun in time may need longer than the URL holds.
    assert (await complete(client, kept)).status == 200
    pass_time(client, hours=2)
    late = await complete(client, answer)
    assert (late.status, late.code) == (404, 203)


@pytest_twisted.ensureDeferred
async def test_the_number_of_uploads_of_a_user_is_limited(client: Client, files: Bucket) -> None:
    use_bucket(client, files)
    services = client.app.services
    settings = evolve(services.settings.files, max_presigned=3)
    client.app.services = evolve(services, settings=evolve(services.settings, files=settings))
    await make_user(client, "wanda", create="full", read="mine")
    begun = await defer.gatherResults([defer.Deferred.fromCoroutine(presign(client, bearer="wanda")) for _ in range(8)])
    assert sorted(each.status for each in begun) == [200] * 3 + [429] * 5
    assert "files.max_presigned" in next(each for each in begun if each.status == 429).json["error"]["message"]
    assert (await presign(client)).status == 200
    first = next(each for each in begun if each.status == 200)
    await send(first, PICTURE)
    assert (await complete(client, first, "wanda")).status == 200
    assert (await presign(client, bearer="wanda")).status == 200


@pytest_twisted.ensureDeferred
async def test_uploads_count_for_the_quota_from_their_beginning(client: Client, files: Bucket) -> None:
    use_bucket(client, files)
    limit(client, 2 * len(PICTURE) + 10)
    first, second, third = await defer.gatherResults([defer.Deferred.fromCoroutine(presign(client)) for _ in range(3)])
    assert sorted(each.status for each in (first, second, third)) == [200, 200, 413]
    assert refused(next(each for each in (first, second, third) if each.status == 413))
    begun = [each for each in (first, second, third) if each.status == 200]
    for each in begun:
        await send(each, PICTURE)
        assert (await complete(client, each)).status == 200
    assert refused(await presign(client, content=bytes(11)))
    assert (await presign(client, content=bytes(10))).status == 200
    (file, _) = (await client.get("~/files")).data
    assert (await client.delete(f"~/files/{file['id']}")).status == 204
    assert (await presign(client)).status == 200


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ({}, (422, 4)),
        ([], (422, 12)),
        *(({"filename_download": each}, (422, 4)) for each in (None, 1, "", "..", "a/", "a\0", "x" * 256)),
        *(({"filesize": each}, (422, 4)) for each in (None, 0, -1, "1", 1.5, True)),
        ({"filesize": 10_001}, (413, 601)),
        *(({"type": each}, (422, 4)) for each in ("image", "a b/c", "a/b\r\nX: y", 1, "a/" + "b" * 101)),
        ({"type": "text/html"}, (422, 4)),
        *(({"sha256": each}, (422, 4)) for each in ("", "0" * 63, "g" * 64, 1, "０" * 64)),
        ({"title": "x"}, (422, 4)),
        ({"filename_download": "C:\\files\\ä.png", "type": None}, (200, 0)),
    ],
)
async def test_what_is_wrong_in_the_payload_is_refused(
    client: Client, files: Bucket, payload: Any, expected: tuple[int, int]
) -> None:
    use_bucket(client, files)
    limit_size(client, 10_000)
    (setting,) = (await client.get("~/settings?filter[key]=file_mimetype_whitelist")).data
    await client.patch(f"~/settings/{setting['id']}", {"value": "image/*"})
    good = {"filename_download": "a.png", "filesize": 10_000}
    answer = await client.post(
        "~/files/presign", payload if not isinstance(payload, dict) or not payload else {**good, **payload}
    )
    assert (answer.status, answer.code if answer.status >= 400 else 0) == expected, answer.body
    if expected[0] >= 400:
        assert await rows(client, "SELECT count(*) FROM directus_presigned_uploads") == [(0,)]


@pytest_twisted.ensureDeferred
async def test_a_disk_takes_no_files_from_clients(client: Client) -> None:
    answer = await presign(client)
    assert (answer.status, answer.code) == (400, 15)
    assert "POST /files" in answer.json["error"]["message"]


@pytest_twisted.ensureDeferred
async def test_what_nobody_knows_any_more_is_found_by_the_command(client: Client, files: Bucket) -> None:
    use_bucket(client, files)
    answer, other = await presign(client), await presign(client)
    await send(answer, PICTURE)
    await send(other, PICTURE)
    project = client.backend.projects.get(client.project)
    session = Session(project.database)
    ((kept,), (lost,)) = await rows(client, "SELECT name FROM directus_presigned_uploads ORDER BY created_on, id")
    await session.query("DELETE FROM directus_presigned_uploads WHERE name = %s", (lost,))
    later = current_time() + timedelta(minutes=1)
    report = await checking.check(session, project.storage, later)
    assert (report.unused, report.faultless) == ([lost], False)
    report = await checking.check(session, project.storage, later, repair=True)
    assert (report.unused, report.deleted) == ([lost], 1)
    assert await uploaded(client) == [kept]


@pytest.mark.parametrize("sha256", [None, hashlib.sha256(b"x").hexdigest()])
@pytest.mark.parametrize("virtual", [False, True])
def test_requests_are_signed_like_those_of_boto(virtual: bool, sha256: str | None, files: Bucket, tmp_path: Any) -> None:
    """The same request, signed by botocore, has the same signature."""
    table = files.settings(
        "https://s3.example.com:9000", addressing="virtual" if virtual else "path", root="root", bucket=BUCKET, region=REGION
    )
    settings = storage_settings("p", table, StorageSettings(), tmp_path)
    assert isinstance(settings, S3Settings)
    now = datetime.now(UTC)
    headers = {"content-type": "image/png", "content-length": "12345"}
    if sha256 is not None:
        headers["x-amz-checksum-sha256"] = sha256
    ours = presigned_upload(settings, "root/presigned/abc", now, 60, headers)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.auth, "get_current_datetime", lambda: now.replace(tzinfo=None))
        request = AWSRequest("PUT", f"{settings.base}/root/presigned/abc", headers=headers)
        botocore.auth.S3SigV4QueryAuth(Credentials(KEY, SECRET), "s3", REGION, expires=60).add_auth(request)
    assert parse_qs(urlsplit(ours).query) == parse_qs(urlsplit(request.url).query)
    assert urlsplit(ours)[:3] == urlsplit(request.url)[:3]
