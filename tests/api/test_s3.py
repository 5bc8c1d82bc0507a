"""Storages in buckets, against a server with the protocol of S3, with faults between them."""

import hashlib
import pathlib
import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit
from urllib.request import urlopen

import boto3
import pytest
import pytest_twisted
import trustme
from attrs import evolve
from botocore.config import Config
from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from directus_tx.config import StorageSettings
from directus_tx.errors import ServiceUnavailable, StorageFull
from directus_tx.files.storage import s3
from directus_tx.files.storage.adapters import check_table, storage_settings
from directus_tx.files.storage.interfaces import uploading
from directus_tx.files.storage.presigning import presigned_url
from directus_tx.files.storage.s3 import S3Storage
from directus_tx.files.storage.settings import S3Settings
from directus_tx.files.storage.testing import CHECKS, PIECE, content, got, names, put
from directus_tx.threads import Threads
from tests.api.test_storage import left
from tests.bucket import (
    BUCKET,
    KEY,
    REGION,
    SECRET,
    Bucket,
    Fault,
    Proxy,
    bucket,
    nothing,
    proxy,
    refuse,
    reset_at_once,
    reset_in_the_middle,
    slow_down,
)

LARGE = 2 * 5 * 2**20 + 12345
"""The bytes of a file of three parts."""


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts that are as small as S3 allows."""
    monkeypatch.setattr(s3, "PART", 5 * 2**20)


@pytest.fixture(scope="module")
def files() -> Iterator[Bucket]:
    with bucket() as found:
        yield found


@pytest.fixture
def between(files: Bucket) -> Iterator[Proxy]:
    with proxy(files.endpoint) as found:
        yield found


@pytest.fixture
def opened(files: Bucket, tmp_path: pathlib.Path) -> Iterator[Callable[..., S3Storage]]:
    """Opens a storage at an endpoint, by default the server itself."""
    pools = [Threads(reactor, name, "busy", threads=4, queue=64) for name in ("requests", "sending", "spooling")]
    for threads in pools:
        threads.start()

    def open_storage(endpoint: str = "", **more: Any) -> S3Storage:
        table = files.settings(endpoint, root=f"{tmp_path.name}/p", **more)
        settings = storage_settings("p", table, StorageSettings(), tmp_path)
        assert isinstance(settings, S3Settings)
        return S3Storage(settings, *pools)

    yield open_storage
    for threads in pools:
        threads.stop()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest_twisted.ensureDeferred
async def test_s3_storage(check: Any, opened: Callable[..., S3Storage], files: Bucket, tmp_path: pathlib.Path) -> None:
    await check(opened())
    assert files.unfinished() == []
    assert left(tmp_path) == []


@pytest_twisted.ensureDeferred
async def test_keys_begin_with_the_root_and_are_the_names(
    opened: Callable[..., S3Storage], files: Bucket, tmp_path: pathlib.Path
) -> None:
    storage = opened()
    for name in ("originals/a^b.txt", "写真/東京.jpg", "a.b..c"):
        await put(storage, name, b"x")
    files.client.put_object(Bucket=BUCKET, Key=f"{tmp_path.name}/p/not a name", Body=b"x")
    files.client.put_object(Bucket=BUCKET, Key=f"{tmp_path.name}/p2/other", Body=b"x")
    root = f"{tmp_path.name}/p/"
    found = [key.removeprefix(root) for key in files.objects() if key.startswith(root)]
    assert sorted(found) == sorted(["originals/a^b.txt", "写真/東京.jpg", "a.b..c", "not a name"])
    assert await names(storage) == sorted(["originals/a^b.txt", "写真/東京.jpg", "a.b..c"])


@pytest_twisted.ensureDeferred
async def test_large_files_are_sent_in_parts_and_small_ones_at_once(opened: Callable[..., S3Storage], between: Proxy) -> None:
    storage = opened(between.endpoint)
    await put(storage, "small", content(100_000))
    assert [each.method for each in between.asked] == ["PUT", "HEAD"]
    between.asked.clear()
    await put(storage, "large", content(LARGE))
    parts = [each for each in between.asked if "partNumber" in each.path]
    assert sorted(len(each.body) for each in parts) == [12345, 5 * 2**20, 5 * 2**20]
    between.asked.clear()
    assert await got(storage, "large", 5 * 2**20, 5 * 2**20 + 10) == content(LARGE)[5 * 2**20 : 5 * 2**20 + 10]
    assert [each.headers["range"] for each in between.asked] == [f"bytes={5 * 2**20}-{5 * 2**20 + 9}"]


@pytest_twisted.ensureDeferred
async def test_nothing_is_sent_before_an_upload_is_finished(opened: Callable[..., S3Storage], between: Proxy) -> None:
    storage = opened(between.endpoint)
    async with uploading(storage, "a") as upload:
        for _ in range(200):
            await upload.write(content(PIECE))
    assert between.asked == []


FAULTS: dict[str, Callable[[str], list[Fault]]] = {
    "slow down": lambda _: [slow_down],
    "slow down twice": lambda _: [slow_down, slow_down],
    "internal error": lambda _: [refuse(500, "InternalError")],
    "reset": lambda _: [reset_at_once],
    "reset in the middle": lambda target: [reset_in_the_middle(target)],
    "a later one": lambda target: [nothing, slow_down, nothing, reset_at_once],
}


@pytest.mark.parametrize("kind", FAULTS)
@pytest_twisted.ensureDeferred
async def test_faults_that_pass_are_not_noticed(
    kind: str, opened: Callable[..., S3Storage], files: Bucket, between: Proxy, tmp_path: pathlib.Path
) -> None:
    storage = opened(between.endpoint)
    data = content(LARGE)

    def fail() -> None:
        between.faults[:] = FAULTS[kind](files.endpoint)

    fail()
    await put(storage, "small", data[:1000])
    fail()
    await put(storage, "large", data)
    assert await got(opened(), "large") == data
    fail()
    assert await got(storage, "large", 3 * 2**20) == data[3 * 2**20 :]
    if kind != "reset in the middle":
        fail()
    assert await names(storage) == ["large", "small"]
    fail()
    assert (await storage.describe("small")).size == 1000
    fail()
    await storage.rename("small", "renamed")
    fail()
    await storage.delete("renamed")
    between.faults.clear()
    assert await names(storage) == ["large"]
    assert left(tmp_path) == []
    # Nobody can abort an upload whose identifier was lost with the answer.
    if kind != "reset in the middle":
        assert [key for key in files.unfinished() if key.startswith(tmp_path.name)] == []


REFUSALS = {
    "wrong checksum": (400, "BadDigest"),
    "wrong signature": (403, "SignatureDoesNotMatch"),
    "unknown key": (403, "InvalidAccessKeyId"),
    "no bucket": (404, "NoSuchBucket"),
}


@pytest.mark.parametrize("size", [1000, LARGE])
@pytest.mark.parametrize("kind", REFUSALS)
@pytest_twisted.ensureDeferred
async def test_an_upload_that_the_server_refuses_is_503_and_leaves_nothing(
    kind: str, size: int, opened: Callable[..., S3Storage], files: Bucket, between: Proxy, tmp_path: pathlib.Path
) -> None:
    storage = opened(between.endpoint)
    await put(storage, "a", b"kept")
    # Of a large file, the second part.
    between.faults[:] = [*([nothing, nothing] if size > 2**20 else []), refuse(*REFUSALS[kind])]
    with pytest.raises(ServiceUnavailable) as raised:
        await put(storage, "a", content(size))
    assert "127.0.0.1" not in str(raised.value)
    assert await got(storage, "a") == b"kept"
    assert [key for key in files.unfinished() if key.startswith(tmp_path.name)] == []
    assert left(tmp_path) == []


@pytest_twisted.ensureDeferred
async def test_a_server_without_room_is_507(opened: Callable[..., S3Storage], between: Proxy, monkeypatch: Any) -> None:
    monkeypatch.setattr(s3, "_RETRIES", {"max_retries": 0})
    storage = opened(between.endpoint)
    between.faults[:] = [refuse(507, "XMinioStorageFull")]
    with pytest.raises(StorageFull):
        await put(storage, "a", b"a")


@pytest_twisted.ensureDeferred
async def test_bytes_that_change_on_the_way_are_refused(
    opened: Callable[..., S3Storage], between: Proxy, tmp_path: pathlib.Path
) -> None:
    """The checksum of each part is signed, and the server compares it with what it gets."""
    storage = opened(between.endpoint)
    await put(storage, "large", content(LARGE))
    sent = [each for each in between.asked if each.method == "PUT"]
    assert len(sent) == 3
    for each in sent:
        headers = {name.lower(): value for name, value in each.headers.items()}
        assert headers["x-amz-content-sha256"] == hashlib.sha256(each.body).hexdigest()


@pytest_twisted.ensureDeferred
async def test_a_server_that_cannot_be_reached_is_503(opened: Callable[..., S3Storage], monkeypatch: Any) -> None:
    monkeypatch.setattr(s3, "_RETRIES", {"max_retries": 1})
    storage = opened("http://127.0.0.1:1")
    for work in (storage.describe("a"), got(storage, "a"), storage.delete("a"), put(storage, "a", b"a"), names(storage)):
        with pytest.raises(ServiceUnavailable) as raised:
            await work
        assert "127.0.0.1" not in str(raised.value)


@pytest_twisted.ensureDeferred
async def test_a_slow_reader_keeps_no_connection_open(opened: Callable[..., S3Storage], between: Proxy) -> None:
    storage = opened(between.endpoint)
    await put(storage, "a", content(LARGE))
    between.asked.clear()
    reading = storage.read("a")
    await anext(reading)
    assert [each.method for each in between.asked] == ["GET"]
    assert between.asked[0].headers["range"] == f"bytes=0-{s3.WINDOW - 1}"
    await reading.aclose()


@pytest_twisted.ensureDeferred
async def test_a_server_needs_a_certificate_of_an_authority_that_is_trusted(
    opened: Callable[..., S3Storage], files: Bucket, tmp_path: pathlib.Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(s3, "_RETRIES", {"max_retries": 0})
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    file = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(file))
    with proxy(files.endpoint, context) as encrypted:
        assert encrypted.endpoint.startswith("https://")
        storage = opened(encrypted.endpoint, ca_file=str(file))
        await put(storage, "a", content(100_000))
        assert await got(storage, "a") == content(100_000)
        asked = len(encrypted.asked)
        with pytest.raises(ServiceUnavailable):
            await got(opened(encrypted.endpoint), "a")
        assert len(encrypted.asked) == asked


@pytest_twisted.ensureDeferred
async def test_the_bucket_may_be_in_the_name_of_the_host(
    opened: Callable[..., S3Storage], between: Proxy, monkeypatch: Any
) -> None:
    """Seen by a proxy for HTTP, as names of hosts that do not exist have no addresses."""
    monkeypatch.setattr(s3, "_CLIENT", {"proxy_url": between.endpoint})
    between.faults[:] = [refuse(404, "NoSuchKey"), refuse(404, "NoSuchKey")]
    for addressing, base in (("virtual", f"http://{BUCKET}.s3.example.com"), ("path", f"http://s3.example.com/{BUCKET}")):
        storage = opened("http://s3.example.com", addressing=addressing)
        assert await storage.describe("a") is None
        assert between.asked.pop().path == f"{base}/{storage.settings.prefix}/a"


# signed URLs


@pytest.mark.parametrize("virtual", [False, True])
@pytest.mark.parametrize("name", ["a.txt", "originals/a^b.txt", "写真/東京.jpg", "a-b_c.d"])
def test_signed_urls_are_those_of_boto(name: str, virtual: bool, files: Bucket, tmp_path: pathlib.Path, monkeypatch: Any) -> None:
    addressing = "virtual" if virtual else "path"
    table = files.settings("https://s3.example.com:9000", addressing=addressing, root="root")
    settings = storage_settings("p", table, StorageSettings(), tmp_path)
    assert isinstance(settings, S3Settings)
    disposition = "attachment; filename*=UTF-8''b%20~.txt"
    now = datetime.now(UTC)
    ours = presigned_url(
        settings,
        f"root/{name}",
        now,
        60,
        {"response-content-type": "text/plain; charset=utf-8", "response-content-disposition": disposition},
    )
    import botocore.auth

    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda: now.replace(tzinfo=None))
    client = boto3.client(
        "s3",
        endpoint_url="https://s3.example.com:9000",
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
        region_name=REGION,
        config=Config(signature_version="s3v4", s3={"addressing_style": addressing}),
    )
    theirs = client.generate_presigned_url(
        "get_object",
        Params={
            "Bucket": BUCKET,
            "Key": f"root/{name}",
            "ResponseContentType": "text/plain; charset=utf-8",
            "ResponseContentDisposition": disposition,
        },
        ExpiresIn=60,
    )
    client.close()
    assert parse_qs(urlsplit(ours).query) == parse_qs(urlsplit(theirs).query)
    assert urlsplit(ours)[:3] == urlsplit(theirs)[:3]


@pytest_twisted.ensureDeferred
async def test_a_signed_url_can_be_read_by_anybody(opened: Callable[..., S3Storage]) -> None:
    storage = opened()
    await put(storage, "originals/a^b.txt", b"public")
    url = await storage.signed_url("originals/a^b.txt", 60, content_type="text/x-a", disposition='attachment; filename="b.txt"')
    assert url is not None

    def read() -> tuple[bytes, str, str]:
        with urlopen(url, timeout=10) as answer:
            return answer.read(), answer.headers["Content-Type"], answer.headers["Content-Disposition"]

    assert await deferToThread(read) == (b"public", "text/x-a", 'attachment; filename="b.txt"')


@pytest_twisted.ensureDeferred
async def test_credentials_of_the_machine_have_no_signed_urls(opened: Callable[..., S3Storage], monkeypatch: Any) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    storage = opened(key="", secret="")
    await put(storage, "a", b"a")
    assert await got(storage, "a") == b"a"
    assert await storage.signed_url("a", 60) is None


# settings


def test_the_base_of_the_addresses(tmp_path: pathlib.Path) -> None:
    def base(**table: str) -> str:
        found = storage_settings("p", {"adapter": "s3", "bucket": "b1", **table}, StorageSettings(), tmp_path)
        assert isinstance(found, S3Settings)
        return found.base

    assert base() == "https://b1.s3.us-east-1.amazonaws.com"
    assert base(region="eu-west-1") == "https://b1.s3.eu-west-1.amazonaws.com"
    assert base(endpoint="http://minio:9000/") == "http://minio:9000/b1"
    assert base(endpoint="http://minio:9000", addressing="virtual") == "http://b1.minio:9000"


def test_what_a_project_lacks_is_taken_from_the_server(tmp_path: pathlib.Path) -> None:
    server = StorageSettings(
        adapter="s3", bucket="all", root="files", endpoint="https://s3.example.com", region="r1", key="k", secret="s"
    )

    def of(table: dict[str, Any]) -> Any:
        return storage_settings("shop", table, server, tmp_path)

    found = of({})
    assert (found.bucket, found.prefix, found.base, found.key) == ("all", "files/shop", "https://s3.example.com/all", "k")
    assert of({"bucket": "own", "root": "x"}).prefix == "x"
    assert of({"bucket": "own"}).key == "k"
    other = of({"endpoint": "https://elsewhere.example.com"})
    assert (other.key, other.secret, other.region) == ("", "", "us-east-1"), "secrets are not sent to another server"
    local = of({"adapter": "local"})
    assert local.root == tmp_path / "storage" / "shop"
    assert storage_settings("shop", {}, StorageSettings(root="/srv/files"), tmp_path).root == pathlib.Path("/srv/files/shop")  # type: ignore[union-attr]


MISTAKES = [
    ({}, "storage.bucket must be the name of a bucket"),
    ({"bucket": "a/b"}, "storage.bucket must be the name of a bucket"),
    ({"bucket": "b1", "region": "a b"}, "storage.region must be the name of a region, like eu-central-1"),
    ({"bucket": "b1", "key": "k"}, "storage.key and storage.secret must both be set, or neither"),
    ({"bucket": "b1", "addressing": "host"}, "storage.addressing must be path or virtual"),
    ({"bucket": "b1", "root": "../x"}, "storage.root must be a prefix of letters, digits and _ - . ^ with slashes"),
    ({"bucket": "b1", "endpoint": "ftp://x"}, "storage.endpoint must be a URL like https://s3.example.com"),
    ({"bucket": "b1", "endpoint": "https://x/y"}, "storage.endpoint must be a URL like https://s3.example.com"),
    ({"bucket": "b1", "endpoint": "https://u:p@x"}, "storage.endpoint must be a URL like https://s3.example.com"),
    ({"bucket": "b1", "ca_file": "/missing"}, "storage.ca_file: [Errno 2] No such file or directory: '/missing'"),
    ({"bucket": 1}, "storage.bucket must be a text"),
]


@pytest.mark.parametrize(("table", "mistake"), MISTAKES)
def test_mistakes_are_named(table: dict[str, Any], mistake: str, tmp_path: pathlib.Path) -> None:
    with pytest.raises(ValueError, match="storage") as raised:
        storage_settings("p", {"adapter": "s3", **table}, StorageSettings(), tmp_path)
    assert str(raised.value) == mistake


@pytest.mark.parametrize("table", [{"endpoint": "http://10.0.0.1"}, {"ca_file": "/etc/passwd"}, {"root": "/etc"}])
def test_clients_of_the_api_choose_no_hosts_and_no_files_of_the_server(table: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="can be set in the project file only"):
        check_table({"adapter": "s3", "bucket": "b1", **table}, StorageSettings())


def test_secrets_are_not_shown(tmp_path: pathlib.Path, files: Bucket) -> None:
    assert SECRET not in repr(storage_settings("p", files.settings(), StorageSettings(), tmp_path))


@pytest_twisted.ensureDeferred
async def test_a_project_stores_its_files_in_a_bucket(client: Any, files: Bucket) -> None:
    projects = client.backend.projects
    config = projects.get(client.project).config
    projects.files.change(config, lambda found: evolve(found, storage=files.settings()))
    project = projects.get(client.project)
    assert project.storage.adapter == "s3"
    await put(project.storage, "originals/a.txt", b"a")
    assert f"{client.project}/originals/a.txt" in files.objects()
    await projects.delete(client.project)
    assert f"{client.project}/originals/a.txt" in files.objects()
