"""Large files are sent by the storage: answers redirect to a signed URL of the bucket."""

from collections.abc import Iterator
from typing import Any
from urllib.error import HTTPError
from urllib.parse import parse_qs, urlsplit
from urllib.request import Request, urlopen

import pytest
import pytest_twisted
from attrs import evolve
from twisted.internet.threads import deferToThread

from tests.api.test_files import upload
from tests.api.test_private_assets import make_private, make_user
from tests.api.test_sharing import shared
from tests.bucket import Bucket, bucket
from tests.conftest import Client

LARGE = bytes(range(256)) * 40
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="30" height="20"><!--' + b"x" * 10_000 + b"--></svg>"


@pytest.fixture(scope="module")
def files() -> Iterator[Bucket]:
    with bucket() as found:
        yield found


def use_bucket(client: Client, files: Bucket) -> None:
    """Has the project store its files in a bucket."""
    projects = client.backend.projects
    projects.files.change(projects.get(client.project).config, lambda found: evolve(found, storage=files.settings()))


def redirect_from(client: Client, size: int, seconds: int = 300) -> None:
    services = client.app.services
    settings = evolve(services.settings.files, redirect_size=size, redirect_seconds=seconds)
    client.app.services = evolve(services, settings=evolve(services.settings, files=settings))


async def fetch(url: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """What a client gets that knows nothing but the URL."""

    def read() -> tuple[int, dict[str, str], bytes]:
        try:
            with urlopen(Request(url, headers=headers), timeout=30) as answer:
                return answer.status, {name.lower(): value for name, value in answer.headers.items()}, answer.read()
        except HTTPError as error:
            return error.code, {}, error.read()

    return await deferToThread(read)


@pytest_twisted.ensureDeferred
async def test_large_files_are_sent_by_the_bucket(client: Client, files: Bucket) -> None:
    use_bucket(client, files)
    redirect_from(client, len(LARGE), seconds=77)
    file = (await upload(client, ("data", LARGE, "é large.bin"))).data
    small = (await upload(client, ("data", LARGE[:-1], "small.bin"))).data
    for address in (file["data"]["url"], file["data"]["asset_url"]):
        answer = await client.get(address, token=None)
        assert (answer.status, answer.body, answer.headers["cache-control"]) == (307, b"", "no-store")
        url = answer.headers["location"]
        query = parse_qs(urlsplit(url).query)
        assert url.startswith(files.endpoint)
        assert query["X-Amz-Expires"] == ["77"]
        status, headers, body = await fetch(url)
        assert (status, body, headers["content-type"]) == (200, LARGE, "application/octet-stream")
        assert headers["content-disposition"] == (await client.call("HEAD", address, token=None)).headers["content-disposition"]
        assert headers["content-disposition"].startswith("attachment;")
        # A part is asked for at the same URL.
        part = await client.get(address, token=None, headers={"Range": "bytes=5-9"})
        assert part.status == 307
        status, headers, body = await fetch(part.headers["location"], Range="bytes=5-9")
        assert (status, body) == (206, LARGE[5:10])
    head = await client.call("HEAD", file["data"]["url"], token=None)
    assert (head.status, head.headers["content-length"]) == (200, str(len(LARGE)))
    same = await client.get(file["data"]["url"], token=None, headers={"If-None-Match": head.headers["etag"]})
    assert same.status == 304
    assert (await client.get(small["data"]["url"], token=None)).body == LARGE[:-1]
    redirect_from(client, 0)
    assert (await client.get(file["data"]["url"], token=None)).body == LARGE


@pytest_twisted.ensureDeferred
async def test_only_what_is_harmless_without_a_policy_is_sent_by_the_bucket(client: Client, files: Bucket) -> None:
    use_bucket(client, files)
    redirect_from(client, 1)
    for name, content, shown in (
        ("a.html", b"<script>alert(1)</script>", "attachment"),
        ("a.xml", b"<a/>", "attachment"),
        ("a.js", b"alert(1)", "inline"),  # as plain text
        ("a.txt", b"<script>", "inline"),
        ("a.pdf", b"%PDF-1.4\n", "inline"),
        ("a.mp4", b"\0\0\0\x18ftypmp42", "inline"),
    ):
        file = (await upload(client, ("data", content, name))).data
        direct = await client.call("HEAD", file["data"]["url"], token=None)
        answer = await client.get(file["data"]["url"], token=None)
        assert answer.status == 307, name
        _, headers, body = await fetch(answer.headers["location"])
        assert body == content
        assert headers["content-type"] == direct.headers["content-type"]
        assert headers["content-disposition"] == direct.headers["content-disposition"]
        assert headers["content-disposition"].startswith(shown)
    svg = (await upload(client, ("data", SVG, "a.svg"))).data
    answer = await client.get(svg["data"]["url"], token=None)
    assert (answer.status, answer.body) == (200, SVG)
    assert "sandbox" in answer.headers["content-security-policy"]
    named = await client.get(await shared(client, svg, filename_download="b.svg"), token=None)
    _, headers, _ = await fetch(named.headers["location"])
    assert headers["content-disposition"] == 'attachment; filename="b.svg"'


@pytest_twisted.ensureDeferred
async def test_private_files_are_checked_before_the_redirect(client: Client, files: Bucket) -> None:
    use_bucket(client, files)
    redirect_from(client, 1)
    await make_private(client)
    await make_user(client, "reader", read="full")
    await make_user(client, "nobody")
    file = (await upload(client, ("data", LARGE, "a.bin"))).data
    for token, status in (("reader", 307), ("nobody", 404), (None, 401)):
        answer = await client.get(file["data"]["url"], token=token)
        assert answer.status == status
        assert ("location" in answer.headers) == (status == 307)
        assert answer.headers["cache-control"] == "no-store"
    address = await shared(client, file, seconds=20)
    answer = await client.get(address, token=None)
    (lasts,) = parse_qs(urlsplit(answer.headers["location"]).query)["X-Amz-Expires"]
    assert 0 < int(lasts) <= 20


@pytest_twisted.ensureDeferred
async def test_a_disk_and_a_bucket_without_a_key_redirect_nowhere(client: Client, files: Bucket) -> None:
    redirect_from(client, 1)
    file: Any = (await upload(client, ("data", LARGE, "a.bin"))).data
    assert (await client.get(file["data"]["url"], token=None)).body == LARGE


@pytest_twisted.ensureDeferred
async def test_the_address_in_the_bucket_is_not_valid_for_longer_than_the_token(client: Client, files: Bucket) -> None:
    use_bucket(client, files)
    redirect_from(client, len(LARGE), seconds=3600)
    file = (await upload(client, ("data", LARGE, "large.bin"))).data
    jwt = (await client.post("~/auth/authenticate", {"email": "admin@example.com", "password": "password"}, token=None)).data[
        "token"
    ]

    async def seconds(address: str, token: str | None) -> int:
        answer = await client.get(address, token=token)
        (found,) = parse_qs(urlsplit(answer.headers["location"]).query)["X-Amz-Expires"]
        return int(found)

    for address in (file["data"]["url"], file["data"]["asset_url"]):
        # Nobody needs a token there.
        assert [await seconds(address, token) for token in (None, jwt)] == [3600, 3600]
    await make_private(client)
    for address in (file["data"]["url"], file["data"]["asset_url"]):
        assert await seconds(address, "admin-static-token") == 3600
        assert 19 * 60 < await seconds(address, jwt) <= 20 * 60
