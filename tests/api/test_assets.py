"""Thumbnails of files: which sizes are allowed, that each is made once and deleted with its content, and what happens under load."""

import io
import json
import pathlib
import struct
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_twisted
from attrs import evolve
from PIL import Image
from twisted.internet import defer, reactor

from directus_tx.db.session import Session
from directus_tx.errors import ServiceUnavailable
from directus_tx.files import checking
from directus_tx.files import thumbnails as module
from directus_tx.files.decoding import Decoder
from directus_tx.files.storage.interfaces import uploading
from directus_tx.files.thumbnails import Thumbnails
from tests.api.test_files import deliver_removals, picture, rows, stored, until, upload
from tests.conftest import TOKEN, Client, Reply

SMALL = "key=directus-small-crop"


async def asset(client: Client, file: Any, query: str = SMALL, **options: Any) -> Reply:
    path = f"~/assets/{file['private_hash']}"
    return await client.get(f"{path}?{query}" if query else path, **{"token": None, **options})


async def put_picture(client: Client, format: str = "PNG", size: tuple[int, int] = (30, 20), name: str = "") -> Any:
    answer = await upload(client, ("data", picture(format, size), name or f"picture.{format.lower()}"))
    assert answer.status == 200, answer.body
    return answer.data


async def set_setting(client: Client, key: str, value: Any) -> None:
    (setting,) = (await client.get(f"~/settings?filter[key]={key}")).data
    assert (await client.patch(f"~/settings/{setting['id']}", {"value": value})).status == 200


async def made(client: Client) -> set[str]:
    """The names of the thumbnails in the storage."""
    return {name for name in await stored(client) if not name.startswith("originals/")}


def limit(client: Client, **limits: Any) -> Thumbnails:
    thumbnails = client.backend.thumbnails
    thumbnails.settings = evolve(thumbnails.settings, **limits)
    return thumbnails


def another(client: Client) -> Thumbnails:
    """What another process of the server would make thumbnails with."""
    return Thumbnails(reactor, client.backend.thumbnails.settings, client.backend.data_dir)


def shape(answer: Reply) -> tuple[str | None, tuple[int, int]]:
    assert answer.status == 200, answer.body
    found = Image.open(io.BytesIO(answer.body))
    return found.format, found.size


class Gate:
    """Holds pictures before they are decoded until it is opened."""

    def __init__(self) -> None:
        self.entered = 0
        self.opened: defer.Deferred[None] = defer.Deferred()
        self._run = Decoder.run

    def open(self) -> None:
        if not self.opened.called:
            self.opened.callback(None)

    async def __call__(self, decoder: Decoder, order: Any) -> int:
        self.entered += 1
        waiting: defer.Deferred[None] = defer.Deferred()
        self.opened.addCallback(lambda _: None if waiting.called else waiting.callback(None))
        await waiting
        return await self._run(decoder, order)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    found = Gate()
    monkeypatch.setattr(Decoder, "run", lambda *arguments: found(*arguments))
    yield found
    found.open()


@pytest_twisted.ensureDeferred
async def test_a_thumbnail_is_made_once_and_found_again(client: Client) -> None:
    file = await put_picture(client)
    assert await made(client) == set()
    first = await asset(client, file)
    assert shape(first) == ("PNG", (64, 64))
    (name,) = await made(client)
    again = await asset(client, file)
    by_values = await asset(client, file, "w=64&h=64&f=crop&q=80")
    assert first.body == again.body == by_values.body
    assert client.backend.thumbnails.made == 1
    # Another process of the server finds it in the storage.
    other = another(client)
    project = client.backend.projects.get(client.project)
    ((source, version),) = await rows(client, "SELECT name, sha256 FROM directus_file_contents")
    sizes = module.Size(64, 64, "crop", 80)
    found = await other.provide(project.key, project.storage, other.plan(source, version, "image/png", sizes))
    assert (found.name, other.made) == (name, 0)
    await other.stop()


@pytest_twisted.ensureDeferred
async def test_all_thumbnails_that_a_file_lists_can_be_read(client: Client) -> None:
    await set_setting(client, "asset_whitelist", [{"key": "a b&c", "width": 12, "height": "9", "fit": "crop", "quality": 0}])
    file = await put_picture(client, size=(300, 200))
    listed = file["data"]["thumbnails"]
    assert len(listed) == 7
    for each in listed:
        answer = await client.get(each["relative_url"], token=None)
        _, (width, height) = shape(answer)
        assert width <= each["width"]
        assert height <= each["height"]
        assert each["url"] == client.base + each["relative_url"]


@pytest_twisted.ensureDeferred
async def test_many_who_ask_at_once_get_the_same_work(client: Client, gate: Gate) -> None:
    file = await put_picture(client)
    asking = [defer.Deferred.fromCoroutine(asset(client, file)) for _ in range(20)]
    await until(lambda: gate.entered == 1 and [len(each.waiting) for each in client.backend.thumbnails._making.values()] == [20])
    gate.open()
    answers = await defer.gatherResults(asking)
    assert {shape(answer) for answer in answers} == {("PNG", (64, 64))}
    assert (gate.entered, client.backend.thumbnails.made, len(await made(client))) == (1, 1, 1)


@pytest_twisted.ensureDeferred
async def test_processes_that_make_the_same_thumbnail_at_once_leave_one(client: Client) -> None:
    file = await put_picture(client)
    project = client.backend.projects.get(client.project)
    ((source, version),) = await rows(client, "SELECT name, sha256 FROM directus_file_contents")
    processes = [another(client) for _ in range(4)]
    works = []
    for process in processes:
        plan = process.plan(source, version, file["type"], module.Size(64, 64, "crop", 80))
        works.append(defer.Deferred.fromCoroutine(process.provide(project.key, project.storage, plan)))
    found = await defer.gatherResults(works)
    assert {each.name for each in found} == await made(client)
    assert shape(await asset(client, file)) == ("PNG", (64, 64))
    for process in processes:
        await process.stop()


@pytest_twisted.ensureDeferred
async def test_other_requests_are_answered_while_thumbnails_are_made(client: Client, gate: Gate) -> None:
    """They use no connection to the database, and do not block. Those beyond the limit are told to come again."""
    # A caller may have five of seven.
    thumbnails = limit(client, max_thumbnails=7)
    file = await put_picture(client)
    await set_setting(client, "asset_whitelist", [])
    queries = [f"w={side}&h=9&f=crop&q=5" for side in range(1, 6)]
    asking = [defer.Deferred.fromCoroutine(asset(client, file, query)) for query in queries]
    await until(lambda: len(thumbnails._making) == 5 and gate.entered == thumbnails.settings.thumbnail_processes)
    more = await asset(client, file, "w=9&h=9&f=crop&q=5")
    assert (more.status, more.code, more.headers["retry-after"]) == (503, 16, "5")
    assert "files.max_thumbnails" in more.json["error"]["message"]
    # As many reads as there are connections to the database, and an upload.
    size = client.app.services.settings.database.pool_size
    reads = await defer.gatherResults([defer.Deferred.fromCoroutine(client.get("~/files/1")) for _ in range(size)])
    assert {each.status for each in reads} == {200}
    await put_picture(client)
    gate.open()
    assert {each.status for each in await defer.gatherResults(asking)} == {200}
    assert (await asset(client, file, "w=9&h=9&f=crop&q=5")).status == 200


@pytest_twisted.ensureDeferred
async def test_nobody_waits_longer_than_the_limit(client: Client, gate: Gate) -> None:
    limit(client, thumbnail_timeout=0.05)
    file = await put_picture(client)
    answer = await asset(client, file)
    assert (answer.status, answer.code, answer.headers["retry-after"]) == (503, 16, "10")
    assert "files.thumbnail_timeout" in answer.json["error"]["message"]
    # It is made nevertheless.
    gate.open()
    await until(lambda: not client.backend.thumbnails._making)
    assert shape(await asset(client, file)) == ("PNG", (64, 64))
    assert client.backend.thumbnails.made == 1


@pytest_twisted.ensureDeferred
async def test_a_server_that_stops_gives_up_what_it_makes(client: Client, gate: Gate) -> None:
    await put_picture(client)
    project = client.backend.projects.get(client.project)
    ((source, version),) = await rows(client, "SELECT name, sha256 FROM directus_file_contents")
    process = another(client)
    plan = process.plan(source, version, "image/png", module.Size(64, 64, "crop", 80))
    work = defer.Deferred.fromCoroutine(process.provide(project.key, project.storage, plan))
    await until(lambda: gate.entered == 1)
    gate.open()
    await process.stop()
    with pytest.raises(ServiceUnavailable):
        await work
    with pytest.raises(ServiceUnavailable):
        await process.provide(project.key, project.storage, plan)
    assert await made(client) == set()


@pytest_twisted.ensureDeferred
async def test_new_content_has_new_thumbnails(client: Client) -> None:
    file = await put_picture(client, size=(30, 20))
    former = await asset(client, file, "key=directus-small-contain")
    assert shape(former) == ("PNG", (64, 43))
    (kept,) = await made(client)
    answer = await upload(client, ("data", picture("PNG", (20, 30)), "tall.png"), method="PATCH", path=f"~/files/{file['id']}")
    assert answer.status == 200, answer.body
    changed = await asset(client, file, "key=directus-small-contain")
    assert shape(changed) == ("PNG", (43, 64))
    assert changed.headers["etag"] != former.headers["etag"]
    asked = await asset(client, file, "key=directus-small-contain", headers={"If-None-Match": former.headers["etag"]})
    assert asked.status == 200
    await deliver_removals(client)
    assert len(await made(client)) == 1
    assert kept not in await made(client)
    assert (await client.delete(f"~/files/{file['id']}")).status == 204
    assert (await asset(client, file, "key=directus-small-contain")).status == 404
    await deliver_removals(client)
    assert await stored(client) == set()


@pytest_twisted.ensureDeferred
async def test_a_thumbnail_that_is_made_while_its_file_is_deleted_does_not_stay(client: Client, gate: Gate) -> None:
    file = await put_picture(client)
    asking = defer.Deferred.fromCoroutine(asset(client, file))
    await until(lambda: gate.entered == 1)
    assert (await client.delete(f"~/files/{file['id']}")).status == 204
    await deliver_removals(client)
    gate.open()
    assert (await asking).status == 404
    assert await stored(client) == set()


@pytest_twisted.ensureDeferred
async def test_a_file_with_another_type_has_thumbnails_of_that_type(client: Client) -> None:
    file = await put_picture(client, "JPEG", name="wrong.png")
    answer = await asset(client, file)
    assert (shape(answer)[0], answer.headers["content-type"]) == ("PNG", "image/png")
    for name, format, kind in (
        ("a.jpg", "JPEG", "image/jpeg"),
        ("a.webp", "WEBP", "image/webp"),
        ("a.gif", "GIF", "image/gif"),
        ("a.bmp", "BMP", "image/bmp"),
        ("a.tif", "PNG", "image/png"),
    ):
        assert (await client.patch(f"~/files/{file['id']}", {"filename_disk": name})).status == 200
        answer = await asset(client, file)
        assert (shape(answer)[0], answer.headers["content-type"]) == (format, kind)
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "sandbox" in answer.headers["content-security-policy"]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.svg", b'<svg xmlns="http://www.w3.org/2000/svg" width="30" height="20"/>'),
        ("svg.png", b'<svg xmlns="http://www.w3.org/2000/svg" width="30" height="20"/>'),
        ("a.pdf", b"%PDF-1.4\n"),
        ("a.txt", b"Hello"),
        ("text.jpg", b"Hello"),
        ("picture.txt", picture("PNG")),
        ("half.jpg", picture("JPEG", (300, 200))[:900]),
        ("half.png", picture("PNG", (300, 200))[:80]),
    ],
)
async def test_what_has_no_thumbnail(client: Client, name: str, content: bytes) -> None:
    file = (await upload(client, ("data", content, name))).data
    answer = await asset(client, file)
    assert (answer.status, answer.code) == (422, 12)
    assert (await asset(client, file, "")).body == content
    assert await made(client) == set()
    assert not client.backend.thumbnails._making


@pytest_twisted.ensureDeferred
async def test_a_damaged_picture_is_decoded_once(client: Client, gate: Gate) -> None:
    gate.open()
    file = (await upload(client, ("data", picture("JPEG", (300, 200))[:900], "half.jpg"))).data
    for query in (SMALL, SMALL, "key=thumbnail"):
        answer = await asset(client, file, query)
        assert (answer.status, answer.code) == (422, 12)
    assert gate.entered == 1
    # New content is tried.
    await upload(client, ("data", picture("JPEG"), "good.jpg"), method="PATCH", path=f"~/files/{file['id']}")
    assert (await asset(client, file)).status == 200


@pytest_twisted.ensureDeferred
async def test_large_pictures_are_refused_before_they_are_read(client: Client, gate: Gate) -> None:
    limit(client, max_pixels=599)
    gate.open()
    file = await put_picture(client)
    answer = await asset(client, file)
    assert (answer.status, answer.code, gate.entered) == (422, 12, 0)
    assert "files.max_pixels" in answer.json["error"]["message"]
    limit(client, max_pixels=600, max_picture_size=file["filesize"] - 1)
    answer = await asset(client, file)
    assert (answer.status, answer.code, gate.entered) == (422, 12, 0)
    assert "files.max_picture_size" in answer.json["error"]["message"]
    limit(client, max_picture_size=1000)
    assert (await asset(client, await put_picture(client))).status == 200


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("setting", ["", "[]", None, []])
async def test_an_empty_list_allows_any_size(client: Client, setting: Any) -> None:
    await set_setting(client, "asset_whitelist", setting)
    limit(client, max_thumbnail_side=300)
    file = await put_picture(client)
    for query, expected in (
        ("w=7&h=9&f=crop&q=0", (7, 9)),
        ("w=300&h=1&f=crop&q=100", (300, 1)),
        ("w=60&h=60&f=contain&q=33", (60, 40)),
        (SMALL, (64, 64)),
        (f"{SMALL}&w=0&h=x&f=&q=999", (64, 64)),
    ):
        assert shape(await asset(client, file, query)) == ("PNG", expected)
    answer = await asset(client, file, "w=301&h=1&f=crop&q=5")
    assert (answer.status, answer.code) == (422, 12)
    assert "files.max_thumbnail_side" in answer.json["error"]["message"]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "query",
    [
        *("key=", "key[]=thumbnail", "key[a]=b", "key=Thumbnail", "key=x"),
        *("w=9", "h=9", "f=crop", "q=5", "w=9&h=9", "w=9&h=9&f=crop", "w=9&h=9&q=5", "w=&h=&f=&q="),
        *("w=0&h=9&f=crop&q=5", "w=-9&h=9&f=crop&q=5", "w=9.5&h=9&f=crop&q=5", "w=1e1&h=9&f=crop&q=5", "w=x&h=9&f=crop&q=5"),
        *(
            "w=999999&h=9&f=crop&q=5",
            "w=9&h=9&f=cover&q=5",
            "w=9&h=9&f=crop&q=101",
            "w=9&h=9&f=crop&q=-1",
            "w[]=9&h=9&f=crop&q=5",
        ),
        *("w=%D9%A3&h=9&f=crop&q=5", "w=9%0A&h=9&f=crop&q=5"),
    ],
)
async def test_what_is_no_size_is_refused(client: Client, query: str) -> None:
    await set_setting(client, "asset_whitelist", [])
    file = await put_picture(client)
    answer = await asset(client, file, query)
    assert (answer.status, answer.code) == (422, 12)
    assert await made(client) == set()


@pytest_twisted.ensureDeferred
async def test_the_list_allows_what_it_names_and_nothing_else(client: Client) -> None:
    file = await put_picture(client)
    good = {"key": "good", "width": "20", "height": 10, "fit": "crop", "quality": "50"}
    sizes = [
        good,
        {"key": "plain", "width": 20, "height": 11, "fit": "crop"},
        {"key": "directus-small-crop", "width": 1, "height": 1, "fit": "crop", "quality": 80},
        {"key": "no-fit", "width": 20, "height": 12},
        {"key": "no-width", "height": 13, "fit": "crop"},
        {"key": "wrong", "width": True, "height": 14, "fit": "crop"},
        {"key": "", "width": 20, "height": 15, "fit": "crop"},
        {"width": 20, "height": 16, "fit": "crop"},
        None,
        "x",
    ]
    await set_setting(client, "asset_whitelist", sizes)
    listed = {each["key"]: each["dimension"] for each in (await client.get("~/files/1")).data["data"]["thumbnails"]}
    assert {key: listed[key] for key in ("good", "plain", "directus-small-crop")} == {
        "good": "20x10",
        "plain": "20x11",
        "directus-small-crop": "64x64",
    }
    assert len(listed) == 8
    for key in ("good", "plain", "directus-small-crop"):
        assert shape(await asset(client, file, f"key={key}"))[0] == "PNG"
    assert (await asset(client, file, "w=20&h=10&f=crop&q=50")).status == 200
    assert (await asset(client, file, "w=20&h=11&f=crop&q=80")).status == 200
    for query in ("key=no-fit", "key=no-width", "key=wrong", "key=", "w=1&h=1&f=crop&q=80", "w=20&h=10&f=crop&q=51"):
        assert (await asset(client, file, query)).status == 422
    for garbage in ("x", "{", '{"key": "a"}', [1], {"a": 1}):
        text = garbage if isinstance(garbage, str) else json.dumps(garbage)
        await rows(client, f"UPDATE directus_settings SET value = '{text}' WHERE key = 'asset_whitelist'")
        assert (await asset(client, file, "w=20&h=10&f=crop&q=50")).status == 422
        assert (await asset(client, file)).status == 200


@pytest_twisted.ensureDeferred
async def test_thumbnails_are_asked_for_conditionally(client: Client) -> None:
    limit(client, thumbnail_max_age=77)
    file = await put_picture(client, "JPEG", (300, 200))
    read = await asset(client, file)
    assert read.headers["cache-control"] == "public, max-age=77, immutable"
    assert read.headers["content-disposition"] == 'inline; filename="picture.jpeg"'
    tag, modified = read.headers["etag"], read.headers["last-modified"]
    for headers in ({"If-None-Match": tag}, {"If-None-Match": f'"x", W/{tag}'}, {"If-Modified-Since": modified}):
        answer = await asset(client, file, headers=headers)
        assert (answer.status, answer.body, answer.headers["etag"]) == (304, b"", tag)
    part = await asset(client, file, headers={"Range": "bytes=10-19"})
    assert (part.status, part.body) == (206, read.body[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{len(read.body)}"
    assert (await asset(client, file, headers={"Range": "bytes=10-19", "If-Range": '"x"'})).body == read.body
    assert (await asset(client, file, headers={"Range": "bytes=999999-"})).status == 416
    head = await client.call("HEAD", f"~/assets/{file['private_hash']}?{SMALL}", token=None)
    assert (head.status, head.body, head.headers["etag"]) == (200, b"", tag)
    # Each size has its own entity tag, also that of the original.
    tags = {(await asset(client, file, query)).headers["etag"] for query in (SMALL, "key=thumbnail", "")}
    assert len(tags) == 3


@pytest_twisted.ensureDeferred
async def test_a_file_of_another_installation_has_thumbnails(client: Client) -> None:
    """Its content may be changed by others."""
    storage = client.backend.projects.get(client.project).storage
    await rows(
        client,
        "INSERT INTO directus_files (filename_disk, filename_download, uploaded_on, type, filesize, private_hash)"
        " VALUES ('old.png', 'old.png', now(), 'image/png', 14, 'abc')",
    )
    file = {"private_hash": "abc"}
    assert (await asset(client, file)).status == 404
    for size, expected in (((30, 20), (64, 43)), ((20, 30), (43, 64))):
        async with uploading(storage, "originals/old.png") as held:
            await held.write(picture("PNG", size))
            await held.finish()
        assert shape(await asset(client, file, "key=directus-small-contain")) == ("PNG", expected)
    assert len(await made(client)) == 2
    assert (await client.delete("~/files/1")).status == 204
    await deliver_removals(client)
    assert await stored(client) == set()


@pytest_twisted.ensureDeferred
async def test_a_storage_without_the_content(client: Client) -> None:
    file = await put_picture(client)
    storage = client.backend.projects.get(client.project).storage
    for name in await stored(client):
        await storage.delete(name)
    assert (await asset(client, file)).status == 404
    assert await stored(client) == set()


@pytest_twisted.ensureDeferred
async def test_a_check_of_files_deletes_thumbnails_of_unused_contents(client: Client) -> None:
    kept, lost = [await put_picture(client) for _ in range(2)]
    for file in (kept, lost):
        assert (await asset(client, file)).status == 200
    await rows(client, f"DELETE FROM directus_files WHERE id = {lost['id']}")
    project = client.backend.projects.get(client.project)
    session, later = Session(project.database), datetime.now(UTC) + timedelta(hours=1)
    for repair, number in ((False, 2), (True, 1)):
        report = await checking.check(session, project.storage, later, repair=repair)
        assert (len(report.unused), len(await made(client))) == (1, number)
    assert (await asset(client, kept)).status == 200
    assert client.backend.thumbnails.made == 2


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("far", [0, 100_000, 6_000_000])
async def test_the_directory_of_a_tiff_may_be_anywhere(client: Client, far: int) -> None:
    """Programs that scan put it at the end."""
    content = picture("TIFF", (30, 20))
    (place,) = struct.unpack_from("<I", content, 4)
    moved = content.ljust(far, b"\0") + content[place:] if far else content
    found = moved[:4] + struct.pack("<I", far or place) + moved[8:]
    file = (await upload(client, ("data", found, "scan.tif"))).data
    assert (file["width"], file["height"]) == (30, 20)
    assert len(file["data"]["thumbnails"]) == 7
    assert shape(await asset(client, file)) == ("PNG", (64, 64))
    for wrong in (len(found) + 1, 2**32 - 1, len(found) - 1):
        broken = found[:4] + struct.pack("<I", wrong) + found[8:]
        file = (await upload(client, ("data", broken, "scan.tif"))).data
        assert (file["width"], file["data"]["thumbnails"]) == (None, None)
        assert (await asset(client, file)).status == 422


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("lock", ["missing", "directory"])
async def test_thumbnails_are_made_without_locks_where_there_can_be_none(
    client: Client, lock: str, tmp_path: pathlib.Path
) -> None:
    await put_picture(client)
    project = client.backend.projects.get(client.project)
    ((source, version),) = await rows(client, "SELECT name, sha256 FROM directus_file_contents")
    if lock == "directory":
        (tmp_path / module.LOCK).mkdir()
    directory = tmp_path if lock == "directory" else tmp_path / "missing"
    process = Thumbnails(reactor, client.backend.thumbnails.settings, directory)
    found = await process.provide(
        project.key, project.storage, process.plan(source, version, "image/png", module.Size(64, 64, "crop", 80))
    )
    assert {found.name} == await made(client)
    await process.stop()


TOO_MUCH = """
import os, signal
from directus_tx.files import decoder
original = decoder.resized
def resized(source, size, encoding, *rest):
    if size.width * size.height >= 10_000 and encoding.name == "PNG":
        {fault}
    return original(source, size, encoding, *rest)
decoder.resized = resized
decoder.run()"""
"""The program of a process in which thumbnails of 10000 pixels or more, in the format PNG, exceed a limit."""


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("fault", ["os.kill(os.getpid(), signal.SIGPROF)", "raise MemoryError", "os.abort()"])
async def test_a_thumbnail_that_takes_too_much_keeps_nobody_from_smaller_ones(client: Client, fault: str) -> None:
    await set_setting(client, "asset_whitelist", "")
    file = await put_picture(client, size=(300, 300))
    decoders = client.backend.thumbnails.decoders
    decoders.program = TOO_MUCH.format(fault=fault)

    async def status(side: int, more: str = "") -> int:
        return int((await asset(client, file, f"w={side}&h={side}&f=crop&q=80{more}")).status)

    assert await status(200) == 422
    started = {each.pid for each in decoders.running}
    # Those that are about as large are not tried.
    assert [await status(side) for side in (200, 199, 150)] == [422, 422, 422]
    assert {each.pid for each in decoders.running} <= started
    assert await status(90) == 200
    assert await status(200, "&format=webp") == 200
    # The largest that can be made is found in few attempts.
    assert await status(130) == 422
    assert await status(101) == 422
    assert await status(80) == 200


@pytest_twisted.ensureDeferred
async def test_a_caller_with_many_thumbnails_does_not_keep_others_waiting(client: Client, gate: Gate) -> None:
    """Of a caller that asks for many thumbnails, as many are made at once as there are processes. When one is free, others are served."""
    thumbnails = limit(client, max_thumbnails=64)
    processes = thumbnails.settings.thumbnail_processes
    await set_setting(client, "asset_whitelist", [])
    # The content of a file is read by its user if assets are private, otherwise by an address.
    assert (await client.post("~/settings", {"key": "private_assets", "value": True})).status == 200
    await client.post("~/permissions", {"collection": "directus_files", "role": 2, "read": "full"})
    first, second, third = [await put_picture(client, size=size) for size in ((30, 20), (40, 20), (50, 20))]
    flood = [asset(client, first, f"w={side}&h=9&f=crop&q=5", token=TOKEN) for side in range(1, 43)]
    asking = [defer.Deferred.fromCoroutine(each) for each in flood]
    await until(lambda: len(thumbnails._making) == 42 and gate.entered == processes)
    # This caller may have no more, but others may.
    refused = await asset(client, first, "w=43&h=9&f=crop&q=5", token=TOKEN)
    assert (refused.status, refused.code, refused.headers["retry-after"]) == (503, 16, "5")
    assert "files.max_thumbnails" in refused.json["error"]["message"]
    order: list[str] = []
    others = {"other": asset(client, second, "w=9&h=9&f=crop&q=5"), "same": asset(client, first, "w=42&h=9&f=crop&q=5")}
    for name, each in others.items():
        work = defer.Deferred.fromCoroutine(each)
        work.addCallback(lambda answer, name=name: order.append(f"{name} {answer.status}"))
        asking.append(work)
    for work in asking[:42]:
        work.addCallback(lambda answer: order.append(f"flood {answer.status}"))
    await until(
        lambda: len(thumbnails._making) == 43 and [len(each.waiting) for each in thumbnails._making.values()].count(2) == 1
    )
    details = defer.Deferred.fromCoroutine(client.get(f"~/files/{third['id']}/details"))
    gate.open()
    await defer.gatherResults([*asking, details])
    assert (await details).status == 200
    assert set(order) == {"flood 200", "other 200", "same 200"}
    # Those that were being made are ready first. Then each caller has its turn: not after the forty that have waited longer.
    assert order.index("other 200") <= 2 * processes + 1
    assert order.index("same 200") <= 4 * processes + 2
