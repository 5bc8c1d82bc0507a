"""Thumbnails of pictures of every kind: their geometry, colours and metadata, and contents of which none can be made."""

import io
import struct
import zlib
from typing import Any

import pytest
from PIL import Image, ImageCms

from directus_tx.compile.file_data import THUMBNAILED
from directus_tx.files.resizing import ENCODINGS, NotResizable, number_of_scans, resized
from directus_tx.schema.thumbnail_sizes import Size

MOST = 1_000_000
RED, GREEN, BLUE = (220, 20, 20), (20, 180, 20), (20, 20, 220)


def encoded(picture: Image.Image, format: str, **options: Any) -> bytes:
    held = io.BytesIO()
    picture.save(held, format, **options)
    return held.getvalue()


def thumbnail(content: bytes, width: int = 64, height: int = 64, fit: str = "contain", kind: str = "image/png") -> Image.Image:
    made = resized(io.BytesIO(content), Size(width, height, fit, 90), ENCODINGS[kind], MOST)
    found = Image.open(io.BytesIO(made))
    assert found.format == ENCODINGS[kind].name
    found.load()
    return found


def near(color: Any, expected: tuple[int, ...]) -> bool:
    return all(abs(one - other) < 40 for one, other in zip(color[:3], expected, strict=False))


def test_the_types_that_list_thumbnails_have_them() -> None:
    assert set(ENCODINGS) == THUMBNAILED


@pytest.mark.parametrize(
    ("source", "fit", "box", "expected"),
    [
        ((300, 200), "contain", (64, 64), (64, 43)),
        ((40, 60), "contain", (800, 600), (400, 600)),
        ((300, 200), "contain", (800, 600), (800, 533)),
        ((1, 900), "contain", (10, 10), (1, 10)),
        ((900, 1), "contain", (7, 900), (7, 1)),
        ((300, 200), "crop", (64, 64), (64, 64)),
        ((40, 60), "crop", (800, 600), (800, 600)),
        ((1, 900), "crop", (50, 20), (50, 20)),
        ((999, 1000), "crop", (1, 1), (1, 1)),
        ((17, 23), "crop", (17, 23), (17, 23)),
    ],
)
@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_sizes(source: tuple[int, int], fit: str, box: tuple[int, int], expected: tuple[int, int], format: str) -> None:
    assert thumbnail(encoded(Image.new("RGB", source), format), *box, fit).size == expected


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("wide", [True, False])
def test_crops_are_centred(format: str, wide: bool) -> None:
    picture = Image.new("RGB", (900, 300), GREEN)
    picture.paste(RED, (0, 0, 280, 300))
    picture.paste(BLUE, (620, 0, 900, 300))
    if not wide:
        picture = picture.transpose(Image.Transpose.ROTATE_90)
    found = thumbnail(encoded(picture, format), 30, 30, "crop").convert("RGB")
    assert all(near(found.getpixel(at), GREEN) for at in ((3, 3), (26, 3), (15, 15), (3, 26), (26, 26)))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("fit", ["contain", "crop"])
def test_pictures_are_upright(format: str, orientation: int, fit: str) -> None:
    upright = Image.new("RGB", (320, 160), GREEN)
    upright.paste(RED, (0, 0, 160, 80))
    upright.paste(BLUE, (160, 0, 320, 80))
    # How a picture is stored that this orientation makes upright.
    ways = Image.Transpose
    stored = {
        2: ways.FLIP_LEFT_RIGHT,
        3: ways.ROTATE_180,
        4: ways.FLIP_TOP_BOTTOM,
        5: ways.TRANSPOSE,
        6: ways.ROTATE_90,
        7: ways.TRANSVERSE,
        8: ways.ROTATE_270,
    }.get(orientation)
    picture = upright if stored is None else upright.transpose(stored)
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = thumbnail(encoded(picture, format, exif=exif), 80, 40, fit).convert("RGB")
    assert found.size == (80, 40)
    assert near(found.getpixel((10, 5)), RED)
    assert near(found.getpixel((70, 5)), BLUE)
    assert near(found.getpixel((40, 35)), GREEN)


@pytest.mark.parametrize("kind", sorted(ENCODINGS))
@pytest.mark.parametrize(
    ("format", "mode"),
    [
        *(("PNG", mode) for mode in ("1", "L", "LA", "I;16", "P", "RGB", "RGBA")),
        *(("TIFF", mode) for mode in ("1", "L", "P", "RGB", "RGBA", "CMYK", "I;16", "F", "LAB", "YCbCr")),
        *(("JPEG", mode) for mode in ("L", "RGB", "CMYK")),
        *(("GIF", mode) for mode in ("L", "P")),
        *(("WEBP", mode) for mode in ("RGB", "RGBA")),
        *(("BMP", mode) for mode in ("1", "L", "P", "RGB")),
    ],
)
def test_pictures_of_all_modes(format: str, mode: str, kind: str) -> None:
    found = thumbnail(encoded(Image.new(mode, (60, 40)), format), 30, 30, kind=kind)
    assert found.size == (30, 20)


def test_colours_of_16_bits_of_grey() -> None:
    picture = Image.new("I;16", (60, 40), 200 * 256)
    assert abs(thumbnail(encoded(picture, "PNG"), 30, 30).getpixel((5, 5)) - 200) <= 1  # type: ignore[operator]


@pytest.mark.parametrize("kind", ["image/jpeg", "image/bmp"])
@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_white_where_there_is_none(kind: str, mode: str) -> None:
    picture = Image.new("RGBA", (60, 40), (0, 0, 0, 0)).convert(mode)
    options = {"transparency": 0} if mode == "P" else {}
    assert near(thumbnail(encoded(picture, "PNG", **options), kind=kind).convert("RGB").getpixel((5, 5)), (255, 255, 255))


@pytest.mark.parametrize("kind", ["image/png", "image/webp", "image/gif"])
@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB"])
def test_transparency_is_kept(kind: str, mode: str) -> None:
    """Also that of a colour, as in a PNG of the mode RGB."""
    picture = Image.new("RGBA", (60, 40), (0, 0, 0, 0)).convert(mode)
    options: dict[str, Any] = {"P": {"transparency": 0}, "RGB": {"transparency": (0, 0, 0)}}.get(mode, {})
    assert thumbnail(encoded(picture, "PNG", **options), kind=kind).convert("RGBA").getpixel((5, 5))[3] == 0  # type: ignore[index]


def test_an_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (60, 40), color) for color in (RED, GREEN, BLUE)]
    for format, kind in (("GIF", "image/gif"), ("WEBP", "image/webp"), ("PNG", "image/png")):
        found = thumbnail(encoded(frames[0], format, save_all=True, append_images=frames[1:]), kind=kind)
        assert getattr(found, "n_frames", 1) == 1
        assert near(found.convert("RGB").getpixel((5, 5)), RED)


@pytest.mark.parametrize(("format", "kind"), [("JPEG", "image/jpeg"), ("PNG", "image/png"), ("WEBP", "image/webp")])
def test_colour_profiles_are_kept_and_other_metadata_is_not(format: str, kind: str) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x010E] = "a secret place"
    options: dict[str, Any] = {"comment": b"a secret place"} if format == "JPEG" else {}
    content = encoded(Image.new("RGB", (60, 40)), format, icc_profile=profile, exif=exif, **options)
    assert b"a secret place" in content
    made = resized(io.BytesIO(content), Size(30, 30, "crop", 80), ENCODINGS[kind], MOST)
    assert b"a secret place" not in made
    assert Image.open(io.BytesIO(made)).info["icc_profile"] == profile


def test_the_profile_of_colours_that_are_converted_is_not_kept() -> None:
    grey = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for mode in ("CMYK", "L"):
        content = encoded(Image.new(mode, (60, 40)), "JPEG", icc_profile=grey)
        made = resized(io.BytesIO(content), Size(30, 30, "crop", 80), ENCODINGS["image/webp"], MOST)
        found = Image.open(io.BytesIO(made))
        assert (found.mode, found.info.get("icc_profile")) == ("RGB", None)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int) -> bytes:
    """A PNG that says that it has this size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


def webp(width: int, height: int) -> bytes:
    """An animated WebP with a canvas of this size."""
    canvas = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    body = b"WEBPVP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + canvas + b"ANIM" + struct.pack("<I", 6) + b"\0" * 6
    return b"RIFF" + struct.pack("<I", len(body)) + body


def wide_frame(side: int) -> bytes:
    """A GIF of one pixel with a frame that is larger."""
    content = bytearray(encoded(Image.new("P", (1, 1)), "GIF"))
    at = content.index(b",\0\0\0\0\1\0\1\0")
    content[at + 5 : at + 9] = struct.pack("<HH", side, side)
    return bytes(content)


@pytest.mark.parametrize(
    "content",
    [
        png(60_000, 60_000),
        png(2**31 - 1, 2**31 - 1),
        png(1001, 1000),
        webp(16_000, 16_000),
        webp(2**24, 2**24),
        wide_frame(60_000),
        encoded(Image.new("1", (1001, 1000)), "TIFF", compression="group4"),
        encoded(Image.new("L", (1001, 1000)), "JPEG"),
    ],
    ids=range(8),
)
def test_too_many_pixels_are_not_decoded(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: Any) -> None:
        raise AssertionError("the picture is decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    with pytest.raises(NotResizable):
        resized(io.BytesIO(content), Size(64, 64, "crop", 80), ENCODINGS["image/png"], MOST)


def segment(marker: int, data: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(data) + 2) + data


def jpeg(side: int, scans: int) -> bytes:
    """A progressive JPEG with scans that have no bytes of their own, each of which is a pass over all pixels."""
    tables = segment(0xDB, b"\0" + b"\1" * 64) + b"".join(segment(0xC4, kind + b"\1" + b"\0" * 16) for kind in (b"\0", b"\x10"))
    frame = segment(0xC2, struct.pack(">BHHB", 8, side, side, 1) + b"\1\x11\0")
    passes = segment(0xDA, b"\1\1\0\0\0\0") + b"\0" + (segment(0xDA, b"\1\1\0\1\x3f\0") + b"\0") * (scans - 1)
    return b"\xff\xd8" + tables + frame + passes + b"\xff\xd9"


def tiled(width: int, length: int) -> bytes:
    """A TIFF of 10 x 10 pixels in a tile of this size."""
    tags = [(256, 10), (257, 10), (258, 8), (259, 8), (262, 1), (277, 1), (322, width), (323, length), (324, 200), (325, 20)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    header = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + b"\0" * 4
    return header.ljust(200, b"\0") + zlib.compress(b"\0" * 100_000)


@pytest.mark.parametrize(
    "content", [jpeg(100, 101), jpeg(100, 5000), tiled(32768, 32768), tiled(2**30, 16), tiled(1008, 1008)], ids=range(5)
)
def test_pictures_that_take_more_than_their_pixels_are_not_decoded(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: pytest.fail("the picture is decoded"))
    with pytest.raises(NotResizable, match="more than"):
        resized(io.BytesIO(content), Size(64, 64, "crop", 80), ENCODINGS["image/png"], MOST)


def test_scans_are_counted_in_the_picture_only() -> None:
    assert thumbnail(jpeg(100, 100)).size == (64, 64)
    picture = Image.effect_noise((300, 200), 80).convert("RGB")
    plain, progressive = (encoded(picture, "JPEG", progressive=each, restart_marker_rows=1) for each in (False, True))
    assert number_of_scans(plain) == 1
    assert 5 < number_of_scans(progressive) < 20
    scan = b"\xff\xda\0\x08"
    for content in (plain, progressive):
        # Another program has put a video behind the picture, and a preview in its metadata.
        more = content[:2] + segment(0xE1, scan * 5000) + content[2:] + scan * 5000
        assert number_of_scans(more) == number_of_scans(content)
        assert thumbnail(more).size == (64, 43)
    for at in range(0, len(progressive), 97):
        assert number_of_scans(progressive[:at]) <= number_of_scans(progressive)


def test_as_many_pixels_as_allowed_are_decoded() -> None:
    assert thumbnail(encoded(Image.new("L", (1000, 1000)), "PNG")).size == (64, 64)


SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="30" height="20"><script>alert(1)</script></svg>'


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"x",
        b"Hello, world!\n" * 100,
        SVG,
        b"%PDF-1.4\n1 0 obj\n",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 30 20\n%%EndComments\n",
        b"\x89PNG\r\n\x1a\n",
        b"GIF89a",
        b"II*\0" + b"\xff" * 100,
        b"MM\0*" + b"\0\0\0\x08" * 100,
        b"RIFF\xff\xff\xff\xffWEBPVP8 " + b"\xff" * 50,
        b"\0\0\0\x20ftypavif" + b"\xff" * 100,
        encoded(Image.new("RGB", (30, 20)), "ICO", sizes=[(16, 16)]),
        encoded(Image.new("RGB", (30, 20)), "PPM"),
        encoded(Image.new("RGB", (30, 20)), "AVIF"),
    ],
    ids=range(15),
)
def test_what_is_no_picture_has_no_thumbnail(content: bytes) -> None:
    with pytest.raises(NotResizable):
        resized(io.BytesIO(content), Size(64, 64, "crop", 80), ENCODINGS["image/png"], MOST)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"])
def test_damaged_pictures_raise_nothing_else(format: str) -> None:
    """Wherever a picture is cut or changed, there is a thumbnail, or NotResizable."""
    picture = Image.effect_noise((60, 40), 80)
    content = encoded(picture.convert("RGB"), format)
    for step in range(1, 40):
        at = len(content) * step // 40
        for damaged in (content[:at], content[:at] + b"\xff\0\xff\0" + content[at + 4 :], content[:at] + content[at + 1 :]):
            try:
                made = resized(io.BytesIO(damaged), Size(16, 16, "crop", 80), ENCODINGS["image/png"], MOST)
            except NotResizable:
                continue
            assert Image.open(io.BytesIO(made)).size == (16, 16)
    with pytest.raises(NotResizable):
        thumbnail(content[: len(content) // 2])
