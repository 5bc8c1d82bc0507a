"""Formats of thumbnails, which the allow list limits as it limits their sizes, and the focal points of crops."""

import base64
import io
from typing import Any

import pytest
import pytest_twisted
from PIL import Image
from twisted.web.http_headers import Headers

from directus_tx.files.storage.interfaces import uploading
from tests.api.test_assets import SMALL, asset, limit, made, put_picture, set_setting, shape
from tests.api.test_files import deliver_removals, rows, stored, upload
from tests.conftest import Client, _Received

CHROME = "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"
SAFARI = "image/webp,image/png,image/svg+xml,image/*;q=0.8,video/*;q=0.8,*/*;q=0.5"
ANY = "*/*"

SIZES = [
    {"key": "plain", "width": 20, "height": 10, "fit": "crop", "quality": 50},
    {"key": "web", "width": 21, "height": 10, "fit": "crop", "quality": 50, "format": "webp"},
    {"key": "best", "width": 22, "height": 10, "fit": "crop", "quality": 50, "format": "auto"},
    {"key": "empty", "width": 23, "height": 10, "fit": "crop", "quality": 50, "format": ""},
    {"key": "null", "width": 24, "height": 10, "fit": "crop", "quality": 50, "format": None},
    {"key": "wrong", "width": 25, "height": 10, "fit": "crop", "quality": 50, "format": "tga"},
    {"key": "list", "width": 26, "height": 10, "fit": "crop", "quality": 50, "format": ["webp"]},
]


async def formats(client: Client, file: Any, query: str, *accepted: str) -> list[Any]:
    found = []
    for accept in accepted:
        answer = await asset(client, file, query, headers={"Accept": accept})
        found.append(shape(answer)[0] if answer.status == 200 else (answer.status, answer.code))
    return found


async def vary(client: Client, path: str, **headers: str) -> tuple[int, set[str]]:
    """The status of an answer, and what it varies by, without Accept-Encoding."""
    raw = Headers({name.replace("_", "-"): [value] for name, value in headers.items()})
    answer = await client.agent.request(b"GET", (client.base + path).encode(), raw)
    received = _Received()
    answer.deliverBody(received)
    await received.whole
    names = ",".join(each.decode() for each in answer.headers.getRawHeaders(b"vary") or []).lower().replace(" ", "").split(",")
    return answer.code, set(names) - {"accept-encoding", ""}


@pytest_twisted.ensureDeferred
async def test_the_allow_list_names_formats(client: Client) -> None:
    await set_setting(client, "asset_whitelist", SIZES)
    file = await put_picture(client)
    all_accepts = (CHROME, SAFARI, ANY)
    assert await formats(client, file, "key=plain", *all_accepts) == ["PNG"] * 3
    assert await formats(client, file, "key=web", *all_accepts) == ["WEBP"] * 3
    assert await formats(client, file, "key=best", *all_accepts) == ["AVIF", "WEBP", "PNG"]
    assert await formats(client, file, "key=empty", CHROME) == ["PNG"]
    assert await formats(client, file, "key=null", CHROME) == ["PNG"]
    # A key stands for one format.
    for format in ("auto", "webp", "jpg", "nonsense", ""):
        assert await formats(client, file, f"{SMALL}&format={format}", CHROME) == ["PNG"]
        assert await formats(client, file, f"key=web&format={format}", CHROME) == ["WEBP"]
    assert await formats(client, file, "w=21&h=10&f=crop&q=50&format=webp", CHROME) == ["WEBP"]
    assert await formats(client, file, "w=22&h=10&f=crop&q=50&format=auto", CHROME, ANY) == ["AVIF", "PNG"]
    refused = [
        *("key=wrong", "key=list", "w=21&h=10&f=crop&q=50", "w=22&h=10&f=crop&q=50", "w=22&h=10&f=crop&q=50&format=avif"),
        *(f"w=20&h=10&f=crop&q=50&format={format}" for format in ("auto", "webp", "avif", "jpg", "png", "gif", "PNG")),
        *("format=auto", "format=webp", "format[]=webp&w=21&h=10&f=crop&q=50", "w=64&h=64&f=crop&q=80&format=auto"),
    ]
    for query in refused:
        assert await formats(client, file, query, CHROME, ANY) == [(422, 12)] * 2, query
    # Nobody has made more than the list has: plain, web, three of best, empty, null, and the small one of the system.
    assert len(await made(client)) == 8
    listed = {each["key"]: each["relative_url"] for each in (await client.get("~/files/1")).data["data"]["thumbnails"]}
    assert {"plain", "web", "best", "empty", "null"} < listed.keys()
    assert (await client.get(listed["best"], token=None)).status == 200


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"])
async def test_an_empty_list_allows_all_formats_of_all_pictures(client: Client, format: str) -> None:
    await set_setting(client, "asset_whitelist", [])
    file = await put_picture(client, format)
    size = "w=30&h=12&f=contain&q=50"
    found = [(await formats(client, file, f"{size}&format={each}", ANY))[0] for each in ("webp", "avif", "jpg", "png")]
    assert found == ["WEBP", "AVIF", "JPEG", "PNG"]
    assert await formats(client, file, f"{size}&format=auto", CHROME, SAFARI) == ["AVIF", "WEBP"]
    own = "PNG" if format == "TIFF" else format
    assert await formats(client, file, f"{size}&format=auto", ANY, "text/html", "image/avif;q=0") == [own] * 3
    for each in ("gif", "bmp", "", "AUTO", "webp,avif"):
        answer = await asset(client, file, f"{size}&format={each}")
        assert answer.status == (200 if each == "" else 422)
    assert {shape(await client.get(f"~/assets/{file['private_hash']}?{size}&format=avif"))} == {("AVIF", (18, 12))}


@pytest_twisted.ensureDeferred
async def test_caches_are_told_that_auto_depends_on_the_client(client: Client) -> None:
    await set_setting(client, "asset_whitelist", SIZES)
    file = await put_picture(client)
    path = f"/{client.project}/assets/{file['private_hash']}"
    read = [await asset(client, file, "key=best", headers={"Accept": accept}) for accept in (CHROME, SAFARI, ANY)]
    assert [each.headers["content-type"] for each in read] == ["image/avif", "image/webp", "image/png"]
    assert len({each.headers["etag"] for each in read}) == 3
    tag = read[0].headers["etag"]
    assert await vary(client, f"{path}?key=best", Accept=CHROME) == (200, {"accept"})
    assert await vary(client, f"{path}?key=best", Accept=CHROME, If_None_Match=tag) == (304, {"accept"})
    # What one client has is not what another one gets.
    assert await vary(client, f"{path}?key=best", Accept=ANY, If_None_Match=tag) == (200, {"accept"})
    assert await vary(client, f"{path}?key=best", Accept=ANY, Range="bytes=0-9") == (206, {"accept"})
    assert await vary(client, f"{path}?key=best", Accept=ANY, Origin="https://a.example") == (200, {"accept", "origin"})
    for query in ("key=web", "key=plain", ""):
        assert await vary(client, f"{path}?{query}", Accept=CHROME, Origin="https://a.example") == (200, {"origin"})


def gradient(width: int = 90, height: int = 30) -> bytes:
    """A picture whose colour tells the place."""
    across = Image.linear_gradient("L").transpose(Image.Transpose.ROTATE_90).resize((width, height))
    down = Image.linear_gradient("L").resize((width, height))
    held = io.BytesIO()
    Image.merge("RGB", (across, down, Image.new("L", (width, height)))).save(held, "PNG")
    return held.getvalue()


async def middle(client: Client, file: Any, query: str = SMALL) -> int:
    """The red in the middle of a thumbnail."""
    answer = await asset(client, file, query)
    assert answer.status == 200, answer.body
    found: Any = Image.open(io.BytesIO(answer.body)).convert("RGB").getpixel((32, 32))
    return int(found[0])


@pytest_twisted.ensureDeferred
async def test_crops_are_around_the_focal_point(client: Client) -> None:
    file = (await upload(client, ("data", gradient(), "wide.png"))).data
    one = f"~/files/{file['id']}"
    assert abs(await middle(client, file) - 128) < 8
    contain = await asset(client, file, "key=directus-medium-contain")
    (centred,) = {name for name in await made(client) if "crop" in name}
    tags = set()
    for x, expected in ((0.3, 77), (0.0, 43), (-7, 43), (1, 212), (99, 212), (0.6, 153), (None, 128)):
        metadata = {"focal_x": x, "camera": "box"}
        answer = await client.patch(one, {"metadata": metadata})
        assert answer.data[0]["metadata"] == metadata
        answer = await asset(client, file)
        tags.add(answer.headers["etag"])
        assert abs(await middle(client, file) - expected) < 8, x
        await deliver_removals(client)
        await rows(client, "DELETE FROM directus_outbox RETURNING id")
        # The one before is gone, and the picture that fits in as a whole stays. One of an earlier focal point may be in memory alone.
        crops = {name for name in await made(client) if "crop" in name}
        assert len(crops) <= 1
        assert len(await made(client) - crops) == 1
        assert abs(await middle(client, file) - expected) < 8
    assert len(tags) == 5
    assert {name for name in await made(client) if "crop" in name} <= {centred}
    again = await asset(client, file, "key=directus-medium-contain")
    assert (again.headers["etag"], again.body) == (contain.headers["etag"], contain.body)
    # In a wide picture only x counts.
    assert (await client.patch(one, {"metadata": {"focal_y": 0.9}})).status == 200
    assert abs(await middle(client, file) - 128) < 8


@pytest_twisted.ensureDeferred
async def test_only_another_focal_point_discards_thumbnails(client: Client) -> None:
    files = [(await upload(client, ("data", gradient(), f"{n}.png"))).data for n in range(3)]
    for file in files:
        await middle(client, file)
    removals = "SELECT count(*) FROM directus_outbox WHERE kind = 'file removal'"
    for metadata in ({"a": 1}, {"a": 2, "focal_x": 0.5}, {"focal_x": 0.5, "focal_y": 0.5}, None, {"focal_x": 0.50001}):
        assert (await client.patch("~/files/1", {"metadata": metadata})).status == 200
    assert (await client.patch("~/files/1,2,3", {"title": "Other"})).status == 200
    assert await rows(client, removals) == [(0,)]
    # Several at once, of which one changes nothing.
    assert (await client.patch("~/files/2", {"metadata": {"focal_x": 0.2}})).status == 200
    assert (await client.patch("~/files/1,2,3", {"metadata": {"focal_x": 0.2}})).status == 200
    assert await rows(client, removals) == [(3,)]
    await deliver_removals(client)
    assert await made(client) == set()
    for file in files:
        assert abs(await middle(client, file) - 51) < 8
    await deliver_removals(client)
    assert len(await made(client)) == 3


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("wrong", ["0.5", True, [0.5], {"x": 1}, ""])
async def test_a_focal_point_is_a_number(client: Client, wrong: Any) -> None:
    file = (await upload(client, ("data", gradient(), "wide.png"))).data
    for name in ("focal_x", "focal_y"):
        answer = await client.patch(f"~/files/{file['id']}", {"metadata": {name: wrong}, "title": "New"})
        assert (answer.status, answer.code) == (422, 4)
        assert name in answer.json["error"]["message"]
        content = base64.b64encode(gradient()).decode()
        new = {"filename_disk": "b.png", "filename_download": "b.png", "data": content, "metadata": {name: wrong}}
        answer = await client.post("~/files", new)
        assert (answer.status, answer.code) == (422, 4)
    assert (await client.get("~/files")).data[0]["title"] == "Wide"
    assert len(await stored(client)) == 1


@pytest_twisted.ensureDeferred
async def test_a_new_file_may_have_a_focal_point(client: Client) -> None:
    content = base64.b64encode(gradient()).decode()
    new = {"filename_disk": "b.png", "filename_download": "b.png", "data": content, "metadata": {"focal_x": 0.3}}
    file = (await client.post("~/files", new)).data
    assert abs(await middle(client, file) - 77) < 8
    # Other content with the same point.
    answer = await upload(client, ("data", gradient(60, 30), "c.png"), method="PATCH", path=f"~/files/{file['id']}")
    assert answer.status == 200
    assert abs(await middle(client, file) - 77) < 10


@pytest_twisted.ensureDeferred
async def test_metadata_of_another_installation(client: Client) -> None:
    """It may be anything. The content is not known to the server."""
    limit(client, thumbnail_max_age=1)
    storage = client.backend.projects.get(client.project).storage
    await rows(
        client,
        "INSERT INTO directus_files (filename_disk, filename_download, uploaded_on, type, filesize, private_hash)"
        " VALUES ('old.png', 'old.png', now(), 'image/png', 14, 'abc')",
    )
    async with uploading(storage, "originals/old.png") as held:
        await held.write(gradient())
        await held.finish()
    for text in ("words", "[1]", "3", '{"focal_x": "a"}', '{"focal_x": 1e400}', ""):
        await rows(client, f"UPDATE directus_files SET metadata = '{text}'")
        assert abs(await middle(client, {"private_hash": "abc"}) - 128) < 8
    assert (await client.patch("~/files/1", {"metadata": {"focal_x": 0}})).status == 200
    assert abs(await middle(client, {"private_hash": "abc"}) - 43) < 8
    assert len(await made(client)) == 2
    await deliver_removals(client)
    assert len(await made(client)) == 1
