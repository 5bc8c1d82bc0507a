"""Small contents and thumbnails are read once and kept in memory: what they answer stays the same, and so does who may read them."""

import os
import pathlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_twisted
from attrs import evolve
from twisted.web.client import ResponseFailed

from directus_tx.files.small import SMALL, SmallContents
from directus_tx.files.storage.local import LocalStorage
from tests.api.test_assets import asset, put_picture
from tests.api.test_files import deliver_removals, rows, upload
from tests.api.test_private_assets import make_private, make_user, set_permission
from tests.conftest import Client

CONTENT = bytes(range(256)) * 40


class Reads(list[str]):
    """The names that are read from storages and asked for."""


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    found = Reads()
    read, describe = LocalStorage.read, LocalStorage.describe

    def reading(storage: LocalStorage, name: str, *arguments: Any, **options: Any) -> AsyncIterator[bytes]:
        found.append(name)
        return read(storage, name, *arguments, **options)

    async def describing(storage: LocalStorage, name: str) -> Any:
        found.append(name)
        return await describe(storage, name)

    monkeypatch.setattr(LocalStorage, "read", reading)
    monkeypatch.setattr(LocalStorage, "describe", describing)
    return found


async def put(client: Client, content: bytes = CONTENT, name: str = "a.bin", **options: Any) -> Any:
    answer = await upload(client, ("data", content, name), **options)
    assert answer.status == 200, answer.body
    return answer.data


def path_of(client: Client, name: str) -> pathlib.Path:
    """The path of a content in the local storage."""
    (found,) = [each for each in client.backend.data_dir.rglob(os.path.basename(name)) if each.is_file()]
    return found


async def path_of_content(client: Client, file: Any) -> pathlib.Path:
    ((name,),) = await rows(client, f"SELECT name FROM directus_file_contents WHERE file = {file['id']}")
    return path_of(client, name)


@pytest_twisted.ensureDeferred
async def test_a_small_content_is_read_from_the_storage_once(client: Client, reads: Reads) -> None:
    file = await put(client)
    url, by_hash = file["data"]["url"], f"~/assets/{file['private_hash']}"
    reads.clear()
    for _ in range(3):
        for address in (url, by_hash):
            answer = await client.get(address, token=None)
            assert (answer.status, answer.body) == (200, CONTENT)
    assert len(reads) == 1
    first = await client.get(url, token=None)
    asked = {"If-None-Match": first.headers["etag"]}
    assert (await client.get(url, token=None, headers=asked)).status == 304
    for text, status, body in (
        ("bytes=0-9", 206, CONTENT[:10]),
        ("bytes=-7", 206, CONTENT[-7:]),
        ("bytes=100-", 206, CONTENT[100:]),
        (f"bytes={len(CONTENT)}-", 416, b""),
        ("bytes=0-1,5-6", 200, CONTENT),
    ):
        answer = await client.get(url, token=None, headers={"Range": text})
        assert (answer.status, answer.body) == (status, body), text
    head = await client.call("HEAD", url, token=None)
    kept = ("etag", "content-type", "cache-control", "accept-ranges", "content-disposition", "last-modified")
    assert head.body == b""
    assert {name: head.headers[name] for name in kept} == {name: first.headers[name] for name in kept}
    assert len(reads) == 1


@pytest_twisted.ensureDeferred
async def test_a_head_request_reads_nothing(client: Client, reads: Reads) -> None:
    for size in (len(CONTENT), SMALL + 1):
        file = await put(client, b"x" * size)
        reads.clear()
        answer = await client.call("HEAD", file["data"]["url"], token=None)
        assert (answer.status, answer.headers["accept-ranges"], answer.body) == (200, "bytes", b"")
        assert reads == []


@pytest_twisted.ensureDeferred
async def test_a_content_is_not_compressed(client: Client) -> None:
    """Its entity tag is a strong one, which stands for these bytes, and a part of it is a part of these bytes."""
    for size in (5000, SMALL + 1):
        file = await put(client, b"text " * (size // 5), "a.txt")
        answer = await client.get(file["data"]["url"], token=None, headers={"Accept-Encoding": "gzip"})
        assert answer.body == b"text " * (size // 5)
        assert "content-encoding" not in answer.headers
        # So caches keep one answer for all clients.
        assert "Accept-Encoding" not in answer.headers.get("vary", "")


@pytest_twisted.ensureDeferred
async def test_a_thumbnail_that_is_in_memory_is_not_looked_for(client: Client, reads: Reads) -> None:
    file = await put_picture(client)
    first = await asset(client, file)
    assert first.status == 200
    await asset(client, file)
    reads.clear()
    for headers, status, body in (({}, 200, first.body), ({"Range": "bytes=1-5"}, 206, first.body[1:6])):
        answer = await asset(client, file, headers=headers)
        assert (answer.status, answer.body, answer.headers["etag"]) == (status, body, first.headers["etag"])
    assert reads == []
    # The thumbnail of another content is another one.
    assert (await upload(client, ("data", CONTENT, "a.bin"), method="PATCH", path=f"~/files/{file['id']}")).status == 200
    assert (await asset(client, file)).status == 422


@pytest_twisted.ensureDeferred
async def test_new_and_deleted_contents_are_not_taken_from_memory(client: Client) -> None:
    file = await put(client)
    url, by_hash = file["data"]["url"], f"~/assets/{file['private_hash']}"
    assert (await client.get(by_hash, token=None)).body == CONTENT
    await put(client, CONTENT[::-1], method="PATCH", path=f"~/files/{file['id']}")
    assert (await client.get(by_hash, token=None)).body == CONTENT[::-1]
    await deliver_removals(client)
    assert (await client.get(by_hash, token=None)).body == CONTENT[::-1]
    assert (await client.delete(f"~/files/{file['id']}")).status == 204
    for address in (url, by_hash):
        assert (await client.get(address, token=None)).status == 404


@pytest_twisted.ensureDeferred
async def test_adopted_contents_that_are_replaced_on_disk_are_not_taken_from_memory(client: Client) -> None:
    file = await put(client)
    await rows(client, "DELETE FROM directus_file_contents RETURNING file")
    directory = pathlib.Path(client.backend.projects.get(client.project).storage.root) / "originals"
    place = directory / file["filename_disk"]
    for content in (b"one", b"two and more", b"ten"):
        new = directory / "new"
        new.write_bytes(content)
        new.replace(place)
        for _ in range(2):
            answer = await client.get(file["data"]["url"], token=None)
            assert (answer.status, answer.body) == (200, content)
    place.unlink()
    assert (await client.get(file["data"]["url"], token=None)).status == 404


@pytest_twisted.ensureDeferred
async def test_what_is_in_memory_stays_private(client: Client) -> None:
    await make_private(client)
    await make_user(client, "reader", read="full")
    user = await make_user(client, "stranger", read="mine")
    file, other = await put_picture(client), await put(client)
    addresses = [file["data"]["url"], f"~/assets/{file['private_hash']}?key=directus-small-crop", other["data"]["url"]]
    for _ in range(2):
        for address in addresses:
            answers = {token: await client.get(address, token=token) for token in ("reader", "stranger", None)}
            assert [each.status for each in answers.values()] == [200, 404, 401]
            assert answers["reader"].headers["cache-control"] == "private, no-cache"
    await set_permission(client, user["role"], read="full")
    assert {(await client.get(each, token="stranger")).status for each in addresses} == {200}
    await set_permission(client, user["role"], read="none")
    assert {(await client.get(each, token="stranger")).status for each in addresses} <= {403, 404}


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("size", [len(CONTENT), SMALL + 1])
async def test_a_content_that_is_missing_is_not_found(client: Client, size: int) -> None:
    file = await put(client, b"x" * size)
    (await path_of_content(client, file)).unlink()
    answer = await client.get(file["data"]["url"], token=None)
    assert (answer.status, answer.code) == (404, 1)


@pytest_twisted.ensureDeferred
async def test_a_content_of_which_bytes_are_missing_is_not_sent(client: Client) -> None:
    small, large = await put(client), await put(client, b"x" * 300_000)
    for each in (small, large):
        os.truncate(await path_of_content(client, each), 5000)
    answer = await client.get(small["data"]["url"], token=None)
    assert (answer.status, answer.code) == (503, 16)
    # The rest of this answer would be that of the next request.
    with pytest.raises(ResponseFailed):
        await client.get(large["data"]["url"], token=None)
    assert (await client.get("~/files")).status == 200


@pytest_twisted.ensureDeferred
async def test_nothing_is_kept_without_memory_for_it(client: Client, reads: Reads) -> None:
    services = client.app.services
    client.app.services = evolve(services, small=SmallContents(0))
    file = await put(client)
    reads.clear()
    for _ in range(3):
        assert (await client.get(file["data"]["url"], token=None)).body == CONTENT
    assert len(reads) == 3


@pytest_twisted.ensureDeferred
async def test_the_memory_is_bounded_and_shared_between_projects(client: Client, reads: Reads) -> None:
    small = SmallContents(100_000)
    client.app.services = evolve(client.app.services, small=small)
    files = [await put(client, bytes([number]) * 5000) for number in range(40)]
    for file in files:
        assert (await client.get(file["data"]["url"], token=None)).status == 200
    assert 50_000 < small._kept.weight <= 100_000
    # Contents that are too large for the memory are read each time.
    large = await put(client, b"x" * 20_000)
    reads.clear()
    for _ in range(2):
        assert (await client.get(large["data"]["url"], token=None)).body == b"x" * 20_000
    assert len(reads) == 2
