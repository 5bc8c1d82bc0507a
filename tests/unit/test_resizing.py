"""Thumbnails of pictures of every kind: their geometry, colours and metadata, and contents of which none can be made."""

import io
import struct
import zlib
from typing import Any

import pytest
from PIL import Image, ImageCms
from PIL.JpegImagePlugin import JpegImageFile

from directus_tx.compile.file_data import THUMBNAILED
from directus_tx.files.content import DESCRIBED
from directus_tx.files.encodings import AVIF, ENCODINGS
from directus_tx.files.resizing import NotResizable, number_of_scans, resized
from directus_tx.schema.thumbnail_sizes import Size

MOST = 1_000_000
KINDS = {**ENCODINGS, "image/avif": AVIF}
RED, GREEN, BLUE = (220, 20, 20), (20, 180, 20), (20, 20, 220)


def encoded(picture: Image.Image, format: str, **options: Any) -> bytes:
    held = io.BytesIO()
    picture.save(held, format, **options)
    return held.getvalue()


def thumbnail(
    content: bytes,
    width: int = 64,
    height: int = 64,
    fit: str = "contain",
    kind: str = "image/png",
    focus: tuple[float, float] = (0.5, 0.5),
) -> Image.Image:
    made = resized(io.BytesIO(content), Size(width, height, fit, 90), KINDS[kind], MOST, focus)
    found = Image.open(io.BytesIO(made))
    assert found.format == KINDS[kind].name
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


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("focus", "expected"),
    [
        ((0.0, 0.0), ((160, 0, 0), (0, 0, 0))),
        ((1.0, 1.0), ((255, 0, 0), (95, 0, 0))),
        ((0.0, 1.0), ((160, 0, 0), (0, 0, 0))),
        ((0.75, 0.2), ((255, 0, 0), (95, 0, 0))),
        ((0.4, 0.9), ((179, 0, 0), (25, 0, 0))),
    ],
)
def test_crops_are_around_the_focal_point_of_the_upright_picture(
    format: str, orientation: int, focus: tuple[float, float], expected: tuple[tuple[int, int, int], ...]
) -> None:
    """The red of a pixel tells how far to the left it is: the picture shows 160 of 256 columns, as near to the point as there are."""
    red = Image.linear_gradient("L").transpose(Image.Transpose.ROTATE_90).resize((256, 160))
    upright = Image.merge("RGB", (red, *(Image.new("L", red.size) for _ in range(2))))
    ways = Image.Transpose
    stored = [None, ways.FLIP_LEFT_RIGHT, ways.ROTATE_180, ways.FLIP_TOP_BOTTOM, ways.TRANSPOSE, ways.ROTATE_90, ways.TRANSVERSE]
    way = [*stored, ways.ROTATE_270][orientation - 1]
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(upright if way is None else upright.transpose(way), format, exif=exif)
    found = thumbnail(content, 80, 80, "crop", focus=focus).convert("RGB")
    assert all(
        abs(found.getpixel(at)[0] - color[0]) < 12  # type: ignore[index]
        for at, color in zip(((78, 40), (1, 40)), expected, strict=True)
    )


@pytest.mark.parametrize("kind", sorted(KINDS))
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


@pytest.mark.parametrize("kind", ["image/png", "image/webp", "image/gif", "image/avif"])
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


@pytest.mark.parametrize(
    ("format", "kind"), [("JPEG", "image/jpeg"), ("PNG", "image/png"), ("WEBP", "image/webp"), ("PNG", "image/avif")]
)
def test_colour_profiles_are_kept_and_other_metadata_is_not(format: str, kind: str) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x010E] = "a secret place"
    options: dict[str, Any] = {"comment": b"a secret place"} if format == "JPEG" else {}
    content = encoded(Image.new("RGB", (60, 40)), format, icc_profile=profile, exif=exif, **options)
    assert b"a secret place" in content
    made = resized(io.BytesIO(content), Size(30, 30, "crop", 80), KINDS[kind], MOST)
    assert b"a secret place" not in made
    assert Image.open(io.BytesIO(made)).info["icc_profile"] == profile


def test_the_profile_of_colours_that_are_converted_is_not_kept() -> None:
    grey = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for mode in ("CMYK", "L"):
        content = encoded(Image.new(mode, (60, 40)), "JPEG", icc_profile=grey)
        made = resized(io.BytesIO(content), Size(30, 30, "crop", 80), ENCODINGS["image/webp"], MOST)
        found = Image.open(io.BytesIO(made))
        assert (found.mode, found.info.get("icc_profile")) == ("RGB", None)


def swapped_profile(more: int = 0) -> bytes:
    """A profile by which red means green, and the other way round, with bytes that mean nothing."""
    found = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    found = found.replace(b"rXYZ", b"xxxx", 1).replace(b"gXYZ", b"rXYZ", 1).replace(b"xxxx", b"gXYZ", 1)
    return struct.pack(">I", len(found) + more) + found[4:] + b"\0" * more


def grey_profile() -> bytes:
    """A profile for grey whose values are proportional to the light."""
    found = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    found[16:20] = b"GRAY"
    at = found.index(b"rTRC")
    found[at : at + 4] = b"kTRC"
    (place,) = struct.unpack_from(">I", found, at + 4)
    found[place : place + 12] = b"curv" + b"\0" * 8
    return bytes(found)


@pytest.mark.parametrize("transparent", [True, False])
@pytest.mark.parametrize(("kind", "profile"), [("image/gif", swapped_profile()), ("image/webp", swapped_profile(70_000))])
def test_colours_are_converted_where_the_profile_cannot_be_kept(kind: str, profile: bytes, transparent: bool) -> None:
    """The format has none, or it is larger than the thumbnail should be."""
    picture = Image.new("RGBA" if transparent else "RGB", (60, 40), (*RED, 255) if transparent else RED)
    if transparent:
        picture.paste((0, 0, 0, 0), (0, 0, 30, 40))
    found = thumbnail(encoded(picture, "PNG", icc_profile=profile), kind=kind)
    assert "icc_profile" not in found.info
    shown = found.convert("RGBA")
    # A green that is as bright as the red of sRGB.
    assert shown.getpixel((60, 20))[1] > 150  # type: ignore[index]
    assert shown.getpixel((60, 20))[0] < 100  # type: ignore[index]
    assert shown.getpixel((3, 20))[3] == (0 if transparent else 255)  # type: ignore[index]


def test_a_profile_for_grey_counts_where_grey_becomes_colour() -> None:
    content = encoded(Image.new("L", (60, 40), 128), "PNG", icc_profile=grey_profile())
    assert near(thumbnail(content, kind="image/webp").convert("RGB").getpixel((5, 5)), (188, 188, 188))
    # PNG keeps both.
    kept = thumbnail(content)
    assert (kept.mode, kept.getpixel((5, 5)), kept.info["icc_profile"]) == ("L", 128, grey_profile())


def test_jpeg_is_progressive() -> None:
    assert "progressive" in thumbnail(encoded(Image.effect_noise((300, 200), 80), "PNG"), kind="image/jpeg").info


def test_jpeg_is_decoded_in_a_smaller_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which takes a fraction of the time and memory."""
    seen = []
    draft = JpegImageFile.draft

    def watched(picture: JpegImageFile, mode: str, size: tuple[int, int]) -> Any:
        found = draft(picture, mode, size)
        seen.append(picture.size)
        return found

    monkeypatch.setattr(JpegImageFile, "draft", watched)
    content = encoded(Image.new("RGB", (1000, 800), RED), "JPEG")
    for fit in ("contain", "crop"):
        assert near(thumbnail(content, 60, 60, fit).getpixel((5, 5)), RED)
    assert max(width for width, _ in seen) <= 250


@pytest.mark.parametrize("compression", ["raw", "tiff_deflate", "jpeg"])
def test_a_tiff_whose_directory_is_far_behind_its_beginning(compression: str) -> None:
    content = encoded(Image.new("RGB", (60, 40), RED), "TIFF", compression=compression)
    (place,) = struct.unpack_from("<I", content, 4)
    far = DESCRIBED + 1000
    moved = content.ljust(far, b"\0") + content[place:]
    found = moved[:4] + struct.pack("<I", far) + moved[8:]
    assert near(thumbnail(found, 30, 20).convert("RGB").getpixel((5, 5)), RED)
    # The directory of a large picture is found there, too.
    large = encoded(Image.new("1", (1500, 1000)), "TIFF", compression="group4")
    (place,) = struct.unpack_from("<I", large, 4)
    with pytest.raises(NotResizable, match="1500 x 1000"):
        thumbnail(large[:4] + struct.pack("<I", far) + large[8:].ljust(far - 8, b"\0") + large[place:])


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
