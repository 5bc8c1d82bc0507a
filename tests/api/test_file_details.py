"""/files/:id/details: what contents tell of themselves, to those who may read the file, and what hostile ones do."""

import io
import json
from typing import Any

import pytest
import pytest_twisted
from PIL import ExifTags, Image
from pypdf import PdfWriter

from directus_tx.files.metadata import read_metadata
from directus_tx.files.resizing import NotResizable
from tests.api.test_assets import limit, put_picture
from tests.api.test_files import rows, stored, upload
from tests.api.test_hostile_pictures import REFUSED, SHOWN
from tests.conftest import Client
from tests.unit.test_resizing import encoded

MOST = 1_000_000
BASE, GPS = ExifTags.Base, ExifTags.GPS


def pdf(pages: int, **options: Any) -> bytes:
    writer = PdfWriter()
    for _ in range(pages):
        writer.add_blank_page(100, 100)
    if options:
        writer.encrypt(**options)
    held = io.BytesIO()
    writer.write(held)
    return held.getvalue()


def exif(
    base: dict[int, Any] | None = None, camera: dict[int, Any] | None = None, place: dict[int, Any] | None = None
) -> Image.Exif:
    found = Image.Exif()
    found.update(base or {})
    if camera:
        found[ExifTags.IFD.Exif] = camera
    if place:
        found[ExifTags.IFD.GPSInfo] = place
    return found


WHOLE = exif(
    {BASE.Orientation: 6, BASE.Make: "Nikon\0", BASE.Model: "Z 6\n II"},
    {BASE.DateTimeOriginal: "2024:05:01 12:30:59", BASE.OffsetTimeOriginal: "+02:00", BASE.LensModel: "50 mm"},
    {
        GPS.GPSLatitude: (38.0, 42.0, 36.0),
        GPS.GPSLatitudeRef: "N",
        GPS.GPSLongitude: (9.0, 8.0, 24.0),
        GPS.GPSLongitudeRef: "W",
        GPS.GPSAltitude: 12.5,
    },
)
TOLD = {
    "width": 40,
    "height": 60,
    "orientation": 6,
    "taken_on": "2024-05-01T12:30:59+02:00",
    "camera": "Nikon Z 6 II",
    "lens": "50 mm",
    "latitude": 38.71,
    "longitude": -9.14,
    "altitude": 12.5,
}


def told(content: bytes) -> Any:
    return read_metadata(io.BytesIO(content), MOST)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_what_a_photo_tells(format: str) -> None:
    found = told(encoded(Image.new("RGB", (60, 40)), format, exif=WHOLE))
    assert found == {"type": f"image/{format.lower()}", **TOLD}
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize(("orientation", "size"), [(n, (60, 40) if n < 5 else (40, 60)) for n in range(1, 9)])
def test_the_size_is_that_of_the_picture_as_it_is_shown(orientation: int, size: tuple[int, int]) -> None:
    for format in ("JPEG", "PNG", "WEBP", "TIFF"):
        found = told(encoded(Image.new("RGB", (60, 40)), format, exif=exif({BASE.Orientation: orientation})))
        assert (found["orientation"], (found["width"], found["height"])) == (orientation, size)


@pytest.mark.parametrize(
    "given",
    [
        exif(),
        exif({BASE.Orientation: 0}),
        exif({BASE.Orientation: 99}),
        exif({BASE.Make: "", BASE.Model: " \0"}),
        exif(camera={BASE.DateTimeOriginal: "0000:00:00 00:00:00"}),
        exif(camera={BASE.DateTimeOriginal: "2024-05-01"}),
        exif(camera={BASE.OffsetTimeOriginal: "+02:00"}),
        exif(place={GPS.GPSLatitude: (38.0, 42.0, 36.0), GPS.GPSLatitudeRef: "N"}),
        exif(place={GPS.GPSLatitude: (38.0, 42.0, 36.0), GPS.GPSLongitude: (9.0, 8.0, 24.0)}),
        exif(
            place={
                GPS.GPSLatitude: (98.0, 0.0, 0.0),
                GPS.GPSLatitudeRef: "N",
                GPS.GPSLongitude: (9.0, 8.0, 24.0),
                GPS.GPSLongitudeRef: "W",
            }
        ),
        exif(place={GPS.GPSLatitudeRef: "X", GPS.GPSAltitude: 1e9}),
    ],
    ids=range(11),
)
def test_what_means_nothing_is_left_out(given: Image.Exif) -> None:
    found = told(encoded(Image.new("RGB", (60, 40)), "JPEG", exif=given))
    assert found == {"type": "image/jpeg", "width": 60, "height": 40}


def test_times_without_an_offset_have_none() -> None:
    for offset in (None, "", "Z", "+99:00", "+2"):
        camera = {BASE.DateTimeOriginal: "2024:05:01 12:30:59"} | ({} if offset is None else {BASE.OffsetTimeOriginal: offset})
        assert told(encoded(Image.new("RGB", (6, 4)), "JPEG", exif=exif(camera=camera)))["taken_on"] == "2024-05-01T12:30:59"


def test_a_place_in_the_south_and_a_model_with_its_maker() -> None:
    place = {GPS.GPSLatitude: (33.0, 51.5, 0.0), GPS.GPSLatitudeRef: "S", GPS.GPSLongitude: (151.0, 12.0, 36.0)}
    base = {BASE.Make: "Canon", BASE.Model: "Canon EOS R5"}
    content = encoded(Image.new("RGB", (6, 4)), "JPEG", exif=exif(base, place={**place, GPS.GPSLongitudeRef: "E"}))
    found = told(content)
    assert (found["camera"], found["latitude"], found["longitude"]) == ("Canon EOS R5", -33.858333, 151.21)


@pytest.mark.parametrize("pages", [1, 3, 40])
def test_the_pages_of_a_pdf(pages: int) -> None:
    assert told(pdf(pages)) == {"type": "application/pdf", "pages": pages}
    assert told(pdf(pages, user_password="", owner_password="secret", algorithm="RC4-128"))["pages"] == pages


def test_other_contents_tell_their_type() -> None:
    assert told(b"Hello") == {"type": "text/plain"}
    assert told(b"<svg xmlns='http://www.w3.org/2000/svg'/>") == {"type": "image/svg+xml"}
    assert told(encoded(Image.new("RGB", (60, 40)), "AVIF")) == {"type": "image/avif", "width": 60, "height": 40}
    assert told(encoded(Image.new("RGB", (60, 40)), "ICO", sizes=[(16, 16)]))["type"] == "image/x-icon"


LOOP = b"""%PDF-1.4
1 0 obj <</Type /Catalog /Pages 2 0 R>> endobj
2 0 obj <</Type /Pages /Kids [2 0 R 2 0 R 2 0 R 2 0 R] /Count 4>> endobj
trailer <</Root 1 0 R /Size 3>>
startxref
0
%%EOF"""


def test_hostile_contents_raise_nothing_else() -> None:
    several = pdf(4)
    hostile = [
        *REFUSED.values(),
        *SHOWN.values(),
        LOOP,
        b"%PDF-1.4\n",
        b"%PDF-1.7\n" + b"<<" * 5000,
        several.replace(b"/Kids", b"/Kidz"),
    ]
    hostile += [several[:at] + b"\xff\0" + several[at + 7 :] for at in range(0, len(several), 37)]
    for content in hostile:
        try:
            found = told(content)
        except NotResizable:
            continue
        assert json.loads(json.dumps(found)) == found


@pytest_twisted.ensureDeferred
async def test_details_over_http(client: Client) -> None:
    file = (await upload(client, ("data", encoded(Image.new("RGB", (60, 40)), "JPEG", exif=WHOLE), "a.jpg"))).data
    # As the contract has them: the size before the rotation, and nothing in the field for the metadata of the project.
    assert (file["width"], file["height"], file["metadata"]) == (60, 40, None)
    answer = await client.get("~/files/1/details")
    assert (answer.status, answer.data) == (200, {"type": "image/jpeg", **TOLD})
    await upload(client, ("data", pdf(3), "a.pdf"))
    assert (await client.get("~/files/2/details")).data == {"type": "application/pdf", "pages": 3}
    await upload(client, ("data", LOOP, "b.pdf"))
    assert (await client.get("~/files/3/details")).status in (200, 422)
    for path in ("~/files/99/details", "~/files/a/details", "~/files/1,2/details", f"~/files/{2**70}/details"):
        answer = await client.get(path)
        assert (answer.status, answer.code) == (404, 203), path
    answer = await client.get("~/files/1/details", token=None)
    assert (answer.status, answer.code) == (401, 3)
    assert len(await stored(client)) == 3


@pytest_twisted.ensureDeferred
async def test_details_are_for_those_who_may_read_the_file(client: Client) -> None:
    await put_picture(client)
    role = (await client.post("~/roles", {"name": "Readers"})).data["id"]
    user = {"email": "r@example.com", "password": "password", "role": role, "status": "active", "token": "reader"}
    assert (await client.post("~/users", user)).status == 200
    await rows(client, f"DELETE FROM directus_permissions WHERE collection = 'directus_files' AND role = {role} RETURNING id")
    permission = {"collection": "directus_files", "role": role, "read": "none"}
    made = (await client.post("~/permissions", permission)).data["id"]
    for read in ("none", "mine"):
        assert (await client.patch(f"~/permissions/{made}", {"read": read})).status == 200
        assert (await client.get("~/files/1/details", token="reader")).status == 404
    assert (await client.patch(f"~/permissions/{made}", {"read": "full"})).status == 200
    assert (await client.get("~/files/1/details", token="reader")).data["type"] == "image/png"
    # Whoever does not see the URLs of a content does not see what is in it.
    assert (await client.patch(f"~/permissions/{made}", {"read_field_blacklist": ["data"]})).status == 200
    assert (await client.get("~/files/1/details", token="reader")).status == 404


@pytest_twisted.ensureDeferred
async def test_the_limits_of_details(client: Client) -> None:
    details = client.backend.thumbnails.details
    file = await put_picture(client)
    details.settings = limit(client, max_picture_size=file["filesize"] - 1).settings
    answer = await client.get("~/files/1/details")
    assert (answer.status, answer.code) == (422, 12)
    assert "files.max_picture_size" in answer.json["error"]["message"]
    details.settings = limit(client, max_picture_size=10_000, max_thumbnails=0).settings
    answer = await client.get("~/files/1/details")
    assert (answer.status, answer.code, answer.headers["retry-after"]) == (503, 16, "5")
    details.settings = limit(client, max_thumbnails=5, max_pixels=599).settings
    answer = await client.get("~/files/1/details")
    assert (answer.status, answer.code) == (422, 12)
    assert "files.max_pixels" in answer.json["error"]["message"]
    assert len(details.running) == 0
    storage = client.backend.projects.get(client.project).storage
    for name in await stored(client):
        await storage.delete(name)
    assert (await client.get("~/files/1/details")).status == 404
    # A video elsewhere has no content.
    await rows(client, "UPDATE directus_files SET embed = 'x' RETURNING id")
    assert (await client.get("~/files/1/details")).status == 404
